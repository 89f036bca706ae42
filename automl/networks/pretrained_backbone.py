"""Residual network over images, whose weights may come from a file: one that was trained on many other images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl.networks._encoded import Encoded, Encoders
from automl.networks._parameters import treated

if TYPE_CHECKING:
    from collections.abc import Mapping

    from automl.values import BlockSpec, InputSpec

TAKES = ("image", "path:weights")

Architecture = Literal["resnet18", "resnet34", "resnet50"]

#: Blocks of each of the four stages.
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3), "resnet50": (3, 4, 6, 3)}

#: Channels that the weights of others are made for.
COLOURS = 3

#: What files call the parts that are not the backbone's, and what they put before the names of those that are.
OTHERS, PREFIXES = ("fc.", "classifier.", "head."), ("module.", "model.", "backbone.")


class _Block(nn.Module):
    """Convolutions beside a shortcut; the parts have the names that they have in the files of torchvision and timm."""

    def __init__(self, n_in: int, width: int, stride: int, *, narrows: bool) -> None:
        super().__init__()
        n_out = 4 * width if narrows else width
        sizes = [(n_in, width, 1, 1), (width, width, 3, stride), (width, n_out, 1, 1)]
        if not narrows:
            sizes = [(n_in, width, 3, stride), (width, width, 3, 1)]
        self.n_convolutions = len(sizes)
        for number, (before, after, kernel, step) in enumerate(sizes, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        same = n_in == n_out and stride == 1
        self.downsample = (
            None if same else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for number in range(1, self.n_convolutions + 1):
            hidden = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(hidden))
            hidden = functional.relu(hidden) if number < self.n_convolutions else hidden
        beside = images if self.downsample is None else self.downsample(images)
        return functional.relu(hidden + beside)


class Backbone(nn.Module):
    """A residual network without its last layer (He et al. 2016, arXiv 1512.03385); (batch, 3, ...) -> vector.

    Attributes:
        width: Of the vector.
    """

    def __init__(self, architecture: Architecture, width: int) -> None:
        super().__init__()
        narrows = architecture == "resnet50"
        self.conv1 = nn.Conv2d(COLOURS, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        n_in = width
        for stage, n_blocks in enumerate(BLOCKS[architecture]):
            blocks = []
            for block in range(n_blocks):
                stride = 2 if stage and not block else 1
                blocks.append(_Block(n_in, width * 2**stage, stride, narrows=narrows))
                n_in = width * 2**stage * (4 if narrows else 1)
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.width = n_in

    def forward(self, images: Tensor) -> Tensor:
        """Returns (batch, width)."""
        hidden = functional.max_pool2d(functional.relu(self.bn1(self.conv1(images))), 3, 2, 1)
        for stage in range(1, 5):
            hidden = self.get_submodule(f"layer{stage}")(hidden)
        return hidden.mean((2, 3))

    def read(self, path: Path) -> None:
        """Takes the weights in a file, of safetensors or of torch; nothing in it is executed.

        Raises:
            ValueError: It cannot be read, or does not hold the weights of such a network.
        """
        from safetensors.torch import load_file

        try:
            found: object = (
                load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
            )
        except Exception as error:  # of the file, of its format, or since it holds more than weights
            raise ValueError(f"needs a file of weights, however: `{path}` cannot be read as one: {error}") from error
        found = found.get("state_dict", found.get("model", found)) if isinstance(found, dict) else {}
        assert isinstance(found, dict)
        weights = {_bare(name): weight for name, weight in found.items() if isinstance(weight, Tensor)}
        weights = {name: weight for name, weight in weights.items() if not name.startswith(OTHERS)}
        counters = {name: value for name, value in self.state_dict().items() if name.endswith("num_batches_tracked")}
        try:
            self.load_state_dict(counters | weights)
        except RuntimeError as error:
            raise ValueError(
                f"needs the weights of this architecture and width, however: `{path}` does not fit: {error}"
            ) from error


def _bare(name: str) -> str:
    """Returns the name of a weight without what wrappers put before it."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


class BackboneEncoder(nn.Module):
    """Images of any number of channels, enlarged, through a backbone; (batch, *shape) -> vector.

    Args:
        block: An image.
        architecture, width, side, rate: As of `pretrained_backbone`.

    Attributes:
        width: Of the vector.
    """

    def __init__(self, block: BlockSpec, *, architecture: Architecture, width: int, side: int, rate: float) -> None:
        super().__init__()
        n_channels = block.shape[0]
        self.colours = None if n_channels in (1, COLOURS) else nn.Conv2d(n_channels, COLOURS, 1)
        self.backbone = Backbone(architecture, width)
        self.width = self.backbone.width
        self._side = side
        self._is_fixed = rate == 0
        for parameter in self.backbone.parameters():
            if self._is_fixed:
                parameter.requires_grad_(False)
            else:
                treated(parameter, lr_factor=rate, decay=parameter.ndim > 1)

    def train(self, mode: bool = True) -> BackboneEncoder:
        """Sets the mode of training; what is fixed normalises by what it has learned before."""
        super().train(mode)
        if self._is_fixed:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Returns (batch, width)."""
        images = images if self.colours is None else self.colours(images)
        images = images.expand(-1, COLOURS, -1, -1)
        if self._side and images.shape[2:] != (self._side, self._side):
            size = (self._side, self._side)
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False, antialias=True)
        vectors: Tensor = self.backbone(images)
        return vectors


class PretrainedBackbone(Encoded):
    """Outputs over the vectors of all images and the columns beside them."""

    weights = ""

    def pretrain(self, inputs: Mapping[str, Tensor], *, seed: int, deadline: float) -> None:
        """Takes the weights from their file: once, before training, so that a trained network needs no file.

        Raises:
            ValueError: It cannot be read, or does not hold the weights of such a network.
        """
        for encoder in self.encoders.encoders.values():
            assert isinstance(encoder, BackboneEncoder)
            if self.weights:
                encoder.backbone.read(Path(self.weights))


def pretrained_backbone(
    inputs: InputSpec,
    n_outputs: int,
    *,
    weights: str = "",
    architecture: Architecture = "resnet18",
    side: int = 64,
    backbone_rate: float = 0.1,
    width: int = 64,
    head_width: int = 0,
    dropout: float = 0.2,
    embedding_size: int = 32,
) -> nn.Module:
    """Returns a residual network over images that goes on from weights in a file, with a table's columns beside.

    ResNet (He et al. 2016, arXiv 1512.03385) with the names that torchvision and timm give its weights. The network
    maps a dictionary of blocks to (batch, n_outputs); it cannot train on a batch of one row.

    Args:
        inputs: What the blocks hold; at least one image (batch, channels, height, width).
        n_outputs: Number of logits or values per row.
        weights: Full path of a file of weights, `.safetensors` or of torch; empty: it is trained from the beginning.
            Nothing is downloaded, and a trained network does not need the file.
        architecture: Whose weights they are.
        side: Pixels a side that images are enlarged to, or made smaller; 0: they stay as they are.
        backbone_rate: What the learning rate of these weights is multiplied with; 0: they stay as they are.
        width: Channels of the first stage; the weights of others have 64.
        head_width: Units of a hidden layer before the outputs; 0: there is none.
        dropout: Share of what the outputs see that is dropped.
        embedding_size: The largest width of a categorical column's embedding.

    Raises:
        ValueError: There is no image, or a size or rate is below what it may be.
    """
    if width < 1 or side < 0 or backbone_rate < 0:
        raise ValueError(
            f"needs a width, and no negative side or rate, however: `width` is {width}, `side` is {side}, "
            f"`backbone_rate` is {backbone_rate}"
        )

    def encoder(block: BlockSpec) -> nn.Module:
        return BackboneEncoder(block, architecture=architecture, width=width, side=side, rate=backbone_rate)

    encoders = Encoders(inputs, {"image": encoder}, embedding_size)
    network = PretrainedBackbone(encoders, n_outputs, head_width=head_width, dropout=dropout, activation="relu")
    network.weights = weights
    return network
