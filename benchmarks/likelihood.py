"""Learning a distribution beside PyTorch: annealed importance sampling, and time to -90 nats.

python benchmarks/likelihood.py                 some minutes
python benchmarks/likelihood.py --only ais
python benchmarks/likelihood.py --only errors   estimates of log Z against enumeration

784–500, MNIST in zeros and ones. Both train by the same recipe, PCD-5 with 100 chains in
minibatches of 100, at rates that fall in a line to zero, on bits drawn anew every epoch; what is
timed is training alone. Both models are judged by the same annealing, on test images. Prints tables
in Markdown. Needs MNIST and PyTorch.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import peers
from peer_likelihood import TorchPCD, torch_ais
from peers import torch

from harmonium import BernoulliRBM
from harmonium.annealing import log_odds
from harmonium.datasets import load_mnist
from harmonium.evaluation import log_likelihood, log_partition
from harmonium.schedules import linear

N_HIDDEN, BATCH_SIZE, N_CHAINS, N_STEPS = 500, 100, 100, 5
EPOCHS, RATE = 25, 0.1
GOAL = -90.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("ais", "training", "errors"))
    parser.add_argument("--temperatures", type=int, default=10_000, help="of AIS (10000)")
    parser.add_argument(
        "--torch-temperatures", type=int, default=1000, help="timed of those (1000)"
    )
    parser.add_argument("--chains", type=int, default=512, help="of AIS (512)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    peers.start_torch(options.threads)
    X = load_mnist()[0]
    if options.only in (None, "errors"):
        tell_errors(X)
    if options.only in (None, "ais"):
        compare_ais(X, options)
    if options.only in (None, "training"):
        compare_training(X, options.threads)


def tell_errors(X: Any) -> None:
    """How far estimates are off for machines of 20 hidden units, in standard errors."""
    print("| seed | log Z | AIS | reverse AIS |\n| --: | --: | --: | --: |")
    for seed in range(10):
        rbm = BernoulliRBM(
            20,
            learning_rate=0.05,
            batch_size=100,
            n_iter=5,
            n_chains=100,
            inputs="sample",
            init="data",
            metrics=False,
            random_state=seed,
        ).fit(X)
        exact = log_partition(rbm)
        cells = [f"{seed}", f"{exact:.3f}"]
        for method in ("ais", "reverse_ais"):
            found = log_partition(rbm, method, random_state=seed)
            off, error = found - exact, found.standard_error
            cells.append(f"{off:+.3f} ± {error:.3f} ({off / error:+.1f})")
        print(f"| {' | '.join(cells)} |")
    print()


def compare_ais(X: Any, options: argparse.Namespace) -> None:
    rbm = estimator(options.threads, EPOCHS).fit(X)
    n = options.torch_temperatures
    means = (X.sum(axis=0, dtype=np.float64) + 0.5) / (len(X) + 1)
    base = log_odds(means, None)
    parameters = rbm.components_.T, rbm.intercept_visible_, rbm.intercept_hidden_
    ours, theirs = [], []
    for seed in range(3):
        began = time.perf_counter()
        log_z = log_partition(
            rbm,
            "ais",
            n_chains=options.chains,
            betas=options.temperatures,
            base_rate=means,
            random_state=seed,
        )
        ours.append(time.perf_counter() - began)
        # Evenly spread, some of them: the rest would take as long each.
        betas = np.linspace(0, 1, n)
        with torch.inference_mode():
            began = time.perf_counter()
            their_log_z = torch_ais(*parameters, base, betas, options.chains)[1]
            theirs.append((time.perf_counter() - began) * options.temperatures / n)
    a, b = np.median(ours), np.median(theirs)
    print(f"AIS, 784–500, {options.temperatures} temperatures, {options.chains} chains\n")
    print("| | seconds | log Z |\n| :-- | --: | --: |")
    print(f"| harmonium | **{a:.1f}** | {log_z:.2f} ± {log_z.standard_error:.2f} |")
    print(f"| PyTorch, from {n} temperatures | {b:.0f} ({b / a:.1f}×) | {their_log_z:.2f} |\n")


def estimator(n_threads: int, n_epochs: int) -> BernoulliRBM:
    return BernoulliRBM(
        N_HIDDEN,
        learning_rate=linear(RATE, n_epochs),
        batch_size=BATCH_SIZE,
        n_iter=n_epochs,
        n_gibbs_steps=N_STEPS,
        n_chains=N_CHAINS,
        inputs="sample",
        shuffle=True,
        init="data",
        metrics=False,
        random_state=0,
        n_threads=n_threads,
    )


def compare_training(X: Any, n_threads: int) -> None:
    test = load_mnist(split="test", binarize="stochastic")[0]
    base_rate = (X.sum(axis=0, dtype=np.float64) + 0.5) / (len(X) + 1)

    def judge(rbm: BernoulliRBM) -> float:
        settings: dict[str, Any] = {"method": "ais", "n_chains": 500, "betas": 5000}
        settings |= {"base_rate": base_rate, "reverse": False, "random_state": 0}
        return log_likelihood(rbm, test, **settings).mean

    rows: dict[str, list[tuple[float, float]]] = {"harmonium": [], "PyTorch": []}
    ours = estimator(n_threads, EPOCHS)
    clock = {"seconds": 0.0, "began": time.perf_counter()}

    def note(rbm: BernoulliRBM, epoch: int, metrics: Any) -> None:
        clock["seconds"] += time.perf_counter() - clock["began"]
        if epoch >= EPOCHS // 2:
            rows["harmonium"].append((clock["seconds"], judge(rbm)))
        clock["began"] = time.perf_counter()

    ours.set_params(callbacks=note).fit(X)

    begun = estimator(n_threads, 1).set_params(n_iter=0).fit(X)
    scratch = estimator(n_threads, 1).set_params(n_iter=0).fit(X)
    with torch.inference_mode():
        parameters = begun.components_.T, begun.intercept_visible_, begun.intercept_hidden_
        peer = TorchPCD(*parameters, N_CHAINS)
        odds, seconds, rate = torch.tensor(X), 0.0, linear(RATE, EPOCHS)
        for epoch in range(EPOCHS):
            began = time.perf_counter()
            bits = torch.rand_like(odds).lt_(odds)
            peer.fit(bits, 1, BATCH_SIZE, N_STEPS, rate(epoch))
            seconds += time.perf_counter() - began
            if epoch + 1 >= EPOCHS // 2:
                W, b, c = peer.parameters()
                scratch.components_ = np.ascontiguousarray(W.T)
                scratch.intercept_visible_, scratch.intercept_hidden_ = b.copy(), c.copy()
                rows["PyTorch"].append((seconds, judge(scratch)))

    print(
        f"PCD-{N_STEPS}, {N_CHAINS} chains, {EPOCHS} epochs, until {GOAL:g} nats on test images\n"
    )
    print("| | seconds to it | seconds in all | nats at the end |\n| :-- | --: | --: | --: |")
    reached = {}
    for name, records in rows.items():
        reached[name] = next((s for s, nats in records if nats >= GOAL), float("nan"))
        total, last = records[-1]
        print(f"| {name} | {reached[name]:.1f} | {total:.1f} | {last:.2f} |")
    sooner = reached["PyTorch"] / reached["harmonium"]
    in_all = rows["PyTorch"][-1][0] / rows["harmonium"][-1][0]
    print(f"\n{sooner:.1f} times as soon, {in_all:.1f} times as fast in all.")


if __name__ == "__main__":
    main()
