from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.data import out_of_core
from automl.data.dataset import make_dataset
from automl.errors import ConfigError, DataError
from automl.testing import boring_table
from automl.values import ColumnKind, Task

WRITE = {
    "parquet": lambda frame, path: frame.to_parquet(path),
    "csv": lambda frame, path: frame.to_csv(path, index=False),
    "jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True, date_format="iso"),
    "arrow": lambda frame, path: frame.to_feather(path),
}


@pytest.fixture
def many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_core, "PART_VALUES", 0)  # parts of a hundred rows


def survey(base: Path, source: str = "parquet", **settings: Any) -> out_of_core.Survey:
    params = {"path": next(str(path) for path in base.iterdir())}
    return out_of_core.survey(source, params, base, **{"target": "target", "name": "t"} | settings)


def write(frame: pd.DataFrame, base: Path, source: str = "parquet") -> None:
    WRITE[source](frame, base / f"table.{source}")


@pytest.mark.parametrize("source", WRITE)
@pytest.mark.parametrize("task", [Task.BINARY, Task.REGRESSION])
def test_a_table_looked_through_is_the_table_read_whole(
    source: str, task: Task, many_parts: None, tmp_path: Path
) -> None:
    frame = boring_table(task, n_rows=430)
    write(frame, tmp_path, source)
    found = survey(tmp_path, source, kinds={"visits": ColumnKind.CATEGORICAL})
    from automl.data import sources

    read = sources.read(source, {"path": str(tmp_path / f"table.{source}")}, tmp_path)
    whole = make_dataset(read, target="target", name="t", source="s", kinds={"visits": ColumnKind.CATEGORICAL})
    assert found.dataset.schema == whole.schema
    np.testing.assert_array_equal(found.dataset.target, whole.target)
    assert set(whole.notes) <= set(found.dataset.notes)
    frames = list(found.frames())
    assert len(frames) == 5
    pd.testing.assert_frame_equal(pd.concat(frames, ignore_index=True), whole.features)


def test_the_digest_is_of_values_and_not_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = boring_table(Task.BINARY, n_rows=300)
    write(frame, tmp_path)
    one = survey(tmp_path).dataset.digest
    monkeypatch.setattr(out_of_core, "PART_VALUES", 0)
    assert survey(tmp_path).dataset.digest == one
    frame.loc[250, "amount"] += 1
    write(frame, tmp_path)
    assert survey(tmp_path).dataset.digest != one


def test_rows_without_target_are_left_out(many_parts: None, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(300.0) ** 2, "target": ["a", "b", None] * 100})
    write(frame, tmp_path)
    found = survey(tmp_path)
    assert len(found.dataset.target) == 200
    kept = pd.concat(list(found.frames()))
    assert kept["x"].tolist() == frame.loc[frame["target"].notna(), "x"].tolist()
    assert "Rows left out, since they have no value of `target`: 100." in found.dataset.notes


def test_a_sample_describes_the_columns(many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(out_of_core, "SAMPLE_VALUES", 0)  # a sample of a hundred rows
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "row": np.arange(1000),  # a row number, of which a sample has gaps
            "x": rng.normal(size=1000),
            "late": [0.0] * 500 + rng.normal(size=500).tolist(),  # the first rows alone would call this a constant
            "target": ["rare"] * 5 + ["usual"] * 995,
        }
    )
    write(frame, tmp_path)
    found = survey(tmp_path).dataset
    kinds = {column.name: column.kind for column in found.schema.columns}
    assert kinds == {"row": ColumnKind.IDENTIFIER, "x": ColumnKind.NUMERIC, "late": ColumnKind.NUMERIC}
    assert found.schema.target.classes == ("rare", "usual")  # whatever the sample holds
    assert np.bincount(found.target).tolist() == [5, 995]
    assert "described by 100 of 1,000 rows" in found.notes[0]


def test_the_sample_is_fair() -> None:
    counts = np.zeros(400)
    for seed in range(100):
        look = out_of_core._Look([], 50, np.random.default_rng(seed))
        for first in range(0, 400, 80):
            look.take(pd.DataFrame({"x": np.arange(first, first + 80)}))
        sample = look.sample()
        assert len(sample) == 50
        assert (sample["x"] == sample.index).all()
        counts[sample.index] += 1
    first, second = counts[:200].mean(), counts[200:].mean()
    assert abs(first - second) < 2  # of 12.5 expected; the standard error of the difference is about 0.4


def test_a_value_that_the_sample_did_not_show_is_told_with_its_row(
    many_parts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(out_of_core, "SAMPLE_VALUES", 0)
    words = [str(i % 90) for i in range(1000)]
    words[777] = "many"
    write(pd.DataFrame({"x": np.arange(1000.0) ** 2, "n": words, "target": [0, 1] * 500}), tmp_path, "jsonl")
    found = survey(tmp_path, "jsonl", kinds={"n": ColumnKind.NUMERIC})
    with pytest.raises(
        DataError, match="`n`: 1 of the values cannot be read as numbers; the first is `many` in row 778"
    ):
        list(found.frames())


def test_names_of_folders_are_categories(many_parts: None, tmp_path: Path) -> None:
    years = pd.DataFrame({"x": np.arange(400.0) ** 2, "target": [0, 1] * 200, "year": [2019, 2020, 2021, 2022] * 100})
    years.to_parquet(tmp_path / "years", partition_cols=["year"])
    found = survey(tmp_path)
    kinds = {column.name: column.kind for column in found.dataset.schema.columns}
    assert kinds == {"x": ColumnKind.NUMERIC, "year": ColumnKind.CATEGORICAL}
    assert set(pd.concat(list(found.frames()))["year"]) == {"2019", "2020", "2021", "2022"}


def test_columns_that_steer_the_split_are_whole_and_no_features(many_parts: None, tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(300.0) ** 2, "who": np.arange(300) // 5, "target": [0, 1, None] * 100})
    write(frame, tmp_path)
    found = survey(tmp_path, split_columns=["who"]).dataset
    assert found.extra is not None
    assert found.extra["who"].tolist() == frame.loc[frame["target"].notna(), "who"].tolist()
    assert found.schema.names() == ["x"]


def test_what_is_wrong_with_a_table_is_told_at_once(many_parts: None, tmp_path: Path) -> None:
    write(pd.DataFrame({"x": range(200), "target": ["a"] * 200}), tmp_path)
    with pytest.raises(DataError, match="every value is `a`"):
        survey(tmp_path)
    with pytest.raises(DataError, match="there is no column `targe` to predict"):
        survey(tmp_path, target="targe")
    with pytest.raises(DataError, match="there is no column `whom`"):
        survey(tmp_path, split_columns=["whom"])


def test_lists_are_refused_as_of_any_table(tmp_path: Path) -> None:
    write(pd.DataFrame({"x": [[1, 2]] * 200, "z": range(200), "target": [0, 1] * 100}), tmp_path)
    with pytest.raises(DataError, match=r"`x`: .* cannot be learned from"):
        survey(tmp_path)


def test_a_source_without_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the source `sklearn` cannot be read in parts"):
        out_of_core.survey("sklearn", {"name": "iris"}, tmp_path, target="target", name="t")


@pytest.mark.parametrize("source", WRITE)
def test_a_table_is_kept_on_disk_where_copies_of_it_do_not_fit(source: str, tmp_path: Path) -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(2000, 10)), columns=list("abcdefghij"))
    write(frame, tmp_path, source)
    params = {"path": f"table.{source}"}
    in_memory = frame.memory_usage(index=False).sum()
    assert out_of_core.needed(source, params, tmp_path, 2 * in_memory)
    assert not out_of_core.needed(source, params, tmp_path, 20 * in_memory)


def test_what_cannot_be_measured_is_left_to_whoever_reads_it(tmp_path: Path) -> None:
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    for source, params in (
        ("parquet", {"path": "broken.parquet"}),
        ("csv", {"path": "x.csv"}),
        ("sql", {}),
        ("csv", {}),
    ):
        assert not out_of_core.needed(source, params, tmp_path, 0)


def test_shards_are_a_fair_part_of_the_memory(tmp_path: Path) -> None:
    write(boring_table(Task.BINARY, n_rows=300), tmp_path)
    assert survey(tmp_path).n_shards(2**30) == 2  # what is kept on disk is never one shard
