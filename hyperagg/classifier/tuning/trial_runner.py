"""Runs the trials of a hyperparameter search on the same rows, within limits of time and size."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperagg._common.split import train_validation_split
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.training.labels import (
    encode_labels,
    first_classes,
    is_multi_label,
    unique_labels,
)
from hyperagg.text import WordTokenizer

__all__ = ["D_MODELS", "MAX_NGRAMS", "Trial", "TrialRunner"]

D_MODELS = (8, 16, 32, 64, 128)
MAX_NGRAMS = (0, 10_000, 30_000, 100_000, 300_000, 1_000_000)
_VALIDATION_FRACTION = 0.2
# The final training learns from nine tenths of the rows and then from all of them, which takes as
# long as this number of trials.
_FINAL_TRAINING_IN_TRIALS = 2.5


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
    """Trains and scores configurations on one split of the rows.

    Args:
        texts, labels: checked rows.
        end: the time, by `time.monotonic`, at which the final training should be finished.
        max_size_mb: maximum size of the saved embedding; None: no limit.
        seed: determines the split and every training.

    Attributes:
        trials: the completed trials.
        default: the configuration of the default classifier.
        training, validation: pairs of texts and labels.

    Raises:
        ValueError: there are too few rows per class for validation rows.
    """

    def __init__(
        self,
        texts: Sequence[str],
        labels: Sequence[Any],
        end: float,
        max_size_mb: float | None,
        seed: int,
    ) -> None:
        self.texts, self.end, self.max_size_mb, self.seed = texts, end, max_size_mb, seed
        self.trials: list[Trial] = []
        self._entries: dict[int, tuple[int, int]] = {}
        multi_label, classes = is_multi_label(labels), unique_labels(labels)
        self.metric = "micro_f1" if multi_label else "accuracy"
        training, validation = train_validation_split(
            first_classes(encode_labels(labels, classes)), _VALIDATION_FRACTION, seed
        )
        known = set(unique_labels([labels[i] for i in training]))
        # A label that is the first of no text may occur in validation rows only.
        scored = [i for i in validation if not multi_label or known.issuperset(labels[i])]
        if not scored:
            raise ValueError(
                f"X: {len(texts)} texts; expected at least 5 of a class, so that some can be used "
                "for validation"
            )
        self.training, self.validation = (
            ([texts[i] for i in rows], [labels[i] for i in rows]) for rows in (training, scored)
        )
        config = TextClassifier().config
        training_config = config.training_config(len(classes), len(training))
        self.default = {
            "d_model": config.d_model,
            "max_ngrams": config.max_ngrams,
            "min_count": config.min_count,
            "learning_rate": training_config.learning_rate,
            "epochs": training_config.epochs,
            "label_smoothing": training_config.label_smoothing,
        }

    @property
    def best(self) -> Trial:
        """The valid trial with the best score; of equal scores the first."""
        return max(self.trials, key=lambda trial: trial.score if trial.valid else -1.0)

    def seconds_left(self) -> float:
        """Return the time left until `end`."""
        return self.end - time.monotonic()

    def initial_configs(self) -> Iterator[dict[str, Any]]:
        """Yield the default; if it is too large, per d_model the largest max_ngrams that fits, and
        the smallest."""
        yield self.default
        for d_model in () if self._fits(self.default) else D_MODELS[::-1]:
            configs = [{**self.default, "d_model": d_model, "max_ngrams": n} for n in MAX_NGRAMS]
            fitting = [config for config in configs[::-1] if self._fits(config)]
            yield from [*fitting[:1], *fitting[1:][-1:]]

    def run(self, config: dict[str, Any]) -> Trial | None:
        """Run a trial, or return None if it is too large or would not leave time for the final
        training. The first trial always runs."""
        started, score, fits = time.monotonic(), float("nan"), self._fits(config)
        if self.trials and not (fits and self._expected_seconds(config) < self.seconds_left()):
            return None
        try:
            classifier = TextClassifier(**config, refit=False)
            classifier.fit(*self.training, seed=self.seed, progress=False)
            score = classifier.evaluate(*self.validation)[self.metric]
        except ValueError:  # training diverged at this learning rate
            if not self.trials:
                raise
        seconds, size_mb = time.monotonic() - started, self.size_mb(config)
        self.trials.append(Trial(config, score, seconds, size_mb, fits and score >= 0))
        return self.trials[-1]

    def _expected_seconds(self, config: dict[str, Any]) -> float:
        """The expected duration of a trial and of the final training after it."""
        pace = float(np.median([t.seconds / _relative_cost(t.config) for t in self.trials]))
        seconds = pace * _relative_cost(config)
        return seconds + _FINAL_TRAINING_IN_TRIALS * max(seconds, self.best.seconds)

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
