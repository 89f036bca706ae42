from __future__ import annotations

import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest

from automl import search as search_module
from automl.errors import StorageError
from automl.search import LEASE, Claim, Search, look, open_search
from automl.study_spec import PrunerSpec, SamplerSpec
from automl.values import Direction, EpochReport, Reason, TrialResult, TrialState

SAMPLERS = get_args(SamplerSpec.model_fields["name"].annotation)
PRUNERS = get_args(PrunerSpec.model_fields["name"].annotation)


@pytest.fixture
def opened(study: Callable[..., Any]) -> Callable[..., Search]:
    """What opens the search of one and the same study, again at each call."""
    made = study()

    def open_again(**spec: Any) -> Search:
        return open_search(made.spec.model_copy(update=spec), made.prepared, made.folder)

    open_again.made = made  # type: ignore[attr-defined]
    return open_again


def begun(search: Search) -> Claim:
    """Claims a trial and begins to work on it."""
    claim = search.claim()
    search.begin(claim)
    return claim


def complete(claim: Claim, value: float = 0.5, **changes: Any) -> TrialResult:
    result = TrialResult(
        claim.number, TrialState.COMPLETE, claim.configuration, value, {"roc_auc": value, "log_loss": 0.25}, 1.5, 3
    )
    return replace(result, **changes)


def dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def kill_worker_of(claim: Claim) -> None:
    """Makes the lease that of a process that is gone."""
    lease = claim.trial.user_attrs[LEASE]
    claim.trial.set_user_attr(LEASE, lease | {"pid": dead_pid(), "process_started": 1.0})


def taken_back(search: Search) -> tuple[list[int], list[TrialResult]]:
    """Returns the trials that wait now and did not before, and those that were ended."""
    before = search.waiting()
    ended = search.take_back_lost()
    return [number for number in search.waiting() if number not in before], ended


def test_what_is_told_is_what_is_read(opened: Callable[..., Search]) -> None:
    search = opened()
    told = []
    for state in TrialState:
        claim = begun(search)
        assert claim.number == len(told)
        result = complete(claim, seen=("a sentence",))
        if state is TrialState.FAILED:
            result = TrialResult(
                claim.number, state, claim.configuration, seconds=1.0, reason=Reason.NAN, message="diverged"
            )
        elif state is TrialState.PRUNED:
            search.report(claim, EpochReport(0, 0.4, {}))
            result = replace(result, state=state, value=0.4)
        search.tell(claim, result)
        told.append(result)
    assert search.results() == tuple(told)
    assert opened().results() == tuple(told)
    made = opened.made  # type: ignore[attr-defined]
    assert look(made.folder, made.spec.name) == tuple(told)


def test_a_running_trial_has_no_result(opened: Callable[..., Search]) -> None:
    search = opened()
    begun(search)
    assert search.results() == ()


def test_looking_at_a_study_that_has_not_begun_finds_nothing(opened: Callable[..., Search]) -> None:
    made = opened.made  # type: ignore[attr-defined]
    assert look(made.folder, made.spec.name) == ()
    opened()
    assert look(made.folder, "another") == ()


def test_the_queue_comes_first_and_holds_nothing_twice(opened: Callable[..., Search]) -> None:
    search = opened()
    made = opened.made  # type: ignore[attr-defined]
    for parameters in made.prepared.starts:
        search.enqueue(parameters)
        opened().enqueue(parameters)
    first, second = begun(search), begun(search)
    flat = first.configuration.flatten()
    assert {name: flat[name] for name in made.prepared.starts[0]} == made.prepared.starts[0]
    assert second.configuration.digest != first.configuration.digest


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_runs_on_a_conditional_space(opened: Callable[..., Search], sampler: str) -> None:
    search = opened(sampler=SamplerSpec(name=sampler))
    for _ in range(5):
        claim = begun(search)
        search.tell(claim, complete(claim, 1 / (1 + claim.number)))
    assert len({result.configuration.digest for result in search.results() if result.configuration}) > 1


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_stops_the_bad_and_spares_the_good(opened: Callable[..., Search], pruner: str) -> None:
    search = opened(pruner=PrunerSpec(name=pruner))
    bad, good = bad_and_good(opened)
    for _ in range(12):
        claim = begun(search)
        assert not judged(search, claim, good)
        search.tell(claim, complete(claim, good))
    # Hyperband deals trials to brackets, of which the last prunes nothing.
    verdicts = [judged(search, begun(search), bad) for _ in range(6)]
    assert any(verdicts) == (pruner != "none")


def test_what_comes_after_the_first_fold_is_not_compared(opened: Callable[..., Search]) -> None:
    search = opened(pruner=PrunerSpec(name="median"))
    claim = begun(search)
    assert not search.report(claim, EpochReport(7, 0.0, {}, fold=1))
    search.tell(claim, complete(claim))
    made = opened.made  # type: ignore[attr-defined]
    stored = optuna.load_study(study_name=made.spec.name, storage=search_module._storage(made.folder))
    assert stored.trials[0].intermediate_values == {}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_seed_decides_what_is_proposed(study: Callable[..., Any], tmp_path: Path, sampler: str) -> None:
    made = study()

    def proposed(name: str, seed: int) -> list[str]:
        spec = made.spec.model_copy(update={"sampler": SamplerSpec(name=sampler), "seed": seed})
        search = open_search(spec, made.prepared, replace(made.folder, path=tmp_path / name))
        digests = []
        for _ in range(12 if sampler == "tpe" else 4):  # its model begins after ten random ones
            claim = begun(search)
            digests.append(claim.configuration.digest)
            search.tell(claim, complete(claim, (int(digests[-1][:4], 16) % 97) / 97))
        return digests

    first = proposed("first", 3)
    assert proposed("second", 3) == first
    assert proposed("third", 4) != first


def test_a_study_that_goes_on_draws_new_numbers(opened: Callable[..., Search]) -> None:
    digests = []
    for _ in range(2):
        search = opened()
        for _ in range(3):
            claim = begun(search)
            digests.append(claim.configuration.digest)
            search.tell(claim, complete(claim))
    assert len(set(digests)) == 6


# --- trials whose worker is gone -----------------------------------------------------------------------------------


def test_the_trial_of_a_living_process_is_left_alone(opened: Callable[..., Search]) -> None:
    search = opened()
    begun(search)
    assert taken_back(search) == ([], [])
    assert taken_back(opened()) == ([], [])


def test_a_lost_trial_waits_and_is_gone_on_with(opened: Callable[..., Search]) -> None:
    search = opened()
    claim = begun(search)
    search.report(claim, EpochReport(0, 0.5, {}))
    kill_worker_of(claim)
    assert taken_back(opened()) == ([0], [])
    assert taken_back(opened()) == ([], [])
    assert opened().results() == ()
    again = begun(search)
    assert (again.number, again.configuration, again.last_step) == (0, claim.configuration, 0)


def test_what_was_reported_before_is_not_reported_again(
    opened: Callable[..., Search], recwarn: pytest.WarningsRecorder
) -> None:
    search = opened()
    claim = begun(search)
    for step in range(3):
        search.report(claim, EpochReport(step, 0.5, {}))
    search.put_back(claim)
    again = begun(search)
    for step in range(5):
        assert not search.report(again, EpochReport(step, 0.7, {}))
    values = search._study.trials[0].intermediate_values
    assert values == {0: 0.5, 1: 0.5, 2: 0.5, 3: 0.7, 4: 0.7}
    assert not recwarn.list


@pytest.mark.parametrize("epochs_between", [0, 1])
def test_what_kills_its_workers_without_coming_further_is_given_up(
    opened: Callable[..., Search], epochs_between: int
) -> None:
    search = opened()
    number = 0
    for death in range(5):
        claim = begun(search)
        assert claim.number == number
        for step in range(death * epochs_between):
            search.report(claim, EpochReport(step, 0.5, {}))
        kill_worker_of(claim)
        waiting, ended = taken_back(opened())
        if epochs_between or death % 2 == 0:
            assert (waiting, ended) == ([number], [])
        else:
            assert waiting == []
            assert [(r.number, r.state, r.reason) for r in ended] == [(number, TrialState.FAILED, Reason.LOST)]
            assert "2 times" in ended[0].message
            assert search.results()[-1] == ended[0]
            number += 1


def test_a_trial_whose_process_died_waits_once(opened: Callable[..., Search]) -> None:
    search = opened()
    assert search.lose(begun(search))
    again = begun(search)
    assert again.number == 0
    assert not search.lose(again)


def test_a_late_word_on_a_lost_trial_is_refused(opened: Callable[..., Search]) -> None:
    search = opened()
    claim = begun(search)
    kill_worker_of(claim)
    with pytest.raises(StorageError, match="taken over by process"):
        search.tell(claim, complete(claim))
    assert opened().results() == ()
    assert taken_back(opened()) == ([0], [])
    search.tell(begun(search), complete(claim))
    (result,) = opened().results()
    assert result.state is TrialState.COMPLETE


def test_a_lease_of_another_machine_holds_until_it_runs_out(opened: Callable[..., Search]) -> None:
    search = opened()
    claim = begun(search)
    lease = claim.trial.user_attrs[LEASE] | {"host": "elsewhere"}
    claim.trial.set_user_attr(LEASE, lease)
    assert taken_back(opened()) == ([], [])
    claim.trial.set_user_attr(LEASE, lease | {"expires": 0.0})
    assert taken_back(opened()) == ([0], [])


CLAIM_AND_DIE = """
import os, signal, sys
from pathlib import Path
from automl.search import open_search
from automl.study_folder import Prepared, StudyFolder, read_json
from automl.study_spec import build
folder = StudyFolder(Path(sys.argv[1]))
spec = build(read_json(folder.spec), where="study.json")
search = open_search(spec, Prepared.from_json(read_json(folder.prepared)), folder)
claim = search.claim()
search.begin(claim)
print(claim.configuration.digest, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_worker_killed_with_a_trial_loses_it_to_the_next(opened: Callable[..., Search]) -> None:
    made = opened.made  # type: ignore[attr-defined]
    killed = subprocess.run(
        [sys.executable, "-c", CLAIM_AND_DIE, str(made.folder.path)], capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    search = opened()
    assert taken_back(search) == ([0], [])
    assert begun(search).configuration.digest == killed.stdout.strip()


def test_half_a_line_that_a_crash_has_left_is_taken_away(opened: Callable[..., Search]) -> None:
    search = opened()
    claim = begun(search)
    search.tell(claim, complete(claim))
    journal = opened.made.folder.journal  # type: ignore[attr-defined]
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 6, "worker_id')
    again = opened()
    assert len(again.results()) == 1
    claim = begun(again)
    again.tell(claim, complete(claim))
    assert len(opened().results()) == 2


def test_a_journal_that_is_damaged_in_its_middle_is_told(opened: Callable[..., Search]) -> None:
    begun(opened())
    journal = opened.made.folder.journal  # type: ignore[attr-defined]
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2][:9], *lines[3:]]))
    for look_at_it in (opened, lambda: look(opened.made.folder, "boring-binary")):  # type: ignore[attr-defined]
        with pytest.raises(
            StorageError, match=r"journal.log: cannot be read: .* put a copy of the study's folder back"
        ):
            look_at_it()


def test_the_lock_of_a_writer_that_was_killed_holds_nobody_up(opened: Callable[..., Search]) -> None:
    search = opened()
    begun(search)
    journal = opened.made.folder.journal  # type: ignore[attr-defined]
    lock = journal.with_name(journal.name + ".lock")
    lock.symlink_to(journal)
    opened()
    assert not lock.is_symlink()


def test_a_disk_that_is_full_leaves_no_half_of_a_line(
    opened: Callable[..., Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = opened()
    claim = begun(search)

    def half(backend: Any, logs: list[dict[str, Any]]) -> None:
        with open(backend._file_path, "ab") as file:
            file.write(b'{"op_code": 6, "wor')
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(optuna.storages.journal.JournalFileBackend, "append_logs", half)
        with pytest.raises(OSError, match="No space"):
            search.tell(claim, complete(claim))
    search.tell(claim, complete(claim))
    assert len(opened().results()) == 1


def test_seconds_add_up_over_launches(opened: Callable[..., Search]) -> None:
    opened().add_seconds(10)
    again = opened()
    assert again.seconds == 10
    again.add_seconds(5)
    assert opened().seconds == 15


def judged(search: Search, claim: Claim, value: float) -> bool:
    """Whether a trial that stays at `value` is pruned."""
    verdicts = [search.report(claim, EpochReport(epoch, value, {})) for epoch in range(40)]
    return any(verdicts)


def bad_and_good(opened: Callable[..., Search]) -> tuple[float, float]:
    direction = opened.made.prepared.direction  # type: ignore[attr-defined]
    return (1.0, 0.0) if direction is Direction.MINIMIZE else (0.0, 1.0)


@pytest.mark.parametrize("pruner", PRUNERS)
def test_start_points_are_not_pruned_and_others_are_held_against_them(
    opened: Callable[..., Search], pruner: str
) -> None:
    search = opened(pruner=PrunerSpec(name=pruner))
    bad, good = bad_and_good(opened)
    starts = [{**opened.made.prepared.starts[0], "number": number} for number in range(12)]  # type: ignore[attr-defined]
    for number, parameters in enumerate(starts):
        search.enqueue(parameters)
        claim = begun(search)
        assert not judged(search, claim, good if number else bad)
        search.tell(claim, complete(claim, good if number else bad))
    verdicts = [judged(search, begun(search), bad) for _ in range(6)]
    assert any(verdicts) == (pruner != "none")


def test_a_start_point_whose_worker_died_before_it_was_sampled_waits_again(opened: Callable[..., Search]) -> None:
    search = opened()
    start = opened.made.prepared.starts[0]  # type: ignore[attr-defined]
    search.enqueue(start)
    taken = search._study.ask()
    assert taken.params == {}
    assert taken_back(search) == ([], [])
    claim = search.claim()
    flat = claim.configuration.flatten()
    assert (claim.number, claim.trial.number) == (taken.number, 0)
    assert {name: flat[name] for name in start} == start
    assert claim.trial.user_attrs["automl:start"]


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_claimed_and_not_begun_waits_as_it_was_sampled(opened: Callable[..., Search], killed: bool) -> None:
    search = opened()
    claim = search.claim()
    if killed:
        kill_worker_of(claim)
    else:
        search.put_back(claim)
    again = opened()
    assert taken_back(again) == ([], [])
    assert again.results() == ()
    taken = again.claim()
    assert (taken.number, taken.configuration) == (claim.number, claim.configuration)
    assert again.claim().number == claim.number + 1


def test_a_death_before_a_trial_is_begun_again_is_not_counted(opened: Callable[..., Search]) -> None:
    search = opened()
    kill_worker_of(begun(search))
    assert taken_back(search) == ([0], [])
    for _ in range(3):
        again = opened()
        kill_worker_of(again.claim())
        assert again.take_back_lost() == []
        assert again.waiting() == [0]
    kill_worker_of(begun(opened()))
    (ended,) = opened().take_back_lost()
    assert ended.reason is Reason.LOST


def test_a_trial_that_ended_but_for_the_last_word_is_not_run_again(opened: Callable[..., Search]) -> None:
    claim = begun(opened())
    result = complete(claim)
    claim.trial.set_user_attr(search_module.RESULT, search_module._result_to_json(result))
    kill_worker_of(claim)
    search = opened()
    waiting, ended = taken_back(search)
    assert (waiting, [end.number for end in ended]) == ([], [claim.number])
    (found,) = opened().results()
    assert (found.state, found.value) == (result.state, result.value)


def test_a_trial_that_comes_further_in_later_folds_is_not_given_up(opened: Callable[..., Search]) -> None:
    for fold in (1, 2, 4):
        search = opened()
        claim = begun(search)
        search.report(claim, EpochReport(step=0, value=0.5, metrics={}, fold=fold))
        kill_worker_of(claim)
        assert taken_back(opened()) == ([0], [])
    search = opened()
    kill_worker_of(begun(search))
    (waiting, (lost,)) = taken_back(opened())
    assert (waiting, lost.reason) == ([], Reason.LOST)
