"""What the rest of the program knows of tracking: two protocols and the values they take.

A study is a parent run, each of its trials and reference models a child run, and the project is the experiment. Every
call of a `Tracker` may be repeated with the same arguments without doubling anything: that is what lets a spool be
sent again after a crash.
"""

from __future__ import annotations

import hashlib
import math
import os
import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from automl.errors import TrackingError
from automl.values import Scalar

MAX_KEY_LENGTH = 250
MAX_PARAM_LENGTH = 6_000
MAX_TAG_LENGTH = 8_000


class RejectedError(TrackingError):
    """The tracker will never accept this, however often it is sent."""


class RunKind(StrEnum):
    """What a run stands for."""

    STUDY = "study"
    TRIAL = "trial"
    REFERENCE = "reference"


class RunState(StrEnum):
    """How a run ended; the first three are spelled as the states of a trial."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """A part of a table that a run used, described without its rows.

    Attributes:
        digest: Tells parts of one table apart; the first 36 characters are kept.
        source: Where the table came from, without secrets.
        context: `training` or `test`.
        columns: Name and MLflow type (`double`, `long`, `string`, `boolean`, `datetime`) of each column.
    """

    name: str
    digest: str
    source: str
    context: str
    n_rows: int
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of one metric. A point that is logged twice is kept once.

    Attributes:
        timestamp_ms: Milliseconds since 1970, taken when the value was known.
        step: The epoch, or 0 for a final value.
    """

    name: str
    value: float
    timestamp_ms: int
    step: int = 0


@dataclass(frozen=True, slots=True)
class RunStart:
    """How a run begins.

    Attributes:
        key: Names the run for ever and everywhere: a study's own unique id, and the trial's number in it.
        parent_key: Key of the run that this one belongs to; it must have been opened before.
        started_ms: Milliseconds since 1970.
    """

    key: str
    experiment: str
    name: str
    kind: RunKind
    started_ms: int
    parent_key: str | None = None
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    datasets: tuple[DatasetUse, ...] = ()


@dataclass(frozen=True, slots=True)
class RunRef:
    """Where a run is."""

    experiment_id: str
    run_id: str


@dataclass(frozen=True, slots=True)
class FoundRun:
    """A run as the tracker has it.

    Attributes:
        states: How it may have ended, as far as the tracker tells them apart; none while it is open.
        metrics: The last value of each.
    """

    run_id: str
    states: frozenset[RunState]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of a registered model.

    Attributes:
        run_id: The run that logged the model, where it is known.
        created_ms: Milliseconds since 1970.
    """

    model: str
    version: int
    run_id: str | None
    created_ms: int
    tags: Mapping[str, str]
    aliases: frozenset[str]

    @property
    def uri(self) -> str:
        return f"models:/{self.model}/{self.version}"


class Tracker(Protocol):
    """Where runs are recorded. Every call may be repeated.

    Every method raises RejectedError for what will never be accepted, and TrackingError for what may be later.
    Keys and values are cleaned by `clean_key`, `clean_text` and `clean_metric`.
    """

    def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
        """Returns the run of `start.key`, made if there is none; it is running, even if it was closed before.

        Args:
            new: Nobody can have made this run before, so that it need not be looked for.
        """

    def find_runs(self, experiment: str, key: str) -> dict[str, list[FoundRun]]:
        """Returns the run of a key and those below it, by the `key_tag` of each; a doubled one has several."""

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Adds to a run. A param keeps its first value and rejects another, a tag takes the last."""

    def log_artifact(self, run_id: str, path: Path, to: str = "") -> None:
        """Copies a file or a folder (with its name) into the run's folder `to`; the last copy stays."""

    def log_model(
        self,
        run_id: str,
        folder: Path,
        *,
        name: str,
        params: Mapping[str, Scalar] | None = None,
        metrics: Sequence[MetricPoint] = (),
    ) -> str:
        """Returns the URI (`models:/m-...`) of a model whose files are exactly those of `folder`.

        Raises:
            RefusedError: The folder is not what its manifest says.
        """

    def close_run(self, run_id: str, state: RunState, ended_ms: int) -> None:
        """Ends a run; `ended_ms` are milliseconds since 1970."""


class Registry(Protocol):
    """Where versions of models are named. Every method raises TrackingError."""

    def add_version(self, model: str, model_uri: str, tags: Mapping[str, str] | None = None) -> int:
        """Returns the number of a new version of `model`, whose files are those of `model_uri`, not a copy."""

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        """Returns the version that the alias points at, or None."""

    def point(self, model: str, alias: str, version: int) -> None:
        """Moves an alias to a version."""

    def versions(self, model: str) -> list[ModelVersion]:
        """Returns all versions, the newest first; none when there is no such model."""

    def download(self, uri: str, to: Path) -> Path:
        """Returns `to`, a folder that then holds the files of a model.

        Args:
            uri: `models:/NAME@alias`, `models:/NAME/3`, `models:/m-...`, or `runs:/ID` for the last model of a run.
            to: A folder that is empty or not there yet.
        """


def key_tag(key: str) -> str:
    """Returns a key as it can stand in a filter, whatever characters it has."""
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()


def default_tracking_uri(flag: str | None = None) -> str:
    """Returns where to track: the flag, else `MLFLOW_TRACKING_URI`, else MLflow's own default made absolute.

    A database file is named with its absolute path, since processes with other working folders use it as well.
    """
    uri = flag or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = sqlite_path(uri)
    return uri if path is None else f"sqlite:///{path}"


def sqlite_path(uri: str) -> Path | None:
    """Returns the absolute path of the database file of a URI, or None where there is none."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)).absolute() if uri.startswith(prefix) else None


def clean_key(key: str) -> str:
    """Returns a name of a metric, param or tag as MLflow accepts it.

    A name that has to be changed ends in eight digits of its hash, so that `a;b` and `a_b` stay two.
    """
    unnormal = posixpath.normpath(key) != key or key.startswith(("/", ".."))
    if re.fullmatch(r"[\w.\- :/]+", key) and key != "." and not unnormal and len(key) <= MAX_KEY_LENGTH:
        return key
    plain = re.sub(r"[^\w.\- :]", "_", key).lstrip(".")
    mark = "-" + hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:8]
    return plain[: MAX_KEY_LENGTH - len(mark)] + mark


def clean_text(value: Scalar, limit: int) -> str:
    """Returns a value as text without NUL, which PostgreSQL refuses; one too long ends in its hash."""
    text = str(value).replace("\0", "").encode("utf-8", "replace").decode()
    if len(text) <= limit:
        return text
    mark = f"... sha256:{hashlib.sha256(text.encode()).hexdigest()}"
    return text[: limit - len(mark)] + mark


def clean_metric(value: float) -> float:
    """Returns the value, NaN for an infinite one: MLflow would store 1.8e308, which flattens every chart."""
    return float(value) if math.isfinite(value) else math.nan


def require_empty(folder: Path) -> None:
    """Makes the folder if it is not there.

    Raises:
        TrackingError: It holds something, which would be taken for a part of what is downloaded into it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty = next(folder.iterdir(), None) is None
    except OSError as error:
        raise TrackingError(f"the folder cannot be made: {error}", where=str(folder)) from error
    if not empty:
        raise TrackingError("the folder to download into is not empty", where=str(folder), remedy="Name another.")
