from __future__ import annotations

import numpy as np
import pytest

from automl.preprocessing import selection
from automl.values import Task

RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=400)
RARE = (np.arange(400) < 3).astype(float)  # hardly varies within its range
X = np.column_stack([np.ones(400), 1e-6 * RNG.normal(size=400), RARE * 1e9, SIGNAL])


def test_variance_looks_at_a_columns_own_range() -> None:
    chosen = selection.variance(Task.BINARY, share=0.67).fit(X, np.zeros(400))
    np.testing.assert_array_equal(chosen.support_, [False, True, False, True])
    np.testing.assert_array_equal(chosen.transform(X), X[:, [1, 3]])


@pytest.mark.parametrize(
    ("task", "y"), [(Task.BINARY, (SIGNAL > 0).astype(int)), (Task.REGRESSION, SIGNAL**2)], ids=["classes", "values"]
)
def test_mutual_information_finds_the_column_that_tells(task: Task, y: np.ndarray) -> None:
    chosen = selection.mutual_information(task, share=0.3).set_params(random_state=0).fit(X, y)
    np.testing.assert_array_equal(chosen.support_, [False, False, False, True])


def test_one_column_is_kept_at_least_and_a_constant_one_never() -> None:
    assert selection.variance(Task.BINARY, share=0.0).fit(X, np.zeros(400)).support_.sum() == 1
    constant = selection.variance(Task.BINARY, share=1.0).fit(np.ones((5, 2)), np.zeros(5))
    assert constant.transform(np.ones((5, 2))).shape == (5, 0)


@pytest.mark.parametrize("y", [np.arange(20), np.zeros(20, dtype=int)], ids=["one row a class", "one class"])
def test_classes_that_mutual_information_cannot_tell_apart(y: np.ndarray) -> None:
    chosen = selection.mutual_information(Task.MULTICLASS).set_params(random_state=0).fit(X[:20, 1:2], y)
    assert chosen.support_.all()
