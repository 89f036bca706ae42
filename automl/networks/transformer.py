"""Transformer encoder over sequences and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from automl.networks._encoded import Encoded, Encoders
from automl.networks._steps import TOKEN_SIZE, Steps, pooled

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("sequence", "tokens")


class TransformerEncoder(nn.Module):
    """Attention between patches of steps, and mean and maximum over them; from a block's shape to a vector.

    Args:
        block: A sequence or tokens.
        layers, width, heads, patch, dropout, token_size: As of `transformer`; tokens are patches of one.

    Attributes:
        width: Of the vector.
    """

    def __init__(
        self,
        block: BlockSpec,
        *,
        layers: int,
        width: int,
        heads: int,
        patch: int,
        dropout: float,
        token_size: int,
    ) -> None:
        super().__init__()
        self.steps = Steps(block, token_size)
        self._patch = patch = 1 if block.kind == "tokens" else min(patch, self.steps.n_steps)
        n_patches = -(-self.steps.n_steps // patch)
        self._padding = n_patches * patch - self.steps.n_steps
        self.project = nn.Linear(self.steps.width * patch, width)
        self.positions = nn.Parameter(0.02 * torch.randn(n_patches, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.normalisation = nn.LayerNorm(width)
        self.width = 2 * width

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        vectors, there = self.steps(given)
        vectors = nn.functional.pad(vectors, (0, 0, 0, self._padding))
        there = nn.functional.pad(there, (0, self._padding))
        n_patches = len(self.positions)
        shape = (len(vectors), n_patches, self._patch)
        patches = vectors.reshape(*shape, self.steps.width).flatten(2)  # (batch, patches, patch x width of a step)
        is_there = there.reshape(shape).any(-1)
        hidden = self.project(patches) + self.positions
        for layer in self.layers:
            hidden = layer(hidden, src_key_padding_mask=~is_there)
        return pooled(self.normalisation(hidden), is_there)


def transformer(
    inputs: InputSpec,
    n_outputs: int,
    *,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    patch: int = 4,
    dropout: float = 0.1,
    head_width: int = 0,
    token_size: int = TOKEN_SIZE,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a transformer over the steps of sequences and texts, with the columns of a table beside them.

    Attention (Vaswani et al. 2017, arXiv 1706.03762) with the normalisation first, over patches of steps (Nie et al.
    2023, arXiv 2211.14730) or single tokens, with learned positions; then mean and maximum. The network maps a
    dictionary of blocks to (batch, n_outputs).

    Args:
        inputs: What the blocks hold; at least one sequence (batch, channels, steps) or text (batch, tokens).
        n_outputs: Number of logits or values per row.
        layers: Of attention.
        width: Of the vectors; a multiple of `heads`.
        heads: Of attention.
        patch: Steps of a sequence that are one vector.
        dropout: Share of the values that are dropped in each layer, and before the outputs.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        token_size: Width of the vector of a token.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is neither a sequence nor a text, or the width is no multiple of the heads.
    """
    if width % heads or patch < 1:
        raise ValueError(f"`width` is a multiple of `heads`, `patch` 1 or more, however: {width}, {heads}, {patch}")

    def encoder(block: BlockSpec) -> nn.Module:
        return TransformerEncoder(
            block, layers=layers, width=width, heads=heads, patch=patch, dropout=dropout, token_size=token_size
        )

    encoders = Encoders(inputs, dict.fromkeys(TAKES, encoder), embedding_size)
    return Encoded(encoders, n_outputs, head_width=head_width, dropout=dropout, activation="gelu")
