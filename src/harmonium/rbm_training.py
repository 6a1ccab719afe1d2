"""Training an RBM: what a run is asked to do, its updates and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from harmonium._arrays import empty_bits
from harmonium._random import monitor_seed, separate_draws
from harmonium._visible import pick_rows, values_of
from harmonium.annealing import Annealing, log_odds
from harmonium.callbacks import CallbackList
from harmonium.engine.protocol import (
    Chains,
    Engine,
    Float32,
    Machine,
    Order,
    Precision,
    Rows,
    TrainingArrays,
    TrainingRule,
    UpdateOptions,
    Updates,
)
from harmonium.sampling import OWN_CHAINS, exchange_rates, own_means, spread_evenly
from harmonium.training import EpochLoop, Plan, TrainingState


@dataclass(frozen=True, kw_only=True)
class RbmPlan(Plan):
    """What a run is asked to do."""

    n_gibbs_steps: int
    persistent: bool
    l1: float
    l2: float
    precision: Precision
    metrics: bool | str
    n_labels: int
    options: UpdateOptions

    def rule(self, seed: int) -> TrainingRule:
        return TrainingRule(
            self.n_gibbs_steps,
            self.persistent,
            self.l1,
            self.l2,
            seed,
            self.n_labels,
            self.options,
        )


@dataclass
class RbmState(TrainingState):
    """The state of an RBM's training; `steps` are the Gibbs steps of its chains."""

    arrays: TrainingArrays


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
        self._engine = engine
        self._n_hidden = n_hidden
        most = min(self.MOST_ROWS, max(10, self.MOST_VALUES // train.n_cols))
        self._n = min(most, max(50, train.n_rows // 30))
        self._seed = seed
        self.pick(train)
        self._held_out = None
        if held_out is not None:
            self._held_out = pick_rows(engine, held_out, self._n)
            self._held_out_values = values_of(self._held_out)

    def pick(self, train: Rows) -> None:
        """Measure a sample of these rows of training from now on."""
        self._train = pick_rows(self._engine, train, self._n)
        self._train_values = values_of(self._train)

    def measure(self, machine: Machine, epoch: int, log_z: float | None = None) -> dict[str, float]:
        """Return the metrics of `machine`.

        reconstruction_error is the mean squared difference, per unit, between v and p(v|h), h drawn
        from p(h|v); pseudo_likelihood the mean stochastic log pseudo-likelihood per row, in nats;
        free_energy_gap the mean F of held-out minus training rows, which grows as a model begins to
        overfit; where log Z is given, log_likelihood the mean of -F - log Z. Names of held-out
        rows' metrics begin with "val_". Rows with missing values are measured as they are completed
        then.
        """
        metrics = self._of_rows(machine, self._train, self._train_values, epoch)
        if self._held_out is not None:
            held_out = self._of_rows(machine, self._held_out, self._held_out_values, epoch)
            metrics |= {f"val_{name}": value for name, value in held_out.items()}
            gap = _mean_free_energy(machine, self._held_out)
            metrics["free_energy_gap"] = gap - _mean_free_energy(machine, self._train)
        if log_z is not None:
            metrics["log_likelihood"] = -_mean_free_energy(machine, self._train) - log_z
            if self._held_out is not None:
                metrics["val_log_likelihood"] = -_mean_free_energy(machine, self._held_out) - log_z
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


class LogPartitions:
    """log Z after each epoch: from all states of a small side, else by annealing.

    Each epoch has numbers of its own, so that a resumed run measures the same. Annealing begins at
    the machine's own means: in its first epochs a machine may be where no data are, which chains
    from the data's means do not find (at 784-500 they were 30 nats off).
    """

    MOST_UNITS = 16
    """Of the smaller side: 2¹⁶ states take some milliseconds."""
    CHAINS, TEMPERATURES = 100, 1000
    """At 784-500 on MNIST's digits some 0.3 s, with a standard deviation of 0.02 nats after three
    epochs and 0.5 after two hundred."""

    def __init__(self, engine: Engine, seed: int) -> None:
        self._engine = engine
        self._seed = seed

    def after(self, epoch: int, machine: Machine, W: Float32, b: Float32, c: Float32) -> float:
        """Return log Z of `machine`, which has these parameters."""
        engine, n_hidden = self._engine, len(c)
        if min(W.shape) <= self.MOST_UNITS:
            from harmonium.evaluation import sum_of_all_states

            return sum_of_all_states(engine, W, b, c)
        draws = separate_draws(self._seed, epoch)
        base = log_odds(own_means(engine, machine, len(b), n_hidden, draws), OWN_CHAINS)
        betas = np.linspace(0, 1, self.TEMPERATURES)
        annealing = Annealing(engine, machine, base, n_hidden, self.CHAINS, betas, draws)
        return annealing.forward()


class EpochRows:
    """An epoch's rows, kept until another epoch's are asked for."""

    def __init__(self, make: Callable[[int], Rows], *, same_in_all_epochs: bool = False) -> None:
        self._make = make
        self._same_in_all_epochs = same_in_all_epochs
        self._epoch: int | None = None

    def __call__(self, epoch: int) -> Rows:
        if self._epoch is None or (epoch != self._epoch and not self._same_in_all_epochs):
            self._rows = self._make(epoch)
            self._epoch = epoch
        return self._rows


class RbmTraining(EpochLoop):
    """One run of contrastive divergence, from a state to a later one.

    `rows_of` gives an epoch's rows, as many in all of them; `trainer` works on the state's arrays.
    """

    plan: RbmPlan
    state: RbmState

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        plan: RbmPlan,
        state: RbmState,
        trainer: Updates,
        rows_of: Callable[[int], Rows],
        held_out: Rows | None,
        publish: Callable[[], None],
        callbacks: CallbackList,
        title: str,
    ) -> None:
        super().__init__(estimator, engine, plan, state, publish, callbacks, title)
        self.steps_per_batch = plan.n_gibbs_steps
        self.rows_of = rows_of
        self.rows = rows_of(0)  # which are measured, by a resumed run too
        self.n_rows = self.rows.n_rows
        self.trainer = trainer
        self.updates_together = self.trainer.updates_a_pass(self.rows, plan.batch_size)
        self.monitor = self.log_partitions = None
        if plan.metrics or plan.verbose:
            n_hidden = state.arrays.W.shape[1]
            seed = monitor_seed(state.seed)
            self.monitor = Monitor(engine, n_hidden, self.rows, held_out, seed)
            if plan.metrics == "likelihood":
                _require_states(self.rows, held_out, plan.n_labels)
                self.log_partitions = LogPartitions(engine, seed)

    def begin_epoch(self) -> None:
        self.rows = self.rows_of(self.state.epoch)
        betas, exchanges = self.state.arrays.betas, self.state.arrays.exchanges
        if betas is None or exchanges is None:
            return
        # Not in the middle of an epoch that goes on, and not before all neighbours have tried.
        if self.state.rows_done == 0 and exchanges[1].all():
            betas[...] = spread_evenly(betas, exchange_rates(exchanges), len(betas))
            exchanges[...] = 0

    @property
    def rows_done(self) -> int:
        return self.trainer.rows_done

    def update(
        self, order: Order | None, begin: int, count: int, learning_rate: float, momentum: float
    ) -> None:
        self.trainer.run(
            self.rows,
            order,
            begin,
            count,
            self.plan.batch_size,
            self.state.steps,
            learning_rate,
            momentum,
        )

    def measure(self) -> dict[str, float]:
        if self.monitor is None:
            return {}
        completions = self.state.arrays.completions
        if completions is not None:
            self.monitor.pick(self.engine.rows_of_bits(completions, self.rows.n_cols))
        W, b, c = (array.astype(np.float32, copy=False) for array in self.state.arrays.model)
        machine = self.engine.machine(W, b, c, self.plan.precision, self.plan.n_labels)
        epoch, log_z = self.state.epoch, None
        if self.log_partitions is not None:
            log_z = self.log_partitions.after(epoch, machine, W, b, c)
        return self.monitor.measure(machine, epoch, log_z)

    def describe(self, metrics: dict[str, float]) -> str:
        names = ("log_likelihood", "pseudo_likelihood")
        told = [(name.replace("_", "-"), metrics[name]) for name in names if name in metrics]
        return ", ".join(f"{name} = {value:.2f}" for name, value in told)


def _require_states(train: Rows, held_out: Rows | None, n_labels: int) -> None:
    """Raise unless the rows have a likelihood that can be measured."""
    if n_labels:
        raise ValueError(
            'metrics="likelihood" is of machines without labels; this one is the top of a DBN with'
        )
    for name, rows in (("X", train), ("X_val", held_out)):
        if rows is not None and not rows.is_binary:
            raise ValueError(
                f'metrics="likelihood" is of zeros and ones, but {name} holds values between them: '
                'with inputs="sample" they are odds, by which bits are drawn'
            )
