"""Whatever is wrong is told in a sentence that says where, what was found and what to do, with the right exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

STUDIES = {
    "unknown-key": ({"serch_space": "x"}, ["small.yaml: serch_space: unknown key", "Did you mean `search_space`?"]),
    "budget": ({"budget": {"trials": -1}}, ["small.yaml: budget.trials: found `-1`; allowed: at least 1."]),
    "duration": ({"budget": {"time": "-5s"}}, ["small.yaml: budget.time: found `-5s`", "`10m`"]),
    "name": ({"name": "a/b"}, ["small.yaml: name: found `a/b`; allowed: letters, digits"]),
    "metric": ({"objective": "rmse"}, ["objective: the metric `rmse` is not for a binary task. Known for it: "]),
    "metric-misspelt": ({"objective": "roc_aux"}, ["unknown metric `roc_aux`. Did you mean `roc_auc`?"]),
    "space": ({"search_space": "tabluar_small"}, ["unknown search space `tabluar_small`", "`tabular_small`"]),
    "source": ({"data": {"source": "parket", "params": {}, "target": "y"}}, ["`parket`", "Did you mean `parquet`?"]),
    "parameter": (
        {"data": {"source": "csv", "params": {"paht": "table.csv"}, "target": "target"}},
        ["the source `csv` takes no `paht`", "Did you mean `path`?", "the source `csv` needs `path`"],
    ),
    "sampler": ({"sampler": {"name": "tpee"}}, ["small.yaml: sampler.name: found `tpee`; allowed: `tpe`, `random`"]),
    "plug-in": ({"plugins": ["my_lab.models"]}, ["needs the plug-ins `my_lab.models`", "--plugin my_lab.models"]),
    "several": (
        {"budget": {"trials": 0}, "seed": -1, "validation": {"size": 2}, "taks": "binary"},
        ["budget.trials", "seed: found `-1`; allowed: at least 0", "validation.size", "`taks`. Did you mean `task`?"],
    ),
    "space-and-data": (
        {"search_space": "nope", "data": {"source": "csv", "params": {"path": "tabel.csv"}, "target": "target"}},
        ["unknown search space `nope`", "tabel.csv: there is no such file. Did you mean `table.csv`?"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STUDIES)
def test_studies(place: Any, case: str) -> None:
    changes, sentences = STUDIES[case]
    place.write_table()
    place.write_study(**({"search_space": "auto"} | changes) if case != "name" else {})
    if case == "name":
        text = (place.path / "small.yaml").read_text()
        (place.path / "small.yaml").write_text(text.replace("name: small", "name: a/b"))
    ended = place.quick("check", "small.yaml", code=2)
    assert ended.out == ""
    for sentence in sentences:
        assert sentence in ended.err
    assert all(line.startswith("error: ") for line in ended.err.splitlines())


def test_files_that_are_no_study(place: Any) -> None:
    place.write_study()
    assert "smal.yaml: no such file. Did you mean `small.yaml`" in place.quick("run", "smal.yaml", code=2).err
    (place.path / "bad.yaml").write_text("a: [1,\n")
    assert "bad.yaml:2:1: " in place.quick("run", "bad.yaml", code=2).err
    (place.path / "bad.yaml").write_text("just words\n")
    assert "bad.yaml: is not a mapping of keys to values." in place.quick("run", "bad.yaml", code=2).err
    (place.path / "bad.yaml").write_bytes(b"PAR1\x00\xff")
    assert "bad.yaml: is not UTF-8" in place.quick("run", "bad.yaml", code=2).err


def test_impossible_ranges(place: Any) -> None:
    place.write_table()
    place.write_study()
    space = (place.path / "space.yaml").read_text()
    (place.path / "space.yaml").write_text(space.replace("high: 2", "high: 0").replace("name: adamw", "name: adamm"))
    ended = place.quick("check", "small.yaml", code=2)
    assert "space.yaml: network.0.params.depth: " in ended.err
    (place.path / "space.yaml").write_text(space.replace("name: adamw", "name: adamm"))
    ended = place.quick("check", "small.yaml", code=2)
    assert "unknown optimizer `adamm`. Did you mean `adam`" in ended.err


ARGUMENTS = {
    "command": (["rnu"], "No such command 'rnu'"),
    "option": (["show", "x", "--josn"], "automl show: No such option: --josn"),
    "argument": (["show"], "automl show: Missing argument 'study'. See automl show --help"),
    "number": (["run", "x.yaml", "--workers", "two"], "automl run: Invalid value for '--workers'"),
    "no-workers": (["run", "x.yaml", "--workers", 0], "automl run: Invalid value for '--workers'"),
    "duration": (["run", "--data", "x.csv", "--target", "y", "--time", "5x"], "--time: found `5x`; allowed: a dur"),
    "trials": (["run", "--data", "x.csv", "--target", "y", "--trials", 0], "--trials: found `0`; allowed: at least 1"),
    "seed": (["run", "--data", "x.csv", "--target", "y", "--seed", -3], "--seed: found `-3`; allowed: at least 0"),
    "test-size": (
        ["run", "--data", "x.csv", "--target", "y", "--test-size", 1.5],
        "--test-size: found `1.5`; allowed: ",
    ),
    "deliver": (["run", "--data", "x.csv", "--target", "y", "--deliver", "one"], "--deliver: found `one`; allowed: "),
    "nothing": (["run"], "nothing to run. Name a study's file, or a table"),
    "both": (["run", "x.yaml", "--target", "y"], "--data, --target: a study's file already names"),
    "ending": (["run", "--data", "x.xls", "--target", "y"], "x.xls: the ending `.xls` does not tell"),
    "kind": (["components", "netwrk"], "unknown kind of component `netwrk`. Did you mean `network`"),
    "schema": (["schema", "studdy"], "there is no schema `studdy`. Did you mean `study`?"),
    "study": (["show", "nope"], "there is no study `nope`"),
    "resume": (["resume", "nope"], "there is no study `nope`"),
    "promote": (["promote", "nope", "--model", "m"], "there is no study `nope`"),
    "model": (["predict", "nope", "x.csv", "-o", "y.csv"], "`nope` is no study, run id"),
    "registered": (["verify", "models:/nope@champion"], "mlflow.db, which does not exist"),
    "alias": (["rollback", "m", "--alias", "latest"], "--alias: found `latest`; allowed: "),
    "registered-name": (["rollback", "a/b"], "--model: found `a/b`; allowed: "),
    "port": (["ui", "--port", 99999], "Invalid value for '--port'"),
    "no-results": (["ui"], "Run a study here first"),
    "plug-in": (["components", "--plugin", "no_such_module"], "--plugin: the plug-in `no_such_module` cannot be"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", ARGUMENTS)
def test_arguments(place: Any, case: str) -> None:
    arguments, sentence = ARGUMENTS[case]
    ended = place.quick(*arguments, code=2)
    assert sentence in ended.err
    assert ended.out == ""
    assert not list(place.path.iterdir()), "a command that does nothing leaves something behind"


@pytest.mark.slow
def test_tables_that_work_with_a_note(place: Any, table: Callable[..., pd.DataFrame]) -> None:
    frame = table("multiclass").assign(empty=np.nan, same="x")
    frame.loc[0, "amount"] = np.inf
    frame.loc[1, "target"] = "rare"
    frame.to_csv(place.path / "table.csv", index=False)
    place.write_study(budget={"trials": 1})
    ended = place.automl("run", "small.yaml", "--json")
    assert "Left out, since all rows are alike in them: `empty`, `same`." in ended.err
    assert "Classes of `target` with a single row are trained on and never validated: `rare`." in ended.err
    assert "Infinite values of `amount` taken as missing: 1." in ended.err
    assert ended.json["trials"]["complete"] == 1


@pytest.mark.slow
def test_predict_on_other_tables(finished: Any, tmp_path: Path, table: Callable[..., pd.DataFrame]) -> None:
    frame = table(n=30, seed=5).drop(columns="target")

    def predicted(given: pd.DataFrame) -> pd.DataFrame:
        given.to_csv(tmp_path / "given.csv", index=False)
        ended = finished.quick("predict", "small", tmp_path / "given.csv", "-o", tmp_path / "out.csv", "--json")
        assert ended.json["rows"] == len(given)
        return pd.read_csv(tmp_path / "out.csv")

    plain = predicted(frame)
    pd.testing.assert_frame_equal(predicted(frame[frame.columns[::-1]]), plain)
    pd.testing.assert_frame_equal(predicted(frame.assign(unheard_of=1)), plain)
    assert predicted(frame.assign(colour="violet")).notna().all(axis=None)
    assert predicted(frame.assign(amount=np.nan, colour=None, member=None)).notna().all(axis=None)
    frame.drop(columns=["amount", "colour"]).rename(columns={"count": "coumt"}).to_csv(tmp_path / "g.csv", index=False)
    ended = finished.quick("predict", "small", tmp_path / "g.csv", "-o", tmp_path / "no.csv", code=2)
    assert "the column `amount` is missing" in ended.err
    assert "the column `colour` is missing" in ended.err
    assert "the column `count` is missing. Did you mean `coumt`?" in ended.err
    frame.assign(amount="much").to_csv(tmp_path / "g.csv", index=False)
    ended = finished.quick("predict", "small", tmp_path / "g.csv", "-o", tmp_path / "no.csv", code=2)
    assert "`amount`: 30 of the values cannot be read as numbers; the first is `much` in row 1" in ended.err
    assert not (tmp_path / "no.csv").exists()


@pytest.mark.slow
def test_outputs_that_cannot_be_written(finished: Any, tmp_path: Path) -> None:
    ended = finished.quick("predict", "small", "table.csv", "-o", tmp_path / "no" / "p.csv", code=2)
    assert f"--output: there is no folder `{tmp_path / 'no'}`" in ended.err
    ended = finished.quick("predict", "small", "table.csv", "-o", tmp_path / "p.xls", code=2)
    assert "--output: found `p.xls`; allowed endings: .parquet, .csv, .json." in ended.err
    (tmp_path / "p.csv").mkdir()
    ended = finished.quick("predict", "small", "table.csv", "-o", tmp_path / "p.csv", code=4)
    assert f"{tmp_path / 'p.csv'}: cannot be written: Is a directory." in ended.err
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".new")]
    assert "--output: " in finished.quick("export", "small", "-o", tmp_path, code=2).err


def test_pages_that_others_can_reach_need_a_password(place: Any) -> None:
    for host in ("0.0.0.0", "::", "example.org"):
        refused = place.quick("ui", "--host", host, code=5)
        assert f"--host: others could reach `{host}`" in refused.err
        assert "MLFLOW_AUTH_ADMIN_PASSWORD" in refused.err
    assert "Run a study here first" in place.quick("ui", "--host", "localhost", code=2).err


@pytest.mark.slow
def test_a_study_that_changed_is_refused(place: Any, table: Callable[..., pd.DataFrame]) -> None:
    place.write_table()
    place.write_study(budget={"trials": 1})
    place.automl("run", "small.yaml")
    ended = place.automl("run", "small.yaml", "--seed", 5, code=2)
    assert (
        "the study `small` exists and differs: `seed` was 0 and is now 5. Run it as another study with `--new-name`"
        in ended.err
    )
    space = place.path / "space.yaml"
    before = space.read_text()
    space.write_text(before.replace("high: 2", "high: 3"))
    changed = "the search space changed (`network.mlp.params.depth.high` was 2 and is now 3)"
    assert f"cannot go on: since it began, {changed}" in place.automl("run", "small.yaml", code=2).err
    space.write_text(before)
    table(seed=9).to_csv(place.path / "table.csv", index=False)
    changed = "the table changed (rows and columns are the same, values are not)"
    assert f"cannot go on: since it began, {changed}" in place.automl("run", "small.yaml", code=2).err
    place.automl("run", "small.yaml", "--new-name")
    assert {row["study"] for row in place.quick("studies", "--json").json["studies"]} == {"small", "small-2"}


@pytest.mark.slow
def test_no_trial_succeeds(place: Any) -> None:
    place.write_table()
    place.write_study(budget={"trials": 6, "trial_memory": "1MB", "max_consecutive_failures": 2})
    ended = place.automl("run", "small.yaml", "--json", "--workers", 1, code=1)
    assert ended.out == ""
    assert "no trial succeeded; 2 x oom" in ended.err
    (parent,) = place.runs(parents=True)
    assert parent.info.status == "FAILED"
    assert "no trial succeeded" in parent.data.tags["mlflow.note.content"]
    assert json.dumps(place.quick("studies", "--json").json)
