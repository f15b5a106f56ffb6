"""Selection of a baseline's parameters on validation rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperagg._common.runs import Runs
from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.baselines.search import climb, neighbors
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels

__all__ = ["candidate_key", "held_out_folds", "mean_score", "select_parameters"]

# One validation part of a small data set is a matter of luck: as many parts are used as have
# together this many rows.
_MIN_HELD_OUT = 1_000
_MAX_FOLDS = 5
# All axes are searched on the smaller number of training rows. The larger one bounds the cost of
# a candidate where the parameters that depend on the number of rows are searched again.
_SAMPLE = 3_000
_MAX_ROWS = 20_000
# Starts that are worse than the best start by more than this are left out: words alone
# for short texts in many languages, or NB-SVM's interpolation of 0.25 for many classes.
_REACH = 0.05


def held_out_folds(
    X: Sequence[str], y: Sequence[Any], fraction: float = 0.1, count: int | None = None
) -> list[Fold]:
    """Split rows into those to learn from and the validation rows of `TextClassifier`.

    Args:
        X: texts.
        y: a label per text, or a tuple of labels per text.
        fraction: fraction of the rows to validate on.
        count: number of folds, those of the seeds 0, 1, ... of `TextClassifier`; None: as many as
            have at least 1,000 validation rows, at most 5.

    Returns:
        the folds; none if there are too few rows to validate on any.
    """
    classes = first_classes(encode_labels(y, unique_labels(y)))
    folds: list[Fold] = []
    for seed in range(_MAX_FOLDS if count is None else count):
        training, validation = train_validation_split(classes, fraction, seed)
        if not len(validation):
            break
        folds.append(Fold(*_take(X, y, training), *_take(X, y, validation)))
        if count is None and (seed + 1) * len(validation) >= _MIN_HELD_OUT:
            break
    return folds


def mean_score(baseline: Any, parameters: dict[str, Any], folds: Sequence[Fold]) -> float:
    """Return the mean accuracy, or micro-F1 for several labels per text, over the folds."""
    scores = []
    for fold in folds:
        model = baseline(**parameters)
        if hasattr(model, "predict_fold"):
            predicted = model.predict_fold(fold)
        else:
            predicted = model.fit(fold.texts, fold.labels).predict(fold.held_out_texts)
        found = classification_scores(fold.held_out_labels, predicted)
        scores.append(found["micro_f1" if isinstance(fold.labels[0], tuple) else "accuracy"])
    return float(np.mean(scores))


def select_parameters(
    baseline: Any,
    folds: Sequence[Fold],
    *,
    name: str = "",
    more_starts: Sequence[Mapping[str, Any]] = (),
    runs: Runs | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Return the parameters of a baseline with the best score on validation rows.

    The search has two stages, with the same validation rows. On a sample of 3,000 training rows of
    each fold, drawn per class, `climb` starts from each of `baseline.STARTS` that is not worse than
    the best of them by more than 0.05, and follows all axes until no neighbor on either side
    of any axis is better. The best of every start are then compared on at most 20,000 rows of each
    fold, and only the axes in `baseline.SCALING` are followed, again until no neighbor is better:
    those whose best value depends on the number of rows. Up to 3,000 rows are searched once, on all
    axes.

    Args:
        baseline: a class with AXES, SCALING, STARTS and `canonical`, see `TfidfClassifier`.
        folds: the rows to learn from and to validate on; see `held_out_folds`.
        name: the name of the baseline in the keys of `runs` and in the lines of `report`.
        more_starts: further parameters, at the nearest values of the axes; see `climb`.
        runs: candidates that are in it are not trained again, and the others are added.
        report: called with one line per candidate.

    Returns:
        {"parameters": ..., "score": ..., "candidates": number that were tried,
        "candidates_sample": number on the sample, before these; "training_rows" of the first fold
        and "held_out_rows" of all of them that they were tried on,
        "seconds": training and prediction of all candidates}. Without validation rows,
        "parameters" is the first start.
    """
    done: dict[str, Any] = {} if runs is None else runs.done
    add = done.__setitem__ if runs is None else runs.add
    starts: list[Any] = [dict(start) for start in baseline.STARTS]
    others: list[Any] = [
        {axis: baseline.AXES[axis].nearest(value) for axis, value in start.items()}
        for start in more_starts
    ]
    selected: dict[str, Any] = {
        "parameters": baseline.canonical(starts[0]),
        "score": None,
        "training_rows": 0,
        "held_out_rows": sum(len(fold.held_out_texts) for fold in folds),
        "candidates_sample": 0,
        "candidates": 0,
        "seconds": 0.0,
    }
    if not folds:
        return selected
    stages = [("", [fold.sample(_MAX_ROWS) for fold in folds], baseline.AXES)]
    if len(folds[0].texts) > _SAMPLE:
        scaling = {axis: baseline.AXES[axis] for axis in baseline.SCALING}
        stages = [
            ("_sample", [fold.sample(_SAMPLE) for fold in folds], baseline.AXES),
            ("", stages[0][1], scaling),
        ]
    for suffix, rows, axes in stages:

        def score(
            point: dict[str, Any], suffix: str = suffix, rows: Any = rows, axes: Any = axes
        ) -> float:
            key = candidate_key(suffix, name, point)
            if key not in done:
                started = time.perf_counter()
                value = mean_score(baseline, point, rows)
                run = {"score": value, "seconds": time.perf_counter() - started}
                add(key, run)
                values = ", ".join(f"{axis} {value}" for axis, value in point.items())
                left = sum(
                    candidate_key(suffix, name, each) not in done for each in near(point, axes)
                )
                report(
                    f"{name}{suffix.replace('_', ', ')}: {values}: {100 * run['score']:.2f} %, "
                    f"{run['seconds']:.1f} s; if this is the best, {left} neighbors are left, "
                    f"about {left * run['seconds']:.0f} s"
                )
            selected[f"candidates{suffix}"] += 1
            selected["seconds"] += done[key]["seconds"]
            return done[key]["score"]

        def near(point: dict[str, Any], axes: Any) -> list[dict[str, Any]]:
            return neighbors(point, axes, baseline.canonical)

        best, *others = climb(score, axes, starts, baseline.canonical, others, _REACH)
        starts = [best]
    selected["parameters"] = best
    selected["score"] = done[candidate_key("", name, best)]["score"]
    selected["training_rows"] = len(stages[-1][1][0].texts)
    return selected


def candidate_key(suffix: str, name: str, point: Mapping[str, Any]) -> str:
    """Return the key in `Runs` of a candidate, with the suffix "" or "_sample"."""
    return f"search{suffix} {name} {json.dumps(point, sort_keys=True)}"


def _take(X: Sequence[str], y: Sequence[Any], rows: np.ndarray) -> tuple[list[str], list[Any]]:
    return [X[i] for i in rows], [y[i] for i in rows]
