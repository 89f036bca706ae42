from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.preprocessing.preprocessing import Preprocessing
from automl.preprocessing.resampling import Synthesiser, grown, shrunk
from automl.values import Choice, Column, ColumnKind, Schema, Step, Target, Task

Y = np.repeat([0, 1, 2, 3], [60, 30, 4, 1])
SCHEMA = Schema(
    (Column("x", ColumnKind.NUMERIC, ""), Column("z", ColumnKind.NUMERIC, ""), Column("c", ColumnKind.CATEGORICAL, "")),
    Target("y", Task.MULTICLASS, ("a", "b", "c", "d")),
)


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {"x": Y + rng.random(len(Y)), "z": rng.normal(size=len(Y)), "c": pd.Series([f"level{y % 3}" for y in Y])}
    )


def resampled(name: str, **params: float) -> tuple[dict[str, np.ndarray], np.ndarray, Preprocessing]:
    encoder = "onehot" if name == "smote" else "ordinal"
    chosen = [Step("encoding", Choice(encoder)), Step("resampling", Choice(name, params))]
    preprocessing = Preprocessing(chosen, SCHEMA, seed=0)
    return *preprocessing.fit_resample(table(), Y), preprocessing


@pytest.mark.parametrize(
    ("name", "params", "counts"),
    [
        ("none", {}, [60, 30, 4, 1]),
        ("random_over", {}, [60, 60, 60, 60]),
        ("random_over", {"strength": 0.5}, [60, 45, 32, 31]),
        ("random_under", {}, [10, 10, 4, 1]),
        ("random_under", {"strength": 0.5}, [35, 20, 4, 1]),
        ("smote", {}, [60, 60, 60, 1]),
        ("smotenc", {"strength": 0.5}, [60, 45, 32, 1]),
        ("smotenc", {"strength": 0.0}, [60, 30, 4, 1]),
    ],
)
def test_class_counts(name: str, params: dict[str, float], counts: list[int]) -> None:
    train, y, preprocessing = resampled(name, **params)
    np.testing.assert_array_equal(np.bincount(y), counts)
    assert all(len(block) == len(y) for block in train.values())
    shown = ", ".join(f"{label}: {count}" for label, count in zip("abcd", counts, strict=True))
    changed = counts != [60, 30, 4, 1]
    assert any(note.endswith(f"a: 60, b: 30, c: 4, d: 1 became {shown}") for note in preprocessing.notes) == changed
    assert len(preprocessing.transform(table())["numeric"]) == len(Y)


def test_rows_that_are_picked_are_rows() -> None:
    for name in ("random_over", "random_under"):
        train, y, preprocessing = resampled(name)
        before = preprocessing.transform(table())
        known = {(*numbers, *codes, label) for numbers, codes, label in zip(*before.values(), Y, strict=True)}
        assert {(*numbers, *codes, label) for numbers, codes, label in zip(*train.values(), y, strict=True)} <= known


def test_notes_tell_of_small_classes() -> None:
    notes = " ".join(resampled("smote")[2].notes)
    assert "k_neighbors lowered to 3 for a class of 4 rows" in notes
    assert "a class of one row is left as it is" in notes


def test_rows_are_made_up_between_rows_of_their_class() -> None:
    X = np.array([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], *[[9.0, 9.0]] * 9])
    y = np.repeat([0, 1], [3, 9])
    rows, labels = Synthesiser(k_neighbors=1, random_state=0).fit_resample(X, y)
    np.testing.assert_array_equal(rows[:12], X)
    made = rows[12:]
    assert (labels[12:] == 0).all()
    np.testing.assert_allclose(made[:, 1], 2 * made[:, 0])
    assert ((made[:, 0] > 0) & (made[:, 0] < 2)).all()


def test_a_code_is_that_of_most_neighbours_and_never_between() -> None:
    codes = [3, 3, 3, 8]
    X = np.array([*[[0.1 * i, code] for i, code in enumerate(codes)], *[[5.0, 1.0]] * 40])
    y = np.repeat([0, 1], [4, 40])
    rows, _ = Synthesiser(k_neighbors=3, categorical_features=(1,), random_state=0).fit_resample(X, y)
    assert set(rows[44:, 1]) == {3.0}


def test_codes_without_numbers() -> None:
    X = np.array([[1, 5], [1, 5], [2, 6], *[[9, 9]] * 20], dtype=float)
    y = np.repeat([0, 1], [3, 20])
    rows, _ = Synthesiser(k_neighbors=1, categorical_features=(0, 1), random_state=0).fit_resample(X, y)
    assert {tuple(row) for row in rows[23:]} <= {(1, 5), (2, 6)}


def test_one_class_is_left_as_it_is() -> None:
    preprocessing = Preprocessing([Step("resampling", Choice("random_over"))], SCHEMA, seed=0)
    _, y = preprocessing.fit_resample(table(), np.zeros(len(Y), dtype=np.int64))
    assert len(y) == len(Y)
    assert "one class only" in preprocessing.notes[-1]


def test_codes_that_go_with_their_rows_are_still_counted() -> None:
    preprocessing = resampled("random_under")[2]
    codes = preprocessing.transform(table())["categorical"]
    assert (codes < preprocessing.inputs.blocks["categorical"].cardinalities).all()


def test_gaps_close_by_their_share() -> None:
    y = np.repeat([0, 1, 2], [100, 50, 20])
    assert grown(y, strength=0.1) == {0: 100, 1: 55, 2: 28}
    assert shrunk(y, strength=0.5) == {0: 60, 1: 35, 2: 20}
