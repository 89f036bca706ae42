"""Whatever happens to MLflow, training goes on, and afterwards everything arrives exactly once."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.command_line import end_tree, served
from tests.faults.proxy import FaultProxy

pytestmark = pytest.mark.slow

LONG = {
    "budget": {"trials": 4},
    "trainer": {"max_epochs": 120, "patience": 120},
    "pruner": {"name": "none"},
    "sampler": {"name": "random"},
}


def server_command(port: int, folder: Path, store: str = "sqlite:///server.db") -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", store, "--artifacts-destination", str(folder / "served")),
    ]


def assert_all_arrived_once(place: Any, uri: str, n_trials: int = 4) -> None:
    """Holds MLflow, read by itself, against Optuna, read by itself."""
    client = mlflow.MlflowClient(uri)
    (parent,) = place.runs(parents=True, uri=uri)
    assert parent.info.status == "FINISHED"
    runs = {run.info.run_name: run for run in place.runs(uri=uri)}
    trials = place.trials()
    assert len(trials) == n_trials
    assert sorted(runs) == sorted(f"trial {trial.number}" for trial in trials)
    for trial in trials:
        run = runs[f"trial {trial.number}"]
        assert run.info.status == "FINISHED"
        history = client.get_metric_history(run.info.run_id, "val_roc_auc")
        assert {point.step: point.value for point in history} == trial.intermediate_values
        assert len(history) == len(trial.intermediate_values), "a point is there twice"
        assert run.data.metrics["best_roc_auc"] == trial.value
    assert len(client.search_logged_models([parent.info.experiment_id])) == 1


@pytest.mark.parametrize("how", ["refuse", "hang", "error"])
def test_a_server_that_fails_in_mid_run(
    place: Any, how: str, free_port: Callable[[], int], wait_for: Callable[..., None], observed: Callable[..., None]
) -> None:
    place.write_table(n=1000)
    place.write_study(**LONG)
    port = free_port()
    proxy = FaultProxy(port)
    direct = f"http://127.0.0.1:{port}"
    with served(server_command(port, place.path), f"{direct}/health", place.path, {}):
        process = place.start("run", "small.yaml", "--workers", 1, "--json", "--tracking-uri", proxy.url)
        journal = place.path / ".automl/studies/small/journal.log"

        def ended(n: int) -> bool:
            return journal.is_file() and journal.read_text().count("automl:result") >= n

        wait_for(lambda: ended(1), "a trial has ended")
        proxy.mode = how
        wait_for(lambda: ended(3), "training goes on meanwhile: two more have ended", timeout=120)
        proxy.mode = "forward"
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert "Traceback" not in err
        for _ in range(2):  # once more changes nothing
            assert place.quick("sync", "--tracking-uri", proxy.url, "--json").json["pending"] == {"small": 0}
        assert_all_arrived_once(place, direct)
    proxy.close()
    words = {"refuse": "refuses connections", "hang": "hangs", "error": "answers 500"}[how]
    observed(
        f"MLflow {words} in mid-run", "training does not wait; afterwards every point and run is there exactly once"
    )


def test_a_server_that_is_not_there_at_the_start(
    place: Any, free_port: Callable[[], int], observed: Callable[..., None]
) -> None:
    place.write_table()
    place.write_study(budget={"trials": 2})
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    ended = place.automl("run", "small.yaml", "--tracking-uri", uri, "--json")
    assert ended.json["pending_sync"] > 0
    assert ended.json["run_id"] is None
    told = place.quick("show", "small").out
    assert f"pending sync: {ended.json['pending_sync']} events have not reached MLflow" in told
    refused = place.quick("sync", "--tracking-uri", uri, code=3)
    assert "Check that the server runs and can be reached." in refused.err
    refused = place.quick("promote", "small", "--model", "m", "--tracking-uri", uri, code=3)
    assert "automl sync" in refused.err
    with served(server_command(port, place.path), f"{uri}/health", place.path, {}):
        for _ in range(2):
            assert place.quick("sync", "--tracking-uri", uri, "--json").json["pending"] == {"small": 0}
        assert_all_arrived_once(place, uri, n_trials=2)
        # What is known after the sync is found by the commands that come next.
        promoted = place.quick("promote", "small", "--model", "m", "--tracking-uri", uri, "--json").json
        assert promoted["model_uri"].startswith("models:/m-")
    observed(
        "MLflow is down at the start",
        "the study runs to its end, exit 0, with a line `pending sync`; `automl sync` sends all",
    )


def test_a_server_that_is_killed_and_comes_back(
    place: Any, free_port: Callable[[], int], wait_for: Callable[..., None], observed: Callable[..., None]
) -> None:
    place.write_table(n=1000)
    place.write_study(**LONG)
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    with (place.path / "server.log").open("w") as log:
        server = subprocess.Popen(server_command(port, place.path), cwd=place.path, stdout=log, stderr=log)
    wait_for(lambda: _answers(port), "the server answers")  # to be killed as it makes its tables is another story
    journal = place.path / ".automl/studies/small/journal.log"
    process = place.start("run", "small.yaml", "--workers", 1, "--json", "--tracking-uri", uri)
    wait_for(lambda: journal.is_file() and "automl:result" in journal.read_text(), "a trial has ended")
    end_tree(server.pid, signal.SIGKILL)
    server.wait()
    wait_for(lambda: journal.read_text().count("automl:result") >= 3, "two more have ended meanwhile", timeout=120)
    with served(server_command(port, place.path), f"{uri}/health", place.path, {}):
        _, err = process.communicate(timeout=240)
        assert process.returncode == 0, err
        assert place.quick("sync", "--tracking-uri", uri, "--json").json["pending"] == {"small": 0}
        assert_all_arrived_once(place, uri)
    observed("`kill -9` of the MLflow server, which comes back", "every point and run is there exactly once")


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).close()
    except OSError:
        return False
    return True


@pytest.fixture
def postgres(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[tuple[str, Callable[[str], None]]]:
    """A PostgreSQL of the test's own: its URI, and a function that tells pg_ctl what to do with it."""
    found = shutil.which("initdb") or next((str(p) for p in Path("/usr/lib/postgresql").glob("*/bin/initdb")), None)
    if found is None:
        pytest.skip("PostgreSQL is not installed")
    binaries = Path(found).resolve().parent
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name  # PostgreSQL refuses to run as root
    home = tmp_path / "postgres"
    home.mkdir()
    shutil.chown(home, user)
    for folder in (tmp_path, *tmp_path.parents):  # to come to it
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o011)

    def call(*arguments: str) -> None:
        as_user = {"user": user} if os.getuid() == 0 else {}
        subprocess.run([str(binaries / arguments[0]), *arguments[1:]], cwd=home, check=True, timeout=120, **as_user)  # type: ignore[call-overload]

    port = free_port()
    call("initdb", "--pgdata", "data", "--username", "tester", "--auth", "trust", "--no-sync")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home}"

    def control(what: str) -> None:
        how = ["-o", options, "-l", str(home / "log"), "-w"] if what == "start" else ["-m", "immediate", "-w"]
        call("pg_ctl", "--pgdata", "data", what, *how)

    control("start")
    yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres", control
    control("stop")


def test_a_postgresql_that_is_restarted(
    place: Any,
    postgres: tuple[str, Callable[[str], None]],
    wait_for: Callable[..., None],
    observed: Callable[..., None],
) -> None:
    uri, control = postgres
    place.write_table(n=1000)
    place.write_study(**LONG)
    process = place.start("run", "small.yaml", "--workers", 1, "--json", "--tracking-uri", uri)
    journal = place.path / ".automl/studies/small/journal.log"
    wait_for(lambda: journal.is_file() and "automl:result" in journal.read_text(), "a trial has ended")
    control("stop")
    wait_for(lambda: journal.read_text().count("automl:result") >= 2, "another has ended meanwhile", timeout=120)
    control("start")
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert place.quick("sync", "--tracking-uri", uri, "--json").json["pending"] == {"small": 0}
    assert_all_arrived_once(place, uri)
    observed("PostgreSQL behind MLflow is restarted in mid-run", "every point and run is there exactly once")
