"""One command from a table to a result, in every shape a study has."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest

from automl.jobs import REFERENCES

pytestmark = pytest.mark.slow

KEYS = {
    "schema_version": int, "study": str, "status": str, "experiment_id": str, "run_id": str, "model_uri": str,
    "metric": dict, "validation": float, "test": float, "test_metrics": dict, "trials": dict, "best": dict,
    "ensemble": list, "references": list, "leaderboard": list, "seconds": dict, "pending_sync": int,
    "notes": list,
}  # fmt: skip


def test_run_from_a_file(finished: Any) -> None:
    document = json.loads((finished.path / "run.json").read_text())
    assert {key: type(value) for key, value in document.items()} == KEYS
    assert (document["schema_version"], document["study"], document["status"]) == (1, "small", "finished")
    assert document["metric"] == {"name": "roc_auc", "direction": "maximize"}
    assert set(document["trials"]) == {"complete", "pruned", "failed"}
    assert sum(document["trials"].values()) == 4 == len(document["leaderboard"])
    assert set(document["seconds"]) == {"total", "search", "final"}
    assert document["pending_sync"] == 0
    assert document["test"] > 0.8
    best = document["best"]
    assert {"number", "run_id", "configuration"} <= set(best)
    assert best["configuration"]["network"] == "mlp"
    assert {reference["name"] for reference in document["references"]} == {*REFERENCES} - {"seasonal_naive"}
    assert not (finished.path / ".automl/studies/small/cache").exists()  # it is for one launch


def test_what_mlflow_holds(finished: Any) -> None:
    document = finished.quick("show", "small", "--json").json
    (parent,) = finished.runs(parents=True)
    children = finished.runs()
    assert parent.info.run_id == document["run_id"]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["best_roc_auc"] == document["validation"]
    assert parent.data.metrics["test_roc_auc"] == document["test"]
    assert "small" in parent.data.tags["mlflow.note.content"]
    contexts = {tag.value for use in parent.inputs.dataset_inputs for tag in use.tags}
    assert contexts == {"training", "test"}
    assert parent.outputs.model_outputs[0].model_id == document["model_uri"].removeprefix("models:/")
    assert {child.data.tags["mlflow.parentRunId"] for child in children} == {parent.info.run_id}
    trials = {run.info.run_name: run for run in children if run.data.tags["automl.kind"] == "trial"}
    assert sorted(trials) == ["trial 0", "trial 1", "trial 2", "trial 3"]
    client = mlflow.MlflowClient(f"sqlite:///{finished.path / 'mlflow.db'}")
    for stored in finished.trials():
        run = trials[f"trial {stored.number}"]
        state = {"COMPLETE": "FINISHED", "PRUNED": "KILLED", "FAIL": "FAILED"}[stored.state.name]
        assert run.info.status == state
        # What Optuna sampled is there under the same names, and what was fixed beside it.
        assert {name: str(value) for name, value in stored.params.items()}.items() <= run.data.params.items()
        assert run.data.params["network.mlp.width"] == "16"
        history = client.get_metric_history(run.info.run_id, "val_roc_auc")
        assert [point.step for point in sorted(history, key=lambda p: p.step)] == list(range(len(history)))
        assert stored.intermediate_values == {point.step: point.value for point in history}
        if state == "FINISHED":
            assert run.data.metrics["best_roc_auc"] == stored.value
    assert trials[f"trial {document['best']['number']}"].info.run_id == document["best"]["run_id"]


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_run_with_everything_inferred(place: Any, name: str) -> None:
    place.write_table("multiclass", name)
    arguments = ["--data", name, "--target", "target", "--trials", 1, "--workers", 1, "--name", "inferred", "-q"]
    ended = place.automl("run", *arguments, "--json")
    assert ended.err == ""
    assert ended.json["metric"]["name"] == "log_loss" or ended.json["metric"]["direction"] in ("minimize", "maximize")
    assert ended.json["best"]["number"] == 0
    again = place.automl("run", *arguments, "--json").json
    assert again["leaderboard"] == ended.json["leaderboard"]
    (parent,) = place.runs(parents=True)
    assert parent.info.status == "FINISHED"


def test_dry_run_leaves_nothing_behind(place: Any) -> None:
    place.write_table()
    place.write_study(budget={"trials": 1})
    before = sorted(place.path.rglob("*"))
    ended = place.automl("run", "small.yaml", "--dry-run", "--json")
    assert ended.json["trials"]["complete"] == 1
    assert sorted(place.path.rglob("*")) == before


def test_options_stand_above_the_file(place: Any) -> None:
    place.write_table()
    place.write_study(budget={"trials": 2}, deliver="ensemble", validation={"test_size": 0.2})
    document = place.automl("run", "small.yaml", "--test-size", 0, "--deliver", "single", "--json").json
    assert document["test"] is None
    assert [member["number"] for member in document["ensemble"]] == [document["best"]["number"]]


@pytest.mark.parametrize(
    ("task", "changes"),
    [
        ("regression", {"validation": {"strategy": "kfold", "n_folds": 3, "test_size": 0.2}, "deliver": "single"}),
        ("multiclass", {"validation": {"strategy": "group", "column": "team"}, "sampler": {"name": "random"}}),
        ("regression", {"validation": {"strategy": "time", "column": "day"}, "sampler": {"name": "gp"}}),
        ("binary", {"validation": {"test_size": 0}, "pruner": {"name": "none"}, "objective": "f1"}),
    ],
    ids=["kfold-single", "group-random", "time-gp", "no-test"],
)
def test_shapes(place: Any, task: str, changes: dict[str, Any]) -> None:
    place.write_table(task)
    place.write_study(**changes, task=task)
    document = place.automl("run", "small.yaml", "--workers", 2, "--json").json
    assert document["trials"]["failed"] == 0
    assert document["trials"]["complete"] > 0
    assert (document["test"] is None) is (changes["validation"].get("test_size") == 0)
    if changes.get("deliver") == "single":
        assert [member["number"] for member in document["ensemble"]] == [document["best"]["number"]]
    place.quick("predict", "small", "table.csv", "-o", "out.parquet")
    predictions = pd.read_parquet(place.path / "out.parquet")
    table = pd.read_csv(place.path / "table.csv")
    assert len(predictions) == len(table)
    if task == "regression":
        assert list(predictions.columns) == ["prediction"]
    else:
        names = sorted(table["target"].unique())
        assert list(predictions.columns) == ["prediction", *(f"proba_{name}" for name in names)]
        assert np.allclose(predictions.iloc[:, 1:].sum(axis=1), 1)
    params = place.runs(parents=True)[0].data.params
    assert params["validation"] == changes["validation"].get("strategy", "auto")


def test_time_holds(place: Any) -> None:
    """Seconds that the study itself reports: imports before it are not its own."""
    place.write_table(n=2000)
    place.write_study(budget={"time": "40s"}, trainer={"max_epochs": 100}, references=True)
    document = place.automl("run", "small.yaml", "--json").json
    assert document["seconds"]["total"] <= 40
    assert document["seconds"]["total"] > 20
    assert document["status"] == "finished"


LONG = {"budget": {"trials": 3}, "trainer": {"max_epochs": 150, "patience": 150}, "pruner": {"name": "none"}}


def test_interrupt_keeps_the_result_and_resume_goes_on(place: Any, wait_for: Callable[..., None]) -> None:
    place.write_table(n=1000)
    place.write_study(**LONG)
    process = place.start("run", "small.yaml", "--workers", 1, "--json")
    journal = place.path / ".automl/studies/small/journal.log"
    wait_for(lambda: journal.is_file() and "automl:result" in journal.read_text(), "the first trial has ended")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=90)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "automl resume small" in err
    document = json.loads(out)
    assert document["status"] == "interrupted"
    assert document["trials"]["complete"] >= 1
    place.quick("verify", "small")
    assert place.quick("show", "small", "--json").json["status"] == "interrupted"
    resumed = place.automl("resume", "small", "--json").json
    assert (resumed["status"], sum(resumed["trials"].values())) == ("finished", 3)
    assert {run.info.status for run in [*place.runs(), *place.runs(parents=True)]} <= {"FINISHED", "KILLED"}


def test_stdout_is_data_and_stderr_progress(finished: Any) -> None:
    for command in (["show", "small"], ["studies"], ["components"], ["sync"], ["check", "small.yaml"]):
        assert finished.quick(*command, "--json").json["schema_version"] == 1
        assert finished.quick(*command).err == ""
    assert finished.quick("schema", "study").json["title"] == "StudySpec"
    assert finished.quick("--version").out.startswith("automl ")
