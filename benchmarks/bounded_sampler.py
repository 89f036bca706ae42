"""Does a search lose by a sampler that sees a part of a long study? Real studies, gone on with both ways.

    python benchmarks/bounded_sampler.py --data FOLDER [--seeds 3] [--trials 800] [--rows 500] [--epochs 3] [NAME ...]

FOLDER as for `quality.py`. `Bounded` hides nothing until 300 trials have ended, so these are run once for each data set
and seed. From there the study goes on as a resumed one does: with TPE that sees every trial, and with TPE that sees a
part. Random draws, once for each data set, show what the sampler matters.

A trial is a real training through the real pipe on a sample of the rows, half of them for validation, in the space that
`auto` gives, less the one option that takes longer than training; nothing is pruned and no model is written. Results
are written after each study. Studies that are in the file are not run again, so that more seeds can be added later.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

# First, since it loads torch before scikit-learn.
from automl import preload  # noqa: F401  # isort: skip
import machine
import optuna
import pandas as pd
import torch
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from scipy import stats

from automl import metrics, preparation
from automl.data import storage
from automl.errors import AutomlError
from automl.samplers import N_BEST, N_LATEST, sampler
from automl.search_space import Option, SearchSpace
from automl.study_folder import StudyFolder
from automl.study_spec import build
from automl.training.fit import fit
from automl.trial import prepare
from automl.values import Configuration

RESULTS = Path(__file__).parent / "results"
TABLES = ("diamonds", "caravan", "optdigits")
#: Trials that both samplers share.
N_SHARED = N_BEST + N_LATEST
#: Numbers of trials after which the best one so far is noted.
MARKS = (400, 600, 800, 1000, 1500, 2000)
#: Trials at the end of a study over which its proposals are judged.
N_LAST = 100
#: In the order of the table.
WAYS = ("all", "bounded", "random")
#: Left out of the spaces: on so few rows it takes several times as long as a training.
SLOW = "mutual_information"

Row = dict[str, Any]


def main() -> None:
    """Runs what is not in the file yet, and writes file and table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=TABLES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=800)
    parser.add_argument("--rows", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    settings = {name: getattr(options, name) for name in ("trials", "rows", "epochs")}
    rows = _known(settings)
    for seed in range(options.seeds):
        for name in options.names or TABLES:
            known = {row["arm"] for row in rows if (row["data"], row["seed"]) == (name, seed)}
            if not {"all", "bounded"} <= known:
                with tempfile.TemporaryDirectory() as scratch:
                    table = Table(options.data / name, Path(scratch), options.rows, options.epochs)
                    rows += pair(table, seed, options.trials)
                    if seed == 0:
                        drawn = table.study(RandomSampler(seed=seed))
                        rows.append(_row(table, seed, "random", drawn, table.go_on(drawn, options.trials - N_SHARED)))
                write(rows, settings)
    write(rows, settings)


class Table:
    """A sample of a data set, and what its trials share.

    Args:
        folder: Of the data set.
        scratch: Where the prepared rows go.
        n_rows: Rows of the sample.
        n_epochs: Of each trial.
    """

    def __init__(self, folder: Path, scratch: Path, n_rows: int, n_epochs: int) -> None:
        meta = json.loads((folder / "meta.json").read_text())
        path = scratch / "sample.parquet"
        pd.read_parquet(folder / "train.parquet").sample(n=n_rows, random_state=0).to_parquet(path, index=False)
        document = {
            "version": 1,
            "name": folder.name,
            "data": {"source": "parquet", "params": {"path": str(path)}, "target": meta["target"]},
            "task": meta["task"],
            "objective": meta["metric"],
            "validation": {"strategy": "holdout", "size": 0.5, "test_size": 0},
            "trainer": {"max_epochs": n_epochs, "accelerator": "cpu"},
        }
        spec, study = build(document, where=folder.name), StudyFolder(scratch / "study")
        prepared = preparation.prepare(spec, scratch, study)
        self.name = folder.name
        self.space = _without(prepared.space, SLOW)
        self.direction = prepared.direction
        self.starts = prepared.starts
        self._schema = storage.load_schema(study.data)
        self._features, self._target = storage.load_part(study.data, "search")
        (self._fold,) = storage.load_folds(study.data)
        self._metric = metrics.metric(prepared.objective, self._schema.target.task)
        self._settings = spec.trainer.settings(prepared.n_train)

    def study(self, sampler: BaseSampler, trials: list[optuna.trial.FrozenTrial] | None = None) -> optuna.Study:
        """Returns a study in memory that begins with these trials."""
        study = optuna.create_study(sampler=sampler, direction=self.direction.value)
        study.add_trials(trials or [])
        return study

    def go_on(self, study: optuna.Study, n_trials: int) -> list[float]:
        """Runs further trials, and returns the processor seconds that each proposal took."""
        seconds = []
        for _ in range(n_trials):
            began = time.process_time()
            trial = study.ask()
            configuration = self.space.suggest(trial)
            seconds.append(time.process_time() - began)
            try:
                study.tell(trial, self.value(configuration))
            except AutomlError:  # such as a training that diverged
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
        return seconds

    def value(self, configuration: Configuration) -> float:
        """Returns the objective on the validation rows, as `run_trial` comes to it."""
        data, _ = prepare(configuration, self._schema, self._features, self._target, self._fold, seed=0)
        return fit(configuration, data, self._metric, self._settings, seed=0, report=lambda epoch: False).value


def _without(space: SearchSpace, name: str) -> SearchSpace:
    """Returns the space without a preprocessing option."""

    def others(options: list[Option]) -> list[Option]:
        return [option for option in options if option.name != name]

    stages = [stage.model_copy(update={"options": others(stage.options)}) for stage in space.preprocessing]
    return space.model_copy(update={"preprocessing": stages})


def pair(table: Table, seed: int, n_trials: int) -> list[Row]:
    """Returns the rows of what is shared, and of the study that goes on from it in each way."""

    shared = table.study(sampler("tpe", seed))
    for start in table.starts:
        shared.enqueue_trial(dict(start))
    rows = [_row(table, seed, "shared", shared, table.go_on(shared, N_SHARED))]
    further = seed + N_SHARED  # as for a study that is resumed, see `search.open_search`
    ways = {
        "all": TPESampler(multivariate=True, group=True, seed=further),
        "bounded": sampler("tpe", further),
    }
    for arm, proposing in ways.items():
        study = table.study(proposing, shared.get_trials())
        rows.append(_row(table, seed, arm, study, table.go_on(study, n_trials - N_SHARED)))
    return rows


def _row(table: Table, seed: int, arm: str, study: optuna.Study, ask_s: list[float]) -> Row:
    """Returns what is kept of the trials that a way has run itself, the last ones of its study."""
    values = [trial.value for trial in study.get_trials(deepcopy=False)[-len(ask_s) :]]
    best = min if table.direction == "minimize" else max
    ends = {N_SHARED: N_SHARED} if arm == "shared" else {mark: mark - N_SHARED for mark in MARKS}
    row = {
        "data": table.name,
        "seed": seed,
        "arm": arm,
        "direction": table.direction.value,
        "best": {
            str(mark): best(value for value in values[:end] if value is not None)
            for mark, end in ends.items()
            if end <= len(values)
        },
        "median": statistics.median(value for value in values if value is not None),
        "median_last": statistics.median(value for value in values[-N_LAST:] if value is not None),
        "failed": values.count(None),
        "ask_s_last": statistics.mean(ask_s[-N_LAST:]),
    }
    print(json.dumps(row), flush=True)
    return row


def _known(settings: dict[str, int]) -> list[Row]:
    """Returns the rows of the file, if they were measured under the same settings."""
    path = RESULTS / "bounded_sampler.json"
    document = json.loads(path.read_text()) if path.is_file() else {}
    return list(document["rows"]) if document.get("settings") == settings else []


def write(rows: list[Row], settings: dict[str, int]) -> None:
    """Writes the rows and the table, with machine and versions."""
    RESULTS.mkdir(exist_ok=True)
    document = {"settings": settings, "machine": machine.describe(), "rows": rows}
    (RESULTS / "bounded_sampler.json").write_text(json.dumps(document, indent=1) + "\n")
    (RESULTS / "bounded_sampler.md").write_text("\n".join(report(rows, settings)) + "\n")


def report(rows: list[Row], settings: dict[str, int]) -> list[str]:
    """Returns the lines of the table."""
    scores = {
        name: _scores([row for row in rows if row["data"] == name])
        for name in dict.fromkeys(row["data"] for row in rows)
    }
    scores["**all**"] = [pair for pairs in scores.values() for pair in pairs]
    lines = [
        f"Studies of {settings['trials']} trials; {settings['rows']} rows and {settings['epochs']} epochs a trial. "
        "Each data set has a scale: 0 is the median of random draws, 100 the best value of any of its studies. "
        f"Proposals are those after the {N_SHARED} shared trials. Beside the mean difference of a pair stands its 95 % "
        "interval (t distribution), from three pairs on.",
        "",
        "| data | pairs | measure | all seen | bounded | random | bounded - all | better / equal / worse |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, pairs in scores.items():
        for measure in pairs[0]["all"]:
            differences = [pair["bounded"][measure] - pair["all"][measure] for pair in pairs]
            signs = [(difference > 0) - (difference < 0) for difference in differences]
            cells = [
                *(name, str(len(pairs)), measure),
                *(f"{statistics.mean(pair[way][measure] for pair in pairs):.1f}" for way in WAYS),
                *(_difference(differences), " / ".join(str(signs.count(sign)) for sign in (1, 0, -1))),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    asked = [statistics.mean(row["ask_s_last"] for row in rows if row["arm"] == way) for way in ("all", "bounded")]
    return [
        *lines,
        "",
        f"Processor seconds of a proposal, mean of the last {N_LAST}: {asked[0]:.3f} when all trials are seen, "
        f"{asked[1]:.3f} bounded.",
    ]


def _scores(rows: list[Row]) -> list[dict[str, dict[str, float]]]:
    """Returns, for each pair of one data set, way -> measure -> value on the data set's scale."""
    by = {(row["seed"], row["arm"]): row for row in rows}
    drawn = by[0, "random"]
    best = min if drawn["direction"] == "minimize" else max
    zero, hundred = drawn["median"], best(value for row in rows for value in row["best"].values())

    def measured(row: Row, shared: float) -> dict[str, float]:
        values = {
            **{f"best of {mark}": best(shared, value) for mark, value in row["best"].items()},
            "median proposal": row["median"],
            f"median of the last {N_LAST}": row["median_last"],
        }
        return {name: 100 * (value - zero) / (hundred - zero) for name, value in values.items()}

    return [
        {
            way: measured(drawn if way == "random" else by[seed, way], by[seed, "shared"]["best"][str(N_SHARED)])
            for way in WAYS
        }
        for seed in sorted({row["seed"] for row in rows})
    ]


def _difference(differences: list[float]) -> str:
    """Returns the mean with its interval."""
    mean = statistics.mean(differences)
    if len(differences) < 3:
        return f"{mean:+.1f}"
    error = statistics.stdev(differences) / len(differences) ** 0.5
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * error
    return f"{mean:+.1f} ± {half:.1f}"


if __name__ == "__main__":
    main()
