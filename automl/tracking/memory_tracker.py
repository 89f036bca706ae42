"""A tracker and registry in dictionaries: for tests, and for a run that should leave nothing behind."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from automl import manifest
from automl.errors import TrackingError
from automl.tracking.tracker import (
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    FoundRun,
    MetricPoint,
    ModelVersion,
    RejectedError,
    RunRef,
    RunStart,
    RunState,
    clean_key,
    clean_metric,
    clean_text,
    key_tag,
    require_empty,
)
from automl.values import Scalar


@dataclass(slots=True)
class MemoryRun:
    """What was recorded of one run.

    Attributes:
        state: None while the run is open.
        artifacts: Path in the run -> content.
        models: Names of the models it logged, by URI, in order.
    """

    start: RunStart
    ref: RunRef
    parent_run_id: str | None
    state: RunState | None = None
    ended_ms: int | None = None
    metrics: list[MetricPoint] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Model:
    run_id: str
    name: str
    digest: str
    files: dict[str, bytes]


class MemoryTracker:
    """Implements `Tracker` and `Registry` as MlflowTracker does, without MLflow."""

    def __init__(self) -> None:
        self.runs: dict[str, MemoryRun] = {}
        self._models: dict[str, _Model] = {}
        self._versions: dict[str, list[ModelVersion]] = {}
        self._sources: dict[tuple[str, int], str] = {}

    # --- Tracker -----------------------------------------------------------------------------------------------

    def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
        run = None if new else next((run for run in self.runs.values() if run.start.key == start.key), None)
        if run is None:
            ref = RunRef(experiment_id=start.experiment, run_id=f"run-{len(self.runs)}")
            run = self.runs[ref.run_id] = MemoryRun(start, ref, parent_run_id)
        run.state = None
        self.log(run.ref.run_id, params=start.params, tags=start.tags)
        return run.ref

    def find_runs(self, experiment: str, key: str) -> dict[str, list[FoundRun]]:
        parents = {run.ref.run_id for run in self.runs.values() if run.start.key == key}
        by_key: dict[str, list[FoundRun]] = {}
        for run_id, run in self.runs.items():
            if run.start.experiment == experiment and (run_id in parents or run.parent_run_id in parents):
                states = frozenset() if run.state is None else frozenset({run.state})
                last = {point.name: point.value for point in run.metrics}
                by_key.setdefault(key_tag(run.start.key), []).append(FoundRun(run_id, states, last))
        return by_key

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        run = self._run(run_id)
        for name, value in (params or {}).items():
            key, text = clean_key(name), clean_text(value, MAX_PARAM_LENGTH)
            if run.params.setdefault(key, text) != text:
                raise RejectedError(f"the param `{key}` of run {run_id} already has another value")
        run.tags.update({clean_key(name): clean_text(value, MAX_TAG_LENGTH) for name, value in (tags or {}).items()})
        for point in metrics:
            clean = replace(point, name=clean_key(point.name), value=clean_metric(point.value))
            if not any(_same(clean, known) for known in run.metrics):
                run.metrics.append(clean)

    def log_artifact(self, run_id: str, path: Path, to: str = "") -> None:
        run = self._run(run_id)
        if not path.exists():
            raise RejectedError(f"there is no artifact {path}")
        for name, content in (_contents(path) if path.is_dir() else {"": path.read_bytes()}).items():
            run.artifacts[(Path(to) / path.name / name).as_posix()] = content

    def log_model(
        self,
        run_id: str,
        folder: Path,
        *,
        name: str,
        params: Mapping[str, Scalar] | None = None,
        metrics: Sequence[MetricPoint] = (),
    ) -> str:
        run = self._run(run_id)
        digest = manifest.verify(folder)
        self.log(run_id, metrics=metrics)
        for uri, model in self._models.items():
            if (model.run_id, model.name, model.digest) == (run_id, name, digest):
                return uri
        uri = f"models:/m-{len(self._models)}"
        self._models[uri] = _Model(run_id, name, digest, _contents(folder))
        run.models[uri] = name
        return uri

    def close_run(self, run_id: str, state: RunState, ended_ms: int) -> None:
        run = self._run(run_id)
        run.state, run.ended_ms = state, ended_ms

    # --- Registry ----------------------------------------------------------------------------------------------

    def add_version(self, model: str, model_uri: str, tags: Mapping[str, str] | None = None) -> int:
        source = self._resolve(model_uri)
        versions = self._versions.setdefault(model, [])
        added = ModelVersion(
            model=model,
            version=len(versions) + 1,
            run_id=self._models[source].run_id,
            created_ms=time.time_ns() // 1_000_000,
            tags={clean_key(name): str(value) for name, value in (tags or {}).items()},
            aliases=frozenset(),
        )
        versions.append(added)
        self._sources[model, added.version] = source
        return added.version

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        return next((version for version in self._versions.get(model, ()) if alias in version.aliases), None)

    def point(self, model: str, alias: str, version: int) -> None:
        if (model, version) not in self._sources:
            raise RejectedError(f"there is no version {version} of the model `{model}`")
        self._versions[model] = [
            replace(known, aliases=known.aliases | {alias} if known.version == version else known.aliases - {alias})
            for known in self._versions[model]
        ]

    def versions(self, model: str) -> list[ModelVersion]:
        return self._versions.get(model, [])[::-1]

    def download(self, uri: str, to: Path) -> Path:
        require_empty(to)
        for name, content in self._models[self._resolve(uri)].files.items():
            path = to / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return to

    # -----------------------------------------------------------------------------------------------------------

    def _run(self, run_id: str) -> MemoryRun:
        try:
            return self.runs[run_id]
        except KeyError:
            raise RejectedError(f"there is no run {run_id}") from None

    def _resolve(self, uri: str) -> str:
        """Returns the URI of the logged model that a URI stands for."""
        if uri in self._models:
            return uri
        if uri.startswith("runs:/"):
            logged = list(self._run(uri.removeprefix("runs:/")).models)
            if logged:
                return logged[-1]
        model, at, alias = uri.removeprefix("models:/").partition("@")
        if at and (version := self.alias(model, alias)):
            return self._sources[model, version.version]
        model, _, number = model.rpartition("/")
        if number.isdecimal() and (model, int(number)) in self._sources:
            return self._sources[model, int(number)]
        raise TrackingError(f"there is no model {uri}")


def _same(one: MetricPoint, other: MetricPoint) -> bool:
    """Returns whether two points are one, where NaN is NaN."""
    if math.isnan(one.value) and math.isnan(other.value):
        one, other = replace(one, value=0.0), replace(other, value=0.0)
    return one == other


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
