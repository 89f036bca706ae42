from __future__ import annotations

import gzip
import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from automl.components import catalogue
from automl.data import parts
from automl.data.sources import describe, infer, read
from automl.errors import AutomlError, ConfigError, DataError

FRAME = pd.DataFrame({"age": [41, 35, 28], "city": ["Bern", "Genève", None], "score": [0.5, np.nan, 2.0]})


def message(error: type[AutomlError], source: str, params: dict[str, object], base: Path) -> str:
    with pytest.raises(error) as caught:
        read(source, params, base)
    return str(caught.value)


def csv_message(text: str | bytes, base: Path, **params: object) -> str:
    data = text if isinstance(text, bytes) else text.encode()
    (base / "t.csv").write_bytes(data)
    return message(DataError, "csv", {"path": "t.csv", **params}, base)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("t.csv", lambda path: FRAME.to_csv(path, index=False)),
        ("t.csv.gz", lambda path: FRAME.to_csv(path, index=False)),
        ("t.tsv", lambda path: FRAME.to_csv(path, index=False, sep="\t")),
        ("t.parquet", lambda path: FRAME.to_parquet(path)),
        ("T.PQ", lambda path: FRAME.to_parquet(path)),
        ("t.arrow", lambda path: FRAME.to_feather(path)),
        ("t.feather", lambda path: FRAME.to_feather(path)),
        ("t.jsonl", lambda path: FRAME.to_json(path, orient="records", lines=True)),
        ("t.ndjson", lambda path: FRAME.to_json(path, orient="records", lines=True)),
    ],
)
def test_every_known_ending_is_read_as_the_same_table(name, write, tmp_path):
    write(tmp_path / name)
    source, params = infer(Path(name))
    pd.testing.assert_frame_equal(read(source, params, tmp_path), FRAME)


def test_an_unknown_ending_is_told_with_the_known_ones():
    with pytest.raises(
        DataError, match=r"t\.xlsx: the ending `\.xlsx` does not tell.*\.csv\.gz.*\.ndjson.*data\.source"
    ):
        infer(Path("t.xlsx"))
    with pytest.raises(DataError, match="table: there is no such file or folder"):
        infer(Path("table"))


def test_a_parquet_folder_is_one_table(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    FRAME[:1].to_parquet(folder / "a.parquet")
    FRAME[1:].to_parquet(folder / "b.parquet")
    assert infer(folder) == ("parquet", {"path": str(folder)})
    pd.testing.assert_frame_equal(read("parquet", {"path": "parts"}, tmp_path), FRAME)


def test_a_parquet_folder_without_parquet_files(tmp_path):
    (tmp_path / "parts").mkdir()
    assert "parts: the folder holds no parquet files and no images." in message(
        DataError, "parquet", {"path": "parts"}, tmp_path
    )


def test_only_a_named_index_becomes_a_column(tmp_path):
    FRAME[FRAME.age < 40].to_parquet(tmp_path / "filtered.parquet")
    FRAME.set_index("age").to_parquet(tmp_path / "named.parquet")
    assert list(read("parquet", {"path": "filtered.parquet"}, tmp_path).index) == [0, 1]
    pd.testing.assert_frame_equal(read("parquet", {"path": "named.parquet"}, tmp_path), FRAME)


@pytest.mark.parametrize("source", ["csv", "parquet", "arrow", "jsonl"])
class TestFiles:
    def test_missing_names_the_nearest(self, source, tmp_path):
        (tmp_path / "churn.dat").write_text("x")
        text = message(DataError, source, {"path": "chrun.dat"}, tmp_path)
        assert text == f"{tmp_path}/chrun.dat: there is no such file. Did you mean `churn.dat`?"

    def test_missing_folder(self, source, tmp_path):
        assert f"{tmp_path}/data: there is no such folder" in message(DataError, source, {"path": "data/x"}, tmp_path)

    def test_empty(self, source, tmp_path):
        (tmp_path / "x").touch()
        assert message(DataError, source, {"path": "x"}, tmp_path) == f"{tmp_path}/x: the file is empty."

    def test_folder(self, source, tmp_path):
        (tmp_path / "x").mkdir()
        expected = "holds no parquet files" if source == "parquet" else "this is a folder, and a file is expected"
        assert expected in message(DataError, source, {"path": "x"}, tmp_path)

    def test_broken(self, source, tmp_path):
        (tmp_path / "x").write_bytes(b"\xff\xfe\x00garbage\n1,2,3\n")
        assert str(tmp_path / "x") in message(DataError, source, {"path": "x"}, tmp_path)

    def test_unreadable(self, source, tmp_path, monkeypatch):
        (tmp_path / "x").write_text("a\n1\n")
        monkeypatch.setattr(
            "automl.data.sources.existing_file", lambda *_: _raise(PermissionError(13, "Permission denied"))
        )
        text = message(DataError, source, {"path": "x"}, tmp_path)
        assert text.startswith(f"{source} x: cannot be read: Permission denied. Check that")


def _raise(error: Exception) -> None:
    raise error


class TestCsv:
    def test_excel_dialect(self, tmp_path):
        (tmp_path / "t.csv").write_bytes("\ufeffPreis;Ort\n1,5;Köln\n".encode())
        frame = read("csv", {"path": "t.csv", "separator": ";", "decimal": ","}, tmp_path)
        assert frame.to_dict("records") == [{"Preis": 1.5, "Ort": "Köln"}]

    def test_quotes_hide_separators_and_line_breaks(self, tmp_path):
        (tmp_path / "t.csv").write_text('a,b\n"x, y","two\nlines"\n\n3,4\n')
        assert read("csv", {"path": "t.csv"}, tmp_path).to_numpy().tolist() == [["x, y", "two\nlines"], ["3", "4"]]

    def test_header_only(self, tmp_path):
        assert csv_message("a,b\n", tmp_path) == f"{tmp_path}/t.csv: the file has a header and no rows."

    def test_blank_lines_only(self, tmp_path):
        assert "the file is empty" in csv_message("\n\n", tmp_path)

    @pytest.mark.parametrize(("row", "count"), [("5,6,7", 3), ("5", 1)])
    def test_ragged_rows_name_the_line(self, row, count, tmp_path):
        text = csv_message(f"a,b\n1,2\n\n{row}\n3,4\n", tmp_path)
        assert f"line 4 has {count} values, and the header names 2 columns" in text
        assert "must stand in quotes" in text

    def test_all_rows_wider_than_the_header(self, tmp_path):
        # pandas would take the first column for an index
        assert "line 2 has 3 values, and the header names 2 columns" in csv_message("a,b\n1,2,3\n4,5,6\n", tmp_path)

    def test_repeated_names(self, tmp_path):
        text = csv_message("a,b,a\n1,2,3\n", tmp_path)
        assert "several columns have the same name: `a`. Give each its own name." in text

    @pytest.mark.parametrize(("mark", "shown"), [(";", ";"), ("\t", r"\t"), ("|", "|")])
    def test_wrong_separator(self, mark, shown, tmp_path):
        text = csv_message(f"a{mark}b\n1{mark}2\n", tmp_path)
        assert "there is one column only" in text
        assert f'set `separator: "{shown}"`' in text

    def test_one_column_is_fine(self, tmp_path):
        (tmp_path / "t.csv").write_text("a\n1\n")
        assert read("csv", {"path": "t.csv"}, tmp_path).a.tolist() == [1]

    def test_separator_of_two_characters(self, tmp_path):
        (tmp_path / "t.csv").write_text("a\n1\n")
        assert 'Write a tab as "\\t"' in message(ConfigError, "csv", {"path": "t.csv", "separator": "\\t"}, tmp_path)

    def test_wrong_encoding(self, tmp_path):
        text = csv_message("city\nKöln\n".encode("cp1252"), tmp_path)
        assert "is not utf-8" in text
        assert "Set `encoding`, such as `cp1252`" in text
        assert read("csv", {"path": "t.csv", "encoding": "cp1252"}, tmp_path).city.tolist() == ["Köln"]

    def test_unknown_encoding(self, tmp_path):
        assert "unknown encoding `latin-99`" in csv_message("a\n1\n", tmp_path, encoding="latin-99")

    def test_quote_never_closed(self, tmp_path):
        text = csv_message('a,b\n1,"2\n' + "3,4\n" * 50_000, tmp_path)
        assert "a quote that is opened and never closed" in text

    def test_truncated_gzip(self, tmp_path):
        (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 1000)[:-10])
        assert "csv t.csv.gz: cannot be read" in message(DataError, "csv", {"path": "t.csv.gz"}, tmp_path)


class TestParquet:
    def test_repeated_names(self, tmp_path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table([[1], [2]], names=["a", "a"]), tmp_path / "t.parquet")
        text = message(DataError, "parquet", {"path": "t.parquet"}, tmp_path)
        assert text == f"{tmp_path}/t.parquet: several columns have the same name: `a`. Give each its own name."

    def test_no_rows(self, tmp_path):
        FRAME[:0].to_parquet(tmp_path / "t.parquet")
        text = message(DataError, "parquet", {"path": "t.parquet"}, tmp_path)
        assert text == "parquet t.parquet: the table has 0 rows and 3 columns."


class TestJsonl:
    def test_strings_stay_strings(self, tmp_path):
        (tmp_path / "t.jsonl").write_text('{"zip": "0815", "at": "2020-01-01"}\n\n{"zip": "4711"}\n')
        frame = read("jsonl", {"path": "t.jsonl"}, tmp_path)
        assert frame.zip.tolist() == ["0815", "4711"]
        assert frame["at"].iloc[0] == "2020-01-01"

    @pytest.mark.parametrize(("line", "told"), [("{'a': 1}", "is no JSON"), ("[1, 2]", "holds no JSON object")])
    def test_bad_lines_are_numbered(self, line, told, tmp_path):
        (tmp_path / "t.jsonl").write_text('{"a": 1}\n' + line)
        assert f"line 2 {told}" in message(DataError, "jsonl", {"path": "t.jsonl"}, tmp_path)


class TestSklearn:
    def test_classes_go_by_their_names(self, tmp_path):
        assert set(read("sklearn", {"name": "iris"}, tmp_path).target) == {"setosa", "versicolor", "virginica"}
        assert set(read("sklearn", {"name": "digits"}, tmp_path).target) == set(range(10))
        assert read("sklearn", {"name": "diabetes"}, tmp_path).target.dtype == "float64"

    def test_others_are_refused(self, tmp_path):
        text = message(ConfigError, "sklearn", {"name": "california_housing"}, tmp_path)
        assert text.startswith("data.params.name: not a value that is taken here. Allowed: one of `breast_cancer`")


class TestSql:
    @pytest.fixture
    def base(self, tmp_path):
        with sqlite3.connect(tmp_path / "sales.db") as connection:
            connection.execute("create table t (a int, b text)")
            connection.executemany("insert into t values (?, ?)", [(1, "x"), (2, "y")])
        connection.close()
        return tmp_path

    def test_a_file_beside_the_study(self, base):
        frame = read("sql", {"url": "sqlite:///sales.db", "query": "select * from t"}, base)
        assert frame.to_dict("list") == {"a": [1, 2], "b": ["x", "y"]}

    def test_an_address_from_the_environment(self, base, monkeypatch):
        monkeypatch.setenv("SALES_DB", f"sqlite:///{base}/sales.db")
        assert len(read("sql", {"url_env": "SALES_DB", "query": "select a from t"}, base)) == 2

    @pytest.mark.parametrize(
        "query",
        [
            "delete from t",
            "vacuum into 'new.db'",
            "attach 'new.db' as new",
            "pragma user_version = 7",
            "create table u (a)",
        ],
    )
    def test_a_query_only_reads(self, base, query, monkeypatch):
        monkeypatch.chdir(base)
        before = (base / "sales.db").read_bytes()
        assert "refuses" in message(DataError, "sql", {"url": "sqlite:///sales.db", "query": query}, base)
        assert not (base / "new.db").exists()
        assert (base / "sales.db").read_bytes() == before

    def test_a_missing_file_is_not_made(self, base):
        text = message(DataError, "sql", {"url": "sqlite:///sale.db", "query": "select 1"}, base)
        assert "Did you mean `sales.db`?" in text
        assert not (base / "sale.db").exists()

    def test_repeated_names(self, base):
        query = "select a, a from t"
        assert "same name: `a`" in message(DataError, "sql", {"url": "sqlite:///sales.db", "query": query}, base)

    def test_a_wrong_query(self, base):
        text = message(DataError, "sql", {"url": "sqlite:///sales.db", "query": "select * from tt"}, base)
        assert "the database refuses: no such table: tt" in text

    @pytest.mark.parametrize("url", ["postgresql://me:hunter2@db/x", "sqlite://", "hunter2"])
    def test_only_sqlite_files_stand_in_a_study(self, url, base):
        text = message(ConfigError, "sql", {"url": url, "query": "select 1"}, base)
        assert "data.params.url: only the address of an SQLite file" in text
        assert "`url_env`" in text
        assert "hunter2" not in text

    @pytest.mark.parametrize("params", [{}, {"url": "sqlite:///sales.db", "url_env": "X"}])
    def test_one_address(self, params, base):
        assert "exactly one of `url` and `url_env`" in message(ConfigError, "sql", {"query": "q", **params}, base)

    def test_an_address_in_place_of_a_variable_is_not_repeated(self, base):
        text = message(ConfigError, "sql", {"query": "q", "url_env": "postgresql://me:hunter2@db/x"}, base)
        assert "not the name of an environment variable" in text
        assert "hunter2" not in text

    def test_a_variable_that_is_not_set(self, base, monkeypatch):
        monkeypatch.delenv("SALES_DB", raising=False)
        text = message(DataError, "sql", {"query": "q", "url_env": "SALES_DB"}, base)
        assert text == "the environment variable `SALES_DB` is not set. export SALES_DB=ADDRESS"

    @pytest.mark.parametrize(
        "url", ["hunter2", "nosuch://me:hunter2@db/x", "mysql+pymysql://me:hunter2@db/x", "sqlite:////no/hunter2"]
    )
    def test_no_secret_in_errors(self, url, base, monkeypatch):
        monkeypatch.setenv("SALES_DB", url.replace("no/hunter2", "no/x"))
        with pytest.raises(DataError) as caught:
            read("sql", {"query": "select 1", "url_env": "SALES_DB"}, base)
        assert "hunter2" not in str(caught.value)


def test_parameters_are_checked_all_at_once(tmp_path):
    text = message(ConfigError, "csv", {"pth": "x", "separator": 3}, tmp_path)
    assert text.splitlines() == [
        "data.params.pth: the source `csv` takes no `pth`. Did you mean `path`?",
        "data.params.path: the source `csv` needs `path`.",
        "data.params.separator: not a value that is taken here. Allowed: str.",
    ]


def test_an_unknown_source(tmp_path):
    assert "unknown source `parket`. Did you mean `parquet`?" in message(ConfigError, "parket", {}, tmp_path)


@pytest.mark.parametrize(
    ("source", "params", "told"),
    [
        ("csv", {"path": "data/churn.csv", "separator": ";"}, "csv data/churn.csv"),
        ("sklearn", {"name": "iris"}, "sklearn iris"),
        ("sql", {"url": "sqlite:///sales.db?key=hunter2", "query": "q"}, "sql sqlite:///sales.db"),
        ("sql", {"url_env": "SALES_DB", "query": "q"}, "sql $SALES_DB"),
        ("sql", {"url_env": "postgresql://me:hunter2@db/x"}, "sql"),
        ("sql", {"url": "postgresql://me:hunter2@db/x"}, "sql"),
        ("my_lab.warehouse", {"token": "hunter2"}, "my_lab.warehouse"),
    ],
)
def test_descriptions_hold_no_secret(source, params, told):
    assert describe(source, params) == told


def test_every_source_has_a_summary():
    assert {source.name for source in catalogue("source")} >= {"csv", "parquet", "arrow", "jsonl", "sklearn", "sql"}
    assert all(source.summary.startswith("Returns") for source in catalogue("source"))


def images(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")  # only the name counts until it is read


def test_a_folder_of_images_has_a_class_a_folder(tmp_path):
    images(
        tmp_path / "pets", "dog/2.PNG", "cat/deep/down/1.jpg", "dog/1.png", "loose.png", ".hidden/3.png", "dog/a.txt"
    )
    frame = read("folder", {"path": "pets"}, tmp_path)
    assert frame["image"].tolist() == ["cat/deep/down/1.jpg", "dog/1.png", "dog/2.PNG", "loose.png"]
    assert frame["label"].fillna("none").tolist() == ["cat", "dog", "dog", "none"]
    assert infer(tmp_path / "pets")[0] == "folder"
    (part,) = parts.read("folder", {"path": "pets"}, tmp_path, None, 100)
    assert part.equals(frame)
    assert [len(part) for part in parts.read("folder", {"path": "pets"}, tmp_path, None, 3)] == [3, 1]


def test_folders_that_are_no_classes(tmp_path):
    images(tmp_path / "set", "train/cat/1.png", "test/cat/2.png")
    with pytest.raises(DataError, match="its folders `test`, `train` are parts of the images, not classes of them"):
        read("folder", {"path": "set"}, tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder holds no images"):
        read("folder", {"path": "empty"}, tmp_path)


@pytest.mark.parametrize("source", ["parquet", "arrow"])
def test_texts_that_are_no_utf8_are_told_before_they_are_met(tmp_path, source):
    offsets = pa.array([0, 5, 7], pa.int32()).buffers()[1]
    table = pa.table({"text": pa.StringArray.from_buffers(2, offsets, pa.py_buffer(b"caf\xe9!ok"))})
    if source == "parquet":
        pq.write_table(table, tmp_path / "t")
    else:
        feather.write_feather(table, tmp_path / "t", compression="uncompressed")
    with pytest.raises(DataError, match=r"Invalid UTF8 sequence .*Write its texts as UTF-8\."):
        read(source, {"path": "t"}, tmp_path)
    with pytest.raises(DataError, match="Invalid UTF8"):
        list(parts.read(source, {"path": "t"}, tmp_path, None, 100))
