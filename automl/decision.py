"""Decisions: from probabilities to a class, in the way that an objective rewards.

A network trained on rare positives hardly ever gives them more than a half, and then its labels say nothing, however
well it ranks. A decision costs no training: it weighs each class's probability before the largest one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl import metrics
from automl.values import Metric

Weights = tuple[float, ...]

#: Thresholds that are tried, at equal shares of the rows.
N_THRESHOLDS = 256

#: A threshold counts with so many neighbours on either side: the best single one is best by chance.
N_NEIGHBOURS = 4

#: What a decision must gain, of metrics that end at 1, to be another than the usual one: a little is chance.
MIN_GAIN = 0.002

#: How far classes are evened out, in several classes: probabilities are divided by the class's share to this power.
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)

_Array = NDArray[np.float64]


def choose(
    metric: Metric, y_true: Sequence[NDArray[np.int64]], probabilities: Sequence[NDArray[np.float64]]
) -> Weights:
    """Returns what each column of probabilities is multiplied with so that the labels do best; empty: nothing.

    Args:
        metric: The objective. Nothing is to be decided unless it needs labels.
        y_true: As of `Dataset`, one array a fold.
        probabilities: One array a fold; (rows, classes), of several targets side by side.
    """
    if not _has_choice(metric, probabilities):
        return ()
    if metric.parts:
        return _choose_each(metric, y_true, probabilities)
    return _decide(metric, y_true, probabilities)[0]


def score(metric: Metric, y_true: Sequence[NDArray[Any]], predictions: Sequence[NDArray[Any]]) -> float:
    """Returns the mean of a metric over folds, of labels after the decision that suits them best.

    Args:
        metric: What to compute.
        y_true: One array a fold; (rows,).
        predictions: One array a fold; (rows, columns) or (rows,).
    """
    if metric.parts or not _has_choice(metric, predictions):
        return metrics.score_folds(metric, y_true, predictions, choose(metric, y_true, predictions))
    return _decide(metric, y_true, predictions)[1]


def _has_choice(metric: Metric, predictions: Sequence[NDArray[Any]]) -> bool:
    """Returns whether there is anything to decide."""
    return metric.needs == "labels" and all(np.isfinite(fold).all() for fold in predictions)


def _choose_each(metric: Metric, y_true: Sequence[NDArray[Any]], predictions: Sequence[_Array]) -> Weights:
    """Returns the weights that are best for each of several targets; empty where nothing is gained together."""
    weights = np.ones(predictions[0].shape[1])
    folds = list(zip(y_true, predictions, strict=True))
    for part in metric.parts:
        known = [(y, p) for y, p in (metrics.of_part(part, *fold) for fold in folds) if len(y)]
        if known and part.metric.needs == "labels":
            found = choose(part.metric, *zip(*known, strict=True))
            weights[part.columns] = found or 1.0
    chosen = tuple(weights.tolist())
    values = [metrics.score_folds(metric, y_true, predictions, each) for each in ((), chosen)]
    return chosen if metric.better(values[1], values[0]) else ()


def _decide(
    metric: Metric, y_true: Sequence[NDArray[np.int64]], predictions: Sequence[_Array]
) -> tuple[Weights, float]:
    """Returns the weights that are best, and the mean of the metric over folds that they give."""
    if predictions[0].shape[1] == 2:
        return _threshold(metric, y_true, [fold[:, 1] for fold in predictions])
    shares = np.bincount(np.concatenate(y_true), minlength=predictions[0].shape[1]) / sum(map(len, y_true))
    tried = [tuple((np.maximum(shares, 1e-6) ** -power).tolist()) for power in POWERS]
    values = _values(metric, [_of_weights(*fold, tried) for fold in zip(y_true, predictions, strict=True)])
    best = int(np.argmax(values))
    return (tried[best], values[best]) if values[best] > values[0] + MIN_GAIN else ((), values[0])


def _threshold(
    metric: Metric, y_true: Sequence[NDArray[np.int64]], positive: Sequence[_Array]
) -> tuple[Weights, float]:
    """Returns the weights of the threshold of the second class that is best, and its value."""
    pooled = np.sort(np.concatenate(positive))
    steps = np.unique(pooled[np.linspace(0, len(pooled) - 1, min(N_THRESHOLDS, len(pooled))).astype(int)])
    thresholds = np.unique(np.append((steps[1:] + steps[:-1]) / 2, 0.5))
    values = _values(metric, [_of_thresholds(y, p, thresholds) for y, p in zip(y_true, positive, strict=True)])
    window = np.ones(2 * N_NEIGHBOURS + 1)
    smooth = np.convolve(values, window, "same") / np.convolve(np.ones_like(values), window, "same")
    usual = int(np.searchsorted(thresholds, 0.5))
    best = int(smooth.argmax())
    best = usual if smooth[best] <= smooth[usual] + MIN_GAIN else best
    threshold = float(thresholds[best])
    return (threshold, 1 - threshold), values[best]


# --- rows by class and by label, from which each metric of labels follows -------------------------------------------


def _of_weights(y: NDArray[np.int64], probabilities: _Array, tried: Sequence[Weights]) -> _Array:
    """Returns how many rows of each class have each label, for each of the weights; (weights, classes, labels)."""
    n = probabilities.shape[1]
    cells = [n * y + metrics.labels(probabilities, weights) for weights in tried]
    return np.stack([np.bincount(cell, minlength=n * n).reshape(n, n) for cell in cells]).astype(np.float64)


def _of_thresholds(y: NDArray[np.int64], positive: _Array, thresholds: _Array) -> _Array:
    """Returns how many rows of each class have each label, at each threshold; (thresholds, classes, labels)."""
    rows = [np.sort(positive[y == position]) for position in (0, 1)]
    below = [np.searchsorted(of_class, thresholds, side="right") for of_class in rows]
    counts = [np.stack([n, len(of_class) - n], axis=-1) for n, of_class in zip(below, rows, strict=True)]
    return np.stack(counts, axis=-2).astype(np.float64)


def _values(metric: Metric, folds: Sequence[_Array]) -> list[float]:
    """Returns the mean of a metric over folds, for each of some ways to decide; (ways, classes, labels) each."""
    values: list[float] = np.mean([_OF_COUNTS[metric.name](counts) for counts in folds], axis=0).tolist()
    return values


def _ratio(part: _Array, whole: _Array) -> _Array:
    """Returns a ratio, 0 of nothing: as scikit-learn has it."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _balanced_accuracy(counts: _Array) -> _Array:
    of_class = counts.sum(axis=-1)
    recalls = _ratio(_right(counts), of_class)
    return _ratio(recalls.sum(axis=-1), (of_class > 0).sum(axis=-1))


def _f1_of_each(counts: _Array) -> _Array:
    return _ratio(2 * _right(counts), counts.sum(axis=-1) + counts.sum(axis=-2))


def _f1_macro(counts: _Array) -> _Array:
    occurs = counts.sum(axis=-1) + counts.sum(axis=-2) > 0
    return _ratio(_f1_of_each(counts).sum(axis=-1), occurs.sum(axis=-1))


def _matthews(counts: _Array) -> _Array:
    """Gorodkin 2004, "Comparing two K-category assignments by a K-category correlation coefficient"."""
    of_class, of_label, n = counts.sum(axis=-1), counts.sum(axis=-2), counts.sum(axis=(-2, -1))
    covariance = n * _right(counts).sum(axis=-1) - (of_class * of_label).sum(axis=-1)
    spread = [n**2 - (of**2).sum(axis=-1) for of in (of_class, of_label)]
    return _ratio(covariance, np.sqrt(spread[0] * spread[1]))


def _right(counts: _Array) -> _Array:
    """Returns how many rows of each class have its label; (..., classes)."""
    return np.diagonal(counts, axis1=-2, axis2=-1)


#: Metrics of labels as functions of (..., classes, labels): a search asks for thousands of them.
_OF_COUNTS: dict[str, Callable[[_Array], _Array]] = {
    "accuracy": lambda counts: _ratio(_right(counts).sum(axis=-1), counts.sum(axis=(-2, -1))),
    "balanced_accuracy": _balanced_accuracy,
    "f1": lambda counts: _f1_of_each(counts)[..., 1],
    "f1_macro": _f1_macro,
    "matthews": _matthews,
}
