"""Fitting on rows that lie in shards: a sample is fitted on, all rows come out, no validation row is seen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from automl.components import STAGES, catalogue
from automl.data import storage
from automl.data.dataset import make_dataset
from automl.data.splits import split
from automl.data.storage import StoredPart
from automl.preprocessing.preprocessing import Preprocessing
from automl.testing import boring_table
from automl.values import Choice, Dataset, Fold, Part, Schema, ShardedPart, Step, Task

pytestmark = pytest.mark.filterwarnings("error")
#: Those that need packages of their own, or train networks, take their time over it, and those that read images and
#: sequences need such: the contract tests run them.
OPTIONS = [
    (stage, component.name)
    for stage in STAGES
    for component in catalogue(stage)
    if not any(trait.startswith("package:") or trait in ("takes_seconds", "image") for trait in component.traits)
]
N_SHARDS = 8
USUAL = (Step("imputation", Choice("median")), Step("encoding", Choice("ordinal")), Step("scaling", Choice("standard")))


@dataclass(frozen=True)
class Stored:
    dataset: Dataset
    shards: StoredPart
    fold: Fold

    @property
    def schema(self) -> Schema:
        return self.dataset.schema

    @property
    def features(self) -> pd.DataFrame:
        return pd.concat([self.shards.shard(number) for number in range(len(self.shards))], ignore_index=True)


def stored(folder: Path, task: Task = Task.BINARY, *, text: bool = False, n_rows: int = 480) -> Stored:
    table = boring_table(task, n_rows=n_rows)
    dataset = make_dataset(table if text else table.drop(columns="remark"), target="target", name="t", source="s")
    storage.store(dataset, split(dataset, test_size=0.0), folder, n_shards=N_SHARDS)
    (fold,) = storage.load_folds(folder)
    return Stored(dataset, storage.open_part(folder, "search"), fold)


def rows(part: ShardedPart) -> Part:
    """Returns all pieces of a part as one."""
    pieces = [part.piece(number) for number in range(len(part.sizes))]
    names = pieces[0].inputs
    inputs = {name: np.concatenate([piece.inputs[name] for piece in pieces]) for name in names}
    return Part(inputs, np.concatenate([piece.target for piece in pieces]))


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "name"), OPTIONS)
def test_every_option_works_on_shards(stage: str, name: str, tmp_path: Path) -> None:
    given = stored(tmp_path)
    steps = [step for step in USUAL if step.stage != stage]
    synthesises = "synthesises_numeric" in catalogue(stage)[name].traits
    encoding = Step("encoding", Choice("onehot" if synthesises else "ordinal"))
    steps = [encoding if step.stage == "encoding" else step for step in steps]
    steps = sorted([*steps, Step(stage, Choice(name))], key=lambda step: STAGES.index(step.stage))
    preprocessing = Preprocessing(steps, given.schema, seed=0)
    train, val = preprocessing.fit_shards(given.shards, given.fold)
    assert len(train.sizes) == 1 + len(given.shards.holding(given.fold.train)) - storage.SAMPLED_SHARDS == 3
    whole, held_out = rows(train), rows(val)
    for part in (whole, held_out):
        for block, spec in preprocessing.inputs.blocks.items():
            assert part.inputs[block].shape == (len(part.target), *spec.shape)
            assert np.isfinite(part.inputs[block]).all()
    assert_array_equal(held_out.target, given.shards.target[given.fold.val])
    for block, values in preprocessing.transform(given.features, given.fold.val).items():
        rounding = 1e-5 if stage == "reduction" else 0.0  # matrix products of another number of rows round otherwise
        assert_allclose(held_out.inputs[block], values, rtol=rounding, atol=rounding)
    if stage not in ("cleaning", "resampling", "imputation"):
        assert_array_equal(whole.target, given.shards.target[given.fold.train])
        assert train.sizes == tuple(len(train.piece(number).target) for number in range(len(train.sizes)))


def test_a_step_that_learns_in_parts_sees_every_training_row(tmp_path: Path) -> None:
    given = stored(tmp_path)
    preprocessing = Preprocessing(USUAL, given.schema, seed=0)
    whole = rows(preprocessing.fit_shards(given.shards, given.fold)[0]).inputs["numeric"].astype(np.float64)
    assert_allclose(whole.mean(axis=0), 0, atol=1e-5)
    varying = whole.std(axis=0) > 0
    assert varying.sum() == 9
    assert_allclose(whole[:, varying].std(axis=0), 1, atol=1e-5)
    assert "`StandardScaler` was fitted on all training rows, part by part" in preprocessing.notes


def test_other_steps_are_fitted_on_a_sample_and_say_so(tmp_path: Path) -> None:
    given = stored(tmp_path)
    steps = (Step("imputation", Choice("median")), Step("scaling", Choice("robust")))
    preprocessing = Preprocessing(steps, given.schema, seed=0)
    preprocessing.fit_shards(given.shards, given.fold)
    features, target = given.shards.sample(given.fold.train)
    alone = Preprocessing(steps, given.schema, seed=0)
    alone.fit_resample(features, target)
    for block, values in preprocessing.transform(given.features).items():
        assert_array_equal(values, alone.transform(given.features)[block])
    assert preprocessing.notes[0] == f"fitted on {len(target)} of 384 training rows, drawn at random"


def test_the_sample_comes_out_as_fitting_leaves_it(tmp_path: Path) -> None:
    """A target encoding of rows that it was fitted on would tell their target."""
    given = stored(tmp_path)
    steps = (Step("imputation", Choice("median")), Step("encoding", Choice("target")))
    preprocessing = Preprocessing(steps, given.schema, seed=0)
    sample = preprocessing.fit_shards(given.shards, given.fold)[0].piece(0)
    features, target = given.shards.sample(given.fold.train)
    alone = Preprocessing(steps, given.schema, seed=0)
    expected, _ = alone.fit_resample(features, target)
    assert_array_equal(sample.inputs["numeric"], expected["numeric"])
    assert (sample.inputs["numeric"] != preprocessing.transform(features)["numeric"]).any()


def test_every_shard_is_resampled(tmp_path: Path) -> None:
    given = stored(tmp_path)
    steps = (*USUAL, Step("resampling", Choice("random_over")))
    train, val = Preprocessing(steps, given.schema, seed=0).fit_shards(given.shards, given.fold)
    for number in range(len(train.sizes)):
        counts = np.bincount(train.piece(number).target)
        assert counts[0] == counts[1]
    assert len(rows(val).target) == len(given.fold.val)


def test_no_validation_row_is_seen(tmp_path: Path) -> None:
    one = stored(tmp_path / "one")
    changed = one.dataset.features.copy()
    splits = split(one.dataset, test_size=0.0)
    numbers = [name for name in changed if changed[name].dtype == "float64"]
    changed.loc[splits.folds[0].val, numbers] = 1e6
    storage.store(one.dataset, splits, tmp_path / "other", frames=[changed], n_shards=N_SHARDS)
    other = storage.open_part(tmp_path / "other", "search")
    fitted = [Preprocessing(USUAL, one.schema, seed=0) for _ in range(2)]
    pairs = [p.fit_shards(shards, one.fold) for p, shards in zip(fitted, (one.shards, other), strict=True)]
    first, second = (rows(train) for train, _ in pairs)
    for block in first.inputs:
        assert_array_equal(first.inputs[block], second.inputs[block])
        assert_array_equal(fitted[0].transform(one.features)[block], fitted[1].transform(one.features)[block])
    assert (rows(pairs[0][1]).inputs["numeric"] != rows(pairs[1][1]).inputs["numeric"]).any()


def test_texts_become_numbers(tmp_path: Path) -> None:
    given = stored(tmp_path, text=True)
    train, val = Preprocessing(USUAL, given.schema, seed=0).fit_shards(given.shards, given.fold)
    assert rows(train).inputs["numeric"].shape[1] == rows(val).inputs["numeric"].shape[1]
