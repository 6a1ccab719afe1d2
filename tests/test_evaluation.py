"""How probable data are: sums over all states, against plain enumeration in float64."""

from __future__ import annotations

import numpy as np
import pytest

from harmonium import BernoulliRBM, _core
from harmonium.engine.protocol import STATES_A_PIECE
from harmonium.evaluation import log_likelihood, log_partition

F32 = np.float32


def enumerated(W: np.ndarray, bias: np.ndarray, output_bias: np.ndarray) -> float:
    """Go through the states of W's rows one by one."""
    W, bias, output_bias = (array.astype(np.float64) for array in (W, bias, output_bias))
    states = (np.arange(2 ** len(W))[:, None] >> np.arange(len(W))) & 1
    terms = states @ bias + np.logaddexp(0, states @ W + output_bias).sum(axis=1)
    return float(np.logaddexp.reduce(terms))


def parameters(n: int, n_outputs: int, scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(n * n_outputs)
    shapes = ((n, n_outputs), (n,), (n_outputs,))
    return [rng.normal(0, scale, shape).astype(F32) for shape in shapes]


def machine(W: np.ndarray, b: np.ndarray, c: np.ndarray) -> BernoulliRBM:
    rbm = BernoulliRBM(len(c), n_iter=0, random_state=0).fit(np.eye(len(b), dtype=F32))
    rbm.components_, rbm.intercept_visible_, rbm.intercept_hidden_ = W.T, b, c
    return rbm


@pytest.mark.parametrize(
    ("n", "n_outputs"), [(1, 1), (2, 31), (3, 32), (7, 33), (12, 65), (13, 127), (14, 20)]
)
@pytest.mark.parametrize("scale", [0.1, 1.0, 6.0])
def test_sums_over_all_states(isa: str, n: int, n_outputs: int, scale: float) -> None:
    W, bias, output_bias = parameters(n, n_outputs, scale)
    n_pieces = max(1, 2**n // STATES_A_PIECE)
    total = _core.log_sum_of_states(W, bias, output_bias, 0, n_pieces, 2)
    # 4096 products one after the other, each rounded, of which 127 add up: some 1e-11 of a nat.
    assert total == pytest.approx(enumerated(W, bias, output_bias), rel=1e-14, abs=1e-10)
    for n_threads in (1, 3):
        assert _core.log_sum_of_states(W, bias, output_bias, 0, n_pieces, n_threads) == total


def test_pieces_add_up() -> None:
    W, bias, output_bias = parameters(15, 40)
    parts = [
        _core.log_sum_of_states(W, bias, output_bias, begin, end, 1)
        for begin, end in ((0, 1), (1, 5), (5, 8))
    ]
    whole = _core.log_sum_of_states(W, bias, output_bias, 0, 8, 1)
    assert np.logaddexp.reduce(parts) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_odds_that_could_overflow_are_told(which: int) -> None:
    arrays = parameters(5, 9)
    arrays[which].flat[-1] = 590
    near = _core.log_sum_of_states(*arrays, 0, 1, 1)
    assert near == pytest.approx(enumerated(*arrays), rel=1e-12)
    for value in (600, -600, np.nan, np.inf):
        arrays[which].flat[-1] = value
        assert _core.log_sum_of_states(*arrays, 0, 1, 1) is None


@pytest.mark.parametrize(("n_visible", "n_hidden"), [(4, 9), (9, 4), (30, 13), (70, 12)])
@pytest.mark.parametrize("scale", [0.5, 300.0])
def test_log_partition(n_visible: int, n_hidden: int, scale: float) -> None:
    """With the larger scale through free energies, float32 sums of some thousand."""
    W, b, c = parameters(n_visible, n_hidden, scale)
    small = (W, b, c) if n_visible <= n_hidden else (W.T, c, b)
    tolerance = 1e-13 if scale < 1 else 1e-6
    assert log_partition(machine(W, b, c)) == pytest.approx(enumerated(*small), rel=tolerance)


def test_probabilities_of_all_rows_add_up_to_one() -> None:
    rbm = machine(*parameters(10, 6))
    rows = (np.arange(1024)[:, None] >> np.arange(10) & 1).astype(F32)
    total = np.logaddexp.reduce(-rbm.set_params(precision="float32").free_energy(rows))
    assert total == pytest.approx(log_partition(rbm), abs=1e-5)


def test_a_likelihood_is_annealed_from_the_models_own_means() -> None:
    """Not from those of the rows, which may be where the model is not."""
    rbm, few = machine(*parameters(20, 15)), {"n_chains": 20, "betas": 50, "random_state": 1}
    found = log_likelihood(rbm, np.zeros((3, 20), bool), method="ais", **few)
    assert found.log_z == log_partition(rbm, "ais", **few)


def test_too_many_units_are_told() -> None:
    with pytest.raises(ValueError, match="up to 25 units; this machine has 26 visible and 30 hid"):
        log_partition(machine(*parameters(26, 30)))
