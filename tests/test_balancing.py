from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from automl.balancing import fixed, gradnorm, uncertainty
from automl.errors import ConfigError
from automl.values import TargetSpec, Task

NUMBER = TargetSpec(Task.REGRESSION, 1)
TWO = TargetSpec(Task.MULTITASK, 2, parts=(NUMBER, NUMBER))
BOTH, FIRST = torch.tensor([True, True]), torch.tensor([True, False])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 2))


def test_fixed_is_the_mean() -> None:
    losses = torch.tensor([1.0, 4.0])
    assert fixed(TWO, network())(losses, BOTH) == 2.5


def test_uncertainty_ends_where_each_target_counts_by_what_is_left_of_it() -> None:
    """The best logarithm of the variance of a squared error is the logarithm of its mean."""
    balancing = uncertainty(TWO, network())
    losses = torch.tensor([0.2, 5.0])
    optimizer = torch.optim.Adam(balancing.parameters(), lr=0.05)
    for _ in range(500):
        optimizer.zero_grad()
        balancing(losses, BOTH).backward()
        optimizer.step()
    torch.testing.assert_close(balancing.log_variance.detach().exp(), losses, rtol=1e-2, atol=1e-2)


def test_gradnorm_holds_back_the_target_that_pulls_hardest() -> None:
    """One loss is a hundred times the other: its gradient would drown the other's."""
    model, rows = network(), torch.randn(64, 3)
    balancing = gradnorm(TWO, model, alpha=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    goal = torch.stack([rows[:, 0], rows[:, 1]], dim=1)
    for _ in range(150):
        losses = (model(rows) - goal).square().mean(dim=0) * torch.tensor([10.0, 0.1])
        optimizer.zero_grad()
        balancing(losses, BOTH).backward()
        optimizer.step()
    assert balancing.weights[0] < 0.2 < 1.5 < balancing.weights[1]
    assert balancing.weights.sum() == pytest.approx(2)
    assert balancing._shared[0] is model[2].weight  # the last one that is not a target's own
    assert not list(balancing.parameters())
    assert set(balancing.state_dict()) == {"weights", "first"}


def test_gradnorm_goes_on_where_it_was_kept() -> None:
    model, rows = network(), torch.randn(8, 3)
    first = gradnorm(TWO, model)
    first(model(rows).square().mean(dim=0), BOTH)
    again = gradnorm(TWO, model)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    losses = model(rows).square().mean(dim=0)
    assert torch.equal(first(losses, BOTH), again(losses, BOTH))


def test_targets_that_share_nothing_have_the_mean() -> None:
    model, rows = nn.Linear(3, 2), torch.randn(8, 3)
    balancing = gradnorm(TWO, model)
    losses = model(rows).square().mean(dim=0)
    assert torch.equal(balancing(losses, BOTH), losses.mean())


def test_a_target_that_no_row_of_a_batch_has_moves_nothing_and_stops_nothing() -> None:
    model, rows = network(), torch.randn(8, 3)
    balancing = gradnorm(TWO, model, alpha=0.0)
    balancing(model(rows).square().mean(dim=0) * FIRST, FIRST)
    assert balancing.weights.tolist() == [1, 1]
    assert balancing.first[0] > 0 == balancing.first[1]
    balancing(model(rows).square().mean(dim=0) * torch.tensor([1.0, 9.0]), BOTH)
    assert balancing.first.all()
    assert balancing.weights[0] > balancing.weights[1]
    learned = uncertainty(TWO, model)
    learned(torch.tensor([2.0, 0.0]), FIRST).backward()
    assert learned.log_variance.grad[0] != 0 == learned.log_variance.grad[1]


@pytest.mark.parametrize("params", [{"alpha": -1.0}, {"rate": 0.0}])
def test_what_is_out_of_range_is_told(params: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="must be"):
        gradnorm(TWO, network(), **params)
