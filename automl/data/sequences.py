"""Sequences from a long table: one row a step, in which the rows of one id are a sequence.

The long table is a file beside the study's own table, or the study's table itself, which then becomes one row an id. A
cell of the id's column may also hold a sequence itself, as a list of channels or as JSON of one (of several blocks that
share the column, by their names), so that a model can be served without files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from automl.array_column import pack
from automl.data.columns import canonical
from automl.data.faulty_cells import FaultyCells, is_empty
from automl.errors import DataError, Problem, did_you_mean
from automl.values import Block, ColumnKind, LongTable

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Share of the sequences that are read whole when nobody has said a length, as far as so many steps allow.
WHOLE, MAX_STEPS = 0.95, 512

#: Values are cut here, so that their squares are numbers, too.
MAX_VALUE = 1e15


@dataclass(frozen=True, slots=True)
class Readings:
    """The sequences of a long table.

    Attributes:
        values: Those of one id after those of another, in order of time; (steps, channels).
        places: Id, in its canonical spelling -> first row and the row after the last.
        n_doubled: Rows whose id and time an earlier one has.
    """

    values: NDArray[np.float32]
    places: Mapping[str, tuple[int, int]]
    n_doubled: int = 0

    def lengths(self, cells: pd.Series[Any]) -> NDArray[np.int64]:
        """Returns how many steps there are for each of the ids that are known."""
        found = (self.places.get(word) for word in _ids(cells).dropna().unique())
        return np.array([last - first for first, last in filter(None, found)], np.int64)


def gather(table: pd.DataFrame, how: LongTable, where: str) -> Readings:
    """Returns the sequences of a long table.

    Args:
        table: Columns of ids, time and values, at least.
        where: The table's name, for messages.

    Raises:
        DataError: With everything that is wrong with these columns.
    """
    named = [how.key, *([how.time] if how.time else []), *how.values]
    problems = [
        Problem(f"there is no column `{name}`", where, did_you_mean(name, list(map(str, table.columns))))
        for name in named
        if name not in table.columns
    ]
    if problems:
        raise DataError(problems)
    ids = _ids(table[how.key])
    if ids.isna().any():
        problems.append(_lacking(ids, how.key, where))
    time = None if how.time is None else _moments(table[how.time], where, problems)
    channels = [_channel(table[name], where, problems) for name in how.values]
    if problems:
        raise DataError(problems)
    codes, words = pd.factorize(ids)
    order = np.argsort(codes, kind="stable") if time is None else np.lexsort((time, codes))
    ends = np.cumsum(np.bincount(codes, minlength=len(words)))
    starts = np.concatenate([[0], ends[:-1]])
    places = {word: (int(first), int(last)) for word, first, last in zip(words, starts, ends, strict=True)}
    n_doubled = 0 if time is None else int(pd.DataFrame({"id": codes, "time": time}).duplicated().sum())
    return Readings(np.column_stack(channels)[order], places, n_doubled)


def measure(readings: Readings, cells: pd.Series[Any]) -> int:
    """Returns in how many steps sequences are read when nobody has said it: 95 % of them whole, but at most 512.

    Raises:
        DataError: Most ids have one row, which is no sequence.
    """
    lengths = readings.lengths(cells)
    if not len(lengths):  # reading them will tell
        return 1
    if np.median(lengths) <= 1:
        n_single = int((lengths <= 1).sum())
        raise DataError(
            f"{n_single:,} of {len(lengths):,} ids have one row only, which is no sequence",
            where=f"`{cells.name}`",
            remedy="Name the column whose value the steps of a sequence have in common.",
        )
    return int(min(math.ceil(np.quantile(lengths, WHOLE)), MAX_STEPS))


def fold(table: pd.DataFrame, how: LongTable, names: Collection[str] | None = None) -> tuple[pd.DataFrame, Readings]:
    """Returns a long table as one row an id, in the order in which ids occur, and its sequences.

    The columns of time and values are gone; of the others, each has one value for an id.

    Args:
        names: Columns of which that matters; None: all.

    Raises:
        DataError: With everything that is wrong, such as a column whose value changes in time.
    """
    problems: list[Problem] = []
    readings = None
    try:
        readings = gather(table, how, "")
    except DataError as error:
        problems += error.problems
    if how.key not in table.columns:
        raise DataError(problems)
    kept = table.drop(columns=[name for name in (how.time, *how.values) if name in table.columns])
    ids = _ids(table[how.key])
    for name in (name for name in kept.columns if name != how.key and (names is None or name in names)):
        spelled = canonical(kept[name], ColumnKind.CATEGORICAL)
        several = spelled.groupby(ids).nunique(dropna=True) > 1
        if several.any():
            problems.append(
                Problem(
                    f"{int(several.sum()):,} of {len(several):,} ids have several values of it, "
                    f"such as `{several.idxmax()}`",
                    f"`{name}`",
                    f"There is one row for each `{how.key}` to predict for: if it changes in time, add it to `values` "
                    "of the block, or leave it out.",
                )
            )
    if problems or readings is None:
        raise DataError(problems)
    # The first value that there is: a target may stand in one row of an id only.
    return kept.groupby(pd.factorize(ids)[0]).first().reset_index(drop=True), readings


class SequenceReader:
    """Reads the sequences of one block, part by part of a table; what is wrong with any is told in the end.

    Args:
        block: Of the sequences.
        readings: The sequences by id; None: there are none.
    """

    def __init__(self, block: Block, readings: Readings | None) -> None:
        assert isinstance(block.reading, LongTable)
        self._block = block
        self._how = block.reading
        self._readings = readings
        self._n_rows = self._n_cut = self._n_short = self._n_void = 0
        self._unknown, self._unreadable, self._unnamed = FaultyCells(), FaultyCells(), FaultyCells()

    def take(self, cells: pd.Series[Any]) -> pd.Series[Any]:
        """Returns the sequences of the next cells as a packed column; steps after the end of one are NaN."""
        n_channels, n_steps = self._block.shape
        made = np.full((len(cells), n_channels, n_steps), np.nan, np.float32)
        missing = np.ones(len(cells), bool)
        for position, (cell, word) in enumerate(zip(cells, _ids(cells), strict=True)):
            found = self._find(cell, word, self._n_rows + position + 1)  # (channels, steps)
            if found is None:
                continue
            missing[position] = False
            length = found.shape[1]
            self._n_cut += length > n_steps
            self._n_short += length == 1
            self._n_void += bool(np.isnan(found).all())
            part = found[:, -n_steps:] if self._how.keep == "last" else found[:, :n_steps]
            made[position, :, : part.shape[1]] = part
        self._n_rows += len(cells)
        return pack(made, missing, self._block).set_axis(cells.index)

    def problems(self) -> Iterator[Problem]:
        """Yields what must not be, over all cells taken."""
        place, of = f"`{self._how.key}`", f"{self._n_rows:,}"
        if self._unknown.n > self._how.missing_ids * self._n_rows:
            share = math.ceil(100 * self._unknown.n / self._n_rows) / 100
            yield Problem(
                f"{self._unknown.n:,} of {of} ids have no row among the readings: {self._unknown.told()}",
                place,
                f"Correct them, or allow a share of the rows to have no sequence: `missing_ids: {share:g}`.",
            )
        if self._unnamed.n:
            yield Problem(
                f"{self._unnamed.n:,} of {of} rows have an id, and there are no readings to look in: "
                f"{self._unnamed.told()}",
                place,
                f"Say where: `--files {self._block.name}=FILE`; or give `[[first channel], ...]`.",
            )
        if self._unreadable.n:
            yield Problem(
                f"{self._unreadable.n:,} of {of} cells cannot be read as sequences: {self._unreadable.told()}",
                place,
                f"Write a list for each of {self._block.shape[0]} channels, all as long: `[[1, 2, 3], ...]`.",
            )

    def notes(self) -> Iterator[str]:
        """Yields what was done about what may be."""
        place, n_steps = f"`{self._how.key}`", self._block.shape[1]
        if self._unknown.n:
            yield f"{place}: {self._unknown.n:,} ids have no readings, and no sequence: {self._unknown.told()}."
        if self._n_cut:
            yield f"{place}: of {self._n_cut:,} sequences of more than {n_steps} steps, the {self._how.keep} are used."
        if self._n_short:
            yield f"{place}: {self._n_short:,} sequences have one step only."
        if self._readings is not None and self._readings.n_doubled:
            what = f"{self._readings.n_doubled:,} rows have the `{self._how.time}` of an earlier one of the same id"
            yield f"{place}: {what}; they count as steps after it."
        if self._n_void:
            yield f"{place}: {self._n_void:,} sequences hold no value at all."

    def _find(self, cell: Any, word: Any, row: int) -> NDArray[np.float32] | None:
        """Returns a sequence (channels, steps); None where there is none."""
        if is_empty(cell):
            return None
        if not isinstance(cell, str) and isinstance(cell, (Sequence, np.ndarray)):
            return self._spelled(cell, cell, row)
        if isinstance(cell, Mapping):
            return self._spelled(cell.get(self._block.name), cell, row)
        if isinstance(cell, str) and cell.lstrip().startswith(("[", "{")):
            try:
                given = json.loads(cell)
                return self._spelled(given.get(self._block.name) if isinstance(given, dict) else given, cell, row)
            except (ValueError, RecursionError):
                self._unreadable.take(cell, row)
                return None
        if self._readings is None:
            self._unnamed.take(cell, row)
        elif word in self._readings.places:
            return self._readings.values[slice(*self._readings.places[word])].T
        else:
            self._unknown.take(cell, row)
        return None

    def _spelled(self, given: Any, cell: Any, row: int) -> NDArray[np.float32] | None:
        """Returns a sequence that a cell holds itself."""
        try:
            found = _finite(np.array([list(channel) for channel in given], np.float64))
            if found.ndim == 2 and len(found) == self._block.shape[0] and found.shape[1]:
                return found
        except (TypeError, ValueError, OverflowError):
            pass
        self._unreadable.take(cell, row)
        return None


def spelled(blocks: Mapping[str, NDArray[np.float32]]) -> str:
    """Returns a cell that holds the sequences (channels, steps) of blocks itself, without the steps after their ends.

    JSON: a list for each channel; of several blocks an object with such lists by their names.
    """
    made = {}
    for name, sequence in blocks.items():
        there = np.flatnonzero(~np.isnan(sequence).all(axis=0))
        part = sequence[:, : there[-1] + 1 if len(there) else 1].astype(np.float64)
        made[name] = [[None if math.isnan(value) else value for value in channel] for channel in part.tolist()]
    return json.dumps(next(iter(made.values())) if len(made) == 1 else made)


def _ids(cells: pd.Series[Any]) -> pd.Series[Any]:
    """Returns ids in one spelling: a column of 1 and 2 is read as 1.0 and 2.0 as soon as one is missing."""
    return canonical(cells, ColumnKind.CATEGORICAL)


def _lacking(ids: pd.Series[Any], name: str, where: str) -> Problem:
    row = int(ids.isna().to_numpy().argmax()) + 1
    return Problem(
        f"{int(ids.isna().sum()):,} of {len(ids):,} rows have no id, the first is row {row}", _place(where, name)
    )


def _moments(column: pd.Series[Any], where: str, problems: list[Problem]) -> NDArray[np.float64]:
    """Returns what steps are ordered by; adds to the problems where it is neither a number nor a date."""
    as_numbers, as_dates = (canonical(column, kind) for kind in (ColumnKind.NUMERIC, ColumnKind.DATETIME))
    found = as_dates if as_dates.isna().sum() < as_numbers.isna().sum() else as_numbers
    if n_missing := int(column.isna().sum()):
        place = _place(where, column.name)
        problems.append(Problem(f"{n_missing:,} of {len(column):,} rows have no time", place, "Leave these rows out."))
    remedy = "Write numbers, or dates as 2026-01-31 or 2026-01-31T12:00:00."
    problems += _misfits(column, found, "numbers or dates", where, remedy)
    return np.asarray(found.astype("int64") if found is as_dates else found, np.float64)


def _channel(column: pd.Series[Any], where: str, problems: list[Problem]) -> NDArray[np.float32]:
    """Returns the values of one channel, missing and infinite ones NaN; adds to the problems what is no number."""
    numbers = canonical(column, ColumnKind.BOOLEAN if column.dtype == bool else ColumnKind.NUMERIC)
    remedy = "Correct them, leave the cells empty, or leave the column out of `values`."
    problems += _misfits(column, numbers, "numbers", where, remedy)
    return _finite(numbers.to_numpy(np.float64))


def _misfits(
    column: pd.Series[Any], found: pd.Series[Any], expected: str, where: str, remedy: str
) -> Iterator[Problem]:
    """Yields what is told of a column with values that are there and not found."""
    bad = (found.isna() & column.notna()).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        first = f"the first is `{column.iloc[row]}` in row {row + 1}"
        message = f"{int(bad.sum())} of the values cannot be read as {expected}; {first}"
        yield Problem(message, _place(where, column.name), remedy)


def _place(where: str, name: object) -> str:
    return f"{where}: `{name}`" if where else f"`{name}`"


def _finite(numbers: NDArray[np.float64]) -> NDArray[np.float32]:
    numbers = np.where(np.isinf(numbers), np.nan, numbers)
    return np.clip(numbers, -MAX_VALUE, MAX_VALUE).astype(np.float32)
