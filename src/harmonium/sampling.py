"""Chains beside plain Gibbs sampling: annealed ones, and replicas at many temperatures.

Both go through machines between a base, whose visible units know nothing of one another, and the
RBM: at inverse temperature β the energy is -((1 - β)·b₀ + β·b)·v - β·(c·h + vᵀWh).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonium._arrays import empty_bits
from harmonium._checks import check_integer
from harmonium._pace import draw_by_bias, in_pieces, run_chains, under_a_bar
from harmonium._random import Draws, separate_draws
from harmonium._visible import mean_of, units_of_array, validate_units, values_of
from harmonium.annealing import anneal, draw_base, log_odds
from harmonium.engine.protocol import (
    Array,
    Bits,
    Chains,
    Clamp,
    Draw,
    Engine,
    Float32,
    Machine,
    Path,
    Rows,
)

if TYPE_CHECKING:
    from harmonium.rbm import BernoulliRBM

__all__ = ["ParallelTempering"]


FIRST_TEMPERATURES = 20
MOST_TEMPERATURES = 500
FIRST_ADAPTATION = 50
"""Steps of the first round of :meth:`ParallelTempering.adapt`."""


# ---- what is held ----


def clamp_of(
    engine: Engine, clamp: Any, values: Any, n_chains: int, n_visible: int
) -> Clamp | None:
    """Validate which visible units chains leave alone, and how they are."""
    if clamp is None and values is None:
        return None
    if clamp is None or values is None:
        missing = "values" if values is None else "clamp"
        raise ValueError(
            "clamp says which units are held and values how they are; "
            f"got one of them, but no {missing}"
        )
    mask, held = np.asarray(clamp), np.asarray(values)
    for name, array in (("clamp", mask), ("values", held)):
        if array.shape not in ((n_visible,), (n_chains, n_visible)):
            raise ValueError(
                f"{name} must have the shape ({n_visible},), or ({n_chains}, {n_visible}) with a "
                f"row for each sample; got {array.shape}"
            )
    if mask.dtype != np.bool_:
        raise TypeError(f"clamp must be of dtype bool, True where a unit is held; got {mask.dtype}")
    held = np.where(mask, held, 0)
    wrong = held[(held != 0) & (held != 1)]
    if wrong.size:
        raise ValueError(f"values must be 0 or 1 where clamp is True; got {wrong.flat[0]!r}")
    return Clamp(_bits(engine, mask), _bits(engine, held))


def _bits(engine: Engine, values: Array) -> Bits:
    rows = np.ascontiguousarray(np.atleast_2d(values) != 0)
    words = empty_bits(*rows.shape)
    engine.pack(rows, words)
    return words


def hold(words: Bits, clamp: Clamp | None) -> None:
    """Set what is held, in place."""
    if clamp is not None:
        words[...] = (words & ~clamp.mask) | (clamp.values & clamp.mask)


# ---- the base ----

OWN_CHAINS, OWN_STEPS = 256, 100
"""From which a machine's own means are estimated, where no data are given: a base need not be
exact, only near."""


def base_biases(
    rbm: BernoulliRBM, engine: Engine, machine: Machine, base_rate: Any, draws: Draws
) -> Float32:
    """Return the biases at β = 0: log-odds of given means, of data's or of the model's own."""
    n_visible = rbm._n_visible
    if base_rate is None:
        mean, n = own_means(engine, machine, n_visible, rbm._n_features_out, draws), OWN_CHAINS
    elif getattr(base_rate, "ndim", np.ndim(base_rate)) == 1:
        mean, n = np.asarray(base_rate, np.float64), None
        if mean.shape != (n_visible,) or not ((mean > 0) & (mean < 1)).all():
            raise ValueError(
                f"base_rate must be data, or {n_visible} probabilities strictly between 0 and 1; "
                f"got an array of shape {mean.shape}"
                + (f" from {mean.min():g} to {mean.max():g}" if mean.size else "")
            )
    else:
        data = validate_units(rbm, base_rate, engine, name="base_rate")
        mean, n = mean_of(engine, data), data.n_rows
    return log_odds(mean, n)


def own_means(
    engine: Engine, machine: Machine, n_visible: int, n_hidden: int, draws: Draws
) -> Array:
    """Return a machine's mean visible states, estimated by short chains."""
    step = draws.take(OWN_STEPS)
    start = draw_by_bias(engine, machine, OWN_CHAINS, n_hidden, n_visible, Draw(draws.seed, step))
    p = np.empty((OWN_CHAINS, n_visible), np.float32)
    chains = Chains(empty_bits(OWN_CHAINS, n_visible), empty_bits(OWN_CHAINS, n_hidden), p)
    run_chains(engine, machine, start, chains, OWN_STEPS, draws.seed, step)
    return np.asarray(p.mean(axis=0, dtype=np.float64))


# ---- Gibbs chains ----


def gibbs_chains(
    engine: Engine,
    machine: Machine,
    start: Rows | None,
    shape: tuple[int, int, int],
    stops: Sequence[int],
    clamp: Clamp | None,
    draws: Draws,
) -> Iterator[Chains]:
    """Run chains from visible rows, or from draws by the biases alone; yield them at some steps.

    `shape` is (chains, visible units, hidden units).
    """
    n_chains, n_visible, n_hidden = shape
    first = draws.take(stops[-1])
    if start is None:
        draw = Draw(draws.seed, first)
        start = draw_by_bias(engine, machine, n_chains, n_hidden, n_visible, draw)
    if clamp is not None:
        start = _held_rows(engine, start, clamp)
    chains = Chains(empty_bits(n_chains, n_visible), empty_bits(n_chains, n_hidden))
    done = 0
    for stop in stops:
        step = first + done
        run_chains(engine, machine, start, chains, stop - done, draws.seed, step, 0, clamp)
        start, done = engine.rows_of_bits(chains.v, n_visible), stop
        yield chains


def _held_rows(engine: Engine, rows: Rows, clamp: Clamp) -> Rows:
    values = values_of(rows)
    held, mask = np.empty_like(values), np.empty(values.shape, np.bool_)
    for words, out in ((clamp.values, held), (clamp.mask, mask)):
        engine.unpack(np.ascontiguousarray(np.broadcast_to(words, (len(out), words.shape[1]))), out)
    return units_of_array(engine, np.where(mask, held, values), rows.n_cols, "init").rows


def annealed_chains(
    engine: Engine,
    machine: Machine,
    shape: tuple[int, int, int],
    n_steps: int,
    clamp: Clamp | None,
    draws: Draws,
) -> Iterator[Chains]:
    """Yield chains that went from the model's own means to the model, once.

    `shape` is (chains, visible units, hidden units).
    """
    n_chains, n_visible, n_hidden = shape
    mean = own_means(engine, machine, n_visible, n_hidden, draws)
    base_bias = log_odds(mean, OWN_CHAINS)
    v = draw_base(engine, base_bias, n_chains, Draw(draws.seed, draws.take(1)))
    hold(v, clamp)
    chains = Chains(v, empty_bits(n_chains, n_hidden))
    anneal(machine, Path(base_bias, np.linspace(0, 1, n_steps + 1)), chains, draws, clamp)
    yield chains


# ---- replicas ----


class ParallelTempering:
    """Replicas of an RBM at many temperatures, which exchange their states.

    At the low inverse temperatures chains go everywhere, at β = 1 they are the model's; exchanges
    between neighbours carry states from one end to the other, so that the samples at β = 1 do not
    stay in the mode they began in.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted. Its parameters are those of now, even when it is trained on.
    n_chains : int, default=100
        Independent sets of replicas.
    n_temperatures : int or None, default=None
        How many inverse temperatures there are, from 1 down to 0. None takes, at the first
        :meth:`adapt`, as many as let neighbours exchange about half of the time.
    betas : array of shape (n_temperatures,), optional
        They themselves: from 1 to 0, descending. By default evenly spaced at first.
    base_rate : array of shape (n_features,) or (n_samples, n_features), optional
        Means of the visible units at β = 0, strictly between 0 and 1, or data that have them. By
        default the model's own, estimated from short chains.
    clamp, values : arrays, optional
        Visible units to hold, as for :meth:`BernoulliRBM.sample`.
    random_state : int, RandomState instance or None, default=None
        An int gives the same draws every time; None draws anew.

    Attributes
    ----------
    betas_ : ndarray of float64 of shape (n_temperatures,)
    exchange_rates_ : ndarray of float64 of shape (n_temperatures - 1,)
        How often neighbours exchanged states when they tried, since the temperatures are these;
        NaN before.
    n_steps_ : int
        Steps made so far.

    References
    ----------
    Swendsen & Wang (1986), Replica Monte Carlo simulation of spin glasses.
    Desjardins, Courville, Bengio, Vincent & Delalleau (2010), Tempered Markov chain Monte Carlo for
    training of restricted Boltzmann machines.
    Syed, Bouchard-Côté, Deligiannidis & Doucet (2022), Non-reversible parallel tempering: a
    scalable highly parallel MCMC scheme (alternating exchanges; the placing of temperatures).

    Examples
    --------
    >>> import numpy as np
    >>> from harmonium import BernoulliRBM
    >>> from harmonium.sampling import ParallelTempering
    >>> X = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]])
    >>> rbm = BernoulliRBM(n_components=2, random_state=0).fit(X)
    >>> replicas = ParallelTempering(rbm, n_chains=5, n_temperatures=3, random_state=0)
    >>> replicas.run(100).shape
    (5, 3)
    """

    def __init__(
        self,
        rbm: BernoulliRBM,
        n_chains: int = 100,
        n_temperatures: int | None = None,
        *,
        betas: Any = None,
        base_rate: Any = None,
        clamp: Any = None,
        values: Any = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        check_integer("n_chains", n_chains, minimum=1)
        if n_temperatures is not None:
            check_integer("n_temperatures", n_temperatures, minimum=2)
        self._engine, self._machine = rbm._ready()
        self._n_visible, self._n_hidden = rbm._n_visible, rbm._n_features_out
        self.n_chains = n_chains
        self._chooses_number = n_temperatures is None and betas is None
        if betas is None:
            betas = np.linspace(1, 0, n_temperatures or FIRST_TEMPERATURES)
        self.betas_ = _checked_betas(betas, n_temperatures)
        self._draws = separate_draws(*rbm._next_draws(1, random_state))
        self._clamp_one = clamp_of(self._engine, clamp, values, n_chains, self._n_visible)
        self._base_bias = base_biases(rbm, self._engine, self._machine, base_rate, self._draws)
        self.n_steps_ = 0
        self._chains = self._drawn_anew(len(self.betas_))
        self._begin_counting()

    def _drawn_anew(self, n_temperatures: int) -> Chains:
        """Return states of all replicas, drawn from the base."""
        n = self.n_chains * n_temperatures
        draw = Draw(self._draws.seed, self._draws.take(1))
        v = draw_base(self._engine, self._base_bias, n, draw)
        self._clamp = self._clamp_for(n_temperatures)
        hold(v, self._clamp)
        h = empty_bits(n, self._n_hidden)
        self._machine.draw_hidden(self._engine.rows_of_bits(v, self._n_visible), h, draw)
        return Chains(v, h)

    def _clamp_for(self, n_temperatures: int) -> Clamp | None:
        """Return what is held in every replica."""
        one = self._clamp_one
        if one is None:
            return None

        def for_all(rows: Bits) -> Bits:
            return rows if len(rows) == 1 else np.tile(rows, (n_temperatures, 1))

        return Clamp(for_all(one.mask), for_all(one.values))

    def _begin_counting(self) -> None:
        self._exchanges = np.zeros((2, len(self.betas_) - 1), np.int64)

    @property
    def exchange_rates_(self) -> NDArray[np.float64]:
        return exchange_rates(self._exchanges)

    def run(self, n_steps: int = 1000, *, progress: bool = False) -> NDArray[np.bool_]:
        """Make Gibbs steps, with exchanges after each.

        Parameters
        ----------
        n_steps : int, default=1000
        progress : bool, default=False
            Show a bar.

        Returns
        -------
        ndarray of bool of shape (n_chains, n_features)
            The visible states at β = 1.
        """
        check_integer("n_steps", n_steps, minimum=0, below=2**56)
        path = Path(self._base_bias, self.betas_)
        step = self._draws.take(n_steps)
        title = "Parallel tempering" if progress else None
        for done, piece in under_a_bar(in_pieces(n_steps), n_steps, title):
            seed = self._draws.seed
            self._machine.temper(
                path, self._chains, piece, seed, step + done, self._exchanges, self._clamp
            )
            self.n_steps_ += piece
        return self.states

    def chains_after(self, stops: Sequence[int]) -> Iterator[Chains]:
        """Yield the chains at β = 1 after some numbers of further steps."""
        done = 0
        for stop in stops:
            self.run(stop - done)
            done = stop
            yield Chains(self._chains.v[: self.n_chains], self._chains.h[: self.n_chains])

    @property
    def states(self) -> NDArray[np.bool_]:
        """The visible states at β = 1, (n_chains, n_features)."""
        out = np.empty((self.n_chains, self._n_visible), np.bool_)
        self._engine.unpack(self._chains.v[: self.n_chains], out)
        return out

    def adapt(self, n_steps: int = 1000) -> ParallelTempering:
        """Make steps while placing the temperatures where neighbours exchange equally often.

        In rounds, each twice as long as the one before: the rejections of each round say where
        temperatures are too far apart. Samples of these steps are not the model's; those of later
        ones are.

        Parameters
        ----------
        n_steps : int, default=1000
            In all.

        Returns
        -------
        self
        """
        check_integer("n_steps", n_steps, minimum=0, below=2**56)
        piece, left = FIRST_ADAPTATION, n_steps
        while left > 0:
            self._begin_counting()
            steps = left if left < 3 * piece else piece
            self.run(steps)
            left, piece = left - steps, 2 * piece
            n_wanted = len(self.betas_)
            rates = np.nan_to_num(self.exchange_rates_, nan=0.5)
            barrier = float(np.sum(1 - rates))
            if self._chooses_number and left > 0:
                n_wanted = max(2, min(MOST_TEMPERATURES, 1 + round(2 * barrier)))
            self.betas_ = spread_evenly(self.betas_, rates, n_wanted)
            if n_wanted != len(self._exchanges[0]) + 1:
                self._take_replicas(n_wanted)
        self._begin_counting()
        return self

    def _take_replicas(self, n_temperatures: int) -> None:
        """Go on with another number of temperatures, from replicas at those nearest."""
        n_now = len(self._chains.v) // self.n_chains
        nearest = np.rint(np.linspace(0, n_now - 1, n_temperatures)).astype(np.int64)
        rows = (nearest[:, None] * self.n_chains + np.arange(self.n_chains)).ravel()
        self._chains = Chains(self._chains.v[rows], self._chains.h[rows])
        self._clamp = self._clamp_for(n_temperatures)


def _checked_betas(betas: Any, n_temperatures: int | None) -> NDArray[np.float64]:
    path: NDArray[np.float64] = np.array(betas, np.float64)
    descends = path.ndim == 1 and len(path) >= 2 and bool((np.diff(path) < 0).all())
    if not (descends and path[0] == 1 and path[-1] >= 0):
        raise ValueError(f"betas must descend from 1 to 0 or above, at least two; got {betas}")
    if n_temperatures not in (None, len(path)):
        raise ValueError(f"n_temperatures is {n_temperatures}, but there are {len(path)} betas")
    return path


def exchange_rates(exchanges: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how often neighbours exchanged states when they tried; NaN where they did not."""
    with np.errstate(invalid="ignore"):
        return np.asarray(exchanges[0] / exchanges[1])


def spread_evenly(
    betas: NDArray[np.float64], rates: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    """Return n inverse temperatures whose neighbours would exchange equally often.

    Rejections add up along the path: places at equal distances in that measure (Syed et al. 2022,
    section 5.1).
    """
    rejected = np.concatenate([[0.0], np.cumsum(np.maximum(1 - rates, 1e-3))])
    spread = np.interp(np.linspace(0, rejected[-1], n), rejected, betas)
    spread[0], spread[-1] = betas[0], betas[-1]
    return np.asarray(spread)
