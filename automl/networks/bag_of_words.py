"""Linear network over the words of texts and their neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from automl.networks._encoded import Encoded, Encoders

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("tokens",)

#: Odd numbers that spread neighbouring codes over the codes of their pair; any would do.
SPREAD = (2_654_435_761, 40_503)


class WordBag(nn.Module):
    """The mean vector of a text's tokens, and of its pairs of neighbours; (batch, tokens) -> vector.

    Args:
        block: Tokens.
        width: Of the vector.
        n_pairs: Codes that pairs fall into; 0: there are none.
        dropout: Share of the tokens that are left out, in training.

    Attributes:
        width: Of the vector.
    """

    def __init__(self, block: BlockSpec, *, width: int, n_pairs: int, dropout: float) -> None:
        super().__init__()
        self.n_words = block.cardinalities[0]
        self.n_pairs = n_pairs
        # One table, whose row 0 stands for "no token": pairs come after the words.
        self.vectors = nn.Embedding(self.n_words + n_pairs, width, padding_idx=0)
        nn.init.normal_(self.vectors.weight, std=width**-0.5)
        with torch.no_grad():
            self.vectors.weight[0].zero_()
        self._dropout = dropout
        self.width = width

    def forward(self, codes: Tensor) -> Tensor:
        """Returns (batch, width)."""
        bag = codes
        if self.n_pairs and codes.shape[1] > 1:
            first, second = codes[:, :-1], codes[:, 1:]
            pairs = (first * SPREAD[0] + second * SPREAD[1]) % self.n_pairs + self.n_words
            bag = torch.cat([codes, pairs.masked_fill(second == 0, 0)], dim=1)
        if self.training and self._dropout:
            bag = bag.masked_fill(torch.rand(bag.shape, device=bag.device) < self._dropout, 0)
        # The square root is between the mean, for which long texts are as short ones, and the sum.
        counts = (bag != 0).sum(1, keepdim=True).clamp(min=1)
        bagged: Tensor = self.vectors(bag).sum(1) / counts.sqrt()
        return bagged


def bag_of_words(
    inputs: InputSpec,
    n_outputs: int,
    *,
    width: int = 16,
    n_pairs: int = 2**17,
    word_dropout: float = 0.3,
    head_width: int = 0,
    dropout: float = 0.0,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a linear model of vectors of words and of pairs of neighbours, with the columns of a table beside them.

    fastText (Joulin et al. 2017, arXiv 1607.01759). The network maps a dictionary of blocks to (batch, n_outputs).

    Args:
        inputs: What the blocks hold; at least one text (batch, tokens).
        n_outputs: Number of logits or values per row.
        width: Of the vectors.
        n_pairs: Codes that pairs of neighbouring words are hashed to; 0: words alone.
        word_dropout: Share of the words and pairs that are left out, in training.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        dropout: Share of what the outputs see that is dropped.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is no text.
    """

    def encoder(block: BlockSpec) -> nn.Module:
        return WordBag(block, width=width, n_pairs=n_pairs, dropout=word_dropout)

    encoders = Encoders(inputs, {"tokens": encoder}, embedding_size)
    return Encoded(encoders, n_outputs, head_width=head_width, dropout=dropout, activation="relu")
