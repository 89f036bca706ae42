"""Promotion over a registry in memory; the clean process that loads each candidate is a real one, hence slow."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import manifest, preparation, promotion, study_spec
from automl.errors import AutomlError, ConfigError, RefusedError, TrackingError
from automl.finalise import finalise
from automl.study import _make_servable, result_to_json
from automl.study_folder import Prepared, StudyFolder, read_json, write_json
from automl.tracking.memory_tracker import MemoryTracker
from automl.tracking.tracker import RunKind, RunStart
from automl.trial import run_trial
from automl.values import (
    Choice,
    FinalTask,
    StudyResult,
    Task,
    TrainerSettings,
    TrialResult,
    TrialState,
    TrialTask,
)


class Failing(MemoryTracker):
    """A registry that is gone for a moment, between the version and the alias."""

    gone = False

    def point(self, model: str, alias: str, version: int) -> None:
        if self.gone:
            raise TrackingError("the server does not answer")
        super().point(model, alias, version)


@dataclass(frozen=True)
class Shop:
    """Two finished studies over the same rows, one of which predicts better, and a registry that holds both models."""

    registry: Failing
    good: StudyFolder
    bad: StudyFolder

    def champion(self) -> int | None:
        found = self.registry.alias("churn", "champion")
        return found.version if found else None

    def promote(self, folder: StudyFolder) -> dict[str, Any]:
        return promotion.promote(folder, "churn", "champion", self.registry)


def finished(folder: StudyFolder, task: TrialTask, prepared: Prepared, registry: MemoryTracker) -> StudyFolder:
    """Returns the folder of a study of this one trial, whose model is in the registry."""
    scored = run_trial(task, lambda epoch: False)
    number = int(task.out.name)
    shutil.copytree(task.data, folder.data)
    shutil.copy(task.data.parent / folder.prepared.name, folder.prepared)
    final = FinalTask(folder.data, folder.model, prepared.objective, ((number, task.out),), "single", (), 0)
    shipped = finalise(final)
    _make_servable(folder.model, prepared.schema)
    name = folder.path.name
    run = registry.open_run(RunStart(name, "automl", name, RunKind.STUDY, time.time_ns() // 10**6))
    uri = registry.log_model(run.run_id, folder.model, name="model")
    trial = TrialResult(number, TrialState.COMPLETE, task.configuration, scored.value, scored.metrics)
    result = StudyResult(
        study=name,
        status="finished",
        metric=prepared.objective,
        direction=prepared.direction,
        trials=(trial,),
        references=(),
        best=trial,
        shipped=shipped,
        seconds={},
        run_id=run.run_id,
        model_uri=uri,
    )
    write_json(folder.result, result_to_json(result))
    return folder


@pytest.fixture
def shop(study: Callable[..., Any], configuration: Callable[..., Any], tmp_path: Path) -> Shop:
    registry = Failing()
    made = study(validation={"strategy": "holdout", "test_size": 0.3})
    folders = {}
    for number, (name, lr, epochs) in enumerate((("good", 0.02, 15), ("bad", 1e-6, 1))):
        chosen = configuration(Task.BINARY, optimizer=Choice("adamw", {"lr": lr}))
        task = made.trial(chosen, number=number, max_epochs=epochs)
        folders[name] = finished(StudyFolder(tmp_path / "studies" / name), task, made.prepared, registry)
    shop = Shop(registry, folders["good"], folders["bad"])
    scores = [read_json(folder.result)["test"] for folder in (shop.good, shop.bad)]
    assert scores[0] > scores[1]
    return shop


def evidence(folder: StudyFolder) -> list[dict[str, Any]]:
    """Returns what the study keeps of its promotions, the oldest first."""
    return [json.loads(path.read_text()) for path in sorted((folder.path / "promotions").glob("*.json"))]


@pytest.mark.slow
def test_the_first_champion_needs_no_comparison(shop: Shop) -> None:
    found = shop.promote(shop.bad)
    assert shop.champion() == found["version"] == 1
    assert (found["promoted"], found["previous"]) == (True, None)
    assert all(gate["passed"] for gate in found["gates"])
    assert "there is no champion yet" in [gate["found"] for gate in found["gates"]]
    assert evidence(shop.bad) == [found]
    tags = shop.registry.versions("churn")[0].tags
    assert tags["automl.study"] == "bad"
    assert tags["automl.manifest"] == manifest.verify(shop.bad.model)


@pytest.mark.slow
def test_the_better_model_takes_over_and_the_worse_does_not(shop: Shop) -> None:
    shop.promote(shop.bad)
    found = shop.promote(shop.good)
    assert shop.champion() == found["version"] == 2
    assert found["previous"] == 1
    with pytest.raises(
        RefusedError, match=r"better than the champion: roc_auc on 48 test rows: candidate 0\.\d+, champion"
    ):
        shop.promote(shop.bad)
    assert shop.champion() == 2
    refused = evidence(shop.bad)[-1]
    assert (refused["promoted"], refused["version"], refused["previous"]) == (False, None, 2)
    assert len(shop.registry.versions("churn")) == 2

    # Back to the version before, and no further.
    assert promotion.rollback("churn", "champion", shop.registry)["version"] == 1
    assert shop.champion() == 1
    with pytest.raises(RefusedError, match="is the first that was `champion`"):
        promotion.rollback("churn", "champion", shop.registry)


@pytest.mark.slow
def test_the_same_model_is_not_promoted_twice(shop: Shop) -> None:
    shop.promote(shop.good)
    with pytest.raises(RefusedError, match="version 1 is this very model"):
        shop.promote(shop.good)
    assert len(shop.registry.versions("churn")) == 1


@pytest.mark.slow
def test_a_crash_before_the_alias_moves_is_gone_on_from(shop: Shop) -> None:
    shop.promote(shop.bad)
    shop.registry.gone = True
    with pytest.raises(TrackingError):
        shop.promote(shop.good)
    assert shop.champion() == 1
    assert [version.version for version in shop.registry.versions("churn")] == [2, 1]
    assert evidence(shop.good)[-1]["promoted"] is False
    shop.registry.gone = False
    assert shop.promote(shop.good)["version"] == 2
    assert shop.champion() == 2
    assert len(shop.registry.versions("churn")) == 2


@pytest.mark.slow
def test_a_model_that_predicts_otherwise_in_a_clean_process_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    from automl.predictor import Predictor

    honest = Predictor.predict

    def flattering(self: Predictor, frame: Any) -> Any:
        found = honest(self, frame)
        return found.assign(proba_yes=found["proba_yes"] + 0.01)

    monkeypatch.setattr(Predictor, "predict", flattering)  # what only this process does
    with pytest.raises(RefusedError, match="rows predicted differently"):
        shop.promote(shop.good)
    assert shop.champion() is None


@pytest.mark.slow
def test_an_objective_of_one_target_is_compared(
    study: Callable[..., Any], configuration: Callable[..., Any], tmp_path: Path
) -> None:
    made = study(Task.MULTITASK, objective="price/rmse", validation={"strategy": "holdout", "test_size": 0.3})
    registry = MemoryTracker()
    for number, (name, lr, epochs) in enumerate((("bad", 1e-6, 1), ("good", 0.02, 15))):
        chosen = configuration(Task.MULTITASK, optimizer=Choice("adamw", {"lr": lr}))
        task = made.trial(chosen, number=number, max_epochs=epochs)
        folder = finished(StudyFolder(tmp_path / "studies" / name), task, made.prepared, registry)
        found = promotion.promote(folder, "churn", "champion", registry)
    assert found["version"] == 2
    assert found["gates"][-1]["found"].startswith("price/rmse on 48 test rows: candidate")


@pytest.mark.slow
def test_a_forecast_is_tried_on_a_history(tmp_path: Path, configuration: Callable[..., Any]) -> None:
    day = pd.date_range("2020-01-01", periods=80, freq="D")
    sales = np.sin(np.arange(80)) + np.arange(80) / 9
    promo = np.arange(80) % 3 == 0
    pd.DataFrame({"day": day, "sales": sales, "promo": promo}).to_csv(tmp_path / "t.csv", index=False)
    document = {
        "name": "t",
        "data": {"source": "csv", "params": {"path": "t.csv"}, "target": "sales"},
        "forecast": {"time": "day", "horizon": 2, "known": ["promo"]},
    }
    spec, made = study_spec.build(document, where="x.yaml"), StudyFolder(tmp_path / "made")
    prepared = preparation.prepare(spec, tmp_path, made)
    settings = TrainerSettings(max_epochs=1, accelerator="cpu")
    task = TrialTask(configuration(Task.REGRESSION), made.data, made.trial(0), prepared.objective, settings, 0)
    registry = MemoryTracker()
    folder = finished(StudyFolder(tmp_path / "study"), task, prepared, registry)
    found = promotion.promote(folder, "sales", "champion", registry)
    assert found["promoted"]
    assert found["gates"][1]["found"] == "2 rows predicted the same"


def test_a_tampered_model_is_refused_before_anything_is_loaded(shop: Shop) -> None:
    weights = shop.good.model / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(RefusedError, match=r"weights\.safetensors: the file was changed"):
        shop.promote(shop.good)
    weights.write_bytes(content)
    document = read_json(shop.good.result)
    uri = document["model_uri"]
    shop.registry._models[uri].files["weights.safetensors"] = b"something else"
    with pytest.raises(RefusedError, match=r"weights\.safetensors: the file was changed"):
        shop.promote(shop.good)
    assert shop.champion() is None


@pytest.mark.slow
def test_another_intact_model_in_mlflow_is_refused(shop: Shop) -> None:
    uris = [read_json(folder.result)["model_uri"] for folder in (shop.good, shop.bad)]
    shop.registry._models[uris[0]] = replace(shop.registry._models[uris[1]])
    with pytest.raises(RefusedError, match="hashes match: MLflow holds manifest"):
        shop.promote(shop.good)
    assert shop.champion() is None


def test_a_model_that_has_not_reached_mlflow_is_not_promoted(shop: Shop) -> None:
    write_json(shop.good.result, read_json(shop.good.result) | {"model_uri": None})
    with pytest.raises(TrackingError, match="automl sync"):
        shop.promote(shop.good)


def test_a_study_without_a_result_is_not_promoted(shop: Shop) -> None:
    shop.good.result.unlink()
    with pytest.raises(ConfigError, match="automl resume good"):
        shop.promote(shop.good)


def test_without_an_alias_there_is_nothing_to_roll_back(shop: Shop) -> None:
    with pytest.raises(RefusedError, match="has no alias `champion`"):
        promotion.rollback("churn", "champion", shop.registry)


@pytest.mark.parametrize(("model", "alias"), [("", "champion"), ("a/b", "champion"), ("churn", "v1"), ("churn", "a b")])
def test_names_that_mlflow_refuses_are_refused_first(tmp_path: Path, model: str, alias: str) -> None:
    with pytest.raises(AutomlError, match=r"--model|--alias"):
        promotion.promote(StudyFolder(tmp_path), model, alias, MemoryTracker())
    with pytest.raises(AutomlError, match=r"--model|--alias"):
        promotion.rollback(model, alias, MemoryTracker())
