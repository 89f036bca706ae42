import pytest
import torch

import automl.schedules  # noqa: F401
from automl.components import catalogue
from automl.values import Choice

SCHEDULES = ["constant", "cosine", "one_cycle", "plateau"]


def rates(name, n_steps, **params):
    """Returns the learning rate of each step, of an optimizer whose own is 1."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = catalogue("schedule").build(Choice(name, params), optimizer, n_steps)
    monitors = "monitors" in catalogue("schedule")[name].traits
    found = []
    for _ in range(n_steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*([1.0] if monitors else []))
    return found


def test_all_are_registered():
    assert set(SCHEDULES) <= set(catalogue("schedule").names())


def test_constant_stays():
    assert rates("constant", 5) == [1.0] * 5


def test_cosine_warms_up_and_falls():
    found = rates("cosine", 100, warmup=0.1, final=0.01)
    assert found[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert max(found) == found[10] == 1.0
    assert found[10:] == sorted(found[10:], reverse=True)
    assert found[55] == pytest.approx((1 + 0.01) / 2)
    assert found[-1] == pytest.approx(0.01, abs=0.01)


def test_one_cycle_rises_and_falls():
    found = rates("one_cycle", 100, rise=0.3)
    assert found[0] == pytest.approx(0.04)
    assert found[:31] == sorted(found[:31])
    assert found[30] == 1.0
    assert found[30:] == sorted(found[30:], reverse=True)
    assert found[-1] < 0.01


def test_plateau_lowers_after_its_patience():
    assert rates("plateau", 8, factor=0.5, patience=2) == [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.25]


def test_steps_beyond_the_plan_are_harmless():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = catalogue("schedule").build(Choice("cosine"), optimizer, 3)
    for _ in range(10):
        optimizer.step()
        schedule.step()
    assert optimizer.param_groups[0]["lr"] == 0.0
