"""The sigmoid of fastText, and the most probable class."""

from __future__ import annotations

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder


def test_stepped_sigmoids_by_definition():
    decoder = LabelDecoder(list("abcdefg"), stepped=True)
    logits = np.array([[-8.01, -8, -0.01, 0, 0.04, 8, 8.01]], dtype=np.float32)
    expected = [0, *(1 / (1 + np.exp(-z)) for z in (-8, -1 / 32, 0, 1 / 32, 8)), 1]
    found = decoder.probabilities(logits)
    assert found.dtype == np.float32 and np.allclose(found[0], expected, rtol=1e-6)
    assert decoder.labels(logits) == ["g"]
    assert decoder.labels(logits, threshold=0.6) == [["g", "f"]]


def test_the_first_of_equally_probable_classes_is_the_best():
    logits = np.array([[1.0, 2.001, 2.02], [9.0, 10.0, 0.0]], dtype=np.float32)
    stepped = LabelDecoder(list("abc"), stepped=True)
    assert stepped.labels(logits) == ["b", "a"]
    assert stepped.decide(logits).tolist() == [[False, True, False], [True, False, False]]
    assert [row[0][0] for row in stepped.labels(logits, top_k=1)] == ["b", "a"]
    assert LabelDecoder(list("abc")).labels(logits) == ["c", "b"]
