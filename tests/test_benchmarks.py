"""What of the benchmarks holds on a busy machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed.py"


@pytest.mark.slow
def test_a_logged_trial_is_many_times_faster_than_the_stack_of_the_tutorials() -> None:
    done = subprocess.run([sys.executable, str(SPEED), "--short"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| met |" in done.stdout
