import numpy as np
import pytest
import torch

from automl.training.loaders import Batches
from automl.values import Part, TargetSpec, Task

BINARY = TargetSpec(Task.BINARY, 1, (1, 1))


def part(n_rows):
    X = np.arange(n_rows, dtype=np.float32)[:, None]
    X.flags.writeable = False
    return Part({"numeric": X}, np.arange(n_rows) % 2)


def rows(batches):
    return torch.cat([inputs["numeric"][:, 0] for inputs, _ in batches]).tolist()


@pytest.mark.parametrize(
    ("n_rows", "batch_size", "n_batches"), [(10, 3, 3), (9, 3, 3), (11, 3, 4), (2, 8, 1), (1, 8, 1), (3, 1, 3)]
)
def test_training_never_ends_on_a_batch_of_one_row(n_rows, batch_size, n_batches):
    batches = Batches(part(n_rows), BINARY, batch_size, seed=0)
    sizes = [len(y) for _, y in batches]
    assert len(sizes) == len(batches) == n_batches
    assert sum(sizes) == (9 if n_rows == 10 else n_rows)


def test_validation_keeps_every_row_in_order():
    assert rows(Batches(part(10), BINARY, 3)) == list(range(10))


def test_epochs_differ_and_seeds_repeat():
    first, second = Batches(part(30), BINARY, 8, seed=1), Batches(part(30), BINARY, 8, seed=1)
    epochs = [rows(first), rows(first)]
    assert epochs == [rows(second), rows(second)]
    assert epochs[0] != epochs[1]
    assert sorted(epochs[0]) == list(range(30))


def test_inputs_and_targets_stay_together():
    for inputs, y in Batches(part(30), BINARY, 8, seed=1):
        assert (inputs["numeric"][:, 0] % 2 == y).all()


def test_values_come_standardised():
    target = TargetSpec(Task.REGRESSION, 1, mean=4.5, scale=2.0)
    batches = Batches(Part(part(10).inputs, np.arange(10.0)), target, 10)
    assert next(iter(batches))[1].tolist() == ((np.arange(10) - 4.5) / 2).tolist()
