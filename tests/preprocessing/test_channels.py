"""Images and sequences before a network: scaling by channel, gaps, and where sequences end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from automl.data.blocks import BlockLayout
from automl.data.dataset import make_dataset
from automl.errors import ConfigError
from automl.preprocessing.channels import ChannelScaling
from automl.preprocessing.prefix_cache import PrefixCache
from automl.preprocessing.preprocessing import Preprocessing
from automl.values import BlockSpec, Choice, Dataset, Fold, Step

NAN = np.nan


def images(n: int = 50) -> Any:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(n, 2, 3, 4)) * [[[[5.0]], [[0.1]]]] + [[[[100.0]], [[-3.0]]]]).astype(np.float32)


def test_each_channel_has_mean_0_and_deviation_1_over_the_training_rows() -> None:
    X = images()
    scaled = ChannelScaling().fit(X).transform(X)
    assert scaled.dtype == np.float32
    assert np.allclose(scaled.mean(axis=(0, 2, 3)), 0, atol=1e-4)
    assert np.allclose(scaled.std(axis=(0, 2, 3)), 1, atol=1e-4)


def test_a_channel_of_one_value_is_zero_and_a_missing_pixel_is_the_mean() -> None:
    X = images()
    X[:, 1] = 7.0
    X[3, 0, 1, 2] = NAN
    scaling = ChannelScaling().fit(X)
    scaled = scaling.transform(X)
    assert (scaled[:, 1] == 0).all()
    assert scaled[3, 0, 1, 2] == 0
    assert not scaling.masked_


def test_more_rows_than_are_scaled_at_a_time() -> None:
    X = images(2500)
    scaling = ChannelScaling().fit(X)
    whole = scaling.transform(X)
    assert np.array_equal(whole[2000:2010], scaling.transform(X[2000:2010]))


def test_a_gap_is_a_line_between_its_neighbours_and_the_end_is_marked() -> None:
    X = np.array([[[0, NAN, 2, 3, 4, 5]], [[1, 2, 3, NAN, NAN, NAN]], [[NAN, 1, 1, NAN, 4, NAN]]], np.float32)
    scaling = ChannelScaling(sequence=True).fit(X)
    assert scaling.masked_
    found = scaling.transform(X)
    assert found.shape == (3, 2, 6)
    values = found[:, 0] * scaling.scale_[0] + scaling.mean_[0]
    assert np.allclose(values[0], [0, 1, 2, 3, 4, 5], atol=1e-6)
    assert np.allclose(values[2, :5], [1, 1, 1, 2.5, 4], atol=1e-6)
    assert (found[1, 0, 3:] == 0).all()
    assert found[:, 1].tolist() == [[1] * 6, [1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]


@pytest.mark.parametrize("length", [0, 1])
def test_a_sequence_may_be_empty_or_one_step_long(length: int) -> None:
    X = np.arange(20, dtype=np.float32).reshape(2, 2, 5)
    X[1, :, length:] = NAN
    scaling = ChannelScaling(sequence=True).fit(X)
    found = scaling.transform(X)
    assert np.isfinite(found).all()
    assert found[1, -1].sum() == length


def test_whole_sequences_have_no_channel_for_their_ends() -> None:
    X = images()[:, :, 0]
    scaling = ChannelScaling(sequence=True).fit(X)
    assert scaling.transform(X).shape == X.shape
    X[0, :, 2:] = NAN  # a row to predict that ends early is taken as it is
    assert np.isfinite(scaling.transform(X)).all()


def test_a_channel_without_any_value_is_zero() -> None:
    X = images()[:, :, 0]
    X[:, 1] = NAN
    found = ChannelScaling(sequence=True).fit(X).transform(X)
    assert (found[:, 1] == 0).all()


# --- within the walk ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data() -> Dataset:
    rng = np.random.default_rng(0)
    n = 60
    frame = pd.DataFrame(rng.normal(size=(n, 8)), columns=[f"p{i}" for i in range(8)])
    for i in range(6):
        frame[f"t{i}"] = np.where(np.arange(n) % 4 + 2 >= i, rng.normal(size=n), NAN)
    frame["age"] = np.where(rng.random(n) < 0.1, NAN, rng.normal(size=n))
    frame["town"] = rng.choice(["a", "b"], n)
    frame["number"] = np.arange(n) * 1.5  # names the row
    frame["y"] = ["yes" if i % 5 == 0 else "no" for i in range(n)]
    layouts = [BlockLayout("image", "p*", [2, 2, 2]), BlockLayout("sequence", "t?", [1, 6], name="pulse")]
    return make_dataset(frame, target="y", name="t", source="s", blocks=layouts)


FOLD = Fold(np.arange(0, 60, 2), np.arange(1, 60, 2))


def test_networks_are_told_what_the_blocks_are(data: Dataset) -> None:
    walk = Preprocessing((), data.schema, seed=0)
    train, val = walk.fit_fold(data.features, data.target, FOLD)
    assert walk.inputs.blocks["image"] == BlockSpec("image", (2, 2, 2))
    assert walk.inputs.blocks["pulse"] == BlockSpec("sequence", (2, 6), masked=True)
    assert {name: block.shape[1:] for name, block in train.inputs.items()} == {
        name: block.shape for name, block in walk.inputs.blocks.items()
    }
    assert all(np.isfinite(block).all() for part in (train, val) for block in part.inputs.values())
    nothing = walk.transform(data.features.iloc[:0])
    assert {name: (block.shape, block.dtype) for name, block in nothing.items()} == {
        name: ((0, *block.shape[1:]), block.dtype) for name, block in train.inputs.items()
    }


def test_only_training_rows_are_learned_from(data: Dataset) -> None:
    changed = data.features.copy()
    cells = [*data.schema.blocks[0].columns, *data.schema.blocks[1].columns]
    changed.loc[FOLD.val, cells] = changed.loc[FOLD.val, cells] * 1000 + 5
    walks = [Preprocessing((), data.schema, seed=0).fit_fold(f, data.target, FOLD)[0] for f in (data.features, changed)]
    for name, block in walks[0].inputs.items():
        assert np.array_equal(block, walks[1].inputs[name])


@pytest.mark.parametrize("name", ["random_over", "random_under", "smote", "smotenc"])
def test_blocks_are_resampled_with_their_rows(data: Dataset, name: str) -> None:
    encoding = [Step("encoding", Choice("onehot"))] if name == "smote" else []
    walk = Preprocessing([*encoding, Step("resampling", Choice(name, {"strength": 1.0}))], data.schema, seed=0)
    blocks, y = walk.fit_resample(data.features, data.target)
    assert {len(block) for block in blocks.values()} == {len(y)}
    assert np.bincount(y)[0] == np.bincount(y)[1]
    whole = Preprocessing(encoding, data.schema, seed=0).fit_resample(data.features, data.target)[0]
    known = {row.tobytes(): i for i, row in enumerate(whole["image"])}
    if name.startswith("random"):  # whole rows: all blocks are of the same one
        rows = [known[row.tobytes()] for row in blocks["image"]]
        assert all(np.array_equal(blocks[block], whole[block][rows]) for block in blocks)
    else:
        assert len({row.tobytes() for row in blocks["image"]}) > len(known)
        assert blocks["image"].dtype == np.float32


def test_rows_come_out_the_same_from_the_cache_and_from_a_file(data: Dataset, tmp_path: Path) -> None:
    steps = [Step("scaling", Choice("standard"))]
    walk = Preprocessing(steps, data.schema, seed=0)
    train, val = walk.fit_fold(data.features, data.target, FOLD)
    for _ in range(2):
        cache = PrefixCache(tmp_path / "cache", "rows", keep_all=True)
        cached = Preprocessing(steps, data.schema, seed=0).fit_fold(data.features, data.target, FOLD, cache)
        for part, other in zip((train, val), cached, strict=True):
            assert all(np.array_equal(part.inputs[name], other.inputs[name]) for name in part.inputs)
    walk.save(tmp_path / "walk.skops")
    loaded = Preprocessing.load(tmp_path / "walk.skops", data.schema).transform(data.features, FOLD.val)
    assert all(np.array_equal(loaded[name], val.inputs[name]) for name in loaded)


@pytest.mark.parametrize("name", ["gan", "cvae"])
def test_networks_make_up_no_cells(data: Dataset, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"`{name}` makes up columns only, and the table has `image`, `pulse`"):
        Preprocessing([Step("resampling", Choice(name))], data.schema, seed=0)
