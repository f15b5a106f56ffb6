"""Selection of a baseline's parameters on validation rows."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hyperagg._common.runs import Runs
from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.features import Fold
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.baselines.search import Diverged, climb
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels

__all__ = [
    "candidate_key",
    "held_out_fold",
    "held_out_folds",
    "mean_score",
    "select_parameters",
]

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
    folds: list[Fold] = []
    for seed in range(_MAX_FOLDS if count is None else count):
        fold = held_out_fold(X, y, seed, fraction)
        if fold is None:
            break
        folds.append(fold)
        if count is None and (seed + 1) * len(fold.held_out_texts) >= _MIN_HELD_OUT:
            break
    return folds


def held_out_fold(
    X: Sequence[str], y: Sequence[Any], seed: int, fraction: float = 0.1
) -> Fold | None:
    """Return the fold of one seed; None if there are too few rows to validate on any."""
    classes = first_classes(encode_labels(y, unique_labels(y)))
    training, validation = train_validation_split(classes, fraction, seed)
    if not len(validation):
        return None
    return Fold(*_take(X, y, training), *_take(X, y, validation))


def mean_score(baseline: Any, parameters: dict[str, Any], folds: Sequence[Fold]) -> float:
    """Return the mean accuracy, or micro-F1 for several labels per text, over the folds.

    It is 0 for parameters with which the training diverges.
    """
    scores = []
    for fold in folds:
        model = baseline(**parameters)
        try:
            if hasattr(model, "predict_fold"):
                predicted = model.predict_fold(fold)
            else:
                predicted = model.fit(fold.texts, fold.labels).predict(fold.held_out_texts)
        except Diverged:
            return 0.0
        found = classification_scores(fold.held_out_labels, predicted)
        scores.append(found["micro_f1" if isinstance(fold.labels[0], tuple) else "accuracy"])
    return float(np.mean(scores))


class _OutOfTime(Exception):
    """The time of a stage of the search is used up."""


def select_parameters(
    baseline: Any,
    folds: Sequence[Fold],
    *,
    name: str = "",
    seconds: float | None = None,
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
    those whose best value depends on the number of rows. Epochs start from the number that makes as
    many steps as on the sample. Up to 3,000 rows are searched once, on all
    axes.

    Args:
        baseline: a class with AXES, SCALING, STARTS and `canonical`, see `TfidfClassifier`.
        folds: the rows to learn from and to validate on; see `held_out_folds`.
        name: the name of the baseline in the keys of `runs` and in the lines of `report`.
        seconds: time limit of the search, for the training and prediction of all candidates, those
            in `runs` included. Half of it is for the sample. No candidate is begun after the limit,
            and the best one so far is selected. 0: no search, and the first start is selected;
            None: no limit.
        more_starts: further parameters, at the nearest values of the axes; see `climb`.
        runs: candidates that are in it are not trained again, and the others are added.
        report: called with one line per candidate.

    Returns:
        {"parameters": ..., "score": ..., "candidates": number that were tried,
        "candidates_sample": number on the sample, before these; "training_rows" of the first fold
        and "held_out_rows" of all of them that they were tried on,
        "seconds": training and prediction of all candidates, "is_complete": whether no neighbor of
        the parameters is better, as far as is known}. Without validation rows or time,
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
        "is_complete": False,
    }
    if not folds or seconds == 0:
        return selected
    stages = [("", [fold.sample(_MAX_ROWS) for fold in folds], baseline.AXES)]
    if len(folds[0].texts) > _SAMPLE:
        scaling = {axis: baseline.AXES[axis] for axis in baseline.SCALING}
        stages = [
            ("_sample", [fold.sample(_SAMPLE) for fold in folds], baseline.AXES),
            ("", stages[0][1], scaling),
        ]
    limit = math.inf if seconds is None else seconds
    selected["is_complete"] = True
    for i, (suffix, rows, axes) in enumerate(stages):
        if selected["seconds"] >= limit:  # one candidate of the sample took all of it
            selected["is_complete"] = False
            break
        end = limit * (i + 1) / len(stages)
        if i:
            ratio = len(rows[0].texts) / selected["training_rows"]
            starts, others = (
                [_with_equal_steps(baseline, point, ratio) for point in points]
                for points in (starts, others)
            )
        tried: list[tuple[float, dict[str, Any]]] = []

        def score(
            point: dict[str, Any],
            suffix: str = suffix,
            rows: Any = rows,
            end: float = end,
            tried: Any = tried,
        ) -> float:
            if tried and selected["seconds"] >= end:
                raise _OutOfTime
            key = candidate_key(suffix, name, point)
            is_new = key not in done
            if is_new:
                started = time.perf_counter()
                value = mean_score(baseline, point, rows)
                add(key, {"score": value, "seconds": time.perf_counter() - started})
            run = done[key]
            tried.append((run["score"], point))
            selected[f"candidates{suffix}"] += 1
            selected["seconds"] += run["seconds"]
            if is_new:
                values = ", ".join(f"{axis} {value}" for axis, value in point.items())
                best = max(each for each, _ in tried)
                bound = "" if seconds is None else f", limit {seconds:g} s"
                report(
                    f"{name}{suffix.replace('_', ', ')}: {values}: {100 * run['score']:.2f} % in "
                    f"{run['seconds']:.1f} s; candidate {len(tried)}, best {100 * best:.2f} %, "
                    f"{selected['seconds']:.0f} s so far{bound}"
                )
            return run["score"]

        try:
            best, *others = climb(score, axes, starts, baseline.canonical, others, _REACH)
        except _OutOfTime:
            selected["is_complete"] = False
            best, others = max(tried, key=lambda each: each[0])[1], []
        starts = [best]
        selected["parameters"] = best
        selected["score"] = done[candidate_key(suffix, name, best)]["score"]
        selected["training_rows"] = len(rows[0].texts)
    return selected


def _with_equal_steps(baseline: Any, point: Mapping[str, Any], ratio: float) -> dict[str, Any]:
    """Return parameters with as many training steps on `ratio` times as many rows."""
    if "epochs" not in baseline.AXES:
        return dict(point)
    return {**point, "epochs": baseline.AXES["epochs"].nearest(point["epochs"] / ratio)}


def candidate_key(suffix: str, name: str, point: Mapping[str, Any]) -> str:
    """Return the key in `Runs` of a candidate, with the suffix "" or "_sample"."""
    return f"search{suffix} {name} {json.dumps(point, sort_keys=True)}"


def _take(X: Sequence[str], y: Sequence[Any], rows: np.ndarray) -> tuple[list[str], list[Any]]:
    return [X[i] for i in rows], [y[i] for i in rows]
