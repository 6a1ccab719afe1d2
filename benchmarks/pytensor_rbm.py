"""The RBM of the deep-learning tutorial in PyTensor, the heir of the Theano it was written in."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no BLAS for its C code, which Numba mode does not use
        import pytensor
        import pytensor.tensor as pt
except ImportError:
    pytensor = None


class PytensorRBM:
    """Training by PCD-k: one compiled function makes one update, as in the tutorial.

    Data, parameters and chains are shared variables, the Gibbs steps a scan. Numba, PyTensor 3's
    default, is its fastest mode here (C takes 1.4 times as long), and `bernoulli` its fastest draw
    (the tutorial's `binomial` takes twice as long). The cost that the tutorial prints is left out,
    as nobody else computes one.
    """

    def __init__(
        self, X: Any, model: Any, batch_size: int, n_gibbs_steps: int, learning_rate: float
    ) -> None:
        self.start = [
            np.ascontiguousarray(model.components_.T),
            model.intercept_visible_,
            model.intercept_hidden_,
            model.h_samples_[:batch_size].astype(np.float32),
        ]
        self.shared = [pytensor.shared(array) for array in self.start]
        self.n_batches = len(X) // batch_size
        W, b, c, chains = self.shared
        data = pytensor.shared(X)
        rng = pt.random.shared_rng(seed=0)

        def propup(v: Any) -> Any:
            return pt.sigmoid(pt.dot(v, W) + c)

        def sample(p: Any, rng: Any) -> Any:
            rng, states = rng.bernoulli(p)
            return pt.cast(states, "float32"), rng

        def gibbs_step(h: Any, rng: Any) -> Any:
            v, rng = sample(pt.sigmoid(pt.dot(h, W.T) + b), rng)
            p = propup(v)
            h, rng = sample(p, rng)
            return h, v, p, rng

        h_steps, v_steps, p_steps, next_rng = pytensor.scan(
            gibbs_step,
            outputs_info=[chains, None, None, rng],
            n_steps=n_gibbs_steps,
            return_updates=False,
        )
        index = pt.lscalar("index")
        v = data[index * batch_size : (index + 1) * batch_size]
        p, v_chain, p_chain = propup(v), v_steps[-1], p_steps[-1]
        rate = np.float32(learning_rate / batch_size)
        self.update = pytensor.function(
            [index],
            updates={
                W: W + rate * (pt.dot(v.T, p) - pt.dot(v_chain.T, p_chain)),
                b: b + rate * (v - v_chain).sum(0),
                c: c + rate * (p - p_chain).sum(0),
                chains: h_steps[-1],
                rng: next_rng,
            },
            mode="NUMBA",
        )

    def train(self) -> PytensorRBM:
        """Pass over the data once, from the weights and chains of the start."""
        for shared, array in zip(self.shared, self.start, strict=True):
            shared.set_value(array)
        for index in range(self.n_batches):
            self.update(index)
        return self

    def parameters(self) -> tuple[Any, ...]:
        return tuple(shared.get_value() for shared in self.shared[:3])
