from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from automl.data import parts, sources
from automl.data.dataset import Conforming, conform
from automl.errors import DataError
from automl.values import Column, ColumnKind, Schema, Target, Task

LARGE = 2**53 + 1

#: What a column holds in rows 1 to 3, in rows 4 to 6 and in the last row, as it stands in a file: a type that is
#: guessed from three rows is not that of all seven.
WORDS = {
    "whole": (["1", "2", "3"], ["4", "5", "6"], ["7"]),
    "zeros": (["007", "08", "9"], ["1", "2", "3"], ["4"]),
    "zeros_and_words": (["007", "08", "9"], ["x", "1", "2"], ["3"]),
    "words_at_last": (["1.0", "02", "3e2"], ["1", "2", "3"], ["x"]),
    "fractions": (["1", "2", "3"], ["1.0", "2.5", "3"], ["4"]),
    "holes": (["1", "2", "3"], ["", "5", "6"], ["7"]),
    "large": ([str(LARGE), "2", "3"], ["4", "5", "6"], ["7"]),
    "large_with_holes": ([str(LARGE), "2", "3"], ["", "5", "6"], [""]),
    "larger": ([str(2**63), "2", "3"], ["4", "05", "6"], ["7"]),
    "truth": (["True", "False", "True"], ["1", "0", "1"], ["0"]),
    "truth_with_holes": (["True", "False", "True"], ["", "", ""], ["True"]),
    "empty_then_words": (["", "", ""], ["a", "", "b"], ["NA"]),
    "empty_then_numbers": (["", "", ""], ["1", "", "02"], ["3"]),
    "empty": (["", "", ""], ["", "", ""], [""]),
}
NUMBERS = {
    "amount": (["1", "2", "3"], ["4.5", "", "6"], ["1e3"]),
    "count": (["1", "2", "3"], ["4", "5", "6"], ["7"]),
    "infinite": (["1", "inf", "3"], ["4", "5", "-inf"], [""]),
}
DATES = {"when": (["2026-01-31", "", "2026-02-01"], ["2026-01-31T12:00:00Z", "", ""], ["2020-02-29"])}
KINDS = {
    **dict.fromkeys(WORDS, ColumnKind.CATEGORICAL),
    **dict.fromkeys(NUMBERS, ColumnKind.NUMERIC),
    **dict.fromkeys(DATES, ColumnKind.DATETIME),
}
CELLS = {name: [cell for part in given for cell in part] for name, given in {**WORDS, **NUMBERS, **DATES}.items()}

#: The same for files that keep types.
VALUES: dict[str, list[Any]] = {
    "whole": [1, 2, 3, 4, 5, 6, 7],
    "holes": [1, 2, 3, None, 5, 6, 7],
    "large": [LARGE, 2, 3, 4, 5, 6, 7],
    "large_with_holes": [LARGE, 2, 3, None, 5, 6, 7],
    "fractions": [1.0, 2.0, 3.0, 1.5, None, 2.0, 4.0],
    "truth": [True, False, True, True, None, False, True],
    "words": ["a", "b", None, None, None, None, "007"],
    "empty": [None] * 7,
}
#: What only JSON has: columns of several types.
MIXED: dict[str, list[Any]] = {
    "words_at_last": [1, 2, 3, 4, 5, 6, "x"],
    "large_among_words": [LARGE, 2.5, 3, 4, None, 6, "x"],
    "truth_and_numbers": [True, False, True, 1, 0, 2.5, 3],
    "fractions_at_last": [1, LARGE, 3, 4, 5, 6, 7.5],
}


def schema(kinds: dict[str, ColumnKind]) -> Schema:
    return Schema(tuple(Column(name, kind, "") for name, kind in kinds.items()), Target("y", Task.BINARY, ("a", "b")))


def same_in_parts(path: Path, of: Schema, n_rows: int = 3) -> int:
    """Checks that a file comes to the same in parts as whole; returns the number of parts."""
    source, params = sources.infer(path)
    expected, notes = conform(sources.read(source, params, path.parent), of)
    conforming = Conforming(of)
    frames = list(parts.read(source, params, path.parent, of, n_rows))
    found = pd.concat([conforming.take(frame) for frame in frames], ignore_index=True)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert conforming.end() == notes
    return len(frames)


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize("name", CELLS)
def test_a_csv_comes_to_the_same_whatever_a_part_holds(name: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"table.{ending}"
    pd.DataFrame({"other": "x", name: CELLS[name]}, dtype="str").to_csv(path, index=False)
    for n_rows in (1, 2, 3, 6, 7, 100):
        n_parts = same_in_parts(path, schema({name: KINDS[name]}), n_rows)
        assert n_parts == -(-7 // n_rows)


def test_a_csv_of_many_columns(tmp_path: Path) -> None:
    pd.DataFrame(CELLS, dtype="str").to_csv(tmp_path / "table.csv", index=False)
    same_in_parts(tmp_path / "table.csv", schema(KINDS))


@pytest.mark.parametrize("name", [*VALUES, *MIXED])
def test_json_lines_come_to_the_same_whatever_a_part_holds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "table.jsonl"
    given = {**VALUES, **MIXED}[name]
    for absent in (True, False):  # a value that is missing may be null or not be there
        records = [{"other": 1, name: value} if value is not None or not absent else {"other": 1} for value in given]
        if absent:
            records[0]["first_only"] = 1
        path.write_text("\n\n".join(json.dumps(record) for record in records))
        if any(name in record for record in records):
            for n_rows in (1, 3, 7):
                same_in_parts(path, schema({name: ColumnKind.CATEGORICAL}), n_rows)


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("rows_a_group", [1, 2, 7])
def test_parquet_and_arrow_come_to_the_same_whatever_a_part_holds(name: str, rows_a_group: int, tmp_path: Path) -> None:
    table = pa.table({"other": list(range(7)), name: VALUES[name]})
    pq.write_table(table, tmp_path / "table.parquet", row_group_size=rows_a_group)
    for ending, new in (("arrow", pa.ipc.new_file), ("feather", pa.ipc.new_stream)):
        with new(str(tmp_path / f"table.{ending}"), table.schema) as writer:
            writer.write_table(table, max_chunksize=rows_a_group)
    for ending in ("parquet", "arrow", "feather"):
        assert same_in_parts(tmp_path / f"table.{ending}", schema({name: ColumnKind.CATEGORICAL})) >= 3


def test_a_folder_of_parquet_files(tmp_path: Path) -> None:
    of = schema({"large_with_holes": ColumnKind.CATEGORICAL})
    for number, rows in enumerate((slice(3), slice(3, 7))):
        pq.write_table(pa.table({"large_with_holes": pa.array(VALUES["large_with_holes"][rows], pa.int64())}),
                       tmp_path / f"{number}.parquet")  # fmt: skip
    assert same_in_parts(tmp_path, of) == 3
    (tmp_path / "part=1").mkdir()
    (tmp_path / "0.parquet").rename(tmp_path / "part=1" / "0.parquet")
    assert same_in_parts(tmp_path, schema({**dict.fromkeys(["large_with_holes", "part"], ColumnKind.CATEGORICAL)})) == 3


@pytest.mark.parametrize("name", [None, "row"])
def test_an_index_that_pandas_has_stored(name: str | None, tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": range(7)})
    for number, index in enumerate((pd.RangeIndex(10, 17, name=name), pd.Index(list("gfedcba"), name=name))):
        path = tmp_path / f"{number}.parquet"
        frame.set_axis(index).to_parquet(path)
        same_in_parts(path, schema({name or "a": ColumnKind.CATEGORICAL}))


def test_categories(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": pd.Categorical(["x", "y", "x", "z", None, "y", "x"])})
    frame.to_parquet(tmp_path / "table.parquet")
    frame.to_feather(tmp_path / "table.feather")
    for ending in ("parquet", "feather"):
        same_in_parts(tmp_path / f"table.{ending}", schema({"a": ColumnKind.CATEGORICAL}))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "arrow"])
def test_what_cannot_be_read_is_told_as_ever(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"table.{ending}"
    for content in (None, b"", b"\xff\xfe\x00 no such thing\n\x00", b"a,a\n1,2\n", b"a,b\n"):
        if content is not None:
            path.write_bytes(content)
        source, params = sources.infer(path)
        with pytest.raises(DataError) as whole:
            sources.read(source, params, tmp_path)
        with pytest.raises(DataError) as cut:
            list(parts.read(source, params, tmp_path, schema({"a": ColumnKind.NUMERIC}), 2))
        assert str(cut.value) == str(whole.value)


def test_a_table_without_rows(tmp_path: Path) -> None:
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(DataError, match="0 rows"):
        list(parts.read("parquet", {"path": "table.parquet"}, tmp_path, schema({"a": ColumnKind.NUMERIC}), 2))


def test_other_sources_are_one_part(tmp_path: Path) -> None:
    frames = list(parts.read("sklearn", {"name": "iris"}, tmp_path, schema({}), 7))
    assert [len(frame) for frame in frames] == [150]
