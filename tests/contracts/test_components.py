"""Registered means tested: every built-in component passes the checks that plug-ins are offered."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from automl import plugins, testing
from automl.components import CATALOGUES, STAGES, Component
from automl.values import Scalar, Task

torch.set_num_threads(1)
plugins.load_builtin()

COMPONENTS = {kind: list(catalogue) for kind, catalogue in CATALOGUES.items()}
STEPS = [component for stage in STAGES for component in COMPONENTS[stage]]


def named(component: Component) -> str:
    return f"{component.kind}-{component.name}"


def takes_file(component: Component) -> bool:
    return any(trait.startswith("path:") for trait in component.traits)


def test_no_kind_of_component_is_forgotten_here() -> None:
    places = {"network", "optimizer", "schedule", "loss", "augmentation", "averaging", "batches", "balancing", "domain"}
    assert set(COMPONENTS) == {*STAGES, *places, "source"}
    assert all(COMPONENTS.values())


@pytest.mark.parametrize("component", [c for c in COMPONENTS["network"] if not takes_file(c)], ids=named)
def test_network(component: Component) -> None:
    testing.check_network(component)


@pytest.mark.slow  # networks as large as those who make such files train them
@pytest.mark.parametrize("component", [c for c in COMPONENTS["network"] if takes_file(c)], ids=named)
def test_network_that_takes_a_file(component: Component) -> None:
    testing.check_network(component)


@pytest.mark.parametrize("component", COMPONENTS["optimizer"], ids=named)
def test_optimizer(component: Component) -> None:
    testing.check_optimizer(component)


@pytest.mark.parametrize("component", COMPONENTS["schedule"], ids=named)
def test_schedule(component: Component) -> None:
    testing.check_schedule(component)


@pytest.mark.parametrize("component", COMPONENTS["loss"], ids=named)
def test_loss(component: Component) -> None:
    testing.check_loss(component)


@pytest.mark.parametrize("component", COMPONENTS["augmentation"], ids=named)
def test_augmentation(component: Component) -> None:
    testing.check_augmentation(component)


@pytest.mark.parametrize("component", COMPONENTS["averaging"], ids=named)
def test_averaging(component: Component) -> None:
    testing.check_averaging(component)


@pytest.mark.parametrize("component", COMPONENTS["batches"], ids=named)
def test_batches(component: Component) -> None:
    testing.check_batches(component)


@pytest.mark.parametrize("component", COMPONENTS["balancing"], ids=named)
def test_balancing(component: Component) -> None:
    testing.check_balancing(component)


@pytest.mark.parametrize("component", COMPONENTS["domain"], ids=named)
def test_domain(component: Component) -> None:
    testing.check_domain(component)


@pytest.mark.slow
@pytest.mark.parametrize("component", STEPS, ids=named)
def test_step(component: Component) -> None:
    if component.missing_package is not None:
        pytest.skip(f"{component.missing_package} is not installed")
    testing.check_step(component)


def _csv(table: pd.DataFrame, base: Path) -> dict[str, Scalar]:
    table.to_csv(base / "table.csv", index=False)
    return {"path": "table.csv"}


def _parquet(table: pd.DataFrame, base: Path) -> dict[str, Scalar]:
    table.to_parquet(base / "table.parquet")
    return {"path": "table.parquet"}


def _arrow(table: pd.DataFrame, base: Path) -> dict[str, Scalar]:
    table.to_feather(base / "table.arrow")
    return {"path": "table.arrow"}


def _jsonl(table: pd.DataFrame, base: Path) -> dict[str, Scalar]:
    table.to_json(base / "table.jsonl", orient="records", lines=True, date_format="iso")
    return {"path": "table.jsonl"}


def _folder(table: pd.DataFrame, base: Path) -> dict[str, Scalar]:
    for row, label in enumerate(table["target"]):
        (base / "images" / label).mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2)).save(base / "images" / label / f"{row}.png")
    return {"path": "images"}


def _sql(table: pd.DataFrame, base: Path) -> dict[str, Scalar]:
    with sqlite3.connect(base / "table.db") as connection:
        table.to_sql("boring", connection, index=False)
    return {"url": "sqlite:///table.db", "query": "SELECT * FROM boring"}


#: How each source is given a table; a source that is missing here fails its test.
GIVEN: dict[str, Callable[[pd.DataFrame, Path], dict[str, Scalar]]] = {
    "csv": _csv,
    "parquet": _parquet,
    "arrow": _arrow,
    "jsonl": _jsonl,
    "folder": _folder,
    "sql": _sql,
    "sklearn": lambda table, base: {"name": "iris"},
}


@pytest.mark.parametrize("component", COMPONENTS["source"], ids=named)
def test_source(component: Component, tmp_path: Path) -> None:
    table = testing.boring_table(Task.BINARY, n_rows=20)
    testing.check_source(component, GIVEN[component.name](table, tmp_path), tmp_path)
