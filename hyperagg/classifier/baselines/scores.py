"""Accuracy and F1 of predicted labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg.classifier.training.labels import encode_labels, is_multi_label, unique_labels

__all__ = ["classification_scores"]


def classification_scores(labels: Sequence[Any], predicted: Sequence[Any]) -> dict[str, float]:
    """Compare predicted labels with the true ones.

    Args:
        labels: the true labels, or a tuple of labels per text.
        predicted: the predicted ones, in the same form.

    Returns:
        "accuracy" and "macro_f1", or "micro_f1" and "macro_f1" for several labels per text. The
        macro average is over all classes that occur in either; 0/0 counts as 0.
    """
    multi_label = is_multi_label(labels)
    classes = unique_labels([*labels, *predicted])
    truth, answer = (
        encode_labels(rows, classes, "labels").indicators(len(classes))
        for rows in (labels, predicted)
    )
    correct = (truth & answer).sum(0)
    total = truth.sum(0) + answer.sum(0)
    macro_f1 = float((2 * correct / np.maximum(total, 1)).mean())
    if multi_label:
        return {"micro_f1": float(2 * correct.sum() / max(1, total.sum())), "macro_f1": macro_f1}
    return {"accuracy": float(correct.sum() / len(truth)), "macro_f1": macro_f1}
