"""How the vectors of several blocks are brought together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from automl.networks.bag_of_words import WordBag
from automl.networks.cnn import ConvolutionalEncoder
from automl.networks.inception_time import InceptionEncoder
from automl.networks.mixture import Mixture, mixture
from automl.networks.recurrent import RecurrentEncoder
from automl.networks.residual_cnn import ResidualEncoder
from automl.networks.temporal_cnn import TemporalEncoder
from automl.networks.transformer import TransformerEncoder
from automl.values import BlockSpec, InputSpec

INPUTS = InputSpec(
    {
        "image": BlockSpec("image", (1, 6, 6)),
        "sequence": BlockSpec("sequence", (2, 8)),
        "tokens": BlockSpec("tokens", (5,), (20,)),
        "numeric": BlockSpec("numeric", (3,)),
    }
)


def network(**params: Any) -> Mixture:
    torch.manual_seed(0)
    made = mixture(INPUTS, 2, **{"width": 8, "encoder_width": 8} | params)
    assert isinstance(made, Mixture)
    return made.eval()


def rows() -> dict[str, Tensor]:
    torch.manual_seed(1)
    found = {name: torch.randn(4, *block.shape) for name, block in INPUTS.blocks.items()}
    return found | {"tokens": torch.randint(1, 20, (4, 5))}


def vectors(made: Mixture) -> Tensor:
    """Returns the vector of each block, as the fusion is given them; (rows, blocks, width)."""
    projected = [project(one) for project, one in zip(made.projections, made.encoders(rows()), strict=True)]
    return torch.stack(projected, dim=1)


def test_side_by_side() -> None:
    made = network(fusion="concatenation")
    torch.testing.assert_close(made(rows()), made.output(vectors(made).flatten(1)))


def test_weighted_by_gates_that_see_all_blocks() -> None:
    made = network(fusion="gated")
    given = vectors(made)
    assert made.gate is not None
    shares = torch.softmax(given.flatten(1) @ made.gate.weight.T + made.gate.bias, dim=1)
    torch.testing.assert_close(made(rows()), made.output(torch.einsum("rb,rbw->rw", shares, given)))
    assert shares.std(dim=0).min() > 0  # every row has its own


def test_told_about_each_other_by_attention() -> None:
    made = network(fusion="attention")
    assert made.attention is not None
    given = vectors(made) + made.kinds
    torch.testing.assert_close(made(rows()), made.output(made.attention(given).mean(1)))
    heard = given.clone()
    heard[:, 0] += torch.randn(8)
    others = (made.attention(heard) - made.attention(given))[:, 1:]
    assert others.abs().amax((0, 2)).min() > 1e-5  # each block hears of the first


@pytest.mark.parametrize(
    ("param", "block", "encoders"),
    [
        ("image_encoder", "image", {"cnn": ConvolutionalEncoder, "residual_cnn": ResidualEncoder}),
        (
            "sequence_encoder",
            "sequence",
            {
                "temporal_cnn": TemporalEncoder,
                "inception_time": InceptionEncoder,
                "recurrent": RecurrentEncoder,
                "transformer": TransformerEncoder,
            },
        ),
        (
            "text_encoder",
            "tokens",
            {
                "bag_of_words": WordBag,
                "temporal_cnn": TemporalEncoder,
                "recurrent": RecurrentEncoder,
                "transformer": TransformerEncoder,
            },
        ),
    ],
)
def test_each_kind_has_the_encoder_that_is_asked_for(param: str, block: str, encoders: dict[str, type]) -> None:
    for name, kind in encoders.items():
        assert type(network(**{param: name}).encoders.encoders[block]) is kind
