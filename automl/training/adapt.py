"""Training of a user's own LightningModule, which knows nothing of this package, by Lightning's own Trainer.

The module's steps, optimizers, schedules, callbacks and metrics are used as they are. What is added is one callback
that reports each epoch, keeps the best weights in memory and the training in a checkpoint, and ends it in time.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import multiprocessing
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl import architecture, decision, losses
from automl.components import Component, catalogue
from automl.errors import AutomlError, ModuleError, TrainingDiverged, did_you_mean
from automl.own_module import TRAITS, OwnModule, Says, as_x, evaluating, lightning_of
from automl.training.checkpoint import Checkpoint, Paused, State, random_state, set_random_state
from automl.training.fit import Ending, Fit, checked, quiet
from automl.training.loaders import Batches
from automl.values import (
    FULL,
    BlockSpec,
    Choice,
    Configuration,
    Direction,
    EpochReport,
    InputSpec,
    Metric,
    Part,
    PreparedData,
    ShardedPart,
    TargetSpec,
    TrainerSettings,
)

Report = Callable[[EpochReport], bool]
Score = Callable[[Mapping[str, float]], float]

#: What outputs of classes can be taken for, in words.
READ_AS = {
    Says.LOGITS: "logits",
    Says.PROBABILITIES: "probabilities",
    Says.CHANCES: "probabilities",
    Says.LABELS: "labels",
}


class Rows:
    """Rows of a table as Lightning's loaders give them: batches `(x, y)`.

    `x` is the tensor of the only block of the table after preprocessing, (batch, columns) of numbers or (batch,
    channels, height, width) of images; a dictionary of such by name where there are several. `y` are class positions
    as int64, or values in their own unit as float32; (batch,).
    """

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        for inputs, y in self.batches:
            yield as_x(inputs), y


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training of a module.

    Attributes:
        network: With the weights of the best epoch, in evaluation mode, on the CPU.
        value: The objective after that epoch.
        logged: What else the module logged then.
        inputs: Shape of one row of what it was fed with, as far as that is one tensor.
    """

    network: OwnModule
    value: float
    logged: Mapping[str, float]
    best_epoch: int
    n_epochs: int
    stopped: Ending
    history: tuple[EpochReport, ...]
    seconds_before: float
    inputs: InputSpec = field(default_factory=lambda: InputSpec({}))


def fit(
    configuration: Configuration,
    data: PreparedData,
    metric: Metric,
    settings: TrainerSettings,
    *,
    seed: int,
    report: Report,
    stop_at: float | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Returns a user's LightningModule trained on the rows of a table, at the epoch that did best.

    Arguments and result are those of `fit.fit`. Of a metric that the module logs itself, predictions are empty.

    Raises:
        ModuleError: The module raises, does not log the objective, or gives no outputs to compute it from.
        TrainingDiverged: The first epoch already gave an objective that is not finite.
        Paused, StorageError: As of `fit.fit`.
    """
    with quiet():
        looked_at = checked(data.val, seed)
        traits = catalogue("network")[configuration.network.name].traits

        def train(kept: State | None) -> Trained:
            network, rows, val = _of_table(configuration, data, seed)
            score = _score(network, looked_at, data.target, metric, traits)
            return _train(network, rows, val, None, score, metric.direction, settings,
                          seed=seed, report=report, stop_at=stop_at, checkpoint=checkpoint, kept=kept)  # fmt: skip

        trained = _gone_on(train, checkpoint)
        network, value, predictions = trained.network, trained.value, np.empty(0)
        _look(network, looked_at, data.target, traits)
        if metric.needs != "logged":
            predictions = _predictions(network, data.val, data.target)
            value = decision.score(metric, [data.val.target], [predictions])
    return Fit(
        network=network,
        predictions=predictions,
        value=value,
        best_epoch=trained.best_epoch,
        n_epochs=trained.n_epochs,
        n_planned=settings.max_epochs,
        stopped=trained.stopped,
        history=trained.history,
        seconds_before=trained.seconds_before,
        notes=_taken_for(network, configuration.network.name),
        logged=trained.logged,
    )


def fit_own_data(
    configuration: Configuration,
    data_module: Choice,
    objective: str,
    direction: Direction,
    settings: TrainerSettings,
    *,
    seed: int,
    report: Report,
    stop_at: float | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Returns a user's LightningModule trained on what a LightningDataModule gives, at the epoch that did best.

    Raises:
        ModuleError, TrainingDiverged, Paused, StorageError: As of `fit`.
    """
    with quiet():

        def train(kept: State | None) -> Trained:
            source = _data_module(data_module, configuration, seed)
            network = _built(configuration.network, InputSpec({}), 1, seed)
            trained = _train(network, None, None, source, partial(_logged, objective), direction, settings,
                             seed=seed, report=report, stop_at=stop_at, checkpoint=checkpoint, kept=kept)  # fmt: skip
            x = _first_x(source)
            if x is not None:
                trained.network.look_at(x)
            shape = {"x": BlockSpec("own", tuple(x.shape[1:]))} if isinstance(x, Tensor) else {}
            return replace(trained, inputs=InputSpec(shape))

        return _gone_on(train, checkpoint)


def retrain(
    configuration: Configuration,
    data: PreparedData,
    settings: TrainerSettings,
    *,
    seed: int,
    n_epochs: int,
    stop_at: float | None = None,
) -> OwnModule | None:
    """Returns what `fit.retrain` does, of a user's LightningModule: trained on all rows, with none to validate it."""
    with quiet():
        network, train, _ = _of_table(configuration, data, seed)
        deadline = math.inf if stop_at is None else stop_at

        def score(logged: Mapping[str, float]) -> float:
            return 0.0

        trained = _train(network, train, None, None, score, Direction.MINIMIZE,
                         replace(settings, max_epochs=n_epochs, patience=n_epochs), seed=seed,
                         report=lambda epoch: False, stop_at=stop_at, keeps_last=True)  # fmt: skip
        if trained.stopped == "deadline" or time.monotonic() >= deadline:
            return None
        _look(trained.network, data.train, data.target, catalogue("network")[configuration.network.name].traits)
    return trained.network


def attempt(
    configuration: Configuration,
    data: PreparedData | Choice,
    metric: Metric,
    *,
    seed: int,
) -> int:
    """Takes one batch through a module's training and validation, so that what is wrong is told before the first trial.

    Args:
        data: Rows, of which some suffice; or the LightningDataModule.

    Returns:
        Training rows of a LightningDataModule, as far as it tells; else 0.

    Raises:
        ModuleError: With what a trial would fail of.
    """
    settings = TrainerSettings(max_epochs=1, accelerator="cpu")

    def report(epoch: EpochReport) -> bool:
        return False

    with quiet():
        if isinstance(data, Choice):
            source = _data_module(data, configuration, seed)
            network = _built(configuration.network, InputSpec({}), 1, seed)
            with contextlib.suppress(TrainingDiverged):  # of one batch
                _train(network, None, None, source, partial(_logged, metric.name), metric.direction, settings,
                       seed=seed, report=report, n_batches=1)  # fmt: skip
            return _n_rows(source)
        network, train, val = _of_table(configuration, data, seed)
        traits = catalogue("network")[configuration.network.name].traits
        score = _score(network, data.val, data.target, metric, traits)
        with contextlib.suppress(TrainingDiverged):  # of one batch of a few rows
            _train(network, train, val, None, score, metric.direction, settings,
                   seed=seed, report=report, n_batches=1)  # fmt: skip
    return 0


def test(network: OwnModule, data_module: Choice, configuration: Configuration, *, seed: int) -> dict[str, float]:
    """Returns what a module logs of the test part of its LightningDataModule; empty where there is none.

    Args:
        seed: That of the training: a split that is drawn is then the same, and no test row was trained on.

    Raises:
        ModuleError: The module or its data raise.
    """
    with quiet():
        source = _data_module(data_module, configuration, seed)
        lightning = lightning_of(network.module)
        for owner, base, name in (
            (network.module, lightning.LightningModule, "test_step"),
            (source, lightning.LightningDataModule, "test_dataloader"),
        ):
            if getattr(type(owner), name) is getattr(base, name):
                return {}
        with _explained(network.module, source), tempfile.TemporaryDirectory() as scratch:
            trainer = _trainer(lightning, TrainerSettings(accelerator="cpu"), [], scratch)
            _seed(seed)  # `setup` draws as it did before the training
            trainer.test(network.module, datamodule=source, verbose=False)
        return _numbers(trainer)


# --- what it is trained on ---------------------------------------------------------------------------------------


def _of_table(configuration: Configuration, data: PreparedData, seed: int) -> tuple[OwnModule, Rows, Rows]:
    """Returns the module with fresh weights, and the rows of training and validation."""
    network = _built(configuration.network, data.inputs, data.target.n_outputs, seed)
    as_they_are = [replace(part, mean=0.0, scale=1.0) for part in data.target.parts]
    unit = replace(data.target, mean=0.0, scale=1.0, parts=tuple(as_they_are))  # nobody tells it another unit
    size = max(data.train.sizes) if configuration.batch_size == FULL else int(configuration.batch_size)
    return network, Rows(Batches(data.train, unit, size, seed=seed)), Rows(Batches(data.val, unit, size))


def _built(choice: Choice, inputs: InputSpec, n_outputs: int, seed: int) -> OwnModule:
    component = catalogue("network")[choice.name]
    with _explained(component.factory):
        _seed(seed)
        network = architecture.build(choice, inputs, n_outputs)
    assert isinstance(network, OwnModule)
    return network


def _seed(seed: int) -> None:
    import pytorch_lightning as pl

    pl.seed_everything(seed, workers=True, verbose=False)


def _data_module(choice: Choice, configuration: Configuration, seed: int) -> Any:
    """Returns a user's LightningDataModule, which is told the batch size that was chosen if it takes one."""
    component: Component = catalogue("source")[choice.name]
    given = dict(choice.params)
    if "batch_size" in component.hyperparameters and configuration.batch_size != FULL:
        given.setdefault("batch_size", configuration.batch_size)
    with _explained(component.factory):
        _seed(seed)
        return component.factory(**given)


def _first_x(source: Any) -> Any:
    """Returns the rows of the first batch that a LightningDataModule gives, None where there are none to be seen."""
    loaders = source.val_dataloader() if "val_dataloader" in vars(type(source)) else source.train_dataloader()
    try:
        batch = next(iter(loaders[0] if isinstance(loaders, (list, tuple)) else loaders))
    except (StopIteration, TypeError, LookupError):
        return None
    batch = batch[0] if isinstance(batch, (list, tuple)) else batch
    return batch if isinstance(batch, Tensor) else None


def _n_rows(source: Any) -> int:
    try:
        return len(source.train_dataloader().dataset)
    except Exception:  # whatever it is, it does not tell
        return 0


# --- the objective -----------------------------------------------------------------------------------------------


def _logged(objective: str, logged: Mapping[str, float]) -> float:
    """Returns the objective among what a module logged."""
    if objective in logged:
        return logged[objective]
    names = ", ".join(f"`{name}`" for name in sorted(logged)) or "nothing"
    raise ModuleError(
        f"the module never logged `{objective}`; it logged {names}",
        where="objective",
        remedy=did_you_mean(objective, sorted(logged)) or f'Log it once an epoch: self.log("{objective}", value).',
    )


def _score(
    network: OwnModule, val: Part | ShardedPart, target: TargetSpec, metric: Metric, traits: frozenset[str]
) -> Score:
    """Returns what tells the objective after an epoch, of what the module logged or says of validation rows."""
    if metric.needs == "logged":
        return partial(_logged, metric.name)
    return partial(_computed, network, val, target, metric, traits)


def _computed(
    network: OwnModule,
    val: Part | ShardedPart,
    target: TargetSpec,
    metric: Metric,
    traits: frozenset[str],
    logged: Mapping[str, float],
) -> float:
    """Returns the objective computed of what a module says of validation rows."""
    if problem := _look(network, val, target, traits):
        raise ModuleError(
            f"`{metric.name}` cannot be computed of what `{type(network.module).__name__}` says: {problem}",
            where="objective",
            remedy="Name a metric that it logs, with its `direction`.",
        )
    with evaluating(network):
        predictions = _predictions(network, val, target)
    return decision.score(metric, [val.target], [predictions])


def _look(network: OwnModule, part: Part | ShardedPart, target: TargetSpec, traits: frozenset[str]) -> str:
    """Returns why outputs of a part's rows cannot be read as those of the target; empty where they can."""
    x, _ = Batches(part, target, losses.EVALUATION_BATCH_SIZE).sample(losses.EVALUATION_BATCH_SIZE, 0)
    return network.look_at(as_x(x), target=target, traits=traits)


def _taken_for(network: OwnModule, name: str) -> tuple[str, ...]:
    """Returns a sentence about how outputs are read, where they could be read otherwise."""
    if network.says not in READ_AS or catalogue("network")[name].traits & set(TRAITS):
        return ()
    return (f"the outputs of `{name}` were taken for {READ_AS[network.says]}; a plug-in can say what they are",)


def _predictions(network: OwnModule, part: Part | ShardedPart, target: TargetSpec) -> NDArray[np.float64]:
    """Returns probabilities (rows, classes) or values (rows,) of the rows of a part."""
    pieces = (part.piece(number) for number in range(len(part.sizes)))
    return np.concatenate([losses.forward(network, piece.inputs, target) for piece in pieces])


# --- training ----------------------------------------------------------------------------------------------------


class _Changed(Exception):
    """What was kept of a training does not fit the module: its code has changed since."""


def _gone_on(train: Callable[[State | None], Trained], checkpoint: Checkpoint | None) -> Trained:
    """Returns a training that went on from where it was kept; that was begun anew where the code has changed since."""
    kept = None if checkpoint is None else checkpoint.load()
    if kept is not None:
        with contextlib.suppress(_Changed):
            return train(kept)
    return train(None)


def _train(
    network: OwnModule,
    train: Rows | None,
    val: Rows | None,
    source: Any,
    score: Score,
    direction: Direction,
    settings: TrainerSettings,
    *,
    seed: int,
    report: Report,
    stop_at: float | None = None,
    checkpoint: Checkpoint | None = None,
    kept: State | None = None,
    n_batches: int | None = None,
    keeps_last: bool = False,
) -> Trained:
    """Returns a trained module; of its own LightningDataModule `source`, or of rows.

    Raises:
        _Changed: It cannot go on from what was `kept`.
    """
    lightning = lightning_of(network.module)
    generators = [] if train is None or train.batches.generator is None else [train.batches.generator]
    deadline = math.inf if stop_at is None else stop_at
    watch = _Watch(network, score, direction, settings.patience, report, deadline, checkpoint, generators, keeps_last)
    if kept is not None and kept["ended"]:
        with _fitting():
            network.load_state_dict(kept["watch"]["weights"])
        watch.resume(kept["watch"])
    else:
        watch.going_on = kept
        # As a callback that keeps checkpoints it is called last, when all has been logged.
        callback = type("Watching", (_Callback, lightning.callbacks.Checkpoint), {})()
        callback.watch = watch
        with _explained(network.module, source), _with_children(), tempfile.TemporaryDirectory() as scratch:
            trainer = _trainer(lightning, settings, [callback], scratch, n_batches)
            if source is not None:
                _seed(seed)  # `setup` draws alike after whichever network's weights, and before the test
                trainer.fit(network.module, datamodule=source)
            else:
                trainer.fit(network.module, train, val)
        if checkpoint is not None and watch.ended_by_itself:
            checkpoint.epoch_ended(lambda: {"watch": watch.state(), "ended": True}, is_last=True)
    return watch.result()


def _trainer(
    lightning: Any, settings: TrainerSettings, callbacks: list[Any], scratch: str, n_batches: int | None = None
) -> Any:
    """Returns a Trainer that prints nothing and leaves nothing behind."""
    trainer = lightning.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=1,
        precision=settings.precision,
        callbacks=callbacks,
        # Modules draw into their logger: into one that keeps nothing. What they log is read from the Trainer.
        logger=lightning.loggers.logger.DummyLogger(),
        default_root_dir=scratch,
        limit_train_batches=n_batches,
        limit_val_batches=n_batches,
        enable_checkpointing=bool(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    # Who ends a trial is the launcher, which gives it a time of grace; Lightning would take the signal for itself.
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


class _Callback:
    """What Lightning calls; all is done by a `_Watch`."""

    watch: _Watch

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.watch.began(trainer)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.watch.epoch_begins(trainer)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.watch.batch_ended(trainer, batch_idx)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.watch.epoch_ended(trainer)


class _Watch:
    """Scores every epoch, keeps the best weights and the training, and decides when it ends.

    Args:
        patience: Epochs without a better score after which training ends.
        deadline: `time.monotonic()` by which it ends.
        generators: What batches are drawn with.
        keeps_last: Whether the last weights are wanted, and not the best.
    """

    def __init__(
        self,
        network: OwnModule,
        score: Score,
        direction: Direction,
        patience: int,
        report: Report,
        deadline: float,
        checkpoint: Checkpoint | None,
        generators: Sequence[torch.Generator],
        keeps_last: bool,
    ) -> None:
        self._network = network
        self._score = score
        self._sign = 1.0 if direction is Direction.MINIMIZE else -1.0
        self._patience = patience
        self._report = report
        self._deadline = deadline
        self._checkpoint = checkpoint
        self._generators = generators
        self._keeps_last = keeps_last
        self.going_on: State | None = None
        self._stopped: Ending = "max_epochs"
        self._problem: AutomlError | None = None
        self._history: list[EpochReport] = []
        self._best: EpochReport | None = None
        self._logged: Mapping[str, float] = {}
        self._weights: dict[str, Tensor] = {}
        self._n_epochs = 0
        self._seconds_before = 0.0
        self._epoch_began = self._trained = 0.0
        self._rate: dict[str, float] = {}  # of the first optimizer, as an epoch begins
        self._reserve = 0.0  # seconds that validation takes, once one has been seen

    # --- what Lightning calls --------------------------------------------------------------------------------------

    def began(self, trainer: Any) -> None:
        """Puts everything where it was, if the training was cut off."""
        if self.going_on is None:
            return
        with _fitting():
            self._put_back(trainer, self.going_on)
        self.resume(self.going_on["watch"])

    def _put_back(self, trainer: Any, kept: State) -> None:
        self._network.load_state_dict(kept["network"])
        for optimizer, state in zip(trainer.optimizers, kept["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        for config, state in zip(trainer.lr_scheduler_configs, kept["schedules"], strict=True):
            config.scheduler.load_state_dict(state)
        trainer.precision_plugin.load_state_dict(kept["precision"])
        trainer.fit_loop.load_state_dict(kept["loops"])
        trainer.fit_loop.restarting = False  # nothing is half done: an epoch begins
        trainer.fit_loop._resuming_from_checkpoint = False  # with batches that are drawn once generators are back
        for callback in trainer.callbacks:
            if callback.state_key in kept["callbacks"]:
                callback.load_state_dict(kept["callbacks"][callback.state_key])
        self._network.module.on_load_checkpoint({"state_dict": self._network.module.state_dict(), **kept["module"]})

    def epoch_begins(self, trainer: Any) -> None:
        """Keeps the training between two epochs, when nothing is half done."""
        if self.going_on is not None:
            for generator, state in zip(self._generators, self.going_on["generators"], strict=True):
                generator.set_state(state)
            set_random_state(self.going_on["random"])
            self.going_on = None
        elif self._checkpoint is not None and self._n_epochs:
            self._checkpoint.epoch_ended(partial(self._state, trainer))
        rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._rate = {"learning_rate": rates[0]} if rates else {}
        self._epoch_began = time.monotonic()

    def batch_ended(self, trainer: Any, batch_idx: int) -> None:
        """Ends training when what is left is needed for validation."""
        self._trained = now = time.monotonic()
        n_val = sum(n for n in _flat(trainer.num_val_batches) if math.isfinite(n))
        reserve = self._reserve or (now - self._epoch_began) * n_val / (batch_idx + 1)
        if now + 2 * reserve >= self._deadline:  # the rows are scored once more in the end
            self._stopped, trainer.should_stop = "deadline", True

    def epoch_ended(self, trainer: Any) -> None:
        """Scores the epoch."""
        self._n_epochs += 1
        now = time.monotonic()
        self._reserve = now - max(self._trained, self._epoch_began)
        ending = self._judge(_numbers(trainer), now - self._epoch_began)
        if ending is not None:
            self._stopped, trainer.should_stop = ending, True

    def _judge(self, logged: Mapping[str, float], seconds: float) -> Ending | None:
        """Returns why to stop after this epoch, if to stop."""
        read_as = self._network.says
        value = self._score(logged)
        lost = next((name for name, p in self._network.named_parameters() if not bool(p.isfinite().all())), None)
        if not math.isfinite(value) or lost is not None:
            what = f"the objective was {value}" if lost is None else f"the weights `{lost}` were not finite"
            self._problem = TrainingDiverged(
                f"{what} after epoch {self._n_epochs}",
                remedy="A lower learning rate is the first thing to try.",
            )
            return "diverged"
        numbers = {name: number for name, number in logged.items() if math.isfinite(number)}
        current = EpochReport(
            step=len(self._history),
            value=value,
            metrics={**self._rate, **numbers, "epoch_seconds": seconds},
            epoch=self._n_epochs - 1,
        )
        self._history.append(current)
        if read_as not in (Says.NOTHING, self._network.says):  # what was scored before was read as what it is not
            self._best = None
        if self._best is None or self._keeps_last or self._sign * value < self._sign * self._best.value:
            self._best, self._logged = current, numbers
            self._weights = _copied(self._network)
        if self._report(current):
            return "report"
        if self._stopped == "deadline" or time.monotonic() + self._reserve >= self._deadline:
            return "deadline"
        return "patience" if current.step - self._best.step >= self._patience else None

    # --- what is kept ----------------------------------------------------------------------------------------------

    @property
    def ended_by_itself(self) -> bool:
        """Whether training ended for a reason of its own."""
        return self._stopped in ("max_epochs", "patience")

    def _state(self, trainer: Any) -> dict[str, Any]:
        of_module: dict[str, Any] = {"state_dict": {}}
        self._network.module.on_save_checkpoint(of_module)
        return {
            "network": self._network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "schedules": [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs],
            "precision": trainer.precision_plugin.state_dict(),
            "loops": trainer.fit_loop.state_dict(),
            "callbacks": {one.state_key: state for one in trainer.callbacks if (state := one.state_dict())},
            "module": {name: value for name, value in of_module.items() if name != "state_dict"},
            "generators": [generator.get_state() for generator in self._generators],
            "random": random_state(),
            "watch": self.state(),
            "ended": False,
        }

    def state(self) -> dict[str, Any]:
        """Returns what `resume` takes."""
        return {
            "history": [asdict(epoch) for epoch in self._history],
            "best": None if self._best is None else self._best.step,
            "logged": dict(self._logged),
            "weights": self._weights,
            "n_epochs": self._n_epochs,
            "stopped": self._stopped,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on with what `state` returned; reports again what was reported, since nobody may have heard it."""
        self._history = [EpochReport(**epoch) for epoch in state["history"]]
        self._best = None if state["best"] is None else self._history[state["best"]]
        self._logged, self._weights = state["logged"], state["weights"]
        self._n_epochs, self._stopped = state["n_epochs"], state["stopped"]
        for epoch in self._history:
            self._report(epoch)
        self._seconds_before = sum(epoch.metrics["epoch_seconds"] for epoch in self._history)

    def result(self) -> Trained:
        """Returns the training's end, with the best weights in the module."""
        if self._best is None:
            what = "the module was not trained for a single epoch: there was no time, or no batch"
            raise self._problem or ModuleError(what)
        self._network.load_state_dict(self._weights)
        self._network.cpu().eval()
        self._network.module.float()
        return Trained(
            network=self._network,
            value=self._best.value,
            logged=self._logged,
            best_epoch=self._best.epoch,
            n_epochs=self._n_epochs,
            stopped=self._stopped,
            history=tuple(self._history),
            seconds_before=self._seconds_before,
        )


def _copied(network: OwnModule) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()}


def _numbers(trainer: Any) -> dict[str, float]:
    """Returns what a module has logged, by name."""
    return {str(name): float(value) for name, value in trainer.callback_metrics.items()}


def _flat(numbers: Any) -> list[float]:
    return [float(number) for number in (numbers if isinstance(numbers, (list, tuple)) else [numbers])]


# --- around it ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _fitting() -> Iterator[None]:
    """Turns what is raised where a module, or what it is trained by, is not what was kept."""
    try:
        yield
    except Exception as error:  # whatever the module's own code makes of it
        raise _Changed from error


@contextlib.contextmanager
def _with_children() -> Iterator[None]:
    """Lets a process that ends with its launcher have children: those of a DataLoader, which end with it."""
    settings: Any = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    before = settings.get("daemon")
    settings["daemon"] = False
    try:
        yield
    finally:
        settings["daemon"] = before


@contextlib.contextmanager
def _explained(*owners: Any) -> Iterator[None]:
    """Turns what a user's own code raises into a sentence with its file and line; what it prints is no result."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (AutomlError, Paused, MemoryError, _Changed):
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and "memory" in str(error):  # torch says so; it is told as that
            raise
        file, line, function = _place(error, owners)
        message = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0].rstrip('.') or 'no message'}"
        what = f"`{function}` raises {message}" if function else message
        raise ModuleError(what, where=f"{file}:{line}" if file else "") from error


def _place(error: BaseException, owners: Sequence[Any]) -> tuple[str, int, str]:
    """Returns file, line and function of the user's code where an error came from; empty where it was not there."""
    files = set()
    for owner in owners:
        kind = owner if inspect.isclass(owner) else type(owner)
        for each in kind.__mro__:
            with contextlib.suppress(TypeError, OSError):
                found = inspect.getsourcefile(each)
                if found and not each.__module__.startswith(("torch.", "pytorch_lightning.", "lightning.", "automl.")):
                    files.add(found)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    if not frames:
        return "", 0, ""
    last = frames[-1]
    path = Path(last.filename)
    shown = os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    return shown, last.lineno or 0, last.name
