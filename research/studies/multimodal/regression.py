"""Regression with default settings beside ridge regression, on clothing reviews.

The targets are the rating, the age of the author, and the logarithm of the number of readers who
found the review helpful; the inputs are the text and all other columns of the table but the
recommendation. Ridge regression selects its regularization by five-fold cross-validation on the
training rows. The test rows, a fifth of all, are evaluated once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from hyperagg._common.regression import regression_metrics
from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.multimodal import MultimodalRegressor
from research.data.clothing_reviews import ClothingReviews, Reviews
from research.studies.multimodal.linear import fit_linear

__all__ = ["ROWS", "TARGETS", "columns_and_target", "compare_regression", "regression_table"]

logger = logging.getLogger(__name__)

FEEDBACK = "positive_feedback_count"
TARGETS = {"rating": "rating", "age": "age", "feedback": FEEDBACK}
# Numbers of training rows by target.
ROWS: dict[str, Sequence[int]] = {"rating": (2_000, 5_000), "age": (2_000,), "feedback": (2_000,)}
_KINDS = {
    "text": "text",
    "rating": "number",
    "age": "number",
    FEEDBACK: "number",
    "division": "category",
    "department": "category",
    "class_name": "category",
}
_FOLDS = 5


def compare_regression(
    data: ClothingReviews,
    runs: Runs,
    seeds: int,
    *,
    rows: Mapping[str, Sequence[int]] = ROWS,
) -> dict[str, Any]:
    """Measure R², errors and seconds of whole fits of both.

    Args:
        data: training and test rows.
        runs: the finished runs.
        seeds: number of seeds of our model; each has its own sample of the training rows, which
            ridge regression gets as well.
        rows: numbers of training rows to measure, by target.
    """
    found: dict[str, Any] = {}
    warm, values = columns_and_target(data.train, "rating", np.arange(50))
    _default(warm, values, warm, 0)  # compiles the kernels, which is not part of a fit
    for target in TARGETS:
        test, true = columns_and_target(data.test, target)
        for number in rows[target]:
            number = min(number, len(data.train))
            for seed in range(seeds):
                own = np.random.default_rng(seed).permutation(len(data.train))[:number]
                train, y = columns_and_target(data.train, target, np.sort(own))
                for model in ("ridge", "default"):
                    key = f"{target}|{number}|{model}|{seed}"
                    if key not in runs.done:
                        fit = _ridge if model == "ridge" else _default
                        predicted, run = fit(train, y, test, seed)
                        run |= regression_metrics(predicted, true)
                        runs.add(key, {**run, "predicted": predicted.round(4).tolist()})
                    run = runs.done[key]
                    message = "%s, %d rows, %s, seed %d: R² %.4f, %.1f s"
                    logger.info(message, target, number, model, seed, run["r2"], run["seconds"])
            group = {
                model: [runs.done[f"{target}|{number}|{model}|{seed}"] for seed in range(seeds)]
                for model in ("ridge", "default")
            }
            summary = {model: _summary(own) for model, own in group.items()}
            found.setdefault(target, {})[str(number)] = {
                **summary,
                "difference": _difference(true, group["default"], group["ridge"]),
            }
    return {"regression": found}


def regression_table(results: Mapping[str, Any]) -> str:
    """Format one row per target and number of training rows."""
    rows = []
    for target, by_rows in results["regression"].items():
        for number, models in by_rows.items():
            ridge, default, difference = (
                models[name] for name in ("ridge", "default", "difference")
            )
            rows.append(
                [
                    target,
                    f"{int(number):,}",
                    spread(ridge["r2"], 1, 4),
                    spread(default["r2"], 1, 4),
                    f"{difference['r2']:+z.4f} ± {difference['standard_error']:.4f}",
                    f"{np.median(ridge['seconds']):.1f}",
                    f"{np.median(default['seconds']):.1f}",
                    f"{np.median(default['epochs']):g}",
                ]
            )
    columns = ["target", "training rows", "R², ridge", "R², default", "difference"]
    return markdown_table([*columns, "fit of ridge, s", "default, s", "epochs"], rows)


def columns_and_target(
    reviews: Reviews, target: str, rows: np.ndarray | None = None
) -> tuple[dict[str, list[Any]], np.ndarray]:
    """Return the inputs by column and the values (rows,) of a target of TARGETS."""
    cells: dict[str, list[Any]] = {**reviews.cells, "text": reviews.texts()}
    own = range(len(reviews)) if rows is None else rows.tolist()
    columns = {name: [cells[name][i] for i in own] for name in _KINDS if name != TARGETS[target]}
    values = np.array([cells[TARGETS[target]][i] for i in own], dtype=float)
    return columns, np.log1p(values) if target == "feedback" else values


def _default(
    train: Mapping[str, list[Any]], y: np.ndarray, test: Mapping[str, list[Any]], seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    started = time.perf_counter()
    model = MultimodalRegressor({name: _KINDS[name] for name in train})
    model.fit(train, y, seed=seed, progress=False)
    seconds = time.perf_counter() - started
    epochs = {"epochs": len(model.history_.score), "best_epoch": model.history_.best_epoch + 1}
    return model.predict(test), {"seconds": seconds, **epochs}


def _ridge(
    train: Mapping[str, list[Any]], y: np.ndarray, test: Mapping[str, list[Any]], seed: int
) -> tuple[np.ndarray, dict[str, Any]]:
    started = time.perf_counter()
    folds = KFold(_FOLDS, shuffle=True, random_state=seed).split(y)
    found = fit_linear(Ridge, train, y, {name: _KINDS[name] for name in train}, folds)
    seconds = time.perf_counter() - started
    predicted = found.model.predict(found.transform(test))
    return predicted, {"seconds": seconds, "alpha": found.regularization}


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: [run[name] for run in runs] for name in runs[0] if name != "predicted"}


def _difference(
    true: np.ndarray, ours: Sequence[Mapping[str, Any]], ridge: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """R² of ours less that of ridge, and its standard error over the test rows, which are paired;
    the squared errors of a row are averaged over the seeds."""
    ours_squares, ridge_squares = (
        np.mean([np.square(np.array(run["predicted"]) - true) for run in runs], 0)
        for runs in (ours, ridge)
    )
    gains, total = ridge_squares - ours_squares, np.square(true - true.mean())
    influences = (total.mean() * gains - gains.mean() * total) / total.mean() ** 2
    error = influences.std(ddof=1) / math.sqrt(len(true))
    return {"r2": float(gains.mean() / total.mean()), "standard_error": float(error)}
