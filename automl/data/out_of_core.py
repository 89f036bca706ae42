"""Tables larger than memory: looked through in parts twice, once to describe them, once to store them in shards.

What columns mean is told by a sample of the rows, drawn at random; target, split and digest are of all rows. A value
that is not what the sample said of its column is told as it is of any table.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from automl.data import blocks as layouts
from automl.data import images, parts, sources
from automl.data.blocks import ImageFilesLayout, Layout, LongLayout, Places
from automl.data.checks import check
from automl.data.dataset import Conforming, describe, has_target, read_target
from automl.data.sequences import Readings
from automl.errors import ConfigError
from automl.values import ColumnKind, Dataset, Scalar, WantedTask

#: Copies of a table that preparing it and training on it hold at one time.
COPIES = 4
#: Bytes of a shard's values: a fair part of the memory, within these bounds.
MIN_SHARD_BYTES, MAX_SHARD_BYTES, SHARD_SHARE = 2**24, 2**27, 1 / 32
#: Shards are written beside one another, and a process may have some thousand files open.
MAX_SHARDS = 500
#: Values that are read at a time, and that the sample holds.
PART_VALUES = SAMPLE_VALUES = 2**22


def needed(source: str, params: Mapping[str, Any], base: Path, memory: int) -> bool:
    """Returns whether a table would not fit into `memory` bytes, as far as its files tell."""
    n_bytes = parts.size(source, params, base)
    return n_bytes is not None and COPIES * n_bytes > memory


def needed_for_images(frame: pd.DataFrame, blocks: Sequence[Layout], memory: int) -> bool:
    """Returns whether the images that a table names would not fit into `memory` bytes once they are read."""
    shapes = (
        layout.shape or images.measure(frame[layout.column], layout.root)
        for layout in blocks
        if isinstance(layout, ImageFilesLayout) and layout.column in frame
    )
    n_cells = sum(math.prod(shape) for shape in shapes)
    return COPIES * np.dtype(np.float32).itemsize * n_cells * len(frame) > memory


@dataclass(frozen=True, slots=True)
class Survey:
    """A table that was looked through.

    Attributes:
        dataset: The table, but for its features, of which there are no columns.
        has_target: Whether a row of the source has a target, and so is in the table; (rows of the source,).
        places: Where the blocks that are read come from.
    """

    dataset: Dataset
    has_target: NDArray[np.bool_]
    source: str
    params: Mapping[str, Any]
    base: Path
    places: Places = field(default_factory=dict)

    def n_shards(self, memory: int) -> int:
        """Returns how many shards the search part is to be cut into where there are `memory` bytes."""
        size = min(max(memory * SHARD_SHARE, MIN_SHARD_BYTES), MAX_SHARD_BYTES)
        n_bytes = len(self.dataset.target) * self.dataset.schema.n_cells * parts.VALUE_BYTES
        return min(max(round(n_bytes / size), 2), MAX_SHARDS)

    def frames(self) -> Iterator[pd.DataFrame]:
        """Yields the canonical frames that make up the table.

        Raises:
            DataError: With everything that is wrong with any part, after the last.
        """
        schema = self.dataset.schema
        conforming = Conforming(schema, self.places)
        n_before, n_cells = 0, max(len(schema.columns), schema.n_cells)
        for part in parts.read(self.source, self.params, self.base, schema, _rows(PART_VALUES, n_cells)):
            frame = conforming.take(part)
            if frame is not None:
                yield frame[self.has_target[n_before : n_before + len(part)]]
            n_before += len(part)
        conforming.end()


def survey(
    source: str,
    params: Mapping[str, Any],
    base: Path,
    *,
    target: str | Sequence[str],
    task: WantedTask | Mapping[str, WantedTask] = "auto",
    name: str,
    positive: Scalar = None,
    kinds: Mapping[str, ColumnKind] | None = None,
    split_columns: Sequence[str] = (),
    blocks: Sequence[Layout] = (),
    domain: str | None = None,
    seed: int = 0,
) -> Survey:
    """Returns what there is to know of a table before its rows are stored; arguments as of `sources.read`.

    Args:
        target, task, name, positive, kinds, split_columns, blocks, domain: As of `make_dataset`.
        seed: Of the sample.

    Raises:
        ConfigError: The source is not one that can be read in parts.
        DataError: Nothing can be learned from this table, or not this task.
    """
    if source not in parts.READERS:
        known = ", ".join(f"`{known}`" for known in parts.READERS)
        raise ConfigError(
            f"the source `{source}` cannot be read in parts",
            where="data.out_of_core",
            remedy=f"These can: {known}. Or write `out_of_core: false`.",
        )
    if any(isinstance(layout, LongLayout) and layout.file is None for layout in blocks):
        raise ConfigError(
            "a table with a row a step becomes one row an id, for which it is read whole",
            where="data.out_of_core",
            remedy="Write the sequences to a file of their own, named by `file` of the block, or `out_of_core: false`.",
        )
    kinds = kinds or {}
    n_columns = parts.n_columns(source, params, base)
    targets = [target] if isinstance(target, str) else list(target)
    steered = [*split_columns, *([domain] if domain else [])]
    whole = list(dict.fromkeys([*targets, *steered]))
    roots = {layout.column: layout.root for layout in blocks if isinstance(layout, ImageFilesLayout)}
    look = _Look(whole, _rows(SAMPLE_VALUES, n_columns), np.random.default_rng(seed), roots)
    for part in parts.read(source, params, base, None, _rows(PART_VALUES, n_columns)):
        look.take(part)
    sample, steering = look.sample(), look.steering()
    check(
        sample,
        targets=targets,
        values=steering[[name for name in targets if name in steering]],
        split_columns=split_columns,
        named_columns=kinds,
        key_columns=layouts.key_columns(blocks),
        domain=domain,
    )
    goal, y, notes = read_target(steering[targets], task, positive)
    kept = has_target(steering[targets])
    described = sample[has_target(sample[targets])].drop(columns=[*targets, *split_columns])
    found = layouts.resolve(blocks, described.drop(columns=[domain] if domain else []))
    for place in found.places.values():
        if isinstance(place, Readings):
            look.digest.update(place.values.tobytes())
    schema, column_notes = describe(described, goal, kinds, found, domain)
    extra = steering.loc[kept, steered].reset_index(drop=True) if steered else None
    dataset = Dataset(
        features=pd.DataFrame(index=range(len(y))),
        target=y,
        schema=schema,
        digest=look.digest.hexdigest(),
        name=name,
        source=sources.describe(source, params),
        extra=extra,
        notes=(
            f"Kept on disk, and its columns described by {len(described):,} of {len(y):,} rows.",
            *notes,
            *column_notes,
        ),
    )
    return Survey(dataset, kept, source, params, base, found.places)


class _Look:
    """What is kept of a table while it comes by: some columns whole, a sample of the rows, a digest of all values.

    Args:
        names: The columns to keep, as far as they are there.
        n_rows: Rows of the sample.
        roots: Folders of the images that columns name: the digest is of what is in the files.
    """

    def __init__(
        self, names: Sequence[str], n_rows: int, rng: np.random.Generator, roots: Mapping[str, Path] | None = None
    ) -> None:
        self._names = names
        self._roots = roots or {}
        self._n_rows = n_rows
        self._rng = rng
        self._n_seen = 0
        self._kept: list[pd.DataFrame] = []
        self._drawn: list[pd.DataFrame] = []
        self._keys = np.empty(0)
        self._threshold = 1.0
        self.digest = hashlib.sha256()

    def take(self, part: pd.DataFrame) -> None:
        """Looks at the next rows."""
        if self._n_seen == 0:
            self.digest.update(json.dumps([str(name) for name in part]).encode())
        with suppress(TypeError):  # of lists and the like, which `check` refuses
            self.digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
        for name in (name for name in self._roots if name in part):
            self.digest.update(images.content_digest(part[name], self._roots[name]))
        part = part.set_axis(range(self._n_seen, self._n_seen + len(part)))
        self._n_seen += len(part)
        self._kept.append(part[[name for name in self._names if name in part]].copy())
        keys = self._rng.random(len(part))
        chosen = keys < self._threshold
        self._drawn.append(part[chosen])
        self._keys = np.concatenate([self._keys, keys[chosen]])
        if len(self._keys) > 2 * self._n_rows:
            self.sample()

    def sample(self) -> pd.DataFrame:
        """Returns the sample, indexed by the rows' positions."""
        # The rows with the smallest of random keys are a fair sample at any time.
        chosen = np.sort(np.argsort(self._keys, kind="stable")[: self._n_rows])
        self._drawn = [_joined(self._drawn).iloc[chosen]]
        self._keys = self._keys[chosen]
        self._threshold = self._keys.max(initial=0.0) if len(chosen) == self._n_rows else 1.0
        return self._drawn[0]

    def steering(self) -> pd.DataFrame:
        """Returns the columns that were kept, whole."""
        return _joined(self._kept)


def _joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Returns frames below one another; columns that are categories in one stay so."""
    joined = pd.concat(frames)
    categories = [name for name, kind in frames[-1].dtypes.items() if isinstance(kind, pd.CategoricalDtype)]
    return joined.astype(dict.fromkeys(categories, "category"))


def _rows(n_values: int, n_columns: int) -> int:
    """Returns how many rows have about so many values."""
    return max(n_values // max(n_columns, 1), 100)
