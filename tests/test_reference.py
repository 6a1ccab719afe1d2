"""The reference twin itself: foreign test vectors, the bounds that docs/numerics.md states, and
models small enough to enumerate.

All random numbers have fixed seeds, so a statistical test gives the same answer in every run.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import reference as ref
from scipy import stats

F32 = np.float32
# A right implementation fails for one seed in 10^4 (the seeds here are fixed); the faults looked
# for give far smaller values.
SIGNIFICANCE = 1e-4


def random_model(
    n_visible: int, n_hidden: int, seed: int, scale: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = ((n_visible, n_hidden), n_visible, n_hidden)
    W, b, c = (rng.normal(0, scale, shape).astype(F32) for shape in shapes)
    return W, b, c


def random_rows(n: int, n_units: int, seed: int, p: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random((n, n_units)) < p


def chi_square_p(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value of observed counts; cells expected fewer than five times are pooled."""
    expected = probabilities / probabilities.sum() * counts.sum()
    rare = expected < 5
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    return stats.chisquare(counts, expected).pvalue


def state_counts(states: np.ndarray) -> np.ndarray:
    numbers = states @ (1 << np.arange(states.shape[1]))
    return np.bincount(numbers, minlength=2 ** states.shape[1])


# --- Section 2: random numbers --------------------------------------------------------------------


@pytest.mark.parametrize(
    "counter, key, words",
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF,) * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_random123_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    """The philox4x32 lines with 10 rounds of Random123's tests/kat_vectors."""
    seed = key[0] + (key[1] << 32)
    assert tuple(ref.philox4x32(np.array(counter, dtype=np.uint32), seed)) == words
    batch = np.broadcast_to(np.array(counter, dtype=np.uint32), (2, 3, 4))
    out = ref.philox4x32(batch, seed)
    assert out.dtype == np.uint32
    assert (out == np.array(words, dtype=np.uint32)).all()


@pytest.mark.parametrize("step", [0, 7, 2**32 - 1, 2**32, 3 * 2**32 + 5, 2**56 - 1])
@pytest.mark.parametrize("stream", [0, 6, 127])
def test_draws_follow_the_formula_unit_by_unit(step: int, stream: int) -> None:
    """Each draw of a few rows, with Python's integers."""
    seed, row0, units = 0x0123456789ABCDEF, 5, 131
    u = ref.draw_bits(2, units, seed, step=step, stream=stream, row0=row0)

    def half_word(row: int, j: int, stream: int) -> int:
        o = j % 64
        counter = (
            8 * (j // 64) + (o // 2) % 8,
            row,
            step % 2**32,
            stream + 256 * (step // 2**32),
        )
        return int(ref.philox4x32(counter, seed)[o // 16]) >> 16 * (o % 2) & 0xFFFF

    for row in range(2):
        for j in range(0, units, 7):
            high = half_word(row0 + row, j, stream)
            low = half_word(row0 + row, j, stream + 128)
            assert int(u[row, j]) == high * 2**16 + low


def test_sixty_four_units_are_the_memory_image_of_eight_calls() -> None:
    """The second description of the layout in section 2."""
    u = ref.draw_bits(1, 128, seed=9, step=3, stream=2)
    calls = ref.philox4x32([(c0, 0, 3, 2) for c0 in range(16)], 9)
    image = calls.reshape(2, 8, 4).transpose(0, 2, 1).astype("<u4").tobytes()
    assert ((u >> 16).ravel() == np.frombuffer(image, dtype="<u2")).all()


def test_step_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="step"):
        ref.draw_bits(1, 1, 0, step=2**56)


@pytest.mark.parametrize("k", [0, 1, 63, 64, 100])
def test_draws_do_not_depend_on_how_rows_or_units_are_split(k: int) -> None:
    whole = ref.draw_bits(100, 130, seed=1, step=4, stream=1)
    parts = [
        ref.draw_bits(k, 130, seed=1, step=4, stream=1),
        ref.draw_bits(100 - k, 130, seed=1, step=4, stream=1, row0=k),
    ]
    assert (whole == np.concatenate(parts)).all()
    assert (whole[:, :k] == ref.draw_bits(100, k, seed=1, step=4, stream=1)).all()


def test_every_coordinate_matters() -> None:
    base = {"seed": 1, "step": 2, "stream": 3, "row0": 4}
    first = ref.draw_bits(8, 64, **base)
    assert len(np.unique(first)) == first.size  # 512 of 2^32 values: a repetition is a fault
    others = {"seed": 1 + 2**32, "step": 2 + 2**32, "stream": 5, "row0": 40}
    for name, other in others.items():
        changed = ref.draw_bits(8, 64, **(base | {name: other}))
        assert not np.isin(changed, first).any(), name


@pytest.mark.parametrize("p", [1e-4, 0.3, 0.9999])
def test_bernoulli_frequencies(p: float) -> None:
    """In all, and in each of the 64 places that share eight calls."""
    draws = ref.bernoulli(np.full((30_000, 64), p, dtype=F32), seed=11, step=1, stream=1)
    p = float(F32(p))
    ones = draws.sum(axis=0)
    n = len(draws)
    total = np.array([ones.sum(), draws.size - ones.sum()])
    assert chi_square_p(total, np.array([p, 1 - p])) > SIGNIFICANCE
    # 64 squared standardised counts. Where n min(p, 1 - p) = 3 a binomial has heavier tails than
    # the normal, so their sum is compared through its own variance instead of a chi-square.
    z2 = (ones - n * p) ** 2 / (n * p * (1 - p))
    kurtosis_excess = (1 - 6 * p * (1 - p)) / (n * p * (1 - p))
    assert abs(z2.sum() - 64) < 4 * np.sqrt(64 * (2 + kurtosis_excess))


def test_neighbouring_units_and_steps_are_independent() -> None:
    p = np.full((50_000, 2), 0.5, dtype=F32)
    now, then = (ref.bernoulli(p, seed=12, step=step, stream=1) for step in (5, 6))
    counts = state_counts(np.hstack([now, then]))
    assert chi_square_p(counts, np.full(16, 1 / 16)) > SIGNIFICANCE


def test_draw_bits_are_uniform_in_every_byte() -> None:
    u = ref.draw_bits(2_000, 64, seed=13)
    for byte in range(4):
        counts = np.bincount(((u >> (8 * byte)) & 0xFF).ravel(), minlength=256)
        assert chi_square_p(counts, np.full(256, 1 / 256)) > SIGNIFICANCE, byte


def test_probability_0_never_and_1_always() -> None:
    shape = (2_000, 128)
    assert not ref.bernoulli(np.zeros(shape, dtype=F32), seed=3).any()
    assert not ref.bernoulli(np.full(shape, -0.0, dtype=F32), seed=3).any()
    assert ref.bernoulli(np.ones(shape, dtype=F32), seed=3).all()
    assert not ref.bernoulli(np.full(shape, np.nan, dtype=F32), seed=3).any()


def test_the_comparison_with_p_is_exact() -> None:
    """p is put on, just below and just above u, where a rounded comparison would go wrong."""
    u = ref.draw_bits(3, 70, seed=21)
    on = (u.astype(np.float64) / 2.0**32).astype(F32)
    for p in (on, np.nextafter(on, F32(0)), np.nextafter(on, F32(1))):
        expected = [
            Fraction(int(a), 2**32) < Fraction(float(b))
            for a, b in zip(u.ravel(), p.ravel(), strict=True)
        ]
        assert ref.bernoulli(p, seed=21).ravel().tolist() == expected


def test_shuffled_order_is_a_permutation_by_philox_keys() -> None:
    order = ref.shuffled_order(1000, seed=5, epoch=3)
    assert (np.sort(order) == np.arange(1000)).all()
    words = ref.philox4x32([(row, 0, 3, 4) for row in range(1000)], 5)
    keys = [(int(w[0]) << 32) + int(w[1]) for w in words]
    assert order.tolist() == sorted(range(1000), key=keys.__getitem__)
    assert (order != ref.shuffled_order(1000, seed=5, epoch=4)).any()


def test_flipped_pixels_are_uniform_and_split_by_row() -> None:
    pixel = ref.flipped_pixel(20_000, 10, seed=5, step=2)
    assert chi_square_p(np.bincount(pixel, minlength=10), np.full(10, 0.1)) > SIGNIFICANCE
    assert (pixel[700:] == ref.flipped_pixel(19_300, 10, seed=5, step=2, row0=700)).all()
    word = int(ref.philox4x32((17, 0, 2, 5), 5)[0])
    assert pixel[17] == word * 10 // 2**32


# --- Section 3: weights in 16 bits ----------------------------------------------------------------


def check_quantisation(M: np.ndarray) -> None:
    """Section 3's definition, column by column, in rational arithmetic."""
    q, s = ref.quantize(M)
    K = M.shape[0]
    qmax = min(32767, (2**31 - 1) // K)
    assert q.dtype == np.int16
    assert s.dtype == F32
    for column, scale, integers in zip(M.T, s, q.T, strict=True):
        largest = max(Fraction(float(w)) for w in (column.max(), -column.min()))
        exact_scale = Fraction(float(scale))
        if largest == 0:
            assert scale == 1
            assert not integers.any()
            continue
        mantissa, exponent = np.frexp(np.float64(scale))
        assert mantissa == 0.5  # a power of two
        assert exponent - 1 >= -126
        assert largest <= qmax * exact_scale
        assert exponent - 1 == -126 or largest > qmax * exact_scale / 2
        for w, integer in list(zip(column, integers, strict=True))[:200]:
            assert int(integer) == round(Fraction(float(w)) / exact_scale)  # halves to even
    assert np.abs(q.astype(np.int64)).sum(axis=0).max() <= 2**31 - 1


@pytest.mark.parametrize("seed", range(12))
def test_quantisation_of_random_scales(seed: int) -> None:
    rng = np.random.default_rng(seed)
    K, N = int(rng.integers(1, 40)), 24
    scale = 10.0 ** rng.uniform(-45, 38, N)  # subnormal columns at one end, near overflow beyond
    M = np.clip(rng.standard_normal((K, N)) * scale, -3.4e38, 3.4e38).astype(F32)
    check_quantisation(M)


@pytest.mark.parametrize("K", [1, 3, 784, 65535, 65536, 65538, 65539, 70_001, 200_000])
@pytest.mark.parametrize("exponent", [-126, -30, -15, 0, 90])
def test_quantisation_at_the_boundary_of_a_scale(K: int, exponent: int) -> None:
    """qmax 2^e itself takes the scale 2^e; the next float32 takes the next scale."""
    qmax = ref.q_max(K)
    on = F32(qmax * 2.0**exponent)
    above = np.nextafter(on, F32(np.inf))
    M = np.zeros((K, 4), dtype=F32)
    M[0] = on, above, -on, -above
    check_quantisation(M)
    q, s = ref.quantize(M)
    assert s.tolist() == [2.0**e for e in (exponent, exponent + 1) * 2]
    assert q[0, 0] == qmax == -q[0, 2]


def test_quantisation_of_powers_of_two_zeros_and_subnormals() -> None:
    tiny = np.nextafter(F32(0), F32(1))
    normal = F32(2.0**-126)
    row = np.array([1, 2, 0.5, 2.0**-140, tiny, 0, -0.0, normal, normal / 2, 2.0**127], dtype=F32)
    check_quantisation(row[None, :])
    q, s = ref.quantize(row[None, :])
    assert s[0] == F32(2.0**-14)  # 1 is just above 32767 2^-15
    assert q[0, 0] == 16384
    assert s[3] == s[4] == normal  # the exponent stops at -126
    assert s[5] == s[6] == 1
    assert q[0, 7] == 1
    assert q[0, 8] == 0  # a half rounds to even


def test_halves_round_to_even() -> None:
    M = np.array([[32767.0], [0.5], [1.5], [2.5], [-0.5], [-1.5], [-2.5]], dtype=F32)
    q, s = ref.quantize(M)
    assert s[0] == 1
    assert q[:, 0].tolist() == [32767, 0, 2, 2, 0, -2, -2]


@pytest.mark.parametrize("K", [65_535, 65_539, 150_000])
def test_sums_of_many_inputs_fit_int32(K: int) -> None:
    M = np.full((K, 1), F32(1 - 2.0**-15))  # 32767 2^-15: uses the largest q where K allows it
    q, s = ref.quantize(M)
    acc = ref.integer_sums(np.ones((1, K), dtype=bool), q)
    assert acc[0, 0] == K * int(q[0, 0]) <= 2**31 - 1
    x = ref.scaled(acc, s, np.zeros(1, dtype=F32))
    # Each term is off by s/2 at most, and float32(acc) by one rounding.
    assert abs(float(x[0, 0]) - K * (1 - 2.0**-15)) <= K * float(s[0]) / 2 + K * 2.0**-24


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("scale", [1e-6, 0.01, 1.0, 300.0])
def test_preactivation_keeps_its_error_bound(seed: int, scale: float) -> None:
    """|x - exact| <= active s/2 plus two float32 roundings."""
    W, _, c = random_model(300, 40, seed, scale)
    v = random_rows(50, 300, seed)
    x = ref.preactivation(v, W, c)
    assert x.dtype == F32
    _, s = ref.quantize(W)
    product = v.astype(np.float64) @ W.astype(np.float64)
    half_steps = v.sum(axis=1)[:, None] * s.astype(np.float64) / 2
    # The roundings are of float32(acc), which approximates the product within half_steps, and of
    # the final sum; the last term covers the float64 error of `product` itself.
    roundings = 2.0**-24 * (np.abs(product) + half_steps) + np.spacing(np.abs(x)) / 2
    slack = 1e-12 * (v @ np.abs(W).astype(np.float64))
    assert (np.abs(x - (product + c)) <= half_steps + roundings + slack).all()


def test_preactivation_bits_one_element_at_a_time() -> None:
    W, _, c = random_model(37, 5, seed=1)
    v = random_rows(6, 37, seed=2)
    q, s = ref.quantize(W)
    x = ref.preactivation(v, W, c)
    for n in range(6):
        for j in range(5):
            acc = sum(int(q[i, j]) for i in range(37) if v[n, i])
            assert x[n, j] == F32(F32(F32(acc) * s[j]) + c[j])


# --- Section 4: elementwise functions -------------------------------------------------------------


def ulp_error(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """|got - exact| in units of float32's last place at `exact`, a normal float32."""
    _, exponent = np.frexp(exact)
    return np.abs(got.astype(np.float64) - exact) / np.ldexp(1.0, exponent - 24)


def magnitudes() -> np.ndarray:
    """float32 in [0, 87.3365]: each 257th, and all where sigmoid and softplus are worst."""
    last = ref.FLUSH.view(np.uint32)
    sweep = np.arange(0, last + 1, 257, dtype=np.uint32).view(F32)
    near = [
        np.arange(F32(a).view(np.uint32), F32(b).view(np.uint32) + 1, dtype=np.uint32).view(F32)
        for a, b in ((0.3195, 0.3200), (2.754, 2.760), (4.155, 4.160), (87.0, ref.FLUSH))
    ]
    return np.concatenate([sweep, *near])


@pytest.mark.parametrize(
    "function, exact, bound",
    [
        (ref.exp_neg_abs, ref.exp_neg_abs64, 1.0),  # measured over all float32: 0.982
        (ref.sigmoid, ref.sigmoid64, 3.0),  # measured over all float32: 2.402
        (ref.softplus, ref.softplus64, 4.0),  # measured over all float32: 2.797
    ],
)
def test_elementwise_error_in_ulp(
    function: Callable[[np.ndarray], np.ndarray],
    exact: Callable[[np.ndarray], np.ndarray],
    bound: float,
) -> None:
    """The bounds of section 4 from the flush point on; float64's own error is below 10^-8 ULP."""
    x = magnitudes()
    for signed in (x, -x):
        got = function(signed)
        assert got.dtype == F32
        assert ulp_error(got, exact(signed)).max() <= bound
    # Beyond the flush point only the positive side has a non-zero result.
    large = np.geomspace(88, 3e38, 1000).astype(F32)
    assert (ref.sigmoid(large) == 1).all()
    assert (ref.softplus(large) == large).all()


def test_the_flush_point() -> None:
    """At -87.3365f the result is the last, normal one; the next float32 below gives 0."""
    at = -F32(87.3365)
    below = np.nextafter(at, F32(-np.inf))
    smallest_normal = np.finfo(F32).smallest_normal
    for function in (ref.exp_neg_abs, ref.sigmoid, ref.softplus):
        assert function(at) >= smallest_normal
        assert function(below) == 0
    assert ref.exp_neg_abs(-below) == 0
    large = -np.geomspace(87.34, 3e38, 1000).astype(F32)
    assert not ref.sigmoid(large).any()
    assert not ref.softplus(large).any()
    # Some float32 below the flush point still have a normal sigmoid (it ends at 126 log 2): the
    # bound in ULP can't hold there, and they are five.
    x = at
    lost = 0
    while ref.sigmoid64(x := np.nextafter(x, F32(-np.inf))) >= smallest_normal:
        lost += 1
    assert lost == 5


def test_elementwise_special_values() -> None:
    tiny = np.nextafter(F32(0), F32(1))
    x = np.array([-np.inf, np.inf, np.nan, -np.nan, 0.0, -0.0, tiny, -tiny], dtype=F32)
    assert np.array_equal(
        ref.exp_neg_abs(x), F32([0, 0, np.nan, np.nan, 1, 1, 1, 1]), equal_nan=True
    )
    half = F32(0.5)
    assert np.array_equal(
        ref.sigmoid(x), F32([0, 1, np.nan, np.nan, half, half, half, half]), equal_nan=True
    )
    softplus = ref.softplus(x)
    assert np.array_equal(softplus[:4], F32([0, np.inf, np.nan, np.nan]), equal_nan=True)
    assert (ulp_error(softplus[4:], np.full(4, np.log(2.0))) <= 1).all()


@pytest.mark.parametrize("function", [ref.exp_neg_abs, ref.sigmoid, ref.softplus])
def test_scalars_and_arrays_give_the_same_float32(
    function: Callable[[np.ndarray], np.ndarray],
) -> None:
    x = np.linspace(-90, 90, 501).astype(F32)
    together = function(x)
    for value, expected in zip(x, together, strict=True):
        alone = function(value)
        assert alone.dtype == F32
        assert alone == expected


@pytest.mark.parametrize("n", [1, 10, 65_535, 65_539, 10**6, 2**31 - 1])
def test_fixed_point(n: int) -> None:
    pmax = min(32767, (2**31 - 1) // n)
    p = np.random.default_rng(n).random(2000).astype(F32)
    P = ref.fixed_point(p, n)
    assert P.min() >= 0
    assert (np.abs(P - p.astype(np.float64) * pmax) <= 0.5 + pmax * 2.0**-25).all()
    ends = ref.fixed_point(np.array([0, 1], dtype=F32), n)
    assert ends.tolist() == [0, pmax]
    assert n * pmax <= 2**31 - 1


def test_fixed_point_rounds_halves_to_even() -> None:
    p = F32([0.5, 0.25])  # times 32767: 16383.5 and 8191.75
    assert ref.fixed_point(p, 10).tolist() == [16384, 8192]
    # n with pmax(n) = 2: 0.25 and 0.75 give 0.5 and 1.5
    assert ref.fixed_point(F32([0.25, 0.75]), 10**9).tolist() == [0, 2]


# --- Sections 1 and 5: energies -------------------------------------------------------------------


def test_free_energy_marginalises_the_energy() -> None:
    W, b, c = random_model(5, 4, seed=3)
    hidden = ref.all_states(4)
    for v in ref.all_states(5):
        E = ref.energy64(np.tile(v, (16, 1)), hidden, W, b, c)
        expected = -np.log(np.exp(-E).sum())
        # 16 terms in float64
        assert ref.free_energy64(v[None], W, b, c)[0] == pytest.approx(expected, rel=1e-12)


def test_conditionals_follow_from_the_energy() -> None:
    W, b, c = random_model(4, 3, seed=4)
    v, h = np.repeat(ref.all_states(4), 8, axis=0), np.tile(ref.all_states(3), (16, 1))
    weight = np.exp(-ref.energy64(v, h, W, b, c)).reshape(16, 8)
    p_h = (weight / weight.sum(axis=1, keepdims=True)) @ ref.all_states(3)
    p_v = (weight / weight.sum(axis=0)).T @ ref.all_states(4)
    np.testing.assert_allclose(ref.propup64(ref.all_states(4), W, c), p_h, rtol=1e-12)
    np.testing.assert_allclose(ref.propdown64(ref.all_states(3), W, b), p_v, rtol=1e-12)


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (13, 12)])
def test_log_partition_and_distribution(shape: tuple[int, int]) -> None:
    W, b, c = random_model(*shape, seed=5, scale=0.7)
    over_visible = np.exp(-ref.free_energy64(ref.all_states(shape[0]), W, b, c)).sum()
    over_hidden = np.exp(-ref.free_energy64(ref.all_states(shape[1]), W.T, c, b)).sum()
    log_z = ref.log_partition64(W, b, c)
    assert log_z == pytest.approx(np.log(over_visible), rel=1e-12)
    assert log_z == pytest.approx(np.log(over_hidden), rel=1e-12)
    assert ref.visible_distribution64(W, b, c).sum() == pytest.approx(1, rel=1e-12)


def test_log_partition_of_independent_units_and_too_many() -> None:
    W, b, c = np.zeros((18, 3)), np.full(18, 0.3), np.full(3, -0.2)
    expected = 18 * ref.softplus64(0.3) + 3 * ref.softplus64(-0.2)
    assert ref.log_partition64(W, b, c) == pytest.approx(expected, rel=1e-12)
    assert ref.log_partition64(W.T, c, b) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="enumerate"):
        ref.all_states(21)


def test_exact_gradient_by_finite_differences() -> None:
    W, b, c = (a.astype(np.float64) for a in random_model(4, 3, seed=6))
    data = random_rows(9, 4, seed=7)
    parameters = (W, b, c)
    gradients = ref.exact_gradient64(data, W, b, c)
    step = 1e-5  # error of central differences: about step^2 + 1e-16/step, both near 1e-10
    for which, gradient in enumerate(gradients):
        for index in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.copy() for a in parameters]
                moved[which][index] += sign * step
                ends.append(ref.log_likelihood64(data, *moved).mean())
            assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(gradient[index], abs=1e-8)


def test_exact_gradient_vanishes_at_the_model() -> None:
    """Data distributed exactly as the model: b = 0, W = 0 and all states once."""
    W, b, c = np.zeros((4, 3)), np.zeros(4), np.array([0.5, -1.0, 0.0])
    for gradient in ref.exact_gradient64(ref.all_states(4), W, b, c):
        np.testing.assert_allclose(gradient, 0, atol=1e-15)


@pytest.mark.parametrize("n_hidden", [1, 7, 16, 17, 50])
def test_free_energy_approximates_and_sums_in_sixteen_lanes(n_hidden: int) -> None:
    W, b, c = random_model(30, n_hidden, seed=8, scale=0.5)
    # Spread over thirty and more binary orders: the order of a float64 sum shows in its bits.
    c = np.linspace(-20, 0, n_hidden).astype(F32)[::-1]
    b = (b * 2.0 ** np.linspace(-40, 0, 30)).astype(F32)
    v = random_rows(20, 30, seed=9)
    F = ref.free_energy(v, W, b, c)
    assert F.dtype == np.float64
    # Row by row with Python's floats, which are float64.
    for row, active in enumerate(v):
        lanes = [0.0] * 16
        for j, term in enumerate(ref.softplus(ref.preactivation(v[row : row + 1], W, c))[0]):
            lanes[j % 16] += float(term)
        hidden = lanes[0]
        for lane in lanes[1:]:
            hidden += lane
        visible = 0.0
        for i in np.flatnonzero(active):
            visible += float(b[i])
        assert F[row] == -(visible + hidden)
    # |softplus'| <= 1, so each hidden unit adds at most its pre-activation's error to 4 ULP.
    _, s = ref.quantize(W)
    x = np.abs(v @ W.astype(np.float64)) + np.abs(c) + 1
    bound = v.sum(axis=1) * s.sum(dtype=np.float64) / 2 + 6 * 2.0**-23 * x.sum(axis=1)
    assert (np.abs(F - ref.free_energy64(v, W, b, c)) <= bound).all()


def test_pseudo_likelihood_averages_to_the_exact_one() -> None:
    W, b, c = random_model(6, 4, seed=10)
    v = np.repeat(random_rows(3, 6, seed=11), 4000, axis=0)
    samples = ref.pseudo_likelihood(v, W, b, c, seed=12, step=3).reshape(3, 4000)
    exact = ref.pseudo_log_likelihood_exact64(v[::4000], W, b, c)
    error = samples.std(axis=1) / np.sqrt(4000)
    assert (np.abs(samples.mean(axis=1) - exact) < 4 * error).all()
    split = ref.pseudo_likelihood(v[5000:], W, b, c, seed=12, step=3, row0=5000)
    assert (split == samples.ravel()[5000:]).all()


def test_exact_pseudo_likelihood_from_the_joint_distribution() -> None:
    W, b, c = random_model(4, 3, seed=13)
    states = ref.all_states(4)
    p = ref.visible_distribution64(W, b, c)
    numbers = np.arange(16)
    expected = sum(np.log(p / (p + p[numbers ^ (1 << i)])) for i in range(4))
    np.testing.assert_allclose(
        ref.pseudo_log_likelihood_exact64(states, W, b, c), expected, rtol=1e-12
    )


# --- Gibbs sampling -------------------------------------------------------------------------------


def test_half_steps_draw_in_their_own_streams() -> None:
    W, b, c = random_model(20, 9, seed=14)
    v, h = random_rows(5, 20, seed=15), random_rows(5, 9, seed=16)
    drawn, p = ref.half_step_up(v, W, c, 7, step=3, row0=2)
    u = ref.draw_bits(5, 9, 7, step=3, stream=1, row0=2) / 2.0**32
    assert (drawn == (u < p)).all()
    np.testing.assert_allclose(p, ref.propup64(v, W, c), atol=20 * 2.0**-14 / 4)
    drawn, p = ref.half_step_down(h, W, b, 7, step=3, row0=2)
    u = ref.draw_bits(5, 20, 7, step=3, stream=2, row0=2) / 2.0**32
    assert (drawn == (u < p)).all()
    np.testing.assert_allclose(p, ref.propdown64(h, W, b), atol=9 * 2.0**-14 / 4)


def test_a_gibbs_step_draws_both_sides_with_its_own_number() -> None:
    W, b, c = random_model(20, 9, seed=14)
    v, h = random_rows(5, 20, seed=15), random_rows(5, 9, seed=16)
    up = ref.gibbs(W, b, c, 1, 7, step=3, v=v)
    assert (up.h == ref.half_step_up(v, W, c, 7, step=3, stream=1)[0]).all()
    assert (up.v == ref.half_step_down(up.h, W, b, 7, step=3, stream=2)[0]).all()
    down = ref.gibbs(W, b, c, 1, 7, step=3, h=h)
    assert (down.v == ref.half_step_down(h, W, b, 7, step=3, stream=2)[0]).all()
    assert (down.h == ref.half_step_up(down.v, W, c, 7, step=3, stream=1)[0]).all()


@pytest.mark.parametrize("side", ["v", "h"])
def test_gibbs_can_be_split_in_steps_and_rows(side: str) -> None:
    W, b, c = random_model(12, 7, seed=17)
    start = random_rows(30, 12 if side == "v" else 7, seed=18)
    whole = ref.gibbs(W, b, c, 5, 3, step=10, **{side: start})
    half = ref.gibbs(W, b, c, 2, 3, step=10, **{side: start})
    rest = ref.gibbs(W, b, c, 3, 3, step=12, **{side: getattr(half, side)})
    below = ref.gibbs(W, b, c, 5, 3, step=10, row0=11, **{side: start[11:]})
    for name in ("v", "h", "p_v", "p_h"):
        assert (getattr(whole, name) == getattr(rest, name)).all()
        assert (getattr(whole, name)[11:] == getattr(below, name)).all()


def test_gibbs_needs_one_start_and_a_step() -> None:
    W, b, c = random_model(3, 2, seed=0)
    one = np.zeros((1, 3), dtype=bool)
    for n_steps, start in ((1, {}), (0, {"v": one}), (1, {"v": one, "h": one[:, :2]})):
        with pytest.raises(ValueError, match="n_steps"):
            ref.gibbs(W, b, c, n_steps, seed=0, **start)


@pytest.mark.parametrize("side", ["v", "h"])
def test_gibbs_is_stationary_at_the_model(side: str) -> None:
    """30 000 independent chains of 40 steps against the enumerated 4 x 3 model.

    The quantised weights move a probability by at most 4 2^-15, which 30 000 chains can't see.
    """
    W, b, c = random_model(4, 3, seed=19)
    start = np.zeros((30_000, 4 if side == "v" else 3), dtype=bool)
    result = ref.gibbs(W, b, c, 40, seed=20, **{side: start})
    v, h = np.repeat(ref.all_states(4), 8, axis=0), np.tile(ref.all_states(3), (16, 1))
    joint = np.exp(-ref.energy64(v, h, W, b, c) - ref.log_partition64(W, b, c)).reshape(16, 8)
    assert joint.sum() == pytest.approx(1, rel=1e-12)
    assert chi_square_p(state_counts(result.v), ref.visible_distribution64(W, b, c)) > SIGNIFICANCE
    assert chi_square_p(state_counts(result.h), joint.sum(axis=0)) > SIGNIFICANCE
    # The last drawn side follows its conditional, so pairs follow the joint distribution.
    pairs = state_counts(np.hstack([result.h, result.v]))
    assert chi_square_p(pairs, joint.ravel()) > SIGNIFICANCE


# --- Section 6: contrastive divergence ------------------------------------------------------------


def literal_update(
    state: ref.CDState,
    v_pos: np.ndarray,
    *,
    learning_rate: float,
    seed: int,
    k: int,
    momentum: float,
    l1: float,
    l2: float,
) -> dict[str, np.ndarray]:
    """Section 6 one number at a time: Python's integers for sums, float32 scalars for the rest."""
    V, H = state.W.shape
    first = state.n_updates * k
    p_pos = ref.sigmoid(ref.preactivation(v_pos, state.W, state.c))
    if state.h_chains is None:
        h = ref.bernoulli(p_pos, seed, step=first, stream=3)
    else:
        h = state.h_chains
    for t in range(first, first + k):
        p_v = ref.sigmoid(ref.preactivation(h, state.W.T, state.b))
        v_neg = ref.bernoulli(p_v, seed, step=t, stream=2)
        p_neg = ref.sigmoid(ref.preactivation(v_neg, state.W, state.c))
        h = ref.bernoulli(p_neg, seed, step=t, stream=1)
    B, C = len(v_pos), len(v_neg)
    pmax_B, pmax_C = (min(32767, (2**31 - 1) // n) for n in (B, C))
    P_pos, P_neg = (
        [[int(np.rint(F32(x) * F32(pmax))) for x in row] for row in p]
        for p, pmax in ((p_pos, pmax_B), (p_neg, pmax_C))
    )
    a_pos, a_neg = F32(learning_rate / (B * pmax_B)), F32(learning_rate / (C * pmax_C))

    def moved(x: F32, m: F32, d: F32) -> tuple[F32, F32]:
        if momentum == 0:
            return F32(x + d), m
        m = F32(F32(m * F32(momentum)) + d)
        return F32(x + m), m

    def difference(S_pos: int, a_pos: F32, S_neg: int, a_neg: F32) -> F32:
        if B == C:  # the factors are one: the difference of the sums is exact
            return F32(F32(S_pos - S_neg) * a_pos)
        return F32(F32(F32(S_pos) * a_pos) - F32(F32(S_neg) * a_neg))

    out = {
        name: getattr(state, name).copy()
        for name in ("W", "b", "c", "velocity_W", "velocity_b", "velocity_c")
    }
    for i in range(V):
        for j in range(H):
            w = state.W[i, j]
            d = difference(
                sum(P_pos[n][j] for n in range(B) if v_pos[n, i]),
                a_pos,
                sum(P_neg[n][j] for n in range(C) if v_neg[n, i]),
                a_neg,
            )
            if l2:
                d = F32(d - F32(w * F32(learning_rate * l2)))
            if l1:
                sign = F32((w > 0) * 1 - (w < 0) * 1)
                d = F32(d - F32(sign * F32(learning_rate * l1)))
            out["W"][i, j], out["velocity_W"][i, j] = moved(w, state.velocity_W[i, j], d)
        d = difference(
            int(v_pos[:, i].sum()),
            F32(learning_rate / B),
            int(v_neg[:, i].sum()),
            F32(learning_rate / C),
        )
        out["b"][i], out["velocity_b"][i] = moved(state.b[i], state.velocity_b[i], d)
    for j in range(H):
        d = difference(sum(row[j] for row in P_pos), a_pos, sum(row[j] for row in P_neg), a_neg)
        out["c"][j], out["velocity_c"][j] = moved(state.c[j], state.velocity_c[j], d)
    if state.h_chains is not None:
        out["h_chains"] = h
    return out


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    "momentum, l1, l2", [(0.0, 0.0, 0.0), (0.9, 0.0, 0.0), (0.0, 1e-3, 2e-3), (0.5, 0.0, 1e-4)]
)
def test_cd_update_bit_for_bit(persistent: bool, momentum: float, l1: float, l2: float) -> None:
    W, b, c = random_model(11, 6, seed=22, scale=0.3)
    W[2] = 0  # sign(0) = 0
    chains = random_rows(4, 6, seed=23) if persistent else None
    state = ref.CDState.start(W, b, c, chains)
    for n in range(3):
        v_pos = random_rows(9 - n, 11, seed=24 + n)  # the last minibatch is often shorter
        arguments = {"learning_rate": 0.07, "seed": 2**40 + 3, "k": 2}
        arguments |= {"momentum": momentum, "l1": l1, "l2": l2}
        expected = literal_update(state, v_pos, **arguments)
        state = ref.cd_update(state, v_pos, **arguments)
        for name, value in expected.items():
            got = getattr(state, name)
            assert got.dtype == value.dtype
            assert got.tobytes() == value.tobytes(), name
        assert state.n_updates == n + 1
        assert (state.h_chains is None) == (not persistent)


@pytest.mark.parametrize("n_rows, n_chains", [(70_000, 3), (3, 70_000)])
def test_each_phase_has_the_fixed_point_of_its_own_rows(n_rows: int, n_chains: int) -> None:
    """Beyond 65 538 rows pmax falls, on one side alone; the sums still fit int32."""
    W, b, c = random_model(3, 2, seed=36)
    b, c = b + F32(30), c + F32(60)  # all units on, all probabilities 1: the largest sums
    data = np.ones((n_rows, 3), dtype=bool)
    state = ref.CDState.start(W, b, c, np.ones((n_chains, 2), dtype=bool))
    after = ref.cd_update(state, data, learning_rate=1.0, seed=37)
    # Both phases have the same statistics, all of them 1, up to float32 rounding.
    for name in ("W", "b", "c"):
        np.testing.assert_allclose(getattr(after, name), getattr(state, name), atol=1e-6)


def test_cd_update_leaves_its_inputs_alone() -> None:
    W, b, c = random_model(8, 5, seed=25)
    state = ref.CDState.start(W, b, c, random_rows(3, 5, seed=26))
    before = [a.tobytes() for a in (state.W, state.b, state.c, state.velocity_W, state.h_chains)]
    ref.cd_update(
        state, random_rows(6, 8, seed=27), learning_rate=0.1, seed=1, momentum=0.5, l1=0.1, l2=0.1
    )
    after = [a.tobytes() for a in (state.W, state.b, state.c, state.velocity_W, state.h_chains)]
    assert before == after


def test_untouched_rows_stay_and_lose_the_sign_of_zero() -> None:
    W, b, c = random_model(6, 4, seed=28)
    W[3, :2] = -0.0
    b[3] = -100  # off in every reconstruction
    v_pos = random_rows(5, 6, seed=29)
    v_pos[:, 3] = False
    state = ref.CDState.start(W, b, c)
    after = ref.cd_update(state, v_pos, learning_rate=0.1, seed=1)
    assert np.array_equal(after.W[3], W[3])
    assert not np.signbit(after.W[3, :2]).any()
    assert (after.W[[0, 1, 2, 4, 5]] != W[[0, 1, 2, 4, 5]]).any()


def test_cd_update_tends_to_the_exact_gradient_as_k_grows() -> None:
    """CD-40 from data far from the model matches exact_gradient64; CD-1 is visibly biased."""
    W, b, c = random_model(4, 3, seed=30, scale=1.5)
    B = 20_000
    data = random_rows(B, 4, seed=31, p=0.2)
    exact = ref.exact_gradient64(data, W, b, c)

    def error(k: int) -> float:
        state = ref.cd_update(ref.CDState.start(W, b, c), data, learning_rate=1.0, seed=32, k=k)
        moves = (state.W - W, state.b - b, state.c - c)
        return max(np.abs(m - g).max() for m, g in zip(moves, exact, strict=True))

    # Only the negative phase is random: means of B values in [0, 1], of deviation at most 1/2.
    # 4.5 deviations cover 19 such means; quantisation and float32 add less than 10^-4.
    tolerance = 4.5 * 0.5 / np.sqrt(B) + 1e-4
    assert error(40) < tolerance
    assert error(1) > 3 * tolerance


def test_persistent_chains_reach_the_model_while_weights_stand_still() -> None:
    W, b, c = random_model(4, 3, seed=33)
    state = ref.CDState.start(W, b, c, np.zeros((20_000, 3), dtype=bool))
    data = random_rows(10, 4, seed=34)
    for _ in range(6):
        state = ref.cd_update(state, data, learning_rate=0.0, seed=35, k=5)
    whole = ref.gibbs(W, b, c, 30, seed=35, h=np.zeros((20_000, 3), dtype=bool))
    assert (state.h_chains == whole.h).all()
    assert (state.W == W).all()
    p_hidden = np.exp(-ref.free_energy64(ref.all_states(3), W.T, c, b))
    assert chi_square_p(state_counts(state.h_chains), p_hidden) > SIGNIFICANCE
