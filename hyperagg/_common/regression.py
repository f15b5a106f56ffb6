"""How the predictions of a regressor compare with known values, over all rows and row by row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

__all__ = ["RegressionEvaluation", "regression_metrics"]


@dataclass(frozen=True)
class RegressionEvaluation:
    """Predictions beside known values.

    Attributes:
        predicted: (B,) float64.
        truth: (B,) float64.

    >>> found = RegressionEvaluation(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0]))
    >>> found.metrics["r2"], found.worst_rows(1)
    (0.5, [2])
    """

    predicted: np.ndarray
    truth: np.ndarray

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The metrics over all rows; see `regression_metrics`."""
        return regression_metrics(self.predicted, self.truth)

    @property
    def residuals(self) -> np.ndarray:
        """(B,) truth - prediction."""
        return self.truth - self.predicted

    def standard_errors(self) -> dict[str, float]:
        """Return the standard error of each metric, for rows that are drawn independently.

        It is the standard deviation of the influences of the rows over √B, which equals that of the
        bootstrap for many rows, but needs no random numbers: |e| for the mean absolute error,
        e² / (2 RMSE) for the RMSE, and (S t - T s) / T² for R² = 1 - S/T, where s = e² and
        t = (y - mean y)² of a row have the means S and T. NaN for a single row, and for R² of a
        constant truth.

        Source: Efron 1982, "The jackknife, the bootstrap and other resampling plans", chapter 6.
        """
        squares = np.square(self.residuals)
        total = np.square(self.truth - self.truth.mean())
        rmse, mean_total = math.sqrt(squares.mean()), total.mean()
        influences = {
            "r2": (squares.mean() / mean_total) * (total / mean_total) - squares / mean_total
            if mean_total
            else np.full(len(total), np.nan),
            "mae": np.abs(self.residuals),
            "rmse": squares / (2 * rmse) if rmse else squares,
        }
        if len(squares) < 2:
            return dict.fromkeys(influences, math.nan)
        return {
            name: float(own.std(ddof=1)) / math.sqrt(len(own)) for name, own in influences.items()
        }

    def worst_rows(self, number: int = 10) -> list[int]:
        """Return the indices of the rows with the largest absolute residuals, the largest first."""
        return np.argsort(-np.abs(self.residuals), kind="stable")[:number].tolist()

    def to_dict(self) -> dict[str, Any]:
        """Return the metrics and their standard errors (None where they are not defined), for
        JSON."""
        errors = self.standard_errors()
        return {
            **self.metrics,
            "standard_errors": {n: None if math.isnan(e) else e for n, e in errors.items()},
        }


def regression_metrics(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Return "r2", "mae" and "rmse" of predictions (rows,).

    R² of a constant truth is 1 if every prediction is right and 0 otherwise, as in scikit-learn.
    """
    errors = predicted - truth
    residual = float(np.square(errors).sum())
    total = float(np.square(truth - truth.mean()).sum())
    return {
        "r2": 1 - residual / total if total else float(residual == 0),
        "mae": float(np.abs(errors).mean()),
        "rmse": float(np.sqrt(np.square(errors).mean())),
    }
