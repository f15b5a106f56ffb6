"""Probabilities that mean what they say.

A classifier is calibrated if of the answers that it gives with probability 0.8, four in five are
right. Dividing all logits by one number, the temperature, that makes held-out answers most likely
comes close, and changes no answer (Guo et al. 2017, "On calibration of modern neural networks").
"""

from __future__ import annotations

import numpy as np

__all__ = ["best_threshold", "expected_calibration_error", "fit_temperature", "sigmoid", "softmax"]

# Beyond these the held-out rows are all right or all wrong, and say nothing of probabilities.
_COLDEST, _HOTTEST = 0.05, 20.0


def softmax(logits: np.ndarray) -> np.ndarray:
    """(..., C) probabilities that add up to 1, in the type of the logits."""
    odds = np.exp(logits - logits.max(-1, keepdims=True))
    return odds / odds.sum(-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of a yes each, in the type of the logits."""
    odds = np.exp(-np.abs(logits))
    return np.where(logits > 0, 1, odds) / (1 + odds)


def fit_temperature(logits: np.ndarray, truth: np.ndarray, multi_label: bool) -> float:
    """What to divide logits (B, C) by, so that the mean log probability of the truth is greatest.

    `truth` (B, C) is true where a row has a class, one per row unless `multi_label`.
    """
    from scipy.optimize import minimize_scalar  # type: ignore[import-untyped]

    logits = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        z = logits / np.exp(log_temperature)
        if multi_label:
            return float((np.logaddexp(0, z) - truth * z).mean())
        greatest = z.max(1)
        norms = np.log(np.exp(z - greatest[:, None]).sum(1)) + greatest
        return float((norms - z[truth]).mean())

    borders = np.log(_COLDEST), np.log(_HOTTEST)
    return float(np.exp(minimize_scalar(loss, bounds=borders, method="bounded").x))


def best_threshold(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Above which score (B, C) is a yes so that micro-F1 is greatest, and that F1."""
    order = np.argsort(-scores, axis=None, kind="stable")
    right = truth.ravel()[order].cumsum()
    f1 = 2 * right / (np.arange(1, len(right) + 1) + max(1, right[-1]))
    best = int(f1.argmax())
    ranked = scores.ravel()[order]
    return float((ranked[best] + ranked[min(best + 1, len(ranked) - 1)]) / 2), float(f1[best])


def expected_calibration_error(
    probabilities: np.ndarray, truth: np.ndarray, multi_label: bool
) -> float:
    """Expected calibration error: |share that is right - mean probability|, over 15 bins.

    Of the most probable class of each row; of several labels, of every yes or no.
    """
    if multi_label:
        said, right = probabilities.ravel().astype(np.float64), truth.ravel()
    else:
        best = probabilities.argmax(1)
        rows = np.arange(len(best))
        said, right = probabilities[rows, best].astype(np.float64), truth[rows, best]
    bins = np.minimum((said * 15).astype(int), 14)
    gaps = np.bincount(bins, said, 15) - np.bincount(bins, right, 15)
    return float(np.abs(gaps).sum() / max(1, len(said)))
