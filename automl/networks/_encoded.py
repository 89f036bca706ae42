"""Networks that turn some blocks into vectors of their own, and see the columns of a table beside them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.networks._activations import ACTIVATIONS, Activation
from automl.networks._inputs import Inputs

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

#: Makes what turns a block into vectors: a module with an attribute `width`, from the block's shape to (batch, width).
MakeEncoder = Callable[["BlockSpec"], nn.Module]

#: Of the training before the training: rows of a step, learning rate, share of the cells that encoders do not see.
BATCH_SIZE, LEARNING_RATE, NOISE = 128, 1e-3, 0.3

#: Cells of a block that are to be given back; a fixed random choice of larger ones, or their decoder would be larger
#: than the network.
MAX_DECODED = 1024


class Encoders(nn.Module):
    """One vector a block, and one of all columns.

    Args:
        inputs: The blocks.
        makers: What turns blocks into vectors, by their kind.
        embedding_size: The largest width of a categorical column's embedding.

    Attributes:
        widths: Of the vectors.
        masked: Blocks whose last channel says how far a row goes.

    Raises:
        ValueError: There is no block of these kinds, or one of an unknown kind.
    """

    def __init__(self, inputs: InputSpec, makers: Mapping[str, MakeEncoder], embedding_size: int) -> None:
        super().__init__()
        blocks = {name: block for name, block in sorted(inputs.blocks.items()) if block.kind in makers}
        if not blocks:
            raise ValueError(f"needs a block that is {' or '.join(makers)}, however: there is none")
        self.encoders = nn.ModuleDict({name: makers[block.kind](block) for name, block in blocks.items()})
        self.masked = [name for name, block in blocks.items() if block.masked]
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
        pretraining_epochs: How often encoders of images and sequences go through the rows as denoising autoencoders
            before they are told what to predict; 0: training is not asked to let them.
    """

    def __init__(
        self,
        encoders: Encoders,
        n_outputs: int,
        *,
        head_width: int,
        dropout: float,
        activation: Activation,
        pretraining_epochs: int = 0,
    ) -> None:
        super().__init__()
        self.encoders = encoders
        self._pretraining_epochs = pretraining_epochs
        if pretraining_epochs:  # training asks whether there is one
            self.pretrain = self._pretrain
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

    def _pretrain(self, inputs: Mapping[str, Tensor], *, seed: int, deadline: float) -> None:
        """Trains each encoder to give back cells that it does not see; what is needed for that alone is forgotten.

        Vincent et al. 2008 (doi 10.1145/1390156.1390294), with an encoder of convolutions.

        Args:
            inputs: Training rows, block name -> (rows, *shape).
            seed: Of the noise, the order of rows and the decoder. What dropout draws comes from torch's own generator.
            deadline: `time.monotonic()` after which no more step is made.
        """
        generator = torch.Generator().manual_seed(seed)
        device = next(self.parameters()).device
        self.train()
        for name, encoder in self.encoders.encoders.items():
            rows = inputs[name].to(device)
            if rows.is_floating_point() and len(rows) > 1:
                kept = -1 if name in self.encoders.masked else None
                _undo_noise(encoder, rows, kept, self._pretraining_epochs, generator, deadline)
        for parameter in self.parameters():
            parameter.grad = None


def _undo_noise(
    encoder: Any, rows: Tensor, kept: int | None, n_epochs: int, generator: torch.Generator, deadline: float
) -> None:
    """Trains an encoder with a linear decoder, which is forgotten; rows are (rows, *shape), one channel may be kept."""
    cells = torch.randperm(math.prod(rows.shape[1:]), generator=generator)[:MAX_DECODED].to(rows.device)
    decoder = nn.Linear(encoder.width, len(cells))
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.uniform_(-(encoder.width**-0.5), encoder.width**-0.5, generator=generator)
    decoder.to(rows.device)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *decoder.parameters()], lr=LEARNING_RATE)
    epochs = (torch.split(torch.randperm(len(rows), generator=generator), BATCH_SIZE) for _ in range(n_epochs))
    for chosen in (part for epoch in epochs for part in epoch if len(part) > 1):  # batch normalisation
        if time.monotonic() >= deadline:
            break
        given = rows[chosen.to(rows.device)]
        seen = (torch.rand(given.shape, generator=generator) >= NOISE).to(rows.device)
        if kept is not None:
            seen[:, kept] = True
        loss = functional.mse_loss(decoder(encoder(given * seen)), given.flatten(1)[:, cells])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
