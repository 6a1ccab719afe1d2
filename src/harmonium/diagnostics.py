"""Whether chains have converged, and how much they are worth: on plain arrays of numbers.

A statistic of chains, such as the free energy of their states, as an array of shape
(n_chains, n_draws), whatever has drawn them.

References
----------
Vehtari, Gelman, Simpson, Carpenter & Bürkner (2021), Rank-normalization, folding, and localization:
an improved R-hat for assessing convergence of MCMC. Bayesian Analysis 16(2): sections 3.1 (split
R̂), 3.2 (effective sample size), 4.1 (ranks) and 4.2 (folding).
Geyer (1992), Practical Markov chain Monte Carlo. Statistical Science 7(4).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.fft
import scipy.special
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from harmonium._checks import check_word

__all__ = ["autocorrelation_time", "effective_sample_size", "importance_n_eff", "r_hat"]

Float64 = NDArray[np.float64]

FEWEST_DRAWS = 4
"""Of a chain: two in each half, so that each has a variance."""


def autocorrelation_time(x: ArrayLike) -> float:
    """Integrated autocorrelation time τ = 1 + 2 Σₜ ρₜ: draws that are worth one independent draw.

    ρₜ = 1 - (W - γₜ) / var⁺ is of all chains together: W is the mean variance within them, γₜ their
    mean autocovariance, var⁺ the variance of all; so chains which stay apart have a long time
    (Vehtari et al. 2021, section 3.2). The sum ends by Geyer's initial monotone sequence: pairs
    ρ₂ₖ + ρ₂ₖ₊₁, which of a reversible chain are positive and fall, up to the first that is not
    positive, none larger than those before it.

    Parameters
    ----------
    x : array of shape (n_chains, n_draws) or (n_draws,)
        Numbers, from converged chains: with at least four draws each. Leave out the burn-in.

    Returns
    -------
    float
        In draws; below 1 where draws alternate, though never below 1 / log₁₀(n_chains·n_draws); NaN
        where all draws are equal.

    Raises
    ------
    ValueError
        x has another number of dimensions, too few draws, or values that are not finite.
    TypeError
        x is not an array of real numbers.

    Notes
    -----
    The estimate is good where chains are at least some 50 τ long; of much shorter ones it is too
    small.
    """
    return _time(_chains(x))


def effective_sample_size(x: ArrayLike, *, method: str = "bulk") -> float:
    """How many independent draws the chains are worth: n / τ, as Stan, ArviZ and posterior tell it.

    Parameters
    ----------
    x : array of shape (n_chains, n_draws) or (n_draws,)
        As for :func:`autocorrelation_time`.
    method : {"bulk", "mean"}, default="bulk"
        Chains are cut into halves, so that those which drift are told too. "bulk" puts normal
        scores of their ranks in the place of the values (section 4.1): robust, and right for
        variables without a variance. "mean" takes the values: for the standard error of their mean,
        which is their standard deviation by the square root of this.

    Returns
    -------
    float
        From 0 to n log₁₀ n for n draws in all, above n where draws alternate; NaN where all are
        equal.

    Raises
    ------
    ValueError, TypeError
        As :func:`autocorrelation_time`; or `method` is unknown.
    """
    check_word("method", method, ("bulk", "mean"))
    halves = _halves(_chains(x))
    return halves.size / _time(_normal_scores(halves) if method == "bulk" else halves)


def r_hat(x: ArrayLike, *, method: str = "rank") -> float:
    """R̂, how much larger the chains' common variance is than that within each: 1 if they agree.

    Vehtari et al. (2021) take chains for converged where it is below 1.01.

    Parameters
    ----------
    x : array of shape (n_chains, n_draws) or (n_draws,)
        With at least four draws a chain; of an odd number the one in the middle is left out. One
        chain is compared with itself.
    method : {"rank", "split"}, default="rank"
        "rank" is the larger of two: of the normal scores of ranks, and of those of the distances
        from the median, so that chains which differ in spread alone are told (section 4.2). "split"
        takes the values as they are (section 3.1). Both are of the chains' halves.

    Returns
    -------
    float
        Infinite where each half is constant and they differ; NaN where all draws are equal.

    Raises
    ------
    ValueError, TypeError
        As :func:`autocorrelation_time`; or `method` is unknown.
    """
    check_word("method", method, ("rank", "split"))
    halves = _halves(_chains(x))
    if method == "split":
        return _potential_reduction(halves)
    folded = np.abs(halves - np.median(halves))
    location = _potential_reduction(_normal_scores(halves))
    spread = _potential_reduction(_normal_scores(folded))
    return float(np.fmax(location, spread))  # all may be equally far from the median


def importance_n_eff(log_weights: ArrayLike) -> float:
    """Effective number of weighted samples, (Σ w)² / Σ w² (Kong 1992).

    Of annealed importance sampling, say, where it warns that a few runs decide the estimate; that
    it is large is no proof, since a region that no run has visited has no weight here (Neal 2001,
    section 3).

    Parameters
    ----------
    log_weights : array of shape (n_samples,)
        log w, from -inf (no weight) up, on any scale: a number added to all changes nothing.

    Returns
    -------
    float
        From 1 to n_samples.

    Raises
    ------
    ValueError
        log_weights is empty or not one-dimensional, holds NaN or +inf, or is -inf everywhere.
    TypeError
        log_weights is not an array of real numbers.
    """
    values = _numbers("log_weights", log_weights)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(
            f"log_weights must have shape (n_samples,), with at least one; got shape {values.shape}"
        )
    largest = float(values.max())
    if not math.isfinite(largest):
        raise ValueError(
            "log_weights must be numbers or -inf, and not -inf everywhere; "
            f"the largest is {largest}"
        )
    weights = np.exp(values - largest)
    return float(weights.sum() ** 2 / (weights @ weights))


def _numbers(name: str, values: ArrayLike) -> Float64:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, got dtype {array.dtype}")
    return array.astype(np.float64)


def _chains(x: ArrayLike) -> Float64:
    """Return x as (n_chains, n_draws)."""
    chains = np.asarray(_numbers("x", x))
    shape = chains.shape
    if chains.ndim == 1:
        chains = chains[None]
    if chains.ndim != 2 or chains.shape[0] == 0 or chains.shape[1] < FEWEST_DRAWS:
        raise ValueError(
            "x must have shape (n_chains, n_draws) or (n_draws,), with at least one chain and "
            f"{FEWEST_DRAWS} draws; got shape {shape}"
        )
    if not np.isfinite(chains).all():
        n = int(np.sum(~np.isfinite(chains)))
        raise ValueError(f"x must be finite; {n} of its {chains.size} values are NaN or infinite")
    return chains


def _halves(chains: Float64) -> Float64:
    """Return twice as many chains of half as many draws; one in the middle is left out."""
    half = chains.shape[1] // 2
    return np.concatenate([chains[:, :half], chains[:, -half:]])


def _normal_scores(chains: Float64) -> Float64:
    """Return Φ⁻¹((r - 3/8) / (n + 1/4)) of the ranks r among all draws, ties at their mean."""
    ranks = scipy.stats.rankdata(chains, axis=None).reshape(chains.shape)
    scores: Any = scipy.special.ndtri((ranks - 0.375) / (chains.size + 0.25))
    return np.asarray(scores)


def _is_constant(values: Float64) -> bool:
    """Whether all are equal: a variance would be their mean's rounding error."""
    return bool((values == values.flat[0]).all())


def _variances(chains: Float64) -> tuple[float, float]:
    """Return W, the mean variance within the chains, and var⁺ = W (n - 1) / n + that of means."""
    n_chains, n_draws = chains.shape
    varies = (chains != chains[:, :1]).any(axis=1)  # else the rounding of a mean
    within = float(np.where(varies, chains.var(axis=1, ddof=1), 0.0).mean())
    between = float(chains.mean(axis=1).var(ddof=1)) if n_chains > 1 else 0.0
    return within, within * (n_draws - 1) / n_draws + between


def _potential_reduction(chains: Float64) -> float:
    """Return √(var⁺ / W)."""
    if _is_constant(chains):
        return math.nan
    within, total = _variances(chains)
    return math.sqrt(total / within) if within > 0 else math.inf


def _autocovariances(chains: Float64) -> Float64:
    """Return Σₛ (xₛ - x̄)(xₛ₊ₜ - x̄) / n for t = 0 … n - 1, a mean over the chains."""
    n = chains.shape[1]
    size = scipy.fft.next_fast_len(2 * n, real=True)  # so that the end does not meet the beginning
    spectra = scipy.fft.rfft(chains - chains.mean(axis=1, keepdims=True), size, axis=1)
    power = np.mean(spectra.real**2 + spectra.imag**2, axis=0)
    return np.asarray(scipy.fft.irfft(power, size)[:n] / n)


def _time(chains: Float64) -> float:
    if _is_constant(chains):
        return math.nan
    n_draws = chains.shape[1]
    within, total = _variances(chains)
    rho = 1 - (within - _autocovariances(chains)) / total
    rho[0] = 1
    pairs = rho[0 : n_draws - 2 : 2] + rho[1 : n_draws - 1 : 2]
    # The first pair that is not positive, or the last there is; its even lag, if that is positive,
    # is left over, and counts half of what twice ρ would: less biased where draws alternate.
    end = int(np.argmax(np.append(pairs[:-1] <= 0, True)))
    tau = -1 + 2 * np.minimum.accumulate(pairs[:end]).sum() + max(rho[2 * end], 0)
    return float(max(tau, 1 / math.log10(chains.size)))
