"""Temperatures: annealed chains and exchanging replicas, bits and distributions; units held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import chi_square_p, packed, random_bits, random_model, state_counts

from harmonium import BernoulliRBM, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import Chains, Clamp, Machine, Path
from harmonium.sampling import ParallelTempering, spread_evenly

F32 = np.float32
# A right implementation fails for one seed in 10^4, and the seeds here are fixed.
SIGNIFICANCE = 1e-4


def machine_of(
    W: np.ndarray, b: np.ndarray, c: np.ndarray, n_threads: int = 1, precision: Any = "auto"
) -> Machine:
    return get_engine(n_threads=n_threads).machine(W, b, c, precision)


def chains_for(n: int, n_visible: int, n_hidden: int) -> Chains:
    sides = (np.zeros((n, -(-units // 64)), np.uint64) for units in (n_visible, n_hidden))
    return Chains(*sides)


def unpacked(words: np.ndarray, n_units: int) -> np.ndarray:
    return ops.unpack(words, n_units, dtype=bool)


def rbm_of(W: np.ndarray, b: np.ndarray, c: np.ndarray, **parameters: Any) -> BernoulliRBM:
    rbm = BernoulliRBM(len(c), n_iter=0, random_state=0, **parameters)
    rbm.fit(np.eye(len(b), dtype=F32))
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = W.T, b, c
    return rbm


# --- Bits -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_visible, n_hidden", [(1, 1), (65, 17), (130, 127)])
def test_annealed_bits(isa: str, n_visible: int, n_hidden: int, n_threads: int) -> None:
    W, b, c = random_model(n_visible, n_hidden, seed=n_hidden)
    base = np.linspace(-1, 1, n_visible).astype(F32)
    # Steps of both kinds: by the slope in their middle, and by softplus.
    betas = np.array([0.0, 0.005, 0.02, 0.35, 0.9, 0.895, 1.0, 0.5])
    start = random_bits(21, n_visible, seed=1)
    v, h, log_weights = ref.anneal(W, b, c, base, betas, start, 2**60 + 1, step=2**33, row0=5)
    chains = chains_for(21, n_visible, n_hidden)
    chains.v[...] = packed(start)
    weights = np.full(21, 7.0)
    machine = machine_of(W, b, c, n_threads)
    machine.anneal(Path(base, betas), chains, 2**60 + 1, 2**33, 5, weights)
    assert np.array_equal(chains.v, packed(v))
    assert np.array_equal(chains.h, packed(h))
    # The sum began at 7, so that the last bits of some are rounded away.
    np.testing.assert_allclose(weights - 7, log_weights, rtol=0, atol=1e-12)
    weights = np.zeros(21)
    chains.v[...] = packed(start)
    machine.anneal(Path(base, betas), chains, 2**60 + 1, 2**33, 5, weights)
    assert np.array_equal(weights, log_weights)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_visible, n_hidden", [(3, 2), (65, 70), (130, 17)])
def test_bits_of_replicas(isa: str, n_visible: int, n_hidden: int, n_threads: int) -> None:
    W, b, c = random_model(n_visible, n_hidden, seed=n_hidden, scale=0.3)
    base = np.linspace(-1, 1, n_visible).astype(F32)
    betas = np.array([1.0, 0.8, 0.55, 0.2, 0.0])
    n = 7
    start = random_bits(n * len(betas), n_hidden, seed=2)
    v, h, exchanges = ref.temper(W, b, c, base, betas, start, 6, 2**50 + 3, step=2**33 + 1)
    chains = chains_for(len(start), n_visible, n_hidden)
    chains.h[...] = packed(start)
    counts = np.zeros((2, 4), np.int64)
    machine = machine_of(W, b, c, n_threads)
    # In two calls, as in one.
    for n_rounds, first in ((2, 0), (4, 2)):
        step = 2**33 + 1 + first
        machine.temper(Path(base, betas), chains, n_rounds, 2**50 + 3, step, counts)
    assert np.array_equal(chains.v, packed(v))
    assert np.array_equal(chains.h, packed(h))
    assert np.array_equal(counts, exchanges)
    assert 0 < counts[0].sum() < counts[1].sum() == 4 * 3 * n


@pytest.mark.parametrize("span", [1e-4, 1e-3, 0.02, 0.3])
def test_changes_of_temperature_are_those_of_softplus(isa: str, span: float) -> None:
    """Against float64, whichever way they are computed: |x| goes up to 30, and 200 units add up.

    float32 puts each unit's softplus off by some 10^-6 of itself; the slope in the middle is right
    to 1.2·10^-7 for each unit.
    """
    rng = np.random.default_rng(30)
    W, b = rng.normal(0, 3, (40, 200)).astype(F32), np.zeros(40, F32)
    c = rng.normal(0, 2, 200).astype(F32)
    start = random_bits(30, 40, seed=31)
    chains = chains_for(30, 40, 200)
    chains.v[...] = packed(start)
    weights = np.zeros(30)
    path = Path(b, np.array([0.6, 0.6 + span]))
    machine_of(W, b, c).anneal(path, chains, 1, 0, 0, weights)
    x = ref.preactivation(start, W, c).astype(np.float64)
    expected = (np.logaddexp(0, (0.6 + span) * x) - np.logaddexp(0, 0.6 * x)).sum(axis=1)
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=3e-5)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_both_precisions_follow_the_same_temperatures(precision: Any) -> None:
    """Free energies on the way, from chains that one step at β leaves in known states.

    Differences of free energies are those of float64 to 16-bit rounding of the weights: 30 units,
    each off by at most 2^-15 of the largest weight, 3; then the sum of 20 softplus.
    """
    W, b, c = random_model(30, 20, seed=3)
    base = random_model(30, 1, seed=4)[1]
    start = random_bits(50, 30, seed=5)
    chains = chains_for(50, 30, 20)
    chains.v[...] = packed(start)
    weights = np.zeros(50)
    path = Path(base, np.array([0.3, 0.7]))
    machine_of(W, b, c, precision=precision).anneal(path, chains, 1, 0, 0, weights)

    def log_p(beta: float) -> np.ndarray:
        biases = (1 - beta) * base.astype(np.float64) + beta * b
        return -ref.free_energy64(start, beta * W.astype(np.float64), biases, beta * c)

    np.testing.assert_allclose(weights, log_p(0.7) - log_p(0.3), rtol=0, atol=2e-3)


# --- Units held -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("method", ["gibbs", "tempered", "annealed"])
@pytest.mark.parametrize("whole", [True, False])
def test_held_units_stay(method: str, whole: bool, precision: Any) -> None:
    """A row each, or one mask and a row of values each; more rows than a thread's, two threads."""
    W, b, c = random_model(70, 20, seed=6, scale=0.3)
    rbm = rbm_of(W, b, c, n_threads=2, precision=precision)
    values = random_bits(300, 70, seed=7)
    mask = random_bits(300, 70, seed=8) if whole else random_bits(1, 70, seed=8)[0]
    v = rbm.sample(300, 8, method=method, clamp=mask, values=values, random_state=0)
    held = np.broadcast_to(mask, values.shape)
    assert np.array_equal(v[held], values[held])
    assert 0.2 < (v[~held] != values[~held]).mean() < 0.8


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("method", ["gibbs", "tempered", "annealed"])
def test_the_others_follow_the_conditional_distribution(method: str, precision: Any) -> None:
    """Many chains, two units held in four ways, against enumeration by χ².

    Annealed ones are the model's but for what the last steps have not forgotten: with weights of
    this size a few steps forget all.
    """
    W, b, c = random_model(6, 5, seed=9, scale=0.7)
    mask = np.array([False, True, False, False, True, False])
    states = ref.all_states(6)
    p = ref.visible_distribution64(W, b, c)
    for held in ([0, 0], [1, 1], [0, 1]):
        values = np.zeros(6)
        values[mask] = held
        rbm = rbm_of(W, b, c, precision=precision)
        n = 2000 if method == "tempered" else 20_000
        v = rbm.sample(n, 30, method=method, clamp=mask, values=values, random_state=10)
        allowed = (states[:, mask] == held).all(axis=1)
        counts = state_counts(v)
        assert counts[~allowed].sum() == 0
        assert chi_square_p(counts[allowed], p[allowed]) > SIGNIFICANCE


def test_held_states_of_the_engine_have_a_row_each(isa: str) -> None:
    """Among as many as several threads and strips share, each chain has its own."""
    W, b, c = random_model(65, 9, seed=11)
    values, mask = random_bits(600, 65, seed=12), random_bits(600, 65, seed=13)
    clamp = Clamp(packed(mask), packed(values))
    machine = machine_of(W, b, c, 3)
    chains = chains_for(600, 65, 9)
    machine.gibbs(None, chains, 2, 1, 0, 0, clamp)
    assert np.array_equal(unpacked(chains.v, 65)[mask], values[mask])
    # A chain's units are held alike at all temperatures, between which states move.
    values, mask = (np.tile(rows[:200], (3, 1)) for rows in (values, mask))
    clamp = Clamp(packed(mask), packed(values))
    counts = np.zeros((2, 2), np.int64)
    path = Path(b, np.array([1.0, 0.5, 0.0]))
    machine.temper(path, chains, 3, 1, 0, counts, clamp)
    assert np.array_equal(unpacked(chains.v, 65)[mask], values[mask])


# --- Distributions --------------------------------------------------------------------------------


def draws_of(method: str, W: np.ndarray, b: np.ndarray, c: np.ndarray, n: int) -> np.ndarray:
    """Nearly independent states: weights of this size are forgotten in a few steps."""
    rbm = rbm_of(W, b, c)
    if method == "tempered":
        return ParallelTempering(rbm, n, 3, random_state=14).run(8)
    return rbm.sample(n, 8, method=method, random_state=14)


@pytest.mark.parametrize("method", ["gibbs", "tempered", "annealed"])
def test_a_bias_of_one_per_cent_is_noticed(method: str) -> None:
    """200 000 chains against enumeration; and those of a double whose one unit is off.

    The double's bias puts the first visible unit's probability off by about 0.01: with 200 000
    chains nine standard errors.
    """
    W, b, c = random_model(4, 3, seed=15, scale=0.5)
    p = ref.visible_distribution64(W, b, c)
    right = state_counts(draws_of(method, W, b, c, 200_000))
    assert chi_square_p(right, p) > SIGNIFICANCE
    wrong_b = b + F32(0.04) * np.eye(4, dtype=F32)[0]
    shift = ref.visible_distribution64(W, wrong_b, c) - p
    assert abs(shift[ref.all_states(4)[:, 0]].sum()) < 0.011
    wrong = state_counts(draws_of(method, W, wrong_b, c, 200_000))
    assert chi_square_p(wrong, p) < 1e-6


def test_every_temperature_has_its_distribution() -> None:
    W, b, c = random_model(4, 3, seed=16)
    base = np.array([0.5, -0.5, 0.0, 1.0], F32)
    betas = np.array([1.0, 0.6, 0.3, 0.0])
    n = 20_000
    chains = chains_for(4 * n, 4, 3)
    counts = np.zeros((2, 3), np.int64)
    machine_of(W, b, c).temper(Path(base, betas), chains, 60, 17, 0, counts)
    assert (counts[0] > 0.1 * 30 * n).all()
    v = unpacked(chains.v, 4)
    for k, beta in enumerate(betas):
        biases = (1 - beta) * base + beta * b
        p = ref.visible_distribution64(beta * W, biases, beta * c)
        assert chi_square_p(state_counts(v[k * n : (k + 1) * n]), p) > SIGNIFICANCE


def test_replicas_go_where_single_chains_stay() -> None:
    """Two modes far apart: all on, all off; a Gibbs chain would take e^20 steps between them."""
    W = np.full((20, 4), 3.0, F32)
    b, c = np.full(20, -6.0, F32), np.full(4, -30.0, F32)
    rbm = rbm_of(W, b, c)
    on = rbm.sample(200, 200, random_state=0).mean(axis=1) > 0.5
    assert on.all() or not on.any()
    replicas = ParallelTempering(rbm, 200, random_state=1, base_rate=np.full(20, 0.5))
    share = (replicas.adapt(2000).run(500).mean(axis=1) > 0.5).mean()
    p = ref.visible_distribution64(W.astype(F32), b, c)
    expected = p[ref.all_states(20).mean(axis=1) > 0.5].sum()
    # Of 200 independent chains.
    assert abs(share - expected) < 4.5 * np.sqrt(expected * (1 - expected) / 200)


# --- The sampler ----------------------------------------------------------------------------------


def test_temperatures_end_where_neighbours_exchange_alike() -> None:
    W, b, c = random_model(60, 30, seed=18, scale=0.5)
    replicas = ParallelTempering(rbm_of(W, b, c), 50, 12, random_state=0)
    assert np.isnan(replicas.exchange_rates_).all()
    replicas.run(200)
    uneven = replicas.exchange_rates_
    replicas.adapt(1000).run(500)
    even = replicas.exchange_rates_
    assert replicas.betas_.shape == (12,)
    assert (replicas.betas_[0], replicas.betas_[-1]) == (1, 0)
    assert (np.diff(replicas.betas_) < 0).all()
    assert np.ptp(even) < 0.1 < 0.25 < np.ptp(uneven)
    assert replicas.n_steps_ == 1700


def test_the_number_of_temperatures_follows_the_model() -> None:
    """About half of the exchanges succeed, few where there is little to bridge."""
    for scale in (0.05, 0.5):
        W, b, c = random_model(60, 30, seed=19, scale=scale)
        replicas = ParallelTempering(rbm_of(W, b, c), 50, random_state=0).adapt(1000)
        replicas.run(500)
        n = len(replicas.betas_)
        assert n == 2 if scale < 0.1 else 4 < n < 12
        if scale > 0.1:
            assert 0.4 < replicas.exchange_rates_.mean() < 0.6


def test_evenly_spread() -> None:
    betas = np.array([1.0, 0.5, 0.0])
    # All rejections lie in the first half of the path: temperatures go there.
    spread = spread_evenly(betas, np.array([0.2, 1.0]), 5)
    assert (spread[:4] >= 0.5).all()
    np.testing.assert_allclose(spread_evenly(betas, np.array([0.5, 0.5]), 5), np.linspace(1, 0, 5))


def test_results_depend_on_the_random_state_alone() -> None:
    W, b, c = random_model(70, 20, seed=20, scale=0.3)
    options: dict[str, Any] = {"method": "tempered", "random_state": 3}
    one, two = (rbm_of(W, b, c, n_threads=n).sample(30, [5, 20], **options) for n in (1, 2))
    assert np.array_equal(one, two)
    rbm = rbm_of(W, b, c)
    drawn = [rbm.sample(30, 5, method=m) for m in ("tempered", "annealed", "gibbs") * 2]
    assert all((a != b).any() for k, a in enumerate(drawn) for b in drawn[:k])


def test_a_base_from_data(isa: str) -> None:
    """The means of rows, half a row more on and half off; or such means themselves."""
    W, b, c = random_model(30, 10, seed=26, scale=0.3)
    X = random_bits(40, 30, seed=27)
    means = (X.sum(axis=0) + 0.5) / 41
    one, two = (
        ParallelTempering(rbm_of(W, b, c), 20, 4, base_rate=base, random_state=0).run(10)
        for base in (X, means)
    )
    assert np.array_equal(one, two)


def test_states_at_several_steps_are_those_of_one_chain() -> None:
    W, b, c = random_model(30, 10, seed=21)
    rbm = rbm_of(W, b, c)
    several = rbm.sample(5, [1, 3, 10], random_state=1)
    assert several.shape == (3, 5, 30)
    for states, n_steps in zip(several, (1, 3, 10), strict=True):
        assert np.array_equal(states, rbm.sample(5, n_steps, random_state=1))
    p = rbm.sample(5, [1, 3], random_state=1, return_probabilities=True)
    assert p.dtype == rbm.components_.dtype
    assert p.min() > 0
    assert p.max() < 1


def test_init_is_held_too() -> None:
    """The first hidden states see what is held, not what init has in its place."""
    W, b, c = random_model(30, 10, seed=22)
    rbm = rbm_of(W, b, c)
    mask = np.arange(30) < 29
    values = random_bits(4, 30, seed=23)
    options: dict[str, Any] = {"clamp": mask, "values": values, "random_state": 2}
    zeros, ones = (rbm.sample(4, 1, init=np.full((4, 30), x), **options) for x in (0.0, 1.0))
    assert np.array_equal(zeros[:, :29], values[:, :29])
    same_last = values.copy()
    same_last[:, 29] = False
    again = rbm.sample(4, 1, init=same_last.astype(float), **options)
    assert np.array_equal(zeros, again)
    assert ones.shape == (4, 30)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"clamp": np.ones(3, bool)}, ValueError, "got one of them, but no values"),
        ({"values": np.ones(3)}, ValueError, "got one of them, but no clamp"),
        ({"clamp": np.ones(2, bool), "values": np.ones(3)}, ValueError, r"clamp.*\(3,\).*\(2,\)"),
        ({"clamp": np.ones(3), "values": np.ones(3)}, TypeError, "bool.*float64"),
        ({"clamp": np.ones(3, bool), "values": np.full(3, 0.5)}, ValueError, "0 or 1.*0.5"),
        ({"clamp": np.ones(3, bool), "values": np.full(3, np.nan)}, ValueError, "0 or 1.*nan"),
        ({"method": "metropolis"}, ValueError, "metropolis"),
        ({"method": "tempered", "init": np.ones((1, 3))}, ValueError, "init is where Gibbs"),
        ({"method": "annealed", "n_steps": [1, 2]}, ValueError, "at their end alone"),
        ({"n_steps": [2, 1]}, ValueError, r"ascending numbers, got \[2, 1\]"),
        ({"n_steps": []}, ValueError, "ascending numbers"),
        ({"n_steps": [0, 1]}, ValueError, "n_steps"),
    ],
)
def test_mistakes_in_sample(options: Any, error: type[Exception], message: str) -> None:
    rbm = rbm_of(*random_model(3, 2, seed=24))
    with pytest.raises(error, match=message):
        rbm.sample(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_chains": 0}, "n_chains"),
        ({"n_temperatures": 1}, "n_temperatures"),
        ({"betas": [0.5, 1.0]}, "descend from 1"),
        ({"betas": [1.0]}, "descend from 1"),
        ({"betas": [1.0, 0.5], "n_temperatures": 3}, "3, but there are 2"),
        ({"base_rate": np.ones(3)}, "strictly between"),
        ({"base_rate": np.full(2, 0.5)}, "3 probabilities"),
        ({"base_rate": np.ones((2, 4))}, "base_rate: X has 4 features"),
    ],
)
def test_mistakes_in_parallel_tempering(options: Any, message: str) -> None:
    rbm = rbm_of(*random_model(3, 2, seed=25))
    with pytest.raises(ValueError, match=message):
        ParallelTempering(rbm, **options)
