"""The scores of classes equal those of scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from hyperagg._common.evaluation import evaluate_logits
from hyperagg._common.label_decoder import LabelDecoder

LABELS = ["a", "b", "c", "d"]


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_one_label_per_row(rows, seed):
    rng = np.random.default_rng(seed)
    logits, truth = rng.normal(size=(rows, 3)), ["a", *rng.choice(LABELS, rows - 1).tolist()]
    found = evaluate_logits(LabelDecoder(LABELS[:3]), logits, truth)  # "d" is unknown
    predicted = [LABELS[c] for c in logits.argmax(1)]
    names = list(found.classes)
    expected = precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    columns = list(zip(*(tuple(own)[1:] for own in found.class_scores())))
    np.testing.assert_allclose(columns, expected)
    counts = np.zeros((len(names), len(names)), dtype=int)
    true, answers, rows_of = found.confusion
    counts[true, answers] = rows_of
    np.testing.assert_array_equal(counts, confusion_matrix(truth, predicted, labels=names))
    assert found.metrics["macro_f1"] == pytest.approx(
        f1_score(truth, predicted, average="macro", zero_division=0)
    )
    assert found.unknown_labels == ({"d": truth.count("d")} if "d" in truth else {})
    worst = found.worst_rows(rows)
    assert set(worst) == {i for i, label in enumerate(truth) if label not in ("d", predicted[i])}
    assert (np.diff(found.losses[worst]) <= 0).all()
    errors = sum(pair.rows for pair in found.confused_pairs(16))
    assert errors == sum(a != b for a, b in zip(truth, predicted))
    json.dumps(found.to_dict())


@given(st.integers(1, 40), st.integers(0, 2**32))
def test_several_labels_per_row(rows, seed):
    rng = np.random.default_rng(seed)
    logits, truth = rng.normal(size=(rows, 3)), rng.random((rows, 3)) < 0.4
    labels = [tuple(LABELS[c] for c in np.flatnonzero(row)) for row in truth]
    found = evaluate_logits(LabelDecoder(LABELS[:3], multi_label=True), logits, labels)
    expected = precision_recall_fscore_support(truth, logits > 0, zero_division=0)
    columns = list(zip(*(tuple(own)[1:] for own in found.class_scores())))
    np.testing.assert_allclose(columns, expected)
    assert set(found.worst_rows(rows)) == set(np.flatnonzero((truth != (logits > 0)).any(1)))
    with pytest.raises(ValueError, match="several labels"):
        found.confusion  # noqa: B018
    json.dumps(found.to_dict())


def test_reliability_bins_hold_every_prediction():
    rng = np.random.default_rng(0)
    decoder = LabelDecoder(LABELS)
    logits = rng.normal(size=(500, 4))
    found = evaluate_logits(decoder, logits, rng.choice(LABELS, 500).tolist())
    bins = found.reliability()
    assert bins.counts.sum() == 500
    assert bins.correct.sum() == 500 * found.metrics["accuracy"]
    assert bins.probabilities.sum() == pytest.approx(decoder.probabilities(logits).max(1).sum())


@pytest.mark.parametrize("known", [0, 1])
def test_a_column_that_holds_no_labels_is_refused(known):
    labels = ["a"] * known + [f"id {i}" for i in range(2000)]
    with pytest.raises(
        ValueError, match=r"2,000 of 2,0.. labels did not occur in training, such as"
    ):
        evaluate_logits(LabelDecoder(LABELS), np.zeros((len(labels), 4)), labels)
