from __future__ import annotations

import numpy as np
import pytest
from sklearn.impute import SimpleImputer

from automl.components import catalogue
from automl.errors import DataError
from automl.preprocessing import imputation
from automl.preprocessing.imputation import (
    MIN_ROWS_A_DONOR,
    CentroidImputer,
    ColumnImputer,
    EmptyColumns,
    RowDropper,
    SampledImputer,
)
from automl.values import Choice, Task

NAN = np.nan
X = np.array([[1.0, 10.0], [2.0, NAN], [2.0, 30.0], [7.0, 50.0]])


@pytest.mark.parametrize(
    ("name", "params", "filled"),
    [("mean", {}, 30.0), ("median", {}, 30.0), ("most_frequent", {}, 10.0), ("constant", {"value": -1.5}, -1.5)],
)
def test_one_value_a_column(name: str, params: dict[str, float], filled: float) -> None:
    imputer = catalogue("imputation").build(Choice(name, params), Task.BINARY).fit(X)
    out = imputer.transform([[NAN, NAN]])
    assert out[0, 1] == filled


@pytest.mark.parametrize("strategy", ["mean", "median", "most_frequent", "constant"])
@pytest.mark.parametrize("n_rows", [6, 301, 600])
def test_columns_one_by_one_are_filled_as_scikit_learn_fills_the_table(strategy: str, n_rows: int) -> None:
    table = np.round(rows_with_holes(n_rows), 1)
    fill = {"fill_value": 3.0} if strategy == "constant" else {}
    reference = SimpleImputer(strategy=strategy, add_indicator=True, **fill).fit(table)
    imputer = ColumnImputer(strategy=strategy, add_indicator=True, **fill).fit(table)
    np.testing.assert_allclose(imputer.transform(table), reference.transform(table), rtol=1e-14)


def test_a_complete_table_is_not_copied() -> None:
    table = np.arange(12.0).reshape(4, 3)
    for step in (EmptyColumns(), ColumnImputer(strategy="median")):
        assert step.fit_transform(table) is table


@pytest.mark.parametrize("name", [name for name in catalogue("imputation").names() if name != "drop_rows"])
def test_indicators_tell_what_was_missing(name: str) -> None:
    imputer = catalogue("imputation").build(Choice(name, {"indicators": True}), Task.BINARY).fit(X)
    out = imputer.transform([[NAN, 1.0], [1.0, NAN]])
    assert out.shape == (2, 3)  # one indicator: the first column was complete in training
    np.testing.assert_array_equal(out[:, 2], [0, 1])


def rows_with_holes(n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    base = rng.normal(size=n)
    table = np.column_stack([base, 1000 * base + rng.normal(size=n), rng.normal(size=n)])
    table[rng.random(n) < 0.2, 1] = NAN
    return table


@pytest.mark.parametrize("name", ["knn", "iterative"])
def test_what_the_other_columns_know_is_used(name: str) -> None:
    imputer = catalogue("imputation").build(Choice(name), Task.REGRESSION)
    imputer.set_params(random_state=0).fit(rows_with_holes(600))
    low, high = imputer.transform([[-1.0, NAN, 0.0], [1.0, NAN, 0.0]])[:, 1]
    assert low == pytest.approx(-1000, abs=350)
    assert high == pytest.approx(1000, abs=350)


def test_donors_are_no_training_rows() -> None:
    table = rows_with_holes(600)
    imputer = CentroidImputer(random_state=0).fit(table)
    donors = imputer.imputer_._fit_X
    rows = np.nan_to_num(imputer.scaler_.transform(table))
    assert 1 < len(donors) <= len(table) / MIN_ROWS_A_DONOR
    assert np.abs(rows[:, None] - np.nan_to_num(donors)[None]).max(axis=2).min() > 0
    known = ~np.isnan(table)
    np.testing.assert_array_equal(imputer.transform(table)[known], table[known])


def test_few_rows_have_their_mean_as_the_one_donor() -> None:
    imputer = CentroidImputer(random_state=0).fit(X)
    assert imputer.imputer_._fit_X.shape == (1, 2)
    assert imputer.transform([[1.0, NAN]])[0, 1] == pytest.approx(30)


def test_a_large_table_is_sampled() -> None:
    imputer = imputation.iterative(Task.BINARY)
    assert isinstance(imputer, SampledImputer)
    imputer.set_params(max_rows=50, random_state=0).fit(rows_with_holes(60))
    assert imputer.notes_ == ("fitted on a sample of 50 of 60 training rows",)


def test_rows_are_dropped_in_training_and_filled_later() -> None:
    table = np.column_stack([np.arange(40.0), np.where(np.arange(40) < 10, NAN, 1.0)])
    dropper = RowDropper()
    rows, y = dropper.fit_resample(table, np.arange(40))
    np.testing.assert_array_equal(y, np.arange(10, 40))
    assert len(rows) == 30
    assert dropper.notes_[0] == "10 of 40 training rows dropped for a missing number"
    np.testing.assert_array_equal(dropper.transform(np.array([[NAN, NAN], [3.0, 4.0]])), [[24.5, 1.0], [3.0, 4.0]])


@pytest.mark.parametrize(("n_rows", "n_complete"), [(1000, 99), (20, 9)])
def test_too_few_complete_rows_are_an_error(n_rows: int, n_complete: int) -> None:
    table = np.where(np.arange(n_rows) < n_complete, 1.0, NAN)[:, None]
    with pytest.raises(DataError, match=f"would leave {n_complete} of {n_rows}"):
        RowDropper().fit_resample(table, np.zeros(n_rows))


def test_a_small_complete_table_is_no_error() -> None:
    rows, _ = RowDropper().fit_resample(np.ones((3, 1)), np.zeros(3))
    assert len(rows) == 3
