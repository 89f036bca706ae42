"""What every test of a fault has: a way to say what was seen, which becomes a row of docs/reliability.md."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/faults/" in item.nodeid:
            item.add_marker(pytest.mark.faults)


@pytest.fixture
def observed(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Notes a fault and what came of it, once the test has asserted that."""

    def note(fault: str, outcome: str) -> None:
        row = {"test": request.node.nodeid, "fault": fault, "outcome": outcome}
        # One file a row: tests may run side by side.
        request.config.cache.set(f"faults/{hashlib.sha256(fault.encode()).hexdigest()[:16]}", row)

    return note
