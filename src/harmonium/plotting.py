"""Pictures of filters, reconstructions, samples, confusions and training curves.

`tile_images` needs NumPy alone; the ``plot_*`` functions need ``pip install "harmonium[plot]"``.
They draw on the axes they are given, or on a `matplotlib.figure.Figure` of their own that pyplot
doesn't know of, so nothing has to be closed: ``plot_filters(rbm).figure.savefig("filters.png")``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

__all__ = [
    "plot_classes",
    "plot_confusion",
    "plot_filters",
    "plot_history",
    "plot_inpainting",
    "plot_reconstructions",
    "plot_samples",
    "tile_images",
]

Scale = Literal["each", "all", "symmetric"]

_DPI = 150
_LABELS = {
    "log_likelihood": "log-likelihood",
    "reconstruction_error": "reconstruction error",
    "pseudo_likelihood": "pseudo-likelihood",
    "free_energy_gap": "free energy gap",
}


def tile_images(
    images: ArrayLike,
    image_shape: tuple[int, int] | None = None,
    tile_shape: tuple[int, int] | None = None,
    *,
    spacing: int = 1,
    scale: Scale | None = "each",
    background: float = 1.0,
) -> np.ndarray:
    """Lay images out in a grid, left to right and top to bottom, as one grey picture.

    Parameters
    ----------
    images : array-like of shape (n_images, n_pixels) or (n_images, height, width)
        Finite numbers or bools, at least one image.
    image_shape : (height, width), optional
        Needed for flat images that aren't square.
    tile_shape : (rows, columns), optional
        The grid; by default just large enough and about square on the page.
    spacing : int, default=1
        Pixels between neighbouring images, 0 or more.
    scale : {"each", "all", "symmetric"} or None, default="each"
        How values become greys. ``"each"``: every image spans [0, 1] by itself. ``"all"``: one
        range for all of them. ``"symmetric"``: one range for all of them with 0 in its middle, so
        that 0 is 0.5 everywhere; it ends at the 99th percentile of absolute values and the rest is
        clipped (for weights). None: values are in [0, 1] already. What has no range (a constant
        image) becomes 0.5.
    background : float, default=1.0
        Value between images and in empty places, in [0, 1]; or NaN, which matplotlib leaves
        transparent.

    Returns
    -------
    ndarray of shape (rows * (height + spacing) - spacing, columns * (width + spacing) - spacing)
        float32, in [0, 1].

    Raises
    ------
    ValueError
        If shapes don't fit together, values aren't finite, or they leave [0, 1] with
        ``scale=None``.

    Examples
    --------
    >>> tile_images([[0, 1, 2, 3], [4, 4, 0, 0]], (2, 2)).tolist()[0]
    [0.0, 0.3333333432674408, 1.0, 1.0, 1.0]
    """
    stack = _image_stack(images, image_shape, "images")
    n_images, height, width = stack.shape
    if tile_shape is None:
        # Columns * width and rows * height about equal, images being seldom far from square.
        columns = min(n_images, math.ceil(math.sqrt(n_images * height / width)))
        tile_shape = (math.ceil(n_images / columns), columns)
    rows, columns = _pair(tile_shape, "tile_shape")
    if rows * columns < n_images:
        raise ValueError(f"tile_shape: {rows} x {columns} has no room for {n_images} images")
    if spacing < 0:
        raise ValueError(f"spacing: expected 0 or more, got {spacing}")
    if not (0 <= background <= 1 or math.isnan(background)):
        raise ValueError(f"background: expected a value in [0, 1] or NaN, got {background}")

    cells = np.full((rows * columns, height + spacing, width + spacing), background, np.float32)
    cells[:n_images, :height, :width] = _scaled(stack, scale)
    picture = cells.reshape(rows, columns, height + spacing, width + spacing).swapaxes(1, 2)
    picture = picture.reshape(rows * (height + spacing), columns * (width + spacing))
    return np.ascontiguousarray(picture[: picture.shape[0] - spacing, : picture.shape[1] - spacing])


def plot_filters(
    rbm_or_components: Any,
    image_shape: tuple[int, int] | None = None,
    *,
    n: int | None = 100,
    scale: Scale | None = "symmetric",
    ax: Axes | None = None,
) -> Axes:
    """Draw the weights of hidden units as images: red excites, blue inhibits, white is zero.

    Parameters
    ----------
    rbm_or_components : estimator or array-like of shape (n_components, n_features)
        Weights, one row per hidden unit, or a fitted estimator that has them as ``components_``.
    image_shape : (height, width), optional
        Needed if n_features isn't a perfect square.
    n : int or None, default=100
        Draw at most the first `n` hidden units; None draws all.
    scale : {"symmetric", "each", "all"} or None, default="symmetric"
        See `tile_images`. Only ``"symmetric"`` keeps zero white and strengths comparable; the
        others are drawn in greys, since their colours have no sign.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the estimator isn't fitted, or shapes don't fit together.
    ImportError
        If matplotlib isn't installed.
    """
    components = _fitted(rbm_or_components, "components_")
    picture = tile_images(_first(components, n, "n"), image_shape, scale=scale, background=math.nan)
    return _show(picture, ax, cmap="RdBu_r" if scale == "symmetric" else "gray")


def plot_reconstructions(
    originals: ArrayLike,
    reconstructions: ArrayLike,
    image_shape: tuple[int, int] | None = None,
    *,
    n: int | None = 12,
    ax: Axes | None = None,
) -> Axes:
    """Draw images above their reconstructions, on one grey scale.

    Parameters
    ----------
    originals, reconstructions : array-like of shape (n_images, n_features)
        Row i of one belongs to row i of the other; (n_images, height, width) will do too.
    image_shape : (height, width), optional
        Needed if n_features isn't a perfect square.
    n : int or None, default=12
        Draw at most the first `n` images; None draws all.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the two differ in shape, or shapes don't fit together.
    ImportError
        If matplotlib isn't installed.
    """
    above = _image_stack(_first(originals, n, "n"), image_shape, "originals")
    below = _image_stack(_first(reconstructions, n, "n"), image_shape, "reconstructions")
    if np.shape(originals) != np.shape(reconstructions):
        raise ValueError(
            f"reconstructions: expected the shape of originals, {np.shape(originals)}, "
            f"got {np.shape(reconstructions)}"
        )
    picture = _tile_states(np.concatenate([above, below]), (2, len(above)))
    ax = _show(picture, ax, cmap="gray", left=1.15)
    _label_rows(ax, ["original", "reconstruction"])
    return ax


def plot_samples(
    samples: ArrayLike,
    image_shape: tuple[int, int] | None = None,
    *,
    ax: Axes | None = None,
    steps: Sequence[int] | None = None,
) -> Axes:
    """Draw Gibbs chains over time: one row per recorded time, one column per chain.

    Parameters
    ----------
    samples : array-like of shape (n_times, n_chains, n_features)
        States or probabilities of the visible units.
    image_shape : (height, width), optional
        Needed if n_features isn't a perfect square.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.
    steps : sequence of n_times ints, optional
        Gibbs steps done at each recorded time, written beside the rows; by default the rows are
        numbered 1, 2, ...

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes don't fit together.
    ImportError
        If matplotlib isn't installed.
    """
    n_times = len(_rows_of_samples(samples, "n_times, n_chains"))
    if steps is None:
        labels, title = [str(time) for time in range(1, n_times + 1)], "recorded state"
    elif len(steps) != n_times:
        raise ValueError(f"steps: expected {n_times}, one per recorded time, got {len(steps)}")
    else:
        labels, title = [f"{step:,}" for step in steps], "Gibbs steps"
    return _show_rows(samples, image_shape, ax, labels, title)


def plot_inpainting(
    originals: ArrayLike,
    known: ArrayLike,
    samples: ArrayLike,
    image_shape: tuple[int, int] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw images, what is known of them, with the rest in grey, and how the rest was drawn.

    Parameters
    ----------
    originals : array-like of shape (n_images, n_features)
        Values in [0, 1].
    known : bool array-like of shape (n_features,) or (n_images, n_features)
        True where a pixel is given.
    samples : array-like of shape (n_draws, n_images, n_features)
        States or probabilities of the visible units, a row of images for each draw. They are drawn
        as they are, so what was given should be there.
    image_shape : (height, width), optional
        Needed if n_features isn't a perfect square.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes don't fit together, or values leave [0, 1].
    ImportError
        If matplotlib isn't installed.
    """
    states, images = _rows_of_samples(samples, "n_draws, n_images"), np.asarray(originals)
    if images.shape != states.shape[1:]:
        raise ValueError(
            f"originals: expected the shape of a draw of samples, {states.shape[1:]}, "
            f"got {images.shape}"
        )
    mask = np.asarray(known)
    if mask.dtype != np.bool_ or mask.shape not in (images.shape, images.shape[1:]):
        raise ValueError(
            f"known: expected bools of shape {images.shape[1:]} or {images.shape}, "
            f"got {mask.dtype} of shape {mask.shape}"
        )
    rows = np.concatenate([images[None], np.where(mask, images, 0.5)[None], states])
    if not (rows.min() >= 0 and rows.max() <= 1):  # grey would be no longer what is unknown
        raise ValueError(f"expected values in [0, 1], got {rows.min():g} to {rows.max():g}")
    return _show_rows(rows, image_shape, ax, ["original", "given", *["drawn"] * len(states)], "")


def plot_classes(
    samples: ArrayLike,
    labels: Sequence[Any] | np.ndarray,
    image_shape: tuple[int, int] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw samples of classes: one row per class.

    Parameters
    ----------
    samples : array-like of shape (n_classes, n_samples, n_features)
        States or probabilities of the visible units.
    labels : sequence of n_classes objects
        Names of the classes, written beside the rows.
    image_shape : (height, width), optional
        Needed if n_features isn't a perfect square.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If shapes don't fit together.
    ImportError
        If matplotlib isn't installed.
    """
    n_classes = len(_rows_of_samples(samples, "n_classes, n_samples"))
    if len(labels) != n_classes:
        raise ValueError(f"labels: expected {n_classes}, one per class, got {len(labels)}")
    return _show_rows(samples, image_shape, ax, [str(label) for label in labels], "class")


def plot_confusion(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    labels: Sequence[Any] | np.ndarray | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often each class is taken for which: a row per true class, errors in red.

    The reds' scale is that of the errors alone; what is right, on the diagonal, stays grey.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_samples,)
        Labels of any kind.
    labels : sequence, optional
        The classes, in the order of rows and columns; by default all that occur, sorted.
    ax : matplotlib.axes.Axes, optional
        Where to draw; by default on a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the two differ in length, are empty, or hold labels that are not among `labels`.
    ImportError
        If matplotlib isn't installed.
    """
    truth, told = np.asarray(y_true), np.asarray(y_pred)
    if truth.ndim != 1 or truth.shape != told.shape or truth.size == 0:
        raise ValueError(
            f"y_true and y_pred: expected two vectors of one length, got shapes {truth.shape} and "
            f"{told.shape}"
        )
    classes = np.union1d(truth, told) if labels is None else np.asarray(labels)
    strangers = np.setdiff1d(np.union1d(truth, told), classes)
    if strangers.size:
        raise ValueError(
            f"labels: expected all that occur, but {strangers[:5].tolist()} are absent"
        )
    n = len(classes)
    order = np.argsort(classes)
    rows, columns = (order[np.searchsorted(classes, y, sorter=order)] for y in (truth, told))
    counts = np.zeros((n, n), np.int64)
    np.add.at(counts, (rows, columns), 1)
    if ax is None:
        names = max(len(str(label)) for label in classes)
        size = 1.0 + 0.08 * names + max(0.42, 0.085 * len(str(counts.max()))) * max(n, 4)
        figure = _figure_class()(figsize=(size, size), dpi=_DPI)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.1)  # inches
        ax = figure.add_subplot()
    errors = np.where(np.eye(n, dtype=bool), 0, counts)
    # A single error among many is seen too, and few errors don't look like many.
    reds = np.where(errors > 0, 0.15 + 0.75 * errors / max(errors.max(), 5), np.nan)
    ax.imshow(reds, cmap="Reds", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        is_right = row == column
        ax.text(
            column,
            row,
            f"{counts[row, column]}",
            ha="center",
            va="center",
            fontsize=8,
            color="0.4" if is_right else "white" if reds[row, column] > 0.55 else "black",
            fontweight="normal" if is_right else "bold",
        )
    ax.set_xticks(range(n), [str(label) for label in classes])
    ax.set_yticks(range(n), [str(label) for label in classes])
    if n and max(len(str(label)) for label in classes) > 3:
        ax.tick_params(axis="x", rotation=90)
    ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="0.9", linewidth=0.8)
    ax.tick_params(which="both", length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("taken for")
    ax.set_ylabel("true class")
    return ax


def plot_history(history: Any, *, axes: Sequence[Axes] | np.ndarray | None = None) -> Figure:
    """Draw what was measured during training, a panel per metric, against the epoch.

    Parameters
    ----------
    history : mapping of str to sequence, or estimator
        ``"epoch"`` and any number of metrics of the same length, say ``"reconstruction_error"``;
        ``"val_" + metric`` is its held-out twin and shares its panel. ``"time"`` is passed over.
        None and NaN are epochs in which a metric wasn't measured. A fitted estimator may be given
        that has all this as ``history_``.
    axes : sequence of matplotlib.axes.Axes, optional
        Where to draw, one per metric; by default on a new figure.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ValueError
        If the estimator isn't fitted, there is nothing to draw, or lengths differ.
    ImportError
        If matplotlib isn't installed.
    """
    curves = _curves(_fitted(history, "history_"))
    epoch = curves.pop("epoch")
    metrics = list(dict.fromkeys(name.removeprefix("val_") for name in curves))
    if not metrics:
        raise ValueError("history: expected at least one metric beside 'epoch' and 'time'")
    if axes is None:
        columns = min(len(metrics), 3)
        rows = math.ceil(len(metrics) / columns)
        size = (0.4 + 3.3 * columns, 0.2 + 2.5 * rows)
        figure = _figure_class()(figsize=size, dpi=_DPI)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)  # inches
        panels = list(figure.subplots(rows, columns, squeeze=False).flat)
        for unused in panels[len(metrics) :]:
            unused.remove()
    else:
        panels = list(np.ravel(np.asarray(axes, dtype=object)))
        if len(panels) < len(metrics):
            raise ValueError(f"axes: expected {len(metrics)}, one per metric, got {len(panels)}")
        figure = panels[0].figure
    for panel, metric in zip(panels, metrics, strict=False):
        _draw_panel(panel, epoch, metric, curves)
    return figure


def _draw_panel(ax: Axes, epoch: np.ndarray, metric: str, curves: dict[str, np.ndarray]) -> None:
    for name, label, style in (
        (metric, "training", "C0-"),
        (f"val_{metric}", "held-out", "C1--"),
    ):
        if name in curves:
            measured = np.isfinite(curves[name])
            # A curve of few points shows where they are; a single one is nothing but its marker.
            marker = "o" if measured.sum() <= 20 else ""
            x, y = epoch[measured], curves[name][measured]
            ax.plot(x, y, style, label=label, marker=marker, markersize=3)
    ax.set_xlabel("epoch")
    ax.set_ylabel(_LABELS.get(metric, metric.replace("_", " ")))
    ax.locator_params(axis="x", integer=True, nbins=6, min_n_ticks=1)
    ax.spines[["top", "right"]].set_visible(False)
    if metric == "free_energy_gap":
        ax.axhline(0, color="0.7", linewidth=0.8, zorder=0)
    if f"val_{metric}" in curves:
        ax.legend(frameon=False)


def _curves(history: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return epoch and metrics as float arrays of one length."""
    if not isinstance(history, Mapping) or "epoch" not in history:
        got = list(history) if isinstance(history, Mapping) else type(history).__name__
        raise ValueError(f"history: expected a dict of lists with a list 'epoch', got {got}")
    curves = {}
    for name, values in history.items():
        if name == "time":
            continue
        try:
            curves[name] = np.asarray(values, dtype=float)  # None becomes NaN
        except (TypeError, ValueError) as error:
            raise ValueError(f"history[{name!r}]: expected numbers ({error})") from error
        if curves[name].shape != (len(history["epoch"]),):
            raise ValueError(
                f"history[{name!r}]: expected one number for each of the "
                f"{len(history['epoch'])} epochs, got shape {curves[name].shape}"
            )
    return curves


def _fitted(owner: Any, attribute: str) -> Any:
    """Return what a fitted estimator learned; what is no estimator is returned as it is."""
    if hasattr(owner, "fit") and not hasattr(owner, attribute):
        raise ValueError(f"expected a fitted estimator: {type(owner).__name__} has no {attribute}")
    return getattr(owner, attribute, owner)


def _first(images: ArrayLike, n: int | None, argument: str) -> np.ndarray:
    if n is not None and n < 1:
        raise ValueError(f"{argument}: expected 1 or more, or None for all, got {n}")
    return np.asarray(images)[:n]


def _pair(shape: Any, argument: str) -> tuple[int, int]:
    if len(shape) != 2 or min(shape) < 1:
        raise ValueError(f"{argument}: expected two positive ints, got {shape!r}")
    return shape[0], shape[1]


def _image_stack(images: ArrayLike, image_shape: Any, argument: str) -> np.ndarray:
    """Return finite images as (n_images, height, width), float32 or wider."""
    stack = np.asarray(images)
    if stack.dtype.kind not in "biuf":
        raise ValueError(f"{argument}: expected numbers, got dtype {stack.dtype}")
    if stack.ndim not in (2, 3) or stack.size == 0:
        raise ValueError(
            f"{argument}: expected shape (n_images, n_pixels) or (n_images, height, width), "
            f"none of them 0, got {stack.shape}"
        )
    n_pixels = math.prod(stack.shape[1:])
    if image_shape is not None:
        height, width = _pair(image_shape, "image_shape")
    elif stack.ndim == 3:
        height, width = stack.shape[1:]
    else:
        height = width = math.isqrt(n_pixels)
        if height * width != n_pixels:
            raise ValueError(
                f"image_shape: needed, since {n_pixels} features aren't a perfect square; "
                "give (height, width)"
            )
    if height * width != n_pixels or (stack.ndim == 3 and stack.shape[1:] != (height, width)):
        raise ValueError(
            f"image_shape: {height} x {width} doesn't fit {argument} of shape {stack.shape}"
        )
    stack = stack.astype(np.result_type(stack, np.float32), copy=False)
    if not np.isfinite(stack).all():
        raise ValueError(f"{argument}: expected finite values, got NaN or infinity")
    return stack.reshape(-1, height, width)


def _scaled(stack: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Map values to [0, 1]."""
    low: Any = stack.min()
    high: Any = stack.max()
    if scale is None:
        if low < 0 or high > 1:
            raise ValueError(
                f"images: expected values in [0, 1] with scale=None, got {low:g} to {high:g}"
            )
        return stack
    if scale == "each":
        low = stack.min(axis=(1, 2), keepdims=True)
        high = stack.max(axis=(1, 2), keepdims=True)
    elif scale == "symmetric":
        # By the maximum, a few large weights would leave all other filters pale.
        high = np.quantile(np.abs(stack), 0.99) or max(-low, high)
        low = -high
    elif scale != "all":
        raise ValueError(f"scale: expected 'each', 'all', 'symmetric' or None, got {scale!r}")
    span = high - low
    flat = span == 0
    greys = np.where(flat, 0.5, (stack - low) / np.where(flat, 1, span))
    return np.clip(greys, 0, 1)


def _tile_states(stack: np.ndarray, tile_shape: tuple[int, int]) -> np.ndarray:
    """Tile states of visible units: probabilities as they are, other values on a common scale."""
    probabilities = stack.min() >= 0 and stack.max() <= 1
    return tile_images(
        stack, None, tile_shape, scale=None if probabilities else "all", background=math.nan
    )


def _rows_of_samples(samples: ArrayLike, sides: str) -> np.ndarray:
    states = np.asarray(samples)
    if states.ndim != 3:
        raise ValueError(f"samples: expected shape ({sides}, n_features), got {states.shape}")
    return states


def _show_rows(
    samples: ArrayLike, image_shape: Any, ax: Axes | None, labels: Sequence[str], title: str
) -> Axes:
    """Draw rows of images with a label beside each, and what the labels are."""
    states = np.asarray(samples)
    n_rows, n_columns, n_features = states.shape
    stack = _image_stack(states.reshape(n_rows * n_columns, n_features), image_shape, "samples")
    left = 0.35 + 0.09 * max(6, *map(len, labels))
    ax = _show(_tile_states(stack, (n_rows, n_columns)), ax, cmap="gray", left=left)
    _label_rows(ax, labels)
    ax.set_ylabel(title)
    return ax


def _figure_class() -> type[Figure]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plotting needs matplotlib: pip install "harmonium[plot]"') from error
    return Figure


def _show(picture: np.ndarray, ax: Axes | None, *, cmap: str, left: float = 0.0) -> Axes:
    """Draw a picture without ticks; on a new figure if need be, with `left` inches for labels."""
    if ax is None:
        # Every pixel of the picture becomes zoom x zoom pixels of the figure exactly; any other
        # size would draw some rows of pixels thicker than others.
        height, width = picture.shape
        zoom = max(1, min(round(900 / max(height, width)), 20))
        margin = 0.1 * _DPI
        figure_width = width * zoom + left * _DPI + 2 * margin
        figure_height = height * zoom + 2 * margin
        figure = _figure_class()(figsize=(figure_width / _DPI, figure_height / _DPI), dpi=_DPI)
        ax = figure.add_axes(
            (
                (left * _DPI + margin) / figure_width,
                margin / figure_height,
                width * zoom / figure_width,
                height * zoom / figure_height,
            )
        )
    ax.imshow(picture, cmap=cmap, vmin=0, vmax=1, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return ax


def _label_rows(ax: Axes, labels: Sequence[str]) -> None:
    """Write a label beside each of the equally high rows of tiles."""
    bottom, top = ax.get_ylim()
    pitch = (bottom - top + 1) / len(labels)  # a tile and the line of spacing, which the last lacks
    ax.set_yticks(top + pitch * np.arange(len(labels)) + (pitch - 1) / 2, labels)
    ax.tick_params(axis="y", length=0)
