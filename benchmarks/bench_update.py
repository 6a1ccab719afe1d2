"""By instruction set: the trainer alone, with batches so small that updating W is most of it."""

from __future__ import annotations

from typing import Any

import cases
import data
import numpy as np
import pytest
from conftest import Race, Turn

from harmonium import _core, ops
from harmonium.engine import get_engine
from harmonium.engine.protocol import TrainingArrays, TrainingRule


@pytest.mark.parametrize("case", [cases.UPDATE], indirect=True, ids=lambda case: case.title)
def test_update(case: cases.Training, race: Race, by_level: Any, threads: int) -> None:
    model = data.trained(case.n_visible, case.n_hidden)
    X = data.rows(case.n_visible)[: case.n_rows]
    engine = get_engine(n_threads=threads)
    packed = engine.rows_of_bits(ops.pack(X), case.n_visible)
    rule = TrainingRule(case.n_gibbs_steps, persistent=True, l1=0.0, l2=0.0, seed=0)

    def make() -> Turn:
        arrays = TrainingArrays(
            np.ascontiguousarray(model.components_.T),
            model.intercept_visible_.copy(),
            model.intercept_hidden_.copy(),
            ops.pack(model.h_samples_[: case.batch_size]),
        )
        trainer = engine.trainer(arrays, rule, "auto")

        def ours() -> Any:
            trainer.run(packed, None, 0, case.n_rows, case.batch_size, 0, case.learning_rate, 0.0)
            return arrays.W

        return ours

    ours, others = by_level(make)

    def agree(results: dict[str, Any]) -> None:
        for level in _core.available_isas()[:-1]:
            np.testing.assert_array_equal(results[level], results["harmonium"])

    race(case, ours, others, agree=agree, table="kernels")
