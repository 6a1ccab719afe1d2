"""MNIST, documents, and models trained on them: speed depends on how many units are on, so random
weights would tell little."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
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
def labels() -> NDArray[np.int64]:
    """MNIST's training labels."""
    grey()  # skips where there is no MNIST
    return harmonium.datasets.load_mnist()[1]


@cache
def binary() -> Float32:
    """The same thresholded at one half, as float32 zeros and ones: what every peer takes."""
    return (grey() > 0.5).astype(np.float32)


@cache
def hidden_states() -> Float32:
    """What a DBN's second layer learns from: sampled hidden states, as zeros and ones."""
    p = trained(784, 1000).transform(binary())
    return harmonium.ops.sample_bernoulli(p, seed=0, out=p)


@cache
def documents() -> scipy.sparse.csr_matrix:
    """Which of 20 000 words are in each of 10 000 documents, 100 on average: ones in float32 CSR.

    Words are drawn with Zipf's frequencies, documents differ in length, columns are in no order.
    """
    n_documents, n_words, mean_draws = 10_000, 20_000, 137  # 100 words, some of them repeated
    rng = np.random.default_rng(0)
    lengths = rng.poisson(rng.gamma(4, mean_draws / 4, n_documents))
    frequency = 1 / np.arange(1, n_words + 1)
    ends = np.cumsum(frequency / frequency.sum())
    rank = np.searchsorted(ends[:-1], rng.random(lengths.sum()))
    words = rng.permutation(n_words)[rank].astype(np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ones = np.ones(len(words), np.float32)
    X = scipy.sparse.csr_matrix((ones, words, starts), shape=(n_documents, n_words))
    X.sum_duplicates()
    X.data[:] = 1
    return X


def rows(n_visible: int, kind: str = "binary") -> Any:
    """Return the training data of a layer."""
    if n_visible == 20_000:
        return documents()
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
            # Thousands of updates would pass before the biases of rare words were learnt.
            init="data" if scipy.sparse.issparse(X) else "normal",
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
