"""Sigmoid and softplus: bits against the reference, ULP against float64, awkward places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import LAYOUTS, SIZES, Canvas

from harmonium import ops

F32 = np.float32
FLUSH = F32(87.3365)

# Name, reference bits, float64 function, and the bound of docs/numerics.md in ULP for x >= -FLUSH.
FUNCTIONS = [
    pytest.param(ops.sigmoid, ref.sigmoid, ref.sigmoid64, 3.0, id="sigmoid"),
    pytest.param(ops.softplus, ref.softplus, ref.softplus64, 4.0, id="softplus"),
]


def sweep() -> np.ndarray:
    """Floats of every exponent and sign, the neighbourhoods of turning points, and specials.

    Every 64 993rd bit pattern (a prime step) visits each of the 510 binades about 130 times;
    a denser grid covers [-100, 100], where the functions do their work.
    """
    patterns = np.arange(0, 2**32, 64_993, dtype=np.uint64).astype(np.uint32).view(F32)
    dense = np.linspace(-100, 100, 40_001, dtype=F32)
    turns = np.array([0, 87.3365, 88, 88.7228, 103.9721, 17.33, np.log(2) / 2], F32)
    around = (turns.view(np.int32)[:, None] + np.arange(-20, 21)).ravel()
    around = around[around >= 0].astype(np.int32).view(F32)
    tiny, huge = np.finfo(F32).smallest_subnormal, np.finfo(F32).max
    special = np.array([0.0, tiny, np.finfo(F32).tiny, huge, np.inf], F32)
    x = np.concatenate([patterns, dense, around, -around, special, -special])
    return x[~np.isnan(x)]


def ulp_error(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|got - exact| in units of the distance between float32 numbers next to the exact value."""
    _, exponent = np.frexp(exact)
    return np.abs(got.astype(np.float64) - exact) / np.ldexp(1.0, np.maximum(exponent - 24, -149))


@pytest.mark.parametrize("function, same, exact, bound", FUNCTIONS)
def test_bits_and_accuracy_of_a_sweep(
    isa: str, function: Any, same: Any, exact: Any, bound: float
) -> None:
    x = sweep()
    y = function(x)
    assert y.tobytes() == same(x).tobytes()
    small = x < -FLUSH
    assert small.any()
    assert (y[small] == 0).all()
    finite = ~small & np.isfinite(x)
    assert ulp_error(y[finite], exact(x[finite])).max() <= bound


def test_special_values(isa: str) -> None:
    # Seventeen of each, so that vectors and their tails see them.
    x = np.repeat(np.array([-np.inf, np.inf, 0.0, -0.0, np.nan, -np.nan], F32), 17)
    with np.errstate(invalid="raise"):
        sigmoid, softplus = (f(x).reshape(6, 17) for f in (ops.sigmoid, ops.softplus))
    assert (sigmoid[:4] == np.array([[0], [1], [0.5], [0.5]])).all()
    assert (softplus[:2] == np.array([[0], [np.inf]])).all()
    assert ulp_error(softplus[2:4], np.full((2, 17), np.log(2))).max() <= 4
    assert np.isnan(sigmoid[4:]).all()
    assert np.isnan(softplus[4:]).all()


def test_order_is_kept(isa: str) -> None:
    """Both functions rise: no step down of more than their error anywhere on a grid."""
    x = np.linspace(-87, 87, 20_000, dtype=F32)
    for function, bound in ((ops.sigmoid, 3), (ops.softplus, 4)):
        y = function(x)
        # Two neighbours may each be off by the bound, in opposite directions.
        assert (np.diff(y) >= -2 * bound * np.spacing(y[1:])).all()


@pytest.mark.parametrize("function, same, exact, bound", FUNCTIONS)
@pytest.mark.parametrize("n", SIZES)
def test_awkward_places(
    isa: str, n: int, function: Any, same: Callable[..., Any], exact: Any, bound: float
) -> None:
    x = np.random.default_rng(n).normal(0, 20, (3, n)).astype(F32)
    expected = same(x).tobytes()
    for layout in LAYOUTS:
        source, target = Canvas.of(x, layout), Canvas(x.shape, F32, layout)
        assert function(source.view, out=target.view) is target.view
        assert target.view.tobytes() == expected
        assert target.is_intact()
        assert source.is_intact()
        assert np.array_equal(source.view, x)
        # In place.
        function(source.view, out=source.view)
        assert source.view.tobytes() == expected
        assert source.is_intact()


@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 5), (2, 1, 3, 4), (0,), (3, 0), (2, 0, 3)])
def test_any_dimension(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(0, 3, shape).astype(F32)
    x = np.asarray(x, F32)
    for function, same in ((ops.sigmoid, ref.sigmoid), (ops.softplus, ref.softplus)):
        y = function(x)
        assert y.shape == shape
        assert y.dtype == F32
        assert y.tobytes() == same(x).tobytes()


def test_what_is_refused() -> None:
    x = np.zeros((2, 3, 4), F32)
    with pytest.raises(ValueError, match="x must be contiguous unless it is two-dimensional"):
        ops.sigmoid(x[:, :, ::2])
    with pytest.raises(ValueError, match=r"x must have contiguous rows.*strides are"):
        ops.softplus(x[0].T)
    with pytest.raises(TypeError, match="x must have dtype float32, got float64"):
        ops.sigmoid(x.astype(np.float64))
    with pytest.raises(TypeError, match="out must have dtype float32, got float64"):
        ops.sigmoid(x, out=np.empty(x.shape))
    with pytest.raises(ValueError, match=r"out must have shape \(2, 3, 4\), got float32 of shape"):
        ops.softplus(x, out=np.empty((2, 3), F32))
    with pytest.raises(TypeError, match=r"n_threads must be an integer, got 1\.5"):
        ops.sigmoid(x, n_threads=1.5)
    with pytest.raises(ValueError, match="n_threads must be at least 1, got 0"):
        ops.sigmoid(x, n_threads=0)


def test_threshold_is_the_documented_one(isa: str) -> None:
    edge = np.array([-FLUSH, np.nextafter(-FLUSH, F32(-100))], F32)
    for y in (ops.sigmoid(edge), ops.softplus(edge)):
        assert y[0] > 0
        assert y[1] == 0
