"""The compiled extension. Private: use harmonium.ops or harmonium.engine."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_Float32 = NDArray[np.float32]
_Float64 = NDArray[np.float64]
_Bits = NDArray[np.uint64]

NOT_BINARY: int
OUT_OF_RANGE: int

class Diverged(FloatingPointError): ...

def available_isas() -> list[str]: ...
def active_isa() -> str: ...
def set_isa(level: str) -> None: ...
def force_way(name: str) -> None: ...
def log_sum_of_states(
    W: _Float32, bias: _Float32, output_bias: _Float32, begin: int, end: int, n_threads: int
) -> float | None: ...
def resolve_threads(requested: int) -> int: ...
def in_forked_child() -> bool: ...
def sigmoid(x: _Float32, out: _Float32, n_threads: int) -> None: ...
def softplus(x: _Float32, out: _Float32, n_threads: int) -> None: ...
def sample_bernoulli(
    p: _Float32, out: _Array, seed: int, step: int, stream: int, row0: int, n_threads: int
) -> None: ...
def pack(values: _Array, words: _Bits, n_threads: int) -> int: ...
def unpack(words: _Bits, out: _Array, n_threads: int) -> None: ...
def multiply(a: _Float32, b: _Float32, out: _Float32, n_threads: int) -> None: ...
def philox(counters: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]: ...

class Rows:
    @staticmethod
    def bits(words: _Bits, cols: int) -> Rows: ...
    @staticmethod
    def bytes(bytes: _Array) -> Rows: ...
    @staticmethod
    def real(values: _Array) -> Rows: ...
    @staticmethod
    def sparse(
        indptr: NDArray[np.int64], indices: NDArray[np.int32], values: _Array | None, cols: int
    ) -> Rows: ...
    @property
    def n_rows(self) -> int: ...
    @property
    def n_cols(self) -> int: ...
    @property
    def is_binary(self) -> bool: ...
    def copy_values(self, order: NDArray[np.int64], out: _Float32) -> None: ...

class Rbm:
    def __init__(
        self,
        W: _Float32,
        b: _Float32,
        c: _Float32,
        precision: str,
        n_threads: int,
        n_labels: int = 0,
    ) -> None: ...
    def propup(self, v: Rows, out: _Float32, /) -> None: ...
    def propdown(self, h: Rows, out: _Float32, /) -> None: ...
    def preactivations(self, v: Rows, out: _Float32, /) -> None: ...
    def visible_preactivations(self, h: Rows, out: _Float32, /) -> None: ...
    def draw_hidden(
        self, v: Rows, out: _Bits, seed: int, step: int, stream: int, row0: int
    ) -> None: ...
    def draw_visible(
        self, h: Rows, out: _Bits, seed: int, step: int, stream: int, row0: int
    ) -> None: ...
    def gibbs(
        self,
        start: Rows | None,
        v: _Bits,
        h: _Bits,
        n_steps: int,
        seed: int,
        step: int,
        row0: int,
        v_probabilities: _Float32 | None,
        h_probabilities: _Float32 | None,
        mask: _Bits | None = None,
        values: _Bits | None = None,
    ) -> None: ...
    def anneal(
        self,
        base_bias: _Float32,
        betas: _Float64,
        v: _Bits,
        h: _Bits,
        seed: int,
        step: int,
        row0: int,
        log_weights: _Float64,
        mask: _Bits | None = None,
        values: _Bits | None = None,
    ) -> None: ...
    def temper(
        self,
        base_bias: _Float32,
        betas: _Float64,
        v: _Bits,
        h: _Bits,
        n_rounds: int,
        seed: int,
        step: int,
        exchanges: NDArray[np.int64],
        mask: _Bits | None = None,
        values: _Bits | None = None,
    ) -> None: ...
    def free_energy(self, v: Rows, out: _Float64, /) -> None: ...
    def pseudo_likelihood(
        self, v: Rows, seed: int, step: int, n_flips: int, out: _Float64, /
    ) -> None: ...
    def exact_pseudo_likelihood(
        self, v: Rows, begin: int, count: int, out: _Float64, /
    ) -> None: ...
    def cd_gradient(
        self,
        rows: Rows,
        chains: _Bits,
        n_gibbs_steps: int,
        persistent: bool,
        seed: int,
        step: int,
        dW: _Float32,
        db: _Float32,
        dc: _Float32,
    ) -> None: ...

class SequentialTrainer64:
    def __init__(self, W: _Array, b: _Array, c: _Array, chains: _Bits, n_threads: int) -> None: ...
    @property
    def rows_done(self) -> int: ...
    @property
    def numbers_per_update(self) -> int: ...
    def run(
        self,
        rows: Rows,
        order: NDArray[np.int64] | None,
        begin: int,
        count: int,
        batch_size: int,
        learning_rate: float,
        uniform: _Float64,
    ) -> None: ...

class SequentialTrainer32(SequentialTrainer64): ...

class Trainer:
    def __init__(
        self,
        W: _Float32,
        b: _Float32,
        c: _Float32,
        chains: _Bits,
        W_velocity: _Float32 | None,
        b_velocity: _Float32 | None,
        c_velocity: _Float32 | None,
        completions: _Bits | None,
        n_gibbs_steps: int,
        persistent: bool,
        l1: float,
        l2: float,
        seed: int,
        n_labels: int,
        precision: str,
        n_threads: int,
        weights: _Float64 | None = None,
        observed: _Bits | None = None,
    ) -> None: ...
    def center(self, v_offset: _Float32, h_offset: _Float32, rate: float) -> None: ...
    def adapt(
        self,
        W_square: _Float32,
        b_square: _Float32,
        c_square: _Float32,
        updates: NDArray[np.int64],
        beta_1: float,
        beta_2: float,
        epsilon: float,
    ) -> None: ...
    def make_sparse(self, activity: _Float32, target: float, cost: float, decay: float) -> None: ...
    def limit_norms(self, most: float) -> None: ...
    def restart_chains(self) -> None: ...
    def temper(
        self,
        base_bias: _Float32,
        betas: _Float64,
        replicas: _Bits,
        exchanges: NDArray[np.int64],
    ) -> None: ...
    def keep_fast_weights(
        self, W: _Float32, b: _Float32, c: _Float32, rate: float, decay: float
    ) -> None: ...
    def keep_averages(
        self, W: _Float32, b: _Float32, c: _Float32, counts: NDArray[np.int64], decay: float
    ) -> None: ...
    @property
    def rows_done(self) -> int: ...
    def copy_visible_states(self, out: _Bits) -> None: ...
    def updates_a_pass(self, rows: Rows, batch_size: int) -> int: ...
    def run(
        self,
        rows: Rows,
        order: NDArray[np.int64] | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> None: ...

class Network:
    def __init__(
        self,
        layers: list[tuple[Any, ...]],
        loss: str,
        optimizer: str,
        l2: float,
        max_norm: float,
        beta1: float,
        beta2: float,
        epsilon: float,
        seed: int,
        n_threads: int,
    ) -> None: ...
    @property
    def rows_done(self) -> int: ...
    def predict(self, rows: Rows, n_layers: int, out: _Float32) -> None: ...
    def train(
        self,
        rows: Rows,
        targets: NDArray[np.int32] | Rows,
        class_weights: _Float32 | None,
        order: NDArray[np.int64] | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> tuple[float, int]: ...
