"""The cross-entropy of calibrated probabilities, and temperatures of extreme logits."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss

from hyperagg._common.calibration import calibrated_cross_entropy, fit_temperature, sigmoid, softmax


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_cross_entropy_is_that_of_the_calibrated_probabilities(multi_label):
    rng = np.random.default_rng(1)
    logits = (5 * rng.standard_normal((300, 4))).astype(np.float32)
    right = np.where(rng.random(300) < 0.7, logits.argmax(1), rng.integers(4, size=300))
    truth = right[:, None] == np.arange(4)
    scaled = logits.astype(np.float64) / fit_temperature(logits, truth, multi_label)
    expected = log_loss(right, softmax(scaled))
    if multi_label:
        expected = sum(log_loss(truth[:, c], sigmoid(scaled[:, c])) for c in range(4))
    assert calibrated_cross_entropy(logits, truth, multi_label) == pytest.approx(expected)
    # Another temperature of the logits changes nothing.
    assert calibrated_cross_entropy(logits * 3, truth, multi_label) == pytest.approx(expected)


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize(
    "logits, expected",
    [
        ([[3e4, -3e4]], None),  # right without limit
        ([[-3e4, 3e4]], 20.0),  # wrong without limit
        ([[0.0, 0.0]], None),  # no temperature matters
        ([[1e-30, -1e-30]], 0.05),
    ],
)
def test_extreme_logits_have_a_temperature_within_the_bounds(logits, expected, multi_label):
    temperature = fit_temperature(np.float32(logits), np.array([[True, False]]), multi_label)
    assert 0.05 <= temperature <= 20
    if expected is not None:
        assert temperature == pytest.approx(expected, rel=1e-3)
    assert np.isfinite(
        calibrated_cross_entropy(np.float32(logits), np.array([[True, False]]), multi_label)
    )
