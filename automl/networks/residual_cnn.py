"""Residual convolutional network over images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from automl.networks._encoded import Encoded, Encoders

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("image",)


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut, normalised before each (He et al. 2016, arXiv 1603.05027)."""

    def __init__(self, n_in: int, n_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.before = nn.BatchNorm2d(n_in)
        self.first = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.between = nn.BatchNorm2d(n_out)
        self.second = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.dropout = nn.Dropout2d(dropout)
        same = n_in == n_out and stride == 1
        self.shortcut = None if same else nn.Conv2d(n_in, n_out, 1, stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Returns (batch, n_out, height / stride, width / stride)."""
        ready = functional.relu(self.before(images))
        beside = images if self.shortcut is None else self.shortcut(ready)
        hidden = self.dropout(functional.relu(self.between(self.first(ready))))
        result: Tensor = beside + self.second(hidden)
        return result


class ResidualEncoder(nn.Module):
    """Stages of residual blocks, each of half the size and twice the channels, and the mean over all places.

    Args:
        shape: (channels, height, width) of an image.
        stages: Number of stages; the first keeps the size.
        blocks: Residual blocks of a stage.
        width: Channels of the first stage.
        dropout: Share of the channels that are dropped within a block.

    Attributes:
        width: Of the vector.
    """

    def __init__(self, shape: tuple[int, ...], *, stages: int, blocks: int, width: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(shape[0], width, 3, 1, 1, bias=False)]
        n_in, side = width, min(shape[1:])
        for stage in range(stages):
            n_out = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage and not block and side >= 4 else 1  # a side below 2 says where no more
                side = side // stride
                layers.append(ResidualBlock(n_in, n_out, stride, dropout))
                n_in = n_out
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(n_in), nn.ReLU())
        self.width = n_in

    def forward(self, images: Tensor) -> Tensor:
        """Returns (batch, width)."""
        mapped: Tensor = self.layers(images)
        return mapped.mean(dim=(2, 3))


def residual_cnn(
    inputs: InputSpec,
    n_outputs: int,
    *,
    stages: int = 3,
    blocks: int = 1,
    width: int = 32,
    channel_dropout: float = 0.0,
    head_width: int = 0,
    dropout: float = 0.2,
    pretraining_epochs: int = 0,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a residual convolutional network over images, with the columns of a table beside them.

    Wide residual networks (Zagoruyko and Komodakis 2016, arXiv 1605.07146) without their bottlenecks: a convolution,
    stages of residual blocks, the mean over all places, the outputs. Several images of a row have an encoder each. The
    network maps a dictionary of blocks to (batch, n_outputs); it cannot train on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one image (batch, channels, height, width).
        n_outputs: Number of logits or values per row.
        stages: Number of stages, each of half the size and twice the channels.
        blocks: Residual blocks of a stage, of two convolutions each.
        width: Channels of the first stage.
        channel_dropout: Share of the channels that are dropped within a block.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        dropout: Share of what the outputs see that is dropped.
        pretraining_epochs: How often encoders learn from images to give back hidden cells before training begins.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is no image, or no block.
    """
    if stages < 1 or blocks < 1:
        raise ValueError(f"needs a residual block, however: `stages` is {stages}, `blocks` is {blocks}")

    def encoder(block: BlockSpec) -> nn.Module:
        return ResidualEncoder(block.shape, stages=stages, blocks=blocks, width=width, dropout=channel_dropout)

    encoders = Encoders(inputs, {"image": encoder}, embedding_size)
    return Encoded(
        encoders,
        n_outputs,
        head_width=head_width,
        dropout=dropout,
        activation="relu",
        pretraining_epochs=pretraining_epochs,
    )
