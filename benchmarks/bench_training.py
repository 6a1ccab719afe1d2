"""Contrastive divergence: samples per second of a `fit`."""

from __future__ import annotations

from typing import Any

import cases
import data
import numpy as np
import peers
import pytest
from conftest import Race
from peers import torch
from sklearn.base import clone
from sklearn.neural_network import BernoulliRBM as SklearnRBM

import harmonium


def pseudo_likelihood(model: Any, X: Any) -> float:
    """Mean log pseudo-likelihood by scikit-learn's code, whoever trained the model."""
    if isinstance(model, peers.TorchRBM):
        W, b, c = (x.numpy() for x in (model.W, model.b, model.c))
    else:
        W, b, c = model.components_.T, model.intercept_visible_, model.intercept_hidden_
    judge = SklearnRBM(W.shape[1], random_state=0)
    judge.components_, judge.intercept_visible_, judge.intercept_hidden_ = W.T, b, c
    judge.n_features_in_ = W.shape[0]
    return float(judge.score_samples(X).mean())


@pytest.mark.parametrize("case", cases.TRAINING, indirect=True, ids=lambda case: case.title)
def test_training(case: cases.Training, race: Race, threads: int, tmp_path: Any) -> None:
    X = data.rows(case.n_visible, case.data)[: case.n_rows]
    start = data.trained(case.n_visible, case.n_hidden)

    # The next epoch of the trained model, by the method of the case.
    model = harmonium.load(data.model_path(case.n_visible, case.n_hidden))
    model.set_params(
        algorithm=case.algorithm,
        n_gibbs_steps=case.n_gibbs_steps,
        batch_size=case.batch_size,
        n_chains=None,
        learning_rate=case.learning_rate,
        n_iter=model.n_iter_ + 1,
        n_threads=threads,
    )
    model.h_samples_ = model.h_samples_[: case.batch_size]
    checkpoint = tmp_path / "start.safetensors"
    model.save(checkpoint)

    def ours() -> Any:
        return clone(model).fit(X, resume=checkpoint)

    def by_sklearn() -> Any:
        # From new weights: it can't go on from others, and its speed does not depend on them.
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
            chains = None if case.algorithm == "cd" else torch.tensor(model.h_samples_)
            twin.train(
                torch.from_numpy(X),
                chains,
                case.batch_size,
                case.n_gibbs_steps,
                case.learning_rate,
            )
        return twin

    others = {}
    if case.algorithm == "pcd" and case.n_gibbs_steps == 1:
        others["scikit-learn"] = by_sklearn
    if torch is not None:
        others["PyTorch"] = by_torch

    def agree(results: dict[str, Any]) -> None:
        results.pop("scikit-learn", None)  # began elsewhere; the test below compares it
        scores = [pseudo_likelihood(model, X[:2000]) for model in results.values()]
        # Runs that differ in nothing but their seeds end up to 5 nats apart, of 60 to 90.
        assert np.ptp(scores) < 12

    race(case, ours, others, agree=agree)


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
