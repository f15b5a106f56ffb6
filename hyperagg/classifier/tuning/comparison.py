"""Compares two classifiers on the same rows, with a standard error of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Comparison", "RowCounts", "compare_rows", "count_rows"]


class RowCounts(NamedTuple):
    """What the predictions of some rows have in common with the true labels.

    Attributes:
        hits: (rows,) the number of labels that are predicted and true.
        sizes: (rows,) the number of predicted labels plus that of true ones.
    """

    hits: np.ndarray
    sizes: np.ndarray

    @property
    def score(self) -> float:
        """The micro-F1, which is the accuracy if every row has one label and one prediction."""
        return float(2 * self.hits.sum() / max(1, self.sizes.sum()))


def count_rows(predicted: Sequence[Any], true: Sequence[Any]) -> RowCounts:
    """Count for each row; a row is a label, or a tuple of labels.

    >>> count_rows(["a", "b"], ["a", "c"]).score
    0.5
    """
    pairs = [(_labels(p), _labels(t)) for p, t in zip(predicted, true, strict=True)]
    hits = np.array([len(p & t) for p, t in pairs])
    return RowCounts(hits, np.array([len(p) + len(t) for p, t in pairs]))


def _labels(row: Any) -> set[Any]:
    return set(row) if isinstance(row, tuple) else {row}


@dataclass(frozen=True)
class Comparison:
    """A trial beside the default configuration, on held-out rows.

    Attributes:
        score, default_score: accuracies, or micro-F1 for several labels per text.
        difference: score - default_score.
        standard_error: of the difference, paired over the rows.
        num_rows: the number of rows.
        num_folds: the number of folds that they are from. In each, both were trained on all rows
            that are not in the fold.
    """

    score: float
    default_score: float
    difference: float
    standard_error: float
    num_rows: int
    num_folds: int

    @property
    def is_better(self) -> bool:
        """Whether the trial is better than the default by more than one standard error."""
        return self.difference > self.standard_error


def compare_rows(trial: Sequence[RowCounts], default: Sequence[RowCounts]) -> Comparison:
    """Compare the predictions of a trial with those of the default on the same rows.

        F1 = 2 sum_i h_i / sum_i s_i,    z_i = (2 h_i - F1 s_i) / mean(s)

    h_i hits and s_i sizes of row i, and z_i what the row contributes to the difference of F1 from
    its expected value. The standard error of the difference of two classifiers is that of the mean
    of z_i - z'_i: rows that are easy or difficult for both cancel out. For accuracies, z_i - z'_i
    is 1, 0 or -1 but for a constant, and the standard error that of the test of McNemar.

    Args:
        trial, default: the counts of each fold. The rows of all folds are taken together: the
            folds are too few to estimate a standard error from their scores, and they share most
            of the rows that are trained on.
    """
    first, second = (
        RowCounts(*(np.concatenate(part) for part in zip(*counts))) for counts in (trial, default)
    )
    n = len(first.hits)
    deviations = _deviations(first) - _deviations(second)
    error = float(deviations.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    score, default_score = first.score, second.score
    return Comparison(score, default_score, score - default_score, error, n, len(trial))


def _deviations(counts: RowCounts) -> np.ndarray:
    mean_size = max(float(counts.sizes.mean()), 1e-12)
    return (2 * counts.hits - counts.score * counts.sizes) / mean_size
