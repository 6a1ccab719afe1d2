"""Files of arrays: what is saved comes back, what is damaged is refused, what is old survives."""

import errno
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from harmonium import persistence
from harmonium.persistence import FORMAT_VERSION, load_arrays, save_arrays, write_atomically

SRC = Path(persistence.__file__).parents[1]
HEADER = {"model": "BernoulliRBM", "epochs": 3, "sizes": [4, 3]}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {"W": rng.normal(size=(4, 3)).astype(np.float32), "b": np.arange(4.0)}


@pytest.fixture
def saved(tmp_path, arrays):
    path = tmp_path / "model.safetensors"
    save_arrays(path, arrays, HEADER)
    return path


def assert_unchanged(path, arrays):
    """The old file is whole and nothing lies beside it."""
    loaded, header = load_arrays(path)
    assert header == HEADER
    np.testing.assert_array_equal(loaded["W"], arrays["W"])
    assert os.listdir(path.parent) == [path.name]


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "int16", "int64", "uint8", "uint64", "float16", "float32", "float64"]
)
@pytest.mark.parametrize("shape", [(), (0, 5), (7,), (3, 4), (2, 3, 5)])
def test_dtypes_and_shapes_come_back(tmp_path, dtype, shape):
    array = np.random.default_rng(1).integers(0, 100, shape).astype(dtype)
    save_arrays(tmp_path / "a", {"a": array}, {})
    loaded = load_arrays(tmp_path / "a")[0]["a"]
    assert loaded.dtype == array.dtype
    assert loaded.shape == array.shape
    assert loaded.flags.writeable
    np.testing.assert_array_equal(loaded, array)


def test_extreme_values_come_back_bit_for_bit(tmp_path):
    arrays = {
        "u": np.array([0, 2**63, 2**64 - 1], np.uint64),
        "f": np.array([-0.0, np.inf, -np.inf, np.nan, 5e-324, 1.7e308]),
    }
    save_arrays(tmp_path / "a", arrays, {})
    for name, loaded in load_arrays(tmp_path / "a")[0].items():
        assert loaded.tobytes() == arrays[name].tobytes()


base = np.arange(60, dtype=np.float32).reshape(5, 12)


@pytest.mark.parametrize(
    "array",
    [
        base.T,
        np.asfortranarray(base),
        base[::2, ::3],
        base[::-1],
        np.broadcast_to(base[0], (3, 12)),
        base.astype(">f4"),
        np.asfortranarray(base.astype(">f8")),
        (base % 2 == 0).T,
    ],
    ids=[
        "transposed",
        "F",
        "strided",
        "reversed",
        "broadcast",
        "big-endian",
        "F big-endian",
        "bool T",
    ],
)
def test_any_memory_layout_comes_back(tmp_path, array):
    before = array.copy()
    save_arrays(tmp_path / "a", {"a": array}, {})
    loaded = load_arrays(tmp_path / "a")[0]["a"]
    assert loaded.dtype.isnative
    np.testing.assert_array_equal(loaded, before)
    np.testing.assert_array_equal(array, before)


def test_header_comes_back(tmp_path):
    header = {
        "nested": {"a": [1, 2.5, None, True]},
        "text": 'σ(vW + c) ☃ " \\ \n',
        "infinite": [float("inf"), -float("inf")],
        "tiny": 5e-324,
    }
    save_arrays(tmp_path / "a", {}, header | {"rate": np.float32(0.5), "n": np.int64(3)})
    assert load_arrays(tmp_path / "a") == ({}, header | {"rate": 0.5, "n": 3})
    save_arrays(tmp_path / "a", {}, {"history": [float("nan")]})
    assert np.isnan(load_arrays(tmp_path / "a")[1]["history"][0])


def test_equal_models_give_equal_bytes_in_any_process(tmp_path, saved):
    # safetensors keeps metadata in a hash map seeded anew in every process.
    code = (
        "import sys; from harmonium.persistence import load_arrays, save_arrays\n"
        "for i in range(8): save_arrays(f'{sys.argv[2]}{i}', *load_arrays(sys.argv[1]))"
    )
    again = tmp_path / "again"
    subprocess.run([sys.executable, "-c", code, saved, again], env=child_env(), check=True)
    assert {(tmp_path / f"again{i}").read_bytes() for i in range(8)} == {saved.read_bytes()}


@pytest.mark.parametrize(
    ("arrays", "header", "error", "words"),
    [
        ({"W": [1.0]}, {}, TypeError, "'W'.*expected an ndarray, got list"),
        ({"W": np.array([None])}, {}, TypeError, "'W'.*got dtype object"),
        ({"W": np.array(["a"])}, {}, TypeError, "'W'.*got dtype <U1"),
        ({"W": np.zeros(2, complex)}, {}, TypeError, "'W'.*got dtype complex128"),
        ({1: base}, {}, TypeError, "names must be str, got 1"),
        ({"__metadata__": base}, {}, ValueError, "__metadata__"),
        ({}, {"a": {1, 2}}, TypeError, "header.*set"),
        ({}, {"a": base}, TypeError, "header.*ndarray"),
        ({}, {"format_version": 3}, ValueError, "format_version"),
        ({}, {"crc32": ""}, ValueError, "crc32"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, arrays, header, error, words):
    with pytest.raises(error, match=words):
        save_arrays(tmp_path / "a", arrays, header)
    assert os.listdir(tmp_path) == []


# ---- damaged, foreign and missing files


def assert_refused(path, words):
    with pytest.raises(ValueError, match=words) as caught:
        load_arrays(path)
    assert str(path) in str(caught.value)
    assert "expected a safetensors file written by harmonium" in str(caught.value)


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path, saved):
    whole = saved.read_bytes()
    damaged = tmp_path / "damaged"
    for position in range(len(whole)):
        flipped = bytearray(whole)
        flipped[position] ^= 1 << position % 8
        for content in (flipped, whole[:position]):
            damaged.write_bytes(content)
            with pytest.raises(ValueError, match="damaged"):
                load_arrays(damaged)
            damaged.unlink()  # a file that may still be mapped is never written to
    damaged.write_bytes(whole + b"\0")
    assert_refused(damaged, "damaged")


def test_files_of_others_are_refused(tmp_path):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "exploded"),)

    (tmp_path / "pickle").write_bytes(pickle.dumps(Bomb()))
    np.save(tmp_path / "array.npy", np.array([Bomb()], object), allow_pickle=True)
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a model")
    save_file({"W": base}, tmp_path / "foreign", metadata={"format": "pt"})
    save_file({"W": base}, tmp_path / "bare")
    os.mkfifo(tmp_path / "pipe")
    assert_refused(tmp_path / "pickle", "another kind")
    assert_refused(tmp_path / "array.npy", "another kind")
    assert_refused(tmp_path / "empty", "empty")
    assert_refused(tmp_path / "text", "another kind")
    assert_refused(tmp_path / "foreign", "another program")
    assert_refused(tmp_path / "bare", "another program")
    assert_refused(tmp_path / "pipe", "pipe")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", "{}", '{"format_version": "new"}', "[" * 9999]
)
def test_impossible_headers_are_refused(tmp_path, text):
    save_file({"W": base}, tmp_path / "a", metadata={"harmonium": text})
    assert_refused(tmp_path / "a", "header is damaged")


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("C64", 8)])
def test_dtypes_that_are_never_written_are_refused(tmp_path, dtype, size):
    header = {
        "__metadata__": {"harmonium": '{"format_version": 1, "crc32": "00000000"}'},
        "a": {"dtype": dtype, "shape": [2], "data_offsets": [0, 2 * size]},
    }
    table = json.dumps(header).encode()
    content = len(table).to_bytes(8, "little") + table + bytes(2 * size)
    (tmp_path / "a").write_bytes(content)
    assert_refused(tmp_path / "a", "damaged")


def test_newer_format_is_named(tmp_path, arrays, monkeypatch):
    monkeypatch.setattr(persistence, "FORMAT_VERSION", FORMAT_VERSION + 1)
    save_arrays(tmp_path / "a", arrays, HEADER)
    monkeypatch.undo()
    assert_refused(tmp_path / "a", f"format_version is {FORMAT_VERSION + 1}.*upgrade harmonium")


@pytest.mark.parametrize("action", [load_arrays, lambda path: save_arrays(path, {}, {})])
def test_missing_folders_and_folders_are_named(tmp_path, action):
    with pytest.raises(FileNotFoundError, match=r"there is no folder '.*gone'.*gone/model"):
        action(tmp_path / "gone" / "model")
    with pytest.raises(IsADirectoryError, match=str(tmp_path)):
        action(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="file/model"):
        action(tmp_path / "file" / "model")
    assert os.listdir(tmp_path) == ["file"]


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot read the file, no such file.*none'"):
        load_arrays(tmp_path / "none")


# ---- failures while writing


def test_full_disk_leaves_the_old_file(saved, arrays, monkeypatch):
    real_open = os.open

    def open_on_full_disk(path, flags, mode=0o777):
        if flags & os.O_CREAT:  # every byte written to the temporary file meets a full disk
            os.symlink("/dev/full", path)
            flags = os.O_WRONLY
        return real_open(path, flags, mode)

    monkeypatch.setattr(os, "open", open_on_full_disk)
    with pytest.raises(OSError, match=r"no space left on device: '.*model.safetensors'") as caught:
        save_arrays(saved, {"W": np.zeros((4, 3), np.float32)}, {})
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(saved)
    monkeypatch.undo()
    assert_unchanged(saved, arrays)


def test_file_size_limit_leaves_the_old_file(saved, arrays):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))  # Python ignores SIGXFSZ
    try:
        with pytest.raises(OSError, match=r"file too large: '.*model") as caught:
            save_arrays(saved, {"W": np.zeros(1 << 20)}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    assert_unchanged(saved, arrays)


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_late_failures_leave_the_old_file(saved, arrays, monkeypatch, function):
    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match=r"input/output error: '.*model.safetensors'"):
        save_arrays(saved, {}, {})
    monkeypatch.undo()
    assert_unchanged(saved, arrays)


def test_no_permission(saved, arrays, monkeypatch):
    def forbid(path, flags, mode=0o777):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", forbid)  # permissions don't hold for root, who may run the tests
        with pytest.raises(PermissionError, match=r"permission denied: '.*model.safetensors'"):
            save_arrays(saved, {}, {})
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(PermissionError, match=r"it is read-only: '.*model.safetensors'"):
            save_arrays(saved, {}, {})
    assert_unchanged(saved, arrays)


def test_devices_and_pipes_are_never_replaced(tmp_path):
    # A pipe stands for /dev/null, which a failing test run by root would destroy.
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"device or a pipe: '.*pipe'"):
        save_arrays(tmp_path / "pipe", {}, {})
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_an_error_in_the_body_passes_unchanged(saved, arrays, error):
    def write_half():
        with write_atomically(saved) as temporary:
            temporary.write_bytes(b"half")
            raise error("mine")

    with pytest.raises(error, match="mine"):
        write_half()
    assert_unchanged(saved, arrays)


def test_temporary_file_is_a_sibling_with_the_same_suffix(saved):
    with write_atomically(saved) as temporary:
        assert temporary.parent == saved.parent
        assert temporary.suffix == saved.suffix
        assert temporary.read_bytes() == b""
        temporary.write_bytes(b"new")
        assert saved.read_bytes() != b"new"
    assert saved.read_bytes() == b"new"
    assert os.listdir(saved.parent) == [saved.name]


def test_bytes_reach_the_disk_before_the_name(saved, monkeypatch):
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args))
        )
    save_arrays(saved, {}, {})
    assert calls == ["fsync", "replace", "fsync"]  # file, name, folder


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions(tmp_path, umask, mode):
    old = os.umask(umask)
    try:
        path = tmp_path / "model"
        save_arrays(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == mode
        path.chmod(0o640)
        save_arrays(path, {}, {})
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(old)


def test_a_link_stays_a_link(tmp_path, saved):
    link = tmp_path / "latest"
    link.symlink_to(saved.name)
    save_arrays(link, {}, {"new": 1})
    assert link.is_symlink()
    assert load_arrays(saved) == ({}, {"new": 1})


def test_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_arrays("model", {}, HEADER)
    assert load_arrays("model") == ({}, HEADER)


def child_env():
    return os.environ | {"PYTHONPATH": str(SRC)}


def test_kill_in_the_middle_of_writing_leaves_the_old_file(saved, arrays):
    code = (
        "import sys, time; from harmonium.persistence import write_atomically\n"
        "with write_atomically(sys.argv[1]) as temporary, temporary.open('wb') as file:\n"
        "    file.write(b'half'); file.flush(); print('half', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(saved)]
    with subprocess.Popen(command, env=child_env(), stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"half\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    leftovers = [name for name in os.listdir(saved.parent) if name != saved.name]
    assert len(leftovers) == 1
    (saved.parent / leftovers[0]).unlink()
    assert_unchanged(saved, arrays)


def test_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    code = (
        "import sys, numpy as np; from harmonium.persistence import save_arrays\n"
        "i = 0\n"
        "while True:\n"
        "    save_arrays(sys.argv[1], {'a': np.full(200_000, float(i))}, {'i': i})\n"
        "    if i == 0: print('first', flush=True)\n"
        "    i += 1"
    )
    path = tmp_path / "model"
    for pause in (0.013, 0.051, 0.104):
        command = [sys.executable, "-c", code, str(path)]
        with subprocess.Popen(command, env=child_env(), stdout=subprocess.PIPE) as child:
            assert child.stdout.readline() == b"first\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(pause)
            child.kill()
        loaded, header = load_arrays(path)
        assert loaded["a"].shape == (200_000,)
        assert (loaded["a"] == header["i"]).all()
