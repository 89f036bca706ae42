"""The end of a study: an ensemble over its trials, the one use of the test rows, and the model folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import metrics, plugins, references
from automl.data import storage
from automl.predictor import Predictor, combine
from automl.trial import by_fold
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
    search = storage.open_part(task.data, "search")
    folds = storage.load_folds(task.data)
    y_val = [search.target[fold.val] for fold in folds]
    predictions = [by_fold(np.load(folder / "validation.npy"), folds) for _, folder in task.candidates]
    chosen = select(predictions, y_val, metric) if task.ensemble else {0: 1.0}
    members = sorted(chosen.items(), key=lambda item: -item[1])
    predictor = combine([(Predictor.load(task.candidates[i][1] / "model"), weight) for i, weight in members])
    predictor.save(task.out)
    blended = [np.sum([weight * predictions[i][fold] for i, weight in members], axis=0) for fold in range(len(folds))]
    test: dict[str, float] = {}
    reference_scores: dict[str, float] = {}
    unseen = storage.open_part(task.data, "test")
    y_test = unseen.target
    if len(y_test):
        test = metrics.score_all(schema.target.task, y_test, unseen.predict(predictor.predictions))
        for name in task.references:
            # On all search rows, once: quicker than once a fold, and if it favours anybody, then the reference.
            features, target = search.sample()
            model = references.fit(name, schema, features, target, task.seed)
            predicted = unseen.predict(partial(references.predict, model, schema))
            reference_scores[name] = metrics.score(metric, y_test, predicted)
    return ShippedModel(
        members=tuple((task.candidates[i][0], weight) for i, weight in members),
        validation=metrics.score_folds(metric, y_val, blended),
        test=test,
        references=reference_scores,
    )


def select(
    predictions: Sequence[Sequence[NDArray[Any]]], y_true: Sequence[NDArray[Any]], metric: Metric
) -> dict[int, float]:
    """Returns the weights of a greedy ensemble: position -> weight, adding up to one.

    Starting from the best alone, each round adds, with replacement, whatever helps the average most; the best round
    counts. Caruana et al. 2004, "Ensemble selection from libraries of models".

    Args:
        predictions: For each candidate, best first, one array a fold; (rows, classes) or (rows,).
        y_true: One array a fold; (rows,).
    """
    picked: list[int] = []
    total = [np.zeros_like(fold, dtype=np.float64) for fold in predictions[0]]
    best, best_length = metric.worst, 1
    for _ in range(ROUNDS):
        n = len(picked) + 1
        scores = [
            metrics.score_folds(metric, y_true, [(sum_ + fold) / n for sum_, fold in zip(total, each, strict=True)])
            for each in predictions
        ]
        order = np.argsort(scores, kind="stable")
        winner = int(order[0] if metric.better(0, 1) else order[-1])
        winner = next(i for i, value in enumerate(scores) if value == scores[winner])  # of equals, the better trial
        picked.append(winner)
        total = [sum_ + fold for sum_, fold in zip(total, predictions[winner], strict=True)]
        if len(picked) == 1 or metric.better(scores[winner], best):
            best, best_length = scores[winner], len(picked)
    counts = Counter(picked[:best_length])
    return {i: count / best_length for i, count in counts.items()}
