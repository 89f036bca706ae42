from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from automl import metrics
from automl.components import CATALOGUES
from automl.data import storage
from automl.finalise import ROUNDS, choose, ensemble, finalise, select
from automl.predictor import Predictor
from automl.references import run_reference
from automl.trial import refit, run_trial
from automl.values import (
    OWN,
    Choice,
    Configuration,
    Direction,
    FinalTask,
    Metric,
    Target,
    Task,
    TrainerSettings,
    TrialTask,
)
from tests.lightning_modules import registered

CASES = [
    ("roc_auc", Task.BINARY),
    ("log_loss", Task.MULTICLASS),
    ("accuracy", Task.MULTICLASS),
    ("rmse", Task.REGRESSION),
    ("r2", Task.REGRESSION),
]


Folds = list[NDArray[Any]]


def candidates(metric: Metric, seed: int, n: int) -> tuple[list[Folds], Folds]:
    """Returns predictions in two folds, of which each knows something of its own, best first, and what is true."""
    rng = np.random.default_rng(seed)
    y: NDArray[Any]
    if Task.REGRESSION in metric.tasks:
        y = rng.normal(10, 3, 40)
        made = [y + rng.normal(0, rng.uniform(0.1, 6), 40) for _ in range(n)]
    else:
        n_classes = 3 if Task.MULTICLASS in metric.tasks and metric.name != "roc_auc" else 2
        y = np.arange(40) % n_classes
        logits = [rng.uniform(0, 3) * np.eye(n_classes)[y] + rng.normal(0, 1.5, (40, n_classes)) for _ in range(n)]
        made = [np.exp(each) / np.exp(each).sum(axis=1, keepdims=True) for each in logits]
    sign = 1 if metric.direction is Direction.MINIMIZE else -1
    y_folds = [y[:25], y[25:]]
    folds = [[each[:25], each[25:]] for each in made]
    return sorted(folds, key=lambda each: sign * metrics.score_folds(metric, y_folds, each)), y_folds


@pytest.mark.parametrize(("name", "task"), CASES)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 4))
def test_an_ensemble_is_never_worse_than_the_best_alone(name: str, task: Task, seed: int, n: int) -> None:
    metric = metrics.metric(name, task)
    predictions, y = candidates(metric, seed, n)
    weights = select(predictions, y, metric)
    assert set(weights) <= set(range(n))
    assert sum(weights.values()) == pytest.approx(1)
    assert all(weight > 0 for weight in weights.values())
    blended = [sum(weight * predictions[i][fold] for i, weight in weights.items()) for fold in range(2)]
    found, alone = metrics.score_folds(metric, y, blended), metrics.score_folds(metric, y, predictions[0])
    assert not metric.better(alone, found) or found == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_one_candidate_is_taken_whole(name: str, task: Task) -> None:
    metric = metrics.metric(name, task)
    predictions, y = candidates(metric, 0, 1)
    assert select(predictions, y, metric) == {0: 1.0}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_of_equals_the_better_trial_is_taken(name: str, task: Task) -> None:
    metric = metrics.metric(name, task)
    predictions, y = candidates(metric, 0, 1)
    assert select(predictions * 3, y, metric) == {0: 1.0}


def test_errors_that_cancel_out_are_averaged() -> None:
    y = np.linspace(0, 10, 50)
    error = np.random.default_rng(0).normal(size=50)
    weights = select([[y + error], [y - error]], [y], metrics.metric("rmse", Task.REGRESSION))
    assert weights == {0: 0.5, 1: 0.5}


def test_noise_is_left_out() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    predictions = [[y + rng.normal(0, 0.01, 200)], [rng.normal(size=200) * 50]]
    weights = select(predictions, [y], metrics.metric("rmse", Task.REGRESSION))
    assert weights == {0: 1.0}
    assert ROUNDS >= 10


def test_what_time_allows_is_chosen() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=200)
    predictions = [[y + rng.normal(size=200)] for _ in range(4)]
    metric = metrics.metric("rmse", Task.REGRESSION)
    assert select(predictions, [y], metric, stop_at=0.0) == {int(np.argmin([np.std(p - y) for (p,) in predictions])): 1}
    assert len(select(predictions, [y], metric)) > 1


@pytest.mark.parametrize(
    ("objective", "expected"),
    [("log_loss", {1: 1.0}), ("roc_auc", {1: 1.0}), ("average_precision", {0: 0.5, 1: 0.5}), ("brier", {1: 1.0})],
)
def test_log_loss_chooses_members_where_the_objective_sees_less_of_a_row(
    objective: str, expected: dict[int, float]
) -> None:
    y = np.arange(40) % 2
    in_order = 0.5 + 0.01 * (2 * y - 1)  # of all rows, and next to nothing else is known of them
    sure = np.where(y == 1, 0.95, 0.05)
    sure[:2] = 0.52, 0.48
    predictions = [[np.column_stack([1 - p, p])] for p in (in_order, sure)]
    metric = metrics.metric(objective, Task.BINARY)
    if objective in ("roc_auc", "average_precision"):
        assert select(predictions, [y], metric) == {0: 1.0}
    assert ensemble(Target("t", Task.BINARY), metric, [y], predictions) == expected


@pytest.mark.parametrize(
    ("task", "deliver", "objective"),
    [
        (Task.BINARY, "ensemble", "log_loss"),
        (Task.BINARY, "networks", "roc_auc"),
        (Task.BINARY, "single", "balanced_accuracy"),
        (Task.MULTICLASS, "ensemble", "f1_macro"),
        (Task.REGRESSION, "ensemble", "rmse"),
        (Task.REGRESSION, "networks", "rmse"),
        pytest.param(Task.MULTILABEL, "ensemble", "f1_macro", marks=pytest.mark.slow),
        (Task.MULTITASK, "ensemble", "d2"),
    ],
)
def test_what_is_shipped_is_what_was_scored(
    trained: Callable[..., Any], configuration: Callable[..., Any], task: Task, deliver: str, objective: str
) -> None:
    study, first = trained(task)
    other = configuration(task, network=Choice("residual_mlp", {"depth": 1, "width": 8}))
    second = run_trial(study.trial(other, number=1), lambda epoch: False)
    target = study.prepared.schema.target
    metric = metrics.metric(objective, target)
    values = [first.metrics[objective], second.metrics[objective]]
    order = [0, 1] if not metric.better(values[1], values[0]) else [1, 0]
    references = []
    for name in ("dummy", "linear"):
        folder = study.folder.references / name
        run_reference(name, study.folder.data, folder, objective, seed=0)
        references.append((name, folder))
    out = study.folder.path / "shipped"
    task_ = FinalTask(
        data=study.folder.data,
        out=out,
        objective=objective,
        candidates=tuple((number, study.folder.trial(number)) for number in order),
        deliver=deliver,
        references=tuple(references),
        seed=0,
    )
    found = finalise(task_)
    assert found.members == choose(task_)
    names = [name for name, _ in found.members]
    assert sum(weight for _, weight in found.members) == pytest.approx(1)
    if deliver == "single":
        assert found.members == ((order[0], 1.0),)
    elif deliver == "networks":
        assert set(names) <= {0, 1}
    else:
        assert set(names) <= {0, 1, "dummy", "linear"}
        assert "linear" in names  # two networks of a few epochs leave it something to add
    X, y = storage.load_part(study.folder.data, "test")
    shipped = Predictor.load(out)
    again = metrics.score_all(target, y, shipped.predictions(X), shipped.decision)
    assert found.test == pytest.approx(again, abs=0, rel=0, nan_ok=True)
    assert set(found.references) == {"dummy", "linear"}
    if task.is_classification:
        labels = [shipped.schema.target.classes.index(label) for label in shipped.predict(X)["prediction"]]
        np.testing.assert_array_equal(labels, metrics.labels(shipped.predictions(X), shipped.decision))


def test_without_test_rows_there_is_no_test_score(study: Callable[..., Any]) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0})
    run_trial(made.trial(), lambda epoch: False)
    candidates = ((0, made.folder.trial(0)),)
    task = FinalTask(made.folder.data, made.folder.model, made.prepared.objective, candidates, "networks", (), 0)
    found = finalise(task)
    assert (found.test, found.references) == ({}, {})


def test_a_reference_is_the_models_of_all_folds(trained: Callable[..., Any]) -> None:
    study, _ = trained(Task.REGRESSION)
    folder = study.folder.references / "boosting"
    run_reference("boosting", study.folder.data, folder, "rmse", seed=0)
    task = FinalTask(
        data=study.folder.data,
        out=study.folder.path / "shipped",
        objective="rmse",
        candidates=((0, study.folder.trial(0)),),
        deliver="ensemble",
        references=(("boosting", folder),),
        seed=0,
        members=(("boosting", 1.0),),
    )
    finalise(task)
    X, _ = storage.load_part(study.folder.data, "test")
    shipped, models = Predictor.load(task.out), Predictor.load(folder / "model").members
    assert len(models) == len(shipped.members) == study.prepared.n_folds == 2
    mean = np.mean([model.predictions(X) for model in models], axis=0)
    np.testing.assert_allclose(shipped.predictions(X), mean)


def test_a_refitted_member_is_loaded_from_its_own_folder(study: Callable[..., Any]) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    task = made.trial()
    run_trial(task, lambda epoch: False)
    assert refit(task)
    final = FinalTask(
        made.folder.data,
        made.folder.model,
        made.prepared.objective,
        ((0, task.out),),
        "single",
        (),
        0,
        members=((0, 1.0),),
    )
    X, _ = storage.load_part(made.folder.data, "test")
    for refitted, name in (((), "model"), ((0,), "refit")):
        found = finalise(replace(final, refitted=refitted))
        assert found.refitted == refitted
        expected = Predictor.load(task.out / name)
        for member, other in zip(Predictor.load(made.folder.model).members, expected.members, strict=True):
            np.testing.assert_array_equal(member.predictions(X), other.predictions(X))


def test_a_lightning_module_is_one_of_several_members(study: Callable[..., Any]) -> None:
    n_inputs = {"type": "data", "value": "n_inputs"}
    space = {
        "version": 1,
        "preprocessing": [{"stage": "encoding", "options": ["onehot"]}, {"stage": "scaling", "options": ["standard"]}],
        "network": [{"name": "my.Classifier", "params": {"n_inputs": n_inputs, "stops": False}}, "mlp"],
        "optimizer": ["adamw"],
    }
    with registered():
        made = study(space=space)
        prepared = made.prepared
        for number, name in enumerate(("my.Classifier", "mlp")):
            point = prepared.space.defaults(CATALOGUES, {"network": name})
            configuration = prepared.space.configuration(point, prepared.modules)
            run_trial(made.trial(configuration, number=number), lambda epoch: False)
        candidates = tuple((number, made.folder.trial(number)) for number in (0, 1))
        task = FinalTask(made.folder.data, made.folder.model, prepared.objective, candidates, "networks", (), 0)
        finalise(replace(task, members=((0, 0.75), (1, 0.25))))
        X, _ = storage.load_part(made.folder.data, "test")
        module, network = (Predictor.load(folder / "model").predictions(X) for _, folder in candidates)
        shipped = Predictor.load(made.folder.model)
        assert [member.choice.name for member in shipped.members] == 2 * ["my.Classifier"] + 2 * ["mlp"]
        uncalibrated = Predictor(shipped.schema, shipped.members).predictions(X)
    assert np.abs(module - network).max() > 0.01
    np.testing.assert_allclose(uncalibrated, 0.75 * module + 0.25 * network, rtol=1e-6)


def test_a_fault_in_the_test_of_a_module_costs_its_test_score_alone(tmp_path: Path) -> None:
    configuration, source = (
        Configuration((), Choice("my.Witness", {"fails": True}), OWN, OWN, OWN, 16),
        Choice("my.Split"),
    )
    with registered():
        task = TrialTask(
            configuration,
            data=tmp_path,
            out=tmp_path / "0",
            objective="val_loss",
            settings=TrainerSettings(max_epochs=1, accelerator="cpu"),
            seed=0,
            direction=Direction.MINIMIZE,
            data_module=source,
        )
        value = run_trial(task, lambda epoch: False).value
        final = FinalTask(tmp_path, tmp_path / "model", "val_loss", ((0, task.out),), "single", (), 0)
        shipped = finalise(replace(final, logged=value, data_module=source, best=configuration))
        assert Predictor.load(tmp_path / "model").own_module is not None
    assert (shipped.validation, shipped.test) == (value, {})
    assert "there is no test score" in shipped.notes[0]
    assert "`test_step` raises ValueError: no such file" in shipped.notes[0]
