from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automl.data.blocks import BlockLayout, ForecastLayout
from automl.data.dataset import make_dataset
from automl.data.forecasting import STEERING, windows
from automl.data.leakage import copies_of_target, repeats, shared_rows
from automl.data.splits import split
from automl.values import Dataset

N = 60


def dataset(target: Any, **columns: Any) -> Dataset:
    frame = pd.DataFrame({**columns, "noise": np.cos(np.arange(len(target))), "y": target})
    return make_dataset(frame, target="y", name="t", source="t")


def test_windows_of_a_forecast_are_no_repeats() -> None:
    history = pd.DataFrame({"day": range(N), "y": np.sin(np.arange(N))})
    made = windows(history, "y", ForecastLayout("day", 3, 12))
    table = make_dataset(
        made.frame, target="y", name="t", source="t", split_columns=STEERING, blocks=made.blocks, kinds=made.kinds
    )
    assert list(repeats(table))
    assert not list(repeats(replace(table, schema=replace(table.schema, forecast=made.forecast))))


CLASSES = ["no", "yes", "maybe"] * 20
NUMBERS = np.exp(np.sin(np.arange(N)))


@pytest.mark.parametrize(
    ("target", "column", "proof"),
    [
        (CLASSES, [name.upper() for name in CLASSES], "such as `NO` with `no`"),
        (CLASSES, [{"no": 0, "yes": 7, "maybe": None}[name] for name in CLASSES], "such as `0` with `no`"),
        (CLASSES, [f"{name}{row % 4}" for row, name in enumerate(CLASSES)], "each of its values goes with one class"),
        (
            CLASSES,
            [["no", "yes", "maybe"].index(name) + row / 100 for row, name in enumerate(CLASSES)],
            "each class has a range of its numbers to itself",
        ),
        (NUMBERS, NUMBERS, "the two are equal"),
        (NUMBERS, np.log(NUMBERS) * 3 + 1, "the two are in the same order"),
        (NUMBERS, 1 / NUMBERS, "the two are in opposite order"),
    ],
)
def test_a_column_that_tells_the_target_is_told(target: Any, column: Any, proof: str) -> None:
    (told,) = copies_of_target(dataset(target, code=column))
    assert told.startswith(f"`code` gives `y` away: in all {N} rows ")
    assert proof in told


@pytest.mark.parametrize(
    ("target", "column"),
    [
        (CLASSES, ["YES", *[name.upper() for name in CLASSES][1:]]),  # all but one
        (CLASSES, np.arange(N) * 1.5),
        (CLASSES, [f"{row}" for row in range(N)]),  # a value for each row tells nothing
        (NUMBERS, np.round(NUMBERS)),
        (NUMBERS, np.append(NUMBERS[:-1], 0.0)),
    ],
)
def test_a_column_that_nearly_tells_the_target_is_not(target: Any, column: Any) -> None:
    assert not list(copies_of_target(dataset(target, code=column)))


@given(st.lists(st.integers(0, N - 1), max_size=20), st.integers(0, 9))
def test_repeated_test_rows_are_counted(repeated: list[int], seed: int) -> None:
    rows = np.append(np.arange(N), repeated).astype(int)
    made = dataset(np.array(CLASSES)[rows], number=rows * 1.5)
    made.features["noise"] = np.sin(rows)  # so that whole rows repeat
    splits = split(made, seed=seed)
    searched = set(rows[splits.search])
    expected = sum(row in searched for row in rows[splits.test])
    told = "".join(shared_rows(made, splits))
    if expected == 0:
        assert told == ""
    else:
        assert told.startswith(f"{expected} of {len(splits.test)} test rows stand among the rows searched on")
        assert f"({expected} of them with the same `y`)" in told
        one, _, other = told.partition(": row ")[2].partition(" is like row ")
        other = other.partition(".")[0].partition(",")[0]
        assert rows[int(one) - 1] == rows[int(other) - 1]
        assert int(one) - 1 in splits.test
        assert int(other) - 1 in splits.search


def test_rows_that_repeat_by_nature_are_not_told() -> None:
    made = dataset(CLASSES, number=np.arange(N) % 2, word=["a", "b", "c", "d"] * 15)
    made.features["noise"] = 0.0
    assert not list(shared_rows(made, split(made)))


def test_images_and_texts_that_occur_twice_are_told() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(N, 4)), columns=["p0", "p1", "p2", "p3"])
    frame = frame.assign(note=[f"a remark of {row} words" for row in range(N)], y=["no", "yes"] * (N // 2))
    layout = [BlockLayout("image", "p*", [1, 2, 2])]
    assert list(repeats(make_dataset(frame, target="y", name="t", source="t", blocks=layout))) == []
    frame.loc[[10, 21], ["p0", "p1", "p2", "p3"]] = frame.loc[4, ["p0", "p1", "p2", "p3"]].to_numpy(float)
    frame.loc[[30, 31], ["p0", "p1", "p2", "p3"]] = np.nan  # which is no image
    frame.loc[7, "note"] = frame.loc[5, "note"]
    images, texts = repeats(make_dataset(frame, target="y", name="t", source="t", blocks=layout))
    assert images.startswith(
        "`image`: 2 of 58 images are equal to one before, 1 of them with another `y`: row 11 like row 5, row 22 like"
    )
    assert texts.startswith("`note`: 1 of 60 texts are equal to one before: row 8 like row 6.")
