"""The hashes of a model folder, written when it is made and checked before anything in it is loaded."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from automl.documents import read_yaml
from automl.errors import AutomlError, Problem, RefusedError

NAME = "manifest.json"
VERSION = 1

#: Not part of the model: the manifest itself, and a note that MLflow drops into a folder that it loads by
#: `models:/...` (into the store's own copy where the store is a local folder). Neither is read when a model is loaded.
_OUTSIDE = frozenset({NAME, "registered_model_meta"})

#: What a model folder may hold beside MLflow's `MLmodel`: nothing that is run or unpickled by whoever opens it.
_KINDS = frozenset({".json", ".yaml", ".txt", ".safetensors", ".skops"})
#: How MLflow may load it: the module that it imports, and nothing that would bring code along.
LOADER = "automl.predictor"
_FLAVOR_KEYS = frozenset({"env", "loader_module", "python_version"})


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
        RefusedError: Names every changed, missing, added and foreign file at once.
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
    problems += _foreign(folder, found)
    if problems:
        problems.append(Problem("the model is not the one that was saved", str(folder), "Fetch or train it again."))
        raise RefusedError(problems)
    return hashlib.sha256(raw).hexdigest()


def _foreign(folder: Path, names: Iterable[str]) -> Iterator[Problem]:
    """Yields a problem for everything that is no part of a model of ours, whatever the manifest says of it."""
    for name in sorted(names):
        if name != "MLmodel" and PurePosixPath(name).suffix not in _KINDS:
            yield Problem("a model of ours holds no such file", where=str(folder / name))
    if "MLmodel" not in names:
        return
    where = str(folder / "MLmodel")
    try:
        flavors = read_yaml(folder / "MLmodel")["flavors"]
        loaders = {str(config.get("loader_module", LOADER)) for config in flavors.values()}
        keys = {key for config in flavors.values() for key in config}
    except (AutomlError, AttributeError, KeyError, TypeError) as error:
        yield Problem(f"cannot be read: {error}", where=where)
        return
    for loader in sorted(loaders - {LOADER}):
        yield Problem(f"names `{loader}` to load it, which is not ours", where=where)
    for name in sorted(({*flavors} - {"python_function"}) | (keys - _FLAVOR_KEYS)):
        yield Problem(f"names `{name}`, by which code could come along", where=where)


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
