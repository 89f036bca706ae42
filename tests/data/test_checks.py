from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from automl.data.checks import check
from automl.errors import DataError

N = 12


def table(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"age": range(N), "churned": ["yes", "no"] * (N // 2), **columns})


def lines(frame: pd.DataFrame, **settings: object) -> list[str]:
    with pytest.raises(DataError) as caught:
        check(frame, **{"targets": ["churned"], **settings})
    return str(caught.value).splitlines()


def test_a_good_table_passes():
    check(table(joined=dt.date(2020, 1, 1)), targets=["churned"], split_columns=["joined"], named_columns=["age"])


def test_a_misspelt_target():
    assert lines(table(), targets=["chruned"]) == ["there is no column `chruned` to predict. Did you mean `churned`?"]


def test_everything_is_told_at_once():
    frame = table(tags=[["a"]] * N).drop(columns="age").assign(churned=None)
    assert lines(frame, split_columns=["person"], named_columns=["tag"]) == [
        "`churned`: every value is missing. Choose another column to predict.",
        "`tags`: values of type list cannot be learned from. Spread them over columns, or drop the column.",
        "there is no column `person`. Known: `churned`, `tags`",
        "there is no column `tag`. Did you mean `tags`?",
    ]


def test_one_class_only():
    assert lines(table().assign(churned="no")) == [
        "`churned`: every value is `no`. There must be two classes or different numbers to tell apart."
    ]


def test_too_few_rows():
    assert lines(table()[:9]) == ["the table has 9 rows. At least 10 are needed."]


def test_too_few_rows_with_a_target():
    frame = table()
    frame.loc[3:, "churned"] = None
    assert lines(frame) == [
        "the table has 3 rows in which `churned` is not missing. At least 10 are needed.",
    ]


def test_names():
    frame = table()
    frame.columns = ["a", "a"]
    frame[0] = 1
    assert lines(frame) == [
        "column names must be strings, and 0 is not. Name the columns: frame.columns = frame.columns.astype(str).",
        "several columns have the same name: `a`. Give each its own name.",
    ]


def test_no_features():
    text = lines(table().rename(columns={"age": "person"}), split_columns=["person"])
    assert text == [
        "no column is left to predict from. "
        "The table needs at least one column beside what is predicted and what steers the split."
    ]


def test_the_target_does_not_steer():
    assert "`churned`: the column to predict cannot steer the split. Choose another column." in lines(
        table(), split_columns=["churned"]
    )


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (pd.date_range("2020", periods=N), "dates"),
        ([b"x", b"y"] * (N // 2), "values of type bytes"),
        ([{"a": 1}] * N, "values of type dict"),
        ([np.zeros(2)] * N, "values of type ndarray"),
        (np.arange(N) * 1j, "complex numbers"),
    ],
)
def test_targets_that_are_neither_numbers_nor_classes(values, told):
    assert lines(table().assign(churned=values))[0].startswith(f"`churned`: {told} cannot be predicted.")
