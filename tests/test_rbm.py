"""BernoulliRBM as scikit-learn's users meet it: parameters, inputs, results, mistakes."""

import copy
import inspect
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reference as ref
import scipy.sparse
import sklearn.neural_network
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

import harmonium
from harmonium import BernoulliRBM, ops

F32 = np.float32
N_VISIBLE, N_HIDDEN = 13, 7
FITTED = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")


def bits(n, n_units=N_VISIBLE, seed=0):
    return np.random.default_rng(seed).random((n, n_units)) < 0.4


def small(**parameters):
    return BernoulliRBM(**{"n_components": N_HIDDEN, "n_iter": 3, "random_state": 0} | parameters)


@pytest.fixture
def X():
    return bits(53)


@pytest.fixture
def rbm(X):
    """Fitted, with weights large enough that every rounding shows."""
    rbm = small(learning_rate=0.5, n_iter=20).fit(X)
    assert np.abs(rbm.components_).max() > 0.3
    return rbm


def parameters_of(rbm):
    return rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_


def draw_seed(rbm):
    return rbm._seed ^ (1 << 63)  # docs/numerics.md, section 2


def assert_same_fit(one, other):
    for name in FITTED:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


# --------------------------------------------------------------------------------- the signature


def test_signature():
    assert {
        name: parameter.default
        for name, parameter in inspect.signature(BernoulliRBM).parameters.items()
    } == {
        "n_components": 256,
        "learning_rate": 0.1,
        "batch_size": 10,
        "n_iter": 10,
        "verbose": 0,
        "random_state": None,
        "algorithm": "pcd",
        "n_gibbs_steps": 1,
        "n_chains": None,
        "n_temperatures": 10,
        "fast_learning_rate": None,
        "fast_decay": 0.95,
        "momentum": 0.0,
        "l1": 0.0,
        "l2": 0.0,
        "solver": "sgd",
        "beta_1": 0.9,
        "beta_2": 0.999,
        "rms_decay": 0.99,
        "epsilon": 1e-8,
        "centering": False,
        "offset_rate": 0.01,
        "sparsity_target": None,
        "sparsity_cost": 0.1,
        "sparsity_decay": 0.9,
        "max_norm": None,
        "average": 0.0,
        "inputs": "mean",
        "missing": "error",
        "shuffle": False,
        "init": "normal",
        "precision": "auto",
        "device": "cpu",
        "n_threads": None,
        "callbacks": None,
        "metrics": True,
    }


def test_the_first_parameters_are_scikit_learns():
    theirs = inspect.signature(sklearn.neural_network.BernoulliRBM).parameters
    ours = inspect.signature(BernoulliRBM).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind)
    kinds = [parameter.kind for parameter in ours.values()]
    assert kinds[1:] == [inspect.Parameter.KEYWORD_ONLY] * (len(kinds) - 1)


@pytest.mark.parametrize("seed", [0, 42, 2**32 - 1])
def test_training_starts_where_scikit_learns_does(X, seed):
    rules = {"n_components": N_HIDDEN, "random_state": seed, "n_iter": 0, "batch_size": 4}
    ours = BernoulliRBM(**rules).fit(X.astype(F32))
    theirs = sklearn.neural_network.BernoulliRBM(**rules).fit(X.astype(F32))
    for name in FITTED:  # weights; biases and chains of zeros
        mine, other = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_array_equal(mine, other, err_msg=name)
        assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
    assert ours.components_.flags.f_contiguous == theirs.components_.flags.f_contiguous
    assert ours.n_iter_ == 0


def test_rows_are_visited_in_their_order_unless_shuffled(X):
    """scikit-learn doesn't shuffle: rows that never come don't matter, their order does."""
    other_order = X[::-1].copy()
    assert not np.array_equal(small().fit(X).components_, small().fit(other_order).components_)
    one_batch = {"batch_size": len(X)}  # but not inside a minibatch
    assert_same_fit(small(**one_batch).fit(X), small(**one_batch).fit(other_order))


def test_random_state_repeats_or_differs(X):
    assert_same_fit(small(random_state=5).fit(X), small(random_state=5).fit(X))
    generator, own = np.random.RandomState(5), {"l2": 1e-4}  # not a parameter of scikit-learn's
    fits = [small(random_state=state, **own).fit(X) for state in (generator, 5)]
    assert_same_fit(*fits)
    again = small(random_state=generator, **own).fit(X)  # the generator has moved on
    assert not np.array_equal(again.components_, fits[0].components_)
    fresh = [small(random_state=None).fit(X).components_ for _ in range(2)]
    assert not np.array_equal(*fresh)


def test_importing_harmonium_is_light():
    heavy = ["sklearn", "numba", "torch", "matplotlib", "scipy.linalg", "pandas"]
    code = f"import harmonium, sys; print([name for name in {heavy} if name in sys.modules])"
    env = os.environ | {"PYTHONPATH": str(Path(harmonium.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env)
    assert (done.stdout, done.returncode) == ("[]\n", 0)


# ------------------------------------------------------------------------------ dtypes and kinds

KINDS = {
    "float32": lambda X: X.astype(F32),
    "float64": lambda X: X.astype(np.float64),
    "float16": lambda X: X.astype(np.float16),
    "bool": lambda X: X,
    "uint8": lambda X: X.astype(np.uint8),
    "int8": lambda X: X.astype(np.int8),
    "int64": lambda X: X.astype(np.int64),
    "uint64": lambda X: X.astype(np.uint64),
    "list": lambda X: X.astype(int).tolist(),
    "object": lambda X: X.astype(object),
    "Fortran": lambda X: np.asfortranarray(X),
    "strided": lambda X: np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3],
    "reversed": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "big endian": lambda X: X.astype(">f8"),
    "csr": lambda X: scipy.sparse.csr_array(X.astype(F32)),
    "csc": lambda X: scipy.sparse.csc_matrix(X.astype(np.float64)),
    "coo": lambda X: scipy.sparse.coo_array(X.astype(int)),
    "lil": lambda X: scipy.sparse.lil_matrix(X),
    "csr bool": lambda X: scipy.sparse.csr_matrix(X),
    "csr uint8": lambda X: scipy.sparse.csr_array(X.astype(np.uint8)),
    "csr with zeros stored": lambda X: _with_zeros_stored(X),
    "csr unsorted": lambda X: _unsorted(X),
    "frame": lambda X: pd.DataFrame(X.astype(F32)),
    "frame of bools": lambda X: pd.DataFrame(X, columns=[f"x{i}" for i in range(X.shape[1])]),
}


def _with_zeros_stored(X):
    n, m = X.shape
    everything = np.arange(n + 1) * m, np.tile(np.arange(m), n)
    return scipy.sparse.csr_array((X.ravel().astype(float), everything[1], everything[0]), X.shape)


def _unsorted(X):
    csr = scipy.sparse.csr_array(X.astype(float))
    for begin, end in zip(csr.indptr[:-1], csr.indptr[1:], strict=True):
        csr.indices[begin:end] = csr.indices[begin:end][::-1].copy()
    csr.has_sorted_indices = False
    return csr


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
def test_zeros_and_ones_give_the_same_bits_in_any_kind_of_array(X, make):
    came = make(X)
    before = pickle.dumps(came)
    for rules in ({}, {"algorithm": "cd", "shuffle": True}, {"init": "data", "learning_rate": 0.5}):
        fitted, expected = small(**rules).fit(came), small(**rules).fit(X)
        assert_same_fit(fitted, expected)
        assert_same_fit(small(**rules).partial_fit(came), small(**rules).partial_fit(X))
    for method in ("transform", "reconstruct", "free_energy", "score_samples", "gibbs"):
        got, wanted = getattr(fitted, method)(came), getattr(expected, method)(X)
        np.testing.assert_array_equal(got, wanted)
    assert pickle.dumps(came) == before


@pytest.mark.parametrize(
    "dtype, result",
    [
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.bool_, np.float32),
        (np.uint8, np.float32),
        (np.int32, np.float64),
        (np.int64, np.float64),
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_dtypes_of_attributes_and_results(X, dtype, result, sparse):
    came = scipy.sparse.csr_array(X.astype(dtype)) if sparse else X.astype(dtype)
    rbm = small().fit(came)
    assert {getattr(rbm, name).dtype for name in FITTED} == {np.dtype(result)}
    for method in ("transform", "reconstruct"):
        assert getattr(rbm, method)(came).dtype == result
        # What comes out goes by what comes in, not by what the model was fitted with.
        assert getattr(rbm, method)(X.astype(F32)).dtype == F32
        assert getattr(rbm, method)(X.astype(float)).dtype == np.float64
    assert rbm.gibbs(came).dtype == np.bool_
    assert rbm.free_energy(came).dtype == rbm.score_samples(came).dtype == np.float64
    assert type(rbm.score(came)) is float
    assert rbm.sample(2, n_steps=1).dtype == np.bool_
    assert rbm.sample(2, n_steps=1, return_probabilities=True).dtype == result
    rbm.partial_fit(X.astype(np.float64)).partial_fit(X.astype(F32))
    assert {getattr(rbm, name).dtype for name in FITTED} == {np.dtype(result)}
    assert small().fit_transform(came).dtype == result


def test_float32_and_float64_hold_the_same_numbers(X):
    real = X * np.random.default_rng(1).random(X.shape, F32)
    narrow, wide = small().fit(real), small().fit(real.astype(np.float64))
    assert_same_fit(narrow, wide)
    np.testing.assert_array_equal(narrow.transform(real), wide.transform(real).astype(F32))


def test_packed_words_agree_with_the_estimator_but_are_no_features(rbm, X):
    W, _, c = (np.ascontiguousarray(array, F32) for array in parameters_of(rbm))
    packed = ops.pack(X)
    np.testing.assert_array_equal(ops.propup(packed, W, c), rbm.transform(X))
    with pytest.raises(ValueError, match="X must have all values 0 or 1"):
        small().fit(packed)


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_real_values_in_sparse_and_dense_arrays_agree(kind):
    """Both end in float32 sums, in different orders: 13 terms below 1, 3e-6 after three epochs."""
    values = bits(40) * np.random.default_rng(1).random((40, N_VISIBLE), F32)
    came = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array, "dense": np.copy}[kind]
    one, other = small().fit(values), small().fit(came(values))
    for name in FITTED:
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=3e-6)
    expected = ref.propup64(values, one.components_.T, one.intercept_hidden_)
    np.testing.assert_allclose(other.transform(came(values)), expected, rtol=0, atol=3e-6)


@pytest.mark.parametrize("n", [1, 3, 4])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_fewer_rows_than_a_minibatch(n, method):
    X = scipy.sparse.csr_array(load_digits().data[:n] / 16)  # scikit-learn's test_small_sparse
    rbm = getattr(BernoulliRBM(), method)(X)
    assert rbm.transform(X).shape == (n, 256)


# ------------------------------------------------------------------ scikit-learn's machinery


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_feature_names_of_a_frame_are_kept_and_checked(X, method):
    frame = pd.DataFrame(X, columns=[f"pixel{i}" for i in range(N_VISIBLE)])
    rbm = getattr(small(), method)(frame)
    assert list(rbm.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(rbm.transform(frame), getattr(small(), method)(X).transform(X))
    wrong = frame.rename(columns={"pixel3": "Pixel3"})
    with pytest.raises(ValueError, match=r"feature names should match[\s\S]*Pixel3"):
        rbm.transform(wrong)
    with pytest.raises(ValueError, match="same order"):
        rbm.partial_fit(frame[frame.columns[::-1]])
    assert not hasattr(rbm.fit(X), "feature_names_in_")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_names_of_the_features_made(X, method):
    rbm = getattr(small(), method)(X)
    expected = [f"bernoullirbm{i}" for i in range(N_HIDDEN)]
    assert list(rbm.get_feature_names_out()) == expected
    frame = rbm.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == expected
    np.testing.assert_array_equal(
        frame.to_numpy(), rbm.set_output(transform="default").transform(X)
    )


def test_pipeline_and_grid_search():
    digits, labels = load_digits(return_X_y=True)
    X, y = digits[:300] > 7, labels[:300]
    model = make_pipeline(
        BernoulliRBM(n_iter=5, random_state=0, learning_rate=0.05, n_threads=1),
        LogisticRegression(C=100, max_iter=1000),
    )
    # 1 is far too few hidden units to tell ten digits apart, 64 are enough.
    search = GridSearchCV(model, {"bernoullirbm__n_components": [1, 64]}, cv=2, n_jobs=2)
    search.fit(X, y)
    assert search.best_params_ == {"bernoullirbm__n_components": 64}
    assert search.best_score_ > 0.7
    serial = GridSearchCV(model, search.param_grid, cv=2).fit(X, y)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )


def test_clone_carries_parameters_and_nothing_learnt(rbm, X):
    rbm.set_params(learning_rate=abs, callbacks=[print], momentum=0.25)
    cloned = clone(rbm)
    assert cloned.get_params() == rbm.get_params()
    assert not hasattr(cloned, "components_")
    with pytest.raises(NotFittedError):
        cloned.transform(X)


def test_pickle_carries_everything(X):
    rbm = small(momentum=0.5).fit(X)
    rbm.gibbs(X)
    other = pickle.loads(pickle.dumps(rbm))
    assert_same_fit(other, rbm)
    np.testing.assert_array_equal(other.gibbs(X), rbm.gibbs(X))
    assert_same_fit(other.partial_fit(X), rbm.partial_fit(X))


def test_n_iter_and_history_start_anew_with_every_fit(X):
    rbm = small().fit(X).fit(X)
    assert rbm.n_iter_ == 3
    assert rbm.history_["epoch"] == [1, 2, 3]
    assert_same_fit(rbm, small().fit(X))


@pytest.mark.parametrize("verbose", [1, 10, True])
def test_verbose_prints_scikit_learns_line(capsys, verbose):
    sparse = scipy.sparse.csc_array([[0.0], [1.0]])
    rbm = BernoulliRBM(2, batch_size=2, n_iter=2, random_state=42, verbose=verbose, metrics=False)
    rbm.fit(sparse)
    line = r"\[BernoulliRBM\] Iteration %d, pseudo-likelihood = -?(\d)+\.\d\d, time = \d+\.\d\ds\n"
    out = capsys.readouterr().out
    assert re.fullmatch(line % 1 + line % 2, out)
    values = [float(value) for value in re.findall(r"likelihood = (\S+),", out)]
    assert values == [round(value, 2) for value in rbm.history_["pseudo_likelihood"]]
    rbm.set_params(verbose=0).fit(sparse)
    assert capsys.readouterr().out == ""


# --------------------------------------------------------------------- results by the reference


def test_deterministic_results_equal_the_reference(rbm, X):
    W, b, c = parameters_of(rbm)
    p = rbm.transform(X.astype(F32))
    np.testing.assert_array_equal(p, ref.sigmoid(ref.preactivation(X, W, c)))
    h = bits(9, N_HIDDEN, seed=3)
    down = rbm.inverse_transform(h)
    np.testing.assert_array_equal(down, ref.sigmoid(ref.preactivation(h, W.T, b)))
    np.testing.assert_array_equal(rbm.free_energy(X), ref.free_energy(X, W, b, c))


def test_reals_by_plain_mathematics(rbm):
    """float32 products of at most 13 terms below 3 in size: 1e-6 each way, and σ halves them."""
    W, b, c = parameters_of(rbm)
    v = np.random.default_rng(2).random((20, N_VISIBLE))
    h = np.random.default_rng(3).random((20, N_HIDDEN))
    near = {"rtol": 0, "atol": 2e-6}
    np.testing.assert_allclose(rbm.transform(v), ref.propup64(v, W, c), **near)
    np.testing.assert_allclose(rbm.inverse_transform(h), ref.propdown64(h, W, b), **near)
    twice = ref.propdown64(ref.propup64(v, W, c), W, b)
    np.testing.assert_allclose(rbm.reconstruct(v), twice, **near)
    np.testing.assert_allclose(rbm.free_energy(v), ref.free_energy64(v, W, b, c), rtol=0, atol=2e-5)


def test_reconstruct_takes_probabilities_down(rbm, X):
    W, b, c = parameters_of(rbm)
    p = ref.sigmoid(ref.preactivation(X, W, c))
    expected = ref.propdown64(p, W, b)  # 7 terms of float32
    np.testing.assert_allclose(rbm.reconstruct(X), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["transform", "reconstruct", "inverse_transform"])
@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_precision_chooses_the_path(rbm, X, method, precision):
    rows = bits(53, N_HIDDEN) if method == "inverse_transform" else X
    rbm.set_params(precision=precision)
    got = getattr(rbm, method)(rows)
    W, b, c = (np.asarray(array, np.float64) for array in parameters_of(rbm))
    if method == "transform":
        exact = ref.propup64(rows, W, c)
    elif method == "inverse_transform":
        exact = ref.propdown64(rows, W, b)
    else:
        exact = ref.propdown64(ref.propup64(rows, W, c), W, b)
    error = np.abs(got - exact).max()
    # Section 3 bounds 16-bit weights: 13 active · s/2 / 4, and s ≤ 4·max|W|/32767 ≤ 4e-4.
    assert error < (6.5e-4 if precision == "auto" else 1e-6)
    if precision == "auto" and method != "reconstruct":
        assert error > 1e-6  # else the two could not be told apart here


def test_score_samples_equal_the_reference_and_repeat(rbm, X):
    scores = rbm.score_samples(X)
    expected = ref.pseudo_likelihood(X, *parameters_of(rbm), draw_seed(rbm))
    np.testing.assert_allclose(scores, expected, rtol=1e-12)  # the C library's softplus
    np.testing.assert_array_equal(rbm.score_samples(X), scores)
    assert rbm.score(X) == rbm.score(X, y=None) == scores.mean()


def test_score_samples_does_not_clip():
    """scikit-learn's test_score_samples: a thousand units all on, or all off."""
    X = np.vstack([np.zeros(1000), np.ones(1000)])
    rbm = BernoulliRBM(10, batch_size=2, n_iter=10, random_state=42).fit(X)
    assert (rbm.score_samples(X) < -300).all()
    # Free energies of 1e7 that softplus must survive (the same test's stability case).
    rbm.components_ *= 1e5
    rbm.intercept_visible_ -= 1e4
    scores = rbm.score_samples(X)
    assert np.isfinite(scores).all()
    assert scores.min() < -1e6


def test_gibbs_draws_anew_and_by_the_reference(rbm, X):
    W, b, c = parameters_of(rbm)
    first, second, third = rbm.gibbs(X), rbm.gibbs(X, 3), rbm.gibbs(X)
    seed = draw_seed(rbm)
    np.testing.assert_array_equal(first, ref.gibbs(W, b, c, 1, seed, v=X, step=0).v)
    np.testing.assert_array_equal(second, ref.gibbs(W, b, c, 3, seed, v=X, step=1).v)
    np.testing.assert_array_equal(third, ref.gibbs(W, b, c, 1, seed, v=X, step=4).v)
    assert not np.array_equal(first, third)
    again = small(learning_rate=0.5, n_iter=20).fit(X)
    np.testing.assert_array_equal(again.gibbs(X), first)


def test_gibbs_on_digits_differs_in_every_row():
    X = load_digits().data / 16  # scikit-learn's test_gibbs_smoke
    rbm = BernoulliRBM(42, batch_size=40, n_iter=20, random_state=42).fit(X)
    assert (rbm.gibbs(X) != rbm.gibbs(X)).any(axis=1).all()


def test_sample_is_the_reference_chain(rbm, X):
    rbm.intercept_visible_ = np.linspace(-3, 3, N_VISIBLE).astype(F32)
    W, b, c = parameters_of(rbm)
    seed = draw_seed(rbm)
    start = ref.bernoulli(np.tile(ref.sigmoid(b), (20, 1)), seed, step=0)
    chain = ref.gibbs(W, b, c, 1, seed, v=start, step=0)
    np.testing.assert_array_equal(rbm.sample(20, n_steps=1), chain.v)
    chain = ref.gibbs(W, b, c, 2, seed, v=X[:4], step=1)  # the next call's draws
    p = rbm.sample(4, n_steps=2, init=X[:4], return_probabilities=True)
    np.testing.assert_array_equal(p, chain.p_v)
    assert not np.array_equal(rbm.sample(50, n_steps=2), rbm.sample(50, n_steps=2))
    fixed = rbm.sample(50, n_steps=2, random_state=1)
    np.testing.assert_array_equal(rbm.sample(50, n_steps=2, random_state=1), fixed)
    assert not np.array_equal(rbm.sample(50, n_steps=2, random_state=2), fixed)


def test_samples_have_the_models_distribution():
    """A model of 3 visible units whose 8 states are enumerated: 20000 chains of 30 steps."""
    rbm = BernoulliRBM(2, n_iter=0, random_state=1).fit(bits(4, 3))
    rbm.components_ = np.array([[1.5, -1.0, 0.5], [-0.5, 2.0, 1.0]])
    rbm.intercept_visible_ = np.array([-0.3, 0.2, -1.0])
    rbm.intercept_hidden_ = np.array([0.1, -0.6])
    samples = rbm.sample(20_000, n_steps=30)
    counts = np.bincount(samples @ [1, 2, 4], minlength=8)
    expected = 20_000 * ref.visible_distribution64(*parameters_of(rbm))
    # χ² with 7 degrees of freedom passes 29.9 once in 10 000 seeds.
    assert (((counts - expected) ** 2) / expected).sum() < 29.9


def test_user_made_weights_are_used(rbm, X):
    W = np.random.default_rng(0).normal(size=(N_VISIBLE, N_HIDDEN))
    rbm.components_ = W.T.copy()
    expected = ref.sigmoid(ref.preactivation(X, W, rbm.intercept_hidden_))
    np.testing.assert_array_equal(rbm.transform(X.astype(F32)), expected)


# ------------------------------------------------------------------------------------ mistakes

BAD_PARAMETERS = [
    ("n_components", 0, ValueError, "at least 1, got 0"),
    ("n_components", -3, ValueError, "at least 1, got -3"),
    ("n_components", 2.0, TypeError, "integer, got 2.0 of type float"),
    ("n_components", True, TypeError, "integer, got True"),
    ("learning_rate", 0, ValueError, "got 0"),
    ("learning_rate", -0.1, ValueError, "got -0.1"),
    ("learning_rate", np.nan, ValueError, "finite.*got nan"),
    ("learning_rate", np.inf, ValueError, "finite.*got inf"),
    ("learning_rate", "fast", TypeError, "number, got 'fast'"),
    ("learning_rate", True, TypeError, "number, got True"),
    ("batch_size", 0, ValueError, "at least 1, got 0"),
    ("batch_size", "all", TypeError, "integer, got 'all'"),
    ("n_iter", -1, ValueError, "at least 0, got -1"),
    ("n_iter", 1.5, TypeError, "integer, got 1.5"),
    ("verbose", "loud", TypeError, "integer, got 'loud'"),
    ("random_state", "dice", ValueError, "got 'dice'"),
    ("random_state", -1, ValueError, "got -1"),
    ("algorithm", "sml", ValueError, "'fpcd', 'rdm'; got 'sml'"),
    ("algorithm", ["cd"], ValueError, r"'fpcd', 'rdm'; got \['cd'\]"),
    ("n_gibbs_steps", 0, ValueError, "at least 1, got 0"),
    ("n_gibbs_steps", True, TypeError, "integer, got True"),
    ("n_chains", 0, ValueError, "at least 1, got 0"),
    ("n_chains", 2.5, TypeError, "integer, got 2.5"),
    ("momentum", -0.5, ValueError, "got -0.5"),
    ("momentum", 1.0, ValueError, "below 1.*1.0"),
    ("momentum", None, TypeError, "number, got None"),
    ("l1", -1, ValueError, "got -1"),
    ("l2", np.inf, ValueError, "finite.*got inf"),
    ("l2", "a", TypeError, "number, got 'a'"),
    ("solver", "lbfgs", ValueError, "'adam', 'rmsprop'; got 'lbfgs'"),
    ("beta_1", 1.0, ValueError, r"in \[0, 1\), got 1.0"),
    ("beta_2", -0.1, ValueError, r"in \[0, 1\), got -0.1"),
    ("rms_decay", "a", TypeError, "number, got 'a'"),
    ("epsilon", 0, ValueError, "got 0"),
    ("centering", 1, TypeError, "True or False, got 1"),
    ("offset_rate", 1.1, ValueError, r"in \[0, 1\], got 1.1"),
    ("sparsity_target", 0.0, ValueError, r"in \(0, 1\), got 0.0"),
    ("sparsity_target", 1, ValueError, r"in \(0, 1\), got 1"),
    ("sparsity_target", "few", TypeError, "number, got 'few'"),
    ("sparsity_cost", -1.0, ValueError, "got -1.0"),
    ("sparsity_decay", 1.0, ValueError, r"in \[0, 1\), got 1.0"),
    ("max_norm", 0, ValueError, r"in \(0, inf\), got 0"),
    ("max_norm", "long", TypeError, "number, got 'long'"),
    ("n_temperatures", 1, ValueError, "at least 2, got 1"),
    ("fast_learning_rate", -0.1, ValueError, "got -0.1"),
    ("fast_decay", 1.0, ValueError, r"in \[0, 1\), got 1"),
    ("average", 1, ValueError, r"in \[0, 1\), got 1"),
    ("average", True, TypeError, "number, got True"),
    ("shuffle", "yes", TypeError, "True or False, got 'yes'"),
    ("metrics", None, ValueError, "True, False, 'likelihood'; got None"),
    ("metrics", "all", ValueError, "True, False, 'likelihood'; got 'all'"),
    ("inputs", "bits", ValueError, "'mean', 'sample'; got 'bits'"),
    ("init", "zeros", ValueError, "'normal', 'data'; got 'zeros'"),
    ("precision", "half", ValueError, "'auto', 'float32'; got 'half'"),
    ("device", "gpu", ValueError, "'cpu'.*got 'gpu'"),
    ("n_threads", 0, ValueError, "at least 1, got 0"),
    ("n_threads", "2", TypeError, "integer, got '2'"),
    ("callbacks", 3, TypeError, "functions of .*got 3"),
    ("callbacks", "abc", TypeError, "functions of .*got 'abc'"),
    ("callbacks", [print, None], TypeError, "functions of .*got None"),
    ("callbacks", harmonium.callbacks.Callback, TypeError, "got <class"),
]


@pytest.mark.parametrize(
    "name, value, error, message", BAD_PARAMETERS, ids=[f"{p[0]}={p[1]!r}" for p in BAD_PARAMETERS]
)
def test_bad_parameters_are_named(X, rbm, name, value, error, message):
    before = copy.deepcopy(vars(rbm))
    rbm.set_params(**{name: value})
    with pytest.raises(error, match=rf"{name} must be.*{message}"):
        rbm.fit(X)
    rbm.set_params(**{name: before[name]})
    assert_unchanged(rbm, before)
    with pytest.raises(error, match=rf"{name} must be.*{message}"):
        small(**{name: value}).partial_fit(X)


def test_numpy_scalars_are_welcome_as_parameters(X):
    numpy = {"n_components": np.int64(7), "learning_rate": F32(0.1), "shuffle": np.True_}
    plain = {"learning_rate": float(F32(0.1)), "shuffle": True}
    assert_same_fit(small(**numpy).fit(X), small(**plain).fit(X))


def assert_unchanged(rbm, before):
    after = dict(vars(rbm))
    assert after.keys() == before.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(after[name], value, err_msg=name)


REAL = np.full((6, N_VISIBLE), 0.5)


def spoilt(value):
    X = REAL.copy()
    X[2, 3] = value
    return X


BAD_ROWS = {
    "NaN": (spoilt(np.nan), ValueError, "NaN"),
    "inf": (spoilt(np.inf), ValueError, "infinity"),
    "-inf": (spoilt(-np.inf), ValueError, "infinity"),
    "above": (spoilt(1.5), ValueError, r"in \[0, 1\].* got values from 0.5 to 1.5.*MinMaxScaler"),
    "just above": (spoilt(1.00001), ValueError, r"in \[0, 1\]"),
    "below": (spoilt(-1e-5), ValueError, r"in \[0, 1\].* got values from -1e-05"),
    "int": (bits(5) * 3, ValueError, "0 or 1.* got values from 0 to 3"),
    "uint8": (bits(5).astype(np.uint8) * 255, ValueError, "0 or 1.* got values from 0 to 255"),
    "empty": (REAL[:0], ValueError, "0 sample"),
    "no columns": (REAL[:, :0], ValueError, "0 feature"),
    "1-D": (REAL[0], ValueError, "Expected 2D array, got 1D array"),
    "3-D": (REAL[None], ValueError, "dim 3"),
    "strings": (REAL.astype(str), ValueError, "numeric"),
    "objects": (np.full((5, N_VISIBLE), "a", object), ValueError, "could not convert.*'a'"),
    "complex": (REAL * 1j, ValueError, "[Cc]omplex"),
    "None": (None, ValueError, "2D array"),
    "sparse NaN": (scipy.sparse.csr_array(spoilt(np.nan)), ValueError, "NaN"),
    "sparse above": (scipy.sparse.csr_array(spoilt(2)), ValueError, "got values from 0.5 to 2"),
    "sparse below": (scipy.sparse.csc_array(spoilt(-1)), ValueError, "got values from -1"),
    "sparse duplicates": (
        scipy.sparse.csr_array(([1.0, 1.0], [3, 3], [0, 2, 2]), (2, N_VISIBLE)),
        ValueError,
        "got values from 2 to 2",
    ),
}


OUTSIDE = ("above", "just above", "below", "int", "uint8", "sparse above", "sparse below")


@pytest.mark.parametrize(
    "method, case",
    [
        *(
            (method, case)
            for method in ("fit", "partial_fit", "reconstruct", "gibbs")
            for case in BAD_ROWS
        ),
        *(
            (method, case)
            for method in ("transform", "free_energy", "score")
            for case in BAD_ROWS
            if case not in (*OUTSIDE, "sparse duplicates")
        ),
    ],
)
def test_bad_rows_are_refused_and_change_nothing(rbm, method, case):
    bad, error, message = BAD_ROWS[case]
    before = copy.deepcopy(vars(rbm))
    with pytest.raises(error, match=message):
        getattr(rbm, method)(bad)
    assert_unchanged(rbm, before)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_what_scaling_leaves_beyond_one_is_one(kind):
    X = spoilt(np.nextafter(1, 2))  # of MinMaxScaler
    X[0, 0] = -1e-17
    one, rounded = (small(n_components=5).fit(kind(x)) for x in (X, np.clip(X, 0, 1)))
    np.testing.assert_allclose(one.components_, rounded.components_, rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array, np.float32, np.int64])
def test_what_is_only_computed_takes_any_values(rbm, kind):
    """Test data scaled as training data were lie a little beyond their range."""
    v = np.random.default_rng(0).normal(0.5, 2, (6, N_VISIBLE))
    X = kind(v)
    v = X.toarray() if scipy.sparse.issparse(X) else np.float64(X)
    x = v @ rbm.components_.T + rbm.intercept_hidden_
    # float32 sums of 13 products of size 4: errors of 1e-6, of the free energy's some more.
    np.testing.assert_allclose(rbm.transform(X), expit(x), atol=1e-5)
    F = -v @ rbm.intercept_visible_ - np.logaddexp(0, x).sum(axis=1)
    np.testing.assert_allclose(rbm.free_energy(X), F, rtol=1e-5, atol=1e-4)
    assert np.all(np.isfinite(rbm.score_samples(X)))


@pytest.mark.parametrize("bad, error, message", BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_bad_held_out_rows_and_starts_are_named(rbm, X, bad, error, message):
    before = copy.deepcopy(vars(rbm))
    if bad is None:
        bad = "None"  # None is the default of both
    with pytest.raises(error, match=r"X_val[\s\S]*" + message):
        rbm.fit(X, X_val=bad)
    with pytest.raises(error, match=r"init[\s\S]*" + message):
        rbm.sample(5, init=bad)
    assert_unchanged(rbm, before)


def test_a_fit_of_another_width_that_fails_changes_nothing(rbm, X):
    before = copy.deepcopy(vars(rbm))
    for bad in (np.full((4, 5), 2.0), pd.DataFrame({"a": [0, 1], "b": [1, 7]})):
        with pytest.raises(ValueError, match="X must have all values"):
            rbm.fit(bad)
    with pytest.raises(ValueError, match=r"X_val.*4 features.*expecting 5"):
        rbm.fit(X[:, :5], X_val=X[:, :4])
    assert_unchanged(rbm, before)
    fresh = small()
    with pytest.raises(ValueError, match="X must have"):
        fresh.partial_fit(np.full((4, 5), 2.0))
    assert fresh.partial_fit(X).n_features_in_ == N_VISIBLE


@pytest.mark.parametrize(
    "method", ["partial_fit", "transform", "reconstruct", "gibbs", "free_energy", "score_samples"]
)
def test_another_width_is_refused(rbm, X, method):
    before = copy.deepcopy(vars(rbm))
    with pytest.raises(ValueError, match=f"X has 5 features.*expecting {N_VISIBLE} features"):
        getattr(rbm, method)(X[:, :5])
    assert_unchanged(rbm, before)


HIDDEN = np.full((4, N_HIDDEN), 0.5)


@pytest.mark.parametrize(
    "bad, message",
    [
        (HIDDEN * np.nan, "got values from nan"),
        (HIDDEN * np.inf, "got values from inf"),
        (HIDDEN * 3, "got values from 1.5 to 1.5"),
        (-HIDDEN, "got values from -0.5"),
        (HIDDEN[0], rf"{N_HIDDEN} columns.*\({N_HIDDEN},\)"),
        (HIDDEN[:, 1:], rf"{N_HIDDEN} columns.*\(4, {N_HIDDEN - 1}\)"),
        (HIDDEN[:0], rf"at least one row.*\(0, {N_HIDDEN}\)"),
        (HIDDEN.astype(object), "numbers.*got object"),
        (HIDDEN.astype(str), "numbers.*got <U"),
        (None, "numbers.*got object"),
    ],
)
def test_bad_hidden_rows_are_refused(rbm, bad, message):
    with pytest.raises(ValueError, match=rf"\bH\b.* must .*{message}"):
        rbm.inverse_transform(bad)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda rbm, X: rbm.gibbs(X, 0), ValueError, "n_steps must be at least 1, got 0"),
        (lambda rbm, X: rbm.gibbs(X, True), TypeError, "n_steps must be an integer, got True"),
        (lambda rbm, X: rbm.sample(0), ValueError, "n_samples must be at least 1, got 0"),
        (lambda rbm, X: rbm.sample(2.5), TypeError, "n_samples must be an integer, got 2.5"),
        (lambda rbm, X: rbm.sample(1, -1), ValueError, "n_steps must be at least 1, got -1"),
        (
            lambda rbm, X: rbm.sample(3, init=X[:2]),
            ValueError,
            "init must have n_samples=3 rows, got 2",
        ),
    ],
)
def test_bad_arguments_of_samplers(rbm, X, call, error, message):
    before = copy.deepcopy(vars(rbm))
    with pytest.raises(error, match=message):
        call(rbm, X)
    assert_unchanged(rbm, before)


@pytest.mark.parametrize(
    "call",
    [
        lambda rbm, X: rbm.transform(X),
        lambda rbm, X: rbm.inverse_transform(X[:, :N_HIDDEN]),
        lambda rbm, X: rbm.reconstruct(X),
        lambda rbm, X: rbm.gibbs(X),
        lambda rbm, X: rbm.sample(),
        lambda rbm, X: rbm.free_energy(X),
        lambda rbm, X: rbm.score_samples(X),
        lambda rbm, X: rbm.score(X),
        lambda rbm, X: rbm.get_feature_names_out(),
        lambda rbm, X: rbm.save("never"),
    ],
)
def test_use_before_fit(X, call):
    with pytest.raises(NotFittedError, match="BernoulliRBM instance is not fitted yet"):
        call(small(), X)


def test_sampling_can_be_interrupted():
    rbm = BernoulliRBM(256, n_iter=1, random_state=0, n_threads=1).fit(np.eye(256))
    timer = threading.Timer(0.1, signal.raise_signal, [signal.SIGINT])
    began = time.perf_counter()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        rbm.sample(100, n_steps=10**7)
    assert time.perf_counter() - began < 10  # all of it would take hours
    assert rbm.sample(2, n_steps=3).shape == (2, 256)


def test_parameters_set_by_hand():
    """As from another library's model: everything works but what needs a training's history."""
    fitted = BernoulliRBM(5, n_iter=2, random_state=0).fit(np.eye(7))
    rbm = BernoulliRBM(5)
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        setattr(rbm, name, getattr(fitted, name))
    np.testing.assert_array_equal(rbm.transform(np.eye(7)), fitted.transform(np.eye(7)))
    assert rbm.gibbs(np.eye(7)).shape == (7, 7)
    assert rbm.sample(3, n_steps=2).shape == (3, 7)
    assert np.isfinite(rbm.score(np.eye(7)))
