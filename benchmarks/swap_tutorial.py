"""The deep-learning tutorial's RBM before and after: PyTensor, Theano's heir, and harmonium.

python benchmarks/swap_tutorial.py            a minute, half of it PyTensor's compiler
python benchmarks/swap_tutorial.py --quick    fewer rounds

PCD-15 of 784-500 on MNIST's intensities, minibatches of 20, from weights that both share: chunks of
updates in turns, and the medians of their seconds per update. Prints a table in Markdown. Needs
MNIST; without PyTensor it says so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from conftest import SETTLE_SECONDS, clock
from peers import INSTALL
from pytensor_rbm import PytensorRBM, pytensor
from threadpoolctl import threadpool_limits

import harmonium
from harmonium.compat.tutorial import RBM, load_data

N_HIDDEN = 500
BATCH_SIZE = 20
N_GIBBS_STEPS = 15
LEARNING_RATE = 0.1
WARM_UPDATES = 1000  # a model whose units are on as often as later
AGREE_UPDATES = 100
CHUNK_SECONDS = 0.3
ROUNDS = 9

Update = Callable[[int], Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three rounds of short chunks")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    if pytensor is None:
        raise SystemExit(f"needs PyTensor, of Python 3.11 and later: {INSTALL}")
    with threadpool_limits(options.threads):
        compare(options.quick, options.threads)


def compare(quick: bool, n_threads: int) -> None:
    X = load_data()[0][0].get_value(borrow=True)
    rbm = RBM(n_visible=X.shape[1], n_hidden=N_HIDDEN)
    chains = np.zeros((BATCH_SIZE, N_HIDDEN), np.float32)
    n_batches = len(X) // BATCH_SIZE

    def update(index: int, cost: bool = False) -> None:
        first = index % n_batches * BATCH_SIZE
        x = X[first : first + BATCH_SIZE]
        rbm.train_batch(x, LEARNING_RATE, persistent=chains, k=N_GIBBS_STEPS, cost=cost)

    for index in range(WARM_UPDATES):
        update(index)
    before = PytensorRBM(X, as_estimator(rbm, chains), BATCH_SIZE, N_GIBBS_STEPS, LEARNING_RATE)
    contenders: dict[str, Update] = {
        "PyTensor": lambda index: before.update(index % n_batches),
        "harmonium": update,
        "harmonium, with the monitoring cost": lambda index: update(index, cost=True),
    }

    for name in ("PyTensor", "harmonium"):  # which also warms them up
        run(contenders[name], AGREE_UPDATES)
    require_agreement(rbm, before, X[-2000:])

    seconds = CHUNK_SECONDS / (5 if quick else 1)
    amounts = {
        name: max(1, round(seconds / (clock(lambda one=one: run(one, 5)) / 5)))
        for name, one in contenders.items()
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(3 if quick else ROUNDS):
        for name, one in contenders.items():
            time.sleep(SETTLE_SECONDS)
            n = amounts[name]
            times[name].append(clock(lambda one=one, n=n: run(one, n)) / n)

    medians = {name: statistics.median(measured) for name, measured in times.items()}
    print(
        f"PCD-{N_GIBBS_STEPS}, {X.shape[1]}-{N_HIDDEN}, batches of {BATCH_SIZE} grey rows; "
        f"PyTensor {pytensor.__version__}, harmonium {harmonium.__version__}, "
        f"{n_threads} threads for everyone"
    )
    print("| | ms an update | 15 epochs of 50 000 rows | times PyTensor's speed |")
    print("| :-- | --: | --: | --: |")
    for name, median in medians.items():
        minutes = median * 15 * n_batches / 60
        ratio = medians["PyTensor"] / median
        print(f"| {name} | {1000 * median:.2f} | {minutes:.2f} min | {ratio:.1f}× |")


def run(update: Update, n: int) -> None:
    for index in range(n):
        update(index)


def as_estimator(rbm: RBM, chains: Any) -> Any:
    """Return the parameters and chains under the names that PytensorRBM begins from."""
    return SimpleNamespace(
        components_=rbm.W.get_value().T,
        intercept_visible_=rbm.vbias.get_value(),
        intercept_hidden_=rbm.hbias.get_value(),
        h_samples_=chains,
    )


def require_agreement(rbm: RBM, before: PytensorRBM, X: Any) -> None:
    """Stop unless both have come as far: by the pseudo-likelihood of rows, a hundred pixels."""
    W, b, c = before.parameters()
    twin = RBM(n_visible=rbm.n_visible, n_hidden=rbm.n_hidden, W=W, vbias=b, hbias=c)
    scores = []
    for model in (rbm, twin):
        costs = []
        for bit in range(0, model.n_visible, 8):
            model.bit_i_idx = bit
            costs.append(model.get_pseudo_likelihood_cost(X))
        scores.append(statistics.mean(costs))
    # Runs that differ in nothing but their seeds end up to 5 nats apart.
    if abs(scores[0] - scores[1]) > 12:
        raise SystemExit(
            f"the two don't agree: pseudo-likelihoods {scores[0]:.1f}, {scores[1]:.1f}"
        )


if __name__ == "__main__":
    main()
