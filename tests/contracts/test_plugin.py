"""A person's own network is one file with no edit elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from automl.testing import boring_table
from automl.values import Task

NETWORK = '''
import torch
from automl.components import register

@register("network")
def my_linear(inputs, n_outputs, *, scale: float = 1.0):
    """Returns a linear map of the numbers."""
    return Linear(inputs.blocks["numeric"].shape[0], n_outputs, scale)

class Linear(torch.nn.Module):
    def __init__(self, n_inputs, n_outputs, scale):
        super().__init__()
        self.linear = torch.nn.Linear(n_inputs, n_outputs)
        self.scale = scale

    def forward(self, inputs):
        return self.scale * self.linear(inputs["numeric"])
'''

SPACE = {
    "version": 1,
    "network": [{"name": "my_linear", "params": {"scale": {"type": "float", "low": 0.5, "high": 2.0}}}],
    "optimizer": ["adamw"],
    "batch_size": 64,
}

STUDY = {
    "name": "mine",
    "plugins": ["my_network"],
    "data": {"source": "csv", "params": {"path": "table.csv"}, "target": "target"},
    "search_space": "space.yaml",
    "budget": {"trials": 2},
    "trainer": {"max_epochs": 2, "accelerator": "cpu"},
    "references": False,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "my_network.py").write_text(NETWORK)
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY))
    boring_table(Task.BINARY, n_rows=120)[["amount", "visits", "target"]].to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def automl(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "AUTOML_"))}
    environment |= {"PYTHONPATH": str(folder / "lab"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.run(
        [sys.executable, "-m", "automl", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_it_is_listed_and_a_study_may_name_it(folder: Path) -> None:
    listed = automl(folder, "components", "network", "--plugin", "my_network", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = {row["name"]: row for row in json.loads(listed.stdout)["components"]}
    assert rows["my_linear"]["summary"] == "Returns a linear map of the numbers."
    assert rows["my_linear"]["hyperparameters"] == {"scale": {"default": 1.0, "allowed": "float"}}
    checked = automl(folder, "check", "study.yaml", "--plugin", "my_network")
    assert checked.returncode == 0, checked.stderr
    assert "nothing is wrong" in checked.stdout


@pytest.mark.slow
def test_a_study_says_which_flag_is_missing(folder: Path) -> None:
    refused = automl(folder, "check", "study.yaml")
    assert refused.returncode == 2
    assert "add --plugin my_network" in refused.stderr


@pytest.mark.slow
def test_a_study_that_uses_it_runs_and_predicts(folder: Path) -> None:
    run = automl(folder, "run", "study.yaml", "--plugin", "my_network", "--workers", "1", "--json")
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["best"]["configuration"]["network"] == "my_linear"
    predicted = automl(folder, "predict", "mine", "table.csv", "-o", "out.csv", "--plugin", "my_network")
    assert predicted.returncode == 0, predicted.stderr
    assert len((folder / "out.csv").read_text().splitlines()) == 121
