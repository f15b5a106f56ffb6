"""Records what happened during training."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["History"]


@dataclass
class History:
    """The course of the last `fit`.

    Attributes:
        num_texts: the number of training texts, those of `partial_fit` included.
        num_unlabelled: the number of further texts without labels.
        num_validation: the number of held-out rows that the scores and the temperature are of.
        loss: the mean training loss of each epoch.
        validation_score: the accuracy on the held-out rows after each epoch; in multi-label
            problems the greatest micro-F1 over all thresholds. Empty without held-out rows.
        validation_loss: the mean cross-entropy on the held-out rows after each epoch, of
            calibrated probabilities. Empty without held-out rows.
        seconds: the training time of each epoch in seconds.
        best_epoch: the epoch, counted from 0, whose weights were kept: the one with the greatest
            score or the one with the lowest loss on the held-out rows, whichever is later; -1
            before training.
        temperature: the number by which the head was divided; see `fit_temperature`.
        threshold: the probability above which a text of a multi-label problem has a label.
        expected_calibration_error: that of the held-out rows before and after division by
            `temperature`. Empty without held-out rows.
    """

    num_texts: int = 0
    num_unlabelled: int = 0
    num_validation: int = 0
    loss: list[float] = field(default_factory=list)
    validation_score: list[float] = field(default_factory=list)
    validation_loss: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_epoch: int = -1
    temperature: float = 1.0
    threshold: float = 0.5
    expected_calibration_error: list[float] = field(default_factory=list)
