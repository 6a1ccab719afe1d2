"""Estimators to files and back."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from harmonium._version import __version__
from harmonium.persistence import load_arrays, save_arrays
from harmonium.rbm import BernoulliRBM
from harmonium.training import value_at

__all__ = ["load", "save"]

_ARRAYS = ("components_", "intercept_hidden_", "intercept_visible_", "h_samples_")
_VELOCITIES = ("W_velocity", "b_velocity", "c_velocity")


def save(estimator: BernoulliRBM, path: str | os.PathLike[str]) -> None:
    """Write a fitted estimator: what :meth:`BernoulliRBM.save` does."""
    arrays = {name: getattr(estimator, name) for name in _ARRAYS}
    # W rather than its transpose, so that the file's rows are the memory's.
    arrays["components_"] = arrays["components_"].T
    if estimator._velocity is not None:
        arrays |= dict(zip(_VELOCITIES, estimator._velocity, strict=True))
    names = getattr(estimator, "feature_names_in_", None)
    header = {
        "harmonium": __version__,
        "model": type(estimator).__name__,
        "parameters": _plain_parameters(estimator),
        "feature_names_in": None if names is None else [str(name) for name in names],
        "n_iter": estimator.n_iter_,
        "history": estimator.history_,
        "seed": str(estimator._seed),  # beyond the integers JSON readers keep exactly
        "gibbs_steps": estimator._gibbs_steps,
        "rows_done": estimator._rows_done,
        "n_sampled": estimator._n_sampled,
    }
    save_arrays(path, arrays, header)


def _plain_parameters(estimator: BernoulliRBM) -> dict[str, Any]:
    parameters = estimator.get_params(deep=False)
    parameters.pop("callbacks")
    for name in ("learning_rate", "momentum"):
        if callable(parameters[name]):
            parameters[name] = value_at(name, parameters[name], max(estimator.n_iter_ - 1, 0))
    if isinstance(parameters["random_state"], np.random.RandomState):
        parameters["random_state"] = None
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in parameters.items()
    }


def load(path: str | os.PathLike[str]) -> BernoulliRBM:
    """Read a model that :meth:`BernoulliRBM.save` wrote.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    BernoulliRBM
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
        return _estimator_of(arrays, header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f"{os.fspath(path)} is not a model this version of harmonium can read: {error!r}"
        ) from error


def _estimator_of(arrays: dict[str, Any], header: dict[str, Any]) -> BernoulliRBM:
    if header["model"] != "BernoulliRBM":
        raise ValueError(f"it holds a {header['model']}")
    rbm = BernoulliRBM(**header["parameters"])
    W = arrays["components_"]
    n_visible, n_hidden = W.shape
    shapes = {
        "components_": (n_visible, n_hidden),
        "intercept_hidden_": (n_hidden,),
        "intercept_visible_": (n_visible,),
        "h_samples_": (len(arrays["h_samples_"]), n_hidden),
    }
    if "W_velocity" in arrays:
        shapes |= zip(_VELOCITIES, (W.shape, (n_visible,), (n_hidden,)), strict=True)
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape or array.dtype.kind != "f":
            raise ValueError(
                f"{name} is {array.dtype} of shape {array.shape} where floats of shape {shape} "
                "were expected"
            )
    for name in _ARRAYS:
        setattr(rbm, name, arrays[name])
    rbm.components_ = W.T
    rbm.n_features_in_ = n_visible
    names = header["feature_names_in"]
    if names is not None:
        if len(names) != n_visible:
            raise ValueError(f"{len(names)} feature names for {n_visible} features")
        rbm.feature_names_in_ = np.array(names, object)
    rbm.n_iter_ = int(header["n_iter"])
    rbm.history_ = {name: list(values) for name, values in header["history"].items()}
    rbm._seed = int(header["seed"])
    rbm._gibbs_steps = header["gibbs_steps"]
    rbm._rows_done = header["rows_done"]
    rbm._n_sampled = header["n_sampled"]
    rbm._velocity = None
    if "W_velocity" in arrays:
        rbm._velocity = tuple(arrays[name] for name in _VELOCITIES)
    return rbm
