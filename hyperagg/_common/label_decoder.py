"""From logits to probabilities and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperagg._common.calibration import sigmoid, softmax

__all__ = ["Label", "LabelDecoder"]

Label = str | int


@dataclass(frozen=True)
class LabelDecoder:
    """What the columns of logits stand for.

    Args:
        classes: the labels, in the order of the columns.
        multi_label: whether a document may have any number of labels, and not exactly one.
        threshold: the probability above which it then has a label.
    """

    classes: Sequence[Label]
    multi_label: bool = False
    threshold: float = 0.5

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of each class, in the shape of the logits (..., C); they add up to 1 unless multi_label."""
        return sigmoid(logits) if self.multi_label else softmax(logits)

    def labels(self, logits: np.ndarray) -> list[Label] | list[tuple[Label, ...]]:
        """The most probable label of each row of (B, C), or those above the threshold."""
        if not self.multi_label:
            return [self.classes[c] for c in logits.argmax(1).tolist()]
        rows = self.probabilities(logits) > self.threshold
        return [tuple(self.classes[int(c)] for c in np.flatnonzero(row)) for row in rows]
