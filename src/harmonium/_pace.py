"""Long work in pieces: short enough for Ctrl-C, long enough that the pieces don't show."""

from __future__ import annotations

import time
from collections.abc import Iterator

from harmonium._arrays import empty_bits
from harmonium.engine.protocol import Chains, Clamp, Draw, Engine, Machine, Rows

PIECE_SECONDS = 0.05
"""How long one call of the engine should take."""


class Pace:
    """How many units of work make a piece, from how long the last one took."""

    def __init__(self, amount: int = 1) -> None:
        self.amount = max(1, min(amount, 1 << 20))

    def learn(self, seconds: float) -> None:
        # Doubling at most: the first piece pays for waking the threads and says little. And never
        # without end, which it would where the whole work is shorter than a piece.
        factor = min(2.0, PIECE_SECONDS / max(seconds, 1e-6))
        self.amount = min(max(1, round(self.amount * factor)), 1 << 20)


def in_pieces(n_steps: int, first: int = 1) -> Iterator[tuple[int, int]]:
    """Go through steps in pieces, ``(done, piece)``, the first of them of the length given.

    How long the loop's body takes for one decides the length of the next.
    """
    pace, done = Pace(first), 0
    while done < n_steps:
        piece = min(pace.amount, n_steps - done)
        began = time.perf_counter()
        yield done, piece
        pace.learn(time.perf_counter() - began)
        done += piece


def under_a_bar(
    pieces: Iterator[tuple[int, int]], n_steps: int, title: str | None
) -> Iterator[tuple[int, int]]:
    """Go through pieces of work under a bar, if it has a title."""
    if title is None:
        yield from pieces
        return
    from tqdm import tqdm

    with tqdm(total=n_steps, desc=title, unit="step") as bar:
        for done, piece in pieces:
            yield done, piece
            bar.update(piece)


def draw_by_bias(
    engine: Engine, machine: Machine, n: int, n_hidden: int, n_visible: int, draw: Draw
) -> Rows:
    """Draw visible states by their own biases alone, where chains begin: p(v | h = 0)."""
    nothing = engine.rows_of_bits(empty_bits(n, n_hidden), n_hidden)
    words = empty_bits(n, n_visible)
    machine.draw_visible(nothing, words, draw)
    return engine.rows_of_bits(words, n_visible)


def run_chains(
    engine: Engine,
    machine: Machine,
    start: Rows,
    chains: Chains,
    n_steps: int,
    seed: int,
    step: int = 0,
    first_row: int = 0,
    clamp: Clamp | None = None,
) -> None:
    """Run Gibbs steps from visible rows, as one call of the machine would, in pieces."""
    # Every piece begins with sums of its own, which within a piece are carried from step to step:
    # so not with a step to see how long it takes, but with a guess (slow where it is wrong).
    weights = 64 * chains.v.shape[1] * 64 * chains.h.shape[1]
    guess = int(PIECE_SECONDS / max(1e-11 * len(chains.v) * weights, 1e-9))
    for done, piece in in_pieces(n_steps, guess):
        machine.gibbs(start, chains, piece, seed, step + done, first_row, clamp)
        start = engine.rows_of_bits(chains.v, start.n_cols)
