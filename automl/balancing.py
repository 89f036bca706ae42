"""How the losses of several targets become one: `factory(target, network, *, hyperparameters) -> nn.Module`.

The kind is called `balancing`. `forward(losses, known) -> scalar` takes a loss of each target, (targets,), as a share
of what a constant answer has: about 1 before anything is learned, whatever the unit or the number of classes; and of
which targets any row of the batch has a value, (targets,): the loss of another is 0, and is to move nothing. It is
asked while gradients are on; what is validated is the plain mean. What it learns itself are parameters, which the
optimizer trains beside the network's, or buffers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from automl.components import register
from automl.errors import ConfigError
from automl.values import TargetSpec


@register("balancing")
def fixed(target: TargetSpec, network: nn.Module) -> nn.Module:
    """Returns the mean: every target counts as much as the others, from beginning to end."""
    return _Mean()


@register("balancing")
def uncertainty(target: TargetSpec, network: nn.Module) -> nn.Module:
    """Returns losses divided by what remains uncertain of each target, which is learned (Kendall et al. 2018).

    sum exp(-s) loss + s / 2, of half the loss where values are squared errors: targets that are mostly noise come to
    count less. arXiv 1705.07115.
    """
    return _Uncertainty(target)


@register("balancing")
def gradnorm(target: TargetSpec, network: nn.Module, *, alpha: float = 1.5, rate: float = 0.025) -> nn.Module:
    """Returns a weighted mean, whose weights make all targets pull alike at what they share (Chen et al. 2018).

    A target that lags behind the others pulls harder: the norm of its gradient, at the last weights that all targets
    learn with, is led to the mean norm times its lag to the power of `alpha`. arXiv 1711.02257. Each step costs a part
    of a backward pass for each target. A network whose targets share no weights is trained with the mean.

    Args:
        target: The targets.
        network: What is trained.
        alpha: How much a target that lags is helped; 0: all pull alike.
        rate: Of the weights, at each step.

    Raises:
        ConfigError: `alpha` is below 0, or `rate` not above 0.
    """
    if alpha < 0:
        raise ConfigError(f"`alpha` must be at least 0, not {alpha}")
    if rate <= 0:
        raise ConfigError(f"`rate` must be above 0, not {rate}")
    return _GradNorm(len(target.parts), network, alpha, rate)


class _Mean(nn.Module):
    def forward(self, losses: Tensor, known: Tensor) -> Tensor:
        return losses.mean()


class _Uncertainty(nn.Module):
    """Learns the logarithm of each target's variance, from 0 on."""

    halves: Tensor

    def __init__(self, target: TargetSpec) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(len(target.parts)))
        # Minus the logarithm of a normal density has half a squared error; that of classes, or of a Laplace density,
        # a whole loss.
        halves = [1.0 if part.task.is_classification or part.quantiles else 0.5 for part in target.parts]
        self.register_buffer("halves", torch.tensor(halves))

    def forward(self, losses: Tensor, known: Tensor) -> Tensor:
        each = self.halves * torch.exp(-self.log_variance) * losses + self.log_variance / 2
        return (each * known).mean()


class _GradNorm(nn.Module):
    weights: Tensor
    first: Tensor

    def __init__(self, n_targets: int, network: nn.Module, alpha: float, rate: float) -> None:
        super().__init__()
        # Hidden in tuples, that the network's weights be not taken for the loss's own.
        self._network = (network,)
        self._shared: tuple[nn.Parameter, ...] | None = None
        self.alpha = alpha
        self.rate = rate
        self.register_buffer("weights", torch.ones(n_targets))
        self.register_buffer("first", torch.zeros(n_targets))  # the losses at the first step that has each

    def forward(self, losses: Tensor, known: Tensor) -> Tensor:
        self._adjust(losses, known)
        return (self.weights * losses).mean()

    def _adjust(self, losses: Tensor, known: Tensor) -> None:
        """Moves the weights of the targets that are known one step towards where all pull as they should."""
        now = losses.detach()
        self.first = torch.where(known & (self.first == 0), now, self.first)
        here = known.nonzero().flatten()
        if len(here) < 2:
            return
        if self._shared is None:
            shared = _last_shared(self._network[0], losses[here])
            if not shared and len(here) < len(losses):
                return  # another batch may tell
            self._shared = shared
        if not self._shared:
            return
        gradients = [torch.autograd.grad(losses[at], self._shared, retain_graph=True)[0] for at in here]
        norms = torch.stack([gradient.norm() for gradient in gradients])  # of the losses before they are weighted
        pulls = self.weights[here] * norms
        lag = now[here] / self.first[here].clamp(min=1e-8)
        wanted = pulls.mean() * (lag / lag.mean().clamp(min=1e-8)) ** self.alpha
        # The slope of the sum of |pull - wanted| over the weights, `wanted` being held still.
        moved = self.weights.clone()  # a backward pass may still need the old ones
        moved[here] = (moved[here] - self.rate * norms * torch.sign(pulls - wanted)).clamp(min=1e-3)
        self.weights = moved * len(moved) / moved.sum()


def _last_shared(network: nn.Module, losses: Tensor) -> tuple[nn.Parameter, ...]:
    """Returns the last weights that every target learns with; none if there are none.

    The layer of the outputs is not among them: each target has rows of its own there.
    """
    candidates = [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim > 1]
    touched: list[Tensor | None] = [None] * len(candidates)
    for loss in losses:
        found = torch.autograd.grad(loss, candidates, retain_graph=True, allow_unused=True)
        for position, gradient in enumerate(found):
            here = torch.zeros_like(candidates[position], dtype=torch.bool) if gradient is None else gradient != 0
            before = touched[position]
            touched[position] = here if before is None else before & here
    for parameter, by_all in zip(reversed(candidates), reversed(touched), strict=True):
        if by_all is not None and bool(by_all.any()):
            return (parameter,)
    return ()
