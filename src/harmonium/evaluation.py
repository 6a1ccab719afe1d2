"""How probable data are under a model."""

from __future__ import annotations

import math

import numpy as np

from harmonium._arrays import words_for
from harmonium.rbm import BernoulliRBM

__all__ = ["log_partition"]

MOST_UNITS = 25
"""Of the smaller side: 2²⁵ states take seconds to minutes, each unit more twice that."""

_BLOCK = 1 << 16


def log_partition(rbm: BernoulliRBM) -> float:
    """Logarithm of the partition function, exactly: by going through all states of one side.

    log Z = log Σ_h exp(c·h + Σᵢ softplus((hWᵀ + b)ᵢ)), or the same over v.

    Parameters
    ----------
    rbm : BernoulliRBM
        Fitted, with at most 25 units on its smaller side.

    Returns
    -------
    float
        In nats; log p(v) = -F(v) - log Z.

    Raises
    ------
    ValueError
        Both sides have too many units, or some are labels, of which only one can be on.
    """
    if rbm._n_labels:
        raise ValueError("log Z is of machines without labels; this one is the top of a DBN with")
    engine = rbm._ready()[0]
    W, b, c = rbm._parameters()
    n_visible, n_hidden = W.shape
    if min(W.shape) > MOST_UNITS:
        raise ValueError(
            f"log Z goes through all states of one side, which may have up to {MOST_UNITS} units; "
            f"this machine has {n_visible} visible and {n_hidden} hidden ones"
        )
    if n_visible <= n_hidden:
        machine = engine.machine(W, b, c, "auto")
    else:
        machine = engine.machine(np.ascontiguousarray(W.T), c, b, "auto")
    n_units = min(W.shape)
    total = -math.inf
    for first in range(0, 1 << n_units, _BLOCK):
        states = np.arange(first, min(first + _BLOCK, 1 << n_units), dtype=np.uint64)
        words = np.zeros((len(states), words_for(n_units)), np.uint64)
        words[:, 0] = states
        energies = np.empty(len(states))
        machine.free_energy(engine.rows_of_bits(words, n_units), energies)
        total = float(np.logaddexp.reduce(np.append(-energies, total)))
    return total
