import math

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_pinball_loss
from torch.nn import functional

from automl import losses
from automl.components import catalogue
from automl.errors import ConfigError
from automl.values import Choice, TargetSpec, Task

BINARY = TargetSpec(Task.BINARY, 1, class_counts=(90, 10))
MULTICLASS = TargetSpec(Task.MULTICLASS, 3, class_counts=(60, 30, 10))
REGRESSION = TargetSpec(Task.REGRESSION, 1, mean=1000.0, scale=20.0)
CLASSES = [(name, target) for name in ("cross_entropy", "focal", "logit_adjusted") for target in (BINARY, MULTICLASS)]
QUANTILES = TargetSpec(Task.QUANTILE, 3, mean=1000.0, scale=20.0, quantiles=(0.1, 0.5, 0.9))
CASES = [*CLASSES, *[(name, REGRESSION) for name in ("mse", "mae", "quantile", "huber")], ("pinball", QUANTILES)]


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
    assert catalogue("loss")[name].traits == {target.task.kind}


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


@pytest.mark.parametrize("weights", ["none", "balanced"])
@pytest.mark.parametrize("target", [BINARY, MULTICLASS], ids=lambda target: target.task)
def test_focal_without_focus_is_the_cross_entropy(target, weights):
    outputs, y = example(target)
    found = build("focal", target, gamma=0.0, class_weights=weights)(outputs, y)
    torch.testing.assert_close(found, build("cross_entropy", target, class_weights=weights)(outputs, y))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_the_formula_of_its_paper(gamma):
    outputs, y = example(MULTICLASS)
    p = outputs.softmax(dim=1)[torch.arange(len(y)), y]
    torch.testing.assert_close(
        build("focal", MULTICLASS, gamma=gamma)(outputs, y), -((1 - p) ** gamma * p.log()).mean()
    )


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_learns_from_rows_that_are_right_beyond_rounding(gamma):
    outputs = torch.tensor([[200.0, 0.0, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    build("focal", MULTICLASS, gamma=gamma)(outputs, torch.tensor([0, 1])).backward()
    assert outputs.grad.isfinite().all()


def test_logits_are_adjusted_by_the_frequencies():
    outputs, y = example(MULTICLASS)
    adjusted = outputs + 0.5 * torch.tensor([0.6, 0.3, 0.1]).log()
    torch.testing.assert_close(
        build("logit_adjusted", MULTICLASS, tau=0.5)(outputs, y), functional.cross_entropy(adjusted, y)
    )
    one, labels = example(BINARY)
    torch.testing.assert_close(
        build("logit_adjusted", BINARY)(one, labels),
        functional.binary_cross_entropy_with_logits(one.squeeze(1) + math.log(0.1 / 0.9), labels.float()),
    )


def test_an_adjusted_network_that_knows_nothing_says_that_classes_are_as_likely():
    # What minimises the loss of rows that all look alike: the frequencies, which the adjustment takes away again.
    y = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.zeros(1, 3, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], line_search_fn="strong_wolfe", max_iter=100)
    loss = build("logit_adjusted", MULTICLASS)

    def closure():
        optimizer.zero_grad()
        value = loss(logits.expand(10, 3), y)
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(logits.softmax(dim=1), torch.full((1, 3), 1 / 3), rtol=0, atol=1e-3)


def test_the_mean_absolute_error_is_twice_the_median_s_pinball_loss():
    outputs, y = example(REGRESSION)
    found = build("mae", REGRESSION)(outputs, y)
    torch.testing.assert_close(found, (outputs.squeeze(1) - y).abs().mean())
    torch.testing.assert_close(2 * build("quantile", REGRESSION)(outputs, y), found)


@pytest.mark.parametrize("quantile", [0.1, 0.8])
def test_the_best_constant_of_the_pinball_loss_is_the_quantile(quantile):
    y = torch.arange(101.0)
    loss = build("quantile", REGRESSION, quantile=quantile)
    values = [loss(torch.full((101, 1), float(value)), y).item() for value in range(101)]
    assert np.argmin(values) == pytest.approx(100 * quantile, abs=1)
    expected = mean_pinball_loss(y.numpy(), np.full(101, 30.0), alpha=quantile)
    assert values[30] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "target", "params"),
    [
        ("quantile", REGRESSION, {"quantile": 0.0}),
        ("quantile", REGRESSION, {"quantile": 1.0}),
        ("focal", BINARY, {"gamma": -1.0}),
    ],
)
def test_impossible_hyperparameters_are_told(name, target, params):
    with pytest.raises(ConfigError, match=next(iter(params))):
        build(name, target, **params)


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


# --- several targets -------------------------------------------------------------------------------------------------

LABELS = TargetSpec(Task.MULTILABEL, 2, parts=(BINARY, BINARY))
SEVERAL = TargetSpec(Task.MULTITASK, 8, parts=(BINARY, MULTICLASS, REGRESSION, QUANTILES))


def test_pinball_is_that_of_every_quantile():
    outputs, y = example(QUANTILES)
    each = [mean_pinball_loss(y, outputs[:, i], alpha=level) for i, level in enumerate(QUANTILES.quantiles)]
    assert build("pinball", QUANTILES)(outputs, y).item() == pytest.approx(np.mean(each))


def test_quantiles_never_cross():
    outputs = torch.randn(50, 4, 3)
    found = losses.predictions(outputs, QUANTILES)
    assert found.shape == (50, 3)
    assert (found.diff(dim=1) >= 0).all()


def test_labels_are_binary_questions_and_missing_ones_are_not_asked():
    outputs, y = torch.randn(16, 2), (torch.rand(16, 2) < 0.5).float()
    loss = losses.build(Choice("cross_entropy"), LABELS)
    expected = functional.binary_cross_entropy_with_logits(outputs, y)
    torch.testing.assert_close(loss(outputs, y), expected)
    y[:4, 1] = math.nan
    known = ~y.isnan()
    expected = functional.binary_cross_entropy_with_logits(outputs[known], y[known])
    torch.testing.assert_close(loss(outputs, y), expected)
    members = torch.stack([outputs, outputs, outputs], dim=1)  # (rows, 3, labels)
    torch.testing.assert_close(loss(members, y), expected)


def encoded(n_rows=16):
    rng = np.random.default_rng(0)
    y = np.column_stack([rng.integers(2, size=n_rows), rng.integers(3, size=n_rows), rng.normal(1000, 20, (n_rows, 2))])
    return y, losses.encode(y, SEVERAL)


def test_each_target_has_the_loss_of_its_kind_over_the_rows_that_have_it():
    torch.manual_seed(0)
    y, found = encoded()
    y[:3, 2] = math.nan
    found[:3, 2] = math.nan
    outputs = torch.randn(16, 8)
    loss = losses.build(Choice("mae"), SEVERAL)
    parts = [
        functional.binary_cross_entropy_with_logits(outputs[:, 0], found[:, 0]),
        functional.cross_entropy(outputs[:, 1:4], found[:, 1].long()),
        functional.l1_loss(outputs[3:, 4], found[3:, 2]),
        build("pinball", QUANTILES)(outputs[:, 5:], found[:, 3]),
    ]
    shares = [0.1 * math.log(10) + 0.9 * math.log(1 / 0.9), 0.6 * math.log(1 / 0.6) + 0.3 * math.log(1 / 0.3)]
    usual = [shares[0], shares[1] + 0.1 * math.log(10), 1.0, (0.175498 * 2 + 0.398942) / 3]
    expected = torch.stack([part / share for part, share in zip(parts, usual, strict=True)]).mean()
    torch.testing.assert_close(loss(outputs, found), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_without_any_row_of_a_target_teaches_the_others():
    _, y = encoded()
    y[:, 2] = math.nan
    outputs = torch.randn(16, 8, requires_grad=True)
    value = losses.build(Choice("cross_entropy"), SEVERAL)(outputs, y)
    value.backward()
    assert value.isfinite()
    assert (outputs.grad[:, 4] == 0).all()
    assert (outputs.grad[:, [0, 1, 5]] != 0).all()


def test_predictions_of_several_targets_stand_side_by_side():
    outputs = torch.randn(16, 5, 8)
    found = losses.predictions(outputs, SEVERAL)
    assert found.shape == (16, 2 + 3 + 1 + 3)
    torch.testing.assert_close(found[:, :2], losses.predictions(outputs[..., :1], BINARY))
    torch.testing.assert_close(found[:, 5], losses.predictions(outputs[..., 4:5], REGRESSION))
    torch.testing.assert_close(found[:, 6:], losses.predictions(outputs[..., 5:], QUANTILES))
