"""Dispatch: which instruction sets there are, which is used, and that all compute the same bits."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layouts import random_bits, random_model, random_reals

from harmonium import _core, ops

LEVELS = _core.available_isas()
NAMES = ("baseline", "avx2", "avx512")


def digest() -> str:
    """A hash of what every family of kernels computes."""
    W, b, c = random_model(129, 130, seed=0, scale=0.2)
    v, p = random_bits(70, 129, seed=1), random_reals(70, 129, seed=2)
    gradient = ops.cd_gradient(v, W, b, c, 3, 5)
    arrays = [
        ops.sigmoid(W * 100),
        ops.softplus(W * 100),
        ops.sample_bernoulli(p, 3),
        ops.pack(v),
        ops.matmul(v, W),
        ops.free_energy(v, W, b, c),
        *ops.gibbs(v, W, b, c, 5, 4),
        *gradient,
    ]
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds what this one finds."""
    tests = Path(__file__).parent
    package = Path(_core.__file__).parents[1]
    path = os.pathsep.join([str(tests), str(package), os.environ.get("PYTHONPATH", "")])
    inherited = {k: v for k, v in os.environ.items() if k != "HARMONIUM_ISA"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**inherited, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_levels_rise_from_baseline() -> None:
    assert tuple(LEVELS) == NAMES[: len(LEVELS)]
    flags = Path("/proc/cpuinfo").read_text().split()
    if "flags" in flags:  # x86
        assert ("avx2" in LEVELS) == ("avx2" in flags)
        wanted = {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
        assert wanted.issubset(flags) == ("avx512" in LEVELS)


def test_the_level_can_be_chosen(isa: str) -> None:
    assert _core.active_isa() == isa
    assert isa in LEVELS


def test_all_levels_compute_the_same_bits() -> None:
    before = _core.active_isa()
    digests = set()
    try:
        for level in LEVELS:
            _core.set_isa(level)
            digests.add(digest())
    finally:
        _core.set_isa(before)
    assert len(digests) == 1


@pytest.mark.parametrize("level", ["", "neon", "AVX2", "avx", "sse2", "baseline ", "avx512f"])
def test_an_unknown_level_is_refused(level: str) -> None:
    before = _core.active_isa()
    with pytest.raises(ValueError, match=f"is '{level}', but .* are: {', '.join(LEVELS)}$"):
        _core.set_isa(level)
    assert _core.active_isa() == before


@pytest.mark.parametrize("level", [name for name in NAMES if name not in LEVELS] or [None])
def test_an_unavailable_level_is_refused(level: str | None) -> None:
    if level is None:
        pytest.skip("this machine has every level there is")
    with pytest.raises(ValueError, match=f"'{level}', but .* are: {', '.join(LEVELS)}$"):
        _core.set_isa(level)


@pytest.mark.parametrize("level", [None, 1, b"avx2\xff"])
def test_a_level_is_a_word(level: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        _core.set_isa(level)


SHOW = "from harmonium import _core; import test_isa; print(_core.active_isa(), test_isa.digest())"


@pytest.mark.parametrize("level", [*LEVELS, ""])
def test_the_environment_chooses(level: str) -> None:
    """An empty word is no choice: the best level."""
    result = python(SHOW, HARMONIUM_ISA=level)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [level or LEVELS[-1], digest()]


def test_an_unknown_word_in_the_environment_raises_and_does_not_crash() -> None:
    """At the first use, not at import; a level set by hand then helps."""
    code = """
import numpy as np
from harmonium import _core, ops
x = np.zeros(40_000, np.float32)
for call in (_core.active_isa, lambda: ops.sigmoid(x, n_threads=2), lambda: ops.pack(x[None])):
    try:
        call()
    except ValueError as error:
        print(error)
_core.set_isa("baseline")
print(ops.sigmoid(x)[0])
"""
    result = python(code, HARMONIUM_ISA="avx1024")
    assert result.returncode == 0, result.stderr
    message = f"HARMONIUM_ISA is 'avx1024', but .* are: {', '.join(LEVELS)}"
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    for line in lines[:3]:
        with pytest.raises(ValueError, match=message):
            raise ValueError(line)
    assert lines[3] == "0.5"


def test_levels_may_change_while_a_machine_lives() -> None:
    """A machine and its 16-bit weights belong to no level."""
    from harmonium.engine import get_engine

    W, b, c = random_model(70, 65, seed=3)
    engine = get_engine(n_threads=1)
    machine, rows = (
        engine.machine(W, b, c, "auto"),
        engine.rows_of_bytes(random_bits(9, 70, seed=4)),
    )
    before = _core.active_isa()
    results = []
    try:
        for level in LEVELS:
            _core.set_isa(level)
            out = np.empty((9, 65), np.float32)
            machine.propup(rows, out)
            results.append(out.tobytes())
    finally:
        _core.set_isa(before)
    assert len(set(results)) == 1
