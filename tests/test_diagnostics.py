"""Convergence of chains: closed forms, sums written out, ArviZ's numbers, awkward cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from harmonium.diagnostics import (
    autocorrelation_time,
    effective_sample_size,
    importance_n_eff,
    r_hat,
)


def autoregressive(phi: float, n_chains: int, n_draws: int, seed: int = 0) -> np.ndarray:
    """x_t = φ·x_{t-1} + ε, begun in its stationary distribution: ρ_t = φᵗ."""
    x = np.random.default_rng(seed).normal(size=(n_chains, n_draws))
    x[:, 0] /= math.sqrt(1 - phi**2)
    for t in range(1, n_draws):
        x[:, t] += phi * x[:, t - 1]
    return x


def plain_time(chains: list[list[float]]) -> float:
    """Vehtari et al. (2021), section 3.2, term by term, without the bound from below."""
    n, means = len(chains[0]), [sum(chain) / len(chain) for chain in chains]

    def covariance(t: int) -> float:
        sums = (
            sum((chain[s] - mean) * (chain[s + t] - mean) for s in range(n - t))
            for chain, mean in zip(chains, means, strict=True)
        )
        return sum(sums) / n / len(chains)

    within = covariance(0) * n / (n - 1)
    total = covariance(0)
    if len(chains) > 1:
        middle = sum(means) / len(means)
        total += sum((mean - middle) ** 2 for mean in means) / (len(means) - 1)
    rho = [1.0] + [1 - (within - covariance(t)) / total for t in range(1, n - 1)]
    tau, smallest, k = -1.0, math.inf, 0
    while 2 * k + 1 < n - 1:
        pair = rho[2 * k] + rho[2 * k + 1]
        if pair <= 0 or 2 * k + 3 >= n - 1:
            break
        smallest = min(smallest, pair)
        tau += 2 * smallest
        k += 1
    return tau + max(rho[2 * k], 0)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9, -0.5])
def test_time_of_an_autoregression(phi: float) -> None:
    """τ = (1 + φ) / (1 - φ).

    Its relative error is about √(4m / n) for n draws and a sum that ends at lag m, some 6τ: 3 % for
    φ = 0.9, and less for the others. Three times that.
    """
    x = autoregressive(phi, 4, 100_000)
    tau = (1 + phi) / (1 - phi)
    assert autocorrelation_time(x) == pytest.approx(tau, rel=0.1)
    for method in ("bulk", "mean"):
        assert effective_sample_size(x, method=method) == pytest.approx(x.size / tau, rel=0.1)
        assert r_hat(x, method="split") == pytest.approx(1, abs=0.002)
    assert r_hat(x) == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("shape", [(1, 5), (1, 6), (2, 7), (3, 8), (4, 29), (2, 64)])
@pytest.mark.parametrize("phi", [0.8, 0.0, -0.6])
def test_time_by_its_definition(shape: tuple[int, int], phi: float) -> None:
    for seed in range(5):
        x = autoregressive(phi, *shape, seed=seed) + 100
        expected = max(plain_time(x.tolist()), 1 / math.log10(x.size))
        assert autocorrelation_time(x) == pytest.approx(expected, rel=1e-9)
        assert autocorrelation_time(-3 * x) == pytest.approx(expected, rel=1e-9)
        half = shape[1] // 2
        halves = np.concatenate([x[:, :half], x[:, -half:]])
        n_eff = halves.size / max(plain_time(halves.tolist()), 1 / math.log10(halves.size))
        assert effective_sample_size(x, method="mean") == pytest.approx(n_eff, rel=1e-9)


def test_by_hand() -> None:
    # Halves (0, 1) and (2, 3): W = 1/2, var⁺ = 1/2 · 1/2 + 2 = 9/4.
    assert r_hat([0, 1, 2, 3], method="split") == pytest.approx(math.sqrt(4.5), rel=1e-15)
    assert r_hat([0, 1, 99, 2, 3], method="split") == r_hat([0, 1, 2, 3], method="split")
    # Halves of two draws have no pair of lags: the bound.
    assert effective_sample_size([0, 1, 2, 3]) == pytest.approx(4 * math.log10(4), rel=1e-15)
    # Deviations ∓1: autocovariances 1, -5/6, 4/6, …; var⁺ = 1, W = 6/5: ρ₁ = -31/30, ρ₂ = 7/15.
    # The first pair is negative, so τ = -1 + ρ₀ = 0: the bound.
    assert autocorrelation_time([0, 2, 0, 2, 0, 2]) == pytest.approx(1 / math.log10(6), rel=1e-14)
    # Deviations ∓1: autocovariances 1, 5/8, 2/8, -1/8, …; var⁺ = 1, W = 8/7: ρ₁ = 27/56, ρ₂ = 6/56,
    # ρ₃ = -15/56. The second pair is negative, its first lag is not: τ = -1 + 2 (1 + ρ₁) + ρ₂.
    four = [0, 0, 0, 0, 2, 2, 2, 2]
    assert autocorrelation_time(four) == pytest.approx(29 / 14, rel=1e-14)


SMALL = [[2, 1, 4, 3, 5, 6, 5, 7, 9], [3, 3, 2, 5, 4, 6, 8, 7, 7], [1, 2, 2, 4, 3, 3, 5, 4, 6]]
ORDER = np.arange(120).reshape(3, 40)
WAVES = 0.3 * np.sin((ORDER + 1) ** 2).cumsum(axis=1) + np.sin(7.0 * ORDER)


@pytest.mark.parametrize(
    ("x", "bulk", "mean", "rank", "split"),
    [
        (SMALL, 33.12506980107854, 33.12506980107854, 1.6918216200529637, 1.8301876343313832),
        (WAVES, 18.920796428255922, 17.278488826136154, 1.2918770055807685, 1.3158787319662046),
    ],
)
def test_numbers_of_arviz(x: Any, bulk: float, mean: float, rank: float, split: float) -> None:
    """ArviZ 0.23.4: ess and rhat with these methods. Ties, odd numbers of draws."""
    assert effective_sample_size(x) == pytest.approx(bulk, rel=1e-12)
    assert effective_sample_size(x, method="mean") == pytest.approx(mean, rel=1e-12)
    assert r_hat(x) == pytest.approx(rank, rel=1e-12)
    assert r_hat(x, method="split") == pytest.approx(split, rel=1e-12)


def test_ranks_know_order_alone() -> None:
    x = autoregressive(0.5, 4, 300)
    for f in (np.exp, np.cbrt, lambda x: 7 - 2 * x):
        assert effective_sample_size(f(x)) == pytest.approx(effective_sample_size(x), rel=1e-12)
    # Folding, at the median, is not of ranks: what comes of location is.
    y = x + np.arange(4)[:, None]
    assert r_hat(7 - 2 * y) == pytest.approx(r_hat(y), rel=1e-12)


def test_chains_that_do_not_agree() -> None:
    x = autoregressive(0.3, 4, 500)
    apart = x + 3 * np.arange(4)[:, None]
    wide = x * np.array([[1.0], [1.0], [1.0], [4.0]])
    drifting = x + np.linspace(0, 3, 500)
    for y in (apart, drifting):
        for method in ("rank", "split"):
            assert r_hat(y, method=method) > 1.1
        assert effective_sample_size(y) < 40 < effective_sample_size(x) / 10
    # Means that agree hide a spread that does not.
    assert r_hat(wide, method="split") < 1.01 < 1.1 < r_hat(wide)
    assert autocorrelation_time(apart) > 100 * autocorrelation_time(x)
    # One chain is compared with itself.
    assert r_hat(drifting[0]) > 1.1
    assert r_hat(x[0]) < 1.02


def test_one_chain_in_either_shape() -> None:
    x = autoregressive(0.5, 1, 101)
    for f in (autocorrelation_time, effective_sample_size, r_hat):
        assert f(x[0]) == f(x)
        assert f(x[0].astype(np.float32)) == pytest.approx(f(x), rel=1e-5)


def test_chains_that_stand_still() -> None:
    same, apart = np.full((3, 12), 0.1), np.arange(3.0)[:, None] * np.ones(12) + 0.1
    for f in (autocorrelation_time, effective_sample_size, r_hat):
        assert math.isnan(f(same))
    assert math.isnan(r_hat(same, method="split"))
    for method in ("rank", "split"):
        assert r_hat(apart, method=method) == math.inf
    # ρ = 1 at all lags up to 10, of which the first four pairs count, and half of the next:
    # -1 + 2·4·2 + 1. (The mean of six or twelve times 0.1 is not 0.1.)
    assert autocorrelation_time(apart) == pytest.approx(16, rel=1e-12)
    # Two values, as far from their median: only their order is compared.
    assert r_hat([[0, 1, 0, 1, 1, 0, 1, 0]] * 2) == pytest.approx(math.sqrt(3 / 4), rel=1e-12)


def test_bits() -> None:
    x = autoregressive(0.8, 3, 200) > 0
    for f in (autocorrelation_time, effective_sample_size, r_hat):
        assert f(x) == f(x.astype(np.float64)) == f(x.astype(np.int8))


@pytest.mark.parametrize("f", [autocorrelation_time, effective_sample_size, r_hat])
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((2, 3)), ValueError, r"4 draws; got shape \(2, 3\)"),
        (np.zeros(3), ValueError, r"4 draws; got shape \(3,\)"),
        (np.zeros((0, 9)), ValueError, r"one chain and 4 draws; got shape \(0, 9\)"),
        (np.zeros((2, 9, 2)), ValueError, r"got shape \(2, 9, 2\)"),
        (1.0, ValueError, r"got shape \(\)"),
        ([1.0, 2.0, math.nan, math.inf], ValueError, "2 of its 4 values are NaN or infinite"),
        (np.zeros((2, 9), complex), TypeError, "real numbers, got dtype complex128"),
        (["a", "b", "c", "d"], TypeError, "x must be an array of real numbers, got dtype <U1"),
    ],
)
def test_what_is_refused(f: Any, x: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        f(x)


def test_methods_are_named() -> None:
    with pytest.raises(ValueError, match="method must be one of 'bulk', 'mean'; got 'tail'"):
        effective_sample_size(np.arange(9), method="tail")
    with pytest.raises(ValueError, match="method must be one of 'rank', 'split'; got 'bulk'"):
        r_hat(np.arange(9), method="bulk")


def test_n_eff_of_weights() -> None:
    assert importance_n_eff(np.zeros(50)) == pytest.approx(50, rel=1e-14)
    assert importance_n_eff(np.log([1, 3])) == pytest.approx(1.6, rel=1e-14)
    assert importance_n_eff([-math.inf, 5.0, -math.inf]) == 1
    w = np.random.default_rng(0).normal(0, 2, 1000)
    expected = np.exp(w).sum() ** 2 / np.exp(2 * w).sum()
    for shift in (0, 1e4, -1e4):  # whose exponentials are no doubles
        assert importance_n_eff(w + shift) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([], ValueError, r"at least one; got shape \(0,\)"),
        (np.zeros((2, 2)), ValueError, r"got shape \(2, 2\)"),
        ([-math.inf, -math.inf], ValueError, "not -inf everywhere; the largest is -inf"),
        ([0, math.inf], ValueError, "the largest is inf"),
        ([0, math.nan], ValueError, "the largest is nan"),
        (["a"], TypeError, "log_weights must be an array of real numbers, got dtype <U1"),
    ],
)
def test_weights_that_are_refused(weights: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        importance_n_eff(weights)
