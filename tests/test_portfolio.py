from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from automl import plugins, portfolio, search_space
from automl.components import CATALOGUES
from automl.errors import ConfigError
from automl.portfolio import Portfolio, Traits, greedy
from automl.values import Column, ColumnKind, Schema, Target, Task

plugins.load_builtin()

SMALL, LARGE = Traits(500, 10, 0.2, 2), Traits(50_000, 10, 0.2, 2)
POINTS = ({"network": "good on small"}, {"network": "good on large"}, {"network": "never good"})
SHIPPED = sorted((search_space.bundled() / "portfolios").glob("*.json"))


def known(epoch_s: float = 0.01) -> Portfolio:
    losses = np.array([[0.0, 0.8], [0.9, 0.0], [1.0, 1.0]])
    return Portfolio(POINTS, (SMALL, LARGE), losses, np.full((3, 2), epoch_s))


def names(points: list[portfolio.Point]) -> list[str]:
    return [str(point["network"]) for point in points]


def test_what_did_well_on_tables_alike_comes_first() -> None:
    assert names(known().order(replace(SMALL, n_rows=600))) == ["good on small", "good on large", "never good"]
    assert names(known().order(replace(LARGE, n_rows=60_000))) == ["good on large", "good on small", "never good"]


def test_a_point_that_adds_to_another_comes_before_a_better_one_that_does_not() -> None:
    losses = np.array([[0.1, 0.1, 0.9], [0.1, 0.1, 0.8], [0.9, 0.9, 0.0]])
    assert greedy(losses, np.full(3, 1 / 3), ["a", "b", "c"]) == ["b", "c", "a"]  # type: ignore[list-item,comparison-overlap]


def test_points_that_are_too_slow_come_last() -> None:
    slow = known()
    slow.epoch_s[0] = 2.0  # of the one that is best on small tables
    assert names(slow.order(SMALL))[0] == "good on small"
    assert names(slow.order(SMALL, seconds=5.0)) == ["good on large", "never good", "good on small"]


def test_an_epoch_is_expected_to_take_what_it_takes_on_tables_as_large() -> None:
    measured = known()
    measured.epoch_s[:] = [0.05, 1.0]  # a tenth of a millisecond a row on few rows, a fiftieth on many
    np.testing.assert_allclose(measured.expected_epoch_s(500), 0.05, rtol=0.01)
    np.testing.assert_allclose(measured.expected_epoch_s(50_000), 1.0, rtol=0.01)
    np.testing.assert_allclose(measured.expected_epoch_s(500_000), 10.0, rtol=0.01)


@given(
    losses=arrays(np.float64, (6, 3), elements=st.floats(0, 1)),
    n_rows=st.integers(1, 10**7),
    n_columns=st.integers(0, 10**4),
    seconds=st.floats(0, 1e4),
)
def test_every_point_has_its_place(losses: np.ndarray, n_rows: int, n_columns: int, seconds: float) -> None:
    points = tuple({"number": number} for number in range(6))
    found = Portfolio(points, (SMALL, LARGE, replace(SMALL, n_classes=7)), losses, np.ones((6, 3)))
    ordered = found.order(Traits(n_rows, n_columns, 0.5, 0), seconds)
    assert sorted(point["number"] for point in ordered) == list(range(6))


def test_alike_tables_are_near() -> None:
    assert SMALL.unlike(SMALL) == 0
    assert SMALL.unlike(LARGE) == LARGE.unlike(SMALL) == pytest.approx(2, abs=0.01)
    assert SMALL.unlike(replace(SMALL, n_classes=0)) == 0  # a number and two classes: one output each
    assert 0 < SMALL.unlike(replace(SMALL, categorical=0.4)) < SMALL.unlike(replace(SMALL, n_columns=1000))


def test_traits_are_those_of_what_a_model_sees() -> None:
    kinds = (ColumnKind.NUMERIC, ColumnKind.CATEGORICAL, ColumnKind.CONSTANT, ColumnKind.IDENTIFIER)
    columns = tuple(Column(kind.value, kind, "object") for kind in kinds)
    schema = Schema(columns, Target("y", Task.MULTICLASS, ("a", "b", "c")))
    assert Traits.of(schema, 70) == Traits(70, 2, 0.5, 3)


def test_a_portfolio_is_found_beside_its_space_first(tmp_path: Path) -> None:
    (tmp_path / "portfolios").mkdir()
    point = {"changes": {"network": "mlp"}, "losses": [0.0], "epoch_s": [0.1]}
    table = {"traits": {"n_rows": 9, "n_columns": 2, "categorical": 0.0, "n_classes": 0}}
    document = {"version": 1, "tables": [table], "points": [point]}
    (tmp_path / "portfolios" / "tabular_regression.json").write_text(json.dumps(document))
    found = portfolio.load("tabular_regression", [tmp_path, search_space.bundled()])
    assert found.points == ({"network": "mlp"},)


def test_an_unknown_portfolio_is_told_with_those_that_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown portfolio `tabular_clasification`.*Did you mean `tabular_classification`"
    ):
        portfolio.load("tabular_clasification", [search_space.bundled()])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"points": []}',
        '{"points": [], "tables": []}',
        '{"points": [{"changes": {}, "losses": [0.1, 0.2], "epoch_s": [0.1]}], "tables": [{"traits": {"n_rows": 1}}]}',
        '{"points": [{"changes": {}, "losses": [0.1, 0.2], "epoch_s": [0.1]}], "tables": '
        '[{"traits": {"n_rows": 1, "n_columns": 1, "categorical": 0, "n_classes": 0}}]}',
    ],
)
def test_a_damaged_portfolio_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "portfolios").mkdir()
    (tmp_path / "portfolios/mine.json").write_text(text)
    with pytest.raises(ConfigError, match=r"mine\.json: is not a portfolio .*benchmarks/portfolio\.py"):
        portfolio.load("mine", [tmp_path])


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_is_shipped_fits_its_space(path: Path) -> None:
    space = search_space.load(path.parents[1] / f"{path.stem}.yaml")
    found = portfolio.load(path.stem, [search_space.bundled()])
    assert space.portfolio == path.stem
    assert len(found.points) >= 8
    assert found.losses.shape == found.epoch_s.shape == (len(found.points), len(found.tables))
    assert ((found.losses >= 0) & (found.losses <= 1)).all()
    assert all(space.holds(point) for point in found.points)
    assert len(space.starts(CATALOGUES, found.points)) == len(found.points)
    assert len({str(point.get("network", "first")) for point in found.points}) >= 3
