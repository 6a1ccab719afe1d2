"""What benchmarks/ measure against computes what it should."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference as ref
from layouts import random_model

torch = pytest.importorskip("torch", reason="the peers are PyTorch's")

F32 = np.float32


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    module, before = importlib.import_module("peer_likelihood"), torch.get_num_threads()
    torch.set_num_threads(1)  # more would spin after small products
    torch.manual_seed(0)
    with torch.inference_mode():
        yield module
    torch.set_num_threads(before)


@pytest.mark.parametrize("n_visible, n_hidden", [(8, 5), (5, 9)])
def test_annealed_importance_sampling(peers: Any, n_visible: int, n_hidden: int) -> None:
    W, b, c = random_model(n_visible, n_hidden, seed=3, scale=1.0)
    b_base = np.linspace(-1, 1, n_visible).astype(F32)
    exact = ref.log_partition64(W, b, c)
    log_base = ref.softplus64(b_base.astype(np.float64)).sum() + n_hidden * np.log(2)
    few = [0.0, 0.3, 1.0]  # whose weights scatter, but are Z / Z_base in the mean
    for betas, n_chains in ((np.linspace(0, 1, 500), 500), (few, 200_000)):
        log_weights, log_z = peers.torch_ais(W, b, c, b_base, betas, n_chains)
        assert log_weights.shape == (n_chains,)
        assert log_weights.dtype == np.float64
        ratio = np.exp(log_weights - (exact - log_base))
        error = ratio.std() / np.sqrt(n_chains)
        assert error < 0.05
        assert abs(ratio.mean() - 1) < 4 * error
        assert log_z == pytest.approx(exact + np.log(ratio.mean()), abs=1e-5)


def test_importance_sampling_of_the_base_itself(peers: Any) -> None:
    """Without weights there is nothing to estimate, up to float32's rounding."""
    b, c = np.array([90.0, -3, 0.5], F32), np.array([1, -90.0], F32)
    log_weights, log_z = peers.torch_ais(np.zeros((3, 2), F32), b, c, b, np.linspace(0, 1, 10), 4)
    exact = ref.softplus64(b.astype(np.float64)).sum() + ref.softplus64(c.astype(np.float64)).sum()
    assert log_z == pytest.approx(exact, abs=1e-4)
    assert np.ptp(log_weights) == 0


def test_the_papers_temperatures(peers: Any) -> None:
    assert len(peers.PAPER_BETAS) == 14_500
    assert peers.PAPER_BETAS[[0, -1]].tolist() == [0, 1]
    assert (np.diff(peers.PAPER_BETAS) > 0).all()


@pytest.mark.parametrize("n_gibbs_steps, n_chains", [(1, 200), (3, 70)])
def test_pcd_learns_the_distribution(peers: Any, n_gibbs_steps: int, n_chains: int) -> None:
    """Three patterns of six units, a tenth of which are turned.

    Units that know nothing of each other are 0.97 nats behind the rows' own distribution, which is
    the best there is; after so few epochs 0.07 are left, whatever the seed.
    """
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 1, 1, 1, 0], [1, 0, 0, 0, 1, 1]], bool)
    noise = np.random.default_rng(0).random((3000, 6)) < 0.1
    rows = patterns[np.arange(3000) % 3] ^ noise
    _, counts = np.unique(rows, axis=0, return_counts=True)
    best = np.sum(counts / 3000 * np.log(counts / 3000))
    W, b, c = random_model(6, 8, seed=0, scale=0.01)
    rbm, X = peers.TorchPCD(W, b * 0, c * 0, n_chains), torch.from_numpy(rows).float()
    parts = (rbm.fit(X, 1, 100, n_gibbs_steps, 0.2), rbm.fit(X, 40, 100, n_gibbs_steps, rate))
    assert all(part is rbm for part in parts)
    assert rbm.h.shape == (n_chains, 8)
    assert set(rbm.h.unique().tolist()) <= {0.0, 1.0}
    log_p = ref.log_likelihood64(rows, *rbm.parameters()).mean()
    assert best - 0.15 < log_p < best + 1e-9


def rate(epoch: int) -> float:
    return 0.2 / (1 + epoch / 10)


def test_one_update_of_pcd(peers: Any) -> None:
    """By the same draws: W += ε (v⁺ᵀp⁺ / B - v⁻ᵀp⁻ / C), chains going on from h."""
    W, b, c = random_model(7, 5, seed=1)
    rbm, X = peers.TorchPCD(W, b, c, 6), (torch.rand(4, 7) < 0.5).float()
    rbm.h = (torch.rand(6, 5) < 0.5).float()
    h = rbm.h.numpy().copy()
    torch.manual_seed(3)
    rbm.update(X, 2, 0.5)
    torch.manual_seed(3)
    for _ in range(2):
        v = torch.rand(6, 7).numpy() < ref.sigmoid64(h @ W.T + b)
        p_chain = ref.sigmoid64(v @ W + c)
        h = torch.rand(6, 5).numpy() < p_chain
    p = ref.sigmoid64(X.numpy() @ W + c)
    np.testing.assert_array_equal(rbm.h.numpy(), h)
    expected = (
        W + 0.5 * (X.numpy().T @ p / 4 - v.T @ p_chain / 6),
        b + 0.5 * (X.numpy().mean(axis=0) - v.mean(axis=0)),
        c + 0.5 * (p.mean(axis=0) - p_chain.mean(axis=0)),
    )
    for array, wanted in zip(rbm.parameters(), expected, strict=True):
        np.testing.assert_allclose(array, wanted, atol=1e-6)
