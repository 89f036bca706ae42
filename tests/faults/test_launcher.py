"""A launcher that is killed loses nothing: the same command goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import mlflow
import psutil
import pytest
from optuna.trial import TrialState

pytestmark = pytest.mark.slow

BUDGET = 6
CONFIGURATION = "automl:configuration"


def test_kill_and_run_again(place: Any, wait_for: Callable[..., None], observed: Callable[[str, str], None]) -> None:
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
    assert 1 <= len([trial for trial in cut if CONFIGURATION in trial.user_attrs]) <= 2
    for trial in cut:  # each goes on under its number, where it was
        assert after[trial.number].state is TrialState.COMPLETE
        assert after[trial.number].params.items() >= trial.params.items()  # none yet of one that was claimed ahead
        steps = after[trial.number].intermediate_values
        assert steps.items() >= trial.intermediate_values.items()
    assert len(after) == BUDGET
    assert not [t for t in after if t.state in (TrialState.RUNNING, TrialState.WAITING)]
    assert document["trials"] == {"complete": BUDGET, "pruned": 0, "failed": 0}
    assert place.quick("sync", "--json").json["pending"] == {"small": 0}  # what a slow machine could not send in time

    (parent,) = place.runs(parents=True)
    runs = place.runs()
    assert parent.info.status == "FINISHED"
    assert Counter(run.info.run_name for run in runs) == Counter(f"trial {t.number}" for t in after)
    assert {run.info.status for run in runs} == {"FINISHED"}
    observed(
        "`kill -9` of the launcher",
        "its trials end with it; the same command keeps what had ended, and goes on with the rest under their numbers",
    )


LONG = {
    "budget": {"trials": 2},
    "trainer": {"max_epochs": 600, "patience": 600},
    "pruner": {"name": "none"},
    "sampler": {"name": "random"},
}


def kept(place: Any) -> bool:
    return any((place.path / ".automl/studies/small/trials").glob("*/checkpoints/*.pt"))


def test_a_trial_that_sigterm_cut_off_ends_as_one_that_was_not(
    place: Any, tmp_path_factory: pytest.TempPathFactory, wait_for: Callable[..., None], observed: Callable[..., None]
) -> None:
    undisturbed = type(place)(tmp_path_factory.mktemp("undisturbed"))
    for each in (undisturbed, place):
        each.write_table(n=2000)
        each.write_study(**LONG)
    undisturbed.automl("run", "small.yaml", "--workers", 1)
    process = place.start("run", "small.yaml", "--workers", 1, "--json")
    journal = place.path / ".automl/studies/small/journal.log"
    wait_for(lambda: journal.is_file() and journal.read_text().count("intermediate_value") > 20, "a trial is amid")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    assert kept(place)
    assert {run.info.status for run in place.runs()} == {"KILLED"}
    n_before = len(place.trials()[0].intermediate_values)
    assert 20 <= n_before < 600
    place.automl("resume", "small", "--workers", 1)
    (first, expected) = (each.trials()[0] for each in (place, undisturbed))
    assert (first.value, first.params) == (expected.value, expected.params)
    assert first.intermediate_values == expected.intermediate_values
    metrics = [trial.user_attrs["automl:result"]["metrics"] for trial in (first, expected)]
    assert metrics[0] == metrics[1]
    (run,) = [run for run in place.runs() if run.info.run_name == "trial 0"]
    assert run.info.status == "FINISHED"
    client = mlflow.MlflowClient(f"sqlite:///{place.path / 'mlflow.db'}")
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "val_roc_auc")]
    assert sorted(steps) == sorted(expected.intermediate_values)
    observed(
        "SIGTERM",
        "exit 143; a trial keeps its last epoch, and ends as an undisturbed one does, to the digit, in its MLflow run",
    )


def test_a_second_interrupt_ends_at_once(
    place: Any, wait_for: Callable[..., None], observed: Callable[..., None]
) -> None:
    place.write_table(n=2000)
    place.write_study(**{**LONG, "trainer": {"max_epochs": 5000, "patience": 5000}})
    process = place.start("run", "small.yaml", "--workers", 1, "--json")
    wait_for(lambda: kept(place), "a trial has been kept")
    os.killpg(process.pid, signal.SIGINT)
    # Two that come while a disk makes the process wait are one.
    told = next(line for line in process.stderr if "Ctrl-C again" in line)
    assert told == "stopping: what runs ends with its best so far; Ctrl-C again ends at once\n"
    os.killpg(process.pid, signal.SIGINT)
    err = process.stderr.read()
    assert process.wait(timeout=60) == 130, err
    assert "Traceback" not in err
    assert "automl resume small" in err
    assert not (place.path / ".automl/studies/small/result.json").exists(), "the first alone would have built a result"
    observed("Ctrl-C, twice", "it ends at once, exit 130, and says how to go on")


def test_an_interrupt_builds_a_result(place: Any, wait_for: Callable[..., None], observed: Callable[..., None]) -> None:
    place.write_table(n=1000)
    place.write_study(**{**LONG, "trainer": {"max_epochs": 5000, "patience": 5000}})
    process = place.start("run", "small.yaml", "--workers", 1, "--json")
    wait_for(lambda: kept(place), "a trial has been kept")
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert json.loads(out)["trials"]["complete"] >= 1
    place.quick("predict", "small", "table.csv", "-o", "p.csv")
    observed("Ctrl-C, once", "running trials end with their best, ensemble and result are built, exit 130")


def test_sigterm_to_the_whole_group_leaves_trials_their_grace(
    place: Any, wait_for: Callable[..., None], observed: Callable[..., None]
) -> None:
    place.write_table(n=2000)
    place.write_study(**{**LONG, "trainer": {"max_epochs": 5000, "patience": 5000}})
    process = place.start("run", "small.yaml", "--workers", 1, "--json")
    journal = place.path / ".automl/studies/small/journal.log"
    wait_for(lambda: journal.is_file() and journal.read_text().count("intermediate_value") > 20, "a trial is amid")
    signalled = time.time()
    os.killpg(process.pid, signal.SIGTERM)  # as batch systems do
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    (checkpoint,) = (place.path / ".automl/studies/small/trials").glob("*/checkpoints/*.pt")
    assert checkpoint.stat().st_mtime >= signalled, "it was not kept after the signal"
    first = place.trials()[0]
    assert first.state is TrialState.WAITING
    assert "automl:losses" not in first.user_attrs
    observed("SIGTERM to the whole process group", "exit 143; trials come to the end of an epoch and keep it")


def test_two_launchers_on_one_study(place: Any, wait_for: Callable[..., None], observed: Callable[..., None]) -> None:
    place.write_table()
    place.write_study(budget={"time": "60s"}, trainer={"max_epochs": 500, "patience": 500})
    first = place.start("run", "small.yaml", "--workers", 1)
    try:
        wait_for(lambda: (place.path / ".automl/studies/small/study.json").is_file(), "the study has begun")
        ended = place.automl("run", "small.yaml", code=2)
        assert f"the study `small` is being run by process {first.pid}. Wait for it" in ended.err
        assert place.quick("studies", "--json").json["studies"][0]["status"] == "running"
    finally:
        first.terminate()
        first.communicate(timeout=60)
    assert first.returncode == 143
    observed("two launchers on one study", "the second is refused, with the first one's process id; exit 2")
