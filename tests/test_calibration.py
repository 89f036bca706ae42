from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from automl.calibration import EPSILON, Calibration, calibrate, log_loss


def too_sure(n: int, n_classes: int, factor: float, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns classes drawn from probabilities, and these probabilities with their logits multiplied."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, n_classes))
    honest = softmax(logits, axis=1)
    y = np.array([rng.choice(n_classes, p=row) for row in honest])
    return y, softmax(logits * factor, axis=1)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_temperature_that_made_logits_too_sure_is_found(n_classes: int) -> None:
    y, probabilities = too_sure(4000, n_classes, 3.0)
    found = calibrate(y, probabilities, curves=False, seed=0)
    assert found.temperature == pytest.approx(3.0, rel=0.12)
    assert not found.curves
    assert log_loss(y, found.apply(probabilities)) < 0.8 * log_loss(y, probabilities)


def test_what_is_calibrated_already_is_left_alone() -> None:
    y, probabilities = too_sure(2000, 3, 1.0)
    assert calibrate(y, probabilities, curves=True, seed=0) == Calibration()


def test_a_curve_straightens_what_no_temperature_can() -> None:
    rng = np.random.default_rng(1)
    honest = rng.uniform(0.02, 0.5, 6000)
    y = (rng.uniform(size=6000) < honest).astype(int)
    told = honest + 0.4  # too high for every row, by as much
    probabilities = np.column_stack([1 - told, told])
    found = calibrate(y, probabilities, curves=True, seed=0)
    assert found.curves
    assert np.abs(found.apply(probabilities)[:, 1] - honest).mean() < 0.03
    assert not calibrate(y, probabilities, curves=False, seed=0).curves


def test_few_rows_without_a_mistake_make_nothing_certain() -> None:
    y = np.arange(60) % 2
    sure = np.random.default_rng(0).uniform(0.9, 0.99, 60)
    probabilities = np.where((y == 1)[:, None], np.column_stack([1 - sure, sure]), np.column_stack([sure, 1 - sure]))
    found = calibrate(y, probabilities, curves=False, seed=0)
    assert found.temperature < 1
    assert np.median(found.apply(probabilities).max(axis=1)) < 31 / 32  # of 30 rows a class, and one that is another


def test_few_rows_of_a_class_are_no_ground_to_calibrate_on() -> None:
    y, probabilities = too_sure(400, 2, 4.0)
    y[:] = 0
    y[:4] = 1
    assert calibrate(y, probabilities, curves=True, seed=0) == Calibration()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n_classes=st.integers(2, 4), factor=st.floats(0.3, 5))
def test_probabilities_stay_probabilities_and_a_temperature_keeps_each_rows_order(
    seed: int, n_classes: int, factor: float
) -> None:
    y, probabilities = too_sure(300, n_classes, factor, seed)
    found = calibrate(y, probabilities, curves=False, seed=0)
    calibrated = found.apply(probabilities)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert (calibrated >= 0).all()
    certain = probabilities.max(axis=1) - np.sort(probabilities, axis=1)[:, -2] > 1e-9
    np.testing.assert_array_equal(calibrated.argmax(axis=1)[certain], probabilities.argmax(axis=1)[certain])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_curves_give_probabilities_that_are_never_certain(n_classes: int) -> None:
    y, probabilities = too_sure(3000, n_classes, 3.0)
    found = calibrate(y, probabilities, curves=True, seed=0)
    extreme = np.vstack([probabilities, np.eye(n_classes)])
    calibrated = found.apply(extreme)
    np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    assert calibrated.min() >= EPSILON / n_classes
    assert Calibration.from_json(found.to_json()) == found


def test_log_loss_is_scikit_learns() -> None:
    from sklearn.metrics import log_loss as reference

    y, probabilities = too_sure(200, 3, 1.5)
    assert log_loss(y, probabilities) == pytest.approx(reference(y, probabilities, labels=[0, 1, 2]))
