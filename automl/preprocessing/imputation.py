"""Missing numbers: the rows go, or the numbers are made up from what the training rows know."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import MiniBatchKMeans
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  the import that makes the next one possible
from sklearn.impute import IterativeImputer, KNNImputer, MissingIndicator, SimpleImputer
from sklearn.preprocessing import StandardScaler

from automl.components import register
from automl.errors import DataError
from automl.values import Task

#: Imputers that grow faster than the rows are fitted on a sample of this many.
MAX_FIT_ROWS = 5_000

#: Donors of `knn`: enough to keep the shape of a table, few enough to search in no time.
MAX_DONORS = 256

#: A donor is the mean of at least this many training rows, so that none of them can be read from a saved model.
MIN_ROWS_A_DONOR = 5

#: Regressions that feed one another may run away; what they make up is cut here.
MAX_IMPUTED = 1e30

#: What `drop_rows` must leave of the training rows.
MIN_ROWS_LEFT, MIN_SHARE_LEFT = 10, 0.1


@register("imputation")
def drop_rows(task: Task) -> RowDropper:
    """Drops the training rows in which a number is missing; rows to predict are filled with medians."""
    return RowDropper()


@register("imputation")
def mean(task: Task, *, indicators: bool = False) -> ColumnImputer:
    """Fills a missing number with the column's mean."""
    return ColumnImputer(strategy="mean", add_indicator=indicators)


@register("imputation")
def median(task: Task, *, indicators: bool = False) -> ColumnImputer:
    """Fills a missing number with the column's median."""
    return ColumnImputer(strategy="median", add_indicator=indicators)


@register("imputation", "fills_categories")
def most_frequent(task: Task, *, indicators: bool = False) -> ColumnImputer:
    """Fills a missing number, and a missing category, with the column's most frequent value."""
    return ColumnImputer(strategy="most_frequent", add_indicator=indicators)


@register("imputation")
def constant(task: Task, *, value: float = 0.0, indicators: bool = False) -> ColumnImputer:
    """Fills a missing number with one value for all columns."""
    return ColumnImputer(strategy="constant", fill_value=value, add_indicator=indicators)


@register("imputation")
def knn(task: Task, *, n_neighbors: int = 5, indicators: bool = False) -> CentroidImputer:
    """Fills a missing number from the nearest of up to 256 typical rows (means of clusters of training rows)."""
    return CentroidImputer(n_neighbors=n_neighbors, add_indicator=indicators)


@register("imputation")
def iterative(
    task: Task, *, max_iter: int = 5, n_nearest_features: int = 10, indicators: bool = False
) -> SampledImputer:
    """Fills a missing number by Bayesian ridge regression on the columns that correlate most with it.

    Only columns with a missing number among the rows it is fitted on get a regression; a number that is missing
    elsewhere later is filled with the median.

    van Buuren and Groothuis-Oudshoorn, "mice: Multivariate Imputation by Chained Equations in R", 2011.
    """
    return SampledImputer(
        IterativeImputer(
            max_iter=max_iter,
            n_nearest_features=n_nearest_features,
            initial_strategy="median",
            skip_complete=True,
            add_indicator=indicators,
            keep_empty_features=True,
            min_value=-MAX_IMPUTED,
            max_value=MAX_IMPUTED,
        )
    )


class EmptyColumns(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Sets columns without any number among the training rows to 0, then and ever after.

    Nothing can be learned of such a column, and a mean, a quartile or a distance does not exist for it. It is not
    dropped, so that a table has the same columns in every fold.
    """

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> EmptyColumns:
        self.empty_ = np.isnan(X).all(axis=0)
        n_empty = int(self.empty_.sum())
        self.notes_ = (f"{n_empty} columns have no number in the training rows and are set to 0",) if n_empty else ()
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self.empty_, 0.0, X) if self.empty_.any() else X


class ColumnImputer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """scikit-learn's `SimpleImputer`, one column after the other, which for a large table is what memory allows.

    `SimpleImputer` copies the whole table several times on the way to its medians, and once more where nothing is
    missing. This one copies one column at a time, and the table only where there is something to fill.

    Args:
        strategy: As of `SimpleImputer`.
        fill_value: Of the strategy `constant`.
        add_indicator: Whether to append a 0/1 column for each column with missing numbers.

    Attributes:
        statistics_: What each column is filled with; (columns,).
    """

    def __init__(self, *, strategy: str = "mean", fill_value: float | None = None, add_indicator: bool = False) -> None:
        self.strategy = strategy
        self.fill_value = fill_value
        self.add_indicator = add_indicator

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> ColumnImputer:
        X = np.asarray(X, dtype=np.float64)
        self.statistics_ = np.array([self._statistic(column) for column in X.T])
        self.indicator_ = MissingIndicator(error_on_new=False).fit(X) if self.add_indicator else None
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        X = np.asarray(X, dtype=np.float64)
        missing = np.isnan(X)
        filled = np.where(missing, self.statistics_, X) if missing.any() else X
        if self.indicator_ is not None:
            filled = np.hstack([filled, self.indicator_.transform(X)])
        return filled

    def _statistic(self, column: NDArray[np.float64]) -> float:
        known = column[~np.isnan(column)]
        if self.strategy == "median" and len(known):
            return float(np.median(known))  # the same number, without sorting the column
        imputer = SimpleImputer(strategy=self.strategy, fill_value=self.fill_value, keep_empty_features=True)
        return float(imputer.fit(known[:, None] if len(known) else column[:, None]).statistics_[0])


class RowDropper(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A sampler of complete rows that is a median imputer as well, since no row to predict may be dropped.

    Attributes:
        sample_indices_: Positions of the rows kept; (n_kept,).
    """

    def fit_resample(self, X: NDArray[np.float64], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[Any]]:
        """Returns the rows without a missing number, and their targets.

        Raises:
            DataError: Fewer than a tenth of the rows, or fewer than ten, are complete.
        """
        complete = ~np.isnan(X).any(axis=1)
        n_rows, n_kept = len(X), int(complete.sum())
        if n_kept < n_rows and n_kept < max(MIN_ROWS_LEFT, MIN_SHARE_LEFT * n_rows):
            raise DataError(
                f"dropping the rows with a missing number would leave {n_kept} of {n_rows} training rows",
                where="preprocessing.imputation",
                remedy="Fill the numbers in instead, for example with `median`.",
            )
        self.sample_indices_ = np.flatnonzero(complete)
        self.imputer_ = ColumnImputer(strategy="median").fit(X[complete])
        dropped = f"{n_rows - n_kept} of {n_rows} training rows dropped for a missing number"
        self.notes_ = (dropped, "rows to predict are filled with medians instead") if n_kept < n_rows else ()
        return X[complete], y[complete]

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns the rows, none dropped, with medians for missing numbers; (rows, columns)."""
        filled: NDArray[np.float64] = self.imputer_.transform(X)
        return filled


class SampledImputer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """An imputer that is fitted on a sample of the rows.

    Args:
        imputer: The imputer, unfitted.
        max_rows: Size of the sample.
    """

    def __init__(self, imputer: Any, *, max_rows: int = MAX_FIT_ROWS, random_state: int | None = None) -> None:
        self.imputer = imputer
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> SampledImputer:
        rows = sample_rows(len(X), self.max_rows, self.random_state)
        self.imputer_ = clone(self.imputer).fit(X[rows])
        self.notes_ = (f"fitted on a sample of {len(rows)} of {len(X)} training rows",) if len(rows) < len(X) else ()
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        filled: NDArray[np.float64] = self.imputer_.transform(X)
        return filled


class CentroidImputer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A nearest-neighbour imputer whose neighbours are cluster means, on standardised columns.

    `KNNImputer` keeps every row it is fitted on. A saved model must hold no training rows, so the donors are means of
    clusters (k-means) of at least five training rows each. That also makes prediction as fast for a million training
    rows as for a thousand. Columns are standardised first, or the one with the largest numbers would decide alone
    who is near. The price: a donor is blunter than a row, and rows in clusters of fewer than five help nobody.

    Args:
        n_neighbors: Donors that a missing number is the distance-weighted mean of.
        add_indicator: Whether to append a 0/1 column for each column with missing numbers.
    """

    def __init__(self, *, n_neighbors: int = 5, add_indicator: bool = False, random_state: int | None = None) -> None:
        self.n_neighbors = n_neighbors
        self.add_indicator = add_indicator
        self.random_state = random_state

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> CentroidImputer:
        self.scaler_ = StandardScaler().fit(X)
        rows = sample_rows(len(X), MAX_FIT_ROWS, self.random_state)
        donors = self._donors(self.scaler_.transform(X[rows]))
        self.imputer_ = KNNImputer(n_neighbors=self.n_neighbors, weights="distance", keep_empty_features=True).fit(
            donors
        )
        self.indicator_ = MissingIndicator(error_on_new=False).fit(X) if self.add_indicator else None
        self.notes_ = (f"{len(donors)} means of clusters of training rows stand for the rows as neighbours",)
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
        near = self.scaler_.inverse_transform(self.imputer_.transform(self.scaler_.transform(X)))
        filled = np.where(np.isnan(X), near, X)  # what is known stays as it was, bit for bit
        if self.indicator_ is not None:
            filled = np.hstack([filled, self.indicator_.transform(X)])
        return filled

    def _donors(self, Z: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns cluster means of the standardised rows; NaN where nobody in the cluster has a number."""
        # 0 is the mean here. Twice the smallest size, as clusters are not equally large.
        n_clusters = min(max(len(Z) // (2 * MIN_ROWS_A_DONOR), 1), MAX_DONORS)
        kmeans = MiniBatchKMeans(n_clusters, n_init=1, random_state=self.random_state)
        labels = kmeans.fit_predict(np.nan_to_num(Z))
        sizes = np.bincount(labels, minlength=n_clusters)
        large = np.flatnonzero(sizes >= MIN_ROWS_A_DONOR)
        if large.size == 0:
            return _mean_of_known(Z)[None, :]
        return np.vstack([_mean_of_known(Z[labels == label]) for label in large])


def sample_rows(n_rows: int, n_wanted: int, seed: int | None) -> NDArray[np.int64]:
    """Returns sorted positions of `n_wanted` rows drawn without replacement, or of all rows where they are fewer."""
    if n_rows <= n_wanted:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, n_wanted, replace=False))


def _mean_of_known(Z: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns each column's mean over its numbers, NaN where there is none; (columns,)."""
    n_known = (~np.isnan(Z)).sum(axis=0)
    means: NDArray[np.float64] = np.where(n_known > 0, np.nansum(Z, axis=0) / np.maximum(n_known, 1), np.nan)
    return means
