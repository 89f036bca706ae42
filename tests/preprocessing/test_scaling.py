from __future__ import annotations

import numpy as np
import pytest

from automl.preprocessing import scaling
from automl.values import Task

RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(50, 9, 500), RNG.lognormal(3, 2, 500), np.full(500, 4.0)])


def test_standard() -> None:
    out = scaling.standard(Task.BINARY).fit_transform(X)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(out.std(axis=0), [1, 1, 0])


def test_robust() -> None:
    out = scaling.robust(Task.BINARY).fit_transform(X)
    np.testing.assert_allclose(np.median(out, axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(np.subtract(*np.percentile(out, [75, 25], axis=0)), [1, 1, 0])


def test_robust_brings_mostly_zeros_near_one_too() -> None:
    amounts = np.zeros((100, 1))
    amounts[:5] = 1e6
    assert scaling.robust(Task.BINARY).fit_transform(amounts).max() < 10


@pytest.mark.parametrize(("output", "low", "high"), [("normal", -5.2, 5.2), ("uniform", 0.0, 1.0)])
def test_quantile(output: str, low: float, high: float) -> None:
    scaler = scaling.quantile(Task.BINARY, output=output, n_quantiles=100)
    out = scaler.fit_transform(X)
    assert out.min() >= low - 0.01
    assert out.max() <= high + 0.01
    assert (np.argsort(out[:, 1], kind="stable")[[0, -1]] == np.argsort(X[:, 1])[[0, -1]]).all()
    beyond = scaler.transform([[1e30, -1e30, 4.0]])
    assert np.isfinite(beyond).all()


def test_few_quantiles_for_few_rows() -> None:
    """With as many as rows, the model folder would hold the training values."""
    fitted = scaling.quantile(Task.BINARY).fit(X)
    assert fitted.n_quantiles_ == len(X) // 30
    assert fitted.n_quantiles == 1000, "fitting must not change a parameter"
    assert scaling.quantile(Task.BINARY).fit(X[:60]).n_quantiles_ == 10
    assert scaling.quantile(Task.BINARY, n_quantiles=10**6).n_quantiles == scaling.MAX_QUANTILE_ROWS
