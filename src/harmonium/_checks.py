"""Checks of scalar arguments, shared by everything public: one wording, one set of errors."""

from __future__ import annotations

import math
from collections.abc import Collection
from numbers import Integral, Real
from types import NoneType
from typing import Any

import numpy as np


def check_integer(
    name: str, value: Any, *, minimum: int | None = None, below: int | None = None
) -> int:
    """Return `value` as an int, or raise a TypeError or ValueError that says what was expected."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}")
    number = int(value)
    if minimum is not None and number < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {number}")
    if below is not None and number >= below:
        raise ValueError(f"{name} must be below {below}, got {number}")
    return number


def check_real(
    name: str,
    value: Any,
    *,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    open_minimum: bool = False,
    open_maximum: bool = False,
) -> float:
    """Return `value` as a finite float in the range, or raise as `check_integer` does."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r} of type {type(value).__name__}")
    number = float(value)
    too_low = number <= minimum if open_minimum else number < minimum
    too_high = number >= maximum if open_maximum else number > maximum
    if not math.isfinite(number) or too_low or too_high:
        left = "(" if open_minimum or minimum == -math.inf else "["
        right = ")" if open_maximum or maximum == math.inf else "]"
        interval = f"{left}{minimum:g}, {maximum:g}{right}"
        raise ValueError(f"{name} must be a finite number in {interval}, got {value!r}")
    return number


def check_word(name: str, value: Any, words: Collection[str | bool | None]) -> None:
    """Raise a ValueError that lists `words` unless `value` is one of them."""
    if not isinstance(value, (str, NoneType)) or value not in words:
        known = ", ".join(repr(word) for word in words)
        raise ValueError(f"{name} must be one of {known}; got {value!r}")


def check_bool(name: str, value: Any) -> None:
    """Raise a TypeError unless `value` is True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_verbose(value: Any) -> None:
    """Raise unless `value` is a boolean or an integer from 0 on."""
    if not isinstance(value, (bool, np.bool_)):
        check_integer("verbose", value, minimum=0)
