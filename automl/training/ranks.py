"""One training in several processes on one machine, each with a device and a share of every batch.

A trial's process starts them, hears from the first, and ends all when one has failed, so that none waits for ever. They
meet by a file and talk over the loopback interface: no port is asked for, and none can be taken already.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import torch.distributed

from automl import plugins
from automl.isolation import Caller, IsolatedCall, wait_any, warm_up
from automl.training.checkpoint import Paused
from automl.training.course import Report
from automl.values import EpochReport

#: Seconds between two looks at whether a process has failed, or the trial is to be paused.
LOOK_S = 0.2
#: Seconds that the others have to end after the first one.
GRACE_S = 10.0
#: How long processes wait for each other. That one is gone is noticed by then, and far sooner by who started it.
PATIENCE = timedelta(minutes=30)
#: What the error of a process speaks of that has only lost another one.
LOST = ("gloo", "nccl", "connection")

Plan = TypeVar("Plan")
Result = TypeVar("Result")


def rank() -> int:
    """Returns which of the processes this is, counted from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def size() -> int:
    """Returns how many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def gather(value: Result) -> list[Result]:
    """Returns what each process gave, in their order; all of them have to call it."""
    if size() == 1:
        return [value]
    every: list[Any] = [None] * size()
    torch.distributed.all_gather_object(every, value)
    return every


def together(
    function: Callable[[Plan, Report, Callable[[], bool]], Result],
    plan: Plan,
    n_processes: int,
    *,
    report: Report,
    pause: Callable[[], bool],
) -> Result:
    """Returns what the first of some processes makes of `function(plan, report, pause)`, which all of them call.

    Args:
        function, plan: Picklable.
        report: Is told what the first process reports. Whether to stop is known to it with its next report.
        pause: Whether the first process is to raise `Paused`.

    Raises:
        Paused: It did.
        AutomlError: Of whichever process failed first.
        RuntimeError: One of them raised something else, or died.
    """
    warm_up()
    modules = plugins.imported()
    with tempfile.TemporaryDirectory() as scratch, with_children():
        store = Path(scratch) / "store"
        calls = [
            IsolatedCall(_take_part, number, n_processes, store, modules, function, plan)
            for number in range(n_processes)
        ]
        try:
            first = _first_done(calls, report, pause)
        finally:
            _end(calls)
    outcome = first.outcome()
    if outcome is None:
        raise Paused
    result: Result = outcome[0]
    return result


def _first_done(calls: list[IsolatedCall], report: Report, pause: Callable[[], bool]) -> IsolatedCall:
    """Returns the first process when it is done, or before that whichever has failed."""
    while True:
        wait_any(calls, LOOK_S)
        for call in calls:
            for epoch in call.poll():
                if report(epoch):
                    call.stop()
        failed = [call for call in calls if call.failure is not None]
        if failed:
            return min(failed, key=_has_lost_another)
        if calls[0].done:
            return calls[0]
        if pause():
            calls[0].pause()


def _has_lost_another(call: IsolatedCall) -> bool:
    return call.failure is not None and any(word in call.failure.message.lower() for word in LOST)


def _end(calls: list[IsolatedCall]) -> None:
    """Lets the processes end that are about to, and kills those that wait for one that is gone."""
    until = time.monotonic() + (GRACE_S if calls[0].result is not None else 0.0)
    while any(not call.done for call in calls) and time.monotonic() < until:
        wait_any(calls, LOOK_S)
        for call in calls:
            call.poll()
    for call in calls:
        call.kill()


def _take_part(
    caller: Caller,
    number: int,
    n_processes: int,
    store: Path,
    modules: tuple[str, ...],
    function: Callable[[Any, Report, Callable[[], bool]], Any],
    plan: Any,
) -> tuple[Any] | None:
    """Returns what the first process has to say, once all have met; None if it was paused."""
    plugins.import_modules(modules)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as in the process of the trial, which ends this one
    tempfile.tempdir = str(store.parent)  # what a killed process leaves there goes with it
    os.environ["LOCAL_RANK"] = str(number)  # by which Lightning knows that others have been started
    os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
    torch.distributed.init_process_group(
        init_method=store.as_uri(), rank=number, world_size=n_processes, timeout=PATIENCE
    )

    def report(epoch: EpochReport) -> bool:
        if number == 0:
            caller.send(epoch)
        return caller.asks_to_stop

    try:
        result = function(plan, report, lambda: caller.asks_to_pause)
    except Paused:
        return None
    return (result if number == 0 else None,)


def _loopback() -> str:
    """Returns the name of the interface that leads nowhere but back."""
    addresses = psutil.net_if_addrs()
    return next(
        name
        for name, known in addresses.items()
        if any(one.family == socket.AF_INET and one.address.startswith("127.") for one in known)
    )


@contextlib.contextmanager
def with_children() -> Iterator[None]:
    """Lets a process that ends with its launcher have children, which end with it."""
    settings: Any = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    before = settings.get("daemon")
    settings["daemon"] = False
    try:
        yield
    finally:
        settings["daemon"] = before
