"""Which members should an ensemble have? Ways of choosing them on validation rows, scored on rows that no trial had.

    python benchmarks/selection.py --studies FOLDER      studies that FOLDER does not have are run, one after the other

A study of a minute by the command line, with nothing said but task and metric, on a few of the rows of each table that
the portfolio was learned on (none that quality is measured on); of the others, at most 10,000 are kept from it. Its
trials and reference models are what each way then chooses among, for the study's objective and, of classes, for others.
Told is by how many percent what is missing to a perfect score (of an error: the error) gets smaller on the other rows,
against members that the objective chooses. Prints tables and writes them to `results/` unless they are partial.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# First, since it loads torch before scikit-learn.
from automl import preload  # noqa: F401  # isort: skip
import numpy as np
import pandas as pd
import torch
from machine import describe as machine
from portfolio_data import CLASSIFICATION, REGRESSION
from quality_data import METRICS, DataSet, plain
from sklearn.model_selection import train_test_split
from studies import environment

from automl import decision, metrics, plugins
from automl.data import storage
from automl.finalise import ensemble, select
from automl.predictor import Predictor
from automl.study_folder import StudyFolder
from automl.trial import by_fold
from automl.values import Metric, Schema, Target, Task

RESULTS = Path(__file__).with_name("results")
#: Rows of a study -> tasks of the tables that it is made of.
PLAN = {400: tuple(METRICS), 2000: ("binary",), 8000: ("binary",)}
#: Rows that are kept from a study, and of a class in it, at least.
MIN_UNSEEN, MAX_UNSEEN, MIN_OF_CLASS = 800, 10_000, 8
#: What members are chosen for beside the study's own objective, by task.
OTHERS = {
    "binary": ("average_precision", "accuracy", "balanced_accuracy", "f1"),
    "multiclass": ("accuracy", "balanced_accuracy"),
    "regression": (),
}
#: Candidates of which a mean is made.
N_BEST = 5

Weights = dict[int, float]
Folds = Sequence[np.ndarray[Any, Any]]
Way = Callable[[Target, Metric, Folds, Sequence[Folds]], Weights]


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--rows", type=int, nargs="+", choices=PLAN, default=list(PLAN))
    parser.add_argument("--seconds", type=int, default=60, help="of a study")
    options = parser.parse_args()
    folders = []
    for rows in options.rows:
        for data in (*CLASSIFICATION, *REGRESSION):
            if data.task in PLAN[rows]:
                folders += study(data, rows, options.seconds, options.studies / str(rows) / data.name)
    with ProcessPoolExecutor(2, get_context("forkserver"), initializer=_begin) as pool:
        found = [line for lines in pool.map(judge, folders) for line in lines]
    lines = report(found, options.seconds)
    print("\n".join(lines))
    if options.rows == list(PLAN) and options.seconds == 60:
        (RESULTS / "selection.md").write_text("\n".join(lines) + "\n")
        text = json.dumps({"machine": machine(), "found": found}, indent=1)
        (RESULTS / "selection.json").write_text(text + "\n")


def _begin() -> None:
    torch.set_num_threads(1)
    plugins.load_builtin()


def study(data: DataSet, n_rows: int, seconds: int, folder: Path) -> list[Path]:
    """Returns the folder of a study of some rows of a table, which is run if it was not; none where it has too few."""
    assert data.origin is not None
    assert not isinstance(data.origin, Path)
    frame = plain(data.origin.read(), data.target, data.task)
    classes = None if data.task == "regression" else frame[data.target]
    rarest = len(frame) if classes is None else classes.value_counts().min()
    if len(frame) < n_rows + MIN_UNSEEN or rarest * n_rows < MIN_OF_CLASS * len(frame):
        return []
    if (folder / "result.json").is_file():
        return [folder]
    folder.mkdir(parents=True, exist_ok=True)
    n_unseen = min(MAX_UNSEEN, len(frame) - n_rows)
    seen, unseen = train_test_split(frame, train_size=n_rows, test_size=n_unseen, random_state=1, stratify=classes)
    seen.to_parquet(folder / "train.parquet")
    unseen.to_parquet(folder / "test.parquet")
    document = {
        "version": 1,
        "name": "s",
        "data": {"source": "parquet", "params": {"path": "train.parquet"}, "target": data.target},
        "task": data.task,
        "objective": METRICS[data.task],
        "budget": {"time": f"{seconds}s"},
        "validation": {"test_size": 0},
    }
    (folder / "study.yaml").write_text(json.dumps(document))
    command = [sys.executable, "-m", "automl", "run", "study.yaml", "--workers", "2", "--json", "--quiet"]
    with (folder / "running.json").open("w") as out:
        subprocess.run(command, cwd=folder, stdout=out, env=environment(), check=True)
    (folder / "running.json").rename(folder / "result.json")
    print(f"{data.name}: {n_rows} rows, {n_unseen} unseen", flush=True)
    return [folder]


# --- ways of choosing ------------------------------------------------------------------------------------------------


def _by_log_loss(target: Target, metric: Metric, y: Folds, predictions: Sequence[Folds]) -> Weights:
    return select(predictions, y, metrics.metric("log_loss", target))


def _half(target: Target, metric: Metric, y: Folds, predictions: Sequence[Folds]) -> Weights:
    return _mean([_by_log_loss(target, metric, y, predictions), select(predictions, y, metric)])


def _best(n: int) -> Way:
    def way(target: Target, metric: Metric, y: Folds, predictions: Sequence[Folds]) -> Weights:
        return dict.fromkeys(range(min(n, len(predictions))), 1 / min(n, len(predictions)))

    return way


def _mean(found: Sequence[Weights]) -> Weights:
    return {i: sum(each.get(i, 0.0) for each in found) / len(found) for i in set().union(*found)}


WAYS: dict[str, Way] = {
    "the objective": lambda target, metric, y, predictions: select(predictions, y, metric),
    "as shipped": ensemble,
    "log-loss": _by_log_loss,
    "half by log-loss": _half,
    f"mean of the best {N_BEST}": _best(N_BEST),
    "the best alone": _best(1),
}


def judge(folder: Path) -> list[dict[str, Any]]:
    """Returns the score on unseen rows of what each way chooses, one line an objective."""
    plan = json.loads((folder / "study.yaml").read_text())
    made = StudyFolder(folder / ".automl/studies/s")
    y_val, y_test, target, candidates = read(made, folder / "test.parquet", folder / "result.json")
    found = []
    for objective in (plan["objective"], *OTHERS[plan["task"]]):
        metric = metrics.metric(objective, target)
        scores = np.array([decision.score(metric, y_val, validated) for validated, _ in candidates])
        order = np.argsort(scores if metric.better(0, 1) else -scores, kind="stable")
        validated, predicted = zip(*(candidates[i] for i in order), strict=True)
        line = {"data": folder.name, "rows": int(folder.parent.name), "objective": objective, "scores": {}}
        for name, way in WAYS.items():
            if target.task is Task.REGRESSION and "log-loss" in name:
                continue
            weights = way(target, metric, y_val, validated)
            blended = [sum(w * validated[i][fold] for i, w in weights.items()) for fold in range(len(y_val))]
            decided = decision.choose(metric, y_val, blended)
            line["scores"][name] = metrics.score(
                metric, y_test, sum(w * predicted[i] for i, w in weights.items()), decided
            )
        found.append(line)
    print(f"{folder.parent.name} rows of {folder.name}: judged", flush=True)
    return found


def read(
    made: StudyFolder, unseen: Path, result: Path
) -> tuple[Folds, np.ndarray[Any, Any], Target, list[tuple[Folds, np.ndarray[Any, Any]]]]:
    """Returns what a study's validation rows and the unseen rows are, and what each candidate predicted of both."""
    schema: Schema = storage.load_schema(made.data)
    search, folds = storage.open_part(made.data, "search"), storage.load_folds(made.data)
    y_val: Folds = [search.target[fold.val] for fold in folds]
    frame = pd.read_parquet(unseen)
    truth = frame.pop(schema.target.name)
    classes = {name: position for position, name in enumerate(schema.target.classes)}
    y_test: np.ndarray[Any, Any] = truth.map(classes).to_numpy() if classes else truth.to_numpy(np.float64)
    board = json.loads(result.read_text())["leaderboard"]
    complete = [made.trial(row["number"]) for row in board if row["state"] == "complete"]
    candidates: list[tuple[Folds, np.ndarray[Any, Any]]] = []
    for path in (*complete, *sorted(made.references.iterdir())):
        if (path / "model").is_dir():
            predicted = Predictor.load(path / "model").predictions(frame)
            candidates.append((by_fold(np.load(path / "validation.npy"), folds), predicted))
    return y_val, y_test, schema.target, candidates


# --- the tables ------------------------------------------------------------------------------------------------------


def report(found: Sequence[dict[str, Any]], seconds: int) -> list[str]:
    """Returns the page: for each number of rows and each objective, what each way gains."""
    lines = [
        f"Studies of {seconds} s. By how many percent what is missing to a perfect score is smaller on rows that no",
        "trial had than where the objective chooses the members: mean and median over tables, and on how many it is",
        "better and worse.",
    ]
    for objective in dict.fromkeys(line["objective"] for line in found):
        of = [line for line in found if line["objective"] == objective]
        sizes = list(dict.fromkeys(line["rows"] for line in of))
        heads = [f"{rows:,} rows, {sum(line['rows'] == rows for line in of)} tables" for rows in sizes]
        lines += ["", f"## {objective}", "", f"| chosen by | {' | '.join(heads)} |", "|---" * (1 + len(sizes)) + "|"]
        for way in (name for name in WAYS if name in of[0]["scores"]):
            if way == "the objective":
                continue
            cells = [_cell([gain(line, way) for line in of if line["rows"] == rows]) for rows in sizes]
            lines.append(f"| {way} | {' | '.join(cells)} |")
    return lines


def gain(line: dict[str, Any], way: str) -> float:
    """Returns by how many percent what is missing to a perfect score is smaller."""
    metric, scores = metrics.METRICS[line["objective"]], line["scores"]
    perfect = 0.0 if metric.better(0, 1) else metric.high
    usual, other = (abs(perfect - scores[name]) for name in ("the objective", way))
    return float(100 * (usual - other) / max(usual, 1e-9))


def _cell(gains: Sequence[float]) -> str:
    better, worse = (sum(sign * each > 1e-9 for each in gains) for sign in (1, -1))
    return f"{statistics.mean(gains):+.1f}, {statistics.median(gains):+.1f}; {better} and {worse}"


if __name__ == "__main__":
    main()
