"""What a row's target is learned relative to, on its way to a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BaselineScaling(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Tells level and scale of each row in the unit in which networks learn the target: standardised.

    Attributes:
        mean_, scale_: Of the training rows' targets.
    """

    def fit(self, X: NDArray[np.float64], y: NDArray[np.float64]) -> BaselineScaling:
        """Learns from the targets of the training rows; (rows,)."""
        self.mean_, self.scale_ = float(y.mean()), float(y.std()) or 1.0
        return self

    def transform(self, X: NDArray[np.float64]) -> NDArray[np.float32]:
        """Returns (level - mean) / scale and scale / scale; (rows, 2) -> (rows, 2)."""
        return ((X - [self.mean_, 0.0]) / self.scale_).astype(np.float32)
