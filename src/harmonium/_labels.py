"""Labels of any kind: validated, and turned into numbers and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, column_or_1d

from harmonium.engine.protocol import Array


def check_labels(y: Any, X: Any, name: str = "y") -> Array:
    """Return y as a vector with a label for each row of X, or raise as scikit-learn does."""
    if y is None:
        raise ValueError(
            f"{name} must hold a label for each row of X: requires y to be passed, but the target "
            "y is None"
        )
    y = column_or_1d(y, warn=True)
    assert_all_finite(y, input_name=name)
    check_classification_targets(y)
    n_rows = _num_samples(X)
    if len(y) != n_rows:
        raise ValueError(f"{name} must have a label for each of the {n_rows} rows, got {len(y)}")
    labels: Array = y
    return labels


def require_two(classes: Array) -> None:
    """Raise unless there are classes to tell apart."""
    if len(classes) < 2:
        raise ValueError(
            f"y must hold at least 2 classes to tell apart, got {len(classes)} class: "
            f"{classes.tolist()!r}"
        )


def positions_of(classes: Array, y: Array) -> Array:
    """Return labels as positions in the sorted `classes`, or raise for those that are not there."""
    known = np.isin(y, classes)
    if not known.all():
        strangers = ", ".join(repr(label) for label in np.unique(y[~known])[:5].tolist())
        raise ValueError(
            f"y holds classes that are not among the {len(classes)} known: {strangers}"
        )
    return np.searchsorted(classes, y).astype(np.int32)
