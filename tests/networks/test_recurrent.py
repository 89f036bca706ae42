"""What recurrent networks make of the steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from automl.networks.recurrent import RecurrentEncoder
from automl.values import BlockSpec


def encoder(cell: str, summary: str, *, bidirectional: bool = True, layers: int = 1) -> RecurrentEncoder:
    torch.manual_seed(0)
    return RecurrentEncoder(
        BlockSpec("sequence", (2, 6)),
        cell=cell,  # type: ignore[arg-type]
        layers=layers,
        width=4,
        bidirectional=bidirectional,
        dropout=0.0,
        summary=summary,  # type: ignore[arg-type]
        token_size=4,
    ).eval()


@pytest.mark.parametrize(("cell", "kind"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("rnn", nn.RNN)])
def test_a_cell_is_the_one_asked_for(cell: str, kind: type) -> None:
    assert type(encoder(cell, "last").cells) is kind


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_summary_is_the_last_state_or_mean_and_maximum(cell: str, bidirectional: bool) -> None:
    rows = torch.randn(3, 2, 6)
    last, both = (encoder(cell, summary, bidirectional=bidirectional, layers=2) for summary in ("last", "pooled"))
    outputs, _ = last.cells(rows.transpose(1, 2))  # (rows, steps, directions x width)
    wanted = outputs[:, -1, :4]
    if bidirectional:  # the state that has read backwards ends at the first step
        wanted = torch.cat([wanted, outputs[:, 0, 4:]], dim=1)
    torch.testing.assert_close(last(rows), wanted)
    torch.testing.assert_close(both(rows), torch.cat([outputs.mean(1), outputs.amax(1)], dim=1))
