"""Linear network over features of sequences and images that fixed convolutions find."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.networks._encoded import Encoded, Encoders
from automl.networks._steps import TOKEN_SIZE, Steps

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("sequence", "image")

#: Steps that a kernel sees, and how many of its weights are 2 where the others are -1: 84 kernels, which all sum to 0.
LENGTH, N_TWOS = 9, 3

#: Rows in which thresholds are looked for.
MAX_ROWS = 1024

#: Side of a kernel over an image, and into how many places a side what it finds is divided.
SIDE, PLACES = 3, 4


class RandomConvolutions(nn.Module):
    """How often, over the steps of a row, each convolution exceeds each of its thresholds; nothing here is learned.

    MiniRocket (Dempster et al. 2021, arXiv 2012.08791).

    Args:
        block: A sequence.
        n_features: Of all convolutions, about.
        seed: Of the channels that a convolution sees, and of the rows in which its thresholds are found.

    Attributes:
        width: Number of features.
    """

    def __init__(self, block: BlockSpec, *, n_features: int, seed: int) -> None:
        super().__init__()
        self.steps = Steps(block, TOKEN_SIZE)
        kernels = torch.full((math.comb(LENGTH, N_TWOS), LENGTH), -1.0)
        for kernel, twos in zip(kernels, itertools.combinations(range(LENGTH), N_TWOS), strict=True):
            kernel[list(twos)] = 2.0
        longest = max(1, (self.steps.n_steps - 1) // (LENGTH - 1))
        self._dilations = sorted({round(longest ** (number / 6)) for number in range(7)})
        n_convolutions = len(kernels) * len(self._dilations)
        n_thresholds = max(1, round(n_features / n_convolutions))
        generator = torch.Generator().manual_seed(seed)
        # Few channels are added up by most kernels, all by some, as in MiniRocket for several channels.
        n_channels = self.steps.width
        shares = torch.rand(len(self._dilations), len(kernels), n_channels, generator=generator)
        counts = (n_channels ** torch.rand(len(self._dilations), len(kernels), 1, generator=generator)).round()
        seen = shares.argsort(-1).argsort(-1) < counts
        self.register_buffer("weights", seen[..., None] * kernels[:, None] / counts[..., None].sqrt())
        spread = 6.0 * torch.randn(len(self._dilations), len(kernels), n_thresholds, generator=generator)
        self.register_buffer("thresholds", spread)
        self._seed = seed
        self.width = n_convolutions * n_thresholds

    weights: Tensor  # (dilations, kernels, channels, LENGTH)
    thresholds: Tensor  # (dilations, kernels, thresholds)

    def look_at(self, given: Tensor) -> None:
        """Finds the thresholds: quantiles of what the convolutions give on some rows; (rows, channels, steps)."""
        rows = torch.randperm(len(given), generator=torch.Generator().manual_seed(self._seed))[:MAX_ROWS]
        vectors, there = self.steps(given[rows.to(given.device)])
        n_thresholds = self.thresholds.shape[-1]
        levels = torch.arange(1, n_thresholds + 1, device=given.device) * 0.618 % 1  # spread without any order
        for number, found in enumerate(self._convolved(vectors)):
            values = found.transpose(0, 1)[:, there]  # (kernels, steps of all rows)
            self.thresholds[number] = torch.quantile(values[:, :: -(-values.shape[1] // 100_000)], levels, dim=1).t()

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        vectors, there = self.steps(given)
        inside = there[:, None].to(vectors.dtype)
        shares = []
        for found, thresholds in zip(self._convolved(vectors), self.thresholds, strict=True):
            for column in thresholds.unbind(1):
                above = (found > column[:, None]).to(vectors.dtype)
                shares.append((above * inside).sum(-1) / inside.sum(-1))  # (batch, kernels)
        return torch.cat(shares, dim=1)

    def _convolved(self, vectors: Tensor) -> list[Tensor]:
        """Returns what each dilation gives; (batch, kernels, steps)."""
        series = vectors.transpose(1, 2)
        return [
            functional.conv1d(series, weights, padding=dilation * (LENGTH // 2), dilation=dilation)
            for weights, dilation in zip(self.weights, self._dilations, strict=True)
        ]


class RandomImageConvolutions(nn.Module):
    """By how much, at each place of an image, random convolutions exceed thresholds; nothing here is learned.

    The encoding of Coates, Lee and Ng 2011 ("An analysis of single-layer networks in unsupervised feature learning"),
    whose random filters do nearly as well as learned ones where there are many.

    Args:
        block: An image.
        n_features: Of all convolutions at all places, about.
        seed: Of the kernels, and of the rows in which their thresholds are found.

    Attributes:
        width: Number of features.
    """

    def __init__(self, block: BlockSpec, *, n_features: int, seed: int) -> None:
        super().__init__()
        n_channels, *sides = block.shape
        self._places = (min(sides[0], PLACES), min(sides[1], PLACES))
        n_kernels = max(1, round(n_features / math.prod(self._places)))
        generator = torch.Generator().manual_seed(seed)
        kernels = torch.randn(n_kernels, n_channels, SIDE, SIDE, generator=generator)
        kernels -= kernels.mean((1, 2, 3), keepdim=True)  # an even surface says nothing
        self.register_buffer("weights", kernels / kernels.flatten(1).norm(dim=1)[:, None, None, None])
        self.register_buffer("thresholds", 0.5 * torch.randn(n_kernels, generator=generator))
        self._seed = seed
        self.width = n_kernels * math.prod(self._places)

    weights: Tensor  # (kernels, channels, SIDE, SIDE)
    thresholds: Tensor  # (kernels,)

    def look_at(self, given: Tensor) -> None:
        """Finds the thresholds: quantiles of what the convolutions give on some rows; (rows, *shape)."""
        rows = torch.randperm(len(given), generator=torch.Generator().manual_seed(self._seed))[:MAX_ROWS]
        found = self._convolved(given[rows.to(given.device)]).transpose(0, 1).flatten(1)  # (kernels, pixels)
        found = found[:, :: -(-found.shape[1] // 100_000)]
        levels = torch.arange(1, len(found) + 1, device=given.device) * 0.618 % 1  # spread without any order
        ranks = (levels * (found.shape[1] - 1)).round().long()[:, None]
        self.thresholds.copy_(found.sort(dim=1).values.gather(1, ranks)[:, 0])

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        above = functional.relu(self._convolved(given) - self.thresholds[:, None, None])
        return functional.adaptive_avg_pool2d(above, self._places).flatten(1)

    def _convolved(self, images: Tensor) -> Tensor:
        """Returns (batch, kernels, height, width)."""
        return functional.conv2d(images, self.weights, padding=SIDE // 2)


def fixed_convolutions(block: BlockSpec, *, n_features: int, seed: int) -> RandomConvolutions | RandomImageConvolutions:
    """Returns the convolutions for a sequence or an image."""
    kind = RandomImageConvolutions if block.kind == "image" else RandomConvolutions
    return kind(block, n_features=n_features, seed=seed)


class RandomConvolutionsEncoder(nn.Module):
    """Their features with mean 0 and deviation 1."""

    def __init__(self, block: BlockSpec, *, n_features: int, seed: int) -> None:
        super().__init__()
        self.convolutions = fixed_convolutions(block, n_features=n_features, seed=seed)
        self.width = self.convolutions.width
        self.normalisation = nn.BatchNorm1d(self.width, affine=False)

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        with torch.no_grad():
            shares = self.convolutions(given)
        normalised: Tensor = self.normalisation(shares)
        return normalised


class RandomConvolutionsNetwork(Encoded):
    """A linear layer over the features of all blocks."""

    def pretrain(self, inputs: Mapping[str, Tensor], *, seed: int, deadline: float) -> None:
        """Finds the thresholds in training rows."""
        for name, encoder in self.encoders.encoders.items():
            assert isinstance(encoder, RandomConvolutionsEncoder)
            with torch.no_grad():
                encoder.convolutions.look_at(inputs[name])


def random_convolutions(
    inputs: InputSpec,
    n_outputs: int,
    *,
    n_features: int = 1000,
    head_width: int = 0,
    dropout: float = 0.2,
    embedding_size: int = 32,
    seed: int = 0,
) -> nn.Module:
    """Returns a linear model of what fixed convolutions find, with the columns of a table beside it.

    In sequences as MiniRocket does (Dempster et al. 2021, arXiv 2012.08791): 84 kernels of two weights at several
    dilations, and the share of the steps at which each gives more than quantiles of itself, found in training rows if
    training lets it see them. In images random kernels, and by how much each gives more than such a quantile, in each
    part of the image. Only the last layer is learned. The network maps a dictionary of blocks to (batch, n_outputs); it
    cannot train on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one sequence (batch, channels, steps) or image (batch, channels, height,
            width).
        n_outputs: Number of logits or values per row.
        n_features: Features of a sequence or an image, about.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        dropout: Share of the features that are dropped.
        embedding_size: The largest width of a categorical column's embedding.
        seed: Of the channels that each convolution of a sequence sees, and of the kernels of an image.

    Raises:
        ValueError: There is neither a sequence nor an image.
    """

    def encoder(block: BlockSpec) -> nn.Module:
        return RandomConvolutionsEncoder(block, n_features=n_features, seed=seed)

    encoders = Encoders(inputs, dict.fromkeys(TAKES, encoder), embedding_size)
    return RandomConvolutionsNetwork(encoders, n_outputs, head_width=head_width, dropout=dropout, activation="relu")
