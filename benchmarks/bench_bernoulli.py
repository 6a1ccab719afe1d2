"""By instruction set: draws per second of `sample_bernoulli`."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import peers
import pytest
from conftest import Race, Turn
from peers import torch

from harmonium import ops


@pytest.mark.parametrize("case", [cases.BERNOULLI], indirect=True, ids=lambda case: case.title)
def test_bernoulli(case: cases.Elementwise, race: Race, by_level: Any, threads: int) -> None:
    p = np.random.default_rng(0).random(case.shape, dtype=np.float32)

    def make() -> Turn:
        drawn = np.empty(p.shape, np.bool_)
        return lambda: ops.sample_bernoulli(p, seed=1, out=drawn, n_threads=threads)

    ours, others = by_level(make)
    others["NumPy"] = peers.numpy_bernoulli(p)
    if torch is not None:
        others["PyTorch"] = peers.torch_bernoulli(p)

    def agree(results: dict[str, Any]) -> None:
        for drawn in results.values():
            # The standard deviation of a mean of draws is at most 0.5 / √n.
            assert abs(np.mean(np.asarray(drawn)) - p.mean()) < 5 * 0.5 / np.sqrt(p.size)

    race(case, ours, others, agree=agree, table="kernels")
