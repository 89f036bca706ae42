"""The search: Optuna proposes, prunes and remembers. Beside it, only `samplers` and `search_space` know Optuna.

Optuna's storage is the truth about a study. What is written on each trial beside Optuna's own: its configuration, the
lease of whoever works on it, and its result; so everything can be read with Optuna alone.
"""

from __future__ import annotations

import functools
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import psutil
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import LOCK_FILE_SUFFIX
from optuna.trial import TrialState as OptunaState

from automl.errors import StorageError
from automl.samplers import sampler
from automl.search_space import SearchSpace
from automl.study_folder import Prepared, StudyFolder
from automl.study_spec import StudySpec
from automl.values import Configuration, EpochReport, Reason, Scalar, TrainerSettings, TrialResult, TrialState

CONFIGURATION = "automl:configuration"
LEASE = "automl:lease"
LOSSES = "automl:losses"
PROGRESS = "automl:progress"
RESULT = "automl:result"
SECONDS = "automl:seconds"
START = "automl:start"

#: Epochs before which a score says little. On a table so large that an epoch is scored in parts, one part says more.
FIRST_STEPS = 3

#: Times that a trial's worker or process may die with it, without an epoch more in between.
MAX_LOSSES = 2

#: Seconds that a lease lasts; it is renewed at a third of that.
LEASE_S = 60.0

#: Seconds by which the start of one process may be told differently, when the clock was set meanwhile.
CLOCK_S = 2.0

_OPTUNA_STATE = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}


@dataclass(frozen=True, slots=True)
class Claim:
    """A trial that this process works on, or will.

    Attributes:
        last_step: Of the epochs that were reported when it was claimed, by whoever worked on it before; -1 for none.
    """

    trial: optuna.Trial
    configuration: Configuration
    last_step: int = -1

    @property
    def number(self) -> int:
        return self.trial.number


class Search:
    """The trials of one study: claimed, reported on, told.

    Args:
        study: Where the trials are stored.
        space: What they sample; None to look only.
        modules: Networks of the space that are LightningModules.
    """

    def __init__(self, study: optuna.Study, space: SearchSpace | None = None, modules: Sequence[str] = ()) -> None:
        self._study = study
        self._space = space
        self._modules = modules
        self._renewed = self._began = time.monotonic()
        #: Wall-clock seconds that earlier launches have spent on this study.
        self.seconds = float(study.user_attrs.get(SECONDS, 0.0))

    def add_seconds(self, seconds: float) -> None:
        """Records what this launch has spent so far on top of earlier ones."""
        self._study.set_user_attr(SECONDS, self.seconds + seconds)

    def enqueue(self, parameters: Mapping[str, Scalar]) -> None:
        """Queues a start point, unless it was there before. It is not pruned: others are held against it."""
        self._study.enqueue_trial(dict(parameters), user_attrs={START: True}, skip_if_exists=True)

    def claim(self) -> Claim:
        """Returns a trial under a lease of this process: one that waits, or a new one."""
        assert self._space is not None
        trial = self._study.ask()
        trial.set_user_attr(LEASE, _lease())
        return Claim(trial, self._space.suggest(trial, self._modules), _last_step(trial))

    def begin(self, claim: Claim) -> None:
        """Records that the work on a claimed trial begins."""
        claim.trial.set_user_attr(CONFIGURATION, claim.configuration.to_json())
        claim.trial.set_user_attr(LEASE, _lease(begun=True))

    def put_back(self, claim: Claim) -> None:
        """Lets a claimed trial wait for whoever goes on with the study."""
        self._study._storage.set_trial_state_values(claim.trial._trial_id, OptunaState.WAITING)

    def lose(self, claim: Claim) -> bool:
        """Lets a trial wait whose process died with it, and returns whether it does: not once it has died too often."""
        return self._lose(self._study._storage.get_trial(claim.trial._trial_id))

    def report(self, claim: Claim, epoch: EpochReport) -> bool:
        """Records an epoch and returns whether the trial should be pruned. Later folds are not compared."""
        if epoch.fold > 0:
            claim.trial.set_user_attr(PROGRESS, [epoch.fold, epoch.step])
            return False
        if epoch.step <= claim.last_step:
            return False
        claim.trial.report(epoch.value, epoch.step)
        pruned = claim.trial.should_prune()  # asked in any case: some pruners note the trial's rank as they answer
        return pruned and START not in claim.trial.user_attrs

    def renew(self, claims: list[Claim]) -> None:
        """Renews the leases on the trials whose work this process has begun, when it is time.

        Raises:
            StorageError: As `tell`.
        """
        if time.monotonic() - self._renewed > LEASE_S / 3:
            self._renewed = time.monotonic()
            self.add_seconds(self._renewed - self._began)
            for claim in claims:
                self._check_lease(claim)
                claim.trial.set_user_attr(LEASE, _lease(begun=True))

    def tell(self, claim: Claim, result: TrialResult) -> None:
        """Ends a trial.

        Raises:
            StorageError: It was taken for lost in the meantime, and another worker has it.
        """
        self._check_lease(claim)
        claim.trial.set_user_attr(RESULT, _result_to_json(result))
        self._end(claim.trial, result)

    def take_back_lost(self) -> list[TrialResult]:
        """Lets trials wait whose worker is gone.

        Returns:
            The ends of those that had ended but for the last word, and of those that died too often.
        """
        ended = []
        for trial in self._orphans():
            held = optuna.Trial(self._study, trial._trial_id)
            if RESULT in trial.user_attrs:
                result = _result(trial)
                self._end(held, result)
                ended.append(result)
            elif not trial.user_attrs.get(LEASE, {}).get("begun"):  # claimed ahead: nothing died with it
                self._study._storage.set_trial_state_values(trial._trial_id, OptunaState.WAITING)
            elif not self._lose(trial):
                lost = TrialResult(
                    trial.number,
                    TrialState.FAILED,
                    Configuration.from_json(trial.user_attrs[CONFIGURATION]),
                    reason=Reason.LOST,
                    message=f"its worker died {MAX_LOSSES} times before it ended",
                )
                held.set_user_attr(RESULT, _result_to_json(lost))
                self._end(held, lost)
                ended.append(lost)
        return ended

    def orphans(self) -> list[int]:
        """Returns the numbers of trials whose worker is gone."""
        return [trial.number for trial in self._orphans()]

    def waiting(self) -> list[int]:
        """Returns the numbers of trials that had begun and wait for whoever goes on with the study."""
        trials = self._study.get_trials(deepcopy=False, states=[OptunaState.WAITING])
        return [trial.number for trial in trials if CONFIGURATION in trial.user_attrs]

    def results(self) -> tuple[TrialResult, ...]:
        """Returns every trial that has ended, by number."""
        ended = self._study.get_trials(deepcopy=False, states=tuple(_OPTUNA_STATE.values()))
        return tuple(_result(trial) for trial in ended)

    def _end(self, trial: optuna.Trial, result: TrialResult) -> None:
        value = result.value if result.state is TrialState.COMPLETE else None
        self._study.tell(trial, value, state=_OPTUNA_STATE[result.state])

    def _check_lease(self, claim: Claim) -> None:
        """Raises StorageError for a trial that another worker has taken over; asked of the storage, which knows."""
        held = self._study._storage.get_trial(claim.trial._trial_id).user_attrs[LEASE]
        if {name: held[name] for name in _me(os.getpid())} != _me(os.getpid()):
            raise StorageError(f"trial {claim.number} was taken over by process {held['pid']} on {held['host']}")

    def _orphans(self) -> list[optuna.trial.FrozenTrial]:
        running = self._study.get_trials(deepcopy=False, states=[OptunaState.RUNNING])
        return [trial for trial in running if not _is_held(trial.user_attrs.get(LEASE))]

    def _lose(self, trial: optuna.trial.FrozenTrial) -> bool:
        fold, step = trial.user_attrs.get(PROGRESS, (0, -1 if trial.last_step is None else trial.last_step))
        before = trial.user_attrs.get(LOSSES, {"n": 0, "fold": 0, "step": -1})
        n = 1 if (fold, step) > (before["fold"], before["step"]) else before["n"] + 1
        storage = self._study._storage
        if n < MAX_LOSSES:  # first: a death between these two lines is not counted twice
            storage.set_trial_state_values(trial._trial_id, OptunaState.WAITING)
        storage.set_trial_user_attr(trial._trial_id, LOSSES, {"n": n, "fold": fold, "step": step})
        return n < MAX_LOSSES


def open_search(spec: StudySpec, prepared: Prepared, folder: StudyFolder) -> Search:
    """Returns the search of a study, made if there is none; the caller holds the study.

    Raises:
        StorageError: The journal cannot be read or written.
    """
    clear_up(folder.journal)
    study = optuna.create_study(
        study_name=spec.name,
        storage=_storage(folder),
        direction=prepared.direction.value,
        pruner=_pruner(spec.pruner.name, spec.trainer.settings(prepared.n_train)),
        load_if_exists=True,
    )
    # A study that goes on must not draw the random numbers of its first part again.
    study.sampler = sampler(spec.sampler.name, spec.seed + len(study.get_trials(deepcopy=False)))
    return Search(study, prepared.space, prepared.modules)


def look_into(folder: StudyFolder, name: str) -> Search | None:
    """Returns the search of a study to look at, None before its first trial.

    Raises:
        StorageError: The journal cannot be read.
    """
    if not folder.journal.is_file():
        return None
    try:
        return Search(optuna.load_study(study_name=name, storage=_storage(folder)))
    except KeyError:
        return None


def look(folder: StudyFolder, name: str) -> tuple[TrialResult, ...]:
    """Returns the trials of a study that have ended; none before its first.

    Raises:
        StorageError: The journal cannot be read.
    """
    search = look_into(folder, name)
    return () if search is None else search.results()


class _JournalFile(JournalFileBackend):
    """Optuna's journal, of which a full disk leaves no half of a line; Optuna could never read it again."""

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        size = os.path.getsize(self._file_path)
        try:
            super().append_logs(logs)
        except OSError:
            os.truncate(self._file_path, size)  # who holds the study is its only writer
            raise


def _storage(folder: StudyFolder) -> optuna.storages.JournalStorage:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        storage = optuna.storages.JournalStorage(_JournalFile(str(folder.journal)))
        storage.get_all_studies()  # to read it now
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"cannot be read: {error}",
            where=str(folder.journal),
            remedy="It is damaged: put a copy of the study's folder back, or begin anew with `--new-name`.",
        ) from error
    return storage


def clear_up(journal: Path) -> None:
    """Takes away what a crash has left of a line that was being written, and Optuna's lock, which outlives its owner.

    Optuna itself would wait for that lock for half a minute, and would write the next line onto the half one. The
    caller holds the study, so nobody else has the lock, or is writing.
    """
    journal.with_name(journal.name + LOCK_FILE_SUFFIX).unlink(missing_ok=True)
    if journal.is_file():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(journal, whole)


def _pruner(name: str, settings: TrainerSettings) -> optuna.pruners.BasePruner:
    """Returns a pruner whose resource is rows: those of an epoch, or of the parts in which a long one is scored."""
    n_steps = settings.max_epochs * settings.checks_an_epoch
    first = min(FIRST_STEPS, n_steps) if settings.checks_an_epoch == 1 else 1
    pruners: dict[str, Callable[[], optuna.pruners.BasePruner]] = {
        "none": optuna.pruners.NopPruner,
        "median": lambda: optuna.pruners.MedianPruner(n_warmup_steps=first),
        "successive_halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=first, reduction_factor=3),
        "hyperband": lambda: optuna.pruners.HyperbandPruner(
            min_resource=first, max_resource=n_steps, reduction_factor=3
        ),
    }
    return pruners[name]()


def _last_step(trial: optuna.Trial) -> int:
    step = trial.study._storage.get_trial(trial._trial_id).last_step
    return -1 if step is None else step


def _lease(*, begun: bool = False) -> dict[str, Any]:
    return {**_me(os.getpid()), "expires": time.time() + LEASE_S, "begun": begun}


@functools.cache
def _me(pid: int) -> dict[str, Any]:
    """Returns what names this process; asked once, since the clock by which its start is told may be set."""
    return {"host": socket.gethostname(), "pid": pid, "process_started": psutil.Process(pid).create_time()}


def _is_held(lease: Mapping[str, Any] | None) -> bool:
    """Returns whether somebody works under a lease. On this host a dead process holds nothing."""
    if lease is None:
        return False
    if lease["host"] == socket.gethostname():
        try:
            started = psutil.Process(lease["pid"]).create_time()
            return bool(abs(started - lease["process_started"]) < CLOCK_S)
        except psutil.Error:
            return False
    return bool(lease["expires"] > time.time())


def _result_to_json(result: TrialResult) -> dict[str, Any]:
    return {
        "state": result.state.value,
        "value": result.value,
        "metrics": dict(result.metrics),
        "seconds": result.seconds,
        "n_epochs": result.n_epochs,
        "reason": result.reason.value if result.reason else None,
        "message": result.message,
        "repeat_of": result.repeat_of,
        "seen": list(result.seen),
    }


def _result(trial: optuna.trial.FrozenTrial) -> TrialResult:
    document = trial.user_attrs.get(RESULT)
    if document is None:  # ended by something else than this program
        document = {"state": "failed", "reason": Reason.LOST.value, "message": "its worker died as it ended"}
    stored = trial.user_attrs.get(CONFIGURATION)
    return TrialResult(
        number=trial.number,
        configuration=Configuration.from_json(stored) if stored else None,
        **{
            **document,
            "state": TrialState(document["state"]),
            "reason": Reason(document["reason"]) if document["reason"] else None,
            "seen": tuple(document.get("seen", ())),
        },
    )
