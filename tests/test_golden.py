"""One training run whose bits are known: the same on every machine, compiler and instruction set.

What goes in is made of integers, so that nothing depends on a library's logarithm.
"""

import hashlib

import numpy as np

from harmonium import _core
from harmonium.engine import get_engine
from harmonium.engine.protocol import TrainingArrays, TrainingRule

GOLDEN = "759bf237d4ebe000"


def words(n: int, seed: int) -> np.ndarray:
    counters = np.zeros((n, 4), np.uint32)
    counters[:, 0] = np.arange(n)
    return _core.philox(counters, seed)[:, 0]


def test_a_training_run_has_the_bits_it_always_had(isa: str) -> None:
    V, H, n = 200, 130, 60
    W = ((words(V * H, 1) >> 8).astype(np.float32) / np.float32(2**24) - np.float32(0.5)) / 4
    v = (words(n * V, 2) % 5 == 0).reshape(n, V)
    arrays = TrainingArrays(
        W.reshape(V, H),
        np.full(V, -1, np.float32),
        np.full(H, -0.5, np.float32),
        # As many chains as rows, but for the last minibatch of an epoch.
        np.zeros((7, 3), np.uint64),
        np.zeros((V, H), np.float32),
        np.zeros(V, np.float32),
        np.zeros(H, np.float32),
    )
    engine = get_engine(n_threads=2)
    rule = TrainingRule(n_gibbs_steps=2, persistent=True, l1=1e-4, l2=1e-3, seed=77)
    trainer = engine.trainer(arrays, rule, "auto")
    for epoch in range(20):
        trainer.run(engine.rows_of_bytes(v), None, 0, n, 7, 18 * epoch, 0.1, 0.5)
    energies = np.empty(n)
    engine.machine(*arrays[:3], "auto").free_energy(engine.rows_of_bytes(v), energies)
    digest = hashlib.sha256()
    for array in (*arrays[:4], energies):
        digest.update(array.tobytes())
    assert digest.hexdigest()[:16] == GOLDEN
