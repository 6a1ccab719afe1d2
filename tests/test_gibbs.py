"""Gibbs sampling: bits against the reference, and the distribution it tends to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import (
    SIZES,
    Canvas,
    chi_square_p,
    packed,
    random_bits,
    random_model,
    random_reals,
    same_bits,
    state_counts,
)

from harmonium import ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import Chains, Draw

F32 = np.float32
# A right implementation fails for one seed in 10^4, and the seeds here are fixed.
SIGNIFICANCE = 1e-4


@pytest.mark.parametrize("n_visible", SIZES)
def test_bits_from_visible_states(isa: str, n_visible: int) -> None:
    for n_hidden in (1, 16, 33, 65, 127):
        W, b, c = random_model(n_visible, n_hidden, seed=n_hidden)
        start = random_bits(5, n_visible, seed=1)
        v, h = ops.gibbs(start, W, b, c, 3, 2**60 + 1, step=2**33, first_row=7)
        same = ref.gibbs(W, b, c, 3, 2**60 + 1, v=start, step=2**33, row0=7)
        assert same_bits(v, same.v)
        assert same_bits(h, same.h)


@pytest.mark.parametrize("n_hidden", SIZES)
def test_bits_from_hidden_states(isa: str, n_hidden: int) -> None:
    """The engine's other start, with the probabilities of the last draws."""
    for n_visible in (1, 16, 33, 65, 127):
        W, b, c = random_model(n_visible, n_hidden, seed=n_visible)
        start = random_bits(5, n_hidden, seed=2)
        same = ref.gibbs(W, b, c, 3, 11, h=start, step=4, row0=9)
        v, p_v, p_h = (
            Canvas((5, n), dtype)
            for n, dtype in ((-(-n_visible // 64), np.uint64), (n_visible, F32), (n_hidden, F32))
        )
        h = Canvas.of(packed(start))
        machine = get_engine(n_threads=1).machine(W, b, c, "auto")
        machine.gibbs(None, Chains(v.view, h.view, p_v.view, p_h.view), 3, 11, 4, 9)
        assert np.array_equal(v.view, packed(same.v))
        assert np.array_equal(h.view, packed(same.h))
        assert same_bits(p_v.view, same.p_v)
        assert same_bits(p_h.view, same.p_h)
        assert all(canvas.is_intact() for canvas in (v, h, p_v, p_h))


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_labels", [1, 2, 10, 70, 130])
def test_bits_with_labels(isa: str, n_labels: int, n_threads: int) -> None:
    """Labels within one word of states, and over the border of two and three."""
    W, b, c = random_model(130, 40, seed=n_labels)
    engine = get_engine(n_threads=n_threads)
    machine = engine.machine(W, b, c, "auto", n_labels)
    for n in (5, 300):
        start = random_bits(n, 130, seed=1)
        same = ref.gibbs(W, b, c, 3, 2**60 + 1, v=start, step=2**33, row0=7, n_labels=n_labels)
        states = [np.empty((n, -(-units // 64)), np.uint64) for units in (130, 40)]
        chains = Chains(*states, np.empty((n, 130), F32), np.empty((n, 40), F32))
        machine.gibbs(engine.rows_of_bytes(start), chains, 3, 2**60 + 1, 2**33, 7)
        assert np.array_equal(chains.v, packed(same.v))
        assert np.array_equal(chains.h, packed(same.h))
        assert same_bits(chains.v_probabilities, same.p_v)
        assert (same.v[:, -n_labels:].sum(axis=1) == 1).all()
        down = np.empty((n, 130), F32)
        machine.propdown(engine.rows_of_bits(chains.h, 40), down)
        drawn, expected = ref.half_step_down(same.h, W, b, 0, step=8, stream=0, n_labels=n_labels)
        assert same_bits(down, expected)
        machine.draw_visible(engine.rows_of_bits(chains.h, 40), chains.v, Draw(0, 8))
        assert np.array_equal(chains.v, packed(drawn))


def test_packed_and_plain_states_are_the_same(isa: str) -> None:
    W, b, c = random_model(70, 37, seed=3)
    start = random_bits(9, 70, seed=4)
    plain = ops.gibbs(start, W, b, c, 4, 1)
    words = ops.gibbs(packed(start), W, b, c, 4, 1)
    assert all(np.array_equal(packed(p), w) for p, w in zip(plain, words, strict=True))
    # In place, and into bytes.
    states, bytes_ = packed(start), np.empty((9, 37), np.uint8)
    assert ops.gibbs(states, W, b, c, 4, 1, out=(states, np.empty((9, 1), np.uint64)))[0] is states
    assert np.array_equal(states, words[0])
    ops.gibbs(start, W, b, c, 4, 1, out=(np.empty((9, 70), bool), bytes_))
    assert np.array_equal(bytes_, plain[1])


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_steps_and_rows_can_be_split(precision: Any) -> None:
    W, b, c = random_model(20, 11, seed=5)
    start = random_bits(10, 20, seed=6)
    options = {"seed": 3, "precision": precision}
    whole = ops.gibbs(start, W, b, c, 7, step=5, first_row=2, **options)
    v, _ = ops.gibbs(start, W, b, c, 3, step=5, first_row=2, **options)
    in_steps = ops.gibbs(v, W, b, c, 4, step=8, first_row=2, **options)
    in_rows = [
        ops.gibbs(start[rows], W, b, c, 7, step=5, first_row=2 + rows.start, **options)
        for rows in (slice(0, 3), slice(3, 10))
    ]
    for side in (0, 1):
        assert same_bits(in_steps[side], whole[side])
        assert same_bits(np.concatenate([part[side] for part in in_rows]), whole[side])


def test_every_coordinate_matters() -> None:
    W, b, c = random_model(70, 37, seed=7, scale=0.1)
    start = random_bits(10, 70, seed=8)
    plain = ops.gibbs(start, W, b, c, 1, 3)[1]
    for other in ({"seed": 4}, {"seed": 3 + 2**32}, {"step": 1}, {"step": 2**32}, {"first_row": 1}):
        assert 0.2 < (ops.gibbs(start, W, b, c, 1, **{"seed": 3, **other})[1] != plain).mean() < 0.8


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_real_starts_are_taken_as_they_are(isa: str, precision: Any) -> None:
    """h follows σ(vW + c) of the real v, at the numbers of stream 1; then the chain is binary."""
    W, b, c = random_model(40, 21, seed=9)
    start = random_reals(30, 40, seed=10)
    _, h = ops.gibbs(start, W, b, c, 1, 13, step=6, precision=precision)
    u = ref.draw_bits(30, 21, 13, step=6, stream=ref.STREAM_HIDDEN) / 2.0**32
    p = ref.propup64(start, W, c)
    # float32 sums of 40 products put p off by some 10^-6; no number of this seed is that close.
    assert np.abs(u - p).min() > 1e-5
    assert np.array_equal(h, u < p)
    if precision == "auto":
        v, _ = ref.half_step_down(h, W, b, 13, step=6)
        assert np.array_equal(ops.gibbs(start, W, b, c, 1, 13, step=6)[0], v)


def test_no_steps_from_the_engine_leave_states_alone() -> None:
    W, b, c = random_model(5, 3, seed=11)
    chains = Chains(packed(random_bits(4, 5, seed=12)), packed(random_bits(4, 3, seed=13)))
    before = [a.copy() for a in chains[:2]]
    get_engine().machine(W, b, c, "auto").gibbs(None, chains, 0, 1, 0, 0)
    assert all(same_bits(a, b) for a, b in zip(chains[:2], before, strict=True))


# --- Statistics -----------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("n_visible, n_hidden, n_steps", [(4, 3, 40), (6, 12, 60), (10, 5, 60)])
def test_stationary_distribution(
    n_visible: int, n_hidden: int, n_steps: int, precision: Any
) -> None:
    """20 000 independent chains against enumeration, by χ².

    16-bit weights move a pre-activation by at most 12·2^-15 ~ 4·10^-4 of the largest weight, hence
    a probability by 10^-4: 20 000 chains see differences of 1/sqrt(20 000) = 7·10^-3.
    """
    W, b, c = random_model(n_visible, n_hidden, seed=14, scale=0.7)
    start = np.zeros((20_000, n_visible), bool)
    v, h = ops.gibbs(start, W, b, c, n_steps, 15, precision=precision, n_threads=1)
    p_visible = ref.visible_distribution64(W, b, c)
    p_hidden = ref.visible_distribution64(W.T, c, b)
    assert chi_square_p(state_counts(v), p_visible) > SIGNIFICANCE
    assert chi_square_p(state_counts(h), p_hidden) > SIGNIFICANCE
    # The test would see a wrong bias.
    assert chi_square_p(state_counts(v), ref.visible_distribution64(W, b + F32(0.2), c)) < 1e-6


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_labels_follow_the_distribution_with_one_of_them_on(precision: Any) -> None:
    W, b, c = random_model(7, 5, seed=20, scale=0.7)
    engine = get_engine(n_threads=1)
    machine = engine.machine(W, b, c, precision, 3)
    start = np.zeros((20_000, 7), bool)
    chains = Chains(packed(start), np.empty((20_000, 1), np.uint64))
    machine.gibbs(engine.rows_of_bytes(start), chains, 60, 21, 0, 0)
    p = ref.visible_distribution64(W, b, c)
    p[ref.all_states(7)[:, 4:].sum(axis=1) != 1] = 0
    v = ops.unpack(chains.v, 7, dtype=bool)
    seen = p > 0
    counts = state_counts(v)
    assert counts[~seen].sum() == 0
    assert chi_square_p(counts[seen], p[seen]) > SIGNIFICANCE


def test_pairs_follow_the_joint_distribution() -> None:
    W, b, c = random_model(4, 3, seed=16)
    v, h = ops.gibbs(np.ones((30_000, 4), bool), W, b, c, 40, 17)
    all_v, all_h = np.repeat(ref.all_states(4), 8, axis=0), np.tile(ref.all_states(3), (16, 1))
    joint = np.exp(-ref.energy64(all_v, all_h, W, b, c))
    assert chi_square_p(state_counts(np.hstack([h, v])), joint) > SIGNIFICANCE


def test_one_long_chain_visits_states_as_often_as_it_should() -> None:
    """A single chain continued 4000 times by 5 steps: time averages, not only ensemble ones.

    Weights of 0.3 let five steps forget nearly everything, so that visits are nearly independent.
    """
    W, b, c = random_model(3, 4, seed=18, scale=0.3)
    v, visits = np.zeros((1, 1), np.uint64), np.zeros(8, int)
    for t in range(4000):
        v, _ = ops.gibbs(v, W, b, c, 5, 19, step=5 * t)
        visits[int(v[0, 0])] += 1
    assert chi_square_p(visits, ref.visible_distribution64(W, b, c)) > SIGNIFICANCE


def test_chains_are_independent_of_their_neighbours() -> None:
    """Neighbouring chains and successive steps at p = 1/2 everywhere; N pairs, 4.5/sqrt(N)."""
    nothing = np.zeros((200, 100), F32), np.zeros(200, F32), np.zeros(100, F32)
    start = np.zeros((500, 200), bool)
    states = [ops.gibbs(start, *nothing, 1, 20, step=step) for step in (0, 1)]
    (v0, h0), (v1, h1) = [[np.where(side, 1.0, -1.0) for side in pair] for pair in states]
    for a, b in ((v0, v1), (h0, h1), (v0[1:], v0[:-1]), (h0[1:], h0[:-1]), (v0[:, :100], h0)):
        assert abs((a * b).mean()) < 4.5 / np.sqrt(a.size)
