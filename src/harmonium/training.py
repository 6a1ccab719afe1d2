"""The loop over epochs: schedules, chunks of minibatches, metrics, callbacks, Ctrl-C.

Nothing here touches a row or a unit; that is the engine's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np

from harmonium._arrays import empty_bits
from harmonium._pace import Pace
from harmonium._visible import pick_rows, values_of
from harmonium.callbacks import CallbackList
from harmonium.engine.protocol import (
    Chains,
    Engine,
    Float32,
    Machine,
    Precision,
    Rows,
    TrainingArrays,
    TrainingRule,
)

Schedule: TypeAlias = "float | Callable[[int], float]"

SNAPSHOT_SECONDS = 1.0
"""How old the state may be that a diverged training falls back to."""


@dataclass
class TrainingState:
    """What a training run is at a moment: enough to go on, and to be saved.

    `gibbs_steps` numbers the random draws: how many Gibbs steps the chains have made so far.
    `rows_done` is the place within an epoch that was broken off, a multiple of the batch size.
    """

    arrays: TrainingArrays
    seed: int
    epoch: int = 0
    gibbs_steps: int = 0
    rows_done: int = 0
    history: dict[str, list[float]] = field(default_factory=dict)

    def snapshot(self) -> TrainingState:
        copies = (None if array is None else array.copy() for array in self.arrays)
        return replace(self, arrays=TrainingArrays(*copies))  # type: ignore[arg-type]

    def restore(self, snapshot: TrainingState) -> None:
        """Go back to a snapshot of the same run, in the same arrays."""
        self.gibbs_steps, self.rows_done = snapshot.gibbs_steps, snapshot.rows_done
        for to, array in zip(self.arrays, snapshot.arrays, strict=True):
            if to is not None and array is not None:
                to[...] = array


@dataclass(frozen=True)
class TrainingPlan:
    """What a run is asked to do."""

    n_epochs: int
    batch_size: int
    n_gibbs_steps: int
    persistent: bool
    learning_rate: Schedule
    momentum: Schedule
    l1: float
    l2: float
    shuffle: bool
    precision: Precision
    metrics: bool
    verbose: int

    def rule(self, seed: int) -> TrainingRule:
        return TrainingRule(self.n_gibbs_steps, self.persistent, self.l1, self.l2, seed)


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


class Monitor:
    """Metrics of a sample of rows, of training and held-out data.

    The samples are small enough that measuring takes a few hundredths of the time, and the same in
    every epoch, so that curves are comparable.
    """

    MOST_ROWS = 1000
    MOST_VALUES = 2**22
    """However wide they are: their reconstructions are dense."""
    FLIPS = 4
    """Pixels flipped per row for the pseudo-likelihood, the same in every epoch: on digits the
    curve then moves by 1 to 2 nats from epoch to epoch; with one flip, drawn anew, by 13."""

    def __init__(
        self, engine: Engine, n_hidden: int, train: Rows, held_out: Rows | None, seed: int
    ) -> None:
        self._n_hidden = n_hidden
        most = min(self.MOST_ROWS, max(10, self.MOST_VALUES // train.n_cols))
        n = min(most, max(50, train.n_rows // 30))
        self._seed = seed
        self._train = pick_rows(engine, train, n)
        self._train_values = values_of(self._train)
        self._held_out = None
        if held_out is not None:
            self._held_out = pick_rows(engine, held_out, n)
            self._held_out_values = values_of(self._held_out)

    def measure(self, machine: Machine, epoch: int) -> dict[str, float]:
        """Return the metrics of `machine`.

        reconstruction_error is the mean squared difference, per unit, between v and p(v|h), h drawn
        from p(h|v); pseudo_likelihood the mean stochastic log pseudo-likelihood per row, in nats;
        free_energy_gap the mean F of held-out minus training rows, which grows as a model begins to
        overfit. Names of held-out rows' metrics begin with "val_".
        """
        metrics = self._of_rows(machine, self._train, self._train_values, epoch)
        if self._held_out is not None:
            held_out = self._of_rows(machine, self._held_out, self._held_out_values, epoch)
            metrics |= {f"val_{name}": value for name, value in held_out.items()}
            gap = _mean_free_energy(machine, self._held_out)
            metrics["free_energy_gap"] = gap - _mean_free_energy(machine, self._train)
        return metrics

    def _of_rows(
        self, machine: Machine, rows: Rows, values: Float32, epoch: int
    ) -> dict[str, float]:
        n, n_visible = rows.n_rows, rows.n_cols
        p = np.empty((n, n_visible), np.float32)
        chains = Chains(empty_bits(n, n_visible), empty_bits(n, self._n_hidden), p)
        machine.gibbs(rows, chains, 1, self._seed, epoch, 0)
        error = float(np.mean(np.square(p - values), dtype=np.float64))
        score = np.empty(n)
        machine.pseudo_likelihood(rows, self._seed, 0, self.FLIPS, score)
        return {"reconstruction_error": error, "pseudo_likelihood": float(score.mean())}


def _mean_free_energy(machine: Machine, rows: Rows) -> float:
    energies = np.empty(rows.n_rows)
    machine.free_energy(rows, energies)
    return float(energies.mean())


class Training:
    """One run of :meth:`BernoulliRBM.fit`, from a state to a later one.

    `publish` brings the estimator's fitted attributes up to date with the state.
    """

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        plan: TrainingPlan,
        state: TrainingState,
        train: Rows,
        held_out: Rows | None,
        publish: Callable[[], None],
    ) -> None:
        self.estimator = estimator
        self.engine = engine
        self.plan = plan
        self.state = state
        self.rows = train
        self.publish = publish
        self.callbacks = CallbackList(estimator.callbacks)
        self.trainer = engine.trainer(state.arrays, plan.rule(state.seed), plan.precision)
        self.monitor = None
        if plan.metrics or plan.verbose:
            n_hidden = state.arrays.W.shape[1]
            self.monitor = Monitor(engine, n_hidden, train, held_out, monitor_seed(state.seed))
        self.pace = Pace()

    def run(self) -> None:
        """Train until the last epoch, or until a callback says so.

        However it ends, the estimator is left with the state of the last finished chunk, or, when
        training diverged, with the last finite one that is at most a second older.
        """
        started = time.perf_counter() - (self.state.history.get("time") or [0.0])[-1]
        self.publish()
        try:
            self.callbacks.on_fit_begin(self.estimator, self.state.epoch)
            while self.state.epoch < self.plan.n_epochs:
                epoch_began = time.perf_counter()
                learning_rate = value_at("learning_rate", self.plan.learning_rate, self.state.epoch)
                momentum = value_at("momentum", self.plan.momentum, self.state.epoch)
                self._run_epoch(learning_rate, momentum)
                self.state.epoch, self.state.rows_done = self.state.epoch + 1, 0
                metrics = self._measure()
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
        plan, state, n_rows = self.plan, self.state, self.rows.n_rows
        order = None
        if plan.shuffle:
            order = self.engine.shuffled_order(n_rows, state.seed, state.epoch)
        first_row, first_step, earlier = state.rows_done, state.gibbs_steps, self.trainer.rows_done

        def locate() -> None:
            done = self.trainer.rows_done - earlier
            state.rows_done = first_row + done
            state.gibbs_steps = first_step + -(-done // plan.batch_size) * plan.n_gibbs_steps

        snapshot, snapshot_time = state.snapshot(), time.perf_counter()
        while state.rows_done < n_rows:
            began = time.perf_counter()
            if began - snapshot_time > SNAPSHOT_SECONDS:
                snapshot, snapshot_time = state.snapshot(), began
            count = min(self.pace.amount * plan.batch_size, n_rows - state.rows_done)
            try:
                self.trainer.run(
                    self.rows,
                    order,
                    state.rows_done,
                    count,
                    plan.batch_size,
                    state.gibbs_steps,
                    learning_rate,
                    momentum,
                )
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

    def _measure(self) -> dict[str, float]:
        if self.monitor is None:
            return {}
        W, b, c = self.state.arrays[:3]
        machine = self.engine.machine(W, b, c, self.plan.precision)
        return self.monitor.measure(machine, self.state.epoch)

    def _record(self, seconds: float, learning_rate: float, metrics: dict[str, float]) -> None:
        row = {"epoch": self.state.epoch, "time": seconds, "learning_rate": learning_rate}
        row |= metrics
        history, length = self.state.history, len(self.state.history.get("epoch", []))
        for name in history.keys() | row.keys():
            # A resumed run may measure other things than its beginning did.
            column = history.setdefault(name, [float("nan")] * length)
            column.append(row.get(name, float("nan")))

    def _print_progress(self, metrics: dict[str, float], seconds: float) -> None:
        print(
            f"[{type(self.estimator).__name__}] Iteration {self.state.epoch}, "
            f"pseudo-likelihood = {metrics['pseudo_likelihood']:.2f}, time = {seconds:.2f}s"
        )


def divergence(learning_rate: float, when: str) -> FloatingPointError:
    """Return the error for a training whose weights are no longer finite."""
    return FloatingPointError(
        f"training diverged {when}: the weights became infinite or not a number at "
        f"learning_rate={learning_rate:g}. The estimator holds the last finite weights; "
        "try a smaller learning rate"
    )


def sampling_seed(seed: int) -> int:
    """Return the key for what the user draws, so that it never repeats what training drew."""
    return seed ^ (1 << 63)


def monitor_seed(seed: int) -> int:
    """Return the key for what metrics draw."""
    return seed ^ (1 << 62)
