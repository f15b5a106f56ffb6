"""Selection of a baseline's parameters on validation rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels

__all__ = ["select_parameters"]


def select_parameters(
    baseline: Any, X: Sequence[str], y: Sequence[Any], fraction: float = 0.1
) -> dict[str, Any]:
    """Return the entry of `baseline.GRID` with the best score on validation rows.

    The validation rows are those of `TextClassifier` with seed 0. The score is accuracy, or
    micro-F1 for several labels per text; of equal scores the first is selected. Without
    validation rows, the first entry is returned.

    Args:
        baseline: `TfidfClassifier` or `FastTextClassifier`.
        X: texts.
        y: a label per text, or a tuple of labels per text.
        fraction: fraction of the rows to validate on.
    """
    targets = encode_labels(y, unique_labels(y))
    training, validation = train_validation_split(first_classes(targets), fraction, 0)
    if not len(validation):
        return dict(baseline.GRID[0])
    held_out = [y[i] for i in validation]
    scores = []
    for parameters in baseline.GRID:
        model = baseline(**parameters).fit([X[i] for i in training], [y[i] for i in training])
        predicted = model.predict([X[i] for i in validation])
        found = classification_scores(held_out, predicted)
        scores.append(found["micro_f1" if isinstance(y[0], tuple) else "accuracy"])
    return dict(baseline.GRID[int(np.argmax(scores))])
