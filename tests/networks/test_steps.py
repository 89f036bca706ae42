"""Sequences and texts of any length: what stands behind a row's end is nothing to any network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl import plugins
from automl.components import catalogue
from automl.networks._steps import Steps, pooled
from automl.values import BlockSpec, InputSpec

torch.set_num_threads(1)
plugins.load_builtin()

#: Steps that rows have at most, and of the shorter and the longer table they stand in.
LONGEST, SHORT, LONG = 9, 12, 16

READERS: list[Any] = [
    pytest.param(name, {}, kind, id=f"{name} {kind}")
    for name in catalogue("network").names()
    for kind in ("sequence", "tokens")
    if kind in catalogue("network")[name].traits
]
READERS += [
    pytest.param("recurrent", {"cell": cell, "summary": summary}, "sequence", id=f"{cell} {summary}")
    for cell in ("lstm", "gru", "rnn")
    for summary in ("last", "pooled")
]
READERS += [
    pytest.param("mixture", {param: encoder}, kind, id=f"mixture {encoder} {kind}")
    for kind, param in (("sequence", "sequence_encoder"), ("tokens", "text_encoder"))
    for encoder in catalogue("network")["mixture"].hyperparameters[param].choices
]


def table(kind: str, n_steps: int) -> tuple[InputSpec, dict[str, Tensor]]:
    """Returns the same rows of 1 to `LONGEST` steps in a table of so many."""
    generator = torch.Generator().manual_seed(0)
    there = torch.arange(n_steps) < torch.arange(1, LONGEST + 1)[:, None]
    if kind == "tokens":
        codes = torch.zeros(LONGEST, n_steps, dtype=torch.long)
        codes[:, :LONGEST] = torch.randint(1, 50, (LONGEST, LONGEST), generator=generator)
        return InputSpec({kind: BlockSpec(kind, (n_steps,), (50,))}), {kind: codes * there}
    block = torch.zeros(LONGEST, 3, n_steps)
    block[:, :2, :LONGEST] = torch.randn(LONGEST, 2, LONGEST, generator=generator)
    block[:, 2] = 1.0
    return InputSpec({kind: BlockSpec(kind, (3, n_steps), masked=True)}), {kind: block * there[:, None]}


def trained(name: str, params: dict[str, Any], inputs: InputSpec) -> nn.Module:
    """Returns a network whose every weight and running mean is other than at the beginning."""
    torch.manual_seed(0)
    network: nn.Module = catalogue("network")[name].factory(inputs, 2, **params).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in network.state_dict().values():
            if weight.is_floating_point():
                weight += 0.1 * torch.rand(weight.shape, generator=generator)
    for module in network.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx is not None:
            module.weight.data[module.padding_idx] = 0.0
    return network


@pytest.mark.parametrize(("name", "params", "kind"), READERS)
def test_a_longer_table_says_nothing_more_of_its_rows(name: str, params: dict[str, Any], kind: str) -> None:
    inputs, rows = table(kind, LONG)
    network = trained(name, params, inputs)
    fewer, same_rows = table(kind, SHORT)
    short = trained(name, params, fewer)
    of_positions = {key: weight.shape for key, weight in short.state_dict().items()}
    weights = {
        key: weight[: (*of_positions[key], 0)[0]] if weight.ndim else weight
        for key, weight in network.state_dict().items()
    }
    short.load_state_dict(weights)
    with torch.no_grad():
        found, wanted = network(rows), short(same_rows)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.std(dim=0).min() > 1e-4  # and of each row it says something else


@pytest.mark.parametrize(("name", "params", "kind"), READERS)
def test_the_last_step_counts(name: str, params: dict[str, Any], kind: str) -> None:
    inputs, rows = table(kind, LONG)
    network = trained(name, params, inputs)
    last = torch.arange(LONGEST)
    changed = rows[kind].clone()
    if kind == "tokens":
        changed[last, last] = changed[last, last] % 49 + 1
    else:
        changed[last, 0, last] += 3.0
    with torch.no_grad():
        assert ((network({kind: changed}) - network(rows)).abs().amax(1) > 1e-6).all()


def test_the_mean_and_the_maximum_are_of_the_steps_that_are_there() -> None:
    vectors = torch.tensor([[[1.0], [3.0], [100.0]], [[-4.0], [-2.0], [-6.0]]])
    there = torch.tensor([[True, True, False], [True, True, True]])
    assert pooled(vectors, there).tolist() == [[2.0, 3.0], [-4.0, -2.0]]


def test_a_row_without_a_step_has_one() -> None:
    vectors, there = Steps(BlockSpec("sequence", (2, 3), masked=True))(torch.zeros(1, 2, 3))
    assert there.tolist() == [[True, False, False]]
    assert vectors.tolist() == [[[0.0], [0.0], [0.0]]]
