"""Estimators to files and back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator

from harmonium import schedules
from harmonium._arrays import words_for
from harmonium._version import __version__
from harmonium.persistence import load_arrays, save_arrays
from harmonium.rbm import BernoulliRBM
from harmonium.training import value_at

if TYPE_CHECKING:
    from harmonium.networks import NetworkEstimator

__all__ = ["load", "save"]

_ARRAYS = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")
_VELOCITIES = ("W_velocity", "b_velocity", "c_velocity")
# Of a network's training: groups of arrays, and what there is beside them.
_NETWORK_ARRAYS = ("arrays", "best", "average")
_NUMBERS = (
    "epoch",
    "steps",
    "rows_done",
    "loss_sum",
    "n_errors",
    "best_epoch",
    "best_score",
    "wait_until",
)

_SCHEDULES = {name: getattr(schedules, name) for name in schedules.__all__}

Arrays = dict[str, np.ndarray]
Header = dict[str, Any]


def save(estimator: Any, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator: what its method `save` does."""
    write, _ = _kind_of(type(estimator).__name__)
    arrays: Arrays = {}
    header = _head(estimator) | write(estimator, arrays, "")
    save_arrays(path, arrays, header)


def load(path: str | os.PathLike[str]) -> Any:
    """Read a model that an estimator's `save` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    BernoulliRBM, DBN, SoftmaxRegression, DBNClassifier or DeepAutoencoder
        Fitted. No code from the file is run.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The file is damaged, or not a model of harmonium's.
    """
    arrays, header = load_arrays(path)
    try:
        _, read = _kind_of(header["model"])
        return _read_head(read(arrays, header, ""), header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a model this version of harmonium can read: {error!r}"
        ) from error


Writer = Callable[[Any, Arrays, str], Header]
Reader = Callable[[Arrays, Header, str], Any]


def _kind_of(name: str) -> tuple[Writer, Reader]:
    if name == "BernoulliRBM":
        return _write_rbm, _read_rbm
    if name == "DBN":
        return _write_dbn, _read_dbn
    if name in ("SoftmaxRegression", "DBNClassifier", "DeepAutoencoder"):
        return _write_network_estimator, _read_network_estimator
    raise ValueError(f"it holds a {name}")


# ---- what all of them have ----


def _head(estimator: Any) -> Header:
    names = getattr(estimator, "feature_names_in_", None)
    return {
        "harmonium": __version__,
        "model": type(estimator).__name__,
        "feature_names_in": None if names is None else [str(name) for name in names],
    }


def _read_head(estimator: Any, header: Header) -> Any:
    names = header["feature_names_in"]
    if names is not None:
        if len(names) != estimator.n_features_in_:
            raise ValueError(f"{len(names)} feature names for {estimator.n_features_in_} features")
        estimator.feature_names_in_ = np.array(names, object)
    return estimator


def _plain_parameters(estimator: BaseEstimator, epoch: int) -> dict[str, Any]:
    """Return what of the parameters can be written; functions as their values in an epoch."""
    parameters = estimator.get_params(deep=False)
    parameters.pop("callbacks")
    for name in ("learning_rate", "momentum"):
        if callable(parameters.get(name)) and not _is_schedule(parameters[name]):
            parameters[name] = value_at(name, parameters[name], max(epoch, 0))
    if isinstance(parameters.get("random_state"), np.random.RandomState):
        parameters["random_state"] = None
    return {name: _plain(value) for name, value in parameters.items()}


def _is_schedule(value: Any) -> bool:
    return type(value) in _SCHEDULES.values()


def _plain(value: Any) -> Any:
    if _is_schedule(value):
        return {"schedule": type(value).__name__, **dataclasses.asdict(value)}
    if isinstance(value, BernoulliRBM):
        return {"BernoulliRBM": _plain_parameters(value, 0)}
    if isinstance(value, Mapping):
        return {"pairs": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _parameters_of(plain: Any) -> Any:
    if isinstance(plain, dict) and "BernoulliRBM" in plain:
        return _rbm_of(plain["BernoulliRBM"])
    if isinstance(plain, dict) and "schedule" in plain:
        arguments = dict(plain)
        return _SCHEDULES[arguments.pop("schedule")](**arguments)
    if isinstance(plain, dict) and "pairs" in plain:
        return {key: _parameters_of(item) for key, item in plain["pairs"]}
    return tuple(_parameters_of(item) for item in plain) if isinstance(plain, list) else plain


def _rbm_of(parameters: Mapping[str, Any]) -> BernoulliRBM:
    return BernoulliRBM(**{name: _parameters_of(value) for name, value in parameters.items()})


def _checked(
    arrays: Arrays, name: str, shape: tuple[int | None, ...], kind: str = "f"
) -> np.ndarray:
    """Return an array of the shape, of which None may be any length."""
    array = arrays[name]
    fits = array.ndim == len(shape) and all(
        wanted in (None, size) for size, wanted in zip(array.shape, shape, strict=True)
    )
    if not fits or array.dtype.kind != kind:
        kinds = {"f": "floats", "i": "integers", "u": "words of bits"}
        raise ValueError(
            f"{name} is {array.dtype} of shape {array.shape} where {kinds[kind]} of shape {shape} "
            "were expected"
        )
    return array


# ---- the RBM ----

_COUNTS = {"counts": (3,), "n_squares": (1,), "exchanges": (2, None)}
_BETAS = {"betas": (None,)}


def _carried_array(
    arrays: Arrays, begin: str, name: str, n_visible: int, n_hidden: int
) -> np.ndarray:
    """Return an array that updates carry: its name says what form it has."""
    words = {"completions": (None, words_for(n_visible)), "replicas": (None, words_for(n_hidden))}
    for kind, shapes in (("u", words), ("i", _COUNTS), ("f", _BETAS)):
        if name in shapes:
            return _checked(arrays, begin + name, shapes[name], kind)
    sizes = {"W": (n_visible, n_hidden), "b": (n_visible,), "c": (n_hidden,)}
    sizes |= {"v": sizes["b"], "h": sizes["c"]}
    return _checked(arrays, begin + name, sizes[name[0]])


def _write_rbm(rbm: BernoulliRBM, arrays: Arrays, prefix: str) -> Header:
    for name in _ARRAYS:
        arrays[prefix + name] = getattr(rbm, name)
    # W rather than its transpose, so that the file's rows are the memory's.
    arrays[prefix + "components_"] = rbm.components_.T
    if rbm._velocity is not None:
        for name, array in zip(_VELOCITIES, rbm._velocity, strict=True):
            arrays[prefix + name] = array
    for name, array in rbm._carried.items():
        arrays[f"{prefix}carried.{name}"] = array
    generator = None
    if rbm._generator_state is not None:
        generator = dict(rbm._generator_state)
        arrays[prefix + "generator"] = generator.pop("key")
    return {
        "parameters": _plain_parameters(rbm, rbm.n_iter_ - 1),
        "generator": generator,
        "n_iter": rbm.n_iter_,
        "history": rbm.history_,
        "seed": str(rbm._seed),  # beyond the integers JSON readers keep exactly
        "gibbs_steps": rbm._gibbs_steps,
        "rows_done": rbm._rows_done,
        "n_sampled": rbm._n_sampled,
        "n_labels": rbm._n_labels,
    }


def _read_rbm(arrays: Arrays, header: Header, prefix: str) -> BernoulliRBM:
    rbm = _rbm_of(header["parameters"])
    W = arrays[prefix + "components_"]
    n_visible, n_hidden = W.shape
    shapes = {
        "components_": (n_visible, n_hidden),
        "intercept_hidden_": (n_hidden,),
        "intercept_visible_": (n_visible,),
        "h_samples_": (len(arrays[prefix + "h_samples_"]), n_hidden),
    }
    has_velocity = prefix + "W_velocity" in arrays
    if has_velocity:
        shapes |= zip(_VELOCITIES, (W.shape, (n_visible,), (n_hidden,)), strict=True)
    read = {name: _checked(arrays, prefix + name, shape) for name, shape in shapes.items()}
    for name in _ARRAYS:
        setattr(rbm, name, read[name])
    rbm.components_ = W.T
    rbm.n_features_in_ = n_visible
    rbm.n_iter_ = int(header["n_iter"])
    rbm.history_ = {name: list(values) for name, values in header["history"].items()}
    rbm._seed = int(header["seed"])
    rbm._gibbs_steps = header["gibbs_steps"]
    rbm._rows_done = header["rows_done"]
    rbm._n_sampled = header["n_sampled"]
    rbm._n_labels = header["n_labels"]
    generator = header.get("generator")
    if generator is not None:
        rbm._generator_state = generator | {"key": arrays[prefix + "generator"]}
    rbm._velocity = tuple(read[name] for name in _VELOCITIES) if has_velocity else None
    begin = f"{prefix}carried."
    rbm._carried = {
        name: _carried_array(arrays, begin, name, n_visible, n_hidden)
        for name in (name.removeprefix(begin) for name in arrays if name.startswith(begin))
    }
    return rbm


# ---- stacks of them ----


def _write_layers(rbms: Sequence[BernoulliRBM], arrays: Arrays, prefix: str) -> list[Header]:
    return [_write_rbm(rbm, arrays, f"{prefix}{at}.") for at, rbm in enumerate(rbms)]


def _read_layers(arrays: Arrays, headers: Sequence[Header], prefix: str) -> list[BernoulliRBM]:
    return [_read_rbm(arrays, header, f"{prefix}{at}.") for at, header in enumerate(headers)]


# ---- networks ----


def _write_network(model: NetworkEstimator, arrays: Arrays, prefix: str) -> Header | None:
    if not hasattr(model, "coefs_"):
        return None  # while the layers are pre-trained
    state, n = model._state_to_save(), len(model.coefs_)
    for group in _NETWORK_ARRAYS:
        values = getattr(state, group)
        for at, array in enumerate(values):
            arrays[f"{prefix}{group}.{at}"] = array
    return {
        "n_layers": n,
        "seed": str(state.seed),
        "history": state.history,
        **{name: getattr(state, name) for name in _NUMBERS},
    }


def _read_network(model: NetworkEstimator, arrays: Arrays, header: Header, prefix: str) -> None:
    from harmonium.network_training import NetworkState

    groups: dict[str, list[np.ndarray]] = {}
    for group in _NETWORK_ARRAYS:
        names = [name for name in arrays if name.startswith(f"{prefix}{group}.")]
        groups[group] = [arrays[f"{prefix}{group}.{at}"] for at in range(len(names))]
    n = int(header["n_layers"])
    shapes = [array.shape for array in groups["arrays"][: 2 * n]]
    ends = [shape[-1] for shape in shapes[::2]]
    if len(shapes) != 2 * n or shapes[1::2] != [(end,) for end in ends]:
        raise ValueError(f"arrays of shapes {shapes} are not {n} layers")
    if [shape[0] for shape in shapes[2::2]] != ends[:-1]:
        raise ValueError(f"layers of shapes {shapes[::2]} don't fit on one another")
    for group, values in groups.items():
        for at, _ in enumerate(values):
            _checked(arrays, f"{prefix}{group}.{at}", shapes[at % (2 * n)])
    state = NetworkState(
        groups["arrays"],
        int(header["seed"]),
        best=groups["best"],
        average=groups["average"],
        history={name: list(values) for name, values in header["history"].items()},
        **{name: header[name] for name in _NUMBERS},
    )
    model._publish_network(state, n)


def _write_dbn(dbn: Any, arrays: Arrays, prefix: str) -> Header:
    header: Header = {
        "parameters": _plain_parameters(dbn, 0),
        "n_features_in": dbn.n_features_in_,
        "seed": str(dbn._seed),
        "n_sampled": dbn._n_sampled,
        "layers": _write_layers(dbn.rbms_, arrays, prefix + "layers."),
        **_write_classes(dbn),
    }
    state = dbn._up_down
    if state is not None:
        for at, array in enumerate(state.arrays):
            arrays[f"{prefix}up_down.{at}"] = array
        header["up_down"] = {
            "seed": str(state.seed),
            "epoch": state.epoch,
            "steps": state.steps,
            "rows_done": state.rows_done,
            "history": state.history,
        }
    return header


def _read_dbn(arrays: Arrays, header: Header, prefix: str) -> Any:
    from harmonium.dbn import DBN
    from harmonium.up_down import UpDownState

    dbn = DBN(**{name: _parameters_of(value) for name, value in header["parameters"].items()})
    dbn.n_features_in_ = int(header["n_features_in"])
    dbn._seed = int(header["seed"])
    dbn._n_sampled = header["n_sampled"]
    dbn.rbms_ = _read_layers(arrays, header["layers"], prefix + "layers.")
    _read_classes(dbn, header)
    if "up_down" in header:
        numbers = dict(header["up_down"])
        lower, top = dbn.rbms_[:-1], dbn.rbms_[-1]
        shapes = [(rbm.components_.T.shape, rbm.intercept_hidden_.shape) for rbm in lower]
        shapes += [(rbm.components_.shape, rbm.intercept_visible_.shape) for rbm in lower]
        flat = [shape for pair in shapes for shape in pair]
        flat += [
            top.components_.T.shape,
            top.intercept_visible_.shape,
            top.intercept_hidden_.shape,
        ]
        names = [f"{prefix}up_down.{at}" for at in range(len(flat))]
        read = [_checked(arrays, name, shape) for name, shape in zip(names, flat, strict=True)]
        seed = int(numbers.pop("seed"))
        history = {name: list(values) for name, values in numbers.pop("history").items()}
        dbn._publish(UpDownState(read, seed, history=history, **numbers))
    return dbn


def _write_classes(model: Any) -> Header:
    classes = getattr(model, "classes_", np.empty(0))  # none before labels came
    return {"classes": classes.tolist(), "classes_dtype": classes.dtype.str}


def _read_classes(model: Any, header: Header) -> None:
    if header["classes"]:
        model.classes_ = np.array(header["classes"], np.dtype(header["classes_dtype"]))


def _write_network_estimator(model: Any, arrays: Arrays, prefix: str) -> Header:
    header: Header = {
        "parameters": _plain_parameters(model, getattr(model, "n_iter_", 0) - 1),
        "n_features_in": model.n_features_in_,
        **_write_classes(model),
        "seed": str(model._seed),
        "network": _write_network(model, arrays, prefix + "network."),
    }
    if hasattr(model, "rbms_"):
        header["layers"] = _write_layers(model.rbms_, arrays, prefix + "layers.")
    return header


def _read_network_estimator(arrays: Arrays, header: Header, prefix: str) -> Any:
    from harmonium.autoencoder import DeepAutoencoder
    from harmonium.classifier import DBNClassifier, SoftmaxRegression

    kinds = (SoftmaxRegression, DBNClassifier, DeepAutoencoder)
    kind = {kind.__name__: kind for kind in kinds}[header["model"]]
    parameters = {name: _parameters_of(value) for name, value in header["parameters"].items()}
    model = kind(**parameters)
    model.n_features_in_ = int(header["n_features_in"])
    _read_classes(model, header)
    model._seed = int(header["seed"])
    if "layers" in header:
        model.rbms_ = _read_layers(arrays, header["layers"], prefix + "layers.")
    if header["network"] is not None:
        _read_network(model, arrays, header["network"], prefix + "network.")
    return model
