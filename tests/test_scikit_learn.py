"""In the place of scikit-learn's class: its own tests, its numbers, its tools."""

from __future__ import annotations

import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from joblib import parallel_backend
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import harmonium
from harmonium import BernoulliRBM, _core
from harmonium.callbacks import Checkpoint

F32, F64 = np.float32, np.float64
FITTED = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")
Theirs = sklearn.neural_network.BernoulliRBM


class Corrected(Theirs):
    """scikit-learn's, but where a minibatch has other rows than there are chains.

    It divides the sum over chains by the number of rows; the mean is over chains.
    """

    def _fit(self, v_pos: Any, rng: np.random.RandomState) -> None:
        rate = self.learning_rate
        h_pos = self._mean_hiddens(v_pos)
        v_neg = self._sample_visibles(self.h_samples_, rng)
        h_neg = self._mean_hiddens(v_neg)
        n, n_chains = v_pos.shape[0], len(h_neg)
        self.components_ += rate * ((v_pos.T @ h_pos).T / n - h_neg.T @ v_neg / n_chains)
        self.intercept_hidden_ += rate * (h_pos.mean(axis=0) - h_neg.mean(axis=0))
        v_mean = np.asarray(v_pos.mean(axis=0)).squeeze()
        self.intercept_visible_ += rate * (v_mean - v_neg.mean(axis=0))
        self.h_samples_ = (rng.uniform(size=h_neg.shape) < h_neg).astype(h_neg.dtype)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return load_digits(return_X_y=True)[0] / 16


def pair(kind: Any = Theirs, seed: int = 0, **parameters: Any) -> tuple[BernoulliRBM, Any]:
    """Return ours and theirs, each with a generator of its own that draws the same."""
    ours, theirs = (np.random.RandomState(seed) for _ in range(2))
    return BernoulliRBM(random_state=ours, **parameters), kind(random_state=theirs, **parameters)


def assert_same_fit(ours: BernoulliRBM, theirs: Any, tolerance: float) -> None:
    for name in FITTED:
        mine, other = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance, err_msg=name)
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape), name
    a, b = (rbm.random_state.get_state() for rbm in (ours, theirs))
    np.testing.assert_array_equal(a[1], b[1])
    assert a[2:] == b[2:]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = str(Path(harmonium.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": path, **environment}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


# ------------------------------------------------------------------------------ its own test file


@pytest.mark.parametrize("level", _core.available_isas())
def test_scikit_learns_own_tests_pass(level: str, tmp_path: Path) -> None:
    """The file it ships, unmodified, with our class in the place of its own."""
    tests = Path(sklearn.neural_network.__file__).parent / "tests" / "test_rbm.py"
    options = ["-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={tmp_path}"]
    patched = ("-m", "harmonium.patch", "-m", "pytest", *options, str(tests))
    done = python(*patched, HARMONIUM_ISA=level)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^\d+ passed(, \d+ warnings?)? in", done.stdout, re.MULTILINE), done.stdout


# ------------------------------------------------------------------------------ its numbers


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("n_components", [30, 64])
def test_whole_fits_agree_in_float64(digits: np.ndarray, form: Any, n_components: int) -> None:
    """10 epochs of 1790 rows: 17 million bits of weights moved, and half a million draws."""
    X = form(digits[:1790])  # minibatches of ten, all whole
    ours, theirs = pair(n_components=n_components)
    assert ours.fit(X) is ours
    theirs.fit(X)
    # Rounding alone, 1e-16 an update, is left; a draw that turned would move a weight by 1e-2.
    assert_same_fit(ours, theirs, 1e-11)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=0, atol=1e-11)
    assert_same_fit(ours, theirs, 1e-11)
    np.testing.assert_array_equal(ours.gibbs(digits), theirs.gibbs(digits))
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(ours.gibbs(X), theirs.gibbs(X))
    assert_same_fit(ours, theirs, 1e-11)


@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fits_agree_in_float32(digits: np.ndarray, form: Any, seed: int) -> None:
    """In float32 sums differ in their last bit by their order, and after some 10⁶ draws one turns.

    scikit-learn's own fits of dense and of sparse rows part ways as soon; so two epochs here.
    """
    X = form(digits[:1790].astype(F32))
    ours, theirs = pair(n_components=30, n_iter=2, seed=seed)
    assert_same_fit(ours.fit(X), theirs.fit(X), 1e-5)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=0, atol=2e-5)
    np.testing.assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=0, atol=2e-2)


@pytest.mark.parametrize("rows", [4, 57, 1797])
@pytest.mark.parametrize("form", [np.asarray, scipy.sparse.csr_array])
def test_short_minibatches_are_weighted_rightly(digits: np.ndarray, rows: int, form: Any) -> None:
    X = form(digits[:rows])
    ours, theirs = pair(Corrected, n_components=20, n_iter=3)
    assert_same_fit(ours.fit(X), theirs.fit(X), 1e-11)
    wrong = Theirs(20, n_iter=3, random_state=np.random.RandomState(0)).fit(X)
    assert not np.allclose(ours.components_, wrong.components_, atol=1e-3)


def test_partial_fits_agree(digits: np.ndarray) -> None:
    ours, theirs = pair(n_components=16, batch_size=25, learning_rate=0.05)
    for begin in range(0, 1000, 25):
        assert ours.partial_fit(digits[begin : begin + 25]) is ours
        theirs.partial_fit(digits[begin : begin + 25])
    assert_same_fit(ours, theirs, 1e-12)
    np.testing.assert_array_equal(ours.gibbs(digits), theirs.gibbs(digits))


def test_what_is_printed_agrees(digits: np.ndarray, capsys: Any) -> None:
    """And takes numbers from the generator, as scikit-learn's does."""
    X = digits[:1000]
    ours, theirs = pair(n_components=16, n_iter=3, verbose=1)
    printed = []
    for rbm in (ours, theirs):
        rbm.fit(X)
        printed.append(re.sub(r"time = .*", "", capsys.readouterr().out))
    assert printed[0] == printed[1]
    assert printed[0].count("pseudo-likelihood") == 3
    assert_same_fit(ours, theirs, 1e-11)


def test_private_methods_agree(digits: np.ndarray) -> None:
    for parameters in ({"random_state": 0}, {"random_state": np.random.RandomState(0)}):
        ours = BernoulliRBM(12, n_iter=2, **parameters).fit(digits)
        theirs = ours.to_sklearn()
        a, b = (np.random.RandomState(1) for _ in range(2))
        X, sparse, row = digits[:50], scipy.sparse.csr_array(digits[:50]), digits[3]
        h = ours._sample_hiddens(X, a)
        np.testing.assert_array_equal(h, theirs._sample_hiddens(X, b))
        np.testing.assert_array_equal(ours._sample_visibles(h, a), theirs._sample_visibles(h, b))
        # float32 sums where the seed is a number
        for v in (X, sparse, row):
            mine, other = ours._mean_hiddens(v), theirs._mean_hiddens(v)
            assert mine.shape == other.shape
            np.testing.assert_allclose(mine, other, rtol=0, atol=1e-6)
        for v in (X, sparse):
            np.testing.assert_allclose(ours._free_energy(v), theirs._free_energy(v), rtol=1e-6)
        for v in (X[:10], sparse[:10]):
            ours._fit(v, a)
            theirs._fit(v, b)
        np.testing.assert_allclose(ours.components_, theirs.components_, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(ours.h_samples_, theirs.h_samples_)


def test_own_parameters_make_the_generator_a_source_of_seeds(digits: np.ndarray) -> None:
    X = digits[:100]
    for own in ({"algorithm": "cd"}, {"momentum": 0.5}, {"shuffle": True}, {"n_gibbs_steps": 2}):
        fits = [
            BernoulliRBM(8, n_iter=2, random_state=state, **own).fit(X)
            for state in (3, np.random.RandomState(3))
        ]
        np.testing.assert_array_equal(fits[0].components_, fits[1].components_)


# ------------------------------------------------------------------------------ files


def test_a_resumed_fit_goes_on_with_the_generator(digits: np.ndarray, tmp_path: Path) -> None:
    X, path = digits[:300], tmp_path / "rbm.safetensors"
    whole = BernoulliRBM(10, n_iter=5, random_state=np.random.RandomState(4)).fit(X)
    begun = BernoulliRBM(10, n_iter=2, random_state=np.random.RandomState(4))
    begun.set_params(callbacks=Checkpoint(path)).fit(X)
    for resumed in (np.random.RandomState(99), begun.random_state):
        rbm = BernoulliRBM(10, n_iter=5, random_state=resumed).fit(X, resume=path)
        for name in FITTED:
            np.testing.assert_array_equal(getattr(rbm, name), getattr(whole, name))
    with pytest.raises(
        ValueError, match="numbers of a RandomState, but this estimator draws count"
    ):
        BernoulliRBM(10, n_iter=5, random_state=0).fit(X, resume=path)
    BernoulliRBM(10, n_iter=2, random_state=0).fit(X).save(path)
    with pytest.raises(ValueError, match="counter-based numbers, but this estimator draws numbers"):
        BernoulliRBM(10, n_iter=5, random_state=resumed).fit(X, resume=path)


def test_ctrl_c_leaves_the_generator_where_the_updates_are(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harmonium import sequential

    X, path = digits[:500], tmp_path / "rbm.safetensors"
    whole = BernoulliRBM(10, n_iter=3, random_state=np.random.RandomState(4)).fit(X)
    monkeypatch.setattr(sequential, "_NUMBERS_A_CALL", 10_000)
    original = sequential.GeneratorTrainer.__init__
    for before in (True, False):  # the call of the engine, or after it
        calls = 0

        def interrupted(self: Any, *arguments: Any, before: bool = before) -> None:
            original(self, *arguments)
            trainer = self._trainer

            class Interrupting:
                numbers_per_update = trainer.numbers_per_update
                rows_done = property(lambda self: trainer.rows_done)

                def run(self, *arguments: Any) -> None:
                    nonlocal calls
                    calls += 1
                    if calls == 7 and before:
                        raise KeyboardInterrupt
                    trainer.run(*arguments)
                    if calls == 7:
                        raise KeyboardInterrupt

            self._trainer = Interrupting()

        begun = BernoulliRBM(10, n_iter=3, random_state=np.random.RandomState(4))
        with monkeypatch.context() as patched:
            patched.setattr(sequential.GeneratorTrainer, "__init__", interrupted)
            with pytest.raises(KeyboardInterrupt):
                begun.fit(X)
        begun.save(path)
        rbm = BernoulliRBM(10, n_iter=3, random_state=np.random.RandomState(0))
        rbm.fit(X, resume=path)
        for name in FITTED:
            np.testing.assert_array_equal(getattr(rbm, name), getattr(whole, name))


@pytest.mark.parametrize("state", [None, 5, np.random.RandomState(5)], ids=str)
def test_from_scikit_learns_and_back(digits: np.ndarray, state: Any) -> None:
    theirs = Theirs(8, learning_rate=0.05, n_iter=2, verbose=0, random_state=state).fit(digits)
    ours = BernoulliRBM.from_sklearn(pickle.loads(pickle.dumps(theirs)))
    assert type(ours) is BernoulliRBM
    np.testing.assert_allclose(ours.transform(digits), theirs.transform(digits), atol=1e-6)
    back = ours.to_sklearn()
    assert type(back) is Theirs
    for name in FITTED:
        np.testing.assert_array_equal(getattr(back, name), getattr(theirs, name))
        assert not np.shares_memory(getattr(ours, name), getattr(theirs, name))
    np.testing.assert_array_equal(back.transform(digits), theirs.transform(digits))
    assert list(back.get_feature_names_out()) == list(theirs.get_feature_names_out())
    a, b = (estimator.get_params() for estimator in (back, theirs))
    if isinstance(state, np.random.RandomState):
        a, b = (parameters | {"random_state": 0} for parameters in (a, b))
    assert a == b
    ours.partial_fit(digits[:10])
    theirs.partial_fit(digits[:10])
    assert ours.components_.shape == theirs.components_.shape


def test_from_scikit_learns_that_is_old_or_not_fitted_or_another(digits: np.ndarray) -> None:
    assert not hasattr(BernoulliRBM.from_sklearn(Theirs(5)), "components_")
    old = Theirs(5, n_iter=1, random_state=0).fit(digits)
    del old.n_features_in_, old._n_features_out  # of versions before 0.24
    assert BernoulliRBM.from_sklearn(old).transform(digits).shape == (1797, 5)
    for other in (BernoulliRBM(5), LogisticRegression(), None):
        with pytest.raises(TypeError, match=r"takes a sklearn.neural_network.BernoulliRBM; got"):
            BernoulliRBM.from_sklearn(other)
    schedule = BernoulliRBM(5, n_iter=3, learning_rate=lambda epoch: 0.1 / (1 + epoch)).fit(digits)
    assert schedule.to_sklearn().learning_rate == 0.1 / 3


def test_pickles_of_earlier_versions(digits: np.ndarray) -> None:
    rbm = BernoulliRBM(5, n_iter=1, random_state=0, algorithm="cd").fit(digits)
    state = dict(rbm.__getstate__())
    del state["inputs"], state["metrics"]  # parameters that came later
    old = BernoulliRBM.__new__(BernoulliRBM)
    old.__setstate__(state)
    assert old.get_params() == rbm.get_params()
    np.testing.assert_array_equal(old.transform(digits), rbm.transform(digits))
    again = pickle.loads(pickle.dumps(rbm))
    np.testing.assert_array_equal(again.transform(digits), rbm.transform(digits))


# ------------------------------------------------------------------------------ its tools


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
@pytest.mark.parametrize("state", [0, np.random.RandomState(0)], ids=["int", "RandomState"])
def test_grid_search_on_two_processes(digits: np.ndarray, backend: str, state: Any) -> None:
    y = load_digits(return_X_y=True)[1]
    rbm = BernoulliRBM(n_iter=2, random_state=state)
    search = GridSearchCV(
        make_pipeline(rbm, LogisticRegression(max_iter=200)),
        {"bernoullirbm__n_components": [10, 20], "bernoullirbm__learning_rate": [0.05]},
        n_jobs=2,
        cv=2,
    )
    results = []
    for name in (backend, "sequential"):
        with parallel_backend(name):
            results.append(clone(search).fit(digits[:600], y[:600]).cv_results_["mean_test_score"])
    assert np.isfinite(results[0]).all()
    np.testing.assert_array_equal(*results)


def test_clones_begin_anew_and_alike(digits: np.ndarray) -> None:
    rbm = BernoulliRBM(5, n_iter=1, random_state=np.random.RandomState(0))
    fits = [clone(rbm).fit(digits).components_ for _ in range(2)]
    np.testing.assert_array_equal(*fits)
    np.testing.assert_array_equal(fits[0], rbm.fit(digits).components_)


def test_set_output_and_names(digits: np.ndarray) -> None:
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(digits, columns=[f"pixel{i}" for i in range(64)])
    for state in (0, np.random.RandomState(0)):
        rbm = BernoulliRBM(3, n_iter=1, random_state=state).set_output(transform="pandas")
        out = rbm.fit(frame).transform(frame)
        assert list(out.columns) == ["bernoullirbm0", "bernoullirbm1", "bernoullirbm2"]
        with pytest.raises(ValueError, match="feature names should match"):
            rbm.transform(frame.rename(columns={"pixel0": "other"}))


def test_metadata_routing(digits: np.ndarray) -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        rbm = BernoulliRBM(3, n_iter=2, random_state=0).set_fit_request(X_val=True)
        assert rbm.get_metadata_routing().fit.requests["X_val"] is True
        pipeline = make_pipeline(rbm, LogisticRegression(max_iter=200))
        y = np.arange(200) % 3
        pipeline.fit(digits[:200], y, X_val=digits[200:300])
    assert "free_energy_gap" in pipeline[0].history_


# ------------------------------------------------------------------------------ the patch

SCRIPT = """
import sys
from sklearn.datasets import load_digits
from sklearn.neural_network import BernoulliRBM
X = load_digits(return_X_y=True)[0] / 16
rbm = BernoulliRBM(4, n_iter=1, random_state=0).fit(X)
print(type(rbm).__module__, __name__, sys.argv[1:], *__import__("helper").names)
"""


def test_a_script_that_knows_nothing_of_harmonium(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("names = ['beside']")
    done = python("-m", "harmonium.patch", str(tmp_path / "script.py"), "--own", "3")
    assert done.stdout == "harmonium.rbm __main__ ['--own', '3'] beside\n", done.stderr
    done = python(
        "-m",
        "harmonium.patch",
        "-m",
        "script",
        "5",
        PYTHONPATH=os.pathsep.join([str(Path(harmonium.__file__).parents[1]), str(tmp_path)]),
    )
    assert done.stdout == "harmonium.rbm __main__ ['5'] beside\n", done.stderr
    assert python(str(tmp_path / "script.py")).stdout.startswith("sklearn.neural_network._rbm")
    for wrong, message in (([], "usage"), (["--x"], "usage"), (["none.py"], "no file none.py")):
        done = python("-m", "harmonium.patch", *wrong)
        assert done.returncode == 1
        assert message in done.stderr


def test_patch_and_unpatch() -> None:
    try:
        for _ in range(2):
            harmonium.patch_sklearn()
            assert sklearn.neural_network.BernoulliRBM is BernoulliRBM
        # What was imported before, and its pickles, are scikit-learn's.
        copied = pickle.loads(pickle.dumps(copy.copy(Theirs(3))))
        assert type(copied) is Theirs
        assert type(BernoulliRBM(3).to_sklearn()) is Theirs
    finally:
        for _ in range(2):
            harmonium.unpatch_sklearn()
    assert sklearn.neural_network.BernoulliRBM is Theirs
