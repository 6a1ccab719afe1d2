"""The tutorials' restricted Boltzmann machine, each update of which is one compiled call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from harmonium._arrays import copy_transposed, empty_bits
from harmonium._checks import check_bool, check_integer, check_real
from harmonium._pace import run_chains
from harmonium._random import sampling_seed
from harmonium._visible import units_of_array, values_of
from harmonium.compat.tutorial.arguments import check_numpy_rng, check_theano_rng, refuse_graph
from harmonium.compat.tutorial.shared import Derived, SharedArray, parameter, versions
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    Array,
    Bits,
    Chains,
    Draw,
    Float32,
    Machine,
    Precision,
    Rows,
    Stream,
    Trainer,
    TrainingArrays,
    TrainingRule,
)
from harmonium.networks import glorot_sigmoid

_STATE_DTYPES = (np.dtype(bool), np.dtype(np.uint8), np.dtype(np.float32), np.dtype(np.float64))


@dataclass
class _Training:
    """A trainer, which keeps weights in 16 bits in step with W as long as nobody else moves it."""

    persistent: bool
    n_gibbs_steps: int
    chains: Bits
    trainer: Trainer
    versions: tuple[int, ...]  # of the parameters, after its last update


class RBM:
    """Restricted Boltzmann machine with binary units, by contrastive divergence.

    p(h = 1 | v) = σ(vW + hbias), p(v = 1 | h) = σ(hWᵀ + vbias). Units are given as two-dimensional
    arrays of values in [0, 1], of any numeric dtype; results are float32, and samples zeros and
    ones. Draws are counter-based (Philox): their numbers depend on the seed and on how much was
    drawn before, not on the number of threads.

    Parameters
    ----------
    input : None
        There was a symbolic variable; nothing is symbolic here.
    n_visible : int, default=784
    n_hidden : int, default=500
    W : array-like of shape (n_visible, n_hidden), optional
    hbias : array-like of shape (n_hidden,), optional
    vbias : array-like of shape (n_visible,), optional
        A :class:`SharedArray` is shared with whoever has it, say a layer of a network; anything
        else is copied, as float32. By default W is drawn from `numpy_rng`, uniform in
        ±4·√(6 / (n_visible + n_hidden)), the values that the tutorial draws from the same generator
        with ``floatX=float32``; biases are 0.
    numpy_rng : numpy.random.RandomState, optional
        ``RandomState(1234)`` by default.
    theano_rng : int in [0, 2**64), optional
        The seed of all draws. By default ``numpy_rng.randint(2**30)``, taken before W is drawn.

    Attributes
    ----------
    W, hbias, vbias : SharedArray of float32
        Always the current values; other values are set with ``W.set_value(values)``.
    params : list
        ``[W, hbias, vbias]``.
    n_visible, n_hidden : int
    bit_i_idx : int
        The pixel that the next pseudo-likelihood cost flips.

    Raises
    ------
    ValueError, TypeError
        An argument is out of its range, of another shape, or of the wrong type.

    References
    ----------
    Deep Learning Tutorials (deeplearning.net), "Restricted Boltzmann Machines"; Hinton (2002),
    Training products of experts by minimizing contrastive divergence; Tieleman (2008), Training
    restricted Boltzmann machines using approximations to the likelihood gradient.

    Examples
    --------
    >>> import numpy as np
    >>> from harmonium.compat.tutorial import RBM
    >>> x = np.array([[0, 1, 1], [1, 1, 0]])
    >>> rbm = RBM(n_visible=3, n_hidden=2)
    >>> persistent_chain = np.zeros((2, 2))
    >>> cost = rbm.train_batch(x, lr=0.1, persistent=persistent_chain, k=15)
    >>> pre_sigmoid, mean, sample = rbm.sample_h_given_v(x)
    >>> sample.shape
    (2, 2)
    """

    def __init__(
        self,
        input: None = None,
        n_visible: int = 784,
        n_hidden: int = 500,
        W: Any = None,
        hbias: Any = None,
        vbias: Any = None,
        numpy_rng: np.random.RandomState | None = None,
        theano_rng: int | None = None,
    ) -> None:
        refuse_graph("input", input)
        self.n_visible = check_integer("n_visible", n_visible, minimum=1, below=2**31)
        self.n_hidden = check_integer("n_hidden", n_hidden, minimum=1, below=2**31)
        rng = check_numpy_rng("numpy_rng", numpy_rng)
        self._seed = check_theano_rng(theano_rng, rng)
        shape = self.n_visible, self.n_hidden
        self._W = parameter("W", W, shape, lambda: glorot_sigmoid(rng, shape)[0][0])
        self._hbias = parameter("hbias", hbias, shape[1:], lambda: np.zeros(shape[1]))
        self._vbias = parameter("vbias", vbias, shape[:1], lambda: np.zeros(shape[0]))
        self.params = [self._W, self._hbias, self._vbias]
        self.bit_i_idx = 0
        self._gibbs_steps = 0  # of training
        self._draws = 0  # of the methods that sample
        self._begin()

    def _begin(self) -> None:
        """Set up what is derived from the parameters, and not saved with them."""
        self._engine = get_engine()
        self._WT = np.zeros((self.n_hidden, self.n_visible), np.float32)
        self._transposed = Derived(self._transpose, self._W)
        self._up = Derived(lambda: self._up_machine("auto"), *self.params)
        self._down = Derived(lambda: self._down_machine("auto"), *self.params)
        self._training: _Training | None = None

    def __getstate__(self) -> dict[str, Any]:
        derived = ("_engine", "_WT", "_transposed", "_up", "_down", "_training")
        return {name: value for name, value in self.__dict__.items() if name not in derived}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    @property
    def W(self) -> SharedArray:
        return self._W

    @property
    def hbias(self) -> SharedArray:
        return self._hbias

    @property
    def vbias(self) -> SharedArray:
        return self._vbias

    # ---- conditionals and chains ----

    def propup(self, vis: Any) -> list[Float32]:
        """Hidden units given visible ones.

        Parameters
        ----------
        vis : array-like of shape (n, n_visible)
            States or probabilities: values in [0, 1].

        Returns
        -------
        [pre_sigmoid, mean] : float32 arrays of shape (n, n_hidden)
            vis·W + hbias, and σ of it.
        """
        return self._mean(self._up(), self._units("vis", vis, self.n_visible), self.n_hidden)

    def propdown(self, hid: Any) -> list[Float32]:
        """Visible units given hidden ones: ``[pre_sigmoid, mean]`` as of :meth:`propup`."""
        return self._mean(self._down(), self._units("hid", hid, self.n_hidden), self.n_visible)

    def sample_h_given_v(self, v0_sample: Any) -> list[Float32]:
        """Draw hidden states from p(h | v): ``[pre_sigmoid, mean, sample]``."""
        rows = self._units("v0_sample", v0_sample, self.n_visible)
        return self._sample_h(rows, self._take_draws(1))

    def sample_v_given_h(self, h0_sample: Any) -> list[Float32]:
        """Draw visible states from p(v | h): ``[pre_sigmoid, mean, sample]``."""
        rows = self._units("h0_sample", h0_sample, self.n_hidden)
        return self._sample_v(rows, self._take_draws(1))

    def gibbs_hvh(self, h0_sample: Any) -> list[Float32]:
        """One Gibbs step from hidden states.

        Parameters
        ----------
        h0_sample : array-like of shape (n, n_hidden)

        Returns
        -------
        [pre_sigmoid_v, v_mean, v_sample, pre_sigmoid_h, h_mean, h_sample] : float32 arrays
        """
        rows = self._units("h0_sample", h0_sample, self.n_hidden)
        step = self._take_draws(1)
        v = self._sample_v(rows, step)
        return v + self._sample_h(self._states(v[2]), step)

    def gibbs_vhv(self, v0_sample: Any, n_steps: int = 1) -> list[Float32]:
        """Gibbs steps from visible states.

        Parameters
        ----------
        v0_sample : array-like of shape (n, n_visible)
        n_steps : int, default=1
            What the tutorials do with ``theano.scan``: so many steps, of which the last is
            returned. The same states as from so many calls, several times as fast.

        Returns
        -------
        [pre_sigmoid_h, h_mean, h_sample, pre_sigmoid_v, v_mean, v_sample] : float32 arrays
        """
        check_integer("n_steps", n_steps, minimum=1, below=2**32)
        rows = self._units("v0_sample", v0_sample, self.n_visible)
        step = self._take_draws(n_steps)
        if n_steps > 1:
            n = rows.n_rows
            chains = Chains(empty_bits(n, self.n_visible), empty_bits(n, self.n_hidden))
            seed = sampling_seed(self._seed)
            run_chains(self._engine, self._up(), rows, chains, n_steps - 1, seed, step)
            rows = self._engine.rows_of_bits(chains.v, self.n_visible)
            step += n_steps - 1
        h = self._sample_h(rows, step)
        return h + self._sample_v(self._states(h[2]), step)

    def free_energy(self, v_sample: Any) -> Array:
        """F(v) = -v·vbias - Σⱼ softplus((vW + hbias)ⱼ) of each row, in nats; float64."""
        rows = self._units("v_sample", v_sample, self.n_visible)
        energies = np.empty(rows.n_rows)
        self._up().free_energy(rows, energies)
        return energies

    # ---- training ----

    def train_batch(
        self,
        x: Any,
        lr: float = 0.1,
        persistent: Array | None = None,
        k: int = 1,
        *,
        cost: bool = True,
    ) -> float | None:
        """Make one update of CD-k, or PCD-k: what the tutorial compiles of `get_cost_updates`.

        params += lr · (⟨∂(-F)⟩ over the rows of x - the same over the visible states at the chains'
        ends), each a mean, all of it with the parameters from before the update. x enters as it
        is, grey values as probabilities; the chains are states.

        Parameters
        ----------
        x : array-like of shape (n, n_visible)
            A minibatch; values in [0, 1].
        lr : float, default=0.1
        persistent : ndarray of shape (n_chains, n_hidden), optional
            Hidden states of persistent chains, zeros and ones of dtype bool, uint8, float32 or
            float64: changed in place. The tutorial has as many chains as rows; any number will do.
            None is CD: chains that start at x.
        k : int, default=1
            Gibbs steps.
        cost : bool, default=True
            Whether to compute the monitoring cost. It adds a fifth to an update of PCD-15 on
            twenty rows. One of CD-1 on ten rows takes two to three times as long with it, for it
            wants Wᵀ as floats, which no update needs: compute it for some minibatches only.

        Returns
        -------
        float or None
            The monitoring cost, with the parameters from before the update: for PCD
            :meth:`get_pseudo_likelihood_cost` of x, for CD :meth:`get_reconstruction_cost` of x and
            the chains' ends. None without `cost`.

        Raises
        ------
        ValueError, TypeError
            An argument has another shape or dtype, or values out of its range.
        FloatingPointError
            The parameters became infinite or not a number, as they now are.
        """
        check_real("lr", lr, minimum=0.0)
        check_integer("k", k, minimum=1, below=2**31)
        check_bool("cost", cost)
        if persistent is not None:
            self._check_chains(persistent)
        return self._train(self._units("x", x, self.n_visible), lr, persistent, k, cost)

    def get_pseudo_likelihood_cost(self, x: Any) -> float:
        """Stochastic pseudo-likelihood, the tutorial's cost for PCD.

        The mean over rows of n_visible · log σ(F(x with one pixel flipped) - F(x)), x rounded to
        zeros and ones (0.5 to 0). The pixel is number `bit_i_idx`, which moves on to the next.

        Parameters
        ----------
        x : array-like of shape (n, n_visible)
            Values in [0, 1].

        Returns
        -------
        float
            In nats; greater is better.
        """
        return self._pseudo_likelihood_cost(self._units("x", x, self.n_visible))

    def get_reconstruction_cost(self, x: Any, pre_sigmoid_nv: Any) -> float:
        """Cross-entropy of x and its reconstruction, the tutorial's cost for CD.

        The mean over rows of Σᵢ xᵢ·log σ(aᵢ) + (1 - xᵢ)·log(1 - σ(aᵢ)).

        Parameters
        ----------
        x : array-like of shape (n, n_visible)
            Values in [0, 1].
        pre_sigmoid_nv : array-like of shape (n, n_visible)
            The a of the reconstruction: what :meth:`propdown` returns first.

        Returns
        -------
        float
            In nats; greater is better.
        """
        rows = self._units("x", x, self.n_visible)
        a = np.ascontiguousarray(pre_sigmoid_nv, np.float32)
        if a.shape != (rows.n_rows, self.n_visible):
            raise ValueError(
                f"pre_sigmoid_nv must have the shape of x, {(rows.n_rows, self.n_visible)}; "
                f"got {a.shape}"
            )
        return self._reconstruction_cost(values_of(rows), a)

    def get_cost_updates(self, lr: Any = 0.1, persistent: Any = None, k: int = 1) -> NoReturn:
        """Not here: it returned Theano expressions. :meth:`train_batch` makes the update."""
        raise NotImplementedError(
            "get_cost_updates built a graph for theano.function. Call "
            "train_batch(x, lr=..., persistent=..., k=...) for every minibatch instead: it makes "
            "the update and returns the monitoring cost"
        )

    def _train(
        self, rows: Rows, lr: float, persistent: Array | None, k: int, cost: bool
    ) -> float | None:
        """Make the update with arguments that have been checked."""
        n = rows.n_rows
        n_chains = n if persistent is None else len(persistent)
        training = self._training_of(persistent is not None, k, n_chains)
        monitored = before = None
        if persistent is not None:
            states = np.ascontiguousarray(persistent)
            if not self._engine.pack(states, training.chains)[0]:
                raise ValueError("persistent must hold zeros and ones, the states of the chains")
            if cost:
                monitored = self._pseudo_likelihood_cost(rows)
        elif cost:
            before = self._down_machine("float32")
        try:
            training.trainer.run(rows, None, 0, n, n, self._gibbs_steps, float(lr), 0.0)
        except FloatingPointError:
            raise FloatingPointError(
                f"training diverged: the parameters became infinite or not a number at lr={lr:g}; "
                "try a smaller one"
            ) from None
        finally:
            for array in self.params:
                array.changed()
        training.versions = versions(self.params)
        self._gibbs_steps += k
        if persistent is not None:
            states = np.empty(persistent.shape, np.float32)
            self._engine.unpack(training.chains, states)
            persistent[...] = states
        if before is not None:
            # CD leaves the hidden states that the last visible ones were drawn from.
            h = self._engine.rows_of_bits(training.chains[:n], self.n_hidden)
            a = np.empty((n, self.n_visible), np.float32)
            before.preactivations(h, a)
            monitored = self._reconstruction_cost(values_of(rows), a)
        return monitored

    def _training_of(self, persistent: bool, k: int, n_chains: int) -> _Training:
        """Return the trainer of the last update or, where it does not fit, a new one."""
        now = versions(self.params)
        before = self._training
        if before is not None and before.versions == now:
            room = len(before.chains)
            # CD has a chain for each row, of which a last minibatch may have fewer.
            has_room = room == n_chains if persistent else room >= n_chains
            if has_room and (before.persistent, before.n_gibbs_steps) == (persistent, k):
                return before
        chains = empty_bits(n_chains, self.n_hidden)
        W, hbias, vbias = (array.memory for array in self.params)
        trainer = self._engine.trainer(
            TrainingArrays(W, vbias, hbias, chains),
            TrainingRule(k, persistent, l1=0.0, l2=0.0, seed=self._seed),
            "auto",
        )
        self._training = _Training(persistent, k, chains, trainer, now)
        return self._training

    def _pseudo_likelihood_cost(self, rows: Rows) -> float:
        n, word, bit = rows.n_rows, *divmod(self.bit_i_idx, 64)
        words = empty_bits(2 * n, self.n_visible)
        self._engine.pack(values_of(rows) > 0.5, words[:n])
        words[n:] = words[:n]
        words[n:, word] ^= np.uint64(1 << bit)
        energies = np.empty(2 * n)
        # Weights in 16 bits would have to be made first, which takes as long again.
        self._up_machine("float32").free_energy(
            self._engine.rows_of_bits(words, self.n_visible), energies
        )
        self.bit_i_idx = (self.bit_i_idx + 1) % self.n_visible
        return -self.n_visible * float(np.logaddexp(0, energies[:n] - energies[n:]).mean())

    def _reconstruction_cost(self, x: Float32, a: Float32) -> float:
        # x·log σ(a) + (1 - x)·log(1 - σ(a)) = x·a - softplus(a)
        softplus = np.empty_like(a)
        self._engine.softplus(a, softplus)
        return float(np.sum(x * a - softplus, dtype=np.float64)) / len(a)

    # ---- machines ----

    def _up_machine(self, precision: Precision) -> Machine:
        W, hbias, vbias = (array.memory for array in self.params)
        return self._engine.machine(W, vbias, hbias, precision)

    def _down_machine(self, precision: Precision) -> Machine:
        """Return the machine that is this one upside down.

        Its pre-activations are those of our visible units, the same bits as in the machine itself.
        It keeps to the parameters as they are now, whatever becomes of them.
        """
        b, c = self._hbias.get_value(), self._vbias.get_value()
        return self._engine.machine(self._transposed(), b, c, precision)

    def _transpose(self) -> Float32:
        copy_transposed(self._W.memory, self._WT)
        return self._WT

    def _mean(self, machine: Machine, rows: Rows, n_units: int) -> list[Float32]:
        pre_sigmoid = np.empty((rows.n_rows, n_units), np.float32)
        machine.preactivations(rows, pre_sigmoid)
        mean = np.empty_like(pre_sigmoid)
        self._engine.sigmoid(pre_sigmoid, mean)
        return [pre_sigmoid, mean]

    def _sample_h(self, v: Rows, step: int) -> list[Float32]:
        return self._sample(self._up(), v, self.n_hidden, step, Stream.HIDDEN)

    def _sample_v(self, h: Rows, step: int) -> list[Float32]:
        return self._sample(self._down(), h, self.n_visible, step, Stream.VISIBLE)

    def _sample(
        self, machine: Machine, rows: Rows, n_units: int, step: int, stream: Stream
    ) -> list[Float32]:
        pre_sigmoid, mean = self._mean(machine, rows, n_units)
        sample = np.empty_like(mean)
        draw = Draw(sampling_seed(self._seed), step, stream)
        self._engine.sample_bernoulli(mean, sample, draw)
        return [pre_sigmoid, mean, sample]

    def _take_draws(self, n: int) -> int:
        """Return the number of the next draw, of n."""
        step = self._draws
        self._draws += n
        return step

    def _states(self, sample: Float32) -> Rows:
        words = empty_bits(*sample.shape)
        self._engine.pack(sample, words)
        return self._engine.rows_of_bits(words, sample.shape[1])

    def _units(self, name: str, value: Any, n_units: int) -> Rows:
        return units_of_array(self._engine, value, n_units, name).rows

    def _check_chains(self, persistent: Any) -> None:
        if not isinstance(persistent, np.ndarray) or persistent.dtype not in _STATE_DTYPES:
            kind = getattr(persistent, "dtype", type(persistent).__name__)
            raise TypeError(
                "persistent must be a NumPy array of bool, uint8, float32 or float64, which is "
                f"changed in place; got {kind}"
            )
        if persistent.ndim != 2 or len(persistent) == 0 or persistent.shape[1] != self.n_hidden:
            raise ValueError(
                f"persistent must have a row for each chain, at least one, and {self.n_hidden} "
                f"columns; got shape {persistent.shape}"
            )
        if not persistent.flags.writeable:
            raise ValueError("persistent must be writeable, for it is changed in place")
