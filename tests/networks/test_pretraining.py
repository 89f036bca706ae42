"""Encoders of images and sequences that are denoising autoencoders first."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

import pytest
import torch

from automl import plugins
from automl.architecture import build
from automl.networks import _encoded
from automl.values import BlockSpec, Choice, InputSpec

torch.set_num_threads(1)
plugins.load_builtin()

NAMES = ["cnn", "residual_cnn", "temporal_cnn", "inception_time"]
COLUMNS = {"numeric": BlockSpec("numeric", (2,))}
INPUTS = {
    "image": InputSpec({"image": BlockSpec("image", (2, 6, 8)), **COLUMNS}),
    "sequence": InputSpec({"sequence": BlockSpec("sequence", (2, 12), masked=True), **COLUMNS}),
}


def network(name: str, epochs: int = 1) -> tuple[Any, dict[str, torch.Tensor]]:
    """Returns a network with fresh weights, and rows for it, whose sequences end early."""
    inputs = INPUTS["sequence" if name in ("temporal_cnn", "inception_time") else "image"]
    torch.manual_seed(0)
    rows = {block: torch.randn(60, *spec.shape) for block, spec in inputs.blocks.items()}
    if "sequence" in rows:
        there = torch.arange(12) < torch.arange(60)[:, None] % 12 + 1
        rows["sequence"] = rows["sequence"] * there[:, None]
        rows["sequence"][:, -1] = there.float()
    return build(Choice(name, {"pretraining_epochs": epochs}), inputs, 3), rows


@pytest.mark.parametrize("name", NAMES)
def test_encoders_learn_and_the_head_does_not(name: str) -> None:
    found = []
    for _ in range(2):
        built, rows = network(name)
        before = copy.deepcopy(built.state_dict())
        built.pretrain(rows, seed=1, deadline=math.inf)
        after = built.state_dict()
        assert list(after) == list(before)
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        assert changed
        assert all(key.startswith("encoders.encoders") for key in changed)
        assert all(parameter.grad is None for parameter in built.parameters())
        found.append(built.eval()(rows))
    assert torch.equal(*found)


def test_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not hasattr(network("cnn", epochs=0)[0], "pretrain")
    built, rows = network("cnn", epochs=1000)
    copied = copy.deepcopy(built)
    before = copy.deepcopy(built.state_dict())
    built.pretrain(rows, seed=0, deadline=time.monotonic())
    assert all(torch.equal(weight, before[key]) for key, weight in built.state_dict().items())
    monkeypatch.setattr(_encoded, "BATCH_SIZE", 59)  # and one row is left, which batch normalisation cannot take
    copied._pretraining_epochs = 1
    copied.pretrain(rows, seed=0, deadline=math.inf)
    assert any(not torch.equal(weight, before[key]) for key, weight in copied.state_dict().items())
    assert all(torch.equal(weight, before[key]) for key, weight in built.state_dict().items())


def test_cells_that_are_not_seen_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    built, rows = network("cnn", epochs=12)
    rows["image"] = rows["image"][:, :, :1, :1].expand_as(rows["image"])  # what is hidden stands beside
    losses: list[Any] = []
    compare = torch.nn.functional.mse_loss

    def compared(*given: Any) -> Any:
        losses.append(compare(*given))
        return losses[-1]

    monkeypatch.setattr(torch.nn.functional, "mse_loss", compared)
    built.pretrain(rows, seed=0, deadline=math.inf)
    assert losses[-1].item() < 0.5 * losses[0].item()
