"""Contrastive divergence: samples per second of a `fit`."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import cases
import data
import numpy as np
import peers
import pytest
from conftest import Race, Turn
from peers import torch
from pytensor_rbm import PytensorRBM, pytensor
from sklearn.base import clone
from sklearn.neural_network import BernoulliRBM as SklearnRBM

import harmonium


def pseudo_likelihood(model: Any, X: Any) -> float:
    """Mean log pseudo-likelihood by scikit-learn's code, whoever trained the model."""
    if hasattr(model, "components_"):
        W, b, c = model.components_.T, model.intercept_visible_, model.intercept_hidden_
    else:
        W, b, c = model.parameters()
    judge = SklearnRBM(W.shape[1], random_state=0)
    judge.components_, judge.intercept_visible_, judge.intercept_hidden_ = W.T, b, c
    judge.n_features_in_ = W.shape[0]
    return float(judge.score_samples(X).mean())


def next_epoch(case: cases.Training, X: Any, folder: Path) -> Callable[[int], Turn]:
    """Return what makes the turn of so many threads: one epoch on, from the trained model."""
    model = harmonium.load(data.model_path(case.n_visible, case.n_hidden))
    model.set_params(
        algorithm=case.algorithm,
        n_gibbs_steps=case.n_gibbs_steps,
        batch_size=case.batch_size,
        n_chains=None,
        learning_rate=case.learning_rate,
        n_iter=model.n_iter_ + 1,
    )
    model.h_samples_ = model.h_samples_[: case.batch_size]
    checkpoint = folder / "start.safetensors"
    model.save(checkpoint)

    def make(n_threads: int) -> Turn:
        return lambda: clone(model).set_params(n_threads=n_threads).fit(X, resume=checkpoint)

    return make


def check_parts(results: dict[str, Any]) -> None:
    """Expect the same weights of harmonium with less of the machine: the bits are promised."""
    for part in cases.PARTS:
        if part in results:
            ours, same = (results[name].components_ for name in ("harmonium", part))
            np.testing.assert_array_equal(same, ours)


@pytest.mark.parametrize("case", cases.TRAINING, indirect=True, ids=lambda case: case.title)
def test_training(case: cases.Training, race: Race, by_part: Any, tmp_path: Path) -> None:
    X = data.rows(case.n_visible, case.data)[: case.n_rows]
    start = data.trained(case.n_visible, case.n_hidden)
    ours, others = by_part(next_epoch(case, X, tmp_path))

    def by_sklearn() -> Any:
        # `fit` begins with new weights. Its speed does not depend on them.
        return SklearnRBM(
            case.n_hidden,
            batch_size=case.batch_size,
            learning_rate=case.learning_rate,
            n_iter=1,
            random_state=0,
        ).fit(X)

    def by_torch() -> Any:
        with torch.inference_mode():
            twin = peers.TorchRBM.twin(start)
            chains = None
            if case.algorithm == "pcd":
                chains = torch.tensor(start.h_samples_[: case.batch_size])
            twin.train(
                torch.from_numpy(X),
                chains,
                case.batch_size,
                case.n_gibbs_steps,
                case.learning_rate,
            )
        return twin

    if case.algorithm == "pcd" and case.n_gibbs_steps == 1:
        others["scikit-learn"] = by_sklearn
    if torch is not None:
        others["PyTorch"] = by_torch
    if pytensor is not None and case.title == cases.TUTORIAL_RBM.title:
        tutorial = PytensorRBM(X, start, case.batch_size, case.n_gibbs_steps, case.learning_rate)
        others["PyTensor"] = tutorial.train

    def agree(results: dict[str, Any]) -> None:
        if case.data == "binary":
            check_parts(results)
        results.pop("scikit-learn", None)  # began elsewhere; the test below compares it
        scores = [pseudo_likelihood(model, X[:2000]) for model in results.values()]
        # Runs that differ in nothing but their seeds end up to 5 nats apart, of 60 to 90.
        assert np.ptp(scores) < 12

    race(case, ours, others, agree=agree)


@pytest.mark.parametrize("case", [cases.SPARSE], indirect=True, ids=lambda case: case.title)
def test_training_on_csr(case: cases.Training, race: Race, by_part: Any, tmp_path: Path) -> None:
    X = data.rows(case.n_visible, case.data)[: case.n_rows]
    few = X[: case.n_rows // cases.SPARSE_SHARE]
    start = data.trained(case.n_visible, case.n_hidden)
    ours, others = by_part(next_epoch(case, X, tmp_path))

    # The loop of its `fit` alone, from trained weights: drawing five million new ones would be a
    # tenth of so short an epoch. `partial_fit` would make it slower, by converting to float64.
    twin = peers.sklearn_twin(deepcopy(start))
    twin.set_params(learning_rate=case.learning_rate)
    twin.h_samples_ = start.h_samples_[: case.batch_size].astype(np.float32)
    rng = np.random.RandomState(0)

    def by_sklearn() -> Any:
        for i in range(0, few.shape[0], case.batch_size):
            twin._fit(few[i : i + case.batch_size], rng)
        return twin

    def agree(results: dict[str, Any]) -> None:
        check_parts(results)
        # Half of what was learnt in an epoch is the data's and the same, half is the chains' noise.
        models = next_epoch(case, few, tmp_path)(1)(), results["scikit-learn"]
        for name in ("components_", "intercept_visible_"):
            ours, theirs = ((getattr(m, name) - getattr(start, name)).ravel() for m in models)
            assert np.corrcoef(ours, theirs)[0, 1] > 0.4
            assert 0.9 < ours.std() / theirs.std() < 1.1

    race(
        case,
        ours,
        {**others, "scikit-learn": by_sklearn},
        agree=agree,
        shares={"scikit-learn": cases.SPARSE_SHARE},
    )


def test_all_learn_the_same() -> None:
    """From the same weights, on the same rows, everyone gets to the same pseudo-likelihood."""
    X = data.binary()[:10_000]
    recipe = {"batch_size": 10, "learning_rate": 0.05, "n_iter": 1, "random_state": 0}
    models = [
        harmonium.BernoulliRBM(64, metrics=False, **recipe).fit(X),
        SklearnRBM(64, **recipe).fit(X),
    ]
    if torch is not None:
        # Both of them draw these weights first.
        W = np.random.RandomState(0).normal(0, 0.01, (64, 784)).T.astype(np.float32)
        with torch.inference_mode():
            model = peers.TorchRBM(W, np.zeros(784, np.float32), np.zeros(64, np.float32))
            model.train(torch.from_numpy(X), torch.zeros(10, 64), 10, 1, 0.05)
        models.append(model)
    scores = [pseudo_likelihood(model, X[:5000]) for model in models]
    assert np.ptp(scores) < 5  # nats
    assert min(scores) > -150  # untrained: 784 log 2 = 543 nats below 0
