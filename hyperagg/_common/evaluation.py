"""How the predictions of a classifier compare with known labels, class by class and row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hyperagg._common.calibration import ReliabilityBins, reliability_bins
from hyperagg._common.label_decoder import Label, LabelDecoder
from hyperagg._common.metrics import classification_metrics

__all__ = ["ClassScores", "ConfusedPair", "Evaluation", "evaluate_logits"]

_MAX_UNKNOWN_LABELS = 1000


class ClassScores(NamedTuple):
    """The scores of one class; `rows` is the number of rows that have it."""

    label: Label
    precision: float
    recall: float
    f1: float
    rows: int


class ConfusedPair(NamedTuple):
    """The number of rows with one label that were predicted to have another one."""

    label: Label
    predicted: Label
    rows: int


@dataclass(frozen=True)
class Evaluation:
    """Predictions beside known labels.

    A label that the classifier does not have counts as an error: no prediction can equal it.

    Attributes:
        decoder: the meaning of the columns of the logits.
        classes: C labels: those of the classifier, and after them the unknown ones.
        logits: (B, K), one column for each of the K labels of the classifier.
        truth: (B, C) bool, the labels of each row.
    """

    decoder: LabelDecoder
    classes: Sequence[Label]
    logits: np.ndarray
    truth: np.ndarray

    @cached_property
    def probabilities(self) -> np.ndarray:
        """(B, C) the probability of every label, 0 for one that the classifier does not have."""
        return self._pad(self.decoder.probabilities(self.logits))

    @cached_property
    def predicted(self) -> np.ndarray:
        """(B, C) bool, the predicted labels of each row."""
        return self._pad(self.decoder.decide(self.logits))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics over all rows; see `classification_metrics`."""
        return classification_metrics(
            self.predicted, self.truth, self.probabilities, self.decoder.multi_label
        )

    @property
    def unknown_labels(self) -> dict[Label, int]:
        """The labels that the classifier does not have, with their numbers of rows."""
        known = len(self.decoder.classes)
        counts = self.truth[:, known:].sum(0).tolist()
        return dict(zip(self.classes[known:], counts))

    def class_scores(self) -> list[ClassScores]:
        """Return precision, recall and F1 of each class; a ratio of 0 to 0 is 0."""
        hits = (self.predicted & self.truth).sum(0)
        predicted, rows = self.predicted.sum(0), self.truth.sum(0)
        columns = (
            hits / np.maximum(predicted, 1),
            hits / np.maximum(rows, 1),
            2 * hits / np.maximum(predicted + rows, 1),
            rows,
        )
        return [
            ClassScores(label, *own)
            for label, *own in zip(self.classes, *(column.tolist() for column in columns))
        ]

    @cached_property
    def confusion(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The confusion matrix without its zeros: the indices in `classes` of a label and of a
        prediction, and the number of rows that have both. A multi-label problem has none."""
        if self.decoder.multi_label:
            raise ValueError("confusion: not defined where a row may have several labels")
        size = len(self.classes)
        cells, counts = np.unique(
            self.truth.argmax(1) * size + self.predicted.argmax(1), return_counts=True
        )
        return cells // size, cells % size, counts

    def confused_pairs(self, number: int = 10) -> list[ConfusedPair]:
        """Return the most frequent errors, the most frequent one first."""
        true, predicted, counts = self.confusion
        errors = np.flatnonzero(true != predicted)
        ranked = errors[np.argsort(-counts[errors], kind="stable")[:number]]
        return [
            ConfusedPair(self.classes[true[i]], self.classes[predicted[i]], int(counts[i]))
            for i in ranked.tolist()
        ]

    @cached_property
    def losses(self) -> np.ndarray:
        """(B,) the negative log-likelihood of the labels of each row; infinite if one of them is
        unknown."""
        probabilities = self.probabilities.astype(np.float64)
        with np.errstate(divide="ignore"):
            if self.decoder.multi_label:
                likely = np.where(self.truth, probabilities, 1 - probabilities)
                return -np.log(likely).sum(1)
            return -np.log(probabilities[np.arange(len(self.truth)), self.truth.argmax(1)])

    def worst_rows(self, number: int = 10) -> list[int]:
        """Return the indices of the wrongly predicted rows with the highest losses, the highest
        first. Rows with unknown labels are left out: they say nothing about the classifier."""
        known = len(self.decoder.classes)
        wrong = (self.predicted != self.truth).any(1) & ~self.truth[:, known:].any(1)
        rows = np.flatnonzero(wrong)
        return rows[np.argsort(-self.losses[rows], kind="stable")[:number]].tolist()

    def reliability(self, bins: int = 10) -> ReliabilityBins:
        """Return how often predictions of each probability are correct."""
        return reliability_bins(self.probabilities, self.truth, self.decoder.multi_label, bins)

    def true_labels(self, row: int) -> list[Label]:
        """Return the labels of a row."""
        return [self.classes[c] for c in np.flatnonzero(self.truth[row]).tolist()]

    def predicted_labels(self, row: int) -> list[Label]:
        """Return the predicted labels of a row."""
        return [self.classes[c] for c in np.flatnonzero(self.predicted[row]).tolist()]

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics, the scores of each class and the most frequent errors, for JSON."""
        pairs = [] if self.decoder.multi_label else self.confused_pairs()
        return {
            **self.metrics,
            "classes": [scores._asdict() for scores in self.class_scores()],
            "confused_pairs": [pair._asdict() for pair in pairs],
            "unknown_labels": {str(label): n for label, n in self.unknown_labels.items()},
        }

    def _pad(self, columns: np.ndarray) -> np.ndarray:
        unknown = len(self.classes) - len(self.decoder.classes)
        return np.pad(columns, ((0, 0), (0, unknown))) if unknown else columns


def evaluate_logits(
    decoder: LabelDecoder, logits: np.ndarray, labels: Sequence[Label] | Sequence[Iterable[Label]]
) -> Evaluation:
    """Compare logits with known labels.

    Args:
        decoder: the meaning of the columns.
        logits: (B, K).
        labels: a label per row, or in a multi-label problem an iterable of labels per row.

    Raises:
        ValueError: no row has a label of the classifier, or more than 1,000 labels are unknown:
            these are no labels for it.

    Memory: two bytes and a probability per row and label.

    Example:
        >>> decoder = LabelDecoder(["no", "yes"])
        >>> found = evaluate_logits(decoder, np.array([[2.0, 0.0], [1.0, 0.0]]), ["no", "yes"])
        >>> found.metrics["accuracy"]
        0.5
        >>> found.confused_pairs()
        [ConfusedPair(label='yes', predicted='no', rows=1)]
    """
    rows: Any = labels if decoder.multi_label else [(label,) for label in labels]
    columns = {label: c for c, label in enumerate(decoder.classes)}
    given = Counter(label for own in rows for label in own)
    unknown = [label for label in given if label not in columns]
    if unknown and (len(unknown) == len(given) or len(unknown) > _MAX_UNKNOWN_LABELS):
        known = ", ".join(map(repr, decoder.classes[:10]))
        more = ", ..." if len(decoder.classes) > 10 else ""
        raise ValueError(
            f"{len(unknown):,} of {len(given):,} labels did not occur in training, such as "
            f"{unknown[0]!r}; expected mostly labels out of {known}{more}"
        )
    for label in unknown:
        columns[label] = len(columns)
    truth = np.zeros((len(rows), len(columns)), dtype=bool)
    for i, own in enumerate(rows):
        for label in own:
            truth[i, columns[label]] = True
    return Evaluation(decoder, list(columns), logits, truth)
