"""Reference models in a study: fitted and scored on the same rows as every trial."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np

from automl import decision, metrics
from automl.data import storage
from automl.predictor import Predictor, ReferenceMember
from automl.reference_model import N_TREES, Held, ReferenceModel
from automl.trial import by_fold, does_no_worse
from automl.values import Scored

#: Trees of a forest for each of several folds, whose forests are one in the end.
FOLD_TREES = 40


def run_reference(name: str, data: Path, out: Path, objective: str, seed: int, stop_at: float = math.inf) -> Scored:
    """Returns a reference model's score, and writes its models and its validation predictions to `out`.

    Args:
        name: One of `reference_model.ABOUT`.
        data: The study's data folder, of which only the search part is opened.
        out: Folder for what is written.
        objective: The metric that the score is of.
        seed: Of what is drawn at random.
        stop_at: `time.monotonic()` after which no further tree is grown.
    """
    started = time.monotonic()
    schema = storage.load_schema(data)
    table = storage.open_part(data, "search")
    folds = storage.load_folds(data)
    models: list[ReferenceModel] = []
    predictions = []
    for number, fold in enumerate(folds):
        features, target = table.sample(fold.train)
        share = time.monotonic() + (stop_at - time.monotonic()) / (len(folds) - number)
        held = Held(*table.sample(fold.val))
        n_trees = N_TREES if len(folds) == 1 else FOLD_TREES
        model = ReferenceModel.fit(name, schema, features, target, seed, held=held, n_trees=n_trees, stop_at=share)
        models.append(model)
        predictions.append(table.predict(model.predictions, fold.val))
    y_val = [table.target[fold.val] for fold in folds]
    weights = decision.choose(metrics.metric(objective, schema.target), y_val, predictions)
    scores = metrics.score_all_folds(schema.target, y_val, predictions, weights)
    Predictor(schema, [ReferenceMember(model) for model in models], decision=weights).save(out / "model")
    np.save(out / "validation.npy", np.concatenate(predictions))
    n_rounds = round(float(np.mean([model.n_rounds for model in models])))
    return Scored(scores[objective], scores, n_rounds, time.monotonic() - started)


def refit(name: str, data: Path, out: Path, objective: str, seed: int) -> bool:
    """Fits a reference model once more, on all search rows, and writes it to `refit` beside the first one.

    Args:
        name: One of `reference_model.ABOUT`.
        data: The study's data folder.
        out: The reference's folder.
        objective: The metric by which the two are compared.
        seed: Of what is drawn at random.

    Returns:
        Whether there is such a model. There is none when it does worse on the validation rows, which it has seen, than
        the first did, which had not.
    """
    schema = storage.load_schema(data)
    before = Predictor.load(out / "model")
    first = before.members[0]
    assert isinstance(first, ReferenceMember)
    search = storage.open_part(data, "search")
    model = ReferenceModel.fit(name, schema, *search.sample(), seed, like=first.model)
    folds = storage.load_folds(data)
    if not does_no_worse(
        metrics.metric(objective, schema.target),
        [search.target[fold.val] for fold in folds],
        by_fold(np.load(out / "validation.npy"), folds),
        [search.predict(model.predictions, fold.val) for fold in folds],
    ):
        return False
    Predictor(schema, [ReferenceMember(model)], decision=before.decision).save(out / "refit")
    return True
