"""The tutorial about a LightningModule of one's own, block by block as it stands; and what is told of wrong ones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from tests.command_line import Workplace

PAGE = Path(__file__).parents[1] / "docs" / "own_module.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_tutorial(place: Workplace) -> None:
    for kind, block in BLOCKS:
        if kind == "console":
            for line in block.splitlines():
                program, *arguments = shlex.split(line.removeprefix("$ "))
                {"automl": place.automl, "python": place.python}[program](*arguments)
        else:
            name = block.partition("\n")[0].removeprefix("# ")
            (place.path / name).write_text(block, encoding="utf-8")
    digits, table, gan, together = (
        json.loads((place.path / ".automl" / "studies" / name / "result.json").read_text())
        for name in ("digits", "digits_table", "gan", "digits_together")
    )
    assert digits["metric"] == {"name": "val_acc", "direction": "maximize"}
    assert digits["validation"] > 0.5
    assert digits["test"] == digits["test_metrics"]["test_acc"] > 0.5
    assert [trial["state"] for trial in digits["leaderboard"]].count("failed") == 0
    said = pd.read_csv(place.path / "said.csv")
    assert said.shape == (10, 10)
    assert (said.to_numpy().argmax(axis=1) == range(10)).mean() > 0.5
    assert table["test"] < 2.0  # of ten classes, guessed: 2.3
    assert {"network.LitGan.critic", "network.LitGan.smooth"} <= set(gan["best"]["configuration"])
    assert together["validation"] > 0.3
    assert [trial["state"] for trial in together["leaderboard"]].count("failed") == 0
    runs = {run.data.tags["mlflow.runName"]: run for run in place.runs() if run.data.params["network"] == "LitDigits"}
    assert {"train_loss", "val_loss", "val_acc", "best_val_acc"} <= set(runs["trial 0"].data.metrics)


def test_the_tutorial_names_files_and_commands_alone() -> None:
    assert len(BLOCKS) > 8
    for kind, block in BLOCKS:
        first = block.partition("\n")[0]
        assert re.fullmatch(r"# \w+\.(py|yaml)", first) if kind != "console" else first.startswith("$ ")
