"""MNIST, and models trained on it: speed depends on how many units are on, so random weights would
tell little."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import harmonium
from harmonium import _core

Float32 = NDArray[np.float32]

N_CHAINS = 100
EPOCHS = 3
folder = Path()  # where trained models are kept; conftest.py says
densities: dict[str, dict[str, float]] = {}  # fractions of ones, of every model that was used


@cache
def grey() -> Float32:
    """MNIST's training images, intensities in [0, 1]."""
    try:
        return harmonium.datasets.load_mnist()[0]
    except FileNotFoundError as error:
        pytest.skip(f"needs MNIST: {error}")


@cache
def binary() -> Float32:
    """The same thresholded at one half, as float32 zeros and ones: what every peer takes."""
    return (grey() > 0.5).astype(np.float32)


@cache
def hidden_states() -> Float32:
    """What a DBN's second layer learns from: sampled hidden states, as zeros and ones."""
    p = trained(784, 1000).transform(binary())
    return harmonium.ops.sample_bernoulli(p, seed=0, out=p)


def rows(n_visible: int, kind: str = "binary") -> Float32:
    """Return the training data of a layer."""
    if n_visible == 1000:
        return hidden_states()
    return grey() if kind == "grey" else binary()


def model_path(n_visible: int, n_hidden: int) -> Path:
    """Return the file of a model trained for a few epochs, by the harmonium that is installed."""
    source = Path(_core.__file__).read_bytes() + Path(__file__).read_bytes()
    stem = f"{n_visible}-{n_hidden}"
    path = folder / f"{stem}-{hashlib.sha256(source).hexdigest()[:16]}.safetensors"
    if not path.exists():
        X = rows(n_visible)
        for outdated in folder.glob(f"{stem}-*.safetensors"):
            outdated.unlink()
        model = harmonium.BernoulliRBM(
            n_hidden,
            learning_rate=0.05,
            batch_size=N_CHAINS,
            n_iter=EPOCHS,
            random_state=0,
            metrics=False,
        )
        model.fit(X).save(path)
    return path


@cache
def trained(n_visible: int, n_hidden: int) -> harmonium.BernoulliRBM:
    """Return such a model. Its users leave it as it is."""
    model = harmonium.load(model_path(n_visible, n_hidden))
    X = rows(n_visible)
    densities[f"{n_visible}–{n_hidden}"] = {
        "visible": float(X.mean()),
        "hidden": float(model.transform(X[:5000]).mean()),
        "hidden in the chains": float(model.h_samples_.mean()),
    }
    return model
