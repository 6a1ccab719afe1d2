"""The DBN and the deep autoencoder: stacking, going up and down, samples."""

import dataclasses

import numpy as np
import pytest
import reference as ref
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from harmonium import (
    DBN,
    BernoulliRBM,
    DBNClassifier,
    DeepAutoencoder,
    SoftmaxRegression,
    ops,
)
from harmonium.callbacks import Callback
from harmonium.engine.protocol import Stream
from harmonium.evaluation import log_partition

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
BITS = X > 0.5
LAYER = BernoulliRBM(n_iter=3, algorithm="cd", learning_rate=0.1)


def fitted(**parameters):
    given = {"hidden_layer_sizes": (20, 12, 7), "rbm": LAYER, "random_state": 0} | parameters
    return DBN(**given).fit(BITS)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def assert_same_layers(one, other):
    assert len(one.rbms_) == len(other.rbms_)
    for a, b in zip(one.rbms_, other.rbms_, strict=True):
        assert a._n_labels == b._n_labels
        np.testing.assert_array_equal(a.components_, b.components_)
        np.testing.assert_array_equal(a.intercept_hidden_, b.intercept_hidden_)
        np.testing.assert_array_equal(a.intercept_visible_, b.intercept_visible_)


# ---------------------------------------------------------------------------------- stacking


def test_the_lowest_layer_is_an_rbm_on_the_data():
    dbn = fitted()
    alone = BernoulliRBM(**dbn.rbms_[0].get_params(deep=False)).fit(BITS)
    np.testing.assert_array_equal(alone.components_, dbn.rbms_[0].components_)
    assert alone.history_.keys() == dbn.rbms_[0].history_.keys()


def test_layers_above_are_trained_on_samples_drawn_afresh():
    # One epoch at a time by hand: the states of epoch e are drawn at step e, in stream LAYER.
    dbn = fitted(hidden_layer_sizes=(20, 12), rbm=BernoulliRBM(n_iter=2, shuffle=True))
    lower, upper = dbn.rbms_
    p = lower.transform(BITS.astype(np.float32))
    twin = BernoulliRBM(**upper.get_params(deep=False)).set_params(n_iter=1)
    states = [
        ops.sample_bernoulli(p, lower._seed, step=epoch, stream=Stream.LAYER) for epoch in range(2)
    ]
    assert (states[0] != states[1]).any()
    twin.fit(states[0])
    # The second epoch: the first one's state goes on with other rows.
    twin.n_iter = 2
    from harmonium._visible import validate_units
    from harmonium.engine import get_engine

    engine = get_engine()
    data = validate_units(twin, states[1], engine)
    twin._training(engine, data, lambda epoch: data.rows, saved=twin).run()
    np.testing.assert_array_equal(twin.components_, upper.components_)


def test_layers_above_are_trained_on_means():
    dbn = fitted(hidden_layer_sizes=(20, 12), layer_inputs="mean")
    lower, upper = dbn.rbms_
    twin = BernoulliRBM(**upper.get_params(deep=False)).fit(lower.transform(BITS))
    # Real values: sums in float32, whose order depends on the number of threads alone.
    np.testing.assert_allclose(twin.components_, upper.components_, rtol=1e-4, atol=1e-6)


def test_the_lowest_layer_may_draw_its_inputs_from_real_values():
    """Then the layers above are trained on states drawn from those, with any number of threads."""
    grey = np.random.default_rng(8).random((40, 30)) * BITS[:40, :1]
    rbm = BernoulliRBM(n_iter=1, inputs="sample")
    dbn = DBN((20, 12), rbm=rbm, random_state=0, n_threads=1).fit(grey)
    assert_same_layers(dbn, DBN((20, 12), rbm=rbm, random_state=0, n_threads=3).fit(grey))
    lower, upper = dbn.rbms_
    twin = BernoulliRBM(**lower.get_params(deep=False)).fit(grey)
    np.testing.assert_array_equal(twin.components_, lower.components_)
    drawn = ref.bernoulli(grey.astype(np.float32), lower._seed, stream=ref.STREAM_INPUT)
    W, c = lower.components_.T.astype(np.float32), lower.intercept_hidden_.astype(np.float32)
    states, _ = ref.half_step_up(drawn, W, c, lower._seed, stream=ref.STREAM_LAYER)
    twin = BernoulliRBM(**upper.get_params(deep=False)).fit(states)
    np.testing.assert_array_equal(twin.components_, upper.components_)


def test_one_size_and_prototypes():
    assert len(fitted(hidden_layer_sizes=9).rbms_) == 1
    rbms = (BernoulliRBM(n_iter=1), BernoulliRBM(n_iter=2, algorithm="cd"))
    dbn = fitted(hidden_layer_sizes=(9, 8), rbm=rbms)
    assert [rbm.n_iter_ for rbm in dbn.rbms_] == [1, 2]
    assert fitted(rbm=None, hidden_layer_sizes=[5]).rbms_[0].n_iter_ == 10


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_leave_bits_alone(n_threads):
    assert_same_layers(fitted(n_threads=3), fitted(n_threads=n_threads))


def test_kinds_of_rows_give_the_same():
    dbn = fitted()
    for rows in (BITS.astype(np.float64), BITS.astype(np.uint8), scipy.sparse.csr_array(BITS)):
        assert_same_layers(dbn, DBN(**dbn.get_params(deep=False)).fit(rows))


def test_partial_fit():
    dbn = DBN((20, 12), rbm=LAYER, random_state=0)
    for part in np.array_split(BITS, 9):
        dbn.partial_fit(part)
    assert [rbm.n_iter_ for rbm in dbn.rbms_] == [9, 9]
    first = BernoulliRBM(**dbn.rbms_[0].get_params(deep=False))
    for part in np.array_split(BITS, 9):
        first.partial_fit(part)
    np.testing.assert_array_equal(first.components_, dbn.rbms_[0].components_)
    assert dbn.transform(BITS).shape == (len(BITS), 12)


def test_diverged_layer_is_named_and_those_below_are_kept():
    rbms = [LAYER, BernoulliRBM(n_iter=5, learning_rate=3e38, momentum=0.9), LAYER]
    dbn = DBN((20, 12, 7), rbm=rbms, random_state=0)
    with pytest.raises(FloatingPointError, match=r"layer 2 of 3 \(20-12\): training diverged"):
        dbn.fit(BITS)
    assert len(dbn.rbms_) == 2
    assert np.isfinite(dbn.transform(BITS)).all()


def test_callbacks_see_the_dbn_and_each_layer():
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, estimator, epoch, metrics):
            seen.append((self.title, epoch, len(estimator.rbms_), "pseudo_likelihood" in metrics))

    fitted(hidden_layer_sizes=(9, 8), rbm=BernoulliRBM(n_iter=2), callbacks=[Watch()])
    first, second = "layer 1 of 2 (64-9)", "layer 2 of 2 (9-8)"
    assert seen == [(first, 1, 1, True), (first, 2, 1, True),
                    (second, 1, 2, True), (second, 2, 2, True)]  # fmt: skip


def test_a_prototypes_callback_stops_its_layer():
    rbm = BernoulliRBM(n_iter=5, callbacks=lambda rbm, epoch, metrics: epoch == 2)
    assert [rbm.n_iter_ for rbm in fitted(rbm=rbm).rbms_] == [2, 2, 2]


def test_held_out_rows():
    dbn = DBN((9, 8), rbm=LAYER, random_state=0).fit(BITS[:1000], X_val=BITS[1000:])
    for rbm in dbn.rbms_:
        assert "val_pseudo_likelihood" in rbm.history_


# ------------------------------------------------------------------------------ up and down


@pytest.mark.parametrize("dtype", [np.float32, np.float64, bool])
@pytest.mark.parametrize("layer", [None, 1, 2, 3, -1, -2])
def test_up_and_down_are_the_formulas(dtype, layer):
    dbn = fitted()
    rows = BITS.astype(dtype)
    count = {None: 3, -1: 3, -2: 2}.get(layer, layer)
    h = BITS.astype(np.float64)
    for rbm in dbn.rbms_[:count]:
        h = sigmoid(h @ rbm.components_.T.astype(np.float64) + rbm.intercept_hidden_)
    codes = dbn.transform(rows, layer=layer)
    # 16-bit weights, then sums of float32.
    np.testing.assert_allclose(codes, h, atol=1e-4)
    assert codes.dtype == (np.float64 if dtype == np.float64 else np.float32)
    v = h
    for rbm in dbn.rbms_[count - 1 :: -1]:
        v = sigmoid(v @ rbm.components_.astype(np.float64) + rbm.intercept_visible_)
    np.testing.assert_allclose(dbn.inverse_transform(codes, layer=layer), v, atol=1e-3)
    np.testing.assert_allclose(dbn.reconstruct(rows, layer=layer), v, atol=1e-3)


@pytest.mark.parametrize("layer", [0, 4, -4, 1.0])
def test_layers_that_are_not_there(layer):
    with pytest.raises((ValueError, TypeError), match="layer must be"):
        fitted().transform(BITS, layer=layer)


def test_samples_have_the_models_distribution():
    dbn, v = small_dbn((3, 2)), states_of(4)
    p_v = np.exp(log_likelihood(dbn)[0])
    n = 40_000
    drawn = dbn.sample(n, n_steps=50)
    counts = np.bincount(drawn @ (1 << np.arange(4)), minlength=16)
    chi2 = np.sum((counts - n * p_v) ** 2 / (n * p_v))
    assert chi2 < 45  # 15 degrees of freedom: above in one of 10 000 runs
    mean = dbn.sample(n, n_steps=50, return_probabilities=True).mean(axis=0)
    np.testing.assert_allclose(mean, p_v @ v, atol=0.01)  # four standard errors and more


def test_samples_are_drawn_anew_and_reproducible():
    one, other = fitted(), fitted()
    first, second = one.sample(5, 3), one.sample(5, 3)
    assert (first != second).any()
    np.testing.assert_array_equal(first, other.sample(5, 3))
    np.testing.assert_array_equal(second, other.sample(5, 3))
    fixed = one.sample(5, 3, random_state=1)
    np.testing.assert_array_equal(one.sample(5, 3, random_state=1), fixed)
    assert (one.sample(5, 3, random_state=2) != fixed).any()
    one._n_sampled = 2**40  # after many calls
    assert one.sample(5, 3).shape == (5, 64)
    started = one.sample(5, 1, init=BITS[:5])
    assert started.shape == (5, 64)
    assert started.dtype == np.bool_
    with pytest.raises(ValueError, match="init must have n_samples=5 rows, got 4"):
        one.sample(5, init=BITS[:4])


# --------------------------------------------------------------------------------- the bound


def small_dbn(sizes, n_visible=4, scale=1.5):
    """A DBN that can be enumerated, with random parameters."""
    rng = np.random.default_rng(0)
    dbn = DBN(sizes, rbm=BernoulliRBM(n_iter=1), random_state=0)
    dbn.fit(rng.random((50, n_visible)) < 0.5)
    for rbm in dbn.rbms_:
        rbm.components_ = rng.normal(0, scale, rbm.components_.shape).astype(np.float32)
        rbm.intercept_hidden_ = rng.normal(0, 1, rbm.intercept_hidden_.shape).astype(np.float32)
        rbm.intercept_visible_ = rng.normal(0, 1, rbm.intercept_visible_.shape).astype(np.float32)
    return dbn


def states_of(n):
    return (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(np.float32)


def log_likelihood(dbn):
    """log p(v) of all states of the visible units of a DBN with two layers, enumerated."""
    lower, top = dbn.rbms_
    h, v = states_of(lower.n_components), states_of(dbn.n_features_in_)
    log_p_h = -top.free_energy(h) - np.logaddexp.reduce(-top.free_energy(h))
    x = h.astype(np.float64) @ lower.components_ + lower.intercept_visible_
    log_p = v @ x.T - np.sum(np.logaddexp(0, x), axis=1)
    return np.logaddexp.reduce(log_p + log_p_h, axis=1), log_p + log_p_h


def test_one_layers_bound_is_the_likelihood():
    dbn = small_dbn((3,))
    v = states_of(4)
    assert np.exp(dbn.score_samples(v)).sum() == pytest.approx(1, abs=1e-4)
    expected = -dbn.rbms_[0].free_energy(v) - log_partition(dbn.rbms_[0])
    np.testing.assert_allclose(dbn.score_samples(v), expected)
    assert dbn.score(v) == pytest.approx(expected.mean())


def test_bound_is_below_the_likelihood_by_what_q_misses():
    dbn = small_dbn((3, 2), scale=1.0)
    v, h = states_of(4), states_of(3)
    exact, joint = log_likelihood(dbn)
    q = sigmoid(v @ dbn.rbms_[0].components_.T + dbn.rbms_[0].intercept_hidden_)
    log_q = h @ np.log(q).T + (1 - h) @ np.log1p(-q).T  # 8 × 16
    expected = np.sum(np.exp(log_q.T) * (joint - log_q.T), axis=1)
    assert (expected <= exact + 1e-9).all()
    # A mean over 2000 draws: the standard deviation of one is below 2 nats.
    np.testing.assert_allclose(dbn.score_samples(v, n_draws=2000), expected, atol=5 * 2 / 2000**0.5)
    given = dbn.score_samples(v, log_partition=log_partition(dbn.rbms_[-1]) + 1)
    np.testing.assert_allclose(given, dbn.score_samples(v) - 1)


def test_log_partition_counts_all_states():
    for shape in ((4, 3), (3, 4), (17, 3), (3, 17)):
        rbm = BernoulliRBM(shape[1], n_iter=1).fit(np.eye(shape[0], dtype=bool))
        rng = np.random.default_rng(0)
        rbm.components_ = rng.normal(0, 1, shape[::-1]).astype(np.float32)
        rbm.intercept_visible_ = rng.normal(0, 1, shape[0]).astype(np.float32)
        expected = np.logaddexp.reduce(-rbm.free_energy(states_of(shape[0])))
        assert log_partition(rbm) == pytest.approx(expected, abs=1e-4)
    big = BernoulliRBM(26, n_iter=1).fit(np.eye(30, dtype=bool))
    with pytest.raises(ValueError, match="30 visible and 26 hidden"):
        log_partition(big)


# ---------------------------------------------------------------------- labels and up-down


LABELLED = DBN((40, 30, 60), rbm=BernoulliRBM(n_iter=30, algorithm="cd", learning_rate=0.1),
               label_units=True, random_state=0)  # fmt: skip


@pytest.fixture(scope="module")
def labelled():
    names = np.array(list("zabcdefghi"))[Y]
    return DBN(**LABELLED.get_params(deep=False)).fit(BITS, names), names


def test_labels_are_known_by_free_energy(labelled):
    dbn, names = labelled
    assert dbn.rbms_[-1].n_features_in_ == 30 + 10
    p = dbn.predict_proba(BITS)
    assert p.shape == (len(BITS), 10)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    # By the definition: the topmost RBM's free energy with each label's unit on.
    below = np.asarray(dbn.transform(BITS[:50], layer=2), np.float64)
    energies = [
        dbn.rbms_[-1].free_energy(np.concatenate([below, np.tile(row, (50, 1))], axis=1))
        for row in np.eye(10)
    ]
    expected = np.exp(-np.array(energies).T)
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(p[:50], expected, atol=1e-3)
    assert dbn.score(BITS, names) > 0.8
    assert set(dbn.predict(BITS)) <= set(names)
    assert dbn.transform(BITS).shape == (len(BITS), 60)
    assert dbn.inverse_transform(dbn.transform(BITS)).shape == BITS.shape


def test_samples_of_a_class_look_like_it(labelled):
    dbn, names = labelled
    judge = SoftmaxRegression(batch_size=20, random_state=0).fit(BITS, names)
    wanted = np.repeat(dbn.classes_, 20)
    drawn = dbn.sample(200, 100, label=wanted)
    assert np.mean(judge.predict(drawn) == wanted) > 0.4  # 0.1 by chance
    np.testing.assert_array_equal(dbn.sample(3, 5, label="a").shape, (3, 64))
    with pytest.raises(ValueError, match=r"not among the 10 known: 'q'"):
        dbn.sample(3, 5, label="q")
    with pytest.raises(ValueError, match="one class or n_samples=3 of them"):
        dbn.sample(3, 5, label=["a", "b"])


def test_samples_have_the_distribution_of_their_label_or_of_all():
    # Small enough to enumerate: p(h | k) of the topmost RBM, then p(v | h).
    rng = np.random.default_rng(1)
    dbn = DBN((3, 2), rbm=BernoulliRBM(n_iter=1), label_units=True, random_state=0)
    dbn.fit(rng.random((50, 4)) < 0.5, rng.integers(0, 2, 50))
    for rbm in dbn.rbms_:
        rbm.components_ = rng.normal(0, 2, rbm.components_.shape).astype(np.float32)
    lower, top = dbn.rbms_
    # Two labels on at once, which they would like to be, would turn a unit on that turns h.
    top.components_[0] = [3, -3, 3, 4, 4]
    top.intercept_hidden_[0], top.intercept_visible_[3:] = -6, 2
    h = states_of(3)
    on = sigmoid(h @ lower.components_ + lower.intercept_visible_)
    labels = np.eye(2, dtype=np.float32)
    p_h = [
        np.exp(-top.free_energy(np.concatenate([h, np.tile(label, (8, 1))], axis=1)))
        for label in labels
    ]
    for k, p in ((0, p_h[0]), (1, p_h[1]), (None, p_h[0] + p_h[1])):
        n = 20_000
        mean = dbn.sample(n, 50, label=k, return_probabilities=True).mean(axis=0)
        np.testing.assert_allclose(mean, p @ on / p.sum(), atol=0.015)  # 4 standard errors


def test_labels_are_a_softmax_group_when_the_topmost_rbm_learns(labelled):
    dbn, _ = labelled
    top = dbn.rbms_[-1]
    v = top.sample(200, 20)
    assert (v[:, -10:].sum(axis=1) == 1).all()
    p = top.inverse_transform(top.transform(v))[:, -10:]
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    with pytest.raises(ValueError, match="log Z is of machines without labels"):
        log_partition(top)


def test_one_update_with_labels_is_the_twins():
    """By fit, by partial_fit and by the up-down algorithm, which with one layer is CD alone."""
    layer = BernoulliRBM(n_iter=1, batch_size=40, algorithm="cd")
    x, y = BITS[:40], Y[:40]
    v = np.concatenate([x, np.eye(10, dtype=bool)[y]], axis=1)

    def new():
        return DBN((12,), rbm=layer, label_units=True, random_state=0)

    start = new().set_params(rbm=BernoulliRBM(n_iter=0)).fit(x, y).rbms_[0]
    state = ref.CDState.start(
        start.components_.T, start.intercept_visible_, start.intercept_hidden_
    )
    expected = ref.cd_update(state, v, learning_rate=0.1, seed=start._seed, n_labels=10)
    for one in (new().fit(x, y), new().partial_fit(x, y, classes=np.arange(10))):
        np.testing.assert_array_equal(one.rbms_[0].components_.T, expected.W)
    one = new().fit(x, y)
    one.fit_up_down(
        x, y, n_iter=1, learning_rate=0.1, batch_size=40, n_gibbs_steps=2, shuffle=False
    )
    expected = dataclasses.replace(expected, n_updates=0)
    expected = ref.cd_update(expected, v, learning_rate=0.1, seed=one._seed, k=2, n_labels=10)
    np.testing.assert_array_equal(one.rbms_[0].components_.T, expected.W)


def test_an_rbm_with_labels_goes_on_from_its_file(labelled, tmp_path):
    top = labelled[0].rbms_[-1]
    top.save(tmp_path / "top.safetensors")
    v = top.sample(100, 20)
    other = clone(top).set_params(n_iter=31).fit(v, resume=tmp_path / "top.safetensors")
    assert (other.sample(100, 20)[:, -10:].sum(axis=1) == 1).all()
    assert other.fit(v)._n_labels == 0  # which are units like others, as far as it is told


def test_without_label_units_classes_are_unknown():
    dbn = fitted()
    assert not hasattr(dbn, "predict")
    assert not hasattr(dbn, "predict_proba")
    with pytest.raises(ValueError, match="label needs a DBN with label_units=True"):
        dbn.sample(2, 3, label=1)
    with pytest.raises(ValueError, match="requires y to be passed"):
        DBN((5,), label_units=True).fit(BITS)
    with pytest.raises(TypeError, match="label_units must be True or False"):
        DBN((5,), label_units=1).fit(BITS, Y)


def test_labelled_partial_fit():
    dbn = DBN((9, 8), rbm=LAYER, label_units=True, random_state=0)
    with pytest.raises(ValueError, match="classes must be passed"):
        dbn.partial_fit(BITS, Y)
    dbn.partial_fit(BITS[:50], Y[:50], classes=np.arange(10)).partial_fit(BITS[:3], Y[:3])
    assert dbn.predict_proba(BITS).shape == (len(BITS), 10)


def test_up_down_raises_the_bound():
    # A greedy DBN that was hardly trained: the bound of the data must rise.
    bits = BITS[:, 20:44]
    dbn = DBN((12, 8), rbm=BernoulliRBM(n_iter=2, algorithm="cd"), random_state=0).fit(bits)
    before = dbn.score(bits)
    rbms = [rbm.components_.copy() for rbm in dbn.rbms_]
    dbn.fit_up_down(bits, n_iter=30, learning_rate=0.02)
    assert dbn.score(bits) > before + 0.5
    assert not np.array_equal(dbn.recognition_[0][0], dbn.generation_[0][0].T)
    np.testing.assert_array_equal(dbn.rbms_[0].components_, rbms[0])  # as greedily trained
    assert not np.array_equal(dbn.rbms_[1].components_, rbms[1])
    assert dbn.up_down_history_["epoch"] == list(range(1, 31))
    assert dbn.up_down_history_["loss"][-1] < dbn.up_down_history_["loss"][0]


def test_up_down_begins_at_the_greedy_weights():
    dbn = fitted()
    codes, rows = dbn.transform(BITS), dbn.reconstruct(BITS)
    dbn.fit_up_down(BITS, n_iter=0)
    np.testing.assert_array_equal(dbn.transform(BITS), codes)
    np.testing.assert_array_equal(dbn.reconstruct(BITS), rows)
    dbn.fit(BITS)
    assert not hasattr(dbn, "recognition_")


def test_up_down_with_labels(labelled):
    names = labelled[1]
    dbn = DBN(**LABELLED.get_params(deep=False)).fit(BITS, names)
    before = dbn.score(BITS, names)
    dbn.fit_up_down(BITS, names, X_val=BITS[:500], y_val=names[:500], n_iter=15)
    assert dbn.score(BITS, names) > before
    errors = dbn.up_down_history_["val_error"]
    assert errors[-1] == pytest.approx(1 - dbn.score(BITS[:500], names[:500]))


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("labels", [False, True])
def test_up_down_resumes_to_the_bit(n_threads, labels, tmp_path):
    path = tmp_path / "dbn.safetensors"

    class Die(Callback):
        def on_epoch_end(self, estimator, epoch, metrics):
            if self.title == "up-down" and epoch == 2:
                estimator.save(path)
                raise KeyboardInterrupt

    def run(callbacks=None, resume=None, seed=3):
        dbn = DBN((12, 9), rbm=LAYER, label_units=labels, random_state=seed, n_threads=n_threads,
                  callbacks=callbacks)  # fmt: skip
        if resume is None:
            dbn.fit(BITS[:300], Y[:300])
        return dbn.fit_up_down(
            BITS[:300], Y[:300], n_iter=4, n_gibbs_steps=lambda epoch: 1 + epoch, resume=resume
        )

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(Die())
    resumed = run(resume=path, seed=8)
    for one, other in ((whole.recognition_, resumed.recognition_),
                       (whole.generation_, resumed.generation_)):  # fmt: skip
        for (W, bias), (V, other_bias) in zip(one, other, strict=True):
            np.testing.assert_array_equal(W, V)
            np.testing.assert_array_equal(bias, other_bias)
    assert_same_layers(whole, resumed)
    assert whole.up_down_history_["loss"] == resumed.up_down_history_["loss"]


def test_up_down_that_diverged():
    dbn = fitted()
    with pytest.raises(FloatingPointError, match=r"training diverged in epoch 1: .*=1e\+38"):
        dbn.fit_up_down(X, n_iter=5, learning_rate=lambda epoch: 1e38)
    assert np.isfinite(dbn.transform(BITS)).all()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"n_iter": -1}, "n_iter must be at least 0"),
        ({"learning_rate": 0}, "learning_rate must be"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"n_gibbs_steps": 0}, "n_gibbs_steps must be at least 1"),
        ({"n_gibbs_steps": lambda epoch: 0}, "n_gibbs_steps must be at least 1"),
    ],
)
def test_up_down_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        fitted().fit_up_down(BITS, **options)


# -------------------------------------------------------------------------------- autoencoder


def test_autoencoder_beats_pca():
    train, test = X[:1200], X[1200:]
    model = DeepAutoencoder(
        (100, 10), code_activation="identity", rbm=LAYER, random_state=0, max_iter=60,
        batch_size=20, learning_rate=0.01, n_threads=1,
    ).fit(train)  # fmt: skip
    pca = PCA(10).fit(train)
    theirs = np.mean((pca.inverse_transform(pca.transform(test)) - test) ** 2)
    ours = np.mean((model.reconstruct(test) - test) ** 2)
    assert ours < 0.75 * theirs  # 0.013 and 0.021


@pytest.mark.parametrize("code", ["sigmoid", "identity"])
def test_autoencoder_is_its_formulas(code):
    model = DeepAutoencoder(
        (20, 5), code_activation=code, rbm=LAYER, random_state=0, max_iter=3
    ).fit(X)
    values = X.astype(np.float64)
    for at, (W, c) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        values = values @ W.astype(np.float64) + c
        if not (at == 1 and code == "identity"):
            values = sigmoid(values)
        if at == 1:
            codes = values
    np.testing.assert_allclose(model.transform(X), codes, atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(X), values, atol=1e-5)
    np.testing.assert_array_equal(model.inverse_transform(model.transform(X)), model.reconstruct(X))
    expected = np.sum(X * np.log(values) + (1 - X) * np.log(1 - values), axis=1)
    np.testing.assert_allclose(model.score_samples(X), expected, rtol=1e-4)
    assert model.score(X) == pytest.approx(expected.mean(), rel=1e-5)


def test_autoencoder_begins_as_the_unrolled_dbn():
    model = DeepAutoencoder((20, 5), rbm=LAYER, random_state=0, max_iter=0).fit(BITS)
    dbn = DBN((20, 5), rbm=LAYER, random_state=0).fit(BITS)
    assert_same_layers(model, dbn)
    np.testing.assert_allclose(model.reconstruct(BITS), dbn.reconstruct(BITS), atol=1e-3)


def test_autoencoder_stops_by_its_validation_loss():
    model = DeepAutoencoder(
        (20, 5), rbm=LAYER, random_state=0, max_iter=500, early_stopping="patience", patience=2,
        learning_rate=0.02, batch_size=20, n_threads=1,
    ).fit(X[:300], X_val=X[300:400])  # fmt: skip
    losses = model.history_["val_loss"]
    assert len(losses) == int(np.argmin(losses)) + 3 < 500
    assert -model.score(X[300:400]) == pytest.approx(min(losses), rel=1e-4)
    assert "error" not in model.history_


@pytest.mark.parametrize(
    "codes, message",
    [
        (np.zeros((3, 4)), "5 columns"),
        (np.full((3, 5), np.nan), "nan"),
        (np.full((3, 5), 2.0), "to 2"),
    ],
)
def test_codes_that_do_not_fit(codes, message):
    model = DeepAutoencoder((20, 5), rbm=LAYER, max_iter=0).fit(BITS)
    with pytest.raises(ValueError, match=message):
        model.inverse_transform(codes)


# ------------------------------------------------------------------------------------- export


def test_to_torch():
    torch = pytest.importorskip("torch")
    models = [
        (fitted(), "transform"),
        (DBNClassifier((20, 12), rbm=LAYER, random_state=0, max_iter=3).fit(X, Y), "predict_proba"),
        (DeepAutoencoder((20, 5), rbm=LAYER, random_state=0, max_iter=3).fit(X), "transform"),
    ]
    for model, method in models:
        module = model.to_torch()
        assert isinstance(module, torch.nn.Sequential)
        with torch.no_grad():
            theirs = module(torch.from_numpy(X)).numpy()
        np.testing.assert_allclose(theirs, getattr(model, method)(X), atol=1e-6)
        before = getattr(model, method)(X)
        with torch.no_grad():
            module[0].weight.zero_()  # a copy
        np.testing.assert_array_equal(getattr(model, method)(X), before)


def test_export_without_its_packages(monkeypatch):
    import sys

    model = fitted()
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="to_torch needs PyTorch, which is not installed"):
        model.to_torch()


@pytest.mark.filterwarnings("ignore")  # torch's and onnxscript's about themselves
def test_to_onnx(tmp_path):
    pytest.importorskip("torch")
    model, path = fitted(), tmp_path / "dbn.onnx"
    onnx = pytest.importorskip("onnx", reason="torch writes ONNX with onnx and onnxscript")
    pytest.importorskip("onnxscript", reason="torch writes ONNX with onnx and onnxscript")
    model.to_onnx(path)
    from onnx.reference import ReferenceEvaluator

    session = ReferenceEvaluator(onnx.load(path))
    for n in (1, 7):
        (values,) = session.run(None, {"X": X[:n]})
        np.testing.assert_allclose(values, model.transform(X[:n]), atol=1e-6)
