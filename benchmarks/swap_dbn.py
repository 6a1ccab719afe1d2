"""compat.dbn.SupervisedDBNClassification beside a NumPy network written row by row.

python benchmarks/swap_dbn.py                    digits, 256-256, batches of 32
python benchmarks/swap_dbn.py --data mnist       784-256-256, on as many rows

The library itself needs TensorFlow 1 and can't be installed any more, so its place is taken by the
same algorithm the way its NumPy classes go about it: a Python loop over rows, an outer product for
each. Both do the same epochs of pre-training and of fine-tuning in turns; printed are the median
times of an epoch and their ratios.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from harmonium.compat.dbn import SupervisedDBNClassification, UnsupervisedDBN
from harmonium.datasets import load_digits, load_mnist

LEARNING_RATE_RBM, LEARNING_RATE, L2 = 0.05, 0.1, 1.0


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


class RowByRow:
    """A DBN in float64 whose gradients are summed over a minibatch's rows one after the other."""

    def __init__(self, sizes: list[int], n_classes: int, batch_size: int) -> None:
        self.rng = np.random.RandomState(0)
        self.batch_size = batch_size
        self.layers = [self.normal(n_in, n_out) for n_in, n_out in pairwise(sizes)]
        self.top = self.normal(sizes[-1], n_classes)[:2]

    def normal(self, n_in: int, n_out: int) -> list[Any]:
        shapes = (n_out, n_in), n_out, n_in
        return [self.rng.standard_normal(shape) / np.sqrt(n_in) for shape in shapes]

    def batches(self, n: int) -> Iterator[Any]:
        order = self.rng.permutation(n)
        for begin in range(0, n, self.batch_size):
            yield order[begin : begin + self.batch_size]

    def pretrain(self, X: Any) -> None:
        """Make an epoch of CD-1 of each layer."""
        for W, c, b in self.layers:
            for batch in self.batches(len(X)):
                steps = [np.zeros_like(array) for array in (W, c, b)]
                for v in X[batch]:
                    p = sigmoid(W @ v + c)
                    h = (self.rng.random_sample(len(p)) < p).astype(np.int64)
                    v_model = sigmoid(h @ W + b)
                    p_model = sigmoid(W @ v_model + c)
                    steps[0] += np.outer(p, v) - np.outer(p_model, v_model)
                    steps[1] += p - p_model
                    steps[2] += v - v_model
                for array, step in zip((W, c, b), steps, strict=True):
                    array += LEARNING_RATE_RBM * (step / self.batch_size)
            X = sigmoid(X @ W.T + c)

    def fine_tune(self, X: Any, targets: Any) -> None:
        """Make an epoch of backpropagation."""
        layers = [layer[:2] for layer in self.layers] + [self.top]
        for batch in self.batches(len(X)):
            steps = [[np.zeros_like(W), np.zeros_like(c)] for W, c in layers]
            for x, t in zip(X[batch], targets[batch], strict=True):
                values = [x]
                for W, c in layers[:-1]:
                    values.append(sigmoid(W @ values[-1] + c))
                e = np.exp(layers[-1][0] @ values[-1] + layers[-1][1])
                delta = e / e.sum() - t
                for n in range(len(layers) - 1, -1, -1):
                    steps[n][0] += np.outer(delta, values[n])
                    steps[n][1] += delta
                    delta = (delta @ layers[n][0]) * values[n] * (1 - values[n])
            for (W, c), (W_step, c_step) in zip(layers, steps, strict=True):
                W *= 1 - LEARNING_RATE * L2 / len(X)
                W -= LEARNING_RATE * (W_step / self.batch_size)
                c -= LEARNING_RATE * (c_step / self.batch_size)


def seconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--rows", type=int, default=1437)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=10, help="of harmonium's a call, to time one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()

    X, y = {"digits": load_digits, "mnist": load_mnist}[options.data]()
    X, y = X.reshape(len(X), -1)[: options.rows], y[: options.rows]
    doubles, targets = X.astype(np.float64), np.eye(10)[y]
    hidden = [256, 256]
    common = {
        "learning_rate_rbm": LEARNING_RATE_RBM,
        "batch_size": options.batch_size,
        "verbose": False,
        "random_state": 0,
        "n_threads": options.threads,
        "n_epochs_rbm": options.epochs,
    }
    layers = UnsupervisedDBN(hidden, **common)
    network = SupervisedDBNClassification(
        hidden, learning_rate=LEARNING_RATE, n_iter_backprop=options.epochs, **common
    ).pre_train(X)
    plain = RowByRow([X.shape[1], *hidden], 10, options.batch_size)

    times: dict[str, list[tuple[float, float]]] = {"pre-training": [], "fine-tuning": []}
    with threadpool_limits(options.threads):
        for _ in range(options.rounds):
            # The threads of NumPy's BLAS stay awake for about a tenth of a second.
            theirs = (
                seconds(lambda: plain.pretrain(doubles)),
                seconds(lambda: plain.fine_tune(doubles, targets)),
            )
            time.sleep(0.3)
            ours = (
                seconds(lambda: layers.fit(X)),
                seconds(lambda: network.fit(X, y, pre_train=False)),
            )
            for name, a, b in zip(times, ours, theirs, strict=True):
                times[name].append((a / options.epochs, b))
    print(
        f"{options.data}, {len(X)} rows, batches of {options.batch_size}, {options.threads} threads"
    )
    print("| an epoch of | harmonium | NumPy, row by row | ratio |")
    print("| :-- | --: | --: | --: |")
    for name, pairs in times.items():
        a, b = np.median(pairs, axis=0)
        print(f"| {name} | {1e3 * a:.1f} ms | {1e3 * b:.0f} ms | {b / a:.0f} |")


if __name__ == "__main__":
    main()
