"""What of a study goes to MLflow, and under which names. It is written to the spool; nothing waits for a server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from automl.study_folder import Prepared, StudyFolder
from automl.study_spec import StudySpec
from automl.tracking.spool import ArtifactLogged, Logged, ModelLogged, RunClosed, RunOpened, Spool
from automl.tracking.tracker import DatasetUse, MetricPoint, RunKind, RunStart, RunState
from automl.values import (
    ColumnKind,
    Configuration,
    EpochReport,
    ReferenceResult,
    StudyResult,
    TrialResult,
)

#: MLflow's types of the columns of a dataset.
_COLUMN_TYPES = {
    ColumnKind.NUMERIC: "double",
    ColumnKind.IMAGE: "double",
    ColumnKind.SEQUENCE: "double",
    ColumnKind.BOOLEAN: "boolean",
    ColumnKind.DATETIME: "datetime",
}
NOTE = "mlflow.note.content"


class Recorder:
    """Writes one study's runs to its spool.

    Args:
        prepared: Its `key` names the parent run; a trial's run is named by that and its number.
    """

    def __init__(self, spec: StudySpec, prepared: Prepared, folder: StudyFolder, spool: Spool) -> None:
        self._spec = spec
        self._prepared = prepared
        self._folder = folder
        self._spool = spool
        #: Of trials that have begun and not ended: metric name -> the last step that was logged.
        self._steps: dict[str, dict[str, int]] = {}

    @property
    def key(self) -> str:
        return self._prepared.key

    def trial_key(self, number: int) -> str:
        return f"{self.key}/trial/{number}"

    def study_started(self, tags: Mapping[str, str]) -> None:
        """Opens the parent run, with what was asked and what it is asked of."""
        spec, prepared = self._spec, self._prepared
        of_target = {"task": prepared.schema.target.task.value, "target": prepared.schema.target.name}
        params = {
            **({"data_module": prepared.data_module.name} if prepared.data_module else of_target),
            "objective": prepared.objective,
            "search_space": prepared.space_name,
            "sampler": spec.sampler.name,
            "pruner": spec.pruner.name,
            "validation": spec.validation.strategy,
            "seed": spec.seed,
            "n_search_rows": prepared.n_search,
            "n_test_rows": prepared.n_test,
            "n_columns": len(prepared.schema.used),
        }
        self._open(self.key, spec.name, RunKind.STUDY, params, {**tags, **self._tags()}, self._datasets())
        self._artifact(self.key, self._folder.spec)
        self._artifact(self.key, self._folder.prepared)

    def trial_started(self, number: int, configuration: Configuration) -> None:
        """Opens a trial's run with its parameters; the same run again, if the trial is gone on with."""
        self._open(self.trial_key(number), f"trial {number}", RunKind.TRIAL, configuration.flatten(), self._tags())

    def epoch(self, number: int, epoch: EpochReport) -> None:
        """Logs the objective and what else is known after one epoch; each fold has curves of its own.

        What was logged before the trial was cut off is not logged again.
        """
        name = self._prepared.objective if self._prepared.is_logged else f"val_{self._prepared.objective}"
        metrics = {**epoch.metrics, name: epoch.value}
        if self._prepared.n_folds > 1:
            metrics = {f"{name}/fold_{epoch.fold + 1}": value for name, value in metrics.items()}
        key = self.trial_key(number)
        steps = self._steps.setdefault(key, {})
        new = {name: value for name, value in metrics.items() if epoch.step > steps.get(name, -1)}
        if new:
            steps.update(dict.fromkeys(new, epoch.step))
            self._metrics(key, new, epoch.step)

    def trial_stopped(self, number: int) -> None:
        """Closes the run of a trial that was cut off and will be gone on with."""
        self._close(self.trial_key(number), RunState.STOPPED)

    def trial_ended(self, result: TrialResult, traceback: str = "") -> None:
        """Closes a trial's run with its scores, or with the reason why it has none."""
        key = self.trial_key(result.number)
        self._steps.pop(key, None)
        # `best_*` come last, so that the table of runs sorts by the checkpoint that would ship.
        finals = {f"best_{name}": value for name, value in result.metrics.items()}
        self._metrics(key, {**finals, "seconds": result.seconds, "n_epochs": result.n_epochs}, result.n_epochs)
        tags = {"automl.state": result.state.value}
        if result.reason is not None:
            tags |= {"automl.reason": result.reason.value, "automl.message": result.message}
        if result.repeat_of is not None:
            tags["automl.repeat_of"] = str(result.repeat_of)
        self._spool.append(Logged(key, tags=tags))
        if traceback:
            self._text(key, f"traceback-{result.number}.txt", traceback)
        if result.seen:
            self._text(key, f"preprocessing-{result.number}.txt", "\n".join(result.seen))
        self._close(key, RunState(result.state.value))

    def make_good(self, ended: Iterable[TrialResult], waiting: Iterable[int] = ()) -> None:
        """Closes the runs of trials whose launcher was killed before it could.

        Args:
            ended: All that have ended.
            waiting: Numbers of those that were cut off and will be gone on with.
        """
        runs = self._spool.runs()
        self._steps = runs.steps
        for number in waiting:
            if self.trial_key(number) in runs.open:
                self.trial_stopped(number)
        for result in ended:
            key = self.trial_key(result.number)
            if key not in runs.known and result.configuration is not None:
                self.trial_started(result.number, result.configuration)
                runs.open.add(key)
            if key in runs.open or key in runs.stopped:  # the latter of a trial that nobody could go on with
                self.trial_ended(result)

    def reference(self, result: ReferenceResult) -> None:
        """Logs a reference model as a run of its own kind."""
        key = f"{self.key}/reference/{result.name}"
        self._open(key, f"reference: {result.name}", RunKind.REFERENCE, {"reference": result.name}, self._tags())
        finals = {f"best_{name}": value for name, value in result.metrics.items()}
        self._metrics(key, {**finals, "seconds": result.seconds}, 0)
        if result.message:
            self._spool.append(Logged(key, tags={"automl.message": result.message}))
        self._close(key, RunState.FAILED if result.value is None else RunState.COMPLETE)

    def study_ended(self, result: StudyResult, model: Path, page: str) -> None:
        """Closes the parent run with the result, the model and the page a person opens first.

        Args:
            model: The finished model folder.
            page: Markdown, shown by MLflow as the run's description.
        """
        shipped = result.shipped
        for name, value in shipped.references.items():
            self._metrics(f"{self.key}/reference/{name}", {f"test_{result.metric}": value}, 0)
        finals = {
            f"best_{result.metric}": shipped.validation,
            **{f"test_{name}": value for name, value in shipped.test.items()},
            **{f"{name}_seconds": value for name, value in result.seconds.items()},
        }
        points = self._points(finals, 0)
        self._spool.append(Logged(self.key, points, tags={NOTE: page}))
        self._artifact(self.key, self._folder.result)
        self._text(self.key, "summary.md", page)
        self._spool.append(ModelLogged(self.key, str(model), "model", self._model_params(result), points))
        self._close(self.key, RunState.COMPLETE)

    def study_unchanged(self) -> None:
        """Closes the parent run of a study to which nothing was added since its result."""
        self._close(self.key, RunState.COMPLETE)

    def study_stopped(self) -> None:
        """Closes the parent run of a study that ends before its result; it may go on."""
        self._close(self.key, RunState.STOPPED)

    def study_failed(self, message: str) -> None:
        """Closes the parent run of a study that came to nothing."""
        self._spool.append(Logged(self.key, tags={"automl.message": message, NOTE: message}))
        self._close(self.key, RunState.FAILED)

    # --- how it is written -----------------------------------------------------------------------------------------

    def _tags(self) -> dict[str, str]:
        return {
            "automl.study": self._spec.name,
            "automl.data_digest": self._prepared.data_digest,
            "automl.split_digest": self._prepared.split_digest,
        }

    def _datasets(self) -> tuple[DatasetUse, ...]:
        prepared = self._prepared
        columns = tuple((c.name, _COLUMN_TYPES.get(c.kind, "string")) for c in prepared.schema.columns)
        parts = [("search", "training", prepared.n_search), ("test", "test", prepared.n_test)]
        return tuple(
            DatasetUse(
                name=f"{self._spec.name}-{part}",
                digest=f"{part}-{prepared.data_digest[:12]}-{prepared.split_digest[:12]}",
                source=prepared.source,
                context=context,
                n_rows=n_rows,
                columns=columns,
            )
            for part, context, n_rows in parts
            if n_rows
        )

    def _model_params(self, result: StudyResult) -> dict[str, Any]:
        members = json.dumps(result.shipped.members)
        return {
            "study": self._spec.name,
            "members": members,
            **(result.best.configuration.flatten() if result.best.configuration else {}),
        }

    def _open(
        self,
        key: str,
        name: str,
        kind: RunKind,
        params: Mapping[str, Any],
        tags: Mapping[str, str],
        datasets: tuple[DatasetUse, ...] = (),
    ) -> None:
        parent = None if kind is RunKind.STUDY else self.key
        start = RunStart(key, self._spec.project, name, kind, _now_ms(), parent, dict(params), dict(tags), datasets)
        self._spool.append(RunOpened(start))

    def _points(self, metrics: Mapping[str, float], step: int) -> tuple[MetricPoint, ...]:
        now = _now_ms()
        return tuple(MetricPoint(_key(name), float(value), now, step) for name, value in metrics.items())

    def _metrics(self, key: str, metrics: Mapping[str, float], step: int) -> None:
        self._spool.append(Logged(key, self._points(metrics, step)))

    def _artifact(self, key: str, path: Path) -> None:
        self._spool.append(ArtifactLogged(key, str(path)))

    def _text(self, key: str, name: str, text: str) -> None:
        path = self._folder.path / "texts" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        self._artifact(key, path)

    def _close(self, key: str, state: RunState) -> None:
        self._spool.append(RunClosed(key, state, _now_ms()))


def _key(name: str) -> str:
    """Returns what MLflow takes for the name of a metric, which holds that of a target where there are several."""
    parts = re.sub(r"[^\w\-.:/ ]", "_", name).split("/")
    return "/".join(part for part in parts if part not in ("", ".", ".."))[:250]


def _now_ms() -> int:
    return int(time.time() * 1000)
