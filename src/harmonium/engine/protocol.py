"""The seam between models and devices.

Everything above this line speaks of rows, machines and trainers; everything below it of cores and
kernels. An engine gets arrays that have been validated: shapes and dtypes fit, ``out`` can be
written to.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Precision: TypeAlias = Literal["auto", "float32"]
Array: TypeAlias = NDArray[Any]
Bits: TypeAlias = NDArray[np.uint64]
Float32: TypeAlias = NDArray[np.float32]
Order: TypeAlias = NDArray[np.int64]


class Stream(IntEnum):
    """What a draw is for: part of its coordinates (docs/numerics.md, section 2)."""

    USER = 0
    HIDDEN = 1
    VISIBLE = 2
    HIDDEN_START = 3
    SHUFFLE = 4
    FLIP = 5
    BINARISE = 6
    DROPOUT = 7
    LAYER = 8
    LABEL = 9
    INPUT = 10
    COMPLETION_HIDDEN = 11
    COMPLETION_VISIBLE = 12
    EXCHANGE = 13


class Draw(NamedTuple):
    """The coordinates that all numbers of one call share; row and unit complete them."""

    seed: int
    step: int = 0
    stream: int = Stream.USER
    first_row: int = 0


class Chains(NamedTuple):
    """States of n chains as bits, and room for the probabilities of their last draws (or None)."""

    v: Bits
    h: Bits
    v_probabilities: Float32 | None = None
    h_probabilities: Float32 | None = None


class Clamp(NamedTuple):
    """Visible units that chains leave alone: where `mask` is 1 they are as in `values`.

    Bits, one row for all chains or a row each.
    """

    mask: Bits
    values: Bits


class Path(NamedTuple):
    """Machines between independent visible units and an RBM, and some places on the way.

    At inverse temperature β the energy is -((1 - β)·base_bias + β·b)·v - β·(c·h + vᵀWh).
    """

    base_bias: Float32
    betas: NDArray[np.float64]


class TrainingArrays(NamedTuple):
    """What training changes, in place: parameters, chains, and velocities if there is momentum.

    float32 for a trainer; for a sequential one that, or float64. Where values of the data are
    missing, each of its rows has a completion. What follows belongs to options of the update
    (:class:`UpdateOptions`), and is None where they are off.
    """

    W: Array
    b: Array
    c: Array
    chains: Bits
    W_velocity: Float32 | None = None
    b_velocity: Float32 | None = None
    c_velocity: Float32 | None = None
    completions: Bits | None = None

    # Adam, whose averages of the gradient are the velocities, and RMSprop: averages of its squares,
    # and how many updates they have seen.
    W_square: Float32 | None = None
    b_square: Float32 | None = None
    c_square: Float32 | None = None
    n_squares: NDArray[np.int64] | None = None
    # Centring: what is taken from the units.
    v_offset: Float32 | None = None
    h_offset: Float32 | None = None
    # Sparsity: averages of p(h|v).
    h_activity: Float32 | None = None
    # Averages of the parameters.
    W_average: Float32 | None = None
    b_average: Float32 | None = None
    c_average: Float32 | None = None
    # Updates made, averages taken, and the update after which the last was.
    counts: NDArray[np.int64] | None = None
    # Chains at other temperatures, which exchange states with those at the first of `betas`, 1: as
    # many at each; the biases at β = 0; what :meth:`Machine.temper` counts.
    replicas: Bits | None = None
    base_bias: Float32 | None = None
    betas: NDArray[np.float64] | None = None
    exchanges: NDArray[np.int64] | None = None
    # Fast weights, which are added to those of the chains' machine alone.
    W_fast: Float32 | None = None
    b_fast: Float32 | None = None
    c_fast: Float32 | None = None

    @property
    def model(self) -> tuple[Array, Array, Array]:
        """W, b and c of the model that is trained: their averages, where those are kept."""
        if self.W_average is None or self.b_average is None or self.c_average is None:
            return self.W, self.b, self.c
        return self.W_average, self.b_average, self.c_average


class UpdateOptions(NamedTuple):
    """How a gradient becomes an update (docs/numerics.md, section 6).

    Each counts where there are the arrays that it needs; a `max_norm` of 0 is none.
    """

    beta_1: float = 0.0  # Adam's decay of averages of the gradient
    beta_2: float = 0.0  # and of its squares, or RMSprop's
    epsilon: float = 0.0
    offset_rate: float = 0.0  # by which offsets follow the data
    sparsity_target: float = 0.0
    sparsity_cost: float = 0.0
    sparsity_decay: float = 0.0
    max_norm: float = 0.0
    average: float = 0.0  # decay of weights in the average of parameters
    restarts: bool = False  # chains begin at random states in every update
    fast_rate: float = 0.0  # learning rate of fast weights
    fast_decay: float = 0.0  # and what is left of them after an update


class RowTraits(NamedTuple):
    """What a trainer is told of each row of the data beside its values, by the row's number.

    `weights` have the mean 1; `observed` are the units whose values are not missing. Those of the
    others are the completions', which come with them; the data's are then bits.
    """

    weights: NDArray[np.float64] | None = None
    observed: Bits | None = None


NO_TRAITS = RowTraits()


class TrainingRule(NamedTuple):
    """What stays the same from update to update; `n_labels` is as for :meth:`Engine.machine`."""

    n_gibbs_steps: int
    persistent: bool
    l1: float
    l2: float
    seed: int
    n_labels: int = 0
    options: UpdateOptions = UpdateOptions()


Activation: TypeAlias = Literal["sigmoid", "identity"]
Loss: TypeAlias = Literal["softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error"]
Optimizer: TypeAlias = Literal["sgd", "momentum", "adam"]


class LayerArrays(NamedTuple):
    """A dense layer y = f(xW + c): W is (inputs × outputs). Training changes the arrays in place.

    `activation` is f, which the loss decides for the last layer; `dropout` the probability that
    training sets an input to zero. `moments` are what the optimiser remembers, a pair (W, c) each:
    none for "sgd", the velocity for "momentum", both moments for "adam".
    """

    W: Float32
    c: Float32
    activation: Activation = "sigmoid"
    dropout: float = 0.0
    moments: tuple[tuple[Float32, Float32], ...] = ()


class NetworkRule(NamedTuple):
    """What stays the same from update to update; a `max_norm` of 0 is none."""

    loss: Loss
    optimizer: Optimizer = "sgd"
    l2: float = 0.0
    max_norm: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0


class Rows(Protocol):
    """Rows of data where the engine wants them: sets of active units, or real values."""

    @property
    def n_rows(self) -> int: ...
    @property
    def n_cols(self) -> int: ...
    @property
    def is_binary(self) -> bool: ...
    def copy_values(self, order: Order, out: Float32) -> None:
        """Write the rows named by `order` to `out` as float32."""


class Machine(Protocol):
    """An RBM with fixed parameters."""

    def propup(self, v: Rows, out: Float32) -> None: ...
    def propdown(self, h: Rows, out: Float32) -> None: ...
    def draw_hidden(self, v: Rows, out: Bits, draw: Draw) -> None:
        """Write states drawn from p(h|v)."""

    def draw_visible(self, h: Rows, out: Bits, draw: Draw) -> None:
        """Write states drawn from p(v|h)."""

    def preactivations(self, v: Rows, out: Float32) -> None:
        """Write vW + c."""

    def visible_preactivations(self, h: Rows, out: Float32) -> None:
        """Write hWᵀ + b."""

    def free_energy(self, v: Rows, out: NDArray[np.float64]) -> None: ...
    def pseudo_likelihood(
        self, v: Rows, seed: int, step: int, n_flips: int, out: NDArray[np.float64]
    ) -> None:
        """Write the mean over the flips that steps ``step`` to ``step + n_flips - 1`` draw."""

    def exact_pseudo_likelihood(
        self, v: Rows, begin: int, count: int, out: NDArray[np.float64]
    ) -> None:
        """Write the sum over all flips, of rows ``begin`` to ``begin + count - 1``."""

    def gibbs(
        self,
        start: Rows | None,
        chains: Chains,
        n_steps: int,
        seed: int,
        step: int,
        first_row: int,
        clamp: Clamp | None = None,
    ) -> None:
        """Run Gibbs steps from visible rows; from the states in `chains.h` if `start` is None."""

    def anneal(
        self,
        path: Path,
        chains: Chains,
        seed: int,
        step: int,
        first_row: int,
        log_weights: NDArray[np.float64],
        clamp: Clamp | None = None,
    ) -> None:
        """Take visible states along a path, one Gibbs step at each place but the first.

        Adds to `log_weights`, at each place but the last, log p*(v) of the next minus that of this
        one, p*(v) = Σₕ exp(-E(v, h)).
        """

    def temper(
        self,
        path: Path,
        chains: Chains,
        n_rounds: int,
        seed: int,
        step: int,
        exchanges: NDArray[np.int64],
        clamp: Clamp | None = None,
    ) -> None:
        """Run replicas: as many chains at each place of a path, one place after the other.

        Each round makes a Gibbs step from the hidden states and lets neighbours exchange states. A
        pair tries in every second round: the first, third, ... in those of even steps. `exchanges`,
        two rows of a number a pair, count how often they did, and how often they tried.
        """

    def cd_gradient(
        self,
        v: Rows,
        chains: Bits,
        n_gibbs_steps: int,
        persistent: bool,
        seed: int,
        step: int,
        out: tuple[Float32, Float32, Float32],
    ) -> None: ...


class Updates(Protocol):
    """Contrastive divergence on arrays shared with the caller."""

    @property
    def rows_done(self) -> int:
        """How many rows all updates so far have seen."""

    def updates_a_pass(self, rows: Rows, batch_size: int) -> int:
        """Return how many updates are taken into W at once.

        :meth:`run` leaves W up to date. Calls for a multiple of so many minibatches, but for the
        last, leave the same bits as one call.
        """

    def run(
        self,
        rows: Rows,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> None:
        """Update once per minibatch of rows ``order[begin:begin + count]``.

        The first update's first Gibbs step has the number `step`.

        Raises
        ------
        FloatingPointError
            The parameters became infinite or not a number.
        """


class Trainer(Updates, Protocol):
    """Updates whose numbers are counter-based."""

    def copy_visible_states(self, out: Bits) -> None:
        """Write the visible states of the last update's chains, one a row."""


class SequentialTrainer(Protocol):
    """Persistent contrastive divergence, one step, on uniform numbers that the caller drew.

    In the precision of the arrays it shares with the caller, float32 or float64.
    """

    @property
    def rows_done(self) -> int:
        """How many rows all updates so far have seen."""

    @property
    def numbers_per_update(self) -> int:
        """How many numbers an update uses up: one a unit and chain, visible units first."""

    def run(
        self,
        rows: Rows,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        learning_rate: float,
        uniform: NDArray[np.float64],
    ) -> None:
        """Update once per minibatch of rows ``order[begin:begin + count]``.

        Raises
        ------
        FloatingPointError
            The parameters became infinite or not a number.
        """


class Network(Protocol):
    """Dense layers, one on the other, on arrays it shares with the caller."""

    @property
    def rows_done(self) -> int:
        """How many rows all updates so far have seen."""

    def predict(self, rows: Rows, n_layers: int, out: Float32) -> None:
        """Write the outputs of the first `n_layers` layers."""

    def train(
        self,
        rows: Rows,
        targets: NDArray[np.int32] | Rows,
        class_weights: Float32 | None,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> tuple[float, int]:
        """Update once per minibatch of rows ``order[begin:begin + count]``; `step` were made.

        `targets` are a label for every one of the rows, or rows of values. Returns the sum of the
        rows' losses and how many were classified wrongly, each before its update.

        Raises
        ------
        FloatingPointError
            The loss became infinite or not a number.
        """


STATES_A_PIECE = 2**12
"""Of :meth:`Engine.log_sum_of_states`, but where there are fewer states."""


class Engine(Protocol):
    """A device."""

    name: str

    def sigmoid(self, x: Float32, out: Float32) -> None: ...
    def softplus(self, x: Float32, out: Float32) -> None: ...
    def sample_bernoulli(self, p: Float32, out: Array, draw: Draw) -> None: ...
    def shuffled_order(self, n: int, seed: int, epoch: int) -> Order: ...
    def multiply(self, a: Float32, b: Float32, out: Float32) -> None: ...
    def pack(self, values: Array, out: Bits) -> tuple[bool, bool]:
        """Pack rows into words of bits; tell whether all were 0 or 1, and all in [0, 1]."""

    def unpack(self, words: Bits, out: Array) -> None: ...
    def rows_of_bits(self, words: Bits, n_cols: int) -> Rows: ...
    def rows_of_bytes(self, values: Array) -> Rows: ...
    def rows_of_reals(self, values: Array) -> Rows: ...
    def rows_of_sparse(self, csr: Any, binary: bool) -> Rows: ...
    def machine(
        self, W: Float32, b: Float32, c: Float32, precision: Precision, n_labels: int = 0
    ) -> Machine:
        """Return an RBM; its last `n_labels` visible units are a softmax group, one of them on."""

    def trainer(
        self,
        arrays: TrainingArrays,
        rule: TrainingRule,
        precision: Precision,
        traits: RowTraits = NO_TRAITS,
    ) -> Trainer: ...
    def sequential_trainer(self, arrays: TrainingArrays) -> SequentialTrainer: ...
    def network(self, layers: Sequence[LayerArrays], rule: NetworkRule) -> Network: ...
    def log_sum_of_states(
        self, W: Float32, bias: Float32, output_bias: Float32, begin: int, end: int
    ) -> float | None:
        """Return log Σₛ exp(bias·s + Σⱼ softplus((sW + output_bias)ⱼ)) over some pieces.

        W is (units × outputs), s a state of the units, and bit k of its number is unit k. None
        where the terms could overflow.
        """
