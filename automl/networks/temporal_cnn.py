"""Temporal convolutional network over sequences and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from automl.networks._activations import ACTIVATIONS, Activation
from automl.networks._encoded import Encoded, Encoders
from automl.networks._steps import TOKEN_SIZE, Steps, pooled

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("sequence", "tokens")


class TemporalBlock(nn.Module):
    """Two convolutions of one dilation beside a shortcut; (batch, width, steps) -> the same."""

    def __init__(
        self, n_in: int, width: int, kernel: int, dilation: int, activation: Activation, dropout: float
    ) -> None:
        super().__init__()

        def convolved(n_before: int) -> list[nn.Module]:
            reach = dilation * (kernel // 2)
            return [
                nn.Conv1d(n_before, width, kernel, padding=reach, dilation=dilation, bias=False),
                nn.BatchNorm1d(width),
                ACTIVATIONS[activation](),
                nn.Dropout(dropout),
            ]

        self.layers = nn.Sequential(*convolved(n_in), *convolved(width))
        self.shortcut = nn.Identity() if n_in == width else nn.Conv1d(n_in, width, 1)

    def forward(self, steps: Tensor, there: Tensor) -> Tensor:
        # Nothing of what comes after the end is seen by the next convolution.
        half = len(self.layers) // 2
        result: Tensor = self.shortcut(steps) + self.layers[half:](self.layers[:half](steps) * there)
        return result * there


class TemporalEncoder(nn.Module):
    """Blocks of doubling dilation, and mean and maximum over the steps; from a block's shape to a vector.

    Args:
        block: A sequence or tokens.
        depth, width, kernel, activation, dropout, token_size: As of `temporal_cnn`.

    Attributes:
        width: Of the vector.
    """

    def __init__(
        self,
        block: BlockSpec,
        *,
        depth: int,
        width: int,
        kernel: int,
        activation: Activation,
        dropout: float,
        token_size: int,
    ) -> None:
        super().__init__()
        self.steps = Steps(block, token_size)
        self.blocks = nn.ModuleList(
            TemporalBlock(width if number else self.steps.width, width, kernel, 2**number, activation, dropout)
            for number in range(depth)
        )
        self.width = 2 * width

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        vectors, there = self.steps(given)
        steps = vectors.transpose(1, 2)  # (batch, width, steps)
        for block in self.blocks:
            steps = block(steps, there[:, None].to(steps.dtype))
        return pooled(steps.transpose(1, 2), there)


def temporal_cnn(
    inputs: InputSpec,
    n_outputs: int,
    *,
    depth: int = 3,
    width: int = 64,
    kernel: int = 3,
    activation: Activation = "relu",
    head_width: int = 0,
    dropout: float = 0.1,
    token_size: int = TOKEN_SIZE,
    pretraining_epochs: int = 0,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a network of dilated convolutions over the steps of sequences and texts, with a table's columns beside.

    Residual blocks whose dilation doubles (Bai et al. 2018, arXiv 1803.01271), here looking both ways, as a whole
    sequence is known when it is judged; then mean and maximum over the steps that a row has. With one block and a text
    it is the sentence network of Kim 2014 (arXiv 1408.5882) but for the residual. The network maps a dictionary of
    blocks to (batch, n_outputs); it cannot train on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one sequence (batch, channels, steps) or text (batch, tokens).
        n_outputs: Number of logits or values per row.
        depth: Residual blocks of two convolutions each.
        width: Channels of a block.
        kernel: Steps that a convolution sees, odd.
        activation: What follows a normalisation.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        dropout: Share of the values that are dropped after each convolution, and before the outputs.
        token_size: Width of the vector of a token.
        pretraining_epochs: How often encoders learn from sequences to give back hidden cells before training begins.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is neither a sequence nor a text, no block, or the convolutions have no middle.
    """
    if depth < 1 or kernel % 2 == 0:
        raise ValueError(f"needs a block and an odd `kernel`, however: `depth` is {depth}, `kernel` is {kernel}")

    def encoder(block: BlockSpec) -> nn.Module:
        return TemporalEncoder(
            block,
            depth=depth,
            width=width,
            kernel=kernel,
            activation=activation,
            dropout=dropout,
            token_size=token_size,
        )

    encoders = Encoders(inputs, dict.fromkeys(TAKES, encoder), embedding_size)
    return Encoded(
        encoders,
        n_outputs,
        head_width=head_width,
        dropout=dropout,
        activation=activation,
        pretraining_epochs=pretraining_epochs,
    )
