"""Tables part by part, for predicting on more rows than fit into memory.

Rows and values are those that `sources.read` gives. What makes that hard are types: a reader that sees a part only
takes `007` for a number where a later part holds words, and numbers for whole ones where a later part lacks some. So
a file whose types are guessed is looked at whole first, and each part is read by what the whole is.
"""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from automl.data import sources
from automl.errors import AutomlError, DataError
from automl.values import Schema

if TYPE_CHECKING:
    import pyarrow as pa

Parts = Iterator[pd.DataFrame]

#: What one value takes in memory: a number, or the pointer to a string.
VALUE_BYTES = 8
#: The size of a row group, for each of its columns, from which reading it whole takes more memory than reading it page
#: by page, where a page and a dictionary are held for each column; measured.
PAGES_BYTES = 2**20
#: What text shrinks to when it is compressed, about.
GZIP_RATIO = 5

#: What is wrong with a file, and Arrow's errors, which are ValueErrors.
_UNTOLD = (AutomlError, OSError, KeyError, IndexError, StopIteration, ValueError)

_MISSING, _NATURAL = "missing", "natural"


def read(
    source: str, params: Mapping[str, Any], base: Path, schema: Schema | None, n_rows: int
) -> Generator[pd.DataFrame, None, None]:
    """Yields the table that a source gives in parts of at most `n_rows` rows, at least one part.

    A source that cannot be read in parts gives one part, however large.

    Args:
        source: Name of a registered source.
        params: Its parameters, as in `data.params` of a study.
        base: Folder that relative paths start from.
        schema: The columns that are wanted; in the others types may differ from part to part. None: all columns.
        n_rows: Rows a part.

    Raises:
        ConfigError: There is no such source, or it does not take these parameters.
        DataError: The table cannot be read, or is empty.
    """
    sources.check_params(source, params)
    where = sources.describe(source, params)
    n_parts = 0
    if source in READERS:
        with sources.readable(source, params):
            for part in READERS[source](base, schema, n_rows, **params):
                sources.refuse_repeated_names(list(part.columns), where)
                if not part.empty:
                    n_parts += 1
                    yield sources.numbered(part)
    if n_parts == 0:  # a source without parts, or a table without rows, of which it tells what is wrong
        yield sources.read(source, params, base)


def size(source: str, params: Mapping[str, Any], base: Path) -> int | None:
    """Returns about how many bytes a table takes in memory, as far as its files tell without being read.

    None where that cannot be told, or where reading will tell what is wrong with it.
    """
    import pyarrow.parquet as pq

    with suppress(*_UNTOLD):
        if source in READERS:
            place = sources.existing(base, params["path"])
            if source != "parquet":
                return place.stat().st_size * (GZIP_RATIO if place.suffix == ".gz" else 1)
            files = [pq.read_metadata(piece.file) for piece in _all_pieces(place)]
            stored = sum(of.row_group(group).total_byte_size for of in files for group in range(of.num_row_groups))
            plain = sum(VALUE_BYTES * of.num_rows * of.num_columns for of in files)  # stored, it may be compressed
            return int(max(stored, plain))
    return None


def check_size(source: str, params: Mapping[str, Any], base: Path, most: int) -> None:
    """Refuses a table whose files are larger than `most` bytes when they are unpacked, before it is read.

    A few kilobytes of a compressed file can stand for any number of rows.

    Raises:
        DataError: With what would raise the cap.
    """
    n_bytes = size(source, params, base)
    if n_bytes is None:
        return
    if str(params["path"]).lower().endswith(".gz"):
        with sources.readable(source, params):
            n_bytes = _unpacked(sources.existing(base, params["path"]), most)
    if n_bytes > most:
        raise DataError(
            f"the table takes more than {most:,} bytes when it is unpacked",
            where=sources.describe(source, params),
            remedy="If that is right, allow it: `--max-size 200GB`, or `data.max_size` of a study.",
        )


def _unpacked(file: Path, most: int) -> int:
    """Returns the bytes in a gzipped file, or some number above `most`."""
    n_bytes = 0
    with gzip.open(file) as opened:
        while n_bytes <= most and (part := opened.read(2**20)):
            n_bytes += len(part)
    return n_bytes


def n_columns(source: str, params: Mapping[str, Any], base: Path) -> int:
    """Returns how many columns a table has; 1 where reading will tell what is wrong with it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with suppress(*_UNTOLD):
        place = sources.existing(base, params["path"])
        if source == "parquet":
            first = _all_pieces(place)[0]
            return len(pq.read_schema(first.file)) + len(first.constants)
        if source == "csv":
            file, options = sources.csv_options(base, **params)
            return len(pd.read_csv(file, **options, nrows=0).columns)
        if source == "jsonl":
            return len(next(sources.records(place)))
        with pa.memory_map(str(place)) as buffer:
            return len(_opened(buffer).schema)
    return 1


# --- text, whose types are guessed -------------------------------------------------------------------------------


def _csv(base: Path, schema: Schema | None, n_rows: int, **params: Any) -> Parts:
    file, options = sources.csv_options(base, **params)
    options["chunksize"] = n_rows
    used = {column.name for column in schema.used} if schema else None
    try:
        with pd.read_csv(file, **options, usecols=used.__contains__ if used else None) as parts:
            agreed = _agreed(parts, mixed="str")
        words = {name: kind for name, kind in agreed.items() if kind == "str"}
        # Not read as float64, but made so: of large whole numbers a reader of fractions keeps other digits.
        numbers = {name: kind for name, kind in agreed.items() if kind != "str"}
        with pd.read_csv(file, **options, dtype=words) as parts:
            for part in parts:
                yield part.astype(numbers)
    except pd.errors.ParserError as error:
        raise sources.not_a("csv", file, error) from error


def _jsonl(base: Path, schema: Schema | None, n_rows: int, *, path: str) -> Parts:
    file = sources.existing_file(base, path)
    names: dict[str, None] = {}

    def parts() -> Parts:
        for records in _batched(sources.records(file), n_rows):
            names.update(dict.fromkeys(chain.from_iterable(records)))
            yield pd.DataFrame(records, columns=list(names))

    agreed = _agreed(parts(), mixed="object")
    for records in _batched(sources.records(file), n_rows):
        given = {
            # As they were written: pandas would make one number type of a part that holds 1 and 2.5.
            name: pd.Series([record.get(name) for record in records], dtype=object)
            for name, kind in agreed.items()
            if kind == "object"
        }
        frame = pd.DataFrame(records, columns=list(names)).assign(**given)
        yield frame.astype({name: kind for name, kind in agreed.items() if kind != "object"})


def _batched(records: Iterator[dict[str, Any]], n_rows: int) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(records, n_rows)):
        yield batch


def _agreed(parts: Iterable[pd.DataFrame], mixed: str) -> dict[str, str]:
    """Returns the type that a column has over the whole file, where a part by itself may have another.

    Args:
        parts: As pandas reads each by itself.
        mixed: What pandas makes of a column that is not of one kind.
    """
    seen: defaultdict[str, set[str]] = defaultdict(set)
    for part in parts:
        for name, column in part.items():
            missing = column.isna()
            seen[str(name)] |= {_MISSING} if missing.any() else set()
            seen[str(name)] |= set() if missing.all() else {_kind(column)}
    agreed = {}
    for name, found in seen.items():
        kinds = found - {_MISSING}
        if kinds <= {_NATURAL, "int64", "float64"}:
            if not found <= {_NATURAL, "int64"}:
                agreed[name] = "float64"
        elif not (kinds <= {"bool", "object"} or kinds == {"str"} or found <= {_NATURAL, "uint64"}):
            agreed[name] = mixed
    return agreed


def _kind(column: pd.Series[Any]) -> str:
    # Numbers above those of int64 make a column of uint64, and one of words if there are negative ones as well.
    kind = str(column.dtype)
    return _NATURAL if kind == "int64" and column.min() >= 0 else kind


# --- Arrow and parquet, which know their types -------------------------------------------------------------------


def _parquet(base: Path, schema: Schema | None, n_rows: int, *, path: str) -> Parts:
    import pyarrow.parquet as pq

    place = sources.existing(base, path)
    if place.is_file():
        sources.existing_file(base, path)  # one that is not empty
    pieces = _all_pieces(place)
    if not pieces:
        return

    def batches(columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
        for piece in pieces:
            # Buffered by itself, so that a row group, which may be the whole table, is never in memory whole.
            with pq.ParquetFile(piece.file, pre_buffer=False, buffer_size=1 << 16) as opened:
                for batch in _batches(opened, n_rows, columns):
                    yield batch if columns else piece.completed(batch)

    with _explained("parquet", place):
        arrow_schema = pq.read_schema(pieces[0].file)
        sources.refuse_repeated_names(arrow_schema.names, str(place))
        if _numbers_rows(arrow_schema):
            return
        wide = _wide(arrow_schema, schema)
        lacking = _lacking(batches(wide), wide) if wide else set()
        yield from _frames(batches(), n_rows, lacking)


def _batches(file: Any, n_rows: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a parquet file, in whichever way needs less memory.

    Row by row, one page and its dictionary are held for each column; a small row group is less than that.
    """
    pages = PAGES_BYTES * file.metadata.num_columns
    for number in range(file.num_row_groups):
        if file.metadata.row_group(number).total_byte_size <= pages:
            yield from file.read_row_group(number, columns=columns).to_batches(n_rows)
        else:
            yield from file.iter_batches(n_rows, row_groups=[number], columns=columns)


@dataclass(frozen=True, slots=True)
class _Piece:
    """A parquet file, and what the names of its folders (`year=2026/`) say of all its rows.

    Attributes:
        constants: Column -> its values over all files, and the position of this file's among them; -1: it is missing.
    """

    file: Path
    constants: Mapping[str, tuple[pa.Array, int]] = field(default_factory=dict)

    def completed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Returns rows of the file with the columns that are not in it."""
        import pyarrow as pa

        for name, (dictionary, code) in self.constants.items():
            codes = pa.array(np.full(batch.num_rows, code, np.int32), mask=np.full(batch.num_rows, code < 0))
            batch = batch.append_column(name, pa.DictionaryArray.from_arrays(codes, dictionary))
        return batch


def _all_pieces(place: Path) -> list[_Piece]:
    """Returns the parquet files of a table in their order: the file itself, or those of a folder."""
    return [_Piece(place)] if place.is_file() else _pieces(place)


def _pieces(folder: Path) -> list[_Piece]:
    """Returns the parquet files of a folder in their order; none where they are more than one table cut up."""
    import pyarrow as pa
    import pyarrow.dataset as ds
    import pyarrow.parquet as pq

    if not any(file.suffix in (".parquet", ".pq") for file in folder.rglob("*")):
        return []
    with _explained("parquet", folder):
        named = ds.HivePartitioning.discover(infer_dictionary=True)
        found = ds.dataset(folder, format="parquet", partitioning=named)
        values = zip(found.partitioning.schema.names, found.partitioning.dictionaries, strict=True)
        dictionaries = {name: dictionary for name, dictionary in values if dictionary is not None}
        in_files = pa.schema([column for column in found.schema if column.name not in dictionaries])
        pieces = []
        for fragment in found.get_fragments():
            if not pq.read_schema(fragment.path).equals(in_files):
                return []
            keys = ds.get_partition_keys(fragment.partition_expression)
            constants = {name: (known, known.index(keys.get(name)).as_py()) for name, known in dictionaries.items()}
            pieces.append(_Piece(Path(fragment.path), constants))
        return pieces


def _arrow(base: Path, schema: Schema | None, n_rows: int, *, path: str) -> Parts:
    import pyarrow as pa

    file = sources.existing_file(base, path)
    with _explained("Arrow", file), pa.memory_map(str(file)) as buffer:

        def batches() -> Iterator[pa.RecordBatch]:
            reader = _opened(buffer)
            if hasattr(reader, "get_batch"):
                yield from (reader.get_batch(position) for position in range(reader.num_record_batches))
            else:
                yield from reader

        arrow_schema = _opened(buffer).schema
        if _numbers_rows(arrow_schema):
            return
        wide = _wide(arrow_schema, schema)
        yield from _frames(batches(), n_rows, _lacking(batches(), wide) if wide else set())


def _folder(base: Path, schema: Schema | None, n_rows: int, *, path: str) -> Parts:
    whole = sources.folder(base, path=path)
    for first in range(0, len(whole), n_rows):
        yield whole.iloc[first : first + n_rows]


def _opened(buffer: Any) -> Any:
    """Returns the reader of an Arrow file or stream, from its beginning."""
    import pyarrow as pa

    buffer.seek(0)
    try:
        return pa.ipc.open_file(buffer)
    except pa.ArrowInvalid:
        buffer.seek(0)
        return pa.ipc.open_stream(buffer)


def _frames(batches: Iterable[pa.RecordBatch], n_rows: int, lacking: set[str]) -> Parts:
    """Yields frames of at most `n_rows` rows from batches of any size; `lacking` as of `_lacking`."""
    import pyarrow as pa

    def frame() -> pd.DataFrame:
        table = pa.Table.from_batches(waiting)
        table.validate(full=True)
        made: pd.DataFrame = table.to_pandas(split_blocks=True)
        return made.astype(dict.fromkeys(lacking, "float64"))

    waiting: list[pa.RecordBatch] = []
    n_waiting = 0
    for batch in batches:
        for first in range(0, batch.num_rows, n_rows):
            piece = batch.slice(first, n_rows)
            if n_waiting + piece.num_rows > n_rows:
                yield frame()
                waiting, n_waiting = [], 0
            waiting.append(piece)
            n_waiting += piece.num_rows
    if waiting:
        yield frame()


def _numbers_rows(arrow_schema: pa.Schema) -> bool:
    """Returns whether rows are numbered by a named range, which is a column in no batch."""
    metadata = arrow_schema.pandas_metadata or {}
    return any(isinstance(index, dict) and index.get("name") for index in metadata.get("index_columns", ()))


def _wide(arrow_schema: pa.Schema, schema: Schema | None) -> list[str]:
    """Returns the columns of whole numbers that are read as words and that float64 may not hold to the last digit."""
    import pyarrow as pa

    words = set(arrow_schema.names)
    if schema is not None:
        words = {column.name for column in schema.used if not column.kind.is_number}
    wide = (pa.int64(), pa.uint64())
    return [field.name for field in arrow_schema if field.name in words and field.type in wide]


def _lacking(batches: Iterable[pa.RecordBatch], names: list[str]) -> set[str]:
    """Returns the columns of whole numbers in which one is missing anywhere: pandas makes float64 of these."""
    return {name for batch in batches for name in names if batch.column(name).null_count}


@contextmanager
def _explained(form: str, place: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise sources.not_a(form, place, error) from error


#: The sources that are read in parts.
READERS: Mapping[str, Callable[..., Parts]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
    "arrow": _arrow,
    "folder": _folder,
}
