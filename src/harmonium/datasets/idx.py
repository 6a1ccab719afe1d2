"""IDX, the format MNIST was published in.

Two zero bytes, a type code (8: unsigned byte), the rank, one big-endian uint32 size per axis, data.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .streams import open_data, read_exactly


def read_idx(path: Path, rank: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, gzip'ed or not.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    rank : int
        The number of axes it must have: 3 for images, 1 for labels.

    Returns
    -------
    ndarray of uint8
        Shape as the header says.

    Raises
    ------
    ValueError
        If the file is no IDX file of unsigned bytes and this rank, has an axis of size zero, or
        holds fewer or more bytes than its header announces.
    """
    expected = bytes((0, 0, 8, rank))
    with open_data(path) as stream:
        magic = stream.read(4)
        if magic != expected:
            raise ValueError(
                f"{path}: begins with {magic.hex(' ') or 'nothing'}, expected {expected.hex(' ')} "
                f"(IDX, unsigned bytes, rank {rank})"
            )
        sizes = stream.read(4 * rank)
        if len(sizes) < 4 * rank:
            raise ValueError(
                f"{path}: ends after {4 + len(sizes)} bytes, "
                f"expected an IDX header of {4 + 4 * rank} bytes"
            )
        shape = struct.unpack(f">{rank}I", sizes)
        if 0 in shape:
            raise ValueError(f"{path}: announces the shape {shape}, expected positive sizes")
        data = read_exactly(stream, math.prod(shape), path)
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
