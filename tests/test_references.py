from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from automl import jobs, metrics, references
from automl.data import storage
from automl.predictor import Predictor, ReferenceMember
from automl.testing import PLAIN_TASKS
from automl.trial import by_fold
from automl.values import Task


@pytest.mark.slow
@pytest.mark.parametrize("task", [*PLAIN_TASKS, Task.MULTITASK])
def test_each_is_scored_on_the_rows_that_trials_are_scored_on(
    trained: Callable[..., Any], task: Task, tmp_path: Path
) -> None:
    study, _ = trained(task)
    of = study.prepared.schema.target
    metric = metrics.metric(study.prepared.objective, of)
    _, target = storage.load_part(study.folder.data, "search")
    folds = storage.load_folds(study.folder.data)
    y_val = [target[fold.val] for fold in folds]
    values = {}
    for name in jobs.references(study.prepared.schema)[: None if task in PLAIN_TASKS else 3]:
        scored = references.run_reference(name, study.folder.data, tmp_path / name, metric.name, seed=0)
        stored = np.load(tmp_path / name / "validation.npy")
        again = metrics.score_all_folds(of, y_val, by_fold(stored, folds))
        assert scored.metrics == pytest.approx(again, abs=0, rel=0, nan_ok=True)
        assert scored.value == scored.metrics[metric.name]
        values[name] = scored.value
    assert metric.better(values["linear"], values["dummy"])
    assert metric.better(values["boosting"], values["dummy"])


@pytest.mark.parametrize("name", ["linear", "forest", "slow_boosting"])
def test_one_is_fitted_once_more_as_it_was(study: Callable[..., Any], name: str) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    out = made.folder.references / name
    references.run_reference(name, made.folder.data, out, "roc_auc", seed=0)
    assert references.refit(name, made.folder.data, out, "roc_auc", seed=0)
    (first,), (second,) = (Predictor.load(out / folder).members for folder in ("model", "refit"))
    assert isinstance(first, ReferenceMember)
    assert isinstance(second, ReferenceMember)
    assert first.model.n_rounds == second.model.n_rounds
    X, y = storage.load_part(made.folder.data, "search")
    (fold,) = storage.load_folds(made.folder.data)
    val, y_val = X.iloc[fold.val], y[fold.val]
    metric = metrics.metric("log_loss", Task.BINARY)  # it has seen them now
    before, after = (metrics.score(metric, y_val, each.predictions(val)) for each in (first, second))
    assert after < before


def test_one_that_does_worse_on_all_rows_is_not_kept(study: Callable[..., Any]) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    out = made.folder.references / "linear"
    references.run_reference("linear", made.folder.data, out, "log_loss", seed=0)
    _, y = storage.load_part(made.folder.data, "search")
    (fold,) = storage.load_folds(made.folder.data)
    np.save(out / "validation.npy", np.eye(2)[y[fold.val]])  # as if the first one had known all of them
    assert not references.refit("linear", made.folder.data, out, "log_loss", seed=0)
    assert not (out / "refit").exists()


def test_labels_are_decided_as_the_objective_rewards_them(study: Callable[..., Any], tmp_path: Path) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2}, objective="balanced_accuracy")
    scored = references.run_reference("linear", made.folder.data, tmp_path, "balanced_accuracy", seed=0)
    model = Predictor.load(tmp_path / "model")
    metric = metrics.metric("balanced_accuracy", Task.BINARY)
    X, y = storage.load_part(made.folder.data, "search")
    (fold,) = storage.load_folds(made.folder.data)
    predicted = model.predictions(X.iloc[fold.val])
    assert model.decision
    assert scored.value == metrics.score(metric, y[fold.val], predicted, model.decision)
    assert scored.value >= metrics.score(metric, y[fold.val], predicted)
