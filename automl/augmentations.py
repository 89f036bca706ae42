"""Augmentations: `factory(inputs, generator, *, hyperparameters) -> Augmentation | None`; None leaves batches alone.

An augmentation makes other training rows of a batch: `augment(inputs, y) -> Augmented`. It never changes the tensors
that it is given, nor what is validated. All its random numbers come from the generator, a torch one on the CPU, whose
state is kept with a training that may be cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automl.components import register
from automl.errors import ConfigError
from automl.values import InputSpec


class Augmented(NamedTuple):
    """A batch to learn from, by the loss `share * loss(outputs, y) + (1 - share) * loss(outputs, other)`.

    Attributes:
        inputs: Block name -> (batch, columns).
        y: What `encode` made of the targets; (batch,).
        other: The targets of the rows that were mixed in; None where none were.
        share: Of the first targets.
    """

    inputs: dict[str, Tensor]
    y: Tensor
    other: Tensor | None = None
    share: float = 1.0


Augmentation = Callable[[dict[str, Tensor], Tensor], Augmented]


@register("augmentation")
def none(inputs: InputSpec, generator: torch.Generator) -> Augmentation | None:
    """Leaves batches as they are."""
    return None


@register("augmentation")
def mixup(inputs: InputSpec, generator: torch.Generator, *, alpha: float = 0.2) -> Augmentation | None:
    """Blends rows, and what is to be said of them, pair by pair (Zhang et al. 2018, arXiv 1710.09412).

    Numbers are blended; codes are those of the row with the larger share. Without numbers there is nothing to blend.

    Args:
        inputs: What the blocks hold.
        generator: Of shares and pairs.
        alpha: Shares are drawn from Beta(alpha, alpha): small ones are nearly 0 or 1, at 1 all are as likely.

    Raises:
        ConfigError: `alpha` is not above 0.
    """
    draws = _Draws(generator, alpha)
    numeric = _names(inputs, "numeric")

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        share = draws.share()
        share = max(share, 1 - share)  # a pair and its mirror image are as likely, so that codes can stay
        rows = draws.rows(y)
        mixed = {name: blocks[name].lerp(blocks[name][rows], 1 - share) for name in numeric}
        return Augmented({**blocks, **mixed}, y, y[rows], share)

    return augment if numeric else None


@register("augmentation")
def cutmix(inputs: InputSpec, generator: torch.Generator, *, alpha: float = 1.0) -> Augmentation | None:
    """Swaps a random part of the columns with those of another row, and mixes what is to be said by that part.

    CutMix of images (Yun et al. 2019, arXiv 1905.04899) on the columns of a table, as in SAINT (Somepalli et al. 2021,
    arXiv 2106.01342); the columns are the same for all rows of a batch.

    Args:
        inputs: What the blocks hold.
        generator: Of columns and pairs.
        alpha: The share that stays is drawn from Beta(alpha, alpha), in whole columns.

    Raises:
        ConfigError: `alpha` is not above 0.
    """
    draws = _Draws(generator, alpha)
    widths = {name: block.shape[0] for name, block in inputs.blocks.items()}
    n_columns = sum(widths.values())

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        n_swapped = round((1 - draws.share()) * n_columns)
        chosen = draws.columns(n_columns, n_swapped, y.device)
        swapped = torch.split(chosen, list(widths.values()))  # (columns,) a block
        rows = draws.rows(y)
        mixed = {
            name: torch.where(columns, blocks[name][rows], blocks[name])
            for name, columns in zip(widths, swapped, strict=True)
        }
        return Augmented(mixed, y, y[rows], 1 - n_swapped / n_columns)

    return augment


@register("augmentation")
def feature_mask(
    inputs: InputSpec,
    generator: torch.Generator,
    *,
    rate: float = 0.1,
    fill: Literal["swap", "zero"] = "swap",
) -> Augmentation | None:
    """Hides random cells, so that no column is relied on alone (the corruption of SCARF, Bahri et al. 2022).

    Hidden codes become 0, "unknown"; what is to be said of a row stays. arXiv 2106.15147.

    Args:
        inputs: What the blocks hold.
        generator: Of cells and rows.
        rate: Share of the cells that are hidden.
        fill: What takes the place of a hidden number: that of another row, or zero.

    Raises:
        ConfigError: `rate` is not in [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"`rate` must be at least 0 and below 1, not {rate}")
    draws = _Draws(generator)
    numeric, codes = _names(inputs, "numeric"), _names(inputs, "categorical")

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        rows = draws.rows(y) if fill == "swap" else None
        masked = {name: blocks[name].masked_fill(draws.cells(blocks[name], rate), 0) for name in codes}
        for name in numeric:
            block = blocks[name]
            hidden = draws.cells(block, rate)
            masked[name] = block.masked_fill(hidden, 0.0) if rows is None else torch.where(hidden, block[rows], block)
        return Augmented(masked, y)

    return augment


@register("augmentation")
def noise(inputs: InputSpec, generator: torch.Generator, *, scale: float = 0.1) -> Augmentation | None:
    """Adds Gaussian noise to numbers, which is a penalty on steep functions (Bishop 1995).

    Args:
        inputs: What the blocks hold.
        generator: Of the noise.
        scale: Its standard deviation, in the units that the network sees.

    Raises:
        ConfigError: `scale` is below 0.
    """
    if scale < 0:
        raise ConfigError(f"`scale` must be at least 0, not {scale}")
    draws = _Draws(generator)
    numeric = _names(inputs, "numeric")

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        noisy = {name: blocks[name] + scale * draws.normal(blocks[name]) for name in numeric}
        return Augmented({**blocks, **noisy}, y)

    return augment if numeric else None


class _Draws:
    """The random numbers of an augmentation, drawn on the CPU: a seed means the same on every device."""

    def __init__(self, generator: torch.Generator, alpha: float = 1.0) -> None:
        if alpha <= 0:
            raise ConfigError(f"`alpha` must be above 0, not {alpha}")
        self._alpha = alpha
        self._generator = generator

    def share(self) -> float:
        """Returns a draw from Beta(alpha, alpha), of which torch knows none with a generator."""
        seed = int(torch.randint(2**62, (), generator=self._generator))
        return float(np.random.default_rng(seed).beta(self._alpha, self._alpha))

    def rows(self, y: Tensor) -> Tensor:
        """Returns another row for each of a batch; (batch,)."""
        return torch.randperm(len(y), generator=self._generator).to(y.device)

    def columns(self, n_columns: int, n_chosen: int, device: torch.device) -> Tensor:
        """Returns which columns are chosen; bool (columns,)."""
        return (torch.randperm(n_columns, generator=self._generator) < n_chosen).to(device)

    def cells(self, block: Tensor, rate: float) -> Tensor:
        """Returns which cells are chosen; bool, shaped as the block."""
        return (torch.rand(block.shape, generator=self._generator) < rate).to(block.device)

    def normal(self, block: Tensor) -> Tensor:
        """Returns standard normal numbers, shaped as the block."""
        return torch.randn(block.shape, generator=self._generator).to(block.device)


def _names(inputs: InputSpec, kind: str) -> list[str]:
    return [name for name, block in inputs.blocks.items() if block.kind == kind]
