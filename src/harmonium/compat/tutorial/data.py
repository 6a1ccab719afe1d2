"""The tutorials' data: MNIST in three parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np

from harmonium.compat.tutorial.shared import SharedArray
from harmonium.datasets import load_digits, load_mnist
from harmonium.engine.protocol import Array

TUTORIAL_FILE = "mnist.pkl.gz"
_N_VALIDATION = 10_000


def load_data(
    dataset: str | os.PathLike[str] | None = TUTORIAL_FILE,
) -> list[tuple[SharedArray, Array]]:
    """Load MNIST as the tutorials have it. Nothing is downloaded.

    Parameters
    ----------
    dataset : path-like, optional
        A file or folder that :func:`harmonium.datasets.load_mnist` reads, ``mnist.pkl.gz`` among
        them. Where there is no file of that name, or `dataset` is None, MNIST is taken from
        wherever that function finds it, in any of its forms. "digits" is scikit-learn's 1797 images
        of 8 x 8 pixels instead, to try a script in seconds.

    Returns
    -------
    [(train_x, train_y), (valid_x, valid_y), (test_x, test_y)]
        50 000, 10 000 and 10 000 images. x are float32 in [0, 1), the bytes divided by 256 as in
        the tutorials' file, and read-only; they have the ``get_value`` that scripts call. y are
        int64. Of the digits 1197, 300 and 300, divided by 16.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A file is damaged or not what it says.
    """
    if dataset == "digits":
        X, y = load_digits()
        cuts = [slice(0, 1197), slice(1197, 1497), slice(1497, None)]
        return [(_read_only(X[cut]), y[cut]) for cut in cuts]
    path = None if dataset is None else Path(dataset).expanduser()
    if path is not None and path.name == TUTORIAL_FILE and not path.exists():
        path = None
    X, y = _load_bytes_by_256(path, "train")
    if len(X) <= _N_VALIDATION:
        raise ValueError(
            f"dataset must have more than {_N_VALIDATION} images to train on, of which as many "
            f"are for validation; got {len(X)}"
        )
    cut = len(X) - _N_VALIDATION
    parts = [(X[:cut], y[:cut]), (X[cut:], y[cut:]), _load_bytes_by_256(path, "test")]
    return [(_read_only(x), labels) for x, labels in parts]


def _load_bytes_by_256(path: Path | None, split: Literal["train", "test"]) -> tuple[Array, Array]:
    images, labels = load_mnist(path, split)
    X: Array = images
    # Whole numbers below 256 again, then exact.
    X *= 255
    np.rint(X, out=X)
    X /= 256
    return X, labels


def _read_only(X: Array) -> SharedArray:
    shared = X.view(SharedArray)
    shared.flags.writeable = False
    return shared
