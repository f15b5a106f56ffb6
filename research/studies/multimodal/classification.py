"""Classification with default settings beside logistic regression.

The tables are clothing reviews: a text, numbers and categories, and without the text but with the
rating. The label is whether the author recommends the product. Logistic regression selects its
regularization by five-fold cross-validation on the training rows. The test rows are evaluated once.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from hyperagg._common.metrics import classification_metrics
from hyperagg._common.report import markdown_table, spread
from hyperagg._common.runs import Runs
from hyperagg.multimodal import MultimodalClassifier
from research.data.clothing_reviews import ClothingReviews, Reviews
from research.studies.multimodal.linear import fit_linear

__all__ = ["ROWS", "classification_table", "compare_classification", "load_tables"]

logger = logging.getLogger(__name__)

# Numbers of training rows by table.
ROWS: dict[str, Sequence[int]] = {
    "reviews: text, 2 numbers, 3 categories": (1_000, 4_000),
    "reviews: 3 numbers, 3 categories": (4_000,),
}
MODELS = ("logistic", "default")
_NUMBERS = dict.fromkeys(("age", "positive_feedback_count"), "number")
_CATEGORIES = dict.fromkeys(("division", "department", "class_name"), "category")
_KINDS = {
    "reviews: text, 2 numbers, 3 categories": {"text": "text", **_NUMBERS, **_CATEGORIES},
    "reviews: 3 numbers, 3 categories": {"rating": "number", **_NUMBERS, **_CATEGORIES},
}
_FOLDS = 5
_MAX_ITERATIONS = 1_000


@dataclass(frozen=True)
class Rows:
    """Rows of a table.

    Args:
        columns: the cells by column.
        labels: one per row.
    """

    columns: Mapping[str, Sequence[Any]]
    labels: Sequence[Any]

    def take(self, rows: np.ndarray) -> Rows:
        """Return some of the rows."""
        indices = rows.tolist()
        columns = {name: [cells[i] for i in indices] for name, cells in self.columns.items()}
        return Rows(columns, [self.labels[i] for i in indices])


def load_tables(reviews: ClothingReviews) -> dict[str, tuple[Rows, Rows]]:
    """Return the training and the test rows of each table, without reviews that have no text."""
    return {
        name: (_rows(reviews.train, kinds), _rows(reviews.test, kinds))
        for name, kinds in _KINDS.items()
    }


def compare_classification(
    reviews: ClothingReviews,
    runs: Runs,
    seeds: int,
    *,
    rows: Mapping[str, Sequence[int]] = ROWS,
) -> dict[str, Any]:
    """Measure accuracy, calibration and processor time of whole fits of both.

    Args:
        reviews: training and test rows of the reviews.
        runs: the finished runs.
        seeds: number of seeds of our model; each has its own sample of the training rows, which
            logistic regression gets as well.
        rows: numbers of training rows to measure, by table.
    """
    tables = load_tables(reviews)
    first, (train, _) = next(iter(tables.items()))
    few = train.take(np.arange(50))
    _default(few, few, _KINDS[first], 0)  # compiles the kernels, which is not part of a fit
    fits = {"logistic": _logistic, "default": _default}
    found: dict[str, Any] = {}
    for name, numbers in rows.items():
        train, test = tables[name]
        for number in numbers:
            number = min(number, len(train.labels))
            for seed in range(seeds):
                own = np.random.default_rng(seed).permutation(len(train.labels))[:number]
                for model, fit in fits.items():
                    key = f"{name}|{number}|{model}|{seed}"
                    if key not in runs.done:
                        runs.add(key, fit(train.take(np.sort(own)), test, _KINDS[name], seed))
                    run = runs.done[key]
                    message = "%s, %d rows, %s, seed %d: %.2f %%, %.1f s of the processor"
                    shown = 100 * run["accuracy"], run["seconds"]
                    logger.info(message, name, number, model, seed, *shown)
            group = {
                model: [runs.done[f"{name}|{number}|{model}|{seed}"] for seed in range(seeds)]
                for model in MODELS
            }
            found.setdefault(name, {})[str(number)] = {
                **{model: _summary(own) for model, own in group.items()},
                "difference": _difference(group["default"], group["logistic"]),
            }
    return {"classification": found}


def classification_table(results: Mapping[str, Any]) -> str:
    """Format one row per table and number of training rows."""
    rows = []
    for name, by_rows in results["classification"].items():
        for number, models in by_rows.items():
            logistic, default = (models[model] for model in MODELS)
            difference = models["difference"]
            error = "expected_calibration_error"
            rows.append(
                [
                    name,
                    f"{int(number):,}",
                    spread(logistic["accuracy"]),
                    spread(default["accuracy"]),
                    f"{100 * difference['accuracy']:+.2f} ± "
                    f"{100 * difference['standard_error']:.2f}",
                    f"{100 * np.mean(logistic[error]):.1f}",
                    f"{100 * np.mean(default[error]):.1f}",
                    f"{np.median(logistic['seconds']):.1f}",
                    f"{np.median(default['seconds']):.1f}",
                    f"{np.median(default['epochs']):g}",
                ]
            )
    head = ["table", "training rows", "accuracy %, logistic", "default", "difference"]
    errors = ["calibration error %, logistic", "default"]
    seconds = ["fit of logistic, processor s", "default", "epochs"]
    return markdown_table([*head, *errors, *seconds], rows)


def _rows(reviews: Reviews, kinds: Mapping[str, str]) -> Rows:
    cells: dict[str, list[Any]] = {**reviews.cells, "text": reviews.texts()}
    columns = {name: cells[name] for name in kinds}
    labels = ["yes" if recommended else "no" for recommended in cells["recommended"]]
    with_text = np.array([i for i, text in enumerate(cells["text"]) if text])
    return Rows(columns, labels).take(with_text)


def _default(train: Rows, test: Rows, kinds: Mapping[str, str], seed: int) -> dict[str, Any]:
    started = time.process_time()
    model = MultimodalClassifier(kinds).fit(train.columns, train.labels, seed=seed, progress=False)
    seconds = time.process_time() - started
    history = model.history_
    return {
        "seconds": seconds,
        "epochs": len(history.score),
        "best_epoch": history.best_epoch + 1,
        "temperature": history.temperature,
        **_scores(model.predict_proba(test.columns), model.classes_, test.labels),
    }


def _logistic(train: Rows, test: Rows, kinds: Mapping[str, str], seed: int) -> dict[str, Any]:
    started = time.process_time()
    labels = np.array(train.labels)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed).split(labels, labels)

    def make(regularization: float) -> LogisticRegression:
        return LogisticRegression(C=regularization, max_iter=_MAX_ITERATIONS)

    found = fit_linear(make, train.columns, labels, kinds, folds)
    seconds = time.process_time() - started
    probabilities = found.model.predict_proba(found.transform(test.columns))
    return {
        "seconds": seconds,
        "C": found.regularization,
        **_scores(probabilities, found.model.classes_.tolist(), test.labels),
    }


def _scores(
    probabilities: np.ndarray, classes: Sequence[Any], labels: Sequence[Any]
) -> dict[str, Any]:
    """The metrics, and whether the prediction of each row is correct."""
    truth = np.array(labels)[:, None] == np.array(classes)
    predicted = probabilities.argmax(1)[:, None] == np.arange(len(classes))
    metrics = classification_metrics(predicted, truth, probabilities, multi_label=False)
    return {**metrics, "correct": (predicted & truth).any(1).astype(int).tolist()}


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: [run[name] for run in runs] for name in runs[0] if name != "correct"}


def _difference(
    ours: Sequence[Mapping[str, Any]], logistic: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    """Accuracy of ours less that of logistic regression, and its standard error over the test rows,
    which are paired; the answers to a row are averaged over the seeds."""
    ours_correct, logistic_correct = (
        np.mean([run["correct"] for run in runs], 0) for runs in (ours, logistic)
    )
    gains = ours_correct - logistic_correct
    error = gains.std(ddof=1) / math.sqrt(len(gains))
    return {"accuracy": float(gains.mean()), "standard_error": float(error)}
