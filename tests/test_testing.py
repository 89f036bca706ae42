"""The checks that plug-ins are offered find what they promise to find."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from automl import plugins, testing
from automl.augmentations import Augmented
from automl.components import CATALOGUES, Catalogue, Component, catalogue
from automl.data.columns import infer_kind
from automl.testing import PLAIN_TASKS
from automl.values import ColumnKind, Task

plugins.load_builtin()
mlp = catalogue("network")["mlp"].factory


def component(kind: str, factory: Callable[..., Any], *traits: str) -> Component:
    alone = Catalogue(kind)
    alone.add("wrong", factory, traits)
    return alone["wrong"]


# --- networks --------------------------------------------------------------------------------------------------------


class Wrong(nn.Module):
    """A good network with something done to what it returns."""

    def __init__(self, inputs: Any, n_outputs: int, after: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.network = mlp(inputs, n_outputs, depth=1, width=8, dropout=0.0)
        self.after = after

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.after(self.network(inputs))


def unused(inputs: Any, n_outputs: int) -> nn.Module:
    """A parameter that plays no part."""
    network: nn.Module = mlp(inputs, n_outputs, depth=1, width=8)
    network.extra = nn.Parameter(torch.ones(3))
    return network


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self, inputs: Any, n_outputs: int) -> None:
        super().__init__()
        self.network = mlp(inputs, n_outputs, depth=1, width=8)
        self.again = self.network.output

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs: torch.Tensor = self.network(inputs)
        return outputs


def wrong(after: Callable[[torch.Tensor], torch.Tensor]) -> Callable[..., nn.Module]:
    def factory(inputs: Any, n_outputs: int) -> nn.Module:
        """A network with something wrong."""
        return Wrong(inputs, n_outputs, after)

    return factory


def undocumented(inputs: Any, n_outputs: int) -> nn.Module:
    network: nn.Module = mlp(inputs, n_outputs)
    return network


def badly_annotated(inputs: Any, n_outputs: int, *, width: int = 0.5) -> nn.Module:  # type: ignore[assignment]
    """A default that is not allowed."""
    network: nn.Module = mlp(inputs, n_outputs)
    return network


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (wrong(lambda outputs: outputs - outputs.detach().mean(dim=0)), "rows beside it"),
        (wrong(lambda outputs: outputs.cumsum(dim=0)), "in another order"),
        (wrong(lambda outputs: outputs + torch.rand(1)), "a second time"),
        (wrong(lambda outputs: outputs.squeeze()), "returns shape"),
        (wrong(lambda outputs: outputs.double()), "float32"),
        (wrong(lambda outputs: outputs / 0), "not finite"),
        (wrong(lambda outputs: outputs.detach().requires_grad_()), "no gradient reaches"),
        (unused, "a parameter `extra` that no gradient reaches"),
        (Tied, "shares memory"),
        (lambda inputs, n_outputs: None, "no docstring"),
        (undocumented, "no docstring"),
        (badly_annotated, "the default `0.5` of `width`, which is not int"),
    ],
)
def test_a_network_that_breaks_the_contract_is_caught(factory: Callable[..., nn.Module], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        testing.check_network(component("network", factory))


def test_a_network_may_be_for_some_blocks_only_if_it_says_so() -> None:
    def numbers_only(inputs: Any, n_outputs: int) -> nn.Module:
        """Takes numbers."""
        if set(inputs.blocks) != {"numeric"}:
            raise ValueError("takes numbers only")
        network: nn.Module = mlp(inputs, n_outputs)
        return network

    testing.check_network(component("network", numbers_only), mixes=["numeric"])
    with pytest.raises(ValueError, match="numbers only"):
        testing.check_network(component("network", numbers_only))


def test_the_checks_leave_the_random_numbers_of_the_caller_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    testing.check_network(catalogue("network")["mlp"])
    assert torch.rand(1) == expected


# --- optimizers, schedules, losses -----------------------------------------------------------------------------------


def uphill(params: Any, *, lr: float = 0.1) -> torch.optim.Optimizer:
    """Goes the wrong way."""
    return torch.optim.SGD(params, lr=lr, maximize=True)


def ungrouped(params: Any, *, lr: float = 0.1, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """Throws the groups together."""
    flat = [p for group in params for p in (group["params"] if isinstance(group, dict) else [group])]
    return torch.optim.SGD(flat, lr=lr, weight_decay=weight_decay)


@pytest.mark.parametrize(("factory", "said"), [(uphill, "downhill"), (ungrouped, "groups")])
def test_an_optimizer_that_breaks_the_contract_is_caught(factory: Callable[..., Any], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        testing.check_optimizer(component("optimizer", factory))


def growing(optimizer: torch.optim.Optimizer, n_steps: int) -> Any:
    """Exceeds the rate that was asked for."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0 + step)


@pytest.mark.parametrize(
    ("traits", "said"), [((), "traits"), (("per_step", "per_epoch"), "traits"), (("per_step",), "0.5 was asked")]
)
def test_a_schedule_that_breaks_the_contract_is_caught(traits: tuple[str, ...], said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        testing.check_schedule(component("schedule", growing, *traits))


class Reduced(nn.Module):
    def __init__(self, reduce: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.reduce = reduce

    def forward(self, outputs: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.reduce((outputs.squeeze(-1) - (y if outputs.ndim == 2 else y[:, None])).square())


@pytest.mark.parametrize(
    ("reduce", "said"),
    [
        (lambda errors: errors, "not a scalar"),
        (lambda errors: -errors.mean(), "not smaller for better outputs"),
        (lambda errors: errors[0].mean(), "gives some rows no gradient"),
        (lambda errors: errors.mean() / 0, "not finite"),
        (lambda errors: errors.mean() * (1 + errors.numel()) + errors.numel(), "two equal members"),
    ],
)
def test_a_loss_that_breaks_the_contract_is_caught(reduce: Callable[..., torch.Tensor], said: str) -> None:
    def factory(target: Any) -> nn.Module:
        """A loss with something wrong."""
        return Reduced(reduce)

    with pytest.raises(AssertionError, match=said):
        testing.check_loss(component("loss", factory, "regression"))


# --- augmentations, averages, draws ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        (lambda rows, y: Augmented({name: block[:1] for name, block in rows.items()}, y), "of shape"),
        (lambda rows, y: Augmented({name: block + 100 for name, block in rows.items()}, y), "beyond the cardinalities"),
        (lambda rows, y: Augmented({name: block.float() / 0 for name, block in rows.items()}, y), "not finite"),
        (lambda rows, y: Augmented({}, y), "gives the blocks"),
        (lambda rows, y: Augmented(rows, y + 50), "target values"),
        (lambda rows, y: Augmented(rows, y, y, 1.5), "the share 1.5"),
        (lambda rows, y: Augmented({name: block.zero_() for name, block in rows.items()}, y), "rows that it is given"),
        (lambda rows, y: Augmented(rows, y, y, float(torch.rand(()))), "for the same seed"),
    ],
)
def test_an_augmentation_that_breaks_the_contract_is_caught(augment: Callable[..., Any], said: str) -> None:
    def factory(inputs: Any, seed: int) -> Any:
        """An augmentation with something wrong."""
        return augment

    with pytest.raises(AssertionError, match=said):
        testing.check_augmentation(component("augmentation", factory))


class Summed:
    """A sum in place of an average."""

    def __init__(self, network: nn.Module, own: bool) -> None:
        self.trained = network
        self.network = network if own else copy.deepcopy(network)

    def add(self, share: float) -> None:
        with torch.no_grad():
            for mine, theirs in zip(self.network.parameters(), self.trained.parameters(), strict=True):
                mine.add_(theirs)


@pytest.mark.parametrize(
    ("own", "traits", "said"),
    [
        (False, (), "trait"),
        (False, ("per_step",), "other weights of equal ones"),
        (True, ("per_epoch",), "other weights of equal ones"),
    ],
)
def test_an_averaging_that_breaks_the_contract_is_caught(own: bool, traits: tuple[str, ...], said: str) -> None:
    def factory(network: nn.Module) -> Any:
        """An average with something wrong."""
        return Summed(network, own)

    with pytest.raises(AssertionError, match=said):
        testing.check_averaging(component("averaging", factory, *traits))


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda y, generator: torch.arange(len(y) - 1), "as many"),
        (lambda y, generator: torch.arange(len(y)) + 1, "as many"),
        (lambda y, generator: torch.randperm(len(y)), "for the same seed"),
        (lambda y, generator: torch.zeros(len(y), dtype=torch.int64), "a class out"),
    ],
)
def test_a_draw_that_breaks_the_contract_is_caught(draw: Callable[..., Any], said: str) -> None:
    def factory() -> Any:
        """A draw with something wrong."""
        return draw

    with pytest.raises(AssertionError, match=said):
        testing.check_batches(component("batches", factory))


# --- steps -------------------------------------------------------------------------------------------------------

STEPS = '''
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from automl.components import register

class Step(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self

class Drops(Step):
    def transform(self, X):
        return X[: max(len(X) - 1, 0)]

class Sorts(Step):
    def transform(self, X):
        return np.sort(X, axis=0)

class Centres(Step):
    def transform(self, X):
        return X - X.mean(axis=0) if len(X) else X

class Random(Step):
    def transform(self, X):
        return X + np.random.rand(*X.shape)

class Overwrites(Step):
    def transform(self, X):
        return X * np.nan

class Remembers(Step):
    def fit(self, X, y=None):
        self.function_ = lambda X: X  # which no file can hold
        return self
    def transform(self, X):
        return X

SHARED = Centres()

class LosesAClass(BaseEstimator):
    def fit_resample(self, X, y):
        self.sample_indices_ = np.flatnonzero(y != y.max())
        return X[self.sample_indices_], y[self.sample_indices_]

class Repeats(BaseEstimator):
    def fit_resample(self, X, y):
        self.sample_indices_ = np.arange(len(y)).repeat(2)
        return X[self.sample_indices_], y[self.sample_indices_]

@register("cleaning", "picks_rows")
def repeats(task):
    """."""
    return Repeats()

@register("scaling")
def drops(task):
    """."""
    return Drops()

@register("scaling")
def sorts(task):
    """."""
    return Sorts()

@register("scaling")
def centres(task):
    """."""
    return Centres()

@register("scaling")
def random(task):
    """."""
    return Random()

@register("scaling")
def overwrites(task):
    """."""
    return Overwrites()

@register("scaling")
def remembers(task):
    """."""
    return Remembers()

@register("scaling")
def shared(task):
    """."""
    return SHARED

@register("resampling", "picks_rows")
def loses_a_class(task):
    """."""
    return LosesAClass()
'''


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    known = {kind: dict(CATALOGUES[kind]._components) for kind in ("cleaning", "scaling", "resampling")}
    (tmp_path / "wrong_steps.py").write_text(STEPS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("wrong_steps")
    for kind, components in known.items():
        CATALOGUES[kind]._components = components
    del sys.modules["wrong_steps"]


@pytest.mark.parametrize(
    ("stage", "name", "said"),
    [
        ("scaling", "drops", "shape"),
        ("scaling", "sorts", "order of rows"),
        ("scaling", "centres", "rows beside it"),
        ("scaling", "random", "learns from rows that it transforms"),
        ("scaling", "overwrites", "not finite"),
        ("scaling", "shared", "the same object twice"),
        ("resampling", "loses_a_class", "loses a class"),
        ("cleaning", "repeats", "adds training rows"),
    ],
)
def test_a_step_that_breaks_the_contract_is_caught(steps: ModuleType, stage: str, name: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        testing.check_step(catalogue(stage)[name])


def test_a_step_that_cannot_be_saved_is_caught(steps: ModuleType) -> None:
    with pytest.raises(Exception, match=r"(?i)save|trusted|lambda|function"):
        testing.check_step(catalogue("scaling")["remembers"])


def test_what_is_no_step_is_told() -> None:
    with pytest.raises(AssertionError, match="`mlp` is a network, no preprocessing step"):
        testing.check_step(catalogue("network")["mlp"])


# --- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_the_boring_table_has_every_kind_of_column(task: Task) -> None:
    table = testing.boring_table(task)
    assert {infer_kind(table[name]) for name in table if name != "target"} == {
        kind for kind in ColumnKind if not kind.is_of_block and kind is not ColumnKind.DOMAIN
    }
    assert len(table) == 200
    pd.testing.assert_frame_equal(table, testing.boring_table(task))
    assert not table.equals(testing.boring_table(task, seed=1))
    assert table.drop(columns="target").isna().any(axis=None)
    assert table["target"].notna().all()
    if task.is_classification:
        assert table["target"].nunique() == (2 if task is Task.BINARY else 3)
        assert table["target"].value_counts().min() > 20


def test_a_boring_dataset_is_of_the_mix_that_was_asked_for() -> None:
    numeric = testing.boring_dataset(Task.BINARY, mix="numeric").schema
    categorical = testing.boring_dataset(Task.BINARY, mix="categorical").schema
    both = testing.boring_dataset(Task.BINARY).schema
    assert not numeric.names(ColumnKind.CATEGORICAL)
    assert categorical.names() == categorical.names(ColumnKind.CATEGORICAL) == ["colour", "town"]
    assert sorted(both.names()) == sorted([*numeric.names(), *categorical.names()])
    assert np.isfinite(testing.boring_dataset(Task.REGRESSION).target).all()
