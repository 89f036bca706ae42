"""What a model is judged by does not get into it: no test row into anything, no validation row into a fit."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from automl import plugins, testing
from automl.components import CATALOGUES, catalogue
from automl.data import storage
from automl.finalise import finalise
from automl.predictor import Predictor
from automl.references import run_reference
from automl.search import open_search
from automl.trial import prepare, refit, run_trial
from automl.values import Choice, Configuration, FinalTask, Step, Task, TrialResult, TrialState

PLUGIN = '''
"""A spy that notes the rows it is fitted on, the same with a leak, and a network that notes its weights."""
import torch
from sklearn.base import BaseEstimator, TransformerMixin

from automl.components import register
from automl.networks.mlp import mlp

FITTED = []  # one set of rows a fit; the first column tells rows apart
TRAJECTORY = []  # the weights before each training step

class Spy(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        FITTED.append(frozenset(X[:, 0].tolist()))
        self.mean_ = X.mean(axis=0)
        return self

    def transform(self, X):
        return X - self.mean_

class Leaky(Spy):
    def transform(self, X):
        return self.fit(X) and super().transform(X)  # centred on whatever rows come along

@register("scaling")
def spy(task):
    """Notes the rows that it is fitted on."""
    return Spy()

@register("scaling")
def leaky(task):
    """Is fitted on the rows that it transforms."""
    return Leaky()

class Noted(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs):
        if self.training:
            TRAJECTORY.append(torch.cat([weight.flatten() for weight in self.state_dict().values()]).clone())
        return self.network(inputs)

@register("network")
def noted(inputs, n_outputs):
    """Notes its weights before each training step."""
    return Noted(mlp(inputs, n_outputs, depth=1, width=8))
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The plug-in above, which the catalogues forget afterwards."""
    plugins.load_builtin()
    known = {kind: dict(CATALOGUES[kind]._components) for kind in ("scaling", "network")}
    (tmp_path / "leak_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    plugins.load(["leak_plugin"])
    yield importlib.import_module("leak_plugin")
    for kind, components in known.items():
        CATALOGUES[kind]._components = components
    del sys.modules["leak_plugin"]


def wild(features: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    """Returns the frame with nothing left of what was in some of its rows."""
    changed = features.copy()
    for name, column in features.items():
        if set(column.dropna()) <= {0.0, 1.0}:
            changed.iloc[rows, changed.columns.get_loc(name)] = 1 - column.iloc[rows]
        elif column.dtype.kind == "f":
            changed.iloc[rows, changed.columns.get_loc(name)] = column.iloc[rows].fillna(3.0) * -1e6 - 77
        elif column.dtype.kind == "M":
            changed.iloc[rows, changed.columns.get_loc(name)] = pd.Timestamp("1066-10-14")
        else:
            changed.iloc[rows, changed.columns.get_loc(name)] = "never seen"
    return changed


def spoil_test_rows(data: Path) -> None:
    """Overwrites the test part of a study that has been prepared."""
    features, target = storage.load_part(data, "test")
    spoilt = wild(features, np.arange(len(features)))
    with pa.ipc.new_file(str(data / "spoilt.arrow"), (table := pa.Table.from_pandas(spoilt)).schema) as writer:
        writer.write_table(table)
    (data / "spoilt.arrow").replace(data / "test.arrow")
    flipped = np.array(target.max() - target)
    np.save(data / "test_target.npy", flipped)


# --- test rows -----------------------------------------------------------------------------------------------------


def whole_study(made: Any) -> dict[str, Any]:
    """Returns what a study comes to: three trials that the sampler proposes, a reference, a refit, the ensemble."""
    search = open_search(made.spec, made.prepared, made.folder)
    for number in range(3):
        claim = search.claim()
        scored = run_trial(made.trial(claim.configuration, number=number), lambda epoch: False)
        result = TrialResult(number, TrialState.COMPLETE, claim.configuration, scored.value, scored.metrics)
        search.tell(claim, result)
    results = sorted(search.results(), key=lambda result: -float(result.value or 0))
    reference = run_reference("linear", made.folder.data, made.folder.references, made.prepared.objective, 0)
    candidates = tuple((result.number, made.folder.trial(result.number)) for result in results)
    references = (("linear", made.folder.references),)
    task = FinalTask(
        made.folder.data, made.folder.model, made.prepared.objective, candidates, "ensemble", references, 0
    )
    best = results[0]
    refitted = (best.number,) if refit(made.trial(best.configuration, number=best.number)) else ()
    shipped = finalise(replace(task, refitted=refitted))
    weights = {path: path.read_bytes() for path in sorted(made.folder.path.rglob("*.safetensors"))}
    return {
        "configurations": [result.configuration for result in results],
        "values": [result.value for result in results],
        "metrics": [result.metrics for result in results],
        "reference": reference.metrics,
        "members": shipped.members,
        "validation": shipped.validation,
        "weights": list(weights.values()),
        "test": shipped.test,
    }


def test_test_rows_change_nothing_but_the_test_score(study: Callable[..., Any], trained: Callable[..., Any]) -> None:
    one, _ = trained()
    other, _ = trained()
    spoil_test_rows(other.folder.data)
    clean, spoilt = whole_study(one), whole_study(other)
    assert clean.pop("test") != spoilt.pop("test")  # or nothing was spoilt
    assert clean == spoilt


# --- validation rows -------------------------------------------------------------------------------------------------

CHAINS = [
    ("median", "ordinal", "standard", "none", "pca"),
    ("iterative", "target", "quantile", "random_over", "none"),
    ("knn", "onehot", "robust", "smote", "truncated_svd"),
]


def steps(imputation: str, encoding: str, scaling: str, resampling: str, reduction: str) -> tuple[Step, ...]:
    chosen = {"imputation": imputation, "encoding": encoding, "scaling": scaling, "resampling": resampling}
    return tuple(Step(stage, Choice(name)) for stage, name in (chosen | {"reduction": reduction}).items())


@pytest.mark.parametrize("chain", CHAINS, ids="-".join)
def test_validation_rows_change_no_fitted_step_and_no_weight(
    study: Callable[..., Any],
    configuration: Callable[..., Configuration],
    plugin: ModuleType,
    chain: tuple[str, str, str, str, str],
) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    features, target = storage.load_part(made.folder.data, "search")
    (fold,) = storage.load_folds(made.folder.data)
    spoilt_target = np.array(target)
    spoilt_target[fold.val] = 1 - target[fold.val]
    chosen = configuration(Task.BINARY, preprocessing=steps(*chain), network=Choice("noted"))
    settings = made.trial(max_epochs=3, patience=1000).settings
    found = []
    for rows, y in ((features, target), (wild(features, fold.val), spoilt_target)):
        plugin.TRAJECTORY.clear()
        found.append((*_train(made, chosen, rows, y, fold, settings, features), list(plugin.TRAJECTORY)))
    (clean_rows, clean_values, clean), (spoilt_rows, spoilt_values, spoilt) = found
    assert clean_values != spoilt_values  # or nothing was spoilt
    for name, block in clean_rows.items():
        np.testing.assert_array_equal(spoilt_rows[name], block)
    assert len(clean) == len(spoilt) >= 3 * 2
    assert all((one == other).all() for one, other in zip(clean, spoilt, strict=True))


def _train(
    made: Any, chosen: Configuration, rows: pd.DataFrame, y: np.ndarray, fold: Any, settings: Any, probe: pd.DataFrame
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Returns what the fitted steps make of a probe, and the score of each epoch."""
    from automl import metrics
    from automl.training.fit import fit

    data, preprocessing = prepare(chosen, made.prepared.schema, rows, y, fold, seed=0)
    metric = metrics.metric(made.prepared.objective, Task.BINARY)
    fitted = fit(chosen, data, metric, settings, seed=0, report=lambda epoch: False)
    return preprocessing.transform(probe), [epoch.value for epoch in fitted.history]


def test_one_epoch_gives_the_same_model_whatever_it_is_validated_on(
    study: Callable[..., Any], configuration: Callable[..., Configuration]
) -> None:
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    features, _ = storage.load_part(made.folder.data, "search")
    (fold,) = storage.load_folds(made.folder.data)
    for number, rows in ((0, features), (1, wild(features, fold.val))):
        table = pa.Table.from_pandas(rows, preserve_index=False)
        with pa.ipc.new_file(str(made.folder.data / "new.arrow"), table.schema) as writer:
            writer.write_table(table)
        (made.folder.data / "new.arrow").replace(made.folder.data / "search.arrow")
        run_trial(made.trial(configuration(Task.BINARY), number=number, max_epochs=1), lambda epoch: False)
    probe = features.iloc[fold.train]
    one, other = (Predictor.load(made.folder.trial(number) / "model").predictions(probe) for number in (0, 1))
    np.testing.assert_array_equal(one, other)
    stored = [np.load(made.folder.trial(number) / "validation.npy") for number in (0, 1)]
    assert (stored[0] != stored[1]).any()


# --- the spy -------------------------------------------------------------------------------------------------------


def rows_fitted_on(made: Any, plugin: ModuleType, name: str) -> tuple[list[frozenset[float]], list[frozenset[float]]]:
    """Returns the rows of each fit of a step during a trial, and those of each training fold."""
    features, _ = storage.load_part(made.folder.data, "search")
    first = features.columns[0]
    numbered = features.assign(**{first: np.arange(len(features), dtype=float)})
    table = pa.Table.from_pandas(numbered, preserve_index=False)
    with pa.ipc.new_file(str(made.folder.data / "new.arrow"), table.schema) as writer:
        writer.write_table(table)
    (made.folder.data / "new.arrow").replace(made.folder.data / "search.arrow")
    chosen = (Step("imputation", Choice("median")), Step("scaling", Choice(name)))
    plugin.FITTED.clear()
    task = made.trial()
    run_trial(replace(task, configuration=replace(task.configuration, preprocessing=chosen)), lambda epoch: False)
    folds = storage.load_folds(made.folder.data)
    return list(plugin.FITTED), [frozenset(fold.train.astype(float).tolist()) for fold in folds]


def test_a_step_is_fitted_once_a_fold_on_all_its_training_rows_and_no_other(
    study: Callable[..., Any], plugin: ModuleType
) -> None:
    fitted, folds = rows_fitted_on(study(), plugin, "spy")
    assert fitted == folds


def test_a_leaky_step_is_caught(study: Callable[..., Any], plugin: ModuleType) -> None:
    fitted, folds = rows_fitted_on(study(), plugin, "leaky")
    assert fitted != folds
    assert any(not rows <= fold for rows in fitted for fold in folds)
    with pytest.raises(AssertionError, match=r"rows beside it|order of rows|learns from rows"):
        testing.check_step(catalogue("scaling")["leaky"])
    testing.check_step(catalogue("scaling")["spy"])
