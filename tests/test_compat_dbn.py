"""compat.dbn: the library's names, what they mean, the quality its demos show, bad input."""

import inspect
import pickle

import numpy as np
import pytest
import reference
import scipy.sparse
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from test_estimator_checks import _squeeze  # noqa: F401  # a fixture

import harmonium._visible
from harmonium import BernoulliRBM, SoftmaxRegression
from harmonium.compat.dbn import (
    SupervisedDBNClassification,
    SupervisedDBNRegression,
    UnsupervisedDBN,
)
from harmonium.datasets import load_digits

X, Y = load_digits()
TRAIN, TEST, Y_TRAIN, Y_TEST = train_test_split(X, Y, test_size=0.2, random_state=0)
LAYERS = {
    "hidden_layers_structure": [24, 16],
    "learning_rate_rbm": 0.05,
    "n_epochs_rbm": 2,
    # One thread: two wait for one another at every minibatch on a machine that is busy.
    "n_threads": 1,
    "verbose": False,
    "random_state": 0,
}
NETWORK = {**LAYERS, "learning_rate": 0.2, "n_iter_backprop": 3}
SUPERVISED = [SupervisedDBNClassification, SupervisedDBNRegression]


def small(kind, **parameters):
    common = LAYERS if kind is UnsupervisedDBN else NETWORK
    return kind(**{**common, **parameters})


def fitted(kind, **parameters):
    # Digits are numbers too.
    return small(kind, **parameters).fit(TRAIN[:400], Y_TRAIN[:400])


def parameters_of(model):
    return [*model.coefs_, *model.intercepts_]


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------------- the names


def test_parameters_and_defaults_are_the_librarys():
    layers = {
        "hidden_layers_structure": (100, 100),
        "activation_function": "sigmoid",
        "optimization_algorithm": "sgd",
        "learning_rate_rbm": 1e-3,
        "n_epochs_rbm": 10,
        "contrastive_divergence_iter": 1,
        "batch_size": 32,
        "verbose": True,
    }
    own = {"random_state": None, "n_threads": None, "callbacks": None}
    network = {
        "learning_rate": 1e-3,
        "n_iter_backprop": 100,
        "l2_regularization": 1.0,
        "dropout_p": 0.0,
    }
    assert UnsupervisedDBN().get_params() == layers | own
    # Which has no keyword-only parameters; the others have no positional ones.
    assert list(inspect.signature(UnsupervisedDBN).parameters)[:8] == list(layers)
    for kind in SUPERVISED:
        assert kind().get_params() == layers | network | own


@pytest.mark.parametrize("kind", [*SUPERVISED, UnsupervisedDBN])
def test_scikit_learns_manners(kind):
    model = small(kind)
    assert clone(model).get_params() == model.get_params()
    assert model.set_params(batch_size=7).batch_size == 7
    with pytest.raises(NotFittedError):
        model.transform(X)
    with pytest.raises(NotFittedError):
        model.save("nowhere")


EXPECTED = {"check_fit2d_predict1d": "a vector is one row, as for the library"}
BY_KIND = {
    UnsupervisedDBN: {
        "check_methods_subset_invariance": "score_samples draws by the row's number, as a DBN's",
        "check_methods_sample_order_invariance": "score_samples draws by the row's number",
    },
}


@pytest.mark.usefixtures("_squeeze")
@parametrize_with_checks(
    [
        UnsupervisedDBN((6, 4), n_epochs_rbm=2, verbose=False),
        SupervisedDBNClassification(
            (6,), learning_rate=0.5, l2_regularization=0.0, n_epochs_rbm=2, verbose=False
        ),
        SupervisedDBNRegression(
            (8,),
            learning_rate=0.1,
            l2_regularization=0.0,
            n_iter_backprop=200,
            batch_size=10,
            n_epochs_rbm=3,
            verbose=False,
        ),
    ],
    expected_failed_checks=lambda estimator: EXPECTED | BY_KIND.get(type(estimator), {}),
)
def test_scikit_learn_checks(estimator, check, monkeypatch):
    # They squeeze what is trained on into [0, 1], and so what is predicted for.
    squeezed = harmonium._visible.validate_units
    monkeypatch.setattr("harmonium.compat.dbn.validate_reals", squeezed)
    with np.errstate(under="ignore"):
        check(estimator)


# ------------------------------------------------------------------------------------- quality


def test_the_classification_demo():
    # The library's demo with its sigmoid units; its algorithm in plain NumPy is right about 0.958
    # of the test digits, and 0.936 with its dropout.
    demo = SupervisedDBNClassification(
        hidden_layers_structure=[256, 256],
        learning_rate_rbm=0.05,
        learning_rate=0.1,
        n_epochs_rbm=10,
        n_iter_backprop=100,
        batch_size=32,
        activation_function="sigmoid",
        verbose=False,
        random_state=0,
        n_threads=1,
    )
    assert demo.fit(TRAIN, Y_TRAIN).score(TEST, Y_TEST) >= 0.95
    assert demo.set_params(dropout_p=0.2).fit(TRAIN, Y_TRAIN).score(TEST, Y_TEST) >= 0.92


def test_the_regression_demo():
    # The library's algorithm in plain NumPy comes to 0.41, a linear fit to 0.44.
    data, targets = load_diabetes(return_X_y=True)
    train, test, y_train, y_test = train_test_split(data, targets, test_size=0.2, random_state=1)
    scaler = MinMaxScaler()
    train = scaler.fit_transform(train)
    assert train.max() > 1  # by the last bit of a float64, which is no reason to refuse it
    model = SupervisedDBNRegression(
        hidden_layers_structure=[200],
        learning_rate_rbm=0.01,
        learning_rate=0.01,
        n_epochs_rbm=20,
        n_iter_backprop=200,
        l2_regularization=0.0,
        verbose=False,
        random_state=0,
        n_threads=1,
    )
    model.fit(train, y_train / 100)
    test = scaler.transform(test)
    assert model.score(test, y_test / 100) > 0.37
    assert np.isfinite(model.predict(3 * test - 1)).all()  # once fitted, of any numbers


def test_layers_are_features_in_a_pipeline():
    dbn = UnsupervisedDBN(
        [128], learning_rate_rbm=0.06, n_epochs_rbm=20, verbose=False, random_state=0, n_threads=1
    )
    pipeline = make_pipeline(
        MinMaxScaler(), dbn, SoftmaxRegression(batch_size=20, random_state=0, n_threads=1)
    )
    score = pipeline.fit(TRAIN.astype(np.float64), Y_TRAIN).score(TEST.astype(np.float64), Y_TEST)
    assert score > 0.93


# ------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("kind", SUPERVISED)
@pytest.mark.parametrize("dropout_p", [0.0, 0.3])
def test_fine_tuning_is_the_librarys_rule(kind, dropout_p):
    # 100 rows in batches of at most 32 are four of 25: the library's would be 32, 32, 32, 4.
    n, lr, l2 = 100, 0.2, 3.0
    model = small(kind, learning_rate=lr, n_iter_backprop=2, l2_regularization=l2)
    model.set_params(dropout_p=dropout_p).pre_train(TRAIN[:n])
    pretrained = [(rbm.components_.T, rbm.intercept_hidden_) for rbm in model.rbms_]
    targets, loss, c = Y_TRAIN[:n], "softmax_cross_entropy", np.zeros(10)
    if kind is SupervisedDBNRegression:
        model.set_params(learning_rate=lr / 10)
        lr, loss = lr / 10, "squared_error"
        targets = np.stack([Y_TRAIN[:n], TRAIN[:n].sum(axis=1)], axis=1)
        c = targets.mean(axis=0)
    model.fit(TRAIN[:n], targets, pre_train=False)

    layers = [reference.Dense64(W, c, dropout=dropout_p) for W, c in pretrained]
    layers.append(reference.Dense64(np.zeros((16, len(c))), c, dropout=dropout_p))
    # Of the update W ← (1 - lr·λ/n)·W - lr·g; biases do not decay.
    rule = reference.NetworkRule64(loss, l2=l2 / n, seed=model._seed)
    step = 0
    for epoch in range(2):
        order = reference.shuffled_order(n, model._seed, epoch)
        for rows in np.split(order, 4):
            reference.network_update64(
                layers, rule, TRAIN[rows], targets[rows], step=step, learning_rate=lr
            )
            step += 1
    for W, c, layer in zip(model.coefs_, model.intercepts_, layers, strict=True):
        # Eight updates in float32, of values up to 20.
        np.testing.assert_allclose(W, layer.W, rtol=2e-6, atol=1e-5)
        np.testing.assert_allclose(c, layer.c, rtol=2e-6, atol=1e-5)


def test_layers_begin_where_the_librarys_do():
    model = small(UnsupervisedDBN, hidden_layers_structure=[400, 300], n_epochs_rbm=0).fit(TRAIN)
    for rbm, n_inputs in zip(model.rbms_, (64, 400), strict=True):
        for array in (rbm.components_, rbm.intercept_hidden_, rbm.intercept_visible_):
            # The deviation of n normal numbers is within 4/√(2n) of theirs, but once in 10⁴ times.
            assert array.std() * np.sqrt(n_inputs) == pytest.approx(
                1, abs=4 / np.sqrt(2 * array.size)
            )


def test_layers_are_trained_as_asked():
    model = small(UnsupervisedDBN, contrastive_divergence_iter=3, batch_size=30, n_epochs_rbm=2)
    model.fit(TRAIN[:100])
    for rbm in model.rbms_:
        assert rbm.n_iter_ == 2
        # Four minibatches of 25, where the library has three of 30 and one of 10.
        assert rbm._gibbs_steps == 2 * 4 * 3
    other = small(UnsupervisedDBN, contrastive_divergence_iter=3, batch_size=25, n_epochs_rbm=2)
    other.fit(TRAIN[:100])
    assert_same([r.components_ for r in model.rbms_], [r.components_ for r in other.rbms_])
    assert isinstance(model.rbms_[0], BernoulliRBM)


@pytest.mark.parametrize("kind", SUPERVISED)
def test_transform_is_the_topmost_hidden_layer(kind):
    def chain(layers, x):
        for W, c in layers:
            x = reference.propup64(x, W, c)
        return x

    model = small(kind).pre_train(TRAIN)
    layers = [(rbm.components_.T, rbm.intercept_hidden_) for rbm in model.rbms_]
    np.testing.assert_allclose(model.transform(TEST), chain(layers, TEST), rtol=1e-4)
    before = model.transform(TEST)
    model.fit(TRAIN, Y_TRAIN, pre_train=False)
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))[:-1]
    np.testing.assert_allclose(model.transform(TEST), chain(layers, TEST), rtol=1e-4)
    assert np.abs(model.transform(TEST) - before).max() > 0.01
    assert model.transform(TEST).shape == (len(TEST), 16)
    assert model.transform(TEST[0]).shape == (16,)


def test_unsupervised_transform_takes_any_numbers():
    model = fitted(UnsupervisedDBN)
    wide = np.linspace(-2, 3, 64 * 5).reshape(5, 64)
    first = reference.propup64(wide, model.rbms_[0].components_.T, model.rbms_[0].intercept_hidden_)
    top = reference.propup64(first, model.rbms_[1].components_.T, model.rbms_[1].intercept_hidden_)
    np.testing.assert_allclose(model.transform(wide), top, rtol=1e-4)
    np.testing.assert_allclose(model.transform(wide, layer=1), first, rtol=1e-4)
    np.testing.assert_allclose(model.transform(wide[2]), top[2], rtol=1e-4)


# ------------------------------------------------------------------------------------- targets


def test_labels_of_any_kind():
    names = np.array(["zero", "one", "two", "three", "four"])
    few = Y_TRAIN < 5
    rows, labels = TRAIN[few], names[Y_TRAIN[few]]
    model = small(SupervisedDBNClassification, n_iter_backprop=60).fit(rows, labels)
    assert model.score(rows, labels) > 0.95
    p = model.predict_proba(rows[:7])
    dicts = model.predict_proba_dict(rows[:7])
    assert [max(row, key=row.get) for row in dicts] == model.predict(rows[:7]).tolist()
    for row, expected in zip(dicts, p, strict=True):
        assert list(row) == sorted(names.tolist())
        np.testing.assert_array_equal(list(row.values()), expected)
    # One row, as a vector.
    np.testing.assert_allclose(model.predict_proba(rows[0]), p[:1], rtol=1e-6)
    assert model.predict_proba_dict(rows[0])[0].keys() == dicts[0].keys()
    assert model.predict(rows[0]).shape == (1,)


def test_targets_come_back_in_their_shape():
    one = fitted(SupervisedDBNRegression)
    assert one.predict(TEST).shape == (len(TEST),)
    column = small(SupervisedDBNRegression).fit(TRAIN[:400], Y_TRAIN[:400, None])
    np.testing.assert_array_equal(column.predict(TEST), one.predict(TEST))
    several = np.stack([Y_TRAIN, -Y_TRAIN], axis=1)[:400]
    model = small(SupervisedDBNRegression).fit(TRAIN[:400], several)
    assert model.predict(TEST).shape == (len(TEST), 2)
    assert model.predict(TEST[0]).shape == (1, 2)
    assert model.predict(TEST.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("kind", SUPERVISED)
def test_sparse_rows_are_rows(kind):
    dense = fitted(kind)
    sparse = small(kind).fit(scipy.sparse.csr_array(TRAIN[:400]), Y_TRAIN[:400])
    np.testing.assert_array_equal(dense.predict(TEST), sparse.predict(scipy.sparse.csr_array(TEST)))


# ------------------------------------------------------------------------------------- pre-training


@pytest.mark.parametrize("kind", SUPERVISED)
def test_pre_train_then_fit_is_fit(kind):
    whole = fitted(kind)
    parted = small(kind).pre_train(TRAIN[:400]).fit(TRAIN[:400], Y_TRAIN[:400], pre_train=False)
    assert_same(parameters_of(whole), parameters_of(parted))
    # Layers of other rows, and again from them.
    model = small(kind).pre_train(TRAIN[400:])
    kept = [rbm.components_.copy() for rbm in model.rbms_]
    model.fit(TRAIN[:400], Y_TRAIN[:400], pre_train=False)
    first = parameters_of(model)
    model.fit(TRAIN[:400], Y_TRAIN[:400], pre_train=False)
    assert_same(first, parameters_of(model))
    assert_same(kept, [rbm.components_ for rbm in model.rbms_])
    assert np.any(first[0] != parameters_of(whole)[0])
    # Without any, random ones; then rows may be of any numbers.
    model = small(kind).fit(10 * TRAIN[:400] - 5, Y_TRAIN[:400], pre_train=False)
    assert not hasattr(model, "rbms_")
    assert model.transform(TEST).std() > 0.01


def test_numpys_global_generator_seeds():
    def model():
        return fitted(SupervisedDBNClassification, random_state=None)

    before = np.random.get_state()  # noqa: NPY002
    try:
        np.random.seed(1337)  # noqa: NPY002
        one, other = model(), model()
        np.random.seed(1337)  # noqa: NPY002
        again = model()
    finally:
        np.random.set_state(before)  # noqa: NPY002
    assert_same(parameters_of(one), parameters_of(again))
    assert np.any(one.coefs_[0] != other.coefs_[0])


def test_verbose_is_a_line_per_epoch(capsys):
    fitted(SupervisedDBNClassification, verbose=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * 2 + 3
    assert lines[0].startswith("[layer 1 of 2 (64-24)] Iteration 1")
    assert lines[-1].startswith("[SupervisedDBNClassification] Iteration 3, loss = ")
    fitted(SupervisedDBNClassification)
    assert capsys.readouterr().out == ""


# ------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", [*SUPERVISED, UnsupervisedDBN])
def test_a_file_is_the_model(kind, tmp_path):
    model = fitted(kind)
    path = tmp_path / "model.pkl"  # whatever it is called
    model.save(path)
    loaded = kind.load(path)
    assert type(loaded) is kind
    expected = model.get_params()
    expected["hidden_layers_structure"] = tuple(expected["hidden_layers_structure"])
    assert loaded.get_params() == expected
    np.testing.assert_array_equal(loaded.transform(TEST), model.transform(TEST))
    assert loaded.n_features_in_ == 64
    if kind is not UnsupervisedDBN:
        np.testing.assert_array_equal(loaded.predict(TEST), model.predict(TEST))
        assert loaded.history_ == model.history_
        loaded.fit(TRAIN[:400], Y_TRAIN[:400], pre_train=False)
        assert_same(parameters_of(model), parameters_of(loaded))
    other = UnsupervisedDBN if kind is not UnsupervisedDBN else SupervisedDBNRegression
    with pytest.raises(ValueError, match=f"is not a {other.__name__}.*holds a {kind.__name__}"):
        other.load(path)


@pytest.mark.parametrize("kind", SUPERVISED)
def test_pre_trained_layers_are_a_file_too(kind, tmp_path):
    path = tmp_path / "layers"
    model = small(kind).pre_train(TRAIN[:400])
    model.save(path)
    loaded = kind.load(path)
    np.testing.assert_array_equal(loaded.transform(TEST), model.transform(TEST))
    loaded.fit(TRAIN[:400], Y_TRAIN[:400], pre_train=False)
    assert_same(parameters_of(fitted(kind)), parameters_of(loaded))


def test_feature_names_are_kept(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TRAIN[:100], columns=[f"pixel {i}" for i in range(64)])
    small(UnsupervisedDBN).fit(frame).save(tmp_path / "model")
    loaded = UnsupervisedDBN.load(tmp_path / "model")
    assert loaded.feature_names_in_.tolist() == frame.columns.tolist()


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_a_pickle_is_never_run(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="expected a safetensors file written by harmonium"):
        SupervisedDBNClassification.load(path)
    with pytest.raises(FileNotFoundError):
        SupervisedDBNClassification.load(tmp_path / "nothing")


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "parameters, error, words",
    [
        ({"activation_function": "relu"}, ValueError, "activation_function must be .* got 'relu'"),
        ({"optimization_algorithm": "adam"}, ValueError, "optimization_algorithm must be 'sgd'"),
        ({"hidden_layers_structure": []}, ValueError, "hidden_layers_structure must be a list"),
        ({"hidden_layers_structure": 100}, ValueError, "hidden_layers_structure must be a list"),
        ({"hidden_layers_structure": [9, 0]}, ValueError, "hidden_layers_structure must be at"),
        ({"learning_rate_rbm": 0}, ValueError, "learning_rate_rbm must be a finite number"),
        ({"n_epochs_rbm": -1}, ValueError, "n_epochs_rbm must be at least 0"),
        ({"contrastive_divergence_iter": 0}, ValueError, "contrastive_divergence_iter must be at"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
        ({"verbose": "yes"}, TypeError, "verbose must be"),
        ({"n_threads": 0}, ValueError, "n_threads must be at least 1"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
        ({"n_iter_backprop": 1.5}, TypeError, "n_iter_backprop must be an integer"),
        ({"l2_regularization": -1}, ValueError, "l2_regularization must be a finite number"),
        ({"dropout_p": 1}, ValueError, "dropout_p must be below 1"),
        ({"dropout_p": 2}, ValueError, "dropout_p must be a finite number"),
    ],
)
def test_wrong_parameters_are_named(parameters, error, words):
    for kind in [*SUPERVISED, UnsupervisedDBN]:
        if not parameters.keys() <= kind().get_params().keys():
            continue
        with pytest.raises(error, match=words):
            small(kind, **parameters).fit(TRAIN, Y_TRAIN)
        if kind is not UnsupervisedDBN:
            with pytest.raises(error, match=words):
                small(kind, **parameters).pre_train(TRAIN)


@pytest.mark.parametrize("kind", SUPERVISED)
def test_wrong_data_are_told(kind):
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        small(kind).fit(16 * TRAIN, Y_TRAIN)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        small(kind).pre_train(16 * TRAIN)
    with pytest.raises(ValueError, match=r"y must .* for each of the 1437 rows, got 7"):
        small(kind).fit(TRAIN, Y_TRAIN[:7])
    with pytest.raises(ValueError, match=r"y must hold .* target y is None"):
        small(kind).fit(TRAIN, None)
    with pytest.raises(ValueError, match="NaN"):
        small(kind).fit(TRAIN, np.where(Y_TRAIN == 3, np.nan, Y_TRAIN))
    with pytest.raises(TypeError, match="pre_train must be True or False"):
        small(kind).fit(TRAIN, Y_TRAIN, pre_train="no")
    with pytest.raises(ValueError, match=r"X has 10 features, but .* is expecting 64"):
        fitted(kind).predict(TEST[:, :10])
    model = small(kind).pre_train(TRAIN).set_params(hidden_layers_structure=[5])
    with pytest.raises(ValueError, match="finds layers of"):
        model.fit(TRAIN, Y_TRAIN, pre_train=False)


def test_divergence_is_told():
    with pytest.raises(FloatingPointError, match="try a smaller learning rate"):
        fitted(SupervisedDBNRegression, learning_rate=1e3, n_iter_backprop=20)


def test_there_is_no_partial_fit():
    with pytest.raises(AttributeError, match=r"harmonium\.DBNClassifier has one"):
        small(SupervisedDBNClassification).partial_fit(TRAIN, Y_TRAIN)
