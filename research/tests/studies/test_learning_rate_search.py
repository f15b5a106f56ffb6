"""Learning rates that are chosen with a worse one on either side."""

from __future__ import annotations

import math

import pytest

from research.studies.learning_rate_search import MAX_RATE, MIN_RATE, search_learning_rate


@pytest.mark.parametrize("best", [5e-4, 4e-3, 1.6e-2, 6.4e-2])
def test_the_best_rate_has_a_worse_one_on_either_side(best):
    tried: list[float] = []

    def measure(rate: float) -> float:
        tried.append(rate)
        return abs(math.log(rate / best))

    assert search_learning_rate(measure, (2e-3, 4e-3)) == pytest.approx(best)
    assert len(tried) == len(set(tried))
    assert best in (MIN_RATE, MAX_RATE) or (min(tried) < best < max(tried))
