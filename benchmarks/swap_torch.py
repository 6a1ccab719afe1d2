"""A PyTorch script before and after its RBM class is swapped for harmonium's.

python benchmarks/swap_torch.py                a quarter of a minute

MNIST in zeros and ones, 784–128, batches of 64. Prints a table in Markdown: minibatches of the
usual loop (free energies, backward, Adam), with the class that people write and with
harmonium.torch.RBM; and of harmonium.torch.cd_step. Needs MNIST and PyTorch.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import peers
from peers import torch

from harmonium.datasets import load_mnist

N_VIS, N_HID, BATCH_SIZE = 784, 128, 64
LEARNING_RATE = 1e-3  # Adam's
CD_RATE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=5, help="of each (default: %(default)s)")
    parser.add_argument("--rows", type=int, default=60_000, help="an epoch (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    peers.start_torch(options.threads)
    import harmonium.torch

    X = torch.from_numpy(load_mnist()[0][: options.rows] > 0.5).float()
    batches = X.split(BATCH_SIZE)
    plain = plain_class()(N_VIS, N_HID)
    swapped = harmonium.torch.RBM(N_VIS, N_HID)
    by_cd = harmonium.torch.RBM(N_VIS, N_HID)

    def cd_epoch() -> None:
        for batch in batches:
            harmonium.torch.cd_step(by_cd, batch, lr=CD_RATE)

    contestants: dict[str, tuple[Any, Callable[[], None]]] = {
        "the class people write": (plain, autograd_epoch(plain, batches)),
        "`harmonium.torch.RBM`": (swapped, autograd_epoch(swapped, batches)),
        "`harmonium.torch.cd_step`": (by_cd, cd_epoch),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.epochs):  # in turn, so that all see the same machine
        for name, (_, epoch) in contestants.items():
            began = time.perf_counter()
            epoch()
            seconds[name].append(time.perf_counter() - began)

    print("| | µs a minibatch | times as fast | reconstruction error |")
    print("| :-- | --: | --: | --: |")
    medians = {name: statistics.median(of_epochs) for name, of_epochs in seconds.items()}
    slowest = medians["the class people write"]
    for name, (rbm, _) in contestants.items():
        time_of_batch = f"{1e6 * medians[name] / len(batches):.0f}"
        error = reconstruction_error(rbm, X[:1000])
        print(f"| {name} | {time_of_batch} | {slowest / medians[name]:.1f}× | {error:.4f} |")


def autograd_epoch(rbm: Any, batches: Any) -> Callable[[], None]:
    """Return an epoch of the usual loop, the same lines for both classes."""
    optimizer = torch.optim.Adam(rbm.parameters(), lr=LEARNING_RATE)

    def epoch() -> None:
        for data in batches:
            v, v1 = rbm(data)
            loss = rbm.free_energy(v) - rbm.free_energy(v1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def reconstruction_error(rbm: Any, v: Any) -> float:
    """Mean squared error of one pass up and down, a sanity check: all of them have learnt."""
    with torch.no_grad():
        p, _ = rbm.h_to_v(rbm.v_to_h(v)[0])
        return float(((v - p) ** 2).mean())


def plain_class() -> Any:
    """Return the class, in a function because torch may be missing."""
    nn, linear = torch.nn, torch.nn.functional.linear

    class RBM(nn.Module):  # type: ignore[name-defined,misc]
        def __init__(self, n_vis: int = 784, n_hid: int = 500, k: int = 1) -> None:
            super().__init__()
            self.W = nn.Parameter(torch.randn(n_hid, n_vis) * 1e-2)
            self.v_bias = nn.Parameter(torch.zeros(n_vis))
            self.h_bias = nn.Parameter(torch.zeros(n_hid))
            self.k = k

        def v_to_h(self, v: Any) -> Any:
            p = torch.sigmoid(linear(v, self.W, self.h_bias))
            return p, torch.bernoulli(p)

        def h_to_v(self, h: Any) -> Any:
            p = torch.sigmoid(linear(h, self.W.t(), self.v_bias))
            return p, torch.bernoulli(p)

        def forward(self, v: Any) -> Any:
            _, h = self.v_to_h(v)
            for _ in range(self.k):
                _, v_k = self.h_to_v(h)
                _, h = self.v_to_h(v_k)
            return v, v_k

        def free_energy(self, v: Any) -> Any:
            visible = v.mv(self.v_bias)
            hidden = torch.nn.functional.softplus(linear(v, self.W, self.h_bias)).sum(1)
            return (-hidden - visible).mean()

    return RBM


if __name__ == "__main__":
    main()
