"""The selected learning rate lies between two worse ones."""

from __future__ import annotations

import math

import pytest

from research.studies.learning_rate_search import (
    MAX_LEARNING_RATE,
    MIN_LEARNING_RATE,
    search_learning_rate,
)


@pytest.mark.parametrize("best", [5e-4, 4e-3, 1.6e-2, 6.4e-2])
def test_the_best_learning_rate_lies_between_two_worse_ones(best):
    tried: list[float] = []

    def measure(learning_rate: float) -> float:
        tried.append(learning_rate)
        return abs(math.log(learning_rate / best))

    assert search_learning_rate(measure, (2e-3, 4e-3)) == pytest.approx(best)
    assert len(tried) == len(set(tried))
    assert best in (MIN_LEARNING_RATE, MAX_LEARNING_RATE) or (min(tried) < best < max(tried))
