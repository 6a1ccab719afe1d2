"""Learning a distribution, and how probable data are, as one who knows PyTorch writes them.

PCD-k, and log Z by annealed importance sampling: whole batches of chains, float32, in place, one
product a half-step. Call them under `torch.inference_mode()`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from peers import TorchRBM, torch

PAPER_BETAS = np.concatenate(
    [
        np.linspace(0, 0.5, 500, endpoint=False),
        np.linspace(0.5, 0.9, 4000, endpoint=False),
        np.linspace(0.9, 1, 10_000),
    ]
)
"""Of the experiments of Salakhutdinov & Murray (2008), where 100 chains ran through them."""


class TorchPCD(TorchRBM):
    """An RBM that learns by persistent contrastive divergence; its chains live on between calls.

    Parameters
    ----------
    W, b, c : arrays of shape (n_visible, n_hidden), (n_visible,) and (n_hidden,)
    n_chains : int
        Which begin with all hidden units off.
    """

    def __init__(self, W: Any, b: Any, c: Any, n_chains: int) -> None:
        super().__init__(W, b, c)
        self.h = torch.zeros(n_chains, len(self.c))

    def fit(
        self,
        X: Any,
        n_epochs: int,
        batch_size: int,
        n_gibbs_steps: int = 1,
        learning_rate: float | Callable[[int], float] = 0.01,
    ) -> TorchPCD:
        """Go through the rows of X, zeros and ones in float32, in a new order every epoch."""
        for epoch in range(n_epochs):
            rate = learning_rate(epoch) if callable(learning_rate) else learning_rate
            for v in X[torch.randperm(len(X))].split(batch_size):
                self.update(v, n_gibbs_steps, rate)
        return self

    def update(self, v: Any, n_gibbs_steps: int, learning_rate: float) -> None:
        p = self.propup(v)
        for _ in range(n_gibbs_steps):
            v_chain = self.sample(self.propdown(self.h))
            p_chain = self.propup(v_chain)
            self.h = self.sample(p_chain)
        up, down = learning_rate / len(v), -learning_rate / len(v_chain)
        self.W.addmm_(v.t(), p, alpha=up).addmm_(v_chain.t(), p_chain, alpha=down)
        self.b.add_(v.sum(0), alpha=up).add_(v_chain.sum(0), alpha=down)
        self.c.add_(p.sum(0), alpha=up).add_(p_chain.sum(0), alpha=down)


def torch_ais(
    W: Any, b: Any, c: Any, b_base: Any, betas: Sequence[float] | np.ndarray, n_chains: int
) -> tuple[np.ndarray, float]:
    """Estimate log Z by annealed importance sampling (Salakhutdinov & Murray 2008, section 3).

    From the machine without weights and hidden biases, whose visible ones are `b_base`, through
    p*_β(v) = exp(((1 - β) b_base + β b)·v) Πⱼ (1 + exp(β (vW + c)ⱼ)), with a Gibbs step at each β.

    Parameters
    ----------
    W, b, c : arrays or tensors of shape (n_visible, n_hidden), (n_visible,) and (n_hidden,)
    b_base : array or tensor of shape (n_visible,)
        Such as the log odds in the data.
    betas : sequence of float
        From 0 to 1, rising.
    n_chains : int

    Returns
    -------
    log_weights : ndarray of float64 of shape (n_chains,)
    log_z : float
    """
    rbm = TorchRBM(W, b, c)
    base = torch.tensor(np.asarray(b_base, np.float32))
    difference, zero = rbm.b - base, torch.zeros(())
    log_weights = torch.zeros(n_chains, dtype=torch.float64)
    v = rbm.sample(base.sigmoid().expand(n_chains, -1))
    for before, beta in pairwise(betas):
        x = torch.addmm(rbm.c, v, rbm.W)
        log_weights.add_(v.mv(difference), alpha=beta - before)
        # 1.3 to 2 times as fast as softplus is, and as safe.
        ratios = torch.logaddexp(x * beta, zero).sub_(torch.logaddexp(x * before, zero))
        log_weights.add_(ratios.sum(1))
        h = rbm.sample(x.mul_(beta).sigmoid_())
        bias = torch.lerp(base, rbm.b, beta)
        v = rbm.sample(torch.addmm(bias, h, rbm.W.t(), alpha=beta).sigmoid_())
    log_z_base = torch.logaddexp(base.double(), zero.double()).sum() + len(rbm.c) * math.log(2)
    log_mean = torch.logsumexp(log_weights, 0) - math.log(n_chains)
    return log_weights.numpy(), float(log_z_base + log_mean)
