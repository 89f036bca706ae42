"""Every shipped search space runs one trial of each of its options."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest

from automl import metrics, plugins, preparation, study_spec
from automl.components import CATALOGUES
from automl.data.blocks import BlockLayout
from automl.data.dataset import make_dataset
from automl.search_space import Categorical, FloatRange, IntRange, SearchSpace, auto, bundled, load
from automl.testing import boring_table, boring_targets
from automl.training.fit import fit
from automl.trial import prepare
from automl.values import Block, Column, ColumnKind, Dataset, Fold, Schema, Target, Task, TrainerSettings

plugins.load_builtin()

SPACES = sorted(bundled().glob("*.yaml"))


def tables(path: Path) -> list[Task]:
    """Returns what a space is for, by its name."""
    if "classification" in path.stem:
        return [Task.BINARY, Task.MULTICLASS]
    if path.stem == "forecasts":
        return [Task.QUANTILE, Task.REGRESSION]
    return [Task.REGRESSION] if "regression" in path.stem else list(Task)


def narrowed(path: Path, task: Task) -> tuple[SearchSpace, Dataset]:
    """Returns a space without what cannot matter on a small table of what it is for, and this table."""
    written = load(path)
    table, blocks = boring_table(task, n_rows=240), []
    wanted = {
        kind
        for place, options in written.places()
        if place in ("network", "preprocessing.reduction")
        for option in options
        for kind in CATALOGUES[place.removeprefix("preprocessing.")][option.name].traits
    }
    for kind, shape in (("image", [1, 6, 6]), ("sequence", [2, 18])):
        if kind in wanted:
            table[[f"{kind}{i}" for i in range(36)]] = np.random.default_rng(0).normal(size=(240, 36))
            blocks.append(BlockLayout(kind, f"{kind}*", shape))  # type: ignore[arg-type]
    dataset = make_dataset(table, **boring_targets(task), name="x", source="y", blocks=blocks)
    space, _ = written.for_target(dataset.schema.target, CATALOGUES).for_data(dataset.schema)
    return space, dataset


@pytest.mark.parametrize(("task", "losses"), [("regression", ["mse", "mae", "huber"]), ("quantile", ["pinball"])])
def test_a_forecast_is_learned_by_the_losses_of_its_task(tmp_path: Path, task: str, losses: list[str]) -> None:
    day = pd.date_range("2020-01-01", periods=60, freq="D")
    pd.DataFrame({"day": day, "y": np.sin(np.arange(60.0)) + np.arange(60) / 9}).to_csv(tmp_path / "t.csv", index=False)
    document = {
        "name": "t",
        "task": task,
        "data": {"source": "csv", "params": {"path": "t.csv"}, "target": "y"},
        "forecast": {"time": "day", "horizon": 2},
    }
    found = preparation.check(study_spec.build(document, where="x.yaml"), tmp_path)
    assert [option.name for option in found.space.loss or ()] == losses


@pytest.mark.parametrize(
    ("kinds", "name"),
    [
        (["image", "categorical"], "images"),
        (["image", "text"], "mixtures"),
        (["image", "sequence", "numeric"], "mixtures"),
        (["sequence", "numeric"], "sequences"),
        (["text", "text"], "texts"),
        (["text", "numeric"], "tabular_regression"),
    ],
)
def test_it_is_chosen_by_what_the_table_holds(kinds: list[str], name: str) -> None:
    columns = tuple(Column(f"c{i}", ColumnKind(kind), "float64") for i, kind in enumerate(kinds))
    cells = [column for column in columns if column.kind.is_cell]
    blocks = tuple(Block(cell.kind.value, cell.kind, (cell.name,), (1, 1)) for cell in cells)
    assert auto(Schema(columns, Target("y", Task.REGRESSION), blocks)).stem == name


def options() -> Iterator[Any]:
    """Yields each option of each space with one of the tasks that the space is for, all of them in turn."""
    for path in SPACES:
        in_turn = itertools.cycle([Task.BINARY] if "small" in path.stem else tables(path))
        for place, those in load(path).places():
            for option in those:
                task = next(in_turn)
                yield pytest.param(path, place, option.name, task, id=f"{path.stem} {place} {option.name} {task}")


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_defaults_are_within_the_ranges(path: Path) -> None:
    """Those of the components, where a range has none of its own; else the first trial would train something else."""
    n_held = 0
    for place, options in load(path).places():
        for option in options:
            known = CATALOGUES[place.removeprefix("preprocessing.")][option.name].hyperparameters
            for name, distribution in option.params.items():
                if isinstance(distribution, (IntRange, FloatRange, Categorical)):
                    default = known[name].default if distribution.default is None else distribution.default
                    assert default is None or distribution.holds(default), f"{place} {option.name}: {name} {default}"
                    n_held += 1
    assert n_held > 0


@pytest.mark.slow
@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_it_fits_the_catalogues(path: Path) -> None:
    for task in tables(path):
        space, _ = narrowed(path, task)
        assert space.check(CATALOGUES, where=path.stem) == []
        for point in space.starts(CATALOGUES):
            assert space.suggest(optuna.trial.FixedTrial(point)) is not None


@pytest.mark.slow
@pytest.mark.parametrize(("path", "place", "name", "task"), list(options()))
def test_each_option_is_trained(path: Path, place: str, name: str, task: Task) -> None:
    for_it = [task, *(other for other in reversed(tables(path)) if other != task)]
    found = (narrowed(path, each) for each in for_it)  # what is for some tasks alone is trained on the last of these
    space, dataset = next((s, d) for s, d in found if name in [option.name for option in dict(s.places())[place]])
    point = space.defaults(CATALOGUES, {place: name})
    configuration = space.suggest(optuna.trial.FixedTrial(point))
    assert dict(configuration.choices())[place].name == name
    rows = np.random.default_rng(0).permutation(240)
    data, _ = prepare(configuration, dataset.schema, dataset.features, dataset.target, Fold(rows[:180], rows[180:]), 0)
    metric = metrics.default_metric(dataset.schema.target)
    settings = TrainerSettings(max_epochs=2, accelerator="cpu")
    fitted = fit(configuration, data, metric, settings, seed=0, report=lambda epoch: False)
    assert np.isfinite(fitted.value)
    assert fitted.network.state_dict()
