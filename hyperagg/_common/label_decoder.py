"""Decodes logits into probabilities and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperagg._common.calibration import sigmoid, softmax
from hyperagg._common.validation import check_integer, check_real

__all__ = ["Label", "LabelDecoder"]

Label = str | int


@dataclass(frozen=True)
class LabelDecoder:
    """Decodes the columns of logits.

    Args:
        classes: the labels, in the order of the columns.
        multi_label: whether a row may have any number of labels instead of exactly one.
        threshold: the probability above which a row of a multi-label problem has a label.
        stepped: whether the probability of every class is a sigmoid of its logit rounded down to a
            multiple of 1/32, 0 below -8 and 1 above 8, as fastText computes it.

    Example:
        >>> LabelDecoder(["no", "yes"]).labels(np.array([[0.0, 2.0]]))
        ['yes']
    """

    classes: Sequence[Label]
    multi_label: bool = False
    threshold: float = 0.5
    stepped: bool = False

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the probability of every class, in the shape of the logits (..., C).

        They sum to 1 over the classes unless `multi_label` or `stepped`.
        """
        if self.stepped:
            rounded = sigmoid(np.floor((logits + 8) * 32) / 32 - 8)
            return np.where(np.abs(logits) > 8, logits > 0, rounded).astype(logits.dtype)
        return sigmoid(logits) if self.multi_label else softmax(logits)

    def best(self, logits: np.ndarray) -> np.ndarray:
        """Return the most probable class of each row of the logits (..., C), the first if several
        are equally probable."""
        return (self.probabilities(logits) if self.stepped else logits).argmax(-1)

    def decide(self, logits: np.ndarray) -> np.ndarray:
        """Return the predicted classes of each row, (B, C) bool."""
        if self.multi_label:
            return self.probabilities(logits) > self.threshold
        predicted = np.zeros(logits.shape, dtype=bool)
        predicted[np.arange(len(logits)), self.best(logits)] = True
        return predicted

    def labels(
        self, logits: np.ndarray, top_k: int | None = None, threshold: float | None = None
    ) -> list[Any]:
        """Return the prediction for each row of the logits (B, C).

        Args:
            logits: (B, C).
            top_k: the number of classes to return per row.
            threshold: the probability above which a class is returned, from 0 to 1.

        Returns:
            One entry per row. With neither argument it is the most probable label, or, if
            `multi_label`, the tuple of the labels whose probability is above the fitted threshold,
            in the order of `classes`. With `threshold` alone it is the list of the labels whose
            probability is above it, the most probable first, or, if `multi_label`, a tuple as
            before. With `top_k` it is a list of at most `top_k` pairs (label, probability), the
            most probable first; with both, only of those above the threshold.
        """
        top_k = None if top_k is None else check_integer("top_k", top_k, 1)
        if threshold is not None:
            threshold = check_real("threshold", threshold, 0, 1)
        if top_k is None and threshold is None and not self.multi_label:
            return [self.classes[c] for c in self.best(logits).tolist()]
        probabilities = self.probabilities(logits)
        if top_k is None and self.multi_label:
            rows = probabilities > (self.threshold if threshold is None else threshold)
            return [tuple(self.classes[int(c)] for c in np.flatnonzero(row)) for row in rows]
        ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
        found = []
        for row, columns in zip(probabilities, ranked):
            pairs = [
                (self.classes[c], float(row[c]))
                for c in columns.tolist()
                if threshold is None or row[c] > threshold
            ]
            found.append([label for label, _ in pairs] if top_k is None else pairs)
        return found
