"""One system on one data set: run in processes of its own, on two cores, and scored on rows that it never had.

Results are small documents, `FOLDER/SYSTEM/SET-SECONDS-SEED.json`: scores, seconds and memory. Predictions are kept
beside them in `predictions/`, for tests between two systems; they are not for the repository.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import machine
import numpy as np
import pandas as pd
import quality_scores
import yaml
from numpy.typing import NDArray
from quality_data import Table
from studies import environment

HERE = Path(__file__).parent
#: Seconds after the limit at which a process is ended; what takes longer than that has failed.
PATIENCE = 120.0
#: Seconds between two looks at the memory of the processes.
POLL_S = 0.5

Document = dict[str, Any]
Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Rival:
    """Another system.

    Attributes:
        environment: The virtual environment it runs in, one of `rivals/requirements-*.txt`; None: this one.
        script: In `rivals/`.
        arguments: After the folder.
    """

    environment: str | None
    script: str
    arguments: tuple[str, ...] = ()

    def python(self, environments: Path) -> Path:
        """Returns the interpreter it runs under.

        Raises:
            FileNotFoundError: Its environment has not been made.
        """
        if self.environment is None:
            return Path(sys.executable)
        found = environments / self.environment / "bin" / "python"
        if not found.is_file():
            raise FileNotFoundError(f"{found} is missing: make rivals RIVALS={environments}")
        return found


RIVALS = {
    "autogluon": Rival("autogluon", "with_autogluon.py", ("medium_quality",)),
    "autogluon_networks": Rival("autogluon", "with_autogluon.py", ("networks",)),
    "flaml": Rival("flaml", "with_flaml.py"),
    "realmlp": Rival("pytabkit", "with_pytabkit.py", ("RealMLP_TD",)),
    "tabm": Rival("pytabkit", "with_pytabkit.py", ("TabM_D",)),
    "boosting": Rival(None, "with_sklearn.py", ("boosting",)),
    "linear": Rival(None, "with_sklearn.py", ("linear",)),
}
#: Ours: name -> what its study's file says beyond data, metric, time and seed.
OURS: Mapping[str, Changes] = {"automl": {}, "automl_single": {"study": {"deliver": "single"}}}
#: The best reference model of the study of `automl`, which writes this result beside its own.
REFERENCE = "automl_reference"
#: The same model without its calibration; `automl` writes this result too.
UNCALIBRATED = "automl_changed_calibration"


@dataclass(frozen=True, slots=True)
class Job:
    """One system on one data set, with a limit and a seed."""

    system: str
    data: str
    seconds: int
    seed: int

    def path(self, results: Path) -> Path:
        """Returns where its result lies."""
        return results / self.system / f"{self.data}-{self.seconds}-{self.seed}.json"

    def predictions(self, results: Path) -> Path:
        """Returns where its predictions lie."""
        return results / "predictions" / self.system / f"{self.data}-{self.seconds}-{self.seed}.npy"


@dataclass(frozen=True, slots=True)
class Made:
    """What a system made of a table.

    Attributes:
        predictions: Probabilities (rows, classes) or values (rows,) of the test rows.
        fit_seconds: From the start of the command to its end, or to where predicting began.
        peak_mb: Most memory of all its processes together, shared pages counted once.
    """

    predictions: NDArray[np.float64]
    fit_seconds: float
    predict_seconds: float
    peak_mb: float | None
    details: Document


class Failed(Exception):
    """A system came to nothing; says why."""


# --- results on disk ---------------------------------------------------------------------------------------------


def known(job: Job, table_digest: str, results: Path) -> Document | None:
    """Returns the result of a job, if it is one of this table and, for ours, of this code."""
    path = job.path(results)
    if not path.is_file():
        return None
    document: Document = json.loads(path.read_text())
    fits = document["data_digest"] == table_digest and document["code_digest"] in (None, code_digest())
    return document if fits else None


def keep(job: Job, table: Table, made: Made | None, error: str, results: Path) -> Document:
    """Returns the result of a job after scoring it and writing it; `made` is None for one that failed."""
    score, scores = float("nan"), {}
    job.predictions(results).unlink(missing_ok=True)
    if made is not None:
        score = quality_scores.score(table.metric, table.task, table.y_test, made.predictions)
        scores = quality_scores.score_all(table.task, table.y_test, made.predictions)
        job.predictions(results).parent.mkdir(parents=True, exist_ok=True)
        np.save(job.predictions(results), made.predictions)
    document = {
        "system": job.system,
        "data": job.data,
        "seconds": job.seconds,
        "seed": job.seed,
        "task": table.task,
        "metric": table.metric,
        "score": _finite(score),
        "scores": {name: _finite(value) for name, value in scores.items()},
        "fit_seconds": round(made.fit_seconds, 1) if made else None,
        "predict_seconds": round(made.predict_seconds, 1) if made else None,
        "peak_mb": round(made.peak_mb) if made and made.peak_mb else None,
        "error": error or None,
        "details": made.details if made else {},
        "data_digest": table.digest,
        "code_digest": None if job.system in RIVALS else code_digest(),
        "machine": machine.describe(),
    }
    job.path(results).parent.mkdir(parents=True, exist_ok=True)
    job.path(results).write_text(json.dumps(document, indent=1) + "\n")
    return document


@cache
def code_digest() -> str:
    """Returns the SHA-256 of the package, its search spaces and portfolios: a result of ours belongs to one."""
    found = hashlib.sha256()
    root = HERE.parent
    spaces = (path for ending in ("yaml", "json") for path in (root / "search_spaces").rglob(f"*.{ending}"))
    for path in sorted([*(root / "automl").rglob("*.py"), *spaces]):
        found.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return found.hexdigest()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# --- running -----------------------------------------------------------------------------------------------------


def run(
    job: Job, table: Table, results: Path, environments: Path, cores: int, changes: Changes | None = None
) -> Document:
    """Returns the result of a job after running it; that of a system that failed says why, and has no score.

    Args:
        environments: Holds the rivals' virtual environments.
        changes: Of a study of ours: to its file (`study`) and to its search space (`space`).

    Raises:
        FileNotFoundError: A rival's environment has not been made.
    """
    made, error = None, ""
    beside: dict[str, Made] = {}
    with tempfile.TemporaryDirectory(prefix="quality-") as scratch:
        try:
            if job.system in RIVALS:
                made = _run_rival(RIVALS[job.system], job, table, Path(scratch), environments, cores)
            else:
                made = _run_ours(job, table, Path(scratch), cores, OURS.get(job.system, changes or {}))
            if not np.isfinite(made.predictions).all():
                raise Failed("some predictions are not finite")
            if job.system == "automl":
                beside = _beside(table, Path(scratch), made, job.seed)
        except Failed as failed:
            made, error = None, str(failed)
    document = keep(job, table, made, error, results)
    for system, other in beside.items():
        keep(replace(job, system=system), table, other, "", results)
    if made is not None and REFERENCE in beside:
        reference = beside[REFERENCE]
        predictions = (made.predictions, reference.predictions)
        gain = quality_scores.difference(table.metric, table.task, table.y_test, *predictions)
        document["beside_reference"] = {**reference.details, **asdict(gain)}
        job.path(results).write_text(json.dumps(document, indent=1) + "\n")
    return document


def _run_rival(rival: Rival, job: Job, table: Table, folder: Path, environments: Path, cores: int) -> Made:
    told = {
        "task": table.task,
        "metric": table.metric,
        "target": table.target,
        "classes": table.classes,
        "seconds": job.seconds,
        "cores": cores,
        "seed": job.seed,
    }
    (folder / "problem.json").write_text(json.dumps(told))
    table.train.to_parquet(folder / "train.parquet", index=False)
    table.test.drop(columns=table.target).to_parquet(folder / "test.parquet", index=False)
    command = [rival.python(environments), HERE / "rivals" / rival.script, folder, *rival.arguments]
    _, peak_mb = _measured(command, folder, job.seconds + PATIENCE, cores)
    done = json.loads((folder / "done.json").read_text())
    predicted = pd.read_parquet(folder / "predictions.parquet")
    columns = predicted[list(table.classes)] if table.classes else predicted["prediction"]
    return Made(columns.to_numpy(float), done["fit_seconds"], done["predict_seconds"], peak_mb, done["details"])


def _run_ours(job: Job, table: Table, folder: Path, cores: int, changes: Changes) -> Made:
    """Returns what a study made, run by the command line as a person runs it."""
    table.train.to_parquet(folder / "train.parquet", index=False)
    table.test.drop(columns=table.target).to_parquet(folder / "test.parquet", index=False)
    study = {
        "version": 1,
        "name": "quality",
        "data": {"source": "parquet", "params": {"path": "train.parquet"}, "target": table.target},
        "task": table.task,
        "objective": table.metric,
        "validation": {"test_size": 0},  # the test rows are here
        "budget": {"time": f"{job.seconds}s"},
        "seed": job.seed,
    }
    for dotted, value in changes.get("study", {}).items():
        edit(study, dotted, value)
    if "space" in changes:
        space = _default_space(table)
        for dotted, value in changes["space"].items():
            edit(space, dotted, value)
        (folder / "space.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
        study["search_space"] = "space.yaml"
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    automl = [sys.executable, "-m", "automl"]
    command = [*automl, "run", "study.yaml", "--workers", str(cores), "--json", "--quiet"]
    fit_seconds, peak_mb = _measured(command, folder, job.seconds + PATIENCE, cores)
    document = json.loads((folder / "stdout").read_text())
    predict = [*automl, "predict", "quality", "test.parquet", "-o", "predictions.parquet"]
    predict_seconds, _ = _measured(predict, folder, PATIENCE, cores)
    predicted = pd.read_parquet(folder / "predictions.parquet")
    columns = predicted[[f"proba_{name}" for name in table.classes]] if table.classes else predicted["prediction"]
    details = {key: document[key] for key in ("trials", "validation", "best")}
    details["members"] = len(document["ensemble"])
    details["references"] = {reference["name"]: reference["value"] for reference in document["references"]}
    return Made(columns.to_numpy(float), fit_seconds, predict_seconds, peak_mb, details)


def _beside(table: Table, folder: Path, made: Made, seed: int) -> dict[str, Made]:
    """Returns what a study's folder tells beside its model's predictions, by the name of the system that it stands for.

    The best reference is the best on validation rows, so nothing is chosen on the test rows. It is refitted on all the
    rows that the study was given.
    """
    from automl.data.dataset import conform, make_dataset
    from automl.predictor import Predictor
    from automl.reference_model import ReferenceModel

    state = folder / ".automl/studies/quality"
    dataset = make_dataset(table.train, target=table.target, task=table.task, name=table.name, source="")
    features, _ = conform(table.test.drop(columns=table.target), dataset.schema)
    positions = [[str(name) for name in dataset.schema.target.classes].index(name) for name in table.classes]

    def ordered(predictions: NDArray[np.float64]) -> NDArray[np.float64]:
        return predictions[:, positions] if positions else predictions

    beside = {}
    shipped = Predictor.load(state / "model")
    if table.classes:
        bare = Predictor(shipped.schema, shipped.members, (), shipped.decision)
        beside[UNCALIBRATED] = replace(made, predictions=ordered(bare.predictions(features)), details={})
    scored = {name: value for name, value in made.details["references"].items() if value is not None}
    if scored:
        best = max(scored, key=lambda name: quality_scores.sign(table.metric) * scored[name])
        began = time.monotonic()
        fitted: Any = Predictor.load(state / "references" / best / "model").members[0]
        model = ReferenceModel.fit(best, dataset.schema, dataset.features, dataset.target, seed, like=fitted.model)
        fit_seconds = time.monotonic() - began
        predictions = ordered(model.predictions(features))
        predict_seconds = time.monotonic() - began - fit_seconds
        beside[REFERENCE] = Made(predictions, fit_seconds, predict_seconds, None, {"reference": best})
    return beside


def _default_space(table: Table) -> Document:
    """Returns the search space that a study of this table has by default."""
    from automl import plugins, search_space
    from automl.data.dataset import make_dataset

    plugins.load_builtin()
    dataset = make_dataset(table.train, target=table.target, task=table.task, name=table.name, source="")
    space: Document = yaml.safe_load(search_space.auto(dataset.schema).read_text())
    return space


def edit(document: Any, dotted: str, value: Any) -> None:
    """Changes a document in place: `a.b: value` sets, `a.*.b` does so in every item of a list or mapping.

    An item of a list goes by the name of its option or stage. `{keep: 2}` as a value keeps the first two items of a
    list, `{keep: [mlp]}` those of these names, `null` takes the key away.

    Raises:
        KeyError: A list has no item of this name.
    """
    first, _, rest = dotted.partition(".")
    if first == "*":
        for item in list(document.values()) if isinstance(document, dict) else document:
            edit(item, rest, value)
    elif isinstance(document, list):
        edit({_name(item): item for item in document}[first], rest, value)
    elif rest:
        edit(document.setdefault(first, {}), rest, value)
    elif value is None:
        document.pop(first, None)
    elif isinstance(value, Mapping) and set(value) == {"keep"}:
        kept, items = value["keep"], document[first]
        document[first] = items[:kept] if isinstance(kept, int) else [item for item in items if _name(item) in kept]
    else:
        document[first] = value


def _name(item: Any) -> Any:
    return item.get("name", item.get("stage")) if isinstance(item, dict) else item


def _measured(command: Sequence[str | Path], folder: Path, limit: float, cores: int) -> tuple[float, float]:
    """Returns a command's wall-clock seconds and the most memory of all its processes together, in MB.

    What it prints is in the files `stdout` and `stderr` of `folder`, in which it runs.

    Raises:
        Failed: It ended with an error, or did not end within the limit.
    """
    import psutil

    pinned = _cores(cores)
    with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
        began = time.monotonic()
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=folder,
            stdout=out,
            stderr=err,
            env=environment(),
            preexec_fn=(lambda: os.sched_setaffinity(0, pinned)) if pinned else None,
        )
        peak, root = 0.0, psutil.Process(process.pid)
        try:
            while process.returncode is None and time.monotonic() - began < limit:
                peak = max(peak, _memory_mb(root))
                with suppress(subprocess.TimeoutExpired):
                    process.wait(POLL_S)
            seconds, ended = time.monotonic() - began, process.returncode is not None
        finally:
            if process.returncode is None:
                _end(root)
                process.wait()
    if not ended:
        raise Failed(f"had not ended after {limit:.0f} s")
    if process.returncode:
        lines = (folder / "stderr").read_text(errors="replace").strip().splitlines()
        raise Failed(f"exit code {process.returncode}: {lines[-1][:300] if lines else 'said nothing'}")
    return seconds, peak


def _cores(n: int) -> set[int]:
    """Returns the first cores that this process may use; none where a process cannot be tied to cores."""
    if not hasattr(os, "sched_getaffinity"):
        return set()
    return set(sorted(os.sched_getaffinity(0))[:n])


def _memory_mb(root: Any) -> float:
    """Returns the memory of a process and all below it; pages that several share count once."""
    import psutil

    total = 0.0
    try:
        processes = [root, *root.children(recursive=True)]
    except psutil.Error:
        return total
    for process in processes:
        try:
            memory = process.memory_full_info()
            total += getattr(memory, "pss", memory.rss) / 1e6
        except psutil.Error:  # it has ended
            pass
    return total


def _end(root: Any) -> None:
    import psutil

    for process in [*root.children(recursive=True), root]:
        with suppress(psutil.Error):
            process.kill()
