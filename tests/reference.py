"""The reference twin: what harmonium computes, written a second time in NumPy.

Section numbers are those of docs/numerics.md, from which alone this page is written. It imports
nothing of harmonium and is meant to be read, not to be fast.

Part I (sections 2 to 6, and 9) gives the *same bits* as the binary path. Part II is the plain
float64 mathematics of the model, without quantisation, for tests of correctness and statistics.
Part III (section 7) is that of feed-forward networks.

Arrays: `v` (n, V) and `h` (n, H) are boolean, `W` (V, H), `b` (V,) and `c` (H,) float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Bools = NDArray[np.bool_]
Floats32 = NDArray[np.float32]
Floats64 = NDArray[np.float64]
Ints = NDArray[Any]

# Every constant of the float32 code passes through here: a bare Python float would be rounded to
# float32 by NumPy 2 but could widen the operation in NumPy 1.
F32 = np.float32

# ==================================================================================================
# Part I: the binary path, bit for bit
# ==================================================================================================

# --- Section 2: random numbers --------------------------------------------------------------------

STREAM_BERNOULLI = 0  # ops.sample_bernoulli default
STREAM_HIDDEN = 1  # hidden units of a Gibbs step
STREAM_VISIBLE = 2  # visible units of a Gibbs step
STREAM_CD_START = 3  # hidden units that start a CD chain from data
STREAM_SHUFFLE = 4  # order of the rows of a shuffled epoch
STREAM_FLIP = 5  # the flipped pixel of the stochastic pseudo-likelihood
STREAM_BINARIZE = 6  # stochastic binarisation of images
STREAM_DROPOUT = 7  # 1 where a unit is kept
STREAM_LAYER = 8  # states of a layer that train the one above it
STREAM_LABEL = 9  # which of the labels is on
STREAM_INPUT = 10  # rows of training, from the odds in the data
STREAM_COMPLETION_HIDDEN = 11  # hidden units, for what is missing in a row
STREAM_COMPLETION_VISIBLE = 12  # what is missing in a row
STREAM_EXCHANGE = 13  # whether neighbouring temperatures exchange states

LOW_HALF = 128  # added to the stream where the low 16 bits of a draw are read
MASK32 = 0xFFFF_FFFF

PHILOX_MULTIPLIERS = (0xD251_1F53, 0xCD9E_8D57)
PHILOX_KEY_INCREMENTS = (0x9E37_79B9, 0xBB67_AE85)


def philox4x32(counter: ArrayLike, key: int) -> NDArray[np.uint32]:
    """Philox4x32-10 of counters (..., 4) under a 64-bit key (section 2); words (..., 4)."""
    # uint64 holds a 32 x 32 bit product whole.
    x0, x1, x2, x3 = np.moveaxis(np.asarray(counter).astype(np.uint64), -1, 0)
    k0, k1 = key & MASK32, key >> 32
    m0, m1 = (np.uint64(m) for m in PHILOX_MULTIPLIERS)
    mask, shift = np.uint64(MASK32), np.uint64(32)
    for _ in range(10):
        product0, product1 = m0 * x0, m1 * x2
        x0, x1, x2, x3 = (
            (product1 >> shift) ^ x1 ^ np.uint64(k0),
            product1 & mask,
            (product0 >> shift) ^ x3 ^ np.uint64(k1),
            product0 & mask,
        )
        k0 = (k0 + PHILOX_KEY_INCREMENTS[0]) & MASK32
        k1 = (k1 + PHILOX_KEY_INCREMENTS[1]) & MASK32
    return np.stack([x0, x1, x2, x3], axis=-1).astype(np.uint32)


def counters(first: Ints, second: Ints, step: int, stream: int) -> NDArray[np.uint64]:
    """Counters (first, second, step mod 2^32, stream + 256 (step div 2^32)) (section 2)."""
    if not 0 <= step < 2**56:
        raise ValueError(f"step must be in [0, 2^56), got {step}")
    last = stream + 256 * (step >> 32)
    parts = np.broadcast_arrays(first, second, np.uint64(step & MASK32), np.uint64(last))
    return np.stack([part.astype(np.uint64) for part in parts], axis=-1)


def draw_bits(
    n_rows: int, n_units: int, seed: int, *, step: int = 0, stream: int = 0, row0: int = 0
) -> NDArray[np.uint32]:
    """The numbers u times 2^32 of rows row0... and units 0... (section 2); (n_rows, n_units)."""
    rows = np.arange(row0, row0 + n_rows)[:, None]
    j = np.arange(n_units)
    o = j % 64
    c0 = 8 * (j // 64) + (o // 2) % 8
    word = o // 16
    half = o % 2

    calls = np.arange(c0.max(initial=-1) + 1)

    def half_words(stream: int) -> NDArray[np.uint32]:
        words = philox4x32(counters(calls, rows, step, stream), seed)  # (row, c0, word)
        return (words[:, c0, word] >> (16 * half).astype(np.uint32)) & np.uint32(0xFFFF)

    high = half_words(stream)
    low = half_words(stream + LOW_HALF)
    return (high << np.uint32(16)) | low


def bernoulli(
    p: ArrayLike, seed: int, *, step: int = 0, stream: int = STREAM_BERNOULLI, row0: int = 0
) -> Bools:
    """Units that are 1 exactly when u < p (section 2), for float32 p (n, units)."""
    p = np.asarray(p, dtype=F32)
    u = draw_bits(*p.shape, seed, step=step, stream=stream, row0=row0)
    # float64 holds both the 32 bits of u and float32's 24 exactly; the power of two is exact too.
    return u.astype(np.float64) < p.astype(np.float64) * 2.0**32


def _row_words(n_rows: int, seed: int, step: int, stream: int, row0: int = 0) -> NDArray[np.uint64]:
    """Philox(r, 0, step, stream): the words (n_rows, 4) of streams 4 and 5 (section 2)."""
    rows = np.arange(row0, row0 + n_rows)
    return philox4x32(counters(rows, np.int64(0), step, stream), seed).astype(np.uint64)


def shuffled_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Order of the n rows in a shuffled epoch (section 2, stream 4)."""
    words = _row_words(n, seed, epoch, STREAM_SHUFFLE)
    keys = (words[:, 0] << np.uint64(32)) | words[:, 1]
    return np.argsort(keys, kind="stable")


def flipped_pixel(
    n_rows: int, n_visible: int, seed: int, step: int = 0, *, row0: int = 0
) -> NDArray[np.int64]:
    """The pixel that the pseudo-likelihood flips in each row (section 2, stream 5)."""
    words = _row_words(n_rows, seed, step, STREAM_FLIP, row0)
    return ((words[:, 0] * np.uint64(n_visible)) >> np.uint64(32)).astype(np.int64)


# --- Section 3: weights in 16 bits ----------------------------------------------------------------


def q_max(K: int) -> int:
    """The largest |q| of which K can be summed in int32, at most 32767 (section 3)."""
    return min(32767, (2**31 - 1) // K)


def quantize(M: ArrayLike) -> tuple[NDArray[np.int16], Floats32]:
    """Integers q (K, N) and column scales s (N,), M close to q s (section 3). M is finite."""
    M = np.asarray(M, dtype=F32).astype(np.float64)
    qmax = q_max(M.shape[0])
    largest = np.abs(M).max(axis=0)
    # Smallest e with largest <= qmax 2^e. With largest = f 2^m and qmax = g 2^n, f and g in
    # [1/2, 1), the quotient f/g lies strictly between 1/2 and 2, so e is m - n or one more. No
    # logarithm is taken: its rounding would decide wrongly next to qmax 2^e.
    f, m = np.frexp(largest)
    g, n = np.frexp(float(qmax))
    e = np.maximum(m - n + (f > g), -126)
    s = np.where(largest > 0, np.ldexp(1.0, e), 1.0)
    q = np.rint(M / s)  # exact quotient in float64; rint rounds halves to even
    return q.astype(np.int16), s.astype(F32)


def integer_sums(v: ArrayLike, q: NDArray[np.int16]) -> NDArray[np.int32]:
    """acc_j, the sum of q_ij over the active i (section 3)."""
    # A float64 product is exact here, since every partial sum is an integer below 2^31.
    acc = np.asarray(v, dtype=bool).astype(np.float64) @ q.astype(np.float64)
    return acc.astype(np.int32)


def scaled(acc: NDArray[np.int32], s: Floats32, bias: ArrayLike) -> Floats32:
    """x_j = float32(acc_j) s_j + bias_j, a multiply and then an add (section 3)."""
    return acc.astype(F32) * s + np.asarray(bias, dtype=F32)


class Pending(NamedTuple):
    """An update that W has not taken: v (2B, V), P (2B, H) in integers, and their factor."""

    v: Bools
    P: Ints
    factor: np.float32

    @property
    def transposed(self) -> Pending:
        """What is pending for the transpose of W."""
        return Pending(self.P, self.v, self.factor)


def preactivation(
    v: ArrayLike, M: ArrayLike, bias: ArrayLike, pending: Sequence[Pending] = ()
) -> Floats32:
    """x = v M + bias of binary rows v (n, K), through the 16-bit copy of M (section 3).

    Pass (v, W, c) for v -> h and (h, W.T, b) for h -> v: each direction has scales of its own.
    """
    q, s = quantize(M)
    x = scaled(integer_sums(v, q), s, bias)
    if not pending:
        return x
    total = np.zeros_like(x)
    for update in pending:
        # Sums of integers below 2^31, exact in float64.
        weights = np.asarray(v, np.float64) @ update.v.T.astype(np.float64)
        total = total + (weights @ update.P.astype(np.float64)).astype(F32) * update.factor
    return x + total


# --- Section 4: elementwise functions, one float32 rounding per operation -------------------------

FLUSH = F32(87.3365)  # beyond this |x|, e(x) is 0
ROUND_TO_INTEGER = F32(float.fromhex("0x1.8p23"))  # adding it leaves the integer in the low bits
MINUS_LOG2_E = F32(float.fromhex("-0x1.715476p+0"))
LN2_HIGH = F32(0.693359375)
LN2_LOW = F32(-2.12194440e-4)
EXP_COEFFICIENTS = tuple(
    F32(a)
    for a in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
LOG1P_COEFFICIENTS = tuple(
    F32(float.fromhex(a))
    for a in (
        "0x1.dbe3c8p-4",
        "0x1.bc7ed2p-4",
        "0x1.24c99ep-3",
        "0x1.9998d2p-3",
        "0x1.555556p-2",
    )
)


def _horner(coefficients: tuple[np.float32, ...], x: Floats32) -> Floats32:
    """The polynomial with the leading coefficient first; a multiply, then an add."""
    P = coefficients[0]
    for a in coefficients[1:]:
        P = P * x + a
    return P


def exp_neg_abs(x: ArrayLike) -> Floats32:
    """e(x) = exp(-|x|) (section 4)."""
    y = np.abs(np.asarray(x, dtype=F32))
    flushed = y > FLUSH  # false for a NaN
    y = np.where(flushed, F32(0), y)  # its result is discarded; without this, inf - inf would warn
    t = y * MINUS_LOG2_E + ROUND_TO_INTEGER
    n = t.view(np.int32) - ROUND_TO_INTEGER.view(np.int32)
    f = t - ROUND_TO_INTEGER
    r = (-y) - f * LN2_HIGH
    r = r - f * LN2_LOW
    z = ((_horner(EXP_COEFFICIENTS, r) * (r * r)) + r) + F32(1)
    # z 2^n is exact: n >= -126, and z >= 1 where n = -126, so no result is subnormal. For a NaN,
    # n is meaningless and z is a NaN already.
    return np.where(flushed, F32(0), np.ldexp(z, n))


def sigmoid(x: ArrayLike) -> Floats32:
    """The logistic function (section 4)."""
    x = np.asarray(x, dtype=F32)
    e = exp_neg_abs(x)
    return np.where(x >= 0, F32(1), e) / (F32(1) + e)


def softplus(x: ArrayLike) -> Floats32:
    """log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)) (section 4)."""
    x = np.asarray(x, dtype=F32)
    e = exp_neg_abs(x)
    z = e / (F32(2) + e)
    w = z * z
    log1p = (z + z) + (z + z) * (w * _horner(LOG1P_COEFFICIENTS, w))
    return np.maximum(x, F32(0)) + log1p


def softmax(x: ArrayLike) -> Floats32:
    """Probabilities of the labels (section 4); (n, labels)."""
    x = np.asarray(x, dtype=F32)
    e = exp_neg_abs(x.max(axis=1, keepdims=True) - x)
    total = np.zeros(len(x), dtype=F32)
    for k in range(x.shape[1]):
        total = total + e[:, k]
    return e * (F32(1) / total)[:, None]


# --- Section 5: free energy and pseudo-likelihood -------------------------------------------------


def _visible_term(v: Bools, b: Floats32) -> Floats64:
    """Sum of b_i over the active i, float64, in order of i (section 5)."""
    total = np.zeros(len(v), dtype=np.float64)
    for i in range(v.shape[1]):
        total = np.where(v[:, i], total + np.float64(b[i]), total)
    return total


def _hidden_term(x: Floats32) -> Floats64:
    """Sum of softplus(x_j), float64, in sixteen lanes by j mod 16 (section 5)."""
    terms = softplus(x).astype(np.float64)
    lanes = np.zeros((len(x), 16), dtype=np.float64)
    for j in range(x.shape[1]):
        lanes[:, j % 16] += terms[:, j]
    total = lanes[:, 0].copy()
    for lane in range(1, 16):
        total += lanes[:, lane]
    return total


def free_energy(v: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike) -> Floats64:
    """F(v) of binary rows (section 5)."""
    v = np.asarray(v, dtype=bool)
    b = np.asarray(b, dtype=F32)
    return -(_visible_term(v, b) + _hidden_term(preactivation(v, W, c)))


def pseudo_likelihood(
    v: ArrayLike,
    W: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    seed: int,
    step: int = 0,
    *,
    row0: int = 0,
    n_labels: int = 0,
) -> Floats64:
    """V log sigma(F(flipped) - F(v)) for one flipped pixel in each row (section 5).

    F(flipped) is simply the free energy of the flipped row: integer sums don't depend on whether
    they were carried over from v or formed anew.
    """
    v = np.asarray(v, dtype=bool)
    n, n_visible = len(v), v.shape[1] - n_labels
    pixel = flipped_pixel(n, n_visible, seed, step, row0=row0)
    flipped = v.copy()
    flipped[np.arange(n), pixel] ^= True
    difference = free_energy(v, W, b, c) - free_energy(flipped, W, b, c)
    return -n_visible * softplus64(difference)


def _log_of_product(factors: Floats32) -> Floats64:
    """Log of the product over the last axis, float32 in 64 lanes (section 5).

    Taking a power of two out of a product changes no rounding, so here it is done every time.
    """
    room = -(-factors.shape[-1] // 64) * 64
    padding = [(0, 0)] * (factors.ndim - 1) + [(0, room - factors.shape[-1])]
    blocks = np.split(np.pad(factors, padding, constant_values=1), room // 64, axis=-1)
    product, exponents = np.frexp(blocks[0])
    for block in blocks[1:]:
        product, more = np.frexp(product * block)
        exponents = exponents + more
    total = exponents.sum(axis=-1)
    while product.shape[-1] > 1:
        half = product.shape[-1] // 2
        product = product[..., :half] * product[..., half:]
    return np.log(product[..., 0].astype(np.float64)) + total * np.log(2)


def exact_pseudo_likelihood(
    v: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike, *, n_labels: int = 0
) -> Floats64:
    """Sum over the pixels of -softplus(F(v) - F(v with this one flipped)) (section 5)."""
    v = np.asarray(v, dtype=bool)
    n_pixels = v.shape[1] - n_labels
    v_pixels, b = v[:, :n_pixels], np.asarray(b, dtype=F32)[:n_pixels]
    x = preactivation(v, W, c)
    p, q = sigmoid(x)[:, None], sigmoid(-x)[:, None]
    integers, s = quantize(W)
    weights = (integers.astype(F32) * s)[:n_pixels]
    e = exp_neg_abs(weights)
    E = np.where(weights > 0, F32(1) / e, e)
    D = np.where(
        v_pixels,
        _log_of_product(p + q * E) - weights.sum(axis=1, dtype=np.float64) - b,
        _log_of_product(q + p * E) + b,
    )
    return -_hidden_term(D.astype(F32))


# --- Sections 2 and 3 together: Gibbs sampling ----------------------------------------------------


def half_step_up(
    v: ArrayLike,
    W: ArrayLike,
    c: ArrayLike,
    seed: int,
    *,
    step: int = 0,
    stream: int = STREAM_HIDDEN,
    row0: int = 0,
    pending: Sequence[Pending] = (),
) -> tuple[Bools, Floats32]:
    """h ~ p(h|v), and p(h = 1|v)."""
    p = sigmoid(preactivation(v, W, c, pending))
    return bernoulli(p, seed, step=step, stream=stream, row0=row0), p


def half_step_down(
    h: ArrayLike,
    W: ArrayLike,
    b: ArrayLike,
    seed: int,
    *,
    step: int = 0,
    stream: int = STREAM_VISIBLE,
    row0: int = 0,
    n_labels: int = 0,
    pending: Sequence[Pending] = (),
) -> tuple[Bools, Floats32]:
    """v ~ p(v|h), and p(v = 1|h); of the last n_labels units one is on (section 6)."""
    x = preactivation(h, np.asarray(W).T, b, [update.transposed for update in pending])
    p = sigmoid(x)
    v = bernoulli(p, seed, step=step, stream=stream, row0=row0)
    if n_labels:
        p[:, -n_labels:] = softmax(x[:, -n_labels:])
        is_start = stream != STREAM_VISIBLE
        v[:, -n_labels:] = label_units(
            p[:, -n_labels:], seed, step=step, row0=row0, is_start=is_start
        )
    return v, p


def label_units(
    p: Floats32, seed: int, *, step: int = 0, row0: int = 0, is_start: bool = False
) -> Bools:
    """One of each row's labels on: the first whose sum of p up to there exceeds u (section 6)."""
    n, n_labels = p.shape
    rows = np.arange(row0, row0 + n)
    word = philox4x32(counters(rows, np.int64(is_start), step, STREAM_LABEL), seed)[:, 0]
    u = (word >> np.uint32(8)).astype(F32) * F32(2.0**-24)
    chosen = np.full(n, n_labels - 1)
    total = np.zeros(n, dtype=F32)
    for k in range(n_labels - 1):
        total = total + p[:, k]
        chosen = np.where((chosen == n_labels - 1) & (u < total), k, chosen)
    return np.eye(n_labels, dtype=bool)[chosen]


class GibbsResult(NamedTuple):
    """The last states, and the probabilities from which they were drawn."""

    v: Bools
    h: Bools
    p_v: Floats32
    p_h: Floats32


def gibbs(
    W: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    n_steps: int,
    seed: int,
    *,
    v: ArrayLike | None = None,
    h: ArrayLike | None = None,
    step: int = 0,
    row0: int = 0,
    n_labels: int = 0,
    pending: Sequence[Pending] = (),
) -> GibbsResult:
    """At least one Gibbs step, numbered step ... step + n_steps - 1, from v or else from h.

    A step from hidden states is v ~ p(v|h), then h ~ p(h|v), as in section 6. A step from visible
    states is h ~ p(h|v), then v ~ p(v|h). Step t draws hidden units in stream 1 and visible units
    in stream 2, both with step number t, in either order.
    """
    if (v is None) == (h is None) or n_steps < 1:
        raise ValueError("give one of v and h, and n_steps >= 1")
    from_visible = v is not None
    common: dict[str, Any] = {"row0": row0, "pending": pending}
    for t in range(step, step + n_steps):
        if from_visible:
            h, p_h = half_step_up(v, W, c, seed, step=t, **common)
            v, p_v = half_step_down(h, W, b, seed, step=t, n_labels=n_labels, **common)
        else:
            v, p_v = half_step_down(h, W, b, seed, step=t, n_labels=n_labels, **common)
            h, p_h = half_step_up(v, W, c, seed, step=t, **common)
    return GibbsResult(v, h, p_v, p_h)


# --- Section 9: temperatures ----------------------------------------------------------------------


def biases_at(beta: float, bias: ArrayLike, base: ArrayLike) -> Floats32:
    """Biases at inverse temperature beta, between those of the base and of the machine."""
    base, bias = (np.asarray(a, F32).astype(np.float64) for a in (base, bias))
    return ((1 - beta) * base + beta * bias).astype(F32)


def preactivation_at(
    beta: float, v: ArrayLike, M: ArrayLike, bias: ArrayLike, base: ArrayLike
) -> Floats32:
    """x at inverse temperature beta, from the same integer sums."""
    q, s = quantize(M)
    scale = (beta * s.astype(np.float64)).astype(F32)
    return scaled(integer_sums(v, q), scale, biases_at(beta, bias, base))


def _sum_selected(v: Bools, values: Floats64) -> Floats64:
    """Sum of the values of active units, in sixteen lanes by i mod 16 (section 9)."""
    lanes = np.zeros((len(v), 16))
    for i in range(v.shape[1]):
        lanes[:, i % 16] += np.where(v[:, i], values[i], 0.0)
    return _lanes_in_order(lanes)


def _lanes_in_order(lanes: Floats64) -> Floats64:
    total = lanes[:, 0].copy()
    for lane in range(1, 16):
        total += lanes[:, lane]
    return total


def _change_of_softplus(
    x: Floats32, beta: np.float32, span: np.float32
) -> tuple[Floats64, Floats64]:
    """S' and S: what going from beta to beta + span adds, by span and as it is."""
    slopes, sums = np.zeros((len(x), 16)), np.zeros((len(x), 16))
    for block in range(0, x.shape[1], 64):
        part = x[:, block : block + 64]
        t = part * beta
        slope = part * sigmoid(part * (beta + span * F32(0.5)))
        change = softplus(t + part * span) - softplus(t)
        is_small = np.abs(part).max(axis=1) * np.abs(span) <= F32(1 / 32)
        for lanes, terms, chosen in ((slopes, slope, is_small), (sums, change, ~is_small)):
            of_block = np.zeros((len(x), 16), F32)
            for j in range(part.shape[1]):
                of_block[:, j % 16] += terms[:, j]
            lanes += np.where(chosen[:, None], of_block.astype(np.float64), 0)
    return _lanes_in_order(slopes), _lanes_in_order(sums)


def anneal(
    W: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    base: ArrayLike,
    betas: Sequence[float],
    v: ArrayLike,
    seed: int,
    *,
    step: int = 0,
    row0: int = 0,
) -> tuple[Bools, Bools, Floats64]:
    """v, h and the logarithms of the weights after a step at each of betas[1:]."""
    v, W, c = np.asarray(v, bool), np.asarray(W, F32), np.asarray(c, F32)
    difference = np.asarray(b, F32).astype(np.float64) - np.asarray(base, F32)
    log_weights = np.zeros(len(v))
    h = np.zeros((len(v), len(c)), bool)
    for t, (here, there) in enumerate(itertools.pairwise(betas)):
        span = np.float64(there) - np.float64(here)
        slopes, sums = _change_of_softplus(preactivation(v, W, c), F32(here), F32(span))
        log_weights = log_weights + (span * (_sum_selected(v, difference) + slopes) + sums)
        common: dict[str, Any] = {"step": step + t, "row0": row0}
        x = preactivation_at(there, v, W, c, np.zeros_like(c))
        h = bernoulli(sigmoid(x), seed, stream=STREAM_HIDDEN, **common)
        x = preactivation_at(there, h, W.T, b, base)
        v = bernoulli(sigmoid(x), seed, stream=STREAM_VISIBLE, **common)
    return v, h, log_weights


def temper(
    W: ArrayLike,
    b: ArrayLike,
    c: ArrayLike,
    base: ArrayLike,
    betas: Sequence[float],
    h: ArrayLike,
    n_rounds: int,
    seed: int,
    *,
    step: int = 0,
    resting: Bools | None = None,
) -> tuple[Bools, Bools, NDArray[np.int64]]:
    """v, h and how often each pair exchanged and tried, from hidden states [temperature][chain].

    With the visible states `resting` those of the first temperature make no steps.
    """
    h, W, c = np.asarray(h, bool).copy(), np.asarray(W, F32), np.asarray(c, F32)
    difference = np.asarray(b, F32).astype(np.float64) - np.asarray(base, F32)
    n = len(h) // len(betas)
    v = np.zeros((len(h), len(difference)), bool)
    energies = np.zeros(len(h))
    exchanges = np.zeros((2, len(betas) - 1), np.int64)
    if resting is not None:
        v[:n] = resting
    for t in range(step, step + n_rounds):
        for k, beta in enumerate(betas):
            rows = slice(k * n, (k + 1) * n)
            common: dict[str, Any] = {"step": t, "row0": k * n}
            if k > 0 or resting is None:
                x = preactivation_at(beta, h[rows], W.T, b, base)
                v[rows] = bernoulli(sigmoid(x), seed, stream=STREAM_VISIBLE, **common)
                x = preactivation_at(beta, v[rows], W, c, np.zeros_like(c))
                h[rows] = bernoulli(sigmoid(x), seed, stream=STREAM_HIDDEN, **common)
            x = preactivation(v[rows], W, c).astype(np.float64)
            # Exactly 64 units are added up before the next 64 join.
            energies[rows] = _sum_selected(v[rows], difference)
            for block in range(0, len(c), 64):
                part = np.zeros(n)
                for j in range(block, min(block + 64, len(c))):
                    part = np.where(h[rows, j], part + x[:, j], part)
                energies[rows] += part
        for k in range(t % 2, len(betas) - 1, 2):
            for chain in range(n):
                mine, next_ = k * n + chain, (k + 1) * n + chain
                span = betas[k] - betas[k + 1]
                p = sigmoid(F32(min(span * (energies[next_] - energies[mine]), 0.0)))
                word = philox4x32(counters(np.int64(chain), np.int64(k), t, STREAM_EXCHANGE), seed)
                u = F32(int(word[0]) >> 8) * F32(2.0**-24)
                exchanges[1, k] += 1
                if not u * (F32(1) - p) < p:
                    continue
                exchanges[0, k] += 1
                for array in (v, h, energies):
                    array[[mine, next_]] = array[[next_, mine]]
    return v, h, exchanges


# --- Section 6: contrastive divergence ------------------------------------------------------------


@dataclass(frozen=True)
class CDState:
    """What one update takes and gives back."""

    W: Floats32
    b: Floats32
    c: Floats32
    velocity_W: Floats32
    velocity_b: Floats32
    velocity_c: Floats32
    h_chains: Bools | None = None  # (C, H) for PCD, None for CD
    n_updates: int = 0
    pending: tuple[Pending, ...] = ()
    completions: Bools | None = None  # (rows of the data, V), where values are missing
    # Of options (section 6, "Options of the update"); None where they are off.
    W_square: Floats32 | None = None
    b_square: Floats32 | None = None
    c_square: Floats32 | None = None
    n_squares: NDArray[np.int64] | None = None  # updates that the squares have seen
    v_offset: Floats32 | None = None
    h_offset: Floats32 | None = None
    h_activity: Floats32 | None = None
    W_average: Floats32 | None = None
    b_average: Floats32 | None = None
    c_average: Floats32 | None = None
    counts: NDArray[np.int64] | None = None  # updates, averagings, the update of the last one
    # Replicas at other temperatures (section 9), and fast weights.
    replicas: Bools | None = None
    base_bias: Floats32 | None = None
    betas: Floats64 | None = None
    exchanges: NDArray[np.int64] | None = None
    W_fast: Floats32 | None = None
    b_fast: Floats32 | None = None
    c_fast: Floats32 | None = None

    @classmethod
    def start(
        cls, W: ArrayLike, b: ArrayLike, c: ArrayLike, h_chains: ArrayLike | None = None
    ) -> CDState:
        """The state before update 0, with velocities of zero."""
        W, b, c = (np.array(a, dtype=F32) for a in (W, b, c))
        chains = None if h_chains is None else np.array(h_chains, dtype=bool)
        return cls(W, b, c, np.zeros_like(W), np.zeros_like(b), np.zeros_like(c), chains)


def p_max(n: int) -> int:
    """The largest integer of which n can be summed in int32, at most 32767 (section 6)."""
    return min(32767, (2**31 - 1) // n)


def fixed_point(p: ArrayLike, n: int) -> NDArray[np.int32]:
    """Probabilities as integers that n rows can sum (section 6, point 3)."""
    # One float32 multiplication, then a rounding to integer with halves to even.
    return np.rint(np.asarray(p, dtype=F32) * F32(p_max(n))).astype(np.int32)


def row_integers(weights: ArrayLike) -> tuple[NDArray[np.int64], float]:
    """What each row of a minibatch counts in its sums, and the heaviest weight (section 6)."""
    weights = np.asarray(weights, dtype=np.float64)
    heaviest = weights.max()
    share = weights / heaviest if heaviest > 0 else np.zeros_like(weights)
    return np.rint(share * p_max(len(weights))).astype(np.int64), float(heaviest)


def _gradient(
    S_pos: Ints,
    B: int,
    S_neg: Ints,
    C: int,
    factor: Callable[[int], np.float32],
    a_pos: np.float32 | None = None,
) -> Floats32:
    """The step that sums over B and C rows make, each operation rounded to float32 (section 6).

    `a_pos` is the factor of weighted rows.
    """
    if a_pos is not None:
        return S_pos.astype(F32) * a_pos - S_neg.astype(F32) * factor(C)
    if B == C:
        return (S_pos.astype(np.int64) - S_neg).astype(F32) * factor(B)
    return S_pos.astype(F32) * factor(B) - S_neg.astype(F32) * factor(C)


def _step(
    x: Floats32, velocity: Floats32, d: Floats32, momentum: float
) -> tuple[Floats32, Floats32]:
    """The parameter and its velocity after d (section 6); momentum 0 is "not in use"."""
    if momentum == 0:
        return x + d, velocity
    velocity = velocity * F32(momentum) + d
    return x + velocity, velocity


def _centered(
    d: Floats32,
    d_b: Floats32,
    d_c: Floats32,
    v_offset: Floats32,
    h_offset: Floats32,
    phases: Sequence[tuple[Bools, Ints, Ints, float, float]],
) -> tuple[Floats32, Floats32, Floats32]:
    """The steps of W, b and c with units counted from their offsets (section 6, "centering").

    `phases` are the rows of both: v, P, how often v counts, and the factors of their sums, signed.
    """
    mu, la = (np.rint(a.astype(np.float64) * 2**15) / 2**15 for a in (v_offset, h_offset))
    b, c = d_b.astype(np.float64), d_c.astype(np.float64)
    along_h = np.zeros_like(b)  # dW la, from rows
    along_v = np.zeros_like(c)  # dW^T mu
    c_la = b_mu = 0.0
    for v, P, times, of_v, of_P in phases:
        s, t = P @ la, v @ mu
        along_h = along_h + (v.T @ s) * of_P
        along_v = along_v + (P.T @ t) * of_P
        c_la, b_mu = c_la + s.sum() * of_P, b_mu + (times * t).sum() * of_v
    d = d - mu.astype(F32)[:, None] * d_c - d_b[:, None] * la.astype(F32)
    d_b = (b - ((along_h - mu * c_la) - b * (la @ la))).astype(F32)
    d_c = (c - ((along_v - la * b_mu) - c * (mu @ mu))).astype(F32)
    return d, d_b, d_c


def _with_norms_of_at_most(most: float, W: Floats32) -> Floats32:
    """W, the columns that are longer scaled (section 6, "max_norm")."""
    total = np.zeros(W.shape[1])
    for first in range(0, len(W), 8):
        part = np.zeros(W.shape[1], F32)
        for row in W[first : first + 8]:
            part = part + row * row
        total = total + part
    factor = np.sqrt(most**2 / np.maximum(total, most**2))
    return W * np.where(total > most**2, factor, 1).astype(F32)


def updates_a_pass(
    n_visible: int, n_hidden: int, B: int, *, C: int, k: int, n_labels: int = 0, moves_all: bool
) -> int:
    """How many updates W takes at once (section 6, point 6)."""
    most = max(n_visible, n_hidden)
    if k > 1 or n_labels or moves_all or B != C or B * most > 65536 or n_visible > 32767:
        return 1
    return min(16, max(1, min(60, min(n_visible, n_hidden) // 4) // B))


def cd_update(
    state: CDState,
    v_pos: ArrayLike,
    *,
    learning_rate: float,
    seed: int,
    k: int = 1,
    momentum: float = 0.0,
    l1: float = 0.0,
    l2: float = 0.0,
    n_labels: int = 0,
    solver: str = "sgd",
    beta_1: float = 0.0,
    beta_2: float = 0.0,
    epsilon: float = 0.0,
    offset_rate: float = 0.0,
    sparsity_target: float = 0.0,
    sparsity_cost: float = 0.0,
    sparsity_decay: float = 0.0,
    max_norm: float = 0.0,
    average: float = 0.0,
    restarts: bool = False,
    fast_rate: float = 0.0,
    fast_decay: float = 0.0,
    moves_W: bool = True,
    weights: ArrayLike | None = None,
) -> CDState:
    """One update of contrastive divergence on binary rows (section 6).

    PCD where `state` carries chains, CD otherwise. Without `moves_W` the update is left pending.
    `weights` are the rows', relative to the mean of all.
    Options of the update are on where the state has something for them.
    """
    W, b, c = state.W + F32(0), state.b, state.c  # no weight is -0
    full_rate, learning_rate = learning_rate, learning_rate if solver == "sgd" else 1.0
    v_pos = np.asarray(v_pos, dtype=bool)
    persistent = state.h_chains is not None
    first = state.n_updates * k  # section 2: update n has the Gibbs steps n k ... n k + k - 1

    # 1. The positive phase, and where the chains start.
    pending = state.pending
    h, p_pos = half_step_up(v_pos, W, c, seed, step=first, stream=STREAM_CD_START, pending=pending)
    if persistent:
        h = state.h_chains
    if restarts:
        h = bernoulli(np.full(h.shape, 0.5), seed, step=first, stream=STREAM_CD_START)

    # 2. The negative phase. After the last step of CD h is drawn here but not used.
    sampler, fast = (W, b, c), (state.W_fast, state.b_fast, state.c_fast)
    if fast[0] is not None:
        sampler = tuple(a + f for a, f in zip((state.W, b, c), fast, strict=True))
    v_neg, h, _, p_neg = gibbs(
        *sampler, k, seed, h=h, step=first, n_labels=n_labels, pending=pending
    )
    replicas, exchanges = state.replicas, state.exchanges
    if replicas is not None:
        all_h = np.vstack([h, replicas])
        path = (state.base_bias, state.betas)
        _, all_h, more = temper(W, b, c, *path, all_h, k, seed, step=first, resting=v_neg)
        h, replicas, exchanges = all_h[: len(h)], all_h[len(h) :], exchanges + more

    # 3. Statistics, in integers. The float64 products are exact: all sums stay below 2^31.
    B, C = len(v_pos), len(v_neg)
    P_pos, P_neg = fixed_point(p_pos, B), fixed_point(p_neg, C)
    times, a_pos = np.ones(B, np.int64), None
    of_P, of_v = float(B * p_max(B)), float(B)  # what sums are divided by to be means
    if weights is not None:
        times, heaviest = row_integers(weights)
        of_P = of_v = of_P / heaviest if heaviest else np.inf
        P_pos = np.rint(p_pos * times.astype(F32)[:, None]).astype(np.int32)
        a_pos = F32(learning_rate * heaviest / (B * p_max(B)))
    A_pos = (v_pos.T.astype(np.float64) @ P_pos.astype(np.float64)).astype(np.int32)
    A_neg = (v_neg.T.astype(np.float64) @ P_neg.astype(np.float64)).astype(np.int32)

    # 4. Weights. Scalars are float64 until they enter.
    def mean_of_fixed_point(n: int) -> np.float32:
        return F32(learning_rate / (n * p_max(n)))

    def fast_step(S_pos: Ints, S_neg: Ints, of: Callable[[int], float]) -> Floats32:
        return _gradient(S_pos, B, S_neg, C, lambda n: F32(fast_rate / of(n)))

    # 6. All that is pending is one update.
    for update in pending:
        P = update.v.T.astype(np.float64) @ update.P.astype(np.float64)
        A_pos = A_pos + P.astype(np.int32)
    d = _gradient(A_pos, B, A_neg, C, mean_of_fixed_point, a_pos)
    S_pos, S_neg = (P.sum(axis=0, dtype=np.int64) for P in (P_pos, P_neg))
    d_c = _gradient(S_pos, B, S_neg, C, mean_of_fixed_point, a_pos)
    n_pos, n_neg = times @ v_pos, v_neg.sum(axis=0, dtype=np.int64)
    d_b = _gradient(n_pos, B, n_neg, C, lambda n: F32(learning_rate / n), a_pos)

    if fast[0] is not None:
        steps = (
            fast_step(A_pos, A_neg, lambda n: n * p_max(n)),
            fast_step(n_pos, n_neg, float),
            fast_step(S_pos, S_neg, lambda n: n * p_max(n)),
        )
        fast = tuple(f * F32(fast_decay) + d for f, d in zip(fast, steps, strict=True))

    offsets = state.v_offset, state.h_offset
    if offsets[0] is not None:
        means = n_pos / of_v, S_pos / of_P
        offsets = tuple(
            ((1 - offset_rate) * old.astype(np.float64) + offset_rate * mean).astype(F32)
            for old, mean in zip(offsets, means, strict=True)
        )
        once = np.ones(C, np.int64)
        phases = (
            (v_pos, P_pos, times, learning_rate / of_v, learning_rate / of_P),
            (v_neg, P_neg, once, -learning_rate / C, -learning_rate / (C * p_max(C))),
        )
        d, d_b, d_c = _centered(d, d_b, d_c, *offsets, phases)
    if l2 != 0:
        d = d - W * F32(learning_rate * l2)
    if l1 != 0:
        d = d - np.sign(W) * F32(learning_rate * l1)

    def step(
        x: Floats32, first: Floats32, square: Floats32 | None, d: Floats32
    ) -> tuple[Floats32, Floats32, Floats32 | None]:
        if square is None:
            return *_step(x, first, d, momentum), None
        beta, rest = F32(beta_2), F32(1 - beta_2)
        square = beta * square + rest * (d * d)
        if solver == "rmsprop":
            return x + F32(full_rate) * d / (np.sqrt(square) + F32(epsilon)), first, square
        first = F32(beta_1) * first + F32(1 - beta_1) * d
        t = float(state.n_squares[0] + 1)
        root = np.sqrt(1 - beta_2**t)
        a, e = F32(full_rate * (root / (1 - beta_1**t))), F32(epsilon * root)
        return x + a * first / (np.sqrt(square) + e), first, square

    W_new, velocity_W, W_square = step(W, state.velocity_W, state.W_square, d)
    if max_norm:
        W_new = _with_norms_of_at_most(max_norm, W_new)
    if moves_W:
        pending = ()
    else:
        W_new = W
        rows = np.vstack([v_pos, v_neg]), np.vstack([P_pos, -P_neg])
        pending = (*pending, Pending(*rows, mean_of_fixed_point(B)))

    # 5. Biases.
    q = state.h_activity
    if q is not None:
        mean = S_pos / of_P
        q = (sparsity_decay * q.astype(np.float64) + (1 - sparsity_decay) * mean).astype(F32)
        d_c = d_c + (
            learning_rate * sparsity_cost * (sparsity_target - q.astype(np.float64))
        ).astype(F32)
    b_new, velocity_b, b_square = step(b, state.velocity_b, state.b_square, d_b)
    c_new, velocity_c, c_square = step(c, state.velocity_c, state.c_square, d_c)

    counts, averages = state.counts, (state.W_average, state.b_average, state.c_average)
    if counts is not None:
        counts = counts + np.array([1, 0, 0])
        since, every = counts[0] - counts[2], np.rint(0.25 / (1 - average))
        if average and moves_W and (counts[1] == 0 or since >= np.clip(every, 1, 100)):
            rate = F32(max(1 - average ** float(since), 1 / (counts[1] + 1)))
            now = (W_new, b_new, c_new)
            averages = tuple(a + (x - a) * rate for a, x in zip(averages, now, strict=True))
            counts = np.array([counts[0], counts[1] + 1, counts[0]])

    return CDState(
        W_new,
        b_new,
        c_new,
        velocity_W,
        velocity_b,
        velocity_c,
        h if persistent else None,
        state.n_updates + 1,
        pending,
        state.completions,
        W_square,
        b_square,
        c_square,
        None if W_square is None else state.n_squares + 1,
        *offsets,
        q,
        *averages,
        counts,
        replicas,
        state.base_bias,
        state.betas,
        exchanges,
        *fast,
    )


def complete(
    state: CDState, v: ArrayLike, observed: ArrayLike, rows: Ints, *, seed: int, k: int
) -> CDState:
    """The completions of some rows of the data k Gibbs steps on (section 6)."""
    completions = np.array(state.completions)
    completions[rows] = np.where(observed[rows], v[rows], completions[rows])
    for n in rows:
        if observed[n].all():
            continue
        for step in range(state.n_updates * k, (state.n_updates + 1) * k):
            place: dict[str, Any] = {"step": step, "row0": n}
            stream = STREAM_COMPLETION_HIDDEN
            h, _ = half_step_up(completions[[n]], state.W, state.c, seed, stream=stream, **place)
            stream = STREAM_COMPLETION_VISIBLE
            drawn, _ = half_step_down(h, state.W, state.b, seed, stream=stream, **place)
            completions[n] = np.where(observed[n], v[n], drawn[0])
    return replace(state, completions=completions)


def cd_epoch(
    state: CDState,
    v: ArrayLike,
    batch_size: int,
    *,
    order: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    observed: ArrayLike | None = None,
    **rule: Any,
) -> list[CDState]:
    """The states after each of an epoch's updates; `rule` is for :func:`cd_update`.

    Of each row of the data there may be its weight, relative to their mean, and what of it is
    observed.
    """
    v = np.asarray(v, dtype=bool)
    order = np.arange(len(v)) if order is None else np.asarray(order)
    together = updates_a_pass(
        *state.W.shape,
        batch_size,
        C=batch_size if state.h_chains is None else len(state.h_chains),
        k=rule.get("k", 1),
        n_labels=rule.get("n_labels", 0),
        moves_all=any(rule.get(name, 0) for name in ("momentum", "l1", "l2", "max_norm"))
        or state.v_offset is not None
        or state.W_square is not None
        or state.replicas is not None
        or state.W_fast is not None,
    )
    if weights is not None or observed is not None:
        together = 1
    states = []
    for n, begin in enumerate(range(0, len(order), batch_size)):
        # The last of those that are taken together, whose minibatches are alike.
        is_last = (n + 1) % together == 0 or begin + 2 * batch_size > len(order)
        rows = order[begin : begin + batch_size]
        batch = v[rows]
        if observed is not None:
            state = complete(state, v, observed, rows, seed=rule["seed"], k=rule.get("k", 1))
            batch = state.completions[rows]
        some = None if weights is None else np.asarray(weights)[rows]
        state = cd_update(state, batch, moves_W=is_last, weights=some, **rule)
        states.append(state)
    return states


# ==================================================================================================
# Part II: the mathematics in float64, without quantisation (section 1)
# ==================================================================================================

MAX_ENUMERATED_UNITS = 20


def _float64(*arrays: ArrayLike) -> list[Floats64]:
    return [np.asarray(a, dtype=np.float64) for a in arrays]


def _log_sum_exp(a: Floats64) -> float:
    largest = a.max()
    return float(largest + np.log(np.exp(a - largest).sum()))


def exp_neg_abs64(x: ArrayLike) -> Floats64:
    """exp(-|x|)."""
    return np.exp(-np.abs(np.asarray(x, dtype=np.float64)))


def sigmoid64(x: ArrayLike) -> Floats64:
    """1 / (1 + exp(-x)), to full relative precision on both sides."""
    x = np.asarray(x, dtype=np.float64)
    e = exp_neg_abs64(x)
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def softplus64(x: ArrayLike) -> Floats64:
    """log(1 + exp(x)), to full relative precision on both sides."""
    x = np.asarray(x, dtype=np.float64)
    return np.maximum(x, 0.0) + np.log1p(exp_neg_abs64(x))


def propup64(v: ArrayLike, W: ArrayLike, c: ArrayLike) -> Floats64:
    """p(h = 1|v) = sigma(v W + c)."""
    v, W, c = _float64(v, W, c)
    return sigmoid64(v @ W + c)


def propdown64(h: ArrayLike, W: ArrayLike, b: ArrayLike) -> Floats64:
    """p(v = 1|h) = sigma(h W^T + b)."""
    h, W, b = _float64(h, W, b)
    return sigmoid64(h @ W.T + b)


def energy64(v: ArrayLike, h: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike) -> Floats64:
    """E(v, h) = -b.v - c.h - v^T W h of each pair of rows."""
    v, h, W, b, c = _float64(v, h, W, b, c)
    return -(v @ b) - h @ c - np.einsum("ni,ij,nj->n", v, W, h)


def free_energy64(v: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike) -> Floats64:
    """F(v) = -b.v - sum_j softplus((v W + c)_j)."""
    v, W, b, c = _float64(v, W, b, c)
    return -(v @ b) - softplus64(v @ W + c).sum(axis=-1)


def all_states(n_units: int) -> Bools:
    """All 2^n binary states, bit i of the row number being unit i; (2^n, n)."""
    return np.concatenate(list(_state_blocks(n_units)))


def _state_blocks(n_units: int, block: int = 4096) -> Iterator[Bools]:
    """`all_states` in pieces."""
    if n_units > MAX_ENUMERATED_UNITS:
        raise ValueError(f"cannot enumerate {n_units} units, at most {MAX_ENUMERATED_UNITS}")
    for first in range(0, 2**n_units, block):
        numbers = np.arange(first, min(first + block, 2**n_units))
        yield (numbers[:, None] >> np.arange(n_units)) & 1 == 1


def log_partition64(W: ArrayLike, b: ArrayLike, c: ArrayLike) -> float:
    """log Z, by enumeration of the smaller side (at most 20 units)."""
    W, b, c = _float64(W, b, c)
    if W.shape[0] > W.shape[1]:  # the model is symmetric under W -> W^T, b <-> c
        W, b, c = W.T, c, b
    parts = [_log_sum_exp(-free_energy64(v, W, b, c)) for v in _state_blocks(len(b))]
    return _log_sum_exp(np.array(parts))


def visible_distribution64(W: ArrayLike, b: ArrayLike, c: ArrayLike) -> Floats64:
    """p(v) of every visible state, in the order of `all_states`; (2^V,)."""
    F = free_energy64(all_states(len(np.asarray(b))), W, b, c)
    return np.exp(-F - log_partition64(W, b, c))


def log_likelihood64(v: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike) -> Floats64:
    """log p(v) = -F(v) - log Z of each row."""
    return -free_energy64(v, W, b, c) - log_partition64(W, b, c)


def exact_gradient64(
    v_data: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike
) -> tuple[Floats64, Floats64, Floats64]:
    """Gradient of the mean log-likelihood of the rows v_data with respect to W, b and c."""
    v_data, W, b, c = _float64(v_data, W, b, c)
    v_model = all_states(len(b)).astype(np.float64)
    p_model = visible_distribution64(W, b, c)
    p_data = np.full(len(v_data), 1.0 / len(v_data))

    def statistics(v: Floats64, weight: Floats64) -> tuple[Floats64, Floats64, Floats64]:
        p_h = propup64(v, W, c)
        return (v * weight[:, None]).T @ p_h, weight @ v, weight @ p_h

    positive, negative = statistics(v_data, p_data), statistics(v_model, p_model)
    gradient = [pos - neg for pos, neg in zip(positive, negative, strict=True)]
    return gradient[0], gradient[1], gradient[2]


def pseudo_log_likelihood_exact64(
    v: ArrayLike, W: ArrayLike, b: ArrayLike, c: ArrayLike
) -> Floats64:
    """sum_i log p(v_i | all other v), of which section 5 samples one term V times over."""
    v = np.asarray(v, dtype=bool)
    F = free_energy64(v, W, b, c)
    total = np.zeros(len(v))
    for i in range(v.shape[1]):
        flipped = v.copy()
        flipped[:, i] ^= True
        # log sigma(a) = -softplus(-a), with a = F(flipped) - F(v)
        total -= softplus64(F - free_energy64(flipped, W, b, c))
    return total


# ==================================================================================================
# Part III: networks of dense layers in float64 (section 7)
# ==================================================================================================


@dataclass
class Dense64:
    """A layer f(xW + c), and what the optimiser remembers of (W, c)."""

    W: Floats64
    c: Floats64
    activation: str = "sigmoid"  # or "identity"; not used in the last layer
    dropout: float = 0.0  # of its inputs
    first: tuple[Floats64, Floats64] | None = None  # velocity, or Adam's first moment
    second: tuple[Floats64, Floats64] | None = None

    def __post_init__(self) -> None:
        self.W, self.c = (np.array(a, dtype=np.float64) for a in (self.W, self.c))
        self.first = self.first or (np.zeros_like(self.W), np.zeros_like(self.c))
        self.second = self.second or (np.zeros_like(self.W), np.zeros_like(self.c))


@dataclass(frozen=True)
class NetworkRule64:
    """How a network is trained."""

    loss: str
    optimizer: str = "sgd"
    l2: float = 0.0
    max_norm: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    seed: int = 0


def kept_units(layers: list[Dense64], n_rows: int, seed: int, step: int) -> list[Bools]:
    """Which inputs of each layer update number `step` keeps (section 7).

    The units of all layers stand in one row, each layer's inputs from a multiple of 64 on.
    """
    n_inputs = [len(layer.W) for layer in layers]
    first = np.cumsum([0] + [-(-n // 64) * 64 for n in n_inputs])
    p = np.ones((n_rows, first[-1]), F32)
    for layer, begin, end in zip(layers, first, first[1:], strict=False):
        p[:, begin:end] = F32(1 - layer.dropout)
    kept = bernoulli(p, seed, step=step, stream=STREAM_DROPOUT)
    return [kept[:, begin : begin + n] for begin, n in zip(first, n_inputs, strict=False)]


def forward64(
    layers: list[Dense64], x: ArrayLike, kept: list[Bools] | None = None
) -> tuple[list[Floats64], list[Floats64]]:
    """What goes into each layer, and its sums xW + c."""
    inputs, sums = [], []
    y = np.asarray(x, dtype=np.float64)
    for n, layer in enumerate(layers):
        if kept is not None and layer.dropout > 0:
            y = y * kept[n] / (1 - layer.dropout)
        inputs.append(y)
        sums.append(y @ layer.W + layer.c)
        y = sigmoid64(sums[-1]) if layer.activation == "sigmoid" else sums[-1]
    return inputs, sums


def outputs64(loss: str, sums: Floats64) -> Floats64:
    """What the loss makes of the last layer's sums."""
    if loss == "softmax_cross_entropy":
        e = np.exp(sums - sums.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)
    return sigmoid64(sums) if loss == "sigmoid_cross_entropy" else sums


def losses64(
    loss: str, sums: Floats64, targets: ArrayLike, class_weights: ArrayLike | None = None
) -> Floats64:
    """The loss of each row: `targets` are labels for softmax, else rows of values."""
    if loss == "softmax_cross_entropy":
        labels = np.asarray(targets)
        weights = 1.0 if class_weights is None else np.asarray(class_weights, np.float64)[labels]
        return -weights * np.log(outputs64(loss, sums)[np.arange(len(labels)), labels])
    t = np.asarray(targets, dtype=np.float64)
    if loss == "sigmoid_cross_entropy":
        return (t * softplus64(-sums) + (1 - t) * softplus64(sums)).sum(axis=1)
    return 0.5 * ((sums - t) ** 2).sum(axis=1)


def errors64(sums: Floats64, labels: ArrayLike) -> int:
    """Rows whose largest output is another than their class's."""
    return int((sums.max(axis=1) > sums[np.arange(len(sums)), np.asarray(labels)]).sum())


def network_gradient64(
    layers: list[Dense64],
    loss: str,
    x: ArrayLike,
    targets: ArrayLike,
    class_weights: ArrayLike | None = None,
    kept: list[Bools] | None = None,
) -> list[tuple[Floats64, Floats64]]:
    """The gradient of the mean of the rows' losses by each layer's W and c: backpropagation."""
    inputs, sums = forward64(layers, x, kept)
    t = targets
    if loss == "softmax_cross_entropy":
        t = np.eye(sums[-1].shape[1])[np.asarray(targets)]
    # Each of the three losses goes with outputs for which this is its gradient by the sums.
    delta = (outputs64(loss, sums[-1]) - np.asarray(t, dtype=np.float64)) / len(inputs[0])
    if loss == "softmax_cross_entropy" and class_weights is not None:
        delta = delta * np.asarray(class_weights, np.float64)[np.asarray(targets)][:, None]
    gradient = []
    for n in reversed(range(len(layers))):
        gradient.append((inputs[n].T @ delta, delta.sum(axis=0)))
        if n > 0:
            delta = delta @ layers[n].W.T
            if kept is not None and layers[n].dropout > 0:
                delta = delta * kept[n] / (1 - layers[n].dropout)
            if layers[n - 1].activation == "sigmoid":
                y = sigmoid64(sums[n - 1])
                delta = delta * y * (1 - y)
    return gradient[::-1]


def network_update64(
    layers: list[Dense64],
    rule: NetworkRule64,
    x: ArrayLike,
    targets: ArrayLike,
    *,
    step: int,
    learning_rate: float,
    momentum: float = 0.0,
    class_weights: ArrayLike | None = None,
) -> tuple[float, int]:
    """One update, in place, after `step` others (section 7).

    Returns the sum of the rows' losses before it, and their errors.
    """
    kept = kept_units(layers, len(np.asarray(x)), rule.seed, step)
    sums = forward64(layers, x, kept)[1][-1]
    loss = losses64(rule.loss, sums, targets, class_weights).sum()
    errors = errors64(sums, targets) if rule.loss == "softmax_cross_entropy" else 0
    gradient = network_gradient64(layers, rule.loss, x, targets, class_weights, kept)
    for layer, gradients in zip(layers, gradient, strict=True):
        # Biases do not decay.
        for n, (w, g, l2) in enumerate(
            zip((layer.W, layer.c), gradients, (rule.l2, 0.0), strict=True)
        ):
            g = g + l2 * w
            first, second = layer.first[n], layer.second[n]
            if rule.optimizer == "sgd":
                w -= learning_rate * g
            elif rule.optimizer == "momentum":
                first[...] = momentum * first - learning_rate * g
                w += first
            else:  # Kingma & Ba 2015, algorithm 1
                first[...] = rule.beta1 * first + (1 - rule.beta1) * g
                second[...] = rule.beta2 * second + (1 - rule.beta2) * g**2
                m = first / (1 - rule.beta1 ** (step + 1))
                v = second / (1 - rule.beta2 ** (step + 1))
                w -= learning_rate * m / (np.sqrt(v) + rule.epsilon)
        if rule.max_norm > 0:
            norms = np.linalg.norm(layer.W, axis=0)
            layer.W *= np.minimum(1, rule.max_norm / np.maximum(norms, rule.max_norm))
    return float(loss), errors
