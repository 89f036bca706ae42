"""The command line as a person has it: real processes in folders of their own, and small tables to run on."""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

AUTOML = [sys.executable, "-m", "automl"]

SPACE = {
    "version": 1,
    "preprocessing": [
        {"stage": "imputation", "options": ["median", "mean"]},
        {"stage": "encoding", "options": ["ordinal", "onehot"]},
        {"stage": "scaling", "options": ["standard"]},
    ],
    "network": [{"name": "mlp", "params": {"depth": {"type": "int", "low": 1, "high": 2}, "width": 16}}],
    "optimizer": [{"name": "adamw", "params": {"lr": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True}}}],
    "batch_size": 64,
}


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Workplace:
    """A folder in which a person types commands."""

    path: Path

    def automl(self, *arguments: object, code: int | None = 0, timeout: float = 300, **variables: str) -> Ended:
        """Runs one command to its end, and checks its exit code and that no traceback is shown."""
        ended = self.python(*AUTOML[1:], *arguments, timeout=timeout, **variables)
        assert "Traceback" not in ended.err, ended.err
        if code is not None:
            assert ended.code == code, f"exit code {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def quick(self, *arguments: object, code: int = 0) -> Ended:
        """Does what `automl` does, for a command that starts no processes, without the seconds of its imports."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["automl.preload", "automl.cli", "automl.preparation"])
        with tempfile.TemporaryDirectory() as scratch:
            out, err = Path(scratch, "out"), Path(scratch, "err")
            given = {"folder": str(self.path), "out": str(out), "err": str(err), "arguments": [*map(str, arguments)]}
            process = context.Process(
                target=runpy.run_path, args=(str(Path(__file__).with_name("one_command.py")), given)
            )
            process.start()
            process.join(120)
            ended = Ended(process.exitcode, out.read_text(), err.read_text())
        assert "Traceback" not in ended.err, ended.err
        assert ended.code == code, f"exit code {ended.code}\n{ended.out}\n{ended.err}"
        return ended

    def python(self, *arguments: object, timeout: float = 300, **variables: str) -> Ended:
        done = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=self.path,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, *arguments: object, **variables: str) -> subprocess.Popen[str]:
        """Starts a command in a process group of its own, as a shell does."""
        return subprocess.Popen(
            [*AUTOML, *map(str, arguments)],
            cwd=self.path,
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def write_table(self, task: str = "binary", name: str = "table.csv", **options: Any) -> Path:
        frame = make_table(task, **options)
        path = self.path / name
        frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
        return path

    def write_study(self, name: str = "small", table: str = "table.csv", **changes: Any) -> Path:
        """Writes a study of few trials and epochs; `changes` replace what it says, `None` leaves a key out."""
        (self.path / "space.yaml").write_text(yaml.safe_dump(SPACE))
        study = {
            "version": 1,
            "name": name,
            "data": {"source": Path(table).suffix[1:], "params": {"path": table}, "target": "target"},
            "search_space": "space.yaml",
            "validation": {"strategy": "holdout"},
            "budget": {"trials": 4},
            "trainer": {"max_epochs": 3},
            "references": False,
            **changes,
        }
        path = self.path / f"{name}.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in study.items() if value is not None}))
        return path

    def trials(self, study: str = "small") -> list[Any]:
        """Returns the trials of a study, read by Optuna alone."""
        import optuna
        from optuna.storages.journal import JournalFileBackend

        backend = JournalFileBackend(str(self.path / ".automl" / "studies" / study / "journal.log"))
        storage = optuna.storages.JournalStorage(backend)
        return optuna.load_study(study_name=study, storage=storage).trials

    def runs(self, *, parents: bool = False, uri: str | None = None) -> list[Any]:
        """Returns the child runs, or the parent runs, read by MLflow alone."""
        import mlflow

        client = mlflow.MlflowClient(uri or f"sqlite:///{self.path / 'mlflow.db'}")
        experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
        runs = client.search_runs(experiments, max_results=1000)
        return [run for run in runs if ("mlflow.parentRunId" not in run.data.tags) is parents]


def make_table(task: str = "binary", *, n: int = 240, seed: int = 0) -> pd.DataFrame:
    """Returns numbers with holes, whole numbers, words and truth values, and a target that depends on them."""
    rng = np.random.default_rng(seed)
    amount, count = rng.normal(size=n), rng.integers(0, 50, n)
    colour, member = rng.choice(["red", "green", "blue"], n), rng.random(n) < 0.5
    signal_ = 2 * amount + 0.05 * count + (colour == "red") + rng.normal(scale=0.3, size=n)
    target: Any = signal_
    if task == "binary":
        target = np.where(signal_ > np.median(signal_), "yes", "no")
    elif task == "multiclass":
        target = np.array(["low", "middle", "high"])[np.digitize(signal_, np.quantile(signal_, [0.33, 0.67]))]
    amount[rng.random(n) < 0.1] = np.nan
    groups, days = rng.integers(0, 12, n), pd.date_range("2026-01-01", periods=n).astype(str)
    columns = {"amount": amount, "count": count, "colour": colour, "member": member, "team": groups, "day": days}
    return pd.DataFrame({**columns, "target": target})


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """An empty folder."""
    return Workplace(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A folder with the finished study `small`; commands that read it share it."""
    place = Workplace(tmp_path_factory.mktemp("finished"))
    place.write_table()
    place.write_study(references=True)
    (place.path / "run.json").write_text(place.automl("run", "small.yaml", "--workers", 2, "--json").out)
    return place


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


@contextmanager
def served(command: list[str], url: str, cwd: Path, variables: Mapping[str, str]) -> Iterator[str]:
    """Runs a server until the block ends, once it answers; ends it and all that it started."""
    log = cwd / f"server-{time.time_ns()}.log"
    with log.open("w") as file:
        server = subprocess.Popen(command, cwd=cwd, env={**os.environ, **variables}, stdout=file, stderr=file)
    try:
        until = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(url, timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < until, log.read_text()
                time.sleep(0.3)
        yield url
    finally:
        end_tree(server.pid)
        server.wait()


def end_tree(pid: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Ends a process and everything below it."""
    try:
        top = psutil.Process(pid)
        processes = [*top.children(recursive=True), top]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(how)
    for process in psutil.wait_procs(processes, timeout=10)[1]:
        process.kill()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Any]:
    """Runs a server in a block."""
    return served


@pytest.fixture(scope="session")
def table() -> Callable[..., pd.DataFrame]:
    """Makes a table."""
    return make_table


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """Waits until something is true."""

    def wait(condition: Callable[[], bool], what: str, timeout: float = 90) -> None:
        until = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < until, f"waited in vain until {what}"
            time.sleep(0.1)

    return wait
