"""The metrics equal those of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

from hyperagg._common.metrics import classification_metrics


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 2**32))
def test_multi_label_metrics(rows, classes, seed):
    rng = np.random.default_rng(seed)
    truth, predicted = rng.random((2, rows, classes)) < rng.random(classes)
    found = classification_metrics(predicted, truth, rng.random((rows, classes)), True)
    for average in ("micro", "macro"):
        expected = f1_score(truth, predicted, average=average, zero_division=0)
        assert found[f"{average}_f1"] == pytest.approx(expected)
    assert 0 <= found["expected_calibration_error"] <= 1


@given(st.integers(1, 40), st.integers(2, 6), st.integers(0, 2**32))
def test_single_label_metrics(rows, classes, seed):
    rng = np.random.default_rng(seed)
    true, ids = rng.integers(0, classes, (2, rows))
    one_hot = np.eye(classes, dtype=bool)
    found = classification_metrics(one_hot[ids], one_hot[true], rng.random((rows, classes)), False)
    assert found["accuracy"] == pytest.approx(accuracy_score(true, ids))
    expected = f1_score(true, ids, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
