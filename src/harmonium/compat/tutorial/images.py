"""The tutorials' pictures of filters and samples."""

from __future__ import annotations

from typing import Any

import numpy as np

from harmonium._checks import check_integer
from harmonium.engine.protocol import Array
from harmonium.plotting import tile_images


def tile_raster_images(
    X: Any,
    img_shape: tuple[int, int],
    tile_shape: tuple[int, int],
    tile_spacing: tuple[int, int] = (0, 0),
    scale_rows_to_unit_interval: bool = True,
    output_pixel_vals: bool = True,
) -> Array:
    """Lay images out in a grid, left to right and top to bottom.

    Parameters
    ----------
    X : array-like of shape (n_images, height * width), or tuple of four of them or None
        An image a row; those that have no place are left out. A tuple holds the red, green, blue
        and alpha channels; a colour that is None is 0, such an alpha opaque.
    img_shape : (height, width)
    tile_shape : (rows, columns)
    tile_spacing : (vertical, horizontal), default=(0, 0)
        Black pixels between images.
    scale_rows_to_unit_interval : bool, default=True
        Whether every image spans [0, 1] by itself; a constant one becomes 0. Otherwise values must
        lie in [0, 1].
    output_pixel_vals : bool, default=True
        Whether to return bytes for ``PIL.Image.fromarray``, 255 times the values rounded down, or
        float32 values in [0, 1].

    Returns
    -------
    ndarray of shape (rows * (height + vertical) - vertical, columns * (width + horizontal) \
- horizontal)
        uint8 or float32, with a last axis of 4 where X is a tuple.

    Raises
    ------
    ValueError
        Shapes don't fit together, or values are not finite or leave [0, 1].

    See Also
    --------
    harmonium.plotting.tile_images, harmonium.plotting.plot_filters
    """
    (height, width), (rows, columns), (below, beside) = (
        _pair(name, pair, minimum)
        for name, pair, minimum in (
            ("img_shape", img_shape, 1),
            ("tile_shape", tile_shape, 1),
            ("tile_spacing", tile_spacing, 0),
        )
    )
    if isinstance(X, tuple):
        if len(X) != 4:
            raise ValueError(f"X must be an array, or a tuple of four channels, got {len(X)}")
        size = rows * (height + below) - below, columns * (width + beside) - beside, 4
        picture = np.zeros(size, np.uint8 if output_pixel_vals else np.float32)
        picture[..., 3] = 255 if output_pixel_vals else 1
        for number, channel in enumerate(X):
            if channel is not None:
                picture[..., number] = tile_raster_images(
                    channel,
                    img_shape,
                    tile_shape,
                    tile_spacing,
                    scale_rows_to_unit_interval,
                    output_pixel_vals,
                )
        return picture
    images = np.asarray(X)
    if images.ndim != 2 or images.shape[1] != height * width:
        raise ValueError(
            f"X must have an image of {height} x {width} pixels in each row, got {images.shape}"
        )
    images = images[: rows * columns].astype(np.float32)
    if scale_rows_to_unit_interval:
        images -= images.min(axis=1, keepdims=True)
        images *= 1.0 / (images.max(axis=1, keepdims=True) + np.float32(1e-8))
    # An image's spacing belongs to it here, because the two kinds may differ.
    cells = np.zeros((len(images), height + below, width + beside), np.float32)
    cells[:, :height, :width] = images.reshape(-1, height, width)
    picture = tile_images(cells, tile_shape=(rows, columns), spacing=0, scale=None, background=0.0)
    picture = picture[: picture.shape[0] - below, : picture.shape[1] - beside]
    return (picture * 255).astype(np.uint8) if output_pixel_vals else picture


def _pair(name: str, pair: Any, minimum: int) -> tuple[int, int]:
    if len(pair) != 2:
        raise ValueError(f"{name} must be a pair of integers, got {pair!r}")
    first, second = (check_integer(name, number, minimum=minimum) for number in pair)
    return first, second
