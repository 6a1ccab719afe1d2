"""The CPU engine: the compiled kernels behind the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from harmonium import _core
from harmonium.engine.protocol import (
    NO_TRAITS,
    Array,
    Bits,
    Chains,
    Clamp,
    Draw,
    Float32,
    LayerArrays,
    NetworkRule,
    Order,
    Path,
    Precision,
    RowTraits,
    Stream,
    TrainingArrays,
    TrainingRule,
)

CoreRows: TypeAlias = Any
"""The extension's Rows: an engine takes those it made itself."""


class _SerialBlas:
    """Holds the BLAS to one thread while the extension uses it: the threads are ours.

    Two pools that spin after their work would wait for one another (csrc/core/blas.hpp). The number
    is the process's, so the first call to enter sets it and the last to leave sets it back.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls = 0
        self._controller: Any = None
        self._limit: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._calls == 0:
                if self._controller is None:
                    import threadpoolctl

                    from harmonium import _blas  # noqa: F401  # a pool must be loaded to be found

                    self._controller = threadpoolctl.ThreadpoolController()
                self._limit = self._controller.limit(limits=1, user_api="blas")
            self._calls += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._calls -= 1
            if self._calls == 0:
                self._limit.restore_original_limits()


_serial_blas = _SerialBlas()


class _CpuMachine:
    def __init__(
        self,
        W: Float32,
        b: Float32,
        c: Float32,
        precision: Precision,
        n_threads: int,
        n_labels: int,
    ) -> None:
        self._core = _core.Rbm(W, b, c, precision, n_threads, n_labels)

    def propup(self, v: CoreRows, out: Float32) -> None:
        self._core.propup(v, out)

    def propdown(self, h: CoreRows, out: Float32) -> None:
        self._core.propdown(h, out)

    def draw_hidden(self, v: CoreRows, out: Bits, draw: Draw) -> None:
        self._core.draw_hidden(v, out, *draw)

    def draw_visible(self, h: CoreRows, out: Bits, draw: Draw) -> None:
        self._core.draw_visible(h, out, *draw)

    def preactivations(self, v: CoreRows, out: Float32) -> None:
        self._core.preactivations(v, out)

    def visible_preactivations(self, h: CoreRows, out: Float32) -> None:
        self._core.visible_preactivations(h, out)

    def free_energy(self, v: CoreRows, out: NDArray[np.float64]) -> None:
        self._core.free_energy(v, out)

    def pseudo_likelihood(
        self, v: CoreRows, seed: int, step: int, n_flips: int, out: NDArray[np.float64]
    ) -> None:
        self._core.pseudo_likelihood(v, seed, step, n_flips, out)

    def exact_pseudo_likelihood(
        self, v: CoreRows, begin: int, count: int, out: NDArray[np.float64]
    ) -> None:
        self._core.exact_pseudo_likelihood(v, begin, count, out)

    def gibbs(
        self,
        start: CoreRows,
        chains: Chains,
        n_steps: int,
        seed: int,
        step: int,
        first_row: int,
        clamp: Clamp | None = None,
    ) -> None:
        v, h, v_p, h_p = chains
        held = clamp or (None, None)
        self._core.gibbs(start, v, h, n_steps, seed, step, first_row, v_p, h_p, *held)

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
        held = clamp or (None, None)
        self._core.anneal(*path, chains.v, chains.h, seed, step, first_row, log_weights, *held)

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
        held = clamp or (None, None)
        self._core.temper(*path, chains.v, chains.h, n_rounds, seed, step, exchanges, *held)

    def cd_gradient(
        self,
        v: CoreRows,
        chains: Bits,
        n_gibbs_steps: int,
        persistent: bool,
        seed: int,
        step: int,
        out: tuple[Float32, Float32, Float32],
    ) -> None:
        self._core.cd_gradient(v, chains, n_gibbs_steps, persistent, seed, step, *out)


class _CpuTrainer:
    def __init__(
        self,
        arrays: TrainingArrays,
        rule: TrainingRule,
        precision: Precision,
        n_threads: int,
        traits: RowTraits,
    ) -> None:
        self._core = _core.Trainer(*arrays[:8], *rule[:6], precision, n_threads, *traits)
        options = rule.options
        if arrays.W_square is not None:
            squares = (arrays.W_square, arrays.b_square, arrays.c_square, arrays.n_squares)
            betas = (options.beta_1, options.beta_2)
            self._core.adapt(*squares, *betas, options.epsilon)  # type: ignore[arg-type]
        if arrays.v_offset is not None and arrays.h_offset is not None:
            self._core.center(arrays.v_offset, arrays.h_offset, options.offset_rate)
        if arrays.h_activity is not None:
            self._core.make_sparse(
                arrays.h_activity,
                options.sparsity_target,
                options.sparsity_cost,
                options.sparsity_decay,
            )
        if options.max_norm > 0:
            self._core.limit_norms(options.max_norm)
        if arrays.W_average is not None and arrays.counts is not None:
            self._core.keep_averages(*arrays.model, arrays.counts, options.average)
        if options.restarts:
            self._core.restart_chains()
        if arrays.replicas is not None:
            replicas = (arrays.base_bias, arrays.betas, arrays.replicas, arrays.exchanges)
            self._core.temper(*replicas)  # type: ignore[arg-type]
        if arrays.W_fast is not None:
            fast = (arrays.W_fast, arrays.b_fast, arrays.c_fast)
            rates = (options.fast_rate, options.fast_decay)
            self._core.keep_fast_weights(*fast, *rates)  # type: ignore[arg-type]

    @property
    def rows_done(self) -> int:
        return self._core.rows_done

    def copy_visible_states(self, out: Bits) -> None:
        self._core.copy_visible_states(out)

    def updates_a_pass(self, rows: CoreRows, batch_size: int) -> int:
        return self._core.updates_a_pass(rows, batch_size)

    def run(
        self,
        rows: CoreRows,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> None:
        self._core.run(rows, order, begin, count, batch_size, step, learning_rate, momentum)


class _CpuSequentialTrainer:
    def __init__(self, arrays: TrainingArrays, n_threads: int) -> None:
        is_double = arrays.W.dtype == np.float64
        kind = _core.SequentialTrainer64 if is_double else _core.SequentialTrainer32
        self._core = kind(*arrays[:4], n_threads)

    @property
    def rows_done(self) -> int:
        return self._core.rows_done

    @property
    def numbers_per_update(self) -> int:
        return self._core.numbers_per_update

    def run(
        self,
        rows: CoreRows,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        learning_rate: float,
        uniform: NDArray[np.float64],
    ) -> None:
        self._core.run(rows, order, begin, count, batch_size, learning_rate, uniform)


class _CpuNetwork:
    def __init__(self, layers: Sequence[LayerArrays], rule: NetworkRule, n_threads: int) -> None:
        self._core = _core.Network([tuple(layer) for layer in layers], *rule, n_threads)

    @property
    def rows_done(self) -> int:
        return self._core.rows_done

    def predict(self, rows: CoreRows, n_layers: int, out: Float32) -> None:
        self._core.predict(rows, n_layers, out)

    def train(
        self,
        rows: CoreRows,
        targets: NDArray[np.int32] | CoreRows,
        class_weights: Float32 | None,
        order: Order | None,
        begin: int,
        count: int,
        batch_size: int,
        step: int,
        learning_rate: float,
        momentum: float,
    ) -> tuple[float, int]:
        return self._core.train(
            rows,
            targets,
            class_weights,
            order,
            begin,
            count,
            batch_size,
            step,
            learning_rate,
            momentum,
        )


class CpuEngine:
    """Runs on the processor, with `n_threads` threads (None: as many as it may use)."""

    name = "cpu"

    def __init__(self, n_threads: int | None = None) -> None:
        self._n = n_threads or 0  # 0: as many as OpenMP would take

    def sigmoid(self, x: Float32, out: Float32) -> None:
        _core.sigmoid(x, out, self._n)

    def softplus(self, x: Float32, out: Float32) -> None:
        _core.softplus(x, out, self._n)

    def sample_bernoulli(self, p: Float32, out: Array, draw: Draw) -> None:
        _core.sample_bernoulli(p, out, draw.seed, draw.step, draw.stream, draw.first_row, self._n)

    def shuffled_order(self, n: int, seed: int, epoch: int) -> Order:
        counters = np.zeros((n, 4), np.uint32)
        counters[:, 0] = np.arange(n)
        counters[:, 2] = epoch
        counters[:, 3] = Stream.SHUFFLE
        words = _core.philox(counters, seed).astype(np.uint64)
        keys = words[:, 0] << np.uint64(32) | words[:, 1]
        return np.argsort(keys, kind="stable").astype(np.int64, copy=False)

    def multiply(self, a: Float32, b: Float32, out: Float32) -> None:
        with _serial_blas:
            _core.multiply(a, b, out, self._n)

    def pack(self, values: Array, out: Bits) -> tuple[bool, bool]:
        flags = _core.pack(values, out, self._n)
        return not flags & _core.NOT_BINARY, not flags & _core.OUT_OF_RANGE

    def unpack(self, words: Bits, out: Array) -> None:
        _core.unpack(words, out, self._n)

    def rows_of_bits(self, words: Bits, n_cols: int) -> _core.Rows:
        return _core.Rows.bits(words, n_cols)

    def rows_of_bytes(self, values: Array) -> _core.Rows:
        return _core.Rows.bytes(values)

    def rows_of_reals(self, values: Array) -> _core.Rows:
        return _core.Rows.real(values)

    def rows_of_sparse(self, csr: Any, binary: bool) -> _core.Rows:
        values = None if binary else csr.data
        return _core.Rows.sparse(
            csr.indptr.astype(np.int64, copy=False),
            csr.indices.astype(np.int32, copy=False),
            values,
            csr.shape[1],
        )

    def machine(
        self, W: Float32, b: Float32, c: Float32, precision: Precision, n_labels: int = 0
    ) -> _CpuMachine:
        return _CpuMachine(W, b, c, precision, self._n, n_labels)

    def trainer(
        self,
        arrays: TrainingArrays,
        rule: TrainingRule,
        precision: Precision,
        traits: RowTraits = NO_TRAITS,
    ) -> _CpuTrainer:
        return _CpuTrainer(arrays, rule, precision, self._n, traits)

    def sequential_trainer(self, arrays: TrainingArrays) -> _CpuSequentialTrainer:
        return _CpuSequentialTrainer(arrays, self._n)

    def log_sum_of_states(
        self, W: Float32, bias: Float32, output_bias: Float32, begin: int, end: int
    ) -> float | None:
        return _core.log_sum_of_states(W, bias, output_bias, begin, end, self._n)

    def network(self, layers: Sequence[LayerArrays], rule: NetworkRule) -> _CpuNetwork:
        return _CpuNetwork(layers, rule, self._n)
