import numpy as np
import pytest
import torch

import automl.augmentations  # noqa: F401
from automl.components import catalogue
from automl.errors import ConfigError
from automl.values import BlockSpec, Choice, InputSpec

INPUTS = InputSpec({"categorical": BlockSpec("categorical", (3,), (9, 9, 9)), "numeric": BlockSpec("numeric", (5,))})
CODES = InputSpec({"categorical": INPUTS.blocks["categorical"]})


def build(name, seed=0, inputs=INPUTS, **params):
    return catalogue("augmentation").build(Choice(name, params), inputs, torch.Generator().manual_seed(seed))


def batch(n_rows=40):
    """Returns rows whose numbers, codes and target tell which row they are of."""
    rows = torch.arange(1, n_rows + 1)
    return {"numeric": rows[:, None] * torch.ones(5), "categorical": (rows % 8 + 1)[:, None].repeat(1, 3)}, rows


def test_none_is_nothing():
    assert build("none") is None


def test_mixup_blends_pairs_by_their_share():
    augment = build("mixup", alpha=1.0)
    shares = []
    for _ in range(20):
        inputs, y = batch()
        found = augment(inputs, y)
        blended = found.share * y + (1 - found.share) * found.other
        torch.testing.assert_close(found.inputs["numeric"], blended[:, None].expand(40, 5), rtol=1e-4, atol=1e-4)
        assert torch.equal(found.inputs["categorical"], inputs["categorical"])  # those of the larger share
        assert sorted(found.other.tolist()) == y.tolist()
        shares.append(found.share)
    assert min(shares) >= 0.5
    assert np.std(shares) > 0.05


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_what_is_mixed_in_is_told_above_the_level_of_the_row(name):
    spec = InputSpec({"numeric": BlockSpec("numeric", (5,)), "baseline": BlockSpec("baseline", (2,))})
    rows = torch.arange(1.0, 41.0)
    baseline = torch.stack([1000 * rows, rows], dim=1)
    y = 1000 * rows + 7 * rows  # seven of its scales above its level, each of them
    inputs = {"numeric": rows[:, None] * torch.ones(5), "baseline": baseline}
    found = build(name, inputs=spec)(inputs, y)
    assert torch.equal(found.inputs["baseline"], baseline)
    torch.testing.assert_close(found.other, y)


def test_mixup_of_nearly_whole_shares_is_no_mixup():
    inputs, y = batch()
    found = build("mixup", alpha=1e-6)(inputs, y)
    assert found.share == pytest.approx(1.0)
    torch.testing.assert_close(found.inputs["numeric"], inputs["numeric"])
    assert torch.equal(found.y, y)


@pytest.mark.parametrize("name", ["mixup", "noise"])
def test_without_numbers_there_is_nothing_to_blend(name):
    assert build(name, inputs=CODES) is None


def test_cutmix_swaps_whole_columns_and_counts_them():
    augment = build("cutmix")
    swapped_columns = set()
    for _ in range(30):
        inputs, y = batch()
        found = augment(inputs, y)
        cells = torch.cat([found.inputs["categorical"], found.inputs["numeric"]], dim=1)
        own = torch.cat([inputs["categorical"], inputs["numeric"]], dim=1)
        other = own[found.other - 1]
        swapped = [bool((cells[:, column] == other[:, column]).all()) for column in range(8)]
        for column in range(8):
            assert torch.equal(cells[:, column], (other if swapped[column] else own)[:, column])
        assert found.share == pytest.approx(1 - sum(swapped) / 8)
        swapped_columns.add(tuple(swapped))
    assert len(swapped_columns) > 10


@pytest.mark.parametrize("fill", ["swap", "zero"])
def test_a_mask_hides_a_share_of_the_cells(fill):
    inputs, y = batch(2000)
    found = build("feature_mask", rate=0.25, fill=fill)(inputs, y)
    assert (found.other, found.share) == (None, 1.0)
    assert torch.equal(found.y, y)
    hidden = {name: found.inputs[name] != block for name, block in inputs.items()}
    for changed in hidden.values():
        assert changed.float().mean() == pytest.approx(0.25, abs=0.02)
    assert (found.inputs["categorical"][hidden["categorical"]] == 0).all()
    numbers = found.inputs["numeric"][hidden["numeric"]]
    if fill == "zero":
        assert (numbers == 0).all()
    else:
        assert set(numbers.tolist()) <= set(y.tolist())
        assert len(set(numbers.tolist())) > 1000


def test_noise_is_of_the_scale_asked_for():
    inputs, y = batch(2000)
    found = build("noise", scale=0.3)(inputs, y)
    added = found.inputs["numeric"] - inputs["numeric"]
    assert added.std() == pytest.approx(0.3, rel=0.05)
    assert added.mean() == pytest.approx(0.0, abs=0.02)
    assert torch.equal(found.inputs["categorical"], inputs["categorical"])


IMAGE = InputSpec({"image": BlockSpec("image", (2, 9, 9))})
MASKED = InputSpec({"sequence": BlockSpec("sequence", (2, 20), masked=True)})
TEXT = InputSpec({"tokens": BlockSpec("tokens", (30,), (50,)), "numeric": BlockSpec("numeric", (2,))})


def test_colours_change_channel_by_channel():
    image = torch.arange(9.0).expand(500, 2, 9, 9)
    found = build("move_image", inputs=IMAGE, shift=0, brightness=0.3)({"image": image}, torch.arange(500)).inputs
    added = found["image"] - image
    assert (added.amax((2, 3)) - added.amin((2, 3))).max() < 1e-5
    assert added.abs().max() == pytest.approx(0.3, rel=0.05)
    assert (added[:, 0, 0, 0] - added[:, 1, 0, 0]).abs().mean() > 0.1
    found = build("move_image", inputs=IMAGE, shift=0, contrast=0.3)({"image": image}, torch.arange(500)).inputs
    factors = found["image"][:, :, 0, 5] / 5
    assert (factors.min(), factors.max()) == (pytest.approx(0.7, abs=0.01), pytest.approx(1.3, abs=0.01))


def test_a_crop_is_drawn_to_the_whole_size():
    image = torch.arange(9.0).expand(200, 2, 9, 9)  # each column its number
    found = build("move_image", inputs=IMAGE, shift=0, zoom=0.6)({"image": image}, torch.arange(200)).inputs["image"]
    assert (found[..., 4] == 4).all()  # the middle stays
    assert (found.diff(dim=-1) >= 0).all()
    kept = found[:, 0, 0, -1] - found[:, 0, 0, 0]
    assert kept.max() == 8
    assert kept.min() == pytest.approx(0.4 * 8, abs=1)


def test_an_image_is_mirrored_in_half_of_the_rows_if_that_may_be():
    image = torch.arange(9.0).expand(400, 2, 9, 9)  # each column its number
    found = build("move_image", inputs=IMAGE, shift=0, flip=True)({"image": image}, torch.arange(400)).inputs["image"]
    mirrored = (found == image.flip(3)).all((1, 2, 3))
    assert ((found == image).all((1, 2, 3)) ^ mirrored).all()
    assert mirrored.float().mean() == pytest.approx(0.5, abs=0.1)


def test_an_image_is_moved_by_whole_pixels_and_its_edge_goes_on():
    image = torch.arange(9.0).expand(400, 2, 9, 9)
    found = build("move_image", inputs=IMAGE, shift=0.25)({"image": image}, torch.arange(400)).inputs["image"]
    moved = found[:, 0, 0, 4] - 4
    assert set(moved.tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert torch.equal(found[:, 0, 0], (torch.arange(9.0) + moved[:, None]).clamp(0, 8))


@pytest.mark.parametrize(
    ("block", "n_axes"),
    [(IMAGE.blocks["image"], 2), (MASKED.blocks["sequence"], 1), (TEXT.blocks["tokens"], 1)],
    ids=["box", "stretch", "words"],
)
def test_cutmix_swaps_one_part_of_a_block_and_counts_it(block, n_axes):
    augment = build("cutmix", inputs=InputSpec({block.kind: block}))
    rows = torch.arange(1, 21)
    given = rows.reshape(-1, *[1] * len(block.shape)).expand(20, *block.shape)
    given = given if block.cardinalities else given.float()
    sizes = set()
    for _ in range(30):
        found = augment({block.kind: given}, rows)
        assert set(found.inputs[block.kind][0].unique().tolist()) <= {1.0, float(found.other[0])}
        kept = found.inputs[block.kind] == given
        kept = kept if block.cardinalities else kept.all(1)  # (rows, *sides), channels together
        assert (kept == kept[found.other != rows][:1])[found.other != rows].all()  # the same part of all rows
        swapped = ~kept[found.other != rows][0]
        assert found.share == pytest.approx(1 - swapped.float().mean().item(), abs=1e-6)
        for axis in range(n_axes):  # one part without a gap
            inside = swapped.any(1 - axis) if n_axes == 2 else swapped
            places = inside.nonzero().flatten()
            assert len(places) == 0 or int(places[-1] - places[0]) == len(places) - 1
        sizes.add(int(swapped.sum()))
    assert len(sizes) > 5


SEQUENCE = InputSpec({"sequence": BlockSpec("sequence", (3, 20))})


def test_a_part_of_a_sequence_is_stretched_to_its_length():
    steps = torch.linspace(0, 1, 20).expand(500, 3, 20)
    augment = build("warp_sequence", inputs=SEQUENCE, window=0.3, scale=0.0)
    found = augment({"sequence": steps}, torch.arange(500)).inputs["sequence"]
    torch.testing.assert_close(found.diff(dim=-1), found.diff(dim=-1)[..., :1].expand(500, 3, 19), atol=1e-5, rtol=0)
    kept = found[:, 0, -1] - found[:, 0, 0]
    assert (kept.min(), kept.max()) == (pytest.approx(0.7, abs=0.01), pytest.approx(1.0, abs=0.01))
    assert found[:, 0, 0].max() > 0.2  # cut off before
    assert found[:, 0, -1].min() < 0.8  # and after


def test_channels_of_a_sequence_are_scaled_and_steps_jittered():
    steps = torch.ones(500, 3, 20)
    scaled = build("warp_sequence", inputs=SEQUENCE, window=0.0, scale=0.2)
    found = scaled({"sequence": steps}, torch.arange(500)).inputs["sequence"]
    assert torch.equal(found, found[..., :1].expand(500, 3, 20))
    assert (found.min(), found.max()) == (pytest.approx(0.8, abs=0.01), pytest.approx(1.2, abs=0.01))
    assert (found[:, 0, 0] != found[:, 1, 0]).any()
    jittered = build("warp_sequence", inputs=SEQUENCE, window=0.0, scale=0.0, noise=0.3)
    found = jittered({"sequence": steps}, torch.arange(500)).inputs["sequence"]
    assert (found - steps).std() == pytest.approx(0.3, rel=0.05)
    assert (found - steps).mean() == pytest.approx(0.0, abs=0.02)


def test_time_is_bent_and_neither_turned_nor_cut():
    steps = torch.linspace(0, 1, 20).expand(300, 3, 20)
    augment = build("warp_sequence", inputs=SEQUENCE, window=0.0, scale=0.0, time=0.4)
    found = augment({"sequence": steps}, torch.arange(300)).inputs["sequence"]
    torch.testing.assert_close(found[..., [0, -1]], steps[..., [0, -1]])
    assert (found.diff(dim=-1) > 0).all()
    assert (found - steps).abs().amax() > 0.08


@pytest.mark.parametrize("name", ["noise", "feature_mask", "warp_sequence", "by_kind"])
def test_nothing_follows_the_end_of_a_sequence(name):
    lengths = torch.arange(1, 21)
    there = (torch.arange(20) < lengths[:, None]).float()
    block = torch.stack([there * torch.arange(1.0, 21), there], dim=1)
    found = build(name, inputs=MASKED)({"sequence": block}, lengths).inputs["sequence"]
    assert set(found[:, 1].unique().tolist()) == {0.0, 1.0}
    assert (found[:, 0][found[:, 1] == 0] == 0).all()
    if name in ("noise", "feature_mask"):
        assert torch.equal(found[:, 1], there)
    assert not torch.equal(found[:, 0], block[:, 0])


def test_words_are_left_out_and_columns_stay():
    rows = {"tokens": torch.randint(1, 50, (200, 30)), "numeric": torch.ones(200, 2)}
    found = build("drop_words", inputs=TEXT, rate=0.3)(rows, torch.arange(200)).inputs
    left_out = found["tokens"] == 0
    assert left_out.float().mean() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(found["tokens"][~left_out], rows["tokens"][~left_out])
    assert found["numeric"] is rows["numeric"]
    assert build("drop_words") is None


def test_each_kind_is_changed_in_its_way():
    inputs = InputSpec({**IMAGE.blocks, **MASKED.blocks, **TEXT.blocks})
    rows = {
        name: torch.ones(30, *block.shape).to(torch.long if block.cardinalities else torch.float32)
        for name, block in inputs.blocks.items()
    }
    found = build("by_kind", inputs=inputs, strength=1.0)(rows, torch.arange(30)).inputs
    changed = {name for name, block in rows.items() if not torch.equal(found[name], block)}
    assert changed == {"image", "sequence", "tokens"}
    assert build("by_kind") is None


@pytest.mark.parametrize("name", ["mixup", "cutmix", "feature_mask", "noise"])
def test_another_seed_is_another_augmentation(name):
    first, second = (build(name, seed=seed)(*batch()) for seed in (0, 1))
    assert not torch.equal(first.inputs["numeric"], second.inputs["numeric"])


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("mixup", {"alpha": 0.0}),
        ("cutmix", {"alpha": -1.0}),
        ("feature_mask", {"rate": 1.0}),
        ("noise", {"scale": -0.1}),
        ("move_image", {"zoom": 1.0}),
        ("move_image", {"brightness": -0.1}),
        ("warp_sequence", {"time": 0.5}),
        ("drop_words", {"rate": 1.0}),
        ("by_kind", {"strength": 3.0}),
    ],
)
def test_impossible_hyperparameters_are_told(name, params):
    with pytest.raises(ConfigError, match=next(iter(params))):
        build(name, **params)
