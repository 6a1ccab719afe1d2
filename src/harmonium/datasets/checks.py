"""Checks of arguments that several loaders share."""

from __future__ import annotations

import operator
from collections.abc import Sequence


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `choices`."""
    if value not in choices:
        expected = ", ".join(map(repr, choices))
        raise ValueError(f"{name}={value!r}: expected one of {expected}")


def check_integer(name: str, value: object, minimum: int = 0) -> int:
    """Return `value` as an int; TypeError if it is none (bool included), ValueError if small."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(
            f"{name}={value!r} is of type {type(value).__name__}: expected an integer"
        ) from None
    if number < minimum:
        raise ValueError(f"{name}={number}: expected an integer of at least {minimum}")
    return number
