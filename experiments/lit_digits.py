"""A classifier as Lightning's tutorials have it, which knows nothing of this package; see lit_digits.yaml."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torchmetrics import Accuracy


class LitDigits(pl.LightningModule):
    """Classifies images of digits."""

    def __init__(self, channels: list[int] = [32, 64], hidden: int = 64, dropout: float = 0.3, lr: float = 1e-3):  # noqa: B006
        super().__init__()
        self.save_hyperparameters()
        layers, before = [], 1
        for after in channels:
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
            before = after
        head = [nn.Flatten(), nn.LazyLinear(hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10)]
        self.layers = nn.Sequential(*layers, *head)
        self.val_acc = Accuracy(task="multiclass", num_classes=10)

    def forward(self, x):
        """Returns logits; (batch, 10)."""
        return self.layers(x / 16)

    def training_step(self, batch, batch_idx):
        """Returns the cross-entropy."""
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        """Logs loss and accuracy."""
        x, y = batch
        logits = self(x)
        self.val_acc(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_acc", self.val_acc)

    def configure_optimizers(self):
        """Returns Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
