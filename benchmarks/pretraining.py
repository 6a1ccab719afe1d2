"""The deep-learning tutorial's whole pre-training, beside PyTorch's: 3 × 1000, CD-1, batches of 10.

python benchmarks/pretraining.py                a minute; both extrapolated from timed epochs
python benchmarks/pretraining.py --epochs 100   the whole of harmonium's

Prints a table in Markdown. Needs MNIST and PyTorch.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import peers
from peers import torch

from harmonium import BernoulliRBM, DBNClassifier
from harmonium.datasets import load_mnist

SIZES = (1000, 1000, 1000)
EPOCHS = 100
BATCH_SIZE = 10
LEARNING_RATE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, help="of harmonium (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    peers.start_torch(options.threads)

    X, _ = load_mnist(validation=10_000)
    model = trained(X, options.epochs, options.threads)
    ours = [seconds_of_an_epoch(rbm) for rbm in model.rbms_]
    theirs = torch_seconds(model, X)
    print("| layer | harmonium | PyTorch |")
    print("| :-- | --: | --: |")
    for rbm, a, b in zip(model.rbms_, ours, theirs, strict=True):
        n_hidden, n_visible = rbm.components_.shape
        print(f"| {n_visible}–{n_hidden} | {a:.2f} s an epoch | {b:.2f} s ({b / a:.1f}×) |")
    a, b = (EPOCHS * sum(seconds) / 60 for seconds in (ours, theirs))
    print(f"| all, {EPOCHS} epochs each | **{a:.1f} min** | {b:.1f} min ({b / a:.1f}×) |")


def trained(X: Any, n_epochs: int, n_threads: int) -> DBNClassifier:
    layer = BernoulliRBM(
        algorithm="cd",
        learning_rate=LEARNING_RATE,
        batch_size=BATCH_SIZE,
        n_iter=n_epochs,
        inputs="sample",
        shuffle=True,
        metrics=False,
    )
    return DBNClassifier(SIZES, rbm=layer, random_state=0, n_threads=n_threads).pretrain(X)


def seconds_of_an_epoch(rbm: BernoulliRBM) -> float:
    """Median over the epochs, drawing the layer's inputs included."""
    return float(np.median(np.diff([0.0, *rbm.history_["time"]])))


def torch_seconds(model: DBNClassifier, X: Any) -> list[float]:
    """Time an epoch of each layer, drawing its inputs included, from the same weights."""
    seconds = []
    with torch.inference_mode():
        intensities = torch.tensor(X)
        below: list[Any] = []
        for rbm in model.rbms_:
            twin = peers.TorchRBM.twin(rbm)

            def epoch(n_rows: int, twin: Any = twin) -> None:
                rows = twin.sample(intensities[:n_rows])
                for layer in below:
                    rows = layer.sample(layer.propup(rows))
                rows = rows[torch.randperm(len(rows))]
                twin.train(rows, None, BATCH_SIZE, 1, LEARNING_RATE)

            epoch(5000)  # warm
            began = time.perf_counter()
            epoch(len(X))
            seconds.append(time.perf_counter() - began)
            below.append(peers.TorchRBM.twin(rbm))
    return seconds


if __name__ == "__main__":
    main()
