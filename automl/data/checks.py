"""What must be true of a table before anything can be learned from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

import pandas as pd
from pandas.api import types

from automl.errors import DataError, Problem, did_you_mean

#: Rows with a target below which training, validation and test parts mean nothing.
MIN_ROWS = 10

_UNUSABLE = (list, tuple, dict, set, bytes, complex)


def check(
    frame: pd.DataFrame,
    *,
    targets: Sequence[str],
    values: pd.DataFrame | None = None,
    split_columns: Sequence[str] = (),
    named_columns: Iterable[str] = (),
    key_columns: Collection[str] = (),
    domain: str | None = None,
) -> None:
    """Checks a table, telling everything that is wrong with it at once.

    Args:
        frame: Features, target and split columns; or a sample of the rows.
        targets: Columns to predict.
        values: All of these columns, where `frame` is a sample.
        split_columns: Columns that steer the split and are no features.
        named_columns: Other columns that a study names.
        key_columns: Those whose cells say what is read, or hold it: these may be more than plain values.
        domain: Column that says where a row is from.

    Raises:
        DataError: There is something wrong, each thing with a remedy.
    """
    problems = list(_problems_of_names(frame))
    if not problems:  # the others need to tell columns apart
        problems = [
            *_problems_of_targets(frame, targets, values),
            *_problems_of_features(frame, targets, split_columns, key_columns),
            *_unknown(
                frame,
                [*split_columns, *(n for n in named_columns if n not in targets), *([domain] if domain else [])],
            ),
            *_named_targets(targets, named_columns),
            *(_problems_of_domain(frame, targets, split_columns, list(named_columns), domain) if domain else ()),
        ]
    if problems:
        raise DataError(problems)


def _problems_of_names(frame: pd.DataFrame) -> Iterator[Problem]:
    others = [name for name in frame.columns if not isinstance(name, str)]
    if others:
        yield Problem(
            f"column names must be strings, and {others[0]!r} is not",
            remedy="Name the columns: frame.columns = frame.columns.astype(str).",
        )
    repeated = list(dict.fromkeys(frame.columns[frame.columns.duplicated()]))
    if repeated:
        names = ", ".join(f"`{name}`" for name in repeated)
        yield Problem(f"several columns have the same name: {names}", remedy="Give each its own name.")


def _problems_of_targets(frame: pd.DataFrame, targets: Sequence[str], values: pd.DataFrame | None) -> Iterator[Problem]:
    for name, n in Counter(targets).items():
        if n > 1:
            yield Problem(f"`{name}` is there {n} times", "data.target", "Name each column to predict once.")
    some_left = " Or leave it out of `target`." if len(targets) > 1 else ""
    for target in dict.fromkeys(targets):
        if target not in frame.columns:
            yield Problem(f"there is no column `{target}` to predict", remedy=did_you_mean(target, list(frame.columns)))
            continue
        yield from _problems_of_target((frame if values is None else values)[target], some_left)
    if len(frame) < MIN_ROWS and not any(target in frame.columns for target in targets):
        yield _too_few(len(frame), "")


def _problems_of_target(column: pd.Series, some_left: str) -> Iterator[Problem]:
    target = column.name
    n_rows = int(column.notna().sum())
    if len(column) >= MIN_ROWS and n_rows == 0:
        yield Problem("every value is missing", f"`{target}`", f"Choose another column to predict.{some_left}")
    elif n_rows < MIN_ROWS:
        yield _too_few(n_rows, f" in which `{target}` is not missing" if n_rows < len(column) else "")
    unusable = _unusable(column)
    if unusable is not None or types.is_datetime64_any_dtype(column):
        found = unusable or "dates"
        yield Problem(
            f"{found} cannot be predicted", f"`{target}`", "Predict a number or a class: such as the days until then."
        )
    elif n_rows > 0 and column.nunique() == 1:
        yield Problem(
            f"every value is `{column.dropna().iloc[0]}`",
            f"`{target}`",
            f"There must be two classes or different numbers to tell apart.{some_left}",
        )


def _problems_of_features(
    frame: pd.DataFrame, targets: Sequence[str], split_columns: Sequence[str], key_columns: Collection[str]
) -> Iterator[Problem]:
    features = [name for name in frame.columns if name not in targets and name not in split_columns]
    if not features:
        yield Problem(
            "no column is left to predict from",
            remedy="The table needs at least one column beside what is predicted and what steers the split.",
        )
    for target in (target for target in targets if target in split_columns):
        yield Problem("the column to predict cannot steer the split", f"`{target}`", "Choose another column.")
    for name in (name for name in features if name not in key_columns):
        unusable = _unusable(frame[name])
        if unusable is not None:
            yield Problem(
                f"{unusable} cannot be learned from", f"`{name}`", "Spread them over columns, or drop the column."
            )


def _named_targets(targets: Sequence[str], named_columns: Iterable[str]) -> Iterator[Problem]:
    for name in named_columns:
        if name in targets:
            yield Problem(
                "the column is to be predicted, so it is no feature",
                f"`{name}`",
                "Take it out of `kinds` or of `target`.",
            )


def _problems_of_domain(
    frame: pd.DataFrame, targets: Sequence[str], split_columns: Sequence[str], named: Sequence[str], domain: str
) -> Iterator[Problem]:
    where = "data.domain"
    if domain in targets:
        yield Problem("the column to predict cannot be the domain", where, "Choose another column.")
    if domain in split_columns:
        remedy = "Write `strategy: domain`, which keeps domains whole, or choose another column."
        yield Problem(f"the column `{domain}` steers the split already", where, remedy)
    if domain in named:
        yield Problem(f"the column `{domain}` has another kind already", where, "Leave it out of `kinds`.")
    if domain in frame.columns and frame[domain].nunique() < 2:
        n_domains = frame[domain].nunique()
        remedy = "There must be two to tell apart; leave `domain` out."
        yield Problem("there is one domain only" if n_domains else "every domain is missing", f"`{domain}`", remedy)


def _unknown(frame: pd.DataFrame, names: Iterable[str]) -> Iterator[Problem]:
    for name in dict.fromkeys(names):
        if name not in frame.columns:
            yield Problem(f"there is no column `{name}`", remedy=did_you_mean(name, list(frame.columns)))


def _too_few(n_rows: int, condition: str) -> Problem:
    return Problem(f"the table has {n_rows} rows{condition}", remedy=f"At least {MIN_ROWS} are needed.")


def _unusable(column: pd.Series) -> str | None:
    """Returns what a column holds that is neither a number, a word, a truth value nor a date; None when all is well."""
    if types.is_complex_dtype(column):
        return "complex numbers"
    if column.dtype != object:
        return None
    # An array in a cell comes from parquet's lists; naming numpy's type here would catch its scalars as well.
    found = next((v for v in column if isinstance(v, _UNUSABLE) or getattr(v, "ndim", 0) > 0), None)
    return None if found is None else f"values of type {type(found).__name__}"
