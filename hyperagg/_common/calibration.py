"""Turns logits into probabilities that match observed frequencies.

A classifier is calibrated if 80 % of the predictions that it makes with probability 0.8 are
correct. Temperature scaling divides all logits by the one number that minimizes the negative
log-likelihood of held-out labels. It does not change which class is the most probable one.

Source: Guo et al. 2017, "On calibration of modern neural networks".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

__all__ = [
    "Calibration",
    "ReliabilityBins",
    "best_threshold",
    "calibrate",
    "calibrated_cross_entropy",
    "expected_calibration_error",
    "fit_temperature",
    "reliability_bins",
    "sigmoid",
    "softmax",
]

# Beyond these bounds the held-out rows are all correct or all wrong and do not determine a
# temperature.
_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_TOLERANCE = 1e-7  # of the temperature, relative
_NUM_BINS = 15


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return probabilities (..., C) that sum to 1 over the last axis, with the logits' dtype."""
    # The ufuncs themselves, since for a single row the methods of an array take longer than they.
    odds = np.exp(logits - np.maximum.reduce(logits, -1, keepdims=True))
    odds /= np.add.reduce(odds, -1, keepdims=True)
    return odds


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the logistic function of each logit, in the dtype of the logits."""
    odds = np.exp(-np.abs(logits))
    return np.where(logits > 0, 1, odds) / (1 + odds)


class Calibration(NamedTuple):
    """How logits become calibrated probabilities.

    Attributes:
        temperature: the number to divide all logits by.
        threshold: the probability above which a row of a multi-label problem has a label.
        expected_calibration_error: that of the held-out rows before and after the division.
    """

    temperature: float
    threshold: float
    expected_calibration_error: list[float]


def calibrate(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> Calibration:
    """Fit the temperature, and in multi-label problems the threshold, on held-out rows.

    Args:
        logits: (B, C), B > 0.
        truth: (B, C) bool, True where a row has a class; exactly one per row unless `multi_label`.
        multi_label: whether a row may have any number of classes.

    Cost: see `fit_temperature`.
    """
    temperature = fit_temperature(logits, truth, multi_label)
    to_probabilities = sigmoid if multi_label else softmax
    before, after = map(to_probabilities, (logits, logits / np.float32(temperature)))
    return Calibration(
        temperature,
        best_threshold(after, truth)[0] if multi_label else 0.5,
        [expected_calibration_error(p, truth, multi_label) for p in (before, after)],
    )


def fit_temperature(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    """Return the temperature that minimizes the cross-entropy of known labels.

    The probabilities are softmax(logits / T), or sigmoid(logits / T) for every class if
    `multi_label`. A label has the probability (n + 1) / (n + 2) instead of 1, where n is the number
    of all labels, so that a few rows that happen to be easy do not make a classifier certain. The
    cross-entropy is convex in 1 / T; Newton's method finds its minimum.

    Args:
        logits: (B, C).
        truth: (B, C) bool, True where a row has a class; exactly one per row unless `multi_label`.
        multi_label: whether a row may have any number of classes.

    Returns:
        The temperature, from 0.05 to 20.

    Numerics: float64; exact to 1e-6. Cost: O(B C), about six passes.

    Source of the targets: Platt 1999, "Probabilistic outputs for support vector machines".
    """
    columns = np.ascontiguousarray(logits.T, dtype=np.float64)  # (C, B), reduced over its rows
    if not multi_label:
        columns -= columns.max(0)
    observed = float((_smoothed(truth, multi_label).T * columns).sum())
    low, high = 1 / _MAX_TEMPERATURE, 1 / _MIN_TEMPERATURE
    inverse = 1.0
    while high - low > _TOLERANCE * inverse:
        expected, variance = _moments(columns, inverse, multi_label)
        if expected > observed:  # the model is too certain
            high = inverse
        else:
            low = inverse
        # Where Newton's method would leave the interval, the interval is divided.
        gap = observed - expected
        following = math.sqrt(low * high)
        if abs(gap) < variance * (high - low) and low < inverse + gap / variance < high:
            following = inverse + gap / variance
        if abs(following - inverse) <= _TOLERANCE * inverse:
            break
        inverse = following
    return 1 / inverse


def _moments(columns: np.ndarray, inverse: float, multi_label: bool) -> tuple[float, float]:
    """Return the sums over rows of the mean and the variance of the logits, (C, B), under the
    probabilities at an inverse temperature: the derivative of the log-likelihood is the observed
    mean minus the first, and the second is minus its derivative."""
    if multi_label:
        probabilities = sigmoid(inverse * columns)
        weighted = probabilities * columns
        return float(weighted.sum()), float((weighted * (1 - probabilities) * columns).sum())
    odds = np.exp(inverse * columns)
    total = odds.sum(0)
    odds *= columns
    mean = odds.sum(0) / total
    odds *= columns
    return float(mean.sum()), float((odds.sum(0) / total - mean * mean).sum())


def calibrated_cross_entropy(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    """Return the mean cross-entropy of a row at the temperature that is best for these rows.

    In multi-label problems it is the sum over the classes of a row.

    Args:
        logits: (B, C), B > 0.
        truth: (B, C) bool, True where a row has a class; exactly one per row unless `multi_label`.
        multi_label: whether a row may have any number of classes.

    Numerics: float64. Cost: see `fit_temperature`.
    """
    scaled = logits.astype(np.float64) / fit_temperature(logits, truth, multi_label)
    if multi_label:
        return float((np.logaddexp(0, scaled) - truth * scaled).sum(1).mean())
    scaled -= scaled.max(1, keepdims=True)
    return float((np.log(np.exp(scaled).sum(1)) - scaled[truth]).mean())


def _smoothed(truth: np.ndarray, multi_label: bool) -> np.ndarray:
    """(B, C) the probabilities that stand for the labels."""
    positives = int(truth.sum())
    if multi_label:
        negatives = truth.size - positives
        return np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    rest = 1 / (positives + 2)
    return np.where(truth, 1 - rest, rest / max(1, truth.shape[1] - 1))


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Return the threshold over all scores that maximizes the micro-F1, and that micro-F1.

    A row is predicted to have a class if its score is above the threshold.

    Args:
        scores: (B, C) logits or probabilities.
        truth: (B, C) bool, True where a row has a class.

    Cost: O(B C log(B C)).
    """
    order = np.argsort(-scores, axis=None, kind="stable")
    true_positives = truth.ravel()[order].cumsum()
    positives = max(1, true_positives[-1])
    f1 = 2 * true_positives / (np.arange(1, len(true_positives) + 1) + positives)
    best = int(f1.argmax())
    ranked = scores.ravel()[order]
    return float((ranked[best] + ranked[min(best + 1, len(ranked) - 1)]) / 2), float(f1[best])


class ReliabilityBins(NamedTuple):
    """Predictions by their probability, in bins of equal width from 0 to 1.

    Attributes:
        counts: (K,) the number of predictions in each bin.
        probabilities: (K,) the sum of their probabilities.
        correct: (K,) the number of them that are correct.
    """

    counts: np.ndarray
    probabilities: np.ndarray
    correct: np.ndarray


def reliability_bins(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool, bins: int = _NUM_BINS
) -> ReliabilityBins:
    """Count how often predictions of each probability are correct.

    They are the most probable class of each row, or every class of every row if `multi_label`.

    Args:
        probabilities: (B, C).
        truth: (B, C) bool, True where a row has a class.
        multi_label: whether a row may have any number of classes.
        bins: the number of bins.
    """
    if multi_label:
        confidence, correct = probabilities.ravel().astype(np.float64), truth.ravel()
    else:
        best = probabilities.argmax(1)
        rows = np.arange(len(best))
        confidence, correct = probabilities[rows, best].astype(np.float64), truth[rows, best]
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return ReliabilityBins(
        np.bincount(bin_of, minlength=bins),
        np.bincount(bin_of, confidence, bins),
        np.bincount(bin_of, correct, bins),
    )


def expected_calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool
) -> float:
    """Return the expected calibration error (ECE) over 15 bins of equal width.

    ECE = sum over bins of |correct fraction - mean probability|, weighted by the size of the bin.
    It covers the most probable class of each row, or every class of every row if `multi_label`.

    Args:
        probabilities: (B, C).
        truth: (B, C) bool, True where a row has a class.
        multi_label: whether a row may have any number of classes.

    Source: Naeini et al. 2015, "Obtaining well calibrated probabilities using Bayesian binning".
    """
    bins = reliability_bins(probabilities, truth, multi_label)
    return float(np.abs(bins.probabilities - bins.correct).sum() / max(1, bins.counts.sum()))
