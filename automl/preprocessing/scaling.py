"""Scales of numeric columns, none of which a network can know."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from automl.components import register
from automl.values import Task

#: Rows that quantiles are estimated from.
MAX_QUANTILE_ROWS = 10_000
ROWS_PER_QUANTILE = 30
MIN_QUANTILES = 10


@register("scaling")
def standard(task: Task) -> StandardScaler:
    """Brings each column to mean 0 and standard deviation 1; a constant column becomes 0."""
    return StandardScaler()


@register("scaling")
def robust(task: Task) -> SpreadScaler:
    """Brings each column to median 0 and interquartile range 1, whatever its outliers."""
    return SpreadScaler()


@register("scaling")
def quantile(
    task: Task, *, output: Literal["normal", "uniform"] = "normal", n_quantiles: int = 1000
) -> CoarseQuantiles:
    """Maps each column through its distribution function, so that it becomes normal or uniform.

    One quantile for 30 training rows, at least 10 and at most `n_quantiles`; estimated from at most 10,000 rows.
    """
    return CoarseQuantiles(
        output_distribution=output, n_quantiles=min(n_quantiles, MAX_QUANTILE_ROWS), subsample=MAX_QUANTILE_ROWS
    )


class CoarseQuantiles(QuantileTransformer):  # type: ignore[misc]
    """A quantile transformer with no more quantiles than the rows can tell apart from noise.

    With as many as rows it would follow every single value, and carry the training values into the model folder. One
    for 30 rows is the rule of Gorishniy et al. 2021, arXiv 2106.11959.
    """

    n_quantiles: int

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> CoarseQuantiles:
        asked = self.n_quantiles
        self.n_quantiles = min(asked, max(len(X) // ROWS_PER_QUANTILE, MIN_QUANTILES))
        try:
            super().fit(X)
        finally:
            self.n_quantiles = asked
        return self


class SpreadScaler(RobustScaler):  # type: ignore[misc]
    """A robust scaler that divides by the standard deviation where the quartiles agree.

    More than half zeros and a few large amounts are common in tables. scikit-learn leaves such a column in its own
    unit, which may be millions.
    """

    def fit(self, X: NDArray[np.float64], y: NDArray[Any] | None = None) -> SpreadScaler:
        super().fit(X)
        low, high = np.nanpercentile(X, [25, 75], axis=0)
        deviation = np.nanstd(X, axis=0)
        self.scale_[(low == high) & (deviation > 0)] = deviation[(low == high) & (deviation > 0)]
        return self
