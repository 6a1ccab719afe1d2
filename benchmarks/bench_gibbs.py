"""Gibbs chains: chain-steps v → h → v per second."""

from __future__ import annotations

from typing import Any

import cases
import data
import numpy as np
import peers
import pytest
from conftest import Race, Turn
from peers import torch

import harmonium


@pytest.mark.parametrize("case", cases.GIBBS, indirect=True, ids=lambda case: case.title)
def test_gibbs(case: cases.Gibbs, race: Race, by_part: Any) -> None:
    start = data.rows(case.n_visible)[: case.n_chains]
    trained = data.trained(case.n_visible, case.n_hidden)

    def make(n_threads: int) -> Turn:
        model = harmonium.load(data.model_path(case.n_visible, case.n_hidden))
        model.set_params(n_threads=n_threads)
        return lambda: model.gibbs(start, case.n_steps)

    ours, others = by_part(make)
    sklearn_twin = peers.sklearn_twin(trained)

    def by_sklearn() -> Any:
        v = start
        for _ in range(case.n_steps):
            v = sklearn_twin.gibbs(v)
        return v

    others["scikit-learn"] = by_sklearn
    if torch is not None:
        torch_twin = peers.TorchRBM.twin(trained)

        def by_torch() -> Any:
            with torch.inference_mode():
                return torch_twin.gibbs(torch.from_numpy(start), case.n_steps).numpy()

        others["PyTorch"] = by_torch

    def agree(results: dict[str, Any]) -> None:
        for part in cases.PARTS:
            if part in results:
                np.testing.assert_array_equal(results[part], results["harmonium"])
        # How many units are on in a chain varies by 0.04; so the mean of 20 does by 0.01.
        densities = [v.mean() for v in results.values()]
        assert np.ptp(densities) < 0.2 / np.sqrt(case.n_chains)

    race(case, ours, others, agree=agree)
