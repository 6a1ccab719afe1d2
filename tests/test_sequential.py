"""Updates on numbers from outside, in float32 and float64, against a plain NumPy twin."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.sparse
from layouts import packed

from harmonium import _core

F32, F64 = np.float32, np.float64
KINDS = {F32: _core.SequentialTrainer32, F64: _core.SequentialTrainer64}
# Sums of some hundred terms of size 1 in one order or another.
CLOSE = {F32: 2e-5, F64: 1e-13}

SIZES = [
    # visible, hidden, chains, batch size, rows
    (1, 1, 1, 1, 1),
    (3, 7, 2, 2, 5),
    (16, 15, 5, 5, 10),
    (17, 16, 4, 6, 6),
    (63, 31, 3, 10, 23),
    (65, 33, 11, 7, 20),
    (130, 129, 12, 10, 17),
    (300, 64, 20, 40, 40),
]


def twin(
    X: np.ndarray,
    W: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    h: np.ndarray,
    batch_size: int,
    rate: float,
    uniform: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """PCD-1 as in docs/numerics.md, in float64: means over the rows, and over the chains."""
    W, b, c = (array.astype(F64) for array in (W, b, c))
    numbers = iter(np.split(uniform, -(-len(X) // batch_size)))

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    for begin in range(0, len(X), batch_size):
        v = X[begin : begin + batch_size].astype(F64)
        u = next(numbers)
        p = sigmoid(v @ W + c)
        v_model = u[: len(h) * len(b)].reshape(len(h), -1) < sigmoid(h @ W.T + b)
        p_model = sigmoid(v_model @ W + c)
        W += rate * (v.T @ p / len(v) - v_model.T @ p_model / len(h))
        b += rate * (v.mean(axis=0) - v_model.mean(axis=0))
        c += rate * (p.mean(axis=0) - p_model.mean(axis=0))
        h = u[len(h) * len(b) :].reshape(len(h), -1) < p_model
    return W, b, c, h


def model(n_visible: int, n_hidden: int, dtype: Any, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = ((n_visible, n_hidden), (n_visible,), (n_hidden,))
    return [rng.normal(0, 0.3, shape).astype(dtype) for shape in shapes]


def run(
    rows: Any,
    arrays: list[np.ndarray],
    h: np.ndarray,
    batch_size: int,
    uniform: np.ndarray,
    *,
    order: np.ndarray | None = None,
    n_threads: int = 2,
    calls: tuple[int, ...] = (),
) -> tuple[np.ndarray, ...]:
    """Run an epoch in calls that end before these rows; return W, b, c and the chains' states."""
    W, b, c = (array.copy() for array in arrays)
    chains = packed(h)
    trainer = KINDS[W.dtype.type](W, b, c, chains, n_threads)
    per_update = trainer.numbers_per_update
    assert per_update == len(h) * (len(b) + len(c))
    ends = (*calls, rows.n_rows)
    for begin, end in zip((0, *calls), ends, strict=True):
        first, last = begin // batch_size, -(-end // batch_size)
        numbers = uniform[first * per_update : last * per_update]
        trainer.run(rows, order, begin, end - begin, batch_size, 0.5, numbers)
        assert trainer.rows_done == end
    states = np.zeros(h.shape, bool)
    _core.unpack(chains, states, 1)
    return W, b, c, states


def data_of(form: str, n: int, n_visible: int) -> tuple[Any, np.ndarray]:
    """Return rows in a form the engine takes, and their values."""
    rng = np.random.default_rng(n * n_visible)
    real = np.round(rng.random((n, n_visible)), 3) * (rng.random((n, n_visible)) < 0.6)
    bits = real > 0.2
    if form in ("float32", "float64"):
        real = real.astype(form)
        return _core.Rows.real(real), real
    if form == "sparse":
        csr = scipy.sparse.csr_array(real)
        indptr, indices = csr.indptr.astype(np.int64), csr.indices.astype(np.int32)
        return _core.Rows.sparse(indptr, indices, csr.data, n_visible), real
    if form == "bits":
        return _core.Rows.bits(packed(bits), n_visible), bits
    return _core.Rows.bytes(bits), bits


def numbers_for(n: int, batch_size: int, n_chains: int, n_units: int) -> np.ndarray:
    return np.random.default_rng(7).random(-(-n // batch_size) * n_chains * n_units)


def assert_close(got: tuple[np.ndarray, ...], want: tuple[np.ndarray, ...], dtype: Any) -> None:
    for a, b in zip(got[:3], want[:3], strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=CLOSE[dtype])
    np.testing.assert_array_equal(got[3], want[3])


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("dtype", [F32, F64])
def test_updates_are_the_twins(isa: str, dtype: Any, sizes: tuple[int, ...]) -> None:
    n_visible, n_hidden, n_chains, batch_size, n = sizes
    rows, X = data_of("float64", n, n_visible)
    arrays = model(n_visible, n_hidden, dtype)
    h = np.random.default_rng(1).random((n_chains, n_hidden)) < 0.5
    uniform = numbers_for(n, batch_size, n_chains, n_visible + n_hidden)
    want = twin(X, *arrays, h, batch_size, 0.5, uniform)
    for n_threads in (1, 2, 3):
        assert_close(run(rows, arrays, h, batch_size, uniform, n_threads=n_threads), want, dtype)


@pytest.mark.parametrize("form", ["float32", "float64", "sparse", "bits", "bytes"])
@pytest.mark.parametrize("dtype", [F32, F64])
def test_every_form_of_rows_and_any_order(form: str, dtype: Any) -> None:
    rows, X = data_of(form, 30, 130)
    arrays, h = model(130, 40, dtype), np.zeros((5, 40), bool)
    uniform = numbers_for(30, 5, 5, 170)
    order = np.random.default_rng(3).permutation(30)
    got = run(rows, arrays, h, 5, uniform, order=order)
    assert_close(got, twin(X[order], *arrays, h, 5, 0.5, uniform), dtype)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_an_epoch_in_several_calls_is_the_same(dtype: Any) -> None:
    rows, _ = data_of("float64", 47, 70)
    arrays, h = model(70, 50, dtype), np.ones((6, 50), bool)
    uniform = numbers_for(47, 6, 6, 120)
    whole = run(rows, arrays, h, 6, uniform)
    for calls in ((6,), (12, 18), (42,)):
        for a, b in zip(run(rows, arrays, h, 6, uniform, calls=calls), whole, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [F32, F64])
def test_nothing_past_the_columns_is_touched(isa: str, dtype: Any) -> None:
    rows, X = data_of("float64", 8, 20)
    memory = np.full((22, 48), np.nan, dtype)
    arrays, h = model(20, 37, dtype), np.zeros((4, 37), bool)
    W = memory[1:21, 3:40]
    W[...] = arrays[0]
    b, c, chains = arrays[1].copy(), arrays[2].copy(), packed(h)
    uniform = numbers_for(8, 4, 4, 57)
    KINDS[dtype](W, b, c, chains, 2).run(rows, None, 0, 8, 4, 0.5, uniform)
    want = twin(X, *arrays, h, 4, 0.5, uniform)
    np.testing.assert_allclose(W, want[0], rtol=0, atol=CLOSE[dtype])
    memory[1:21, 3:40] = np.nan
    assert np.isnan(memory).all()


@pytest.mark.parametrize("dtype", [F32, F64])
def test_probabilities_are_accurate_everywhere(isa: str, dtype: Any) -> None:
    """One visible unit that is on, no weight, chains that draw nothing: W becomes sigma(c)."""
    x = np.r_[np.linspace(-50, 50, 3001), np.linspace(-800, 800, 401), 0.0, -0.0, 1e300, -1e300]
    c = np.clip(x, *np.array([-3e38, 3e38])).astype(dtype)
    W, b, chains = np.zeros((1, len(c)), dtype), np.zeros(1, dtype), packed(np.zeros((1, len(c))))
    trainer = KINDS[dtype](W, b, c.copy(), chains, 1)
    trainer.run(_core.Rows.real(np.ones((1, 1))), None, 0, 1, 1, 1.0, np.ones(1 + len(c)))
    t = c.astype(np.longdouble)
    want = np.where(
        t >= 0, 1 / (1 + np.exp(-np.abs(t))), np.exp(-np.abs(t)) / (1 + np.exp(-np.abs(t)))
    )
    normal = want > (1e-307 if dtype is F64 else 1e-37)
    # exp is off by about one unit in the last place, the sum and the quotient by half a unit each.
    np.testing.assert_allclose(W[0, normal], want[normal].astype(F64), rtol=3 * np.finfo(dtype).eps)
    assert np.all(W[0, ~normal] <= np.finfo(dtype).tiny * 10)


@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_divergence_is_told(dtype: Any, bad: float, where: int) -> None:
    rows, _ = data_of("float64", 5, 100)
    arrays = model(100, 30, dtype)
    arrays[where].flat[-1] = bad
    uniform = numbers_for(5, 5, 5, 130)
    with pytest.raises(FloatingPointError, match="infinite or not a number"):
        run(rows, arrays, np.zeros((5, 30), bool), 5, uniform)
