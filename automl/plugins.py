"""The only dynamic importing: fills the catalogues with the built-in components and with plug-ins.

A plug-in is a module that registers components when it is imported. It comes from a built-in folder, from an
installed package's entry point in the group `automl.plugins`, or from the person who runs (`--plugin my_lab.models`,
`AUTOML_PLUGINS=my_lab.models,my_lab.steps`). A study's YAML never imports code; it only says what it needs.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import pkgutil
import sys
from collections.abc import Sequence

from automl.components import catalogue
from automl.errors import ConfigError

#: Modules whose import registers components.
REGISTERING = (
    "automl.data.sources",
    "automl.preprocessing.tokenisation",
    "automl.preprocessing.vectorisation",
    "automl.preprocessing.cleaning",
    "automl.preprocessing.imputation",
    "automl.preprocessing.encoding",
    "automl.preprocessing.clipping",
    "automl.preprocessing.scaling",
    "automl.preprocessing.resampling",
    "automl.preprocessing.selection",
    "automl.preprocessing.reduction",
    "automl.optimizers",
    "automl.schedules",
    "automl.losses",
    "automl.augmentations",
    "automl.averaging",
    "automl.balancing",
    "automl.draws",
    "automl.domains",
)
ENTRY_POINTS = "automl.plugins"
VARIABLE = "AUTOML_PLUGINS"

_imported: dict[str, None] = {}


@functools.cache
def load_builtin() -> None:
    """Registers everything that comes with the package. A second call does nothing.

    A network file depends on torch and nothing of ours, so it carries no decorator: the public name in
    `networks/mlp.py` that the file is named after is the network `mlp`. The kinds of blocks that it takes beside
    columns stand in its `TAKES`.
    """
    for module in REGISTERING:
        importlib.import_module(module)
    networks = importlib.import_module("automl.networks")
    for found in pkgutil.iter_modules(networks.__path__):
        if not found.name.startswith("_"):
            module_ = importlib.import_module(f"automl.networks.{found.name}")
            catalogue("network").add(found.name, getattr(module_, found.name), getattr(module_, "TAKES", ()))


def load(named: Sequence[str] = ()) -> tuple[str, ...]:
    """Registers built-in components, installed plug-ins and those named by the person who runs.

    Args:
        named: Importable module names, beside those in `AUTOML_PLUGINS`.

    Returns:
        The names of the plug-in modules that were imported.

    Raises:
        ConfigError: A plug-in cannot be imported.
    """
    modules = named_modules(named)
    import_modules(modules)
    return modules


def import_modules(modules: Sequence[str]) -> None:
    """Registers built-in components and those of the modules named, and of no others.

    Raises:
        ConfigError: A plug-in cannot be imported.
    """
    load_builtin()
    if modules and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` does; last, so that nothing installed is shadowed
    for module in modules:
        try:
            importlib.import_module(module)
            _imported[module] = None
        except ConfigError:
            raise
        except Exception as error:  # whatever the plug-in's own code raises
            raise ConfigError(
                f"the plug-in `{module}` cannot be imported: {type(error).__name__}: {error}",
                where="--plugin",
                remedy="Install it, or name a module that Python finds from this folder.",
            ) from error


def imported() -> tuple[str, ...]:
    """Returns the names of the plug-in modules that have been imported, for a process that is to know the same."""
    return tuple(_imported)


def named_modules(named: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the names of the plug-in modules that `load` would import; imports none."""
    installed = [entry.value.partition(":")[0] for entry in importlib.metadata.entry_points(group=ENTRY_POINTS)]
    from_environment = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    return tuple(dict.fromkeys([*installed, *from_environment, *named]))


def require(needed: Sequence[str], loaded: Sequence[str], *, where: str) -> None:
    """Checks that the plug-ins a study says it needs were named by the person who runs.

    Raises:
        ConfigError: Names the flag to add.
    """
    missing = [name for name in needed if name not in loaded]
    if missing:
        flags = " ".join(f"--plugin {name}" for name in missing)
        raise ConfigError(
            f"needs the plug-ins {', '.join(f'`{name}`' for name in missing)}, which are not loaded",
            where=where,
            remedy=f"A study cannot import code by itself; add {flags}",
        )
