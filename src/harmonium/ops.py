"""The functional backend: arrays in, arrays out.

For those who call harmonium from under their own code. Arguments are NumPy arrays or anything that
shares its memory through DLPack or the buffer protocol; rows must be contiguous, at any distance
from one another. Nothing is copied or converted silently: a dtype that does not fit is an error.
Inputs are never modified. Results go to `out` where it is given.

**Units.** Visible or hidden units may come as

* ``bool`` or ``uint8`` zeros and ones: the binary path, sums of selected rows in 16-bit integers;
* ``uint64``: the same, packed by :func:`pack`, 64 units to a word;
* ``float32``: real values, by float32 products.

``precision="float32"`` takes everything through those. docs/numerics.md says what each path
promises.

**Randomness** is a function of its coordinates and of nothing else: `seed`, `step`, the row and the
unit. The same call gives the same result on any number of threads and any instruction set, and the
draws of rows ``[0:n]`` are those of ``[0:k]`` followed by those of ``[k:n]`` with ``first_row=k``.

`n_threads` is the number of threads, None for as many as OpenMP would take.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from harmonium._arrays import (
    BINARY_DTYPES,
    FLOAT32,
    PACKED,
    as_array,
    describe,
    empty_bits,
    matrix,
    output,
    require_dtype,
    rows_of,
    vector,
    words_for,
)
from harmonium._checks import check_integer, check_word
from harmonium._pace import run_chains
from harmonium.engine import get_engine
from harmonium.engine.protocol import (
    Array,
    Bits,
    Chains,
    Draw,
    Engine,
    Machine,
    Precision,
    Rows,
    Stream,
)

__all__ = [
    "Gradient",
    "cd_gradient",
    "free_energy",
    "gibbs",
    "matmul",
    "pack",
    "propdown",
    "propup",
    "sample_bernoulli",
    "sigmoid",
    "softplus",
    "unpack",
]

_UNIT_DTYPES = (FLOAT32, *BINARY_DTYPES, PACKED)


class Gradient(NamedTuple):
    """What :func:`cd_gradient` returns: ascent directions, and the chains' hidden states."""

    W: Array
    b: Array
    c: Array
    chains: Array


def _units(engine: Engine, name: str, value: Any, n_units: int) -> tuple[Rows, Array]:
    """Return rows of units for the engine, and the array they came in."""
    array = as_array(name, value)
    is_packed = array.dtype == PACKED
    array = matrix(name, array, _UNIT_DTYPES, (None, words_for(n_units) if is_packed else n_units))
    if is_packed:
        _require_clear_padding(name, array, n_units)
        return engine.rows_of_bits(array, n_units), array
    if array.dtype == FLOAT32:
        return engine.rows_of_reals(array), array
    if array.dtype != np.dtype(bool) and array.size and array.max() > 1:
        raise ValueError(f"{name} of dtype uint8 must hold zeros and ones, got {array.max()}")
    return engine.rows_of_bytes(array), array


def _require_clear_padding(name: str, words: Array, n_units: int) -> None:
    used = n_units % 64
    if used and words.size and np.any(words[:, -1] >> np.uint64(used)):
        raise ValueError(f"{name} has bits set past its {n_units} units")


_NO_BIAS = object()  # for functions that don't use one


def _machine(
    engine: Engine, W: Any, b: Any, c: Any, precision: Precision, name: str = "W"
) -> tuple[Machine, Array]:
    check_word("precision", precision, ("auto", "float32"))
    W = matrix(name, W, [FLOAT32], (None, None))
    n_visible, n_hidden = W.shape
    b = np.zeros(n_visible, np.float32) if b is _NO_BIAS else vector("b", b, n_visible)
    c = np.zeros(n_hidden, np.float32) if c is _NO_BIAS else vector("c", c, n_hidden)
    return engine.machine(W, b, c, precision), W


def _several(out: Any, n: int) -> tuple[Any, ...]:
    """Return the parts of an `out` of several arrays, or as many Nones."""
    if out is None:
        return (None,) * n
    if not isinstance(out, (tuple, list)) or len(out) != n:
        raise ValueError(f"out must be a tuple of {n} arrays, got {type(out).__name__}")
    return tuple(out)


def _check_draws(seed: Any, step: Any, n_steps: int, first_row: Any = 0, n_rows: int = 0) -> None:
    """Raise unless all the coordinates that a call will use are in their ranges."""
    check_integer("seed", seed, minimum=0, below=2**64)
    check_integer("step", step, minimum=0, below=2**56 - n_steps + 1)
    check_integer("first_row", first_row, minimum=0, below=2**32 - n_rows + 1)


def sigmoid(x: Any, *, out: Any = None, n_threads: int | None = None) -> Array:
    """Logistic function 1 / (1 + exp(-x)), elementwise.

    Parameters
    ----------
    x : float32 array of any shape
    out : float32 array of the same shape, optional
        May be `x` itself, but not overlap it otherwise.
    n_threads : int, optional

    Returns
    -------
    float32 array
        In [0, 1], within 3 ULP; 0 below x = -87.3365.

    Raises
    ------
    TypeError
        A dtype is not float32.
    ValueError
        Shapes differ, or an array is not contiguous along its rows.
    """
    return _elementwise("sigmoid", x, out, n_threads)


def softplus(x: Any, *, out: Any = None, n_threads: int | None = None) -> Array:
    """log(1 + exp(x)), elementwise, without overflow.

    Parameters and errors are those of :func:`sigmoid`.

    Returns
    -------
    float32 array
        In [0, ∞], within 4 ULP; 0 below x = -87.3365.
    """
    return _elementwise("softplus", x, out, n_threads)


def _elementwise(
    function: Literal["sigmoid", "softplus"], x: Any, out: Any, n_threads: int | None
) -> Array:
    engine = get_engine(n_threads=n_threads)
    x = as_array("x", x)
    require_dtype("x", x, [FLOAT32])
    result = output("out", out, x.shape, [FLOAT32])
    getattr(engine, function)(rows_of("x", x), rows_of("out", result))
    return result


def sample_bernoulli(
    p: Any,
    seed: int,
    *,
    step: int = 0,
    stream: int = Stream.USER,
    first_row: int = 0,
    out: Any = None,
    n_threads: int | None = None,
) -> Array:
    """Draw ones with probability `p`, zeros otherwise.

    Unit ``j`` of row ``r`` is 1 exactly when its number, a function of ``(seed, stream, step,
    first_row + r, j)`` with 32 bits, is below ``p[r, j]``.

    Parameters
    ----------
    p : float32 array, 1-D (one row) or 2-D
        Probabilities. Values of at most 0 or NaN never draw a one, values of at least 1 always do.
    seed : int in [0, 2**64)
    step : int in [0, 2**56)
        Which draw of the same units this is.
    stream : int in [0, 128)
        A further coordinate; harmonium's own use 1 to 63 (docs/numerics.md).
    first_row : int in [0, 2**32)
        Number of the first row.
    out : bool, uint8 or float32 array of p's shape, or uint64 words for 2-D p, optional
    n_threads : int, optional

    Returns
    -------
    array
        `out`, or a new bool array.

    References
    ----------
    Salmon, Moraes, Dror & Shaw (2011), Parallel random numbers: as easy as 1, 2, 3 (Philox4x32-10).
    """
    engine = get_engine(n_threads=n_threads)
    check_integer("stream", stream, minimum=0, below=128)
    p = as_array("p", p)
    require_dtype("p", p, [FLOAT32])
    if p.ndim not in (1, 2):
        raise ValueError(f"p must have one or two dimensions, got {describe(p)}")
    _check_draws(seed, step, 1, first_row, p.shape[0] if p.ndim == 2 else 1)
    wants_words = out is not None and p.ndim == 2 and as_array("out", out).dtype == PACKED
    shape = (p.shape[0], words_for(p.shape[1])) if wants_words else p.shape
    dtypes = [PACKED] if wants_words else [*BINARY_DTYPES, FLOAT32]
    result = output("out", out, shape, dtypes)
    engine.sample_bernoulli(
        rows_of("p", p), rows_of("out", result), Draw(seed, step, stream, first_row)
    )
    return result


def pack(v: Any, *, out: Any = None, n_threads: int | None = None) -> Bits:
    """Pack rows of zeros and ones into words of 64 bits.

    Parameters
    ----------
    v : (n, n_units) array of bool, uint8, float32 or float64, all values 0 or 1
    out : (n, ceil(n_units / 64)) uint64 array, optional
    n_threads : int, optional

    Returns
    -------
    (n, ceil(n_units / 64)) uint64 array
        Bit ``j % 64`` of word ``j // 64`` is unit ``j``; bits past the last unit are 0.

    Raises
    ------
    ValueError
        A value is neither 0 nor 1.
    """
    engine = get_engine(n_threads=n_threads)
    allowed = [*BINARY_DTYPES, FLOAT32, np.dtype(np.float64)]
    v = matrix("v", v, allowed, (None, None))
    result = output("out", out, (v.shape[0], words_for(v.shape[1])), [PACKED])
    is_binary, _ = engine.pack(v, rows_of("out", result))
    if not is_binary:
        raise ValueError("v must hold zeros and ones alone to be packed into bits")
    return result


def unpack(
    bits: Any,
    n_units: int,
    *,
    dtype: Any = bool,
    out: Any = None,
    n_threads: int | None = None,
) -> Array:
    """Undo :func:`pack`.

    Parameters
    ----------
    bits : (n, ceil(n_units / 64)) uint64 array
    n_units : int
    dtype : bool, uint8 or float32
        Of the result, when `out` is None.
    out : (n, n_units) array of such a dtype, optional
    n_threads : int, optional

    Returns
    -------
    (n, n_units) array of zeros and ones
    """
    engine = get_engine(n_threads=n_threads)
    check_integer("n_units", n_units, minimum=0)
    bits = matrix("bits", bits, [PACKED], (None, words_for(n_units)))
    allowed = [*BINARY_DTYPES, FLOAT32]
    if out is None:
        if np.dtype(dtype) not in allowed:
            raise TypeError(f"dtype must be bool, uint8 or float32, got {np.dtype(dtype)}")
        out = np.empty((bits.shape[0], n_units), dtype)
    result = output("out", out, (bits.shape[0], n_units), allowed)
    engine.unpack(bits, rows_of("out", result))
    return result


def propup(
    v: Any,
    W: Any,
    c: Any,
    *,
    precision: Precision = "auto",
    out: Any = None,
    n_threads: int | None = None,
) -> Array:
    """Probabilities of the hidden units, p(h = 1 | v) = σ(vW + c).

    Parameters
    ----------
    v : (n, n_visible) units
        See the module's description for the dtypes.
    W : (n_visible, n_hidden) float32 array
    c : (n_hidden,) float32 array
    precision : {"auto", "float32"}
    out : (n, n_hidden) float32 array, optional
    n_threads : int, optional

    Returns
    -------
    (n, n_hidden) float32 array
    """
    engine = get_engine(n_threads=n_threads)
    machine, W = _machine(engine, W, _NO_BIAS, c, precision)
    rows, _ = _units(engine, "v", v, W.shape[0])
    result = output("out", out, (rows.n_rows, W.shape[1]), [FLOAT32])
    machine.propup(rows, rows_of("out", result))
    return result


def propdown(
    h: Any,
    W: Any,
    b: Any,
    *,
    precision: Precision = "auto",
    out: Any = None,
    n_threads: int | None = None,
) -> Array:
    """Probabilities of the visible units, p(v = 1 | h) = σ(hWᵀ + b).

    Parameters
    ----------
    h : (n, n_hidden) units
    W : (n_visible, n_hidden) float32 array
    b : (n_visible,) float32 array
    precision : {"auto", "float32"}
    out : (n, n_visible) float32 array, optional
    n_threads : int, optional

    Returns
    -------
    (n, n_visible) float32 array
    """
    engine = get_engine(n_threads=n_threads)
    machine, W = _machine(engine, W, b, _NO_BIAS, precision)
    rows, _ = _units(engine, "h", h, W.shape[1])
    result = output("out", out, (rows.n_rows, W.shape[0]), [FLOAT32])
    machine.propdown(rows, rows_of("out", result))
    return result


def gibbs(
    v: Any,
    W: Any,
    b: Any,
    c: Any,
    n_steps: int,
    seed: int,
    *,
    step: int = 0,
    first_row: int = 0,
    precision: Precision = "auto",
    out: Any = None,
    n_threads: int | None = None,
) -> tuple[Array, Array]:
    """Block Gibbs sampling: `n_steps` times h ~ p(h|v), then v ~ p(v|h).

    Parameters
    ----------
    v : (n, n_visible) units
        Where the n chains start; real values are taken as probabilities of p(h|v), not sampled.
    W, b, c : float32 arrays
        (n_visible, n_hidden), (n_visible,), (n_hidden,).
    n_steps : int, at least 1
    seed : int in [0, 2**64)
    step : int in [0, 2**56)
        Number of the first step: a chain continued with ``step=n_steps`` is the longer chain.
    first_row : int in [0, 2**32)
        Number of the first chain.
    precision : {"auto", "float32"}
    out : pair of arrays, optional
        For the states of v and h, as in Returns.
    n_threads : int, optional

    Returns
    -------
    v : (n, n_visible) bool array, or uint64 words if `v` is packed
    h : (n, n_hidden) of the same kind, the states v was drawn from
    """
    engine = get_engine(n_threads=n_threads)
    check_integer("n_steps", n_steps, minimum=1, below=2**56)
    machine, W = _machine(engine, W, b, c, precision)
    n_visible, n_hidden = W.shape
    rows, array = _units(engine, "v", v, n_visible)
    _check_draws(seed, step, n_steps, first_row, rows.n_rows)
    n, is_packed = rows.n_rows, array.dtype == PACKED
    v_out, h_out = _several(out, 2)
    if is_packed:
        v_result = output("out[0]", v_out, (n, words_for(n_visible)), [PACKED])
        h_result = output("out[1]", h_out, (n, words_for(n_hidden)), [PACKED])
        chains = Chains(v_result, h_result)
        run_chains(engine, machine, rows, chains, n_steps, seed, step, first_row)
        return v_result, h_result
    v_result = output("out[0]", v_out, (n, n_visible), BINARY_DTYPES)
    h_result = output("out[1]", h_out, (n, n_hidden), BINARY_DTYPES)
    chains = Chains(empty_bits(n, n_visible), empty_bits(n, n_hidden))
    run_chains(engine, machine, rows, chains, n_steps, seed, step, first_row)
    engine.unpack(chains.v, rows_of("out[0]", v_result))
    engine.unpack(chains.h, rows_of("out[1]", h_result))
    return v_result, h_result


def cd_gradient(
    v: Any,
    W: Any,
    b: Any,
    c: Any,
    n_gibbs_steps: int,
    seed: int,
    *,
    chains: Any = None,
    step: int = 0,
    precision: Precision = "auto",
    out: Any = None,
    n_threads: int | None = None,
) -> Gradient:
    """Contrastive divergence estimate of the log-likelihood's gradient.

    ⟨v p(h|v)⟩ over the data minus the same over the chains' visible states; parameters that move
    along it become more likely to have made the data.

    Parameters
    ----------
    v : (n, n_visible) units
        A minibatch.
    W, b, c : float32 arrays
        (n_visible, n_hidden), (n_visible,), (n_hidden,).
    n_gibbs_steps : int, at least 1
    seed : int in [0, 2**64)
    chains : (n_chains, n_hidden) bool or uint8 array, or uint64 words, optional
        Hidden states the chains start from (persistent CD). None starts a chain from each row of
        `v` (CD). Not modified: the new states are in the result.
    step : int in [0, 2**56)
        Number of the first Gibbs step.
    precision : {"auto", "float32"}
    out : three float32 arrays of the shapes of W, b and c, optional
    n_threads : int, optional

    Returns
    -------
    Gradient
        Float32 arrays ``W``, ``b``, ``c``, and ``chains``, the last hidden states drawn: bool, or
        words if `chains` came so.

    References
    ----------
    Hinton (2002), Training products of experts by minimizing contrastive divergence, eq. 5;
    Tieleman (2008), Training RBMs using approximations to the likelihood gradient.
    """
    engine = get_engine(n_threads=n_threads)
    check_integer("n_gibbs_steps", n_gibbs_steps, minimum=1, below=2**32)
    _check_draws(seed, step, n_gibbs_steps)
    machine, W = _machine(engine, W, b, c, precision)
    n_visible, n_hidden = W.shape
    rows, _ = _units(engine, "v", v, n_visible)
    if rows.n_rows == 0:
        raise ValueError("v must have at least one row")
    is_packed = False
    if chains is None:
        states = empty_bits(rows.n_rows, n_hidden)
    else:
        chains = as_array("chains", chains)
        is_packed = chains.dtype == PACKED
        columns = words_for(n_hidden) if is_packed else n_hidden
        chains = matrix("chains", chains, (*BINARY_DTYPES, PACKED), (None, columns))
        if chains.shape[0] == 0:
            raise ValueError("chains must have at least one row")
        if is_packed:
            _require_clear_padding("chains", chains, n_hidden)
        states = chains.copy() if is_packed else pack(chains, n_threads=n_threads)
    W_out, b_out, c_out = _several(out, 3)
    steps = (
        output("out[0]", W_out, (n_visible, n_hidden), [FLOAT32]),
        output("out[1]", b_out, (n_visible,), [FLOAT32]),
        output("out[2]", c_out, (n_hidden,), [FLOAT32]),
    )
    for i, step_out in enumerate(steps):
        rows_of(f"out[{i}]", step_out)
    machine.cd_gradient(rows, states, n_gibbs_steps, chains is not None, seed, step, steps)
    return Gradient(*steps, states if is_packed else unpack(states, n_hidden, n_threads=n_threads))


def free_energy(
    v: Any,
    W: Any,
    b: Any,
    c: Any,
    *,
    precision: Precision = "auto",
    out: Any = None,
    n_threads: int | None = None,
) -> Array:
    """Free energy F(v) = -b·v - Σⱼ softplus((vW + c)ⱼ), so that p(v) = exp(-F(v)) / Z.

    Parameters
    ----------
    v : (n, n_visible) units
    W, b, c : float32 arrays
        (n_visible, n_hidden), (n_visible,), (n_hidden,).
    precision : {"auto", "float32"}
    out : (n,) float64 array, optional
    n_threads : int, optional

    Returns
    -------
    (n,) float64 array
        In nats. Sums are carried in float64, because what matters are differences.
    """
    engine = get_engine(n_threads=n_threads)
    machine, W = _machine(engine, W, b, c, precision)
    rows, _ = _units(engine, "v", v, W.shape[0])
    result = output("out", out, (rows.n_rows,), [np.dtype(np.float64)])
    machine.free_energy(rows, result)
    return result


def matmul(
    a: Any,
    b: Any,
    *,
    precision: Precision = "auto",
    out: Any = None,
    n_threads: int | None = None,
) -> Array:
    """Matrix product, or a batch of products.

    Parameters
    ----------
    a : (n, k) or (batch, n, k) array
        float32, or zeros and ones (bool or uint8), or, if 2-D, uint64 words. A binary operand takes
        the row-sum way: `b` is rounded to 16 bits per column and summed exactly (docs/numerics.md,
        section 3, bounds the error); ``precision="float32"`` takes ``sgemm`` instead.
    b : (k, m) or (batch, k, m) float32 array
    precision : {"auto", "float32"}
    out : (n, m) or (batch, n, m) float32 array, optional
    n_threads : int, optional

    Returns
    -------
    float32 array
    """
    engine = get_engine(n_threads=n_threads)
    a, b = as_array("a", a), as_array("b", b)
    if a.ndim not in (2, 3) or a.ndim != b.ndim or (a.ndim == 3 and a.shape[0] != b.shape[0]):
        raise ValueError(
            "a and b must both be two-dimensional, or three-dimensional with the same first axis; "
            f"got {describe(a)} and {describe(b)}"
        )
    if a.ndim == 3 and a.dtype == PACKED:
        raise TypeError("a of three dimensions must be float32, bool or uint8, got uint64")
    n, m = a.shape[-2], b.shape[-1]
    shape = (n, m) if a.ndim == 2 else (a.shape[0], n, m)
    result = output("out", out, shape, [FLOAT32])
    if a.ndim == 2:
        _multiply(engine, a, b, result, precision)
    else:
        for i in range(a.shape[0]):
            _multiply(engine, a[i], b[i], result[i], precision)
    return result


def _multiply(engine: Engine, a: Array, b: Array, out: Array, precision: Precision) -> None:
    machine, b = _machine(engine, b, _NO_BIAS, _NO_BIAS, precision, "b")
    rows, a = _units(engine, "a", a, b.shape[0])
    out = rows_of("out", out)
    if a.dtype == FLOAT32:
        engine.multiply(a, b, out)
    else:
        machine.preactivations(rows, out)
