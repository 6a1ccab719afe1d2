"""Pictures in files; what is on them is drawn by :mod:`harmonium.plotting`."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from harmonium.persistence import write_atomically

__all__ = [
    "are_wanted",
    "require_matplotlib",
    "save_confusion",
    "save_figure",
    "save_filters",
    "save_history",
    "save_inpainting",
    "save_reconstructions",
    "save_tiles",
]


def require_matplotlib() -> None:
    """Raise an ImportError that says how to get it, before time is spent on what it is for."""
    if find_spec("matplotlib") is None:
        raise ImportError('pictures need matplotlib: pip install "harmonium[plot]"')


def are_wanted(arguments: argparse.Namespace) -> bool:
    """Return whether a training draws: what was asked for, else what is possible."""
    if arguments.pictures is False:
        return False
    try:
        require_matplotlib()
    except ImportError as error:
        if arguments.pictures:
            raise
        if not arguments.quiet:
            print(f"no pictures: {error}", file=sys.stderr)
        return False
    return True


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure and return its path."""
    with write_atomically(path) as temporary:
        figure.savefig(temporary)
    return path


def save_tiles(images: np.ndarray, image_shape: tuple[int, int], path: Path) -> None:
    """Write images as a grid of greys."""
    from matplotlib.image import imsave

    from harmonium.plotting import tile_images

    picture = tile_images(images, image_shape, scale=None)
    zoom = max(1, round(900 / max(picture.shape)))
    with write_atomically(path) as temporary:
        imsave(temporary, picture.repeat(zoom, 0).repeat(zoom, 1), cmap="gray", vmin=0, vmax=1)


def save_reconstructions(
    rows: np.ndarray, reconstructions: np.ndarray, image_shape: tuple[int, int], path: Path
) -> Path:
    """Draw rows above what a model makes of them."""
    from harmonium.plotting import plot_reconstructions

    ax = plot_reconstructions(rows, reconstructions, image_shape, n=None)
    return save_figure(ax.figure, path)


def save_inpainting(
    rows: np.ndarray,
    known: np.ndarray,
    samples: np.ndarray,
    image_shape: tuple[int, int],
    path: Path,
) -> Path:
    """Draw rows, what is given of them, and what a model makes of the rest."""
    from harmonium.plotting import plot_inpainting

    return save_figure(plot_inpainting(rows, known, samples, image_shape).figure, path)


def save_history(history: dict[str, list[float]], path: Path) -> list[Path]:
    """Draw what was measured during a training, if there was one."""
    from harmonium.plotting import plot_history

    if not history.get("epoch"):
        return []
    # The learning rate is what was asked for, not what came of it; and an error of reconstruction
    # says little beside the likelihood.
    left_out = {"learning_rate"}
    if "log_likelihood" in history:
        left_out |= {"reconstruction_error", "val_reconstruction_error"}
    curves = {name: of for name, of in history.items() if name not in left_out}
    return [save_figure(plot_history(curves), path)] if set(curves) - {"epoch", "time"} else []


def save_filters(components: Any, image_shape: tuple[int, int], path: Path) -> Path:
    """Draw the weights of hidden units."""
    from harmonium.plotting import plot_filters

    return save_figure(plot_filters(components, image_shape).figure, path)


def save_confusion(y_true: Any, y_pred: Any, labels: Any, path: Path) -> Path:
    """Draw which classes are taken for which."""
    from harmonium.plotting import plot_confusion

    return save_figure(plot_confusion(y_true, y_pred, labels).figure, path)
