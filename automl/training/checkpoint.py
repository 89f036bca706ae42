"""What of a training is kept while it goes on, so that whoever goes on with it trains nothing twice."""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from automl.errors import StorageError

#: Seconds of training after which it is kept again: what a crash costs at most, beside an epoch.
EVERY_S = 5.0

State = Mapping[str, Any]


class Paused(BaseException):
    """A training was asked to end, and is kept as it was."""


class Checkpoint:
    """One training, as it was after an epoch, in a file.

    A file that does not belong to what is trained, or was damaged, counts for none: training then begins anew.

    Args:
        path: Of the file, which need not be there yet.
        subject: Names what is trained on what; a file of something else is left alone.
        pause: Returns whether to end training after this epoch.
        every_s: Seconds after which training is kept again.
    """

    def __init__(
        self, path: Path, subject: str, pause: Callable[[], bool] = lambda: False, every_s: float = EVERY_S
    ) -> None:
        self._path = path
        self._subject = subject
        self.pause = pause
        self._every_s = every_s
        self._kept = time.monotonic()

    def paused_by(self, pause: Callable[[], bool]) -> Checkpoint:
        """Returns the same file for another process, which asks `pause`."""
        return Checkpoint(self._path, self._subject, pause, self._every_s)

    def load(self) -> State | None:
        """Returns what was kept, None if there is nothing to go on from."""
        try:
            found = torch.load(self._path, map_location="cpu", weights_only=True)
            state: State = found["state"]
            return state if found["subject"] == self._subject else None
        except Exception:  # there is none, or whatever a torn file leads torch to
            return None

    def epoch_ended(self, state: Callable[[], State], *, is_last: bool = False) -> None:
        """Keeps a training if it is time to.

        Args:
            state: Makes what is kept: tensors, numbers, words, and lists and dictionaries of these.
            is_last: Whether training ends with this epoch.

        Raises:
            Paused: Training was asked to end.
            StorageError: The disk is full or cannot be written.
        """
        pauses = self.pause()
        # The end of a training is worth keeping sooner: what comes after it may be cut off, too.
        if pauses or time.monotonic() - self._kept >= self._every_s / (5 if is_last else 1):
            self._keep(state())
        if pauses:
            raise Paused

    def _keep(self, state: State) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save({"subject": self._subject, "state": state}, file)
            os.replace(temporary, self._path)
        except (OSError, RuntimeError) as error:  # torch says a full disk in a RuntimeError
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StorageError(f"a checkpoint cannot be written: {error}", where=str(self._path)) from error
        self._kept = time.monotonic()


def random_state() -> dict[str, Any]:
    """Returns the state of every generator that a network may draw from without being given one."""
    version, words, gauss = random.getstate()
    numpy_state: Any = np.random.get_state(legacy=False)
    key = torch.from_numpy(numpy_state["state"]["key"].astype(np.int64))
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],  # type: ignore[no-untyped-call]
        "numpy": {**numpy_state, "state": {**numpy_state["state"], "key": key}},
        "python": [version, list(words), gauss],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Makes generators go on where `random_state` found them."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    words = state["numpy"]["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**state["numpy"], "state": {**state["numpy"]["state"], "key": words}})
    version, python_words, gauss = state["python"]
    random.setstate((version, tuple(python_words), gauss))
