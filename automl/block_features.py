"""What reference models see of sequences and images, where it is not their cells one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from automl.preprocessing.channels import ROWS, ChannelScaling
from automl.values import BlockSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Features of a block that fixed convolutions find, about.
N_FEATURES = 2000


class SequenceSummaries(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Each channel by mean, deviation, least, largest, slope and autocorrelation, and how many steps a row has.

    What is missing is left out, and what is not defined is missing: a channel without a step has no mean.
    """

    def fit(self, X: NDArray[np.floating[Any]], y: object = None) -> SequenceSummaries:
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """Returns the summaries of rows (rows, channels, steps); (rows, 6 x channels + 1)."""
        return np.vstack([self._summaries(X[first : first + ROWS]) for first in range(0, max(len(X), 1), ROWS)])

    @staticmethod
    def _summaries(X: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        values = X.astype(np.float64)
        there = ~np.isnan(values)
        n = there.sum(axis=2)
        steps = np.arange(values.shape[2], dtype=np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = np.where(there, values, 0.0).sum(axis=2) / n
            around = np.where(there, values - mean[..., None], 0.0)
            squares = (around**2).sum(axis=2)
            when = np.where(there, steps - ((there * steps).sum(axis=2) / n)[..., None], 0.0)
            slope = (when * around).sum(axis=2) / (when**2).sum(axis=2)
            following = (around[..., 1:] * around[..., :-1]).sum(axis=2) / squares
        least = np.where(there, values, np.inf).min(axis=2)
        largest = np.where(there, values, -np.inf).max(axis=2)
        summaries = np.stack([mean, np.sqrt(squares / np.maximum(n, 1)), least, largest, slope, following], axis=2)
        length = np.where(there.any(axis=1), steps + 1, 0.0).max(axis=1)
        found = np.column_stack([summaries.reshape(len(X), -1), length])
        return np.where(np.isfinite(found), found, np.nan)


class ConvolutionFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What fixed convolutions find in sequences or images, as the network `random_convolutions` sees it.

    Args:
        sequence: Whether the last axis is time; otherwise the last two are an image's.
        n_features: About.

    Attributes:
        scaling_: Of the channels.
        weights_, thresholds_: Of the convolutions; the latter are quantiles of what these give on training rows.
    """

    def __init__(
        self, *, sequence: bool = False, n_features: int = N_FEATURES, random_state: int | None = None
    ) -> None:
        self.sequence = sequence
        self.n_features = n_features
        self.random_state = random_state

    def fit(self, X: NDArray[np.floating[Any]], y: object = None) -> ConvolutionFeatures:
        """Learns from rows of shape (rows, channels, ...)."""
        import torch

        self.scaling_ = ChannelScaling(sequence=self.sequence).fit(X)
        scaled = self.scaling_.transform(X)
        convolutions = self._convolutions(scaled.shape[1:])
        with torch.no_grad():
            convolutions.look_at(torch.from_numpy(scaled))
        self.weights_, self.thresholds_ = convolutions.weights.numpy(), convolutions.thresholds.numpy()
        return self

    def transform(self, X: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Returns the features of rows of shape (rows, channels, ...); (rows, features)."""
        import torch

        scaled = self.scaling_.transform(X)
        convolutions = self._convolutions(scaled.shape[1:])
        convolutions.weights, convolutions.thresholds = (
            torch.from_numpy(array) for array in (self.weights_, self.thresholds_)
        )
        with torch.no_grad():
            parts = [
                convolutions(torch.from_numpy(scaled[first : first + ROWS])) for first in range(0, max(len(X), 1), ROWS)
            ]
        found: NDArray[np.float32] = torch.cat(parts).numpy()
        return found

    def _convolutions(self, shape: tuple[int, ...]) -> Any:
        from automl.networks.random_convolutions import fixed_convolutions

        block = BlockSpec("sequence" if self.sequence else "image", shape, masked=self.scaling_.masked_)
        return fixed_convolutions(block, n_features=self.n_features, seed=self.random_state or 0)
