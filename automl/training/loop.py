"""The training loop: epochs of steps, scored, cut to a deadline. `fit` decides what goes in and when it ends."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from automl.averaging import Averaged
from automl.components import catalogue
from automl.schedules import ByProgress
from automl.training.checkpoint import random_state, set_random_state
from automl.training.loaders import Batch, Batches
from automl.training.module import SupervisedModule, switch
from automl.values import Configuration

#: The step after which it is looked whether there is time for two epochs.
FIRST_LOOK = 20


@dataclass(frozen=True, slots=True)
class Check:
    """What a scoring gave: after an epoch, or after a part of a long one.

    Attributes:
        epoch: Counted from 0.
        train_loss: Mean over the batches since the last one, taken while the weights moved.
        val_loss: Over the validation rows, after the last step.
        network: What was validated: the one that is trained, or its average.
        outputs: What it says of the validation rows; (rows, n_outputs) or (rows, members, n_outputs).
        learning_rate: Of the last step.
        seconds: Since the last one.
        is_last: Whether there is no time for another one.
    """

    epoch: int
    train_loss: float
    val_loss: float
    network: nn.Module
    outputs: Tensor
    learning_rate: float
    seconds: float
    is_last: bool


class Loop:
    """Lightning's training loop without its Trainer, which takes as long as a small network's own work.

    The module is driven as a Trainer drives it; a test holds the two against each other, to the last bit. What a
    Trainer would do with callbacks is done here: clipping, averages, and schedules that end where training does.

    Args:
        fabric: Knows device and precision.
        module: What is trained.
        train: The rows.
        val: Those that each scoring looks at.
        configuration: What is trained how.
        deadline: `time.monotonic()` by which training ends, and `n_val` rows have been scored once more; or infinity.
        n_val: All validation rows.
        n_steps: Steps that are made when nothing ends training early.
        checks_an_epoch: How often an epoch is to be scored; not more often than it has steps.
        network: That of the module, as it was before it was wrapped.
        wrap: Makes a network compute in the precision that was asked for.
        generators: What the batches, and whatever is done to them, are drawn with.

    Attributes:
        n_planned: Steps that the schedule is made for: all of them, or those that there is time for.
        checks_an_epoch: How often an epoch is scored.
    """

    def __init__(
        self,
        fabric: Fabric,
        module: SupervisedModule,
        train: Batches,
        val: Batches,
        configuration: Configuration,
        deadline: float,
        *,
        n_val: int,
        n_steps: int,
        checks_an_epoch: int,
        network: nn.Module,
        wrap: Callable[[nn.Module], nn.Module],
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        configured: Any = module.configure_optimizers()
        self._fabric = fabric
        self._module = module
        self._bare_optimizer = configured["optimizer"]
        self._optimizer: Any = fabric.setup_optimizers(self._bare_optimizer)
        self._schedule = configured["lr_scheduler"]
        self.train = train
        self._val = val
        self._n_val = n_val
        self._deadline = deadline
        self.network = network
        self._wrap = wrap
        self._generators = generators
        self._clip_norm = configuration.clip_norm
        self._averaged: Averaged | None = catalogue("averaging").build(configuration.averaging, network)
        self._averages_epochs = "per_epoch" in catalogue("averaging")[configuration.averaging.name].traits
        # What is not asked for is not looked at in a step.
        by_closure = "closure" in catalogue("optimizer")[configuration.optimizer.name].traits
        self._step = self._closure_step if by_closure else self._plain_step
        self._after_step: list[Callable[[], None]] = []
        if self._schedule["interval"] == "step":
            self._after_step.append(self._schedule["scheduler"].step)
        if self._averaged is not None and not self._averages_epochs:
            self._after_step.append(self._average)
        if hasattr(network, "penalty"):
            self._after_step.append(lambda: self._tell(self._n_made + 1))
        self._n_steps = n_steps
        self._steps_a_check = -(-len(train) // checks_an_epoch)
        self.checks_an_epoch = -(-len(train) // self._steps_a_check)
        self._batches: Iterator[Batch] = iter(())
        self._n_left = 0  # steps of the epoch
        self._epoch = -1
        self._n_made = 0
        self.n_planned = n_steps
        self._started, self._n_before = 0.0, 0  # when the last part began, and after how many steps
        self._reserve = 0.0  # seconds that scoring may take, as far as is known

    @property
    def n_epochs(self) -> int:
        """Epochs that were gone through to their ends."""
        return self._epoch + self.is_between_epochs

    @property
    def is_between_epochs(self) -> bool:
        """Whether the last epoch was gone through to its end."""
        return self._n_left == 0

    def state(self) -> dict[str, Any]:
        """Returns what `resume` takes, between epochs."""
        assert self.is_between_epochs
        return {
            "network": self.network.state_dict(),
            "loss": self._module.loss.state_dict(),
            "optimizer": self._bare_optimizer.state_dict(),
            "schedule": self._schedule["scheduler"].state_dict(),
            "averaged": None if self._averaged is None else self._averaged.state(),
            "generators": [generator.get_state() for generator in self._generators],
            "random": random_state(),
            "epoch": self._epoch,
            "n_made": self._n_made,
            "n_planned": self.n_planned,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on after the epoch at whose end `state` was taken, of a loop over the same with the same."""
        self.network.load_state_dict(state["network"])
        self._module.loss.load_state_dict(state["loss"])
        self._bare_optimizer.load_state_dict(state["optimizer"])
        self._schedule["scheduler"].load_state_dict(state["schedule"])
        if self._averaged is not None:
            self._averaged.resume(state["averaged"])
        for generator, kept in zip(self._generators, state["generators"], strict=True):
            generator.set_state(kept)
        set_random_state(state["random"])
        self._epoch, self._n_made, self.n_planned = state["epoch"], state["n_made"], state["n_planned"]
        self._n_before = self._n_made
        self._tell(self._n_made)

    def check(self) -> Check:
        """Returns what the next part of an epoch gave; it is cut short so that there is time to score it in time."""
        started = time.monotonic()
        if self._n_made > self._n_before:
            self._plan(started, (started - self._started) / (self._n_made - self._n_before))
        self._started, self._n_before = started, self._n_made
        train_loss, is_cut = self._fit(started)
        trained = time.monotonic()
        first = self._optimizer.param_groups[0]
        learning_rate = first["lr"] / first.get("lr_factor", 1.0)
        network = self._shipped()
        outputs, val_loss = self._validate(network)
        if is_cut or self._n_left == 0:
            self._end_epoch(val_loss)
        now = time.monotonic()
        again = (now - trained) * (1 + self._n_val / self._val.n_rows)  # to score once more, and as it ships
        is_last = is_cut or now + again >= self._deadline
        return Check(self._epoch, train_loss, val_loss, network, outputs, learning_rate, now - started, is_last)

    def train_epoch(self) -> nn.Module:
        """Returns the network after a part without validation, of which the training loss takes the place."""
        train_loss, _ = self._fit(time.monotonic())
        self._end_epoch(train_loss)
        return self._shipped()

    def _shipped(self) -> nn.Module:
        """Returns what would be shipped now: the network that is trained, or its average."""
        return self.network if self._averaged is None else self._averaged.network

    def _end_epoch(self, loss: float) -> None:
        if self._schedule["interval"] == "epoch":
            self._schedule["scheduler"].step(*((loss,) if self._schedule["reduce_on_plateau"] else ()))

    def _part(self) -> int:
        """Returns how many steps there are until the next scoring, of a new epoch if the last one is through."""
        if self._n_left == 0:
            self._batches, self._n_left, self._epoch = iter(self.train), len(self.train), self._epoch + 1
        return min(self._steps_a_check, self._n_left)

    def _fit(self, started: float) -> tuple[float, bool]:
        """Returns the mean loss of the steps until the next scoring, and whether time ran out before all were made."""
        switch(self._bare_optimizer, "train")
        self._module.train()
        train_losses: list[Tensor] = []
        n_seen, is_cut, n_steps = 0, False, self._part()
        for batch in islice(self._batches, n_steps):
            loss = self._step(batch, len(train_losses))
            for act in self._after_step:
                act()
            self._n_made += 1
            train_losses.append(loss.detach())  # to read the number here would make an accelerator wait
            n_seen += len(batch[1])
            # A row is validated in no more time than it is trained on.
            now = time.monotonic()
            self._reserve = (self._val.n_rows + self._n_val) * (now - started) / n_seen
            if now + self._reserve >= self._deadline:
                is_cut = len(train_losses) < n_steps
                break
            if self._n_made == FIRST_LOOK:
                self._plan(now, (now - started) / len(train_losses), within=2 * len(self.train))
        else:
            if len(train_losses) < n_steps:  # how many rows resampling makes is known about
                self._n_left = len(train_losses)
        if not train_losses:
            return self._fit(started)
        switch(self._bare_optimizer, "eval")
        if self._averaged is not None and self._averages_epochs:
            self._average()
        self._n_left -= len(train_losses)
        return float(torch.stack(train_losses).mean()), is_cut

    def _plain_step(self, batch: Batch, position: int) -> Tensor:
        loss = self._module.training_step(batch, position)
        self._optimizer.zero_grad()
        self._fabric.backward(loss)
        if self._clip_norm:
            self._clip()
        self._optimizer.step()
        return loss

    def _closure_step(self, batch: Batch, position: int) -> Tensor:
        """Lets the optimizer compute the loss as often as it wants; returns the first one."""

        def closure() -> Tensor:
            self._optimizer.zero_grad()
            loss = self._module.training_step(batch, position)
            self._fabric.backward(loss)
            if self._clip_norm:
                self._clip()
            return loss

        loss: Tensor = self._optimizer.step(closure)
        return loss

    def _clip(self) -> None:
        self._fabric.clip_gradients(self._module, self._optimizer, max_norm=self._clip_norm, error_if_nonfinite=False)

    def _average(self) -> None:
        """Takes the weights of the moment into their average."""
        assert self._averaged is not None
        self._averaged.add(self._n_made / self.n_planned)

    def _tell(self, n_made: int) -> None:
        """Lets the module know how much of training is over."""
        self._module.done = min(1.0, n_made / self.n_planned)

    def _plan(self, now: float, seconds_a_step: float, within: float = math.inf) -> None:
        """Makes schedule and average end with the steps that there is time for, if not for all.

        Args:
            now: `time.monotonic()`.
            seconds_a_step: With its share of what an epoch takes beside steps.
            within: Nothing is planned while there is time for this many steps: a first look may err.
        """
        if self._deadline == math.inf:
            return
        n_left = self._n_steps - self._n_made
        n_fitting = int((self._deadline - now - self._reserve) / max(seconds_a_step, 1e-9))
        is_short = n_fitting < min(n_left, within)
        if is_short or self.n_planned < self._n_steps:
            n_next = max(1, min(n_fitting, n_left))
            self.n_planned = self._n_made + n_next
            if isinstance(self._schedule["scheduler"], ByProgress):
                self._schedule["scheduler"].plan(n_next)

    @torch.no_grad()
    def _validate(self, network: nn.Module) -> tuple[Tensor, float]:
        trained, self._module.network = self._module.network, self._wrap(network)
        self._module.eval()
        batches = [self._module.validation_step(batch, position) for position, batch in enumerate(self._val)]
        self._module.network = trained
        outputs, y = (torch.cat([batch[part] for batch in batches]) for part in ("outputs", "y"))
        return outputs, float(self._module.loss(outputs, y))
