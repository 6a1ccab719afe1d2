"""The 8 x 8 digits that come with scikit-learn: enough to try a model in a second."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harmonium._checks import check_word

from .pixels import Binarize, as_units, check_binarize

_TEST_ROWS = 360  # one in five


def load_digits(
    *,
    split: Literal["train", "test"] | None = None,
    binarize: Binarize = None,
    threshold: float = 0.5,
    seed: int = 0,
) -> tuple[NDArray[np.float32] | NDArray[np.bool_], NDArray[np.int64]]:
    """Load scikit-learn's bundled digits: 1797 images of 8 x 8 pixels.

    Parameters
    ----------
    split : {None, "train", "test"}, default None
        None is all rows, "train" the first 1437, "test" the last 360. The file's rows go writer by
        writer, so most test rows are from hands the training rows do not show.
    binarize : {None, "threshold", "stochastic"}, default None
        As for `load_mnist`. A row's draw does not depend on `split`.
    threshold : float, default 0.5
        In [0, 1); an intensity equal to it is off.
    seed : int, default 0
        For "stochastic"; at least 0.

    Returns
    -------
    X : ndarray of float32 or bool, shape (n, 64)
        Intensities in [0, 1], the pixel (0 to 16) divided by 16, or bits.
    y : ndarray of int64, shape (n,)
        Digits 0 to 9.

    Raises
    ------
    ValueError
        If an argument is out of range.
    TypeError
        If `seed` is no integer.
    """
    check_word("split", split, (None, "train", "test"))
    check_binarize(binarize, threshold, seed)
    from sklearn.datasets import load_digits as bundled

    images, labels = bundled(return_X_y=True)
    X = as_units(images.astype(np.uint8), 16, binarize, threshold, seed)
    y = labels.astype(np.int64)
    cut = len(X) - _TEST_ROWS
    rows = {None: slice(None), "train": slice(cut), "test": slice(cut, None)}[split]
    return X[rows], y[rows]
