import pytest
import torch

from automl.components import Catalogue
from automl.networks.mlp import mlp
from automl.values import BlockSpec, InputSpec

INPUTS = InputSpec({"numeric": BlockSpec("numeric", (4,))})


def catalogued():
    networks = Catalogue("network")
    networks.add("mlp", mlp)
    return networks["mlp"].hyperparameters


@pytest.mark.parametrize("activation", catalogued()["activation"].choices)
@pytest.mark.parametrize("normalisation", catalogued()["normalisation"].choices)
def test_every_choice_builds(activation, normalisation):
    network = mlp(INPUTS, 2, depth=2, width=8, activation=activation, normalisation=normalisation)
    assert network({"numeric": torch.randn(4, 4)}).shape == (4, 2)


def test_without_hidden_layers_it_is_linear():
    network = mlp(INPUTS, 1, depth=0)
    assert sum(parameter.numel() for parameter in network.parameters()) == 5


def test_depth_counts_hidden_layers():
    linear = [module for module in mlp(INPUTS, 2, depth=3, width=8).modules() if isinstance(module, torch.nn.Linear)]
    assert [layer.out_features for layer in linear] == [8, 8, 8, 2]
