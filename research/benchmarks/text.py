"""Speed of the classifier beside fastText: from texts to a model, and from texts to labels.

Both have dimension 100 and the same words. The input file of fastText is written beforehand and not
part of its time: lower-case words separated by spaces, one document per line, shuffled once. Our
classifier gets the raw texts.
"""

from __future__ import annotations

import itertools
import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hyperagg import TextClassifier
from hyperagg._common.report import environment
from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.fasttext import FastTextClassifier
from hyperagg.data import Dataset, Split
from hyperagg.text import WORD_PATTERN, WordTokenizer
from research.benchmarks.interleaved import interleaved, interleaved_items, torch_threads

__all__ = [
    "DIMENSION",
    "EQUAL_ROWS",
    "FASTTEXT",
    "FULL_TEXT",
    "OURS",
    "QUICK_TEXT",
    "Effort",
    "bench_text",
]

logger = logging.getLogger(__name__)

DIMENSION = 100
OURS, FASTTEXT = "hyperagg", "fastText"
# fastText with as many rows for bigrams as our classifier has for n-grams: filling its default
# table of 800 MB takes time.
EQUAL_ROWS = "fastText, equal rows"
# Our arguments, and wordNgrams of fastText. The n-grams of our classifier include prefixes and
# suffixes of words besides word bigrams.
FEATURES: dict[str, tuple[dict[str, Any], int]] = {
    "words": ({"max_ngrams": 0}, 1),
    "n-grams": ({}, 2),
}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        rows: maximum number of rows per split; None for all.
        epochs: epochs of the training runs whose throughput is compared.
        rounds, budget: rounds of training and prediction, see `interleaved`.
        single: number of calls with one text.
        grid: learning rates and epochs of fastText to select from.
        max_epochs: maximum number of our epochs to reach the same accuracy.
        buckets: rows of fastText for bigrams; its default is 2,000,000.
    """

    rows: int | None = None
    epochs: int = 5
    rounds: int = 3
    budget: float = 20.0
    single: int = 5000
    grid: tuple[tuple[float, int], ...] = field(
        default=tuple(itertools.product((0.1, 0.5, 1.0), (5, 15)))
    )
    max_epochs: int = 10
    buckets: int = 2_000_000


FULL_TEXT = Effort()
QUICK_TEXT = Effort(
    rows=300, epochs=1, rounds=1, budget=0, single=20, grid=((0.5, 5),), buckets=10_000
)


def bench_text(
    datasets: Sequence[Dataset],
    threads: Sequence[int] = (1, 2),
    effort: Effort = FULL_TEXT,
) -> dict[str, Any]:
    """Measure training and prediction, and return the results that `write_text_page` takes.

    Raises:
        ImportError: fastText is not installed.
        ValueError: a multi-label data set, or a data set with too few rows.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    for data in datasets:
        if data.train.multi_label:
            raise ValueError(f"dataset={data.name!r}: expected one label per text, not multi-label")
    results: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("datasets", "training", "equal_accuracy", "prediction")
    }
    for data in datasets:
        train, test = (_some(split, effort.rows) for split in (data.train, data.test))
        with tempfile.TemporaryDirectory() as folder:
            fasttext = _FastText(train, Path(folder), effort.buckets)
            lines = [_line(text) for text in test.texts]
            results["datasets"].append(
                {
                    "dataset": data.name,
                    "source": data.source,
                    "rows": [len(train), len(test)],
                    "words": [fasttext.words, sum(map(_words_of, lines))],
                }
            )
            models: dict[str, dict[str, Any]] = {}
            for number, features in itertools.product(threads, FEATURES):
                logger.info("%s: training, %s, threads: %d", data.name, features, number)
                with torch_threads(number):
                    row, models[features] = _training(train, fasttext, features, number, effort)
                results["training"].append({"dataset": data.name, **row})
            for number, features in itertools.product(threads, FEATURES):
                logger.info("%s: prediction, %s, threads: %d", data.name, features, number)
                with torch_threads(number):
                    row = _prediction(test, lines, fasttext, models[features], features, effort)
                results["prediction"].append({"dataset": data.name, "threads": number, **row})
            models.clear()
            logger.info("%s: settings of equal accuracy", data.name)
            settings = _equal_accuracy(data.name, train, effort)
            for number in threads:
                logger.info("%s: equal accuracy, threads: %d", data.name, number)
                with torch_threads(number):
                    row = _time_to_accuracy(train, test, lines, fasttext, settings, number, effort)
                results["equal_accuracy"].append({"dataset": data.name, **settings, **row})
    distribution = packages_distributions()["fasttext"][0]
    return {
        "environment": {**environment(), distribution: version(distribution), "load": load},
        "dimension": DIMENSION,
        "epochs": effort.epochs,
        "single": effort.single,
        "buckets": effort.buckets,
        "max_ngrams": TextClassifier().config.max_ngrams,
        "grid": effort.grid,
        **results,
    }


class _FastText:
    """fastText, and the training file of a split."""

    def __init__(self, split: Split, folder: Path, buckets: int = Effort.buckets) -> None:
        self.fasttext = FastTextClassifier().fasttext
        self.classes = {
            f"__label__{i}": label for i, label in enumerate(dict.fromkeys(split.labels))
        }
        names = {label: name for name, label in self.classes.items()}
        self.file, self.words, self.buckets = folder / "train.txt", 0, buckets
        with self.file.open("w", encoding="utf-8") as out:
            # fastText does not shuffle rows, and learns poorly from rows sorted by class.
            for i in np.random.default_rng(0).permutation(len(split)):
                line = _line(split.texts[i])
                self.words += _words_of(line)
                out.write(f"{names[split.labels[i]]} {line}")

    def fit(
        self,
        max_words: int,
        threads: int,
        lr: float = 0.5,
        epoch: int = 5,
        buckets: int | None = None,
    ) -> Any:
        return self.fasttext.train_supervised(
            str(self.file),
            lr=lr,
            epoch=epoch,
            wordNgrams=max_words,
            dim=DIMENSION,
            bucket=buckets or self.buckets,
            thread=threads,
            verbose=0,
        )

    def predict(self, model: Any, lines: Sequence[str]) -> list[Any]:
        # The public method fails with NumPy 2.
        names, _ = model.f.multilinePredict(lines, 1, 0.0, "strict")
        return [self.classes[each[0]] for each in names]

    def predict_one(self, model: Any, line: str) -> Any:
        ((_, name),) = model.f.predict(line, 1, 0.0, "strict")
        return self.classes[name]


def _fit(split: Split, epochs: int, threads: int, arguments: dict[str, Any]) -> TextClassifier:
    clf = TextClassifier(
        d_model=DIMENSION, epochs=epochs, validation_fraction=0.0, threads=threads, **arguments
    )
    return clf.fit(split.texts, split.labels, progress=False)


def _training(
    train: Split, fasttext: _FastText, features: str, threads: int, effort: Effort
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Time the training of both sides and the parts of ours; return the row and the two models."""
    arguments, max_words = FEATURES[features]
    models: dict[str, Any] = {}
    epochs: list[float] = []

    def ours() -> None:
        models[OURS] = clf = _fit(train, effort.epochs, threads, arguments)
        epochs.append(sum(clf.history_.seconds))

    def theirs() -> None:
        models[FASTTEXT] = fasttext.fit(max_words, threads, epoch=effort.epochs)

    calls: dict[str, Callable[[], object]] = {OURS: ours, FASTTEXT: theirs}
    if max_words > 1:
        buckets = min(effort.buckets, TextClassifier().config.max_ngrams)
        calls[EQUAL_ROWS] = lambda: fasttext.fit(
            max_words, threads, epoch=effort.epochs, buckets=buckets
        )
    seconds = interleaved(calls, effort.budget, effort.rounds)
    clf = models[OURS]
    rows = clf.tokenizer_.encode(train.texts)
    config = clf.config
    parts = interleaved(
        {
            "vocabulary": lambda: WordTokenizer.train(
                train.texts, config.max_words, config.min_count, config.max_ngrams
            ),
            "encoding": lambda: clf.tokenizer_.encode(train.texts),
        },
        effort.budget,
        effort.rounds,
    )
    parts["epochs"] = float(np.median(epochs[1:]))  # the first call is a warm-up
    parts["rest"] = seconds[OURS] - sum(parts.values())
    return {
        "features": features,
        "threads": threads,
        "seconds": seconds,
        "parts": parts,
        "tokens": len(rows.token_ids),
        "vocab_size": len(clf.tokenizer_),
        # The physical limit: every epoch reads and writes the row of each token.
        "copies_per_epoch": parts["epochs"]
        / effort.epochs
        / _copy_seconds(clf, len(rows.token_ids)),
    }, models


def _prediction(
    test: Split,
    lines: Sequence[str],
    fasttext: _FastText,
    models: dict[str, Any],
    features: str,
    effort: Effort,
) -> dict[str, Any]:
    clf, model = models[OURS], models[FASTTEXT]
    all_texts = {
        OURS: partial(clf.predict, test.texts),
        FASTTEXT: partial(fasttext.predict, model, lines),
    }
    n = len(lines)
    single = {
        OURS: lambda i: clf.predict([test.texts[i % n]]),
        FASTTEXT: lambda i: fasttext.predict_one(model, lines[i % n]),
    }
    predicted = {name: call() for name, call in all_texts.items()}
    tokens = len(clf.tokenizer_.encode(test.texts).token_ids)
    seconds = interleaved(all_texts, effort.budget, effort.rounds)
    return {
        "features": features,
        "accuracy": {name: _accuracy(test, labels) for name, labels in predicted.items()},
        "seconds": seconds,
        "seconds_per_single_text": interleaved_items(single, effort.single),
        "copies": seconds[OURS] / _copy_seconds(clf, tokens),
    }


def _equal_accuracy(name: str, train: Split, effort: Effort) -> dict[str, Any]:
    """Select settings of equal accuracy on held-out rows, on one thread.

    These are the best settings of fastText, and the smallest number of our epochs that is at least
    as accurate. With one thread fastText is reproducible.
    """
    arguments, max_words = FEATURES["n-grams"]
    targets = np.unique([str(label) for label in train.labels], return_inverse=True)[1]
    kept, held_out = (_take(train, rows) for rows in train_validation_split(targets, 0.1, 0))
    if not len(held_out):
        raise ValueError(f"dataset={name!r}: too few training rows to hold some out")
    lines = [_line(text) for text in held_out.texts]
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        fasttext = _FastText(kept, Path(folder), effort.buckets)
        tried = [
            _accuracy(held_out, fasttext.predict(fasttext.fit(max_words, 1, *setting), lines))
            for setting in effort.grid
        ]
        ours: list[float] = []
        while len(ours) < effort.max_epochs and max(ours, default=0.0) < max(tried):
            clf = _fit(kept, len(ours) + 1, 1, arguments)
            ours.append(_accuracy(held_out, clf.predict(held_out.texts)))
    lr, epoch = effort.grid[int(np.argmax(tried))]
    return {
        "lr": lr,
        "epoch": epoch,
        "epochs": 1 + int(np.argmax(ours)),
        "held_out": {OURS: ours, FASTTEXT: tried},
    }


def _time_to_accuracy(
    train: Split,
    test: Split,
    lines: Sequence[str],
    fasttext: _FastText,
    settings: dict[str, Any],
    threads: int,
    effort: Effort,
) -> dict[str, Any]:
    arguments, max_words = FEATURES["n-grams"]
    models: dict[str, Any] = {}

    def ours() -> None:
        models[OURS] = _fit(train, settings["epochs"], threads, arguments)

    def theirs() -> None:
        learning_rate, epoch = settings["lr"], settings["epoch"]
        models[FASTTEXT] = fasttext.fit(max_words, threads, learning_rate, epoch)

    seconds = interleaved({OURS: ours, FASTTEXT: theirs}, effort.budget, effort.rounds)
    return {
        "threads": threads,
        "seconds": seconds,
        "accuracy": {
            OURS: _accuracy(test, models[OURS].predict(test.texts)),
            FASTTEXT: _accuracy(test, fasttext.predict(models[FASTTEXT], lines)),
        },
    }


def _copy_seconds(clf: TextClassifier, tokens: int) -> float:
    """Seconds to copy as many rows of the embedding, at the speed of copying it as a whole."""
    table = torch.from_numpy(clf.model_.embedding)
    out = torch.empty_like(table)
    copy = interleaved({"copy": partial(out.copy_, table)}, budget=0.5)["copy"]
    return copy * tokens / len(table)


def _some(split: Split, rows: int | None) -> Split:
    if rows is None or rows >= len(split):
        return split
    return _take(split, np.random.default_rng(0).permutation(len(split))[:rows])


def _take(split: Split, rows: np.ndarray) -> Split:
    labels: Any = [split.labels[i] for i in rows]
    return Split([split.texts[i] for i in rows], labels)


def _accuracy(split: Split, predicted: Sequence[Any]) -> float:
    return float(np.mean([a == b for a, b in zip(split.labels, predicted)]))


def _line(text: str) -> str:
    """A text in the input format of fastText."""
    return " ".join(WORD_PATTERN.findall(text.lower())) + "\n"


def _words_of(line: str) -> int:
    return len(line.split(" ")) if line != "\n" else 0
