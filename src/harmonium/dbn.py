"""The deep belief network: RBMs stacked, without labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from harmonium._arrays import empty_bits
from harmonium._checks import check_integer
from harmonium._visible import Units, units_of_array, validate_units
from harmonium.callbacks import CallbackList
from harmonium.engine import get_engine
from harmonium.engine.protocol import Array, Draw, Engine, Float32, Rows, Stream
from harmonium.export import TorchExport
from harmonium.networks import draw_seed, generator_of
from harmonium.rbm import BernoulliRBM
from harmonium.stacking import Below, check_layers, propagate_up, seeded_layers, train_layers

__all__ = ["DBN"]


class DBN(ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchExport, BaseEstimator):
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

    _seed: int = 0
    _n_sampled: int = 0

    def __init__(
        self,
        hidden_layer_sizes: Any = (500, 500),
        *,
        rbm: Any = None,
        layer_inputs: str = "sample",
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        n_threads: int | None = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.rbm = rbm
        self.layer_inputs = layer_inputs
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
        *,
        X_val: Any = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> DBN:
        """Train the layers on X, from the lowest to the top.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]: float32, float64, bool, or integer zeros and ones.
        y : ignored
        X_val : array or sparse matrix of shape (n_val, n_features), optional
            Held-out rows, for the layers' metrics alone.
        resume : path, optional
            A file written by :meth:`save` or :class:`harmonium.callbacks.Checkpoint` of the same
            training on the same X: go on from there, to the result an uninterrupted run would have
            had, bit for bit. The seed is the file's.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or holds NaN, infinities or values outside [0, 1]; a
            parameter is out of its range; `resume` does not fit.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged, of a layer that the message names; `rbms_` holds the layers so far,
            the last of them with its last finite weights.
        """
        self._check_parameters()
        engine = get_engine(self.device, self.n_threads)
        saved = None if resume is None else self._checkpoint(resume)
        data = validate_units(self, X, engine, reset=True)
        held_out = None if X_val is None else validate_units(self, X_val, engine, name="X_val")
        self._seed = draw_seed(self.random_state) if saved is None else saved._seed
        self._n_sampled = 0 if saved is None else saved._n_sampled
        layers = () if saved is None else saved.rbms_
        train_layers(self, engine, data, held_out, generator_of(self._seed), layers)
        return self

    def partial_fit(self, X: Any, y: Any = None) -> DBN:
        """Make one update of every layer, with all the rows of X as its minibatch.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            As for :meth:`fit`. The first call sets the number of features.
        y : ignored

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
        data = validate_units(self, X, engine, reset=is_first)
        if is_first:
            self._seed = draw_seed(self.random_state)
            layers = seeded_layers(self, generator_of(self._seed))
        else:
            layers = self.rbms_
        rows, trained = data.rows, []
        for number, rbm in enumerate(layers):
            try:
                rbm._update_once(engine, Units(rows, data.dtype))
            except FloatingPointError as error:
                raise FloatingPointError(f"layer {number + 1}: {error}") from None
            trained.append(rbm)
            rows = Below(engine, [rbm], self.layer_inputs).rows(rows, rbm.n_iter_)
        self.rbms_ = trained
        return self

    def _check_parameters(self) -> None:
        if not isinstance(self.verbose, (bool, np.bool_)):
            check_integer("verbose", self.verbose, minimum=0)
        CallbackList(self.callbacks)
        check_layers(self)

    def _checkpoint(self, path: str | os.PathLike[str]) -> DBN:
        from harmonium.model_file import load

        saved, where = load(path), os.fspath(path)
        if not isinstance(saved, DBN):
            raise ValueError(f"{where} holds a {type(saved).__name__}, not a DBN")
        for name in ("hidden_layer_sizes", "layer_inputs"):
            theirs, ours = getattr(saved, name), getattr(self, name)
            if not np.array_equal(theirs, ours):
                raise ValueError(
                    f"{where} was trained with {name}={theirs!r}, but this estimator has "
                    f"{name}={ours!r}"
                )
        return saved

    # ---- using it ----

    def _ready(self) -> Engine:
        check_is_fitted(self)
        return get_engine(self.device, self.n_threads)

    def _layers_to(self, layer: int | None) -> list[BernoulliRBM]:
        """Return the layers up to one that is counted from 1, or from the top if negative."""
        n = len(self.rbms_)
        if layer is None:
            return self.rbms_
        number = check_integer("layer", layer)
        if not (1 <= number <= n or -n <= number <= -1):
            raise ValueError(f"layer must be 1 to {n}, or -1 to {-n} from the top; got {number}")
        return self.rbms_[: number if number > 0 else n + 1 + number]

    @property
    def _n_features_out(self) -> int:
        return int(self.rbms_[-1].n_components)

    def transform(self, X: Any, layer: int | None = None) -> Array:
        """Probabilities of a layer's units, the layers below it at their means.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        layer : int, optional
            1 is the lowest hidden layer, -1 the top, which is the default.

        Returns
        -------
        ndarray of shape (n_samples, n_units)
            Of X's dtype where that is a float; float32 for bool and uint8, else float64.
        """
        engine = self._ready()
        rbms = self._layers_to(layer)
        data = validate_units(self, X, engine)
        return propagate_up(engine, rbms, data.rows).astype(data.dtype, copy=False)

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
        rbms = self._layers_to(layer)
        hidden = units_of_array(engine, H, rbms[-1].n_components, "H")
        return self._propagate_down(engine, rbms, hidden.rows).astype(hidden.dtype, copy=False)

    def _propagate_down(self, engine: Engine, rbms: Sequence[BernoulliRBM], rows: Rows) -> Float32:
        values = np.empty((0, 0), np.float32)
        for number, rbm in enumerate(reversed(rbms)):
            if number > 0:
                rows = engine.rows_of_reals(values)
            values = np.empty((rows.n_rows, rbm._n_visible), np.float32)
            rbm._ready()[1].propdown(rows, values)
        return values

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
    ) -> Array:
        """Draw from the model: Gibbs chains of the topmost RBM, then down layer by layer.

        Parameters
        ----------
        n_samples : int, default=1
            Number of chains.
        n_steps : int, default=1000
            Gibbs steps of each.
        init : array of shape (n_samples, n_features), optional
            Rows from which the chains start, inferred upwards; by default each unit under the
            topmost layer is drawn by its bias alone.
        return_probabilities : bool, default=False
            Return the probabilities of the last draw of the visible units instead of the draw.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            bool states, or float32 probabilities.
        """
        check_integer("n_samples", n_samples, minimum=1)
        check_integer("n_steps", n_steps, minimum=1, below=2**56)
        engine = self._ready()
        *lower, top = self.rbms_
        start = None
        step = self._n_sampled
        self._n_sampled += 1
        if init is not None:
            data = validate_units(self, init, engine, name="init")
            if data.n_rows != n_samples:
                raise ValueError(f"init must have n_samples={n_samples} rows, got {data.n_rows}")
            rows = data.rows
            for rbm in lower:
                states = empty_bits(n_samples, rbm.n_components)
                rbm._ready()[1].draw_hidden(
                    rows, states, Draw(rbm._draw_seed(), step, Stream.LAYER)
                )
                rows = engine.rows_of_bits(states, rbm.n_components)
            start = Units(rows, np.dtype(np.float32))
        chains, p = top._sample_chains(engine, n_samples, n_steps, start, return_probabilities)
        states = chains.v
        for rbm in reversed(lower):
            rows = engine.rows_of_bits(states, rbm.n_components)
            machine = rbm._ready()[1]
            p = np.empty((n_samples, rbm._n_visible), np.float32)
            machine.propdown(rows, p)
            states = empty_bits(n_samples, rbm._n_visible)
            machine.draw_visible(rows, states, Draw(rbm._draw_seed(), step, Stream.LAYER))
        if return_probabilities and p is not None:
            return p
        out = np.empty((n_samples, self.n_features_in_), np.bool_)
        engine.unpack(states, out)
        return out

    def _torch_layers(self) -> tuple[list[tuple[Array, Array]], list[str]]:
        check_is_fitted(self)
        layers = [(rbm.components_.T, rbm.intercept_hidden_) for rbm in self.rbms_]
        return layers, ["sigmoid"] * len(layers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model, with all that training needs to go on, to a safetensors file.

        Functions and objects among the parameters can't be written: see
        :meth:`BernoulliRBM.save`.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step: a crash or a full disk leaves the old file.

        Raises
        ------
        OSError
            The file can't be written; the message says why.
        """
        from harmonium.model_file import save

        check_is_fitted(self)
        save(self, path)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "rbms_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
