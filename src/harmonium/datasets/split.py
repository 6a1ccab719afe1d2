"""Hold out some rows of a data set."""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from harmonium._checks import check_integer


@overload
def train_validation_split(
    X: Any, y: None = None, *, validation: float = 0.1, seed: int = 0
) -> tuple[Any, Any]: ...
@overload
def train_validation_split(
    X: Any, y: Any, *, validation: float = 0.1, seed: int = 0
) -> tuple[Any, Any, Any, Any]: ...
def train_validation_split(
    X: Any, y: Any = None, *, validation: float = 0.1, seed: int = 0
) -> tuple[Any, ...]:
    """Shuffle the rows and hold some out.

    Parameters
    ----------
    X : array-like of shape (n, ...) or scipy.sparse CSR of shape (n, n_features)
        Any dtype. Not modified.
    y : array-like of shape (n, ...), optional
        Split the same way.
    validation : float or int, default 0.1
        The rows held out: a float in (0, 1) is a share, rounded to whole rows, an int a count.
        At least one row must fall on each side.
    seed : int, default 0
        At least 0. The same seed and n give the same rows.

    Returns
    -------
    X_train, X_validation : like X
        Copies, dtype and format kept, rows shuffled.
    y_train, y_validation : ndarray
        If `y` is given.

    Raises
    ------
    ValueError
        If `validation` leaves a side empty, `X` has no rows, or `y` has another length.
    TypeError
        If `X` or `y` is sparse but not CSR, or `validation` or `seed` is no number.
    """
    X = _indexable("X", X)
    n = X.shape[0]
    order = np.random.Generator(
        np.random.Philox(check_integer("seed", seed, minimum=0, below=2**64))
    ).permutation(n)
    cut = n - _held_out(validation, n)
    if y is None:
        return X[order[:cut]], X[order[cut:]]
    y = _indexable("y", y)
    if y.shape[0] != n:
        raise ValueError(f"y has {y.shape[0]} rows, expected the {n} of X")
    return X[order[:cut]], X[order[cut:]], y[order[:cut]], y[order[cut:]]


def _indexable(name: str, rows: Any) -> Any:
    if hasattr(rows, "tocsr"):
        if rows.format != "csr":
            raise TypeError(f"{name} is sparse {rows.format}, expected CSR: call .tocsr() first")
        return rows
    rows = np.asarray(rows)
    if rows.ndim == 0:
        raise ValueError(f"{name} is a single value, expected an array of rows")
    return rows


def _held_out(validation: object, n: int) -> int:
    if isinstance(validation, (float, np.floating)):
        if not 0 < validation < 1:
            raise ValueError(f"validation={validation}: expected a share in (0, 1), or a count")
        count = round(float(validation) * n)
    else:
        count = check_integer("validation", validation, minimum=0)
    if not 0 < count < n:
        raise ValueError(
            f"validation={validation} holds out {count} of {n} rows, "
            "expected at least one row on each side"
        )
    return count
