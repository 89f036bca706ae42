"""Predicting on files with a model folder, and proving that a model folder works."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automl import manifest, model_folder
from automl.data import blocks, parts, sequences, sources
from automl.data.dataset import Conforming
from automl.errors import ConfigError, DataError, ResourceError, did_you_mean
from automl.predictor import CHUNK_ROWS, Predictor
from automl.values import ColumnKind, LongTable, Schema

Write = Callable[[pd.DataFrame], None]


@dataclass(frozen=True, slots=True)
class Predicted:
    """What predicting on a file came to.

    Attributes:
        n_rows: Rows written.
        notes: Sentences about what of the table was ignored or changed.
    """

    n_rows: int
    notes: tuple[str, ...]


def predict_file(
    folder: Path,
    data: Path,
    output: Path,
    read_as: Mapping[str, Any] | None = None,
    *,
    files: Mapping[str, Path] | None = None,
    usual_files: Mapping[str, Path] | None = None,
    edges: Path | None = None,
) -> Predicted:
    """Predicts on a table and writes one row per row of it to `output`, in its order; of a history, what is ahead.

    The table is read, predicted and written in parts, so that memory does not grow with its rows. Of a folder of images
    and of a table with a row a step, whose rows are not a person's, each prediction stands beside its file or id.

    Args:
        folder: The model.
        data: The table.
        output: A file whose ending says its form.
        read_as: `source` and `params` of the study's own table: another one of that form is read alike.
        files: Where the model's blocks are read from, by their names: a folder of images, a file of sequences.
        usual_files: The same as it was in the study; else images are looked for in the folder of the table.
        edges: A table of the edges between these rows, for a model that learned of neighbours.

    Raises:
        ConfigError: The ending of `output` is none that can be written, or `files` names what is no block.
        DataError: The table cannot be read, or lacks columns.
        RefusedError: The model folder is not what its manifest says.
        ResourceError: The output cannot be written.
    """
    if output.suffix not in _WRITERS:
        raise ConfigError(
            f"found `{output.name}`; allowed endings: {', '.join(_WRITERS)}",
            where="--output",
        )
    if not output.parent.is_dir():  # told before the work, not after it
        raise ConfigError(f"there is no folder `{output.parent}`", where="--output", remedy="Make it first.")
    predictor = Predictor.load(folder)
    if predictor.input_shape is not None:
        return _predict_array(predictor, data, output)
    source, params = sources.infer(data)
    if read_as is not None and read_as["source"] == source:
        params = {**read_as["params"], **params}
    schema = predictor.schema
    places = _places(schema, data, files or {}, usual_files or {})
    if edges is not None and schema.neighbours is None:
        raise ConfigError("the model has learned of no neighbours", where="--edges", remedy="Leave it out.")
    if schema.forecast is not None or schema.neighbours is not None:
        # Neither a series nor a graph can be cut into parts.
        between = None if edges is None else sources.read(*sources.infer(edges), Path.cwd())
        predicted = predictor.predict(sources.read(source, params, Path.cwd()), places, edges=between)
        with _new(output) as write:
            write(predicted)
        alone = schema.neighbours is not None and edges is None
        note = "no edges were named (`--edges`): each row was predicted as one without neighbours"
        return Predicted(len(predicted), (note,) if alone else ())
    how = next((b.reading for b in schema.blocks if isinstance(b.reading, LongTable) and b.reading.folded), None)
    named = [sources.IMAGE] if source == "folder" else []
    n_rows = 0
    with ExitStack() as opened:
        frames: Iterable[pd.DataFrame]
        if how is None:
            read = parts.read(source, params, Path.cwd(), schema, predictor.chunk_rows)
            frames = opened.enter_context(closing(read))
        else:
            table, found = sequences.fold(sources.read(source, params, Path.cwd()), how, schema.names())
            places |= {block.name: found for block in schema.read_by(how.key) if block.reading == how}
            frames, named = [table], [how.key]
        write = opened.enter_context(_new(output))
        conforming = Conforming(schema, places)
        for frame in frames:
            n_rows += len(frame)
            features = conforming.take(frame)
            if features is not None:  # after a problem the rest is read to tell of all problems, and not predicted
                write(pd.concat([frame[named], predictor.predict_conformed(features)], axis=1))
        notes = conforming.end()
    usual = {} if data.is_dir() else {block.name: (usual_files or {}).get(block.name) for block in schema.read_blocks}
    where = tuple(
        f"`{name}` was read from {place}, as in the study"
        for name, place in usual.items()
        if place is not None and name not in (files or {})
    )
    return Predicted(n_rows, (*where, *notes))


def _places(
    schema: Schema, data: Path, files: Mapping[str, Path], usual_files: Mapping[str, Path]
) -> dict[str, blocks.Place]:
    """Returns where the blocks that are read come from; arguments as of `predict_file`.

    Raises:
        ConfigError: There is no such block, folder or file.
        DataError: A file of sequences cannot be read.
    """
    known = [block.name for block in schema.read_blocks]
    for name, place in files.items():
        if name not in known:
            remedy = did_you_mean(name, known) if known else "The model reads a table and nothing else."
            raise ConfigError(f"the model reads no block `{name}` from files", where="--files", remedy=remedy)
        if not place.exists():
            raise ConfigError(f"there is no {place}", where="--files")
    places: dict[str, blocks.Place] = {}
    for block in schema.read_blocks:
        name = block.name
        if block.kind is ColumnKind.IMAGE:
            usual = data if data.is_dir() else usual_files.get(name, data.parent)
            places[name] = files.get(name, usual)
        elif isinstance(block.reading, LongTable) and (file := files.get(name, usual_files.get(name))) is not None:
            places[name] = blocks.readings(file, block.reading)
    return places


def _predict_array(predictor: Predictor, data: Path, output: Path) -> Predicted:
    """Does what `predict_file` does, for a LightningModule that reads no table."""
    try:
        rows = np.load(data, allow_pickle=False, mmap_mode="r")
        if not isinstance(rows, np.ndarray) or not rows.ndim:
            raise ValueError("it holds no rows")
    except FileNotFoundError:
        raise DataError("there is no such file", where=str(data)) from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(
            "is no array that numpy.save wrote",
            where=str(data),
            remedy="The model reads no table: save rows as `x` of a batch holds them.",
        ) from error
    with _new(output) as write:
        for start in range(0, len(rows), CHUNK_ROWS):
            write(predictor.predict_array(np.asarray(rows[start : start + CHUNK_ROWS])))
    return Predicted(len(rows), ())


def prove(folder: Path) -> dict[str, Any]:
    """Returns the digest and number of files of a model folder that is intact, loads and predicts a made-up row.

    Raises:
        RefusedError: It is not what its manifest says, or holds what is not loaded.
    """
    digest = model_folder.verify(folder)
    predictor = Predictor.load(folder)
    if predictor.says_nothing:  # it loads, which is all that can be proved of it
        pass
    elif predictor.input_shape is None:
        predictor.predict(pd.DataFrame(blocks.example(predictor.schema)))
    elif predictor.input_shape:
        predictor.predict_array(np.zeros((1, *predictor.input_shape), dtype=np.float32))
    files = json.loads((folder / manifest.NAME).read_text(encoding="utf-8"))["files"]
    return {"digest": digest, "files": len(files), "members": len(predictor.members)}


@contextmanager
def _new(output: Path) -> Iterator[Write]:
    """Yields what appends rows to a file that appears under its name when all is written, and not after an error."""
    temporary = output.with_name(f".{output.name}.new")
    try:
        with _WRITERS[output.suffix](temporary) as write:
            yield write
        os.replace(temporary, output)
    except OSError as error:
        raise ResourceError(f"cannot be written: {error.strerror or error}", where=str(output)) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _parquet(file: Path) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None

    def write(predictions: pd.DataFrame) -> None:
        nonlocal writer
        table = pa.Table.from_pandas(predictions, preserve_index=False)
        if writer is None:
            writer = pq.ParquetWriter(file, table.schema)
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _csv(file: Path) -> Iterator[Write]:
    with file.open("w", encoding="utf-8", newline="") as opened:
        yield lambda predictions: without_formulas(predictions).to_csv(opened, index=False, header=opened.tell() == 0)


def without_formulas(table: pd.DataFrame) -> pd.DataFrame:
    """Returns a table whose words no spreadsheet takes for a formula: those that begin like one get a `'` before.

    As the Open Worldwide Application Security Project advises against CSV injection; numbers stay as they are.
    """
    changed = {}
    for name in table.columns:
        words = table[name]
        if not pd.api.types.is_string_dtype(words):
            continue
        begins = words.str.match(r"[=+\-@\t\r]", na=False) & pd.to_numeric(words, errors="coerce").isna()
        if begins.any():
            changed[name] = words.where(~begins, "'" + words)
    return table.assign(**changed)


@contextmanager
def _json(file: Path) -> Iterator[Write]:
    with file.open("w", encoding="utf-8") as opened:

        def write(predictions: pd.DataFrame) -> None:
            opened.write("," if opened.tell() else "[")
            opened.write(predictions.to_json(orient="records", force_ascii=False)[1:-1])

        yield write
        opened.write("]")


_WRITERS = {".parquet": _parquet, ".csv": _csv, ".json": _json}
