"""From whichever state a row's sums are reached, they are the same."""

from __future__ import annotations

from collections.abc import Iterator
from time import thread_time
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import packed, random_bits, random_model, same_bits

from harmonium import _core, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import TrainingArrays, TrainingRule

WAYS = ("none", "last", "all")
V, H = 150, 101  # a part of a block at the end of both, more and less than half of one


@pytest.fixture
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    _core.force_way(request.param)
    yield request.param
    _core.force_way("nearest")


@pytest.mark.parametrize("way", ["nearest", *WAYS], indirect=True)
@pytest.mark.parametrize("density", [0.02, 0.4, 0.95])
def test_products(isa: str, way: str, density: float) -> None:
    W, _, c = random_model(V, H, seed=0)
    v = random_bits(150, V, seed=1, p=density)
    p = ops.propup(packed(v), W, c)
    assert same_bits(p, ref.sigmoid(ref.preactivation(v, W, c)))


@pytest.mark.parametrize("way", ["nearest", *WAYS], indirect=True)
@pytest.mark.parametrize("bias", [-3, 0, 3])  # most units off, half of them, most of them on
@pytest.mark.parametrize("n_chains", [3, 200])
def test_chains(isa: str, way: str, bias: float, n_chains: int) -> None:
    W, b, c = random_model(V, H, seed=0)
    b, c = b + np.float32(bias), c + np.float32(bias)
    v = random_bits(n_chains, V, seed=1)
    expected = ref.gibbs(W, b, c, 5, 3, v=v)
    got = ops.gibbs(v, W, b, c, n_steps=5, seed=3, n_threads=2)
    assert same_bits(got[0], expected.v)
    assert same_bits(got[1], expected.h)


@pytest.mark.parametrize("n_off", [1, 2, 3])
@pytest.mark.parametrize("way", ["nearest", "last"], indirect=True)
def test_lists_of_almost_all_units(isa: str, way: str, n_off: int) -> None:
    """What went on and what went off share a row's room: 61 to 63 of 64 units, and one to three."""
    n = 64
    W, b, c = np.zeros((n, n), np.float32), np.full(n, 100, np.float32), np.full(n, 100, np.float32)
    b[:n_off] = -100
    v = np.zeros((1, n), bool)
    v[0, : n_off + 2] = True
    got = ops.gibbs(v, W, b, c, n_steps=3, seed=0, n_threads=1)
    assert same_bits(got[0], ref.gibbs(W, b, c, 3, 0, v=v).v)


def trained(density: float, persistent: bool, n_rows: int) -> list[bytes]:
    engine = get_engine(n_threads=2)
    W, b, c = random_model(V, H, seed=0)
    chains = packed(random_bits(n_rows, H, seed=2))
    arrays = TrainingArrays(W, b, c, chains)
    rule = TrainingRule(n_gibbs_steps=3, persistent=persistent, l1=0.0, l2=0.0, seed=5)
    v = random_bits(3 * n_rows, V, seed=1, p=density)
    rows = engine.rows_of_bits(packed(v), V)
    engine.trainer(arrays, rule, "auto").run(rows, None, 0, len(v), n_rows, 0, 0.1, 0.0)
    return [array.tobytes() for array in (W, b, c, chains)]


@pytest.mark.parametrize("way", WAYS, indirect=True)
@pytest.mark.parametrize("persistent", [True, False])
@pytest.mark.parametrize("n_rows", [10, 300])  # by shares of the units, and by rows
@pytest.mark.parametrize("density", [0.1, 0.9])
def test_training(way: str, persistent: bool, n_rows: int, density: float) -> None:
    forced = trained(density, persistent, n_rows)
    _core.force_way("nearest")
    assert trained(density, persistent, n_rows) == forced


def test_no_other_way() -> None:
    with pytest.raises(ValueError, match="must be 'nearest', 'none', 'last' or 'all', not 'best'"):
        _core.force_way("best")


def test_the_nearest_state_is_chosen() -> None:
    """By what it saves: rows almost full cost no more than rows almost empty."""
    assert elapsed(0.97) < 2 * elapsed(0.03)


def elapsed(density: float) -> float:
    engine = get_engine(n_threads=1)
    W, b, c = random_model(1000, 640, seed=0)
    rows = engine.rows_of_bits(packed(random_bits(512, 1000, seed=1, p=density)), 1000)
    machine: Any = engine.machine(W, b, c, "auto")
    out = np.empty((512, 640), np.float32)
    times = []
    for _ in range(8):
        began = thread_time()
        machine.propup(rows, out)
        times.append(thread_time() - began)
    return min(times)
