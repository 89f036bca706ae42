"""What runs in processes of its own. Each function imports its module there: the launcher never loads torch."""

from __future__ import annotations

import signal
from pathlib import Path

from automl.isolation import Caller
from automl.study_folder import Prepared, StudyFolder
from automl.study_spec import StudySpec
from automl.values import ColumnKind, EpochReport, FinalTask, Members, Schema, Scored, ShippedModel, TrialTask

#: What a search has to beat, weakest first. A test holds the names against those of `reference_model`.
REFERENCES = ("dummy", "seasonal_naive", "linear", "forest", "boosting", "shallow_boosting", "slow_boosting")

#: What it has to beat on tables with blocks of these kinds, too.
BLOCK_REFERENCES = {
    "summaries": (ColumnKind.SEQUENCE,),
    "random_convolutions": (ColumnKind.SEQUENCE, ColumnKind.IMAGE),
}

#: Those that take their time or their room: a forest is large, small steps are made for as long as they help, and
#: convolutions find thousands of numbers.
LARGE = ("forest", "random_convolutions", "shallow_boosting", "slow_boosting")

#: Those that know no quantiles, or take too long for them.
NO_QUANTILES = ("forest", "random_convolutions")

#: Targets and quantiles, each of which is a model of its own, above which there is none of the large ones.
MAX_LARGE = 3


def references(schema: Schema) -> tuple[str, ...]:
    """Returns the names of the reference models for what a table holds and what is predicted, as they are fitted."""
    heads, kinds = schema.target.heads, {block.kind for block in schema.blocks}
    more = [name for name, read in BLOCK_REFERENCES.items() if kinds.intersection(read)]
    first = REFERENCES.index("linear") + 1  # what is made for such tables does not wait for long boosting
    n_models = sum(max(len(head.quantiles), 1) for head in heads)
    left_out = {
        *(LARGE if n_models > MAX_LARGE else ()),
        *(NO_QUANTILES if any(head.quantiles for head in heads) else ()),
        *(() if schema.forecast else ("seasonal_naive",)),
    }
    return tuple(name for name in (*REFERENCES[:first], *more, *REFERENCES[first:]) if name not in left_out)


def prepare(
    caller: Caller, spec: StudySpec, base: Path, folder: StudyFolder, plugin_names: tuple[str, ...]
) -> Prepared:
    """Calls `preparation.prepare`."""
    from automl import preparation

    return preparation.prepare(spec, base, folder, plugin_names)


def trial(caller: Caller, task: TrialTask, plugin_modules: tuple[str, ...]) -> Scored | None:
    """Calls `trial.run_trial`: epochs go up the pipe, a stop or a pause comes down; returns None after a pause.

    Args:
        plugin_modules: All of them. To look through what is installed takes a hundredth of a short trial.
    """
    from automl import plugins
    from automl.training.checkpoint import Paused
    from automl.trial import run_trial

    plugins.import_modules(plugin_modules)
    # Whoever ends a whole process group, as batch systems do, means the launcher, which gives trials a time of grace.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

    def report(epoch: EpochReport) -> bool:
        caller.send(epoch)
        return caller.asks_to_stop

    try:
        return run_trial(task, report, lambda: caller.asks_to_pause)
    except Paused:
        return None


def reference(caller: Caller, name: str, data: Path, out: Path, objective: str, seed: int, stop_at: float) -> Scored:
    """Calls `references.run_reference`."""
    from automl import references

    return references.run_reference(name, data, out, objective, seed, stop_at)


def choose(caller: Caller, task: FinalTask) -> Members:
    """Calls `finalise.choose`."""
    from automl import finalise as final

    return final.choose(task)


def refit(caller: Caller, task: TrialTask, plugin_modules: tuple[str, ...]) -> bool:
    """Calls `trial.refit`."""
    from automl import plugins, trial

    plugins.import_modules(plugin_modules)
    return trial.refit(task)


def refit_reference(caller: Caller, name: str, data: Path, out: Path, objective: str, seed: int) -> bool:
    """Calls `references.refit`."""
    from automl import references

    return references.refit(name, data, out, objective, seed)


def finalise(caller: Caller, task: FinalTask) -> ShippedModel:
    """Calls `finalise.finalise`."""
    from automl import finalise as final

    return final.finalise(task)
