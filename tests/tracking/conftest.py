"""Trackers to test: in memory, over a database file, and over a server of one's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from automl import manifest
from automl.tracking.memory_tracker import MemoryTracker
from automl.tracking.mlflow_tracker import MlflowTracker, write_mlmodel
from automl.tracking.tracker import RunKind, RunStart


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file with MLflow's tables: making them takes seconds, copying them does not."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    MlflowTracker(f"sqlite:///{path}").versions("none")
    return path


@pytest.fixture
def database_uri(empty_database: Path, tmp_path: Path) -> str:
    path = tmp_path / "tracking" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(empty_database, path)
    return f"sqlite:///{path}"


Serve = Callable[[Path, int], AbstractContextManager[str]]


@contextmanager
def serve(folder: Path, port: int) -> Iterator[str]:
    """Yields the address of an `mlflow server` over `mlflow.db` of a folder, once it answers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(300):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                assert process.poll() is None, (folder / "server.log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture
def server() -> Serve:
    """What starts a server over a folder, for a test that says when."""
    return serve


@pytest.fixture(scope="session")
def server_uri(
    empty_database: Path, tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int]
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_database, folder / "mlflow.db")
    with serve(folder, free_port()) as uri:
        yield uri


@pytest.fixture(params=["memory", "database", pytest.param("server", marks=pytest.mark.slow)])
def tracker(request: pytest.FixtureRequest) -> MemoryTracker | MlflowTracker:
    if request.param == "memory":
        return MemoryTracker()
    return MlflowTracker(request.getfixturevalue(f"{request.param}_uri"))


@pytest.fixture
def start(request: pytest.FixtureRequest) -> RunStart:
    """How a study of this test's own begins."""
    return RunStart(
        key=f"{request.node.name}/{time.time_ns()}",
        experiment=f"Kündigung / {request.node.name}",
        name="first",
        kind=RunKind.STUDY,
        started_ms=1_700_000_000_000,
    )


@pytest.fixture
def model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished model folder whose loader, as every loader should, verifies it first."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "doubling_loader.py").write_text(
        "from pathlib import Path\n"
        "from automl import manifest\n"
        "class Model:\n"
        "    def __init__(self, factor): self.factor = factor\n"
        "    def predict(self, frame, params=None): return frame[['a']] * self.factor\n"
        "def _load_pyfunc(path):\n"
        "    manifest.verify(Path(path))\n"
        "    return Model(float((Path(path) / 'weights' / 'factor').read_text()))\n"
    )
    monkeypatch.syspath_prepend(str(modules))
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "factor").write_text("2")
    write_mlmodel(
        folder,
        loader_module="doubling_loader",
        inputs=[("a", "double", True), ("b", "string", False)],
        outputs=[("a", "double")],
        requirements=["pandas"],
        example=[{"a": 1.5, "b": "x"}, {"a": float("nan")}],
    )
    manifest.write(folder)
    return folder
