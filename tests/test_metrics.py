import math
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn.metrics as reference
from scipy.special import softmax

from automl import metrics
from automl.errors import ConfigError
from automl.testing import PLAIN_TASKS
from automl.values import Direction, Target, Task

RNG = np.random.default_rng(0)


def probabilities(n_rows, n_classes):
    return softmax(RNG.normal(size=(n_rows, n_classes)), axis=1)


Y2, P2 = RNG.integers(2, size=60), probabilities(60, 2)
Y4, P4 = RNG.integers(4, size=60), probabilities(60, 4)
Y1, V1 = RNG.normal(size=60), RNG.normal(size=60)
L2, L4 = P2.argmax(1), P4.argmax(1)

EXPECTED = {
    Task.BINARY: {
        "roc_auc": reference.roc_auc_score(Y2, P2[:, 1]),
        "average_precision": reference.average_precision_score(Y2, P2[:, 1]),
        "log_loss": reference.log_loss(Y2, P2),
        "brier": reference.brier_score_loss(Y2, P2[:, 1]),
        "accuracy": reference.accuracy_score(Y2, L2),
        "balanced_accuracy": reference.balanced_accuracy_score(Y2, L2),
        "f1": reference.f1_score(Y2, L2),
        "f1_macro": reference.f1_score(Y2, L2, average="macro"),
        "matthews": reference.matthews_corrcoef(Y2, L2),
        "d2": reference.d2_log_loss_score(Y2, P2),
    },
    Task.MULTICLASS: {
        "roc_auc": reference.roc_auc_score(Y4, P4, multi_class="ovr"),
        "average_precision": reference.average_precision_score(Y4, P4),
        "log_loss": reference.log_loss(Y4, P4),
        "brier": reference.brier_score_loss(Y4, P4, scale_by_half=True),
        "accuracy": reference.accuracy_score(Y4, L4),
        "balanced_accuracy": reference.balanced_accuracy_score(Y4, L4),
        "f1_macro": reference.f1_score(Y4, L4, average="macro"),
        "matthews": reference.matthews_corrcoef(Y4, L4),
        "d2": reference.d2_log_loss_score(Y4, P4),
    },
    Task.REGRESSION: {
        "rmse": reference.root_mean_squared_error(Y1, V1),
        "mae": reference.mean_absolute_error(Y1, V1),
        "median_absolute_error": reference.median_absolute_error(Y1, V1),
        "mape": reference.mean_absolute_percentage_error(Y1, V1),
        "smape": np.mean(2 * np.abs(Y1 - V1) / (np.abs(Y1) + np.abs(V1))),
        "r2": reference.r2_score(Y1, V1),
    },
}
DATA = {Task.BINARY: (Y2, P2), Task.MULTICLASS: (Y4, P4), Task.REGRESSION: (Y1, V1)}


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_equals_scikit_learn(task):
    assert metrics.score_all(task, *DATA[task]) == pytest.approx(EXPECTED[task], rel=1e-12)


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_a_perfect_prediction_is_at_the_good_bound(task):
    y, predictions = DATA[task]
    perfect = np.eye(predictions.shape[1])[y] if task.is_classification else y
    for name in metrics.names(task):
        metric = metrics.metric(name, task)
        best = metric.low if metric.direction is Direction.MINIMIZE else metric.high
        assert metrics.score(metric, y, perfect) == pytest.approx(best, abs=1e-9), name
        assert metric.better(best, metrics.score(metric, y, predictions))


@pytest.mark.parametrize("task", PLAIN_TASKS)
def test_the_default_is_a_metric_of_the_task(task):
    assert task in metrics.default_metric(task).tasks


def test_rows_may_lack_a_class():
    y = np.where(Y4 == 3, 0, Y4)
    found = metrics.score_all(Task.MULTICLASS, y, P4)
    assert all(math.isfinite(value) for value in found.values())
    present = [reference.roc_auc_score(y == position, P4[:, position]) for position in range(3)]
    assert found["roc_auc"] == pytest.approx(np.mean(present))


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
def test_a_single_class_leaves_ranks_undefined_and_nothing_else(task):
    y, predictions = DATA[task]
    found = metrics.score_all(task, np.zeros_like(y), predictions)
    assert {name for name, value in found.items() if math.isnan(value)} == {"roc_auc", "average_precision", "d2"}


@pytest.mark.parametrize("task", PLAIN_TASKS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_predictions_that_are_no_numbers_have_no_score(task, value):
    y, predictions = DATA[task]
    predictions = predictions.copy()
    predictions[3] = value
    assert all(math.isnan(found) for found in metrics.score_all(task, y, predictions).values())


def test_a_sure_mistake_costs_much_but_not_everything():
    metric = metrics.metric("log_loss", Task.BINARY)
    assert 10 < metrics.score(metric, np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]])) < 100


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("rocauc", Task.BINARY, "Did you mean `roc_auc`"),
        ("rmse", Task.BINARY, "not for a binary task"),
        ("f1", Task.MULTICLASS, "`f1_macro`"),
    ],
)
def test_says_which_metrics_there_are(name, task, message):
    with pytest.raises(ConfigError, match=message):
        metrics.metric(name, task)


def test_metrics_travel_between_processes():
    metric = metrics.default_metric(Task.BINARY)
    assert pickle.loads(pickle.dumps(metric)).name == metric.name


def test_names_cost_no_import_of_scikit_learn():
    code = "import sys, automl.metrics; sys.exit('sklearn' in sys.modules or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- quantiles and several targets ---------------------------------------------------------------------------------


LEVELS = (0.1, 0.5, 0.9)
LABELS = Target("", Task.MULTILABEL, parts=tuple(Target(name, Task.BINARY, (0, 1)) for name in "abc"))
SEVERAL = Target(
    "",
    Task.MULTITASK,
    parts=(
        Target("size", Task.REGRESSION),
        Target("kind", Task.MULTICLASS, (0, 1, 2, 3)),
        Target("delay", Task.QUANTILE, quantiles=LEVELS),
    ),
)
YL = (RNG.random((60, 3)) < 0.4).astype(float)
PL = RNG.random((60, 3))
BOTH = np.stack([1 - PL, PL], axis=2).reshape(60, 6)  # of each label: that it is not, that it is
Q1 = np.sort(RNG.normal(size=(60, 3)), axis=1)


def test_quantiles_equal_scikit_learn():
    found = metrics.score_all(Target("y", Task.QUANTILE, quantiles=LEVELS), Y1, Q1)
    each = [reference.mean_pinball_loss(Y1, Q1[:, i], alpha=level) for i, level in enumerate(LEVELS)]
    assert found["pinball"] == pytest.approx(np.mean(each))
    assert found["coverage_error"] == pytest.approx(np.mean(np.abs((Y1[:, None] <= Q1).mean(axis=0) - LEVELS)))
    usual = np.broadcast_to(np.quantile(Y1, LEVELS), (60, 3))
    assert metrics.score_all(Task.QUANTILE, Y1, usual)["d2"] == pytest.approx(0)
    assert metrics.score_all(Task.QUANTILE, Y1, np.stack([Y1] * 3, axis=1))["d2"] == 1


def test_labels_equal_scikit_learn():
    found = metrics.score_all(LABELS, YL, BOTH)
    said = PL > 0.5
    assert found["average_precision_micro"] == pytest.approx(reference.average_precision_score(YL, PL, average="micro"))
    assert found["average_precision"] == pytest.approx(reference.average_precision_score(YL, PL, average="macro"))
    assert found["roc_auc"] == pytest.approx(reference.roc_auc_score(YL, PL, average="macro"))
    assert found["log_loss"] == pytest.approx(np.mean([reference.log_loss(YL[:, i], PL[:, i]) for i in range(3)]))
    assert found["hamming_loss"] == pytest.approx(reference.hamming_loss(YL, said))
    assert found["subset_accuracy"] == pytest.approx(reference.accuracy_score(YL, said))
    assert found["f1_micro"] == pytest.approx(reference.f1_score(YL, said, average="micro"))
    assert found["f1_macro"] == pytest.approx(reference.f1_score(YL, said, average="macro"))
    assert found["b/roc_auc"] == pytest.approx(reference.roc_auc_score(YL[:, 1], PL[:, 1]))


def test_a_missing_label_is_neither_right_nor_wrong():
    y = YL.copy()
    y[:20, 1] = np.nan
    known = ~np.isnan(y)
    found = metrics.score_all(LABELS, y, BOTH)
    assert found["average_precision_micro"] == pytest.approx(reference.average_precision_score(y[known], PL[known]))
    assert found["hamming_loss"] == pytest.approx(np.mean(y[known] != (PL > 0.5)[known]))
    assert found["b/roc_auc"] == pytest.approx(reference.roc_auc_score(y[20:, 1], PL[20:, 1]))
    y[:, 1] = 0
    alone = [reference.roc_auc_score(y[:, i], PL[:, i]) for i in (0, 2)]
    assert metrics.score_all(LABELS, y, BOTH)["roc_auc"] == pytest.approx(np.mean(alone))


def test_several_targets_are_scored_by_what_is_explained_of_each():
    y, predictions = np.column_stack([Y1, Y4, Y1]), np.column_stack([V1, P4, Q1])
    found = metrics.score_all(SEVERAL, y, predictions)
    assert found["size/rmse"] == pytest.approx(reference.root_mean_squared_error(Y1, V1))
    assert found["kind/log_loss"] == pytest.approx(reference.log_loss(Y4, P4))
    each = [found["size/r2"], found["kind/d2"], found["delay/d2"]]
    assert found["d2"] == pytest.approx(np.mean(each))
    assert metrics.default_metric(SEVERAL).name == "d2"
    y[::2, 0] = np.nan
    assert metrics.score_all(SEVERAL, y, predictions)["size/r2"] == pytest.approx(
        reference.r2_score(Y1[1::2], V1[1::2])
    )


def test_targets_of_one_kind_have_means_of_all_metrics_of_it():
    numbers = Target("", Task.MULTITASK, parts=(Target("a", Task.REGRESSION), Target("b", Task.REGRESSION)))
    found = metrics.score_all(numbers, np.column_stack([Y1, V1]), np.column_stack([V1, V1]))
    assert found["rmse"] == pytest.approx(reference.root_mean_squared_error(Y1, V1) / 2)
    assert found["d2"] == pytest.approx((reference.r2_score(Y1, V1) + 1) / 2)


@pytest.mark.parametrize(
    ("name", "target", "message"),
    [
        ("accuracy", LABELS, "not for a multilabel task.*`subset_accuracy`"),
        ("rmse", SEVERAL, "not for a multitask task.*Known for it: `d2`"),
        ("subset_acuracy", LABELS, "Did you mean `subset_accuracy`"),
        ("sise/rmse", SEVERAL, "Did you mean `size/rmse`"),
        ("kind/rmse", SEVERAL, "unknown metric.*`kind/"),
    ],
)
def test_an_objective_that_does_not_fit_several_targets_is_told(name, target, message):
    with pytest.raises(ConfigError, match=message):
        metrics.metric(name, target)
