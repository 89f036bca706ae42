"""The study a person writes down: data, target, search space, objective, budget.

Everything that can be wrong with the file by itself is told at once. What only the catalogues and the data can tell
is checked before the first trial by `study.prepare`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    model_validator,
)
from pydantic_core import PydanticKnownError
from typing_extensions import TypedDict

from automl.data.blocks import BlockLayout, ForecastLayout, ImageFilesLayout, Layout, LongLayout, NeighboursLayout
from automl.documents import differences, read_yaml, validate, within
from automl.errors import ConfigError
from automl.values import ColumnKind, Scalar, Task, TrainerSettings, WantedTask

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s?)?")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?")


def seconds(text: Any) -> float:
    """Returns the seconds in `90`, `90s`, `10m`, `2h` or `1h30m`.

    Raises:
        ValueError: With what is allowed.
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        found = float(text)
    else:
        match = _DURATION.fullmatch(str(text).strip())
        if match is None or not any(match.groups()):
            raise ValueError(f"found `{text}`; allowed: a duration such as `90s`, `10m`, `2h` or `1h30m`")
        found = sum(float(part or 0) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True))
    if not 0 < found < float("inf"):
        raise ValueError(f"found `{text}`; a duration must be above 0")
    return found


def size_bytes(text: Any) -> int:
    """Returns the bytes in `500MB`, `2GiB` or a plain number.

    Raises:
        ValueError: With what is allowed.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None or not float(match[1]):
        raise ValueError(f"found `{text}`; allowed: a size above 0 such as `500MB` or `2GiB`")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** " KMGT".index(match[2] or " "))


def _names(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError(f"found `{value}`; allowed: the name of a column, or a list of names")
    twice = sorted({name for name in value if value.count(name) > 1})
    if twice:
        raise ValueError(f"`{twice[0]}` is there {value.count(twice[0])} times; name each column to predict once")
    return value


def _tasks(value: Any) -> Any:
    """Returns a task, or one for each of some targets by name."""
    if isinstance(value, Mapping) and not _is_quantile(value):
        return {name: _task(one) for name, one in value.items()}
    if isinstance(value, str) and value not in TASKS:  # told as any other word that is none of a few
        raise PydanticKnownError("literal_error", {"expected": ", ".join(f"'{one}'" for one in TASKS)})
    return _task(value)


def _is_quantile(value: Any) -> bool:
    """Returns whether this is `{quantile: levels}`, and not the task of a target that is called so."""
    return (
        isinstance(value, Mapping) and set(value) == {"quantile"} and not isinstance(value["quantile"], str | Mapping)
    )


def _task(value: Any) -> Any:
    if isinstance(value, str):
        if value in TASKS:
            return value
        raise ValueError(f"found `{value}`; allowed: {', '.join(f'`{one}`' for one in TASKS)}")
    if not _is_quantile(value):
        raise ValueError(f"found `{value}`; allowed: a task such as `auto`, or `{{quantile: [0.1, 0.5, 0.9]}}`")
    levels = value["quantile"]
    numbers = isinstance(levels, list) and all(type(one) in (int, float) and 0 < one < 1 for one in levels)
    if not numbers or not levels or any(one >= other for one, other in pairwise(levels)):
        raise ValueError(f"found `{levels}`; allowed: levels above 0 and below 1, rising, such as `[0.1, 0.5, 0.9]`")
    return {"quantile": [float(one) for one in levels]}


def _plain(value: Any) -> Any:
    if isinstance(value, (bool, int, float, str)) or value is None:
        return value
    raise ValueError(f"found {'a mapping' if isinstance(value, Mapping) else 'a list'}; allowed: a plain value")


def _epochs(value: Any) -> Any:
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError(f"found `{value}`; allowed: a whole number above 0, or `auto`")


def _share(value: Any) -> Any:
    if value == "auto" or (isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1):
        return value
    raise ValueError(f"found `{value}`; allowed: a share above 0 and below 1, or `auto`")


def _share_or_none(value: Any) -> Any:
    if value == 0 and not isinstance(value, bool):
        return value
    try:
        return _share(value)
    except ValueError:
        raise ValueError(f"found `{value}`; allowed: a share from 0 to below 1, or `auto`") from None


def _of_a_column(kind: ColumnKind) -> ColumnKind:
    if kind is ColumnKind.DOMAIN:
        raise ValueError("found `domain`; say `domain: COLUMN` instead")
    if kind.is_of_block:
        raise ValueError(f"found `{kind}`, which no column is by itself; say under `blocks` which belong together")
    return kind


# A plain union would tell one mistake once for each of its members.
Plain = Annotated[Scalar, BeforeValidator(_plain)]
Epochs = Annotated[int | Literal["auto"], BeforeValidator(_epochs)]
Duration = Annotated[float, BeforeValidator(seconds, json_schema_input_type=float | str)]
Size = Annotated[int, BeforeValidator(size_bytes, json_schema_input_type=int | str)]
MissingShare = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float | Literal["auto"], BeforeValidator(_share)]
ShareOrNone = Annotated[float | Literal["auto"], BeforeValidator(_share_or_none)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Kind = Annotated[
    ColumnKind, Field(strict=False), AfterValidator(_of_a_column), PlainSerializer(lambda kind: kind.value)
]


class QuantileSpec(TypedDict):
    """A quantile regression: the levels of the quantiles that are predicted, rising."""

    quantile: list[float]


TASKS: tuple[str, ...] = ("auto", *Task)
TaskName = Literal["auto", "binary", "multiclass", "regression", "quantile", "multilabel", "multitask"]
Tasks = Annotated[
    str | dict[str, Any],
    BeforeValidator(_tasks, json_schema_input_type=TaskName | QuantileSpec | dict[str, TaskName | QuantileSpec]),
]
Names = Annotated[str | list[str], BeforeValidator(_names)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DataSpec(_Strict):
    """Where the table comes from and what in it is predicted."""

    source: str = Field(description="csv, parquet, arrow, jsonl, folder (of images), sklearn, sql, or a plug-in's")
    params: dict[str, Plain] = Field({}, description="The source's own; paths are relative to the study's file.")
    target: Names | None = Field(
        None,
        description="The column to predict, or a list of columns; left out only where a LightningDataModule is read.",
    )
    positive: Plain = Field(None, description="The positive class of a binary target; else the last in order.")
    kinds: dict[str, Kind] = Field({}, description="Kinds of columns where the inferred ones are wrong.")
    domain: str | None = Field(
        None, description="The column that says where a row is from, such as a hospital; new rows need not have it."
    )
    out_of_core: Literal["auto", True, False] = Field(
        "auto", description="Keep the table on disk and read it shard by shard; auto: when it does not fit into memory."
    )
    max_size: Size = Field(20_000_000_000, description="Bytes of the table, unpacked, above which it is not read.")


class ForecastSpec(_Strict):
    """Which columns of the table are series in time, and how far ahead their values are forecast; a step is a row."""

    time: str = Field(description="The column of dates or whole numbers, evenly spaced.")
    horizon: Annotated[int, Field(ge=1)] = Field(description="Steps that are forecast.")
    window: Epochs = Field(
        "auto", description="Steps that are looked at; auto: two seasons, or the horizon if that is longer."
    )
    season: Epochs = Field(
        "auto", description="Steps after which a series is alike; auto: by the step, such as 12 for months. 1: none."
    )
    series: str | None = Field(None, description="The column that tells series apart, where there are several.")
    known: list[str] = Field([], description="Columns whose values are known ahead, such as a calendar or a price.")

    def layout(self) -> ForecastLayout:
        return ForecastLayout(
            self.time,
            self.horizon,
            None if self.window == "auto" else self.window,
            None if self.season == "auto" else self.season,
            self.series,
            tuple(self.known),
        )


class NeighboursSpec(_Strict):
    """A graph between the rows; what a row's neighbours are like become columns of its own."""

    file: str = Field(description="A table of edges, relative to the study's file: csv, parquet, arrow or json lines.")
    id: str = Field(description="The column of the rows' names, of which each row has one of its own.")
    start: str = Field(description="The column of the edges with the row at the one end.")
    end: str = Field(description="The column with the row at the other end; edges have no direction.")
    hops: Annotated[int, Field(ge=1, le=5)] = Field(1, description="How far neighbours are looked at.")

    @model_validator(mode="after")
    def _two_ends(self) -> NeighboursSpec:
        if self.start == self.end:
            raise ValueError(f"`start` and `end` are both `{self.start}`; name the columns of the two ends of an edge")
        return self

    def layout(self) -> NeighboursLayout:
        return NeighboursLayout(self.file, self.id, self.start, self.end, self.hops)


def _columns(value: Any) -> Any:
    if isinstance(value, str) or (isinstance(value, list) and value and all(isinstance(name, str) for name in value)):
        return value
    raise ValueError(f"found `{value}`; allowed: a pattern such as `p*`, or a list of names")


def _block_kind(value: Any) -> Any:
    if value in ("image", "sequence"):
        return value
    raise ValueError(f"found `{value}`; allowed: `image`, `image_files`, `sequence`")


class BlockSpec(_Strict):
    """Columns that belong together, which networks see as one array."""

    kind: Annotated[Literal["image", "sequence"], BeforeValidator(_block_kind)]
    columns: Annotated[str | list[str], BeforeValidator(_columns)] = Field(
        description="A pattern such as `p*`, sorted by the numbers in the names; or names, row-major in the shape."
    )
    shape: list[int] = Field(description="Channels, height, width of an image; channels, steps of a sequence.")
    name: str | None = Field(None, description="What networks call it; by default its kind.")

    def layout(self, base: Path, where: str, images: Path) -> Layout:
        return BlockLayout(self.kind, self.columns, self.shape, self.name)


def _files_kind(value: Any) -> Any:
    if value == "image_files":
        return value
    raise ValueError(
        f"found `{value}`; allowed: `image`, `image_files`, `sequence`, of which `image_files` has a `column` of paths"
    )


class ImageFilesSpec(_Strict):
    """Images in files, whose paths a column holds."""

    kind: Annotated[Literal["image_files"], BeforeValidator(_files_kind)]
    column: str = Field(description="Holds a path a row, relative to `root`; an empty cell is a gap.")
    root: str | None = Field(None, description="The folder; by default the study's, or that of the source `folder`.")
    shape: list[int] | None = Field(
        None, description="Channels (1, 3 or 4), height, width; by default that of the files, at most 64 a side."
    )
    resize: Literal["stretch", "crop", "none"] = Field(
        "stretch",
        description="Of an image of another size; crop: its shorter side fits, the middle stays; none: it is refused.",
    )
    missing_files: MissingShare = Field(0.0, description="Share of the rows whose image may be missing or unreadable.")
    name: str | None = Field(None, description="What networks call it; by default `image`.")

    def layout(self, base: Path, where: str, images: Path) -> Layout:
        root = images if self.root is None else within(base, self.root, f"{where}.root", deep=False)
        return ImageFilesLayout(self.column, root, self.shape, self.resize, self.missing_files, self.name)


class LongSequenceSpec(_Strict):
    """Sequences in long format: one row a step, in a file of their own or in the study's own table."""

    kind: Literal["sequence"]
    id: str = Field(description="The column whose value the steps of a sequence have in common.")
    time: str | None = Field(
        None, description="The column that orders them: numbers or dates; by default as they come."
    )
    values: Annotated[list[str], Field(min_length=1)] = Field(description="The columns that are its channels.")
    file: str | None = Field(None, description="The long table; by default the study's own, of which each id is a row.")
    length: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Steps; by default so many that 95 % of the sequences are whole, at most 512."
    )
    keep: Literal["last", "first"] = Field("last", description="Which steps are used of a sequence with too many.")
    missing_ids: MissingShare = Field(0.0, description="Share of the rows whose id may have no row in the file.")
    name: str | None = Field(None, description="What networks call it; by default `sequence`.")

    def layout(self, base: Path, where: str, images: Path) -> Layout:
        file = None if self.file is None else within(base, self.file, f"{where}.file")
        return LongLayout(self.id, self.time, self.values, file, self.length, self.keep, self.missing_ids, self.name)


def _tag(document: Any) -> str:
    """Returns which form a block has: images in files and long sequences are told by what only they can say."""
    given = document if isinstance(document, Mapping) else vars(document)
    if given.get("kind") == "image_files" or "column" in given or "root" in given:
        return "<image_files>"
    is_long = given.get("kind") == "sequence" and any(given.get(key) for key in ("id", "values", "file"))
    return "<long>" if is_long else "<columns>"


AnyBlockSpec = Annotated[
    Annotated[BlockSpec, Tag("<columns>")]
    | Annotated[ImageFilesSpec, Tag("<image_files>")]
    | Annotated[LongSequenceSpec, Tag("<long>")],
    Discriminator(_tag),
]


#: Below so many search rows, a fifth of them ranks trials by chance.
SMALL_ROWS = 5000
#: Search rows for each minute of a study up to which `auto` means folds: their networks together see all rows.
ROWS_A_MINUTE = 500
#: Validation rows that tell trials apart; what is more is better learned from.
VAL_ROWS = 3000
#: Rows that tell a score to half a percent and better; what is more is better learned from.
TEST_ROWS = 10_000


class ValidationSpec(_Strict):
    """How the table is cut, once per study."""

    strategy: Literal["auto", "holdout", "kfold", "group", "time", "domain"] = Field(
        "auto",
        description="auto: `kfold` on a small table, or where there is much time for it, else `holdout`; domain: on "
        "domains that are not trained on.",
    )
    size: Share = Field(
        "auto",
        description="Share of the search rows that validates, without folds; auto: a fifth, or less where that is more "
        "than 3,000 rows, but at least a twentieth.",
    )
    test_size: ShareOrNone = Field(
        "auto",
        description="Share of all rows that only the end of the study sees; 0: no test score; auto: a tenth, or less "
        "where that is more than 10,000 rows.",
    )
    n_folds: Annotated[int, Field(ge=2, le=50)] | None = Field(None, description="Cross-validation; 5 for `kfold`.")
    column: str | None = Field(None, description="The group or time column; it is no feature.")
    gap: Annotated[int, Field(ge=0)] = Field(0, description="Rows left out between parts ordered by time.")

    @model_validator(mode="after")
    def _fits(self) -> ValidationSpec:
        if self.strategy in ("group", "time") and not self.column:
            raise ValueError(f"`strategy: {self.strategy}` needs `column`, the name of the {self.strategy} column")
        if self.strategy in ("auto", "holdout", "kfold", "domain") and self.column:
            raise ValueError(f"`column` goes with `strategy: group` or `time`; found `strategy: {self.strategy}`")
        return self

    def share(self, n_search: int) -> float:
        """Returns the share of so many search rows that validates, without folds."""
        return min(0.2, max(0.05, VAL_ROWS / max(1, n_search))) if self.size == "auto" else self.size

    def test_share(self, n_rows: int) -> float:
        """Returns the share of a table of so many rows that is kept for the test."""
        return min(0.1, TEST_ROWS / max(1, n_rows)) if self.test_size == "auto" else self.test_size

    def folds(self, n_search: int, seconds: float | None = None) -> int | None:
        """Returns the number of folds for a table with so many search rows; None for a single validation part.

        Args:
            n_search: Rows of the search part.
            seconds: Of the whole study; None: nobody knows.
        """
        few = n_search < max(SMALL_ROWS, ROWS_A_MINUTE * (seconds or 0.0) / 60)
        is_few = self.strategy in ("auto", "domain") and few
        return self.n_folds or (5 if is_few or self.strategy == "kfold" else None)


class SamplerSpec(_Strict):
    """Who proposes configurations."""

    name: Literal["tpe", "random", "gp", "cmaes"] = "tpe"


class PrunerSpec(_Strict):
    """Who stops trials early."""

    name: Literal["none", "median", "successive_halving", "hyperband"] = "hyperband"


class BudgetSpec(_Strict):
    """When the study ends; whichever limit is reached first. Without `trials` and `time`, ten minutes."""

    trials: Annotated[int, Field(ge=1)] | None = None
    time: Duration | None = Field(None, description="Whole study: preparation, search, ensemble, test and report.")
    trial_time: Duration | None = None
    trial_memory: Size | None = None
    max_consecutive_failures: Annotated[int, Field(ge=1)] = 5

    @model_validator(mode="before")
    @classmethod
    def _bounded(cls, document: Any) -> Any:
        if isinstance(document, Mapping) and document.get("trials") is None and document.get("time") is None:
            return {**document, "time": 600.0}
        return document


#: Training rows after which validation rows are scored, at the latest: with each epoch, or in the middle of a long one.
CHECK_ROWS = 50_000


class TrainerSpec(_Strict):
    """What of a training is not searched."""

    max_epochs: Epochs = Field("auto", description="auto: the fewer the more rows there are, between 12 and 100.")
    patience: Annotated[int, Field(ge=1)] = 8
    accelerator: str = "auto"
    precision: str = "32-true"
    devices: Annotated[int, Field(ge=1)] = Field(
        1, description="Of one trial: processes that train a LightningModule of your own together, by DDP."
    )

    def settings(self, n_train: int) -> TrainerSettings:
        """Returns what a trial is told, on so many training rows."""
        epochs = min(max(round(2000 / n_train**0.5), 12), 100) if self.max_epochs == "auto" else self.max_epochs
        checks = -(-n_train // CHECK_ROWS)
        return TrainerSettings(
            epochs, self.patience, self.accelerator, self.precision, checks_an_epoch=checks, devices=self.devices
        )


class StudySpec(_Strict):
    """One study."""

    version: Literal[1] = 1
    name: Name
    project: Name = Field("automl", description="The MLflow experiment.")
    data: DataSpec
    blocks: list[AnyBlockSpec] = Field(
        [], description="What belongs together: pixels of images, steps in time, as columns or in files."
    )
    forecast: ForecastSpec | None = Field(None, description="The target is a series in time, and its future is asked.")
    neighbours: NeighboursSpec | None = Field(None, description="Edges between rows.")
    task: Tasks = Field(
        "auto",
        description="auto: by the values; `quantile` or `{quantile: [0.1, 0.5, 0.9]}`; of several targets one for all, "
        "each one's by its name, `multilabel` (labels that are 0 or 1) or `multitask` (each by its values).",
    )
    search_space: str = "auto"
    objective: str = "auto"
    direction: Literal["minimize", "maximize"] | None = Field(
        None, description="Of an objective that your LightningModule logs; metrics of ours know theirs."
    )
    validation: ValidationSpec = ValidationSpec()
    sampler: SamplerSpec = SamplerSpec()
    pruner: PrunerSpec = PrunerSpec()
    budget: BudgetSpec = BudgetSpec()
    trainer: TrainerSpec = TrainerSpec()
    deliver: Literal["ensemble", "networks", "single"] = Field(
        "ensemble", description="An ensemble of trials and reference models, of trials alone, or the best trial."
    )
    references: bool = Field(True, description="Whether dummy, linear and boosted models are run to be beaten.")
    plugins: list[str] = []
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    defaults: bool = Field(False, description="Train the defaults of the search space once, and search nothing.")

    @model_validator(mode="before")
    @classmethod
    def _trains_defaults_once(cls, document: Any) -> Any:
        if not isinstance(document, Mapping) or document.get("defaults") is not True:
            return document
        budget = document.get("budget", {})
        return {**document, "budget": {**budget, "trials": 1}} if isinstance(budget, Mapping) else document

    @model_validator(mode="after")
    def _has_domains(self) -> StudySpec:
        if self.validation.strategy == "domain" and self.data.domain is None:
            raise ValueError("`strategy: domain` needs `data.domain`, the name of the column of domains")
        if self.data.domain is not None and self.forecast is not None:
            raise ValueError("a `forecast` knows no domains; name the column under `forecast.series`")
        return self

    @model_validator(mode="after")
    def _has_neighbours(self) -> StudySpec:
        if self.neighbours is None:
            return self
        if self.forecast is not None:
            raise ValueError("a `forecast` is of series, and not of rows with `neighbours`; leave one of them out")
        if self.data.out_of_core is True:
            raise ValueError("`neighbours` need all rows in memory; leave `data.out_of_core` out")
        return self

    @model_validator(mode="after")
    def _forecasts(self) -> StudySpec:
        if self.forecast is None:
            return self
        if not isinstance(self.data.target, str):
            raise ValueError(
                "a `forecast` is of one target; name the others under `forecast.known`, or run a study each"
            )
        if self.task not in ("auto", "regression", "quantile") and not _is_quantile(self.task):
            raise ValueError(f"a `forecast` is of numbers; found `task: {self.task}`. Leave `task` out")
        if self.validation.strategy not in ("auto", "holdout", "kfold"):
            raise ValueError(
                f"a `forecast` is validated on what is later; found `strategy: {self.validation.strategy}`. "
                "Leave it out, or write `kfold`, where each fold trains on all that is before it"
            )
        if self.blocks:
            raise ValueError("a `forecast` makes a sequence of its window by itself; leave `blocks` out")
        if self.data.out_of_core is True:
            raise ValueError("a `forecast` needs its series in memory; leave `data.out_of_core` out")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of what decides the result; a study may go on with another budget."""
        return hashlib.sha256(json.dumps(self.decisive(), sort_keys=True).encode()).hexdigest()

    def wanted_task(self) -> WantedTask | dict[str, WantedTask]:
        """Returns the task, or each target's, as `make_dataset` takes it."""
        if isinstance(self.task, dict) and not _is_quantile(self.task):
            return {name: _wanted(one) for name, one in self.task.items()}
        return _wanted(self.task)

    def decisive(self) -> dict[str, Any]:
        """Returns what decides the result, in JSON's types."""
        decisive = self.model_dump(mode="json", exclude={"name": True, "budget": True, "data": {"max_size"}})
        # What earlier versions did not know, and is not used, leaves stored digests what they were.
        for name in ("forecast", "neighbours", "defaults"):
            if not decisive[name]:
                del decisive[name]
        if self.data.domain is None:
            del decisive["data"]["domain"]
        return decisive


def _wanted(task: str | dict[str, Any]) -> WantedTask:
    return task if isinstance(task, str) else tuple(task["quantile"])


def load(path: Path, overrides: Mapping[str, tuple[str, Any]] | None = None) -> StudySpec:
    """Returns the study in a YAML file.

    Args:
        path: The file.
        overrides: Dotted path -> (the flag that set it, its value).

    Raises:
        ConfigError: With everything that is wrong with the file by itself.
    """
    return build(read_yaml(path), where=str(path), overrides=overrides)


def build(document: Any, *, where: str, overrides: Mapping[str, tuple[str, Any]] | None = None) -> StudySpec:
    """Returns the study that a document describes, after the overrides."""
    flags = {}
    if isinstance(document, Mapping):
        document = json.loads(json.dumps(document))
        for dotted, (flag, value) in (overrides or {}).items():
            *parents, last = dotted.split(".")
            inner = document
            for parent in parents:
                inner = inner.setdefault(parent, {})
                if not isinstance(inner, dict):  # the file is wrong there, and validation says so
                    break
            else:
                inner[last] = value
                flags[dotted] = flag
        if document.get("defaults") is True and "budget.trials" in flags:
            raise ConfigError(
                f"found `{document['budget']['trials']}`; a study of the defaults alone is one trial",
                where=flags["budget.trials"],
                remedy="Leave it out, or `defaults`.",
            )
    return validate(StudySpec, document, where=where, flags=flags)


def name_for(path: Path, target: str) -> str:
    """Returns a study's name for a table and a target, such as `churn-churned`."""
    stem = path.name.partition(".")[0] or "study"
    if stem in ("train", "data", "table") and path.resolve().parent.name:
        stem = f"{path.resolve().parent.name}-{stem}"
    name = re.sub(r"[^A-Za-z0-9._]+", "-", f"{stem}-{target}").strip("-._")
    return name[:100] or "study"


def same_study(stored: StudySpec, asked: StudySpec) -> None:
    """Checks that a study that exists is the one that is asked for.

    Raises:
        ConfigError: Names each difference.
    """
    if stored.digest == asked.digest:
        return
    raise ConfigError(
        f"the study `{asked.name}` exists and differs: {'; '.join(differences(stored.decisive(), asked.decisive()))}",
        remedy="Run it as another study with `--new-name`, or put the old values back to go on with it.",
    )
