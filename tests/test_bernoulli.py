"""Draws: bits against the reference, coordinates, and statistics of the draws themselves.

Seeds are fixed, so a statistical test gives the same answer in every run. Correlations of N pairs
of fair coins have a standard deviation of 1/sqrt(N); bounds are 4.5 of them, which a right
implementation passes for all but 7 in a million seeds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import LAYOUTS, SIZES, Canvas, packed, random_reals
from scipy import stats

from harmonium import _core, ops

F32 = np.float32
OUTPUTS = (bool, np.uint8, F32)


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_random123_known_answers(counter: Any, key: Any, words: Any) -> None:
    """The philox4x32 lines with 10 rounds of Random123's tests/kat_vectors."""
    counters = np.array([counter, counter], np.uint32)
    assert (_core.philox(counters, key[0] + (key[1] << 32)) == np.array(words, np.uint32)).all()


def test_philox_of_many_counters() -> None:
    counters = np.random.default_rng(0).integers(0, 2**32, (500, 4), dtype=np.uint32)
    for seed in (0, 1, 2**32, 2**64 - 1):
        assert np.array_equal(_core.philox(counters, seed), ref.philox4x32(counters, seed))


@pytest.mark.parametrize("n_units", SIZES)
def test_bits_in_awkward_places(isa: str, n_units: int) -> None:
    """Every output dtype, at every layout: the reference's bits and nothing around them."""
    p = random_reals(3, n_units, seed=n_units)
    expected = ref.bernoulli(p, 7, step=2, stream=5, row0=11)
    for layout in LAYOUTS:
        source = Canvas.of(p, layout)
        for dtype in OUTPUTS:
            out = Canvas(p.shape, dtype, layout)
            _core.sample_bernoulli(source.view, out.view, 7, 2, 5, 11, 1)
            assert np.array_equal(out.view, expected.astype(dtype))
            assert out.is_intact()
        words = Canvas((3, -(-n_units // 64)), np.uint64, layout)
        _core.sample_bernoulli(source.view, words.view, 7, 2, 5, 11, 1)
        assert np.array_equal(words.view, packed(expected))
        assert words.is_intact()
        assert source.is_intact()
        assert np.array_equal(source.view, p)


@pytest.mark.parametrize("p", [32768, 1e30, np.inf])
def test_probabilities_far_above_one(isa: str, p: float) -> None:
    assert ops.sample_bernoulli(np.full((2, 70), p, F32), 1).all()


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_wide_rows(isa: str, n_threads: int) -> None:
    """Rows longer than the 4096 units drawn at a time, split among threads by columns."""
    p = random_reals(2, 10_001, seed=1)
    expected = ref.bernoulli(p, 3)
    for dtype in OUTPUTS:
        out = Canvas(p.shape, dtype)
        ops.sample_bernoulli(p, 3, out=out.view, n_threads=n_threads)
        assert np.array_equal(out.view, expected.astype(dtype))
        assert out.is_intact()
    words = Canvas((2, 157), np.uint64)
    ops.sample_bernoulli(p, 3, out=words.view, n_threads=n_threads)
    assert np.array_equal(words.view, packed(expected))
    assert words.is_intact()


@pytest.mark.parametrize("seed", [0, 1, 2**32 + 5, 2**64 - 1, np.uint64(2**63), np.int32(4)])
@pytest.mark.parametrize("step", [0, 2**32 - 1, 2**32, 2**56 - 1])
def test_coordinates(isa: str, seed: Any, step: int) -> None:
    p = random_reals(2, 70, seed=2)
    for stream, first_row in ((0, 0), (127, 5), (64, 2**32 - 2)):
        got = ops.sample_bernoulli(p, seed, step=step, stream=stream, first_row=first_row)
        same = ref.bernoulli(p, int(seed), step=step, stream=stream, row0=first_row)
        assert np.array_equal(got, same)


def test_the_comparison_with_p_is_exact(isa: str) -> None:
    """p next to each unit's own number, where the low half decides."""
    u = np.ascontiguousarray(ref.draw_bits(64, 256, 5))
    near = (u.astype(np.float64) / 2.0**32).astype(F32)  # rounded up or down, or exact
    below, above = np.nextafter(near, F32(0)), np.nextafter(near, F32(2))
    # The high halves of u and p are equal nearly everywhere: the test is of the low halves.
    assert (np.floor(near * F32(65536)) == u >> 16).mean() > 0.9
    assert not ops.sample_bernoulli(below, 5).any()
    assert ops.sample_bernoulli(above, 5).all()
    drawn = ops.sample_bernoulli(near, 5)
    assert np.array_equal(drawn, u < near.astype(np.float64) * 2.0**32)
    assert 0.2 < drawn.mean() < 0.8


def test_extreme_probabilities(isa: str) -> None:
    never = np.array([0, -0.0, -1, -1e30, -np.inf, np.nan, 1e-45, 2.0**-40], F32)
    always = np.array([1, np.nextafter(F32(1), F32(2)), 2, 1000, 32767], F32)
    assert not ops.sample_bernoulli(np.repeat(never, 70).reshape(-1, 70), 1).any()
    assert ops.sample_bernoulli(np.repeat(always, 70).reshape(-1, 70), 1).all()


def test_one_row_and_empty() -> None:
    p = random_reals(1, 75, seed=3)
    one = ops.sample_bernoulli(p[0], 9)
    assert one.shape == (75,)
    assert np.array_equal(one, ops.sample_bernoulli(p, 9)[0])
    assert ops.sample_bernoulli(np.empty((3, 0), F32), 9).shape == (3, 0)
    assert ops.sample_bernoulli(np.empty(0, F32), 9).shape == (0,)


@pytest.mark.parametrize("k", [0, 1, 4, 9])
def test_rows_can_be_split(k: int) -> None:
    p = random_reals(9, 70, seed=4)
    whole = ops.sample_bernoulli(p, 6, first_row=100)
    parts = [ops.sample_bernoulli(part, 6, first_row=row) for part, row in split(p, 100, k)]
    assert np.array_equal(whole, np.concatenate(parts))


def split(p: np.ndarray, first: int, k: int) -> list[tuple[np.ndarray, int]]:
    return [(part, row) for part, row in ((p[:k], first), (p[k:], first + k)) if len(part)]


def test_what_is_refused() -> None:
    p = random_reals(2, 5, seed=5)
    for arguments, message in [
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**64}, "seed must be below 18446744073709551616"),
        ({"seed": 0, "step": 2**56}, "step must be below"),
        ({"seed": 0, "stream": 128}, "stream must be below 128, got 128"),
        ({"seed": 0, "first_row": 2**32}, "first_row must be below"),
    ]:
        with pytest.raises(ValueError, match=message):
            ops.sample_bernoulli(p, **arguments)
    for seed in (None, 1.0, True, "1"):
        with pytest.raises(TypeError, match="seed must be an integer, got"):
            ops.sample_bernoulli(p, seed)
    with pytest.raises(TypeError, match="p must have dtype float32, got float64"):
        ops.sample_bernoulli(p.astype(np.float64), 0)
    with pytest.raises(ValueError, match="p must have one or two dimensions, got float32 of shape"):
        ops.sample_bernoulli(p[None], 0)
    with pytest.raises(TypeError, match="out must have dtype bool or uint8 or float32, got int64"):
        ops.sample_bernoulli(p, 0, out=np.empty((2, 5), np.int64))
    with pytest.raises(ValueError, match=r"out must have shape \(2, 1\), got uint64 of shape"):
        ops.sample_bernoulli(p, 0, out=np.empty((2, 5), np.uint64))


# --- Statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1e-4, 0.1, 1 / 3, 0.5, 0.9, 0.999])
def test_frequencies(p: float) -> None:
    """The number of ones among a million draws, by an exact two-sided binomial test."""
    draws = ops.sample_bernoulli(np.full((1000, 1000), p, F32), 42)
    assert stats.binomtest(int(draws.sum()), draws.size, float(F32(p))).pvalue > 1e-4


def test_frequency_of_every_place_in_a_word() -> None:
    """Each of the 128 columns and each of 128 groups of rows for itself, by χ²."""
    draws = ops.sample_bernoulli(np.full((12_800, 128), 0.3, F32), 43)
    for counts in (draws.sum(axis=0), draws.reshape(128, -1).sum(axis=1)):
        z = (counts - 12_800 * 0.3) / np.sqrt(12_800 * 0.3 * 0.7)
        assert stats.chi2.sf((z**2).sum(), 128) > 1e-4


def fair_coins(**coordinates: int) -> np.ndarray:
    """600 x 640 draws as -1 and 1."""
    p = np.full((600, 640), 0.5, F32)
    return ops.sample_bernoulli(p, 44, **coordinates, out=np.empty_like(p)) * 2 - 1


def correlation_is_small(a: np.ndarray, b: np.ndarray) -> bool:
    return abs(float((a * b).mean(dtype=np.float64))) < 4.5 / np.sqrt(a.size)


@pytest.mark.parametrize("lag", [1, 2, 8, 16, 32, 64, 128])
def test_neighbouring_units_are_independent(lag: int) -> None:
    coins = fair_coins()
    assert correlation_is_small(coins[:, lag:], coins[:, :-lag])


@pytest.mark.parametrize("lag", [1, 2, 16, 64])
def test_neighbouring_rows_are_independent(lag: int) -> None:
    coins = fair_coins()
    assert correlation_is_small(coins[lag:], coins[:-lag])


@pytest.mark.parametrize(
    "other", [{"step": 1}, {"step": 2**32}, {"stream": 1}, {"stream": 2}, {"first_row": 600}]
)
def test_steps_streams_and_rows_are_independent(other: dict[str, int]) -> None:
    assert correlation_is_small(fair_coins(), fair_coins(**other))


def test_seeds_are_independent() -> None:
    p = np.full((600, 640), 0.5, F32)
    first = ops.sample_bernoulli(p, 0)
    for seed in (1, 2**32, 2**63):
        both = np.where(first == ops.sample_bernoulli(p, seed), 1.0, -1.0)
        assert correlation_is_small(both, np.ones_like(both))


def drawn_without_sigmoid(b: np.ndarray, seed: int, step: int) -> np.ndarray:
    """One row of visible states whose pre-activations are `b`, drawn as chains are."""
    h, v = np.zeros((1, 1), np.uint64), np.zeros((1, -(-len(b) // 64)), np.uint64)
    machine = _core.Rbm(np.zeros((len(b), 1), F32), b, np.zeros(1, F32), "auto", 1)
    machine.gibbs(None, v, h, 1, seed, step, 0, None, None)
    return ops.unpack(v, len(b))[0]


VISIBLE = 2  # the stream


def test_draws_without_sigmoid_where_it_is_hard_to_tell(isa: str) -> None:
    """Probabilities so close to u that the short exponential must leave the decision to σ, or
    just not: off by up to 8 parts in 4096, where it leaves 1 part open."""
    n, seed, step = 200_000, 5, 3
    u = ref.draw_bits(1, n, seed, step=step, stream=VISIBLE)[0] / 2.0**32
    off = np.random.default_rng(0).uniform(-8 / 4096, 8 / 4096, n)
    off[:1000] = 0
    p = np.clip(u * (1 + off), 1e-12, 1 - 1e-12)
    b = np.log(p / (1 - p)).astype(F32)
    expected = ops.sample_bernoulli(ops.sigmoid(b), seed=seed, step=step, stream=VISIBLE)
    drawn = drawn_without_sigmoid(b, seed, step)
    assert 0.45 < drawn.mean() < 0.55
    assert np.array_equal(drawn, expected)


def test_draws_without_sigmoid_of_every_magnitude(isa: str) -> None:
    """A million floats of all exponents, with infinities; and a NaN draws nothing."""
    b = (np.arange(2**20, dtype=np.uint32) << 12).view(F32)
    for step in range(3):
        with np.errstate(invalid="ignore"):
            p = ops.sigmoid(b)
        expected = ops.sample_bernoulli(p, seed=9, step=step, stream=VISIBLE)
        assert np.array_equal(drawn_without_sigmoid(b, 9, step), expected)
    assert not expected[np.isnan(b)].any()
