"""Images that a column of a table names: files in a folder, read to arrays of one shape.

A cell is the path of a file, relative to the folder; or, so that a model can be served without files, a `data:`
address with the image in it, or the bytes of a file. An empty cell is a gap. What cannot be read is counted and told in
the end.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from automl.array_column import pack
from automl.data.faulty_cells import FaultyCells, is_empty
from automl.errors import Problem
from automl.values import Block, ImageFiles

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from PIL.Image import Image

#: Endings of the files of a folder that are taken for images, and the formats that are read: none that could run code
#: (of PostScript, Pillow calls an interpreter).
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pnm")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")

#: Pillow's name for images of so many channels.
MODES = {1: "L", 3: "RGB", 4: "RGBA"}

#: Longest side of images whose shape nobody has said: larger ones are shrunk.
MAX_SIDE = 64

#: Files whose heads say what shape the images have.
MEASURED = 500

#: EXIF's number for how a camera was held.
ORIENTATION = 0x0112

#: Pixels of a file above which it is not unpacked.
MAX_PIXELS = 2**27

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, OverflowError, struct.error, zlib.error)


class _UnusableError(Exception):
    """An image that is not there, or not as it must be.

    Args:
        how: The kind of fault.
    """

    def __init__(self, how: str, said: str = "") -> None:
        super().__init__(said)
        self.how = how


def measure(cells: pd.Series[Any], root: Path | None) -> tuple[int, int, int]:
    """Returns the shape in which images are read when nobody has said one: (channels, height, width).

    One channel if all are grey, otherwise three. Their median height and width, shrunk until no side is longer than 64.
    Looks at the heads of at most 500 files; where none can be read, reading all will tell.
    """
    there = cells.dropna()
    some = there.iloc[np.unique(np.linspace(0, len(there) - 1, MEASURED).astype(int))] if len(there) else there
    sizes, is_grey = [], True
    for cell in some:
        try:
            with _opened(cell, root) as image:
                sizes.append(_upright_size(image))
                is_grey &= image.mode.startswith(("1", "L", "I", "F"))
        except (_UnusableError, *_BROKEN):
            continue
    if not sizes:
        return 1, 1, 1
    sides = np.median(sizes, axis=0)
    height, width = np.maximum(np.rint(sides * min(1.0, MAX_SIDE / sides.max())), 1).astype(int).tolist()
    return 1 if is_grey else 3, height, width


class ImageReader:
    """Reads the images of one block, part by part of a table; what is wrong with any is told in the end.

    Args:
        block: Of the images.
        root: The folder that paths start from; None: there are no files.
    """

    def __init__(self, block: Block, root: Path | None) -> None:
        assert isinstance(block.reading, ImageFiles)
        self._block = block
        self._how = block.reading
        self._root = root
        self._n_rows = 0
        self._faulty = {
            how: FaultyCells() for how in ("missing", "unreadable", "outside", "wrong size", "without root")
        }
        self._sizes: dict[tuple[int, int], None] = {}

    def take(self, cells: pd.Series[Any]) -> pd.Series[Any]:
        """Returns the images that the next cells name, as a packed column."""
        images = np.zeros((len(cells), *self._block.shape), np.uint8)
        missing = np.ones(len(cells), bool)
        given = [(position, cell) for position, cell in enumerate(cells) if not is_empty(cell)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # decoding is done outside of Python's lock
            for (position, cell), found in zip(given, threads.map(self._read, (c for _, c in given)), strict=True):
                if isinstance(found, _UnusableError):
                    self._faulty[found.how].take(cell, self._n_rows + position + 1, str(found))
                else:
                    images[position], missing[position] = found, False
        self._n_rows += len(cells)
        return pack(images, missing, self._block).set_axis(cells.index)

    def problems(self) -> Iterator[Problem]:
        """Yields what must not be, over all cells taken."""
        place, of = f"`{self._how.key}`", f"{self._n_rows:,}"
        lost = [(how, self._faulty[how]) for how in ("missing", "unreadable")]
        if sum(faulty.n for _, faulty in lost) > self._how.missing_files * self._n_rows:
            where = f"They are looked for in {self._root}. " if self._root else ""
            n_lost = sum(faulty.n for _, faulty in lost)
            share = _share(n_lost, self._n_rows)
            gaps = f"To go on with gaps in their place, allow a share of the rows: `missing_files: {share}`."
            for how, faulty in lost:
                if faulty.n:
                    yield Problem(
                        f"{faulty.n:,} of {of} images are {how}: {faulty.told()}",
                        place,
                        f"{where if how == 'missing' else ''}{gaps if n_lost < self._n_rows else 'Check `root`.'}",
                    )
        outside, size, rootless = (self._faulty[how] for how in ("outside", "wrong size", "without root"))
        if outside.n:
            yield Problem(
                f"{outside.n:,} of {of} paths lead out of the folder {self._root}: {outside.told()}",
                place,
                "Move the files there, or name the folder above them all.",
            )
        if size.n:
            _, height, width = self._block.shape
            yield Problem(
                f"{size.n:,} of {of} images are not {height} x {width} (height x width): {size.told()}",
                place,
                "Correct `shape`, or write `resize: stretch` or `resize: crop`.",
            )
        if rootless.n:
            yield Problem(
                f"{rootless.n:,} of {of} cells are paths, and there is no folder to look in: {rootless.told()}",
                place,
                f"Say where: `--files {self._block.name}=FOLDER`; or give `data:image/png;base64,...`.",
            )

    def notes(self) -> Iterator[str]:
        """Yields what was done about what may be."""
        lost = [faulty for how in ("missing", "unreadable") if (faulty := self._faulty[how]).n]
        if lost:
            told = ", ".join(faulty.told() for faulty in lost)
            yield f"`{self._how.key}`: {sum(t.n for t in lost):,} images are missing or unreadable, and gaps: {told}."
        if self._sizes:
            _, height, width = self._block.shape
            low, high = (f"{size[0]} x {size[1]}" for size in (min(self._sizes), max(self._sizes)))
            of = low if low == high else f"{low} to {high}"
            done = "cropped" if self._how.resize == "crop" else "stretched or shrunk"
            yield f"`{self._how.key}`: images of {of} pixels (height x width) were {done} to {height} x {width}."

    def _read(self, cell: Any) -> NDArray[np.uint8] | _UnusableError:
        """Returns an image (channels, height, width), or what is wrong with it."""
        try:
            with _opened(cell, self._root) as image:
                return self._fitted(image)
        except _UnusableError as error:
            return error
        except _BROKEN as error:
            # What Pillow says of a file of no known format names an object in memory.
            said = "of no known format" if type(error).__name__ == "UnidentifiedImageError" else str(error)
            return _UnusableError("unreadable", said)

    def _fitted(self, opened: Image) -> NDArray[np.uint8]:
        from PIL import Image, ImageOps

        n_channels, height, width = self._block.shape
        size = _upright_size(opened)
        if size != (height, width):
            self._sizes[size] = None
            if self._how.resize == "none":
                raise _UnusableError("wrong size", f"{size[0]} x {size[1]}")
        opened.draft(None, (max(height, width),) * 2)  # a JPEG is unpacked no larger than it needs to be
        image = ImageOps.exif_transpose(opened)
        if image.mode in ("I", "F"):
            raise _UnusableError("unreadable", "pixels of 32 bits")
        if image.mode.startswith("I;16"):  # Pillow would cut, not scale
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        image = image.convert(MODES[n_channels])
        if image.size != (width, height):
            if self._how.resize == "crop":
                image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
            else:
                image = image.resize((width, height), Image.Resampling.BILINEAR)
        return np.asarray(image, np.uint8).reshape(height, width, n_channels).transpose(2, 0, 1)


def content_digest(cells: pd.Series[Any], root: Path) -> bytes:
    """Returns a digest of the files that cells name; what is not there counts as nothing."""
    digest = hashlib.sha256()
    for cell in cells:
        try:
            content = cell if isinstance(cell, bytes) else _file(str(cell), root).read_bytes()
        except (_UnusableError, OSError):
            content = b""
        digest.update(hashlib.sha256(content).digest())
    return digest.digest()


def spelled(image: NDArray[np.uint8]) -> str:
    """Returns a cell that holds an image (channels, height, width) itself, to the last bit."""
    from PIL import Image

    file = io.BytesIO()
    pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _opened(cell: Any, root: Path | None) -> Image:
    """Returns the image that a cell stands for, its head read; raises _UnusableError or what Pillow does."""
    from PIL import Image

    file: Path | io.BytesIO
    if isinstance(cell, bytes):
        file = io.BytesIO(cell)
    elif isinstance(cell, str) and cell.startswith("data:"):
        file = io.BytesIO(base64.b64decode(cell.partition(",")[2], validate=True))
    else:
        file = _file(str(cell), root)
    try:
        image = Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise _UnusableError("unreadable", str(error)) from None
    if image.width * image.height > MAX_PIXELS:
        raise _UnusableError("unreadable", f"{image.width} x {image.height} pixels are too many")
    return image


def _upright_size(image: Image) -> tuple[int, int]:
    """Returns the height and width of an image as it is looked at: a camera may have been held upright."""
    width, height = image.size
    return (width, height) if image.getexif().get(ORIENTATION, 1) > 4 else (height, width)


def _file(name: str, root: Path | None) -> Path:
    if root is None:
        raise _UnusableError("without root")
    if "\0" in name:
        raise _UnusableError("missing")
    place = root / name
    try:
        inside = place.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        raise _UnusableError("missing") from None
    if not inside:
        raise _UnusableError("outside")
    if not place.is_file():
        raise _UnusableError("missing")
    return place


def _share(n: int, n_rows: int) -> str:
    """Returns a share that is no less than `n` of the rows, with two digits."""
    return f"{np.ceil(100 * n / n_rows) / 100:g}"
