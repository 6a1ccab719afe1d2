"""The up-down algorithm: wake-sleep with a contrastive top.

Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets, section 5 and
appendix B.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harmonium._arrays import copy_in_lines, empty_bits
from harmonium._checks import check_integer
from harmonium._visible import values_of
from harmonium.callbacks import CallbackList
from harmonium.engine.protocol import (
    Array,
    Draw,
    Engine,
    Float32,
    LayerArrays,
    NetworkRule,
    Order,
    Rows,
    Stream,
    TrainingArrays,
    TrainingRule,
)
from harmonium.stacking import join_labels
from harmonium.training import EpochLoop, Plan, TrainingState

Parameters = tuple[Float32, Float32]
"""W of shape (inputs, outputs) and the outputs' biases of a directed layer."""

MOST_GIBBS_STEPS = 1 << 16  # of an update: their numbers are that far apart

# Which draws of one update are whose: each layer's up, then each one's down.
_DRAWS_PER_UPDATE = 64


@dataclass(frozen=True, kw_only=True)
class UpDownPlan(Plan):
    """What a run is asked to do."""

    n_gibbs_steps: int | Callable[[int], int]


@dataclass
class UpDownState(TrainingState):
    """The state of the algorithm; `steps` are its updates.

    `arrays` are W and c of each recognition layer from below, W and b of each generative layer
    from below, then W, b and c of the topmost RBM.
    """

    arrays: list[Array]

    @classmethod
    def starting_from(
        cls,
        recognition: Sequence[Parameters],
        generation: Sequence[Parameters],
        top: tuple[Float32, Float32, Float32],
        seed: int,
    ) -> UpDownState:
        """Return the state before the first update, in arrays of its own."""
        arrays: list[Array] = []
        for W, bias in [*recognition, *generation]:
            arrays += [copy_in_lines(W), np.array(bias, np.float32)]
        W, b, c = top
        arrays += [copy_in_lines(W), np.array(b, np.float32), np.array(c, np.float32)]
        return cls(arrays, seed)

    @property
    def recognition(self) -> list[Parameters]:
        n = (len(self.arrays) - 3) // 4
        return list(zip(self.arrays[: 2 * n : 2], self.arrays[1 : 2 * n : 2], strict=True))

    @property
    def generation(self) -> list[Parameters]:
        n = (len(self.arrays) - 3) // 4
        return list(zip(self.arrays[2 * n : -3 : 2], self.arrays[2 * n + 1 : -3 : 2], strict=True))

    @property
    def top(self) -> tuple[Float32, Float32, Float32]:
        W, b, c = self.arrays[-3:]
        return W, b, c


class _Directed:
    """A directed layer of binary units: draws its outputs, learns to predict given ones.

    By the delta rule, which is the gradient of their cross-entropy: ΔW = ε·xᵀ(t - σ(xW + c)).
    """

    def __init__(self, engine: Engine, parameters: Parameters) -> None:
        rule = NetworkRule("sigmoid_cross_entropy")
        self._engine = engine
        self._width = parameters[0].shape[1]
        self._network = engine.network([LayerArrays(*parameters)], rule)

    def draw(self, rows: Rows, draw: Draw) -> Rows:
        """Return states of the outputs."""
        p = np.empty((rows.n_rows, self._width), np.float32)
        self._network.predict(rows, 1, p)
        states = np.empty(p.shape, np.bool_)
        self._engine.sample_bernoulli(p, states, draw)
        return self._engine.rows_of_bytes(states)

    def learn(self, rows: Rows, targets: Rows, learning_rate: float) -> float:
        """Make one update; return the sum of the rows' cross-entropies before it."""
        n = rows.n_rows
        loss, _ = self._network.train(rows, targets, None, None, 0, n, n, 0, learning_rate, 0.0)
        return loss


class UpDownTraining(EpochLoop):
    """One run of the up-down algorithm, from a state to a later one.

    Of each minibatch: the wake phase draws the layers' states upwards by the recognition weights,
    and teaches each generative layer to predict the states below; the topmost RBM, whose visible
    units are the layer under it and, if there are any, the labels, makes a step of contrastive
    divergence; the sleep phase goes on from its states downwards by the generative weights, and
    teaches each recognition layer to infer the states above.
    """

    plan: UpDownPlan
    state: UpDownState

    def __init__(
        self,
        estimator: Any,
        engine: Engine,
        plan: UpDownPlan,
        state: UpDownState,
        rows: Rows,
        labels: Array | None,
        score: Callable[[], dict[str, float]] | None,
        publish: Callable[[], None],
        callbacks: CallbackList,
        title: str,
    ) -> None:
        super().__init__(estimator, engine, plan, state, publish, callbacks, title)
        self.n_rows = rows.n_rows
        self._rows = rows
        self._labels = labels
        self._score = score
        self._rows_done = 0
        self._loss = 0.0
        self._up = [_Directed(engine, layer) for layer in state.recognition]
        self._down = [_Directed(engine, layer) for layer in state.generation]
        self._chains = empty_bits(plan.batch_size, state.top[0].shape[1])
        self._n_gibbs_steps = 0

    @property
    def rows_done(self) -> int:
        return self._rows_done

    def begin_epoch(self) -> None:
        self._loss = 0.0
        steps = self.plan.n_gibbs_steps
        n_steps = check_integer(
            "n_gibbs_steps",
            steps(self.state.epoch) if callable(steps) else steps,
            minimum=1,
            below=MOST_GIBBS_STEPS,
        )
        if n_steps != self._n_gibbs_steps:
            self._n_gibbs_steps = n_steps
            n_labels = 0 if self._labels is None else self._labels.shape[1]
            rule = TrainingRule(n_steps, False, 0.0, 0.0, self.state.seed, n_labels)
            arrays = TrainingArrays(*self.state.top, self._chains)
            self._top = self.engine.trainer(arrays, rule, "auto")

    def update(
        self, order: Order | None, begin: int, count: int, learning_rate: float, momentum: float
    ) -> None:
        if order is None:
            order = np.arange(self.n_rows)
        step = self.state.steps
        for first in range(begin, begin + count, self.plan.batch_size):
            picked = order[first : min(first + self.plan.batch_size, begin + count)]
            self._update_once(picked, step, learning_rate)
            self._rows_done += len(picked)
            step += 1

    def _update_once(self, picked: Array, step: int, learning_rate: float) -> None:
        engine, seed = self.engine, self.state.seed
        draws = iter(
            Draw(seed, step * _DRAWS_PER_UPDATE + number, Stream.LAYER)
            for number in range(_DRAWS_PER_UPDATE)
        )
        # Wake: from the data up.
        values = values_of(self._rows, picked)
        is_binary = self._rows.is_binary
        awake = [engine.rows_of_bytes(values != 0) if is_binary else engine.rows_of_reals(values)]
        for layer in self._up:
            awake.append(layer.draw(awake[-1], next(draws)))
        for number, layer in enumerate(self._down):
            loss = layer.learn(awake[number + 1], awake[number], learning_rate)
            if number == 0:
                self._loss += loss
        # The top: contrastive divergence from there.
        associated = awake[-1]
        if self._labels is not None:
            associated = join_labels(engine, associated, self._labels[picked])
        n = len(picked)
        self._top.run(associated, None, 0, n, n, step * MOST_GIBBS_STEPS, learning_rate, 0.0)
        # Sleep: from the states its chains have reached, down.
        n_top = self.state.top[0].shape[0]
        words = empty_bits(n, n_top)
        self._top.copy_visible_states(words)
        joined = np.empty((n, n_top), np.bool_)
        engine.unpack(words, joined)
        n_below = awake[-1].n_cols
        asleep = [engine.rows_of_bytes(np.ascontiguousarray(joined[:, :n_below]))]
        for layer in reversed(self._down):
            asleep.insert(0, layer.draw(asleep[0], next(draws)))
        for number, layer in enumerate(self._up):
            layer.learn(asleep[number], asleep[number + 1], learning_rate)

    def measure(self) -> dict[str, float]:
        metrics = {"loss": self._loss / self.n_rows} if self._down else {}
        return metrics if self._score is None else metrics | self._score()

    def describe(self, metrics: dict[str, float]) -> str:
        parts = []
        if "loss" in metrics:
            parts.append(f"reconstruction loss = {metrics['loss']:.4g}")
        if "val_error" in metrics:
            parts.append(f"validation error = {metrics['val_error']:.2%}")
        return ", ".join(parts) or "up-down"
