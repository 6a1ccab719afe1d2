"""A NumPy RBM script for MNIST, on harmonium: only the import of RBM is another one.

    python examples/numpy_rbm_mnist.py

Needs MNIST: `harmonium data fetch`, or HARMONIUM_DATA naming a folder with its files.
"""

from __future__ import annotations

import time

import numpy as np

from harmonium.compat.numpy_rbm import RBM  # was: from RBM import RBM
from harmonium.datasets import load_mnist

BATCH_SIZE = 50
EPOCHS = 5
LEARNING_RATE = 0.1


def main() -> None:
    np.random.seed(0)  # noqa: NPY002  # seeds the machine, as it did before
    X, _ = load_mnist()
    X_val, _ = load_mnist(split="test")
    rbm = RBM(n_vis=784, n_hid=100)
    began = time.perf_counter()
    for epoch in range(1, EPOCHS + 1):
        error = 0.0
        order = np.random.permutation(len(X))  # noqa: NPY002
        for rows in np.array_split(order, len(X) // BATCH_SIZE):
            error += rbm.compute_error_and_grads(X[rows], burn_in=0, num_steps=1)
            rbm.update_params(LEARNING_RATE, momentum=0.5)
        gap = rbm.avg_free_energy(X_val) - rbm.avg_free_energy(X[: len(X_val)])
        print(
            f"epoch {epoch}: error {error:.0f}, free energy gap {gap:.2f}, "
            f"{time.perf_counter() - began:.1f} s"
        )
    fantasy = rbm.gen_model_sample(start=X_val[0], num_iters=1000)
    for row in fantasy.reshape(28, 28):
        print("".join(" #"[pixel] for pixel in row))


if __name__ == "__main__":
    main()
