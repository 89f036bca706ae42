from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from automl import plugins, preparation, study_spec
from automl.data import neighbours
from automl.data.blocks import NeighboursLayout
from automl.errors import AutomlError, DataError
from automl.values import ColumnKind, Schema

plugins.load_builtin()

LAYOUT = NeighboursLayout("edges.csv", "page", "a", "b", 2)


def table() -> pd.DataFrame:
    """Returns a path a - b - c, and d, which is alone."""
    return pd.DataFrame({"page": list("abcd"), "size": [1.0, 3.0, None, 5.0], "kind": ["x", "y", "x", "x"], "y": 1.0})


def edges(*pairs: str) -> pd.DataFrame:
    return pd.DataFrame([tuple(pair) for pair in pairs], columns=["a", "b"])


def told(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> neighbours.Neighbours:
    monkeypatch.setattr("automl.data.neighbours.MIN_LEVEL_ROWS", 1)
    return neighbours.describe(frame, LAYOUT, ["y"], {})


def test_a_row_is_told_the_means_of_its_neighbours_hop_by_hop(monkeypatch):
    frame = table()
    what = told(frame, monkeypatch)
    assert (what.numbers, what.levels) == (("size",), {"kind": ("x", "y")})
    made = neighbours.joined(frame, edges("ab", "ba", "bc", "cc"), what)
    assert list(made.columns) == [*frame.columns, *what.made]
    assert list(made["neighbours"]) == [1, 2, 1, 0]
    np.testing.assert_array_equal(made["size of neighbours"], [3.0, 1.0, 3.0, np.nan])  # c has none to tell of
    np.testing.assert_array_equal(made["kind y of neighbours"], [1.0, 0.0, 1.0, np.nan])
    np.testing.assert_array_equal(made["size of neighbours 2 hops away"], [1.0, 3.0, 1.0, np.nan])
    alone = neighbours.joined(frame, None, what)
    assert (alone["neighbours"] == 0).all()
    assert alone["size of neighbours"].isna().all()


def test_no_target_is_told(monkeypatch):
    frame = table()
    what = told(frame, monkeypatch)
    other = neighbours.joined(frame.assign(y=[7.0, 8.0, 9.0, 10.0]), edges("ab"), what)
    pd.testing.assert_frame_equal(other[[*what.made]], neighbours.joined(frame, edges("ab"), what)[[*what.made]])


@pytest.mark.parametrize(
    ("frame", "links", "said"),
    [
        (table().assign(page=["a", "a", "c", "d"]), edges("ac"), "1 rows repeat one; the first is `a`"),
        (table().assign(page=["a", None, "c", "d"]), edges("ac"), "1 rows have no name"),
        (table(), edges("ab", "xy", "az"), "2 of 3 edges lead to no row; the first is to `x`"),
    ],
)
def test_what_is_no_graph_of_these_rows(frame, links, said):
    with pytest.raises(DataError, match=said):
        neighbours.check(frame, links, neighbours.describe(table(), LAYOUT, ["y"], {}), "edges.csv")


def test_some_edges_may_lead_elsewhere():
    what = neighbours.describe(table(), LAYOUT, ["y"], {})
    notes = neighbours.check(table(), edges("ab", "bc", "cz"), what, "edges.csv")
    assert notes == ("Edges left out, since they lead to no row: 1 of 3.",)


def prepared(folder: Path, links: pd.DataFrame | None = None, **changes: object) -> preparation.Prepared:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"page": [f"p{n}" for n in range(60)], "size": rng.normal(size=60)})
    frame.assign(y=frame["size"].shift(1).fillna(0.0)).to_csv(folder / "t.csv", index=False)
    chain = pd.DataFrame({"a": [f"p{n}" for n in range(59)], "b": [f"p{n}" for n in range(1, 60)]})
    (chain if links is None else links).to_csv(folder / "edges.csv", index=False)
    document = {
        "name": "t",
        "data": {"source": "csv", "params": {"path": "t.csv"}, "target": "y"},
        "neighbours": {"file": "edges.csv", "id": "page", "start": "a", "end": "b", "hops": 2},
    }
    return preparation.check(study_spec.build({**document, **changes}, where="x.yaml"), folder)


def test_a_study_knows_what_is_made_and_what_is_asked_of_new_rows(tmp_path):
    schema = prepared(tmp_path).schema
    assert schema.inputs == ("size",)
    assert [column.name for column in schema.used] == [
        "size", "neighbours", "size of neighbours", "size of neighbours 2 hops away",
    ]  # fmt: skip
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    again = neighbours.with_edges(pd.DataFrame(schema.example()), None, schema.neighbours)
    assert set(again.columns) >= {column.name for column in schema.used}
    rows = pd.DataFrame({"size": [1.0, 2.0]})
    with pytest.raises(DataError, match="the column `page` is missing"):
        neighbours.with_edges(rows, edges("ab"), schema.neighbours)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"neighbours": {"file": "edges.csv", "id": "side", "start": "a", "end": "b"}}, "there is no column `side`"),
        ({"neighbours": {"file": "edges.csv", "id": "y", "start": "a", "end": "b"}}, "has another meaning already"),
        ({"neighbours": {"file": "edges.csv", "id": "page", "start": "a", "end": "c"}}, "there is no column `c`"),
        ({"neighbours": {"file": "links.csv", "id": "page", "start": "a", "end": "b"}}, "there is no such file"),
        ({"neighbours": {"file": "edges.csv", "id": "page", "start": "a", "end": "b", "hops": 0}}, "hops"),
        (
            {"neighbours": {"file": "edges.csv", "id": "page", "start": "a", "end": "a"}},
            "`start` and `end` are both `a`",
        ),
        ({"links": pd.DataFrame({"a": ["p1", None], "b": ["p2", "p3"]})}, "1 edges have one end or none"),
        ({"forecast": {"time": "page", "horizon": 1}}, "leave one of them out"),
    ],
)
def test_bad_input_is_told_before_the_first_trial(tmp_path, changes, said):
    with pytest.raises(AutomlError, match=said) as caught:
        prepared(tmp_path, **changes)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("flags", [["true", "FALSE", "false", None], [True, False, False, None]])
def test_the_share_of_truth_among_neighbours(flags):
    frame = table().assign(flag=flags)
    what = neighbours.describe(frame, LAYOUT, ["y"], {"flag": ColumnKind.BOOLEAN})
    assert what.truths == ("flag",)
    made = neighbours.joined(frame, edges("ab", "bc", "cd"), what)
    np.testing.assert_array_equal(made["flag of neighbours"], [0.0, 0.5, 0.0, 0.0])
