"""What of the benchmarks holds on a busy machine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def _module(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _run(name: str, *arguments: str) -> str:
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Work:
    def outer(self) -> str:
        time.sleep(0.02)
        return self.inner()

    def inner(self) -> str:
        time.sleep(0.01)
        return "done"

    def __iter__(self) -> object:
        for item in range(3):
            self.inner()
            yield item


def test_timers_count_no_second_twice() -> None:
    timers = _module("timers").Timers()
    kind = type("Work", (Work,), dict(vars(Work)))
    timers.wrap(kind, "outer", "outer")
    timers.wrap(kind, "inner", lambda: "inner")
    assert kind().outer() == "done"
    assert set(timers.seconds) == {"outer"}
    assert timers.seconds["outer"] >= 0.03
    assert kind().inner() == "done"
    assert timers.seconds["inner"] >= 0.01


def test_timers_leave_out_what_is_done_between_two_items() -> None:
    timers = _module("timers").Timers()
    kind = type("Work", (Work,), dict(vars(Work)))
    timers.wrap_iteration(kind, "items")
    began, between = time.monotonic(), 0.0
    for _ in kind():
        paused = time.monotonic()
        time.sleep(0.05)
        between += time.monotonic() - paused
    whole = time.monotonic() - began
    assert 0.03 <= timers.seconds["items"] <= whole - between


@pytest.mark.slow
def test_a_logged_trial_is_many_times_faster_than_the_stack_of_the_tutorials() -> None:
    assert "| met |" in _run("speed", "--short")


@pytest.mark.slow
def test_the_profile_explains_a_trial() -> None:
    lines = _run("trial_profile", "--short").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = [row[0] for row in rows]
    parts = {row[0]: float(row[1]) for row in rows[2 : names.index("the whole")]}
    whole = float(rows[names.index("the whole")][1])
    assert sum(parts.values()) == pytest.approx(whole, abs=1)
    assert min(parts.values()) >= 0
    assert sum(value for name, value in parts.items() if name.startswith("training")) > 0.3 * whole
    assert next(value for name, value in parts.items() if name.startswith("not explained")) < 0.2 * whole
