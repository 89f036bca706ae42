"""Learning-rate schedules: `factory(optimizer, n_steps, *, hyperparameters) -> LRScheduler`.

`n_steps` is the number of optimizer steps of a training that is not stopped early. One trait says when training
steps the schedule: `per_step` after each optimizer step, `per_epoch` after each epoch, `monitors` after each epoch
with the validation loss. A `ByProgress` can be told on the way that there is time for fewer steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from automl.components import register

#: What a rate is multiplied with, of the share of training that lies before a step, and of the step's own share.
Shape = Callable[[float, float], float]


class ByProgress(LRScheduler):
    """A schedule that follows how far training is, from 0 to 1, wherever that ends.

    A step costs 2 microseconds, a fifth of torch's `LambdaLR`.

    Args:
        optimizer: The optimizer whose learning rates are the largest ones.
        n_steps: Optimizer steps of the whole training. Steps beyond them get the shape's end.
        shape: (share before a step, share of that step) -> what the rate is multiplied with.
    """

    def __init__(self, optimizer: Optimizer, n_steps: int, shape: Shape) -> None:
        self._shape = shape
        self._begun, self._before = 0, 0.0  # the step at which the plan was made, and the share before it
        self._left = max(1, n_steps)
        super().__init__(optimizer)

    def plan(self, n_steps: int) -> None:
        """Makes training end `n_steps` from now: what is left of the shape is gone through in these.

        The next step is unchanged, so that the rate never jumps.
        """
        self._before, self._begun = self._share(), self.last_epoch
        self._left = max(1, n_steps)

    def step(self, epoch: int | None = None) -> None:
        """Sets the learning rates of the next optimizer step."""
        self._step_count += 1
        self.last_epoch += 1
        factor = self._shape(self._share(), (1 - self._before) / self._left)
        for group, largest in zip(self.optimizer.param_groups, self.base_lrs, strict=True):
            group["lr"] = largest * factor

    def get_lr(self) -> list[float | Tensor]:
        """Returns the learning rate of each group in the next step."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_last_lr(self) -> list[float | Tensor]:
        """Returns the same: rates are set by `step` alone."""
        return self.get_lr()

    def state_dict(self) -> dict[str, object]:
        """Returns what `load_state_dict` takes; the shape is part of the schedule, not of its state."""
        return {name: value for name, value in super().state_dict().items() if name != "_shape"}

    def _share(self) -> float:
        gone = (self.last_epoch - self._begun) / self._left
        return min(1.0, self._before + (1 - self._before) * gone)


@register("schedule", "per_epoch")
def constant(optimizer: Optimizer, n_steps: int) -> LRScheduler:
    """Returns a schedule that leaves the learning rate alone."""
    return LambdaLR(optimizer, lambda epoch: 1.0)


@register("schedule", "per_step")
def warmup(optimizer: Optimizer, n_steps: int, *, share: float = 0.05) -> LRScheduler:
    """Returns a linear rise to the learning rate, which then stays (Goyal et al. 2017, arXiv 1706.02677).

    Args:
        optimizer: The optimizer whose learning rate is the largest one.
        n_steps: Optimizer steps of the whole training.
        share: Share of the steps until the rate is reached.
    """
    return ByProgress(optimizer, n_steps, lambda before, own: _rise(before + own, share))


@register("schedule", "per_step")
def step(optimizer: Optimizer, n_steps: int, *, n_drops: int = 2, factor: float = 0.1) -> LRScheduler:
    """Returns a rate that drops at equal distances, as for residual networks (He et al. 2016, arXiv 1512.03385).

    Args:
        optimizer: The optimizer whose learning rate is the first one.
        n_steps: Optimizer steps of the whole training.
        n_drops: Number of drops; 2 are after a third and two thirds of the steps.
        factor: What the learning rate is multiplied with at each.
    """
    # The margin is for shares that rounding leaves just below the one at which the rate drops.
    return ByProgress(
        optimizer, n_steps, lambda before, own: factor ** min(n_drops, int(before * (n_drops + 1) + 1e-9))
    )


@register("schedule", "per_step")
def exponential(optimizer: Optimizer, n_steps: int, *, final: float = 0.01) -> LRScheduler:
    """Returns a rate that falls by the same factor in every step.

    Args:
        optimizer: The optimizer whose learning rate is the first one.
        n_steps: Optimizer steps of the whole training.
        final: The last learning rate, as a share of the first.
    """
    return ByProgress(optimizer, n_steps, lambda before, own: final**before)


@register("schedule", "per_step")
def cosine(optimizer: Optimizer, n_steps: int, *, warmup: float = 0.05, final: float = 0.0) -> LRScheduler:
    """Returns a cosine from the learning rate down to a share of it (Loshchilov and Hutter 2017, arXiv 1608.03983).

    Args:
        optimizer: The optimizer whose learning rate is the largest one.
        n_steps: Optimizer steps of the whole training.
        warmup: Share of the steps over which the rate first rises linearly (Goyal et al. 2017, arXiv 1706.02677).
        final: The last learning rate, as a share of the largest.
    """

    def shape(before: float, own: float) -> float:
        if before < warmup:
            return _rise(before + own, warmup)
        return _cosine(1.0, final, (before - warmup) / max(1e-9, 1 - warmup))

    return ByProgress(optimizer, n_steps, shape)


@register("schedule", "per_step")
def flat_cosine(optimizer: Optimizer, n_steps: int, *, flat: float = 0.5) -> LRScheduler:
    """Returns a learning rate that stays, then falls to 0 as a cosine.

    Args:
        optimizer: The optimizer whose learning rate is the largest one.
        n_steps: Optimizer steps of the whole training.
        flat: Share of the steps before the rate falls.
    """
    return ByProgress(
        optimizer, n_steps, lambda before, own: _cosine(1.0, 0.0, max(0.0, before - flat) / max(1e-9, 1 - flat))
    )


@register("schedule", "per_step")
def coslog(optimizer: Optimizer, n_steps: int, *, cycles: int = 4) -> LRScheduler:
    """Returns cosine cycles, each twice as long as the one before: the schedule of RealMLP with 4 of them.

    The rate is 0.5 (1 - cos(2 pi log2(1 + (2^cycles - 1) t))) of the largest at the share t of training (Holzmüller et
    al. 2024, arXiv 2407.04491). Each step takes t at its middle, so that the first one moves.

    Args:
        optimizer: The optimizer whose learning rate is the largest one.
        n_steps: Optimizer steps of the whole training.
        cycles: Number of rises and falls.
    """
    span = 2**cycles - 1
    return ByProgress(
        optimizer,
        n_steps,
        lambda before, own: (1 - math.cos(2 * math.pi * math.log2(1 + span * min(1.0, before + own / 2)))) / 2,
    )


@register("schedule", "per_step")
def one_cycle(
    optimizer: Optimizer, n_steps: int, *, rise: float = 0.3, initial: float = 0.04, final: float = 1e-4
) -> LRScheduler:
    """Returns one rise and one fall of the learning rate, both cosines (Smith and Topin 2018, arXiv 1708.07120).

    Momentum stays as it is: not every optimizer has one. torch's own class divides by zero for some short trainings.

    Args:
        optimizer: The optimizer whose learning rate is the largest one.
        n_steps: Optimizer steps of the whole training.
        rise: Share of the steps until the peak.
        initial: The first learning rate, as a share of the largest.
        final: The last learning rate, as a share of the largest.
    """

    def shape(before: float, own: float) -> float:
        if before < rise:
            return _cosine(initial, 1.0, before / rise)
        return _cosine(1.0, final, (before - rise) / max(1e-9, 1 - rise))

    return ByProgress(optimizer, n_steps, shape)


@register("schedule", "monitors")
def plateau(optimizer: Optimizer, n_steps: int, *, factor: float = 0.3, patience: int = 3) -> LRScheduler:
    """Returns a schedule that lowers the learning rate when the validation loss stands still.

    The loss and not the objective: it moves with every update where a score of ranks or labels may not.

    Args:
        optimizer: The optimizer whose learning rate is the first one.
        n_steps: Not used: what happened counts, not how far training is.
        factor: What the learning rate is multiplied with.
        patience: Epochs without a lower validation loss that are put up with.
    """
    return ReduceLROnPlateau(optimizer, mode="min", factor=factor, patience=patience)


def _rise(after: float, share: float) -> float:
    """Returns the height of a straight rise to 1 over a `share` of training, at the end of a step."""
    return min(1.0, after / share) if share > 0 else 1.0


def _cosine(start: float, end: float, share: float) -> float:
    """Returns the value after a `share` of the way from `start` to `end`, with no slope at either."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
