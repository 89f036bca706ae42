"""Metrics: scikit-learn's, by name, with the facts that a search needs.

scikit-learn is imported when a score is computed, so that names and directions cost nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl.errors import ConfigError, did_you_mean
from automl.values import USUAL_QUANTILES, Direction, Metric, MetricPart, Target, Task

_BINARY = frozenset({Task.BINARY})
_CLASSIFICATION = frozenset({Task.BINARY, Task.MULTICLASS})
_REGRESSION = frozenset({Task.REGRESSION})
_QUANTILE = frozenset({Task.QUANTILE})
_MULTILABEL = frozenset({Task.MULTILABEL})
_EXPLAINED = frozenset({*_CLASSIFICATION, Task.QUANTILE, Task.MULTITASK})
_MACRO = _CLASSIFICATION | _MULTILABEL
_INFINITY = float("inf")

#: Labels up to which each one's own metrics are computed.
MAX_LABELS = 50

#: Those of a label.
_OF_LABEL = ("roc_auc", "average_precision", "f1")

Function = Callable[[NDArray[Any], NDArray[Any]], float]


def metric(name: str, target: Target | Task) -> Metric:
    """Returns the metric of this name.

    Args:
        name: Of a metric, or `<target>/<metric>` of one of several targets.
        target: What is predicted; its task says it all where it is a single one.

    Raises:
        ConfigError: No metric of the task is called so.
    """
    known = of(target)
    if name in known:
        return known[name]
    told = [other for other in known if "/" not in other]
    if name in METRICS:
        allowed = ", ".join(f"`{other}`" for other in told)
        own = next((other for other in known if "/" in other), None)
        allowed += f"; or one target's own, such as `{own}`" if own else ""
        task = target if isinstance(target, Task) else target.task
        raise ConfigError(
            f"the metric `{name}` is not for a {task} task", where="objective", remedy=f"Known for it: {allowed}."
        )
    of_target = [other for other in known if other.startswith(f"{name.rpartition('/')[0]}/")]
    likely = of_target or (list(known) if "/" in name else told)
    raise ConfigError(f"unknown metric `{name}`", where="objective", remedy=did_you_mean(name, likely))


def logged(name: str, direction: Direction) -> Metric:
    """Returns an objective that a LightningModule logs: nothing here can compute it of predictions."""
    return Metric(name, direction, frozenset(Task), "logged", -_INFINITY, _INFINITY, _not_computed)


def _not_computed(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    raise AssertionError("it is logged, not computed")


def names(target: Target | Task) -> list[str]:
    """Returns the names of the metrics of what is predicted."""
    return list(of(target))


def of(target: Target | Task) -> dict[str, Metric]:
    """Returns the metrics of what is predicted by name.

    Several targets have those that are of all of them together, and each one's own, as `<target>/<metric>`.
    """
    target = Target("", target) if isinstance(target, Task) else target
    if target.task is Task.MULTILABEL:
        return _of_labels(target) | (_of_each(target, _OF_LABEL) if len(target.parts) <= MAX_LABELS else {})
    if target.task is Task.MULTITASK:
        each = _of_each(target)
        # A mean of what all targets have, whatever their units: who asks for it knows that they are alike.
        shared = [name for name in METRICS if all(f"{part.name}/{name}" in each for part in target.parts)]
        means = {name: _mean(target, name, dict.fromkeys(target.names, name)) for name in shared}
        explained = {p.name: "r2" if p.task is Task.REGRESSION else "d2" for p in target.parts}
        return {"d2": _mean(target, "d2", explained)} | means | each
    if target.task is Task.QUANTILE:
        quantiles = np.array(target.quantiles or USUAL_QUANTILES)
        functions = {"pinball": _pinball, "d2": _pinball_explained, "coverage_error": _coverage_error}
        return {
            name: replace(METRICS[name], needs="values", function=partial(function, quantiles))
            for name, function in functions.items()
        }
    return {name: known for name, known in METRICS.items() if target.task in known.tasks}


def default_metric(target: Target | Task) -> Metric:
    """Returns the objective of what is predicted for which none was named."""
    usual = {
        Task.BINARY: "roc_auc",
        Task.MULTICLASS: "log_loss",
        Task.REGRESSION: "rmse",
        Task.QUANTILE: "pinball",
        Task.MULTILABEL: "average_precision_micro",
        Task.MULTITASK: "d2",
    }
    return metric(usual[target if isinstance(target, Task) else target.task], target)


def score(metric: Metric, y_true: NDArray[Any], predictions: NDArray[Any], weights: Sequence[float] = ()) -> float:
    """Returns the metric of predictions, or nan where it is not defined.

    Not defined: a prediction is not finite, or the rows lack the classes that the metric compares.

    Args:
        metric: What to compute.
        y_true: As of `Dataset`. Not every class need occur.
        predictions: Probabilities (rows, classes), values (rows,) or (rows, quantiles); of several side by side.
        weights: What each column of probabilities is multiplied with before the largest one is the label; empty:
            nothing.
    """
    if not len(y_true) or not np.isfinite(predictions).all():
        return float("nan")
    y_pred: NDArray[Any] = np.asarray(predictions, dtype=np.float64)
    if metric.parts:
        return metric.function(y_true, y_pred, weights)
    if metric.needs == "labels":
        y_pred = labels(y_pred, weights)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # scikit-learn warns of classes that few rows lack by chance; nan and the definitions below say it better.
        warnings.simplefilter("ignore")
        return metric.function(y_true, y_pred)


def labels(probabilities: NDArray[Any], weights: Sequence[float] = ()) -> NDArray[np.int64]:
    """Returns the class positions that probabilities (rows, classes) of one target stand for; (rows,)."""
    decided: NDArray[np.int64] = (probabilities * weights if len(weights) else probabilities).argmax(axis=1)
    return decided


def score_all(
    target: Target | Task, y_true: NDArray[Any], predictions: NDArray[Any], weights: Sequence[float] = ()
) -> dict[str, float]:
    """Returns every metric of what is predicted by name; arguments as of `score`."""
    return {name: score(known, y_true, predictions, weights) for name, known in of(target).items()}


def score_folds(
    metric: Metric, y_true: Sequence[NDArray[Any]], predictions: Sequence[NDArray[Any]], weights: Sequence[float] = ()
) -> float:
    """Returns the mean of a metric over folds; arguments as of `score`, one a fold.

    The mean and not the score of all rows together: the models of two folds need not rank rows on one scale.
    """
    return float(np.mean([score(metric, *fold, weights) for fold in zip(y_true, predictions, strict=True)]))


def score_all_folds(
    target: Target | Task,
    y_true: Sequence[NDArray[Any]],
    predictions: Sequence[NDArray[Any]],
    weights: Sequence[float] = (),
) -> dict[str, float]:
    """Returns every metric of what is predicted by name; arguments as of `score_folds`."""
    return {name: score_folds(known, y_true, predictions, weights) for name, known in of(target).items()}


# --- several targets -----------------------------------------------------------------------------------------------


def _of_each(target: Target, chosen: Sequence[str] | None = None) -> dict[str, Metric]:
    """Returns the metrics of each of several targets, or those chosen of them, as `<target>/<metric>`."""
    found = {}
    for part in target.parts:
        for name in of(part):
            if chosen is None or name in chosen:
                found[f"{part.name}/{name}"] = _mean(target, f"{part.name}/{name}", {part.name: name})
    return found


def _of_labels(target: Target) -> dict[str, Metric]:
    """Returns the metrics of labels together: means over the labels, and what is computed of all at once.

    What needs labels of the latter is decided label by label, by what comes nearest to it.
    """
    found = {}
    for name, known in METRICS.items():
        if known.tasks >= _MACRO:
            found[name] = _mean(target, name, dict.fromkeys(target.names, "f1" if name == "f1_macro" else name))
        elif Task.MULTILABEL in known.tasks:
            parts = _parts(target, dict.fromkeys(target.names, "f1" if name == "f1_micro" else "accuracy"))
            found[name] = replace(known, function=partial(_pooled, known, parts), parts=parts)
    return found


def _mean(target: Target, name: str, chosen: Mapping[str, str]) -> Metric:
    """Returns the mean over some targets of a metric of each, given by the target's name; of those that have one."""
    parts = _parts(target, chosen)
    needs = {part.metric.needs for part in parts}
    one = parts[0].metric
    return Metric(
        name,
        one.direction,
        frozenset({target.task}),
        next(kind for kind in ("labels", "probabilities", "values") if kind in needs),
        min(part.metric.low for part in parts),
        max(part.metric.high for part in parts),
        partial(_mean_of, parts),
        parts,
    )


def _parts(target: Target, chosen: Mapping[str, str]) -> tuple[MetricPart, ...]:
    places = zip(target.parts, target.slices, strict=True)
    return tuple(
        MetricPart(metric(chosen[part.name], part), part.task, position, columns)
        for position, (part, columns) in enumerate(places)
        if part.name in chosen
    )


def of_part(part: MetricPart, y_true: NDArray[Any], predictions: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns what is known of one of several targets, as if it were the only one: target and predictions."""
    y = y_true[:, part.position]
    known = ~np.isnan(y)
    seen = predictions[known, part.columns]
    if part.task.is_classification:
        return y[known].astype(np.int64), seen
    return y[known], seen[:, 0] if part.task is Task.REGRESSION else seen


def _mean_of(
    parts: Sequence[MetricPart], y_true: NDArray[Any], predictions: NDArray[Any], weights: Sequence[float]
) -> float:
    """Returns the mean over some targets; a target whose metric is not defined in these rows is left out of it."""
    scores = [score(p.metric, *of_part(p, y_true, predictions), weights[p.columns]) for p in parts]
    defined = [value for value in scores if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _pooled(
    metric: Metric,
    parts: Sequence[MetricPart],
    y_true: NDArray[Any],
    predictions: NDArray[Any],
    weights: Sequence[float],
) -> float:
    """Returns a function of all labels at once: (rows, labels), NaN where one is missing."""
    found = [predictions[:, part.columns] for part in parts]
    if metric.needs == "labels":
        seen = np.column_stack([labels(each, weights[p.columns]) for each, p in zip(found, parts, strict=True)])
    else:
        seen = np.column_stack([each[:, 1] for each in found])
    return metric.function(y_true, seen)


def _micro(name: str, y_true: NDArray[Any], y_pred: NDArray[Any], **options: Any) -> float:
    """Returns a function of two classes over every label of every row that is known, as one."""
    known = ~np.isnan(y_true)
    y = y_true[known].astype(np.int64)
    return _sklearn(name, y, y_pred[known], **options) if y.any() and not y.all() else float("nan")


def _subset_accuracy(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the share of rows of which every known label is right."""
    return float(((y_true == y_pred) | np.isnan(y_true)).all(axis=1).mean())


def _hamming_loss(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the share of known labels that are wrong."""
    known = ~np.isnan(y_true)
    return float((y_true != y_pred)[known].mean()) if known.any() else float("nan")


# --- single targets ------------------------------------------------------------------------------------------------


def _sklearn(name: str, y_true: NDArray[Any], y_pred: NDArray[Any], **options: Any) -> float:
    """Returns what the function of this name in sklearn.metrics returns."""
    import sklearn.metrics

    return float(getattr(sklearn.metrics, name)(y_true, y_pred, **options))


def _of_classes(name: str, y_true: NDArray[Any], y_pred: NDArray[Any], **options: Any) -> float:
    """Returns a function of probabilities that is told the classes, since `y_true` may lack some."""
    return _sklearn(name, y_true, y_pred, labels=range(y_pred.shape[1]), **options)


def _brier(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the Brier score, halved for several classes too: 1 is the worst value in every task."""
    return _of_classes("brier_score_loss", y_true, y_pred, scale_by_half=True)


def _one_vs_rest(name: str, y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns a function of two classes: of the positive class in a binary task, else the mean over the classes.

    A class that no row or every row has is left out of the mean.
    """
    n_classes = y_pred.shape[1]
    members = {position: y_true == position for position in ([1] if n_classes == 2 else range(n_classes))}
    scores = [
        _sklearn(name, member, y_pred[:, position])
        for position, member in members.items()
        if member.any() and not member.all()
    ]
    return float(np.mean(scores)) if scores else float("nan")


def _explained(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the share of the deviance that is explained; 0: as good as the classes' shares in these rows."""
    return _of_classes("d2_log_loss_score", y_true, y_pred) if np.ptp(y_true) else float("nan")


def _pinball(quantiles: NDArray[np.float64], y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the mean over the levels of the pinball loss (Koenker and Bassett 1978); y_pred (rows, quantiles)."""
    missing = y_true[:, None] - y_pred
    return float(np.maximum(quantiles * missing, (quantiles - 1) * missing).mean())


def _pinball_explained(quantiles: NDArray[np.float64], y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the share of the pinball loss that is explained; 0: as good as the quantiles of these rows' values."""
    constant = np.broadcast_to(np.quantile(y_true, quantiles), y_pred.shape)
    usual = _pinball(quantiles, y_true, constant)
    return 1 - _pinball(quantiles, y_true, y_pred) / usual if usual else float("nan")


def _coverage_error(quantiles: NDArray[np.float64], y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns how far the share of values below a quantile is from its level, in the mean over the levels."""
    return float(np.abs((y_true[:, None] <= y_pred).mean(axis=0) - quantiles).mean())


def _smape(y_true: NDArray[Any], y_pred: NDArray[Any]) -> float:
    """Returns the mean of 2 |error| / (|value| + |prediction|), as of the M4 competition; 0 where both are 0."""
    size = np.abs(y_true) + np.abs(y_pred)
    return float(np.mean(2 * np.abs(y_true - y_pred) / np.where(size > 0, size, 1.0)))


def _gain(name: str, tasks: frozenset[Task], needs: str, function: Function, low: float = 0.0) -> Metric:
    """Returns a metric of which more is better, up to 1."""
    return Metric(name, Direction.MAXIMIZE, tasks, needs, low, 1.0, function)


def _cost(name: str, tasks: frozenset[Task], needs: str, function: Function, high: float = _INFINITY) -> Metric:
    """Returns a metric of which less is better, down to 0."""
    return Metric(name, Direction.MINIMIZE, tasks, needs, 0.0, high, function)


#: Every metric by name. Of several targets there are more, made of these.
METRICS: dict[str, Metric] = {
    known.name: known
    for known in (
        _gain("roc_auc", _MACRO, "probabilities", partial(_one_vs_rest, "roc_auc_score")),
        _gain("average_precision", _MACRO, "probabilities", partial(_one_vs_rest, "average_precision_score")),
        _gain("average_precision_micro", _MULTILABEL, "probabilities", partial(_micro, "average_precision_score")),
        _cost("log_loss", _MACRO, "probabilities", partial(_of_classes, "log_loss")),
        _cost("brier", _MACRO, "probabilities", _brier, high=1.0),
        _gain("accuracy", _CLASSIFICATION, "labels", partial(_sklearn, "accuracy_score")),
        _gain("balanced_accuracy", _CLASSIFICATION, "labels", partial(_sklearn, "balanced_accuracy_score")),
        _gain("subset_accuracy", _MULTILABEL, "labels", _subset_accuracy),
        _cost("hamming_loss", _MULTILABEL, "labels", _hamming_loss, high=1.0),
        _gain("f1", _BINARY, "labels", partial(_sklearn, "f1_score")),
        _gain("f1_macro", _MACRO, "labels", partial(_sklearn, "f1_score", average="macro")),
        _gain("f1_micro", _MULTILABEL, "labels", partial(_micro, "f1_score")),
        _gain("matthews", _CLASSIFICATION, "labels", partial(_sklearn, "matthews_corrcoef"), low=-1.0),
        _gain("d2", _EXPLAINED, "probabilities", _explained, low=-_INFINITY),
        _cost("rmse", _REGRESSION, "values", partial(_sklearn, "root_mean_squared_error")),
        _cost("mae", _REGRESSION, "values", partial(_sklearn, "mean_absolute_error")),
        _cost("median_absolute_error", _REGRESSION, "values", partial(_sklearn, "median_absolute_error")),
        _cost("mape", _REGRESSION, "values", partial(_sklearn, "mean_absolute_percentage_error")),
        _cost("smape", _REGRESSION, "values", _smape, high=2.0),
        _gain("r2", _REGRESSION, "values", partial(_sklearn, "r2_score"), low=-_INFINITY),
        _cost("pinball", _QUANTILE, "values", partial(_pinball, np.array(USUAL_QUANTILES))),
        _cost("coverage_error", _QUANTILE, "values", partial(_coverage_error, np.array(USUAL_QUANTILES)), high=1.0),
    )
}
