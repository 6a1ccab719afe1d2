"""The tutorials' deep belief network: layers that are RBMs first, then a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from harmonium._arrays import empty_bits
from harmonium._checks import check_bool, check_integer, check_real, check_word
from harmonium.compat.tutorial.arguments import (
    check_batch,
    check_finite,
    check_labels,
    check_matrix,
    check_numpy_rng,
    check_theano_rng,
    real_rows,
)
from harmonium.compat.tutorial.layers import HiddenLayer, LogisticRegression, Stack
from harmonium.compat.tutorial.rbm import RBM
from harmonium.engine.protocol import Array, Draw, Rows, Stream

PretrainingFunction = Callable[..., "float | None"]


class DBN:
    """Deep belief network: RBMs trained one on the other, then fine-tuned as a classifier.

    Each hidden layer is a :class:`HiddenLayer` of sigmoid units and an :class:`RBM` on the same
    weights and hidden biases. Training one changes the other.

    Parameters
    ----------
    numpy_rng : numpy.random.RandomState
        Draws the weights, the same values as the tutorial's. None is ``RandomState(1234)``.
    theano_rng : int in [0, 2**64), optional
        The seed of all other draws; by default ``numpy_rng.randint(2**30)``, taken first. Each
        layer's RBM gets another, made of it.
    n_ins : int, default=784
    hidden_layers_sizes : sequence of int, default=(500, 500)
        Units of the hidden layers, from the lowest to the top.
    n_outs : int, default=10
        Classes.

    Attributes
    ----------
    sigmoid_layers : list of HiddenLayer
    rbm_layers : list of RBM
    logLayer : LogisticRegression
        On top of the hidden layers.
    params : list of SharedArray
        W and b of the layers, from the lowest to `logLayer`: what fine-tuning changes.
    n_layers : int
        Hidden layers.

    Raises
    ------
    ValueError, TypeError
        An argument is out of its range, or of the wrong type.

    References
    ----------
    Deep Learning Tutorials (deeplearning.net), "Deep Belief Networks"; Hinton, Osindero & Teh
    (2006), A fast learning algorithm for deep belief nets; Bengio et al. (2007), Greedy layer-wise
    training of deep networks.
    """

    def __init__(
        self,
        numpy_rng: np.random.RandomState | None = None,
        theano_rng: int | None = None,
        n_ins: int = 784,
        hidden_layers_sizes: Sequence[int] = (500, 500),
        n_outs: int = 10,
    ) -> None:
        rng = check_numpy_rng("numpy_rng", numpy_rng)
        seed = check_theano_rng(theano_rng, rng)
        sizes = [check_integer("n_ins", n_ins, minimum=1, below=2**31)]
        for size in hidden_layers_sizes:
            sizes.append(check_integer("hidden_layers_sizes", size, minimum=1, below=2**31))
        self.n_layers = len(sizes) - 1
        if self.n_layers == 0:
            raise ValueError("hidden_layers_sizes must name at least one layer, got none")
        self.n_ins = sizes[0]
        self.sigmoid_layers: list[HiddenLayer] = []
        self.rbm_layers: list[RBM] = []
        for number in range(self.n_layers):
            n_in, n_out = sizes[number : number + 2]
            layer = HiddenLayer(rng, n_in=n_in, n_out=n_out)
            rbm = RBM(
                n_visible=n_in,
                n_hidden=n_out,
                W=layer.W,
                hbias=layer.b,
                numpy_rng=rng,
                theano_rng=seed ^ (number << 40),
            )
            self.sigmoid_layers.append(layer)
            self.rbm_layers.append(rbm)
        self.logLayer = LogisticRegression(n_in=sizes[-1], n_out=n_outs)
        self._stack = Stack([*self.sigmoid_layers, self.logLayer])
        self.params = [array for layer in self._stack.layers for array in layer.params]

    def pretraining_functions(
        self, train_set_x: Any, batch_size: int, k: int, *, layer_inputs: str = "mean"
    ) -> list[PretrainingFunction]:
        """Return a function for each layer that makes one update of its RBM by CD-k.

        Parameters
        ----------
        train_set_x : array-like of shape (n, n_ins)
            Values in [0, 1], read whenever a function is called.
        batch_size : int
        k : int
            Gibbs steps.
        layer_inputs : {"mean", "sample"}, default="mean"
            What a layer above the first is trained on: the means of the layer below, as in the
            tutorial, or states drawn from them: with ten rows, less than half the time.

        Returns
        -------
        list of functions
            ``fn(index, lr=0.1, *, cost=True)`` makes the update with minibatch number `index`, as
            the layers below are now, and returns its monitoring cost: see :meth:`RBM.train_batch`.
            The last minibatch may be shorter.

        Raises
        ------
        ValueError, TypeError
            An argument has another shape, is out of its range, or of the wrong type.
        """
        X = check_matrix("train_set_x", train_set_x, self.n_ins)
        check_integer("batch_size", batch_size, minimum=1, below=2**31)
        check_integer("k", k, minimum=1, below=2**31)
        check_word("layer_inputs", layer_inputs, ("mean", "sample"))

        def function_of(number: int) -> PretrainingFunction:
            rbm = self.rbm_layers[number]

            def pretrain(index: int, lr: float = 0.1, *, cost: bool = True) -> float | None:
                check_real("lr", lr, minimum=0.0)
                check_bool("cost", cost)
                batch = X[check_batch(index, batch_size, len(X))]
                rows = self.rbm_layers[0]._units("train_set_x", batch, self.n_ins)
                if number > 0:
                    rows = self._inputs_of(number, rows, layer_inputs)
                return rbm._train(rows, lr, None, k, cost)

            return pretrain

        return [function_of(number) for number in range(self.n_layers)]

    def _inputs_of(self, number: int, rows: Rows, layer_inputs: str) -> Rows:
        """Take rows up to a layer above the first."""
        rbm, engine = self.rbm_layers[number], self._stack.engine
        means = np.empty((rows.n_rows, rbm.n_visible), np.float32)
        self._stack.network("softmax_cross_entropy").predict(rows, number, means)
        if layer_inputs == "mean":
            return engine.rows_of_reals(means)
        words = empty_bits(*means.shape)
        engine.sample_bernoulli(means, words, Draw(rbm._seed, rbm._gibbs_steps, Stream.LAYER))
        return engine.rows_of_bits(words, rbm.n_visible)

    def build_finetune_functions(
        self, datasets: Any, batch_size: int, learning_rate: float
    ) -> tuple[Callable[[int], float], Callable[[], list[float]], Callable[[], list[float]]]:
        """Return functions that train the network and that measure it.

        Parameters
        ----------
        datasets : sequence of three pairs
            (x, y) to train on, to validate on and to test: finite x of shape (n, n_ins), and y
            integers from 0 to n_outs - 1.
        batch_size : int
        learning_rate : float

        Returns
        -------
        train_fn : function
            ``train_fn(minibatch_index)`` makes one step of gradient descent on the mean negative
            log-likelihood, which it returns as it was before.
        valid_score, test_score : functions
            ``valid_score()`` returns the fraction of errors in each minibatch of the validation
            set; what is left of it is left out, as in the tutorial.

        Raises
        ------
        ValueError, TypeError
            An argument has another shape, is out of its range, or of the wrong type.
        """
        check_integer("batch_size", batch_size, minimum=1, below=2**31)
        check_real("learning_rate", learning_rate, minimum=0.0)
        if len(datasets) != 3:
            raise ValueError(
                f"datasets must be three pairs (x, y), to train, to validate and to test; "
                f"got {len(datasets)}"
            )
        train_x, train_y = self._check_pair("train", *datasets[0])
        rows = real_rows(self._stack.engine, "train x", train_x, self.n_ins)

        def train_fn(minibatch_index: int) -> float:
            batch = check_batch(minibatch_index, batch_size, rows.n_rows)
            return self._stack.train(rows, train_y, batch, learning_rate)

        valid_score, test_score = (
            self._score(name, *self._check_pair(name, *pair), batch_size)
            for name, pair in zip(("valid", "test"), datasets[1:], strict=True)
        )
        return train_fn, valid_score, test_score

    def _check_pair(self, name: str, x: Any, y: Any) -> tuple[Array, Array]:
        X = check_matrix(f"{name} x", x, self.n_ins)
        check_finite(f"{name} x", X)
        return X, check_labels(f"{name} y", y, len(X), self.logLayer.n_out)

    def _score(
        self, name: str, X: Array, labels: Array, batch_size: int
    ) -> Callable[[], list[float]]:
        n_batches = len(X) // batch_size
        if n_batches == 0:
            raise ValueError(
                f"{name} x must have at least a minibatch of {batch_size} rows, got {len(X)}"
            )
        n = n_batches * batch_size
        rows = real_rows(self._stack.engine, f"{name} x", X[:n], self.n_ins)

        def score() -> list[float]:
            p = self._stack.outputs_of_rows(rows, "softmax_cross_entropy")
            errors = np.argmax(p, axis=1) != labels[:n]
            scores: list[float] = errors.reshape(n_batches, batch_size).mean(axis=1).tolist()
            return scores

        return score

    def finetune_cost(self, x: Any, y: Any) -> float:
        """Mean over the rows of x of -log p(y | x), in nats."""
        return self._stack.negative_log_likelihood(x, y)

    def errors(self, x: Any, y: Any) -> float:
        """The fraction of the rows of x whose most probable class is not y."""
        return self._stack.errors(x, y)
