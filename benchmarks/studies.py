"""Studies on the fixed work, run by the command line as a person runs it, and what their records say of their speed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fixed_work
import optuna

SPACE = f"""
version: 1
network: [{{name: mlp, params: {{depth: 2, width: {fixed_work.WIDTH}, dropout: 0.0, normalisation: none}}}}]
optimizer: [{{name: adamw, params: {{lr: {{type: float, low: 0.0005, high: 0.002, log: true}}}}}}]
batch_size: {fixed_work.BATCH_SIZE}
"""

STUDY = """
version: 1
name: fixed_work
data: {{source: parquet, params: {{path: table.parquet}}, target: target}}
search_space: space.yaml
objective: roc_auc
validation: {{strategy: holdout, size: 0.2, test_size: 0}}
pruner: {{name: none}}
budget: {{trials: {n_trials}}}
trainer: {{max_epochs: {n_epochs}, patience: {n_epochs}, accelerator: {accelerator}}}
references: false
deliver: single
"""


@dataclass(frozen=True, slots=True)
class Record:
    """What a study left behind.

    Attributes:
        ended: Seconds since the command was typed at which each trial had ended, in order.
        training: Seconds that each trial, in the same order, spent in its epochs.
        first_epoch: Seconds since the command was typed at which the first epoch began.
        seconds: Of the whole command.
        pending: Events that MLflow did not have when the command ended.
        peak_mb: Highest resident memory: of the launcher, and of any process below it.
    """

    ended: list[float]
    training: list[float]
    first_epoch: float
    seconds: float
    pending: int
    peak_mb: dict[str, float]

    def interval(self, first: int, last: int) -> float:
        """Returns the mean seconds from the end of one trial to the end of the next, over trials first to last."""
        return (self.ended[last - 1] - self.ended[first - 2]) / (last - first + 1)

    def platform(self, first: int, last: int) -> float:
        """Returns the mean seconds between two trials' ends that were not training; of one worker."""
        return self.interval(first, last) - sum(self.training[first - 1 : last]) / (last - first + 1)


def run(
    folder: Path,
    n_trials: int,
    *,
    n_train: int = 20_000,
    workers: int = 1,
    n_epochs: int = fixed_work.N_EPOCHS,
    accelerator: str = "cpu",
    program: Sequence[str] = (sys.executable, "-m", "automl"),
    tracking_uri: str | None = None,
) -> Record:
    """Returns the record of a study that is run in an empty folder, by the command line or what stands for it."""
    import psutil

    folder.mkdir()
    fixed_work.table(n_train).to_parquet(folder / "table.parquet")
    (folder / "space.yaml").write_text(SPACE)
    (folder / "study.yaml").write_text(STUDY.format(n_trials=n_trials, n_epochs=n_epochs, accelerator=accelerator))
    command = [*program, "run", "study.yaml", "--workers", str(workers), "--json", "--quiet"]
    command += ["--tracking-uri", tracking_uri] if tracking_uri else []
    began, clock = time.time(), time.monotonic()
    with (folder / "result.json").open("w") as out:  # a pipe that nobody reads would hold up a long leaderboard
        process = subprocess.Popen(command, cwd=folder, stdout=out, env=environment())
    peak = {"launcher": 0.0, "below": 0.0}
    launcher = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            below = [child.memory_info().rss for child in launcher.children(recursive=True)]
            peak["launcher"] = max(peak["launcher"], launcher.memory_info().rss / 1e6)
            peak["below"] = max([peak["below"], *(rss / 1e6 for rss in below)])
        except psutil.Error:
            pass
        time.sleep(0.25)
    seconds = time.monotonic() - clock
    document = json.loads((folder / "result.json").read_text())
    return _record(folder, began, seconds, document["pending_sync"], peak)


def environment() -> dict[str, str]:
    """Returns an environment without what this process was told about MLflow, or about keeping no bytecode."""
    told = ("MLFLOW_", "PYTHONDONTWRITEBYTECODE")
    return {name: value for name, value in os.environ.items() if not name.startswith(told)}


def single_threaded() -> dict[str, str]:
    """Returns the environment of one thread, as a trial has it."""
    return {**environment(), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _record(folder: Path, began: float, seconds: float, pending: int, peak: dict[str, float]) -> Record:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    state = folder / ".automl/studies/fixed_work"
    journal = optuna.storages.journal.JournalFileBackend(str(state / "journal.log"))
    stored = optuna.load_study(study_name="fixed_work", storage=optuna.storages.JournalStorage(journal)).trials
    ended = sorted((t for t in stored if t.datetime_complete), key=lambda t: t.datetime_complete or 0)
    training: dict[str, float] = {}
    first = float("inf")
    for line in (state / "spool/events.jsonl").read_text().splitlines():
        event = json.loads(line)
        points: list[dict[str, Any]] = event.get("metrics", [])
        for point in (point for point in points if point["name"] == "epoch_seconds"):
            training[event["key"]] = training.get(event["key"], 0.0) + point["value"]
            first = min(first, point["timestamp_ms"] / 1000 - point["value"])
    by_number = {int(key.rpartition("/")[2]): value for key, value in training.items()}
    return Record(
        ended=[t.datetime_complete.timestamp() - began for t in ended if t.datetime_complete],
        training=[by_number[t.number] for t in ended],
        first_epoch=first - began,
        seconds=seconds,
        pending=pending,
        peak_mb=peak,
    )
