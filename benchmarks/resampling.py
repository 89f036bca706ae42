"""What does resampling do for a rare class? Ways of evening out 1:16, beside doing nothing, on the same rows.

    python benchmarks/resampling.py --data FOLDER [--seeds 3] [--folds 5] [--only WAY ...]

FOLDER holds `caravan/`: train.parquet and meta.json (`target`, `positive`). Each way trains the same network for as
many epochs on the same folds; a quarter of a fold's training rows chooses the epoch and the threshold, and is never
resampled. What is told are scores on the rows of the fold left out, and their differences to doing nothing, with the
interval of Nadeau and Bengio 2003, which allows for folds that share training rows. Nothing depends on the clock.
Prints a table and writes it to `results/` unless it is partial.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from machine import describe as machine
from scipy.stats import t as student
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split

from automl import decision, metrics, plugins
from automl.data.dataset import make_dataset
from automl.predictor import Member, Predictor
from automl.training.fit import fit
from automl.trial import prepare
from automl.values import Choice, Configuration, Dataset, Fold, Step, Task, TrainerSettings

RESULTS = Path(__file__).with_name("results")

N_EPOCHS, BATCH_SIZE = 25, 64

#: Way -> resampling, and loss where that is another.
WAYS = {
    "none": (Choice("none"), Choice("cross_entropy")),
    "class weights": (Choice("none"), Choice("cross_entropy", {"class_weights": "balanced"})),
    "random_over": (Choice("random_over"), Choice("cross_entropy")),
    "random_under": (Choice("random_under"), Choice("cross_entropy")),
    "smotenc": (Choice("smotenc"), Choice("cross_entropy")),
    "borderline_smote": (Choice("borderline_smote"), Choice("cross_entropy")),
    "adasyn": (Choice("adasyn"), Choice("cross_entropy")),
    "gan": (Choice("gan"), Choice("cross_entropy")),
    "cvae": (Choice("cvae"), Choice("cross_entropy")),
}
METRICS = ("roc_auc", "average_precision", "balanced_accuracy")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(WAYS), default=list(WAYS), metavar="WAY")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plugins.load_builtin()
    dataset = read(options.data / "caravan")
    ways = list(dict.fromkeys(["none", *options.only]))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for seed in range(options.seeds):
        folds = StratifiedKFold(options.folds, shuffle=True, random_state=seed).split(dataset.features, dataset.target)
        for number, (rows, left_out) in enumerate(folds):
            for way in ways:
                found[way].append(run(way, dataset, rows, left_out, seed))
            print(f"seed {seed}, fold {number}:", {way: found[way][-1] for way in ways}, flush=True)
    ratio = 1 / (options.folds - 1)  # rows left out, for each row that is not
    table = {way: summary(runs, found["none"], ratio) for way, runs in found.items()}
    lines = report(table, options.seeds, options.folds)
    print("\n".join(lines))
    if (len(ways), options.seeds, options.folds) == (len(WAYS), 3, 5):
        (RESULTS / "resampling.md").write_text("\n".join(lines) + "\n")
        (RESULTS / "resampling.json").write_text(json.dumps({"machine": machine(), "found": table}, indent=1) + "\n")


def read(data: Path) -> Dataset:
    """Returns the training rows of a data set; its test rows are left to others."""
    meta = json.loads((data / "meta.json").read_text())
    frame = pd.read_parquet(data / "train.parquet")
    return make_dataset(
        frame, target=meta["target"], positive=meta["positive"], task=Task.BINARY, name=data.name, source=data.name
    )


def run(
    way: str, dataset: Dataset, rows: np.ndarray[Any, Any], left_out: np.ndarray[Any, Any], seed: int
) -> dict[str, float]:
    """Returns the scores of one training on rows that it did not see, and the seconds that its preprocessing took."""
    resampling, loss = WAYS[way]
    configuration = Configuration(
        preprocessing=(
            Step("encoding", Choice("onehot")),
            Step("scaling", Choice("standard")),
            Step("resampling", resampling),
        ),
        network=Choice("mlp", {"depth": 2, "width": 128, "dropout": 0.3}),
        optimizer=Choice("adamw", {"lr": 1e-3}),
        schedule=Choice("cosine"),
        loss=loss,
        batch_size=BATCH_SIZE,
    )
    train, val = train_test_split(rows, test_size=0.25, stratify=dataset.target[rows], random_state=seed)
    fold = Fold(np.sort(train), np.sort(val))
    since = time.process_time()
    data, preprocessing = prepare(configuration, dataset.schema, dataset.features, dataset.target, fold, seed)
    seconds = time.process_time() - since
    settings = TrainerSettings(max_epochs=N_EPOCHS, patience=N_EPOCHS, accelerator="cpu")
    objective = metrics.metric("roc_auc", Task.BINARY)
    fitted = fit(configuration, data, objective, settings, seed=seed, report=lambda epoch: False)
    labelled = metrics.metric("balanced_accuracy", Task.BINARY)
    weights = decision.choose(labelled, [dataset.target[fold.val]], [fitted.predictions])
    member = Member(preprocessing, fitted.network, configuration.network, data.target)
    predictions = Predictor(dataset.schema, [member]).predictions(dataset.features.iloc[left_out])
    y = dataset.target[left_out]
    return {
        "roc_auc": float(roc_auc_score(y, predictions[:, 1])),
        "average_precision": float(average_precision_score(y, predictions[:, 1])),
        "balanced_accuracy": float(balanced_accuracy_score(y, metrics.labels(predictions, weights))),
        "seconds": seconds,
    }


def summary(
    runs: list[dict[str, float]], nothing: list[dict[str, float]], ratio: float
) -> dict[str, dict[str, float] | float]:
    """Returns the mean of each metric, and of its difference to doing nothing, with half of its 95 % interval."""
    told: dict[str, dict[str, float] | float] = {"seconds": round(float(np.mean([run["seconds"] for run in runs])), 2)}
    for name in METRICS:
        differences = np.array([run[name] - other[name] for run, other in zip(runs, nothing, strict=True)])
        error = np.sqrt((1 / len(runs) + ratio) * differences.var(ddof=1)) if len(runs) > 1 else np.nan
        half = student.ppf(0.975, max(1, len(runs) - 1)) * error
        told[name] = {
            "mean": round(float(np.mean([run[name] for run in runs])), 4),
            "difference": round(float(differences.mean()), 4),
            "half": round(float(half), 4),
        }
    return told


def report(table: dict[str, Any], n_seeds: int, n_folds: int) -> list[str]:
    """Returns the table."""
    lines = [
        f"caravan, 1:16: the same network and epochs, {n_folds} folds, {n_seeds} seeds; means, and paired differences "
        "to `none` with their 95 % intervals, bold where these do not hold 0. Processor seconds of all preprocessing.",
        "",
        "| way | ROC AUC | | average precision | | balanced accuracy | | seconds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, told in table.items():
        cells = []
        for name in METRICS:
            of = told[name]
            shown = "" if way == "none" else f"{of['difference']:+.4f} ± {of['half']:.4f}"
            bold = "**" if way != "none" and abs(of["difference"]) > of["half"] else ""
            cells += [f"{of['mean']:.4f}", f"{bold}{shown}{bold}"]
        lines.append(f"| {way} | {' | '.join(cells)} | {told['seconds']:.1f} |")
    return lines


if __name__ == "__main__":
    main()
