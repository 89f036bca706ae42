"""What convolutional networks are made of, and what they see."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch.nn import functional

from automl import plugins
from automl.components import CATALOGUES
from automl.networks.cnn import ConvolutionalEncoder, cnn
from automl.networks.inception_time import InceptionBlock, InceptionEncoder
from automl.networks.random_convolutions import RandomConvolutions, RandomImageConvolutions
from automl.networks.residual_cnn import ResidualEncoder
from automl.networks.temporal_cnn import TemporalEncoder
from automl.search_space import Option, bundled, load
from automl.values import BlockSpec, InputSpec

torch.set_num_threads(1)


def of_type(module: nn.Module, kind: type) -> list[nn.Module]:
    return [found for found in module.modules() if isinstance(found, kind)]


def test_the_space_32_64_128_has_these_channels() -> None:
    plugins.load_builtin()
    space = load(bundled() / "cnn_32_64_128.yaml").model_copy(update={"loss": [Option(name="cross_entropy")]})
    configuration = space.configuration(space.defaults(CATALOGUES))
    assert configuration.network.name == "cnn"
    made = cnn(InputSpec({"image": BlockSpec("image", (1, 16, 16))}), 10, **configuration.network.params)
    assert [layer.out_channels for layer in of_type(made, nn.Conv2d)] == [32, 64, 128]


@pytest.mark.parametrize(("pooling", "kind"), [("max", nn.MaxPool2d), ("average", nn.AvgPool2d)])
def test_an_image_is_halved_between_stages(pooling: str, kind: type) -> None:
    made = ConvolutionalEncoder(
        (3, 16, 12), depth=3, width=4, kernel=3, pooling=pooling, activation="relu", dropout=0.0
    )
    assert len(of_type(made, kind)) == 2
    assert made.stages(torch.randn(2, 3, 16, 12)).shape == (2, 16, 4, 3)
    assert made(torch.randn(2, 3, 16, 12)).shape == (2, made.width) == (2, 16 * 4 * 3)


def test_each_stage_of_a_residual_network_is_half_as_large_with_twice_the_channels() -> None:
    made = ResidualEncoder((1, 16, 16), stages=3, blocks=2, width=4, dropout=0.0)
    assert made.layers(torch.randn(2, 1, 16, 16)).shape == (2, 16, 4, 4)
    assert len(of_type(made, nn.Conv2d)) == 1 + 3 * 2 * 2 + 2  # one before, two a block, a shortcut where sizes change


def test_dilations_double_so_that_far_steps_are_seen() -> None:
    made = TemporalEncoder(
        BlockSpec("sequence", (1, 63)), depth=3, width=4, kernel=3, activation="silu", dropout=0.0, token_size=4
    ).eval()
    steps = torch.zeros(1, 1, 63, requires_grad=True)
    inside = torch.ones(1, 1, 63)
    out = steps
    for block in made.blocks:
        out = block(out, inside)
    out[0, :, 31].sum().backward()
    assert steps.grad is not None
    seen = steps.grad[0, 0].nonzero().flatten()
    reach = 2 * (1 + 2 + 4)  # two convolutions of three steps at each dilation
    assert (seen.min(), seen.max()) == (31 - reach, 31 + reach)


def test_an_inception_block_looks_at_several_lengths_at_once() -> None:
    block = InceptionBlock(2, 4, longest=40)
    assert [path.kernel_size for path in block.paths] == [(41,), (21,), (11,)]
    assert block(torch.randn(3, 2, 50)).shape == (3, 16, 50)
    shortcuts = InceptionEncoder(BlockSpec("sequence", (2, 50)), depth=6, width=4, longest=40, dropout=0.0).shortcuts
    assert sorted(shortcuts) == ["2", "5"]


def test_minirocket_is_the_share_of_steps_above_a_threshold() -> None:
    """84 kernels of nine weights, three of them 2 and six -1; arXiv 2012.08791, section 3."""
    made = RandomConvolutions(BlockSpec("sequence", (1, 40)), n_features=84 * 7 * 2, seed=0)
    rows = torch.randn(30, 1, 40)
    made.look_at(rows)
    found = made(rows)
    kernels = [[2.0 if place in twos else -1.0 for place in range(9)] for twos in itertools.combinations(range(9), 3)]
    wanted = []
    for dilation, thresholds in zip(made._dilations, made.thresholds, strict=True):
        given = functional.conv1d(rows, torch.tensor(kernels)[:, None], padding=4 * dilation, dilation=dilation)
        wanted += [(given > column[:, None]).float().mean(-1) for column in thresholds.unbind(1)]
    torch.testing.assert_close(found, torch.cat(wanted, dim=1))
    assert found.shape == (30, made.width)
    assert 0.2 < found.mean() < 0.8  # thresholds are quantiles of what was seen


def test_random_kernels_say_nothing_of_an_even_image() -> None:
    made = RandomImageConvolutions(BlockSpec("image", (2, 8, 8)), n_features=160, seed=0)
    assert made(torch.randn(5, 2, 8, 8)).shape == (5, made.width) == (5, 160)
    even = made._convolved(torch.full((1, 2, 8, 8), 3.0))[..., 1:-1, 1:-1]
    torch.testing.assert_close(even, torch.zeros_like(even), atol=1e-5, rtol=0)
