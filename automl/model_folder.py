"""What a model folder of ours may hold. Its manifest says only that it is what somebody wrote a manifest for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from automl import manifest
from automl.errors import Problem, RefusedError

#: What a model folder may hold besides: nothing that is run or unpickled by whoever opens it.
_KINDS = frozenset({".json", ".yaml", ".txt", ".safetensors", ".skops"})
#: Files without an ending: MLflow's description, and a note that it drops into a folder that it loads by `models:/...`.
_NAMES = frozenset({"MLmodel", "registered_model_meta"})
#: How MLflow may load it: the module that it imports, and nothing that would bring code along.
LOADER = "automl.predictor"
_FLAVOR_KEYS = frozenset({"env", "loader_module", "python_version"})


def verify(folder: Path) -> str:
    """Returns the digest of the manifest of a folder that is intact, and holds nothing that is not ours.

    Raises:
        RefusedError: Names everything that is wrong.
    """
    digest = manifest.verify(folder)
    if problems := list(_foreign(folder)):
        raise RefusedError(problems)
    return digest


def _foreign(folder: Path) -> Iterator[Problem]:
    """Yields a problem for everything that is no part of a model of ours, whatever the manifest says of it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in _NAMES and path.suffix not in _KINDS:
            yield Problem("a model of ours holds no such file", where=str(path))
    mlmodel = folder / "MLmodel"
    if not mlmodel.is_file():  # the model of a trial
        return
    where = str(mlmodel)
    try:
        flavors = yaml.safe_load(mlmodel.read_text(encoding="utf-8"))["flavors"]
        loaders = {str(config.get("loader_module", LOADER)) for config in flavors.values()}
        keys = {key for config in flavors.values() for key in config}
    except (yaml.YAMLError, OSError, ValueError, AttributeError, LookupError, TypeError, RecursionError) as error:
        yield Problem(f"cannot be read: {error}", where=where)
        return
    for loader in sorted(loaders - {LOADER}):
        yield Problem(f"names `{loader}` to load it, which is not ours", where=where)
    for name in sorted(map(str, ({*flavors} - {"python_function"}) | (keys - _FLAVOR_KEYS))):
        yield Problem(f"names `{name}`, by which code could come along", where=where)
