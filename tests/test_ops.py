"""The functional backend as a whole: what holds for every function, and free energies."""

from __future__ import annotations

import array
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import SIZES, Canvas, packed, random_bits, random_model, random_reals, same_bits

from harmonium import ops
from harmonium.engine import get_engine

F32 = np.float32
EPS = 2.0**-24

V, H, N = 70, 37, 9
W, B, C = random_model(V, H, seed=0)
V_BITS, H_BITS = random_bits(N, V, seed=1), random_bits(N, H, seed=2)
V_REAL = random_reals(N, V, seed=3)
X = np.random.default_rng(4).normal(0, 5, (N, V)).astype(F32)
PARAMETERS = {"W": W, "b": B, "c": C}

# Every function of the backend, with arrays and with what else it needs.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, np.ndarray], dict[str, Any]]] = {
    "sigmoid": (ops.sigmoid, {"x": X}, {}),
    "softplus": (ops.softplus, {"x": X}, {}),
    "sample_bernoulli": (ops.sample_bernoulli, {"p": V_REAL}, {"seed": 1}),
    "pack": (ops.pack, {"v": V_BITS}, {}),
    "unpack": (ops.unpack, {"bits": packed(V_BITS)}, {"n_units": V}),
    "propup": (ops.propup, {"v": V_BITS, "W": W, "c": C}, {}),
    "propup_real": (ops.propup, {"v": V_REAL, "W": W, "c": C}, {}),
    "propup_float32": (ops.propup, {"v": V_BITS, "W": W, "c": C}, {"precision": "float32"}),
    "propdown": (ops.propdown, {"h": H_BITS, "W": W, "b": B}, {}),
    "gibbs": (ops.gibbs, {"v": V_BITS, **PARAMETERS}, {"n_steps": 2, "seed": 1}),
    "gibbs_packed": (ops.gibbs, {"v": packed(V_BITS), **PARAMETERS}, {"n_steps": 2, "seed": 1}),
    "gibbs_real": (ops.gibbs, {"v": V_REAL, **PARAMETERS}, {"n_steps": 2, "seed": 1}),
    "cd_gradient": (
        ops.cd_gradient,
        {"v": V_BITS, **PARAMETERS},
        {"n_gibbs_steps": 2, "seed": 1},
    ),
    "cd_gradient_pcd": (
        ops.cd_gradient,
        {"v": V_BITS, **PARAMETERS, "chains": packed(H_BITS)},
        {"n_gibbs_steps": 2, "seed": 1},
    ),
    "cd_gradient_real": (
        ops.cd_gradient,
        {"v": V_REAL, **PARAMETERS, "chains": H_BITS},
        {"n_gibbs_steps": 2, "seed": 1},
    ),
    "free_energy": (ops.free_energy, {"v": V_BITS, **PARAMETERS}, {}),
    "free_energy_real": (ops.free_energy, {"v": V_REAL, **PARAMETERS}, {}),
    "matmul": (ops.matmul, {"a": V_BITS, "b": W}, {}),
    "matmul_real": (ops.matmul, {"a": V_REAL, "b": W}, {}),
}
each_call = pytest.mark.parametrize("name", CALLS)


def results(value: Any) -> tuple[np.ndarray, ...]:
    return value if isinstance(value, tuple) else (value,)


def all_same_bits(a: Any, b: Any) -> bool:
    return all(same_bits(x, y) for x, y in zip(results(a), results(b), strict=True))


def test_every_function_is_in_the_table() -> None:
    assert {function.__name__ for function, _, _ in CALLS.values()} == {
        name for name in ops.__all__ if inspect.isfunction(getattr(ops, name))
    }


@each_call
def test_inputs_may_be_read_only_and_stay_as_they_are(name: str) -> None:
    function, arrays, options = CALLS[name]
    frozen = {key: value.copy() for key, value in arrays.items()}
    for value in frozen.values():
        value.flags.writeable = False
    result = function(**frozen, **options)
    assert all(same_bits(frozen[key], value) for key, value in arrays.items())
    assert not any(np.shares_memory(r, value) for r in results(result) for value in frozen.values())
    # And the writeable ones of the table itself give the same and stay the same.
    assert all_same_bits(result, function(**arrays, **options))
    assert all(same_bits(frozen[key], value) for key, value in arrays.items())


@each_call
def test_out_is_written_and_returned(name: str) -> None:
    function, arrays, options = CALLS[name]
    expected = results(function(**arrays, **options))
    if function is ops.cd_gradient:
        expected = expected[:3]  # the chains have no place in out
    canvases = [Canvas(e.shape, e.dtype) if e.ndim == 2 else None for e in expected]
    out = tuple(
        np.empty_like(e) if canvas is None else canvas.view
        for e, canvas in zip(expected, canvases, strict=True)
    )
    result = function(**arrays, **options, out=out if len(out) > 1 else out[0])
    for got, given, wanted in zip(results(result), out, expected, strict=False):
        assert got is given
        assert same_bits(given, wanted)
    assert all(canvas is None or canvas.is_intact() for canvas in canvases)


@each_call
def test_out_must_fit(name: str) -> None:
    function, arrays, options = CALLS[name]
    good = results(function(**arrays, **options))
    good = good[:3] if function is ops.cd_gradient else good

    def call(first: Any) -> None:
        function(**arrays, **options, out=first if len(good) == 1 else (first, *good[1:]))

    wanted, label = good[0], "out" if len(good) == 1 else r"out\[0\]"
    frozen = wanted.copy()
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match=f"{label} must be writeable"):
        call(frozen)
    with pytest.raises(ValueError, match=rf"{label} must have shape .*, got {wanted.dtype} of"):
        call(np.empty((N + 1, *wanted.shape[1:]), wanted.dtype))
    with pytest.raises(TypeError, match=f"{label} must have dtype .*, got complex64"):
        call(np.empty(wanted.shape, np.complex64))
    with pytest.raises(TypeError, match=f"{label} must be a NumPy array or share.* got list"):
        call([1, 2])
    if wanted.ndim == 2 and wanted.shape[1] > 1:
        # Written as rows or refused, never through a copy.
        with pytest.raises(ValueError, match=r"contiguous|laid out in rows"):
            call(np.empty(wanted.shape, wanted.dtype, order="F"))


@each_call
def test_rows_may_lie_apart(name: str) -> None:
    """Row strides larger than the row, at odd places, for every matrix."""
    function, arrays, options = CALLS[name]
    for layout in ((1, 1), (3, 29)):
        canvases = {k: Canvas.of(a, layout) for k, a in arrays.items() if a.ndim == 2}
        views = {k: canvas.view for k, canvas in canvases.items()}
        result = function(**{**arrays, **views}, **options)
        expected = function(**arrays, **options)
        if name.endswith(("real", "float32")):
            # BLAS may sum in another order when rows lie elsewhere: 70 products of values up to
            # about 4, averaged over rows at most. Draws whose p is not that close to u agree.
            for got, wanted in zip(results(result), results(expected), strict=True):
                difference = np.abs(got.astype(np.float64) - wanted.astype(np.float64))
                assert difference.max() <= 72 * EPS * 72 * 4
        else:
            assert all_same_bits(result, expected)
        assert all(canvas.is_intact() for canvas in canvases.values())


@each_call
def test_other_layouts_are_refused_not_copied(name: str) -> None:
    function, arrays, options = CALLS[name]
    for key, value in arrays.items():
        if value.ndim == 1:
            bad = [np.repeat(value, 2)[::2], value[::-1], value[: len(value) - 1], value[None]]
        elif value.shape[1] == 1:
            continue  # a single column is contiguous whatever its stride
        else:
            bad = [np.asfortranarray(value), np.repeat(value, 2, axis=1)[:, ::2], value[:, ::-1]]
            bad += [value[::-1], np.broadcast_to(value[:1], value.shape), misaligned(value)]
        for other in filter(lambda a: a is not None, bad):
            message = rf"(?s)^{key} must (be|have).*contiguous"
            with pytest.raises(ValueError, match=message):
                function(**{**arrays, key: other}, **options)


def misaligned(value: np.ndarray) -> np.ndarray | None:
    """The same values one byte into a buffer; None where any byte is aligned."""
    if value.itemsize == 1:
        return None
    room = np.empty(value.nbytes + 1, np.uint8)
    moved = room[1:].view(np.uint8).view(value.dtype.newbyteorder("=")).reshape(value.shape)
    moved[...] = value
    return moved


@each_call
def test_other_dtypes_are_refused_not_cast(name: str) -> None:
    function, arrays, options = CALLS[name]
    for key, value in arrays.items():
        for dtype in (np.int32, np.float16, np.complex64, value.dtype.newbyteorder()):
            if dtype == value.dtype:
                continue  # bytes have no order
            message = f"^{key} must have dtype .*; nothing is converted silently"
            with pytest.raises(TypeError, match=message):
                function(**{**arrays, key: np.zeros(value.shape, dtype)}, **options)
        for other in (value.tolist(), 1.5, "text"):
            message = f"{key} must be a NumPy array .* got {type(other).__name__}"
            with pytest.raises(TypeError, match=message):
                function(**{**arrays, key: other}, **options)


# --- One state, many forms ------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("name", [n for n in CALLS if "v" in CALLS[n][1] and "real" not in n])
def test_packed_bool_and_uint8_are_the_same(isa: str, name: str, precision: str) -> None:
    function, arrays, options = CALLS[name]
    if function is ops.pack:
        assert same_bits(ops.pack(V_BITS), ops.pack(V_BITS.astype(np.uint8)))
        return
    arguments = {**options, "precision": precision}
    expected = function(**{**arrays, "v": V_BITS}, **arguments)
    for form in (V_BITS.astype(np.uint8), V_BITS.view(np.uint8), packed(V_BITS)):
        result = function(**{**arrays, "v": form}, **arguments)
        if form.dtype == np.uint64 and function is ops.gibbs:
            result = (ops.unpack(result[0], V), ops.unpack(result[1], H))
        assert all_same_bits(result, expected)


def test_chains_in_every_form(isa: str) -> None:
    chains = [
        ops.cd_gradient(V_BITS, W, B, C, 2, 5, chains=form)
        for form in (H_BITS, H_BITS.astype(np.uint8), packed(H_BITS))
    ]
    assert [g.chains.dtype for g in chains] == [bool, bool, np.uint64]
    assert same_bits(packed(chains[0].chains), chains[2].chains)
    assert all_same_bits(chains[0], chains[1])
    assert all_same_bits(chains[0][:3], chains[2][:3])


class FakeTensor:
    """Something that speaks DLPack and nothing else."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack__(self, **arguments: Any) -> Any:
        return self.array.__dlpack__(**arguments)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


@each_call
def test_dlpack(name: str) -> None:
    function, arrays, options = CALLS[name]
    tensors = {key: FakeTensor(value) for key, value in arrays.items()}
    assert all_same_bits(function(**tensors, **options), function(**arrays, **options))


@each_call
def test_torch(name: str) -> None:
    torch = pytest.importorskip("torch")
    function, arrays, options = CALLS[name]
    expected = results(function(**arrays, **options))
    tensors = {key: torch.from_numpy(value) for key, value in arrays.items()}
    assert all_same_bits(results(function(**tensors, **options)), expected)
    if function is ops.cd_gradient:
        expected = expected[:3]
    out = tuple(torch.zeros_like(torch.from_numpy(e)) for e in expected)
    result = results(function(**tensors, **options, out=out if len(out) > 1 else out[0]))
    for got, tensor, wanted in zip(result, out, expected, strict=False):
        assert np.shares_memory(got, tensor.numpy())
        assert same_bits(tensor.numpy(), wanted)


def test_torch_tensors_that_do_not_fit() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"x must .* got Tensor .*requires? grad"):
        ops.sigmoid(torch.zeros(3, requires_grad=True))
    with pytest.raises(ValueError, match="x must have contiguous rows"):
        ops.sigmoid(torch.zeros(3, 4).T)
    with pytest.raises(TypeError, match="x must have dtype float32, got float64"):
        ops.sigmoid(torch.zeros(3, dtype=torch.float64))


def test_buffers() -> None:
    values = array.array("f", [-1.0, 0.0, 2.5])
    expected = ops.sigmoid(np.array(values))
    assert same_bits(ops.sigmoid(values), expected)
    result = ops.sigmoid(values, out=memoryview(values))
    assert np.shares_memory(result, np.asarray(memoryview(values)))
    assert values.tolist() == expected.tolist()

    states = bytearray(V_BITS.tobytes())
    rows = memoryview(states).cast("B", (N, V))
    assert same_bits(ops.propup(rows, W, C), ops.propup(V_BITS, W, C))
    assert states == V_BITS.tobytes()
    frozen = memoryview(bytes(states)).cast("B", (N, V))
    assert same_bits(ops.pack(frozen), packed(V_BITS))
    with pytest.raises(ValueError, match="out must be writeable"):
        ops.unpack(packed(V_BITS), V, out=frozen)
    ops.unpack(np.zeros((N, 2), np.uint64), V, out=rows)
    assert not any(states)
    with pytest.raises(TypeError, match="x must have dtype float32, got uint8"):
        ops.sigmoid(bytearray(4))


# --- Symmetries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 4, 8])
def test_rows_can_be_split(k: int) -> None:
    for name in ("propup", "propdown", "free_energy", "matmul"):
        function, arrays, options = CALLS[name]
        key = next(iter(arrays))
        parts = [
            function(**{**arrays, key: part}, **options)
            for part in (arrays[key][:k], arrays[key][k:])
        ]
        assert same_bits(np.concatenate(parts), function(**arrays, **options)), name


def test_permuting_hidden_units_commutes(isa: str) -> None:
    order = np.random.default_rng(5).permutation(H)
    W_, C_, H_ = np.ascontiguousarray(W[:, order]), C[order], np.ascontiguousarray(H_BITS[:, order])
    assert same_bits(ops.propup(V_BITS, W_, C_), ops.propup(V_BITS, W, C)[:, order])
    assert same_bits(ops.matmul(V_BITS, W_), ops.matmul(V_BITS, W)[:, order])
    # Integer sums have no order, so the visible units don't notice at all.
    assert same_bits(ops.propdown(H_, W_, B), ops.propdown(H_BITS, W, B))
    # float64 sums of 107 terms have one: some 10^-13 of a sum of a few hundred.
    F, F_ = ops.free_energy(V_BITS, W, B, C), ops.free_energy(V_BITS, W_, B, C_)
    np.testing.assert_allclose(F_, F, rtol=0, atol=1e-10)


def test_permuting_hidden_units_commutes_with_the_gradient(isa: str) -> None:
    """With biases of ±100 every draw is certain, so that draws don't depend on the unit's place."""
    c = np.where(np.arange(H) % 3 == 0, 100, -100).astype(F32)
    b = np.where(np.arange(V) % 2 == 0, 100, -100).astype(F32)
    weights = W / F32(10)
    order = np.random.default_rng(6).permutation(H)
    plain = ops.cd_gradient(V_BITS, weights, b, c, 2, 1)
    moved = ops.cd_gradient(V_BITS, np.ascontiguousarray(weights[:, order]), b, c[order], 2, 1)
    assert same_bits(moved.W, plain.W[:, order])
    assert same_bits(moved.b, plain.b)
    assert same_bits(moved.c, plain.c[order])
    assert same_bits(moved.chains, plain.chains[:, order])
    assert plain.W.any()


# --- Free energy ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_hidden", [*SIZES, 64, 200])
def test_free_energy_bits(isa: str, n_hidden: int) -> None:
    for n_visible in (1, 31, 65, 127):
        weights, b, c = random_model(n_visible, n_hidden, seed=n_hidden)
        # So far apart that their float64 sum depends on its order.
        b *= F32(2.0) ** np.random.default_rng(6).integers(-40, 40, n_visible).astype(F32)
        v = random_bits(19, n_visible, seed=7)
        assert same_bits(ops.free_energy(v, weights, b, c), ref.free_energy(v, weights, b, c))


@pytest.mark.parametrize("precision", ["auto", "float32"])
def test_free_energy_of_real_rows(isa: str, precision: Any) -> None:
    """Off by the pre-activations' error (70 roundings of Σ|v w|) and 4 ULP of each softplus."""
    exact = ref.free_energy64(V_REAL, W, B, C)
    terms = V_REAL.astype(np.float64) @ np.abs(W).astype(np.float64) + np.abs(C)
    softplus = ref.softplus64(V_REAL.astype(np.float64) @ W.astype(np.float64) + C)
    tolerance = ((V + 2) * EPS * terms + 8 * EPS * softplus).sum(axis=1)
    assert (np.abs(ops.free_energy(V_REAL, *PARAMETERS.values()) - exact) <= tolerance).all()
    binary = ops.free_energy(V_BITS, W, B, C, precision=precision)
    # The binary path's bound is s/2 for each active unit instead; see docs/numerics.md.
    slack = 0.0 if precision == "float32" else float(V * ref.quantize(W)[1].sum() / 2)
    exact = ref.free_energy64(V_BITS, W, B, C)
    assert (np.abs(binary - exact) <= V / 2 * tolerance.max() + slack).all()


def test_free_energy_of_a_machine_without_units() -> None:
    nothing = np.zeros((3, 0), bool)
    F = ops.free_energy(nothing, np.empty((0, 1), F32), np.empty(0, F32), np.zeros(1, F32))
    np.testing.assert_allclose(F, -np.log(2), rtol=1e-7)


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize("n_visible, n_hidden", [(1, 1), (17, 65), (70, 37)])
def test_pseudo_likelihood(isa: str, precision: Any, n_visible: int, n_hidden: int) -> None:
    weights, b, c = random_model(n_visible, n_hidden, seed=8, scale=0.5)
    v = random_bits(40, n_visible, seed=9)
    engine = get_engine(n_threads=1)
    out = np.empty(40)
    machine = engine.machine(weights, b, c, precision)
    machine.pseudo_likelihood(engine.rows_of_bytes(v), 2**40, 3, 1, out)
    if precision == "auto":
        # The same integers and float32 values; the float64 sums are in another order.
        expected = ref.pseudo_likelihood(v, weights, b, c, 2**40, 3)
        np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-12)
    else:
        # V times a difference of free energies, in which each of H pre-activations of size ~10
        # may be off by V roundings, before and after the flip.
        pixel = ref.flipped_pixel(40, n_visible, 2**40, 3)
        flipped = v.copy()
        flipped[np.arange(40), pixel] ^= True
        F, F_flipped = (ref.free_energy64(s, weights, b, c) for s in (v, flipped))
        expected = -n_visible * ref.softplus64(F - F_flipped)
        atol = n_visible * 2 * n_hidden * 10 * (n_visible + 8) * EPS
        np.testing.assert_allclose(out, expected, rtol=0, atol=atol)
    # In another form of the rows, the same.
    again = np.empty(40)
    machine.pseudo_likelihood(engine.rows_of_bits(packed(v), n_visible), 2**40, 3, 1, again)
    assert same_bits(again, out)


def test_pseudo_likelihood_flips_no_labels() -> None:
    v = random_bits(40, 20, seed=9)
    weights, b, c = random_model(20, 9, seed=8, scale=0.5)
    engine, out = get_engine(n_threads=1), np.empty(40)
    machine = engine.machine(weights, b, c, "auto", 15)
    machine.pseudo_likelihood(engine.rows_of_bytes(v), 5, 3, 1, out)
    expected = ref.pseudo_likelihood(v, weights, b, c, 5, 3, n_labels=15)
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-12)


def test_pseudo_likelihood_of_real_rows() -> None:
    """V log σ(F(flipped) - F(v)), the flipped value of a real unit being 1 - v."""
    engine = get_engine(n_threads=1)
    out = np.empty(N)
    engine.machine(W, B, C, "auto").pseudo_likelihood(engine.rows_of_reals(V_REAL), 1, 0, 1, out)
    pixel = ref.flipped_pixel(N, V, 1, 0)
    flipped = V_REAL.astype(np.float64)
    flipped[np.arange(N), pixel] = 1 - flipped[np.arange(N), pixel]
    expected = -V * ref.softplus64(
        ref.free_energy64(V_REAL, W, B, C) - ref.free_energy64(flipped, W, B, C)
    )
    # As above: V times 2 H pre-activations of size ~20, each off by about V roundings.
    np.testing.assert_allclose(out, expected, rtol=0, atol=V * 2 * H * 20 * V * EPS)
    assert np.abs(out).max() > 10  # the tolerance, 0.4, is not the whole


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_shuffled_order(n: int) -> None:
    order = get_engine().shuffled_order(n, 2**64 - 5, 7)
    assert order.dtype == np.int64
    assert np.array_equal(order, ref.shuffled_order(n, 2**64 - 5, 7))


# --- Errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, key, value, message",
    [
        (
            "propup",
            "v",
            V_BITS[:, :5].copy(),
            r"v must have 70 columns, got bool of shape \(9, 5\)",
        ),
        ("propup", "v", packed(V_BITS)[:, :1].copy(), "v must have 2 columns, got uint64 of"),
        ("propup", "v", V_BITS[0], r"v must be two-dimensional, got bool of shape \(70,\)"),
        (
            "propup",
            "c",
            C[:-1],
            r"c must be a contiguous vector of 37 values, got float32 of shape",
        ),
        ("propup", "W", W[0], r"W must be two-dimensional, got float32 of shape \(37,\)"),
        ("propdown", "h", V_BITS, r"h must have 37 columns, got bool of shape \(9, 70\)"),
        ("propdown", "b", C, "b must be a contiguous vector of 70 values, got float32 of shape"),
        ("gibbs", "n_steps", 0, "n_steps must be at least 1, got 0"),
        ("gibbs", "first_row", -1, "first_row must be at least 0, got -1"),
        (
            "gibbs",
            "precision",
            "double",
            "precision must be one of 'auto', 'float32'; got 'double'",
        ),
        ("cd_gradient", "n_gibbs_steps", 0, "n_gibbs_steps must be at least 1, got 0"),
        (
            "cd_gradient",
            "chains",
            V_BITS,
            r"chains must have 37 columns, got bool of shape \(9, 70",
        ),
        ("cd_gradient", "seed", 2**64, "seed must be below 18446744073709551616"),
        ("unpack", "n_units", -1, "n_units must be at least 0, got -1"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(
    name: str, key: str, value: Any, message: str
) -> None:
    function, arrays, options = CALLS[name]
    with pytest.raises(ValueError, match=message):
        function(**{**arrays, **options, key: value})


@pytest.mark.parametrize("name", ["propup", "gibbs_packed", "cd_gradient", "free_energy"])
def test_bits_past_the_units_are_refused(name: str) -> None:
    function, arrays, options = CALLS[name]
    words = packed(V_BITS)
    words[3, 1] |= np.uint64(1 << 6)
    with pytest.raises(ValueError, match="v has bits set past its 70 units"):
        function(**{**arrays, "v": words}, **options)


def test_padding_of_chains_is_refused() -> None:
    chains = packed(H_BITS)
    chains[0, 0] |= np.uint64(1 << 40)
    with pytest.raises(ValueError, match="chains has bits set past its 37 units"):
        ops.cd_gradient(V_BITS, W, B, C, 1, 0, chains=chains)


@each_call
def test_no_rows_at_all(name: str) -> None:
    function, arrays, options = CALLS[name]
    key = next(iter(arrays))
    nothing = np.empty((0, arrays[key].shape[1]), arrays[key].dtype)
    if function is ops.cd_gradient:
        with pytest.raises(ValueError, match="v must have at least one row"):
            function(**{**arrays, key: nothing}, **options)
        return
    for got, full in zip(
        results(function(**{**arrays, key: nothing}, **options)),
        results(function(**arrays, **options)),
        strict=True,
    ):
        assert got.shape == (0, *full.shape[1:])
        assert got.dtype == full.dtype


@pytest.mark.parametrize("name", ["propup", "propdown", "gibbs", "cd_gradient", "free_energy"])
def test_a_bias_of_none_is_refused(name: str) -> None:
    function, arrays, options = CALLS[name]
    key = "b" if "b" in arrays else "c"
    with pytest.raises(TypeError, match=f"{key} must be"):
        function(**{**arrays, key: None}, **options)


def test_matmul_names_its_own_argument() -> None:
    with pytest.raises(TypeError, match=r"^b must have dtype float32, got float64"):
        ops.matmul(V_BITS, W.astype(np.float64))


@pytest.mark.parametrize("place", [1, 2])
def test_strided_bias_gradients_are_named_as_the_user_knows_them(place: int) -> None:
    out = [np.empty_like(a) for a in (W, B, C)]
    out[place] = np.empty(2 * len(out[place]), F32)[::2]
    with pytest.raises(ValueError, match=rf"out\[{place}\] must be"):
        ops.cd_gradient(V_BITS, W, B, C, 1, 0, out=tuple(out))


@pytest.mark.parametrize("name", ["gibbs", "cd_gradient"])
def test_out_of_the_wrong_length(name: str) -> None:
    function, arrays, options = CALLS[name]
    with pytest.raises((TypeError, ValueError), match="out must be"):
        function(**arrays, **options, out=(np.empty((N, V), bool),))
