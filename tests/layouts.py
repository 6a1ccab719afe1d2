"""Arrays in awkward places, and models of any size, for the tests of the kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

F32 = np.float32

# Around the widths of vectors (4, 8, 16 floats), of a word and of a block (64).
SIZES = (1, 3, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127)

# Elements before the first row, and from the end of a row to the next: none, odd, and many.
LAYOUTS = ((0, 0), (1, 3), (3, 64))

# All bits set: NaN as a float, "on" as a byte or a word. Read by mistake, it would show.
CANARY = 0xFF


class Canvas:
    """A matrix inside a larger buffer, whose surroundings must stay as they were."""

    def __init__(
        self, shape: tuple[int, int], dtype: Any, layout: tuple[int, int] = (3, 5)
    ) -> None:
        offset, gap = layout
        rows, cols = shape
        self.shape, self.size = shape, np.dtype(dtype).itemsize
        self.buffer = np.full((offset + rows * (cols + gap) + 71) * self.size, CANARY, np.uint8)
        self.offset = offset * self.size
        self.strides = ((cols + gap) * self.size, self.size)
        self.view = np.ndarray(shape, dtype, self.buffer, self.offset, self.strides)

    @classmethod
    def of(cls, values: np.ndarray, layout: tuple[int, int] = (3, 5)) -> Canvas:
        canvas = cls(values.shape, values.dtype, layout)
        canvas.view[...] = values
        return canvas

    def is_intact(self) -> bool:
        """Whether every byte outside the matrix is the canary still."""
        outside = np.ones(self.buffer.shape, bool)
        shape, strides = (*self.shape, self.size), (*self.strides, 1)
        np.ndarray(shape, bool, outside, self.offset, strides)[...] = False
        return bool((self.buffer[outside] == CANARY).all())


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal shapes, dtypes and bytes: 0 is not -0 here, and a NaN equals itself."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def random_model(
    n_visible: int, n_hidden: int, seed: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, b and c."""
    rng = np.random.default_rng(seed)
    shapes = ((n_visible, n_hidden), n_visible, n_hidden)
    W, b, c = (rng.normal(0, scale, shape).astype(F32) for shape in shapes)
    return W, b, c


def random_bits(n: int, n_units: int, seed: int, p: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random((n, n_units)) < p


def random_reals(n: int, n_units: int, seed: int) -> np.ndarray:
    """Values in [0, 1)."""
    return np.random.default_rng(seed).random((n, n_units), dtype=F32)


def packed(v: np.ndarray) -> np.ndarray:
    """Bits of boolean rows by NumPy: bit j % 64 of word j // 64 is unit j."""
    n, n_units = v.shape
    room = np.zeros((n, -(-n_units // 64) * 64), bool)
    room[:, :n_units] = v
    return np.packbits(room, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def state_counts(states: np.ndarray) -> np.ndarray:
    """How often each of the 2^n states occurs, bit i of its number being unit i."""
    numbers = states @ (1 << np.arange(states.shape[1]))
    return np.bincount(numbers, minlength=2 ** states.shape[1])


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of observed counts; cells expected fewer than five times are pooled."""
    from scipy import stats

    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return float(stats.chisquare(counts, expected).pvalue)
