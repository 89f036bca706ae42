"""LightningModules as people have them: none of them knows of this project."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, TensorDataset, random_split

from automl.components import CATALOGUES


class Classifier(pl.LightningModule):
    """A perceptron with dropout, batch normalisation, a schedule and an early stopping of its own."""

    def __init__(self, n_inputs: int = 2, hidden: list[int] = [8], lr: float = 0.01, stops: bool = True):  # noqa: B006
        super().__init__()
        self.save_hyperparameters()
        sizes = [n_inputs, *hidden]
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(), nn.Dropout(0.1)]
        self.layers = nn.Sequential(*layers, nn.Linear(sizes[-1], 2))
        self.n_validated = 0

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.layers(x), dim=1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.nll_loss(self(x), y)
        self.log("train_loss", loss, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        said = self(x)
        self.log("val_loss", F.nll_loss(said, y))
        self.log("val_acc", (said.argmax(dim=1) == y).float().mean())

    def on_validation_epoch_end(self) -> None:
        self.n_validated += 1
        self.logger.experiment.add_scalar("n", self.n_validated)  # of TensorBoard, were it there
        print("validated")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["n_validated"] = self.n_validated

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.n_validated = checkpoint["n_validated"]

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams["lr"])
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.8)}

    def configure_callbacks(self) -> list[pl.Callback]:
        if not self.hparams["stops"]:
            return []
        return [pl.callbacks.EarlyStopping("val_loss", patience=50), pl.callbacks.ModelCheckpoint(monitor="val_loss")]


class Witness(Classifier):
    """Tells of its test rows which share it was trained on."""

    def __init__(self, hidden: list[int] = [8], fails: bool = False):  # noqa: B006
        super().__init__(hidden=hidden)
        self.fails = fails
        self.seen: set[float] = set()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.seen.update(batch[0][:, 0].tolist())
        return super().training_step(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        if self.fails:
            raise ValueError("no such file")
        rows = batch[0][:, 0].tolist()
        self.log("test_seen", sum(row in self.seen for row in rows) / len(rows))


class Plain(pl.LightningModule):
    """One layer, which a seed and its rows alone decide; tells how many rows one process has seen in an epoch."""

    def __init__(self, lr: float = 0.1, lazy: bool = False):
        super().__init__()
        self.layer, self.lr, self.n_seen = nn.LazyLinear(2) if lazy else nn.Linear(2, 2), lr, 0

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.n_seen += len(batch[0])
        return F.cross_entropy(self(batch[0]), batch[1])

    def on_train_epoch_start(self) -> None:
        self.n_seen = 0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def on_train_epoch_end(self) -> None:
        self.log_dict({"n_seen": float(self.n_seen), "rank": float(self.global_rank)})

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Late(pl.LightningModule):
    """Gives a logit that is the same of all rows after the first epoch, and one of each row after the second."""

    def __init__(self, slope: float = 9.0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.register_buffer("slope", torch.tensor(0.0))
        self.in_the_end = slope

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 + self.slope * x.sum(dim=1) + 0 * self.weight

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.slope.fill_(self.in_the_end if self.current_epoch else 0.0)
        return F.binary_cross_entropy_with_logits(self(batch[0]), batch[1].float())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Gan(pl.LightningModule):
    """A generator and a discriminator with an optimizer each, stepped by hand."""

    def __init__(self, n_inputs: int, latent: int = 4, lr: float = 0.01):
        super().__init__()
        self.automatic_optimization = False
        self.latent, self.lr = latent, lr
        self.generator = nn.Sequential(nn.Linear(latent, 16), nn.ReLU(), nn.Linear(16, n_inputs))
        self.discriminator = nn.Sequential(nn.Linear(n_inputs, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, z: Tensor) -> Tensor:
        return self.generator(z)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        real = batch[0]
        of_generator, of_discriminator = self.optimizers()
        fake = self(torch.randn(len(real), self.latent))
        for optimizer, loss in (
            (of_discriminator, lambda: self._told(real, 1.0) + self._told(fake.detach(), 0.0)),
            (of_generator, lambda: self._told(fake, 1.0)),
        ):
            optimizer.zero_grad()
            self.manual_backward(loss())
            optimizer.step()

    def _told(self, x: Tensor, label: float) -> Tensor:
        said = self.discriminator(x)
        return F.binary_cross_entropy_with_logits(said, torch.full_like(said, label))

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        real = batch[0]
        fake = self(torch.randn(len(real), self.latent))
        self.log("distance", (fake.mean(0) - real.mean(0)).abs().sum() + (fake.std(0) - real.std(0)).abs().sum())

    def configure_optimizers(self) -> Any:
        networks = (self.generator, self.discriminator)
        return [torch.optim.Adam(network.parameters(), lr=self.lr) for network in networks]


class Strange(pl.LightningModule):
    """Does one thing that a study cannot use."""

    def __init__(self, what: str = "raises in __init__", width: int = 0):
        super().__init__()
        if what == "raises in __init__":
            raise ValueError("no such width")
        self.what = what
        self.layer = nn.Linear(width, 2) if width else nn.LazyLinear(2)

    def setup(self, stage: str) -> None:
        if self.what == "raises in setup":
            open("nowhere/data.bin", "rb").close()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.what == "raises in training_step":
            return torch.zeros(2) @ torch.zeros(3)
        loss = self.layer(batch[0]).square().mean()
        self.log("train_loss", loss)
        if self.what == "logs nan":
            self.log("val_loss", float("nan") * loss)
        if self.what == "learns nan":  # of which its objective tells nothing
            self.log("val_loss", 0.5)
            return loss * float("nan")
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Numbers(pl.LightningDataModule):
    """Points of two classes."""

    def __init__(self, n_rows: int = 96, batch_size: int = 16, num_workers: int = 0, path: str = ""):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage: str) -> None:
        if self.hparams["path"]:
            open(self.hparams["path"], "rb").close()
        rng = np.random.default_rng(0)
        x = torch.tensor(rng.normal(size=(self.hparams["n_rows"], 2)), dtype=torch.float32)
        self.data = TensorDataset(x, (x.sum(dim=1) > 0).long())

    def train_dataloader(self) -> Any:
        hparams = self.hparams
        return DataLoader(self.data, hparams["batch_size"], shuffle=True, num_workers=hparams["num_workers"])

    def val_dataloader(self) -> Any:
        return DataLoader(self.data, 64)


class Split(pl.LightningDataModule):
    """Points of two classes, cut as tutorials do: without a generator."""

    def __init__(self, draws: str = "in setup"):
        super().__init__()
        rng = np.random.default_rng(0)
        x = torch.tensor(rng.normal(size=(100, 2)), dtype=torch.float32)
        self.data = TensorDataset(x, (x.sum(dim=1) > 0).long())
        self.draws = draws
        if draws == "in __init__":
            self.parts = random_split(self.data, [60, 20, 20])

    def setup(self, stage: str) -> None:
        if self.draws == "in setup":
            self.parts = random_split(self.data, [60, 20, 20])

    def train_dataloader(self) -> Any:
        return DataLoader(self.parts[0], 20, shuffle=True)

    def val_dataloader(self) -> Any:
        return DataLoader(self.parts[1], 20)

    def test_dataloader(self) -> Any:
        return DataLoader(self.parts[2], 20)


KNOWN = {"network": (Classifier, Witness, Plain, Late, Gan, Strange), "source": (Numbers, Split)}


def register() -> None:
    """Puts these classes into the catalogues as `my.Classifier` and so on."""
    for kind, classes in KNOWN.items():
        for each in classes:
            CATALOGUES[kind].add(f"my.{each.__name__}", each)


@contextmanager
def registered() -> Iterator[None]:
    """Has these classes in the catalogues, and then no longer."""
    register()
    try:
        yield
    finally:
        for kind, classes in KNOWN.items():
            for each in classes:
                del CATALOGUES[kind]._components[f"my.{each.__name__}"]
