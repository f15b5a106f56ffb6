"""The arguments of a `TextClassifier` that suit a set of texts, searched for within a time.

Every trial learns the same part of the rows and is scored on the rest, which it sees neither in
training nor when it picks its best epoch. The default is the first trial, and of equals the earlier
is kept. The best of many scores flatters, the more so the fewer rows are held out: what a tuned
classifier is worth is for other rows to say.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.progress import Progress

from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.training.labels import check_labeled_texts
from hyperagg.classifier.tuning.trials import GRAMS, WIDTHS, Trial, Trials

__all__ = ["Tuned", "tune"]

# Proposals in a row that are too large, or too slow for the time left, after which it ends.
MAX_REFUSED = 50


@dataclass(frozen=True)
class Tuned:
    """The classifier that learned all rows with the config of `best`; trials[0] is the default."""

    classifier: TextClassifier
    best: Trial
    trials: list[Trial]


def tune(
    texts: Iterable[str],
    labels: Iterable[Any],
    *,
    seconds: float,
    trials: int | None = None,
    max_mb: float | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> Tuned:
    """Search learning_rate, epochs, d_model, max_ngrams, min_count and label_smoothing by Optuna's
    TPE, and train the best on all rows. Ctrl-C ends the search, and the best so far is trained.

    Args:
        texts, labels, seed, progress: as for `TextClassifier.fit`.
        seconds: for everything. The default is tried, and the best trained, whatever it takes.
        trials: at most so many. The same arguments give the same classifier if there is time for
            all of them.
        max_mb: for the embedding of the saved model.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: too few rows to hold some out, or nothing was found within `max_mb`.
    """
    for name, value in (("seconds", seconds), ("trials", trials), ("max_mb", max_mb)):
        if value is not None and not value > 0:
            raise ValueError(f"{name}={value}: give a number above 0")
    try:
        import optuna
    except ImportError as error:
        message = 'tune needs Optuna: pip install "hyperagg[tune]"'
        raise ImportError(message, name="optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    texts, labels = check_labeled_texts(texts, labels)
    tried = Trials(texts, labels, time.monotonic() + seconds, max_mb, seed)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for config in tried.first():
        study.enqueue_trial(config)
    shown = sys.stderr.isatty() if progress is None else progress
    refused = 0
    try:
        with Progress(console=Console(stderr=True), transient=True, disable=not shown) as bar:
            task = bar.add_task("the default", total=seconds)
            while refused < MAX_REFUSED and (trials is None or len(tried.done) < trials):
                asked = study.ask()
                trial = tried.attempt(_propose(asked, tried.default))
                refused = refused + 1 if trial is None else 0
                if trial is not None and trial.counts:
                    study.tell(asked, trial.score)
                else:
                    study.tell(asked, state=optuna.trial.TrialState.PRUNED)
                told = f"{len(tried.done)} tried, best {100 * tried.best.score:.2f} %"
                bar.update(task, completed=seconds - tried.left(), description=told)
    except KeyboardInterrupt:
        if not any(trial.counts for trial in tried.done):
            raise
        if shown:
            print("stopped: training the best so far; once more stops that too", file=sys.stderr)
    best = tried.best
    if not best.counts:
        least = min(trial.megabytes for trial in tried.done)
        raise ValueError(f"max_mb={max_mb}: the least that was tried takes {least:.1f}; allow more")
    classifier = TextClassifier(**({} if best is tried.done[0] else best.config))
    classifier.fit(texts, labels, seed=seed, progress=progress)
    return Tuned(classifier, best, tried.done)


def _propose(asked: Any, default: dict[str, Any]) -> dict[str, Any]:
    rate, epochs = default["learning_rate"], default["epochs"]
    return {
        "d_model": asked.suggest_categorical("d_model", WIDTHS),
        "max_ngrams": asked.suggest_categorical("max_ngrams", GRAMS),
        "min_count": asked.suggest_int("min_count", 1, 4),
        "learning_rate": asked.suggest_float("learning_rate", rate / 4, rate * 4, log=True),
        "epochs": asked.suggest_int("epochs", max(1, epochs // 3), epochs * 3, log=True),
        "label_smoothing": asked.suggest_float("label_smoothing", 0.0, 0.3),
    }
