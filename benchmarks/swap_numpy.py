"""compat.numpy_rbm.RBM beside a NumPy class written the way it is usually written.

python benchmarks/swap_numpy.py                 784-100, batches of 50, as in the script replaced

Both train on the same rows of MNIST in turns, a chunk of minibatches each; printed are the median
times of a minibatch (gradient and update) and their ratio. Before each chunk all rest, because the
threads of NumPy's BLAS stay awake on their cores for about a tenth of a second. Needs MNIST.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
from scipy.special import expit
from threadpoolctl import threadpool_limits

from harmonium.compat.numpy_rbm import RBM
from harmonium.datasets import load_mnist


class NumpyRBM:
    """A plain NumPy machine: float64, whole minibatches, states of both sides always drawn."""

    def __init__(self, n_vis: int, n_hid: int) -> None:
        self.rng = np.random.RandomState(0)
        self.parameters = [
            0.1 * self.rng.randn(n_vis, n_hid),
            np.zeros(n_vis),
            np.full(n_hid, -4.0),
        ]
        self.gradients = [np.zeros_like(array) for array in self.parameters]
        self.velocities = [np.zeros_like(array) for array in self.parameters]

    def sampled(self, p: Any) -> tuple[Any, Any]:
        return p, self.rng.binomial(1, p=p)

    def h_given_v(self, v: Any) -> tuple[Any, Any]:
        W, _, c = self.parameters
        return self.sampled(expit(v @ W + c))

    def v_given_h(self, h: Any) -> tuple[Any, Any]:
        W, b, _ = self.parameters
        return self.sampled(expit(h @ W.T + b))

    def compute_error_and_grads(self, batch: Any) -> float:
        n = len(batch)
        p0, h0 = self.h_given_v(batch)
        v, _ = self.v_given_h(h0)
        p, _ = self.h_given_v(v)
        self.gradients = [
            (batch.T @ p0 - v.T @ p) / n,
            (batch.sum(axis=0) - v.sum(axis=0)) / n,
            (p0.sum(axis=0) - p.sum(axis=0)) / n,
        ]
        return float(np.mean(np.sum((batch - v) ** 2, axis=1)))

    def update_params(self, lr: float, momentum: float) -> None:
        for parameter, gradient, velocity in zip(
            self.parameters, self.gradients, self.velocities, strict=True
        ):
            velocity *= momentum
            velocity += (1 - momentum) * lr * gradient
            parameter += velocity


def seconds_a_batch(model: Any, batches: Any) -> tuple[float, float]:
    """Train once on each batch; return the median time of one, and the mean error."""
    error, times = 0.0, []
    for batch in batches:
        began = time.perf_counter()
        error += model.compute_error_and_grads(batch)
        model.update_params(0.1, momentum=0.5)
        times.append(time.perf_counter() - began)
    return float(np.median(times)), error / len(batches)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--chunks", type=int, default=11, help="of each (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()

    X, _ = load_mnist()
    X = X.reshape(len(X), -1).astype(np.float64)  # as X / 255 is
    models = {
        "NumPy": NumpyRBM(X.shape[1], options.hidden),
        "harmonium": RBM(X.shape[1], options.hidden, random_state=0, n_threads=options.threads),
    }
    n_batches = 200
    rows = n_batches * options.batch_size
    times: dict[str, list[float]] = {name: [] for name in models}
    errors: dict[str, float] = {}
    with threadpool_limits(options.threads):
        for chunk in range(-1, options.chunks):  # the first warms both
            start = (chunk + 1) * rows % (len(X) - rows)
            batches = np.split(X[start : start + rows], n_batches)
            for name, model in models.items():
                time.sleep(0.3)
                seconds, errors[name] = seconds_a_batch(model, batches)
                if chunk >= 0:
                    times[name].append(seconds)
    medians = {name: float(np.median(values)) for name, values in times.items()}
    print(f"784-{options.hidden}, minibatches of {options.batch_size}, {options.threads} threads")
    print("| | a minibatch | error of the last chunk |")
    print("| :-- | --: | --: |")
    for name, seconds in medians.items():
        print(f"| {name} | {1e6 * seconds:.0f} µs | {errors[name]:.2f} |")
    print(f"ratio {medians['NumPy'] / medians['harmonium']:.1f}")


if __name__ == "__main__":
    main()
