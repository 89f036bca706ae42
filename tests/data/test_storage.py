"""Parts that lie in several files; what is true of any stored part stands with the splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from automl.data import storage
from automl.data.dataset import make_dataset
from automl.data.splits import split
from automl.errors import StorageError
from automl.values import Dataset, Splits

N_ROWS = 600


@pytest.fixture
def table() -> Dataset:
    # The number of a row can be read from its values and from its target.
    frame = pd.DataFrame({"x": np.arange(N_ROWS) * 2.0, "word": [f"w{i % 7}" for i in range(N_ROWS)]})
    return make_dataset(frame.assign(y=np.arange(N_ROWS) * 10.0), target="y", task="regression", name="t", source="s")


def stored(table: Dataset, folder: Path, *, n_shards: int = 6, **settings: object) -> Splits:
    splits = split(table, **{"strategy": "kfold", "n_folds": 3, "test_size": 0.25} | settings)  # type: ignore[arg-type]
    frames = (table.features[first : first + 70] for first in range(0, N_ROWS, 70))
    storage.store(table, splits, folder, frames=frames, n_shards=n_shards)
    return splits


def rows_of(frame: pd.DataFrame) -> list[int]:
    return (frame["x"] / 2).astype(int).tolist()


@pytest.mark.parametrize("part", ["search", "test"])
def test_every_row_is_in_one_shard_beside_its_target(table: Dataset, part: storage.PartName, tmp_path: Path) -> None:
    splits = stored(table, tmp_path)
    opened = storage.open_part(tmp_path, part)
    assert len(opened) == (6 if part == "search" else 2)
    rows = [row for number in range(len(opened)) for row in rows_of(opened.shard(number))]
    assert sorted(rows) == getattr(splits, part).tolist()
    assert (opened.target == np.array(rows) * 10.0).all()
    assert opened.starts[-1] == len(rows)


def test_folds_name_the_same_rows_as_before_they_were_dealt_out(table: Dataset, tmp_path: Path) -> None:
    splits = stored(table, tmp_path)
    opened = storage.open_part(tmp_path, "search")
    whole = pd.concat([opened.shard(number) for number in range(len(opened))])
    for fold, loaded in zip(splits.folds, storage.load_folds(tmp_path), strict=True):
        for given, found in ((fold.train, loaded.train), (fold.val, loaded.val)):
            assert (np.diff(found) > 0).all()
            assert sorted(rows_of(whole.iloc[found])) == splits.search[given].tolist()


def test_a_shard_is_a_fair_sample(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path)
    opened = storage.open_part(tmp_path, "search")
    sizes = np.diff(opened.starts)
    assert sizes.max() - sizes.min() <= 1
    for number in range(len(opened)):
        rows = rows_of(opened.shard(number))
        assert rows == sorted(rows)
        assert abs(np.mean(rows) - N_ROWS / 2) < 100  # of 75 rows in the order of the table it would be up to 260


def test_what_is_predicted_stands_in_the_order_of_the_rows(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path)
    opened = storage.open_part(tmp_path, "search")
    for rows in (None, storage.load_folds(tmp_path)[1].val):
        predicted = opened.predict(lambda frame: frame["x"].to_numpy() * 5, rows)
        assert (predicted == (opened.target if rows is None else opened.target[rows])).all()


def test_a_sample_is_of_the_first_shards(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path)
    opened = storage.open_part(tmp_path, "search")
    (fold, *_) = storage.load_folds(tmp_path)
    for rows in (None, fold.train):
        features, target = opened.sample(rows)
        assert (features["x"].to_numpy() * 5 == target).all()
        wanted = np.arange(450) if rows is None else rows
        assert len(target) == (wanted < opened.starts[storage.SAMPLED_SHARDS]).sum()


def test_a_single_fold_has_its_validation_rows_in_shards_of_their_own(table: Dataset, tmp_path: Path) -> None:
    splits = stored(table, tmp_path, strategy="holdout", size=0.3)
    opened = storage.open_part(tmp_path, "search")
    (fold,) = storage.load_folds(tmp_path)
    assert opened.holding(fold.train) == [0, 1, 2, 3]
    assert opened.holding(fold.val) == [4, 5]
    assert len(opened.sample(fold.val)[1]) == len(fold.val)
    predicted = opened.predict(lambda frame: frame["x"].to_numpy() * 5, fold.val)
    assert (predicted == opened.target[fold.val]).all()
    assert sorted((predicted / 10).astype(int)) == splits.search[splits.folds[0].val].tolist()


def test_no_rows_are_predicted_as_no_rows(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path)
    opened = storage.open_part(tmp_path, "search")
    assert opened.predict(lambda frame: np.zeros((len(frame), 3)), np.empty(0, np.int64)).shape == (0, 3)


def test_narrow_numbers_stay_narrow_on_disk_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=400).astype(np.float32), "z": rng.normal(size=400), "y": [0, 1] * 200})
    frame.loc[7, "x"] = None
    data = make_dataset(frame, target="y", name="t", source="s")
    storage.store(data, split(data), tmp_path, n_shards=3)
    shard = storage.open_part(tmp_path, "search").shard(0)
    assert set(shard.dtypes) == {np.dtype(np.float64)}
    assert set(shard["x"].dropna()) <= set(data.features["x"])
    assert set(shard["z"]) <= set(data.features["z"])
    with pa.memory_map(str(tmp_path / "search-00000.arrow")) as file:
        assert [str(kind) for kind in pa.ipc.open_file(file).schema.types] == ["float", "double"]


def test_a_sample_of_a_whole_part_is_all_of_it(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path, n_shards=1)
    opened = storage.open_part(tmp_path, "search")
    assert opened.is_whole
    features, target = opened.sample()
    pd.testing.assert_frame_equal(features, storage.load_part(tmp_path, "search")[0])
    assert len(target) == 450


def test_a_study_that_begins_anew_leaves_no_old_shards(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path, n_shards=6)
    stored(table, tmp_path, n_shards=1)
    assert {path.name for path in tmp_path.glob("*.arrow")} == {"search.arrow", "test.arrow"}
    assert len(storage.open_part(tmp_path, "search")) == 1


def test_a_table_without_test_rows(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path, test_size=0.0)
    opened = storage.open_part(tmp_path, "test")
    assert len(opened.target) == len(opened.shard(0)) == 0
    assert list(opened.shard(0).columns) == ["x", "word"]


def test_a_missing_shard_is_told(table: Dataset, tmp_path: Path) -> None:
    stored(table, tmp_path)
    (tmp_path / "search-00003.arrow").unlink()
    with pytest.raises(StorageError, match=r"search-00003\.arrow"):
        storage.open_part(tmp_path, "search")
