"""From a finished study to a served model: gates, alias, rollback, a clean process, HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

LOAD = """
import sys, pandas, mlflow
if sys.argv[4]:
    mlflow.set_tracking_uri(sys.argv[4])
mlflow.pyfunc.load_model(sys.argv[1]).predict(pandas.read_csv(sys.argv[2])).to_csv(sys.argv[3], index=False)
"""


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, finished: Any) -> Any:
    """A folder with a poor study and a good one on the same table; the poor one is promoted."""
    place = type(finished)(tmp_path_factory.mktemp("promoted"))
    place.write_table(n=600)
    place.write_study("poor", budget={"trials": 1}, trainer={"max_epochs": 1})
    place.write_study("good", budget={"trials": 3}, trainer={"max_epochs": 25})
    for name in ("poor", "good"):
        place.automl("run", f"{name}.yaml")
    (place.path / "first.json").write_text(place.quick("promote", "poor", "--model", "m", "--json").out)
    return place


def uri_of(place: Any) -> str:
    return f"sqlite:///{place.path / 'mlflow.db'}"


def load_elsewhere(model: str, place: Any, tmp_path: Path, uri: str = "") -> pd.DataFrame:
    """Predicts through MLflow alone, in a process that has nothing of this one."""
    variables = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"}
    out = tmp_path / "elsewhere.csv"
    command = [sys.executable, "-I", "-c", LOAD, model, str(place.path / "table.csv"), str(out), uri]
    subprocess.run(command, cwd=tmp_path, env=variables, check=True, capture_output=True, timeout=120)
    return pd.read_csv(out)


def predicted(place: Any, model: str, tmp_path: Path) -> pd.DataFrame:
    place.quick("predict", model, "table.csv", "-o", tmp_path / "here.csv")
    return pd.read_csv(tmp_path / "here.csv")


def test_first_promotion(promoted: Any, tmp_path: Path) -> None:
    evidence = json.loads((promoted.path / "first.json").read_text())
    assert (evidence["model"], evidence["alias"], evidence["version"], evidence["promoted"]) == (
        "m",
        "champion",
        1,
        True,
    )
    assert [gate["passed"] for gate in evidence["gates"]] == [True, True, True]
    there = load_elsewhere("models:/m@champion", promoted, tmp_path, uri_of(promoted))
    pd.testing.assert_frame_equal(there, predicted(promoted, "models:/m@champion", tmp_path))
    pd.testing.assert_frame_equal(there, predicted(promoted, "poor", tmp_path))


def test_better_is_promoted_worse_refused_and_rolled_back(promoted: Any) -> None:
    again = promoted.quick("promote", "poor", "--model", "m", code=5)
    assert "version 1 is this very model" in again.err
    ended = promoted.quick("promote", "good", "--model", "m")
    assert "models:/m@champion is version 2" in ended.out
    worse = promoted.quick("promote", "poor", "--model", "m", code=5)
    assert "not promoted: better than the champion: roc_auc on 60 test rows: candidate" in worse.err
    assert (
        promoted.quick("verify", "models:/m@champion", "--json").json["digest"]
        == (promoted.quick("verify", "good", "--json").json["digest"])
    )
    back = promoted.quick("rollback", "m", "--json").json
    assert (back["version"], back["previous"]) == (1, 2)
    assert "version 1 of `m` is the first that was `champion`" in promoted.quick("rollback", "m", code=5).err
    assert "has no alias `other`" in promoted.quick("rollback", "m", "--alias", "other", code=5).err
    unknown = promoted.quick("verify", "models:/m@nope", code=2)
    assert "MLflow has no model `models:/m@nope`" in unknown.err


def test_export_needs_nothing_of_the_study(promoted: Any, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    assert promoted.quick("export", "good", "-o", exported).out.strip() == str(exported)
    assert "files match the manifest" in promoted.quick("verify", exported).out
    there = load_elsewhere(str(exported), promoted, tmp_path)
    pd.testing.assert_frame_equal(there, predicted(promoted, "good", tmp_path))
    assert not list(exported.rglob("*.pkl"))
    document = promoted.quick("show", "good", "--json").json
    assert promoted.quick("verify", document["run_id"], "--json").json["members"] == len(document["ensemble"])


@pytest.fixture(scope="module")
def scoring(promoted: Any, serve: Callable[..., Any], free_port: Callable[[], int]) -> Iterator[str]:
    """The address of the promoted model behind MLflow's own scoring server."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/m@champion", "--env-manager", "local"),
        *("-h", "127.0.0.1", "-p", str(port)),
    ]
    variables = {
        "MLFLOW_TRACKING_URI": uri_of(promoted),
        "MLFLOW_DISABLE_SCHEMA_DETAILS": "true",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",  # MLflow calls uvicorn by its name
    }
    with serve(command, f"http://127.0.0.1:{port}/ping", promoted.path, variables):
        yield f"http://127.0.0.1:{port}/invocations"


def ask(url: str, body: Any) -> tuple[int, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


ROW = {"amount": 0.5, "count": 7, "colour": "red", "member": True, "team": 3, "day": "2026-01-05"}


def test_serving_predicts_as_the_command_does(promoted: Any, scoring: str, tmp_path: Path) -> None:
    table = pd.read_csv(promoted.path / "table.csv").drop(columns="target")
    document = json.loads(table.to_json(orient="split", index=False))
    status, answer = ask(scoring, {"dataframe_split": document})
    assert status == 200, answer
    served = pd.DataFrame(answer["predictions"])
    here = predicted(promoted, "models:/m@champion", tmp_path)
    assert list(served.columns) == list(here.columns)
    assert list(served["prediction"]) == list(here["prediction"])
    np.testing.assert_allclose(served["proba_yes"], here["proba_yes"], atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"amount": 1},
        {"count": 7.0},
        {"amount": None},
        {"count": None},
        {"colour": None},
        {"member": None},
        {"day": None},
        dict.fromkeys(ROW),
        {"colour": "never seen"},
        {"unheard_of": 1},
    ],
    ids=str,
)
def test_serving_takes(scoring: str, change: dict[str, Any]) -> None:
    status, answer = ask(scoring, {"dataframe_records": [{**ROW, **change}]})
    assert status == 200, answer
    (row,) = answer["predictions"]
    assert row["prediction"] in ("yes", "no")
    assert 0 <= row["proba_yes"] <= 1


@pytest.mark.parametrize(
    "rows",
    [[{k: v for k, v in ROW.items() if k != "amount"}], [{**ROW, "amount": "much"}]],
    ids=["missing column", "words for numbers"],
)
def test_serving_refuses_with_a_sentence(scoring: str, rows: list[Any]) -> None:
    status, answer = ask(scoring, {"dataframe_records": rows})
    assert status == 400
    assert answer["error_code"]
    assert ask(scoring, {"dataframe_records": [ROW]})[0] == 200
