"""One column: what it means, and its canonical form."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from pandas.api import types

from automl.values import ColumnKind

_ID_NAME = re.compile(r"(?:^|[\W_])(?i:id|uuid|guid|key|index|idx)$|[a-z](?:Id|ID|Key)$|^Unnamed: 0$")
_DATE = r"\d{4}-\d{2}(?:-\d{2}(?:[T ].*)?)?"  # stricter than ISO 8601, by which `2020` and `20200101` are dates as well
_NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal", "timedelta64", "timedelta")
_TRUTH = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}

#: Words on average from which a string is a text rather than a label.
_TEXT_WORDS = 3
#: Share of distinct strings from which a column of texts is not one of long labels.
_TEXT_DISTINCT = 0.5
#: Share of distinct strings from which labels identify rows.
_IDENTIFIER_DISTINCT = 0.95


def infer_kind(column: pd.Series) -> ColumnKind:
    """Returns what a column means, from its type, its values and, for whole numbers, its name.

    A column with one value and missing ones is no constant: what is missing may carry the information.

    Args:
        column: Scalars without infinities, at least one row; the index numbers the rows.
    """
    if column.nunique(dropna=False) <= 1:
        return ColumnKind.CONSTANT
    present = column.dropna()
    content = types.infer_dtype(present)
    if content == "boolean":
        return ColumnKind.BOOLEAN
    if content == "categorical":
        return ColumnKind.CATEGORICAL
    if types.is_datetime64_any_dtype(column):
        return ColumnKind.DATETIME
    if content == "integer" and column.notna().all() and _identifies(column):
        return ColumnKind.IDENTIFIER
    return ColumnKind.NUMERIC if content in _NUMBERS else _infer_kind_of_words(canonical(present, ColumnKind.TEXT))


def canonical(column: pd.Series, kind: ColumnKind) -> pd.Series:
    """Returns a column in the form that its kind has everywhere after this; a value that does not fit is missing.

    Numbers, truth values and cells of blocks become float64 (infinities stay), dates datetime64[us], naive and in UTC,
    categories and texts `str`. The index stays.
    """
    if kind.is_number:
        return _numbers(column)
    if kind is ColumnKind.BOOLEAN:
        return _words(column).str.strip().str.lower().map(_TRUTH).astype("float64")
    if kind is ColumnKind.DATETIME:
        return _moments(column)
    return _words(column)


def _identifies(numbers: pd.Series) -> bool:
    """Returns whether whole numbers are row numbers, or distinct under the name of an identifier."""
    if not numbers.is_unique:
        return False
    # From 0 or 1 only: the years of a yearly table rise by one a row as well.
    lead = numbers.to_numpy(dtype="float64") - numbers.index.to_numpy()
    return (lead[0] in (0, 1) and bool((lead == lead[0]).all())) or _ID_NAME.search(str(numbers.name)) is not None


def _infer_kind_of_words(words: pd.Series) -> ColumnKind:
    distinct = words.drop_duplicates()
    if canonical(distinct, ColumnKind.DATETIME).notna().all():
        return ColumnKind.DATETIME
    share = len(distinct) / len(words)
    n_words = distinct.head(1000).str.count(r"\S+").mean()
    if n_words >= _TEXT_WORDS and share >= _TEXT_DISTINCT:
        return ColumnKind.TEXT
    return ColumnKind.IDENTIFIER if share >= _IDENTIFIER_DISTINCT else ColumnKind.CATEGORICAL


def _numbers(column: pd.Series) -> pd.Series:
    if types.is_timedelta64_dtype(column):
        column = column.dt.total_seconds()
    if types.is_datetime64_any_dtype(column):
        return pd.Series(np.nan, index=column.index, name=column.name)  # to_numeric would give nanoseconds
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    numbers = pd.to_numeric(column, errors="coerce")
    return pd.Series(numbers.to_numpy(dtype="float64", na_value=np.nan), index=column.index, name=column.name)


def _words(column: pd.Series) -> pd.Series:
    if not types.is_string_dtype(column.dtype) or column.dtype == object:
        # Categories come as objects, so that what is mapped are values and not categories.
        column = column.astype(object).map(_word, na_action="ignore")
    return column.astype("str")


def _word(value: object) -> str:
    """Returns a label's one spelling: a column of 1 and 2 is read as 1.0 and 2.0 as soon as a value is missing."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _moments(column: pd.Series) -> pd.Series:
    if not types.is_datetime64_any_dtype(column):
        words = _words(column)
        column = words.where(words.str.fullmatch(_DATE).fillna(False).astype(bool))
        moments = pd.to_datetime(column, format="ISO8601", utc=True, errors="coerce")
    else:
        moments = pd.to_datetime(column, utc=True)
    return moments.dt.tz_localize(None).astype("datetime64[us]")
