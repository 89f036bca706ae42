import torch
from torch import nn

from automl.training.module import parameter_groups


def test_only_linear_maps_decay():
    network = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    decayed, spared = parameter_groups(network)
    assert [tuple(weight.shape) for weight in decayed["params"]] == [(4, 3), (1, 4)]
    assert "weight_decay" not in decayed
    assert spared["weight_decay"] == 0.0
    assert len(spared["params"]) == 5


def test_frozen_parameters_and_empty_groups_are_left_out():
    network = nn.Linear(3, 2)
    network.weight.requires_grad_(False)
    (spared,) = parameter_groups(network)
    assert torch.equal(spared["params"][0], network.bias)
