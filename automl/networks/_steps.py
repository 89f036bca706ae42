"""The first layer of networks over steps in time: from a sequence, or the tokens of a text, to one vector a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from automl.values import BlockSpec

#: Width of the vector of a token.
TOKEN_SIZE = 64


class Steps(nn.Module):
    """A block as vectors, one a step, and how far each row goes.

    Args:
        block: A sequence, which arrives as (batch, channels, steps), or tokens, as codes (batch, steps), 0 for "none".
        token_size: Width of the vector of a token.

    Attributes:
        width: Of the vectors: the channels of a sequence, without the one that marks the ends.
        n_steps: Steps of a row.
    """

    def __init__(self, block: BlockSpec, token_size: int = TOKEN_SIZE) -> None:
        super().__init__()
        self.n_steps = block.shape[-1]
        self._masked = block.masked
        self.tokens = None
        if block.kind == "tokens":
            self.tokens = nn.Embedding(block.cardinalities[0], token_size, padding_idx=0)
            nn.init.normal_(self.tokens.weight, std=token_size**-0.5)
            with torch.no_grad():
                self.tokens.weight[0].zero_()
            self.width = token_size
        else:
            self.width = block.shape[0] - block.masked

    def forward(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """Returns vectors (batch, steps, width) and which steps there are (batch, steps), the first in any case."""
        if self.tokens is not None:
            vectors, there = self.tokens(given), given != 0
        elif self._masked:
            vectors, there = given[:, :-1].transpose(1, 2), given[:, -1] > 0.5
        else:
            vectors = given.transpose(1, 2)
            there = torch.ones(vectors.shape[:2], dtype=torch.bool, device=given.device)
        first = torch.arange(self.n_steps, device=given.device) == 0
        return vectors, there | first


def pooled(vectors: Tensor, there: Tensor) -> Tensor:
    """Returns mean and maximum over the steps that are there; (batch, steps, width) -> (batch, 2 x width)."""
    outside = ~there[..., None]
    mean = vectors.masked_fill(outside, 0.0).sum(1) / there.sum(1, keepdim=True)
    return torch.cat([mean, vectors.masked_fill(outside, -torch.inf).amax(1)], dim=1)
