"""Real processes: what is isolated is what cannot be believed without seeing it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from automl.errors import DataError, Problem
from automl.isolation import IsolatedCall, Standby, wait_any
from tests.processes import gone, importable

#: A process of its own must be able to import what it runs, and a test file cannot be imported by name.
FUNCTIONS = """
import os, signal, sys, time
from automl.errors import DataError, Problem

def add(caller, one, two):
    return one + two, os.getpid()

def count(caller, n):
    for number in range(n):
        caller.send(number)
    return n

def refuse(caller):
    raise DataError([Problem("found `x`", "file.csv", "Correct it."), Problem("and `y`")])

def blunder(caller):
    return {}["no such key"]

def exhaust(caller):
    raise MemoryError("no more")

def die(caller, number):
    os.kill(os.getpid(), number)
    time.sleep(60)

def leave(caller):
    os._exit(7)

def quit(caller):
    sys.exit(3)

def sleep(caller):
    caller.send(os.getpid())
    time.sleep(60)

def grow(caller):
    held = []
    while True:
        held.append(bytearray(os.urandom(1 << 20) * 20))
        time.sleep(0.01)

def grow_in_a_child(caller):
    import subprocess
    code = "import os, time; held = os.urandom(400 << 20); time.sleep(60)"
    subprocess.run([sys.executable, "-c", code])

def until_stopped(caller):
    caller.send("ready")
    while not caller.asks_to_stop:
        time.sleep(0.01)
    return "stopped"

def ignores_interrupt(caller):
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"

def threads(caller):
    return os.environ.get("OMP_NUM_THREADS")

def unpicklable(caller):
    return lambda: None
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    with importable(tmp_path_factory.mktemp("functions"), "isolated_functions", FUNCTIONS) as module:
        yield module


def finished(call: IsolatedCall, within_s: float = 30.0) -> list[object]:
    """Returns the messages of a call that ends."""
    messages = []
    until = time.monotonic() + within_s
    while not call.done:
        assert time.monotonic() < until, "the call does not end"
        wait_any([call], 0.1)
        messages += call.poll()
    call.process.join(10)  # one with a result may still be giving back its memory
    assert not call.process.is_alive()
    return messages


def test_a_result_comes_from_another_process(run: ModuleType) -> None:
    total, pid = IsolatedCall(run.add, 2, 3).wait()
    assert total == 5
    assert pid != os.getpid()


def test_messages_come_in_order_before_the_result(run: ModuleType) -> None:
    call = IsolatedCall(run.count, 500)
    assert finished(call) == list(range(500))
    assert call.result == 500
    seen: list[int] = []
    assert IsolatedCall(run.count, 5).wait(seen.append) == 5
    assert seen == [0, 1, 2, 3, 4]


def test_our_errors_cross_whole(run: ModuleType) -> None:
    with pytest.raises(DataError) as caught:
        IsolatedCall(run.refuse).wait()
    assert caught.value.problems == (Problem("found `x`", "file.csv", "Correct it."), Problem("and `y`"))
    call = IsolatedCall(run.refuse)
    finished(call)
    assert call.failure is not None
    assert (call.failure.kind, type(call.failure.error)) == ("error", DataError)


def test_other_errors_come_with_their_traceback(run: ModuleType) -> None:
    call = IsolatedCall(run.blunder)
    finished(call)
    assert call.failure is not None
    assert (call.failure.kind, call.failure.message) == ("error", "KeyError: 'no such key'")
    assert "isolated_functions.py" in call.failure.detail
    with pytest.raises(RuntimeError, match="no such key"):
        IsolatedCall(run.blunder).wait()


@pytest.mark.parametrize(
    ("function", "arguments", "kind", "said"),
    [
        ("die", (signal.SIGKILL,), "crash", "its process was ended by SIGKILL"),
        ("die", (signal.SIGSEGV,), "crash", "its process was ended by SIGSEGV"),
        ("leave", (), "crash", "its process ended with exit code 7"),
        ("quit", (), "error", "SystemExit: 3"),
        ("exhaust", (), "memory", "ran out of memory: no more"),
    ],
)
def test_a_death_is_told(run: ModuleType, function: str, arguments: tuple[int, ...], kind: str, said: str) -> None:
    call = IsolatedCall(getattr(run, function), *arguments)
    finished(call)
    assert call.failure is not None
    assert (call.failure.kind, call.failure.message) == (kind, said)
    assert call.result is None


def test_what_cannot_be_sent_is_an_error_and_no_silence(run: ModuleType) -> None:
    call = IsolatedCall(run.unpicklable)
    finished(call)
    assert call.failure is not None


def test_a_limit_of_time_is_held(run: ModuleType) -> None:
    began = time.monotonic()
    call = IsolatedCall(run.sleep, time_limit_s=1.0)
    (pid,) = finished(call)
    assert call.failure is not None
    assert (call.failure.kind, call.failure.message) == ("timeout", "ran past its limit of 1 s")
    assert time.monotonic() - began < 10
    assert gone(int(str(pid)))


@pytest.mark.parametrize("function", ["grow", "grow_in_a_child"])
def test_a_limit_of_memory_is_held(run: ModuleType, function: str) -> None:
    call = IsolatedCall(getattr(run, function), memory_limit=300_000_000, time_limit_s=30)
    finished(call)
    assert call.failure is not None
    assert call.failure.kind == "memory"
    assert "of its 300 MB" in call.failure.message


def test_a_stop_reaches_the_function(run: ModuleType) -> None:
    call = IsolatedCall(run.until_stopped)
    while not call.poll():
        wait_any([call], 1)
    call.stop()
    finished(call)
    assert call.result == "stopped"
    call.stop()  # after the end it is of no consequence


def test_a_call_can_be_ended(run: ModuleType) -> None:
    call = IsolatedCall(run.sleep)
    while not (messages := call.poll()):
        wait_any([call], 1)
    call.kill()
    assert call.done
    assert gone(int(messages[0]))


def test_an_interrupt_of_the_terminal_is_for_the_caller(run: ModuleType) -> None:
    assert IsolatedCall(run.ignores_interrupt).wait() == "went on"


def test_several_calls_run_side_by_side(run: ModuleType) -> None:
    calls = [IsolatedCall(run.until_stopped) for _ in range(3)]
    assert len({call.process.pid for call in calls}) == 3
    for call in calls:
        call.stop()
        finished(call)


def test_a_call_takes_the_process_that_stands_by(run: ModuleType) -> None:
    standby = Standby()
    assert IsolatedCall(run.add, 2, 3, standby=standby).wait() == (5, standby.process.pid)


def test_a_call_does_without_a_process_that_died_as_it_stood_by(run: ModuleType) -> None:
    standby = Standby()
    standby.process.kill()
    standby.process.join()
    total, pid = IsolatedCall(run.add, 2, 3, standby=standby).wait()
    assert total == 5
    assert pid != standby.process.pid


def test_limits_count_from_the_call_and_not_from_when_its_process_began(run: ModuleType) -> None:
    standby = Standby()
    time.sleep(1.2)
    assert IsolatedCall(run.add, 2, 3, standby=standby, time_limit_s=1.0).wait()[0] == 5


def test_a_process_that_stands_by_can_be_dismissed() -> None:
    standby = Standby()
    standby.dismiss()
    assert standby.process.exitcode == 0


CALL_AND_WAIT = """
import sys
from automl import isolation
import isolated_functions
isolation.PRELOAD = "json"  # what is loaded beforehand plays no part here, and takes seconds
if __name__ == "__main__":
    isolation.IsolatedCall(isolated_functions.sleep).wait(lambda pid: print(pid, flush=True))
"""


STAND_BY_AND_WAIT = """
import time
from automl import isolation
isolation.PRELOAD = "json"
if __name__ == "__main__":
    print(isolation.Standby().process.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("code", [CALL_AND_WAIT, STAND_BY_AND_WAIT])
def test_a_process_ends_when_its_caller_is_killed(code: str, run: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "caller.py").write_text(code)
    path = os.pathsep.join([str(Path(str(run.__file__)).parent), os.environ.get("PYTHONPATH", "")])
    caller = subprocess.Popen(
        [sys.executable, str(tmp_path / "caller.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert caller.stdout is not None
    pid = int(caller.stdout.readline())
    assert psutil.pid_exists(pid)
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert gone(pid)


START_AND_END = """
import sys
from automl import isolation
isolation.warm_up()
isolation.warm_up()
print(isolation._server_pid())
"""


def test_a_process_that_ends_takes_its_fork_server_along() -> None:
    done = subprocess.run([sys.executable, "-c", START_AND_END], capture_output=True, text=True, check=True)
    server = int(done.stdout)
    until = time.monotonic() + 2  # its imports alone take longer
    while psutil.pid_exists(server) and psutil.Process(server).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < until, "the fork server goes on"
        time.sleep(0.05)
