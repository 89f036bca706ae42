"""Runs one function in a process of its own: messages up, stop down, limits held from outside.

Processes come from a fork server that has torch, Lightning and scikit-learn loaded already, so a fresh one costs
milliseconds. Memory and crashes of the function are its process's own; when the process that started it dies, it
ends too.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any

import psutil

from automl.errors import AutomlError, ResourceError, disk_full
from automl.redaction import redact

#: Loaded once by the fork server.
PRELOAD = "automl.preload"
#: Seconds between two looks at a process's memory.
MEMORY_CHECK_S = 0.5

_ENVIRONMENT = {
    # A process per core and a thread per process: two threads on small work are slower than one, and spinning
    # OpenMP threads on a busy machine are far slower.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    # What torch's C++ code warns of is about how it is called, which is for nobody who runs a study.
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an isolated call has no result.

    Attributes:
        kind: `error` (it raised), `crash` (the process died), `timeout` or `memory` (a limit was held).
        error: What it raised, when it can be told as one of our errors.
        detail: A sentence, or the traceback of a raised error.
    """

    kind: str
    message: str
    error: AutomlError | None = None
    detail: str = ""


class Caller:
    """The child's end: how an isolated function talks to who called it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._asked: set[str] = set()
        threading.Thread(target=self._listen, daemon=True).start()

    def send(self, message: Any) -> None:
        """Sends one picklable message up."""
        self._connection.send(("message", message))

    @property
    def asks_to_stop(self) -> bool:
        """Whether the caller wants the function to return early."""
        return "stop" in self._asked

    @property
    def asks_to_pause(self) -> bool:
        """Whether the caller wants the function to keep what it has and end; another one will go on."""
        return "pause" in self._asked

    def _listen(self) -> None:
        try:
            while True:
                self._asked.add(self._connection.recv())
        except (EOFError, OSError):
            os._exit(1)  # who called is gone; nobody waits for the result


class Standby:
    """A process that has begun and waits to be told what to do, which it is at most once."""

    def __init__(self) -> None:
        context = _context()
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_run, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def dismiss(self) -> None:
        """Ends the process: there is nothing to do."""
        self.connection.close()
        self.process.join()


class IsolatedCall:
    """One running call of `function(caller, *arguments)` in a process of its own.

    Args:
        standby: The process, so that the call need not wait for one to begin.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        time_limit_s: float | None = None,
        memory_limit: int | None = None,
        standby: Standby | None = None,
    ) -> None:
        if standby is None or not standby.process.is_alive():
            standby = Standby()
        self.process, self.connection = standby.process, standby.connection
        self.connection.send((function, arguments))
        self.started = time.monotonic()
        self.result: Any = None
        self.failure: Failure | None = None
        self.done = False
        self._deadline = self.started + time_limit_s if time_limit_s else None
        self._memory_limit = memory_limit
        self._next_memory_check = self.started

    def poll(self) -> list[Any]:
        """Returns the messages that have come since the last look, and updates `done`, `result` and `failure`."""
        messages = []
        try:
            while not self.done and self.connection.poll():
                kind, content = self.connection.recv()
                if kind == "message":
                    messages.append(content)
                else:
                    self._end(*((content, None) if kind == "result" else (None, content)))
        except (EOFError, OSError):
            self.process.join()
            self._end(None, Failure("crash", _death(self.process.exitcode)))
        if not self.done:
            self._hold_limits()
        return messages

    def stop(self) -> None:
        """Asks the function to return early."""
        self._ask("stop")

    def pause(self) -> None:
        """Asks the function to keep what it has and end."""
        self._ask("pause")

    def _ask(self, what: str) -> None:
        if not self.done:
            with contextlib.suppress(OSError):  # it may just have ended; `poll` will tell
                self.connection.send(what)

    def kill(self, failure: Failure | None = None) -> None:
        """Ends the process now."""
        if not self.done:
            self._end(None, failure or Failure("crash", "was ended by the study"))

    def wait(self, on_message: Callable[[Any], None] = lambda message: None) -> Any:
        """Returns the function's result once there is one.

        Raises:
            AutomlError, RuntimeError: As of `outcome`.
        """
        while not self.done:
            wait([self.connection], timeout=MEMORY_CHECK_S)
            for message in self.poll():
                on_message(message)
        return self.outcome()

    def outcome(self) -> Any:
        """Returns the result of a function that is done.

        Raises:
            AutomlError: What the function raised.
            RuntimeError: It raised something else, or its process died.
        """
        if self.failure is None:
            return self.result
        if self.failure.error is not None:
            raise self.failure.error
        killed = self.failure.kind == "crash" and self.process.exitcode == -signal.SIGKILL
        if self.failure.kind == "memory" or killed:
            # Nobody but the system's memory guard ends such a process with SIGKILL.
            raise ResourceError(
                f"a step of the study ran out of memory: {self.failure.message}",
                remedy="Free memory, run fewer workers, or use a smaller table.",
            )
        raise RuntimeError(f"{self.failure.message}\n{self.failure.detail}")

    def _hold_limits(self) -> None:
        now = time.monotonic()
        if self._deadline is not None and now > self._deadline:
            self.kill(Failure("timeout", f"ran past its limit of {self._deadline - self.started:.0f} s"))
        elif self._memory_limit is not None and now >= self._next_memory_check:
            self._next_memory_check = now + MEMORY_CHECK_S
            if (used := _private_bytes(self.process.pid)) > self._memory_limit:
                self.kill(Failure("memory", f"used {used / 1e6:,.0f} MB of its {self._memory_limit / 1e6:,.0f} MB"))

    def _end(self, result: Any, failure: Failure | None) -> None:
        self.done, self.result, self.failure = True, result, failure
        self.connection.close()
        if failure is not None:
            self.process.kill()
            self.process.join()
        # One with a result has nothing more to do than to give back its memory, which nobody need wait for.


def wait_any(calls: Sequence[IsolatedCall], timeout_s: float) -> None:
    """Waits until one of the calls has something to tell, at most `timeout_s`."""
    wait([call.connection for call in calls if not call.done], timeout=timeout_s)


def warm_up() -> None:
    """Starts the fork server, whose imports then run beside the caller's own work; a second call does nothing."""
    if _server_pid() is not None:
        return
    os.environ.update({name: value for name, value in _ENVIRONMENT.items() if name not in os.environ})
    _context()
    if threading.current_thread() is threading.main_thread():
        # It ignores Ctrl-C, and its processes inherit that: `_run` ignores it too, but too late for a process that
        # Ctrl-C reaches as it begins.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            forkserver.ensure_running()
        finally:
            signal.signal(signal.SIGINT, before)
    else:  # only the main thread may say what signals do; Ctrl-C is then not ours to handle
        forkserver.ensure_running()
    atexit.register(_stop_server)


def _stop_server() -> None:
    """Ends the fork server, which would otherwise finish its imports first."""
    pid = _server_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def _server_pid() -> int | None:
    return getattr(forkserver._forkserver, "_forkserver_pid", None)


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOAD])
    return context


def _run(connection: Connection) -> None:
    # Ctrl-C reaches every process of the terminal; what to do about it is for the caller alone to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        function, arguments = connection.recv()
    except EOFError:
        return  # dismissed, or who would have called is gone
    caller = Caller(connection)
    try:
        outcome = ("result", function(caller, *arguments))
    except MemoryError as error:
        outcome = ("failure", Failure("memory", f"ran out of memory: {error}"))
    except BaseException as error:
        message = redact(f"{type(error).__name__}: {error}")
        told = disk_full(error) or (error if isinstance(error, AutomlError) else None)
        if told is not None:
            detail = redact(traceback.format_exc()) if error.__cause__ is not None else ""  # of what it came from
            outcome = ("failure", Failure("error", str(told), told, detail))
        else:
            kind = "memory" if "not enough memory" in message else "error"  # torch's CPU allocator raises RuntimeError
            outcome = ("failure", Failure(kind, message, None, redact(traceback.format_exc())))
    connection.send(outcome)


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"its process was ended by {signal.Signals(-exit_code).name}"
    return f"its process ended with exit code {exit_code}"


def _private_bytes(pid: int | None) -> int:
    """Returns the memory that goes when a process and those that it started end."""
    total = 0
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.Error):  # one that has just ended
                total += int(each.memory_full_info().uss)
    return total
