"""Seconds of named functions, taken from outside: the program that is measured knows nothing of it.

`launch` is the command line with the launcher's functions wrapped, and with trials whose own are wrapped, in the
processes that the fork server makes for them. What is loaded here is loaded by the launcher: no torch.
"""

from __future__ import annotations

import atexit
import functools
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any


class Timers:
    """Seconds by name. Of wrapped functions that call one another, the outermost counts: nothing counts twice."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inside = False

    def wrap(self, owner: Any, name: str, label: str | Callable[[], str]) -> None:
        """Takes the time of `owner.name` from now on.

        Args:
            owner: A class or a module.
            label: What the seconds are called, or what says so when the function is called.
        """
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if self._inside:
                return function(*arguments, **options)
            called = label if isinstance(label, str) else label()
            self._inside, began = True, time.monotonic()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[called] += time.monotonic() - began
                self._inside = False

        setattr(owner, name, timed)

    def wrap_iteration(self, owner: Any, label: str) -> None:
        """Takes the time of getting each item of an `owner`, and not of what is done between two of them."""
        iterate, end = owner.__iter__, object()

        def timed(itself: Any) -> Iterator[Any]:
            items = iterate(itself)
            while True:
                began = time.monotonic()
                item = next(items, end)
                if not self._inside:
                    self.seconds[label] += time.monotonic() - began
                if item is end:
                    return
                yield item

        owner.__iter__ = timed


# --- in the process of a trial -------------------------------------------------------------------------------------


def trial(caller: Any, task: Any, plugin_modules: tuple[str, ...]) -> Any:
    """Calls `jobs.trial` with its parts timed, and leaves the seconds beside the trial's folder."""
    began = time.monotonic()
    timers = Timers()
    wrap_trial(timers)
    from automl import jobs

    wrapped = time.monotonic()
    result = jobs.trial(caller, task, plugin_modules)
    document = {"began": began, "wrapping": wrapped - began, "ended": time.monotonic(), "parts": timers.seconds}
    record_of(task.out).write_text(json.dumps(document))
    return result


def record_of(folder: Path) -> Path:
    """Returns where a trial with this folder leaves its seconds."""
    return folder.with_name(folder.name + ".timers.json")


def wrap_trial(timers: Timers) -> None:
    """Wraps what a trial is made of, its training and what surrounds it."""
    import numpy as np
    import pytorch_lightning as pl
    import torch
    from lightning_fabric import Fabric
    from lightning_fabric.wrappers import _FabricOptimizer

    import automl.trial
    from automl import losses, metrics, plugins
    from automl.components import Catalogue
    from automl.data import storage
    from automl.isolation import Caller
    from automl.predictor import Predictor
    from automl.training import fit
    from automl.training.loaders import Batches
    from automl.training.loop import Loop
    from automl.training.module import SupervisedModule

    for owner, name, label in (
        (plugins, "import_modules", "plug-ins"),
        (storage, "load_schema", "data"),
        (storage, "open_part", "data"),
        (storage.StoredPart, "shard", "data"),
        (storage, "load_folds", "data"),
        (automl.trial, "prepare", "preprocessing"),
        (pl, "seed_everything", "set-up"),
        (fit, "_fabric", "set-up"),
        (Catalogue, "build", "set-up"),
        (Batches, "__init__", "set-up"),
        (Fabric, "setup_module", "set-up"),
        (SupervisedModule, "__init__", "set-up"),
        (Loop, "__init__", "set-up"),
        (SupervisedModule, "training_step", "forward"),
        (Fabric, "backward", "backward"),
        (torch.optim.Optimizer, "zero_grad", "optimizer"),
        (_FabricOptimizer, "step", "optimizer"),
        (Loop, "_validate", "validation"),
        (losses, "predictions", "metric"),
        (metrics, "score", "metric"),
        (Caller, "send", "reports"),
        (fit._Watch, "result", "best"),
        (metrics, "score_all_folds", "metrics"),
        (Predictor, "save", "saving"),
        (np, "save", "saving"),
    ):
        timers.wrap(owner, name, label)
    timers.wrap_iteration(Batches, "gathering")


# --- in the launcher -----------------------------------------------------------------------------------------------


def launch(record: Path) -> None:
    """Runs the command line with trials that are timed, and leaves in a file what the launcher did and when.

    Each call is noted as its name, when it began, when it ended, and the processor time that the launcher, with all its
    threads, had used by then.
    """
    from automl import cli, jobs
    from automl.isolation import IsolatedCall
    from automl.recorder import Recorder
    from automl.search import Search

    calls: list[tuple[str, float, float, float]] = []

    def note(owner: Any, name: str) -> None:
        function = getattr(owner, name)

        @functools.wraps(function)
        def noted(*arguments: Any, **options: Any) -> Any:
            began = time.monotonic()
            try:
                return function(*arguments, **options)
            finally:
                calls.append((name, began, time.monotonic(), time.process_time()))

        setattr(owner, name, noted)

    def end_and_watch(call: IsolatedCall, result: Any, failure: Any) -> None:
        """Ends a call, and notes how long its process takes to be gone: nobody else waits for that."""
        began = time.monotonic()

        def watch() -> None:
            wait([call.process.sentinel])
            calls.append(("exit", began, time.monotonic(), time.process_time()))

        threading.Thread(target=watch, daemon=True).start()
        end(call, result, failure)

    end, IsolatedCall._end = IsolatedCall._end, end_and_watch  # type: ignore[method-assign]
    for owner, names in (
        (Search, ("claim", "begin", "report", "tell")),
        (Recorder, ("trial_started", "epoch", "trial_ended")),
        (IsolatedCall, ("__init__", "_end")),
    ):
        for name in names:
            note(owner, name)
    jobs.trial = trial
    atexit.register(lambda: record.write_text(json.dumps(calls)))
    cli.main()
