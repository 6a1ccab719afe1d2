"""Real digits: the training people use RBMs for, briefly. Needs MNIST in $HARMONIUM_DATA."""

import os

import numpy as np
import pytest
import reference as ref
import scipy.sparse

from harmonium import BernoulliRBM, SoftmaxRegression
from harmonium.datasets import load_mnist

FOLDER = os.environ.get("HARMONIUM_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="HARMONIUM_DATA names no folder with MNIST")


@pytest.fixture(scope="module")
def train():
    return load_mnist(FOLDER, "train", binarize="threshold")[0]


@pytest.fixture(scope="module")
def test():
    return load_mnist(FOLDER, "test", binarize="threshold")[0]


@pytest.fixture(scope="module")
def rbm(train, test):
    # One thread, here and below: on a machine that is busy otherwise, two wait for one another at
    # every minibatch and take minutes for what one does in seconds. The bits are the same.
    rules = {"learning_rate": 0.05, "batch_size": 10, "n_iter": 2, "n_threads": 1}
    rbm = BernoulliRBM(500, random_state=0, **rules)
    return rbm.fit(train, X_val=test)


def test_two_epochs_learn_digits(rbm, train, test):
    """Pixels drawn one by one with their frequencies get -206 nats a row; the deep-learning
    tutorial's RBM of this size ends at -63 after 15 epochs of PCD-15, a hundred times the work.
    This one had -88.9 over the 10 000 test rows when the bound was chosen, with a standard error of
    3.5 from the pixels drawn. Training and draws give the same bits everywhere, so what falls below
    -95 has been changed."""
    frequency = train.mean(axis=0).clip(1e-4, 1 - 1e-4)
    alone = np.where(test, np.log(frequency), np.log1p(-frequency)).sum(axis=1).mean()
    assert alone == pytest.approx(-206, abs=1)
    assert rbm.score(test) > -95
    # About -85 and -90 on the thousand rows of each that are measured; 0.029 a pixel.
    assert rbm.history_["pseudo_likelihood"][1] > -97
    assert rbm.history_["val_pseudo_likelihood"][1] > -97
    assert rbm.history_["reconstruction_error"][1] < 0.035
    # No over-fitting worth the name after two epochs: held-out rows lie 1.5 nats above the others.
    assert abs(rbm.history_["free_energy_gap"][1]) < 5


def test_features(rbm, test):
    H = rbm.transform(test[:1000])
    assert H.shape == (1000, 500)
    assert H.dtype == np.float32
    parameters = rbm.components_.T, rbm.intercept_hidden_
    np.testing.assert_array_equal(H[:50], ref.sigmoid(ref.preactivation(test[:50], *parameters)))
    assert 0.02 < H.mean() < 0.5  # neither dead nor saturated
    assert rbm.inverse_transform(H > 0.5).shape == (1000, 784)


def test_samples_have_the_datas_ink(rbm, test):
    """A chain that has left the data, all dark or all light, would be far off; mean ink differs by
    half from digit to digit, and a model after two epochs prefers some of them."""
    samples = rbm.sample(100, n_steps=300, init=test[:100])
    assert 0.5 < samples.mean() / test.mean() < 2
    assert (samples != test[:100]).mean() > 0.05  # they moved
    assert samples[:, test.sum(axis=0) == 0].mean() < 0.01  # the margin stays empty


def test_bits_agree_over_kinds_and_threads(train):
    rows = train[:3000]
    rules = {"n_components": 500, "batch_size": 100, "n_iter": 1, "random_state": 0}
    one = BernoulliRBM(n_threads=1, **rules).fit(rows)
    for other in (
        BernoulliRBM(n_threads=2, **rules).fit(rows.astype(np.float32)),
        BernoulliRBM(n_threads=7, **rules).fit(scipy.sparse.csr_array(rows)),
    ):
        np.testing.assert_array_equal(other.components_, one.components_)
        np.testing.assert_array_equal(other.h_samples_, one.h_samples_)


def test_intensities_train_as_they_are():
    """Grey values as probabilities, on the float32 path; no bits are promised here. The score was
    -118.5 when the bound was chosen, with a standard error of 2.6; the visible biases alone, which
    init="data" gives from the start, scored -197.7."""
    X = load_mnist(FOLDER, "train")[0][:10_000]
    rules = {"learning_rate": 0.05, "init": "data", "random_state": 0, "n_threads": 1}
    rbm = BernoulliRBM(200, n_iter=1, **rules).fit(X)
    assert rbm.components_.dtype == np.float32
    assert rbm.score(X) > -135
    assert BernoulliRBM(200, n_iter=0, **rules).fit(X).score(X) < -180


def test_softmax_regression_is_the_tutorials_to_the_last_image():
    # The output of the deep-learning tutorial's logistic_sgd.py: "validation error 7.510417 %" of
    # epoch 72, "best validation score of 7.479167 %,with test performance 7.489583 %" after 74 of
    # them. Nothing in it is random. Its intensities are bytes / 256, and it leaves out the rows
    # that don't fill a minibatch of 600.
    X, y = load_mnist(validation=10_000)
    X_val, y_val = load_mnist(split="validation", validation=10_000)
    X_test, y_test = load_mnist(split="test")
    n, m, scale = 83 * 600, 16 * 600, np.float32(255 / 256)
    model = SoftmaxRegression(
        early_stopping="tutorial", patience=5000, shuffle=False, max_iter=1000, n_threads=1
    )
    model.fit(scale * X[:n], y[:n], X_val=scale * X_val[:m], y_val=y_val[:m])
    assert model.n_iter_ == 74
    errors = m * np.array(model.history_["val_error"])
    np.testing.assert_allclose(errors[[71, 73]], [0.07510417 * m, 0.07479167 * m], atol=0.01)
    assert errors.argmin() == 73
    assert np.sum(model.predict(scale * X_test[:m]) != y_test[:m]) == round(0.07489583 * m)
