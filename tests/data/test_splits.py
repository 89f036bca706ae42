from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data import storage
from automl.data.dataset import make_dataset
from automl.data.splits import split
from automl.errors import AutomlError, ConfigError, DataError, StorageError
from automl.values import Column, ColumnKind, Dataset, Schema, Splits, Target, Task


def dataset(labels: object, **extra: object) -> Dataset:
    """Returns a dataset of classes, or of numbers where the labels are floats."""
    target = np.asarray(labels)
    task = Task.REGRESSION if target.dtype.kind == "f" else Task.MULTICLASS
    return Dataset(
        features=pd.DataFrame({"x": np.arange(len(target), dtype=float)}),
        target=target,
        schema=Schema((Column("x", ColumnKind.NUMERIC, "float64"),), Target("y", task, tuple(range(3)))),
        digest="",
        name="t",
        source="memory",
        extra=pd.DataFrame(extra) if extra else None,
    )


def parts(splits: Splits) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Returns (training, validation, test) rows of the whole table, for each fold."""
    return [(splits.search[fold.train], splits.search[fold.val], splits.test) for fold in splits.folds]


def message(error: type[AutomlError], data: Dataset, **settings: object) -> str:
    with pytest.raises(error) as caught:
        split(data, **settings)
    return str(caught.value)


common = settings(max_examples=40, deadline=None)
strategies = st.sampled_from(["holdout", "kfold"])
test_sizes = st.sampled_from([0.0, 0.1, 0.2, 0.4])
seeds = st.integers(0, 1000)


@given(st.lists(st.integers(0, 4), min_size=30, max_size=60), strategies, test_sizes, st.integers(2, 6), seeds)
@common
def test_random_parts_of_classes(labels, strategy, test_size, n_folds, seed):
    data = dataset(labels)
    splits = split(data, strategy=strategy, test_size=test_size, n_folds=n_folds, seed=seed)
    rows = np.arange(len(labels))
    assert np.array_equal(np.sort(np.concatenate([splits.search, splits.test])), rows)
    assert set(np.unique(data.target[splits.search])) == set(labels)
    counts = np.bincount(data.target[splits.search], minlength=5)
    validated = np.zeros(len(rows), dtype=int)
    for train, val, test in parts(splits):
        assert np.array_equal(np.sort(np.concatenate([train, val, test])), rows)
        assert len(val) > 0
        assert set(data.target[train]) == set(labels)
        validated[val] += 1
    if strategy == "kfold":
        # Every search row is validated on once, but for the only row of a class.
        assert np.array_equal(validated[splits.search], (counts[data.target[splits.search]] > 1).astype(int))
        sizes = [np.bincount(data.target[val], minlength=5) for _, val, _ in parts(splits)]
        assert np.ptp(sizes, axis=0).max() <= 1
        assert np.ptp(np.sum(sizes, axis=1)) <= 1


@given(st.integers(20, 200), strategies, test_sizes, seeds)
@common
def test_random_parts_of_numbers(n_rows, strategy, test_size, seed):
    splits = split(dataset(np.linspace(0, 1, n_rows)), strategy=strategy, test_size=test_size, seed=seed)
    assert abs(len(splits.test) - test_size * n_rows) <= 1
    for train, val, test in parts(splits):
        assert np.array_equal(np.sort(np.concatenate([train, val, test])), np.arange(n_rows))
        assert abs(len(val) - 0.2 * len(splits.search)) <= 1


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=60, max_size=90).filter(
        lambda rows: len({person for person, _ in rows}) > 8
    ),
    strategies,
    test_sizes,
    seeds,
)
@common
def test_groups_never_straddle(rows, strategy, test_size, seed):
    people = [f"p{person}" for person, _ in rows]
    data = dataset([label for _, label in rows], person=people)
    splits = split(data, strategy=strategy, test_size=test_size, n_folds=3, group="person", seed=seed)
    groups = np.array(people)
    for fold in parts(splits):
        assert np.array_equal(np.sort(np.concatenate(fold)), np.arange(len(rows)))
        train, val, test = (set(groups[part]) for part in fold)
        assert train
        assert val
        assert not train & val
        assert not (train | val) & test
    if strategy == "kfold":
        assert np.array_equal(np.sort(np.concatenate([f.val for f in splits.folds])), np.arange(len(splits.search)))


@given(
    st.lists(st.integers(0, 300), min_size=60, max_size=90).filter(lambda t: len(set(t)) > 30),
    strategies,
    test_sizes,
    st.integers(0, 3),
)
@common
def test_later_is_validated_on_earlier(times, strategy, test_size, gap):
    moments = np.array(times)
    data = dataset(np.zeros(len(times)), at=pd.Timestamp("2020") + pd.to_timedelta(moments, unit="h"))
    splits = split(data, strategy=strategy, test_size=test_size, n_folds=4, time="at", gap=gap)
    assert len(splits.search) + len(splits.test) == len(times) - gap * bool(test_size)
    before = 0
    for train, val, test in parts(splits):
        assert moments[train].max() < moments[val].min()
        assert len(test) == 0 or moments[val].max() < moments[test].min()
        assert np.sum(moments < moments[val].min()) == len(train) + gap
        assert len(train) > before  # the window expands
        before = len(train)


def test_shares_of_rows_and_classes():
    data = dataset([0] * 900 + [1] * 90 + [2] * 10)
    splits = split(data, size=0.25, test_size=0.2)
    for rows, share in ((splits.test, 0.2), (splits.search[splits.folds[0].val], 0.2)):
        assert np.abs(np.bincount(data.target[rows]) - share * np.array([900, 90, 10])).max() <= 1


def test_few_groups_come_close_to_the_shares():
    data = dataset([0, 1] * 10, person=["a", "b", "c", "d"] * 5)
    splits = split(data, strategy="kfold", n_folds=3, group="person")
    assert [len(splits.test), *(len(fold.val) for fold in splits.folds)] == [5, 5, 5, 5]


def test_shares_of_groups_are_balanced():
    rng = np.random.default_rng(0)
    people = rng.integers(0, 200, 3000)
    data = dataset((people % 10 == 0).astype(int), person=people)
    splits = split(data, strategy="kfold", group="person", n_folds=5)
    assert abs(len(splits.test) / 3000 - 0.2) < 0.02
    positive = data.target.mean()
    for _, val, _ in parts(splits):
        assert abs(len(val) / len(splits.search) - 0.2) < 0.03
        assert abs(data.target[val].mean() - positive) < 0.03


def test_rows_of_one_moment_stay_together():
    days = np.repeat(np.arange(10), 10)
    splits = split(dataset(np.zeros(100), day=days), time="day", size=0.25, test_size=0.15)
    assert sorted(set(days[splits.test])) in ([8, 9], [9])
    train, val, _ = parts(splits)[0]
    assert not set(days[train]) & set(days[val])


def test_no_test_part():
    splits = split(dataset(np.linspace(0, 1, 50)), test_size=0)
    assert splits.test.dtype == np.int64
    assert len(splits.test) == 0


def test_seeds():
    data = dataset([0, 1] * 50)
    assert split(data, seed=1).digest == split(data, seed=1).digest
    assert split(data, seed=1).digest != split(data, seed=2).digest
    # What is kept for the end does not depend on how is validated.
    assert np.array_equal(split(data, seed=1).test, split(data, strategy="kfold", seed=1).test)


def test_a_seed_draws_the_same_rows_for_ever():
    # A resumed study must find its rows again: change this only together with the version of the study's state.
    digest = split(dataset([0, 1, 2] * 20), strategy="kfold", seed=7).digest
    assert digest == "05afc84b1d4d98475915e2df234271ce09755b99373cfece90eb36f5b30206ac"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"strategy": "fold"}, "unknown strategy `fold`. Known: `holdout`, `kfold`."),
        ({"group": "a", "time": "b"}, "`group` and `time` exclude each other."),
        ({"gap": 3}, "`gap` is a number of rows and needs `time`. Name the time column."),
        ({"test_size": 1.0}, "`test_size` is 1.0. Allowed: from 0 to below 1."),
        ({"size": 0.0}, "`size` is 0.0. Allowed: above 0 and below 1."),
        ({"strategy": "kfold", "n_folds": 1}, "`n_folds` is 1. Allowed: 2 and more."),
    ],
)
def test_settings_that_cannot_be(settings, told):
    assert message(ConfigError, dataset([0, 1] * 10), **settings).startswith(f"validation: {told}")


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"group": "persn"}, "validation: there is no column `persn` to split by. Did you mean `person`?"),
        ({"time": "person"}, "`person`: `a` in row 1 is neither a number nor a date. Write dates as 2026-01-31"),
        (
            {"time": "at"},
            "`at`: 1 of the values are missing, and every row must be put somewhere. Fill them in or drop",
        ),
        ({"group": "person", "strategy": "kfold"}, "`person`: 3 groups are too few for 5 parts. Use fewer folds"),
        ({"group": "same"}, "`same`: one group is too few for 2 parts. Use fewer folds"),
        ({"time": "same"}, "`same`: there are too few different moments for an earlier and a later part. Use fewer"),
        ({"time": "half", "test_size": 0, "strategy": "kfold"}, "`half`: there are too few different moments for 5"),
        ({"size": 0.01}, "16 rows are too few for a part of 1%. Use more rows"),
        ({"strategy": "kfold", "n_folds": 17}, "16 rows are too few for 17 folds."),
        ({"time": "number", "gap": 20}, "20 rows are too few for a gap of 20."),
    ],
)
def test_tables_that_cannot_be_split(settings, told):
    data = dataset(
        [0, 1] * 10,
        person=["a", "b", "c", "d"] * 5,
        at=[None, *range(19)],
        same=[1] * 20,
        half=[1, 2] * 10,
        number=range(20),
    )
    assert message(DataError, data, **settings).startswith(told)


def test_without_steering_columns():
    assert "there is no column `person` to split by" in message(DataError, dataset([0, 1] * 10), group="person")


class TestStorage:
    @pytest.fixture
    def data(self) -> Dataset:
        frame = pd.DataFrame(
            {
                "age": [1.5, None, 3.0] * 20,
                "city": ["Bern", None, "Chur", "Genf"] * 15,
                "at": pd.to_datetime(["2020-01-01", None, "2021-01-01"] * 20),
                "y": ["no", "yes"] * 30,
            }
        )
        return make_dataset(frame, target="y", name="t", source="memory")

    @pytest.mark.parametrize("test_size", [0.2, 0.0])
    def test_what_is_stored_comes_back(self, data, test_size, tmp_path):
        splits = split(data, strategy="kfold", test_size=test_size)
        storage.store(data, splits, tmp_path / "data")
        for part, rows in (("search", splits.search), ("test", splits.test)):
            features, target = storage.load_part(tmp_path / "data", part)
            pd.testing.assert_frame_equal(features, data.features.iloc[rows].reset_index(drop=True))
            assert np.array_equal(target, data.target[rows])
        folds = storage.load_folds(tmp_path / "data")
        assert len(folds) == 5
        for loaded, fold in zip(folds, splits.folds, strict=True):
            assert np.array_equal(loaded.train, fold.train)
            assert np.array_equal(loaded.val, fold.val)
        assert storage.load_schema(tmp_path / "data") == data.schema

    def test_numbers_are_not_copied(self, tmp_path):
        wide = dataset(np.zeros(100_000))
        storage.store(wide, split(wide, test_size=0), tmp_path)
        before = pa.total_allocated_bytes()
        features, target = storage.load_part(tmp_path, "search")
        assert pa.total_allocated_bytes() - before < 10_000
        assert isinstance(target, np.memmap)
        assert not features.x.to_numpy().flags.writeable
        assert features.x.sum() == sum(range(100_000))

    def test_the_search_part_stands_alone(self, data, tmp_path):
        storage.store(data, split(data), tmp_path)
        for file in tmp_path.glob("test*"):
            file.unlink()
        assert len(storage.load_part(tmp_path, "search")[0]) == 48
        with pytest.raises(StorageError, match=r"the study's data cannot be read or written: .*test\.arrow"):
            storage.load_part(tmp_path, "test")

    @pytest.mark.parametrize(
        ("name", "load"),
        [
            ("search.arrow", lambda folder: storage.load_part(folder, "search")),
            ("search_target.npy", lambda folder: storage.load_part(folder, "search")),
            ("folds.npz", storage.load_folds),
            ("schema.json", storage.load_schema),
        ],
    )
    @pytest.mark.parametrize("n_bytes", [0, 40])
    def test_broken_files_are_told(self, data, name, load, n_bytes, tmp_path):
        storage.store(data, split(data), tmp_path)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:n_bytes])
        with pytest.raises(StorageError, match="start the study anew"):
            load(tmp_path)


def test_a_dataset_is_not_changed():
    data = dataset([0, 1] * 20)
    before = dataclasses.replace(data, features=data.features.copy(), target=data.target.copy())
    split(data)
    pd.testing.assert_frame_equal(data.features, before.features)
    assert np.array_equal(data.target, before.target)


def test_rows_of_a_rare_label_are_spread_over_all_parts() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 5)) < [0.7, 0.5, 0.3, 0.03, 0.02]).astype(int)
    frame = pd.DataFrame(labels, columns=list("abcde")).assign(x=rng.normal(size=400))
    data = make_dataset(frame, target=list("abcde"), name="t", source="memory")
    for train, val, test in parts(split(data, strategy="kfold", n_folds=3, test_size=0.25)):
        rare = data.target[:, 3:]
        assert (rare[train].sum(axis=0) > 0).all()
        assert (rare[val].sum(axis=0) > 0).all()
        assert (rare[test].sum(axis=0) > 0).all()
