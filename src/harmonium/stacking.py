"""Greedy layer-wise training: RBMs one on the other, each on the states of the one below.

Hinton, Osindero & Teh (2006), A fast learning algorithm for deep belief nets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone

from harmonium._arrays import empty_bits
from harmonium._checks import check_integer, check_word
from harmonium._visible import Units, draw_rows, values_of
from harmonium.callbacks import Callback, CallbackList, Metrics
from harmonium.engine.protocol import Array, Draw, Engine, Machine, Rows, Stream
from harmonium.rbm import BernoulliRBM
from harmonium.rbm_training import EpochRows

DEFAULT_RBM = BernoulliRBM(learning_rate=0.05, algorithm="cd", momentum=0.5, shuffle=True)
"""What a layer is trained by when nothing else is said."""


def check_sizes(hidden_layer_sizes: Any) -> list[int]:
    """Return the layers' sizes; raise unless they are a positive integer or several."""
    sizes = hidden_layer_sizes
    if not isinstance(sizes, (list, tuple, np.ndarray)):
        sizes = [sizes]
    if len(sizes) == 0:
        raise ValueError("hidden_layer_sizes must name at least one layer, got none")
    return [check_integer("hidden_layer_sizes", size, minimum=1, below=2**31) for size in sizes]


def check_layers(whole: Any) -> list[BernoulliRBM]:
    """Return an RBM to be trained for each layer; raise where a parameter of `whole` is wrong.

    They are copies of `whole.rbm`, one prototype or one for each layer.
    """
    sizes = check_sizes(whole.hidden_layer_sizes)
    check_word("layer_inputs", whole.layer_inputs, ("sample", "mean"))
    prototypes: Any = DEFAULT_RBM if whole.rbm is None else whole.rbm
    if isinstance(prototypes, BernoulliRBM):
        prototypes = [prototypes] * len(sizes)
    if not isinstance(prototypes, (list, tuple)) or not all(
        isinstance(rbm, BernoulliRBM) for rbm in prototypes
    ):
        raise TypeError(
            f"rbm must be a BernoulliRBM, a list of one per layer, or None; got {prototypes!r}"
        )
    if len(prototypes) != len(sizes):
        raise ValueError(
            f"rbm must have one BernoulliRBM for each of the {len(sizes)} layers of "
            f"hidden_layer_sizes, got {len(prototypes)}"
        )
    layers = []
    for prototype, size in zip(prototypes, sizes, strict=True):
        rbm = clone(prototype).set_params(
            n_components=size,
            n_threads=whole.n_threads,
            device=whole.device,
            verbose=max(int(prototype.verbose), int(whole.verbose)),
        )
        rbm._check_parameters()
        layers.append(rbm)
    _check_likelihoods(whole, layers)
    return layers


def _check_likelihoods(whole: Any, layers: list[BernoulliRBM]) -> None:
    """Raise for a likelihood of what has none, before the layers below are trained."""
    asked = [number for number, rbm in enumerate(layers) if rbm.metrics == "likelihood"]
    if len(layers) - 1 in asked and getattr(whole, "label_units", False):
        raise ValueError(
            'metrics="likelihood" is of machines without labels, but label_units=True gives the '
            "topmost RBM some: rbm may be a list of one for each layer"
        )
    if whole.layer_inputs == "mean" and any(
        number and layers[number].inputs == "mean" for number in asked
    ):
        raise ValueError(
            'metrics="likelihood" is of states, but with layer_inputs="mean" layers above the '
            "first are given probabilities"
        )


def seeded_layers(whole: Any, rng: np.random.RandomState, n_labels: int = 0) -> list[BernoulliRBM]:
    """Return the layers to be trained, each with a seed of its own, the topmost with labels."""
    layers = check_layers(whole)
    layers[-1]._n_labels = n_labels
    for rbm in layers:
        rbm.random_state = int(rng.randint(2**32, dtype=np.uint64))
    return layers


class _Relay(Callback):
    """Passes what happens to a layer on to those who watch the whole."""

    def __init__(self, whole: Any, callbacks: CallbackList, layers: list[BernoulliRBM]) -> None:
        self._whole = whole
        self._callbacks = callbacks
        self._layers = layers

    def on_fit_begin(self, estimator: Any, first_epoch: int) -> None:
        self._whole.rbms_ = self._layers
        self._callbacks.begin(self._whole, self.title, self.n_epochs, first_epoch)

    def on_progress(self, estimator: Any, epoch: int, fraction: float) -> None:
        self._callbacks.on_progress(self._whole, epoch, fraction)

    def on_epoch_end(self, estimator: Any, epoch: int, metrics: Metrics) -> bool:
        self._whole.rbms_ = self._layers
        return self._callbacks.on_epoch_end(self._whole, epoch, metrics)

    def on_fit_end(self, estimator: Any) -> None:
        self._callbacks.on_fit_end(self._whole)


def train_layers(
    whole: Any,
    engine: Engine,
    data: Units,
    held_out: Units | None,
    rng: np.random.RandomState,
    saved: Sequence[BernoulliRBM] = (),
    labels: Array | None = None,
) -> None:
    """Train the layers of `whole` from the lowest to the top, into `whole.rbms_`.

    Which has the layers so far, whenever one begins and after each of its epochs. `saved` are
    layers of an earlier run, the last of them perhaps in its midst. Weights of the rows are those
    of every layer. Where there are `labels`, bits
    of shape (n_rows, n_classes), they are visible units of the topmost RBM, behind the others, and
    one softmax group.

    Raises
    ------
    FloatingPointError
        A layer diverged; the message names it.
    """
    layers = seeded_layers(whole, rng, 0 if labels is None else labels.shape[1])
    callbacks = CallbackList(whole.callbacks)
    trained: list[BernoulliRBM] = []
    n_visible = data.rows.n_cols
    for number, rbm in enumerate(layers):
        before = saved[number] if number < len(saved) else None
        if before is not None and before.n_iter_ >= rbm.n_iter:
            trained.append(before)
            whole.rbms_ = list(trained)
            continue
        below = Below(engine, trained, whole.layer_inputs)
        is_top = number == len(layers) - 1
        of_layer = labels if is_top else None

        def make(epoch: int, below: Below = below, labels: Array | None = of_layer) -> Rows:
            rows = below.rows(data.rows, epoch)
            return rows if labels is None else join_labels(engine, rows, labels)

        rows_of = EpochRows(make, same_in_all_epochs=below.is_same_in_all_epochs)
        rbm.n_features_in_ = n_visible if number == 0 else layers[number - 1].n_components
        if rbm._n_labels:
            rbm.n_features_in_ += rbm._n_labels
            held_out = None  # whose labels are not known
        relay = _Relay(whole, callbacks, [*trained, rbm])
        title = f"layer {number + 1} of {len(layers)} ({rbm.n_features_in_}-{rbm.n_components})"
        try:
            rbm._training(
                engine,
                Units(rows_of(0), data.dtype, data.traits),
                rows_of,
                None if held_out is None else below.rows(held_out.rows, 0, of_held_out=True),
                before,
                [relay],
                title,
            ).run()
        except FloatingPointError as error:
            raise FloatingPointError(f"{title}: {error}") from None
        finally:
            # Ctrl-C may come before its first weights are drawn.
            if hasattr(rbm, "components_"):
                whole.rbms_ = [*trained, rbm]
        trained.append(rbm)


class Below:
    """The trained layers under one that is being trained: they make its rows."""

    def __init__(self, engine: Engine, rbms: Sequence[BernoulliRBM], inputs: str) -> None:
        self._engine = engine
        self._inputs = inputs
        self._layers: list[tuple[BernoulliRBM, Machine]] = [(rbm, rbm._ready()[1]) for rbm in rbms]

    @property
    def is_same_in_all_epochs(self) -> bool:
        return not self._layers or self._inputs == "mean"

    def rows(self, rows: Rows, epoch: int, *, of_held_out: bool = False) -> Rows:
        """Return states of the topmost layer for `rows`, or their probabilities.

        States are drawn from such as the layer below was trained on.
        """
        for rbm, machine in self._layers:
            if self._inputs == "mean":
                p = np.empty((rows.n_rows, rbm.n_components), np.float32)
                machine.propup(rows, p)
                rows = self._engine.rows_of_reals(p)
            else:
                seed = rbm._seed ^ (of_held_out << 63)
                if rbm.inputs == "sample":
                    rows = draw_rows(self._engine, rows, seed, epoch)
                states = empty_bits(rows.n_rows, rbm.n_components)
                machine.draw_hidden(rows, states, Draw(seed, epoch, Stream.LAYER))
                rows = self._engine.rows_of_bits(states, rbm.n_components)
        return rows


def join_labels(engine: Engine, rows: Rows, labels: Array) -> Rows:
    """Return rows with labels, a bit for each class, behind them."""
    values = values_of(rows)
    if rows.is_binary:
        return engine.rows_of_bytes(np.concatenate([values != 0, labels], axis=1))
    return engine.rows_of_reals(np.concatenate([values, labels.astype(np.float32)], axis=1))
