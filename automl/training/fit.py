"""Training: a configuration and prepared data become a network. The only place that builds a Trainer."""

from __future__ import annotations

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
from numpy.typing import NDArray
from torch import Tensor, nn

from automl import losses, metrics
from automl.components import catalogue
from automl.errors import DataError, TrainingDiverged
from automl.training.loaders import Batches
from automl.training.module import SupervisedModule
from automl.values import Configuration, EpochReport, Metric, PreparedData, TrainerSettings

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
        stop_at: `time.monotonic()` after which training stops at the next batch. The epoch that this cuts short is
            scored like any other, so that there always is a score.

    Raises:
        TrainingDiverged: The first epoch already gave numbers that are not finite.
        DataError: The validation rows leave the metric undefined.
    """
    pl.seed_everything(seed, verbose=False)
    network = catalogue("network").build(configuration.network, data.inputs, data.target.n_outputs)
    loss = catalogue("loss").build(configuration.loss, data.target)
    train = Batches(data.train, data.target, configuration.batch_size, seed=seed)
    val = Batches(data.val, data.target, losses.EVALUATION_BATCH_SIZE)
    n_steps = settings.max_epochs * len(train)
    module = SupervisedModule(network, loss, configuration.optimizer, configuration.schedule, n_steps)
    watch = _Watch(data, metric, settings.patience, report, stop_at)
    with _quiet():
        trainer = pl.Trainer(
            max_epochs=settings.max_epochs,
            accelerator=settings.accelerator,
            devices=1,
            precision=settings.precision,  # type: ignore[arg-type]  # Lightning lists its literals, and checks them
            callbacks=[watch],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(module, train, val)
    return watch.result(network)


class _Watch(pl.Callback):
    """Scores every epoch, keeps the best weights and decides when training ends.

    One callback and not four of Lightning's: they decide on one another's numbers, and in this order. It never
    raises within the loop: Lightning takes any exception for an interrupt.
    """

    def __init__(
        self,
        data: PreparedData,
        metric: Metric,
        patience: int,
        report: Callable[[EpochReport], bool],
        stop_at: float | None,
    ) -> None:
        self._data = data
        self._metric = metric
        self._patience = patience
        self._report = report
        self._stop_at = math.inf if stop_at is None else stop_at
        self._stopped: Ending = "max_epochs"
        self._problem: DataError | TrainingDiverged | None = None
        self._history: list[EpochReport] = []
        self._best: EpochReport | None = None
        self._weights: dict[str, Tensor] = {}
        self._n_epochs = 0
        self._started = 0.0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._n_epochs += 1
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if time.monotonic() >= self._stop_at:
            trainer.should_stop = True  # Lightning then validates, and ends the epoch here

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, SupervisedModule)
        ending = self._after_epoch(pl_module, learning_rate=trainer.optimizers[0].param_groups[0]["lr"])
        if ending is not None:
            self._stopped = ending
            trainer.should_stop = True

    def _after_epoch(self, module: SupervisedModule, learning_rate: float) -> Ending | None:
        """Returns why to stop after this epoch, if to stop."""
        predictions = losses.predictions(module.outputs, self._data.target).numpy()
        value = metrics.score(self._metric, self._data.val.target, predictions)
        if not (math.isfinite(module.train_loss) and np.isfinite(predictions).all()) or math.isinf(value):
            self._problem = TrainingDiverged(
                f"training diverged in epoch {self._n_epochs}: its loss is {module.train_loss}",
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
                "train_loss": module.train_loss,
                "val_loss": module.val_loss,
                "learning_rate": learning_rate,
                "epoch_seconds": time.monotonic() - self._started,
            },
        )
        self._history.append(current)
        if self._best is None or self._metric.better(value, self._best.value):
            self._best = current
            self._weights = {
                name: weight.detach().cpu().clone() for name, weight in module.network.state_dict().items()
            }
        if self._report(current):
            return "report"
        if time.monotonic() >= self._stop_at:
            return "deadline"
        if current.epoch - self._best.epoch >= self._patience:
            return "patience"
        return None

    def result(self, network: nn.Module) -> Fit:
        """Returns the training's end, with the best weights in `network`."""
        if self._best is None:
            raise self._problem or RuntimeError("training ended without an epoch")
        network.load_state_dict(self._weights)
        network.cpu().float().eval()
        # Scored once more as it will be used: in full precision, by the function that the predictor calls.
        predictions = losses.forward(network, self._data.val.inputs, self._data.target)
        return Fit(
            network=network,
            predictions=predictions,
            value=metrics.score(self._metric, self._data.val.target, predictions),
            best_epoch=self._best.epoch,
            n_epochs=self._n_epochs,
            stopped=self._stopped,
            history=tuple(self._history),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Lightning's advice and advertisements off the terminal: nothing below the study prints."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        yield
