"""The LightningModule that trains a registered network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim import Optimizer

from automl.augmentations import Augmentation
from automl.components import catalogue
from automl.training.loaders import Batch
from automl.values import Choice


class SupervisedModule(pl.LightningModule):
    """A network that learns to make a loss small.

    Nothing is logged in a step: in Lightning that costs more than all else of its loop.

    Args:
        network: Maps a dictionary of blocks to (batch, n_outputs) or (batch, members, n_outputs).
        loss: Maps those outputs and targets, as of `losses.encode`, to a scalar; may have parameters of its own.
        optimizer: A choice from the catalogue of optimizers.
        schedule: A choice from the catalogue of schedules.
        n_steps: Optimizer steps of a training that is not stopped early.
        augmentation: What makes other rows of those of a batch.

    A network may have a method `penalty(done)`: what its last forward pass adds to the loss.

    Attributes:
        done: The share of training that is over, as far as whoever drives it tells.
    """

    def __init__(
        self,
        network: nn.Module,
        loss: nn.Module,
        optimizer: Choice,
        schedule: Choice,
        n_steps: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self._optimizer = optimizer
        self._schedule = schedule
        self._n_steps = n_steps
        self._augmentation = augmentation
        self._penalty: Callable[[float], Tensor] | None = getattr(network, "penalty", None)
        self.done = 0.0

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, y = batch
        if self._augmentation is not None:
            loss = self._mixed_loss(self._augmentation, batch)
        else:
            loss = self.loss(self.network(inputs), y)
        return loss if self._penalty is None else loss + self._penalty(self.done)

    def _mixed_loss(self, augmentation: Augmentation, batch: Batch) -> Tensor:
        inputs, y, other, share = augmentation(*batch)
        outputs = self.network(inputs)
        loss: Tensor = self.loss(outputs, y)
        return loss if other is None else share * loss + (1 - share) * self.loss(outputs, other)

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Returns what the network says of the batch, and the targets: a score is that of all rows together."""
        inputs, y = batch
        return {"outputs": self.network(inputs), "y": y}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = build_optimizer(self._optimizer, nn.ModuleList([self.network, self.loss]))
        schedule = catalogue("schedule").build(self._schedule, optimizer, self._n_steps)
        traits = catalogue("schedule")[self._schedule.name].traits
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "step" if "per_step" in traits else "epoch",
                "reduce_on_plateau": "monitors" in traits,
            },
        }


def build_optimizer(choice: Choice, network: nn.Module) -> Optimizer:
    """Returns the chosen optimizer over a network's parameters, each group at its own share of the learning rate."""
    optimizer: Optimizer = catalogue("optimizer").build(choice, parameter_groups(network))
    for group in optimizer.param_groups:
        group["lr"] *= group.get("lr_factor", 1.0)
    return optimizer


def switch(optimizer: Optimizer, mode: Literal["train", "eval"]) -> None:
    """Puts weights where an optimizer learns, or where it wants them to be looked at, if it has such places."""
    method = getattr(optimizer, mode, None)
    if method is not None:
        method()


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Returns a network's parameters for an optimizer, with weight decay for the weights of linear maps only.

    Decay towards zero means "a simpler function" for those alone: not for biases and normalisations (vectors), nor
    for embeddings, whose rare rows it would erase. As in Gorishniy et al. 2021, arXiv 2106.11959.

    A network may say otherwise on its parameters: `parameter.decay`, a truth value, is whether weight decay applies,
    and `parameter.lr_factor` what the learning rate is multiplied with.

    Returns:
        As few groups as there are kinds, those with the plain learning rate first. A group has `params`, and where they
        are not the usual ones `weight_decay` and `lr_factor`.
    """
    embeddings = {
        id(p) for module in network.modules() if isinstance(module, nn.Embedding) for p in module.parameters()
    }
    kinds: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            linear = parameter.ndim >= 2 and id(parameter) not in embeddings
            kind = (float(getattr(parameter, "lr_factor", 1.0)), bool(getattr(parameter, "decay", linear)))
            kinds.setdefault(kind, []).append(parameter)
    groups: list[dict[str, object]] = []
    for factor, decays in sorted(kinds, key=lambda kind: (kind[0] != 1.0, kind[0], not kind[1])):
        group: dict[str, object] = {"params": kinds[factor, decays]}
        group |= {} if decays else {"weight_decay": 0.0}
        groups.append(group | ({} if factor == 1.0 else {"lr_factor": factor}))
    return groups
