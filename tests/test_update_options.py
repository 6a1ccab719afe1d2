"""Options of the update: the reference's bits, what they are for, and what they carry."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import packed, random_bits, random_model, random_reals, same_bits

from harmonium import DBN, BernoulliRBM
from harmonium.engine import get_engine
from harmonium.engine.protocol import TrainingArrays, TrainingRule, UpdateOptions

F32 = np.float32


@dataclass(frozen=True)
class Recipe:
    """How to train; what the reference and the Trainer are both told."""

    options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 10
    n_chains: int = 0  # 0: CD
    k: int = 1
    momentum: float = 0.0
    l1: float = 0.0
    l2: float = 0.0
    n_labels: int = 0
    learning_rate: float = 0.2
    n_threads: int = 1
    precision: Any = "auto"
    seed: int = 2**50 + 77

    def __str__(self) -> str:
        rest = {k: v for k, v in vars(self).items() if k != "options" and v != vars(Recipe())[k]}
        return " ".join(f"{name}={value}" for name, value in (self.options | rest).items())

    def start(self, n_visible: int, n_hidden: int, scale: float = 0.1) -> ref.CDState:
        """A state in which everything that an option may carry is something."""
        h = random_bits(self.n_chains, n_hidden, seed=19) if self.n_chains else None
        state = ref.CDState.start(*random_model(n_visible, n_hidden, seed=21, scale=scale), h)
        carried: dict[str, Any] = {}
        if "sparsity_target" in self.options:
            carried["h_activity"] = random_reals(1, n_hidden, seed=22)[0]
        if "average" in self.options:
            averages = random_model(n_visible, n_hidden, seed=23)
            carried |= zip(("W_average", "b_average", "c_average"), averages, strict=True)
            carried["counts"] = np.array([1000, 3, 995])
        return replace(state, **carried)

    def reference(self, state: ref.CDState, v: np.ndarray) -> ref.CDState:
        names = ("learning_rate", "seed", "k", "momentum", "l1", "l2", "n_labels")
        rule = {name: getattr(self, name) for name in names}
        return ref.cd_epoch(state, v, self.batch_size, **rule, **self.options)[-1]


CARRIED = TrainingArrays._fields[7:]


class Training:
    """Arrays like those of a state, and a Trainer on them."""

    def __init__(self, state: ref.CDState, recipe: Recipe) -> None:
        r = self.recipe = recipe
        persistent = state.h_chains is not None
        n_words = -(-state.W.shape[1] // 64)
        chains = packed(state.h_chains) if persistent else np.zeros((r.batch_size, n_words), "u8")
        velocities = (state.velocity_W, state.velocity_b, state.velocity_c)
        arrays = [state.W, state.b, state.c, chains, *(velocities if r.momentum else [None] * 3)]
        arrays += [getattr(state, name) for name in CARRIED]
        self.arrays = TrainingArrays(*(None if a is None else a.copy() for a in arrays))
        self.engine = get_engine(n_threads=r.n_threads)
        rule = TrainingRule(r.k, persistent, r.l1, r.l2, r.seed, r.n_labels)
        rule = rule._replace(options=UpdateOptions(**r.options))
        self.trainer = self.engine.trainer(self.arrays, rule, r.precision)
        self.step = 0

    def run(self, v: np.ndarray, begin: int = 0, count: int | None = None) -> "Training":
        make = self.engine.rows_of_bytes if v.dtype == bool else self.engine.rows_of_reals
        r, n = self.recipe, len(v) - begin if count is None else count
        where = (begin, n, r.batch_size, self.step)
        self.trainer.run(make(v), None, *where, r.learning_rate, r.momentum)
        self.step += -(-n // r.batch_size) * r.k
        return self

    def assert_equals(self, state: ref.CDState) -> None:
        expected = {name: getattr(state, name) for name in ("W", "b", "c", *CARRIED)}
        if self.recipe.momentum:
            expected |= {f"{name}_velocity": getattr(state, f"velocity_{name}") for name in "Wbc"}
        for name, array in expected.items():
            got = getattr(self.arrays, name)
            assert (got is None) == (array is None), name
            assert got is None or same_bits(np.ascontiguousarray(got), array), name


SPARSE = {"sparsity_target": 0.1, "sparsity_cost": 2.0, "sparsity_decay": 0.8}

RECIPES = [
    Recipe(SPARSE),
    Recipe(SPARSE, n_chains=6, k=2, momentum=0.8),
    Recipe(SPARSE, batch_size=2),
    Recipe({"average": 0.99}, batch_size=2),
    Recipe({"average": 0.5}, n_chains=6, k=2, momentum=0.8),
    Recipe({"average": 0.97} | SPARSE, l2=1e-3),
]


def model(state: ref.CDState) -> tuple[np.ndarray, ...]:
    if state.W_average is None:
        return state.W, state.b, state.c
    return state.W_average, state.b_average, state.c_average


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_many_updates_bit_for_bit(isa: str, recipe: Recipe) -> None:
    """103 rows: the last batch is short for every batch size but 1."""
    v = random_bits(103, 45, seed=20, p=0.3)
    state = recipe.start(45, 37)
    trained = recipe.reference(state, v)
    Training(state, recipe).run(v).assert_equals(trained)
    off = replace(recipe, options={})
    bare = replace(state, **dict.fromkeys(CARRIED))
    assert not same_bits(off.reference(bare, v).c, model(trained)[2])  # the options do something


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_threads(recipe: Recipe, n_threads: int) -> None:
    """300 x 200 weights: enough for the pass over them to go to several threads."""
    recipe = replace(recipe, n_threads=n_threads)
    v = random_bits(43, 300, seed=24, p=0.2)
    state = recipe.start(300, 200, scale=0.05)
    Training(state, recipe).run(v).assert_equals(recipe.reference(state, v))


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_calls_cut_anywhere_leave_the_same_bits(recipe: Recipe) -> None:
    """At multiples of the updates that share a pass, that is."""
    v = random_bits(250, 45, seed=26, p=0.3)
    state = recipe.start(45, 37)
    whole = Training(state, recipe).run(v)
    parts = Training(state, recipe)
    rows = parts.engine.rows_of_bytes(v)
    size = parts.trainer.updates_a_pass(rows, recipe.batch_size) * recipe.batch_size
    for begin in range(0, 250, size):
        parts.run(v, begin, min(size, 250 - begin))
    for name, array in whole.arrays._asdict().items():
        assert array is None or same_bits(array, getattr(parts.arrays, name)), name


# ---- sparsity ----


def test_units_become_as_sparse_as_asked_for() -> None:
    """Without a target they are on in a third of the rows, as the visible ones are."""
    rng = np.random.default_rng(0)
    patterns = rng.random((4, 40)) < 0.4
    X = patterns[rng.integers(4, size=500)] ^ (rng.random((500, 40)) < 0.05)
    given = {"n_components": 30, "n_iter": 60, "random_state": 0, "metrics": False}
    plain = BernoulliRBM(**given).fit(X).transform(X).mean()
    sparse = BernoulliRBM(**given, sparsity_target=0.1, sparsity_cost=1.0).fit(X)
    assert plain > 0.25
    assert sparse.transform(X).mean() == pytest.approx(0.1, abs=0.04)


# ---- averages ----


def X_of(n: int, n_visible: int = 20, seed: int = 3) -> np.ndarray:
    return random_bits(n, n_visible, seed=seed, p=0.4)


def small(**parameters: Any) -> BernoulliRBM:
    return BernoulliRBM(**{"n_components": 7, "n_iter": 3, "random_state": 0} | parameters)


@pytest.mark.parametrize("n_iter", [1, 3])
def test_the_first_averages_are_the_plain_mean(n_iter: int) -> None:
    """With 0.8 after every one of these updates, since each is a pass: 1/(k+1) until k = 5."""
    X = X_of(20)
    seen = []
    rbm = small(average=0.8, batch_size=20, n_chains=3, n_iter=n_iter)
    rbm.set_params(callbacks=lambda rbm, epoch, metrics: seen.append(rbm._carried["W"].copy()))
    rbm.fit(X)
    # Float32 means of at most three: a few roundings.
    np.testing.assert_allclose(rbm.components_.T, np.mean(seen, axis=0), rtol=0, atol=1e-7)
    raw = small(batch_size=20, n_chains=3, n_iter=n_iter).fit(X)
    np.testing.assert_array_equal(rbm._carried["W"].T, raw.components_)
    np.testing.assert_array_equal(rbm._carried["c"], raw.intercept_hidden_)


def test_the_average_is_the_model() -> None:
    """What it computes, what metrics measure, and what copies without training have."""
    X = X_of(300)
    rbm = small(average=0.9, learning_rate=0.5).fit(X)
    raw = small(learning_rate=0.5).fit(X)
    assert np.abs(rbm.components_ - raw.components_).max() > 1e-3
    np.testing.assert_array_equal(rbm.h_samples_, raw.h_samples_)
    by_hand = small()
    for name in ("components_", "intercept_visible_", "intercept_hidden_"):
        setattr(by_hand, name, getattr(rbm, name))
    by_hand.n_features_in_ = 20
    np.testing.assert_array_equal(rbm.transform(X), by_hand.transform(X))
    np.testing.assert_array_equal(rbm.free_energy(X), by_hand.free_energy(X))
    assert rbm.history_["reconstruction_error"] != raw.history_["reconstruction_error"]
    p = rbm.reconstruct(X)
    # One draw of h a row against its mean: within a few per cent.
    assert rbm.history_["reconstruction_error"][-1] == pytest.approx(np.mean((p - X) ** 2), rel=0.1)


def test_partial_fits_equal_fit_with_averages() -> None:
    """With as many chains as no pass shares: of ten, five updates would."""
    X = X_of(60)
    whole = small(average=0.95, n_iter=1, n_chains=7).fit(X)
    parts = small(average=0.95, n_chains=7)
    for begin in range(0, 60, 10):
        parts.partial_fit(X[begin : begin + 10])
    np.testing.assert_array_equal(parts.components_, whole.components_)
    np.testing.assert_array_equal(parts._carried["counts"], [6, 3, 5])  # every second, from 1 on


def test_averages_of_the_real_path() -> None:
    X = np.random.default_rng(0).random((50, 20)).astype(F32)
    for precision in ("auto", "float32"):
        rbm = small(average=0.9, precision=precision, learning_rate=0.5).fit(X)
        assert np.abs(rbm.components_ - rbm._carried["W"].T).max() > 1e-3
        assert np.abs(rbm.components_ - rbm._carried["W"].T).max() < 1


def test_layers_of_a_stack_take_the_options() -> None:
    X = X_of(60)
    layer = small(average=0.9, sparsity_target=0.2)
    dbn = DBN((6, 5), rbm=layer, random_state=0).fit(X)
    for rbm in dbn.rbms_:
        assert {"W", "W_average", "h_activity"} <= rbm._carried.keys()
        assert np.abs(rbm.components_ - rbm._carried["W"].T).max() > 0
    # Trained by another algorithm, the top goes on from there.
    dbn.fit_up_down(X, n_iter=1)
    after = dbn.rbms_[-1].components_.copy()
    dbn.partial_fit(X[:10])
    assert np.abs(dbn.rbms_[-1].components_ - after).max() < 0.1
    np.testing.assert_array_equal(dbn.rbms_[-1]._carried["counts"], [1, 1, 1])
