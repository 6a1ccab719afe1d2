"""Deep autoencoders: a deep belief network unrolled and fine-tuned."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import check_is_fitted

from harmonium._checks import check_bool, check_word
from harmonium._random import draw_seed, generator_of
from harmonium._visible import Units, units_of_array, validate_units, values_of
from harmonium.engine import get_engine
from harmonium.engine.protocol import Activation, Array, Engine, Float32, Loss, Network
from harmonium.export import TorchExport
from harmonium.network_training import Examples, NetworkState
from harmonium.networks import NetworkEstimator, glorot_sigmoid
from harmonium.rbm import BernoulliRBM
from harmonium.stacking import check_layers, check_sizes, train_layers

__all__ = ["DeepAutoencoder"]

_LOSS: Loss = "sigmoid_cross_entropy"


class DeepAutoencoder(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, TorchExport, NetworkEstimator
):
    """Deep autoencoder: RBMs stacked, unrolled into encoder and decoder, and fine-tuned.

    The layers are pre-trained as those of a deep belief network. Their weights are then the
    encoder's, their transposes the decoder's, and both are trained by backpropagation to reproduce
    the input, by the cross-entropy of each unit (Hinton & Salakhutdinov 2006, Reducing the
    dimensionality of data with neural networks).

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(1000, 500, 250, 30)
        Units of the encoder's layers, from the lowest to the codes.
    code_activation : {"sigmoid", "identity"}, default="sigmoid"
        Of the codes: probabilities, as the RBM has them, or any real numbers.
    rbm : BernoulliRBM, list of BernoulliRBM, or None, default=None
        How a layer is pre-trained: see :class:`DBN`.
    layer_inputs : {"sample", "mean"}, default="sample"
        What a layer above the first is pre-trained on: see :class:`DBN`.
    learning_rate : float or callable, default=0.001
        Step size of the fine-tuning; a callable gets the epoch, from 0, and returns it.
    learning_rate_decay : float, default=1.0
        Factor of the learning rate from epoch to epoch, in (0, 1].
    momentum : float or callable, default=0.0
        μ in [0, 1) for "sgd": the step is μ times the last one plus the gradient's.
    solver : {"sgd", "adam"}, default="adam"
        Stochastic gradient descent, or Adam (Kingma & Ba 2015).
    batch_size : int, default=100
        Rows per minibatch of the fine-tuning.
    max_iter : int, default=20
        Most epochs of fine-tuning.
    l2 : float, default=0.0
        Weight decay: l2·W is added to the gradient of the mean loss. Biases do not decay.
    shuffle : bool, default=True
        Visit the rows of every epoch of fine-tuning in a new order.
    early_stopping : {"patience", "tutorial"} or None, default=None
    validation_fraction : float, default=0.1
    patience : int or None, default=None
    patience_increase : float, default=2.0
    improvement_threshold : float, default=0.995
        When the fine-tuning ends, by the validation loss: see :class:`SoftmaxRegression`.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. An int gives the same result every time.
    device : {"cpu"}, default="cpu"
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would.
    verbose : int, default=0
        If not 0, print a line per epoch, of pre-training and of fine-tuning.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch: see :mod:`harmonium.callbacks`.

    Attributes
    ----------
    coefs_ : list of ndarray of float32 of shape (n_inputs, n_outputs)
        W of each layer, the encoder's first, then the decoder's.
    intercepts_ : list of ndarray of float32 of shape (n_outputs,)
        c of each layer.
    rbms_ : list of BernoulliRBM
        The layers as they were pre-trained.
    n_features_in_ : int
    n_iter_ : int
        Epochs of fine-tuning done.
    history_ : dict of lists
        Of the fine-tuning: "epoch", "time" (seconds), "learning_rate", "loss" (cross-entropy of a
        row in nats, summed over its units), and with a validation set "val_loss".

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from harmonium import DeepAutoencoder
    >>> X, _ = load_digits(return_X_y=True)
    >>> model = DeepAutoencoder((64, 16), random_state=0).fit(X / 16)
    >>> model.transform(X / 16).shape, model.inverse_transform(model.transform(X / 16)).shape
    ((1797, 16), (1797, 64))
    """

    rbms_: list[BernoulliRBM]

    _fixed_by_training = (
        "hidden_layer_sizes",
        "code_activation",
        "batch_size",
        "solver",
        "shuffle",
    )

    def __init__(
        self,
        hidden_layer_sizes: Any = (1000, 500, 250, 30),
        *,
        code_activation: str = "sigmoid",
        rbm: Any = None,
        layer_inputs: str = "sample",
        learning_rate: float | Callable[[int], float] = 0.001,
        learning_rate_decay: float = 1.0,
        momentum: float | Callable[[int], float] = 0.0,
        solver: str = "adam",
        batch_size: int = 100,
        max_iter: int = 20,
        l2: float = 0.0,
        shuffle: bool = True,
        early_stopping: str | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        patience_increase: float = 2.0,
        improvement_threshold: float = 0.995,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        n_threads: int | None = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.code_activation = code_activation
        self.rbm = rbm
        self.layer_inputs = layer_inputs
        self.learning_rate = learning_rate
        self.learning_rate_decay = learning_rate_decay
        self.momentum = momentum
        self.solver = solver
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.l2 = l2
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.patience_increase = patience_increase
        self.improvement_threshold = improvement_threshold
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
        pretrain: bool = True,
        resume: str | os.PathLike[str] | None = None,
    ) -> DeepAutoencoder:
        """Pre-train the layers on X, then fine-tune encoder and decoder on it.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]: float32, float64, bool, or integer zeros and ones.
        y : ignored
        X_val : array or sparse matrix of shape (n_val, n_features), optional
            A validation set: measured after every epoch, and what `early_stopping` watches. The
            best epoch's parameters are kept.
        pretrain : bool, default=True
            False begins with random layers (Glorot & Bengio 2010), or those fitted before.
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
            Training diverged, of a layer that the message names or of the whole; the estimator
            holds the last finite weights.
        """
        self._check_parameters()
        check_bool("pretrain", pretrain)
        engine = get_engine(self.device, self.n_threads)
        saved: Any = None if resume is None else self._checkpoint(resume)
        self._seed = draw_seed(self.random_state) if saved is None else saved._seed
        rng = generator_of(self._seed)
        if X_val is None and self.early_stopping is not None:
            n_val = self._n_to_validate(len(X) if hasattr(X, "__len__") else X.shape[0])
            X, X_val = train_test_split(X, test_size=n_val, random_state=rng)
        data = validate_units(self, X, engine, reset=True)
        held_out = None if X_val is None else validate_units(self, X_val, engine, name="X_val")
        if saved is not None and saved._state is not None:
            self.rbms_ = saved.rbms_
            state = saved._state
        else:
            if pretrain:
                layers = () if saved is None else saved.rbms_
                train_layers(self, engine, data, held_out, rng, layers)
            parameters = self._first_parameters(rng, data.rows.n_cols)
            state = NetworkState.starting_from(parameters, self._optimizer, self._seed)
        score = None if held_out is None else self._scorer(held_out)
        examples = Examples(data.rows, data.rows)
        self._train(engine, _LOSS, state, self._n_layers, examples, None, score)
        return self

    def _first_parameters(
        self, rng: np.random.RandomState, n_inputs: int
    ) -> list[tuple[Array, Array]]:
        sizes = [n_inputs, *self._sizes]
        if not hasattr(self, "rbms_"):
            return glorot_sigmoid(rng, [*sizes, *sizes[-2::-1]])
        self._require_layers(n_inputs)
        up = [(rbm.components_.T, rbm.intercept_hidden_) for rbm in self.rbms_]
        down = [(rbm.components_, rbm.intercept_visible_) for rbm in reversed(self.rbms_)]
        return [*up, *down]

    def _scorer(self, held_out: Units) -> Callable[[Network], tuple[dict[str, float], float]]:
        """Return what measures the loss on validation data."""
        values = values_of(held_out.rows)
        p = np.empty_like(values)

        def score(network: Network) -> tuple[dict[str, float], float]:
            network.predict(held_out.rows, self._n_layers, p)
            loss = float(cross_entropy(values, p).mean())
            return {"val_loss": loss}, loss

        return score

    def _check_parameters(self) -> None:
        self._check_training_parameters()
        check_word("code_activation", self.code_activation, ("sigmoid", "identity"))
        check_layers(self)

    @property
    def _sizes(self) -> list[int]:
        return check_sizes(self.hidden_layer_sizes)

    @property
    def _n_layers(self) -> int:
        return 2 * len(self._sizes)

    def _activations(self, n_layers: int) -> list[Activation]:
        activations: list[Activation] = ["sigmoid"] * n_layers
        activations[n_layers // 2 - 1] = self.code_activation  # type: ignore[call-overload]
        return activations

    # ---- using it ----

    @property
    def _n_features_out(self) -> int:
        return self._sizes[-1]

    def _ready(self) -> Engine:
        check_is_fitted(self)
        return get_engine(self.device, self.n_threads)

    def transform(self, X: Any) -> Array:
        """Codes of rows.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].

        Returns
        -------
        ndarray of shape (n_samples, n_codes)
            Of X's dtype where that is a float; float32 for bool and uint8, else float64.
        """
        engine = self._ready()
        data = validate_units(self, X, engine)
        codes = self._outputs(engine, _LOSS, data.rows, len(self.coefs_) // 2)
        return codes.astype(data.dtype, copy=False)

    def inverse_transform(self, codes: Any) -> Array:
        """Probabilities of the visible units, from codes.

        Parameters
        ----------
        codes : array of shape (n_samples, n_codes)
            In [0, 1], unless ``code_activation="identity"``.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        engine = self._ready()
        n = len(self.coefs_) // 2
        width = self.coefs_[n].shape[0]
        if self.code_activation == "sigmoid":
            hidden = units_of_array(engine, codes, width, "codes")
        else:
            values = np.asarray(codes)
            if values.ndim != 2 or values.shape[1] != width or not np.all(np.isfinite(values)):
                raise ValueError(
                    f"codes must be finite numbers in {width} columns; got {values.dtype} of "
                    f"shape {values.shape}"
                )
            dtype = np.dtype(np.float32 if values.dtype == np.float32 else np.float64)
            rows = engine.rows_of_reals(np.ascontiguousarray(values, dtype))
            hidden = Units(rows, dtype)
        out = np.empty((hidden.n_rows, self.n_features_in_), np.float32)
        self._fixed_network(engine, _LOSS, first=n).predict(hidden.rows, n, out)
        return out.astype(hidden.dtype, copy=False)

    def reconstruct(self, X: Any) -> Array:
        """Probabilities of the visible units, by way of the codes.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        engine = self._ready()
        data = validate_units(self, X, engine)
        return self._outputs(engine, _LOSS, data.rows).astype(data.dtype, copy=False)

    def score_samples(self, X: Any) -> Array:
        """Minus the cross-entropy of each row and its reconstruction, summed over units.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].

        Returns
        -------
        ndarray of float64 of shape (n_samples,)
            In nats.
        """
        engine = self._ready()
        data = validate_units(self, X, engine)
        return -cross_entropy(values_of(data.rows), self._outputs(engine, _LOSS, data.rows))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean of :meth:`score_samples`: larger is better.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
        y : ignored

        Returns
        -------
        float
        """
        return float(self.score_samples(X).mean())

    def _torch_layers(self) -> tuple[list[tuple[Array, Array]], list[str]]:
        check_is_fitted(self)
        n = len(self.coefs_)
        layers = list(zip(self.coefs_, self.intercepts_, strict=True))
        return layers[: n // 2], [*self._activations(n)[: n // 2]]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def cross_entropy(values: Float32, p: Float32) -> Array:
    """Return -Σ (v·log p + (1 - v)·log(1 - p)) of each row, in nats; p is kept off 0 and 1."""
    p = np.clip(p, 1e-7, 1 - 1e-7)
    terms = values * np.log(p) + (1 - values) * np.log1p(-p)
    return np.asarray(-np.sum(terms, axis=1, dtype=np.float64))
