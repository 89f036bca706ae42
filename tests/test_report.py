from __future__ import annotations

import json
from typing import Any

import pytest

from automl import report


def document(direction: str, **changes: Any) -> dict[str, Any]:
    return {
        "study": "churn",
        "metric": {"name": "score", "direction": direction},
        "validation": 0.5,
        "test": 0.5,
        "trials": {"complete": 2, "pruned": 1, "failed": 0},
        "seconds": {"total": 60.4, "search": 50.0, "final": 10.4},
        "references": [
            {"name": "linear", "value": 0.6, "test": 0.6},
            {"name": "boosting", "value": 0.4, "test": 0.4},
            {"name": "dummy", "value": None, "test": None},
        ],
        "pending_sync": 0,
        **changes,
    }


def lines(found: dict[str, Any]) -> str:
    return "\n".join(report.summary_lines(found, program=".venv/bin/automl", data="churn.csv"))


@pytest.mark.parametrize(
    ("direction", "better", "worse"), [("minimize", "boosting", "linear"), ("maximize", "linear", "boosting")]
)
def test_a_reference_that_is_better_is_told(direction: str, better: str, worse: str) -> None:
    said = lines(document(direction))
    assert f"the reference model {better} is better on test" in said
    assert worse not in said
    assert "dummy" not in said


def test_without_test_rows_validation_is_compared() -> None:
    said = lines(document("minimize", test=None))
    assert "boosting is better on validation (0.4)" in said
    assert "test score -" in said


def test_what_was_left_out_is_told() -> None:
    assert "there is no test score: x.py:3" in lines(
        document("minimize", test=None, notes=["there is no test score: x.py:3"])
    )


def test_the_commands_can_be_pasted() -> None:
    said = lines(document("minimize")).splitlines()[-3:]
    assert said == [
        "  .venv/bin/automl ui",
        "  .venv/bin/automl predict churn churn.csv -o predictions.csv",
        "  .venv/bin/automl promote churn --model churn --alias champion",
    ]


def test_what_has_not_reached_mlflow_is_told_with_the_command() -> None:
    assert "pending sync: 3 events" in lines(document("minimize", pending_sync=3))
    assert "pending sync" not in lines(document("minimize"))


def test_json_is_one_document_without_what_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    report.print_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "ä"})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "c": "ä"}
