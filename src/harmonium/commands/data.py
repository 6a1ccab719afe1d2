"""What the commands of the command line do: data, training, a table, pictures.

The demo is a training with settings of its own, `demo_arguments`; everything else is shared.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from harmonium import ops
from harmonium.callbacks import Callback, Checkpoint, ProgressBar
from harmonium.datasets import load_digits, load_mnist, train_validation_split
from harmonium.datasets.pixels import as_units
from harmonium.engine.protocol import Stream
from harmonium.persistence import write_atomically
from harmonium.rbm import BernoulliRBM

__all__ = [
    "Data",
    "Output",
    "checked_shape",
    "demo_arguments",
    "dense",
    "gibbs_chains",
    "load_data",
    "require_matplotlib",
    "save_array",
    "save_reconstructions",
    "save_tiles",
    "table",
    "train",
]

Shape: TypeAlias = tuple[int, int]

HELD_OUT = {"mnist": 10_000, "digits": 360}
"""Rows held out where nobody says how many: the last ones of these two, a tenth of a file."""

DIGIT_SIDE = 16
"""To how many pixels a side scikit-learn's digits are enlarged. At their own 8 x 8, a threshold
leaves shapes that people can't read, and grey levels, taken for probabilities, leave a model little
to learn; interpolated to 16 x 16 and then thresholded, they are legible strokes again."""

PICTURED = 16
PICTURED_STEPS = (0, 1, 10, 100, 1000, 10_000)
SCORE_DRAWS = 50_000
"""Units flipped for a pseudo-likelihood of the closing table: on MNIST a standard error below 2."""


def demo_arguments(data: str, folder: str) -> list[str]:
    """Return the arguments of `harmonium train` that make the demo.

    Parameters
    ----------
    data : {"digits", "mnist"}
    folder : str
        Where the model and the pictures go.

    Returns
    -------
    list of str
    """
    # With a few rows, many chains and small steps give samples of all digits. A machine as small as
    # theirs is done sooner than a second thread has woken.
    digits = "--hidden 144 --epochs 200 --batch-size 10 --chains 100 --gibbs-steps 1 "
    digits += "--learning-rate 0.02 --l2 0.0005 --threads 1"
    own = {"digits": digits.split(), "mnist": ["--hidden", "500"]}
    return ["train", "rbm", "--data", data, *own[data], "--pictures", "--output", folder]


# ---- data ----


@dataclass(frozen=True)
class Data:
    """Rows to learn from, rows to judge by, and what their units are as a picture (or None)."""

    name: str
    train: Any
    held_out: Any
    image_shape: Shape | None

    @property
    def to_show(self) -> Any:
        """Rows the model has not seen, if there are any."""
        return self.train if self.held_out is None else self.held_out


def load_data(
    source: str,
    *,
    binarize: str | None = None,
    held_out: int | None = None,
    seed: int = 0,
    image_shape: Shape | None = None,
) -> Data:
    """Load what ``--data`` names.

    Parameters
    ----------
    source : str
        "mnist", "digits", or a path: what :func:`harmonium.datasets.load_mnist` reads, ``.npy``, or
        ``.npz`` with one array, an array ``X``, or a SciPy sparse matrix.
    binarize : {"threshold", "stochastic", "none"}, optional
        By default "threshold" for digits and MNIST, "none" for arrays.
    held_out : int, optional
        Rows held out: the last ones of digits and MNIST, random ones of arrays. By default
        `HELD_OUT`; 0 holds out none.
    seed : int, default 0
        For stochastic binarisation and random held-out rows.
    image_shape : (height, width), optional
        Of the rows as pictures; by default what the source says, or a square.

    Returns
    -------
    Data

    Raises
    ------
    OSError, ValueError, TypeError
        There is no such file, or it doesn't hold what it should.
    """
    path = Path(source).expanduser()
    is_array = False
    if source == "digits":
        name = f"digits ({DIGIT_SIDE} x {DIGIT_SIDE}, enlarged from 8 x 8)"
        X = as_units(_enlarged_digits(), 255, _word(binarize or "threshold"), 0.5, seed)
    elif source == "mnist" or (path.exists() and not _is_array_file(path)):
        name = "MNIST" if source == "mnist" else f"MNIST in {source}"
        folder = None if source == "mnist" else path
        X, _ = load_mnist(folder, binarize=_word(binarize or "threshold"), seed=seed)
    elif path.exists():
        is_array, name = True, source
        X, own_shape = _read_array(path)
        X = _units_of(X, source, binarize or "none", seed)
        image_shape = image_shape or own_shape
    else:
        raise FileNotFoundError(
            f"--data {source}: there is no such file or folder; "
            "expected mnist, digits, or the path of a .npy or .npz file or of MNIST's files"
        )
    train, rest = _split(X, held_out, source, is_array, seed)
    return Data(name, train, rest, checked_shape(image_shape, X.shape[1]))


def _word(binarize: str) -> Any:
    return None if binarize == "none" else binarize


def _enlarged_digits() -> np.ndarray:
    from scipy.ndimage import zoom

    X, _ = load_digits()
    times = DIGIT_SIDE // 8
    images = zoom(
        X.reshape(-1, 8, 8), (1, times, times), order=3, grid_mode=True, mode="grid-constant"
    )
    # A cubic overshoots at edges.
    pixels: np.ndarray = np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8)
    return pixels.reshape(len(X), -1)


def _is_array_file(path: Path) -> bool:
    if path.suffix == ".npz":
        with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            return "x_train.npy" not in archive.namelist()
    return path.is_file() and path.suffix in (".npy", ".npz")


def _read_array(path: Path) -> tuple[Any, Shape | None]:
    """Read rows, and the shape of one if it is a picture."""
    try:
        if path.suffix == ".npy":
            X = np.load(path, allow_pickle=False)
        else:
            with np.load(path, allow_pickle=False) as arrays:
                names = arrays.files
                if {"indptr", "format"} <= set(names):
                    from scipy.sparse import csr_array, load_npz

                    return csr_array(load_npz(path)), None
                if "X" not in names and len(names) != 1:
                    raise ValueError(f"holds the arrays {names}, expected one, or one named X")
                X = arrays["X" if "X" in names else names[0]]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an array of numbers that can be read ({error})") from error
    if X.dtype.kind not in "biuf" or X.ndim not in (2, 3) or X.size == 0:
        raise ValueError(
            f"{path}: {X.dtype} of shape {X.shape}, expected numbers in rows, (n, units) or "
            "(n, height, width), none of them 0"
        )
    return X.reshape(len(X), -1), X.shape[1:] if X.ndim == 3 else None


def _units_of(X: Any, source: str, binarize: str, seed: int) -> Any:
    if X.dtype == np.uint8 and X.max() > 1:
        if hasattr(X, "tocsr"):
            return _units_of(X.astype(np.float32) / 255, source, binarize, seed)
        return as_units(X, 255, _word(binarize), 0.5, seed)
    low, high = X.min(), X.max()
    if not (low >= 0 and high <= 1):  # so that NaN is caught
        raise ValueError(
            f"{source}: values from {low:g} to {high:g}, expected values in [0, 1], "
            "or bytes (uint8) from 0 to 255"
        )
    if binarize == "none":
        return X
    if binarize == "threshold":
        return X > 0.5
    if hasattr(X, "tocsr"):
        raise ValueError(f"{source}: a sparse matrix can't be binarised stochastically")
    return ops.sample_bernoulli(np.ascontiguousarray(X, np.float32), seed, stream=Stream.BINARISE)


def _split(X: Any, held_out: int | None, source: str, is_array: bool, seed: int) -> tuple[Any, Any]:
    n = X.shape[0]
    if held_out is None:
        # A folder given as MNIST's may hold fewer rows.
        held_out = n // 10 if is_array else min(HELD_OUT.get(source, HELD_OUT["mnist"]), n // 4)
    if held_out >= n:
        raise ValueError(f"--validation {held_out}: expected fewer than the {n} rows of {source}")
    if held_out == 0:
        return X, None
    if is_array:  # whose rows may be in any order
        return train_validation_split(X, validation=held_out, seed=seed)
    return X[:-held_out], X[-held_out:]


def checked_shape(image_shape: Shape | None, n_units: int) -> Shape | None:
    """Return the shape of a row as a picture, None if it has none."""
    if image_shape is None:
        side = math.isqrt(n_units)
        return (side, side) if side * side == n_units else None
    if image_shape[0] * image_shape[1] != n_units:
        raise ValueError(
            f"--image-shape {image_shape[0]}x{image_shape[1]}: doesn't fit rows of {n_units} units"
        )
    return image_shape


# ---- where results go ----


@dataclass(frozen=True)
class Output:
    """The model's file; pictures go beside it."""

    model: Path

    @classmethod
    def at(cls, target: str) -> Output:
        """Take a ``.safetensors`` path or a folder, make the folder and try to write into it.

        Before the training rather than after it.
        """
        path = Path(target).expanduser()
        output = cls(path if path.suffix == ".safetensors" else path / "model.safetensors")
        output.folder.mkdir(parents=True, exist_ok=True)
        if output.model.is_dir():
            raise IsADirectoryError(f"{output.model}: is a folder, expected a file's name")
        try:
            with tempfile.TemporaryFile(dir=output.folder):
                pass
        except OSError as error:
            raise OSError(error.errno, "cannot write into the folder", str(output.folder)) from None
        return output

    @property
    def folder(self) -> Path:
        return self.model.parent

    def picture(self, name: str) -> Path:
        return self.folder / name


# ---- training ----


def train(
    rbm: BernoulliRBM,
    data: Data,
    output: Output,
    *,
    pictures: bool,
    quiet: bool = False,
    checkpoint: str | None = None,
    every: int = 1,
    resume: str | None = None,
) -> None:
    """Fit a model with a progress bar, save it, print the closing table, draw the pictures.

    Parameters
    ----------
    rbm : BernoulliRBM
        With its parameters; `callbacks` are set here.
    data : Data
    output : Output
    pictures : bool
    quiet : bool, default False
        No bar, no table, no paths.
    checkpoint, resume : path, optional
        As :class:`harmonium.callbacks.Checkpoint` and :meth:`BernoulliRBM.fit` take them.
    every : int, default 1
        Epochs from one checkpoint to the next.

    Raises
    ------
    KeyboardInterrupt, FloatingPointError
        Ctrl-C, or training diverged. The model as it is then was saved; the message says where.
    OSError, ValueError, TypeError
        As :meth:`BernoulliRBM.fit`.
    """
    figure_of_merit = "pseudo_likelihood" if data.held_out is None else "val_pseudo_likelihood"
    callbacks: list[Callback] = [] if checkpoint is None else [Checkpoint(checkpoint, every)]
    clock = _Clock()
    callbacks.append(clock)
    if not quiet:
        callbacks.append(ProgressBar([figure_of_merit]))
    rbm.set_params(callbacks=callbacks)
    try:
        rbm.fit(data.train, X_val=data.held_out, resume=resume)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_keep(rbm, output)) from None
    except FloatingPointError as error:
        raise FloatingPointError(f"{error}; {_keep(rbm, output)}") from None
    kept = _keep(rbm, output)
    try:
        if not quiet:
            print(_closing_table(rbm, data, clock))
            print(f"\nmodel     {output.model}")
        drawn = _draw(rbm, data, output) if pictures else []
    except KeyboardInterrupt:
        raise KeyboardInterrupt(kept) from None
    if drawn and not quiet:
        print("\n".join(f"{'pictures' if i == 0 else '':10}{path}" for i, path in enumerate(drawn)))


class _Clock(Callback):
    """When a training began and ended, and the epochs it made."""

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        self.first_epoch = first_epoch
        self._began = time.perf_counter()

    def on_fit_end(self, estimator: Any) -> None:
        self.seconds = time.perf_counter() - self._began


def _keep(rbm: BernoulliRBM, output: Output) -> str:
    """Save the model if there is one, and say so."""
    if not hasattr(rbm, "components_"):
        return "nothing was trained yet, so nothing was saved"
    rbm.save(output.model)
    return f"the model after {rbm.n_iter_} whole epochs and what followed is in {output.model}"


# ---- the closing table ----


def _closing_table(rbm: BernoulliRBM, data: Data, clock: _Clock) -> str:
    n_rows, n_visible = data.train.shape
    n_epochs = rbm.n_iter_ - clock.first_epoch
    speed = (
        f"{_rounded(n_rows * n_epochs / clock.seconds)} samples/s" if n_epochs else "nothing new"
    )
    resumed = f" (resumed after {clock.first_epoch})" if clock.first_epoch else ""
    history = rbm.history_

    def last(name: str) -> str:
        return f"{history[name][-1]:.4f}" if history.get(name) else "-"

    columns = [data.train] if data.held_out is None else [data.train, data.held_out]
    errors = ("reconstruction_error", "val_reconstruction_error")
    rows = [
        ("", "training", "held out"),
        ("rows", *(f"{X.shape[0]:,}" for X in columns)),
        ("pseudo-likelihood", *(_pseudo_likelihood(rbm, X) for X in columns)),
    ]
    if data.train.dtype == np.bool_:
        rows.append(("  of independent units", *(_independent(data.train, X) for X in columns)))
    rows.append(("reconstruction error", *(last(name) for name in errors[: len(columns)])))
    about = [
        ("data", data.name),
        ("model", f"{n_visible} visible and {rbm.n_components} hidden units"),
        ("training", f"{rbm.n_iter_} epochs{resumed} in {clock.seconds:.1f} s, {speed}"),
    ]
    width = 1 + len(columns)
    return f"{table(about)}\n\n{table([row[:width] for row in rows])}\n{_FOOTNOTE}"


_FOOTNOTE = (
    "\npseudo-likelihood: nats a row, larger is better, plus or minus its standard error;\n"
    "reconstruction error: mean square a unit, of up to 1,000 rows"
)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Lay rows of cells out in columns: the first to the left, of three or more the rest right.

    Parameters
    ----------
    rows : sequence of sequences of str
        All of one length.

    Returns
    -------
    str
        Lines as wide as the cells ask, whatever the terminal's width.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_numeric = len({len(row) for row in rows}) == 1 and rows[0][0] == ""
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        for cell, width in zip(row[1:], widths[1:], strict=True):
            cells.append(cell.rjust(width) if is_numeric else cell.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _rounded(number: float) -> str:
    """Return a rate in two or three digits, for more would promise too much."""
    digits = max(0, len(str(int(number))) - 2)
    return f"{round(number, -digits):,.0f}"


def _pseudo_likelihood(rbm: BernoulliRBM, X: Any) -> str:
    # Evenly spread rows where there are too many, several flipped units a row where there are few:
    # the unit flipped depends on a row's number.
    X = X[:: math.ceil(X.shape[0] / SCORE_DRAWS)]
    repeats = max(1, SCORE_DRAWS // X.shape[0])
    if hasattr(X, "tocsr"):
        from scipy.sparse import vstack

        repeated = vstack([X] * repeats, format="csr")
    else:
        repeated = np.tile(X, (repeats, 1))
    scores = rbm.score_samples(repeated).reshape(repeats, -1).mean(axis=0)
    error = scores.std(ddof=1) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return f"{scores.mean():.1f} +- {error:.1f}"


def _independent(train: Any, X: Any) -> str:
    """Return the log-likelihood a row has when every unit is on as often as in `train`.

    It is this model's pseudo-likelihood too, and what an RBM must beat.
    """
    margin = 0.5 / train.shape[0]  # units that are always on or off get the odds of half a case
    p = np.clip(_mean(train), margin, 1 - margin)
    mean = _mean(X)
    return f"{np.sum(mean * np.log(p) + (1 - mean) * np.log(1 - p)):.1f}"


def _mean(X: Any) -> np.ndarray:
    return np.asarray(X.mean(axis=0, dtype=np.float64)).ravel()


# ---- chains and pictures ----


def gibbs_chains(
    rbm: BernoulliRBM, n: int, steps: Sequence[int], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run Gibbs chains and stop at given steps.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted.
    n : int
        Number of chains.
    steps : sequence of int
        Gibbs steps at which to stop, rising from 0.
    seed : int
        The same chains for the same seed.

    Yields
    ------
    states : ndarray of bool of shape (n, n_visible)
    probabilities : ndarray of float32 of shape (n, n_visible)
        That those states were drawn from. At step 0, every unit's own bias decides.
    """
    W = np.ascontiguousarray(rbm.components_.T, np.float32)
    b = np.ascontiguousarray(rbm.intercept_visible_, np.float32)
    c = np.ascontiguousarray(rbm.intercept_hidden_, np.float32)
    options: dict[str, Any] = {"precision": rbm.precision, "n_threads": rbm.n_threads}
    p = np.tile(ops.sigmoid(b), (n, 1))
    v = ops.sample_bernoulli(p, seed)
    done = 0
    for step in steps:
        if step > done:
            v, h = ops.gibbs(v, W, b, c, step - done, seed, step=done, **options)
            p = ops.propdown(h, W, b, **options)
            done = step
        yield v, p


def save_tiles(images: np.ndarray, image_shape: Shape, path: Path) -> None:
    """Write images as a grid of greys."""
    from harmonium.plotting import tile_images

    picture = tile_images(images, image_shape, scale=None)
    zoom = max(1, round(900 / max(picture.shape)))
    with write_atomically(path) as temporary:
        _imsave()(temporary, picture.repeat(zoom, 0).repeat(zoom, 1), cmap="gray", vmin=0, vmax=1)


def _imsave() -> Any:
    require_matplotlib()
    from matplotlib.image import imsave

    return imsave


def require_matplotlib() -> None:
    """Raise an ImportError that says how to get it, before time is spent on what it is for."""
    if find_spec("matplotlib") is None:
        raise ImportError('pictures need matplotlib: pip install "harmonium[plot]"')


def save_reconstructions(
    rows: np.ndarray, reconstructions: np.ndarray, image_shape: Shape, path: Path
) -> None:
    """Draw rows above what a model makes of them."""
    from harmonium.plotting import plot_reconstructions

    _save_figure(plot_reconstructions(rows, reconstructions, image_shape, n=None).figure, path)


def save_array(array: np.ndarray, path: Path) -> None:
    """Write an array as ``.npy``, or under the name X as ``.npz``."""
    with write_atomically(path) as temporary:
        if path.suffix == ".npz":
            np.savez_compressed(temporary, X=array)
        else:
            np.save(temporary, array)


def _draw(rbm: BernoulliRBM, data: Data, output: Output) -> list[Path]:
    from harmonium.plotting import plot_filters, plot_history, plot_samples

    drawn = []
    if rbm.history_.get("epoch"):
        # The learning rate is what was asked for, not what came of it.
        curves = {name: of for name, of in rbm.history_.items() if name != "learning_rate"}
        drawn.append(output.picture("training.png"))
        _save_figure(plot_history(curves), drawn[-1])
    if data.image_shape is None:
        return drawn
    drawn.append(output.picture("filters.png"))
    _save_figure(plot_filters(rbm, data.image_shape).figure, drawn[-1])
    drawn.append(output.picture("reconstructions.png"))
    rows = dense(data.to_show[:PICTURED])
    save_reconstructions(rows, rbm.reconstruct(rows), data.image_shape, drawn[-1])
    drawn.append(output.picture("samples.png"))
    chains = [p for _, p in gibbs_chains(rbm, PICTURED, PICTURED_STEPS, seed=0)]
    ax = plot_samples(np.stack(chains), data.image_shape, steps=PICTURED_STEPS)
    _save_figure(ax.figure, drawn[-1])
    return drawn


def dense(X: Any) -> np.ndarray:
    """Return rows as an array, which pictures are made of."""
    return X.toarray() if hasattr(X, "toarray") else X  # type: ignore[no-any-return]


def _save_figure(figure: Any, path: Path) -> None:
    with write_atomically(path) as temporary:
        figure.savefig(temporary)
