"""The page of kinds and networks says what is registered."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from automl.architecture import STRUCTURED
from automl.components import catalogue

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def kinds() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_kinds", DOCS / "kinds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_up_to_date(kinds: ModuleType) -> None:
    assert kinds.PAGE.read_text(encoding="utf-8") == kinds.page(), "run `make kinds`"


def test_every_kind_and_every_hyperparameter_is_told_of(kinds: ModuleType) -> None:
    assert set(kinds.KINDS) == {"columns", *STRUCTURED}
    text = kinds.page()
    for network in catalogue("network"):
        part = text.partition(f"\n### {network.name}\n")[2].partition("\n### ")[0]
        rows = [line for line in part.splitlines() if line.startswith("| `")]
        assert len(rows) == len(network.hyperparameters)
        assert all(not row.endswith("|  |") for row in rows), "a hyperparameter that its docstring does not explain"
