"""Recurrent network over sequences and texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from automl.networks._encoded import Encoded, Encoders
from automl.networks._steps import TOKEN_SIZE, Steps, pooled

if TYPE_CHECKING:
    from automl.values import BlockSpec, InputSpec

TAKES = ("sequence", "tokens")

Cell = Literal["lstm", "gru", "rnn"]
Summary = Literal["last", "pooled"]

CELLS: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class RecurrentEncoder(nn.Module):
    """Layers of recurrent cells over the steps that are there; from a block's shape to a vector.

    Args:
        block: A sequence or tokens.
        cell, layers, width, bidirectional, dropout: As of `recurrent`.
        summary: `last`: what the cells know at the end; `pooled`: mean and maximum over all steps.
        token_size: Width of the vector of a token.

    Attributes:
        width: Of the vector.
    """

    def __init__(
        self,
        block: BlockSpec,
        *,
        cell: Cell,
        layers: int,
        width: int,
        bidirectional: bool,
        dropout: float,
        summary: Summary,
        token_size: int,
    ) -> None:
        super().__init__()
        self.steps = Steps(block, token_size)
        between = dropout if layers > 1 else 0.0  # torch drops between layers alone
        make: Any = CELLS[cell]
        self.cells: nn.RNNBase = make(
            self.steps.width, width, layers, batch_first=True, bidirectional=bidirectional, dropout=between
        )
        self._summary = summary
        self.width = width * (2 if bidirectional else 1) * (2 if summary == "pooled" else 1)

    def forward(self, given: Tensor) -> Tensor:
        """Returns (batch, width)."""
        vectors, there = self.steps(given)
        if not len(given):
            return torch.zeros(0, self.width, device=vectors.device)
        # A row goes up to its last step, whatever is missing before.
        lengths = (there * torch.arange(1, self.steps.n_steps + 1, device=there.device)).amax(1)
        packed = pack_padded_sequence(vectors, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, state = self.cells(packed)
        if self._summary == "pooled":
            padded, _ = pad_packed_sequence(outputs, batch_first=True, total_length=self.steps.n_steps)
            inside = torch.arange(self.steps.n_steps, device=there.device) < lengths[:, None]
            return pooled(padded, inside)
        last: Tensor = state[0] if isinstance(state, tuple) else state  # (layers x directions, batch, width)
        n_directions = 2 if self.cells.bidirectional else 1
        return last[-n_directions:].transpose(0, 1).flatten(1)


def recurrent(
    inputs: InputSpec,
    n_outputs: int,
    *,
    cell: Cell = "lstm",
    layers: int = 1,
    width: int = 64,
    bidirectional: bool = True,
    summary: Summary = "pooled",
    head_width: int = 0,
    dropout: float = 0.2,
    token_size: int = TOKEN_SIZE,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a recurrent network over sequences and texts, with the columns of a table beside them.

    LSTM (Hochreiter and Schmidhuber 1997, doi 10.1162/neco.1997.9.8.1735), GRU (Cho et al. 2014, arXiv 1406.1078) or
    plain cells (Elman 1990) go over the steps that a row has, and no further. The network maps a dictionary of blocks
    to (batch, n_outputs).

    Args:
        inputs: What the blocks hold; at least one sequence (batch, channels, steps) or text (batch, tokens).
        n_outputs: Number of logits or values per row.
        cell: What remembers.
        layers: Layers of cells.
        width: Units of a layer, in each direction.
        bidirectional: Whether the steps are read backwards, too.
        summary: What is made of the steps: the last state, or mean and maximum.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        dropout: Share of what the outputs, and further layers of cells, see that is dropped.
        token_size: Width of the vector of a token.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is neither a sequence nor a text.
    """

    def encoder(block: BlockSpec) -> nn.Module:
        return RecurrentEncoder(
            block,
            cell=cell,
            layers=layers,
            width=width,
            bidirectional=bidirectional,
            dropout=dropout,
            summary=summary,
            token_size=token_size,
        )

    encoders = Encoders(inputs, dict.fromkeys(TAKES, encoder), embedding_size)
    return Encoded(encoders, n_outputs, head_width=head_width, dropout=dropout, activation="relu")
