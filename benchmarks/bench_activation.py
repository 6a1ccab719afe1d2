"""By instruction set: values per second of `sigmoid`."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
import pytest
from conftest import Race, Turn
from peers import torch
from scipy.special import expit

from harmonium import ops


@pytest.mark.parametrize("case", [cases.SIGMOID], indirect=True, ids=lambda case: case.title)
def test_sigmoid(case: cases.Elementwise, race: Race, by_level: Any, threads: int) -> None:
    x = 4 * np.random.default_rng(0).standard_normal(case.shape, dtype=np.float32)

    def make() -> Turn:
        out = np.empty_like(x)
        return lambda: ops.sigmoid(x, out=out, n_threads=threads)

    ours, others = by_level(make)
    p = np.empty_like(x)
    others["NumPy"] = lambda: expit(x, out=p)
    if torch is not None:
        inputs, outputs = torch.from_numpy(x), torch.empty(case.shape)
        others["PyTorch"] = lambda: torch.sigmoid(inputs, out=outputs)

    def agree(results: dict[str, Any]) -> None:
        for values in results.values():
            np.testing.assert_allclose(np.asarray(values), results["harmonium"], atol=1e-6)

    race(case, ours, others, agree=agree, table="kernels")
