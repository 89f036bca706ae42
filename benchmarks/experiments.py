"""What do the experiments come to at their real budgets? Each file of `experiments/`, run as it stands.

    python benchmarks/experiments.py [--only NAME ...]

Prints a table as it goes, half an hour for all of them on two cores, and exits with 1 when one fails. What
a part of them comes to takes its place among the results that are there, each with its day.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import yaml
from machine import describe as machine

RESULTS = Path(__file__).with_name("results")
EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def main() -> None:
    """Runs what the command line asks for."""
    names = sorted(path.stem for path in EXPERIMENTS.glob("*.yaml"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    options = parser.parse_args()
    kept = RESULTS / "experiments.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    print("\n".join(heading()))
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="experiment-") as folder:
            found[name] = {**run(name, Path(folder)), "day": date.today().isoformat(), "machine": machine()}
        print(line(name, found[name]), flush=True)
        kept.write_text(json.dumps({each: found[each] for each in names if each in found}, indent=1) + "\n")
    lines = [*heading(), *(line(name, found[name]) for name in names if name in found)]
    (RESULTS / "experiments.md").write_text("\n".join(lines) + "\n")
    sys.exit(any("failed" in found[name] for name in options.only))


def run(name: str, folder: Path) -> dict[str, Any]:
    """Returns what an experiment comes to, run in a copy of the folder of experiments."""
    shutil.copytree(EXPERIMENTS, folder / "experiments", ignore=shutil.ignore_patterns("__pycache__"))
    study = f"experiments/{name}.yaml"
    needed = yaml.safe_load((folder / study).read_text()).get("plugins", [])
    plugins = [word for plugin in needed for word in ("--plugin", plugin)]
    command = [sys.executable, "-m", "automl", "run", study, "--workers", "2", "--json", "--quiet", *plugins]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ended.returncode:
        return {"failed": ended.stderr.strip().splitlines()[-1:]}
    document = json.loads(ended.stdout)
    return {
        "metric": document["metric"],
        "validation": document["validation"],
        "test": document["test"],
        "references": {reference["name"]: reference["test"] for reference in document["references"]},
        "members": document["ensemble"],
        "trials": document["trials"],
        "seconds": document["seconds"]["total"],
    }


def heading() -> list[str]:
    """Returns what stands above the lines."""
    return [
        "Test rows of each study, which no trial saw; budgets as in `experiments/`, 2 cores.",
        "",
        "| experiment | metric | shipped | best reference model | trials: complete, pruned, failed | seconds | day |",
        "|---|---|---|---|---|---|---|",
    ]


def line(name: str, made: dict[str, Any]) -> str:
    """Returns a line of the table."""
    if "failed" in made:
        return f"| {name} | failed: {' '.join(made['failed'])} | | | | | {made['day']} |"
    metric, trials = made["metric"], made["trials"]
    scores = {each: score for each, score in made["references"].items() if score is not None}
    best = "-"
    if scores:
        sign = 1 if metric["direction"] == "minimize" else -1
        first = min(scores, key=lambda each: sign * scores[each])
        best = f"{scores[first]:.4g} ({first})"
    counts = ", ".join(str(trials[state]) for state in ("complete", "pruned", "failed"))
    when = f"{made['seconds']:.0f} | {made['day']}"
    return f"| {name} | {metric['name']} | {made['test']:.4g} | {best} | {counts} | {when} |"


if __name__ == "__main__":
    main()
