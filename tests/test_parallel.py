"""Threads: equal bits on any number of them, in forked children, and beside Python's own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from layouts import packed, random_bits, random_model, random_reals, same_bits

from harmonium import _core, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import TrainingArrays, TrainingRule

F32 = np.float32
V, H = 700, 200
W, B, C = random_model(V, H, seed=0, scale=0.1)
V_BITS, H_BITS = random_bits(640, V, seed=1, p=0.3), random_bits(640, H, seed=2)
FEW = V_BITS[:320].copy()  # too few rows for seven threads to share rows: they share columns
X = random_reals(300, 777, seed=3)
LONG = X.reshape(1, -1)  # one row: threads share its columns


def train(n_threads: int | None, persistent: bool = True, precision: Any = "auto") -> list[Any]:
    arrays = TrainingArrays(W.copy(), B.copy(), C.copy(), packed(H_BITS[:20]))
    rule = TrainingRule(2, persistent, 0.0, 1e-4, 7)
    engine = get_engine(n_threads=n_threads)
    trainer = engine.trainer(arrays, rule, precision)
    trainer.run(engine.rows_of_bytes(V_BITS), None, 0, 110, 20, 0, 0.1, 0.0)
    return list(arrays[:4])


CALLS: dict[str, Callable[[int | None], Any]] = {
    "sigmoid": lambda n: ops.sigmoid(X * 9 - 4, n_threads=n),
    "sigmoid of a long row": lambda n: ops.sigmoid(LONG * 9 - 4, n_threads=n),
    "softplus": lambda n: ops.softplus(X * 9 - 4, n_threads=n),
    "sample_bernoulli": lambda n: ops.sample_bernoulli(X, 1, n_threads=n),
    "sample_bernoulli of a long row": lambda n: ops.sample_bernoulli(LONG, 1, n_threads=n),
    "sample_bernoulli to words": lambda n: ops.sample_bernoulli(
        LONG, 1, out=np.empty((1, -(-LONG.size // 64)), np.uint64), n_threads=n
    ),
    "pack": lambda n: ops.pack(V_BITS, n_threads=n),
    "unpack": lambda n: ops.unpack(packed(V_BITS), V, dtype=F32, n_threads=n),
    "propup": lambda n: ops.propup(V_BITS, W, C, n_threads=n),
    "propup of few rows": lambda n: ops.propup(FEW, W, C, n_threads=n),
    "propdown": lambda n: ops.propdown(H_BITS, W, B, n_threads=n),
    "propdown of few rows": lambda n: ops.propdown(H_BITS[:100].copy(), W, B, n_threads=n),
    "matmul": lambda n: ops.matmul(V_BITS, W, n_threads=n),
    "free_energy": lambda n: ops.free_energy(V_BITS, W, B, C, n_threads=n),
    "gibbs": lambda n: ops.gibbs(V_BITS, W, B, C, 2, 5, n_threads=n),
    "cd_gradient": lambda n: ops.cd_gradient(V_BITS, W, B, C, 2, 5, n_threads=n),
    "cd_gradient of few rows": lambda n: ops.cd_gradient(
        FEW[:20].copy(), W, B, C, 1, 5, n_threads=n
    ),
    "training by PCD": train,
    "training by CD": lambda n: train(n, persistent=False),
}


def bits_of(result: Any) -> list[bytes]:
    results = result if isinstance(result, (tuple, list)) else [result]
    return [array.tobytes() for array in results]


@pytest.mark.parametrize("name", CALLS)
def test_any_number_of_threads_gives_the_same_bits(name: str) -> None:
    one = bits_of(CALLS[name](1))
    for n_threads in (2, 7, None):
        assert bits_of(CALLS[name](n_threads)) == one


def test_seven_threads_are_really_woken() -> None:
    """Without which the test above would say little."""
    CALLS["sigmoid"](7)
    CALLS["training by PCD"](7)
    assert len(os.listdir("/proc/self/task")) >= 7


def test_threads_sleep_when_there_is_nothing_to_do() -> None:
    """Measured: 0 s of processor time in the half second after; awake they would take 3 s."""
    CALLS["training by PCD"](7)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


@pytest.mark.parametrize("n_threads", [1, 2, 7])
def test_real_rows_on_any_number_of_threads(n_threads: int) -> None:
    """No promise of bits here: BLAS may split sums. 700 products of values below 1 and ~0.5."""
    exact = 1 / (1 + np.exp(-(X[:, :V].astype(np.float64) @ W + C)))
    got = ops.propup(X[:, :V], W, C, n_threads=n_threads)
    np.testing.assert_allclose(got, exact, rtol=0, atol=700 * 0.5 * 2.0**-24 * 700 / 4)
    np.testing.assert_allclose(got, exact, rtol=0, atol=2e-6)  # typical errors add up as a root


def test_requests() -> None:
    assert [_core.resolve_threads(n) for n in (1, 2, 7)] == [1, 2, 7]
    assert _core.resolve_threads(0) >= 1
    assert _core.resolve_threads(-3) == _core.resolve_threads(0)
    assert 8 <= _core.resolve_threads(2**31 - 1) <= max(8, 4 * os.cpu_count())
    assert not _core.in_forked_child()


# --- Forked children ------------------------------------------------------------------------------

# Python 3.12 warns of any fork in a process that has threads, which is the very case here.
forks = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def in_forked_child(call: Callable[[], bool], seconds: float = 20) -> str:
    """Fork, and say how the child got on with `call`: "right", "wrong", or "hung"."""
    pid = os.fork()
    if pid == 0:  # the child must never come back to pytest
        code = 2
        try:
            code = 0 if call() else 1
        finally:
            os._exit(code)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return "right" if status == 0 else f"wrong: status {status}"
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hung"


@forks
@pytest.mark.parametrize("name", ["sigmoid", "sample_bernoulli", "pack", "propup", "gibbs"])
def test_a_forked_child_runs_on_and_gives_the_same_bits(name: str) -> None:
    expected = bits_of(CALLS[name](2))  # also: the parent's pool of threads is awake
    assert in_forked_child(lambda: bits_of(CALLS[name](2)) == expected) == "right"


@forks
def test_training_in_a_forked_child() -> None:
    expected = bits_of(train(2))
    assert in_forked_child(lambda: bits_of(train(None)) == expected) == "right"
    assert bits_of(train(2)) == expected  # and the parent's threads are well


@forks
def test_a_forked_child_knows_that_it_is_one() -> None:
    CALLS["sigmoid"](2)
    assert (
        in_forked_child(lambda: _core.in_forked_child() and _core.resolve_threads(7) == 1)
        == "right"
    )
    assert not _core.in_forked_child()


@forks
def test_real_rows_in_a_forked_child() -> None:
    """BLAS has threads of its own, woken here before the fork."""
    expected = ops.propup(X[:, :V], W, C, n_threads=2)

    def call() -> bool:
        return np.allclose(ops.propup(X[:, :V], W, C, n_threads=2), expected, atol=1e-5)

    assert in_forked_child(call) == "right"


@forks
@pytest.mark.parametrize("kind", ["machine", "trainer"])
def test_a_machine_made_before_the_fork(kind: str) -> None:
    engine = get_engine(n_threads=2)
    rows = engine.rows_of_bytes(V_BITS)
    machine, out = engine.machine(W, B, C, "auto"), np.empty((640, H), F32)
    arrays = TrainingArrays(W.copy(), B.copy(), C.copy(), packed(H_BITS[:20]))
    trainer = engine.trainer(arrays, TrainingRule(1, True, 0.0, 0.0, 7), "auto")

    def call() -> bool:
        if kind == "machine":
            machine.propup(rows, out)
        else:
            trainer.run(rows, None, 0, 100, 20, 0, 0.1, 0.0)
        return True

    call()
    assert in_forked_child(call, seconds=2) == "right"


@forks
def test_multiprocessing_by_fork() -> None:
    expected = bits_of(CALLS["propup"](2))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = [pool.apply_async(work_of_a_process, (n,)) for n in (1, 2, None)]
        assert [result.get(timeout=30) for result in results] == [expected] * 3


def work_of_a_process(n_threads: int | None) -> list[bytes]:
    return bits_of(CALLS["propup"](n_threads))


# --- Python's threads -----------------------------------------------------------------------------


@pytest.fixture
def patient_interpreter() -> Iterator[None]:
    """A thread that holds the GIL keeps it until it gives it up by itself."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module")
def long_calls() -> dict[str, Callable[[], Any]]:
    """Calls of some 10 to 100 ms, of the extension alone: Python around it might free the GIL."""
    x = np.zeros((1000, 20_000), F32)
    words, flags = np.zeros((4000, 125), np.uint64), np.zeros((4000, 8000), np.uint8)
    W, b, c = random_model(700, 400, seed=4, scale=0.1)
    v, h = random_bits(3000, 700, seed=5), random_bits(3000, 400, seed=6)
    rows, hidden_rows, reals = (
        _core.Rows.bytes(v),
        _core.Rows.bytes(h),
        _core.Rows.real(v.astype(F32)),
    )
    machine = _core.Rbm(W, b, c, "auto", 1)
    up, down, energies = np.empty((3000, 400), F32), np.empty((3000, 700), F32), np.empty(3000)
    product = np.empty((1000, 1000), F32)
    states, chains = packed(v), packed(h)
    gradient = [np.empty_like(a) for a in (W, b, c)]
    velocities_and_completions = [None] * 4
    trainer = _core.Trainer(
        *(W.copy(), b.copy(), c.copy(), chains[:50].copy(), *velocities_and_completions),
        *(1, True, 0.0, 0.0, 7, 0, "auto", 1),
    )
    return {
        "sigmoid": lambda: _core.sigmoid(x, x, 1),
        "softplus": lambda: _core.softplus(x, x, 1),
        "sample_bernoulli": lambda: _core.sample_bernoulli(x, x, 0, 0, 0, 0, 1),
        "pack": lambda: _core.pack(flags, words, 1),
        "unpack": lambda: _core.unpack(words, flags, 1),
        "multiply": lambda: _core.multiply(x[:, :1000], x[:, :1000], product, 1),
        "propup": lambda: machine.propup(rows, up),
        "propup of reals": lambda: machine.propup(reals, up),
        "propdown": lambda: machine.propdown(hidden_rows, down),
        "preactivations": lambda: machine.preactivations(rows, up),
        "free_energy": lambda: machine.free_energy(rows, energies),
        "pseudo_likelihood": lambda: machine.pseudo_likelihood(rows, 0, 0, 1, energies),
        "exact_pseudo_likelihood": lambda: machine.exact_pseudo_likelihood(rows, 0, 3000, energies),
        "gibbs": lambda: machine.gibbs(rows, states, chains, 2, 0, 0, 0, None, None),
        "gibbs from hidden": lambda: machine.gibbs(None, states, chains, 2, 0, 0, 0, None, None),
        "cd_gradient": lambda: machine.cd_gradient(rows, chains, 1, True, 0, 0, *gradient),
        "Trainer.run": lambda: trainer.run(rows, None, 0, 3000, 50, 0, 0.01, 0.0),
    }


LONG_CALLS = (
    *("sigmoid", "softplus", "sample_bernoulli", "pack", "unpack", "multiply"),
    *("propup", "propup of reals", "propdown", "preactivations", "free_energy"),
    *("pseudo_likelihood", "exact_pseudo_likelihood"),
    *("gibbs", "gibbs from hidden", "cd_gradient", "Trainer.run"),
)


@pytest.mark.parametrize("name", LONG_CALLS)
def test_the_gil_is_released(
    name: str, long_calls: dict[str, Callable[[], Any]], patient_interpreter: None
) -> None:
    """Another thread runs while the call does.

    With this interpreter, the thread that waits below gets the GIL only if the call gives it up: if
    it does not, `finished` is always set first. If it does, the waiter has 10 ms or more to wake;
    five attempts make a machine too busy for that unlikely.
    """
    call = long_calls[name]
    call()  # once before, so that what is made at the first call is there

    def attempt() -> bool:
        finished: list[bool] = []

        def work() -> None:
            call()
            finished.append(True)

        thread = threading.Thread(target=work)
        thread.start()  # returns once the thread runs and the GIL is free
        was_beside = not finished
        thread.join()
        return was_beside

    assert any(attempt() for _ in range(5))


def test_the_gil_test_can_fail(patient_interpreter: None) -> None:
    """The method itself: a thread that computes in Python keeps the GIL until it is done."""
    finished: list[bool] = []

    def work() -> None:
        sum(range(300_000))
        finished.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    assert finished
    thread.join()


def run_together(calls: list[Callable[[], Any]]) -> list[Any]:
    """Results of calls made by as many threads at once, or the first exception."""
    results: list[Any] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def work(n: int) -> None:
        barrier.wait()
        try:
            results[n] = calls[n]()
        except BaseException as error:
            results[n] = error

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@pytest.mark.parametrize("precision, n_threads", [("auto", 1), ("auto", 2), ("float32", 1)])
def test_many_threads_on_one_machine(precision: Any, n_threads: int) -> None:
    """Each gets what it would get alone: calls that share a machine's scratch take turns."""
    weights, b, c = random_model(60, 70, seed=8)
    core = _core.Rbm(weights, b, c, precision, n_threads)
    inputs = [random_bits(50 + 7 * n, 60, seed=9 + n) for n in range(6)]

    def job(v: np.ndarray) -> Callable[[], list[np.ndarray]]:
        rows, n = _core.Rows.bytes(v), len(v)

        def run() -> list[np.ndarray]:
            out = []
            for seed in range(10):
                p, F = np.empty((n, 70), F32), np.empty(n)
                states, chains = np.zeros((n, 1), np.uint64), np.zeros((n, 2), np.uint64)
                core.propup(rows, p)
                core.gibbs(rows, states, chains, 2, seed, 0, 0, None, None)
                core.free_energy(rows, F)
                out += [p, F, states, chains] if precision == "auto" else [p, F]
            return out

        return run

    for together, alone in zip(
        run_together([job(v) for v in inputs]), [job(v)() for v in inputs], strict=True
    ):
        for a, b in zip(together, alone, strict=True):
            if precision == "auto":
                assert same_bits(a, b)
            else:  # BLAS promises no bits; 60 products of Σ|w| ~ 60, hidden units 70
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_the_first_calls_on_a_machine_may_come_together() -> None:
    """Its 16-bit weights are made by whichever is first."""
    expected = ops.propup(FEW, W, C)
    for _ in range(10):
        core, rows = _core.Rbm(W, B, C, "auto", 1), _core.Rows.bytes(FEW)
        outs = [np.empty_like(expected) for _ in range(4)]
        run_together([partial(core.propup, rows, out) for out in outs])
        assert all(same_bits(out, expected) for out in outs)


def test_threads_that_share_a_trainer_take_turns() -> None:
    """Sixteen updates with learning rate 0 from four threads: chains as after sixteen in a row."""
    arrays = TrainingArrays(W.copy(), B.copy(), C.copy(), packed(H_BITS[:20]))
    engine = get_engine(n_threads=1)
    trainer = engine.trainer(arrays, TrainingRule(1, True, 0.0, 0.0, 7), "auto")
    rows = engine.rows_of_bytes(V_BITS)
    # The same step number each time, so that the order of the calls does not matter.
    job = lambda: [trainer.run(rows, None, 0, 20, 20, 3, 0.0, 0.0) for _ in range(4)]  # noqa: E731
    run_together([job] * 4)
    h = H_BITS[:20]
    for _ in range(16):
        h = ops.cd_gradient(V_BITS[:20].copy(), W, B, C, 1, 7, chains=h, step=3).chains
    assert np.array_equal(arrays.chains, packed(h))
    assert same_bits(arrays.W, W)


def test_many_threads_on_everything_at_once() -> None:
    names = ["sigmoid", "sample_bernoulli", "propup", "gibbs", "cd_gradient", "training by PCD"]
    expected = [bits_of(CALLS[name](1)) for name in names]
    together = run_together([lambda name=name: CALLS[name](2) for name in names])
    assert [bits_of(result) for result in together] == expected
