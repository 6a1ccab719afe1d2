"""One reader for each kind of file MNIST comes in.

Every reader takes a file and "train" or "test" and returns images as uint8 (n, 784) and labels as
int64 (n,), both checked. IDX and CSV files hold one split, so theirs take no second argument.
"""

from __future__ import annotations

import io
import itertools
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .idx import read_idx
from .pickle_guard import load_array_pairs
from .streams import open_data, read_exactly

SIDE = 28
PIXELS = SIDE * SIDE

Split = tuple[NDArray[np.uint8], NDArray[np.int64]]


def read_idx_pair(images_path: Path) -> Split:
    """Read IDX images, and the labels that lie beside them under the matching name."""
    images = read_idx(images_path, rank=3)
    labels = read_idx(_labels_beside(images_path), rank=1)
    return _checked(images, labels, images_path)


def _labels_beside(images_path: Path) -> Path:
    name = images_path.name.replace("images", "labels").replace("idx3", "idx1")
    if name == images_path.name:
        raise ValueError(
            f"{images_path}: expected an image file with 'images' in its name, "
            "so that its labels can be found beside it"
        )
    plain = images_path.with_name(name.removesuffix(".gz"))
    zipped = plain.with_name(plain.name + ".gz")
    for candidate in (plain, zipped):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(
        f"{images_path} has no labels beside it: expected {plain.name} or {zipped.name}"
    )


def read_csv(path: Path) -> Split:
    """Read a table of one image per line, its label first, with or without a header line."""
    with open_data(path) as stream, io.TextIOWrapper(stream, "utf-8-sig") as text:
        lines = (line for line in text if line.strip())
        try:
            first = next(lines, "")
            if not _is_number(first.split(",", 1)[0]):
                first = next(lines, "")
            if not first:
                raise ValueError("no rows")
            rows = itertools.chain([first], lines)
            table = np.loadtxt(rows, np.uint8, comments=None, delimiter=",", ndmin=2)
        except ValueError as error:
            raise ValueError(
                f"{path}: {error}; expected lines of a label and {PIXELS} whole numbers "
                "from 0 to 255, separated by commas"
            ) from error
    if table.shape[1] != 1 + PIXELS:
        raise ValueError(
            f"{path}: has {table.shape[1]} columns, expected {1 + PIXELS}: "
            f"a label, then {PIXELS} pixels"
        )
    return _checked(np.ascontiguousarray(table[:, 1:]), table[:, 0], path)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_npz(path: Path, split: str) -> Split:
    """Read Keras' mnist.npz: x_train, y_train, x_test and y_test."""
    try:
        with zipfile.ZipFile(path) as archive:
            images = _read_npy(archive, f"x_{split}.npy", path)
            labels = _read_npy(archive, f"y_{split}.npy", path)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise ValueError(f"{path}: unreadable npz file ({error}), expected a whole one") from error
    return _checked(images, labels, path)


def _read_npy(archive: zipfile.ZipFile, member: str, path: Path) -> NDArray[Any]:
    # numpy.load would allocate whatever shape the member's header claims.
    if member not in archive.namelist():
        raise ValueError(f"{path}: holds {archive.namelist()}, expected {member} among them")
    where = Path(path, member)
    with archive.open(member) as stream:
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            else:
                shape, is_fortran, dtype = np.lib.format.read_array_header_2_0(stream)
        except ValueError as error:
            raise ValueError(f"{where}: {error}; expected an npy header") from error
        if dtype.kind not in "iu" or any(size < 1 for size in shape):
            raise ValueError(f"{where}: announces {dtype} {shape}, expected integers, at least one")
        data = read_exactly(stream, math.prod(shape) * dtype.itemsize, where)
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def read_pickle(path: Path, split: str) -> Split:
    """Read the deep-learning tutorial's mnist.pkl: (images, labels) for train, valid and test.

    Its validation rows are the last 10 000 of MNIST's training rows, and are put back there.
    """
    with open_data(path) as stream:
        pairs = load_array_pairs(stream, path)
    if len(pairs) != 3:
        raise ValueError(f"{path}: holds {len(pairs)} pairs, expected train, valid and test")
    parts = [
        _checked(_as_bytes(images, path), labels, path)
        for images, labels in (pairs[2:] if split == "test" else pairs[:2])
    ]
    images, labels = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(labels)


def _as_bytes(images: NDArray[Any], path: Path) -> NDArray[Any]:
    """Give pickled intensities back as the bytes they were made from."""
    if images.dtype.kind != "f":
        return images
    # The tutorial divided by 256; people who made their own divided by 255. Black alone fits both.
    for full in (256, 255):
        scaled = images * images.dtype.type(full)
        levels: NDArray[Any] = np.rint(scaled)
        # 1e-3: float32 rounding stays below 1e-4, and the wrong divisor is off by 1/256 or more.
        if ((levels >= 0) & (levels <= 255) & (np.abs(scaled - levels) < 1e-3)).all():
            return levels.astype(np.uint8)
    raise ValueError(
        f"{path}: images from {images.min()} to {images.max()}, "
        "expected multiples of 1/256 or 1/255 in [0, 1]"
    )


def _checked(images: NDArray[Any], labels: NDArray[Any], path: Path) -> Split:
    if images.dtype != np.uint8 or images.shape[1:] not in ((SIDE, SIDE), (PIXELS,)):
        raise ValueError(
            f"{path}: images are {images.dtype} {images.shape}, "
            f"expected uint8 (n, {SIDE}, {SIDE}) or (n, {PIXELS})"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path}: labels are {labels.dtype} {labels.shape}, "
            f"expected integers of shape ({len(images)},), one for each image"
        )
    if labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"{path}: labels from {labels.min()} to {labels.max()}, expected 0 to 9")
    return images.reshape(len(images), PIXELS), labels.astype(np.int64)
