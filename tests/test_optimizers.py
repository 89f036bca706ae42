import pytest
import torch

import automl.optimizers  # noqa: F401
from automl.components import catalogue
from automl.values import Choice

OPTIMIZERS = ["adagrad", "adam", "adamw", "rmsprop", "sgd"]


def minimise(name, **params):
    """Returns (first, last) loss of twenty steps on a bowl."""
    point = torch.nn.Parameter(torch.tensor([3.0, -2.0]))
    optimizer = catalogue("optimizer").build(Choice(name, params), [point])
    found = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = point.square().sum()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found[0], found[-1]


def test_all_are_registered():
    assert set(OPTIMIZERS) <= set(catalogue("optimizer").names())


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_takes_learning_rate_and_weight_decay(name):
    point = torch.nn.Parameter(torch.ones(2))
    optimizer = catalogue("optimizer").build(Choice(name, {"lr": 0.25, "weight_decay": 0.5}), [point])
    assert optimizer.param_groups[0]["lr"] == 0.25
    point.grad = torch.zeros(2)
    optimizer.step()
    assert (point < 1).all()


def test_nesterov_without_momentum_is_plain_descent():
    assert minimise("sgd", nesterov=True) == minimise("sgd")
    assert minimise("sgd", nesterov=True, momentum=0.9) != minimise("sgd", momentum=0.9)
