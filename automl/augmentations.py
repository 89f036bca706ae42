"""Augmentations: `factory(inputs, generator, *, hyperparameters) -> Augmentation | None`; None leaves batches alone.

An augmentation makes other training rows of a batch: `augment(inputs, y) -> Augmented`. It never changes the tensors
that it is given, nor what is validated. All its random numbers come from the generator, a torch one on the CPU, whose
state is kept with a training that may be cut off.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from automl.components import register
from automl.errors import ConfigError
from automl.values import BlockSpec, InputSpec

#: Kinds of blocks that hold numbers, and those whose cells are columns.
FLOATS = ("numeric", "image", "sequence")
COLUMNS = ("numeric", "categorical")


class Augmented(NamedTuple):
    """A batch to learn from, by the loss `share * loss(outputs, y) + (1 - share) * loss(outputs, other)`.

    Attributes:
        inputs: Block name -> (batch, columns), or (batch, *shape) of images and sequences.
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

    Numbers, images and sequences are blended; codes and tokens are those of the row with the larger share. Without
    anything to blend it is nothing. What is told relative to a baseline stays so: the row's own level and scale.

    Args:
        inputs: What the blocks hold.
        generator: Of shares and pairs.
        alpha: Shares are drawn from Beta(alpha, alpha): small ones are nearly 0 or 1, at 1 all are as likely.

    Raises:
        ConfigError: `alpha` is not above 0.
    """
    draws = _Draws(generator, alpha)
    numeric = _names(inputs, *FLOATS)

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        share = draws.share()
        share = max(share, 1 - share)  # a pair and its mirror image are as likely, so that codes can stay
        rows = draws.rows(y)
        mixed = {name: blocks[name].lerp(blocks[name][rows], 1 - share) for name in numeric}
        return Augmented({**blocks, **mixed}, y, _others(inputs, blocks, y, rows), share)

    return augment if numeric else None


@register("augmentation")
def cutmix(inputs: InputSpec, generator: torch.Generator, *, alpha: float = 1.0) -> Augmentation | None:
    """Swaps a random part of each row with that of another row, and mixes what is to be said by that part.

    CutMix (Yun et al. 2019, arXiv 1905.04899): a box of an image, a stretch of a sequence or of tokens, and of the
    columns of a table some, as in SAINT (Somepalli et al. 2021, arXiv 2106.01342); the same for all rows of a batch.
    A baseline stays that of the row, as in `mixup`.

    Args:
        inputs: What the blocks hold.
        generator: Of columns and pairs.
        alpha: The share that stays is drawn from Beta(alpha, alpha), in whole columns.

    Raises:
        ConfigError: `alpha` is not above 0.
    """
    draws = _Draws(generator, alpha)
    widths = {name: block.shape[0] for name, block in inputs.blocks.items() if block.kind in COLUMNS}
    n_columns = sum(widths.values())
    others = {name: b for name, b in inputs.blocks.items() if name not in widths and b.kind in (*FLOATS, "tokens")}

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        asked = 1 - draws.share()
        columns = draws.columns(n_columns, round(asked * n_columns))  # bool (columns,)
        chosen = dict(zip(widths, torch.split(columns, list(widths.values())), strict=True)) if widths else {}
        parts = {name: _part(draws, block, asked) for name, block in others.items()}
        swapped = [part.sum().item() / part.numel() for part in ([columns] if widths else []) + list(parts.values())]
        rows = draws.rows(y)
        mixed = {
            name: torch.where(cells.to(y.device), blocks[name][rows], blocks[name])
            for name, cells in (chosen | parts).items()
        }
        return Augmented({**blocks, **mixed}, y, _others(inputs, blocks, y, rows), 1 - sum(swapped) / len(swapped))

    return augment


def _part(draws: _Draws, block: BlockSpec, share: float) -> Tensor:
    """Returns which places make up about this share of an image, a sequence or tokens; bool, without channels."""
    sides = block.shape[1:] if block.kind in FLOATS else block.shape  # channels go together
    inside = torch.ones(sides, dtype=torch.bool)
    for axis, size in enumerate(sides):
        length = round(size * share ** (1 / len(sides)))
        first = draws.number(size - length + 1)
        places = torch.arange(size).reshape([-1 if axis == other else 1 for other in range(len(sides))])
        inside &= (places >= first) & (places < first + length)
    return inside


@register("augmentation")
def feature_mask(
    inputs: InputSpec,
    generator: torch.Generator,
    *,
    rate: float = 0.1,
    fill: Literal["swap", "zero"] = "swap",
) -> Augmentation | None:
    """Hides random cells, so that no column is relied on alone (the corruption of SCARF, Bahri et al. 2022).

    Hidden codes and tokens become 0, "unknown"; what is to be said of a row stays. arXiv 2106.15147.

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
    numeric, codes = _names(inputs, *FLOATS), _names(inputs, "categorical", "tokens")

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        rows = draws.rows(y) if fill == "swap" else None
        masked = {name: blocks[name].masked_fill(draws.cells(blocks[name], rate), 0) for name in codes}
        for name in numeric:
            block = blocks[name]
            hidden = draws.cells(block, rate)
            other = block.masked_fill(hidden, 0.0) if rows is None else torch.where(hidden, block[rows], block)
            masked[name] = _ended(other, block, inputs.blocks[name])
        return Augmented(masked, y)

    return augment


@register("augmentation")
def noise(inputs: InputSpec, generator: torch.Generator, *, scale: float = 0.1) -> Augmentation | None:
    """Adds Gaussian noise to numbers, images and sequences, which is a penalty on steep functions (Bishop 1995).

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
    numeric = _names(inputs, *FLOATS)

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        noisy = {name: blocks[name] + scale * draws.normal(blocks[name]) for name in numeric}
        noisy = {name: _ended(block, blocks[name], inputs.blocks[name]) for name, block in noisy.items()}
        return Augmented({**blocks, **noisy}, y)

    return augment if numeric else None


@register("augmentation", "image")
def move_image(
    inputs: InputSpec,
    generator: torch.Generator,
    *,
    shift: float = 0.1,
    zoom: float = 0.0,
    flip: bool = False,
    contrast: float = 0.0,
    brightness: float = 0.0,
) -> Augmentation | None:
    """Moves, crops and mirrors images, and changes their colours (Krizhevsky et al. 2012).

    What comes into view at an edge is the edge once more. Without an image it is nothing.

    Args:
        inputs: What the blocks hold.
        generator: Of the moves.
        shift: The farthest move, as a share of a side; at least a pixel unless 0.
        zoom: The largest share of a side that is cropped away, all of it being drawn to the whole size again.
        flip: Whether left and right may be exchanged in half of them, which digits and letters do not bear.
        contrast: By how much values are stretched or shrunk at most, each channel of an image by its own factor.
        brightness: What is added or taken away at most, to each channel of an image another number; in standard
            deviations of the channel.

    Raises:
        ConfigError: `shift`, `zoom` or `contrast` is not in [0, 1), or `brightness` is below 0.
    """
    for name, value in (("shift", shift), ("zoom", zoom), ("contrast", contrast)):
        if not 0.0 <= value < 1.0:
            raise ConfigError(f"`{name}` must be at least 0 and below 1, not {value}")
    if brightness < 0:
        raise ConfigError(f"`brightness` must be at least 0, not {brightness}")
    draws = _Draws(generator)
    images = _names(inputs, "image")

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        return Augmented({**blocks, **{name: moved(blocks[name]) for name in images}}, y)

    def moved(block: Tensor) -> Tensor:
        n_rows, _, *sides = block.shape
        kept = 1 - zoom * draws.uniform(n_rows, 1) if zoom else torch.ones(1, 1)  # shares of the sides
        places = []
        for size in sides:
            most = max(1, round(shift * size)) if shift else 0
            moves = draws.numbers(n_rows, -most, most + 1)  # (rows,)
            middle = (size - 1) / 2
            nearest = (middle + kept * (torch.arange(size) - middle)).round().long()
            places.append((nearest + moves[:, None]).clamp(0, size - 1).to(block.device))
        if flip:
            mirrored = draws.numbers(n_rows, 0, 2)[:, None].to(block.device)
            places[1] = torch.where(mirrored == 1, places[1].flip(1), places[1])
        rows = torch.arange(n_rows, device=block.device)[:, None, None]
        found = block.transpose(0, 1)[:, rows, places[0][:, :, None], places[1][:, None, :]].transpose(0, 1)
        found = found * draws.factors(found, contrast) if contrast else found
        return found + (draws.factors(found, brightness) - 1) if brightness else found

    return augment if images else None


@register("augmentation", "sequence")
def warp_sequence(
    inputs: InputSpec,
    generator: torch.Generator,
    *,
    window: float = 0.1,
    time: float = 0.0,
    scale: float = 0.1,
    noise: float = 0.0,
) -> Augmentation | None:
    """Stretches a part of each sequence to its whole length, lets time pass unevenly, and scales its channels.

    Um et al. 2017, arXiv 1706.00527. Without a sequence it is nothing.

    Args:
        inputs: What the blocks hold.
        generator: Of parts and factors.
        window: The largest share of the steps that is cut off, before and after together.
        time: By how much time passes faster and slower at most, as a share; it turns smoothly, at most twice.
        scale: By how much values are stretched or shrunk at most, each channel by its own factor.
        noise: Standard deviation of what is added to each step.

    Raises:
        ConfigError: `window` or `scale` is not in [0, 1), `time` is not in [0, 0.5), or `noise` is below 0.
    """
    if not 0.0 <= time < 0.5:  # it would go backwards
        raise ConfigError(f"`time` must be at least 0 and below 0.5, not {time}")
    for name, value in (("window", window), ("scale", scale)):
        if not 0.0 <= value < 1.0:
            raise ConfigError(f"`{name}` must be at least 0 and below 1, not {value}")
    if noise < 0:
        raise ConfigError(f"`noise` must be at least 0, not {noise}")
    draws = _Draws(generator)
    sequences = {name: block for name, block in inputs.blocks.items() if block.kind == "sequence"}

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        return Augmented({**blocks, **{name: warped(blocks[name], spec) for name, spec in sequences.items()}}, y)

    def warped(block: Tensor, spec: BlockSpec) -> Tensor:
        n_rows, n_channels, n_steps = block.shape
        cut = window * draws.uniform(n_rows, 1)  # shares of the steps that go, (rows, 1)
        first = cut * draws.uniform(n_rows, 1)
        passed = torch.linspace(0, 1, n_steps)[None]
        if time:
            for waves in (1, 2):
                bend = time * (2 * draws.uniform(n_rows, 1) - 1) / (math.pi * waves)
                passed = passed + bend * torch.sin(math.pi * waves * torch.linspace(0, 1, n_steps))
        at = ((first + (1 - cut) * passed) * (n_steps - 1)).clamp(0, n_steps - 1).to(block.device)  # (rows, steps)
        left = at.floor().long().clamp(0, max(n_steps - 2, 0))
        right = (left + 1).clamp(max=n_steps - 1)
        share = (at - left)[:, None]
        before, after = (
            block.gather(2, places[:, None].expand(n_rows, n_channels, n_steps)) for places in (left, right)
        )
        found = before.lerp(after, share)
        values = found[:, : n_channels - spec.masked]
        values = values * draws.factors(values, scale) + (noise * draws.normal(values) if noise else 0.0)
        return _ended(torch.cat([values, found[:, -1:]], dim=1), found.round(), spec) if spec.masked else values

    return augment if sequences else None


@register("augmentation", "tokens")
def drop_words(inputs: InputSpec, generator: torch.Generator, *, rate: float = 0.1) -> Augmentation | None:
    """Leaves words out of texts, so that no word is relied on alone (Iyyer et al. 2015, "Deep unordered composition").

    Without tokens it is nothing.

    Args:
        inputs: What the blocks hold.
        generator: Of the words.
        rate: Share of the words that are left out.

    Raises:
        ConfigError: `rate` is not in [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ConfigError(f"`rate` must be at least 0 and below 1, not {rate}")
    draws = _Draws(generator)
    texts = _names(inputs, "tokens")

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        left = {name: blocks[name].masked_fill(draws.cells(blocks[name], rate), 0) for name in texts}
        return Augmented({**blocks, **left}, y)

    return augment if texts else None


@register("augmentation")
def by_kind(inputs: InputSpec, generator: torch.Generator, *, strength: float = 0.5) -> Augmentation | None:
    """Moves images, warps sequences and leaves out words, each block in the way of its kind; columns stay.

    Without image, sequence or text it is nothing.

    Args:
        inputs: What the blocks hold.
        generator: Of all of it.
        strength: 1 shifts images by a fifth of a side, cuts a fifth of a sequence away, scales it and bends time by as
            much, and leaves out a fifth of the words.

    Raises:
        ConfigError: `strength` is not in [0, 2].
    """
    if not 0.0 <= strength <= 2.0:
        raise ConfigError(f"`strength` must be at least 0 and at most 2, not {strength}")
    share = 0.2 * strength
    made = [
        move_image(inputs, generator, shift=share, contrast=share, brightness=share),
        warp_sequence(inputs, generator, window=share, time=share, scale=share),
        drop_words(inputs, generator, rate=share),
    ]
    steps = [step for step in made if step is not None]

    def augment(blocks: dict[str, Tensor], y: Tensor) -> Augmented:
        for step in steps:
            blocks = step(blocks, y).inputs
        return Augmented(blocks, y)

    return augment if steps else None


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

    def columns(self, n_columns: int, n_chosen: int) -> Tensor:
        """Returns which columns are chosen; bool (columns,)."""
        return torch.randperm(n_columns, generator=self._generator) < n_chosen

    def number(self, n: int) -> int:
        """Returns a whole number below `n`."""
        return int(torch.randint(n, (), generator=self._generator))

    def numbers(self, n_rows: int, low: int, high: int) -> Tensor:
        """Returns a whole number from `low` to below `high` for each row; (rows,)."""
        return torch.randint(low, high, (n_rows,), generator=self._generator)

    def uniform(self, *shape: int) -> Tensor:
        """Returns numbers in [0, 1)."""
        return torch.rand(shape, generator=self._generator)

    def factors(self, block: Tensor, most: float) -> Tensor:
        """Returns a factor in [1 - most, 1 + most] for each row and channel; (rows, channels, 1, ...)."""
        shape = (*block.shape[:2], *[1] * (block.ndim - 2))
        return (1 + most * (2 * torch.rand(shape, generator=self._generator) - 1)).to(block.device)

    def cells(self, block: Tensor, rate: float) -> Tensor:
        """Returns which cells are chosen; bool, shaped as the block."""
        return (torch.rand(block.shape, generator=self._generator) < rate).to(block.device)

    def normal(self, block: Tensor) -> Tensor:
        """Returns standard normal numbers, shaped as the block."""
        return torch.randn(block.shape, generator=self._generator).to(block.device)


def _ended(block: Tensor, before: Tensor, spec: BlockSpec) -> Tensor:
    """Returns a block in which each row ends where it did before: its marks stay, and nothing follows its end."""
    if not spec.masked:
        return block
    ends = before[:, -1:]
    return torch.cat([block[:, :-1] * (ends > 0.5), ends], dim=1)


def _others(inputs: InputSpec, blocks: dict[str, Tensor], y: Tensor, rows: Tensor) -> Tensor:
    """Returns the targets of the rows that are mixed in; where there is a baseline, as they were above that of a row.

    A network's outputs are relative to the baseline of the row that they are mixed into, and so must targets be.
    """
    other = y[rows]
    for name in _names(inputs, "baseline"):
        level, scale = blocks[name].unbind(1)
        other = level + scale * (other - level[rows]) / scale[rows]
    return other


def _names(inputs: InputSpec, *kinds: str) -> list[str]:
    return [name for name, block in inputs.blocks.items() if block.kind in kinds]
