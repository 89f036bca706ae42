"""What becomes of files that hold images, of those that do not, and of paths that lead elsewhere."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from automl.array_column import unpack
from automl.data.images import ImageReader, content_digest, measure, spelled
from automl.values import Block, ColumnKind, ImageFiles

RNG = np.random.default_rng(0)


def block(*shape: int, **how: Any) -> Block:
    return Block("image", ColumnKind.IMAGE, (), shape or (1, 4, 6), ImageFiles("photo", **how))


def save(path: Path, *shape: int, **options: Any) -> np.ndarray:
    """Writes an image of random pixels (height, width, or with channels after them), and returns them."""
    pixels = RNG.integers(0, 256, shape, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return pixels


def read(reader: ImageReader, *cells: object) -> np.ndarray:
    return unpack(reader.take(pd.Series(cells, dtype=object)), reader._block)


def told(reader: ImageReader) -> str:
    return "\n".join(map(str, reader.problems()))


def test_images_of_the_shape_are_read_as_they_are(tmp_path: Path) -> None:
    grey, coloured = save(tmp_path / "a.png", 4, 6), save(tmp_path / "in" / "b.png", 4, 6, 3)
    reader = ImageReader(block(1, 4, 6), tmp_path)
    np.testing.assert_array_equal(read(reader, "a.png")[0, 0], grey)
    reader = ImageReader(block(3, 4, 6), tmp_path)
    found = read(reader, "in/b.png", None, str(tmp_path / "a.png"))
    np.testing.assert_array_equal(found[0], coloured.transpose(2, 0, 1))
    assert np.isnan(found[1]).all()
    np.testing.assert_array_equal(found[2], np.stack([grey] * 3))
    assert told(reader) == ""
    assert list(reader.notes()) == []


def test_images_of_other_sizes_are_stretched_or_cropped(tmp_path: Path) -> None:
    pixels = np.zeros((8, 24), np.uint8)
    pixels[:, 6:18] = 200  # what a crop to 2 : 3 keeps is the middle
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    stretched = read(ImageReader(block(), tmp_path), "wide.png")[0, 0]
    assert stretched[:, 0].max() == 0
    assert stretched[:, 2:4].min() == 200
    reader = ImageReader(block(resize="crop"), tmp_path)
    assert read(reader, "wide.png").min() > 150  # beside the edge of the crop there is black
    assert list(reader.notes()) == ["`photo`: images of 8 x 24 pixels (height x width) were cropped to 4 x 6."]


def test_what_a_camera_turned_is_turned_back_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    pixels = np.zeros((6, 4), np.uint8)
    pixels[0] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=turned)
    assert measure(pd.Series(["turned.png"]), tmp_path) == (1, 4, 6)
    assert read(ImageReader(block(), tmp_path), "turned.png")[0, 0, :, -1].min() == 255
    Image.fromarray(np.full((4, 6), 0x8001, np.uint16)).save(tmp_path / "deep.png")
    assert (read(ImageReader(block(), tmp_path), "deep.png") == 0x80).all()


def test_a_shape_is_inferred_from_the_heads_of_the_files(tmp_path: Path) -> None:
    for number, height in enumerate((8, 10, 12)):
        save(tmp_path / f"{number}.png", height, 8)
    cells = pd.Series(["0.png", "1.png", "2.png", "gone.png", None])
    assert measure(cells, tmp_path) == (1, 10, 8)
    save(tmp_path / "1.png", 300, 150, 3)
    assert measure(pd.Series(["1.png"]), tmp_path) == (3, 64, 32)
    assert measure(pd.Series(["gone.png"]), tmp_path) == (1, 1, 1)


def test_where_every_image_is_missing_the_folder_is_wrong(tmp_path: Path) -> None:
    reader = ImageReader(block(), tmp_path)
    read(reader, "a.png", "b.png")
    (sentence,) = told(reader).splitlines()
    assert "2 of 2 images are missing" in sentence
    assert sentence.endswith("Check `root`.")


def test_a_cell_may_hold_the_image_itself(tmp_path: Path) -> None:
    pixels = save(tmp_path / "a.png", 4, 6)
    content = (tmp_path / "a.png").read_bytes()
    address = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    reader = ImageReader(block(), None)
    found = read(reader, content, address, spelled(pixels[None]), "a.png", "data:image/png;base64,%%%")
    assert all((found[row, 0] == pixels).all() for row in range(3))
    assert "1 of 5 cells are paths, and there is no folder to look in: `a.png` (row 4)" in told(reader)
    assert "--files image=FOLDER" in told(reader)
    assert "1 of 5 images are unreadable: `data:image/png;base64,%%%` (row 5" in told(reader)
    coloured = RNG.integers(0, 256, (4, 3, 5), np.uint8)
    assert (read(ImageReader(block(4, 3, 5), None), spelled(coloured))[0] == coloured).all()


def test_everything_that_is_wrong_is_told_at_once_with_rows(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    save(root / "a.png", 4, 6)
    save(root / "large.png", 5, 6)
    save(tmp_path / "secret.png", 4, 6)
    whole = (root / "large.png").read_bytes()
    (root / "cut.png").write_bytes(whole[: len(whole) // 2])
    (root / "words.png").write_text("no image")
    (root / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\n")
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    reader = ImageReader(block(resize="none"), root)
    read(reader, "a.png", "gone.png", "cut.png", "words.png")
    read(reader, "../secret.png", "link.png", "large.png", "script.eps", "in\0side.png")
    sentences = told(reader)
    assert (
        f"`photo`: 2 of 9 images are missing: `gone.png` (row 2), `in\0side.png` (row 9). They are looked for in {root}"
        in sentences
    )
    assert "allow a share of the rows: `missing_files: 0.56`" in sentences
    assert "3 of 9 images are unreadable: `cut.png` (row 3" in sentences
    assert "`words.png` (row 4, of no known format)" in sentences
    assert "`script.eps` (row 8, of no known format)" in sentences  # it could be a program
    assert f"2 of 9 paths lead out of the folder {root}: `../secret.png` (row 5), `link.png` (row 6)" in sentences
    assert "1 of 9 images are not 4 x 6 (height x width): `large.png` (row 7, 5 x 6)" in sentences


def test_a_share_may_be_missing(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 4, 6)
    reader = ImageReader(block(missing_files=0.25), tmp_path)
    found = read(reader, "a.png", "a.png", "a.png", "gone.png")
    assert np.isnan(found[3]).all()
    assert told(reader) == ""
    assert list(reader.notes()) == ["`photo`: 1 images are missing or unreadable, and gaps: `gone.png` (row 4)."]
    read(reader, "gone.png")
    assert "2 of 5 images are missing" in told(reader)


def test_a_digest_is_of_what_is_in_the_files(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 4, 6)
    cells = pd.Series(["a.png", None, "gone.png"])
    before = content_digest(cells, tmp_path)
    assert before == content_digest(cells, tmp_path)
    save(tmp_path / "a.png", 4, 6)
    assert before != content_digest(cells, tmp_path)


@pytest.mark.parametrize("form", ["JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_other_formats_are_read(tmp_path: Path, form: str) -> None:
    Image.fromarray(np.full((40, 60, 3), 128, np.uint8)).save(tmp_path / "a", form)
    reader = ImageReader(block(3, 4, 6), tmp_path)
    np.testing.assert_allclose(read(reader, "a"), 128, atol=3)
    assert told(reader) == ""
