"""From which state a row's sums are best reached: fresh, from all units on, or as is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cases
import data
import numpy as np
import pytest
from conftest import Race, Turn

from harmonium import _core, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import Chains


def by_way(turn: Turn) -> tuple[Turn, dict[str, Turn]]:
    """Make turns: as decided, and with the decision taken away."""

    def forced(way: str) -> Turn:
        def forced_turn() -> Any:
            _core.force_way(way)
            try:
                return turn()
            finally:
                _core.force_way("nearest")

        return forced_turn

    return forced("nearest"), {name: forced(way) for name, way in cases.WAYS.items()}


def same_bits(results: dict[str, Any]) -> None:
    for result in results.values():
        np.testing.assert_array_equal(result, results["harmonium"])


@pytest.mark.parametrize("case", cases.DENSITIES, indirect=True, ids=lambda case: case.title)
def test_products(
    case: cases.Product, race: Race, machine: Callable[..., Any], threads: int
) -> None:
    v = np.random.default_rng(0).random((case.n_rows, case.n_visible)) < case.density
    rows = get_engine(n_threads=threads).rows_of_bits(ops.pack(v), case.n_visible)
    out = np.empty((case.n_rows, case.n_hidden), np.float32)

    def ours() -> Any:
        machine(case).propup(rows, out)
        return out.copy()

    turn, others = by_way(ours)
    race(case, turn, others, agree=same_bits, table="ways")


@pytest.mark.parametrize("case", cases.CHAINS, indirect=True, ids=lambda case: case.title)
def test_chains(case: cases.Gibbs, race: Race, machine: Callable[..., Any], threads: int) -> None:
    start = ops.pack(data.binary()[: case.n_chains])

    def ours() -> Any:
        chains = Chains(start.copy(), np.zeros((case.n_chains, -(-case.n_hidden // 64)), np.uint64))
        rows = get_engine(n_threads=threads).rows_of_bits(chains.v.copy(), case.n_visible)
        machine(case).gibbs(rows, chains, case.n_steps, 0, 0, 0)
        return chains.v

    turn, others = by_way(ours)
    race(case, turn, others, agree=same_bits, table="ways")


@pytest.fixture
def machine(threads: int) -> Callable[[Any], Any]:
    """Make a trained machine, once a size."""
    made: dict[tuple[int, int], Any] = {}

    def of(case: Any) -> Any:
        size = case.n_visible, case.n_hidden
        if size not in made:
            model = data.trained(*size)
            W = np.ascontiguousarray(model.components_.T)
            b, c = model.intercept_visible_, model.intercept_hidden_
            made[size] = get_engine(n_threads=threads).machine(W, b, c, "auto")
        return made[size]

    return of
