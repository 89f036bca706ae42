import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from automl import losses
from automl.components import catalogue
from automl.errors import ConfigError
from automl.values import Choice, TargetSpec, Task

BINARY = TargetSpec(Task.BINARY, 1, class_counts=(90, 10))
MULTICLASS = TargetSpec(Task.MULTICLASS, 3, class_counts=(60, 30, 10))
REGRESSION = TargetSpec(Task.REGRESSION, 1, mean=1000.0, scale=20.0)
CASES = [("cross_entropy", BINARY), ("cross_entropy", MULTICLASS), ("mse", REGRESSION), ("huber", REGRESSION)]


def build(name, target, **params):
    return catalogue("loss").build(Choice(name, params), target)


def example(target, n_rows=16):
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(n_rows, target.n_outputs, generator=generator)
    if target.task.is_classification:
        return outputs, torch.randint(len(target.class_counts), (n_rows,), generator=generator)
    return outputs, torch.randn(n_rows, generator=generator)


@pytest.mark.parametrize(("name", "target"), CASES)
def test_members_answer_each_for_itself(name, target):
    outputs, y = example(target)
    loss = build(name, target)
    members = torch.stack([outputs, 2 * outputs], dim=1)  # (rows, 2, n_outputs)
    torch.testing.assert_close(loss(members, y), (loss(outputs, y) + loss(2 * outputs, y)) / 2)


@pytest.mark.parametrize(("name", "target"), CASES)
def test_says_for_which_tasks_it_is(name, target):
    task = "classification" if target.task.is_classification else "regression"
    assert catalogue("loss")[name].traits == {task}


def test_binary_is_a_sigmoid_of_one_logit():
    outputs, y = example(BINARY)
    expected = functional.binary_cross_entropy_with_logits(outputs.squeeze(1), y.float())
    torch.testing.assert_close(build("cross_entropy", BINARY)(outputs, y), expected)


def test_class_weights_follow_frequencies():
    outputs, y = example(MULTICLASS)
    balanced = torch.tensor([100 / 180, 100 / 90, 100 / 30])
    for choice, weights in [("balanced", balanced), ("sqrt", balanced.sqrt()), ("none", None)]:
        loss = build("cross_entropy", MULTICLASS, class_weights=choice)
        torch.testing.assert_close(loss(outputs, y), functional.cross_entropy(outputs, y, weight=weights))


def test_a_class_without_rows_does_not_break_the_weights():
    loss = build("cross_entropy", TargetSpec(Task.MULTICLASS, 3, (5, 5, 0)), class_weights="balanced")
    assert math.isfinite(loss(torch.zeros(2, 3), torch.tensor([0, 1])))


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_label_smoothing_is_a_share(smoothing):
    with pytest.raises(ConfigError, match="label_smoothing"):
        build("cross_entropy", BINARY, label_smoothing=smoothing)


def test_huber_turns_linear_at_delta():
    loss = build("huber", REGRESSION, delta=0.5)
    errors = torch.tensor([[0.2], [3.0]])
    expected = (0.5 * 0.2**2 + 0.5 * (3.0 - 0.25)) / 2
    assert loss(errors, torch.zeros(2)).item() == pytest.approx(expected)


def test_values_are_learned_standardised_and_read_in_their_unit():
    y = np.array([960.0, 1000.0, 1e9 + 1])
    encoded = losses.encode(y, REGRESSION)
    assert encoded.dtype == torch.float32
    np.testing.assert_allclose(losses.predictions(encoded[:, None], REGRESSION), y, rtol=1e-6)


def test_probabilities_have_a_column_a_class():
    binary = losses.predictions(torch.tensor([[0.0], [-200.0]]), BINARY)
    assert binary.shape == (2, 2)
    assert binary[0].tolist() == [0.5, 0.5]
    assert 0 < binary[1, 1] < 1e-80
    multiclass = losses.predictions(example(MULTICLASS)[0], MULTICLASS)
    assert multiclass.shape == (16, 3)
    np.testing.assert_allclose(multiclass.sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize("target", [BINARY, MULTICLASS, REGRESSION], ids=lambda target: target.task)
def test_members_are_averaged_as_predictions(target):
    outputs, _ = example(target)
    both = losses.predictions(torch.stack([outputs, 3 * outputs], dim=1), target)
    alone = [losses.predictions(member, target) for member in (outputs, 3 * outputs)]
    torch.testing.assert_close(both, (alone[0] + alone[1]) / 2)


class _Scale(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs):
        return self.dropout(inputs["numeric"])


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_forward_covers_every_row_in_evaluation_mode(batch_size):
    X = np.arange(10, dtype=np.float32)[:, None]
    X.flags.writeable = False
    found = losses.forward(_Scale(), {"numeric": X}, REGRESSION, batch_size=batch_size)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.arange(10) * 20 + 1000)


def test_forward_of_no_rows_has_the_right_shape():
    none = {"numeric": np.empty((0, 1), dtype=np.float32)}
    assert losses.forward(_Scale(), none, REGRESSION).shape == (0,)
    assert losses.forward(_Scale(), none, BINARY).shape == (0, 2)
