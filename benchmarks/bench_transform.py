"""Hidden probabilities of a data set: rows per second of `transform`."""

from __future__ import annotations

from typing import Any

import cases
import data
import numpy as np
import peers
import pytest
from conftest import Race
from peers import torch

import harmonium


@pytest.mark.parametrize("case", cases.TRANSFORM, indirect=True, ids=lambda case: case.title)
def test_transform(case: cases.Product, race: Race, threads: int) -> None:
    X = data.rows(case.n_visible, case.data)[: case.n_rows]
    trained = data.trained(case.n_visible, case.n_hidden)
    model = harmonium.load(data.model_path(case.n_visible, case.n_hidden))
    model.set_params(n_threads=threads)
    sklearn_twin = peers.sklearn_twin(trained)
    others = {"scikit-learn": lambda: sklearn_twin.transform(X)}
    if torch is not None:
        torch_twin = peers.TorchRBM.twin(trained)

        def by_torch() -> Any:
            with torch.inference_mode():
                return torch_twin.propup(torch.from_numpy(X)).numpy()

        others["PyTorch"] = by_torch

    race(case, lambda: model.transform(X), others, agree=same_probabilities)


def same_probabilities(results: dict[str, Any]) -> None:
    first, *rest = results.values()
    for other in rest:
        # Weights in 16 bits: docs/numerics.md bounds the error of a row of 100 active units so.
        np.testing.assert_allclose(other, first, rtol=0, atol=4e-4)
