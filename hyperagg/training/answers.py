"""From logits to probabilities and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperagg.training.calibration import sigmoid, softmax
from hyperagg.training.labels import Label

__all__ = ["Answers"]


@dataclass(frozen=True)
class Answers:
    """What the columns of logits stand for.

    Args:
        classes: the labels, in the order of the columns.
        several: whether a document may have any number of labels, and not exactly one.
        threshold: the probability above which it then has a label.
    """

    classes: Sequence[Label]
    several: bool = False
    threshold: float = 0.5

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Of each class, in the shape of the logits (..., C); they add up to 1 unless several."""
        return sigmoid(logits) if self.several else softmax(logits)

    def labels(self, logits: np.ndarray) -> list[Label] | list[tuple[Label, ...]]:
        """The most probable label of each row of (B, C), or those above the threshold."""
        if not self.several:
            return [self.classes[c] for c in logits.argmax(1).tolist()]
        rows = self.probabilities(logits) > self.threshold
        return [tuple(self.classes[int(c)] for c in np.flatnonzero(row)) for row in rows]
