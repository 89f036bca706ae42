"""Which numeric columns are worth keeping."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

from automl.components import register
from automl.preprocessing.imputation import sample_rows
from automl.values import Task

#: Rows that mutual information is estimated from: its nearest neighbours cost more than everything else together.
MAX_INFORMATION_ROWS = 2_000

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
        by: Literal["variance", "mutual_information"],
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
            scores = (self._spread if self.by == "variance" else self._information)(X[:, varying], y)
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

    def _information(self, X: NDArray[np.float64], y: NDArray[Any]) -> NDArray[np.float64]:
        """Returns each column's mutual information with the target, in nats; (columns,)."""
        rows = sample_rows(len(X), MAX_INFORMATION_ROWS, self.random_state)
        X, y = X[rows], y[rows]
        has_neighbours = not self.classification or np.unique(y, return_counts=True)[1].max() > 1
        if len(X) < MIN_INFORMATION_ROWS or not has_neighbours:
            return np.zeros(X.shape[1])
        estimate = mutual_info_classif if self.classification else mutual_info_regression
        information: NDArray[np.float64] = estimate(X, y, random_state=self.random_state)
        return information
