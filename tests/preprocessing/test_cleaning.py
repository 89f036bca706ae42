from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.data.blocks import BlockLayout
from automl.data.dataset import make_dataset
from automl.preprocessing import cleaning
from automl.preprocessing.cleaning import implausible
from automl.preprocessing.preprocessing import Preprocessing
from automl.values import Choice, Column, ColumnKind, Schema, Step, Target, Task

NAN = np.nan
RNG = np.random.default_rng(0)


def test_the_first_of_equal_rows_is_kept() -> None:
    X = np.array([[1.0, NAN], [2.0, 3.0], [1.0, NAN], [2.0, 3.0], [2.0, 3.5]])
    step = cleaning.drop_duplicates(Task.BINARY)
    rows, y = step.fit_resample(X, np.array([0, 1, 0, 0, 1]))
    np.testing.assert_array_equal(step.sample_indices_, [0, 1, 3, 4])  # row 3 has another class than row 1
    np.testing.assert_array_equal(rows, X[[0, 1, 3, 4]])
    np.testing.assert_array_equal(y, [0, 1, 0, 1])
    assert step.notes_ == ("1 of 5 training rows left out, equal to another",)


def test_near_rows_of_the_same_class_are_left_out() -> None:
    base = RNG.normal(size=(60, 4))
    X = np.vstack([base, base[:20] + 1e-4, base[20:25] + 1e-4])
    y = np.r_[np.arange(60) % 2, np.arange(20) % 2, 1 - np.arange(20, 25) % 2]  # the last five contradict
    step = cleaning.near_duplicates(Task.BINARY)
    step.fit_resample(X, y)
    np.testing.assert_array_equal(step.sample_indices_, np.r_[:60, 80:85])
    exact = cleaning.near_duplicates(Task.BINARY, distance=0.0)
    exact.fit_resample(X, y)
    assert len(exact.sample_indices_) == 85


def test_near_rows_with_far_values_are_kept_in_regression() -> None:
    base = RNG.normal(size=(60, 4))
    X = np.vstack([base, base[:2] + 1e-4])
    y = np.r_[RNG.normal(100, 10, 60), 0.0, 0.0]
    y[-1] = y[1] + 1e-3
    step = cleaning.near_duplicates(Task.REGRESSION)
    step.fit_resample(X, y)
    np.testing.assert_array_equal(step.sample_indices_, np.arange(61))


def test_near_rows_of_other_categories_are_kept() -> None:
    X = np.array([[0.0, 1], [1.0, 1], [0.0, 2], [0.0, 1]])
    step = cleaning.near_duplicates(Task.BINARY).set_params(categorical_features=(1,))
    step.fit_resample(X, np.zeros(4, dtype=int))
    np.testing.assert_array_equal(step.sample_indices_, [0, 1, 2])


def test_a_chain_of_near_rows_is_thinned_not_lost() -> None:
    X = np.linspace(0, 1, 100)[:, None]
    step = cleaning.near_duplicates(Task.BINARY, distance=0.05)
    rows, _ = step.fit_resample(X, np.zeros(100, dtype=int))
    gaps = np.diff(rows[:, 0]) / X.std()
    assert 0.04 < gaps.min() < gaps.max() < 0.11
    assert len(rows) < 60


def test_large_tables_are_compared_slice_by_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleaning, "MAX_COMPARED_ROWS", 30)
    X = np.vstack([RNG.normal(size=(60, 4))] * 2)
    step = cleaning.near_duplicates(Task.BINARY).set_params(random_state=0)
    step.fit_resample(X, np.zeros(120, dtype=int))
    assert 60 <= len(step.sample_indices_) <= 63  # a pair may lie on both sides of a cut


def flipped(n_rows: int = 600, share: float = 0.04) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns three classes that two columns tell apart, the labels, and which of them are wrong."""
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, n_rows)
    X = rng.normal(size=(n_rows, 4))
    X[:, 0] += 5 * (truth == 1)
    X[:, 1] += 5 * (truth == 2)
    wrong = rng.random(n_rows) < share
    return X, np.where(wrong, (truth + 1) % 3, truth), wrong


def test_wrong_labels_are_found() -> None:
    X, y, wrong = flipped()
    step = cleaning.label_noise(Task.MULTICLASS, max_share=0.1).set_params(random_state=0)
    step.fit_resample(X, y)
    found = np.setdiff1d(np.arange(len(y)), step.sample_indices_)
    assert wrong[found].mean() > 0.8
    assert np.isin(np.flatnonzero(wrong), found).mean() > 0.7


def test_no_more_than_the_share_of_a_class_goes() -> None:
    X, _, _ = flipped()
    y = np.random.default_rng(0).integers(0, 3, len(X))  # nothing but noise
    step = cleaning.label_noise(Task.MULTICLASS, max_share=0.05).set_params(random_state=0)
    _, kept = step.fit_resample(X, y)
    lost = np.bincount(y) - np.bincount(kept)
    np.testing.assert_array_equal(lost, (0.05 * np.bincount(y)).astype(int))


def test_small_classes_are_not_judged() -> None:
    X, y, _ = flipped()
    y[:9] = 3
    step = cleaning.label_noise(Task.MULTICLASS, max_share=0.5).set_params(random_state=0)
    _, kept = step.fit_resample(X, y)
    assert (kept == 3).sum() == 9
    few = cleaning.label_noise(Task.MULTICLASS)
    assert len(few.fit_resample(X[:12], y[:12])[1]) == 12


def test_implausible_rows_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.6, 0.4], [0.0, 1.0]])
    own = np.array([0, 0, 0, 1, 1, 1])
    # Rows of class 0 get it with 0.53 on average, those of class 1 theirs with 0.73.
    np.testing.assert_array_equal(np.flatnonzero(implausible(probabilities, own, 0.5)), [2, 4])
    np.testing.assert_array_equal(np.flatnonzero(implausible(probabilities, own, 0.3)), [])
    unsure = np.array([[0.9, 0.1], [0.45, 0.55], [0.1, 0.9], [0.1, 0.9]])
    assert not implausible(unsure, np.array([0, 0, 1, 1]), 1.0).any()  # 0.55 is little for class 1


@pytest.mark.parametrize("name", ["drop_duplicates", "near_duplicates", "label_noise"])
def test_strings_and_missing_numbers_are_seen_and_rows_to_predict_are_left_alone(name: str) -> None:
    schema = Schema(
        (Column("x", ColumnKind.NUMERIC, ""), Column("c", ColumnKind.CATEGORICAL, "")),
        Target("y", Task.BINARY, ("no", "yes")),
    )
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"x": rng.integers(0, 3, 80).astype(float), "c": pd.Series(rng.choice(["u", "v"], 80))})
    table.loc[:9, "x"] = NAN
    y = rng.integers(0, 2, 80)
    preprocessing = Preprocessing([Step("cleaning", Choice(name))], schema, seed=0)
    train, kept = preprocessing.fit_resample(table, y)
    n_distinct = len(table.assign(y=y).drop_duplicates())
    assert len(train["numeric"]) == len(train["categorical"]) == len(kept) < 80
    if name == "drop_duplicates":
        assert len(kept) == n_distinct
        assert f"cleaning `{name}`: {80 - n_distinct} of 80 training rows left out, equal to another" in (
            preprocessing.notes
        )
    assert len(preprocessing.transform(table)["numeric"]) == 80


@pytest.mark.parametrize(("name", "n_left"), [("drop_duplicates", 65), ("near_duplicates", 60), ("label_noise", None)])
def test_cells_of_images_and_sequences_are_compared_too(name: str, n_left: int | None) -> None:
    """Rows 60 to 65 have the pixels and the steps of rows 0 to 5; 5 of them but for a trace in one pixel."""
    rng = np.random.default_rng(3)
    cells = np.vstack([rng.normal(size=(60, 10)) + 3 * (np.arange(60) % 2)[:, None]] * 2)[:66]
    cells[61:, 0] += 1e-3
    frame = pd.DataFrame(cells, columns=[f"p{i}" for i in range(4)] + [f"t{i}" for i in range(6)])
    frame.loc[[8, 60], ["t4", "t5"]] = NAN  # a sequence may end early
    frame.loc[0, ["t4", "t5"]] = NAN
    frame["y"] = [["no", "yes"][i % 2] for i in range(66)]
    frame.loc[11, "y"] = "no"  # against all that it looks like
    layouts = [BlockLayout("image", "p*", [1, 2, 2]), BlockLayout("sequence", "t?", [1, 6])]
    data = make_dataset(frame, target="y", name="t", source="s", blocks=layouts)
    walk = Preprocessing([Step("cleaning", Choice(name))], data.schema, seed=0)
    train, y = walk.fit_resample(data.features, data.target)
    assert {block.shape for block in train.values()} == {(len(y), 1, 2, 2), (len(y), 2, 6)}
    if n_left is not None:
        assert len(y) == n_left
    else:
        n_of_no = int((data.target == 0).sum())
        assert (y == 0).sum() < n_of_no
    assert walk.transform(data.features)["image"].shape == (66, 1, 2, 2)  # rows to predict are never left out
