"""What the README names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from automl.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("named", sorted(set(re.findall(r"`((?:tests/[\w/]+/)?test_\w+\.py(?:::\w+)?)`", README))))
def test_the_tests_that_hold_a_promise(named: str) -> None:
    file, _, test = named.partition("::")
    (path,) = [ROOT / file] if "/" in file else list((ROOT / "tests").rglob(file))
    tests = {
        node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
    }
    assert test in tests if test else any(name.startswith("test_") for name in tests)


def test_the_commands() -> None:
    listed = README.partition("## Commands\n\n")[2].partition("; each with")[0]
    assert set(re.findall(r"`(\w+)`", listed)) == set(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("linked", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_the_files_that_it_links(linked: str) -> None:
    assert (ROOT / linked).exists()
