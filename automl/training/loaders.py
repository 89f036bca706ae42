"""Batches for training, cut from whole tensors.

A `DataLoader` collates row by row, which for rows of a table takes longer than the network does.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from automl.draws import Draw
from automl.losses import encode
from automl.values import Part, ShardedPart, TargetSpec

#: Batches whose rows are gathered, and moved to an accelerator, in one go: one call costs as much as a small batch.
GATHERED = 32

Batch = tuple[dict[str, Tensor], Tensor]


class Batches:
    """The batches of one part of a fold, anew at each iteration.

    Args:
        part: The rows. Pieces of a part are gone through one after the other, so that one is in memory.
        target: How the loss sees their target.
        batch_size: Rows per batch; the last batch of a piece may be smaller.
        seed: Shuffles the pieces and draws the rows of each, differently in each epoch; None keeps their order.
        draw: Which rows of a piece an epoch goes through, in which order; None: each once, shuffled.
        device: Where batches are wanted.

    Attributes:
        generator: Of the order of pieces and rows; None where there is no seed.
    """

    def __init__(
        self,
        part: Part | ShardedPart,
        target: TargetSpec,
        batch_size: int,
        *,
        seed: int | None = None,
        draw: Draw | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._part = part
        self._target = target
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._draw = draw
        self._batch_size = batch_size
        self._device = device
        self._whole = self._load(0) if len(part.sizes) == 1 else None

    @property
    def n_rows(self) -> int:
        """All rows of the part."""
        return sum(self._part.sizes)

    def __len__(self) -> int:
        return sum(-(-self._n_used(n_rows) // self._batch_size) for n_rows in self._part.sizes)

    def __iter__(self) -> Iterator[Batch]:
        for number in [0] if self._whole else self._order(len(self._part.sizes)).tolist():
            inputs, y = self._whole or self._load(number)
            for rows in torch.split(self._rows(y)[: self._n_used(len(y))], self._batch_size * GATHERED):
                some = {name: block.index_select(0, rows).to(self._device) for name, block in inputs.items()}
                some_y = y[rows].to(self._device)
                for first in range(0, len(rows), self._batch_size):
                    batch = slice(first, first + self._batch_size)
                    yield {name: block[batch] for name, block in some.items()}, some_y[batch]

    def sample(self, n: int, seed: int) -> Batch:
        """Returns at most `n` random rows, which do not change what comes next; of the first piece, a fair sample."""
        inputs, y = self._whole or self._load(0)
        rows = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))[:n]
        return {name: block[rows].to(self._device) for name, block in inputs.items()}, y[rows].to(self._device)

    def _load(self, number: int) -> Batch:
        """Returns all rows of one piece; each block (rows, columns), the target (rows,)."""
        piece = self._part.piece(number)
        return {name: _tensor(block) for name, block in piece.inputs.items()}, encode(piece.target, self._target)

    def _order(self, n: int) -> Tensor:
        return torch.arange(n) if self.generator is None else torch.randperm(n, generator=self.generator)

    def _rows(self, y: Tensor) -> Tensor:
        """Returns the rows of a piece in the order in which an epoch goes through them; (rows,)."""
        if self._draw is None or self.generator is None:
            return self._order(len(y))
        return self._draw(y, self.generator)

    def _n_used(self, n_rows: int) -> int:
        # Batch normalisation cannot learn from a last batch of one row; shuffled, it is another row in each epoch.
        single = self.generator is not None and n_rows % self._batch_size == 1 and min(n_rows, self._batch_size) > 1
        return n_rows - 1 if single else n_rows


def _tensor(array: NDArray[Any]) -> Tensor:
    """Returns a tensor on the array's own memory."""
    with warnings.catch_warnings():
        # Arrays may be maps of a file opened for reading. Batches are copies, so nothing is ever written to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
