"""Optimizers: `factory(params, *, hyperparameters) -> Optimizer`.

`params` is whatever torch takes. Training gives two groups, so that weight decay spares biases, normalisations and
embeddings; a factory needs to know nothing of that. Fused kernels, where torch has them on CPU and GPU, take a third
off the time of a small network's step.
"""

from __future__ import annotations

from torch import optim
from torch.optim.optimizer import ParamsT

from automl.components import register


@register("optimizer")
def sgd(
    params: ParamsT,
    *,
    lr: float = 1e-2,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    nesterov: bool = False,
) -> optim.Optimizer:
    """Returns stochastic gradient descent, with momentum as of Sutskever et al. 2013.

    Without momentum there is nothing to look ahead along: `nesterov` then changes nothing, where torch would refuse.
    """
    return optim.SGD(
        params, lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov and momentum > 0, fused=True
    )


@register("optimizer")
def adagrad(params: ParamsT, *, lr: float = 1e-2, weight_decay: float = 0.0) -> optim.Optimizer:
    """Returns Adagrad (Duchi et al. 2011)."""
    return optim.Adagrad(params, lr=lr, weight_decay=weight_decay)


@register("optimizer")
def rmsprop(params: ParamsT, *, lr: float = 1e-3, weight_decay: float = 0.0, momentum: float = 0.0) -> optim.Optimizer:
    """Returns RMSprop (Tieleman and Hinton 2012)."""
    return optim.RMSprop(params, lr=lr, weight_decay=weight_decay, momentum=momentum)


@register("optimizer")
def adam(params: ParamsT, *, lr: float = 1e-3, weight_decay: float = 0.0) -> optim.Optimizer:
    """Returns Adam (Kingma and Ba 2015, arXiv 1412.6980), whose weight decay is a term of the gradient."""
    return optim.Adam(params, lr=lr, weight_decay=weight_decay, fused=True)


@register("optimizer")
def adamw(params: ParamsT, *, lr: float = 1e-3, weight_decay: float = 1e-2) -> optim.Optimizer:
    """Returns AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101), whose weight decay acts apart from the gradient."""
    return optim.AdamW(params, lr=lr, weight_decay=weight_decay, fused=True)
