"""Classes of unequal size: training rows are repeated, left out or made up. Rows to predict never are.

`strength` means the same in all of them: the share of the gap between a class and the largest (where rows are added)
or the smallest (where rows go) that is closed; 0 changes nothing, 1 makes all classes equally large.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from automl.components import register
from automl.values import Task

if TYPE_CHECKING:  # imported where it is used: no prediction needs it, and it takes a while
    from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC, RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

#: Under-sampling leaves a class this many rows, or a class with one row would leave one of every other.
MIN_CLASS_ROWS = 10


@register("resampling", "picks_rows")
def random_over(task: Task, *, strength: float = 1.0) -> RandomOverSampler:
    """Repeats random rows of the smaller classes."""
    from imblearn.over_sampling import RandomOverSampler

    return RandomOverSampler(sampling_strategy=partial(grown, strength=strength))


@register("resampling", "picks_rows")
def random_under(task: Task, *, strength: float = 1.0) -> RandomUnderSampler:
    """Leaves out random rows of the larger classes, none of which is cut below 10 rows."""
    from imblearn.under_sampling import RandomUnderSampler

    return RandomUnderSampler(sampling_strategy=partial(shrunk, strength=strength))


@register("resampling", "synthesises_numeric")
def smote(task: Task, *, k_neighbors: int = 5, strength: float = 1.0) -> Synthesiser:
    """Makes up rows of the smaller classes between near rows of the class; numeric columns only.

    Chawla et al., "SMOTE: synthetic minority over-sampling technique", 2002.
    """
    return Synthesiser(k_neighbors=k_neighbors, strength=strength)


@register("resampling", "synthesises_mixed")
def smotenc(task: Task, *, k_neighbors: int = 5, strength: float = 1.0) -> Synthesiser:
    """Makes up rows of the smaller classes as `smote` does, with the category that most of the near rows have.

    The same as `smote` where no categorical column is left.

    Chawla et al., "SMOTE: synthetic minority over-sampling technique", 2002, section 6.
    """
    return Synthesiser(k_neighbors=k_neighbors, strength=strength)


def grown(y: NDArray[np.int64], *, strength: float) -> dict[int, int]:
    """Returns class -> rows it shall have when classes grow towards the largest."""
    classes, counts = np.unique(y, return_counts=True)
    wanted = counts + np.rint(strength * (counts.max() - counts)).astype(int)
    return dict(zip(classes.tolist(), wanted.tolist(), strict=True))


def shrunk(y: NDArray[np.int64], *, strength: float) -> dict[int, int]:
    """Returns class -> rows it shall have when classes shrink towards the smallest, or towards 10 rows."""
    classes, counts = np.unique(y, return_counts=True)
    floor = np.minimum(counts, max(counts.min(), MIN_CLASS_ROWS))
    wanted = counts - np.rint(strength * (counts - floor)).astype(int)
    return dict(zip(classes.tolist(), wanted.tolist(), strict=True))


class Synthesiser(BaseEstimator):  # type: ignore[misc]
    """imbalanced-learn's SMOTE, SMOTE-NC or SMOTE-N, whichever the columns ask for, with neighbours that exist.

    Each class grows by itself, since imbalanced-learn takes one `k_neighbors` for all classes, however small.

    Args:
        k_neighbors: Near rows that a row may be mixed with; fewer in classes that are too small for it. A class of one
            row has no neighbours and stays as it is.
        strength: Share of the gap to the largest class that is closed, in 0..1.
        categorical_features: Positions of the columns that hold codes.
    """

    def __init__(
        self,
        *,
        k_neighbors: int = 5,
        strength: float = 1.0,
        categorical_features: tuple[int, ...] = (),
        random_state: int | None = None,
    ) -> None:
        self.k_neighbors = k_neighbors
        self.strength = strength
        self.categorical_features = categorical_features
        self.random_state = random_state

    def fit_resample(
        self, X: NDArray[np.float64], y: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Returns the rows and targets, the new ones behind the given ones."""
        rows, labels, notes = [X], [y], []
        for label, n_wanted in grown(y, strength=self.strength).items():
            n_members = int((y == label).sum())
            if n_wanted == n_members:
                continue
            if n_members == 1:
                notes.append("a class of one row is left as it is, having no neighbours")
                continue
            k_neighbors = min(self.k_neighbors, n_members - 1)
            if k_neighbors < self.k_neighbors:
                notes.append(f"k_neighbors lowered to {k_neighbors} for a class of {n_members} rows")
            sampler = self._sampler(X.shape[1]).set_params(
                sampling_strategy={label: n_wanted}, k_neighbors=k_neighbors, random_state=self.random_state
            )
            grown_rows, grown_labels = sampler.fit_resample(X, y)
            rows.append(grown_rows[len(X) :])
            labels.append(grown_labels[len(X) :])
        self.notes_ = tuple(notes)
        return np.vstack(rows), np.concatenate(labels)

    def _sampler(self, n_columns: int) -> SMOTE | SMOTEN | SMOTENC:
        from imblearn.over_sampling import SMOTE, SMOTEN, SMOTENC

        if not self.categorical_features:
            return SMOTE()
        if len(self.categorical_features) == n_columns:
            return SMOTEN()
        return SMOTENC(categorical_features=list(self.categorical_features))
