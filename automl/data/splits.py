"""Which rows the search sees, which it validates on, and which only the end of the study sees.

There are four ways to draw: at random (stratified by class), by groups that stay whole, in the order of time, and by
windows in time of which none reaches from one part into the next. Each can cut rows in two and deal them into folds.
They are written out here rather than taken from scikit-learn, whose stratified splitters refuse classes with fewer
members than folds and may change what a seed draws between versions; a study that is resumed must find the same rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from automl.data.columns import canonical
from automl.errors import ConfigError, DataError, did_you_mean
from automl.values import ColumnKind, Dataset, Fold, Splits

Rows = NDArray[np.int64]
Strategy = Literal["holdout", "kfold"]


class Draw(Protocol):
    """A way to divide rows, given and returned as positions in the table; both parts are never empty."""

    def cut(self, rows: Rows, share: float) -> tuple[Rows, Rows]:
        """Returns (the rest, a part with about this share of the rows)."""
        ...

    def deal(self, rows: Rows, n_folds: int) -> list[tuple[Rows, Rows]]:
        """Returns (training rows, validation rows) of each fold."""
        ...


def split(
    dataset: Dataset,
    *,
    strategy: Strategy = "holdout",
    size: float = 0.2,
    test_size: float = 0.2,
    n_folds: int = 5,
    group: str | None = None,
    time: str | None = None,
    gap: int = 0,
    ahead: tuple[str, str] | None = None,
    seed: int = 0,
) -> Splits:
    """Returns the parts of a table, the same for the same seed. The test rows are the same for both strategies.

    Classification is stratified. A class with one row is always trained on; one with more is in every training part. Of
    several targets the rarest class that a row has of any counts: rows of frequent ones are many anyway.

    Args:
        dataset: With `group` or `time` among its extra columns.
        strategy: `holdout` validates on one part, `kfold` on each of `n_folds` parts in turn.
        size: Share of the search rows that `holdout` validates on; in (0, 1).
        test_size: Share of all rows that only the end of the study sees; in [0, 1).
        n_folds: Folds of `kfold`; at least 2.
        group: Column whose equal values stay in one part: nobody is both trained and validated on.
        time: Column by which the latest rows are the test part and those before them the validation part; rows of one
            moment stay together. Folds train on all that is before their validation rows.
        gap: Rows left out before each later part, so that it cannot be guessed from its neighbours; only with `time`.
        ahead: Columns of whole numbers: the last moment that a row knows of, and the moment that it is about. Later
            parts know of nothing but what the parts before them are about: rows that reach over a border are in none.
        seed: Of the random draws; nothing is random with `time` or `ahead`.

    Raises:
        ConfigError: The settings contradict each other or are out of range.
        DataError: The table has too few rows, groups or moments for them.
    """
    _check_settings(strategy, size, test_size, n_folds, group, time, gap)
    n_rows = len(dataset.target)
    labels = _strata(dataset)
    draw: Draw
    if group is not None:
        draw = _ByGroup(_groups(dataset, group), labels, np.random.default_rng(seed), group)
    elif time is not None:
        draw = _ByTime(_moments(dataset, time), gap, time)
    elif ahead is not None:
        origins, moments = (_steering(dataset, name).to_numpy(np.int64) for name in ahead)
        draw = _Ahead(origins, moments)
    else:
        draw = _AtRandom(labels, np.random.default_rng(seed))

    search, test = np.arange(n_rows), np.empty(0, dtype=np.int64)
    if test_size > 0:
        search, test = draw.cut(search, test_size)
    parts = [draw.cut(search, size)] if strategy == "holdout" else draw.deal(search, n_folds)
    search, test = np.sort(search), np.sort(test)
    # Within the search part, so that the process of a trial has no use for the positions of other rows.
    folds = tuple(Fold(*(np.searchsorted(search, np.sort(rows)) for rows in part)) for part in parts)
    return Splits(search, test, folds, _digest(search, test, folds))


# --- the ways to draw --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _AtRandom:
    """Any row anywhere, with the shares of the labels kept."""

    labels: NDArray[Any]
    rng: np.random.Generator

    def cut(self, rows: Rows, share: float) -> tuple[Rows, Rows]:
        ordered = self._by_label(rows)
        n_part = round(share * len(rows))
        # One row of each label stays, so that what is trained has seen every class.
        free = ordered[~self._first_of_label(ordered)]
        if not 0 < n_part < len(rows) or len(free) == 0:
            raise _too_few(len(rows), f"a part of {share:.0%}")
        # Evenly spaced in the order of labels: each label gives its share, up to one row.
        n_part = min(n_part, len(free))
        part = free[((np.arange(n_part) + 0.5) * len(free) / n_part).astype(np.int64)]
        return np.setdiff1d(rows, part), part

    def deal(self, rows: Rows, n_folds: int) -> list[tuple[Rows, Rows]]:
        ordered = self._by_label(rows)
        # A label's only row is in no validation part: its fold would be trained without ever having seen it.
        first = self._first_of_label(ordered)
        free = ordered[~(first & np.append(first[1:], True))]
        if len(free) < n_folds:
            raise _too_few(len(rows), f"{n_folds} folds")
        # In the order of labels, neighbours go to different folds: a label with two rows is in every training part.
        return [(np.setdiff1d(rows, free[fold::n_folds]), free[fold::n_folds]) for fold in range(n_folds)]

    def _by_label(self, rows: Rows) -> Rows:
        shuffled = self.rng.permutation(rows)
        return shuffled[np.argsort(self.labels[shuffled], kind="stable")]

    def _first_of_label(self, ordered: Rows) -> NDArray[np.bool_]:
        return np.append(True, np.diff(self.labels[ordered]) != 0)


@dataclass(frozen=True, slots=True)
class _ByGroup:
    """Whole groups, each given to the part that lacks most of the group's most frequent label."""

    groups: NDArray[np.int64]
    labels: NDArray[Any]
    rng: np.random.Generator
    name: str

    def cut(self, rows: Rows, share: float) -> tuple[Rows, Rows]:
        part = self._part_of_row(rows, np.array([1 - share, share]))
        return rows[part == 0], rows[part == 1]

    def deal(self, rows: Rows, n_folds: int) -> list[tuple[Rows, Rows]]:
        part = self._part_of_row(rows, np.full(n_folds, 1 / n_folds))
        return [(rows[part != fold], rows[part == fold]) for fold in range(n_folds)]

    def _part_of_row(self, rows: Rows, shares: NDArray[np.float64]) -> NDArray[np.int64]:
        """Returns the part of each row, each part having some; (rows,)."""
        _, members = np.unique(self.groups[rows], return_inverse=True)
        n_groups = int(members.max()) + 1
        if n_groups < len(shares):
            found = f"{n_groups} groups are too few" if n_groups > 1 else "one group is too few"
            raise DataError(
                f"{found} for {len(shares)} parts",
                where=f"`{self.name}`",
                remedy="Use fewer folds, a `test_size` of 0 (a test part has groups of its own, too), or a column with "
                "more groups.",
            )
        sizes = np.bincount(members)
        label = _most_frequent(members, self.labels[rows])
        lacking = np.outer(shares, np.bincount(label, weights=sizes))  # rows by part and label
        empty = np.full(len(shares), True)
        part_of_group = np.empty(n_groups, dtype=np.int64)
        # The largest first, since late ones cannot be balanced any more; those of similar size in random order.
        shuffled = self.rng.permutation(n_groups)
        for n_given, group in enumerate(shuffled[np.argsort(-np.floor(np.log2(sizes[shuffled])), kind="stable")]):
            open_parts = np.flatnonzero(empty | (n_groups - n_given > empty.sum()))  # the last ones fill what is empty
            of_label, of_all = lacking[open_parts, label[group]], lacking[open_parts].sum(axis=1)
            part = open_parts[np.lexsort((-of_all, -of_label))[0]]
            part_of_group[group] = part
            lacking[part, label[group]] -= sizes[group]
            empty[part] = False
        parts: NDArray[np.int64] = part_of_group[members]
        return parts


@dataclass(frozen=True, slots=True)
class _ByTime:
    """What is later is validated on what is earlier."""

    moments: NDArray[Any]
    gap: int
    name: str

    def cut(self, rows: Rows, share: float) -> tuple[Rows, Rows]:
        ordered = self._ordered(rows)
        border = self._border(ordered, len(rows) - round(share * len(rows)))
        return self._before(ordered, border), ordered[border:]

    def deal(self, rows: Rows, n_folds: int) -> list[tuple[Rows, Rows]]:
        ordered = self._ordered(rows)
        # The first of n_folds + 1 stretches is only trained on.
        wanted = [len(rows) * i // (n_folds + 1) for i in range(1, n_folds + 1)]
        borders = [self._border(ordered, border) for border in wanted]
        if len(set(borders)) < n_folds:
            raise self._too_few_moments(f"{n_folds} folds")
        ends = [*borders[1:], len(rows)]
        return [(self._before(ordered, a), ordered[a:b]) for a, b in zip(borders, ends, strict=True)]

    def _ordered(self, rows: Rows) -> Rows:
        return rows[np.argsort(self.moments[rows], kind="stable")]

    def _border(self, ordered: Rows, wanted: int) -> int:
        """Returns the position nearest to the wanted one at which a new moment begins."""
        moments = self.moments[ordered]
        starts = np.flatnonzero(moments[1:] != moments[:-1]) + 1
        if len(starts) == 0:
            raise self._too_few_moments("an earlier and a later part")
        return int(starts[np.abs(starts - wanted).argmin()])

    def _before(self, ordered: Rows, border: int) -> Rows:
        if border <= self.gap:
            raise _too_few(len(ordered), f"a gap of {self.gap}")
        return ordered[: border - self.gap]

    def _too_few_moments(self, wanted: str) -> DataError:
        return DataError(
            f"there are too few different moments for {wanted}",
            where=f"`{self.name}`",
            remedy="Use fewer folds, a `test_size` of 0, or a finer column.",
        )


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is about later moments is validated on what is about earlier ones, and looked at from there.

    A later part is as long as the longest look ahead, at least, so that it holds all steps of it.
    """

    origins: NDArray[np.int64]
    moments: NDArray[np.int64]

    def cut(self, rows: Rows, share: float) -> tuple[Rows, Rows]:
        moments = np.unique(self.moments[rows])
        length = max(round(share * len(moments)), self._horizon(rows))
        return self._around(rows, moments, len(moments) - length, len(moments))

    def deal(self, rows: Rows, n_folds: int) -> list[tuple[Rows, Rows]]:
        moments = np.unique(self.moments[rows])
        length = max(len(moments) // (2 * n_folds), self._horizon(rows))  # half of the moments are only trained on
        starts = [len(moments) - length * (n_folds - fold) for fold in range(n_folds)]
        return [self._around(rows, moments, start, start + length) for start in starts]

    def _horizon(self, rows: Rows) -> int:
        return int((self.moments[rows] - self.origins[rows]).max())

    def _around(self, rows: Rows, moments: NDArray[np.int64], start: int, end: int) -> tuple[Rows, Rows]:
        """Returns the rows about what is before the moment at position `start`, and those from there up to `end`."""
        if start < 1:
            raise self._too_short(len(moments), end - start)
        about, border = self.moments[rows], moments[start]
        later = rows[(self.origins[rows] >= border - 1) & (about >= border) & (about <= moments[end - 1])]
        earlier = rows[about < border]
        if not len(later) or not len(earlier):
            raise self._too_short(len(moments), end - start)
        return earlier, later

    @staticmethod
    def _too_short(n_moments: int, length: int) -> DataError:
        return DataError(
            f"{n_moments} moments after the first window are too few for a part of {length} and one before it",
            where="validation",
            remedy="Give more history, or write fewer folds, a shorter `window` or `horizon`, or `test_size: 0`.",
        )


def _strata(dataset: Dataset) -> NDArray[np.int64]:
    """Returns the class of each row, of several targets the rarest of its classes; all alike without classes; (rows,).

    The first pass of iterative stratification (Sechidis et al. 2011), which deals out the rarest labels first.
    """
    target, y = dataset.schema.target, dataset.target
    if target.task.is_classification:
        return y
    strata, rarity = np.zeros(len(y), dtype=np.int64), np.full(len(y), len(y) + 1)
    n_before = 1
    for position, part in enumerate(target.parts):
        if part.task.is_classification:
            known = ~np.isnan(y[:, position])
            codes = np.where(known, y[:, position], 0).astype(np.int64)
            n_rows = np.where(known, np.bincount(codes[known], minlength=len(part.classes))[codes], len(y) + 1)
            rarer = n_rows < rarity
            strata[rarer], rarity[rarer] = n_before + codes[rarer], n_rows[rarer]
            n_before += len(part.classes)
    # What is alone is only trained on; that is right for the only row of a class, and needless for others.
    n_rows_of = np.bincount(strata)
    strata[(n_rows_of[strata] == 1) & (rarity > 1)] = 0
    return strata


def _most_frequent(members: NDArray[np.int64], labels: NDArray[Any]) -> NDArray[np.int64]:
    """Returns the most frequent label of each group, as a position among the labels; (groups,)."""
    _, labels = np.unique(labels, return_inverse=True)
    pairs, counts = np.unique(np.stack([members, labels]), axis=1, return_counts=True)
    best = pairs[:, np.lexsort((counts, pairs[0]))]  # by group, and in it by count: the last of a group is its best
    is_last: NDArray[np.bool_] = np.append(np.diff(best[0]) != 0, True)
    most: NDArray[np.int64] = best[1, is_last]
    return most


# --- settings and steering columns -------------------------------------------------------------------------------


def _check_settings(
    strategy: str, size: float, test_size: float, n_folds: int, group: str | None, time: str | None, gap: int
) -> None:
    where = "validation"
    if strategy not in ("holdout", "kfold"):
        raise ConfigError(f"unknown strategy `{strategy}`", where=where, remedy="Known: `holdout`, `kfold`.")
    if group is not None and time is not None:
        raise ConfigError("`group` and `time` exclude each other", where=where, remedy="Leave one of them out.")
    if gap < 0 or (gap > 0 and time is None):
        raise ConfigError("`gap` is a number of rows and needs `time`", where=where, remedy="Name the time column.")
    if not 0 <= test_size < 1:
        raise ConfigError(f"`test_size` is {test_size}", where=where, remedy="Allowed: from 0 to below 1.")
    if strategy == "holdout" and not 0 < size < 1:
        raise ConfigError(f"`size` is {size}", where=where, remedy="Allowed: above 0 and below 1.")
    if strategy == "kfold" and n_folds < 2:
        raise ConfigError(f"`n_folds` is {n_folds}", where=where, remedy="Allowed: 2 and more.")


def _steering(dataset: Dataset, name: str) -> pd.Series:
    """Returns the column that steers the split; raises where it is unknown or incomplete."""
    known = [] if dataset.extra is None else list(dataset.extra.columns)
    if dataset.extra is None or name not in known:
        raise DataError(
            f"there is no column `{name}` to split by", where="validation", remedy=did_you_mean(name, known)
        )
    column = dataset.extra[name]
    n_missing = int(column.isna().sum())
    if n_missing:
        raise DataError(
            f"{n_missing} of the values are missing, and every row must be put somewhere",
            where=f"`{name}`",
            remedy="Fill them in or drop these rows.",
        )
    return column


def _groups(dataset: Dataset, name: str) -> NDArray[np.int64]:
    return pd.factorize(_steering(dataset, name))[0].astype(np.int64)


def _moments(dataset: Dataset, name: str) -> NDArray[Any]:
    column = _steering(dataset, name)
    if types.is_numeric_dtype(column):
        return column.to_numpy(dtype=np.float64)
    moments = canonical(column, ColumnKind.DATETIME)
    if moments.isna().any():
        row = int(moments.isna().to_numpy().argmax())
        raise DataError(
            f"`{column.iloc[row]}` in row {row + 1} is neither a number nor a date",
            where=f"`{name}`",
            remedy="Write dates as 2026-01-31 or 2026-01-31T12:00:00.",
        )
    return moments.to_numpy()


def _too_few(n_rows: int, wanted: str) -> DataError:
    return DataError(f"{n_rows} rows are too few for {wanted}", remedy="Use more rows, or fewer or larger parts.")


def _digest(search: Rows, test: Rows, folds: tuple[Fold, ...]) -> str:
    digest = hashlib.sha256()
    for rows in (search, test, *(rows for fold in folds for rows in (fold.train, fold.val))):
        digest.update(len(rows).to_bytes(8, "little"))
        digest.update(rows.astype("<i8").tobytes())
    return digest.hexdigest()
