"""Products with binary rows in both directions, the 16-bit weights behind them, and sgemm."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref
import scipy.sparse
from layouts import (
    LAYOUTS,
    SIZES,
    Canvas,
    packed,
    random_bits,
    random_model,
    random_reals,
    same_bits,
)

from harmonium import ops
from harmonium.engine import get_engine

F32 = np.float32
EPS = 2.0**-24  # relative error of one float32 rounding


@pytest.mark.parametrize("n_visible", SIZES)
def test_both_directions_of_every_size(isa: str, n_visible: int) -> None:
    for n_hidden in SIZES:
        W, b, c = random_model(n_visible, n_hidden, seed=n_hidden)
        v, h = random_bits(3, n_visible, seed=1), random_bits(3, n_hidden, seed=2)
        assert same_bits(ops.propup(v, W, c), ref.sigmoid(ref.preactivation(v, W, c)))
        assert same_bits(ops.propdown(h, W, b), ref.sigmoid(ref.preactivation(h, W.T, b)))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("n_hidden", SIZES)
def test_awkward_places(isa: str, n_hidden: int, layout: tuple[int, int]) -> None:
    """v as bytes and as bits, W and the result inside larger arrays."""
    n_visible = 70
    W, b, c = random_model(n_visible, n_hidden, seed=3)
    v, h = random_bits(5, n_visible, seed=4), random_bits(5, n_hidden, seed=5)
    up, down = ref.sigmoid(ref.preactivation(v, W, c)), ref.sigmoid(ref.preactivation(h, W.T, b))
    canvas_W = Canvas.of(W, layout)
    for form in (bool, np.uint8, packed):
        canvas_v, canvas_h = (Canvas.of(as_form(states, form), layout) for states in (v, h))
        out = Canvas(up.shape, F32, layout)
        assert ops.propup(canvas_v.view, canvas_W.view, c, out=out.view) is out.view
        assert same_bits(out.view, up)
        assert out.is_intact()
        out = Canvas(down.shape, F32, layout)
        ops.propdown(canvas_h.view, canvas_W.view, b, out=out.view)
        assert same_bits(out.view, down)
        assert out.is_intact()
        assert canvas_v.is_intact()
    assert canvas_W.is_intact()
    assert same_bits(canvas_W.view, W)


def as_form(states: np.ndarray, form: Any) -> np.ndarray:
    return packed(states) if form is packed else states.astype(form)


@pytest.mark.parametrize("n_rows", [1, 2, 15, 16, 17, 127, 128, 129, 300])
def test_numbers_of_rows(isa: str, n_rows: int) -> None:
    """Around the 16 rows of a tile and the 128 of a strip."""
    W, _, c = random_model(40, 70, seed=6)
    v = random_bits(n_rows, 40, seed=7)
    assert same_bits(ops.propup(v, W, c), ref.sigmoid(ref.preactivation(v, W, c)))


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.5, 1.0])
def test_sparse_and_full_rows(isa: str, fraction: float) -> None:
    W, _, c = random_model(200, 33, seed=8)
    v = random_bits(20, 200, seed=9, p=fraction)
    expected = ref.preactivation(v, W, c)
    out = np.empty_like(expected)
    engine = get_engine(n_threads=1)
    machine = engine.machine(W, np.zeros(200, F32), c, "auto")
    csr = scipy.sparse.csr_array(v.astype(np.uint8))
    for rows in (engine.rows_of_bytes(v), engine.rows_of_sparse(csr, True)):
        assert rows.is_binary
        out[...] = np.nan
        machine.preactivations(rows, out)
        assert same_bits(out, expected)


def test_bytes_other_than_one_count_as_ones_below_ops(isa: str) -> None:
    """A C caller's true may be any byte; ops refuses it, the kernels take it as 1."""
    W, b, c = random_model(20, 5, seed=10)
    v = random_bits(4, 20, seed=11)
    engine = get_engine(n_threads=1)
    out = np.empty((4, 5), F32)
    engine.machine(W, b, c, "auto").propup(engine.rows_of_bytes(v.astype(np.uint8) * 254), out)
    assert same_bits(out, ops.propup(v, W, c))
    with pytest.raises(ValueError, match="v of dtype uint8 must hold zeros and ones, got 254"):
        ops.propup(v.astype(np.uint8) * 254, W, c)


# --- The 16-bit weights ---------------------------------------------------------------------------


def quantized(M: np.ndarray) -> np.ndarray:
    """q·s, which a product with the unit matrix shows exactly: s is a power of 2."""
    return ops.matmul(np.eye(len(M), dtype=bool), M)


def exact_product(M: np.ndarray) -> np.ndarray:
    q, s = ref.quantize(M)
    with np.errstate(over="ignore"):  # the largest float rounds up to 2^128
        return q.astype(F32) * s


def special_columns() -> np.ndarray:
    """Columns of four: scales at their turning points, halves, zeros, tiny and huge values."""
    top = F32(32767)
    columns = [
        [top, 0.5, 1.5, 2.5],
        [top, -0.5, -1.5, -2.5],
        [np.nextafter(top, F32(0)), 0.5, 1.5, 100],
        [np.nextafter(top, F32(1e9)), 1.0, 3.0, 5.0],
        [32768, 1.0, 3.0, -5.0],
        [-32767.5, 1.0, 2.0, 3.0],
        [1.0, 2**-15, 2**-16, 3 * 2**-16],
        [0.0, 0.0, 0.0, 0.0],
        [-0.0, 0.0, -0.0, 0.0],
        [1e-45, -1e-45, 0.0, 3e-45],
        [2.0**-126, 2.0**-127, 1e-45, -(2.0**-140)],
        [32767 * 2.0**-126, 2.0**-127, 3 * 2.0**-127, 0],
        [np.nextafter(F32(32767 * 2.0**-126), F32(1)), 2.0**-126, 3 * 2.0**-126, 0],
        [3.4e38, 1.0, -3.4e38, 1e34],
        [np.finfo(F32).max, np.finfo(F32).max, -np.finfo(F32).max, 1e30],
    ]
    M = np.array(columns, F32).T
    scaled = [M[:, :9] * F32(2.0**e) for e in (-90, -15, -1, 1, 80)]
    return np.ascontiguousarray(np.hstack([M, *scaled]))


def test_quantisation_at_the_edges(isa: str) -> None:
    M = special_columns()
    assert same_bits(quantized(M), exact_product(M))


@pytest.mark.parametrize("exponent", [-120, -30, -3, 0, 5, 100])
def test_quantisation_of_random_columns(isa: str, exponent: int) -> None:
    rng = np.random.default_rng(12)
    M = (rng.normal(0, 1, (50, 70)) * 2.0 ** rng.integers(-8, 8, 70)).astype(F32)
    M *= F32(2.0**exponent)
    assert same_bits(quantized(M), exact_product(M))
    # Down: the same through the transpose, which has kernels of its own.
    W = np.ascontiguousarray(M.T)
    out = np.empty((50, 70), F32)
    engine = get_engine(n_threads=1)
    machine = engine.machine(W, np.zeros(70, F32), np.zeros(50, F32), "auto")
    machine.propdown(engine.rows_of_bytes(np.eye(50, dtype=bool)), out)
    assert same_bits(out, ref.sigmoid(exact_product(M)))


@pytest.mark.parametrize("K", [65_535, 65_538, 65_539, 70_000, 131_077])
def test_sums_of_very_many_inputs_fit(isa: str, K: int) -> None:
    """All weights at their largest: the sum is exactly K·qmax·s, and stays below 2^31."""
    M = np.ones((K, 3), F32)
    M[:, 1] = -1
    M[:, 2] = np.linspace(-1, 1, K)
    v = np.ones((2, K), bool)
    v[1, ::2] = False
    expected = ref.preactivation(v, M, np.zeros(3, F32))
    assert same_bits(ops.matmul(v, M), expected)
    h = np.ascontiguousarray(M.T)  # and down
    got = ops.propdown(v, h, np.zeros(3, F32))
    assert same_bits(got, ref.sigmoid(expected))
    # qmax·s is within s of the largest weight, so each term is off by less than 2 parts in 16384.
    assert abs(expected[0, 0] - K) <= K * 2.0**-13


def test_error_bound_of_the_quantised_product(isa: str) -> None:
    """|x - exact| <= active·s/2 plus two roundings (docs/numerics.md, section 3)."""
    for scale in (0.01, 1.0, 100.0):
        W, _, c = random_model(100, 40, seed=13, scale=scale)
        v = random_bits(50, 100, seed=14)
        engine = get_engine()
        x = np.empty((50, 40), F32)
        engine.machine(W, np.zeros(100, F32), c, "auto").preactivations(engine.rows_of_bytes(v), x)
        product = v.astype(np.float64) @ W.astype(np.float64)
        _, s = ref.quantize(W)
        # Roundings: of float(acc)·s (acc may pass 24 bits) and of the sum with the bias.
        slack = EPS * (np.abs(product) + np.abs(x)) * 1.01
        assert (np.abs(x - (product + c)) <= v.sum(axis=1)[:, None] * s / 2 + slack).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_must_be_finite(isa: str, value: float) -> None:
    for place in ((0, 0), (69, 66), (33, 64)):
        W, b, c = random_model(70, 67, seed=15)
        W[place] = value
        for call in (
            lambda W=W, c=c: ops.propup(np.ones((1, 70), bool), W, c),
            lambda W=W, b=b: ops.propdown(np.ones((1, 67), bool), W, b),
        ):
            with pytest.raises(ValueError, match="weights hold values that are infinite or not"):
                call()


# --- The float32 path -----------------------------------------------------------------------------


def products(K: int) -> list[tuple[str, Callable[..., np.ndarray], np.ndarray, np.ndarray]]:
    """Name, function of rows and precision, matrix (K, N), bias."""
    up, down = random_model(K, 37, seed=16)[0], random_model(37, K, seed=17)[0]
    c = random_model(1, 37, seed=18)[2]
    return [
        ("propup", lambda v, **o: ops.propup(v, up, c, **o), up, c),
        ("propdown", lambda h, **o: ops.propdown(h, down, c, **o), down.T, c),
    ]


@pytest.mark.parametrize("n_rows", [1, 16, 17, 1025])
@pytest.mark.parametrize("K", [1, 31, 64, 200])
def test_float32_path_is_close_to_float64(isa: str, K: int, n_rows: int) -> None:
    """A float32 sum of K products in any order is off by at most about K roundings of Σ|v w|.

    One more rounding adds the bias. σ is 1/4 as steep at most, and itself off by 3 ULP, each at
    most 2^-24 below 1.
    """
    for values, options in (
        (random_reals(n_rows, K, seed=19), {}),
        (random_bits(n_rows, K, seed=20), {"precision": "float32"}),
    ):
        for name, function, M, bias in products(K):
            exact = ref.propup64(values, M, bias)
            terms = values.astype(np.float64) @ np.abs(M).astype(np.float64) + np.abs(bias)
            tolerance = (K + 2) * EPS * terms / 4 + 3 * EPS
            got = function(values, **options)
            assert (np.abs(got - exact) <= tolerance).all(), name
            if options:
                assert same_bits(function(packed(values), **options), got)


def test_real_rows_of_zeros_and_ones_are_close_to_the_binary_path() -> None:
    W, _, c = random_model(60, 20, seed=21)
    v = random_bits(30, 60, seed=22)
    _, s = ref.quantize(W)
    # Half a unit of s for each active input, times the slope 1/4; float32 rounding is far smaller.
    tolerance = v.sum(axis=1)[:, None] * s / 8 + 1e-5
    difference = np.abs(ops.propup(v, W, c) - ops.propup(v.astype(F32), W, c))
    assert (difference <= tolerance).all()
    assert difference.max() > 0  # the two paths are not the same one


# --- matmul ---------------------------------------------------------------------------------------


def test_matmul_binary_and_batched(isa: str) -> None:
    rng = np.random.default_rng(23)
    a = rng.random((3, 9, 33)) < 0.5
    b = rng.normal(0, 1, (3, 33, 17)).astype(F32)
    expected = [ref.preactivation(x, M, np.zeros(17, F32)) for x, M in zip(a, b, strict=True)]
    assert same_bits(ops.matmul(a, b), np.stack(expected))
    assert same_bits(ops.matmul(a.astype(np.uint8), b), np.stack(expected))
    assert same_bits(ops.matmul(packed(a[1]), b[1]), expected[1])
    out = np.empty((3, 9, 17), F32)
    assert ops.matmul(a, b, out=out) is out
    assert same_bits(out, np.stack(expected))


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_matmul_real(precision: Any) -> None:
    rng = np.random.default_rng(24)
    a = rng.normal(0, 1, (2, 9, 33)).astype(F32)
    b = rng.normal(0, 1, (2, 33, 17)).astype(F32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    tolerance = 34 * EPS * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))
    assert (np.abs(ops.matmul(a, b, precision=precision) - exact) <= tolerance).all()
    assert (np.abs(ops.matmul(a[0], b[0], precision=precision) - exact[0]) <= tolerance[0]).all()
    binary = a > 0
    exact = binary.astype(np.float64) @ b.astype(np.float64)
    got = ops.matmul(binary, b, precision="float32")
    assert (np.abs(got - exact) <= tolerance.max()).all()


def test_matmul_strided_rows() -> None:
    rng = np.random.default_rng(25)
    a = Canvas.of(rng.normal(0, 1, (5, 7)).astype(F32))
    b = Canvas.of(rng.normal(0, 1, (7, 3)).astype(F32))
    out = Canvas((5, 3), F32)
    ops.matmul(a.view, b.view, out=out.view)
    np.testing.assert_allclose(out.view, a.view @ b.view, rtol=0, atol=8 * EPS * 7 * 9)
    assert out.is_intact()


def test_matmul_of_nothing() -> None:
    assert ops.matmul(np.empty((3, 0), F32), np.empty((0, 1), F32)).tolist() == [[0]] * 3
    assert ops.matmul(np.empty((3, 0), bool), np.empty((0, 1), F32)).tolist() == [[0]] * 3
    assert ops.matmul(np.empty((3, 2), bool), np.empty((2, 0), F32)).shape == (3, 0)
    assert ops.matmul(np.empty((0, 3, 2), bool), np.empty((0, 2, 4), F32)).shape == (0, 3, 4)


def test_matmul_refuses() -> None:
    a, b = np.ones((2, 3), F32), np.ones((3, 4), F32)
    with pytest.raises(ValueError, match=r"a must have 3 columns, got float32 of shape \(2, 2\)"):
        ops.matmul(a[:, :2].copy(), b)
    with pytest.raises(ValueError, match=r"with the same first axis; got float32 of shape \(2, 3"):
        ops.matmul(a, b[None])
    with pytest.raises(TypeError, match=r"a of three dimensions must be .* got uint64"):
        ops.matmul(np.zeros((1, 2, 1), np.uint64), b[None])
    with pytest.raises(TypeError, match="a must have dtype float32 or bool or uint8 or uint64"):
        ops.matmul(a.astype(np.float64), b)
    with pytest.raises(ValueError, match="precision must be one of 'auto', 'float32'; got 'half'"):
        ops.matmul(a, b, precision="half")
