"""Data of the command line: what ``--data`` names, and which of its rows are for what."""

from __future__ import annotations

import argparse
import contextlib
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from harmonium import ops
from harmonium._labels import positions_of, require_two
from harmonium.datasets import load_digits, load_mnist, train_validation_split
from harmonium.datasets.pixels import as_units
from harmonium.engine.protocol import Stream

__all__ = [
    "Data",
    "as_states",
    "checked_shape",
    "data_of",
    "dense",
    "load_data",
    "load_rows",
    "require_labels",
    "states_of",
]

Shape: TypeAlias = tuple[int, int]

HELD_OUT = {"mnist": 10_000, "digits": 360}
"""Rows held out where nobody says how many: the last ones of these two, a tenth of a file."""

DIGIT_SIDE = 16
"""To how many pixels a side scikit-learn's digits are enlarged. At their own 8 x 8, a threshold
leaves shapes that people can't read, and grey levels, taken for probabilities, leave a model little
to learn; interpolated to 16 x 16 and then thresholded, they are legible strokes again."""

DIGITS_TO_TEST = 360
"""The last ones, as :func:`harmonium.datasets.load_digits` has it."""


@dataclass(frozen=True)
class Data:
    """Rows to learn from, rows to judge by, and what their units are as a picture (or None).

    Labels, where the data have them, and rows to test on, which no training has seen.
    """

    name: str
    train: Any
    held_out: Any
    image_shape: Shape | None
    y_train: Any = None
    y_held_out: Any = None
    test: Any = None
    y_test: Any = None

    @property
    def to_show(self) -> Any:
        """Rows the model has not seen, if there are any."""
        return self.train if self.held_out is None else self.held_out


@dataclass(frozen=True)
class _Source:
    """All rows of what ``--data`` names, or one split of them."""

    name: str
    X: Any
    y: Any
    image_shape: Shape | None
    is_array: bool = False


def load_data(
    source: str,
    *,
    binarize: str | None = None,
    held_out: int | None = None,
    seed: int = 0,
    image_shape: Shape | None = None,
    labelled: bool = False,
) -> Data:
    """Load what ``--data`` names.

    Parameters
    ----------
    source : str
        "mnist", "digits", or a path: what :func:`harmonium.datasets.load_mnist` reads, ``.npy``, or
        ``.npz`` with one array, an array ``X``, perhaps with its labels ``y``, or a SciPy sparse
        matrix.
    binarize : {"threshold", "stochastic", "none"}, optional
        By default "threshold" for digits and MNIST, "none" for arrays.
    held_out : int, optional
        Rows held out: the last ones of digits and MNIST, random ones of arrays. By default
        `HELD_OUT`; 0 holds out none.
    seed : int, default 0
        For stochastic binarisation and random held-out rows.
    image_shape : (height, width), optional
        Of the rows as pictures; by default what the source says, or a square.
    labelled : bool, default False
        The rows must have labels. Rows to test on are set apart first where there are any: MNIST's
        own, and the last ones of digits.

    Returns
    -------
    Data

    Raises
    ------
    OSError, ValueError, TypeError
        There is no such file, or it doesn't hold what it should.
    """
    rows = _read(source, "train" if labelled else None, binarize, seed)
    if labelled:
        require_labels(rows.y, source)
    X, X_rest, y, y_rest = _split(rows, held_out, source, seed)
    if labelled:  # so that it is found before the layers are trained
        classes = np.unique(y)
        require_two(classes)
        if y_rest is not None:
            positions_of(classes, y_rest)
    test = _test_rows(source, binarize, seed) if labelled else None
    return Data(
        rows.name,
        X,
        X_rest,
        checked_shape(image_shape or rows.image_shape, X.shape[1]),
        y,
        y_rest,
        None if test is None else test.X,
        None if test is None else test.y,
    )


def data_of(arguments: argparse.Namespace, **others: Any) -> Data:
    """Load what a command line asks for, `others` taking the place of its options."""
    options = {
        "binarize": arguments.binarize,
        "held_out": arguments.validation,
        "seed": arguments.seed,
        "image_shape": arguments.image_shape,
    }
    return load_data(arguments.data, **(options | others))


def load_rows(name: str, binarize: str | None, seed: int, image_shape: Shape | None = None) -> Data:
    """Load the rows to judge a trained model by, as those to test on.

    Those of MNIST and digits that are never trained on, all rows of an array.
    """
    source = _read(name, "test", binarize, seed)
    shape = checked_shape(image_shape or source.image_shape, source.X.shape[1])
    return Data(source.name, None, None, shape, test=source.X, y_test=source.y)


def states_of(X: Any, source: str, binarize: str | None, seed: int) -> Any:
    """Return rows, intensities as they were read, as ``--binarize`` asks for them."""
    is_array = source not in HELD_OUT and _is_array_file(Path(source).expanduser())
    return as_states(X, source, binarize or ("none" if is_array else "threshold"), seed)


def require_labels(y: Any, name: str) -> None:
    """Raise unless the rows have labels."""
    if y is None:
        raise ValueError(
            f"--data {name}: holds no labels; expected mnist, digits, MNIST's files, or a .npz "
            "file with rows X and labels y"
        )


def _read(name: str, split: Any, binarize: str | None, seed: int) -> _Source:
    """Read a split ("train", "test") of what has one, or of digits all rows."""
    path = Path(name).expanduser()
    if name == "digits":
        X = as_states(_enlarged_digits(), name, binarize or "threshold", seed)
        rows = {
            None: slice(None),
            "train": slice(-DIGITS_TO_TEST),
            "test": slice(-DIGITS_TO_TEST, None),
        }[split]
        title = f"digits ({DIGIT_SIDE} x {DIGIT_SIDE}, enlarged from 8 x 8)"
        return _Source(title, X[rows], load_digits()[1][rows], None)
    if name == "mnist" or (path.exists() and not _is_array_file(path)):
        way: Any = None if binarize == "none" else binarize or "threshold"
        folder = None if name == "mnist" else path
        X, y = load_mnist(folder, split or "train", binarize=way, seed=seed)
        return _Source("MNIST" if name == "mnist" else f"MNIST in {name}", X, y, None)
    if path.exists():
        X, y, shape = _read_array(path)
        return _Source(name, as_states(X, name, binarize or "none", seed), y, shape, True)
    raise FileNotFoundError(
        f"--data {name}: there is no such file or folder; "
        "expected mnist, digits, or the path of a .npy or .npz file or of MNIST's files"
    )


def _test_rows(name: str, binarize: str | None, seed: int) -> _Source | None:
    """Return rows to test on of data that come with some."""
    path = Path(name).expanduser()
    if name not in ("mnist", "digits") and (_is_array_file(path) or not path.is_dir()):
        return None
    try:
        return _read(name, "test", binarize, seed)
    except FileNotFoundError:  # a folder with the training rows alone
        return None


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


def _read_array(path: Path) -> tuple[Any, Any, Shape | None]:
    """Read rows, their labels if there are any, and the shape of a row if it is a picture."""
    y = None
    try:
        if path.suffix == ".npy":
            X = np.load(path, allow_pickle=False)
        else:
            with np.load(path, allow_pickle=False) as arrays:
                names = arrays.files
                if {"indptr", "format"} <= set(names):
                    from scipy.sparse import csr_array, load_npz

                    return csr_array(load_npz(path)), None, None
                if "X" not in names and len(names) != 1:
                    raise ValueError(f"holds the arrays {names}, expected one, or one named X")
                X = arrays["X" if "X" in names else names[0]]
                if {"X", "y"} <= set(names):
                    y = arrays["y"]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an array of numbers that can be read ({error})") from error
    if X.dtype.kind not in "biuf" or X.ndim not in (2, 3) or X.size == 0:
        raise ValueError(
            f"{path}: {X.dtype} of shape {X.shape}, expected numbers in rows, (n, units) or "
            "(n, height, width), none of them 0"
        )
    if y is not None and y.shape != (len(X),):
        raise ValueError(
            f"{path}: y of shape {y.shape}, expected a label for each of {len(X)} rows"
        )
    return X.reshape(len(X), -1), y, X.shape[1:] if X.ndim == 3 else None


def as_states(X: Any, source: str, binarize: str, seed: int) -> Any:
    """Return rows as a visible layer takes them: bits, or values in [0, 1].

    Parameters
    ----------
    X : array or sparse matrix
        Values in [0, 1], or bytes up to 255.
    source : str
        Where they come from, for the message of an error.
    binarize : {"threshold", "stochastic", "none"}
    seed : int
        For "stochastic".
    """
    if X.dtype == np.uint8 and X.max() > 1:
        if hasattr(X, "tocsr"):
            return as_states(X.astype(np.float32) / 255, source, binarize, seed)
        way: Any = None if binarize == "none" else binarize
        return as_units(X, 255, way, 0.5, seed)
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


def _split(
    source: _Source, held_out: int | None, name: str, seed: int
) -> tuple[Any, Any, Any, Any]:
    X, y = source.X, source.y
    n = X.shape[0]
    if held_out is None:
        # A folder given as MNIST's may hold fewer rows.
        held_out = (
            n // 10 if source.is_array else min(HELD_OUT.get(name, HELD_OUT["mnist"]), n // 3)
        )
    if held_out >= n:
        raise ValueError(f"--validation {held_out}: expected fewer than the {n} rows of {name}")
    if held_out == 0:
        return X, None, y, None
    if not source.is_array:
        return X[:-held_out], X[-held_out:], y[:-held_out], y[-held_out:]
    # Whose rows may be in any order.
    if y is None:
        return *train_validation_split(X, validation=held_out, seed=seed), None, None
    return train_validation_split(X, y, validation=held_out, seed=seed)


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


def dense(X: Any) -> np.ndarray:
    """Return rows as an array, which pictures are made of."""
    return X.toarray() if hasattr(X, "toarray") else X  # type: ignore[no-any-return]
