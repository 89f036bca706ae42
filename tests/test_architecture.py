"""Networks for tables that hold more than they know: what is flattened, and what is offered for which table."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from automl import plugins
from automl.architecture import Flattened, Relative, build, is_for
from automl.components import catalogue
from automl.values import Block, BlockSpec, Choice, Column, ColumnKind, InputSpec, Schema, Target, Task

plugins.load_builtin()

NUMERIC = BlockSpec("numeric", (3,), quantiles=((-1.0, 0.0, 1.0),) * 3)
IMAGE = BlockSpec("image", (2, 2, 2))
SEQUENCE = BlockSpec("sequence", (1, 4))
TOKENS = BlockSpec("tokens", (5,), (11,))


def rows(n: int = 6) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "numeric": torch.randn(n, 3),
        "image": torch.randn(n, 2, 2, 2),
        "sequence": torch.randn(n, 1, 4),
        "tokens": torch.randint(0, 11, (n, 5)),
    }


def test_a_network_of_columns_is_built_as_it_is_where_there_are_only_columns() -> None:
    assert not isinstance(build(Choice("mlp"), InputSpec({"numeric": NUMERIC}), 1), Flattened)


def test_a_perceptron_sees_pixels_steps_and_the_mean_of_words_as_numbers() -> None:
    inputs = InputSpec({"image": IMAGE, "numeric": NUMERIC, "sequence": SEQUENCE, "tokens": TOKENS})
    network = build(Choice("mlp"), inputs, 2)
    assert isinstance(network, Flattened)
    given = rows()
    columns = network.flattening(given)
    assert columns.keys() == {"numeric"}
    assert columns["numeric"].shape == (6, 3 + 8 + 4 + 64)
    assert torch.equal(columns["numeric"][:, :3], given["numeric"])
    assert torch.equal(columns["numeric"][:, 3:11], given["image"].flatten(1))
    assert network(given).shape == (6, 2)


def test_a_row_without_a_word_has_no_mean() -> None:
    network = build(Choice("mlp"), InputSpec({"tokens": TOKENS}), 1)
    columns = network.flattening({"tokens": torch.zeros(2, 5, dtype=torch.int64)})
    assert (columns["numeric"] == 0).all()


def test_what_a_network_takes_is_not_flattened() -> None:
    network = build(Choice("cnn"), InputSpec({"image": IMAGE, "sequence": SEQUENCE}), 1)
    assert isinstance(network, Flattened)
    given = {name: rows()[name] for name in ("image", "sequence")}
    kept = network.flattening(given)
    assert {name: block.shape for name, block in kept.items()} == {"image": (6, 2, 2, 2), "numeric": (6, 4)}
    assert network(given).shape == (6, 1)


class Looking(nn.Module):
    """Keeps what it is shown before training."""

    def pretrain(self, inputs: dict[str, torch.Tensor], *, seed: int, deadline: float) -> None:
        self.seen = inputs["numeric"].shape

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return inputs["numeric"][:, :1]


def test_what_looks_at_rows_before_training_sees_them_flattened(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = catalogue("network")
    monkeypatch.setattr(networks, "_components", dict(networks._components))
    networks.add("looking", lambda inputs, n_outputs: Looking())
    network = build(Choice("looking"), InputSpec({"image": IMAGE}), 1)
    network.pretrain(rows(), seed=0, deadline=0.0)
    assert network.network.seen == (6, 8)
    assert not hasattr(build(Choice("mlp"), InputSpec({"image": IMAGE}), 1), "pretrain")


@pytest.mark.parametrize(
    ("name", "for_images", "for_texts", "for_columns"),
    [("cnn", True, False, False), ("recurrent", False, True, False), ("mlp", True, True, True)],
)
def test_a_network_is_offered_where_it_makes_something_of_the_table(
    name: str, for_images: bool, for_texts: bool, for_columns: bool
) -> None:
    target = Target("y", Task.REGRESSION)
    pixels = tuple(Column(f"p{i}", ColumnKind.IMAGE, "float64") for i in range(4))
    block = Block("image", ColumnKind.IMAGE, tuple(column.name for column in pixels), (1, 2, 2))
    tables = [
        Schema(pixels, target, (block,)),
        Schema((Column("review", ColumnKind.TEXT, "str"),), target),
        Schema((Column("age", ColumnKind.NUMERIC, "float64"),), target),
    ]
    component = catalogue("network")[name]
    assert [is_for(component, table) for table in tables] == [for_images, for_texts, for_columns]


@pytest.mark.parametrize("name", ["mlp", "tabm", "wide_and_deep"])
def test_outputs_are_relative_to_a_baseline(name: str) -> None:
    inputs = InputSpec({"baseline": BlockSpec("baseline", (2,)), "numeric": NUMERIC, "sequence": SEQUENCE})
    network = build(Choice(name), inputs, 1).eval()
    assert isinstance(network, Relative)
    given = {block: values for block, values in rows().items() if block in ("numeric", "sequence")}
    inside = network.network(given)
    level, scale = torch.randn(6), torch.rand(6)
    shape = (6, *[1] * (inside.ndim - 1))
    expected = level.view(shape) + scale.view(shape) * inside
    assert torch.allclose(network({**given, "baseline": torch.stack([level, scale], dim=1)}), expected)
    assert hasattr(network, "pretrain") is hasattr(network.network, "pretrain")
