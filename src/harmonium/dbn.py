"""The deep belief network: RBMs stacked, without labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from harmonium._arrays import empty_bits
from harmonium._checks import check_bool, check_integer, check_verbose
from harmonium._labels import check_labels, positions_of, require_two
from harmonium._pace import draw_by_bias, run_chains
from harmonium._random import draw_seed, generator_of, sampling_seed
from harmonium._saving import SavedEstimator
from harmonium._visible import Units, units_of_array, validate_units, values_of, weighted
from harmonium.autoencoder import cross_entropy
from harmonium.callbacks import CallbackList
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    Array,
    Chains,
    Draw,
    Engine,
    Float32,
    LayerArrays,
    NetworkRule,
    Rows,
    Stream,
)
from harmonium.export import TorchExport
from harmonium.rbm import BernoulliRBM
from harmonium.stacking import Below, check_layers, join_labels, seeded_layers, train_layers
from harmonium.training import check_learning_rate
from harmonium.up_down import (
    MOST_GIBBS_STEPS,
    Parameters,
    UpDownPlan,
    UpDownState,
    UpDownTraining,
)

__all__ = ["DBN"]


def _knows_classes(dbn: DBN) -> bool:
    if not dbn.label_units:
        raise AttributeError(
            "a DBN tells classes with label_units=True, fitted on labels; this one has "
            "label_units=False"
        )
    return True


class DBN(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchExport, SavedEstimator, BaseEstimator
):
    """Deep belief network.

    Its two topmost layers are an RBM; below them each layer generates the one beneath,
    p(hˡ⁻¹ = 1 | hˡ) = σ(hˡ Wˡᵀ + bˡ). Trained layer by layer: each is an RBM on the states of the
    layer below, inferred by q(hˡ = 1 | hˡ⁻¹) = σ(hˡ⁻¹ Wˡ + cˡ).

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(500, 500)
        Units of the hidden layers, from the lowest to the top.
    rbm : BernoulliRBM, list of BernoulliRBM, or None, default=None
        How a layer is trained: a prototype for all of them, or one for each. The number of units,
        seed and threads are set here. None takes ``BernoulliRBM(learning_rate=0.05,
        algorithm="cd", momentum=0.5, shuffle=True)``, 10 epochs of CD-1.
    layer_inputs : {"sample", "mean"}, default="sample"
        What a layer above the first is trained on: states drawn from the layer below, afresh in
        every epoch, or its probabilities.
    label_units : bool, default=False
        Give the topmost RBM a visible unit for each class, beside the layer under it; together
        they are a softmax group, one of them on. `fit` then wants labels, :meth:`predict` tells the
        classes of rows by its free energy, and :meth:`sample` can be asked for rows of a class.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. An int gives the same result every time.
    device : {"cpu"}, default="cpu"
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would.
    verbose : int, default=0
        If not 0, print a line per epoch of each layer.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch of each layer: see :mod:`harmonium.callbacks`.

    Attributes
    ----------
    rbms_ : list of BernoulliRBM
        The layers, fitted; each has a `history_` of its own.
    classes_ : ndarray of shape (n_classes,)
        With `label_units`.
    recognition_, generation_ : list of (W, bias)
        After :meth:`fit_up_down`: the weights of the layers under the topmost RBM from below, of
        shape (n_inputs, n_outputs), upwards and downwards, which are then no longer each other's
        transposes; `rbms_` holds those before, and the topmost RBM.
    up_down_history_ : dict of lists
        Of :meth:`fit_up_down`: "epoch", "time" (seconds), "learning_rate", "loss" (cross-entropy
        in nats of a row and what the first layer's drawn states make of it), and "val_error".
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only when X had feature names that are all strings.

    See Also
    --------
    DBNClassifier : The same layers, fine-tuned on labels.

    References
    ----------
    Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from harmonium import DBN
    >>> X, _ = load_digits(return_X_y=True)
    >>> dbn = DBN((64, 32), random_state=0).fit(X / 16)
    >>> dbn.transform(X / 16).shape, dbn.sample(5).shape
    ((1797, 32), (5, 64))
    """

    rbms_: list[BernoulliRBM]
    n_features_in_: int
    classes_: Array
    recognition_: list[Parameters]
    generation_: list[Parameters]
    up_down_history_: dict[str, list[float]]

    _fixed_by_training = ("hidden_layer_sizes", "layer_inputs", "label_units")

    _seed: int = 0
    _n_sampled: int = 0
    _up_down: UpDownState | None = None

    def __init__(
        self,
        hidden_layer_sizes: Any = (500, 500),
        *,
        rbm: Any = None,
        layer_inputs: str = "sample",
        label_units: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        n_threads: int | None = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.rbm = rbm
        self.layer_inputs = layer_inputs
        self.label_units = label_units
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.verbose = verbose
        self.callbacks = callbacks

    # ---- training ----

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> DBN:
        """Train the layers on X, from the lowest to the top.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]: float32, float64, bool, or integer zeros and ones.
        y : array of shape (n_samples,)
            Labels of any kind, with `label_units`; else ignored.
        sample_weight : array of shape (n_samples,), optional
            How much each row pulls, in every layer: as for :meth:`BernoulliRBM.fit`.
        X_val : array or sparse matrix of shape (n_val, n_features), optional
            Held-out rows, for the layers' metrics alone.
        resume : path, optional
            A file written by :meth:`save` or :class:`harmonium.callbacks.Checkpoint` of the same
            training on the same X (and weights): go on from there, to the result an uninterrupted
            run would have had, bit for bit. The seed is the file's.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or holds NaN, infinities or values outside [0, 1];
            weights are not one a row, negative or all zero; a parameter is out of its range;
            `resume` does not fit.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged, of a layer that the message names; `rbms_` holds the layers so far,
            the last of them with its last finite weights.
        """
        self._check_parameters()
        engine = get_engine(self.device, self.n_threads)
        saved = None if resume is None else self._load_checkpoint(resume)
        data = weighted(validate_units(self, X, engine, reset=True), sample_weight, X)
        held_out = None if X_val is None else validate_units(self, X_val, engine, name="X_val")
        labels = None
        if self.label_units:
            labels = self._bits_of_labels(check_labels(y, X), is_first=True)
        self._forget_up_down()
        self._seed = draw_seed(self.random_state) if saved is None else saved._seed
        self._n_sampled = 0 if saved is None else saved._n_sampled
        layers = () if saved is None else saved.rbms_
        train_layers(self, engine, data, held_out, generator_of(self._seed), layers, labels)
        return self

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None
    ) -> DBN:
        """Make one update of every layer, with all the rows of X as its minibatch.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            As for :meth:`fit`. The first call sets the number of features.
        y : array of shape (n_samples,)
            Labels, with `label_units`; a class may be missing. Else ignored.
        classes : array of shape (n_classes,), optional
            All classes there will be; the first call needs it with `label_units`.
        sample_weight : array of shape (n_samples,), optional
            As for :meth:`fit`: weights relative to the mean of this call's.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As :meth:`fit`.
        """
        self._check_parameters()
        engine = get_engine(self.device, self.n_threads)
        is_first = not hasattr(self, "rbms_")
        data = weighted(validate_units(self, X, engine, reset=is_first), sample_weight, X)
        labels = None
        if self.label_units:
            if is_first:
                if classes is None:
                    raise ValueError("classes must be passed on the first call to partial_fit.")
                self.classes_ = np.unique(classes)
                require_two(self.classes_)
            labels = self._bits_of_labels(check_labels(y, X))
        self._forget_up_down()
        if is_first:
            self._seed = draw_seed(self.random_state)
            layers = seeded_layers(self, generator_of(self._seed), self._n_labels)
        else:
            layers = self.rbms_
        rows, trained = data.rows, []
        for number, rbm in enumerate(layers):
            if labels is not None and number == len(layers) - 1:
                rows = join_labels(engine, rows, labels)
            try:
                rbm._update_once(engine, Units(rows, data.dtype, data.traits))
            except FloatingPointError as error:
                raise FloatingPointError(f"layer {number + 1}: {error}") from None
            trained.append(rbm)
            rows = Below(engine, [rbm], self.layer_inputs).rows(rows, rbm.n_iter_)
        self.rbms_ = trained
        return self

    def _bits_of_labels(self, y: Array, is_first: bool = False) -> Array:
        """Return a bit for each class and label; at first, the classes are y's."""
        if is_first:
            self.classes_ = np.unique(y)
            require_two(self.classes_)
        return np.eye(len(self.classes_), dtype=np.bool_)[positions_of(self.classes_, y)]

    def fit_up_down(
        self,
        X: Any,
        y: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        n_iter: int = 20,
        learning_rate: float | Callable[[int], float] = 0.01,
        batch_size: int = 20,
        n_gibbs_steps: int | Callable[[int], int] = 3,
        shuffle: bool = True,
        resume: str | os.PathLike[str] | None = None,
    ) -> DBN:
        """Fine-tune the fitted layers as one generative model, by the up-down algorithm.

        Wake-sleep with a contrastive top (Hinton, Osindero & Teh 2006, section 5): recognition
        weights upwards and generative weights downwards are parted, and each learn to predict what
        the other have drawn.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        y : array of shape (n_samples,)
            Labels, with `label_units`; else ignored.
        X_val, y_val : arrays, optional
            Held-out rows and labels: with `label_units`, "val_error" is measured after every epoch.
        n_iter : int, default=20
            Epochs.
        learning_rate : float or callable, default=0.01
            Step size for all weights; a callable gets the epoch, from 0, and returns it.
        batch_size : int, default=20
            Rows per minibatch.
        n_gibbs_steps : int or callable, default=3
            Gibbs steps of the topmost RBM per update; a callable gets the epoch. (The paper makes
            3 in the first 100 epochs, 6 in the next 100, then 10.)
        shuffle : bool, default=True
            Visit the rows of every epoch in a new order.
        resume : path, optional
            A file written while this ran on the same data: go on from there. The seed is the
            file's.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            As :meth:`fit`.
        FloatingPointError
            Training diverged; the estimator holds the last finite weights.
        """
        self._check_parameters()
        check_integer("n_iter", n_iter, minimum=0, below=2**31)
        check_integer("batch_size", batch_size, minimum=1, below=2**31)
        check_learning_rate(learning_rate)
        if not callable(n_gibbs_steps):
            check_integer("n_gibbs_steps", n_gibbs_steps, minimum=1, below=MOST_GIBBS_STEPS)
        saved = self if resume is None else self._load_checkpoint(resume)
        engine = saved._ready()
        data = validate_units(saved, X, engine)
        labels = score = None
        if self.label_units:
            labels = saved._bits_of_labels(check_labels(y, X))
            if X_val is not None:
                held_out = validate_units(saved, X_val, engine, name="X_val")
                score = self._scorer(engine, held_out, check_labels(y_val, X_val, "y_val"))
        if saved is not self:
            for name in ("classes_", "rbms_", "n_features_in_", "_seed", "_n_sampled"):
                if hasattr(saved, name):
                    setattr(self, name, getattr(saved, name))
        state = saved._up_down
        if state is None or resume is None:
            up, down = self._directed()
            state = UpDownState.starting_from(up, down, self.rbms_[-1]._parameters(), self._seed)
        plan = UpDownPlan(
            n_epochs=n_iter,
            batch_size=batch_size,
            learning_rate=learning_rate,
            momentum=0.0,
            shuffle=shuffle,
            verbose=int(self.verbose),
            n_gibbs_steps=n_gibbs_steps,
        )
        UpDownTraining(
            self,
            engine,
            plan,
            state,
            data.rows,
            labels,
            score,
            lambda: self._publish(state),
            CallbackList(self.callbacks),
            "up-down",
        ).run()
        return self

    def _publish(self, state: UpDownState) -> None:
        """Bring the fitted attributes up to date with a state of the up-down algorithm."""
        self.recognition_ = [(W.copy(), c.copy()) for W, c in state.recognition]
        self.generation_ = [(W.copy(), b.copy()) for W, b in state.generation]
        W, b, c = state.top
        top = self.rbms_[-1]
        dtype = top.components_.dtype
        top.components_ = np.array(W, dtype, order="C").T
        top.intercept_visible_ = b.astype(dtype)
        top.intercept_hidden_ = c.astype(dtype)
        top._carried = {}  # of another training
        self.up_down_history_ = state.history
        self._up_down = state

    def _forget_up_down(self) -> None:
        for name in ("recognition_", "generation_", "up_down_history_", "_up_down"):
            self.__dict__.pop(name, None)

    def _scorer(
        self, engine: Engine, held_out: Units, y_val: Array
    ) -> Callable[[], dict[str, float]]:
        def score() -> dict[str, float]:
            assert self._up_down is not None
            self._publish(self._up_down)
            p = self._class_probabilities(engine, held_out.rows)
            return {"val_error": float(np.mean(self.classes_[p.argmax(axis=1)] != y_val))}

        return score

    def _directed(self) -> tuple[list[Parameters], list[Parameters]]:
        """Return W and bias of the layers under the topmost RBM: upwards and downwards."""
        if hasattr(self, "recognition_"):
            return self.recognition_, self.generation_
        lower = self.rbms_[:-1]
        return (
            [(rbm.components_.T, rbm.intercept_hidden_) for rbm in lower],
            [(rbm.components_, rbm.intercept_visible_) for rbm in lower],
        )

    def _check_parameters(self) -> None:
        check_verbose(self.verbose)
        CallbackList(self.callbacks)
        check_bool("label_units", self.label_units)
        check_layers(self)

    # ---- using it ----

    def _ready(self) -> Engine:
        check_is_fitted(self)
        return get_engine(self.device, self.n_threads)

    def _count(self, layer: int | None) -> int:
        """Return how many layers there are up to one: from 1, or from the top if negative."""
        n = len(self.rbms_)
        if layer is None:
            return n
        number = check_integer("layer", layer)
        if not (1 <= number <= n or -n <= number <= -1):
            raise ValueError(f"layer must be 1 to {n}, or -1 to {-n} from the top; got {number}")
        return number if number > 0 else n + 1 + number

    @property
    def _n_labels(self) -> int:
        return len(self.classes_) if self.label_units else 0

    @property
    def _n_features_out(self) -> int:
        return int(self.rbms_[-1].n_components)

    def _top(self) -> tuple[Float32, Float32, Float32]:
        """Return the topmost RBM's W, b and c without the units of labels."""
        W, b, c = self.rbms_[-1]._parameters()
        n = len(b) - self._n_labels
        return W[:n], b[:n], c

    def _propagate(self, engine: Engine, layers: Sequence[Parameters], rows: Rows) -> Float32:
        """Return the probabilities of the last layer's units, those before at their means."""
        network = engine.network(
            [
                LayerArrays(np.require(W, np.float32, ["C", "W"]), np.require(c, np.float32, "W"))
                for W, c in layers
            ],
            NetworkRule("sigmoid_cross_entropy"),
        )
        out = np.empty((rows.n_rows, layers[-1][0].shape[1]), np.float32)
        network.predict(rows, len(layers), out)
        return out

    def _under_top(self, engine: Engine, rows: Rows) -> Rows:
        """Return the means of the layer under the topmost RBM."""
        up = self._directed()[0]
        return engine.rows_of_reals(self._propagate(engine, up, rows)) if up else rows

    def transform(self, X: Any, layer: int | None = None) -> Array:
        """Probabilities of a layer's units, the layers below it at their means.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        layer : int, optional
            1 is the lowest hidden layer, -1 the top, which is the default. With `label_units` the
            top takes the classes' probabilities as its units of labels.

        Returns
        -------
        ndarray of shape (n_samples, n_units)
            Of X's dtype where that is a float; float32 for bool and uint8, else float64.
        """
        engine = self._ready()
        count = self._count(layer)
        data = validate_units(self, X, engine)
        W, _, c = self._top()
        if count == len(self.rbms_) and self.label_units:
            p = self._class_probabilities(engine, data.rows)
            below = values_of(self._under_top(engine, data.rows))
            W, _, c = self.rbms_[-1]._parameters()
            rows = engine.rows_of_reals(np.concatenate([below, p], axis=1))
            out = self._propagate(engine, [(W, c)], rows)
        else:
            layers = [*self._directed()[0], (W, c)][:count]
            out = self._propagate(engine, layers, data.rows)
        return out.astype(data.dtype, copy=False)

    def inverse_transform(self, H: Any, layer: int | None = None) -> Array:
        """Probabilities of the visible units, from a layer's states or probabilities.

        Parameters
        ----------
        H : array of shape (n_samples, n_units)
            In [0, 1].
        layer : int, optional
            Which layer's: 1 is the lowest hidden layer, -1 the top, which is the default.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        engine = self._ready()
        count = self._count(layer)
        W, b, _ = self._top()
        layers = [*self._directed()[1], (W.T, b)][:count][::-1]
        hidden = units_of_array(engine, H, layers[0][0].shape[0], "H")
        return self._propagate(engine, layers, hidden.rows).astype(hidden.dtype, copy=False)

    def reconstruct(self, X: Any, layer: int | None = None) -> Array:
        """Probabilities of the visible units after a pass up to a layer and down again.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        layer : int, optional
            1 is the lowest hidden layer, -1 the top, which is the default.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        return self.inverse_transform(self.transform(X, layer), layer)

    def sample(
        self,
        n_samples: int = 1,
        n_steps: int = 1000,
        init: Any = None,
        return_probabilities: bool = False,
        *,
        label: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Array:
        """Draw from the model: Gibbs chains of the topmost RBM, then down layer by layer.

        Parameters
        ----------
        n_samples : int, default=1
            Number of chains.
        n_steps : int, default=1000
            Gibbs steps of each.
        init : array of shape (n_samples, n_features), optional
            Rows from which the chains start, inferred upwards, with the most probable of the
            labels; by default each unit under the topmost layer is drawn by its bias alone.
        return_probabilities : bool, default=False
            Return the probabilities of the last draw of the visible units instead of the draw.
        label : one of `classes_`, or an array of n_samples of them, optional
            With `label_units`: hold the units of labels at these.
        random_state : int, RandomState instance or None, default=None
            An int gives the same draws every time; None draws anew in every call.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            bool states, or float32 probabilities.
        """
        check_integer("n_samples", n_samples, minimum=1)
        check_integer("n_steps", n_steps, minimum=1, below=2**56)
        engine = self._ready()
        start = None
        if init is not None:
            data = validate_units(self, init, engine, name="init")
            if data.n_rows != n_samples:
                raise ValueError(f"init must have n_samples={n_samples} rows, got {data.n_rows}")
            start = data.rows
        groups = self._groups_by_label(label, n_samples)
        seeds = [rbm._draw_seed() for rbm in self.rbms_]
        step = self._n_sampled
        if random_state is None:
            # Counted before it is drawn: what Ctrl-C breaks off is not drawn again.
            self._n_sampled += n_steps
        else:
            own, step = draw_seed(random_state), 0
            seeds = [seed ^ own for seed in seeds]
        up, down = self._directed()
        if start is not None:
            for directed, seed in zip(up, seeds, strict=False):
                draw = Draw(seed, step, Stream.HIDDEN)
                start = self._drawn(engine, directed, start, draw)[0]
        states = np.empty((n_samples, len(self._top()[1])), np.bool_)
        p = np.empty(states.shape, np.float32)
        for position, rows in groups:
            # Each class's chains have numbers of their own.
            draw = Draw(seeds[-1] ^ (0 if position is None else position + 1) << 40, step)
            self._run_top(engine, position, rows, n_steps, start, draw, states, p)
        for directed, seed in zip(down[::-1], seeds[-2::-1], strict=True):
            below, draw = engine.rows_of_bytes(states), Draw(seed, step, Stream.VISIBLE)
            _, states, p = self._drawn(engine, directed, below, draw)
        return p if return_probabilities else states

    def _groups_by_label(self, label: Any, n: int) -> list[tuple[int | None, Array]]:
        """Return which of n samples have which label, as its position among the classes."""
        if label is None:
            return [(None, np.arange(n))]
        if not self.label_units:
            raise ValueError(
                "label needs a DBN with label_units=True, whose topmost RBM knows classes"
            )
        labels = np.asarray(label)
        if labels.ndim > 1 or (labels.ndim == 1 and len(labels) != n):
            raise ValueError(
                f"label must be one class or n_samples={n} of them, got shape {labels.shape}"
            )
        positions = positions_of(self.classes_, np.broadcast_to(labels, n))
        return [(int(k), np.flatnonzero(positions == k)) for k in np.unique(positions)]

    def _drawn(
        self, engine: Engine, directed: Parameters, rows: Rows, draw: Draw
    ) -> tuple[Rows, Array, Float32]:
        """Draw a directed layer's outputs: as rows, as bools; and their probabilities."""
        p = self._propagate(engine, [directed], rows)
        states = np.empty(p.shape, np.bool_)
        engine.sample_bernoulli(p, states, draw)
        return engine.rows_of_bytes(states), states, p

    def _run_top(
        self,
        engine: Engine,
        position: int | None,
        rows: Array,
        n_steps: int,
        start: Rows | None,
        draw: Draw,
        states: Array,
        p: Float32,
    ) -> None:
        """Run chains of the topmost RBM, some rows of all, and write where they end.

        A label that is held adds its weights to the hidden biases, and is no unit any more.
        """
        W, b, c = self.rbms_[-1]._parameters()
        n_below = len(b) - self._n_labels
        if position is not None:
            c = c + W[n_below + position]
            W, b = np.ascontiguousarray(W[:n_below]), b[:n_below].copy()
        n_free = self._n_labels if position is None else 0
        machine = engine.machine(W, b, c, self.rbms_[-1].precision, n_free)  # type: ignore[arg-type]
        n = len(rows)
        chains = Chains(
            empty_bits(n, len(b)), empty_bits(n, len(c)), np.empty((n, len(b)), np.float32)
        )
        if start is None:
            begin = draw_by_bias(engine, machine, n, len(c), len(b), draw)
        else:
            inferred = np.zeros((n, len(b)), np.bool_)
            inferred[:, :n_below] = values_of(start, rows) > 0.5
            if n_free:
                below = engine.rows_of_bytes(np.ascontiguousarray(inferred[:, :n_below]))
                likeliest = self._label_probabilities(engine, below).argmax(axis=1)
                inferred[np.arange(n), n_below + likeliest] = True
            begin = engine.rows_of_bytes(inferred)
        run_chains(engine, machine, begin, chains, n_steps, draw.seed, draw.step)
        drawn = np.empty((n, len(b)), np.bool_)
        engine.unpack(chains.v, drawn)
        states[rows] = drawn[:, :n_below]
        p[rows] = chains.v_probabilities[:, :n_below]  # type: ignore[index]

    # ---- classes ----

    @available_if(_knows_classes)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, by the free energy of the topmost RBM with each label.

        p(k | h) ∝ exp(-F(h, k)), h the means of the layer under it.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`.
        """
        engine = self._ready()
        data = validate_units(self, X, engine)
        return self._class_probabilities(engine, data.rows).astype(data.dtype, copy=False)

    @available_if(_knows_classes)  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> Array:
        """The most probable class of each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels as `fit` was given them.
        """
        p = self.predict_proba(X)
        labels: Array = self.classes_[p.argmax(axis=1)]
        return labels

    def _class_probabilities(self, engine: Engine, rows: Rows) -> Float32:
        return self._label_probabilities(engine, self._under_top(engine, rows))

    def _label_probabilities(self, engine: Engine, below: Rows) -> Float32:
        """Return p(k | h), h being rows of the layer under the topmost RBM."""
        W, b, c = self.rbms_[-1]._parameters()
        n_below = len(b) - self._n_labels
        # Without the labels' units on; each adds its weights.
        top = engine.network(
            [LayerArrays(np.array(W[:n_below]), np.array(c), "identity")],
            NetworkRule("squared_error"),
        )
        x = np.empty((below.n_rows, len(c)), np.float32)
        top.predict(below, 1, x)
        score = np.empty((len(x), self._n_labels))
        for k in range(self._n_labels):
            softplus = x + W[n_below + k]
            engine.softplus(softplus, softplus)
            score[:, k] = softplus.sum(axis=1, dtype=np.float64) + b[n_below + k]
        score -= score.max(axis=1, keepdims=True)
        p = np.exp(score)
        return np.asarray(p / p.sum(axis=1, keepdims=True), np.float32)

    # ---- the bound ----

    def score_samples(
        self, X: Any, y: Any = None, *, log_partition: float | None = None, n_draws: int = 10
    ) -> Array:
        """Variational lower bound on the log-likelihood of each row.

        log p(v) ≥ E_q[Σₗ log p(hˡ⁻¹|hˡ) - F(h) - log Z] + H(q), where q draws the layers upwards,
        h is the layer under the topmost RBM, and F and Z are that RBM's (Hinton, Osindero & Teh
        2006, appendix A; Salakhutdinov & Murray 2008).

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        y : ignored
        log_partition : float, optional
            log Z of the topmost RBM, in nats. By default it is computed, which is possible where
            that has up to 25 units on one of its sides.
        n_draws : int, default=10
            Draws of q, whose mean is taken.

        Returns
        -------
        ndarray of float64 of shape (n_samples,)
            In nats; the log-likelihood itself where there is one layer.

        Raises
        ------
        ValueError
            The topmost RBM is too large for its log Z, and none is given; or it has units of
            labels.
        """
        from harmonium.evaluation import log_partition as exact

        engine = self._ready()
        if self.label_units:
            raise ValueError("the bound is of rows without labels; this DBN has label_units=True")
        check_integer("n_draws", n_draws, minimum=1)
        data = validate_units(self, X, engine)
        log_z = exact(self.rbms_[-1]) if log_partition is None else float(log_partition)
        up, down = self._directed()
        machine = self.rbms_[-1]._ready()[1]
        total = np.zeros(data.n_rows)
        n_draws = n_draws if up else 1
        for number in range(n_draws):
            rows, values = data.rows, values_of(data.rows)
            for layer, (upwards, downwards) in enumerate(zip(up, down, strict=True)):
                draw = Draw(sampling_seed(self._seed), number << 8 | layer, Stream.USER)
                rows, states, q = self._drawn(engine, upwards, rows, draw)
                total += cross_entropy(q, q)
                total -= cross_entropy(values, self._propagate(engine, [downwards], rows))
                values = states.astype(np.float32)
            energies = np.empty(data.n_rows)
            machine.free_energy(rows, energies)
            total -= energies
        return np.asarray(total / n_draws - log_z)

    def score(self, X: Any, y: Any = None) -> float:
        """How well the rows are modelled: larger is better.

        With `label_units`, the accuracy of :meth:`predict`; else the mean of
        :meth:`score_samples`.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : array of shape (n_samples,)
            Labels, with `label_units`; else ignored.

        Returns
        -------
        float
        """
        if self.label_units:
            return float(np.mean(self.predict(X) == check_labels(y, X)))
        return float(self.score_samples(X).mean())

    # ---- files and scikit-learn ----

    def _torch_layers(self) -> tuple[list[tuple[Array, Array]], list[str]]:
        check_is_fitted(self)
        if self.label_units:
            raise ValueError("a DBN with label_units is not a network of dense layers")
        W, _, c = self._top()
        layers = [*self._directed()[0], (W, c)]
        return layers, ["sigmoid"] * len(layers)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "rbms_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
