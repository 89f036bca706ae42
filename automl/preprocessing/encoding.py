"""Categories become codes for an embedding, or numbers; texts become numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, TargetEncoder

from automl.components import register
from automl.preprocessing.limits import within
from automl.preprocessing.reduction import CappedSVD
from automl.values import Task

#: Splits of the training rows in which `target` is cross-fitted.
N_SPLITS = 5

#: Size of the hashed vocabulary of a text column, and the most columns that it is reduced to.
TEXT_FEATURES, TEXT_COLUMNS = 2**14, 64


@register("encoding")
def onehot(task: Task, *, min_frequency: int = 2, max_categories: int = 32) -> Pipeline:
    """Gives each level of a column a 0/1 column; rare levels share one, and unknown levels join them.

    Where no level of the training rows is rare there is no column to share, and an unknown level is all zeros.
    """
    return make_pipeline(
        Levels(min_frequency=min_frequency, max_categories=max_categories),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )


@register("encoding", "categorical_output")
def ordinal(task: Task, *, min_frequency: int = 2, max_categories: int = 256) -> Levels:
    """Gives each level a code from 1 on, for a network that embeds codes; rare and unknown levels have code 0."""
    return Levels(min_frequency=min_frequency, max_categories=max_categories)


@register("encoding", "categorical_output")
def onehot_small(task: Task, *, max_onehot: int = 8, min_frequency: int = 2, max_categories: int = 256) -> SmallOneHot:
    """Gives columns of few levels 0/1 columns as `onehot` does, and the others codes as `ordinal` does.

    Args:
        task: Not looked at.
        max_onehot: Most levels of a column that becomes 0/1 columns, rare and unknown levels not counted.
        min_frequency: Rows that a level needs not to be rare.
        max_categories: Most levels that have a code.

    Holzmüller, Grinsztajn and Steinwart, "Better by default: strong pre-tuned MLPs and boosted trees on tabular
    data", 2024, arXiv 2407.04491.
    """
    return SmallOneHot(max_onehot=max_onehot, min_frequency=min_frequency, max_categories=max_categories)


@register("encoding")
def count(task: Task, *, log: bool = True, min_frequency: int = 2, max_categories: int = 10_000) -> Pipeline:
    """Replaces a level by how many training rows have it, as a logarithm or as a share of the rows.

    Rare and unknown levels count as one row.

    Args:
        task: Not looked at.
        log: Whether the result is log(1 + rows); otherwise it is the share.
        min_frequency: Rows that a level needs not to be rare.
        max_categories: Most levels of a column that have a count.
    """
    return make_pipeline(Levels(min_frequency=min_frequency, max_categories=max_categories), LevelCounts(log=log))


@register("encoding")
def hashed(task: Task, *, n_columns: int = 16, joint: bool = False) -> HashedLevels:
    """Adds 1 or -1 to the one of some columns that a level's hash says; levels may share a column.

    Nothing is learned: rare and unknown levels are hashed like any other.

    Args:
        task: Not looked at.
        n_columns: To hash into.
        joint: Whether all categorical columns are hashed into the same columns; otherwise each has columns of its own.

    Weinberger et al., "Feature hashing for large scale multitask learning", 2009.
    """
    within("encoding.hashed.n_columns", n_columns, 1, 2**16)
    return HashedLevels(n_columns=n_columns, joint=joint)


@register("encoding")
def target(task: Task, *, smooth: float | None = None, min_frequency: int = 2) -> Pipeline:
    """Replaces a level by the mean target of its rows, one column a class in a multiclass task.

    The training rows get means of other training rows only (five-fold cross-fitting), so that their own target does
    not leak into them.

    Args:
        task: Decides which mean is taken.
        smooth: Rows' worth of the overall mean that is mixed in; null estimates it from the variances.
        min_frequency: Rows a level needs to have a mean of its own.

    Micci-Barreca, "A preprocessing scheme for high-cardinality categorical attributes", 2001.
    """
    return make_pipeline(
        Levels(min_frequency=min_frequency, max_categories=10_000),
        TargetMeans(classification=task.is_classification, smooth=smooth),
    )


class Levels(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Codes of the frequent levels of each column, from 1 on in alphabetical order; 0 for every other string.

    Rare levels share the code of unknown ones: what is learned of the rare then serves the unknown, whose code would
    otherwise never be seen in training. Nor is a rare level written into a saved model: a job title or a postcode
    that one row has is as good as that row's name.

    Args:
        min_frequency: Training rows that a level needs for a code of its own.
        max_categories: Most levels a column may have codes for; the most frequent win, then the alphabet.
    """

    def __init__(self, *, min_frequency: int = 1, max_categories: int = 256) -> None:
        self.min_frequency = min_frequency
        self.max_categories = max_categories

    def fit(self, X: NDArray[np.object_], y: NDArray[Any] | None = None) -> Levels:
        self.levels_ = [self._frequent(column) for column in X.T]
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.int64]:
        """Returns the codes; (rows, columns)."""
        known = [pd.Index(levels, dtype=object) for levels in self.levels_]
        codes = [levels.get_indexer(column) + 1 for levels, column in zip(known, X.T, strict=True)]
        return np.column_stack(codes).astype(np.int64)

    def _frequent(self, column: NDArray[np.object_]) -> NDArray[np.str_]:
        levels, counts = np.unique(column.astype(str), return_counts=True)
        by_frequency = np.argsort(-counts, kind="stable")[: self.max_categories]
        kept = by_frequency[counts[by_frequency] >= self.min_frequency]
        return levels[np.sort(kept)]


class SmallOneHot(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """0/1 columns for columns of few levels, codes for the others; returns a block of each.

    Args:
        max_onehot: Most levels of a column that becomes 0/1 columns.
        min_frequency, max_categories: As of `Levels`.

    Attributes:
        small_, large_: Positions of the columns of the one kind and of the other.
    """

    def __init__(self, *, max_onehot: int = 8, min_frequency: int = 2, max_categories: int = 256) -> None:
        self.max_onehot = max_onehot
        self.min_frequency = min_frequency
        self.max_categories = max_categories

    def fit(self, X: NDArray[np.object_], y: NDArray[Any] | None = None) -> SmallOneHot:
        self.levels_ = Levels(min_frequency=self.min_frequency, max_categories=self.max_categories).fit(X)
        small = np.array([len(levels) <= self.max_onehot for levels in self.levels_.levels_])
        self.small_, self.large_ = np.flatnonzero(small), np.flatnonzero(~small)
        self.onehot_ = None
        if self.small_.size:
            codes = self.levels_.transform(X)[:, self.small_]
            self.onehot_ = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(codes)
        return self

    def transform(self, X: NDArray[np.object_]) -> dict[str, NDArray[Any]]:
        """Returns `numeric`, the 0/1 columns, and `categorical`, the codes; (rows, columns) each."""
        codes = self.levels_.transform(X)
        zeros_and_ones = (
            np.empty((len(X), 0)) if self.onehot_ is None else self.onehot_.transform(codes[:, self.small_])
        )
        return {"numeric": zeros_and_ones, "categorical": codes[:, self.large_]}


class LevelCounts(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """How many training rows have a code; code 0, whose levels are rare or unknown, counts as one row.

    Args:
        log: Whether the result is log(1 + rows); otherwise it is the share of the rows.

    Attributes:
        values_: By column, the result for each code.
    """

    def __init__(self, *, log: bool = True) -> None:
        self.log = log

    def fit(self, X: NDArray[np.int64], y: NDArray[Any] | None = None) -> LevelCounts:
        self.values_ = []
        for codes in X.T:
            counts = np.bincount(codes).astype(np.float64)
            counts[0] = 1
            self.values_.append(np.log1p(counts) if self.log else counts / len(X))
        return self

    def transform(self, X: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns a number for each code; (rows, columns)."""
        return np.column_stack([values[codes] for values, codes in zip(self.values_, X.T, strict=True)])


class HashedLevels(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `FeatureHasher` of `column=level`, asked once for each level instead of once for each row.

    Args:
        n_columns: To hash into.
        joint: Whether all columns are hashed into the same ones.
    """

    def __init__(self, *, n_columns: int = 16, joint: bool = False) -> None:
        self.n_columns = n_columns
        self.joint = joint

    def fit(self, X: NDArray[np.object_], y: NDArray[Any] | None = None) -> HashedLevels:
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.float64]:
        """Returns sums of 1 and -1; (rows, n_columns), times the columns where each has its own."""
        parts = [self._hashed(position, column) for position, column in enumerate(X.T)]
        return np.sum(parts, axis=0) if self.joint else np.hstack(parts)

    def _hashed(self, position: int, column: NDArray[np.object_]) -> NDArray[np.float64]:
        codes, levels = pd.factorize(column)
        hasher = FeatureHasher(self.n_columns, input_type="string")
        of_levels = hasher.transform([f"{position}={level}"] for level in levels).toarray()
        hashed: NDArray[np.float64] = of_levels[codes]
        return hashed


class TargetMeans(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `TargetEncoder`, with what it must be told once the training rows are known.

    Of several targets, (rows, targets), the means of each stand side by side.

    Args:
        classification: Whether the target holds class positions.
        smooth: As in `TargetEncoder`; None for its `auto`.
    """

    def __init__(self, *, classification: bool, smooth: float | None = None, random_state: int | None = None) -> None:
        self.classification = classification
        self.smooth = smooth
        self.random_state = random_state

    def fit(self, X: NDArray[np.int64], y: NDArray[Any]) -> TargetMeans:
        if y.ndim == 2:
            self.parts_ = [clone(self).fit(X, column) for column in y.T]
            return self
        self.encoder_ = self._encoder(y).fit(X, y)
        return self

    def fit_transform(self, X: NDArray[np.int64], y: NDArray[Any]) -> NDArray[np.float64]:
        """Returns cross-fitted means of the training rows; (rows, columns), times the classes from three on."""
        if len(X) < 2:
            return self.fit(X, y).transform(X)
        if y.ndim == 2:
            self.parts_ = [clone(self) for _ in y.T]
            return np.hstack([part.fit_transform(X, column) for part, column in zip(self.parts_, y.T, strict=True)])
        self.encoder_ = self._encoder(y)
        means: NDArray[np.float64] = self.encoder_.fit_transform(X, y)
        return means

    def transform(self, X: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the means of all training rows; shaped as in `fit_transform`."""
        if hasattr(self, "parts_"):
            return np.hstack([part.transform(X) for part in self.parts_])
        means: NDArray[np.float64] = self.encoder_.transform(X)
        return means

    def _encoder(self, y: NDArray[Any]) -> TargetEncoder:
        # Told by the fold, not by the task: with two classes left the encoder's multiclass mode indexes a third.
        classes = "multiclass" if np.unique(y).size > 2 else "binary"
        # Splits are not stratified: a class may have a single row, and need not be in every split.
        return TargetEncoder(
            target_type=classes if self.classification else "continuous",
            smooth="auto" if self.smooth is None else self.smooth,
            cv=KFold(min(N_SPLITS, max(len(y), 2)), shuffle=True, random_state=self.random_state),
        )


class TextDirections(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Latent semantic analysis of one text column: TF-IDF of hashed words, reduced to a few directions.

    There are fewer where there are fewer training rows.

    Words are hashed, not listed: a saved model then holds no word of a training text, and a training fold without any
    word, or with none that occurs twice, is no special case.

    Deerwester et al., "Indexing by latent semantic analysis", 1990; Weinberger et al., "Feature hashing for large
    scale multitask learning", 2009.

    Args:
        n_components: Directions at most.
    """

    def __init__(self, *, n_components: int = TEXT_COLUMNS, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: NDArray[np.object_], y: NDArray[Any] | None = None) -> TextDirections:
        self.tfidf_ = TfidfTransformer(sublinear_tf=True)
        weights = self.tfidf_.fit_transform(self._counts(X))
        self.svd_ = CappedSVD(n_components=self.n_components, random_state=self.random_state).fit(weights)
        return self

    def transform(self, X: NDArray[np.object_]) -> NDArray[np.floating[Any]]:
        """Returns the directions of the texts X, shaped (rows,); (rows, directions)."""
        return self.svd_.transform(self.tfidf_.transform(self._counts(X)))

    @staticmethod
    def _counts(X: NDArray[np.object_]) -> Any:
        """Returns the words' counts as a sparse matrix; (rows, 16384)."""
        # Built anew each time: it learns nothing, and what is not saved need not be trusted (it can be told to read
        # files).
        vectorizer = HashingVectorizer(n_features=TEXT_FEATURES, alternate_sign=False, norm=None, dtype=np.float32)
        return vectorizer.transform(X)
