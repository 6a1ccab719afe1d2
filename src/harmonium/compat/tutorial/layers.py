"""The tutorials' layers of a network, and what is computed with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import log_softmax

from harmonium._checks import check_integer, check_real, check_word
from harmonium.compat.tutorial.arguments import (
    check_finite,
    check_labels,
    check_numpy_rng,
    real_rows,
    refuse_graph,
)
from harmonium.compat.tutorial.shared import SharedArray, parameter
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    Activation,
    Array,
    Float32,
    LayerArrays,
    Loss,
    Network,
    NetworkRule,
    Rows,
)
from harmonium.networks import glorot_sigmoid


class HiddenLayer:
    """A dense layer: σ(xW + b), or xW + b.

    Parameters
    ----------
    rng : numpy.random.RandomState
        Draws W.
    input : None
        There was a symbolic variable; nothing is symbolic here.
    n_in, n_out : int
    W : array-like of shape (n_in, n_out), optional
    b : array-like of shape (n_out,), optional
        A :class:`SharedArray` is shared, anything else copied as float32. By default W is uniform
        in ±√(6 / (n_in + n_out)), four times that for "sigmoid", and b is 0.
    activation : {"sigmoid", None}, default="sigmoid"
        None is the identity. The tutorials' own default, tanh, is not to be had.

    Attributes
    ----------
    W, b : SharedArray of float32
    params : list
        ``[W, b]``.
    """

    def __init__(
        self,
        rng: np.random.RandomState | None = None,
        input: None = None,
        n_in: int | None = None,
        n_out: int | None = None,
        W: Any = None,
        b: Any = None,
        activation: str | None = "sigmoid",
    ) -> None:
        refuse_graph("input", input)
        check_word("activation", activation, ("sigmoid", None))
        self.n_in = check_integer("n_in", n_in, minimum=1, below=2**31)
        self.n_out = check_integer("n_out", n_out, minimum=1, below=2**31)
        self.activation = activation
        shape = self.n_in, self.n_out
        rng = check_numpy_rng("rng", rng)
        factor = 1.0 if activation == "sigmoid" else 0.25
        self._W = parameter("W", W, shape, lambda: factor * glorot_sigmoid(rng, shape)[0][0])
        self._b = parameter("b", b, shape[1:], lambda: np.zeros(shape[1]))
        self.params = [self._W, self._b]

    @property
    def W(self) -> SharedArray:
        return self._W

    @property
    def b(self) -> SharedArray:
        return self._b

    def output(self, x: Any) -> Float32:
        """Outputs for the rows of x, finite numbers of shape (n, n_in): float32, (n, n_out)."""
        loss: Loss = "sigmoid_cross_entropy" if self.activation else "squared_error"
        return Stack([self]).outputs(x, loss)


class LogisticRegression:
    """Softmax regression, p(y | x) = softmax(xW + b), trained by gradient descent.

    Parameters
    ----------
    input : None
        There was a symbolic variable; nothing is symbolic here.
    n_in, n_out : int
        Features and classes. W and b begin at 0.

    Attributes
    ----------
    W : SharedArray of float32 of shape (n_in, n_out)
    b : SharedArray of float32 of shape (n_out,)
    params : list
        ``[W, b]``.

    Examples
    --------
    >>> import numpy as np
    >>> from harmonium.compat.tutorial import LogisticRegression
    >>> x, y = np.eye(3), np.array([0, 1, 1])
    >>> classifier = LogisticRegression(n_in=3, n_out=2)
    >>> for _ in range(20):
    ...     cost = classifier.train_batch(x, y, lr=1.0)
    >>> classifier.errors(x, y)
    0.0
    """

    activation = None

    def __init__(
        self, input: None = None, n_in: int | None = None, n_out: int | None = None
    ) -> None:
        refuse_graph("input", input)
        self.n_in = check_integer("n_in", n_in, minimum=1, below=2**31)
        self.n_out = check_integer("n_out", n_out, minimum=1, below=2**31)
        self._W = SharedArray(np.zeros((self.n_in, self.n_out), np.float32))
        self._b = SharedArray(np.zeros(self.n_out, np.float32))
        self.params = [self._W, self._b]
        self._stack = Stack([self])

    @property
    def W(self) -> SharedArray:
        return self._W

    @property
    def b(self) -> SharedArray:
        return self._b

    def p_y_given_x(self, x: Any) -> Float32:
        """Probabilities of the classes, float32 of shape (n, n_out), for finite x (n, n_in)."""
        return self._stack.outputs(x, "softmax_cross_entropy")

    def y_pred(self, x: Any) -> Array:
        """The most probable class of each row of x; int64."""
        return self._stack.classes(x)

    def negative_log_likelihood(self, x: Any, y: Any) -> float:
        """Mean over the rows of x of -log p(y | x), in nats; y are integers below n_out."""
        return self._stack.negative_log_likelihood(x, y)

    def errors(self, x: Any, y: Any) -> float:
        """The fraction of the rows of x whose most probable class is not y."""
        return self._stack.errors(x, y)

    def train_batch(self, x: Any, y: Any, lr: float = 0.13) -> float:
        """Make one step of gradient descent on the mean negative log-likelihood.

        Parameters
        ----------
        x : array-like of shape (n, n_in)
            A minibatch; finite numbers.
        y : array-like of shape (n,)
            Integers below n_out.
        lr : float, default=0.13

        Returns
        -------
        float
            The mean negative log-likelihood before the step, in nats.

        Raises
        ------
        ValueError, TypeError
            An argument has another shape or dtype, or values out of its range.
        FloatingPointError
            The loss is not finite; nothing was changed.
        """
        check_real("lr", lr, minimum=0.0)
        stack = self._stack
        rows = real_rows(stack.engine, "x", x, self.n_in)
        labels = check_labels("y", y, rows.n_rows, self.n_out)
        return stack.train(rows, labels, slice(0, rows.n_rows), lr)


class Stack:
    """Layers one on the other as a network of the engine's, on the arrays they share."""

    def __init__(self, layers: Sequence[HiddenLayer | LogisticRegression]) -> None:
        self.layers = list(layers)
        self.n_in, self.n_out = layers[0].n_in, layers[-1].n_out
        self._begin()

    def _begin(self) -> None:
        self.engine = get_engine()
        self._networks: dict[Loss, Network] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("layers", "n_in", "n_out")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def network(self, loss: Loss) -> Network:
        """Return the network whose last layer's outputs are what goes with a loss.

        It reads the parameters where they lie, so it is never out of date.
        """
        if loss not in self._networks:
            arrays = [
                LayerArrays(layer.W.memory, layer.b.memory, _activation_of(layer))
                for layer in self.layers
            ]
            self._networks[loss] = self.engine.network(arrays, NetworkRule(loss))
        return self._networks[loss]

    def outputs(self, x: Any, loss: Loss) -> Float32:
        rows = real_rows(self.engine, "x", x, self.n_in)
        check_finite("x", x)
        return self.outputs_of_rows(rows, loss)

    def outputs_of_rows(self, rows: Rows, loss: Loss) -> Float32:
        out = np.empty((rows.n_rows, self.n_out), np.float32)
        self.network(loss).predict(rows, len(self.layers), out)
        return out

    def classes(self, x: Any) -> Array:
        classes: Array = np.argmax(self.outputs(x, "softmax_cross_entropy"), axis=1)
        return classes

    def negative_log_likelihood(self, x: Any, y: Any) -> float:
        sums = self.outputs(x, "squared_error")  # the last layer's, whose logarithms don't overflow
        labels = check_labels("y", y, len(sums), self.n_out)
        log_p = log_softmax(sums.astype(np.float64), axis=1)
        return -float(log_p[np.arange(len(labels)), labels].mean())

    def errors(self, x: Any, y: Any) -> float:
        classes = self.classes(x)
        return float(np.mean(classes != check_labels("y", y, len(classes), self.n_out)))

    def train(self, rows: Rows, labels: Array, batch: slice, lr: float) -> float:
        """Make one step with the rows of a batch; return their mean loss before it."""
        n = batch.stop - batch.start
        try:
            loss, _ = self.network("softmax_cross_entropy").train(
                rows, labels, None, None, batch.start, n, n, 0, float(lr), 0.0
            )
        except FloatingPointError:
            raise FloatingPointError(
                f"the loss is not finite: x holds NaN or infinity, or the weights have become too "
                f"large at lr={lr:g}. This minibatch has changed nothing"
            ) from None
        for layer in self.layers:
            for array in layer.params:
                array.changed()
        mean_loss: float = loss / n
        return mean_loss


def _activation_of(layer: HiddenLayer | LogisticRegression) -> Activation:
    return "sigmoid" if layer.activation == "sigmoid" else "identity"
