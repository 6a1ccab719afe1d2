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
from harmonium.evaluation import (
    MOST_UNITS,
    LogPartition,
    log_likelihood,
    log_partition,
    pseudo_log_likelihood,
)
from harmonium.rbm import BernoulliRBM

__all__ = ["error_rate", "evaluate", "is_binary", "pseudo_likelihood"]

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
    rows, note = _measures(model, data.test, arguments)
    about.append(("seconds", f"{time.perf_counter() - began:.2f}"))
    print(table(about))
    print(f"\n{table(rows)}")
    if note:
        print(f"\n{note}")


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

_NOT_BINARY = (
    "no likelihood, which is of zeros and ones: --binarize threshold makes them of these rows"
)

_OF_WEIGHTS = """\
n_eff: how many chains of equal weight would tell as much; where they are few, standard errors are
larger than told, and more --temperatures help most"""

_OF_AIS = f"""\
plus or minus standard errors; on average AIS underestimates log Z and overestimates the likelihood,
reverse AIS the other way round: where the gap is small, both are right
{_OF_WEIGHTS}"""

_OF_BOUND = f"""\
plus or minus standard errors; on average AIS underestimates log Z and overestimates the bound
{_OF_WEIGHTS}"""


def _measures(model: Any, X: Any, arguments: argparse.Namespace) -> tuple[Cells, str]:
    """Return what is measured of a model, and a note to it."""
    if isinstance(model, DeepAutoencoder):
        cross_entropy = -model.score_samples(X)
        return [
            ("mean square error", f"{_square_error(model.reconstruct(X), X):.5f} a unit"),
            ("cross-entropy", f"{_mean_and_error(cross_entropy, 2)} nats a row"),
        ], ""
    if isinstance(model, BernoulliRBM):
        rbm, others = model, _of_rbm(model, X)
    else:
        rbm, others = model.rbms_[-1], _of_dbn(model, X)
    if not is_binary(X):
        return others, _NOT_BINARY
    if rbm._n_labels or not (arguments.likelihood or _is_small(rbm)):
        return others, ""
    likelihood: Any = _likelihood if rbm is model else _bound
    cells, note = likelihood(model, X, arguments)
    return cells + others, note


def _of_rbm(rbm: BernoulliRBM, X: Any) -> Cells:
    return [
        ("pseudo-likelihood", f"{pseudo_likelihood(rbm, X)} nats a row"),
        ("mean square error", f"{_square_error(rbm.reconstruct(X), X):.5f} a unit"),
    ]


def _of_dbn(dbn: DBN, X: Any) -> Cells:
    return [
        (
            f"mean square error, layer {layer}",
            f"{_square_error(dbn.reconstruct(X, layer=layer), X):.5f} a unit",
        )
        for layer in range(1, len(dbn.rbms_) + 1)
    ]


def _likelihood(rbm: BernoulliRBM, X: Any, arguments: argparse.Namespace) -> tuple[Cells, str]:
    found = log_likelihood(
        rbm, X, method="exact" if _is_small(rbm) else "ais", **_annealing_of(arguments)
    )
    told = f"{_with_error(found.mean, found.standard_error)} nats a row"
    log_z, reverse = found.log_z, found.log_z_reverse
    if reverse is None:
        return [("log-likelihood", told), ("log Z", _told_of(log_z))], ""
    spread = _error_of_mean(found.samples)
    lower = _with_error(found.lower, math.hypot(spread, reverse.standard_error))
    error_of_gap = math.hypot(log_z.standard_error, reverse.standard_error)
    return [
        ("log-likelihood, AIS", told),
        ("  by reverse AIS", f"{lower} nats a row"),
        ("  gap", f"{_with_error(found.gap, error_of_gap, 2)} nats"),
        ("log Z, AIS", _told_of(log_z)),
        ("  by reverse AIS", _told_of(reverse)),
    ], _OF_AIS


def _bound(dbn: DBN, X: Any, arguments: argparse.Namespace) -> tuple[Cells, str]:
    top = dbn.rbms_[-1]
    if _is_small(top):
        by, note, log_z = "", "", log_partition(top)
    else:
        by, note = ", AIS", _OF_BOUND
        log_z = log_partition(top, "ais", **_annealing_of(arguments))
    scores = dbn.score_samples(X, log_partition=log_z)
    error = math.hypot(_error_of_mean(scores), log_z.standard_error)
    return [
        (f"bound on log-likelihood{by}", f"{_with_error(scores.mean(), error)} nats a row"),
        (f"log Z of the topmost RBM{by}", _told_of(log_z)),
    ], note


def _is_small(rbm: BernoulliRBM) -> bool:
    """Return whether log Z can be had by going through all states."""
    return bool(min(rbm.components_.shape) <= MOST_UNITS)


def _annealing_of(arguments: argparse.Namespace) -> dict[str, Any]:
    return {
        "n_chains": arguments.chains,
        "betas": arguments.temperatures,
        "random_state": arguments.seed,
        "progress": True,
    }


def _told_of(log_z: LogPartition) -> str:
    if log_z.log_weights is None:
        return f"{log_z:.2f}, exact"
    told = _with_error(log_z, log_z.standard_error, 2)
    return f"{told}, n_eff {log_z.n_eff:.0f} of {len(log_z.log_weights):,} chains"


def is_binary(X: Any) -> bool:
    """Return whether rows are states: zeros and ones."""
    values = X.data if hasattr(X, "tocsr") else X
    return X.dtype == np.bool_ or bool(np.isin(values, (0, 1)).all())


def _square_error(reconstructions: Any, X: Any) -> float:
    return float(np.mean(np.square(reconstructions - dense(X), dtype=np.float64)))


def _with_error(value: float, error: float, digits: int = 1) -> str:
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def _mean_and_error(scores: np.ndarray, digits: int = 1) -> str:
    return _with_error(scores.mean(), _error_of_mean(scores), digits)


def _error_of_mean(scores: np.ndarray) -> float:
    return float(scores.std(ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan


def pseudo_likelihood(rbm: BernoulliRBM, X: Any, most: int | None = None) -> str:
    """Return the mean log pseudo-likelihood of rows, or of `most` of them, and its error."""
    if most is not None:
        X = X[:: math.ceil(X.shape[0] / most)]
    return _mean_and_error(pseudo_log_likelihood(rbm, X))
