"""Seconds of training on each kind of data, beside those of a loop in plain torch over the same rows and network.

    python benchmarks/kind_speed.py [--rows 4000] [--epochs 3] [--repeats 5] [--only KIND ...]

Both sides train the network of `NETWORKS` with AdamW on batches of 128, and after each epoch take loss and metric of a
quarter as many rows; ours then keeps the best weights, and scores them once more. They take turns, and of each side the
median counts. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from automl import architecture, losses, metrics, plugins
from automl.training.fit import fit
from automl.values import (
    BlockSpec,
    Choice,
    Configuration,
    InputSpec,
    Part,
    PreparedData,
    TargetSpec,
    Task,
    TrainerSettings,
)

N_CLASSES, BATCH_SIZE = 4, 128
VALIDATION = 0.25
BLOCKS = {
    "numeric": BlockSpec("numeric", (30,)),
    "categorical": BlockSpec("categorical", (4,), (5, 9, 40, 200)),
    "image": BlockSpec("image", (1, 16, 16)),
    "sequence": BlockSpec("sequence", (3, 50)),
    "tokens": BlockSpec("tokens", (30,), (2**13,)),
}
#: What is measured: the blocks of a row and the network, of about the size that its defaults have.
NETWORKS = {
    "table: perceptron": (("numeric", "categorical"), Choice("mlp")),
    "image: convolutions": (("image",), Choice("cnn", {"depth": 2, "width": 16})),
    "sequence: LSTM": (("sequence",), Choice("recurrent", {"cell": "lstm"})),
    "sequence: temporal convolutions": (("sequence",), Choice("temporal_cnn", {"width": 32})),
    "text: bag of words": (("tokens",), Choice("bag_of_words", {"n_pairs": 2**13})),
    "text: transformer": (("tokens",), Choice("transformer", {"layers": 1})),
    "mixture": (tuple(BLOCKS), Choice("mixture", {"encoder_width": 16})),
}


def prepared(names: tuple[str, ...], n_rows: int) -> PreparedData:
    """Returns rows of noise, whose classes the first block tells in part."""
    rng = np.random.default_rng(0)
    n_all = round(n_rows * (1 + VALIDATION))
    y = rng.integers(0, N_CLASSES, n_all)
    inputs = {name: _block(BLOCKS[name], n_all, rng) for name in names}
    first = inputs[names[0]].reshape(n_all, -1)
    first[:, 0] = y
    train, val = (
        Part({name: block[part] for name, block in inputs.items()}, y[part])
        for part in (slice(n_rows), slice(n_rows, None))
    )
    counts = tuple(np.bincount(y[:n_rows], minlength=N_CLASSES).tolist())
    spec = InputSpec({name: BLOCKS[name] for name in names})
    return PreparedData(train, val, spec, TargetSpec(Task.MULTICLASS, N_CLASSES, counts))


def _block(block: BlockSpec, n_rows: int, rng: np.random.Generator) -> Any:
    if block.kind == "categorical":
        return np.column_stack([rng.integers(0, n, n_rows) for n in block.cardinalities])
    if block.kind == "tokens":  # texts end where they end
        codes = rng.integers(1, block.cardinalities[0], (n_rows, *block.shape))
        return np.where(np.arange(block.shape[0]) < rng.integers(5, block.shape[0], n_rows)[:, None], codes, 0)
    return rng.standard_normal((n_rows, *block.shape), dtype=np.float32)


def bare(choice: Choice, data: PreparedData, n_epochs: int) -> float:
    """Returns the seconds of a loop in plain torch: nothing logged, nothing kept."""
    began = time.perf_counter()
    torch.manual_seed(0)
    network = architecture.build(choice, data.inputs, N_CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, fused=True)
    metric = metrics.metric("log_loss", Task.MULTICLASS)
    (inputs, y), (inputs_val, y_val) = (
        ({name: torch.from_numpy(block) for name, block in part.inputs.items()}, torch.from_numpy(part.target))
        for part in (data.train, data.val)
        if isinstance(part, Part)
    )
    for _ in range(n_epochs):
        network.train()
        order = torch.randperm(len(y))
        for rows in order.split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = cross_entropy(network({name: block[rows] for name, block in inputs.items()}), y[rows])
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            outputs = torch.cat(
                [
                    network({name: block[rows] for name, block in inputs_val.items()})
                    for rows in torch.arange(len(y_val)).split(losses.EVALUATION_BATCH_SIZE)
                ]
            )
            float(cross_entropy(outputs, y_val))
            metrics.score(metric, data.val.target, outputs.softmax(1).double().numpy())
    return time.perf_counter() - began


def ours(choice: Choice, data: PreparedData, n_epochs: int) -> float:
    """Returns the seconds of a trial's training."""
    configuration = Configuration(
        preprocessing=(),
        network=choice,
        optimizer=Choice("adamw", {"lr": 1e-3}),
        schedule=Choice("constant"),
        loss=Choice("cross_entropy"),
        batch_size=BATCH_SIZE,
    )
    settings = TrainerSettings(max_epochs=n_epochs, patience=n_epochs, accelerator="cpu")
    metric = metrics.metric("log_loss", Task.MULTICLASS)
    began = time.perf_counter()
    fit(configuration, data, metric, settings, seed=0, report=lambda epoch: False)
    return time.perf_counter() - began


def measure(name: str, n_rows: int, n_epochs: int, n_repeats: int) -> dict[str, float]:
    """Returns the median seconds of both sides."""
    names, choice = NETWORKS[name]
    data = prepared(names, n_rows)
    small = prepared(names, 4 * BATCH_SIZE)
    bare(choice, small, 1), ours(choice, small, 1)  # what is only slow once
    pairs = [(bare(choice, data, n_epochs), ours(choice, data, n_epochs)) for _ in range(n_repeats)]
    seconds = [statistics.median(side) for side in zip(*pairs, strict=True)]
    return {"bare": seconds[0], "ours": seconds[1], "ratio": statistics.median(b / a for a, b in pairs)}


def main() -> None:
    """Measures what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(NETWORKS), default=list(NETWORKS), metavar="KIND")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plugins.load_builtin()
    print(json.dumps({n: measure(n, options.rows, options.epochs, options.repeats) for n in options.only}))


if __name__ == "__main__":
    main()
