"""Accuracy and F1 of predicted labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg._common.metrics import classification_metrics
from hyperagg.classifier.training.labels import encode_labels, is_multi_label, unique_labels

__all__ = ["classification_scores"]


def classification_scores(labels: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
    """Compare predicted labels with the true ones.

    Args:
        labels: the true labels, or a tuple of labels per text.
        predicted: the predicted ones, in the same form.

    Returns:
        "accuracy" and "macro_f1", or "micro_f1" and "macro_f1" for several labels per text; see
        `classification_metrics`.
    """
    multi_label = is_multi_label(labels)
    classes = unique_labels([*labels, *predicted])
    truth, answer = (
        encode_labels(rows, classes, "labels").indicators(len(classes))
        for rows in (labels, predicted)
    )
    metrics = classification_metrics(answer, truth, answer.astype(np.float64), multi_label)
    # These predictions have no probabilities that could be calibrated.
    del metrics["expected_calibration_error"]
    return metrics
