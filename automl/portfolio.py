"""The portfolio of a search space: points that did well on other tables, in the order that suits this one.

What is known is a file beside the search space, made by `benchmarks/portfolio.py`: how each point did on each of some
tables that have nothing to do with the user's, and what an epoch took. The order is greedy: each next point is the one
that adds most to those before it, on tables like this one above all (Feurer et al. 2022, "Auto-sklearn 2.0", who learn
a fixed portfolio so). Points that are too slow for the time there is come last.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from automl.errors import ConfigError, did_you_mean
from automl.values import ColumnKind, Scalar, Schema

#: Epochs of each fold below which a point is too slow.
MIN_EPOCHS = 6

Point = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Traits:
    """What makes tables alike.

    Attributes:
        n_rows: Of the training part.
        n_columns: That a model sees.
        categorical: Share of them that are categories.
        n_classes: 0 for a number.
    """

    n_rows: int
    n_columns: int
    categorical: float
    n_classes: int

    @classmethod
    def of(cls, schema: Schema, n_rows: int) -> Traits:
        """Returns the traits of a table of which so many rows are trained on."""
        n_columns = len(schema.used)
        n_categorical = sum(column.kind is ColumnKind.CATEGORICAL for column in schema.used)
        return cls(n_rows, n_columns, n_categorical / max(1, n_columns), len(schema.target.classes))

    def unlike(self, other: Traits) -> float:
        """Returns how far two tables are apart: 0 for equal traits, about 1 for ten times the rows."""
        return math.sqrt(
            math.log10((self.n_rows + 1) / (other.n_rows + 1)) ** 2
            + math.log10((self.n_columns + 1) / (other.n_columns + 1)) ** 2
            + (self.categorical - other.categorical) ** 2
            + (0.5 * math.log10(max(self.n_classes, 2) / max(other.n_classes, 2))) ** 2
        )


@dataclass(frozen=True, slots=True)
class Portfolio:
    """What is known of points.

    Attributes:
        points: Optuna parameters, as changes to the defaults of the space.
        tables: On which they were tried.
        losses: 0 for the best point of a table, 1 for a middling one, and no more; (points, tables).
        epoch_s: Seconds that an epoch over one fold took, with its share of everything else; (points, tables).
    """

    points: tuple[Point, ...]
    tables: tuple[Traits, ...]
    losses: NDArray[np.float64]
    epoch_s: NDArray[np.float64]

    def order(self, traits: Traits, seconds: float = math.inf) -> list[Point]:
        """Returns the points in the order in which they are worth trying.

        Args:
            traits: Of the table.
            seconds: That the training of one fold may take.
        """
        weights = np.array([1 / (0.5 + traits.unlike(table)) for table in self.tables])
        weights /= weights.sum()
        fits = self.expected_epoch_s(traits.n_rows) * MIN_EPOCHS <= seconds
        ordered: list[int] = []
        for group in (np.flatnonzero(fits), np.flatnonzero(~fits)):
            ordered += greedy(self.losses[group], weights, group.tolist())
        return [self.points[number] for number in ordered]

    def expected_epoch_s(self, n_rows: int) -> NDArray[np.float64]:
        """Returns about how many seconds an epoch over so many rows takes; (points,).

        Of tables of nearly as many rows, in proportion: what an epoch of a few rows takes is mostly not for the rows.
        """
        ratios = (n_rows + 1) / np.array([table.n_rows + 1 for table in self.tables])
        weights = np.exp(-4 * np.abs(np.log10(ratios)))
        expected: NDArray[np.float64] = (self.epoch_s * ratios) @ weights / weights.sum()
        return expected


def greedy(losses: NDArray[np.float64], weights: NDArray[np.float64], names: Sequence[int]) -> list[int]:
    """Returns names in the order in which each adds most to the best of those before it.

    Args:
        losses: (points, tables).
        weights: Of the tables.
        names: Of the points.
    """
    ordered: list[int] = []
    left = list(range(len(names)))
    reached = np.full(losses.shape[1], np.inf)
    while left:
        after = [float(weights @ np.minimum(reached, losses[number])) for number in left]
        # Of those that add nothing more, the better one alone comes first.
        chosen = min(left, key=lambda number: (after[left.index(number)], float(weights @ losses[number])))
        reached = np.minimum(reached, losses[chosen])
        left.remove(chosen)
        ordered.append(names[chosen])
    return ordered


def load(name: str, folders: Sequence[Path]) -> Portfolio:
    """Returns the portfolio of a name, from the first of the folders that has it.

    Args:
        name: Of a file of `benchmarks/portfolio.py`, without its ending.
        folders: Of search spaces; portfolios lie in `portfolios` within.

    Raises:
        ConfigError: None has it, with the names that there are; or its file is damaged.
    """
    path = next((path for folder in folders if (path := folder / "portfolios" / f"{name}.json").is_file()), None)
    if path is None:
        known = sorted({path.stem for folder in folders for path in folder.glob("portfolios/*.json")})
        raise ConfigError(f"unknown portfolio `{name}`", where="portfolio", remedy=did_you_mean(name, known))
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        points = document["points"]
        portfolio = Portfolio(
            points=tuple(point["changes"] for point in points),
            tables=tuple(Traits(**table["traits"]) for table in document["tables"]),
            losses=np.array([point["losses"] for point in points], dtype=np.float64),
            epoch_s=np.array([point["epoch_s"] for point in points], dtype=np.float64),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    shape = len(portfolio.points), len(portfolio.tables)
    if not all(shape) or {portfolio.losses.shape, portfolio.epoch_s.shape} != {shape}:
        raise _damaged(path, "there is not one loss and one time for each point and table")
    return portfolio


def _damaged(path: Path, why: str) -> ConfigError:
    remedy = "Make it again with `benchmarks/portfolio.py`, or take `portfolio` out of the search space."
    return ConfigError(f"is not a portfolio ({why})", where=str(path), remedy=remedy)
