"""Averages of weights over training: `factory(network, *, hyperparameters) -> Averaged | None`; None: none is taken.

The trait `per_step` or `per_epoch` says when training adds the weights of the moment. Where there is an average, it is
what is validated, kept and shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from automl.components import register
from automl.errors import ConfigError


class Averaged:
    """A network, and the running average of its weights.

    Running statistics of normalisations are averaged as weights are, which spares a pass over the rows; numbers that
    cannot be averaged, such as counts, are those of the network.

    Args:
        network: What is trained.
        weight: Number of earlier additions, 1 or more -> the weight of the next one in the average.
        start: Share of training before which nothing is added.
    """

    def __init__(self, network: nn.Module, weight: Callable[[int], float], start: float = 0.0) -> None:
        self._network = network
        self._start = start
        self._n = 0

        def add(averaged: Sequence[Tensor], current: Sequence[Tensor], n: Tensor | int) -> None:
            if averaged[0].is_floating_point():  # they come by type
                get_ema_multi_avg_fn(1 - weight(self._n))(averaged, current, n)  # type: ignore[no-untyped-call]
            else:
                for old, new in zip(averaged, current, strict=True):
                    old.copy_(new)

        self._average = AveragedModel(network, multi_avg_fn=add, use_buffers=True)

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights; the one that is trained while nothing has been added."""
        average: nn.Module = self._average.module
        return average if self._n else self._network

    def add(self, share: float) -> None:
        """Adds the weights of the moment, at a share of training that has been made."""
        if share >= self._start:
            self._average.update_parameters(self._network)
            self._n += 1

    def state(self) -> dict[str, Any]:
        """Returns what `resume` takes."""
        return {"n": self._n, "average": self._average.state_dict()}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was taken."""
        self._n = state["n"]
        self._average.load_state_dict(state["average"])


@register("averaging", "per_epoch")
def none(network: nn.Module) -> Averaged | None:
    """Takes no average."""
    return None


@register("averaging", "per_step")
def ema(network: nn.Module, *, decay: float = 0.99) -> Averaged | None:
    """Averages with weights that fall exponentially into the past (Polyak and Juditsky 1992; Tarvainen 2017).

    The decay starts low, at (1 + n) / (10 + n) after n steps, so that the first weights are soon forgotten.

    Args:
        network: What is trained.
        decay: What the average is multiplied with in each step; 0.99 looks back about 100 steps.

    Raises:
        ConfigError: `decay` is not in [0, 1).
    """
    if not 0.0 <= decay < 1.0:
        raise ConfigError(f"`decay` must be at least 0 and below 1, not {decay}")
    return Averaged(network, lambda n: 1 - min(decay, (1 + n) / (10 + n)))


@register("averaging", "per_epoch")
def swa(network: nn.Module, *, start: float = 0.75) -> Averaged | None:
    """Averages the weights at the ends of the last epochs, all alike (Izmailov et al. 2018, arXiv 1803.05407).

    Args:
        network: What is trained.
        start: Share of training after which epochs count.

    Raises:
        ConfigError: `start` is not in [0, 1].
    """
    if not 0.0 <= start <= 1.0:
        raise ConfigError(f"`start` must be between 0 and 1, not {start}")
    return Averaged(network, lambda n: 1 / (n + 1), start)
