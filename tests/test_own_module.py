"""What a LightningModule says of rows is read as what it is, shipped without pickle, and said again after loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from automl import losses, own_module, prediction
from automl.components import CATALOGUES
from automl.errors import ConfigError, DataError
from automl.own_module import OwnModule, Says
from automl.predictor import Member, Predictor
from automl.preprocessing.preprocessing import Preprocessing
from automl.values import NO_TABLE, BlockSpec, Choice, InputSpec, TargetSpec, Task

BINARY = TargetSpec(Task.BINARY, 1, (5, 5))
MULTICLASS = TargetSpec(Task.MULTICLASS, 3, (5, 5, 5))
REGRESSION = TargetSpec(Task.REGRESSION, 1, mean=1e6, scale=3.0)


class Says_(pl.LightningModule):  # noqa: N801
    """Says of a row whatever it is told to make of it; tied weights."""

    def __init__(self, make: str = "x"):
        super().__init__()
        self.make = make
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Any:
        x = x + 0 * self.first(x).sum()
        return {
            "x": lambda: x,
            "one": lambda: x[:, 0],
            "column": lambda: x[:, :1],
            "two": lambda: x[:, :2],
            "softmax": lambda: x.softmax(dim=1),
            "log_softmax": lambda: x.log_softmax(dim=1),
            "sigmoid": lambda: x[:, 0].sigmoid(),
            "labels": lambda: x.argmax(dim=1),
            "image": lambda: x.reshape(-1, 3, 1),
            "dictionary": lambda: {"x": x},
            "mean": lambda: x.mean(),
        }[self.make]()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.first(batch[0]).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class OfRows(Says_):
    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return 2 * self(batch)


class OfBatches(Says_):
    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return 2 * self(x) + y[:, None]


def rows(n: int = 8) -> Tensor:
    return 3 * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


def predicted(make: str, target: TargetSpec, *traits: str) -> Any:
    network = OwnModule(Says_(make), target.n_outputs)
    assert network.look_at(rows(), target=target, traits=traits) == ""
    return losses.forward(network, {"x": rows().numpy()}, target)


@pytest.mark.parametrize("make", ["x", "softmax", "log_softmax", "image"])
def test_logits_and_probabilities_come_to_the_same(make: str) -> None:
    assert predicted(make, MULTICLASS) == pytest.approx(rows().softmax(dim=1).numpy(), abs=1e-6)


@pytest.mark.parametrize("make", ["one", "column", "sigmoid"])
def test_one_number_is_the_second_class(make: str) -> None:
    assert predicted(make, BINARY)[:, 1] == pytest.approx(rows()[:, 0].sigmoid().numpy(), abs=1e-6)


def test_several_targets_stand_side_by_side() -> None:
    label = TargetSpec(Task.BINARY, 1, (5, 5))
    labels = TargetSpec(Task.MULTILABEL, 3, parts=(label, label, label))
    assert predicted("x", labels)[:, [1, 3, 5]] == pytest.approx(rows().sigmoid().numpy(), abs=1e-6)
    assert predicted("softmax", labels)[:, [1, 3, 5]] == pytest.approx(rows().softmax(dim=1).numpy(), abs=1e-6)
    quantiles = TargetSpec(Task.QUANTILE, 3, mean=10.0, scale=2.0, quantiles=(0.1, 0.5, 0.9))
    assert predicted("x", quantiles) == pytest.approx(rows().sort(dim=1).values.numpy(), abs=1e-5)
    several = TargetSpec(Task.MULTITASK, 2, parts=(label, TargetSpec(Task.REGRESSION, 1, mean=5.0, scale=2.0)))
    found = predicted("two", several)
    assert found[:, 1] == pytest.approx(rows()[:, 0].sigmoid().numpy(), abs=1e-6)
    assert found[:, -1] == pytest.approx(rows()[:, 1].numpy(), abs=1e-5)


def test_two_numbers_are_the_two_classes() -> None:
    assert predicted("two", BINARY) == pytest.approx(rows()[:, :2].softmax(dim=1).numpy(), abs=1e-6)


def test_labels_are_sure() -> None:
    found = predicted("labels", MULTICLASS)
    assert (found.argmax(axis=1) == rows().argmax(dim=1).numpy()).all()
    assert (found.max(axis=1) > 0.99999).all()


def test_a_plug_in_says_what_could_be_mistaken() -> None:
    sure = predicted("softmax", MULTICLASS, "logits")
    assert sure == pytest.approx(rows().softmax(dim=1).softmax(dim=1).numpy(), abs=1e-6)


def test_what_once_were_no_probabilities_are_logits() -> None:
    network = OwnModule(Says_("one"), 1)
    unclear = rows().sigmoid()
    unclear[0, 0] = torch.nan
    for x, said in ((unclear, Says.PROBABILITIES), (rows(), Says.LOGITS), (unclear, Says.LOGITS)):
        network.look_at(x, target=BINARY)
        assert network.says is said


def test_values_are_in_their_own_unit() -> None:
    assert predicted("column", REGRESSION) == pytest.approx(rows()[:, 0].numpy(), abs=1e-4)


@pytest.mark.parametrize(
    ("make", "target", "said"),
    [
        ("two", MULTICLASS, "it gives 2 numbers a row, not one for each of 3 classes"),
        ("x", REGRESSION, "it gives 3 numbers a row, not 1"),
        ("dictionary", BINARY, "its `forward` raises TypeError: gives dict, not a tensor"),
        ("mean", BINARY, "its `forward` raises ValueError: gives () for 8 rows, not one entry a row"),
    ],
)
def test_what_cannot_be_read_is_told(make: str, target: TargetSpec, said: str) -> None:
    assert OwnModule(Says_(make), target.n_outputs).look_at(rows(), target=target) == said


@pytest.mark.parametrize("kind", [OfRows, OfBatches])
def test_predict_step_is_asked_with_rows_or_with_batches(kind: Any) -> None:
    network = OwnModule(kind(), 3)
    assert network.look_at(rows(), target=MULTICLASS) == ""
    assert torch.allclose(network.outputs(rows()), 2 * rows().double())


def test_each_part_is_put_back_into_its_mode() -> None:
    module = Says_().train()
    module.second.eval()
    OwnModule(module, 3).look_at(rows(), target=MULTICLASS)
    assert (module.training, module.first.training, module.second.training) == (True, True, False)


def test_what_the_data_know_is_filled_in() -> None:
    CATALOGUES["network"].add("my.says", Says_)
    try:
        inputs = InputSpec({"image": BlockSpec("image", (1, 8, 8))})
        known = own_module._of_data(inputs, 3)
        assert known == {"n_inputs": 64, "n_outputs": 3, "input_shape": [1, 8, 8]}
        made = own_module.build(CATALOGUES["network"]["my.says"], {"make": {"data": "n_inputs"}}, inputs, 3)
        assert made.module.make == 64
    finally:
        del CATALOGUES["network"]._components["my.says"]


@pytest.fixture
def model(tmp_path: Path) -> Any:
    """The folder of a model that reads arrays."""
    CATALOGUES["network"].add("my.says", Says_)
    network = OwnModule(Says_(), 1)
    network.look_at(rows())
    preprocessing = Preprocessing((), NO_TABLE, seed=0)
    preprocessing.inputs = InputSpec({"x": BlockSpec("own", (3,))})
    target = TargetSpec(Task.REGRESSION, 1)
    Predictor(NO_TABLE, [Member(preprocessing, network, Choice("my.says"), target)]).save(tmp_path / "model")
    yield tmp_path / "model"
    if "my.says" in CATALOGUES["network"]:
        del CATALOGUES["network"]._components["my.says"]


def test_a_model_of_arrays_says_the_same_after_loading(model: Path, tmp_path: Path) -> None:
    assert {path.suffix for path in model.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".skops"}
    tied = load_file(model / "weights.safetensors")
    assert torch.equal(tied["0.module.first.weight"], tied["0.module.second.weight"])
    np.save(tmp_path / "rows.npy", rows().numpy())
    assert prediction.predict_file(model, tmp_path / "rows.npy", tmp_path / "said.csv").n_rows == 8
    said = pd.read_csv(tmp_path / "said.csv")
    assert list(said) == ["output_0", "output_1", "output_2"]
    assert said.to_numpy() == pytest.approx(rows().numpy(), abs=1e-6)
    assert prediction.prove(model)["members"] == 1
    assert len(Predictor.load(model).predict_array(np.zeros((0, 3)))) == 0


def test_what_is_no_array_is_refused(model: Path, tmp_path: Path) -> None:
    predictor = Predictor.load(model)
    with pytest.raises(DataError, match=r"found an array of the shape \(8, 2\); the module was fed with \(rows, 3\)"):
        predictor.predict_array(np.zeros((8, 2)))
    with pytest.raises(DataError, match="allowed: numbers"):
        predictor.predict_array(np.array([["a", "b", "c"]]))
    np.save(tmp_path / "objects.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    (tmp_path / "table.csv").write_text("a,b,c\n1,2,3\n")
    for name in ("objects.npy", "table.csv"):
        with pytest.raises(DataError, match=r"is no array that numpy.save wrote. The model reads no table"):
            prediction.predict_file(model, tmp_path / name, tmp_path / "said.csv")
    with pytest.raises(DataError, match="there is no such file"):
        prediction.predict_file(model, tmp_path / "nowhere.npy", tmp_path / "said.csv")
    assert not (tmp_path / "said.csv").exists()


def test_a_model_whose_plug_in_is_not_loaded_says_so(model: Path) -> None:
    del CATALOGUES["network"]._components["my.says"]
    with pytest.raises(ConfigError, match=r"`my.says` is registered by no plug-in that is loaded.*--plugin MODULE"):
        Predictor.load(model)


def test_nothing_is_said_before_it_is_looked_at() -> None:
    assert OwnModule(Says_(), 1).says is Says.NOTHING
