"""What estimators have in common that train a network: parameters, schedules, fitted attributes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from harmonium._checks import check_bool, check_integer, check_real, check_verbose, check_word
from harmonium._saving import SavedEstimator
from harmonium.callbacks import CallbackList
from harmonium.engine.protocol import (
    Activation,
    Array,
    Engine,
    Float32,
    LayerArrays,
    Loss,
    Network,
    NetworkRule,
    Optimizer,
    Rows,
)
from harmonium.network_training import (
    N_MOMENTS,
    Examples,
    NetworkPlan,
    NetworkState,
    NetworkTraining,
    Stopping,
)
from harmonium.rbm import BernoulliRBM
from harmonium.stacking import check_sizes
from harmonium.training import check_learning_rate, check_momentum, divergence, value_at


class Rate:
    """A learning rate that falls by a factor every epoch."""

    def __init__(self, start: Any, decay: float) -> None:
        self._start = start
        self._decay = decay

    def __call__(self, epoch: int) -> float:
        return value_at("learning_rate", self._start, epoch) * self._decay**epoch


class NetworkEstimator(SavedEstimator, BaseEstimator):
    """An estimator with a network of dense layers: base of those that can be used.

    Derived classes have the parameters that are checked here, and call `_train`.
    """

    coefs_: list[Array]
    intercepts_: list[Array]
    n_features_in_: int
    n_iter_: int
    history_: dict[str, list[float]]

    # What goes with the fitted attributes; None for parameters that were set by hand.
    _state: NetworkState | None = None
    _seed: int = 0

    _fixed_by_training: tuple[str, ...] = ("batch_size", "solver", "shuffle")

    learning_rate: Any
    learning_rate_decay: float
    momentum: Any
    solver: str
    batch_size: int
    max_iter: int
    l2: float
    shuffle: bool
    early_stopping: str | None
    validation_fraction: float
    patience: int | None
    patience_increase: float
    improvement_threshold: float
    random_state: Any
    device: str
    n_threads: int | None
    verbose: int
    callbacks: Any

    # What only some of the derived classes have.
    hidden_layer_sizes: Any
    rbms_: list[BernoulliRBM]
    dropout: float = 0.0
    input_dropout: float = 0.0
    max_norm: float | None = None
    ema_decay: float = 0.0

    def _check_training_parameters(self) -> None:
        check_integer("batch_size", self.batch_size, minimum=1, below=2**31)
        check_integer("max_iter", self.max_iter, minimum=0, below=2**31)
        check_learning_rate(self.learning_rate)
        check_real(
            "learning_rate_decay",
            self.learning_rate_decay,
            minimum=0.0,
            maximum=1.0,
            open_minimum=True,
        )
        check_momentum(self.momentum)
        check_word("solver", self.solver, ("sgd", "adam"))
        check_real("l2", self.l2, minimum=0.0)
        for name in ("dropout", "input_dropout"):
            if check_real(name, getattr(self, name), minimum=0.0, maximum=1.0) == 1.0:
                raise ValueError(f"{name} must be below 1, for it would leave nothing; got 1")
        if self.max_norm is not None:
            check_real("max_norm", self.max_norm, minimum=0.0, open_minimum=True)
        if check_real("ema_decay", self.ema_decay, minimum=0.0, maximum=1.0) == 1.0:
            raise ValueError("ema_decay must be below 1, for the average would not move; got 1")
        check_word("early_stopping", self.early_stopping, ("patience", "tutorial", None))
        if check_real("validation_fraction", self.validation_fraction, minimum=0.0) >= 1.0:
            raise ValueError(
                f"validation_fraction must be below 1, got {self.validation_fraction!r}"
            )
        if self.patience is not None:
            check_integer("patience", self.patience, minimum=1)
        check_real("patience_increase", self.patience_increase, minimum=1.0)
        check_real("improvement_threshold", self.improvement_threshold, minimum=0.0, maximum=1.0)
        check_bool("shuffle", self.shuffle)
        check_verbose(self.verbose)
        CallbackList(self.callbacks)

    def _checkpoint(self, path: str | os.PathLike[str]) -> Any:
        """Return the estimator in a file, after checking that this one can go on from it."""
        saved = self._load_checkpoint(path)
        if saved._state is not None:
            n_moments = len(saved._state.arrays) // (2 * len(saved.coefs_)) - 1
            if n_moments != N_MOMENTS[self._optimizer]:
                raise ValueError(
                    f"{os.fspath(path)} was trained {'with' if n_moments else 'without'} momentum, "
                    f"but this estimator has momentum={self.momentum!r}"
                )
        return saved

    def _n_to_validate(self, n_rows: int) -> int:
        """Return how many rows are set aside when no validation set is given."""
        n = int(np.ceil(self.validation_fraction * n_rows))
        if not 0 < n < n_rows:
            raise ValueError(
                "early_stopping needs rows to validate on and rows to train on: "
                f"validation_fraction={self.validation_fraction!r} takes {n} of {n_rows}; give a "
                "validation set, or another fraction"
            )
        return n

    def _require_layers(self, n_inputs: int) -> None:
        """Raise unless the pre-trained layers are those that are asked for."""
        found = [rbm.components_.shape[::-1] for rbm in self.rbms_]
        wanted = list(pairwise([n_inputs, *check_sizes(self.hidden_layer_sizes)]))
        if found != wanted:
            raise ValueError(
                f"pretrain=False finds layers of {found} inputs and units, but X and "
                f"hidden_layer_sizes ask for {wanted}"
            )

    @property
    def _optimizer(self) -> Optimizer:
        if self.solver == "adam":
            return "adam"
        return "momentum" if callable(self.momentum) or self.momentum != 0 else "sgd"

    def _network_rule(self, loss: Loss, seed: int) -> NetworkRule:
        return NetworkRule(
            loss,
            self._optimizer,
            l2=float(self.l2),
            max_norm=0.0 if self.max_norm is None else float(self.max_norm),
            seed=seed,
        )

    def _network_plan(self, loss: Loss, seed: int, n_rows: int) -> NetworkPlan:
        stopping = None
        if self.early_stopping is not None:
            patience = self.patience
            if patience is None:
                n_batches = -(-n_rows // self.batch_size)
                patience = 10 if self.early_stopping == "patience" else 4 * n_batches
            stopping = Stopping(
                self.early_stopping,  # type: ignore[arg-type]
                patience,
                self.patience_increase,
                self.improvement_threshold,
            )
        return NetworkPlan(
            n_epochs=self.max_iter,
            batch_size=self.batch_size,
            learning_rate=Rate(self.learning_rate, self.learning_rate_decay),
            momentum=self.momentum,
            shuffle=bool(self.shuffle),
            verbose=int(self.verbose),
            rule=self._network_rule(loss, seed),
            stopping=stopping,
            ema_decay=float(self.ema_decay),
        )

    def _activations(self, n_layers: int) -> list[Activation]:
        return ["sigmoid"] * n_layers

    def _dropouts(self, n_layers: int) -> list[float]:
        return [float(self.input_dropout)] + [float(self.dropout)] * (n_layers - 1)

    def _layers_of(self, state: NetworkState, n: int) -> list[LayerArrays]:
        return state.layers(n, self._activations(n), self._dropouts(n))

    def _train(
        self,
        engine: Engine,
        loss: Loss,
        state: NetworkState,
        n_layers: int,
        examples: Examples,
        class_weights: Float32 | None,
        score: Callable[[Network], tuple[dict[str, float], float]] | None,
    ) -> None:
        """Train from a state on; `score` is handed the network after every epoch."""
        layers = self._layers_of(state, n_layers)
        plan = self._network_plan(loss, state.seed, examples.rows.n_rows)
        training = NetworkTraining(
            self,
            engine,
            plan,
            state,
            layers,
            examples,
            class_weights,
            score,
            lambda: self._publish_network(state, n_layers),
            CallbackList(self.callbacks),
            type(self).__name__,
        )
        training.run()

    def _train_partially(
        self,
        engine: Engine,
        loss: Loss,
        state: NetworkState,
        n_layers: int,
        examples: Examples,
        class_weights: Float32 | None,
    ) -> None:
        """Make one pass over the examples, in their order, minibatch by minibatch."""
        plan = self._network_plan(loss, state.seed, examples.rows.n_rows)
        network = engine.network(self._layers_of(state, n_layers), plan.rule)
        learning_rate = value_at("learning_rate", plan.learning_rate, state.epoch)
        momentum = value_at("momentum", plan.momentum, state.epoch)
        snapshot, n_rows = state.snapshot(), examples.rows.n_rows
        try:
            network.train(
                examples.rows,
                examples.targets,
                class_weights,
                None,
                0,
                n_rows,
                plan.batch_size,
                state.steps,
                learning_rate,
                momentum,
            )
            state.epoch += 1
        except FloatingPointError:
            state.restore(snapshot)
            raise divergence(learning_rate, "in partial_fit") from None
        finally:
            state.steps += -(-network.rows_done // plan.batch_size)
            self._publish_network(state, n_layers)

    def _publish_network(self, state: NetworkState, n_layers: int) -> None:
        """Bring the fitted attributes up to date: the best parameters, if they were compared."""
        arrays = state.fitted(n_layers)
        self.coefs_ = [np.array(W) for W in arrays[::2]]
        self.intercepts_ = [c.copy() for c in arrays[1::2]]
        self.n_iter_ = state.epoch
        self.history_ = state.history
        self._state = state

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")

    def _state_to_save(self) -> NetworkState:
        """Return the state of the training, or one before any where there was none."""
        if self._state is not None:
            return self._state
        parameters = list(zip(self.coefs_, self.intercepts_, strict=True))
        return NetworkState.starting_from(parameters, "sgd", 0)

    def _state_to_go_on_from(self) -> NetworkState:
        """Return the state of the fitted attributes, in arrays of its own."""
        parameters = list(zip(self.coefs_, self.intercepts_, strict=True))
        before = self._state
        seed = 0 if before is None else before.seed
        state = NetworkState.starting_from(parameters, self._optimizer, seed)
        if before is not None:
            state.epoch, state.steps = before.epoch, before.steps
            state.history = {name: list(values) for name, values in before.history.items()}
            if len(before.arrays) == len(state.arrays):  # the moments too
                for to, array in zip(
                    state.arrays[2 * len(parameters) :],
                    before.arrays[2 * len(parameters) :],
                    strict=True,
                ):
                    to[...] = array
        return state

    def _fixed_network(self, engine: Engine, loss: Loss, first: int = 0) -> Network:
        """Return the network of the fitted attributes from a layer on, to be used as it is."""
        n = len(self.coefs_)
        layers = [
            LayerArrays(
                np.require(W, np.float32, ["C", "W"]),
                np.require(c, np.float32, ["C", "W"]),
                activation,
            )
            for W, c, activation in zip(
                self.coefs_, self.intercepts_, self._activations(n), strict=True
            )
        ]
        return engine.network(layers[first:], NetworkRule(loss))

    def _outputs(
        self, engine: Engine, loss: Loss, rows: Rows, n_layers: int | None = None
    ) -> Float32:
        """Return the outputs of the network, or of its first layers, for some rows."""
        n = len(self.coefs_) if n_layers is None else n_layers
        out = np.empty((rows.n_rows, self.coefs_[n - 1].shape[1]), np.float32)
        self._fixed_network(engine, loss).predict(rows, n, out)
        return out


def glorot_sigmoid(rng: np.random.RandomState, sizes: Sequence[int]) -> list[tuple[Array, Array]]:
    """Return random weights and zero biases for layers of sigmoid units.

    Uniform in ±4·√(6 / (inputs + outputs)): Glorot & Bengio (2010), equation 16, times 4 for σ.
    """
    layers = []
    for n_in, n_out in pairwise(sizes):
        bound = 4 * np.sqrt(6 / (n_in + n_out))
        layers.append((rng.uniform(-bound, bound, (n_in, n_out)), np.zeros(n_out)))
    return layers
