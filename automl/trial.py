"""One trial: a configuration and the search part of the data become a scored model. Start reading here.

A trial runs in a process of its own. It sees no server, no database and no test row.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import decision, metrics
from automl.components import catalogue
from automl.data import storage
from automl.predictor import Member, Predictor
from automl.preprocessing.baseline import BaselineScaling
from automl.preprocessing.prefix_cache import PrefixCache
from automl.preprocessing.preprocessing import Preprocessing
from automl.study_folder import CHECKPOINTS, read_json, write_json
from automl.training import adapt
from automl.training.checkpoint import Checkpoint
from automl.training.fit import Fit, fit, retrain
from automl.values import (
    NO_TABLE,
    Configuration,
    EpochReport,
    Part,
    PreparedData,
    Schema,
    Scored,
    Target,
    TargetSpec,
    TrialTask,
)

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from torch import nn

    from automl.values import Fold, Metric


#: In a trial's folder: for each fold, the epochs of the best weights, and how many the schedule was made for.
LENGTHS = "lengths.json"


def run_trial(
    task: TrialTask, report: Callable[[EpochReport], bool], pause: Callable[[], bool] = lambda: False
) -> Scored:
    """Returns the score of one configuration, and writes its model and validation predictions to `task.out`.

    One that was cut off before goes on from the last epoch that was kept in `task.out`.

    Args:
        task: What to train on what.
        report: Called after every epoch of every fold; returns whether to stop now, with the best so far.
        pause: Returns whether to keep the trial as it is after this epoch and raise `Paused`.

    Raises:
        DataError: A preprocessing step cannot work on these rows.
        StorageError: The disk is full.
        TrainingDiverged: The loss is not a number, and no epoch before was better.
    """
    if task.data_module is not None:
        return _run_on_own_data(task, report, pause)
    started = time.monotonic()
    schema = storage.load_schema(task.data)
    metric = _objective(task, schema)
    table = storage.open_part(task.data, "search")
    train = adapt.fit if catalogue("network")[task.configuration.network.name].is_module else fit
    members: list[Member] = []
    fits: list[Fit] = []
    seen = dict[str, None]()
    folds = storage.load_folds(task.data)
    for number, fold in enumerate(folds):
        cache = None if task.cache is None else PrefixCache(task.cache, f"{task.rows} {number}")
        data, preprocessing = _prepare(task.configuration, schema, table, fold, task.seed, cache)
        fitted = train(
            task.configuration,
            data,
            metric,
            task.settings,
            seed=task.seed,
            report=partial(_report_fold, report, number),
            stop_at=_share(task.stop_at, len(folds) - number),
            checkpoint=_checkpoint(task, number, pause),
        )
        members.append(_member(task.configuration, preprocessing, fitted.network, data.target))
        fits.append(fitted)
        started -= fitted.seconds_before
        seen.update(dict.fromkeys((*preprocessing.notes, *fitted.notes)))
    predictions = [fitted.predictions for fitted in fits]
    y_val = [table.target[fold.val] for fold in folds]
    weights = decision.choose(metric, y_val, predictions)
    if task.direction is not None:
        scores = _logged_scores(task.objective, fits)
    else:
        scores = metrics.score_all_folds(schema.target, y_val, predictions, weights)
    Predictor(schema, members, decision=weights).save(task.out / "model")
    write_json(task.out / LENGTHS, [(fitted.best_epoch + 1, fitted.n_planned) for fitted in fits])
    np.save(task.out / "validation.npy", np.concatenate(predictions))
    n_epochs = sum(fitted.n_epochs for fitted in fits)
    return Scored(scores[task.objective], scores, n_epochs, time.monotonic() - started, tuple(seen))


def _run_on_own_data(task: TrialTask, report: Callable[[EpochReport], bool], pause: Callable[[], bool]) -> Scored:
    """Returns what `run_trial` does, of a LightningModule that a LightningDataModule feeds: there is no table."""
    started = time.monotonic()
    assert task.data_module is not None
    network, trained = adapt.fit_own_data(
        task.configuration,
        task.data_module,
        _objective(task, NO_TABLE),
        task.settings,
        seed=task.seed,
        report=report,
        stop_at=task.stop_at,
        checkpoint=_checkpoint(task, 0, pause),
    )
    target = TargetSpec(NO_TABLE.target.task, NO_TABLE.target.n_outputs)
    preprocessing = Preprocessing((), NO_TABLE, seed=task.seed)
    preprocessing.inputs = trained.inputs
    member = Member(preprocessing, network, task.configuration.network, target)
    Predictor(NO_TABLE, [member]).save(task.out / "model")
    seconds = time.monotonic() - started + trained.seconds_before
    scores = {**trained.logged, task.objective: trained.value}
    return Scored(trained.value, scores, trained.n_epochs, seconds)


def _objective(task: TrialTask, schema: Schema) -> Metric:
    """Returns what a trial is scored by: a metric of ours, or one that a LightningModule logs."""
    if task.direction is not None:
        return metrics.logged(task.objective, task.direction)
    return metrics.metric(task.objective, schema.target)


def _logged_scores(objective: str, fits: Sequence[Fit]) -> dict[str, float]:
    """Returns the means over the folds of what a LightningModule logged in all of them, and of the objective."""
    names = set.intersection(*({*fitted.logged} for fitted in fits))
    means = {name: float(np.mean([fitted.logged[name] for fitted in fits])) for name in sorted(names)}
    return {**means, objective: float(np.mean([fitted.value for fitted in fits]))}


def refit(task: TrialTask) -> bool:
    """Trains a trial's configuration once more, on all search rows, for as many epochs as did best in the trial.

    The model is written to `refit` beside the trial's own.

    Args:
        task: The trial's, with the time by which this is to be done.

    Returns:
        Whether there is such a model. There is none when time ran out, or when it does worse on the validation rows,
        which it has seen, than the trial's own did, which had not.
    """
    schema = storage.load_schema(task.data)
    metric = metrics.metric(task.objective, schema.target)
    table = storage.open_part(task.data, "search")
    if not table.is_whole:
        return False
    n_epochs, n_planned = (round(float(np.mean(each))) for each in zip(*read_json(task.out / LENGTHS), strict=True))
    features, target = table.shard(0), table.target.copy()  # what is mapped into memory cannot be a tensor's
    preprocessing = _preprocessing(task.configuration, schema, task.seed)
    blocks, y = preprocessing.fit_resample(features, target)
    spec = target_spec(schema, y, preprocessing.baseline)
    again = adapt.retrain if catalogue("network")[task.configuration.network.name].is_module else retrain
    network = again(
        task.configuration,
        PreparedData(
            Part(blocks, y),
            Part({name: block[:0] for name, block in blocks.items()}, y[:0]),
            preprocessing.inputs,
            spec,
        ),
        replace(task.settings, max_epochs=n_planned),
        seed=task.seed,
        n_epochs=n_epochs,
        stop_at=task.stop_at,
    )
    if network is None:
        return False
    predictor = Predictor(schema, [_member(task.configuration, preprocessing, network, spec)])
    folds = storage.load_folds(task.data)
    y_val = [target[fold.val] for fold in folds]
    before = by_fold(np.load(task.out / "validation.npy"), folds)
    after = [predictor.predictions(features.iloc[fold.val]) for fold in folds]
    if not does_no_worse(metric, y_val, before, after):
        return False
    predictor.save(task.out / "refit")
    return True


def _checkpoint(task: TrialTask, fold: int, pause: Callable[[], bool]) -> Checkpoint:
    """Returns where the training of a fold is kept; what other code or other rows left there is not gone on from."""
    subject = f"{task.configuration.digest} {task.rows} {fold} {task.seed} {_code()}"
    return Checkpoint(task.out / CHECKPOINTS / f"{fold}.pt", subject, pause)


@functools.cache
def _code() -> str:
    """Returns the versions of what a training depends on."""
    return " ".join(version(package) for package in ("automl-platform", "torch", "scikit-learn"))


def _share(stop_at: float | None, n_folds: int) -> float | None:
    """Returns when the first of so many folds shall end, so that each has as much time."""
    now = time.monotonic()
    return None if stop_at is None else now + (stop_at - now) / n_folds


def _report_fold(report: Callable[[EpochReport], bool], fold: int, epoch: EpochReport) -> bool:
    return report(replace(epoch, fold=fold))


def _prepare(
    configuration: Configuration,
    schema: Schema,
    table: storage.StoredPart,
    fold: Fold,
    seed: int,
    cache: PrefixCache | None,
) -> tuple[PreparedData, Preprocessing]:
    """Returns what `prepare` does, of a table that need not fit into memory."""
    if table.is_whole:
        return prepare(configuration, schema, table.shard(0), table.target, fold, seed, cache)
    preprocessing = _preprocessing(configuration, schema, seed)
    train, val = preprocessing.fit_shards(table, fold)
    spec = target_spec(schema, train.piece(0).target, preprocessing.baseline)
    return PreparedData(train, val, preprocessing.inputs, spec), preprocessing


def prepare(
    configuration: Configuration,
    schema: Schema,
    features: pd.DataFrame,
    target: NDArray[Any],
    fold: Fold,
    seed: int,
    cache: PrefixCache | None = None,
) -> tuple[PreparedData, Preprocessing]:
    """Returns a fold's arrays, with every step fitted on its training rows alone, and the fitted steps."""
    preprocessing = _preprocessing(configuration, schema, seed)
    train, val = preprocessing.fit_fold(features, target, fold, cache)
    spec = target_spec(schema, train.target, preprocessing.baseline)
    return PreparedData(train, val, preprocessing.inputs, spec), preprocessing


def _preprocessing(configuration: Configuration, schema: Schema, seed: int) -> Preprocessing:
    """Returns the steps to fit, which tell the network no more than it asks for."""
    network = configuration.network
    component = catalogue("network")[network.name]
    embedding = component.hyperparameters.get("numeric_embedding")
    cuts = embedding is not None and network.params.get(embedding.name, embedding.default) == "piecewise_linear"
    return Preprocessing(
        configuration.preprocessing,
        schema,
        seed=seed,
        quantiles=cuts,
        tokens="tokens" in component.traits,
        domains=configuration.domain.name != "none",
    )


def _member(
    configuration: Configuration, preprocessing: Preprocessing, network: nn.Module, target: TargetSpec
) -> Member:
    return Member(preprocessing, network, configuration.network, target, domain=configuration.domain)


def target_spec(schema: Schema, target: NDArray[Any], baseline: BaselineScaling | None = None) -> TargetSpec:
    """Returns what a loss needs to know of the training rows' target, as of `Dataset`.

    Where targets are learned relative to a baseline, their unit is the one in which that is told: steps may have
    dropped rows since.
    """
    spec = _target_spec(schema.target, target)
    return spec if baseline is None else replace(spec, mean=baseline.mean_, scale=baseline.scale_)


def _target_spec(of: Target, y: NDArray[Any]) -> TargetSpec:
    if of.parts:
        columns = [column[~np.isnan(column)] for column in y.T]
        parts = tuple(_target_spec(part, column) for part, column in zip(of.parts, columns, strict=True))
        return TargetSpec(of.task, of.n_outputs, parts=parts)
    if of.task.is_classification:
        counts = np.bincount(y.astype(np.int64), minlength=len(of.classes))
        return TargetSpec(of.task, of.n_outputs, tuple(counts.tolist()))
    if not len(y):  # a fold may have no row of one of several targets
        return TargetSpec(of.task, of.n_outputs, quantiles=of.quantiles)
    mean, scale = float(y.mean()), float(y.std()) or 1.0
    return TargetSpec(of.task, of.n_outputs, mean=mean, scale=scale, quantiles=of.quantiles)


def does_no_worse(
    metric: Metric, y_val: Sequence[NDArray[Any]], before: Sequence[NDArray[Any]], after: Sequence[NDArray[Any]]
) -> bool:
    """Returns whether a model of all search rows does no worse on the validation rows than the one before it did.

    Args:
        metric: The objective.
        y_val: As of `Dataset`, one array a fold.
        before, after: Predictions, one array a fold; (rows, columns) or (rows,).
    """
    values = [decision.score(metric, y_val, predictions) for predictions in (before, after)]
    return math.isfinite(values[1]) and not metric.better(*values)


def by_fold(predictions: NDArray[Any], folds: tuple[Fold, ...]) -> list[NDArray[Any]]:
    """Returns stored validation predictions, one fold after the other, as one array a fold."""
    return np.split(predictions, np.cumsum([len(fold.val) for fold in folds])[:-1])
