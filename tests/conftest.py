"""Studies over a boring table, prepared and trained once for all tests; nothing here stands in for our own code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from threadpoolctl import threadpool_limits

from automl import preparation, study_spec
from automl.study_folder import Prepared, StudyFolder
from automl.study_spec import StudySpec
from automl.testing import boring_table, boring_targets
from automl.trial import run_trial
from automl.values import USUAL_LOSSES, Choice, Configuration, Scored, Step, Task, TrainerSettings, TrialTask

pytest_plugins = ["tests.command_line"]

# What a person has set for their own studies must not reach the tests, nor the processes that they start.
for _name in [name for name in os.environ if name.startswith(("MLFLOW_", "_MLFLOW_", "OPTUNA_", "AUTOML_"))]:
    del os.environ[_name]
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "120"}
torch.set_num_threads(1)
threadpool_limits(1)  # of what is loaded by now: as in a trial

SPACE = {
    "version": 1,
    "preprocessing": [
        {"stage": "imputation", "options": ["median", "mean"]},
        {"stage": "scaling", "options": ["standard", "quantile"]},
    ],
    "network": [
        {"name": "mlp", "params": {"depth": 1, "width": {"type": "int", "low": 4, "high": 32, "log": True}}},
        {"name": "residual_mlp", "params": {"depth": 1, "width": {"type": "int", "low": 4, "high": 32, "log": True}}},
    ],
    "optimizer": [{"name": "adamw", "params": {"lr": {"type": "float", "low": 1e-3, "high": 1e-1, "log": True}}}],
    "batch_size": 64,
}


@dataclass(frozen=True)
class BoringStudy:
    """A study that has been prepared."""

    spec: StudySpec
    base: Path
    folder: StudyFolder
    prepared: Prepared

    def trial(self, configuration: Configuration | None = None, *, number: int = 0, **settings: Any) -> TrialTask:
        """Returns what a trial of this study is told."""
        return TrialTask(
            configuration=configuration or boring_configuration(self.prepared.schema.target.task),
            data=self.folder.data,
            out=self.folder.trial(number),
            objective=self.prepared.objective,
            settings=TrainerSettings(**{"max_epochs": 2, "accelerator": "cpu"} | settings),
            seed=self.spec.seed,
        )


def boring_configuration(task: Task, **changes: Any) -> Configuration:
    loss = Choice(USUAL_LOSSES.get(task, "cross_entropy"))
    configuration = Configuration(
        preprocessing=(Step("imputation", Choice("median")), Step("scaling", Choice("standard"))),
        network=Choice("mlp", {"depth": 1, "width": 16}),
        optimizer=Choice("adamw", {"lr": 0.02}),
        schedule=Choice("constant"),
        loss=loss,
        batch_size=64,
    )
    return replace(configuration, **changes)


def boring_document(task: Task, /, **changes: Any) -> dict[str, Any]:
    """Returns a study as it stands in a file; its table and its search space lie beside it."""
    return {
        "name": f"boring-{task.value}",
        "data": {"source": "parquet", "params": {"path": "table.parquet"}, "target": boring_targets(task)["target"]},
        "task": boring_targets(task)["task"],
        "search_space": "space.yaml",
        "validation": {"strategy": "kfold", "n_folds": 2, "test_size": 0.2},
        "trainer": {"max_epochs": 2, "accelerator": "cpu"},
        "budget": {"trials": 3},
        "references": False,
        "seed": 1,
        **changes,
    }


def make_study(base: Path, task: Task, *, space: Mapping[str, Any] = SPACE, **changes: Any) -> BoringStudy:
    """Returns a study over a boring table in a folder, prepared."""
    base.mkdir(parents=True, exist_ok=True)
    boring_table(task, n_rows=160).drop(columns="remark").to_parquet(base / "table.parquet")
    (base / "space.yaml").write_text(yaml.safe_dump(dict(space)))
    spec = study_spec.build(boring_document(task, **changes), where="study.yaml")
    folder = StudyFolder(base / "state" / spec.name)
    return BoringStudy(spec, base, folder, preparation.prepare(spec, base, folder))


MakeStudy = Callable[..., BoringStudy]


@pytest.fixture(scope="session")
def _usual(tmp_path_factory: pytest.TempPathFactory) -> BoringStudy:
    return make_study(tmp_path_factory.mktemp("usual") / "study", Task.BINARY)


@pytest.fixture
def study(tmp_path: Path, _usual: BoringStudy) -> MakeStudy:
    """What prepares a study of the test's own: `study(task, **what differs)`."""

    def prepared(task: Task = Task.BINARY, **changes: Any) -> BoringStudy:
        base = tmp_path / "study"
        if task is not Task.BINARY or changes:
            return make_study(base, task, **changes)
        shutil.copytree(_usual.base, base)
        prepared = replace(_usual.prepared, base=str(base))
        return replace(_usual, base=base, folder=StudyFolder(base / "state" / _usual.spec.name), prepared=prepared)

    return prepared


@pytest.fixture
def configuration() -> Callable[..., Configuration]:
    return boring_configuration


@pytest.fixture
def document() -> Callable[..., dict[str, Any]]:
    return boring_document


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], tuple[BoringStudy, Scored]]:
    known: dict[Task, tuple[BoringStudy, Scored]] = {}

    def train(task: Task) -> tuple[BoringStudy, Scored]:
        if task not in known:
            made = make_study(tmp_path_factory.mktemp("trained") / "study", task)
            known[task] = made, run_trial(made.trial(), lambda epoch: False)
        return known[task]

    return train


@pytest.fixture
def trained(
    _trained: Callable[[Task], tuple[BoringStudy, Scored]], tmp_path: Path
) -> Callable[[Task], tuple[BoringStudy, Scored]]:
    """What gives a study whose trial 0 has run for two epochs in two folds: a copy, to be spoilt at will."""

    def copy(task: Task = Task.BINARY) -> tuple[BoringStudy, Scored]:
        made, scored = _trained(task)
        base = tmp_path / f"trained-{len(list(tmp_path.glob('trained-*')))}"
        shutil.copytree(made.base, base)
        return replace(made, base=base, folder=StudyFolder(base / "state" / made.spec.name)), scored

    return copy
