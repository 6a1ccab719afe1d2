"""Weights of rows: training by them is training on rows repeated, up to what is drawn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import reference as ref
import scipy.sparse
from layouts import random_bits, random_model, random_reals, same_bits
from sklearn.base import clone
from test_cd import Recipe, Training, reference_training
from test_resume import assert_same_run

from harmonium import DBN, BernoulliRBM
from harmonium.engine.protocol import RowTraits

X = random_bits(57, 11, seed=0)


def random_weights(n: int, seed: int) -> np.ndarray:
    """Of mean 1, over several orders of magnitude, a fifth of them zero."""
    rng = np.random.default_rng(seed)
    weights = rng.gamma(0.3, size=n) * (rng.random(n) > 0.2)
    return weights / weights.mean()


def small(**parameters: Any) -> BernoulliRBM:
    return BernoulliRBM(**{"n_components": 6, "n_iter": 3, "random_state": 0} | parameters)


RULES = [
    Recipe(),
    Recipe(k=3, n_chains=6),
    Recipe(momentum=0.5, n_chains=10, l2=1e-3),
    Recipe(batch_size=1),
    Recipe(batch_size=300, learning_rate=2.0),  # by rows, not by shares
    Recipe(n_labels=10),
]


@pytest.mark.parametrize("recipe", RULES, ids=str)
def test_many_updates_bit_for_bit(isa: str, recipe: Recipe) -> None:
    n = 643 if recipe.batch_size == 300 else 43
    v, weights = random_bits(n, 45, seed=1, p=0.3), random_weights(n, seed=2)
    weights[:10] = 0  # a minibatch of none
    order = np.random.default_rng(3).permutation(n)
    for order_of_rows in (None, order):
        state = recipe.start(*random_model(45, 67, seed=4, scale=0.1))
        training = Training(state, recipe, traits=RowTraits(weights)).run(v, order=order_of_rows)
        expected = reference_training(state, v, recipe, weights=weights, order=order_of_rows)[-1]
        assert training.equals(expected)
        assert not training.equals(reference_training(state, v, recipe, order=order_of_rows)[-1])


@pytest.mark.parametrize("n_threads", [2, 7])
def test_threads_do_not_matter(n_threads: int) -> None:
    v, weights = random_bits(60, 700, seed=5), random_weights(60, seed=6)
    recipe = Recipe(batch_size=20, n_chains=15)
    state = recipe.start(*random_model(700, 150, seed=7, scale=0.05))
    many = Recipe(batch_size=20, n_chains=15, n_threads=n_threads)
    one, other = (Training(state, r, traits=RowTraits(weights)).run(v) for r in (recipe, many))
    assert all(
        same_bits(a, b) for a, b in zip(one.arrays, other.arrays, strict=True) if a is not None
    )


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("is_real", [False, True], ids=["bits", "reals"])
@pytest.mark.parametrize("repeats", [1, 40], ids=["by shares", "by rows"])
def test_a_weight_is_so_many_rows(precision: str, is_real: bool, repeats: int) -> None:
    """One update with persistent chains, whose negative phase is the same both times.

    Fixed point is off by half of 1/32767 in p, and in the weight, which makes less than 2/32767 of
    the heaviest row in the mean, heaviest/mean being below 2.4; float32 by some 10^-6.
    """
    data = random_reals(12, 33, seed=8) if is_real else random_bits(12, 33, seed=8)
    counts = np.tile(np.random.default_rng(9).integers(0, 6, 12), repeats)
    data = np.tile(data, (repeats, 1))
    learned = []
    for rows, weights in (
        (data, counts / counts.mean()),
        (np.repeat(data, counts, axis=0), None),
        (data, None),
    ):
        recipe = Recipe(batch_size=len(rows), n_chains=4, learning_rate=1.0, precision=precision)
        state = recipe.start(*random_model(33, 20, seed=10, scale=0.3))
        training = Training(state, recipe, traits=RowTraits(weights))
        make = training.engine.rows_of_reals if is_real else training.engine.rows_of_bytes
        arrays = training.run(None, rows=make(rows)).arrays
        learned.append(np.concatenate([a.ravel() for a in arrays[:3]]))
    assert np.abs(learned[0] - learned[1]).max() < 5 / 32767
    assert np.abs(learned[0] - learned[2]).max() > 0.05


@pytest.mark.parametrize("init", ["normal", "data"])
def test_all_rows_of_a_batch_weighted_or_repeated(init: str) -> None:
    """The same by the estimator's own door: tolerances as above, the learning rate 0.1."""
    counts = np.arange(57) % 3
    fits = []
    for rows, weights in ((X, counts), (np.repeat(X, counts, axis=0), None)):
        rbm = small(batch_size=200, n_chains=5, n_iter=1, init=init)
        fits.append(rbm.fit(rows, sample_weight=weights))
    for name in ("components_", "intercept_hidden_", "intercept_visible_"):
        a, b = (getattr(rbm, name) for rbm in fits)
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4)


def test_weights_are_relative() -> None:
    weights = random_weights(57, seed=11)
    weighted = small().fit(X, sample_weight=weights)
    assert_same_run(small().fit(X, sample_weight=weights * 4), weighted)
    assert_same_run(small().fit(X, sample_weight=weights * 1e300), weighted)
    plain = small().fit(X)
    assert not np.array_equal(plain.components_, weighted.components_)
    for same in (np.full(57, 0.3), 2, np.ones(57, bool)):
        assert_same_run(small().fit(X, sample_weight=same), plain)


def test_any_form_of_weights_and_rows() -> None:
    weights = np.arange(57)
    whole = small().fit(X, sample_weight=weights)
    for rows in (X, scipy.sparse.csr_array(X), X.astype(np.uint8), pd.DataFrame(X).to_numpy()):
        for given in (weights, weights.tolist(), weights.astype(np.float32), pd.Series(weights)):
            assert_same_run(small().fit(rows, sample_weight=given), whole)


@pytest.mark.parametrize("inputs", ["mean", "sample"])
def test_rows_of_weight_zero_are_not_there(inputs: str) -> None:
    """Persistent chains never see the data: only the statistics do. (Metrics see all rows.)"""
    rows = random_reals(57, 11, seed=12) if inputs == "sample" else X
    weights = np.arange(57) % 4
    other = np.where(weights[:, None] == 0, 1 - rows, rows) if inputs == "sample" else None
    if other is None:
        other = rows ^ (weights[:, None] == 0)
    given = {"inputs": inputs, "metrics": False, "shuffle": True}
    assert_same_run(
        small(**given).fit(rows, sample_weight=weights),
        small(**given).fit(other, sample_weight=weights),
    )


def test_partial_fit_and_resume(tmp_path: Any) -> None:
    weights, path = random_weights(57, seed=13), tmp_path / "rbm.safetensors"
    assert_same_run(
        small().partial_fit(X, sample_weight=weights), small().partial_fit(X, None, weights * 2)
    )
    assert not np.array_equal(
        small().partial_fit(X, sample_weight=weights).components_,
        small().partial_fit(X).components_,
    )
    small(n_iter=2, shuffle=True).fit(X, sample_weight=weights).save(path)
    resumed = small(n_iter=5, shuffle=True).fit(X, sample_weight=weights, resume=path)
    assert_same_run(resumed, small(n_iter=5, shuffle=True).fit(X, sample_weight=weights))


@pytest.mark.parametrize("layer_inputs", ["sample", "mean"])
def test_a_stack_passes_weights_to_every_layer(layer_inputs: str) -> None:
    weights, y = random_weights(57, seed=13), np.arange(57) % 3
    given = {"rbm": small(), "random_state": 0, "layer_inputs": layer_inputs}
    dbn, plain = DBN((6, 4), **given), DBN((6, 4), **given)
    dbn.fit(X, sample_weight=weights)
    plain.fit(X)
    for rbm, without in zip(dbn.rbms_, plain.rbms_, strict=True):
        assert not np.array_equal(rbm.components_, without.components_)
    first = clone(dbn.rbms_[0]).fit(X, sample_weight=weights)
    np.testing.assert_array_equal(first.components_, dbn.rbms_[0].components_)
    fits = [
        DBN((6, 4), label_units=True, **given).partial_fit(X, y, range(3), sample_weight)
        for sample_weight in (weights, weights * 2, None)
    ]
    tops = [fit.rbms_[1].components_ for fit in fits]
    np.testing.assert_array_equal(tops[0], tops[1])
    assert not np.array_equal(tops[0], tops[2])
    with pytest.raises(ValueError, match="sample_weight must not be negative"):
        dbn.fit(X, sample_weight=-weights)


@pytest.mark.parametrize(
    "weights, message",
    [
        (np.ones(56), r"sample_weight.shape == \(56,\), expected \(57,\)"),
        (np.ones((57, 1)), "Sample weights must be 1D array or scalar, got 2D array"),
        (np.r_[-1.0, np.ones(56)], "sample_weight must not be negative, got values from -1 to 1"),
        (np.r_[np.nan, np.ones(56)], "sample_weight contains NaN"),
        (np.r_[np.inf, np.ones(56)], "sample_weight contains infinity"),
        (np.zeros(57), "zero"),
        (["heavy"] * 57, "could not convert string"),
    ],
)
def test_weights_that_do_not_fit(weights: Any, message: str) -> None:
    rbm = small().fit(X)
    before = rbm.components_.copy()
    for method in (rbm.fit, rbm.partial_fit):
        with pytest.raises(ValueError, match=message):
            method(X, sample_weight=weights)
    np.testing.assert_array_equal(rbm.components_, before)


def test_a_generators_numbers_take_no_weights() -> None:
    rbm = small(random_state=np.random.RandomState(0))
    for method in (rbm.fit, rbm.partial_fit):
        with pytest.raises(ValueError, match="sample_weight does not go with numbers drawn in"):
            method(X, sample_weight=np.ones(57))
    seeds = small(random_state=np.random.RandomState(0), algorithm="cd")
    seeds.fit(X, sample_weight=np.arange(57))  # a source of seeds


def test_small_weights_are_as_precise_as_their_minibatch() -> None:
    """Integers are relative to the heaviest of the minibatch, not of the data."""
    weights = np.where(np.arange(40) < 20, 1e-3, 1.0)
    weights /= weights.mean()
    recipe = Recipe(batch_size=20, n_chains=5, learning_rate=1.0)
    v = random_bits(40, 30, seed=14)
    state = recipe.start(*random_model(30, 20, seed=15, scale=0.1))
    training = Training(state, recipe, traits=RowTraits(weights)).run(v, count=20)
    none = ref.cd_update(state, v[:20], learning_rate=1.0, seed=recipe.seed, weights=np.zeros(20))
    p = ref.propup64(v[:20], state.W, state.c)
    exact = v[:20].T @ (p * weights[:20, None]) / 20
    # Half of 1/32767 in fixed point and 16-bit weights' error in p (below 10^-4), both of the
    # minibatch's weight, 0.002; and four roundings of weights below 1.
    error = np.abs(np.float64(training.arrays.W) - none.W - exact)
    assert error.max() < 0.002 * 1.2e-4 + 4 * 2**-25
    assert exact.max() > 5e-4
