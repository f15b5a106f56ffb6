"""A paired test on rows: is one classifier more accurate than another?"""

from __future__ import annotations

from collections.abc import Mapping
from math import lgamma
from typing import Any

import numpy as np

__all__ = ["paired_test", "verdict"]


def paired_test(first: np.ndarray, second: np.ndarray, level: float = 0.05) -> dict[str, Any]:
    """Compare the accuracies of two classifiers on the same rows by an exact paired test.

    Row i has the difference d_i of the fractions of runs that answer it correctly. Under the
    hypothesis that the classifiers are exchangeable on every row, each d_i has either sign with
    probability 1/2; p is the probability that the sum of the d_i is at least as far from 0 as
    measured. With one run each this is the exact test of McNemar. The seeds of the runs are taken
    as given: the test is about the rows.

    Args:
        first: (runs, rows) bool, whether the first classifier answers a row correctly in a run.
        second: (runs, rows) bool of the second one, of any number of runs.
        level: the difference is significant if p is less.

    Returns:
        "difference": mean accuracy of the first minus that of the second;
        "p": of the two-sided test, exact;
        "first_only", "second_only": rows that the first (second) answers correctly in a greater
        fraction of its runs;
        "verdict": "ahead", "behind" or "not different", for the first.

    Cost: O(R L), R the number of rows that differ and L the sum of |d_i|, in units of one over the
    least common multiple of the numbers of runs.

    >>> first = np.array([[1, 1, 1, 1, 1, 1, 0]], bool)
    >>> paired_test(first, np.zeros((1, 7), bool))["p"]
    0.03125
    """
    unit = np.lcm(len(first), len(second))
    # Integer differences, in units of 1 / unit, so that equal sums are equal.
    difference = first.sum(0) * (unit // len(first)) - second.sum(0) * (unit // len(second))
    observed = abs(int(difference.sum()))
    magnitudes, counts = np.unique(np.abs(difference[difference != 0]), return_counts=True)
    # The number of ways to reach each sum of the positive terms, as probabilities.
    distribution = np.ones(1)
    for magnitude, count in zip(magnitudes.tolist(), counts.tolist()):
        step = np.zeros(magnitude * count + 1)
        step[::magnitude] = _binomial(count)
        distribution = np.convolve(distribution, step)
    total = len(distribution) - 1  # the greatest sum of positive terms
    sums = np.abs(2 * np.arange(total + 1) - total)
    p = float(min(1.0, distribution[sums >= observed].sum()))
    mean = float(difference.mean() / unit) if difference.size else 0.0
    verdict = "not different" if p >= level else "ahead" if mean > 0 else "behind"
    return {
        "difference": mean,
        "p": p,
        "first_only": int((difference > 0).sum()),
        "second_only": int((difference < 0).sum()),
        "verdict": verdict,
    }


def verdict(test: Mapping[str, Any]) -> str:
    """Format the result of `paired_test` for a table.

    >>> verdict({"verdict": "ahead", "difference": 0.0125, "p": 0.004})
    'ahead by 1.25 (p 0.004)'
    """
    p = "p < 0.001" if test["p"] < 0.001 else f"p {test['p']:.2g}"
    if test["verdict"] == "not different":
        return f"not different ({p})"
    return f"{test['verdict']} by {100 * abs(test['difference']):.2f} ({p})"


def _binomial(count: int) -> np.ndarray:
    """Probabilities of 0 ... count heads in `count` fair throws."""
    logs = np.array([lgamma(k + 1) for k in range(count + 1)])
    return np.exp(logs[-1] - logs - logs[::-1] - count * np.log(2.0))
