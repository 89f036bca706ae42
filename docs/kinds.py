"""Writes docs/kinds.md from the catalogues: `python docs/kinds.py`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from automl import jobs, plugins, reference_model, search_space
from automl.architecture import STRUCTURED
from automl.components import STAGES, Component, catalogue
from automl.data.blocks import AXES
from automl.preprocessing.preprocessing import READING
from automl.values import Block, Column, ColumnKind, Schema, Target, Task

PAGE = Path(__file__).with_name("kinds.md")

BEGINNING = """# Which kinds of data, which networks

*Written by `make kinds` from what is registered; nothing here is written by hand but the first lines of each kind.*

A table has columns. Columns that are one thing are a block, which the study names under `blocks`; columns of texts are
read by themselves. Several kinds in one table are brought together by the network `mixture`. Every network takes every
table: what it does not know, it sees as columns. With `search_space: auto` the space is chosen by what the table holds.
"""

#: Kind -> what it is, how a study says it, and what is done to it before any stage.
KINDS = {
    "columns": (
        "Numbers, truth values, dates and categories. They are recognised; `kinds: {zip: categorical}` says otherwise.",
        "Dates become days, years, months, weekdays and hours. All stages of preprocessing work on columns.",
    ),
    "image": (
        'Pixels in columns: `blocks: [{kind: image, columns: "p*", shape: [1, 28, 28]}]`. Files that a column names: '
        "`[{kind: image_files, column: photo, root: photos/}]`. Folders that are classes: `automl run --data images/`.",
        "Each channel is centred and scaled; a missing pixel is the mean of its channel.",
    ),
    "sequence": (
        'Steps in columns: `blocks: [{kind: sequence, columns: "c*_t*", shape: [12, 25]}]`. A row a step, in a file or '
        "in the table: `[{kind: sequence, file: readings.csv, id: patient, time: t, values: [heart_rate, pressure]}]`.",
        "Each channel is centred and scaled; gaps are closed by lines; where rows end early, one more channel says so.",
    ),
    "tokens": (
        "Texts: columns of many different words are recognised; `kinds: {remark: text}` says so.",
        "Networks that read tokens get what `tokenisation` makes of it, by default words and signs in their order; all "
        "others what `vectorisation` makes of it, by default directions of TF-IDF weights.",
    ),
}


def page() -> str:
    """Returns the page."""
    plugins.load_builtin()
    networks = _components("network")
    spaces = {path.stem: search_space.load(path) for path in sorted(search_space.bundled().glob("*.yaml"))}
    shown = {
        network.name: [name for name, space in spaces.items() if network.name in [o.name for o in space.network]]
        for network in networks
    }
    lines = [BEGINNING, "## Kinds"]
    for kind in ("columns", *(kind for kind in STRUCTURED)):
        lines += _kind(kind, networks)
    lines += ["", "## References", "", "What a search has to beat, and may take into its ensemble.", ""]
    lines += ["| reference | what it is |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(about)} |" for name, about in reference_model.ABOUT.items()]
    lines += ["", "## Networks"]
    for network in networks:
        lines += _network(network, shown[network.name])
    return "\n".join(lines) + "\n"


def _kind(kind: str, networks: Sequence[Component]) -> Iterator[str]:
    said, prepared = KINDS.get(kind, ("", ""))
    yield from ("", f"### {'text' if kind == 'tokens' else kind}", "", said, "", "| | |", "|---|---|")
    if kind in AXES:
        yield f"| shape | {AXES[kind]} |"
    yield f"| before all stages | {prepared} |"
    if kind == "columns":
        for stage in (stage for stage in STAGES if stage not in READING):
            yield f"| {stage} | {_names(component.name for component in _components(stage))} |"
    if kind == "tokens":
        for stage in READING:
            yield f"| {stage} | {_names(component.name for component in _components(stage))} |"
    read = [network.name for network in networks if kind in network.traits]
    others = [network.name for network in networks if not network.traits.intersection(STRUCTURED)]
    if kind == "columns":
        yield f"| networks | {_names(others)}; the others see columns beside their blocks |"
    else:
        yield f"| networks that read it | {_names(read)} |"
        yield f"| networks that see it as columns | {_names(others)} |"
    augmentations = _components("augmentation")
    suiting = [c.name for c in augmentations if kind in c.traits or not c.traits.intersection(STRUCTURED)]
    yield f"| augmentations | {_names(suiting)} |"
    more = [name for name in jobs.references(_schema(kind)) if name not in jobs.REFERENCES]
    yield f"| references | {_names(more or jobs.REFERENCES)}{', beside those of columns' if more else ''} |"
    auto = [search_space.auto(_schema(kind, task)).stem for task in (Task.BINARY, Task.REGRESSION)]
    yield f"| `search_space: auto` | {_names(dict.fromkeys(auto))} |"


def _network(network: Component, spaces: Sequence[str]) -> Iterator[str]:
    kinds = [kind for kind in STRUCTURED if kind in network.traits]
    takes = f"{_listed(['text' if kind == 'tokens' else kind for kind in kinds])}, with columns beside" if kinds else ""
    yield from ("", f"### {network.name}", "", _sentence(network.summary), "")
    yield f"Takes {takes or 'columns'}. Spaces: {_names(spaces) or 'none that is shipped'}."
    packages = [trait.removeprefix("package:") for trait in network.traits if trait.startswith("package:")]
    if packages:
        yield f"Needs the package {_names(sorted(packages))}."
    told = _arguments(network)
    yield from ("", "| hyperparameter | default | allowed | |", "|---|---|---|---|")
    for hyperparameter in network.hyperparameters.values():
        default = "null" if hyperparameter.default is None else str(hyperparameter.default)
        allowed, about = hyperparameter.describe(), told.get(hyperparameter.name, "")
        yield f"| `{hyperparameter.name}` | `{default}` | {_cell(allowed)} | {_cell(about)} |"


def _components(kind: str) -> list[Component]:
    """Returns what comes with the package, by name, without "nothing is done"."""
    known = [catalogue(kind)[name] for name in catalogue(kind).names() if name != "none"]
    return [component for component in known if component.factory.__module__.startswith("automl.")]


def _schema(kind: str, task: Task = Task.BINARY) -> Schema:
    """Returns a table that holds one thing of a kind."""
    column_kind = {"columns": ColumnKind.NUMERIC, "tokens": ColumnKind.TEXT}.get(kind) or ColumnKind(kind)
    shape = (1,) * len(AXES.get(kind, "").split(", "))
    blocks = (Block(kind, column_kind, ("x",), shape),) if kind in AXES else ()
    return Schema((Column("x", column_kind, "float64"),), Target("y", task), blocks)


def _arguments(network: Component) -> dict[str, str]:
    """Returns what a network's docstring says of its parameters."""
    text = (inspect.getdoc(network.factory) or "").partition("\nArgs:\n")[2].split("\n\n")[0]
    told: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        begins = re.match(r"    (\w[\w, ]*): (.*)", line)
        names = begins.group(1).split(", ") if begins else [name]
        for name in names:
            told[name] = begins.group(2) if begins else f"{told.get(name, '')} {line.strip()}"
    return told


def _sentence(summary: str) -> str:
    """Returns a docstring's first line without the verb that it begins with."""
    text = summary.removeprefix("Returns ")
    return text[:1].upper() + text[1:]


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _listed(words: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
