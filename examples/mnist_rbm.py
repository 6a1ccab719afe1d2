"""An RBM that has learnt the distribution of MNIST's digits: the recipes behind docs/results.md.

    python examples/mnist_rbm.py quick              # 50 000 rows, judged by 10 000 others
    python examples/mnist_rbm.py best --test        # all 60 000 rows, judged by the test images
    python examples/mnist_rbm.py quick --pictures inpainted.png --curve curve.png

784 pixels, 500 hidden units. Every epoch draws bits afresh, with the intensities as odds; the rows
it is judged by are drawn once. Log-likelihoods are by annealed importance sampling, there and back.
Needs MNIST: `harmonium data fetch`, or HARMONIUM_DATA naming a folder with its files.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from harmonium import BernoulliRBM
from harmonium.callbacks import ProgressBar
from harmonium.datasets import load_mnist
from harmonium.evaluation import log_likelihood
from harmonium.plotting import plot_history, tile_images
from harmonium.schedules import linear

N_VALIDATION = 10_000

RECIPES: dict[str, dict[str, Any]] = {
    "quick": {"learning_rate": 0.1, "n_iter": 100},
    "best": {"learning_rate": 0.1, "n_iter": 400},
}
COMMON: dict[str, Any] = {
    "batch_size": 100,
    "n_gibbs_steps": 5,
    "n_chains": 100,
    "average": 0.999,
    "inputs": "sample",
    "shuffle": True,
    "init": "data",
    "metrics": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="the result is the same")
    parser.add_argument("--test", action="store_true", help="train on all rows, judge by the test")
    parser.add_argument("--chains", type=int, default=1000, help="annealed (default: 1000)")
    parser.add_argument("--temperatures", type=int, default=20_000, help="(default: 20000)")
    parser.add_argument("--output", type=Path, help="save the model here")
    parser.add_argument("--pictures", type=Path, help="draw lower halves given upper ones here")
    parser.add_argument("--curve", type=Path, help="draw the log-likelihood by epoch here")
    options = parser.parse_args()

    held_out = 0 if options.test else N_VALIDATION
    split: dict[str, Any] = {"split": "test"}
    if not options.test:
        split = {"split": "validation", "validation": held_out}
    X = load_mnist(validation=held_out)[0]
    judges = load_mnist(binarize="stochastic", **split)[0]

    recipe = dict(RECIPES[options.recipe])
    recipe["learning_rate"] = linear(recipe["learning_rate"], recipe["n_iter"])
    rbm = BernoulliRBM(
        500,
        random_state=options.seed,
        n_threads=options.threads,
        callbacks=ProgressBar(),
        **COMMON,
        **recipe,
    )
    if options.curve:
        rbm.set_params(metrics="likelihood")
    began = time.perf_counter()
    rbm.fit(X, X_val=judges if options.curve else None)
    trained = time.perf_counter()
    if options.output:
        rbm.save(options.output)
    found = log_likelihood(
        rbm,
        judges,
        method="ais",
        base_rate=(X.sum(axis=0, dtype=np.float64) + 0.5) / (len(X) + 1),
        n_chains=options.chains,
        betas=options.temperatures,
        random_state=options.seed,
        progress=True,
    )
    judged = time.perf_counter()
    whose = "test images" if options.test else "validation images"
    print(f"{options.recipe}, seed {options.seed}: {(trained - began) / 60:.1f} min of training")
    print(
        f"log-likelihood of the {whose}: {found.mean:.2f} ± {found.standard_error:.2f} nats by AIS"
    )
    print(f"by reverse AIS {found.lower:.2f}; the gap is {found.gap:.2f} nats")
    print(f"log Z {found.log_z:.2f} ± {found.log_z.standard_error:.2f}", end=", ")
    print(f"{found.log_z.n_eff:.0f} effective of {options.chains} chains, {judged - trained:.0f} s")
    if options.curve:
        names = ("epoch", "log_likelihood", "val_log_likelihood")
        plot_history({name: rbm.history_[name] for name in names}).savefig(options.curve)
    if options.pictures:
        draw(rbm, judges, options.pictures)


def draw(rbm: BernoulliRBM, images: np.ndarray, path: Path) -> None:
    """Rows of images, their upper halves, and lower halves drawn given those, three times."""
    from matplotlib.image import imsave

    n = 16
    images = images[:n].astype(np.float32)
    upper = np.arange(images.shape[1]) < images.shape[1] // 2
    drawn = [
        rbm.sample(
            n,
            1000,
            method="tempered",
            clamp=upper,
            values=images,
            return_probabilities=True,
            random_state=seed,
        )
        for seed in range(3)
    ]
    rows = np.concatenate([images, np.where(upper, images, 0.5), *drawn])
    picture = tile_images(rows, (28, 28), tile_shape=(5, n), scale=None)
    imsave(path, picture.repeat(2, 0).repeat(2, 1), cmap="gray", vmin=0, vmax=1)


if __name__ == "__main__":
    main()
