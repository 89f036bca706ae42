from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from automl.data.blocks import ForecastLayout
from automl.data.dataset import conform, make_dataset
from automl.data.forecasting import MOMENT, ORIGIN, STEERING, Windows, future, windows
from automl.data.splits import split
from automl.errors import DataError
from automl.values import ColumnKind, Dataset, Schema

N = 60


def history(n: int = N, **columns: object) -> pd.DataFrame:
    """Returns a series of months that rises and has a season."""
    month = pd.date_range("2015-01-01", periods=n, freq="MS")
    value = 100 + np.arange(n) + 10 * np.sin(np.arange(n) * np.pi / 6)
    return pd.DataFrame({"month": month, "sales": value, **columns})


def layout(**settings: object) -> ForecastLayout:
    return ForecastLayout(**{"time": "month", "horizon": 3, "window": 12, **settings})


def dataset(made: Windows) -> Dataset:
    data = make_dataset(
        made.frame, target="sales", task="regression", name="t", source="s", kinds=made.kinds,
        split_columns=STEERING, blocks=made.blocks,
    )  # fmt: skip
    return Dataset(**{**{f: getattr(data, f) for f in data.__slots__}, "schema": with_forecast(data.schema, made)})


def with_forecast(schema: Schema, made: Windows) -> Schema:
    return Schema(schema.columns, schema.target, schema.blocks, made.forecast)


def refused(frame: pd.DataFrame, **settings: object) -> str:
    with pytest.raises(DataError) as caught:
        windows(frame, "sales", layout(**settings))
    return str(caught.value)


def test_a_row_is_a_step_ahead_of_a_window_and_knows_of_nothing_later():
    frame = history().sample(frac=1, random_state=0)  # any order
    made = windows(frame, "sales", layout())
    table, values = made.frame, history()["sales"].to_numpy()
    assert len(table) == 3 * (N - 12 - 3 + 1)
    first = table.iloc[0]
    assert (first[MOMENT] - first[ORIGIN], first["sales[step]"], first["sales"]) == (1, 1, values[12])
    level, scale = values[:12].mean(), values[:12].std()
    assert np.allclose(first[[f"sales[{lag}]" for lag in range(-11, 1)]].astype(float), (values[:12] - level) / scale)
    assert np.allclose(table["sales[season-1]"].iloc[:3] * scale + level, values[:3])
    later = history()
    later.loc[20:, "sales"] = -1e6
    known = table[ORIGIN] - table[ORIGIN].min() + 11 < 20
    features = table.columns.drop("sales")
    pd.testing.assert_frame_equal(windows(later, "sales", layout()).frame[known][features], table[known][features])


def test_columns_beside_the_target():
    frame = history(price=np.arange(N), heat=np.arange(N) * 2.0, shop=["a", "b"] * (N // 2))
    made = windows(frame, "sales", layout(known=("price",)))
    row = made.frame.iloc[1]  # two steps after the window's last row, which is row 11
    assert (row["price"], row["heat[0]"], row["heat[-11]"], row["shop"]) == (13, 22.0, 0.0, "b")
    assert made.blocks[0].shape == [2, 12]


@pytest.mark.parametrize(
    ("times", "step", "season"),
    [
        (pd.date_range("2020-01-31", periods=N, freq="ME"), "1 month", 12),
        (pd.date_range("2020-02-15", periods=N, freq="3MS") + pd.Timedelta(days=14), "3 months", 4),
        (pd.date_range("2020-01-06", periods=N, freq="W-MON"), "7 days", 1),
        (pd.date_range("2020-01-06", periods=N, freq="B"), "1 weekday", 5),
        (pd.date_range("2020-01-06", periods=N, freq="D").astype(str), "1 day", 7),
        (pd.date_range("2020-01-06", periods=N, freq="2h"), "2 hours", 12),
        (np.arange(N) * 5 + 1900, "5", 1),
        (np.arange(N) * 0.25, "0.25", 1),
    ],
)
def test_time_is_numbered_and_goes_on(times, step, season):
    frame = history().assign(month=times)
    given = None if season > 1 else 1  # 52 weeks do not fit
    made = windows(frame, "sales", layout(season=given))
    assert made.forecast.season == season
    assert made.notes[0].startswith(f"A step is {step},")
    data = dataset(made)
    schema = Schema.from_json(json.loads(json.dumps(data.schema.to_json())))
    assert schema == data.schema
    keys, _ = future(frame.iloc[:-4], schema)
    expected = frame["month"].iloc[-4:-1]
    if isinstance(expected.iloc[0], str):
        expected = pd.to_datetime(expected)
    assert list(keys["month"]) == list(expected)
    again, features = future(pd.DataFrame(schema.example()), schema)
    assert len(again) == len(conform(features, schema)[0]) == 3


def test_parts_are_in_the_order_of_time_and_no_window_reaches_over_a_border():
    data = dataset(windows(history(), "sales", layout()))
    made = split(data, test_size=0.1, size=0.2, ahead=STEERING)
    origin, moment = (data.extra[name].to_numpy() for name in STEERING)
    train, val = made.search[made.folds[0].train], made.search[made.folds[0].val]
    assert moment[train].max() <= origin[val].min()
    assert moment[val].max() <= origin[made.test].min()
    assert set(moment[made.test] - origin[made.test]) == {1, 2, 3}
    assert len(train) + len(val) + len(made.test) < len(origin)  # what reaches over is in none
    folds = split(data, strategy="kfold", n_folds=3, test_size=0.1, ahead=STEERING).folds
    ends = [moment[made.search[fold.train]].max() for fold in folds]
    assert ends == sorted(set(ends))
    for fold in folds:
        assert moment[made.search[fold.train]].max() <= origin[made.search[fold.val]].min()
    with pytest.raises(DataError, match="too few for a part of 3"):
        split(dataset(windows(history(19), "sales", layout())), test_size=0.5, ahead=STEERING)


def test_what_is_ahead_of_a_history():
    both = pd.concat([history(shop="a", promo=1.0), history(shop="b", promo=2.0)])
    data = dataset(windows(both, "sales", layout(series="shop", known=("promo",))))
    rows = history(20, shop="c", promo=np.arange(20.0))
    rows.loc[17:, "sales"] = None
    keys, features = future(rows, data.schema)
    assert list(keys["shop"]) == ["c"] * 3
    assert list(keys["month"]) == list(rows["month"].iloc[17:])
    assert list(features["promo"]) == [17.0, 18.0, 19.0]
    assert list(conform(features, data.schema)[0].columns) == list(data.features.columns)
    with pytest.raises(DataError, match="the series `c` has 0 rows after its last value, and 3 are forecast"):
        future(rows.iloc[:17], data.schema)
    with pytest.raises(DataError, match="the series `c` has 5 rows up to its last value, and a window is 12"):
        future(rows.iloc[:5], data.schema)
    with pytest.raises(DataError, match="the column `promo` is missing"):
        future(rows.drop(columns="promo"), data.schema)
    with pytest.raises(DataError, match="is not on the beat of the others, whose step is 1 month"):
        future(rows.assign(month=rows["month"] + pd.Timedelta(days=1)), data.schema)


def test_missing_values_and_series_that_do_not_move():
    frame = history()
    frame.loc[[5, 30], "sales"] = None
    made = windows(frame, "sales", layout()).frame
    assert made["sales[level]"].notna().all()
    assert made["sales"].isna().sum() == 3  # rows without a target, which are left out later
    still = windows(history().assign(sales=7.0), "sales", layout()).frame
    assert set(still["sales[scale]"]) == {1.0}
    empty = windows(history().assign(sales=[None] * 20 + [1.0] * 40), "sales", layout()).frame
    assert empty["sales[level]"].notna().all()


def test_short_series_are_left_out_and_very_many_windows_are_thinned(monkeypatch):
    both = pd.concat([history(shop="a"), history(14, shop="b")])
    made = windows(both, "sales", layout(series="shop"))
    assert set(made.frame["shop"]) == {"a"}
    assert "Left out, since shorter than 15 rows: 1 of 2 series." in made.notes
    monkeypatch.setattr("automl.data.forecasting.MAX_ROWS", 50)
    thin = windows(history(), "sales", layout())
    assert len(thin.frame) <= 51
    assert thin.frame[MOMENT].max() == made.frame[MOMENT].max()
    assert "One window in 3 is used" in thin.notes[1]


def test_bad_input():
    frame = history()
    assert "`month`: moments without a row, where a step is 1 month: 1" in refused(frame.drop(index=20))
    assert "the first is `2016-09-01`" in refused(frame.drop(index=20))
    twice = refused(pd.concat([frame, frame.head(2)]))
    assert "moments that stand more than once: 2; the first is `2015-01-01`. Name the column that tells series" in twice
    assert "need 65 rows of a series, and there are 60" in refused(frame, window=62)
    assert "a season of 12 steps does not fit into a window of 6" in refused(frame, window=6)
    named = refused(frame, time="sales", series="shop", known=("price",))
    assert "the column `sales` is `data.target` already" in named
    assert "forecast.series: there is no column `shop`" in named
    assert "forecast.known.0: there is no column `price`" in named
    assert "1 of the values are no numbers; the first is `x`" in refused(frame.assign(sales=["x"] + ["1"] * (N - 1)))
    assert "a cell that is empty, in row 1, is no moment" in refused(frame.assign(month=frame["month"].shift()))
    assert "`soon`, in row 1, is no moment; 60 rows in all" in refused(frame.assign(month="soon"))
    assert "1 rows belong to no series" in refused(frame.assign(shop=[None] + ["a"] * (N - 1)), series="shop")
    many = pd.concat([frame.drop(index=20).assign(shop=str(n)) for n in range(5)])
    assert "of the series `2` without a row" in refused(many, series="shop")
    assert "and 2 more series alike" in refused(many, series="shop")


def test_words_in_a_column_of_numbers_are_told_before_a_forecast():
    data = dataset(windows(history(heat=np.arange(N) * 2.0), "sales", layout()))
    rows = history(20, heat=["1"] * 19 + ["warm"])
    rows["sales"] = ["n/a", *rows["sales"].iloc[1:]]
    with pytest.raises(DataError) as caught:
        future(rows, data.schema)
    assert "`sales`: 1 of the values are no numbers; the first is `n/a` in row 1" in str(caught.value)
    assert "`heat`: 1 of the values are no numbers; the first is `warm` in row 20" in str(caught.value)


def test_kinds_of_a_history():
    frame = history(code=np.arange(N) % 3, heat=[str(n) for n in range(N)])
    given = {"code": ColumnKind.CATEGORICAL, "heat": ColumnKind.NUMERIC}
    made = windows(frame, "sales", layout(), given)
    assert (made.forecast.past, made.forecast.words) == (("heat",), ("code",))
    data = dataset(made)
    assert data.schema.names(ColumnKind.CATEGORICAL) == ["code"]
    assert list(conform(future(frame, data.schema)[1], data.schema)[0]["code"]) == ["2"] * 3
    with pytest.raises(DataError) as caught:
        windows(frame, "sales", layout(), {"month": ColumnKind.DATETIME, "heta": ColumnKind.NUMERIC})
    assert "data.kinds.month: the kind of `month` is known: it is `forecast.time`. Leave it out." in str(caught.value)
    assert "data.kinds.heta: there is no column `heta`" in str(caught.value)
    with pytest.raises(DataError, match="60 of the values are no numbers; the first is `a`"):
        windows(frame.assign(heat="a"), "sales", layout(), given)
