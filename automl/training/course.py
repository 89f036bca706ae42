"""The course of a training: what each epoch came to, the weights of the best one, and why it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Literal

from torch import Tensor, nn

from automl.values import Direction, EpochReport

Report = Callable[[EpochReport], bool]
Ending = Literal["max_epochs", "patience", "report", "deadline", "diverged"]


class Course:
    """What has been of a training.

    Args:
        direction: Of the objective, which decides which epoch is best.
        patience: Reports without a better score after which training ends.
        report: Is told of each epoch; returns whether to stop now.
        keeps_last: Whether the last weights are wanted, and not the best.

    Attributes:
        history: One report for each epoch that has a score, or for each part of one.
        best: The one whose weights are kept; None: none has been scored.
        weights: Name -> tensor, on the CPU.
        n_epochs: Epochs that were begun.
        stopped: What ended it.
        seconds_before: Of training that was cut off and gone on from.
    """

    def __init__(self, direction: Direction, patience: int, report: Report, *, keeps_last: bool = False) -> None:
        self._sign = 1.0 if direction is Direction.MINIMIZE else -1.0
        self._patience = patience
        self._report = report
        self._keeps_last = keeps_last
        self.history: list[EpochReport] = []
        self.best: EpochReport | None = None
        self.weights: dict[str, Tensor] = {}
        self.n_epochs = 0
        self.stopped: Ending = "max_epochs"
        self.seconds_before = 0.0

    @property
    def was_cut_short(self) -> bool:
        """Whether training ended for a reason that is not its own."""
        return self.stopped in ("report", "deadline", "diverged")

    def take(self, epoch: EpochReport, network: nn.Module, *, is_last: bool) -> Ending | None:
        """Adds an epoch, and returns why to stop after it, if to stop.

        Args:
            network: With the weights that it ended with.
            is_last: Whether time is up.
        """
        self.history.append(epoch)
        if self.best is None or self._keeps_last or self._sign * epoch.value < self._sign * self.best.value:
            self.best = epoch
            self.weights = {name: weight.detach().cpu().clone() for name, weight in network.state_dict().items()}
        if self._report(epoch):
            return "report"
        if is_last:
            return "deadline"
        return "patience" if epoch.step - self.best.step >= self._patience else None

    def state(self) -> dict[str, Any]:
        """Returns what `resume` takes."""
        return {
            "history": [asdict(epoch) for epoch in self.history],
            "best": None if self.best is None else self.best.step,
            "weights": self.weights,
            "n_epochs": self.n_epochs,
            "stopped": self.stopped,
        }

    def resume(self, state: Mapping[str, Any]) -> None:
        """Goes on with what `state` returned; reports again what was reported, since nobody may have heard it."""
        self.history = [EpochReport(**epoch) for epoch in state["history"]]
        self.best = None if state["best"] is None else self.history[state["best"]]
        self.weights = state["weights"]
        self.n_epochs, self.stopped = state["n_epochs"], state["stopped"]
        for epoch in self.history:
            self._report(epoch)
        self.seconds_before = sum(epoch.metrics["epoch_seconds"] for epoch in self.history)
