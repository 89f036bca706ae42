"""How the program is begun."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_what_each_trial_loads_of_the_command_is_next_to_nothing() -> None:
    scripts = tomllib.loads(PROJECT.read_text())["project"]["scripts"]
    module, _, function = scripts["automl"].partition(":")
    # What a process of a trial does with the installed script, whose `__main__` it takes over.
    code = f"import sys; from {module} import {function}; print('automl.cli' in sys.modules, 'typer' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
