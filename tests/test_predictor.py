from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl import manifest
from automl.data import storage
from automl.errors import DataError, RefusedError
from automl.predictor import Predictor, combine
from automl.testing import boring_table
from automl.trial import run_trial
from automl.values import Choice, Task

Trained = Callable[..., Any]


@pytest.fixture
def folder(trained: Trained) -> Path:
    """A model folder of two members, to be spoilt at will."""
    path: Path = trained()[0].folder.trial(0) / "model"
    return path


@pytest.fixture
def predictor(folder: Path) -> Predictor:
    return Predictor.load(folder)


@pytest.fixture
def rows() -> pd.DataFrame:
    """Rows that no model has been trained on, with an index of their own."""
    return boring_table(Task.BINARY, n_rows=30, seed=9).set_index(pd.Index(range(100, 130)))


@pytest.mark.parametrize("task", Task)
def test_what_is_saved_again_predicts_bit_for_bit_the_same(trained: Trained, task: Task, tmp_path: Path) -> None:
    first = Predictor.load(trained(task)[0].folder.trial(0) / "model")
    first.save(tmp_path / "again")
    second = Predictor.load(tmp_path / "again")
    new = boring_table(task, n_rows=30, seed=9)
    pd.testing.assert_frame_equal(first.predict(new), second.predict(new))
    assert second.schema == first.schema
    assert [member.target for member in second.members] == [member.target for member in first.members]


def test_a_row_for_a_row_in_their_order(predictor: Predictor, rows: pd.DataFrame) -> None:
    found = predictor.predict(rows)
    assert list(found.columns) == ["prediction", "proba_no", "proba_yes"]
    assert list(found.index) == list(rows.index)
    np.testing.assert_allclose(found["proba_no"] + found["proba_yes"], 1)
    assert ((found["proba_yes"] > 0.5) == (found["prediction"] == "yes")).all()
    backwards = predictor.predict(rows.iloc[::-1])
    pd.testing.assert_frame_equal(backwards.iloc[::-1], found, rtol=1e-5)


def test_values_are_in_the_targets_own_unit(trained: Trained) -> None:
    regressor = Predictor.load(trained(Task.REGRESSION)[0].folder.trial(0) / "model")
    found = regressor.predict(boring_table(Task.REGRESSION, n_rows=30, seed=9))
    assert list(found.columns) == ["prediction"]
    assert 800 < found["prediction"].mean() < 1200


def test_several_targets_have_columns_by_their_names(trained: Trained) -> None:
    predictor = Predictor.load(trained(Task.MULTITASK)[0].folder.trial(0) / "model")
    found = predictor.predict(boring_table(Task.MULTITASK, n_rows=30, seed=9))
    assert list(found.columns) == [name for name, _ in predictor.schema.target.columns()]
    assert list(found.columns[:3]) == ["price", "sold", "proba_sold"]
    assert ((found["proba_sold"] > 0.5) == (found["sold"] == "yes")).all()
    grades = found[["proba_grade_high", "proba_grade_low", "proba_grade_middle"]]
    assert (grades.idxmax(axis=1) == "proba_grade_" + found["grade"]).all()
    levels = found[["quantile_delay_0.1", "quantile_delay_0.5", "quantile_delay_0.9"]]
    assert (levels.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    assert (found["delay"] == found["quantile_delay_0.5"]).all()


def test_columns_are_found_by_name(predictor: Predictor, rows: pd.DataFrame) -> None:
    expected = predictor.predict(rows)
    pd.testing.assert_frame_equal(predictor.predict(rows[rows.columns[::-1]]), expected)
    pd.testing.assert_frame_equal(predictor.predict(rows.assign(extra=1, another="x")), expected)
    needed = [column.name for column in predictor.schema.used]
    pd.testing.assert_frame_equal(predictor.predict(rows[needed]), expected)


def test_missing_columns_are_all_named(predictor: Predictor, rows: pd.DataFrame) -> None:
    with pytest.raises(DataError) as caught:
        predictor.predict(rows.rename(columns={"amount": "amonut"}).drop(columns="colour"))
    told = str(caught.value)
    assert "`amount` is missing. Did you mean `amonut`?" in told
    assert "`colour` is missing" in told


def test_what_is_not_of_its_kind_is_named_with_its_row(predictor: Predictor, rows: pd.DataFrame) -> None:
    spoilt = rows.astype({"amount": object})
    spoilt.iloc[4, spoilt.columns.get_loc("amount")] = "much"
    with pytest.raises(DataError, match="the first is `much` in row 5"):
        predictor.predict(spoilt)


def test_unseen_categories_and_missing_values_are_predicted(predictor: Predictor, rows: pd.DataFrame) -> None:
    unseen = rows.assign(colour="ultraviolet", town=None, amount=np.nan, since=None, paid=None)
    found = predictor.predictions(unseen)
    assert np.isfinite(found).all()
    other = predictor.predictions(rows.assign(colour="infrared", town=None, amount=np.nan, since=None, paid=None))
    np.testing.assert_array_equal(found, other)  # one unknown is like another


def test_no_rows_are_no_predictions(predictor: Predictor, rows: pd.DataFrame) -> None:
    assert predictor.predictions(rows.iloc[:0]).shape == (0, 2)
    assert list(predictor.predict(rows.iloc[:0]).columns) == ["prediction", "proba_no", "proba_yes"]


def test_the_example_row_can_be_predicted(predictor: Predictor) -> None:
    assert len(predictor.predict(pd.DataFrame(predictor.schema.example()))) == 1


def test_many_rows_are_predicted_in_chunks(
    predictor: Predictor, rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = predictor.predictions(rows)
    monkeypatch.setattr("automl.predictor.CHUNK_ROWS", 7)
    np.testing.assert_allclose(predictor.predictions(rows), expected, rtol=1e-5)


# --- ensembles -----------------------------------------------------------------------------------------------------


def test_an_ensemble_is_the_weighted_mean(trained: Trained, configuration: Trained, tmp_path: Path) -> None:
    study, _ = trained()
    other = configuration(Task.BINARY, network=Choice("residual_mlp", {"depth": 1, "width": 8}))
    run_trial(study.trial(other, number=1), lambda epoch: False)
    one, two = (Predictor.load(study.folder.trial(number) / "model") for number in (0, 1))
    X, _ = storage.load_part(study.folder.data, "test")
    both = combine([(one, 0.75), (two, 0.25)])
    expected = 0.75 * one.predictions(X) + 0.25 * two.predictions(X)
    np.testing.assert_allclose(both.predictions(X), expected, rtol=1e-9)
    both.save(tmp_path / "both")
    np.testing.assert_array_equal(Predictor.load(tmp_path / "both").predictions(X), both.predictions(X))
    assert sum(member.weight for member in both.members) == pytest.approx(1)
    alone = combine([(one, 1.0)])
    np.testing.assert_allclose(alone.predictions(X), one.predictions(X), rtol=1e-12)


# --- integrity -----------------------------------------------------------------------------------------------------


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "manifest.json")


def test_a_changed_byte_in_any_file_is_refused(folder: Path) -> None:
    assert {path.suffix for path in files(folder)} == {".json", ".safetensors", ".skops"}
    for path in files(folder):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(RefusedError, match=f"{path.name}: the file was changed"):
            Predictor.load(folder)
        path.write_bytes(content)
    Predictor.load(folder)


def test_an_added_or_a_missing_file_is_refused(folder: Path) -> None:
    (folder / "extra.pkl").write_bytes(b"")
    with pytest.raises(RefusedError, match="the file was added"):
        Predictor.load(folder)
    (folder / "extra.pkl").unlink()
    (folder / "weights.safetensors").unlink()
    with pytest.raises(RefusedError, match="missing"):
        Predictor.load(folder)


def test_another_format_is_refused(folder: Path) -> None:
    from automl import manifest

    document = json.loads((folder / "architecture.json").read_text())
    (folder / "architecture.json").write_text(json.dumps(document | {"format": 4}))
    manifest.write(folder)
    with pytest.raises(RefusedError, match="is of model format 4; this version reads 3"):
        Predictor.load(folder)


def test_a_model_folder_holds_no_value_of_the_table(folder: Path, trained: Trained) -> None:
    study, _ = trained()
    table = pd.read_parquet(study.base / "table.parquet")
    content = b"".join(path.read_bytes() for path in files(folder))
    for value in table["customer_id"]:
        assert value.encode() not in content
    for value in table["income"].dropna():
        assert repr(value).encode() not in content


def test_a_folder_of_the_first_format_is_read(folder: Path, rows: pd.DataFrame) -> None:
    from automl import manifest

    expected = Predictor.load(folder).predictions(rows)
    document = json.loads((folder / "architecture.json").read_text())
    first = {"format": 1, "members": document["members"]}
    (folder / "architecture.json").write_text(json.dumps(first))
    manifest.write(folder)
    np.testing.assert_array_equal(Predictor.load(folder).predictions(rows), expected)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("code.py", "", "code.py: a model of ours holds no such file"),
        ("preprocessing/x.pkl", "", "x.pkl: a model of ours holds no such file"),
        ("MLmodel", "flavors: {python_function: {loader_module: evil}}", "names `evil` to load it"),
        ("MLmodel", "flavors: {python_function: {code: code}}", "names `code`, by which code could come along"),
        ("MLmodel", "flavors: {sklearn: {pickled_model: m.txt}}", "names `sklearn`, by which code could come along"),
        ("MLmodel", "flavors: [1]", "MLmodel: cannot be read"),
        ("MLmodel", "!!python/name:os.system", "MLmodel: cannot be read"),
    ],
)
def test_what_is_not_ours_is_refused_whatever_the_manifest_says(folder: Path, name: str, text: str, told: str) -> None:
    (folder / name).write_text(text)
    manifest.write(folder)
    with pytest.raises(RefusedError) as caught:
        Predictor.load(folder)
    assert told in str(caught.value)
