"""Which columns are the pixels of an image, and what is said when they cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from automl.data import blocks
from automl.data.blocks import BlockLayout, kinds
from automl.data.dataset import conform, make_dataset
from automl.errors import DataError
from automl.values import Block, ColumnKind, Schema

PIXELS = [f"p{i}" for i in (0, 1, 10, 11, 2, 3)]


def image(**changes: object) -> BlockLayout:
    return BlockLayout(**{"kind": "image", "columns": "p*", "shape": [1, 2, 3], **changes})  # type: ignore[arg-type]


def resolve(layouts: list[BlockLayout], names: list[str]) -> tuple[Block, ...]:
    return blocks.resolve(layouts, pd.DataFrame(columns=names)).blocks


def test_columns_of_a_pattern_are_taken_by_the_numbers_in_their_names() -> None:
    (block,) = resolve([image()], [*PIXELS, "age"])
    assert block.columns == ("p0", "p1", "p2", "p3", "p10", "p11")
    assert (block.name, block.kind, block.shape) == ("image", ColumnKind.IMAGE, (1, 2, 3))


def test_named_columns_are_taken_as_they_are_named() -> None:
    (block,) = resolve([image(columns=PIXELS)], sorted(PIXELS))
    assert list(block.columns) == PIXELS


def test_several_blocks_of_a_kind_are_several_views() -> None:
    names = [f"{side}{i}" for side in "lr" for i in range(4)]
    layouts = [BlockLayout("image", f"{side}*", [1, 2, 2]) for side in "lr"]
    found = resolve([*layouts, BlockLayout("sequence", ["a", "b"], [1, 2], name="pulse")], [*names, "a", "b"])
    assert [block.name for block in found] == ["image", "image_2", "pulse"]
    assert kinds(found) == dict.fromkeys(names, ColumnKind.IMAGE) | dict.fromkeys("ab", ColumnKind.SEQUENCE)


@pytest.mark.parametrize(
    ("layouts", "told"),
    [
        ([image(columns="q*")], ["blocks.0.columns: no feature column matches `q*`"]),
        ([image(columns=["p0", "p99"], shape=[1, 1, 2])], ["there is no feature column `p99`. Known: `p0`, `p1`"]),
        ([image(shape=[1, 2, 2])], ["blocks.0.shape: 1 x 2 x 2 are 4 cells, and `p*` are 6 columns"]),
        ([image(columns=PIXELS, shape=[1, 5, 1])], ["are 5 cells, and there are 6 columns"]),
        ([image(shape=[2, 3])], ["found [2, 3]; allowed for image blocks", "Write `[1, 28, 28]`"]),
        ([image(shape=[1, -2, -3])], ["whole numbers above 0 for channels, height, width"]),
        ([image(kind="sequence")], ["allowed for sequence blocks", "channels, steps"]),
        ([image(), image(name="again")], ["blocks.1.columns: the column `p0` is in the block `image` already"]),
        ([image(name="numeric")], ["blocks.0.name: the name `numeric` is taken"]),
        ([image(name="a.b")], ["blocks.0.name: found `a.b`"]),
        ([image(columns="q*"), image(shape=[9, 9, 9])], ["blocks.0.columns", "blocks.1.shape"]),
    ],
)
def test_what_does_not_fit_is_told_all_at_once(layouts: list[BlockLayout], told: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        resolve(layouts, PIXELS)
    for sentence in told:
        assert sentence in str(caught.value)


def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(40, 6)), columns=PIXELS).assign(p0=1.0, p1=range(40))
    return frame.assign(age=rng.integers(20, 60, 40), y=[0, 1] * 20)


def test_a_pixel_stays_whatever_it_holds() -> None:
    """A column with one value is left out elsewhere, and one that counts the rows would be taken for their name."""
    data = make_dataset(table(), target="y", name="t", source="s", blocks=[image()])
    assert data.schema.names(ColumnKind.IMAGE) == PIXELS
    assert [column.name for column in data.schema.used if not column.kind.is_cell] == ["age"]
    assert Schema.from_json(data.schema.to_json()) == data.schema


def test_a_cell_that_is_no_number_is_told_and_an_infinite_one_is_missing() -> None:
    data = make_dataset(table(), target="y", name="t", source="s", blocks=[image()])
    given = table().drop(columns="y").astype({"p2": object, "p3": float})
    given.loc[3, "p3"] = np.inf
    found, notes = conform(given, data.schema)
    assert found["p3"].isna().sum() == 1
    assert any("`p3`" in note for note in notes)
    given.loc[7, "p2"] = "dark"
    with pytest.raises(
        DataError, match="`p2`: 1 of the values cannot be read as numbers; the first is `dark` in row 8"
    ):
        conform(given, data.schema)


def test_the_target_is_no_cell() -> None:
    with pytest.raises(DataError, match="there is no feature column `y`"):
        make_dataset(table(), target="y", name="t", source="s", blocks=[image(columns=[*PIXELS[:5], "y"])])


def test_rows_with_next_to_nothing_in_a_block_are_told() -> None:
    given = table().astype({"p0": float, "p1": float})
    given.loc[[3, 4], PIXELS] = np.nan
    given.loc[5, PIXELS[1:]] = np.nan
    images = make_dataset(given, target="y", name="t", source="s", blocks=[image()]).notes
    assert [note for note in images if "`image`" in note] == ["`image`: 2 of 40 rows hold no pixel at all."]
    pulse = image(kind="sequence", shape=[1, 6])
    steps = make_dataset(given, target="y", name="t", source="s", blocks=[pulse]).notes
    assert [note for note in steps if "`sequence`" in note] == [
        "`sequence`: 2 of 40 rows hold no step at all.",
        "`sequence`: 1 of 40 sequences have one step only.",
    ]


def test_texts_with_lost_signs_are_told() -> None:
    given = table().assign(remark=[f"a caf\u00e9 in row {row}" for row in range(40)])
    given.loc[[2, 9], "remark"] = "a caf\N{REPLACEMENT CHARACTER} in a row"
    notes = make_dataset(given, target="y", name="t", source="s", blocks=[image()]).notes
    assert any(note.startswith("`remark`: 2 of 40 texts, the first in row 3, hold the sign") for note in notes)
