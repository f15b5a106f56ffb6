"""Shows how the predictions of a regressor compare with known values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hyperagg._common.pages.document import escape, html_document, html_table
from hyperagg._common.pages.explanations import ExplainedRow, rows_html
from hyperagg._common.regression import RegressionEvaluation

__all__ = ["METRICS", "regression_page", "unexplained_value"]

METRICS = {"r2": "R²", "mae": "mean absolute error", "rmse": "root mean squared error"}
_MAX_POINTS = 2_000  # of a diagram: more are slow to show and hide one another
_NUM_GROUPS = 10
_QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LEFT, _TOP, _SIZE = 58, 10, 240  # of a diagram


def regression_page(
    title: str,
    evaluation: RegressionEvaluation,
    worst: Sequence[ExplainedRow],
    notes: Sequence[str] = (),
    unit: float = 1.0,
) -> str:
    """Return a page with the metrics and their standard errors, predictions against true values,
    residuals, and the rows that were predicted worst.

    Args:
        title: the title of the page.
        evaluation: the predictions and the true values.
        worst: the rows to show.
        notes: sentences that precede the metrics.
        unit: what counts as 1 in the scale of colors, such as the standard deviation of the target.
    """
    sections = [
        *(f"<p>{escape(note)}</p>" for note in notes),
        _metrics(evaluation),
        _predictions(evaluation),
        _residuals(evaluation),
        "<h2>Rows with the largest errors</h2>" + rows_html(worst, unit, "the predicted value"),
    ]
    return html_document(title, "\n".join(sections))


def unexplained_value(evaluation: RegressionEvaluation, i: int, name: str) -> ExplainedRow:
    """Return what a page shows of a row of a model that cannot explain it."""
    predicted, true = evaluation.predicted[i], evaluation.truth[i]
    return ExplainedRow(name, f"predicted: {predicted:.6g}; true: {true:.6g}", [])


def _metrics(evaluation: RegressionEvaluation) -> str:
    errors = evaluation.standard_errors()
    rows = [
        [METRICS[name], f"{value:.4g}", "" if math.isnan(errors[name]) else f"{errors[name]:.2g}"]
        for name, value in evaluation.metrics.items()
    ]
    spread = f"{evaluation.truth.std():.4g}"
    rows.append(["standard deviation of the true values", spread, ""])
    rows.append(["rows", f"{len(evaluation.truth):,}", ""])
    return html_table(["metric", "value", "standard error"], rows) + (
        '<p class="hint">The standard errors say how much the metrics would vary over other rows '
        "of the same kind, drawn independently.</p>"
    )


def _predictions(evaluation: RegressionEvaluation) -> str:
    true, predicted = evaluation.truth, evaluation.predicted
    low, high = _bounds(np.concatenate([true, predicted]))
    diagonal = _line((low, high), (low, high), (low, high), (low, high))
    diagram = _diagram(
        true,
        predicted,
        (low, high),
        (low, high),
        diagonal,
        ("true value", "predicted value"),
        "Predicted against true values; their means are in the table below",
    )
    groups = np.array_split(np.argsort(predicted, kind="stable"), min(_NUM_GROUPS, len(true)))
    rows = [
        [
            f"{predicted[own].mean():.4g}",
            f"{true[own].mean():.4g}",
            f"{np.sqrt(np.square(true[own] - predicted[own]).mean()):.4g}",
            f"{len(own):,}",
        ]
        for own in groups
    ]
    table = html_table(["mean prediction", "mean true value", "RMSE", "rows"], rows)
    return (
        "<h2>Predictions</h2><p>The true value of each row (across) and its prediction (up). Right "
        f"predictions lie on the diagonal.{_selection(len(true))}</p>{diagram}<details>"
        "<summary>The same as numbers, in groups of rows with similar predictions</summary>"
        f"{table}</details>"
    )


def _residuals(evaluation: RegressionEvaluation) -> str:
    predicted, residuals = evaluation.predicted, evaluation.residuals
    across = _bounds(predicted)
    largest = float(np.abs(residuals).max()) * 1.03 or 1.0
    up = (-largest, largest)
    diagram = _diagram(
        predicted,
        residuals,
        across,
        up,
        _line(across, (0, 0), across, up),
        ("predicted value", "residual"),
        "Residuals against predictions; their quantiles are in the table below",
    )
    quantiles = np.quantile(residuals, _QUANTILES)
    rows = [[f"{100 * q:g} %", f"{value:+z.4g}"] for q, value in zip(_QUANTILES, quantiles)]
    table = html_table(["share of rows", "residual below"], rows)
    return (
        "<h2>Residuals</h2><p>The true value minus the prediction (up) over the prediction "
        "(across). A slope, a bend or a funnel is something that the model has not learned."
        f"{_selection(len(predicted))}</p>{diagram}<details><summary>Quantiles of the residuals"
        f"</summary>{table}</details>"
    )


def _selection(rows: int) -> str:
    if rows <= _MAX_POINTS:
        return ""
    return f" {_MAX_POINTS:,} of {rows:,} rows are shown, at equal distances."


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """The range of the values with a small margin."""
    low, high = float(values.min()), float(values.max())
    margin = 0.03 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


Range = tuple[float, float]


def _diagram(
    x: np.ndarray,
    y: np.ndarray,
    across: Range,
    up: Range,
    line: str,
    names: tuple[str, str],
    label: str,
) -> str:
    """Return a scatter plot; `across` and `up` are the ranges of its axes."""
    shown = np.unique(np.linspace(0, len(x) - 1, min(len(x), _MAX_POINTS)).astype(int))
    left, top = _to_left(x[shown], across), _to_top(y[shown], up)
    circles = "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="2.5"/>' for a, b in zip(left.tolist(), top.tolist())
    )
    bottom = _TOP + _SIZE
    ticks = "".join(
        f'<text x="{_to_left(tick, across):.1f}" y="{bottom + 14}" text-anchor="middle">'
        f"{_number(tick)}</text>"
        for tick in _ticks(across)
    ) + "".join(
        f'<text x="{_LEFT - 6}" y="{_to_top(tick, up) + 4:.1f}" text-anchor="end">'
        f"{_number(tick)}</text>"
        for tick in _ticks(up)
    )
    middle = _TOP + _SIZE / 2
    titles = (
        f'<text x="{_LEFT + _SIZE / 2}" y="{bottom + 30}" text-anchor="middle">{names[0]}</text>'
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{names[1]}'
        "</text>"
    )
    return (
        f'<svg class="diagram points" viewBox="0 0 {_LEFT + _SIZE + 24} {bottom + 38}" role="img" '
        f'aria-label="{label}"><rect x="{_LEFT}" y="{_TOP}" width="{_SIZE}" height="{_SIZE}"/>'
        f"{circles}{line}{ticks}{titles}</svg>"
    )


def _line(x: Range, y: Range, across: Range, up: Range) -> str:
    (left, right), (start, end) = (_to_left(np.array(x), across), _to_top(np.array(y), up))
    return f'<line x1="{left:.1f}" y1="{start:.1f}" x2="{right:.1f}" y2="{end:.1f}"/>'


def _to_left(x: np.ndarray | float, across: Range) -> np.ndarray:
    return _LEFT + _SIZE * (np.asarray(x) - across[0]) / (across[1] - across[0])


def _to_top(y: np.ndarray | float, up: Range) -> np.ndarray:
    return _TOP + _SIZE * (up[1] - np.asarray(y)) / (up[1] - up[0])


def _ticks(bounds: Range) -> list[float]:
    """Three to seven multiples of 1, 2 or 5 times a power of ten."""
    low, high = bounds
    power = 10 ** math.floor(math.log10((high - low) / 4))
    step = next(power * k for k in (1, 2, 5, 10) if (high - low) / (power * k) <= 6)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:.4g}".replace("-", "\N{MINUS SIGN}")
