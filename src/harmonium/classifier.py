"""Classifiers: softmax regression, and deep belief networks fine-tuned by backpropagation."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import check_is_fitted, column_or_1d

from harmonium._checks import check_bool
from harmonium._labels import check_labels, positions_of, require_two
from harmonium._random import draw_seed, generator_of
from harmonium._visible import Units, validate_reals, validate_units
from harmonium.engine import get_engine
from harmonium.engine.protocol import Array, Engine, Float32, Loss, Network
from harmonium.export import TorchExport
from harmonium.network_training import Examples, NetworkState
from harmonium.networks import NetworkEstimator, glorot_sigmoid
from harmonium.rbm import BernoulliRBM
from harmonium.stacking import check_layers, check_sizes, train_layers

__all__ = ["DBNClassifier", "SoftmaxRegression"]

_LOSS: Loss = "softmax_cross_entropy"


class NetworkClassifier(ClassifierMixin, TorchExport, NetworkEstimator):
    """A network that ends in a softmax: base of the classifiers."""

    classes_: Array

    class_weight: Any

    # ---- what derived classes say ----

    def _validate(self, X: Any, engine: Engine, *, reset: bool = False, name: str = "X") -> Units:
        raise NotImplementedError

    @property
    def _n_layers(self) -> int:
        raise NotImplementedError

    def _first_parameters(
        self, rng: np.random.RandomState, n_inputs: int, n_classes: int
    ) -> list[tuple[Array, Array]]:
        """Return W and c of each layer before the first update."""
        raise NotImplementedError

    def _check_parameters(self) -> None:
        self._check_training_parameters()

    def _prepare(
        self,
        engine: Engine,
        data: Units,
        held_out: Units | None,
        rng: np.random.RandomState,
        saved: Any,
    ) -> None:
        """Do what comes before the first update, or go on with it from where `saved` is."""

    def _take_layers(self, saved: Any) -> None:
        """Take over what came before the first update."""

    # ---- training ----

    def _fit(self, X: Any, y: Any, X_val: Any, y_val: Any, resume: Any) -> None:
        self._check_parameters()
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val belong together; one of them is missing")
        engine = get_engine(self.device, self.n_threads)
        saved = None if resume is None else self._checkpoint(resume)
        seed = draw_seed(self.random_state) if saved is None else saved._seed
        rng = generator_of(seed)
        y = check_labels(y, X)
        if X_val is None and self.early_stopping is not None:
            X, X_val, y, y_val = self._split(X, y, rng)
        data = self._validate(X, engine, reset=True)
        classes, labels = np.unique(y, return_inverse=True)
        require_two(classes)
        if saved is not None:
            _require_same(saved, resume, data, classes)
        self.classes_ = classes
        self._seed = seed
        score = held_out = None
        if X_val is not None:
            held_out = self._validate(X_val, engine, name="X_val")
            score = self._scorer(
                held_out, positions_of(self.classes_, check_labels(y_val, X_val, "y_val"))
            )
        if saved is not None and saved._state is not None:
            self._take_layers(saved)
            state = saved._state
        else:
            self._prepare(engine, data, held_out, rng, saved)
            parameters = self._first_parameters(rng, data.rows.n_cols, len(classes))
            state = NetworkState.starting_from(parameters, self._optimizer, seed)
        self._train(
            engine,
            _LOSS,
            state,
            self._n_layers,
            Examples(data.rows, labels.astype(np.int32)),
            self._class_weights(y),
            score,
        )

    def _split(self, X: Any, y: Array, rng: np.random.RandomState) -> tuple[Any, Any, Any, Any]:
        """Set a part of each class aside for validation."""
        n_val = self._n_to_validate(len(y))
        _, counts = np.unique(y, return_counts=True)
        can_stratify = counts.min() >= 2 and n_val >= len(counts) <= len(y) - n_val
        X, X_val, y, y_val = train_test_split(
            X, y, test_size=n_val, random_state=rng, stratify=y if can_stratify else None
        )
        return X, X_val, y, y_val

    def _class_weights(self, y: Array) -> Float32 | None:
        if self.class_weight is None:
            return None
        weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        return np.asarray(weights, np.float32)

    def _scorer(
        self, held_out: Units, labels: Array
    ) -> Callable[[Network], tuple[dict[str, float], float]]:
        """Return what measures loss and error on validation data."""
        p = np.empty((held_out.n_rows, len(self.classes_)), np.float32)
        rows = np.arange(len(labels))

        def score(network: Network) -> tuple[dict[str, float], float]:
            network.predict(held_out.rows, self._n_layers, p)
            error = float(np.mean(p.argmax(axis=1) != labels))
            loss = -float(np.mean(np.log(np.maximum(p[rows, labels], 1e-30)), dtype=np.float64))
            return {"val_loss": loss, "val_error": error}, error

        return score

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Any:
        """Make one pass over X, in its order, an update for each minibatch of `batch_size` rows.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            As for ``fit``.
        y : array of shape (n_samples,)
            Labels, all of them among `classes`; a class may be missing.
        classes : array of shape (n_classes,), optional
            All classes there will be; needed by the first call, and by that alone.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As ``fit``.
        """
        self._check_parameters()
        engine = get_engine(self.device, self.n_threads)
        is_first = not hasattr(self, "coefs_")
        y = check_labels(y, X)
        if is_first:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            self.classes_ = np.unique(column_or_1d(classes))
            require_two(self.classes_)
        elif classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} is not the same as on the first call to partial_fit, "
                f"{self.classes_!r}"
            )
        data = self._validate(X, engine, reset=is_first)
        labels = positions_of(self.classes_, y)
        if is_first:
            self._seed = seed = draw_seed(self.random_state)
            parameters = self._first_parameters(
                generator_of(seed), data.rows.n_cols, len(self.classes_)
            )
            state = NetworkState.starting_from(parameters, self._optimizer, seed)
        else:
            state = self._state_to_go_on_from()
        examples = Examples(data.rows, labels)
        self._train_partially(
            engine, _LOSS, state, self._n_layers, examples, self._class_weights(y)
        )
        return self

    # ---- using it ----

    def _torch_layers(self) -> tuple[list[tuple[Array, Array]], list[str]]:
        check_is_fitted(self)
        layers = list(zip(self.coefs_, self.intercepts_, strict=True))
        return layers, ["sigmoid"] * (len(layers) - 1) + ["softmax"]

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            In the order of `classes_`; float32 for float32, bool and uint8 X, else float64.
        """
        check_is_fitted(self)
        engine = get_engine(self.device, self.n_threads)
        data = self._validate(X, engine)
        return self._outputs(engine, _LOSS, data.rows).astype(data.dtype, copy=False)

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of :meth:`predict_proba`, in nats.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
        """
        p = self.predict_proba(X)
        log_p: Array = np.log(np.maximum(p, np.finfo(np.float32).tiny))
        return log_p

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
        check_is_fitted(self)
        labels: Array = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return labels

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class SoftmaxRegression(NetworkClassifier):
    """Multinomial logistic regression, trained by stochastic gradient descent.

    p(y = k | x) = softmax(xW + c)ₖ. With the defaults, ``early_stopping="tutorial"`` and
    ``patience=5000`` this is the deep-learning tutorial's ``logistic_sgd``.

    Parameters
    ----------
    learning_rate : float or callable, default=0.13
        Step size; a callable gets the epoch, from 0, and returns it.
    learning_rate_decay : float, default=1.0
        Factor of the learning rate from epoch to epoch, in (0, 1].
    momentum : float or callable, default=0.0
        μ in [0, 1) for "sgd": the step is μ times the last one plus the gradient's.
    solver : {"sgd", "adam"}, default="sgd"
        Stochastic gradient descent, or Adam (Kingma & Ba 2015).
    batch_size : int, default=600
        Rows per minibatch.
    max_iter : int, default=100
        Most epochs: passes over the training data.
    l2 : float, default=0.0
        Weight decay: l2·W is added to the gradient of the mean loss. Biases do not decay.
    shuffle : bool, default=True
        Visit the rows of every epoch in a new order.
    early_stopping : {"patience", "tutorial"} or None, default=None
        End the training when the validation error no longer improves: after `patience` epochs
        without a better one, or by the tutorial's rule, which counts minibatches: at least
        `patience`, and `patience_increase` times the minibatches made whenever the error falls
        below `improvement_threshold` times the best so far.
    validation_fraction : float, default=0.1
        Part of the training data set aside to validate on, if `early_stopping` is set and `fit` is
        not given a validation set.
    patience : int or None, default=None
        None takes 10 epochs, or the minibatches of 4 epochs for the tutorial's rule.
    patience_increase : float, default=2.0
    improvement_threshold : float, default=0.995
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes' losses; "balanced" makes all classes weigh the same.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. An int gives the same result every time.
    device : {"cpu"}, default="cpu"
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would. Results do not depend on it.
    verbose : int, default=0
        If not 0, print a line per epoch.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch: see :mod:`harmonium.callbacks`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_ : list of one ndarray of float32 of shape (n_features, n_classes)
        W.
    intercepts_ : list of one ndarray of float32 of shape (n_classes,)
        c.
    n_features_in_ : int
    n_iter_ : int
        Epochs done. With a validation set the parameters are those of the epoch with the smallest
        validation error, whichever that was.
    history_ : dict of lists
        "epoch", "time" (seconds since the start), "learning_rate", "loss" (mean cross-entropy in
        nats) and "error" (fraction) of the training rows as they came by, and with a validation
        set "val_loss" and "val_error".

    See Also
    --------
    DBNClassifier : With hidden layers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from harmonium import SoftmaxRegression
    >>> X, y = load_digits(return_X_y=True)
    >>> model = SoftmaxRegression(batch_size=20, random_state=0).fit(X / 16, y)
    >>> model.score(X / 16, y) > 0.95
    True
    """

    def __init__(
        self,
        *,
        learning_rate: float | Callable[[int], float] = 0.13,
        learning_rate_decay: float = 1.0,
        momentum: float | Callable[[int], float] = 0.0,
        solver: str = "sgd",
        batch_size: int = 600,
        max_iter: int = 100,
        l2: float = 0.0,
        shuffle: bool = True,
        early_stopping: str | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        patience_increase: float = 2.0,
        improvement_threshold: float = 0.995,
        class_weight: Any = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        n_threads: int | None = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
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
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        X_val: Any = None,
        y_val: Any = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> SoftmaxRegression:
        """Train on rows and their labels.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Finite numbers; computed in float32.
        y : array of shape (n_samples,)
            Labels of any kind, at least two of them.
        X_val, y_val : arrays, optional
            A validation set: measured after every epoch, and what `early_stopping` watches. The
            best epoch's parameters are kept.
        resume : path, optional
            A file written by :meth:`save` or :class:`harmonium.callbacks.Checkpoint` of the same
            training on the same data: go on from there, to the result an uninterrupted run would
            have had, bit for bit. The seed is the file's.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or not finite; y does not fit it or has one class
            alone; a parameter is out of its range; `resume` does not fit.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged; the estimator holds the last finite weights.
        """
        self._fit(X, y, X_val, y_val, resume)
        return self

    @property
    def _n_layers(self) -> int:
        return 1

    def _validate(self, X: Any, engine: Engine, *, reset: bool = False, name: str = "X") -> Units:
        return validate_reals(self, X, engine, reset=reset, name=name)

    def _first_parameters(
        self, rng: np.random.RandomState, n_inputs: int, n_classes: int
    ) -> list[tuple[Array, Array]]:
        return [(np.zeros((n_inputs, n_classes)), np.zeros(n_classes))]


class DBNClassifier(NetworkClassifier):
    """Deep belief network with a softmax layer, fine-tuned by backpropagation.

    Each hidden layer is first trained as an RBM on the states of the layer below, without labels;
    the stack then becomes a feed-forward network of sigmoid units, p(y | x) = softmax(h W + c) with
    h the topmost layer's means, and all of it is trained on the labels (Hinton, Osindero & Teh
    2006; Bengio et al. 2007; deep-learning tutorial, "Deep Belief Networks").

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(500, 500)
        Units of the hidden layers, from the lowest to the top.
    rbm : BernoulliRBM, list of BernoulliRBM, or None, default=None
        How a layer is pre-trained: a prototype for all of them, or one for each. The number of
        units, seed and threads are set here. None takes ``BernoulliRBM(learning_rate=0.05,
        algorithm="cd", momentum=0.5, shuffle=True)``, 10 epochs of CD-1.
    layer_inputs : {"sample", "mean"}, default="sample"
        What a layer above the first is pre-trained on: states drawn from the layer below, afresh
        in every epoch, or its probabilities.
    learning_rate : float or callable, default=0.1
        Step size of the fine-tuning; a callable gets the epoch, from 0, and returns it.
    learning_rate_decay : float, default=1.0
        Factor of the learning rate from epoch to epoch, in (0, 1].
    momentum : float or callable, default=0.0
        μ in [0, 1) for "sgd": the step is μ times the last one plus the gradient's.
    solver : {"sgd", "adam"}, default="sgd"
        Stochastic gradient descent, or Adam (Kingma & Ba 2015).
    batch_size : int, default=10
        Rows per minibatch of the fine-tuning.
    max_iter : int, default=20
        Most epochs of fine-tuning.
    l2 : float, default=0.0
        Weight decay: l2·W is added to the gradient of the mean loss. Biases do not decay.
    dropout, input_dropout : float, default=0.0
        Probability that fine-tuning sets a hidden unit, or an input, to zero for a minibatch's
        row (Srivastava et al. 2014). The others are divided by the probability of being kept, so
        that pre-trained weights, and the network when it is used, need no scaling.
    max_norm : float or None, default=None
        Largest length of the vector of weights into a unit.
    ema_decay : float, default=0.0
        Above 0, the fitted parameters are a moving average of those after each epoch: `ema_decay`
        times the average before plus 1 − `ema_decay` times the epoch's, at first of all epochs
        alike. 0.9 is an average of about ten epochs (Polyak & Juditsky 1992). The training itself
        goes on from the parameters that are not averaged.
    shuffle : bool, default=True
        Visit the rows of every epoch of fine-tuning in a new order.
    early_stopping : {"patience", "tutorial"} or None, default=None
    validation_fraction : float, default=0.1
    patience : int or None, default=None
    patience_increase : float, default=2.0
    improvement_threshold : float, default=0.995
        When the fine-tuning ends: see :class:`SoftmaxRegression`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes' losses; "balanced" makes all classes weigh the same.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. An int gives the same result every time.
    device : {"cpu"}, default="cpu"
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would. Results do not depend on it where the layers'
        inputs are states ("sample") of binary data.
    verbose : int, default=0
        If not 0, print a line per epoch, of pre-training and of fine-tuning.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch, of a layer's pre-training as of fine-tuning: see
        :mod:`harmonium.callbacks`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_ : list of ndarray of float32 of shape (n_inputs, n_outputs)
        W of each layer, the softmax layer last.
    intercepts_ : list of ndarray of float32 of shape (n_outputs,)
        c of each layer.
    rbms_ : list of BernoulliRBM
        The layers as they were pre-trained; each has a `history_` of its own.
    n_features_in_ : int
    n_iter_ : int
        Epochs of fine-tuning done. With a validation set the parameters are those of the epoch
        with the smallest validation error, whichever that was.
    history_ : dict of lists
        Of the fine-tuning: see :class:`SoftmaxRegression`.

    See Also
    --------
    DBN : The same layers, without labels.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from harmonium import DBNClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = DBNClassifier((64, 64), random_state=0).fit(X / 16, y)
    >>> model.score(X / 16, y) > 0.95
    True
    """

    rbms_: list[BernoulliRBM]

    _fixed_by_training = (
        "hidden_layer_sizes",
        "batch_size",
        "solver",
        "dropout",
        "input_dropout",
        "ema_decay",
        "shuffle",
    )

    def __init__(
        self,
        hidden_layer_sizes: Any = (500, 500),
        *,
        rbm: Any = None,
        layer_inputs: str = "sample",
        learning_rate: float | Callable[[int], float] = 0.1,
        learning_rate_decay: float = 1.0,
        momentum: float | Callable[[int], float] = 0.0,
        solver: str = "sgd",
        batch_size: int = 10,
        max_iter: int = 20,
        l2: float = 0.0,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        max_norm: float | None = None,
        ema_decay: float = 0.0,
        shuffle: bool = True,
        early_stopping: str | None = None,
        validation_fraction: float = 0.1,
        patience: int | None = None,
        patience_increase: float = 2.0,
        improvement_threshold: float = 0.995,
        class_weight: Any = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        n_threads: int | None = None,
        verbose: int = 0,
        callbacks: Any = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.rbm = rbm
        self.layer_inputs = layer_inputs
        self.learning_rate = learning_rate
        self.learning_rate_decay = learning_rate_decay
        self.momentum = momentum
        self.solver = solver
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.l2 = l2
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.max_norm = max_norm
        self.ema_decay = ema_decay
        self.shuffle = shuffle
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.patience_increase = patience_increase
        self.improvement_threshold = improvement_threshold
        self.class_weight = class_weight
        self.random_state = random_state
        self.device = device
        self.n_threads = n_threads
        self.verbose = verbose
        self.callbacks = callbacks

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        X_val: Any = None,
        y_val: Any = None,
        pretrain: bool = True,
        resume: str | os.PathLike[str] | None = None,
    ) -> DBNClassifier:
        """Pre-train the layers on X, then fine-tune all of it on X and y.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]: float32, float64, bool, or integer zeros and ones.
        y : array of shape (n_samples,)
            Labels of any kind, at least two of them.
        X_val, y_val : arrays, optional
            A validation set: measured after every epoch, and what `early_stopping` watches. The
            best epoch's parameters are kept.
        pretrain : bool, default=True
            False takes the layers that :meth:`pretrain` left, on whatever data it was called; or,
            if it was not called, random ones (Glorot & Bengio 2010).
        resume : path, optional
            A file written by :meth:`save` or :class:`harmonium.callbacks.Checkpoint` of the same
            training on the same data: go on from there, to the result an uninterrupted run would
            have had, bit for bit. The seed is the file's.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or holds NaN, infinities or values outside [0, 1]; y
            does not fit it or has one class alone; a parameter is out of its range; `resume` does
            not fit.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged, of a layer that the message names or of the whole; the estimator
            holds the last finite weights.
        """
        check_bool("pretrain", pretrain)
        self._pretrains = bool(pretrain)
        self._fit(X, y, X_val, y_val, resume)
        return self

    def pretrain(
        self,
        X: Any,
        y: Any = None,
        *,
        X_val: Any = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> DBNClassifier:
        """Pre-train the layers on X, which need not be what :meth:`fit` is given.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        y : ignored
        X_val : array or sparse matrix of shape (n_val, n_features), optional
            Held-out rows, for the layers' metrics alone.
        resume : path, optional
            As for :meth:`fit`: a file written while the layers were pre-trained.

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
        saved = None if resume is None else self._checkpoint(resume)
        data = self._validate(X, engine, reset=True)
        held_out = None if X_val is None else self._validate(X_val, engine, name="X_val")
        self._seed = draw_seed(self.random_state) if saved is None else saved._seed
        layers = () if saved is None else saved.rbms_
        train_layers(self, engine, data, held_out, generator_of(self._seed), layers)
        return self

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_layers(self)

    @property
    def _sizes(self) -> list[int]:
        return check_sizes(self.hidden_layer_sizes)

    @property
    def _n_layers(self) -> int:
        return len(self._sizes) + 1

    def _validate(self, X: Any, engine: Engine, *, reset: bool = False, name: str = "X") -> Units:
        return validate_units(self, X, engine, reset=reset, name=name)

    def _prepare(
        self,
        engine: Engine,
        data: Units,
        held_out: Units | None,
        rng: np.random.RandomState,
        saved: Any,
    ) -> None:
        if self._pretrains:
            layers = () if saved is None else saved.rbms_
            train_layers(self, engine, data, held_out, rng, layers)

    def _take_layers(self, saved: Any) -> None:
        if hasattr(saved, "rbms_"):
            self.rbms_ = saved.rbms_

    def _first_parameters(
        self, rng: np.random.RandomState, n_inputs: int, n_classes: int
    ) -> list[tuple[Array, Array]]:
        top = np.zeros((self._sizes[-1], n_classes)), np.zeros(n_classes)
        if not hasattr(self, "rbms_"):
            return [*glorot_sigmoid(rng, [n_inputs, *self._sizes]), top]
        self._require_layers(n_inputs)
        return [*((rbm.components_.T, rbm.intercept_hidden_) for rbm in self.rbms_), top]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.positive_only = True
        return tags


def _require_same(saved: NetworkClassifier, path: Any, data: Units, classes: Array) -> None:
    if saved.n_features_in_ != data.rows.n_cols:
        raise ValueError(
            f"{os.fspath(path)} was trained on {saved.n_features_in_} features, but X has "
            f"{data.rows.n_cols}"
        )
    # There are none yet where layers alone were trained.
    if hasattr(saved, "classes_") and not np.array_equal(saved.classes_, classes):
        raise ValueError(
            f"{os.fspath(path)} was trained on the classes {saved.classes_.tolist()}, but y has "
            f"{classes.tolist()}"
        )
