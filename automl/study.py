"""One study from its file to its result: the pipe of the design, in order."""

from __future__ import annotations

import math
import platform
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from automl import isolation, jobs, manifest, plugins
from automl.data import blocks
from automl.errors import NoTrialSucceeded
from automl.isolation import IsolatedCall
from automl.recorder import Recorder
from automl.search import Search, open_search
from automl.study_folder import Prepared, StudyFolder, read_json, study_folder, write_json
from automl.study_spec import StudySpec, same_study
from automl.tracking.memory_tracker import MemoryTracker
from automl.tracking.mlflow_tracker import MlflowTracker, write_mlmodel
from automl.tracking.spool import Mirror, Spool
from automl.tracking.tracker import Tracker
from automl.values import (
    ColumnKind,
    Direction,
    FinalTask,
    Members,
    ReferenceResult,
    Schema,
    ShippedModel,
    StudyResult,
    Target,
    TrialResult,
    TrialState,
    TrialTask,
)
from automl.worker import GRACE_S, KEPT_TRIALS, Outcome, Watcher, Worker, no_trial_succeeded, rank

#: Seconds that MLflow gets at the end to take what is still pending; the rest stays in the spool.
SYNC_S = 20.0
#: Seconds in which trials may come to the end of an epoch after SIGTERM; schedulers kill after ten to thirty.
TERMINATE_S = 5.0
#: How much longer than a fold's own training one on all search rows takes, at most.
REFIT_SLOWER = 1.5
#: Seconds that loading, scoring and writing the final model may take.
CLOSING_S = 4.0
#: Packages that a model needs to be loaded and to predict.
REQUIRED = ("automl-platform", "mlflow", "numpy", "pandas", "pillow", "safetensors", "scikit-learn", "skops", "torch")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Where and how much, not what is searched.

    Attributes:
        workers: Trials at a time.
        dry_run: Keep everything in memory and a temporary folder; nothing is left behind.
        began: `time.monotonic()` from which the study's time counts; None: from the call.
    """

    workers: int = 1
    tracking_uri: str = "sqlite:///mlflow.db"
    plugins: tuple[str, ...] = ()
    dry_run: bool = False
    began: float | None = None


class StudyWatcher(Watcher, Protocol):
    """Who wants to know how a study goes, from its beginning to its end."""

    def prepared(self, spec: StudySpec, prepared: Prepared, already: tuple[TrialResult, ...]) -> None:
        """The data has been read and checked; `already` ended before."""

    def unchanged(self, why: str) -> None:
        """The search ended before anything was added to the result that there was."""

    def finalising(self) -> None:
        """The search is over."""


def run_study(
    spec: StudySpec,
    base: Path,
    options: RunOptions,
    watcher: StudyWatcher,
    render: Callable[[StudyResult, Prepared], str],
) -> StudyResult:
    """Returns the result of a study, which goes on where it was if it was begun before.

    Args:
        base: The folder that paths in the study are relative to.
        render: Makes the Markdown page that MLflow shows for the study.

    Raises:
        ConfigError, DataError: With everything that is wrong, before the first trial.
        NoTrialSucceeded: With the reasons, grouped.
    """
    with _handled(signal.SIGTERM, _terminate):
        if not options.dry_run:
            tracker = MlflowTracker(options.tracking_uri)
            return _run(spec, base, study_folder(spec.name), tracker, options, watcher, render)
        with tempfile.TemporaryDirectory(prefix="automl-dry-run-") as scratch:
            return _run(spec, base, StudyFolder(Path(scratch) / spec.name), MemoryTracker(), options, watcher, render)


def _run(
    spec: StudySpec,
    base: Path,
    folder: StudyFolder,
    tracker: Tracker,
    options: RunOptions,
    watcher: StudyWatcher,
    render: Callable[[StudyResult, Prepared], str],
) -> StudyResult:
    began = time.monotonic() if options.began is None else options.began
    isolation.warm_up()
    with folder.lock():
        if folder.spec.is_file():
            same_study(load_spec(folder), spec)
        prepared: Prepared = IsolatedCall(jobs.prepare, spec, base, folder, options.plugins).wait()
        search = open_search(spec, prepared, folder)
        for parameters in prepared.starts:
            search.enqueue(parameters)
        watcher.prepared(spec, prepared, search.results())
        spool = Spool(folder.spool)
        mirror = Mirror(spool, tracker)
        mirror.start()
        recorder = Recorder(spec, prepared, folder, spool)
        recorder.study_started(_environment(base))
        try:
            outcome = _search(spec, prepared, folder, search, recorder, watcher, options, began)
            searched = time.monotonic() - began
            trials = search.results()
            added = not folder.result.is_file() or len(read_json(folder.result)["leaderboard"]) != len(trials)
            if added:
                watcher.finalising()
                until = None if spec.budget.time is None else began + spec.budget.time - search.seconds
                result = _finalise(spec, prepared, folder, trials, outcome, options, until)
                result = replace(result, seconds=_seconds(began, searched))
                write_json(folder.result, result_to_json(result))
                recorder.study_ended(result, folder.model, render(result, prepared))
            else:
                status = "interrupted" if outcome.interrupted else "finished"
                result = replace(load_result(folder, trials), status=status)
                watcher.unchanged(outcome.ended_by)
                if mirror.model_uri(recorder.key) is None:  # the launch that made it may have died before it said so
                    recorder.study_ended(result, folder.model, render(result, prepared))
                recorder.study_unchanged()
        except NoTrialSucceeded as error:
            recorder.study_failed(str(error))
            raise
        except BaseException:
            recorder.study_stopped()
            raise
        finally:
            pending = mirror.close(SYNC_S)
            search.add_seconds(time.monotonic() - began)
        if added:
            result = replace(result, seconds=_seconds(began, searched))
        return _with_ids(result, recorder.key, mirror, pending, folder)


def _search(
    spec: StudySpec,
    prepared: Prepared,
    folder: StudyFolder,
    search: Search,
    recorder: Recorder,
    watcher: StudyWatcher,
    options: RunOptions,
    began: float,
) -> Outcome:
    """Runs trials until the budget is spent or a person presses Ctrl-C; a second Ctrl-C ends them at once."""
    until = None
    if spec.budget.time is not None:
        until = began + spec.budget.time - search.seconds - _final_seconds(spec.budget.time, _refits(spec, prepared))
    worker = Worker(
        spec,
        prepared,
        folder,
        search,
        recorder,
        watcher,
        slots=options.workers,
        search_until=until,
        plugins=plugins.named_modules(options.plugins),
        references=jobs.references(prepared.schema) if spec.references and not prepared.is_logged else (),
    )

    def interrupt(number: int, frame: object) -> None:
        if worker.interrupted:
            worker.abort(KeyboardInterrupt())
        worker.interrupt()

    def terminate(number: int, frame: object) -> None:
        worker.abort(Terminated(), TERMINATE_S)

    try:
        # What a former launch has left may have been fitted by other code: a plug-in or a library that changed since.
        shutil.rmtree(folder.cache, ignore_errors=True)
        with _handled(signal.SIGINT, interrupt), _handled(signal.SIGTERM, terminate):
            outcome = worker.run()
    finally:
        shutil.rmtree(folder.cache, ignore_errors=True)
    worker.raise_if_aborted()
    return outcome


def _finalise(
    spec: StudySpec,
    prepared: Prepared,
    folder: StudyFolder,
    trials: tuple[TrialResult, ...],
    outcome: Outcome,
    options: RunOptions,
    until: float | None,
) -> StudyResult:
    """Returns the result of what was searched, after writing the model folder, by `until` if there is such a time."""
    complete = [t for t in trials if t.state is TrialState.COMPLETE and t.repeat_of is None]
    ranked = [t for t in rank(complete, prepared.direction) if (folder.trial(t.number) / "model").is_dir()]
    if not ranked and outcome.interrupted:
        raise KeyboardInterrupt
    if not ranked:
        raise no_trial_succeeded(trials)
    refits = _refits(spec, prepared)
    task = FinalTask(
        data=folder.data,
        out=folder.path / "model.new",
        objective=prepared.objective,
        candidates=tuple((t.number, folder.trial(t.number)) for t in ranked[:KEPT_TRIALS]),
        deliver=spec.deliver,
        references=tuple((r.name, folder.references / r.name) for r in outcome.references if r.value is not None),
        seed=spec.seed,
        plugins=options.plugins,
        choose_until=_choose_until(until, refits),
        logged=ranked[0].value if prepared.is_logged else None,
        data_module=prepared.data_module,
        best=ranked[0].configuration,
    )
    shutil.rmtree(task.out, ignore_errors=True)
    members: Members = IsolatedCall(jobs.choose, task).wait()
    refitted: tuple[int | str, ...] = ()
    if refits:
        names = dict(members)
        chosen: list[ReferenceResult | TrialResult] = [
            *(reference for reference in outcome.references if reference.name in names),
            *(trial for trial in ranked if trial.number in names),
        ]
        refitted = _refit(spec, prepared, folder, chosen, options, until)
    shipped: ShippedModel = IsolatedCall(jobs.finalise, replace(task, members=members, refitted=refitted)).wait()
    _make_servable(task.out, prepared.schema, speaks_of_target=shipped.speaks_of_target)
    former = folder.path / "model.old"
    shutil.rmtree(former, ignore_errors=True)
    if folder.model.is_dir():  # there is a whole model at any time
        folder.model.rename(former)
    task.out.rename(folder.model)
    shutil.rmtree(former, ignore_errors=True)
    return StudyResult(
        study=spec.name,
        status="interrupted" if outcome.interrupted else "finished",
        metric=prepared.objective,
        direction=prepared.direction,
        trials=trials,
        references=tuple(replace(r, test=shipped.references.get(r.name)) for r in outcome.references),
        best=ranked[0],
        shipped=shipped,
        seconds={},
    )


def _refit(
    spec: StudySpec,
    prepared: Prepared,
    folder: StudyFolder,
    chosen: Sequence[ReferenceResult | TrialResult],
    options: RunOptions,
    until: float | None,
) -> tuple[int | str, ...]:
    """Returns those of the chosen that were fitted once more on all search rows, as far as there was time."""
    if until is not None:  # what is still to be done after it
        until -= CLOSING_S
    waiting, running, done = deque(chosen), dict[int | str, IsolatedCall](), list[int | str]()
    while waiting or running:
        while waiting and len(running) < options.workers:
            result = waiting.popleft()
            expected = REFIT_SLOWER * result.seconds / prepared.n_folds
            if until is not None and time.monotonic() + expected > until:
                continue
            left = None if until is None else until - time.monotonic() + CLOSING_S / 2
            if isinstance(result, ReferenceResult):
                out = folder.references / result.name
                running[result.name] = IsolatedCall(
                    jobs.refit_reference,
                    result.name,
                    folder.data,
                    out,
                    prepared.objective,
                    spec.seed,
                    time_limit_s=left,
                )
            elif result.configuration is not None:
                task = TrialTask(
                    configuration=result.configuration,
                    data=folder.data,
                    out=folder.trial(result.number),
                    objective=prepared.objective,
                    settings=spec.trainer.settings(prepared.n_train),
                    seed=spec.seed,
                    stop_at=until,
                )
                modules = plugins.named_modules(options.plugins)
                running[result.number] = IsolatedCall(jobs.refit, task, modules, time_limit_s=left)
        isolation.wait_any(list(running.values()), timeout_s=0.5)
        for name, call in list(running.items()):
            call.poll()
            if call.done:  # one that fails leaves the model that there was, which is as good as it was
                del running[name]
                done += [name] if call.result else []
    return tuple(done)


def _make_servable(folder: Path, schema: Schema, *, speaks_of_target: bool = True) -> None:
    """Adds to a model folder what MLflow needs to load and serve it, and seals it."""
    # Columns are named and no types: MLflow would refuse whole numbers for `double`, dates as words and truth values
    # with missing ones, and print the rows in its error. The predictor reads all these, and says what it cannot read.
    unneeded = schema.names(ColumnKind.DOMAIN)  # a row may be of a domain that nobody knows
    inputs = [(name, "any", name not in unneeded) for name in schema.inputs]
    what = schema.target.names if schema.target.parts else ["prediction"]
    outputs = [(name, _label_type(of) if name in what else "double") for name, of in schema.target.columns()]
    needed = (*REQUIRED, *read_json(folder / "architecture.json")["packages"])
    requirements = [f"{name}=={version(name).partition('+')[0]}" for name in needed]
    write_mlmodel(
        folder,
        loader_module="automl.predictor",
        inputs=inputs,
        outputs=outputs if speaks_of_target else [],
        requirements=requirements,
        example=blocks.example(schema) if schema.columns else [],
    )
    manifest.write(folder)


def _label_type(target: Target) -> str:
    """Returns MLflow's type of what a single target's rows are said to be."""
    if not target.classes:
        return "double"
    if all(isinstance(name, bool) for name in target.classes):
        return "boolean"
    return "string" if any(isinstance(name, str) for name in target.classes) else "long"


def _with_ids(result: StudyResult, key: str, mirror: Mirror, pending: int, folder: StudyFolder) -> StudyResult:
    """Returns the result with where it is in MLflow, as far as that is known, and keeps it."""
    ids = _ids(mirror, key, result.best.number)
    best = replace(result.best, run_id=ids.pop("best_run_id"))
    result = replace(result, best=best, pending_sync=pending, **ids)
    write_json(folder.result, result_to_json(result))
    return result


def _ids(mirror: Mirror, key: str, best: int) -> dict[str, Any]:
    """Returns where a study, its best trial and its model are in MLflow; None for what is not there yet."""
    ref, best_ref = mirror.run_ref(key), mirror.run_ref(f"{key}/trial/{best}")
    return {
        "experiment_id": ref.experiment_id if ref else None,
        "run_id": ref.run_id if ref else None,
        "best_run_id": best_ref.run_id if best_ref else None,
        "model_uri": mirror.model_uri(key),
    }


def update_result(folder: StudyFolder, mirror: Mirror, pending: int) -> None:
    """Writes into a study's result, if there is one, where in MLflow it is by now, and nothing else.

    Raises:
        ConfigError: The study is being run; who runs it writes its result.
    """
    with folder.lock():
        if folder.result.is_file():
            document = read_json(folder.result)
            ids = _ids(mirror, read_json(folder.prepared)["key"], document["best"]["number"])
            best = document["best"] | {"run_id": ids.pop("best_run_id")}
            write_json(folder.result, document | ids | {"best": best, "pending_sync": pending})


# --- the result on disk ------------------------------------------------------------------------------------------


def result_to_json(result: StudyResult) -> dict[str, Any]:
    """Returns the document that `--json` prints and that lies in the study's folder."""
    best = result.best
    assert best.configuration is not None
    return {
        "schema_version": 1,
        "study": result.study,
        "status": result.status,
        "experiment_id": result.experiment_id,
        "run_id": result.run_id,
        "model_uri": result.model_uri,
        "metric": {"name": result.metric, "direction": result.direction.value},
        "validation": result.shipped.validation,
        "test": result.test,
        "test_metrics": dict(result.shipped.test),
        "notes": list(result.shipped.notes),
        "trials": {state.value: result.count(state) for state in TrialState},
        "best": {
            "number": best.number,
            "run_id": best.run_id,
            "validation": best.value,
            "configuration": best.configuration.flatten(),
        },
        "ensemble": [_member(member, weight, result.shipped.refitted) for member, weight in result.shipped.members],
        "references": [asdict(reference) for reference in result.references],
        "leaderboard": [
            {
                "number": trial.number,
                "state": trial.state.value,
                "validation": trial.value,
                "reason": trial.reason.value if trial.reason else None,
                "network": trial.configuration.network.name if trial.configuration else None,
                "seconds": trial.seconds,
                "repeat_of": trial.repeat_of,
            }
            for trial in leaderboard(result.trials, result.direction)
        ],
        "seconds": dict(result.seconds),
        "pending_sync": result.pending_sync,
    }


def _member(name: int | str, weight: float, refitted: tuple[int | str, ...]) -> dict[str, Any]:
    kind = "reference" if isinstance(name, str) else "number"
    return {kind: name, "weight": weight, "refitted": name in refitted}


def load_result(folder: StudyFolder, trials: tuple[TrialResult, ...]) -> StudyResult:
    """Returns the result that lies in a study's folder.

    Raises:
        StorageError: There is none, or it is damaged.
    """
    document = read_json(folder.result)
    by_number = {trial.number: trial for trial in trials}
    best, ensemble = document["best"], document["ensemble"]
    return StudyResult(
        study=document["study"],
        status=document["status"],
        metric=document["metric"]["name"],
        direction=Direction(document["metric"]["direction"]),
        trials=trials,
        references=tuple(ReferenceResult(**reference) for reference in document["references"]),
        best=replace(by_number[best["number"]], run_id=best["run_id"]),
        shipped=ShippedModel(
            members=tuple((member.get("number", member.get("reference")), member["weight"]) for member in ensemble),
            refitted=tuple(m.get("number", m.get("reference")) for m in ensemble if m.get("refitted")),
            validation=document["validation"],
            test=document["test_metrics"],
            references={r["name"]: r["test"] for r in document["references"] if r["test"] is not None},
            notes=tuple(document.get("notes", ())),
        ),
        seconds=document["seconds"],
        experiment_id=document["experiment_id"],
        run_id=document["run_id"],
        model_uri=document["model_uri"],
        pending_sync=document["pending_sync"],
    )


def load_spec(folder: StudyFolder) -> StudySpec:
    """Returns the study as it was resolved when it began."""
    return StudySpec.model_validate_json(folder.spec.read_text(encoding="utf-8"))


def leaderboard(trials: tuple[TrialResult, ...], direction: Direction) -> list[TrialResult]:
    """Returns trials with a score, best first, then pruned ones, then failed ones."""
    order = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED]
    ranked = rank(trials, direction) + [trial for trial in trials if trial.value is None]
    return sorted(ranked, key=lambda trial: order.index(trial.state))


# --- around it ---------------------------------------------------------------------------------------------------


def _final_seconds(budget_s: float, refits: bool) -> float:
    """Returns what of a study's time is kept for ensemble, refit, test, report and the last words to MLflow."""
    least = CLOSING_S + GRACE_S + 1.0
    return min(max(0.15 * budget_s, least), 60.0) if refits else min(max(0.06 * budget_s, least), 30.0)


def _refits(spec: StudySpec, prepared: Prepared) -> bool:
    """Returns whether what was chosen is fitted once more on all search rows.

    The models of several folds, which together saw all rows, are an ensemble as they are.
    """
    return (prepared.n_folds == 1 or spec.deliver == "single") and not prepared.is_logged


def _choose_until(until: float | None, refits: bool) -> float:
    """Returns when the members of the ensemble are to be chosen, so that half of the time is left to refit them."""
    now = time.monotonic()
    return math.inf if until is None else now + max(until - CLOSING_S - now, 0.0) / (2 if refits else 1)


def _seconds(began: float, searched: float) -> dict[str, float]:
    """Returns the wall-clock seconds of a study's parts up to now."""
    total = time.monotonic() - began
    return {"total": total, "search": searched, "final": total - searched}


def _environment(base: Path) -> dict[str, str]:
    """Returns tags that say what ran: versions, machine, command, and the commit of the folder of the study."""
    tags = {
        "automl.version": version("automl-platform"),
        "automl.python": platform.python_version(),
        "automl.platform": platform.platform(),
        "mlflow.source.name": "automl",
        "mlflow.source.type": "LOCAL",
    }
    for package in ("torch", "pytorch-lightning", "optuna", "mlflow", "scikit-learn", "imbalanced-learn"):
        tags[f"automl.version.{package}"] = version(package)
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=base, capture_output=True, text=True, timeout=5, check=True
        )
        tags["mlflow.source.git.commit"] = found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # not a checkout, or no git
    return tags


class Terminated(BaseException):
    """The process was asked to end (SIGTERM)."""


def _terminate(number: int, frame: object) -> None:
    raise Terminated


@contextmanager
def _handled(number: signal.Signals, handler: Callable[[int, object], None]) -> Iterator[None]:
    """Handles a signal; only the main thread of a program may say what signals do."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)
