import dataclasses
import logging
import math
import time
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import automl.losses
import automl.optimizers
import automl.schedules  # noqa: F401
from automl import losses, metrics
from automl.components import catalogue
from automl.errors import DataError, TrainingDiverged
from automl.networks.mlp import mlp
from automl.training.fit import _fabric as fabric
from automl.training.fit import fit
from automl.training.loaders import Batches
from automl.training.module import SupervisedModule
from automl.values import (
    BlockSpec,
    Choice,
    Configuration,
    InputSpec,
    Part,
    PreparedData,
    ShardedPart,
    TargetSpec,
    Task,
    TrainerSettings,
)

torch.set_num_threads(1)
catalogue("network").add("mlp", mlp)

#: What a mean or a frequency scores is 0.5, 1.1 and about 780.
GOOD = {"roc_auc": 0.97, "log_loss": 0.4, "rmse": 350.0}
SMALL = Choice("mlp", {"depth": 1, "width": 16, "dropout": 0.1})


def problem(task, n_train=400, n_val=200):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_train + n_val, 4)).astype(np.float32)
    codes = rng.integers(3, size=(n_train + n_val, 1))
    signal = 2 * X[:, 0] - X[:, 1] + codes[:, 0] + rng.normal(scale=0.1, size=len(X))
    if task is Task.REGRESSION:
        y = 5000 + 300 * signal.astype(np.float64)
        target = TargetSpec(task, 1, mean=y.mean(), scale=y.std())
    else:
        n_classes = 2 if task is Task.BINARY else 3
        y = np.searchsorted(np.quantile(signal, np.arange(1, n_classes) / n_classes), signal)
        target = TargetSpec(task, 1 if n_classes == 2 else 3, tuple(np.bincount(y)))
    spec = InputSpec({"numeric": BlockSpec("numeric", (4,)), "categorical": BlockSpec("categorical", (1,), (3,))})
    parts = [
        Part({"numeric": X[rows], "categorical": codes[rows]}, y[rows])
        for rows in (slice(n_train), slice(n_train, None))
    ]
    return PreparedData(*parts, spec, target)


def configuration(task=Task.BINARY, *, network=SMALL, optimizer=None, schedule="constant", batch_size=32):
    return Configuration(
        preprocessing=(),
        network=network,
        optimizer=optimizer or Choice("adam", {"lr": 0.01}),
        schedule=Choice(schedule),
        loss=Choice("cross_entropy" if task.is_classification else "mse"),
        batch_size=batch_size,
    )


def train(task=Task.BINARY, *, data=None, settings=None, seed=0, report=lambda epoch: False, stop_at=None, **choices):
    return fit(
        configuration(task, **choices),
        data or problem(task),
        metrics.default_metric(task),
        settings or TrainerSettings(max_epochs=4),
        seed=seed,
        report=report,
        stop_at=stop_at,
    )


@pytest.mark.parametrize("task", Task)
def test_learns(task):
    data, metric = problem(task), metrics.default_metric(task)
    found = train(task, data=data, settings=TrainerSettings(max_epochs=12))
    assert metric.better(found.value, found.history[0].value)
    assert metric.better(found.value, GOOD[metric.name])
    assert found.stopped == "max_epochs"
    assert found.n_epochs == len(found.history) == 12
    assert [epoch.epoch for epoch in found.history] == list(range(12))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("task", Task)
def test_trains_as_a_trainer_does(task, schedule):
    data, n_epochs = problem(task), 3
    slow = Choice("adam", {"lr": 0.002})  # the last epoch is the best, whose weights are kept
    pl.seed_everything(0, verbose=False)
    network = catalogue("network").build(SMALL, data.inputs, data.target.n_outputs)
    chosen = configuration(task, optimizer=slow, schedule=schedule)
    train_batches, val_batches = Batches(data.train, data.target, 32, seed=0), Batches(data.val, data.target, 64)
    loss = catalogue("loss").build(chosen.loss, data.target)
    n_steps = n_epochs * len(train_batches)
    module = SupervisedModule(network, loss, chosen.optimizer, chosen.schedule, n_steps)
    trainer = pl.Trainer(
        max_epochs=n_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # advice on data loaders
        trainer.fit(module, train_batches, val_batches)
    settings = TrainerSettings(max_epochs=n_epochs)
    ours = train(task, data=data, optimizer=slow, schedule=schedule, settings=settings)
    assert ours.best_epoch == n_epochs - 1
    theirs = network.state_dict()
    assert ours.network.state_dict().keys() == theirs.keys()
    for name, weight in ours.network.state_dict().items():
        assert torch.equal(weight, theirs[name]), name


@pytest.mark.parametrize("task", Task)
def test_the_value_is_that_of_the_network_it_returns(task):
    data = problem(task)
    found = train(task, data=data, optimizer=Choice("adam", {"lr": 0.1}), settings=TrainerSettings(max_epochs=6))
    again = losses.forward(found.network, data.val.inputs, data.target)
    np.testing.assert_array_equal(again, found.predictions)
    assert metrics.score(metrics.default_metric(task), data.val.target, again) == found.value
    best = found.history[found.best_epoch]
    assert best.value == pytest.approx(found.value, rel=1e-9)
    better = metrics.default_metric(task).better
    assert not any(better(epoch.value, best.value) for epoch in found.history)
    assert not found.network.training


def test_equal_seeds_repeat_and_others_differ():
    first, second, other = train(seed=1), train(seed=1), train(seed=2)
    assert [epoch.value for epoch in first.history] == [epoch.value for epoch in second.history]
    np.testing.assert_array_equal(first.predictions, second.predictions)
    assert (first.predictions != other.predictions).any()


def test_every_epoch_is_reported_with_what_is_known():
    reported = []
    found = train(report=lambda epoch: bool(reported.append(epoch)))
    assert tuple(reported) == found.history
    for epoch in reported:
        assert set(epoch.metrics) == {"train_loss", "val_loss", "learning_rate", "epoch_seconds"}
        assert all(math.isfinite(value) for value in epoch.metrics.values())


def test_stops_when_the_report_says_so():
    found = train(report=lambda epoch: epoch.epoch == 1)
    assert (found.stopped, found.n_epochs) == ("report", 2)


def test_patience_ends_what_does_not_get_better():
    found = train(
        optimizer=Choice("sgd", {"lr": 0.0}),
        network=Choice("mlp", {"depth": 1, "width": 4, "normalisation": "none"}),
        settings=TrainerSettings(max_epochs=50, patience=3),
    )
    assert (found.stopped, found.n_epochs, found.best_epoch) == ("patience", 4, 0)


def test_a_deadline_in_the_past_still_gives_a_score():
    found = train(stop_at=time.monotonic() - 1, settings=TrainerSettings(max_epochs=1000))
    assert (found.stopped, found.n_epochs, len(found.history)) == ("deadline", 1, 1)
    assert math.isfinite(found.value)


def test_time_is_left_to_score_what_a_deadline_cuts_short():
    made = []

    def slow(n_pieces):
        part = problem(Task.BINARY, n_train=40).train

        def piece(number):
            made.append(number)
            time.sleep(0.05)
            return part

        return ShardedPart(np.tile(part.target, n_pieces), (40,) * n_pieces, piece)

    data = dataclasses.replace(problem(Task.BINARY), train=slow(10_000), val=slow(20))
    started = time.monotonic()
    found = train(data=data, stop_at=started + 4)  # of which 2 are needed to score 20 pieces twice
    assert (found.stopped, found.n_epochs, len(found.predictions)) == ("deadline", 1, 800)
    n_trained = len(made) - 40
    assert 5 < n_trained < 45  # without it, 80


def test_a_deadline_ends_a_long_training():
    started = time.monotonic()
    found = train(stop_at=started + 1, settings=TrainerSettings(max_epochs=10**6, patience=10**6))
    assert found.stopped == "deadline"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "plateau"])
def test_schedules_move_the_learning_rate(schedule):
    found = train(schedule=schedule, settings=TrainerSettings(max_epochs=10, patience=10))
    rates = [epoch.metrics["learning_rate"] for epoch in found.history]
    if schedule in ("cosine", "one_cycle"):
        assert rates[-1] < 1e-5 < max(rates) <= 0.01
    elif schedule == "constant":
        assert rates == [0.01] * 10
    assert rates[0] <= 0.01


def test_plateau_follows_the_validation_loss():
    found = train(
        schedule="plateau",
        optimizer=Choice("adam", {"lr": 0.5}),
        settings=TrainerSettings(max_epochs=25, patience=25),
    )
    assert found.history[-1].metrics["learning_rate"] < 0.5


DIVERGING = {
    "task": Task.REGRESSION,
    "optimizer": Choice("sgd", {"lr": 1e6}),
    "network": Choice("mlp", {"depth": 3, "width": 16, "normalisation": "none"}),
}


def test_diverging_at_once_is_an_error():
    with pytest.raises(TrainingDiverged, match="learning rate"):
        train(**DIVERGING)


def test_diverging_later_keeps_the_good_epoch():
    data = problem(Task.REGRESSION)

    def spoil(epoch):
        # Stands for a training that leaves the rails by itself: batches are cut from these arrays.
        data.train.inputs["numeric"][:] = math.nan
        return False

    found = train(Task.REGRESSION, data=data, report=spoil)
    assert (found.stopped, found.n_epochs, found.best_epoch, len(found.history)) == ("diverged", 2, 0, 1)
    assert found.value == pytest.approx(found.history[0].value)


def test_an_undefined_objective_is_told_as_such():
    data = problem(Task.BINARY)
    data = PreparedData(data.train, Part(data.val.inputs, np.zeros_like(data.val.target)), data.inputs, data.target)
    with pytest.raises(DataError, match="roc_auc"):
        train(data=data)


@pytest.mark.parametrize("batch_size", [1, 399, 1000])
def test_batch_sizes_at_the_edges(batch_size):
    network = Choice("mlp", {"depth": 1, "width": 4, "normalisation": "none" if batch_size == 1 else "batch"})
    assert train(batch_size=batch_size, network=network, settings=TrainerSettings(max_epochs=1)).n_epochs == 1


def test_half_precision_ships_full_precision():
    found = train(settings=TrainerSettings(max_epochs=3, precision="bf16-mixed"))
    assert found.value > 0.8
    assert all(weight.dtype != torch.bfloat16 for weight in found.network.state_dict().values())


def test_errors_of_the_report_come_through():
    def broken(epoch):
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        train(report=broken)


def test_installed_packages_are_not_looked_through_for_callbacks(tmp_path, monkeypatch):
    (tmp_path / "meddler.py").write_text("raise RuntimeError('was loaded')")
    info = tmp_path / "meddler-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: meddler\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lightning_fabric.callbacks_factory]\nmeddler = meddler:callbacks\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    fabric.cache_clear()
    assert train(settings=TrainerSettings(max_epochs=1)).n_epochs == 1


def test_prints_and_warns_nothing(capfd, caplog):
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(schedule="cosine")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
