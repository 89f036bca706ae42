"""The first layer of every tabular network: from blocks of columns to one tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from automl.values import InputSpec


class Inputs(nn.Module):
    """Concatenates numeric columns and the embeddings of categorical columns.

    Entity embeddings of categorical columns are those of Guo and Berkhahn 2016, arXiv 1604.06737.

    Args:
        inputs: The blocks; numeric ones arrive as float (batch, columns), categorical ones as int64 codes
            (batch, columns), code 0 being "unknown".
        embedding_size: The largest width of a column's embedding.

    Attributes:
        width: Number of columns of the result.

    Raises:
        ValueError: There is no column, or a block of a kind that is not numeric or categorical.
    """

    def __init__(self, inputs: InputSpec, embedding_size: int) -> None:
        super().__init__()
        # Sorted, so that the weights fit whatever order a stored specification comes back in.
        blocks = sorted(inputs.blocks.items())
        for name, block in blocks:
            if block.kind not in ("numeric", "categorical"):
                raise ValueError(f"takes numeric and categorical blocks, however: block `{name}` is {block.kind}")
        self.numeric = [name for name, block in blocks if block.kind == "numeric"]
        self.embeddings = nn.ModuleDict(
            {
                name: nn.ModuleList(_embedding(cardinality, embedding_size) for cardinality in block.cardinalities)
                for name, block in blocks
                if block.kind == "categorical"
            }
        )
        n_numeric = sum(inputs.blocks[name].shape[0] for name in self.numeric)
        n_embedded = sum(layer.embedding_dim for layer in self.modules() if isinstance(layer, nn.Embedding))
        self.width = n_numeric + n_embedded
        if not self.width:
            raise ValueError("needs at least one input column, however: there is none")

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns one float tensor; (batch, width)."""
        parts = [inputs[name] for name in self.numeric]
        for name, columns in self.embeddings.items():
            assert isinstance(columns, nn.ModuleList)
            codes = inputs[name].unbind(1)  # one (batch,) a column
            parts += [embed(column) for embed, column in zip(columns, codes, strict=True)]  # each (batch, size)
        return torch.cat(parts, dim=1)


def _embedding(cardinality: int, largest: int) -> nn.Embedding:
    # The width is fastai's rule of thumb (Howard and Gugger 2020, doi 10.3390/info11020108).
    layer = nn.Embedding(cardinality, min(largest, max(1, round(1.6 * cardinality**0.56))))
    bound = layer.embedding_dim**-0.5  # as Gorishniy et al. 2021: the norm of a row does not grow with its width
    nn.init.uniform_(layer.weight, -bound, bound)
    with torch.no_grad():
        # Training rows may hold no unknown code: a random row would be noise at prediction, where zero is neutral.
        layer.weight[0].zero_()
    return layer
