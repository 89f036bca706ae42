"""Numeric columns replaced by fewer, which are mixtures of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA, TruncatedSVD

from automl.components import register
from automl.values import Task


@register("reduction")
def pca(task: Task, *, variance: float = 0.95, whiten: bool = False) -> PCA:
    """Keeps the principal components of the numeric columns that explain this share of their variance.

    Args:
        task: Not looked at.
        variance: In 0..1; from 1 on all components are kept.
        whiten: Whether every component gets variance 1.
    """
    return PCA(n_components=variance if variance < 1 else None, whiten=whiten)


@register("reduction")
def truncated_svd(task: Task, *, n_components: int = 32) -> CappedSVD:
    """Keeps the largest singular directions of the numeric columns, which are not centred; always fewer than columns.

    Halko, Martinsson and Tropp, "Finding structure with randomness", 2011.
    """
    return CappedSVD(n_components=n_components)


class CappedSVD(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A truncated SVD with at most one component fewer than there are columns; a single column stays as it is.

    Attributes:
        svd_: The fitted decomposition; None for a single column.
    """

    def __init__(self, *, n_components: int = 32, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: NDArray[Any], y: NDArray[Any] | None = None) -> CappedSVD:
        n_components = min(self.n_components, X.shape[1] - 1)
        self.svd_ = TruncatedSVD(n_components, random_state=self.random_state).fit(X) if n_components > 0 else None
        return self

    def transform(self, X: NDArray[Any]) -> NDArray[np.floating[Any]]:
        """Returns the components, or the single column; (rows, n_components)."""
        return X if self.svd_ is None else self.svd_.transform(X)
