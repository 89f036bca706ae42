import dataclasses
import functools
import logging
import math
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import automl.augmentations
import automl.averaging
import automl.balancing
import automl.draws
import automl.losses
import automl.optimizers
import automl.schedules  # noqa: F401
from automl import losses, metrics
from automl.components import CATALOGUES, Catalogue, catalogue
from automl.errors import ConfigError, DataError, ResourceError, TrainingDiverged
from automl.networks.mlp import mlp
from automl.testing import PLAIN_TASKS
from automl.training.fit import _fabric as fabric
from automl.training.fit import fit
from automl.training.loaders import Batches
from automl.training.module import SupervisedModule, build_optimizer, switch
from automl.values import (
    BlockSpec,
    Choice,
    Configuration,
    InputSpec,
    Part,
    PreparedData,
    ShardedPart,
    Target,
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


def in_pieces(part, n_pieces, sizes=None):
    """The same rows in pieces of which one is in memory; `sizes` are what they are taken for."""
    rows = np.array_split(np.arange(len(part.target)), n_pieces)

    def piece(number):
        return Part({name: block[rows[number]] for name, block in part.inputs.items()}, part.target[rows[number]])

    return ShardedPart(part.target, sizes or tuple(map(len, rows)), piece)


def configuration(
    task=Task.BINARY, *, network=SMALL, optimizer=None, schedule="constant", loss=None, batch_size=32, **more
):
    return Configuration(
        preprocessing=(),
        network=network,
        optimizer=optimizer or Choice("adam", {"lr": 0.01}),
        schedule=Choice(schedule),
        loss=loss or Choice("cross_entropy" if task.is_classification else "mse"),
        batch_size=batch_size,
        **more,
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


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_learns(task):
    data, metric = problem(task), metrics.default_metric(task)
    found = train(task, data=data, settings=TrainerSettings(max_epochs=12))
    assert metric.better(found.value, found.history[0].value)
    assert metric.better(found.value, GOOD[metric.name])
    assert found.stopped == "max_epochs"
    assert found.n_epochs == len(found.history) == 12
    assert [epoch.epoch for epoch in found.history] == list(range(12))


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("task", PLAIN_TASKS)
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


@pytest.mark.parametrize("task", PLAIN_TASKS)
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


@pytest.mark.parametrize("checks", [2, 3, 13])
def test_an_epoch_that_is_scored_in_parts_trains_as_a_whole_one_does(checks):
    slow = {"optimizer": Choice("adam", {"lr": 0.002}), "schedule": "cosine"}  # the last scoring is the best
    whole = train(settings=TrainerSettings(max_epochs=3), **slow)
    parts = train(settings=TrainerSettings(max_epochs=3, checks_an_epoch=checks), **slow)
    assert [epoch.step for epoch in parts.history] == list(range(3 * checks))
    assert [epoch.epoch for epoch in parts.history] == [n for n in range(3) for _ in range(checks)]
    assert [epoch.value for epoch in parts.history[checks - 1 :: checks]] == [epoch.value for epoch in whole.history]
    assert parts.n_epochs == whole.n_epochs == 3
    assert (parts.best_epoch, whole.best_epoch) == (2, 2)
    np.testing.assert_array_equal(parts.predictions, whole.predictions)


@pytest.mark.parametrize(("batch_size", "checks", "n_scored"), [("full", 3, 1), (45, 4, 3), (32, 50, 13)])
def test_an_epoch_of_few_steps_is_scored_less_often_and_is_as_long(batch_size, checks, n_scored):
    settings = TrainerSettings(max_epochs=5, patience=100, checks_an_epoch=checks)
    found = train(batch_size=batch_size, settings=settings)
    assert (found.stopped, found.n_epochs, found.n_planned) == ("max_epochs", 5, 5)
    assert [epoch.epoch for epoch in found.history] == [n for n in range(5) for _ in range(n_scored)]


@pytest.mark.parametrize("size", [60, 100, 140])
@pytest.mark.parametrize("checks", [1, 3])
def test_pieces_may_have_fewer_or_more_rows_than_was_thought(size, checks):
    data = problem(Task.BINARY)
    data = dataclasses.replace(data, train=in_pieces(data.train, 4, sizes=(size,) * 4))
    found = train(data=data, settings=TrainerSettings(max_epochs=3, checks_an_epoch=checks))
    assert (found.stopped, found.n_epochs) == ("max_epochs", 3)
    assert found.value > 0.8


def test_patience_is_in_epochs_where_they_are_scored_in_parts():
    settings = TrainerSettings(max_epochs=100, patience=2, checks_an_epoch=3)
    still = Choice("mlp", {"depth": 1, "width": 16, "normalisation": "none"})
    found = train(network=still, optimizer=Choice("sgd", {"lr": 0.0}), settings=settings)
    assert (found.stopped, found.best_epoch, len(found.history)) == ("patience", 0, 7)


@pytest.mark.parametrize("n_pieces", [1, 4])
@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_of_very_many_validation_rows_a_sample_says_how_training_goes(task, n_pieces, monkeypatch):
    monkeypatch.setattr("automl.training.fit.CHECKED_ROWS", 50)
    data = problem(task)
    if n_pieces > 1:
        data = dataclasses.replace(data, val=in_pieces(data.val, n_pieces))
    found = train(task, data=data)
    assert found.predictions.shape[0] == 200  # in the end all are predicted
    metric = metrics.default_metric(task)
    target = np.concatenate([data.val.piece(n).target for n in range(len(data.val.sizes))])
    assert found.value == metrics.score(metric, target, found.predictions)
    assert found.history[found.best_epoch].value != found.value


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


@pytest.mark.slow
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


@pytest.mark.parametrize("schedule", ["constant", "cosine", "one_cycle", "coslog", "plateau"])
def test_schedules_move_the_learning_rate(schedule):
    found = train(schedule=schedule, settings=TrainerSettings(max_epochs=10, patience=10), batch_size=64)
    rates = [epoch.metrics["learning_rate"] for epoch in found.history]
    if schedule in ("cosine", "one_cycle", "coslog"):
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


# --- what can be chosen beside network, optimizer and schedule --------------------------------------------------------

#: Without dropout and normalisation, whose statistics would have to be kept by hand as well.
PLAIN = Choice("mlp", {"depth": 1, "width": 8, "dropout": 0.0, "normalisation": "none"})


def by_hand(data, optimizer, *, network=PLAIN, batch_size=32, n_epochs=1, after_step=None, after_epoch=None):
    """Returns a network after a bare loop over the same batches, and its optimizer."""
    pl.seed_everything(0, verbose=False)
    trained = catalogue("network").build(network, data.inputs, data.target.n_outputs)
    made = build_optimizer(optimizer, trained)
    loss = nn.CrossEntropyLoss()
    batches = Batches(data.train, data.target, batch_size, seed=0)
    switch(made, "train")
    for epoch in range(n_epochs):
        for inputs, y in batches:
            made.zero_grad()
            loss(torch.cat([torch.zeros(len(y), 1), trained(inputs)], dim=1), y).backward()
            made.step()
            if after_step:
                after_step(trained)
        if after_epoch:
            after_epoch(epoch, trained)
    return trained, made


def same_weights(network, weights):
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=1e-4, atol=1e-6)


def weights_of(network):
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


ONE_EPOCH = TrainerSettings(max_epochs=1)


def test_the_weights_that_schedule_free_ships_are_those_it_shows():
    chosen = Choice("schedule_free", {"lr": 0.01})
    found = train(network=PLAIN, optimizer=chosen, settings=TrainerSettings(max_epochs=2))
    trained, made = by_hand(problem(Task.BINARY), chosen, n_epochs=found.best_epoch + 1)
    there = weights_of(trained)
    switch(made, "eval")
    same_weights(found.network, weights_of(trained))
    assert any(not torch.allclose(there[name], weight) for name, weight in weights_of(trained).items())


def test_ema_is_what_is_scored_and_shipped():
    chosen = Choice("adam", {"lr": 0.01})
    means = []

    def follow(network):
        n, weights = len(means), weights_of(network)
        decay = min(0.9, (1 + n) / (10 + n))
        means.append({k: decay * means[-1][k] + (1 - decay) * w for k, w in weights.items()} if n else weights)

    found = train(network=PLAIN, optimizer=chosen, settings=ONE_EPOCH, averaging=Choice("ema", {"decay": 0.9}))
    by_hand(problem(Task.BINARY), chosen, after_step=follow)
    same_weights(found.network, means[-1])
    assert found.value == found.history[0].value


def test_swa_is_the_mean_of_the_last_epochs():
    chosen, kept = Choice("adam", {"lr": 0.003}), []
    by_hand(
        problem(Task.BINARY), chosen, n_epochs=4, after_epoch=lambda epoch, network: kept.append(weights_of(network))
    )
    settings = TrainerSettings(max_epochs=4)
    found = train(network=PLAIN, optimizer=chosen, settings=settings, averaging=Choice("swa", {"start": 0.5}))
    assert found.best_epoch == 3
    last = kept[1:]  # of which half of the training was made, or more
    same_weights(found.network, {name: torch.stack([epoch[name] for epoch in last]).mean(0) for name in kept[0]})


def test_averages_of_normalised_networks_are_used_with_statistics():
    found = train(averaging=Choice("ema", {"decay": 0.95}), settings=TrainerSettings(max_epochs=6))
    assert found.value > GOOD["roc_auc"]


@pytest.mark.parametrize("augmentation", ["mixup", "cutmix", "feature_mask", "noise"])
@pytest.mark.parametrize("task", [Task.MULTICLASS, Task.REGRESSION])
def test_augmented_rows_are_learned_from(task, augmentation):
    found = train(task, augmentation=Choice(augmentation))
    assert (found.predictions != _plain(task)).any()
    blind = 1.1 if task is Task.MULTICLASS else 780
    assert metrics.default_metric(task).better(found.value, blind * 0.9)


@functools.cache
def _plain(task):
    return train(task).predictions


def test_equal_seeds_augment_alike():
    first, second, other = (
        train(augmentation=Choice("cutmix"), settings=ONE_EPOCH, seed=s).predictions for s in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def test_mixup_without_mixing_is_no_mixup():
    found, plain = train(augmentation=Choice("mixup", {"alpha": 1e-9})), train()
    np.testing.assert_allclose(found.predictions, plain.predictions, rtol=1e-3, atol=1e-4)


def test_balanced_batches_make_up_for_rare_classes():
    data = problem(Task.BINARY, n_train=1000)
    rare = np.flatnonzero(data.train.target == 1)[30:]
    kept = np.setdiff1d(np.arange(1000), rare)
    part = Part({name: block[kept] for name, block in data.train.inputs.items()}, data.train.target[kept])
    data = PreparedData(part, data.val, data.inputs, TargetSpec(Task.BINARY, 1, tuple(np.bincount(part.target))))
    blurred = Choice("mlp", {"depth": 0})
    shares = [
        train(data=data, network=blurred, batches=Choice(name)).predictions[:, 1].mean()
        for name in ("shuffled", "balanced")
    ]
    assert shares[0] < shares[1] - 0.05
    assert shares[1] == pytest.approx(0.5, abs=0.15)  # as in the validation rows


def test_gradients_are_clipped():
    chosen = Choice("sgd", {"lr": 1.0})
    pl.seed_everything(0, verbose=False)
    data = problem(Task.BINARY)
    before = weights_of(catalogue("network").build(PLAIN, data.inputs, 1))
    for clip_norm, longest in ((0.01, 0.01), (0.0, math.inf)):
        found = train(network=PLAIN, optimizer=chosen, batch_size="full", clip_norm=clip_norm, settings=ONE_EPOCH)
        moved = math.sqrt(sum(float((w - before[n]).square().sum()) for n, w in weights_of(found.network).items()))
        assert moved == pytest.approx(longest, rel=1e-3) if clip_norm else moved > 0.05


@pytest.mark.parametrize(
    "choices",
    [
        {"optimizer": Choice("gradient_descent", {"lr": 0.5})},
        {"optimizer": Choice("sgd", {"lr": 0.5}), "batch_size": "full"},
    ],
)
def test_a_full_batch_is_one_step_an_epoch(choices):
    data = problem(Task.BINARY)
    found = train(data=data, network=PLAIN, settings=ONE_EPOCH, **choices)
    trained, _ = by_hand(data, Choice("sgd", {"lr": 0.5}), batch_size=400)
    same_weights(found.network, weights_of(trained))


def test_a_single_row_is_a_step():
    data, chosen = problem(Task.BINARY, n_train=60), Choice("single_row_sgd", {"lr": 0.01})
    found = train(data=data, network=PLAIN, optimizer=chosen, settings=ONE_EPOCH)
    trained, _ = by_hand(data, chosen, batch_size=1)
    same_weights(found.network, weights_of(trained))
    with pytest.raises(ConfigError, match="batch of one row"):
        train(data=data, optimizer=chosen)


def test_lbfgs_solves_least_squares():
    data = problem(Task.REGRESSION)
    data = dataclasses.replace(data, inputs=InputSpec({"numeric": data.inputs.blocks["numeric"]}))
    found = train(
        Task.REGRESSION,
        data=data,
        network=Choice("mlp", {"depth": 0}),
        optimizer=Choice("lbfgs"),
        settings=TrainerSettings(max_epochs=5, patience=5),
    )
    ones = np.ones((400, 1))
    solution, *_ = np.linalg.lstsq(np.hstack([data.train.inputs["numeric"], ones]), data.train.target, rcond=None)
    expected = np.hstack([data.val.inputs["numeric"], ones[:200]]) @ solution
    np.testing.assert_allclose(found.predictions, expected, atol=0.5)  # of a spread of hundreds


@pytest.mark.parametrize("optimizer", ["muon", "lion", "nadam", "radam", "adadelta", "schedule_free"])
def test_every_optimizer_learns(optimizer):
    found = train(optimizer=Choice(optimizer, {"lr": 0.5} if optimizer == "adadelta" else {"lr": 0.01}))
    assert found.value > 0.9


def test_a_rate_that_is_found_is_told_and_used_as_if_it_had_been_given():
    found = train(optimizer=Choice("adam", {"lr": "find"}))
    rate = found.history[0].metrics["learning_rate"]
    assert 1e-4 < rate < 0.3
    assert found.notes == (f"learning rate found: {rate:.2g}",)
    given = train(optimizer=Choice("adam", {"lr": rate}))
    assert given.notes == ()
    np.testing.assert_array_equal(found.predictions, given.predictions)


def test_without_time_to_look_for_a_rate_the_usual_one_is_taken():
    found = train(optimizer=Choice("adamw", {"lr": "find"}), stop_at=time.monotonic())
    assert found.history[0].metrics["learning_rate"] == 0.001
    assert found.notes == ("learning rate not found, the usual one taken: 0.001",)


def test_the_rate_that_is_told_is_the_plain_one():
    class Slow(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner
            for parameter in self.parameters():
                parameter.lr_factor = 0.1

        def forward(self, inputs):
            return self.inner(inputs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOGUES, "network", Catalogue("network"))
        catalogue("network").add("slow", lambda inputs, n_outputs: Slow(mlp(inputs, n_outputs, depth=0)))
        found = train(network=Choice("slow"), optimizer=Choice("sgd", {"lr": 0.05}))
    assert found.history[0].metrics["learning_rate"] == pytest.approx(0.05)


@pytest.mark.parametrize("seconds", [None, 30])
def test_a_network_may_look_at_the_rows_before_it_is_trained(monkeypatch, seconds):
    told = {}

    class Looking(nn.Module):
        def __init__(self, inputs, n_outputs):
            super().__init__()
            self.register_buffer("mean", torch.zeros(4))
            self.layer = nn.Linear(4, n_outputs)

        def pretrain(self, inputs, *, seed, deadline):
            told.update(inputs=inputs, seed=seed, seconds=deadline - time.monotonic())
            self.mean.copy_(inputs["numeric"].mean(0))

        def forward(self, inputs):
            return self.layer(inputs["numeric"] - self.mean)

    monkeypatch.setitem(CATALOGUES, "network", Catalogue("network"))
    catalogue("network").add("looking", Looking)
    data = problem(Task.BINARY)
    stop_at = None if seconds is None else time.monotonic() + seconds
    found = train(data=data, network=Choice("looking"), seed=3, stop_at=stop_at, settings=ONE_EPOCH)
    assert told["seed"] == 3
    assert told["seconds"] == math.inf if seconds is None else 9 < told["seconds"] <= 10
    assert {name: len(block) for name, block in told["inputs"].items()} == {"numeric": 400, "categorical": 400}
    expected = torch.from_numpy(data.train.inputs["numeric"]).mean(0)
    torch.testing.assert_close(found.network.mean, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_schedule_ends_where_the_deadline_cuts_training():
    settings = TrainerSettings(max_epochs=10**5, patience=10**5)
    found = train(schedule="cosine", stop_at=time.monotonic() + 1.0, settings=settings)
    rates = [epoch.metrics["learning_rate"] for epoch in found.history]
    assert found.stopped == "deadline"
    assert len(rates) > 10
    assert max(rates) > 0.009
    assert rates[-1] < 0.0005
    falling = rates[rates.index(max(rates)) :]
    assert all(later <= earlier + 1e-4 for earlier, later in pairwise(falling))


@pytest.mark.slow
def test_a_schedule_ends_where_the_deadline_cuts_the_first_epoch():
    def piece(number):
        time.sleep(0.01)
        return part

    part = problem(Task.BINARY, n_train=32).train
    long = ShardedPart(np.tile(part.target, 10_000), (32,) * 10_000, piece)
    data = dataclasses.replace(problem(Task.BINARY, n_val=20), train=long)
    found = train(data=data, schedule="cosine", stop_at=time.monotonic() + 1.2)
    assert (found.stopped, found.n_epochs) == ("deadline", 1)
    assert found.history[0].metrics["learning_rate"] < 0.002


def test_a_deadline_that_is_far_away_changes_nothing():
    settings = TrainerSettings(max_epochs=5)
    near, far = (
        train(schedule="cosine", stop_at=stop_at, settings=settings) for stop_at in (None, time.monotonic() + 1000)
    )
    np.testing.assert_array_equal(near.predictions, far.predictions)


@pytest.mark.parametrize("precision", ["bf16-mixed"])
def test_half_precision_goes_with_what_is_chosen(precision):
    found = train(
        optimizer=Choice("adamw", {"lr": "find"}),
        averaging=Choice("ema", {"decay": 0.9}),
        augmentation=Choice("mixup"),
        clip_norm=1.0,
        settings=TrainerSettings(max_epochs=3, precision=precision),
    )
    assert found.value > 0.8
    assert all(weight.dtype != torch.bfloat16 for weight in found.network.state_dict().values())


def test_prints_and_warns_nothing(capfd, caplog):
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(schedule="cosine")
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_what_would_take_too_much_memory_is_not_begun() -> None:
    limited = TrainerSettings(max_epochs=1, accelerator="cpu", memory=1_000_000)
    with pytest.raises(ResourceError, match=r"would take about \d+ MB beside the data, of 1 MB"):
        train(settings=limited, network=Choice("mlp", {"width": 2048, "depth": 2}))
    train(settings=limited, network=Choice("mlp", {"width": 16, "depth": 1}))


# --- several targets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("balancing", ["fixed", "uncertainty", "gradnorm"])
def test_learns_several_targets_of_which_some_are_missing(balancing):
    number, classes = problem(Task.REGRESSION), problem(Task.MULTICLASS)
    parts = []
    for one, other in ((number.train, classes.train), (number.val, classes.val)):
        y = np.column_stack([one.target, other.target])
        y[::3, 0] = np.nan
        y[1::3, 1] = np.nan
        parts.append(Part(one.inputs, y))
    spec = TargetSpec(Task.MULTITASK, 4, parts=(number.target, classes.target))
    heads = (Target("number", Task.REGRESSION), Target("class", Task.MULTICLASS, (0, 1, 2)))
    metric = metrics.default_metric(Target("", Task.MULTITASK, parts=heads))
    chosen = configuration(Task.MULTICLASS, balancing=Choice(balancing))
    settings = TrainerSettings(max_epochs=12)
    data = PreparedData(*parts, number.inputs, spec)
    found = fit(chosen, data, metric, settings, seed=0, report=lambda epoch: False)
    assert found.predictions.shape == (200, 4)
    assert found.value > 0.7  # of 1, where 0 is what knows nothing
