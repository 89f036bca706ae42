from __future__ import annotations

import numpy as np
import pytest

from automl.preprocessing import reduction
from automl.values import Task

RNG = np.random.default_rng(0)
TWO = RNG.normal(size=(100, 2)) @ RNG.normal(size=(2, 6))  # six columns, two directions


def test_pca_keeps_the_variance_it_is_asked_for() -> None:
    assert reduction.pca(Task.BINARY, variance=0.999).fit_transform(TWO).shape == (100, 2)
    assert reduction.pca(Task.BINARY, variance=1.0).fit_transform(TWO).shape == (100, 6)


def test_pca_whitens() -> None:
    out = reduction.pca(Task.BINARY, variance=0.999, whiten=True).fit_transform(TWO)
    np.testing.assert_allclose(out.std(axis=0, ddof=1), 1)


@pytest.mark.parametrize(("n_columns", "n_left"), [(6, 4), (4, 3), (2, 1), (1, 1)])
def test_truncated_svd_has_fewer_components_than_columns(n_columns: int, n_left: int) -> None:
    svd = reduction.truncated_svd(Task.BINARY, n_components=4).set_params(random_state=0)
    assert svd.fit_transform(TWO[:, :n_columns]).shape == (100, n_left)


def test_a_single_column_stays_as_it_is() -> None:
    svd = reduction.truncated_svd(Task.BINARY).fit(TWO[:, :1])
    np.testing.assert_array_equal(svd.transform(TWO[:, :1]), TWO[:, :1])
