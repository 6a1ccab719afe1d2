"""Going on from a file: to the bits of an uninterrupted run, however the first one ended."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import harmonium
from harmonium import BernoulliRBM, load
from harmonium.callbacks import Callback, Checkpoint, EarlyStopping

ATTRIBUTES = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")
SRC = str(Path(harmonium.__file__).parents[1])
X = np.random.default_rng(0).random((57, 11)) < 0.4


def model(n_iter, **parameters):
    given = {"n_components": 6, "n_iter": n_iter, "random_state": 0} | parameters
    return BernoulliRBM(**given)


def assert_same_run(one, other):
    """Same bits in everything but the times."""
    for name in ATTRIBUTES:
        a, b = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.dtype == b.dtype
    assert one.n_iter_ == other.n_iter_
    assert one.history_.keys() == other.history_.keys()
    for name in one.history_.keys() - {"time"}:
        assert one.history_[name] == other.history_[name]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


RULES = {
    "pcd": {},
    "cd": {"algorithm": "cd"},
    "k": {"n_gibbs_steps": 3},
    "momentum": {"momentum": 0.8},
    "shuffle": {"shuffle": True},
    "decay": {"l1": 0.01, "l2": 0.01},
    "schedules": {
        "learning_rate": lambda epoch: 0.3 / (1 + epoch),
        "momentum": lambda epoch: 0.5 + 0.05 * epoch,
    },
    # Zero in the epoch that is saved: the velocity must still be there in the next.
    "momentum that waits": {"momentum": lambda epoch: 0.8 * (epoch >= 2)},
    "sparsity": {"sparsity_target": 0.2, "momentum": 0.5},
    "centering": {"centering": True, "momentum": 0.5},
    "adam": {"solver": "adam", "learning_rate": 0.01, "average": 0.6},
    "rmsprop": {"solver": "rmsprop", "learning_rate": 0.01},
    "max norm": {"max_norm": 0.05, "momentum": 0.5},
    "average": {"average": 0.7, "momentum": 0.5},
    "pt": {"algorithm": "pt", "n_temperatures": 4, "n_chains": 7},
    "fpcd": {"algorithm": "fpcd", "fast_learning_rate": 0.2, "l2": 1e-3},
    "rdm": {"algorithm": "rdm", "n_gibbs_steps": 3},
    "all": {"n_gibbs_steps": 2, "momentum": 0.8, "shuffle": True, "n_chains": 4, "init": "data"},
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("dtype", [np.bool_, np.float64])
def test_a_resumed_run_equals_the_uninterrupted_one(path, rules, first, dtype):
    rows = X.astype(dtype)
    whole = model(5, **rules).fit(rows, X_val=rows[:20])
    model(first, **rules).fit(rows, X_val=rows[:20]).save(path)
    resumed = model(5, **rules).fit(rows, X_val=rows[:20], resume=path)
    assert_same_run(resumed, whole)
    np.testing.assert_array_equal(resumed.gibbs(X), whole.gibbs(X))
    assert_same_run(resumed.partial_fit(X), whole.partial_fit(X))  # and velocities too


def test_real_values_resume_as_well(path):
    """One thread, so that the BLAS sums in the same order both times."""
    rows = np.random.default_rng(1).random((30, 11))
    rules = {"n_threads": 1, "momentum": 0.5}
    model(2, **rules).fit(rows).save(path)
    assert_same_run(model(4, **rules).fit(rows, resume=path), model(4, **rules).fit(rows))


def test_inputs_drawn_in_every_epoch_resume_as_well(path):
    rows = np.random.default_rng(1).random((30, 11))
    model(2, inputs="sample").fit(rows, X_val=rows[:9]).save(path)
    whole = model(4, inputs="sample").fit(rows, X_val=rows[:9])
    assert_same_run(model(4, inputs="sample").fit(rows, X_val=rows[:9], resume=path), whole)


@pytest.mark.parametrize("how", [str, Path])
def test_from_a_checkpoint_after_an_error(path, how):
    def fail(estimator, epoch, metrics):
        if epoch == 4:
            raise RuntimeError("power cut")

    rbm = model(6, momentum=0.5, callbacks=[fail, Checkpoint(path)])
    with pytest.raises(RuntimeError, match="power cut"):
        rbm.fit(X)
    assert load(path).n_iter_ == 3
    whole = model(6, momentum=0.5).fit(X)
    assert_same_run(model(6, momentum=0.5).fit(X, resume=how(path)), whole)


def test_a_run_that_is_done_is_only_read(path):
    done = model(3).fit(X)
    done.save(path)
    assert_same_run(model(3).fit(X, resume=path), done)
    assert_same_run(model(2).fit(X, resume=path), done)  # nothing is taken back


def test_time_goes_on_too(path):
    first = model(2).fit(X)
    first.history_["time"][-1] = 1000.0
    first.save(path)
    times = model(4).fit(X, resume=path).history_["time"]
    assert times[1] == 1000.0
    assert 1000.0 < times[2] < times[3] < 1100.0


def test_partial_fit_goes_on_after_load(path):
    pieces = model(0, momentum=0.5)
    for begin in (0, 10, 20):
        pieces.partial_fit(X[begin : begin + 10])
    pieces.save(path)
    loaded = load(path)
    for rbm in (pieces, loaded):
        rbm.partial_fit(X[30:40]).partial_fit(X[40:57])
    assert_same_run(loaded, pieces)


def test_early_stopping_remembers_the_epochs_before(path):
    """Without the saved epochs' values it would wait for `patience` epochs anew."""
    rules = {"random_state": 0, "learning_rate": 1e-9}

    def stopping():
        return EarlyStopping("pseudo_likelihood", patience=3, min_delta=1e6)

    whole = model(20, callbacks=stopping(), **rules).fit(X)
    model(2, callbacks=stopping(), **rules).fit(X).save(path)
    resumed = model(20, callbacks=stopping(), **rules).fit(X, resume=path)
    assert resumed.n_iter_ == whole.n_iter_ == 5
    assert_same_run(resumed, whole)


# -------------------------------------------------------------------------------- what can't be


@pytest.mark.parametrize(
    "other",
    [
        {"n_components": 7},
        {"batch_size": 9},
        {"algorithm": "cd"},
        {"n_gibbs_steps": 2},
        {"n_chains": 3},
        {"inputs": "sample"},
        {"shuffle": True},
        {"precision": "float32"},
        {"init": "data"},
    ],
)
def test_another_training_is_refused_by_the_parameters_name(path, other):
    model(1).fit(X).save(path)
    ((name, value),) = other.items()
    rbm = model(2, **other).fit(X)
    before = rbm.components_.copy()
    saved = getattr(model(1), name)
    message = rf"run\.safetensors .*{name}={saved!r}, but .*{name}={value!r}"
    with pytest.raises(ValueError, match=message):
        rbm.fit(X, resume=path)
    np.testing.assert_array_equal(rbm.components_, before)


def test_another_width_is_refused(path):
    model(1).fit(X).save(path)
    rbm = model(2).fit(X[:, :8])
    with pytest.raises(ValueError, match=r"run\.safetensors .* 11 features, but X has 8"):
        rbm.fit(X[:, :8], resume=path)
    assert rbm.transform(X[:, :8]).shape == (57, 6)


def test_a_file_that_is_no_model_leaves_the_estimator(path):
    rbm = model(2).fit(X)
    before = rbm.components_.copy()
    with pytest.raises(FileNotFoundError, match=r"run\.safetensors"):
        rbm.fit(X, resume=path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"run\.safetensors.*empty"):
        rbm.fit(X, resume=path)
    np.testing.assert_array_equal(rbm.components_, before)
    assert rbm.n_iter_ == 2


# ------------------------------------------------------------------------------------- kill -9

KILLED = """
import sys, time
import numpy as np
from harmonium import BernoulliRBM
from harmonium.callbacks import Callback, Checkpoint

class Tell(Callback):
    def on_epoch_end(self, estimator, epoch, metrics):
        print(epoch, flush=True)

X = np.random.default_rng(0).random((57, 11)) < 0.4
rules = {"n_components": 6, "random_state": 0} | eval(sys.argv[2])
BernoulliRBM(n_iter=10**9, callbacks=[Checkpoint(sys.argv[1]), Tell()], **rules).fit(X)
"""


@pytest.mark.parametrize(
    "rules",
    [
        {"momentum": 0.7, "shuffle": True, "n_gibbs_steps": 2},
        {"algorithm": "cd", "momentum": 0.5, "l2": 0.001},
    ],
    ids=["pcd", "cd"],
)
def test_killed_in_the_middle_and_resumed(path, rules):
    """kill -9 comes at any moment, that of writing a checkpoint included."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), repr(rules)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": SRC},
    )
    try:
        while child.stdout.readline() != "5\n":
            assert child.poll() is None
        time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    epoch = load(path).n_iter_
    assert epoch >= 5
    resumed = model(epoch + 4, **rules).fit(X, resume=path)
    assert resumed.history_["epoch"] == list(range(1, epoch + 5))
    assert_same_run(resumed, model(epoch + 4, **rules).fit(X))


def test_a_checkpoint_read_at_any_moment_is_whole(path):
    """While another process writes one after the other."""
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), "{}"],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": SRC},
    )
    try:
        epochs, until = [], time.monotonic() + 60
        while len(set(epochs)) < 20:
            assert time.monotonic() < until
            assert child.poll() is None
            if path.exists():
                epochs.append(load(path).n_iter_)
    finally:
        child.kill()
        child.wait()
    assert epochs == sorted(epochs)


def test_resume_from_a_model_saved_after_ctrl_c(tmp_path):
    """The place within the epoch is part of what is saved."""
    X = np.random.default_rng(0).random((40_000, 30)) < 0.3
    rules = {"n_components": 20, "n_iter": 4, "random_state": 0, "shuffle": True, "n_threads": 1}
    whole = BernoulliRBM(**rules).fit(X)

    class Interrupt(Callback):
        def on_progress(self, estimator, epoch, fraction):
            if epoch == 1 and 0.1 < fraction < 1:
                raise KeyboardInterrupt

    broken = BernoulliRBM(callbacks=Interrupt(), **rules)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X)
    assert broken.n_iter_ == 0
    broken.save(tmp_path / "broken.safetensors")
    resumed = BernoulliRBM(**rules).fit(X, resume=tmp_path / "broken.safetensors")
    np.testing.assert_array_equal(resumed.components_, whole.components_)
    np.testing.assert_array_equal(resumed.h_samples_, whole.h_samples_)


def test_a_real_ctrl_c_loses_no_update(tmp_path):
    """SIGINT shows between the engine's call and the next line: nothing may be forgotten there."""
    X = np.random.default_rng(1).random((200_000, 64)) < 0.2
    rules = {"n_components": 64, "n_iter": 2, "random_state": 0, "n_threads": 1, "metrics": False}
    broken = BernoulliRBM(**rules)
    timer = threading.Timer(0.15, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        broken.fit(X)
    broken.save(tmp_path / "broken.safetensors")
    resumed = BernoulliRBM(**rules).fit(X, resume=tmp_path / "broken.safetensors")
    whole = BernoulliRBM(**rules).fit(X)
    assert resumed._gibbs_steps == whole._gibbs_steps
    np.testing.assert_array_equal(resumed.components_, whole.components_)
