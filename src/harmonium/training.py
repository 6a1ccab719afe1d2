"""The loop over epochs: schedules, chunks of minibatches, metrics, callbacks, Ctrl-C.

Nothing here touches a row or a unit; that is the engine's.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from harmonium._checks import check_real
from harmonium._pace import Pace
from harmonium.callbacks import CallbackList
from harmonium.engine.protocol import Array, Engine, Order

Schedule: TypeAlias = "float | Callable[[int], float]"

SNAPSHOT_SECONDS = 1.0
"""How old the state may be that a diverged training falls back to."""


@dataclass
class TrainingState:
    """What a training run is at a moment: enough to go on, and to be saved.

    `steps` numbers what is drawn: how many of the numbers that belong to minibatches were used.
    `rows_done` is the place within an epoch that was broken off, a multiple of the batch size.
    """

    arrays: Sequence[Array | None]
    seed: int
    epoch: int = 0
    steps: int = 0
    rows_done: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        copies = [None if array is None else array.copy() for array in self.arrays]
        return Snapshot(copies, self.steps, self.rows_done)

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a snapshot of the same run, in the same arrays."""
        self.steps, self.rows_done = snapshot.steps, snapshot.rows_done
        for to, array in zip(self.arrays, snapshot.arrays, strict=True):
            if to is not None and array is not None:
                to[...] = array


@dataclass(frozen=True)
class Snapshot:
    """A state to fall back to within an epoch."""

    arrays: Sequence[Array | None]
    steps: int
    rows_done: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What every run is asked to do."""

    n_epochs: int
    batch_size: int
    learning_rate: Schedule
    momentum: Schedule
    shuffle: bool
    verbose: int


def value_at(name: str, schedule: Schedule, epoch: int) -> float:
    """Return a schedule's value in an epoch (counted from 0); a number is the same in all."""
    value = schedule(epoch) if callable(schedule) else schedule
    try:
        value = float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be a number, but is {value!r} in epoch {epoch}") from error
    if not np.isfinite(value) or value < 0:
        raise ValueError(f"{name} must be finite and not negative, but is {value} in epoch {epoch}")
    if name == "momentum" and value >= 1:
        raise ValueError(f"momentum must be below 1, but is {value} in epoch {epoch}")
    return value


def check_learning_rate(learning_rate: Any) -> None:
    """Raise unless it is a positive number or a function of the epoch."""
    if not callable(learning_rate):
        check_real("learning_rate", learning_rate, minimum=0.0, open_minimum=True)


def check_momentum(momentum: Any) -> None:
    """Raise unless it is a number in [0, 1) or a function of the epoch."""
    if not callable(momentum):
        check_real("momentum", momentum, minimum=0.0, maximum=1.0)
        value_at("momentum", momentum, 0)  # which must be below 1


class EpochLoop(ABC):
    """One run of a training, from a state to a later one.

    `publish` brings the estimator's fitted attributes up to date with the state. Those who derive
    from this say what an update is and what is measured.
    """

    n_rows: int
    steps_per_batch = 1
    updates_together = 1
    """A chunk is a multiple of so many updates, so that results do not depend on the clock."""

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        plan: Plan,
        state: TrainingState,
        publish: Callable[[], None],
        callbacks: CallbackList,
        title: str,
    ) -> None:
        self.estimator = estimator
        self.engine = engine
        self.plan = plan
        self.state = state
        self.publish = publish
        self.callbacks = callbacks
        self.title = title
        self.pace = Pace()

    @property
    @abstractmethod
    def rows_done(self) -> int:
        """How many rows all updates of this run have seen."""

    @abstractmethod
    def update(
        self, order: Order | None, begin: int, count: int, learning_rate: float, momentum: float
    ) -> None:
        """Update once per minibatch of rows ``order[begin:begin + count]``.

        Raises
        ------
        FloatingPointError
            The training diverged.
        """

    @abstractmethod
    def measure(self) -> dict[str, float]:
        """Return the metrics at the end of an epoch."""

    @abstractmethod
    def describe(self, metrics: dict[str, float]) -> str:
        """Return what a line of progress says."""

    @abstractmethod
    def begin_epoch(self) -> None:
        """Prepare an epoch, or the rest of one."""

    @property
    def is_done(self) -> bool:
        return self.state.epoch >= self.plan.n_epochs

    def run(self) -> None:
        """Train until the last epoch, or until a callback says so.

        However it ends, the estimator is left with the state of the last finished chunk, or, when
        training diverged, with the last finite one that is at most a second older.
        """
        started = time.perf_counter() - (self.state.history.get("time") or [0.0])[-1]
        self.publish()
        try:
            self.callbacks.begin(self.estimator, self.title, self.plan.n_epochs, self.state.epoch)
            while not self.is_done:
                epoch_began = time.perf_counter()
                learning_rate = value_at("learning_rate", self.plan.learning_rate, self.state.epoch)
                momentum = value_at("momentum", self.plan.momentum, self.state.epoch)
                self.begin_epoch()
                self._run_epoch(learning_rate, momentum)
                self.state.epoch, self.state.rows_done = self.state.epoch + 1, 0
                metrics = self.measure()
                now = time.perf_counter()
                self._record(now - started, learning_rate, metrics)
                if self.plan.verbose:
                    self._print_progress(metrics, now - epoch_began)
                if self.callbacks:
                    self.publish()
                    if self.callbacks.on_epoch_end(self.estimator, self.state.epoch, metrics):
                        break
        finally:
            self.publish()
            self.callbacks.on_fit_end(self.estimator)

    def _run_epoch(self, learning_rate: float, momentum: float) -> None:
        plan, state, n_rows = self.plan, self.state, self.n_rows
        order = None
        if plan.shuffle:
            order = self.engine.shuffled_order(n_rows, state.seed, state.epoch)
        first_row, first_step, earlier = state.rows_done, state.steps, self.rows_done

        def locate() -> None:
            done = self.rows_done - earlier
            state.rows_done = first_row + done
            state.steps = first_step + -(-done // plan.batch_size) * self.steps_per_batch

        snapshot, snapshot_time = state.snapshot(), time.perf_counter()
        while state.rows_done < n_rows:
            began = time.perf_counter()
            if began - snapshot_time > SNAPSHOT_SECONDS:
                snapshot, snapshot_time = state.snapshot(), began
            updates = -(-self.pace.amount // self.updates_together) * self.updates_together
            count = min(updates * plan.batch_size, n_rows - state.rows_done)
            try:
                self.update(order, state.rows_done, count, learning_rate, momentum)
            except FloatingPointError:
                state.restore(snapshot)
                raise divergence(learning_rate, f"in epoch {state.epoch + 1}") from None
            except BaseException:
                # Ctrl-C shows when the call has returned: its updates are done and must count.
                locate()
                raise
            locate()
            self.pace.learn(time.perf_counter() - began)
            self.callbacks.on_progress(
                self.estimator, state.epoch + 1, min(1.0, state.rows_done / n_rows)
            )

    def _record(self, seconds: float, learning_rate: float, metrics: dict[str, float]) -> None:
        row = {"epoch": self.state.epoch, "time": seconds, "learning_rate": learning_rate}
        row |= metrics
        history, length = self.state.history, len(self.state.history.get("epoch", []))
        for name in dict.fromkeys([*history, *row]):  # in this order everywhere, pictures too
            # A resumed run may measure other things than its beginning did.
            column = history.setdefault(name, [float("nan")] * length)
            column.append(row.get(name, float("nan")))

    def _print_progress(self, metrics: dict[str, float], seconds: float) -> None:
        print(
            f"[{self.title}] Iteration {self.state.epoch}, {self.describe(metrics)}, "
            f"time = {seconds:.2f}s"
        )


def divergence(learning_rate: float, when: str) -> FloatingPointError:
    """Return the error for a training whose weights are no longer finite."""
    return FloatingPointError(
        f"training diverged {when}: the weights became infinite or not a number at "
        f"learning_rate={learning_rate:g}. The estimator holds the last finite weights; "
        "try a smaller learning rate"
    )
