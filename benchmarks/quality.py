"""How good are the models? One study per data set, scored on rows it never had, beside simple models.

    python benchmarks/quality.py --data FOLDER [--time 60s] [--workers 2] [--seed 0] [NAME ...]

FOLDER holds one folder a data set, with `train.parquet`, `test.parquet` and `meta.json` (`target`, `task`, `metric`).
Each study is `automl run --data train.parquet --target TARGET --time TIME`, everything else inferred, in an empty
folder; the simple models are the study's own references. What they were fitted on is the same table: the study holds a
fifth of it back as its own test part, the references are refitted here on all of it, which favours them.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
import pandas as pd

from automl import metrics, references
from automl.data.dataset import conform, make_dataset
from automl.values import Task

RESULTS = Path(__file__).parent / "results"
TABLES = ("caravan", "diamonds", "loan_grades")


def main() -> None:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=TABLES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--time", default="60s")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = [measure(options.data / name, options) for name in options.names or TABLES]
    write(rows, options)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the scores of one data set on its test file."""
    meta = json.loads((folder / "meta.json").read_text())
    target, metric_name = meta["target"], meta["metric"]
    with tempfile.TemporaryDirectory() as scratch:
        began = time.monotonic()
        command = [
            sys.executable, "-m", "automl", "run", "--data", str(folder / "train.parquet"), "--target", target,
            "--metric", metric_name, "--time", options.time, "--workers", str(options.workers),
            "--seed", str(options.seed), "--name", "quality", "--json", "--quiet",
        ]  # fmt: skip
        document = json.loads(subprocess.run(command, cwd=scratch, check=True, stdout=subprocess.PIPE).stdout)
        seconds = time.monotonic() - began
        out = Path(scratch) / "predictions.parquet"
        predict = [sys.executable, "-m", "automl", "predict", "quality", str(folder / "test.parquet"), "-o", str(out)]
        subprocess.run(predict, cwd=scratch, check=True)
        predictions = pd.read_parquet(out)
    train, test = (pd.read_parquet(folder / f"{part}.parquet") for part in ("train", "test"))
    dataset = make_dataset(train, target=target, task=meta["task"], name=folder.name, source="", positive=None)
    classes = dataset.schema.target.classes
    metric = metrics.metric(metric_name, dataset.schema.target.task)
    if dataset.schema.target.task is Task.REGRESSION:
        y_true, made = test[target].to_numpy(float), predictions["prediction"].to_numpy()
    else:
        y_true = test[target].map({name: position for position, name in enumerate(classes)}).to_numpy()
        made = predictions[[f"proba_{name}" for name in classes]].to_numpy()
    simple = {}
    for name in ("linear", "boosting"):
        model = references.fit(name, dataset.schema, dataset.features, dataset.target, options.seed)
        frame, _ = conform(test, dataset.schema)
        simple[name] = metrics.score(metric, y_true, references.predict(model, dataset.schema, frame))
    row = {
        "data": folder.name,
        "metric": metric_name,
        "direction": metric.direction.value,
        "automl": metrics.score(metric, y_true, made),
        **simple,
        "validation": document["validation"],
        "trials": document["trials"],
        "members": len(document["ensemble"]),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(row), flush=True)
    return row


def write(rows: list[dict[str, Any]], options: argparse.Namespace) -> None:
    """Writes the table with machine and versions."""
    measured_on = machine.describe()
    RESULTS.mkdir(exist_ok=True)
    settings = {"time": options.time, "workers": options.workers, "seed": options.seed}
    document = {"settings": settings, "machine": measured_on, "rows": rows}
    (RESULTS / "quality.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [
        f"`--time {options.time} --workers {options.workers} --seed {options.seed}` on {measured_on['cores']} cores.",
        "",
        "| data | metric | automl | linear | boosting | trials complete / pruned / failed | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        counts = " / ".join(str(row["trials"][state]) for state in ("complete", "pruned", "failed"))
        scores = " | ".join(f"{row[name]:.4g}" for name in ("automl", "linear", "boosting"))
        lines.append(f"| {row['data']} | {row['metric']} | {scores} | {counts} | {row['seconds']} |")
    (RESULTS / "quality.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
