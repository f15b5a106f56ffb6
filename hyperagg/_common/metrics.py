"""Computes the metrics of classifiers."""

from __future__ import annotations

import numpy as np

from hyperagg._common.calibration import expected_calibration_error

__all__ = ["classification_metrics", "metric_name"]


def classification_metrics(
    predicted: np.ndarray, truth: np.ndarray, probabilities: np.ndarray, multi_label: bool
) -> dict[str, float]:
    """Return how well the predictions of a classifier match the true classes.

    Args:
        predicted: (B, C) bool, the predicted classes of each row; one per row unless
            `multi_label`. See `LabelDecoder.decide`.
        truth: (B, C) bool, the true classes of each row.
        probabilities: (B, C), for the calibration error.
        multi_label: whether a row may have any number of classes.

    Returns:
        "accuracy" and "macro_f1", or "micro_f1" and "macro_f1" if `multi_label`, and
        "expected_calibration_error". The F1 of a class without a true and a predicted row is 0;
        in single-label problems such a class does not count for macro-F1. These are the
        conventions of scikit-learn.

    Cost: O(B C).
    """
    hits = (predicted & truth).sum(0)
    sizes = predicted.sum(0) + truth.sum(0)  # 2 TP + FP + FN of each class
    f1 = 2 * hits / np.maximum(sizes, 1)
    if multi_label:
        first = "micro_f1", float(2 * hits.sum() / max(1, sizes.sum()))
    else:
        first = "accuracy", float(hits.sum() / max(1, len(truth)))
        f1 = f1[sizes > 0]
    error = expected_calibration_error(probabilities, truth, multi_label)
    return {
        first[0]: first[1],
        "macro_f1": float(f1.mean()) if len(f1) else 0.0,
        "expected_calibration_error": error,
    }


def metric_name(key: str) -> str:
    """Return the name of a metric for people, given its key: "macro-F1" for "macro_f1"."""
    return key.replace("_f1", "-F1").replace("_", " ")
