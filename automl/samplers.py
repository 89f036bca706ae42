"""Samplers: Optuna's, by name, and a bound on what they look at, so that a long study goes on as fast as it began."""

from __future__ import annotations

import bisect
import heapq
import math
import warnings
from collections.abc import Callable, Container, Mapping
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

#: Trials that a sampler sees: so many of the best, and the latest.
N_BEST, N_LATEST = 50, 250


def sampler(name: str, seed: int) -> BaseSampler:
    """Returns the sampler of this name."""
    # That an argument of Optuna's is experimental is for us to know, not for who runs a study.
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    samplers: dict[str, Callable[[], BaseSampler]] = {
        # Without `group`, parameters of conditional branches would be drawn independently of all others.
        "tpe": lambda: Bounded(optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "gp": lambda: Bounded(optuna.samplers.GPSampler(seed=seed)),
        "cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
    }
    return samplers[name]()


class Bounded(BaseSampler):
    """A sampler that sees the best, the latest and the running trials of a study, and no others.

    What TPE calls good is at most 25 trials, whatever the study's length, and it gives what is not good less weight
    the older it is; so little is lost, where its time for one proposal would grow with every trial.

    Args:
        of: The sampler that proposes.
        n_best: Trials of the best that it sees.
        n_latest: And of the latest.
    """

    def __init__(self, of: BaseSampler, n_best: int = N_BEST, n_latest: int = N_LATEST) -> None:
        self._of = of
        self._n_best = n_best
        self._n_latest = n_latest
        self._view: optuna.Study | None = None
        self._viewed = -1
        self._ended: set[int] = set()
        self._ranked: list[tuple[float, float, int]] = []  # of those that have ended, best first

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of.infer_relative_search_space(self._look(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of.sample_relative(self._look(study, trial), trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of.sample_independent(self._look(study, trial), trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        self._of.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._of.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self._of.after_trial(study, trial, state, values)

    def _look(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        """Returns the study as the sampler sees it, made once for each trial that is sampled."""
        if self._view is None or self._viewed != trial.number:
            # Not always all: Hyperband shows the trials of one bracket.
            trials = {t.number: t for t in study.get_trials(deepcopy=False)}
            sign = 1.0 if study.direction is optuna.study.StudyDirection.MINIMIZE else -1.0
            self._note_ended(trials, sign)
            ended = self._ended & trials.keys()
            if len(ended) > self._n_best + self._n_latest:
                kept = set(islice((number for *_, number in self._ranked if number in ended), self._n_best))
                kept.update(heapq.nlargest(self._n_latest, ended))
                kept.update(n for n in trials.keys() - ended if trials[n].state is TrialState.RUNNING)
                trials = {number: trials[number] for number in sorted(kept)}
            self._view, self._viewed = _View(study, list(trials.values())), trial.number
        return self._view

    def _note_ended(self, trials: Mapping[int, FrozenTrial], sign: float) -> None:
        """Ranks trials that have ended since the last look: what does not change is worked out once."""
        for number in trials.keys() - self._ended:
            if trials[number].state in (TrialState.COMPLETE, TrialState.PRUNED):
                self._ended.add(number)
                bisect.insort(self._ranked, _rank(trials[number], sign))


def _rank(trial: FrozenTrial, sign: float) -> tuple[float, float, int]:
    """Returns what orders trials as TPE does: complete ones by value, then pruned ones, those that came far first."""
    if trial.state is TrialState.COMPLETE:
        return (-math.inf, sign * float(trial.value or 0.0), trial.number)
    step, value = max(trial.intermediate_values.items(), default=(-1, math.inf))
    return (-float(step), sign * value, trial.number)


class _View(optuna.Study):
    """A study that shows some of its trials, as Optuna's own Hyperband makes one for each bracket."""

    def __init__(self, study: optuna.Study, trials: list[FrozenTrial]) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler, pruner=study.pruner)
        self._trials = trials

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        return self._get_trials(deepcopy, states)

    def _get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]
