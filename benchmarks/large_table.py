"""A table of a million rows: how long a prediction and a training take, and how much memory, beside the bare work.

    python benchmarks/large_table.py [--rows 1000000] [--only predict|train]

Training: one epoch of one trial against the loop of `fixed_work.py` on the same table, network and batch size.
Prediction: `automl predict` on a parquet file against reading that file whole, the model's own preprocessing and
network, and writing the same columns, all in one process. Prints one JSON document. The table is a million rows of 30
numbers, float64 as tables mostly are.

Memory is the highest anonymous memory of the process that does the work (resident, less the pages of files, which the
system takes back when it needs them), less that right after its imports; `rss_mb` counts the pages of files as well.
Both are sampled from outside, every 10 ms. Seconds are those of the work after the imports; `command_seconds` are
those of the whole command.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fixed_work
import numpy as np
import pandas as pd
import psutil

SAMPLE_S = 0.01
#: Predictions of each kind, in turn; the fastest counts.
REPEATS = 3
SPACE = """
version: 1
network: [{name: mlp, params: {depth: 2, width: 128, dropout: 0.0, normalisation: none}}]
optimizer: [{name: adamw, params: {lr: {type: float, low: 5.0e-4, high: 2.0e-3, log: true}}}]
batch_size: 256
"""
STUDY = {
    "name": "large",
    "data": {"source": "parquet", "params": {"path": "table.parquet"}, "target": "target"},
    "search_space": "space.yaml",
    "objective": "roc_auc",
    "validation": {"strategy": "holdout", "size": 0.2, "test_size": 0},
    "pruner": {"name": "none"},
    "budget": {"trials": 1},
    "trainer": {"max_epochs": 1, "patience": 1, "accelerator": "cpu"},
    "references": False,
    "deliver": "single",
}


def make_table(folder: Path, n_rows: int) -> None:
    """Writes the table and the search space."""
    frame = fixed_work.table(round(n_rows / (1 + fixed_work.VALIDATION)))
    features = frame.drop(columns="target").astype(np.float64)
    features.assign(target=frame["target"]).to_parquet(folder / "table.parquet")
    (folder / "space.yaml").write_text(SPACE)


def train(folder: Path) -> dict[str, float]:
    """Returns how one trial of one epoch does; its model stays in `folder / "out"`."""
    if not (folder / "study").is_dir():
        _in_child("prepare", folder)  # not measured: it belongs to the study, not to the trial
    trial, memory = _in_child("trial", folder)
    loop, _ = _in_child("bare_train", folder)
    matrix_mb = trial["n_rows"] * fixed_work.N_COLUMNS * 4 / 1e6
    return {
        "rows_per_s": trial["n_train"] / trial["epoch_seconds"],
        "bare_rows_per_s": trial["n_train"] / loop["seconds"],
        "ratio": loop["seconds"] / trial["epoch_seconds"],
        "trial_seconds": trial["seconds"],
        "epoch_seconds": trial["epoch_seconds"],
        **memory,
        "matrix_mb": matrix_mb,
        "memory_ratio": memory["peak_mb"] / matrix_mb,
    }


def predict(folder: Path) -> dict[str, float]:
    """Returns how predicting the table with the model in `folder / "out"` does."""
    runs = [(_in_child("bare_predict", folder), _in_child("predict", folder)) for _ in range(REPEATS)]
    bare_seconds, seconds = (min(run[side][0]["seconds"] for run in runs) for side in (0, 1))
    command = [sys.executable, "-m", "automl", "predict", "out/model", "table.parquet", "-o", "command.parquet"]
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True, env=_environment())
    command_seconds = time.perf_counter() - began
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "bare.parquet"), pd.read_parquet(folder / "ours.parquet"))
    return {
        "seconds": seconds,
        "bare_seconds": bare_seconds,
        "ratio": seconds / bare_seconds,
        "command_seconds": command_seconds,
        **{name: max(run[1][1][name] for run in runs) for name in ("peak_mb", "rss_mb")},
        "bare_peak_mb": max(run[0][1]["peak_mb"] for run in runs),
    }


# --- the work, each in a process of its own ----------------------------------------------------------------------


def _prepare(folder: Path) -> Callable[[], dict[str, Any]]:
    from automl import preparation, study_spec
    from automl.study_folder import StudyFolder

    def work() -> dict[str, Any]:
        preparation.prepare(study_spec.build(STUDY, where="study.yaml"), folder, StudyFolder(folder / "study"))
        return {}

    return work


def _trial(folder: Path) -> Callable[[], dict[str, Any]]:
    from optuna.trial import FixedTrial

    from automl import preload  # noqa: F401  what the process of a trial begins with
    from automl.data import storage
    from automl.study_folder import Prepared, StudyFolder, read_json
    from automl.trial import run_trial
    from automl.values import EpochReport, TrainerSettings, TrialTask

    study = StudyFolder(folder / "study")
    prepared = Prepared.from_json(read_json(study.prepared))
    task = TrialTask(
        configuration=prepared.space.suggest(FixedTrial(prepared.starts[0])),
        data=study.data,
        out=folder / "out",
        objective=prepared.objective,
        settings=TrainerSettings(**STUDY["trainer"]),
        seed=0,
    )
    (fold,) = storage.load_folds(study.data)
    sizes = {"n_train": len(fold.train), "n_rows": len(fold.train) + len(fold.val)}

    def work() -> dict[str, Any]:
        epochs: list[EpochReport] = []
        scored = run_trial(task, lambda epoch: bool(epochs.append(epoch)))
        return {
            "seconds": scored.seconds,
            "epoch_seconds": sum(epoch.metrics["epoch_seconds"] for epoch in epochs),
            **sizes,
        }

    return work


def _bare_train(folder: Path) -> Callable[[], dict[str, Any]]:
    import pyarrow.parquet as pq
    import torch

    torch.set_num_threads(1)
    n_train = round(pq.read_metadata(folder / "table.parquet").num_rows / (1 + fixed_work.VALIDATION))
    fixed_work.N_EPOCHS = 1
    fixed_work.bare(2_000, validate=True)  # what is only slow once
    return lambda: fixed_work.bare(n_train, validate=True)


def _predict(folder: Path) -> Callable[[], dict[str, Any]]:
    from automl import model_source, plugins, prediction  # noqa: F401  what the command loads

    plugins.load()
    return lambda: {
        "rows": prediction.predict_file(folder / "out/model", folder / "table.parquet", folder / "ours.parquet").n_rows
    }


def _bare_predict(folder: Path) -> Callable[[], dict[str, Any]]:
    from automl import plugins
    from automl.losses import forward
    from automl.predictor import Predictor

    plugins.load()

    def work() -> dict[str, Any]:
        predictor = Predictor.load(folder / "out/model")
        (member,) = predictor.members
        target = predictor.schema.target
        frame = pd.read_parquet(folder / "table.parquet")
        inputs = member.preprocessing.transform(frame[list(predictor.schema.names())])
        predictions = forward(member.network, inputs, member.target)
        labels = np.asarray(target.classes)[predictions.argmax(axis=1)]
        probabilities = {f"proba_{name}": predictions[:, i] for i, name in enumerate(target.classes)}
        pd.DataFrame({"prediction": labels, **probabilities}).to_parquet(folder / "bare.parquet", index=False)
        return {}

    return work


_WORK = {
    "prepare": _prepare,
    "trial": _trial,
    "bare_train": _bare_train,
    "predict": _predict,
    "bare_predict": _bare_predict,
}


# --- measuring ---------------------------------------------------------------------------------------------------


def _in_child(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Returns what the work says of itself, and its memory beyond the imports."""
    command = [sys.executable, __file__, "--child", name, "--folder", str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=_environment()
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()  # its imports are done
        process = psutil.Process(child.pid)
        start = peak = np.array(_memory(process))
        child.stdin.write("go\n")
        child.stdin.flush()
        for found in _samples(process, child):
            peak = np.maximum(peak, found)
        told = child.stdout.read()
        if child.wait():
            raise SystemExit(f"`{name}` failed")
        document = json.loads(told)
    anonymous, resident = (peak - start) / 1e6
    return document, {"peak_mb": float(anonymous), "rss_mb": float(resident)}


def _environment() -> dict[str, str]:
    """Returns an environment of one thread, as a trial has it."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _samples(process: psutil.Process, child: subprocess.Popen[str]) -> Iterator[tuple[int, int]]:
    while child.poll() is None:
        try:
            yield _memory(process)
        except psutil.Error:
            return
        time.sleep(SAMPLE_S)


def _memory(process: psutil.Process) -> tuple[int, int]:
    found = process.memory_info()
    return found.rss - found.shared, found.rss


@contextmanager
def _scratch(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> None:
    """Measures both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["predict", "train"])
    parser.add_argument("--folder", type=Path, help="Keeps the table and the model, and uses them again.")
    parser.add_argument("--child", choices=sorted(_WORK), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        work = _WORK[options.child](options.folder)
        print("ready", flush=True)
        sys.stdin.readline()
        began = time.perf_counter()
        document = work()
        print(json.dumps({"seconds": time.perf_counter() - began, **document}))
        return
    with _scratch(options.folder and options.folder.absolute()) as folder:
        if not (folder / "table.parquet").is_file():
            make_table(folder, options.rows)
        measured: dict[str, Any] = {}
        if options.only != "predict" or not (folder / "out").is_dir():
            measured["train"] = train(folder)
        if options.only != "train":
            measured["predict"] = predict(folder)
    print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
