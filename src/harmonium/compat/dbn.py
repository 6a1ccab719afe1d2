"""The estimators of albertbup/deep-belief-network.

Its names, parameters, defaults and methods, on harmonium's layers and networks::

    from harmonium.compat.dbn import SupervisedDBNClassification   # was: from dbn import ...

What differs, for all of them:

* Units are sigmoid: ``activation_function="relu"`` is refused.
* Pre-training draws states: of the data, whose values are odds, and of the layers below, anew in
  every epoch; and of the visible units in the negative phase. The library takes probabilities in
  these places. What is learnt is as good, and the binary path is the faster.
* Minibatches are of `batch_size` rows or as few less as make all of an epoch nearly equal. The
  library leaves a short one at the end, whose rows weigh as much as others: here a minibatch's step
  is along the mean of its rows, and one of few rows would be noise.
* Pre-training wants values in [0, 1] and says so. Fine-tuning without it, and what uses a fitted
  model, take any finite numbers. All is computed in float32.
* :meth:`save` writes safetensors and :meth:`load` reads them; a pickle is never loaded.
"""

from __future__ import annotations

import os
from dataclasses import replace
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
from sklearn.base import RegressorMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted

from harmonium import model_file
from harmonium._checks import check_bool, check_integer, check_real, check_verbose
from harmonium._random import draw_seed, generator_of
from harmonium._visible import Units, validate_reals, validate_units, values_of
from harmonium.classifier import DBNClassifier
from harmonium.dbn import DBN
from harmonium.engine import get_engine
from harmonium.engine.protocol import Array, Engine, Float32, Loss
from harmonium.network_training import Examples, NetworkPlan, NetworkState
from harmonium.networks import NetworkEstimator, glorot_sigmoid
from harmonium.persistence import load_arrays, save_arrays
from harmonium.rbm import BernoulliRBM
from harmonium.rbm_training import RbmPlan, RbmState
from harmonium.stacking import Below, check_sizes, train_layers

__all__ = ["SupervisedDBNClassification", "SupervisedDBNRegression", "UnsupervisedDBN"]

Model = TypeVar("Model", bound="_Model")


def _same_as(name: str) -> Any:
    """Return a property: what harmonium calls that which the library calls `name`."""
    return property(attrgetter(name))


def _even_size(batch_size: int, n_rows: int) -> int:
    """Return the size of as many minibatches, all but the last of which are of that size."""
    return -(-n_rows // -(-n_rows // batch_size))


class _Layer(BernoulliRBM):
    """An RBM that begins where the library's do: all parameters normal, variance 1 / n_visible.

    Wider than harmonium's own start; with few epochs much of what a layer does rests on it.
    """

    _n_rows = 1

    def _plan(self) -> RbmPlan:
        plan = super()._plan()
        return replace(plan, batch_size=_even_size(plan.batch_size, self._n_rows))

    def _initial_state(self, data: Units) -> RbmState:
        self._n_rows = data.n_rows
        state = super()._initial_state(data)
        rng = generator_of(state.seed)
        scale = 1 / np.sqrt(data.rows.n_cols)
        for array in (state.arrays.W, state.arrays.b, state.arrays.c):
            array[...] = rng.normal(0, scale, array.shape)
        return state


class _Model:
    """What the three estimators share: the layers' parameters, and files."""

    hidden_layers_structure: Any
    activation_function: str
    optimization_algorithm: str
    learning_rate_rbm: float
    n_epochs_rbm: int
    contrastive_divergence_iter: int
    batch_size: Any
    verbose: Any
    n_threads: Any

    hidden_layer_sizes = _same_as("hidden_layers_structure")
    layer_inputs = "sample"
    device = "cpu"

    _kind: str  # the estimator of harmonium's that has the same fitted attributes

    def _layer(self) -> BernoulliRBM:
        return _Layer(
            learning_rate=self.learning_rate_rbm,
            batch_size=self.batch_size,
            n_iter=self.n_epochs_rbm,
            algorithm="cd",
            n_gibbs_steps=self.contrastive_divergence_iter,
            inputs="sample",
            shuffle=True,
            metrics=False,
        )

    rbm: Any = property(_layer)

    def _check_names(self) -> None:
        """Raise where a parameter is wrong, by the name the user knows."""
        sizes = self.hidden_layers_structure
        if not isinstance(sizes, (list, tuple, np.ndarray)) or len(sizes) == 0:
            raise ValueError(
                f"hidden_layers_structure must be a list of at least one size, got {sizes!r}"
            )
        for size in sizes:
            check_integer("hidden_layers_structure", size, minimum=1, below=2**31)
        if self.activation_function != "sigmoid":
            raise ValueError(
                "activation_function must be 'sigmoid', for harmonium's units are binary; got "
                f"{self.activation_function!r}. Learning rates chosen for 'relu' may be too small"
            )
        if self.optimization_algorithm != "sgd":
            raise ValueError(
                f"optimization_algorithm must be 'sgd', got {self.optimization_algorithm!r}"
            )
        check_real("learning_rate_rbm", self.learning_rate_rbm, minimum=0.0, open_minimum=True)
        check_integer("n_epochs_rbm", self.n_epochs_rbm, minimum=0, below=2**31)
        check_integer(
            "contrastive_divergence_iter", self.contrastive_divergence_iter, minimum=1, below=2**31
        )
        check_integer("batch_size", self.batch_size, minimum=1, below=2**31)
        check_verbose(self.verbose)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model to a safetensors file, which :meth:`load` reads.

        Parameters
        ----------
        path : str or path-like
            Replaced in one step: a crash or a full disk leaves the old file. Its name may end as it
            likes; it is no pickle.

        Raises
        ------
        OSError
            The file can't be written; the message says why.
        """
        if not hasattr(self, "rbms_"):  # a pre-trained model can be saved
            check_is_fitted(self)
        write, _ = model_file._kind_of(self._kind)
        arrays: dict[str, Array] = {}
        header = model_file._head(self) | write(self, arrays, "")
        save_arrays(path, arrays, header)

    @classmethod
    def load(cls: type[Model], path: str | os.PathLike[str]) -> Model:
        """Read a model that :meth:`save` of the same class wrote. No code from the file is run.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        An instance of this class, as it was saved.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            The file is damaged, or holds something else: a pickle of the library's, say.
        """
        arrays, header = load_arrays(path)
        _, read = model_file._kind_of(cls._kind)
        try:
            if header["model"] != cls.__name__:
                raise ValueError(f"it holds a {header['model']}")
            parameters = header["parameters"].items()
            model = cls(**{name: model_file._parameters_of(value) for name, value in parameters})
            # The fitted attributes are those of an estimator of harmonium's.
            twin = read(arrays, {**header, "model": cls._kind, "parameters": {}}, "")
            twin = model_file._read_head(twin, header)
            unfitted = twin.get_params(deep=False)
            vars(model).update(
                (name, value) for name, value in vars(twin).items() if name not in unfitted
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{os.fspath(path)} is not a {cls.__name__} this version of harmonium can read: "
                f"{error!r}"
            ) from error
        return model


class UnsupervisedDBN(_Model, DBN):
    """Deep belief network as a transformer: RBMs, each trained on the one below.

    A layer above the first is trained on states of the layer below. The module says what differs
    from the library's class.

    Parameters
    ----------
    hidden_layers_structure : sequence of int, default=(100, 100)
        Units of the hidden layers, from the lowest to the top.
    activation_function : {"sigmoid"}, default="sigmoid"
    optimization_algorithm : {"sgd"}, default="sgd"
    learning_rate_rbm : float, default=0.001
        Step size.
    n_epochs_rbm : int, default=10
        Epochs of each layer.
    contrastive_divergence_iter : int, default=1
        The k of CD-k.
    batch_size : int, default=32
        Rows per minibatch.
    verbose : bool or int, default=True
        Print a line per epoch of each layer.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. None takes NumPy's global generator, so that ``np.random.seed`` makes
        results repeatable; they are not the library's.
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch of each layer: see :mod:`harmonium.callbacks`.

    Attributes
    ----------
    rbms_ : list of BernoulliRBM
        The layers, fitted: `components_`, `intercept_hidden_` and `intercept_visible_` are the
        library's W, c and b.
    n_features_in_ : int

    See Also
    --------
    harmonium.DBN : The same with all of its parameters; its methods are here too.

    Examples
    --------
    >>> from harmonium.compat.dbn import UnsupervisedDBN
    >>> from harmonium.datasets import load_digits
    >>> X, _ = load_digits()
    >>> dbn = UnsupervisedDBN([64, 32], learning_rate_rbm=0.05, verbose=False).fit(X)
    >>> dbn.transform(X).shape
    (1797, 32)
    """

    label_units = False
    _kind = "DBN"

    def __init__(
        self,
        hidden_layers_structure: Any = (100, 100),
        activation_function: str = "sigmoid",
        optimization_algorithm: str = "sgd",
        learning_rate_rbm: float = 1e-3,
        n_epochs_rbm: int = 10,
        contrastive_divergence_iter: int = 1,
        batch_size: int = 32,
        verbose: bool | int = True,
        *,
        random_state: int | np.random.RandomState | None = None,
        n_threads: int | None = None,
        callbacks: Any = None,
    ) -> None:
        self.hidden_layers_structure = hidden_layers_structure
        self.activation_function = activation_function
        self.optimization_algorithm = optimization_algorithm
        self.learning_rate_rbm = learning_rate_rbm
        self.n_epochs_rbm = n_epochs_rbm
        self.contrastive_divergence_iter = contrastive_divergence_iter
        self.batch_size = batch_size
        self.verbose = verbose
        self.random_state = random_state
        self.n_threads = n_threads
        self.callbacks = callbacks

    def _check_parameters(self) -> None:
        self._check_names()
        super()._check_parameters()

    def fit(self, X: Any, y: Any = None) -> UnsupervisedDBN:  # type: ignore[override]
        """Train the layers on X, from the lowest to the top.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As :meth:`harmonium.DBN.fit`.
        """
        super().fit(X)
        return self

    def transform(self, X: Any, layer: int | None = None) -> Array:
        """Probabilities of a layer's units, the layers below it at their means.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features), or array (n_features,)
            Finite numbers.
        layer : int, optional
            1 is the lowest hidden layer, -1 the top, which is the default.

        Returns
        -------
        ndarray of shape (n_samples, n_units), or (n_units,)
            Of X's dtype where that is a float; float32 for bool and uint8, else float64.
        """
        engine = self._ready()
        data = _validate(self, X, engine)
        W, _, c = self._top()
        layers = [*self._directed()[0], (W, c)][: self._count(layer)]
        return _shaped_like(X, data, self._propagate(engine, layers, data.rows))


class _Supervised(_Model, TransformerMixin):
    """What classification and regression share."""

    rbms_: list[BernoulliRBM]
    coefs_: list[Array]

    n_iter_backprop: int
    l2_regularization: float
    dropout_p: float
    learning_rate: Any
    random_state: Any

    # What harmonium's estimators of networks have and the library's have not.
    max_iter = _same_as("n_iter_backprop")
    dropout = _same_as("dropout_p")
    input_dropout = _same_as("dropout_p")
    learning_rate_decay = 1.0
    momentum: Any = 0.0
    solver = "sgd"
    l2 = 0.0
    shuffle = True
    early_stopping: str | None = None
    validation_fraction = 0.1
    patience: int | None = None
    patience_increase = 2.0
    improvement_threshold = 0.995
    class_weight: Any = None

    _kind = "DBNClassifier"
    _loss: Loss
    _pretrains = True

    def __init__(
        self,
        hidden_layers_structure: Any = (100, 100),
        *,
        activation_function: str = "sigmoid",
        optimization_algorithm: str = "sgd",
        learning_rate: float = 1e-3,
        learning_rate_rbm: float = 1e-3,
        n_iter_backprop: int = 100,
        l2_regularization: float = 1.0,
        n_epochs_rbm: int = 10,
        contrastive_divergence_iter: int = 1,
        batch_size: int = 32,
        dropout_p: float = 0.0,
        verbose: bool | int = True,
        random_state: int | np.random.RandomState | None = None,
        n_threads: int | None = None,
        callbacks: Any = None,
    ) -> None:
        self.hidden_layers_structure = hidden_layers_structure
        self.activation_function = activation_function
        self.optimization_algorithm = optimization_algorithm
        self.learning_rate = learning_rate
        self.learning_rate_rbm = learning_rate_rbm
        self.n_iter_backprop = n_iter_backprop
        self.l2_regularization = l2_regularization
        self.n_epochs_rbm = n_epochs_rbm
        self.contrastive_divergence_iter = contrastive_divergence_iter
        self.batch_size = batch_size
        self.dropout_p = dropout_p
        self.verbose = verbose
        self.random_state = random_state
        self.n_threads = n_threads
        self.callbacks = callbacks

    def _check_names(self) -> None:
        super()._check_names()
        check_real("learning_rate", self.learning_rate, minimum=0.0, open_minimum=True)
        check_integer("n_iter_backprop", self.n_iter_backprop, minimum=0, below=2**31)
        check_real("l2_regularization", self.l2_regularization, minimum=0.0)
        if check_real("dropout_p", self.dropout_p, minimum=0.0, maximum=1.0) == 1.0:
            raise ValueError("dropout_p must be below 1, for it would leave nothing; got 1")

    def _network_plan(self, loss: Loss, seed: int, n_rows: int) -> NetworkPlan:
        plan: NetworkPlan = super()._network_plan(loss, seed, n_rows)
        return replace(
            plan,
            batch_size=_even_size(plan.batch_size, n_rows),
            rule=plan.rule._replace(l2=self.l2_regularization / n_rows),
        )

    def _validate(self, X: Any, engine: Engine, *, reset: bool = False, name: str = "X") -> Units:
        if reset and self._pretrains:
            return validate_units(self, X, engine, reset=True, name=name)
        return _validate(self, X, engine, reset=reset, name=name)

    def pre_train(self, X: Any) -> Any:
        """Pre-train the layers on X, which need not be what :meth:`fit` is given.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError, FloatingPointError
            As :meth:`fit`.
        """
        self._check_names()
        engine = get_engine(n_threads=self.n_threads)
        data = validate_units(self, X, engine, reset=True)
        self._seed = draw_seed(self.random_state)
        train_layers(self, engine, data, None, generator_of(self._seed))
        return self

    def transform(self, X: Any) -> Array:
        """Outputs of the topmost hidden layer: fine-tuned, or as pre-trained before :meth:`fit`.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features), or array (n_features,)
            Finite numbers.

        Returns
        -------
        ndarray of shape (n_samples, n_units), or (n_units,)
        """
        engine = get_engine(n_threads=self.n_threads)
        if not hasattr(self, "rbms_"):  # a pre-trained model can be used
            check_is_fitted(self)
        data = _validate(self, X, engine)
        if hasattr(self, "coefs_"):
            n = len(self.coefs_) - 1
            out: Float32 = self._outputs(engine, self._loss, data.rows, n)
        else:
            out = values_of(Below(engine, self.rbms_, "mean").rows(data.rows, 0))
        return _shaped_like(X, data, out)


class SupervisedDBNClassification(_Supervised, DBNClassifier):
    """Deep belief network with a softmax layer, fine-tuned by backpropagation.

    :class:`harmonium.DBNClassifier` by the library's names. The module says what differs from the
    library's class, and beside that:

    * ``l2_regularization`` λ enters as there: each update multiplies the weights by
      1 - learning_rate·λ / n, n the rows that are trained on; biases do not decay. In harmonium's
      terms it is ``l2=λ / n``.
    * ``dropout_p`` drops inputs and hidden units, as there, and divides what is kept by 1 -
      dropout_p; the library scales weights before and after, those of the last layer left out.
    * Columns of :meth:`predict_proba` are in the order of `classes_`, which is sorted; there, in
      the order in which labels first came. :meth:`predict` returns an array, there a list.
    * A second :meth:`fit` with ``pre_train=False`` starts from the pre-trained layers, not from the
      fine-tuned ones; without any, from random ones (Glorot & Bengio 2010).

    Parameters
    ----------
    hidden_layers_structure : sequence of int, default=(100, 100)
        Units of the hidden layers, from the lowest to the top.
    activation_function : {"sigmoid"}, default="sigmoid"
    optimization_algorithm : {"sgd"}, default="sgd"
    learning_rate : float, default=0.001
        Step size of the fine-tuning.
    learning_rate_rbm : float, default=0.001
        Step size of the pre-training.
    n_iter_backprop : int, default=100
        Epochs of fine-tuning.
    l2_regularization : float, default=1.0
        Weight decay of the fine-tuning, for all rows together.
    n_epochs_rbm : int, default=10
        Epochs of pre-training of each layer.
    contrastive_divergence_iter : int, default=1
        The k of CD-k.
    batch_size : int, default=32
        Rows per minibatch, of pre-training and fine-tuning.
    dropout_p : float, default=0.0
        Probability that fine-tuning sets an input, or a hidden unit, to zero.
    verbose : bool or int, default=True
        Print a line per epoch, of pre-training and of fine-tuning.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. None takes NumPy's global generator, so that ``np.random.seed`` makes
        results repeatable; they are not the library's.
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch: see :mod:`harmonium.callbacks`.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coefs_, intercepts_ : lists of ndarray of float32
        W of shape (n_inputs, n_outputs) and c of each layer, the softmax layer last. The library's
        W are their transposes.
    rbms_ : list of BernoulliRBM
        The layers as they were pre-trained.
    n_features_in_ : int
    n_iter_ : int
        Epochs of fine-tuning done.
    history_ : dict of lists
        Of the fine-tuning: "epoch", "time" (seconds), "learning_rate", "loss" and "error".

    See Also
    --------
    harmonium.DBNClassifier : The same with all of its parameters.

    Examples
    --------
    >>> from harmonium.compat.dbn import SupervisedDBNClassification
    >>> from harmonium.datasets import load_digits
    >>> X, y = load_digits()
    >>> model = SupervisedDBNClassification(
    ...     [64, 64], learning_rate_rbm=0.05, learning_rate=0.3, verbose=False, random_state=0
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    _loss: Loss = "softmax_cross_entropy"

    @property
    def partial_fit(self) -> Any:
        raise AttributeError(
            "SupervisedDBNClassification has no partial_fit, because l2_regularization is per row "
            "of all that is trained on; harmonium.DBNClassifier has one"
        )

    def _check_parameters(self) -> None:
        self._check_names()
        super()._check_parameters()

    def fit(  # type: ignore[override]
        self, X: Any, y: Any, pre_train: bool = True
    ) -> SupervisedDBNClassification:
        """Pre-train the layers on X, then fine-tune all of it on X and y.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]; without `pre_train` any finite numbers.
        y : array of shape (n_samples,)
            Labels of any kind, at least two of them.
        pre_train : bool, default=True
            False takes the layers that :meth:`pre_train` left, on whatever data it was called.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or holds what it may not; y does not fit it or has one
            class alone; a parameter is out of its range.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged; the estimator holds the last finite weights.
        """
        check_bool("pre_train", pre_train)
        self._pretrains = bool(pre_train)
        self._fit(X, y, None, None, None)
        return self

    def predict_proba_dict(self, X: Any) -> list[dict[Any, float]]:
        """Probabilities of the classes by label.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features), or array (n_features,)

        Returns
        -------
        list of dict
            For each row, the probability of each label.
        """
        labels = self.classes_.tolist()
        return [dict(zip(labels, row, strict=True)) for row in self.predict_proba(X).tolist()]


class SupervisedDBNRegression(_Supervised, RegressorMixin, NetworkEstimator):
    """Deep belief network with a linear layer, fine-tuned by backpropagation of the squared error.

    The loss of a row is half its squared error, summed over targets. The module says what differs
    from the library's class, :class:`SupervisedDBNClassification` what `l2_regularization`,
    `dropout_p` and ``pre_train=False`` mean, and beside that:

    * The linear layer begins at weights 0 and the targets' mean, where the library's are random.
    * :meth:`predict` returns a vector where there is one target, there a column.

    Parameters
    ----------
    hidden_layers_structure, learning_rate_rbm, n_epochs_rbm, n_iter_backprop, ...
        Those of :class:`SupervisedDBNClassification`, with its defaults.

    Attributes
    ----------
    coefs_, intercepts_ : lists of ndarray of float32
        W of shape (n_inputs, n_outputs) and c of each layer, the linear layer last.
    rbms_ : list of BernoulliRBM
        The layers as they were pre-trained.
    n_features_in_ : int
    n_iter_ : int
        Epochs of fine-tuning done.
    history_ : dict of lists
        Of the fine-tuning: "epoch", "time" (seconds), "learning_rate" and "loss".

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import minmax_scale
    >>> from harmonium.compat.dbn import SupervisedDBNRegression
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = SupervisedDBNRegression(
    ...     [50], learning_rate_rbm=0.01, learning_rate=0.05, verbose=False, random_state=0
    ... )
    >>> model.fit(minmax_scale(X), y / 100).score(minmax_scale(X), y / 100) > 0.3
    True
    """

    _loss: Loss = "squared_error"

    def fit(self, X: Any, y: Any, pre_train: bool = True) -> SupervisedDBNRegression:
        """Pre-train the layers on X, then fine-tune all of it on X and y.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]; without `pre_train` any finite numbers.
        y : array of shape (n_samples,) or (n_samples, n_targets)
            Finite numbers; computed in float32. Steps are as large as they are: targets of
            variance 1 suit the usual learning rates.
        pre_train : bool, default=True
            False takes the layers that :meth:`pre_train` left, on whatever data it was called.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or holds what it may not; y does not fit it; a
            parameter is out of its range.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged; the estimator holds the last finite weights.
        """
        self._check_names()
        self._check_training_parameters()
        check_bool("pre_train", pre_train)
        self._pretrains = bool(pre_train)
        engine = get_engine(n_threads=self.n_threads)
        data = self._validate(X, engine, reset=True)
        targets = _check_targets(y, data.n_rows)
        self._seed = draw_seed(self.random_state)
        rng = generator_of(self._seed)
        if pre_train:
            train_layers(self, engine, data, None, rng)
        n_inputs, sizes = data.rows.n_cols, check_sizes(self.hidden_layers_structure)
        if hasattr(self, "rbms_"):
            self._require_layers(n_inputs)
            hidden = [(rbm.components_.T, rbm.intercept_hidden_) for rbm in self.rbms_]
        else:
            hidden = glorot_sigmoid(rng, [n_inputs, *sizes])
        top = np.zeros((sizes[-1], targets.shape[1])), targets.mean(axis=0)
        state = NetworkState.starting_from([*hidden, top], self._optimizer, self._seed)
        examples = Examples(data.rows, engine.rows_of_reals(targets))
        self._train(engine, self._loss, state, len(sizes) + 1, examples, None, None)
        return self

    def predict(self, X: Any) -> Array:
        """Targets of each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features), or array (n_features,)
            Finite numbers.

        Returns
        -------
        ndarray of shape (n_samples,), or (n_samples, n_targets) where there are several
            Float32 for float32, bool and uint8 X, else float64.
        """
        check_is_fitted(self)
        engine = get_engine(n_threads=self.n_threads)
        data = _validate(self, X, engine)
        y = self._outputs(engine, self._loss, data.rows).astype(data.dtype, copy=False)
        return y.ravel() if y.shape[1] == 1 else y

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.target_tags.multi_output = True
        return tags


def _validate(
    estimator: Any, X: Any, engine: Engine, *, reset: bool = False, name: str = "X"
) -> Units:
    """Validate rows of any finite numbers; one row may come as a vector, but to be trained on."""
    if not reset and _is_vector(X):
        X = X.reshape(1, -1)
    return validate_reals(estimator, X, engine, reset=reset, name=name)


def _shaped_like(X: Any, data: Units, values: Float32) -> Array:
    """Return values computed from X in its dtype, as a vector if X is one."""
    values = values.astype(data.dtype, copy=False)
    return values[0] if _is_vector(X) else values


def _is_vector(X: Any) -> bool:
    return isinstance(X, np.ndarray) and X.ndim == 1


def _check_targets(y: Any, n_rows: int) -> Float32:
    """Return y as float32 with a column for each target, or raise as scikit-learn does."""
    if y is None:
        raise ValueError(
            "y must hold a target for each row of X: requires y to be passed, but the target y is "
            "None"
        )
    y = check_array(y, dtype="numeric", ensure_2d=False, input_name="y")
    if len(y) != n_rows:
        raise ValueError(f"y must have a target for each of the {n_rows} rows, got {len(y)}")
    return np.ascontiguousarray(y.reshape(n_rows, -1), np.float32)
