"""Everything that can be wrong, and the exit code it ends the program with.

    AutomlError                 1
    ├── NoTrialSucceeded        1   every trial of the study failed
    ├── TrainingDiverged        1   one trial's numbers ceased to be finite
    ├── ConfigError             2   a study, a search space or a flag
    ├── DataError               2   a table that cannot be read, trained on or predicted
    ├── ModuleError             2   a LightningModule of the user's own
    ├── TrackingError           3   MLflow
    ├── StorageError            3   the study's own state
    │   └── DiskFullError       4   there is no room for it
    ├── ResourceError           4   memory
    └── RefusedError            5   integrity of a model folder, a promotion gate

An error carries problems, each of which says where it is, what was found, what is allowed and what to do.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from automl.redaction import redact


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        message: What was found, as a sentence without a full stop.
        where: File and dotted path, column, or flag; empty when there is no place to name.
        remedy: What to do about it; may be empty.
    """

    message: str
    where: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return redact(f"{text}. {self.remedy}" if self.remedy else f"{text}.")


class AutomlError(Exception):
    """Base of every error that a person is meant to read; anything else is a bug."""

    exit_code = 1

    def __init__(self, problems: str | Problem | Iterable[Problem], *, where: str = "", remedy: str = "") -> None:
        if isinstance(problems, str):
            problems = [Problem(problems, where, remedy)]
        elif isinstance(problems, Problem):
            problems = [problems]
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[AutomlError], tuple[tuple[Problem, ...]]]:
        # Errors cross from the trial process to the worker; the default rebuilds from the message alone.
        return type(self), (self.problems,)


class NoTrialSucceeded(AutomlError):
    """Every trial of the study failed."""


class TrainingDiverged(AutomlError):
    """The loss or the predictions of a training are not finite numbers, and no epoch before was better."""


class ConfigError(AutomlError):
    """A study, a search space or a flag is wrong."""

    exit_code = 2


class DataError(AutomlError):
    """A table cannot be read, trained on or predicted."""

    exit_code = 2


class ModuleError(AutomlError):
    """A LightningModule or LightningDataModule of the user's raises, or does not do what a study needs of it."""

    exit_code = 2


class TrackingError(AutomlError):
    """MLflow cannot be reached or refuses."""

    exit_code = 3


class StorageError(AutomlError):
    """The study's own state cannot be read or written."""

    exit_code = 3


class DiskFullError(StorageError):
    """There is no room left for the study's own state."""

    exit_code = 4


class ResourceError(AutomlError):
    """Memory ran out, or something that was asked for is larger than it may be."""

    exit_code = 4


class RefusedError(AutomlError):
    """A model folder was changed, or a promotion gate did not open."""

    exit_code = 5


def disk_full(error: BaseException | None) -> DiskFullError | None:
    """Returns what to tell a person of an error that a full disk brought about, None for any other.

    Libraries wrap the system's error, each in its own; what it was raised from or beside is looked at, too.
    """
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, DiskFullError):
            return error
        number = error.errno if isinstance(error, OSError) else None
        if number in (errno.ENOSPC, errno.EDQUOT) or os.strerror(errno.ENOSPC) in str(error):
            where = str(error.filename or "") if isinstance(error, OSError) else ""
            return DiskFullError(
                "the disk is full",
                where=where,
                remedy="Free some space and type the same command again: what has ended is kept.",
            )
        error = error.__cause__ or error.__context__
    return None


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Returns a sentence naming the nearest known names, or all of them when none is near."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if near:
        return "Did you mean " + " or ".join(f"`{match}`" for match in near) + "?"
    if not known:
        return ""
    shown = ", ".join(f"`{match}`" for match in known[:20])
    return f"Known: {shown}" + (f" and {len(known) - 20} more" if len(known) > 20 else "")
