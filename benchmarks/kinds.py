"""How good is it on images, sequences and texts? Studies with everything inferred, on rows that they never saw.

    python benchmarks/kinds.py --data FOLDER [--seconds 120] [--only SET ...]

FOLDER holds one folder a data set: train.parquet, test.parquet and meta.json (`target`, `positive`, `layout`). Prints a
table, writes it to `results/` unless it is partial, and exits with 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from machine import describe as machine
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score

RESULTS = Path(__file__).with_name("results")


@dataclass(frozen=True)
class Target:
    """What is to be reached on a data set.

    Attributes:
        bounds: Metric -> value that is to be met; of `log_loss` at most, of others at least.
        simple: What a simple model of the kind's best practice reaches, for comparison.
    """

    bounds: dict[str, float]
    simple: str


TARGETS = {
    "optdigits": Target(
        {"log_loss": 0.035, "accuracy": 0.988},
        "a fixed convolutional network 0.035 and 0.989, boosted trees 0.089 and 0.981",
    ),
    "movement_libras": Target({"log_loss": 0.5, "accuracy": 0.85}, "logistic regression 1.05 and 0.70"),
    "movie_snippets": Target({"roc_auc": 0.86}, "TF-IDF with logistic regression 0.848"),
}


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--only", nargs="+", choices=list(TARGETS), default=list(TARGETS), metavar="SET")
    options = parser.parse_args()
    found = {}
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="kinds-") as folder:
            found[name] = run(options.data / name, options.seconds, Path(folder))
        print(name, json.dumps(found[name]), flush=True)
    lines = report(found, options.seconds)
    print("\n".join(lines))
    if len(found) == len(TARGETS) and options.seconds == 120:
        (RESULTS / "kinds.md").write_text("\n".join(lines) + "\n")
        (RESULTS / "kinds.json").write_text(json.dumps({"machine": machine(), "found": found}, indent=1) + "\n")
    sys.exit(any(not met(metric, found[name]["test"][metric], bound) for name, metric, bound in bounds(found)))


def run(data: Path, seconds: int, folder: Path) -> dict[str, Any]:
    """Returns what a study of so many seconds comes to on the test rows, which it is not given."""
    meta = json.loads((data / "meta.json").read_text())
    study = {
        "version": 1,
        "name": data.name,
        "data": {
            "source": "parquet",
            "params": {"path": str((data / "train.parquet").resolve())},
            "target": meta["target"],
            **({"positive": meta["positive"]} if "positive" in meta else {}),
        },
        "blocks": blocks(meta),
        "objective": meta["metric"],
        "validation": {"test_size": 0},
        "budget": {"time": seconds},
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    document = json.loads(automl(folder, "run", "study.yaml", "--workers", "2", "--json", "--quiet"))
    automl(folder, "predict", data.name, str((data / "test.parquet").resolve()), "-o", "predictions.parquet")
    made = pd.read_parquet(folder / "predictions.parquet")
    y = pd.read_parquet(data / "test.parquet")[meta["target"]].astype(str)
    names = [name.removeprefix("proba_") for name in made if name.startswith("proba_")]
    probabilities = made[[f"proba_{name}" for name in names]].to_numpy()
    test = {
        "log_loss": log_loss(y, probabilities[:, pd.Series(names).argsort()], labels=sorted(names)),
        "accuracy": accuracy_score(y, made["prediction"].astype(str)),
    }
    if "positive" in meta:
        test["roc_auc"] = roc_auc_score(y == meta["positive"], made[f"proba_{meta['positive']}"])
    return {
        "test": {metric: round(float(value), 4) for metric, value in test.items()},
        "validation": document["validation"],
        "trials": document["trials"],
        "seconds": document["seconds"]["total"],
        "members": document["ensemble"],
        "networks": [[trial["network"], trial["validation"]] for trial in document["leaderboard"][:8]],
        "references": {reference["name"]: reference["value"] for reference in document["references"]},
    }


def blocks(meta: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns which columns belong together, as a study says it."""
    layout = meta.get("layout")
    if not layout:
        return []
    if meta["modality"] == "image":
        shape = [layout["channels"], layout["height"], layout["width"]]
        return [{"kind": "image", "columns": "p*", "shape": shape}]
    return [{"kind": "sequence", "columns": "c*_t*", "shape": [layout["channels"], layout["length"]]}]


def automl(folder: Path, *arguments: str) -> str:
    """Returns what a command prints."""
    command = [sys.executable, "-m", "automl", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


def bounds(found: dict[str, Any]) -> list[tuple[str, str, float]]:
    """Returns (data set, metric, bound) of each target."""
    return [(name, metric, bound) for name in found for metric, bound in TARGETS[name].bounds.items()]


def met(metric: str, value: float, bound: float) -> bool:
    """Returns whether a target is reached."""
    return value <= bound if metric == "log_loss" else value >= bound


def report(found: dict[str, Any], seconds: int) -> list[str]:
    """Returns the table."""
    lines = [
        f"Test rows that no study saw; {seconds} seconds, 2 cores; only which columns belong together is said.",
        "",
        "| data | metric | target | found | | trials | seconds | a simple model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, metric, bound in bounds(found):
        made, sign = found[name], "<=" if metric == "log_loss" else ">="
        value = made["test"][metric]
        lines.append(
            f"| {name} | {metric} | {sign} {bound} | {value} | {'met' if met(metric, value, bound) else 'missed'} "
            f"| {made['trials']['complete']} | {made['seconds']:.0f} | {TARGETS[name].simple} |"
        )
    return lines


if __name__ == "__main__":
    main()
