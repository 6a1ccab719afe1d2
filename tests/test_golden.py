"""Training runs whose bits are known: the same on every machine, compiler and instruction set.

What goes in is made of integers, so that nothing depends on a library's logarithm.
"""

import hashlib
from typing import Any

import numpy as np
import pytest

from harmonium import _core
from harmonium.engine import get_engine
from harmonium.engine.protocol import TrainingArrays, TrainingRule

DECAY = {"n_gibbs_steps": 2, "l1": 1e-4, "l2": 1e-3}


def words(n: int, seed: int) -> np.ndarray:
    counters = np.zeros((n, 4), np.uint32)
    counters[:, 0] = np.arange(n)
    return _core.philox(counters, seed)[:, 0]


@pytest.mark.parametrize(
    "bits, rule, has_momentum",
    [
        ("759bf237d4ebe000", DECAY, True),
        ("adcbe1d7851a4be7", {"n_gibbs_steps": 1, "l1": 0.0, "l2": 0.0}, False),
    ],
    ids=["decay and momentum", "updates that share passes"],
)
def test_a_training_run_has_the_bits_it_always_had(
    isa: str, bits: str, rule: dict[str, Any], has_momentum: bool
) -> None:
    V, H, n = 200, 130, 60
    W = ((words(V * H, 1) >> 8).astype(np.float32) / np.float32(2**24) - np.float32(0.5)) / 4
    v = (words(n * V, 2) % 5 == 0).reshape(n, V)
    arrays = TrainingArrays(
        W.reshape(V, H),
        np.full(V, -1, np.float32),
        np.full(H, -0.5, np.float32),
        # As many chains as rows, but for the last minibatch of an epoch.
        np.zeros((7, 3), np.uint64),
        *(np.zeros(shape, np.float32) if has_momentum else None for shape in ((V, H), V, H)),
    )
    engine = get_engine(n_threads=2)
    trainer = engine.trainer(arrays, TrainingRule(persistent=True, seed=77, **rule), "auto")
    momentum = 0.5 if has_momentum else 0.0
    for epoch in range(20):
        trainer.run(engine.rows_of_bytes(v), None, 0, n, 7, 18 * epoch, 0.1, momentum)
    energies = np.empty(n)
    engine.machine(*arrays[:3], "auto").free_energy(engine.rows_of_bytes(v), energies)
    digest = hashlib.sha256()
    for array in (*arrays[:4], energies):
        digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == bits
