"""Real processes that train together: what they do not do together must end them all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from automl import plugins
from automl.errors import DataError
from automl.training import ranks
from automl.training.checkpoint import Paused
from automl.values import EpochReport
from tests.processes import gone, importable

#: Other processes must be able to import what they run, and a test file cannot be imported by name.
FUNCTIONS = """
import os, signal, time
from pathlib import Path
from automl.errors import DataError
from automl.training import ranks
from automl.training.checkpoint import Paused
from automl.values import EpochReport

def meet(plan, report, pause):
    return plan, ranks.rank(), ranks.size(), ranks.gather(10 * ranks.rank()), os.environ["GLOO_SOCKET_IFNAME"]

def fail(plan, report, pause):
    if ranks.rank() == plan:
        raise DataError(f"of process {plan}")
    ranks.gather("waits for the other")

def die(plan, report, pause):
    if ranks.rank() == plan:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.gather("waits for the other")

def wait(plan, report, pause):
    Path(plan, f"{ranks.rank()}.new").write_text(str(os.getpid()))
    os.replace(f"{plan}/{ranks.rank()}.new", f"{plan}/{ranks.rank()}.pid")
    if ranks.rank() == 0:
        time.sleep(600)
    ranks.gather("waits for the other")

def until_told(plan, report, pause):
    step = 0
    while ranks.rank() == 0 and not report(EpochReport(step, 0.5, {})):
        step += 1
        time.sleep(0.02)
        if pause():
            raise Paused
    return step
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with importable(tmp_path_factory.mktemp("functions"), "shared_functions", FUNCTIONS) as module:
        yield module


@pytest.fixture(autouse=True)
def _no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out those that other tests have imported, whose files are gone."""
    monkeypatch.setattr(plugins, "imported", lambda: ())


def unheard(epoch: EpochReport) -> bool:
    return False


def unasked() -> bool:
    return False


def test_alone_there_is_one() -> None:
    assert (ranks.rank(), ranks.size(), ranks.gather("this")) == (0, 1, ["this"])


def test_they_meet(run: ModuleType) -> None:
    plan, rank, size, gathered, interface = ranks.together(run.meet, {"a": 1}, 3, report=unheard, pause=unasked)
    assert (plan, rank, size, gathered) == ({"a": 1}, 0, 3, [0, 10, 20])
    assert interface.startswith("lo")


@pytest.mark.parametrize("number", [0, 1])
def test_when_one_fails_none_waits_for_it(run: ModuleType, number: int) -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match=f"of process {number}"):
        ranks.together(run.fail, number, 2, report=unheard, pause=unasked)
    assert time.monotonic() < began + 60  # not the half hour that they would wait


@pytest.mark.parametrize("number", [0, 1])
def test_when_one_dies_none_waits_for_it(run: ModuleType, number: int) -> None:
    with pytest.raises(Exception, match=r"SIGKILL|[Cc]onnection"):
        ranks.together(run.die, number, 2, report=unheard, pause=unasked)


def test_stopped_and_paused(run: ModuleType) -> None:
    steps: list[int] = []
    n = ranks.together(run.until_told, None, 2, report=lambda e: steps.append(e.step) or e.step == 3, pause=unasked)  # type: ignore[func-returns-value]
    assert n >= 3
    assert steps == list(range(n + 1))
    with pytest.raises(Paused):
        ranks.together(run.until_told, None, 2, report=unheard, pause=lambda: True)


def test_they_end_with_who_started_them(run: ModuleType, tmp_path: Path) -> None:
    code = (
        "import shared_functions; from automl.training import ranks\n"
        f"ranks.together(shared_functions.wait, {str(tmp_path)!r}, 2, report=lambda e: False, pause=lambda: False)"
    )
    folder = str(Path(str(run.__file__)).parent)
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": folder})
    until = time.monotonic() + 60
    while len(files := list(tmp_path.glob("*.pid"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert all(gone(int(file.read_text()), within_s=20) for file in files)
