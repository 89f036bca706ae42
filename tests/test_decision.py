from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from automl import decision, metrics
from automl.values import Target, Task

BINARY_LABEL_METRICS = [name for name in metrics.names(Task.BINARY) if metrics.METRICS[name].needs == "labels"]


def rare(n: int = 4000, share: float = 0.05, seed: int = 0) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns rare positives, and honest probabilities of them that hardly ever exceed a half."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    positive = 1 / (1 + np.exp(-(1.2 * score + np.log(share / (1 - share)) - 0.4)))
    y = (rng.uniform(size=n) < positive).astype(int)
    return y, np.column_stack([1 - positive, positive])


@pytest.mark.parametrize("name", BINARY_LABEL_METRICS)
def test_the_counts_at_each_threshold_give_what_scikit_learn_gives(name: str) -> None:
    metric = metrics.metric(name, Task.BINARY)
    y, probabilities = rare(500, 0.3)
    thresholds = np.array([0.05, 0.2, 0.4, 0.5])
    found = decision._values(metric, [decision._of_thresholds(y, probabilities[:, 1], thresholds)])
    expected = [metrics.score(metric, y, probabilities, (t, 1 - t)) for t in thresholds]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("name", [name for name in BINARY_LABEL_METRICS if name != "f1"])
@settings(deadline=None, max_examples=50)
@given(data=st.data(), n_classes=st.integers(2, 4), n_rows=st.integers(1, 12))
def test_the_counts_give_what_scikit_learn_gives_whatever_class_is_missing(
    name: str, data: st.DataObject, n_classes: int, n_rows: int
) -> None:
    positions = arrays(np.int64, n_rows, elements=st.integers(0, n_classes - 1))
    y, told = data.draw(positions), data.draw(positions)
    metric, sure = metrics.METRICS[name], np.eye(n_classes)[told]
    found = decision._values(metric, [decision._of_weights(y, sure, [(1.0,) * n_classes])])
    np.testing.assert_allclose(found, [metrics.score(metric, y, sure)], atol=1e-12)


@pytest.mark.parametrize("task", [Task.BINARY, Task.MULTICLASS])
@pytest.mark.parametrize("name", metrics.names(Task.MULTICLASS))
def test_the_score_is_that_of_what_is_decided(task: Task, name: str) -> None:
    rng = np.random.default_rng(0)
    folds = [rng.dirichlet(np.ones(2 if task is Task.BINARY else 3), size=200) for _ in range(2)]
    y = [(fold.cumsum(axis=1) > rng.uniform(size=(200, 1))).argmax(axis=1) for fold in folds]
    metric = metrics.metric(name, task)
    expected = metrics.score_folds(metric, y, folds, decision.choose(metric, y, folds))
    assert decision.score(metric, y, folds) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "gain"), [("balanced_accuracy", 0.15), ("f1", 0.1), ("matthews", 0.03)])
def test_rare_positives_are_told_by_a_lower_threshold(name: str, gain: float) -> None:
    metric = metrics.metric(name, Task.BINARY)
    y, probabilities = rare()
    weights = decision.choose(metric, [y], [probabilities])
    unseen_y, unseen = rare(seed=1)
    assert metrics.score(metric, unseen_y, unseen, weights) > metrics.score(metric, unseen_y, unseen) + gain


def test_balanced_accuracy_is_decided_near_the_share_of_the_positives() -> None:
    y, probabilities = rare(20_000)
    threshold, _ = decision.choose(metrics.metric("balanced_accuracy", Task.BINARY), [y], [probabilities])
    assert threshold == pytest.approx(y.mean(), abs=0.03)  # the threshold that is best in theory


def test_where_a_half_is_best_it_stays() -> None:
    y = np.arange(200) % 2
    sure = np.where(y == 1, 0.9, 0.1)
    for name in BINARY_LABEL_METRICS:
        weights = decision.choose(metrics.metric(name, Task.BINARY), [y], [np.column_stack([1 - sure, sure])])
        assert weights == (0.5, 0.5)


def test_what_needs_no_labels_needs_no_decision() -> None:
    y, probabilities = rare(200)
    for name in ("roc_auc", "log_loss"):
        assert decision.choose(metrics.metric(name, Task.BINARY), [y], [probabilities]) == ()
    values = np.arange(10.0)
    assert decision.choose(metrics.metric("rmse", Task.REGRESSION), [values], [values]) == ()


def test_several_classes_are_evened_out_where_that_is_rewarded() -> None:
    rng = np.random.default_rng(0)
    shares = np.array([0.9, 0.07, 0.03])
    y = rng.choice(3, size=6000, p=shares)
    likelihood = np.exp((np.eye(3)[y] + rng.normal(0, 0.7, (6000, 3))) / 0.7**2)  # of what was seen, honestly
    probabilities = likelihood * shares
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    balanced, accuracy = (metrics.metric(name, Task.MULTICLASS) for name in ("balanced_accuracy", "accuracy"))
    weights = decision.choose(balanced, [y[:3000]], [probabilities[:3000]])
    after = metrics.score(balanced, y[3000:], probabilities[3000:], weights)
    assert after > metrics.score(balanced, y[3000:], probabilities[3000:]) + 0.1
    assert decision.choose(accuracy, [y], [probabilities]) == ()


def test_folds_share_one_decision() -> None:
    metric = metrics.metric("f1", Task.BINARY)
    folds = [rare(800, seed=seed) for seed in range(3)]
    weights = decision.choose(metric, [y for y, _ in folds], [p for _, p in folds])
    with_it = metrics.score_folds(metric, [y for y, _ in folds], [p for _, p in folds], weights)
    assert with_it > metrics.score_folds(metric, [y for y, _ in folds], [p for _, p in folds])


def test_numbers_that_are_none_decide_nothing() -> None:
    y, probabilities = rare(50)
    probabilities[3] = np.nan
    assert decision.choose(metrics.metric("f1", Task.BINARY), [y], [probabilities]) == ()


def test_each_label_has_a_threshold_of_its_own():
    rng = np.random.default_rng(0)
    target = Target("", Task.MULTILABEL, parts=tuple(Target(name, Task.BINARY, (0, 1)) for name in "ab"))
    positive = rng.random((4000, 2)) * [0.3, 1.0]
    y = (rng.random((4000, 2)) < positive).astype(float)
    predictions = np.stack([1 - positive, positive], axis=2).reshape(-1, 4)
    metric = metrics.metric("f1_macro", target)
    weights = decision.choose(metric, [y], [predictions])
    assert weights[1] > weights[0]  # the rare one is said from less than a half on
    chosen = decision.score(metric, [y], [predictions])
    assert chosen == metrics.score(metric, y, predictions, weights) > metrics.score(metric, y, predictions) + 0.1
    assert decision.choose(metrics.metric("average_precision_micro", target), [y], [predictions]) == ()
