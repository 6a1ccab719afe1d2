"""Schedules of learning rate and momentum, and the files that remember them."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

import harmonium
from harmonium import DBN, BernoulliRBM, SoftmaxRegression, schedules

X = np.random.default_rng(0).random((40, 9)) < 0.4

ALL = [
    schedules.linear(0.4, 8),
    schedules.linear(0.1, 4, end=0.5),
    schedules.cosine(0.4, 8),
    schedules.cosine(0.9, 5, 0.5),
    schedules.inverse_time(0.3, half_life=2.5),
]


@pytest.mark.parametrize(
    "schedule, values",
    [
        (schedules.linear(0.4, 4), [0.4, 0.3, 0.2, 0.1, 0.0, 0.0]),
        (schedules.linear(0.5, 2, end=0.9), [0.5, 0.7, 0.9, 0.9]),
        (schedules.cosine(1.0, 4, end=0.5), [1.0, 0.75 + 0.25 * np.sqrt(0.5), 0.75]),
        (schedules.cosine(0.8, 2), [0.8, 0.4, 0.0, 0.0]),
        (schedules.inverse_time(0.6, 2), [0.6, 0.4, 0.3, 0.24]),
    ],
    ids=repr,
)
def test_values(schedule, values):
    assert [schedule(epoch) for epoch in range(len(values))] == pytest.approx(values, abs=1e-15)


@pytest.mark.parametrize("kind", [schedules.linear, schedules.cosine])
@pytest.mark.parametrize("n_epochs", [1, 7, 1000])
def test_a_rate_that_falls_to_zero_is_never_zero_in_training(kind, n_epochs):
    rates = [kind(0.1, n_epochs)(epoch) for epoch in range(n_epochs)]
    assert rates[0] == 0.1
    assert min(rates) > 0
    assert np.all(np.diff(rates) < 0)
    assert kind(0.1, n_epochs)(n_epochs) == 0


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_copies_are_equal(schedule):
    for other in (pickle.loads(pickle.dumps(schedule)), copy.deepcopy(schedule)):
        assert other == schedule
        assert hash(other) == hash(schedule)
    assert eval(repr(schedule), vars(schedules)) == schedule


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: schedules.linear(-0.1, 5), ValueError, "start must be.*got -0.1"),
        (lambda: schedules.linear("fast", 5), TypeError, "start must be a number"),
        (lambda: schedules.cosine(0.1, 0), ValueError, "n_epochs must be at least 1, got 0"),
        (lambda: schedules.cosine(0.1, 2.5), TypeError, "n_epochs must be an integer"),
        (lambda: schedules.linear(0.1, 5, end=np.nan), ValueError, "end must be.*got nan"),
        (lambda: schedules.inverse_time(0.1, 0), ValueError, "half_life must be.*got 0"),
        (lambda: schedules.inverse_time(np.inf, 1), ValueError, "start must be.*got inf"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def model(**parameters):
    return BernoulliRBM(**{"n_components": 5, "n_iter": 3, "random_state": 0} | parameters)


def test_training_takes_the_schedules_values():
    rate = schedules.linear(np.float32(0.5), np.int64(4))
    rbm = clone(model(learning_rate=rate, momentum=schedules.linear(0.5, 2, 0.9))).fit(X)
    assert rbm.history_["learning_rate"] == [0.5, 0.375, 0.25]
    other = model(learning_rate=lambda e: [0.5, 0.375, 0.25][e])
    other.set_params(momentum=lambda e: [0.5, 0.7, 0.9][e])
    np.testing.assert_array_equal(rbm.components_, other.fit(X).components_)


@pytest.mark.parametrize("schedule", ALL, ids=repr)
def test_files_remember_schedules(tmp_path, schedule):
    path = tmp_path / "model.safetensors"
    rbm = model(learning_rate=schedule, momentum=schedules.linear(0.5, 2, 0.9)).fit(X)
    rbm.save(path)
    loaded = harmonium.load(path)
    assert loaded.get_params() == rbm.get_params()
    loaded.partial_fit(X)
    np.testing.assert_array_equal(loaded.components_, rbm.partial_fit(X).components_)


def test_files_of_other_models_remember_them_too(tmp_path):
    path = tmp_path / "model.safetensors"
    layer = model(learning_rate=ALL[2], n_iter=1)
    DBN((4, 3), rbm=[layer, layer], random_state=0).fit(X).save(path)
    assert [rbm.learning_rate for rbm in harmonium.load(path).rbms_] == [ALL[2], ALL[2]]
    assert harmonium.load(path).rbm[1].learning_rate == ALL[2]
    y = np.arange(len(X)) % 3
    SoftmaxRegression(learning_rate=ALL[0], max_iter=1, random_state=0).fit(X, y).save(path)
    assert harmonium.load(path).learning_rate == ALL[0]
