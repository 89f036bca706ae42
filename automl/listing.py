"""What a study can name: components, metrics, samplers, pruners, search spaces."""

from __future__ import annotations

import inspect
from typing import Any, get_args

from automl import metrics, search_space
from automl.components import CATALOGUES, Component
from automl.documents import read_yaml
from automl.errors import ConfigError, did_you_mean
from automl.study_spec import PrunerSpec, SamplerSpec


def components(kind: str | None = None) -> list[dict[str, Any]]:
    """Returns what there is of one kind, or of all.

    Raises:
        ConfigError: There is no such kind.
    """
    rows = [_row(component) for known in CATALOGUES.values() for component in known]
    for metric in metrics.METRICS.values():
        tasks = ", ".join(sorted(metric.tasks))
        rows.append(_plain("metric", metric.name, f"{metric.direction.value}; {tasks}"))
    rows += [_plain("sampler", name, "proposes configurations") for name in _names(SamplerSpec)]
    rows += [_plain("pruner", name, "stops trials early") for name in _names(PrunerSpec)]
    for path in sorted(search_space.bundled().glob("*.yaml")):
        rows.append(_plain("search_space", path.stem, str(read_yaml(path).get("description", ""))))
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    if kind is not None and kind not in kinds:
        raise ConfigError(f"unknown kind of component `{kind}`", remedy=did_you_mean(kind, kinds))
    return [row for row in rows if kind in (None, row["kind"])]


def parameters(row: dict[str, Any]) -> str:
    """Returns a row's hyperparameters in one line."""
    return ", ".join(
        name if parameter["default"] is None else f"{name}={parameter['default']}"
        for name, parameter in row["hyperparameters"].items()
    )


def _row(component: Component) -> dict[str, Any]:
    known = component.hyperparameters.values()
    return {
        "kind": component.kind,
        "name": component.name,
        "hyperparameters": {
            one.name: {"default": None if one.required else one.default, "allowed": one.describe()} for one in known
        },
        "summary": component.summary,
    }


def _plain(kind: str, name: str, summary: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "hyperparameters": {}, "summary": inspect.cleandoc(summary)}


def _names(model: type[SamplerSpec] | type[PrunerSpec]) -> list[str]:
    return list(get_args(model.model_fields["name"].annotation))
