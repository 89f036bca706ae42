"""Calibration: probabilities that mean what they say, learned from validation rows; of each target by itself.

Networks rank well and are too sure of themselves, the more so the fewer rows they were trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Probabilities are kept this far from 0: a single sure mistake must not decide.
EPSILON = 1e-7

#: Rows of the rarest class below which a curve is noise, and no isotonic one is tried.
MIN_ISOTONIC_ROWS = 100

#: Share of the log-loss by which a method has to be better on rows that it was not fitted on.
MIN_GAIN = 0.001

N_SPLITS = 5


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns probabilities into calibrated ones; without arguments it changes nothing.

    Attributes:
        temperature: Logits are divided by it: above 1 predictions become less sure (Guo et al. 2017, arXiv 1706.04599).
        curves: For each class, a rising curve as (probabilities, calibrated ones), applied instead of the temperature
            (Zadrozny and Elkan 2002); a single one for the second of two classes. Empty: none.
    """

    temperature: float = 1.0
    curves: tuple[tuple[tuple[float, ...], tuple[float, ...]], ...] = ()

    def apply(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        """Returns calibrated probabilities; (rows, classes)."""
        if self.curves:
            return self._along_curves(probabilities)
        if self.temperature == 1.0:
            return probabilities
        logits = np.log(np.clip(probabilities, EPSILON, None)) / self.temperature
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        calibrated: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
        return calibrated

    def _along_curves(self, probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(self.curves) == 1:
            positive = np.interp(probabilities[:, 1], *self.curves[0])
            return np.column_stack([1 - positive, positive])
        columns = [np.interp(column, *curve) for column, curve in zip(probabilities.T, self.curves, strict=True)]
        calibrated = np.column_stack(columns)
        totals: NDArray[np.float64] = calibrated.sum(axis=1, keepdims=True)
        return calibrated / totals

    def to_json(self) -> dict[str, Any]:
        return {"temperature": self.temperature, "curves": [[list(x), list(y)] for x, y in self.curves]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Calibration:
        return cls(document["temperature"], tuple((tuple(x), tuple(y)) for x, y in document["curves"]))


def calibrate(y: NDArray[np.int64], probabilities: NDArray[np.float64], *, curves: bool, seed: int) -> Calibration:
    """Returns the calibration that does best on rows that it was not fitted on: none, a temperature or curves.

    Args:
        y: Class positions; (rows,).
        probabilities: Of the same rows, from models that were not trained on them; (rows, classes).
        curves: Whether curves may be taken. They map different probabilities to one, and so spoil an order.
        seed: Of the splits in which the methods are compared.
    """
    rarest = np.bincount(y, minlength=probabilities.shape[1]).min()
    if rarest < N_SPLITS:
        return Calibration()
    methods = [_temperature, *([_curves] if curves and rarest >= MIN_ISOTONIC_ROWS else [])]
    of_split = np.random.default_rng(seed).permutation(len(y)) % N_SPLITS
    best, best_loss = None, log_loss(y, probabilities)
    for method in methods:
        losses = []
        for split in range(N_SPLITS):
            held = of_split == split
            fitted = method(y[~held], probabilities[~held])
            losses.append(log_loss(y[held], fitted.apply(probabilities[held])) * held.sum())
        loss = sum(losses) / len(y)
        if loss < best_loss * (1 - MIN_GAIN):
            best, best_loss = method, loss
    return Calibration() if best is None else best(y, probabilities)


def log_loss(y: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Returns the mean of minus the logarithm of the true class's probability, in nats."""
    return float(-np.log(np.clip(probabilities[np.arange(len(y)), y], EPSILON, 1)).mean())


def _temperature(y: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Calibration:
    from scipy.optimize import minimize_scalar

    n_classes = probabilities.shape[1]
    counts = np.bincount(y, minlength=n_classes)
    # As if one more row of each class had been another (Platt 1999): rows without a mistake make nothing certain.
    wrong = 1 / (counts[y] + 2)  # (rows,)

    def loss(log_temperature: float) -> float:
        calibrated = Calibration(float(np.exp(log_temperature))).apply(probabilities)
        logarithms = np.log(np.clip(calibrated, EPSILON, 1))
        right = logarithms[np.arange(len(y)), y]
        others = (logarithms.sum(axis=1) - right) / (n_classes - 1)
        return float(-((1 - wrong) * right + wrong * others).mean())

    found = minimize_scalar(loss, bounds=(np.log(0.2), np.log(5.0)), method="bounded")
    return Calibration(float(np.exp(found.x)))


def _curves(y: NDArray[np.int64], probabilities: NDArray[np.float64]) -> Calibration:
    from sklearn.isotonic import IsotonicRegression

    n_classes = probabilities.shape[1]
    curves = []
    for position in [1] if n_classes == 2 else range(n_classes):
        member = (y == position).astype(np.float64)
        curve = IsotonicRegression(y_min=EPSILON, y_max=1 - EPSILON, out_of_bounds="clip")
        # One row of each kind beside all others: no group of rows, however small, makes a prediction certain.
        curve.fit(np.append(probabilities[:, position], [0.0, 1.0]), np.append(member, [member.mean()] * 2))
        curves.append((tuple(curve.X_thresholds_.tolist()), tuple(curve.y_thresholds_.tolist())))
    return Calibration(curves=tuple(curves))
