"""SoftmaxRegression and DBNClassifier: training, stopping, labels of any kind, bad input."""

import math
import re

import numpy as np
import pytest
import scipy.sparse
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from harmonium import BernoulliRBM, DBNClassifier, SoftmaxRegression
from harmonium.callbacks import Callback

X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
TRAIN, TEST, Y_TRAIN, Y_TEST = train_test_split(X, Y, random_state=0)
LAYER = BernoulliRBM(n_iter=20, algorithm="cd", learning_rate=0.1, momentum=0.5)

BOTH = [
    SoftmaxRegression(batch_size=20, random_state=0, max_iter=5),
    DBNClassifier((16, 12), rbm=BernoulliRBM(n_iter=2), random_state=0, max_iter=5),
]


def fresh(estimator, **parameters):
    return type(estimator)(**estimator.get_params(deep=False)).set_params(**parameters)


def parameters_of(model):
    return [*model.coefs_, *model.intercepts_]


def assert_same_parameters(one, other):
    for a, b in zip(parameters_of(one), parameters_of(other), strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------- learning


def test_softmax_regression_finds_the_convex_optimum():
    # Full batches and weight decay: one minimum, which scikit-learn's solver finds by other means.
    # Its C is 1 / (n · l2) and it, too, leaves biases alone.
    l2, n = 1e-2, len(TRAIN)
    ours = SoftmaxRegression(
        learning_rate=1.0,
        momentum=0.9,
        batch_size=n,
        l2=l2,
        max_iter=2000,
        random_state=0,
        n_threads=1,
    ).fit(TRAIN, Y_TRAIN)
    theirs = LogisticRegression(C=1 / (n * l2), tol=1e-8, max_iter=1000).fit(TRAIN, Y_TRAIN)
    # The optimum is flat to float32: 1e-3 of a probability is what is left of 2000 steps.
    np.testing.assert_allclose(
        ours.predict_proba(TEST), theirs.predict_proba(TEST), rtol=0, atol=1e-3
    )


def test_dbn_classifier_beats_softmax_regression_on_real_digits():
    wrong = np.zeros(2)
    for seed in range(3):
        train, test, y_train, y_test = train_test_split(X, Y, random_state=seed)
        # One thread: two wait for one another at every minibatch on a machine that is busy.
        linear = SoftmaxRegression(batch_size=20, random_state=seed, max_iter=50, n_threads=1)
        deep = DBNClassifier(
            (256, 256), rbm=LAYER, learning_rate=0.3, random_state=seed, max_iter=60, n_threads=1
        )
        for at, model in enumerate((linear, deep)):
            wrong[at] += np.sum(model.fit(train, y_train).predict(test) != y_test)
    # Of 3 × 450 images 56 and 39 where this was written.
    assert wrong[1] < 0.85 * wrong[0]
    assert wrong[1] < 50


def test_pretrained_layers_are_where_fine_tuning_starts():
    model = DBNClassifier((16, 12), rbm=LAYER, random_state=0, max_iter=0).fit(TRAIN, Y_TRAIN)
    for W, c, rbm in zip(model.coefs_, model.intercepts_, model.rbms_, strict=False):
        np.testing.assert_array_equal(W, rbm.components_.T)
        np.testing.assert_array_equal(c, rbm.intercept_hidden_)
    assert not model.coefs_[-1].any()
    np.testing.assert_allclose(model.predict_proba(TEST), 0.1, rtol=1e-6)


def test_pretrain_then_fit_is_fit():
    whole = fresh(BOTH[1]).fit(TRAIN, Y_TRAIN)
    parts = fresh(BOTH[1]).pretrain(TRAIN)
    assert not hasattr(parts, "coefs_")
    parts.fit(TRAIN, Y_TRAIN, pretrain=False)
    for a, b in zip(whole.rbms_, parts.rbms_, strict=True):
        np.testing.assert_array_equal(a.components_, b.components_)
    assert_same_parameters(whole, parts)


def test_layers_may_come_from_other_data():
    model = fresh(BOTH[1]).pretrain(X).fit(TRAIN[:50], Y_TRAIN[:50], pretrain=False)
    assert model.rbms_[0].history_["epoch"] == [1, 2]
    with pytest.raises(ValueError, match=r"pretrain=False finds layers of \[\(64, 16\)"):
        model.set_params(hidden_layer_sizes=(16, 13)).fit(TRAIN, Y_TRAIN, pretrain=False)


def test_without_pretraining_layers_are_random():
    model = fresh(BOTH[1], max_iter=0).fit(TRAIN, Y_TRAIN, pretrain=False)
    bound = 4 * math.sqrt(6 / (64 + 16))
    assert 0.95 * bound < np.abs(model.coefs_[0]).max() <= bound
    again = fresh(BOTH[1], max_iter=0, random_state=1).fit(TRAIN, Y_TRAIN, pretrain=False)
    assert not np.array_equal(model.coefs_[0], again.coefs_[0])


@pytest.mark.parametrize("n_epochs", [1, 3, 7])
def test_a_moving_average_of_the_epochs(n_epochs):
    """Of all of them alike, until those are more than the decay remembers: here four."""
    epochs = []

    def keep(estimator, epoch, metrics):
        if "loss" in metrics:  # fine-tuning, not a layer
            epochs.append([*estimator.coefs_, *estimator.intercepts_])

    fresh(BOTH[1], max_iter=n_epochs, callbacks=keep).fit(TRAIN, Y_TRAIN)
    expected = epochs[0]
    for n, parameters in enumerate(epochs[1:], start=2):
        weight = max(1 / n, 1 / 4)
        expected = [
            old + weight * (new - old) for old, new in zip(expected, parameters, strict=True)
        ]
    model = fresh(BOTH[1], max_iter=n_epochs, ema_decay=0.75).fit(TRAIN, Y_TRAIN)
    for array, same in zip([*model.coefs_, *model.intercepts_], expected, strict=True):
        np.testing.assert_allclose(array, same, rtol=1e-4, atol=1e-6)


def test_the_average_is_what_is_validated_and_kept():
    validation = {"X_val": TEST, "y_val": Y_TEST}
    model = fresh(BOTH[1], max_iter=6, ema_decay=0.8).fit(TRAIN, Y_TRAIN, **validation)
    errors = model.history_["val_error"]
    assert 1 - model.score(TEST, Y_TEST) == pytest.approx(min(errors))
    best = int(np.argmin(errors)) + 1
    again = fresh(BOTH[1], max_iter=best, ema_decay=0.8).fit(TRAIN, Y_TRAIN)
    assert_same_parameters(model, again)


def test_prototypes_of_layers():
    two = [BernoulliRBM(n_iter=1), BernoulliRBM(n_iter=3, algorithm="cd")]
    model = fresh(BOTH[1], rbm=two).fit(TRAIN, Y_TRAIN)
    assert [rbm.n_iter_ for rbm in model.rbms_] == [1, 3]
    assert [rbm.n_components for rbm in model.rbms_] == [16, 12]
    assert two[0].n_components == 256  # prototypes stay as they are
    assert not hasattr(two[0], "components_")


@pytest.mark.parametrize("n_threads", [1, 2, 5])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_threads_leave_bits_alone(n_threads, dropout):
    binary = TRAIN > 0.5
    one, other = (
        fresh(BOTH[1], n_threads=n, dropout=dropout, input_dropout=dropout / 2, max_norm=2.0).fit(
            binary, Y_TRAIN
        )
        for n in (3, n_threads)
    )
    assert_same_parameters(one, other)


@pytest.mark.parametrize("estimator", BOTH)
def test_kinds_of_rows_give_the_same(estimator):
    binary = TRAIN > 0.5
    model = fresh(estimator).fit(binary, Y_TRAIN)
    kinds = [binary.astype(np.float64), binary.astype(np.int64), scipy.sparse.csr_array(binary)]
    for rows in kinds:
        assert_same_parameters(model, fresh(estimator).fit(rows, Y_TRAIN))
        np.testing.assert_array_equal(model.predict(rows), model.predict(binary))


# ------------------------------------------------------------------------ history and schedules


@pytest.mark.parametrize("estimator", BOTH)
def test_history(estimator):
    model = fresh(estimator, learning_rate=0.2, learning_rate_decay=0.5)
    model.fit(TRAIN, Y_TRAIN, X_val=TEST, y_val=Y_TEST)
    history = model.history_
    assert set(history) == {
        "epoch", "time", "learning_rate", "loss", "error", "val_loss", "val_error",
    }  # fmt: skip
    assert history["epoch"] == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(history["learning_rate"], 0.2 * 0.5 ** np.arange(5))
    assert all(0 < loss < 4 for loss in history["loss"])
    # The parameters are the best epoch's, and these its figures.
    best = int(np.argmin(history["val_error"]))
    assert model.score(TEST, Y_TEST) == pytest.approx(1 - history["val_error"][best])
    p = model.predict_proba(TEST)[np.arange(len(TEST)), Y_TEST]
    assert -np.log(p).mean() == pytest.approx(history["val_loss"][best], rel=1e-5)


def test_callable_rate_and_momentum():
    seen = []

    def rate(epoch):
        seen.append(epoch)
        return 0.1 / (1 + epoch)

    model = fresh(BOTH[0], learning_rate=rate, momentum=lambda epoch: min(0.5, 0.1 * epoch))
    model.fit(TRAIN, Y_TRAIN)
    np.testing.assert_allclose(model.history_["learning_rate"], 0.1 / np.arange(1, 6))
    assert set(seen) == {0, 1, 2, 3, 4}


def test_verbose_and_callbacks_see_both_phases(capsys):
    events = []

    class Watch(Callback):
        def on_fit_begin(self, estimator, first_epoch):
            events.append((self.title, self.n_epochs))

        def on_epoch_end(self, estimator, epoch, metrics):
            assert isinstance(estimator, DBNClassifier)
            events.append(epoch)

    fresh(BOTH[1], verbose=1, max_iter=1, callbacks=Watch()).fit(TRAIN, Y_TRAIN)
    assert events == [
        ("layer 1 of 2 (64-16)", 2), 1, 2, ("layer 2 of 2 (16-12)", 2), 1, 2,
        ("DBNClassifier", 1), 1,
    ]  # fmt: skip
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("[layer 1 of 2 (64-16)] Iteration 1, pseudo-likelihood = ")
    assert lines[-1].startswith("[DBNClassifier] Iteration 1, loss = ")


# --------------------------------------------------------------------------------- when to stop


def test_plain_patience():
    model = fresh(BOTH[0], max_iter=1000, early_stopping="patience", patience=3, learning_rate=1.0)
    model.fit(TRAIN, Y_TRAIN, X_val=TEST, y_val=Y_TEST)
    errors = model.history_["val_error"]
    best = int(np.argmin(errors)) + 1
    assert model.n_iter_ == len(errors) == best + 3
    assert model.score(TEST, Y_TEST) == pytest.approx(1 - min(errors))


def test_the_tutorials_patience():
    # 1347 rows, 14 minibatches an epoch.
    model = fresh(
        BOTH[0], batch_size=100, max_iter=1000, early_stopping="tutorial", patience=60, n_threads=1
    ).fit(TRAIN, Y_TRAIN, X_val=TEST, y_val=Y_TEST)
    patience, best, updates = 60, math.inf, 0
    for error in model.history_["val_error"]:
        assert updates < patience  # or it had ended before
        updates += 14
        if error < best * 0.995:
            patience = max(patience, 2 * updates)
        best = min(best, error)
    assert updates >= patience


def test_default_validation_set_has_a_part_of_each_class():
    model = fresh(BOTH[0], early_stopping="patience", validation_fraction=0.2)
    model.fit(TRAIN, Y_TRAIN)
    assert "val_error" in model.history_
    n = math.ceil(0.2 * len(TRAIN))
    multiples = np.array(model.history_["val_error"]) * n
    np.testing.assert_allclose(multiples, multiples.round(), atol=1e-6)


# -------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "names", [list("zyxwvutsrq"), [f"digit {d}" for d in range(10)], list(range(100, 110)),
              [bool(d) for d in range(2)], [-1.0, 2.0]],
    ids=["letters", "words", "numbers", "bools", "floats"],
)  # fmt: skip
@pytest.mark.parametrize("estimator", BOTH)
def test_labels_of_any_kind_come_back(estimator, names):
    labels = np.array(names)[Y_TRAIN % len(names)]
    model = fresh(estimator).fit(TRAIN, labels)
    np.testing.assert_array_equal(model.classes_, np.unique(labels))
    predicted = model.predict(TEST)
    assert predicted.dtype == labels.dtype
    assert set(predicted.tolist()) <= set(names)
    assert model.predict_proba(TEST).shape == (len(TEST), len(names))
    p = model.predict_proba(TEST)
    np.testing.assert_array_equal(model.classes_[p.argmax(axis=1)], predicted)
    np.testing.assert_allclose(np.exp(model.predict_log_proba(TEST)), p, rtol=1e-5)


def test_class_weights():
    rare = np.flatnonzero((Y_TRAIN == 0) | (Y_TRAIN == 8))
    rare = rare[(Y_TRAIN[rare] == 0) | (np.arange(len(rare)) % 10 == 0)]
    plain, balanced = (
        SoftmaxRegression(batch_size=20, random_state=0, class_weight=weight, max_iter=3).fit(
            TRAIN[rare], Y_TRAIN[rare]
        )
        for weight in (None, "balanced")
    )
    eights = TEST[Y_TEST == 8]
    assert balanced.predict_proba(eights)[:, 1].mean() > plain.predict_proba(eights)[:, 1].mean()
    by_hand = SoftmaxRegression(batch_size=20, random_state=0, max_iter=3)
    counts = np.unique(Y_TRAIN[rare], return_counts=True)[1]
    by_hand.set_params(class_weight=dict(zip((0, 8), len(rare) / (2 * counts), strict=True)))
    assert_same_parameters(balanced, by_hand.fit(TRAIN[rare], Y_TRAIN[rare]))


# ------------------------------------------------------------------------------------ partial_fit


@pytest.mark.parametrize("estimator", BOTH)
def test_partial_fit_goes_on(estimator):
    model = fresh(estimator, batch_size=50, learning_rate=0.5, momentum=0.5)
    for _ in range(6):
        for part in np.array_split(np.arange(len(TRAIN)), 3):
            model.partial_fit(TRAIN[part], Y_TRAIN[part], classes=np.arange(10))
    assert model.n_iter_ == 18
    assert isinstance(model.history_, dict)
    if isinstance(model, SoftmaxRegression):
        assert model.score(TEST, Y_TEST) > 0.9


@pytest.mark.parametrize("estimator", BOTH)
def test_partial_fit_is_fit_without_shuffling(estimator):
    # Seeds, first weights and the number of the update are the same; so are the bits, velocities
    # and dropout included.
    deep = isinstance(estimator, DBNClassifier)
    options = {"momentum": 0.5, "shuffle": False, "max_iter": 2}
    whole = fresh(estimator, **options, **({"dropout": 0.3} if deep else {}))
    whole.fit(TRAIN, Y_TRAIN, **({"pretrain": False} if deep else {}))
    parts = fresh(whole)
    for _ in range(2):
        parts.partial_fit(TRAIN, Y_TRAIN, classes=np.arange(10))
    assert_same_parameters(whole, parts)


def test_partial_fit_with_a_class_missing():
    model = SoftmaxRegression(batch_size=20)
    model.partial_fit(TRAIN[Y_TRAIN != 3], Y_TRAIN[Y_TRAIN != 3], classes=range(10))
    assert model.predict_proba(TEST).shape[1] == 10
    model.partial_fit(TRAIN[Y_TRAIN == 3], Y_TRAIN[Y_TRAIN == 3])
    with pytest.raises(ValueError, match=r"y holds classes that are not among the 10 known: 11"):
        model.partial_fit(TRAIN[:2], [3, 11])
    with pytest.raises(ValueError, match="is not the same as on the first call"):
        model.partial_fit(TRAIN, Y_TRAIN, classes=[1, 2])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        SoftmaxRegression().partial_fit(TRAIN, Y_TRAIN)


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("estimator", BOTH)
@pytest.mark.parametrize(
    "change, message",
    [
        ({"y": np.zeros(len(TRAIN), int)}, "at least 2 classes to tell apart, got 1 class: [0]"),
        ({"y": Y_TRAIN[:-1]}, "a label for each of the 1347 rows, got 1346"),
        ({"y": None}, "requires y to be passed"),
        ({"y": np.linspace(0, 1, len(TRAIN))}, "Unknown label type: continuous"),
        ({"y": np.where(Y_TRAIN == 0, np.nan, Y_TRAIN)}, "contains NaN"),
        ({"X": np.where(TRAIN > 0.9, np.nan, TRAIN)}, "contains NaN"),
        ({"X_val": TEST}, "X_val and y_val belong together"),
        ({"X_val": TEST[:, :60], "y_val": Y_TEST}, "X_val: X has 60 features"),
        ({"X_val": TEST, "y_val": Y_TEST + 5}, "y holds classes that are not among the 10 known"),
        ({"X_val": TEST, "y_val": Y_TEST[:7]}, "y_val must have a label for each of the 450 rows"),
    ],
)
def test_data_that_do_not_fit(estimator, change, message):
    given = {"X": TRAIN, "y": Y_TRAIN} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        fresh(estimator).fit(given.pop("X"), given.pop("y"), **given)


@pytest.mark.parametrize(
    "parameters, error, message",
    [
        ({"hidden_layer_sizes": ()}, ValueError, "must name at least one layer"),
        ({"hidden_layer_sizes": (5, 0)}, ValueError, "must be at least 1, got 0"),
        ({"hidden_layer_sizes": (5, 1.5)}, TypeError, "must be an integer, got 1.5"),
        ({"rbm": "cd"}, TypeError, "rbm must be a BernoulliRBM, a list of one per layer"),
        ({"rbm": [BernoulliRBM()]}, ValueError, "one BernoulliRBM for each of the 2 layers"),
        ({"rbm": BernoulliRBM(n_iter=-1)}, ValueError, "n_iter must be at least 0"),
        ({"layer_inputs": "means"}, ValueError, "must be one of 'sample', 'mean'"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be a finite number in (0, inf)"),
        ({"learning_rate_decay": 1.1}, ValueError, "learning_rate_decay must be"),
        ({"momentum": 1.0}, ValueError, "momentum must be below 1"),
        ({"solver": "lbfgs"}, ValueError, "solver must be one of 'sgd', 'adam'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"max_iter": 1.0}, TypeError, "max_iter must be an integer"),
        ({"l2": -1}, ValueError, "l2 must be"),
        ({"dropout": 1}, ValueError, "dropout must be below 1"),
        ({"input_dropout": -0.1}, ValueError, "input_dropout must be"),
        ({"max_norm": 0}, ValueError, "max_norm must be"),
        ({"ema_decay": 1.0}, ValueError, "ema_decay must be below 1"),
        ({"ema_decay": -0.1}, ValueError, "ema_decay must be"),
        ({"shuffle": 1}, TypeError, "shuffle must be True or False"),
        ({"early_stopping": True}, ValueError, "must be one of 'patience', 'tutorial', None"),
        ({"early_stopping": "patience", "validation_fraction": 0.0}, ValueError, "needs rows to"),
        ({"validation_fraction": 1.0}, ValueError, "validation_fraction must be below 1"),
        ({"patience": 0}, ValueError, "patience must be at least 1"),
        ({"patience_increase": 0.5}, ValueError, "patience_increase must be"),
        ({"improvement_threshold": 1.5}, ValueError, "improvement_threshold must be"),
        ({"random_state": "dice"}, ValueError, "random_state must be None, an integer"),
        ({"device": "gpu"}, ValueError, "device must be 'cpu'"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"callbacks": 5}, TypeError, "callbacks must be functions"),
    ],
)  # fmt: skip
def test_parameters_out_of_range(parameters, error, message):
    with pytest.raises(error, match=re.escape(message)):
        fresh(BOTH[1], **parameters).fit(TRAIN, Y_TRAIN)


# --------------------------------------------------------------- interruption, divergence, resume


class Interrupt(Callback):
    def __init__(self, title, epoch):
        self.at = title, epoch

    def on_epoch_end(self, estimator, epoch, metrics):
        if (self.title, epoch) == self.at:
            raise KeyboardInterrupt


def test_interrupted_fine_tuning_leaves_the_best():
    model = fresh(BOTH[0], max_iter=50, learning_rate=2.0)
    model.set_params(callbacks=Interrupt("SoftmaxRegression", 20))
    with pytest.raises(KeyboardInterrupt):
        model.fit(TRAIN, Y_TRAIN, X_val=TEST, y_val=Y_TEST)
    errors = model.history_["val_error"]
    assert len(errors) == model.n_iter_ == 20
    assert model.score(TEST, Y_TEST) == pytest.approx(1 - min(errors))


def test_pretraining_that_diverged_names_the_layer():
    rbms = [BernoulliRBM(n_iter=2), BernoulliRBM(n_iter=5, learning_rate=1e38, l2=1.0)]
    model = fresh(BOTH[1], rbm=rbms)
    with pytest.raises(FloatingPointError, match=r"layer 2 of 2 \(16-12\): training diverged"):
        model.fit(TRAIN, Y_TRAIN)
    assert np.isfinite(model.rbms_[1].components_).all()
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_fine_tuning_that_diverged(method):
    # Real inputs far apart: the first steps already leave float32's range.
    model = SoftmaxRegression(batch_size=20, learning_rate=1e38, max_iter=3)
    options = {} if method == "fit" else {"classes": np.arange(10)}
    with pytest.raises(FloatingPointError, match=r"training diverged .* learning_rate=1e\+38"):
        getattr(model, method)(100 * TRAIN, Y_TRAIN, **options)
    assert all(np.isfinite(array).all() for array in parameters_of(model))


def test_softmax_of_float64_rows_is_the_references():
    model = fresh(BOTH[1]).fit(TRAIN, Y_TRAIN)
    values = TEST.astype(np.float64)
    for W, c in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        values = 1 / (1 + np.exp(-(values @ W.astype(np.float64) + c)))
    x = values @ model.coefs_[-1].astype(np.float64) + model.intercepts_[-1]
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    found = model.predict_proba(TEST.astype(np.float64))
    assert found.dtype == np.float64
    # Sums of up to 64 terms of order one, each rounded to float32.
    np.testing.assert_allclose(found, p, rtol=1e-4, atol=1e-6)
    assert model.predict_proba(TEST).dtype == np.float32
