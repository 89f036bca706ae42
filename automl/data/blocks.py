"""Columns that belong together: which of a table's columns are the pixels of an image or the steps of a sequence."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from automl.errors import DataError, Problem, did_you_mean
from automl.values import Block, ColumnKind

#: Axes of a shape, by the kind of a block.
AXES = {"image": "channels, height, width", "sequence": "channels, steps"}

#: Names that the columns which belong to no block have.
TAKEN = ("numeric", "categorical")

#: Columns of a block that a sentence names.
MAX_SHOWN = 3


@dataclass(frozen=True, slots=True)
class BlockLayout:
    """What a study says of a block.

    Attributes:
        columns: A pattern such as `p*`, whose columns are taken by the numbers in their names, or the names in
            row-major order of the shape.
        shape: Of one example, channels first.
        name: What networks call it; by default its kind.
    """

    kind: Literal["image", "sequence"]
    columns: str | list[str]
    shape: list[int]
    name: str | None = None


def resolve(layouts: Sequence[BlockLayout], names: Sequence[str]) -> tuple[Block, ...]:
    """Returns the blocks of a table.

    Args:
        layouts: What the study says.
        names: Columns that may be features.

    Raises:
        DataError: With everything that does not fit the table.
    """
    blocks: list[Block] = []
    problems: list[Problem] = []
    taken: dict[str, str] = {}  # column -> its block
    for number, layout in enumerate(layouts):
        where = f"blocks.{number}"
        columns, found = _columns(layout, names)
        problems += [Problem(p.message, f"{where}.columns", p.remedy) for p in found]
        name = layout.name or _free_name(layout.kind, [block.name for block in blocks])
        problems += _problems_of_name(name, blocks, where)
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
    if problems:
        raise DataError(problems)
    return tuple(blocks)


def kinds(blocks: Sequence[Block]) -> Mapping[str, ColumnKind]:
    """Returns what each column of the blocks is."""
    return {column: block.kind for block in blocks for column in block.columns}


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


def _free_name(kind: str, taken: Sequence[str]) -> str:
    """Returns the kind, or with a number the first name that is free: several blocks of a kind are several views."""
    return next(name for name in (kind, *(f"{kind}_{n}" for n in range(2, 1000))) if name not in taken)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Returns what names are sorted by, so that `p10` comes after `p9`."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name)]
