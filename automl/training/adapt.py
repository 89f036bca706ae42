"""Training of a user's own LightningModule, which knows nothing of this package, by Lightning's own Trainer.

The module's steps, optimizers, schedules, callbacks and metrics are used as they are. What is added is one callback
that reports each epoch, keeps the best weights in memory and the training in a checkpoint, and ends it in time.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.parameter import UninitializedParameter

from automl import architecture, decision, losses, metrics
from automl.components import Component, catalogue
from automl.errors import AutomlError, ModuleError, TrainingDiverged, did_you_mean
from automl.own_module import TRAITS, OwnModule, Says, as_x, evaluating, lightning_of
from automl.training import ranks
from automl.training.checkpoint import Checkpoint, Paused, State
from automl.training.course import Course, Report
from automl.training.fit import Fit, checked, quiet
from automl.training.loaders import Batches
from automl.training.watch import Changed, Score, Trained, Watch, fitting, numbers, watching
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

    Args:
        is_shared: Whether processes that train together get each their share of a batch, so that together they train on
            the batch that was chosen.
    """

    def __init__(self, batches: Batches, *, is_shared: bool = False) -> None:
        self.batches = batches
        self._is_shared = is_shared

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Any, Tensor]]:
        rank, n = (ranks.rank(), ranks.size()) if self._is_shared else (0, 1)
        for inputs, y in self.batches:
            mine = slice(rank, None, n) if len(y) >= 2 * n else slice(None)  # none is left without rows, or with one
            yield as_x({name: block[mine] for name, block in inputs.items()}), y[mine]


#: A module, rows of training and validation, and the LightningDataModule that there is instead.
_Begun = tuple[OwnModule, Rows | None, Rows | None, Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is trained how: all that a process needs to be told.

    Attributes:
        data: Rows; or the LightningDataModule.
        n_batches: Of an epoch, of training and of validation; None: all.
        keeps_last: Whether the last weights are wanted, and not the best.
    """

    configuration: Configuration
    data: PreparedData | Choice
    metric: Metric
    settings: TrainerSettings
    seed: int
    stop_at: float | None = None
    checkpoint: Checkpoint | None = None
    n_batches: int | None = None
    keeps_last: bool = False


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
        network, trained = _carry_out(_Plan(configuration, data, metric, settings, seed, stop_at, checkpoint), report)
        value, predictions = trained.value, np.empty(0)
        _look(network, checked(data.val, seed), data.target, _traits(configuration))
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
    metric: Metric,
    settings: TrainerSettings,
    *,
    seed: int,
    report: Report,
    stop_at: float | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[OwnModule, Trained]:
    """Returns a user's LightningModule trained on what a LightningDataModule gives, with the weights of the best epoch.

    Raises:
        ModuleError, TrainingDiverged, Paused, StorageError: As of `fit`.
    """
    with quiet():
        plan = _Plan(configuration, data_module, metric, settings, seed, stop_at, checkpoint)
        return _carry_out(plan, report)


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
        as_long = replace(settings, max_epochs=n_epochs, patience=n_epochs)
        unscored = metrics.logged("nothing", Direction.MINIMIZE)
        plan = _Plan(configuration, data, unscored, as_long, seed, stop_at, keeps_last=True)
        network, trained = _carry_out(plan, _unheard)
        if trained.stopped == "deadline" or (stop_at is not None and time.monotonic() >= stop_at):
            return None
        _look(network, data.train, data.target, _traits(configuration))
    return network


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
    with quiet():
        plan = _Plan(configuration, data, metric, settings, seed, n_batches=1)
        begun = _begun(plan)
        with contextlib.suppress(TrainingDiverged):  # of one batch of a few rows
            _trained(plan, begun, _unheard, None)
        *_, source = begun
        return 0 if source is None else _n_rows(source)


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
        return numbers(trainer)


# --- what it is trained on ---------------------------------------------------------------------------------------


def _of_table(configuration: Configuration, data: PreparedData, seed: int) -> tuple[OwnModule, Rows, Rows]:
    """Returns the module with fresh weights, and the rows of training and validation."""
    network = _built(configuration.network, data.inputs, data.target.n_outputs, seed)
    as_they_are = [replace(part, mean=0.0, scale=1.0) for part in data.target.parts]
    unit = replace(data.target, mean=0.0, scale=1.0, parts=tuple(as_they_are))  # nobody tells it another unit
    size = max(data.train.sizes) if configuration.batch_size == FULL else int(configuration.batch_size)
    train = Rows(Batches(data.train, unit, size, seed=seed), is_shared=True)
    return network, train, Rows(Batches(data.val, unit, size))


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


def _set_up(source: Any) -> None:
    """Lets a LightningDataModule get its data, as a Trainer does."""
    source.prepare_data()
    source.setup("fit")


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


def _score(network: OwnModule, plan: _Plan) -> Score:
    """Returns what tells the objective after an epoch, of what the module logged or says of validation rows."""
    if isinstance(plan.data, Choice) or plan.metric.needs == "logged":
        return partial(_logged, plan.metric.name)
    looked_at = checked(plan.data.val, plan.seed)
    return partial(_computed, network, looked_at, plan.data.target, plan.metric, _traits(plan.configuration))


def _traits(configuration: Configuration) -> frozenset[str]:
    """Returns what the plug-in says of a module's outputs."""
    return catalogue("network")[configuration.network.name].traits


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


def _carry_out(plan: _Plan, report: Report) -> tuple[OwnModule, Trained]:
    """Returns the trained network, with the weights that are wanted, and how its training went."""
    if plan.settings.devices == 1:
        return _gone_on(plan, report)
    pause = plan.checkpoint.pause if plan.checkpoint is not None else _unasked
    told = plan if plan.checkpoint is None else replace(plan, checkpoint=plan.checkpoint.paused_by(_unasked))
    weights, trained = ranks.together(_with_others, told, plan.settings.devices, report=report, pause=pause)
    network, *_ = _begun(plan)
    network.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    network.eval().float()
    return network, trained


def _with_others(plan: _Plan, report: Report, pause: Callable[[], bool]) -> tuple[bytes, Trained]:
    """Returns weights, as torch saves them, and course of a training that this process has a share in."""
    kept_in = None if plan.checkpoint is None else plan.checkpoint.paused_by(pause)
    with quiet():
        network, trained = _gone_on(replace(plan, checkpoint=kept_in), report)
    weights = io.BytesIO()  # a tensor would be sent as memory that ends with this process
    torch.save(network.state_dict(), weights)
    return weights.getvalue(), trained


def _gone_on(plan: _Plan, report: Report) -> tuple[OwnModule, Trained]:
    """Returns a training that went on from where it was kept; that was begun anew where the code has changed since."""
    kept = None if plan.checkpoint is None else plan.checkpoint.load()
    if kept is not None:
        with contextlib.suppress(Changed):
            return _trained(plan, _begun(plan), report, kept)
    return _trained(plan, _begun(plan), report, None)


def _trained(plan: _Plan, begun: _Begun, report: Report, kept: State | None) -> tuple[OwnModule, Trained]:
    """Returns what `_carry_out` does.

    Raises:
        Changed: It cannot go on from what was `kept`.
    """
    network, train, val, source = begun
    is_first = ranks.rank() == 0
    checkpoint = plan.checkpoint if is_first else None
    score = _score(network, plan) if is_first and not plan.keeps_last else _unscored
    generators = [] if train is None or train.batches.generator is None else [train.batches.generator]
    deadline = math.inf if plan.stop_at is None else plan.stop_at
    course = Course(plan.metric.direction, plan.settings.patience, report, keeps_last=plan.keeps_last)
    watch = Watch(network, score, course, deadline, checkpoint, generators)
    if kept is not None and kept["ended"]:
        with fitting():
            network.load_state_dict(kept["watch"]["weights"])
        watch.resume(kept["watch"])
    else:
        watch.going_on = kept
        lightning = lightning_of(network.module)
        with _explained(network.module, source), ranks.with_children(), tempfile.TemporaryDirectory() as scratch:
            if ranks.size() > 1:
                _settle(network, train, source)
            trainer = _trainer(lightning, plan.settings, [watching(lightning, watch)], scratch, plan.n_batches)
            if source is not None:
                _seed(plan.seed)  # `setup` draws alike after whichever network's weights, and before the test
                trainer.fit(network.module, datamodule=source)
            else:
                trainer.fit(network.module, train, val)
        if checkpoint is not None and not course.was_cut_short:
            checkpoint.epoch_ended(lambda: {"watch": watch.state(), "ended": True}, is_last=True)
    trained = watch.result()
    if source is not None and (x := _first_x(source)) is not None:
        network.look_at(x)
        trained = replace(trained, inputs=InputSpec({"x": BlockSpec("own", tuple(x.shape[1:]))}))
    return network, trained


def _begun(plan: _Plan) -> _Begun:
    """Returns the module with fresh weights, and what it is trained on: rows of training and validation, or its own."""
    if isinstance(plan.data, Choice):
        source = _data_module(plan.data, plan.configuration, plan.seed)
        return _built(plan.configuration.network, InputSpec({}), 1, plan.seed), None, None, source
    return *_of_table(plan.configuration, plan.data, plan.seed), None


def _settle(network: OwnModule, train: Rows | None, source: Any) -> None:
    """Lets layers that take their size from what they are fed with take it: before processes can share them."""
    if not any(isinstance(one, UninitializedParameter) for one in network.parameters()):
        return
    if source is not None:
        _set_up(source)
    x = _first_x(source) if train is None else next(iter(train))[0]
    problem = "no rows that it could be shown" if x is None else network.look_at(x)
    if lost := [name for name, one in network.module.named_parameters() if isinstance(one, UninitializedParameter)]:
        raise ModuleError(
            f"the size of `{lost[0]}` is not known before training" + (f": {problem}" if problem else ""),
            where="trainer.devices",
            remedy="Processes that train together need all sizes: no lazy layer there, or 1 device.",
        )


def _unheard(epoch: EpochReport) -> bool:
    return False


def _unasked() -> bool:
    return False


def _unscored(logged: Mapping[str, float]) -> float:
    return 0.0


def _trainer(
    lightning: Any, settings: TrainerSettings, callbacks: list[Any], scratch: str, n_batches: int | None = None
) -> Any:
    """Returns a Trainer that prints nothing and leaves nothing behind."""
    environments = sys.modules[lightning.plugins.ClusterEnvironment.__module__.rpartition(".")[0]]
    trainer = lightning.Trainer(
        max_epochs=settings.max_epochs,
        accelerator=settings.accelerator,
        devices=ranks.size(),
        # Of a module whatever may go unused in a step: that of a GAN that is not its turn.
        strategy=lightning.strategies.DDPStrategy(find_unused_parameters=True) if ranks.size() > 1 else "auto",
        # Whatever batch system runs this, it knows nothing of these processes.
        plugins=[environments.LightningEnvironment()],
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


# --- around it ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explained(*owners: Any) -> Iterator[None]:
    """Turns what a user's own code raises into a sentence with its file and line; what it prints is no result."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (AutomlError, Paused, MemoryError, Changed):
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
