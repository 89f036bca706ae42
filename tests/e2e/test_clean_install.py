"""A model loads where nothing but its own requirements is installed, and the wheel holds what it should."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

LOAD = """
import sys, pandas, mlflow.pyfunc, automl
assert automl.__file__.startswith(sys.prefix), automl.__file__
mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.read_csv(sys.argv[2])).to_csv(sys.argv[3], index=False)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    copy = tmp_path_factory.mktemp("source") / "project"
    skipped = {".venv", ".git", "tests", "build", "dist"}
    copy.mkdir()
    for entry in ROOT.iterdir():  # setuptools leaves its build folder beside the sources
        if entry.name not in skipped and not entry.name.startswith(".") and not entry.name.endswith(".egg-info"):
            (copy / entry.name).symlink_to(entry)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode and "Missing dependencies" in built.stdout + built.stderr:
        command.remove("--no-isolation")
        built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = out.glob("*.whl")
    return found


def test_wheel(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    spaces = {path.name for path in (ROOT / "search_spaces").glob("*.yaml")}
    assert {f"automl/search_spaces/{name}" for name in spaces} <= set(names)
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "automl").rglob("*.py")}
    assert modules <= set(names)
    assert "automl/py.typed" in names
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"automl"}
    assert not [name for name in names if "test_" in name or "conftest" in name]


@pytest.mark.timeout(600)
def test_model_loads_with_its_requirements_alone(finished: Any, wheel: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    finished.quick("export", "small", "-o", model)
    requirements = (model / "requirements.txt").read_text().split()
    assert all("==" in line for line in requirements)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--find-links", wheel.parent]
    done = subprocess.run(
        [*install, "-r", model / "requirements.txt"], env=kept, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    out, table = tmp_path / "there.csv", finished.path / "table.csv"
    loaded = subprocess.run(
        [python, "-I", "-c", LOAD, model, table, out],
        cwd=tmp_path, env=variables, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stderr
    finished.quick("predict", "small", "table.csv", "-o", tmp_path / "here.csv")
    pd.testing.assert_frame_equal(pd.read_csv(out), pd.read_csv(tmp_path / "here.csv"), atol=1e-6)
