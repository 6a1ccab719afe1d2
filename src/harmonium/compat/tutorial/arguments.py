"""Checks of what the tutorials' functions are given."""

from __future__ import annotations

from typing import Any

import numpy as np

from harmonium._checks import check_integer
from harmonium.engine.protocol import Array, Engine, Rows


def refuse_graph(name: str, value: Any) -> None:
    """Raise unless `value`, the place of a symbolic variable, is None."""
    if value is not None:
        raise TypeError(
            f"{name} stands for Theano's symbolic variable, and nothing is symbolic here: leave it "
            f"out and give rows to the methods instead; got {type(value).__name__}"
        )


def check_numpy_rng(name: str, rng: Any) -> np.random.RandomState:
    """Return a RandomState: the tutorials' own if `rng` is None."""
    if rng is None:
        return np.random.RandomState(1234)
    if not isinstance(rng, np.random.RandomState):
        raise TypeError(f"{name} must be a numpy.random.RandomState, got {type(rng).__name__}")
    return rng


def check_theano_rng(theano_rng: Any, rng: np.random.RandomState) -> int:
    """Return the seed of all draws; None takes one from `rng`, as the tutorials do."""
    if theano_rng is None:
        return int(rng.randint(2**30))
    try:
        return check_integer("theano_rng", theano_rng, minimum=0, below=2**64)
    except TypeError:
        raise TypeError(
            "theano_rng must be an integer, the seed that RandomStreams was made with, or None; "
            f"got {type(theano_rng).__name__}"
        ) from None


def check_matrix(name: str, value: Any, n_cols: int) -> Array:
    """Return `value` as a plain two-dimensional array of numbers, at least one row of them."""
    array = np.asarray(value)
    fits = array.ndim == 2 and len(array) > 0 and array.shape[1] == n_cols
    if not fits or array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be a two-dimensional array of numbers with {n_cols} columns and at least "
            f"one row; got {array.dtype} of shape {array.shape}"
        )
    return array


def real_rows(engine: Engine, name: str, value: Any, n_cols: int) -> Rows:
    """Return rows of real numbers for the engine; a copy where they are no floats in rows."""
    array = check_matrix(name, value, n_cols)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32)
    return engine.rows_of_reals(np.ascontiguousarray(array))


def check_finite(name: str, value: Any) -> None:
    if not np.isfinite(value).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")


def check_labels(name: str, value: Any, n_rows: int, n_classes: int) -> Array:
    """Return labels as the engine takes them: int32, from 0 to `n_classes` - 1."""
    labels = np.asarray(value)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {labels.dtype}")
    if labels.shape != (n_rows,):
        raise ValueError(f"{name} must have shape ({n_rows},), a label a row; got {labels.shape}")
    low, high = labels.min(), labels.max()
    if low < 0 or high >= n_classes:
        raise ValueError(f"{name} must be from 0 to {n_classes - 1}, got {low} to {high}")
    return np.ascontiguousarray(labels, np.int32)


def check_batch(index: Any, batch_size: int, n_rows: int) -> slice:
    """Return the rows of a minibatch; the last may be shorter."""
    n_batches = -(-n_rows // batch_size)
    begin = check_integer("index", index, minimum=0, below=n_batches) * batch_size
    return slice(begin, min(begin + batch_size, n_rows))
