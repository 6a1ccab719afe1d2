"""From pixel bytes to what a Boltzmann machine's visible units take: intensities or bits."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harmonium import ops
from harmonium._checks import check_integer, check_word
from harmonium.engine.protocol import Stream

Binarize: TypeAlias = Literal["threshold", "stochastic"] | None


def check_binarize(binarize: object, threshold: object, seed: object) -> None:
    """Raise ValueError or TypeError for what `as_units` cannot take."""
    check_word("binarize", binarize, (None, "threshold", "stochastic"))
    if not isinstance(threshold, (int, float, np.number)) or not 0 <= threshold < 1:
        raise ValueError(f"threshold={threshold!r}: expected a number in [0, 1)")
    check_integer("seed", seed, minimum=0, below=2**64)


def as_units(
    images: NDArray[np.uint8],
    full: int,
    binarize: Binarize,
    threshold: float,
    seed: int,
    step: int = 0,
) -> NDArray[np.float32] | NDArray[np.bool_]:
    """Return `images` / `full` as float32, or bits of it; `full` is the brightest pixel.

    Stochastic bits of image n are draws number `step` of row n (docs/numerics.md, section 2).
    """
    if binarize is None:
        return _intensities(images, full)
    if binarize == "threshold":
        # The darkest level above the threshold, so that bytes are compared with a byte.
        cut = np.uint8(np.count_nonzero(np.arange(full) / full <= threshold))
        bits: NDArray[np.bool_] = images >= cut
        return bits
    return _stochastic(images, full, seed, step)


def _stochastic(images: NDArray[np.uint8], full: int, seed: int, step: int) -> NDArray[np.bool_]:
    bits = np.empty(images.shape, dtype=np.bool_)
    for start in range(0, len(images), 1024):  # so that no float copy of the whole is made
        rows = slice(start, start + 1024)
        ops.sample_bernoulli(
            _intensities(images[rows], full),
            seed,
            step=step,
            stream=Stream.BINARISE,
            first_row=start,
            out=bits[rows],
        )
    return bits


def _intensities(images: NDArray[np.uint8], full: int) -> NDArray[np.float32]:
    # One rounding, of the exact quotient: both operands are whole numbers below 2**24.
    quotients: NDArray[np.float32] = np.divide(images, np.float32(full), dtype=np.float32)
    return quotients
