"""How probable data are under a model."""

from __future__ import annotations

import math

import numpy as np

from harmonium._arrays import words_for
from harmonium.engine.protocol import STATES_A_PIECE, Engine, Float32
from harmonium.rbm import BernoulliRBM

__all__ = ["log_partition"]

MOST_UNITS = 25
"""Of the smaller side: 2²⁵ states take seconds, each unit more twice that."""

_BLOCK = 1 << 16
_PIECES = 256
"""A call: with 784 units on the other side 50 ms, so that Ctrl-C is seen."""


def log_partition(rbm: BernoulliRBM) -> float:
    """Logarithm of the partition function, exactly: by going through all states of one side.

    log Z = log Σ_h exp(c·h + Σᵢ softplus((hWᵀ + b)ᵢ)), or the same over v; in float64, from the
    float32 weights.

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
    if n_visible > n_hidden:
        W, b, c = np.ascontiguousarray(W.T), c, b
    total = _log_sum(engine, W, b, c)
    return _log_sum_by_free_energies(engine, W, b, c) if total is None else total


def _log_sum(engine: Engine, W: Float32, b: Float32, c: Float32) -> float | None:
    """Return the sum over the states of W's rows; None where odds could overflow."""
    n_pieces = max(1, 2 ** len(W) // STATES_A_PIECE)
    sums = []
    for begin in range(0, n_pieces, _PIECES):
        part = engine.log_sum_of_states(W, b, c, begin, min(begin + _PIECES, n_pieces))
        if part is None:
            return None
        sums.append(part)
    return float(np.logaddexp.reduce(sums))


def _log_sum_by_free_energies(engine: Engine, W: Float32, b: Float32, c: Float32) -> float:
    """Return the same for weights of any size, at a tenth of the speed."""
    machine = engine.machine(W, b, c, "float32")
    n_units = len(W)
    total = -math.inf
    for first in range(0, 1 << n_units, _BLOCK):
        states = np.arange(first, min(first + _BLOCK, 1 << n_units), dtype=np.uint64)
        words = np.zeros((len(states), words_for(n_units)), np.uint64)
        words[:, 0] = states
        energies = np.empty(len(states))
        machine.free_energy(engine.rows_of_bits(words, n_units), energies)
        total = float(np.logaddexp.reduce(np.append(-energies, total)))
    return total
