"""Download MNIST: four files, several mirrors, resumed where broken off, checked by checksum."""

from __future__ import annotations

import hashlib
import http
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .cache import data_folder
from .streams import CHUNK, open_data

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class _RemoteFile:
    name: str
    md5: str  # of the gzip file as published
    sha256: str  # of what is inside, for files that somebody unpacked or gzip'ed again


_FILES = (
    _RemoteFile(
        "train-images-idx3-ubyte.gz",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    _RemoteFile(
        "train-labels-idx1-ubyte.gz",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    _RemoteFile(
        "t10k-images-idx3-ubyte.gz",
        "9fb629c4189551a2d022fa330f9573f3",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    _RemoteFile(
        "t10k-labels-idx1-ubyte.gz",
        "ec29112dd5afa0611ce80d1b7f02629c",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)


class _MirrorError(Exception):
    """A mirror did not deliver; the next one may."""


def fetch_mnist(
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
    mirrors: Sequence[str] | None = None,
) -> Path:
    """Download MNIST's four files, about 12 MB, unless they are there already.

    A download that broke off is resumed from its ``.part`` file, and a file takes its name only
    after its checksum was found right, so a file under its final name is whole. Files already
    there count if their contents are right, unpacked or gzip'ed again as they may be. Let one
    process at a time fetch into a folder.

    Parameters
    ----------
    folder : path-like, optional
        Made if missing. By default ``$HARMONIUM_DATA`` if set, else the cache folder, which is
        where `load_mnist` looks.
    progress : bool, default True
        Show a tqdm bar for each file on standard error.
    mirrors : sequence of str, optional
        Addresses of folders with the four files, http or https, tried in order.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    ConnectionError
        If no mirror delivered a file whole; the message says what to put where instead.
    OSError
        If the folder cannot be made or written, or the disk is full.
    ValueError, TypeError
        If `mirrors` is empty, a single string, or holds something else than http addresses.
    """
    target = data_folder() if folder is None else Path(folder).expanduser()
    addresses = _checked_mirrors(MIRRORS if mirrors is None else mirrors)
    target.mkdir(parents=True, exist_ok=True)
    for file in _FILES:
        if not _is_present(target, file):
            _fetch(file, target, addresses, progress)
    return target


def _checked_mirrors(mirrors: Sequence[str]) -> list[str]:
    if isinstance(mirrors, str):
        raise TypeError(f"mirrors={mirrors!r} is one string, expected a sequence of addresses")
    for mirror in mirrors:
        if not str(mirror).startswith(("http://", "https://")):
            raise ValueError(f"mirrors holds {mirror!r}, expected http:// or https:// addresses")
    if not mirrors:
        raise ValueError("mirrors is empty, expected at least one address")
    return [mirror.rstrip("/") for mirror in mirrors]


def _is_present(folder: Path, file: _RemoteFile) -> bool:
    names = (file.name, file.name.removesuffix(".gz"))
    return any(_is_genuine(folder / name, file) for name in names)


def _is_genuine(path: Path, file: _RemoteFile) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as raw:
        md5 = hashlib.md5(usedforsecurity=False)
        while piece := raw.read(CHUNK):
            md5.update(piece)
    if md5.hexdigest() == file.md5:
        return True
    try:
        with open_data(path) as stream:
            sha256 = hashlib.sha256()
            while piece := stream.read(CHUNK):
                sha256.update(piece)
    except ValueError:  # damaged gzip
        return False
    return sha256.hexdigest() == file.sha256


def _fetch(file: _RemoteFile, folder: Path, mirrors: Sequence[str], progress: bool) -> None:
    part = folder / f"{file.name}.part"
    problems = []
    for mirror in mirrors:
        url = f"{mirror}/{file.name}"
        resumed = True
        while resumed:  # a wrong start spoils the whole, so then the mirror gets a clean try
            resumed = part.exists()
            try:
                if not (resumed and _is_genuine(part, file)):
                    _download(url, part, progress)
                if _is_genuine(part, file):
                    part.replace(folder / file.name)
                    return
                part.unlink(missing_ok=True)
            except _MirrorError as error:
                problems.append(f"{url}: {error}")
                break
            except OSError as error:
                raise OSError(
                    error.errno,
                    f"cannot write {part} ({error.strerror}), expected a writable folder with "
                    "12 MB to spare; what came is kept, and the next call goes on from there",
                ) from error
        else:
            problems.append(f"{url}: came whole but with a wrong checksum, expected MD5 {file.md5}")
    names = ", ".join(each.name for each in _FILES)
    raise ConnectionError(
        f"could not download {file.name} ({'; '.join(problems)}): put {names} into {folder}, or "
        "set HARMONIUM_DATA to a folder that holds them"
    )


def _download(url: str, part: Path, progress: bool) -> None:
    """Append what is missing of `url` to `part`, or write it anew if the server insists."""
    from tqdm import tqdm

    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "harmonium"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        response = urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=_TIMEOUT
        )
    except urllib.error.HTTPError as error:
        with error:
            # The part is as long as the file or longer: leave it to the checksum.
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
                return
            raise _MirrorError(f"HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(str(getattr(error, "reason", error))) from error

    with response:
        is_rest = response.status == http.HTTPStatus.PARTIAL_CONTENT
        content_range = response.headers.get("Content-Range", "")
        if is_rest and not content_range.startswith(f"bytes {start}-"):
            raise _MirrorError(f"sent the range {content_range!r}, expected bytes from {start}")
        if not is_rest:
            start = 0
        announced = response.length
        total = None if announced is None else start + announced
        came = start
        with (
            part.open("ab" if is_rest else "wb") as file,
            tqdm(
                desc=part.stem,
                initial=start,
                total=total,
                unit="B",
                unit_scale=True,
                disable=not progress,
            ) as bar,
        ):
            while piece := _receive(response):
                file.write(piece)
                came += len(piece)
                bar.update(len(piece))
    if total is not None and came < total:
        raise _MirrorError(f"broke off after {came} of {total} bytes")


def _receive(response: http.client.HTTPResponse) -> bytes:
    # Apart from the writing, whose OSError is the disk's and not the mirror's.
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _MirrorError(f"broke off ({error or type(error).__name__})") from error
