"""From a table as it was read to a `Dataset`: what the columns mean, what is predicted, and a digest of it all.

`conform` is the one way into the canonical frame. It runs here when a study begins and again whenever a shipped
model predicts, so that the two cannot differ.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from automl.array_column import is_packed, is_packed_type
from automl.data import blocks as layouts
from automl.data.blocks import Layout, Places, Resolved
from automl.data.checks import check
from automl.data.columns import canonical, infer_kind
from automl.errors import ConfigError, DataError, Problem, did_you_mean
from automl.values import USUAL_QUANTILES, Column, ColumnKind, Dataset, Scalar, Schema, Target, Task, WantedTask

#: Distinct whole numbers up to which they are taken for classes.
_MAX_INTEGER_CLASSES = 20

_EXPECTED = {
    ColumnKind.NUMERIC: ("numbers", "Correct them or leave the cells empty."),
    ColumnKind.BOOLEAN: ("truth values", "Write true or false, or leave the cells empty."),
    ColumnKind.DATETIME: ("dates", "Write them as 2026-01-31 or 2026-01-31T12:00:00, or leave the cells empty."),
}
_EXPECTED |= dict.fromkeys((ColumnKind.IMAGE, ColumnKind.SEQUENCE), _EXPECTED[ColumnKind.NUMERIC])


def make_dataset(
    frame: pd.DataFrame,
    *,
    target: str | Sequence[str],
    task: WantedTask | Mapping[str, WantedTask] = "auto",
    name: str,
    source: str,
    positive: Scalar = None,
    kinds: Mapping[str, ColumnKind] | None = None,
    split_columns: Sequence[str] = (),
    blocks: Sequence[Layout] = (),
    domain: str | None = None,
) -> Dataset:
    """Returns a table ready to be split; rows without a target are left out, and notes tell so.

    Args:
        frame: Features, target and split columns; (rows, columns).
        target: Column to predict, or columns.
        task: A `Task`, or `auto` to infer it; of several targets one of each by its name, or the same of all.
        name: What the table is called in MLflow.
        source: Where it came from, without secrets.
        positive: The positive class of a binary task; by default the last one in order.
        kinds: Kinds of columns where the inferred one would be wrong.
        split_columns: Columns that steer the split and are no features.
        blocks: What belongs together.
        domain: Column that says where a row is from.

    Raises:
        ConfigError: There is no such task.
        DataError: Nothing can be learned from this table, or not this task.
    """
    kinds, frame = kinds or {}, frame.reset_index(drop=True)
    targets = [target] if isinstance(target, str) else list(target)
    keys = layouts.key_columns(blocks)
    check(frame, targets=targets, split_columns=split_columns, named_columns=kinds, key_columns=keys, domain=domain)
    rows = frame.loc[has_target(frame[targets])]
    goal, y, notes = read_target(frame[targets], task, positive)
    columns = rows.drop(columns=[*targets, *split_columns])
    found = layouts.resolve(blocks, columns.drop(columns=[domain] if domain else []))
    schema, column_notes = describe(columns, goal, kinds, found, domain)
    steering = [*split_columns, *([domain] if domain else [])]
    rows = rows.reset_index(drop=True)
    features, changes = conform(rows[schema.names()], schema, found.places)
    return Dataset(
        features=features,
        target=y,
        schema=schema,
        digest=_digest(features, y, goal),
        name=name,
        source=source,
        extra=rows[steering] if steering else None,
        notes=(*notes, *column_notes, *changes, *_notes_of_cells(features, schema)),
    )


def describe(
    rows: pd.DataFrame,
    target: Target,
    kinds: Mapping[str, ColumnKind],
    found: Resolved = Resolved(),  # noqa: B008
    domain: str | None = None,
) -> tuple[Schema, tuple[str, ...]]:
    """Returns what the feature columns are, and notes on those that are left out.

    Args:
        rows: The feature columns, or a sample of their rows, indexed by the rows' positions in the table.
        target: What is predicted.
        kinds: Kinds of columns where the inferred one would be wrong.
        found: What belongs together.
        domain: Column that says where a row is from.

    Raises:
        DataError: No column is left to predict from.
    """
    kinds = {**kinds, **layouts.kinds(found.blocks), **({domain: ColumnKind.DOMAIN} if domain else {})}
    schema = Schema(tuple(_describe_column(rows[name], kinds.get(name)) for name in rows.columns), target, found.blocks)
    if all(column.kind is ColumnKind.DOMAIN for column in schema.used):
        raise DataError(
            "no column is left to predict from: all are constant or identify rows",
            remedy="Set the kind of a column that is neither, such as `kinds: {code: categorical}`.",
        )
    return schema, (*found.notes, *_notes_of_columns(rows, schema, kinds))


def conform(frame: pd.DataFrame, schema: Schema, places: Places | None = None) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the canonical frame and notes on what was ignored or changed on the way.

    It holds the columns that a model sees, in the schema's order: numeric and boolean as float64, datetime as
    datetime64[us] (naive, UTC), categorical and text as `str`; what is missing is NaN or NaT, and so is an infinite
    number. A block that is read is one packed column, named as the block, in place of the one that says what to read.
    Rows and index stay as they are.

    Args:
        frame: At least the columns that the schema uses, in any order; (rows, columns).
        schema: What the columns are.
        places: Where blocks that are read come from, by their names; without one, cells hold what is read themselves.

    Raises:
        DataError: Columns are missing or occur twice, or hold values that are not of their kind. Rows are counted
            from 1 in messages.
    """
    conforming = Conforming(schema, places)
    features = conforming.take(frame)
    notes = conforming.end()
    assert features is not None  # None is for problems, and `end` has raised them
    return features, notes


class Conforming:
    """`conform` for a table that comes in parts: rows are counted, and notes and problems told, over all of them.

    Args:
        schema: What the columns are.
        places: As of `conform`.
    """

    def __init__(self, schema: Schema, places: Places | None = None) -> None:
        self._schema = schema
        self._readers = {b.name: layouts.reader(b, (places or {}).get(b.name)) for b in schema.read_blocks}
        self._n_rows = 0
        self._unknown: dict[str, None] = {}
        self._n_infinite: Counter[str] = Counter()
        self._misfits: dict[str, _Misfit] = {}
        self._problems: dict[str, Problem] = {}  # of columns as such

    def take(self, frame: pd.DataFrame) -> pd.DataFrame | None:
        """Returns the canonical frame of the next rows; None from the first problem on."""
        occurrences = Counter(frame.columns)
        known = {*self._schema.names(), *self._schema.target.names, *self._readers}
        self._unknown |= dict.fromkeys(str(name) for name in occurrences if name not in known)
        conformed = {}
        packed = {
            block.name: frame[block.name]
            for block in self._schema.read_blocks
            if occurrences[block.name] == 1 and is_packed(frame[block.name], block)
        }
        for column in self._schema.used:
            name = column.name
            if column.kind is ColumnKind.KEY and all(b.name in packed for b in self._schema.read_by(name)):
                continue  # a canonical frame already
            if occurrences[name] == 0 and column.kind is ColumnKind.DOMAIN:
                conformed[name] = pd.Series(np.nan, index=frame.index, dtype="str")  # it is unknown
            elif occurrences[name] == 0:
                remedy = did_you_mean(name, list(self._unknown))
                self._problems[name] = Problem(f"the column `{name}` is missing", remedy=remedy)
            elif occurrences[name] > 1:
                self._problems[name] = Problem(f"the column `{name}` occurs several times", remedy="Keep one.")
            elif column.kind is not ColumnKind.KEY:
                conformed[name] = self._values(frame[name], column)
            else:
                packed |= {b.name: self._readers[b.name].take(frame[name]) for b in self._schema.read_by(name)}
        self._n_rows += len(frame)
        if self._problems or self._misfits:
            return None
        return pd.DataFrame(conformed | packed, index=frame.index, copy=False)

    def end(self) -> tuple[str, ...]:
        """Returns notes on what was ignored or changed.

        Raises:
            DataError: With everything that is wrong with any part.
        """
        problems = []
        for column in self._schema.used:
            if column.name in self._problems:
                problems.append(self._problems[column.name])
            elif column.name in self._misfits:
                problems.append(self._misfits[column.name].told(column))
        for reader in self._readers.values():
            problems += reader.problems()
        if problems:
            raise DataError(problems)
        unknown = list(self._unknown)
        ignored = [f"Ignored, since the model does not know them: {_listed(unknown)}."] if unknown else []
        infinite = [f"Infinite values of `{name}` taken as missing: {n}." for name, n in self._n_infinite.items() if n]
        read = [note for reader in self._readers.values() for note in reader.notes()]
        return (*ignored, *infinite, *read)

    def _values(self, given: pd.Series, column: Column) -> pd.Series:
        values = canonical(given, column.kind)
        misfit = _misfits(given, values, self._n_rows)
        if misfit is not None:
            earlier = self._misfits.get(column.name)
            self._misfits[column.name] = replace(earlier, n=earlier.n + misfit.n) if earlier else misfit
        if column.kind.is_number:
            infinite = np.isinf(values.to_numpy())
            self._n_infinite[column.name] += int(infinite.sum())
            values = values.mask(infinite) if infinite.any() else values
        return values


@dataclass(frozen=True, slots=True)
class _Misfit:
    """Values of a column that are not of its kind: how many, the first of them and its row, counted from 1."""

    n: int
    first: Any
    row: int

    def told(self, column: Column) -> Problem:
        expected, remedy = _EXPECTED[column.kind]
        found = f"{self.n} of the values cannot be read as {expected}"
        return Problem(f"{found}; the first is `{self.first}` in row {self.row}", f"`{column.name}`", remedy)


def _misfits(given: pd.Series, values: pd.Series, n_before: int = 0) -> _Misfit | None:
    """Returns what canonical values lack of those given; `n_before` rows came before them."""
    bad = values.isna().to_numpy()
    if bad.any():  # seldom, and only then is it worth to look at what was given
        bad = bad & given.notna().to_numpy()
    if not bad.any():
        return None
    position = int(bad.argmax())
    return _Misfit(int(bad.sum()), given.iloc[position], n_before + position + 1)


# --- columns -----------------------------------------------------------------------------------------------------


def _describe_column(values: pd.Series, kind: ColumnKind | None) -> Column:
    finite = values.replace([np.inf, -np.inf], np.nan) if types.is_float_dtype(values) else values
    return Column(
        name=str(values.name),
        kind=ColumnKind(kind) if kind else infer_kind(finite),
        dtype=str(values.dtype),
        n_missing=int(finite.isna().sum()),
        n_unique=0 if kind is ColumnKind.KEY else int(finite.nunique()),  # cells may hold whole images
    )


def _notes_of_columns(rows: pd.DataFrame, schema: Schema, kinds: Mapping[str, ColumnKind]) -> list[str]:
    notes = []
    constant = [column.name for column in schema.columns if column.kind is ColumnKind.CONSTANT]
    if constant:
        notes.append(f"Left out, since all rows are alike in them: {_listed(constant)}.")
    identifiers = schema.names(ColumnKind.IDENTIFIER)
    if identifiers:
        notes.append(f"Left out, since they identify rows: {_listed(identifiers)}. Set their kind to use them.")
    for column in schema.columns:
        given = rows[column.name]
        if column.kind is ColumnKind.NUMERIC and types.is_integer_dtype(given):
            lost = column.n_unique - given.astype("float64").nunique()
            if lost:
                notes.append(
                    f"`{column.name}`: {lost} of its {column.n_unique} whole numbers, beyond 2^53, are read as their "
                    f"neighbours. If they are names, say so: `kinds: {{{column.name}: categorical}}`."
                )
        if column.kind is ColumnKind.TEXT:
            notes += _notes_of_texts(given)
        if column.name in kinds or not types.is_string_dtype(given):
            continue
        # A single `?` makes words of a whole column of numbers.
        present = given.dropna()
        words = canonical(present, ColumnKind.NUMERIC).isna()
        if 0 < words.sum() <= 0.1 * len(present):
            notes.append(
                f"`{column.name}` is taken as {column.kind}, since not all of its values are numbers: "
                f"{int(words.sum())} are not, such as `{present[words].iloc[0]}`. Leave such cells empty."
            )
    return notes


def _notes_of_cells(features: pd.DataFrame, schema: Schema) -> Iterator[str]:
    """Yields how many images and sequences whose cells are columns hold nothing, or next to nothing."""
    for block in (block for block in schema.blocks if block.reading is None):
        is_sequence = block.kind is ColumnKind.SEQUENCE
        cells = features[list(block.columns)].notna().to_numpy().reshape(len(features), block.shape[0], -1)
        n_there = cells.any(axis=1).sum(axis=1)  # pixels or steps of each row
        if n_void := int((n_there == 0).sum()):
            what = "step" if is_sequence else "pixel"
            yield f"`{block.name}`: {n_void:,} of {len(features):,} rows hold no {what} at all."
        if is_sequence and (n_single := int((n_there == 1).sum())):
            yield f"`{block.name}`: {n_single:,} of {len(features):,} sequences have one step only."


def _notes_of_texts(given: pd.Series) -> Iterator[str]:
    words = canonical(given.dropna(), ColumnKind.TEXT)
    n_empty = int((words.str.strip() == "").sum())
    if n_empty:
        yield f"`{given.name}`: {n_empty:,} of {len(given):,} texts are empty."
    lost = words.str.contains("\N{REPLACEMENT CHARACTER}", regex=False)
    if lost.any():
        row = int(lost.index.to_numpy()[lost.to_numpy().argmax()]) + 1
        yield (
            f"`{given.name}`: {int(lost.sum()):,} of {len(given):,} texts, the first in row {row}, hold the sign "
            "`\N{REPLACEMENT CHARACTER}`, which stands for what could not be read when they were written: look at how."
        )


# --- the target --------------------------------------------------------------------------------------------------


def infer_task(target: pd.Series, *, had_missing: bool = False) -> Task:
    """Returns the task that the values of a target suggest.

    Two distinct values are binary. Words are classes. Whole numbers are classes when they are few, close together
    and repeat: 3 rows a class on average. Other numbers are regression.

    Args:
        target: Values without missing ones.
        had_missing: Whether there were missing ones, for which whole numbers have become floats.
    """
    n_distinct = target.nunique()
    if n_distinct == 2:
        return Task.BINARY
    if isinstance(target.dtype, pd.CategoricalDtype) or not _holds_numbers(target):
        return Task.MULTICLASS
    values = canonical(target, ColumnKind.NUMERIC)
    whole = types.is_integer_dtype(target) or (had_missing and bool((values % 1 == 0).all()))
    close = values.max() - values.min() < 2 * n_distinct
    few = n_distinct <= _MAX_INTEGER_CLASSES and 3 * n_distinct <= len(values)
    return Task.MULTICLASS if whole and close and few else Task.REGRESSION


def has_target(columns: pd.DataFrame) -> NDArray[np.bool_]:
    """Returns which rows have a value of any of the targets; (rows,)."""
    return columns.notna().any(axis=1).to_numpy()


def read_target(
    columns: pd.DataFrame, task: WantedTask | Mapping[str, WantedTask], positive: Scalar
) -> tuple[Target, NDArray[Any], tuple[str, ...]]:
    """Returns what is predicted, its encoded values in the rows that have any, and notes.

    Args:
        columns: The targets; (rows, targets).
        task, positive: As of `make_dataset`.

    Raises:
        ConfigError: There is no such task, or not of so many targets.
        DataError: The values are not for this task.
    """
    names = [str(name) for name in columns]
    kept = columns[has_target(columns)]
    n_missing = len(columns) - len(kept)
    which = f"`{names[0]}`" if len(names) == 1 else "any target"
    left_out = [f"Rows left out, since they have no value of {which}: {n_missing}."] if n_missing else []
    wanted = _wanted_tasks(task, kept)
    if len(names) == 1:
        values = kept[names[0]].reset_index(drop=True)
        goal, y, notes = _encode_target(values, wanted[names[0]], positive, had_missing=n_missing > 0)
        return goal, y, (*left_out, *notes)
    if positive is not None:
        raise DataError(
            "`positive` is for a single binary target",
            where="data.positive",
            remedy="Leave it out, or name one target.",
        )
    together = Task.MULTILABEL if "multilabel" in wanted.values() else Task.MULTITASK
    goal, y, notes = _encode_targets(kept, wanted, together)
    return goal, y, (*left_out, *notes)


def _wanted_tasks(task: WantedTask | Mapping[str, WantedTask], columns: pd.DataFrame) -> dict[str, WantedTask]:
    """Returns the task of each target, all of them `multilabel` or none of them.

    Raises:
        ConfigError: With everything that is wrong with the tasks.
    """
    names = [str(name) for name in columns]
    asked = dict(task) if isinstance(task, Mapping) else dict.fromkeys(names, task)
    single = ["auto", *(known for known in Task if not known.is_several)]
    allowed = single if isinstance(task, Mapping) or len(names) == 1 else [*single, *Task]
    problems = []
    for name, one in asked.items():
        where = f"task.{name}" if isinstance(task, Mapping) else "task"
        if name not in names:
            problems.append(Problem(f"`{name}` is not among the targets", where, did_you_mean(name, names)))
        elif isinstance(one, str) and one in list(Task) and one not in allowed:
            remedy = f"Name several under `target`, or write one of {', '.join(f'`{known}`' for known in single)}."
            if isinstance(task, Mapping):
                remedy = f"Write `task: {one}` for all of them, or the task of each."
            problems.append(Problem(f"`{one}` is a task of several targets together", where, remedy))
        elif isinstance(one, str) and one not in allowed:
            problems.append(Problem(f"unknown task `{one}`", where, did_you_mean(one, allowed)))
        if not isinstance(task, Mapping):
            break  # the others are alike
    if problems:
        raise ConfigError(problems)
    tasks = {name: asked.get(name, "auto") for name in names}
    if task == "multilabel" or (task == "auto" and len(names) > 1 and all(_is_label(columns[name]) for name in names)):
        return dict.fromkeys(names, "multilabel")
    return dict.fromkeys(names, "auto") if task == "multitask" else tasks


def _is_label(column: pd.Series) -> bool:
    """Returns whether the values are 0 and 1, or truth values."""
    return bool(column.dropna().isin([0, 1]).all()) and types.is_numeric_dtype(column.dropna().infer_objects())


def _encode_targets(
    columns: pd.DataFrame, wanted: Mapping[str, WantedTask], together: Task
) -> tuple[Target, NDArray[np.float64], list[str]]:
    """Returns several targets as one, (rows, targets), NaN where one is missing; with all that is wrong with any."""
    parts: list[Target] = []
    notes: list[str] = []
    problems: list[Problem] = []
    y = np.full(columns.shape, np.nan)
    for position, (name, task) in enumerate(wanted.items()):
        known = columns[name].notna().to_numpy()
        values = columns[name][known].reset_index(drop=True).infer_objects()
        try:
            if together is Task.MULTILABEL and not _is_label(values):
                raise _no_label(values)
            one = Task.BINARY if together is Task.MULTILABEL else task
            part, y[known, position], said = _encode_target(values, one, None, had_missing=not known.all())
        except DataError as error:
            problems += error.problems
            continue
        parts.append(part)
        notes += said
        if not known.all():
            notes.append(
                f"`{name}` is missing in {(~known).sum():,} of {len(known):,} rows, from which the others are learned."
            )
    goal = Target(", ".join(wanted), together, parts=tuple(parts))
    told = Counter(name for name, _ in goal.columns())
    problems += [
        Problem(f"two columns of predictions would be called `{name}`", "`data.target`", "Rename a target.")
        for name, n in told.items()
        if n > 1
    ]
    if problems:
        raise DataError(problems)
    return goal, y, notes


def _no_label(values: pd.Series) -> DataError:
    other = next(value for value in values if not (isinstance(value, bool | np.bool_) or value in (0, 1)))
    return DataError(
        f"`{other}` is no label",
        where=f"`{values.name}`",
        remedy="Labels of a multilabel task are 0 and 1, or true and false; for any others write `task: auto`.",
    )


def _encode_target(
    values: pd.Series, task: WantedTask, positive: Scalar, *, had_missing: bool
) -> tuple[Target, NDArray[Any], list[str]]:
    """Returns a single target and its values, none of which is missing; (rows,)."""
    name = str(values.name)
    quantiles: tuple[float, ...] = ()
    if isinstance(task, tuple):
        inferred, quantiles = Task.QUANTILE, task
    else:
        inferred = infer_task(values, had_missing=had_missing) if task == "auto" else Task(task)
        quantiles = USUAL_QUANTILES if inferred is Task.QUANTILE else ()
    if not inferred.is_classification:
        if positive is not None:
            raise DataError("a regression has no positive class", where=f"`{name}`", remedy="Leave out `positive`.")
        return Target(name, inferred, quantiles=quantiles), _read_numbers(values), []
    classes, y = _encode_classes(values, inferred, positive)
    notes = []
    if task == "auto" and inferred is Task.MULTICLASS and _holds_numbers(values):
        notes.append(f"`{name}` is read as {len(classes)} classes; write `task: regression` to predict a number.")
    counts = np.bincount(y)
    single = [classes[position] for position in np.flatnonzero(counts == 1)]
    if single:
        notes.append(
            f"Classes of `{name}` with a single row are trained on and never validated: {_listed(single)}. "
            "Merge them with others or drop them."
        )
    return Target(name, inferred, classes), y, notes


def _read_numbers(values: pd.Series) -> NDArray[np.float64]:
    column = Column(str(values.name), ColumnKind.NUMERIC, str(values.dtype))
    numbers = canonical(values, ColumnKind.NUMERIC)
    misfit = _misfits(values, numbers)
    if misfit is not None:
        problem = misfit.told(column)
        raise DataError(Problem(problem.message, problem.where, "A regression needs numbers; or set `task`."))
    n_infinite = int(np.isinf(numbers).sum())
    if n_infinite:
        raise DataError(
            f"{n_infinite} of the values are infinite", where=f"`{column.name}`", remedy="Correct or drop these rows."
        )
    return numbers.to_numpy()


def _encode_classes(values: pd.Series, task: Task, positive: Scalar) -> tuple[tuple[Scalar, ...], NDArray[np.int64]]:
    """Returns the sorted labels as Python values, the positive one last in a binary task, and positions (rows,)."""
    where = f"`{values.name}`"
    codes, uniques = pd.factorize(values)
    labels = [_to_python(label) for label in uniques]
    if len(labels) > len(values) / 2:
        raise DataError(
            f"{len(labels)} different values in {len(values)} rows are no classes",
            where=where,
            remedy="Choose another column; or, if these should be numbers, write `task: regression`.",
        )
    if (len(labels) == 2) is not (task is Task.BINARY):
        fitting = Task.BINARY if len(labels) == 2 else Task.MULTICLASS
        raise DataError(f"{len(labels)} classes are not {task}", where=where, remedy=f"Write `task: {fitting}`.")
    order = sorted(range(len(labels)), key=lambda i: (isinstance(labels[i], str), labels[i]))
    if positive is not None:
        allowed = " or ".join(f"`{labels[i]}`" for i in order)
        if task is not Task.BINARY:
            raise DataError("only a binary task has a positive class", where=where, remedy="Leave out `positive`.")
        if positive not in labels:
            raise DataError(
                f"the positive class `{positive}` does not occur", where=where, remedy=f"Allowed: {allowed}."
            )
        order.sort(key=lambda i: labels[i] == positive)
    position = np.argsort(order)
    return tuple(labels[i] for i in order), position[codes].astype(np.int64)


def _holds_numbers(values: pd.Series) -> bool:
    return types.is_numeric_dtype(values) and not types.is_bool_dtype(values)


def _to_python(label: Any) -> Scalar:
    """Returns a label as a Python value; whole floats, which missing values make of integers, as int."""
    value = label.item() if isinstance(label, np.generic) else label
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, bool | int | float | str) else str(value)


# --- the digest --------------------------------------------------------------------------------------------------


def _digest(features: pd.DataFrame, y: NDArray[Any], target: Target) -> str:
    """Returns a SHA-256 over names, types and values: of values, not of files, so that a csv can equal a parquet."""
    digest = hashlib.sha256()
    digest.update(json.dumps([target.name, target.task, target.classes, len(y)]).encode())
    for part in target.parts:
        digest.update(json.dumps([part.name, part.task, part.classes]).encode())
    digest.update(y.astype(y.dtype.newbyteorder("<")).tobytes())
    for name, column in features.items():
        digest.update(json.dumps([name, str(column.dtype)]).encode())
        if types.is_float_dtype(column):
            numbers = column.to_numpy() + 0.0  # -0.0 equals 0.0
            numbers[np.isnan(numbers)] = np.nan  # one of the many bit patterns
            digest.update(numbers.astype("<f8").tobytes())
        elif types.is_datetime64_any_dtype(column):
            digest.update(column.to_numpy().astype("<i8").tobytes())
        elif is_packed_type(getattr(column.dtype, "pyarrow_dtype", None)):
            digest.update(column.isna().to_numpy().tobytes())
            for array in column.dropna():
                digest.update(array)
        else:
            codes, words = pd.factorize(column)
            digest.update(codes.astype("<i8").tobytes())
            digest.update(json.dumps(list(words)).encode())
    return digest.hexdigest()


def _listed(names: Sequence[Any], most: int = 10) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
