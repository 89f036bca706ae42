"""A training that is cut off and gone on with comes out as one that never was, whatever it is made of."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch

from automl import metrics, plugins
from automl.components import CATALOGUES
from automl.errors import StorageError
from automl.training.checkpoint import Checkpoint, Paused, random_state, set_random_state
from automl.training.fit import fit
from automl.values import (
    USUAL_QUANTILES,
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
plugins.load_builtin()

PLACES = ("network", "optimizer", "schedule", "loss", "augmentation", "averaging", "batches", "balancing", "domain")
PLAIN = Configuration(
    preprocessing=(),
    network=Choice("mlp", {"depth": 1, "width": 8, "dropout": 0.2}),
    optimizer=Choice("adamw", {"lr": 0.01}),
    schedule=Choice("cosine"),
    loss=Choice("cross_entropy"),
    batch_size=16,
)
SETTINGS = TrainerSettings(max_epochs=4, patience=4, accelerator="cpu")


STRUCTURED = {
    "image": BlockSpec("image", (1, 6, 6)),
    "sequence": BlockSpec("sequence", (2, 12)),
    "tokens": BlockSpec("tokens", (5,), (20,)),
    "domain": BlockSpec("domain", (1,), (4,)),
}


#: A number and two classes, which both follow the same signal.
TWO = Target("", Task.MULTITASK, parts=(Target("a", Task.REGRESSION), Target("b", Task.BINARY, (0, 1))))


def target_of(task, signal):
    """Returns the values of a target that follows the signal, and what a loss is told of them."""
    if task is Task.MULTITASK:
        (a, number), (b, classes) = target_of(Task.REGRESSION, signal), target_of(Task.BINARY, signal)
        return np.column_stack([a, b]), TargetSpec(task, 2, parts=(number, classes))
    if task is Task.BINARY:
        y = (signal > np.median(signal)).astype(np.int64)
        return y, TargetSpec(task, 1, tuple(np.bincount(y)))
    quantiles = USUAL_QUANTILES if task is Task.QUANTILE else ()
    return signal, TargetSpec(task, len(quantiles) or 1, mean=signal.mean(), scale=signal.std(), quantiles=quantiles)


def rows(task=Task.BINARY, n_train=64, n_val=32, kinds=()):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_train + n_val, 4)).astype(np.float32)
    codes = rng.integers(3, size=(n_train + n_val, 1))
    signal = X[:, 0] + codes[:, 0] + rng.normal(scale=0.5, size=len(X))
    y, target = target_of(task, signal)
    spec = InputSpec({"numeric": BlockSpec("numeric", (4,)), "categorical": BlockSpec("categorical", (1,), (3,))})
    blocks = {"numeric": X, "categorical": codes}
    for kind in kinds:
        shape = (len(X), *STRUCTURED[kind].shape)
        codes = STRUCTURED[kind].cardinalities
        blocks[kind] = rng.integers(codes[0], size=shape) if codes else rng.normal(size=shape).astype(np.float32)
    spec = InputSpec({**spec.blocks, **{kind: STRUCTURED[kind] for kind in kinds}})
    parts = [
        Part({name: block[chosen] for name, block in blocks.items()}, y[chosen])
        for chosen in (slice(n_train), slice(n_train, None))
    ]
    return PreparedData(*parts, spec, target)


class Cut:
    """Pauses after some reports, as often as it is told."""

    def __init__(self, *after):
        self.after = list(after)
        self.n = 0
        self.steps = []

    def report(self, epoch):
        self.n += 1
        self.steps.append(epoch.step)
        return False

    def pauses(self):
        if self.after and self.n >= self.after[0]:
            self.after.pop(0)
            self.n = 0
            return True
        return False


def train(configuration, data, path, cut, settings=SETTINGS):
    """Trains until nothing pauses it, each time with a new checkpoint on the same file; counts the tries."""
    metric = metrics.default_metric(TWO if data.target.parts else data.target.task)
    n_tries = 0
    while True:
        n_tries += 1
        random.seed(n_tries)
        np.random.seed(n_tries)
        torch.manual_seed(n_tries)  # a new process begins somewhere else
        checkpoint = Checkpoint(path, "this", cut.pauses, every_s=0.0)
        try:
            done = fit(configuration, data, metric, settings, seed=3, report=cut.report, checkpoint=checkpoint)
        except Paused:
            continue
        return done, n_tries


def assert_same(configuration, data, folder, settings=SETTINGS):
    whole, _ = train(configuration, data, folder / "whole.pt", Cut(), settings)
    pieces, n_tries = train(configuration, data, folder / "pieces.pt", Cut(1, 3), settings)
    assert n_tries == 3
    assert pieces.seconds_before > 0, "it began anew"
    np.testing.assert_array_equal(pieces.predictions, whole.predictions)
    assert [replace(e, metrics={**e.metrics, "epoch_seconds": 0.0}) for e in pieces.history] == [
        replace(e, metrics={**e.metrics, "epoch_seconds": 0.0}) for e in whole.history
    ]
    found, expected = pieces.network.state_dict(), whole.network.state_dict()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert (pieces.best_epoch, pieces.n_epochs, pieces.n_planned, pieces.stopped, pieces.notes) == (
        whole.best_epoch, whole.n_epochs, whole.n_planned, whole.stopped, whole.notes
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "component",
    [component for place in PLACES for component in CATALOGUES[place]],
    ids=lambda component: f"{component.kind}-{component.name}",
)
def test_every_component_goes_on_where_it_was(component, tmp_path):
    task = next((task for task in Task if task.kind in component.traits), Task.BINARY)
    task = Task.MULTITASK if component.kind == "balancing" else task
    network = Choice("realmlp") if "single_row" in component.traits else PLAIN.network  # without batch normalisation
    loss = PLAIN.loss if task is Task.BINARY else Choice("mse")
    configuration = replace(PLAIN, network=network, loss=loss)
    data = rows(task, kinds=[kind for kind in STRUCTURED if kind in (*component.traits, component.kind)])
    assert_same(replace(configuration, **{component.kind: Choice(component.name)}), data, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": Choice("adamw", {"lr": "find"})},
        {"optimizer": Choice("sgd", {"lr": "find"}), "schedule": Choice("plateau"), "averaging": Choice("swa")},
        {"augmentation": Choice("mixup"), "averaging": Choice("ema"), "batches": Choice("balanced"), "clip_norm": 1.0},
        {"batch_size": "full"},
        {"domain": Choice("adversarial"), "averaging": Choice("ema"), "optimizer": Choice("adamw", {"lr": "find"})},
    ],
    ids=str,
)
def test_combinations_go_on_where_they_were(changes, tmp_path):
    assert_same(replace(PLAIN, **changes), rows(kinds=[place for place in changes if place == "domain"]), tmp_path)


@pytest.mark.parametrize("balancing", ["uncertainty", "gradnorm"])
def test_what_balances_several_targets_goes_on_where_it_was(balancing, tmp_path):
    changes = {"optimizer": Choice("adamw", {"lr": "find"}), "augmentation": Choice("mixup")}
    assert_same(replace(PLAIN, balancing=Choice(balancing), **changes), rows(Task.MULTITASK), tmp_path)


def test_pieces_of_a_large_table_go_on_where_they_were(tmp_path):
    data = rows()
    numbers = np.array_split(np.arange(64), 3)

    def piece(number):
        chosen = numbers[number]
        return Part({name: block[chosen] for name, block in data.train.inputs.items()}, data.train.target[chosen])

    shards = ShardedPart(data.train.target, tuple(map(len, numbers)), piece)
    settings = replace(SETTINGS, checks_an_epoch=2)
    assert_same(PLAIN, replace(data, train=shards), tmp_path, settings)


def test_patience_is_remembered(tmp_path):
    settings = replace(SETTINGS, max_epochs=30, patience=2)
    assert_same(replace(PLAIN, optimizer=Choice("adamw", {"lr": 0.3})), rows(), tmp_path, settings)


def test_all_of_it_is_reported_again_for_those_who_did_not_hear_it(tmp_path):
    cut = Cut(2)
    train(PLAIN, rows(), tmp_path / "it.pt", cut)
    assert cut.steps == [0, 1, 0, 1, 2, 3]


def test_what_has_ended_is_not_trained_again(tmp_path):
    class AtTheEnd(Cut):
        def pauses(self):
            return self.n == SETTINGS.max_epochs and not self.after and bool(self.after.append(99) or True)

    cut = AtTheEnd()
    done, n_tries = train(PLAIN, rows(), tmp_path / "it.pt", cut)
    assert n_tries == 2
    assert cut.steps == [0, 1, 2, 3] * 2
    assert done.seconds_before == sum(epoch.metrics["epoch_seconds"] for epoch in done.history)


@pytest.mark.parametrize("damage", ["torn", "foreign", "changed", "empty", "older"])
def test_what_cannot_be_gone_on_from_is_begun_anew(damage, tmp_path):
    path = tmp_path / "it.pt"
    whole, _ = train(PLAIN, rows(), tmp_path / "whole.pt", Cut())
    with pytest.raises(Paused):
        fit_once(path, Cut(2))
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "foreign":
        kept = torch.load(path, weights_only=True)
        torch.save({**kept, "subject": "that"}, path)
    elif damage == "older":  # code that named it otherwise
        kept = torch.load(path, weights_only=True)
        kept["state"]["watch"] = kept["state"].pop("course")
        torch.save(kept, path)
    else:
        kept = torch.load(path, weights_only=True)
        kept["state"]["loop"]["network"] = {"other": torch.zeros(3)}
        torch.save(kept, path)
    cut = Cut()
    np.testing.assert_array_equal(fit_once(path, cut).predictions, whole.predictions)
    assert cut.steps == [0, 1, 2, 3]


def test_a_checkpoint_holds_no_pickled_code(tmp_path):
    path = tmp_path / "it.pt"
    with pytest.raises(Paused):
        fit_once(path, Cut(1))
    assert torch.load(path, weights_only=True)["subject"] == "this"


def test_it_is_kept_no_more_often_than_asked_for(tmp_path):
    made = []
    checkpoint = Checkpoint(tmp_path / "it.pt", "this", every_s=3600)
    for _ in range(3):
        checkpoint.epoch_ended(lambda: made.append(1) or {})
    assert not made
    assert not list(tmp_path.iterdir())


def test_a_disk_that_refuses_is_said_and_what_was_kept_stays(tmp_path):
    path = tmp_path / "kept" / "it.pt"
    Checkpoint(path, "this", every_s=0.0).epoch_ended(lambda: {"epoch": 1})
    with pytest.raises(StorageError, match="cannot be written"):
        Checkpoint(tmp_path / "kept" / "it.pt" / "below.pt", "this", every_s=0.0).epoch_ended(lambda: {"epoch": 2})
    assert Checkpoint(path, "this").load() == {"epoch": 1}


def test_generators_go_on_where_they_were():
    before = random_state()
    drawn = (random.random(), np.random.random(), float(torch.rand(())))
    set_random_state(before)
    assert (random.random(), np.random.random(), float(torch.rand(()))) == drawn


def fit_once(path, cut):
    checkpoint = Checkpoint(path, "this", cut.pauses, every_s=0.0)
    metric = metrics.metric("log_loss", Task.BINARY)
    return fit(PLAIN, rows(), metric, SETTINGS, seed=3, report=cut.report, checkpoint=checkpoint)
