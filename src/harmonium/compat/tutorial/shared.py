"""Parameters that several models share and training changes in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import numpy as np

from harmonium._arrays import copy_in_lines
from harmonium.engine.protocol import Array, Float32

Made = TypeVar("Made")


class SharedArray(np.ndarray[Any, np.dtype[np.float32]]):
    """A float32 array that models share: what a Theano shared variable was to the tutorials.

    It always shows the current values, since training writes to its memory. NumPy can only read
    it: new values go through :meth:`set_value`, so that whatever was made of the old ones (weights
    in 16 bits, say) is known to be out of date. What is computed from it is an array like any
    other; a part of it, or its transpose, is a view that can only be read.

    Parameters
    ----------
    value : array-like of numbers
        Copied, as float32.

    Examples
    --------
    >>> import numpy as np
    >>> W = SharedArray(np.zeros((2, 3)))
    >>> W.set_value(np.ones((2, 3)))
    >>> float(W.sum()), W.get_value().dtype.name
    (6.0, 'float32')
    """

    # Of those that were made; their views and copies have none.
    _memory: Float32 | None = None
    _version: int = 0

    def __new__(cls, value: Any) -> SharedArray:
        values = np.asarray(value)
        if values.dtype.kind not in "biuf":
            raise TypeError(f"value must be an array of numbers, got {values.dtype}")
        memory = copy_in_lines(values) if values.ndim == 2 else np.array(values, np.float32)
        shared = memory.view(cls)
        shared.flags.writeable = False
        shared._memory = memory
        return shared

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        return np.asarray(array)[()]  # of an array of no dimensions, its number

    @property
    def is_whole(self) -> bool:
        """Whether this is an array that can be shared, not a part or a copy of one."""
        return self._memory is not None

    @property
    def memory(self) -> Float32:
        """The same values where they can be written to. Who does so calls :meth:`changed`."""
        if self._memory is None:
            raise TypeError(
                "this is a part or a copy of a SharedArray, which nobody shares: it has no values "
                "to set"
            )
        return self._memory

    @property
    def version(self) -> int:
        """How often the values have been changed."""
        return self._version

    def changed(self) -> None:
        """Note that the values are others now."""
        self._version += 1

    def get_value(self, borrow: bool = False) -> Array:
        """Return a copy of the values or, with `borrow`, a read-only view of them."""
        view = np.asarray(self)
        return view if borrow else view.copy()

    def set_value(self, value: Any, borrow: bool = False) -> None:
        """Write new values, for everyone who shares the array.

        Parameters
        ----------
        value : array-like of finite numbers, of the same shape
        borrow : ignored
            The values are always copied.

        Raises
        ------
        ValueError
            The shape is another, or a value is not finite.
        TypeError
            This is a part or a copy of a SharedArray.
        """
        memory = self.memory
        values = np.asarray(value, np.float32)
        if values.shape != self.shape:
            raise ValueError(f"value must have shape {self.shape}, got {values.shape}")
        if not np.isfinite(values).all():
            raise ValueError("value must be finite, got NaN or infinity")
        memory[...] = values
        self.changed()

    def __reduce__(self) -> Any:
        return type(self), (self.get_value(),)

    def __copy__(self) -> SharedArray:
        return type(self)(self)

    def __deepcopy__(self, memo: Any) -> SharedArray:
        return type(self)(self)


def parameter(
    name: str, value: Any, shape: tuple[int, ...], first: Callable[[], Any]
) -> SharedArray:
    """Return the parameter a user gave, or one with the values of `first` if that is None."""
    if value is None:
        return SharedArray(first())
    if np.shape(value) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {np.shape(value)}")
    if isinstance(value, SharedArray) and value.is_whole:
        return value
    shared = SharedArray(value)
    if not np.isfinite(shared).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return shared


def versions(arrays: Iterable[SharedArray]) -> tuple[int, ...]:
    """Return what tells whether any of the arrays was changed in between."""
    return tuple(array.version for array in arrays)


class Derived(Generic[Made]):
    """What is made of some shared arrays, and made anew once they have changed."""

    def __init__(self, make: Callable[[], Made], *arrays: SharedArray) -> None:
        self._make = make
        self._arrays = arrays
        self._versions: tuple[int, ...] | None = None
        self._value: Made

    def __call__(self) -> Made:
        now = versions(self._arrays)
        if now != self._versions:
            self._value = self._make()
            self._versions = now
        return self._value
