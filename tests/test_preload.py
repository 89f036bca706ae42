"""What the fork server has loaded, and in what state its processes begin."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TRIAL = """
import gc, pickle, sys
from automl import preload
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
loaded = set(sys.modules)
from automl.trial import run_trial
run_trial(pickle.load(open(sys.argv[1], "rb")), lambda epoch: False)
print(sorted(name for name in set(sys.modules) - loaded if name.startswith(tuple(sys.argv[2:]))))
"""
TAKE_TIME = ("automl", "pandas", "pyarrow.pandas", "safetensors", "scipy", "sklearn", "skops", "torch._dynamo")


@pytest.mark.slow
def test_a_trial_finds_everything_loaded(study: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "task").write_bytes(pickle.dumps(study().trial()))
    command = [sys.executable, "-c", TRIAL, str(tmp_path / "task"), *TAKE_TIME]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["True True", "[]"]
