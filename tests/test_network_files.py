"""DBNs, classifiers and autoencoders in files: everything comes back, and training goes on."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.datasets import load_digits

from harmonium import DBN, BernoulliRBM, DBNClassifier, DeepAutoencoder, SoftmaxRegression, load
from harmonium.callbacks import Callback, Checkpoint
from harmonium.persistence import load_arrays, save_arrays

X, Y = load_digits(return_X_y=True)
X, Y = (X[:400] / 16).astype(np.float32), Y[:400]
X_VAL, Y_VAL = X[300:], Y[300:]
LAYER = BernoulliRBM(n_iter=3, algorithm="cd", momentum=0.5, shuffle=True)
SIZES = (12, 9)


def softmax(**parameters):
    return SoftmaxRegression(**{"batch_size": 30, "max_iter": 5, "random_state": 3} | parameters)


def classifier(**parameters):
    given = {"rbm": LAYER, "max_iter": 5, "random_state": 3, "batch_size": 30} | parameters
    return DBNClassifier(SIZES, **given)


def autoencoder(**parameters):
    given = {"rbm": LAYER, "max_iter": 5, "random_state": 3, "batch_size": 30} | parameters
    return DeepAutoencoder(SIZES, **given)


def dbn(**parameters):
    return DBN(SIZES, **{"rbm": LAYER, "random_state": 3} | parameters)


MAKERS = [softmax, classifier, autoencoder, dbn]
MOST = [softmax, classifier, autoencoder]


def train(model, validate=False, **options):
    if isinstance(model, (SoftmaxRegression, DBNClassifier)):
        val = {"X_val": X_VAL, "y_val": Y_VAL} if validate else {}
        return model.fit(X, Y, **val, **options)
    return model.fit(X, **({"X_val": X_VAL} if validate else {}), **options)


def outputs(model):
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.transform(X)


def arrays_of(model):
    arrays = [*getattr(model, "coefs_", []), *getattr(model, "intercepts_", [])]
    for rbm in getattr(model, "rbms_", []):
        arrays += [rbm.components_, rbm.intercept_hidden_, rbm.intercept_visible_, rbm.h_samples_]
    return arrays


def without_time(history):
    return {name: values for name, values in history.items() if name != "time"}


def assert_same_models(one, other):
    for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
        np.testing.assert_array_equal(a, b)
    if hasattr(one, "history_"):
        assert one.n_iter_ == other.n_iter_
        assert without_time(one.history_) == without_time(other.history_)
    for a, b in zip(getattr(one, "rbms_", []), getattr(other, "rbms_", []), strict=True):
        assert without_time(a.history_) == without_time(b.history_)


# ---------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("validate", [False, True])
def test_everything_comes_back(make, validate, tmp_path):
    model = train(make(), validate)
    model.save(tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert type(back) is type(model)
    assert_same_models(model, back)
    np.testing.assert_array_equal(outputs(model), outputs(back))
    ours, theirs = model.get_params(), back.get_params()
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert isinstance(value, BernoulliRBM) or theirs[name] == value, name
    if isinstance(model, DBN):
        np.testing.assert_array_equal(model.sample(3, 5), back.sample(3, 5))


@pytest.mark.parametrize(
    "labels",
    [np.array(list("abcdefghij")), np.arange(10.0) - 3, np.array(list("zyxwvutsrq"), object)],
    ids=["str", "float", "object"],
)
def test_labels_come_back(labels, tmp_path):
    model = softmax(class_weight={labels[1]: 2.0}).fit(X, labels[Y])
    model.save(tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert back.classes_.dtype == model.classes_.dtype
    np.testing.assert_array_equal(back.predict(X), model.predict(X))
    assert back.class_weight == {labels[1]: 2.0}


def test_schedules_are_saved_as_numbers(tmp_path):
    model = softmax(learning_rate=lambda epoch: 0.1 / (1 + epoch), callbacks=[lambda *a: None])
    model.fit(X, Y).save(tmp_path / "model.safetensors")
    back = load(tmp_path / "model.safetensors")
    assert back.learning_rate == pytest.approx(0.1 / 5)
    assert back.callbacks is None


def test_parameters_set_by_hand_can_be_saved(tmp_path):
    model = softmax().fit(X, Y)
    model.coefs_ = [np.ones((64, 10), np.float32)]
    model._state = None
    model.save(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(load(tmp_path / "model.safetensors").coefs_[0], 1)


def test_unfitted():
    for make in MAKERS:
        with pytest.raises(ValueError, match="is not fitted yet"):
            make().save("nowhere.safetensors")


@pytest.mark.parametrize("make", MOST)
def test_damaged_files_are_refused(make, tmp_path):
    path = tmp_path / "model.safetensors"
    train(make()).save(path)
    arrays, header = load_arrays(path)
    damages = [
        lambda a, h: a.pop("network.arrays.0"),
        lambda a, h: a.update({"network.arrays.0": a["network.arrays.0"][:, :-1].copy()}),
        lambda a, h: a.update({"network.arrays.1": a["network.arrays.1"].astype(np.int32)}),
        lambda a, h: h["network"].pop("seed"),
        lambda a, h: h.update(model="Perceptron"),
        lambda a, h: h["parameters"].update(n_legs=4),
    ]
    for damage in damages:
        some, head = dict(arrays), json.loads(json.dumps(header))
        for key in ("format_version", "crc32"):
            head.pop(key, None)
        damage(some, head)
        save_arrays(path, some, head)
        with pytest.raises(ValueError, match="is not a model this version of harmonium can read"):
            load(path)


# -------------------------------------------------------------------------------------- resuming


class Die(Callback):
    """Saves, as `Checkpoint` would, and ends the run as Ctrl-C would, at an event."""

    def __init__(self, path, at):
        self.path, self.at = path, at

    def on_epoch_end(self, estimator, epoch, metrics):
        kind = "layer" if self.title.startswith("layer") else "network"
        number = self.title.split()[1] if kind == "layer" else ""
        if (kind + number, epoch) == self.at:
            estimator.save(self.path)
            raise KeyboardInterrupt


RULES = [
    {},
    {"momentum": 0.9, "l2": 1e-3},
    {"solver": "adam", "learning_rate": 0.01, "learning_rate_decay": 0.9},
    {"early_stopping": "patience", "patience": 2},
    {"early_stopping": "tutorial", "patience": 20},
]


@pytest.mark.parametrize("make", MOST)
@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: "-".join(map(str, rule)) or "sgd")
def test_fine_tuning_resumes_to_the_bit(make, validate, rule, tmp_path):
    path = tmp_path / "model.safetensors"
    whole = train(make(**rule), validate)
    with pytest.raises(KeyboardInterrupt):
        train(make(callbacks=Die(path, ("network", 2)), **rule), validate)
    # Another seed and other threads: the file's seed counts.
    resumed = train(make(**rule | {"random_state": 8, "n_threads": 1}), validate, resume=path)
    assert_same_models(whole, resumed)


def test_dropout_resumes_to_the_bit(tmp_path):
    path = tmp_path / "model.safetensors"
    options = {"dropout": 0.5, "input_dropout": 0.2, "max_norm": 1.0, "momentum": 0.5}
    whole = train(classifier(**options))
    with pytest.raises(KeyboardInterrupt):
        train(classifier(callbacks=Die(path, ("network", 3)), **options))
    assert_same_models(whole, train(classifier(**options), resume=path))


@pytest.mark.parametrize("validate", [False, True])
def test_averages_resume_to_the_bit(validate, tmp_path):
    first = classifier(ema_decay=0.6, max_iter=3)
    train(first, validate)
    first.save(tmp_path / "model.safetensors")
    assert_same_models(load(tmp_path / "model.safetensors"), first)
    resumed, whole = classifier(ema_decay=0.6), classifier(ema_decay=0.6)
    train(resumed, validate, resume=tmp_path / "model.safetensors")
    train(whole, validate)
    assert_same_models(resumed, whole)


@pytest.mark.parametrize("make", [classifier, autoencoder, dbn])
@pytest.mark.parametrize("at", [("layer1", 1), ("layer1", 3), ("layer2", 2)])
def test_pretraining_resumes_to_the_bit(make, at, tmp_path):
    path = tmp_path / "model.safetensors"
    whole = train(make())
    with pytest.raises(KeyboardInterrupt):
        train(make(callbacks=Die(path, at)))
    # Layers not yet begun get their seeds from the file too.
    assert_same_models(whole, train(make(random_state=8), resume=path))


@pytest.mark.parametrize("make", [classifier, dbn])
def test_finished_layers_are_kept(make, tmp_path):
    path = tmp_path / "model.safetensors"
    model = make()
    (model.pretrain if make is classifier else model.fit)(X)
    model.save(path)
    again = make(random_state=8)
    (again.pretrain if make is classifier else again.fit)(X, resume=path)
    assert_same_models(model, again)


def test_fit_goes_on_from_finished_layers(tmp_path):
    path = tmp_path / "model.safetensors"
    classifier().pretrain(X).save(path)
    assert_same_models(train(classifier()), train(classifier(random_state=8), resume=path))


def test_ctrl_c_between_layers_leaves_the_finished_ones(monkeypatch, tmp_path):
    from harmonium.stacking import Below

    def interrupted(self, rows, epoch, **options):
        if self._layers:
            raise KeyboardInterrupt
        return rows

    monkeypatch.setattr(Below, "rows", interrupted)
    model = classifier()
    with pytest.raises(KeyboardInterrupt):
        model.pretrain(X)
    assert [rbm.n_iter_ for rbm in model.rbms_] == [3]
    monkeypatch.undo()
    model.save(tmp_path / "model.safetensors")
    resumed = classifier().pretrain(X, resume=tmp_path / "model.safetensors")
    assert_same_models(classifier().pretrain(X), resumed)


def test_pretrain_resumes_to_the_bit(tmp_path):
    path = tmp_path / "model.safetensors"
    whole = classifier().pretrain(X)
    with pytest.raises(KeyboardInterrupt):
        classifier(callbacks=Die(path, ("layer2", 1))).pretrain(X)
    assert_same_models(whole, classifier(random_state=8).pretrain(X, resume=path))


def test_ctrl_c_within_an_epoch_can_be_saved_and_resumed(tmp_path):
    path = tmp_path / "model.safetensors"

    class Interrupt(Callback):
        calls = 0

        def on_progress(self, estimator, epoch, fraction):
            type(self).calls += 1
            if epoch == 2:
                raise KeyboardInterrupt

    whole = train(softmax())
    broken = softmax(callbacks=Interrupt())
    with pytest.raises(KeyboardInterrupt):
        train(broken)
    broken.save(path)
    assert broken._state.rows_done > 0
    resumed = train(softmax(), resume=path)
    assert_same_models(whole, resumed)


def test_checkpoint_writes_both_phases(tmp_path):
    kinds = []

    class Look(Callback):
        def on_epoch_end(self, estimator, epoch, metrics):
            names = load_file(tmp_path / "model.safetensors")
            kinds.append(any(name.startswith("network") for name in names))

    train(classifier(callbacks=[Checkpoint(tmp_path / "model.safetensors"), Look()]))
    assert kinds == 6 * [False] + 5 * [True]


def test_more_epochs_than_before(tmp_path):
    path = tmp_path / "model.safetensors"
    train(classifier(max_iter=2)).save(path)
    assert_same_models(train(classifier()), train(classifier(), resume=path))


@pytest.mark.parametrize(
    "model, message",
    [
        (softmax(), "holds a DBNClassifier, not a SoftmaxRegression"),
        (classifier(batch_size=31), "was trained with batch_size=30, but this"),
        (classifier(solver="adam"), "was trained with solver='sgd', but this estimator"),
        (classifier().set_params(hidden_layer_sizes=(12, 8)), "hidden_layer_sizes=(12, 9)"),
        (
            classifier(momentum=0.5),
            "was trained without momentum, but this estimator has momentum=0.5",
        ),
    ],
)
def test_resuming_another_training_is_refused(model, message, tmp_path):
    path = tmp_path / "model.safetensors"
    train(classifier()).save(path)
    with pytest.raises(ValueError, match=re.escape(message)):
        train(model, resume=path)


def test_resuming_on_other_data_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    train(classifier()).save(path)
    with pytest.raises(ValueError, match="was trained on 64 features, but X has 60"):
        classifier().fit(X[:, :60], Y, resume=path)
    with pytest.raises(ValueError, match="was trained on the classes"):
        classifier().fit(X, Y % 5, resume=path)
