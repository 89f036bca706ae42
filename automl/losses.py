"""Losses, and what goes with them: how targets are encoded to be learned and how outputs are decoded to be read.

A loss is `factory(target, *, hyperparameters) -> nn.Module` with `forward(outputs, y) -> scalar`. `outputs` is
(batch, n_outputs), or (batch, members, n_outputs) of a network that is an ensemble inside; `y` (batch,) is what
`encode` returns. The trait `classification` or `regression` says for which tasks a loss is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from automl.components import register
from automl.errors import ConfigError
from automl.values import TargetSpec

EVALUATION_BATCH_SIZE = 4096


def encode(y: NDArray[Any], target: TargetSpec) -> Tensor:
    """Returns targets as a loss takes them: int64 class positions, or float32 standardised values; (rows,).

    Networks start near zero mean and unit variance, so values are learned as (value - mean) / scale; the difference
    is taken in float64, where a large mean does not swallow it.
    """
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
        Probabilities (rows, classes), of two classes in a binary task, or values (rows,) in the target's own unit.
    """
    outputs = outputs.detach().cpu().double()  # float32 would round a sure prediction to exactly 0 or 1
    if target.task.is_classification:
        decoded = _logits(outputs).softmax(dim=-1)  # (rows, [members,] classes)
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
        As `predictions`: (rows, classes) or (rows,).
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
    weights = None
    if class_weights != "none":
        counts = torch.tensor(target.class_counts).clamp(min=1)  # resampling may have emptied a class
        weights = counts.sum() / (len(counts) * counts)  # (classes,)
        weights = weights.sqrt() if class_weights == "sqrt" else weights
    return _PerMember(_logits, nn.CrossEntropyLoss(weights, label_smoothing=label_smoothing))


@register("loss", "regression")
def mse(target: TargetSpec) -> nn.Module:
    """Returns the mean squared error of standardised values."""
    return _PerMember(_values, nn.MSELoss())


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
            y = y.repeat_interleave(outputs.shape[1])
            outputs = outputs.flatten(0, 1)
        loss: Tensor = self.loss(self.decode(outputs), y)
        return loss


def _logits(outputs: Tensor) -> Tensor:
    """Returns one logit a class: (..., 1) or (..., classes) -> (..., classes).

    A single logit z stands for the two logits 0 and z: their softmax is the sigmoid of z.
    """
    return torch.cat([torch.zeros_like(outputs), outputs], dim=-1) if outputs.shape[-1] == 1 else outputs


def _values(outputs: Tensor) -> Tensor:
    """Returns the values without the axis of outputs: (..., 1) -> (...)."""
    return outputs.squeeze(-1)
