"""Deep belief networks on MNIST: the recipes behind docs/results.md.

    python examples/mnist_dbn.py softmax
    python examples/mnist_dbn.py tutorial --seed 1 --no-test

Needs MNIST: `harmonium data fetch`, or HARMONIUM_DATA naming a folder with its files.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harmonium import BernoulliRBM, DBNClassifier, SoftmaxRegression
from harmonium.callbacks import ProgressBar
from harmonium.datasets import load_mnist

N_VALIDATION = 10_000


class Split:
    """50 000 rows to train on, 10 000 to choose by, 10 000 to test once."""

    def __init__(self) -> None:
        self.X, self.y = load_mnist(validation=N_VALIDATION)
        self.X_val, self.y_val = load_mnist(split="validation", validation=N_VALIDATION)

    def validation(self) -> dict[str, Any]:
        return {"X_val": self.X_val, "y_val": self.y_val}


def softmax(data: Split, seed: int, n_threads: int | None) -> Any:
    """The deep-learning tutorial's logistic regression. Nothing in it is random."""
    model = SoftmaxRegression(
        learning_rate=0.13,
        batch_size=600,
        max_iter=1000,
        shuffle=False,
        early_stopping="tutorial",
        patience=5000,
        random_state=seed,
        n_threads=n_threads,
    )
    return model.fit(data.X, data.y, **data.validation())


def tutorial(data: Split, seed: int, n_threads: int | None) -> Any:
    """The deep-learning tutorial's DBN: 3 × 1000, CD-1, 100 epochs a layer, then to patience.

    Pre-trained on pixels above one half rather than on intensities.
    """
    layer = BernoulliRBM(
        algorithm="cd", learning_rate=0.01, batch_size=10, n_iter=100, metrics=False
    )
    model = DBNClassifier(
        (1000, 1000, 1000),
        rbm=layer,
        learning_rate=0.1,
        batch_size=10,
        max_iter=1000,
        early_stopping="tutorial",
        random_state=seed,
        n_threads=n_threads,
        callbacks=ProgressBar(["val_error"]),
    )
    model.pretrain(data.X > 0.5)
    return model.fit(data.X, data.y, pretrain=False, **data.validation())


RECIPES: dict[str, Callable[[Split, int, int | None], Any]] = {
    "softmax": softmax,
    "tutorial": tutorial,
}


def error(model: Any, X: Any, y: Any) -> str:
    wrong = int(np.sum(model.predict(X) != y))
    return f"{100 * wrong / len(y):.2f} % ({wrong} of {len(y):,})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--save", type=Path, help="write the model here")
    parser.add_argument("--no-test", action="store_true", help="leave the test rows alone")
    options = parser.parse_args()

    data, began = Split(), time.perf_counter()
    model = RECIPES[options.recipe](data, options.seed, options.threads)
    minutes = (time.perf_counter() - began) / 60
    if options.save is not None:
        model.save(options.save)
    print(f"{options.recipe}, seed {options.seed}: {minutes:.1f} min")
    print("validation error", error(model, data.X_val, data.y_val))
    if not options.no_test:
        print("test error      ", error(model, *load_mnist(split="test")))


if __name__ == "__main__":
    main()
