"""The table of a study on disk, as trials open it: the search part and the test part in files of their own.

A trial opens the files of the search part and `folds.npz`, and nothing else: that test is unseen does not depend on
anybody's care. Files are uncompressed, so that any number of processes share one copy through the page cache.

A part of a table that does not fit into memory lies in several files, its *shards*. Which shard a row is in is drawn at
random, so that each is a fair sample of the part, and the part's rows are numbered in the order of the shards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from automl.array_column import is_packed_type
from automl.errors import StorageError
from automl.values import Dataset, Fold, Schema, Splits

PartName = Literal["search", "test"]

#: What a file may hold in less than canonical columns take, without loss.
_NARROW = ("float32", "float16")

#: Shards that make up the sample of a part by which what needs its rows at once is fitted.
SAMPLED_SHARDS = 4


@dataclass(frozen=True, slots=True)
class StoredPart:
    """The search part or the test part of a stored table.

    Attributes:
        files: One a shard; a part that fits into memory has one.
        target: Memory-mapped and read-only; (rows,).
        starts: Number of the first row of each shard, and the number of rows; (shards + 1,).
    """

    files: tuple[Path, ...]
    target: NDArray[Any]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def is_whole(self) -> bool:
        """Whether there is one shard only."""
        return len(self) == 1

    def shard(self, number: int) -> pd.DataFrame:
        """Returns the features of one shard, of a whole part memory-mapped and read-only; (rows, columns).

        Raises:
            StorageError: The file is missing or broken.
        """
        import pyarrow as pa

        with _explained(self.files[number].parent), pa.memory_map(str(self.files[number])) as buffer:
            # A block for each column is what lets pandas point into the file; joined blocks would be a copy.
            frame: pd.DataFrame = (
                pa.ipc.open_file(buffer)
                .read_all()
                .to_pandas(
                    split_blocks=True, types_mapper=lambda kind: pd.ArrowDtype(kind) if is_packed_type(kind) else None
                )
            )
            narrow = frame.columns[frame.dtypes == np.float32]
            return frame.astype(dict.fromkeys(narrow, np.float64)) if len(narrow) else frame

    def within(self, number: int, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns which of the rows, given in ascending order, are in a shard, counted from its first."""
        first, last = self.starts[number : number + 2]
        begin, end = np.searchsorted(rows, (first, last))
        found: NDArray[np.int64] = rows[begin:end] - first
        return found

    def holding(self, rows: NDArray[np.int64]) -> list[int]:
        """Returns the shards that hold any of the rows, given in ascending order; the first where there are none."""
        n_rows = np.diff(np.searchsorted(rows, self.starts))
        return np.flatnonzero(n_rows).tolist() or [0]

    def predict(
        self, predict: Callable[[pd.DataFrame], NDArray[Any]], rows: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Returns what is predicted for the rows, given in ascending order, or for all rows; one shard at a time.

        Args:
            predict: Of features (rows, columns) -> (rows, ...).
        """
        if rows is None:
            return np.concatenate([predict(self.shard(number)) for number in range(len(self))])
        return np.concatenate(
            [predict(self.shard(number).iloc[self.within(number, rows)]) for number in self.holding(rows)]
        )

    def sample(self, rows: NDArray[np.int64] | None = None) -> tuple[pd.DataFrame, NDArray[Any]]:
        """Returns features and target of as many of the rows as fit into memory: of a whole part, all.

        Args:
            rows: In ascending order; None: all. Those in the first shards that hold any are the sample.
        """
        rows = np.arange(self.starts[-1]) if rows is None else rows
        shards = self.holding(rows)[:SAMPLED_SHARDS]
        rows = rows[: np.searchsorted(rows, self.starts[shards[-1] + 1])]
        frames = [self.shard(number).iloc[self.within(number, rows)] for number in shards]
        return frames[0] if self.is_whole else pd.concat(frames, ignore_index=True), self.target[rows]


def store(
    dataset: Dataset,
    splits: Splits,
    folder: Path,
    *,
    frames: Iterable[pd.DataFrame] | None = None,
    n_shards: int = 1,
    seed: int = 0,
) -> None:
    """Writes the parts of a table into a folder, which is made where it does not exist.

    Args:
        dataset: The table.
        splits: Which row belongs to which part.
        frames: The canonical frames that make up the table, in order, where `dataset.features` does not hold them.
        n_shards: Files that the search part is cut into; those of the test part have as many rows.
        seed: Of what is drawn at random.

    Raises:
        StorageError: The folder cannot be written.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("*.arrow"), *folder.glob("*_shards.npy")):
            old.unlink()
        rng = np.random.default_rng(seed)
        n_test_shards = max(1, round(n_shards * len(splits.test) / max(len(splits.search), 1)))
        with ExitStack() as opened:
            # In shards of their own, a single fold's validation rows are read without its training rows.
            nothing = np.empty(0, np.int64)
            apart = splits.folds[0].val if len(splits.folds) == 1 else nothing
            narrow = {column.name for column in dataset.schema.used if column.dtype in _NARROW}
            search = opened.enter_context(
                closing(_Sharding(folder, "search", splits.search, n_shards, rng, narrow, apart))
            )
            test = opened.enter_context(
                closing(_Sharding(folder, "test", splits.test, n_test_shards, rng, narrow, nothing))
            )
            n_seen = 0
            for frame in [dataset.features] if frames is None else frames:
                search.write(frame, n_seen)
                test.write(frame, n_seen)
                n_seen += len(frame)
        for name, part in (("search", search), ("test", test)):
            np.save(folder / f"{name}_target.npy", dataset.target[part.rows])
            if len(part.starts) > 2:
                np.save(folder / f"{name}_shards.npy", part.starts)
        # Positions only, one array for each side of each fold; "train_0" and "val_0" are the first fold.
        arrays: dict[str, Any] = {f"train_{i}": np.sort(search.place[f.train]) for i, f in enumerate(splits.folds)}
        arrays |= {f"val_{i}": np.sort(search.place[f.val]) for i, f in enumerate(splits.folds)}
        np.savez(folder / "folds.npz", **arrays)
        document = json.dumps(dataset.schema.to_json(), indent=2, ensure_ascii=False)
        (folder / "schema.json").write_text(document, encoding="utf-8")


def load_part(folder: Path, part: PartName) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Returns the features (rows, columns) and the target (rows,) of a part that is whole; as of `open_part`."""
    opened = open_part(folder, part)
    return opened.shard(0), opened.target


def open_part(folder: Path, part: PartName) -> StoredPart:
    """Returns one part, whose rows are read when they are asked for.

    Raises:
        StorageError: The files are missing or broken.
    """
    with _explained(folder):
        shards = folder / f"{part}_shards.npy"
        starts = np.load(shards, allow_pickle=False) if shards.exists() else None
        files = _files(folder, part, 1 if starts is None else len(starts) - 1)
        for file in files:
            file.stat()
        target = np.load(folder / f"{part}_target.npy", mmap_mode="r", allow_pickle=False)
        return StoredPart(files, target, np.array([0, len(target)]) if starts is None else starts)


def load_folds(folder: Path) -> tuple[Fold, ...]:
    """Returns the folds, as positions within the search part.

    Raises:
        StorageError: The file is missing or broken.
    """
    with _explained(folder), np.load(folder / "folds.npz", allow_pickle=False) as arrays:
        return tuple(Fold(arrays[f"train_{i}"], arrays[f"val_{i}"]) for i in range(len(arrays.files) // 2))


def load_schema(folder: Path) -> Schema:
    """Returns the schema of the table.

    Raises:
        StorageError: The file is missing or broken.
    """
    with _explained(folder):
        return Schema.from_json(json.loads((folder / "schema.json").read_text(encoding="utf-8")))


class _Sharding:
    """Deals the rows of one part out to its shards, as they come by.

    Args:
        rows: Positions of the part's rows within the table, in ascending order.
        narrow: Columns whose values float32 can hold; it is what they are in shards, which are read again and again.
        apart: Which of the rows are in the last shards, without others.

    Attributes:
        rows: These positions in the order in which the rows are stored.
        place: Where each of the rows, in the order given, is stored.
        starts: As of `StoredPart`.
    """

    def __init__(
        self,
        folder: Path,
        part: PartName,
        rows: NDArray[np.int64],
        n_shards: int,
        rng: np.random.Generator,
        narrow: Collection[str],
        apart: NDArray[np.int64],
    ) -> None:
        self._shard = np.zeros(len(rows), np.int32) if n_shards == 1 else _deal(len(rows), apart, n_shards, rng)
        self._narrow = narrow if n_shards > 1 else ()
        self._given = rows
        self._files = _files(folder, part, n_shards)
        self._writers: dict[int, Any] = {}
        order = np.argsort(self._shard, kind="stable")
        self.rows = rows[order]
        self.place = np.empty(len(rows), np.int64)
        self.place[order] = np.arange(len(rows))
        self.starts = np.searchsorted(self._shard[order], np.arange(n_shards + 1))

    def write(self, frame: pd.DataFrame, n_before: int) -> None:
        """Writes those of some rows of the table that belong here; `n_before` rows came before them."""
        import pyarrow as pa

        begin, end = np.searchsorted(self._given, (n_before, n_before + len(frame)))
        shard = self._shard[begin:end]
        order = np.argsort(shard, kind="stable")
        mine = frame.iloc[self._given[begin:end][order] - n_before]
        table = _to_arrow(mine.astype({name: "float32" for name in mine if name in self._narrow}))
        ends = np.searchsorted(shard[order], np.arange(len(self._files) + 1))
        for number, (first, last) in enumerate(pairwise(ends)):
            if number not in self._writers:
                self._writers[number] = pa.ipc.new_file(str(self._files[number]), table.schema)
            if first < last or len(self._files) == 1:
                self._writers[number].write_table(table.slice(first, last - first))

    def close(self) -> None:
        """Ends the files."""
        for writer in self._writers.values():
            writer.close()


def _deal(n_rows: int, apart: NDArray[np.int64], n_shards: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Returns the shard of each row, drawn at random; shards are as good as equal in size."""
    is_apart = np.zeros(n_rows, bool)
    is_apart[apart] = True
    n_apart = max(1, round(n_shards * len(apart) / n_rows)) if len(apart) else 0
    shard = np.empty(n_rows, np.int32)
    for rows, first, n in ((~is_apart, 0, n_shards - n_apart), (is_apart, n_shards - n_apart, n_apart)):
        n_mine = int(rows.sum())
        shard[rows] = first + rng.permutation(np.arange(n_mine) * n // max(n_mine, 1))
    return shard


def _files(folder: Path, part: PartName, n_shards: int) -> tuple[Path, ...]:
    if n_shards == 1:
        return (folder / f"{part}.arrow",)
    return tuple(folder / f"{part}-{number:05d}.arrow" for number in range(n_shards))


def _to_arrow(frame: pd.DataFrame) -> Any:
    import pyarrow as pa

    # NaN stays a number here: Arrow's null would have to be turned into NaN, in a copy, by every reader.
    columns = {
        name: pa.array(column.to_numpy(), from_pandas=False)
        if types.is_float_dtype(column)
        else pa.array(column, from_pandas=True)
        for name, column in frame.items()
    }
    return pa.table(columns).combine_chunks()


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns what can go wrong with files into a StorageError; Arrow's errors are ValueErrors."""
    try:
        yield
    except (OSError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise StorageError(
            f"the study's data cannot be read or written: {error}",
            where=str(folder),
            remedy="Check the disk; where files are missing or broken, start the study anew.",
        ) from error
