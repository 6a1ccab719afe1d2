"""harmonium.compat.tutorial: the tutorials' formulas, draws and manners, against NumPy twins."""

from __future__ import annotations

import copy
import importlib.util
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import random_bits, random_reals, same_bits

from harmonium.compat.tutorial import (
    DBN,
    RBM,
    HiddenLayer,
    LogisticRegression,
    SharedArray,
    load_data,
    tile_raster_images,
)

F32 = np.float32
V, H, N = 70, 37, 9  # no multiples of a word
SEED = 4321
USER_SEED = SEED ^ 1 << 63  # what the methods that sample draw with
BITS = random_bits(N, V, seed=1)
GREY = random_reals(N, V, seed=2)
EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

each_kind_of_data = pytest.mark.parametrize("x", [BITS, GREY], ids=["binary", "grey"])


def new_rbm(**arguments: Any) -> RBM:
    """An RBM with biases that are not 0, so that nothing is right by leaving them out."""
    rng = np.random.default_rng(5)
    given = {"hbias": rng.normal(0, 0.5, H), "vbias": rng.normal(0, 0.5, V)}
    rng = np.random.RandomState(0)
    return RBM(n_visible=V, n_hidden=H, numpy_rng=rng, theano_rng=SEED, **{**given, **arguments})


def values_of(rbm: RBM) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, vbias and hbias, as tests/reference.py orders them."""
    return rbm.W.get_value(), rbm.vbias.get_value(), rbm.hbias.get_value()


# --- The twin ---------------------------------------------------------------------------------


class Update:
    """One update of the tutorial's, in float64, with the draws of docs/numerics.md."""

    def __init__(
        self,
        parameters: tuple[np.ndarray, np.ndarray, np.ndarray],
        x: np.ndarray,
        *,
        lr: float,
        k: int,
        step: int,
        seed: int = SEED,
        h: np.ndarray | None = None,
    ) -> None:
        W, b, c = parameters
        p_data = ref.propup64(x, W, c)
        is_persistent = h is not None
        if h is None:
            draw = {"step": step, "stream": ref.STREAM_CD_START}
            if np.isin(x, (0, 1)).all():
                h, _ = ref.half_step_up(x, W, c, seed, **draw)
            else:
                h = ref.bernoulli(p_data.astype(F32), seed, **draw)
        for t in range(step, step + k):
            self.last_h = h.astype(np.float64)
            self.pre_sigmoid_v = self.last_h @ W.T + b
            v, _ = ref.half_step_down(h, W, b, seed, step=t)
            if is_persistent or t + 1 < step + k:
                h, _ = ref.half_step_up(v, W, c, seed, step=t)
        p_chain = ref.propup64(v, W, c)
        x, v = x.astype(np.float64), v.astype(np.float64)
        # -lr · ∂(mean F(x) - mean F(chain_end)), by hand
        self.W = W + lr * (x.T @ p_data / len(x) - v.T @ p_chain / len(v))
        self.b = b + lr * (x.mean(axis=0) - v.mean(axis=0))
        self.c = c + lr * (p_data.mean(axis=0) - p_chain.mean(axis=0))
        self.h = h


def reconstruction_cost(x: np.ndarray, a: np.ndarray) -> float:
    terms = x * np.log(ref.sigmoid64(a)) + (1 - x) * np.log(ref.sigmoid64(-a))
    return float(terms.sum(axis=1).mean())


def pseudo_likelihood_cost(x: np.ndarray, bit: int, W: Any, b: Any, c: Any) -> float:
    rounded = np.rint(x)
    flipped = rounded.copy()
    flipped[:, bit] = 1 - flipped[:, bit]
    difference = ref.free_energy64(flipped, W, b, c) - ref.free_energy64(rounded, W, b, c)
    return float(np.mean(x.shape[1] * np.log(ref.sigmoid64(difference))))


def assert_parameters(rbm: RBM, update: Update, lr: float) -> None:
    # Probabilities enter as multiples of 1/32767, each off by half of that, and so do their means;
    # weights in 16 bits move a probability by at most a quarter of 70 · max|W| / 2¹⁵ / 2, and W is
    # below 1 here: together 6e-4, of which the mean of a sum is seldom a tenth.
    for ours, expected in zip(values_of(rbm), (update.W, update.b, update.c), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=0, atol=2e-4 * lr)


# --- Shared arrays ----------------------------------------------------------------------------


def test_a_shared_array_can_be_read_like_any_other():
    values = np.arange(6).reshape(2, 3)
    shared = SharedArray(values)
    assert shared.dtype == F32
    np.testing.assert_array_equal(shared, values)
    assert type(shared + 1) is np.ndarray
    assert isinstance(shared.sum(), F32)
    assert type(shared.get_value()) is np.ndarray
    assert shared.get_value().flags.writeable
    assert np.shares_memory(shared.get_value(borrow=True), shared)


@pytest.mark.parametrize(
    "write",
    [
        lambda shared: shared.__setitem__(0, 1),
        lambda shared: shared.__iadd__(1),
        lambda shared: shared.T.fill(1),
        lambda shared: shared.get_value(borrow=True).fill(1),
    ],
)
def test_numpy_cannot_change_a_shared_array(write):
    shared = SharedArray(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="read-only"):
        write(shared)
    assert not shared.any()


def test_set_value_is_seen_by_everyone():
    shared = SharedArray(np.zeros((2, 3)))
    view, part = shared.get_value(borrow=True), shared[1]
    shared.set_value(np.ones((2, 3)), borrow=True)
    assert view.all()
    assert part.all()
    with pytest.raises(ValueError, match=r"value must have shape \(2, 3\), got \(3,\)"):
        shared.set_value(np.ones(3))
    with pytest.raises(ValueError, match="value must be finite"):
        shared.set_value(np.full((2, 3), np.nan))
    with pytest.raises(TypeError, match="a part or a copy"):
        part.set_value(np.zeros(3))
    with pytest.raises(TypeError, match="value must be an array of numbers"):
        SharedArray(["a"])
    assert shared.all()


# --- Parameters -------------------------------------------------------------------------------


def test_first_weights_are_the_tutorials():
    # Its constructor takes the seed of Theano's generator first, then draws W.
    rng = np.random.RandomState(1234)
    rng.randint(2**30)
    bound = 4 * np.sqrt(6.0 / (V + H))
    expected = np.asarray(rng.uniform(low=-bound, high=bound, size=(V, H)), dtype=F32)
    rbm = RBM(n_visible=V, n_hidden=H)
    assert same_bits(rbm.W.get_value(), expected)
    assert not rbm.hbias.any()
    assert not rbm.vbias.any()
    arrays = [rbm.W, rbm.hbias, rbm.vbias]
    assert all(a is b for a, b in zip(rbm.params, arrays, strict=True))


def test_the_seed_of_draws_comes_from_the_generator():
    seed = np.random.RandomState(7).randint(2**30)
    implied = RBM(n_visible=V, n_hidden=H, numpy_rng=np.random.RandomState(7))
    given = RBM(n_visible=V, n_hidden=H, theano_rng=seed, W=implied.W)
    assert same_bits(implied.sample_h_given_v(BITS)[2], given.sample_h_given_v(BITS)[2])
    other = RBM(n_visible=V, n_hidden=H, theano_rng=seed + 1, W=implied.W)
    assert not same_bits(implied.sample_h_given_v(BITS)[2], other.sample_h_given_v(BITS)[2])


def test_shared_parameters_are_shared_and_others_copied():
    W = np.zeros((V, H))
    first = new_rbm(W=W)
    second = new_rbm(W=first.W, hbias=first.hbias)
    assert second.W is first.W
    first.train_batch(BITS)
    assert first.W.any()
    assert same_bits(second.hbias, first.hbias)
    assert not W.any()
    assert new_rbm(W=first.W.get_value()).W is not first.W
    # A part or a copy of a shared array is nobody else's.
    assert new_rbm(W=first.W.copy()).W is not first.W


def test_models_can_be_pickled_and_copied():
    dbn = DBN(np.random.RandomState(0), n_ins=V, hidden_layers_sizes=[H, 5], n_outs=3)
    dbn.pretraining_functions(GREY, batch_size=N, k=1)[0](0)
    twins = pickle.loads(pickle.dumps(dbn)), copy.deepcopy(dbn)
    for twin in twins:
        assert twin.rbm_layers[0].W is twin.sigmoid_layers[0].W is twin.params[0]
        assert not np.shares_memory(twin.params[0], dbn.params[0])
    # They go on alike, and alone.
    costs = [model.pretraining_functions(GREY, N, 1)[0](0) for model in (dbn, *twins)]
    assert costs[0] == costs[1] == costs[2]
    twins[0].params[0].set_value(np.zeros((V, H)))
    np.testing.assert_array_equal(twins[0].rbm_layers[0].propup(BITS)[0][0], twins[0].params[1])
    assert dbn.params[0].any()


# --- Conditionals and chains ------------------------------------------------------------------


@each_kind_of_data
def test_propup_and_propdown(x):
    rbm = new_rbm()
    W, b, c = values_of(rbm)
    pre_h, mean_h = rbm.propup(x)
    h = random_reals(N, H, seed=3) if x is GREY else random_bits(N, H, seed=3)
    pre_v, mean_v = rbm.propdown(h)
    # Weights in 16 bits: 70 of them off by max|W| / 2¹⁶ each, less than 1e-3.
    np.testing.assert_allclose(pre_h, x @ W.astype(np.float64) + c, atol=1e-3)
    np.testing.assert_allclose(pre_v, h @ W.T.astype(np.float64) + b, atol=1e-3)
    # σ is good to 3 ULP.
    np.testing.assert_allclose(mean_h, ref.sigmoid64(pre_h), rtol=3 * 2.0**-23)
    np.testing.assert_allclose(mean_v, ref.sigmoid64(pre_v), rtol=3 * 2.0**-23)
    assert {a.dtype for a in (pre_h, mean_h, pre_v, mean_v)} == {np.dtype(F32)}


@each_kind_of_data
def test_free_energy(x):
    rbm = new_rbm()
    W, b, c = values_of(rbm)
    energy = rbm.free_energy(x)
    assert energy.shape == (N,)
    # 37 pre-activations, each off by at most 1e-3.
    np.testing.assert_allclose(energy, ref.free_energy64(x, W, b, c), atol=37e-3)


def test_samples_are_the_draws_that_are_promised():
    rbm = new_rbm()
    W, b, c = values_of(rbm)
    h0 = random_bits(N, H, seed=4)
    for step in range(2):  # each call takes the next number
        pre, mean, h = rbm.sample_h_given_v(BITS)
        expected, p = ref.half_step_up(BITS, W, c, USER_SEED, step=2 * step)
        assert same_bits(h, expected.astype(F32))
        assert same_bits(mean, p)
        assert same_bits(pre, ref.preactivation(BITS, W, c))
        pre, mean, v = rbm.sample_v_given_h(h0)
        expected, p = ref.half_step_down(h0, W, b, USER_SEED, step=2 * step + 1)
        assert same_bits(v, expected.astype(F32))
        assert same_bits(mean, p)
        assert same_bits(pre, ref.preactivation(h0, W.T, b))


def test_gibbs_steps():
    W, b, c = values_of(new_rbm())
    h0 = random_bits(N, H, seed=4)
    pre_h, h_mean, h, pre_v, v_mean, v = new_rbm().gibbs_vhv(BITS)
    expected = ref.gibbs(W, b, c, 1, USER_SEED, v=BITS)
    for ours, theirs in ((h, expected.h), (h_mean, expected.p_h), (v, expected.v)):
        assert same_bits(ours, theirs.astype(F32))
    assert same_bits(v_mean, expected.p_v)
    assert same_bits(pre_h, ref.preactivation(BITS, W, c))
    assert same_bits(pre_v, ref.preactivation(expected.h, W.T, b))
    pre_v, v_mean, v, pre_h, h_mean, h = new_rbm().gibbs_hvh(h0)
    expected = ref.gibbs(W, b, c, 1, USER_SEED, h=h0)
    for ours, theirs in ((h, expected.h), (h_mean, expected.p_h), (v, expected.v)):
        assert same_bits(ours, theirs.astype(F32))
    assert same_bits(v_mean, expected.p_v)
    assert same_bits(pre_v, ref.preactivation(h0, W.T, b))
    assert same_bits(pre_h, ref.preactivation(expected.v, W, c))


@each_kind_of_data
def test_many_gibbs_steps_are_as_many_calls(x):
    one_by_one, at_once = new_rbm(), new_rbm()
    v = x
    for _ in range(7):
        *_, v = result = one_by_one.gibbs_vhv(v)
    for ours, expected in zip(at_once.gibbs_vhv(x, n_steps=7), result, strict=True):
        assert same_bits(ours, expected)
    # And the next call goes on from there.
    assert same_bits(at_once.gibbs_vhv(v)[-1], one_by_one.gibbs_vhv(v)[-1])


# --- Training ---------------------------------------------------------------------------------


@each_kind_of_data
@pytest.mark.parametrize("k", [1, 3])
def test_cd(x, k):
    rbm, lr = new_rbm(), 0.3
    for n in range(3):
        before = values_of(rbm)
        expected = Update(before, x, lr=lr, k=k, step=n * k)
        cost = rbm.train_batch(x, lr, k=k)
        assert_parameters(rbm, expected, lr)
        # The chains' ends as they were drawn, and the parameters of before: 70 values of up to 10,
        # in float32.
        assert cost == pytest.approx(reconstruction_cost(x, expected.pre_sigmoid_v), abs=1e-3)
        W, b, _ = values_of(rbm)
        after = reconstruction_cost(x, expected.last_h @ W.T + b)
        assert abs(cost - after) > 0.1  # which those of after would not give


@each_kind_of_data
@pytest.mark.parametrize(("k", "n_chains"), [(1, N), (3, N), (2, 4)])
@pytest.mark.parametrize("dtype", [bool, np.uint8, F32, np.float64])
def test_pcd(x, k, n_chains, dtype):
    rbm, lr = new_rbm(), 0.3
    persistent = random_bits(n_chains, H, seed=6).astype(dtype)
    for n in range(3):
        before = values_of(rbm)
        expected = Update(before, x, lr=lr, k=k, step=n * k, h=persistent.astype(bool))
        cost = rbm.train_batch(x, lr=lr, persistent=persistent, k=k)
        assert_parameters(rbm, expected, lr)
        assert persistent.dtype == dtype
        np.testing.assert_array_equal(persistent, expected.h)
        # Differences of free energies, each good to 1e-5, times 70.
        assert cost == pytest.approx(pseudo_likelihood_cost(x, n, *before), abs=2e-3)
        assert abs(cost - pseudo_likelihood_cost(x, n, *values_of(rbm))) > 0.005


def test_binary_data_train_to_the_bits_that_numerics_promises():
    """With PCD of as many chains as rows, and the last minibatch of CD shorter."""
    rbm = new_rbm()
    persistent = np.zeros((N, H), F32)
    state = ref.CDState.start(*values_of(rbm), h_chains=persistent)
    for n in range(3):
        x = random_bits(N, V, seed=n)
        state = ref.cd_update(state, x, learning_rate=0.1, seed=SEED, k=15)
        rbm.train_batch(x, 0.1, persistent, 15)
    assert all(map(same_bits, values_of(rbm), (state.W, state.b, state.c)))
    np.testing.assert_array_equal(persistent, state.h_chains)
    rbm = new_rbm()
    state = ref.CDState.start(*values_of(rbm))
    for n_rows in (N, 4, N, N + 3):
        x = random_bits(n_rows, V, seed=n_rows)
        state = ref.cd_update(state, x, learning_rate=0.1, seed=SEED, k=1)
        rbm.train_batch(x)
    assert all(map(same_bits, values_of(rbm), (state.W, state.b, state.c)))


def test_the_pixel_that_is_flipped_goes_round():
    rbm = new_rbm()
    persistent = np.zeros((N, H), F32)
    rbm.bit_i_idx = V - 2
    for bit in (V - 2, V - 1, 0, 1):
        assert rbm.bit_i_idx == bit
        expected = pseudo_likelihood_cost(GREY, bit, *values_of(rbm))
        assert rbm.train_batch(GREY, 0.1, persistent) == pytest.approx(expected, abs=2e-3)
    assert rbm.get_pseudo_likelihood_cost(BITS) == pytest.approx(
        pseudo_likelihood_cost(BITS, 2, *values_of(rbm)), abs=2e-3
    )
    rbm.train_batch(GREY)  # CD has another cost
    assert rbm.bit_i_idx == 3


def test_one_half_is_rounded_down():
    rbm = new_rbm()
    x = np.full((1, V), 0.5)
    zeros = np.zeros((1, V))
    assert rbm.get_pseudo_likelihood_cost(x) == new_rbm().get_pseudo_likelihood_cost(zeros)


def test_the_reconstruction_cost_is_finite_where_probabilities_are_not_far_from_0_and_1():
    rbm = new_rbm()
    a = np.linspace(-200, 200, N * V).reshape(N, V)
    expected = (BITS * a - ref.softplus64(a)).sum(axis=1).mean()
    assert rbm.get_reconstruction_cost(BITS, a) == pytest.approx(expected, rel=1e-5)


def test_without_its_cost_an_update_is_the_same():
    for persistent in (None, np.zeros((N, H), F32)):
        one, other = new_rbm(), new_rbm()
        chains = (persistent, None if persistent is None else persistent.copy())
        for _ in range(2):
            assert one.train_batch(GREY, 0.1, chains[0], 2) is not None
            assert other.train_batch(GREY, 0.1, chains[1], 2, cost=False) is None
        assert all(map(same_bits, values_of(one), values_of(other)))


@pytest.mark.parametrize("name", ["W", "hbias", "vbias"])
def test_values_that_were_set_are_noticed(name):
    """By training, and by whatever else was made of the old ones."""
    rbm, h = new_rbm(), random_bits(N, H, seed=3)
    rbm.train_batch(BITS)
    rbm.propup(BITS)
    rbm.propdown(h)
    shared = getattr(rbm, name)
    shared.set_value(shared.get_value() * 0.5 + 0.1)
    twin = copy.deepcopy(rbm)  # which takes nothing but the values
    for ours, expected in (
        (rbm.propup(BITS), twin.propup(BITS)),
        (rbm.propdown(h), twin.propdown(h)),
    ):
        assert all(map(same_bits, ours, expected))
    np.testing.assert_array_equal(rbm.free_energy(BITS), twin.free_energy(BITS))
    for x in (BITS, GREY):
        assert rbm.train_batch(x) == twin.train_batch(x)
        assert all(map(same_bits, values_of(rbm), values_of(twin)))


def test_a_trainer_is_kept_from_update_to_update():
    rbm = new_rbm()
    rbm.train_batch(BITS)
    kept = rbm._training
    rbm.train_batch(GREY[:4], lr=0.3)
    rbm.propup(BITS)
    rbm.train_batch(BITS, cost=False)
    assert rbm._training is kept


def test_cd_and_pcd_may_alternate():
    rbm = new_rbm()
    persistent = np.zeros((N, H), F32)
    step = 0
    for k, h in [(1, None), (2, persistent), (2, None), (1, persistent), (1, persistent)]:
        chains = None if h is None else h.astype(bool)
        expected = Update(values_of(rbm), BITS, lr=0.1, k=k, step=step, h=chains)
        rbm.train_batch(BITS, 0.1, h, k)
        assert_parameters(rbm, expected, 0.1)
        step += k


def test_training_that_diverges_says_so():
    rbm = new_rbm()
    with pytest.raises(FloatingPointError, match=r"training diverged: .* at lr=1e\+39"):
        rbm.train_batch(BITS, lr=1e39)


def test_an_rbm_learns():
    X, _ = load_data("digits")[0]
    rbm = RBM(n_visible=64, n_hidden=50)
    persistent = np.zeros((20, 50), F32)
    batches = [X[begin : begin + 20] for begin in range(0, 1180, 20)]
    costs = [np.mean([rbm.train_batch(x, 0.1, persistent, 5) for x in batches]) for _ in range(5)]
    # -28.3 and -20.0 where this was written; epochs differ by 1.5, for they flip other pixels.
    assert costs[-1] > costs[0] + 4


# --- What users get wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input": GREY}, TypeError, "input stands for Theano's symbolic variable"),
        ({"W": np.zeros((H, V))}, ValueError, r"W must have shape \(70, 37\), got \(37, 70\)"),
        ({"hbias": np.zeros(V)}, ValueError, r"hbias must have shape \(37,\)"),
        ({"vbias": np.full(V, np.inf)}, ValueError, "vbias must be finite"),
        ({"W": np.zeros((V, H), complex)}, TypeError, "value must be an array of numbers"),
        ({"numpy_rng": 3}, TypeError, "numpy_rng must be a numpy.random.RandomState, got int"),
        ({"theano_rng": "x"}, TypeError, "theano_rng must be an integer, the seed"),
        ({"theano_rng": -1}, ValueError, "theano_rng must be at least 0"),
        ({"n_hidden": 0}, ValueError, "n_hidden must be at least 1"),
    ],
)
def test_constructor_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        RBM(**{"n_visible": V, "n_hidden": H, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": BITS[0]}, ValueError, "x must be a two-dimensional array"),
        ({"x": BITS[:, 1:]}, ValueError, "x must .* 70 columns"),
        ({"x": 2 * GREY}, ValueError, r"x must have all values in \[0, 1\]"),
        ({"x": np.full((N, V), np.nan)}, ValueError, r"x must have all values in \[0, 1\]"),
        ({"lr": "fast"}, TypeError, "lr must be a number"),
        ({"lr": -0.1}, ValueError, "lr must be a finite number"),
        ({"k": 0}, ValueError, "k must be at least 1"),
        ({"cost": 1}, TypeError, "cost must be True or False"),
        ({"persistent": [[0] * H]}, TypeError, "persistent must be a NumPy array .* got list"),
        ({"persistent": np.zeros((N, H), int)}, TypeError, "persistent must .* got int64"),
        ({"persistent": np.zeros((N, V))}, ValueError, r"persistent must .* 37 columns"),
        ({"persistent": np.zeros((0, H))}, ValueError, "persistent must have a row for each"),
        ({"persistent": np.full((N, H), 0.5)}, ValueError, "persistent must hold zeros and ones"),
        (
            {"persistent": np.broadcast_to(np.zeros(H), (N, H))},
            ValueError,
            "persistent must be writeable",
        ),
    ],
)
def test_train_batch_arguments(arguments, error, message):
    rbm = new_rbm()
    before = values_of(rbm)
    with pytest.raises(error, match=message):
        rbm.train_batch(**{"x": BITS, **arguments})
    assert all(map(same_bits, values_of(rbm), before))
    assert rbm.bit_i_idx == 0


def test_other_arguments():
    rbm = new_rbm()
    with pytest.raises(NotImplementedError, match=r"Call train_batch\(x, lr="):
        rbm.get_cost_updates(lr=0.1, persistent=None, k=15)
    with pytest.raises(ValueError, match="n_steps must be at least 1"):
        rbm.gibbs_vhv(BITS, 0)
    with pytest.raises(ValueError, match=r"hid must be .* 37 columns"):
        rbm.propdown(BITS)
    with pytest.raises(ValueError, match=r"pre_sigmoid_nv must have the shape of x, \(9, 70\)"):
        rbm.get_reconstruction_cost(BITS, np.zeros((N, H)))
    with pytest.raises(AttributeError):
        rbm.W = np.zeros((V, H))


# --- Softmax regression and hidden layers -----------------------------------------------------


def softmax_twin(x: Any, y: Any, W: Any, b: Any, lr: float) -> tuple[Any, Any, float]:
    x, W, b = (np.asarray(a, np.float64) for a in (x, W, b))
    sums = x @ W + b
    p = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
    delta = (p - np.eye(p.shape[1])[y]) / len(x)
    cost = -np.log(p[np.arange(len(x)), y]).mean()
    return W - lr * x.T @ delta, b - lr * delta.sum(axis=0), float(cost)


def test_logistic_regression():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0, 1, (50, 6)), rng.integers(0, 4, 50)
    classifier = LogisticRegression(n_in=6, n_out=4)
    assert not classifier.W.any()
    assert classifier.negative_log_likelihood(x, y) == pytest.approx(np.log(4))
    W, b = classifier.W.get_value(), classifier.b.get_value()
    for _ in range(5):
        W, b, cost = softmax_twin(x, y, W, b, 0.5)
        # float32 sums of 50 terms
        assert classifier.negative_log_likelihood(x, y) == pytest.approx(cost, rel=1e-5)
        assert classifier.train_batch(x, y, 0.5) == pytest.approx(cost, rel=1e-5)
        np.testing.assert_allclose(classifier.W, W, atol=1e-5)
        np.testing.assert_allclose(classifier.b, b, atol=1e-5)
    sums = x @ W + b
    p = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.p_y_given_x(x), p, atol=1e-5)
    np.testing.assert_array_equal(classifier.y_pred(x), p.argmax(axis=1))
    assert classifier.errors(x, y) == np.mean(p.argmax(axis=1) != y)
    # Improbable to the point where float32 probabilities are 0.
    classifier.W.set_value(1000 * classifier.W)
    assert 100 < classifier.negative_log_likelihood(x, y) < np.inf


def test_logistic_regression_arguments():
    x, y = np.eye(3), np.arange(3)
    classifier = LogisticRegression(n_in=3, n_out=3)
    for arguments, error, message in [
        ((x[:, :2], y), ValueError, "x must be a two-dimensional array .* 3 columns"),
        ((x, y[:2]), ValueError, r"y must have shape \(3,\)"),
        ((x, y + 1), ValueError, "y must be from 0 to 2, got 1 to 3"),
        ((x, y - 1), ValueError, "y must be from 0 to 2, got -1 to 1"),
        ((x, y.astype(float)), TypeError, "y must be integers, got float64"),
        ((x, y, -1.0), ValueError, "lr must be a finite number"),
    ]:
        with pytest.raises(error, match=message):
            classifier.train_batch(*arguments)
    with pytest.raises(FloatingPointError, match="x holds NaN or infinity"):
        classifier.train_batch(np.inf * (x + 1), y)
    assert not classifier.W.any()
    with pytest.raises(ValueError, match="x must be finite"):
        classifier.errors(np.nan * x, y)
    with pytest.raises(TypeError, match="n_out must be an integer, got None"):
        LogisticRegression(n_in=3)
    with pytest.raises(TypeError, match="input stands for Theano's symbolic variable"):
        LogisticRegression(x, n_in=3, n_out=3)


@pytest.mark.parametrize(("activation", "factor"), [("sigmoid", 4), (None, 1)])
def test_hidden_layer(activation, factor):
    layer = HiddenLayer(np.random.RandomState(3), None, V, H, activation=activation)
    bound = np.sqrt(6.0 / (V + H))
    expected = np.random.RandomState(3).uniform(low=-bound, high=bound, size=(V, H))
    assert same_bits(layer.W.get_value(), np.asarray(expected, F32) * F32(factor))
    layer.b.set_value(np.linspace(-1, 1, H))
    sums = GREY @ layer.W.get_value().astype(np.float64) + layer.b
    output = ref.sigmoid64(sums) if activation else sums
    np.testing.assert_allclose(layer.output(GREY), output, atol=1e-5)  # 70 products in float32
    with pytest.raises(ValueError, match="activation must be one of 'sigmoid', None; got 'tanh'"):
        HiddenLayer(np.random.RandomState(3), None, V, H, activation="tanh")


# --- Deep belief networks ---------------------------------------------------------------------


SIZES = [20, 15, 12]
LABELS = np.random.default_rng(9).integers(0, 3, N)


def new_dbn() -> DBN:
    return DBN(np.random.RandomState(123), None, V, SIZES, 3)


def test_dbn_first_weights_are_the_tutorials():
    rng = np.random.RandomState(123)
    rng.randint(2**30)
    dbn = new_dbn()
    for layer, rbm, (n_in, n_out) in zip(
        dbn.sigmoid_layers, dbn.rbm_layers, [(V, 20), (20, 15), (15, 12)], strict=True
    ):
        bound = np.sqrt(6.0 / (n_in + n_out))
        W = np.asarray(rng.uniform(low=-bound, high=bound, size=(n_in, n_out)), F32) * 4
        assert same_bits(layer.W.get_value(), W)
        assert rbm.W is layer.W
        assert rbm.hbias is layer.b
    layers = [*dbn.sigmoid_layers, dbn.logLayer]
    assert len(dbn.params) == 8
    of_layers = [array for layer in layers for array in layer.params]
    assert all(a is b for a, b in zip(dbn.params, of_layers, strict=True))
    assert dbn.n_layers == 3


@each_kind_of_data
def test_pretraining(x):
    """Every layer takes the means of those below, as these are at the time."""
    dbn = new_dbn()
    seed = np.random.RandomState(123).randint(2**30)
    functions = dbn.pretraining_functions(train_set_x=x, batch_size=4, k=2)
    steps = [0, 0, 0]
    updates = [(0, 0, 0.3), (0, 2, 0.1), (1, 0, 0.3), (2, 1, 0.3), (0, 1, 0.1), (1, 2, 0.2)]
    for number, index, lr in updates:
        batch = x[4 * index : 4 * index + 4]  # the last of one row
        for layer in dbn.sigmoid_layers[:number]:
            batch = ref.propup64(batch, layer.W, layer.b)
        rbm = dbn.rbm_layers[number]
        layer_seed = seed ^ number << 40
        expected = Update(
            values_of(rbm), batch, lr=lr, k=2, step=steps[number], seed=int(layer_seed)
        )
        cost = functions[number](index=index, lr=lr)
        assert_parameters(rbm, expected, lr)
        assert cost == pytest.approx(reconstruction_cost(batch, expected.pre_sigmoid_v), abs=1e-3)
        steps[number] += 2
    before = values_of(dbn.rbm_layers[0])
    assert functions[0](0, cost=False) is None  # the default rate, as the tutorial's
    assert not same_bits(before[0], dbn.params[0].get_value())


def test_upper_layers_may_train_on_states():
    dbn = new_dbn()
    seed = int(np.random.RandomState(123).randint(2**30)) ^ 1 << 40
    function = dbn.pretraining_functions(GREY, N, 1, layer_inputs="sample")[1]
    means = ref.propup64(GREY, dbn.params[0], dbn.params[1]).astype(F32)
    states = ref.bernoulli(means, seed, stream=ref.STREAM_LAYER)
    expected = Update(values_of(dbn.rbm_layers[1]), states, lr=0.1, k=1, step=0, seed=seed)
    function(0)
    assert_parameters(dbn.rbm_layers[1], expected, 0.1)


def test_fine_tuning():
    dbn = new_dbn()
    dbn.logLayer.W.set_value(np.random.default_rng(3).normal(0, 0.3, (12, 3)))
    twin = [ref.Dense64(W, c) for W, c in zip(dbn.params[::2], dbn.params[1::2], strict=True)]
    datasets = [(GREY, LABELS), (GREY, LABELS), (GREY[:6], LABELS[:6])]
    train_fn, valid_score, test_score = dbn.build_finetune_functions(datasets, 4, 0.5)
    rule = ref.NetworkRule64("softmax_cross_entropy")
    for step, index in enumerate([0, 1, 2, 0]):
        rows = slice(4 * index, 4 * index + 4)
        loss, _ = ref.network_update64(
            twin, rule, GREY[rows], LABELS[rows], step=step, learning_rate=0.5
        )
        cost = train_fn(index)
        assert cost == pytest.approx(loss / len(GREY[rows]), rel=1e-4)  # sums in float32
        for shared, expected in zip(dbn.params, (a for t in twin for a in (t.W, t.c)), strict=True):
            np.testing.assert_allclose(shared, expected, atol=1e-5)
    sums = ref.forward64(twin, GREY)[1][-1]
    wrong = sums.argmax(axis=1) != LABELS
    assert valid_score() == [wrong[:4].mean(), wrong[4:8].mean()]  # the ninth row is left out
    assert test_score() == [wrong[:4].mean()]
    assert dbn.errors(GREY, LABELS) == wrong.mean()
    expected = ref.losses64("softmax_cross_entropy", sums, LABELS).mean()
    assert dbn.finetune_cost(GREY, LABELS) == pytest.approx(expected, rel=1e-4)


def test_pretraining_goes_on_from_what_fine_tuning_left():
    dbn = new_dbn()
    functions = dbn.pretraining_functions(BITS, N, 1)
    functions[0](0)
    train_fn, *_ = dbn.build_finetune_functions([(BITS, LABELS)] * 3, N, 0.5)
    dbn.logLayer.W.set_value(np.ones((12, 3)) * [-1, 0, 1])
    train_fn(0)
    expected = Update(
        values_of(dbn.rbm_layers[0]), BITS, lr=0.1, k=1, step=1, seed=dbn.rbm_layers[0]._seed
    )
    functions[0](0)
    assert_parameters(dbn.rbm_layers[0], expected, 0.1)


def test_a_dbn_learns():
    datasets = load_data("digits")
    X = datasets[0][0]
    dbn = DBN(np.random.RandomState(0), None, 64, [100, 100], 10)
    for function in dbn.pretraining_functions(X, 10, 1):
        for index in list(range(119)) * 3:
            function(index, lr=0.05, cost=False)
    train_fn, valid_score, _ = dbn.build_finetune_functions(datasets, 10, 0.1)
    for index in list(range(119)) * 10:
        train_fn(index)
    # 0.09 where this was written; nine in ten are wrong at random.
    assert np.mean(valid_score()) < 0.15


def test_dbn_arguments():
    dbn = new_dbn()
    for call, error, message in [
        (lambda: DBN(0), TypeError, "numpy_rng must be a numpy.random.RandomState, got int"),
        (lambda: DBN(None, hidden_layers_sizes=[]), ValueError, "at least one layer, got none"),
        (lambda: DBN(None, hidden_layers_sizes=[0]), ValueError, "sizes must be at least 1"),
        (lambda: dbn.pretraining_functions(BITS.T, 2, 1), ValueError, "train_set_x must .* 70 co"),
        (lambda: dbn.pretraining_functions(BITS, 0, 1), ValueError, "batch_size must be at least"),
        (lambda: dbn.pretraining_functions(BITS, 2, 0), ValueError, "k must be at least 1"),
        (
            lambda: dbn.pretraining_functions(BITS, 2, 1, layer_inputs="x"),
            ValueError,
            "layer_inputs must be one of 'mean', 'sample'",
        ),
        (lambda: dbn.pretraining_functions(BITS, 4, 1)[0](3), ValueError, "index must be below 3"),
        (lambda: dbn.pretraining_functions(2 * GREY, 4, 1)[1](0), ValueError, "train_set_x must"),
        (
            lambda: dbn.build_finetune_functions([(BITS, LABELS)] * 2, 2, 0.1),
            ValueError,
            "datasets must be three pairs .* got 2",
        ),
        (
            lambda: dbn.build_finetune_functions([(BITS, LABELS + 3)] * 3, 2, 0.1),
            ValueError,
            "train y must be from 0 to 2",
        ),
        (
            lambda: dbn.build_finetune_functions([(BITS, LABELS)] * 3, 10, 0.1),
            ValueError,
            "valid x must have at least a minibatch of 10 rows, got 9",
        ),
    ]:
        with pytest.raises(error, match=message):
            call()


# --- Pictures and data ------------------------------------------------------------------------


def tiles_twin(X: np.ndarray, shape: Any, tiles: Any, spacing: Any, scales: bool) -> np.ndarray:
    """The picture, image by image."""
    (h, w), (rows, columns), (below, beside) = shape, tiles, spacing
    out = np.zeros((rows * (h + below) - below, columns * (w + beside) - beside), F32)
    for number, image in enumerate(X[: rows * columns].astype(F32)):
        if scales:
            image = image - image.min()
            image = image * (1.0 / (image.max() + F32(1e-8)))
        y, x = number // columns * (h + below), number % columns * (w + beside)
        out[y : y + h, x : x + w] = image.reshape(h, w)
    return out


@pytest.mark.parametrize("spacing", [(0, 0), (1, 1), (2, 0), (1, 3)])
@pytest.mark.parametrize("n", [4, 6, 8])  # too few, just enough, too many
@pytest.mark.parametrize("scales", [True, False])
def test_tiles(spacing, n, scales):
    X = np.random.default_rng(0).normal(0, 1, (n, 15)) if scales else random_reals(n, 15, seed=0)
    X[1] = 0.25  # constant
    arguments = (3, 5), (2, 3), spacing
    picture = tile_raster_images(X, *arguments, scale_rows_to_unit_interval=scales)
    expected = tiles_twin(X, *arguments, scales)
    assert same_bits(picture, (expected * 255).astype(np.uint8))
    picture = tile_raster_images(
        X, *arguments, scale_rows_to_unit_interval=scales, output_pixel_vals=False
    )
    assert same_bits(picture, expected)


@pytest.mark.parametrize("as_pixels", [True, False])
def test_tiles_in_colour(as_pixels):
    red, blue = random_reals(4, 6, seed=0), random_reals(4, 6, seed=1)
    picture = tile_raster_images(
        (red, None, blue, None), (2, 3), (2, 2), (1, 1), output_pixel_vals=as_pixels
    )
    assert picture.shape == (5, 7, 4)
    for at, channel in ((0, red), (2, blue)):
        alone = tile_raster_images(channel, (2, 3), (2, 2), (1, 1), output_pixel_vals=as_pixels)
        assert same_bits(np.ascontiguousarray(picture[..., at]), alone)
    assert not picture[..., 1].any()
    assert (picture[..., 3] == (255 if as_pixels else 1)).all()


def test_tiles_arguments():
    for arguments, message in [
        ((GREY, (7, 9), (2, 2)), r"X must have an image of 7 x 9 pixels .* got \(9, 70\)"),
        ((GREY, (7, 10), (0, 2)), "tile_shape must be at least 1"),
        ((GREY, (7, 10), (2, 2), (-1, 0)), "tile_spacing must be at least 0"),
        ((GREY, (7,), (2, 2)), "img_shape must be a pair"),
        (((GREY, GREY), (7, 10), (2, 2)), "a tuple of four channels, got 2"),
        ((3 * GREY, (7, 10), (2, 2), (0, 0), False), r"values in \[0, 1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            tile_raster_images(*arguments)


def test_load_data(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (10_007, 28, 28), dtype=np.uint8)
    images[100:] = 0  # quick to write
    labels = rng.integers(0, 10, 10_007)
    path = tmp_path / "mnist.npz"
    np.savez_compressed(path, x_train=images, y_train=labels, x_test=images[:3], y_test=labels[:3])
    monkeypatch.setenv("HARMONIUM_DATA", str(tmp_path))
    for dataset in (path, tmp_path, "nowhere/mnist.pkl.gz", None):
        train, valid, test = load_data(dataset)
        assert [x.shape for x, _ in (train, valid, test)] == [(7, 784), (10_000, 784), (3, 784)]
        # As in the tutorial's file, bytes / 256.
        assert same_bits(train[0].get_value(), images[:7].reshape(7, 784) / F32(256))
        assert same_bits(test[0].get_value(), images[:3].reshape(3, 784) / F32(256))
        np.testing.assert_array_equal(np.concatenate([train[1], valid[1]]), labels)
    with pytest.raises(FileNotFoundError):
        load_data("nowhere/other.pkl.gz")
    monkeypatch.setenv("HARMONIUM_DATA", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="no MNIST train rows"):
        load_data()


# --- The scripts ------------------------------------------------------------------------------


def run_example(name: str, monkeypatch: pytest.MonkeyPatch, *options: str) -> None:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("sys.argv", [name, "--quick", *options])
    module.main()


def picture_in(path: Path) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image)


def test_the_rbm_script(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "plots"
    run_example("tutorial_rbm", monkeypatch, "--epochs", "2", "--output", str(folder))
    assert picture_in(folder / "filters_at_epoch_1.png").shape == (89, 89)
    samples = picture_in(folder / "samples.png")
    assert samples.shape == (89, 179)
    assert samples.std() > 30
    assert "Training epoch 1, cost is -" in capsys.readouterr().out


def test_the_dbn_script(monkeypatch, capsys):
    run_example("tutorial_dbn", monkeypatch, "--epochs", "1", "--finetune-epochs", "2")
    out = capsys.readouterr().out
    assert "Pre-training layer 2, epoch 0, cost -" in out
    assert "Optimization complete with best validation score of" in out


def test_the_logistic_script(tmp_path, monkeypatch, capsys):
    picture = tmp_path / "weights.png"
    run_example("tutorial_logistic", monkeypatch, "--epochs", "20", "--output", str(picture))
    assert picture_in(picture).shape == (17, 44)
    assert "The code ran for 20 epochs" in capsys.readouterr().out
