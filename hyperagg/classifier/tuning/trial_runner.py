"""Runs the trials of a hyperparameter search on the same rows, within limits of time and size."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperagg._common.interrupt import continue_after_interrupt
from hyperagg._common.split import contiguous_folds
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.training.labels import (
    encode_labels,
    first_classes,
    is_multi_label,
    unique_labels,
)
from hyperagg.classifier.tuning.comparison import (
    Comparison,
    RowCounts,
    compare_rows,
    count_rows,
)
from hyperagg.text import WordTokenizer

__all__ = ["D_MODELS", "MAX_NGRAMS", "Trial", "TrialRunner"]

D_MODELS = (8, 16, 32, 64, 128)
MAX_NGRAMS = (0, 10_000, 30_000, 100_000, 300_000, 1_000_000)
# The trials are scored on the first fold, and the best one is compared on the others.
NUM_FOLDS = 5
# The final training learns from nine tenths of the rows and then from all of them, which takes as
# long as this number of trials.
_FINAL_TRAINING_IN_TRIALS = 2.5
# The fraction of the time before the final training that the search may take. The rest is for the
# comparison of the best trial with the default, two trainings per fold.
_SEARCH_FRACTION = 0.6


@dataclass(frozen=True)
class Trial:
    """The outcome of one trial.

    Attributes:
        config: the arguments of the `TextClassifier`.
        score: accuracy on the validation rows, or micro-F1 for several labels per text; NaN if
            training diverged.
        seconds: duration of training and evaluation.
        size_mb: size of the saved embedding in megabytes, rows * d_model * 4 bytes.
        valid: whether there is a score and the embedding is small enough.
    """

    config: dict[str, Any]
    score: float
    seconds: float
    size_mb: float
    valid: bool


class TrialRunner:
    """Trains and scores configurations on the same folds of the rows.

    Args:
        texts, labels: checked rows.
        time_limit: seconds for the search, the comparison and the final training.
        max_size_mb: maximum size of the saved embedding; None: no limit.
        seed: determines the folds and every training.

    Attributes:
        trials: the completed trials.
        default: the configuration of the default classifier.
        metric: "accuracy", or "micro_f1" for several labels per text.
        num_validation: the number of rows that trials are scored on.

    Raises:
        ValueError: there are too few rows per class for validation rows.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        time_limit: float,
        max_size_mb: float | None,
        seed: int,
    ) -> None:
        self.texts, self.labels = texts, labels
        self.time_limit, self.max_size_mb, self.seed = time_limit, max_size_mb, seed
        self.started = time.monotonic()
        self.trials: list[Trial] = []
        self._entries: dict[int, tuple[int, int]] = {}
        self.multi_label, classes = is_multi_label(labels), unique_labels(labels)
        self.metric = "micro_f1" if self.multi_label else "accuracy"
        self._folds = contiguous_folds(
            first_classes(encode_labels(labels, classes)), NUM_FOLDS, seed
        )
        (training, _), (scored, _) = self.rows(0)
        self.num_validation = len(scored)
        if not scored:
            raise ValueError(
                f"{len(texts):,} texts; expected at least {NUM_FOLDS} of a class, so that some can "
                "be used for validation"
            )
        config = TextClassifier().config
        training_config = config.training_config(len(classes), len(training), self.multi_label)
        self.default = {
            "d_model": config.d_model,
            "max_ngrams": config.max_ngrams,
            "min_count": config.min_count,
            "learning_rate": training_config.learning_rate,
            "epochs": training_config.epochs,
            "label_smoothing": training_config.label_smoothing,
        }

    def rows(self, fold: int) -> tuple[tuple[list[str], list[Any]], tuple[list[str], list[Any]]]:
        """Return the texts and labels to train on, and those to score on."""
        held_out = self._folds[fold]
        training = np.setdiff1d(np.arange(len(self.texts)), held_out)
        known = set(unique_labels([self.labels[i] for i in training]))
        # A label that is the first of no text may occur in held-out rows only.
        scored = [i for i in held_out if not self.multi_label or known.issuperset(self.labels[i])]
        first, second = (
            ([self.texts[i] for i in rows], [self.labels[i] for i in rows])
            for rows in (training, scored)
        )
        return first, second

    @property
    def best(self) -> Trial:
        """The valid trial with the best score; of equal scores the first."""
        return max(self.trials, key=lambda trial: trial.score if trial.valid else -1.0)

    def seconds_left(self) -> float:
        """Return what is left of the time limit."""
        return self.time_limit - self._elapsed()

    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    def arguments(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a `TextClassifier`; for the default none, so that they follow the
        number of rows that it learns from."""
        return {} if config == self.default else config

    def initial_configs(self) -> Iterator[dict[str, Any]]:
        """Yield the default; if it is too large, per d_model the largest max_ngrams that fits, and
        the smallest."""
        yield self.default
        for d_model in () if self._fits(self.default) else D_MODELS[::-1]:
            configs = [{**self.default, "d_model": d_model, "max_ngrams": n} for n in MAX_NGRAMS]
            fitting = [config for config in configs[::-1] if self._fits(config)]
            yield from [*fitting[:1], *fitting[1:][-1:]]

    def run(self, config: dict[str, Any]) -> Trial | None:
        """Run a trial, or return None if it is too large or would not leave time for the comparison
        and the final training. The first trial always runs."""
        started, score, fits = time.monotonic(), float("nan"), self._fits(config)
        if self.trials and not (fits and self._has_time_for(config)):
            return None
        try:
            score = self._counts(config, 0).score
        except ValueError:  # training diverged at this learning rate
            if not self.trials:
                raise
        seconds, size_mb = time.monotonic() - started, self.size_mb(config)
        self.trials.append(Trial(config, score, seconds, size_mb, fits and score >= 0))
        return self.trials[-1]

    def compare(
        self,
        trial: Trial,
        max_folds: int = NUM_FOLDS - 1,
        callback: Callable[[int], object] = lambda number: None,
    ) -> Comparison | None:
        """Train a trial and the default for further folds and compare them there.

        The search has not scored any trial on the rows of these folds, so it could not select a
        trial for being lucky on them, and the difference is unbiased.

        Args:
            trial: a trial other than the default.
            max_folds: the maximum number of folds. The first one is always run, and the others
                as long as the time suffices.
            callback: called with the number of the fold, from 1, before it is run.

        Returns:
            the comparison; None if it was interrupted before the end of its first fold. A later
            interruption only ends it.
        """
        pairs: list[tuple[RowCounts, RowCounts]] = []
        per_fold = trial.seconds + self.trials[0].seconds
        final = _FINAL_TRAINING_IN_TRIALS * max(trial.seconds, self.trials[0].seconds)
        try:
            for fold in range(1, max_folds + 1):
                if pairs and self.seconds_left() < per_fold + final:
                    break
                callback(fold)
                default = self._counts(self.default, fold)
                try:
                    own = self._counts(trial.config, fold)
                except ValueError:  # training diverged, so there is no answer: errors in all rows
                    own = default._replace(hits=np.zeros_like(default.hits))
                pairs.append((own, default))
        except KeyboardInterrupt:
            continue_after_interrupt()
        if not pairs:
            return None
        return compare_rows([own for own, _ in pairs], [default for _, default in pairs])

    def _counts(self, config: dict[str, Any], fold: int) -> RowCounts:
        """Train on the rows that are not in a fold, and count what is right on those in it."""
        training, (texts, labels) = self.rows(fold)
        classifier = TextClassifier(**self.arguments(config), refit=False)
        classifier.fit(*training, seed=self.seed, progress=False)
        return count_rows(classifier.predict(texts), labels)

    def _has_time_for(self, config: dict[str, Any]) -> bool:
        """Whether a trial would leave time for what follows the search."""
        pace = float(np.median([t.seconds / _relative_cost(t.config) for t in self.trials]))
        seconds = pace * _relative_cost(config)
        final = _FINAL_TRAINING_IN_TRIALS * max(seconds, self.best.seconds)
        return self._elapsed() + seconds < _SEARCH_FRACTION * (self.time_limit - final)

    def _fits(self, config: dict[str, Any]) -> bool:
        return self.max_size_mb is None or self.size_mb(config) <= self.max_size_mb

    def size_mb(self, config: dict[str, Any]) -> float:
        """Return the size of the saved embedding in megabytes."""
        min_count = config["min_count"]
        if min_count not in self._entries:
            tokenizer = WordTokenizer.train(
                self.texts, min_count=min_count, max_ngrams=MAX_NGRAMS[-1], features="auto"
            )
            ngrams = int(tokenizer.ngram_mask.sum())
            self._entries[min_count] = len(tokenizer) - ngrams, ngrams
        words, ngrams = self._entries[min_count]
        return (words + min(ngrams, config["max_ngrams"])) * config["d_model"] * 4 / 1e6


def _relative_cost(config: dict[str, Any]) -> float:
    return config["epochs"] * (64 + config["d_model"])
