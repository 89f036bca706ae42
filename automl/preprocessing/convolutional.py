"""Images and sequences as a few numbers: the narrow layer of a convolutional autoencoder."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from automl.preprocessing.imputation import sample_rows

if TYPE_CHECKING:  # torch is imported where it is used, as whoever only reads fitted steps need not have it loaded
    from numpy.typing import NDArray
    from torch import Tensor, nn

#: Rows that an autoencoder is trained on, and rows that are coded at a time.
MAX_CODED_ROWS, ROWS = 5_000, 1_024

LEARNING_RATE = 2e-3


class ConvolutionalAutoencoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A network trained to give blocks back through a narrow layer, of which the half up to that layer is kept.

    Each stage halves images, or sequences, and all but the first have twice the channels of the one before; the other
    half of the network goes the same way back.

    Args:
        n_components: Units of the narrow layer.
        depth: Number of stages.
        width: Channels of the first stage.
        noise: Share of the cells that are set to the mean of their channel in what the network is given; it is still to
            give back all of them.
        n_epochs: Passes over the rows.

    Attributes:
        kernels_, biases_: Of each stage; (channels, channels before, *[3] * axes) and (channels,).
        narrow_, narrow_bias_: Of the narrow layer; (n_components, cells) and (n_components,).
    """

    def __init__(
        self,
        *,
        n_components: int = 16,
        depth: int = 2,
        width: int = 16,
        noise: float = 0.0,
        n_epochs: int = 10,
        random_state: int | None = None,
    ) -> None:
        self.n_components = n_components
        self.depth = depth
        self.width = width
        self.noise = noise
        self.n_epochs = n_epochs
        self.random_state = random_state

    def fit(self, X: NDArray[np.float32], y: object = None) -> ConvolutionalAutoencoder:
        """Learns from rows of shape (rows, channels, ...)."""
        import torch
        from torch import nn
        from torch.nn import functional

        rows = torch.from_numpy(X[sample_rows(len(X), MAX_CODED_ROWS, self.random_state)])
        # Small tables have small batches: some steps an epoch are needed, however few the rows.
        batch_size = int(np.clip(len(rows) // 20, min(16, len(rows)), 128))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.random_state or 0)
            stages, narrow, decoder = self._network(X.shape[1:])
            network = nn.ModuleList([*stages, narrow, decoder])
            optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
            for _ in range(self.n_epochs):
                for chosen in torch.split(torch.randperm(len(rows)), batch_size):
                    given = rows[chosen]
                    seen = given * (torch.rand(given.shape) >= self.noise)
                    code = _coded(seen, [(s.weight, s.bias) for s in stages], (narrow.weight, narrow.bias))
                    optimizer.zero_grad()
                    torch.autograd.backward(functional.mse_loss(decoder(code), given))
                    optimizer.step()
        self.kernels_ = [stage.weight.detach().numpy() for stage in stages]
        self.biases_ = [stage.bias.detach().numpy() for stage in stages]
        self.narrow_, self.narrow_bias_ = narrow.weight.detach().numpy(), narrow.bias.detach().numpy()
        return self

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns the units of the narrow layer, in -1..1; (rows, n_components)."""
        import torch

        *stages, narrow = (
            (torch.from_numpy(weights), torch.from_numpy(bias))
            for weights, bias in zip([*self.kernels_, self.narrow_], [*self.biases_, self.narrow_bias_], strict=True)
        )
        made = np.empty((len(X), len(self.narrow_)))
        with torch.no_grad():
            for first in range(0, len(X), ROWS):
                rows = torch.from_numpy(np.ascontiguousarray(X[first : first + ROWS]))
                made[first : first + ROWS] = _coded(rows, stages, narrow).numpy()
        return made

    def _network(self, shape: tuple[int, ...]) -> tuple[list[Any], nn.Linear, nn.Module]:
        """Returns the convolutions, the narrow layer, and what decodes it to blocks of a shape."""
        from torch import nn

        n_channels, *sizes = shape
        convolution: Any = nn.Conv1d if len(sizes) == 1 else nn.Conv2d
        stages: list[Any] = []
        decoder: list[Any] = []
        for number in range(self.depth):
            n_filters = self.width * 2**number
            stages.append(convolution(n_channels, n_filters, 3, 2, 1))
            back = [nn.Upsample(tuple(sizes)), convolution(n_filters, n_channels, 3, 1, 1)]
            decoder = [*back, nn.ReLU(), *decoder] if decoder else back
            n_channels, sizes = n_filters, [math.ceil(size / 2) for size in sizes]
        n_cells = n_channels * math.prod(sizes)
        narrow = nn.Linear(n_cells, min(self.n_components, max(1, math.prod(shape) - 1)))
        widen = [nn.Linear(narrow.out_features, n_cells), nn.ReLU(), nn.Unflatten(1, (n_channels, *sizes))]
        return stages, narrow, nn.Sequential(*widen, *decoder)


def _coded(rows: Tensor, stages: list[tuple[Tensor, Tensor]], narrow: tuple[Tensor, Tensor]) -> Tensor:
    """Returns the narrow layer's units, of weights and biases; (rows, n_components)."""
    from torch.nn import functional

    convolve: Any = functional.conv1d if rows.ndim == 3 else functional.conv2d
    for kernel, bias in stages:
        rows = functional.relu(convolve(rows, kernel, bias, 2, 1))
    return functional.linear(rows.flatten(1), *narrow).tanh()
