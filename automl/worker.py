"""The worker: claims trials, runs each in a process of its own, tells the search, hands the rest to the recorder.

It is the only writer of a study. It holds the limits of time and memory from outside the trials' processes, and never
imports torch.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

from automl import jobs, memory
from automl.errors import NoTrialSucceeded, ResourceError, StorageError, TrainingDiverged
from automl.isolation import Failure, IsolatedCall, Standby, wait_any
from automl.recorder import Recorder
from automl.search import Claim, Search
from automl.study_folder import Prepared, StudyFolder, read_json, write_json
from automl.study_spec import StudySpec
from automl.values import (
    Configuration,
    Direction,
    EpochReport,
    Reason,
    ReferenceResult,
    Scored,
    TrialResult,
    TrialState,
    TrialTask,
)

#: Trials whose model and predictions are kept: those that the ensemble may choose among.
KEPT_TRIALS = 25
#: After so many repeats in a row the space holds nothing new.
MAX_REPEATS = 50
#: Seconds after the end of the search in which trials may score their last checkpoint before they are ended.
GRACE_S = 3.0

#: Share of the time that is left that one trial may take, and seconds that each may have if they are left: a slow
#: network is trained less, and others get their turn.
TRIAL_SHARE, MIN_TRIAL_S = 0.4, 10.0
#: Seconds below which no trial is begun.
SHORTEST_S = 2.0
#: Share of the time that is left in which a reference model may grow trees.
REFERENCE_SHARE = 0.2

_REASONS = {"timeout": Reason.TIMEOUT, "memory": Reason.OOM}


class Watcher(Protocol):
    """Who wants to know how a study goes."""

    def epoch(self, number: int, epoch: EpochReport) -> None:
        """A trial finished an epoch."""

    def trial_started(self, number: int) -> None:
        """A trial was claimed."""

    def trial_ended(self, result: TrialResult) -> None:
        """A trial ended."""

    def trial_stopped(self, number: int, why: str) -> None:
        """A trial's process died, and it will be gone on with."""

    def reference_ended(self, result: ReferenceResult) -> None:
        """A reference model was scored."""

    def interrupted(self) -> None:
        """A person has stopped the search, and what runs comes to its end."""


@dataclass(slots=True)
class _RunningTrial:
    claim: Claim
    call: IsolatedCall
    pruned_at: EpochReport | None = None


@dataclass(slots=True)
class _RunningReference:
    name: str
    call: IsolatedCall


class _Ended:
    """The trials that have ended, so that what is asked after each one takes no longer in a long study.

    Args:
        results: Of earlier launches.
    """

    def __init__(self, results: Iterable[TrialResult], direction: Direction) -> None:
        self._direction = direction
        self._first: dict[str, TrialResult] = {}  # by the digest of the configuration
        self._kept: list[TrialResult] = []
        self.all: dict[int, TrialResult] = {}
        self.n_counted = 0
        self.epoch_s: dict[str, float] = {}  # by network: the fewest seconds of a trial for each of its epochs
        for result in results:
            self.add(result)

    def add(self, result: TrialResult) -> list[int]:
        """Returns the numbers of the trials that, now that this one has ended, no ensemble will choose."""
        self.all[result.number] = result
        self.n_counted += result.reason is not Reason.LOST
        if result.configuration is not None and result.n_epochs:
            network = result.configuration.network.name
            self.epoch_s[network] = min(result.seconds / result.n_epochs, self.epoch_s.get(network, math.inf))
        # What died of its surroundings may do better now.
        if result.configuration is not None and result.reason not in (Reason.LOST, Reason.TIMEOUT, Reason.OOM):
            self._first.setdefault(result.configuration.digest, result)
        if result.state is not TrialState.COMPLETE or result.repeat_of is not None:
            return [result.number]
        ranked = rank([*self._kept, result], self._direction)
        self._kept = ranked[:KEPT_TRIALS]
        return [lost.number for lost in ranked[KEPT_TRIALS:]]

    def earlier(self, configuration: Configuration) -> TrialResult | None:
        """Returns the trial that ran this configuration before and would come out the same."""
        return self._first.get(configuration.digest)


@dataclass(slots=True)
class Outcome:
    """What a worker has seen.

    Attributes:
        ended_by: Why it stopped.
        interrupted: Whether a person stopped it.
    """

    references: list[ReferenceResult] = field(default_factory=list)
    ended_by: str = ""
    interrupted: bool = False


class Worker:
    """Runs the trials of one study until its budget is spent.

    Args:
        slots: Trials at a time.
        search_until: `time.monotonic()` after which no trial begins and running ones stop at their best.
    """

    def __init__(
        self,
        spec: StudySpec,
        prepared: Prepared,
        folder: StudyFolder,
        search: Search,
        recorder: Recorder,
        watcher: Watcher,
        *,
        slots: int,
        search_until: float | None,
        plugins: tuple[str, ...],
        references: tuple[str, ...] = (),
    ) -> None:
        self._spec = spec
        self._prepared = prepared
        self._folder = folder
        self._search = search
        self._recorder = recorder
        self._watcher = watcher
        self._slots = slots
        self._until = search_until
        self._plugins = plugins
        self._outcome = Outcome()
        self._waiting_references = deque(name for name in references if not self._known_reference(name))
        self._running: list[_RunningTrial | _RunningReference] = []
        self._ended = _Ended(search.results(), prepared.direction)
        self._ahead: Claim | None = None
        self._standby: Standby | None = None
        self._failures_in_a_row = 0
        self._repeats_in_a_row = 0
        self._stopping = False
        self._aborted: BaseException | None = None
        self._grace_s = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether a person has stopped the search."""
        return self._outcome.interrupted

    def interrupt(self) -> None:
        """Ends the search for a person: nothing new begins, and running trials stop at their best so far.

        Called by a signal's handler, hence only a flag: whatever is being done now is finished first.
        """
        self._outcome.interrupted = True

    def abort(self, error: BaseException, grace_s: float = 0.0) -> None:
        """Makes `run` give back what runs and raise `error`, as soon as nothing is half written.

        Args:
            grace_s: In which trials may come to the end of an epoch and keep it.
        """
        self._aborted, self._grace_s = error, grace_s

    def raise_if_aborted(self) -> None:
        """Raises what `abort` was given; for after `run`, whose last turn may have been too late to see it."""
        if self._aborted is not None:
            raise self._aborted

    def run(self) -> Outcome:
        """Returns what was seen once the budget is spent, or a person has stopped it.

        Raises:
            NoTrialSucceeded: Too many trials in a row failed; with the reasons, grouped.
        """
        for ended in self._search.take_back_lost():
            self._forget(self._ended.add(ended))
        self._recorder.make_good(self._ended.all.values(), self._search.waiting())
        try:
            while True:
                self.raise_if_aborted()
                while len(self._running) < self._slots and not self.interrupted and self._begin():
                    pass
                if self.interrupted and not self._stopping:
                    self._end("it was interrupted")
                    self._watcher.interrupted()
                    for running in self._running:
                        running.call.stop() if isinstance(running, _RunningTrial) else running.call.kill()
                if not self._running:
                    return self._outcome
                self._look_ahead()
                wait_any([running.call for running in self._running], timeout_s=0.5)
                for running in list(self._running):
                    self._serve(running)
                self._search.renew([running.claim for running in self._running if isinstance(running, _RunningTrial)])
        except BaseException:
            self._abandon()
            raise
        finally:
            if self._ahead is not None:
                self._search.put_back(self._ahead)
                self._ahead = None
            if self._standby is not None:
                self._standby.dismiss()
                self._standby = None

    # --- beginning -------------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Begins a reference model or a trial, and returns whether there was one to begin."""
        if self._stopping or self._time_is_spent():
            return False
        if self._reference_is_next():
            name = self._waiting_references.popleft()
            out = self._folder.references / name
            now = time.monotonic()
            call = IsolatedCall(
                jobs.reference,
                name,
                self._folder.data,
                out,
                self._prepared.objective,
                self._spec.seed,
                now + REFERENCE_SHARE * (self._until - now) if self._until is not None else math.inf,
                time_limit_s=self._seconds_left(),
            )
            self._running.append(_RunningReference(name, call))
            return True
        if self._trials_are_done():
            return False
        claim, self._ahead = self._ahead or self._search.claim(), None
        if not self._fits(claim.configuration):
            self._search.put_back(claim)
            self._end("the time is spent")
            return False
        self._search.begin(claim)
        original = self._ended.earlier(claim.configuration)
        if original is not None:
            self._repeat(claim, original)
            return True
        now = time.monotonic()
        trial_time = self._spec.budget.trial_time
        hard = [left for left in (self._seconds_left(), trial_time) if left is not None]
        task = TrialTask(
            configuration=claim.configuration,
            data=self._folder.data,
            out=self._folder.trial(claim.number),
            objective=self._prepared.objective,
            settings=replace(self._spec.trainer.settings(self._prepared.n_train), memory=self._memory()),
            seed=self._spec.seed,
            stop_at=self._stop_at(now),
            cache=self._folder.cache,
            rows=f"{self._prepared.data_digest} {self._prepared.split_digest}",
            direction=self._prepared.direction if self._prepared.is_logged else None,
            data_module=self._prepared.data_module,
        )
        call = IsolatedCall(
            jobs.trial,
            task,
            self._plugins,
            time_limit_s=min(hard, default=None),
            memory_limit=self._spec.budget.trial_memory,
            standby=self._standby,
        )
        self._standby = None
        self._running.append(_RunningTrial(claim, call))  # first: should what follows fail, it is given back
        self._recorder.trial_started(claim.number, claim.configuration)
        self._watcher.trial_started(claim.number)
        return True

    def _look_ahead(self) -> None:
        """Claims the next trial while others run, so that none waits for the sampler or for a process to begin.

        The sampler then does not know how the running ones end, as if there were one more slot.
        """
        if self._ahead is None and not (
            self._stopping
            or self.interrupted
            or self._reference_is_next()
            or self._time_is_spent()
            or self._trials_are_done()
        ):
            self._ahead = self._search.claim()
            self._standby = self._standby or Standby()

    def _reference_is_next(self) -> bool:
        """Returns whether a reference model is to begin: trials run beside them where there is more than one slot."""
        n_running = sum(isinstance(running, _RunningReference) for running in self._running)
        has_slot = n_running < max(1, self._slots // 2) or self._trials_are_done()
        return bool(self._waiting_references) and has_slot

    def _trials_are_done(self) -> bool:
        """Returns whether the budget allows no further trial, and remembers it."""
        claimed = self._ended.n_counted + sum(isinstance(running, _RunningTrial) for running in self._running)
        if self._spec.budget.trials is None or claimed < self._spec.budget.trials:
            return False
        self._outcome.ended_by = self._outcome.ended_by or "all trials are done"
        return True

    def _time_is_spent(self) -> bool:
        """Returns whether there is no time for anything new, and remembers it."""
        if self._until is None or time.monotonic() < self._until:
            return False
        self._outcome.ended_by = self._outcome.ended_by or "the time is spent"
        return True

    def _fits(self, configuration: Configuration) -> bool:
        """Returns whether there is time for one epoch of each fold, as far as trials of the network can tell."""
        if self._until is None:
            return True
        shortest = self._prepared.n_folds * self._ended.epoch_s.get(configuration.network.name, 0.0)
        return self._until - time.monotonic() >= max(SHORTEST_S, shortest)

    def _memory(self) -> int:
        """Returns the bytes that a trial that begins now may take: its limit, or its share of what is free."""
        return self._spec.budget.trial_memory or memory.available() // max(1, self._slots - len(self._running))

    def _stop_at(self, now: float) -> float | None:
        """Returns when a trial that begins now shall end with its best so far; its schedule is made for that."""
        ends = []
        if self._until is not None:
            left = self._until - now
            ends.append(now + min(left, max(TRIAL_SHARE * left, MIN_TRIAL_S)))
        if self._spec.budget.trial_time is not None:
            ends.append(now + 0.9 * self._spec.budget.trial_time)
        return min(ends, default=None)

    def _seconds_left(self) -> float | None:
        return None if self._until is None else max(self._until + GRACE_S - time.monotonic(), 0.1)

    def _repeat(self, claim: Claim, original: TrialResult) -> None:
        """Ends a trial with the result that its configuration had before."""
        self._repeats_in_a_row += 1
        if self._repeats_in_a_row >= MAX_REPEATS:
            self._end("every configuration of the search space that is drawn has been run")
        self._recorder.trial_started(claim.number, claim.configuration)
        self._finish(
            claim,
            TrialResult(
                number=claim.number,
                state=original.state,
                configuration=claim.configuration,
                value=original.value,
                metrics=original.metrics,
                reason=original.reason,
                message=original.message,
                repeat_of=original.number if original.repeat_of is None else original.repeat_of,
            ),
        )

    # --- going on --------------------------------------------------------------------------------------------------

    def _serve(self, running: _RunningTrial | _RunningReference) -> None:
        messages = running.call.poll()
        if isinstance(running, _RunningTrial):
            for epoch in messages:
                self._watch(running, epoch)
        if running.call.done:
            self._running.remove(running)
            if isinstance(running, _RunningTrial):
                self._end_trial(running)
            else:
                self._end_reference(running)

    def _watch(self, running: _RunningTrial, epoch: EpochReport) -> None:
        if running.pruned_at is not None:
            return  # how much further a stopped trial came depends on the clock, and must not reach the sampler
        self._recorder.epoch(running.claim.number, epoch)
        self._watcher.epoch(running.claim.number, epoch)
        if self._search.report(running.claim, epoch):
            running.pruned_at = epoch
            running.call.kill()  # nothing that it would still do counts, and there may be folds to come

    # --- ending ----------------------------------------------------------------------------------------------------

    def _end_trial(self, running: _RunningTrial) -> None:
        claim, call = running.claim, running.call
        seconds = time.monotonic() - call.started
        if running.pruned_at is not None:
            last = running.pruned_at
            result = TrialResult(
                claim.number,
                TrialState.PRUNED,
                claim.configuration,
                last.value,
                seconds=seconds,
                n_epochs=last.epoch + 1,
            )
        elif call.failure is not None:
            if isinstance(call.failure.error, StorageError):
                # Not the trial's fault, and the next one would not fare better.
                self._put_back(claim)
                raise call.failure.error
            if call.failure.kind == "crash" and self._search.lose(claim):
                self._recorder.trial_stopped(claim.number)
                self._watcher.trial_stopped(claim.number, call.failure.message)
                return
            result = self._failed(claim, call.failure, seconds)
            if call.failure.kind == "crash":
                result = replace(result, message=f"{result.message}, as before")
        else:
            scored: Scored = call.result
            if math.isfinite(scored.value):
                result = TrialResult(
                    claim.number,
                    TrialState.COMPLETE,
                    claim.configuration,
                    scored.value,
                    scored.metrics,
                    max(seconds, scored.seconds),  # it may have begun in another process
                    scored.n_epochs,
                    seen=scored.seen,
                )
            else:
                message = f"the objective is {scored.value}"
                result = self._failed(claim, Failure("error", message, TrainingDiverged(message)), seconds)
        self._repeats_in_a_row = 0
        self._finish(claim, result, call.failure.detail if call.failure else "")

    def _failed(self, claim: Claim, failure: Failure, seconds: float) -> TrialResult:
        diverged = isinstance(failure.error, TrainingDiverged)
        reason = Reason.NAN if diverged else _REASONS.get(failure.kind, Reason.ERROR)
        reason = Reason.OOM if isinstance(failure.error, ResourceError) else reason
        return TrialResult(
            claim.number,
            TrialState.FAILED,
            claim.configuration,
            seconds=seconds,
            reason=reason,
            message=failure.message,
        )

    def _finish(self, claim: Claim, result: TrialResult, traceback: str = "") -> None:
        self._search.tell(claim, result)
        self._recorder.trial_ended(result, traceback)
        self._watcher.trial_ended(result)
        shutil.rmtree(self._folder.checkpoints(claim.number), ignore_errors=True)
        self._forget(self._ended.add(result))
        self._failures_in_a_row = self._failures_in_a_row + 1 if result.state is TrialState.FAILED else 0
        if self._failures_in_a_row >= self._spec.budget.max_consecutive_failures and not self._stopping:
            if any(result.state is TrialState.COMPLETE for result in self._ended.all.values()):
                self._end(f"{self._failures_in_a_row} trials in a row failed")
            else:
                raise no_trial_succeeded(tuple(self._ended.all.values()))

    def _forget(self, numbers: Iterable[int]) -> None:
        """Deletes what trials have left behind that no ensemble will choose."""
        for number in numbers:
            shutil.rmtree(self._folder.trial(number), ignore_errors=True)

    def _end_reference(self, running: _RunningReference) -> None:
        call = running.call
        seconds = time.monotonic() - call.started
        if call.failure is not None and isinstance(call.failure.error, StorageError):
            raise call.failure.error
        if call.failure is None:
            scored: Scored = call.result
            result = ReferenceResult(
                running.name, scored.value, scored.metrics, seconds=seconds, n_rounds=scored.n_epochs
            )
        else:
            result = ReferenceResult(running.name, None, seconds=seconds, message=call.failure.message)
        self._recorder.reference(result)  # before the file by which the next launcher takes it for done
        write_json(self._folder.references / f"{result.name}.json", asdict(result))
        self._outcome.references.append(result)
        self._watcher.reference_ended(result)

    def _known_reference(self, name: str) -> bool:
        """Returns whether a reference model was scored before this worker began, and takes its score if so."""
        path = self._folder.references / f"{name}.json"
        known = ReferenceResult(**read_json(path)) if path.is_file() else None
        if known is None or known.value is None:  # one that was cut short may have the time now
            return False
        self._outcome.references.append(known)
        return True

    def _end(self, why: str) -> None:
        """Begins nothing more; what runs may come to its end."""
        self._stopping = True
        self._outcome.ended_by = why

    def _abandon(self) -> None:
        """Ends what runs, and gives trials back to the queue: whoever goes on with the study goes on with them."""
        trials = [running for running in self._running if isinstance(running, _RunningTrial)]
        if self._grace_s:
            self._pause(trials)
        for call in [running.call for running in self._running]:
            call.kill()
        self._running.clear()
        for trial in trials:
            if trial.pruned_at is not None or trial.call.result is not None:
                self._end_trial(trial)
            else:
                self._put_back(trial.claim)

    def _pause(self, trials: Sequence[_RunningTrial]) -> None:
        """Gives trials the time of grace to keep what they have."""
        for trial in trials:
            trial.call.pause()
        until = time.monotonic() + self._grace_s
        while time.monotonic() < until and not all(trial.call.done for trial in trials):
            wait_any([trial.call for trial in trials], timeout_s=0.1)
            for trial in trials:
                for epoch in trial.call.poll():
                    self._watch(trial, epoch)

    def _put_back(self, claim: Claim) -> None:
        self._search.put_back(claim)
        self._recorder.trial_stopped(claim.number)


def rank(results: Sequence[TrialResult], direction: Direction) -> list[TrialResult]:
    """Returns the trials that have a value, best first; of equals, the earlier."""
    sign = 1.0 if direction is Direction.MINIMIZE else -1.0
    scored = [result for result in results if result.value is not None]
    return sorted(scored, key=lambda result: (sign * float(result.value or 0.0), result.number))


def no_trial_succeeded(results: Sequence[TrialResult]) -> NoTrialSucceeded:
    """Returns what is told of a study of which no trial gave a model: why, and what to do."""
    failed = any(result.state is TrialState.FAILED for result in results)
    again = "Trials that have ended are not run again: once the cause is mended, run it with `--new-name`."
    return NoTrialSucceeded(grouped_reasons(results), remedy=again if failed else "")


def grouped_reasons(results: Sequence[TrialResult]) -> str:
    """Returns one sentence that says how often each reason ended a trial."""
    failed = [result for result in results if result.state is TrialState.FAILED]
    if not failed:
        return "no trial ended within the budget; give the study more time (`--time`)"
    messages = {result.reason: result.message for result in reversed(failed)}  # of each reason, the first
    counts = Counter(result.reason for result in failed)
    return "no trial succeeded; " + "; ".join(
        f"{n} x {reason}: {messages[reason].rstrip('.')}" for reason, n in counts.most_common()
    )
