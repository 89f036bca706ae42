"""Rows that networks make up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from automl.errors import DataError
from automl.preprocessing import generative
from automl.preprocessing.generative import MAX_LEVELS, Coding, Method, made_up
from automl.preprocessing.resampling import Generator

METHODS: tuple[Method, ...] = ("gan", "cvae")
torch.set_num_threads(1)


def table(n: int = 400) -> tuple[Any, Any]:
    """Returns numbers, of which one is often 0, a column of two values and codes, many of them rare; and classes."""
    rng = np.random.default_rng(0)
    y = (np.arange(n) % 5 == 0).astype(np.int64)
    amount = rng.lognormal(size=n) * (rng.random(n) < 0.6)
    two = np.where(rng.random(n) < 0.2 + 0.7 * y, 7.5, -1.0)
    few = np.where(rng.random(n) < 0.8, 3 - y, 1)
    return np.column_stack([rng.normal(size=n) + 3 * y, amount, two, few, rng.zipf(1.5, n).clip(max=200)]), y


CODES = (3, 4)


def coding(X: Any) -> Coding:
    return Coding(X, CODES, np.random.default_rng(0))


def test_a_table_comes_back_from_its_coding() -> None:
    X, _ = table()
    coded = coding(X)
    rows = coded.encode(X)
    assert rows.shape == (400, coded.n_columns)
    assert coded.n_numbers == 2
    assert set(rows[:, 2:].unique().tolist()) == {0.0, 1.0}
    back = coded.decode(rows)
    frequent = np.isin(X[:, 4], np.unique(X[:, 4])[: MAX_LEVELS // 2])
    np.testing.assert_array_equal(back[:, 2:4], X[:, 2:4])
    np.testing.assert_array_equal(back[frequent, 4], X[frequent, 4])
    np.testing.assert_allclose(back[:, 0], X[:, 0], atol=0.2)  # half a rank off, which is most at the ends
    assert ((back[:, 1] == 0) == (X[:, 1] == 0)).mean() > 0.98


def test_rare_codes_share_a_level_and_come_back_as_codes_that_there_are() -> None:
    X = np.arange(200.0)[:, None] % 100
    X[:150] = 5
    coded = Coding(X, (0,), np.random.default_rng(0))
    assert coded.n_columns == MAX_LEVELS
    back = coded.decode(coded.encode(X))[:, 0]
    assert (back[:150] == 5).all()
    assert set(back[150:]) <= set(X[150:, 0])
    assert len(set(back[150:])) > 25


def test_numbers_are_normal_whatever_they_were() -> None:
    X, _ = table(2000)
    numbers = coding(X).encode(X)[:, :2]
    assert numbers.abs().max() < 4
    np.testing.assert_allclose(numbers.mean(dim=0), 0, atol=0.02)
    np.testing.assert_allclose(numbers.std(dim=0), 1, atol=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_rows_of_a_class_are_like_those_that_there_are(method: Method, monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = table()
    monkeypatch.setattr(generative, "MADE_ROWS", 80)
    state = torch.get_rng_state()
    rows, labels = made_up(X, y, {1: 200}, method=method, n_steps=150, width=24, categorical=CODES, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert rows.shape == (200, 5)
    assert (labels == 1).all()
    for column in (2, 3, 4):
        assert set(rows[:, column]) <= set(X[:, column])
    assert (rows[:, :2] >= X[:, :2].min(axis=0)).all()
    assert (rows[:, :2] <= X[:, :2].max(axis=0)).all()
    assert np.median(rows[:, 0]) > 1.5  # the classes are around 0 and 3
    assert (rows[:, 2] == 7.5).mean() > 0.5
    assert len(np.unique(rows, axis=0)) > 150


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("columns", [[0, 1], [3, 4]])
def test_numbers_alone_and_codes_alone(method: Method, columns: list[int]) -> None:
    X, y = table(60)
    codes = (0, 1) if columns == [3, 4] else ()
    found = [
        made_up(X[:, columns], y, {1: 30}, method=method, n_steps=3, width=8, categorical=codes, seed=seed)[0]
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize(("strength", "counts"), [(1.0, [60, 60, 4]), (0.5, [60, 45, 4]), (0.0, [60, 30, 4])])
def test_gaps_close_by_their_share_but_of_classes_too_small_to_learn_from(strength: float, counts: list[int]) -> None:
    X, y = np.random.default_rng(0).normal(size=(94, 2)), np.repeat([0, 1, 2], [60, 30, 4])
    step = Generator(n_steps=2, width=8, strength=strength, random_state=0)
    rows, labels = step.fit_resample(X, y)
    np.testing.assert_array_equal(np.bincount(labels), counts)
    np.testing.assert_array_equal(rows[:94], X)
    told = ("a class of 4 rows is left as it is, too few for a network to learn from",)
    assert step.notes_ == (told if strength else ())


def test_that_no_class_has_rows_enough_is_told() -> None:
    X, y = np.random.default_rng(0).normal(size=(76, 2)), np.repeat([0, 1, 2], [60, 9, 7])
    with pytest.raises(DataError, match="10 rows of a class or more, and no class that is to grow has more than 9"):
        Generator(n_steps=2).fit_resample(X, y)


def test_only_so_many_rows_of_a_class_are_learned_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generative, "MAX_LEARNED_ROWS", 50)
    X, y = table()
    seen: list[int] = []
    monkeypatch.setattr(Coding, "encode", lambda self, X: seen.append(len(X)) or torch.zeros(len(X), self.n_columns))
    made_up(X, y, {1: 5}, method="gan", n_steps=1, width=8, categorical=CODES, seed=0)
    assert seen == [100]
