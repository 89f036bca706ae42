"""Networks that turn some blocks into vectors of their own, and see the columns of a table beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl.networks._activations import ACTIVATIONS, Activation
from automl.networks._inputs import Inputs

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

#: Makes what turns a block into vectors: a module with an attribute `width`, from the block's shape to (batch, width).
MakeEncoder = Callable[["BlockSpec"], nn.Module]


class Encoders(nn.Module):
    """One vector a block, and one of all columns.

    Args:
        inputs: The blocks.
        makers: What turns blocks into vectors, by their kind.
        embedding_size: The largest width of a categorical column's embedding.

    Attributes:
        widths: Of the vectors.

    Raises:
        ValueError: There is no block of these kinds, or one of an unknown kind.
    """

    def __init__(self, inputs: InputSpec, makers: Mapping[str, MakeEncoder], embedding_size: int) -> None:
        super().__init__()
        blocks = {name: block for name, block in sorted(inputs.blocks.items()) if block.kind in makers}
        if not blocks:
            raise ValueError(f"needs a block that is {' or '.join(makers)}, however: there is none")
        self.encoders = nn.ModuleDict({name: makers[block.kind](block) for name, block in blocks.items()})
        columns = {name: block for name, block in inputs.blocks.items() if name not in blocks}
        self.columns = Inputs(type(inputs)(columns), embedding_size) if columns else None
        encoders: list[Any] = list(self.encoders.values())
        self.widths = [int(encoder.width) for encoder in encoders]
        self.widths += [self.columns.width] if self.columns is not None else []

    def forward(self, inputs: dict[str, Tensor]) -> list[Tensor]:
        """Returns the vectors; each (batch, width)."""
        vectors: list[Tensor] = [encoder(inputs[name]) for name, encoder in self.encoders.items()]
        return vectors if self.columns is None else [*vectors, self.columns(inputs)]


class Encoded(nn.Module):
    """The vectors of all blocks beside one another, a hidden layer if it has a width, and the outputs.

    Args:
        encoders: Of the blocks.
        n_outputs: Number of logits or values per row.
        head_width: Units of the hidden layer; 0: there is none.
        dropout: Share of what the layers see that is dropped.
        activation: Of the hidden layer.
    """

    def __init__(
        self, encoders: Encoders, n_outputs: int, *, head_width: int, dropout: float, activation: Activation
    ) -> None:
        super().__init__()
        self.encoders = encoders
        layers: list[nn.Module] = [nn.Dropout(dropout)]
        width = sum(encoders.widths)
        if head_width:
            layers += [nn.Linear(width, head_width), ACTIVATIONS[activation](), nn.Dropout(dropout)]
            width = head_width
        self.head = nn.Sequential(*layers, nn.Linear(width, n_outputs))

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns (batch, n_outputs)."""
        outputs: Tensor = self.head(torch.cat(self.encoders(inputs), dim=1))
        return outputs
