"""Options, equal threads for everyone, and the race: how one workload is timed beside its peers.

pytest-benchmark is the clock and the archive; run.py makes its JSON file into the tables.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import cases
import data
import numpy as np
import pytest
import scipy
import scipy.linalg  # loads the BLAS that is to be limited
import sklearn
from peers import torch
from pytensor_rbm import pytensor
from threadpoolctl import threadpool_limits

import harmonium
from harmonium import _core

Turn = Callable[[], Any]

SETTLE_SECONDS = 0.15
"""Between two turns. OpenBLAS's idle threads spin for a tenth of a second (measured: a whole core
is busy for 105 ms after a product) and libgomp's for some milliseconds: on few cores the next
contender would be timed against them."""

TURN_SECONDS = 0.1
"""What a turn should last at least, by repetition: waking threads and filling caches is not the
workload."""

_machine: dict[str, Any] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("harmonium")
    group.addoption("--threads", type=int, default=min(2, os.cpu_count() or 1))
    group.addoption("--rounds", type=int, default=None, help="rounds per contender (7; quick: 3)")
    group.addoption("--quick", action="store_true", help="less work, fewer rounds")


@pytest.fixture(scope="session")
def threads(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("threads"))


@pytest.fixture(scope="session", autouse=True)
def machine(threads: int, pytestconfig: pytest.Config) -> Iterator[None]:
    """Give everyone the same threads; measure the float32 roofline; keep trained models."""
    assert pytestconfig.cache is not None
    data.folder = pytestconfig.cache.mkdir("harmonium")
    _machine["peak"] = {str(n): sgemm_peak(n) for n in sorted({1, threads})}
    if torch is not None:
        torch.set_num_threads(threads)
        torch.manual_seed(0)
    with threadpool_limits(threads, user_api="blas"):
        yield
    _machine["densities"] = data.densities


def sgemm_peak(n_threads: int, n: int = 2048) -> float:
    """Return the best float32 product of NumPy's and PyTorch's BLAS, in FLOP/s.

    What holds every dense method, scikit-learn's and PyTorch's among them.
    """
    a, b = np.random.default_rng(0).random((2, n, n), dtype=np.float32)
    out = np.empty_like(a)
    products = [lambda: np.matmul(a, b, out=out)]
    if torch is not None:
        torch.set_num_threads(n_threads)
        A, B, AB = map(torch.from_numpy, (a, b, out))
        products.append(lambda: torch.mm(A, B, out=AB))
    seconds = []
    with threadpool_limits(n_threads, user_api="blas"):
        for product in products:
            seconds += [clock(product) for _ in range(10)]
            time.sleep(SETTLE_SECONDS)
    return 2.0 * n**3 / min(seconds)


def pytest_benchmark_update_machine_info(
    config: pytest.Config, machine_info: dict[str, Any]
) -> None:
    machine_info["harmonium"] = describe(config.getoption("threads")) | _machine


def describe(n_threads: int) -> dict[str, Any]:
    """Return what pytest-benchmark does not know of a run: for reports."""
    versions = {"harmonium": harmonium, "NumPy": np, "SciPy": scipy, "scikit-learn": sklearn}
    if torch is not None:
        versions["PyTorch"] = torch
    if pytensor is not None:
        versions["PyTensor"] = pytensor
    return {
        "versions": {name: module.__version__ for name, module in versions.items()},
        "cores": len(os.sched_getaffinity(0)),
        "threads": n_threads,
        "isa": _core.active_isa(),
        "levels": _core.available_isas()[::-1],
    }


@pytest.fixture
def case(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Any:
    """A workload of cases.py, smaller with --quick."""
    return request.param.quick() if pytestconfig.getoption("quick") else request.param


def clock(turn: Turn) -> float:
    """Return how many seconds a turn takes."""
    began = time.perf_counter()
    turn()
    return time.perf_counter() - began


def long_enough(turn: Turn, seconds: float) -> tuple[Turn, int]:
    """Repeat a turn until it lasts so long; return that, and how many times it is."""
    n = max(1, round(seconds / clock(turn)))

    def repeated() -> None:
        for _ in range(n):
            turn()

    return repeated, n


class Race:
    """Times contenders in turns, so that what else the machine does falls on all alike."""

    def __init__(self, benchmark: Any, rounds: int, turn_seconds: float) -> None:
        self.benchmark = benchmark
        self.rounds = rounds
        self.turn_seconds = turn_seconds

    def __call__(
        self,
        case: Any,
        ours: Turn,
        others: Mapping[str, Turn],
        *,
        agree: Callable[[dict[str, Any]], None],
        table: str = "workloads",
        shares: Mapping[str, int] | None = None,
    ) -> None:
        """Run every contender once to warm up and compare results by `agree`, then in rounds.

        A workload whose contenders don't agree is not measured. A turn of a contender in `shares`
        does so many times less work than the case's.
        """
        agree({"harmonium": ours(), **{name: other() for name, other in others.items()}})
        ours, repeats = long_enough(ours, self.turn_seconds)
        turns = {name: long_enough(other, self.turn_seconds) for name, other in others.items()}
        seconds: dict[str, list[float]] = {name: [] for name in others}
        shares = shares or {}

        def others_turns() -> None:
            for name, (other, n) in turns.items():
                time.sleep(SETTLE_SECONDS)
                seconds[name].append(clock(other) / n * shares.get(name, 1))
            time.sleep(SETTLE_SECONDS)

        # pytest-benchmark calls `setup` before each round, off its clock: the others' turn.
        self.benchmark.pedantic(ours, setup=others_turns, rounds=self.rounds)
        self.benchmark.extra_info.update(
            table=table,
            title=case.title,
            unit=case.unit,
            amount=case.amount,
            repeats=repeats,
            flop=case.flop,
            seconds={name: statistics.median(times) for name, times in seconds.items()},
        )


@pytest.fixture
def race(benchmark: Any, pytestconfig: pytest.Config) -> Race:
    quick = pytestconfig.getoption("quick")
    rounds = pytestconfig.getoption("rounds") or (3 if quick else 7)
    return Race(benchmark, rounds, TURN_SECONDS / (3 if quick else 1))


def at_level(level: str, turn: Turn) -> Turn:
    """Make a turn run at an instruction-set level, wherever the last one left it."""

    def leveled() -> Any:
        _core.set_isa(level)
        return turn()

    return leveled


@pytest.fixture
def by_level() -> Iterator[Callable[[Callable[[], Turn]], tuple[Turn, dict[str, Turn]]]]:
    """Make turns for every instruction-set level: the best one, and the others by name."""
    active = _core.active_isa()

    def turns(make: Callable[[], Turn]) -> tuple[Turn, dict[str, Turn]]:
        best, *lower = reversed(_core.available_isas())
        return at_level(best, make()), {level: at_level(level, make()) for level in lower}

    yield turns
    _core.set_isa(active)


@pytest.fixture
def by_part(
    threads: int,
) -> Iterator[Callable[[Callable[[int], Turn]], tuple[Turn, dict[str, Turn]]]]:
    """Make harmonium's turn, of so many threads, and the same with less: one thread, AVX2 alone."""
    active = _core.active_isa()

    def turns(make: Callable[[int], Turn]) -> tuple[Turn, dict[str, Turn]]:
        less = {}
        if threads > 1:
            less[cases.ONE_THREAD] = at_level(active, make(1))
        if active != cases.AVX2 and cases.AVX2 in _core.available_isas():
            less[cases.AVX2] = at_level(cases.AVX2, make(threads))
        return at_level(active, make(threads)), less

    yield turns
    _core.set_isa(active)
