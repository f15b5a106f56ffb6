"""Predictions that are kept for later tests."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.classifier.baselines.predictions import correct_rows, pack_labels, unpack_labels


@pytest.mark.parametrize("num_classes", [2, 256, 300])
def test_labels_come_back(num_classes):
    classes = [f"class {i}" for i in range(num_classes)]
    labels = [classes[i] for i in np.random.default_rng(0).integers(0, num_classes, 1000)]
    packed = pack_labels(labels, classes)
    assert unpack_labels(packed, classes) == labels
    # Two classes take little more than a bit per row.
    assert num_classes > 2 or len(packed) < 300


def test_lists_of_labels_come_back():
    classes = list("abcdefghij")
    labels = [("a",), (), ("b", "j"), ("a", "i", "j")]
    assert unpack_labels(pack_labels(labels, classes), classes, multi_label=True) == labels


def test_rows_are_correct_if_all_their_labels_are():
    classes = ["a", "b"]
    packed = [pack_labels(run, classes) for run in (["a", "b", "b"], ["b", "b", "a"])]
    truth = ["a", "b", "a"]
    assert correct_rows(packed, truth, classes).tolist() == [[1, 1, 0], [0, 1, 1]]
    multi = [pack_labels([("a", "b"), ("a",)], classes)]
    assert correct_rows(multi, [("b", "a"), ("a", "b")], classes).tolist() == [[1, 0]]
