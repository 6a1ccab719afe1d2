"""What harmonium is measured against, in one place: the best a user of each would plainly write."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neural_network import BernoulliRBM as SklearnRBM

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment]

INSTALL = '`pip install "harmonium[bench]"`'


def start_torch(n_threads: int) -> None:
    """Let PyTorch use so many threads and begin its random numbers anew; say if it is missing."""
    if torch is None:
        raise SystemExit(f"needs PyTorch: {INSTALL}")
    torch.set_num_threads(n_threads)
    torch.manual_seed(0)


def sklearn_twin(model: Any) -> SklearnRBM:
    """Return scikit-learn's estimator with a harmonium model's parameters, laid out as its own."""
    twin = SklearnRBM(model.components_.shape[0], random_state=0)
    twin.components_ = np.asfortranarray(model.components_)
    twin.intercept_visible_ = model.intercept_visible_
    twin.intercept_hidden_ = model.intercept_hidden_
    twin.n_features_in_ = model.n_features_in_
    return twin


class TorchRBM:
    """An RBM in PyTorch, written for speed: no autograd, updates in place, whole batches at once.

    Call its methods under `torch.inference_mode()`.
    """

    def __init__(self, W: Any, b: Any, c: Any) -> None:
        self.W, self.b, self.c = (torch.tensor(np.ascontiguousarray(x)) for x in (W, b, c))

    @classmethod
    def twin(cls, model: Any) -> TorchRBM:
        """Copy a harmonium or scikit-learn model."""
        return cls(model.components_.T, model.intercept_visible_, model.intercept_hidden_)

    def parameters(self) -> tuple[Any, Any, Any]:
        return self.W.numpy(), self.b.numpy(), self.c.numpy()

    def propup(self, v: Any) -> Any:
        return torch.addmm(self.c, v, self.W).sigmoid_()

    def propdown(self, h: Any) -> Any:
        return torch.addmm(self.b, h, self.W.t()).sigmoid_()

    def sample(self, p: Any) -> Any:
        # Never slower here than torch.bernoulli, and twice as fast on small batches.
        return torch.rand_like(p).lt_(p)

    def gibbs(self, v: Any, n_steps: int) -> Any:
        for _ in range(n_steps):
            h = self.sample(self.propup(v))
            v = self.sample(self.propdown(h))
        return v

    def train(
        self, X: Any, chains: Any, batch_size: int, n_gibbs_steps: int, learning_rate: float
    ) -> None:
        """Contrastive divergence over the rows of X: PCD from `chains`, CD where they are None."""
        rate = learning_rate / batch_size
        p_chain = chains
        for v in X.split(batch_size):
            p = self.propup(v)
            if chains is None:
                p_chain = p
            for _ in range(n_gibbs_steps):
                v_chain = self.sample(self.propdown(self.sample(p_chain)))
                p_chain = self.propup(v_chain)
            self.W.addmm_(v.t(), p, alpha=rate).addmm_(v_chain.t(), p_chain, alpha=-rate)
            self.b.add_(v.sum(0) - v_chain.sum(0), alpha=rate)
            self.c.add_(p.sum(0) - p_chain.sum(0), alpha=rate)


class TorchNetwork:
    """A network of sigmoid layers and a softmax in PyTorch, trained by SGD.

    Parameters
    ----------
    layers : sequence of (W, c)
        W of shape (n_inputs, n_outputs).
    dropout : float
        Of hidden units.
    """

    def __init__(self, layers: Any, dropout: float = 0.0) -> None:
        self.layers = [(torch.tensor(np.ascontiguousarray(W)), torch.tensor(c)) for W, c in layers]
        self.dropout = dropout

    def parameters(self) -> list[Any]:
        return [array.numpy() for layer in self.layers for array in layer]

    def train(
        self, X: Any, y: Any, batch_size: int, learning_rate: float, n_epochs: int
    ) -> TorchNetwork:
        """By hand: no autograd, updates in place. Call it under `torch.inference_mode()`."""
        one_hot = torch.nn.functional.one_hot(y, 10).float()
        keep = 1 - self.dropout
        *hidden, (W_top, c_top) = self.layers
        batches = list(zip(X.split(batch_size), one_hot.split(batch_size), strict=True))
        for x, t in batches * n_epochs:
            values, masks = [x], []
            for W, c in hidden:
                values.append(torch.addmm(c, values[-1], W).sigmoid_())
                if self.dropout:
                    masks.append(torch.rand_like(values[-1]).lt_(keep).div_(keep))
                    values[-1] = values[-1] * masks[-1]
            delta = torch.softmax(torch.addmm(c_top, values[-1], W_top), 1).sub_(t)
            rate = -learning_rate / len(x)
            for number in range(len(self.layers) - 1, -1, -1):
                W, c = self.layers[number]
                below = delta @ W.t() if number > 0 else None
                W.addmm_(values[number].t(), delta, alpha=rate)
                c.add_(delta.sum(0), alpha=rate)
                if below is not None:
                    y = values[number]
                    if self.dropout:
                        delta = below.mul_(y).mul_(masks[number - 1] - y)
                    else:
                        delta = below.mul_(y).mul_(1 - y)
        return self

    def train_by_autograd(
        self, X: Any, y: Any, batch_size: int, learning_rate: float, n_epochs: int
    ) -> TorchNetwork:
        """As most would write it: modules, a loss, an optimiser."""
        modules = []
        for W, c in self.layers:
            linear = torch.nn.Linear(*W.shape)
            with torch.no_grad():
                linear.weight.copy_(W.t())
                linear.bias.copy_(c)
            modules += [linear, torch.nn.Sigmoid()]
            if self.dropout:
                modules.append(torch.nn.Dropout(self.dropout))
        end = 2 if self.dropout else 1
        model = torch.nn.Sequential(*modules[:-end])
        optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate)
        loss = torch.nn.CrossEntropyLoss()
        batches = list(zip(X.split(batch_size), y.split(batch_size), strict=True))
        for x, t in batches * n_epochs:
            optimizer.zero_grad()
            loss(model(x), t).backward()
            optimizer.step()
        linears = [module for module in model if isinstance(module, torch.nn.Linear)]
        self.layers = [(m.weight.detach().t(), m.bias.detach()) for m in linears]
        return self


def numpy_bernoulli(p: Any) -> Any:
    """Return a function that draws with NumPy, into the same memory every time."""
    rng = np.random.default_rng(1)
    u = np.empty_like(p)
    drawn = np.empty(p.shape, np.bool_)

    def draw() -> Any:
        rng.random(out=u, dtype=np.float32)
        return np.less(u, p, out=drawn)

    return draw


def torch_bernoulli(p: Any) -> Any:
    """Return a function that draws with torch.bernoulli, into the same memory every time."""
    p = torch.from_numpy(p)
    drawn = torch.empty_like(p)
    return lambda: torch.bernoulli(p, out=drawn)
