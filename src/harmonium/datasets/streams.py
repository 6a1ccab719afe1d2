"""Open data files, gzip'ed or not, and read no more than they really hold."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

CHUNK = 1 << 20


@contextmanager
def open_data(path: Path) -> Iterator[IO[bytes]]:
    """Open `path` for reading, gunzipped where its first two bytes say gzip.

    The bytes decide, not the name: browsers and unpackers like to leave ``.gz`` on plain files.
    Damage to the gzip stream, met anywhere in the ``with`` block, raises ValueError.
    """
    with path.open("rb") as raw:
        is_gzip = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        if not is_gzip:
            yield raw
            return
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                yield cast(IO[bytes], stream)
        except (gzip.BadGzipFile, zlib.error, EOFError) as error:
            raise ValueError(
                f"{path}: damaged gzip file ({error}), expected a whole one"
            ) from error


def read_exactly(stream: IO[bytes], count: int, path: Path) -> bytearray:
    """Return the `count` bytes that a header announced and `stream` must end with.

    The buffer grows with what arrives, so a lying header costs no more memory than the file holds.

    Raises
    ------
    ValueError
        If the stream ends earlier or goes on.
    """
    data = bytearray()
    while len(data) < count and (piece := stream.read(min(CHUNK, count - len(data)))):
        data += piece
    if len(data) < count:
        raise ValueError(
            f"{path}: holds {len(data)} bytes of data, expected the {count} its header announces"
        )
    if stream.read(1):
        raise ValueError(f"{path}: goes on after the {count} bytes of data its header announces")
    return data
