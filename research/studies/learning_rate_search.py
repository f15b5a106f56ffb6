"""The learning rate of a row, chosen so that no row is judged by a rate that suits another."""

from __future__ import annotations

from collections.abc import Callable, Sequence

__all__ = ["search_learning_rate"]

MIN_RATE, MAX_RATE = 5e-4, 6.4e-2


def search_learning_rate(measure: Callable[[float], float], first: Sequence[float]) -> float:
    """The rate of the least measure, with a worse one on either side.

    Args:
        measure: of a rate, on rows that are held out; asked once for each.
        first: rates to begin with, rising; then the best so far is doubled and halved.

    Returns:
        the rate. It may be at an edge of MIN_RATE ... MAX_RATE.
    """
    found: dict[float, float] = {}
    wanted = list(first)
    while wanted:
        rate = wanted.pop()
        found[rate] = measure(rate)
        best = min(found, key=lambda each: found[each])
        if not wanted:
            around = (best / 2, best * 2)
            new = [r for r in around if r not in found and MIN_RATE <= r <= MAX_RATE]
            wanted = new[-1:]
    return best
