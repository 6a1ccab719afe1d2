"""Pictures: the grid is checked number by number, the plots by what they contain."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from harmonium import plotting
from harmonium.plotting import (
    plot_classes,
    plot_confusion,
    plot_filters,
    plot_history,
    plot_inpainting,
    plot_reconstructions,
    plot_samples,
    tile_images,
)

HISTORY = {
    "epoch": [1, 2, 3, 4],
    "time": [0.1, 0.2, 0.3, 0.4],
    "reconstruction_error": [4.0, 3.0, 2.0, 1.0],
    "val_reconstruction_error": [None, 3.5, float("nan"), 1.5],
    "free_energy_gap": [0.0, 0.1, 0.2, 0.3],
    "val_pseudo_likelihood": [-9.0, -8.0, -7.0, -6.0],
}


# ---- tile_images


def naive_tiles(images, rows, columns, spacing, background):
    _, height, width = images.shape
    picture = np.full(
        (rows * (height + spacing) - spacing, columns * (width + spacing) - spacing), background
    )
    for i, image in enumerate(images):
        top = i // columns * (height + spacing)
        left = i % columns * (width + spacing)
        picture[top : top + height, left : left + width] = image
    return picture.astype(np.float32)


@pytest.mark.parametrize("tile_shape", [(1, 7), (7, 1), (2, 4), (3, 3)])
@pytest.mark.parametrize("image_shape", [(4, 4), (2, 8), (16, 1)])
@pytest.mark.parametrize("spacing", [0, 1, 3])
def test_tiles_lie_where_they_should(tile_shape, image_shape, spacing):
    images = np.random.default_rng(0).random((7, 16))
    before = images.copy()
    picture = tile_images(
        images, image_shape, tile_shape, spacing=spacing, scale=None, background=0.25
    )
    expected = naive_tiles(images.reshape(7, *image_shape), *tile_shape, spacing, 0.25)
    assert picture.dtype == np.float32
    assert picture.flags.c_contiguous
    np.testing.assert_array_equal(picture, expected)
    np.testing.assert_array_equal(images, before)


@pytest.mark.parametrize(
    ("n", "image_shape", "shape"),
    [(1, (4, 4), (4, 4)), (7, (4, 4), (14, 14)), (100, (4, 4), (49, 49)), (4, (2, 8), (11, 8))],
)
def test_default_grid_is_about_square(n, image_shape, shape):
    assert tile_images(np.zeros((n, 16)), image_shape).shape == shape


def test_stack_of_images_needs_no_shape():
    stack = np.random.default_rng(0).random((3, 2, 5))
    np.testing.assert_array_equal(tile_images(stack), tile_images(stack.reshape(3, 10), (2, 5)))


def test_scale_each_spans_every_image():
    picture = tile_images([[0, 1, 2, 4], [-30, -10, -20, -10]], tile_shape=(1, 2), spacing=0)
    np.testing.assert_array_equal(picture, [[0, 0.25, 0, 1], [0.5, 1, 0.5, 1]])


def test_scale_all_spans_all_images():
    images = [[0, 1, 2, 4], [8, 8, 8, 8]]
    picture = tile_images(images, tile_shape=(1, 2), spacing=0, scale="all")
    np.testing.assert_array_equal(picture, [[0, 0.125, 1, 1], [0.25, 0.5, 1, 1]])


def test_scale_symmetric_keeps_zero_grey_and_clips_the_extreme():
    images = np.random.default_rng(0).normal(size=(50, 16))
    images[:, 3] = 0
    limit = np.quantile(np.abs(images), 0.99)
    picture = tile_images(images, tile_shape=(50, 1), spacing=0, scale="symmetric")
    expected = np.clip(0.5 + images / (2 * limit), 0, 1)
    # A few roundings to float32's 6e-8 of values below 1.
    np.testing.assert_allclose(picture.reshape(50, 16), expected, atol=2e-7)
    assert (picture.reshape(50, 16)[:, 3] == 0.5).all()
    assert picture.min() == 0
    assert picture.max() == 1


def test_scale_symmetric_with_hardly_any_weights():
    images = np.zeros((10, 100))
    images[0, 0] = -2  # the 99th percentile is 0
    picture = tile_images(images, scale="symmetric")
    assert picture[0, 0] == 0
    assert picture[0, 1] == 0.5


@pytest.mark.parametrize("scale", ["each", "all", "symmetric"])
def test_constant_images_are_grey(scale):
    picture = tile_images(np.zeros((2, 4)), tile_shape=(2, 1), spacing=0, scale=scale)
    assert (picture == 0.5).all()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float64])
def test_any_numbers_will_do(dtype):
    images = np.array([[0, 1, 1, 0]], dtype)
    np.testing.assert_array_equal(tile_images(images, scale=None), [[0, 1], [1, 0]])


def test_background_may_be_transparent():
    picture = tile_images(np.zeros((3, 4)), background=np.nan)
    assert np.isnan(picture).sum() == 9 + 4  # the cross between the tiles, the empty place


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (np.zeros((2, 10)), {}, "10 features aren't a perfect square"),
        (
            np.zeros((2, 10)),
            {"image_shape": (3, 3)},
            r"3 x 3 doesn't fit images of shape \(2, 10\)",
        ),
        (np.zeros((2, 2, 8)), {"image_shape": (4, 4)}, "4 x 4 doesn't fit"),
        (np.zeros((2, 16)), {"image_shape": (16,)}, r"two positive ints, got \(16,\)"),
        (np.zeros((2, 16)), {"image_shape": (-4, -4)}, "two positive ints"),
        (np.zeros(16), {}, r"expected shape .* got \(16,\)"),
        (np.zeros((0, 16)), {}, r"got \(0, 16\)"),
        (np.zeros((2, 16)), {"tile_shape": (1, 1)}, "1 x 1 has no room for 2 images"),
        (np.zeros((2, 16)), {"spacing": -1}, "spacing: expected 0 or more, got -1"),
        (np.zeros((2, 16)), {"background": 2}, "background: .* got 2"),
        (np.zeros((2, 16)), {"scale": "both"}, "scale: .* got 'both'"),
        (np.full((2, 16), 2), {"scale": None}, r"expected values in \[0, 1\] .* got 2 to 2"),
        (np.full((2, 16), np.nan), {}, "expected finite values"),
        (np.full((2, 16), "a"), {}, "expected numbers, got dtype <U1"),
    ],
)
def test_mistakes_are_named(images, options, words):
    with pytest.raises(ValueError, match=words):
        tile_images(images, **options)


# ---- plots


@pytest.fixture
def figure_module():
    return pytest.importorskip("matplotlib.figure")


@pytest.fixture
def given_ax(figure_module):
    return figure_module.Figure().add_subplot()


def picture_of(ax):
    (image,) = ax.images
    return image.get_array()


def labels_of(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def save_and_read(figure, path):
    """Save as a caller would and return the pixels."""
    figure.savefig(path)
    return pytest.importorskip("matplotlib.image").imread(path)


def test_filters(figure_module, tmp_path):
    weights = np.random.default_rng(0).normal(size=(120, 16))
    ax = plot_filters(SimpleNamespace(components_=weights))
    expected = tile_images(weights[:100], scale="symmetric", background=np.nan)
    np.testing.assert_array_equal(picture_of(ax).filled(np.nan), expected)
    assert labels_of(ax) == []
    assert picture_of(plot_filters(weights, n=None)).shape == (54, 54)
    # The spacing is transparent: the page shows through, and weights are red and blue.
    pixels = save_and_read(ax.figure, tmp_path / "filters.png")
    assert (pixels[0, 0] == 1).all()
    assert (pixels[..., 0] > pixels[..., 2] + 0.5).any()
    assert (pixels[..., 2] > pixels[..., 0] + 0.5).any()


@pytest.mark.parametrize("n", [1, 5, 100])
@pytest.mark.parametrize("image_shape", [(8, 8), (28, 28), (13, 31)])
def test_every_pixel_is_drawn_equally_large(figure_module, tmp_path, n, image_shape):
    states = np.random.default_rng(0).integers(0, 2, (n, *image_shape))
    ax = plot_filters(states, image_shape, scale="all")
    pixels = save_and_read(ax.figure, tmp_path / "a.png")[..., 0]
    picture = np.nan_to_num(picture_of(ax).filled(np.nan), nan=1.0)
    margin = 15
    inner = pixels[margin:-margin, margin:-margin]
    zoom = inner.shape[0] // picture.shape[0]
    np.testing.assert_array_equal(inner, picture.repeat(zoom, 0).repeat(zoom, 1))


def test_reconstructions(figure_module):
    originals = np.random.default_rng(0).random((20, 12))
    ax = plot_reconstructions(originals, originals / 2, (3, 4), n=5)
    expected = np.concatenate([originals[:5], originals[:5] / 2])
    expected = tile_images(expected, (3, 4), (2, 5), scale=None, background=np.nan)
    np.testing.assert_array_equal(picture_of(ax).filled(np.nan), expected)
    assert labels_of(ax) == ["original", "reconstruction"]
    np.testing.assert_allclose(ax.get_yticks(), [1, 5])  # the middles of rows 0-2 and 4-6


def test_reconstructions_beyond_probabilities_share_a_scale(figure_module):
    ax = plot_reconstructions(np.zeros((1, 4)), np.full((1, 4), -3.0))
    picture = picture_of(ax).filled(np.nan)
    assert (picture[:2] == 1).all()
    assert (picture[3:] == 0).all()


def test_samples(figure_module):
    samples = np.random.default_rng(0).integers(0, 2, (3, 4, 16)).astype(bool)
    ax = plot_samples(samples, steps=[0, 10, 1000])
    expected = tile_images(samples.reshape(12, 16), (4, 4), (3, 4), scale=None, background=np.nan)
    np.testing.assert_array_equal(picture_of(ax).filled(np.nan), expected)
    assert labels_of(ax) == ["0", "10", "1,000"]
    assert ax.get_ylabel() == "Gibbs steps"
    assert labels_of(plot_samples(samples)) == ["1", "2", "3"]


def test_samples_of_classes(figure_module):
    samples = np.random.default_rng(0).random((2, 5, 12))
    ax = plot_classes(samples, ["cat", "dog"], (3, 4))
    expected = tile_images(samples.reshape(10, 12), (3, 4), (2, 5), scale=None, background=np.nan)
    np.testing.assert_array_equal(picture_of(ax).filled(np.nan), expected)
    assert labels_of(ax) == ["cat", "dog"]
    assert ax.get_ylabel() == "class"


def test_inpainting_shows_what_is_given_and_what_was_drawn(figure_module):
    rng = np.random.default_rng(0)
    originals, samples = rng.random((4, 12)) < 0.5, rng.random((2, 4, 12))
    for known in (np.arange(12) < 6, rng.random((4, 12)) < 0.5):
        ax = plot_inpainting(originals, known, samples, (3, 4))
        given = np.where(known, originals, 0.5)
        rows = np.concatenate([originals, given, samples[0], samples[1]])
        expected = tile_images(rows, (3, 4), (4, 4), scale=None, background=np.nan)
        np.testing.assert_array_equal(picture_of(ax).filled(np.nan), expected)
        assert labels_of(ax) == ["original", "given", "drawn", "drawn"]


def test_confusion_counts_by_true_class_and_marks_the_errors(figure_module, tmp_path):
    y_true = [0, 0, 0, 0, 1, 1, 2, 2, 2]
    y_pred = [0, 0, 0, 1, 1, 1, 0, 0, 2]
    ax = plot_confusion(y_true, y_pred)
    cells = {text.get_position(): text for text in ax.texts}
    counts = {position: text.get_text() for position, text in cells.items()}
    # (column, row), that is (taken for, true class); what never happens is left empty.
    assert counts == {(0, 0): "3", (1, 0): "1", (1, 1): "2", (0, 2): "2", (2, 2): "1"}
    assert ax.get_ylabel() == "true class"
    assert ax.get_xlabel() == "taken for"
    assert labels_of(ax) == ["0", "1", "2"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1", "2"]
    reds = picture_of(ax).filled(np.nan)
    assert np.isnan(reds[[0, 1, 2, 0, 1, 1, 2], [0, 1, 2, 2, 0, 2, 1]]).all()
    assert 0 < reds[0, 1] < reds[2, 0] <= 1
    assert cells[2, 2].get_fontweight() == "normal"
    assert cells[0, 2].get_fontweight() == "bold"
    pixels = save_and_read(ax.figure, tmp_path / "confusion.png")
    assert (pixels[..., 0] > pixels[..., 2] + 0.3).any()


def test_confusion_of_given_labels_in_their_order(figure_module):
    ax = plot_confusion(["b", "a"], ["b", "b"], ["c", "b", "a"])
    assert labels_of(ax) == ["c", "b", "a"]
    counts = {text.get_position(): text.get_text() for text in ax.texts}
    assert counts == {(1, 1): "1", (1, 2): "1"}


@pytest.mark.parametrize("n", [2, 10, 40])
def test_confusions_numbers_fit_their_cells(figure_module, n):
    y_true = np.repeat(np.arange(n), 3)
    names = np.array([f"class {k}" for k in range(n)])
    ax = plot_confusion(np.tile(names[y_true], 500), np.tile(names[(y_true * 7) % n], 500))
    ax.figure.draw_without_rendering()
    cell = ax.bbox.width / n
    assert max(text.get_window_extent().width for text in ax.texts) < 0.95 * cell
    ticks = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 <= right.x0 for left, right in pairwise(ticks))


def test_labels_stay_on_the_page(figure_module):
    samples = np.zeros((3, 1, 16))
    for ax in (
        plot_classes(samples, ["one", "a longer name", "3"]),
        plot_confusion(["a long name of a class"], ["b"]),
        plot_samples(samples, steps=[1, 10, 1_000_000]),
        plot_reconstructions(samples[0], samples[0]),
        plot_inpainting(samples[0], np.arange(16) < 8, samples),
    ):
        ax.figure.draw_without_rendering()
        box = ax.get_tightbbox()
        page = ax.figure.bbox
        assert box.x0 >= page.x0
        assert box.y0 >= page.y0
        assert box.x1 <= page.x1
        assert box.y1 <= page.y1


def test_history(figure_module, tmp_path):
    figure = plot_history(SimpleNamespace(history_=HISTORY))
    assert [ax.get_ylabel() for ax in figure.axes] == [
        "reconstruction error",
        "free energy gap",
        "pseudo-likelihood",
    ]
    assert {ax.get_xlabel() for ax in figure.axes} == {"epoch"}
    error, gap, likelihood = figure.axes
    training, held_out = error.lines
    assert training.get_xydata().tolist() == [[1, 4], [2, 3], [3, 2], [4, 1]]
    assert held_out.get_xydata().tolist() == [[2, 3.5], [4, 1.5]]
    assert [text.get_text() for text in error.get_legend().get_texts()] == ["training", "held-out"]
    assert [text.get_text() for text in likelihood.get_legend().get_texts()] == ["held-out"]
    assert gap.get_legend() is None
    assert save_and_read(figure, tmp_path / "history.png").std() > 0


def test_history_of_one_epoch_has_a_whole_tick(figure_module):
    (ax,) = plot_history({"epoch": [1], "reconstruction_error": [2.0]}).axes
    low, high = ax.get_xlim()
    assert [tick for tick in ax.get_xticks() if low <= tick <= high] == [1]


def test_history_fills_a_grid(figure_module):
    history = {"epoch": [1, 2]} | {f"metric_{i}": [0, 1] for i in range(4)}
    figure = plot_history(history)
    assert len(figure.axes) == 4
    assert figure.axes[3].get_ylabel() == "metric 3"


def test_given_axes_are_drawn_on(figure_module, given_ax):
    images = np.zeros((2, 16))
    assert plot_filters(images, ax=given_ax) is given_ax
    assert plot_reconstructions(images, images, ax=given_ax) is given_ax
    assert plot_samples(images[None], ax=given_ax) is given_ax
    assert plot_classes(images[None], ["a"], ax=given_ax) is given_ax
    assert plot_confusion([1], [1], ax=given_ax) is given_ax
    assert len(given_ax.images) == 5
    figure = figure_module.Figure()
    axes = figure.subplots(1, 3)
    assert plot_history(HISTORY, axes=axes) is figure
    assert [len(ax.lines) for ax in axes] == [2, 2, 1]


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: plot_filters(SimpleNamespace(fit=None)), "SimpleNamespace has no components_"),
        (lambda: plot_filters(np.zeros((2, 16)), n=0), "n: expected 1 or more"),
        (lambda: plot_filters(np.zeros((2, 15))), "15 features aren't a perfect square"),
        (
            lambda: plot_reconstructions(np.zeros((2, 16)), np.zeros((3, 16))),
            r"reconstructions: expected .* \(2, 16\), got \(3, 16\)",
        ),
        (lambda: plot_samples(np.zeros((2, 16))), r"samples: .* got \(2, 16\)"),
        (lambda: plot_samples(np.zeros((2, 1, 16)), steps=[1]), "steps: expected 2, .* got 1"),
        (lambda: plot_classes(np.zeros((2, 16)), [1, 2]), r"samples: .* got \(2, 16\)"),
        (lambda: plot_classes(np.zeros((2, 1, 16)), [1]), "labels: expected 2, .* got 1"),
        (
            lambda: plot_inpainting(np.zeros((2, 16)), np.zeros(16, bool), np.zeros((3, 4, 16))),
            r"originals: expected .* \(4, 16\), got \(2, 16\)",
        ),
        (
            lambda: plot_inpainting(np.zeros((2, 16)), np.zeros(16), np.zeros((3, 2, 16))),
            r"known: expected bools .* got float64 of shape \(16,\)",
        ),
        (
            lambda: plot_inpainting(np.zeros((2, 16)), np.zeros(9, bool), np.zeros((3, 2, 16))),
            r"known: expected bools of shape \(16,\) or \(2, 16\), got bool of shape \(9,\)",
        ),
        (
            lambda: plot_inpainting(np.zeros((2, 16)), np.zeros(16, bool), np.ones((3, 2, 16)) * 2),
            r"values in \[0, 1\], got 0 to 2",
        ),
        (lambda: plot_confusion([1, 2], [1]), r"y_true and y_pred: .* \(2,\) and \(1,\)"),
        (lambda: plot_confusion([], []), r"got shapes \(0,\) and \(0,\)"),
        (lambda: plot_confusion([1, 2], [1, 3], [1, 2]), r"labels: .* \[3\] are absent"),
        (lambda: plot_history(SimpleNamespace(fit=None)), "SimpleNamespace has no history_"),
        (lambda: plot_history([1, 2]), "history: .* got list"),
        (lambda: plot_history({"loss": [1]}), r"history: .* got \['loss'\]"),
        (lambda: plot_history({"epoch": [1], "time": [1]}), "at least one metric"),
        (lambda: plot_history({"epoch": [1, 2], "a": [1]}), r"history\['a'\]: .* 2 epochs"),
        (lambda: plot_history({"epoch": [1], "a": ["x"]}), r"history\['a'\]: expected numbers"),
    ],
)
def test_mistakes_in_plots_are_named(figure_module, call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_too_few_axes_are_named(given_ax):
    with pytest.raises(ValueError, match="axes: expected 3, one per metric, got 1"):
        plot_history(HISTORY, axes=given_ax)


def test_absent_matplotlib_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    for call in (lambda: plot_filters(np.zeros((2, 4))), lambda: plot_history(HISTORY)):
        with pytest.raises(ImportError, match=r'pip install "harmonium\[plot\]"'):
            call()


def test_no_pyplot_and_no_changed_settings(figure_module):
    code = (
        "import sys, numpy as np; from harmonium import plotting as p\n"
        "x = np.eye(4); assert 'matplotlib' not in sys.modules\n"
        "import matplotlib; before = matplotlib.rcParams.copy()\n"
        "p.plot_filters(x); p.plot_reconstructions(x, x); p.plot_samples(x[None])\n"
        "p.plot_history({'epoch': [1], 'a': [1]}); p.plot_confusion([1], [1])\n"
        "assert matplotlib.rcParams == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    path = Path(plotting.__file__).parents[1]
    # Left open, the backend would be chosen by the comparison itself, through pyplot.
    environment = os.environ | {"PYTHONPATH": str(path), "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, "-W", "error", "-c", code], env=environment, check=True)
