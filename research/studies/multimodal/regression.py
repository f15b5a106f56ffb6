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
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from hyperagg._common.regression import regression_metrics
from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.multimodal import MultimodalRegressor
from hyperagg.text import WORD_PATTERN
from research.data.clothing_reviews import ClothingReviews, Reviews

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
_FIRST_GRID = (0.1, 1.0, 10.0, 100.0)


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
    """Select alpha by cross-validation; both neighbors of the selected value are worse."""
    started = time.perf_counter()
    table, scores = _table(train), dict[float, float]()
    folds = []
    for kept, held in KFold(_FOLDS, shuffle=True, random_state=seed).split(y):
        features = _features(train)
        x, x_held = features.fit_transform(table[kept]), features.transform(table[held])
        folds.append((x, y[kept], x_held, y[held]))

    def score(alpha: float) -> float:
        """Mean R² of the folds."""
        if alpha not in scores:
            scores[alpha] = float(
                np.mean(
                    [
                        regression_metrics(Ridge(alpha).fit(x, kept).predict(x_held), held)["r2"]
                        for x, kept, x_held, held in folds
                    ]
                )
            )
        return scores[alpha]

    # Powers of ten around the best one until it has two neighbors, then the halves between them.
    best = max(_FIRST_GRID, key=score)
    while (better := max((best / 10, best, best * 10), key=score)) != best:
        best = better
        if not 1e-6 < best < 1e9:
            break
    best = max((best / math.sqrt(10), best, best * math.sqrt(10)), key=score)
    features = _features(train)
    model = Ridge(best).fit(features.fit_transform(table), y)
    seconds = time.perf_counter() - started
    return model.predict(features.transform(_table(test))), {"seconds": seconds, "alpha": best}


def _table(columns: Mapping[str, list[Any]]) -> np.ndarray:
    """(rows, columns) objects without missing cells."""
    filled = [["" if cell is None else cell for cell in cells] for cells in columns.values()]
    return np.array(filled, dtype=object).T


def _features(columns: Mapping[str, list[Any]]) -> ColumnTransformer:
    """TF-IDF of words and bigrams, scaled numbers and one-hot categories."""
    of_kind = {
        kind: [i for i, name in enumerate(columns) if _KINDS[name] == kind]
        for kind in ("number", "category")
    }
    words = TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_PATTERN.pattern
    )
    return ColumnTransformer(
        [
            ("text", words, list(columns).index("text")),
            ("numbers", StandardScaler(), of_kind["number"]),
            ("categories", OneHotEncoder(handle_unknown="ignore"), of_kind["category"]),
        ],
        sparse_threshold=1.0,
    )


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
