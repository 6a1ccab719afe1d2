"""Contrastive divergence: the gradient, and the Trainer's many updates, against the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import reference as ref
import scipy.sparse
from layouts import SIZES, Canvas, packed, random_bits, random_model, random_reals, same_bits

from harmonium import _core, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    NO_TRAITS,
    RowTraits,
    Stream,
    TrainingArrays,
    TrainingRule,
)

F32 = np.float32
EPS = 2.0**-24  # relative error of one float32 rounding


# --- The gradient ---------------------------------------------------------------------------------


def reference_gradient(
    v: np.ndarray, W: np.ndarray, b: np.ndarray, c: np.ndarray, k: int, seed: int, **options: Any
) -> tuple[np.ndarray, ...]:
    """The step at learning rate 1: what the velocities are after a first update with momentum."""
    start = ref.CDState.start(W, b, c, options.get("chains"))
    after = ref.cd_update(start, v, learning_rate=1.0, seed=seed, k=k, momentum=0.5)
    return after.velocity_W, after.velocity_b, after.velocity_c


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("n_visible", SIZES)
def test_gradient_bits(isa: str, n_visible: int, persistent: bool) -> None:
    for n_hidden, k in ((1, 1), (17, 2), (65, 1), (127, 3)):
        W, b, c = random_model(n_visible, n_hidden, seed=n_hidden, scale=0.4)
        v = random_bits(7, n_visible, seed=1)
        chains = random_bits(5, n_hidden, seed=2) if persistent else None
        out = tuple(Canvas(W.shape, F32).view if a is W else np.empty_like(a) for a in (W, b, c))
        got = ops.cd_gradient(v, W, b, c, k, 3, chains=chains, out=out)
        expected = reference_gradient(v, W, b, c, k, 3, chains=chains)
        for name, mine, same in zip("Wbc", got[:3], expected, strict=True):
            assert same_bits(mine, same), name


def test_chains_of_the_gradient(isa: str) -> None:
    """PCD returns the states drawn last; CD those that its last visible states were drawn from."""
    W, b, c = random_model(33, 70, seed=3)
    v, h = random_bits(6, 33, seed=4), random_bits(4, 70, seed=5)
    pcd = ops.cd_gradient(v, W, b, c, 2, 6, chains=h, step=9)
    assert same_bits(pcd.chains, ref.gibbs(W, b, c, 2, 6, h=h, step=9).h)
    start, _ = ref.half_step_up(v, W, c, 6, step=9, stream=ref.STREAM_CD_START)
    assert same_bits(ops.cd_gradient(v, W, b, c, 1, 6, step=9).chains, start)
    later = ref.gibbs(W, b, c, 2, 6, h=start, step=9).h
    assert same_bits(ops.cd_gradient(v, W, b, c, 3, 6, step=9).chains, later)


@pytest.mark.parametrize("n_rows, n_chains", [(70_000, 3), (3, 70_000), (70_000, 70_000)])
def test_gradient_of_very_many_rows(n_rows: int, n_chains: int) -> None:
    """Beyond 65 538 rows probabilities have fewer bits, on their side alone: no sum overflows."""
    W, b, c = random_model(3, 2, seed=7)
    b, c = b + F32(30), c + F32(60)  # all units on, all probabilities 1: the largest sums
    v, chains = np.ones((n_rows, 3), bool), np.ones((n_chains, 2), bool)
    got = ops.cd_gradient(v, W, b, c, 1, 8, chains=chains)
    expected = reference_gradient(v, W, b, c, 1, 8, chains=chains)
    assert all(same_bits(a, e) for a, e in zip(got[:3], expected, strict=True))
    # Both phases have the same statistics, all of them 1, up to roundings of 1.
    assert max(np.abs(a).max() for a in got[:3]) < 4 * EPS


def float64_gradient(
    v: np.ndarray, W: np.ndarray, b: np.ndarray, c: np.ndarray, v_neg: np.ndarray
) -> list[np.ndarray]:
    phases = []
    for states in (v.astype(np.float64), v_neg.astype(np.float64)):
        p = ref.propup64(states, W, c)
        phases.append((states.T @ p / len(states), states.mean(axis=0), p.mean(axis=0)))
    return [positive - negative for positive, negative in zip(*phases, strict=True)]


@pytest.mark.parametrize("n_visible, n_hidden", [(1, 1), (33, 65), (70, 37)])
def test_gradient_of_real_rows(isa: str, n_visible: int, n_hidden: int) -> None:
    """Persistent chains are binary whatever the data: their bits are known."""
    W, b, c = random_model(n_visible, n_hidden, seed=9, scale=0.3)
    v, h = random_reals(12, n_visible, seed=10), random_bits(8, n_hidden, seed=11)
    got = ops.cd_gradient(v, W, b, c, 2, 12, chains=h)
    negative = ref.gibbs(W, b, c, 2, 12, h=h)
    assert same_bits(got.chains, negative.h)
    # p of the data is off by a quarter of V + 2 roundings of terms below 1; p of the chains, from
    # 16-bit weights, by a quarter of V s/2 and half a unit of fixed point, 2^-16. Means are no
    # worse than their terms, and another 20 roundings sum them.
    s = float(ref.quantize(W)[1].max())
    terms = np.abs(W).sum(axis=0).max() + np.abs(c).max()
    tolerance = ((n_visible + 2) * terms * EPS + n_visible * s / 2) / 4 + 2**-16 + 20 * EPS
    exact = float64_gradient(v, W, b, c, negative.v)
    for mine, other in zip(got[:3], exact, strict=True):
        assert np.abs(mine - other).max() < tolerance
    assert tolerance < 0.01  # values are of order 0.3
    assert same_bits(got.b, ops.cd_gradient(v, W, b, c, 2, 12, chains=packed(h)).b)


@pytest.mark.parametrize("persistent", [False, True])
def test_gradient_with_precision_float32(isa: str, persistent: bool) -> None:
    W, b, c = random_model(33, 20, seed=13, scale=0.3)
    v = random_bits(12, 33, seed=14)
    h = random_bits(8, 20, seed=15) if persistent else None
    chain = Float64Chain(W, b, c, seed=16)
    v_neg = chain.run(v, h, k=2, step=0)
    got = ops.cd_gradient(v, W, b, c, 2, 16, chains=h, precision="float32")
    # As above without 16-bit numbers: V + 2 roundings of terms of Σ|w| ~ 10 in p, 20 for means.
    tolerance = 35 * 10 * EPS / 4 + 20 * EPS
    for mine, other in zip(got[:3], float64_gradient(v, W, b, c, v_neg), strict=True):
        assert np.abs(mine - other).max() < tolerance
    if persistent:
        assert np.array_equal(got.chains, chain.h)


class Float64Chain:
    """A Gibbs chain in float64 with harmonium's random numbers.

    Its states are those of any float32 computation, provided no number lies within 10^-5 of its
    probability, where float32 products might decide otherwise: this is checked at every draw.
    """

    def __init__(self, W: np.ndarray, b: np.ndarray, c: np.ndarray, seed: int) -> None:
        self.W, self.b, self.c, self.seed = W, b, c, seed

    def draw(self, p: np.ndarray, step: int, stream: int) -> np.ndarray:
        u = ref.draw_bits(*p.shape, self.seed, step=step, stream=stream) / 2.0**32
        assert np.abs(u - p).min() > 1e-5, "choose another seed"
        return u < p

    def run(self, v: np.ndarray, h: np.ndarray | None, k: int, step: int) -> np.ndarray:
        """Return the last visible states, and leave the hidden ones drawn last in self.h."""
        if h is None:
            h = self.draw(ref.propup64(v, self.W, self.c), step, ref.STREAM_CD_START)
        for t in range(step, step + k):
            v = self.draw(ref.propdown64(h, self.W, self.b), t, ref.STREAM_VISIBLE)
            h = self.draw(ref.propup64(v, self.W, self.c), t, ref.STREAM_HIDDEN)
        self.h = h
        return v


# --- The gradient's expectation -------------------------------------------------------------------

SMALL = random_model(5, 4, seed=17, scale=1.6)
DATA = random_bits(400, 5, seed=18, p=0.2)  # far from what the model would make
EXACT = np.concatenate([g.ravel() for g in ref.exact_gradient64(DATA, *SMALL)])


def z_scores(gradients: list[ops.Gradient]) -> np.ndarray:
    """How many standard errors the mean of independent gradients is from the exact one."""
    values = np.array([np.concatenate([a.ravel() for a in g[:3]]) for g in gradients], np.float64)
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    return (values.mean(axis=0) - EXACT) / error


def test_gradient_tends_to_the_exact_one_as_k_grows() -> None:
    """Means over 100 seeds of 400 chains, in units of their standard errors.

    29 values of a t distribution with 99 degrees of freedom all lie within 4.5 for all but one
    seed in 1500; quantisation's share, some 10^-5, is a hundredth of a standard error (~ 2·10^-3).
    """
    worst = {}
    for k in (1, 2, 5, 60):
        z = z_scores([ops.cd_gradient(DATA, *SMALL, k, seed) for seed in range(100)])
        worst[k] = np.abs(z).max()
    assert worst[1] > 1.5 * worst[2] > 3 * worst[5] > 30
    assert worst[60] < 4.5


def test_long_run_of_persistent_chains_averages_to_the_exact_gradient() -> None:
    """PCD with k = 1 and weights standing still: time averages of 50 independent sets of chains.

    Bounds as above, 49 degrees of freedom: 5.2 for one seed in 5000.
    """
    runs = []
    for seed in range(50):
        chains, total = np.zeros((100, 1), np.uint64), np.zeros(len(EXACT))
        for step in range(120):
            g = ops.cd_gradient(DATA, *SMALL, 1, seed, chains=chains, step=step)
            chains = g.chains
            if step >= 60:  # by then the start is forgotten, as CD-60 shows
                total += np.concatenate([a.ravel() for a in g[:3]])
        runs.append(ops.Gradient(*np.split(total / 60, [20, 25]), chains))
    assert np.abs(z_scores(runs)).max() < 5.2


# --- The Trainer ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """How to train; what the reference and the Trainer are both told."""

    batch_size: int = 10
    learning_rate: float = 0.1
    k: int = 1
    n_chains: int = 0  # 0: CD
    momentum: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    seed: int = 2**50 + 77
    n_threads: int = 1
    precision: Any = "auto"
    n_labels: int = 0

    def __str__(self) -> str:
        """What differs from the default: the name of a test."""
        parts = [f"{k}={v}" for k, v in vars(self).items() if v != getattr(Recipe, k)]
        return " ".join(parts) or "default"

    def start(self, W: np.ndarray, b: np.ndarray, c: np.ndarray) -> ref.CDState:
        h = random_bits(self.n_chains, len(c), seed=19) if self.n_chains else None
        return ref.CDState.start(W, b, c, h)


def reference_training(
    state: ref.CDState, v: np.ndarray, r: Recipe, **of_rows: Any
) -> list[ref.CDState]:
    """The states before the first update and after each."""
    rule = {name: getattr(r, name) for name in ("learning_rate", "seed", "k", "momentum")}
    rule |= {name: getattr(r, name) for name in ("l1", "l2", "n_labels")}
    return [state, *ref.cd_epoch(state, v, r.batch_size, **rule, **of_rows)]


class Training:
    """Arrays like those of a state, and a Trainer on them."""

    def __init__(
        self,
        state: ref.CDState,
        r: Recipe,
        layout: tuple[int, int] | None = None,
        traits: RowTraits = NO_TRAITS,
    ) -> None:
        copies = [a.copy() for a in (state.velocity_W, state.velocity_b, state.velocity_c)]
        self.canvases = []
        W = state.W.copy()
        if layout is not None:
            self.canvases = [Canvas.of(a, layout) for a in (W, copies[0])]
            W, copies[0] = (canvas.view for canvas in self.canvases)
        persistent = state.h_chains is not None
        n_words = -(-W.shape[1] // 64)
        chains = packed(state.h_chains) if persistent else np.zeros((r.batch_size, n_words), "u8")
        velocities = copies if r.momentum else [None] * 3
        completions = None if state.completions is None else packed(state.completions)
        parameters = W, state.b.copy(), state.c.copy()
        self.arrays = TrainingArrays(*parameters, chains, *velocities, completions)
        self.recipe = r
        self.engine = get_engine(n_threads=r.n_threads)
        rule = TrainingRule(r.k, persistent, r.l1, r.l2, r.seed, r.n_labels)
        self.trainer = self.engine.trainer(self.arrays, rule, r.precision, traits)
        self.step = 0

    def run(
        self,
        v: Any,
        begin: int = 0,
        count: int | None = None,
        order: np.ndarray | None = None,
        rows: Any = None,
    ) -> Training:
        rows = self.engine.rows_of_bytes(v) if rows is None else rows
        r = self.recipe
        if count is None:
            count = (rows.n_rows if order is None else len(order)) - begin
        self.trainer.run(
            rows, order, begin, count, r.batch_size, self.step, r.learning_rate, r.momentum
        )
        self.step += -(-count // r.batch_size) * r.k
        return self

    def equals(self, state: ref.CDState) -> bool:
        a = self.arrays
        pairs = [(a.W, state.W), (a.b, state.b), (a.c, state.c)]
        if self.recipe.momentum:
            pairs += [
                (a.W_velocity, state.velocity_W),
                (a.b_velocity, state.velocity_b),
                (a.c_velocity, state.velocity_c),
            ]
        if state.h_chains is not None:
            pairs.append((a.chains, packed(state.h_chains)))
        if state.completions is not None:
            pairs.append((a.completions, packed(state.completions)))
        return all(same_bits(np.ascontiguousarray(x), y) for x, y in pairs)


RULES = [
    Recipe(),
    Recipe(k=3),
    Recipe(n_chains=6),
    Recipe(n_chains=13, k=2),
    Recipe(momentum=0.9),
    Recipe(momentum=0.5, n_chains=10, l2=1e-3),
    Recipe(l1=1e-2),
    Recipe(l2=0.05, k=2),
    Recipe(l1=1e-3, l2=1e-3, momentum=0.8, n_chains=7, k=2),
    Recipe(learning_rate=0.0),
    Recipe(batch_size=1),
    Recipe(batch_size=2),
    Recipe(batch_size=2, n_chains=2),
    Recipe(batch_size=64, learning_rate=3.0),
    Recipe(n_labels=10),
    Recipe(n_labels=5, k=3, n_chains=6),
    Recipe(n_labels=45),
]


@pytest.mark.parametrize("recipe", RULES, ids=str)
def test_many_updates_bit_for_bit(isa: str, recipe: Recipe) -> None:
    """103 rows: the last batch is short for every batch size but 1."""
    v = random_bits(103 if recipe.batch_size > 1 else 30, 45, seed=20, p=0.3)
    state = recipe.start(*random_model(45, 37, seed=21, scale=0.1))
    trained = reference_training(state, v, recipe)[-1]
    assert Training(state, recipe).run(v).equals(trained)
    assert recipe.learning_rate == 0 or not same_bits(trained.W, state.W)


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("n_visible", SIZES)
def test_sizes_in_awkward_places(isa: str, n_visible: int, momentum: float) -> None:
    for n_hidden, layout in ((1, (0, 0)), (16, (1, 3)), (65, (3, 5)), (127, (1, 64))):
        recipe = Recipe(batch_size=4, momentum=momentum, n_chains=3, learning_rate=0.5)
        v = random_bits(11, n_visible, seed=22)
        state = recipe.start(*random_model(n_visible, n_hidden, seed=23))
        training = Training(state, recipe, layout).run(v)
        assert training.equals(reference_training(state, v, recipe)[-1])
        used = training.canvases if momentum else training.canvases[:1]
        assert all(canvas.is_intact() for canvas in used)


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(batch_size=20),
        Recipe(batch_size=20, n_chains=20, momentum=0.5),
        Recipe(batch_size=2),
        Recipe(batch_size=3, n_chains=3),
        Recipe(batch_size=20, n_labels=10),
        Recipe(batch_size=20, n_labels=10, k=2),
        Recipe(batch_size=20, n_labels=130),  # of more than one thread's share
        Recipe(batch_size=20, n_labels=130, k=2, n_chains=20),
    ],
    ids=str,
)
def test_threads(recipe: Recipe, n_threads: int) -> None:
    """700 x 200 weights: enough for the pass over them to go to seven threads."""
    recipe = replace(recipe, n_threads=n_threads)
    v = random_bits(110, 700, seed=24, p=0.2)
    state = recipe.start(*random_model(700, 200, seed=25, scale=0.05))
    assert Training(state, recipe).run(v).equals(reference_training(state, v, recipe)[-1])


def scales(W: np.ndarray) -> np.ndarray:
    """The scales of both directions: of every hidden unit, then of every visible unit."""
    return np.concatenate([ref.quantize(W)[1], ref.quantize(W.T)[1]])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_scales_that_move_up_and_down(isa: str, momentum: float) -> None:
    """Weights whose columns and rows cross powers of two both ways, several times.

    The 16-bit copies are kept from update to update: an old scale would show in the next sums.
    """
    recipe = Recipe(batch_size=5, learning_rate=1.0, l2=0.15, momentum=momentum, n_chains=4)
    W, b, c = random_model(21, 70, seed=26)
    W *= F32(2.0) ** np.random.default_rng(27).integers(-12, 3, 70).astype(F32)
    W[:8] /= F32(4096)
    v = random_bits(100, 21, seed=28)
    state = recipe.start(W, b, c)
    states = reference_training(state, v, recipe)
    steps = np.diff(np.log2([scales(s.W) for s in states]), axis=0)
    for side in (steps[:, :70], steps[:, 70:]):
        assert (side > 0).sum() > 20
        assert (side < 0).sum() > 20
    training = Training(state, recipe)
    for n, expected in enumerate(states[1:]):
        training.run(v, begin=5 * n, count=5)
        assert training.equals(expected), n


def test_scales_of_the_largest_weights(isa: str) -> None:
    """A column whose scale holds more than float32 does: its next smaller scale must be found."""
    recipe = Recipe(batch_size=1, learning_rate=0.25, l2=1.0, n_chains=1)
    W, b, c = np.zeros((3, 3), F32), np.array([0, 50, 0], F32), np.array([0, 50, 0], F32)
    W[0, 0] = np.finfo(F32).max  # after one decay by a quarter, half of the scale is enough
    W[1, 0] = W[0, 1] = -1.1 * 2.0**113  # then -1 in 16 bits; by the scale of before 0
    v = np.zeros((4, 3), bool)
    v[:, 1] = True
    state = ref.CDState.start(W, b, c, np.array([[False, True, False]]))
    with np.errstate(over="ignore"):
        states = reference_training(state, v, recipe)
    training = Training(state, recipe)
    for n, expected in enumerate(states[1:]):
        training.run(v, begin=n, count=1)
        assert training.equals(expected), n


@pytest.mark.parametrize(
    "recipe",
    [Recipe(batch_size=5, n_chains=3), Recipe(l1=0.1), Recipe(l1=0.1, momentum=0.5)],
    ids=str,
)
def test_columns_and_rows_of_zeros(isa: str, recipe: Recipe) -> None:
    """Their scale is 1, until they move; l1 does not move them, because sign(0) = 0."""
    W, b, c = random_model(9, 66, seed=29, scale=0.1)
    W[:, ::3] = 0
    W[3:5] = 0
    b[4] = -200  # never on, so that nothing but decay touches its weights
    v = random_bits(20, 9, seed=30)
    v[:, 4] = False
    state = recipe.start(W, b, c)
    training = Training(state, recipe).run(v)
    assert training.equals(reference_training(state, v, recipe)[-1])
    assert not training.arrays.W[4].any()
    assert training.arrays.W[3].any()


def test_untouched_rows_stay(isa: str) -> None:
    """Whole tiles of eight visible units that no data row and no chain has on."""
    recipe = Recipe(batch_size=4)
    W, b, c = random_model(40, 17, seed=31)
    quiet = np.r_[3, 8:16, 24:32, 39]
    b[quiet] = -200
    v = random_bits(12, 40, seed=32)
    v[:, quiet] = False
    state = recipe.start(W, b, c)
    training = Training(state, recipe).run(v)
    assert training.equals(reference_training(state, v, recipe)[-1])
    assert same_bits(training.arrays.W[quiet], W[quiet])
    # With decay or momentum they move.
    for other in (replace(recipe, l2=0.1), replace(recipe, l1=0.1)):
        state = other.start(W, b, c)
        training = Training(state, other).run(v)
        assert training.equals(reference_training(state, v, other)[-1])
        assert not (training.arrays.W[quiet] == W[quiet]).any()


def test_no_weight_is_minus_zero(isa: str) -> None:
    """So that it makes no difference which rows are skipped."""
    W, b, c = random_model(24, 4, seed=33)
    quiet = np.r_[3, 8:16]
    W[quiet], b[quiet] = -0.0, -200
    v = random_bits(5, 24, seed=34)
    v[:, quiet] = False
    training = Training(Recipe().start(W, b, c), Recipe()).run(v)
    assert (training.arrays.W[quiet] == 0).all()
    assert not np.signbit(training.arrays.W[quiet]).any()


@pytest.mark.parametrize("recipe", [RULES[1], RULES[8]], ids=str)
def test_chunks_order_and_whole_are_the_same(recipe: Recipe) -> None:
    v = random_bits(103, 45, seed=35)
    order = np.random.default_rng(36).integers(0, 103, 103)  # rows may come twice, or never
    state = recipe.start(*random_model(45, 37, seed=37, scale=0.1))
    expected = reference_training(state, v[order], recipe)[-1]
    assert Training(state, recipe).run(v, order=order).equals(expected)
    chunked = Training(state, recipe)
    for begin, count in ((0, 10), (10, 50), (60, 0), (60, 40), (100, 3)):
        chunked.run(v, begin=begin, count=count, order=order)
    assert chunked.equals(expected)
    resumed = Training(state, recipe).run(v[order], count=50)
    middle = replace(
        reference_training(state, v[order][:50], recipe)[-1], n_updates=0
    )  # what a file would hold
    assert resumed.equals(middle)
    later = Training(middle, recipe)
    later.step = resumed.step
    assert later.run(v[order], begin=50).equals(expected)


def test_chunks_of_whole_passes_are_the_same() -> None:
    """Updates that W takes together: their number is what calls are to be multiples of."""
    recipe = Recipe(batch_size=2)
    v = random_bits(103, 70, seed=75, p=0.2)
    state = recipe.start(*random_model(70, 65, seed=76, scale=0.1))
    expected = reference_training(state, v, recipe)[-1]
    chunked = Training(state, recipe)
    rows = chunked.engine.rows_of_bytes(v)
    together = chunked.trainer.updates_a_pass(rows, 2)
    assert together == 8
    for begin, n_passes in ((0, 1), (16, 3), (64, 1)):
        chunked.run(v, begin=begin, count=2 * together * n_passes)
    assert chunked.run(v, begin=80).equals(expected)


def test_updates_that_pend_are_worth_the_same() -> None:
    """W taking each update at once differs by roundings, 3·10⁻⁵ of what it moves.

    With one seed in thirteen a draw turns. Were products not corrected, W would be off by all that.
    """
    recipe = Recipe(batch_size=2, seed=0)
    v = random_bits(12, 300, seed=77, p=0.2)
    state = recipe.start(*random_model(300, 260, seed=78, scale=0.1))
    at_once = state
    for begin in range(0, 12, 2):
        at_once = ref.cd_update(at_once, v[begin : begin + 2], learning_rate=0.1, seed=0)
    training = Training(state, recipe).run(v)
    assert training.trainer.updates_a_pass(training.engine.rows_of_bytes(v), 2) == 16
    for name in "Wbc":
        mine, same, start = (getattr(x, name) for x in (training.arrays, at_once, state))
        assert np.abs(mine - same).mean() < 1e-4 * np.abs(same - start).mean()


@pytest.mark.parametrize(
    "batch_size, together, change",
    [
        (2, 8, {}),
        (1, 16, {}),
        (5, 3, {}),
        (9, 1, {}),
        (2, 8, {"n_chains": 2}),
        (2, 1, {"n_chains": 3}),
        (2, 1, {"k": 2}),
        (2, 1, {"momentum": 0.5}),
        (2, 1, {"l1": 0.1}),
        (2, 1, {"l2": 0.1}),
        (2, 1, {"n_labels": 3}),
        (2, 1, {"precision": "float32"}),
    ],
)
def test_how_many_updates_share_a_pass(
    batch_size: int, together: int, change: dict[str, Any]
) -> None:
    recipe = replace(Recipe(batch_size=batch_size), **change)
    training = Training(recipe.start(*random_model(70, 65, seed=79)), recipe)
    rows = training.engine.rows_of_bytes(random_bits(4, 70, seed=80))
    assert training.trainer.updates_a_pass(rows, batch_size) == together


def test_learning_rate_and_momentum_may_change_between_calls() -> None:
    """Momentum that was asked for and is 0 for now: a plain step, remembered as velocity."""
    recipe = Recipe(momentum=0.5)
    v = random_bits(20, 9, seed=38)
    state = recipe.start(*random_model(9, 5, seed=39))
    training = Training(state, recipe)
    training.recipe = replace(recipe, momentum=0.0, learning_rate=0.3)
    training.run(v, count=10)
    first = reference_training(state, v[:10], replace(recipe, momentum=0, learning_rate=0.3))[-1]
    assert training.equals(replace(first))
    assert np.array_equal(training.arrays.W_velocity, reference_step(state, v[:10], 0.3))
    training.recipe = recipe
    training.run(v, begin=10)
    first = replace(
        first,
        velocity_W=reference_step(state, v[:10], 0.3),
        velocity_b=first.b - state.b,
        velocity_c=first.c - state.c,
    )
    second = reference_training(first, v[10:], recipe)[-1]
    assert same_bits(training.arrays.W, second.W)


def reference_step(state: ref.CDState, v: np.ndarray, learning_rate: float) -> np.ndarray:
    """The step d of the weights: the velocity after an update from rest."""
    recipe = Recipe(momentum=0.9, learning_rate=learning_rate)
    return reference_training(state, v, recipe)[-1].velocity_W


# --- Forms of the data ----------------------------------------------------------------------------


def test_every_form_of_binary_rows(isa: str) -> None:
    recipe = Recipe(n_chains=6)
    v = random_bits(55, 70, seed=40, p=0.1)
    v[7] = False  # a row without ones
    order = np.random.default_rng(41).permutation(55)
    state = recipe.start(*random_model(70, 37, seed=42, scale=0.1))
    expected = reference_training(state, v[order], recipe)[-1]
    engine = get_engine(n_threads=1)
    csr = scipy.sparse.csr_array(v.astype(np.uint8))
    forms = {
        "bytes": engine.rows_of_bytes(v),
        "bytes in a canvas": engine.rows_of_bytes(Canvas.of(v.astype(np.uint8)).view),
        "bits": engine.rows_of_bits(packed(v), 70),
        "bits in a canvas": engine.rows_of_bits(Canvas.of(packed(v)).view, 70),
        "sparse": engine.rows_of_sparse(csr, True),
    }
    for name, rows in forms.items():
        assert rows.is_binary
        assert (rows.n_rows, rows.n_cols) == (55, 70)
        assert Training(state, recipe).run(None, rows=rows, order=order).equals(expected), name
        values = np.empty((3, 70), F32)
        rows.copy_values(np.array([7, 54, 0]), values)
        assert np.array_equal(values, v[[7, 54, 0]]), name


def test_every_form_of_real_rows_is_the_same() -> None:
    recipe = Recipe(n_chains=6, learning_rate=0.05)
    values = random_reals(55, 70, seed=43)
    values[values < 0.6] = 0
    order = np.random.default_rng(44).permutation(55)
    state = recipe.start(*random_model(70, 37, seed=45, scale=0.1))
    engine = get_engine(n_threads=1)
    csr = scipy.sparse.csr_array(values)
    forms = {
        "float32": engine.rows_of_reals(values),
        "float64": engine.rows_of_reals(values.astype(np.float64)),
        "float32 in a canvas": engine.rows_of_reals(Canvas.of(values).view),
        "float64 in a canvas": engine.rows_of_reals(Canvas.of(values.astype(np.float64)).view),
        "sparse float32": engine.rows_of_sparse(csr, False),
        "sparse float64": engine.rows_of_sparse(csr.astype(np.float64), False),
    }
    first = Training(state, recipe).run(None, rows=forms["float32"], order=order).arrays
    for name, rows in forms.items():
        assert not rows.is_binary
        # With an order, all forms go through the same copy, so that even BLAS sees the same.
        arrays = Training(state, recipe).run(None, rows=rows, order=order).arrays
        assert all(same_bits(a, b) for a, b in zip(arrays[:4], first[:4], strict=True)), name
        copied = np.empty((2, 70), F32)
        rows.copy_values(np.array([54, 3]), copied)
        assert same_bits(copied, values[[54, 3]]), name


# --- Real values and precision="float32", against float64 -----------------------------------------


def teacher_forced(
    recipe: Recipe, values: np.ndarray, n_visible: int, n_hidden: int
) -> tuple[float, float]:
    """The largest error of any single update against float64, and the largest weight.

    The float64 computation starts from the Trainer's own float32 state before each update, so that
    errors do not add up over updates and a chain's states are known.
    """
    state = recipe.start(*random_model(n_visible, n_hidden, seed=46, scale=0.2))
    training = Training(state, recipe)
    a, worst = training.arrays, 0.0
    rows = training.engine.rows_of_reals(values)
    for begin in range(0, len(values), recipe.batch_size):
        before = [None if x is None else x.copy() for x in a]
        v = values[begin : begin + recipe.batch_size].astype(np.float64)
        count, step = len(v), training.step
        training.run(None, rows=rows, begin=begin, count=count)
        W, b, c = before[:3]
        h = ops.unpack(before[3], n_hidden) if recipe.n_chains else None
        if recipe.precision == "auto" and h is not None:
            v_neg = ref.gibbs(W, b, c, recipe.k, recipe.seed, h=h, step=step).v
        else:
            v_neg = Float64Chain(W, b, c, recipe.seed).run(v, h, recipe.k, step)
        decay = W.astype(np.float64) * recipe.l2 + np.sign(W) * recipe.l1
        for n, g in enumerate(float64_gradient(v, W, b, c, v_neg)):
            d = recipe.learning_rate * (g - (decay if n == 0 else 0))
            if recipe.momentum:
                d += recipe.momentum * before[4 + n].astype(np.float64)
            worst = max(worst, float(np.abs(a[n] - (before[n] + d)).max()))
    return worst, float(np.abs(a.W).max())


@pytest.mark.parametrize("momentum, l1, l2", [(0.0, 0.0, 0.0), (0.6, 1e-2, 1e-2)])
@pytest.mark.parametrize("k", [1, 2])
def test_real_data_with_persistent_chains(
    isa: str, k: int, momentum: float, l1: float, l2: float
) -> None:
    recipe = Recipe(n_chains=6, k=k, momentum=momentum, l1=l1, l2=l2)
    worst, largest = teacher_forced(recipe, random_reals(47, 45, seed=47), 45, 37)
    # At a rate of 0.1: p(h|v⁻) from 16-bit weights is off by 45·s/8, s <= 2·largest/32767, and
    # half a unit of 2^-15 of fixed point; the float32 rounding of the weights themselves adds
    # a few units of 2^-24. Errors of p(h|v⁺), 10^-6, are below all that.
    s = 2 * largest / 32767
    assert worst < 0.1 * (45 * s / 8 + 2**-16 + 1e-6) + 4 * EPS * largest
    assert largest < 2


def test_real_data_with_cd(isa: str) -> None:
    """h starts from real-valued probabilities, the rest of the chain from 16-bit weights."""
    recipe = Recipe(seed=3)
    worst, largest = teacher_forced(recipe, random_reals(30, 25, seed=48), 25, 11)
    s = 2 * largest / 32767
    assert worst < 0.1 * (25 * s / 8 + 2**-16 + 1e-6) + 4 * EPS * largest


@pytest.mark.parametrize("n_chains", [0, 6])
@pytest.mark.parametrize("momentum, l1, l2", [(0.0, 0.0, 0.0), (0.6, 1e-2, 1e-2)])
def test_precision_float32(isa: str, n_chains: int, momentum: float, l1: float, l2: float) -> None:
    recipe = Recipe(
        precision="float32", n_chains=n_chains, momentum=momentum, l1=l1, l2=l2, seed=4, k=2
    )
    for values in (random_reals(30, 25, seed=49), random_bits(30, 25, seed=50).astype(F32)):
        worst, largest = teacher_forced(recipe, values, 25, 11)
        # Sums of 25 products of Σ|w| < 10 put p off by 27·10·2^-24/4 < 5·10^-6; at a rate of 0.1
        # with roundings of the step (10) and of the weight.
        assert worst < 0.1 * (5e-6 + 10 * EPS) + 4 * EPS * largest


def test_precision_float32_of_every_form() -> None:
    """Bits, bytes and floats of the same states all become the same float32 matrix."""
    recipe = Recipe(precision="float32", n_chains=5)
    v = random_bits(30, 70, seed=51)
    state = recipe.start(*random_model(70, 37, seed=52, scale=0.1))
    engine = get_engine(n_threads=1)
    first = Training(state, recipe).run(v).arrays
    for rows in (engine.rows_of_bits(packed(v), 70), engine.rows_of_reals(v.astype(F32))):
        arrays = Training(state, recipe).run(None, rows=rows).arrays
        for a, b in zip(arrays[:3], first[:3], strict=True):
            # BLAS may take another way for rows at another address: roundings of six updates.
            np.testing.assert_allclose(a, b, rtol=0, atol=6 * 5e-7)


# --- Divergence -----------------------------------------------------------------------------------


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("learning_rate", [3e38, 1e300, np.inf, np.nan])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_divergence(isa: str, precision: Any, learning_rate: float, momentum: float) -> None:
    recipe = Recipe(learning_rate=learning_rate, momentum=momentum, precision=precision, n_chains=3)
    v = random_bits(60, 9, seed=53)
    training = Training(recipe.start(*random_model(9, 5, seed=54)), recipe)
    with pytest.raises(FloatingPointError, match="infinite or not a number") as error:
        training.run(v)
    assert error.type is _core.Diverged
    with pytest.raises((FloatingPointError, ValueError), match="infinite or not a number"):
        training.run(v)  # nor does it forget


@pytest.mark.parametrize("name", ["b", "c"])
def test_divergence_of_a_bias_alone(name: str) -> None:
    """A bias that is infinite leaves every probability in [0, 1], and the weights finite."""
    training = Training(Recipe(n_chains=2).start(*random_model(9, 5, seed=55)), Recipe())
    getattr(training.arrays, name)[4] = -np.inf
    with pytest.raises(FloatingPointError, match="infinite or not a number"):
        training.run(random_bits(10, 9, seed=56))
    assert np.isfinite(training.arrays.W).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_to_begin_with(value: float) -> None:
    W, b, c = random_model(9, 5, seed=57)
    W[4, 2] = value
    with pytest.raises(ValueError, match="weights hold values that are infinite or not a number"):
        Training(Recipe().start(W, b, c), Recipe())


def test_cd_needs_a_chain_for_each_row() -> None:
    state = Recipe(batch_size=4).start(*random_model(9, 5, seed=58))
    training = Training(state, Recipe(batch_size=4))
    training.recipe = Recipe(batch_size=5)
    with pytest.raises(ValueError, match="there are too few chains"):
        training.run(random_bits(10, 9, seed=59))
    assert same_bits(training.arrays.W, state.W)
    training.run(random_bits(4, 9, seed=59))  # four rows are as many as there are chains


@pytest.mark.parametrize("n_threads", [1, 3])
def test_visible_states_are_those_of_the_last_step(n_threads: int) -> None:
    n, step, seed = 20, 5, 7
    W, b, c = random_model(70, 33, seed=0, scale=0.4)
    v = random_bits(n, 70, seed=1)
    h = ops.sample_bernoulli(ops.propup(v, W, c), seed, step=step, stream=Stream.HIDDEN_START)
    expected = ops.sample_bernoulli(ops.propdown(h, W, b), seed, step=step, stream=Stream.VISIBLE)
    arrays = TrainingArrays(W.copy(), b.copy(), c.copy(), packed(np.zeros((30, 33), bool)))
    engine = get_engine(n_threads=n_threads)
    trainer = engine.trainer(arrays, TrainingRule(1, False, 0.0, 0.0, seed), "auto")
    trainer.run(engine.rows_of_bytes(v), None, 0, n, n, step, 0.1, 0.0)
    words = np.zeros((n, 2), np.uint64)
    trainer.copy_visible_states(words)
    np.testing.assert_array_equal(ops.unpack(words, 70), expected)
