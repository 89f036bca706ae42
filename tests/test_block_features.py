from __future__ import annotations

import numpy as np
import pytest

from automl.block_features import ConvolutionFeatures, SequenceSummaries


def test_a_sequence_is_summed_up() -> None:
    line = 3.0 + 0.5 * np.arange(8)
    made = SequenceSummaries().fit_transform(np.stack([line, -line])[None].astype(np.float32))
    lag = np.sum((line - line.mean())[1:] * (line - line.mean())[:-1]) / np.sum((line - line.mean()) ** 2)
    expected = [line.mean(), line.std(), 3.0, 6.5, 0.5, lag, -line.mean(), line.std(), -6.5, -3.0, -0.5, lag, 8]
    np.testing.assert_allclose(made[0], expected, rtol=1e-6)


def test_what_is_missing_is_left_out_of_a_summary() -> None:
    X = np.full((3, 1, 6), np.nan, np.float32)
    X[0, 0, :4] = [1, np.nan, 3, 4]  # it ends after four steps
    X[1, 0, 0] = 7
    made = SequenceSummaries().fit_transform(X)
    np.testing.assert_allclose(made[0, [0, 2, 3, 4, 6]], [8 / 3, 1, 4, 1, 4], rtol=1e-6)
    np.testing.assert_array_equal(made[1], [7, 0, 7, 7, np.nan, np.nan, 1])
    np.testing.assert_array_equal(made[2, [0, 2, 3, 4, 5, 6]], [np.nan] * 5 + [0])


@pytest.mark.parametrize(
    ("shape", "sequence"), [((2, 20), True), ((3, 9, 7), False), ((1, 3), True), ((1, 2, 2), False)]
)
def test_convolutions_see_rows_alike_whatever_is_beside_them(shape: tuple[int, ...], sequence: bool) -> None:
    X = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    X[0] = np.nan
    if sequence:
        X[1, :, shape[-1] // 2 :] = np.nan
    features = ConvolutionFeatures(sequence=sequence, n_features=200, random_state=1).fit(X)
    whole = features.transform(X)
    assert len(whole) == 40
    assert np.isfinite(whole).all()
    np.testing.assert_allclose(features.transform(X[7:9]), whole[7:9], atol=1e-5)
    assert features.transform(X[:0]).shape == (0, whole.shape[1])
