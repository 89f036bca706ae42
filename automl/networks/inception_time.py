"""Inception network over sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.networks._encoded import Encoded, Encoders
from automl.networks._steps import TOKEN_SIZE, Steps, pooled

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("sequence",)

#: Paths beside one another: convolutions of so many lengths, and a maximum of the steps around.
N_LENGTHS = 3


class InceptionBlock(nn.Module):
    """Convolutions of several lengths beside one another; (batch, n_in, steps) -> (batch, 4 x width, steps)."""

    def __init__(self, n_in: int, width: int, longest: int) -> None:
        super().__init__()
        lengths = [max(1, longest // 2**number // 2 * 2 + 1) for number in range(N_LENGTHS)]
        self.bottleneck = nn.Conv1d(n_in, width, 1, bias=False) if n_in > 1 else nn.Identity()
        n_narrow = width if n_in > 1 else n_in
        self.paths = nn.ModuleList(
            nn.Conv1d(n_narrow, width, length, padding=length // 2, bias=False) for length in lengths
        )
        self.highest = nn.Conv1d(n_in, width, 1, bias=False)
        self.normalisation = nn.BatchNorm1d((N_LENGTHS + 1) * width)

    def forward(self, steps: Tensor) -> Tensor:
        narrow = self.bottleneck(steps)
        highest = functional.max_pool1d(steps, 3, stride=1, padding=1)
        paths = [*(path(narrow) for path in self.paths), self.highest(highest)]
        normalised: Tensor = self.normalisation(torch.cat(paths, dim=1))
        return normalised


class InceptionEncoder(nn.Module):
    """Inception blocks with a shortcut over every third, and mean and maximum over the steps.

    Args:
        block: A sequence.
        depth, width, longest, dropout: As of `inception_time`.

    Attributes:
        width: Of the vector.
    """

    def __init__(self, block: BlockSpec, *, depth: int, width: int, longest: int, dropout: float) -> None:
        super().__init__()
        self.steps = Steps(block, TOKEN_SIZE)
        n_wide = (N_LENGTHS + 1) * width
        widths = [self.steps.width, *[n_wide] * (depth - 1)]
        self.blocks = nn.ModuleList(InceptionBlock(n_in, width, longest) for n_in in widths)
        self.shortcuts = nn.ModuleDict(
            {
                str(number): nn.Sequential(
                    nn.Conv1d(self.steps.width if number == 2 else n_wide, n_wide, 1, bias=False),
                    nn.BatchNorm1d(n_wide),
                )
                for number in range(2, depth, 3)
            }
        )
        self.dropout = nn.Dropout(dropout)
        self.width = 2 * n_wide

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        vectors, there = self.steps(given)
        steps = before = vectors.transpose(1, 2)
        inside = there[:, None].to(steps.dtype)
        for number, block in enumerate(self.blocks):
            steps = block(steps)
            if str(number) in self.shortcuts:
                steps = steps + self.shortcuts[str(number)](before)
            steps = functional.relu(steps) * inside  # nothing of what comes after the end is seen by the next block
            if str(number) in self.shortcuts:
                before = steps
            steps = self.dropout(steps)
        return pooled(steps.transpose(1, 2), there)


def inception_time(
    inputs: InputSpec,
    n_outputs: int,
    *,
    depth: int = 3,
    width: int = 16,
    longest: int = 20,
    dropout: float = 0.1,
    head_width: int = 0,
    pretraining_epochs: int = 0,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a network of long and short convolutions over the steps of sequences, with a table's columns beside.

    InceptionTime (Fawaz et al. 2020, arXiv 1909.04939), of which this is one of its five members: blocks of three
    convolutions and a maximum beside one another, a shortcut over every third; then mean and maximum over the steps.
    The network maps a dictionary of blocks to (batch, n_outputs); it cannot train on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one sequence (batch, channels, steps).
        n_outputs: Number of logits or values per row.
        depth: Inception blocks.
        width: Channels of each of the four paths of a block.
        longest: Steps that the longest convolution sees, about; the others see half and a quarter.
        dropout: Share of the values that are dropped after each block, and before the outputs.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        pretraining_epochs: How often encoders learn from sequences to give back hidden cells before training begins.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is no sequence, or no block.
    """
    if depth < 1:
        raise ValueError(f"needs a block, however: `depth` is {depth}")

    def encoder(block: BlockSpec) -> nn.Module:
        return InceptionEncoder(block, depth=depth, width=width, longest=longest, dropout=dropout)

    encoders = Encoders(inputs, {"sequence": encoder}, embedding_size)
    return Encoded(
        encoders,
        n_outputs,
        head_width=head_width,
        dropout=dropout,
        activation="relu",
        pretraining_epochs=pretraining_epochs,
    )
