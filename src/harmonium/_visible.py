"""From what a user passes as X to rows the engine takes: validated once, here and only here."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray
from sklearn.utils.validation import _check_sample_weight, validate_data

from harmonium._arrays import empty_bits
from harmonium.engine.protocol import (
    NO_TRAITS,
    Array,
    Bits,
    Draw,
    Engine,
    Float32,
    Rows,
    RowTraits,
    Stream,
)


@dataclass(frozen=True)
class Units:
    """Validated rows of units, and the dtype that results computed from them have.

    With what training is told of each beside its values; a missing one is 0 in the rows.
    """

    rows: Rows
    dtype: np.dtype[Any]
    traits: RowTraits = NO_TRAITS

    @property
    def n_rows(self) -> int:
        return self.rows.n_rows


def validate_units(
    estimator: Any,
    X: Any,
    engine: Engine,
    *,
    reset: bool = False,
    name: str = "X",
    only_units: bool = True,
    allow_nan: bool = False,
) -> Units:
    """Validate rows of visible units as scikit-learn does, and that they lie in [0, 1].

    Or, without `only_units`, that they are finite: for what is computed from any values. Results
    are float32 for float32, bool and uint8 input, float64 for everything else. With `allow_nan`, a
    NaN of a dense X is a value that is missing.

    Raises
    ------
    ValueError
        X is empty, not two-dimensional, of another width than the estimator's, or holds NaN,
        infinities or (with `only_units`) values outside [0, 1].
    TypeError
        X is not an array of numbers.
    """
    validate = partial(validate_data, estimator, X, accept_sparse="csr", dtype="numeric")
    # Dense values are read once, when they are packed: what is not finite is not in [0, 1].
    finite: Any = "allow-nan" if allow_nan else True
    with _named(name):
        checked = validate(
            reset=reset, ensure_all_finite=finite if scipy.sparse.issparse(X) else False
        )
    observed = None
    if allow_nan:
        checked, observed = _without_nan(engine, checked, name)
    try:
        units = _units_of(engine, checked, name)
        return units if observed is None else replace(units, traits=RowTraits(observed=observed))
    except ValueError:
        with _named(name):
            validate(reset=False, ensure_all_finite=finite)  # says so in scikit-learn's words
        if only_units:
            raise
    return _reals_of(engine, checked)


def _without_nan(engine: Engine, X: Any, name: str) -> tuple[Any, Bits | None]:
    """Return X with zeros in the place of NaN, and bits of what is not NaN if something is."""
    if scipy.sparse.issparse(X):
        if np.isnan(X.data).any():
            raise ValueError(
                f"{name} is sparse and holds NaN, but values can be missing from dense arrays "
                f"alone: {name}.toarray() is one"
            )
        return X, None
    is_missing = np.isnan(X)
    if not is_missing.any():
        return X, None
    observed = empty_bits(*X.shape)
    engine.pack(np.ascontiguousarray(~is_missing), observed)
    return np.where(is_missing, X.dtype.type(0), X), observed


def weighted(data: Units, sample_weight: Any, X: Any) -> Units:
    """Validate the weights of X's rows as scikit-learn does; return `data` with them.

    Divided by their mean; as it is where all rows weigh the same.

    Raises
    ------
    ValueError
        There is not one for each row, some are negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return data
    weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
    low, high = weights.min(), weights.max()
    if low < 0:
        raise ValueError(f"sample_weight must not be negative, got values from {low:g} to {high:g}")
    if high == 0:
        raise ValueError("sample_weight must have a value that is not zero, got zeros alone")
    if low == high:
        return data
    weights = weights / high  # whose sum can't overflow
    weights = weights / (math.fsum(weights) / len(weights))
    return replace(data, traits=data.traits._replace(weights=weights))


def validate_reals(
    estimator: Any, X: Any, engine: Engine, *, reset: bool = False, name: str = "X"
) -> Units:
    """Validate rows of any finite numbers as scikit-learn does.

    Integers and bools become float32; otherwise as :func:`validate_units`.
    """
    with _named(name):
        X = validate_data(estimator, X, accept_sparse="csr", dtype="numeric", reset=reset)
    return _reals_of(engine, X)


def _reals_of(engine: Engine, X: Any) -> Units:
    dtype = _result_dtype(X.dtype)
    if X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64 if X.dtype.kind == "f" else np.float32)
    if scipy.sparse.issparse(X):
        X = scipy.sparse.csr_array(X)
        if not X.has_canonical_format or not X.has_sorted_indices:
            X = X.copy()
            X.sum_duplicates()
        return Units(engine.rows_of_sparse(X, False), dtype)
    return Units(engine.rows_of_reals(np.ascontiguousarray(X)), dtype)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Say whose error it is: scikit-learn calls everything X."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if name == "X":
            raise
        raise type(error)(f"{name}: {error}") from error


def units_of_array(engine: Engine, X: Any, n_units: int, name: str) -> Units:
    """Validate rows, dense or sparse, that are not checked as features: hidden units, say."""
    if not scipy.sparse.issparse(X):
        X = np.asarray(X)
    if X.ndim != 2 or X.shape[0] == 0 or X.shape[1] != n_units or X.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must be a two-dimensional array of numbers with {n_units} columns and at "
            f"least one row; got {X.dtype} of shape {X.shape}"
        )
    return _units_of(engine, X, name)


def _units_of(engine: Engine, X: Any, name: str) -> Units:
    dtype = _result_dtype(X.dtype)
    if scipy.sparse.issparse(X):
        return Units(_sparse_rows(engine, X, name), dtype)
    return Units(_dense_rows(engine, X, name), dtype)


def _result_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    compact = (np.float32, np.bool_, np.uint8)
    return np.dtype(np.float32 if dtype.type in compact else np.float64)


def _dense_rows(engine: Engine, X: Array, name: str) -> Rows:
    if X.dtype.kind in "iu" and X.dtype != np.uint8:
        _require_range(X, name)
        X = X != 0
    elif X.dtype not in (np.float32, np.float64, np.uint8, np.bool_):
        X = X.astype(np.float64)
    # The kernels read rows; columns in memory order are the one layout that has to be copied.
    X = np.ascontiguousarray(X)
    words = empty_bits(*X.shape)
    is_binary, in_range = engine.pack(X, words)
    if not in_range:
        _require_range(X, name)
    return engine.rows_of_bits(words, X.shape[1]) if is_binary else engine.rows_of_reals(X)


def _sparse_rows(engine: Engine, X: Any, name: str) -> Rows:
    X = scipy.sparse.csr_array(X)
    if not X.has_canonical_format or not X.has_sorted_indices or not np.all(X.data):
        X = X.copy()
        X.sum_duplicates()
        X.eliminate_zeros()
    _require_range(X.data, name)
    is_binary = bool(np.all(X.data == 1))
    if not is_binary and X.dtype not in (np.float32, np.float64):
        X = X.astype(np.float64)
    return engine.rows_of_sparse(X, is_binary)


_ROUNDING = 1e-6
"""What scaling to [0, 1] may leave beyond it: scikit-learn's MinMaxScaler gives 1 + 2⁻⁵²."""


def _require_range(values: Array, name: str) -> None:
    if values.size == 0:
        return
    low, high = values.min(), values.max()
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # so that NaN is caught
        kind = "0 or 1" if values.dtype.kind in "iu" else "in [0, 1]"
        # The first words are the ones scikit-learn's checks look for.
        reason = f"Negative values in data passed to {name}: it" if low < 0 else name
        raise ValueError(
            f"{reason} must have all values {kind}, because units are states or probabilities; "
            f"got values from {low:g} to {high:g}. Scale intensities first, for example with "
            "sklearn.preprocessing.MinMaxScaler or X / 255"
        )


_CHUNK = 2**20
"""Values held densely at a time, so that sparse rows never are all of them."""


def pick_rows(engine: Engine, rows: Rows, n: int) -> Rows:
    """Return a copy of about `n` rows, spread evenly over all of them."""
    order = np.linspace(0, rows.n_rows - 1, min(n, rows.n_rows)).astype(np.int64)
    if rows.is_binary:
        words = empty_bits(len(order), rows.n_cols)
        for at, values in chunks_of_values(rows, order):
            engine.pack(values, words[at])
        return engine.rows_of_bits(words, rows.n_cols)
    parts = [scipy.sparse.csr_array(values) for _, values in chunks_of_values(rows, order)]
    picked = scipy.sparse.csr_array(scipy.sparse.vstack(parts))
    if 2 * picked.nnz < len(order) * rows.n_cols:
        return engine.rows_of_sparse(picked, False)
    return engine.rows_of_reals(picked.toarray())


def draw_rows(engine: Engine, rows: Rows, seed: int, epoch: int) -> Rows:
    """Return bits, on with the probabilities that `rows` have for them; binary rows as they are."""
    if rows.is_binary:
        return rows
    words = empty_bits(rows.n_rows, rows.n_cols)
    for at, values in chunks_of_values(rows, np.arange(rows.n_rows)):
        draw = Draw(seed, epoch, Stream.INPUT, at.start)
        engine.sample_bernoulli(values, words[at], draw)
    return engine.rows_of_bits(words, rows.n_cols)


def values_of(rows: Rows, order: Array | None = None) -> Float32:
    """Return rows (all, or those named) as float32."""
    order = np.arange(rows.n_rows) if order is None else order
    values = np.empty((len(order), rows.n_cols), np.float32)
    rows.copy_values(order, values)
    return values


def mean_of(engine: Engine, data: Units) -> Array:
    """Return the mean of every unit, of weighted rows and observed values, in float64.

    ½ for a unit that is never observed.
    """
    weights, observed = data.traits
    mean = _weighted_mean(data.rows, weights)
    if observed is None:
        return mean
    share = _weighted_mean(engine.rows_of_bits(observed, data.rows.n_cols), weights)
    return np.divide(mean, share, out=np.full_like(mean, 0.5), where=share > 0)


def _weighted_mean(rows: Rows, weights: NDArray[np.float64] | None) -> Array:
    total = np.zeros(rows.n_cols)
    for at, values in chunks_of_values(rows, np.arange(rows.n_rows)):
        weighted = values if weights is None else values * weights[at, None]
        total += weighted.sum(axis=0, dtype=np.float64)
    return total / rows.n_rows


def begin_completions(engine: Engine, data: Units, b: Float32, seed: int, epoch: int) -> Bits:
    """Return states for what is missing in each row, drawn by the visible biases alone."""
    n_rows, n_cols = data.rows.n_rows, data.rows.n_cols
    words = empty_bits(n_rows, n_cols)
    odds = np.empty((1, n_cols), np.float32)
    engine.sigmoid(b[None], odds)
    step = max(1, _CHUNK // n_cols)
    for begin in range(0, n_rows, step):
        some = words[begin : begin + step]
        draw = Draw(seed, epoch, Stream.INPUT, begin)
        engine.sample_bernoulli(np.repeat(odds, len(some), axis=0), some, draw)
    return words


def chunks_of_values(rows: Rows, order: Array) -> Iterator[tuple[slice, Float32]]:
    """Go through the rows named by `order`, some as float32 values at a time."""
    n = max(1, _CHUNK // rows.n_cols)
    for begin in range(0, len(order), n):
        at = slice(begin, min(begin + n, len(order)))
        yield at, values_of(rows, order[at])
