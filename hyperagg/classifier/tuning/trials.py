"""Trials of a classifier's arguments, all on the same rows, within a time and a size."""

from __future__ import annotations

import time
from collections.abc import Iterator
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

__all__ = ["Trial", "Trials"]

HELD_OUT = 0.2
WIDTHS = (8, 16, 32, 64, 128)
GRAMS = (0, 10_000, 30_000, 100_000, 300_000, 1_000_000)
# The last training learns nine tenths of the rows, and then all: as long as so many trials.
LAST_IN_TRIALS = 2.5


@dataclass(frozen=True)
class Trial:
    """`score`: accuracy, of several labels micro-F1, nan where training diverged. `megabytes`: of
    the saved embedding, rows × d_model × 4 bytes. `counts`: it has a score and is small enough."""

    config: dict[str, Any]
    score: float
    seconds: float
    megabytes: float
    counts: bool


class Trials:
    """What was tried until `end`, and what may be."""

    def __init__(
        self, texts: list[str], labels: Any, end: float, max_mb: float | None, seed: int
    ) -> None:
        self.texts, self.end, self.max_mb, self.seed = texts, end, max_mb, seed
        self.done: list[Trial] = []
        self._counts: dict[int, tuple[int, int]] = {}
        several, classes = is_multi_label(labels), unique_labels(labels)
        self.measure = "micro_f1" if several else "accuracy"
        kept, held = train_validation_split(
            first_classes(encode_labels(labels, classes, "labels")), HELD_OUT, seed
        )
        known = set(unique_labels([labels[i] for i in kept]))
        # A label that is no text's first may be in held-out rows alone.
        scored = [i for i in held if not several or known.issuperset(labels[i])]
        if not scored:
            raise ValueError(f"texts: {len(texts)}; give 5 or more of a class, some to be held out")
        self.kept, self.held = (
            ([texts[i] for i in rows], [labels[i] for i in rows]) for rows in (kept, scored)
        )
        config = TextClassifier().config
        recipe = config.training_config(len(classes), len(kept))
        self.default = {name: getattr(config, name) for name in ("d_model", "max_ngrams")} | {
            "min_count": config.min_count,
            "learning_rate": recipe.learning_rate,
            "epochs": recipe.epochs,
            "label_smoothing": recipe.label_smoothing,
        }

    @property
    def best(self) -> Trial:
        return max(self.done, key=lambda trial: trial.score if trial.counts else -1.0)

    def left(self) -> float:
        return self.end - time.monotonic()

    def first(self) -> Iterator[dict[str, Any]]:
        """The default, and if it is too large, in each width as many grams as fit, and none."""
        yield self.default
        for d_model in () if self.fits(self.default) else WIDTHS[::-1]:
            cut = [{**self.default, "d_model": d_model, "max_ngrams": n} for n in GRAMS[::-1]]
            small = [config for config in cut if self.fits(config)]
            yield from [*small[:1], *small[1:][-1:]]

    def attempt(self, config: dict[str, Any]) -> Trial | None:
        """None: too large, or too slow to leave time for the last training. The first never is."""
        begun, score, fits = time.monotonic(), float("nan"), self.fits(config)
        if self.done and not (fits and self._seconds(config) < self.left()):
            return None
        try:
            classifier = TextClassifier(**config, refit=False)
            classifier.fit(*self.kept, seed=self.seed, progress=False)
            score = classifier.evaluate(*self.held)[self.measure]
        except ValueError:  # a rate at which it diverges
            if not self.done:
                raise
        seconds, size = time.monotonic() - begun, self.megabytes(config)
        self.done.append(Trial(config, score, seconds, size, fits and score >= 0))
        return self.done[-1]

    def _seconds(self, config: dict[str, Any]) -> float:
        """A trial is expected to take, and the last training after it."""
        pace = float(np.median([trial.seconds / _work(trial.config) for trial in self.done]))
        own = pace * _work(config)
        return own + LAST_IN_TRIALS * max(own, self.best.seconds)

    def fits(self, config: dict[str, Any]) -> bool:
        return self.max_mb is None or self.megabytes(config) <= self.max_mb

    def megabytes(self, config: dict[str, Any]) -> float:
        least = config["min_count"]
        if least not in self._counts:
            tokenizer = WordTokenizer.train(self.texts, min_count=least, max_ngrams=GRAMS[-1])
            grams = int(tokenizer.ngram_mask.sum())
            self._counts[least] = len(tokenizer) - grams, grams
        words, grams = self._counts[least]
        return (words + min(grams, config["max_ngrams"])) * config["d_model"] * 4 / 1e6


def _work(config: dict[str, Any]) -> float:
    """What a trial's time grows with."""
    return config["epochs"] * (64 + config["d_model"])
