"""What is remembered of a training, and when that ends it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from automl.training.course import Course
from automl.values import Direction, EpochReport


def unheard(epoch: EpochReport) -> bool:
    return False


def gone(course: Course, values: list[float], *, is_last: bool = False) -> list[str | None]:
    """Returns what each epoch came to; the only weight of the network is the number of the epoch."""
    endings: list[str | None] = []
    for value in values:
        step = len(course.history)
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, step)
        endings.append(course.take(EpochReport(step, value, {"epoch_seconds": 2.0}), network, is_last=is_last))
    return endings


@pytest.mark.parametrize(("direction", "best"), [(Direction.MINIMIZE, 1), (Direction.MAXIMIZE, 2)])
def test_the_first_of_the_best_is_kept(direction: Direction, best: int) -> None:
    course = Course(direction, 9, unheard)
    assert gone(course, [2.0, 1.0, 3.0, 3.0, 1.0]) == [None] * 5
    assert course.best is course.history[best]
    assert course.weights["weight"].item() == best


def test_the_last_is_kept_where_it_is_wanted() -> None:
    course = Course(Direction.MINIMIZE, 9, unheard, keeps_last=True)
    gone(course, [2.0, 1.0, 3.0])
    assert course.weights["weight"].item() == 2


def test_what_ends_it() -> None:
    assert gone(Course(Direction.MINIMIZE, 2, unheard), [1.0, 2.0, 1.0]) == [None, None, "patience"]
    assert gone(Course(Direction.MINIMIZE, 9, lambda epoch: epoch.step == 1), [1.0, 2.0]) == [None, "report"]
    assert gone(Course(Direction.MINIMIZE, 9, unheard), [1.0], is_last=True) == ["deadline"]


def test_it_goes_on_where_it_was_and_tells_it_again() -> None:
    before = Course(Direction.MINIMIZE, 9, unheard)
    gone(before, [2.0, 1.0, 3.0])
    before.n_epochs, before.stopped = 3, "patience"
    heard: list[int] = []
    after = Course(Direction.MINIMIZE, 9, lambda epoch: bool(heard.append(epoch.step)))
    after.resume(before.state())
    assert after.state() == before.state()
    assert heard == [0, 1, 2]
    assert after.seconds_before == 6.0
    assert torch.equal(after.weights["weight"], torch.ones(1, 1))
    assert not after.was_cut_short
