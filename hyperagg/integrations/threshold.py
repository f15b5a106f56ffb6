"""The score above which a given fraction of a corpus lies."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperagg._common.validation import check_real

__all__ = ["score_threshold"]


def score_threshold(scores: Any, keep_fraction: float) -> float:
    """Return the smallest score such that at most a fraction of the texts reaches it.

    On a random sample of n texts of a corpus, the fraction of the corpus that reaches the threshold
    has a standard error of sqrt(keep_fraction (1 - keep_fraction) / n): 0.3 percentage points for a
    tenth and 10,000 texts.

    Args:
        scores: (n,) the scores of a random sample, such as the probability of one class.
        keep_fraction: the fraction to keep, above 0 and below 1.

    Raises:
        ValueError: the scores are not finite numbers in one dimension, they are fewer than
            1 / keep_fraction, or more texts share the highest score than are to be kept.

    Cost: O(n).

    Example:
        >>> score_threshold([0.1, 0.9, 0.4, 0.7], keep_fraction=0.5)
        0.7
    """
    check_real("keep_fraction", keep_fraction, 0, 1, open_minimum=True)
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("scores: expected finite numbers in one dimension")
    if keep_fraction >= 1:
        raise ValueError(f"keep_fraction={keep_fraction}: expected a number below 1")
    kept = int(keep_fraction * len(values) + 1e-9)
    if kept < 1:
        raise ValueError(
            f"scores: expected at least {int(np.ceil(1 / keep_fraction)):,} for "
            f"keep_fraction={keep_fraction:g}, got {len(values):,}"
        )
    first_dropped = len(values) - kept - 1
    above = values[values > np.partition(values, first_dropped)[first_dropped]]
    if not len(above):
        raise ValueError(
            f"scores: more than keep_fraction={keep_fraction:g} of the texts share the highest "
            f"score, {values.max():g}"
        )
    return float(above.min())
