"""The targets of training: labels, or a continuous value."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as shorten
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hyperagg._common.calibration import calibrated_cross_entropy
from hyperagg._common.columns import to_label
from hyperagg._common.label_decoder import Label
from hyperagg._common.validation import check_real
from hyperagg.multimodal.columns.base import RowName, is_missing

__all__ = [
    "ClassTarget",
    "ContinuousTarget",
    "Target",
    "class_weights",
    "sample_weights",
]

# Sums of squares of larger values may exceed float64.
_MAX_VALUE = 1e100


class Target(Protocol):
    """What a model has learned about its target."""

    @property
    def num_outputs(self) -> int:
        """Number of logits."""
        ...

    def encode(self, y: Sequence[Any], name: str) -> np.ndarray:
        """Return (rows,) what `loss` and `score` compare the logits with.

        Raises:
            ValueError, TypeError: a target that the model does not know; `name` is the argument.
        """
        ...

    def loss(self, logits: Tensor, encoded: np.ndarray, weights: np.ndarray | None) -> Tensor:
        """Return the mean loss of logits (B, C), each row's multiplied by its weight (B,)."""
        ...

    def score(self, logits: np.ndarray, encoded: np.ndarray) -> float:
        """Return how good logits (B, C) are; higher is better."""
        ...

    def criterion(self, logits: np.ndarray, encoded: np.ndarray) -> float:
        """Return what decides which epoch is the best one; higher is better."""
        ...


@dataclass(frozen=True)
class ClassTarget:
    """One of C labels; the loss is the cross-entropy and the score the accuracy.

    The best epoch is the one with the lowest cross-entropy of calibrated probabilities. The
    accuracy of a hundred rows says less: at first it may be that of the most frequent label.
    """

    stratified: ClassVar[bool] = True
    classes: tuple[Label, ...]

    @classmethod
    def fit(cls, y: Sequence[Any], row_name: RowName) -> ClassTarget:
        labels = _checked_labels(y, "y", row_name)
        classes = sorted(set(labels), key=lambda label: (isinstance(label, str), label))
        if len(classes) < 2:
            raise ValueError(
                f"y: all labels are {classes[0]!r}; a classifier needs at least two classes"
            )
        return cls(tuple(classes))

    @property
    def num_outputs(self) -> int:
        return len(self.classes)

    def encode(self, y: Sequence[Any], name: str) -> np.ndarray:
        ids = {label: c for c, label in enumerate(self.classes)}
        labels = self.check_labels(y, name)
        for i, label in enumerate(labels):
            if label not in ids:
                raise ValueError(
                    f"{name}: row {i}: {label!r}: expected one of the classes "
                    f"{shorten(list(self.classes))[1:-1]}"
                )
        return np.array([ids[label] for label in labels], dtype=np.int64)

    @staticmethod
    def check_labels(y: Sequence[Any], name: str) -> list[Label]:
        """Return the labels as str and int; they need not be classes."""
        return _checked_labels(y, name, "row {}".format)

    def loss(self, logits: Tensor, encoded: np.ndarray, weights: np.ndarray | None) -> Tensor:
        target = torch.from_numpy(encoded)
        if weights is None:
            return F.cross_entropy(logits, target)
        losses = F.cross_entropy(logits, target, reduction="none")
        return (losses * torch.from_numpy(weights).to(losses.dtype)).mean()

    def score(self, logits: np.ndarray, encoded: np.ndarray) -> float:
        return float((logits.argmax(1) == encoded).mean())

    def criterion(self, logits: np.ndarray, encoded: np.ndarray) -> float:
        truth = encoded[:, None] == np.arange(self.num_outputs)
        return -calibrated_cross_entropy(logits, truth, multi_label=False)


@dataclass(frozen=True)
class ContinuousTarget:
    """A standardized value; the loss is the squared error and the score R²."""

    stratified: ClassVar[bool] = False
    mean: float
    std: float

    @classmethod
    def fit(cls, y: Sequence[Any], row_name: RowName) -> ContinuousTarget:
        values = _checked_values(y, "y", row_name)
        return cls(float(values.mean()), float(values.std()) or 1.0)

    @property
    def num_outputs(self) -> int:
        return 1

    def encode(self, y: Sequence[Any], name: str) -> np.ndarray:
        return (self.values(y, name) - self.mean) / self.std

    def values(self, y: Sequence[Any], name: str) -> np.ndarray:
        """(rows,) float64 as given."""
        return _checked_values(y, name, "row {}".format)

    def loss(self, logits: Tensor, encoded: np.ndarray, weights: np.ndarray | None) -> Tensor:
        target = torch.from_numpy(encoded).to(logits.dtype)
        if weights is None:
            return F.mse_loss(logits[:, 0], target)
        losses = (logits[:, 0] - target).square()
        return (losses * torch.from_numpy(weights).to(losses.dtype)).mean()

    def score(self, logits: np.ndarray, encoded: np.ndarray) -> float:
        return 1 - float(np.square(logits[:, 0] - encoded).mean() / max(encoded.var(), 1e-12))

    criterion = score


def class_weights(
    class_weight: Literal["balanced"] | Mapping[Label, float],
    target: ClassTarget,
    encoded: np.ndarray,
) -> np.ndarray:
    """Return the weight of the class of each row, (rows,) float64.

    Args:
        class_weight: {label: weight}, 1 for the labels that are not named; "balanced": in inverse
            proportion to the number of rows of each class.
        target: the classes.
        encoded: (rows,) class ids.

    Raises:
        ValueError, TypeError: not a valid `class_weight`.
    """
    if isinstance(class_weight, str) and class_weight == "balanced":
        counts = np.bincount(encoded, minlength=target.num_outputs)
        return (len(encoded) / (target.num_outputs * counts))[encoded]
    if not isinstance(class_weight, Mapping):
        raise TypeError(
            f'class_weight={shorten(class_weight)}: expected "balanced" or {{label: weight}}'
        )
    weights = np.ones(target.num_outputs)
    for label, weight in class_weight.items():
        if label not in target.classes:
            raise ValueError(
                f"class_weight: {label!r}: expected one of the classes "
                f"{shorten(list(target.classes))[1:-1]}"
            )
        # The squares of gradients must not overflow float32.
        value = check_real(f"class_weight[{label!r}]", weight, 1e-6, 1e6)
        weights[target.classes.index(label)] = value
    return weights[encoded]


def sample_weights(sample_weight: Sequence[Any], num_rows: int) -> np.ndarray:
    """Return the weight of each row, (rows,) float64.

    Raises:
        ValueError: not one non-negative finite number per row, or all are zero.
    """
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("sample_weight: expected one number per row") from None
    if weights.shape != (num_rows,):
        raise ValueError(
            f"sample_weight: shape {weights.shape}: expected one number per row, ({num_rows},)"
        )
    bad = np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))
    if len(bad):
        raise ValueError(
            f"sample_weight: row {bad[0]}: {weights[bad[0]]:g}: expected a finite number >= 0"
        )
    if not weights.any():
        raise ValueError("sample_weight: all weights are 0; expected a positive one")
    return weights


def _checked_labels(y: Sequence[Any], name: str, row_name: RowName) -> list[Label]:
    labels: list[Label] = []
    for i, label in enumerate(y):
        if is_missing(label):
            raise ValueError(f"{name}: {row_name(i)}: the label is missing; expected str or int")
        labels.append(to_label(label, f"{name}: {row_name(i)}"))
    return labels


def _checked_values(y: Sequence[Any], name: str, row_name: RowName) -> np.ndarray:
    values = np.empty(len(y))
    for i, value in enumerate(y):
        message = f"{name}: {row_name(i)}: {shorten(value)}: expected a finite number"
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise TypeError(message)
        try:
            values[i] = float(value)
        except OverflowError:
            raise ValueError(message) from None
        if not np.isfinite(values[i]):
            raise ValueError(message)
        if abs(values[i]) > _MAX_VALUE:
            raise ValueError(f"{message} between -1e100 and 1e100")
    return values
