from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from automl import plugins, search_space
from automl.components import CATALOGUES
from automl.networks.pretrained_backbone import Architecture, Backbone, pretrained_backbone
from automl.values import BlockSpec, InputSpec

torch.set_num_threads(1)
plugins.load_builtin()

INPUTS = InputSpec({"image": BlockSpec("image", (1, 8, 8)), "numeric": BlockSpec("numeric", (2,))})
ROWS = {"image": torch.randn(6, 1, 8, 8), "numeric": torch.randn(6, 2)}


def build(**params: Any) -> Any:
    return pretrained_backbone(INPUTS, 2, width=4, side=16, **params)


def weights(path: Path, prefix: str = "", **changes: Any) -> Path:
    """Writes a file of random weights with the last layer of others, and returns its path."""
    torch.manual_seed(5)
    found = {f"{prefix}{name}": torch.randn_like(p) for name, p in Backbone("resnet18", 4).named_parameters()}
    found |= {f"{prefix}{name}": b for name, b in Backbone("resnet18", 4).named_buffers() if "num_batches" not in name}
    found |= {f"{prefix}fc.weight": torch.zeros(10, 32), **changes}
    save_file(found, path) if path.suffix == ".safetensors" else torch.save({"state_dict": found}, path)
    return path


@pytest.mark.parametrize(
    ("architecture", "n"), [("resnet18", 11_176_512), ("resnet34", 21_284_672), ("resnet50", 23_508_032)]
)
def test_it_is_the_network_that_others_publish_weights_of(architecture: Architecture, n: int) -> None:
    with torch.device("meta"):
        backbone = Backbone(architecture, 64)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == n
    assert {"conv1.weight", "bn1.running_var", "layer4.1.bn2.weight", "layer2.0.downsample.0.weight"} <= set(
        backbone.state_dict()
    )


@pytest.mark.parametrize(("name", "prefix"), [("w.safetensors", ""), ("w.pth", "module.")])
def test_it_goes_on_from_a_file_and_needs_it_no_more(name: str, prefix: str, tmp_path: Path) -> None:
    path = weights(tmp_path / name, prefix)
    network = build(weights=str(path))
    network.pretrain(ROWS, seed=0, deadline=float("inf"))
    path.unlink()
    torch.manual_seed(5)
    expected = torch.randn_like(Backbone("resnet18", 4).conv1.weight)
    torch.testing.assert_close(network.encoders.encoders["image"].backbone.conv1.weight.data, expected)
    again = build(weights=str(path))
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again.eval()(ROWS), network.eval()(ROWS))


def test_what_is_fixed_is_left_as_it_is() -> None:
    network = build(backbone_rate=0.0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], lr=0.1)
    network(ROWS).square().sum().backward()
    optimizer.step()
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any("backbone" in name for name in changed)


def test_a_file_that_does_not_fit_is_told(tmp_path: Path) -> None:
    cases = [
        (weights(tmp_path / "shape.safetensors", **{"conv1.weight": torch.zeros(8, 3, 7, 7)}), "does not fit"),
        (weights(tmp_path / "more.pth", **{"layer9.weight": torch.zeros(1)}), "does not fit"),
        (tmp_path / "none.pth", "cannot be read as one"),
        (tmp_path / "code.pth", "cannot be read as one"),
    ]
    torch.save({"state_dict": Path("x")}, tmp_path / "code.pth")
    for path, told in cases:
        with pytest.raises(ValueError, match=told):
            build(weights=str(path)).pretrain(ROWS, seed=0, deadline=float("inf"))


def test_a_file_that_is_not_there_is_told_before_the_first_trial() -> None:
    option = {"name": "pretrained_backbone", "params": {"weights": "/nowhere/resnet18.safetensors"}}
    space = search_space.SearchSpace.model_validate({"version": 1, "network": [option], "optimizer": ["adamw"]})
    (problem,) = space.check(CATALOGUES, where="space.yaml")
    assert "there is no `/nowhere/resnet18.safetensors`" in problem.message
    assert problem.where == "space.yaml: network.pretrained_backbone.weights"
