"""What the neighbours of a row in a graph are like, as columns of its own: means of their features, hop by hop.

The mean of neighbours' features is the aggregation of GraphSAGE (Hamilton et al. 2017, arXiv 1706.02216), and its
repetition without anything learned in between that of SGC (Wu et al. 2019, arXiv 1902.07153); a column for each hop
lets any model of tables weigh near and far. Features are aggregated, and never targets, so that rows of all parts may
be each other's neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from automl.data import sources
from automl.data.blocks import NeighboursLayout
from automl.data.columns import canonical, infer_kind
from automl.errors import DataError, Problem, did_you_mean
from automl.values import ColumnKind, Neighbours

#: Levels of a column, and rows that each needs, of which the share among neighbours is a column.
MAX_LEVELS, MIN_LEVEL_ROWS = 20, 10

#: Share of the edges that lead to a row at both ends, below which they are another table's.
MIN_KNOWN = 0.5


def read_edges(base: Path, layout: NeighboursLayout) -> pd.DataFrame:
    """Returns the two ends of each edge, as words; (edges, 2).

    Raises:
        ConfigError, DataError: The file cannot be read, or lacks the columns.
    """
    table = sources.read(*sources.infer(sources.existing_file(base, layout.file)), base)
    return ends(table, layout.start, layout.end, layout.file)


def ends(table: pd.DataFrame, start: str, end: str, where: str) -> pd.DataFrame:
    """Returns what `read_edges` does, of a table that is read."""
    problems = [
        Problem(f"there is no column `{name}`", where, did_you_mean(name, [str(column) for column in table.columns]))
        for name in (start, end)
        if name not in table.columns
    ]
    if problems:
        raise DataError(problems)
    found = pd.DataFrame({name: canonical(table[name], ColumnKind.CATEGORICAL) for name in (start, end)})
    n_missing = int(found.isna().any(axis=1).sum())
    if n_missing:
        raise DataError(f"{n_missing} edges have one end or none", where=where, remedy="Drop them.")
    return found


def describe(
    frame: pd.DataFrame, layout: NeighboursLayout, ignored: Sequence[str], kinds: Mapping[str, ColumnKind]
) -> Neighbours:
    """Returns what is aggregated of a table's columns: numbers, truth values, and the shares of frequent levels.

    Args:
        frame: The table; (rows, columns).
        layout: What the study says.
        ignored: Columns that are no features, the target first.
        kinds: Kinds of columns where the inferred one would be wrong.
    """
    numbers, truths, levels = [], [], {}
    for name in frame.columns:
        if name in (*ignored, layout.id):
            continue
        kind = kinds.get(name) or infer_kind(frame[name])
        if kind is ColumnKind.NUMERIC:
            numbers.append(name)
        elif kind is ColumnKind.BOOLEAN:
            truths.append(name)
        elif kind is ColumnKind.CATEGORICAL:
            counts = canonical(frame[name], kind).value_counts()
            levels[name] = tuple(sorted(counts[counts >= MIN_LEVEL_ROWS].index[:MAX_LEVELS]))
    return Neighbours(layout.id, layout.start, layout.end, layout.hops, tuple(numbers), tuple(truths), levels)


def check(frame: pd.DataFrame, edges: pd.DataFrame, told: Neighbours, where: str) -> tuple[str, ...]:
    """Returns notes on edges that are left out.

    Raises:
        DataError: Rows have no name of their own, or the edges lead elsewhere.
    """
    names = canonical(frame[told.id], ColumnKind.CATEGORICAL)
    if names.isna().any():
        n_missing = int(names.isna().sum())
        raise DataError(f"{n_missing} rows have no name", where=f"`{told.id}`", remedy="Name them or drop them.")
    repeated = names[names.duplicated()]
    if len(repeated):
        raise DataError(
            f"names must be of one row each, and {len(repeated)} rows repeat one; the first is `{repeated.iloc[0]}`",
            where=f"`{told.id}`",
            remedy="Name what a row is, such as place and year together.",
        )
    known = np.column_stack([edges[name].isin(names) for name in edges.columns])
    n_unknown = int((~known.all(axis=1)).sum())
    if n_unknown > (1 - MIN_KNOWN) * len(edges):
        row, side = np.argwhere(~known)[0]
        raise DataError(
            f"{n_unknown:,} of {len(edges):,} edges lead to no row; the first is to `{edges.iloc[:, side].iloc[row]}`",
            where=where,
            remedy=f"Check that both ends are values of `{told.id}`, spelled alike.",
        )
    return (f"Edges left out, since they lead to no row: {n_unknown:,} of {len(edges):,}.",) if n_unknown else ()


def with_edges(frame: pd.DataFrame, edges: pd.DataFrame | None, told: Neighbours) -> pd.DataFrame:
    """Returns what `joined` does, of rows to predict on and a table of edges as it was read."""
    if edges is None:
        return joined(frame, None, told)
    found = ends(edges, told.start, told.end, "the edges")
    if told.id in frame.columns:
        check(frame, found, told, "the edges")
    return joined(frame, found, told)


def joined(frame: pd.DataFrame, edges: pd.DataFrame | None, told: Neighbours) -> pd.DataFrame:
    """Returns a table with the columns of its rows' neighbours beside its own.

    Args:
        frame: Rows, one a node; (rows, columns).
        edges: Their ends, undirected; edges to what is no row, and those from a row to itself, are left out. None: no
            row has neighbours.
        told: What is aggregated.

    Raises:
        DataError: A column that is aggregated is missing.
    """
    needed = [*told.numbers, *told.truths, *told.levels, *([] if edges is None else [told.id])]
    names = [str(name) for name in frame.columns]
    missing = [
        Problem(f"the column `{name}` is missing", remedy=did_you_mean(name, names))
        for name in needed
        if name not in names
    ]
    if missing:
        raise DataError(missing)
    pairs = np.empty((0, 2), np.int64)
    if edges is not None:
        pairs = _pairs(canonical(frame[told.id], ColumnKind.CATEGORICAL), edges)
    adjacency = csr_matrix((np.ones(len(pairs)), pairs.T), shape=(len(frame), len(frame)))
    values = np.column_stack([*_features(frame, told), np.empty((len(frame), 0))])
    found = [np.asarray(adjacency.sum(axis=1)).reshape(-1, 1)]
    for _ in range(told.hops):
        there = ~np.isnan(values)
        with np.errstate(invalid="ignore"):
            values = (adjacency @ np.where(there, values, 0.0)) / (adjacency @ there.astype(np.float64))
        found.append(values)
    beside = pd.DataFrame(np.hstack(found), columns=list(told.made), index=frame.index)
    return pd.concat([frame.drop(columns=[name for name in told.made if name in names]), beside], axis=1)


def _features(frame: pd.DataFrame, told: Neighbours) -> Iterator[NDArray[np.float64]]:
    """Yields what is aggregated; each (rows,), missing ones NaN."""
    kinds = {**dict.fromkeys(told.numbers, ColumnKind.NUMERIC), **dict.fromkeys(told.truths, ColumnKind.BOOLEAN)}
    for name, kind in kinds.items():
        values = canonical(frame[name], kind).to_numpy(np.float64)
        yield np.where(np.isinf(values), np.nan, values)
    for name, levels in told.levels.items():
        words = canonical(frame[name], ColumnKind.CATEGORICAL)
        for level in levels:
            yield np.where(words.isna(), np.nan, (words == level).astype(np.float64))


def _pairs(names: pd.Series, edges: pd.DataFrame) -> NDArray[np.int64]:
    """Returns the rows at both ends of each edge, in both directions, each pair once; (pairs, 2)."""
    index = pd.Index(names)
    pairs = np.column_stack([index.get_indexer(edges[name]) for name in edges.columns])
    pairs = pairs[(pairs >= 0).all(axis=1) & (pairs[:, 0] != pairs[:, 1])]
    both: NDArray[np.int64] = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
    return both
