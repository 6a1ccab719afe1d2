"""Backpropagation: samples per second of fine-tuning and softmax regression."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import cases
import data
import numpy as np
import peers
import pytest
from conftest import Race, Turn
from peers import torch
from sklearn.neural_network import MLPClassifier

from harmonium import DBNClassifier, SoftmaxRegression


def network(case: cases.FineTuning, y: Any) -> Any:
    """Return a model before its first update: random layers, which is all that speed asks for."""
    options = {
        "learning_rate": case.learning_rate,
        "batch_size": case.batch_size,
        "max_iter": case.n_epochs,
        "shuffle": False,
        "random_state": 0,
    }
    if len(case.sizes) == 2:
        return SoftmaxRegression(**options)
    return DBNClassifier(case.sizes[1:-1], dropout=case.dropout, **options)


@pytest.mark.parametrize("case", cases.FINE_TUNING, indirect=True, ids=lambda case: case.title)
def test_fine_tuning(case: cases.FineTuning, race: Race, by_part: Any) -> None:
    X, y = data.grey()[: case.n_rows], data.labels()[: case.n_rows]
    model = network(case, y)
    is_deep = isinstance(model, DBNClassifier)
    options = {"pretrain": False} if is_deep else {}
    start = deepcopy(model).set_params(max_iter=0).fit(X, y, **options)
    layers = list(zip(start.coefs_, start.intercepts_, strict=True))

    def make(n_threads: int) -> Turn:
        return lambda: deepcopy(model).set_params(n_threads=n_threads).fit(X, y, **options)

    ours, others = by_part(make)
    if torch is not None:
        values, targets = torch.from_numpy(X), torch.from_numpy(y)

        def by_autograd() -> Any:
            twin = peers.TorchNetwork(layers, case.dropout)
            return twin.train_by_autograd(
                values, targets, case.batch_size, case.learning_rate, case.n_epochs
            )

        def by_hand() -> Any:
            with torch.inference_mode():
                twin = peers.TorchNetwork(layers, case.dropout)
                return twin.train(
                    values, targets, case.batch_size, case.learning_rate, case.n_epochs
                )

        others |= {"PyTorch": by_autograd, "PyTorch by hand": by_hand}
    if case.dropout == 0 and is_deep:
        others["scikit-learn"] = lambda: by_sklearn(case, X, y)

    def agree(results: dict[str, Any]) -> None:
        results.pop("scikit-learn", None)  # begins elsewhere
        if case.dropout:
            return
        first, *rest = (parameters(result) for result in results.values())
        for other in rest:
            for a, b in zip(first, other, strict=True):
                # Sums of float32 in other orders, over hundreds of updates.
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-3)

    race(case, ours, others, agree=agree, table="networks")


def parameters(result: Any) -> Sequence[Any]:
    if hasattr(result, "coefs_"):
        return [
            array for pair in zip(result.coefs_, result.intercepts_, strict=True) for array in pair
        ]
    return result.parameters()


def by_sklearn(case: cases.FineTuning, X: Any, y: Any) -> Any:
    return MLPClassifier(
        case.sizes[1:-1],
        activation="logistic",
        solver="sgd",
        alpha=0.0,
        batch_size=case.batch_size,
        learning_rate_init=case.learning_rate,
        momentum=0.0,
        shuffle=False,
        random_state=0,
    ).partial_fit(X, y, classes=np.arange(10))
