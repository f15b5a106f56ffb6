"""Predictions of a batch against the definition, LabelDecoder.labels, row by row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.batch_prediction.predictions import PredictionOptions, Predictions

# Few values, so that many probabilities are equal.
LOGITS = st.integers(0, 5).flatmap(
    lambda rows: st.lists(
        st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=4, max_size=4),
        min_size=rows,
        max_size=rows,
    )
)


@given(
    LOGITS,
    st.booleans(),
    st.none() | st.integers(1, 6),
    st.none() | st.sampled_from([0.0, 0.1, 0.3, 0.6, 1.0]),
)
def test_answers_are_those_of_the_decoder(rows, multi_label, top_k, threshold):
    decoder = LabelDecoder(["a", "b", "c", "d"], multi_label)
    logits = np.array(rows, np.float32).reshape(-1, 4)
    options = PredictionOptions(top_k, threshold, probabilities=True)
    answers = Predictions.from_logits(decoder, logits, options)
    assert len(answers) == len(rows)
    probabilities = decoder.probabilities(logits)
    np.testing.assert_array_equal(answers.probabilities, probabilities)
    ranked = options.ranked
    expected = decoder.labels(logits, top_k or (4 if ranked else None), threshold)
    for i, own in enumerate(expected):
        at = slice(answers.offsets[i], answers.offsets[i + 1])
        classes = answers.classes[at].tolist()
        np.testing.assert_array_equal(answers.scores[at], probabilities[i, classes])
        labels = [decoder.classes[c] for c in classes]
        if ranked:
            assert labels == [label for label, _ in own]
        else:
            assert labels == (list(own) if multi_label else [own])


@pytest.mark.parametrize("options", [{"top_k": 0}, {"threshold": 1.5}, {"threshold": float("nan")}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PredictionOptions(**options)
