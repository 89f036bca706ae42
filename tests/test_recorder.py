from __future__ import annotations

import pytest

from automl.recorder import _key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("best_roc_auc", "best_roc_auc"),
        ("val_roc_auc/fold_1", "val_roc_auc/fold_1"),
        ("best_price (CHF)/rmse", "best_price _CHF_/rmse"),
        ("best_Größe/r2", "best_Größe/r2"),
        ("best_a/../b/r2", "best_a/b/r2"),
        ("best_a//r2", "best_a/r2"),
        ("best_" + "x" * 300, "best_" + "x" * 245),
    ],
)
def test_a_targets_name_becomes_one_that_mlflow_takes(name: str, key: str) -> None:
    assert _key(name) == key


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best_price (CHF)/rmse", "best_a/../b/r2", "best_a//r2", "best_é;!?*/r2", "./a/r2"])
def test_mlflow_takes_it(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(_key(name))
