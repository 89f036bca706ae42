from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import metrics, plugins
from automl.data import storage
from automl.data.blocks import ForecastLayout
from automl.data.dataset import make_dataset
from automl.data.forecasting import STEERING, windows
from automl.errors import StorageError
from automl.predictor import Predictor
from automl.preprocessing import prefix_cache
from automl.testing import PLAIN_TASKS
from automl.trial import by_fold, prepare, refit, run_trial
from automl.values import Choice, EpochReport, Fold, Scored, Step, Task

plugins.load_builtin()


@pytest.mark.parametrize("task", Task)
def test_a_trial_stores_the_model_that_makes_its_predictions(trained: Callable[..., Any], task: Task) -> None:
    study, scored = trained(task)
    features, target = storage.load_part(study.folder.data, "search")
    folds = storage.load_folds(study.folder.data)
    assert len(folds) == 2
    stored = np.load(study.folder.trial(0) / "validation.npy")
    predictor = Predictor.load(study.folder.trial(0) / "model")
    assert len(predictor.members) == 2
    parts = []
    for fold, member in zip(folds, predictor.members, strict=True):
        # Each fold's network alone answers for the rows that it has not been trained on.
        parts.append(Predictor(predictor.schema, [member]).predictions(features.iloc[fold.val]))
    np.testing.assert_allclose(np.concatenate(parts), stored, rtol=1e-6, atol=1e-9)
    validated = np.sort(np.concatenate([fold.val for fold in folds]))
    assert np.isin(validated, np.arange(len(target))).all()
    assert len(np.unique(validated)) == len(validated) >= len(target) - task.is_several  # a class may have a single row
    of = study.prepared.schema.target
    again = metrics.score_all_folds(of, [target[fold.val] for fold in folds], by_fold(stored, folds))
    assert scored.metrics == pytest.approx(again, abs=0, rel=0, nan_ok=True)
    assert scored.value == again[study.prepared.objective]
    assert scored.n_epochs == 4


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_two_epochs_beat_what_is_always_the_same(trained: Callable[..., Any], task: Task) -> None:
    study, scored = trained(task)
    _, target = storage.load_part(study.folder.data, "search")
    if task is Task.REGRESSION:
        blind = np.full(len(target), target.mean())
    else:
        blind = np.tile(np.bincount(target) / len(target), (len(target), 1))
    metric = metrics.metric(study.prepared.objective, task)
    assert metric.better(scored.value, metrics.score(metric, target, blind))


def test_levels_are_told_in_the_unit_of_targets_where_rows_are_dropped(configuration: Callable[..., Any]) -> None:
    promo = np.where(np.arange(60) < 30, np.nan, np.arange(60) % 2)
    history = pd.DataFrame({"day": np.arange(60), "y": np.arange(60.0) ** 2, "promo": promo})
    made = windows(history, "y", ForecastLayout("day", 1, 4, known=("promo",)))
    table = make_dataset(made.frame, target="y", name="x", source="y", split_columns=STEERING, blocks=made.blocks)
    dropping = configuration(Task.REGRESSION, preprocessing=(Step("imputation", Choice("drop_rows")),))
    fold = Fold(np.arange(45), np.arange(45, len(table.target)))
    data, preprocessing = prepare(dropping, table.schema, table.features, table.target, fold, 0)
    assert len(data.train.target) < 45
    level = data.val.inputs["baseline"][:, 0] * data.target.scale + data.target.mean
    np.testing.assert_allclose(level, table.features["y[level]"].iloc[45:], rtol=1e-5)
    assert preprocessing.baseline is not None


def test_a_trial_never_opens_the_test_part(study: Callable[..., Any], trained: Callable[..., Any]) -> None:
    copied, scored = trained()
    for file in ("test.arrow", "test_target.npy"):
        (copied.folder.data / file).unlink()
    with pytest.raises(StorageError):
        storage.load_part(copied.folder.data, "test")
    again = run_trial(copied.trial(number=1), lambda epoch: False)
    assert (again.value, again.metrics) == (scored.value, scored.metrics)


def test_a_seed_decides_everything(trained: Callable[..., Any]) -> None:
    study, scored = trained()
    same = run_trial(study.trial(number=1), lambda epoch: False)
    other = run_trial(replace(study.trial(number=2), seed=99), lambda epoch: False)
    assert same.metrics == scored.metrics
    assert other.metrics != scored.metrics
    for name in ("model/weights.safetensors", "validation.npy"):
        assert (study.folder.trial(1) / name).read_bytes() == (study.folder.trial(0) / name).read_bytes()


def test_trials_share_what_they_fit_alike_and_nothing_of_it_is_shipped(
    trained: Callable[..., Any], configuration: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_cache, "MIN_SECONDS", -9.0)  # or steps on a few rows would not be worth keeping
    study, scored = trained()
    alike = configuration(Task.BINARY, network=Choice("mlp", {"depth": 1, "width": 8}))
    made = study.trial(number=1), study.trial(number=2), study.trial(alike, number=3)
    tasks = [replace(task, cache=study.folder.cache, rows="x") for task in made]
    assert [run_trial(task, lambda epoch: False).metrics for task in tasks[:2]] == [scored.metrics] * 2
    for name in ("model/weights.safetensors", "validation.npy"):
        files = [study.folder.trial(number) / name for number in range(3)]
        assert len({file.read_bytes() for file in files}) == 1
    kept = {path.name: path.stat().st_ino for path in study.folder.cache.iterdir()}
    run_trial(tasks[2], lambda epoch: False)
    assert {path.name: path.stat().st_ino for path in study.folder.cache.iterdir()} == kept
    n_steps, n_folds = 4, 2  # what comes before all steps, imputation, scaling, and the encoding that is implied
    assert len(kept) == n_steps * n_folds
    names = [{file.name for file in (study.folder.trial(n) / "model").rglob("*")} for n in (0, 1)]
    assert names[0] == names[1]


def test_epochs_are_counted_in_each_fold(study: Callable[..., Any]) -> None:
    reports: list[EpochReport] = []
    scored = run_trial(study().trial(max_epochs=3), lambda epoch: bool(reports.append(epoch)))
    assert [(epoch.fold, epoch.epoch) for epoch in reports] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert scored.n_epochs == 6


def test_without_patience_training_stops_at_its_best(study: Callable[..., Any]) -> None:
    reports: list[EpochReport] = []
    run_trial(study().trial(max_epochs=60, patience=1), lambda epoch: bool(reports.append(epoch)))
    assert len(reports) < 120


def test_what_preprocessing_did_is_told(
    study: Callable[..., Any], configuration: Callable[..., Any], tmp_path: Any
) -> None:
    made = study()
    steps = (Step("imputation", Choice("drop_rows")), Step("resampling", Choice("random_over")))
    scored: Scored = run_trial(made.trial(configuration(Task.BINARY, preprocessing=steps)), lambda epoch: False)
    told = "\n".join(scored.seen)
    assert "training rows dropped for a missing number" in told
    assert "class counts" in told


def test_a_loss_is_told_of_the_training_rows_alone(
    study: Callable[..., Any], configuration: Callable[..., Any]
) -> None:
    made = study(Task.REGRESSION)
    features, target = storage.load_part(made.folder.data, "search")
    fold = storage.load_folds(made.folder.data)[0]
    wild = np.array(target)
    wild[fold.val] = 1e9
    data, _ = prepare(configuration(Task.REGRESSION), made.prepared.schema, features, wild, fold, seed=0)
    assert data.target.mean == pytest.approx(target[fold.train].mean())
    assert data.target.scale == pytest.approx(target[fold.train].std())


def test_the_stored_table_is_the_one_that_was_read(study: Callable[..., Any]) -> None:
    made = study()
    features, _ = storage.load_part(made.folder.data, "search")
    given = pd.read_parquet(made.base / "table.parquet")
    assert set(features["amount"]) <= set(given["amount"])
    assert not {"customer_id", "country"} & set(features)


def test_a_refit_learns_from_all_search_rows_and_no_others(study: Callable[..., Any]) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    task = made.trial()
    run_trial(task, lambda epoch: False)
    assert refit(task)
    (member,) = Predictor.load(task.out / "refit").members
    (before,) = Predictor.load(task.out / "model").members
    assert sum(member.target.class_counts) == made.prepared.n_search
    assert sum(before.target.class_counts) == made.prepared.n_train
    first = {path.name: path.read_bytes() for path in (task.out / "refit").glob("*.safetensors")}
    assert refit(task)  # equal arguments give equal results
    assert first == {path.name: path.read_bytes() for path in (task.out / "refit").glob("*.safetensors")}


def test_a_refit_of_several_folds_is_one_network(study: Callable[..., Any]) -> None:
    made = study(validation={"strategy": "kfold", "n_folds": 3, "test_size": 0})
    task = made.trial()
    run_trial(task, lambda epoch: False)
    assert len(Predictor.load(task.out / "model").members) == 3
    if refit(task):
        assert len(Predictor.load(task.out / "refit").members) == 1


def test_a_refit_that_has_no_time_leaves_nothing(study: Callable[..., Any]) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    task = made.trial()
    run_trial(task, lambda epoch: False)
    assert not refit(replace(task, stop_at=time.monotonic()))
    assert not (task.out / "refit").exists()
