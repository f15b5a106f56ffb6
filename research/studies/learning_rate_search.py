"""Search for a learning rate, so that no model is measured with a rate that suits another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["search_learning_rate"]

MIN_LEARNING_RATE, MAX_LEARNING_RATE = 5e-4, 6.4e-2


def search_learning_rate(measure: Callable[[float], float], initial: Sequence[float]) -> float:
    """Find the learning rate with the smallest measure and a larger one on either side.

    Args:
        measure: maps a learning rate to a figure on held-out rows; called once per rate.
        initial: increasing learning rates to begin with. After them, the best one so far is
            doubled and halved.

    Returns:
        The learning rate. It may lie at an end of MIN_LEARNING_RATE ... MAX_LEARNING_RATE.
    """
    measured: dict[float, float] = {}
    queue = list(initial)
    while queue:
        learning_rate = queue.pop()
        measured[learning_rate] = measure(learning_rate)
        best = min(measured, key=lambda each: measured[each])
        if not queue:
            neighbors = [
                rate
                for rate in (best / 2, best * 2)
                if rate not in measured and MIN_LEARNING_RATE <= rate <= MAX_LEARNING_RATE
            ]
            queue = neighbors[-1:]
    return best
