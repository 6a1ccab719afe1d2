"""How probable data are under a model: log Z exactly or by annealing, and the log-likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harmonium._arrays import words_for
from harmonium._checks import check_integer, check_word
from harmonium._pace import PIECE_SECONDS, in_pieces
from harmonium._random import draw_seed, separate_draws
from harmonium._visible import validate_units
from harmonium.annealing import Annealing, LogPartition
from harmonium.engine.protocol import STATES_A_PIECE, Engine, Float32
from harmonium.rbm import BernoulliRBM
from harmonium.sampling import base_biases

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
        Means of the visible units at β = 0, strictly between 0 and 1; or data that have them. By
        default the model's own, estimated by short chains.
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
    _require_no_labels(rbm)
    if method == "exact":
        return LogPartition(_exact(rbm))
    annealing = _annealing(rbm, n_chains, betas, base_rate, random_state, progress)
    if method == "ais":
        return annealing.forward()
    return _reverse(annealing, rbm, init, burn_in)


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
        As for :func:`log_partition`. Means of data are a good base only for a model of just these
        data: one that is elsewhere too, as after a short training, is not found from there.
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
        _require_no_labels(rbm)
        annealing = _annealing(rbm, n_chains, betas, base_rate, random_state, progress)
        log_z = annealing.forward()
        if reverse:
            backward = _reverse(annealing, rbm, X, burn_in)
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


def _require_no_labels(rbm: BernoulliRBM) -> None:
    if rbm._n_labels:
        raise ValueError("log Z is of machines without labels; this one is the top of a DBN with")


# ---- annealing ----


def _annealing(
    rbm: BernoulliRBM, n_chains: int, betas: Any, base_rate: Any, random_state: Any, progress: bool
) -> Annealing:
    check_integer("n_chains", n_chains, minimum=2, below=2**31)
    path = _checked_betas(betas)
    engine, machine = rbm._ready()
    draws = separate_draws(*rbm._next_draws(1, random_state))
    base_bias = base_biases(rbm, engine, machine, base_rate, draws)
    n_hidden = rbm._n_features_out
    return Annealing(engine, machine, base_bias, n_hidden, n_chains, path, draws, progress)


def _reverse(annealing: Annealing, rbm: BernoulliRBM, init: Any, burn_in: int) -> LogPartition:
    """Anneal back from chains that begin at given rows, or at annealed ones."""
    check_integer("burn_in", burn_in, minimum=0, below=2**32)
    if init is None:
        start = annealing.resampled()
    else:
        start = annealing.rows_to_begin_at(validate_units(rbm, init, rbm._ready()[0], name="init"))
    return annealing.reverse(annealing.burnt_in(start, burn_in))


def _checked_betas(betas: Any) -> NDArray[np.float64]:
    if np.ndim(betas) == 0:
        check_integer("betas", betas, minimum=2, below=2**31)
        return np.asarray(np.linspace(0, 1, betas))
    path: NDArray[np.float64] = np.array(betas, np.float64)
    ascends = path.ndim == 1 and len(path) >= 2 and bool((np.diff(path) > 0).all())
    if not (ascends and path[0] == 0 and path[-1] == 1):
        raise ValueError(f"betas must be a number of them, or ascend from 0 to 1; got {betas}")
    return path


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
    return sum_of_all_states(engine, W, b, c)


def sum_of_all_states(engine: Engine, W: Float32, b: Float32, c: Float32) -> float:
    """Return log Z, going through the states of the smaller side, however many they are."""
    if W.shape[0] > W.shape[1]:
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
