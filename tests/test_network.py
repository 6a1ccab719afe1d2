"""Networks of dense layers: the reference's gradients, its updates against the engine's, the bits
that do not depend on threads or batches, and torch's numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import reference as ref
import scipy.sparse
from layouts import LAYOUTS, Canvas, packed, random_bits, random_reals, same_bits
from test_isa import python

from harmonium import _core, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import Draw, LayerArrays, NetworkRule

F32 = np.float32
SOFTMAX, SIGMOID, SQUARED = LOSSES = (
    "softmax_cross_entropy",
    "sigmoid_cross_entropy",
    "squared_error",
)
N_MOMENTS = {"sgd": 0, "momentum": 1, "adam": 2}

# Inputs, hidden units, outputs: every size of SIZES and around the 16 outputs below which the
# gradient of the inputs takes another way, in every place. Then panels of more than 128 inputs, and
# layers of several strips of weights: of 129 rows, of 10, of 512 with few outputs.
SIZES = (1, 3, 10, 15, 16, 17, 31, 33, 63, 65, 127)
SHAPES = [(n, SIZES[i - 7], SIZES[i - 4]) for i, n in enumerate(SIZES)]
SHAPES += [(300, 127, 10), (5, 300, 127), (3, 33, 1700), (7, 1100, 10)]
BATCH_SIZES = (1, 2, 7, 10, 20, 33)


def targets_for(loss: str, n: int, n_outputs: int, seed: int = 5) -> Any:
    rng = np.random.default_rng(seed)
    if loss == SOFTMAX:
        return rng.integers(0, n_outputs, n).astype(np.int32)
    return rng.random((n, n_outputs), F32) if loss == SIGMOID else rng.normal(size=(n, n_outputs))


def weights_of_classes(loss: str, n_outputs: int) -> np.ndarray | None:
    return np.linspace(0.5, 2, n_outputs, dtype=F32) if loss == SOFTMAX else None


class Twins:
    """The same network in arrays that the engine trains, and in the reference."""

    def __init__(
        self,
        sizes: Sequence[int],
        loss: str = SOFTMAX,
        optimizer: str = "sgd",
        *,
        activations: Sequence[str] = (),
        dropout: Sequence[float] = (),
        layout: tuple[int, int] = (0, 0),
        n_threads: int | None = 1,
        **rule: Any,
    ) -> None:
        rng = np.random.default_rng(sum(sizes))
        n = len(sizes) - 1
        self.rule = NetworkRule(loss, optimizer, **rule)  # type: ignore[arg-type]
        self.canvases: list[Canvas] = []
        self.layers, self.twin = [], []
        kinds = activations or ("sigmoid",) * n, dropout or (0.0,) * n
        for i, activation, drop in zip(range(n), *kinds, strict=True):
            shape = sizes[i], sizes[i + 1]
            # Sums of any size stay of order 1.
            W = rng.normal(0, 1.5 / np.sqrt(sizes[i]), shape).astype(F32)
            c = rng.normal(0, 0.5, sizes[i + 1]).astype(F32)
            moments = [self._pair(0 * W, 0 * c, layout) for _ in range(N_MOMENTS[optimizer])]
            layer = (*self._pair(W, c, layout), activation, drop, tuple(moments))
            self.layers.append(LayerArrays(*layer))
            self.twin.append(ref.Dense64(W, c, activation, drop))
        self.engine = get_engine(n_threads=n_threads)
        self.network = self.engine.network(self.layers, self.rule)

    def _pair(self, W: np.ndarray, c: np.ndarray, layout: tuple[int, int]) -> Any:
        canvases = Canvas.of(W, layout), Canvas.of(c[None], layout)
        self.canvases += canvases
        return canvases[0].view, canvases[1].view[0]

    def rows(self, values: np.ndarray) -> Any:
        if values.dtype in (bool, np.uint8):
            return self.engine.rows_of_bytes(values)
        return self.engine.rows_of_reals(values)

    def train(
        self,
        data: Any,
        targets: Any,
        batch_size: int,
        *,
        order: np.ndarray | None = None,
        begin: int = 0,
        count: int | None = None,
        step: int = 0,
        learning_rate: float = 0.1,
        momentum: float = 0.8,
        class_weights: np.ndarray | None = None,
    ) -> tuple[float, int]:
        """On arrays or the engine's rows; on all of them unless told otherwise."""
        if isinstance(data, np.ndarray):
            data = self.rows(data)
        if isinstance(targets, np.ndarray) and targets.ndim == 2:
            targets = self.rows(targets)
        if count is None:
            count = (data.n_rows if order is None else len(order)) - begin
        scalars = (begin, count, batch_size, step, learning_rate, momentum)
        return self.network.train(data, targets, class_weights, order, *scalars)

    def train_twin(
        self, x: np.ndarray, targets: np.ndarray, batch_size: int, *, step: int = 0, **other: Any
    ) -> tuple[float, int]:
        other = {"learning_rate": 0.1, "momentum": 0.8} | other
        rule = ref.NetworkRule64(*self.rule)
        sums = []
        for n, first in enumerate(range(0, len(x), batch_size)):
            batch = slice(first, first + batch_size)
            sums.append(
                ref.network_update64(
                    self.twin, rule, x[batch], targets[batch], step=step + n, **other
                )
            )
        losses, errors = zip(*sums, strict=True)
        return sum(losses), sum(errors)

    def predict(self, data: Any, n_layers: int | None = None, out: Any = None) -> np.ndarray:
        if isinstance(data, np.ndarray):
            data = self.rows(data)
        n_layers = len(self.layers) if n_layers is None else n_layers
        if out is None:
            out = np.full((data.n_rows, self.layers[n_layers - 1].W.shape[1]), np.nan, F32)
        self.network.predict(data, n_layers, out)
        return out

    def arrays(self) -> list[np.ndarray]:
        return [canvas.view for canvas in self.canvases]

    def twin_arrays(self) -> Iterator[np.ndarray]:
        """In the order of `arrays`."""
        for layer in self.twin:
            for moment in (layer.first, layer.second)[: N_MOMENTS[self.rule.optimizer]]:
                yield from (moment[0], moment[1][None])
            yield from (layer.W, layer.c[None])


def assert_same_bits(one: Twins, other: Twins) -> None:
    for a, b in zip(one.arrays(), other.arrays(), strict=True):
        assert same_bits(a, b)


# --- The reference's own gradients ----------------------------------------------------------------


@pytest.mark.parametrize("class_weights", [None, np.array([0.3, 1.0, 2.5])])
@pytest.mark.parametrize("activations", [("sigmoid",) * 3, ("identity", "sigmoid", "sigmoid")])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_references_gradients_are_those_of_finite_differences(
    loss: str, activations: tuple[str, ...], class_weights: np.ndarray | None
) -> None:
    if class_weights is not None and loss != SOFTMAX:
        class_weights = None
    dropout = (0.2, 0.0 if activations[0] == "identity" else 0.4, 0.3)
    twins = Twins((4, 5, 6, 3), loss, activations=activations, dropout=dropout)
    x, targets = random_reals(7, 4, seed=1), targets_for(loss, 7, 3)
    kept = ref.kept_units(twins.twin, 7, seed=3, step=2)
    assert 0 < sum(k.sum() for k in kept) < sum(k.size for k in kept)

    def mean_loss(layers: list[ref.Dense64]) -> float:
        sums = ref.forward64(layers, x, kept)[1][-1]
        return float(ref.losses64(loss, sums, targets, class_weights).mean())

    gradient = ref.network_gradient64(twins.twin, loss, x, targets, class_weights, kept)
    for n, gradients in enumerate(gradient):
        for name, g in zip(("W", "c"), gradients, strict=True):
            assert np.abs(g).max() > 1e-3
            for at in np.ndindex(g.shape):
                two = []
                for h in (1e-5, -1e-5):
                    moved = deepcopy(twins.twin)
                    getattr(moved[n], name)[at] += h
                    two.append(mean_loss(moved))
                # Differences of 2e-5 are good to their square, 1e-10, and to 2^-53 / 1e-5.
                assert abs((two[0] - two[1]) / 2e-5 - g[at]) < 1e-8


# --- The engine against the reference -------------------------------------------------------------


class Run:
    """Three updates of a network of any of the shapes: their arguments, and what comes of them."""

    def __init__(self, i: int, optimizer: str, loss: str, is_regularised: bool) -> None:
        self.sizes = SHAPES[i]
        self.batch_size, self.layout = BATCH_SIZES[i % 6], LAYOUTS[i % 3]
        n = 2 * self.batch_size + (self.batch_size + 1) // 2  # a shorter last batch
        # Where a gradient is all but 0, Adam's first steps are of its sign, and a rounding turns
        # them round; with an epsilon of 1e-2 an error of 1e-6 is one of 1e-4 of a step. The betas
        # are float32 numbers, and so is 1 less each: of 0.001 that would be 1.3e-5 too small.
        self.options: dict[str, Any] = {"epsilon": 1e-2, "beta1": 0.875, "beta2": 1 - 2.0**-10}
        class_weights = None
        if is_regularised:
            # Every gradient changes, and some of the weights are too long.
            self.options |= {"l2": 0.05, "max_norm": 1.2, "seed": 2**63 + 5, "dropout": (0.2, 0.5)}
            class_weights = weights_of_classes(loss, self.sizes[-1])
        self.x = random_reals(n, self.sizes[0], seed=i)
        self.targets = targets_for(loss, n, self.sizes[-1], seed=i)
        # Squared errors have steep gradients: with this rate, too, sums stay of order 1.
        rate = 0.02 if loss == SQUARED else 0.1
        self.rest = {"step": 3, "learning_rate": rate, "class_weights": class_weights}
        self.start = partial(Twins, self.sizes, loss, optimizer, **self.options)
        twins = self.start()
        self.sums = twins.train_twin(self.x, self.targets, self.batch_size, **self.rest)
        self.arrays = list(twins.twin_arrays())


@cache
def runs(*options: Any) -> list[Run]:
    """The reference knows no instruction sets: it need not compute the same thrice."""
    return [Run(i, *options) for i in range(len(SHAPES))]


@pytest.mark.parametrize("is_regularised", [False, True], ids=["plain", "regularised"])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", N_MOMENTS)
def test_updates_equal_the_references(
    isa: str, optimizer: str, loss: str, is_regularised: bool
) -> None:
    """Every size and batch size, arrays inside larger ones."""
    # Values of order 1 after three updates, whose gradients are sums of up to 1700 products with a
    # rounding each: some 2^-24 times the root of their number; 4e-7 was measured. Adam divides
    # errors by the 1e-2 of above, and multiplies them by its rate of 0.1: 10 times as much.
    close = {"rtol": 2e-6, "atol": 2e-6} if optimizer != "adam" else {"rtol": 2e-5, "atol": 2e-5}
    for run in runs(optimizer, loss, is_regularised):
        twins = run.start(layout=run.layout)
        x = Canvas.of(run.x, run.layout)
        loss_sum, errors = twins.train(x.view, run.targets, run.batch_size, **run.rest)
        np.testing.assert_allclose(loss_sum, run.sums[0], **close)
        assert errors == run.sums[1]
        assert twins.network.rows_done == len(run.x)
        for array, expected in zip(twins.arrays(), run.arrays, strict=True):
            np.testing.assert_allclose(array, expected, **close, err_msg=str(run.sizes))
        assert all(c.is_intact() for c in (x, *twins.canvases))
        assert same_bits(x.view, run.x)


@pytest.mark.parametrize(
    "sizes, activations, dropout",
    [
        ((20, 5), (), ()),
        ((20, 5), (), (0.3,)),
        ((20, 33, 17, 5), ("sigmoid", "identity", "sigmoid"), (0.2, 0.5, 0)),
        ((20, 33, 70, 17, 5), ("identity", "sigmoid", "sigmoid", "sigmoid"), (0, 0, 0.1, 0.9)),
        # What f is of the last layer, its loss decides.
        ((20, 8, 5), ("sigmoid", "identity"), (0.1, 0.1)),
    ],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_any_number_and_kind_of_layers(
    isa: str, loss: str, sizes: Any, activations: Any, dropout: Any
) -> None:
    options = {"activations": activations, "dropout": dropout, "l2": 0.01, "seed": 9}
    twins = Twins(sizes, loss, "momentum", **options)
    x, targets = random_reals(50, 20, seed=1), targets_for(loss, 50, 5)
    rate = 0.01 if loss == SQUARED else 0.1  # as above
    loss_sum, errors = twins.train(x, targets, 9, learning_rate=rate)
    expected = twins.train_twin(x, targets, 9, learning_rate=rate)
    np.testing.assert_allclose(loss_sum, expected[0], rtol=1e-5)
    assert errors == expected[1]
    for array, twin in zip(twins.arrays(), twins.twin_arrays(), strict=True):
        # As above, after six updates.
        np.testing.assert_allclose(array, twin, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("batch_size", [128, 129, 300])
@pytest.mark.parametrize("optimizer", N_MOMENTS)
def test_batches_of_many_rows(isa: str, optimizer: str, batch_size: int) -> None:
    """A product takes 128 of them at a time; only before the first, weights decay."""
    betas = {"beta1": 0.875, "beta2": 1 - 2.0**-10}  # as above
    twins = Twins((17, 33, 10), optimizer=optimizer, l2=0.1, epsilon=1e-2, **betas)
    x, labels = random_reals(700, 17, seed=1), targets_for(SOFTMAX, 700, 10)
    twins.train(x, labels, batch_size, learning_rate=0.2)
    twins.train_twin(x, labels, batch_size, learning_rate=0.2)
    for array, twin in zip(twins.arrays(), twins.twin_arrays(), strict=True):
        np.testing.assert_allclose(array, twin, rtol=1e-5, atol=1e-5)  # as above, six updates


@pytest.mark.parametrize("step", [0, 1, 2**32 - 1, 2**32 + 7, 2**56 - 2])
def test_dropout_is_a_function_of_seed_and_step(step: int) -> None:
    """A unit wrongly kept moves its weights by 1e-3 or more."""
    results = []
    for seed in (0, 1, 2**64 - 1):
        twins = Twins((130, 70, 3), dropout=(0.5, 0.25), seed=seed)
        x, labels = random_reals(6, 130, seed=1), targets_for(SOFTMAX, 6, 3)
        twins.train(x, labels, 4, step=step, learning_rate=1.0)
        twins.train_twin(x, labels, 4, step=step, learning_rate=1.0)
        for array, twin in zip(twins.arrays(), twins.twin_arrays(), strict=True):
            np.testing.assert_allclose(array, twin, rtol=0, atol=1e-5)
        results.append(twins.arrays()[0])
    assert np.abs(results[0] - results[1]).max() > 1e-3
    assert np.abs(results[1] - results[2]).max() > 1e-3


@pytest.mark.parametrize("optimizer", N_MOMENTS)
def test_weights_are_no_longer_than_max_norm(optimizer: str) -> None:
    twins = Twins((70, 130, 10), optimizer=optimizer, max_norm=0.9)
    before = np.linalg.norm(twins.layers[0].W, axis=0)
    assert before.min() > 0.9
    twins.layers[0].W[:, ::2] *= F32(0.1)
    short = twins.layers[0].W[:, ::2].copy()
    twins.train(random_reals(20, 70, seed=1), targets_for(SOFTMAX, 20, 10), 20, learning_rate=1e-3)
    for layer in twins.layers:
        # A float32 sum of 130 squares, a root, a quotient and a product.
        assert np.linalg.norm(layer.W.astype(np.float64), axis=0).max() < 0.9 * (1 + 1e-5)
    # Those that are shorter are only trained: by at most 1e-3 for Adam, less for the others.
    assert np.abs(twins.layers[0].W[:, ::2] - short).max() < 2e-3


def test_sums_of_any_size(isa: str) -> None:
    """exp would overflow, or all outputs underflow, beyond 88."""
    x, labels = np.eye(33, dtype=F32), np.arange(33, dtype=np.int32)
    for scale in (100.0, 1e4, 1e30):
        twins = Twins((33, 33))
        twins.layers[0].W[...] = F32(scale) * np.eye(33, dtype=F32)
        twins.layers[0].c[...] = F32(-scale)
        assert same_bits(twins.predict(x), x)
        loss, errors = twins.train(x, labels[::-1].copy(), 33, learning_rate=0.0)
        # 32 rows are wrong, by the scale; the logarithm of the sum is within a rounding of it.
        assert errors == 32
        np.testing.assert_allclose(loss, 32 * scale, rtol=1e-6)
        twins = Twins((33, 33), SIGMOID)
        twins.layers[0].W[...] = F32(2 * scale) * np.eye(33, dtype=F32)
        twins.layers[0].c[...] = F32(-scale)
        assert same_bits(twins.predict(x), x)
        loss, _ = twins.train(x, 1 - x, 33, learning_rate=0.0)
        np.testing.assert_allclose(loss, 33 * 33 * scale, rtol=1e-6)  # every unit of every row


# --- Data -----------------------------------------------------------------------------------------


def forms_of_binary(engine: Any, v: np.ndarray) -> Iterator[Any]:
    yield engine.rows_of_bits(Canvas.of(packed(v), (1, 3)).view, v.shape[1])
    yield engine.rows_of_bytes(v)
    yield engine.rows_of_bytes(Canvas.of(v.astype(np.uint8)).view)
    yield engine.rows_of_sparse(scipy.sparse.csr_array(v.astype(np.uint8)), True)
    yield from forms_of_reals(engine, v.astype(F32))


def forms_of_reals(engine: Any, x: np.ndarray) -> Iterator[Any]:
    yield engine.rows_of_reals(x)
    for dtype in (F32, np.float64):
        yield engine.rows_of_reals(Canvas.of(x.astype(dtype)).view)
        yield engine.rows_of_sparse(scipy.sparse.csr_array(x.astype(dtype)), False)


@pytest.mark.parametrize("dropout", [(), (0.2, 0.4)])
@pytest.mark.parametrize("n_inputs", [1, 15, 33, 65, 130])
@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "real"])
def test_every_form_of_the_same_rows_gives_the_same_bits(
    isa: str, is_binary: bool, n_inputs: int, dropout: Any
) -> None:
    bits = random_bits(23, n_inputs, seed=1)
    x = bits.astype(F32) if is_binary else bits * random_reals(23, n_inputs, seed=2)
    y = x[:, :1] + np.zeros((1, 5), F32)
    order = np.random.default_rng(3).permutation(23)
    one = Twins((n_inputs, 17, 5), SQUARED, dropout=dropout)
    start = one.predict(x)
    sums = one.train(x, y, 10)
    ordered = Twins((n_inputs, 17, 5), SQUARED, dropout=dropout)
    ordered_sums = ordered.train(x[order], y[order], 10)
    forms = list(forms_of_binary(one.engine, bits) if is_binary else forms_of_reals(one.engine, x))
    # Targets come in every form too.
    targets = list(forms_of_reals(one.engine, y))
    for i, rows in enumerate(forms):
        other = Twins((n_inputs, 17, 5), SQUARED, dropout=dropout)
        assert same_bits(other.predict(rows), start)
        assert other.train(rows, targets[i % len(targets)], 10) == sums
        assert_same_bits(other, one)
        other = Twins((n_inputs, 17, 5), SQUARED, dropout=dropout)
        assert other.train(rows, targets[i % len(targets)], 10, order=order) == ordered_sums
        assert_same_bits(other, ordered)


@pytest.mark.parametrize("loss", LOSSES)
def test_an_order_chooses_rows_and_their_targets(loss: str) -> None:
    """Some of them twice, some not at all; `begin` counts in the order."""
    x, targets = random_reals(30, 20, seed=1), targets_for(loss, 30, 4)
    order = np.random.default_rng(2).integers(0, 30, 50)
    one, other = Twins((20, 10, 4), loss), Twins((20, 10, 4), loss)
    sums = one.train(x, targets, 7, order=order, begin=5, count=33)
    chosen = order[5:38]
    assert other.train(x[chosen], targets[chosen], 7) == sums
    assert_same_bits(one, other)
    # Without an order they are the rows themselves.
    one, other = Twins((20, 10, 4), loss), Twins((20, 10, 4), loss)
    assert one.train(x, targets, 7, begin=4, count=20) == other.train(x[4:24], targets[4:24], 7)
    assert_same_bits(one, other)
    assert one.network.rows_done == 20


def test_no_rows_change_nothing() -> None:
    for optimizer in N_MOMENTS:
        one, other = (Twins((5, 4, 3), optimizer=optimizer, l2=0.1, max_norm=0.1) for _ in "12")
        x, labels = random_reals(6, 5, seed=1), targets_for(SOFTMAX, 6, 3)
        assert one.train(x, labels, 2, begin=6) == (0.0, 0)
        assert one.train(x[:0], labels[:0], 2) == (0.0, 0)
        assert one.predict(x[:0]).shape == (0, 3)
        assert_same_bits(one, other)
        assert one.network.rows_done == 0


def test_nothing_is_read_past_the_ends_of_arrays() -> None:
    """What is read there changes no result, but it may be no memory: here it is none."""
    code = """
import ctypes, mmap
import numpy as np
from harmonium import _core
from test_network import LOSSES, N_MOMENTS, SHAPES, Twins, targets_for

libc = ctypes.CDLL(None, use_errno=True)
keep = []

def at_the_end(a):
    size = -(-a.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    pages = mmap.mmap(-1, size + mmap.PAGESIZE)
    keep.append(pages)
    address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
    assert libc.mprotect(ctypes.c_void_p(address + size), mmap.PAGESIZE, 0) == 0
    copy = np.frombuffer(pages, a.dtype, a.size, size - a.nbytes).reshape(a.shape)
    copy[...] = a
    return copy

class Tight(Twins):
    def _pair(self, W, c, layout):
        return at_the_end(W), at_the_end(c)

for isa in _core.available_isas():
    _core.set_isa(isa)
    for sizes in SHAPES[:11]:
        for loss, optimizer in zip(LOSSES, N_MOMENTS, strict=True):
            twins = Tight(sizes, loss, optimizer, max_norm=1.0, dropout=(0.5, 0.5))
            x = at_the_end(np.ones((3, sizes[0]), np.float32))
            twins.train(x, at_the_end(targets_for(loss, 3, sizes[-1])), 2)
            twins.predict(x, out=at_the_end(np.zeros((3, sizes[-1]), np.float32)))
print("well")
"""
    result = python(code)
    assert result.stdout == "well\n", result.stderr[-500:]


# --- Sums that have one order ---------------------------------------------------------------------

# Enough work that the threads are woken. Outputs are dealt to them by blocks, where there is one
# for each, else by rows. Of the first network the last gradient of inputs takes the narrow way, in
# two strips; the second computes its losses and their gradients on all threads.
BIG = {"narrow": ((300, 700, 10), 270), "wide": ((300, 127, 129), 64)}


@pytest.mark.parametrize("dropout", [(), (0.2, 0.5)], ids=["all", "dropout"])
@pytest.mark.parametrize("name", BIG)
@pytest.mark.parametrize("loss, optimizer", list(zip(LOSSES, N_MOMENTS, strict=True)))
def test_threads_change_no_bit(
    isa: str, loss: str, optimizer: str, name: str, dropout: Any
) -> None:
    sizes, batch_size = BIG[name]
    n = 2 * batch_size + 13
    x, targets = random_reals(n, sizes[0], seed=1), targets_for(loss, n, sizes[-1])
    options = {"l2": 0.01, "max_norm": 1.5, "dropout": dropout}
    one = Twins(sizes, loss, optimizer, **options)
    sums = one.train(x, targets, batch_size, learning_rate=0.01)
    outputs = one.predict(x)
    for n_threads in (2, 7):
        other = Twins(sizes, loss, optimizer, n_threads=n_threads, **options)
        assert other.train(x, targets, batch_size, learning_rate=0.01) == sums
        assert_same_bits(other, one)
        assert same_bits(other.predict(x), outputs)


@pytest.mark.parametrize("optimizer", N_MOMENTS)
def test_a_call_of_many_batches_equals_many_calls(isa: str, optimizer: str) -> None:
    x, labels = random_bits(45, 70, seed=1), targets_for(SOFTMAX, 45, 10)
    options = {"dropout": (0.2, 0.5), "l2": 1e-3, "max_norm": 1.4, "seed": 3}
    one, other = (Twins((70, 33, 10), optimizer=optimizer, **options) for _ in range(2))
    order = np.random.default_rng(2).permutation(45)
    whole = one.train(x, labels, 10, order=order, step=5)
    parts = [
        other.train(x, labels, 10, order=order, begin=b, count=min(10, 45 - b), step=5 + b // 10)
        for b in range(0, 45, 10)
    ]
    assert_same_bits(one, other)
    assert whole[1] == sum(errors for _, errors in parts)
    # Sums of float64, added in the same order.
    assert whole[0] == sum(loss for loss, _ in parts)
    assert one.network.rows_done == other.network.rows_done == 45


@pytest.mark.parametrize("loss", LOSSES)
def test_predictions_of_any_size(isa: str, loss: str) -> None:
    """Against the reference, of any number of layers, into arrays inside larger ones."""
    for i, sizes in enumerate(SHAPES):
        activations = ("identity", "sigmoid") if i % 2 else ("sigmoid", "identity")
        layout = LAYOUTS[i % 3]
        twins = Twins(sizes, loss, activations=activations, layout=layout, dropout=(0.5, 0))
        before = [array.copy() for array in twins.arrays()]
        x = Canvas.of(random_reals(BATCH_SIZES[i % 6], sizes[0], seed=i), layout)
        same = x.view.copy()
        _, sums = ref.forward64(twins.twin, x.view)
        hidden = sums[0] if activations[0] == "identity" else ref.sigmoid64(sums[0])
        for n_layers, expected in ((1, hidden), (2, ref.outputs64(loss, sums[1]))):
            out = Canvas(expected.shape, F32, layout)
            twins.predict(x.view, n_layers, out.view)
            # Sums of order 1, as above.
            np.testing.assert_allclose(out.view, expected, rtol=1e-5, atol=1e-5)
            assert out.is_intact()
        assert same_bits(x.view, same)
        assert x.is_intact()
        for array, old in zip(twins.arrays(), before, strict=True):
            assert same_bits(array, old)


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_rows_can_be_split(isa: str, n_layers: int, n_threads: int) -> None:
    """Around the 128 rows that are predicted at a time, on one thread and where all are woken."""
    x = random_reals(300, 65, seed=1)
    whole = Twins((65, 127, 33, 10)).predict(x, n_layers)
    twins = Twins((65, 127, 33, 10), n_threads=n_threads)
    for k in (0, 1, 14, 127, 128, 129, 299, 300):
        parts = [twins.predict(part, n_layers) for part in (x[:k], x[k:])]
        assert same_bits(np.concatenate(parts), whole)


# --- torch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", N_MOMENTS)
def test_torch_trains_alike(optimizer: str, loss: str) -> None:
    """In float64, weight decay on the weights alone."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # more would spin after these small products
    twins = Twins((30, 20, 10, 5), loss, optimizer, l2=0.03)
    x, targets = random_reals(50, 30, seed=1), targets_for(loss, 50, 5)
    class_weights = weights_of_classes(loss, 5)

    class_weights64 = None if class_weights is None else torch.tensor(class_weights).double()
    parameters = [
        [torch.tensor(a).double().requires_grad_() for a in la[:2]] for la in twins.layers
    ]
    groups = [
        {"params": [W for W, _ in parameters], "weight_decay": 0.03},
        {"params": [c for _, c in parameters], "weight_decay": 0.0},
    ]
    if optimizer == "adam":
        stepper = torch.optim.Adam(groups, lr=0.05)
    else:
        stepper = torch.optim.SGD(groups, lr=0.05, momentum=0.8 if optimizer == "momentum" else 0)
    total = 0.0
    for first in range(0, 50, 8):
        batch = slice(first, first + 8)
        y = torch.tensor(x[batch]).double()
        for n, (W, c) in enumerate(parameters):
            y = y @ W + c
            y = torch.sigmoid(y) if n < 2 else y
        t = torch.tensor(targets[batch])
        if loss == SOFTMAX:
            # Not its own mean over rows, which divides by the sum of their weights.
            entropy = torch.nn.functional.cross_entropy
            losses = entropy(y, t.long(), weight=class_weights64, reduction="none")
        elif loss == SIGMOID:
            entropy = torch.nn.functional.binary_cross_entropy_with_logits
            losses = entropy(y, t.double(), reduction="none").sum(dim=1)
        else:
            losses = (y - t).square().sum(dim=1) / 2
        stepper.zero_grad()
        losses.mean().backward()
        total += float(losses.sum().detach())
        stepper.step()

    got, _ = twins.train(x, targets, 8, learning_rate=0.05, class_weights=class_weights)
    np.testing.assert_allclose(got, total, rtol=1e-5)
    for layer, pair in zip(twins.layers, parameters, strict=True):
        for array, tensor in zip(layer[:2], pair, strict=True):
            # Seven updates of 0.05; Adam's divide by gradients of 1e-3 and more, with errors of
            # 1e-8, and by roots of second moments that are off by 1e-5 (see above).
            np.testing.assert_allclose(array, tensor.detach().numpy(), rtol=0, atol=1e-5)


# --- When it breaks off ---------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("optimizer", ["sgd", "momentum"])
def test_divergence(optimizer: str, loss: str) -> None:
    """Adam's steps are no larger than its rate."""
    twins = Twins((20, 10, 4), loss, optimizer)
    x, targets = random_reals(30, 20, seed=1), targets_for(loss, 30, 4)
    with pytest.raises(FloatingPointError, match="infinite or not a number") as error:
        twins.train(x, targets, 3, learning_rate=1e38)
    assert error.type is _core.Diverged
    assert 3 <= twins.network.rows_done < 30  # the first update was made


@pytest.mark.parametrize("optimizer", N_MOMENTS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_makes_no_update(optimizer: str, value: float) -> None:
    x, targets = random_reals(30, 20, seed=1), targets_for(SQUARED, 30, 4)
    one, other = (Twins((20, 10, 4), SQUARED, optimizer, max_norm=1.0) for _ in range(2))
    other.train(x, targets, 10, count=20)
    targets[25, 2] = value
    with pytest.raises(FloatingPointError):
        one.train(x, targets, 10)
    assert_same_bits(one, other)
    assert one.network.rows_done == 20
    # And it can go on.
    one.train(x, targets, 10, count=20)
    other.train(x, targets, 10, count=20)
    assert_same_bits(one, other)
    assert one.network.rows_done == 40


# --- Mistakes -------------------------------------------------------------------------------------


def make(*layers: Any, loss: str = SOFTMAX, optimizer: str = "sgd", n_threads: int = 1) -> Any:
    return _core.Network(list(layers), loss, optimizer, 0.0, 0.0, 0.9, 0.999, 1e-8, 0, n_threads)


def layer_of(n_inputs: int, n_outputs: int, n_moments: int = 0, **other: Any) -> tuple[Any, ...]:
    pair = np.zeros((n_inputs, n_outputs), F32), np.zeros(n_outputs, F32)
    return tuple(LayerArrays(*pair, moments=(pair,) * n_moments)._replace(**other))


MISTAKES = {
    "at least one layer": lambda: make(),
    "at least one input": lambda: make(layer_of(0, 3)),
    "one output": lambda: make(layer_of(3, 0)),
    r"a layer is \(W, c, activation, dropout, moments\)": lambda: make(layer_of(3, 2)[:4]),
    "as many inputs as the one below": lambda: make(layer_of(3, 4), layer_of(5, 2)),
    "c must be a contiguous vector of 2": lambda: make(layer_of(3, 2, c=np.zeros(3, F32))),
    "W must be two-dimensional": lambda: make(layer_of(3, 2, W=np.zeros(3, F32))),
    "W must be writeable": lambda: make(layer_of(3, 2, W=np.broadcast_to(F32(0), (3, 2)))),
    "W must be contiguous along": lambda: make(layer_of(3, 2, W=np.zeros((2, 3), F32).T)),
    "the activation is unknown: 'tanh'": lambda: make(layer_of(3, 2, activation="tanh")),
    "the loss is unknown: 'hinge'": lambda: make(layer_of(3, 2), loss="hinge"),
    "the optimizer is unknown: 'lbfgs'": lambda: make(layer_of(3, 2), optimizer="lbfgs"),
    "only sigmoid units can be dropped": lambda: make(
        layer_of(3, 2, activation="identity"), layer_of(2, 2, dropout=0.1)
    ),
    "the optimizer wants more moments": lambda: make(layer_of(3, 2), optimizer="momentum"),
    "wants more moments": lambda: make(layer_of(3, 2, 1), optimizer="adam"),
    r"a moment is \(W, c\)": lambda: make(
        layer_of(3, 2, moments=((np.zeros((3, 2), F32),),)), optimizer="momentum"
    ),
    r"W of a moment must have shape \(3, 2\)": lambda: make(
        layer_of(3, 2, moments=layer_of(2, 2, 1)[4]), optimizer="momentum"
    ),
    "c of a moment must be a contiguous vector": lambda: make(
        layer_of(3, 2, moments=((np.zeros((3, 2), F32), np.zeros(3, F32)),)), optimizer="momentum"
    ),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_networks_that_cannot_be(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MISTAKES[message]()


@pytest.mark.parametrize("dropout", [1.0, -0.1, np.nan, np.inf])
def test_dropouts_that_are_no_probabilities(dropout: float) -> None:
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\)"):
        make(layer_of(3, 2, dropout=dropout))


@pytest.mark.parametrize("name", ["W", "c"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, ">f4"])
def test_parameters_of_another_dtype(name: str, dtype: Any) -> None:
    array = getattr(LayerArrays(*layer_of(3, 2)), name).astype(dtype)
    with pytest.raises((TypeError, ValueError), match=rf"{name} must .*float32"):
        make(layer_of(3, 2, **{name: array}))


@pytest.mark.parametrize(
    "loss, change, message",
    [
        (SOFTMAX, {"targets": np.array([0, 1, 2, 4], np.int32)}, "a label is not one of the"),
        (SOFTMAX, {"targets": np.array([0, 1, -1, 1], np.int32)}, "a label is not one of the"),
        (SOFTMAX, {"targets": np.array([2**31 - 1] * 4, np.int32)}, "a label is not one of the"),
        (SOFTMAX, {"targets": np.zeros(4, np.int64)}, "labels must be .* int32"),
        (SOFTMAX, {"targets": np.zeros(3, np.int32)}, "labels must be .* vector of 4"),
        (SOFTMAX, {"targets": np.zeros((4, 4), F32)}, "this loss wants labels"),
        (SOFTMAX, {"class_weights": np.ones(3, F32)}, "class_weights must be .* vector of 4"),
        (SOFTMAX, {"class_weights": np.ones(4)}, "class_weights must be .* float32"),
        (SQUARED, {"targets": np.zeros(4, np.int32)}, "this loss wants values"),
        (SIGMOID, {"targets": np.zeros((4, 3), F32)}, "the targets must have a row for each"),
        (SIGMOID, {"targets": np.zeros((3, 4), F32)}, "the targets must have a row for each"),
        (SOFTMAX, {"data": np.zeros((4, 6), F32)}, "the network's number of inputs"),
        (SOFTMAX, {"order": np.array([0, 4])}, "order names a row that is not there"),
        (SOFTMAX, {"order": np.array([0, -1])}, "order names a row that is not there"),
        (SOFTMAX, {"order": np.arange(4), "count": 5}, "reach past the order"),
        (SOFTMAX, {"begin": 2, "count": 3}, "reach past the data"),
        (SOFTMAX, {"batch_size": 0}, "batch_size must fit"),
    ],
)
def test_batches_that_do_not_fit(loss: str, change: dict[str, Any], message: str) -> None:
    one, other = Twins((5, 3, 4), loss), Twins((5, 3, 4), loss)
    arguments = {"data": np.zeros((4, 5), F32), "targets": targets_for(loss, 4, 4), "batch_size": 2}
    with pytest.raises((ValueError, TypeError), match=message):
        one.train(**arguments | change)
    assert_same_bits(one, other)


def test_labels_need_only_be_right_where_they_are_used() -> None:
    twins = Twins((5, 3, 4))
    labels = np.array([0, 99, 3, -1], np.int32)
    twins.train(np.zeros((4, 5), F32), labels, 2, order=np.array([2, 0, 2]))
    assert twins.network.rows_done == 3


@pytest.mark.parametrize("n_layers", [-1, 0, 3, 2**62])
def test_layers_that_are_not_there(n_layers: int) -> None:
    twins = Twins((5, 3, 4))
    with pytest.raises(ValueError, match="n_layers must be 1 to the number of layers"):
        twins.predict(np.zeros((4, 5), F32), n_layers, np.zeros((4, 4), F32))


@pytest.mark.parametrize("shape", [(3, 4), (5, 4), (4, 3), (4, 5)])
def test_results_of_another_shape(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"out must have shape \(4, 4\)"):
        Twins((5, 3, 4)).predict(np.zeros((4, 5), F32), None, np.zeros(shape, F32))


# --- Memory ---------------------------------------------------------------------------------------


def test_updates_take_no_more_memory_than_the_first_of_them() -> None:
    """Keeping the hidden values of each of 60 batches would take 12 MB; 0 to 2 were measured."""
    code = """
from pathlib import Path
import numpy as np
from test_network import Twins, targets_for, SOFTMAX

def peak_mb():
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    return int(line.split()[1]) / 1024

twins = Twins((1000, 500, 10), optimizer="adam", dropout=(0.2, 0.5))
x, labels = np.zeros((200, 1000), bool), targets_for(SOFTMAX, 200, 10)
twins.train(x, labels, 100)
out = twins.predict(x)
before = peak_mb()
for _ in range(30):
    twins.train(x, labels, 100)
    twins.predict(x, out=out)
print(peak_mb() - before)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr[-500:]
    assert float(result.stdout) < 6


# --- States of one side of an RBM, drawn ----------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 2, 7])
@pytest.mark.parametrize("n_visible, n_hidden", [(1, 1), (65, 17), (130, 200), (33, 700)])
def test_drawn_states_are_those_of_the_probabilities(
    isa: str, n_visible: int, n_hidden: int, n_threads: int
) -> None:
    """From every form of the rows, and where several threads share rows or units."""
    n = 300
    rng = np.random.default_rng(0)
    W, b, c = (
        rng.normal(0, 0.3, shape).astype(F32)
        for shape in ((n_visible, n_hidden), n_visible, n_hidden)
    )
    v, h = random_bits(n, n_visible, seed=1), random_bits(n, n_hidden, seed=2)
    engine = get_engine(n_threads=n_threads)
    machine = engine.machine(W, b, c, "auto")
    coordinates = {"step": 2**40 + 3, "stream": 8, "first_row": 11}
    for states, p, draw in (
        (v, ops.propup(v, W, c), machine.draw_hidden),
        (h, ops.propdown(h, W, b), machine.draw_visible),
    ):
        expected = packed(ops.sample_bernoulli(p, 7, **coordinates))
        sparse = engine.rows_of_sparse(scipy.sparse.csr_array(states.astype(np.uint8)), True)
        for rows in (
            engine.rows_of_bytes(states),
            engine.rows_of_bits(packed(states), states.shape[1]),
            sparse,
        ):
            out = Canvas(expected.shape, np.uint64)
            draw(rows, out.view, Draw(7, **coordinates))
            assert np.array_equal(out.view, expected)
            assert out.is_intact()
