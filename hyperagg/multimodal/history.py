"""Records what happened during training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from hyperagg._common.torch_trainer import TrainingHistory
from hyperagg._common.validation import check_integer, check_real

__all__ = ["History"]


@dataclass
class History(TrainingHistory):
    """The course of the last `fit`.

    Attributes:
        loss: mean training loss per row of each epoch.
        score: accuracy, or R² of a regressor, on the held-out rows after each epoch; empty without
            such rows.
        criterion: what has decided on the best epoch, of each epoch: for a classifier, minus the
            cross-entropy of the held-out rows at the temperature that suits them; else R².
        best_epoch: index of the epoch whose weights were kept, from 0; -1 before training.
        seconds: wall-clock time of training, over all calls of a run that was resumed.
        num_validation: the number of held-out rows that the scores and the temperature are of.
        temperature: the number by which the head of a classifier was divided; see
            `fit_temperature`.
        expected_calibration_error: that of the held-out rows before and after division by
            `temperature`. Empty without held-out rows, and for a regressor.
    """

    num_validation: int = 0
    temperature: float = 1.0
    expected_calibration_error: list[float] = field(default_factory=list)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields out of JSON.

        Raises:
            ValueError, TypeError: a field is unknown, or out of range.
        """
        history = cls(**config)
        for name in ("loss", "score", "criterion", "expected_calibration_error"):
            values = getattr(history, name)
            if not isinstance(values, list):
                raise ValueError(f"history.{name}: expected a list of numbers")
            for value in values:
                check_real(f"history.{name}", value)
        check_real("history.seconds", history.seconds, 0)
        check_integer("history.best_epoch", history.best_epoch, -1, max(0, len(history.loss) - 1))
        check_integer("history.num_validation", history.num_validation, 0)
        check_real("history.temperature", history.temperature, 0, open_minimum=True)
        if len(history.expected_calibration_error) not in (0, 2):
            raise ValueError("history.expected_calibration_error: expected two numbers or none")
        return history
