"""What is MLflow's own: where it stores, what its UI shows, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
import urllib.parse
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pytest

from automl import manifest
from automl.errors import TrackingError
from automl.tracking import mlflow_tracker
from automl.tracking.mlflow_tracker import MlflowTracker, write_mlmodel
from automl.tracking.tracker import (
    DatasetUse,
    MetricPoint,
    RejectedError,
    RunKind,
    RunStart,
    RunState,
    clean_key,
    default_tracking_uri,
)

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_default_is_mlflows_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "mit Leerzeichen ü%20"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert default_tracking_uri() == f"sqlite:///{folder}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert default_tracking_uri() == f"sqlite:///{folder}/other.db"
    assert default_tracking_uri("http://host:5000") == "http://host:5000"


@pytest.mark.parametrize("uri", ["mlruns", "/tmp/mlruns", "file:///tmp/mlruns", ""])
def test_a_folder_is_no_store(uri: str) -> None:
    with pytest.raises(TrackingError, match="sqlite"):
        MlflowTracker(uri)


def test_artifacts_lie_beside_the_database_wherever_the_program_runs(
    database_uri: str, start: RunStart, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tracker = MlflowTracker(database_uri)
    run_id = tracker.open_run(start).run_id
    (tmp_path / "report.html").write_text("<p>")
    tracker.log_artifact(run_id, tmp_path / "report.html")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(list((tmp_path / "tracking" / "mlruns").rglob("report.html"))) == 1


def test_what_a_surrounding_run_left_in_the_environment_is_ignored(
    database_uri: str, start: RunStart, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in mlflow_tracker._INHERITED:
        monkeypatch.setenv(name, "m-12345678901234567890123456789012")
    mlflow_tracker._mlflow.cache_clear()
    tracker = MlflowTracker(database_uri)
    run_id = tracker.open_run(start).run_id
    tracker.log(run_id, metrics=[MetricPoint("a", 1.0, 1)])
    assert run_id != "m-12345678901234567890123456789012"
    assert tracker._client.get_metric_history(run_id, "a")[0].model_id is None


def test_an_experiment_is_made_once_by_many(database_uri: str, start: RunStart) -> None:
    trackers = [MlflowTracker(database_uri) for _ in range(4)]
    refs: list[object] = []
    barrier = threading.Barrier(4)

    def open_run(number: int) -> None:
        barrier.wait()
        refs.append(trackers[number].open_run(replace(start, key=f"{start.key}/{number}")).experiment_id)

    threads = [threading.Thread(target=open_run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refs) == 4
    assert len(set(refs)) == 1


def test_a_run_that_a_repeated_request_doubled_is_removed(database_uri: str, start: RunStart) -> None:
    tracker = MlflowTracker(database_uri)
    ref = tracker.open_run(start)
    tracker._client.create_run(ref.experiment_id, start.started_ms + 1, mlflow_tracker._run_tags(start, None))
    assert tracker.open_run(start) == ref
    assert [run.info.run_id for run in tracker._client.search_runs([ref.experiment_id])] == [ref.run_id]


def test_a_deleted_experiment_says_how_to_restore_it(database_uri: str, start: RunStart) -> None:
    tracker = MlflowTracker(database_uri)
    ref = tracker.open_run(start)
    tracker._client.delete_experiment(ref.experiment_id)
    with pytest.raises(TrackingError, match=f"mlflow experiments restore -x {ref.experiment_id}") as caught:
        MlflowTracker(database_uri).open_run(start)
    assert not isinstance(caught.value, RejectedError)  # it is sent once the experiment is back


def test_a_deleted_run_is_rejected(database_uri: str, start: RunStart) -> None:
    tracker = MlflowTracker(database_uri)
    run_id = tracker.open_run(start).run_id
    tracker._client.delete_run(run_id)
    with pytest.raises(RejectedError):
        tracker.log(run_id, tags={"a": "b"})


def test_a_dead_server_is_named_without_its_password(
    start: RunStart, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    with pytest.raises(TrackingError) as caught:
        MlflowTracker(f"http://me:se%2Fcret@127.0.0.1:{port}").open_run(start)
    assert f"http://me:***@127.0.0.1:{port}" in str(caught.value)
    assert "Check that the server runs" in str(caught.value)
    assert "cret" not in str(caught.value)
    assert not isinstance(caught.value, RejectedError)


def test_a_database_that_is_none_is_an_error(tmp_path: Path, start: RunStart) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db"):
        MlflowTracker(f"sqlite:///{tmp_path}/mlflow.db").open_run(start)


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    script = (
        "import sys; from automl.tracking.mlflow_tracker import MlflowTracker; from automl.tracking.tracker import *\n"
        "t = MlflowTracker(sys.argv[1])\n"
        "r = t.open_run(RunStart('k', 'e', 'n', RunKind.STUDY, 1))\n"
        "t.close_run(r.run_id, RunState.COMPLETE, 2)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, f"sqlite:///{tmp_path}/mlflow.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_folder_of_server_assets_does_not_hide_mlflow() -> None:
    assert mlflow.__file__ is not None
    assert list((REPOSITORY / "mlflow").rglob("*.py")) == []


def test_mlflow_that_is_not_installed_is_said(tmp_path: Path) -> None:
    (tmp_path / "mlflow").mkdir()
    script = (
        "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]; sys.path.insert(0, sys.argv[1])\n"
        "sys.modules['yaml'] = sys\n"
        "sys.path.append(sys.argv[2])\n"
        "from automl.tracking.mlflow_tracker import _mlflow\n"
        "_mlflow()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "TrackingError: MLflow is not installed" in done.stderr
    assert "-m pip install 'mlflow" in done.stderr


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "/a", "a//b", "a/", "a;b", "x" * 251, "é" * 300, "a\nb", "\0"])
def test_any_key_becomes_one_that_mlflow_takes(key: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    cleaned = clean_key(key)
    _validate_metric_name(cleaned)  # type: ignore[no-untyped-call]
    assert len(cleaned) <= 250
    assert clean_key(cleaned) == cleaned


# --- models --------------------------------------------------------------------------------------------------------


def test_mlflow_alone_loads_the_model_from_run_and_registry(
    database_uri: str, start: RunStart, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    tracker = MlflowTracker(database_uri)
    run_id = tracker.open_run(start).run_id
    uri = tracker.log_model(run_id, model_folder, name="best", metrics=[MetricPoint("roc_auc", 0.9, 1)])
    tracker.add_version("doubling", uri)
    tracker.point("doubling", "champion", 1)

    monkeypatch.setenv("MLFLOW_TRACKING_URI", database_uri)
    frame = pd.DataFrame({"a": [1.0, 2.0]})
    for _ in range(2):  # the first load leaves MLflow's own note in the store, which the loader's check tolerates
        for source in (uri, "models:/doubling@champion", "models:/doubling/1"):
            assert mlflow.pyfunc.load_model(source).predict(frame)["a"].tolist() == [2.0, 4.0]
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        mlflow.pyfunc.load_model(uri).predict(pd.DataFrame({"c": [1.0]}))

    client = tracker._client
    logged = client.get_logged_model(uri.removeprefix("models:/"))
    assert (logged.name, str(logged.status), logged.source_run_id) == ("best", "READY", run_id)
    assert [(metric.key, metric.value) for metric in logged.metrics or ()] == [("roc_auc", 0.9)]
    assert json.loads(logged.tags["mlflow.modelVersions"]) == [{"name": "doubling", "version": 1}]
    outputs: Any = client.get_run(run_id).outputs
    assert [output.model_id for output in outputs.model_outputs] == [logged.model_id]


def test_a_model_whose_upload_broke_off_is_finished_by_the_next_try(
    database_uri: str, start: RunStart, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(database_uri)
    ref = tracker.open_run(start)
    client = tracker._client

    def fail(*_: object) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(client, "log_model_artifacts", fail)
        with pytest.raises(TrackingError, match="disk full"):
            tracker.log_model(ref.run_id, model_folder, name="m")
    uri = tracker.log_model(ref.run_id, model_folder, name="m")
    assert manifest.verify(tracker.download(uri, tmp_path / "copy")) == manifest.verify(model_folder)
    assert len(client.search_logged_models([ref.experiment_id])) == 1


def test_the_example_can_be_served(model_folder: Path) -> None:
    model = mlflow.models.Model.load(str(model_folder))
    example: Any = model.load_input_example(str(model_folder))
    assert example["a"].tolist()[0] == 1.5
    served = json.loads((model_folder / "serving_input_example.json").read_text())
    assert served == {"dataframe_split": {"columns": ["a", "b"], "data": [[1.5, "x"], [None, None]]}}


def test_an_unknown_column_type_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="columns"):
        write_mlmodel(tmp_path, loader_module="m", inputs=[("a", "quux", True)], outputs=[], requirements=[])


# --- what a server shows -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_plain_server_in_the_folder_shows_what_was_tracked_without_it(
    empty_database: Path,
    tmp_path: Path,
    start: RunStart,
    model_folder: Path,
    free_port: Callable[[], int],
    server: Callable[[Path, int], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "a project"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    tracker = MlflowTracker(default_tracking_uri())
    dataset = DatasetUse("churn", "a" * 64, "churn.parquet", "training", 80, (("age", "double"),))
    run_id = tracker.open_run(replace(start, datasets=(dataset,))).run_id
    child = tracker.open_run(replace(start, key=f"{start.key}/0", kind=RunKind.TRIAL), run_id)
    (tmp_path / "report.html").write_text("<p>report</p>")
    tracker.log_artifact(run_id, tmp_path / "report.html")
    uri = tracker.log_model(run_id, model_folder, name="best")
    tracker.add_version("churn", uri)
    tracker.close_run(child.run_id, RunState.PRUNED, 2)

    with server(folder, free_port()) as address:

        def get(route: str, **query: str) -> bytes:
            with urllib.request.urlopen(f"{address}/{route}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
                body: bytes = answer.read()
                return body

        assert get("get-artifact", path="report.html", run_uuid=run_id) == b"<p>report</p>"
        listed = json.loads(get("ajax-api/2.0/mlflow/artifacts/list", run_id=run_id))
        assert [file["path"] for file in listed["files"]] == ["report.html"]
        run = json.loads(get("ajax-api/2.0/mlflow/runs/get", run_id=run_id))["run"]
        assert run["inputs"]["dataset_inputs"][0]["dataset"]["name"] == "churn"
        assert run["outputs"]["model_outputs"][0]["model_id"] == uri.removeprefix("models:/")
        model_id = uri.removeprefix("models:/")
        files = json.loads(get(f"ajax-api/2.0/mlflow/logged-models/{model_id}/artifacts/directories"))["files"]
        assert {"MLmodel", "manifest.json", "requirements.txt"} <= {file["path"] for file in files}
        version = json.loads(get("ajax-api/2.0/mlflow/model-versions/get", name="churn", version="1"))
        assert version["model_version"]["run_id"] == run_id
        # And the other way round: a client of that server fetches what was tracked without it.
        over_http = MlflowTracker(address)
        assert manifest.verify(over_http.download("models:/churn/1", tmp_path / "copy")) == manifest.verify(
            model_folder
        )


@pytest.mark.parametrize(
    ("uri", "is_database"),
    [
        ("sqlite:////tmp/mlflow.db", True),
        ("postgresql+psycopg://host/db", True),
        ("http://127.0.0.1:5000", False),
        ("https://host", False),
        ("databricks", False),
        ("databricks://profile", False),
    ],
)
def test_only_a_database_is_written_to_without_a_server_in_between(uri: str, is_database: bool) -> None:
    assert MlflowTracker(uri)._is_database is is_database


@pytest.mark.slow
def test_a_new_database_is_whole_or_not_there(tmp_path: Path) -> None:
    """MLflow makes its tables in many steps; one whose maker is killed between two of them is never opened again."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    code = f"from automl.tracking.mlflow_tracker import MlflowTracker; MlflowTracker({uri!r}).find_runs('e', 'k')"
    sizes = []
    for wanted in (1, 100_000, 400_000):
        process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        while process.poll() is None:
            size = max((file.stat().st_size for file in tmp_path.rglob("mlflow.db")), default=0)
            if size >= wanted:
                process.kill()
                sizes.append(size)
                break
        process.wait()
        assert not (tmp_path / "mlflow.db").exists()
        for leftover in tmp_path.iterdir():
            shutil.rmtree(leftover)
    assert len(sizes) == 3, "the maker was not killed while it made the tables"
    assert MlflowTracker(uri).find_runs("e", "k") == {}
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
