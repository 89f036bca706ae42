"""What belongs together: the columns that are the pixels of an image, the file or the id that a column names."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from automl.array_column import unpack
from automl.data import images, sequences, sources
from automl.data.images import MODES, ImageReader
from automl.data.sequences import Readings, SequenceReader
from automl.errors import ConfigError, DataError, Problem, did_you_mean
from automl.values import Block, ColumnKind, ImageFiles, LongTable, Scalar, Schema

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Axes of a shape, by the kind of a block.
AXES = {"image": "channels, height, width", "sequence": "channels, steps", "baseline": "level and scale"}

#: Names that the columns which belong to no block have.
TAKEN = ("numeric", "categorical")

#: Columns of a block that a sentence names.
MAX_SHOWN = 3

#: Where the blocks that are read come from, by their names: a folder of images, sequences by id.
Place = Path | Readings
Places = Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """What a study says of a block whose cells are columns.

    Attributes:
        columns: A pattern such as `p*`, whose columns are taken by the numbers in their names, or the names in
            row-major order of the shape.
        shape: Of one example, channels first.
        name: What networks call it; by default its kind.
    """

    kind: Literal["image", "sequence", "baseline"]
    columns: str | list[str]
    shape: list[int]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class ImageFilesLayout:
    """What a study says of images in files.

    Attributes:
        column: Holds their paths.
        root: The folder that paths start from.
        shape: In which they are read; None: what suits the files.
        resize, missing_files: As of `ImageFiles`.
    """

    column: str
    root: Path
    shape: list[int] | None = None
    resize: str = "stretch"
    missing_files: float = 0.0
    name: str | None = None
    kind: Literal["image"] = "image"


@dataclass(frozen=True, slots=True)
class LongLayout:
    """What a study says of sequences in a long table.

    Attributes:
        id, time, values: Its columns.
        file: The long table; None: the study's own.
        length: Steps in which sequences are read; None: what suits them.
        keep, missing_ids: As of `LongTable`.
        readings: What was found in the long table, where it is the study's own.
    """

    id: str
    time: str | None
    values: list[str]
    file: Path | None = None
    length: int | None = None
    keep: str = "last"
    missing_ids: float = 0.0
    name: str | None = None
    readings: Readings | None = None
    kind: Literal["sequence"] = "sequence"

    def long_table(self) -> LongTable:
        """Returns what a schema says of it."""
        folded = self.file is None
        return LongTable(self.id, self.time, tuple(self.values), self.keep, self.missing_ids, folded)


@dataclass(frozen=True, slots=True)
class ForecastLayout:
    """What a study says of a forecast.

    Attributes:
        time, horizon, series, known: As of `Forecast`.
        window: None: two seasons, or the horizon if that is longer.
        season: None: as the step suggests, such as 12 for months.
    """

    time: str
    horizon: int
    window: int | None = None
    season: int | None = None
    series: str | None = None
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NeighboursLayout:
    """What a study says of a graph between its rows.

    Attributes:
        file: A table of edges; its name's ending says how it is read.
        id: Column of the rows' names.
        start, end: Columns of the edges with the names of the rows at their ends.
        hops: How far neighbours are looked at.
    """

    file: str
    id: str
    start: str
    end: str
    hops: int = 1


Layout = BlockLayout | ImageFilesLayout | LongLayout


@dataclass(frozen=True, slots=True)
class Resolved:
    """The blocks of a table, where those that are read come from, and notes on what was inferred."""

    blocks: tuple[Block, ...] = ()
    places: Places = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def resolve(layouts: Sequence[Layout], rows: pd.DataFrame) -> Resolved:
    """Returns the blocks of a table, and where those that are read come from.

    Args:
        layouts: What the study says.
        rows: Columns that may be features, or a sample of their rows.

    Raises:
        DataError: With everything that does not fit the table.
    """
    blocks: list[Block] = []
    places: dict[str, Place] = {}
    notes: list[str] = []
    problems: list[Problem] = []
    taken: dict[str, str] = {}  # column -> the block that it belongs to
    for number, layout in enumerate(layouts):
        where = f"blocks.{number}"
        name = layout.name or _free_name(layout.kind, [block.name for block in blocks])
        problems += _problems_of_name(name, blocks, where)
        if not isinstance(layout, BlockLayout):
            try:
                block, place, said = _read_block(layout, name, rows, where)
            except DataError as error:
                problems += error.problems
                continue
            blocks.append(block)
            places[name] = place
            notes += said
            continue
        columns, found = _columns(layout, list(rows.columns))
        problems += [Problem(p.message, f"{where}.columns", p.remedy) for p in found]
        problems += _problems_of_shape(layout, columns, where)
        for column in (column for column in columns if column in taken):
            problems.append(
                Problem(
                    f"the column `{column}` is in the block `{taken[column]}` already",
                    f"{where}.columns",
                    "A column belongs to one block.",
                )
            )
            break
        taken |= dict.fromkeys(columns, name)
        blocks.append(Block(name, ColumnKind(layout.kind), tuple(columns), tuple(layout.shape)))
    for block in (block for block in blocks if block.reading is not None):
        assert block.reading is not None
        key = block.reading.key
        if key in taken:
            problems.append(
                Problem(f"the column `{key}` is in the block `{taken[key]}` already", "blocks", "Name a copy of it.")
            )
        if block.kind is ColumnKind.IMAGE:
            taken[key] = block.name
        if block.name in rows.columns and block.name != key:
            problems.append(
                Problem(f"the name `{block.name}` is that of a column", "blocks", "Give the block another `name`.")
            )
    if problems:
        raise DataError(problems)
    return Resolved(tuple(blocks), places, tuple(notes))


def folded(frame: pd.DataFrame, layouts: Sequence[Layout]) -> tuple[pd.DataFrame, list[Layout]]:
    """Returns a table that has a row a step as one row an id, and the layouts with the sequences in them.

    Raises:
        ConfigError: Two blocks are of the table's own steps, which are one sequence.
        DataError: With everything that is wrong with the columns of steps.
    """
    own = [layout for layout in layouts if isinstance(layout, LongLayout) and layout.file is None]
    if len(own) > 1:
        raise ConfigError(
            "two blocks have no `file`, and the study's own table can be folded once",
            where="blocks",
            remedy="Name all its channels in one block, or write the others to files of their own.",
        )
    if not own:
        return frame, list(layouts)
    frame, found = sequences.fold(frame, own[0].long_table())
    return frame, [replace(layout, readings=found) if layout is own[0] else layout for layout in layouts]


def files(layouts: Sequence[Layout]) -> dict[str, Path]:
    """Returns where the blocks that are read come from, by their names: a folder of images, a file of sequences."""
    names: list[str] = []
    for layout in layouts:
        names.append(layout.name or _free_name(layout.kind, names))
    places = [
        layout.root if isinstance(layout, ImageFilesLayout) else layout.file if isinstance(layout, LongLayout) else None
        for layout in layouts
    ]
    return {name: place for name, place in zip(names, places, strict=True) if place is not None}


def key_columns(layouts: Sequence[Layout]) -> list[str]:
    """Returns the columns whose cells say what is read."""
    return [b.column if isinstance(b, ImageFilesLayout) else b.id for b in layouts if not isinstance(b, BlockLayout)]


def kinds(blocks: Sequence[Block]) -> Mapping[str, ColumnKind]:
    """Returns what each column of the blocks is."""
    cells = {column: block.kind for block in blocks for column in block.columns}
    return cells | {block.reading.key: ColumnKind.KEY for block in blocks if block.reading is not None}


def reader(block: Block, place: Place | None) -> ImageReader | SequenceReader:
    """Returns what reads a block from the cells of its key column; None: only what the cells themselves hold."""
    if block.kind is ColumnKind.IMAGE:
        return ImageReader(block, place if isinstance(place, Path) else None)
    return SequenceReader(block, place if isinstance(place, Readings) else None)


def readings(file: Path, how: LongTable) -> Readings:
    """Returns the sequences of a long table in a file.

    Raises:
        DataError: It cannot be read, or its columns are not what they must be.
    """
    source, params = sources.infer(file)
    return sequences.gather(sources.read(source, params, Path.cwd()), how, str(file))


def spelled(features: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Returns canonical rows as they can be sent to a served model: what was read stands in the key column itself."""
    made = features.drop(columns=[block.name for block in schema.read_blocks])
    for key in schema.names(ColumnKind.KEY):
        blocks = schema.read_by(key)
        arrays = [zip(unpack(features[b.name], b), features[b.name].notna(), strict=True) for b in blocks]
        rows = zip(*arrays, strict=True)
        cells = [_cell({b: a for b, (a, there) in zip(blocks, row, strict=True) if there}) for row in rows]
        made[key] = np.array(cells, object)
    return made


def example(schema: Schema) -> list[dict[str, Scalar]]:
    """Returns made-up rows as they can be sent to a served model."""
    made = schema.example()
    for key in schema.names(ColumnKind.KEY):
        made[0][key] = _cell({block: np.zeros(block.shape, np.float32) for block in schema.read_by(key)})
    return made


def _cell(arrays: Mapping[Block, NDArray[np.float32]]) -> str | None:
    """Returns what stands in a key column for what blocks would read; None for nothing."""
    if any(block.kind is ColumnKind.IMAGE for block in arrays):
        ((_, image),) = arrays.items()  # no other block has its key
        return images.spelled(image.astype(np.uint8))
    return sequences.spelled({block.name: array for block, array in arrays.items()}) if arrays else None


def _read_block(
    layout: ImageFilesLayout | LongLayout, name: str, rows: pd.DataFrame, where: str
) -> tuple[Block, Place, list[str]]:
    """Returns a block that is read, where it comes from, and what was inferred of it."""
    key, field_name = (layout.column, "column") if isinstance(layout, ImageFilesLayout) else (layout.id, "id")
    if key not in rows.columns:
        raise DataError(
            f"there is no feature column `{key}`",
            where=f"{where}.{field_name}",
            remedy=did_you_mean(key, list(rows.columns)),
        )
    notes = []
    if isinstance(layout, ImageFilesLayout):
        if not layout.root.is_dir():
            raise DataError(
                f"there is no folder {layout.root}",
                where=f"{where}.root",
                remedy="Paths start from the study's folder.",
            )
        problems = list(_problems_of_image_shape(layout.shape, where))
        if problems:
            raise DataError(problems)
        shape: tuple[int, ...] = tuple(layout.shape or images.measure(rows[key], layout.root))
        if layout.shape is None:
            told = " x ".join(map(str, shape))
            notes.append(f"`{key}`: images are read as {told} (channels, height, width); `shape` says otherwise.")
        reading = ImageFiles(key, layout.resize, layout.missing_files)
        return Block(name, ColumnKind.IMAGE, (), shape, reading), layout.root, notes
    how = layout.long_table()
    found = layout.readings
    if found is None:
        assert layout.file is not None  # that of a study itself was folded
        found = readings(layout.file, how)
    n_steps = layout.length or sequences.measure(found, rows[key])
    if layout.length is None:
        notes.append(f"`{key}`: sequences are read in {n_steps} steps; `length` says otherwise.")
    return Block(name, ColumnKind.SEQUENCE, (), (len(how.values), n_steps), how), found, notes


def _columns(layout: BlockLayout, names: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Returns the columns of a block, and what is wrong with how they are named."""
    if isinstance(layout.columns, str):
        found = sorted(fnmatch.filter(names, layout.columns), key=_natural)
        if found:
            return found, []
        remedy = f"Features are {', '.join(f'`{name}`' for name in names[:MAX_SHOWN])} and others."
        return [], [Problem(f"no feature column matches `{layout.columns}`", remedy=remedy)]
    unknown = [name for name in layout.columns if name not in set(names)]
    return layout.columns, [
        Problem(f"there is no feature column `{name}`", remedy=did_you_mean(name, list(names)))
        for name in unknown[:MAX_SHOWN]
    ]


def _problems_of_name(name: str, blocks: Sequence[Block], where: str) -> Iterator[Problem]:
    if not re.fullmatch(r"[A-Za-z]\w*", name):
        yield Problem(f"found `{name}`", f"{where}.name", "Allowed: letters, digits and `_`, a letter first.")
    if name in TAKEN or name in [block.name for block in blocks]:
        yield Problem(f"the name `{name}` is taken", f"{where}.name", "Give the block another one.")


def _problems_of_shape(layout: BlockLayout, columns: Sequence[str], where: str) -> Iterator[Problem]:
    axes = AXES[layout.kind]
    if len(layout.shape) != len(axes.split(", ")) or any(size < 1 for size in layout.shape):
        yield Problem(
            f"found {layout.shape}; allowed for {layout.kind} blocks: whole numbers above 0 for {axes}",
            f"{where}.shape",
            "Write `[1, 28, 28]` for grey images of 28 x 28." if layout.kind == "image" else "",
        )
    elif columns and math.prod(layout.shape) != len(columns):
        product = " x ".join(map(str, layout.shape))
        yield Problem(
            f"{product} are {math.prod(layout.shape):,} cells, and `{layout.columns}` are {len(columns):,} columns"
            if isinstance(layout.columns, str)
            else f"{product} are {math.prod(layout.shape):,} cells, and there are {len(columns):,} columns",
            f"{where}.shape",
            "Correct the shape, or name the columns more narrowly.",
        )


def _problems_of_image_shape(shape: Sequence[int] | None, where: str) -> Iterator[Problem]:
    if shape is not None and (len(shape) != 3 or shape[0] not in MODES or min(shape) < 1):
        yield Problem(
            f"found {list(shape)}; allowed: channels (1, 3 or 4), height, width",
            f"{where}.shape",
            "Write `[3, 64, 64]` for coloured images of 64 x 64.",
        )


def _free_name(kind: str, taken: Sequence[str]) -> str:
    """Returns the kind, or with a number the first name that is free: several blocks of a kind are several views."""
    return next(name for name in (kind, *(f"{kind}_{n}" for n in range(2, 1000))) if name not in taken)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Returns what names are sorted by, so that `p10` comes after `p9`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]
