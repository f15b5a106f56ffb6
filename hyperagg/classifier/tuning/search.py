"""Searches the arguments of a `TextClassifier` for a set of texts, within a time limit.

Every trial learns from the same part of the rows and is scored on the rest, the first of five
folds, which is used neither in training nor for the selection of the epoch. The default
configuration is the first trial, and of equal scores the first wins.

The best of many scores is optimistic: among trials that are equally good, one is lucky. The winner
is therefore compared with the default on the other folds, whose rows no trial was scored on, and
the default is kept unless the winner is better there by more than one standard error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hyperagg._common.interrupt import continue_after_interrupt
from hyperagg._common.progress import progress_bar
from hyperagg._common.validation import check_integer, check_real, check_seed
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.training.labels import check_labeled_texts
from hyperagg.classifier.tuning.comparison import Comparison
from hyperagg.classifier.tuning.trial_runner import (
    D_MODELS,
    MAX_NGRAMS,
    NUM_FOLDS,
    Trial,
    TrialRunner,
)
from hyperagg.data.readers.columns import pluralize

__all__ = ["TuningResult", "import_optuna", "tune"]

_logger = logging.getLogger("hyperagg")

# The search ends after this number of consecutive proposals that are too large, or too slow for the
# time that is left.
_MAX_SKIPPED = 50


@dataclass(frozen=True)
class TuningResult:
    """The outcome of `tune`.

    Attributes:
        classifier: trained on all rows with the configuration of `selected_trial`.
        selected_trial: `best_trial` if it is better than the default by more than one standard
            error, or if the default is larger than `max_size_mb`; otherwise the default.
        best_trial: the trial with the best score in the search.
        trials: all trials in order; the first one is the default configuration.
        comparison: `best_trial` beside the default, on rows that the search did not score; None if
            the default is the best trial, or the comparison was interrupted.
        arguments: those of the `TextClassifier` that was trained; none for the default.
        metric: what a score is, "accuracy" or "micro_f1".
        num_validation: the number of rows that trials are scored on.
    """

    classifier: TextClassifier
    selected_trial: Trial
    best_trial: Trial
    trials: list[Trial]
    comparison: Comparison | None
    arguments: dict[str, Any]
    metric: str
    num_validation: int

    def summary(self) -> str:
        """Say in a few lines what won, by how much, and what was trained."""
        from hyperagg.classifier.tuning.report import summary

        return summary(self)


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
    """Search hyperparameters by Optuna's TPE, and train the best on all rows, or the default.

    The search space is learning_rate, epochs, d_model, max_ngrams, min_count and label_smoothing.
    The best trial is compared with the default on up to four folds of rows that no trial was scored
    on. If it is better there by more than one standard error of the difference, paired over the
    rows, it is trained on all rows, and otherwise the default.

    Ctrl-C ends the search, and the best configuration so far is compared on one fold. A second one
    ends the comparison, and without it the default is kept.

    Args:
        X, y: texts and labels, as for `TextClassifier.fit`.
        time_limit: seconds for the search, the comparison and the final training. The search takes
            at most three fifths of what the final training leaves. The default configuration is
            always tried, another one is always compared on one fold before it is selected, and one
            of them is always trained, however long that takes.
        trials: maximum number of trials. If the time suffices for all of them and for the
            comparison on all folds, equal arguments give equal classifiers.
        max_size_mb: maximum size of the saved embedding, in megabytes.
        seed: determines the folds, the search and every training.
        progress: show a progress bar; None: in a terminal or a notebook, and lines in a log.

    Returns:
        The trained classifier, the trials and the comparison.

    Raises:
        ImportError: Optuna is not installed.
        ValueError: there are too few rows for validation, or no trial is within `max_size_mb`.

    Cost: at most about `time_limit` seconds.

    Source: Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization" (TPE). The rule of
    one standard error: Breiman et al. (1984), "Classification and Regression Trees".

    Example:
        >>> from hyperagg.classifier import tune
        >>> texts, labels = ["good film", "bad film"] * 20, ["yes", "no"] * 20
        >>> result = tune(texts, labels, time_limit=60, trials=1)
        >>> print(result.summary())
        only the default was tried: it is kept
    """
    time_limit = check_real("time_limit", time_limit, 0, open_minimum=True)
    if trials is not None:
        trials = check_integer("trials", trials, 1)
    if max_size_mb is not None:
        max_size_mb = check_real("max_size_mb", max_size_mb, 0, open_minimum=True)
    seed = check_seed(seed)
    optuna = import_optuna()
    texts, labels = check_labeled_texts(X, y)
    runner = TrialRunner(texts, labels, time_limit, max_size_mb, seed)
    with progress_bar("tuning", progress) as update:

        def show(status: str, folds: int = 0) -> None:
            fraction = 1 - runner.seconds_left() / time_limit
            if trials is not None:  # they may take less time; the final training counts as a fold
                fraction = max(fraction, (len(runner.trials) + folds) / (trials + NUM_FOLDS))
            update(min(1.0, fraction), status)

        interrupted = _search(optuna, runner, trials, show)
        comparison = None
        if runner.best.valid and runner.best is not runner.trials[0]:
            comparison = runner.compare(
                runner.best,
                1 if interrupted else NUM_FOLDS - 1,
                lambda fold: show(f"comparing the best with the default, fold {fold}", fold - 1),
            )
            if comparison is None:
                _logger.warning("comparison interrupted: nothing shows that the best is better")
    best, default = runner.best, runner.trials[0]
    if not best.valid:
        smallest = min(trial.size_mb for trial in runner.trials)
        raise ValueError(
            f"max_size_mb={max_size_mb:g}: expected at least {smallest:.4g}, the smallest that was "
            "tried"
        )
    is_better = comparison is not None and comparison.is_better
    selected = best if is_better or not default.valid else default
    arguments = runner.arguments(selected.config)
    classifier = TextClassifier(**arguments).fit(texts, labels, seed=seed, progress=progress)
    return TuningResult(
        classifier,
        selected,
        best,
        runner.trials,
        comparison,
        arguments,
        runner.metric,
        runner.num_validation,
    )


def import_optuna() -> Any:
    """Return Optuna, which reports nothing below a warning.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        message = "tune needs Optuna: pip install 'hyperagg[tune]'"
        raise ImportError(message, name="optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _search(
    optuna: Any, runner: TrialRunner, trials: int | None, show: Callable[[str], None]
) -> bool:
    """Run trials until the time is used up, and return whether the search was interrupted."""
    study = optuna.create_study(
        direction="maximize", sampler=optuna.samplers.TPESampler(seed=runner.seed)
    )
    for config in runner.initial_configs():
        study.enqueue_trial(config)
    skipped = 0
    show("the default configuration")
    try:
        while skipped < _MAX_SKIPPED and (trials is None or len(runner.trials) < trials):
            proposed = study.ask()
            trial = runner.run(_suggest(proposed, runner.default))
            skipped = skipped + 1 if trial is None else 0
            if trial is not None and trial.valid:
                study.tell(proposed, trial.score)
            else:
                study.tell(proposed, state=optuna.trial.TrialState.PRUNED)
            number = pluralize(len(runner.trials), "trial")
            show(f"{number}, best {100 * max(0.0, runner.best.score):.2f} %")
    except KeyboardInterrupt:
        if not any(trial.valid for trial in runner.trials):
            raise
        continue_after_interrupt()
        _logger.warning("search interrupted: going on with the trials so far")
        return True
    return False


def _suggest(trial: Any, default: dict[str, Any]) -> dict[str, Any]:
    """Draw a configuration from the search space, which is centered on the default."""
    rate, epochs = default["learning_rate"], default["epochs"]

    def real(name: str, minimum: float, maximum: float, log: bool = False) -> float:
        value = trial.suggest_float(name, minimum, maximum, log=log)
        # Of three digits, which are enough, so that they can be copied into a command.
        return value if value == default[name] else float(f"{value:.3g}")

    return {
        "d_model": trial.suggest_categorical("d_model", D_MODELS),
        "max_ngrams": trial.suggest_categorical("max_ngrams", MAX_NGRAMS),
        "min_count": trial.suggest_int("min_count", 1, 4),
        "learning_rate": real("learning_rate", rate / 4, rate * 4, log=True),
        "epochs": trial.suggest_int("epochs", max(1, epochs // 3), epochs * 3, log=True),
        "label_smoothing": real("label_smoothing", 0.0, 0.3),
    }
