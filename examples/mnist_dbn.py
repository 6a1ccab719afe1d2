"""Deep belief networks on MNIST: the recipes behind docs/results.md.

    python examples/mnist_dbn.py dropout              # 50 000 rows, error on 10 000 others
    python examples/mnist_dbn.py dropout --test       # all 60 000 rows, error on the test rows
    python examples/mnist_dbn.py tutorial --seed 1

Needs MNIST: `harmonium data fetch`, or HARMONIUM_DATA naming a folder with its files.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harmonium import DBN, BernoulliRBM, DBNClassifier, SoftmaxRegression
from harmonium.callbacks import ProgressBar
from harmonium.datasets import load_mnist

N_VALIDATION = 10_000
N_LABELLED = 1000


class Data:
    """Rows to train on, and, unless all of them are for that, rows to choose by."""

    def __init__(self, *, takes_all: bool) -> None:
        self.X, self.y = load_mnist(validation=0 if takes_all else N_VALIDATION)
        self.held_out: dict[str, Any] = {}
        if not takes_all:
            X_val, y_val = load_mnist(split="validation", validation=N_VALIDATION)
            self.held_out = {"X_val": X_val, "y_val": y_val}

    def labelled(self, n: int) -> tuple[Any, Any]:
        """Return the first rows of each class, the same number of all."""
        picked = [np.flatnonzero(self.y == k)[: n // 10] for k in range(10)]
        rows = np.sort(np.concatenate(picked))
        return self.X[rows], self.y[rows]


def softmax(data: Data, **common: Any) -> Any:
    """The deep-learning tutorial's logistic regression. Nothing in it is random."""
    model = SoftmaxRegression(
        learning_rate=0.13,
        batch_size=600,
        max_iter=1000,
        shuffle=False,
        early_stopping="tutorial",
        patience=5000,
        **common,
    )
    return model.fit(data.X, data.y, **data.held_out)


def tutorial(data: Data, **common: Any) -> Any:
    """The deep-learning tutorial's DBN: 3 × 1000, CD-1, 100 epochs a layer, then to patience."""
    layer = BernoulliRBM(
        algorithm="cd",
        learning_rate=0.01,
        batch_size=10,
        n_iter=100,
        inputs="sample",
        shuffle=True,
        metrics=False,
    )
    model = DBNClassifier(
        (1000, 1000, 1000),
        rbm=layer,
        learning_rate=0.3,
        batch_size=10,
        max_iter=200,
        early_stopping="tutorial",
        **common,
    )
    return model.fit(data.X, data.y, **data.held_out)


def momentum(epoch: int) -> float:
    return 0.5 if epoch < 5 else 0.9


# Hinton & Salakhutdinov (2006), Reducing the dimensionality of data with neural networks: what
# their code trains an RBM with.
HINTON = BernoulliRBM(
    algorithm="cd",
    learning_rate=0.1,
    momentum=momentum,
    batch_size=100,
    n_iter=50,
    l2=2e-4,
    shuffle=True,
    metrics=False,
)
SIZES = (500, 500, 2000)


def backprop(data: Data, **common: Any) -> Any:
    """Hinton's 500-500-2000: a high learning rate that falls by a tenth in every epoch."""
    model = DBNClassifier(
        SIZES, rbm=HINTON, learning_rate=1.2, learning_rate_decay=0.9, max_iter=20, **common
    )
    return model.fit(data.X, data.y, **data.held_out)


def dropout(data: Data, **common: Any) -> Any:
    """The same layers, fine-tuned with dropout of the hidden units, the last epochs averaged."""
    model = DBNClassifier(
        SIZES,
        rbm=HINTON,
        learning_rate=1.0,
        learning_rate_decay=0.998,
        batch_size=100,
        max_iter=300,
        dropout=0.5,
        ema_decay=0.9,
        **common,
    )
    return model.fit(data.X, data.y, **data.held_out)


def few_labels(data: Data, **common: Any) -> Any:
    """Pre-trained on all rows, fine-tuned on 1000 labels."""
    return _few_labels(DBNClassifier(SIZES, rbm=HINTON, **common).pretrain(data.X), data)


def few_labels_random(data: Data, **common: Any) -> Any:
    """The same network and 1000 labels, from random weights."""
    return _few_labels(DBNClassifier(SIZES, **common), data)


def _few_labels(model: Any, data: Data) -> Any:
    model.set_params(learning_rate=0.1, max_iter=150, dropout=0.3, input_dropout=0.2)
    return model.fit(*data.labelled(N_LABELLED), pretrain=False)


def up_down(data: Data, **common: Any) -> Any:
    """Hinton, Osindero & Teh (2006): a generative model of pictures and labels."""
    n_epochs = 200
    model = DBN(SIZES, rbm=HINTON, label_units=True, **common).fit(data.X, data.y)
    return model.fit_up_down(
        data.X,
        data.y,
        n_iter=n_epochs,
        learning_rate=lambda epoch: 0.15 * (1 - epoch / n_epochs),
        n_gibbs_steps=lambda epoch: 3 if epoch < 70 else 6 if epoch < 140 else 10,
        **data.held_out,
    )


RECIPES: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "tutorial": tutorial,
    "backprop": backprop,
    "dropout": dropout,
    "few-labels": few_labels,
    "few-labels-random": few_labels_random,
    "up-down": up_down,
}

# These end when the validation error says so, and train on 50 000 rows for the test as well.
STOP_EARLY = {"softmax", "tutorial"}


def error(model: Any, X: Any, y: Any) -> str:
    wrong = int(np.sum(model.predict(X) != y))
    return f"{100 * wrong / len(y):.2f} % ({wrong} of {len(y):,})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--save", type=Path, help="write the model here")
    parser.add_argument("--test", action="store_true", help="train for the test rows, and take it")
    options = parser.parse_args()

    data = Data(takes_all=options.test and options.recipe not in STOP_EARLY)
    began = time.perf_counter()
    model = RECIPES[options.recipe](
        data,
        random_state=options.seed,
        n_threads=options.threads,
        callbacks=ProgressBar(["val_error"]),
    )
    minutes = (time.perf_counter() - began) / 60
    if options.save is not None:
        model.save(options.save)
    layers = sum(rbm.history_["time"][-1] for rbm in getattr(model, "rbms_", [])) / 60
    print(f"{options.recipe}, seed {options.seed}: {minutes:.1f} min, {layers:.1f} of them layers")
    if data.held_out:
        print("validation error", error(model, *data.held_out.values()))
    if options.test:
        print("test error      ", error(model, *load_mnist(split="test")))


if __name__ == "__main__":
    main()
