"""``harmonium sample`` and ``harmonium reconstruct``: what a trained model makes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from harmonium.commands.data import Shape, checked_shape, data_of, dense, load_rows
from harmonium.commands.evaluation import is_binary
from harmonium.commands.models import default_binarize, load_whole, require_units
from harmonium.commands.output import result_path, save_array
from harmonium.commands.pictures import save_inpainting, save_reconstructions, save_tiles
from harmonium.dbn import DBN
from harmonium.rbm import BernoulliRBM

__all__ = ["reconstruct", "sample"]

SAMPLES, COMPLETED = 64, 12
"""How many are drawn, and how many rows are completed, where nobody says."""

STEPS = {"gibbs": 1000, "tempered": 1000, "annealed": 10_000}
"""After which an RBM of MNIST's digits draws digits; an annealed chain has one step at each
temperature, and of 1000 a few are left between."""

COMPLETIONS = 3
"""Of each row, so that one sees where the model is in doubt."""


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
    others: dict[str, Any] = {}
    if isinstance(model, BernoulliRBM):
        others["method"] = arguments.method
    else:
        _refuse_for(model, arguments, "--method", arguments.method != "gibbs")
        _refuse_for(model, arguments, "--clamp", arguments.clamp is not None)
    if arguments.label is not None:
        others["label"] = _class_named(model, arguments)
    steps = STEPS[arguments.method] if arguments.steps is None else arguments.steps
    others |= {"n_steps": steps, "random_state": arguments.seed}
    if arguments.clamp is not None:
        _complete(model, arguments, output, others)
        return
    samples = model.sample(
        arguments.n or SAMPLES, return_probabilities=arguments.probabilities, **others
    )
    if output.suffix == ".png":
        save_tiles(samples, _required_shape(shape, model.n_features_in_), output)
    else:
        save_array(samples, output)
    print(output)


def _complete(
    rbm: BernoulliRBM, arguments: argparse.Namespace, output: Path, others: dict[str, Any]
) -> None:
    """Draw the rest of rows of which a part is held."""
    data = load_rows(arguments.data, arguments.binarize, arguments.seed, arguments.image_shape)
    rows = dense(data.test[: arguments.n or COMPLETED])
    require_units(rbm, arguments.model, rows, arguments.data)
    shape = _required_shape(data.image_shape, rows.shape[1], "which --clamp needs")
    if not is_binary(rows):
        raise ValueError(
            f"--data {arguments.data}: --clamp holds zeros and ones, but values lie between: "
            "--binarize threshold makes them of these rows"
        )
    known = _part(arguments.clamp, shape)
    shown = arguments.probabilities or output.suffix == ".png"
    samples = rbm.sample(
        COMPLETIONS * len(rows),
        return_probabilities=shown,
        clamp=known,
        values=np.tile(rows, (COMPLETIONS, 1)),
        **others,
    ).reshape(COMPLETIONS, *rows.shape)
    if shown:  # of units that are held too, where they are what a free one would be drawn by
        samples = np.where(known, rows, samples).astype(samples.dtype)
    if output.suffix == ".png":
        save_inpainting(rows, known, samples, shape, output)
    else:
        save_array(samples, output)
    print(output)


def _part(name: str, shape: Shape) -> np.ndarray:
    """Return a bool for each pixel: whether it is in this half of a picture."""
    height, width = shape
    y, x = np.divmod(np.arange(height * width), width)
    first, place, size = {
        "top-half": (True, y, height),
        "bottom-half": (False, y, height),
        "left-half": (True, x, width),
        "right-half": (False, x, width),
    }[name]
    known: np.ndarray = (place < size // 2) == first
    return known


def _refuse_for(model: Any, arguments: argparse.Namespace, option: str, is_given: bool) -> None:
    if is_given:
        raise ValueError(
            f"{option}: is of a BernoulliRBM, but {arguments.model} holds a {type(model).__name__}"
        )


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


def _required_shape(
    shape: Shape | None,
    n_units: int,
    otherwise: str = "or an --output in .npy for an array",
) -> Shape:
    if shape is None:
        raise ValueError(
            f"{n_units} units are no square picture: give --image-shape HEIGHTxWIDTH, {otherwise}"
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
