from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from automl import memory, plugins, preparation, study_spec
from automl.data import out_of_core, storage
from automl.errors import AutomlError, ConfigError, DataError
from automl.study_folder import Prepared, StudyFolder, read_json
from automl.testing import boring_table
from automl.values import Choice, ColumnKind, Direction, Task
from tests.lightning_modules import registered

plugins.load_builtin()
Document = Callable[..., dict[str, Any]]


def write(base: Path, space: dict[str, Any] | None = None) -> None:
    boring_table(Task.BINARY, n_rows=80).to_parquet(base / "table.parquet")
    small: dict[str, Any] = {"version": 1, "network": ["mlp"], "optimizer": ["adamw"]}
    (base / "space.yaml").write_text(yaml.safe_dump(small | (space or {})))


def told(document: dict[str, Any], base: Path) -> str:
    with pytest.raises(AutomlError) as caught:
        preparation.check(study_spec.build(document, where="x.yaml"), base)
    return str(caught.value)


def test_a_study_is_resolved(study: Callable[..., Any]) -> None:
    prepared = study().prepared
    assert (prepared.objective, prepared.direction) == ("roc_auc", Direction.MAXIMIZE)
    assert (prepared.n_search, prepared.n_test, prepared.n_folds) == (128, 32, 2)
    assert prepared.n_train + prepared.n_val == 128
    assert prepared.space_name == "space"
    assert {c.name: c.kind for c in prepared.schema.columns} == {
        "amount": ColumnKind.NUMERIC,
        "income": ColumnKind.NUMERIC,
        "visits": ColumnKind.NUMERIC,
        "paid": ColumnKind.BOOLEAN,
        "since": ColumnKind.DATETIME,
        "colour": ColumnKind.CATEGORICAL,
        "town": ColumnKind.CATEGORICAL,
        "customer_id": ColumnKind.IDENTIFIER,
        "country": ColumnKind.CONSTANT,
    }
    assert any("`country`" in note for note in prepared.notes)
    assert any("`customer_id`" in note for note in prepared.notes)


def test_what_was_resolved_survives_its_file(study: Callable[..., Any]) -> None:
    made = study()
    prepared = preparation.prepare(made.spec, made.base, made.folder)
    assert Prepared.from_json(read_json(made.folder.prepared)) == prepared == made.prepared
    assert study_spec.build(read_json(made.folder.spec), where="study.json") == made.spec


def test_checking_writes_nothing(tmp_path: Path, document: Document) -> None:
    write(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    found = preparation.check(study_spec.build(document(Task.BINARY), where="x.yaml"), tmp_path)
    assert found.n_test == 16
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_wrong_with_space_and_data_is_told_together(tmp_path: Path, document: Document) -> None:
    write(
        tmp_path,
        {
            "network": [{"name": "mpl"}, {"name": "mlp", "params": {"widht": 3}}],
            "preprocessing": [{"stage": "scaling", "options": ["standart"]}],
            "batch_size": 0,
        },
    )
    data = {"source": "parquet", "params": {"path": "tabel.parquet"}, "target": "target"}
    found = told(document(Task.BINARY, data=data), tmp_path)
    for part in ("unknown network `mpl`", "`widht`", "`standart`", "batch_size", "Did you mean `table.parquet`?"):
        assert part in found


def test_a_broken_space_is_told_with_wrong_data(tmp_path: Path, document: Document) -> None:
    write(tmp_path)
    (tmp_path / "space.yaml").write_text("version: 1\nnetwork: []\noptimizer: [adamw]\n")
    data = {"source": "parquet", "params": {"path": "table.parquet"}, "target": "tarjet"}
    found = told(document(Task.BINARY, data=data), tmp_path)
    assert "network" in found
    assert "Did you mean `target`?" in found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "rmse"}, "the metric `rmse` is not for a binary task"),
        ({"objective": "auc"}, "unknown metric `auc`"),
        ({"search_space": "tabular_smal"}, "unknown search space `tabular_smal`. Did you mean `tabular_small`"),
        ({"search_space": "none.yaml"}, "no such file"),
        ({"task": "multiclass"}, "2 classes are not multiclass"),
        ({"validation": {"strategy": "group", "column": "colr"}}, "colr"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, document: Document, changes: dict[str, Any], said: str) -> None:
    write(tmp_path)
    assert said in told(document(Task.BINARY, **changes), tmp_path)


def test_steps_that_cannot_work_on_these_columns_are_told_before_the_first_trial(
    tmp_path: Path, document: Document
) -> None:
    write(tmp_path, {"preprocessing": [{"stage": "resampling", "options": ["none", "smote"]}]})
    assert "the resampling `smote` makes up numbers only" in told(document(Task.BINARY), tmp_path)


def test_rows_without_words_are_told_where_a_network_reads_texts(tmp_path: Path, document: Document) -> None:
    resampling = {"stage": "resampling", "options": ["random_over", "smotenc", "gan"]}
    write(tmp_path, {"preprocessing": [resampling], "network": ["mlp", "bag_of_words"]})
    found = told(document(Task.BINARY), tmp_path)
    for name in ("smotenc", "gan"):
        assert f"the resampling `{name}` makes up rows, but no words for networks that read texts (`remark`)" in found
    assert "`random_over` makes" not in found
    write(tmp_path, {"preprocessing": [resampling]})
    preparation.check(study_spec.build(document(Task.BINARY), where="x.yaml"), tmp_path)


def test_a_network_for_what_a_reduction_takes_away_is_told(tmp_path: Path, document: Document) -> None:
    reduction = {"stage": "reduction", "options": ["none", "convolutional_autoencoder"]}
    space = {"preprocessing": [reduction], "network": ["mlp", "cnn"], "augmentation": ["none", "move_image"]}
    blocks = [{"kind": "image", "columns": ["amount", "income"], "shape": [1, 1, 2]}]
    write(tmp_path, space)
    found = told(document(Task.BINARY, blocks=blocks), tmp_path)
    for place, name in (("network", "cnn"), ("augmentation", "move_image")):
        assert f"{place} `{name}` is for image, of which the reduction `convolutional_autoencoder` leaves none" in found
    write(tmp_path, {"preprocessing": [reduction]})
    preparation.check(study_spec.build(document(Task.BINARY, blocks=blocks), where="x.yaml"), tmp_path)
    found = told(document(Task.BINARY), tmp_path)
    assert "the reduction `convolutional_autoencoder` is for image or sequence, and the table has none" in found


def test_a_loss_of_another_task_is_told_before_the_first_trial(tmp_path: Path, document: Document) -> None:
    write(tmp_path, {"loss": ["mse"]})
    assert "`mse`" in told(document(Task.BINARY), tmp_path)


def test_batches_of_another_task_are_told_before_the_first_trial(tmp_path: Path, document: Document) -> None:
    write(tmp_path, {"batches": ["shuffled", "balanced"], "loss": ["mse"]})
    boring_table(Task.REGRESSION, n_rows=80).to_parquet(tmp_path / "table.parquet")
    found = told(document(Task.REGRESSION), tmp_path)
    assert "space.yaml: batches: the option `balanced` is not for a regression task" in found
    assert "Known for it: `shuffled`." in found


def test_data_errors_alone_are_data_errors(tmp_path: Path, document: Document) -> None:
    write(tmp_path)
    (tmp_path / "table.parquet").unlink()
    with pytest.raises(DataError):
        preparation.check(study_spec.build(document(Task.BINARY), where="x.yaml"), tmp_path)


def test_a_study_goes_on_under_its_key_with_the_same_data_only(study: Callable[..., Any]) -> None:
    made = study()
    again = preparation.prepare(made.spec, made.base, made.folder)
    assert again == made.prepared
    table = boring_table(Task.BINARY, n_rows=160).drop(columns="remark")
    table.loc[3, "amount"] += 1
    table.to_parquet(made.base / "table.parquet")
    with pytest.raises(ConfigError, match=r"cannot go on: since it began, the table changed .*--new-name"):
        preparation.prepare(made.spec, made.base, made.folder)


def test_a_refused_study_keeps_the_data_that_it_had(study: Callable[..., Any]) -> None:
    made = study()
    before = storage.load_part(made.folder.data, "search")[1].copy()
    boring_table(Task.BINARY, n_rows=160, seed=5).to_parquet(made.base / "table.parquet")
    with pytest.raises(ConfigError):
        preparation.prepare(made.spec, made.base, made.folder)
    np.testing.assert_array_equal(storage.load_part(made.folder.data, "search")[1], before)


def test_the_space_may_not_change_either(study: Callable[..., Any]) -> None:
    made = study()
    document = yaml.safe_load((made.base / "space.yaml").read_text())
    (made.base / "space.yaml").write_text(yaml.safe_dump(document | {"batch_size": 32}))
    with pytest.raises(ConfigError, match=r"the search space changed \(`batch_size` was 64 and is now 32\)"):
        preparation.prepare(made.spec, made.base, made.folder)


def test_the_same_table_in_another_file_is_the_same_data(study: Callable[..., Any]) -> None:
    made = study()
    table = pd.read_parquet(made.base / "table.parquet")
    table.to_parquet(made.base / "table.parquet", compression="gzip", row_group_size=7)
    assert preparation.prepare(made.spec, made.base, made.folder) == made.prepared


def test_splits_follow_the_seed_alone(study: Callable[..., Any], tmp_path: Path) -> None:
    made = study()
    other = preparation.prepare(made.spec, made.base, StudyFolder(tmp_path / "other"))
    assert (other.split_digest, other.data_digest) == (made.prepared.split_digest, made.prepared.data_digest)
    assert other.key != made.prepared.key
    reseeded = preparation.check(made.spec.model_copy(update={"seed": 2}), made.base)
    assert reseeded.split_digest != made.prepared.split_digest


def with_portfolio(base: Path, **space: Any) -> None:
    """Writes a table, a space, and a portfolio whose first point is slow, whose last is not in the space."""
    depth = {"name": "mlp", "params": {"depth": {"type": "int", "low": 1, "high": 4}}}
    rate = {"name": "adamw", "params": {"lr": {"type": "float", "low": 0.001, "high": 0.01, "default": 0.002}}}
    write(base, {"network": [depth, "residual_mlp"], "optimizer": [rate], "portfolio": "mine", **space})
    traits = {"n_rows": 64, "n_columns": 6, "categorical": 0.3, "n_classes": 2}
    points = [
        {"changes": {"network.mlp.depth": 4}, "losses": [0.0], "epoch_s": [5.0]},
        {"changes": {"network": "residual_mlp"}, "losses": [0.2], "epoch_s": [0.01]},
        {"changes": {}, "losses": [0.5], "epoch_s": [0.01]},
        {"changes": {"network.mlp.depth": 9}, "losses": [0.1], "epoch_s": [0.01]},
    ]
    (base / "portfolios").mkdir()
    document = {"version": 1, "tables": [{"traits": traits}], "points": points}
    (base / "portfolios" / "mine.json").write_text(json.dumps(document))


def test_a_portfolio_gives_the_first_trials(tmp_path: Path, document: Document) -> None:
    with_portfolio(tmp_path)
    made = study_spec.build(document(Task.BINARY, budget={"trials": 3}), where="x.yaml")
    default = {"network": "mlp", "network.mlp.depth": 3, "optimizer.adamw.lr": 0.002}
    residual = {"network": "residual_mlp", "optimizer.adamw.lr": 0.002}
    deep = default | {"network.mlp.depth": 4}
    assert preparation.check(made, tmp_path).starts == [deep, residual, default]
    timed = study_spec.build(document(Task.BINARY, budget={"time": "60s"}), where="x.yaml")
    assert preparation.check(timed, tmp_path).starts == [residual, default, deep]


def test_points_of_ones_own_come_before_a_portfolio(tmp_path: Path, document: Document) -> None:
    with_portfolio(tmp_path, start=[{"network.mlp.depth": 1}])
    made = study_spec.build(document(Task.BINARY, budget={"trials": 3}), where="x.yaml")
    depths = [point.get("network.mlp.depth") for point in preparation.check(made, tmp_path).starts]
    assert depths == [1, 4, None, 3]


def test_the_defaults_alone_are_one_trial(tmp_path: Path, document: Document) -> None:
    with_portfolio(tmp_path, start=[{"network.mlp.depth": 1}])
    made = study_spec.build(document(Task.BINARY, budget={"trials": 30}, defaults=True), where="x.yaml")
    assert made.budget.trials == 1
    default = {"network": "mlp", "network.mlp.depth": 3, "optimizer.adamw.lr": 0.002}
    assert preparation.check(made, tmp_path).starts == [default]


def test_a_portfolio_that_is_not_there_is_told(tmp_path: Path, document: Document) -> None:
    write(tmp_path, {"portfolio": "mine"})
    assert re.search("portfolio: unknown portfolio `mine`", told(document(Task.BINARY), tmp_path))


def test_a_study_that_goes_on_with_more_time_keeps_its_folds(
    study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(study_spec, "SMALL_ROWS", 10)
    made = study(validation={"test_size": 0.2}, budget={"time": "6s"})
    assert made.prepared.n_folds == 1
    longer = made.spec.model_copy(update={"budget": study_spec.BudgetSpec(time=3600.0)})
    assert preparation.check(longer, made.base).n_folds == 5
    assert preparation.prepare(longer, made.base, made.folder) == made.prepared


# --- tables kept on disk -------------------------------------------------------------------------------------------


def test_a_table_that_does_not_fit_is_kept_in_shards(
    study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    monkeypatch.setattr(out_of_core, "MIN_SHARD_BYTES", 2000)
    made = study(validation={"strategy": "holdout", "test_size": 0.2})
    assert made.prepared.n_shards == len(storage.open_part(made.folder.data, "search")) == 4
    assert made.prepared.notes[0].startswith("Kept on disk, and its columns described by")
    # What is free now changes nothing in a study that goes on: its trials lie in that order.
    before = storage.load_folds(made.folder.data)[0].train
    monkeypatch.setattr(memory, "available", lambda: 2**40)
    again = preparation.prepare(made.spec, made.base, made.folder)
    assert again == made.prepared
    assert np.array_equal(storage.load_folds(made.folder.data)[0].train, before)


def test_a_table_that_fits_is_read_whole(study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert study().prepared.n_shards == 1
    monkeypatch.setattr(memory, "available", lambda: 1000)
    data = {"source": "parquet", "params": {"path": "table.parquet"}, "target": "target", "out_of_core": False}
    assert study(data=data).prepared.n_shards == 1


def test_a_changed_table_on_disk_is_told(study: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available", lambda: 1000)
    made = study()
    boring_table(Task.BINARY, n_rows=161).drop(columns="remark").to_parquet(made.base / "table.parquet")
    with pytest.raises(ConfigError, match="the table changed"):
        preparation.prepare(made.spec, made.base, made.folder)


def test_checking_looks_at_every_value_of_a_table_on_disk(
    tmp_path: Path, document: Document, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    table = boring_table(Task.BINARY, n_rows=400)
    words = [str(number % 30) for number in range(400)]
    words[399] = "many"
    table.assign(words=words).to_parquet(tmp_path / "table.parquet")
    data = {"source": "parquet", "params": {"path": "table.parquet"}, "target": "target", "out_of_core": True}
    found = told(document(Task.BINARY, data={**data, "kinds": {"words": "numeric"}}), tmp_path)
    assert "the first is `many` in row 400" in found


def test_networks_that_make_up_rows_are_for_tables_in_memory(tmp_path: Path, document: Document) -> None:
    write(tmp_path, {"preprocessing": [{"stage": "resampling", "options": ["none", "gan", "smotenc"]}]})
    boring_table(Task.BINARY, n_rows=200).to_parquet(tmp_path / "table.parquet")
    data = {"source": "parquet", "params": {"path": "table.parquet"}, "target": "target"}
    found = told(document(Task.BINARY, data={**data, "out_of_core": True}), tmp_path)
    assert "preprocessing.resampling: `gan` makes rows up by a network" in found
    assert "`smotenc` makes" not in found


@pytest.mark.parametrize(
    ("task", "losses"),
    [
        (Task.MULTICLASS, ["cross_entropy"]),
        (Task.MULTILABEL, ["cross_entropy"]),
        (Task.REGRESSION, ["mse"]),
        (Task.QUANTILE, ["pinball"]),
    ],
)
def test_losses_for_other_tasks_are_left_out_where_one_is_for_this(
    tmp_path: Path, document: Document, task: Task, losses: list[str]
) -> None:
    write(tmp_path, {"loss": ["pinball", "mse", "cross_entropy"]})
    boring_table(task, n_rows=80).to_parquet(tmp_path / "table.parquet")
    prepared = preparation.check(study_spec.build(document(task), where="x.yaml"), tmp_path)
    assert [option.name for option in prepared.space.loss or ()] == losses


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (
            {"preprocessing": [{"stage": "resampling", "options": ["none", "smotenc"]}]},
            "the resampling `smotenc` evens out the classes of a target, and there are several targets",
        ),
        (
            {"preprocessing": [{"stage": "reduction", "options": ["lda"]}]},
            "the reduction `lda` learns from classes, and there are several targets",
        ),
        ({"loss": ["mse"]}, "the loss `mse` is not for a multilabel task"),
        ({"batches": ["balanced"]}, "the option `balanced` is not for a multilabel task"),
    ],
)
def test_what_knows_single_targets_only_is_told_before_the_first_trial(
    tmp_path: Path, document: Document, space: dict[str, Any], said: str
) -> None:
    write(tmp_path, space)
    boring_table(Task.MULTILABEL, n_rows=80).to_parquet(tmp_path / "table.parquet")
    assert said in told(document(Task.MULTILABEL), tmp_path)


def test_several_targets_are_prepared_alike_in_memory_and_on_disk(tmp_path: Path, document: Document) -> None:
    write(tmp_path)
    boring_table(Task.MULTITASK, n_rows=80).to_parquet(tmp_path / "table.parquet")
    found = {}
    for where in (False, True):
        written = document(Task.MULTITASK)
        written["data"] = {**written["data"], "out_of_core": where}
        spec = study_spec.build(written, where="x.yaml")
        folder = StudyFolder(tmp_path / f"state-{where}")
        prepared = preparation.prepare(spec, tmp_path, folder)
        parts = [storage.open_part(folder.data, part).target for part in ("search", "test")]
        found[where] = (prepared.schema.target, prepared.objective, np.sort(np.concatenate(parts), axis=0))
    assert found[True][:2] == found[False][:2] == (found[False][0], "d2")
    np.testing.assert_array_equal(found[True][2], found[False][2])
    assert np.isnan(found[False][2]).any()


def test_balancing_is_searched_where_targets_have_losses_of_their_own(tmp_path: Path, document: Document) -> None:
    for task in (Task.MULTITASK, Task.MULTILABEL, Task.BINARY):
        write(tmp_path, {"balancing": ["fixed", "gradnorm"]})
        boring_table(task, n_rows=80).to_parquet(tmp_path / "table.parquet")
        prepared = preparation.check(study_spec.build(document(task), where="x.yaml"), tmp_path)
        assert len(prepared.space.balancing) == (2 if task is Task.MULTITASK else 1)


# --- a user's own LightningModule ------------------------------------------------------------------------------------


@pytest.fixture
def _modules() -> Any:
    with registered():
        yield


OWN_SPACE: dict[str, Any] = {"version": 1, "network": [{"name": "my.Classifier", "params": {"hidden": [8]}}]}
FROM_DATA = {"type": "data", "value": "n_inputs"}
OWN: dict[str, Any] = {
    "name": "own",
    "data": {"source": "my.Numbers"},
    "search_space": "space.yaml",
    "objective": "val_loss",
    "direction": "minimize",
    "trainer": {"accelerator": "cpu"},
}


@pytest.mark.usefixtures("_modules")
def test_a_study_without_a_table(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(OWN_SPACE))
    spec = study_spec.build(OWN, where="x.yaml")
    folder = StudyFolder(tmp_path / "state")
    prepared = preparation.prepare(spec, tmp_path, folder)
    assert (prepared.is_logged, prepared.modules, prepared.n_train) == (True, ("my.Classifier",), 96)
    assert prepared.data_module == Choice("my.Numbers")
    assert Prepared.from_json(read_json(folder.prepared)) == prepared
    assert preparation.prepare(spec, tmp_path, folder).key == prepared.key
    other = study_spec.build(OWN | {"data": {"source": "my.Numbers", "params": {"n_rows": 64}}}, where="x.yaml")
    with pytest.raises(ConfigError, match="the table changed"):
        preparation.prepare(other, tmp_path, folder)


@pytest.mark.usefixtures("_modules")
def test_what_is_for_tables_alone_is_told_without_one(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(OWN_SPACE))
    of_tables: list[dict[str, Any]] = [
        {"task": "binary", "validation": {"n_folds": 3}, "data": {"source": "my.Numbers", "domain": "town"}},
        {"data": {"source": "my.Numbers", "target": "y"}, "forecast": {"time": "day", "horizon": 2}},
        {"neighbours": {"file": "edges.csv", "id": "i", "start": "a", "end": "b"}},
    ]
    said = "".join(told(OWN | changes, tmp_path) for changes in of_tables)
    for key in ("task", "validation", "data.domain", "forecast", "neighbours"):
        assert f"{key}: is for tables, and `my.Numbers` is a LightningDataModule" in said


@pytest.mark.usefixtures("_modules")
@pytest.mark.parametrize(
    ("changes", "space", "said"),
    [
        ({"direction": None}, {}, "direction: is missing. The objective is a metric that the module logs"),
        ({"objective": "auto"}, {}, "objective: is missing. Name a metric that the module logs"),
        ({"objective": "val_los"}, {}, "the module never logged `val_los`; it logged `train_loss`"),
        ({"data": {"source": "my.Numbers", "target": "y"}}, {}, "data.target: is for tables, and `my.Numbers`"),
        ({"data": {"source": "my.Numbers", "params": {"n_row": 3}}}, {}, "Did you mean `n_rows`"),
        ({"data": {"source": "my.Numbers", "params": {"path": "no.bin"}}}, {}, "`setup` raises FileNotFoundError: "),
        ({"search_space": "auto"}, {}, "search_space: `auto` is for tables"),
        ({}, {"network": ["mlp"]}, "`mlp` reads tables, and there is none"),
        ({}, {"preprocessing": [{"stage": "scaling", "options": ["standard"]}]}, "preprocessing: is for tables"),
        ({}, {"optimizer": ["adam"]}, "optimizer: `my.Classifier` brings its own. Leave it out"),
        ({}, {"network": [{"name": "my.Strange", "params": {"what": "raises in setup"}}]}, "`setup` raises FileNot"),
        ({}, {"network": [{"name": "my.Gan", "params": {"n_inputs": FROM_DATA}}]}, "there is no table that could"),
    ],
)
def test_what_is_wrong_with_a_lightning_module_is_told_before_the_first_trial(
    tmp_path: Path, changes: dict[str, Any], space: dict[str, Any], said: str
) -> None:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(OWN_SPACE | space))
    assert said in told({key: value for key, value in (OWN | changes).items() if value is not None}, tmp_path)


@pytest.mark.usefixtures("_modules")
@pytest.mark.parametrize(
    ("changes", "network", "said"),
    [
        ({"objective": "val_loss"}, "my.Classifier", "If it is a metric that your module logs, say its `direction`"),
        ({"objective": "val_loss", "direction": "minimize"}, "mlp", "`mlp` logs no `val_loss`"),
        ({"trainer": {"devices": 2}}, "mlp", "trainer.devices: is 2, and `mlp` trains on one device. Several devices"),
        ({"data": {"source": "parquet", "params": {"path": "table.parquet"}}}, "mlp", "data.target: is missing"),
        ({}, "my.Strange", "`roc_auc` cannot be computed of what `Strange` says: its `forward` raises NotImpl"),
    ],
)
def test_what_is_wrong_with_a_lightning_module_on_a_table(
    tmp_path: Path, document: Document, changes: dict[str, Any], network: str, said: str
) -> None:
    params = {"hidden": [8], "n_inputs": FROM_DATA} if network == "my.Classifier" else {}
    params = {"what": "nothing"} if network == "my.Strange" else params
    space: dict[str, Any] = {"network": [{"name": network, "params": params}]}
    space |= {"preprocessing": [{"stage": "encoding", "options": ["onehot"]}]}
    write(tmp_path, space | ({} if network == "mlp" else {"optimizer": None}))
    found = told(document(Task.BINARY, **changes), tmp_path)
    assert said in found
