"""Paired tests on rows: is one classifier better than another?"""

from __future__ import annotations

from collections.abc import Mapping
from math import lgamma
from typing import Any

import numpy as np

__all__ = ["paired_f1_test", "paired_test", "verdict"]

_DRAWS = 10_000


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
    >>> round(paired_test(first, np.zeros((1, 7), bool))["p"], 5)
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
    return {
        "difference": mean,
        "p": p,
        "first_only": int((difference > 0).sum()),
        "second_only": int((difference < 0).sum()),
        "verdict": _decide(mean, p, level),
    }


def paired_f1_test(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    true: np.ndarray,
    level: float = 0.05,
) -> dict[str, Any]:
    """Compare the micro-F1 of two classifiers on the same rows by a paired randomization test.

        F1 = 2 sum_i a_i / (sum_i p_i + sum_i t_i)

    a_i labels of row i that are predicted correctly and p_i predicted labels, both as means over
    the runs, and t_i true labels. Under the hypothesis of `paired_test`, that the classifiers are
    exchangeable on every row, (a_i, p_i) are swapped between them with probability 1/2; p is the
    probability that the values of F1 then differ at least as much as measured, from 10,000 draws
    with a fixed seed. F1 is not a sum over rows, so the exact test does not apply to it.

    Args:
        first: (runs, rows) numbers of correctly predicted labels and of predicted labels; see
            `label_counts`.
        second: those of the second classifier, of any number of runs.
        true: (rows,) numbers of true labels.
        level: the difference is significant if p is less.

    Returns:
        as for `paired_test`; "difference" is that of the micro-F1, and "first_only" ("second_only")
        the number of rows on which the first (second) has fewer wrong and missing labels.

    Cost: O(10,000 R), R the number of rows that differ.

    Source: Yeh (2000), More accurate tests for the statistical significance of result differences.

    >>> right, none, one = np.ones((1, 8)), np.zeros((1, 8)), np.ones(8)
    >>> paired_f1_test((right, right), (none, right), one)["verdict"]
    'ahead'
    """
    ours, theirs = (np.array([part.mean(0) for part in each]) for each in (first, second))
    labels = float(true.sum())

    def difference(a: Any, p: Any, b: Any, q: Any) -> Any:
        # Without any label, true or predicted, the sums are 0 and so is F1.
        return 2 * a / np.maximum(p + labels, 1) - 2 * b / np.maximum(q + labels, 1)

    sums = ours.sum(1), theirs.sum(1)
    observed = float(difference(*sums[0], *sums[1]))
    change = theirs - ours
    change = change[:, change.any(0)]
    rng = np.random.default_rng(0)
    extreme = 0
    for draws in np.full(10, _DRAWS // 10):
        swapped = rng.integers(2, size=(draws, change.shape[1]), dtype=np.int8) @ change.T
        moved = difference(*(sums[0] + swapped).T, *(sums[1] - swapped).T)
        extreme += int((np.abs(moved) >= abs(observed) - 1e-12).sum())
    p = (1 + extreme) / (1 + _DRAWS)
    wrong = [counts[1] - 2 * counts[0] for counts in (ours, theirs)]
    return {
        "difference": observed,
        "p": p,
        "first_only": int((wrong[0] < wrong[1]).sum()),
        "second_only": int((wrong[0] > wrong[1]).sum()),
        "verdict": _decide(observed, p, level),
    }


def _decide(difference: float, p: float, level: float) -> str:
    return "not different" if p >= level else "ahead" if difference > 0 else "behind"


def verdict(test: Mapping[str, Any]) -> str:
    """Format the result of `paired_test` or `paired_f1_test` for a table.

    >>> verdict({"verdict": "ahead", "difference": 0.0125, "p": 0.004})
    'ahead by 1.25 (p 0.004)'
    """
    p = "p < 0.001" if test["p"] < 0.001 else f"p {test['p']:.2g}"
    if test["verdict"] == "not different":
        return f"not significant ({p})"
    return f"{test['verdict']} by {100 * abs(test['difference']):.2f} ({p})"


def _binomial(count: int) -> np.ndarray:
    """Probabilities of 0 ... count heads in `count` fair throws."""
    logs = np.array([lgamma(k + 1) for k in range(count + 1)])
    return np.exp(logs[-1] - logs - logs[::-1] - count * np.log(2.0))
