"""The extension itself: whatever is passed to it, it answers or raises, and never crashes.

What would crash is run in a process of its own.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from layouts import packed, random_bits, random_model, random_reals, same_bits
from test_isa import python

from harmonium import _core

F32, F64 = np.float32, np.float64
V, H, K, N = 70, 67, 5, 6
W, B, C = random_model(V, H, seed=0)
V_BITS, H_BITS = random_bits(N, V, seed=1), random_bits(N, H, seed=2)
WORDS_V, WORDS_H = packed(V_BITS), packed(H_BITS)
P = random_reals(N, V, seed=3)
LABELS = np.arange(N, dtype=np.int32) % K

ERRORS = (TypeError, ValueError, RuntimeError)  # pybind11's failed casts of objects are the last


def rbm() -> _core.Rbm:
    return _core.Rbm(W, B, C, "auto", 1)


def trainer(**other: Any) -> _core.Trainer:
    return _core.Trainer(*trainer_arguments(**other).values())


def trained() -> _core.Trainer:
    """A trainer after an update with two chains."""
    t = trainer(chains=WORDS_H[:2].copy())
    t.run(rows(), None, 0, 2, 2, 0, 0.1, 0.0)
    return t


def trainer_arguments(**other: Any) -> dict[str, Any]:
    arguments = {"W": W.copy(), "b": B.copy(), "c": C.copy(), "chains": WORDS_H.copy()}
    arguments |= {"W_velocity": np.zeros_like(W)}
    arguments |= {"b_velocity": np.zeros_like(B), "c_velocity": np.zeros_like(C)}
    arguments |= {"completions": None}
    arguments |= {"n_gibbs_steps": 1, "persistent": True, "l1": 0.0, "l2": 0.0, "seed": 1}
    arguments |= {"n_labels": 0, "precision": "auto", "n_threads": 1}
    return {**arguments, "weights": None, "observed": None, **other}


def row_traits() -> dict[str, Any]:
    """What a trainer may be told of each row, and the states of those with missing values."""
    return {"completions": WORDS_V.copy(), "weights": np.ones(N), "observed": WORDS_V[::-1].copy()}


def network(loss: str = "softmax_cross_entropy") -> _core.Network:
    return _core.Network(*network_arguments(loss=loss).values())


def network_arguments(**other: Any) -> dict[str, Any]:
    """Two layers with all that an optimiser may want."""
    layers = []
    for shape, dropout in (((V, H), 0.2), ((H, K), 0.5)):
        pair = [(np.full(shape, 0.01, F32), empty(shape[1])) for _ in range(3)]
        layers.append((*pair[0], "sigmoid", dropout, tuple(pair[1:])))
    arguments = {"layers": layers, "loss": "softmax_cross_entropy", "optimizer": "adam", "l2": 0.1}
    arguments |= {"max_norm": 1.0, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "seed": 1}
    return {**arguments, "n_threads": 1, **other}


SEQUENTIAL = (_core.SequentialTrainer32, _core.SequentialTrainer64)
N_UPDATES = -(-N // 2)  # of minibatches of two
NUMBERS = np.full(N_UPDATES * len(WORDS_H) * (V + H), 0.5)


def sequential_trainer(dtype: Any) -> Any:
    kind = SEQUENTIAL[dtype is F64]
    arrays = (empty(*shape, dtype=dtype) for shape in ((V, H), (V,), (H,)))
    return kind(*arrays, WORDS_H.copy(), 1)


def rows() -> _core.Rows:
    return _core.Rows.bits(WORDS_V, V)


def empty(*shape: int, dtype: Any = F32) -> np.ndarray:
    return np.zeros(shape, dtype)


SPARSE = np.array([0, 2, 2, 3]), np.array([1, 4, 0], np.int32), np.array([0.5, 1, 0.25], F32)
INT, REAL, WORD, ROWS, OUT, FLAG = "int", "real", "word", "rows", "out", "flag"
LAYERS = "layers"  # see test_network.py

# Every function and method: how to get it, arguments that fit, and what each of them is. Arrays are
# "out" where they are written and "in" where they are read.
Call = tuple[Callable[[], Callable[..., Any]], Callable[[], list[Any]], list[str]]
CALLS: dict[str, Call] = {
    "sigmoid": (lambda: _core.sigmoid, lambda: [P, empty(N, V), 1], ["in", OUT, INT]),
    "softplus": (lambda: _core.softplus, lambda: [P, empty(N, V), 1], ["in", OUT, INT]),
    "sample_bernoulli": (
        lambda: _core.sample_bernoulli,
        lambda: [P, empty(N, V, dtype=bool), 1, 0, 0, 0, 1],
        ["in", OUT, INT, INT, INT, INT, INT],
    ),
    "sample_bernoulli to words": (
        lambda: _core.sample_bernoulli,
        lambda: [P, empty(N, 2, dtype=np.uint64), 1, 0, 0, 0, 1],
        ["in", OUT, INT, INT, INT, INT, INT],
    ),
    "pack": (lambda: _core.pack, lambda: [P, empty(N, 2, dtype=np.uint64), 1], ["in", OUT, INT]),
    "unpack": (lambda: _core.unpack, lambda: [WORDS_V, empty(N, V), 1], ["in", OUT, INT]),
    "multiply": (lambda: _core.multiply, lambda: [P, W, empty(N, H), 1], ["in", "in", OUT, INT]),
    "Rows.bits": (lambda: _core.Rows.bits, lambda: [WORDS_V, V], ["in", INT]),
    "Rows.bytes": (lambda: _core.Rows.bytes, lambda: [V_BITS], ["in"]),
    "Rows.real": (lambda: _core.Rows.real, lambda: [P], ["in"]),
    "Rows.sparse": (
        lambda: _core.Rows.sparse,
        lambda: [*SPARSE, 5],
        ["in", "in", "in", INT],
    ),
    "Rows.copy_values": (
        lambda: rows().copy_values,
        lambda: [np.array([3, 0]), empty(2, V)],
        ["in", OUT],
    ),
    "Rbm": (lambda: _core.Rbm, lambda: [W, B, C, "auto", 1, 0], ["in", "in", "in", WORD, INT, INT]),
    "propup": (lambda: rbm().propup, lambda: [rows(), empty(N, H)], [ROWS, OUT]),
    "propdown": (
        lambda: rbm().propdown,
        lambda: [_core.Rows.bytes(H_BITS), empty(N, V)],
        [ROWS, OUT],
    ),
    "draw_hidden": (
        lambda: rbm().draw_hidden,
        lambda: [rows(), empty(N, 2, dtype=np.uint64), 1, 0, 8, 0],
        [ROWS, OUT, INT, INT, INT, INT],
    ),
    "draw_visible": (
        lambda: rbm().draw_visible,
        lambda: [_core.Rows.bytes(H_BITS), empty(N, 2, dtype=np.uint64), 1, 0, 8, 0],
        [ROWS, OUT, INT, INT, INT, INT],
    ),
    "preactivations": (lambda: rbm().preactivations, lambda: [rows(), empty(N, H)], [ROWS, OUT]),
    "visible_preactivations": (
        lambda: rbm().visible_preactivations,
        lambda: [_core.Rows.bytes(H_BITS), empty(N, V)],
        [ROWS, OUT],
    ),
    "gibbs": (
        lambda: rbm().gibbs,
        lambda: [
            *(rows(), WORDS_V.copy(), WORDS_H.copy(), 1, 0, 0, 0, empty(N, V), empty(N, H)),
            *(WORDS_V, WORDS_V),
        ],
        [ROWS, OUT, OUT, INT, INT, INT, INT, OUT, OUT, "in", "in"],
    ),
    "anneal": (
        lambda: rbm().anneal,
        lambda: [
            *(B, np.linspace(0, 1, 3), WORDS_V.copy(), WORDS_H.copy(), 1, 0, 0),
            *(empty(N, dtype=F64), WORDS_V, WORDS_V),
        ],
        ["in", "in", OUT, OUT, INT, INT, INT, OUT, "in", "in"],
    ),
    "temper": (
        lambda: rbm().temper,
        lambda: [
            *(B, np.linspace(1, 0, N), WORDS_V.copy(), WORDS_H.copy(), 1, 1, 0),
            *(empty(2, N - 1, dtype=np.int64), WORDS_V, WORDS_V),
        ],
        ["in", "in", OUT, OUT, INT, INT, INT, OUT, "in", "in"],
    ),
    "free_energy": (
        lambda: rbm().free_energy,
        lambda: [rows(), empty(N, dtype=np.float64)],
        [ROWS, OUT],
    ),
    "pseudo_likelihood": (
        lambda: rbm().pseudo_likelihood,
        lambda: [rows(), 1, 0, 2, empty(N, dtype=np.float64)],
        [ROWS, INT, INT, INT, OUT],
    ),
    "exact_pseudo_likelihood": (
        lambda: rbm().exact_pseudo_likelihood,
        lambda: [rows(), 1, 2, empty(2, dtype=np.float64)],
        [ROWS, INT, INT, OUT],
    ),
    "cd_gradient": (
        lambda: rbm().cd_gradient,
        lambda: [rows(), WORDS_H.copy(), 1, True, 1, 0, empty(V, H), empty(V), empty(H)],
        [ROWS, OUT, INT, FLAG, INT, INT, OUT, OUT, OUT],
    ),
    "Trainer": (
        lambda: _core.Trainer,
        lambda: list(trainer_arguments(**row_traits()).values()),
        [*[OUT] * 8, INT, FLAG, REAL, REAL, INT, INT, WORD, INT, "in", "in"],
    ),
    "Trainer.run": (
        lambda: trainer(**row_traits()).run,
        lambda: [rows(), np.arange(N), 0, N, 2, 0, 0.1, 0.0],
        [ROWS, "in", INT, INT, INT, INT, REAL, REAL],
    ),
    "Trainer.center": (
        lambda: trainer().center,
        lambda: [empty(V), empty(H), 0.01],
        [OUT, OUT, REAL],
    ),
    "Trainer.adapt": (
        lambda: trainer().adapt,
        lambda: [empty(V, H), empty(V), empty(H), np.zeros(1, np.int64), 0.9, 0.99, 1e-8],
        [OUT, OUT, OUT, OUT, REAL, REAL, REAL],
    ),
    "Trainer.limit_norms": (lambda: trainer().limit_norms, lambda: [1.0], [REAL]),
    "Trainer.make_sparse": (
        lambda: trainer().make_sparse,
        lambda: [empty(H), 0.1, 1.0, 0.9],
        [OUT, REAL, REAL, REAL],
    ),
    "Trainer.restart_chains": (lambda: trainer().restart_chains, list, []),
    "Trainer.temper": (
        lambda: trainer().temper,
        lambda: [
            *(B, np.linspace(1, 0, 3), np.tile(WORDS_H, (2, 1)), empty(2, 2, dtype=np.int64)),
        ],
        ["in", "in", OUT, OUT],
    ),
    "Trainer.keep_fast_weights": (
        lambda: trainer().keep_fast_weights,
        lambda: [empty(V, H), empty(V), empty(H), 0.1, 0.9],
        [OUT, OUT, OUT, REAL, REAL],
    ),
    "Trainer.keep_averages": (
        lambda: trainer().keep_averages,
        lambda: [empty(V, H), empty(V), empty(H), np.zeros(3, np.int64), 0.9],
        [OUT, OUT, OUT, OUT, REAL],
    ),
    "Trainer.updates_a_pass": (lambda: trainer().updates_a_pass, lambda: [rows(), 2], [ROWS, INT]),
    "Trainer.copy_visible_states": (
        lambda: trained().copy_visible_states,
        lambda: [np.zeros_like(WORDS_V[:2])],
        [OUT],
    ),
    "SequentialTrainer32": (
        lambda: _core.SequentialTrainer32,
        lambda: [empty(V, H), empty(V), empty(H), WORDS_H.copy(), 1],
        [OUT, OUT, OUT, OUT, INT],
    ),
    "SequentialTrainer64": (
        lambda: _core.SequentialTrainer64,
        lambda: [*(empty(*shape, dtype=F64) for shape in ((V, H), (V,), (H,))), WORDS_H.copy(), 1],
        [OUT, OUT, OUT, OUT, INT],
    ),
    "SequentialTrainer32.run": (
        lambda: sequential_trainer(F32).run,
        lambda: [rows(), np.arange(N), 0, N, 2, 0.1, NUMBERS],
        [ROWS, "in", INT, INT, INT, REAL, "in"],
    ),
    "SequentialTrainer64.run": (
        lambda: sequential_trainer(F64).run,
        lambda: [rows(), np.arange(N), 0, N, 2, 0.1, NUMBERS],
        [ROWS, "in", INT, INT, INT, REAL, "in"],
    ),
    "Network": (
        lambda: _core.Network,
        lambda: list(network_arguments().values()),
        [LAYERS, WORD, WORD, REAL, REAL, REAL, REAL, REAL, INT, INT],
    ),
    "Network.predict": (
        lambda: network().predict,
        lambda: [rows(), 2, empty(N, K)],
        [ROWS, INT, OUT],
    ),
    "Network.train": (
        lambda: network().train,
        lambda: [rows(), LABELS, np.ones(K, F32), np.arange(N), 0, N, 2, 0, 0.1, 0.0],
        [ROWS, "in", "in", "in", INT, INT, INT, INT, REAL, REAL],
    ),
    "Network.train on values": (
        lambda: network("squared_error").train,
        lambda: [rows(), _core.Rows.real(P[:, :K]), None, np.arange(N), 0, N, 2, 0, 0.1, 0.0],
        [ROWS, ROWS, "any", "in", INT, INT, INT, INT, REAL, REAL],
    ),
    "philox": (lambda: _core.philox, lambda: [empty(3, 4, dtype=np.uint32), 1], ["any", INT]),
    "log_sum_of_states": (
        lambda: _core.log_sum_of_states,
        lambda: [W[:5], B[:5].copy(), C, 0, 1, 1],
        ["in", "in", "in", INT, INT, INT],
    ),
    "set_isa": (lambda: _core.set_isa, lambda: ["baseline"], [WORD]),
    "force_way": (lambda: _core.force_way, lambda: ["none"], [WORD]),
    "resolve_threads": (lambda: _core.resolve_threads, lambda: [1], [INT]),
}
# Read with any layout of their own, or optional: what else they may be.
MAY_BE_NONE = {
    ("Rows.sparse", 2),
    ("gibbs", 0),
    ("gibbs", 7),
    ("gibbs", 8),
    ("gibbs", 9),
    ("anneal", 8),
    ("temper", 8),
    ("Trainer", 4),
    ("Trainer", 16),
    ("Trainer.run", 1),
    ("SequentialTrainer32.run", 1),
    ("SequentialTrainer64.run", 1),
    ("Network.train", 2),
    ("Network.train", 3),
    ("Network.train on values", 3),
}


# These crash when an argument has the wrong type altogether; see the tests of crashes below.
FACTORIES = ("Rows.bits", "Rows.bytes", "Rows.real", "Rows.sparse")


def arguments_of_kind(*kinds: str, factories: bool = True) -> list[Any]:
    return [
        pytest.param(name, place, id=f"{name}-{place}")
        for name, (_, _, all_kinds) in CALLS.items()
        for place, kind in enumerate(all_kinds)
        if kind in kinds and (factories or name not in FACTORIES)
    ]


def call_with(name: str, place: int, value: Any) -> Any:
    function, arguments, _ = CALLS[name]
    values = arguments()
    values[place] = value
    return function()(*values)


def assert_refused(name: str, place: int, value: Any, what: str) -> None:
    try:
        call_with(name, place, value)
    except ERRORS:
        return
    pytest.fail(f"{name} took {what} as argument {place}")


@pytest.fixture(autouse=True)
def same_level_afterwards() -> Iterator[None]:
    level = _core.active_isa()
    yield
    _core.set_isa(level)
    _core.force_way("nearest")


def test_every_function_is_in_the_table() -> None:
    """So that a new one is not forgotten here."""
    members = {name for name in dir(_core) if not name.startswith("_")}
    members -= {"NOT_BINARY", "OUT_OF_RANGE", "Diverged"}
    members -= {"active_isa", "available_isas", "in_forked_child"}  # take no arguments
    members.remove("Rows")
    for kind in (_core.Rows, _core.Rbm, _core.Trainer, *SEQUENTIAL, _core.Network):
        members |= {
            f"{kind.__name__}.{name}"
            for name in dir(kind)
            if not name.startswith("_") and callable(getattr(kind, name))
        }
    tested = {name.split(" ")[0] for name in CALLS}
    assert {name.replace("Rbm.", "") for name in members} == tested


@pytest.mark.parametrize("name", CALLS)
def test_the_arguments_of_the_table_fit(name: str) -> None:
    function, arguments, kinds = CALLS[name]
    values = arguments()
    assert len(values) == len(kinds)
    function()(*values)


def wrong_layouts(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """The same values and shape, laid out as no kernel can read or write them."""
    room = np.zeros(a.nbytes + 1, np.uint8)[1:]
    if a.itemsize > 1:
        shifted = room.view(a.dtype).reshape(a.shape)
        shifted[...] = a
        yield "misaligned", shifted
    if a.size == 1:  # which lies in one way alone
        return
    if a.ndim == 1:
        yield "reversed", a[::-1]
        yield "every second value", np.repeat(a, 2)[::2]
        yield "one value", np.broadcast_to(a[:1], a.shape)
        return
    yield "Fortran's order", np.asfortranarray(a)
    yield "columns reversed", a[:, ::-1]
    yield "every second column", np.repeat(a, 2, axis=1)[:, ::2]
    yield "rows reversed", a[::-1]
    yield "one row", np.broadcast_to(a[:1], a.shape)
    step = (a.itemsize, a.itemsize)
    yield "rows that overlap", np.lib.stride_tricks.as_strided(a, a.shape, step)
    if a.itemsize > 1:
        gap = np.zeros(a.shape[0] * (a.shape[1] * a.itemsize + 1), np.uint8)
        yield (
            "rows between values",
            np.ndarray(a.shape, a.dtype, gap, 0, (a.shape[1] * a.itemsize + 1, a.itemsize)),
        )


def wrong_dtypes(a: np.ndarray, name: str) -> Iterator[np.ndarray]:
    accepted = {
        "pack": "?BfdL"[:4],
        "unpack": "?Bf",
        "Rows.bytes": "?B",
        "Rows.real": "fd",
        "Rows.sparse": "fd",
        "sample_bernoulli": "?BfL",
        "sample_bernoulli to words": "?BfL",
    }.get(name, "")
    for code in "?bBhHiIlLefdgFO":
        dtype = np.dtype(code)
        if dtype != a.dtype and not (a.dtype.char in accepted and code in accepted):
            yield np.zeros(a.shape, dtype)
    if a.itemsize > 1:
        yield a.astype(a.dtype.newbyteorder())
    yield np.zeros(a.shape, "S4")
    yield np.zeros(a.shape, "M8[s]")
    yield np.zeros(a.shape, [("x", a.dtype)])


def wrong_shapes(a: np.ndarray) -> Iterator[np.ndarray]:
    yield a[None].copy()
    yield np.zeros((), a.dtype)
    if a.ndim == 2:
        yield a[0].copy()


NO_ARRAYS = [None, 1, 1.5, np.float64(1), "text", b"bytes", [1.0], {}, object(), memoryview(b"")]


@pytest.mark.parametrize("name, place", arguments_of_kind("in", OUT))
def test_arrays_that_do_not_fit(name: str, place: int) -> None:
    good = CALLS[name][1]()[place]
    for what, other in wrong_layouts(good):
        assert_refused(name, place, other, what)
    for other in wrong_dtypes(good, name):
        assert_refused(name, place, other, str(other.dtype))
    for other in wrong_shapes(good):
        assert_refused(name, place, other, str(other.shape))


@pytest.mark.parametrize("name, place", arguments_of_kind("in", OUT, factories=False))
def test_what_is_no_array(name: str, place: int) -> None:
    for other in NO_ARRAYS:
        if other is None and (name, place) in MAY_BE_NONE:
            continue
        assert_refused(name, place, other, repr(other))


ORDERS = {
    *((f"{trainer}.run", 1) for trainer in ("Trainer", *(kind.__name__ for kind in SEQUENTIAL))),
    ("Network.train", 3),
    ("Network.train on values", 3),
}
# Where any number of rows (axis 0) or of columns (1) is right.
ANY_SIZE = {
    ("Rows.bits", 0, 0),
    *((name, 0, axis) for name in ("Rows.bytes", "Rows.real") for axis in (0, 1)),
    ("cd_gradient", 1, 0),  # any number of persistent chains
    ("anneal", 1, 0),  # temperatures
    ("Trainer", 3, 0),
    ("SequentialTrainer32", 3, 0),
    ("SequentialTrainer64", 3, 0),
    # 64 to 128 units to two words
    ("sample_bernoulli to words", 0, 1),
    ("pack", 0, 1),
    ("unpack", 1, 1),
}


@pytest.mark.parametrize("name, place", arguments_of_kind("in", OUT))
def test_sizes_that_do_not_fit(name: str, place: int) -> None:
    good = CALLS[name][1]()[place]
    for axis in range(good.ndim):
        for by in (1, -1):
            shape = list(good.shape)
            shape[axis] += by
            if (name, place, axis) in ANY_SIZE or ((name, place) in ORDERS and by > 0):
                continue  # an order may be longer than what is asked of it
            assert_refused(name, place, np.zeros(shape, good.dtype), f"{shape} for {good.shape}")


@pytest.mark.parametrize("name, place", arguments_of_kind(OUT))
def test_read_only_results(name: str, place: int) -> None:
    frozen = CALLS[name][1]()[place]
    before = frozen.copy()
    frozen.flags.writeable = False
    with pytest.raises(ERRORS):
        call_with(name, place, frozen)
    assert same_bits(frozen, before)


@pytest.mark.parametrize("name, place", arguments_of_kind("in"))
def test_read_only_inputs_are_welcome(name: str, place: int) -> None:
    frozen = CALLS[name][1]()[place].copy()
    frozen.flags.writeable = False
    call_with(name, place, frozen)


@pytest.mark.parametrize("name, place", arguments_of_kind(ROWS))
def test_rows_that_do_not_fit(name: str, place: int) -> None:
    others = [1, "rows", V_BITS, [V_BITS], rbm(), _core.Rows]
    others += [_core.Rows.bytes(empty(N, n, dtype=bool)) for n in (0, 1, V + 1, H + 1)]
    of_any_number = ("cd_gradient", "exact_pseudo_likelihood")
    if not name.endswith((".run", ".updates_a_pass")) and name not in of_any_number:
        units = H if name in ("propdown", "visible_preactivations") else V
        others += [_core.Rows.bytes(empty(n, units, dtype=bool)) for n in (1, N + 1)]
    if (name, place) not in MAY_BE_NONE:
        others.append(None)
    for other in others:
        assert_refused(name, place, other, repr(other))


@pytest.mark.parametrize("name, place", arguments_of_kind(INT, factories=False))
def test_integers_that_do_not_fit(name: str, place: int) -> None:
    for other in (None, 1.5, "1", [1], 2**64, -(2**63) - 1, 2**200, np.array([1, 2]), np.nan):
        assert_refused(name, place, other, repr(other))


@pytest.mark.parametrize("name, place", arguments_of_kind(REAL, WORD))
def test_other_scalars_that_do_not_fit(name: str, place: int) -> None:
    for other in (None, "half", b"\xff", [], object(), V_BITS, ""):
        assert_refused(name, place, other, repr(other))


@pytest.mark.parametrize(
    "name, place, value",
    [
        ("gibbs", 3, -1),
        ("temper", 4, -1),
        ("exact_pseudo_likelihood", 1, -1),
        ("exact_pseudo_likelihood", 1, N - 1),
        ("exact_pseudo_likelihood", 2, 3),
        ("cd_gradient", 2, 0),
        ("cd_gradient", 2, -(2**63)),
        ("Trainer", 8, 0),
        ("Trainer", 13, V + 1),
        ("Rbm", 5, -1),
        ("Trainer.run", 2, -1),
        ("Trainer.run", 2, 1),
        ("Trainer.run", 3, -1),
        ("Trainer.run", 3, N + 1),
        ("Trainer.run", 3, 2**63 - 1),
        ("Trainer.run", 4, 0),
        ("Trainer.run", 4, -1),
        *(
            (f"{kind.__name__}.run", place, value)
            for kind in SEQUENTIAL
            for place, value in (
                *((2, -1), (2, 1), (2, 2**63 - 1)),
                *((3, -1), (3, N + 1), (3, 2**63 - 1)),
                *((4, 0), (4, -1), (4, 2**63 - 1)),
            )
        ),
        ("draw_hidden", 4, 128),
        ("draw_visible", 4, 2**32 - 1),
        ("Network.predict", 1, 0),
        ("Network.predict", 1, 3),
        ("Network.predict", 1, -(2**63)),
        *(
            (name, place, value)
            for name in ("Network.train", "Network.train on values")
            for place, value in (
                *((4, -1), (4, 1), (4, 2**63 - 1)),
                *((5, -1), (5, N + 1), (5, 2**63 - 1)),
                *((6, 0), (6, -1)),
            )
        ),
        ("Rows.bits", 1, -1),
        ("Rows.bits", 1, 64),
        ("Rows.bits", 1, 129),
        ("Rows.bits", 1, 2**63 - 1),
        ("Rows.sparse", 3, 4),
        ("Rows.sparse", 3, -1),
    ],
)
def test_numbers_out_of_range(name: str, place: int, value: int) -> None:
    with pytest.raises(ERRORS):
        call_with(name, place, value)


def test_huge_numbers_that_are_right() -> None:
    """The largest seeds, steps, rows and batch sizes."""
    for name, place in [("gibbs", 4), ("gibbs", 5), ("cd_gradient", 4), ("cd_gradient", 5)]:
        call_with(name, place, 2**64 - 1)
    call_with("sample_bernoulli", 5, 2**32 - 1)
    call_with("Trainer.run", 4, 2**63 - 1)
    call_with("Trainer.run", 5, 2**64 - 1)
    call_with("draw_hidden", 3, 2**64 - 1)
    call_with("draw_visible", 5, 2**32 - 1)
    call_with("Network.train", 6, 2**63 - 1)
    call_with("Network.train", 7, 2**56 - 1)
    call_with("sigmoid", 2, 2**31 - 1)
    call_with("sigmoid", 2, -(2**31))


@pytest.mark.parametrize(
    "indptr, indices, message",
    [
        ([0, 2, 1, 3], [1, 4, 0], "indptr must ascend"),
        ([0, 2, 9, 3], [1, 4, 0], "indptr must ascend"),
        ([0, -5, 2, 3], [1, 4, 0], "indptr must ascend"),
        ([1, 2, 2, 3], [1, 4, 0], "indptr does not fit"),
        ([0, 2, 2, 2], [1, 4, 0], "indptr does not fit"),
        ([0, 2, 2, 4], [1, 4, 0], "indptr does not fit"),
        ([0, 2, 2, 3], [1, 5, 0], "indices must ascend within a row and lie inside it"),
        ([0, 2, 2, 3], [-1, 4, 0], "indices must ascend"),
        ([0, 2, 2, 3], [4, 1, 0], "indices must ascend"),
        ([0, 2, 2, 3], [1, 1, 0], "indices must ascend"),
        ([], [], "indptr and indices must be vectors"),
    ],
)
def test_sparse_rows_that_contradict_themselves(indptr: Any, indices: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Rows.sparse(np.array(indptr, np.int64), np.array(indices, np.int32), None, 5)


@pytest.mark.parametrize("place", [-1, N, 2**62, -(2**63)])
def test_orders_of_rows_that_are_not_there(place: int) -> None:
    order = np.array([0, 1, place, 2, 3, 4])
    for name, argument in ORDERS:
        with pytest.raises(ValueError, match="order names a row that is not there"):
            call_with(name, argument, order)
    with pytest.raises(ValueError, match="order names a row that is not there"):
        rows().copy_values(order, empty(6, V))


def test_messages_are_short_and_clear() -> None:
    for call, message in [
        (lambda: _core.sigmoid(P, empty(N, V + 1), 1), r"out must have shape \(6, 70\), not"),
        (lambda: _core.sigmoid(P, empty(N, V)[:, ::-1], 1), "out must be contiguous along"),
        (lambda: _core.sigmoid(P[::-1], empty(N, V), 1), "x must be laid out in rows"),
        (lambda: _core.Rbm(W, B[1:], C, "auto", 1), "b must be a contiguous vector of 70 float32"),
        (lambda: _core.Rbm(W, B, C, "half", 1), "precision must be .* not 'half'"),
        (lambda: _core.Rbm(W, B, C, "auto", 1, V + 1), "n_labels must be from 0 to the number"),
        (lambda: trainer(n_labels=-1), "n_labels must be from 0 to the number"),
        (lambda: rbm().propup(_core.Rows.bytes(H_BITS), P), "the rows do not have"),
        (lambda: trainer(chains=WORDS_H[:0]), "there must be at least one chain"),
        (lambda: trainer(completions=WORDS_V.copy()), "completions and observed come together"),
        (lambda: trainer(**row_traits(), n_labels=2), "labels can't be missing"),
        (
            lambda: trainer(weights=np.ones(N - 1)).run(rows(), None, 0, N, 2, 0, 0.1, 0.0),
            "must be of as many rows as the data",
        ),
        (
            lambda: trainer(**row_traits()).run(
                _core.Rows.bytes(V_BITS), None, 0, N, 2, 0, 0.1, 0.0
            ),
            "rows with missing values must be bits",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="out must have dtype float32, not float64"):
        _core.sigmoid(P, np.zeros((N, V)), 1)


# --- Nothing at all -------------------------------------------------------------------------------


def strided_empty(*shape: int, dtype: Any = F32) -> np.ndarray:
    """Zeros, with the strides of an array of values even if there are none."""
    strides = np.ones([max(n, 1) for n in shape], dtype).strides
    return np.lib.stride_tricks.as_strided(np.zeros(shape, dtype), shape, strides)


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("n, v, h", [(0, 5, 4), (3, 0, 4), (3, 5, 0), (3, 0, 0), (0, 0, 0)])
def test_machines_and_batches_without_units_or_rows(n: int, v: int, h: int, precision: str) -> None:
    machine = _core.Rbm(strided_empty(v, h), np.zeros(v, F32), np.ones(h, F32), precision, 2)
    for data in (
        _core.Rows.bytes(strided_empty(n, v, dtype=bool)),
        _core.Rows.bits(strided_empty(n, -(-v // 64), dtype=np.uint64), v),
        _core.Rows.real(strided_empty(n, v)),
        _core.Rows.real(strided_empty(n, v, dtype=np.float64)),
        _core.Rows.sparse(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), None, v),
    ):
        out = strided_empty(n, h)
        machine.propup(data, out)
        np.testing.assert_allclose(out, 1 / (1 + np.exp(-1)), rtol=1e-6)
        energies = np.ones(n)
        machine.free_energy(data, energies)
        np.testing.assert_allclose(energies, -h * np.log1p(np.e), rtol=1e-6)
        words = [strided_empty(n, -(-side // 64), dtype=np.uint64) for side in (v, h)]
        machine.gibbs(data, *words, 2, 0, 0, 0, None, None)
        gradient = strided_empty(v, h), np.empty(v, F32), np.empty(h, F32)
        if n:
            machine.cd_gradient(data, words[1], 1, False, 0, 0, *gradient)
        else:
            with pytest.raises(ValueError, match="at least one row and one chain"):
                machine.cd_gradient(data, words[1], 1, False, 0, 0, *gradient)


@pytest.mark.parametrize("shape", [(0, 5), (0, 130)])
def test_empty_arrays_as_numpy_makes_them(shape: tuple[int, int]) -> None:
    _core.sigmoid(np.empty(shape, F32), np.empty(shape, F32), 1)
    _core.pack(np.empty(shape, bool), np.empty((0, -(-shape[1] // 64)), np.uint64), 1)
    assert _core.philox(np.empty((0, 4), np.uint32), 0).shape == (0, 4)
    assert _core.Rows.real(np.empty(shape, F32)).n_cols == shape[1]


def test_updates_of_no_rows_and_of_huge_values() -> None:
    t = trainer()
    t.run(rows(), None, N, 0, 5, 0, 0.1, 0.0)
    t.run(rows(), np.arange(0), 0, 0, 5, 0, 0.1, 0.0)
    huge = np.full((N, V), np.finfo(F32).max, F32)
    out = empty(N, H)
    with np.errstate(all="raise"):
        rbm().propup(_core.Rows.real(huge), out)
        rbm().propup(_core.Rows.real(np.full((N, V), 1e308)), out)
        rbm().propup(_core.Rows.real(np.full((N, V), np.nan, F32)), out)
    assert np.isnan(out).all()


def test_a_machine_needs_a_unit_on_each_side_to_be_trained() -> None:
    for v, h in ((0, 3), (3, 0)):
        arguments = trainer_arguments(
            W=strided_empty(v, h),
            b=np.zeros(v, F32),
            c=np.zeros(h, F32),
            chains=strided_empty(2, -(-h // 64), dtype=np.uint64),
            W_velocity=None,
        )
        with pytest.raises(ValueError, match="at least one unit on each side"):
            _core.Trainer(*arguments.values())


# --- Memory ---------------------------------------------------------------------------------------


def test_arrays_live_as_long_as_what_was_made_of_them() -> None:
    """Were they freed, the new arrays below would take their place."""

    def litter() -> None:
        gc.collect()
        for shape in ((N, V), (N, 2), (V, H), (V,), (H,)):
            _ = [np.full(shape, np.nan) for _ in range(5)]

    expected = np.empty((N, H), F32)
    rbm().propup(rows(), expected)
    for data in (
        _core.Rows.bits(WORDS_V.copy(), V),
        _core.Rows.bytes(V_BITS.copy()),
        _core.Rows.sparse(
            np.append(0, np.cumsum(V_BITS.sum(axis=1))),
            np.nonzero(V_BITS)[1].astype(np.int32),
            None,
            V,
        ),
    ):
        machine = _core.Rbm(W.copy(), B.copy(), C.copy(), "auto", 1)
        litter()
        out = np.empty((N, H), F32)
        machine.propup(data, out)
        assert same_bits(out, expected)
    chains = WORDS_H.copy()
    t = trainer(chains=chains, **row_traits())  # its other arrays have no other owner
    litter()
    t.run(rows(), None, 0, N, 2, 0, 0.1, 0.5)
    other = WORDS_H.copy()
    trainer(chains=other, **row_traits()).run(rows(), None, 0, N, 2, 0, 0.1, 0.5)
    assert np.array_equal(chains, other)
    predicted = []
    for spoil in (litter, lambda: None):
        net = network()  # its arrays have no other owner
        spoil()
        net.train(rows(), LABELS, None, None, 0, N, 2, 0, 0.1, 0.0)
        predicted.append(empty(N, K))
        net.predict(rows(), 2, predicted[-1])
    assert same_bits(*predicted)


PREAMBLE = """
import faulthandler
import numpy as np
from harmonium import _core
from layouts import random_model
faulthandler.enable()
F32, ones = np.float32, np.uint64(2**64 - 1)
W, b, c = random_model(3, 2, seed=0)
rbm = _core.Rbm(W, b, c, "auto", 1)
gradient = [np.zeros_like(a) for a in (W, b, c)]
def trainer(chains):
    velocities_and_completions = [None] * 4
    return _core.Trainer(
        W, b, c, chains, *velocities_and_completions, 1, True, 0.0, 0.0, 0, 0, "auto", 1
    )
none = np.zeros((1, 1), np.uint64)
three = _core.Rows.bytes(np.ones((50, 3), bool))
layer = (W.copy(), c.copy(), "sigmoid", 0.0, ())
network = _core.Network([layer], "softmax_cross_entropy", "sgd", 0., 0., .9, .999, 1e-8, 0, 1)
labels = np.zeros(50, np.int32)
"""

# Each of these read or wrote memory that is not the arrays' own.
CRASHES = {
    "a list of layers that was emptied": (
        "layers = [(np.full((300, 400), .01, F32), np.zeros(400, F32), 'sigmoid', 0., ())];"
        "n = _core.Network(layers, 'squared_error', 'sgd', 0., 0., .9, .999, 1e-8, 0, 1);"
        "layers.clear();"
        "n.predict(_core.Rows.real(np.ones((2, 300), F32)), 1, np.zeros((2, 400), F32))"
    ),
    "rows with bits past their units": (
        "rbm.cd_gradient(_core.Rows.bits(np.full((50, 1), ones), 3), np.zeros((50, 1), np.uint64),"
        "1, False, 0, 0, *gradient)"
    ),
    "chains with bits past their units": (
        "rbm.cd_gradient(three, np.full((500, 1), ones), 1, True, 0, 0, *gradient)\n"
        "right = [np.zeros_like(a) for a in (W, b, c)]\n"
        "rbm.cd_gradient(three, np.full((500, 1), 3, np.uint64), 1, True, 0, 0, *right)\n"
        "assert all((g == r).all() for g, r in zip(gradient, right)), 'sums of foreign memory'"
    ),
    "Gibbs chains with bits past their units": (
        "v, h = np.zeros((500, 1), np.uint64), np.full((500, 1), ones)\n"
        "rbm.gibbs(None, v, h, 1, 0, 0, 0, None, None)\n"
        "right = np.zeros((500, 1), np.uint64)\n"
        "rbm.gibbs(None, right, np.full((500, 1), 3, np.uint64), 1, 0, 0, 0, None, None)\n"
        "assert (v == right).all(), 'sums of foreign memory'"
    ),
    "a Trainer's chains with bits past their units": (
        "trainer(np.full((50, 1), ones)).run(three, None, 0, 50, 50, 0, 0.1, 0.0)\n"
        "after = W.copy()\n"
        "W[...] = random_model(3, 2, seed=0)[0]\n"
        "b[...], c[...] = random_model(3, 2, seed=0)[1:]\n"
        "trainer(np.full((50, 1), 3, np.uint64)).run(three, None, 0, 50, 50, 0, 0.1, 0.0)\n"
        "assert (W == after).all(), 'sums of foreign memory'"
    ),
    "states of both sides in one array": (
        "one = np.zeros((500, 1), np.uint64)\n"
        "m = _core.Rbm(*random_model(2, 60, seed=0), 'auto', 1)\n"
        "m.cd_gradient(_core.Rows.bits(one, 2), one, 3, False, 0, 0, np.zeros((2, 60), F32),"
        "np.zeros(2, F32), np.zeros(60, F32))"
    ),
    "batches whose end overflows": "trainer(none).run(three, None, 2**62, 2**62, 1, 0, 0.1, 0.0)",
    "an order whose end overflows": (
        "trainer(none).run(three, np.arange(4), 2**62, 2**62, 1, 0, 0.1, 0.0)"
    ),
    "states drawn into those they are drawn from": (
        "one = np.full((500, 1), ones)\n"
        "m = _core.Rbm(*random_model(2, 60, seed=0), 'auto', 1)\n"
        "m.draw_hidden(_core.Rows.bits(one, 2), one, 0, 0, 0, 0)\n"
        "m.draw_visible(_core.Rows.bits(one, 60), one, 0, 0, 0, 0)"
    ),
    "a network's batches whose end overflows": (
        "network.train(three, labels, None, None, 2**62, 2**62, 1, 0, 0.1, 0.0)"
    ),
    "a label far from any": (
        "labels[7] = 2**31 - 1\nnetwork.train(three, labels, None, None, 0, 50, 9, 0, 0.1, 0.0)"
    ),
    "a network of one array": (
        "d = (W[:2], W[0], 'sigmoid', 0.5, ((W[:2], W[1]), (W[:2], W[1])))\n"
        "n = _core.Network([d, d], 'softmax_cross_entropy', 'adam', .1, 1., .9, .9, 0., 0, 1)\n"
        "two = _core.Rows.real(W[:2])\n"
        "n.train(two, labels[:2], None, None, 0, 2, 2, 0, 0.1, 0.0)\n"
        "n.predict(two, 2, W[:2])"
    ),
    "pseudo-likelihood without visible units": (
        "m = _core.Rbm(np.zeros((0, 1), F32), np.zeros(0, F32), np.zeros(1, F32), 'auto', 1)\n"
        "m.pseudo_likelihood(_core.Rows.real(np.zeros((5, 0), F32)), 0, 0, 1, np.zeros(5))"
    ),
    "exact pseudo-likelihood of rows there are not": (
        "m = _core.Rbm(W, b, c, 'auto', 1)\n"
        "m.exact_pseudo_likelihood(_core.Rows.real(np.zeros((5, 3), F32)), 3, 3, np.zeros(3))"
    ),
}


@pytest.mark.parametrize("what", CRASHES)
def test_what_would_crash(what: str) -> None:
    """An error is as good as an answer; a signal is neither."""
    indented = "\n".join("    " + line for line in CRASHES[what].splitlines())
    code = f"{PREAMBLE}\ntry:\n{indented}\nexcept (ValueError, TypeError) as e:\n    print(e)\n"
    result = python(code, MALLOC_CHECK_="3", GLIBC_TUNABLES="glibc.malloc.check=3")
    assert result.returncode == 0, result.stderr[-500:]


@pytest.mark.parametrize("name", FACTORIES)
def test_rows_of_arguments_of_no_use(name: str) -> None:
    code = f"""
import pytest, test_boundaries as t
for place, kind in enumerate(t.CALLS[{name!r}][2]):
    for other in t.NO_ARRAYS if kind == "in" else (None, 1.5, "1", 2**64):
        if other is None and ({name!r}, place) in t.MAY_BE_NONE:
            continue
        with pytest.raises(t.ERRORS):
            t.call_with({name!r}, place, other)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr[-500:]


def test_more_threads_than_the_system_can_make() -> None:
    code = """
import resource
import numpy as np
from harmonium import ops
x = np.zeros((2000, 4000), np.float32)
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    assert (ops.sigmoid(x, n_threads=1500) == 0.5).all()
except (ValueError, MemoryError, RuntimeError) as error:
    print(error)
"""
    result = python(code)
    assert result.returncode == 0, result.stderr[-500:]


def test_a_call_that_ran_out_of_memory_does_not_spoil_the_next() -> None:
    code = """
import resource
import numpy as np
from harmonium import ops
from layouts import random_model
W, b, c = random_model(70, 20, seed=0)
v = np.ones((200, 70), bool)
expected = ops.propup(v, W, c, n_threads=1)
wide, one = np.zeros((3_000_000, 1), np.float32), np.zeros(1, np.float32)
many = np.zeros((128, 3_000_000), bool)
ops.propup(many[:1], wide, one, n_threads=1)
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    ops.propup(many, wide, one, n_threads=1)
except MemoryError:
    print("out of memory")
assert (ops.propup(v, W, c, n_threads=1) == expected).all()
"""
    result = python(code)
    assert result.returncode == 0, result.stderr[-500:]
    assert result.stdout == "out of memory\n"


def test_sparse_rows_keep_their_own_indices() -> None:
    indices = np.array([0, 1], np.int32)
    rows_ = _core.Rows.sparse(np.array([0, 2]), indices, None, V)
    before, after = np.empty((2, 1, H), F32)
    rbm().propup(rows_, before)
    indices[:] = 2**30
    rbm().propup(rows_, after)
    assert same_bits(after, before)
