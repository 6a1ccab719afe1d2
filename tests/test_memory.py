"""How much memory a fit takes, measured by the system in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import harmonium

MEASURE = """
from pathlib import Path
import numpy as np
from harmonium import BernoulliRBM

def peak_mb():
    # Not ru_maxrss: a child inherits that from the process that started it.
    (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in s)
    return int(line.split()[1]) / 1024

# Imports, threads and buffers are there before the measurement.
rules = {"n_iter": 1, "batch_size": 100, "random_state": 0, "n_threads": 1}
BernoulliRBM(500, **rules).fit(np.eye(784, dtype=bool))
# One bit in eight, made without anything larger than the result: freed memory would hide a copy.
rng = np.random.default_rng(0)
packed = np.frombuffer(rng.bytes(60_000 * 98), np.uint8).copy()
for _ in range(2):
    packed &= np.frombuffer(rng.bytes(60_000 * 98), np.uint8)
X = np.unpackbits(packed).reshape(60_000, 784).view(bool)
assert X.nbytes > 47e6
before = peak_mb()
rbm = BernoulliRBM(500, **rules).fit(X)
after = peak_mb()
real = X.astype(np.float32)
print(after - before, peak_mb() - after)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fitting_mnists_size_adds_at_most_60_mb():
    """60 000 x 784 x 500 from booleans. The rows as bits take 6 MB, and the thousand rows of the
    metrics as much for a moment; 7 MB were measured, as some was free before. One float32 copy of
    X would take 188 MB, as the last line of the measurement shows."""
    env = os.environ | {"PYTHONPATH": str(Path(harmonium.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, check=True, env=env
    )
    fit, float32_copy = map(float, done.stdout.split())
    assert 3 < fit <= 60  # something was measured
    assert float32_copy > 120  # what the measurement would have seen
