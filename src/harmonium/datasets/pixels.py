"""From pixel bytes to what a Boltzmann machine's visible units take: intensities or bits."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .checks import check_choice, check_integer

Binarize: TypeAlias = Literal["threshold", "stochastic"] | None


def check_binarize(binarize: object, threshold: object, seed: object) -> None:
    """Raise ValueError or TypeError for what `as_units` cannot take."""
    check_choice("binarize", binarize, (None, "threshold", "stochastic"))
    if not isinstance(threshold, (int, float, np.number)) or not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold!r}: expected a number in [0, 1)")
    check_integer("seed", seed)


def as_units(
    images: NDArray[np.uint8], full: int, binarize: Binarize, threshold: float, seed: int
) -> NDArray[np.float32] | NDArray[np.bool_]:
    """Return `images` / `full` as float32, or bits of it; `full` is the brightest pixel."""
    if binarize is None:
        return _intensities(images, full)
    if binarize == "threshold":
        # The darkest level above the threshold, so that bytes are compared with a byte.
        cut = np.uint8(np.count_nonzero(np.arange(full) / full <= threshold))
        bits: NDArray[np.bool_] = images >= cut
        return bits
    return _stochastic(images, seed, full)


def _stochastic(images: NDArray[np.uint8], seed: int, full: int = 255) -> NDArray[np.bool_]:
    """Switch each pixel on with probability equal to its intensity.

    Draws are taken row by row, so the first rows of two calls with one seed agree.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    bits = np.empty(images.shape, dtype=np.bool_)
    for start in range(0, len(images), 1024):  # keeps the draws within the cache
        rows = slice(start, start + 1024)
        draws = generator.random(images[rows].shape, dtype=np.float32)
        np.less(draws, _intensities(images[rows], full), out=bits[rows])
    return bits


def _intensities(images: NDArray[np.uint8], full: int) -> NDArray[np.float32]:
    # One rounding, of the exact quotient: both operands are whole numbers below 2**24.
    quotients: NDArray[np.float32] = np.divide(images, np.float32(full), dtype=np.float32)
    return quotients
