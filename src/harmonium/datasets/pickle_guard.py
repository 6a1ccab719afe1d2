"""Read pickled numpy arrays without running anything the pickle names.

An allow-list of numpy's own functions is not enough: a dtype's pickled state may clear the flag
that marks its items as Python objects, and numpy then takes raw bytes for pointers. So the four
names an array's pickle needs are answered by stand-ins that know plain numbers alone.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


class _DType:
    """Stands in for numpy.dtype; knows booleans, integers and floats of fixed size."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, align: object = False, copy: object = False) -> None:
        if not re.fullmatch(r"[<>|=]?(b1|[iu][1248]|f[48])", code):
            raise ValueError(f"dtype {code!r}, expected plain numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, byte_order, subarray, names, fields, *_sizes = state
        if (subarray, names, fields) != (None, None, None):
            raise ValueError("a structured dtype, expected plain numbers")
        self.dtype = self.dtype.newbyteorder(byte_order)


class _Array:
    """Stands in for numpy.ndarray; holds the array once its state has come."""

    __slots__ = ("array",)
    array: NDArray[Any]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _version, shape, dtype, is_fortran, data = state
        if isinstance(data, str):  # a byte string of Python 2, read with encoding="latin1"
            data = data.encode("latin1")
        flat = np.frombuffer(data, dtype=dtype.dtype)
        self.array = flat.reshape(shape, order="F" if is_fortran else "C")


class _Refused(Exception):
    """The pickle names something that no array needs."""


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Bound methods and slotted classes: a pickle cannot set attributes on any of these.
        match module, name:
            case "numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct":
                return self._reconstruct
            case "numpy", "ndarray":
                return _Array
            case "numpy", "dtype":
                return _DType
            case "_codecs", "encode":
                return self._encode
        raise _Refused(f"names {module}.{name}, expected numpy arrays alone; nothing was run")

    def _reconstruct(self, subtype: object, shape: object, code: object) -> _Array:
        if subtype is not _Array:
            raise ValueError(f"array type {subtype!r}, expected numpy.ndarray")
        return _Array()

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"encoding {encoding!r}, expected 'latin1'")
        return text.encode("latin1")


def load_array_pairs(stream: IO[bytes], path: Path) -> list[tuple[NDArray[Any], NDArray[Any]]]:
    """Unpickle a sequence of pairs of numpy arrays, running nothing.

    Parameters
    ----------
    stream : binary file
        Read to its end. Pickles of Python 2, and those of Python 3 up to protocol 4.
    path : pathlib.Path
        For the messages.

    Returns
    -------
    list of (ndarray, ndarray)
        The arrays are read-only.

    Raises
    ------
    ValueError
        If the pickle names anything but what numpy arrays of plain numbers need, is damaged, or
        holds something else than pairs of arrays.
    """
    try:
        pairs = _ArrayUnpickler(stream, encoding="latin1").load()
        arrays = [(first.array, second.array) for first, second in pairs]
        trailing = stream.read(1)
    except _Refused as refusal:
        raise ValueError(f"{path}: refused, for the pickle {refusal}") from None
    except OSError:
        raise
    except Exception as error:  # hostile bytes can make an unpickler raise nearly anything
        raise ValueError(
            f"{path}: unreadable pickle ({type(error).__name__}: {error}), "
            "expected pairs of numpy arrays"
        ) from error
    if trailing:
        raise ValueError(f"{path}: goes on after the pickle's end, expected one pickle")
    return arrays
