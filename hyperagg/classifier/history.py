"""What was seen in a training."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History"]


@dataclass
class History:
    """What was seen on the way, one entry an epoch; `best_epoch` counts from 0.

    `texts` is how many were learned, `validation_score` the accuracy on the held-out rows, of
    several labels micro-F1; `calibration_error` is that of those rows before and after dividing by
    `temperature`; `threshold` is the probability that makes an answer of several labels.
    """

    texts: int = 0
    loss: list[float] = field(default_factory=list)
    validation_score: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1
    temperature: float = 1.0
    threshold: float = 0.5
    calibration_error: list[float] = field(default_factory=list)
