"""compat.numpy_rbm.RBM: the numbers of a plain NumPy twin, the original's names, bad input."""

import copy

import numpy as np
import pytest
import reference

from harmonium._random import generator_of, sampling_seed, seed_from
from harmonium.compat.numpy_rbm import RBM
from harmonium.datasets import load_digits

X, _ = load_digits()
BITS = X > 0.5
N_VIS, N_HID = 64, 30
NAMES = ("W", "vbias", "hbias")

# Drawn hidden states times 16-bit weights: |W| stays below 1, so a weight is off by at most 2⁻¹⁶,
# and of 30 hidden units some 15 are on: 15·2⁻¹⁶ of a pre-activation, a quarter of that of a
# probability. Float32 rounding is smaller. A gradient is a mean of products of probabilities.
TOLERANCE = {"rtol": 0, "atol": 2e-4}


class Twin:
    """The algorithm in plain NumPy, float64, with the same random numbers."""

    def __init__(self, random_state):
        rng = np.random.RandomState(random_state)
        self.W = 0.1 * rng.randn(N_VIS, N_HID)
        self.vbias, self.hbias = np.zeros(N_VIS), np.full(N_HID, -4.0)
        self.W_vel, self.vbias_vel, self.hbias_vel = 0.0, 0.0, 0.0
        self.seed = seed_from(rng)
        self.step = 0

    def up(self, v):
        return reference.propup64(v, self.W, self.hbias)

    def down(self, h):
        return reference.propdown64(h, self.W, self.vbias)

    def draw(self, p, stream, step):
        return reference.bernoulli(p, self.seed, step=step, stream=stream)

    def gradient(self, v0, n_steps=1):
        n = len(v0)
        p0 = self.up(v0)
        h = self.draw(p0, reference.STREAM_CD_START, self.step)
        for t in range(self.step, self.step + n_steps):
            v = self.down(h)
            p = self.up(v)
            if t == self.step:
                error = np.mean(np.sum((v0 - v) ** 2, axis=1))
            h = self.draw(p, reference.STREAM_HIDDEN, t)
        self.step += n_steps
        self.W_grad = (v0.T @ p0 - v.T @ p) / n
        self.vbias_grad = (v0.sum(axis=0) - v.sum(axis=0)) / n
        self.hbias_grad = (p0.sum(axis=0) - p.sum(axis=0)) / n
        return error

    def update(self, lr, momentum):
        for name in NAMES:
            velocity = momentum * getattr(self, name + "_vel")
            velocity = velocity + (1 - momentum) * lr * getattr(self, name + "_grad")
            setattr(self, name + "_vel", velocity)
            setattr(self, name, getattr(self, name) + velocity)


def machine(**parameters):
    """Return a machine whose hidden units are on often enough for their draws to matter."""
    rbm = RBM(N_VIS, N_HID, random_state=7, **parameters)
    rbm.hbias = np.linspace(-2, 1, N_HID)
    return rbm


def assert_close(rbm, twin, kinds=("", "_grad", "_vel")):
    for name in NAMES:
        for kind in kinds:
            array = getattr(rbm, name + kind)
            assert array.dtype == np.float32
            np.testing.assert_allclose(array, getattr(twin, name + kind), **TOLERANCE)


# ------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("burn_in, num_steps", [(0, 1), (0, 3), (2, 1)])
def test_training_is_the_twins(burn_in, num_steps):
    rbm, twin = RBM(N_VIS, N_HID, random_state=7), Twin(7)
    np.testing.assert_array_equal(rbm.W, twin.W.astype(np.float32))
    np.testing.assert_array_equal(rbm.hbias, -4)
    rbm.hbias = twin.hbias = np.linspace(-2, 1, N_HID)
    # The short last batch too, and as images.
    for number, rows in enumerate([X[:50], X[50:100], X[100:123]]):
        error = rbm.compute_error_and_grads(rows.reshape(-1, 8, 8), burn_in, num_steps)
        expected = twin.gradient(rows.astype(np.float64), burn_in + num_steps)
        assert isinstance(error, float)
        # 64 squares of differences below 1, each off by twice a probability's error.
        assert error == pytest.approx(expected, abs=64 * 2 * 5e-5)
        momentum = (0.5, 0.9, 0.0)[number]
        rbm.update_params(0.1, momentum)
        twin.update(0.1, momentum)
        assert_close(rbm, twin)
    # The draws told the machines apart from such that draw others.
    other = Twin(8)
    other.W, other.hbias = Twin(7).W, np.linspace(-2, 1, N_HID)
    fresh = machine()
    fresh.compute_error_and_grads(X[:50], burn_in, num_steps)
    other.gradient(X[:50].astype(np.float64), burn_in + num_steps)
    assert np.abs(fresh.W_grad - other.W_grad).max() > 0.01


def test_pcd_is_the_twins_of_numerics():
    rbm = machine()
    rows = BITS[:40]
    first = reference.bernoulli(
        reference.propup64(rows, rbm.W, rbm.hbias), rbm._seed, stream=reference.STREAM_CD_START
    )
    state = reference.CDState.start(rbm.W, rbm.vbias, rbm.hbias, first)
    for number in range(2):
        rbm.compute_error_and_grads(rows, num_steps=2, method="pcd")
        after = reference.cd_update(state, rows, learning_rate=1.0, k=2, seed=rbm._seed)
        for name, field in zip(NAMES, "Wbc", strict=True):
            step = getattr(after, field) - getattr(state, field)
            # A step of float32 weights below 2, which a gradient is not rounded to.
            np.testing.assert_allclose(getattr(rbm, name + "_grad"), step, rtol=0, atol=1e-6)
        rbm.update_params(lr=1.0)
        rbm.W, rbm.vbias, rbm.hbias = after.W, after.b, after.c
        state = after
        assert number == 0 or len(rbm._chains) == 40
    # Chains stay as many as they were.
    rbm.compute_error_and_grads(BITS[:7], method="pcd")
    assert len(rbm._chains) == 40


def test_conditionals_draw_from_their_probabilities():
    rbm = machine()
    key = sampling_seed(rbm._seed)
    p, h = rbm.h_given_v(X[:20])
    np.testing.assert_allclose(p, reference.propup64(X[:20], rbm.W, rbm.hbias), **TOLERANCE)
    np.testing.assert_array_equal(h, reference.bernoulli(p, key, stream=reference.STREAM_HIDDEN))
    q, v = rbm.v_given_h(h)
    np.testing.assert_allclose(q, reference.propdown64(h, rbm.W, rbm.vbias), **TOLERANCE)
    drawn = reference.bernoulli(q, key, step=1, stream=reference.STREAM_VISIBLE)
    np.testing.assert_array_equal(v, drawn)
    assert p.dtype == q.dtype == np.float32
    assert h.dtype == v.dtype == np.int64
    # Every call draws anew, and one row is as good as many.
    assert np.any(rbm.h_given_v(X[:20])[1] != h)
    p_one, h_one = rbm.h_given_v(X[3])
    assert p_one.shape == h_one.shape == (N_HID,)
    np.testing.assert_allclose(p_one, p[3], rtol=1e-5)


def test_conditionals_take_probabilities():
    rbm = machine()
    p, _ = rbm.h_given_v(X[:20])
    expected = reference.propdown64(p, rbm.W, rbm.vbias)
    np.testing.assert_allclose(rbm.v_given_h(p)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(rbm.reconstruct(X[:20]), expected, rtol=1e-5)
    assert rbm.reconstruct(X[0]).shape == (N_VIS,)


@pytest.mark.parametrize("rows", [X[:30], BITS[:30].astype(int)])
def test_free_energy_is_the_formula_and_does_not_overflow(rows):
    rbm = machine()
    expected = reference.free_energy64(rows, rbm.W, rbm.vbias, rbm.hbias)
    # Nats: 30 hidden units, each off by less than its pre-activation is (30 pixels on, 2⁻¹⁷ each).
    assert rbm.avg_free_energy(rows) == pytest.approx(expected.mean(), abs=30 * 30 * 2**-17)
    assert rbm.avg_free_energy(rows[0]) == pytest.approx(expected[0], abs=30 * 30 * 2**-17)
    rbm.hbias = np.full(N_HID, 1000.0)  # exp of it is no number
    assert rbm.avg_free_energy(rows) == pytest.approx(-1000 * N_HID, rel=0.01)


def test_gibbs_chains_are_the_references():
    rbm = machine()
    key = sampling_seed(rbm._seed)
    expected = reference.gibbs(rbm.W, rbm.vbias, rbm.hbias, 6, key, v=BITS[:5]).v
    v = rbm.gen_model_sample(BITS[:5], num_iters=6)
    np.testing.assert_array_equal(v, expected)
    assert v.dtype == np.int64
    assert rbm.gen_model_sample(X[0], num_iters=2).shape == (N_VIS,)
    # By default the first step goes up from normal numbers.
    start = generator_of(key ^ 8).randn(1, N_VIS)
    first = reference.propup64(start, rbm.W, rbm.hbias)
    h = reference.bernoulli(first, key, step=8, stream=reference.STREAM_HIDDEN)
    p = reference.propdown64(h, rbm.W, rbm.vbias)
    v = reference.bernoulli(p, key, step=8, stream=reference.STREAM_VISIBLE)
    np.testing.assert_array_equal(rbm.gen_model_sample(num_iters=1), v[0])


def test_gradients_point_where_the_data_are_more_likely():
    rbm = RBM(N_VIS, 8, random_state=0)
    before = reference.log_likelihood64(BITS[:200], rbm.W, rbm.vbias, rbm.hbias).mean()
    for method in ("cd", "pcd"):
        trained = copy.deepcopy(rbm)
        for _ in range(5):
            for at in range(0, 200, 20):
                trained.compute_error_and_grads(BITS[at : at + 20], method=method)
                trained.update_params(0.1, 0.5)
        after = reference.log_likelihood64(
            BITS[:200], trained.W, trained.vbias, trained.hbias
        ).mean()
        assert after > before + 5, method


# ------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", [np.float64, np.float32, bool, int, np.uint8])
def test_any_dtype_of_a_batch_gives_the_same(dtype):
    rbm, other = machine(), machine()
    rows = BITS[:30].astype(dtype)
    kept = rows.copy()
    error = rbm.compute_error_and_grads(rows)
    np.testing.assert_array_equal(rows, kept)
    assert error == other.compute_error_and_grads(BITS[:30].astype(np.float32))
    np.testing.assert_array_equal(rbm.W_grad, other.W_grad)


def test_gradients_are_new_arrays_and_parameters_the_same_ones():
    rbm = machine()
    W = rbm.W
    rbm.compute_error_and_grads(X[:20])
    first, kept = rbm.W_grad, rbm.W_grad.copy()
    rbm.update_params(0.1)
    rbm.compute_error_and_grads(X[20:40])
    np.testing.assert_array_equal(first, kept)
    assert rbm.W is W
    assert rbm.W_grad is not first


def test_what_is_assigned_is_converted_or_refused():
    rbm = machine()
    weights = np.asfortranarray(np.random.RandomState(0).randn(N_VIS, N_HID))
    rbm.W = weights
    assert rbm.W.dtype == np.float32
    assert rbm.W.flags.c_contiguous
    p, _ = rbm.h_given_v(X[:5])
    np.testing.assert_allclose(p, reference.propup64(X[:5], weights, rbm.hbias), rtol=1e-4)
    with pytest.raises(ValueError, match=r"W must have shape \(64, 30\), got float64 of shape"):
        rbm.W = weights.T
    with pytest.raises(ValueError, match="vbias_grad must have shape"):
        rbm.vbias_grad = np.zeros(3)
    with pytest.raises(TypeError, match="hbias must be an array of numbers"):
        rbm.hbias = ["a"] * N_HID


# ------------------------------------------------------------------------------------- seeds


def test_the_seed_decides_all_of_it():
    def trained(**parameters):
        rbm = RBM(N_VIS, N_HID, **parameters)
        for at in range(0, 100, 20):
            rbm.compute_error_and_grads(BITS[at : at + 20])
            rbm.update_params(0.1, 0.9)
        return rbm

    one = trained(random_state=3)
    np.testing.assert_array_equal(one.W, trained(random_state=3).W)
    assert np.any(one.W != trained(random_state=4).W)


def test_numpys_global_generator_seeds_as_it_did():
    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(5)  # noqa: NPY002
        rbm = RBM(N_VIS, N_HID)
        other = RBM(N_VIS, N_HID)
        np.random.seed(5)  # noqa: NPY002
        expected = 0.1 * np.random.randn(N_VIS, N_HID)  # noqa: NPY002
    finally:
        np.random.set_state(before)  # noqa: NPY002
    np.testing.assert_array_equal(rbm.W, expected.astype(np.float32))
    assert rbm._seed != other._seed


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda: RBM(0, 3), ValueError, "n_vis must be at least 1, got 0"),
        (lambda: RBM(3, 2.5), TypeError, "n_hid must be an integer, got 2.5"),
        (lambda: RBM(3, 2, random_state="x"), ValueError, "random_state must be"),
        (lambda: RBM(3, 2, n_threads=0), ValueError, "n_threads must be at least 1"),
        (lambda: machine().compute_error_and_grads(X[0]), ValueError, "batch must have at least"),
        (lambda: machine().compute_error_and_grads(X[:0]), ValueError, "batch must have at least"),
        (lambda: machine().compute_error_and_grads(X[:5, :9]), ValueError, "batch .* 64 columns"),
        (lambda: machine().compute_error_and_grads(X * 16), ValueError, r"batch .* in \[0, 1\]"),
        (lambda: machine().compute_error_and_grads(X * np.nan), ValueError, r"batch .* \[0, 1\]"),
        (lambda: machine().compute_error_and_grads(X, -1), ValueError, "burn_in must be at least"),
        (lambda: machine().compute_error_and_grads(X, 0, 0), ValueError, "num_steps must be"),
        (
            lambda: machine().compute_error_and_grads(X, method="fpcd"),
            ValueError,
            "method must be one of 'cd', 'pcd'; got 'fpcd'",
        ),
        (lambda: machine().update_params("0.1"), TypeError, "lr must be a number"),
        (lambda: machine().update_params(0.1, 1.5), ValueError, "momentum must be .* got 1.5"),
        (lambda: machine().h_given_v(X[:, :9]), ValueError, "v must be .* 64 columns"),
        (lambda: machine().v_given_h(X), ValueError, "h must be .* 30 columns"),
        (lambda: machine().gen_model_sample(X * 16), ValueError, r"start .* in \[0, 1\]"),
        (lambda: machine().gen_model_sample(num_iters=0), ValueError, "num_iters must be at least"),
    ],
)
def test_mistakes_are_named(call, error, words):
    with pytest.raises(error, match=words):
        call()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("method", ["cd", "pcd"])
def test_parameters_that_are_not_finite_are_told(name, method):
    rbm = machine()
    getattr(rbm, name).flat[3] = np.nan
    with pytest.raises(FloatingPointError, match="not a number; try a smaller lr"):
        rbm.compute_error_and_grads(X[:10], method=method)
