"""Watches a user's LightningModule as Lightning trains it: scores epochs, keeps the best weights, ends it in time."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Any

import torch

from automl.errors import AutomlError, ModuleError, TrainingDiverged
from automl.own_module import OwnModule, Says
from automl.training import ranks
from automl.training.checkpoint import Checkpoint, State, random_state, set_random_state
from automl.training.course import Course, Ending
from automl.values import EpochReport, InputSpec

Score = Callable[[Mapping[str, float]], float]


class Changed(Exception):
    """What was kept of a training does not fit the module: its code has changed since."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished training of a module.

    Attributes:
        value: The objective after the best epoch.
        logged: What else the module logged then.
        inputs: Shape of one row of what it was fed with, as far as that is one tensor.
    """

    value: float
    logged: Mapping[str, float]
    best_epoch: int
    n_epochs: int
    stopped: Ending
    history: tuple[EpochReport, ...]
    seconds_before: float
    inputs: InputSpec = field(default_factory=lambda: InputSpec({}))


def watching(lightning: ModuleType, watch: Watch) -> Any:
    """Returns the callback by which Lightning calls a watch."""
    # As a callback that keeps checkpoints it is called last, when all has been logged.
    callback = type("Watching", (_Callback, lightning.callbacks.Checkpoint), {})()
    callback.watch = watch
    return callback


class _Callback:
    """What Lightning calls; all is done by a `Watch`."""

    watch: Watch

    def on_train_start(self, trainer: Any, module: Any) -> None:
        self.watch.began(trainer)

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        self.watch.epoch_begins(trainer)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.watch.batch_ended(trainer, batch_idx)

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        self.watch.epoch_ended(trainer)


class Watch:
    """Scores every epoch, keeps the training, and ends it in time.

    Args:
        score: Tells the objective.
        deadline: `time.monotonic()` by which training ends.
        generators: What batches are drawn with.
    """

    def __init__(
        self,
        network: OwnModule,
        score: Score,
        course: Course,
        deadline: float,
        checkpoint: Checkpoint | None,
        generators: Sequence[torch.Generator],
    ) -> None:
        self._network = network
        self._score = score
        self._course = course
        self._deadline = deadline
        self._checkpoint = checkpoint
        self._generators = generators
        self.going_on: State | None = None
        self._problem: AutomlError | None = None
        self._logged: Mapping[str, float] = {}
        self._epoch_began = self._trained = 0.0
        self._rate: dict[str, float] = {}  # of the first optimizer, as an epoch begins
        self._reserve = 0.0  # seconds that validation takes, once one has been seen

    # --- what Lightning calls --------------------------------------------------------------------------------------

    def began(self, trainer: Any) -> None:
        """Puts everything where it was, if the training was cut off."""
        if self.going_on is None:
            return
        with fitting():
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
        elif self._checkpoint is not None and self._course.n_epochs:
            self._checkpoint.epoch_ended(partial(self._state, trainer))
        rates = [float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups]
        self._rate = {"learning_rate": rates[0]} if rates else {}
        self._epoch_began = time.monotonic()

    def batch_ended(self, trainer: Any, batch_idx: int) -> None:
        """Ends training when what is left is needed for validation."""
        self._trained = now = time.monotonic()
        n_val = sum(n for n in _flat(trainer.num_val_batches) if math.isfinite(n))
        reserve = self._reserve or (now - self._epoch_began) * n_val / (batch_idx + 1)
        is_late = now + 2 * reserve >= self._deadline  # the rows are scored once more in the end
        if math.isfinite(self._deadline) and trainer.strategy.reduce_boolean_decision(is_late, all=False):
            self._course.stopped, trainer.should_stop = "deadline", True

    def epoch_ended(self, trainer: Any) -> None:
        """Scores the epoch."""
        self._course.n_epochs += 1
        now = time.monotonic()
        self._reserve = now - max(self._trained, self._epoch_began)
        # With several processes, that of the first one, which alone knows the objective.
        ending = trainer.strategy.broadcast(self._judge(numbers(trainer), now - self._epoch_began))
        if ending is not None:
            self._course.stopped, trainer.should_stop = ending, True

    def _judge(self, logged: Mapping[str, float], seconds: float) -> Ending | None:
        """Returns why to stop after this epoch, if to stop."""
        read_as = self._network.says
        value = self._score(logged)
        lost = next((name for name, p in self._network.named_parameters() if not bool(p.isfinite().all())), None)
        if not math.isfinite(value) or lost is not None:
            what = f"the objective was {value}" if lost is None else f"the weights `{lost}` were not finite"
            self._problem = TrainingDiverged(
                f"{what} after epoch {self._course.n_epochs}",
                remedy="A lower learning rate is the first thing to try.",
            )
            return "diverged"
        finite = {name: number for name, number in logged.items() if math.isfinite(number)}
        current = EpochReport(
            step=len(self._course.history),
            value=value,
            metrics={**self._rate, **finite, "epoch_seconds": seconds},
            epoch=self._course.n_epochs - 1,
        )
        if read_as not in (Says.NOTHING, self._network.says):  # what was scored before was read as what it is not
            self._course.best = None
        is_last = self._course.stopped == "deadline" or time.monotonic() + self._reserve >= self._deadline
        ending = self._course.take(current, self._network, is_last=is_last)
        if self._course.best is current:
            self._logged = finite
        return ending

    # --- what is kept ----------------------------------------------------------------------------------------------

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
        return {**self._course.state(), "logged": dict(self._logged)}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on with what `state` returned."""
        self._course.resume(state)
        self._logged = state["logged"]

    def result(self) -> Trained:
        """Returns how the training ended; the best weights are then in the module, which is on the CPU."""
        course = self._course
        if course.best is None:
            what = "the module was not trained for a single epoch: there was no time, or no batch"
            raise self._problem or ModuleError(what)
        self._network.load_state_dict(course.weights)
        self._network.cpu().eval()
        self._network.module.float()
        return Trained(
            value=course.best.value,
            logged=self._logged,
            best_epoch=course.best.epoch,
            n_epochs=course.n_epochs,
            stopped=course.stopped,
            history=tuple(course.history),
            seconds_before=course.seconds_before,
        )


def numbers(trainer: Any) -> dict[str, float]:
    """Returns what a module has logged, by name; of several processes the mean, as of its `sync_dist`."""
    logged = {str(name): float(value) for name, value in trainer.callback_metrics.items()}
    every = ranks.gather(logged)
    names = dict.fromkeys(name for one in every for name in one)
    return {name: statistics.fmean(one[name] for one in every if name in one) for name in names}


def _flat(numbers: Any) -> list[float]:
    return [float(number) for number in (numbers if isinstance(numbers, (list, tuple)) else [numbers])]


@contextlib.contextmanager
def fitting() -> Iterator[None]:
    """Turns what is raised where a module, or what it is trained by, is not what was kept."""
    try:
        yield
    except Exception as error:  # whatever the module's own code makes of it
        raise Changed from error
