"""A LightningModule that knows nothing of us is trained as by Lightning alone, and can be stopped and gone on with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from automl import metrics, plugins
from automl.errors import ModuleError, TrainingDiverged
from automl.own_module import OwnModule, Says
from automl.training import adapt
from automl.training.checkpoint import Checkpoint, Paused
from automl.values import (
    OWN,
    BlockSpec,
    Choice,
    Configuration,
    Direction,
    EpochReport,
    InputSpec,
    Metric,
    Part,
    PreparedData,
    TargetSpec,
    Task,
    TrainerSettings,
)
from tests.lightning_modules import Classifier, Numbers, registered

LOSS = metrics.logged("val_loss", Direction.MINIMIZE)
SETTINGS = TrainerSettings(max_epochs=3, accelerator="cpu")


@pytest.fixture(autouse=True)
def _modules() -> Any:
    with registered():
        yield


def chosen(network: str, **params: Any) -> Configuration:
    return Configuration((), Choice(f"my.{network}", params), OWN, OWN, OWN, 16)


def data(task: Task = Task.BINARY, n_rows: int = 96) -> PreparedData:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n_rows, 2)).astype(np.float32)
    y: Any = (x.sum(axis=1) > 0).astype(np.int64) if task is Task.BINARY else 100 + 7.0 * x[:, 0].astype(np.float64)
    parts = [Part({"numeric": x[rows]}, y[rows]) for rows in (slice(0, 64), slice(64, None))]
    inputs = InputSpec({"numeric": BlockSpec("numeric", (2,))})
    target = TargetSpec(task, 1, (1, 1)) if task is Task.BINARY else TargetSpec(task, 1, mean=100.0, scale=7.0)
    return PreparedData(*parts, inputs, target)


def fit(
    configuration: Configuration,
    metric: Metric = LOSS,
    report: Callable[[EpochReport], bool] = lambda epoch: False,
    settings: TrainerSettings = SETTINGS,
    **more: Any,
) -> Any:
    return adapt.fit(configuration, data(), metric, settings, seed=3, report=report, **more)


def weights(network: OwnModule) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in network.module.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(*pair) for pair in zip(one.values(), other.values(), strict=True))


def test_it_is_trained_as_lightning_alone_trains_it(tmp_path: Path) -> None:
    """To the last bit, where loaders give the same batches."""
    configuration = chosen("Classifier")
    network, trained = adapt.fit_own_data(
        configuration, Choice("my.Numbers"), LOSS, SETTINGS, seed=3, report=lambda e: False
    )
    pl.seed_everything(3, workers=True, verbose=False)
    module = Classifier()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    pl.seed_everything(3, workers=True, verbose=False)  # what the data draw shall not depend on the weights
    logger = pl.loggers.logger.DummyLogger()
    callbacks = [pl.callbacks.Checkpoint()]
    pl.Trainer(
        max_epochs=3, accelerator="cpu", default_root_dir=tmp_path, logger=logger, callbacks=callbacks, **quiet
    ).fit(module, datamodule=Numbers(batch_size=16))
    assert trained.best_epoch == 2
    assert same(weights(network), module.state_dict())


def test_what_it_logs_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[EpochReport] = []
    fitted = fit(chosen("Classifier"), report=lambda epoch: seen.append(epoch) or False)  # type: ignore[func-returns-value]
    assert [epoch.step for epoch in seen] == [0, 1, 2]
    assert {"train_loss", "val_loss", "val_acc", "learning_rate", "epoch_seconds"} <= set(seen[0].metrics)
    assert seen[1].metrics["learning_rate"] == pytest.approx(0.01 * 0.8)
    assert fitted.value == min(epoch.metrics["val_loss"] for epoch in seen)
    assert fitted.logged["val_loss"] == fitted.value
    assert capsys.readouterr().out == ""  # stdout is for results


def test_an_objective_of_ours_is_computed_of_its_outputs() -> None:
    fitted = fit(chosen("Classifier"), metrics.metric("roc_auc", Task.BINARY))
    assert fitted.network.says is Says.LOGITS
    assert fitted.predictions.shape == (32, 2)
    assert fitted.predictions.sum(axis=1) == pytest.approx(1)
    assert fitted.value > 0.6


@pytest.mark.parametrize("network", ["Classifier", "Gan"])
def test_cut_off_and_gone_on_with_it_ends_as_one_that_was_not(network: str, tmp_path: Path) -> None:
    configuration = chosen(network, n_inputs=2)
    metric = LOSS if network == "Classifier" else metrics.logged("distance", Direction.MINIMIZE)
    whole: list[EpochReport] = []
    expected = fit(configuration, metric, lambda epoch: whole.append(epoch) or False)  # type: ignore[func-returns-value]
    asked = iter([False, True])
    with pytest.raises(Paused):
        fit(configuration, metric, checkpoint=Checkpoint(tmp_path / "0.pt", "it", lambda: next(asked), every_s=0))
    torch.rand(5)  # what happens meanwhile changes nothing
    seen: list[EpochReport] = []
    found = fit(
        configuration,
        metric,
        lambda epoch: seen.append(epoch) or False,
        checkpoint=Checkpoint(tmp_path / "0.pt", "it"),  # type: ignore[func-returns-value]
    )
    assert [epoch.value for epoch in seen] == [epoch.value for epoch in whole]
    assert found.value == expected.value
    assert same(weights(found.network), weights(expected.network))
    assert found.seconds_before > 0
    if network == "Classifier":
        assert found.network.module.n_validated == 3


def test_cut_off_it_goes_on_with_the_batches_of_its_own_data(tmp_path: Path) -> None:
    def train(report: Callable[[EpochReport], bool], checkpoint: Checkpoint | None = None) -> None:
        adapt.fit_own_data(
            chosen("Classifier"), Choice("my.Numbers"), LOSS, SETTINGS, seed=3, report=report, checkpoint=checkpoint
        )

    whole: list[float] = []
    train(lambda epoch: bool(whole.append(epoch.value)))
    asked = iter([False, True])
    with pytest.raises(Paused):
        train(lambda epoch: False, Checkpoint(tmp_path / "0.pt", "it", lambda: next(asked), every_s=0))
    torch.manual_seed(77)
    seen: list[float] = []
    train(lambda epoch: bool(seen.append(epoch.value)), Checkpoint(tmp_path / "0.pt", "it"))
    assert seen == whole


@pytest.mark.parametrize("has_ended", [False, True])
def test_kept_by_other_code_it_begins_anew(has_ended: bool, tmp_path: Path) -> None:
    before, now = chosen("Classifier", hidden=[8]), chosen("Classifier", hidden=[4])
    if has_ended:
        fit(before, checkpoint=Checkpoint(tmp_path / "0.pt", "it", every_s=0))
    else:
        with pytest.raises(Paused):
            fit(before, checkpoint=Checkpoint(tmp_path / "0.pt", "it", lambda: True, every_s=0))
    steps: list[int] = []
    found = fit(now, report=lambda e: bool(steps.append(e.step)), checkpoint=Checkpoint(tmp_path / "0.pt", "it"))
    assert steps == [0, 1, 2]
    assert same(weights(found.network), weights(fit(now).network))


def test_kept_by_other_code_it_begins_anew_with_its_own_data(tmp_path: Path) -> None:
    def train(hidden: int, checkpoint: Checkpoint | None = None) -> OwnModule:
        network, _ = adapt.fit_own_data(
            chosen("Classifier", hidden=[hidden]), Choice("my.Split"), LOSS, SETTINGS,
            seed=3, report=lambda e: False, checkpoint=checkpoint,
        )  # fmt: skip
        return network

    with pytest.raises(Paused):
        train(8, Checkpoint(tmp_path / "0.pt", "it", lambda: True, every_s=0))
    found = train(4, Checkpoint(tmp_path / "0.pt", "it"))
    assert same(weights(found), weights(train(4)))


def test_one_that_has_ended_is_not_trained_again(tmp_path: Path) -> None:
    expected = fit(chosen("Classifier"), checkpoint=Checkpoint(tmp_path / "0.pt", "it", every_s=0))
    before = time.monotonic()
    found = fit(chosen("Classifier"), checkpoint=Checkpoint(tmp_path / "0.pt", "it"), stop_at=before)
    assert same(weights(found.network), weights(expected.network))
    assert found.n_epochs == 3


@pytest.mark.parametrize("slope", [9.0, -9.0])
def test_logits_that_looked_like_probabilities_are_logits_in_the_end(slope: float) -> None:
    """Also where they did better as what they are not."""
    log_loss = metrics.metric("log_loss", Task.BINARY)
    fitted = fit(chosen("Late", slope=slope), log_loss, settings=TrainerSettings(max_epochs=2, accelerator="cpu"))
    assert fitted.network.says is Says.LOGITS
    assert fitted.best_epoch == 1
    x = torch.tensor(data().val.piece(0).inputs["numeric"])
    assert fitted.predictions[:, 1] == pytest.approx((0.5 + slope * x.sum(dim=1)).sigmoid().numpy(), abs=1e-5)
    assert fitted.notes == ("the outputs of `my.Late` were taken for logits; a plug-in can say what they are",)


def test_two_optimizers_stepped_by_hand() -> None:
    fitted = fit(chosen("Gan", n_inputs=2), metrics.logged("distance", Direction.MINIMIZE))
    assert fitted.network.says is Says.NOTHING  # its `forward` takes noise, not rows
    assert fitted.history[-1].value < fitted.history[0].value


def test_it_is_stopped() -> None:
    assert fit(chosen("Classifier"), report=lambda epoch: epoch.step == 1).stopped == "report"
    long = TrainerSettings(max_epochs=10_000, patience=10_000, accelerator="cpu")
    began = time.monotonic()
    fitted = fit(chosen("Classifier"), settings=long, stop_at=began + 0.4)
    assert fitted.stopped == "deadline"
    assert fitted.n_epochs < 10_000
    patient = TrainerSettings(max_epochs=50, patience=1, accelerator="cpu")
    assert fit(chosen("Classifier", lr=0.0), settings=patient).stopped == "patience"


def test_rows_and_values_come_as_they_are() -> None:
    prepared = data(Task.REGRESSION)
    _, train, _ = adapt._of_table(chosen("Classifier"), prepared, 0)
    x, y = next(iter(train))
    assert isinstance(x, torch.Tensor)
    assert (x.shape, y.dtype) == ((16, 2), torch.float32)
    assert 80 < float(y.mean()) < 120  # in its own unit
    two = {"numeric": torch.zeros(3, 2), "categorical": torch.zeros(3, 1, dtype=torch.int64)}
    assert adapt.as_x(two) == two


def test_workers_of_a_loader_have_processes() -> None:
    accuracy = metrics.logged("val_acc", Direction.MAXIMIZE)
    _, trained = adapt.fit_own_data(
        chosen("Classifier"), Choice("my.Numbers", {"num_workers": 1}), accuracy,
        TrainerSettings(max_epochs=1, accelerator="cpu"), seed=0, report=lambda e: False,
    )  # fmt: skip
    assert trained.inputs.blocks["x"].shape == (2,)


STRANGE = {
    "raises in __init__": r"lightning_modules.py:\d+: `__init__` raises ValueError: no such width",
    "raises in setup": r"lightning_modules.py:\d+: `setup` raises FileNotFoundError: .*nowhere/data.bin",
    "raises in training_step": r"lightning_modules.py:\d+: `training_step` raises RuntimeError: .*size",
    "logs something else": r"objective: the module never logged `val_loss`; it logged `train_loss`\. Did you mean",
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_wrong_is_told_with_its_place(what: str) -> None:
    with pytest.raises(ModuleError, match=STRANGE[what]):
        fit(chosen("Strange", what=what))
    with pytest.raises(ModuleError, match=STRANGE[what]):
        adapt.attempt(chosen("Strange", what=what), data(), LOSS, seed=0)


def test_what_is_no_number_is_told() -> None:
    with pytest.raises(TrainingDiverged, match="the objective was nan after epoch 1"):
        fit(chosen("Strange", what="logs nan"))
    with pytest.raises(TrainingDiverged, match=r"the weights `\S*layer.weight` were not finite after epoch 1"):
        fit(chosen("Strange", what="learns nan"))


def test_one_batch_that_gives_no_number_is_no_reason_to_refuse() -> None:
    broken = chosen("Strange", what="logs nan")
    assert adapt.attempt(broken, data(), LOSS, seed=0) == 0
    assert adapt.attempt(broken, Choice("my.Numbers"), LOSS, seed=0) == 96


@pytest.mark.parametrize("draws", ["in __init__", "in setup"])
def test_a_split_without_a_generator_is_the_same_whenever_it_is_drawn(draws: str) -> None:
    def train(*hidden: int) -> OwnModule:
        torch.rand(len(hidden))  # another process has drawn something else before
        network, _ = adapt.fit_own_data(
            chosen("Witness", hidden=list(hidden)), source, LOSS,
            TrainerSettings(max_epochs=1, accelerator="cpu"), seed=3, report=lambda e: False,
        )  # fmt: skip
        return network

    source = Choice("my.Split", {"draws": draws})
    network = train(8)
    assert len(network.module.seen) == 60
    assert train(4, 4).module.seen == network.module.seen
    torch.rand(7)
    assert adapt.test(network, source, chosen("Witness"), seed=3) == {"test_seen": 0.0}


def test_without_test_rows_there_is_no_test() -> None:
    network = adapt._built(Choice("my.Witness"), InputSpec({}), 1, 0)
    assert adapt.test(network, Choice("my.Numbers"), chosen("Witness"), seed=0) == {}
    network = adapt._built(Choice("my.Classifier"), InputSpec({}), 1, 0)
    assert adapt.test(network, Choice("my.Split"), chosen("Classifier"), seed=0) == {}


def test_data_that_are_not_there_are_told() -> None:
    with pytest.raises(ModuleError, match=r"lightning_modules.py:\d+: `setup` raises FileNotFoundError"):
        adapt.attempt(chosen("Classifier"), Choice("my.Numbers", {"path": "no.bin"}), LOSS, seed=0)


def test_a_metric_that_was_nearly_logged_is_named() -> None:
    with pytest.raises(ModuleError, match=r"it logged `train_loss`.* Did you mean `val_acc`"):
        fit(chosen("Classifier"), metrics.logged("val_accu", Direction.MAXIMIZE))


def test_trained_again_on_all_rows() -> None:
    network = adapt.retrain(chosen("Classifier", stops=False), data(), SETTINGS, seed=0, n_epochs=2)
    assert network is not None
    assert network.says is Says.LOGITS


# --- several processes -------------------------------------------------------------------------------------------

TOGETHER = TrainerSettings(max_epochs=3, accelerator="cpu", devices=2)


@pytest.fixture
def _known_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))  # by the name `tests` they could find anything
    monkeypatch.setattr(plugins, "imported", lambda: ("lightning_plugin",))


@pytest.mark.slow
@pytest.mark.usefixtures("_known_to_others")
class TestTogether:
    """Two processes, as one."""

    def test_they_learn_what_one_learns(self) -> None:
        alone, together = (fit(chosen("Plain"), settings=settings) for settings in (SETTINGS, TOGETHER))
        assert [epoch.value for epoch in together.history] == pytest.approx([epoch.value for epoch in alone.history])
        for name, weight in weights(alone.network).items():
            assert torch.allclose(weights(together.network)[name], weight, atol=1e-6)
        assert together.predictions == pytest.approx(alone.predictions, abs=1e-5)

    def test_an_objective_of_ours(self) -> None:
        fitted = fit(chosen("Plain"), metrics.metric("roc_auc", Task.BINARY), settings=TOGETHER)
        assert fitted.predictions.shape == (32, 2)
        assert fitted.value == max(epoch.value for epoch in fitted.history)

    def test_two_optimizers_stepped_by_hand(self) -> None:
        fitted = fit(chosen("Gan", n_inputs=2), metrics.logged("distance", Direction.MINIMIZE), settings=TOGETHER)
        assert fitted.n_epochs == 3
        assert fitted.value == min(epoch.value for epoch in fitted.history)

    def test_each_sees_its_own_rows_of_a_data_module(self) -> None:
        seen = metrics.logged("n_seen", Direction.MAXIMIZE)
        _, trained = adapt.fit_own_data(
            chosen("Plain"), Choice("my.Numbers"), seen, TOGETHER, seed=3, report=lambda e: False
        )
        assert trained.value == 48  # of 96
        assert trained.logged["rank"] == 0.5  # what is logged is the mean over the processes
        assert trained.inputs.blocks["x"].shape == (2,)

    def test_pruned(self) -> None:
        long = replace(TOGETHER, max_epochs=500, patience=500)
        fitted = fit(chosen("Plain", lr=1e-5), report=lambda epoch: epoch.step == 1, settings=long)
        assert fitted.stopped == "report"
        assert fitted.n_epochs < 500

    def test_out_of_time(self) -> None:
        long = replace(TOGETHER, max_epochs=100_000, patience=100_000)
        began = time.monotonic()
        fitted = fit(chosen("Plain", lr=1e-5), settings=long, stop_at=began + 8)
        assert fitted.stopped == "deadline"
        assert time.monotonic() < began + 30

    def test_cut_off_and_gone_on_with(self, tmp_path: Path) -> None:
        whole = fit(chosen("Plain"), settings=TOGETHER)
        with pytest.raises(Paused):
            fit(chosen("Plain"), settings=TOGETHER, checkpoint=Checkpoint(tmp_path / "0.pt", "it", lambda: True))
        steps: list[int] = []
        found = fit(
            chosen("Plain"), report=lambda epoch: bool(steps.append(epoch.step)), settings=TOGETHER,
            checkpoint=Checkpoint(tmp_path / "0.pt", "it"),
        )  # fmt: skip
        assert steps == [0, 1, 2]
        assert found.seconds_before > 0
        assert same(weights(found.network), weights(whole.network))

    def test_trained_again_on_all_rows(self) -> None:
        network = adapt.retrain(chosen("Plain"), data(), TOGETHER, seed=0, n_epochs=2)
        assert network is not None
        assert network.says is Says.LOGITS

    def test_sizes_are_known_before(self) -> None:
        assert fit(chosen("Plain", lazy=True), settings=TOGETHER).n_epochs == 3
        with pytest.raises(ModuleError, match=r"trainer.devices: the size of `layer.weight` is not known before"):
            fit(chosen("Strange", what="has no forward"), settings=TOGETHER)

    @pytest.mark.parametrize("what", ["raises in setup", "raises in training_step", "logs something else"])
    def test_what_is_wrong_is_told_with_its_place(self, what: str) -> None:
        with pytest.raises(ModuleError, match=STRANGE[what]):
            fit(chosen("Strange", what=what, width=2), settings=TOGETHER)
