"""Training: a configuration and prepared data become a network. The only place that drives Lightning."""

from __future__ import annotations

import functools
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from automl import losses, metrics
from automl.components import catalogue
from automl.errors import DataError, TrainingDiverged
from automl.training.loaders import Batches
from automl.training.module import SupervisedModule
from automl.values import Configuration, EpochReport, Metric, PreparedData, TrainerSettings

#: How often validation rows are predicted once a deadline has cut training short: for the epoch, and as it ships.
SCORINGS = 2

Ending = Literal["max_epochs", "patience", "report", "deadline", "diverged"]


@dataclass(frozen=True, slots=True)
class Fit:
    """A finished training.

    Attributes:
        network: With the weights of the best epoch, in evaluation mode, on the CPU.
        predictions: Of this network for the validation rows: probabilities (rows, classes) or values (rows,).
        value: The objective of these predictions.
        best_epoch: Counted from 0.
        n_epochs: Epochs that were begun.
        stopped: What ended the training; `diverged` when numbers ceased to be finite after a good epoch.
        history: One report for each epoch that has a score.
    """

    network: nn.Module
    predictions: NDArray[np.float64]
    value: float
    best_epoch: int
    n_epochs: int
    stopped: Ending
    history: tuple[EpochReport, ...]


def fit(
    configuration: Configuration,
    data: PreparedData,
    metric: Metric,
    settings: TrainerSettings,
    *,
    seed: int,
    report: Callable[[EpochReport], bool],
    stop_at: float | None = None,
) -> Fit:
    """Returns a network trained on the training rows, at the epoch that did best on the validation rows.

    Equal arguments give equal results on one CPU thread.

    Args:
        configuration: Network, loss, optimizer, schedule and batch size; preprocessing has been done.
        data: The rows.
        metric: What decides which epoch is best, and when patience ends.
        settings: What is not searched.
        seed: Of initial weights, dropout and the order of rows.
        report: Called after each epoch; returns whether to stop now.
        stop_at: `time.monotonic()` by which training ends. The epoch that this cuts short is scored like any other, for
            which time is left, so that there always is a score.

    Raises:
        TrainingDiverged: The first epoch already gave numbers that are not finite.
        DataError: The validation rows leave the metric undefined.
    """
    pl.seed_everything(seed, verbose=False)
    with _quiet():
        fabric = _fabric(settings.accelerator, settings.precision)
        network = catalogue("network").build(configuration.network, data.inputs, data.target.n_outputs)
        loss = fabric.to_device(catalogue("loss").build(configuration.loss, data.target))
        train = Batches(data.train, data.target, configuration.batch_size, seed=seed, device=fabric.device)
        val = Batches(data.val, data.target, losses.EVALUATION_BATCH_SIZE, device=fabric.device)
        n_steps = settings.max_epochs * len(train)
        prepared = fabric.setup_module(network)
        # Fabric's wrapper casts; in full precision that is nothing, for a quarter of a small network's forward.
        trained = network if settings.precision == "32-true" else prepared
        module = SupervisedModule(trained, loss, configuration.optimizer, configuration.schedule, n_steps)
        loop = _Loop(fabric, module, train, val, math.inf if stop_at is None else stop_at)
        watch = _Watch(data, metric, settings.patience, network, report)
        for _ in range(settings.max_epochs):
            if watch.after_epoch(loop.epoch()):
                break
    return watch.result()


@dataclass(frozen=True, slots=True)
class _Epoch:
    """What one epoch gave.

    Attributes:
        train_loss: Mean over the batches, taken while the weights moved.
        val_loss: Over the validation rows, after the last step.
        outputs: What the network says of the validation rows; (rows, n_outputs) or (rows, members, n_outputs).
        learning_rate: Of the last step.
        is_last: Whether there is no time for another one.
    """

    train_loss: float
    val_loss: float
    outputs: Tensor
    learning_rate: float
    seconds: float
    is_last: bool


class _Loop:
    """Lightning's training loop without its Trainer, which takes as long as a small network's own work.

    The module is driven as a Trainer drives it; a test holds the two against each other, to the last bit.
    """

    def __init__(self, fabric: Fabric, module: SupervisedModule, train: Batches, val: Batches, deadline: float) -> None:
        configured = module.configure_optimizers()
        self._fabric = fabric
        self._module = module
        self._optimizer: Any = fabric.setup_optimizers(configured["optimizer"])
        self._schedule: Any = configured["lr_scheduler"]
        self._train = train
        self._val = val
        self._n_val = val.n_rows
        self._deadline = deadline

    def epoch(self) -> _Epoch:
        """Returns what one epoch gave; it is cut short so that there is time to score it by the deadline."""
        started = time.monotonic()
        train_loss, is_cut = self._fit(started)
        trained = time.monotonic()
        learning_rate = self._optimizer.param_groups[0]["lr"]
        outputs, val_loss = self._validate()
        if self._schedule["interval"] == "epoch":
            of = (val_loss,) if self._schedule["reduce_on_plateau"] else ()
            self._schedule["scheduler"].step(*of)
        now = time.monotonic()
        is_last = is_cut or now + SCORINGS * (now - trained) >= self._deadline
        return _Epoch(train_loss, val_loss, outputs, learning_rate, now - started, is_last)

    def _fit(self, started: float) -> tuple[float, bool]:
        """Returns the mean loss of the steps, and whether time ran out before all were made."""
        self._module.train()
        train_losses = []
        n_seen = 0
        for position, batch in enumerate(self._train):
            loss = self._module.training_step(batch, position)
            self._optimizer.zero_grad()
            self._fabric.backward(loss)
            self._optimizer.step()
            if self._schedule["interval"] == "step":
                self._schedule["scheduler"].step()
            train_losses.append(loss.detach())  # to read the number here would make an accelerator wait
            n_seen += len(batch[1])
            # A row is validated in no more time than it is trained on.
            now = time.monotonic()
            if now + SCORINGS * self._n_val * (now - started) / n_seen >= self._deadline:
                break
        return float(torch.stack(train_losses).mean()), position + 1 < len(self._train)

    @torch.no_grad()
    def _validate(self) -> tuple[Tensor, float]:
        self._module.eval()
        batches = [self._module.validation_step(batch, position) for position, batch in enumerate(self._val)]
        outputs, y = (torch.cat([batch[part] for batch in batches]) for part in ("outputs", "y"))
        return outputs, float(self._module.loss(outputs, y))


class _Watch:
    """Scores every epoch, keeps the best weights and decides when training ends."""

    def __init__(
        self,
        data: PreparedData,
        metric: Metric,
        patience: int,
        network: nn.Module,
        report: Callable[[EpochReport], bool],
    ) -> None:
        self._data = data
        self._metric = metric
        self._patience = patience
        self._network = network
        self._report = report
        self._stopped: Ending = "max_epochs"
        self._problem: DataError | TrainingDiverged | None = None
        self._history: list[EpochReport] = []
        self._best: EpochReport | None = None
        self._weights: dict[str, Tensor] = {}
        self._n_epochs = 0

    def after_epoch(self, epoch: _Epoch) -> bool:
        """Returns whether to stop after this epoch."""
        self._n_epochs += 1
        ending = self._judge(epoch)
        self._stopped = ending or self._stopped
        return ending is not None

    def _judge(self, epoch: _Epoch) -> Ending | None:
        """Returns why to stop after this epoch, if to stop."""
        predictions = losses.predictions(epoch.outputs, self._data.target).numpy()
        value = metrics.score(self._metric, self._data.val.target, predictions)
        if not (math.isfinite(epoch.train_loss) and np.isfinite(predictions).all()) or math.isinf(value):
            self._problem = TrainingDiverged(
                f"training diverged in epoch {self._n_epochs}: its loss is {epoch.train_loss}",
                remedy="A lower learning rate is the first thing to try.",
            )
            return "diverged"
        if math.isnan(value):
            self._problem = DataError(
                f"the validation rows leave `{self._metric.name}` undefined",
                remedy="Give validation more rows, or choose another objective.",
            )
            return "diverged"
        current = EpochReport(
            epoch=self._n_epochs - 1,
            value=value,
            metrics={
                "train_loss": epoch.train_loss,
                "val_loss": epoch.val_loss,
                "learning_rate": epoch.learning_rate,
                "epoch_seconds": epoch.seconds,
            },
        )
        self._history.append(current)
        if self._best is None or self._metric.better(value, self._best.value):
            self._best = current
            self._weights = {name: weight.detach().cpu().clone() for name, weight in self._network.state_dict().items()}
        if self._report(current):
            return "report"
        if epoch.is_last:
            return "deadline"
        if current.epoch - self._best.epoch >= self._patience:
            return "patience"
        return None

    def result(self) -> Fit:
        """Returns the training's end, with the best weights in the network."""
        if self._best is None:
            raise self._problem or RuntimeError("training ended without an epoch")
        network = self._network
        network.load_state_dict(self._weights)
        network.cpu().float().eval()
        # Scored once more as it will be used: in full precision, by the function that the predictor calls.
        val = self._data.val
        predictions = np.concatenate(
            [losses.forward(network, val.piece(i).inputs, self._data.target) for i in range(len(val.sizes))]
        )
        return Fit(
            network=network,
            predictions=predictions,
            value=metrics.score(self._metric, self._data.val.target, predictions),
            best_epoch=self._best.epoch,
            n_epochs=self._n_epochs,
            stopped=self._stopped,
            history=tuple(self._history),
        )


class _Fabric(Fabric):
    """Fabric without the callbacks that installed packages announce: none is called here, and to look takes 10 ms."""

    @staticmethod
    def _configure_callbacks(callbacks: Any) -> list[Any]:
        return []


@functools.cache
def _fabric(accelerator: str, precision: str) -> Fabric:
    """Returns what knows device and precision, once for all folds."""
    return _Fabric(accelerator=accelerator, devices=1, precision=precision)  # type: ignore[arg-type]  # Lightning lists its literals, and checks them


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Lightning's advice and advertisements off the terminal: nothing below the study prints."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        yield
