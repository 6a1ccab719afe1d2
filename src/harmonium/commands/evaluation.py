"""``harmonium evaluate``: how good a trained model is."""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from harmonium.autoencoder import DeepAutoencoder
from harmonium.classifier import NetworkClassifier
from harmonium.commands.data import Data, dense, load_rows, require_labels
from harmonium.commands.models import default_binarize, load_whole, require_units
from harmonium.commands.output import result_path, rounded, table
from harmonium.commands.pictures import save_confusion
from harmonium.dbn import DBN
from harmonium.evaluation import log_partition
from harmonium.rbm import BernoulliRBM

__all__ = ["error_rate", "evaluate", "pseudo_likelihood"]

SCORE_DRAWS = 50_000
"""Units flipped for a pseudo-likelihood: on MNIST a standard error below 2."""

MOST_CONFUSIONS = 8

Cells = list[tuple[str, ...]]


def evaluate(arguments: argparse.Namespace) -> None:
    """Print how good a trained model is."""
    picture = None
    if arguments.confusion is not None:
        picture = result_path(arguments.confusion, "--confusion", (".png",))
    model, path = load_whole(arguments.model), arguments.model
    tells_classes = isinstance(model, NetworkClassifier) or (
        isinstance(model, DBN) and model.label_units
    )
    if picture is not None and not tells_classes:
        raise ValueError(
            f"--confusion {picture}: needs a model that tells classes, but {path} holds a "
            f"{type(model).__name__}"
        )
    binarize = default_binarize(model, arguments.binarize)
    data = load_rows(arguments.data, binarize, arguments.seed)
    if tells_classes:
        require_labels(data.y_test, arguments.data)
    require_units(model, path, data.test, arguments.data)
    if arguments.threads is not None:
        model.set_params(n_threads=arguments.threads)
    about = [
        ("model", f"{type(model).__name__}, {_sizes(model)}"),
        ("data", f"{data.name}, {data.test.shape[0]:,} rows"),
    ]
    if tells_classes:
        _tell_classes(model, data, about, picture)
        return
    began = time.perf_counter()
    rows = _measures(model, data.test)
    about.append(("seconds", f"{time.perf_counter() - began:.2f}"))
    print(table(about))
    print(f"\n{table(rows)}")


def _sizes(model: Any) -> str:
    if isinstance(model, BernoulliRBM):
        sizes = [model.n_features_in_, model.n_components]
    elif isinstance(model, DBN):
        sizes = [model.n_features_in_, *(rbm.n_components for rbm in model.rbms_)]
    else:
        sizes = [model.n_features_in_, *(len(c) for c in model.intercepts_)]
    return "-".join(map(str, sizes))


# ---- classes ----


def _tell_classes(
    model: Any, data: Data, about: list[tuple[str, str]], picture: Path | None
) -> None:
    X, y = data.test, data.y_test
    began = time.perf_counter()
    predicted = model.predict(X)
    seconds = time.perf_counter() - began
    wrong = predicted != y
    n_wrong = int(wrong.sum())
    about += [
        ("errors", f"{n_wrong:,}"),
        ("error", error_rate(n_wrong, len(y))),
        ("seconds", f"{seconds:.2f}, {rounded(len(y) / seconds)} rows/s"),
    ]
    rows = [("", "rows", "errors", "error")]
    for label in np.unique(y):
        n, n_errors = int(np.sum(y == label)), int(np.sum(wrong[y == label]))
        rows.append((f"class {label}", f"{n:,}", f"{n_errors:,}", f"{n_errors / n:.2%}"))
    print(f"{table(about)}\n\n{table(rows)}")
    if n_wrong:
        pairs, counts = np.unique(
            np.array([y[wrong].astype(str), predicted[wrong].astype(str)]),
            axis=1,
            return_counts=True,
        )
        first = np.argsort(-counts, kind="stable")[:MOST_CONFUSIONS]
        told = (f"{pairs[0, k]} as {pairs[1, k]} ({counts[k]})" for k in first)
        print(f"\nmost often taken for another: {', '.join(told)}")
    if picture is not None:
        print(f"\n{save_confusion(y, predicted, np.union1d(model.classes_, y), picture)}")


def error_rate(n_errors: int, n: int) -> str:
    """Return a share of errors with the interval that holds the true one 19 times in 20.

    Wilson's, which is right for few errors too.
    """
    z, p = 1.96, n_errors / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return f"{p:.2%}, 95% interval {low:.2%} to {high:.2%}"


# ---- likelihood and reconstruction ----


def _measures(model: Any, X: Any) -> Cells:
    if isinstance(model, BernoulliRBM):
        return _of_rbm(model, X)
    if isinstance(model, DBN):
        return _of_dbn(model, X)
    assert isinstance(model, DeepAutoencoder)
    return [
        ("mean square error", f"{_square_error(model.reconstruct(X), X):.5f} a unit"),
        ("cross-entropy", f"{_with_spread(-model.score_samples(X), 2)} nats a row"),
    ]


def _of_rbm(rbm: BernoulliRBM, X: Any) -> Cells:
    rows: Cells = [
        ("pseudo-likelihood", f"{pseudo_likelihood(rbm, X)} nats a row"),
        ("mean square error", f"{_square_error(rbm.reconstruct(X), X):.5f} a unit"),
    ]
    log_z = _log_partition(rbm)
    if log_z is not None and _is_binary(X):
        scores = -rbm.free_energy(X) - log_z
        rows.insert(0, ("log-likelihood", f"{_with_spread(scores)} nats a row"))
    return rows


def _of_dbn(dbn: DBN, X: Any) -> Cells:
    rows: Cells = [
        (
            f"mean square error, layer {layer}",
            f"{_square_error(dbn.reconstruct(X, layer=layer), X):.5f} a unit",
        )
        for layer in range(1, len(dbn.rbms_) + 1)
    ]
    log_z = _log_partition(dbn.rbms_[-1])
    if log_z is not None and _is_binary(X):
        scores = dbn.score_samples(X, log_partition=log_z)
        rows.insert(0, ("bound on log-likelihood", f"{_with_spread(scores)} nats a row"))
    return rows


def _log_partition(rbm: BernoulliRBM) -> float | None:
    try:
        return log_partition(rbm)
    except ValueError:  # too many units on both sides, or labels
        return None


def _is_binary(X: Any) -> bool:
    values = X.data if hasattr(X, "tocsr") else X
    return X.dtype == np.bool_ or bool(np.isin(values, (0, 1)).all())


def _square_error(reconstructions: Any, X: Any) -> float:
    return float(np.mean(np.square(reconstructions - dense(X), dtype=np.float64)))


def _with_spread(scores: np.ndarray, digits: int = 1) -> str:
    error = scores.std(ddof=1) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return f"{scores.mean():.{digits}f} +- {error:.{digits}f}"


def pseudo_likelihood(rbm: BernoulliRBM, X: Any) -> str:
    """Return the mean log pseudo-likelihood of rows and its standard error."""
    # Evenly spread rows where there are too many, several flipped units a row where there are few:
    # the unit flipped depends on a row's number.
    X = X[:: math.ceil(X.shape[0] / SCORE_DRAWS)]
    repeats = max(1, SCORE_DRAWS // X.shape[0])
    if hasattr(X, "tocsr"):
        from scipy.sparse import vstack

        repeated = vstack([X] * repeats, format="csr")
    else:
        repeated = np.tile(X, (repeats, 1))
    return _with_spread(rbm.score_samples(repeated).reshape(repeats, -1).mean(axis=0))
