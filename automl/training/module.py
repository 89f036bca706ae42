"""The LightningModule that trains a registered network."""

from __future__ import annotations

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from automl.components import catalogue
from automl.training.loaders import Batch
from automl.values import Choice


class SupervisedModule(pl.LightningModule):
    """A network that learns to make a loss small.

    Nothing is logged in a step: in Lightning that costs more than all else of its loop.

    Args:
        network: Maps a dictionary of blocks to (batch, n_outputs) or (batch, members, n_outputs).
        loss: Maps those outputs and targets (batch,) to a scalar.
        optimizer: A choice from the catalogue of optimizers.
        schedule: A choice from the catalogue of schedules.
        n_steps: Optimizer steps of a training that is not stopped early.
    """

    def __init__(self, network: nn.Module, loss: nn.Module, optimizer: Choice, schedule: Choice, n_steps: int) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self._optimizer = optimizer
        self._schedule = schedule
        self._n_steps = n_steps

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, y = batch
        loss: Tensor = self.loss(self.network(inputs), y)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Returns what the network says of the batch, and the targets: a score is that of all rows together."""
        inputs, y = batch
        return {"outputs": self.network(inputs), "y": y}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = catalogue("optimizer").build(self._optimizer, parameter_groups(self.network))
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


def parameter_groups(network: nn.Module) -> list[dict[str, object]]:
    """Returns a network's parameters for an optimizer, with weight decay for the weights of linear maps only.

    Decay towards zero means "a simpler function" for those alone: not for biases and normalisations (vectors), nor
    for embeddings, whose rare rows it would erase. As in Gorishniy et al. 2021, arXiv 2106.11959.
    """
    embeddings = {
        id(p) for module in network.modules() if isinstance(module, nn.Embedding) for p in module.parameters()
    }
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for parameter in network.parameters():
        if parameter.requires_grad:
            (spared if parameter.ndim < 2 or id(parameter) in embeddings else decayed).append(parameter)
    groups: list[dict[str, object]] = [{"params": decayed}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
