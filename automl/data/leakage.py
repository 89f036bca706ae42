"""What makes a test score too good to be true: the target among the features, rows and images that occur twice.

Nothing is refused for it: a feature may decide the target, and rows may repeat, in a table that is right. A person is
told, with the proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from automl.values import Block, ColumnKind, Dataset, Scalar, Splits

#: Rows for each value of a column from which a value that always has one class is no accident.
ROWS_A_VALUE = 5
#: Different numbers from which two columns in the same order are no accident.
MIN_DISTINCT = 20
#: Share of rows that are like no other below which rows repeat by nature, as where two columns have three values each.
MIN_DISTINCT_ROWS = 0.5


def copies_of_target(dataset: Dataset) -> Iterator[str]:
    """Yields a sentence for each feature that tells a target of every row that has it, with the proof."""
    several = dataset.schema.target.task.is_several
    packed = [block.name for block in dataset.schema.read_blocks]
    for position, target in enumerate(dataset.schema.target.heads):
        y = pd.Series(dataset.target[:, position] if several else dataset.target)
        features = dataset.features.drop(columns=packed)
        if several and y.isna().any():
            y, features = y.dropna().reset_index(drop=True), features[y.notna().to_numpy()].reset_index(drop=True)
        y = y.astype(np.int64) if target.task.is_classification else y
        for name, column in features.items():
            is_class = target.task.is_classification
            proof = _decided(column, y, target.classes) if is_class else _in_one_order(column, y)
            if proof is not None:
                yield (
                    f"`{name}` gives `{target.name}` away: in all {len(y):,} rows {proof}. "
                    "Leave it out, unless it is known before what is predicted."
                )


def shared_rows(dataset: Dataset, splits: Splits) -> Iterator[str]:
    """Yields a sentence when test rows are, feature for feature, among the rows searched on; with the proof."""
    if not len(splits.test):
        return
    rows = pd.util.hash_pandas_object(dataset.features, index=False).to_numpy()
    if len(np.unique(rows)) < MIN_DISTINCT_ROWS * len(rows):
        return
    known = pd.Series(splits.search, index=rows[splits.search])
    known = known[~known.index.duplicated()]
    twin = known.reindex(rows[splits.test]).to_numpy()
    found = np.flatnonzero(~np.isnan(twin))
    if not len(found):
        return
    test, searched = splits.test[found], twin[found].astype(np.int64)
    y, y_twin = (dataset.target[rows].reshape(len(found), -1) for rows in (test, searched))
    same = int(((y == y_twin) | np.isnan(y) | np.isnan(y_twin)).all(axis=1).sum())
    target = dataset.schema.target
    told = "targets" if target.parts else f"`{target.name}`"
    examples = ", ".join(
        f"row {one + 1} is like row {other + 1}" for one, other in zip(test[:3], searched[:3], strict=True)
    )
    yield (
        f"{len(found):,} of {len(splits.test):,} test rows stand among the rows searched on, alike in every feature "
        f"({same:,} of them with the same {told}): {examples}. The test score is of memory, "
        "too; drop repeated rows, or keep them together with `validation.strategy: group`."
    )


def repeats(dataset: Dataset) -> Iterator[str]:
    """Yields a sentence for each block of images or sequences, and each text, that rows have in common; with the proof.

    What is missing is not looked at. Windows of a forecast are no repeats: each is there for every step ahead.
    """
    if dataset.schema.forecast is not None:
        return
    things = {f"`{block.name}`": _cells(dataset, block) for block in dataset.schema.blocks}
    kinds = {f"`{block.name}`": f"{block.kind.value}s" for block in dataset.schema.blocks}
    for name in dataset.schema.names(ColumnKind.TEXT):
        things[f"`{name}`"], kinds[f"`{name}`"] = dataset.features[[name]], "texts"
    target = dataset.target.reshape(len(dataset.target), -1)
    for name, cells in things.items():
        there = cells[cells.notna().any(axis=1)]
        hashes = pd.Series(pd.util.hash_pandas_object(there, index=False).to_numpy(), index=there.index)
        again = hashes[hashes.duplicated()]
        if not len(again):
            continue
        first = hashes[~hashes.duplicated()]
        earlier = pd.Series(first.index, index=first.to_numpy()).reindex(again.to_numpy()).to_numpy()
        y, y_earlier = target[again.index], target[earlier]
        differ = int((~((y == y_earlier) | np.isnan(y) | np.isnan(y_earlier))).any(axis=1).sum())
        goal = dataset.schema.target
        besides = f", {differ:,} of them with another {'target' if goal.parts else f'`{goal.name}`'}" if differ else ""
        examples = ", ".join(
            f"row {row + 1} like row {one + 1}" for row, one in zip(again.index[:3], earlier[:3], strict=True)
        )
        yield (
            f"{name}: {len(again):,} of {len(there):,} {kinds[name]} are equal to one before{besides}: {examples}. "
            "The option `drop_duplicates` of a stage `cleaning` leaves rows out that are alike in everything."
        )


def _cells(dataset: Dataset, block: Block) -> pd.DataFrame:
    return dataset.features[[block.name] if block.reading is not None else list(block.columns)]


def _decided(column: pd.Series, y: pd.Series, classes: Sequence[Scalar]) -> str | None:
    """Returns how a column tells every row's class; None if it does not."""
    codes, values = pd.factorize(column)  # what is missing is a value like any other here
    if len(values) * ROWS_A_VALUE <= len(y):
        if bool((y.groupby(codes).transform("first") != y).any()):
            return None
        row = int(column.notna().to_numpy().argmax())
        value = column.iloc[row]
        shown = f"{value:g}" if isinstance(value, float) else value
        return f"each of its values goes with one class, such as `{shown}` with `{classes[y.iloc[row]]}`"
    if not types.is_float_dtype(column) or column.isna().any():
        return None
    order = np.argsort(column.to_numpy(), kind="stable")
    numbers, labels = column.to_numpy()[order], y.to_numpy()[order]
    last = np.flatnonzero(np.diff(labels))  # of each stretch of one class
    if len(last) != y.nunique() - 1 or bool((numbers[last] == numbers[last + 1]).any()):
        return None
    return "each class has a range of its numbers to itself"


def _in_one_order(column: pd.Series, y: pd.Series) -> str | None:
    """Returns how numbers tell a regression's target in every row; None if they do not."""
    if not types.is_float_dtype(column) or column.isna().any() or column.nunique() < MIN_DISTINCT:
        return None
    x, goal = column.to_numpy(), y.to_numpy()
    if np.array_equal(x, goal):
        return "the two are equal"
    order = np.lexsort((goal, x))
    if _rises(x[order], goal[order]):
        return "the two are in the same order"
    order = np.lexsort((-goal, x))
    if _rises(x[order], -goal[order]):
        return "the two are in opposite order"
    return None


def _rises(x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
    """Returns whether `y` rises exactly where the sorted `x` does."""
    steps, rises = np.diff(x) > 0, np.diff(y)
    return bool((rises >= 0).all() and ((rises > 0) == steps).all())
