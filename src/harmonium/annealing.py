"""Annealed importance sampling: chains between independent units and a machine, there and back.

The independent units are the base, at β = 0; the machine is at β = 1
(:class:`harmonium.engine.protocol.Path`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harmonium._arrays import empty_bits
from harmonium._pace import in_pieces, run_chains, under_a_bar
from harmonium._random import Draws
from harmonium._visible import Units, draw_rows, pick_rows, values_of
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
)

__all__ = ["Annealing", "LogPartition", "anneal", "draw_base", "log_odds"]


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


def log_odds(mean: Array, n_rows: int | None) -> Float32:
    """Return log(m / (1 - m)); means of so many rows as if half a row more were on, half off."""
    if n_rows is not None:
        mean = (mean * n_rows + 0.5) / (n_rows + 1)
    odds: Float32 = np.log(mean / (1 - mean)).astype(np.float32)
    return odds


def draw_base(engine: Engine, base_bias: Float32, n_chains: int, draw: Draw) -> Bits:
    """Draw visible states that are independent of one another: the machine at β = 0."""
    n_visible = len(base_bias)
    nothing = engine.machine(
        np.zeros((n_visible, 1), np.float32), base_bias, np.zeros(1, np.float32), "auto"
    )
    words = empty_bits(n_chains, n_visible)
    nothing.draw_visible(engine.rows_of_bits(empty_bits(n_chains, 1), 1), words, draw)
    return words


def anneal(
    machine: Machine,
    path: Path,
    chains: Chains,
    draws: Draws,
    clamp: Clamp | None = None,
    title: str | None = None,
) -> NDArray[np.float64]:
    """Take visible states along a path; return the logarithms of their importance weights."""
    log_weights = np.zeros(len(chains.v))
    n_steps = len(path.betas) - 1
    step = draws.take(n_steps)
    for done, piece in under_a_bar(in_pieces(n_steps), n_steps, title):
        betas = np.ascontiguousarray(path.betas[done : done + piece + 1])
        some = path._replace(betas=betas)
        machine.anneal(some, chains, draws.seed, step + done, 0, log_weights, clamp)
    return log_weights


class Annealing:
    """Annealed chains of a machine with so many hidden units, and log Z by them."""

    def __init__(
        self,
        engine: Engine,
        machine: Machine,
        base_bias: Float32,
        n_hidden: int,
        n_chains: int,
        betas: NDArray[np.float64],
        draws: Draws,
        progress: bool = False,
    ) -> None:
        self._engine, self._machine = engine, machine
        self._base_bias, self._betas, self._draws = base_bias, betas, draws
        self._n_visible, self._n_hidden, self._n = len(base_bias), n_hidden, n_chains
        self._progress = progress
        softplus = np.logaddexp(0, base_bias.astype(np.float64))
        self._log_z_base = float(softplus.sum()) + n_hidden * math.log(2)

    def forward(self) -> LogPartition:
        """Return log Z by chains from the base to the machine."""
        return _estimate(self._anneal()[1] + self._log_z_base, "ais")

    def reverse(self, states: Bits) -> LogPartition:
        """Return log Z by chains of the machine, whose visible states go to the base in place."""
        log_weights = self._along(self._betas[::-1], self._chains(states), "Reverse AIS")
        return _estimate(self._log_z_base - log_weights, "reverse_ais")

    def _anneal(self) -> tuple[Chains, NDArray[np.float64]]:
        start = Draw(self._draws.seed, self._draws.take(1))
        chains = self._chains(draw_base(self._engine, self._base_bias, self._n, start))
        return chains, self._along(self._betas, chains, "AIS")

    def _along(self, betas: NDArray[np.float64], chains: Chains, title: str) -> NDArray[np.float64]:
        path = Path(self._base_bias, np.ascontiguousarray(betas))
        shown = title if self._progress else None
        return anneal(self._machine, path, chains, self._draws, title=shown)

    def _chains(self, v: Bits) -> Chains:
        return Chains(v, empty_bits(self._n, self._n_hidden))

    # ---- where reverse chains come from ----

    def resampled(self) -> Bits:
        """Return visible states of annealed chains, as often as by their weights."""
        chains, log_weights = self._anneal()
        places = np.cumsum(np.exp(log_weights - log_weights.max()))
        places /= places[-1]
        rng = np.random.RandomState([self._draws.seed & 0xFFFFFFFF, self._draws.take(1)])
        # Systematically: at even distances from a place that is drawn.
        chosen = np.searchsorted(places, (np.arange(self._n) + rng.random_sample()) / self._n)
        return chains.v[np.minimum(chosen, self._n - 1)]

    def rows_to_begin_at(self, data: Units) -> Bits:
        """Return rows of data, in turns where there are fewer than chains."""
        rows = pick_rows(self._engine, data.rows, self._n)
        rows = draw_rows(self._engine, rows, self._draws.seed, self._draws.take(1))
        words = empty_bits(self._n, self._n_visible)
        values = values_of(rows)
        self._engine.pack(values[np.arange(self._n) % rows.n_rows], words)
        return words

    def burnt_in(self, v: Bits, n_steps: int) -> Bits:
        """Return visible states after Gibbs steps."""
        if n_steps == 0:
            return v
        start = self._engine.rows_of_bits(v, self._n_visible)
        chains = self._chains(empty_bits(self._n, self._n_visible))
        step = self._draws.take(n_steps)
        run_chains(self._engine, self._machine, start, chains, n_steps, self._draws.seed, step)
        return chains.v


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
