from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import prediction
from automl.errors import ConfigError, DataError, ResourceError
from automl.prediction import without_formulas
from automl.predictor import Predictor
from automl.testing import PLAIN_TASKS, boring_table
from automl.values import Task

Trained = Callable[..., Any]
READ = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".json": pd.read_json}


@pytest.fixture
def folder(trained: Trained) -> Path:
    path: Path = trained()[0].folder.trial(0) / "model"
    return path


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.predictor.CHUNK_ROWS", 7)


def rows(task: Task = Task.BINARY) -> pd.DataFrame:
    return boring_table(task, n_rows=30, seed=9)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("ending", READ)
@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_a_table_in_parts_is_predicted_as_whole(trained: Trained, task: Task, ending: str, tmp_path: Path) -> None:
    folder = trained(task)[0].folder.trial(0) / "model"
    rows(task).to_parquet(tmp_path / "table.parquet")
    predicted = prediction.predict_file(folder, tmp_path / "table.parquet", tmp_path / f"out{ending}")
    expected = Predictor.load(folder).predict(rows(task))
    found = READ[ending](tmp_path / f"out{ending}")
    assert predicted.n_rows == len(found) == 30
    pd.testing.assert_frame_equal(found, expected, rtol=1e-5, check_dtype=ending == ".parquet")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ending", READ)
def test_a_file_is_what_pandas_writes(folder: Path, ending: str, tmp_path: Path, monkeypatch: Any) -> None:
    rows().to_parquet(tmp_path / "table.parquet")
    contents = []
    for n_rows in (10, 30):
        monkeypatch.setattr("automl.predictor.CHUNK_ROWS", n_rows)
        monkeypatch.setattr("automl.predictor.CHUNK_ROWS", 10)  # so that the digits are the same
        prediction.predict_file(folder, tmp_path / "table.parquet", tmp_path / f"out{ending}")
        contents.append((tmp_path / f"out{ending}").read_bytes() if ending != ".parquet" else b"")
    whole = Predictor.load(folder).predict(rows())
    expected = {
        ".csv": lambda: whole.to_csv(index=False).encode(),
        ".json": lambda: whole.to_json(orient="records", force_ascii=False).encode(),
        ".parquet": lambda: b"",
    }[ending]()
    assert contents == [expected, expected]


@pytest.mark.usefixtures("small_parts")
def test_notes_are_told_once_and_of_all_rows(folder: Path, tmp_path: Path) -> None:
    table = rows().assign(extra=1)
    table["amount"] = table["amount"].mask(np.arange(30) % 10 == 3, np.inf)
    table.to_csv(tmp_path / "table.csv", index=False)
    predicted = prediction.predict_file(folder, tmp_path / "table.csv", tmp_path / "out.csv")
    assert [note for note in predicted.notes if "extra" in note]
    assert [note for note in predicted.notes if "Infinite" in note] == [
        "Infinite values of `amount` taken as missing: 3."
    ]
    assert len(predicted.notes) == 2


@pytest.mark.usefixtures("small_parts")
def test_what_is_wrong_is_told_of_all_rows_and_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    table = rows().astype({"amount": object, "since": object})
    table.loc[[9, 29], "amount"] = "much"
    table.loc[25, "since"] = "never"
    table.drop(columns="colour").to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "out.csv").write_text("as it was")
    with pytest.raises(DataError) as caught:
        prediction.predict_file(folder, tmp_path / "table.csv", tmp_path / "out.csv")
    told = str(caught.value)
    assert "the column `colour` is missing" in told
    assert "`amount`: 2 of the values cannot be read as numbers; the first is `much` in row 10" in told
    assert "`since`: 1 of the values cannot be read as dates; the first is `never` in row 26" in told
    assert (tmp_path / "out.csv").read_text() == "as it was"
    assert sorted(os.listdir(tmp_path))[:1] == ["out.csv"]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("ending", READ)
def test_a_file_that_breaks_off_leaves_nothing(folder: Path, ending: str, tmp_path: Path) -> None:
    lines = rows().to_json(orient="records", lines=True, date_format="iso").splitlines()
    (tmp_path / "table.jsonl").write_text("\n".join([*lines, '{"amount": 1, "col']))
    with pytest.raises(DataError, match="line 31 is no JSON"):
        prediction.predict_file(folder, tmp_path / "table.jsonl", tmp_path / f"out{ending}")
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize("ending", READ)
def test_an_output_that_cannot_be_written(folder: Path, ending: str, tmp_path: Path) -> None:
    rows().to_parquet(tmp_path / "table.parquet")
    output = tmp_path / f"out{ending}"
    output.mkdir()
    with pytest.raises(ResourceError, match="cannot be written: Is a directory"):
        prediction.predict_file(folder, tmp_path / "table.parquet", output)
    assert not list(tmp_path.glob(".*"))


def test_an_ending_that_is_not_known(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"allowed endings: \.parquet, \.csv, \.json"):
        prediction.predict_file(folder, tmp_path / "table.csv", tmp_path / "out.xls")


def test_no_word_of_a_csv_is_a_formula() -> None:
    words = ["=cmd()", "+1", "-x", "@sum", "\tx", "a=b", "", None, "-1.5", "+"]
    table = pd.DataFrame({"prediction": pd.Series(words, dtype="str"), "proba": range(10)})
    found = without_formulas(table)
    assert found["prediction"].fillna("none").tolist() == [
        "'=cmd()", "+1", "'-x", "'@sum", "'\tx", "a=b", "", "none", "-1.5", "'+",
    ]  # fmt: skip
    assert found["proba"].equals(table["proba"])
    assert table["prediction"][0] == "=cmd()"
