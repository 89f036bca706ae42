"""Rows made up by networks that have learned what the rows of each class look like.

Both networks see a table as `Coding` writes it, and are told the class: a conditional adversarial network and a
conditional variational autoencoder, after CTGAN and TVAE (Xu, Skoularidou, Cuesta-Infante and Veeramachaneni,
"Modeling tabular data using conditional GAN", 2019, arXiv 1907.00503). What is simpler here: a number is told by its
normal quantile and not by modes of a mixture, since that has no shape left to be learned; and the condition is the
class alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from numpy.typing import NDArray

Method = Literal["gan", "cvae"]

#: (class, number of rows) -> rows as `Coding` writes them.
Make = Callable[[int, int], Tensor]

#: Different values of a column up to which each is a level of its own; of codes, which are never numbers, so many of
#: the most frequent ones are, and the others share one.
MAX_LEVELS = 32

#: Rows of a class that are learned from.
MAX_LEARNED_ROWS = 10_000

#: Rows of a step, and rows that are made up at a time.
BATCH_SIZE, MADE_ROWS = 256, 4096

#: Numbers of noise that a row is made of.
N_NOISE = 64

#: Learning rates; the critic's is the larger one, so that the generator follows one that knows (Heusel et al. 2017,
#: arXiv 1706.08500).
GENERATOR_RATE, CRITIC_RATE, DECODER_RATE = 5e-4, 2e-3, 1e-3


def made_up(
    X: NDArray[np.float64],
    y: NDArray[np.int64],
    wanted: Mapping[int, int],
    *,
    method: Method,
    n_steps: int,
    width: int,
    categorical: Sequence[int] = (),
    seed: int | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Returns new rows and their classes, every value of a column within what the column has.

    Args:
        X: Numbers and codes; (rows, columns).
        y: Classes; (rows,).
        wanted: Class -> how many new rows of it.
        method: Which network.
        n_steps: Steps of training, of 256 rows each.
        width: Units of its hidden layers.
        categorical: Positions of the columns that hold codes.
        seed: Of all that is drawn.
    """
    random = np.random.default_rng(seed)
    learned = np.concatenate([_some(np.flatnonzero(y == label), random) for label in np.unique(y)])
    coding = Coding(X[learned], categorical, random)
    classes, labels = np.unique(y[learned], return_inverse=True)
    learn = {"gan": _adversarial, "cvae": _variational}[method]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(random.integers(2**63)))
        make = learn(coding.encode(X[learned]), torch.from_numpy(labels), coding, n_steps, width)
        parts = [X[:0]]
        with torch.no_grad():
            for label, n_rows in wanted.items():
                position = int(np.searchsorted(classes, label))
                for first in range(0, n_rows, MADE_ROWS):
                    parts.append(coding.decode(make(position, min(MADE_ROWS, n_rows - first))))
    return np.vstack(parts), np.repeat(np.array(list(wanted), y.dtype), list(wanted.values()))


class Coding:
    """A table as networks see it: numbers as normal quantiles, then the levels of each other column as 0 and 1.

    A number that is made up lies between two of its column's, and a level is one that the column has, so that a column
    of two numbers stays one. Codes that share a level are drawn as often as they occur.

    Attributes:
        n_numbers: Columns that are numbers; they come first.
        n_columns: Of a coded row.
    """

    def __init__(self, X: NDArray[np.float64], categorical: Sequence[int], random: np.random.Generator) -> None:
        self._random = random
        self._levels: dict[int, NDArray[np.float64]] = {}  # position -> values, the last of which may stand for others
        self._rare: dict[int, NDArray[np.float64]] = {}  # position -> the values that it stands for, as they occur
        for column in range(X.shape[1]):
            values, counts = np.unique(X[:, column], return_counts=True)
            if len(values) <= MAX_LEVELS:
                self._levels[column] = values
            elif column in categorical:
                frequent = np.sort(values[np.argsort(-counts, kind="stable")[: MAX_LEVELS - 1]])
                self._rare[column] = X[~np.isin(X[:, column], frequent), column]
                self._levels[column] = np.append(frequent, np.nan)
        self._numbers = {column: np.sort(X[:, column]) for column in range(X.shape[1]) if column not in self._levels}
        self._width, self.n_numbers = X.shape[1], len(self._numbers)
        sizes = torch.tensor([len(levels) for levels in self._levels.values()], dtype=torch.int64)
        self._offsets = sizes.cumsum(0) - sizes
        self._there = torch.arange(int(sizes.max()) if len(sizes) else 0) < sizes[:, None]  # (columns, most levels)
        self._places = (self._offsets[:, None] + torch.arange(self._there.shape[1])) * self._there
        self.n_columns = self.n_numbers + int(sizes.sum())

    def encode(self, X: NDArray[np.float64]) -> Tensor:
        """Returns rows as a network sees them; (rows, n_columns)."""
        coded = torch.zeros(len(X), self.n_columns)
        for number, (column, ordered) in enumerate(self._numbers.items()):
            first, after = (np.searchsorted(ordered, X[:, column], side) for side in ("left", "right"))
            # A value that many rows have is spread over all quantiles that it stands at.
            quantile = (first + self._random.random(len(X)) * (after - first)) / len(ordered)
            edge = 0.5 / len(ordered)
            coded[:, number] = torch.special.ndtri(torch.from_numpy(quantile.clip(edge, 1 - edge)))
        for offset, (column, levels) in zip(self._offsets.tolist(), self._levels.items(), strict=True):
            known = levels[:-1] if column in self._rare else levels
            position = np.minimum(np.searchsorted(known, X[:, column]), len(known) - 1)
            position = np.where(known[position] == X[:, column], position, len(levels) - 1)
            coded[torch.arange(len(X)), self.n_numbers + offset + torch.from_numpy(position)] = 1
        return coded

    def decode(self, coded: Tensor) -> NDArray[np.float64]:
        """Returns the rows that coded rows are nearest to; (rows, columns)."""
        X = np.empty((len(coded), self._width))
        for number, (column, ordered) in enumerate(self._numbers.items()):
            quantile = torch.special.ndtr(coded[:, number].double()).numpy()
            X[:, column] = np.interp(quantile, (np.arange(len(ordered)) + 0.5) / len(ordered), ordered)
        if self._levels:
            chosen = self.by_column(coded).argmax(2).numpy()
            for number, (column, levels) in enumerate(self._levels.items()):
                X[:, column] = levels[chosen[:, number]]
        for column, values in self._rare.items():
            rare = np.isnan(X[:, column])
            X[rare, column] = self._random.choice(values, int(rare.sum()))
        return X

    def by_column(self, coded: Tensor) -> Tensor:
        """Returns what there is for each level, -inf where a column has fewer; (rows, columns, most levels)."""
        return coded[:, self.n_numbers :][:, self._places].masked_fill(~self._there, -torch.inf)

    def joined(self, coded: Tensor, by_column: Tensor) -> Tensor:
        """Returns rows with the numbers of the one and the levels of the other; (rows, n_columns)."""
        return torch.cat([coded[:, : self.n_numbers], by_column[:, self._there]], dim=1)

    def drawn(self, coded: Tensor) -> Tensor:
        """Returns rows of which `decode` takes each level as often as its logit says; (rows, n_columns)."""
        levels = coded[:, self.n_numbers :]
        gumbel = -torch.empty_like(levels).exponential_().log()
        return torch.cat([coded[:, : self.n_numbers], levels + gumbel], dim=1)


# --- the networks --------------------------------------------------------------------------------------------------


def _adversarial(rows: Tensor, labels: Tensor, coding: Coding, n_steps: int, width: int) -> Make:
    """Returns a generator that learned to make up rows which a critic cannot tell from those that there are.

    The loss is the logistic one with a penalty on the critic's slope at real rows, which keeps the two from running in
    circles (Mescheder, Geiger and Nowozin 2018, arXiv 1801.04406). In as many steps it came nearer to the tables that
    it was tried on than CTGAN's, which is Wasserstein's with a penalty.
    """
    told = functional.one_hot(labels).float()  # (rows, classes)
    weights = _equalising(labels)
    n_classes = told.shape[1]
    generator = nn.Sequential(
        *_normalised(N_NOISE + n_classes, width), *_normalised(width, width), nn.Linear(width, coding.n_columns)
    )
    critic = nn.Sequential(
        *_dropping(coding.n_columns + n_classes, width), *_dropping(width, width), nn.Linear(width, 1)
    )
    forward = torch.optim.Adam(generator.parameters(), GENERATOR_RATE, betas=(0.5, 0.9))
    backward = torch.optim.Adam(critic.parameters(), CRITIC_RATE, betas=(0.5, 0.9))
    for _ in range(n_steps):
        chosen = torch.multinomial(weights, BATCH_SIZE, replacement=True)
        condition, real = told[chosen], rows[chosen].requires_grad_()
        decoded = generator(_beside(torch.randn(BATCH_SIZE, N_NOISE), condition))
        fake = coding.joined(decoded, coding.by_column(decoded).softmax(2))
        score = critic(_beside(real, condition))
        (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        told_apart = functional.softplus(-score) + functional.softplus(critic(_beside(fake.detach(), condition)))
        _step(backward, told_apart.mean() + slope.square().sum(1).mean() / 2)
        _step(forward, functional.softplus(-critic(_beside(fake, condition))).mean())
    generator.eval()

    def make(label: int, n_rows: int) -> Tensor:
        return coding.drawn(generator(_beside(torch.randn(n_rows, N_NOISE), _conditions(label, n_rows, n_classes))))

    return make


def _variational(rows: Tensor, labels: Tensor, coding: Coding, n_steps: int, width: int) -> Make:
    """Returns a decoder that learned to give rows back from noisy codes of them.

    Kingma and Welling 2014 (arXiv 1312.6114), told the class as in Sohn, Lee and Yan 2015.
    """
    told = functional.one_hot(labels).float()
    weights = _equalising(labels)
    n_classes, n_numbers = told.shape[1], coding.n_numbers
    encoder = nn.Sequential(*_normalised(coding.n_columns + n_classes, width), nn.Linear(width, 2 * N_NOISE))
    decoder = nn.Sequential(*_normalised(N_NOISE + n_classes, width), nn.Linear(width, coding.n_columns))
    spread = nn.Parameter(torch.zeros(n_numbers))  # log of each number's standard deviation around what is decoded
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters(), spread], DECODER_RATE)
    for _ in range(n_steps):
        chosen = torch.multinomial(weights, BATCH_SIZE, replacement=True)
        condition, real = told[chosen], rows[chosen]
        mean, log_variance = encoder(_beside(real, condition)).chunk(2, dim=1)
        decoded = decoder(_beside(mean + (log_variance / 2).exp() * torch.randn_like(mean), condition))
        distance = (decoded[:, :n_numbers] - real[:, :n_numbers]) / spread.exp()
        chances = coding.joined(decoded, coding.by_column(decoded).log_softmax(2))[:, n_numbers:]
        unlike = (distance.square() / 2 + spread).sum(1) - (chances * real[:, n_numbers:]).sum(1)
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2
        _step(optimizer, (unlike + divergence).mean())
    decoder.eval()

    def make(label: int, n_rows: int) -> Tensor:
        decoded = decoder(_beside(torch.randn(n_rows, N_NOISE), _conditions(label, n_rows, n_classes)))
        decoded[:, :n_numbers] += spread.exp() * torch.randn(n_rows, n_numbers)
        return coding.drawn(decoded)

    return make


def _normalised(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out), nn.ReLU()]


def _dropping(n_in: int, n_out: int) -> list[nn.Module]:
    return [nn.Linear(n_in, n_out), nn.LeakyReLU(0.2), nn.Dropout(0.25)]


def _beside(rows: Tensor, condition: Tensor) -> Tensor:
    return torch.cat([rows, condition], dim=1)


def _conditions(label: int, n_rows: int, n_classes: int) -> Tensor:
    return functional.one_hot(torch.full((n_rows,), label), n_classes).float()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def _equalising(labels: Tensor) -> Tensor:
    """Returns how often each row is drawn, classes by the logarithm of their size: CTGAN's training by sampling."""
    counts = torch.bincount(labels).double()
    return (counts.log1p() / counts)[labels]


def _some(rows: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= MAX_LEARNED_ROWS else np.sort(random.choice(rows, MAX_LEARNED_ROWS, replace=False))
