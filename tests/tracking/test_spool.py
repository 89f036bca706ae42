from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.errors import StorageError, TrackingError
from automl.tracking.memory_tracker import MemoryTracker
from automl.tracking.mlflow_tracker import MlflowTracker
from automl.tracking.spool import (
    ArtifactLogged,
    Event,
    Logged,
    Mirror,
    ModelLogged,
    RunClosed,
    RunOpened,
    Spool,
    from_json,
    to_json,
)
from automl.tracking.tracker import DatasetUse, MetricPoint, RejectedError, RunKind, RunRef, RunStart, RunState
from automl.values import Scalar

N_EPOCHS = 30


def study(key: str = "s") -> RunStart:
    return RunStart(key, "project", "a study", RunKind.STUDY, started_ms=1_000)


def trial(number: int, n_epochs: int = N_EPOCHS) -> Iterator[Event]:
    """Yields what one trial of study `s` leaves in a spool."""
    key = f"s/{number}"
    yield RunOpened(RunStart(key, "project", f"trial {number}", RunKind.TRIAL, 1_000, "s", params={"lr": 0.1}))
    for epoch in range(n_epochs):
        names = ("roc_auc", "train_loss", "val_loss", "learning_rate", "epoch_seconds")
        yield Logged(key, tuple(MetricPoint(name, epoch / 7, 2_000 + epoch, epoch) for name in names))
    yield Logged(key, tags={"reason": "none"})
    yield RunClosed(key, RunState.COMPLETE, 9_000)


def fill(spool: Spool, n_trials: int) -> int:
    """Returns the number of events appended."""
    events = [RunOpened(study()), *(event for number in range(n_trials) for event in trial(number))]
    for event in events:
        spool.append(event)
    return len(events)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def make_mirror() -> Iterator[Callable[..., Mirror]]:
    made: list[Mirror] = []

    def make(*arguments: object, **options: float) -> Mirror:
        made.append(Mirror(*arguments, **{"poll_s": 0.01, "longest_pause_s": 0.05, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for mirror in made:
        mirror.close(0)


class FlakyTracker(MemoryTracker):
    """Answers only while it is up, and counts what reaches it."""

    def __init__(self) -> None:
        super().__init__()
        self.up = True
        self.n_logs = 0

    def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
        self._check()
        return super().open_run(start, parent_run_id, new=new)

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._check()
        self.n_logs += 1
        if any(point.name == "refused" for point in metrics):
            raise RejectedError("no such metric")
        super().log(run_id, metrics=metrics, params=params, tags=tags)

    def _check(self) -> None:
        if not self.up:
            raise TrackingError("the server does not answer")


# --- events --------------------------------------------------------------------------------------------------------

_text = st.text(st.characters(codec=None), max_size=20)
_scalars = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False), _text, st.none())
_points = st.builds(MetricPoint, _text, st.floats(allow_nan=False), st.integers(), st.integers())
_metrics = st.lists(_points, max_size=3).map(tuple)
_params = st.dictionaries(_text, _scalars, max_size=3)
_tags = st.dictionaries(_text, _text, max_size=3)
_columns = st.lists(st.tuples(_text, _text), max_size=3).map(tuple)
_datasets = st.lists(st.builds(DatasetUse, _text, _text, _text, _text, st.integers(), _columns), max_size=2).map(tuple)
_starts = st.builds(
    RunStart,
    key=_text,
    experiment=_text,
    name=_text,
    kind=st.sampled_from(RunKind),
    started_ms=st.integers(),
    parent_key=st.none() | _text,
    params=_params,
    tags=_tags,
    datasets=_datasets,
)
_events = st.one_of(
    st.builds(RunOpened, _starts),
    st.builds(Logged, _text, _metrics, _params, _tags),
    st.builds(ArtifactLogged, _text, _text, _text),
    st.builds(ModelLogged, _text, _text, _text, _params, _metrics),
    st.builds(RunClosed, _text, st.sampled_from(RunState), st.integers()),
)


@given(_events)
@settings(max_examples=200, deadline=None)
def test_an_event_survives_json(event: Event) -> None:
    line = json.dumps(to_json(event))
    assert "\n" not in line
    assert from_json(json.loads(line)) == event


def test_nan_survives_json() -> None:
    event = from_json(json.loads(json.dumps(to_json(Logged("k", (MetricPoint("loss", math.nan, 1),))))))
    assert isinstance(event, Logged)
    assert math.isnan(event.metrics[0].value)


# --- the spool -----------------------------------------------------------------------------------------------------


def test_a_new_spool_is_empty(spool: Spool) -> None:
    assert spool.pending() == 0
    assert spool.run_ref("s") is None
    assert spool.model_uri("s") is None
    assert spool.rejected() == []


def test_it_tells_which_runs_have_not_ended_and_how_far_they_came(spool: Spool) -> None:
    for key in ("ended", "open", "stopped"):
        spool.append(RunOpened(RunStart(key, "e", key, RunKind.TRIAL, 1)))
        spool.append(Logged(key, (MetricPoint("loss", 0.5, 1, 0), MetricPoint("loss", 0.4, 2, 1))))
    spool.append(RunClosed("ended", RunState.COMPLETE, 3))
    spool.append(RunClosed("stopped", RunState.STOPPED, 3))
    runs = spool.runs()
    assert runs.known == {"ended", "open", "stopped"}
    assert runs.open == {"open"}
    assert runs.steps == {"open": {"loss": 1}, "stopped": {"loss": 1}}
    spool.append(RunOpened(RunStart("stopped", "e", "stopped", RunKind.TRIAL, 4)))
    assert spool.runs().open == {"open", "stopped"}


def test_threads_append_whole_lines(spool: Spool) -> None:
    def append(number: int) -> None:
        for event in trial(number):
            spool.append(event)

    threads = [threading.Thread(target=append, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.pending() == 8 * (N_EPOCHS + 3)


def test_a_torn_line_costs_that_line_only(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    fill(spool, 1)
    with (spool.folder / "events.jsonl").open("ab") as file:
        file.write(b'{"event": "Logged", "key": "s/0", "tags": {"torn": "ye')
    reopened = Spool(spool.folder)
    before = reopened.pending()
    reopened.append(Logged("s", tags={"after": "yes"}))
    assert reopened.pending() == before + 1
    tracker = MemoryTracker()
    assert make_mirror(reopened, tracker).flush(5) == 0
    assert tracker.runs["run-0"].tags == {"after": "yes"}
    assert "torn" not in tracker.runs["run-1"].tags


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    (tmp_path / "spool" / "events.jsonl").symlink_to("/dev/full")
    with pytest.raises(StorageError, match="cannot write"):
        spool.append(RunOpened(study()))
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        Spool(tmp_path / "file")


def test_it_imports_nothing_heavy() -> None:
    code = (
        "import sys, automl.tracking.spool; print(*{'mlflow', 'numpy', 'pandas', 'torch', 'optuna'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


# --- the mirror ----------------------------------------------------------------------------------------------------


def test_everything_arrives_once(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    fill(spool, 3)
    tracker = FlakyTracker()
    mirror = make_mirror(spool, tracker)
    assert mirror.flush(5) == 0
    assert mirror.last_error is None
    assert len(tracker.runs) == 4
    ref = mirror.run_ref("s/2")
    assert ref is not None
    run = tracker.runs[ref.run_id]
    assert len(run.metrics) == 5 * N_EPOCHS
    assert (run.parent_run_id, run.state, run.ended_ms) == ("run-0", RunState.COMPLETE, 9_000)
    assert run.params == {"lr": "0.1"}
    # One call for the params of each run and one for all the epochs of a trial.
    assert tracker.n_logs == 4 + 3


def test_interleaved_trials_are_gathered_too(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    spool.append(RunOpened(study()))
    for events in zip(trial(0), trial(1), strict=True):
        for event in events:
            spool.append(event)
    tracker = FlakyTracker()
    assert make_mirror(spool, tracker).flush(5) == 0
    assert tracker.n_logs == 3 + 2


def test_events_are_sent_as_they_come(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    tracker = MemoryTracker()
    mirror = make_mirror(spool, tracker)
    mirror.start()
    mirror.start()
    spool.append(RunOpened(study()))
    deadline = time.monotonic() + 5
    while mirror.run_ref("s") is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mirror.run_ref("s") == RunRef("project", "run-0")


def test_a_dead_server_costs_nothing_but_pending_events(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    tracker = FlakyTracker()
    tracker.up = False
    mirror = make_mirror(spool, tracker)
    mirror.start()
    n_events = fill(spool, 1)
    assert mirror.flush(5) == n_events
    assert "does not answer" in str(mirror.last_error)
    tracker.up = True
    deadline = time.monotonic() + 5
    while spool.pending() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert mirror.flush(5) == 0
    assert mirror.last_error is None
    assert len(tracker.runs) == 2


def test_a_failure_in_the_middle_doubles_nothing(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    class Breaking(FlakyTracker):
        def close_run(self, run_id: str, state: RunState, ended_ms: int) -> None:
            self._check()
            super().close_run(run_id, state, ended_ms)
            if run_id == "run-3" and not broken:
                broken.append(run_id)
                raise TrackingError("the answer was lost")

    broken: list[str] = []
    n_events = fill(spool, 5)
    tracker = Breaking()
    mirror = make_mirror(spool, tracker, longest_pause_s=60, poll_s=60)
    assert mirror.flush(5) == n_events
    assert mirror.flush(5) == 0
    assert [len(run.metrics) for run in tracker.runs.values()] == [0, *[5 * N_EPOCHS] * 5]


def test_what_is_refused_is_set_aside_alone(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    spool.append(RunOpened(study()))
    spool.append(Logged("s", (MetricPoint("good", 1.0, 1),)))
    spool.append(Logged("s", (MetricPoint("refused", 1.0, 1),)))
    spool.append(Logged("s", (MetricPoint("good", 2.0, 2, 1),), tags={"a": "b"}))
    spool.append(Logged("s", params={"lr": 1}))
    spool.append(Logged("s", params={"lr": 2}))
    spool.append(Logged("never opened", tags={"a": "b"}))
    spool.append(ArtifactLogged("s", "no such file"))
    spool.append(ModelLogged("s", "no such folder", "model"))
    with (spool.folder / "events.jsonl").open("a") as file:
        file.write('{"event": "Unheard"}\n{"event": "Logged", "nokey": 1}\n[]\n')
    spool.append(RunClosed("s", RunState.COMPLETE, 5))
    tracker = FlakyTracker()
    mirror = make_mirror(spool, tracker)
    assert mirror.flush(5) == 0
    assert mirror.flush(5) == 0
    run = tracker.runs["run-0"]
    assert [point.value for point in run.metrics] == [1.0, 2.0]
    assert (run.params, run.tags, run.state) == ({"lr": "1"}, {"a": "b"}, RunState.COMPLETE)
    reasons = "\n".join(spool.rejected())
    assert len(spool.rejected()) == 8
    for part in ("no such metric", "another value", "never opened", "no artifact", "manifest", "no event"):
        assert part in reasons


def test_what_is_refused_is_counted_once_though_the_batch_is_sent_again(
    spool: Spool, make_mirror: Callable[..., Mirror]
) -> None:
    class Half(FlakyTracker):
        def close_run(self, run_id: str, state: RunState, ended_ms: int) -> None:
            raise TrackingError("the disk of the server is full")

    spool.append(RunOpened(study()))
    spool.append(Logged("s", (MetricPoint("refused", math.nan, 1),)))
    spool.append(RunClosed("s", RunState.COMPLETE, 5))
    mirror = make_mirror(spool, Half())
    for _ in range(3):
        assert mirror.flush(5) == 3
    assert spool.rejected() == ["no such metric."]


def test_models_and_artifacts_may_be_named_relative_to_the_spool(
    spool: Spool, make_mirror: Callable[..., Mirror], model_folder: Path
) -> None:
    shutil.move(model_folder, spool.folder / "best")
    (spool.folder / "report.html").write_text("<p>")
    spool.append(RunOpened(study()))
    spool.append(ArtifactLogged("s", "report.html"))
    spool.append(ModelLogged("s", "best", "model"))
    tracker = MemoryTracker()
    mirror = make_mirror(spool, tracker)
    assert mirror.model_uri("s") is None
    assert mirror.flush(5) == 0
    assert mirror.model_uri("s") == next(iter(tracker.runs["run-0"].models))
    assert tracker.runs["run-0"].artifacts == {"report.html": b"<p>"}


def test_one_mirror_sends_at_a_time(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    n_events = fill(spool, 1)
    second = make_mirror(Spool(spool.folder), MemoryTracker())
    with spool.sending():
        assert second.flush(5) == n_events
        assert "another process" in str(second.last_error)
    assert second.flush(5) == 0
    assert spool.run_ref("s/0") == second.run_ref("s/0")


def test_a_bug_in_a_tracker_is_said_and_loses_nothing(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    class Buggy(MemoryTracker):
        def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
            raise ZeroDivisionError

    n_events = fill(spool, 1)
    mirror = make_mirror(spool, Buggy())
    assert mirror.flush(5) == n_events
    assert "ZeroDivisionError" in str(mirror.last_error)


def test_a_hanging_tracker_holds_up_no_one(spool: Spool) -> None:
    release = threading.Event()

    class Hanging(MemoryTracker):
        def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
            release.wait(20)
            return super().open_run(start, parent_run_id, new=new)

    fill(spool, 1)
    mirror = Mirror(spool, Hanging())
    began = time.monotonic()
    assert mirror.close(0.1) > 0
    assert time.monotonic() - began < 2
    release.set()


# --- with MLflow ---------------------------------------------------------------------------------------------------


def _assert_complete(uri: str, n_trials: int) -> None:
    client = MlflowTracker(uri)._client
    experiment = client.get_experiment_by_name("project")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == sorted(["a study", *(f"trial {n}" for n in range(n_trials))])
    for run in runs:
        if run.info.run_name != "a study":
            assert run.info.status == "FINISHED"
            assert len(client.get_metric_history(run.info.run_id, "val_loss")) == N_EPOCHS
            assert run.data.params == {"lr": "0.1"}


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_and_doubles_nothing(spool: Spool, database_uri: str) -> None:
    n_trials = 20
    fill(spool, n_trials)
    script = (
        "import sys; from pathlib import Path\n"
        "from automl.tracking.spool import Mirror, Spool\n"
        "from automl.tracking.mlflow_tracker import MlflowTracker\n"
        "Mirror._BATCH = 50\n"
        "Mirror(Spool(Path(sys.argv[1])), MlflowTracker(sys.argv[2])).flush(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(spool.folder), database_uri])
    deadline = time.monotonic() + 60
    while spool.run_ref(f"s/{n_trials // 3}") is None and time.monotonic() < deadline:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert spool.pending() > 0
    mirror = Mirror(spool, MlflowTracker(database_uri))
    assert mirror.close(60) == 0
    assert spool.rejected() == []
    _assert_complete(database_uri, n_trials)


def test_only_what_nobody_can_have_sent_is_taken_for_new(spool: Spool, make_mirror: Callable[..., Mirror]) -> None:
    seen: list[tuple[str, bool]] = []

    class Noting(FlakyTracker):
        def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
            seen.append((start.key, new))
            return super().open_run(start, parent_run_id, new=new)

    tracker = Noting()
    mirror = make_mirror(spool, tracker)
    fill(spool, 1)
    assert mirror.flush(10) == 0
    assert seen == [("s", True), ("s/0", True)]

    spool.append(RunOpened(study()))  # as of a study that goes on
    assert mirror.flush(10) == 0
    assert seen[2:] == [("s", False)]

    tracker.up = False  # it may have made the run before its answer was lost
    spool.append(RunOpened(study("t")))
    assert mirror.flush(10) == 1
    tracker.up = True
    assert mirror.flush(10) == 0
    assert seen[3] == ("t", True)
    assert {new for key, new in seen[4:] if key == "t"} == {False}
    mirror.close(5)

    tracker.up = False  # what another process began to send, and what was there before
    spool.append(RunOpened(study("u")))
    other = make_mirror(Spool(spool.folder), tracker)
    assert other.flush(10) == 1
    assert {new for key, new in seen if key == "u"} == {False}


def test_sending_all_of_it_again_doubles_nothing(spool: Spool, database_uri: str) -> None:
    fill(spool, 2)
    for _ in range(2):
        assert Mirror(Spool(spool.folder), MlflowTracker(database_uri)).close(60) == 0
        (spool.folder / "sent.jsonl").unlink()
    assert spool.rejected() == []
    _assert_complete(database_uri, 2)


@pytest.mark.slow
def test_a_server_that_comes_late_gets_everything(
    spool: Spool,
    empty_database: Path,
    tmp_path: Path,
    free_port: Callable[[], int],
    server: Callable[[Path, int], AbstractContextManager[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    n_events = fill(spool, 2)
    mirror = Mirror(spool, MlflowTracker(f"http://127.0.0.1:{port}"), longest_pause_s=1)
    assert mirror.flush(60) == n_events
    assert "Check that the server runs" in str(mirror.last_error)
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    with server(folder, port) as uri:
        deadline = time.monotonic() + 60
        while spool.pending() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert mirror.close(10) == 0
        _assert_complete(uri, 2)
