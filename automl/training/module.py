"""The LightningModule that trains a registered network."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from automl.components import catalogue
from automl.training.loaders import Batch
from automl.values import Choice


class SupervisedModule(pl.LightningModule):
    """A network that learns to make a loss small.

    Nothing is logged in a step: in Lightning that costs more than all else of its loop. After an epoch,
    `train_loss` and `val_loss` are known, and `outputs` holds what the network said of every validation row.

    Args:
        network: Maps a dictionary of blocks to (batch, n_outputs) or (batch, members, n_outputs).
        loss: Maps those outputs and targets (batch,) to a scalar.
        optimizer: A choice from the catalogue of optimizers.
        schedule: A choice from the catalogue of schedules.
        n_steps: Optimizer steps of a training that is not stopped early.

    Attributes:
        train_loss: Mean over the last epoch's batches, taken while the weights moved.
        val_loss: Over the validation rows after the last epoch.
        outputs: Of the validation rows after the last epoch; (rows, n_outputs) or (rows, members, n_outputs).
    """

    outputs: Tensor
    train_loss: float
    val_loss: float

    def __init__(self, network: nn.Module, loss: nn.Module, optimizer: Choice, schedule: Choice, n_steps: int) -> None:
        super().__init__()
        self.network = network
        self.loss = loss
        self._optimizer = optimizer
        self._schedule = schedule
        self._n_steps = n_steps
        self._train_losses: list[Tensor] = []
        self._val_batches: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        inputs, y = batch
        loss: Tensor = self.loss(self.network(inputs), y)
        self._train_losses.append(loss.detach())  # to read the number here would make an accelerator wait
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        inputs, y = batch
        self._val_batches.append((self.network(inputs), y))

    def on_validation_epoch_end(self) -> None:
        # Validation runs within the epoch, after its last step, so the epoch's numbers are all taken here.
        outputs, targets = zip(*self._val_batches, strict=True)
        self.outputs = torch.cat(outputs)
        val_loss = self.loss(self.outputs, torch.cat(targets))
        self.log("val_loss", val_loss)  # for schedules that monitor it
        self.val_loss = float(val_loss)
        self.train_loss = float(torch.stack(self._train_losses).mean())
        self._train_losses.clear()
        self._val_batches.clear()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = catalogue("optimizer").build(self._optimizer, parameter_groups(self.network))
        schedule = catalogue("schedule").build(self._schedule, optimizer, self._n_steps)
        traits = catalogue("schedule")[self._schedule.name].traits
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": schedule,
                "interval": "step" if "per_step" in traits else "epoch",
                "reduce_on_plateau": "monitors" in traits,
                "monitor": "val_loss",
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
