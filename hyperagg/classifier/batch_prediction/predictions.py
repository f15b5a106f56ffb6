"""The answer to each row of a batch: labels, scores and probabilities as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg._common.validation import check_integer, check_real

__all__ = ["PredictionOptions", "Predictions"]


@dataclass(frozen=True)
class PredictionOptions:
    """What to answer for a row.

    Args:
        top_k: the number of most probable labels; None for the predicted label or labels.
        threshold: the probability that a label has to exceed, from 0 to 1.
        probabilities: whether to answer with the probability of every class as well.
    """

    top_k: int | None = None
    threshold: float | None = None
    probabilities: bool = False

    def __post_init__(self) -> None:
        if self.top_k is not None:
            check_integer("top_k", self.top_k, 1)
        if self.threshold is not None:
            check_real("threshold", self.threshold, 0, 1)

    @property
    def ranked(self) -> bool:
        """Whether a row has any number of labels, the most probable first."""
        return self.top_k is not None or self.threshold is not None


@dataclass(frozen=True)
class Predictions:
    """The labels of B rows.

    Args:
        offsets: (B + 1,) int64; row i has the labels from offsets[i] to offsets[i + 1] - 1.
        classes: the class ids of all labels.
        scores: their probabilities, float32.
        probabilities: (B, C) the probability of every class; None if it was not requested.
    """

    offsets: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @classmethod
    def from_values(cls, values: np.ndarray) -> Predictions:
        """Return the answers of a regression to B rows, as scores without labels."""
        offsets = np.zeros(len(values) + 1, dtype=np.int64)
        return cls(offsets, np.zeros(0, dtype=np.int64), values.astype(np.float32))

    @classmethod
    def from_logits(
        cls, decoder: LabelDecoder, logits: np.ndarray, options: PredictionOptions
    ) -> Predictions:
        """Return the answers to rows of logits (B, C).

        They are those of `LabelDecoder.labels`; labels of equal probability are in the order of
        the classes. A row does not depend on the other rows. Cost: O(B C), and the labels found
        are sorted.
        """
        rows, num_classes = logits.shape
        probabilities = decoder.probabilities(logits)
        if not options.ranked and not decoder.multi_label:
            classes = decoder.best(logits)
            offsets = np.arange(rows + 1)
            scores = probabilities[np.arange(rows), classes]
        else:
            if not options.ranked:
                found = probabilities > decoder.threshold
            elif options.threshold is not None:
                found = probabilities > options.threshold
            else:
                found = np.ones(probabilities.shape, dtype=bool)
            top_k = options.top_k
            if top_k is not None and top_k < num_classes:
                at = num_classes - top_k
                found &= probabilities >= np.partition(probabilities, at, axis=1)[:, at, None]
            row, classes = np.nonzero(found)
            scores = probabilities[row, classes]
            if options.ranked:
                order = np.lexsort((-scores, row))  # stable: ties stay in the order of the classes
                row, classes, scores = row[order], classes[order], scores[order]
            offsets = np.searchsorted(row, np.arange(rows + 1))
            if top_k is not None:  # ties with the last of the K
                first = np.arange(len(row)) - offsets[row] < top_k
                row, classes, scores = row[first], classes[first], scores[first]
                offsets = np.searchsorted(row, np.arange(rows + 1))
        kept = probabilities if options.probabilities else None
        return cls(offsets, classes, scores.astype(np.float32), kept)
