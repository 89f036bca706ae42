"""Optimizers: `factory(params, *, hyperparameters) -> Optimizer`.

`params` is whatever torch takes. Training gives groups, so that weight decay spares biases, normalisations and
embeddings; a factory needs to know nothing of that. Fused kernels, where torch has them on CPU and GPU, take a third
off the time of a small network's step; `foreach`, where it has not, saves a call a tensor and operation.

Traits: `full_batch` makes training use all rows in each step, `single_row` one row; `closure` has `step` called with a
function that computes loss and gradients anew. Where an optimizer has the methods `train` and `eval`, training calls
them around its steps and around everything that looks at the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import optim
from torch.optim.optimizer import ParamsT

from automl.components import register
from automl.errors import ConfigError

#: The learning rate that a range test finds before training, `automl/training/rate_finder.py`.
FIND = "find"
#: A learning rate: a number, or the word that asks for one.
Rate = float | Literal["find"]


@register("optimizer")
def sgd(
    params: ParamsT,
    *,
    lr: Rate = 1e-2,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> optim.Optimizer:
    """Returns stochastic gradient descent, with momentum as of Sutskever et al. 2013.

    Without momentum there is nothing to look ahead along: `nesterov` then changes nothing, where torch would refuse.
    """
    ahead = nesterov and momentum > 0
    return optim.SGD(params, lr=_number(lr), weight_decay=weight_decay, momentum=momentum, nesterov=ahead, fused=True)


@register("optimizer", "full_batch")
def gradient_descent(
    params: ParamsT, *, lr: Rate = 0.1, weight_decay: float = 0.0, momentum: float = 0.0, nesterov: bool = False
) -> optim.Optimizer:
    """Returns gradient descent on all rows at once (Cauchy 1847): one step an epoch, whatever the batch size."""
    return sgd(params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov)


@register("optimizer", "single_row")
def single_row_sgd(
    params: ParamsT, *, lr: Rate = 1e-3, weight_decay: float = 0.0, momentum: float = 0.0
) -> optim.Optimizer:
    """Returns stochastic gradient descent on one row a step (Robbins and Monro 1951), whatever the batch size.

    Many steps an epoch, and nothing that is normalised over the batch can learn from them.
    """
    return sgd(params, lr=lr, weight_decay=weight_decay, momentum=momentum)


@register("optimizer")
def adagrad(params: ParamsT, *, lr: Rate = 1e-2, weight_decay: float = 0.0) -> optim.Optimizer:
    """Returns Adagrad (Duchi et al. 2011)."""
    return optim.Adagrad(params, lr=_number(lr), weight_decay=weight_decay, fused=True)


@register("optimizer")
def adadelta(params: ParamsT, *, lr: Rate = 1.0, weight_decay: float = 0.0, rho: float = 0.9) -> optim.Optimizer:
    """Returns Adadelta (Zeiler 2012, arXiv 1212.5701), which finds the scale of its steps by itself."""
    return optim.Adadelta(params, lr=_number(lr), weight_decay=weight_decay, rho=rho, foreach=True)


@register("optimizer")
def rmsprop(params: ParamsT, *, lr: Rate = 1e-3, weight_decay: float = 0.0, momentum: float = 0.0) -> optim.Optimizer:
    """Returns RMSprop (Tieleman and Hinton 2012)."""
    return optim.RMSprop(params, lr=_number(lr), weight_decay=weight_decay, momentum=momentum, foreach=True)


@register("optimizer")
def adam(params: ParamsT, *, lr: Rate = 1e-3, weight_decay: float = 0.0, beta2: float = 0.999) -> optim.Optimizer:
    """Returns Adam (Kingma and Ba 2015, arXiv 1412.6980), whose weight decay is a term of the gradient."""
    return optim.Adam(params, lr=_number(lr), weight_decay=weight_decay, betas=(0.9, beta2), fused=True)


@register("optimizer")
def adamw(params: ParamsT, *, lr: Rate = 1e-3, weight_decay: float = 1e-2, beta2: float = 0.999) -> optim.Optimizer:
    """Returns AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), whose weight decay acts apart from the gradient."""
    return optim.AdamW(params, lr=_number(lr), weight_decay=weight_decay, betas=(0.9, beta2), fused=True)


@register("optimizer")
def nadam(params: ParamsT, *, lr: Rate = 1e-3, weight_decay: float = 1e-2, beta2: float = 0.999) -> optim.Optimizer:
    """Returns NAdam (Dozat 2016), Adam that looks ahead as Nesterov does; weight decay acts as in AdamW."""
    betas = (0.9, beta2)
    return optim.NAdam(
        params, lr=_number(lr), weight_decay=weight_decay, betas=betas, decoupled_weight_decay=True, foreach=True
    )


@register("optimizer")
def radam(params: ParamsT, *, lr: Rate = 1e-3, weight_decay: float = 1e-2, beta2: float = 0.999) -> optim.Optimizer:
    """Returns RAdam (Liu et al. 2020, arXiv 1908.03265), Adam with a warm-up inside; weight decay acts as in AdamW."""
    betas = (0.9, beta2)
    return optim.RAdam(
        params, lr=_number(lr), weight_decay=weight_decay, betas=betas, decoupled_weight_decay=True, foreach=True
    )


@register("optimizer")
def lion(
    params: ParamsT, *, lr: Rate = 3e-4, weight_decay: float = 3e-2, beta1: float = 0.9, beta2: float = 0.99
) -> optim.Optimizer:
    """Returns Lion (Chen et al. 2023, arXiv 2302.06675), which steps by the sign of its momentum.

    Its rate is three to ten times below that of AdamW and its weight decay as much above, as the authors advise.
    """
    from lion_pytorch import Lion

    made: optim.Optimizer = Lion(params, lr=_number(lr), betas=(beta1, beta2), weight_decay=weight_decay)
    return made


@register("optimizer")
def muon(
    params: ParamsT, *, lr: Rate = 2e-3, weight_decay: float = 1e-2, momentum: float = 0.95, beta2: float = 0.999
) -> optim.Optimizer:
    """Returns Muon (Jordan et al. 2024) for the matrices of linear maps, AdamW for all else.

    Steps are scaled to the size of AdamW's, so that both share a rate (Liu et al. 2025, arXiv 2502.16982). Matrices of
    a group whose weight decay is 0, such as embeddings, are left to AdamW: they are no linear maps.
    """
    return _Muon(params, _number(lr), weight_decay, momentum, beta2)


@register("optimizer")
def schedule_free(
    params: ParamsT, *, lr: Rate = 2.5e-3, weight_decay: float = 1e-2, beta1: float = 0.9, beta2: float = 0.999
) -> optim.Optimizer:
    """Returns schedule-free AdamW (Defazio et al. 2024, arXiv 2405.15682): averages weights in place of a schedule.

    Meant for the schedules `constant` and `warmup`.
    """
    from schedulefree import AdamWScheduleFree

    made: optim.Optimizer = AdamWScheduleFree(
        params, lr=_number(lr), weight_decay=weight_decay, betas=(beta1, beta2), foreach=True
    )
    return made


@register("optimizer", "full_batch", "closure")
def lbfgs(params: ParamsT, *, lr: float = 1.0, max_iter: int = 10, history_size: int = 10) -> optim.Optimizer:
    """Returns L-BFGS with a strong Wolfe line search (Liu and Nocedal 1989), on all rows at once.

    Made for small networks without dropout: its line search takes the loss for one that does not change by itself. It
    knows one group of parameters, and no weight decay.

    Args:
        params: Parameters, or groups, which are merged.
        lr: What the line search tries first.
        max_iter: Iterations an epoch.
        history_size: Steps that the curvature is worked out from.
    """
    flat: list[torch.Tensor] = []
    for group in list[Any](params):
        flat += group["params"] if isinstance(group, dict) else [group]
    return optim.LBFGS(flat, lr=lr, max_iter=max_iter, history_size=history_size, line_search_fn="strong_wolfe")


class _Muon(optim.Optimizer):
    """Two optimizers that share their groups with this one, which schedules thus see as one."""

    def __init__(self, params: ParamsT, lr: float, weight_decay: float, momentum: float, beta2: float) -> None:
        super().__init__(params, {"lr": lr})
        matrices, others = [], []
        for group in self.param_groups:
            linear = [p for p in group["params"] if p.ndim == 2 and group.get("weight_decay") != 0]
            chosen = {id(p) for p in linear}
            rest = [p for p in group["params"] if id(p) not in chosen]
            matrices += [{**group, "params": linear}] if linear else []
            others += [{**group, "params": rest}] if rest else []
        self._parts: list[optim.Optimizer] = []
        if matrices:
            turning = optim.Muon(
                matrices, lr=lr, weight_decay=weight_decay, momentum=momentum, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append(turning)
        if others:
            self._parts.append(optim.AdamW(others, lr=lr, weight_decay=weight_decay, betas=(0.9, beta2), fused=True))
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes a step of each part."""
        loss = None if closure is None else closure()
        for part in self._parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of the parts."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Gives the parts their states, and shares the groups that they have then."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self._parts for group in part.param_groups]


def _number(lr: Rate) -> float:
    if isinstance(lr, str):
        raise ConfigError(f"the learning rate `{lr}` is found by training, before an optimizer is made")
    return lr
