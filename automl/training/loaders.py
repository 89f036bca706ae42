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

from automl.losses import encode
from automl.values import Part, TargetSpec

#: Batches whose rows are gathered, and moved to an accelerator, in one go: one call costs as much as a small batch.
GATHERED = 32

Batch = tuple[dict[str, Tensor], Tensor]


class Batches:
    """The batches of one part of a fold, anew at each iteration.

    Args:
        part: The rows.
        target: How the loss sees their target.
        batch_size: Rows per batch; the last batch may be smaller.
        seed: Shuffles the rows, differently in each epoch; None keeps their order.
        device: Where batches are wanted.
    """

    def __init__(
        self,
        part: Part,
        target: TargetSpec,
        batch_size: int,
        *,
        seed: int | None = None,
        device: torch.device | None = None,
    ) -> None:
        self._inputs = {name: _tensor(block) for name, block in part.inputs.items()}  # each (rows, columns)
        self._y = encode(part.target, target)  # (rows,)
        self._generator = None if seed is None else torch.Generator().manual_seed(seed)
        self._batch_size = batch_size
        self._device = device
        n_rows = len(self._y)
        # Batch normalisation cannot learn from a last batch of one row; shuffled, it is another row in each epoch.
        single = seed is not None and n_rows % batch_size == 1 and min(n_rows, batch_size) > 1
        self._n_used = n_rows - 1 if single else n_rows

    def __len__(self) -> int:
        return -(-self._n_used // self._batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n_rows = len(self._y)
        order = torch.arange(n_rows) if self._generator is None else torch.randperm(n_rows, generator=self._generator)
        for rows in torch.split(order[: self._n_used], self._batch_size * GATHERED):
            inputs = {name: block.index_select(0, rows).to(self._device) for name, block in self._inputs.items()}
            y = self._y[rows].to(self._device)
            for first in range(0, len(rows), self._batch_size):
                batch = slice(first, first + self._batch_size)
                yield {name: block[batch] for name, block in inputs.items()}, y[batch]


def _tensor(array: NDArray[Any]) -> Tensor:
    """Returns a tensor on the array's own memory."""
    with warnings.catch_warnings():
        # Arrays may be maps of a file opened for reading. Batches are copies, so nothing is ever written to them.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)
