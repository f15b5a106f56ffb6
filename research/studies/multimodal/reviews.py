"""Clothing reviews: text, numbers and categories to the rating and to the recommendation.

Neither of the two is given to foretell the other. What there is to choose is chosen on a held-out
tenth of the training rows; the test rows, a fifth of all, are looked at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy import sparse  # type: ignore[import-untyped]
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.multimodal.estimator import MultimodalModel
from hyperagg.text import WORD_PATTERN
from research.data.clothing_reviews import ClothingReviews, Reviews

__all__ = ["TASKS", "compare_reviews", "reviews_table"]

NUMBERS = ("age", "positive_feedback_count")
CATEGORIES = ("division", "department", "class_name")
TABLE = dict.fromkeys(NUMBERS, "number") | dict.fromkeys(CATEGORIES, "category")
TASKS = {"rating": True, "recommended": False}  # whether it is a regression
# What our model is given.
OURS = {
    "sum, text + table": {"text": "text", **TABLE},
    "sum, text": {"text": "text"},
    "sum, table": TABLE,
}
# The rate of words: the best of 0.01 to 0.1 on a held-out part of the training rows.
SETTINGS: dict[str, Any] = dict(
    d_model=64, epochs=4, embedding_learning_rate=0.02, learning_rate=2e-3, dropout=0.1
)
GRIDS: dict[str, tuple[float, ...]] = {
    "ridge": (0.3, 1.0, 3.0, 10.0),
    "logistic": (1.0, 3.0, 10.0, 30.0),
    "boosting": (15, 31),  # leaves
}
RIVALS = {
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
    say: Callable[[str], None] = print,
    report: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """R² of the rating, accuracy and balanced accuracy of the recommendation, of every model.

    Args:
        data: train and test.
        runs: what is measured so far.
        seeds: of our models; the rivals have none.
        rows: of the training rows; None: all.
    """
    found: dict[str, Any] = {}
    train = _first(data.train, rows)
    for task in TASKS:
        models: dict[str, Any] = {}
        for name, (kind, parts) in RIVALS.items():
            key = f"{task}|{name}"
            if key not in runs.done:
                runs.add(key, _rival(train, data.test, task, kind, parts))
            models[name] = {m: [x] for m, x in runs.done[key].items() if m != "chosen"}
            models[name]["chosen"] = runs.done[key]["chosen"]
            say(f"{task}, {name}: {models[name]}")
        for name, kinds in OURS.items():
            for seed in range(seeds):
                key = f"{task}|{name}|{seed}"
                if key not in runs.done:
                    runs.add(key, _ours(train, data.test, task, kinds, seed, report))
            own = [runs.done[f"{task}|{name}|{seed}"] for seed in range(seeds)]
            models[name] = {m: [run[m] for run in own] for m in own[0]}
            say(f"{task}, {name}: {models[name]}")
        found[task] = models
    return {"reviews": found}


def reviews_table(results: Mapping[str, Any]) -> str:
    """A model a row."""
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
            "mean error",
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
    report: Callable[[float, str], None] | None,
) -> dict[str, Any]:
    regression = TASKS[task]
    cells, wanted, usable = _cells(train, kinds, task)
    test_cells, true, test_usable = _cells(test, kinds, task)
    model = MultimodalModel(kinds, regression=regression, **SETTINGS)
    model.fit(_rows(cells, usable), [wanted[i] for i in usable], seed=seed, report=report)
    # A row that has nothing of this gets what is most likely without it.
    usual = float(np.mean(wanted)) if regression else max(set(wanted), key=wanted.count)
    said: list[Any] = [usual] * len(true)
    for i, answer in zip(test_usable, model.predict(_rows(test_cells, test_usable))):
        said[i] = answer
    return {**_scores(true, said, regression), "seconds": model.history_.seconds}


def _rival(
    train: Reviews, test: Reviews, task: str, kind: str, parts: tuple[str, ...]
) -> dict[str, Any]:
    regression = TASKS[task]
    wanted, true = train.cells[task], test.cells[task]
    order = np.random.default_rng(0).permutation(len(train))
    held, kept = np.split(order, [len(order) // 10])
    grid = GRIDS["boosting" if kind == "boosting" else "ridge" if regression else "logistic"]
    found = []
    for setting in grid:
        own, others = _picked(train, kept), _picked(train, held)
        said = _fitted(own, others, own.cells[task], kind, parts, regression, setting)
        scores = _scores(others.cells[task], said, regression)
        found.append(scores["r2" if regression else "accuracy"])
    best = grid[int(np.argmax(found))]
    said = _fitted(train, test, wanted, kind, parts, regression, best)
    return {**_scores(true, said, regression), "chosen": best}


def _fitted(
    train: Reviews,
    test: Reviews,
    wanted: list[Any],
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
        machine: Any = (
            HistGradientBoostingRegressor(**options)
            if regression
            else HistGradientBoostingClassifier(**options)
        )
        return machine.fit(x.astype(float), wanted).predict(y.astype(float)).tolist()
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
    machine = Ridge(alpha=setting) if regression else LogisticRegression(C=setting, max_iter=500)
    return machine.fit(x, wanted).predict(y).tolist()


def _scores(true: list[Any], said: list[Any], regression: bool) -> dict[str, float]:
    if regression:
        return {
            "r2": float(metrics.r2_score(true, said)),
            "mae": float(metrics.mean_absolute_error(true, said)),
        }
    return {
        "accuracy": float(metrics.accuracy_score(true, said)),
        "balanced_accuracy": float(metrics.balanced_accuracy_score(true, said)),
        "macro_f1": float(metrics.f1_score(true, said, average="macro")),
    }


def _cells(
    reviews: Reviews, kinds: Mapping[str, str], task: str
) -> tuple[dict[str, list[Any]], list[Any], list[int]]:
    """By column, what is foretold, and the rows that have any of the columns."""
    cells = {name: reviews.texts() if name == "text" else reviews.cells[name] for name in kinds}
    usable = [
        i for i in range(len(reviews)) if any(column[i] is not None for column in cells.values())
    ]
    return cells, reviews.cells[task], usable


def _plain(reviews: Reviews) -> np.ndarray:
    """(rows, 5) objects: two numbers, three categories."""
    return np.array([reviews.cells[name] for name in (*NUMBERS, *CATEGORIES)], dtype=object).T


def _rows(cells: Mapping[str, list[Any]], rows: list[int]) -> dict[str, list[Any]]:
    return {name: [column[i] for i in rows] for name, column in cells.items()}


def _picked(reviews: Reviews, rows: np.ndarray) -> Reviews:
    return Reviews(_rows(reviews.cells, rows.tolist()))


def _first(reviews: Reviews, rows: int | None) -> Reviews:
    return Reviews({name: column[:rows] for name, column in reviews.cells.items()})
