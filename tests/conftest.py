"""Fixtures of all test files."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harmonium import _core


@pytest.fixture(params=_core.available_isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set in turn; the level of before is restored afterwards."""
    before = _core.active_isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)
