"""The hashes of a model folder, written when it is made and checked before anything in it is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from automl.errors import Problem, RefusedError

NAME = "manifest.json"
VERSION = 1

#: Not part of the model: the manifest itself, and a note that MLflow drops into a folder that it loads by
#: `models:/...` (into the store's own copy where the store is a local folder). Neither is read when a model is loaded.
_OUTSIDE = frozenset({NAME, "registered_model_meta"})


def write(folder: Path) -> str:
    """Returns the digest of the manifest that it writes into a finished folder.

    Raises:
        RefusedError: The folder holds a link or something else that is not a plain file.
    """
    files, problems = _scan(folder)
    if problems:
        raise RefusedError(problems)
    text = json.dumps({"version": VERSION, "files": files}, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()


def verify(folder: Path) -> str:
    """Returns the digest of the manifest, after checking that the folder is what the manifest says.

    Raises:
        RefusedError: Names every changed, missing and added file at once.
    """
    raw, expected = _read(folder)
    found, problems = _scan(folder)
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            problems.append(Problem("the file is missing or no plain file", where=str(folder / path)))
        elif path not in expected:
            problems.append(Problem("the file was added", where=str(folder / path)))
        elif found[path] != expected[path]:
            problems.append(Problem("the file was changed", where=str(folder / path)))
    if problems:
        problems.append(Problem("the model is not the one that was saved", str(folder), "Fetch or train it again."))
        raise RefusedError(problems)
    return hashlib.sha256(raw).hexdigest()


def _read(folder: Path) -> tuple[bytes, dict[str, str]]:
    """Returns the manifest as bytes and as relative path -> SHA-256."""
    path = folder / NAME
    try:
        if path.is_symlink():
            raise ValueError("it is a link")
        raw = path.read_bytes()
        document = json.loads(raw)
        if document["version"] != VERSION:
            raise ValueError(f"its version is {document['version']!r}, known is {VERSION}")
        files = {str(name): str(digest) for name, digest in document["files"].items()}
        for name in files:
            if not _is_inside(name):
                raise ValueError(f"it names {name!r}, which is outside of the folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = "there is none" if isinstance(error, FileNotFoundError) else str(error)
        raise RefusedError(f"the model has no usable manifest: {reason}", where=str(path)) from error
    return raw, files


def _is_inside(name: str) -> bool:
    path = PurePosixPath(name)
    return (
        name == path.as_posix() and not path.is_absolute() and ".." not in path.parts and not re.search(r"[\\\0]", name)
    )


def _scan(folder: Path) -> tuple[dict[str, str], list[Problem]]:
    """Returns relative path -> SHA-256 of the plain files, and a problem for everything that is none."""
    files: dict[str, str] = {}
    problems: list[Problem] = []
    for path in sorted(_walk(folder)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            # A link would be hashed here and could point elsewhere when the model is loaded.
            problems.append(Problem("a model folder holds plain files only, no links", where=str(path)))
        elif name not in _OUTSIDE:
            with path.open("rb") as file:
                files[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return files, problems


def _walk(folder: Path) -> Iterator[Path]:
    """Yields everything below a folder but folders; a link to a folder is yielded, not entered."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path
