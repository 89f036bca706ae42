"""Checks of what every component must do, for whoever writes one; the built-in ones pass them in `tests/contracts/`.

    from automl.components import catalogue
    from automl.testing import check_network

    def test_my_network():
        check_network(catalogue("network")["my_network"])

Each check makes up its own small data, builds the component with its defaults, and raises AssertionError with a
sentence that says which part of the contract is broken.
"""

from __future__ import annotations

import copy
import functools
import io
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from automl import architecture
from automl.architecture import STRUCTURED
from automl.augmentations import FLOATS, Augmented
from automl.components import STAGES, Component, catalogue
from automl.data import sources
from automl.data.blocks import BlockLayout
from automl.data.dataset import make_dataset
from automl.errors import ConfigError
from automl.losses import encode
from automl.preprocessing.preprocessing import Preprocessing
from automl.training.module import switch
from automl.values import BlockSpec, Choice, ColumnKind, Dataset, InputSpec, Scalar, Step, TargetSpec, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

Mix = Literal["numeric", "categorical", "both"]
MIXES: tuple[Mix, ...] = ("numeric", "categorical", "both")

#: Tasks of one target, each row of which has one answer.
PLAIN_TASKS = (Task.BINARY, Task.MULTICLASS, Task.REGRESSION)

#: Stages whose steps learn from the target.
LEARNING_STAGES = ("cleaning", "encoding", "selection")

#: How far a row's result may move with the rows beside it: matrix products of other sizes round otherwise.
RTOL, ATOL = 1e-4, 1e-5


# --- made-up data ------------------------------------------------------------------------------------------------


def boring_table(task: Task, *, n_rows: int = 200, seed: int = 0) -> pd.DataFrame:
    """Returns a table with a column of every kind, whose `target` can be learned from `amount`, `colour` and `paid`.

    Numbers, truth values, dates, categories and texts are missing here and there. Classes are words; the rarest of
    three has about a sixth of the rows. Several targets are called as `boring_targets` says, and are missing here and
    there, too.
    """
    rng = np.random.default_rng(seed)
    amount = rng.normal(size=n_rows)
    colour = rng.choice(["red", "green", "blue"], n_rows)
    paid = rng.random(n_rows) < 0.5
    days = rng.integers(0, 1000, n_rows)
    words = rng.choice(["good", "bad", "slow", "late", "kind", "dear", "thin", "wide"], (n_rows, 5))
    signal = 2 * amount + 1.5 * (colour == "red") - paid + rng.normal(scale=0.3, size=n_rows)
    table = pd.DataFrame(
        {
            "amount": amount,
            "income": rng.lognormal(8, 1, n_rows),
            "visits": rng.integers(0, 9, n_rows),
            "paid": pd.array(paid, dtype="boolean"),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(days, unit="D"),
            "colour": pd.Series(colour, dtype="str"),
            "town": pd.Series([f"town {i}" for i in rng.zipf(2.0, n_rows).clip(max=9)], dtype="str"),
            "remark": pd.Series([" ".join(row) for row in words], dtype="str"),
            "customer_id": [f"C{i:06d}" for i in rng.permutation(n_rows)],
            "country": "CH",
        }
    )
    for name in ("income", "paid", "since", "colour", "remark"):
        table.loc[rng.random(n_rows) < 0.05, name] = None
    if not task.is_several:
        table["target"] = _target(task, signal)
        return table
    kinds = dict.fromkeys(LABELS, Task.BINARY) if task is Task.MULTILABEL else PARTS
    for number, (name, kind) in enumerate(kinds.items()):
        noisy = signal + rng.normal(scale=number, size=n_rows)
        values = pd.Series(_target(kind, noisy))
        values = values.map({"yes": 1, "no": 0}).astype(float) if task is Task.MULTILABEL else values
        table[name] = values.where(rng.random(n_rows) > 0.05)
    return table


#: What several targets of a boring table are called: three labels, or one of each kind.
LABELS = ("first", "second", "third")
PARTS = {"price": Task.REGRESSION, "sold": Task.BINARY, "grade": Task.MULTICLASS, "delay": Task.QUANTILE}


def boring_targets(task: Task) -> dict[str, Any]:
    """Returns which columns of a boring table are predicted, and the task of each, as `make_dataset` takes them."""
    if not task.is_several:
        return {"target": "target", "task": task.value}
    if task is Task.MULTILABEL:
        return {"target": list(LABELS), "task": task.value}
    return {"target": list(PARTS), "task": {name: kind.value for name, kind in PARTS.items()}}


def boring_dataset(task: Task, *, mix: Mix = "both", n_rows: int = 200, seed: int = 0) -> Dataset:
    """Returns a boring table as a dataset, with its numbers, truth values and dates, its categories, or both.

    Its text is left out: it takes longer than all the rest.
    """
    table = boring_table(task, n_rows=n_rows, seed=seed)
    targets = {"target", *LABELS, *PARTS}
    kept = [name for name in table if name in targets or _MIX_OF.get(str(name)) in (mix, *(MIXES * (mix == "both")))]
    return make_dataset(table[kept], **boring_targets(task), name="boring", source="made up")


@functools.cache
def _dataset(task: Task, mix: Mix) -> Dataset:
    return boring_dataset(task, mix=mix, n_rows=160)


@functools.cache
def _dataset_of_blocks(task: Task) -> Dataset:
    """Returns a table of an image, a sequence that may end early, a number and a category."""
    table = boring_table(task, n_rows=160)
    table = table[["amount", "colour", *(name for name in table if name in {"target", *LABELS, *PARTS})]]
    rng = np.random.default_rng(0)
    table[[f"p{pixel}" for pixel in range(20)]] = rng.normal(size=(160, 20)) + table[["amount"]].to_numpy()
    steps = rng.normal(size=(160, 8))
    steps[np.arange(8) > rng.integers(3, 8, 160)[:, None]] = np.nan
    table[[f"s{step}" for step in range(8)]] = steps
    layouts = [BlockLayout("image", "p*", [1, 4, 5]), BlockLayout("sequence", "s*", [1, 8])]
    return make_dataset(table, **boring_targets(task), name="boring", source="made up", blocks=layouts)


_MIX_OF: dict[str, Mix] = {
    "amount": "numeric",
    "income": "numeric",
    "visits": "numeric",
    "paid": "numeric",
    "since": "numeric",
    "colour": "categorical",
    "town": "categorical",
}


def _target(task: Task, signal: NDArray[np.float64]) -> Any:
    if task in (Task.REGRESSION, Task.QUANTILE):
        return 1000 + 50 * signal
    if task is Task.BINARY:
        return np.where(signal > np.quantile(signal, 0.7), "yes", "no")
    return np.array(["low", "middle", "high"])[np.searchsorted(np.quantile(signal, [0.5, 0.83]), signal)]


# --- networks ----------------------------------------------------------------------------------------------------


def check_network(component: Component, *, mixes: Sequence[Mix] = MIXES) -> None:
    """Checks that a network can be trained, saved and shipped.

    Args:
        component: Of the catalogue of networks.
        mixes: The mixes of columns that it takes; one that takes images, sequences or tokens is given these, alone and
            beside columns, and every other network is given them flattened.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    kinds = [kind for kind in STRUCTURED if kind in component.traits]
    structured = {name: inputs for name, inputs in _STRUCTURED.items() if name.split()[-1] in (kinds or STRUCTURED)}
    of_columns = {} if kinds else {f"{mix} columns": _INPUTS[mix] for mix in mixes}
    beside = {
        f"{name} beside columns": InputSpec({**i.blocks, **_INPUTS[mixes[-1]].blocks}) for name, i in structured.items()
    }
    cases = {**of_columns, **(structured if kinds else {}), **beside}
    for told, inputs in cases.items():
        for n_outputs in (1, 3):
            case = f"the network `{component.name}` on {told} with {n_outputs} outputs"
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _check_network(component, inputs, n_outputs, case)
                _check_pretraining(component, inputs, n_outputs, case)


_NUMERIC = BlockSpec("numeric", (4,))
_CUT = BlockSpec("numeric", (4,), quantiles=((-1.0, 0.0, 1.0), (-1.0, 1.0), (-2.0, -0.5, 0.5, 2.0), (-1.0, 0.0, 1.0)))
_CATEGORICAL = BlockSpec("categorical", (3,), (2, 5, 30))
_INPUTS: dict[Mix, InputSpec] = {
    "numeric": InputSpec({"numeric": _NUMERIC}),
    "categorical": InputSpec({"categorical": _CATEGORICAL}),
    "both": InputSpec({"numeric": _CUT, "categorical": _CATEGORICAL}),
}

_STRUCTURED = {
    "image": InputSpec({"image": BlockSpec("image", (2, 8, 6))}),
    "sequence": InputSpec({"sequence": BlockSpec("sequence", (3, 20))}),
    "a masked sequence": InputSpec({"sequence": BlockSpec("sequence", (2, 11), masked=True)}),
    "tokens": InputSpec({"tokens": BlockSpec("tokens", (7,), (50,))}),
}


def _check_network(component: Component, inputs: InputSpec, n_outputs: int, case: str) -> None:
    network = architecture.make(component, inputs, n_outputs)
    _require(isinstance(network, nn.Module), f"{case} is no torch module")
    rows = _batch(inputs, 12)

    network.train()
    outputs = network(rows)
    _check_outputs(outputs, 12, n_outputs, f"{case}, in training,")
    torch.autograd.backward((outputs * torch.randn_like(outputs)).sum())
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            reached = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
            _require(reached, f"{case} has a parameter `{name}` that no gradient reaches")
        factor, decay = getattr(parameter, "lr_factor", 1.0), getattr(parameter, "decay", True)
        told = isinstance(factor, float) and 0 < factor < math.inf and isinstance(decay, bool)
        _require(told, f"{case} has a parameter `{name}` whose `lr_factor` is no positive float or `decay` no bool")

    network.eval()
    with torch.no_grad():
        together = network(rows)
        _check_outputs(together, 12, n_outputs, case)
        _require(torch.equal(together, network(rows)), f"{case} predicts the same rows otherwise a second time")
        order = torch.randperm(12)
        shuffled = network({name: block[order] for name, block in rows.items()})
        _require(_close(shuffled, together[order]), f"{case} predicts rows otherwise in another order")
        alone = network({name: block[5:6] for name, block in rows.items()})
        _check_outputs(alone, 1, n_outputs, f"{case}, for one row,")
        _require(_close(alone, together[5:6]), f"{case} predicts a row otherwise without the rows beside it")
        _check_outputs(network(_batch(inputs, 0)), 0, n_outputs, f"{case}, for no rows,")

        # Stored specifications come back sorted by name, and a file of weights holds tensors and nothing else.
        again = architecture.make(component, InputSpec(dict(reversed(list(inputs.blocks.items())))), n_outputs).eval()
        again.load_state_dict({name: weight.clone() for name, weight in network.state_dict().items()})
        _require(torch.equal(again(rows), together), f"{case} predicts otherwise once its weights are loaded again")
    storages = [weight.data_ptr() for weight in network.state_dict().values() if weight.numel()]
    _require(len(set(storages)) == len(storages), f"{case} shares memory between weights, which cannot be saved")


def _check_pretraining(component: Component, inputs: InputSpec, n_outputs: int, case: str) -> None:
    """Checks a network that wants to see training rows before it is trained."""
    rows = _batch(inputs, 40)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        network: Any = architecture.make(component, inputs, n_outputs)
        if not hasattr(network, "pretrain"):
            return
        names = list(network.state_dict())
        network.pretrain({name: block.clone() for name, block in rows.items()}, seed=1, deadline=math.inf)
        _require(list(network.state_dict()) == names, f"{case} has other weights after `pretrain` than before")
        found.append(network.eval()(rows))
    _require(bool(found[0].isfinite().all()), f"{case} returns numbers that are not finite after `pretrain`")
    _require(torch.equal(*found), f"{case} learns otherwise in a second `pretrain` with the same seed")


def _check_outputs(outputs: Any, n_rows: int, n_outputs: int, case: str) -> None:
    _require(isinstance(outputs, Tensor) and outputs.dtype is torch.float32, f"{case} does not return a float32 tensor")
    fits = outputs.ndim in (2, 3) and (outputs.shape[0], outputs.shape[-1]) == (n_rows, n_outputs)
    wanted = f"({n_rows}, {n_outputs}) or ({n_rows}, members, {n_outputs})"
    _require(fits, f"{case} returns shape {tuple(outputs.shape)} instead of {wanted}")
    _require(bool(outputs.isfinite().all()), f"{case} returns numbers that are not finite")


def _batch(inputs: InputSpec, n_rows: int) -> dict[str, Tensor]:
    """Returns random rows, of codes with the first and the last that may occur, and of sequences with their ends."""
    blocks = {}
    for name, block in inputs.blocks.items():
        if block.kind in FLOATS:
            blocks[name] = torch.randn(n_rows, *block.shape)
            if block.masked:
                there = torch.arange(block.shape[-1]) < torch.randint(0, block.shape[-1] + 1, (n_rows, 1))
                blocks[name] = blocks[name] * there[:, None]
                blocks[name][:, -1] = there.float()
        elif block.kind == "tokens":
            lengths = torch.randint(0, block.shape[0] + 1, (n_rows, 1))
            codes = torch.randint(1, block.cardinalities[0], (n_rows, *block.shape))
            blocks[name] = codes * (torch.arange(block.shape[0]) < lengths)
        else:
            codes = torch.stack([torch.randint(n, (n_rows,)) for n in block.cardinalities], dim=1)
            for code, row in zip((0, -1), range(min(n_rows, 2)), strict=False):  # the unknown code, and the last one
                codes[row] = torch.tensor([range(n)[code] for n in block.cardinalities])
            blocks[name] = codes
    return blocks


# --- optimizers, schedules, losses ---------------------------------------------------------------------------------


def check_optimizer(component: Component) -> None:
    """Checks that an optimizer makes a loss small, takes groups of parameters, and spares those told to be spared.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    case = f"the optimizer `{component.name}`"
    first, last, optimizer = _descend(component)
    _require(isinstance(optimizer, torch.optim.Optimizer), f"{case} is no torch optimizer")
    _require(math.isfinite(last) and last < first, f"{case} does not go downhill with its defaults")
    _require((first, last) == _descend(component)[:2], f"{case} gives other numbers on a second run")
    message = f"{case} does not go on from its `state_dict` as if it had never been cut off"
    _require((first, last) == _descend(component, cut_after=7)[:2], message)
    _require("lr" in component.hyperparameters, f"{case} has no hyperparameter `lr`")

    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [weight]}, {"params": [bias], "weight_decay": 0.0}]
    params = {"weight_decay": 0.5} if "weight_decay" in component.hyperparameters else {}
    optimizer = component.factory(groups, **params)
    kept = len(optimizer.param_groups) == 2 or "closure" in component.traits
    _require(kept, f"{case} does not keep groups of parameters apart")

    def flat() -> Tensor:
        weight.grad, bias.grad = torch.zeros(2, 2), torch.zeros(2)
        return torch.zeros(())

    _make_step(component, optimizer, flat)
    _require(bool((bias == 1).all()), f"{case} moves parameters of a group with `weight_decay` 0 without a gradient")
    _require(not params or bool((weight < 1).all()), f"{case} does nothing with `weight_decay`")


def _descend(component: Component, cut_after: int = 20) -> tuple[float, float, Any]:
    """Returns first and last loss of twenty steps on a bowl, and the optimizer.

    Args:
        cut_after: Steps after which another optimizer goes on with what was kept of the first.
    """
    point = nn.Parameter(torch.tensor([[3.0, -2.0]]))
    optimizer = component.factory([point])

    def bowl() -> Tensor:
        optimizer.zero_grad()
        loss = point.square().sum()
        torch.autograd.backward(loss)
        return loss

    values = [_make_step(component, optimizer, bowl) for _ in range(cut_after)]
    if cut_after < 20:
        switch(optimizer, "eval")
        kept = _kept({"point": point.detach(), "optimizer": optimizer.state_dict()})
        point = nn.Parameter(kept["point"])
        optimizer = component.factory([point])
        optimizer.load_state_dict(kept["optimizer"])
        values += [_make_step(component, optimizer, bowl) for _ in range(20 - cut_after)]
    return values[0], values[-1], optimizer


def _kept(state: Any) -> Any:
    """Returns what a checkpoint gives back of a state: it loads without running code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def _make_step(component: Component, optimizer: Any, closure: Callable[[], Tensor]) -> float:
    """Returns the loss before a step, which is made as training makes it."""
    switch(optimizer, "train")
    if "closure" in component.traits:
        return float(optimizer.step(closure).detach())
    loss = closure()
    optimizer.step()
    return float(loss.detach())


def check_schedule(component: Component) -> None:
    """Checks that a schedule says when it is stepped and never leaves (0, learning rate], however long training is.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    case = f"the schedule `{component.name}`"
    kinds = ("per_step", "per_epoch", "monitors")
    _require(len(component.traits & set(kinds)) == 1, f"{case} needs exactly one of the traits {', '.join(kinds)}")
    for n_steps in (1, 2, 3, 7, 100):
        rates = _rates(component, n_steps)
        for step, rate in enumerate(rates):
            allowed = 0 < rate <= 0.5 or (step >= n_steps and rate == 0)
            _require(allowed, f"{case} sets the learning rate {rate} in step {step} of {n_steps}, where 0.5 was asked")
        message = f"{case} does not go on from its `state_dict` as if it had never been cut off"
        _require(_rates(component, n_steps, cut_after=n_steps // 2 + 1) == rates, message)


def _rates(component: Component, n_steps: int, cut_after: int | None = None) -> list[float]:
    """Returns the learning rate of each step, of more than are planned: training may take one more.

    Args:
        cut_after: Steps after which another schedule goes on with what was kept of the first.
    """
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = component.factory(optimizer, n_steps)
    rates = []
    for step in range(n_steps + 5):
        if step == cut_after:
            kept = _kept([optimizer.state_dict(), schedule.state_dict()])
            optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
            schedule = component.factory(optimizer, n_steps)
            optimizer.load_state_dict(kept[0])
            schedule.load_state_dict(kept[1])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step(*([1.0] if "monitors" in component.traits else []))
    return rates


def check_loss(component: Component) -> None:
    """Checks that outputs can learn from a loss in every task that its traits name.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    traits = component.traits & {"classification", "regression", "quantile"}
    _require(bool(traits), f"the loss `{component.name}` needs the trait `classification`, `regression` or `quantile`")
    for target in _TARGETS:
        if target.task.kind in traits:
            _check_loss(component, target, f"the loss `{component.name}` of a {target.task.value} target")


#: The last has a class without training rows, which resampling and rare classes bring about.
_TARGETS = (
    TargetSpec(Task.BINARY, 1, class_counts=(90, 10)),
    TargetSpec(Task.MULTICLASS, 3, class_counts=(60, 30, 10)),
    TargetSpec(Task.REGRESSION, 1, mean=1000.0, scale=20.0),
    TargetSpec(Task.MULTICLASS, 3, class_counts=(60, 40, 0)),
    TargetSpec(Task.QUANTILE, 3, mean=1000.0, scale=20.0, quantiles=(0.1, 0.5, 0.9)),
)


def _check_loss(component: Component, target: TargetSpec, case: str) -> None:
    generator = torch.Generator().manual_seed(0)
    if target.task.is_classification:
        labels = np.arange(16) % len([count for count in target.class_counts if count])
        y = encode(labels, target)
        # What is right: a large logit for the class; the single logit of a binary task is that of the second class.
        right = 4.0 * (2.0 * y[:, None] - 1 if target.n_outputs == 1 else nn.functional.one_hot(y, 3).float())
    else:
        y = encode(np.linspace(960, 1040, 16), target)
        right = y[:, None].repeat(1, target.n_outputs)
    loss = component.factory(target)
    _require(isinstance(loss, nn.Module), f"{case} is no torch module")
    wrong = (right + 3 * torch.randn(right.shape, generator=generator)).requires_grad_()
    value = loss(wrong, y)
    _require(isinstance(value, Tensor) and value.shape == (), f"{case} is not a scalar")
    _require(bool(value.isfinite()), f"{case} is not finite")
    torch.autograd.backward(value)
    reached = wrong.grad is not None and bool((wrong.grad.abs().sum(dim=1) > 0).all())
    _require(reached, f"{case} gives some rows no gradient")
    better = loss(right, y)
    _require(bool(better < value), f"{case} is not smaller for better outputs")
    members = torch.stack([right, right], dim=1)  # (batch, members, n_outputs)
    _require(_close(loss(members, y), better), f"{case} differs for an ensemble of two equal members")


def check_balancing(component: Component) -> None:
    """Checks that a balancing makes one loss of several, which every target learns from and which falls with them.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    case = f"the balancing `{component.name}`"
    counts = TargetSpec(Task.BINARY, 1, class_counts=(90, 10))
    target = TargetSpec(Task.MULTITASK, 2, parts=(counts, TargetSpec(Task.REGRESSION, 1)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        last = nn.Linear(8, 2)
        network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), last)
        rows = torch.randn(12, 4)
    balancing = component.factory(target, network)
    known = torch.ones(2, dtype=torch.bool)
    _require(isinstance(balancing, nn.Module), f"{case} is no torch module")
    for _ in range(3):
        losses = (network(rows) - 1).square().mean(dim=0)  # one of each target
        balanced = balancing(losses, known)
        _require(balanced.shape == (), f"{case} is not a scalar")
        _require(bool(balanced.isfinite()), f"{case} is not finite")
        _require(bool(balancing(0.5 * losses, known) < balanced), f"{case} is not smaller for smaller losses")
        network.zero_grad()
        torch.autograd.backward(balanced)
        reached = last.weight.grad
        _require(reached is not None and bool((reached.abs().sum(dim=1) > 0).all()), f"{case} leaves a target out")


# --- augmentations, averages, draws --------------------------------------------------------------------------------


def check_augmentation(component: Component) -> None:
    """Checks that an augmentation gives rows that networks can take, the same ones for the same generator.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    columns = {f"{mix} columns": _INPUTS[mix] for mix in MIXES}
    for told, inputs in (columns | _STRUCTURED).items():
        case = f"the augmentation `{component.name}` on {told}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            rows, y = _batch(inputs, 12), torch.arange(12) % 3
        given = {name: block.clone() for name, block in rows.items()}
        augment, twin = (component.factory(inputs, torch.Generator().manual_seed(7)) for _ in range(2))
        if augment is None:
            continue
        for n_rows in (12, 12, 1):
            batch = {name: block[:n_rows] for name, block in rows.items()}
            found, again = augment(batch, y[:n_rows]), twin(batch, y[:n_rows])
            _check_augmented(found, batch, y[:n_rows], inputs, case)
            same = found.share == again.share and all(torch.equal(found.inputs[n], again.inputs[n]) for n in rows)
            _require(same, f"{case} gives other rows for the same seed")
        unchanged = all(torch.equal(rows[name], given[name]) for name in rows)
        _require(unchanged, f"{case} changes the rows that it is given")


def _check_augmented(found: Augmented, batch: Mapping[str, Tensor], y: Tensor, inputs: InputSpec, case: str) -> None:
    _require(found.inputs.keys() == batch.keys(), f"{case} gives the blocks {sorted(found.inputs)}")
    for name, block in found.inputs.items():
        fits = (block.shape, block.dtype) == (batch[name].shape, batch[name].dtype)
        _require(fits, f"{case} gives {block.dtype} of shape {tuple(block.shape)} for `{name}`")
        _require(bool(block.isfinite().all()), f"{case} gives numbers that are not finite")
        if inputs.blocks[name].cardinalities:
            inside = bool(((block >= 0) & (block < torch.tensor(inputs.blocks[name].cardinalities))).all())
            _require(inside, f"{case} gives codes beyond the cardinalities")
    _require(0 <= found.share <= 1, f"{case} gives the share {found.share}")
    for targets in (found.y, found.other):
        known = targets is None or (targets.shape == y.shape and bool(torch.isin(targets, y).all()))
        _require(known, f"{case} makes up target values")


def check_domain(component: Component) -> None:
    """Checks that what is made of domains can be trained, and predicts rows whose domain is unknown.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    for n_outputs in (1, 3):
        for name in ("mlp", "tabm"):  # the latter has members
            case = f"the domain `{component.name}` around `{name}` with {n_outputs} outputs"
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _check_domain(component, catalogue("network")[name], n_outputs, case)


def _check_domain(component: Component, network: Component, n_outputs: int, case: str) -> None:
    inputs = InputSpec({**_INPUTS["both"].blocks, "domain": BlockSpec("domain", (1,), (4,))})
    made: Any = component.factory(lambda inside, n: architecture.make(network, inside, n), inputs, n_outputs)
    rows = {**_batch(_INPUTS["both"], 12), "domain": torch.randint(4, (12, 1))}
    made.train()
    outputs = made(rows)
    _check_outputs(outputs, 12, n_outputs, case)
    if hasattr(made, "penalty"):
        penalty = made.penalty(0.5)
        _require(penalty.shape == () and bool(penalty.isfinite()), f"{case} has a penalty that is no finite number")
        outputs = outputs.sum() + penalty
    torch.autograd.backward(outputs.sum())
    for name, parameter in made.named_parameters():
        _require(parameter.grad is not None, f"{case} has a parameter `{name}` that no gradient reaches")
    copy.deepcopy(made)
    made.eval()
    with torch.no_grad():
        unknown = made({**rows, "domain": torch.zeros(12, 1, dtype=torch.int64)})
        _check_outputs(unknown, 12, n_outputs, f"{case}, where domains are unknown,")
        _require(torch.equal(made(rows), made(rows)), f"{case} predicts the same rows otherwise a second time")


def check_averaging(component: Component) -> None:
    """Checks that an average of equal weights is these weights, and that it leaves the network alone.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    case = f"the averaging `{component.name}`"
    _require(len(component.traits & {"per_step", "per_epoch"}) == 1, f"{case} needs the trait per_step or per_epoch")
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    averaged = component.factory(network)
    if averaged is None:
        return
    given = {name: weight.clone() for name, weight in network.state_dict().items()}
    for share in (0.25, 0.5, 0.75, 1.0):
        averaged.add(share)
        found = averaged.network.state_dict()
        _require(found.keys() == given.keys(), f"{case} has other weights than the network")
        same = all(torch.allclose(found[name], weight) for name, weight in given.items())
        _require(same, f"{case} makes other weights of equal ones")
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    moved = {name: weight.clone() for name, weight in network.state_dict().items()}
    averaged.add(1.0)
    kept = all(torch.equal(weight, moved[name]) for name, weight in network.state_dict().items())
    _require(kept, f"{case} changes the network that is trained")
    between = averaged.network.state_dict()["0.weight"] - given["0.weight"]
    _require(bool(((between > 0) & (between <= 1)).all()), f"{case} leaves the range of what is averaged")


def check_batches(component: Component) -> None:
    """Checks that as many rows are drawn as there are, the same ones for the same seed, of every class.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    case = f"`{component.name}`, a way to draw batches,"
    targets = {"classification": torch.tensor([0] * 20 + [1] * 3 + [2]), "regression": torch.linspace(-1, 1, 24)}
    kinds = component.traits & set(targets) or set(targets)
    draw, twin = component.factory(), component.factory()
    for kind in kinds:
        for n_rows in (24, 1):
            y = targets[kind][-n_rows:]
            rows = draw(y, torch.Generator().manual_seed(0))
            fits = rows.dtype is torch.int64 and rows.shape == (n_rows,) and bool(((rows >= 0) & (rows < n_rows)).all())
            _require(fits, f"{case} does not give as many numbers of rows as there are rows")
            again = twin(y, torch.Generator().manual_seed(0))
            _require(torch.equal(rows, again), f"{case} gives other rows for the same seed")
            if kind == "classification":
                _require(set(y[rows].tolist()) == set(y.tolist()), f"{case} leaves a class out")


# --- preprocessing -------------------------------------------------------------------------------------------------


def check_step(component: Component) -> None:
    """Checks that a preprocessing step learns from the training rows alone and leaves rows to predict in place.

    It runs behind what no network can do without, on every mix of columns, or on an image and a sequence if it reads
    these, and in every task that it can work with; not in every combination of these. Several targets are for the
    stages that look at the target.

    Args:
        component: Registered in the catalogue of a preprocessing stage.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    _check_signature(component)
    _require(component.kind in STAGES, f"`{component.name}` is a {component.kind}, no preprocessing step")
    n_cases = 0
    for task in (*PLAIN_TASKS, *([Task.MULTITASK] if component.kind in LEARNING_STAGES else [])):
        first, second = component.factory(task), component.factory(task)
        _require(first is None or first is not second, f"`{component.name}` gives the same object twice")
        datasets = {f"{mix} columns": _dataset(task, mix) for mix in (MIXES if task is Task.BINARY else MIXES[-1:])}
        if component.traits.intersection(STRUCTURED):
            datasets = {"an image, a sequence and columns": _dataset_of_blocks(task)}
        for told, dataset in datasets.items():
            steps = _steps(component)
            if not Preprocessing.check([(step.stage, [step.choice.name]) for step in steps], dataset.schema):
                n_cases += 1
                _check_step(steps, dataset, f"the {component.kind} `{component.name}` on {told}, {task.value},")
    _require(n_cases > 0, f"the {component.kind} `{component.name}` works with no table at all")


def _steps(component: Component) -> list[Step]:
    before = [Step("encoding", Choice("onehot"))] if "synthesises_numeric" in component.traits else []
    return [*before, Step(component.kind, Choice(component.name))]


def _check_step(steps: Sequence[Step], dataset: Dataset, case: str) -> None:
    train, val = np.arange(0, 160, 2), np.arange(1, 160, 2)
    features, y = dataset.features, dataset.target
    given, given_y = features.iloc[train].copy(), y[train].copy()
    y_view = y[train]
    y_view.flags.writeable = False  # as of a file that is mapped into memory

    tokens = steps[-1].stage == "tokenisation"
    fitted = Preprocessing(steps, dataset.schema, seed=7, tokens=tokens)
    rows, targets = fitted.fit_resample(features.iloc[train], y_view)
    _require(given.equals(features.iloc[train]), f"{case} changes the table that it is given")
    _check_training_rows(rows, targets, given_y, fitted, steps[-1], case)

    expected = fitted.transform(features.iloc[val])
    _check_blocks(expected, len(val), fitted, f"{case} transforming")
    fitted.transform(_wild(features.iloc[train], dataset))
    _check_same(fitted.transform(features.iloc[val]), expected, f"{case} learns from rows that it transforms")
    backwards = fitted.transform(features.iloc[val[::-1]])
    _check_same(_take(backwards, slice(None, None, -1)), expected, f"{case} changes the order of rows", exact=False)
    for position in (0, 41):
        alone = fitted.transform(features.iloc[val[[position]]])
        message = f"{case} transforms a row otherwise without the rows beside it"
        _check_same(alone, _take(expected, slice(position, position + 1)), message, exact=False)
    _check_blocks(fitted.transform(features.iloc[:0]), 0, fitted, f"{case} transforming no rows")

    twin = Preprocessing(steps, dataset.schema, seed=7, tokens=tokens)
    again, targets_again = twin.fit_resample(features.iloc[train], y_view)
    message = f"{case} gives other rows for the same seed"
    _require(np.array_equal(targets, targets_again, equal_nan=True), message)
    _check_same(again, rows, message)
    _check_same(twin.transform(features.iloc[val]), expected, message)

    with tempfile.TemporaryDirectory(prefix="automl-check-") as scratch:
        fitted.save(Path(scratch) / "step.skops")
        loaded = Preprocessing.load(Path(scratch) / "step.skops", dataset.schema)
    message = f"{case} transforms otherwise once it is loaded again"
    _check_same(loaded.transform(features.iloc[val]), expected, message)

    if steps[-1].stage == "resampling":
        without = Preprocessing(steps[:-1], dataset.schema, seed=7)
        without.fit_resample(features.iloc[train], y_view)
        message = f"{case} changes rows that are not training rows"
        _check_same(without.transform(features.iloc[val]), expected, message)


def _check_training_rows(
    rows: Mapping[str, NDArray[Any]],
    targets: NDArray[Any],
    given: NDArray[Any],
    fitted: Preprocessing,
    step: Step,
    case: str,
) -> None:
    _check_blocks(rows, len(targets), fitted, f"{case} fitting")
    if step.stage not in ("cleaning", "resampling", "imputation"):  # those that may drop, repeat or make up rows
        _require(np.array_equal(targets, given, equal_nan=True), f"{case} changes the training targets")
    if step.stage == "cleaning":
        _require(len(targets) <= len(given), f"{case} adds training rows")
    found, known = (set(map(str, of.tolist())) for of in (targets, given))  # as words: what is missing equals itself
    _require(found <= known, f"{case} makes up target values")
    if fitted.schema.target.task.is_classification:
        _require(found == known, f"{case} loses a class")


def _check_blocks(blocks: Mapping[str, NDArray[Any]], n_rows: int, fitted: Preprocessing, case: str) -> None:
    described = fitted.inputs.blocks
    _require(blocks.keys() == described.keys(), f"{case} gives the blocks {sorted(blocks)}, not {sorted(described)}")
    for name, block in blocks.items():
        shape = (n_rows, *described[name].shape)
        _require(block.shape == shape, f"{case} gives shape {block.shape} of `{name}` instead of {shape}")
        _require(bool(np.isfinite(block).all()), f"{case} leaves numbers in `{name}` that are not finite")
        if described[name].kind == "categorical":
            inside = bool(((block >= 0) & (block < np.array(described[name].cardinalities))).all())
            _require(inside, f"{case} gives codes beyond the cardinalities")


def _check_same(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]], message: str, *, exact: bool = True
) -> None:
    _require(found.keys() == expected.keys(), message)
    for name, block in expected.items():
        other = found[name]
        same = other.shape == block.shape and (
            np.array_equal(other, block) if exact else np.allclose(other, block, rtol=RTOL, atol=ATOL)
        )
        _require(same, message)


def _take(blocks: Mapping[str, NDArray[Any]], rows: slice) -> dict[str, NDArray[Any]]:
    return {name: block[rows] for name, block in blocks.items()}


def _wild(features: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Returns rows that have nothing in common with the given ones."""
    changed = features.copy()
    for column in dataset.schema.used:
        if column.kind.is_number or column.kind is ColumnKind.BOOLEAN:
            changed[column.name] = features[column.name].fillna(5.0) * -1e6 - 77
        elif column.kind is ColumnKind.DATETIME:
            changed[column.name] = features[column.name] + pd.Timedelta(days=20_000)
        else:
            changed[column.name] = pd.Series("never seen", index=features.index, dtype="str")
    return changed


# --- sources -------------------------------------------------------------------------------------------------------


def check_source(component: Component, params: Mapping[str, Scalar], base: Path) -> None:
    """Checks that a source gives the same table twice, with rows numbered from 0, and refuses unknown parameters.

    Args:
        component: Registered in the catalogue of sources.
        params: With which it gives a table.
        base: Folder that relative paths start from.

    Raises:
        AssertionError: Says which part of the contract is broken.
    """
    case = f"the source `{component.name}`"
    _require(bool(component.summary), f"{case} has no docstring")
    frame = sources.read(component.name, params, base)
    _require(frame.equals(sources.read(component.name, params, base)), f"{case} gives another table a second time")
    _require(bool((frame.index == np.arange(len(frame))).all()), f"{case} does not number its rows from 0")
    _require(all(isinstance(name, str) for name in frame), f"{case} gives columns whose names are no words")
    try:
        sources.read(component.name, {**params, "no_such_parameter": 1}, base)
    except ConfigError:
        return
    raise AssertionError(f"{case} takes parameters that it does not know")


# -----------------------------------------------------------------------------------------------------------------


def _check_signature(component: Component) -> None:
    """Checks what a person sees of a component in a list: a sentence, and defaults that are allowed."""
    case = f"the {component.kind} `{component.name}`"
    _require(bool(component.summary), f"{case} has no docstring, whose first line is what people see of it")
    for known in component.hyperparameters.values():
        told = bool(known.choices or known.allowed)
        _require(told, f"{case} does not annotate `{known.name}` with types, so that no search space can be checked")
        allowed = known.accepts(known.default)
        _require(
            allowed, f"{case} has the default `{known.default}` of `{known.name}`, which is not {known.describe()}"
        )


def _close(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=RTOL, atol=ATOL)


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise AssertionError(sentence)
