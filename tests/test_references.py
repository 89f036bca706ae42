from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import metrics, references
from automl.data import storage
from automl.data.dataset import make_dataset
from automl.jobs import REFERENCES
from automl.testing import boring_table
from automl.trial import by_fold
from automl.values import Task


@pytest.mark.parametrize("task", Task)
def test_each_is_scored_on_the_rows_that_trials_are_scored_on(
    trained: Callable[..., Any], task: Task, tmp_path: Path
) -> None:
    study, _ = trained(task)
    metric = metrics.metric(study.prepared.objective, task)
    _, target = storage.load_part(study.folder.data, "search")
    folds = storage.load_folds(study.folder.data)
    y_val = [target[fold.val] for fold in folds]
    values = {}
    for name in REFERENCES:
        scored = references.run_reference(name, study.folder.data, tmp_path / name, metric.name, seed=0)
        stored = np.load(tmp_path / name / "validation.npy")
        assert scored.metrics == metrics.score_all_folds(task, y_val, by_fold(stored, folds))
        assert scored.value == scored.metrics[metric.name]
        values[name] = scored.value
    assert metric.better(values["linear"], values["dummy"])
    assert metric.better(values["boosting"], values["dummy"])


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("task", Task)
def test_every_kind_of_column_is_taken(task: Task, name: str) -> None:
    dataset = make_dataset(boring_table(task, n_rows=120), target="target", task=task, name="x", source="y")
    train, val = np.arange(0, 120, 2), np.arange(1, 120, 2)
    model = references.fit(name, dataset.schema, dataset.features.iloc[train], dataset.target[train], seed=0)
    unseen = dataset.features.iloc[val].assign(colour="ultraviolet", remark=None, amount=np.nan)
    found = references.predict(model, dataset.schema, unseen)
    assert np.isfinite(found).all()
    assert found.shape == ((60,) if task is Task.REGRESSION else (60, len(dataset.schema.target.classes)))
    again = references.fit(name, dataset.schema, dataset.features.iloc[train], dataset.target[train], seed=0)
    np.testing.assert_array_equal(references.predict(again, dataset.schema, unseen), found)
    pickle.dumps(found)  # it crosses from a process of its own


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("columns", [["amount", "visits"], ["colour"]])
def test_numbers_alone_and_categories_alone_are_taken(name: str, columns: list[str]) -> None:
    table = boring_table(Task.BINARY, n_rows=60)[[*columns, "target"]]
    dataset = make_dataset(table, target="target", name="x", source="y")
    model = references.fit(name, dataset.schema, dataset.features, dataset.target, seed=0)
    assert references.predict(model, dataset.schema, dataset.features).shape == (60, 2)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_class_without_training_rows_gets_no_probability(name: str) -> None:
    dataset = make_dataset(boring_table(Task.MULTICLASS, n_rows=90), target="target", name="x", source="y")
    rows = np.flatnonzero(dataset.target != 1)
    model = references.fit(name, dataset.schema, dataset.features.iloc[rows], dataset.target[rows], seed=0)
    found = references.predict(model, dataset.schema, dataset.features)
    assert found.shape == (90, 3)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", REFERENCES)
def test_a_class_of_one_row_is_put_up_with(name: str) -> None:
    table = pd.DataFrame({"a": np.arange(40.0) % 7, "target": ["x"] * 20 + ["y"] * 19 + ["z"]})
    dataset = make_dataset(table, target="target", name="x", source="y")
    assert references.fit(name, dataset.schema, dataset.features, dataset.target, seed=0) is not None
