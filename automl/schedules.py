"""Learning-rate schedules: `factory(optimizer, n_steps, *, hyperparameters) -> LRScheduler`.

`n_steps` is the number of optimizer steps of a training that is not stopped early. One trait says when training
steps the schedule: `per_step` after each optimizer step, `per_epoch` after each epoch, `monitors` after each epoch
with the validation loss.
"""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau

from automl.components import register


@register("schedule", "per_epoch")
def constant(optimizer: Optimizer, n_steps: int) -> LRScheduler:
    """Returns a schedule that leaves the learning rate alone."""
    return LambdaLR(optimizer, lambda epoch: 1.0)


@register("schedule", "per_step")
def cosine(optimizer: Optimizer, n_steps: int, *, warmup: float = 0.05, final: float = 0.0) -> LRScheduler:
    """Returns a cosine from the learning rate down to a share of it (Loshchilov and Hutter 2017, arXiv 1608.03983).

    Args:
        optimizer: The optimizer whose learning rate is the largest one.
        n_steps: Optimizer steps of the whole training.
        warmup: Share of the steps over which the rate first rises linearly (Goyal et al. 2017, arXiv 1706.02677).
        final: The last learning rate, as a share of the largest.
    """
    n_warmup = round(warmup * n_steps)

    def factor(step: int) -> float:
        if step < n_warmup:
            return (step + 1) / n_warmup
        return _cosine(1.0, final, (step - n_warmup) / max(1, n_steps - n_warmup))

    return LambdaLR(optimizer, factor)


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
    n_rise = round(rise * n_steps)

    def factor(step: int) -> float:
        if step < n_rise:
            return _cosine(initial, 1.0, step / n_rise)
        return _cosine(1.0, final, (step - n_rise) / max(1, n_steps - n_rise))

    return LambdaLR(optimizer, factor)


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


def _cosine(start: float, end: float, share: float) -> float:
    """Returns the value after a `share` of the way from `start` to `end`, with no slope at either."""
    return end + (start - end) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
