"""Losses, and what goes with them: how targets are encoded to be learned and how outputs are decoded to be read.

A loss is `factory(target, *, hyperparameters) -> nn.Module` with `forward(outputs, y) -> scalar`. `outputs` is
(batch, n_outputs), or (batch, members, n_outputs) of a network that is an ensemble inside; `y` (batch,) is what
`encode` returns. The trait `classification`, `regression` or `quantile` says for which tasks a loss is.

A loss knows one target. Several have consecutive outputs of one network, and `build` puts their losses together: a
target that is missing in a row is left out of that row's loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from automl.components import catalogue, register
from automl.errors import ConfigError
from automl.values import USUAL_LOSSES, Choice, TargetSpec, Task

EVALUATION_BATCH_SIZE = 4096


def encode(y: NDArray[Any], target: TargetSpec) -> Tensor:
    """Returns targets as a loss takes them: int64 class positions, or float32 standardised values; (rows,).

    Networks start near zero mean and unit variance, so values are learned as (value - mean) / scale; the difference
    is taken in float64, where a large mean does not swallow it. Of several targets all are float32, NaN where one is
    missing; (rows, targets).
    """
    if target.parts:
        y = np.asarray(y, dtype=np.float64)
        shift = np.array([part.mean for part in target.parts])
        return torch.as_tensor(((y - shift) / np.array([part.scale for part in target.parts])).astype(np.float32))
    if target.task.is_classification:
        return torch.as_tensor(np.asarray(y, dtype=np.int64))
    return torch.as_tensor(((np.asarray(y, dtype=np.float64) - target.mean) / target.scale).astype(np.float32))


def predictions(outputs: Tensor, target: TargetSpec) -> Tensor:
    """Returns what a network's outputs mean, as float64 on the CPU.

    Members of an ensemble are averaged as probabilities or values, not as logits.

    Args:
        outputs: (rows, n_outputs) or (rows, members, n_outputs).
        target: The target of the training rows.

    Returns:
        Probabilities (rows, classes), of two classes in a binary task, or values (rows,) in the target's own unit;
        quantiles (rows, quantiles), rising; of several targets all of these side by side, values as a column.
    """
    if target.parts:
        each = [predictions(outputs[..., s], part) for part, s in zip(target.parts, target.slices, strict=True)]
        return torch.cat([one if one.ndim == 2 else one[:, None] for one in each], dim=1)
    outputs = outputs.detach().cpu().double()  # float32 would round a sure prediction to exactly 0 or 1
    if target.task.is_classification:
        decoded = _logits(outputs).softmax(dim=-1)  # (rows, [members,] classes)
    elif target.quantiles:
        # Sorted, quantiles that cross come closer to the true ones (Chernozhukov et al. 2010).
        decoded = outputs.sort(dim=-1).values * target.scale + target.mean  # (rows, [members,] quantiles)
    else:
        decoded = _values(outputs) * target.scale + target.mean  # (rows, [members])
    return decoded.mean(dim=1) if outputs.ndim == 3 else decoded


def forward(
    network: nn.Module,
    inputs: Mapping[str, NDArray[Any]],
    target: TargetSpec,
    *,
    batch_size: int = EVALUATION_BATCH_SIZE,
) -> NDArray[np.float64]:
    """Returns a network's predictions for prepared rows.

    Args:
        network: Any network; it is put in evaluation mode and stays on its device.
        inputs: Block name -> (rows, ...), as in `Part.inputs`.
        target: The target of the training rows.
        batch_size: Rows per forward pass; it bounds memory and changes nothing else.

    Returns:
        As `predictions`: (rows, columns) or (rows,).
    """
    network.eval()
    parameter = next(network.parameters(), None)
    device = torch.device("cpu") if parameter is None else parameter.device
    n_rows = len(next(iter(inputs.values())))
    with torch.inference_mode():
        outputs = [
            network({name: torch.tensor(block[i : i + batch_size], device=device) for name, block in inputs.items()})
            for i in range(0, max(n_rows, 1), batch_size)  # no rows are one empty batch: its result has the right shape
        ]
        return predictions(torch.cat(outputs), target).numpy()


def build(choice: Choice, target: TargetSpec, balancing: nn.Module | None = None) -> nn.Module:
    """Returns the loss of what is to be predicted.

    Args:
        choice: From the catalogue. Of several targets it is for those of whose kind it is; the others have the usual
            one of theirs.
        target: The target of the training rows.
        balancing: What makes one loss of several targets', their mean if None; labels of a multilabel task count
            alike, whatever it is.
    """
    if target.task is Task.MULTILABEL:
        # Each label of each row is a binary question, and all of them are asked at once.
        counts = tuple(np.sum([part.class_counts for part in target.parts], axis=0).tolist())
        return _Labels(build(choice, TargetSpec(Task.BINARY, 1, counts)))
    if not target.parts:
        made: nn.Module = catalogue("loss").build(choice, target)
        return made
    chosen = [choice if suits(choice.name, part.task) else Choice(USUAL_LOSSES[part.task]) for part in target.parts]
    losses = [build(one, part) for one, part in zip(chosen, target.parts, strict=True)]
    return _SeveralTargets(losses, target, balancing)


def suits(name: str, task: Task) -> bool:
    """Returns whether a loss is for a single target of a task."""
    return task.kind in catalogue("loss")[name].traits


@register("loss", "classification")
def cross_entropy(
    target: TargetSpec,
    *,
    class_weights: Literal["none", "sqrt", "balanced"] = "none",
    label_smoothing: float = 0.0,
) -> nn.Module:
    """Returns the cross-entropy, of a sigmoid in a binary task and of a softmax in a multiclass one.

    Args:
        target: The target of the training rows.
        class_weights: `balanced` weighs a class by the inverse of its frequency (King and Zeng 2001), `sqrt` by the
            square root of that; both trade calibrated probabilities for attention to rare classes.
        label_smoothing: Share of a label that is spread over all classes (Szegedy et al. 2016, arXiv 1512.00567).

    Raises:
        ConfigError: `label_smoothing` is not in [0, 1).
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ConfigError(f"`label_smoothing` must be at least 0 and below 1, not {label_smoothing}")
    weights = _class_weights(target, class_weights)
    return _PerMember(_logits, nn.CrossEntropyLoss(weights, label_smoothing=label_smoothing))


@register("loss", "classification")
def focal(
    target: TargetSpec, *, gamma: float = 2.0, class_weights: Literal["none", "sqrt", "balanced"] = "none"
) -> nn.Module:
    """Returns the focal loss, a cross-entropy that turns from rows which are right already (Lin et al. 2017).

    (1 - p)^gamma log(1 / p) of the right class's probability p, arXiv 1708.02002. It trades calibrated probabilities
    for attention to hard rows.

    Args:
        target: The target of the training rows.
        gamma: How quickly a row's weight falls as its probability rises; 0 is the cross-entropy.
        class_weights: As of `cross_entropy`.

    Raises:
        ConfigError: `gamma` is below 0.
    """
    if gamma < 0:
        raise ConfigError(f"`gamma` must be at least 0, not {gamma}")
    return _PerMember(_logits, _Focal(gamma, _class_weights(target, class_weights)))


@register("loss", "classification")
def logit_adjusted(target: TargetSpec, *, tau: float = 1.0) -> nn.Module:
    """Returns the cross-entropy of logits that are raised by each class's frequency while the network learns.

    What the network then says, without the raise, is as if all classes were equally frequent: made for the balanced
    accuracy of unbalanced classes (Menon et al. 2021, arXiv 2007.07314).

    Args:
        target: The target of the training rows.
        tau: What the logarithm of a frequency is multiplied with; 0 is the cross-entropy, 1 the balanced optimum.
    """
    counts = torch.tensor(target.class_counts).clamp(min=1)
    return _PerMember(_logits, _Adjusted(tau * (counts / counts.sum()).log()))


@register("loss", "regression")
def mse(target: TargetSpec) -> nn.Module:
    """Returns the mean squared error of standardised values."""
    return _PerMember(_values, nn.MSELoss())


@register("loss", "regression")
def mae(target: TargetSpec) -> nn.Module:
    """Returns the mean absolute error of standardised values, whose best answer is the median."""
    return _PerMember(_values, nn.L1Loss())


@register("loss", "regression")
def quantile(target: TargetSpec, *, quantile: float = 0.5) -> nn.Module:
    """Returns the pinball loss of standardised values (Koenker and Bassett 1978), whose best answer is a quantile.

    Args:
        target: The target of the training rows.
        quantile: Share of the values that lie below the answer; 0.5 is the median.

    Raises:
        ConfigError: `quantile` is not between 0 and 1.
    """
    if not 0.0 < quantile < 1.0:
        raise ConfigError(f"`quantile` must be above 0 and below 1, not {quantile}")
    return _PerMember(_itself, _Pinball((quantile,)))


@register("loss", "quantile")
def pinball(target: TargetSpec) -> nn.Module:
    """Returns the pinball loss of standardised values (Koenker and Bassett 1978), the mean over all that are asked for.

    Each has an output of its own, so that one network learns them together.
    """
    return _PerMember(_itself, _Pinball(target.quantiles))


@register("loss", "regression")
def huber(target: TargetSpec, *, delta: float = 1.0) -> nn.Module:
    """Returns Huber's loss of standardised values (Huber 1964): squared below `delta`, linear above.

    Args:
        target: The target of the training rows.
        delta: Where it turns linear, in standard deviations of the target.
    """
    return _PerMember(_values, nn.HuberLoss(delta=delta))


class _PerMember(nn.Module):
    """A loss of decoded outputs, in which every member of an ensemble answers for itself.

    The mean of the members' losses, not the loss of their mean, as in TabM (Gorishniy et al. 2025, arXiv 2410.24210):
    otherwise members only correct one another.
    """

    def __init__(self, decode: Callable[[Tensor], Tensor], loss: nn.Module) -> None:
        super().__init__()
        self.decode = decode
        self.loss = loss

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        if outputs.ndim == 3:  # (batch, members, n_outputs) -> (batch * members, n_outputs)
            y = y.repeat_interleave(outputs.shape[1], dim=0)
            outputs = outputs.flatten(0, 1)
        loss: Tensor = self.loss(self.decode(outputs), y)
        return loss


class _Focal(nn.Module):
    """Maps logits (rows, classes) and class positions (rows,) to the mean, which weighs rows as their classes."""

    weights: Tensor | None

    def __init__(self, gamma: float, weights: Tensor | None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weights", weights)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        log_p = logits.log_softmax(dim=1).gather(1, y[:, None]).squeeze(1)  # (rows,), of the right class
        # 1 - p, kept above 0: the slope of a power below 1 has no end there.
        missed = (-torch.expm1(log_p)).clamp(min=torch.finfo(log_p.dtype).tiny)
        losses = -(missed**self.gamma) * log_p
        if self.weights is None:
            return losses.mean()
        weights = self.weights[y]
        return (weights * losses).sum() / weights.sum()


class _Adjusted(nn.Module):
    """The cross-entropy of logits (rows, classes) after an offset (classes,) is added to them."""

    offset: Tensor

    def __init__(self, offset: Tensor) -> None:
        super().__init__()
        self.register_buffer("offset", offset)

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits + self.offset, y)


class _Pinball(nn.Module):
    """Weighs values that are too small by the quantile, those that are too large by the rest; (rows, quantiles)."""

    quantiles: Tensor

    def __init__(self, quantiles: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("quantiles", torch.tensor(quantiles, dtype=torch.float32))

    def forward(self, values: Tensor, y: Tensor) -> Tensor:
        missing = y[:, None] - values
        return torch.maximum(self.quantiles * missing, (self.quantiles - 1) * missing).mean()


class _Labels(nn.Module):
    """A binary loss of each label of each row that is known: outputs (batch, [members,] labels), y (batch, labels)."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        known = ~y.isnan()
        # Labels become rows; members stay beside one another: (rows * labels, [members,] 1).
        by_label, answers = outputs.movedim(-1, 1).flatten(0, 1)[..., None], y.flatten()
        if not known.all():
            by_label, answers = by_label[known.flatten()], answers[known.flatten()]
        loss: Tensor = self.loss(by_label, answers.long())
        return loss


class _SeveralTargets(nn.Module):
    """One loss of several targets; of each, over the rows in which it is known.

    Each is a share of the loss of a constant answer, so that targets of any unit and number of classes compare.
    """

    usual: Tensor

    def __init__(self, losses: Sequence[nn.Module], target: TargetSpec, balancing: nn.Module | None) -> None:
        super().__init__()
        self.losses = nn.ModuleList(losses)
        self.balancing = balancing
        self._target = target
        self.register_buffer("usual", torch.tensor([_of_constant(part) for part in target.parts]))

    def forward(self, outputs: Tensor, y: Tensor) -> Tensor:
        found, are_known = [], (~y.isnan()).any(dim=0)
        parts = zip(self.losses, self._target.parts, self._target.slices, strict=True)
        for position, (loss, part, its) in enumerate(parts):
            its_outputs, its_y = outputs[..., its], y[:, position]
            known = ~its_y.isnan()
            if not known.all():
                its_outputs, its_y = its_outputs[known], its_y[known]
            its_y = its_y.long() if part.task.is_classification else its_y
            # Of no rows the mean is no number; what is learned of them is nothing.
            found.append(loss(its_outputs, its_y) if len(its_y) else its_outputs.sum())
        losses = torch.stack(found) / self.usual
        if self.balancing is None or not torch.is_grad_enabled():  # what is validated is not what is learned
            return losses.mean()
        balanced: Tensor = self.balancing(losses, are_known)
        return balanced


def _of_constant(target: TargetSpec) -> float:
    """Returns about what the usual loss of a target comes to when every row is answered alike."""
    if target.task.is_classification:
        counts = np.array(target.class_counts, dtype=np.float64)
        shares = counts[counts > 0] / max(counts.sum(), 1)
        return max(float(-(shares * np.log(shares)).sum()), 0.01)  # of a class that is hardly ever another
    if target.quantiles:  # of values with a normal distribution
        normal = NormalDist()
        return float(np.mean([normal.pdf(normal.inv_cdf(level)) for level in target.quantiles]))
    return 1.0


def _class_weights(target: TargetSpec, kind: Literal["none", "sqrt", "balanced"]) -> Tensor | None:
    """Returns what a row of each class counts; (classes,), or None where all count alike."""
    if kind == "none":
        return None
    counts = torch.tensor(target.class_counts).clamp(min=1)  # resampling may have emptied a class
    weights = counts.sum() / (len(counts) * counts)  # (classes,)
    return weights.sqrt() if kind == "sqrt" else weights


def _logits(outputs: Tensor) -> Tensor:
    """Returns one logit a class: (..., 1) or (..., classes) -> (..., classes).

    A single logit z stands for the two logits 0 and z: their softmax is the sigmoid of z.
    """
    return torch.cat([torch.zeros_like(outputs), outputs], dim=-1) if outputs.shape[-1] == 1 else outputs


def _itself(outputs: Tensor) -> Tensor:
    """Returns the outputs as they are: (..., quantiles)."""
    return outputs


def _values(outputs: Tensor) -> Tensor:
    """Returns the values without the axis of outputs: (..., 1) -> (...)."""
    return outputs.squeeze(-1)
