"""scikit-learn's example of an RBM before logistic regression, enlarged to MNIST, with each class.

python benchmarks/swap_sklearn.py               three rounds of 10 000 rows and 5 epochs

The same pipeline is fitted with either class in turns; printed are the median seconds of the RBM's
part and their ratio: with a number as `random_state`, and with a RandomState instance, where
both draw the same numbers. Before each fit all rest, because the threads of NumPy's BLAS stay awake
on their cores for about a tenth of a second. Needs MNIST.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

import harmonium
from harmonium.datasets import load_mnist


def fit(
    kind: Any, random_state: Any, options: argparse.Namespace, X: Any, y: Any
) -> tuple[Pipeline, float]:
    """Fit the example's pipeline; return it, and the RBM's seconds."""
    rbm = kind(options.hidden, learning_rate=0.06, n_iter=options.epochs, random_state=random_state)
    logistic = LogisticRegression(C=6000, max_iter=30, tol=1e-2)
    pipeline = Pipeline([("rbm", rbm), ("logistic", logistic)])
    time.sleep(0.3)
    began = time.perf_counter()
    features = rbm.fit_transform(X)
    seconds = time.perf_counter() - began
    logistic.fit(features, y)
    return pipeline, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()

    X, y = load_mnist()
    X_test, y_test = load_mnist(split="test")
    kinds = {
        "scikit-learn": sklearn.neural_network.BernoulliRBM,
        "harmonium": harmonium.BernoulliRBM,
    }
    print(
        f"784-{options.hidden}, {options.rows} rows, {options.epochs} epochs, minibatches of 10; "
        f"{options.threads} threads; median seconds of the RBM in {options.rounds} rounds"
    )
    print("| dtype | random_state | scikit-learn | harmonium | | pipeline: accuracy of each |")
    print("| :-- | :-- | --: | --: | --: | :-- |")
    for dtype in (np.float32, np.float64):
        rows, test = X[: options.rows].astype(dtype), X_test.astype(dtype)
        for state in ("number", "RandomState"):
            seconds: dict[str, list[float]] = {name: [] for name in kinds}
            fitted = {}
            for round_ in range(-1, options.rounds):  # the first warms both
                for name, kind in kinds.items():
                    seed = 0 if state == "number" else np.random.RandomState(0)
                    with threadpool_limits(options.threads):
                        fitted[name], took = fit(kind, seed, options, rows, y[: options.rows])
                    if round_ >= 0:
                        seconds[name].append(took)
            theirs, ours = (float(np.median(seconds[name])) for name in kinds)
            scores = " ".join(f"{fitted[name].score(test, y_test):.4f}" for name in kinds)
            print(
                f"| {np.dtype(dtype)} | {state} | {theirs:.2f} | {ours:.2f} | {theirs / ours:.1f}× "
                f"| {scores} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
