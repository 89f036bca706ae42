"""The end of a study: an ensemble over its trials, the one use of the test rows, and the model folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import metrics, plugins, references
from automl.data import storage
from automl.predictor import Predictor, combine
from automl.trial import validation_rows
from automl.values import FinalTask, Metric, ShippedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rounds of greedy selection; weights come in steps of one over this.
ROUNDS = 30


def finalise(task: FinalTask) -> ShippedModel:
    """Returns what is shipped and how it does on the test rows, after writing it to `task.out`.

    Validation rows choose the members; the test rows are opened here, once, when nothing is left to choose.
    """
    plugins.load(task.plugins)
    schema = storage.load_schema(task.data)
    metric = metrics.metric(task.objective, schema.target.task)
    features, target = storage.load_part(task.data, "search")
    folds = storage.load_folds(task.data)
    y_val = target[validation_rows(folds)]
    predictions = [np.load(folder / "validation.npy") for _, folder in task.candidates]
    chosen = select(predictions, y_val, metric) if task.ensemble else {0: 1.0}
    members = sorted(chosen.items(), key=lambda item: -item[1])
    predictor = combine([(Predictor.load(task.candidates[i][1] / "model"), weight) for i, weight in members])
    predictor.save(task.out)
    blended = sum(weight * predictions[i] for i, weight in members)
    test: dict[str, float] = {}
    reference_scores: dict[str, float] = {}
    X_test, y_test = storage.load_part(task.data, "test")
    if len(y_test):
        test = metrics.score_all(schema.target.task, y_test, predictor.predictions(X_test))
        for name in task.references:
            # Fitted as the trials were, on the training rows of each fold, so that the scores can be compared.
            models = [references.fit(name, schema, features.iloc[f.train], target[f.train], task.seed) for f in folds]
            averaged = np.mean([references.predict(model, schema, X_test) for model in models], axis=0)
            reference_scores[name] = metrics.score(metric, y_test, averaged)
    return ShippedModel(
        members=tuple((task.candidates[i][0], weight) for i, weight in members),
        validation=metrics.score(metric, y_val, blended),
        test=test,
        references=reference_scores,
    )


def select(predictions: Sequence[NDArray[Any]], y_true: NDArray[Any], metric: Metric) -> dict[int, float]:
    """Returns the weights of a greedy ensemble: position -> weight, adding up to one.

    Starting from the best alone, each round adds, with replacement, whatever helps the average most; the best round
    counts. Caruana et al. 2004, "Ensemble selection from libraries of models".

    Args:
        predictions: One array for each candidate, best first; each (rows, classes) or (rows,).
        y_true: (rows,).
    """
    picked: list[int] = []
    total = np.zeros_like(predictions[0], dtype=np.float64)
    best, best_length = metric.worst, 1
    for _ in range(ROUNDS):
        scores = [metrics.score(metric, y_true, (total + each) / (len(picked) + 1)) for each in predictions]
        order = np.argsort(scores, kind="stable")
        winner = int(order[0] if metric.better(0, 1) else order[-1])
        winner = next(i for i, value in enumerate(scores) if value == scores[winner])  # of equals, the better trial
        picked.append(winner)
        total += predictions[winner]
        if len(picked) == 1 or metric.better(scores[winner], best):
            best, best_length = scores[winner], len(picked)
    counts = Counter(picked[:best_length])
    return {i: count / best_length for i, count in counts.items()}
