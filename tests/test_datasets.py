"""harmonium.datasets: every file format, every way a file can lie, fetching from a local server."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import socket
import struct
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harmonium.datasets import (
    fetch,
    fetch_mnist,
    load_digits,
    load_mnist,
    train_validation_split,
)
from harmonium.datasets.cache import data_folder

REAL = os.environ.get("HARMONIUM_DATA", "")

# ------------------------------------------------------------------ a small MNIST of our own


def random_split(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (rows, 28, 28), dtype=np.uint8)
    images[0, 0, :2] = 0, 255  # both ends are always there
    return images, rng.integers(0, 10, rows, dtype=np.uint8)


TRAIN = random_split(12, seed=1)
TEST = random_split(5, seed=2)


@pytest.fixture(autouse=True)
def no_ambient_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is read from this machine's cache, and a proxy never sees the local server."""
    monkeypatch.delenv("HARMONIUM_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder: Path, dotted: bool = False, gz: bool = False) -> None:
    for prefix, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{prefix}-{kind.replace('-', '.') if dotted else kind}-ubyte"
            content = idx(array)
            if gz:
                name, content = name + ".gz", gzip.compress(content)
            (folder / name).write_bytes(content)


def python2_array(array: np.ndarray) -> bytes:
    """Pickle as Python 2's cPickle did: byte strings, numpy.core, and a state set by BUILD."""
    shape = b"".join(b"I%d\n" % size for size in array.shape)
    data = array.tobytes()
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n("
        + shape
        + b"tcnumpy\ndtype\n(S'%s'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
        % array.dtype.str[1:].encode()
        + b"T%s%s" % (struct.pack("<i", len(data)), data)
        + b"tb"
    )


def pickled_pairs(full: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train, valid and test as the tutorial has them: valid is the end of MNIST's train."""
    images, labels = TRAIN
    parts = (images[:9], labels[:9]), (images[9:], labels[9:]), TEST
    return [((x.reshape(-1, 784) / full).astype(np.float32), y.astype(np.int64)) for x, y in parts]


def write_python2_pickle(folder: Path) -> None:
    pairs = b"".join(
        b"(" + python2_array(x) + python2_array(y) + b"t" for x, y in pickled_pairs(256)
    )
    (folder / "mnist.pkl.gz").write_bytes(gzip.compress(b"(" + pairs + b"t."))


def write_python3_pickle(folder: Path, protocol: int, full: float) -> None:
    (folder / "mnist.pkl").write_bytes(pickle.dumps(tuple(pickled_pairs(full)), protocol))


def csv(images: np.ndarray, labels: np.ndarray, header: str = "") -> bytes:
    table = np.column_stack([labels, images.reshape(len(images), -1)])
    lines = [",".join(map(str, row)) for row in table.tolist()]
    return (header + "\n".join(lines) + "\n").encode()


def write_csv(folder: Path, prefix: str, header: str, gz: bool) -> None:
    for name, split in (("train", TRAIN), ("test", TEST)):
        content = csv(*split, header)
        path = folder / f"{prefix}{name}.csv{'.gz' * gz}"
        path.write_bytes(gzip.compress(content) if gz else content)


def write_npz(folder: Path, save: Callable[..., None] = np.savez) -> None:
    save(folder / "mnist.npz", x_train=TRAIN[0], y_train=TRAIN[1], x_test=TEST[0], y_test=TEST[1])


HEADER = "label," + ",".join(f"{r}x{c}" for r in range(28) for c in range(28)) + "\n"

WRITERS: dict[str, Callable[[Path], None]] = {
    "idx": write_idx,
    "idx.gz": lambda folder: write_idx(folder, gz=True),
    "dotted idx": lambda folder: write_idx(folder, dotted=True),
    "dotted idx.gz": lambda folder: write_idx(folder, dotted=True, gz=True),
    "pkl.gz of Python 2": write_python2_pickle,
    "pkl, protocol 2, /256": lambda folder: write_python3_pickle(folder, 2, 256),
    "pkl, protocol 4, /255": lambda folder: write_python3_pickle(folder, 4, 255),
    "csv": lambda folder: write_csv(folder, "mnist_", "", gz=False),
    "csv with header": lambda folder: write_csv(folder, "", HEADER, gz=False),
    "csv.gz with header": lambda folder: write_csv(folder, "mnist_", HEADER, gz=True),
    "npz": write_npz,
    "compressed npz": lambda folder: write_npz(folder, np.savez_compressed),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_idx(tmp_path)
    return tmp_path


# ------------------------------------------------------------------ load_mnist, what it returns


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS.keys())
def test_every_format_gives_the_same_arrays(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    for split, (images, labels) in (("train", TRAIN), ("test", TEST)):
        X, y = load_mnist(tmp_path, split)
        assert X.dtype == np.float32
        assert y.dtype == np.int64
        np.testing.assert_array_equal(
            X, images.reshape(-1, 784).astype(np.float32) / np.float32(255)
        )
        np.testing.assert_array_equal(y, labels)


@pytest.mark.parametrize(
    ("write", "name"),
    [
        (write_npz, "mnist.npz"),
        (write_idx, "t10k-images-idx3-ubyte"),
        (WRITERS["csv"], "mnist_test.csv"),
    ],
)
def test_a_single_file_can_be_named(
    write: Callable[[Path], None], name: str, tmp_path: Path
) -> None:
    write(tmp_path)
    assert load_mnist(str(tmp_path / name), "test")[0].shape == (5, 784)


def test_a_file_of_its_own_name_holds_the_split_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(csv(*TRAIN))
    assert len(load_mnist(path, "train")[0]) == len(load_mnist(path, "test")[0]) == 12


def test_a_file_named_for_the_other_split_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="holds the train rows by its name, expected test rows"):
        load_mnist(folder / "train-images-idx3-ubyte", "test")


def test_gz_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    write_idx(tmp_path)
    for path in tmp_path.glob("*-ubyte"):
        path.rename(path.with_name(path.name + ".gz"))
    assert load_mnist(tmp_path)[0].shape == (12, 784)


def test_labels_may_be_gziped_where_images_are_not(folder: Path) -> None:
    labels = folder / "train-labels-idx1-ubyte"
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    np.testing.assert_array_equal(load_mnist(folder)[1], TRAIN[1])


@pytest.mark.parametrize("binarize", [None, "threshold", "stochastic"])
def test_validation_rows_are_the_last_of_train(folder: Path, binarize: Any) -> None:
    X, y = load_mnist(folder, binarize=binarize)
    X_train, y_train = load_mnist(folder, "train", validation=4, binarize=binarize)
    X_held, y_held = load_mnist(folder, "validation", validation=4, binarize=binarize)
    np.testing.assert_array_equal(np.concatenate([X_train, X_held]), X)
    np.testing.assert_array_equal(np.concatenate([y_train, y_held]), y)
    assert len(X_held) == 4
    assert X_held.base is None
    assert len(load_mnist(folder, "test", validation=4)[0]) == 5


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 100 / 255, 0.999])
def test_threshold_switches_on_above_it(folder: Path, threshold: float) -> None:
    X, _ = load_mnist(folder, binarize="threshold", threshold=threshold)
    assert X.dtype == np.bool_
    np.testing.assert_array_equal(X, TRAIN[0].reshape(-1, 784) / 255 > threshold)


def test_stochastic_bits_are_reproducible_and_have_the_intensity_as_mean(tmp_path: Path) -> None:
    levels = (np.arange(784) % 256).astype(np.uint8)
    images = np.broadcast_to(levels, (4000, 784)).reshape(4000, 28, 28)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(4000, np.uint8)))
    X, _ = load_mnist(tmp_path, binarize="stochastic", seed=3)
    again, _ = load_mnist(tmp_path, binarize="stochastic", seed=3)
    other, _ = load_mnist(tmp_path, binarize="stochastic", seed=4)
    assert X.dtype == np.bool_
    np.testing.assert_array_equal(X, again)
    assert (other != X).any()
    assert not X[:, levels == 0].any()
    # Six standard errors of a mean of 4000 bits; below one seed in 100 000 strays, and ours is
    # fixed. The darkest pixels, 16 expected bits and a Poisson's tail, make up nearly all of that.
    p = levels / 255
    assert (np.abs(X.mean(0) - p) <= 6 * np.sqrt(p * (1 - p) / 4000)).all()


def test_a_white_pixel_is_always_on(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(csv(np.full((1100, 28, 28), 255), np.zeros(1100, int)))
    assert load_mnist(tmp_path / "a.csv", binarize="stochastic")[0].all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"split": "valid"}, ValueError, "split must be one of 'train', 'test'"),
        ({"split": "validation"}, ValueError, "validation=0"),
        ({"validation": -1}, ValueError, "validation must be at least 0, got -1"),
        ({"validation": 12}, ValueError, "validation=12: expected fewer than the 12"),
        ({"validation": 0.1}, TypeError, "validation must be an integer, got 0.1 of type float"),
        ({"validation": True}, TypeError, "validation must be an integer, got True of type bool"),
        ({"binarize": True}, ValueError, "binarize must be one of None, 'threshold'"),
        ({"threshold": 1.0}, ValueError, r"threshold=1.0: expected a number in \[0, 1\)"),
        ({"threshold": float("nan")}, ValueError, "threshold=nan"),
        ({"threshold": "half"}, ValueError, "threshold='half'"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": None}, TypeError, "seed must be an integer, got None of type NoneType"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: dict[str, Any], error: type[Exception], message: str, folder: Path
) -> None:
    with pytest.raises(error, match=message):
        load_mnist(folder, **arguments)


# ------------------------------------------------------------------ where files are looked for


def test_default_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data_folder() == tmp_path / "cache" / "harmonium" / "mnist"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert data_folder() == Path("~/.cache/harmonium/mnist").expanduser()
    monkeypatch.setenv("HARMONIUM_DATA", "")
    assert data_folder() == Path("~/.cache/harmonium/mnist").expanduser()
    write_idx(tmp_path)
    monkeypatch.setenv("HARMONIUM_DATA", str(tmp_path))
    assert len(load_mnist()[0]) == 12


def test_missing_files_say_what_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        load_mnist()
    message = str(caught.value)
    assert str(tmp_path / "cache" / "harmonium" / "mnist") in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "harmonium data fetch" in message
    assert "fetch_mnist()" in message
    assert not (tmp_path / "cache").exists()


def test_missing_labels_are_named(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected t10k-labels-idx1-ubyte or .*\.gz"):
        load_mnist(folder, "test")


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "mnist.mat").write_bytes(b"MATLAB")
    with pytest.raises(ValueError, match=r"mnist.mat: expected a name in -ubyte"):
        load_mnist(tmp_path / "mnist.mat")


# ------------------------------------------------------------------ IDX that lies

IMAGES = idx(TRAIN[0])
LIES = {
    "empty": (b"", "begins with nothing, expected 00 00 08 03"),
    "labels for images": (idx(TRAIN[1]), "begins with 00 00 08 01, expected 00 00 08 03"),
    "float type": (b"\0\0\x0d\x03" + IMAGES[4:], "begins with 00 00 0d 03"),
    "header cut": (IMAGES[:9], "ends after 9 bytes, expected an IDX header of 16"),
    "data cut": (IMAGES[:-1], "holds 9407 bytes of data, expected the 9408"),
    "trailing byte": (IMAGES + b"\0", "goes on after the 9408 bytes"),
    "huge count": (
        b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 28, 28) + IMAGES[16:],
        "holds 9408 bytes of data, expected the 1683627180032",
    ),
    "product past 64 bits": (
        b"\0\0\x08\x03" + b"\xff" * 12 + IMAGES[16:],
        "holds 9408 bytes of data, expected the 79228162458924105385300197375",
    ),
    "no images": (b"\0\0\x08\x03" + struct.pack(">3I", 0, 28, 28), "expected positive sizes"),
    "other size": (idx(np.zeros((12, 32, 32), np.uint8)), r"expected uint8 \(n, 28, 28\)"),
    "fewer images": (idx(TRAIN[0][:11]), r"labels are uint8 \(12,\), .* shape \(11,\)"),
}


@pytest.mark.parametrize("gz", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize(("content", "message"), LIES.values(), ids=LIES.keys())
def test_lying_idx(content: bytes, message: str, gz: bool, folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(content) if gz else content)
    with pytest.raises(ValueError, match=rf"train-images-idx3-ubyte: .*{message}"):
        load_mnist(folder)


def test_labels_past_nine(folder: Path) -> None:
    labels = TRAIN[1].copy()
    labels[3] = 10
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(labels))
    with pytest.raises(ValueError, match="labels from 0 to 10, expected 0 to 9"):
        load_mnist(folder)


def damage(content: bytes, how: str) -> bytes:
    if how == "cut":
        return content[: len(content) // 2]
    at = len(content) - 6 if how == "checksum" else len(content) // 2
    return content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


@pytest.mark.parametrize("how", ["cut", "checksum", "middle"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "mnist.pkl.gz", "train.csv.gz"])
def test_damaged_gzip(name: str, how: str, tmp_path: Path) -> None:
    write_idx(tmp_path, gz=True)
    write_python2_pickle(tmp_path)
    write_csv(tmp_path, "", "", gz=True)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes(), how))
    with pytest.raises(ValueError, match=name):
        load_mnist(path)


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is enforced on Linux")
def test_a_lying_header_costs_no_memory(folder: Path) -> None:
    import resource

    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(b"\0\0\x08\x03" + struct.pack(">3I", 2**22, 28, 28) + b"\0" * 784)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + 2**30, hard))  # the header claims 3.3e9 bytes
    try:
        with pytest.raises(ValueError, match="holds 784 bytes of data"):
            load_mnist(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


# ------------------------------------------------------------------ pickles that would like to run


class Calls:
    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", range(5))
def test_a_pickle_that_names_a_function_runs_nothing(protocol: int, tmp_path: Path) -> None:
    canary = tmp_path / "ran"
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps((Calls(os.mkdir, str(canary)),), protocol))
    with pytest.raises(ValueError, match=rf"mnist.pkl: refused, .* names {os.mkdir.__module__}"):
        load_mnist(path)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("opcodes", "message"),
    [
        (b"cbuiltins\neval\n(S'1'\ntR.", "names builtins.eval"),
        (b"(S'true'\nios\nsystem\n.", "names os.system"),
        (b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.", "names numpy.ndarray.dump"),
        (b"cnumpy\nload\n.", "names numpy.load"),
        (b"cnumpy\nndarray\n(I4000000000\ntR.", "unreadable pickle"),
        (b"c_codecs\nencode\n(S'x'\nS'zlib'\ntR.", "encoding 'zlib', expected 'latin1'"),
        (b"cnumpy\ndtype\n(S'O8'\ntR.", "dtype 'O8', expected plain numbers"),
        (b"cnumpy\ndtype\n(S'O,f4'\ntR.", "dtype 'O,f4', expected plain numbers"),
        (b"cnumpy\ndtype\n(S'f4'\ntR(I3\nS'<'\nS'f'\nNNI-1\nI-1\nI0\ntb.", "structured dtype"),
        (b"(I1\nI2\nt.", "unreadable pickle"),
        (b"", "unreadable pickle"),
        (b"(t.", "holds 0 pairs, expected train, valid and test"),
        (b"(t.more", "goes on after the pickle's end"),
    ],
)
def test_hostile_or_odd_pickles(opcodes: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "mnist.pkl"
    path.write_bytes(opcodes)
    with pytest.raises(ValueError, match=f"mnist.pkl: .*{message}"):
        load_mnist(path)


def test_raw_bytes_never_become_object_pointers(tmp_path: Path) -> None:
    """A dtype whose state clears the object flag makes numpy itself crash here."""
    dtype = Calls(np.dtype, "O", False, True)
    dtype.reduced += ((3, "|", None, None, None, -1, -1, 0),)
    array = Calls(np._core.multiarray._reconstruct, np.ndarray, (0,), b"b")
    array.reduced += ((1, (2,), dtype, False, b"\x41" * 16),)
    path = tmp_path / "mnist.pkl"
    path.write_bytes(pickle.dumps(((array, array),) * 3, protocol=2))
    with pytest.raises(ValueError, match="dtype 'O', expected plain numbers"):
        load_mnist(path)


def test_a_pickle_cannot_change_the_guard(tmp_path: Path) -> None:
    """BUILD with a slot state sets attributes on whatever find_class gave."""
    path = tmp_path / "mnist.pkl"
    for name in ("numpy\nndarray", "numpy\ndtype", "_codecs\nencode"):
        path.write_bytes(f"c{name}\n(N(S'__doc__'\nS'changed'\ndtb.".encode())
        with pytest.raises(ValueError, match="unreadable pickle"):
            load_mnist(path)


@pytest.mark.parametrize("scale", [1.0, 0.7, np.nan])
def test_pickled_images_that_are_no_pixels(scale: float, tmp_path: Path) -> None:
    pairs = tuple((x * np.float32(scale) + np.float32(0.3), y) for x, y in pickled_pairs(255))
    (tmp_path / "mnist.pkl").write_bytes(pickle.dumps(pairs, 2))
    with pytest.raises(ValueError, match="expected multiples of 1/256 or 1/255"):
        load_mnist(tmp_path)


# ------------------------------------------------------------------ CSV and npz that lie

GOOD_CSV = csv(*TRAIN)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no rows"),
        (HEADER.encode(), "no rows"),
        (b"\n\n", "no rows"),
        (csv(TRAIN[0][:, 0], TRAIN[1]), "has 29 columns, expected 785"),
        (b"5" + b",0" * 783 + b",256\n", "could not convert string '256'"),
        (b"-1" + b",0" * 784 + b"\n", "could not convert string '-1'"),
        (b"1.5" + b",0" * 784 + b"\n", "could not convert string '1.5'"),
        (GOOD_CSV + b"3,4\n", "number of columns changed from 785 to 2"),
        (b"10" + b",0" * 784 + b"\n", "labels from 10 to 10"),
        (b"\xff\xfe1,2", "codec can't decode"),
    ],
)
def test_lying_csv(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"train.csv: .*{message}"):
        load_mnist(tmp_path)


def npy(array: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    buffer = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(buffer, header | {"shape": shape or array.shape})
    return buffer.getvalue() + array.tobytes()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x_train.npy": npy(TRAIN[0])}, r"expected y_train.npy among them"),
        ({"x_train.npy": b"nonsense"}, "expected an npy header"),
        ({"x_train.npy": npy(TRAIN[0], (10**9, 28, 28))}, "holds 9408 bytes .* 784000000000"),
        ({"x_train.npy": npy(TRAIN[0]) + b"\0"}, "goes on after the 9408 bytes"),
        ({"x_train.npy": npy(np.zeros(1, "O"))}, "announces object"),
        ({"x_train.npy": npy(TRAIN[0].astype(">i4"))}, "images are >i4"),
        ({"x_train.npy": npy(TRAIN[0]), "y_train.npy": npy(TEST[1])}, r"labels are uint8 \(5,\)"),
    ],
)
def test_lying_npz(members: dict[str, bytes], message: str, tmp_path: Path) -> None:
    members = {"y_train.npy": npy(TRAIN[1])} | members if len(members) == 1 else members
    if "among" in message:
        del members["y_train.npy"]
    with zipfile.ZipFile(tmp_path / "mnist.npz", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(ValueError, match=rf"mnist.npz.*: .*{message}"):
        load_mnist(tmp_path)


@pytest.mark.parametrize("how", ["cut", "middle"])
def test_damaged_npz(how: str, tmp_path: Path) -> None:
    write_npz(tmp_path)
    path = tmp_path / "mnist.npz"
    content = path.read_bytes()
    path.write_bytes(
        content[:5000] if how == "cut" else damage(content[:9000], how) + content[9000:]
    )
    with pytest.raises(ValueError, match=r"mnist\.npz: unreadable npz file"):
        load_mnist(tmp_path)


# ------------------------------------------------------------------ fetch_mnist

PAYLOADS = {
    "train-images-idx3-ubyte.gz": gzip.compress(IMAGES, mtime=0),
    "train-labels-idx1-ubyte.gz": gzip.compress(idx(TRAIN[1]), mtime=0),
    "t10k-images-idx3-ubyte.gz": gzip.compress(idx(TEST[0]), mtime=0),
    "t10k-labels-idx1-ubyte.gz": gzip.compress(idx(TEST[1]), mtime=0),
}
BIG = "train-images-idx3-ubyte.gz"


class Server(ThreadingHTTPServer):
    """Serves PAYLOADS under /<behaviour>/ and notes each request as (behaviour, name, range)."""

    seen: list[tuple[str, str, str | None]]

    def mirror(self, behaviour: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{behaviour}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        _, behaviour, name = self.path.split("/")
        wanted = self.headers["Range"]
        self.server.seen.append((behaviour, name, wanted))
        content = PAYLOADS[name]
        if behaviour == "missing":
            self.send_error(404)
            return
        if behaviour == "corrupt":
            content = content[:-9] + b"corrupted"
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if wanted and start >= len(content) and behaviour != "norange":
            self.send_error(416)
            return
        if wanted and behaviour != "norange":
            self.send_response(206)
            first = start + 1 if behaviour == "shifted" else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            content = content[start:]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if behaviour == "cut" else content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    files = tuple(
        fetch._RemoteFile(
            name,
            hashlib.md5(content).hexdigest(),
            hashlib.sha256(gzip.decompress(content)).hexdigest(),
        )
        for name, content in PAYLOADS.items()
    )
    monkeypatch.setattr(fetch, "_FILES", files)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_fetch_fills_the_default_folder_and_then_rests(server: Server) -> None:
    folder = fetch_mnist(progress=False, mirrors=[server.mirror("good")])
    assert folder == data_folder()
    assert contents(folder) == PAYLOADS
    assert len(load_mnist()[0]) == 12
    assert len(server.seen) == 4
    fetch_mnist(progress=False, mirrors=[server.mirror("good")])
    assert len(server.seen) == 4


def test_fetch_shows_progress(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fetch_mnist(tmp_path / "quiet", progress=False, mirrors=[server.mirror("good")])
    assert capsys.readouterr() == ("", "")
    fetch_mnist(tmp_path / "loud", progress=True, mirrors=[server.mirror("good")])
    shown = capsys.readouterr()
    assert shown.out == ""
    assert all(name in shown.err for name in PAYLOADS)


@pytest.mark.parametrize("bad", ["missing", "corrupt", "cut"])
def test_fetch_goes_on_to_the_next_mirror(bad: str, server: Server, tmp_path: Path) -> None:
    fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror(bad), server.mirror("good")])
    assert contents(tmp_path) == PAYLOADS
    assert {behaviour for behaviour, _, _ in server.seen} == {bad, "good"}


def ranges(server: Server) -> list[str | None]:
    return [wanted for _, name, wanted in server.seen if name == BIG]


@pytest.mark.parametrize(
    ("behaviour", "part", "expected"),
    [
        # An honest part is gone on with; the server may still send everything.
        ("good", PAYLOADS[BIG][:1000], ["bytes=1000-"]),
        ("norange", PAYLOADS[BIG][:1000], ["bytes=1000-"]),
        # A part that was complete when the process died is only renamed.
        ("good", PAYLOADS[BIG], []),
        # A part that leads nowhere is thrown away, and the same mirror asked again.
        ("good", b"x" * 1000, ["bytes=1000-", None]),
        ("good", b"x" * 99999, ["bytes=99999-", None]),
        ("good", b"", [None]),
    ],
)
def test_fetch_resumes_a_part(
    behaviour: str, part: bytes, expected: list[str | None], server: Server, tmp_path: Path
) -> None:
    (tmp_path / f"{BIG}.part").write_bytes(part)
    fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror(behaviour)])
    assert contents(tmp_path) == PAYLOADS
    assert ranges(server) == expected


def test_a_transfer_that_breaks_off_is_resumed_by_the_next_mirror(
    server: Server, tmp_path: Path
) -> None:
    half = len(PAYLOADS[BIG]) // 2
    with pytest.raises(ConnectionError, match=rf"broke off after {half} of {len(PAYLOADS[BIG])}"):
        fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("cut")])
    assert contents(tmp_path) == {f"{BIG}.part": PAYLOADS[BIG][:half]}
    fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("good")])
    assert ranges(server) == [None, f"bytes={half}-"]


def test_a_wrong_range_is_not_appended(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{BIG}.part").write_bytes(PAYLOADS[BIG][:1000])
    with pytest.raises(ConnectionError, match=r"sent the range 'bytes 1001-.*expected bytes from"):
        fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("shifted")])
    assert contents(tmp_path) == {f"{BIG}.part": PAYLOADS[BIG][:1000]}


def test_a_wrong_checksum_leaves_nothing_behind(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ConnectionError, match="wrong checksum, expected MD5"):
        fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("corrupt")])
    assert contents(tmp_path) == {}


def test_files_with_the_right_content_are_kept(server: Server, tmp_path: Path) -> None:
    ours = {name: gzip.compress(gzip.decompress(data), 1) for name, data in PAYLOADS.items()}
    ours["t10k-labels-idx1-ubyte"] = gzip.decompress(ours.pop("t10k-labels-idx1-ubyte.gz"))
    assert ours[BIG] != PAYLOADS[BIG]
    for name, content in ours.items():
        (tmp_path / name).write_bytes(content)
    fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("good")])
    assert contents(tmp_path) == ours
    assert server.seen == []


@pytest.mark.parametrize("how", ["cut", "middle"])
def test_a_damaged_file_is_replaced(how: str, server: Server, tmp_path: Path) -> None:
    (tmp_path / BIG).write_bytes(damage(PAYLOADS[BIG], how))
    fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("good")])
    assert contents(tmp_path) == PAYLOADS


def test_no_network_says_what_to_put_where(tmp_path: Path) -> None:
    with socket.socket() as listener:  # a port of our own on which nobody answers
        listener.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConnectionError) as caught:
            fetch_mnist(tmp_path, progress=False, mirrors=[url])
    message = str(caught.value)
    assert "refused" in message
    assert url in message
    assert f"into {tmp_path}" in message
    assert "HARMONIUM_DATA" in message
    assert all(name in message for name in PAYLOADS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_named_as_such(server: Server, tmp_path: Path) -> None:
    (tmp_path / f"{BIG}.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"cannot write .*\.part \(No space left") as caught:
        fetch_mnist(tmp_path, progress=False, mirrors=[server.mirror("good")] * 2)
    assert not isinstance(caught.value, ConnectionError)
    assert len(server.seen) == 1  # another mirror would not help


@pytest.mark.parametrize(
    ("mirrors", "error", "message"),
    [
        ([], ValueError, "mirrors is empty"),
        ("http://127.0.0.1/", TypeError, "expected a sequence of addresses"),
        (["file:///etc/"], ValueError, "expected http:// or https://"),
    ],
)
def test_wrong_mirrors(mirrors: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=message):
        fetch_mnist(tmp_path, mirrors=mirrors)


def test_a_file_in_the_folders_place(tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(FileExistsError, match="taken"):
        fetch_mnist(tmp_path / "taken", progress=False, mirrors=["http://127.0.0.1"])


# ------------------------------------------------------------------ load_digits


def test_digits() -> None:
    X, y = load_digits()
    assert X.shape == (1797, 64)
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    assert X.min() == 0
    assert X.max() == 1
    np.testing.assert_array_equal(X * 16, np.rint(X * 16))
    assert set(y) == set(range(10))
    for binarize in (None, "threshold", "stochastic"):
        whole, _ = load_digits(binarize=binarize)
        X_train, y_train = load_digits(split="train", binarize=binarize)
        X_test, y_test = load_digits(split="test", binarize=binarize)
        assert X_train.shape == (1437, 64)
        assert X_test.shape == (360, 64)
        np.testing.assert_array_equal(np.concatenate([X_train, X_test]), whole)
        np.testing.assert_array_equal(np.concatenate([y_train, y_test]), y)


def test_digits_binarized() -> None:
    X, _ = load_digits()
    half, _ = load_digits(binarize="threshold")
    np.testing.assert_array_equal(half, X > 0.5)
    assert (X == 0.5).any()  # so that the case of equality is in the test
    bits, _ = load_digits(binarize="stochastic", seed=1)
    assert bits.dtype == np.bool_
    assert not bits[X == 0].any()
    assert bits[X == 1].all()
    # Six standard errors of a mean over 115 008 bits, each of variance at most 1/4.
    assert abs(bits.mean() - X.mean()) < 6 * 0.5 / np.sqrt(X.size)
    assert (bits != load_digits(binarize="stochastic", seed=2)[0]).any()


def test_digits_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="split must be one of None, 'train'"):
        load_digits(split="validation")
    with pytest.raises(ValueError, match="threshold=2"):
        load_digits(threshold=2)


# ------------------------------------------------------------------ train_validation_split


@pytest.mark.parametrize(
    ("validation", "held_out"), [(0.1, 10), (0.5, 50), (7, 7), (np.int64(99), 99), (0.994, 99)]
)
def test_split_is_a_partition(validation: float, held_out: int) -> None:
    X = np.arange(300, dtype=np.uint8).reshape(100, 3)
    y = np.arange(100)
    before = X.copy()
    X_train, X_held, y_train, y_held = train_validation_split(X, y, validation=validation, seed=5)
    assert len(X_held) == len(y_held) == held_out
    np.testing.assert_array_equal(X_train, X[y_train])
    np.testing.assert_array_equal(X_held, X[y_held])
    order = np.concatenate([y_train, y_held])
    assert sorted(order) == list(y)
    assert list(order) != list(y)
    assert X_train.dtype == X.dtype
    assert not np.shares_memory(X_train, X)
    np.testing.assert_array_equal(X, before)


def test_split_depends_on_the_seed_alone() -> None:
    rows = np.arange(100)
    first, again = (train_validation_split(rows, seed=1)[1] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert list(first) != list(train_validation_split(rows, seed=2)[1])


def test_split_takes_csr_and_lists() -> None:
    sparse = pytest.importorskip("scipy.sparse")
    X = np.eye(20, dtype=np.float32)
    dense = train_validation_split(X, validation=5)
    for matrix in (sparse.csr_matrix(X), sparse.csr_array(X)):
        parts = train_validation_split(matrix, validation=5)
        for part, expected in zip(parts, dense, strict=True):
            assert part.format == "csr"
            assert part.dtype == X.dtype
            np.testing.assert_array_equal(part.toarray(), expected)
    with pytest.raises(TypeError, match="X is sparse coo, expected CSR"):
        train_validation_split(sparse.coo_matrix(X))
    np.testing.assert_array_equal(train_validation_split(X.tolist(), validation=5)[1], dense[1])


@pytest.mark.parametrize(
    ("rows", "arguments", "error", "message"),
    [
        (10, {"validation": 0}, ValueError, "validation=0 holds out 0 of 10 rows"),
        (10, {"validation": 10}, ValueError, "validation=10 holds out 10 of 10 rows"),
        (10, {"validation": -1}, ValueError, "validation must be at least 0, got -1"),
        (10, {"validation": 1.0}, ValueError, r"validation=1.0: expected a share in \(0, 1\)"),
        (10, {"validation": float("nan")}, ValueError, "validation=nan"),
        (10, {"validation": 0.01}, ValueError, "holds out 0 of 10 rows"),
        (10, {"validation": "some"}, TypeError, "validation must be an integer, got 'some'"),
        (10, {"validation": True}, TypeError, "validation must be an integer, got True"),
        (10, {"seed": 1.5}, TypeError, "seed must be an integer, got 1.5 of type float"),
        (10, {"y": np.zeros(9)}, ValueError, "y has 9 rows, expected the 10 of X"),
        (0, {}, ValueError, "of 0 rows"),
    ],
)
def test_split_wrong_arguments(
    rows: int, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train_validation_split(np.zeros((rows, 2)), **arguments)


def test_split_of_a_single_value() -> None:
    with pytest.raises(ValueError, match="X is a single value"):
        train_validation_split(3)


# ------------------------------------------------------------------ the real MNIST


@pytest.fixture
def real() -> Path:
    if not REAL:
        pytest.skip("HARMONIUM_DATA is not set")
    if not Path(REAL).exists():
        pytest.skip(f"HARMONIUM_DATA={REAL} does not exist")
    return Path(REAL)


def test_real_mnist(real: Path) -> None:
    X, y = load_mnist(real)
    assert X.shape == (60000, 784)
    assert X.dtype == np.float32
    assert y[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(y).sum() == 60000
    assert X.min() == 0
    assert X.max() == 1
    assert X.mean(dtype=np.float64) == pytest.approx(0.1307, abs=5e-5)
    assert (X > 0.5).mean() == pytest.approx(0.132, abs=5e-4)
    bits, _ = load_mnist(real, binarize="threshold")
    np.testing.assert_array_equal(bits, X > 0.5)
    X_test, y_test = load_mnist(real, "test")
    assert X_test.shape == (10000, 784)
    assert y_test[:5].tolist() == [7, 2, 1, 0, 4]


def test_real_mnist_is_recognised_by_fetch(real: Path) -> None:
    if not list(real.glob("t10k-labels-idx1-ubyte*")):
        pytest.skip(f"HARMONIUM_DATA={real} does not hold the IDX files")
    before = sorted(real.iterdir())
    assert fetch_mnist(real, progress=False, mirrors=["http://127.0.0.1:9"]) == real
    assert sorted(real.iterdir()) == before


def test_real_stochastic_bits_have_the_intensities_mean(real: Path) -> None:
    X, _ = load_mnist(real)
    bits, _ = load_mnist(real, binarize="stochastic")
    assert not bits[X == 0].any()  # among 38 million black pixels, a draw of exactly 0 occurs
    # Six standard errors; X (1 - X) is each bit's variance.
    error = 6 * np.sqrt((X * (1 - X)).sum(dtype=np.float64)) / X.size
    assert abs(bits.mean() - X.mean(dtype=np.float64)) < error
