"""Reference models: what a search over networks has to beat, fitted and scored on the same rows as every trial."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automl import metrics
from automl.data import storage
from automl.values import ColumnKind, Schema, Scored, Task

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def run_reference(name: str, data: Path, out: Path, objective: str, seed: int) -> Scored:
    """Returns a reference model's score, and writes its validation predictions to `out`.

    Its fitted models are not kept: the end of a study fits one more, on all search rows, for the test score.
    """
    started = time.monotonic()
    schema = storage.load_schema(data)
    table = storage.open_part(data, "search")
    folds = storage.load_folds(data)
    predictions = []
    for fold in folds:
        features, target = table.sample(fold.train)
        model = fit(name, schema, features, target, seed)
        predictions.append(table.predict(partial(predict, model, schema), fold.val))
    scores = metrics.score_all_folds(schema.target.task, [table.target[fold.val] for fold in folds], predictions)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / "validation.npy", np.concatenate(predictions))
    return Scored(scores[objective], scores, seconds=time.monotonic() - started)


def fit(name: str, schema: Schema, features: pd.DataFrame, target: NDArray[Any], seed: int) -> Any:
    """Returns a fitted scikit-learn model.

    Args:
        name: `dummy` (class shares or mean), `linear` (logistic or ridge regression over one-hot categories) or
            `boosting` (histogram gradient boosting with its defaults).
        features: Canonical frame; (rows, columns).
        target: Class positions or values; (rows,).
    """
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.pipeline import make_pipeline

    regression = schema.target.task is Task.REGRESSION
    model: Any
    if name == "dummy":
        model = DummyRegressor() if regression else DummyClassifier(strategy="prior")
        return model.fit(_plain(features, schema), target)
    if name == "linear":
        model = RidgeCV(np.logspace(-2, 3, 6)) if regression else LogisticRegression(max_iter=300)
        return make_pipeline(_one_hot(schema), model).fit(_plain(features, schema), target)
    # Early stopping holds out a stratified part, which a class of one row does not allow.
    stops = regression or bool(np.bincount(target)[np.unique(target)].min() > 1)
    levels = len(schema.names(ColumnKind.CATEGORICAL))
    options = {
        "random_state": seed,
        "early_stopping": stops and len(target) >= 1000,
        "categorical_features": list(range(levels)),
    }
    model = HistGradientBoostingRegressor(**options) if regression else HistGradientBoostingClassifier(**options)
    return make_pipeline(_ordinal(schema), model).fit(_plain(features, schema), target)


def predict(model: Any, schema: Schema, features: pd.DataFrame) -> NDArray[Any]:
    """Returns probabilities (rows, classes), zero for classes the model has not seen, or values (rows,)."""
    plain = _plain(features, schema)
    if schema.target.task is Task.REGRESSION:
        values: NDArray[Any] = model.predict(plain)
        return values
    probabilities = np.zeros((len(features), len(schema.target.classes)))
    probabilities[:, model.classes_] = model.predict_proba(plain)
    return probabilities


def _plain(features: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Returns the frame as scikit-learn takes it: dates as days, missing words as words."""
    dates = {name: _days(features[name]) for name in schema.names(ColumnKind.DATETIME)}
    words = schema.names(ColumnKind.CATEGORICAL, ColumnKind.TEXT)
    return features.assign(**dates, **{name: features[name].astype(object).fillna("") for name in words})


def _days(dates: pd.Series[Any]) -> pd.Series[float]:
    """Returns days since 1970, missing where the date is."""
    return (dates.astype("int64") / 86_400e6).where(dates.notna())


def _one_hot(schema: Schema) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    fill = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    levels = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=10)
    return make_column_transformer(
        (make_pipeline(fill, StandardScaler()), _numbers(schema)),
        (levels, schema.names(ColumnKind.CATEGORICAL)),
        *_texts(schema),
    )


def _ordinal(schema: Schema) -> Any:
    from sklearn.compose import make_column_transformer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OrdinalEncoder

    from automl.preprocessing.reduction import CappedSVD

    # 254 is what histogram gradient boosting takes as categories; categories come first, since it is told positions.
    levels = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=254)
    texts = [(make_pipeline(text, CappedSVD(n_components=32, random_state=0)), name) for text, name in _texts(schema)]
    return make_column_transformer(
        (levels, schema.names(ColumnKind.CATEGORICAL)), ("passthrough", _numbers(schema)), *texts, sparse_threshold=0
    )


def _numbers(schema: Schema) -> list[str]:
    return schema.names(ColumnKind.NUMERIC, ColumnKind.BOOLEAN, ColumnKind.DATETIME)


def _texts(schema: Schema) -> list[tuple[Any, str]]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return [(TfidfVectorizer(max_features=20_000), name) for name in schema.names(ColumnKind.TEXT)]
