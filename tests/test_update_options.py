"""Options of the update: the reference's bits, what they are for, and what they carry."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import packed, random_bits, random_model, random_reals, same_bits

from harmonium import DBN, BernoulliRBM
from harmonium.engine import get_engine
from harmonium.engine.protocol import RowTraits, TrainingArrays, TrainingRule, UpdateOptions

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

    @property
    def has_velocity(self) -> bool:
        return self.momentum != 0 or self.options.get("solver") == "adam"

    def start(self, n_visible: int, n_hidden: int, scale: float = 0.1) -> ref.CDState:
        """A state in which everything that an option may carry is something."""
        h = random_bits(self.n_chains, n_hidden, seed=19) if self.n_chains else None
        state = ref.CDState.start(*random_model(n_visible, n_hidden, seed=21, scale=scale), h)
        carried: dict[str, Any] = {}
        if "solver" in self.options:
            # Adam's corrections are large at first, so the squares have to be, too.
            squares = [np.square(a) for a in random_model(n_visible, n_hidden, seed=24, scale=0.1)]
            carried |= zip(("W_square", "b_square", "c_square"), squares, strict=True)
            carried["n_squares"] = np.array([3])
        if "offset_rate" in self.options:
            carried["v_offset"] = random_reals(1, n_visible, seed=20)[0]
            carried["h_offset"] = random_reals(1, n_hidden, seed=21)[0]
        if "sparsity_target" in self.options:
            carried["h_activity"] = random_reals(1, n_hidden, seed=22)[0]
        if "average" in self.options:
            averages = random_model(n_visible, n_hidden, seed=23)
            carried |= zip(("W_average", "b_average", "c_average"), averages, strict=True)
            carried["counts"] = np.array([1000, 3, 995])
        if "replicas" in self.options:
            betas = np.array([1.0, 0.7, 0.2, 0.0])
            n_others = 3 * self.n_chains
            carried["replicas"] = random_bits(n_others, n_hidden, seed=27)
            carried["base_bias"] = random_model(n_visible, 1, seed=28)[1]
            carried["betas"], carried["exchanges"] = betas, np.arange(6).reshape(2, 3)
        if "fast_rate" in self.options:
            fast = random_model(n_visible, n_hidden, seed=29, scale=0.05)
            carried |= zip(("W_fast", "b_fast", "c_fast"), fast, strict=True)
        return replace(state, **carried)

    @property
    def rule_options(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name != "replicas"}

    def reference(
        self, state: ref.CDState, v: np.ndarray, weights: np.ndarray | None = None
    ) -> ref.CDState:
        names = ("learning_rate", "seed", "k", "momentum", "l1", "l2", "n_labels")
        rule = {name: getattr(self, name) for name in names}
        options: dict[str, Any] = {"weights": weights, **rule, **self.rule_options}
        return ref.cd_epoch(state, v, self.batch_size, **options)[-1]


CARRIED = TrainingArrays._fields[7:]


class Training:
    """Arrays like those of a state, and a Trainer on them."""

    def __init__(
        self, state: ref.CDState, recipe: Recipe, weights: np.ndarray | None = None
    ) -> None:
        r = self.recipe = recipe
        persistent = state.h_chains is not None
        n_words = -(-state.W.shape[1] // 64)
        chains = packed(state.h_chains) if persistent else np.zeros((r.batch_size, n_words), "u8")
        velocities = [state.velocity_W, state.velocity_b, state.velocity_c]
        if not r.has_velocity:
            velocities = [None] * 3
        arrays = [state.W, state.b, state.c, chains, *velocities]
        arrays += [getattr(state, name) for name in CARRIED]
        arrays[CARRIED.index("replicas") + 7] = self.bits_of(state.replicas)
        self.arrays = TrainingArrays(*(None if a is None else a.copy() for a in arrays))
        self.engine = get_engine(n_threads=r.n_threads)
        rule = TrainingRule(r.k, persistent, r.l1, r.l2, r.seed, r.n_labels)
        options = {name: value for name, value in r.rule_options.items() if name != "solver"}
        rule = rule._replace(options=UpdateOptions(**options))
        traits = RowTraits(weights)
        self.trainer = self.engine.trainer(self.arrays, rule, r.precision, traits)
        self.step = 0

    @staticmethod
    def bits_of(states: np.ndarray | None) -> np.ndarray | None:
        return None if states is None else packed(states)

    def run(self, v: np.ndarray, begin: int = 0, count: int | None = None) -> "Training":
        make = self.engine.rows_of_bytes if v.dtype == bool else self.engine.rows_of_reals
        r, n = self.recipe, len(v) - begin if count is None else count
        where = (begin, n, r.batch_size, self.step)
        self.trainer.run(make(v), None, *where, r.learning_rate, r.momentum)
        self.step += -(-n // r.batch_size) * r.k
        return self

    def assert_equals(self, state: ref.CDState) -> None:
        expected = {name: getattr(state, name) for name in ("W", "b", "c", *CARRIED)}
        if self.recipe.has_velocity:
            expected |= {f"{name}_velocity": getattr(state, f"velocity_{name}") for name in "Wbc"}
        for name, array in expected.items():
            got = getattr(self.arrays, name)
            array = self.bits_of(array) if name == "replicas" else array
            assert (got is None) == (array is None), name
            assert got is None or same_bits(np.ascontiguousarray(got), array), name


ADAM = {"solver": "adam", "beta_1": 0.9, "beta_2": 0.99, "epsilon": 1e-8}
RMSPROP = {"solver": "rmsprop", "beta_2": 0.95, "epsilon": 1e-6}
SPARSE = {"sparsity_target": 0.1, "sparsity_cost": 2.0, "sparsity_decay": 0.8}

RECIPES = [
    Recipe(SPARSE),
    Recipe(SPARSE, n_chains=6, k=2, momentum=0.8),
    Recipe(SPARSE, batch_size=2),
    Recipe({"offset_rate": 0.1}),
    Recipe({"offset_rate": 0.01}, n_chains=6, k=2, momentum=0.8, l1=1e-3, l2=1e-3),
    Recipe({"offset_rate": 1.0} | SPARSE, batch_size=1, n_labels=10, learning_rate=0.05),
    Recipe(ADAM, learning_rate=0.02),
    Recipe(
        ADAM | SPARSE | {"offset_rate": 0.1}, n_chains=6, k=2, l1=1e-3, l2=1e-3, learning_rate=0.02
    ),
    Recipe(RMSPROP, n_chains=10, learning_rate=0.01),
    Recipe(RMSPROP | {"average": 0.9}, l2=0.01, batch_size=3, learning_rate=0.01),
    Recipe({"max_norm": 0.6}),
    Recipe({"max_norm": 0.3, "average": 0.8}, n_chains=6, k=2, momentum=0.8, learning_rate=1.0),
    Recipe({"max_norm": 0.5} | ADAM, l2=0.01, batch_size=3, learning_rate=0.01),
    Recipe({"average": 0.99}, batch_size=2),
    Recipe({"average": 0.5}, n_chains=6, k=2, momentum=0.8),
    Recipe({"average": 0.97} | SPARSE, l2=1e-3),
    Recipe({"restarts": True}, n_chains=6),
    Recipe({"restarts": True} | ADAM, n_chains=10, k=3, learning_rate=0.02),
    Recipe({"replicas": True}, n_chains=10),
    Recipe({"replicas": True, "offset_rate": 0.1}, n_chains=7, k=2, l2=1e-3),
    Recipe({"fast_rate": 0.1, "fast_decay": 0.9}, n_chains=10),
    Recipe({"fast_rate": 0.02, "fast_decay": 0.95}, n_chains=7, k=2, momentum=0.8, l2=1e-3),
    Recipe({"fast_rate": 0.02, "fast_decay": 0.95} | RMSPROP, n_chains=10, learning_rate=0.01),
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


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("recipe", [RECIPES[k] for k in (1, 4, 7)], ids=str)
def test_weighted_rows(recipe: Recipe, n_threads: int) -> None:
    """Their means are weighted ones, for sparsity's average and for the offsets too."""
    v = random_bits(103, 150, seed=25, p=0.3)
    weights = np.random.default_rng(26).exponential(size=103)
    weights[7] = 0
    weights /= weights.mean()
    state = recipe.start(150, 70)
    trained = recipe.reference(state, v, weights)
    Training(state, replace(recipe, n_threads=n_threads), weights).run(v).assert_equals(trained)


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


# ---- centring ----


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def centred_update(
    W: np.ndarray,
    b: np.ndarray,
    c: np.ndarray,
    phases: tuple[np.ndarray, np.ndarray],
    offsets: tuple[np.ndarray, np.ndarray],
) -> tuple[np.ndarray, ...]:
    """The plain parameters after an update at learning rate 1, by the definition of centring.

    The energy is -(v-mu)W(h-la) - (v-mu)b' - (h-la)c', whose parameters take steps along their
    gradients; b = b' - W la and c = c' - W'mu are those of the same machine as it is stored.
    """
    mu, la = offsets
    b_own, c_own = b + W @ la, c + W.T @ mu
    p_of_phases = [sigmoid(v @ W + c) for v in phases]
    for v, p, sign in zip(phases, p_of_phases, (1, -1), strict=True):
        W = W + sign * (v - mu).T @ (p - la) / len(v)
        b_own, c_own = b_own + sign * (v - mu).mean(axis=0), c_own + sign * (p - la).mean(axis=0)
    return W, b_own - W @ la, c_own - W.T @ mu


def flipped(
    W: np.ndarray, b: np.ndarray, c: np.ndarray, v_flip: np.ndarray, h_flip: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The same machine where 0 and 1 of some units have changed places (Cho et al. 2011)."""
    v_sign, h_sign = 1.0 - 2 * v_flip, 1.0 - 2 * h_flip
    return v_sign[:, None] * W * h_sign, v_sign * (b + W @ h_flip), h_sign * (c + W.T @ v_flip)


@pytest.mark.parametrize("offsets", ["of data", "halves", "zeros and ones"])
@pytest.mark.parametrize("real", [False, True], ids=["bits", "reals"])
@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("n_rows", [12, 300])
def test_a_centred_update_is_one_of_the_machine_with_flipped_bits(
    precision: Any, real: bool, offsets: str, n_rows: int
) -> None:
    """Of 300 rows no thread has a share: they are dealt otherwise."""
    recipe = Recipe({"offset_rate": 0.0}, n_rows, 9, learning_rate=1.0, precision=precision)
    v = random_reals(n_rows, 70, seed=30) if real else random_bits(n_rows, 70, seed=30)
    state = recipe.start(70, 67, scale=0.1)
    rng = np.random.default_rng(31)
    mu, la = ((rng.random(n) * 8).round().astype(F32) / 8 for n in (70, 67))
    if offsets == "halves":
        mu, la = mu * 0 + F32(0.5), la * 0 + F32(0.5)
    elif offsets == "zeros and ones":
        mu, la = mu.round(), la.round()
    training = Training(replace(state, v_offset=mu, h_offset=la), recipe).run(v)
    got = training.arrays[:3]
    words = np.zeros((9, 2), "u8")
    training.trainer.copy_visible_states(words)
    v_neg = np.unpackbits(words.view("u1"), axis=1, bitorder="little")[:, :70].astype(float)
    v_flip, h_flip = rng.random(70) < 0.5, rng.random(67) < 0.5
    if offsets == "zeros and ones":  # those that are one flipped, the plain gradient is left
        v_flip, h_flip = mu == 1, la == 1

    other = flipped(state.W, state.b, state.c, v_flip, h_flip)
    phases = tuple(np.where(v_flip, 1 - rows, rows) for rows in (v.astype(float), v_neg))
    others_offsets = np.where(v_flip, 1 - mu, mu), np.where(h_flip, 1 - la, la)
    if offsets == "zeros and ones":
        assert not np.any(np.concatenate(others_offsets))
    there = centred_update(*other, phases, others_offsets)
    expected = flipped(*there, v_flip, h_flip)
    # 16-bit weights of at most 0.5 move a probability by at most 70 * 2^-17 and its integer by
    # 2^-16 more; sums with the offsets have some 70 such terms of both signs.
    tolerance = 2e-3 if precision == "auto" else 3e-5
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    changes = [np.abs(x - getattr(state, n)).max() for x, n in zip(expected, "Wbc", strict=True)]
    assert min(changes) > 20 * tolerance


def test_offsets_follow_the_data() -> None:
    X = random_bits(200, 20, seed=32, p=0.3)
    X[:, 0] = True
    rbm = small(centering=True, offset_rate=0.05, n_iter=0).fit(X)
    np.testing.assert_array_equal(rbm._carried["v_offset"], X.mean(axis=0).astype(F32))
    np.testing.assert_array_equal(rbm._carried["h_offset"], np.full(7, 0.5, F32))
    rbm = small(centering=True, offset_rate=0.05, n_iter=20).fit(X)
    # A moving average over some twenty minibatches of ten: standard deviation 0.46 / sqrt(400).
    np.testing.assert_allclose(rbm._carried["v_offset"], X.mean(axis=0), rtol=0, atol=0.1)
    np.testing.assert_allclose(rbm._carried["h_offset"], rbm.transform(X).mean(0), atol=0.1)


def test_partial_fit_begins_to_centre_with_its_rows() -> None:
    X = random_bits(50, 20, seed=33)
    rbm = small().fit(X).set_params(centering=True, offset_rate=0.0)
    rbm.partial_fit(X[:10])
    np.testing.assert_array_equal(rbm._carried["v_offset"], X[:10].mean(axis=0).astype(F32))


def test_inverted_data_are_learnt_as_well() -> None:
    """What centring is for: rows that are mostly ones are as easy as rows that are mostly zeros."""
    rng = np.random.default_rng(0)
    patterns = rng.random((6, 30)) < 0.2
    X = patterns[rng.integers(6, size=600)] ^ (rng.random((600, 30)) < 0.02)
    scores = {}
    for centering in (False, True):
        for name, rows in (("zeros", X), ("ones", ~X)):
            rbm = small(n_components=12, centering=centering, n_iter=10)
            scores[centering, name] = rbm.fit(rows).score(rows)
    assert scores[True, "ones"] > scores[False, "ones"] + 2
    assert scores[True, "ones"] == pytest.approx(scores[True, "zeros"], abs=1.0)


# ---- Adam and RMSprop ----


class FromPyTorch:
    """A PyTorch optimiser on copies of W, b and c, told the gradients of CD in float64."""

    def __init__(self, kind: str, state: ref.CDState, **options: Any) -> None:
        torch = pytest.importorskip("torch")
        self.tensors = [torch.tensor(a.astype(float)) for a in (state.W, state.b, state.c)]
        self.optimizer = getattr(torch.optim, kind)(self.tensors, maximize=True, **options)
        self.torch = torch

    def update(self, v: np.ndarray, v_neg: np.ndarray) -> list[np.ndarray]:
        W, b, c = (tensor.numpy() for tensor in self.tensors)
        zeros = np.zeros(len(b)), np.zeros(len(c))
        after = centred_update(W, b, c, (v.astype(float), v_neg), zeros)
        for tensor, new in zip(self.tensors, after, strict=True):
            tensor.grad = self.torch.tensor(new) - tensor
        self.optimizer.step()
        return [tensor.numpy() for tensor in self.tensors]


@pytest.mark.parametrize(
    "kind, theirs, options, ours",
    [
        ("Adam", {"betas": (0.8, 0.95), "eps": 1e-3}, {"beta_1": 0.8, "beta_2": 0.95}, "adam"),
        ("RMSprop", {"alpha": 0.95, "eps": 1e-3}, {"beta_2": 0.95}, "rmsprop"),
    ],
)
@pytest.mark.parametrize("real", [False, True], ids=["bits", "reals"])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_solvers_are_those_of_pytorch(
    kind: str, theirs: Any, options: Any, ours: str, real: bool, precision: Any
) -> None:
    """An epsilon of 0.001, as gradients of zero have no direction."""
    options = {"solver": ours, "epsilon": 1e-3, **options}
    recipe = Recipe(options, 20, 6, learning_rate=0.01, precision=precision)
    v = random_reals(100, 45, seed=34) if real else random_bits(100, 45, seed=34)
    state = recipe.start(45, 37)
    for name in ("W_square", "b_square", "c_square", "n_squares"):
        state = replace(state, **{name: getattr(state, name) * 0})
    training = Training(state, recipe)
    theirs = FromPyTorch(kind, state, lr=0.01, **theirs)
    for begin in range(0, 100, 20):
        training.run(v, begin, 20)
        words = np.zeros((6, 1), "u8")
        training.trainer.copy_visible_states(words)
        v_neg = np.unpackbits(words.view("u1"), axis=1, bitorder="little")[:, :45].astype(float)
        expected = theirs.update(v[begin : begin + 20], v_neg)
        # Fixed point moves a gradient by at most 2e-5, 16-bit weights by less, and a step by that
        # over epsilon; but where the gradient is so small there are few such weights.
        for got, array in zip(training.arrays[:3], expected, strict=True):
            difference = np.abs(got - array)
            assert difference.max() < 2e-3
            assert difference.mean() < 2e-5
    assert np.abs(training.arrays.W - state.W).mean() > 0.005


@pytest.mark.parametrize("solver", ["adam", "rmsprop"])
@pytest.mark.parametrize("momentum", [0.5, lambda epoch: 0.0])
def test_solvers_take_no_momentum(solver: str, momentum: Any) -> None:
    with pytest.raises(ValueError, match=f"momentum must be 0 with solver='{solver}'.*got"):
        small(solver=solver, momentum=momentum).fit(X_of(20))


def test_a_change_of_solver_begins_with_averages_of_its_own() -> None:
    """A velocity is no average of gradients."""
    X = X_of(40)
    rbm = small(momentum=0.5).fit(X).set_params(momentum=0, solver="adam", learning_rate=0.01)
    other = small(solver="adam", learning_rate=0.01, n_iter=0).fit(X)
    for name in ("components_", "intercept_visible_", "intercept_hidden_", "h_samples_", "_seed"):
        setattr(other, name, getattr(rbm, name))
    other._gibbs_steps = rbm._gibbs_steps
    rbm.partial_fit(X[:10]).partial_fit(X[10:20])
    other.partial_fit(X[:10]).partial_fit(X[10:20])
    np.testing.assert_array_equal(rbm.components_, other.components_)


# ---- sparsity ----


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("real", [False, True], ids=["bits", "reals"])
def test_units_are_on_as_often_as_asked_for(precision: Any, real: bool) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.random((4, 40)) < 0.4
    X = patterns[rng.integers(4, size=500)] ^ (rng.random((500, 40)) < 0.05)
    if real:
        X = np.where(X, F32(0.9), F32(0.1))
    given = {"n_components": 30, "n_iter": 30, "random_state": 0, "metrics": False}
    given |= {"learning_rate": 0.2, "precision": precision}
    assert BernoulliRBM(**given).fit(X).transform(X).mean() < 0.35
    rbm = BernoulliRBM(**given, sparsity_target=0.5, sparsity_cost=1.0).fit(X)
    on = rbm.transform(X).mean(axis=0)
    assert on.mean() == pytest.approx(0.5, abs=0.05)
    assert on.min() > 0.05  # each of them, not some: they swing about the target
    assert on.max() < 0.95
    assert rbm._carried["h_activity"].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    "options",
    [{"solver": "adam"}, {"solver": "rmsprop"}, {"centering": True}, {"max_norm": 1.0}],
    ids=str,
)
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_divergence_leaves_the_state_before_it(options: dict[str, Any], precision: Any) -> None:
    X = X_of(40)
    rbm = small(**options, average=0.9, sparsity_target=0.2, precision=precision).fit(X)
    rbm.set_params(learning_rate=3e38)
    before: dict[str, np.ndarray] = {}

    def train() -> None:
        while True:
            before.update({name: array.copy() for name, array in rbm._carried.items()})
            rbm.partial_fit(X)

    with pytest.raises(FloatingPointError, match="diverged in partial_fit"):
        train()
    for name, array in before.items():
        np.testing.assert_array_equal(rbm._carried[name], array, err_msg=name)
        assert np.all(np.isfinite(array))


# ---- norms ----


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("real", [False, True], ids=["bits", "reals"])
def test_norms_stay_below_their_limit(precision: Any, real: bool) -> None:
    X = random_reals(60, 20, seed=35) if real else random_bits(60, 20, seed=35)
    given = {"precision": precision, "learning_rate": 0.5, "momentum": 0.5, "n_iter": 10}
    free = np.linalg.norm(small(**given).fit(X).components_, axis=1)
    norms = np.linalg.norm(small(**given, max_norm=0.5).fit(X).components_, axis=1)
    assert np.all(norms < 0.5 * (1 + 1e-6))  # rounded factors and products
    assert np.median(free) > 0.6
    assert np.median(norms) > 0.4
    # One that nothing reaches changes nothing: of chains that share no pass anyway.
    far, none = (small(**given, n_chains=3, max_norm=m).fit(X) for m in (100.0, None))
    np.testing.assert_array_equal(far.components_, none.components_)


def test_copies_of_scaled_weights_are_right() -> None:
    """A resumed trainer rounds W afresh; one that goes on has the copies that it kept."""
    X = X_of(100)
    recipe = Recipe({"max_norm": 0.05}, learning_rate=2.0)  # scales move by some powers of two
    state = recipe.start(20, 70, scale=1.0)
    whole = Training(state, recipe).run(X)
    parts = Training(state, recipe).run(X, 0, 50)
    again = Training(replace(state, W=parts.arrays.W, b=parts.arrays.b, c=parts.arrays.c), recipe)
    again.step = parts.step
    again.run(X, 50)
    for name in "Wbc":
        assert same_bits(getattr(again.arrays, name), getattr(whole.arrays, name)), name


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
    np.testing.assert_array_equal(parts._carried["counts"], [6, 2, 6])  # the first, and five later


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


# ---- resuming and scikit-learn's numbers ----


def test_a_target_may_come_or_go_when_training_resumes(tmp_path: Any) -> None:
    X, path = X_of(60), tmp_path / "rbm.safetensors"
    small(n_iter=2).fit(X).save(path)
    resumed = small(n_iter=4, sparsity_target=0.3).fit(X, resume=path)
    np.testing.assert_array_equal(resumed._carried["h_activity"].shape, (7,))
    resumed.set_params(n_iter=2).fit(X).save(path)
    resumed = small(n_iter=4).fit(X, resume=path)
    assert not resumed._carried


@pytest.mark.parametrize("name, value", [("solver", "adam"), ("centering", True), ("average", 0.9)])
def test_other_options_may_not(tmp_path: Any, name: str, value: Any) -> None:
    X, path = X_of(60), tmp_path / "rbm.safetensors"
    small(n_iter=1).fit(X).save(path)
    with pytest.raises(ValueError, match=f"was trained with {name}=.*but this estimator has"):
        small(**{name: value}).fit(X, resume=path)


@pytest.mark.parametrize(
    "options",
    [
        {"centering": True},
        {"solver": "adam"},
        {"average": 0.9},
        {"max_norm": 1.0},
        {"sparsity_target": 0.1},
    ],
    ids=str,
)
def test_scikit_learns_numbers_take_no_options(options: dict[str, Any]) -> None:
    """Then an instance is a source of seeds."""
    X = X_of(30)
    rbm = small(random_state=np.random.RandomState(5), **options).fit(X)
    assert rbm._generator_state is None
    np.testing.assert_array_equal(
        rbm.components_, small(random_state=5, **options).fit(X).components_
    )


def test_options_of_the_update_work_with_inputs_drawn_anew() -> None:
    X = random_reals(40, 20, seed=36)
    rbm = small(inputs="sample", centering=True, offset_rate=0.0).fit(X)
    np.testing.assert_allclose(rbm._carried["v_offset"], X.mean(axis=0), rtol=1e-6)
