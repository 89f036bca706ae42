"""Learns the start points of the shipped search spaces: which configurations do well on other people's tables.

    python benchmarks/portfolio.py KIND --runs FOLDER            tries points on data sets, as far as not done before
    python benchmarks/portfolio.py KIND --runs FOLDER --report   writes the portfolio from what was tried

KIND is `classification` or `regression`, and the space `search_spaces/tabular_KIND.yaml`. What is tried: points by hand
(`portfolio_points.yaml`), points near to these, and points drawn from all of the space. Each is a real trial, with the
folds that a study of the table would have and the time that a trial has in a study of a minute or two, on one core;
what counts is the mean of its scores on validation rows and on rows that no trial has. None of the data sets is one
that quality is measured on. After a first part of the sets the weaker points drop out.

Written is `search_spaces/portfolios/tabular_KIND.json`: the points that are worth having, how each did on which kind of
table and what an epoch took. A study orders them for its own table (`automl.portfolio`). How much that is worth on a
table that was not learned from is shown by leaving each one out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# First, since it loads torch before scikit-learn.
from automl import preload  # noqa: F401  # isort: skip
import numpy as np
import optuna
import pandas as pd
import quality_scores
import torch
import yaml
from portfolio_data import CLASSIFICATION, REGRESSION
from quality_data import DataSet

from automl import metrics, plugins, preparation, search_space
from automl.components import CATALOGUES
from automl.data.dataset import conform
from automl.errors import AutomlError
from automl.portfolio import Portfolio, Traits, greedy
from automl.predictor import Predictor
from automl.search_space import SearchSpace
from automl.study import load_spec
from automl.study_folder import Prepared, StudyFolder, read_json
from automl.study_spec import build
from automl.trial import run_trial
from automl.values import Scalar, TrialTask

RESULTS = Path(__file__).parent / "results"
WRITTEN = Path(__file__).with_name("portfolio_points.yaml")
SETS = {"classification": CLASSIFICATION, "regression": REGRESSION}
#: Seconds that a trial has, about what the later ones have in a study of two minutes.
SECONDS = 12.0
#: Points near to a hand-written one, and points from anywhere.
N_NEAR, N_FAR = 22, 10
#: Share of a point's parameters that differ from the hand-written one it is near to.
DIFFERENT = 0.25
#: Points of a portfolio, and numbers of first trials after which orders are compared.
N_POINTS, MARKS = 12, (1, 2, 4, 8)
#: Every so many-th data set is for all points; of them so many go on to the others.
FIRST_SETS, N_KEPT = 3, 24

Point = dict[str, Scalar]
Run = dict[str, Any]


def main() -> None:
    """Tries what was not tried, or writes what was learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=SETS)
    parser.add_argument("--runs", type=Path, required=True, metavar="FOLDER", help="one file a data set")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="that a trial has")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="try nothing, write the portfolio")
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plugins.load_builtin()
    space = search_space.load(search_space.bundled() / f"tabular_{options.kind}.yaml")
    points = candidates(space, yaml.safe_load(WRITTEN.read_text())[options.kind])
    if options.report:
        documents = [_read(options.runs, data) for data in SETS[options.kind]]
        portfolio, lines = learn(space, points, documents)
        folder = search_space.bundled() / "portfolios"
        folder.mkdir(exist_ok=True)
        (folder / f"tabular_{options.kind}.json").write_text(_dumped(portfolio))
        (RESULTS / f"portfolio_{options.kind}.md").write_text("\n".join(lines) + "\n")
        print("\n".join(lines))
        return
    first, rest = SETS[options.kind][::FIRST_SETS], [s for n, s in enumerate(SETS[options.kind]) if n % FIRST_SETS]
    options.runs.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers, get_context("forkserver"), initializer=_one_thread) as pool:
        for data in first:
            try_points(data, points, options.runs, options.seconds, pool)
        kept = best(points, [_read(options.runs, data) for data in first])[:N_KEPT]
        for data in rest:
            try_points(data, kept, options.runs, options.seconds, pool)


def candidates(space: SearchSpace, written: Sequence[Point]) -> list[Point]:
    """Returns points of a space, each with all of its parameters: by hand, near to those, and from anywhere.

    Args:
        written: By hand, as changes to the defaults.
    """
    space = space.model_copy(update={"loss": space.loss or [search_space.Option(name="mse")]})
    by_hand = space.model_copy(update={"start": written}).starts(CATALOGUES)[1:]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))

    def draw() -> Point:
        trial = study.ask()
        space.suggest(trial)
        return dict(trial.params)

    rng = np.random.default_rng(0)
    near = [_between(by_hand[number % len(by_hand)], draw(), space, rng) for number in range(N_NEAR)]
    return list({digest(point): point for point in (*by_hand, *near, *(draw() for _ in range(N_FAR)))}.values())


def _between(point: Point, drawn: Point, space: SearchSpace, rng: np.random.Generator) -> Point:
    """Returns a point with some options and some parameters of another; its network stays."""
    places = {place: options[0].name for place, options in space.places()}
    mixed: Point = {}
    for place, first in places.items():
        own, other = (str(each.get(place, first)) for each in (point, drawn))
        taken = place != "network" and rng.random() < DIFFERENT
        option, source = (other, drawn) if taken else (own, point)
        if place in point:
            mixed[place] = option
        for name in source:
            if name.startswith(f"{place}.{option}."):
                mixed[name] = _either(name, source, drawn, rng)
    numbers = [name for name, _ in space.numbers() if name in point]
    return mixed | {name: _either(name, point, drawn, rng) for name in numbers}


def _either(name: str, point: Point, drawn: Point, rng: np.random.Generator) -> Scalar:
    return drawn[name] if name in drawn and rng.random() < DIFFERENT else point[name]


# --- learning from what was tried --------------------------------------------------------------------------------


def best(points: Sequence[Point], documents: Sequence[Run]) -> list[Point]:
    """Returns points in the order of what each adds on some data sets."""
    losses = np.array([_mean_losses(points, document) for document in documents]).T
    order = greedy(losses, np.full(len(documents), 1 / len(documents)), range(len(points)))
    return [points[number] for number in order]


def learn(space: SearchSpace, points: Sequence[Point], documents: Sequence[Run]) -> tuple[Run, list[str]]:
    """Returns the portfolio, and a page that says what it is worth on tables that it was not learned from."""
    everywhere = [point for point in points if all(_find(point, document) for document in documents)]
    ordered = best(everywhere, documents)[:N_POINTS]
    found = {
        "version": 1,
        "seconds": documents[0]["seconds"],
        "tables": [{name: d[name] for name in ("data", "metric", "n_folds", "traits")} for d in documents],
        "points": [
            {
                "changes": changes(space, point),
                "losses": [_mean_losses([point], document)[0] for document in documents],
                "epoch_s": [_epoch_s(_find(point, document)) for document in documents],
            }
            for point in ordered
        ],
    }
    rounded = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.4g}"))
    return rounded, _page(points, everywhere, documents)


def changes(space: SearchSpace, point: Point) -> Point:
    """Returns what of a point differs from the defaults of its options, and which options are not the first ones."""
    first = {place: options[0].name for place, options in space.places()}
    usual = space.defaults(CATALOGUES, {place: str(point.get(place, name)) for place, name in first.items()})
    return {
        name: value
        for name, value in point.items()
        if (value != first[name] if name in first else value != usual.get(name))
    }


def _page(points: Sequence[Point], everywhere: Sequence[Point], documents: Sequence[Run]) -> list[str]:
    """Returns how far from a table's best point the first trials come, of a portfolio that has not seen the table."""
    by_hand = [point for point in points[: len(points) - N_NEAR - N_FAR] if point in everywhere]
    rows: dict[str, list[list[float]]] = {"by hand": [], "learned": [], "learned, tables alike first": []}
    for number, document in enumerate(documents):
        others = [*documents[:number], *documents[number + 1 :]]
        tables = [Traits(**other["traits"]) for other in others]
        losses = np.array([_mean_losses(everywhere, other) for other in others]).T
        epoch_s = np.array([[_epoch_s(_find(point, other)) for other in others] for point in everywhere])
        alike = Portfolio(tuple(everywhere), tuple(tables), losses, epoch_s).order(Traits(**document["traits"]))
        orders = (by_hand, best(everywhere, others), alike)
        for row, order in zip(rows.values(), orders, strict=True):
            row.append([_reached(order[:n], document) for n in MARKS])
    lines = [
        f"Of {len(points)} points on {len(documents)} tables, {documents[0]['seconds']:g} s a trial on one core. What "
        "the best trial on validation rows comes to on unseen rows; 0: the best of all points, 1: a middling one. Each "
        "table is left out where the order is learned.",
        "",
        "| order | " + " | ".join(f"{n} trial{'s' if n > 1 else ''}" for n in MARKS) + " |",
        "|---|" + "---|" * len(MARKS),
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{value:.3f}" for value in np.mean(row, axis=0)) + " |")
    lines += ["", "| table | rows | best point | score | seconds |", "|---|---|---|---|---|"]
    for document in documents:
        order = sorted(everywhere, key=lambda point: _losses([point], document, "test")[0])
        run = _find(order[0], document)
        network = str(order[0].get("network", "mlp"))
        lines.append(
            f"| {document['data']} | {document['traits']['n_rows']:,} | {network} | {run['test']:.4g} "
            f"| {run['seconds']:.1f} |"
        )
    return lines


def _reached(points: Sequence[Point], document: Run) -> float:
    """Returns the loss on unseen rows of the point that does best on validation rows."""
    validated = _losses(points, document, "validation")
    return _losses(points, document, "test")[int(np.argmin(validated))]


def _mean_losses(points: Sequence[Point], document: Run) -> list[float]:
    """Returns the mean of a point's losses on validation and on unseen rows: more rows, less luck."""
    both = [_losses(points, document, rows) for rows in ("validation", "test")]
    return [statistics.fmean(pair) for pair in zip(*both, strict=True)]


def _losses(points: Sequence[Point], document: Run, rows: str) -> list[float]:
    """Returns for each point 0 if it is the best of a data set, 1 if it is no better than a middling one."""
    sign = quality_scores.sign(document["metric"])
    found = {digest(run["point"]): -sign * run[rows] for run in document["runs"] if _is_scored(run)}
    low, middle = min(found.values()), statistics.median(found.values())
    return [min((found.get(digest(p), math.inf) - low) / max(middle - low, 1e-12), 1.0) for p in points]


def _find(point: Point, document: Run) -> Run:
    """Returns the run of a point on a data set; an empty one if there is none."""
    return next((run for run in document["runs"] if run["point"] == point), {})


def _epoch_s(run: Run) -> float:
    """Returns the seconds of a fold's epoch; of a run that failed, none."""
    return run["seconds"] / run["n_epochs"] if run.get("n_epochs") else 0.0


def _is_scored(run: Run) -> bool:
    return run["test"] is not None and math.isfinite(run["test"])


def _read(runs: Path, data: DataSet) -> Run:
    document: Run = json.loads((runs / f"{data.name}.json").read_text())
    return document


def _dumped(portfolio: Run) -> str:
    """Returns JSON with a line for each table and each point."""
    parts = [f' "version": {portfolio["version"]},\n "seconds": {portfolio["seconds"]}']
    for name in ("tables", "points"):
        items = ",\n".join(f"  {json.dumps(item)}" for item in portfolio[name])
        parts.append(f' "{name}": [\n{items}\n ]')
    return "{\n" + ",\n".join(parts) + "\n}\n"


# --- trying them -------------------------------------------------------------------------------------------------


def try_points(data: DataSet, points: Sequence[Point], runs: Path, seconds: float, pool: ProcessPoolExecutor) -> None:
    """Runs the points that a data set has not seen, and writes its file after each."""
    path = runs / f"{data.name}.json"
    document = json.loads(path.read_text()) if path.is_file() else {"data": data.name, "seconds": seconds, "runs": []}
    known = {digest(run["point"]) for run in document["runs"]}
    waiting = [point for point in points if digest(point) not in known]
    if not waiting:
        return
    with tempfile.TemporaryDirectory(prefix="portfolio-") as scratch:
        document.update(pool.submit(prepare, data, Path(scratch)).result())
        futures = [pool.submit(run, Path(scratch), point, seconds) for point in waiting]
        for future in as_completed(futures):
            document["runs"].append(future.result())
            path.write_text(json.dumps(document, indent=1) + "\n")
    values = [found["test"] for found in document["runs"] if found["test"] is not None]
    print(f"{data.name}: {len(values)} of {len(document['runs'])} points have a score", flush=True)


def prepare(data: DataSet, scratch: Path) -> Run:
    """Returns what is known of a data set, after storing it as a study of it would."""
    plugins.load_builtin()
    table = data.table()
    table.train.to_parquet(scratch / "train.parquet", index=False)
    document = {
        "version": 1,
        "name": "portfolio",
        "data": {"source": "parquet", "params": {"path": "train.parquet"}, "target": table.target},
        "task": table.task,
        "objective": table.metric,
        "validation": {"test_size": 0},
        "trainer": {"accelerator": "cpu"},
    }
    spec = build(document, where=data.name)
    prepared = preparation.prepare(spec, scratch, StudyFolder(scratch / "study"))
    table.test.drop(columns=table.target).to_parquet(scratch / "test.parquet", index=False)
    np.save(scratch / "y_test.npy", table.y_test)
    traits = Traits.of(prepared.schema, prepared.n_train)
    return {"metric": table.metric, "n_folds": prepared.n_folds, "traits": asdict(traits)}


def run(scratch: Path, point: Point, seconds: float) -> Run:
    """Returns how one point does on the data set that was stored, on rows that no trial has."""
    folder = StudyFolder(scratch / "study")
    prepared, spec = Prepared.from_json(read_json(folder.prepared)), load_spec(folder)
    began = time.monotonic()
    found: Run = {"point": point, "validation": None, "test": None, "seconds": None, "n_epochs": None}
    try:
        configuration = prepared.space.suggest(optuna.trial.FixedTrial(point))
        out = folder.path / digest(point)
        task = TrialTask(
            configuration=configuration,
            data=folder.data,
            out=out,
            objective=prepared.objective,
            settings=spec.trainer.settings(prepared.n_train),
            seed=0,
            stop_at=began + seconds,
            cache=folder.cache,
            rows=f"{prepared.data_digest} {prepared.split_digest}",
        )
        scored = run_trial(task, lambda epoch: False)
        found |= {"seconds": time.monotonic() - began, "n_epochs": scored.n_epochs, "validation": scored.value}
        features, _ = conform(pd.read_parquet(scratch / "test.parquet"), prepared.schema)
        predictions = Predictor.load(out / "model").predictions(features)
        metric = metrics.metric(prepared.objective, prepared.schema.target.task)
        found["test"] = float(metrics.score(metric, np.load(scratch / "y_test.npy"), predictions))
    except AutomlError as error:
        found["error"] = str(error)
    return found


def digest(point: Point) -> str:
    """Returns what names a point."""
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:12]


def _one_thread() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    plugins.load_builtin()


if __name__ == "__main__":
    main()
