"""The classifier's speed beside fastText's: text to model, text to label.

Both have dimension 100 and the same words. What fastText reads is written beforehand and not
charged to it: the words in lower case, a space between them, a document a line, shuffled once. Ours
is given the texts as they come.
"""

from __future__ import annotations

import itertools
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

from hyperagg._common.report import environment
from hyperagg._common.split import train_validation_split
from hyperagg.classifier.baselines.fasttext import FastTextClassifier
from hyperagg.classifier.estimator import TextClassifier
from hyperagg.classifier.training.feature_scaling import feature_scales
from hyperagg.classifier.training.labels import encode_labels, first_classes, unique_labels
from hyperagg.classifier.training.train_step import LabeledDocuments
from hyperagg.data import Dataset, Split
from hyperagg.text import WORD_PATTERN, WordTokenizer
from research.benchmarks.interleaved import interleaved, item_by_item, torch_threads

__all__ = [
    "DIMENSION",
    "FASTTEXT",
    "FEWER_ROWS",
    "FULL_TEXT",
    "OURS",
    "QUICK_TEXT",
    "Effort",
    "bench_text",
]

DIMENSION = 100
OURS, FASTTEXT = "hyperagg", "fastText"
# Of its pairs, as many as ours has of its grams: a table of 800 MB takes a while to fill.
FEWER_ROWS = "fastText, as few rows"
# Arguments of ours, and the longest n-gram of fastText. Where it has pairs ours has beginnings and
# endings of words besides: WordTokenizer makes no pairs without them.
FEATURES: dict[str, tuple[dict[str, int], int]] = {
    "words": ({"max_ngrams": 0}, 1),
    "and pairs": ({}, 2),
}


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        rows: of each split at most; None: all.
        epochs: of the trainings whose throughput is compared.
        rounds, budget: of trainings and predictions, see `interleaved`.
        single: calls with one text.
        grid: fastText's rates and epochs to choose from.
        most_epochs: of ours, to be as accurate as it.
        buckets: rows of fastText for its pairs; 2,000,000 is its default.
    """

    rows: int | None = None
    epochs: int = 5
    rounds: int = 3
    budget: float = 20.0
    single: int = 5000
    grid: tuple[tuple[float, int], ...] = field(
        default=tuple(itertools.product((0.1, 0.5, 1.0), (5, 15)))
    )
    most_epochs: int = 10
    buckets: int = 2_000_000


FULL_TEXT = Effort()
QUICK_TEXT = Effort(
    rows=300, epochs=1, rounds=1, budget=0, single=20, grid=((0.5, 5),), buckets=10_000
)


def bench_text(
    datasets: Sequence[Dataset],
    threads: Sequence[int] = (1, 2),
    effort: Effort = FULL_TEXT,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Times everything; returns what `write_text_page` makes a page of.

    Raises:
        ImportError: fastText is not installed.
        ValueError: a data set whose texts have several labels, or too few rows.
    """
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    for data in datasets:
        if data.train.multi_label:
            raise ValueError(f"{data.name}: its texts have several labels; name a set with one")
    found: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("sets", "training", "as_accurate", "prediction")
    }
    for data in datasets:
        train, test = (_some(split, effort.rows) for split in (data.train, data.test))
        with tempfile.TemporaryDirectory() as folder:
            rival = _Rival(train, Path(folder), effort.buckets)
            lines = [_line(text) for text in test.texts]
            found["sets"].append(
                {
                    "set": data.name,
                    "source": data.source,
                    "rows": [len(train), len(test)],
                    "words": [rival.words, sum(map(_words_of, lines))],
                }
            )
            models: dict[str, dict[str, Any]] = {}
            for number, features in itertools.product(threads, FEATURES):
                say(f"{data.name}: training, {features}, threads: {number}")
                with torch_threads(number):
                    row, models[features] = _training(train, rival, features, number, effort)
                found["training"].append({"set": data.name, **row})
            for number, features in itertools.product(threads, FEATURES):
                say(f"{data.name}: prediction, {features}, threads: {number}")
                with torch_threads(number):
                    row = _prediction(test, lines, rival, models[features], features, effort)
                found["prediction"].append({"set": data.name, "threads": number, **row})
            models.clear()
            say(f"{data.name}: as accurate as fastText")
            settings = _as_accurate(data.name, train, effort)
            for number in threads:
                say(f"{data.name}: as accurate as fastText, threads: {number}")
                with torch_threads(number):
                    row = _to_accuracy(train, test, lines, rival, settings, number, effort)
                found["as_accurate"].append({"set": data.name, **settings, **row})
    distribution = packages_distributions()["fasttext"][0]
    return {
        "environment": {**environment(), distribution: version(distribution), "load": load},
        "dimension": DIMENSION,
        "epochs": effort.epochs,
        "single": effort.single,
        "buckets": effort.buckets,
        "grams": TextClassifier().config.max_ngrams,
        "grid": effort.grid,
        **found,
    }


class _Rival:
    """fastText, and the file of a split that it learns from."""

    def __init__(self, split: Split, folder: Path, buckets: int = Effort.buckets) -> None:
        self.library = FastTextClassifier().library
        self.classes = {f"__label__{i}": label for i, label in enumerate(unique_labels(split.labels))}
        names = {label: name for name, label in self.classes.items()}
        self.file, self.words, self.buckets = folder / "train.txt", 0, buckets
        with self.file.open("w", encoding="utf-8") as out:
            # It takes rows as they come, and learns badly where they come class by class.
            for i in np.random.default_rng(0).permutation(len(split)):
                line = _line(split.texts[i])
                self.words += _words_of(line)
                out.write(f"{names[split.labels[i]]} {line}")

    def fit(
        self,
        longest: int,
        threads: int,
        lr: float = 0.5,
        epoch: int = 5,
        buckets: int | None = None,
    ) -> Any:
        return self.library.train_supervised(
            str(self.file),
            lr=lr,
            epoch=epoch,
            wordNgrams=longest,
            dim=DIMENSION,
            bucket=buckets or self.buckets,
            thread=threads,
            verbose=0,
        )

    def predict(self, model: Any, lines: Sequence[str]) -> list[Any]:
        # What the module itself wraps around this does not work with NumPy 2.
        found, _ = model.f.multilinePredict(lines, 1, 0.0, "strict")
        return [self.classes[names[0]] for names in found]

    def predict_one(self, model: Any, line: str) -> Any:
        ((_, name),) = model.f.predict(line, 1, 0.0, "strict")
        return self.classes[name]


def _fit(split: Split, epochs: int, threads: int, arguments: dict[str, int]) -> TextClassifier:
    clf = TextClassifier(
        d_model=DIMENSION, epochs=epochs, validation_fraction=0.0, threads=threads, **arguments
    )
    return clf.fit(split.texts, split.labels, progress=False)


def _training(
    train: Split, rival: _Rival, features: str, threads: int, effort: Effort
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is known of the trainings, and the two models."""
    arguments, longest = FEATURES[features]
    models: dict[str, Any] = {}
    epochs: list[float] = []

    def ours() -> None:
        models[OURS] = clf = _fit(train, effort.epochs, threads, arguments)
        epochs.append(sum(clf.history_.seconds))

    def fasttext() -> None:
        models[FASTTEXT] = rival.fit(longest, threads, epoch=effort.epochs)

    calls: dict[str, Callable[[], object]] = {OURS: ours, FASTTEXT: fasttext}
    if longest > 1:
        fewer = min(effort.buckets, TextClassifier().config.max_ngrams)
        calls[FEWER_ROWS] = lambda: rival.fit(longest, threads, epoch=effort.epochs, buckets=fewer)
    seconds = interleaved(calls, effort.budget, effort.rounds)
    clf = models[OURS]
    rows = clf.tokenizer_.encode(train.texts)
    data = LabeledDocuments(rows, encode_labels(train.labels, clf.classes_, "labels"))
    config = clf.config
    parts = interleaved(
        {
            "vocabulary": lambda: WordTokenizer.train(
                train.texts, config.max_words, config.min_count, config.max_ngrams
            ),
            "encoding": lambda: clf.tokenizer_.encode(train.texts),
            "rates": lambda: feature_scales(clf.tokenizer_, data),
        },
        effort.budget,
        effort.rounds,
    )
    parts["epochs"] = float(np.median(epochs[1:]))  # the first call was to warm up
    parts["rest"] = seconds[OURS] - sum(parts.values())
    return {
        "features": features,
        "threads": threads,
        "seconds": seconds,
        "parts": parts,
        "tokens": len(rows.token_ids),
        "vocabulary": len(clf.tokenizer_),
        # Every epoch has to read and to write the row of each token.
        "epoch_in_copies": parts["epochs"]
        / effort.epochs
        / _seconds_of_rows(clf, len(rows.token_ids)),
    }, models


def _prediction(
    test: Split,
    lines: Sequence[str],
    rival: _Rival,
    models: dict[str, Any],
    features: str,
    effort: Effort,
) -> dict[str, Any]:
    clf, model = models[OURS], models[FASTTEXT]
    all_texts = {
        OURS: partial(clf.predict, test.texts),
        FASTTEXT: partial(rival.predict, model, lines),
    }
    n = len(lines)
    one = {
        OURS: lambda i: clf.predict([test.texts[i % n]]),
        FASTTEXT: lambda i: rival.predict_one(model, lines[i % n]),
    }
    said = {name: call() for name, call in all_texts.items()}
    tokens = len(clf.tokenizer_.encode(test.texts).token_ids)
    seconds = interleaved(all_texts, effort.budget, effort.rounds)
    return {
        "features": features,
        "accuracy": {name: _accuracy(test, labels) for name, labels in said.items()},
        "seconds": seconds,
        "seconds_of_one": item_by_item(one, effort.single),
        "in_copies": seconds[OURS] / _seconds_of_rows(clf, tokens),
    }


def _as_accurate(name: str, train: Split, effort: Effort) -> dict[str, Any]:
    """The settings to compare, chosen on rows held out: fastText's best ones, and the fewest epochs
    of ours that are as accurate. One thread, with which fastText's answers can be had again."""
    arguments, longest = FEATURES["and pairs"]
    targets = encode_labels(train.labels, unique_labels(train.labels), "labels")
    kept, held = (
        _take(train, rows) for rows in train_validation_split(first_classes(targets), 0.1, 0)
    )
    if not len(held):
        raise ValueError(f"{name}: too few rows to hold some out")
    lines = [_line(text) for text in held.texts]
    with tempfile.TemporaryDirectory() as folder, torch_threads(1):
        rival = _Rival(kept, Path(folder), effort.buckets)
        tried = [
            _accuracy(held, rival.predict(rival.fit(longest, 1, *setting), lines))
            for setting in effort.grid
        ]
        ours: list[float] = []
        while len(ours) < effort.most_epochs and max(ours, default=0.0) < max(tried):
            clf = _fit(kept, len(ours) + 1, 1, arguments)
            ours.append(_accuracy(held, clf.predict(held.texts)))
    lr, epoch = effort.grid[int(np.argmax(tried))]
    return {
        "lr": lr,
        "epoch": epoch,
        "epochs": 1 + int(np.argmax(ours)),
        "held_out": {OURS: ours, FASTTEXT: tried},
    }


def _to_accuracy(
    train: Split,
    test: Split,
    lines: Sequence[str],
    rival: _Rival,
    settings: dict[str, Any],
    threads: int,
    effort: Effort,
) -> dict[str, Any]:
    arguments, longest = FEATURES["and pairs"]
    models: dict[str, Any] = {}

    def ours() -> None:
        models[OURS] = _fit(train, settings["epochs"], threads, arguments)

    def fasttext() -> None:
        models[FASTTEXT] = rival.fit(longest, threads, settings["lr"], settings["epoch"])

    seconds = interleaved({OURS: ours, FASTTEXT: fasttext}, effort.budget, effort.rounds)
    return {
        "threads": threads,
        "seconds": seconds,
        "accuracy": {
            OURS: _accuracy(test, models[OURS].predict(test.texts)),
            FASTTEXT: _accuracy(test, rival.predict(models[FASTTEXT], lines)),
        },
    }


def _seconds_of_rows(clf: TextClassifier, tokens: int) -> float:
    """What it takes to copy so many rows of the embedding, at the speed of a copy of it all."""
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


def _accuracy(split: Split, said: Sequence[Any]) -> float:
    return float(np.mean([a == b for a, b in zip(split.labels, said)]))


def _line(text: str) -> str:
    """A text as fastText wants it."""
    return " ".join(WORD_PATTERN.findall(text.lower())) + "\n"


def _words_of(line: str) -> int:
    return len(line.split(" ")) if line != "\n" else 0
