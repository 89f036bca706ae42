from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from automl import metrics, reference_model
from automl.array_column import pack
from automl.data.blocks import BlockLayout, ForecastLayout
from automl.data.dataset import make_dataset
from automl.data.forecasting import STEERING, seasonal_name, windows
from automl.errors import DataError, RefusedError
from automl.jobs import BLOCK_REFERENCES, REFERENCES, references
from automl.preprocessing.saving import write
from automl.reference_model import (
    ABOUT,
    FIRST_ROUNDS,
    LARGEST_STEP,
    NAMES,
    OF_BLOCKS,
    BoostedTrees,
    FrameMatrix,
    HashedWords,
    Held,
    ReferenceModel,
)
from automl.testing import PLAIN_TASKS, boring_table, boring_targets
from automl.values import Block, ColumnKind, Dataset, ImageFiles, Schema, Target, Task

OF_TABLES = [name for name in NAMES if name != "seasonal_naive"]


def table(task: Task, n_rows: int = 120) -> Dataset:
    return make_dataset(boring_table(task, n_rows=n_rows), target="target", task=task, name="x", source="y")


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenth of the steps shows the same."""
    monkeypatch.setattr("automl.reference_model.USUAL_ROUNDS", 20)


def test_the_launcher_knows_all_of_them() -> None:
    assert REFERENCES == NAMES
    assert BLOCK_REFERENCES == OF_BLOCKS
    assert set(ABOUT) == {*NAMES, *OF_BLOCKS}


def with_blocks(task: Task, kinds: tuple[str, ...], n_rows: int = 150) -> Dataset:
    """Returns a table of waves and stripes, and whatever comes beside; how fast and how steep they are is the target.

    Each begins anywhere, so that no cell by itself tells anything.
    """
    rng = np.random.default_rng(0)
    level = rng.integers(0, 2 if task is Task.BINARY else 3, n_rows)
    begin = rng.uniform(0, 2 * np.pi, n_rows)
    steps = np.sin(begin[:, None] + np.arange(24) * (0.4 + 0.5 * level[:, None]))
    row, column = np.divmod(np.arange(64), 8)
    pixels = np.sin(begin[:, None] + np.where(level[:, None] % 2, row, column) * (1.0 + (level[:, None] > 1)))
    cells = {"sequence": steps, "image": pixels}
    shapes = {"sequence": [1, 24], "image": [1, 8, 8]}
    made = pd.DataFrame(
        {"side": rng.choice(["left", "right"], n_rows), "t": level * 1.0 if not task.is_classification else level}
    )
    for kind in kinds:
        values = pd.DataFrame(cells[kind]).add_prefix(f"{kind}_")
        made = pd.concat([made, values.mask(rng.uniform(size=values.shape) < 0.02)], axis=1)
    layouts = [BlockLayout(kind, f"{kind}_*", shapes[kind]) for kind in kinds]  # type: ignore[arg-type]
    return make_dataset(made, target="t", task=task, name="x", source="y", blocks=layouts)


@pytest.mark.parametrize(
    ("kinds", "names"),
    [((), set()), (("image",), {"random_convolutions"}), (("image", "sequence"), {"summaries", "random_convolutions"})],
)
def test_a_table_has_those_of_its_blocks(kinds: tuple[str, ...], names: set[str]) -> None:
    found = references(with_blocks(Task.BINARY, kinds, 20).schema)
    assert set(found) == {*OF_TABLES, *names}
    assert [name for name in found if name in NAMES] == OF_TABLES


def test_large_images_in_one_column_are_read_smaller_and_no_row_sees_another(monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block("image", ColumnKind.IMAGE, (), (3, 60, 90), ImageFiles("photo"))
    pixels = np.random.default_rng(0).integers(0, 255, (12, *block.shape), dtype=np.uint8)
    packed = pack(pixels, np.arange(12) == 5, block)
    schema = Schema((), Target("y", Task.BINARY, ("a", "b")), (block,))
    matrix = FrameMatrix.of(schema, Task.BINARY, form="linear", max_levels=9, seed=0, read=schema.blocks)
    frame = packed.to_frame()
    whole = matrix.fit_transform(frame, np.arange(12) % 2)
    assert np.isfinite(whole).all()
    assert matrix._cells(frame, matrix.blocks[0]).shape == (12, 3, 30, 45)
    monkeypatch.setattr("automl.reference_model.ROWS", 5)
    np.testing.assert_allclose(matrix.transform(frame), whole, atol=1e-4)


def test_quantiles_have_none_that_would_be_too_large_a_linear_program() -> None:
    schema = with_blocks(Task.REGRESSION, ("sequence",), 20).schema
    target = replace(schema.target, task=Task.QUANTILE, quantiles=(0.1, 0.9))
    found = references(replace(schema, target=target))
    assert "summaries" in found
    assert "random_convolutions" not in found


@pytest.mark.parametrize(
    ("name", "kinds", "task"),
    [
        ("summaries", ("sequence", "image"), Task.BINARY),
        ("random_convolutions", ("sequence",), Task.MULTICLASS),
        ("random_convolutions", ("image",), Task.REGRESSION),
        ("random_convolutions", ("image", "sequence"), Task.BINARY),
    ],
)
def test_blocks_are_read_as_they_are(name: str, kinds: tuple[str, ...], task: Task, tmp_path: Path) -> None:
    data = with_blocks(task, kinds)
    train, val = np.arange(0, 100), np.arange(100, 150)
    metric = metrics.default_metric(task)
    scores = []
    for each in (name, "linear"):
        model = ReferenceModel.fit(each, data.schema, data.features.iloc[train], data.target[train], 0)
        scores.append(metrics.score(metric, data.target[val], model.predictions(data.features.iloc[val])))
        model.save(tmp_path / "model.skops")
        loaded = ReferenceModel.load(tmp_path / "model.skops", data.schema)
        np.testing.assert_array_equal(loaded.predictions(data.features), model.predictions(data.features))
    assert metric.better(*scores)


def test_there_is_time_and_room_for_those_that_are_run() -> None:
    number, level = Target("a", Task.REGRESSION), Target("b", Task.QUANTILE, quantiles=(0.1, 0.9))

    def names(*parts: Target) -> list[str]:
        target = parts[0] if len(parts) == 1 else Target("", Task.MULTITASK, parts=parts)
        return list(references(Schema((), target)))

    assert names(number) == names(number, number, number) == OF_TABLES
    assert set(OF_TABLES) - set(names(level)) == {"forest"}
    assert names(number, level, number) == ["dummy", "linear", "boosting"]


@pytest.mark.parametrize("name", ["dummy", "linear", "boosting"])
def test_every_target_and_every_quantile_has_a_model_of_its_own(name: str, tmp_path: Path) -> None:
    made = boring_table(Task.MULTITASK, n_rows=120).drop(columns="remark")  # more words than rows fit every row
    dataset = make_dataset(made, **boring_targets(Task.MULTITASK), name="x", source="y")
    fitted = ReferenceModel.fit(name, dataset.schema, dataset.features, dataset.target, 0)
    assert len(fitted.fitted) == 3 + 3  # three targets, and three quantiles of the fourth
    found = fitted.predictions(dataset.features)
    assert found.shape == (120, 1 + 2 + 3 + 3)
    np.testing.assert_allclose(found[:, 1:3].sum(axis=1), 1)
    assert (np.diff(found[:, 6:], axis=1) >= 0).all()
    known = ~np.isnan(dataset.target[:, 3])
    below = (dataset.target[known, 3, None] <= found[known, 6:]).mean(axis=0)
    np.testing.assert_allclose(below, [0.1, 0.5, 0.9], atol=0.12)
    fitted.save(tmp_path / "model.skops")
    loaded = ReferenceModel.load(tmp_path / "model.skops", dataset.schema)
    np.testing.assert_array_equal(loaded.predictions(dataset.features), found)


def test_a_target_of_one_class_in_a_fold_is_put_up_with() -> None:
    made = boring_table(Task.MULTILABEL, n_rows=90)
    dataset = make_dataset(made, **boring_targets(Task.MULTILABEL), name="x", source="y")
    y = dataset.target.copy()
    y[:, 1] = 0
    found = ReferenceModel.fit("linear", dataset.schema, dataset.features, y, 0).predictions(dataset.features)
    assert (found[:, 3] == 0).all()
    y[:, 1] = np.nan
    with pytest.raises(DataError, match="`second`: no training row has a value"):
        ReferenceModel.fit("linear", dataset.schema, dataset.features, y, 0)


@pytest.mark.parametrize("name", OF_TABLES)
@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_every_kind_of_column_is_taken(task: Task, name: str) -> None:
    dataset = table(task)
    train, val = np.arange(0, 120, 2), np.arange(1, 120, 2)
    fit = (dataset.schema, dataset.features.iloc[train], dataset.target[train], 0)
    unseen = dataset.features.iloc[val].assign(colour="ultraviolet", remark=None, amount=np.nan)
    found = ReferenceModel.fit(name, *fit).predictions(unseen)
    assert np.isfinite(found).all()
    assert found.shape == ((60,) if task is Task.REGRESSION else (60, len(dataset.schema.target.classes)))
    np.testing.assert_array_equal(ReferenceModel.fit(name, *fit).predictions(unseen), found)


@pytest.mark.parametrize("name", OF_TABLES)
@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_what_is_saved_predicts_the_same_to_the_last_bit(task: Task, name: str, tmp_path: Path) -> None:
    dataset = table(task)
    fitted = ReferenceModel.fit(name, dataset.schema, dataset.features, dataset.target, 0)
    fitted.save(tmp_path / "model.skops")
    loaded = ReferenceModel.load(tmp_path / "model.skops", dataset.schema)
    assert loaded.name == name
    np.testing.assert_array_equal(loaded.predictions(dataset.features), fitted.predictions(dataset.features))


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_TABLES)
@pytest.mark.parametrize("columns", [["amount", "visits"], ["colour"], ["remark"], ["since"]])
def test_columns_of_one_kind_are_taken(name: str, columns: list[str]) -> None:
    made = boring_table(Task.BINARY, n_rows=60)[[*columns, "target"]]
    dataset = make_dataset(made, target="target", name="x", source="y")
    model = ReferenceModel.fit(name, dataset.schema, dataset.features, dataset.target, 0)
    assert model.predictions(dataset.features).shape == (60, 2)


@pytest.mark.parametrize("name", OF_TABLES)
def test_a_class_without_training_rows_gets_no_probability(name: str) -> None:
    dataset = table(Task.MULTICLASS, 90)
    rows = np.flatnonzero(dataset.target != 1)
    model = ReferenceModel.fit(name, dataset.schema, dataset.features.iloc[rows], dataset.target[rows], 0)
    found = model.predictions(dataset.features)
    assert found.shape == (90, 3)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("name", OF_TABLES)
def test_a_class_of_one_row_is_put_up_with(name: str) -> None:
    made = pd.DataFrame({"a": np.arange(40.0) % 7, "target": ["x"] * 20 + ["y"] * 19 + ["z"]})
    dataset = make_dataset(made, target="target", name="x", source="y")
    model = ReferenceModel.fit(name, dataset.schema, dataset.features, dataset.target, 0)
    assert model.predictions(dataset.features).shape == (40, 3)


@pytest.mark.parametrize("name", ["linear", "random_convolutions"])
def test_noise_is_met_with_a_strong_penalty_and_fitted_alike_later(name: str) -> None:
    data = with_blocks(Task.BINARY, ("sequence",), 90)
    noise = np.random.default_rng(1).integers(0, 2, 90)
    fit = (name, data.schema, data.features.iloc[:60])
    in_one_cell = (data.features["sequence_0"] > 0).to_numpy(np.int64)
    strengths = []
    for target in (in_one_cell if name == "linear" else data.target, noise):
        model = ReferenceModel.fit(*fit, target[:60], 0, held=Held(data.features.iloc[60:], target[60:]))
        again = ReferenceModel.fit(*fit, target[:60], 0, like=model)
        assert again.fitted[0].estimator.C == model.fitted[0].estimator.C
        strengths.append(model.fitted[0].estimator.C)
    assert strengths[0] > strengths[1]


def test_of_many_rows_a_linear_model_has_the_usual_penalty(monkeypatch: pytest.MonkeyPatch) -> None:
    data = with_blocks(Task.BINARY, ("sequence",), 90)
    monkeypatch.setattr(reference_model, "MAX_PENALISED_ROWS", 59)
    noise = np.random.default_rng(1).integers(0, 2, 90)
    held = Held(data.features.iloc[60:], noise[60:])
    model = ReferenceModel.fit("linear", data.schema, data.features.iloc[:60], noise[:60], 0, held=held)
    strength = model.fitted[0].estimator.C
    assert strength == reference_model.USUAL_STRENGTH["linear"]


# --- the trees -----------------------------------------------------------------------------------------------------


def mixed(n_classes: int, n: int = 1500) -> tuple[Any, Any]:
    """Returns two columns of codes and two numbers, some of them missing, and a target."""
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.integers(0, 12, n), rng.integers(0, 4, n), rng.normal(size=n), rng.normal(size=n)])
    X = X.astype(np.float64)
    X[:, 1] = 1 + 2 * X[:, 1]  # codes need not begin at 0, nor follow one another
    score = np.isin(X[:, 0], [1, 5, 7]) * 2 + X[:, 2] + rng.normal(0, 0.3, n)
    X[rng.uniform(size=n) < 0.1, 2] = np.nan
    return X, score if not n_classes else np.digitize(score, np.quantile(score, np.arange(1, n_classes) / n_classes))


@pytest.mark.parametrize("n_classes", [0, 2, 4])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_the_kept_trees_predict_as_scikit_learn_does(n_classes: int, early_stopping: bool) -> None:
    X, y = mixed(n_classes)
    options: dict[str, Any] = {"random_state": 3, "early_stopping": early_stopping}
    theirs: Any = (HistGradientBoostingClassifier if n_classes else HistGradientBoostingRegressor)(
        categorical_features=[0, 1], **options
    ).fit(X, y)
    ours = BoostedTrees(classification=n_classes > 0, n_categorical=2, **options).fit(X, y)
    unseen = X[:200].copy()
    unseen[:20, 0] = 99.0  # levels that no training row has
    unseen[10:30, 1] = 2.0
    if n_classes:
        np.testing.assert_allclose(ours.predict_proba(unseen), theirs.predict_proba(unseen), rtol=1e-9)
    else:
        np.testing.assert_allclose(ours.predict(unseen), theirs.predict(unseen), rtol=1e-9)


@pytest.mark.parametrize(("small_steps", "rate"), [(0, 0.04), (10**9, LARGEST_STEP)])
def test_steps_are_as_small_as_time_allows(small_steps: int, rate: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl.reference_model.SMALL_STEPS", small_steps)
    X, y = mixed(0)
    trees = BoostedTrees(classification=False, n_categorical=2, learning_rate=0.04, max_iter=60)
    trees.fit(X[:1000], y[:1000], X[1000:], y[1000:], stop_at=time.monotonic() + 1000)
    assert 0 < trees.n_rounds_ <= 60
    first = min(trees.n_rounds_, FIRST_ROUNDS)
    expected = (first * 0.04 + (trees.n_rounds_ - first) * rate) / trees.n_rounds_
    assert trees.learning_rate_ == pytest.approx(expected)
    assert trees.n_rounds_ > FIRST_ROUNDS


def of_many_levels(task: Task) -> Dataset:
    """Returns a table whose one column of 300 levels tells the target, and one of two that tells nothing."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 300, 3000)
    value = rng.normal(size=300)[level] + rng.normal(0, 0.1, 3000)
    target = value if task is Task.REGRESSION else np.digitize(value, [0.0] if task is Task.BINARY else [-0.5, 0.5])
    made = pd.DataFrame({"who": [f"name{n}" for n in level], "side": rng.choice(["left", "right"], 3000), "t": target})
    return make_dataset(made, target="t", task=task, name="x", source="y")


@pytest.mark.parametrize("name", ["boosting", "slow_boosting", "shallow_boosting", "forest"])
@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_a_column_of_many_levels_becomes_means_of_other_rows(task: Task, name: str, tmp_path: Path) -> None:
    data = of_many_levels(task)
    train, val = np.arange(0, 2000), np.arange(2000, 3000)
    model = ReferenceModel.fit(name, data.schema, data.features.iloc[train], data.target[train], 0)
    assert (model.fitted[0].matrix.coded_, model.fitted[0].matrix.averaged_) == (["side"], ["who"])
    metric = metrics.default_metric(task)
    dummy = ReferenceModel.fit("dummy", data.schema, data.features.iloc[train], data.target[train], 0)
    scores = [metrics.score(metric, data.target[val], m.predictions(data.features.iloc[val])) for m in (model, dummy)]
    assert abs(scores[0] - scores[1]) > 0.3
    assert metric.better(*scores)
    model.save(tmp_path / "model.skops")
    loaded = ReferenceModel.load(tmp_path / "model.skops", data.schema)
    np.testing.assert_array_equal(loaded.predictions(data.features), model.predictions(data.features))


def test_no_training_row_is_told_its_own_target() -> None:
    rng = np.random.default_rng(0)
    names = pd.DataFrame({"who": [f"name{n // 2}" for n in range(2000)]})  # two rows a level: what noise there is shows
    noise = rng.integers(0, 2, 2000)
    data = make_dataset(names.assign(t=noise), target="t", name="x", source="y")
    matrix = FrameMatrix.of(data.schema, data.schema.target.task, form="trees", max_levels=100, seed=0)
    told = matrix.fit_transform(data.features, data.target)[:, 0]
    assert abs(np.corrcoef(told, data.target)[0, 1]) < 0.1
    assert np.corrcoef(matrix.transform(data.features)[:, 0], data.target)[0, 1] > 0.5


@pytest.mark.parametrize(
    ("field", "value"), [("left", 60_000), ("right", 0), ("feature_idx", 4), ("feature_idx", -1), ("bitset_idx", 9_999)]
)
def test_trees_that_lead_nowhere_are_refused(field: str, value: int, tmp_path: Path) -> None:
    X, y = mixed(2)
    trees = BoostedTrees(classification=True, n_categorical=2).fit(X, y)
    assert trees.is_sound()
    inner = np.flatnonzero((trees.nodes_["is_leaf"] == 0) & (trees.nodes_["is_categorical"] == 1))[0]
    trees.nodes_[field][inner] = value
    assert not trees.is_sound()
    matrix = FrameMatrix(levels=[], numbers=[], dates=[], texts=[])
    write({"name": "boosting", "matrix": matrix, "estimator": trees}, tmp_path / "model.skops")
    with pytest.raises(RefusedError, match="lead nowhere"):
        ReferenceModel.load(tmp_path / "model.skops", table(Task.BINARY).schema)


def test_a_file_that_holds_another_type_is_refused(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import CountVectorizer

    document = {"name": "linear", "matrix": CountVectorizer(input="filename"), "estimator": None}
    skops.io.dump(document, tmp_path / "model.skops")
    with pytest.raises(RefusedError, match="CountVectorizer"):
        ReferenceModel.load(tmp_path / "model.skops", table(Task.BINARY).schema)


@pytest.mark.parametrize("texts", [["one two", "three four"], ["", ""], ["a good film", "a bad film"]])
def test_words_are_weighed_however_few_there_are(texts: list[str]) -> None:
    given = np.array(texts, object)
    words = HashedWords().fit(given)
    weights = words.transform(np.array([*texts, "never seen"], object)).toarray()
    assert np.isfinite(weights).all()
    assert np.array_equal(words.transform(given).toarray(), weights[:2])


def test_what_one_training_text_alone_says_is_not_kept() -> None:
    words = HashedWords().fit(np.array(["good film", "bad film"], object))
    assert len(words.columns_["word"]) == 1
    assert words.transform(np.array(["film"], object))[0, 0] > 0


@pytest.mark.parametrize("rises", [0.0, 1.0])
def test_the_last_season_where_it_is_the_same_above_every_level(rises: float) -> None:
    """Its column is left out of the table then, since all rows are alike in it."""
    window, season = (2, 2) if rises else (1, 1)
    noise = np.zeros(40) if rises else np.random.default_rng(0).normal(size=40)
    history = pd.DataFrame({"day": np.arange(40), "y": noise + rises * np.arange(40.0)})
    made = windows(history, "y", ForecastLayout("day", 1, window, season=season))
    data = make_dataset(made.frame, target="y", name="x", source="y", split_columns=STEERING, blocks=made.blocks)
    schema = replace(data.schema, forecast=made.forecast)
    assert seasonal_name("y") not in data.features
    model = ReferenceModel.fit("seasonal_naive", schema, data.features, data.target, 0)
    np.testing.assert_allclose(model.predictions(data.features), history["y"].to_numpy()[window - season : -season])


def test_a_forecast_is_of_what_is_relative_and_as_naive_as_the_season(tmp_path: Path) -> None:
    month = pd.date_range("2015-01-01", periods=60, freq="MS")
    history = pd.DataFrame({"month": month, "sales": 1e6 + 10 * np.arange(60) + 50 * (np.arange(60) % 12)})
    made = windows(history, "sales", ForecastLayout("month", 3, 24))
    data = make_dataset(
        made.frame, target="sales", name="x", source="y", split_columns=STEERING, blocks=made.blocks
    )  # fmt: skip
    rows = np.arange(60)
    for name, error in (("seasonal_naive", 120.0), ("linear", 1.0), ("slow_boosting", 20.0)):
        held = Held(data.features, data.target)
        model = ReferenceModel.fit(name, data.schema, data.features.iloc[rows], data.target[rows], 0, held=held)
        model.save(tmp_path / name)
        loaded = ReferenceModel.load(tmp_path / name, data.schema)
        errors = np.abs(loaded.predictions(data.features) - data.target)
        assert errors.max() <= error + 1e-6
        if name == "seasonal_naive":
            assert np.allclose(errors, 120)  # what a season adds
