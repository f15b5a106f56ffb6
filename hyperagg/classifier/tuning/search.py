"""Searches the arguments of a `TextClassifier` for a set of texts, within a time limit.

Every trial learns from the same part of the rows and is scored on the rest, which is used neither
in training nor for the selection of the epoch. The default configuration is the first trial, and of
equal scores the first is selected. The best of many scores is optimistic, the more so the fewer
rows are used for validation: measure a tuned classifier on other rows.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hyperagg._common.progress import progress_bar
from hyperagg._common.validation import check_integer, check_real, check_seed
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.training.labels import check_labeled_texts
from hyperagg.classifier.tuning.trial_runner import D_MODELS, MAX_NGRAMS, Trial, TrialRunner

__all__ = ["TuningResult", "tune"]

_logger = logging.getLogger("hyperagg")

# The search ends after this number of consecutive proposals that are too large, or too slow for the
# time that is left.
_MAX_SKIPPED = 50


@dataclass(frozen=True)
class TuningResult:
    """The outcome of `tune`.

    Attributes:
        classifier: trained on all rows with the configuration of `best_trial`.
        best_trial: the trial with the best score.
        trials: all trials in order; the first one is the default configuration.
    """

    classifier: TextClassifier
    best_trial: Trial
    trials: list[Trial]


def tune(
    X: Iterable[str],
    y: Iterable[Any],
    *,
    time_limit: float,
    trials: int | None = None,
    max_size_mb: float | None = None,
    seed: int = 0,
    progress: bool | None = None,
) -> TuningResult:
    """Search hyperparameters by Optuna's TPE, and train the best configuration on all rows.

    The search space is learning_rate, epochs, d_model, max_ngrams, min_count and label_smoothing.
    Ctrl-C ends the search, and the best configuration so far is trained.

    Args:
        X, y: texts and labels, as for `TextClassifier.fit`.
        time_limit: seconds for the search and the final training. The default configuration is
            always tried and the best one always trained, however long that takes.
        trials: maximum number of trials. If the time suffices for all of them, equal arguments
            give equal classifiers.
        max_size_mb: maximum size of the saved embedding, in megabytes.
        seed: determines the split, the search and every training.
        progress: show a progress bar; None: in a terminal or a notebook.

    Returns:
        The trained classifier and the trials.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: there are too few rows for validation, or no trial is within `max_size_mb`.

    Cost: at most about `time_limit` seconds.

    Source: Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization" (TPE).
    """
    time_limit = check_real("time_limit", time_limit, 0, open_minimum=True)
    if trials is not None:
        trials = check_integer("trials", trials, 1)
    if max_size_mb is not None:
        max_size_mb = check_real("max_size_mb", max_size_mb, 0, open_minimum=True)
    seed = check_seed(seed)
    try:
        import optuna
    except ImportError as error:
        message = "tune needs Optuna: pip install 'hyperagg[tune]'"
        raise ImportError(message, name="optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    texts, labels = check_labeled_texts(X, y)
    runner = TrialRunner(texts, labels, time.monotonic() + time_limit, max_size_mb, seed)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    for config in runner.initial_configs():
        study.enqueue_trial(config)
    skipped = 0
    try:
        with progress_bar("tuning", progress) as update:
            update(0.0, "the default configuration")
            while skipped < _MAX_SKIPPED and (trials is None or len(runner.trials) < trials):
                proposed = study.ask()
                trial = runner.run(_suggest(proposed, runner.default))
                skipped = skipped + 1 if trial is None else 0
                if trial is not None and trial.valid:
                    study.tell(proposed, trial.score)
                else:
                    study.tell(proposed, state=optuna.trial.TrialState.PRUNED)
                elapsed = 1 - runner.seconds_left() / time_limit
                status = f"{len(runner.trials)} trials, best {100 * runner.best.score:.2f} %"
                update(min(1.0, elapsed), status)
    except KeyboardInterrupt:
        if not any(trial.valid for trial in runner.trials):
            raise
        _logger.warning("search interrupted: training the best configuration so far")
    best = runner.best
    if not best.valid:
        smallest = min(trial.size_mb for trial in runner.trials)
        raise ValueError(
            f"max_size_mb={max_size_mb:g}: expected at least {smallest:.1f}, the smallest that was "
            "tried"
        )
    classifier = TextClassifier(**({} if best is runner.trials[0] else best.config))
    classifier.fit(texts, labels, seed=seed, progress=progress)
    return TuningResult(classifier, best, runner.trials)


def _suggest(trial: Any, default: dict[str, Any]) -> dict[str, Any]:
    """Draw a configuration from the search space, which is centered on the default."""
    rate, epochs = default["learning_rate"], default["epochs"]
    return {
        "d_model": trial.suggest_categorical("d_model", D_MODELS),
        "max_ngrams": trial.suggest_categorical("max_ngrams", MAX_NGRAMS),
        "min_count": trial.suggest_int("min_count", 1, 4),
        "learning_rate": trial.suggest_float("learning_rate", rate / 4, rate * 4, log=True),
        "epochs": trial.suggest_int("epochs", max(1, epochs // 3), epochs * 3, log=True),
        "label_smoothing": trial.suggest_float("label_smoothing", 0.0, 0.3),
    }
