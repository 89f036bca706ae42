"""Convolutional network over images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from automl.networks._activations import ACTIVATIONS, Activation
from automl.networks._encoded import Encoded, Encoders

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("image",)

Pooling = Literal["max", "average"]

#: What is left of an image after all stages is averaged down to so many places a side, each with weights of its own.
PLACES = 4


class ConvolutionalEncoder(nn.Module):
    """Stages of convolution, batch normalisation and activation, with pooling between them; (batch, *shape) -> vector.

    Args:
        shape: (channels, height, width) of an image.
        depth: Number of stages.
        width: Channels of the first stage; each further stage has twice as many.
        kernel: Side of the convolutions, odd.
        pooling: What halves the image after a stage, as long as both sides are 2 or more.
        activation: What follows the normalisation.
        dropout: Share of the channels that are dropped after each stage.

    Attributes:
        width: Of the vector.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        depth: int,
        width: int,
        kernel: int,
        pooling: Pooling,
        activation: Activation,
        dropout: float,
    ) -> None:
        super().__init__()
        n_channels, *sides = shape
        stages = []
        for stage in range(depth):
            n_filters = width * 2**stage
            layers = [
                nn.Conv2d(n_channels, n_filters, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(n_filters),
                ACTIVATIONS[activation](),
            ]
            if stage < depth - 1 and min(sides) >= 2:
                layers.append(nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2))
                sides = [side // 2 for side in sides]
            stages.append(nn.Sequential(*layers, nn.Dropout2d(dropout)))
            n_channels = n_filters
        places = [min(side, PLACES) for side in sides]
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d((places[0], places[1]))
        self.width = n_channels * places[0] * places[1]

    def forward(self, images: Tensor) -> Tensor:
        """Returns (batch, width)."""
        pooled: Tensor = self.pool(self.stages(images))
        return pooled.flatten(1)


def cnn(
    inputs: InputSpec,
    n_outputs: int,
    *,
    depth: int = 3,
    width: int = 32,
    kernel: int = 3,
    pooling: Pooling = "max",
    activation: Activation = "relu",
    channel_dropout: float = 0.0,
    head_width: int = 128,
    dropout: float = 0.3,
    pretraining_epochs: int = 0,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a convolutional network over images, with the columns of a table beside them.

    Stages of convolution, batch normalisation, activation and pooling (LeCun et al. 1998, doi 10.1109/5.726791; the
    doubling of channels as in Simonyan and Zisserman 2015, arXiv 1409.1556), a hidden layer, the outputs. Several
    images of a row have an encoder each. The network maps a dictionary of blocks to (batch, n_outputs); it cannot train
    on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one image (batch, channels, height, width).
        n_outputs: Number of logits or values per row.
        depth: Number of stages.
        width: Channels of the first stage; each further stage has twice as many.
        kernel: Side of the convolutions, odd.
        pooling: What halves the image between stages.
        activation: What follows a normalisation, and the hidden layer.
        channel_dropout: Share of the channels that are dropped after each stage.
        head_width: Units of the hidden layer; 0: there is none.
        dropout: Share of what the hidden layer and the outputs see that is dropped.
        pretraining_epochs: How often encoders learn from images to give back hidden cells before training begins.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is no image, or the convolutions have no middle.
    """
    if depth < 1 or kernel % 2 == 0:
        raise ValueError(f"needs a stage and an odd `kernel`, however: `depth` is {depth}, `kernel` is {kernel}")

    def encoder(block: BlockSpec) -> nn.Module:
        return ConvolutionalEncoder(
            block.shape,
            depth=depth,
            width=width,
            kernel=kernel,
            pooling=pooling,
            activation=activation,
            dropout=channel_dropout,
        )

    encoders = Encoders(inputs, {"image": encoder}, embedding_size)
    return Encoded(
        encoders,
        n_outputs,
        head_width=head_width,
        dropout=dropout,
        activation=activation,
        pretraining_epochs=pretraining_epochs,
    )
