"""Where a study keeps its state: one folder under `.automl/studies/`, and what each file in it is."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from automl.errors import ConfigError, StorageError, did_you_mean
from automl.search_space import SearchSpace
from automl.values import Choice, Direction, Scalar, Schema

#: In a trial's folder, until it has ended: how far the training of each fold has come.
CHECKPOINTS = "checkpoints"
STATE_VARIABLE = "AUTOML_STATE"


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a study works on, once everything has been checked.

    Attributes:
        key: Names this study for ever and everywhere.
        space: The search space without choices that cannot matter on this data.
        starts: Optuna parameters of the first trials, the defaults before all.
        base: The folder that paths in the study are relative to.
        n_shards: Files that the search part lies in; more than one where the table does not fit into memory.
        modules: Networks of the space that are LightningModules.
        is_logged: Whether they log the objective.
        data_module: The LightningDataModule that is read instead of a table, if one is; `schema` then holds nothing.
        notes: Sentences a person should read once: columns left out, choices dropped.
    """

    schema: Schema
    objective: str
    direction: Direction
    key: str
    space: SearchSpace
    space_name: str
    starts: Sequence[Mapping[str, Scalar]]
    source: str
    base: str
    data_digest: str
    split_digest: str
    n_search: int
    n_train: int
    n_val: int
    n_test: int
    n_folds: int
    notes: tuple[str, ...]
    n_shards: int = 1
    modules: tuple[str, ...] = ()
    is_logged: bool = False
    data_module: Choice | None = None

    def to_json(self) -> dict[str, Any]:
        plain = {n: getattr(self, n) for n in self.__slots__ if n not in ("schema", "space", "data_module")}
        source = None if self.data_module is None else asdict(self.data_module)
        return {
            **plain,
            "data_module": source,
            "schema": asdict(self.schema),
            "space": self.space.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Prepared:
        return cls(
            **{
                **document,
                "schema": Schema.from_json(document["schema"]),
                "space": SearchSpace.model_validate(document["space"]),
                "direction": Direction(document["direction"]),
                "notes": tuple(document["notes"]),
                "modules": tuple(document.get("modules", ())),  # earlier documents have none
                "data_module": Choice(**source) if (source := document.get("data_module")) else None,
            }
        )


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The paths of one study's state."""

    path: Path

    @property
    def spec(self) -> Path:
        """The study as it was resolved when it began, JSON."""
        return self.path / "study.json"

    @property
    def prepared(self) -> Path:
        """What preparing the study found: search space, defaults, digests, notes; JSON."""
        return self.path / "prepared.json"

    @property
    def data(self) -> Path:
        """The search part and, in files of its own, the test part."""
        return self.path / "data"

    @property
    def journal(self) -> Path:
        """Optuna's journal: the truth about the search."""
        return self.path / "journal.log"

    @property
    def spool(self) -> Path:
        """What is on its way to MLflow."""
        return self.path / "spool"

    @property
    def cache(self) -> Path:
        """Fitted beginnings of preprocessing that trials share; may be deleted at any time."""
        return self.path / "cache"

    @property
    def references(self) -> Path:
        return self.path / "references"

    @property
    def model(self) -> Path:
        """The folder of the shipped model."""
        return self.path / "model"

    @property
    def result(self) -> Path:
        """The study's result, JSON; there once it is finished."""
        return self.path / "result.json"

    def trial(self, number: int) -> Path:
        """Returns the folder of what one trial leaves behind: its model and its validation predictions."""
        return self.path / "trials" / f"{number:05d}"

    def checkpoints(self, number: int) -> Path:
        """Returns the folder of what a trial keeps of its trainings until it has ended."""
        return self.trial(number) / CHECKPOINTS

    def is_locked(self) -> bool:
        """Returns whether a process is running the study now."""
        try:
            with open(self.path / "lock", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the study, so that two launchers never write to one study's state.

        Raises:
            ConfigError: Another process holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = open(self.path / "lock", "a+", encoding="utf-8")  # noqa: SIM115  closed below
        except OSError as error:
            raise StorageError(f"cannot be written: {error.strerror}", where=str(self.path)) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise ConfigError(
                    f"the study `{self.path.name}` is being run by process {file.read().strip() or 'unknown'}",
                    remedy="Wait for it, stop it, or run another with `--new-name`.",
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def state_folder() -> Path:
    """Returns the folder of all state: `.automl` in the working folder, or what `AUTOML_STATE` names."""
    return Path(os.environ.get(STATE_VARIABLE) or ".automl").absolute()


def names() -> list[str]:
    """Returns the names of the studies that there are."""
    folder = state_folder() / "studies"
    return sorted(path.name for path in folder.iterdir() if (path / "study.json").is_file()) if folder.is_dir() else []


def study_folder(name: str) -> StudyFolder:
    """Returns the folder of a study that may not exist yet."""
    return StudyFolder(state_folder() / "studies" / name)


def unused_name(name: str) -> str:
    """Returns the name, or with `-2`, `-3` and so on where there is a study of that name."""
    known = {*names()}
    numbered = (f"{name}-{number}" for number in itertools.count(2))
    return next(each for each in itertools.chain([name], numbered) if each not in known)


def existing(name: str) -> StudyFolder:
    """Returns the folder of a study that exists.

    Raises:
        ConfigError: There is no such study.
    """
    if name not in names():
        known = names()
        remedy = did_you_mean(name, known) if known else "Nothing has been run in this folder yet."
        raise ConfigError(f"there is no study `{name}` under {state_folder()}", remedy=remedy)
    return study_folder(name)


def write_json(path: Path, document: Any) -> None:
    """Writes a JSON document so that a crash leaves the old one or the new one, never half of it.

    Raises:
        StorageError: The disk refuses.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1, ensure_ascii=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot be written: {error.strerror}", where=str(path)) from error


def read_json(path: Path) -> Any:
    """Returns the JSON document in a file of a study's state.

    Raises:
        StorageError: It is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StorageError("is missing from the study's state", where=str(path)) from None
    except (OSError, ValueError) as error:
        raise StorageError(f"cannot be read: {error}", where=str(path)) from error
