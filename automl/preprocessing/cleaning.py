"""Training rows that teach nothing, or something wrong, are left out. Rows to predict never are.

These steps only pick rows, so they may stand anywhere; first, they see the table as it came. They may see missing
numbers and codes of categories, which they compare as `neighbours` describes, and hand on every row unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from automl.components import register
from automl.preprocessing.limits import within
from automl.preprocessing.neighbours import MAX_COMPARED_ROWS, comparable, in_slices
from automl.values import Task

#: Neighbours that a row is compared with to find one that is nearly the same.
N_NEAREST = 5

#: Rows that a class needs for its labels to be judged.
MIN_JUDGED_ROWS = 10

#: Trees of the forest that judges labels, and the most rows that a tree sees, which are at most half of them: that no
#: tree is left that has not seen a row does not happen.
N_TREES, MAX_TREE_ROWS = 25, 1_000


@register("cleaning", "picks_rows")
def drop_duplicates(task: Task) -> Duplicates:
    """Leaves out training rows that are equal to another, target included."""
    return Duplicates()


@register("cleaning", "picks_rows")
def near_duplicates(task: Task, *, distance: float = 0.05) -> NearDuplicates:
    """Leaves out training rows that are nearly equal to another of the same class, or of nearly the same value.

    Beyond 5,000 rows, rows are sorted along a random direction, where near rows are near as well, and compared within
    slices of that many.

    Args:
        task: Whether the target is a class.
        distance: Root mean square of the columns' differences, in standard deviations, up to which rows are the same.

    Raises:
        ConfigError: The distance is negative.
    """
    within("cleaning.near_duplicates.distance", distance, 0)
    return NearDuplicates(distance=distance, classification=task.is_classification)


@register("cleaning", "picks_rows", "classification")
def label_noise(task: Task, *, max_share: float = 0.05) -> ImplausibleLabels:
    """Leaves out training rows whose class a random forest finds implausible, by the trees that have not seen them.

    Args:
        task: Not looked at.
        max_share: Of the rows of each class that may be left out.

    Raises:
        ConfigError: The share is not in 0..0.5.

    Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021,
    arXiv 1911.00068.
    """
    within("cleaning.label_noise.max_share", max_share, 0, 0.5)
    return ImplausibleLabels(max_share=max_share)


class Duplicates(BaseEstimator):  # type: ignore[misc]
    """Picks the first of each set of equal rows; missing numbers are equal to one another.

    Attributes:
        sample_indices_: Positions of the rows kept; (n_kept,).
    """

    def fit_resample(self, X: NDArray[np.float64], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Returns the rows kept, and their targets."""
        repeated = pd.DataFrame(np.column_stack([X, y])).duplicated().to_numpy()
        self.sample_indices_ = np.flatnonzero(~repeated)
        self.notes_ = _left_out(int(repeated.sum()), len(y), "equal to another")
        return X[self.sample_indices_], y[self.sample_indices_]


class NearDuplicates(BaseEstimator):  # type: ignore[misc]
    """Picks rows so that none of a row's five nearest is nearly the same, has the same target and comes before it.

    Args:
        distance: As of `near_duplicates`.
        classification: Whether the target holds class positions, which must be equal; values are one more column.
        categorical_features: Positions of the columns that hold codes.

    Attributes:
        sample_indices_: Positions of the rows kept; (n_kept,).
    """

    def __init__(
        self,
        *,
        distance: float = 0.05,
        classification: bool = True,
        categorical_features: tuple[int, ...] = (),
        random_state: int | None = None,
    ) -> None:
        self.distance = distance
        self.classification = classification
        self.categorical_features = categorical_features
        self.random_state = random_state

    def fit_resample(self, X: NDArray[np.float64], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Returns the rows kept, and their targets."""
        seen = X if self.classification else np.column_stack([X, y])
        space = comparable(seen, self.categorical_features)
        reach = self.distance * np.sqrt(seen.shape[1])
        slices = in_slices(space, MAX_COMPARED_ROWS, self.random_state)
        kept = [rows[self._kept(space[rows], y[rows], reach)] for rows in slices]
        self.sample_indices_ = np.sort(np.concatenate(kept))
        self.notes_ = _left_out(len(y) - len(self.sample_indices_), len(y), "nearly equal to another")
        return X[self.sample_indices_], y[self.sample_indices_]

    def _kept(self, Z: NDArray[np.float64], y: NDArray[Any], reach: float) -> NDArray[np.bool_]:
        kept = np.ones(len(Z), dtype=bool)
        if len(Z) < 2:
            return kept
        nearest = NearestNeighbors(n_neighbors=min(N_NEAREST, len(Z) - 1)).fit(Z)
        distances, rows = nearest.kneighbors()  # without the row itself
        same = (distances <= reach) & (rows < np.arange(len(Z))[:, None])
        if self.classification:
            same &= y[rows] == y[:, None]
        for row in np.flatnonzero(same.any(axis=1)):  # in ascending order: those before it are decided
            kept[row] = not kept[rows[row, same[row]]].any()
        return kept


class ImplausibleLabels(BaseEstimator):  # type: ignore[misc]
    """Confident learning: leaves out the rows that are most surely of another class than they say.

    A row may go when the trees that have not seen it give another class at least the probability that rows of that
    class get on average, and more than its own. Of these the ones with the largest margin go, up to a share of each
    class. Classes of fewer than ten rows are not judged.

    Args:
        max_share: Of the rows of each class that may go.
        categorical_features: Positions of the columns that hold codes.

    Attributes:
        sample_indices_: Positions of the rows kept; (n_kept,).
    """

    def __init__(
        self,
        *,
        max_share: float = 0.05,
        categorical_features: tuple[int, ...] = (),
        random_state: int | None = None,
    ) -> None:
        self.max_share = max_share
        self.categorical_features = categorical_features
        self.random_state = random_state

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the rows kept, and their targets."""
        kept = np.ones(len(y), dtype=bool)
        _, positions, counts = np.unique(y, return_inverse=True, return_counts=True)
        judged = np.flatnonzero((counts >= MIN_JUDGED_ROWS)[positions])
        if np.unique(y[judged]).size > 1:
            kept[judged] = self._plausible(comparable(X, self.categorical_features)[judged], y[judged])
        self.sample_indices_ = np.flatnonzero(kept)
        self.notes_ = _left_out(int((~kept).sum()), len(y), "implausible in their class")
        return X[kept], y[kept]

    def _plausible(self, Z: NDArray[np.float64], y: NDArray[np.int64]) -> NDArray[np.bool_]:
        from sklearn.ensemble import RandomForestClassifier  # no prediction needs it

        forest = RandomForestClassifier(
            N_TREES,
            min_samples_leaf=3,
            max_samples=min(MAX_TREE_ROWS, len(y) // 2),
            oob_score=True,
            random_state=self.random_state,
        ).fit(Z, y)
        return ~implausible(forest.oob_decision_function_, np.searchsorted(forest.classes_, y), self.max_share)


def implausible(probabilities: NDArray[np.float64], own: NDArray[np.int64], max_share: float) -> NDArray[np.bool_]:
    """Returns which rows are most surely of another class, at most a share of each class; (rows,).

    Args:
        probabilities: Of each class, by a model that has not seen the row; (rows, classes).
        own: The class that a row is said to have; (rows,).
        max_share: Of the rows of each class, rounded down.
    """
    classes = np.arange(probabilities.shape[1])
    usual = np.array([probabilities[own == label, label].mean() for label in classes])
    of_own = probabilities[np.arange(len(own)), own]
    others = np.where((probabilities >= usual) & (classes != own[:, None]), probabilities, 0.0).max(axis=1)
    margin = others - of_own
    found = np.zeros(len(own), dtype=bool)
    for label in classes:
        members = np.flatnonzero(own == label)
        worst = members[np.argsort(-margin[members], kind="stable")[: int(max_share * len(members))]]
        found[worst] = margin[worst] > 0
    return found


def _left_out(n_rows: int, of: int, because: str) -> tuple[str, ...]:
    return (f"{n_rows:,} of {of:,} training rows left out, {because}",)
