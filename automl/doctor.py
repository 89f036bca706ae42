"""Does MLflow show what happened? Holds a study's own state against what was recorded of it, and mends the record.

Optuna's journal is the truth about a study. What MLflow lacks, or has otherwise, is sent again from the spool, which
doubles nothing; what a crash left open is closed.
"""

from __future__ import annotations

import math
import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from automl import memory
from automl.recorder import Recorder
from automl.search import Search, clear_up, look_into
from automl.study import load_spec, update_result
from automl.study_folder import Prepared, StudyFolder, read_json, state_folder
from automl.tracking.spool import Mirror, Spool
from automl.tracking.tracker import FoundRun, RunState, Tracker, key_tag
from automl.values import ReferenceResult, TrialState

#: Seconds that MLflow may take to receive a study again.
SEND_S = 600.0
#: Relative difference of a score in MLflow, which keeps double precision.
SAME = 1e-9


def examine(folder: StudyFolder, tracker: Tracker) -> list[str]:
    """Returns a sentence for everything in which a study's state and MLflow do not agree; none when all is well.

    Nobody may be running the study.

    Raises:
        StorageError: The state cannot be read.
        TrackingError: MLflow does not answer.
    """
    return list(_findings(folder, tracker))


def repair(folder: StudyFolder, tracker: Tracker) -> list[str]:
    """Returns what `examine` finds after everything that can be mended was.

    Trials whose worker is gone wait for whoever goes on with the study; runs that nobody works on are closed; and if
    MLflow still shows something else, all that was recorded is sent to it again.

    Raises:
        ConfigError: The study is being run.
        StorageError, TrackingError: As `examine`.
    """
    with folder.lock():
        clear_up(folder.journal)
        search = look_into(folder, load_spec(folder).name)
        if search is not None:
            spool = Spool(folder.spool)
            recorder = Recorder(load_spec(folder), _prepared(folder), folder, spool)
            search.take_back_lost()
            recorder.make_good(search.results(), search.waiting())
            if recorder.key in spool.runs().open:
                recorder.study_stopped()
            _send(folder, tracker)
            if examine(folder, tracker):
                spool.send_again()
                _send(folder, tracker)
    mirror = Mirror(Spool(folder.spool), tracker)
    update_result(folder, mirror, Spool(folder.spool).pending())
    return examine(folder, tracker)


def environment() -> dict[str, Any]:
    """Returns what a study would run on and with: versions, cores, bytes of free memory and disk."""
    packages = ("automl-platform", "torch", "pytorch-lightning", "optuna", "mlflow", "scikit-learn", "imbalanced-learn")
    existing = next(path for path in (state_folder(), *state_folder().parents) if path.is_dir())
    return {
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)),
        "free_memory": memory.available(),
        "free_disk": shutil.disk_usage(existing).free,
    }


def _send(folder: StudyFolder, tracker: Tracker) -> None:
    mirror = Mirror(Spool(folder.spool), tracker)
    mirror.close(SEND_S)
    if mirror.last_error is not None:
        raise mirror.last_error


def _findings(folder: StudyFolder, tracker: Tracker) -> Iterator[str]:
    spec = load_spec(folder)
    search = look_into(folder, spec.name)
    if search is None:
        return  # nothing was begun
    for number in search.orphans():
        yield f"trial {number} is held by a process that is gone"
    if pending := Spool(folder.spool).pending():
        yield f"{pending} events have not reached MLflow"
    prepared = _prepared(folder)
    found = tracker.find_runs(spec.project, prepared.key)
    yield from _run("the study", found.pop(key_tag(prepared.key), []), None)
    for key, what, state, value in _expected(folder, prepared, search):
        runs = found.pop(key_tag(key), [])
        yield from _run(what, runs, state)
        shown = runs[0].metrics.get(f"best_{prepared.objective}") if runs else None
        if shown is not None and value is not None and not math.isclose(shown, value, rel_tol=SAME):
            yield f"{what} scored {value}, and its run shows {shown}"
    for run in [run for runs in found.values() for run in runs if not run.states]:
        yield f"the run {run.run_id} is open, and nobody works on it"


def _expected(
    folder: StudyFolder, prepared: Prepared, search: Search
) -> Iterator[tuple[str, str, RunState, float | None]]:
    """Yields key, name, state and score of each run that must be there."""
    for trial in search.results():
        value = trial.value if trial.state is TrialState.COMPLETE else None
        yield f"{prepared.key}/trial/{trial.number}", f"trial {trial.number}", RunState(trial.state.value), value
    for path in sorted(folder.references.glob("*.json")):
        reference = ReferenceResult(**read_json(path))
        state = RunState.FAILED if reference.value is None else RunState.COMPLETE
        name = reference.name
        yield f"{prepared.key}/reference/{name}", f"the reference {name}", state, reference.value


def _run(what: str, runs: list[FoundRun], state: RunState | None) -> Iterator[str]:
    """Yields what is wrong with the run of something; `state` is how it ended, None if that may be any way."""
    if not runs:
        yield f"{what} has no run in MLflow"
        return
    if len(runs) > 1:
        yield f"{what} has {len(runs)} runs in MLflow"
    if not runs[0].states:
        yield f"the run of {what} is open, and nobody works on it"
    elif state is not None and state not in runs[0].states:
        shown = " or ".join(sorted(runs[0].states))
        yield f"{what} is {state}, and its run shows {shown}"


def _prepared(folder: StudyFolder) -> Prepared:
    return Prepared.from_json(read_json(folder.prepared))
