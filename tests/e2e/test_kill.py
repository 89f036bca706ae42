"""A launcher that is killed loses nothing: the same command goes on where it was."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from optuna.trial import TrialState

pytestmark = pytest.mark.slow

BUDGET = 6
CONFIGURATION = "automl:configuration"


def test_kill_and_run_again(place: Any, wait_for: Callable[..., None]) -> None:
    place.write_table(n=1000)
    place.write_study(
        budget={"trials": BUDGET}, trainer={"max_epochs": 60, "patience": 60}, pruner={"name": "none"}, seed=3
    )
    process = place.start("run", "small.yaml", "--workers", 2)
    journal = place.path / ".automl/studies/small/journal.log"

    def is_amid() -> bool:
        trials = place.trials() if journal.is_file() and journal.stat().st_size else []
        runs = [t for t in trials if t.state is TrialState.RUNNING and CONFIGURATION in t.user_attrs]
        return bool(runs) and sum(t.state is TrialState.COMPLETE for t in trials) >= 2

    wait_for(is_amid, "two trials have ended and one runs")
    below = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(below, timeout=20)
    assert not alive, "what the dead launcher had started still runs"
    before = place.trials()
    ended = {t.number: t for t in before if t.state is TrialState.COMPLETE}
    cut = [t for t in before if t.state is TrialState.RUNNING]
    assert ended
    assert cut

    document = place.automl("run", "small.yaml", "--workers", 2, "--json").json
    after = place.trials()
    for number, trial in ended.items():  # neither lost nor run again
        assert (after[number].value, after[number].params, after[number].datetime_complete) == (
            trial.value, trial.params, trial.datetime_complete
        )  # fmt: skip
    begun = [trial for trial in cut if CONFIGURATION in trial.user_attrs]  # others were only claimed, and wait again
    lost = [t for t in after if t.user_attrs.get("automl:result", {}).get("reason") == "lost"]
    assert {t.number for t in begun} == {t.number for t in lost}
    assert {t.state for t in lost} == {TrialState.FAIL}
    assert 1 <= len(lost) <= 2
    for trial in begun:
        again = [t for t in after if t.params == trial.params and t.number != trial.number]
        assert [t.state for t in again] == [TrialState.COMPLETE], "its configuration runs once more"
    assert len(after) - len(lost) == BUDGET
    assert not [t for t in after if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert document["trials"] == {"complete": BUDGET, "pruned": 0, "failed": len(lost)}
    assert place.quick("sync", "--json").json["pending"] == {"small": 0}  # what a slow machine could not send in time

    (parent,) = place.runs(parents=True)
    runs = place.runs()
    assert parent.info.status == "FINISHED"
    assert Counter(run.info.run_name for run in runs) == Counter(
        f"trial {t.number}" for t in after if CONFIGURATION in t.user_attrs
    )
    reasons = {run.info.run_name: run.data.tags.get("automl.reason") for run in runs if run.info.status == "FAILED"}
    assert reasons == {f"trial {t.number}": "lost" for t in begun}
    assert {run.info.status for run in runs} == {"FINISHED", "FAILED"}
