"""Estimates of log Z by annealing, there and back, against enumeration."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import random_bits, random_model

from harmonium import BernoulliRBM
from harmonium.evaluation import LogPartition, log_likelihood, log_partition

F32 = np.float32


def rbm_of(W: np.ndarray, b: np.ndarray, c: np.ndarray, **parameters: Any) -> BernoulliRBM:
    rbm = BernoulliRBM(len(c), n_iter=0, random_state=0, **parameters)
    rbm.fit(np.eye(len(b), dtype=F32))
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = W.T, b, c
    return rbm


@pytest.fixture(scope="module")
def digits() -> tuple[BernoulliRBM, np.ndarray]:
    """20 hidden units that have learnt some shapes: bars of 12 × 12 pixels."""
    rng = np.random.default_rng(0)
    X = np.zeros((2000, 12, 12), bool)
    for image in X:
        image[rng.random(12) < 0.15] = True
        image[:, rng.random(12) < 0.15] = True
    X = X.reshape(2000, 144)
    rbm = BernoulliRBM(20, batch_size=50, n_iter=20, init="data", random_state=0, metrics=False)
    return rbm.fit(X), X


# Weights' means are skewed, so that ten standard errors of a mean are not those of ten normal
# numbers; but with half of the chains' weights effective they nearly are: outside of 4 in one run
# of 10^4.
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("method", ["ais", "reverse_ais"])
def test_estimates_are_within_their_errors(
    digits: tuple[BernoulliRBM, np.ndarray], method: str, precision: Any
) -> None:
    rbm, X = digits
    rbm = copy.copy(rbm).set_params(precision=precision)
    exact = log_partition(rbm)
    options: dict[str, Any] = {"n_chains": 500, "betas": 500, "base_rate": X}
    found = [log_partition(rbm, method, random_state=seed, **options) for seed in range(5)]
    for estimate in found:
        assert abs(estimate - exact) < 4 * estimate.standard_error < 0.8
        assert 20 < estimate.n_eff <= 500
    spread = np.std([float(estimate) for estimate in found], ddof=1)
    errors = np.mean([estimate.standard_error for estimate in found])
    # Five estimates have a standard deviation within a factor of 3 of the true one.
    assert errors / 3 < spread < errors * 3


def test_a_bias_of_one_per_cent_is_noticed() -> None:
    """Z off by 1 %: a double whose units are all on a little more often than they should be."""
    W, b, c = random_model(8, 6, seed=1, scale=0.5)
    exact = ref.log_partition64(W, b, c)
    options: dict[str, Any] = {"n_chains": 100_000, "betas": 50, "random_state": 2}
    right = log_partition(rbm_of(W, b, c), "ais", **options)
    assert abs(right - exact) < 4 * right.standard_error < 0.006
    wrong_b = b + F32(0.01 / 4)
    shift = ref.log_partition64(W, wrong_b, c) - exact
    assert 0.008 < shift < 0.012
    wrong = log_partition(rbm_of(W, wrong_b, c), "ais", **options)
    assert abs(wrong - exact) > 4 * wrong.standard_error


def test_few_temperatures_under_and_overestimate() -> None:
    """Jensen: the mean of log weights is below log Z from one side, above it from the other."""
    W, b, c = random_model(40, 15, seed=3, scale=0.6)
    rbm = rbm_of(W, b, c)
    exact = log_partition(rbm)
    options: dict[str, Any] = {"n_chains": 200, "betas": 10, "random_state": 0}
    forward = log_partition(rbm, "ais", **options)
    backward = log_partition(rbm, "reverse_ais", **(options | {"init": None}))
    assert forward.log_weights is not None
    assert backward.log_weights is not None
    assert forward.log_weights.mean() < exact < backward.log_weights.mean()


def test_likelihood_of_rows(digits: tuple[BernoulliRBM, np.ndarray]) -> None:
    rbm, X = digits
    exact = log_likelihood(rbm, X[:100])
    W, b, c = rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_
    np.testing.assert_allclose(exact.samples, ref.log_likelihood64(X[:100], W, b, c), atol=1e-2)
    assert exact.log_z.method == "exact"
    assert exact.gap == 0
    assert exact.lower == exact.mean == pytest.approx(exact.samples.mean())

    options: dict[str, Any] = {"n_chains": 300, "betas": 1000, "random_state": 1}
    found = log_likelihood(rbm, X[:100], method="ais", base_rate=X, **options)
    z = found.log_z
    assert abs(found.mean - exact.mean) < 5 * z.standard_error
    np.testing.assert_allclose(found.samples + z, exact.samples + exact.log_z, atol=1e-9)
    assert found.log_z_reverse is not None
    assert found.gap == found.log_z_reverse - z
    assert found.lower == pytest.approx(found.mean - found.gap)
    spread = exact.samples.std(ddof=1) / 10
    assert found.standard_error == pytest.approx(np.hypot(spread, z.standard_error))
    assert log_likelihood(rbm, X[:100], method="ais", reverse=False, **options).gap == 0


def test_results_depend_on_the_random_state_alone() -> None:
    W, b, c = random_model(70, 30, seed=4, scale=0.2)
    X = random_bits(20, 70, seed=5)
    options: dict[str, Any] = {"n_chains": 300, "betas": 50, "base_rate": X}
    for method in ("ais", "reverse_ais"):
        one, two = (
            log_partition(rbm_of(W, b, c, n_threads=n), method, random_state=3, **options)
            for n in (1, 3)
        )
        assert np.array_equal(one.log_weights, two.log_weights)  # type: ignore[arg-type]
        rbm = rbm_of(W, b, c)
        assert log_partition(rbm, method, **options) != log_partition(rbm, method, **options)


def test_betas_as_an_array_are_those_numbers() -> None:
    rbm = rbm_of(*random_model(30, 10, seed=6, scale=0.3))
    options: dict[str, Any] = {"n_chains": 20, "random_state": 0}
    number = log_partition(rbm, "ais", betas=11, **options)
    assert log_partition(rbm, "ais", betas=np.linspace(0, 1, 11), **options) == number
    other = log_partition(rbm, "ais", betas=np.linspace(0, 1, 11) ** 2, **options)
    assert other != number


def test_reverse_chains_begin_where_they_are_told(
    digits: tuple[BernoulliRBM, np.ndarray],
) -> None:
    """Without burn-in from rows of the data: not the model's states, so another estimate."""
    rbm, X = digits
    options: dict[str, Any] = {"n_chains": 200, "betas": 200, "base_rate": X, "random_state": 0}
    ones = np.ones((3, 144))  # in turns, for 200 chains
    far = log_partition(rbm, "reverse_ais", init=ones, burn_in=0, **options)
    near = log_partition(rbm, "reverse_ais", init=X, burn_in=200, **options)
    exact = log_partition(rbm)
    assert abs(near - exact) < 4 * near.standard_error < 0.2 < abs(far - exact)


def test_a_log_partition_is_a_float() -> None:
    found = log_partition(rbm_of(*random_model(9, 5, seed=7)), "ais", n_chains=50, betas=20)
    assert isinstance(found, LogPartition)
    assert found + 1 == float(found) + 1
    again = pickle.loads(pickle.dumps(found))
    assert again == found
    assert again.n_eff == found.n_eff
    assert np.array_equal(again.log_weights, found.log_weights)
    assert repr(found).startswith(f"LogPartition({float(found)!r}, method='ais', standard_error=")
    assert repr(LogPartition(1.5)) == "LogPartition(1.5)"


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    rbm = rbm_of(*random_model(9, 5, seed=8))
    log_partition(rbm, "reverse_ais", n_chains=5, betas=20, burn_in=2, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "AIS" in captured.err
    assert "Reverse AIS" in captured.err


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "mcmc"}, ValueError, "mcmc"),
        ({"method": "ais", "n_chains": 1}, ValueError, "n_chains"),
        ({"method": "ais", "betas": 1}, ValueError, "betas"),
        ({"method": "ais", "betas": [0.0, 0.5]}, ValueError, "ascend from 0 to 1"),
        ({"method": "ais", "betas": [0.0, 0.5, 0.5, 1.0]}, ValueError, "ascend from 0 to 1"),
        ({"method": "ais", "base_rate": [0.0, 0.5, 0.5]}, ValueError, "strictly between 0 and 1"),
        ({"method": "reverse_ais", "burn_in": -1}, ValueError, "burn_in"),
        ({"method": "reverse_ais", "init": np.ones((2, 4))}, ValueError, "init: X has 4 features"),
    ],
)
def test_mistakes(options: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        log_partition(rbm_of(*random_model(3, 2, seed=9)), **options)


def test_likelihoods_are_of_states() -> None:
    rbm = rbm_of(*random_model(3, 2, seed=10))
    with pytest.raises(ValueError, match=r"zeros and ones.*Binarise"):
        log_likelihood(rbm, np.full((2, 3), 0.5))
    with pytest.raises(ValueError, match="method"):
        log_likelihood(rbm, np.ones((2, 3)), method="reverse_ais")
