"""What is made of domains: `factory(make, inputs, n_outputs, *, hyperparameters) -> nn.Module`, around a network.

A domain is where rows come from (a hospital, a camera, a country), and rows to predict come from others. `make(inputs,
n_outputs)` returns the chosen network, which knows nothing of domains; `inputs` has a block `domain`, codes (batch, 1)
with 0 for domains that are unknown, which that network need not be given. A module may have a method `penalty(done)`:
what its last forward pass in training adds to the loss, with `done` the share of training that is over.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.components import register
from automl.errors import ConfigError
from automl.values import BlockSpec, InputSpec

Make = Callable[[InputSpec, int], nn.Module]

DOMAIN = "domain"


@register("domain")
def none(make: Make, inputs: InputSpec, n_outputs: int) -> nn.Module:
    """Does as if there were no domains."""
    return make(_without(inputs), n_outputs)


@register("domain")
def embedding(make: Make, inputs: InputSpec, n_outputs: int, *, hidden: float = 0.2) -> nn.Module:
    """Makes the domain one more categorical column of the network.

    While it learns, the domains of some rows are hidden, so that it learns what to say where the domain is unknown.

    Args:
        make: Of the network.
        inputs: What the blocks hold.
        n_outputs: Number of logits or values per row.
        hidden: Share of the training rows whose domain is hidden.

    Raises:
        ConfigError: `hidden` is not in [0, 1).
    """
    if not 0.0 <= hidden < 1.0:
        raise ConfigError(f"`hidden` must be at least 0 and below 1, not {hidden}")
    column = BlockSpec("categorical", (1,), inputs.blocks[DOMAIN].cardinalities)
    return _Hiding(make(InputSpec({**inputs.blocks, DOMAIN: column}), n_outputs), hidden)


@register("domain")
def adversarial(make: Make, inputs: InputSpec, n_outputs: int, *, weight: float = 0.3, features: int = 64) -> nn.Module:
    """Makes the network say what tells little of the domain: it learns against a head that guesses it.

    Domain-adversarial training (Ganin et al. 2016, arXiv 1505.07818): the network's outputs become features, from which
    one head predicts the target and one the domain; the gradient of the latter is reversed on its way to the features,
    and grows as training goes on. To predict, no domain is needed.

    Args:
        make: Of the network.
        inputs: What the blocks hold.
        n_outputs: Number of logits or values per row.
        weight: What the reversed gradient is multiplied with in the end; 0: features do not heed the domain.
        features: Width of the features.

    Raises:
        ConfigError: `weight` is below 0, or `features` below 1.
    """
    if weight < 0 or features < 1:
        raise ConfigError(f"`weight` is at least 0 and `features` 1, however: {weight} and {features}")
    network = make(_without(inputs), features)
    return _Adversarial(network, features, n_outputs, inputs.blocks[DOMAIN].cardinalities[0], weight)


class _Hiding(nn.Module):
    """A network with a column of domains, some of which it is not told in training."""

    def __init__(self, network: nn.Module, hidden: float) -> None:
        super().__init__()
        self.network = network
        self._hidden = hidden
        if hasattr(network, "pretrain"):
            self.pretrain = network.pretrain

    def forward(self, inputs: dict[str, Tensor]) -> Any:
        if self.training and self._hidden:
            codes = inputs[DOMAIN]
            told = torch.rand(codes.shape, device=codes.device) >= self._hidden
            inputs = {**inputs, DOMAIN: codes * told}
        return self.network(inputs)


class _Adversarial(nn.Module):
    """A network of features with two heads, of which the one for domains learns against it.

    Args:
        network: From all blocks but the domain to (batch, features), or (batch, members, features).
        n_features: Their number.
        n_outputs: Of the target.
        n_domains: Codes of domains; rows of code 0 are not guessed.
        weight: As of `adversarial`.
    """

    def __init__(self, network: nn.Module, n_features: int, n_outputs: int, n_domains: int, weight: float) -> None:
        super().__init__()
        self.network = network
        self.output = nn.Linear(n_features, n_outputs)
        self.guess = nn.Sequential(nn.Linear(n_features, n_features), nn.ReLU(), nn.Linear(n_features, n_domains))
        self._weight = weight
        self._seen: tuple[Tensor, Tensor] | None = None
        if hasattr(network, "pretrain"):
            self.pretrain = self._pretrain

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """Returns (batch, n_outputs) or (batch, members, n_outputs)."""
        features = functional.relu(self.network(_rest(inputs)))
        self._seen = (features, inputs[DOMAIN][:, 0]) if self.training else None
        outputs: Tensor = self.output(features)
        return outputs

    def penalty(self, done: float) -> Tensor:
        """Returns how badly domains are guessed, whose gradient makes the guesses better and the features worse."""
        assert self._seen is not None
        (features, codes), self._seen = self._seen, None
        strength = self._weight * (2 / (1 + math.exp(-10 * done)) - 1)  # the schedule of the paper
        reverse: Any = _Reversal.apply
        guesses = self.guess(reverse(features.float(), strength))  # outside of what runs in a lower precision
        if guesses.ndim == 3:
            codes = codes[:, None].expand(guesses.shape[:2]).flatten()
            guesses = guesses.flatten(0, 1)
        known = codes > 0
        return functional.cross_entropy(guesses, codes, reduction="none")[known].sum() / known.sum().clamp(min=1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_seen": None}  # what is in the middle of a step cannot be copied

    def _pretrain(self, inputs: dict[str, Tensor], **told: Any) -> None:
        network: Any = self.network
        network.pretrain(_rest(inputs), **told)


class _Reversal(torch.autograd.Function):
    """Leaves numbers as they are, and turns their gradient round."""

    @staticmethod
    def forward(context: Any, x: Tensor, strength: float) -> Tensor:
        context.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        return -context.strength * gradients[0], None


def _without(inputs: InputSpec) -> InputSpec:
    return InputSpec(_rest(inputs.blocks))


def _rest(blocks: Any) -> Any:
    """Returns all blocks but the domain."""
    return {name: block for name, block in blocks.items() if name != DOMAIN}
