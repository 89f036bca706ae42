"""One column of a table that holds an array a row: an image or a sequence as the bytes of its numbers.

A column for each pixel would be thousands of them. Such a column is Arrow's binary of a fixed size, so that a table
with it is cut, stored, mapped into memory and hashed like any other, and numpy points into it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from automl.values import Block, ColumnKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa
    from numpy.typing import NDArray

#: Numbers of a cell, by the kind of its block.
DTYPES: dict[ColumnKind, Any] = {ColumnKind.IMAGE: np.uint8, ColumnKind.SEQUENCE: np.float32}

#: Rows that are made numbers at a time, so that no second copy of all of them is made on the way.
ROWS = 1024


def pack(arrays: NDArray[Any], missing: NDArray[np.bool_], block: Block) -> pd.Series[Any]:
    """Returns arrays as a column named as the block; missing ones as missing cells.

    Args:
        arrays: (rows, *shape), of the dtype of the block's kind.
        missing: (rows,).
    """
    import pyarrow as pa

    given = np.ascontiguousarray(arrays, DTYPES[block.kind])
    there = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes()) if missing.any() else None
    made = pa.FixedSizeBinaryArray.from_buffers(_type(block), len(given), [there, pa.py_buffer(given)])
    return pd.Series(made, dtype=pd.ArrowDtype(_type(block)), name=block.name)


def is_packed(column: pd.Series[Any], block: Block) -> bool:
    """Returns whether a column is what `pack` makes for a block."""
    return bool(column.dtype == pd.ArrowDtype(_type(block)))


def unpack(column: pd.Series[Any], block: Block, rows: NDArray[np.int64] | None = None) -> NDArray[np.float32]:
    """Returns the arrays of a packed column, missing ones as NaN; (rows, *shape).

    Args:
        rows: Positions of the rows wanted, in this order; None: all.
    """
    n_rows = len(column) if rows is None else len(rows)
    made = np.empty((n_rows, *block.shape), np.float32)
    for first in range(0, n_rows, ROWS):
        some = slice(first, first + ROWS)
        cells = column.iloc[some if rows is None else rows[some]]
        position = first
        for chunk in _chunks(cells):
            made[position : position + len(chunk)] = _view(chunk, block)
            position += len(chunk)
        made[some][cells.isna().to_numpy()] = np.nan
    return made


def is_packed_type(kind: pa.DataType | None) -> bool:
    """Returns whether an Arrow type is that of a packed column; None is that of none."""
    import pyarrow as pa

    return kind is not None and bool(pa.types.is_fixed_size_binary(kind))


def _type(block: Block) -> pa.DataType:
    import pyarrow as pa

    return pa.binary(math.prod(block.shape) * np.dtype(DTYPES[block.kind]).itemsize)


def _chunks(column: pd.Series[Any]) -> Iterator[Any]:
    import pyarrow as pa

    found = pa.array(column)
    yield from found.chunks if isinstance(found, pa.ChunkedArray) else [found]


def _view(chunk: Any, block: Block) -> NDArray[Any]:
    """Returns a piece of a packed column, where it is; (rows, *shape)."""
    dtype, width = DTYPES[block.kind], math.prod(block.shape)
    buffer = chunk.buffers()[1]
    if buffer is None:  # no row, or none that is there
        return np.zeros((len(chunk), *block.shape), dtype)
    whole = np.frombuffer(buffer, dtype, len(chunk) * width, chunk.offset * width * np.dtype(dtype).itemsize)
    return whole.reshape(-1, *block.shape)
