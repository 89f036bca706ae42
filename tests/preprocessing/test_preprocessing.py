"""What holds for every registered option of every stage."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from automl.components import STAGES, catalogue
from automl.errors import ConfigError, DataError
from automl.preprocessing.preprocessing import READING, Preprocessing
from automl.values import Choice, Column, ColumnKind, Fold, Schema, Step, Target, Task

pytestmark = pytest.mark.filterwarnings("error")
TRAIN, VAL = np.arange(0, 160, 2), np.arange(1, 160, 2)

KINDS = {
    "row": ColumnKind.NUMERIC,
    "amount": ColumnKind.NUMERIC,
    "sparse": ColumnKind.NUMERIC,
    "empty": ColumnKind.NUMERIC,
    "same": ColumnKind.NUMERIC,
    "huge": ColumnKind.NUMERIC,
    "yes": ColumnKind.BOOLEAN,
    "when": ColumnKind.DATETIME,
    "row_name": ColumnKind.CATEGORICAL,
    "colour": ColumnKind.CATEGORICAL,
    "nothing": ColumnKind.CATEGORICAL,
    "remark": ColumnKind.TEXT,
}
CLASSES = ("a", "b", "c", "d")
#: Those that need packages of their own, or train networks, take their time over it, and those that read images and
#: sequences need such: the contract tests run them.
OPTIONS = [
    (stage, component.name)
    for stage in STAGES
    for component in catalogue(stage)
    if not any(trait.startswith("package:") or trait in ("takes_seconds", "image") for trait in component.traits)
]
CLASSIFICATION, REGRESSION = Task.MULTICLASS, Task.REGRESSION


def schema(task: Task = CLASSIFICATION, *names: str) -> Schema:
    """Returns the schema of the named columns; without names of all but the text, which takes longer than the rest."""
    shown = names or tuple(name for name in KINDS if name != "remark")
    target = Target("y", task, CLASSES if task.is_classification else ())
    return Schema(tuple(Column(name, KINDS[name], "") for name in KINDS if name in shown), target)


def frame(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns a canonical frame; `row` and `row_name` tell each row from all others."""
    rng = np.random.default_rng(seed)

    def holed(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(rng.random(n_rows) < share, np.nan, values)

    colours = rng.choice(["red", "green", "blue", "sand"], n_rows, p=[0.5, 0.3, 0.15, 0.05])
    words = rng.choice(["good", "bad", "slow", "late", "kind"], (n_rows, 3))
    return pd.DataFrame(
        {
            "row": np.arange(n_rows, dtype=float),
            "amount": holed(rng.normal(size=n_rows), 0.05),
            "sparse": np.where(rng.random(n_rows) < 0.9, 0.0, rng.lognormal(9, 2, n_rows)),
            "empty": np.full(n_rows, np.nan),
            "same": np.ones(n_rows),
            "huge": rng.choice([1.0, 2.0, 1e300, -np.inf, np.inf], n_rows, p=[0.5, 0.44, 0.02, 0.02, 0.02]),
            "yes": holed(rng.integers(0, 2, n_rows).astype(float), 0.05),
            "when": (pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 9000, n_rows), unit="h")).as_unit(
                "us"
            ),
            "row_name": pd.Series([f"name{i}" for i in range(n_rows)], dtype="str"),
            "colour": pd.Series(np.where(rng.random(n_rows) < 0.1, None, colours), dtype="str"),
            "nothing": pd.Series([None] * n_rows, dtype="str"),
            "remark": pd.Series([" ".join(row) if row[0] != "late" else None for row in words], dtype="str"),
        }
    )


def target(n_rows: int, task: Task = CLASSIFICATION, seed: int = 0) -> np.ndarray:
    """Returns classes of falling size, the last of one row, or values."""
    rng = np.random.default_rng(seed)
    if not task.is_classification:
        return rng.normal(1000, 100, n_rows)
    y = rng.choice(3, n_rows, p=[0.6, 0.3, 0.1])
    y[n_rows // 2] = 3
    return y.astype(np.int64)


def steps(stage: str, name: str, **params: float | str | bool) -> list[Step]:
    """Returns the step, after what it cannot do without."""
    before = [Step("encoding", Choice("onehot"))] if "synthesises_numeric" in catalogue(stage)[name].traits else []
    return [*before, Step(stage, Choice(name, params))]


def walk(stage: str, name: str, task: Task = CLASSIFICATION, **params: float | str | bool) -> Preprocessing:
    """Returns a preprocessing of one step over all columns, or over a text if it is for texts; not fitted."""
    known = schema(task)
    if stage in READING:
        known = replace(known, columns=(Column("row_name", ColumnKind.TEXT, ""),))
    return Preprocessing(steps(stage, name, **params), known, seed=7, tokens=stage == "tokenisation")


def wild(features: pd.DataFrame) -> pd.DataFrame:
    """Returns rows with nothing in common with the given ones."""
    changed = features.copy()
    for name, kind in KINDS.items():
        if kind in (ColumnKind.NUMERIC, ColumnKind.BOOLEAN):
            changed[name] = features[name].fillna(5.0) * -1e6 - 77
        elif kind is ColumnKind.DATETIME:
            changed[name] = pd.Series([pd.NaT] * len(features), dtype="datetime64[us]").to_numpy()
        else:
            changed[name] = pd.Series(["never seen"] * len(features), dtype="str").to_numpy()
    return changed


@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_other_rows_leave_no_trace(stage: str, name: str) -> None:
    table, y = frame(160), target(160)
    changed = table.copy()
    changed.iloc[VAL] = wild(table.iloc[VAL])
    y_changed = y.copy()
    y_changed[VAL] = 0

    quiet, loud = walk(stage, name), walk(stage, name)
    train, train_y = quiet.fit_resample(table.iloc[TRAIN], y[TRAIN])
    train_loud, train_y_loud = loud.fit_resample(changed.iloc[TRAIN], y_changed[TRAIN])
    val = quiet.transform(table.iloc[VAL])
    loud.transform(changed.iloc[VAL])
    val_loud = loud.transform(table.iloc[VAL])

    np.testing.assert_array_equal(train_y, train_y_loud)
    for block in quiet.inputs.blocks:
        np.testing.assert_array_equal(train[block], train_loud[block])
        np.testing.assert_array_equal(val[block], val_loud[block])


def spied(monkeypatch: pytest.MonkeyPatch, stage: str, name: str) -> set[str]:
    """Returns a set that fills with the rows that the option's estimator is fitted on."""
    component = catalogue(stage)[name]
    seen: set[str] = set()

    def spying(task: Task) -> object:
        estimator = component.factory(task)
        for method in ("fit", "fit_transform", "fit_resample"):
            inner = getattr(estimator, method, None)
            if inner is not None:

                def recorded(X: np.ndarray, *args: object, inner: object = inner) -> object:
                    told = X if X.ndim == 1 else X[:, 0]
                    seen.update(str(row).removeprefix("name").removesuffix(".0") for row in told)
                    return inner(X, *args)  # type: ignore[operator]

                setattr(estimator, method, recorded)
        return estimator

    monkeypatch.setitem(catalogue(stage)._components, name, replace(component, factory=spying))
    return seen


@pytest.mark.parametrize(("stage", "name"), [option for option in OPTIONS if option[1] != "none"])
def test_nothing_is_fitted_outside_the_training_rows(monkeypatch: pytest.MonkeyPatch, stage: str, name: str) -> None:
    seen = spied(monkeypatch, stage, name)
    table, y = frame(160), target(160)
    preprocessing = walk(stage, name)
    preprocessing.fit_resample(table.iloc[TRAIN], y[TRAIN])
    fitted_on = set(seen)
    assert fitted_on
    assert fitted_on <= {str(row) for row in TRAIN}
    preprocessing.transform(table.iloc[VAL])
    assert seen == fitted_on


def test_the_spy_sees_a_row_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = spied(monkeypatch, "scaling", "standard")
    walk("scaling", "standard").fit_resample(frame(160), target(160))
    assert {str(row) for row in VAL} <= seen


@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_a_row_does_not_depend_on_its_neighbours(stage: str, name: str) -> None:
    table, y = frame(160), target(160)
    preprocessing = walk(stage, name)
    preprocessing.fit_resample(table.iloc[TRAIN], y[TRAIN])
    together = preprocessing.transform(table.iloc[VAL])
    for position in (0, 7, 79):
        alone = preprocessing.transform(table.iloc[VAL[[position]]])
        for block, values in together.items():
            np.testing.assert_allclose(alone[block][0], values[position], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_a_seed_decides_everything(stage: str, name: str) -> None:
    results = [walk(stage, name).fit_resample(frame(120), target(120)) for _ in range(2)]
    np.testing.assert_array_equal(results[0][1], results[1][1])
    for block, values in results[0][0].items():
        np.testing.assert_array_equal(values, results[1][0][block])


@st.composite
def chains(draw: st.DrawFn) -> list[Step]:
    """Steps that may follow one another, one of each drawn stage."""
    later = draw(st.permutations(["clipping", "scaling", "resampling", "selection", "reduction"]))
    stages = ["cleaning", "imputation", "encoding", *later]
    chosen = [Step(s, Choice(draw(st.sampled_from(catalogue(s).names())))) for s in stages if draw(st.booleans())]
    assume(not Preprocessing.check([(step.stage, [step.choice.name]) for step in chosen], schema()))
    return chosen


@settings(max_examples=40, deadline=None, derandomize=True)
@given(chain=chains(), n_train=st.integers(1, 40), n_rows=st.integers(0, 12), seed=st.integers(0, 99))
def test_rows_keep_number_and_order_and_are_finite(chain: list[Step], n_train: int, n_rows: int, seed: int) -> None:
    preprocessing = Preprocessing(chain, schema(), seed=seed)
    try:
        train, y = preprocessing.fit_resample(frame(n_train, seed), target(n_train, seed=seed))
    except DataError:  # hardly a complete row, or no column that varies: told, and not to be mended here
        return
    new = frame(n_rows, seed + 1)
    out = preprocessing.transform(new)
    backwards = preprocessing.transform(new.iloc[::-1])
    assert out.keys() == train.keys() == preprocessing.inputs.blocks.keys()
    for name, spec in preprocessing.inputs.blocks.items():
        assert train[name].shape == (len(y), *spec.shape)
        assert out[name].shape == (n_rows, *spec.shape)
        assert out[name].dtype == (np.float32 if name == "numeric" else np.int64)
        assert np.isfinite(train[name]).all()
        assert np.isfinite(out[name]).all()
        np.testing.assert_allclose(backwards[name][::-1], out[name], rtol=1e-3, atol=1e-3)
    for codes in (train, out):
        if "categorical" in codes:
            assert (codes["categorical"] >= 0).all()
            assert (codes["categorical"] < preprocessing.inputs.blocks["categorical"].cardinalities).all()


def test_without_steps_the_necessary_ones_run() -> None:
    preprocessing = Preprocessing([], schema(), seed=0)
    assert [(step.stage, step.choice.name) for step in preprocessing.steps] == [
        ("imputation", "median"),
        ("encoding", "ordinal"),
    ]
    later = Preprocessing([Step("scaling", Choice("none")), Step("imputation", Choice("mean"))], schema(), seed=0)
    assert [step.stage for step in later.steps] == ["scaling", "imputation", "encoding"]
    clean = Preprocessing([Step("cleaning", Choice("drop_duplicates"))], schema(), seed=0)
    assert [step.stage for step in clean.steps] == ["cleaning", "imputation", "encoding"]


def test_dates_and_texts_become_numbers() -> None:
    when = pd.DataFrame({"when": pd.Series([pd.Timestamp("1970-01-03 12:00"), pd.NaT], dtype="datetime64[us]")})
    preprocessing = Preprocessing([], schema(REGRESSION, "when"), seed=0)
    train, _ = preprocessing.fit_resample(when, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(train["numeric"][0], [2.5, 1970, 1, 3, 5, 12])  # a Saturday
    np.testing.assert_array_equal(train["numeric"][1], train["numeric"][0])  # the median of one date

    texts = Preprocessing([], schema(CLASSIFICATION, "remark"), seed=0)
    train, _ = texts.fit_resample(frame(100), target(100))
    assert train["numeric"].shape == (100, 64)
    assert texts.notes == ("text `remark` became 64 numeric columns",)


def test_a_block_without_columns_is_absent() -> None:
    table, y = frame(100), target(100)
    preprocessing = Preprocessing(steps("selection", "variance"), schema(CLASSIFICATION, "same", "colour"), seed=0)
    train, _ = preprocessing.fit_resample(table, y)
    assert train.keys() == preprocessing.transform(table).keys() == {"categorical"}


def test_no_column_left_is_told() -> None:
    preprocessing = Preprocessing(steps("selection", "variance"), schema(CLASSIFICATION, "same"), seed=0)
    with pytest.raises(DataError, match="no column to learn from"):
        preprocessing.fit_resample(frame(20), target(20))
    with pytest.raises(DataError, match="no training rows"):
        preprocessing.fit_resample(frame(20).iloc[:0], target(20)[:0])


def test_outliers_stay_finite_and_squares_of_them_too() -> None:
    table = pd.DataFrame({"amount": [0.0, 1.0, 2.0]})
    preprocessing = Preprocessing(steps("scaling", "standard"), schema(REGRESSION, "amount"), seed=0)
    preprocessing.fit_resample(table, np.array([0.0, 1.0, 2.0]))
    out = preprocessing.transform(pd.DataFrame({"amount": [np.inf, -1e308, 3.0]}))["numeric"]
    assert np.isfinite(out**2).all()
    assert out[0] == -out[1] > out[2]


def test_a_step_that_is_an_option_elsewhere_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown scaling `pca`"):
        Preprocessing([Step("scaling", Choice("pca"))], schema(), seed=0)


def problems(*stages: tuple[str, list[str]], task: Task = CLASSIFICATION, only: tuple[str, ...] = ()) -> list[str]:
    return [str(problem) for problem in Preprocessing.check(stages, schema(task, *only))]


@pytest.mark.parametrize(
    ("stages", "where", "said"),
    [
        ([("scalin", ["standard"])], "preprocessing.0.stage", "Did you mean `scaling`"),
        ([("scaling", ["standard"]), ("scaling", ["robust"])], "preprocessing.1.stage", "twice"),
        ([("scaling", ["none", "standart"])], "preprocessing.0.options.1", "Did you mean `standard`"),
        ([("resampling", ["random_over"]), ("encoding", ["onehot"])], "preprocessing.0.stage", "`encoding` above"),
        ([("reduction", ["pca"]), ("imputation", ["mean"])], "preprocessing.0.stage", "`imputation` above"),
        ([("encoding", ["onehot"]), ("imputation", ["most_frequent"])], "preprocessing.1.stage", "encoded before"),
        ([("encoding", ["onehot", "ordinal"]), ("resampling", ["smote"])], "preprocessing.1", "`ordinal` leaves"),
        ([("resampling", ["none", "smote"])], "preprocessing.0", "(`row_name`, `colour`, `nothing`)"),
    ],
)
def test_what_cannot_work_is_told_before(stages: list[tuple[str, list[str]]], where: str, said: str) -> None:
    (told,) = problems(*stages)
    assert told.startswith(f"{where}: ")
    assert said in told


def test_what_can_work_is_not_complained_about() -> None:
    assert not problems(("encoding", ["onehot", "target"]), ("resampling", ["smote", "smotenc"]))
    assert not problems(("resampling", ["smote"]), only=("amount", "yes"))
    assert not problems(("resampling", ["none"]), task=REGRESSION)
    assert not problems(("scaling", ["standard"]), ("imputation", ["knn"]), ("selection", ["mutual_information"]))
    (told,) = problems(("resampling", ["none", "random_under"]), task=REGRESSION)
    assert "`y` is a number" in told


@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_a_table_of_numbers_only_and_one_of_categories_only(stage: str, name: str) -> None:
    y = np.array([0, 1] * 20)
    for kind, values in ((ColumnKind.NUMERIC, np.arange(40.0)), (ColumnKind.CATEGORICAL, ["u", "v"] * 20)):
        only = Schema((Column("x", kind, ""),), Target("y", Task.BINARY, ("no", "yes")))
        if Preprocessing.check([(s.stage, [s.choice.name]) for s in steps(stage, name)], only):
            continue
        preprocessing = Preprocessing(steps(stage, name), only, seed=0)
        preprocessing.fit_resample(pd.DataFrame({"x": values}), y)
        assert len(preprocessing.transform(pd.DataFrame({"x": values[:3]}))) == 1


def test_class_names_stand_in_the_notes() -> None:
    preprocessing = walk("resampling", "random_over")
    preprocessing.fit_resample(frame(100), target(100))
    assert any(all(f"{name}: " in note for name in CLASSES) for note in preprocessing.notes)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_what_is_saved_transforms_the_same(tmp_path: Path, stage: str, name: str) -> None:
    table, y = frame(160), target(160)
    preprocessing = walk(stage, name)
    preprocessing.fit_resample(table.iloc[TRAIN], y[TRAIN])
    preprocessing.save(tmp_path / "preprocessing.skops")
    loaded = Preprocessing.load(tmp_path / "preprocessing.skops", preprocessing.schema)
    assert (loaded.inputs, loaded.notes, loaded.steps) == (
        preprocessing.inputs,
        preprocessing.notes,
        preprocessing.steps,
    )
    for block, values in preprocessing.transform(table).items():
        np.testing.assert_array_equal(loaded.transform(table)[block], values)


@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_no_training_row_is_saved(tmp_path: Path, stage: str, name: str) -> None:
    table, y = frame(160), target(160)
    preprocessing = walk(stage, name)
    preprocessing.fit_resample(table, y)
    preprocessing.save(tmp_path / "preprocessing.skops")
    with zipfile.ZipFile(tmp_path / "preprocessing.skops") as archive:
        files = {entry: archive.read(entry) for entry in archive.namelist()}
    for rare in ("name17", "name101"):
        assert not any(rare.encode(code) in data for data in files.values() for code in ("utf-8", "utf-32-le"))
    rows = walk("scaling", "none").fit_resample(table, y)[0]["numeric"]
    for entry, data in files.items():
        array = np.load(io.BytesIO(data)) if entry.endswith(".npy") else np.empty(0)
        if array.ndim == 2 and array.shape[1] == rows.shape[1]:
            assert not np.isclose(array[:, None], rows[None]).all(axis=2).any()


def test_texts_are_saved_without_their_words(tmp_path: Path) -> None:
    preprocessing = Preprocessing([], schema(CLASSIFICATION, "remark"), seed=0)
    preprocessing.fit_resample(frame(60), target(60))
    preprocessing.save(tmp_path / "preprocessing.skops")
    loaded = Preprocessing.load(tmp_path / "preprocessing.skops", schema(CLASSIFICATION, "remark"))
    np.testing.assert_array_equal(loaded.transform(frame(9))["numeric"], preprocessing.transform(frame(9))["numeric"])
    with zipfile.ZipFile(tmp_path / "preprocessing.skops") as archive:
        assert not any(b"slow" in archive.read(entry) for entry in archive.namelist())


@pytest.mark.parametrize(("stage", "name"), [o for o in OPTIONS if o[0] != "resampling" or o[1] == "none"])
def test_each_option_works_in_regression(stage: str, name: str) -> None:
    if "classification" in catalogue(stage)[name].traits:
        (told,) = problems((stage, [name]), task=REGRESSION)
        assert f"`{name}` learns from classes, and `y` is a number" in told
        return
    preprocessing = walk(stage, name, REGRESSION)
    train, values = preprocessing.fit_resample(frame(120), target(120, REGRESSION))
    assert all(len(block) == len(values) for block in train.values())
    assert preprocessing.transform(frame(5)).keys() == train.keys()


@pytest.mark.parametrize("gathered", [7, 4096])
def test_rows_named_by_position_are_rows_cut_out(gathered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table, y = frame(160), target(160)
    monkeypatch.setattr("automl.preprocessing.preprocessing.GATHERED_ROWS", gathered)
    named, cut = (Preprocessing([], schema(CLASSIFICATION, *KINDS), seed=0) for _ in range(2))
    shuffled = np.random.default_rng(0).permutation(VAL)
    for found, expected in (
        (named.fit_fold(table, y, Fold(TRAIN, VAL))[0].inputs, cut.fit_resample(table.iloc[TRAIN], y[TRAIN])[0]),
        (named.transform(table, shuffled), cut.transform(table.iloc[shuffled])),
        (named.transform(table, VAL[:0]), cut.transform(table.iloc[:0])),
    ):
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
