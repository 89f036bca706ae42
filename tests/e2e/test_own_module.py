"""A LightningModule of one's own through a whole study: killed and gone on with, promoted, beside a network of ours."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

CLASSES = (
    (Path(__file__).parents[1] / "lightning_modules.py").read_text(encoding="utf-8").partition("@contextmanager")[0]
)
SLOW = """
import time

class Slow(Classifier):
    def on_train_epoch_start(self):
        time.sleep(0.8)  # a training is kept every five seconds
"""
PLUG_IN = """
from automl.components import register
from people import Classifier, Gan, Numbers, Slow

for network in (Classifier, Gan, Slow):
    register("network")(network)
register("source")(Numbers)
"""


@pytest.fixture
def lab(place: Any) -> Any:
    """A folder with modules, a plug-in, and a study `own` of one slow trial."""
    (place.path / "people.py").write_text(CLASSES + SLOW)
    (place.path / "my_lab.py").write_text(PLUG_IN)
    write(place, "own", network=["Slow"])
    return place


def write(place: Any, name: str, *, network: list[Any], space: dict[str, Any] | None = None, **changes: Any) -> None:
    study = {
        "name": name,
        "plugins": ["my_lab"],
        "data": {"source": "Numbers"},
        "search_space": f"{name}_space.yaml",
        "objective": "val_loss",
        "direction": "minimize",
        "budget": {"trials": 1},
        "trainer": {"max_epochs": 12, "accelerator": "cpu"},
        "references": False,
        **changes,
    }
    study = {key: value for key, value in study.items() if value is not None}
    (place.path / f"{name}.yaml").write_text(yaml.safe_dump(study))
    (place.path / f"{name}_space.yaml").write_text(yaml.safe_dump({"version": 1, "network": network, **(space or {})}))


def result(place: Any, name: str) -> Any:
    return json.loads((place.path / ".automl" / "studies" / name / "result.json").read_text())


def test_killed_it_goes_on_to_the_same_numbers(lab: Any, wait_for: Any) -> None:
    command = ("run", "own.yaml", "--plugin", "my_lab", "--workers", 1, "--quiet")
    lab.automl(*command)
    expected = lab.trials("own")[0]
    shutil.rmtree(lab.path / ".automl")
    running = lab.start(*command)
    kept = lab.path / ".automl" / "studies" / "own" / "trials" / "00000" / "checkpoints" / "0.pt"
    wait_for(kept.is_file, "a training is kept")
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    lab.automl(*command)
    (trial,) = lab.trials("own")
    assert trial.intermediate_values == expected.intermediate_values
    assert (trial.number, trial.value) == (0, expected.value)


def test_a_bad_one_is_told_and_nothing_is_lost(lab: Any) -> None:
    source = (lab.path / "people.py").read_text()
    broken = source.replace("        x, y = batch\n        loss", "        raise KeyError('labels')\n        loss", 1)
    assert broken != source
    (lab.path / "people.py").write_text(broken)
    ended = lab.automl("run", "own.yaml", "--plugin", "my_lab", code=2)
    assert "people.py:" in ended.err
    assert "`training_step` raises KeyError: 'labels'" in ended.err
    (lab.path / "people.py").write_text(source)
    lab.automl("run", "own.yaml", "--plugin", "my_lab", "--quiet")


def test_beside_a_network_of_ours_on_a_table(lab: Any) -> None:
    lab.write_table()
    network = [
        {"name": "Classifier", "params": {"n_inputs": {"type": "data", "value": "n_inputs"}, "stops": False}},
        {"name": "mlp", "params": {"depth": 1, "width": 16}},
    ]
    space = {
        "preprocessing": [
            {"stage": "encoding", "options": ["onehot"]},
            {"stage": "scaling", "options": ["standard"]},
        ],
        "optimizer": [{"name": "adamw", "params": {"lr": {"type": "float", "low": 1e-3, "high": 1e-1}}}],
        "batch_size": 64,
        "start": [{"network": "mlp"}],
    }
    data = {"source": "csv", "params": {"path": "table.csv"}, "target": "target"}
    few = {"trials": 2}
    write(lab, "both", network=network, space=space, data=data, objective="roc_auc", direction=None, budget=few)
    lab.automl("run", "both.yaml", "--plugin", "my_lab", "--workers", 2, "--quiet")
    document = result(lab, "both")
    assert {trial["network"] for trial in document["leaderboard"] if trial["state"] == "complete"} == {
        "Classifier",
        "mlp",
    }
    assert document["test"] > 0.6
    lab.automl("predict", "both", "table.csv", "-o", "said.csv", "--plugin", "my_lab")
    ended = lab.automl("predict", "both", "table.csv", "-o", "said.csv", code=2)
    assert "`Classifier` is registered by no plug-in that is loaded" in ended.err


def test_promoted_only_where_its_class_is_found(lab: Any) -> None:
    write(lab, "gan", network=[{"name": "Gan", "params": {"n_inputs": 2}}], objective="distance")
    lab.automl("run", "gan.yaml", "--plugin", "my_lab", "--quiet")
    lab.automl("sync")  # a busy machine may not have sent all in time
    ended = lab.automl("promote", "gan", "--model", "gan", "--plugin", "my_lab", code=5)
    assert "it gives no outputs for rows to be served" in ended.err  # its `forward` takes noise
    lab.automl("verify", "gan", "--plugin", "my_lab")
    write(lab, "own", network=["Classifier"])
    lab.automl("run", "own.yaml", "--plugin", "my_lab", "--quiet")
    lab.automl("sync")
    ended = lab.automl("promote", "own", "--model", "own", "--plugin", "my_lab", code=5)
    assert "a plug-in must be an installed package to be loaded elsewhere" in ended.err
