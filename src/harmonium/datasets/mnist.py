"""MNIST: find its files in whatever form they lie, and load one split."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harmonium._checks import check_integer, check_word

from .cache import data_folder
from .formats import Split, read_csv, read_idx_pair, read_npz, read_pickle
from .pixels import Binarize, as_units, check_binarize


def _names(prefix: str, table: str) -> list[str]:
    stems = [
        f"{prefix}-images-idx3-ubyte",
        f"{prefix}-images.idx3-ubyte",
        "mnist.pkl",
        f"mnist_{table}.csv",
        f"{table}.csv",
    ]
    return [*(stem + end for stem in stems for end in ("", ".gz")), "mnist.npz"]


# In the order they are looked for.
_NAMES = {"train": _names("train", "train"), "test": _names("t10k", "test")}


def load_mnist(
    path: str | os.PathLike[str] | None = None,
    split: Literal["train", "test", "validation"] = "train",
    *,
    validation: int = 0,
    binarize: Binarize = None,
    threshold: float = 0.5,
    seed: int = 0,
) -> tuple[NDArray[np.float32] | NDArray[np.bool_], NDArray[np.int64]]:
    """Load one split of MNIST from files on this machine. Nothing is downloaded.

    Parameters
    ----------
    path : path-like, optional
        A folder, or one file in it. By default ``$HARMONIUM_DATA`` if set, else the cache folder
        that `fetch_mnist` fills. Read, gzip'ed or not, in this order: IDX
        (``train-images-idx3-ubyte`` and its three companions, also spelt ``images.idx3``), the
        deep-learning tutorial's ``mnist.pkl``, CSV with the label first (``mnist_train.csv`` or
        ``train.csv``, with or without a header), and Keras' ``mnist.npz``, which is never gzip'ed.
        An IDX or CSV file given by another name is taken to hold the split asked for.
    split : {"train", "test", "validation"}, default "train"
        "validation" is the part of the training rows that `validation` holds out.
    validation : int, default 0
        How many of the last training rows are held out of "train". 10 000 gives the classic
        50 000 / 10 000 / 10 000.
    binarize : {None, "threshold", "stochastic"}, default None
        None keeps intensities. "threshold" switches a pixel on where its intensity is above
        `threshold`. "stochastic" switches it on with probability equal to its intensity
        (Salakhutdinov and Murray, 2008); a row's draw does not depend on `validation`.
    threshold : float, default 0.5
        In [0, 1); an intensity equal to it is off.
    seed : int, default 0
        For "stochastic"; at least 0. The same seed gives the same bits.

    Returns
    -------
    X : ndarray of float32 or bool, shape (n, 784)
        Intensities in [0, 1], the pixel divided by 255, or bits. Rows in the files' order.
    y : ndarray of int64, shape (n,)
        Digits 0 to 9.

    Raises
    ------
    FileNotFoundError
        If no file of this split is there.
    ValueError
        If an argument is out of range, or a file is damaged or not what it says.
    TypeError
        If `validation` or `seed` is no integer.
    """
    check_word("split", split, ("train", "test", "validation"))
    held_out = check_integer("validation", validation, minimum=0)
    if split == "validation" and held_out == 0:
        raise ValueError(
            "split='validation' with validation=0: expected the number of training rows held out"
        )
    check_binarize(binarize, threshold, seed)

    part = "test" if split == "test" else "train"
    file = _find(data_folder() if path is None else Path(path).expanduser(), part)
    images, labels = _read(file, part)
    # A number of its own for each part, so that test images don't share the training images' draws.
    X = as_units(images, 255, binarize, threshold, seed, step=int(part == "test"))
    if part == "test" or held_out == 0:
        return X, labels
    if held_out >= len(X):
        raise ValueError(
            f"validation={held_out}: expected fewer than the {len(X)} training rows in {file}"
        )
    cut = len(X) - held_out
    rows = slice(cut) if split == "train" else slice(cut, None)
    return X[rows].copy(), labels[rows].copy()  # copies, so that the rest can be freed


def _find(path: Path, part: str) -> Path:
    """Return the file at `path` that holds `part`."""
    if path.is_file():
        other = "test" if part == "train" else "train"
        if path.name in _NAMES[other] and path.name not in _NAMES[part]:
            raise ValueError(f"{path}: holds the {other} rows by its name, expected {part} rows")
        return path
    for name in _NAMES[part]:
        if (path / name).is_file():
            return path / name
    raise FileNotFoundError(
        f"no MNIST {part} rows in {path}: put {_NAMES[part][1]} and its labels there "
        f"(or mnist.npz, mnist.pkl.gz or mnist_{part}.csv), "
        "or download them with `harmonium data fetch` or harmonium.datasets.fetch_mnist()"
    )


def _read(file: Path, part: str) -> Split:
    name = file.name.lower().removesuffix(".gz")
    if name.endswith("-ubyte"):
        return read_idx_pair(file)
    if name.endswith(".npz"):
        return read_npz(file, part)
    if name.endswith((".pkl", ".pickle")):
        return read_pickle(file, part)
    if name.endswith(".csv"):
        return read_csv(file)
    raise ValueError(f"{file}: expected a name in -ubyte, .npz, .pkl or .csv, with or without .gz")
