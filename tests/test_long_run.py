"""What every algorithm learns from in the long run: the exact gradient, by enumeration."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import random_bits, random_model
from scipy import stats

from harmonium import BernoulliRBM, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import Trainer, TrainingArrays

F32 = np.float32
N_VISIBLE, N_HIDDEN = 8, 6
N_CHAINS = 40_000
# A right implementation fails for one seed in 10^4, and the seeds here are fixed.
SIGNIFICANCE = 1e-4

ALGORITHMS: dict[str, dict[str, Any]] = {
    "cd": {"n_gibbs_steps": 25},
    "rdm": {"n_gibbs_steps": 25},
    "pcd": {},
    "pt": {"n_temperatures": 4},
    # Fast weights that hardly move: what they add otherwise is a bias, on purpose.
    "fpcd": {"fast_learning_rate": 1e-12},
}


def training_of(
    rbm: BernoulliRBM, W: np.ndarray, b: np.ndarray, c: np.ndarray
) -> tuple[TrainingArrays, Trainer]:
    """Arrays of a fitted estimator with these parameters, and a trainer on them."""
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = W.T, b, c
    state = rbm._state()
    rule = rbm._plan().rule(state.seed)
    return state.arrays, get_engine().trainer(state.arrays, rule, rbm.precision)


def chain_statistics(
    algorithm: str,
    W: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    precision: Any = "auto",
    n_chains: int = N_CHAINS,
) -> np.ndarray:
    """v p(h|v), v and p(h|v) of each chain, after updates that leave the machine where it is."""
    data = random_bits(n_chains, N_VISIBLE, seed=1)
    rbm = BernoulliRBM(
        N_HIDDEN,
        batch_size=n_chains,
        n_iter=0,
        random_state=2,
        algorithm=algorithm,
        precision=precision,
        **ALGORITHMS[algorithm],
    ).fit(data)
    arrays, trainer = training_of(rbm, W, b, c)
    rows = get_engine().rows_of_bytes(data)
    n_updates = 1 if rbm.n_gibbs_steps > 1 else 25
    for step in range(n_updates):
        trainer.run(rows, None, 0, n_chains, n_chains, step, 1e-12, 0.0)
    np.testing.assert_allclose(arrays.W, W, atol=1e-6)
    words = np.empty((n_chains, 1), np.uint64)
    trainer.copy_visible_states(words)
    return statistics(ops.unpack(words, N_VISIBLE, dtype=bool), W, c)


def statistics(v: np.ndarray, W: np.ndarray, c: np.ndarray) -> np.ndarray:
    p = ref.propup64(v, W, c)
    pairs = (v[:, :, None] * p[:, None, :]).reshape(len(v), -1)
    return np.hstack([pairs, v, p])


def expected_statistics(W: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    weights = ref.visible_distribution64(W, b, c)
    return np.asarray(weights @ statistics(ref.all_states(N_VISIBLE), W, c))


def chi_square_of_means(samples: np.ndarray, expected: np.ndarray) -> float:
    """p-value of the means of independent rows; with many, Hotelling's T² is χ²."""
    difference = samples.mean(axis=0) - expected
    values, vectors = np.linalg.eigh(np.cov(samples.T) / len(samples))
    seen = values > 1e-9 * values.max()  # p(h|v) is nearly a function of v
    t2 = np.sum(np.square(difference @ vectors[:, seen]) / values[seen])
    return float(stats.chi2.sf(t2, seen.sum()))


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_negative_phase_is_the_models_expectation(algorithm: str, precision: Any) -> None:
    """40 000 chains after 25 steps, all 62 entries of the gradient at once.

    Weights of this size are forgotten in some ten steps. The data are nothing like the model.
    """
    W, b, c = random_model(N_VISIBLE, N_HIDDEN, seed=3, scale=0.7)
    samples = chain_statistics(algorithm, W, b, c, precision)
    assert chi_square_of_means(samples, expected_statistics(W, b, c)) > SIGNIFICANCE
    # The positive phase is exact, so this is the gradient: data's means minus these.
    data = random_bits(N_CHAINS, N_VISIBLE, seed=1)
    exact = ref.exact_gradient64(data, W, b, c)
    model = statistics(data, W, c).mean(axis=0) - np.concatenate([g.ravel() for g in exact])
    np.testing.assert_allclose(model, expected_statistics(W, b, c), atol=1e-12)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_double_with_a_bias_of_one_per_cent_is_noticed(algorithm: str) -> None:
    """Chains of a machine one of whose units is on by 0.01 more often than it should be.

    With 200 000 chains that is ten standard errors.
    """
    W, b, c = random_model(N_VISIBLE, N_HIDDEN, seed=3, scale=0.7)
    wrong_b = b + F32(0.05) * np.eye(N_VISIBLE, dtype=F32)[2]
    shift = expected_statistics(W, wrong_b, c) - expected_statistics(W, b, c)
    assert 0.009 < np.abs(shift).max() < 0.011
    samples = chain_statistics(algorithm, W, wrong_b, c, n_chains=200_000)
    assert chi_square_of_means(samples, expected_statistics(W, b, c)) < 1e-6


def test_short_chains_are_noticed_too() -> None:
    """What CD-1 learns from is not the gradient; the test sees that."""
    W, b, c = random_model(N_VISIBLE, N_HIDDEN, seed=3, scale=0.7)
    before = ALGORITHMS["cd"]["n_gibbs_steps"]
    try:
        ALGORITHMS["cd"]["n_gibbs_steps"] = 2
        samples = chain_statistics("cd", W, b, c)
    finally:
        ALGORITHMS["cd"]["n_gibbs_steps"] = before
    assert chi_square_of_means(samples, expected_statistics(W, b, c)) < 1e-6


def test_fast_weights_drive_chains_on() -> None:
    """Two modes, all on and all off, from which a chain of PCD would not part in these updates.

    Fast weights unlearn what the chains are at, so that they leave.
    """
    W = np.full((N_VISIBLE, N_HIDDEN), 2.0, F32)
    b, c = np.full(N_VISIBLE, -6.0, F32), np.full(N_HIDDEN, -8.0, F32)
    data = np.repeat([[True], [False]], 10, axis=0).repeat(N_VISIBLE, axis=1)
    moved: dict[tuple[str, float], int] = {}
    for algorithm, rate in (("pcd", 0.0), ("fpcd", 0.0), ("fpcd", 1.0)):
        rbm = BernoulliRBM(
            N_HIDDEN,
            learning_rate=1e-6,
            batch_size=20,
            n_iter=0,
            random_state=0,
            algorithm=algorithm,
            fast_learning_rate=rate,
        ).fit(data)
        trainer, rows = training_of(rbm, W, b, c)[1], get_engine().rows_of_bytes(data)
        words, sides = np.empty((20, 1), np.uint64), []
        for step in range(200):
            trainer.run(rows, None, 0, 20, 20, step, 1e-6, 0.0)
            trainer.copy_visible_states(words)
            sides.append(ops.unpack(words, N_VISIBLE, dtype=bool).mean(axis=1) > 0.5)
        moved[algorithm, rate] = np.abs(np.diff(np.array(sides, int), axis=0)).sum()
    # At most three of 20 chains, in 200 updates.
    assert moved["pcd", 0.0] == moved["fpcd", 0.0] <= 3
    assert moved["fpcd", 1.0] > 20
