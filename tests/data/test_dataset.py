from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automl.data.columns import infer_kind
from automl.data.dataset import conform, infer_task, make_dataset
from automl.errors import ConfigError, DataError
from automl.values import Column, ColumnKind, Schema, Target, Task

N = 60


def series(values: object, name: str = "x", **settings: object) -> pd.Series:
    return pd.Series(values, name=name, **settings)


def table(**columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame({"age": rng.normal(size=N), "city": ["Bern", "Basel", "Chur"] * (N // 3), **columns})


def dataset(frame: pd.DataFrame | None = None, **settings: object):
    frame = table(y=["no", "yes"] * (N // 2)) if frame is None else frame
    return make_dataset(frame, **{"target": "y", "name": "t", "source": "memory", **settings})


def message(*args: object, **settings: object) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        dataset(*args, **settings)
    return str(caught.value)


WORDS = ["a", "sentence", "of", "several", "words", "about", "row"]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (series([1.5, 2.5, None] * 20), "numeric"),
        (series([Decimal("1.5"), None] * 30), "numeric"),
        (series([1, 2, None] * 20, dtype="Int64"), "numeric"),
        (series(pd.to_timedelta(range(N), unit="h")), "numeric"),
        (series(range(1960, 1960 + N), "year"), "numeric"),
        (series([*range(100, 100 + N)], "paid"), "numeric"),
        (series([True, False] * 30), "boolean"),
        (series([True, None, False] * 20, dtype=object), "boolean"),
        (series([True, None, False] * 20, dtype="boolean"), "boolean"),
        (series(["a", "b", None] * 20), "categorical"),
        (series([1, 2] * 30, dtype="category"), "categorical"),
        (series(["0815", "4711"] * 30), "categorical"),
        (series([1, "a"] * 30, dtype=object), "categorical"),
        (series([f"sales rep {i // 2}" for i in range(N)]), "text"),
        (series([f"rep {i // 2}" for i in range(N)]), "categorical"),
        (series([" ".join([*WORDS, str(i)]) for i in range(N)]), "text"),
        (series([" ".join(WORDS), "another of many words"] * 30), "categorical"),
        (series(pd.date_range("2020", periods=N)), "datetime"),
        (series([dt.date(2020, 1, 1 + i) for i in range(30)]), "datetime"),
        (series(["2020-01-31", None, "2020-02-01T10:00:00Z"] * 20), "datetime"),
        (series(["2020-01", "2020-02"] * 30), "datetime"),
        (series(["2019-20", "2020-21"] * 30), "categorical"),
        (series(["2020", "2021"] * 30), "categorical"),
        (series(["2020-01-31", "soon"] * 30), "categorical"),
        (series(range(N)), "identifier"),
        (series(range(1, N + 1), "Unnamed: 0"), "identifier"),
        (series(range(500, 500 - N, -1), "PassengerId"), "identifier"),
        (series(range(500, 500 + N), "customer_id"), "identifier"),
        (series([f"C-{i:05}" for i in range(N)]), "identifier"),
        (series([None] * N), "constant"),
        (series([np.nan] * N), "constant"),
        (series(["a"] * N), "constant"),
        (series(["a", None] * 30), "categorical"),
    ],
    ids=str,
)
def test_kinds(column, kind):
    assert infer_kind(column) == kind


@pytest.mark.parametrize(
    ("values", "task"),
    [
        ([True, False] * 30, "binary"),
        (["a", "b"] * 30, "binary"),
        ([0.0, 1.0] * 30, "binary"),
        ([-1, 255] * 30, "binary"),
        (["a", "b", "c"] * 20, "multiclass"),
        (pd.Series([1.5, 2.5, 3.5] * 20, dtype="category"), "multiclass"),
        ([3, 4, 6] * 20, "multiclass"),
        ([3.0, 4.0, 6.0] * 20, "regression"),
        ([3, 40, 600] * 20, "regression"),
        (list(range(20)) * 3, "multiclass"),
        (list(range(21)) * 3, "regression"),
        (list(range(20)) * 2, "regression"),
        (np.linspace(0, 1, N), "regression"),
        (pd.Series([1, 2, 3] * 20, dtype="Int64"), "multiclass"),
    ],
    ids=str,
)
def test_tasks(values, task):
    assert infer_task(pd.Series(values)) == task


def test_whole_numbers_that_missing_values_made_floats():
    data = dataset(table(y=[1.0, 2.0, 3.0, None] * (N // 4)))
    assert data.schema.target == Target("y", Task.MULTICLASS, (1, 2, 3))
    assert all(type(label) is int for label in data.schema.target.classes)
    assert data.notes == (
        "Rows left out, since they have no value of `y`: 15.",
        "`y` is read as 3 classes; write `task: regression` to predict a number.",
    )
    assert len(data.features) == len(data.target) == 45
    assert list(data.features.index) == list(range(45))


class TestTarget:
    def test_positive_goes_last(self):
        assert dataset().schema.target.classes == ("no", "yes")
        data = dataset(positive="no")
        assert data.schema.target.classes == ("yes", "no")
        assert data.target.dtype == np.int64
        assert data.target[:4].tolist() == [1, 0, 1, 0]

    @pytest.mark.parametrize(
        ("values", "classes"),
        [
            (np.array([True, False] * 30), (False, True)),
            (np.array([10, 9] * 30, dtype="uint8"), (9, 10)),
            (pd.Categorical(["b", "a"] * 30, categories=["b", "a", "z"]), ("a", "b")),
            ([1, "a"] * 30, (1, "a")),
        ],
    )
    def test_labels_are_sorted_python_values(self, values, classes):
        found = dataset(table(y=values)).schema.target.classes
        assert found == classes
        assert [type(label) for label in found] == [type(label) for label in classes]

    def test_unknown_positive(self):
        text = message(positive="maybe")
        assert text == "`y`: the positive class `maybe` does not occur. Allowed: `no` or `yes`."

    def test_positive_elsewhere(self):
        assert "Leave out `positive`." in message(table(y=["a", "b", "c"] * 20), positive="a")
        assert "Leave out `positive`." in message(table(y=np.linspace(0, 1, N)), positive="a")

    def test_unknown_task(self):
        assert message(task="binry") == "task: unknown task `binry`. Did you mean `binary`?"

    @pytest.mark.parametrize(
        ("values", "task", "told"),
        [
            (["a", "b", "c"] * 20, "binary", "3 classes are not binary. Write `task: multiclass`."),
            (["a", "b"] * 30, "multiclass", "2 classes are not multiclass. Write `task: binary`."),
            (
                ["a", "b"] * 30,
                "regression",
                "60 of the values cannot be read as numbers; the first is `a` in row 1. "
                "A regression needs numbers; or set `task`.",
            ),
            ([0.5, np.inf, -np.inf] * 20, "auto", "40 of the values are infinite. Correct or drop these rows."),
            (
                [f"{i}.5" for i in range(N)],
                "auto",
                "60 different values in 60 rows are no classes. "
                "Choose another column; or, if these should be numbers, write `task: regression`.",
            ),
        ],
    )
    def test_a_target_that_does_not_fit(self, values, task, told):
        assert message(table(y=values), task=task) == f"`y`: {told}"

    def test_numbers_written_as_words(self):
        data = dataset(table(y=[f"{i}.5" for i in range(N)]), task="regression")
        assert data.target.dtype == np.float64
        assert data.target[:2].tolist() == [0.5, 1.5]

    def test_a_class_with_one_row_is_told(self):
        data = dataset(table(y=["a", "b"] * 29 + ["a", "rare"]))
        assert data.notes == (
            "Classes of `y` with a single row are trained on and never validated: `rare`. "
            "Merge them with others or drop them.",
        )


class TestMakeDataset:
    def test_canonical_types(self):
        frame = table(
            y=["no", "yes"] * 30,
            flag=[True, None] * 30,
            at=["2020-01-01T12:00:00+02:00", "2020-01-02"] * 30,
            code=pd.Categorical([1, 2] * 30),
            n=np.array([5, 7] * 30, dtype="int8"),
        )
        features = dataset(frame, kinds={"n": ColumnKind.CATEGORICAL}).features
        assert {name: str(dtype) for name, dtype in features.dtypes.items()} == {
            "age": "float64",
            "city": "str",
            "flag": "float64",
            "at": "datetime64[us]",
            "code": "str",
            "n": "str",
        }
        assert features["at"].iloc[0] == pd.Timestamp("2020-01-01 10:00")
        assert features.code.tolist()[:2] == ["1", "2"]
        assert np.isnan(features["flag"].iloc[1])

    def test_what_is_left_out_is_told(self):
        data = dataset(table(y=["no", "yes"] * 30, id=range(N), void=None, same=1, mail=[f"m{i}" for i in range(N)]))
        assert data.schema.names() == ["age", "city", "id", "void", "same", "mail"]
        assert list(data.features) == ["age", "city"]
        assert data.notes == (
            "Left out, since all rows are alike in them: `void`, `same`.",
            "Left out, since they identify rows: `id`, `mail`. Set their kind to use them.",
        )

    def test_given_kinds_win(self):
        frame = table(y=["no", "yes"] * 30, id=range(N))
        assert "id" in dataset(frame, kinds={"id": ColumnKind.NUMERIC}).features
        assert "age" not in dataset(frame, kinds={"age": ColumnKind.IDENTIFIER}).features
        assert "there is no column `aeg`. Did you mean `age`?" in message(frame, kinds={"aeg": ColumnKind.NUMERIC})

    def test_nothing_left(self):
        frame = pd.DataFrame({"id": range(N), "y": ["no", "yes"] * 30})
        assert message(frame) == (
            "no column is left to predict from: all are constant or identify rows. "
            "Set the kind of a column that is neither, such as `kinds: {code: categorical}`."
        )

    def test_split_columns_are_no_features(self):
        data = dataset(table(y=["no", "yes"] * 29 + ["no", None], person=range(N)), split_columns=["person"])
        assert "person" not in data.schema.names()
        assert data.extra.person.tolist() == list(range(N - 1))

    def test_infinities_become_missing(self):
        data = dataset(table(y=["no", "yes"] * 30, rate=[np.inf, 1.0, -np.inf, 2.0] * 15))
        assert data.features.rate.isna().sum() == 30
        assert data.schema.columns[-1] == Column("rate", ColumnKind.NUMERIC, "float64", n_missing=30, n_unique=2)
        assert data.notes == ("Infinite values of `rate` taken as missing: 30.",)

    def test_a_placeholder_in_numbers_is_told(self):
        data = dataset(table(y=["no", "yes"] * 30, income=["?", "?", *map(str, range(10, 39))] + ["10"] * 29))
        assert data.notes == (
            "`income` is taken as categorical, since not all of its values are numbers: "
            "2 are not, such as `?`. Leave such cells empty.",
        )

    def test_problems_of_the_table_are_told(self):
        assert message(target="z") == "there is no column `z` to predict. Known: `age`, `city`, `y`"


class TestDigest:
    def test_equal_through_csv_and_parquet(self, tmp_path):
        frame = table(y=["no", "yes"] * 30, n=[1, None, 3] * 20, flag=[True, None] * 30, at=dt.date(2020, 1, 1))
        frame.loc[0, "at"] = dt.date(2020, 1, 2)
        frame.to_csv(tmp_path / "t.csv", index=False)
        frame.to_parquet(tmp_path / "t.parquet")
        digests = {
            dataset(frame).digest,
            dataset(pd.read_csv(tmp_path / "t.csv")).digest,
            dataset(pd.read_parquet(tmp_path / "t.parquet")).digest,
        }
        assert len(digests) == 1

    def test_negative_zero_and_kinds_of_nan_are_equal(self):
        other_nan = np.array([0x7FF8000000000001], dtype="uint64").view("float64")[0]
        a = table(y=["no", "yes"] * 30, n=[0.0, np.nan, 1.0] * 20)
        b = a.assign(n=[-0.0, other_nan, 1.0] * 20)
        assert dataset(a).digest == dataset(b).digest

    @pytest.mark.parametrize(
        "change",
        [
            lambda frame: frame.assign(age=frame.age + 1e-12),
            lambda frame: frame.assign(city=frame.city.where(frame.index != 7)),
            lambda frame: frame.assign(city=frame.city.where(frame.index != 7, "Chur ")),
            lambda frame: frame.rename(columns={"age": "Age"}),
            lambda frame: frame[["city", "age", "y"]],
            lambda frame: frame.assign(y=["yes", "no"] * 30),
            lambda frame: frame[::-1],
            lambda frame: frame[:-2],
        ],
    )
    def test_any_change_changes_it(self, change):
        frame = table(y=["no", "yes"] * 30)
        assert dataset(change(frame)).digest != dataset(frame).digest


SCHEMA = Schema(
    (
        Column("age", ColumnKind.NUMERIC, "int64"),
        Column("id", ColumnKind.IDENTIFIER, "str"),
        Column("city", ColumnKind.CATEGORICAL, "str"),
        Column("flag", ColumnKind.BOOLEAN, "bool"),
        Column("at", ColumnKind.DATETIME, "datetime64[us]"),
    ),
    Target("y", Task.BINARY, ("no", "yes")),
)


class TestConform:
    row = {"at": "2020-01-01", "flag": "TRUE", "city": 7.0, "age": "41"}  # noqa: RUF012 - never changed

    def test_order_types_and_index(self):
        frame = pd.DataFrame([self.row, dict.fromkeys(self.row)], index=[7, 3])
        conformed, notes = conform(frame, SCHEMA)
        assert list(conformed) == ["age", "city", "flag", "at"]
        assert list(conformed.index) == [7, 3]
        assert conformed.iloc[0].tolist() == [41.0, "7", 1.0, pd.Timestamp("2020-01-01")]
        assert conformed.iloc[1].isna().all()
        assert list(map(str, conformed.dtypes)) == ["float64", "str", "float64", "datetime64[us]"]
        assert notes == ()

    def test_the_given_frame_is_not_changed(self):
        frame = pd.DataFrame([self.row])
        before = frame.copy()
        conform(frame, SCHEMA)
        pd.testing.assert_frame_equal(frame, before)

    def test_missing_columns_are_told_at_once(self):
        with pytest.raises(DataError) as caught:
            conform(pd.DataFrame([{"Age": 41, "flag": True}]), SCHEMA)
        assert str(caught.value).splitlines() == [
            "the column `age` is missing. Did you mean `Age`?",
            "the column `city` is missing. Known: `Age`",
            "the column `at` is missing. Known: `Age`",
        ]

    def test_only_strangers_are_told_as_ignored(self):
        frame = pd.DataFrame([{**self.row, "y": "no", "id": "a", "new": 1}])
        assert conform(frame, SCHEMA)[1] == ("Ignored, since the model does not know them: `new`.",)

    def test_values_of_another_kind_are_told_at_once(self):
        bad = {"at": "31.12.2020", "flag": "perhaps", "city": "Bern", "age": "old"}
        with pytest.raises(DataError) as caught:
            conform(pd.DataFrame([self.row, bad, bad]), SCHEMA)
        assert str(caught.value).splitlines() == [
            "`age`: 2 of the values cannot be read as numbers; the first is `old` in row 2. "
            "Correct them or leave the cells empty.",
            "`flag`: 2 of the values cannot be read as truth values; the first is `perhaps` in row 2. "
            "Write true or false, or leave the cells empty.",
            "`at`: 2 of the values cannot be read as dates; the first is `31.12.2020` in row 2. "
            "Write them as 2026-01-31 or 2026-01-31T12:00:00, or leave the cells empty.",
        ]

    def test_dates_are_no_numbers(self):
        with pytest.raises(DataError, match="`age`: 1 of the values cannot be read as numbers"):
            conform(pd.DataFrame([{**self.row, "age": pd.Timestamp("2020")}]), SCHEMA)

    def test_repeated_columns(self):
        frame = pd.DataFrame([[1, 2]], columns=["age", "age"])
        with pytest.raises(DataError, match=r"the column `age` occurs several times\. Keep one\."):
            conform(frame, SCHEMA)

    def test_no_rows(self):
        conformed, _ = conform(pd.DataFrame(columns=["age", "city", "flag", "at"]), SCHEMA)
        assert list(map(str, conformed.dtypes)) == ["float64", "str", "float64", "datetime64[us]"]

    @given(
        st.lists(
            st.tuples(
                st.none() | st.floats(allow_infinity=False) | st.integers(-(2**53), 2**53),
                st.none() | st.text(max_size=5) | st.integers() | st.booleans(),
                st.none() | st.booleans(),
                st.none() | st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
            ),
            min_size=1,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_conforming_twice_changes_nothing(self, rows):
        once, _ = conform(pd.DataFrame(rows, columns=["age", "city", "flag", "at"]), SCHEMA)
        twice, notes = conform(once, SCHEMA)
        assert len(once) == len(rows)
        pd.testing.assert_frame_equal(once, twice)
        assert notes == ()


# --- several targets -------------------------------------------------------------------------------------------------


def several(**columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return table(
        **{
            "a": [0, 1] * (N // 2),
            "b": [1, 1, 0] * (N // 3),
            "price": rng.normal(size=N),
            "grade": ["x", "y", "z"] * 20,
        }
        | columns
    )


def test_targets_that_are_all_0_or_1_are_labels() -> None:
    data = dataset(several(b=[True, False, None] * (N // 3)), target=["a", "b"])
    assert (data.schema.target.task, data.schema.target.names) == (Task.MULTILABEL, ["a", "b"])
    assert [part.classes for part in data.schema.target.parts] == [(0, 1), (False, True)]
    assert {part.task for part in data.schema.target.parts} == {Task.BINARY}
    np.testing.assert_array_equal(data.target[:3], [[0, 1], [1, 0], [0, np.nan]])
    assert Schema.from_json(data.schema.to_json()) == data.schema
    assert not {"a", "b"} & set(data.features)


@pytest.mark.parametrize(
    ("targets", "task", "tasks"),
    [
        (["a", "b"], "multitask", "binary binary"),
        (["a", "b"], {"a": "binary"}, "binary binary"),
        (["a", "price", "grade"], "auto", "binary regression multiclass"),
        (["a", "price"], {"a": "regression"}, "regression regression"),
        (["price", "a"], "regression", "regression regression"),
        (["price", "a"], {"price": (0.1, 0.9)}, "quantile binary"),
        (["price", "a"], "quantile", "quantile quantile"),
    ],
)
def test_each_target_has_its_own_task(targets: list[str], task: object, tasks: str) -> None:
    target = dataset(several(), target=targets, task=task).schema.target
    assert target.task is Task.MULTITASK
    assert " ".join(part.task for part in target.parts) == tasks


def test_a_row_without_any_target_is_left_out_and_one_without_some_is_not() -> None:
    frame = several().astype({"a": float})
    frame.loc[:4, "a"] = np.nan
    frame.loc[:2, "price"] = np.nan
    data = dataset(frame, target=["a", "price"])
    assert len(data.features) == len(data.target) == N - 3
    assert np.isnan(data.target).sum(axis=0).tolist() == [2, 0]
    assert any("no value of any target: 3" in note for note in data.notes)
    assert any("`a` is missing in 2 of 57 rows" in note for note in data.notes)


def test_a_list_of_one_is_one() -> None:
    one, same = dataset(several(), target=["a"]), dataset(several(), target="a")
    assert one.schema == same.schema
    assert one.digest == same.digest


def test_quantiles_are_levels_of_one_target() -> None:
    target = dataset(several(), target="price", task=(0.2, 0.5)).schema.target
    assert (target.task, target.quantiles, target.n_outputs) == (Task.QUANTILE, (0.2, 0.5), 2)
    assert [name for name, _ in target.columns()] == ["prediction", "quantile_0.2", "quantile_0.5"]
    assert dataset(several(), target="price", task="quantile").schema.target.quantiles == (0.1, 0.5, 0.9)


def test_columns_of_predictions_say_whose_they_are() -> None:
    target = dataset(several(), target=["a", "grade", "price"], task={"price": (0.5,)}).schema.target
    assert " ".join(name for name, _ in target.columns()) == (
        "a proba_a grade proba_grade_x proba_grade_y proba_grade_z price quantile_price_0.5"
    )
    assert target.slices == (slice(0, 2), slice(2, 5), slice(5, 6))
    assert (target.width, target.n_outputs) == (6, 5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": ["a", "prize"]}, "there is no column `prize` to predict. Did you mean `price`"),
        ({"target": ["a", "b", "a"]}, "`a` is there 2 times"),
        ({"target": ["a", "grade"], "task": "multilabel"}, "`grade`: `x` is no label"),
        ({"target": ["a", "none"]}, "`none`: every value is `0`. There must be two classes"),
        ({"target": ["a", "b"], "kinds": {"b": ColumnKind.NUMERIC}}, "`b`: the column is to be predicted"),
        ({"target": ["a", "b"], "split_columns": ["b"]}, "cannot steer the split"),
        ({"target": ["a", "b"], "positive": 1}, "`positive` is for a single binary target"),
        ({"target": ["a", "b"], "task": {"c": "binary"}}, "task.c: `c` is not among the targets"),
        ({"target": ["a", "b"], "task": {"a": "multilabel"}}, "a task of several targets together"),
        ({"target": "a", "task": "multilabel"}, "Name several under `target`"),
        ({"target": ["a", "b"], "task": {"a": "binry"}}, "Did you mean `binary`?"),
        ({"target": ["grade", "proba_grade_x"]}, "two columns of predictions would be called `proba_grade_x`"),
        ({"target": ["price", "grade"], "task": "regression"}, "`grade`: 60 of the values cannot be read as numbers"),
    ],
)
def test_what_no_targets_are_is_told(settings: dict[str, object], said: str) -> None:
    frame = several(none=0, proba_grade_x=[0.5, 1.5] * 30)
    assert said in message(frame, **settings)
