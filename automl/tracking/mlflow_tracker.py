"""Tracking in MLflow: the only module that imports it, and only once something is to be sent.

Runs are named by their ids through the client. The fluent API is not used: it holds a current run, and obeys run and
experiment ids that a surrounding process left in the environment.
"""

from __future__ import annotations

import functools
import getpass
import json
import math
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from automl import manifest
from automl.errors import TrackingError
from automl.redaction import redact
from automl.tracking.tracker import (
    MAX_PARAM_LENGTH,
    MAX_TAG_LENGTH,
    DatasetUse,
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
    sqlite_path,
)
from automl.values import Scalar

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, LoggedModel, Metric, Run
    from mlflow.entities.model_registry import ModelVersion as MlflowModelVersion
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.exceptions import MlflowException

Result = TypeVar("Result")

KEY_TAG = "automl.key"
KIND_TAG = "automl.kind"
DIGEST_TAG = "automl.manifest"

_STATUS = {
    RunState.COMPLETE: "FINISHED",
    RunState.PRUNED: "KILLED",
    RunState.FAILED: "FAILED",
    RunState.STOPPED: "KILLED",
}

#: Codes of refusals that no repetition changes. BAD_REQUEST is what a database store says of a value it cannot hold.
_FINAL = frozenset(
    {"BAD_REQUEST", "INVALID_PARAMETER_VALUE", "INVALID_STATE", "MALFORMED_REQUEST", "RESOURCE_DOES_NOT_EXIST"}
)

#: What MLflow reads at every call, where the person has not said otherwise. By default it would wait four minutes for
#: a dead server and twenty for a hanging one, print to stdout, and report its use.
_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}

#: What a surrounding MLflow run leaves to its children; the model's id would be attached to every metric.
_INHERITED = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_ACTIVE_MODEL_ID", "_MLFLOW_ACTIVE_MODEL_ID")


class MlflowTracker:
    """Implements `Tracker` and `Registry` over an MLflow server or database.

    Making one touches neither MLflow nor the server: the first call does.

    Args:
        tracking_uri: `http(s)://...`, or a database such as `sqlite:////abs/mlflow.db` or `postgresql+psycopg://...`.

    Raises:
        TrackingError: MLflow no longer stores runs in plain folders, but that is what the URI names.
    """

    def __init__(self, tracking_uri: str) -> None:
        if "://" not in tracking_uri and tracking_uri != "databricks":
            raise TrackingError(
                f"`{tracking_uri}` is no tracking server or database",
                remedy="Name one as http://host:5000 or sqlite:////path/to/mlflow.db.",
            )
        if tracking_uri.startswith("file:"):
            raise TrackingError(
                f"MLflow no longer stores runs in a folder such as `{tracking_uri}`",
                remedy="Name a database, as in sqlite:////path/to/mlflow.db; `mlflow migrate-filestore` converts.",
            )
        self.tracking_uri = tracking_uri
        self._experiments: dict[str, str] = {}

    # --- Tracker -----------------------------------------------------------------------------------------------

    def open_run(self, start: RunStart, parent_run_id: str | None = None, *, new: bool = False) -> RunRef:
        with self._seam():
            experiment_id = self._experiment(start.experiment)
            runs = [] if new else self._runs(experiment_id, start.key)
            if not runs:
                made = self._client.create_run(
                    experiment_id, start.started_ms, _run_tags(start, parent_run_id), clean_text(start.name, 250)
                )
                # A request to a server that timed out may have been carried out, and was repeated by MLflow's client.
                runs = [made] if self._is_database else self._runs(experiment_id, start.key)
            else:
                self.log(runs[0].info.run_id, tags=start.tags)
            run, *doubles = runs
            for double in doubles:
                self._client.delete_run(double.info.run_id)
            run_id: str = run.info.run_id
            if run.info.status != "RUNNING":
                self._client.update_run(run_id, status="RUNNING")
            if start.datasets:
                self._client.log_inputs(run_id, [_dataset(dataset) for dataset in start.datasets])
            self.log(run_id, params=start.params)
            return RunRef(experiment_id, run_id)

    def find_runs(self, experiment: str, key: str) -> dict[str, list[FoundRun]]:
        with self._seam():
            found = self._client.get_experiment_by_name(experiment)
            if found is None:
                return {}
            runs = self._runs(found.experiment_id, key)
            for parent in list(runs):
                runs += self._children(found.experiment_id, parent.info.run_id)
            by_key: dict[str, list[FoundRun]] = {}
            for run in runs:
                states = frozenset(state for state, status in _STATUS.items() if status == run.info.status)
                seen = FoundRun(run.info.run_id, states, dict(run.data.metrics))
                by_key.setdefault(run.data.tags.get(KEY_TAG, ""), []).append(seen)
            return by_key

    def log(
        self,
        run_id: str,
        *,
        metrics: Sequence[MetricPoint] = (),
        params: Mapping[str, Scalar] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        with self._seam():
            from mlflow.entities import Param, RunTag

            # The client splits what is more than a request may hold.
            self._client.log_batch(
                run_id,
                metrics=[_metric(point) for point in metrics],
                params=[Param(clean_key(n), clean_text(v, MAX_PARAM_LENGTH)) for n, v in (params or {}).items()],
                tags=[RunTag(clean_key(n), clean_text(v, MAX_TAG_LENGTH)) for n, v in (tags or {}).items()],
                synchronous=True,
            )

    def log_artifact(self, run_id: str, path: Path, to: str = "") -> None:
        if not path.exists():
            raise RejectedError(f"there is no artifact {path}")
        with self._seam():
            self._client.log_artifact(run_id, str(path), to or None)

    def log_model(
        self,
        run_id: str,
        folder: Path,
        *,
        name: str,
        params: Mapping[str, Scalar] | None = None,
        metrics: Sequence[MetricPoint] = (),
    ) -> str:
        digest = manifest.verify(folder)
        with self._seam():
            from mlflow.entities import LoggedModelOutput

            run = self._client.get_run(run_id)
            model = self._logged(run, name, digest) or self._client.create_logged_model(
                run.info.experiment_id,
                name=_model_name(name),
                source_run_id=run_id,
                tags={DIGEST_TAG: digest},
                params={clean_key(n): clean_text(v, MAX_PARAM_LENGTH) for n, v in (params or {}).items()},
            )
            model_id: str = model.model_id
            # READY comes last, so that a model that was interrupted is taken up again here and never taken for whole.
            if str(model.status) != "READY":
                self._client.log_model_artifacts(model_id, str(folder))
                if metrics:
                    self._client.log_batch(run_id, [_metric(p, model_id) for p in metrics], synchronous=True)
                if run.outputs is None or model_id not in {output.model_id for output in run.outputs.model_outputs}:
                    self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
                self._client.finalize_logged_model(model_id, "READY")
            return f"models:/{model_id}"

    def close_run(self, run_id: str, state: RunState, ended_ms: int) -> None:
        with self._seam():
            self._client.set_terminated(run_id, _STATUS[state], ended_ms)

    # --- Registry ----------------------------------------------------------------------------------------------

    def add_version(self, model: str, model_uri: str, tags: Mapping[str, str] | None = None) -> int:
        with self._seam():
            logged = self._logged_model(model_uri)
            if self._registered(model) is None:
                self._unless("RESOURCE_ALREADY_EXISTS", lambda: self._client.create_registered_model(model))
            # By location: a database store would look `models:/m-...` up through MLflow's process-wide tracking URI.
            version = self._client.create_model_version(
                model,
                source=logged.artifact_location,
                run_id=logged.source_run_id,
                tags={clean_key(name): clean_text(value, MAX_TAG_LENGTH) for name, value in (tags or {}).items()},
                model_id=logged.model_id,
            )
            number = int(version.version)
            self._note_version(logged.model_id, model, number)
            return number

    def alias(self, model: str, alias: str) -> ModelVersion | None:
        with self._seam():
            known = self._registered(model)
            if known is None or alias not in known.aliases:
                return None
            return _version(self._client.get_model_version(model, str(known.aliases[alias])), known.aliases)

    def point(self, model: str, alias: str, version: int) -> None:
        with self._seam():
            self._client.set_registered_model_alias(model, alias, str(version))

    def versions(self, model: str) -> list[ModelVersion]:
        with self._seam():
            known = self._registered(model)
            if known is None:
                return []
            quote = '"' if "'" in model else "'"
            found = self._client.search_model_versions(f"name={quote}{model}{quote}", max_results=10_000)
            return sorted(
                (_version(version, known.aliases) for version in found), key=lambda v: v.version, reverse=True
            )

    def download(self, uri: str, to: Path) -> Path:
        require_empty(to)
        with self._seam():
            from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

            # MLflow's own download resolves `models:/` through its process-wide URIs and adds a file to the folder.
            repository = get_artifact_repository(self._location(uri), tracking_uri=self.tracking_uri)
            repository.download_artifacts("", dst_path=str(to))  # type: ignore[no-untyped-call]
            return to

    # --- runs and experiments ----------------------------------------------------------------------------------

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            experiment = self._client.get_experiment_by_name(name)
            if experiment is None:
                location = self._artifact_location(name)
                self._unless("RESOURCE_ALREADY_EXISTS", lambda: self._client.create_experiment(name, location))
                experiment = self._client.get_experiment_by_name(name)
            assert experiment is not None  # made above, by this process or by one that was faster
            if experiment.lifecycle_stage != "active":
                raise TrackingError(
                    f"the experiment `{name}` was deleted in MLflow",
                    where=self.shown_uri,
                    remedy=f"Restore it (`mlflow experiments restore -x {experiment.experiment_id}`) or name another.",
                )
            self._experiments[name] = experiment.experiment_id
        return self._experiments[name]

    def _artifact_location(self, name: str) -> str | None:
        """Returns the folder beside a database file, where a server started there finds it; else the server's own.

        MLflow would take the working folder instead.
        """
        path = sqlite_path(self.tracking_uri)
        return None if path is None else str(path.parent / "mlruns" / clean_key(name.replace("/", "_")))

    def _runs(self, experiment_id: str, key: str) -> list[Run]:
        return list(
            self._client.search_runs(
                [experiment_id],
                f"tags.`{KEY_TAG}` = '{key_tag(key)}'",
                order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
            )
        )

    def _children(self, experiment_id: str, run_id: str) -> list[Run]:
        runs, token = [], None
        while True:
            page = self._client.search_runs(
                [experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'", max_results=1000, page_token=token
            )
            runs += list(page)
            token = page.token
            if not token:
                return runs

    # --- models ------------------------------------------------------------------------------------------------

    def _logged(self, run: Run, name: str, digest: str) -> LoggedModel | None:
        """Returns the model that a run has already logged from a folder with this manifest."""
        found = self._client.search_logged_models([run.info.experiment_id], f"tags.`{DIGEST_TAG}` = '{digest}'")
        mine = (m for m in found if m.source_run_id == run.info.run_id and m.name == _model_name(name))
        return next(mine, None)

    def _logged_model(self, uri: str) -> LoggedModel:
        """Returns the model of `models:/m-...` or of `runs:/ID`."""
        if uri.startswith("runs:/"):
            run = self._client.get_run(uri.removeprefix("runs:/"))
            outputs = [] if run.outputs is None else run.outputs.model_outputs
            models = [self._client.get_logged_model(output.model_id) for output in outputs]
            if not models:
                raise TrackingError(f"the run {run.info.run_id} logged no model", where=self.shown_uri)
            return max(models, key=lambda model: model.creation_timestamp)
        return self._client.get_logged_model(uri.removeprefix("models:/"))

    def _location(self, uri: str) -> str:
        """Returns where the files of a model are."""
        match = re.fullmatch(r"models:/(?P<model>[^/@:]+)(@(?P<alias>[^/@:]+)|/(?P<version>\d+))", uri)
        if match is None:
            return str(self._logged_model(uri).artifact_location)
        model, version = match["model"], match["version"]
        if version is None:
            version = self._client.get_model_version_by_alias(model, match["alias"]).version
        return str(self._client.get_model_version_download_uri(model, str(version)))

    def _registered(self, model: str) -> RegisteredModel | None:
        return self._unless("RESOURCE_DOES_NOT_EXIST", lambda: self._client.get_registered_model(model))

    def _note_version(self, model_id: str, model: str, version: int) -> None:
        """Links a logged model to a version of it in the UI, as a server does and a database store does not."""
        tag = "mlflow.modelVersions"
        known = json.loads(self._client.get_logged_model(model_id).tags.get(tag, "[]"))
        if not any((one["name"], int(one["version"])) == (model, version) for one in known):
            known.append({"name": model, "version": version})
            self._client.set_logged_model_tags(model_id, {tag: json.dumps(known)})

    @property
    def _is_database(self) -> bool:
        """Whether there is no server in between."""
        from mlflow.store.db.db_types import DATABASE_ENGINES

        return self.tracking_uri.partition(":")[0].partition("+")[0] in DATABASE_ENGINES

    # --- the seam ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _client(self) -> MlflowClient:
        registry_uri = os.environ.get("MLFLOW_REGISTRY_URI") or self.tracking_uri
        path = sqlite_path(self.tracking_uri)
        if path is not None and not path.exists():
            _make_database(path)
        client: MlflowClient = _mlflow().MlflowClient(tracking_uri=self.tracking_uri, registry_uri=registry_uri)
        return client

    @property
    def shown_uri(self) -> str:
        """The tracking URI without a password."""
        return redact(self.tracking_uri)

    @staticmethod
    def _unless(code: str, call: Callable[[], Result]) -> Result | None:
        """Returns what the call returns, or None when MLflow refuses it with this error code."""
        from mlflow.exceptions import MlflowException

        try:
            return call()
        except MlflowException as error:
            if error.error_code != code:
                raise
            return None

    @contextmanager
    def _seam(self) -> Iterator[None]:
        """Turns what MLflow, its database and its transport raise into errors that say what to do."""
        _mlflow()
        from mlflow.exceptions import MlflowException
        from requests import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except MlflowException as error:
            kind = RejectedError if error.error_code in _FINAL else TrackingError
            raise kind(f"MLflow says: {_sentence(error)}", where=self.shown_uri, remedy=_remedy(error)) from error
        except (RequestException, SQLAlchemyError, ImportError, OSError) as error:
            half_made = "_alembic_tmp_" in str(error)
            remedy = "MLflow was killed while it made its tables: move the database away, then `automl sync`."
            raise TrackingError(
                f"MLflow failed: {_sentence(error)}", where=self.shown_uri, remedy=remedy if half_made else ""
            ) from error


def _make_database(path: Path) -> None:
    """Makes the SQLite file of a new store, whole or not at all.

    MLflow makes its tables step by step, and can never open a file again whose maker was killed between two of them.
    """
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import create_engine

    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as scratch:
        made = Path(scratch) / path.name
        engine = create_engine(f"sqlite:///{made}")
        _initialize_tables(engine)  # type: ignore[no-untyped-call]
        engine.dispose()
        with suppress(FileExistsError):  # another process was faster
            os.link(made, path)


def write_mlmodel(
    folder: Path,
    *,
    loader_module: str,
    inputs: Sequence[tuple[str, str, bool]],
    outputs: Sequence[tuple[str, str]],
    requirements: Sequence[str],
    example: Sequence[Mapping[str, Scalar]] = (),
) -> None:
    """Makes a folder a model that `mlflow.pyfunc.load_model` and `mlflow models serve` take.

    Nothing is inferred: that takes MLflow seconds, and imports whatever the model imports. The model's id is left out,
    since it is only known when the folder is finished and hashed; MLflow does not need it.

    Args:
        folder: Holds what the loader needs; gets `MLmodel`, the environment's files and the example.
        loader_module: Has `_load_pyfunc(path)`, which is given the folder itself.
        inputs: Name, MLflow type (`double`, `long`, `string`, `boolean`, `datetime`; or `any`) and whether it must be
            there. Empty: it takes arrays, and nothing is said of them.
        outputs: Name and MLflow type. Empty: nobody knows.
        requirements: Lines of a requirements file.
        example: Made-up rows of input, shown by MLflow beside the model; never rows of a person's table.

    Raises:
        TrackingError: MLflow is not installed, or a type is none of its.
    """
    _mlflow()
    from mlflow import pyfunc
    from mlflow.exceptions import MlflowException
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec
    from mlflow.types.schema import AnyType

    anything: Any = AnyType()  # type: ignore[no-untyped-call]
    try:
        columns: list[ColSpec | TensorSpec] = [
            ColSpec(anything if kind == "any" else kind, name, required=required) for name, kind, required in inputs
        ]
        of_outputs = Schema([ColSpec(kind, name) for name, kind in outputs]) if outputs else None
        signature = ModelSignature(inputs=Schema(columns), outputs=of_outputs) if columns else None
    except MlflowException as error:
        raise TrackingError(f"MLflow cannot describe the model's columns: {_sentence(error)}") from error
    model = Model(signature=signature)
    pyfunc.add_to_model(model, loader_module, conda_env="conda.yaml", python_env="python_env.yaml")
    if example:
        model.saved_input_example_info = _write_example(folder, [name for name, _, _ in inputs], example)
    _write_environment(folder, requirements)
    model.save(str(folder / "MLmodel"))


def _write_example(folder: Path, names: Sequence[str], example: Sequence[Mapping[str, Scalar]]) -> dict[str, str]:
    """Returns what MLmodel says of an example, after writing it in the forms for loading and for serving."""
    rows = [[_plain(row.get(name)) for name in names] for row in example]
    table = {"columns": list(names), "data": rows}
    documents = {"input_example.json": table, "serving_input_example.json": {"dataframe_split": table}}
    for name, document in documents.items():
        (folder / name).write_text(json.dumps(document, indent=1), encoding="utf-8")
    path, serving_path = documents
    return {"artifact_path": path, "serving_input_path": serving_path, "type": "dataframe", "pandas_orient": "split"}


def _write_environment(folder: Path, requirements: Sequence[str]) -> None:
    """Writes the three files from which MLflow builds an environment for the model."""
    python = platform.python_version()
    conda = {
        "name": "model",
        "channels": ["conda-forge"],
        "dependencies": [f"python={python}", "pip", {"pip": list(requirements)}],
    }
    virtualenv = {"python": python, "build_dependencies": ["pip"], "dependencies": ["-r requirements.txt"]}
    (folder / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
    (folder / "conda.yaml").write_text(yaml.safe_dump(conda, sort_keys=False), encoding="utf-8")
    (folder / "python_env.yaml").write_text(yaml.safe_dump(virtualenv, sort_keys=False), encoding="utf-8")


def _plain(value: Scalar) -> Scalar:
    """Returns None for NaN and infinity, which JSON does not know."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


@functools.cache
def _mlflow() -> ModuleType:
    """Returns MLflow, imported with settings that suit a program.

    Raises:
        TrackingError: It is not installed. A folder `mlflow/` in the working folder is then imported in its place,
            without an error: it has no file.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in _INHERITED:
        os.environ.pop(name, None)
    remedy = f"Install it: {sys.executable} -m pip install 'mlflow>=3.17.2,<4'."
    try:
        import mlflow
    except ImportError as error:
        raise TrackingError(f"MLflow cannot be imported: {error}", remedy=remedy) from error
    if mlflow.__file__ is None:
        raise TrackingError("MLflow is not installed", remedy=remedy)
    return mlflow


def _run_tags(start: RunStart, parent_run_id: str | None) -> dict[str, str]:
    """Returns the tags that make a run findable and nested, and that fill the UI's columns."""
    tags = {
        KEY_TAG: key_tag(start.key),
        KIND_TAG: start.kind.value,
        "mlflow.source.name": "automl",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        **{clean_key(name): clean_text(value, MAX_TAG_LENGTH) for name, value in start.tags.items()},
    }
    return tags if parent_run_id is None else {**tags, "mlflow.parentRunId": parent_run_id}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run under a number without a name
        return "unknown"


def _metric(point: MetricPoint, model_id: str | None = None) -> Metric:
    from mlflow.entities import Metric

    return Metric(clean_key(point.name), clean_metric(point.value), point.timestamp_ms, point.step, model_id=model_id)


def _dataset(use: DatasetUse) -> DatasetInput:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    columns = [{"type": kind, "name": name, "required": True} for name, kind in use.columns]
    schema = json.dumps({"mlflow_colspec": columns})
    dataset = Dataset(
        name=clean_text(use.name, 500),
        digest=use.digest[:36],
        source_type="local",
        source=json.dumps({"uri": use.source}),
        schema=schema if len(schema) < 1_000_000 else None,  # MLflow refuses more
        profile=json.dumps({"num_rows": use.n_rows, "num_elements": use.n_rows * len(use.columns)}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", use.context)])


def _model_name(name: str) -> str:
    return re.sub(r"[/:.%\"'\0]", "_", name) or "model"


def _version(version: MlflowModelVersion, aliases: Mapping[str, Any]) -> ModelVersion:
    number = int(version.version)
    return ModelVersion(
        model=version.name,
        version=number,
        run_id=version.run_id or None,
        created_ms=version.creation_timestamp,
        tags=dict(version.tags),
        aliases=frozenset(alias for alias, pointed in aliases.items() if int(pointed) == number),
    )


def _sentence(error: Exception) -> str:
    """Returns the first line of a message, short and without passwords."""
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return redact(line)[:500].rstrip(".")


def _remedy(error: MlflowException) -> str:
    if "database schema" in str(error):
        return "The database is of another MLflow version: back it up and run `mlflow db upgrade URL`."
    if error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED", "CUSTOMER_UNAUTHORIZED"):
        return "Check MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD or MLFLOW_TRACKING_TOKEN."
    if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
        return "Check that the server runs and can be reached."
    return ""
