"""Training a network by backpropagation: its updates, its metrics, when to stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from harmonium._arrays import copy_in_lines
from harmonium.callbacks import CallbackList
from harmonium.engine.protocol import (
    Activation,
    Array,
    Engine,
    Float32,
    LayerArrays,
    Network,
    NetworkRule,
    Optimizer,
    Order,
    Rows,
)
from harmonium.training import EpochLoop, Plan, TrainingState

StoppingRule: TypeAlias = Literal["patience", "tutorial"]

N_MOMENTS: dict[Optimizer, int] = {"sgd": 0, "momentum": 1, "adam": 2}


@dataclass(frozen=True)
class Stopping:
    """When to end a training whose validation score no longer improves.

    "patience" allows so many epochs without a better score. "tutorial" is the rule of the
    deep-learning tutorials (deeplearning.net): train for at least `patience` minibatches, and
    whenever the validation loss falls below `threshold` times the best so far, until `increase`
    times the minibatches made by then.
    """

    rule: StoppingRule
    patience: int
    increase: float = 2.0
    threshold: float = 0.995


@dataclass(frozen=True, kw_only=True)
class NetworkPlan(Plan):
    """What a run is asked to do."""

    rule: NetworkRule
    stopping: Stopping | None = None
    ema_decay: float = 0.0


@dataclass
class NetworkState(TrainingState):
    """The state of a network's training; `steps` are its updates.

    `arrays` are W and c of each layer, then the moments of each layer, W and c again. `best` are
    copies of the former from the epoch `best_epoch`, when the validation score was `best_score`
    (smaller is better); `wait_until` is the tutorial's patience, in updates. `average`, where one
    is taken, is the moving average of W and c: then it is what is measured, and what `best` copies.
    """

    arrays: list[Array]
    loss_sum: float = 0.0
    n_errors: int = 0
    best: list[Array] = field(default_factory=list)
    average: list[Array] = field(default_factory=list)
    best_epoch: int = 0
    best_score: float = float("inf")
    wait_until: float = 0.0

    @classmethod
    def starting_from(
        cls, parameters: Sequence[tuple[Array, Array]], optimizer: Optimizer, seed: int
    ) -> NetworkState:
        """Return the state before the first update, in arrays of its own."""
        arrays: list[Array] = []
        for W, c in parameters:
            arrays += [copy_in_lines(W), np.array(c, np.float32)]
        for W, c in list(parameters) * N_MOMENTS[optimizer]:
            arrays += [copy_in_lines(np.zeros_like(W, np.float32)), np.zeros(len(c), np.float32)]
        return cls(arrays, seed)

    def layers(
        self, n: int, activations: Sequence[Activation], dropouts: Sequence[float]
    ) -> list[LayerArrays]:
        """Return the `n` layers as the engine takes them."""
        pairs = list(zip(self.arrays[::2], self.arrays[1::2], strict=True))
        return [
            LayerArrays(*pairs[at], activation, dropout, tuple(pairs[at + n :: n]))
            for at, activation, dropout in zip(range(n), activations, dropouts, strict=True)
        ]

    def take_average(self, n: int, decay: float) -> None:
        """Let the average follow the `n` layers: of all epochs at first, of the last ones later."""
        parameters = self.arrays[: 2 * n]
        if not self.average:
            self.average = [np.zeros_like(array) for array in parameters]
        weight = np.float32(max(1 / self.epoch, 1 - decay))
        for average, array in zip(self.average, parameters, strict=True):
            average += weight * (array - average)

    def measured(self, n: int) -> list[Array]:
        """Return W and c of the `n` layers as they are validated."""
        return self.average or self.arrays[: 2 * n]

    def fitted(self, n: int) -> list[Array]:
        """Return W and c of the `n` layers as the estimator shows them."""
        return self.best or self.measured(n)

    def parameters(self, n: int) -> list[tuple[Float32, Float32]]:
        """Return W and c of the `n` layers."""
        return list(zip(self.arrays[: 2 * n : 2], self.arrays[1 : 2 * n : 2], strict=True))


@dataclass(frozen=True)
class Examples:
    """Rows and what a network's outputs for them are compared with: labels, or rows of values."""

    rows: Rows
    targets: Any


class NetworkTraining(EpochLoop):
    """One run of backpropagation, from a state to a later one.

    `score` measures a network on validation data: it returns metrics and the one number that
    `Stopping` watches, which is better when smaller. With it the run ends with the best parameters
    of all epochs, however it ends.
    """

    plan: NetworkPlan
    state: NetworkState

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        plan: NetworkPlan,
        state: NetworkState,
        layers: Sequence[LayerArrays],
        examples: Examples,
        class_weights: Float32 | None,
        score: Callable[[Network], tuple[dict[str, float], float]] | None,
        publish: Callable[[], None],
        callbacks: CallbackList,
        title: str,
    ) -> None:
        super().__init__(estimator, engine, plan, state, publish, callbacks, title)
        self.examples = examples
        self.n_rows = examples.rows.n_rows
        self.class_weights = class_weights
        self.score = score
        self.layers = layers
        self.n_layers = len(layers)
        self.network = engine.network(layers, plan.rule)

    @property
    def rows_done(self) -> int:
        return self.network.rows_done

    def begin_epoch(self) -> None:
        if self.state.rows_done == 0:
            self.state.loss_sum, self.state.n_errors = 0.0, 0

    def update(
        self, order: Order | None, begin: int, count: int, learning_rate: float, momentum: float
    ) -> None:
        loss, n_errors = self.network.train(
            self.examples.rows,
            self.examples.targets,
            self.class_weights,
            order,
            begin,
            count,
            self.plan.batch_size,
            self.state.steps,
            learning_rate,
            momentum,
        )
        self.state.loss_sum += loss
        self.state.n_errors += n_errors

    def measure(self) -> dict[str, float]:
        state = self.state
        metrics = {"loss": state.loss_sum / self.n_rows}
        if self.plan.rule.loss == "softmax_cross_entropy":
            metrics["error"] = state.n_errors / self.n_rows
        if self.plan.ema_decay:
            state.take_average(self.n_layers, self.plan.ema_decay)
        if self.score is not None:
            validation, score = self.score(self._measured_network())
            metrics |= validation
            self._compare(score)
        return metrics

    def _measured_network(self) -> Network:
        """Return the network of the averages, where they are taken."""
        average = self.state.average
        if not average:
            return self.network
        layers = [
            LayerArrays(W, c, layer.activation)
            for W, c, layer in zip(average[::2], average[1::2], self.layers, strict=True)
        ]
        return self.engine.network(layers, NetworkRule(self.plan.rule.loss))

    def _compare(self, score: float) -> None:
        state, stopping = self.state, self.plan.stopping
        if stopping is not None and score < stopping.threshold * state.best_score:
            state.wait_until = max(state.wait_until, state.steps * stopping.increase)
        if score < state.best_score:
            state.best_score, state.best_epoch = score, state.epoch
            state.best = [array.copy() for array in state.measured(self.n_layers)]

    @property
    def is_done(self) -> bool:
        return super().is_done or self._has_waited_enough

    @property
    def _has_waited_enough(self) -> bool:
        state, stopping = self.state, self.plan.stopping
        if stopping is None or state.epoch == 0:
            return False
        if stopping.rule == "patience":
            return state.epoch - state.best_epoch >= stopping.patience
        return state.steps >= max(stopping.patience, state.wait_until)

    def describe(self, metrics: dict[str, float]) -> str:
        parts = [f"loss = {metrics['loss']:.4g}"]
        if "val_error" in metrics:
            parts.append(f"validation error = {metrics['val_error']:.2%}")
        elif "val_loss" in metrics:
            parts.append(f"validation loss = {metrics['val_loss']:.4g}")
        return ", ".join(parts)
