"""Missing values: units that are sampled given those observed, not filled in."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import reference as ref
import scipy.sparse
from layouts import chi_square_p, packed, random_bits, random_model, same_bits, state_counts
from test_cd import Recipe, Training, reference_training
from test_resume import assert_same_run
from test_weights import random_weights

from harmonium import DBN, BernoulliRBM, load
from harmonium.callbacks import Callback
from harmonium.engine.protocol import RowTraits
from harmonium.evaluation import log_partition

NAN = np.nan
X = np.where(random_bits(57, 11, seed=0, p=0.3), NAN, random_bits(57, 11, seed=1))


def small(**parameters: Any) -> BernoulliRBM:
    given = {"n_components": 6, "n_iter": 3, "random_state": 0, "missing": "sample"}
    return BernoulliRBM(**given | parameters)


def states_of(words: np.ndarray, n_units: int) -> np.ndarray:
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, :n_units].astype(bool)


def completions_of(rbm: BernoulliRBM) -> np.ndarray | None:
    return rbm._carried.get("completions")


def assert_same_fit(one: BernoulliRBM, other: BernoulliRBM) -> None:
    assert_same_run(one, other)
    if completions_of(one) is None or completions_of(other) is None:
        assert completions_of(one) is completions_of(other)
    else:
        assert same_bits(completions_of(one), completions_of(other))


# --- The Trainer, bit for bit ---------------------------------------------------------------------

RULES = [
    Recipe(),
    Recipe(k=3, n_chains=6),
    Recipe(momentum=0.5, n_chains=10, l2=1e-3),
    Recipe(batch_size=1),
    Recipe(batch_size=300, learning_rate=2.0),
]


def incomplete(n: int, n_units: int, state: ref.CDState) -> tuple[np.ndarray, Any, ref.CDState]:
    """Rows, which of their units are observed, and a state with completions of them."""
    v, observed = random_bits(n, n_units, seed=2), random_bits(n, n_units, seed=3, p=0.7)
    observed[n // 3], observed[n // 2] = True, False
    return v & observed, observed, replace(state, completions=random_bits(n, n_units, seed=4))


@pytest.mark.parametrize("recipe", RULES, ids=str)
def test_many_updates_bit_for_bit(isa: str, recipe: Recipe) -> None:
    n = 320 if recipe.batch_size == 300 else 43
    state = recipe.start(*random_model(45, 67, seed=5, scale=0.3))
    v, observed, state = incomplete(n, 45, state)
    order, weights = np.random.default_rng(6).permutation(n), random_weights(n, seed=7)
    for of_rows in ({}, {"order": order, "weights": weights}):
        traits = RowTraits(of_rows.get("weights"), packed(observed))
        training = Training(state, recipe, traits=traits)
        training.run(None, order=of_rows.get("order"), rows=packed_rows(training, v))
        expected = reference_training(state, v, recipe, observed=observed, **of_rows)[-1]
        assert training.equals(expected)
        assert (expected.completions != state.completions)[~observed].any()
        assert np.array_equal(expected.completions[observed], v[observed])


def packed_rows(training: Training, v: np.ndarray) -> Any:
    return training.engine.rows_of_bits(packed(v), v.shape[1])


@pytest.mark.parametrize("n_threads", [2, 7])
def test_threads_do_not_matter(n_threads: int) -> None:
    recipe = Recipe(batch_size=20, n_chains=15)
    state = recipe.start(*random_model(700, 150, seed=8, scale=0.05))
    v, observed, state = incomplete(60, 700, state)
    arrays = []
    for r in (recipe, replace(recipe, n_threads=n_threads)):
        training = Training(state, r, traits=RowTraits(observed=packed(observed)))
        arrays.append(training.run(None, rows=packed_rows(training, v)).arrays)
    assert all(same_bits(a, b) for a, b in zip(*arrays, strict=True) if a is not None)


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_numbers_are_those_of_the_row_in_the_data(precision: str) -> None:
    """While the machine stands still, the order within a minibatch is nothing to a completion."""
    recipe = Recipe(batch_size=43, n_chains=3, learning_rate=0.0, precision=precision)
    v, observed, state = incomplete(43, 45, recipe.start(*random_model(45, 67, seed=9)))
    completions = []
    for order in (None, np.random.default_rng(10).permutation(43)):
        training = Training(state, recipe, traits=RowTraits(observed=packed(observed)))
        training.run(None, order=order, rows=packed_rows(training, v))
        completions.append(training.arrays.completions)
    assert same_bits(*completions)


# --- What completions are samples of --------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_completions_are_samples_given_what_is_observed(precision: str) -> None:
    """4000 independent rows of each pattern, after 40 Gibbs steps of a machine that stands still.

    χ² against enumeration: with a right program one p in 500 is below 0.002, and there are six.
    """
    W, b, c = random_model(5, 4, seed=11, scale=1.2)
    states = np.arange(32)[:, None] >> np.arange(5) & 1 == 1
    probabilities = np.exp(-ref.free_energy64(states, W, b, c))
    patterns = [[1, NAN, 0, NAN, NAN], [NAN] * 5, [0, 1, 1, 0, NAN]]
    data = np.repeat(np.array(patterns, np.float32), 4000, axis=0)
    observed, v = ~np.isnan(data), np.nan_to_num(data) > 0
    recipe = Recipe(
        batch_size=1000, n_chains=1, k=40, learning_rate=0.0, precision=precision, n_threads=2
    )
    state = replace(recipe.start(W, b, c), completions=random_bits(len(v), 5, seed=12))
    training = Training(state, recipe, traits=RowTraits(observed=packed(observed)))
    training.run(None, rows=packed_rows(training, v))
    completions = states_of(training.arrays.completions, 5)
    for n, pattern in enumerate(np.array(patterns)):
        seen = ~np.isnan(pattern)
        fits = (states[:, seen] == pattern[seen]).all(axis=1)
        counts = state_counts(completions[4000 * n : 4000 * (n + 1)])
        assert counts[~fits].sum() == 0
        assert chi_square_p(counts[fits], probabilities[fits]) > 0.002


def stripes(n: int, seed: int) -> np.ndarray:
    """3 × 4 pixels: a column is on with probability ½, and then a pixel flipped with 0.02."""
    rng = np.random.default_rng(seed)
    columns = np.tile(rng.random((n, 1, 4)) < 0.5, (1, 3, 1)).reshape(n, 12)
    return columns ^ (rng.random((n, 12)) < 0.02)


def log_likelihood(rbm: BernoulliRBM, rows: np.ndarray) -> float:
    return float(-rbm.free_energy(rows).mean()) - log_partition(rbm)


def test_learning_from_what_is_observed() -> None:
    """30 % are missing at random. The entropy of the stripes is 3.95 nats.

    Three seeds give -4.06 to -4.08 with all values, -4.03 to -4.11 with the 70 % observed, and
    -5.33 to -5.47 with NaN as zero.
    """
    rows, held_out = stripes(2000, seed=13), stripes(2000, seed=14)
    gaps = np.where(random_bits(*rows.shape, seed=15, p=0.3), NAN, rows)
    scores = {}
    for name, data in {"all": rows, "sample": gaps, "zero": np.nan_to_num(gaps)}.items():
        rbm = small(
            n_components=8,
            n_iter=100,
            learning_rate=lambda epoch: 0.1 if epoch < 60 else 0.02,
            n_chains=100,
            batch_size=20,
            shuffle=True,
            metrics=False,
            n_threads=1,
        )
        scores[name] = log_likelihood(rbm.fit(data), held_out)
    assert scores["sample"] > scores["all"] - 0.15
    assert scores["sample"] > scores["zero"] + 1


# --- The estimator --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"algorithm": "cd", "momentum": 0.5},
        {"batch_size": 400, "precision": "float32"},
        {"shuffle": True, "n_gibbs_steps": 3, "n_chains": 4, "init": "data"},
    ],
    ids=str,
)
def test_completions_have_what_is_observed(parameters: dict[str, Any]) -> None:
    rbm = small(**parameters).fit(X)
    completions, observed = states_of(completions_of(rbm), 11), ~np.isnan(X)
    np.testing.assert_array_equal(completions[observed], X[observed] == 1)
    assert 0.2 < completions[~observed].mean() < 0.8
    assert np.isfinite(rbm.history_["pseudo_likelihood"]).all()
    assert_same_fit(small(**parameters).fit(X.astype(np.float32).tolist()), rbm)
    other = small(**parameters).fit(np.nan_to_num(X))
    assert completions_of(other) is None
    assert not np.array_equal(other.components_, rbm.components_)


def test_without_nan_it_is_training_as_ever() -> None:
    for rows in (np.nan_to_num(X), random_bits(57, 11, seed=16) * 0.5, scipy.sparse.eye_array(11)):
        assert_same_fit(small().fit(rows), small(missing="error").fit(rows))


def test_the_first_completions_are_draws_by_the_visible_biases() -> None:
    """Bits of the reference, in rows of which nothing is known before the first update."""
    data = np.where(np.arange(57)[:, None] % 2, NAN, random_bits(57, 11, seed=17, p=0.8))
    data[:, 3] = NAN
    rbm = small(n_iter=0, init="data").fit(data)
    seen = data[::2]
    mean = np.full(11, 0.5)
    mean[~np.isnan(seen).any(axis=0)] = seen[:, ~np.isnan(seen).any(axis=0)].mean(axis=0)
    mean = np.clip(mean, 0.5 / 57, 1 - 0.5 / 57)
    np.testing.assert_allclose(rbm.intercept_visible_, np.log(mean / (1 - mean)), rtol=1e-5)
    p = np.tile(ref.sigmoid(rbm.intercept_visible_), (57, 1))
    drawn = ref.bernoulli(p, rbm._seed, stream=ref.STREAM_INPUT)
    assert same_bits(completions_of(rbm), packed(drawn))


def test_odds_are_drawn_anew_where_they_are_observed() -> None:
    """And refused where they would be means."""
    odds = np.where(np.isnan(X), NAN, 0.25 + 0.5 * np.nan_to_num(X))
    rbm = small(inputs="sample").fit(odds)
    assert np.isfinite(rbm.components_).all()
    before = completions_of(rbm).copy()
    kept = completions_of(small(inputs="sample", n_iter=4).fit(odds))
    assert not np.array_equal(before, kept)
    for method in (small().fit, small().partial_fit):
        with pytest.raises(ValueError, match=r'X must be zeros and ones where missing="sample"'):
            method(odds)


@pytest.mark.parametrize("inputs", ["mean", "sample"])
@pytest.mark.parametrize("first", [0, 2])
def test_a_resumed_run_equals_the_uninterrupted_one(tmp_path: Any, inputs: str, first: int) -> None:
    path, weights = tmp_path / "rbm.safetensors", random_weights(57, seed=18)
    data = X * 0.9 if inputs == "sample" else X
    given = {"inputs": inputs, "shuffle": True, "momentum": 0.5, "n_gibbs_steps": 2}
    whole = small(n_iter=5, **given).fit(data, sample_weight=weights)
    small(n_iter=first, **given).fit(data, sample_weight=weights).save(path)
    resumed = small(n_iter=5, **given).fit(data, sample_weight=weights, resume=path)
    assert_same_fit(resumed, whole)
    assert_same_fit(pickle.loads(pickle.dumps(resumed)), load_after_save(whole, path))


def load_after_save(rbm: BernoulliRBM, path: Any) -> BernoulliRBM:
    rbm.save(path)
    return load(path)


def test_resumed_in_the_middle_of_an_epoch(tmp_path: Any) -> None:
    data = np.where(random_bits(40_000, 30, seed=19, p=0.2), NAN, random_bits(40_000, 30, seed=20))
    given = {"n_iter": 2, "shuffle": True, "n_threads": 1, "metrics": False}

    class Interrupt(Callback):
        def on_progress(self, estimator: Any, epoch: int, fraction: float) -> None:
            if epoch == 1 and 0.1 < fraction < 1:
                raise KeyboardInterrupt

    broken = small(callbacks=Interrupt(), **given)
    with pytest.raises(KeyboardInterrupt):
        broken.fit(data)
    assert 0 < broken._rows_done < len(data)
    broken.save(tmp_path / "broken.safetensors")
    resumed = small(**given).fit(data, resume=tmp_path / "broken.safetensors")
    assert_same_fit(resumed, small(**given).fit(data))


def test_other_rows_than_the_files_are_refused(tmp_path: Any) -> None:
    path = tmp_path / "rbm.safetensors"
    small(n_iter=1).fit(X).save(path)
    for other, wanted in ((X[:50], 50), (np.nan_to_num(X), 0)):
        with pytest.raises(ValueError, match=f"completions of 57 rows .* asks for {wanted}"):
            small().fit(other, resume=path)
    small(n_iter=1).fit(np.nan_to_num(X)).save(path)
    with pytest.raises(ValueError, match=r"completions of 0 rows .* asks for 57"):
        small().fit(X, resume=path)
    with pytest.raises(ValueError, match="missing='sample', but this estimator has missing='err"):
        small(missing="error").fit(np.nan_to_num(X), resume=path)


def test_partial_fit_begins_completions_anew() -> None:
    one, other = small(), small()
    for _ in range(3):
        one.partial_fit(X)
    other.partial_fit(X).partial_fit(X)
    assert completions_of(other) is None
    assert_same_fit(other.partial_fit(X), one)
    assert not np.array_equal(small().partial_fit(X).components_, other.components_)
    after_fit = small().fit(X).partial_fit(X[:20])
    assert np.isfinite(after_fit.components_).all()


def test_a_divergence_brings_completions_back() -> None:
    rbm = small(learning_rate=1e39)
    with pytest.raises(FloatingPointError, match="diverged in epoch 1"):
        rbm.fit(X)
    begun = small(n_iter=0).fit(X)
    assert_same_fit_but_history(rbm, begun)


def assert_same_fit_but_history(one: BernoulliRBM, other: BernoulliRBM) -> None:
    np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(completions_of(one), completions_of(other))


def test_what_still_refuses_nan() -> None:
    rbm = small().fit(X)
    for method in (rbm.transform, rbm.gibbs, rbm.free_energy, rbm.score_samples, rbm.reconstruct):
        with pytest.raises(ValueError, match="NaN"):
            method(X)
    with pytest.raises(ValueError, match="X_val: Input X contains NaN"):
        rbm.fit(X, X_val=X)
    for method in (small(missing="error").fit, DBN(3, rbm=small()).fit):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            method(X)
    with pytest.raises(ValueError, match=r"X is sparse and holds NaN.*X\.toarray\(\) is one"):
        rbm.fit(scipy.sparse.csr_array(np.where(np.isnan(X), NAN, 0)))
    with pytest.raises(ValueError, match="missing must be one of 'error', 'sample'; got 'mean'"):
        small(missing="mean").fit(X)


@pytest.mark.parametrize("wrong", [np.inf, -1.0, 2.0])
def test_values_beside_nan_are_checked(wrong: float) -> None:
    data = X.copy()
    data[4, 5] = wrong
    with pytest.raises(ValueError, match="infinity" if wrong == np.inf else "0, 1"):
        small().fit(data)


def test_tags_and_generators() -> None:
    assert small().__sklearn_tags__().input_tags.allow_nan
    assert not small(missing="error").__sklearn_tags__().input_tags.allow_nan
    # A parameter that scikit-learn's class has not: the generator is a source of seeds.
    seeded = small(random_state=np.random.RandomState(0)).fit(X)
    assert seeded._generator_state is None
    assert_same_fit(seeded, small().fit(X))
