"""From a choice of network and what there is in a table to a module: blocks that a network does not know are flattened.

The traits of a network that are kinds of blocks (`image`, `sequence`, `tokens`) say what it takes as it is, and that
it is for tables with at least one of them. A network without any takes columns, so that a perceptron sees pixels as
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from automl import own_module
from automl.components import Component, catalogue
from automl.values import BlockSpec, Choice, ColumnKind, InputSpec, Schema, Value

#: Kinds of blocks that are more than columns.
STRUCTURED = ("image", "sequence", "tokens")

NUMERIC = "numeric"

#: Width of what a network that takes columns sees of a text.
TOKEN_SIZE = 64


def build(choice: Choice, inputs: InputSpec, n_outputs: int, domain: Choice = Choice("none")) -> nn.Module:  # noqa: B008
    """Returns the chosen network for a table, with fresh weights, and with what is made of domains where it has any.

    It maps a dictionary of blocks to (batch, n_outputs), or (batch, members, n_outputs).
    """
    component = catalogue("network")[choice.name]
    if component.is_module:  # sees all blocks as they are
        return own_module.build(component, choice.params, inputs, n_outputs)
    network = partial(make, component, params=choice.params)
    if any(block.kind == "domain" for block in inputs.blocks.values()):
        built: nn.Module = catalogue("domain").build(domain, network, inputs, n_outputs)
        return built
    return network(inputs, n_outputs)


def make(
    component: Component, inputs: InputSpec, n_outputs: int, params: Mapping[str, Value] | None = None
) -> nn.Module:
    """Returns what `build` does, of a network that need not be registered."""
    baseline = next((name for name, block in inputs.blocks.items() if block.kind == "baseline"), None)
    if baseline is not None:
        rest = InputSpec({name: block for name, block in inputs.blocks.items() if name != baseline})
        return Relative(make(component, rest, n_outputs, params), baseline)
    strange = {name: b for name, b in inputs.blocks.items() if b.kind in STRUCTURED and b.kind not in component.traits}
    if not strange:
        network: nn.Module = component.factory(inputs, n_outputs, **(params or {}))
        return network
    flattening = Flattening(strange, inputs.blocks.get(NUMERIC))
    kept = {name: block for name, block in inputs.blocks.items() if name not in strange}
    columns = InputSpec({**kept, NUMERIC: flattening.result})
    return Flattened(flattening, component.factory(columns, n_outputs, **(params or {})))


def is_for(component: Component, schema: Schema) -> bool:
    """Returns whether a network makes something of a table: one for images does not of a table without any."""
    wanted = component.traits.intersection(STRUCTURED)
    there = {block.kind.value for block in schema.blocks} | ({"tokens"} if schema.names(ColumnKind.TEXT) else set())
    return not wanted or bool(wanted & there)


class Flattening(nn.Module):
    """Puts blocks among the numeric columns: images and sequences cell by cell, texts as the mean of their tokens.

    Args:
        blocks: What is to be flattened, by name.
        numeric: The numeric columns that there are already; None: there are none.

    Attributes:
        result: The block of numeric columns that comes of it.
    """

    def __init__(self, blocks: Mapping[str, BlockSpec], numeric: BlockSpec | None) -> None:
        super().__init__()
        self._names = sorted(blocks)
        self._has_numeric = numeric is not None
        self.embeddings = nn.ModuleDict(
            {
                name: nn.EmbeddingBag(block.cardinalities[0], TOKEN_SIZE, mode="mean", padding_idx=0)
                for name, block in sorted(blocks.items())
                if block.kind == "tokens"
            }
        )
        widths = [TOKEN_SIZE if name in self.embeddings else math.prod(blocks[name].shape) for name in self._names]
        n_before = 0 if numeric is None else numeric.shape[0]
        # What is told of some columns only is told of none.
        self.result = BlockSpec(NUMERIC, (n_before + sum(widths),))

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns the blocks with all numeric columns in one; (batch, columns)."""
        parts = [inputs[NUMERIC]] if self._has_numeric else []
        for name in self._names:
            block = inputs[name]
            parts.append(self.embeddings[name](block) if name in self.embeddings else block.flatten(1))
        kept = {name: block for name, block in inputs.items() if name not in self._names}
        return {**kept, NUMERIC: torch.cat(parts, dim=1)}


class Flattened(nn.Module):
    """A network that sees what a `Flattening` makes of its inputs."""

    def __init__(self, flattening: Flattening, network: nn.Module) -> None:
        super().__init__()
        self.flattening = flattening
        self.network = network
        if hasattr(network, "pretrain"):  # training asks whether there is one
            self.pretrain = self._pretrain

    def forward(self, inputs: dict[str, Tensor]) -> Any:
        return self.network(self.flattening(inputs))

    def _pretrain(self, inputs: dict[str, Tensor], **told: Any) -> None:
        with torch.no_grad():
            columns = self.flattening(inputs)
        network: Any = self.network
        network.pretrain(columns, **told)


class Relative(nn.Module):
    """A network whose outputs are told relative to a level and a scale of each row: level + scale x output.

    A baseline's level and scale are in the unit that the loss is of, so that it weighs rows as if there were none
    (reversible instance normalisation, Kim et al. 2022, ICLR).

    Args:
        network: Sees all blocks but the baseline.
        baseline: Name of that block; (batch, 2).
    """

    def __init__(self, network: nn.Module, baseline: str) -> None:
        super().__init__()
        self.network = network
        self._baseline = baseline
        if hasattr(network, "pretrain"):
            self.pretrain = self._pretrain

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns what the network does, (batch, n_outputs) or (batch, members, n_outputs)."""
        outputs: Tensor = self.network(self._rest(inputs))
        level, scale = (column.view(-1, *[1] * (outputs.ndim - 1)) for column in inputs[self._baseline].unbind(1))
        return torch.addcmul(level, scale, outputs)

    def _rest(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name: block for name, block in inputs.items() if name != self._baseline}

    def _pretrain(self, inputs: dict[str, Tensor], **told: Any) -> None:
        network: Any = self.network
        network.pretrain(self._rest(inputs), **told)
