"""Images and sequences as the narrow layer of an autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LinearRegression

from automl.data.blocks import BlockLayout
from automl.data.dataset import make_dataset
from automl.errors import ConfigError
from automl.preprocessing.convolutional import ConvolutionalAutoencoder
from automl.preprocessing.preprocessing import Preprocessing
from automl.preprocessing.reduction import convolutional_autoencoder
from automl.values import Choice, Step, Task

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def bars(n: int = 200) -> tuple[Any, Any]:
    """Returns images of a bar, and in which of eight columns it stands; (rows, 1, 6, 8) and (rows,)."""
    place = RNG.integers(8, size=n)
    images = RNG.normal(scale=0.3, size=(n, 1, 6, 8)) + 2 * (np.arange(8) == place[:, None])[:, None, None]
    return images.astype(np.float32), place


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_what_an_image_shows_is_found_again(noise: float) -> None:
    X, place = bars()
    step = ConvolutionalAutoencoder(n_components=6, width=4, noise=noise, n_epochs=10, random_state=0)
    code = step.fit(X).transform(X)
    assert code.shape == (200, 6)
    assert np.abs(code).max() <= 1
    shown = np.eye(8)[place]
    assert LinearRegression().fit(code, shown).score(code, shown) > 0.5


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 3), (3, 7), (1, 1)])
def test_blocks_of_any_size_and_rows_by_themselves(shape: tuple[int, ...]) -> None:
    X = RNG.normal(size=(40, *shape)).astype(np.float32)
    steps = [ConvolutionalAutoencoder(n_components=4, depth=3, n_epochs=1, random_state=seed) for seed in (0, 0, 1)]
    state = torch.get_rng_state()
    codes = [step.fit(X).transform(X) for step in steps]
    assert torch.equal(torch.get_rng_state(), state)
    assert codes[0].shape == (40, min(4, max(1, int(np.prod(shape)) - 1)))
    np.testing.assert_array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])
    np.testing.assert_allclose(steps[0].transform(X[7:8]), codes[0][7:8], atol=1e-6)


def test_every_block_of_the_kind_becomes_columns_beside_those_that_there_are(tmp_path: Path) -> None:
    n = 40
    frame = pd.DataFrame(RNG.normal(size=(n, 20)), columns=[f"p{i}" for i in range(12)] + [f"t{i}" for i in range(8)])
    frame["age"], frame["y"] = np.arange(n) * 1.0, [0, 1] * 20
    layouts = [BlockLayout("image", "p*", [1, 3, 4]), BlockLayout("sequence", "t?", [2, 4], name="pulse")]
    data = make_dataset(frame, target="y", name="t", source="s", blocks=layouts)
    choice = Choice("convolutional_autoencoder", {"n_components": 3, "n_epochs": 1})
    walk = Preprocessing([Step("reduction", choice)], data.schema, seed=0)
    train, _ = walk.fit_resample(data.features, data.target)
    assert {name: block.shape for name, block in train.items()} == {"numeric": (n, 7)}
    assert walk.inputs.blocks.keys() == {"numeric"}
    assert any("1 numeric columns became 7 numeric columns" in note for note in walk.notes)
    walk.save(tmp_path / "walk.skops")
    loaded = Preprocessing.load(tmp_path / "walk.skops", data.schema)
    np.testing.assert_array_equal(loaded.transform(data.features)["numeric"], train["numeric"])
    assert loaded.transform(data.features.iloc[:0])["numeric"].shape == (0, 7)


@pytest.mark.parametrize(("name", "value"), [("noise", 1.0), ("depth", 0), ("n_components", 0)])
def test_what_makes_no_autoencoder_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"convolutional_autoencoder.{name}: found `{value}`"):
        convolutional_autoencoder(Task.BINARY, **{name: value})  # type: ignore[arg-type]
