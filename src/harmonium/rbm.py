"""The Bernoulli restricted Boltzmann machine, in scikit-learn's manners."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from harmonium import sampling, sequential
from harmonium._arrays import copy_in_lines, empty_bits
from harmonium._checks import check_bool, check_integer, check_real, check_verbose, check_word
from harmonium._random import (
    Draws,
    check_generator,
    draw_seed,
    monitor_seed,
    sampling_seed,
    seed_from,
    separate_draws,
)
from harmonium._saving import SavedEstimator
from harmonium._scikit_learn import ScikitLearnMethods
from harmonium._visible import (
    Units,
    begin_completions,
    draw_rows,
    mean_of,
    units_of_array,
    validate_units,
    weighted,
)
from harmonium.annealing import log_odds
from harmonium.callbacks import Callback, CallbackList
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    Array,
    Engine,
    Float32,
    Machine,
    Rows,
    RowTraits,
    TrainingArrays,
    UpdateOptions,
    Updates,
)
from harmonium.rbm_training import EpochRows, RbmPlan, RbmState, RbmTraining
from harmonium.training import check_learning_rate, check_momentum, divergence, value_at

__all__ = ["BernoulliRBM"]


class BernoulliRBM(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ScikitLearnMethods,
    SavedEstimator,
    BaseEstimator,
):
    """Bernoulli restricted Boltzmann machine.

    Binary visible units v and binary hidden units h with the energy
    E(v, h) = -b·v - c·h - vᵀWh, trained by contrastive divergence. Takes the place of
    :class:`sklearn.neural_network.BernoulliRBM`: the first six parameters are that class's, with
    its meaning and defaults.

    Data that are all zeros and ones take the binary path, whose results are the same bits on every
    machine and with any number of threads (docs/numerics.md); real values in [0, 1] are
    probabilities of a unit being on, and take float32 products.

    Parameters
    ----------
    n_components : int, default=256
        Number of hidden units.
    learning_rate : float or callable, default=0.1
        Step size ε; a callable gets the epoch, from 0, and returns it
        (:mod:`harmonium.schedules` has some).
    batch_size : int, default=10
        Rows per minibatch.
    n_iter : int, default=10
        Epochs: passes over the training data.
    verbose : int, default=0
        If not 0, print a line per epoch.
    random_state : int, RandomState instance or None, default=None
        Seeds everything. With an int, the same result every time: initial weights are those
        scikit-learn draws, all other numbers are counter-based (Philox). With a RandomState
        instance and none of the parameters below up to `precision`, all numbers are drawn from that
        very generator, in scikit-learn's order, in the dtype of X: results agree with that class's
        (docs/migration.md), at some of the speed. With other parameters an instance is a source of
        seeds.
    algorithm : {"pcd", "cd", "pt", "fpcd", "rdm"}, default="pcd"
        Where the chains of the negative phase come from. "pcd", persistent contrastive divergence
        (Tieleman 2008), also called stochastic maximum likelihood: they go on from update to
        update. "cd", contrastive divergence (Hinton 2002): they start at the data. "pt": persistent
        ones that exchange states with replicas at `n_temperatures` - 1 higher temperatures, in each
        update (Desjardins et al. 2010); costs as many times the chains. "fpcd": persistent ones of
        a machine with fast weights besides, which learn and forget fast and so drive chains on
        (Tieleman & Hinton 2009). "rdm": they start at random hidden states in every update
        (Decelle, Furtlehner & Seoane 2021).
    n_gibbs_steps : int, default=1
        Gibbs steps per update: the k of CD-k and PCD-k.
    n_chains : int or None, default=None
        Chains (with "pt" at β = 1); None takes `batch_size`. Not used by "cd", which runs one per
        row.
    n_temperatures : int, default=10
        At least 2: inverse temperatures from 1 to 0, where the visible units are on as often as in
        the data and independent. They begin evenly spaced and are placed anew before every epoch
        (:func:`harmonium.sampling.ParallelTempering.adapt` says how). Used by "pt" alone.
    fast_learning_rate : float or None, default=None
        Step size of the fast weights, in all epochs alike; None takes the learning rate of the
        first. Used by "fpcd" alone.
    fast_decay : float, default=0.95
        In [0, 1): what is left of the fast weights after an update. Used by "fpcd" alone.
    momentum : float or callable, default=0.0
        μ in [0, 1): the step is μ times the last one plus the gradient's.
    l1, l2 : float, default=0.0
        Weight decay: per update, ε·l1·sign(W) and ε·l2·W are subtracted from W.
    solver : {"sgd", "adam", "rmsprop"}, default="sgd"
        How the gradient becomes a step: times the learning rate, with `momentum`; or divided by the
        root of a moving average of its squares (Adam: Kingma & Ba 2015; RMSprop as in PyTorch),
        where rates of 0.001 are usual, and `momentum` must be 0. Adam and RMSprop take the
        gradient with the decay of l1 and l2 in it.
    beta_1, beta_2 : float, default=0.9, 0.999
        In [0, 1): the decay of Adam's averages of the gradient and of its squares.
    rms_decay : float, default=0.99
        In [0, 1): that of RMSprop's average of squares, PyTorch's `alpha`.
    epsilon : float, default=1e-8
        At least 1e-30: added to the roots.
    centering : bool, default=False
        Take the gradient of W with v - μ in place of v and h - λ in place of h, and from those of
        the biases what that adds to them (Montavon & Müller 2012; Melchior, Fischer & Wiskott
        2016). What is learnt then does not depend on which state of a unit is called 1. All weights
        move in every update: 784-500 in minibatches of ten takes twice as long. The model and its
        parameters are those of any RBM.
    offset_rate : float, default=0.01
        In [0, 1]: per update, μ and λ move by this part of the way to the minibatch's means of v
        and p(h = 1 | v). They begin at the mean of X and at σ(c). Not used without `centering`.
    sparsity_target : float or None, default=None
        In (0, 1): the part of the rows for which a hidden unit should be on. Per update,
        ε·sparsity_cost·(sparsity_target - q) is added to the step of c, where q is a moving average
        of p(h = 1 | v) over the data (Lee, Ekanadham & Ng 2008; Hinton 2012, section 11).
    sparsity_cost : float, default=0.1
        At least 0. On digits 0.1 brings units half of the way to a target of 0.1, 1 nearly all of
        it. Not used without a target.
    sparsity_decay : float, default=0.9
        In [0, 1): per update, q becomes sparsity_decay·q plus (1 - sparsity_decay) times the
        minibatch's mean. Not used without a target.
    max_norm : float or None, default=None
        The L2 norm of each hidden unit's weights is at most this after every update: longer ones
        are made as long (Hinton et al. 2012).
    average : float, default=0.0
        In [0, 1): with any other value than 0, the model is a moving average of the parameters
        that training passes through, whose weights fall by this factor from update to update
        (Polyak & Juditsky 1992): 0.999 remembers some thousand updates. At first it is their plain
        mean. Training goes on from the parameters themselves, which are saved with the model.
    inputs : {"mean", "sample"}, default="mean"
        What values between 0 and 1 are to training: the mean activations of units, or ("sample")
        odds, by which every epoch draws bits afresh. Those take the binary path: twice as fast on
        MNIST's grey values, and the same bits with any number of threads. Zeros and ones are the
        same either way.
    missing : {"error", "sample"}, default="error"
        What a NaN of the data is to training: a mistake, or a unit that was not observed. Those are
        not imputed but summed over: the positive phase is the expectation over p(v_missing, h |
        v_observed), by a Gibbs chain for each row of the data, which takes `n_gibbs_steps` steps
        whenever the row's minibatch comes, its observed units held where they are. It begins with
        draws by the visible biases. Values that are observed must be zeros and ones, or odds with
        inputs="sample"; `init`="data" takes their mean. Everything but training refuses NaN.
    shuffle : bool, default=False
        Visit the rows of every epoch in a new order.
    init : {"normal", "data"}, default="normal"
        Visible biases begin at 0, or at the logit of the data's mean (Hinton 2012, section 8.1).
    precision : {"auto", "float32"}, default="auto"
        Whether binary operands are multiplied in 16-bit integers, or all in float32.
    device : {"cpu"}, default="cpu"
    n_threads : int or None, default=None
        Threads; None takes as many as OpenMP would.
    callbacks : callable, Callback, or a list of them, default=None
        Called after every epoch: see :mod:`harmonium.callbacks`.
    metrics : bool or "likelihood", default=True
        Measure reconstruction error and pseudo-likelihood on a sample of rows after every epoch.
        Takes less than a twentieth of the time but where an epoch lasts only a few milliseconds.
        "likelihood" measures the log-likelihood too, of rows that are zeros and ones, or drawn
        with inputs="sample": exactly where a side has up to 16 units, else by annealing 100 chains
        over 1000 temperatures. That takes some 0.3 s an epoch at 784-500, and was within a nat on
        MNIST's digits; :func:`harmonium.evaluation.log_likelihood` takes its time, and says how far
        it may be off.

    Attributes
    ----------
    components_ : ndarray of shape (n_components, n_features)
        Weights, Wᵀ; with `average`, the averages of them, as the biases are of theirs.
    intercept_hidden_ : ndarray of shape (n_components,)
        Hidden biases c.
    intercept_visible_ : ndarray of shape (n_features,)
        Visible biases b.
    h_samples_ : ndarray of shape (n_chains, n_components)
        Hidden states of the chains, zeros and ones.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Only when X had feature names that are all strings.
    n_iter_ : int
        Epochs done.
    history_ : dict of lists
        "epoch", "time" (seconds since the start), "learning_rate", and the metrics
        "reconstruction_error", "pseudo_likelihood", with `metrics`="likelihood" "log_likelihood",
        and with held-out rows "val_…" of them all and "free_energy_gap"
        (:class:`harmonium.rbm_training.Monitor` defines them).

    See Also
    --------
    harmonium.ops : The same on plain arrays.

    References
    ----------
    Smolensky (1986), Information processing in dynamical systems: foundations of harmony theory.
    Hinton (2012), A practical guide to training restricted Boltzmann machines.
    Tieleman (2008), Training restricted Boltzmann machines using approximations to the likelihood
    gradient.
    Kingma & Ba (2015), Adam: a method for stochastic optimization.
    Montavon & Müller (2012), Deep Boltzmann machines and the centering trick.
    Melchior, Fischer & Wiskott (2016), How to center deep Boltzmann machines.
    Lee, Ekanadham & Ng (2008), Sparse deep belief net model for visual area V2.
    Hinton, Srivastava, Krizhevsky, Sutskever & Salakhutdinov (2012), Improving neural networks by
    preventing co-adaptation of feature detectors.
    Polyak & Juditsky (1992), Acceleration of stochastic approximation by averaging.

    Examples
    --------
    >>> import numpy as np
    >>> from harmonium import BernoulliRBM
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> rbm = BernoulliRBM(n_components=2, random_state=0).fit(X)
    >>> rbm.transform(X).shape
    (4, 2)
    """

    components_: Array
    intercept_hidden_: Array
    intercept_visible_: Array
    h_samples_: Array
    n_features_in_: int
    n_iter_: int
    history_: dict[str, list[float]]

    _fixed_by_training = (
        "n_components",
        "batch_size",
        "algorithm",
        "n_gibbs_steps",
        "n_chains",
        "n_temperatures",
        "solver",
        "centering",
        "average",
        "inputs",
        "missing",
        "shuffle",
        "init",
        "precision",
    )

    # What goes with the fitted attributes; these are the values for a machine whose parameters were
    # set by hand, from another library's, say.
    _seed: int = 0
    _gibbs_steps: int = 0
    _rows_done: int = 0
    _n_sampled: int = 0
    _velocity: tuple[Array, ...] | None = None
    # The other arrays that updates carry, by their names in TrainingArrays.
    _carried: Mapping[str, Array] = MappingProxyType({})
    # The state of the generator that training drew from, if it did (`sequential.save_generator`).
    _generator_state: dict[str, Any] | None = None

    # What scikit-learn's class does too: only so can numbers be drawn in its order.
    _shared_with_scikit_learn: ClassVar[dict[str, Any]] = {
        "algorithm": "pcd",
        "n_gibbs_steps": 1,
        "n_chains": None,
        "momentum": 0,
        "l1": 0,
        "l2": 0,
        "solver": "sgd",
        "centering": False,
        "sparsity_target": None,
        "max_norm": None,
        "average": 0,
        "inputs": "mean",
        "missing": "error",
        "shuffle": False,
        "init": "normal",
        "precision": "auto",
    }

    # So many of the visible units, the last, are a softmax group: the top of a DBN with labels.
    _n_labels: int = 0

    def __init__(
        self,
        n_components: int = 256,
        *,
        learning_rate: float | Callable[[int], float] = 0.1,
        batch_size: int = 10,
        n_iter: int = 10,
        verbose: int = 0,
        random_state: int | np.random.RandomState | None = None,
        algorithm: str = "pcd",
        n_gibbs_steps: int = 1,
        n_chains: int | None = None,
        n_temperatures: int = 10,
        fast_learning_rate: float | None = None,
        fast_decay: float = 0.95,
        momentum: float | Callable[[int], float] = 0.0,
        l1: float = 0.0,
        l2: float = 0.0,
        solver: str = "sgd",
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        rms_decay: float = 0.99,
        epsilon: float = 1e-8,
        centering: bool = False,
        offset_rate: float = 0.01,
        sparsity_target: float | None = None,
        sparsity_cost: float = 0.1,
        sparsity_decay: float = 0.9,
        max_norm: float | None = None,
        average: float = 0.0,
        inputs: str = "mean",
        missing: str = "error",
        shuffle: bool = False,
        init: str = "normal",
        precision: str = "auto",
        device: str = "cpu",
        n_threads: int | None = None,
        callbacks: Any = None,
        metrics: bool | str = True,
    ) -> None:
        self.n_components = n_components
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.n_iter = n_iter
        self.verbose = verbose
        self.random_state = random_state
        self.algorithm = algorithm
        self.n_gibbs_steps = n_gibbs_steps
        self.n_chains = n_chains
        self.n_temperatures = n_temperatures
        self.fast_learning_rate = fast_learning_rate
        self.fast_decay = fast_decay
        self.momentum = momentum
        self.l1 = l1
        self.l2 = l2
        self.solver = solver
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.rms_decay = rms_decay
        self.epsilon = epsilon
        self.centering = centering
        self.offset_rate = offset_rate
        self.sparsity_target = sparsity_target
        self.sparsity_cost = sparsity_cost
        self.sparsity_decay = sparsity_decay
        self.max_norm = max_norm
        self.average = average
        self.inputs = inputs
        self.missing = missing
        self.shuffle = shuffle
        self.init = init
        self.precision = precision
        self.device = device
        self.n_threads = n_threads
        self.callbacks = callbacks
        self.metrics = metrics

    # ---- training ----

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        resume: str | os.PathLike[str] | None = None,
    ) -> BernoulliRBM:
        """Train on X.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]: float32, float64, bool, or integer zeros and ones; NaN in a dense X
            with `missing`="sample".
        y : ignored
        sample_weight : array of shape (n_samples,), optional
            Not negative. A row pulls in proportion to its weight, one of weight 2 as two rows of
            weight 1: in the positive phase it counts by its weight divided by the mean of all. A
            minibatch has `batch_size` rows whatever they weigh, and metrics do not look at weights.
        X_val : array or sparse matrix of shape (n_val, n_features), optional
            Held-out rows, for metrics alone.
        resume : path, optional
            A file written by :meth:`save` or :class:`harmonium.callbacks.Checkpoint` of the same
            training on the same X (and weights): go on from there to epoch `n_iter`, to the result
            an uninterrupted run would have had, bit for bit. The seed is the file's.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            X is empty, not two-dimensional, or holds NaN, infinities or values outside [0, 1];
            weights are not one a row, negative, all zero, or come with a RandomState from which
            numbers are drawn in scikit-learn's order; a parameter is out of its range; `resume`
            does not fit.
        TypeError
            A parameter is of the wrong type.
        FloatingPointError
            Training diverged; the estimator holds the last finite weights.
        """
        self._check_parameters()
        engine = get_engine(self.device, self.n_threads)
        held_out = None
        with self._features_kept_on_error():
            data = self._training_units(X, sample_weight, engine, reset=True)
            if X_val is not None:
                held_out = validate_units(self, X_val, engine, name="X_val").rows
            saved = None if resume is None else self._checkpoint(resume, data)
            self._n_labels = 0 if saved is None else saved._n_labels
            training = self._training(engine, data, lambda epoch: data.rows, held_out, saved)
        training.run()
        return self

    def _training_units(self, X: Any, sample_weight: Any, engine: Engine, *, reset: bool) -> Units:
        """Validate what training is given."""
        data = validate_units(self, X, engine, reset=reset, allow_nan=self.missing == "sample")
        if data.traits.observed is not None and self.inputs == "mean" and not data.rows.is_binary:
            raise ValueError(
                'X must be zeros and ones where missing="sample" finds it not NaN, got values '
                'between them: with inputs="sample" they are odds, by which bits are drawn'
            )
        if sample_weight is not None and self._rng is not None:
            raise ValueError(
                "sample_weight does not go with numbers drawn in scikit-learn's order, got "
                f"random_state={self.random_state!r}: an integer takes weights"
            )
        return weighted(data, sample_weight, X)

    def _training(
        self,
        engine: Engine,
        data: Units,
        rows_of: Callable[[int], Rows],
        held_out: Rows | None = None,
        saved: BernoulliRBM | None = None,
        watchers: Sequence[Callback] = (),
        title: str | None = None,
    ) -> RbmTraining:
        """Return a run that begins anew, or goes on where `saved` is.

        `rows_of` gives an epoch's rows; `data` are those of the first, and `watchers` look on with
        the estimator's own callbacks.
        """
        rng = self._rng
        if saved is None:
            state = self._initial_state(data)
            self._begin_completions(engine, state, data)
        elif rng is None or saved._generator_state is None:
            state = saved._state()
        else:
            state = saved._state(saved.components_.dtype)
            sequential.restore_generator(rng, saved._generator_state)
        self._n_sampled = 0 if saved is None else saved._n_sampled

        epoch_rows = rows_of
        if self.inputs == "sample":
            epoch_rows = EpochRows(
                lambda epoch: draw_rows(engine, rows_of(epoch), state.seed, epoch)
            )
            if held_out is not None:
                held_out = draw_rows(engine, held_out, monitor_seed(state.seed), 0)

        def publish() -> None:
            self._publish(state, data.dtype, engine)

        callbacks = CallbackList([*CallbackList(self.callbacks).callbacks, *watchers])
        title = title or type(self).__name__
        plan, trainer = self._plan(), self._trainer(engine, state, rng, data.traits)
        run = (self, engine, plan, state, trainer, epoch_rows, held_out, publish, callbacks, title)
        return RbmTraining(*run) if rng is None else sequential.SequentialTraining(*run, rng=rng)

    @property
    def _rng(self) -> np.random.RandomState | None:
        """The generator that numbers are drawn from in scikit-learn's order, if they are."""
        if not isinstance(self.random_state, np.random.RandomState):
            return None
        shared = self._shared_with_scikit_learn.items()
        is_shared = all(getattr(self, name) == value for name, value in shared)
        return self.random_state if is_shared else None

    def _trainer(
        self,
        engine: Engine,
        state: RbmState,
        rng: np.random.RandomState | None,
        traits: RowTraits,
    ) -> Updates:
        if rng is not None:
            return sequential.GeneratorTrainer(engine, state.arrays, rng)
        plan = self._plan()
        return engine.trainer(state.arrays, plan.rule(state.seed), plan.precision, traits)

    def _begin_completions(self, engine: Engine, state: RbmState, data: Units) -> None:
        """Give the state completions where values are missing from the data."""
        completions = None
        if data.traits.observed is not None:
            b = state.arrays.b
            completions = begin_completions(engine, data, b, state.seed, state.epoch)
        state.arrays = state.arrays._replace(completions=completions)

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> BernoulliRBM:
        """Make one update, with all the rows of X as its minibatch.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            As for :meth:`fit`. The first call sets the number of features and the dtype. Chains of
            missing values begin anew in every call.
        y : ignored
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
        is_first = not hasattr(self, "components_")
        with self._features_kept_on_error():
            data = self._training_units(X, sample_weight, engine, reset=is_first)
            self._update_once(engine, data, self._rng)
        return self

    def _update_once(
        self, engine: Engine, data: Units, rng: np.random.RandomState | None = None
    ) -> None:
        """Make one update, the first or another, with all rows of the data.

        On numbers of `rng`, if there is one, and then in the precision of the parameters.
        """
        is_first = not hasattr(self, "components_")
        if is_first:
            state = self._initial_state(data)
        else:
            state = self._state(np.float32 if rng is None else self.components_.dtype, data)
        plan = self._plan()
        state = self._with_chains_for(state, data.rows.n_rows)
        self._begin_completions(engine, state, data)
        trainer = self._trainer(engine, state, rng, data.traits)
        learning_rate = value_at("learning_rate", plan.learning_rate, state.epoch)
        momentum = value_at("momentum", plan.momentum, state.epoch)
        rows, n = data.rows, data.rows.n_rows
        if self.inputs == "sample":
            rows = draw_rows(engine, rows, state.seed, state.epoch)
        dtype = data.dtype if is_first else self.components_.dtype
        snapshot = state.snapshot()
        try:
            trainer.run(rows, None, 0, n, n, state.steps, learning_rate, momentum)
            state.steps += plan.n_gibbs_steps
            state.epoch += 1
        except FloatingPointError:
            state.restore(snapshot)
            raise divergence(learning_rate, "in partial_fit") from None
        finally:
            self.n_features_in_ = data.rows.n_cols
            state.arrays = state.arrays._replace(completions=None)  # of rows that do not come again
            self._publish(state, dtype, engine)

    @contextmanager
    def _features_kept_on_error(self) -> Iterator[None]:
        """Take back what validation notes about X when X, or what comes with it, is refused."""
        names = ("n_features_in_", "feature_names_in_")
        fitted = self.__dict__
        before = {name: fitted[name] for name in names if name in fitted}
        try:
            yield
        except BaseException:
            for name in names:
                fitted.pop(name, None)
            fitted.update(before)
            raise

    def _check_parameters(self) -> None:
        check_integer("n_components", self.n_components, minimum=1, below=2**31)
        check_integer("batch_size", self.batch_size, minimum=1, below=2**31)
        check_integer("n_iter", self.n_iter, minimum=0, below=2**31)
        check_integer("n_gibbs_steps", self.n_gibbs_steps, minimum=1, below=2**31)
        if self.n_chains is not None:
            check_integer("n_chains", self.n_chains, minimum=1, below=2**31)
        check_integer("n_temperatures", self.n_temperatures, minimum=2, below=2**20)
        check_learning_rate(self.learning_rate)
        if self.fast_learning_rate is not None:
            check_real("fast_learning_rate", self.fast_learning_rate, minimum=0.0)
        check_momentum(self.momentum)
        check_real("l1", self.l1, minimum=0.0)
        check_real("l2", self.l2, minimum=0.0)
        check_word("solver", self.solver, ("sgd", "adam", "rmsprop"))
        if self.solver != "sgd" and self._has_momentum:
            raise ValueError(
                f"momentum must be 0 with solver={self.solver!r}, which has its own; "
                f"got {self.momentum!r}"
            )
        check_real("epsilon", self.epsilon, minimum=1e-30)
        check_real("offset_rate", self.offset_rate, minimum=0.0, maximum=1.0)
        if self.sparsity_target is not None:
            ends = {"open_minimum": True, "open_maximum": True}
            check_real("sparsity_target", self.sparsity_target, minimum=0.0, maximum=1.0, **ends)
        check_real("sparsity_cost", self.sparsity_cost, minimum=0.0)
        if self.max_norm is not None:
            check_real("max_norm", self.max_norm, minimum=0.0, open_minimum=True)
        for name in ("beta_1", "beta_2", "rms_decay", "sparsity_decay", "average", "fast_decay"):
            check_real(name, getattr(self, name), minimum=0.0, maximum=1.0, open_maximum=True)
        check_word("algorithm", self.algorithm, ("cd", "pcd", "pt", "fpcd", "rdm"))
        check_word("inputs", self.inputs, ("mean", "sample"))
        check_word("missing", self.missing, ("error", "sample"))
        check_word("init", self.init, ("normal", "data"))
        check_word("precision", self.precision, ("auto", "float32"))
        for name in ("centering", "shuffle"):
            check_bool(name, getattr(self, name))
        if not isinstance(self.metrics, (bool, np.bool_)):
            check_word("metrics", self.metrics, (True, False, "likelihood"))
        check_verbose(self.verbose)
        CallbackList(self.callbacks)

    def _plan(self) -> RbmPlan:
        return RbmPlan(
            n_epochs=self.n_iter,
            batch_size=self.batch_size,
            n_gibbs_steps=self.n_gibbs_steps,
            persistent=self.algorithm != "cd",
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            l1=float(self.l1),
            l2=float(self.l2),
            shuffle=bool(self.shuffle),
            precision=self.precision,  # type: ignore[arg-type]
            metrics=self.metrics,
            verbose=int(self.verbose),
            n_labels=self._n_labels,
            options=UpdateOptions(
                beta_1=float(self.beta_1),
                beta_2=float(self.beta_2 if self.solver == "adam" else self.rms_decay),
                epsilon=float(self.epsilon),
                offset_rate=float(self.offset_rate),
                sparsity_target=float(self.sparsity_target or 0),
                sparsity_cost=float(self.sparsity_cost),
                sparsity_decay=float(self.sparsity_decay),
                max_norm=float(self.max_norm or 0),
                average=float(self.average),
                restarts=self.algorithm == "rdm",
                fast_rate=self._fast_rate,
                fast_decay=float(self.fast_decay),
            ),
        )

    @property
    def _fast_rate(self) -> float:
        if self.algorithm != "fpcd":
            return 0.0
        if self.fast_learning_rate is not None:
            return float(self.fast_learning_rate)
        return value_at("learning_rate", self.learning_rate, 0)

    @property
    def _has_momentum(self) -> bool:
        return callable(self.momentum) or self.momentum != 0

    @property
    def _has_velocity(self) -> bool:
        """Or Adam's averages of the gradient, in its place."""
        return self._has_momentum or self.solver == "adam"

    def _initial_state(self, data: Units) -> RbmState:
        """Return the state before the first update, drawing what is random about it."""
        rng = check_generator(self.random_state)
        n_visible, n_hidden = data.rows.n_cols, self.n_components
        is_sequential = self._rng is not None
        dtype = data.dtype if is_sequential else np.dtype(np.float32)
        # scikit-learn's first draw, in its order, so that both start from the same weights.
        W = copy_in_lines(rng.normal(0, 0.01, (n_hidden, n_visible)).T, dtype)
        # Which draws no more before it trains.
        seed = seed_from(copy.deepcopy(rng) if is_sequential else rng)
        b = np.zeros(n_visible, dtype)
        if self.init == "data":
            # Units that are always on or off get the odds of half an exception.
            margin = 0.5 / data.n_rows
            mean = np.clip(mean_of(get_engine(), data), margin, 1 - margin)
            b[:] = np.log(mean / (1 - mean))
            if self._n_labels:
                b[-self._n_labels :] = np.log(mean[-self._n_labels :])
        n_chains = self.batch_size
        if self.algorithm != "cd" and self.n_chains is not None:
            n_chains = self.n_chains
        arrays = TrainingArrays(
            W,
            b,
            np.zeros(n_hidden, dtype),
            empty_bits(n_chains, n_hidden),
            *self._velocities(W),
        )
        return RbmState(self._with_carried(arrays, {}, data), seed=seed)

    def _with_carried(
        self, arrays: TrainingArrays, before: Mapping[str, Array], data: Units | None
    ) -> TrainingArrays:
        """Return arrays with those of the options: as they were before, or to begin with."""
        fresh: dict[str, Array] = {}
        if self.solver != "sgd":
            fresh |= zip(("W_square", "b_square", "c_square"), self._zeros(arrays.W), strict=True)
            fresh["n_squares"] = np.zeros(1, np.int64)
        if self.centering:
            fresh["v_offset"] = expit(arrays.b)
            if data is not None and "v_offset" not in before:
                fresh["v_offset"] = mean_of(get_engine(), data).astype(np.float32)
            fresh["h_offset"] = expit(arrays.c)
        if self.sparsity_target is not None:
            fresh["h_activity"] = np.full_like(arrays.c, self.sparsity_target)
        if self.average != 0:
            fresh |= {f"{name}_average": getattr(arrays, name) for name in ("W", "b", "c")}
            fresh["counts"] = np.zeros(3, np.int64)
        if self.algorithm == "pt":
            n_others = self.n_temperatures - 1
            fresh["replicas"] = empty_bits(n_others * len(arrays.chains), len(arrays.c))
            fresh["base_bias"] = arrays.b
            if data is not None and "base_bias" not in before:
                mean = mean_of(get_engine(), data)
                fresh["base_bias"] = log_odds(mean, data.n_rows)
            fresh["betas"] = np.linspace(1, 0, n_others + 1)
            fresh["exchanges"] = np.zeros((2, n_others), np.int64)
        if self.algorithm == "fpcd":
            names = ("W_fast", "b_fast", "c_fast")
            fresh |= zip(names, self._zeros(arrays.W), strict=True)
        if "completions" in before:
            fresh["completions"] = before["completions"]
        carried = {name: before.get(name, array) for name, array in fresh.items()}
        # Rows of whole cache lines, as W's are.
        copies = {
            name: copy_in_lines(a) if a.ndim == 2 and a.dtype == np.float32 else a.copy()
            for name, a in carried.items()
        }
        return arrays._replace(**copies)

    def _velocities(self, W: Float32) -> tuple[Float32 | None, Float32 | None, Float32 | None]:
        return self._zeros(W) if self._has_velocity else (None, None, None)

    def _zeros(self, W: Float32) -> tuple[Float32, Float32, Float32]:
        n_visible, n_hidden = W.shape
        return (
            copy_in_lines(np.zeros_like(W)),
            np.zeros(n_visible, np.float32),
            np.zeros(n_hidden, np.float32),
        )

    def _state(self, dtype: Any = np.float32, data: Units | None = None) -> RbmState:
        """Return the state that the fitted attributes hold, in arrays of its own.

        What is missing of it, since an option was off, begins with the data.
        """
        W, b, c = self._parameters(dtype)
        if "W" in self._carried:
            W, b, c = (self._carried[name] for name in ("W", "b", "c"))
        velocities: tuple[Any, ...] = self._velocities(W)
        is_same = ("W_square" in self._carried) == (self.solver != "sgd")
        if self._has_velocity and self._velocity is not None and is_same:
            W_velocity, b_velocity, c_velocity = self._velocity
            velocities = copy_in_lines(W_velocity), b_velocity.copy(), c_velocity.copy()
        chains = empty_bits(*self.h_samples_.shape)
        get_engine().pack(np.ascontiguousarray(self.h_samples_, np.float32), chains)
        arrays = TrainingArrays(copy_in_lines(W, dtype), b.copy(), c.copy(), chains, *velocities)
        return RbmState(
            self._with_carried(arrays, self._carried, data),
            self._seed,
            self.n_iter_,
            self._gibbs_steps,
            self._rows_done,
            {name: list(values) for name, values in self.history_.items()},
        )

    def _with_chains_for(self, state: RbmState, n_rows: int) -> RbmState:
        """Return a state whose chains are enough for CD on a minibatch of `n_rows`."""
        if self.algorithm != "cd" or len(state.arrays.chains) >= n_rows:
            return state
        chains = empty_bits(n_rows, state.arrays.W.shape[1])
        state.arrays = state.arrays._replace(chains=chains)
        return state

    def _checkpoint(self, path: str | os.PathLike[str], data: Units) -> BernoulliRBM:
        """Return the estimator in a file, after checking that this one can go on from it."""
        saved: BernoulliRBM = self._load_checkpoint(path)
        if saved.n_features_in_ != self.n_features_in_:
            raise ValueError(
                f"{os.fspath(path)} was trained on {saved.n_features_in_} features, but X has "
                f"{self.n_features_in_}"
            )
        if (saved._generator_state is None) != (self._rng is None):
            whose = ("counter-based numbers", "numbers of a RandomState")
            raise ValueError(
                f"{os.fspath(path)} was trained on {whose[saved._generator_state is not None]}, "
                f"but this estimator draws {whose[self._rng is not None]}"
            )
        names, saved_names = (getattr(rbm, "feature_names_in_", None) for rbm in (self, saved))
        if names is not None and saved_names is not None and list(names) != list(saved_names):
            raise ValueError(f"{os.fspath(path)} was trained on other feature names than X has")
        held = len(saved._carried.get("completions", ()))
        wanted = 0 if data.traits.observed is None else data.n_rows
        if held != wanted:
            raise ValueError(
                f"{os.fspath(path)} holds completions of {held} rows with missing values, but X "
                f"asks for {wanted}"
            )
        saved.momentum = self.momentum  # a schedule may be 0 in the saved epoch
        saved.sparsity_target = self.sparsity_target  # which may come or go
        return saved

    def _publish(self, state: RbmState, dtype: np.dtype[Any], engine: Engine) -> None:
        """Bring the fitted attributes up to date with a state."""
        W, b, c = state.arrays.model
        chains, *velocity = state.arrays[3:7]
        # Copies, because training goes on writing to its arrays; columns in memory order, as
        # scikit-learn has components_, which are W's rows as they are.
        self.components_ = np.array(W, dtype, order="C").T
        self.intercept_visible_ = b.astype(dtype)
        self.intercept_hidden_ = c.astype(dtype)
        h = np.empty((len(chains), W.shape[1]), np.float32)
        engine.unpack(chains, h)
        self.h_samples_ = h.astype(dtype, copy=False)
        self.n_iter_ = state.epoch
        self.history_ = state.history
        self._seed = state.seed
        self._gibbs_steps = state.steps
        self._rows_done = state.rows_done
        rng = self._rng
        self._generator_state = None if rng is None else sequential.save_generator(rng)
        self._velocity = None if velocity[0] is None else tuple(velocity)  # type: ignore[arg-type]
        names: tuple[str, ...] = TrainingArrays._fields[7:]
        if W is not state.arrays.W:  # the model is an average, from which training does not go on
            names = ("W", "b", "c", *names)
        carried = {name: getattr(state.arrays, name) for name in names}
        self._carried = {name: array for name, array in carried.items() if array is not None}

    # ---- the machine ----

    def _parameters(self, dtype: Any = np.float32) -> tuple[Array, Array, Array]:
        """Return W, b and c as the engine takes them; copies only where dtype or layout differ."""
        return (
            np.ascontiguousarray(self.components_.T, dtype),
            np.ascontiguousarray(self.intercept_visible_, dtype),
            np.ascontiguousarray(self.intercept_hidden_, dtype),
        )

    def _ready(self) -> tuple[Engine, Machine]:
        check_is_fitted(self)
        engine = get_engine(self.device, self.n_threads)
        check_word("precision", self.precision, ("auto", "float32"))
        W, b, c = self._parameters()
        machine = engine.machine(W, b, c, self.precision, self._n_labels)  # type: ignore[arg-type]
        return engine, machine

    @property
    def _n_features_out(self) -> int:
        return int(self.components_.shape[0])

    @property
    def _n_visible(self) -> int:
        return int(self.components_.shape[1])

    def transform(self, X: Any) -> Array:
        """Probabilities of the hidden units, p(h = 1 | v) = σ(vW + c).

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1]; others, as scaling by training data leaves a few, are taken as they
            are.

        Returns
        -------
        ndarray of shape (n_samples, n_components)
            Of X's dtype where that is a float; float32 for bool and uint8, else float64.
        """
        if self._rng is not None:
            return sequential.hidden_means(self, self._floats(X))
        engine, machine = self._ready()
        return self._hidden_means(machine, validate_units(self, X, engine, only_units=False))

    def _hidden_means(self, machine: Machine, data: Units) -> Array:
        out = np.empty((data.n_rows, self._n_features_out), np.float32)
        machine.propup(data.rows, out)
        return out.astype(data.dtype, copy=False)

    def inverse_transform(self, H: Any) -> Array:
        """Probabilities of the visible units, p(v = 1 | h) = σ(hWᵀ + b).

        Parameters
        ----------
        H : array of shape (n_samples, n_components)
            Hidden states or probabilities, in [0, 1].

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        engine, machine = self._ready()
        return self._visible_means(machine, units_of_array(engine, H, self._n_features_out, "H"))

    def _visible_means(self, machine: Machine, hidden: Units) -> Array:
        out = np.empty((hidden.n_rows, self._n_visible), np.float32)
        machine.propdown(hidden.rows, out)
        return out.astype(hidden.dtype, copy=False)

    def reconstruct(self, X: Any) -> Array:
        """Probabilities of the visible units after one pass up and down, without sampling.

        σ(pWᵀ + b) with p = σ(vW + c).

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].

        Returns
        -------
        ndarray of shape (n_samples, n_features)
        """
        engine, machine = self._ready()
        data = validate_units(self, X, engine)
        p = np.empty((data.n_rows, self._n_features_out), np.float32)
        machine.propup(data.rows, p)
        out = np.empty((data.n_rows, self._n_visible), np.float32)
        machine.propdown(engine.rows_of_reals(p), out)
        return out.astype(data.dtype, copy=False)

    def gibbs(self, v: Any, n_steps: int = 1) -> Array:
        """Make Gibbs steps v → h → v from given rows. Every call draws anew.

        Parameters
        ----------
        v : array or sparse matrix of shape (n_samples, n_features)
            Values in [0, 1].
        n_steps : int, default=1

        Returns
        -------
        ndarray of bool of shape (n_samples, n_features)
        """
        check_integer("n_steps", n_steps, minimum=1, below=2**56)
        rng = self._rng
        if rng is not None:
            return sequential.gibbs(self, self._floats(v), n_steps, rng)
        engine, machine = self._ready()
        data = validate_units(self, v, engine, name="v")
        draws = Draws(*self._next_draws(n_steps))
        shape = (data.n_rows, self._n_visible, self._n_features_out)
        run = sampling.gibbs_chains(engine, machine, data.rows, shape, [n_steps], None, draws)
        chains = next(run)
        out = np.empty((data.n_rows, self._n_visible), np.bool_)
        engine.unpack(chains.v, out)
        return out

    def sample(
        self,
        n_samples: int = 1,
        n_steps: int | Sequence[int] = 1000,
        init: Any = None,
        return_probabilities: bool = False,
        *,
        method: str = "gibbs",
        clamp: Any = None,
        values: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> Array:
        """Draw from the model, by independent chains.

        Parameters
        ----------
        n_samples : int, default=1
            Number of chains.
        n_steps : int or ascending sequence of int, default=1000
            Gibbs steps of each; with several numbers, the states after each so many are returned.
        init : array of shape (n_samples, n_features), optional
            Where Gibbs chains start; by default each visible unit is drawn by its bias alone.
        return_probabilities : bool, default=False
            Return the probabilities of the last draw instead of the draw.
        method : {"gibbs", "tempered", "annealed"}, default="gibbs"
            Block Gibbs sampling; or at β = 1 among replicas at many temperatures
            (:class:`harmonium.sampling.ParallelTempering`, which adapts them in as many steps
            before); or chains annealed from independent units to the model, one step at each of
            n_steps temperatures. The latter two go where plain chains would take long to.
        clamp : bool array of shape (n_features,) or (n_samples, n_features), optional
            True where a visible unit is held, as pixels are that are known: the others are drawn
            from their distribution given these.
        values : array of shape (n_features,) or (n_samples, n_features), optional
            How they are held: 0 or 1. What it holds elsewhere does not matter.
        random_state : int, RandomState instance or None, default=None
            An int gives the same draws every time; None draws anew in every call.

        Returns
        -------
        ndarray of shape (n_samples, n_features), or (len(n_steps), n_samples, n_features)
            bool states, or probabilities in the dtype of `components_`.
        """
        check_integer("n_samples", n_samples, minimum=1)
        check_word("method", method, ("gibbs", "tempered", "annealed"))
        stops = _stops(n_steps)
        if method != "gibbs" and init is not None:
            raise ValueError(f"init is where Gibbs chains start; method={method!r} has its own")
        if method == "annealed" and len(stops) > 1:
            raise ValueError(
                "annealed chains are the model's at their end alone: n_steps must be one number, "
                f"got {n_steps!r}"
            )
        engine, machine = self._ready()
        held = sampling.clamp_of(engine, clamp, values, n_samples, self._n_visible)
        shape = (n_samples, self._n_visible, self._n_features_out)
        if method == "gibbs":
            start = None
            if init is not None:
                data = validate_units(self, init, engine, name="init")
                if data.n_rows != n_samples:
                    raise ValueError(
                        f"init must have n_samples={n_samples} rows, got {data.n_rows}"
                    )
                start = data.rows
            seed, step = self._next_draws(stops[-1], random_state)
            draws = Draws(seed, step)
            runs = sampling.gibbs_chains(engine, machine, start, shape, stops, held, draws)
        elif method == "tempered":
            replicas = sampling.ParallelTempering(
                self, n_samples, clamp=clamp, values=values, random_state=random_state
            )
            runs = replicas.adapt(stops[-1]).chains_after(stops)
        else:
            draws = separate_draws(*self._next_draws(1, random_state))
            runs = sampling.annealed_chains(engine, machine, shape, stops[0], held, draws)
        dtype = self.components_.dtype if return_probabilities else np.dtype(np.bool_)
        out = np.empty((len(stops), n_samples, self._n_visible), dtype)
        for record, chains in zip(out, runs, strict=True):
            if return_probabilities:
                h = engine.rows_of_bits(chains.h, self._n_features_out)
                record[...] = self._visible_means(machine, Units(h, np.dtype(np.float32)))
            else:
                engine.unpack(chains.v, record)
        return out if np.ndim(n_steps) > 0 else out[0]

    def _next_draws(self, n_steps: int, random_state: Any = None) -> tuple[int, int]:
        """Return the key and the first step of what the user draws in n_steps."""
        if random_state is not None:
            return self._draw_seed() ^ draw_seed(random_state), 0
        # Counted before they run: what Ctrl-C breaks off is not drawn again.
        step = self._n_sampled
        self._n_sampled += n_steps
        return self._draw_seed(), step

    def _draw_seed(self) -> int:
        return sampling_seed(self._seed)

    def free_energy(self, X: Any) -> Array:
        """Free energy F(v) = -b·v - Σⱼ softplus((vW + c)ⱼ) of each row.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        ndarray of float64 of shape (n_samples,)
            In nats; log p(v) = -F(v) - log Z.
        """
        engine, machine = self._ready()
        return self._free_energies(machine, validate_units(self, X, engine, only_units=False))

    def _free_energies(self, machine: Machine, data: Units) -> Array:
        out = np.empty(data.n_rows)
        machine.free_energy(data.rows, out)
        return out

    def score_samples(self, X: Any) -> Array:
        """Stochastic log pseudo-likelihood of each row: n_features · log p(vᵢ | the rest), i drawn.

        Parameters
        ----------
        X : array or sparse matrix of shape (n_samples, n_features)
            As for :meth:`transform`.

        Returns
        -------
        ndarray of float64 of shape (n_samples,)
            In nats. The flipped unit of a row depends on the fitted model's seed and the row's
            number alone, so a repeated call gives the same scores; or, with a RandomState, is
            drawn from that.
        """
        rng = self._rng
        if rng is not None:
            return sequential.score_samples(self, self._floats(X), rng)
        engine, machine = self._ready()
        data = validate_units(self, X, engine, only_units=False)
        out = np.empty(data.n_rows)
        machine.pseudo_likelihood(data.rows, self._draw_seed(), 0, 1, out)
        return out

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

    # ---- files and scikit-learn ----

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "components_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.input_tags.allow_nan = self.missing == "sample"
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _stops(n_steps: Any) -> list[int]:
    """Return after how many steps states are asked for, ascending."""
    stops = [n_steps] if np.ndim(n_steps) == 0 else list(n_steps)
    for stop in stops:
        check_integer("n_steps", stop, minimum=1, below=2**56)
    if not stops or any(a >= b for a, b in itertools.pairwise(stops)):
        raise ValueError(f"n_steps must be a number or ascending numbers, got {n_steps!r}")
    return [int(stop) for stop in stops]
