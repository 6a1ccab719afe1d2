"""The one place where harmonium writes and reads files of arrays.

Files are `safetensors <https://github.com/huggingface/safetensors>`_: raw arrays behind a JSON
table, readable from any language and unable to carry code. A file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

__all__ = ["FORMAT_VERSION", "load_arrays", "save_arrays", "write_atomically"]

FORMAT_VERSION = 1
"""Version of the layout that `save_arrays` writes; `load_arrays` reads this one and older."""

_SEAL = -len(', "crc32": "01234567"}')  # where the checksum begins, counted from the end


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Replace a file in one step, or leave it as it was.

    The body of the ``with`` statement writes to the temporary path it is given. When it ends well,
    the bytes are forced to disk and renamed to `path`; a reader, or a machine that loses power,
    sees the whole old file or the whole new one. When it raises, the temporary file is removed and
    the error goes on to the caller. Only a killed process leaves its temporary file behind, named
    ``.harmonium-*.tmp`` plus the suffix of `path`.

    Parameters
    ----------
    path : str or path-like
        File to create or replace. A symbolic link is followed: the file behind it is replaced. A
        new file gets the permissions that `open` would give it; a replaced one keeps its own.

    Yields
    ------
    pathlib.Path
        An empty file in the same folder, with the same suffix, to be written by name.

    Raises
    ------
    OSError
        If the file can't be written. The subclass follows the cause: `FileNotFoundError` for a
        missing folder, `PermissionError`, `IsADirectoryError`, plain `OSError` for a full disk or
        for a `path` that is a device or a pipe. The message names `path`.

    Examples
    --------
    >>> with write_atomically("notes.txt") as temporary:  # doctest: +SKIP
    ...     temporary.write_text("all of it, or nothing")
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".harmonium-{secrets.token_hex(6)}.tmp{target.suffix}")
    with _naming(path, "write"):
        old_mode = _mode_to_keep(target)
        # 0o666 is narrowed by the umask, as in open(). While an old file's permissions wait to be
        # restored, nobody else may read what could be private.
        mode = 0o666 if old_mode is None else 0o600
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))
    try:
        yield temporary
        with _naming(path, "write"):
            _sync(temporary, os.O_RDWR)
            if old_mode is not None:
                os.chmod(temporary, old_mode)
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    # The new file is in place and whole; some file systems can't sync a folder, and then the rename
    # merely reaches the disk a little later.
    if os.name == "posix":
        with contextlib.suppress(OSError):
            _sync(target.parent, os.O_RDONLY)


def save_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    header: Mapping[str, Any],
) -> None:
    """Write named arrays and a JSON header to one safetensors file, atomically.

    Equal arguments give equal bytes. An existing file is replaced in one step, and kept if
    anything goes wrong (see `write_atomically`).

    Parameters
    ----------
    path : str or path-like
        File to create or replace; its folder must exist.
    arrays : mapping of str to ndarray
        Arrays of any shape, memory layout and byte order; dtype bool, float16 to float64, or a
        signed or unsigned integer of 8 to 64 bits. The name ``"__metadata__"`` is taken.
    header : mapping of str to JSON value
        What else is needed to use the arrays. NumPy scalars become Python numbers, tuples become
        lists. NaN and infinities are kept. The keys ``"format_version"`` and
        ``"crc32"`` are taken.

    Raises
    ------
    TypeError
        If an array is not an array, has another dtype, or the header holds what JSON can't.
    ValueError
        If a name that is taken is used.
    OSError
        If the file can't be written (`FileNotFoundError`, `PermissionError`, ... by cause).

    See Also
    --------
    load_arrays : Read such a file.
    """
    tensors = {name: _plain_array(name, array) for name, array in arrays.items()}
    # One key alone: safetensors writes several in an order that changes from run to run.
    metadata = {"harmonium": _sealed(_header_to_json(header), tensors)}
    # To bytes first and written by Python, not by safetensors.numpy.save_file: that one reports a
    # full disk as a SafetensorError without an errno.
    content = save(tensors, metadata=metadata)
    with write_atomically(path) as temporary, _naming(path, "write"):
        temporary.write_bytes(content)


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read a file written by `save_arrays`, checking that it is whole and unchanged.

    Nothing in the file is ever executed.

    Parameters
    ----------
    path : str or path-like
        The file.

    Returns
    -------
    arrays : dict of str to ndarray
        The arrays as saved: C-contiguous, writable, native byte order, names sorted.
    header : dict
        The header as saved.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        If there is no such file or it can't be read.
    ValueError
        If the file is empty, truncated, damaged, not written by harmonium, or written by a newer
        harmonium with a ``format_version`` above `FORMAT_VERSION`.

    See Also
    --------
    save_arrays : Write such a file.
    """
    with _naming(path, "read"):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise _unreadable(path, "it is a device or a pipe")  # opening a pipe could wait forever
        with open(path, "rb"):  # its errors are plainer than those of safe_open
            pass
    if status.st_size == 0:
        raise _unreadable(path, "it is empty")
    try:
        with safe_open(path, framework="np") as opened:
            metadata = opened.metadata() or {}
            if "harmonium" not in metadata:
                raise _unreadable(path, "it is a safetensors file of another program")
            text = metadata["harmonium"]
            header = _json_to_header(path, text)
            arrays = {name: opened.get_tensor(name) for name in sorted(opened.keys())}
            for array in arrays.values():
                if array.dtype.kind not in "biuf":  # bfloat16, where a package teaches NumPy that
                    raise TypeError(f"dtype {array.dtype}")
    except (SafetensorError, TypeError, AttributeError) as error:  # the last two: bfloat16, float8
        raise _unreadable(path, f"it is damaged, cut short or of another kind ({error})") from error
    if text != _sealed(text[:_SEAL] + "}", arrays):
        raise _unreadable(path, "it is damaged: its contents don't match its checksum")
    return arrays, header


@contextlib.contextmanager
def _naming(path: str | os.PathLike[str], verb: str) -> Iterator[None]:
    """Turn an OSError into one of the same kind whose sentence names the user's file."""
    try:
        yield
    except OSError as error:
        code = error.errno or errno.EIO
        reason = (error.strerror or str(error)).lower()
        folder = os.path.dirname(path) or os.curdir
        if code == errno.ENOENT and not os.path.isdir(folder):
            reason = f"there is no folder {folder!r}"
        # OSError picks the subclass by the number.
        raise OSError(code, f"cannot {verb} the file, {reason}", os.fspath(path)) from error


def _mode_to_keep(target: Path) -> int | None:
    """Return the permissions of the file to be replaced; OSError if it may not be replaced."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "it is a folder")
    if not stat.S_ISREG(mode):  # a rename would put a file in the place of /dev/null
        raise OSError(errno.EINVAL, "it is a device or a pipe")
    if not os.access(target, os.W_OK):  # a rename would pass over a file made read-only
        raise OSError(errno.EACCES, "it is read-only")
    return stat.S_IMODE(mode)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain_array(name: str, array: np.ndarray) -> np.ndarray:
    """Return the array in C order and little-endian, copied only if it isn't already."""
    if not isinstance(name, str):
        raise TypeError(f"array names must be str, got {name!r}")
    if name == "__metadata__":
        raise ValueError("the array name '__metadata__' is taken by the file format")
    if not isinstance(array, np.ndarray):
        raise TypeError(f"array {name!r}: expected an ndarray, got {type(array).__name__}")
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise TypeError(
            f"array {name!r}: expected bool, integers or floats of at most 64 bits a value, "
            f"got dtype {array.dtype}"
        )
    # safetensors writes the buffer as it lies in memory, so a transposed or strided view would
    # silently come back as other numbers. (ascontiguousarray would make 0-d arrays 1-d.)
    return np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")


def _header_to_json(header: Mapping[str, Any]) -> str:
    for taken in ("format_version", "crc32"):
        if taken in header:
            raise ValueError(f"header: the key {taken!r} is taken by the file format")

    def plain(value: object) -> Any:
        if isinstance(value, np.generic):
            return value.item()
        raise TypeError(f"header: expected JSON values, got {type(value).__name__}")

    return json.dumps({"format_version": FORMAT_VERSION, **header}, default=plain)


def _json_to_header(path: str | os.PathLike[str], text: str) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(text)
        version = header.pop("format_version")
        header.pop("crc32", None)
        newer = version > FORMAT_VERSION
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(path, "its header is damaged") from error
    if newer:
        raise _unreadable(
            path,
            f"its format_version is {version} and this harmonium reads up to {FORMAT_VERSION}; "
            "upgrade harmonium",
        )
    return header


def _sealed(text: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Add to a JSON object the CRC-32 of itself and the arrays; safetensors has no checksum."""
    crc = zlib.crc32(text.encode())
    for name, array in sorted(arrays.items()):
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.data, crc)
    return f'{text[:-1]}, "crc32": "{crc:08x}"}}'


def _unreadable(path: str | os.PathLike[str], reason: str) -> ValueError:
    return ValueError(
        f"cannot load {os.fspath(path)!r}, expected a safetensors file written by harmonium: "
        f"{reason}"
    )
