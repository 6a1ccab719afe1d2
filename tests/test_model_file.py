"""Saving and loading an estimator: everything comes back, and nothing but a whole file is read."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file
from sklearn.base import clone

import harmonium
from harmonium import BernoulliRBM, load
from harmonium.persistence import load_arrays, save_arrays

ATTRIBUTES = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")
X = np.random.default_rng(0).random((40, 9)) < 0.4


def fitted(dtype=np.float32, **parameters):
    given = {"n_components": 5, "n_iter": 3, "random_state": 0} | parameters
    return BernoulliRBM(**given).fit(X.astype(dtype))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "rbm.safetensors"


def round_trip(rbm, path):
    rbm.save(path)
    return load(path)


def assert_equal_models(one, other):
    for name in ATTRIBUTES:
        a, b = getattr(one, name), getattr(other, name)
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert (a.dtype, a.shape, a.strides) == (b.dtype, b.shape, b.strides), name
    assert one.n_iter_ == other.n_iter_
    assert one.history_ == other.history_
    assert one.n_features_in_ == other.n_features_in_


# ------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"momentum": 0.7, "n_chains": 3},
        {"algorithm": "cd", "l1": 0.01, "shuffle": True, "n_threads": 2, "precision": "float32"},
        {"sparsity_target": 0.2, "sparsity_decay": 0.5},
        {"solver": "adam", "beta_2": 0.9},
        {"max_norm": 0.5},
        {"average": 0.9, "centering": True},
        {"n_components": 70, "batch_size": np.int64(8), "learning_rate": np.float32(0.3)},
    ],
)
def test_everything_comes_back(path, dtype, parameters):
    rbm = fitted(dtype, random_state=np.int64(3), **parameters)
    rbm.gibbs(X)
    loaded = round_trip(rbm, path)
    assert_equal_models(loaded, rbm)
    assert loaded.get_params() == rbm.get_params()
    assert all(type(value).__module__ == "builtins" for value in loaded.get_params().values())
    # What is drawn next, and what is trained next, velocities and all.
    np.testing.assert_array_equal(loaded.gibbs(X), rbm.gibbs(X))
    np.testing.assert_array_equal(loaded.score_samples(X), rbm.score_samples(X))
    assert_equal_models(loaded.partial_fit(X), rbm.partial_fit(X))
    assert_equal_models(loaded.partial_fit(X[:3]), rbm.partial_fit(X[:3]))


def test_a_model_made_by_partial_fit_comes_back(path):
    rbm = BernoulliRBM(5, random_state=0, momentum=0.5).partial_fit(X)
    loaded = round_trip(rbm, path)
    assert_equal_models(loaded, rbm)
    assert_equal_models(loaded.partial_fit(X), rbm.partial_fit(X))


def test_feature_names_come_back(path):
    frame = pd.DataFrame(X, columns=[f"p{i}" for i in range(9)])
    loaded = round_trip(BernoulliRBM(5, n_iter=1).fit(frame), path)
    assert list(loaded.feature_names_in_) == list(frame.columns)
    loaded.transform(frame)
    with pytest.raises(ValueError, match="feature names"):
        loaded.transform(frame.rename(columns={"p0": "q0"}))
    assert not hasattr(round_trip(fitted(), path), "feature_names_in_")


def test_what_no_file_can_hold_is_left_out_as_documented(path):
    rbm = fitted(
        learning_rate=lambda epoch: 0.5 / (1 + epoch),
        momentum=lambda epoch: 0.1 * epoch,
        callbacks=[lambda *_: None],
        random_state=np.random.RandomState(0),
    )
    loaded = round_trip(rbm, path)
    assert loaded.learning_rate == 0.5 / 3  # of the third and last epoch
    assert loaded.momentum == 0.1 * 2
    assert loaded.callbacks is None
    assert loaded.random_state is None
    assert_equal_models(loaded, rbm)
    assert callable(rbm.learning_rate)  # saving changed nothing


def test_a_loaded_model_can_be_cloned_pickled_and_saved_again(path):
    loaded = round_trip(fitted(momentum=0.5), path)
    assert clone(loaded).get_params() == loaded.get_params()
    assert_equal_models(pickle.loads(pickle.dumps(loaded)), loaded)
    first = path.read_bytes()
    loaded.save(path)
    assert path.read_bytes() == first


def test_loaded_arrays_are_the_models_own(path):
    loaded = round_trip(fitted(), path)
    for name in ATTRIBUTES:
        getattr(loaded, name)[...] = 0  # writable, and no view of the file
    assert load(path).components_.any()


def test_the_file_is_readable_without_harmonium(path):
    fitted().save(path)
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["harmonium"])
        W = file.get_tensor("components_")
    assert W.shape == (9, 5)  # W, visible units first
    assert header["harmonium"] == harmonium.__version__
    assert header["parameters"]["n_components"] == 5


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_names_of_files(path, kind):
    fitted().save(kind(path))
    assert load(kind(path)).n_iter_ == 3


# ---------------------------------------------------------------------------- files gone wrong


def test_a_missing_file_or_folder(path):
    with pytest.raises(FileNotFoundError, match=r"rbm\.safetensors"):
        load(path)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fitted().save(path / "deeper" / "rbm.safetensors")


def test_a_save_that_fails_keeps_the_old_file(path, monkeypatch):
    rbm = fitted()
    rbm.save(path)
    before = path.read_bytes()
    monkeypatch.setattr(rbm, "history_", {"bad": [object()]})
    with pytest.raises(TypeError, match="JSON"):
        rbm.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_every_truncation_is_noticed(path):
    fitted(momentum=0.5).save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"rbm\.safetensors"):
            load(path)


def test_every_flipped_bit_is_noticed(path):
    fitted().save(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(whole), 100), len(whole) - 1]:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        # The first 8 bytes say how long the table is; a JSON key may change into another program's.
        with pytest.raises(ValueError, match=r"rbm\.safetensors"):
            load(path)


def foreign_text(path):
    path.write_text("a model")


def foreign_pickle(path):
    path.write_bytes(pickle.dumps(fitted()))


def foreign_safetensors(path):
    save_file({"weight": np.zeros((3, 3), np.float32)}, path)


@pytest.mark.parametrize("write", [foreign_text, foreign_pickle, foreign_safetensors])
def test_files_of_others_are_refused(path, write):
    write(path)
    with pytest.raises(ValueError, match=r"rbm\.safetensors.* written by harmonium"):
        load(path)


def rewritten(path, change):
    """Save a model, and write its file anew after `change(arrays, header)`."""
    fitted(momentum=0.5).save(path)
    arrays, header = load_arrays(path)
    change(arrays, header)
    save_arrays(path, arrays, header)


def _set(which, *keys, to):
    def change(arrays, header):
        place = (arrays, header)[which]
        for key in keys[:-1]:
            place = place[key]
        if to is None:
            del place[keys[-1]]
        else:
            place[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    "change, message",
    [
        (_set(1, "model", to="DeepBeliefNetwork"), "DeepBeliefNetwork"),
        (_set(1, "model", to=None), "model"),
        (_set(1, "parameters", "n_layers", to=3), "n_layers"),
        (_set(1, "seed", to=None), "seed"),
        (_set(1, "seed", to="dice"), "dice"),
        (_set(0, "components_", to=None), "components_"),
        (_set(0, "components_", to=np.zeros(9, np.float32)), "unpack"),
        (_set(0, "intercept_hidden_", to=np.zeros(6, np.float32)), r"intercept_hidden_.*6,.*5,"),
        (_set(0, "intercept_visible_", to=np.zeros((9, 1))), r"intercept_visible_.*\(9, 1\)"),
        (_set(0, "h_samples_", to=np.zeros((10, 4))), r"h_samples_.*\(10, 4\)"),
        (_set(0, "b_velocity", to=None), "b_velocity"),
        (_set(0, "W_velocity", to=np.zeros((2, 2))), r"W_velocity.*\(2, 2\).*\(9, 5\)"),
        (_set(0, "components_", to=np.ones((9, 5), np.uint8)), "components_ is uint8"),
        (_set(1, "feature_names_in", to=["a", "b"]), "2 feature names for 9"),
        (_set(1, "n_iter", to="many"), "many"),
        (_set(1, "history", to=[1]), "list"),
    ],
)
def test_a_sound_file_with_a_wrong_model_is_refused(path, change, message):
    rewritten(path, change)
    with pytest.raises(ValueError, match=rf"rbm\.safetensors is not a model .*{message}"):
        load(path)
