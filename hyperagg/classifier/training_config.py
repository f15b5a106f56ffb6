"""How a classifier is trained."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Args:
        epochs: passes over the training documents.
        learning_rate: at the start; it falls linearly to 0 at the end.
        label_smoothing: weight taken from the true class and spread over all (of several labels:
            from each answer, half of it to yes and half to no).
        batch_size: documents a step, where steps are batched; the fused step takes one at a time.
    """

    epochs: int = 10
    learning_rate: float = 0.03
    label_smoothing: float = 0.1
    batch_size: int = 32
