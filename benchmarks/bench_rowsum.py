"""By instruction set: products with packed binary rows, and the sigmoid that follows them."""

from __future__ import annotations

from typing import Any

import cases
import data
import numpy as np
import peers
import pytest
from bench_transform import same_probabilities
from conftest import Race, Turn
from peers import torch
from scipy.special import expit

from harmonium import _core, ops
from harmonium.engine import get_engine


@pytest.mark.parametrize("case", cases.ROW_SUMS, indirect=True, ids=lambda case: case.title)
def test_row_sums(case: cases.Product, race: Race, by_level: Any, threads: int) -> None:
    model = data.trained(case.n_visible, case.n_hidden)
    W = np.ascontiguousarray(model.components_.T)
    b, c = model.intercept_visible_, model.intercept_hidden_
    rows = data.rows(case.n_visible)[: case.n_rows]
    weights, bias = W, c
    if case.label == "propdown":
        rows = ops.sample_bernoulli(model.transform(rows), seed=0).astype(np.float32)
        weights, bias = W.T, b

    engine = get_engine(n_threads=threads)
    packed = engine.rows_of_bits(ops.pack(rows), rows.shape[1])

    def make() -> Turn:
        propagate = getattr(engine.machine(W, b, c, "auto"), case.label)
        out = np.empty((case.n_rows, weights.shape[1]), np.float32)

        def ours() -> Any:
            propagate(packed, out)
            return out

        return ours

    ours, others = by_level(make)
    p = np.empty((case.n_rows, weights.shape[1]), np.float32)

    def by_numpy() -> Any:
        np.matmul(rows, weights, out=p)
        np.add(p, bias, out=p)
        return expit(p, out=p)

    others["NumPy"] = by_numpy
    if torch is not None:
        torch_propagate = getattr(peers.TorchRBM(W, b, c), case.label)

        def by_torch() -> Any:
            with torch.inference_mode():
                return torch_propagate(torch.from_numpy(rows)).numpy()

        others["PyTorch"] = by_torch

    def agree(results: dict[str, Any]) -> None:
        for level in _core.available_isas()[:-1]:
            np.testing.assert_array_equal(results[level], results["harmonium"])
        same_probabilities(results)

    race(case, ours, others, agree=agree, table="kernels")
