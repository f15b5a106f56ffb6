"""What is foretold: one of some labels, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.multimodal.columns.tabular import Place

__all__ = ["Targets"]


@dataclass(frozen=True)
class Targets:
    """What the columns of logits stand for.

    Args:
        regression: whether a number is foretold.
        classes: the labels otherwise.
        centre, scale: mean and deviation of the numbers, which the network sees without.
    """

    regression: bool
    classes: list[Any] = field(default_factory=list)
    centre: float = 0.0
    scale: float = 1.0

    @classmethod
    def learn(cls, targets: Sequence[Any], regression: bool, place: Place) -> Targets:
        """Raises ValueError where there is one class alone, or a number is none."""
        if not regression:
            classes = sorted(set(targets), key=lambda label: (isinstance(label, str), label))
            if len(classes) < 2:
                raise ValueError(
                    f"targets: all are {classes[0]!r}; a classifier needs at least two classes"
                )
            return cls(False, classes)
        try:
            numbers = np.asarray(targets, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"targets: a regression foretells numbers ({error})") from error
        bad = np.flatnonzero(~np.isfinite(numbers))
        if len(bad):
            raise ValueError(f"{place(int(bad[0]))}: has no finite number to learn")
        return cls(True, [], float(numbers.mean()), float(numbers.std()) or 1.0)

    @property
    def outputs(self) -> int:
        """How many logits there are."""
        return 1 if self.regression else len(self.classes)

    def encode(self, targets: Sequence[Any]) -> np.ndarray:
        """(rows,): class ids, or numbers less the mean, over the deviation."""
        if self.regression:
            return (np.asarray(targets, dtype=np.float64) - self.centre) / self.scale
        ids = {label: c for c, label in enumerate(self.classes)}
        return np.array([ids[label] for label in targets], dtype=np.int64)

    def loss(self, logits: Tensor, wanted: np.ndarray) -> Tensor:
        """The mean over rows: cross-entropy, or the squared error."""
        target = torch.from_numpy(wanted)
        if self.regression:
            return F.mse_loss(logits[:, 0], target.to(logits.dtype))
        return F.cross_entropy(logits, target)

    def score(self, logits: np.ndarray, wanted: np.ndarray) -> float:
        """Accuracy, or R²."""
        if self.regression:
            return 1 - float(np.square(logits[:, 0] - wanted).mean() / max(wanted.var(), 1e-12))
        return float((logits.argmax(1) == wanted).mean())

    def measures(self, logits: np.ndarray, targets: Sequence[Any]) -> dict[str, float]:
        """accuracy, macro_f1 and balanced_accuracy; of numbers r2, mae and rmse."""
        from sklearn import metrics

        if self.regression:
            said, true = logits[:, 0], np.asarray(targets, dtype=np.float64)
            return {
                "r2": float(metrics.r2_score(true, said)),
                "mae": float(metrics.mean_absolute_error(true, said)),
                "rmse": float(metrics.root_mean_squared_error(true, said)),
            }
        labels = LabelDecoder(self.classes).labels(logits)
        # Not scikit-learn's, which warns where an answer is none of the labels of these rows.
        shares = [
            np.mean([one == label for one, own in zip(labels, targets) if own == label])
            for label in sorted(set(targets), key=str)
        ]
        return {
            "accuracy": float(metrics.accuracy_score(targets, labels)),
            "macro_f1": float(metrics.f1_score(targets, labels, average="macro", zero_division=0)),
            "balanced_accuracy": float(np.mean(shares)),
        }
