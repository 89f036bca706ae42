"""The worker with real trial processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from automl.components import catalogue
from automl.errors import NoTrialSucceeded, StorageError
from automl.recorder import Recorder
from automl.search import LEASE, MAX_LOSSES, Search, open_search
from automl.study_spec import BudgetSpec
from automl.tracking.spool import Spool
from automl.values import (
    Choice,
    Configuration,
    Direction,
    EpochReport,
    Reason,
    ReferenceResult,
    TrialResult,
    TrialState,
)
from automl.worker import Outcome, Worker, _Ended, grouped_reasons, rank

FAILING = '''
import os, time
from automl.components import register
from automl.networks.mlp import mlp

@register("network")
def {name}(inputs, n_outputs, *, seed: int = 0):
    """Does not come to an end that is any good."""
    {body}
    return mlp(inputs, n_outputs, depth=1, width=4)
'''


@dataclass
class Notes:
    """Implements `Watcher`: keeps what it is told."""

    started: list[int] = field(default_factory=list)
    epochs: list[tuple[int, int]] = field(default_factory=list)
    ended: list[TrialResult] = field(default_factory=list)
    stopped: list[tuple[int, str]] = field(default_factory=list)
    references: list[ReferenceResult] = field(default_factory=list)
    order: list[int | str] = field(default_factory=list)  # trials as they begin, references as they end
    n_interrupted: int = 0
    on_epoch: Callable[[], None] = lambda: None

    def trial_started(self, number: int) -> None:
        self.started.append(number)
        self.order.append(number)

    def epoch(self, number: int, epoch: EpochReport) -> None:
        self.epochs.append((number, epoch.epoch))
        self.on_epoch()

    def trial_ended(self, result: TrialResult) -> None:
        self.ended.append(result)

    def trial_stopped(self, number: int, why: str) -> None:
        self.stopped.append((number, why))

    def reference_ended(self, result: ReferenceResult) -> None:
        self.references.append(result)
        self.order.append(result.name)

    def interrupted(self) -> None:
        self.n_interrupted += 1


@dataclass
class Run:
    worker: Worker
    notes: Notes
    search: Search

    def __call__(self) -> Outcome:
        return self.worker.run()


def work(
    made: Any,
    *,
    slots: int = 2,
    plugins: tuple[str, ...] = (),
    references: tuple[str, ...] = (),
    until: float | None = None,
    **budget: Any,
) -> Run:
    spec = made.spec.model_copy(update={"budget": BudgetSpec(**{"trials": 3} | budget)})
    search = open_search(spec, made.prepared, made.folder)
    notes = Notes()
    recorder = Recorder(spec, made.prepared, made.folder, Spool(made.folder.spool))
    worker = Worker(
        spec,
        made.prepared,
        made.folder,
        search,
        recorder,
        notes,
        slots=slots,
        search_until=until,
        plugins=plugins,
        references=references,
    )
    return Run(worker, notes, search)


def only(name: str, **params: Any) -> dict[str, Any]:
    """Returns a space of one network."""
    network = {"name": name, "params": {"seed": {"type": "int", "low": 0, "high": 10_000}} | params}
    return {"version": 1, "network": [network], "optimizer": ["adamw"], "batch_size": 64}


@pytest.fixture
def failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Callable[..., Any]) -> Callable[[str, str], Any]:
    """What prepares a study whose only network is a plug-in's; the processes of trials load it, this one does not."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def prepared(name: str, body: str) -> Any:
        from automl.components import catalogue
        from automl.networks.mlp import mlp

        (tmp_path / f"plugin_{name}.py").write_text(FAILING.format(name=name, body=body))

        def stand_in(inputs: Any, n_outputs: int, *, seed: int = 0) -> Any:
            """Known here by its signature alone."""
            return mlp(inputs, n_outputs)

        networks = catalogue("network")
        monkeypatch.setattr(networks, "_components", dict(networks._components))
        networks.add(name, stand_in)
        return study(space=only(name))

    return prepared


def test_trials_run_until_they_are_all_done(study: Callable[..., Any]) -> None:
    made = study()
    run = work(made, references=("dummy", "linear"))
    outcome = run()
    assert outcome.ended_by == "all trials are done"
    assert not outcome.interrupted
    results = run.search.results()
    assert [result.state for result in results] == [TrialState.COMPLETE] * 3
    assert sorted(run.notes.started) == [0, 1, 2]
    assert [epoch for number, epoch in run.notes.epochs if number == 0] == [0, 1, 0, 1]  # of two folds
    points = [
        (point["name"], point["step"])
        for line in (made.folder.spool / "events.jsonl").read_text().splitlines()
        if (event := json.loads(line))["event"] == "Logged" and event["key"].endswith("trial/0")
        for point in event["metrics"]
    ]
    assert [(f"val_roc_auc/fold_{fold}", epoch) for fold in (1, 2) for epoch in (0, 1)] == [
        (name, step) for name, step in points if name.startswith("val_roc_auc")
    ]
    assert {result.name for result in outcome.references} == {"dummy", "linear"}
    assert all(result.value is not None for result in outcome.references)
    for result in results:
        assert (made.folder.trial(result.number) / "model" / "manifest.json").is_file()
        assert result.metrics["roc_auc"] == result.value
    # Going on with a spent budget runs nothing, and a larger one runs the difference.
    assert work(made)().ended_by == "all trials are done"
    more = work(made, trials=4, references=("dummy", "linear"))
    assert len(more().references) == 2
    assert more.notes.references == []
    assert more.notes.started == [3]


@pytest.mark.parametrize(("slots", "first"), [(1, ["dummy", "linear", 0]), (2, [0, "dummy"])], ids=["before", "beside"])
def test_references_take_one_of_several_slots(study: Callable[..., Any], slots: int, first: list[int | str]) -> None:
    run = work(study(), slots=slots, references=("dummy", "linear"))
    run()
    assert run.notes.order[: len(first)] == first
    assert sorted(run.notes.order, key=str) == [0, 1, 2, "dummy", "linear"]


def test_references_take_all_slots_when_the_trials_are_done(study: Callable[..., Any]) -> None:
    made = study()
    work(made)()
    run = work(made, references=("dummy", "linear"))
    assert len(run().references) == 2
    assert run.notes.started == []


def test_one_worker_slot_or_two_find_the_same(study: Callable[..., Any], trained: Callable[..., Any]) -> None:
    one, two = trained()[0], trained()[0]
    values = []
    for made, slots in ((one, 1), (two, 2)):
        run = work(made, slots=slots, trials=2)
        run()
        values.append({r.configuration.digest: r.value for r in run.search.results() if r.configuration})
    assert values[0] == values[1]


SLOW = """
import time
from automl.components import register
from sklearn.preprocessing import StandardScaler

@register("scaling")
def slow(task):
    '''Takes long enough to be worth keeping.'''
    time.sleep(0.5)
    return StandardScaler()
"""


def test_trials_of_a_study_share_a_cache(
    study: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plugin_slow.py").write_text(SLOW)
    monkeypatch.syspath_prepend(str(tmp_path))
    scalings = catalogue("scaling")
    monkeypatch.setattr(scalings, "_components", dict(scalings._components))
    scalings.add("slow", scalings["standard"].factory)  # known here by its signature alone
    network = {"name": "mlp", "params": {"width": {"type": "int", "low": 4, "high": 32}}}
    space = {"version": 1, "preprocessing": [{"stage": "scaling", "options": ["slow"]}], "network": [network]}
    made = study(space=space | {"optimizer": ["adamw"], "batch_size": 64})
    run = work(made, slots=1, trials=2, plugins=("plugin_slow",))
    run()
    assert [result.repeat_of for result in run.search.results()] == [None, None]
    entries = list(made.folder.cache.iterdir())
    used = [entry for entry in entries if entry.stat().st_mtime_ns > (entry / "document.skops").stat().st_mtime_ns]
    assert len(used) == 2  # by the second trial: the longest beginning of each fold


def test_a_space_without_choices_ends_when_nothing_is_new(study: Callable[..., Any]) -> None:
    space = {"version": 1, "network": ["mlp"], "optimizer": ["adamw"], "batch_size": 64}
    run = work(study(space=space), slots=1, trials=1000)
    assert "every configuration" in run().ended_by
    results = run.search.results()
    assert results[0].repeat_of is None
    assert all(result.repeat_of == 0 and result.value == results[0].value for result in results[1:])
    assert run.notes.started == [0]


@pytest.mark.parametrize(
    ("name", "body", "reason", "said"),
    [
        ("raises", 'raise ValueError("cannot")', Reason.ERROR, "ValueError: cannot"),
        ("dies", "os.kill(os.getpid(), 9)", Reason.ERROR, "its process was ended by SIGKILL, as before"),
        ("out_of_memory", 'raise MemoryError("full")', Reason.OOM, "ran out of memory: full"),
    ],
)
def test_when_nothing_works_the_study_says_why(
    failing: Callable[..., Any], name: str, body: str, reason: Reason, said: str
) -> None:
    made = failing(name, body)
    run = work(made, plugins=(f"plugin_{name}",), max_consecutive_failures=2, trials=10)
    with pytest.raises(NoTrialSucceeded) as caught:
        run()
    assert f"2 x {reason}: {said}" in str(caught.value)
    assert "run it with `--new-name`" in str(caught.value)
    failed = [result for result in run.search.results() if result.reason is reason]
    assert len(failed) == 2
    assert not made.folder.trial(0).exists()


def test_a_trial_that_takes_too_long_is_ended(failing: Callable[..., Any]) -> None:
    made = failing("sleeps", "time.sleep(60)")
    run = work(made, plugins=("plugin_sleeps",), trials=1, trial_time=1.0)
    run()
    (result,) = run.search.results()
    assert (result.state, result.reason) == (TrialState.FAILED, Reason.TIMEOUT)
    assert result.seconds < 20


def test_an_interrupt_keeps_the_best_so_far(study: Callable[..., Any]) -> None:
    made = study(trainer={"max_epochs": 10_000, "patience": 10_000, "accelerator": "cpu"}, pruner={"name": "none"})
    run = work(made, slots=1, trials=50)
    run.notes.on_epoch = run.worker.interrupt
    watchdog = threading.Timer(60, run.worker.interrupt)
    watchdog.start()
    outcome = run()
    watchdog.cancel()
    assert outcome.interrupted
    assert run.notes.n_interrupted == 1
    (result,) = run.search.results()
    assert result.state is TrialState.COMPLETE
    assert result.n_epochs < 20_000


def test_a_trial_of_a_dead_worker_is_run_before_new_ones(study: Callable[..., Any]) -> None:
    made = study()
    search = open_search(made.spec, made.prepared, made.folder)
    claim = search.claim()
    search.begin(claim)
    lease = claim.trial.user_attrs[LEASE]
    claim.trial.set_user_attr(LEASE, lease | {"process_started": 1.0})
    run = work(made, trials=1)
    run()
    (result,) = run.search.results()
    assert (result.number, result.configuration) == (claim.number, claim.configuration)
    assert result.state is TrialState.COMPLETE


def test_the_run_of_a_trial_that_died_too_often_shows_it(study: Callable[..., Any]) -> None:
    made = study(pruner={"name": "none"})
    first = work(made, slots=1, trials=1)
    first.notes.on_epoch = lambda: first.worker.abort(SystemExit(143))
    with pytest.raises(SystemExit):
        first()
    for _ in range(MAX_LOSSES):
        search = open_search(made.spec, made.prepared, made.folder)
        claim = search.claim()
        assert claim.number == 0
        search.begin(claim)  # the worker dies before it has recorded that
        claim.trial.set_user_attr(LEASE, claim.trial.user_attrs[LEASE] | {"process_started": 1.0})
        search.take_back_lost()
    work(made, slots=1, trials=1)()
    events = [json.loads(line) for line in (made.folder.spool / "events.jsonl").read_text().splitlines()]
    states = [e["state"] for e in events if e["event"] == "RunClosed" and e["key"].endswith("/trial/0")]
    assert states == ["stopped", "failed"]


def test_what_goes_wrong_in_the_worker_gives_its_trials_back(study: Callable[..., Any]) -> None:
    made = study(trainer={"max_epochs": 10_000, "patience": 10_000, "accelerator": "cpu"})
    run = work(made, slots=1)

    def fail() -> None:
        raise KeyboardInterrupt

    run.notes.on_epoch = fail
    with pytest.raises(KeyboardInterrupt):
        run()
    assert run.search.results() == ()
    (begun,) = run.notes.started
    again, ahead = run.search.claim(), run.search.claim()
    assert again.number == begun
    assert ahead.number == begun + 1  # claimed while the other ran, and put back


def test_an_abort_gives_back_what_runs(study: Callable[..., Any]) -> None:
    made = study(trainer={"max_epochs": 10_000, "patience": 10_000, "accelerator": "cpu"})
    run = work(made, slots=1)
    run.notes.on_epoch = lambda: run.worker.abort(SystemExit(143))
    with pytest.raises(SystemExit, match="143"):
        run()
    assert run.search.results() == ()
    assert run.search.claim().number == 0


@pytest.mark.slow
def test_a_trial_is_kept_in_the_time_of_grace_and_comes_out_as_if_it_had_not_been(study: Callable[..., Any]) -> None:
    n_epochs = 60  # of each fold: however late the word arrives, it arrives in one of them
    made = study(trainer={"max_epochs": n_epochs, "patience": n_epochs, "accelerator": "cpu"}, pruner={"name": "none"})
    whole = work(made, slots=1, trials=2)
    whole()
    expected = whole.search.results()
    made.folder.journal.unlink()
    shutil.rmtree(made.folder.spool)
    first = work(made, slots=1, trials=2)
    first.notes.on_epoch = lambda: len(first.notes.epochs) == 4 and first.worker.abort(SystemExit(143), 30.0)
    with pytest.raises(SystemExit, match="143"):
        first()
    kept = [path.name for path in (made.folder.trial(0) / "checkpoints").iterdir()]
    assert kept in (["0.pt"], ["1.pt"])
    assert 4 <= len(first.notes.epochs) < 2 * n_epochs
    second = work(made, slots=1, trials=2)
    second()
    assert second.notes.epochs[0] == (0, 0)  # told again, not trained again
    found = second.search.results()
    assert [(r.value, r.metrics, r.n_epochs) for r in found] == [(r.value, r.metrics, r.n_epochs) for r in expected]
    assert not (made.folder.trial(0) / "checkpoints").exists()
    events = [json.loads(line) for line in (made.folder.spool / "events.jsonl").read_text().splitlines()]
    logged = [e for e in events if e["event"] == "Logged" and e["key"].endswith("/trial/0")]
    steps = [point["step"] for e in logged for point in e["metrics"] if point["name"] == "val_roc_auc/fold_1"]
    assert steps == list(range(n_epochs))
    states = [e["state"] for e in events if e["event"] == "RunClosed" and e["key"].endswith("/trial/0")]
    assert states == ["stopped", "complete"]


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_is_gone_on_with(study: Callable[..., Any]) -> None:
    made = study(trainer={"max_epochs": 400, "patience": 400, "accelerator": "cpu"}, pruner={"name": "none"})
    run = work(made, slots=1, trials=1)
    killed: list[int] = []

    def kill() -> None:
        if len(run.notes.epochs) == 3:
            (running,) = run.worker._running
            killed.append(running.call.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    run.notes.on_epoch = kill
    run()
    (result,) = run.search.results()
    assert killed
    assert result.state is TrialState.COMPLETE
    assert run.notes.started == [0, 0]
    assert run.notes.stopped == [(0, "its process was ended by SIGKILL")]


def test_a_trial_that_cannot_be_written_ends_the_study_and_waits(failing: Callable[..., Any]) -> None:
    body = "from automl.errors import StorageError; raise StorageError('the disk is full')"
    made = failing("fills_the_disk", body)
    run = work(made, slots=1, plugins=("plugin_fills_the_disk",), trials=3)
    with pytest.raises(StorageError, match="the disk is full"):
        run()
    assert run.search.results() == ()
    assert run.search.claim().number == 0


def test_an_abort_after_the_last_turn_is_not_lost(study: Callable[..., Any]) -> None:
    run = work(study(), slots=1, trials=1)
    assert run().ended_by == "all trials are done"
    run.worker.raise_if_aborted()
    run.worker.abort(SystemExit(143))
    with pytest.raises(SystemExit, match="143"):
        run.worker.raise_if_aborted()


# --- values ----------------------------------------------------------------------------------------------------------


def result(number: int, value: float | None, **changes: Any) -> TrialResult:
    network = Choice("mlp")
    configuration = Configuration((), network, Choice("adamw"), Choice("constant"), Choice("mse"), 32)
    state = TrialState.COMPLETE if value is not None else TrialState.FAILED
    return TrialResult(number, state, configuration, value, **changes)


@pytest.mark.parametrize(("direction", "order"), [(Direction.MINIMIZE, [1, 0, 3]), (Direction.MAXIMIZE, [0, 3, 1])])
def test_trials_are_ranked_best_first_and_the_earlier_of_equals(direction: Direction, order: list[int]) -> None:
    results = [result(3, 0.5), result(0, 0.5), result(1, 0.25), result(2, None)]
    assert [ranked.number for ranked in rank(results, direction)] == order


def test_reasons_are_counted_the_most_frequent_first() -> None:
    nan = {"reason": Reason.NAN, "message": "diverged"}
    oom = {"reason": Reason.OOM, "message": "full"}
    results = [result(0, None, **oom), result(1, None, **nan), result(2, None, **nan), result(3, 0.5)]
    assert grouped_reasons(results) == "no trial succeeded; 2 x nan: diverged; 1 x oom: full"


def test_a_trial_for_which_there_is_no_time_is_not_begun(study: Callable[..., Any]) -> None:
    made = study()
    first = work(made, slots=1, trials=1)
    first()
    (ended,) = first.notes.ended
    again = work(made, slots=1, trials=5, until=time.monotonic() + 1.0)
    outcome = again()
    assert (outcome.ended_by, again.notes.started) == ("the time is spent", [])
    assert ended.configuration is not None
    third = work(made, slots=1, trials=5, until=time.monotonic() + 60)
    assert third.worker._fits(ended.configuration)
    slow = replace(ended, seconds=1e6)  # one epoch takes longer than is left
    third.worker._ended = _Ended([slow], made.prepared.direction)
    assert not third.worker._fits(ended.configuration)
    other = replace(ended.configuration, network=Choice("gandalf"))
    assert third.worker._fits(other)  # nothing is known of it
