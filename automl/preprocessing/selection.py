"""Which numeric columns are worth keeping."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from automl.components import register
from automl.preprocessing.imputation import sample_rows
from automl.preprocessing.limits import within
from automl.values import Task

#: Rows that mutual information is estimated from: its nearest neighbours cost more than everything else together.
MAX_INFORMATION_ROWS = 2_000

#: Rows that it is estimated from at least of each of several targets, which share them.
MIN_SHARED_ROWS = 200

#: Rows and trees that importances are estimated from.
MAX_IMPORTANCE_ROWS, N_TREES = 3_000, 20

#: Rows that correlations are estimated from.
MAX_CORRELATION_ROWS = 10_000

#: Below this, nearest neighbours say nothing.
MIN_INFORMATION_ROWS = 10


@register("selection")
def variance(task: Task, *, share: float = 0.9) -> BestColumns:
    """Keeps the share of numeric columns that vary most, measured against their own range; never a constant one."""
    return BestColumns(by="variance", share=share, classification=task.is_classification)


@register("selection")
def mutual_information(task: Task, *, share: float = 0.5) -> BestColumns:
    """Keeps the share of numeric columns that tell most about the target; never a constant one.

    Estimated on at most 2,000 training rows.

    Kraskov, Stögbauer and Grassberger, "Estimating mutual information", 2004; Ross, "Mutual information between
    discrete and continuous data sets", 2014.
    """
    return BestColumns(by="mutual_information", share=share, classification=task.is_classification)


@register("selection")
def model_importance(task: Task, *, share: float = 0.5) -> BestColumns:
    """Keeps the share of numeric columns that randomised trees split on to most effect; never a constant one.

    Estimated by 20 trees on at most 3,000 training rows.

    Geurts, Ernst and Wehenkel, "Extremely randomized trees", 2006.
    """
    within("selection.model_importance.share", share, 0, 1)
    return BestColumns(by="model_importance", share=share, classification=task.is_classification)


@register("selection")
def correlation(task: Task, *, threshold: float = 0.95) -> UncorrelatedColumns:
    """Leaves out numeric columns whose correlation with an earlier one is above a threshold; never a constant one.

    Estimated on at most 10,000 training rows.

    Raises:
        ConfigError: The threshold is not in 0..1.
    """
    within("selection.correlation.threshold", threshold, 0, 1)
    return UncorrelatedColumns(threshold=threshold)


class BestColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The best share of the columns that are not constant, at least one of them.

    Args:
        by: The score.
        share: Of the columns that vary, in 0..1.
        classification: Whether the target holds class positions.

    Attributes:
        support_: Which columns stay; (columns,).
    """

    def __init__(
        self,
        *,
        by: Literal["variance", "mutual_information", "model_importance"],
        share: float,
        classification: bool,
        random_state: int | None = None,
    ) -> None:
        self.by = by
        self.share = share
        self.classification = classification
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any]) -> BestColumns:
        varying = np.flatnonzero(np.ptp(X, axis=0) > 0)
        self.support_ = np.zeros(X.shape[1], dtype=bool)
        if varying.size:
            score = {
                "variance": self._spread,
                "mutual_information": self._information,
                "model_importance": self._importance,
            }[self.by]
            scores = score(X[:, varying], y)
            n_kept = max(1, round(self.share * varying.size))
            self.support_[varying[np.argsort(-scores, kind="stable")[:n_kept]]] = True
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the columns that stay, in their order; (rows, columns kept), which may be no column at all."""
        return X[:, self.support_]

    def _spread(self, X: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.float64]:
        """Returns each column's variance on its own range, so that units and scaling do not matter; (columns,)."""
        low, high = X.min(axis=0), X.max(axis=0)
        spread: NDArray[np.float64] = ((X - low) / (high - low)).var(axis=0)
        return spread

    def _information(
        self, X: NDArray[np.float64], y: NDArray[Any], n_rows: int = MAX_INFORMATION_ROWS
    ) -> NDArray[np.float64]:
        """Returns each column's mutual information with the target, in nats, the mean over several; (columns,)."""
        if y.ndim == 2:
            each = [self._information(X, column, MAX_INFORMATION_ROWS // y.shape[1]) for column in y.T]
            shared: NDArray[np.float64] = np.mean(each, axis=0)
            return shared
        rows = sample_rows(len(X), max(n_rows, MIN_SHARED_ROWS), self.random_state)
        X, y = X[rows], y[rows]
        has_neighbours = not self.classification or np.unique(y, return_counts=True)[1].max() > 1
        if len(X) < MIN_INFORMATION_ROWS or not has_neighbours:
            return np.zeros(X.shape[1])
        estimate = mutual_info_classif if self.classification else mutual_info_regression
        information: NDArray[np.float64] = estimate(X, y, random_state=self.random_state)
        return information

    def _importance(self, X: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.float64]:
        """Returns how much each column's splits lower the impurity; (columns,)."""
        from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor  # no prediction needs them

        rows = sample_rows(len(X), MAX_IMPORTANCE_ROWS, self.random_state)
        kind = ExtraTreesClassifier if self.classification else ExtraTreesRegressor
        trees = kind(N_TREES, min_samples_leaf=3, max_features=0.5, random_state=self.random_state)
        importance: NDArray[np.float64] = trees.fit(X[rows], y[rows]).feature_importances_
        return importance


class UncorrelatedColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """The columns that are not constant and correlate with no column kept before them.

    Args:
        threshold: Absolute correlation that two columns kept may have at most, in 0..1.

    Attributes:
        support_: Which columns stay; (columns,).
    """

    def __init__(self, *, threshold: float = 0.95, random_state: int | None = None) -> None:
        self.threshold = threshold
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> UncorrelatedColumns:
        X = X[sample_rows(len(X), MAX_CORRELATION_ROWS, self.random_state)]
        varying = np.flatnonzero(np.ptp(X, axis=0) > 0)
        centred = X[:, varying] - X[:, varying].mean(axis=0)
        centred /= np.linalg.norm(centred, axis=0)
        correlations = np.abs(centred.T @ centred)
        kept: list[int] = []
        for position in range(varying.size):
            if not (correlations[position, kept] > self.threshold).any():
                kept.append(position)
        self.support_ = np.zeros(X.shape[1], dtype=bool)
        self.support_[varying[kept]] = True
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the columns that stay, in their order; (rows, columns kept), which may be no column at all."""
        return X[:, self.support_]
