"""What MLflow has lost, or shows otherwise, is told and mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import mlflow
import pytest

pytestmark = pytest.mark.slow


def test_doctor_tells_and_mends(place: Any, observed: Callable[[str, str], None]) -> None:
    place.write_table()
    place.write_study(budget={"trials": 3}, references=True)
    place.automl("run", "small.yaml")
    well = place.automl("doctor", "--json").json
    assert well["studies"] == {"small": []}
    assert well["environment"]["cores"] >= 1
    client = mlflow.MlflowClient(f"sqlite:///{place.path / 'mlflow.db'}")
    runs = {run.info.run_name: run.info.run_id for run in place.runs()}
    client.delete_run(runs["trial 0"])
    client.update_run(runs["trial 1"], status="RUNNING")
    client.set_terminated(runs["reference: linear"], "FAILED")
    client.log_metric(runs["trial 2"], "best_roc_auc", 0.123, step=10_000)
    ill = place.automl("doctor", "small", "--json", code=3)
    found = ill.json["studies"]["small"]
    assert "trial 0 has no run in MLflow" in found
    assert "the run of trial 1 is open, and nobody works on it" in found
    assert "the reference linear is complete, and its run shows failed" in found
    assert any(sentence.startswith("trial 2 scored ") and "shows 0.123" in sentence for sentence in found)
    assert "doctor --repair" in ill.err
    mended = place.automl("doctor", "--repair", "--json", code=None)
    left = mended.json["studies"]["small"]
    assert all("trial 2 scored" in sentence for sentence in left)  # what somebody else logged is not ours to delete
    assert sorted(run.info.run_name for run in place.runs()).count("trial 0") == 1
    statuses = {run.info.run_name: run.info.status for run in place.runs()}
    assert set(statuses.values()) == {"FINISHED"}
    assert json.loads((place.path / ".automl/studies/small/result.json").read_text())["pending_sync"] == 0
    observed(
        "runs deleted, closed wrongly or left open in MLflow",
        "`automl doctor` names each (exit 3); `--repair` sends again what is missing and closes what is open",
    )


def test_repair_mends_a_torn_journal_before_it_writes(
    place: Any, wait_for: Callable[..., None], observed: Callable[[str, str], None]
) -> None:
    place.write_table(n=1000)
    place.write_study(budget={"trials": 2}, trainer={"max_epochs": 300, "patience": 300}, pruner={"name": "none"})
    process = place.start("run", "small.yaml", "--workers", 1)
    journal = place.path / ".automl/studies/small/journal.log"
    wait_for(lambda: journal.is_file() and journal.read_text().count("intermediate_value") > 20, "a trial is amid")
    process.kill()
    process.communicate(timeout=30)
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 6, "worker_id')
    assert "is held by a process that is gone" in place.automl("doctor", code=3).out
    place.automl("doctor", "--repair", code=None)
    document = place.automl("resume", "small", "--workers", 1, "--json").json
    assert document["trials"] == {"complete": 2, "pruned": 0, "failed": 0}
    assert place.automl("doctor", "--json").json["studies"] == {"small": []}
    observed(
        "a crash that left half a line in Optuna's journal, and a trial that nobody works on",
        "`automl doctor --repair` takes the half line away, the trial goes on with `resume`",
    )
