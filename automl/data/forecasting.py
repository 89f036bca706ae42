"""Series in time as a table: a row for each moment that is forecast from each moment at which one stands.

What a row holds was known where one stands: the values of a window up to then, how many steps ahead the moment is, the
values of the same season before, what is known ahead, and the position in the year, the week and the day. Numbers of
the window are told relative to its own level and scale, and the target is learned so (reversible instance
normalisation, Kim et al. 2022, ICLR): nothing of another row, and nothing later, goes into them.

One row a moment ahead, and not one output each, is direct forecasting of all steps by one model; whatever predicts a
number from a table forecasts then.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from pandas.api import types

from automl.data.blocks import BlockLayout, ForecastLayout
from automl.data.columns import canonical
from automl.errors import DataError, Problem, did_you_mean
from automl.values import Clock, ColumnKind, Forecast, Schema

#: Rows of the table at most, about: of more, only every second, third, ... moment is stood at.
MAX_ROWS = 200_000

#: Columns of a window's table that steer the split: numbers of the moment stood at and of the one that is forecast.
ORIGIN, MOMENT = "[origin]", "[moment]"
STEERING = (ORIGIN, MOMENT)

#: Seasons back that are told as columns of their own, as far as the window goes.
MAX_SEASONS = 3

#: Series, moments or columns that a sentence names.
MAX_SHOWN = 3

_MICROSECONDS = {"day": 86_400_000_000, "hour": 3_600_000_000, "minute": 60_000_000, "second": 1_000_000}


@dataclass(frozen=True, slots=True)
class Windows:
    """A table of windows.

    Attributes:
        frame: Features, target and `STEERING`; (rows, columns).
        kinds, blocks: What its columns are, as far as that need not be guessed.
        forecast: How it came to be.
        notes: Sentences about what was found and left out.
    """

    frame: pd.DataFrame
    kinds: Mapping[str, ColumnKind]
    blocks: tuple[BlockLayout, ...]
    forecast: Forecast
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Series:
    """One series, moment by moment.

    Attributes:
        name: Empty where there is one series only.
        first: Number of the first moment.
        values: The target and the columns of numbers that are known up to now; each (moments,).
        rows: The table's rows; (moments,).
    """

    name: str
    first: int
    values: Mapping[str, NDArray[np.float64]]
    rows: pd.DataFrame


def seasonal_name(target: str, seasons: int = 1) -> str:
    """Returns the column with the last value of the same season, relative to the window's level and scale."""
    return f"{target}[season-{seasons}]"


def cell_name(name: str, lag: int) -> str:
    """Returns the column with the value of so many steps (0 and below) from where one stands."""
    return f"{name}[{lag}]"


def windows(
    frame: pd.DataFrame, target: str, layout: ForecastLayout, kinds: Mapping[str, ColumnKind] | None = None
) -> Windows:
    """Returns the table to learn from, of all windows of which every step ahead is there.

    Args:
        frame: A row a moment and series, in any order; (rows, columns).
        target: Column to forecast.
        layout: What the study says.
        kinds: Kinds of columns where the inferred one would be wrong: of those of which a window is looked at, numeric.

    Raises:
        DataError: With everything that is wrong with the table.
    """
    given_kinds = kinds or {}
    others = [name for name in frame.columns if name not in (target, layout.time, layout.series, *layout.known)]
    past = [name for name in others if _is_number(frame[name], given_kinds.get(name))]
    problems = list(_problems_of_columns(frame, target, layout, past, given_kinds))
    if problems:
        raise DataError(problems)
    clock, numbers = _clock(frame, layout)
    season = layout.season or _season(clock)
    forecast = Forecast(
        time=layout.time,
        clock=clock,
        horizon=layout.horizon,
        window=layout.window or max(2 * season, layout.horizon),
        season=season,
        series=layout.series,
        known=layout.known,
        past=tuple(past),
        words=tuple(name for name in others if name not in past),
    )
    if forecast.window < forecast.season:
        raise DataError(
            f"a season of {forecast.season} steps does not fit into a window of {forecast.window}",
            where="forecast.window",
            remedy="Write a longer `window`, or a `season` that is shorter.",
        )
    given = list(_by_series(frame, numbers, target, forecast))
    needed = forecast.window + forecast.horizon
    long_enough = [series for series in given if len(series.rows) >= needed]
    if not long_enough:
        longest = max(len(series.rows) for series in given)
        raise DataError(
            f"a window of {forecast.window} and a horizon of {forecast.horizon} need {needed} rows of a series, "
            f"and {'the longest has' if len(given) > 1 else 'there are'} {longest}",
            where="forecast",
            remedy="Write a shorter `window` or `horizon`, or give more history.",
        )
    n_rows = sum(len(series.rows) - needed + 1 for series in long_enough) * forecast.horizon
    stride = -(-n_rows // MAX_ROWS)
    parts = []
    for series in long_enough:
        # Counted from the end, where what is forecast later is most alike.
        origins = np.arange(len(series.rows) - forecast.horizon - 1, forecast.window - 2, -stride)[::-1]
        parts.append(_rows(series, origins, target, forecast, learned=True))
    table = pd.concat(parts, ignore_index=True)
    notes = [
        f"A step is {_told(clock)}, a season {_plural(season, 'step')}"
        f"{' (by the step; `forecast.season` says otherwise)' if layout.season is None else ''}; "
        f"each row is one of {_plural(forecast.horizon, 'step')} ahead of a window of {forecast.window}."
    ]
    if len(long_enough) < len(given):
        n_short = len(given) - len(long_enough)
        notes.append(f"Left out, since shorter than {needed} rows: {n_short} of {len(given)} series.")
    if stride > 1:
        notes.append(f"One window in {stride} is used: all of them would be {n_rows:,} rows.")
    of_rows = {name: ColumnKind.CATEGORICAL for name in [forecast.series] if name}
    of_rows |= {name: kind for name, kind in given_kinds.items() if name not in past}
    channels = [target, *forecast.past]
    blocks = (
        BlockLayout("sequence", _cells(forecast, channels), [len(channels), forecast.window], "window"),
        BlockLayout("baseline", [f"{target}[level]", f"{target}[scale]"], [2], "baseline"),
    )
    return Windows(table, of_rows, blocks, forecast, tuple(notes))


def future(frame: pd.DataFrame, schema: Schema) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Returns what is to be forecast of a history, and the rows to forecast it from.

    Args:
        frame: A row a moment and series, in any order, as what was learned from; rows after the last value of a series
            say what is known ahead.
        schema: With a forecast.

    Returns:
        Series (where there are several) and time of each moment ahead, and its features; the same rows.

    Raises:
        DataError: With everything that is wrong with the table.
    """
    forecast, target = schema.forecast, schema.target.name
    assert forecast is not None
    problems = [
        Problem(f"the column `{name}` is missing", remedy=did_you_mean(name, [str(c) for c in frame.columns]))
        for name in schema.inputs
        if name not in frame.columns
    ]
    problems = problems or list(_problems_of_numbers(frame, [target], forecast.past))
    if problems:
        raise DataError(problems)
    numbers = _numbers(frame[forecast.time], forecast.clock, forecast.time)
    found, keys, features = [], [], []
    for series in _by_series(frame, numbers, target, forecast):
        values = series.values[target]
        there = np.flatnonzero(~np.isnan(values))
        last = int(there[-1]) if len(there) else -1
        told = f"the series `{series.name}`" if forecast.series else "the history"
        if last + 1 < forecast.window:
            found.append(
                Problem(
                    f"{told} has {_plural(last + 1, 'row')} up to its last value, and a window is {forecast.window}",
                    f"`{target}`",
                    "Give more history, or leave the series out.",
                )
            )
            continue
        if forecast.known and len(series.rows) < last + 1 + forecast.horizon:
            found.append(
                Problem(
                    f"{told} has {_plural(len(series.rows) - last - 1, 'row')} after its last value, and "
                    f"{forecast.horizon} are forecast from what is known ahead",
                    f"`{forecast.known[0]}`",
                    f"Add rows with {', '.join(f'`{name}`' for name in forecast.known)} and no `{target}`.",
                )
            )
            continue
        rows = _rows(series, np.array([last]), target, forecast, learned=False)
        moments = [forecast.clock.moment(int(number)) for number in rows[MOMENT]]
        named = {forecast.series: series.rows[forecast.series].iloc[0]} if forecast.series else {}
        keys.append(pd.DataFrame({**named, forecast.time: moments}))
        features.append(rows.drop(columns=list(STEERING)))
    if found:
        raise DataError(_shown(found))
    return pd.concat(keys, ignore_index=True), pd.concat(features, ignore_index=True)


# --- one series --------------------------------------------------------------------------------------------------


def _rows(
    series: _Series, origins: NDArray[np.int64], target: str, forecast: Forecast, *, learned: bool
) -> pd.DataFrame:
    """Returns a row for each moment ahead of each origin, in this order; with the target where it is to be learned."""
    ahead = np.arange(1, forecast.horizon + 1)
    n_origins, horizon, season = len(origins), forecast.horizon, forecast.season
    columns: dict[str, Any] = {}
    values = series.values[target]
    seen = sliding_window_view(values, forecast.window)[origins - forecast.window + 1]  # (origins, window)
    level, scale = _baseline(seen, season)
    relative = (seen - level[:, None]) / scale[:, None]
    past = (sliding_window_view(series.values[name], forecast.window) for name in forecast.past)
    cells = [relative, *(each[origins - forecast.window + 1] for each in past)]
    names = _cells(forecast, [target, *forecast.past])
    columns |= dict(zip(names, np.repeat(np.hstack(cells), horizon, axis=0).T, strict=True))
    columns[f"{target}[step]"] = np.tile(ahead, n_origins).astype(np.float64)
    for seasons in range(1, min(MAX_SEASONS, forecast.window // season) + 1):
        # Position in the window of the same season, `seasons` of those that are over at the origin ago.
        back = forecast.window - 1 + (ahead - 1) % season + 1 - season * seasons
        columns[seasonal_name(target, seasons)] = relative[:, back].ravel()
    if forecast.window > season:
        drift = (relative[:, -season:].mean(axis=1) - relative[:, :season].mean(axis=1)) / (forecast.window - season)
        columns[f"{target}[drift]"] = (drift[:, None] * ahead).ravel()
    at = (origins[:, None] + ahead).ravel()
    moment = series.first + at
    columns |= _cycles(moment, forecast)
    for name in forecast.known:
        columns[name] = series.rows[name].reindex(at).array
    for name in forecast.words:
        columns[name] = series.rows[name].ffill().take(np.repeat(origins, horizon)).array
    if forecast.series:
        columns[forecast.series] = series.name
    columns[f"{target}[level]"] = np.repeat(level, horizon)
    columns[f"{target}[scale]"] = np.repeat(scale, horizon)
    columns[ORIGIN], columns[MOMENT] = np.repeat(series.first + origins, horizon), moment
    if learned:
        columns[target] = values[at]
    table = pd.DataFrame(columns)
    # Of a window without any value there is nothing to say; where one stands before new rows, there is a value.
    return table[table[f"{target}[level]"].notna()] if learned else table


def _baseline(seen: NDArray[np.float64], season: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the mean of each window's last season, or of all of it, and its standard deviation; each (windows,)."""
    masked = np.ma.masked_invalid(seen)
    level = masked[:, -season:].mean(axis=1)
    level = np.where(np.ma.getmaskarray(level), masked.mean(axis=1).filled(np.nan), level.filled(np.nan))
    scale = masked.std(axis=1).filled(0.0)
    return level, np.where(scale > 1e-9 * np.abs(level), scale, 1.0)


def _cells(forecast: Forecast, channels: Sequence[str]) -> list[str]:
    return [cell_name(name, lag) for name in channels for lag in range(1 - forecast.window, 1)]


def _cycles(numbers: NDArray[np.int64], forecast: Forecast) -> dict[str, NDArray[np.float64]]:
    """Returns where moments are in those of year, week and day that have several steps, as points of a circle."""
    clock, shares = forecast.clock, dict[str, NDArray[np.float64]]()
    if clock.unit == "number":
        shares["season"] = numbers / forecast.season
    else:
        different, position = np.unique(numbers, return_inverse=True)
        dates = pd.DatetimeIndex([clock.moment(int(number)) for number in different])
        day = (dates - dates.normalize()) / pd.Timedelta(days=1)
        n_days = {"months": 30, "weekdays": 1, "microseconds": 1 / _MICROSECONDS["day"]}[clock.unit] * clock.step
        cycles = {
            "year": (365, (dates.day_of_year - 1 + day) / 366),
            "week": (7, (dates.day_of_week + day) / 7),
            "day": (1, day),
        }
        shares |= {
            name: np.asarray(share)[position] for name, (length, share) in cycles.items() if 2 * n_days <= length
        }
    if clock.unit == "number" and forecast.season == 1:
        return {}
    waves = {"sin": np.sin, "cos": np.cos}
    return {
        f"{forecast.time}[{name} {wave}]": function(2 * math.pi * share)
        for name, share in shares.items()
        for wave, function in waves.items()
    }


# --- the table ---------------------------------------------------------------------------------------------------


def _is_number(column: pd.Series, kind: ColumnKind | None) -> bool:
    """Returns whether the window of a column is looked at; of anything else the last value is."""
    return types.is_numeric_dtype(column) if kind is None else kind is ColumnKind.NUMERIC


def _problems_of_columns(
    frame: pd.DataFrame,
    target: str,
    layout: ForecastLayout,
    past: Sequence[str],
    kinds: Mapping[str, ColumnKind],
) -> Iterator[Problem]:
    named = {"data.target": target, "forecast.time": layout.time}
    named |= {"forecast.series": layout.series} if layout.series else {}
    named |= {f"forecast.known.{number}": name for number, name in enumerate(layout.known)}
    taken: dict[str, str] = {}
    for where, name in named.items():
        if name not in frame.columns:
            remedy = did_you_mean(name, [str(column) for column in frame.columns])
            yield Problem(f"there is no column `{name}`", where, remedy)
        elif name in taken:
            yield Problem(f"the column `{name}` is `{taken[name]}` already", where, "A column has one meaning.")
        taken.setdefault(name, where)
    for name in kinds:
        if name not in frame.columns:
            remedy = did_you_mean(name, [str(column) for column in frame.columns])
            yield Problem(f"there is no column `{name}`", f"data.kinds.{name}", remedy)
        elif name in (target, layout.time):
            what = f"the kind of `{name}` is known: it is `{taken[name]}`"
            yield Problem(what, f"data.kinds.{name}", "Leave it out.")
    columns = [target] if target in frame.columns and target not in (layout.time, layout.series) else []
    yield from _problems_of_numbers(frame, columns, past)
    if layout.series in frame.columns and frame[layout.series].isna().any():
        n_missing = int(frame[layout.series].isna().sum())
        yield Problem(f"{n_missing} rows belong to no series", f"`{layout.series}`", "Fill them in or drop these rows.")


def _problems_of_numbers(frame: pd.DataFrame, targets: Sequence[str], past: Sequence[str]) -> Iterator[Problem]:
    """Yields what is no number of the columns whose windows are looked at; of what is forecast, what is infinite."""
    for name in (*targets, *past):
        numbers = canonical(frame[name], ColumnKind.NUMERIC)
        wrong = numbers.isna() & frame[name].notna()
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            yield Problem(
                f"{int(wrong.sum())} of the values are no numbers; the first is `{frame[name].iloc[row]}` in row "
                f"{row + 1}",
                f"`{name}`",
                "Correct them or leave the cells empty; a window is of numbers.",
            )
        elif name in targets and np.isinf(numbers).any():
            yield Problem("there are infinite values", f"`{name}`", "Correct them or leave the cells empty.")


def _by_series(frame: pd.DataFrame, numbers: NDArray[np.int64], target: str, forecast: Forecast) -> Iterator[_Series]:
    """Yields each series in the order of time.

    Raises:
        DataError: Moments occur twice or are left out, in any of the series.
    """
    names = canonical(frame[forecast.series], ColumnKind.CATEGORICAL) if forecast.series else pd.Series("", frame.index)
    values = {name: canonical(frame[name], ColumnKind.NUMERIC).to_numpy() for name in (target, *forecast.past)}
    found: list[Problem] = []
    complete = []
    for name, rows in names.groupby(names, sort=True).indices.items():
        order = np.asarray(rows)[np.argsort(numbers[rows], kind="stable")]
        moments = numbers[order]
        jumps = np.diff(moments)
        if (jumps != 1).any():
            found.append(_uneven(str(name), moments, jumps, forecast))
        table: pd.DataFrame = frame.take(order).reset_index(drop=True)
        complete.append(_Series(str(name), int(moments[0]), {n: v[order] for n, v in values.items()}, table))
    if found:
        raise DataError(_shown(found))
    yield from complete


def _uneven(name: str, moments: NDArray[np.int64], jumps: NDArray[np.int64], forecast: Forecast) -> Problem:
    """Returns what is wrong with the moments of a series, of which some are twice or left out."""
    told = f"of the series `{name}` " if forecast.series else ""
    first = int((jumps != 1).argmax())
    if (jumps == 0).any():
        first = int((jumps == 0).argmax())
        remedy = "Keep one row a moment." if forecast.series else "Name the column that tells series apart: `series`."
        return Problem(
            f"moments {told}that stand more than once: {int((jumps == 0).sum())}; the first is "
            f"`{_written(forecast.clock, moments[first])}`",
            f"`{forecast.time}`",
            remedy,
        )
    return Problem(
        f"moments {told}without a row, where a step is {_told(forecast.clock)}: {int((jumps - 1).sum())}; the first is "
        f"`{_written(forecast.clock, moments[first] + 1)}`",
        f"`{forecast.time}`",
        "Add rows for them, in which the value may be empty, or sum up to longer steps.",
    )


def _shown(problems: list[Problem]) -> list[Problem]:
    """Returns the first problems of many series alike."""
    if len(problems) <= MAX_SHOWN:
        return problems
    *first, last = problems[:MAX_SHOWN]
    return [*first, replace(last, message=f"{last.message}; and {len(problems) - MAX_SHOWN} more series alike")]


# --- time --------------------------------------------------------------------------------------------------------


def _clock(frame: pd.DataFrame, layout: ForecastLayout) -> tuple[Clock, NDArray[np.int64]]:
    """Returns the clock that a table goes by, and the number of each row's moment; (rows,).

    Months are told from days by their lengths, and working days by weekends without a row. The step is the largest
    that leads to every moment.
    """
    column = frame[layout.time]
    groups = pd.factorize(frame[layout.series])[0] if layout.series else np.zeros(len(frame), np.int64)
    if types.is_numeric_dtype(column) and not types.is_bool_dtype(column):
        times = canonical(column, ColumnKind.NUMERIC).to_numpy()
        _refuse_missing(column, np.isnan(times), layout.time)
        gaps = _gaps(times, groups)
        step = float(gaps.min()) if len(gaps) else 1.0
        if np.array_equal(times, np.rint(times)) and len(gaps):
            step = float(np.gcd.reduce(gaps.astype(np.int64)))
        clock = Clock("number", step, float(times.min()))
        return clock, _numbers(column, clock, layout.time)
    dates = canonical(column, ColumnKind.DATETIME)
    _refuse_missing(column, dates.isna().to_numpy(), layout.time)
    clock = _clock_of_dates(pd.DatetimeIndex(dates), groups)
    return clock, _numbers(column, clock, layout.time)


def _clock_of_dates(dates: pd.DatetimeIndex, groups: NDArray[np.int64]) -> Clock:
    times = dates.as_unit("us").asi8
    gaps = _gaps(times, groups)
    step = int(np.gcd.reduce(gaps)) if len(gaps) else _MICROSECONDS["day"]
    day = _MICROSECONDS["day"]
    starts = dates.to_period("M").to_timestamp().as_unit("us").asi8
    ends = (dates.to_period("M") + 1).to_timestamp().as_unit("us").asi8
    if len(gaps) and gaps.min() >= 28 * day:
        months = _gaps((dates.year * 12 + dates.month - 1).to_numpy(), groups)
        for offset in (times - starts, times - ends):
            if len(np.unique(offset)) == 1:
                step = int(np.gcd.reduce(months))
                phase = int((dates.year[0] - 1970) * 12 + dates.month[0] - 1) % step
                return Clock("months", float(step), float(offset[0]), phase)
    is_daily = step == day and bool((dates.day_of_week < 5).all()) and int((gaps == 3 * day).sum()) > 0
    if is_daily and np.median(gaps) == day:
        return Clock("weekdays", 1.0, float(times[0] % day))
    return Clock("microseconds", float(step), float(times[0] % step))


def _gaps(times: NDArray[Any], groups: NDArray[np.int64]) -> NDArray[Any]:
    """Returns the differences above 0 of neighbouring moments within groups."""
    order = np.lexsort((times, groups))
    gaps: NDArray[Any] = np.diff(times[order])[np.diff(groups[order]) == 0]
    above: NDArray[Any] = gaps[gaps > 0]
    return above


def _numbers(column: pd.Series, clock: Clock, name: str) -> NDArray[np.int64]:
    """Returns the number of each moment by a clock; (rows,).

    Raises:
        DataError: A moment is missing or none of the clock's.
    """
    if clock.unit == "number":
        times = canonical(column, ColumnKind.NUMERIC).to_numpy()
        _refuse_missing(column, np.isnan(times), name)
        exact = (times - clock.offset) / clock.step
    else:
        dates = canonical(column, ColumnKind.DATETIME)
        _refuse_missing(column, dates.isna().to_numpy(), name)
        exact = _numbers_of_dates(pd.DatetimeIndex(dates), clock)
    rounded = np.rint(exact)
    off = ~np.isclose(exact, rounded, rtol=0, atol=1e-4)
    if off.any():
        row = int(off.argmax())
        raise DataError(
            f"`{column.iloc[row]}` in row {row + 1} is not on the beat of the others, whose step is {_told(clock)}",
            where=f"`{name}`",
            remedy="Give evenly spaced moments, such as the start of each day.",
        )
    numbers: NDArray[np.int64] = rounded.astype(np.int64)
    return numbers


def _numbers_of_dates(dates: pd.DatetimeIndex, clock: Clock) -> NDArray[np.float64]:
    times = dates.as_unit("us").asi8
    if clock.unit == "microseconds":
        return np.asarray((times - clock.offset) / clock.step, np.float64)
    if clock.unit == "weekdays":
        weekdays = np.busday_count("1970-01-01", times.astype("datetime64[us]").astype("datetime64[D]"))
        off = (times % _MICROSECONDS["day"] != clock.offset) | np.asarray(dates.day_of_week > 4)
        return np.asarray(weekdays / clock.step + 0.5 * off)
    month = dates.to_period("M") + int(clock.offset < 0)
    off = times != month.to_timestamp().as_unit("us").asi8 + clock.offset
    return np.asarray(((dates.year - 1970) * 12 + dates.month - 1 - clock.phase) / clock.step + 0.5 * off)


def _refuse_missing(column: pd.Series, missing: NDArray[np.bool_], name: str) -> None:
    if missing.any():
        row = int(missing.argmax())
        found = "a cell that is empty" if pd.isna(column.iloc[row]) else f"`{column.iloc[row]}`"
        raise DataError(
            f"{found}, in row {row + 1}, is no moment; {_plural(int(missing.sum()), 'row')} in all",
            where=f"`{name}`",
            remedy="Write dates as 2026-01-31 or 2026-01-31T12:00:00, or whole numbers.",
        )


def _season(clock: Clock) -> int:
    """Returns after how many steps a year of months, a week of days or a day of shorter steps is over."""
    if clock.unit == "months":
        return int(12 // clock.step) if 12 % clock.step == 0 else 1
    if clock.unit == "weekdays":
        return 5
    day = _MICROSECONDS["day"]
    if clock.unit == "number" or clock.step > 7 * day:
        return 1
    if clock.step == 7 * day:
        return 52
    whole = 7 * day if clock.step >= day else day
    return int(whole // clock.step) if whole % clock.step == 0 else 1


def _told(clock: Clock) -> str:
    """Returns the step in words."""
    if clock.unit in ("months", "weekdays"):
        return _plural(int(clock.step), clock.unit.removesuffix("s"))
    if clock.unit == "number":
        return f"{clock.step:g}"
    for name, length in _MICROSECONDS.items():
        if clock.step % length == 0:
            return _plural(int(clock.step // length), name)
    return f"{clock.step:g} microseconds"


def _written(clock: Clock, number: int) -> str:
    moment = clock.moment(int(number))
    return str(moment) if isinstance(moment, (int, float)) else moment.isoformat(sep=" ").removesuffix(" 00:00:00")


def _plural(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
