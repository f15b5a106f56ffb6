"""Clothing reviews: predict rating and recommendation from text, numbers and categories.

Neither target is an input of the other. Settings are selected on a held-out tenth of the training
rows; the test rows, a fifth of all, are evaluated once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.multimodal import MultimodalClassifier, MultimodalRegressor
from hyperagg.text import WORD_PATTERN
from research.data.clothing_reviews import ClothingReviews, Reviews

__all__ = ["TASKS", "compare_reviews", "reviews_table"]

logger = logging.getLogger(__name__)

NUMBERS = ("age", "positive_feedback_count")
CATEGORIES = ("division", "department", "class_name")
TABLE = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(CATEGORIES, "category")
TASKS = {"rating": True, "recommended": False}  # whether it is a regression
# The columns of our models.
OURS = {
    "sum, text + table": {"text": "text", **TABLE},
    "sum, text": {"text": "text"},
    "sum, table": TABLE,
}
# The embedding learning rate is the best of 0.01 to 0.1 on held-out training rows.
SETTINGS: dict[str, Any] = dict(
    d_model=64, epochs=4, embedding_learning_rate=0.02, learning_rate=2e-3, dropout=0.1
)
GRIDS: dict[str, tuple[float, ...]] = {
    "ridge": (0.3, 1.0, 3.0, 10.0),
    "logistic": (1.0, 3.0, 10.0, 30.0),
    "boosting": (15, 31),  # leaves
}
BASELINES = {
    "ridge / logistic, table": ("linear", ("table",)),
    "gradient boosting, table": ("boosting", ("table",)),
    "ridge / logistic, TF-IDF": ("linear", ("text",)),
    "ridge / logistic, TF-IDF + table": ("linear", ("text", "table")),
}


def compare_reviews(
    data: ClothingReviews,
    runs: Runs,
    seeds: int,
    *,
    rows: int | None = None,
) -> dict[str, Any]:
    """Measure R² of the rating and accuracies of the recommendation for every model.

    Args:
        data: training and test rows.
        runs: the finished runs.
        seeds: number of seeds of our models; the baselines are deterministic.
        rows: number of training rows; None for all.
    """
    tasks: dict[str, Any] = {}
    train = _first(data.train, rows)
    for task in TASKS:
        models: dict[str, Any] = {}
        for name, (kind, parts) in BASELINES.items():
            key = f"{task}|{name}"
            if key not in runs.done:
                runs.add(key, _baseline(train, data.test, task, kind, parts))
            models[name] = {m: [x] for m, x in runs.done[key].items() if m != "setting"}
            models[name]["setting"] = runs.done[key]["setting"]
            logger.info("%s, %s: %s", task, name, models[name])
        for name, kinds in OURS.items():
            for seed in range(seeds):
                key = f"{task}|{name}|{seed}"
                if key not in runs.done:
                    runs.add(key, _ours(train, data.test, task, kinds, seed))
            own = [runs.done[f"{task}|{name}|{seed}"] for seed in range(seeds)]
            models[name] = {m: [run[m] for run in own] for m in own[0]}
            logger.info("%s, %s: %s", task, name, models[name])
        tasks[task] = models
    return {"reviews": tasks}


def reviews_table(results: Mapping[str, Any]) -> str:
    """Format one row per model."""
    rating, recommended = (results["reviews"][task] for task in TASKS)
    rows = [
        [
            name,
            spread(rating[name]["r2"], 1, 4),
            spread(rating[name]["mae"], 1, 3),
            spread(recommended[name]["accuracy"]),
            spread(recommended[name]["balanced_accuracy"]),
            spread(recommended[name]["macro_f1"]),
        ]
        for name in rating
    ]
    return markdown_table(
        [
            "model",
            "rating, R²",
            "mean absolute error",
            "recommended, accuracy %",
            "balanced accuracy %",
            "macro-F1 %",
        ],
        rows,
    )


def _ours(
    train: Reviews,
    test: Reviews,
    task: str,
    kinds: Mapping[str, str],
    seed: int,
) -> dict[str, Any]:
    regression = TASKS[task]
    columns, targets, usable = _columns(train, kinds, task)
    test_columns, true, test_usable = _columns(test, kinds, task)
    estimator = MultimodalRegressor if regression else MultimodalClassifier
    model: Any = estimator(kinds, **SETTINGS)
    model.fit(_rows(columns, usable), [targets[i] for i in usable], seed=seed)
    # A row without any of the columns gets the mean or the most frequent label.
    default = float(np.mean(targets)) if regression else max(set(targets), key=targets.count)
    predicted: list[Any] = [default] * len(true)
    for i, prediction in zip(test_usable, model.predict(_rows(test_columns, test_usable))):
        predicted[i] = prediction
    return {**_scores(true, predicted, regression), "seconds": model.history_.seconds}


def _baseline(
    train: Reviews, test: Reviews, task: str, kind: str, parts: tuple[str, ...]
) -> dict[str, Any]:
    regression = TASKS[task]
    targets, true = train.cells[task], test.cells[task]
    order = np.random.default_rng(0).permutation(len(train))
    held_out, kept = np.split(order, [len(order) // 10])
    grid = GRIDS["boosting" if kind == "boosting" else "ridge" if regression else "logistic"]
    found = []
    for setting in grid:
        own, validation = _select(train, kept), _select(train, held_out)
        predicted = _fit_predict(own, validation, own.cells[task], kind, parts, regression, setting)
        scores = _scores(validation.cells[task], predicted, regression)
        found.append(scores["r2" if regression else "accuracy"])
    best = grid[int(np.argmax(found))]
    predicted = _fit_predict(train, test, targets, kind, parts, regression, best)
    return {**_scores(true, predicted, regression), "setting": best}


def _fit_predict(
    train: Reviews,
    test: Reviews,
    targets: list[Any],
    kind: str,
    parts: tuple[str, ...],
    regression: bool,
    setting: float,
) -> list[Any]:
    if kind == "boosting":
        x, y = (_plain(rows) for rows in (train, test))
        encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)
        x[:, 2:], y[:, 2:] = encoder.fit_transform(x[:, 2:]), encoder.transform(y[:, 2:])
        options: Any = dict(
            max_leaf_nodes=int(setting),
            learning_rate=0.05,
            early_stopping=True,
            random_state=0,
            categorical_features=[2, 3, 4],
        )
        model: Any = (
            HistGradientBoostingRegressor(**options)
            if regression
            else HistGradientBoostingClassifier(**options)
        )
        return model.fit(x.astype(float), targets).predict(y.astype(float)).tolist()
    blocks = []
    if "text" in parts:
        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_PATTERN.pattern
        )
        blocks.append(
            [
                f([t or "" for t in r.texts()])
                for f, r in ((words.fit_transform, train), (words.transform, test))
            ]
        )
    if "table" in parts:
        x, y = (_plain(rows) for rows in (train, test))
        scaler, encoder = StandardScaler(), OneHotEncoder(handle_unknown="ignore")
        numbers = (
            scaler.fit_transform(x[:, :2].astype(float)),
            scaler.transform(y[:, :2].astype(float)),
        )
        names = encoder.fit_transform(x[:, 2:].astype(str)), encoder.transform(y[:, 2:].astype(str))
        blocks += [[sparse.csr_matrix(part) for part in numbers], list(names)]
    x, y = (sparse.hstack([block[side] for block in blocks]).tocsr() for side in (0, 1))
    model = Ridge(alpha=setting) if regression else LogisticRegression(C=setting, max_iter=500)
    return model.fit(x, targets).predict(y).tolist()


def _scores(true: list[Any], predicted: list[Any], regression: bool) -> dict[str, float]:
    if regression:
        return {
            "r2": float(metrics.r2_score(true, predicted)),
            "mae": float(metrics.mean_absolute_error(true, predicted)),
        }
    return {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(true, predicted)),
        "macro_f1": float(metrics.f1_score(true, predicted, average="macro")),
    }


def _columns(
    reviews: Reviews, kinds: Mapping[str, str], task: str
) -> tuple[dict[str, list[Any]], list[Any], list[int]]:
    """Collect the columns, the targets, and the rows that have any of the columns."""
    columns = {name: reviews.texts() if name == "text" else reviews.cells[name] for name in kinds}
    usable = [
        i for i in range(len(reviews)) if any(column[i] is not None for column in columns.values())
    ]
    return columns, reviews.cells[task], usable


def _plain(reviews: Reviews) -> np.ndarray:
    """(rows, 5) objects: two numbers, three categories."""
    return np.array([reviews.cells[name] for name in (*NUMBERS, *CATEGORIES)], dtype=object).T


def _rows(columns: Mapping[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
    return {name: [column[i] for i in rows] for name, column in columns.items()}


def _select(reviews: Reviews, rows: np.ndarray) -> Reviews:
    return Reviews(_rows(reviews.cells, rows.tolist()))


def _first(reviews: Reviews, rows: int | None) -> Reviews:
    return Reviews({name: column[:rows] for name, column in reviews.cells.items()})
