"""Training: the reference twin's bits, schedules, metrics, and what is left when it breaks off."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import reference as ref
import scipy.sparse
import sklearn.neural_network
from sklearn.base import clone
from sklearn.datasets import load_digits

import harmonium
from harmonium import BernoulliRBM, _core
from harmonium._arrays import copy_in_lines

F32 = np.float32
SRC = str(Path(harmonium.__file__).parents[1])


def bits(n, n_units, seed=0, p=0.4):
    return np.random.default_rng(seed).random((n, n_units)) < p


def seed_of(random_state, n_hidden, n_visible):
    """The initial weights (scikit-learn's own draw) and the 64-bit seed that follows them."""
    rng = np.random.RandomState(random_state)
    W = rng.normal(0, 0.01, (n_hidden, n_visible)).T.astype(F32)
    low, high = rng.randint(0, 2**32, size=2, dtype=np.uint64)
    return W, int(low) + (int(high) << 32)


def twin_fit(X, n_components, n_iter, random_state=0, **rules):
    """What `fit` should make of bool rows X, from docs/numerics.md alone."""
    batch_size = rules.get("batch_size", 10)
    algorithm, shuffle = rules.get("algorithm", "pcd"), rules.get("shuffle", False)
    n_chains = rules.get("n_chains") or batch_size
    W, seed = seed_of(random_state, n_components, X.shape[1])
    b = np.zeros(X.shape[1], F32)
    if rules.get("init") == "data":
        mean = np.clip(X.mean(axis=0), 0.5 / len(X), 1 - 0.5 / len(X))
        b[:] = np.log(mean / (1 - mean))
    chains = np.zeros((n_chains, n_components), bool) if algorithm == "pcd" else None
    state = ref.CDState.start(W, b, np.zeros(n_components, F32), chains)

    def at(rule, epoch):
        return rule(epoch) if callable(rule) else rule

    odds = X.astype(F32)
    for epoch in range(n_iter):
        if rules.get("inputs") == "sample":
            X = ref.bernoulli(odds, seed, step=epoch, stream=ref.STREAM_INPUT)
        order = ref.shuffled_order(len(X), seed, epoch) if shuffle else np.arange(len(X))
        state = ref.cd_epoch(
            state,
            X[order],
            batch_size,
            learning_rate=at(rules.get("learning_rate", 0.1), epoch),
            momentum=at(rules.get("momentum", 0.0), epoch),
            seed=seed,
            k=rules.get("n_gibbs_steps", 1),
            l1=rules.get("l1", 0.0),
            l2=rules.get("l2", 0.0),
        )[-1]
    return state


def assert_equals_twin(rbm, twin):
    np.testing.assert_array_equal(rbm.components_, twin.W.T)
    np.testing.assert_array_equal(rbm.intercept_visible_, twin.b)
    np.testing.assert_array_equal(rbm.intercept_hidden_, twin.c)
    if twin.h_chains is not None:
        np.testing.assert_array_equal(rbm.h_samples_, twin.h_chains)


def assert_same_fit(one, other):
    for name in ("components_", "intercept_visible_", "intercept_hidden_", "h_samples_"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# ------------------------------------------------------------------------------ the twin's bits

RULES = {
    "pcd": {},
    "cd": {"algorithm": "cd"},
    "pcd-3": {"n_gibbs_steps": 3},
    "cd-4": {"algorithm": "cd", "n_gibbs_steps": 4},
    "momentum": {"momentum": 0.7},
    "cd momentum": {"algorithm": "cd", "momentum": 0.5},
    "l1": {"l1": 0.01},
    "l2": {"l2": 0.02},
    "all decay": {"momentum": 0.9, "l1": 0.003, "l2": 0.01, "learning_rate": 0.3},
    "shuffle": {"shuffle": True},
    "cd shuffle": {"algorithm": "cd", "shuffle": True, "n_gibbs_steps": 2},
    "data": {"init": "data"},
    "more chains": {"n_chains": 23},
    "one chain": {"n_chains": 1, "n_gibbs_steps": 2},
    "rows one by one": {"batch_size": 1},
    "one batch": {"batch_size": 100},
    "schedules": {"learning_rate": lambda e: 0.2 / (1 + e), "momentum": lambda e: 0.5 + 0.1 * e},
    "everything": {
        "n_gibbs_steps": 2,
        "n_chains": 7,
        "momentum": 0.6,
        "l1": 1e-3,
        "l2": 1e-2,
        "shuffle": True,
        "init": "data",
        "batch_size": 8,
    },
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("shape", [(53, 13, 7), (37, 70, 65)], ids=["13x7", "70x65"])
def test_whole_fits_equal_the_reference_bit_for_bit(rules, shape):
    n, n_visible, n_hidden = shape  # n leaves a short last batch for every batch size but 1
    X = bits(n, n_visible)
    X[:, 0] = False  # a unit that is never on: its row of W may be skipped, init="data" clips
    rbm = BernoulliRBM(n_hidden, n_iter=3, random_state=0, **rules).fit(X)
    assert_equals_twin(rbm, twin_fit(X, n_hidden, 3, **rules))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "sparse"])
def test_inputs_drawn_in_every_epoch_equal_the_reference_bit_for_bit(dtype):
    odds = np.random.default_rng(4).random((37, 70), F32) ** 3
    odds[:, ::3] = 0
    X = scipy.sparse.csr_array(odds) if dtype == "sparse" else odds.astype(dtype)
    rules = {"inputs": "sample", "shuffle": True, "batch_size": 4}
    rbm = BernoulliRBM(65, n_iter=3, random_state=0, **rules).fit(X)
    assert_equals_twin(rbm, twin_fit(odds, 65, 3, **rules))


def test_inputs_drawn_from_zeros_and_ones_are_those():
    X = bits(40, 9)
    one, other = (
        BernoulliRBM(5, n_iter=2, random_state=0, inputs=inputs) for inputs in ("mean", "sample")
    )
    assert_same_fit(one.fit(X), other.fit(X.astype(float)))


def test_partial_fit_draws_its_inputs_too():
    X = np.random.default_rng(5).random((20, 9))
    rbm = BernoulliRBM(5, random_state=0, inputs="sample", learning_rate=0.5, batch_size=20)
    rbm.partial_fit(X).partial_fit(X)
    assert_same_fit(rbm, clone(rbm).set_params(n_iter=2).fit(X))


def test_a_momentum_schedule_that_is_zero_still_fills_the_velocity():
    # docs/numerics.md, section 6: momentum as anything but the number 0 keeps velocities. float32
    # of 1e-300 is 0, so the twin with that momentum computes m*0 + d.
    X = bits(40, 9)
    rbm = BernoulliRBM(5, n_iter=2, random_state=0, momentum=lambda epoch: 0.8 * (epoch > 0))
    twin = twin_fit(X, 5, 2, momentum=lambda epoch: 0.8 if epoch else 1e-300)
    assert_equals_twin(rbm.fit(X), twin)


@pytest.fixture
def isa():
    before = _core.active_isa()
    yield _core.set_isa
    _core.set_isa(before)


# 300 x 200 units and 64 rows are past the work threshold below which threads are not woken.
BIG = {"n_iter": 2, "batch_size": 64, "random_state": 3, "momentum": 0.5, "shuffle": True}


@pytest.fixture(scope="module")
def big_rows():
    return bits(300, 300, seed=1)


@pytest.fixture(scope="module")
def big_fit(big_rows):
    return BernoulliRBM(200, n_threads=1, **BIG).fit(big_rows)


@pytest.mark.parametrize("n_threads", [2, 7, None])
def test_threads_change_no_bit(big_rows, big_fit, n_threads):
    other = BernoulliRBM(200, n_threads=n_threads, **BIG).fit(big_rows)
    assert_same_fit(other, big_fit)
    assert other.history_["pseudo_likelihood"] == big_fit.history_["pseudo_likelihood"]


@pytest.mark.parametrize("level", _core.available_isas())
def test_instruction_sets_change_no_bit(isa, big_rows, big_fit, level):
    isa(level)
    other = BernoulliRBM(200, n_threads=2, **BIG).fit(big_rows)
    assert_same_fit(other, big_fit)
    np.testing.assert_array_equal(other.transform(big_rows), big_fit.transform(big_rows))


@pytest.mark.parametrize("algorithm", ["cd", "pcd"])
def test_the_float32_path_is_the_same_training_to_rounding(algorithm):
    """No bits are promised. Of 2 epochs on 60 rows none of the 1e5 draws lies within the 1e-4 or
    so by which 16-bit weights move a probability (this seed is fixed), so only rounding differs:
    30 updates of 0.1, each off by at most half of 1/32767 of a probability, 5e-5 in all."""
    X = bits(60, 20)
    rules = {"n_iter": 2, "random_state": 1, "algorithm": algorithm, "batch_size": 4}
    auto = BernoulliRBM(11, **rules).fit(X)
    real = BernoulliRBM(11, precision="float32", **rules).fit(X)
    np.testing.assert_allclose(real.components_, auto.components_, rtol=0, atol=5e-5)
    assert not np.array_equal(real.components_, auto.components_)  # two paths were taken


def test_real_values_are_probabilities_of_the_data():
    """With one update from W = known, the expectation is written down directly (section 6)."""
    X = np.random.default_rng(0).random((10, 8)).astype(F32)
    rbm = BernoulliRBM(5, n_iter=1, batch_size=10, random_state=2, learning_rate=0.1).fit(X)
    W, seed = seed_of(2, 5, 8)
    p = ref.propup64(X, W, np.zeros(5))
    chain = ref.gibbs(W, np.zeros(8, F32), np.zeros(5, F32), 1, seed, h=np.zeros((10, 5), bool))
    dW = (X.T @ p - chain.v.T.astype(float) @ chain.p_h) / 10
    # float32 sums of ten products below 1, and p⁻ rounded to 1/32767: 2e-5 of a step of 0.1.
    np.testing.assert_allclose(rbm.components_.T, W + 0.1 * dW, rtol=0, atol=1e-5)
    db = (X - chain.v).mean(axis=0)
    np.testing.assert_allclose(rbm.intercept_visible_, 0.1 * db, rtol=0, atol=1e-6)


# ------------------------------------------------------------------- short batches, partial_fit


@pytest.mark.parametrize("algorithm", ["cd", "pcd"])
def test_the_short_last_batch_is_a_mean_over_its_own_rows(algorithm):
    """The visible bias after one batch of 3 where batch_size is 10: learning rate times the mean
    of data minus chains, each over its own number. scikit-learn divides both by 3."""
    X = np.ones((3, 4), bool)
    rbm = BernoulliRBM(2, n_iter=1, batch_size=10, random_state=0, algorithm=algorithm).fit(X)
    W, seed = seed_of(0, 2, 4)
    n = 3 if algorithm == "cd" else 10
    h = np.zeros((10, 2), bool)
    if algorithm == "cd":
        h, _ = ref.half_step_up(X, W, np.zeros(2), seed, stream=ref.STREAM_CD_START)
    v = ref.gibbs(W, np.zeros(4, F32), np.zeros(2, F32), 1, seed, h=h).v
    assert len(v) == n
    expected = 0.1 * (1 - v.mean(axis=0))
    np.testing.assert_allclose(rbm.intercept_visible_, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("rules", [{}, {"algorithm": "cd"}, {"momentum": 0.5, "n_gibbs_steps": 2}])
@pytest.mark.parametrize("sizes", [(10, 10, 10), (3, 25, 10, 1)])
def test_partial_fit_is_one_update_whatever_the_number_of_rows(rules, sizes):
    X = bits(60, 9)
    rbm = BernoulliRBM(5, batch_size=10, random_state=0, **rules)
    W, seed = seed_of(0, 5, 9)
    chains = None if rules.get("algorithm") == "cd" else np.zeros((10, 5), bool)
    twin = ref.CDState.start(W, np.zeros(9), np.zeros(5), chains)
    begin = 0
    for size in sizes:
        rows = X[begin : begin + size]
        begin += size
        assert rbm.partial_fit(rows) is rbm
        twin = ref.cd_update(
            twin,
            rows,
            learning_rate=0.1,
            seed=seed,
            k=rules.get("n_gibbs_steps", 1),
            momentum=rules.get("momentum", 0.0),
        )
    assert_equals_twin(rbm, twin)


def test_partial_fits_over_the_batches_of_an_epoch_equal_fit():
    X = bits(55, 9)
    whole = BernoulliRBM(5, n_iter=2, random_state=0, momentum=0.5).fit(X)
    pieces = BernoulliRBM(5, random_state=0, momentum=0.5)
    for _ in range(2):
        for begin in range(0, 55, 10):
            pieces.partial_fit(X[begin : begin + 10])
    assert_same_fit(pieces, whole)


def test_partial_fit_goes_on_from_fit():
    X = bits(40, 9)
    longer = BernoulliRBM(5, n_iter=3, batch_size=40, random_state=0).fit(X)
    pieces = BernoulliRBM(5, n_iter=2, batch_size=40, random_state=0).fit(X).partial_fit(X)
    assert_same_fit(pieces, longer)
    assert pieces.n_iter_ == 3


@pytest.mark.parametrize("algorithm", ["cd", "pcd"])
def test_partial_fit_keeps_the_size_it_has_when_the_parameter_changes(algorithm):
    X = bits(30, 9)
    rbm = BernoulliRBM(5, random_state=0, algorithm=algorithm).partial_fit(X[:10])
    rbm.set_params(n_components=70).partial_fit(X)
    assert rbm.components_.shape == (5, 9)


def test_partial_fit_of_a_shallow_copy_leaves_the_original_alone():
    import copy

    X = bits(30, 9)
    rbm = BernoulliRBM(5, random_state=0, momentum=0.9).partial_fit(X)
    twin = BernoulliRBM(5, random_state=0, momentum=0.9).partial_fit(X)
    copy.copy(rbm).partial_fit(X)
    assert_same_fit(rbm.partial_fit(X), twin.partial_fit(X))


# ------------------------------------------------------------------------- schedules, history


def test_history_tells_epochs_times_and_rates():
    rates = [0.5, 0.25, 0.125]
    rbm = BernoulliRBM(4, n_iter=3, random_state=0, learning_rate=lambda epoch: rates[epoch])
    began = time.perf_counter()
    history = rbm.fit(bits(30, 6)).history_
    took = time.perf_counter() - began
    # Always in this order, which is that of a picture's panels.
    assert list(history) == [
        "epoch",
        "time",
        "learning_rate",
        "reconstruction_error",
        "pseudo_likelihood",
    ]
    assert {len(values) for values in history.values()} == {3}
    assert history["epoch"] == [1, 2, 3]
    assert history["learning_rate"] == rates
    assert history["time"] == sorted(history["time"])
    assert 0 < history["time"][-1] < took
    assert rbm.n_iter_ == 3


def test_without_metrics_history_holds_none():
    rbm = BernoulliRBM(4, n_iter=2, random_state=0, metrics=False).fit(bits(30, 6))
    assert set(rbm.history_) == {"epoch", "time", "learning_rate"}
    measured = BernoulliRBM(4, n_iter=2, random_state=0).fit(bits(30, 6))
    assert_same_fit(rbm, measured)  # and measuring changes nothing


@pytest.mark.parametrize("n", [30, 230])
def test_metrics_equal_the_reference(n):
    """230 rows are more than the 50 that are measured, spread evenly over all."""
    X, X_val = bits(n, 12), bits(150, 12, seed=5)
    rbm = BernoulliRBM(6, n_iter=2, batch_size=n, random_state=0, learning_rate=0.5)
    history = rbm.fit(X, X_val=X_val).history_
    key = seed_of(0, 6, 12)[1] ^ (1 << 62)
    train = X[np.linspace(0, n - 1, min(n, 50)).astype(int)]
    held_out = X_val[np.linspace(0, 149, 50).astype(int)]
    for epoch in (1, 2):
        W, b, c = _parameters(twin_fit(X, 6, epoch, batch_size=n, learning_rate=0.5))
        for prefix, rows in (("", train), ("val_", held_out)):
            p = ref.gibbs(W, b, c, 1, key, v=rows, step=epoch).p_v
            error = np.mean((p - rows) ** 2, dtype=np.float64)
            # The same float32 numbers, squared in the same order; only NumPy's own sum is ours.
            assert history[f"{prefix}reconstruction_error"][epoch - 1] == pytest.approx(error, 1e-6)
            flips = [ref.pseudo_likelihood(rows, W, b, c, key, step=k) for k in range(4)]
            score = np.mean(flips)
            # The last softplus is promised to float64 rounding only.
            assert history[f"{prefix}pseudo_likelihood"][epoch - 1] == pytest.approx(score, 1e-12)
        gap = ref.free_energy(held_out, W, b, c).mean() - ref.free_energy(train, W, b, c).mean()
        # A difference of two means of about 6 nats: 1e-14 is float64's rounding of the sums.
        assert history["free_energy_gap"][epoch - 1] == pytest.approx(gap, abs=1e-13)


def _parameters(state):
    return state.W, state.b, state.c


@pytest.mark.parametrize("n_iter", [0, 3])
def test_a_callable_is_asked_once_an_epoch_counted_from_zero(n_iter):
    asked = []

    def rate(epoch):
        asked.append(epoch)
        return 0.1

    BernoulliRBM(3, n_iter=n_iter, random_state=0, learning_rate=rate).fit(bits(20, 5))
    assert asked == list(range(n_iter))


@pytest.mark.parametrize(
    "schedule, error",
    [
        ({"learning_rate": lambda epoch: -1.0}, ValueError),
        ({"learning_rate": lambda epoch: np.nan}, ValueError),
        ({"learning_rate": lambda epoch: "fast"}, TypeError),
        ({"momentum": lambda epoch: 1.0}, ValueError),
        ({"momentum": lambda epoch: None}, TypeError),
    ],
)
def test_a_schedule_gone_wrong_is_named_with_its_value_and_epoch(schedule, error):
    (name, function), *_ = schedule.items()
    late = {name: lambda epoch: 0.1 if epoch < 2 else function(epoch)}
    rbm = BernoulliRBM(3, n_iter=4, random_state=0, **late)
    with pytest.raises(error, match=rf"{name} must be .* {function(2)!r} in epoch 2"):
        rbm.fit(bits(20, 5))
    assert rbm.n_iter_ == 2  # what was done until then is kept
    assert_same_fit(rbm, BernoulliRBM(3, n_iter=2, random_state=0, **late).fit(bits(20, 5)))


# ---------------------------------------------------------------------- how training breaks off

# The largest float32 is 3.4e38: the second update of this size in one direction passes it.
TOO_FAST = {"learning_rate": 3e38, "momentum": 0.9, "random_state": 0}


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("real", [False, True], ids=["bits", "reals"])
def test_divergence_names_the_learning_rate_and_leaves_finite_weights(precision, real):
    X = bits(50, 8) * 0.9 if real else bits(50, 8)
    rbm = BernoulliRBM(5, n_iter=9, precision=precision, **TOO_FAST)
    with pytest.raises(FloatingPointError, match=r"learning_rate=3e\+38.*smaller learning rate"):
        rbm.fit(X)
    assert_usable(rbm, X)
    assert rbm.set_params(learning_rate=0.1, n_iter=2).fit(X).n_iter_ == 2


def test_divergence_in_partial_fit_leaves_the_state_before_it():
    X = bits(50, 8)
    rbm, twin = (BernoulliRBM(5, **TOO_FAST) for _ in range(2))
    for _ in range(9):
        try:
            rbm.partial_fit(X)
        except FloatingPointError as error:
            message = str(error)
            break
        twin.partial_fit(X)  # as many updates as went well
    assert "learning_rate=3e+38" in message
    assert_same_fit(rbm, twin)
    assert rbm.n_iter_ == twin.n_iter_
    assert_usable(rbm, X)
    for model in (rbm, twin):
        model.set_params(learning_rate=0.1, momentum=0.1).partial_fit(X)
    assert_same_fit(rbm, twin)  # velocities were restored too


def test_a_late_divergence_keeps_the_epochs_before_it():
    X = bits(50, 8)
    rates = {"learning_rate": lambda epoch: 0.1 if epoch < 3 else 3e38, "momentum": 0.9}
    rbm = BernoulliRBM(5, n_iter=9, random_state=0, **rates)
    with pytest.raises(FloatingPointError, match="in epoch"):
        rbm.fit(X)
    assert rbm.n_iter_ >= 3
    assert len(rbm.history_["epoch"]) == rbm.n_iter_
    assert_usable(rbm, X)
    # Within a second the state fallen back to is the one after the last whole epoch, numbering of
    # the draws included.
    twin = BernoulliRBM(5, n_iter=rbm.n_iter_, random_state=0, **rates).fit(X)
    assert_same_fit(rbm, twin)
    for model in (rbm, twin):
        model.set_params(learning_rate=0.1, momentum=0.0).partial_fit(X)
    assert_same_fit(rbm, twin)


def assert_usable(rbm, X):
    for name in ("components_", "intercept_visible_", "intercept_hidden_", "h_samples_"):
        assert np.isfinite(getattr(rbm, name)).all()
    assert np.isfinite(rbm.transform(X)).all()
    assert rbm.sample(2, n_steps=3).shape == (2, X.shape[1])
    assert np.isfinite(rbm.score(X))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_error_in_a_callback_leaves_the_epochs_done(error):
    def stop_in_third(estimator, epoch, metrics):
        if epoch == 3:
            raise error("enough")

    X = bits(50, 8)
    rbm = BernoulliRBM(5, n_iter=9, random_state=0, callbacks=stop_in_third)
    with pytest.raises(error, match="enough"):
        rbm.fit(X)
    assert rbm.n_iter_ == 3
    assert_same_fit(rbm, BernoulliRBM(5, n_iter=3, random_state=0).fit(X))


INTERRUPTED = """
import sys, numpy as np
from harmonium import BernoulliRBM
from harmonium.callbacks import Callback

class Tell(Callback):
    told = False
    def on_progress(self, estimator, epoch, fraction):
        if not self.told:
            print("training", flush=True)
            self.told = True

# One epoch takes seconds, so that Ctrl-C comes in the middle of it.
X = np.tile(np.random.default_rng(0).random((1000, 500)) < 0.3, (40, 1))
rules = {"n_gibbs_steps": 20, "n_iter": 99, "random_state": 0, "n_threads": 1}
rbm = BernoulliRBM(500, callbacks=Tell(), **rules)
try:
    rbm.fit(X)
except KeyboardInterrupt:
    print("interrupted", flush=True)
assert np.isfinite(rbm.components_).all()
assert np.abs(rbm.components_).max() > 0.06  # beyond the initial N(0, 0.01): it had learnt
assert rbm.transform(X[:10]).shape == (10, 500)
rbm.set_params(callbacks=None).partial_fit(X[:10])
print("usable", flush=True)
"""


def test_ctrl_c_ends_a_long_fit_within_a_second():
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": SRC},
    )
    try:
        assert child.stdout.readline() == "training\n"
        time.sleep(1.0)  # until a chunk has its full length
        sent = time.perf_counter()
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        waited = time.perf_counter() - sent
        assert child.stdout.read() == "usable\n"
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert waited < 1.0


# --------------------------------------------------------------- agreement with scikit-learn


@pytest.fixture(scope="module")
def digits():
    return load_digits().data / 16


@pytest.mark.parametrize("kind", ["bits", "reals"])
def test_training_agrees_with_scikit_learn_statistically(digits, kind):
    """Same initial weights and same algorithm (rows are a multiple of the batch size, so that
    scikit-learn weighs its chains rightly); only the random numbers differ.

    The exact pseudo-likelihood of the trained model, in nats a row, over 8 seeds each.
    """
    X = digits[:1500:3] if kind == "reals" else digits[:1500:3] > 0.5
    rules = {"n_components": 32, "batch_size": 20, "n_iter": 8}
    scores = np.zeros((2, 8))
    for which, cls in enumerate([BernoulliRBM, sklearn.neural_network.BernoulliRBM]):
        for seed in range(8):
            rbm = cls(random_state=seed, **rules).fit(X)
            parameters = rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_
            scores[which, seed] = ref.pseudo_log_likelihood_exact64(X > 0.5, *parameters).mean()
    ours, theirs = scores.mean(axis=1)
    spread = np.sqrt(scores.var(axis=1, ddof=1).sum() / 8)
    # Four standard errors of the difference, estimated from 16 fits (0.17 nats, where a
    # learning rate twice too large makes 1.6 or more); with fixed seeds it can't flicker.
    assert abs(ours - theirs) < 4 * spread
    untrained = 64 * np.log(0.5)
    assert ours > untrained + 15  # there was something to agree on


def test_fit_reaches_what_scikit_learn_expects_of_digits(digits):
    """Its test_fit: -21.0 to no decimals, which its assert_almost_equal takes as within 1.5."""
    before = digits.copy()
    rbm = BernoulliRBM(64, learning_rate=0.1, batch_size=10, n_iter=7, random_state=9).fit(digits)
    assert abs(rbm.score_samples(digits).mean() + 21.0) < 1.5
    np.testing.assert_array_equal(digits, before)


def test_partial_fit_reaches_what_scikit_learn_expects_of_digits(digits):
    rbm = BernoulliRBM(64, learning_rate=0.1, batch_size=20, random_state=9)
    for _ in range(7):
        for rows in np.array_split(digits, 90):
            rbm.partial_fit(rows)
    assert abs(rbm.score_samples(digits).mean() + 21.0) < 1.5


@pytest.mark.parametrize("shape", [(784, 500), (3, 1), (1, 17), (5, 512)])
def test_weights_in_training_lie_in_whole_cache_lines(shape: tuple[int, int]) -> None:
    W = np.random.default_rng(0).normal(size=shape)
    copy = copy_in_lines(W)
    np.testing.assert_array_equal(copy, W.astype(np.float32))
    assert copy.ctypes.data % 64 == 0
    assert copy.strides[0] % 128 == 64  # odd: rows of a power of two would share their cache sets
