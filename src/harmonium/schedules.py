"""Schedules: functions of the epoch for `learning_rate` and `momentum`.

Any function of the epoch, counted from 0, will do for those. The ones here can be pickled, and are
written into model files, where of other functions only their value in the last epoch is.

>>> from harmonium import BernoulliRBM, schedules
>>> rbm = BernoulliRBM(n_iter=30, learning_rate=schedules.linear(0.1, 30))
>>> [rbm.learning_rate(epoch) for epoch in (0, 15)]
[0.1, 0.05]
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from harmonium._checks import check_integer, check_real

__all__ = ["cosine", "inverse_time", "linear"]


@dataclass(frozen=True)
class _Annealing:
    """From one value to another in so many epochs; after them it stays there."""

    start: float
    n_epochs: int
    end: float = 0.0

    def __post_init__(self) -> None:
        # Plain numbers, so that files can hold them.
        object.__setattr__(self, "start", check_real("start", self.start, minimum=0.0))
        object.__setattr__(self, "n_epochs", check_integer("n_epochs", self.n_epochs, minimum=1))
        object.__setattr__(self, "end", check_real("end", self.end, minimum=0.0))


@dataclass(frozen=True)
class linear(_Annealing):
    """The value changes by as much in every epoch.

    start + (end - start)·epoch / n_epochs: the first epoch has `start`, and `end` is what the first
    epoch after them would have, so that a rate which falls to zero is never zero in training.

    Parameters
    ----------
    start : float
        Value in epoch 0, at least 0.
    n_epochs : int
        Epochs it takes: `n_iter`, say.
    end : float, default=0.0
        Value from epoch `n_epochs` on, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is no number, or out of its range.
    """

    def __call__(self, epoch: int) -> float:
        part = min(epoch / self.n_epochs, 1.0)
        return self.start * (1.0 - part) + self.end * part


@dataclass(frozen=True)
class cosine(_Annealing):
    """Half a cosine: the value changes slowly at first, fast in the middle, and slowly at last.

    end + (start - end)·(1 + cos(π·epoch / n_epochs)) / 2 (Loshchilov & Hutter 2017, SGDR,
    equation 5, without restarts).

    Parameters
    ----------
    start : float
        Value in epoch 0, at least 0.
    n_epochs : int
        Epochs it takes: `n_iter`, say.
    end : float, default=0.0
        Value from epoch `n_epochs` on, at least 0.

    Raises
    ------
    TypeError, ValueError
        An argument is no number, or out of its range.
    """

    def __call__(self, epoch: int) -> float:
        part = (1.0 - math.cos(math.pi * min(epoch / self.n_epochs, 1.0))) / 2.0
        return self.start * (1.0 - part) + self.end * part


@dataclass(frozen=True)
class inverse_time:
    """start / (1 + epoch / half_life): half of `start` after `half_life` epochs, a third after two.

    Such rates satisfy the conditions of stochastic approximation, under which training with
    persistent chains converges (Robbins & Monro 1951; Younes 1999).

    Parameters
    ----------
    start : float
        Value in epoch 0, at least 0.
    half_life : float
        Epochs until half of it is left, above 0.

    Raises
    ------
    TypeError, ValueError
        An argument is no number, or out of its range.
    """

    start: float
    half_life: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", check_real("start", self.start, minimum=0.0))
        half_life = check_real("half_life", self.half_life, minimum=0.0, open_minimum=True)
        object.__setattr__(self, "half_life", half_life)

    def __call__(self, epoch: int) -> float:
        return self.start / (1.0 + epoch / self.half_life)
