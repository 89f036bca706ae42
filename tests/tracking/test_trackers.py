"""What every tracker and registry does alike."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from automl import manifest
from automl.errors import RefusedError, TrackingError
from automl.tracking.memory_tracker import MemoryTracker
from automl.tracking.mlflow_tracker import MlflowTracker
from automl.tracking.tracker import (
    DatasetUse,
    MetricPoint,
    Registry,
    RejectedError,
    RunKind,
    RunStart,
    RunState,
    Tracker,
    key_tag,
)

AnyTracker = MemoryTracker | MlflowTracker

# Checked by mypy: both keep both protocols.
_TRACKERS: tuple[type[Tracker], ...] = (MemoryTracker, MlflowTracker)
_REGISTRIES: tuple[type[Registry], ...] = (MemoryTracker, MlflowTracker)


@dataclass
class Seen:
    """A run as it can be read back from any tracker."""

    status: str
    ended_ms: int | None
    parent: str | None
    params: dict[str, str]
    tags: dict[str, str]
    artifacts: set[str]
    points: Callable[[str], list[tuple[float, int, int]]]


def look(tracker: AnyTracker, run_id: str) -> Seen:
    if isinstance(tracker, MemoryTracker):
        run = tracker.runs[run_id]
        statuses = {
            None: "RUNNING",
            "complete": "FINISHED",
            "pruned": "KILLED",
            "stopped": "KILLED",
            "failed": "FAILED",
        }
        return Seen(
            statuses[run.state],
            run.ended_ms,
            run.parent_run_id,
            run.params,
            run.tags,
            set(run.artifacts),
            lambda name: [(p.value, p.timestamp_ms, p.step) for p in run.metrics if p.name == name],
        )
    client = tracker._client

    def files(path: str | None = None) -> set[str]:
        found = client.list_artifacts(run_id, path)
        return {f.path for f in found if not f.is_dir}.union(*(files(f.path) for f in found if f.is_dir))

    found = client.get_run(run_id)
    return Seen(
        found.info.status,
        found.info.end_time,
        found.data.tags.get("mlflow.parentRunId"),
        found.data.params,
        found.data.tags,
        files(),
        lambda name: [(m.value, m.timestamp, m.step) for m in client.get_metric_history(run_id, name)],
    )


class TestTracker:
    def test_a_run_is_opened_once(self, tracker: AnyTracker, start: RunStart) -> None:
        start = replace(start, params={"lr": 0.1, "none": None, "yes": True}, tags={"team": "blue"})
        ref = tracker.open_run(start)
        assert tracker.open_run(start) == ref
        seen = look(tracker, ref.run_id)
        assert seen.status == "RUNNING"
        assert seen.params == {"lr": "0.1", "none": "None", "yes": "True"}
        assert seen.tags["team"] == "blue"

    def test_a_child_is_nested_in_the_experiment_of_its_study(self, tracker: AnyTracker, start: RunStart) -> None:
        parent = tracker.open_run(start)
        trial = replace(start, key=f'{start.key}/it\'s "0"', kind=RunKind.TRIAL, parent_key=start.key)
        child = tracker.open_run(trial, parent.run_id)
        assert child.experiment_id == parent.experiment_id
        assert child.run_id != parent.run_id
        assert look(tracker, child.run_id).parent == parent.run_id
        assert tracker.open_run(trial, parent.run_id) == child

    @pytest.mark.parametrize(
        ("state", "status"),
        [("complete", "FINISHED"), ("pruned", "KILLED"), ("stopped", "KILLED"), ("failed", "FAILED")],
    )
    def test_a_run_ends_and_is_taken_up_again(
        self, tracker: AnyTracker, start: RunStart, state: str, status: str
    ) -> None:
        ref = tracker.open_run(start)
        tracker.close_run(ref.run_id, RunState(state), 1_700_000_001_000)
        assert (look(tracker, ref.run_id).status, look(tracker, ref.run_id).ended_ms) == (status, 1_700_000_001_000)
        assert tracker.open_run(start) == ref
        assert look(tracker, ref.run_id).status == "RUNNING"

    def test_runs_are_found_by_the_key_of_their_study(self, tracker: AnyTracker, start: RunStart) -> None:
        assert tracker.find_runs(start.experiment, start.key) == {}
        parent = tracker.open_run(start)
        assert set(tracker.find_runs(start.experiment, start.key)) == {key_tag(start.key)}
        keys = [f"{start.key}/trial/{number}" for number in range(3)]
        for number, key in enumerate(keys):
            child = tracker.open_run(replace(start, key=key, kind=RunKind.TRIAL, parent_key=start.key), parent.run_id)
            tracker.log(child.run_id, metrics=[MetricPoint("best", number / 2, 1_700_000_000_000)])
        tracker.close_run(child.run_id, RunState.COMPLETE, 1_700_000_001_000)
        tracker.open_run(replace(start, key="another study"))
        found = tracker.find_runs(start.experiment, start.key)
        assert set(found) == {key_tag(key) for key in (start.key, *keys)}
        assert [run.metrics for key in keys for run in found[key_tag(key)]] == [{"best": n / 2} for n in range(3)]
        assert found[key_tag(keys[0])][0].states == frozenset()
        assert found[key_tag(keys[2])][0].states == {RunState.COMPLETE}

    def test_points_are_kept_once(self, tracker: AnyTracker, start: RunStart) -> None:
        run_id = tracker.open_run(start).run_id
        points = [MetricPoint("val_loss", 1 / (step + 1), 1_700_000_000_000 + step, step) for step in range(1_500)]
        tracker.log(run_id, metrics=points)
        tracker.log(run_id, metrics=points[:700])
        assert look(tracker, run_id).points("val_loss") == [(p.value, p.timestamp_ms, p.step) for p in points]

    def test_what_is_no_number_is_nan(self, tracker: AnyTracker, start: RunStart) -> None:
        run_id = tracker.open_run(start).run_id
        values = [math.inf, -math.inf, math.nan]
        points = [MetricPoint("loss", value, 1_700_000_000_000, step) for step, value in enumerate(values)]
        for _ in range(2):
            tracker.log(run_id, metrics=points)
        seen = look(tracker, run_id).points("loss")
        assert [step for _, _, step in seen] == [0, 1, 2]
        assert all(math.isnan(value) for value, _, _ in seen)

    def test_a_thousand_params_of_any_name_and_size(self, tracker: AnyTracker, start: RunStart) -> None:
        run_id = tracker.open_run(start).run_id
        params: dict[str, Any] = {f"p{number}": number for number in range(1_000)}
        params |= {"k" * 300: "long key", "größe/学习率": "ü", "nul\0": "a\0b", "../x": 1, "a;b": 1, "a_b": 2, ".": ""}
        params |= {"long": "x" * 7_000, "long2": "x" * 7_001, "lone": "\ud800", "": "no name", "emoji 🎈": "🎈"}
        for _ in range(2):
            tracker.log(run_id, params=params)
        seen = look(tracker, run_id).params
        assert len(seen) == len(params)
        assert seen["p999"] == "999"
        assert seen["größe/学习率"] == "ü"
        assert seen["a_b"] == "2"
        assert len(seen["long"]) == 6_000
        assert seen["long"] != seen["long2"]
        assert "a\0b" not in seen.values()
        assert "ab" in seen.values()
        assert max(map(len, seen)) == 250

    def test_a_param_cannot_change_but_a_tag_can(self, tracker: AnyTracker, start: RunStart) -> None:
        run_id = tracker.open_run(replace(start, params={"lr": 0.1}, tags={"note": "first"})).run_id
        tracker.log(run_id, tags={"note": "second", "mlflow.note.content": "# Result\n" + "y" * 9_000})
        with pytest.raises(RejectedError):
            tracker.log(run_id, params={"lr": 0.2})
        seen = look(tracker, run_id)
        assert seen.params["lr"] == "0.1"
        assert seen.tags["note"] == "second"
        assert len(seen.tags["mlflow.note.content"]) == 8_000

    def test_an_unknown_run_is_rejected(self, tracker: AnyTracker, tmp_path: Path) -> None:
        (tmp_path / "x").write_text("x")
        calls: list[Callable[[], object]] = [
            lambda: tracker.log("0" * 32, tags={"a": "b"}),
            lambda: tracker.log_artifact("0" * 32, tmp_path / "x"),
            lambda: tracker.close_run("0" * 32, RunState.COMPLETE, 1),
        ]
        for call in calls:
            with pytest.raises(RejectedError):
                call()

    def test_artifacts_are_files_and_folders(self, tracker: AnyTracker, start: RunStart, tmp_path: Path) -> None:
        run_id = tracker.open_run(start).run_id
        (tmp_path / "plots" / "deep").mkdir(parents=True)
        (tmp_path / "plots" / "deep" / "übersicht.csv").write_text("a\n1\n")
        (tmp_path / "report.html").write_text("<p>")
        for _ in range(2):
            tracker.log_artifact(run_id, tmp_path / "report.html")
            tracker.log_artifact(run_id, tmp_path / "report.html", "sub/folder")
            tracker.log_artifact(run_id, tmp_path / "plots")
        expected = {"report.html", "sub/folder/report.html", "plots/deep/übersicht.csv"}
        assert look(tracker, run_id).artifacts == expected
        with pytest.raises(RejectedError):
            tracker.log_artifact(run_id, tmp_path / "none")

    def test_datasets_are_accepted_twice(self, tracker: AnyTracker, start: RunStart) -> None:
        parts = (
            DatasetUse("churn", "a" * 64, "churn.parquet", "training", 80, (("age", "double"), ("city", "string"))),
            DatasetUse("churn", "b" * 64, "churn.parquet", "test", 20, (("age", "double"), ("city", "string"))),
        )
        run_id = tracker.open_run(replace(start, datasets=parts)).run_id
        tracker.open_run(replace(start, datasets=parts))
        if isinstance(tracker, MlflowTracker):
            inputs: Any = tracker._client.get_run(run_id).inputs
            assert {(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in inputs.dataset_inputs} == {
                ("churn", "a" * 36, "training"),
                ("churn", "b" * 36, "test"),
            }


class TestRegistry:
    def test_a_model_keeps_its_files_wherever_it_comes_from(
        self, tracker: AnyTracker, start: RunStart, model_folder: Path, tmp_path: Path
    ) -> None:
        model = "churn " + start.key.rpartition("/")[2]
        run_id = tracker.open_run(start).run_id
        points = [MetricPoint("roc_auc", 0.9, 1_700_000_000_000)]
        uri = tracker.log_model(run_id, model_folder, name="best.model", params={"depth": 3}, metrics=points)
        assert tracker.log_model(run_id, model_folder, name="best.model", params={"depth": 3}, metrics=points) == uri
        assert look(tracker, run_id).points("roc_auc") == [(0.9, 1_700_000_000_000, 0)]

        assert tracker.versions(model) == []
        assert tracker.alias(model, "champion") is None
        assert tracker.add_version(model, uri, {"study": "s", "digest": "d"}) == 1
        assert tracker.add_version(model, f"runs:/{run_id}") == 2
        assert tracker.alias(model, "champion") is None
        tracker.point(model, "champion", 1)
        tracker.point(model, "champion", 2)
        tracker.point(model, "previous", 1)

        newest, oldest = tracker.versions(model)
        assert (newest.version, newest.run_id, newest.aliases) == (2, run_id, frozenset({"champion"}))
        assert (oldest.version, oldest.aliases) == (1, frozenset({"previous"}))
        assert oldest.tags == {"study": "s", "digest": "d"}
        assert tracker.alias(model, "champion") == newest

        digest = manifest.verify(model_folder)
        for number, source in enumerate([uri, f"models:/{model}@champion", oldest.uri, f"runs:/{run_id}"]):
            folder = tracker.download(source, tmp_path / f"copy{number}")
            assert manifest.verify(folder) == digest

    def test_another_content_is_another_model(self, tracker: AnyTracker, start: RunStart, model_folder: Path) -> None:
        run_id = tracker.open_run(start).run_id
        first = tracker.log_model(run_id, model_folder, name="m")
        (model_folder / "weights" / "factor").write_text("3")
        with pytest.raises(RefusedError):
            tracker.log_model(run_id, model_folder, name="m")
        manifest.write(model_folder)
        assert tracker.log_model(run_id, model_folder, name="m") != first

    def test_what_is_not_there_is_an_error(self, tracker: AnyTracker, start: RunStart, tmp_path: Path) -> None:
        run_id = tracker.open_run(start).run_id
        for uri in ("models:/none@champion", "models:/none/1", "models:/m-none", f"runs:/{run_id}", "runs:/none", "x"):
            with pytest.raises(TrackingError):
                tracker.download(uri, tmp_path / "none")
        with pytest.raises(TrackingError):
            tracker.point("none", "champion", 1)
        with pytest.raises(TrackingError):
            tracker.add_version("none", "models:/m-none")

    def test_a_download_never_mixes_with_what_is_there(self, tracker: AnyTracker, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("keep")
        with pytest.raises(TrackingError, match="not empty"):
            tracker.download("models:/m-none", tmp_path)
        assert (tmp_path / "mine").read_text() == "keep"
