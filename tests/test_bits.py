"""Packing and unpacking, against NumPy's packbits."""

from __future__ import annotations

import numpy as np
import pytest
from layouts import LAYOUTS, SIZES, Canvas, packed, random_bits

from harmonium import _core, ops

F32 = np.float32
VALUES = (bool, np.uint8, F32, np.float64)  # what can be packed
UNITS = (bool, np.uint8, F32)  # what can be unpacked to


@pytest.mark.parametrize("dtype", VALUES)
@pytest.mark.parametrize("n_units", SIZES)
def test_pack(isa: str, n_units: int, dtype: type) -> None:
    bits = random_bits(4, n_units, seed=n_units)
    for layout in LAYOUTS:
        values = Canvas.of(bits.astype(dtype), layout)
        words = Canvas((4, -(-n_units // 64)), np.uint64, layout)
        assert _core.pack(values.view, words.view, 1) == 0
        # Equal to packbits also past the last unit, where every bit is 0.
        assert np.array_equal(words.view, packed(bits))
        assert words.is_intact()
        assert values.is_intact()
        assert np.array_equal(values.view, bits)


@pytest.mark.parametrize("dtype", UNITS)
@pytest.mark.parametrize("n_units", SIZES)
def test_unpack(isa: str, n_units: int, dtype: type) -> None:
    bits = random_bits(4, n_units, seed=n_units)
    for layout in LAYOUTS:
        words = Canvas.of(packed(bits), layout)
        values = Canvas(bits.shape, dtype, layout)
        _core.unpack(words.view, values.view, 1)
        assert np.array_equal(values.view, bits.astype(dtype))
        assert values.is_intact()
        assert words.is_intact()


@pytest.mark.parametrize("n_units", [64, 128, 1000])
def test_whole_words_and_many(isa: str, n_units: int) -> None:
    bits = random_bits(3, n_units, seed=1)
    words = ops.pack(bits)
    assert np.array_equal(words, packed(bits))
    assert np.array_equal(ops.unpack(words, n_units), bits)


def test_bits_past_the_last_unit_are_not_unpacked(isa: str) -> None:
    words = np.full((2, 1), 2**64 - 1, np.uint64)
    out = Canvas((2, 5), np.uint8)
    ops.unpack(words, 5, out=out.view)
    assert (out.view == 1).all()
    assert out.is_intact()


@pytest.mark.parametrize("dtype", [F32, np.float64])
@pytest.mark.parametrize(
    "value, flags",
    [
        (0.0, 0),
        (-0.0, 0),
        (1.0, 0),
        (0.5, _core.NOT_BINARY),
        (1e-45, _core.NOT_BINARY),
        (np.nextafter(F32(1), F32(0)), _core.NOT_BINARY),
        (np.nextafter(F32(1), F32(2)), _core.NOT_BINARY | _core.OUT_OF_RANGE),
        (-1e-45, _core.NOT_BINARY | _core.OUT_OF_RANGE),
        (np.nan, _core.NOT_BINARY | _core.OUT_OF_RANGE),
        (np.inf, _core.NOT_BINARY | _core.OUT_OF_RANGE),
        (-np.inf, _core.NOT_BINARY | _core.OUT_OF_RANGE),
    ],
)
def test_the_scan_sees_every_place(isa: str, dtype: type, value: float, flags: int) -> None:
    words = np.empty((2, 2), np.uint64)
    for place in (0, 1, 15, 16, 63, 64, 69):
        values = np.zeros((2, 70), dtype)
        values[1, place] = value
        assert _core.pack(values, words, 1) == flags, place


def test_the_scan_of_bytes(isa: str) -> None:
    words = np.empty((1, 2), np.uint64)
    for place in (0, 8, 63, 64, 69):
        values = np.zeros((1, 70), np.uint8)
        values[0, place] = 2
        assert _core.pack(values, words, 1) == _core.NOT_BINARY | _core.OUT_OF_RANGE, place


@pytest.mark.parametrize("value", [2, 0.5, np.nan, -1])
def test_only_zeros_and_ones_are_packed(value: float) -> None:
    values = np.zeros((3, 67), F32)
    values[2, 66] = value
    with pytest.raises(ValueError, match="v must hold zeros and ones"):
        ops.pack(values)


def test_out_and_dtype() -> None:
    bits = random_bits(3, 70, seed=2)
    words = np.empty((3, 2), np.uint64)
    assert ops.pack(bits, out=words) is words
    for dtype in UNITS:
        values = np.empty((3, 70), dtype)
        assert ops.unpack(words, 70, out=values) is values
        assert ops.unpack(words, 70, dtype=dtype).dtype == dtype
        assert np.array_equal(values, bits)
    assert ops.unpack(words, 70).dtype == bool
    with pytest.raises(TypeError, match="bool, uint8 or float32, got float64"):
        ops.unpack(words, 70, dtype=np.float64)
    with pytest.raises(ValueError, match="bits must have 3 columns, got uint64 of shape"):
        ops.unpack(words, 129)
