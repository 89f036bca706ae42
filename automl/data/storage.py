"""The table of a study on disk, as trials open it: the search part and the test part in files of their own.

A trial opens `search.arrow`, `search_target.npy` and `folds.npz`, and nothing else: that test is unseen does not depend
on anybody's care. Files are uncompressed, so that any number of processes share one copy through the page cache.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from automl.errors import StorageError
from automl.values import Dataset, Fold, Schema, Splits

PartName = Literal["search", "test"]


def store(dataset: Dataset, splits: Splits, folder: Path) -> None:
    """Writes the parts of a table into a folder, which is made where it does not exist.

    Raises:
        StorageError: The folder cannot be written.
    """
    with _explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("search", splits.search), ("test", splits.test)):
            _write_frame(dataset.features.iloc[rows], folder / f"{name}.arrow")
            np.save(folder / f"{name}_target.npy", dataset.target[rows])
        # Positions only, one array for each side of each fold; "train_0" and "val_0" are the first fold.
        arrays: dict[str, Any] = {f"train_{i}": fold.train for i, fold in enumerate(splits.folds)}
        arrays |= {f"val_{i}": fold.val for i, fold in enumerate(splits.folds)}
        np.savez(folder / "folds.npz", **arrays)
        document = json.dumps(dataset.schema.to_json(), indent=2, ensure_ascii=False)
        (folder / "schema.json").write_text(document, encoding="utf-8")


def load_part(folder: Path, part: PartName) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Returns the features (rows, columns) and the target (rows,) of one part, both memory-mapped and read-only.

    Raises:
        StorageError: The files are missing or broken.
    """
    import pyarrow as pa

    with _explained(folder), pa.memory_map(str(folder / f"{part}.arrow")) as buffer:
        table = pa.ipc.open_file(buffer).read_all()
        # A block for each column is what lets pandas point into the file; joined blocks would be a copy.
        features = table.to_pandas(split_blocks=True)
        return features, np.load(folder / f"{part}_target.npy", mmap_mode="r", allow_pickle=False)


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


def _write_frame(frame: pd.DataFrame, file: Path) -> None:
    import pyarrow as pa

    # NaN stays a number here: Arrow's null would have to be turned into NaN, in a copy, by every reader.
    columns = {
        name: pa.array(column.to_numpy(), from_pandas=False)
        if types.is_float_dtype(column)
        else pa.array(column, from_pandas=True)
        for name, column in frame.items()
    }
    table = pa.table(columns).combine_chunks()
    with pa.ipc.new_file(str(file), table.schema) as writer:
        writer.write_table(table)


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
