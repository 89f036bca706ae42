"""A LightningModule that knows nothing of this package, as a network that the rest of it can predict with.

What the module makes of a row is asked of its `predict_step` if it has one, else of its `forward`. How that is to be
read is found out from what it says of validation rows, and kept among the weights.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from enum import IntEnum
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from automl.components import Component
from automl.values import InputSpec, TargetSpec, Task, Value

#: Logits of labels that are said without probabilities: a millionth is left to the other classes together.
SURE = 14.0
#: What a probability is at least, so that its logarithm is finite.
LEAST = 1e-12
#: By how much probabilities of a row may miss 1.
TOLERANCE = 1e-3


class Says(IntEnum):
    """What the outputs of a module are."""

    NOTHING = 0
    NUMBERS = 1
    LOGITS = 2
    PROBABILITIES = 3
    LABELS = 4
    VALUES = 5
    CHANCES = 6  # a probability for each of several labels


#: What a plug-in may say of the outputs of its module, as a trait, where they could be taken for something else.
TRAITS = {"logits": Says.LOGITS, "probabilities": Says.PROBABILITIES, "labels": Says.LABELS}

X = Tensor | dict[str, Tensor]


def lightning_of(module: nn.Module) -> ModuleType:
    """Returns the package that a LightningModule is made with: `pytorch_lightning`, or its twin `lightning.pytorch`."""
    base = next(kind for kind in type(module).__mro__ if kind.__name__ == "LightningModule")
    return sys.modules[base.__module__.partition(".core")[0]]


def build(component: Component, params: Mapping[str, Value], inputs: InputSpec, n_outputs: int) -> OwnModule:
    """Returns a user's LightningModule with fresh weights.

    Args:
        params: What its `__init__` is given; `{"data": "n_inputs"}` stands for what the data say.
    """
    known = _of_data(inputs, n_outputs)
    given = {
        name: known[str(value["data"])] if isinstance(value, Mapping) and set(value) == {"data"} else value
        for name, value in params.items()
    }
    return OwnModule(component.factory(**given), n_outputs)


def as_x(blocks: Mapping[str, Tensor]) -> X:
    """Returns the inputs as a module gets them: the tensor of the only block, or all blocks by name."""
    return next(iter(blocks.values())) if len(blocks) == 1 else dict(blocks)


class OwnModule(nn.Module):
    """A LightningModule as a network: blocks in, outputs as losses and predictions of this package take them.

    Args:
        module: The user's.
        n_outputs: As of the target.

    Attributes:
        reading: Whether `predict_step` is asked, whether it takes the targets beside the rows, whether these are
            classes, what outputs are, and whether rows are of fractions; (5,).
        unit: Mean and scale of what each output stands for; those of classes are 0 and 1; (2, n_outputs).
    """

    reading: Tensor
    unit: Tensor
    module: Any

    def __init__(self, module: nn.Module, n_outputs: int) -> None:
        super().__init__()
        self.module = module
        self.n_outputs = n_outputs
        self.register_buffer("reading", torch.zeros(5, dtype=torch.int64))
        self.register_buffer("unit", torch.tensor([[0.0], [1.0]], dtype=torch.float64).repeat(1, n_outputs))

    @property
    def says(self) -> Says:
        """What its outputs are; nothing before they have been looked at."""
        return Says(int(self.reading[3]))

    @property
    def reads_fractions(self) -> bool:
        """Whether rows are float32; int64 otherwise."""
        return bool(self.reading[4])

    def forward(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Returns logits, or standardised values; (batch, n_outputs)."""
        outputs = self.outputs(as_x(blocks))
        if self.says is Says.VALUES:
            unit: Tensor = self.unit.to(outputs.device)
            return (outputs - unit[0]) / unit[1]
        if self.says is Says.LABELS:
            labels = outputs[:, 0].long()
            logits = SURE * nn.functional.one_hot(labels, max(2, self.n_outputs)).double()
        elif self.says is Says.PROBABILITIES:
            both = torch.cat([1 - outputs, outputs], dim=1) if outputs.shape[1] == 1 else outputs
            logits = both.clamp_min(LEAST).log()
        elif self.says is Says.CHANCES:
            logits = outputs.logit(eps=LEAST)
        else:
            logits = outputs
        if self.n_outputs == 1 and logits.shape[1] == 2:
            logits = logits[:, 1:] - logits[:, :1]
        return logits

    def outputs(self, x: X) -> Tensor:
        """Returns what the module says of rows, as it says it; (rows, numbers) as float64."""
        by_predict_step, with_targets, of_classes, *_ = self.reading.tolist()
        given = _ask(self.module, x, bool(by_predict_step), bool(with_targets), bool(of_classes))
        return given.detach().reshape(len(given), math.prod(given.shape[1:])).double()

    def look_at(self, x: X, *, target: TargetSpec | None = None, traits: Collection[str] = ()) -> str:
        """Finds out how the module is asked, and what it says; to be called when it is trained at least a little.

        Logits of a module that has learned little may all look like probabilities; once some did not, they are logits.

        Args:
            x: Rows; for classes, enough of them that probabilities are told from logits.
            target: Of the training rows; None: there is no table, and outputs are just numbers.
            traits: What the plug-in says of the outputs.

        Returns:
            Why outputs cannot be read as those of the target; empty where they can.
        """
        of_classes = target is not None and target.task.is_classification
        problem, given = "", None
        own_step = "LightningModule" not in type(self.module).predict_step.__qualname__.split(".")
        # A `predict_step` gets what loaders for predicting give, rows alone, or what all loaders give, targets too.
        ways = [(True, False), (True, True)] if own_step else [(False, False)]
        for by_predict_step, with_targets in ways:
            try:
                given = _ask(self.module, x, by_predict_step, with_targets, of_classes)
            except Exception as error:  # whatever the module's own code raises
                name = "predict_step" if by_predict_step else "forward"
                problem = f"its `{name}` raises {type(error).__name__}: {str(error).partition(chr(10))[0]}"
            else:
                self.reading[:3] = torch.tensor([by_predict_step, with_targets, of_classes])
                problem = ""
                break
        says = Says.NOTHING if given is None else Says.NUMBERS
        if given is not None and target is not None:
            said = next((meaning for trait, meaning in TRAITS.items() if trait in traits), None)
            says, problem = _meaning(given, target, said)
            if self.says is Says.LOGITS and says in (Says.PROBABILITIES, Says.CHANCES):
                says = Says.LOGITS
            parts = [part for part in target.parts or (target,) for _ in range(part.n_outputs)]
            units = [[part.mean for part in parts], [part.scale for part in parts]]
            self.unit.copy_(torch.tensor(units, dtype=torch.float64))
        self.reading[3] = int(says)
        self.reading[4] = isinstance(x, Tensor) and x.is_floating_point()
        return problem


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module in evaluation mode, and each of its parts back into the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _ask(module: Any, x: X, by_predict_step: bool, with_targets: bool, of_classes: bool) -> Tensor:
    """Returns what a module says of rows, where these are; (rows, ...)."""
    rows = next(iter(x.values())) if isinstance(x, dict) else x
    device = next(module.parameters(), rows).device  # in the middle of a training that of the Trainer
    batch: Any = {name: block.to(device) for name, block in x.items()} if isinstance(x, dict) else x.to(device)
    if with_targets:  # nobody knows them; the form of the batch is what is wanted
        batch = (batch, torch.zeros(len(rows), dtype=torch.int64 if of_classes else torch.float32, device=device))
    with evaluating(module), torch.no_grad():  # what it makes of lazy layers is to be trained
        given = module.predict_step(batch, 0) if by_predict_step else module(batch)
    if not isinstance(given, Tensor):
        raise TypeError(f"gives {type(given).__name__}, not a tensor")
    if given.ndim == 0 or len(given) != len(rows):
        raise ValueError(f"gives {tuple(given.shape)} for {len(rows)} rows, not one entry a row")
    return given.to(rows.device)


def _meaning(given: Tensor, target: TargetSpec, said: Says | None) -> tuple[Says, str]:
    """Returns what outputs are, and why they cannot be read as those of the target."""
    width = math.prod(given.shape[1:])
    numbers = given.double().reshape(len(given), width)
    within = not bool(((numbers < 0) | (numbers > 1)).any())  # what is no number says nothing
    if not target.task.is_classification:
        if width != target.n_outputs:
            return Says.NUMBERS, f"it gives {width} numbers a row, not {target.n_outputs}"
        if target.task is not Task.MULTILABEL:  # of several targets, classes as logits and values in their own units
            return Says.VALUES, ""
        return (Says.CHANCES if said is Says.PROBABILITIES or (within and said is None) else Says.LOGITS), ""
    n_classes = max(2, target.n_outputs)
    if width == 1 and not given.is_floating_point():
        return Says.LABELS, ""
    if said is Says.LABELS and width == 1:
        return Says.LABELS, ""
    if width != n_classes and not (width == 1 and n_classes == 2):
        return Says.NUMBERS, f"it gives {width} numbers a row, not one for each of {n_classes} classes"
    if said is not None:
        return said, ""
    adds_up = width == 1 or not bool(((numbers.sum(dim=1) - 1).abs() >= TOLERANCE).any())
    return (Says.PROBABILITIES if within and adds_up else Says.LOGITS), ""


def _of_data(inputs: InputSpec, n_outputs: int) -> dict[str, Any]:
    """Returns what a search space may say that the data know."""
    shapes = [list(block.shape) for block in inputs.blocks.values()]
    return {
        "n_inputs": sum(math.prod(shape) for shape in shapes),
        "n_outputs": n_outputs,
        "input_shape": shapes[0] if len(shapes) == 1 else None,
    }
