"""``harmonium sample`` and ``harmonium reconstruct``: what a trained model makes."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from harmonium.commands.data import checked_shape, data_of, dense
from harmonium.commands.models import default_binarize, load_whole, require_units
from harmonium.commands.output import result_path, save_array
from harmonium.commands.pictures import save_reconstructions, save_tiles
from harmonium.dbn import DBN
from harmonium.rbm import BernoulliRBM

__all__ = ["reconstruct", "sample"]


def sample(arguments: argparse.Namespace) -> None:
    """Draw from a trained model."""
    output = result_path(arguments.output)
    model = load_whole(arguments.model)
    shape = checked_shape(arguments.image_shape, model.n_features_in_)
    if not isinstance(model, (BernoulliRBM, DBN)):
        raise ValueError(
            f"{arguments.model}: holds a {type(model).__name__}, which can't be drawn from; "
            "expected a BernoulliRBM or a DBN"
        )
    of_class = {} if arguments.label is None else {"label": _class_named(model, arguments)}
    samples = model.sample(
        arguments.n,
        arguments.steps,
        return_probabilities=arguments.probabilities,
        random_state=arguments.seed,
        **of_class,
    )
    if output.suffix == ".png":
        save_tiles(samples, _required_shape(shape, model.n_features_in_), output)
    else:
        save_array(samples, output)
    print(output)


def reconstruct(arguments: argparse.Namespace) -> None:
    """Pass rows up and down through a trained model."""
    output = result_path(arguments.output)
    model = load_whole(arguments.model)
    if not hasattr(model, "reconstruct"):
        raise ValueError(
            f"{arguments.model}: holds a {type(model).__name__}, which can't reconstruct; "
            "expected a BernoulliRBM, a DBN or a DeepAutoencoder"
        )
    binarize = default_binarize(model, arguments.binarize)
    data = data_of(arguments, binarize=binarize)
    rows = dense(data.to_show[: arguments.n])
    require_units(model, arguments.model, rows, arguments.data)
    reconstructions = model.reconstruct(rows)
    if output.suffix == ".png":
        shape = _required_shape(data.image_shape, rows.shape[1])
        save_reconstructions(rows, reconstructions, shape, output)
    else:
        save_array(reconstructions, output)
    error = np.mean(np.square(reconstructions - rows, dtype=np.float64))
    print(f"{len(rows)} rows, mean square error {error:.4f} a unit")
    print(output)


def _required_shape(shape: tuple[int, int] | None, n_units: int) -> tuple[int, int]:
    if shape is None:
        raise ValueError(
            f"{n_units} units are no square picture: give --image-shape HEIGHTxWIDTH, "
            "or an --output in .npy for an array"
        )
    return shape


def _class_named(model: Any, arguments: argparse.Namespace) -> Any:
    """Return the class that ``--label`` names."""
    if not getattr(model, "label_units", False):
        raise ValueError(
            f"--label {arguments.label}: needs a DBN with units of labels, as `harmonium train dbn "
            f"--generative` makes it, but {arguments.model} holds a {type(model).__name__}"
            + (" without" if isinstance(model, DBN) else "")
        )
    names = [str(label) for label in model.classes_]
    if arguments.label not in names:
        raise ValueError(f"--label {arguments.label}: expected one of {', '.join(names)}")
    return model.classes_[names.index(arguments.label)]
