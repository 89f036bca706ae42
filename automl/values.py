"""The values that travel through the pipe; nothing here computes, and nothing heavy is imported."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

Scalar = bool | int | float | str | None
#: What a hyperparameter may be: a plain value, or lists and mappings of such.
Value = Scalar | Sequence["Value"] | Mapping[str, "Value"]

#: What a person says of a single target's task: its name, `auto`, or the levels of a quantile regression.
WantedTask = str | tuple[float, ...]


class Task(StrEnum):
    """What is predicted."""

    BINARY = "binary"
    MULTICLASS = "multiclass"
    REGRESSION = "regression"
    QUANTILE = "quantile"
    MULTILABEL = "multilabel"
    MULTITASK = "multitask"

    @property
    def is_classification(self) -> bool:
        """Whether there is one target, and it is classes."""
        return self in (Task.BINARY, Task.MULTICLASS)

    @property
    def kind(self) -> str:
        """What components say of themselves that are for such tasks: the trait `classification`, `regression`, ..."""
        return "classification" if self.is_classification else self.value

    @property
    def is_several(self) -> bool:
        """Whether there are several targets, each of which has a task of its own."""
        return self in (Task.MULTILABEL, Task.MULTITASK)


#: What the outputs of a single target learn from where nothing else is chosen.
USUAL_LOSSES = {
    Task.BINARY: "cross_entropy",
    Task.MULTICLASS: "cross_entropy",
    Task.REGRESSION: "mse",
    Task.QUANTILE: "pinball",
}


class ColumnKind(StrEnum):
    """What a column of the table means."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"
    BOOLEAN = "boolean"
    DATETIME = "datetime"
    TEXT = "text"
    IDENTIFIER = "identifier"
    CONSTANT = "constant"
    IMAGE = "image"
    SEQUENCE = "sequence"
    KEY = "key"
    BASELINE = "baseline"
    DOMAIN = "domain"

    @property
    def is_cell(self) -> bool:
        """Whether a column is a cell of a block, such as a pixel, and means nothing by itself."""
        return self in (ColumnKind.IMAGE, ColumnKind.SEQUENCE, ColumnKind.BASELINE)

    @property
    def is_of_block(self) -> bool:
        """Whether only a block makes a column this: it is a cell of one, or says what one reads."""
        return self.is_cell or self is ColumnKind.KEY

    @property
    def is_number(self) -> bool:
        """Whether values are numbers, of a column or of a cell."""
        return self is ColumnKind.NUMERIC or self.is_cell


class Direction(StrEnum):
    """Whether small or large values of a metric are better."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


class TrialState(StrEnum):
    """How a trial ended."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a trial failed."""

    ERROR = "error"
    NAN = "nan"
    OOM = "oom"
    TIMEOUT = "timeout"
    LOST = "lost"


# --- the table ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Column:
    """One feature column as it was when the study began.

    Attributes:
        dtype: The pandas dtype's name, for messages and for the model's signature.
    """

    name: str
    kind: ColumnKind
    dtype: str
    n_missing: int = 0
    n_unique: int = 0


#: The levels of a quantile regression that names none.
USUAL_QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True, slots=True)
class Target:
    """What is predicted: a column, or several columns, each a target with a task of its own.

    Attributes:
        name: Of the column; of several, all their names.
        classes: The labels in the order of the probability columns, in a binary task the positive one last; empty
            unless they are classes.
        quantiles: The levels of a quantile regression, rising.
        parts: The targets, where there are several. In a multilabel task all of them are binary.
    """

    name: str
    task: Task
    classes: tuple[Scalar, ...] = ()
    quantiles: tuple[float, ...] = ()
    parts: tuple[Target, ...] = ()

    @property
    def heads(self) -> tuple[Target, ...]:
        """The single targets: the parts, or itself."""
        return self.parts or (self,)

    @property
    def names(self) -> list[str]:
        """The columns that hold it."""
        return [head.name for head in self.heads]

    @property
    def n_outputs(self) -> int:
        """Width of a network's output: of each head one logit or value, one a class from three on, one a quantile."""
        if self.parts:
            return sum(part.n_outputs for part in self.parts)
        return len(self.classes) if self.task is Task.MULTICLASS else len(self.quantiles) or 1

    @property
    def width(self) -> int:
        """Columns of predictions: one a class or quantile, or one value, of each head."""
        return sum(part.width for part in self.parts) or len(self.classes) or len(self.quantiles) or 1

    @property
    def slices(self) -> tuple[slice, ...]:
        """The columns of predictions that are each head's, where there are several."""
        return consecutive(part.width for part in self.parts)

    def columns(self) -> list[tuple[str, Target]]:
        """Returns the names of the columns that people are given, and whose each is: what a head is, then how surely.

        A single target has `prediction`, and `proba_<class>` or `quantile_<level>`; of several each has a column of its
        name, and `proba_<target>` if it is binary, `proba_<target>_<class>` or `quantile_<target>_<level>`.
        """
        found = []
        for head in self.heads:
            of = f"_{head.name}" if self.parts else ""
            found.append((head.name if self.parts else "prediction", head))
            if self.parts and head.task is Task.BINARY:
                found.append((f"proba{of}", head))
            else:
                found += [(f"proba{of}_{name}", head) for name in head.classes]
            found += [(f"quantile{of}_{level:g}", head) for level in head.quantiles]
        return found

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Target:
        return cls(
            document["name"],
            Task(document["task"]),
            tuple(document["classes"]),
            tuple(document.get("quantiles", ())),  # earlier documents have none, nor parts
            tuple(cls.from_json(part) for part in document.get("parts", ())),
        )


def consecutive(widths: Iterable[int]) -> tuple[slice, ...]:
    """Returns where things of these widths lie when they stand side by side."""
    ends = [0, *itertools.accumulate(widths)]
    return tuple(slice(first, end) for first, end in itertools.pairwise(ends))


@dataclass(frozen=True, slots=True)
class ImageFiles:
    """How images come to a table: a column names the file of each.

    Attributes:
        key: The column.
        resize: What is done to an image of another size: `stretch`, `crop` (its shorter side fits, and the middle of
            the longer one stays), or `none`: it is refused.
        missing_files: Share of the rows whose image may be missing or unreadable.
    """

    key: str
    resize: str = "stretch"
    missing_files: float = 0.0


@dataclass(frozen=True, slots=True)
class LongTable:
    """How sequences come to a table: as rows of another one, or of itself, that have the same id.

    Attributes:
        key: The column of ids, in both.
        time: The column that orders the rows of an id; None: they are in order.
        values: The columns that are the channels.
        keep: Of a sequence with too many steps, the `last` or the `first`.
        missing_ids: Share of the rows whose sequence may be missing.
        folded: Whether the table itself has a row a step, of which one row an id is made.
    """

    key: str
    time: str | None
    values: tuple[str, ...]
    keep: str = "last"
    missing_ids: float = 0.0
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """What belongs together: the pixels of an image, the steps of a sequence.

    Attributes:
        kind: `image`, `sequence` or `baseline`.
        columns: Those that hold its cells, in row-major order of the shape; none where it is read.
        shape: (channels, height, width) of an image, (channels, steps) of a sequence, (2,) of a baseline: the level and
            the scale that a row's target is learned relative to, as (value - level) / scale.
        reading: How it is read by what a column of the table says; the canonical frame then has one column of it, named
            as the block.
    """

    name: str
    kind: ColumnKind
    columns: tuple[str, ...]
    shape: tuple[int, ...]
    reading: ImageFiles | LongTable | None = None

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Block:
        kind, given = ColumnKind(document["kind"]), document.get("reading")  # earlier documents have none
        reading: ImageFiles | LongTable | None = None
        if given is not None:
            is_image = kind is ColumnKind.IMAGE
            reading = ImageFiles(**given) if is_image else LongTable(**{**given, "values": tuple(given["values"])})
        return cls(document["name"], kind, tuple(document["columns"]), tuple(document["shape"]), reading)


@dataclass(frozen=True, slots=True)
class Clock:
    """Moments that are evenly spaced, numbered one by one.

    Attributes:
        unit: `months`; `weekdays`, Monday to Friday; `microseconds`; or `number`, where time is no date.
        step: So many units lie between two moments.
        offset: The moment of number 0 in the unit; of dates in microseconds: into each month, below 0 counted from its
            end, into each weekday, or since 1970.
        phase: The month of number 0, counted from January 1970.
    """

    unit: str
    step: float
    offset: float
    phase: int = 0

    def moment(self, number: int) -> datetime | float:
        """Returns a moment."""
        if self.unit == "number":
            moment = self.offset + number * self.step
            return int(moment) if moment.is_integer() else moment
        if self.unit == "weekdays":  # 1970 began on a Thursday
            weeks, day = divmod(number * int(self.step) + 3, 5)
            return datetime(1969, 12, 29) + timedelta(weeks=weeks, days=day, microseconds=self.offset)
        if self.unit == "months":
            month = number * int(self.step) + self.phase + (self.offset < 0)  # the next one's start is the end
            return datetime(1970 + month // 12, month % 12 + 1, 1) + timedelta(microseconds=self.offset)
        return datetime(1970, 1, 1) + timedelta(microseconds=self.offset + number * self.step)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """What a row is told of its neighbours in a graph.

    Attributes:
        id: Column of the rows' names.
        start, end: Columns of a table of edges with the names of the rows at their ends.
        hops: How far neighbours are looked at.
        numbers: Columns of which means are told.
        truths: Columns of truth values, of which the share that is true is told.
        levels: Columns of categories, and their levels of which shares are told.
    """

    id: str
    start: str
    end: str
    hops: int
    numbers: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def made(self) -> tuple[str, ...]:
        """The columns that come of it: how many neighbours there are, and what they are like, hop by hop."""
        shares = (f"{name} {level}" for name, levels in self.levels.items() for level in levels)
        features = (*self.numbers, *self.truths, *shares)
        hops = ("", *(f" {hop} hops away" for hop in range(2, self.hops + 1)))
        return ("neighbours", *(f"{feature} of neighbours{far}" for far in hops for feature in features))


@dataclass(frozen=True, slots=True)
class Forecast:
    """How series in time become rows to learn from, and a history becomes rows to predict.

    Attributes:
        time: Column of the moments.
        clock: How these are numbered.
        horizon: Moments that are forecast.
        window: Moments, up to the last one that is known, that are looked at.
        season: Moments after which a series is alike again; 1: there is no season.
        series: Column that tells series apart; None: there is one.
        known: Columns whose values are known ahead.
        past: Columns of numbers that are known up to the last known moment; the target is no such.
        words: Columns of anything else, of which the last value is looked at.
    """

    time: str
    clock: Clock
    horizon: int
    window: int
    season: int
    series: str | None = None
    known: tuple[str, ...] = ()
    past: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


#: What a cell of a made-up row holds; of other kinds a word.
_MADE_UP: Mapping[ColumnKind, Scalar] = {
    ColumnKind.NUMERIC: 0.0,
    ColumnKind.BOOLEAN: True,
    ColumnKind.DATETIME: "2000-01-01T00:00:00",
    ColumnKind.IMAGE: 0.0,
    ColumnKind.SEQUENCE: 0.0,
}


@dataclass(frozen=True, slots=True)
class Schema:
    """What a table must look like to be trained on or predicted.

    Attributes:
        columns: All of them but the targets, those of blocks among them, and those by which blocks are read.
        blocks: What belongs together; the other columns stand for themselves.
        forecast: How the columns come of series in time; None: they are those of the table.
        neighbours: How columns come of a graph between the rows; None: there is none.
    """

    columns: tuple[Column, ...]
    target: Target
    blocks: tuple[Block, ...] = ()
    forecast: Forecast | None = None
    neighbours: Neighbours | None = None

    def names(self, *kinds: ColumnKind) -> list[str]:
        """Returns the names of the columns of these kinds, in the table's order; of all columns without kinds."""
        return [column.name for column in self.columns if not kinds or column.kind in kinds]

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that a model sees: constants and identifiers carry nothing that generalises."""
        return tuple(c for c in self.columns if c.kind not in (ColumnKind.CONSTANT, ColumnKind.IDENTIFIER))

    @property
    def read_blocks(self) -> tuple[Block, ...]:
        """The blocks that are read by what a column says, each of which is one column of the canonical frame."""
        return tuple(block for block in self.blocks if block.reading is not None)

    def read_by(self, key: str) -> tuple[Block, ...]:
        """Returns the blocks that are read by what this column says."""
        return tuple(block for block in self.blocks if block.reading is not None and block.reading.key == key)

    @property
    def n_cells(self) -> int:
        """Numbers that a row comes to, about."""
        return len(self.used) + sum(math.prod(block.shape) for block in self.read_blocks)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the columns that a table to predict on has: with a forecast, those of a history."""
        if self.forecast is None:
            made = self.neighbours.made if self.neighbours else ()
            return tuple(column.name for column in self.used if column.name not in made)
        f = self.forecast
        return (*([f.series] if f.series else ()), f.time, self.target.name, *f.known, *f.past, *f.words)

    @property
    def baseline(self) -> tuple[str, str] | None:
        """The columns with the level and the scale that targets are learned relative to; None: there are none."""
        found = next((block.columns for block in self.blocks if block.kind is ColumnKind.BASELINE), None)
        return None if found is None else (found[0], found[1])

    def example(self) -> list[dict[str, Scalar]]:
        """Returns made-up rows to predict on: they show the form of an input and hold none of the user's data."""
        f, kinds = self.forecast, {column.name: column.kind for column in self.columns}
        if f is None:
            return [{name: _MADE_UP.get(kinds[name], "example") for name in self.inputs}]
        rows: list[dict[str, Scalar]] = []
        for number in range(f.window + f.horizon):
            moment = f.clock.moment(number)
            is_past = number < f.window
            rows.append(
                {
                    **({f.series: "example"} if f.series else {}),
                    f.time: moment if isinstance(moment, (int, float)) else moment.isoformat(),
                    self.target.name: float(number) if is_past else None,
                    **{name: _MADE_UP.get(kinds[name], "example") for name in (*f.known, *f.words)},
                    **dict.fromkeys(f.past, 0.0 if is_past else None),
                }
            )
        return rows

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Schema:
        forecast, neighbours = document.get("forecast"), document.get("neighbours")
        return cls(
            columns=tuple(Column(**{**column, "kind": ColumnKind(column["kind"])}) for column in document["columns"]),
            target=Target.from_json(document["target"]),
            blocks=tuple(map(Block.from_json, document.get("blocks", ()))),  # earlier documents have none
            forecast=None if forecast is None else _forecast(forecast),
            neighbours=None if neighbours is None else _neighbours(neighbours),
        )


def _neighbours(document: Mapping[str, Any]) -> Neighbours:
    levels = {name: tuple(each) for name, each in document["levels"].items()}
    lists = {name: tuple(document[name]) for name in ("numbers", "truths")}
    return Neighbours(**{**document, **lists, "levels": levels})


def _forecast(document: Mapping[str, Any]) -> Forecast:
    lists = {name: tuple(document[name]) for name in ("known", "past", "words")}
    return Forecast(**{**document, **lists, "clock": Clock(**document["clock"])})


#: That there is no table: a LightningDataModule is read instead, of which nobody knows what it holds.
NO_TABLE = Schema((), Target("", Task.REGRESSION))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table ready to be split.

    Attributes:
        features: One row per example, the feature columns only; (rows, columns).
        target: Class positions (int64) or values (float64); (rows,). Of several targets class positions and values
            alike as float64, NaN where one is missing; (rows, targets).
        schema: What the columns are.
        digest: SHA-256 over names, types and values of features and target.
        name: What the table is called in MLflow.
        source: Where it came from, without secrets.
        extra: Columns that steer the split (group, time) but are no features.
        notes: Sentences about what was done to the table, to be shown and logged.
    """

    features: pd.DataFrame
    target: NDArray[Any]
    schema: Schema
    digest: str
    name: str
    source: str
    extra: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()


class Shards(Protocol):
    """Stored rows that need not fit into memory, numbered over all shards; each shard is a fair sample of them.

    Attributes:
        target: As of `Dataset`.
        starts: Number of the first row of each shard, and the number of rows; (shards + 1,).
    """

    @property
    def target(self) -> NDArray[Any]: ...

    @property
    def starts(self) -> NDArray[np.int64]: ...

    def __len__(self) -> int:
        """Returns the number of shards."""
        ...

    def shard(self, number: int) -> pd.DataFrame:
        """Returns the features of one shard; (rows, columns)."""
        ...

    def within(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns which of the rows, given in ascending order, are in a shard, counted from its first."""
        ...

    def holding(self, rows: NDArray[np.int64]) -> list[int]:
        """Returns the shards that hold any of the rows, given in ascending order; the first where there are none."""
        ...

    def sample(self, rows: NDArray[np.int64]) -> tuple[pd.DataFrame, NDArray[Any]]:
        """Returns features and target of those of the rows that are in the first shards that hold any."""
        ...


@dataclass(frozen=True, slots=True)
class Fold:
    """Row positions within the search part; (n_train,) and (n_val,)."""

    train: NDArray[np.int64]
    val: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Splits:
    """Row positions of the whole table, drawn once per study.

    Attributes:
        search: Rows that the search may see; (n_search,).
        test: Rows that only the end of the study sees; (n_test,), may be empty.
        folds: Positions *within* `search`.
        digest: SHA-256 over all of them.
    """

    search: NDArray[np.int64]
    test: NDArray[np.int64]
    folds: tuple[Fold, ...]
    digest: str


# --- what a network sees -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BlockSpec:
    """One block of inputs.

    Attributes:
        kind: `numeric`, `categorical`, `image`, `sequence`, `tokens`, `baseline` or `domain`.
        shape: Shape of one example, without the batch: (columns,); of an image (channels, height, width), of a sequence
            (channels, steps), of tokens (tokens,), of a baseline (2,).
        cardinalities: Number of codes of each categorical column and of the domain, code 0 being "unknown"; of tokens
            the number of codes, code 0 being "no token"; empty for others.
        quantiles: Of each numeric column over training rows, at least two, strictly increasing, without the extremes;
            empty where no network asked for them.
        masked: Whether the last channel of a sequence is 1 as far as the sequence goes, and 0 after its end.
    """

    kind: str
    shape: tuple[int, ...]
    cardinalities: tuple[int, ...] = ()
    quantiles: tuple[tuple[float, ...], ...] = ()
    masked: bool = False


@dataclass(frozen=True, slots=True)
class InputSpec:
    """What a network is told about its inputs: block name -> what is in it. A block without columns is absent."""

    blocks: Mapping[str, BlockSpec]

    def to_json(self) -> dict[str, Any]:
        return {name: asdict(block) for name, block in self.blocks.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> InputSpec:
        return cls(
            {
                name: BlockSpec(
                    block["kind"],
                    tuple(block["shape"]),
                    tuple(block["cardinalities"]),
                    tuple(tuple(column) for column in block.get("quantiles", ())),  # earlier documents have none
                    block.get("masked", False),
                )
                for name, block in document.items()
            }
        )


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """What a loss is told about the target of the training rows.

    Attributes:
        class_counts: Training rows of each class, after resampling; empty in regression.
        mean, scale: Of the training rows' values in regression: a network predicts (value - mean) / scale.
        quantiles: As of `Target`.
        parts: Of each of several targets, which have consecutive outputs.
    """

    task: Task
    n_outputs: int
    class_counts: tuple[int, ...] = ()
    mean: float = 0.0
    scale: float = 1.0
    quantiles: tuple[float, ...] = ()
    parts: tuple[TargetSpec, ...] = ()

    @property
    def slices(self) -> tuple[slice, ...]:
        """The outputs that are each part's."""
        return consecutive(part.n_outputs for part in self.parts)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TargetSpec:
        return cls(
            Task(document["task"]),
            document["n_outputs"],
            tuple(document["class_counts"]),
            document["mean"],
            document["scale"],
            tuple(document.get("quantiles", ())),  # earlier documents have none, nor parts
            tuple(cls.from_json(part) for part in document.get("parts", ())),
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Arrays of one part of a fold.

    Attributes:
        inputs: Block name -> float32 (rows, columns) for numeric, int64 (rows, columns) for categorical and tokens,
            float32 (rows, *shape) for images and sequences.
        target: As of `Dataset`.
    """

    inputs: Mapping[str, NDArray[Any]]
    target: NDArray[Any]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each of its pieces, of which there is one."""
        return (len(self.target),)

    def piece(self, number: int) -> Part:
        """Returns itself."""
        return self


@dataclass(frozen=True, slots=True)
class ShardedPart:
    """One part of a fold that does not fit into memory; its pieces are made anew each time they are asked for.

    Attributes:
        target: As of `Part`, before rows are resampled.
        sizes: Rows of each piece; where rows are resampled, about that many.
        piece: Makes the piece of this number.
    """

    target: NDArray[Any]
    sizes: tuple[int, ...]
    piece: Callable[[int], Part]


@dataclass(frozen=True, slots=True)
class PreparedData:
    """A fold after preprocessing. There is no test part here: that test is unseen is structure, not promise."""

    train: Part | ShardedPart
    val: Part | ShardedPart
    inputs: InputSpec
    target: TargetSpec


# --- what training is told and tells ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TrainerSettings:
    """What of a training is not searched.

    Attributes:
        patience: Epochs without a better validation score after which training stops.
        checks_an_epoch: How often validation rows are scored, and a trial can be pruned, as an epoch goes on.
        accelerator, precision: As Lightning's Trainer takes them.
        devices: Processes that train a LightningModule together, each on a device of its own.
        memory: Bytes that a training may take beside its data, as far as that can be told before; None: any.
    """

    max_epochs: int = 60
    patience: int = 8
    accelerator: str = "auto"
    precision: str = "32-true"
    memory: int | None = None
    checks_an_epoch: int = 1
    devices: int = 1


@dataclass(frozen=True, slots=True)
class EpochReport:
    """One epoch of one training, or a part of one that goes through many rows.

    Attributes:
        step: Number of the report, counted from 0 in each fold.
        value: The objective on the validation rows after it, or on a sample of very many.
        metrics: What else is known: `train_loss`, `val_loss`, `learning_rate`, `epoch_seconds`.
        epoch: The same as the step, unless an epoch has several.
    """

    step: int
    value: float
    metrics: Mapping[str, float]
    fold: int = 0
    epoch: int = 0


# --- what is searched --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Choice:
    """A component by name with its hyperparameters."""

    name: str
    params: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """The choice made in one preprocessing stage."""

    stage: str
    choice: Choice


#: The places of a configuration that hold one choice each, beside preprocessing.
REQUIRED_PLACES = ("network", "optimizer", "schedule", "loss")
#: Those of them that have a default: that nothing is done, or all alike.
OPTIONAL_PLACES = ("augmentation", "averaging", "batches", "balancing", "domain")
#: The option of a place of which a LightningModule brings its own.
OWN = Choice("own")
#: The batch size that stands for all rows.
FULL = "full"


@dataclass(frozen=True, slots=True)
class Configuration:
    """One sampled point of a search space: everything one training needs beside data and trainer.

    Attributes:
        batch_size: Rows a step, or `full`: all of them.
        clip_norm: The largest norm of a step's gradient; 0: any.
    """

    preprocessing: tuple[Step, ...]
    network: Choice
    optimizer: Choice
    schedule: Choice
    loss: Choice
    batch_size: int | str
    augmentation: Choice = Choice("none")
    averaging: Choice = Choice("none")
    batches: Choice = Choice("shuffled")
    balancing: Choice = Choice("fixed")
    domain: Choice = Choice("none")
    clip_norm: float = 0.0

    def choices(self) -> Iterator[tuple[str, Choice]]:
        """Yields (dotted place, choice) in the order of the pipe."""
        for step in self.preprocessing:
            yield f"preprocessing.{step.stage}", step.choice
        for place in (*REQUIRED_PLACES, *OPTIONAL_PLACES):
            yield place, getattr(self, place)

    def flatten(self) -> dict[str, Scalar]:
        """Returns the dotted names used in Optuna and MLflow alike, such as `network.mlp.depth`."""
        flat: dict[str, Scalar] = {}
        for place, choice in self.choices():
            flat[place] = choice.name
            flat.update(_flat(f"{place}.{choice.name}", choice.params))
        flat["batch_size"] = self.batch_size
        flat["clip_norm"] = self.clip_norm
        return flat

    @property
    def digest(self) -> str:
        """A hash that is equal for configurations that train the same model."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns what `from_json` reads; places of later versions only where they differ from what was done before.

        Stored configurations, and their digests, thus stay what they were.
        """
        usual = {field.name: field.default for field in fields(self)}
        choices = {place: getattr(self, place) for place in (*REQUIRED_PLACES, *OPTIONAL_PLACES)}
        return {
            "preprocessing": [
                {"stage": step.stage, "name": step.choice.name, "params": dict(step.choice.params)}
                for step in self.preprocessing
            ],
            **{
                place: {"name": choice.name, "params": dict(choice.params)}
                for place, choice in choices.items()
                if choice != usual[place]
            },
            "batch_size": self.batch_size,
            **({"clip_norm": self.clip_norm} if self.clip_norm else {}),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Configuration:
        return cls(
            preprocessing=tuple(
                Step(step["stage"], Choice(step["name"], step["params"])) for step in document["preprocessing"]
            ),
            batch_size=document["batch_size"],
            clip_norm=document.get("clip_norm", 0.0),
            **{
                place: Choice(document[place]["name"], document[place]["params"])
                for place in (*REQUIRED_PLACES, *OPTIONAL_PLACES)
                if place in REQUIRED_PLACES or place in document
            },
        )


def _flat(prefix: str, params: Mapping[str, Value]) -> dict[str, Scalar]:
    """Returns hyperparameters by dotted name: lists as JSON, a choice among options under the option's name."""
    flat: dict[str, Scalar] = {}
    for name, value in params.items():
        dotted = f"{prefix}.{name}"
        if isinstance(value, Mapping) and isinstance(value.get("name"), str):
            flat[dotted] = str(value["name"])
            flat.update(_flat(f"{dotted}.{value['name']}", {k: v for k, v in value.items() if k != "name"}))
        elif isinstance(value, (bool, int, float, str)) or value is None:
            flat[dotted] = value
        else:
            flat[dotted] = json.dumps(value)
    return flat


# --- scores and results ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Metric:
    """A score that knows its direction.

    Attributes:
        needs: What `function(y_true, y_pred)` takes as `y_pred`: `probabilities` (rows, classes), `labels` (rows,)
            class positions, or `values`, (rows,) or (rows, quantiles).
        low, high: Bounds, either of which may be infinite.
        parts: Of several targets, what of which of them it is made of. `function(y_true, predictions, weights)` then
            takes targets (rows, targets), predictions side by side and what each column of these is weighed with.
    """

    name: str
    direction: Direction
    tasks: frozenset[Task]
    needs: str
    low: float
    high: float
    function: Callable[..., float]
    parts: tuple[MetricPart, ...] = ()

    @property
    def worst(self) -> float:
        return self.high if self.direction is Direction.MINIMIZE else self.low

    def better(self, value: float, than: float) -> bool:
        """Returns whether `value` is strictly better `than` the other."""
        return value < than if self.direction is Direction.MINIMIZE else value > than


@dataclass(frozen=True, slots=True)
class MetricPart:
    """A metric of one of several targets.

    Attributes:
        task: The target's.
        position: The target's, among all.
        columns: Its columns of predictions.
    """

    metric: Metric
    task: Task
    position: int
    columns: slice


@dataclass(frozen=True, slots=True)
class TrialTask:
    """Everything a trial is told.

    Attributes:
        data: The study's data folder, of which only the search part is opened.
        out: Folder for the trial's model and its validation predictions.
        stop_at: `time.monotonic()` after which training stops with the best checkpoint so far; None: never.
        cache: Folder of fitted beginnings of preprocessing that the study's trials share; None: none are kept.
        rows: Names the table, its schema and its splits for the cache.
        direction: Of an objective that a LightningModule logs; None: the objective is computed of predictions.
        data_module: The LightningDataModule that is read instead of a table, if one is.
    """

    configuration: Configuration
    data: Path
    out: Path
    objective: str
    settings: TrainerSettings
    seed: int
    stop_at: float | None = None
    cache: Path | None = None
    rows: str = ""
    direction: Direction | None = None
    data_module: Choice | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """What a trial, or a reference model, comes to.

    Attributes:
        value: The objective on the validation rows, of the checkpoint that would ship.
        metrics: Every metric of the task on the same rows.
        n_epochs: Of all folds together; of a reference model, its rounds of boosting, the mean over the folds.
    """

    value: float
    metrics: Mapping[str, float]
    n_epochs: int = 0
    seconds: float = 0.0
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialResult:
    """How one trial ended.

    Attributes:
        value: Score of the checkpoint that would ship, on the validation rows; None when there is none.
        metrics: Every metric of the task on the validation rows.
        configuration: None only when its worker died before it had sampled anything.
        seconds: Wall-clock time of the trial.
        repeat_of: The trial that ran the same configuration before; this one was not trained.
        seen: Sentences about what preprocessing did to rows and columns, and training found.
    """

    number: int
    state: TrialState
    configuration: Configuration | None
    value: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    n_epochs: int = 0
    reason: Reason | None = None
    message: str = ""
    run_id: str | None = None
    repeat_of: int | None = None
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReferenceResult:
    """How a reference model did: what the search has to beat.

    Attributes:
        value, test: The objective on the validation and on the test rows; None where there is none.
        metrics: Every metric of the task on the validation rows.
        n_rounds: Steps of boosting; 0 for other models.
    """

    name: str
    value: float | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    test: float | None = None
    seconds: float = 0.0
    message: str = ""
    n_rounds: int = 0


#: (trial number or name of a reference model, weight) of each member of an ensemble, heaviest first.
Members = tuple[tuple[int | str, float], ...]


@dataclass(frozen=True, slots=True)
class ShippedModel:
    """What the end of a study found and wrote to its model folder.

    Attributes:
        members: What is averaged.
        refitted: Those of the members that were fitted once more, on all search rows.
        validation: The objective on the validation rows.
        test: Every metric on the test rows; empty without a test part.
        references: The objective on the test rows by reference model.
        speaks_of_target: Whether it says classes or values, and not just what a LightningModule says.
        notes: Sentences about what was left out.
    """

    members: Members
    validation: float
    test: Mapping[str, float]
    references: Mapping[str, float]
    refitted: tuple[int | str, ...] = ()
    speaks_of_target: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FinalTask:
    """Everything the end of a study is told.

    Attributes:
        candidates: (trial number, the trial's folder), best first.
        deliver: `ensemble` of trials and reference models, ensemble of trials alone (`networks`), or `single` trial.
        references: (name, folder) of the reference models; all are scored on the test rows.
        out: Where the model folder is written.
        members: What `finalise.choose` chose; empty: it is asked.
        refitted: Those of the members of which there is a model of all search rows.
        choose_until: `time.monotonic()` by which the members are to be chosen.
        logged: What the best trial scored by an objective that its LightningModule logged, which nothing here can
            compute; None: the objective is computed of predictions.
        data_module: The LightningDataModule that is read instead of a table, if one is.
        best: The configuration of the first candidate, where there is such.
    """

    data: Path
    out: Path
    objective: str
    candidates: tuple[tuple[int, Path], ...]
    deliver: str
    references: tuple[tuple[str, Path], ...]
    seed: int
    plugins: tuple[str, ...] = ()
    members: Members = ()
    refitted: tuple[int | str, ...] = ()
    choose_until: float = math.inf
    logged: float | None = None
    data_module: Choice | None = None
    best: Configuration | None = None


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study came to.

    Attributes:
        status: `finished` when the budget is spent, `interrupted` when a person ended it before.
        trials: Every trial that ended, by number.
        seconds: Wall-clock seconds: `total`, `search`, `final`.
        pending_sync: Events that have not reached MLflow yet.
    """

    study: str
    status: str
    metric: str
    direction: Direction
    trials: tuple[TrialResult, ...]
    references: tuple[ReferenceResult, ...]
    best: TrialResult
    shipped: ShippedModel
    seconds: Mapping[str, float]
    experiment_id: str | None = None
    run_id: str | None = None
    model_uri: str | None = None
    pending_sync: int = 0

    @property
    def test(self) -> float | None:
        """The objective on the test rows, which were used this once."""
        return self.shipped.test.get(self.metric)

    def count(self, state: TrialState) -> int:
        return sum(trial.state is state for trial in self.trials)
