"""Training: a configuration and prepared data become a network. The only place that drives Lightning."""

from __future__ import annotations

import functools
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import nn

from automl import architecture, decision, losses
from automl.components import catalogue
from automl.errors import ConfigError, DataError, ResourceError, TrainingDiverged
from automl.optimizers import FIND
from automl.training.checkpoint import Checkpoint, State
from automl.training.course import Course, Ending
from automl.training.footprint import TRIED_ROWS, training_bytes
from automl.training.loaders import Batches
from automl.training.loop import Check, Loop
from automl.training.module import SupervisedModule
from automl.training.rate_finder import find_rate
from automl.values import (
    FULL,
    Choice,
    Configuration,
    EpochReport,
    Metric,
    Part,
    PreparedData,
    ShardedPart,
    TrainerSettings,
)

#: Validation rows that say how training goes, where there are more; in the end all are scored.
CHECKED_ROWS = 20_000
#: Rows that a network may look at before it is trained.
PRETRAIN_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Fit:
    """A finished training.

    Attributes:
        network: With the weights of the best epoch, in evaluation mode, on the CPU.
        predictions: Of this network for the validation rows: probabilities (rows, classes) or values (rows,).
        value: The objective of these predictions.
        best_epoch: Counted from 0.
        n_epochs: Epochs that were begun.
        n_planned: Epochs that the schedule was made for.
        stopped: What ended the training; `diverged` when numbers ceased to be finite after a good epoch.
        history: One report for each epoch that has a score.
        seconds_before: Of training that was cut off and gone on from.
        notes: Sentences about what was decided on the way.
        logged: What a LightningModule of the user's logged after the best epoch.
    """

    network: nn.Module
    predictions: NDArray[np.float64]
    value: float
    best_epoch: int
    n_epochs: int
    n_planned: int
    stopped: Ending
    history: tuple[EpochReport, ...]
    seconds_before: float = 0.0
    notes: tuple[str, ...] = ()
    logged: Mapping[str, float] = field(default_factory=dict)


def fit(
    configuration: Configuration,
    data: PreparedData,
    metric: Metric,
    settings: TrainerSettings,
    *,
    seed: int,
    report: Callable[[EpochReport], bool],
    stop_at: float | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Returns a network trained on the training rows, at the epoch that did best on the validation rows.

    Equal arguments give equal results on one CPU thread.

    Args:
        configuration: What to train how; preprocessing has been done.
        data: The rows.
        metric: What decides which epoch is best, and when patience ends.
        settings: What is not searched.
        seed: Of initial weights, dropout, augmentation and the order of rows.
        report: Called after each epoch; returns whether to stop now.
        stop_at: `time.monotonic()` by which training ends. The epoch that this cuts short is scored like any other, for
            which time is left, so that there always is a score. Where it leaves no time for all epochs, schedules end
            where training will, as far as the steps so far can tell.
        checkpoint: Where training is kept as it goes on, and gone on from if it was kept there. What was reported
            before is reported again, since nobody may have heard it. Without a time to stop at, all comes out as if
            training had never been cut off.

    A network with a method `pretrain(inputs, *, seed, deadline)` is given training rows before the first epoch: block
    name -> tensor, at most `PRETRAIN_ROWS` rows, on the device. It is to be done by the `deadline`, a
    `time.monotonic()` at most a third of the time away, or infinity.

    Raises:
        ConfigError: A batch of one row meets a normalisation over the batch.
        ResourceError: It would take more memory than it may.
        TrainingDiverged: The first epoch already gave numbers that are not finite.
        DataError: The validation rows leave the metric undefined.
        Paused: The checkpoint was asked to end training.
        StorageError: The checkpoint cannot be written.
    """
    with quiet():
        looked_at = checked(data.val, seed)
        kept = None if checkpoint is None else checkpoint.load()
        deadline = math.inf if stop_at is None else stop_at

        def begin(kept: State | None) -> tuple[Loop, tuple[str, ...], Course]:
            loop, notes = _begin(configuration, data, looked_at, settings, seed, deadline, kept)
            course = Course(metric.direction, settings.patience * loop.checks_an_epoch, report)
            if kept is not None:
                course.resume(kept["course"])
            return loop, notes, course

        try:
            loop, notes, course = begin(kept)
        except (LookupError, RuntimeError, TypeError, ValueError):
            if kept is None:
                raise
            kept = None  # the code has changed since
            loop, notes, course = begin(None)
        watch = _Watch(data, looked_at.target, metric, loop.network, course)
        ended = kept is not None and kept["ended"]
        while not ended:
            ended = watch.after(loop.check()) or loop.n_epochs >= settings.max_epochs
            # What ended before its time is not kept as an end: whoever goes on with it may have more.
            if checkpoint is not None and not course.was_cut_short and (ended or loop.is_between_epochs):
                checkpoint.epoch_ended(partial(_state, loop, course, notes, ended), is_last=ended)
    return replace(watch.result(), n_planned=max(1, round(loop.n_planned / len(loop.train))), notes=notes)


def _state(loop: Loop, course: Course, notes: tuple[str, ...], ended: bool) -> State:
    """Returns what is kept of a training; of one that has ended, not what is needed to go on."""
    how_far = {"n_planned": loop.n_planned} if ended else loop.state()
    return {"loop": how_far, "course": course.state(), "notes": list(notes), "ended": ended}


def retrain(
    configuration: Configuration,
    data: PreparedData,
    settings: TrainerSettings,
    *,
    seed: int,
    n_epochs: int,
    stop_at: float | None = None,
) -> nn.Module | None:
    """Returns a network trained for some epochs on rows of which none are left to validate it; None if time ran out.

    Args:
        configuration: What to train how; preprocessing has been done.
        data: The rows; the validation part is not looked at.
        settings: What is not searched. The schedule is made for its `max_epochs`.
        seed: Of initial weights, dropout, augmentation and the order of rows.
        n_epochs: After which the network is taken.
        stop_at: `time.monotonic()` after which no epoch begins.
    """
    with quiet():
        loop, _ = _begin(configuration, data, data.val, replace(settings, checks_an_epoch=1), seed, math.inf, None)
        for _ in range(n_epochs):
            if stop_at is not None and time.monotonic() >= stop_at:
                return None
            network = loop.train_epoch()
    network.cpu().float().eval()
    return network


def _begin(
    configuration: Configuration,
    data: PreparedData,
    checked: Part | ShardedPart,
    settings: TrainerSettings,
    seed: int,
    deadline: float,
    kept: State | None,
) -> tuple[Loop, tuple[str, ...]]:
    """Returns what trains, before its first epoch or where it was kept, and sentences about what was decided."""
    pl.seed_everything(seed, verbose=False)
    fabric = _fabric(settings.accelerator, settings.precision)
    network = architecture.build(configuration.network, data.inputs, data.target.n_outputs, configuration.domain)
    balancing = catalogue("balancing").build(configuration.balancing, data.target, network)
    loss = fabric.to_device(losses.build(configuration.loss, data.target, balancing))
    batch_size = _batch_size(configuration, data, network)
    draw = catalogue("batches").build(configuration.batches)
    drawn = partial(Batches, data.train, data.target, batch_size, seed=seed, draw=draw, device=fabric.device)
    train = drawn()
    _check_memory(network, train, batch_size, settings.memory)
    val = Batches(checked, data.target, losses.EVALUATION_BATCH_SIZE, device=fabric.device)
    n_steps = settings.max_epochs * len(train)
    wrap = functools.cache(partial(_wrapped, fabric, settings.precision))
    trained = wrap(network)
    pretrain: Any = getattr(network, "pretrain", None)
    if pretrain is not None and kept is None:
        inputs, _ = train.sample(PRETRAIN_ROWS, seed)
        now = time.monotonic()
        pretrain(inputs, seed=seed, deadline=now + (deadline - now) / 3)
    optimizer, notes = configuration.optimizer, tuple[str, ...]()
    if _rate(optimizer) == FIND:
        found = None
        if kept is None:  # else the rate is kept with the optimizer
            plain = fabric.to_device(losses.build(configuration.loss, data.target))  # the other one learns, too
            found = find_rate(
                network, plain, optimizer, drawn(),
                fabric=fabric, wrap=wrap, n_steps=n_steps, seed=seed, deadline=deadline,
            )  # fmt: skip
        rate = found or _rate(Choice(optimizer.name))
        optimizer = replace(optimizer, params={**optimizer.params, "lr": rate})
        notes = (f"learning rate {'found' if found else 'not found, the usual one taken'}: {rate:.2g}",)
    generator = torch.Generator().manual_seed(seed)
    augmentation = catalogue("augmentation").build(configuration.augmentation, data.inputs, generator)
    module = SupervisedModule(trained, loss, optimizer, configuration.schedule, n_steps, augmentation)
    loop = Loop(
        fabric,
        module,
        train,
        val,
        configuration,
        deadline,
        n_val=sum(data.val.sizes),
        n_steps=n_steps,
        checks_an_epoch=settings.checks_an_epoch,
        network=network,
        wrap=wrap,
        generators=[generator, *([] if train.generator is None else [train.generator])],
    )
    if kept is None:
        return loop, notes
    if kept["ended"]:
        loop.n_planned = kept["loop"]["n_planned"]
    else:
        loop.resume(kept["loop"])
    return loop, tuple(kept["notes"])


def checked(val: Part | ShardedPart, seed: int) -> Part | ShardedPart:
    """Returns the validation rows that are looked at while training goes on: all, or a part of very many."""
    if sum(val.sizes) <= CHECKED_ROWS:
        return val
    part = val.piece(0)  # pieces are fair samples
    n_rows = len(part.target)
    rows = np.sort(np.random.default_rng(seed).choice(n_rows, min(n_rows, CHECKED_ROWS), replace=False))
    return Part({name: block[rows] for name, block in part.inputs.items()}, part.target[rows])


def _check_memory(network: nn.Module, train: Batches, batch_size: int, limit: int | None) -> None:
    """Checks that there is memory for a training, before it takes it."""
    if limit is None:
        return
    inputs, _ = train.sample(TRIED_ROWS, 0)
    needed = training_bytes(network, inputs, min(batch_size, train.n_rows))
    if needed > limit:
        raise ResourceError(
            f"training would take about {needed / 1e6:,.0f} MB beside the data, of {limit / 1e6:,.0f} MB",
            remedy="Smaller batches and a smaller network take less.",
        )


def _batch_size(configuration: Configuration, data: PreparedData, network: nn.Module) -> int:
    """Returns the rows of a step: what the optimizer is made for, or what was chosen."""
    traits = catalogue("optimizer")[configuration.optimizer.name].traits
    size = max(data.train.sizes) if configuration.batch_size == FULL else int(configuration.batch_size)
    size = max(data.train.sizes) if "full_batch" in traits else 1 if "single_row" in traits else size
    if size == 1 and any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise ConfigError(
            "nothing can be normalised over a batch of one row",
            remedy="Choose larger batches, or a network without batch normalisation.",
        )
    return size


def _rate(optimizer: Choice) -> Any:
    """Returns the learning rate of a choice, a number or `FIND`."""
    known = catalogue("optimizer")[optimizer.name].hyperparameters
    return optimizer.params.get("lr", known["lr"].default if "lr" in known else None)


def _wrapped(fabric: Fabric, precision: str, network: nn.Module) -> nn.Module:
    """Returns what computes in a precision, of a network that is moved to the device."""
    prepared: nn.Module = fabric.setup_module(network)
    # Fabric's wrapper casts; in full precision that is nothing, for a quarter of a small network's forward.
    return network if precision == "32-true" else prepared


class _Watch:
    """Scores every check, and says what the training comes to.

    Args:
        y_checked: Target of the rows that a check looks at; (rows,).
        network: What is trained.
    """

    def __init__(
        self, data: PreparedData, y_checked: NDArray[Any], metric: Metric, network: nn.Module, course: Course
    ) -> None:
        self._data = data
        self._metric = metric
        self._y_checked = y_checked
        self._network = network
        self._course = course
        self._problem: DataError | TrainingDiverged | None = None

    def after(self, check: Check) -> bool:
        """Returns whether to stop after this check."""
        self._course.n_epochs = check.epoch + 1
        ending = self._judge(check)
        self._course.stopped = ending or self._course.stopped
        return ending is not None

    def _judge(self, check: Check) -> Ending | None:
        """Returns why to stop after this check, if to stop."""
        predictions = losses.predictions(check.outputs, self._data.target).numpy()
        value = decision.score(self._metric, [self._y_checked], [predictions])
        if not (math.isfinite(check.train_loss) and np.isfinite(predictions).all()) or math.isinf(value):
            self._problem = TrainingDiverged(
                f"training diverged in epoch {self._course.n_epochs}: its loss is {check.train_loss}",
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
            step=len(self._course.history),
            value=value,
            metrics={
                "train_loss": check.train_loss,
                "val_loss": check.val_loss,
                "learning_rate": check.learning_rate,
                "epoch_seconds": check.seconds,
            },
            epoch=check.epoch,
        )
        return self._course.take(current, check.network, is_last=check.is_last)

    def result(self) -> Fit:
        """Returns the training's end, with the best weights in the network."""
        course = self._course
        if course.best is None:
            raise self._problem or RuntimeError("training ended without an epoch")
        network = self._network
        network.load_state_dict(course.weights)
        network.cpu().float().eval()
        # Scored once more as it will be used: in full precision, by the function that the predictor calls.
        val = self._data.val
        predictions = np.concatenate(
            [losses.forward(network, val.piece(i).inputs, self._data.target) for i in range(len(val.sizes))]
        )
        return Fit(
            network=network,
            predictions=predictions,
            value=decision.score(self._metric, [val.target], [predictions]),
            best_epoch=course.best.epoch,
            n_epochs=course.n_epochs,
            n_planned=course.n_epochs,
            stopped=course.stopped,
            history=tuple(course.history),
            seconds_before=course.seconds_before,
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
def quiet() -> Iterator[None]:
    """Keeps Lightning's advice and advertisements off the terminal: nothing below the study prints."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"pytorch_lightning|lightning_fabric")
        yield
