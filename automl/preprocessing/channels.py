"""Images and sequences on their way to a network: each channel centred and scaled, gaps closed, ends marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Rows that are scaled at a time, so that no second copy of all of them is made on the way.
ROWS = 1024


class ChannelScaling(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Centres and scales each channel by its mean and standard deviation over all training rows and places.

    A missing pixel becomes the mean of its channel. A missing step of a sequence is drawn as a line between the steps
    beside it; from the last step that any channel has, a sequence is over, and all that follows is 0. Where training
    rows end early, or miss everything, one more channel says how far each row goes: 1 up to its end, 0 after it.

    Args:
        sequence: Whether the last axis is time.

    Attributes:
        mean_, scale_: Of each channel; (channels,).
        masked_: Whether there is one more channel.
    """

    def __init__(self, *, sequence: bool = False) -> None:
        self.sequence = sequence

    def fit(self, X: NDArray[np.float32], y: object = None) -> ChannelScaling:
        """Learns from rows of shape (rows, channels, ...)."""
        channels = np.moveaxis(X, 1, 0).reshape(X.shape[1], -1)
        known = [channel[~np.isnan(channel)].astype(np.float64) for channel in channels]
        self.mean_ = np.array([values.mean() if len(values) else 0.0 for values in known])
        spread = np.array([values.std() if len(values) else 1.0 for values in known])
        self.scale_ = np.where(spread > 0, spread, 1.0)
        self.masked_ = bool(self.sequence and (_lengths(X) < X.shape[-1]).any())
        return self

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns rows of shape (rows, channels, ...), with one channel more where ends are marked."""
        made = np.empty((len(X), X.shape[1] + self.masked_, *X.shape[2:]), np.float32)
        axes = (1, -1, *[1] * (X.ndim - 2))
        mean, scale = self.mean_.reshape(axes), self.scale_.reshape(axes)
        for first in range(0, len(X), ROWS):
            some = X[first : first + ROWS].astype(np.float64)
            lengths = _lengths(some) if self.sequence else None
            if lengths is not None:
                some = _closed(some, lengths)
            into = made[first : first + ROWS]
            into[:, : X.shape[1]] = np.nan_to_num((some - mean) / scale, nan=0.0)
            if self.masked_ and lengths is not None:
                into[:, -1] = np.arange(X.shape[-1]) < lengths[:, None]
        return made


def _lengths(X: NDArray[np.floating]) -> NDArray[np.int64]:
    """Returns the steps of each row up to the last that any channel has; (rows, channels, steps) -> (rows,)."""
    has = ~np.isnan(X).all(axis=1)  # (rows, steps)
    return np.where(has.any(axis=1), X.shape[-1] - has[:, ::-1].argmax(axis=1), 0)


def _closed(X: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns rows in which steps that are missing before the end lie between those beside them."""
    gaps = np.isnan(X)
    gaps &= (np.arange(X.shape[-1]) < lengths[:, None])[:, None]
    if not gaps.any():
        return X
    closed = X.copy()
    for row, channel in zip(*np.nonzero(gaps.any(axis=2)), strict=True):
        there = ~np.isnan(X[row, channel])
        if there.any():
            steps = np.flatnonzero(gaps[row, channel])
            closed[row, channel, steps] = np.interp(steps, np.flatnonzero(there), X[row, channel, there])
    return closed
