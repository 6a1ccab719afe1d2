"""How probable data are under a model: log Z exactly or by annealing, and the log-likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonium._arrays import empty_bits, words_for
from harmonium._checks import check_integer, check_word
from harmonium._pace import PIECE_SECONDS, in_pieces, run_chains
from harmonium._random import Draws, draw_seed, separate_draws
from harmonium._visible import draw_rows, pick_rows, validate_units
from harmonium.engine.protocol import (
    STATES_A_PIECE,
    Array,
    Bits,
    Chains,
    Draw,
    Engine,
    Float32,
    Path,
    Rows,
)
from harmonium.rbm import BernoulliRBM
from harmonium.sampling import anneal, base_biases, draw_base

__all__ = [
    "LogLikelihood",
    "LogPartition",
    "log_likelihood",
    "log_partition",
    "pseudo_log_likelihood",
]

MOST_UNITS = 25
"""Of the smaller side: 2²⁵ states take seconds, each unit more twice that."""

_BLOCK = 1 << 16
_PIECES = 256
"""A call: with 784 units on the other side 50 ms, so that Ctrl-C is seen."""


class LogPartition(float):
    """The logarithm of a partition function, in nats, and how far it may be off.

    A float, with

    Attributes
    ----------
    method : {"exact", "ais", "reverse_ais"}
    standard_error : float
        Of log Z, by the spread of the weights; 0 where it is exact. Too small where no chain has
        found a part of the distribution that matters.
    n_eff : float
        So many equal weights would tell as much as these; infinite where it is exact.
    log_weights : ndarray of float64 of shape (n_chains,) or None
        log Z by each chain alone: Z is the mean of their exponentials (for "reverse_ais", 1 / Z
        that of exp(-log_weights)).
    """

    method: str
    standard_error: float
    n_eff: float
    log_weights: NDArray[np.float64] | None

    def __new__(
        cls,
        value: float,
        method: str = "exact",
        standard_error: float = 0.0,
        n_eff: float = math.inf,
        log_weights: NDArray[np.float64] | None = None,
    ) -> LogPartition:
        self = super().__new__(cls, value)
        self.method, self.standard_error, self.n_eff = method, standard_error, n_eff
        self.log_weights = log_weights
        return self

    def __repr__(self) -> str:
        if self.method == "exact":
            return f"LogPartition({float(self)!r})"
        return (
            f"LogPartition({float(self)!r}, method={self.method!r}, "
            f"standard_error={self.standard_error:.3g}, n_eff={self.n_eff:.4g})"
        )


def log_partition(
    rbm: BernoulliRBM,
    method: str = "exact",
    *,
    n_chains: int = 1000,
    betas: Any = 10_000,
    base_rate: Any = None,
    init: Any = None,
    burn_in: int = 1000,
    random_state: int | np.random.RandomState | None = None,
    progress: bool = False,
) -> LogPartition:
    """Logarithm of the partition function Z = Σ exp(-E(v, h)).

    "exact" goes through all states of one side: log Z = log Σ_h exp(c·h + Σᵢ softplus((hWᵀ + b)ᵢ)),
    or the same over v; in float64, from the float32 weights.

    "ais", annealed importance sampling (Neal 2001; Salakhutdinov & Murray 2008), takes chains from
    independent units, whose Z is known, through machines between to this one. The mean of their
    weights is unbiased for Z, so log Z is underestimated on average, by less the closer the
    temperatures are.

    "reverse_ais" takes chains of the model the same way back (Grosse, Ghahramani & Adams 2015). The
    mean of their weights is unbiased for 1 / Z, if the chains are the model's, so log Z is
    overestimated on average. Together the two say how far either is off.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted; for "exact" with at most 25 units on its smaller side.
    method : {"exact", "ais", "reverse_ais"}, default="exact"
    n_chains : int, default=1000
        Annealed chains.
    betas : int or array, default=10000
        Inverse temperatures: how many, from 0 to 1 evenly; or they themselves, ascending from 0 to
        1.
    base_rate : array of shape (n_features,) or (n_samples, n_features), optional
        Means of the visible units at β = 0, strictly between 0 and 1; or data that have them,
        training data best. By default the model's own, estimated by short chains.
    init : array of shape (n_samples, n_features), optional
        With "reverse_ais": rows, training data say, from which chains of the model begin before
        their `burn_in`; values between 0 and 1 are odds of being on. By default chains are annealed
        to the model first, at the same temperatures, and drawn by their weights.
    burn_in : int, default=1000
        With "reverse_ais": Gibbs steps before the chains are taken for the model's.
    random_state : int, RandomState instance or None, default=None
        An int gives the same result every time; None draws anew.
    progress : bool, default=False
        Show a bar.

    Returns
    -------
    LogPartition
        A float, in nats, with a standard error; log p(v) = -F(v) - log Z.

    Raises
    ------
    ValueError
        Both sides have too many units to go through; some units are labels, of which only one can
        be on; a parameter is out of its range.

    Notes
    -----
    Annealing takes the machine of `rbm.precision`: with "auto" weights rounded to 16 bits, as
    :meth:`BernoulliRBM.free_energy` of binary rows does.

    References
    ----------
    Neal (2001), Annealed importance sampling.
    Salakhutdinov & Murray (2008), On the quantitative analysis of deep belief networks.
    Grosse, Ghahramani & Adams (2015), Sandwiching the marginal likelihood using bidirectional Monte
    Carlo.
    """
    check_word("method", method, ("exact", "ais", "reverse_ais"))
    if rbm._n_labels:
        raise ValueError("log Z is of machines without labels; this one is the top of a DBN with")
    if method == "exact":
        return LogPartition(_exact(rbm))
    annealing = _Annealing(rbm, n_chains, betas, base_rate, random_state, progress)
    if method == "ais":
        return annealing.forward()
    check_integer("burn_in", burn_in, minimum=0, below=2**32)
    return annealing.reverse(annealing.model_states(init, burn_in))


@dataclass(frozen=True)
class LogLikelihood:
    """How probable rows are under a model, in nats.

    Attributes
    ----------
    mean : float
        Mean log-likelihood of the rows, -F(v) - log Z with log Z by `log_z`.
    standard_error : float
        Of that mean, by the spread of the rows and, independently, of log Z.
    samples : ndarray of float64 of shape (n_samples,)
        Of each row.
    log_z : LogPartition
        Exact, or by AIS: then an underestimate on average, and `mean` an overestimate.
    log_z_reverse : LogPartition or None
        By reverse AIS: an overestimate on average.
    """

    mean: float
    standard_error: float
    samples: NDArray[np.float64]
    log_z: LogPartition
    log_z_reverse: LogPartition | None

    @property
    def lower(self) -> float:
        """The mean with log Z by reverse AIS: an underestimate on average."""
        return self.mean - self.gap

    @property
    def gap(self) -> float:
        """By how much the two estimates of log Z differ: near 0 when both are right."""
        return 0.0 if self.log_z_reverse is None else float(self.log_z_reverse - self.log_z)


def log_likelihood(
    rbm: BernoulliRBM,
    X: Any,
    *,
    method: str = "auto",
    n_chains: int = 1000,
    betas: Any = 10_000,
    base_rate: Any = None,
    reverse: bool = True,
    burn_in: int = 1000,
    random_state: int | np.random.RandomState | None = None,
    progress: bool = False,
) -> LogLikelihood:
    """Log-likelihood of rows, with log Z exact or between two estimates.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted.
    X : array or sparse matrix of shape (n_samples, n_features)
        Zeros and ones: rows that were not trained on.
    method : {"auto", "exact", "ais"}, default="auto"
        How log Z is found: "auto" takes "exact" where one side has up to 20 units.
    n_chains, betas, burn_in, random_state, progress
        As for :func:`log_partition`.
    base_rate : array, optional
        As for :func:`log_partition`; by default the means of X.
    reverse : bool, default=True
        Find log Z by reverse AIS too, from chains that begin at rows of X, and with it the gap.

    Returns
    -------
    LogLikelihood

    Raises
    ------
    ValueError
        X holds other values than 0 and 1; or as :func:`log_partition`.

    Examples
    --------
    >>> import numpy as np
    >>> from harmonium import BernoulliRBM
    >>> from harmonium.evaluation import log_likelihood
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> rbm = BernoulliRBM(n_components=2, random_state=0).fit(X)
    >>> round(log_likelihood(rbm, X).mean, 2) < 0
    True
    """
    check_word("method", method, ("auto", "exact", "ais"))
    engine, machine = rbm._ready()
    data = validate_units(rbm, X, engine)
    if not data.rows.is_binary:
        raise ValueError(
            "X must hold zeros and ones: a log-likelihood is of states. Binarise first, for "
            "example with load_mnist(binarize='stochastic')"
        )
    energies = np.empty(data.n_rows)
    machine.free_energy(data.rows, energies)
    backward = None
    if method == "exact" or (method == "auto" and min(rbm.components_.shape) <= _QUICK_UNITS):
        log_z = log_partition(rbm)
    else:
        if rbm._n_labels:
            raise ValueError("log Z is of machines without labels; this one has some")
        base = X if base_rate is None else base_rate
        annealing = _Annealing(rbm, n_chains, betas, base, random_state, progress)
        log_z = annealing.forward()
        if reverse:
            check_integer("burn_in", burn_in, minimum=0, below=2**32)
            backward = annealing.reverse(annealing.model_states(X, burn_in))
    samples = -energies - log_z
    spread = float(samples.std(ddof=1)) / math.sqrt(data.n_rows) if data.n_rows > 1 else math.nan
    error = math.hypot(spread, log_z.standard_error)
    return LogLikelihood(float(samples.mean()), error, samples, log_z, backward)


_QUICK_UNITS = 20


def pseudo_log_likelihood(
    rbm: BernoulliRBM,
    X: Any,
    *,
    method: str = "exact",
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.float64]:
    """Log pseudo-likelihood of each row: Σᵢ log p(vᵢ | all other units).

    Needs no log Z, as log p(vᵢ | the rest) = -softplus(F(v) - F(v with i flipped)) (Besag 1975;
    Hyvärinen 2006 for Boltzmann machines). Real values are taken as they are; flipped they are
    1 - v.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted. Labels, at the top of a DBN that has them, are never flipped.
    X : array or sparse matrix of shape (n_samples, n_features)
        As for :meth:`BernoulliRBM.transform`.
    method : {"exact", "stochastic"}, default="exact"
        "exact" flips every unit of a row in turn; about 30 µs a row of 784 binary units with 500
        hidden ones on a core, ten times that where values are neither 0 nor 1. "stochastic" flips
        one that is drawn and counts it n_features times: an unbiased estimate for the price of a
        free energy, which scatters by some tens of nats a row.
    random_state : int, RandomState instance or None, default=None
        What "stochastic" draws with; None draws as :meth:`BernoulliRBM.score_samples`, and "exact"
        draws nothing.

    Returns
    -------
    ndarray of float64 of shape (n_samples,)
        In nats.

    Raises
    ------
    ValueError
        `method` is unknown, or X holds NaN or infinities or has another number of columns than
        the machine has visible units.
    """
    check_word("method", method, ("exact", "stochastic"))
    if method == "stochastic" and random_state is None:
        return np.asarray(rbm.score_samples(X))
    engine, machine = rbm._ready()
    rows = validate_units(rbm, X, engine, only_units=False).rows
    out = np.empty(rows.n_rows)
    if method == "stochastic":
        machine.pseudo_likelihood(rows, rbm._draw_seed() ^ draw_seed(random_state), 0, 1, out)
        return out
    for done, piece in in_pieces(len(out), int(PIECE_SECONDS / (1e-10 * rbm.components_.size))):
        machine.exact_pseudo_likelihood(rows, done, piece, out[done : done + piece])
    return out


# ---- annealing ----


class _Annealing:
    """Chains between independent units and a model, there and back."""

    def __init__(
        self,
        rbm: BernoulliRBM,
        n_chains: int,
        betas: Any,
        base_rate: Any,
        random_state: Any,
        progress: bool,
    ) -> None:
        check_integer("n_chains", n_chains, minimum=2, below=2**31)
        self._engine, self._machine = rbm._ready()
        self._rbm, self._n, self._progress = rbm, n_chains, progress
        self._n_visible, self._n_hidden = rbm._n_visible, rbm._n_features_out
        self._betas = _checked_betas(betas)
        self._draws: Draws = separate_draws(*rbm._next_draws(1, random_state))
        self._base_bias = base_biases(rbm, self._engine, self._machine, base_rate, self._draws)
        softplus = np.logaddexp(0, self._base_bias.astype(np.float64))
        self._log_z_base = float(softplus.sum()) + self._n_hidden * math.log(2)

    def forward(self) -> LogPartition:
        log_weights = self._anneal()[1] + self._log_z_base
        return _estimate(log_weights, "ais")

    def _anneal(self) -> tuple[Chains, NDArray[np.float64]]:
        draws = self._draws
        start = Draw(draws.seed, draws.take(1))
        chains = self._chains(draw_base(self._engine, self._base_bias, self._n, start))
        return chains, self._along(self._betas, chains, "AIS")

    def reverse(self, states: Bits) -> LogPartition:
        """`states` are the model's; they are annealed to the base in place."""
        log_weights = self._along(self._betas[::-1], self._chains(states), "Reverse AIS")
        return _estimate(self._log_z_base - log_weights, "reverse_ais")

    def _along(self, betas: NDArray[np.float64], chains: Chains, title: str) -> NDArray[np.float64]:
        path = Path(self._base_bias, np.ascontiguousarray(betas))
        shown = title if self._progress else None
        return anneal(self._machine, path, chains, self._draws, title=shown)

    def _chains(self, v: Bits) -> Chains:
        return Chains(v, empty_bits(self._n, self._n_hidden))

    def model_states(self, init: Any, burn_in: int) -> Bits:
        """Return visible states that are the model's, or nearly."""
        if init is None:
            chains, log_weights = self._anneal()
            chosen = _resampled(log_weights, self._draws)
            v = chains.v[chosen]
        else:
            v = self._rows_to_begin_at(init)
        chains = self._chains(v)
        if burn_in:
            start = self._engine.rows_of_bits(v, self._n_visible)
            chains = self._chains(empty_bits(self._n, self._n_visible))
            draws = self._draws
            step = draws.take(burn_in)
            run_chains(self._engine, self._machine, start, chains, burn_in, draws.seed, step)
        return chains.v

    def _rows_to_begin_at(self, init: Any) -> Bits:
        """Return rows of data for all chains, in turns where there are fewer."""
        engine, draws = self._engine, self._draws
        rows: Rows = validate_units(self._rbm, init, engine, name="init").rows
        rows = draw_rows(engine, pick_rows(engine, rows, self._n), draws.seed, draws.take(1))
        words = empty_bits(self._n, self._n_visible)
        values = np.empty((rows.n_rows, self._n_visible), np.float32)
        rows.copy_values(np.arange(rows.n_rows), values)
        engine.pack(values[np.arange(self._n) % rows.n_rows], words)
        return words


def _checked_betas(betas: Any) -> NDArray[np.float64]:
    if np.ndim(betas) == 0:
        check_integer("betas", betas, minimum=2, below=2**31)
        return np.asarray(np.linspace(0, 1, betas))
    path: NDArray[np.float64] = np.array(betas, np.float64)
    ascends = path.ndim == 1 and len(path) >= 2 and bool((np.diff(path) > 0).all())
    if not (ascends and path[0] == 0 and path[-1] == 1):
        raise ValueError(f"betas must be a number of them, or ascend from 0 to 1; got {betas}")
    return path


def _estimate(log_weights: NDArray[np.float64], method: str) -> LogPartition:
    """Return the logarithm of the mean weight; of its inverse, where weights are those of 1 / Z."""
    sign = -1.0 if method == "reverse_ais" else 1.0
    signed = sign * log_weights
    most = signed.max()
    weights = np.exp(signed - most)
    mean = float(weights.mean())
    error = float(weights.std(ddof=1)) / mean / math.sqrt(len(weights))
    n_eff = float(weights.sum() ** 2 / np.square(weights).sum())
    value = sign * (float(most) + math.log(mean))
    return LogPartition(value, method, error, n_eff, log_weights)


def _resampled(log_weights: NDArray[np.float64], draws: Draws) -> Array:
    """Return which chains stand for the model: as often as by their weights (systematically)."""
    weights = np.exp(log_weights - log_weights.max())
    places = np.cumsum(weights) / weights.sum()
    n = len(weights)
    rng = np.random.RandomState([draws.seed & 0xFFFFFFFF, draws.take(1) & 0xFFFFFFFF])
    chosen = np.searchsorted(places, (np.arange(n) + rng.random_sample()) / n)
    return np.asarray(np.minimum(chosen, n - 1))


# ---- all states ----


def _exact(rbm: BernoulliRBM) -> float:
    engine = rbm._ready()[0]
    W, b, c = rbm._parameters()
    n_visible, n_hidden = W.shape
    if min(W.shape) > MOST_UNITS:
        raise ValueError(
            f"method='exact' goes through all states of one side, which may have up to "
            f"{MOST_UNITS} units; this machine has {n_visible} visible and {n_hidden} hidden ones: "
            "take method='ais'"
        )
    if n_visible > n_hidden:
        W, b, c = np.ascontiguousarray(W.T), c, b
    total = _log_sum(engine, W, b, c)
    return _log_sum_by_free_energies(engine, W, b, c) if total is None else total


def _log_sum(engine: Engine, W: Float32, b: Float32, c: Float32) -> float | None:
    """Return the sum over the states of W's rows; None where odds could overflow."""
    n_pieces = max(1, 2 ** len(W) // STATES_A_PIECE)
    sums = []
    for begin in range(0, n_pieces, _PIECES):
        part = engine.log_sum_of_states(W, b, c, begin, min(begin + _PIECES, n_pieces))
        if part is None:
            return None
        sums.append(part)
    return float(np.logaddexp.reduce(sums))


def _log_sum_by_free_energies(engine: Engine, W: Float32, b: Float32, c: Float32) -> float:
    """Return the same for weights of any size, at a tenth of the speed."""
    machine = engine.machine(W, b, c, "float32")
    n_units = len(W)
    total = -math.inf
    for first in range(0, 1 << n_units, _BLOCK):
        states = np.arange(first, min(first + _BLOCK, 1 << n_units), dtype=np.uint64)
        words = np.zeros((len(states), words_for(n_units)), np.uint64)
        words[:, 0] = states
        energies = np.empty(len(states))
        machine.free_energy(engine.rows_of_bits(words, n_units), energies)
        total = float(np.logaddexp.reduce(np.append(-energies, total)))
    return total
