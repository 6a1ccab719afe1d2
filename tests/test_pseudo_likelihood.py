"""The exact pseudo-likelihood: bits against the reference, and every unit flipped in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference as ref
import scipy.sparse
from layouts import packed, random_bits, random_model, random_reals, same_bits

from harmonium import DBN, BernoulliRBM, _core
from harmonium.engine import get_engine
from harmonium.evaluation import pseudo_log_likelihood

F32 = np.float32
EPS = float(np.finfo(F32).eps)

Model = tuple[np.ndarray, np.ndarray, np.ndarray]


def exact(
    rows: np.ndarray, model: Model, precision: Any = "auto", n_threads: int = 1, n_labels: int = 0
) -> np.ndarray:
    engine, out = get_engine(n_threads=n_threads), np.empty(len(rows))
    kind = engine.rows_of_bytes if rows.dtype == bool else engine.rows_of_reals
    machine = engine.machine(*model, precision, n_labels)
    machine.exact_pseudo_likelihood(kind(rows), 0, len(rows), out)
    return out


def weights_used(model: Model, precision: str) -> Model:
    """With W as the integer path has it."""
    if precision == "float32":
        return model
    q, s = ref.quantize(model[0])
    return (q * s.astype(np.float64)), *model[1:]


def flip_by_flip(v: np.ndarray, model: Model, n_labels: int = 0) -> np.ndarray:
    """The same of real rows, in float64; flipped they are 1 - v."""
    v, (W, b, c) = v.astype(np.float64), (array.astype(np.float64) for array in model)
    F, total = ref.free_energy64(v, W, b, c), np.zeros(len(v))
    for i in range(v.shape[1] - n_labels):
        flipped = v.copy()
        flipped[:, i] = 1 - v[:, i]
        total -= ref.softplus64(F - ref.free_energy64(flipped, W, b, c))
    return total


def tolerance(v: np.ndarray, model: Model) -> float:
    """For each unit: ten roundings a factor, and what x is off by, which D is at most twice.

    Errors of random sign: of H factors √H count, of V terms √V; six times that.
    """
    W, _, c = (np.abs(array).astype(np.float64) for array in model)
    x = (v @ W + c).max()
    n_visible, n_hidden = W.shape
    return 6 * EPS * float(np.sqrt(n_visible * n_hidden) * (10 + 2 * x * np.minimum(W, 1).mean()))


@pytest.mark.parametrize(
    ("n_visible", "n_hidden", "scale"),
    [(1, 1, 0.5), (3, 63, 1.0), (17, 65, 0.5), (70, 37, 3.0), (129, 130, 0.2), (20, 300, 8.0)],
)
def test_bits_of_the_reference(isa: str, n_visible: int, n_hidden: int, scale: float) -> None:
    """The largest weights pass 10 and 30, where exponents are taken out on the way."""
    model = random_model(n_visible, n_hidden, seed=8, scale=scale)
    v = random_bits(37, n_visible, seed=9)
    out = exact(v, model)
    # The same float32 values, but where NumPy's logarithm differs from the C library's in the last
    # bit, and that turns the rounding of a D: once in 10⁸.
    np.testing.assert_allclose(out, ref.exact_pseudo_likelihood(v, *model), rtol=1e-12)
    for n_threads in (2, 7):
        assert same_bits(exact(v, model, n_threads=n_threads), out)


def test_all_levels_compute_the_same_bits() -> None:
    model, v = random_model(33, 300, seed=2, scale=8.0), random_bits(300, 33, seed=3)
    before, results = _core.active_isa(), set()
    try:
        for level in _core.available_isas():
            _core.set_isa(level)
            results.add(exact(v, model).tobytes())
    finally:
        _core.set_isa(before)
    assert len(results) == 1


@pytest.mark.parametrize("precision", ["auto", "float32"])
@pytest.mark.parametrize(
    ("n_visible", "n_hidden", "scale"), [(1, 1, 0.5), (65, 17, 1.0), (40, 130, 9.0), (9, 70, 90.0)]
)
def test_every_unit_flipped(
    isa: str, precision: Any, n_visible: int, n_hidden: int, scale: float
) -> None:
    """With weights above 40, the last, by softplus."""
    model = random_model(n_visible, n_hidden, seed=4, scale=scale)
    assert (np.abs(model[0]).max() > 40) == (scale > 9)
    v = random_bits(50, n_visible, seed=5)
    used = weights_used(model, precision)
    expected = ref.pseudo_log_likelihood_exact64(v, *used)
    atol = tolerance(v, used)
    np.testing.assert_allclose(exact(v, model, precision), expected, rtol=EPS, atol=atol)


@pytest.mark.parametrize("scale", [0.3, 60.0])
def test_real_rows(isa: str, scale: float) -> None:
    """Some values are 0 and 1, where the product is taken, and some are not."""
    model, v = random_model(33, 70, seed=6, scale=scale), random_reals(40, 33, seed=7)
    v[v < 0.3], v[v > 0.8] = 0, 1
    v[3] = v[3] > 0.5
    atol = tolerance(v, model)
    np.testing.assert_allclose(exact(v, model), flip_by_flip(v, model), rtol=EPS, atol=atol)


def test_labels_are_not_flipped() -> None:
    model, v = random_model(20, 9, seed=8, scale=0.5), random_bits(40, 20, seed=9)
    out = exact(v, model, n_labels=15)
    np.testing.assert_allclose(out, ref.exact_pseudo_likelihood(v, *model, n_labels=15), rtol=EPS)
    np.testing.assert_allclose(out, flip_by_flip(v, model, 15), atol=tolerance(v, model))


def test_what_is_no_number_is_told(isa: str) -> None:
    W, b, c = random_model(5, 70, seed=0)
    v = random_bits(9, 5, seed=1)
    for array in (b, c):
        before, array[-1] = array[-1], np.nan
        assert np.isnan(exact(v, (W, b, c))).all()
        assert np.isnan(exact(v, (W, b, c), "float32")).all()
        array[-1] = before
    W[2, 3] = np.nan
    assert np.isnan(exact(v[v[:, 2]], (W, b, c), "float32")).all()


def test_some_of_the_rows() -> None:
    model, v = random_model(30, 20, seed=1), random_bits(600, 30, seed=2)
    engine, whole = get_engine(), exact(v, model)
    machine, rows = engine.machine(*model, "auto"), engine.rows_of_bits(packed(v), 30)
    out = np.full(420, 7.0)
    machine.exact_pseudo_likelihood(rows, 100, 400, out[10:410])
    assert same_bits(out[10:410], whole[100:500])
    assert (out[:10] == 7).all()
    assert (out[410:] == 7).all()


# ------------------------------------------------------------------ harmonium.evaluation


def machine(W: np.ndarray, b: np.ndarray, c: np.ndarray, **parameters: Any) -> BernoulliRBM:
    rbm = BernoulliRBM(len(c), n_iter=0, random_state=0, **parameters)
    rbm.fit(np.eye(len(b), dtype=F32))
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = W.T, b, c
    return rbm


def test_by_the_joint_distribution() -> None:
    """log p(v_i | the rest) from the probabilities of all states: p(v) / (p(v) + p(flipped))."""
    model = random_model(5, 3, seed=11)
    states = (np.arange(32)[:, None] >> np.arange(5) & 1).astype(bool)
    W, b, c = (array.astype(np.float64) for array in model)
    p = np.zeros(32)
    for h in (np.arange(8)[:, None] >> np.arange(3) & 1).astype(np.float64):
        p += np.exp(states @ b + h @ c + states @ W @ h)
    flipped = p[np.arange(32)[:, None] ^ (1 << np.arange(5))]
    expected = np.log(p[:, None] / (p[:, None] + flipped)).sum(axis=1)
    # 16-bit weights of up to 2 are off by 2⁻¹⁶, three to a D, of which there are five.
    out = pseudo_log_likelihood(machine(*model), states)
    assert out.dtype == np.float64
    np.testing.assert_allclose(out, expected, atol=15 * 2.0**-16)
    single = machine(*model, precision="float32")
    np.testing.assert_allclose(pseudo_log_likelihood(single, states), expected, atol=50 * EPS)


def test_any_form_of_X() -> None:
    rbm, v = machine(*random_model(30, 20, seed=1)), random_bits(3000, 30, seed=2)
    before, out = v.copy(), pseudo_log_likelihood(rbm, v)
    assert same_bits(pseudo_log_likelihood(rbm, v.astype(np.float64)), out)
    assert same_bits(pseudo_log_likelihood(rbm, scipy.sparse.csr_array(v)), out)
    np.testing.assert_array_equal(v, before)
    beyond = v * F32(1.5)  # taken as it is
    expected = flip_by_flip(beyond[:20], rbm._parameters())
    np.testing.assert_allclose(pseudo_log_likelihood(rbm, beyond[:20]), expected, rtol=1e-5)


def test_stochastic() -> None:
    rbm, v = machine(*random_model(12, 7, seed=1)), random_bits(2, 12, seed=2)
    rows = v.repeat(4000, axis=0)
    scores = pseudo_log_likelihood(rbm, rows, method="stochastic")
    assert same_bits(scores, rbm.score_samples(rows))
    drawn = pseudo_log_likelihood(rbm, rows, method="stochastic", random_state=5)
    again = pseudo_log_likelihood(rbm, rows, method="stochastic", random_state=5)
    assert same_bits(drawn, again)
    assert not same_bits(drawn, scores)
    mean, error = drawn.reshape(2, 4000).mean(axis=1), drawn.reshape(2, 4000).std(axis=1) / 63
    assert (np.abs(mean - pseudo_log_likelihood(rbm, v)) < 5 * error).all()


def test_top_of_a_dbn_with_labels() -> None:
    v = random_bits(40, 12, seed=0)
    dbn = DBN(6, label_units=True, rbm=BernoulliRBM(n_iter=1), random_state=0)
    top = dbn.fit(v, np.arange(40) % 3).rbms_[-1]
    rows = np.concatenate([v, np.eye(3, dtype=bool)[np.arange(40) % 3]], axis=1)
    expected = flip_by_flip(rows, top._parameters(), n_labels=3)
    np.testing.assert_allclose(pseudo_log_likelihood(top, rows), expected, atol=1e-3)


def test_what_is_refused() -> None:
    rbm = machine(*random_model(5, 3, seed=1))
    with pytest.raises(ValueError, match="method must be one of 'exact', 'stochastic'; got 'fast'"):
        pseudo_log_likelihood(rbm, np.zeros((2, 5)), method="fast")
    for method in ("exact", "stochastic"):
        with pytest.raises(ValueError, match="X has 4 features"):
            pseudo_log_likelihood(rbm, np.zeros((2, 4)), method=method)
        with pytest.raises(ValueError, match="NaN"):
            pseudo_log_likelihood(rbm, np.full((2, 5), np.nan), method=method)
