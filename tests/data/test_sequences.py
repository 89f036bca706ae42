"""What becomes of a table with a row a step, and what is said when it cannot be a set of sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.array_column import unpack
from automl.data.sequences import Readings, SequenceReader, fold, gather, measure, spelled
from automl.errors import DataError
from automl.values import Block, ColumnKind, LongTable

HOW = LongTable("patient", "t", ("hr", "bp"))


def long(lengths: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Returns the steps of some patients in any order; `hr` counts the steps, `bp` is ten times as much."""
    rows = [
        {"patient": name, "t": step, "hr": step, "bp": 10.0 * step} for name, n in lengths.items() for step in range(n)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=seed, ignore_index=True)


def block(n_steps: int, **how: Any) -> Block:
    return Block("pulse", ColumnKind.SEQUENCE, (), (2, n_steps), LongTable("patient", "t", ("hr", "bp"), **how))


def read(reader: SequenceReader, *cells: object) -> np.ndarray:
    return unpack(reader.take(pd.Series(cells, dtype=object)), reader._block)


def told(reader: SequenceReader) -> str:
    return "\n".join(map(str, reader.problems()))


def test_steps_are_put_in_the_order_of_time() -> None:
    found = gather(long({"a": 3, "b": 5}), HOW, "f")
    first, last = found.places["b"]
    np.testing.assert_array_equal(found.values[first:last].T, [range(5), range(0, 50, 10)])
    dated = long({"a": 3}).assign(t=lambda frame: pd.Timestamp("2026-01-01") + pd.to_timedelta(frame["t"], unit="D"))
    spelled_out = dated.assign(t=dated["t"].astype(str))
    for table in (dated, spelled_out):
        np.testing.assert_array_equal(gather(table, HOW, "f").values[:, 0], range(3))
    as_they_come = gather(long({"a": 3}).sort_values("t", ascending=False), LongTable("patient", None, ("hr",)), "f")
    np.testing.assert_array_equal(as_they_come.values[:, 0], [2, 1, 0])


def test_shorter_ones_end_with_gaps_and_longer_ones_are_cut() -> None:
    readings = gather(long({"a": 2, "b": 5}), HOW, "f")
    reader = SequenceReader(block(3), readings)
    found = read(reader, "b", "a", None)
    np.testing.assert_array_equal(found[0, 0], [2, 3, 4])
    np.testing.assert_array_equal(found[1, 1], [0, 10, np.nan])
    assert np.isnan(found[2]).all()
    assert list(reader.notes()) == ["`patient`: of 1 sequences of more than 3 steps, the last are used."]
    np.testing.assert_array_equal(read(SequenceReader(block(3, keep="first"), readings), "b")[0, 0], [0, 1, 2])


def test_ids_are_the_same_in_whichever_type_they_stand() -> None:
    table = long({"1": 2, "2": 3}).astype({"patient": int})
    reader = SequenceReader(block(3), gather(table, HOW, "f"))
    assert not np.isnan(read(reader, 1, 2.0, "2")[:, :, 0]).any()
    assert told(reader) == ""


def test_a_length_is_that_of_nearly_all() -> None:
    readings = gather(long({f"p{n}": 5 for n in range(30)} | {"long": 90}), HOW, "f")
    assert measure(readings, pd.Series([f"p{n}" for n in range(30)] + ["long"], name="patient")) == 5
    assert measure(readings, pd.Series(["long"], name="patient")) == 90
    single = gather(long(dict.fromkeys("abc", 1) | {"d": 9}), HOW, "f")
    with pytest.raises(DataError, match="`patient`: 3 of 4 ids have one row only, which is no sequence"):
        measure(single, pd.Series(list("abcd"), name="patient"))


def test_everything_that_is_wrong_with_the_columns_is_told() -> None:
    table = long({"a": 3, "b": 3}).astype({"t": object, "hr": object})
    table.loc[1, ["t", "hr"]] = ["noon", "fast"]
    table.loc[2, "patient"] = None
    with pytest.raises(DataError) as caught:
        gather(table, HOW, "pulse.csv")
    for sentence in (
        "pulse.csv: `patient`: 1 of 6 rows have no id, the first is row 3",
        "pulse.csv: `t`: 1 of the values cannot be read as numbers or dates; the first is `noon` in row 2",
        "pulse.csv: `hr`: 1 of the values cannot be read as numbers; the first is `fast` in row 2",
    ):
        assert sentence in str(caught.value)
    with pytest.raises(DataError, match="there is no column `patient`"):
        gather(long({"a": 2}).rename(columns={"patient": "patients"}), HOW, "pulse.csv")


def test_ids_without_a_row_are_told_or_allowed() -> None:
    readings = gather(long({"a": 1, "b": 3}), HOW, "f")
    reader = SequenceReader(block(3), readings)
    read(reader, "a", "c", "b", "d")
    assert "`patient`: 2 of 4 ids have no row among the readings: `c` (row 2), `d` (row 4)" in told(reader)
    assert "`missing_ids: 0.5`" in told(reader)
    reader = SequenceReader(block(3, missing_ids=0.5), readings)
    read(reader, "a", "c")
    assert told(reader) == ""
    notes = list(reader.notes())
    assert notes[0] == "`patient`: 1 ids have no readings, and no sequence: `c` (row 2)."
    assert notes[1] == "`patient`: 1 sequences have one step only."


def test_the_same_moment_twice_is_told() -> None:
    table = long({"a": 2, "b": 3}).sort_values("patient", ignore_index=True)
    table["t"] = [5, 5, 1, 2, 1]
    reader = SequenceReader(block(3), gather(table, HOW, "f"))
    read(reader, "a", "b")
    assert list(reader.notes()) == [
        "`patient`: 2 rows have the `t` of an earlier one of the same id; they count as steps after it."
    ]


def test_a_cell_may_hold_the_sequence_itself() -> None:
    reader = SequenceReader(block(3), None)
    sequence = np.array([[1.5, np.nan, np.nan], [0.1, 2, np.nan]], np.float32)
    both = spelled({"pulse": sequence, "other": sequence})
    found = read(
        reader,
        spelled({"pulse": sequence}),
        both,
        [[1], [2]],
        "[[1, 2]]",
        "[[1], [2, 3]]",
        "[oh",
        "a",
        f"[[{'9' * 400}], [1]]",
    )
    np.testing.assert_array_equal(found[0], sequence)
    np.testing.assert_array_equal(found[1], sequence)
    np.testing.assert_array_equal(found[2, :, 0], [1, 2])
    assert "1 of 8 rows have an id, and there are no readings to look in: `a` (row 7)" in told(reader)
    assert "4 of 8 cells cannot be read as sequences: `[[1, 2]]` (row 4)" in told(reader)


def test_a_table_with_a_row_a_step_becomes_one_row_an_id() -> None:
    table = long({"b": 3, "a": 2}).assign(ward="north", y=lambda frame: frame["patient"].map({"a": 1, "b": 0}))
    table.loc[table["t"] > 0, "y"] = None  # said once is enough
    folded, readings = fold(table, HOW)
    assert list(folded.columns) == ["patient", "ward", "y"]
    assert dict(zip(folded["patient"], folded["y"], strict=True)) == {"a": 1, "b": 0}
    assert list(folded["patient"]) == list(table["patient"].unique())
    assert isinstance(readings, Readings)
    table.loc[table["t"] == 1, "ward"] = "south"
    with pytest.raises(DataError) as caught:
        fold(table.drop(columns="bp"), HOW)
    assert "`ward`: 2 of 2 ids have several values of it" in str(caught.value)
    assert "there is no column `bp`" in str(caught.value)
