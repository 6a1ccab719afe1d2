"""Map where harmonium is faster than PyTorch, and by how much: sizes × batches × fractions of ones.

python benchmarks/surface.py            five minutes; writes docs/benchmarks.md and two pictures
python benchmarks/surface.py --quick    the corners of the map; prints only
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import peers
import report
from conftest import SETTLE_SECONDS, Turn, clock, describe
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from peers import torch
from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info as machine_info
from threadpoolctl import threadpool_limits

from harmonium import ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import Chains, TrainingArrays, TrainingRule

N_VISIBLE = 784
HIDDEN = (16, 64, 256, 1024, 4096)
ROWS = (1, 10, 100, 1000, 4096)  # of a minibatch, or chains
DENSITIES = (0.01, 0.13, 0.3, 0.6)
WEIGHT_DEVIATION = 0.05
LEARNING_RATE = 1e-6  # so low that the densities stay
ROUNDS = 3
TURN_SECONDS = 0.07

DOCS = Path(__file__).resolve().parent.parent / "docs"

Run = Callable[[int], Any]  # of so many units of work


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="corners alone; writes nothing")
    parser.add_argument("--only", choices=["training", "gibbs"], help="half of it; writes nothing")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    options = parser.parse_args()
    peers.start_torch(options.threads)
    kinds = [TRAINING, GIBBS]
    if options.only is not None:
        kinds = [TRAINING if options.only == "training" else GIBBS]
    with threadpool_limits(options.threads, user_api="blas"), torch.inference_mode():
        surfaces = [measure(kind, options.quick, options.threads) for kind in kinds]

    run = describe(options.threads)
    run["versions"] = {name: run["versions"][name] for name in ("harmonium", "NumPy", "PyTorch")}
    info = machine_info() | {"harmonium": run}
    command = " ".join(["python benchmarks/surface.py", *sys.argv[1:]])
    text = summary(surfaces, report.machine_line({"machine_info": info}, command))
    print("\n" + text)
    if not (options.quick or options.only):
        for surface in surfaces:
            picture(surface).savefig(DOCS / "images" / surface.kind.picture)
        if report.write_between_markers(DOCS / "benchmarks.md", "surface", text):
            print("docs/benchmarks.md is up to date")
    return 0


class Machine:
    """Weights, data and chains with a fraction of ones, for both contenders."""

    def __init__(self, n_hidden: int, n_rows: int, density: float) -> None:
        rng = np.random.default_rng(0)
        self.n_rows, self.density = n_rows, density
        self.W = rng.normal(0, WEIGHT_DEVIATION, (N_VISIBLE, n_hidden)).astype(np.float32)
        self.b = np.full(N_VISIBLE, bias_for(density, n_hidden), np.float32)
        self.c = np.full(n_hidden, bias_for(density, N_VISIBLE), np.float32)
        # More rows than a small minibatch has, so that training passes over data.
        self.v = (rng.random((max(ROWS), N_VISIBLE)) < density).astype(np.float32)
        self.h = (rng.random((n_rows, n_hidden)) < density).astype(np.float32)


def bias_for(density: float, n_inputs: int) -> float:
    """Return the bias of a unit that is on so often, given random inputs that are on so often."""
    deviation = WEIGHT_DEVIATION * np.sqrt(n_inputs * density)
    inputs = deviation * np.random.default_rng(0).standard_normal(10_000)
    low, high = -30.0, 30.0
    for _ in range(40):
        bias = (low + high) / 2
        is_low = (1 / (1 + np.exp(-inputs - bias))).mean() < density
        low, high = (bias, high) if is_low else (low, bias)
    return bias


def training_turns(machine: Machine, n_threads: int) -> tuple[Run, Run, Callable[[], float]]:
    """Return harmonium's and PyTorch's runs of so many updates, and how dense the chains are."""
    engine = get_engine(n_threads=n_threads)
    n_hidden, batch_size = machine.W.shape[1], machine.n_rows
    arrays = TrainingArrays(
        machine.W.copy(), machine.b.copy(), machine.c.copy(), ops.pack(machine.h)
    )
    rule = TrainingRule(n_gibbs_steps=1, persistent=True, l1=0.0, l2=0.0, seed=0)
    trainer = engine.trainer(arrays, rule, "auto")
    rows = engine.rows_of_bits(ops.pack(machine.v), N_VISIBLE)
    twin = peers.TorchRBM(machine.W, machine.b, machine.c)
    v, h = torch.from_numpy(machine.v), torch.from_numpy(machine.h)

    def ours(n_updates: int) -> None:
        trainer.run(rows, None, 0, n_updates * batch_size, batch_size, 0, LEARNING_RATE, 0.0)

    def theirs(n_updates: int) -> None:
        twin.train(v[: n_updates * batch_size], h, batch_size, 1, LEARNING_RATE)

    return ours, theirs, lambda: ops.unpack(arrays.chains, n_hidden).mean()


def gibbs_turns(machine: Machine, n_threads: int) -> tuple[Run, Run, Callable[[], float]]:
    """Return harmonium's and PyTorch's runs of so many steps, and how dense the chains are."""
    engine = get_engine(n_threads=n_threads)
    start = machine.v[: machine.n_rows]
    core = engine.machine(machine.W, machine.b, machine.c, "auto")
    rows = engine.rows_of_bits(ops.pack(start), N_VISIBLE)
    chains = Chains(ops.pack(start), ops.pack(machine.h))
    twin = peers.TorchRBM(machine.W, machine.b, machine.c)
    v = torch.from_numpy(start)

    def ours(n_steps: int) -> None:
        core.gibbs(rows, chains, n_steps, 0, 0, 0)

    def theirs(n_steps: int) -> None:
        twin.gibbs(v, n_steps)

    return ours, theirs, lambda: ops.unpack(chains.h, machine.W.shape[1]).mean()


@dataclass(frozen=True)
class Kind:
    """What is measured at every point."""

    title: str
    rows: str  # what a row is called
    picture: str
    turns: Callable[[Machine, int], tuple[Run, Run, Callable[[], float]]]
    most_work: Callable[[int], int]  # in one call, by the number of rows


TRAINING = Kind(
    "PCD-1 training", "batch", "surface.png", training_turns, lambda rows: max(ROWS) // rows
)
GIBBS = Kind("Gibbs sampling", "chains", "surface-gibbs.png", gibbs_turns, lambda rows: 10_000)


@dataclass
class Surface:
    """How many times PyTorch's rate harmonium's is, and how many hidden units were on."""

    kind: Kind
    hidden: Sequence[int]
    rows: Sequence[int]
    densities: Sequence[float]
    ratios: dict[tuple[float, int, int], float] = field(default_factory=dict)
    ones: dict[tuple[float, int, int], float] = field(default_factory=dict)


def measure(kind: Kind, quick: bool, n_threads: int) -> Surface:
    corners = slice(None, None, 4 if quick else 1)
    densities = DENSITIES[:: 3 if quick else 1]
    surface = Surface(kind, HIDDEN[corners], ROWS[corners], densities)
    for density in surface.densities:
        for n_hidden in surface.hidden:
            for n_rows in surface.rows:
                ours, theirs, density_now = kind.turns(
                    Machine(n_hidden, n_rows, density), n_threads
                )
                point = density, n_hidden, n_rows
                surface.ratios[point] = ratio(ours, theirs, kind.most_work(n_rows))
                surface.ones[point] = density_now()
                print(
                    f"{kind.title}, {N_VISIBLE}–{n_hidden}, {kind.rows} {n_rows}, "
                    f"{density:.0%} ones: {report.times(surface.ratios[point])}",
                    flush=True,
                )
    return surface


def ratio(ours: Run, theirs: Run, most: int) -> float:
    """Return how many times faster we are: the median of some rounds, in turns."""
    turns = [long_enough(run, most) for run in (ours, theirs)]

    def seconds(turn: Turn, work: int) -> float:
        time.sleep(SETTLE_SECONDS)
        return clock(turn) / work

    rounds = [[seconds(*turn) for turn in turns] for _ in range(ROUNDS)]
    return statistics.median(their / our for our, their in rounds)


def long_enough(run: Run, most: int) -> tuple[Turn, int]:
    """Return a turn of TURN_SECONDS or one unit of work, by calls of at most so much; and its work.

    Every call but that of the slowest points also warms up.
    """
    time.sleep(SETTLE_SECONDS)
    work, repeats = 1, 1
    if clock(lambda: run(1)) < TURN_SECONDS:
        work = fitting(lambda: run(1), most)
        repeats = fitting(lambda: run(work), None)

    def turn() -> None:
        for _ in range(repeats):
            run(work)

    return turn, work * repeats


def fitting(turn: Turn, most: int | None) -> int:
    """Return how many of such turns last TURN_SECONDS."""
    n = max(1, round(TURN_SECONDS / clock(turn)))
    return n if most is None else min(n, most)


def summary(surfaces: Sequence[Surface], machine: str) -> str:
    """Return the least ratios and the medians as a table, and the pictures."""
    lines = [machine, ""]
    head = ["harmonium's rate over PyTorch's", "least", "where", "median", "greatest", "below 1"]
    lines += [report.row(head), report.row([":--", "--:", ":--", "--:", "--:", "--:"])]
    for surface in surfaces:
        kind, ratios = surface.kind, surface.ratios
        density, n_hidden, n_rows = least = min(ratios, key=ratios.__getitem__)
        where = f"{N_VISIBLE}–{n_hidden}, {kind.rows} {n_rows}, {density:.0%} ones"
        middle = report.times(statistics.median(ratios.values()))
        most = report.times(max(ratios.values()))
        below = f"{sum(value < 1 for value in ratios.values())} of {len(ratios)}"
        lowest = f"**{report.times(ratios[least])}**"
        lines.append(report.row([kind.title, lowest, where, middle, most, below]))
    for surface in surfaces:
        lines += [
            "",
            f"![{surface.kind.title}: rates over PyTorch's](images/{surface.kind.picture})",
        ]
    lines += ["", *(f"- {ones(surface)}" for surface in surfaces)]
    return "\n".join(lines)


def ones(surface: Surface) -> str:
    """Return what became of the hidden units' fractions of ones, over all sizes."""
    parts = []
    for density in surface.densities:
        points = {point: value for point, value in surface.ones.items() if point[0] == density}
        units = [n_hidden * n_rows for _, n_hidden, n_rows in points]
        parts.append(f"{np.average(list(points.values()), weights=units):.2g}")
    return f"Fractions of hidden units on after the {surface.kind.title}: {', '.join(parts)}."


def picture(surface: Surface) -> Figure:
    """Return a heat map for every density, with the ratios written in."""
    kind = surface.kind
    n = len(surface.densities)
    figure = Figure(figsize=(3.1 * n + 0.9, 3.6), dpi=110, layout="constrained")
    axes = figure.subplots(1, n, sharey=True)
    # Equal steps of colour for equal factors, either side of 1; read by any eye.
    most = max(max(r, 1 / r) for r in surface.ratios.values())
    norm = LogNorm(1 / most, most)
    for ax, density in zip(np.atleast_1d(axes), surface.densities, strict=True):
        grid = [[surface.ratios[density, h, r] for r in surface.rows] for h in surface.hidden]
        image = ax.imshow(grid, norm=norm, cmap="PuOr", origin="lower")
        for y, line in enumerate(grid):
            for x, value in enumerate(line):
                is_dark = abs(np.log(value)) > 0.6 * np.log(most)
                color = "white" if is_dark else "black"
                ax.text(x, y, report.times(value)[:-1], ha="center", va="center", color=color)
        ax.set_title(f"{density:.0%} ones")
        ax.set_xticks(range(len(surface.rows)), surface.rows)
        ax.set_yticks(range(len(surface.hidden)), surface.hidden)
        ax.set_xlabel(kind.rows)
    np.atleast_1d(axes)[0].set_ylabel("hidden units")
    figure.suptitle(f"{kind.title}, {N_VISIBLE} visible units: times PyTorch's rate")
    bar = figure.colorbar(image, ax=axes, fraction=0.03)
    ticks = [2.0**k for k in range(-6, 7) if 1 / most <= 2.0**k <= most]
    bar.set_ticks(ticks, labels=[f"{tick:.2g}×" for tick in ticks])
    bar.minorticks_off()
    return figure


if __name__ == "__main__":
    sys.exit(main())
