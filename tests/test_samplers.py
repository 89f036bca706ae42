"""Samplers see a bounded part of a study, and propose as well as when they see all of it."""

from __future__ import annotations

import random

import optuna
import pytest
from optuna.trial import TrialState

from automl import samplers
from automl.samplers import Bounded

optuna.logging.set_verbosity(optuna.logging.ERROR)
pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


def objective(trial: optuna.Trial) -> float:
    """Returns what is least, 0, at x = 0.3 in the branch `deep`; the other has nothing below 1."""
    branch = trial.suggest_categorical("branch", ["deep", "flat"])
    x = trial.suggest_float(f"{branch}.x", 0, 1)
    return (10 * (x - 0.3)) ** 2 if branch == "deep" else 1 + x


def tpe(seed: int = 0) -> optuna.samplers.TPESampler:
    return optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed)


def values(sampler: optuna.samplers.BaseSampler, n_trials: int, direction: str = "minimize") -> list[float]:
    study = optuna.create_study(sampler=sampler, direction=direction)
    sign = 1 if direction == "minimize" else -1
    study.optimize(lambda trial: sign * objective(trial), n_trials=n_trials)
    return [sign * (trial.value or 0.0) for trial in study.trials]


@pytest.mark.parametrize("name", ["tpe", "random", "gp", "cmaes"])
def test_samplers_are_made_by_name(name: str) -> None:
    assert len(values(samplers.sampler(name, seed=0), 3)) == 3


def test_while_a_study_is_short_everything_is_seen() -> None:
    assert values(Bounded(tpe(), n_best=10, n_latest=30), 40) == values(tpe(), 40)


class Seeing(optuna.samplers.RandomSampler):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.shown: list[optuna.trial.FrozenTrial] = []

    def sample_independent(self, study, trial, param_name, param_distribution):  # type: ignore[no-untyped-def]
        self.shown = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return super().sample_independent(study, trial, param_name, param_distribution)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_long_study_shows_its_best_and_its_latest(direction: str) -> None:
    seeing = Seeing()
    study = optuna.create_study(sampler=Bounded(seeing, n_best=3, n_latest=5), direction=direction)
    sign = 1 if direction == "minimize" else -1

    def rising(trial: optuna.Trial) -> float:
        trial.suggest_float("x", 0, 1)
        trial.report(sign * 100.0, trial.number)
        if trial.number in (2, 4):
            raise optuna.TrialPruned
        return sign * float(trial.number)  # the first are the best, and the pruned ones worse than any

    study.optimize(rising, n_trials=30)
    study.ask().suggest_float("x", 0, 1)
    assert [trial.number for trial in seeing.shown] == [0, 1, 3, 25, 26, 27, 28, 29]


def test_running_trials_are_seen_so_that_they_are_not_proposed_again() -> None:
    seeing = Seeing()
    study = optuna.create_study(sampler=Bounded(seeing, n_best=1, n_latest=1))
    study.optimize(objective, n_trials=5)
    running = study.ask()
    view = study.sampler._look(study, study.get_trials()[-1])  # type: ignore[attr-defined]
    assert running.number in [trial.number for trial in view.get_trials(states=(TrialState.RUNNING,))]


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_still_finds_what_is_best(direction: str) -> None:
    bounded = [min(values(Bounded(tpe(seed), n_best=10, n_latest=30), 120, direction)) for seed in range(5)]
    assert max(bounded) < 0.05
    drawn = [min(values(optuna.samplers.RandomSampler(seed=seed), 120, direction)) for seed in range(5)]
    assert sum(bounded) < sum(drawn)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_is_shown_is_worked_out_anew_for_no_trial(direction: str) -> None:
    """The view that is kept up is the one that a sampler that begins now would make, after each of many trials."""
    seeing, rng = Seeing(), random.Random(0)
    study = optuna.create_study(sampler=Bounded(seeing, n_best=4, n_latest=6), direction=direction)
    waiting: list[optuna.Trial] = []
    for number in range(60):
        asked = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
        fresh = Bounded(seeing, n_best=4, n_latest=6)._look(study, study.get_trials()[-1])
        kept = study.sampler._look(study, study.get_trials()[-1])  # type: ignore[attr-defined]
        assert [t.number for t in kept.trials] == [t.number for t in fresh.trials]
        asked.report(rng.random(), rng.randrange(5))
        waiting.append(asked)
        if number % 3:  # two of three end, in any order
            state = rng.choice([TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])
            ends = waiting.pop(rng.randrange(len(waiting)))
            study.tell(ends, rng.random() if state is TrialState.COMPLETE else None, state=state)
    assert len(kept.trials) < 40


def test_a_pruner_may_show_the_sampler_a_part_of_the_study() -> None:
    """Hyperband shows each bracket's trials, so that a trial's number is not its place among those shown."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=9, reduction_factor=3)
    study = optuna.create_study(sampler=Bounded(tpe(), n_best=3, n_latest=5), pruner=pruner, study_name="x")
    study.optimize(objective, n_trials=60)
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)
