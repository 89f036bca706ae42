"""Small tables with everything in them that goes wrong in large ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from automl.components import STAGES, catalogue
from automl.preprocessing.preprocessing import Preprocessing
from automl.values import Choice, Column, ColumnKind, Schema, Step, Target, Task

KINDS = {
    "row": ColumnKind.NUMERIC,
    "amount": ColumnKind.NUMERIC,
    "sparse": ColumnKind.NUMERIC,
    "empty": ColumnKind.NUMERIC,
    "same": ColumnKind.NUMERIC,
    "huge": ColumnKind.NUMERIC,
    "yes": ColumnKind.BOOLEAN,
    "when": ColumnKind.DATETIME,
    "row_name": ColumnKind.CATEGORICAL,
    "colour": ColumnKind.CATEGORICAL,
    "nothing": ColumnKind.CATEGORICAL,
    "remark": ColumnKind.TEXT,
}
CLASSES = ("a", "b", "c", "d")
OPTIONS = [(stage, component.name) for stage in STAGES for component in catalogue(stage)]
CLASSIFICATION, REGRESSION = Task.MULTICLASS, Task.REGRESSION


def schema(task: Task = CLASSIFICATION, *names: str) -> Schema:
    """Returns the schema of the named columns, of all without names."""
    target = Target("y", task, CLASSES if task.is_classification else ())
    return Schema(tuple(Column(name, kind, "") for name, kind in KINDS.items() if not names or name in names), target)


def frame(n_rows: int, seed: int = 0) -> pd.DataFrame:
    """Returns a canonical frame; `row` and `row_name` tell each row from all others."""
    rng = np.random.default_rng(seed)

    def holed(values: np.ndarray, share: float) -> np.ndarray:
        return np.where(rng.random(n_rows) < share, np.nan, values)

    colours = rng.choice(["red", "green", "blue", "sand"], n_rows, p=[0.5, 0.3, 0.15, 0.05])
    words = rng.choice(["good", "bad", "slow", "late", "kind"], (n_rows, 3))
    return pd.DataFrame(
        {
            "row": np.arange(n_rows, dtype=float),
            "amount": holed(rng.normal(size=n_rows), 0.05),
            "sparse": np.where(rng.random(n_rows) < 0.9, 0.0, rng.lognormal(9, 2, n_rows)),
            "empty": np.full(n_rows, np.nan),
            "same": np.ones(n_rows),
            "huge": rng.choice([1.0, 2.0, 1e300, -np.inf, np.inf], n_rows, p=[0.5, 0.44, 0.02, 0.02, 0.02]),
            "yes": holed(rng.integers(0, 2, n_rows).astype(float), 0.05),
            "when": (pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 9000, n_rows), unit="h")).as_unit(
                "us"
            ),
            "row_name": pd.Series([f"name{i}" for i in range(n_rows)], dtype="str"),
            "colour": pd.Series(np.where(rng.random(n_rows) < 0.1, None, colours), dtype="str"),
            "nothing": pd.Series([None] * n_rows, dtype="str"),
            "remark": pd.Series([" ".join(row) if row[0] != "late" else None for row in words], dtype="str"),
        }
    )


def target(n_rows: int, task: Task = CLASSIFICATION, seed: int = 0) -> np.ndarray:
    """Returns classes of falling size, the last of one row, or values."""
    rng = np.random.default_rng(seed)
    if not task.is_classification:
        return rng.normal(1000, 100, n_rows)
    y = rng.choice(3, n_rows, p=[0.6, 0.3, 0.1])
    y[n_rows // 2] = 3
    return y.astype(np.int64)


def steps(stage: str, name: str, **params: float | str | bool) -> list[Step]:
    """Returns the step, after what it cannot do without."""
    before = [Step("encoding", Choice("onehot"))] if name == "smote" else []
    return [*before, Step(stage, Choice(name, params))]


def walk(stage: str, name: str, task: Task = CLASSIFICATION, **params: float | str | bool) -> Preprocessing:
    """Returns a preprocessing of one step over all columns; not fitted."""
    return Preprocessing(steps(stage, name, **params), schema(task), seed=7)
