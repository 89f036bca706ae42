"""A column that holds an array a row is a column like any other: cut, hashed, stored, and the same afterwards."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.array_column import is_packed, pack, unpack
from automl.values import Block, ColumnKind, ImageFiles, LongTable

IMAGE = Block("photo", ColumnKind.IMAGE, (), (3, 2, 2), ImageFiles("photo"))
SEQUENCE = Block("pulse", ColumnKind.SEQUENCE, (), (2, 5), LongTable("id", None, ("a", "b")))


@pytest.mark.parametrize("block", [IMAGE, SEQUENCE], ids=lambda block: block.name)
@pytest.mark.parametrize("n_rows", [0, 1, 2500])
def test_what_is_packed_is_there_again(block: Block, n_rows: int) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (n_rows, *block.shape))
    missing = np.arange(n_rows) % 3 == 1
    column = pack(arrays, missing, block)
    assert is_packed(column, block)
    assert not is_packed(column.astype(object), block)
    expected = np.where(missing.reshape(-1, *[1] * len(block.shape)), np.nan, arrays)
    np.testing.assert_array_equal(unpack(column, block), expected)
    rows = np.arange(n_rows)[::-7]
    np.testing.assert_array_equal(unpack(column, block, rows), expected[rows])
    halves = pd.concat([column.iloc[: n_rows // 2], column.iloc[n_rows // 2 :]], ignore_index=True)
    np.testing.assert_array_equal(unpack(halves.iloc[1:], block), expected[1:])
    assert column.isna().tolist() == missing.tolist()


def test_equal_arrays_are_equal_cells() -> None:
    arrays = np.zeros((4, *IMAGE.shape), np.uint8)
    arrays[1] = 7
    column = pack(arrays, np.array([False, False, False, True]), IMAGE)
    hashes = pd.util.hash_pandas_object(column.to_frame(), index=False)
    assert (hashes[0] == hashes[2], hashes[0] == hashes[1], hashes[0] == hashes[3]) == (True, False, False)
