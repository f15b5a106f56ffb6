"""The threshold keeps at most the fraction that was asked for, and no less than it can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.integrations import score_threshold

SCORES = st.lists(st.integers(0, 12).map(lambda i: i / 8), min_size=1, max_size=50)


@given(SCORES, st.floats(0.02, 0.98))
def test_no_smaller_score_keeps_at_most_the_fraction(scores, fraction):
    values = np.array(scores)

    def kept(threshold):
        return (values >= threshold).sum()

    allowed = int(fraction * len(values) + 1e-9)
    possible = [s for s in values if kept(s) <= allowed]
    if possible:
        assert score_threshold(scores, fraction) == min(possible)
    else:
        with pytest.raises(ValueError, match=r"^scores: "):
            score_threshold(scores, fraction)


@pytest.mark.parametrize(
    ("scores", "fraction", "message"),
    [
        ([0.1, 0.2], 0, "keep_fraction"),
        ([0.1, 0.2], 1, "keep_fraction=1: expected a number below 1"),
        ([0.1] * 9, 0.1, "scores: expected at least 10 for keep_fraction=0.1, got 9"),
        ([0.1] * 10, 0.1, "share the highest score, 0.1"),
        ([0.1, float("nan")], 0.5, "scores: expected finite"),
        ([[0.1], [0.2]], 0.5, "scores: expected finite numbers in one dimension"),
    ],
)
def test_errors(scores, fraction, message):
    with pytest.raises(ValueError, match=message):
        score_threshold(scores, fraction)
