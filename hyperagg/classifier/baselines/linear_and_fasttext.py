"""fastText and TF-IDF with a linear support vector machine, each at its best.

Both see word pairs. What there is to choose is chosen on the rows that seed 0 of the classifier
holds out, and the model then learns all training rows.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import accuracy_score, f1_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.svm import LinearSVC

from hyperagg._common.split import train_validation_split
from hyperagg.classifier.training.labels import distinct, encode_labels, first_classes
from hyperagg.data import Dataset, Split
from hyperagg.text import WORD_PATTERN

__all__ = ["BASELINES", "FastText", "Tfidf", "choose", "make_baseline", "run_baseline"]


class Tfidf:
    """Words and pairs, 1 + log of their counts times idf, scaled to length 1; LinearSVC, of several
    labels one for each."""

    GRID = tuple({"C": c} for c in (0.1, 0.3, 1.0, 3.0))
    epochs, seeds_differ = 1, False

    def __init__(self, C: float) -> None:
        self.C = C

    def fit(self, split: Split, seed: int) -> None:
        words = TfidfVectorizer(
            ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD_PATTERN.pattern
        )
        machine: Any = LinearSVC(C=self.C, random_state=0)
        self.several = MultiLabelBinarizer() if split.multi_label else None
        labels: Any = split.labels
        if self.several is not None:
            machine, labels = OneVsRestClassifier(machine), self.several.fit_transform(labels)
        self.model: Pipeline = make_pipeline(words, machine).fit(split.texts, labels)

    def predict(self, texts: Sequence[str]) -> list[Any]:
        said = self.model.predict(texts)
        return said.tolist() if self.several is None else self.several.inverse_transform(said)

    def parameters(self) -> int:
        machine = self.model[-1]
        machines = [machine] if self.several is None else machine.estimators_
        return sum(one.coef_.size + one.intercept_.size for one in machines)


class FastText:
    """The library itself, with word pairs and its dimension of 100."""

    GRID = tuple(
        {"lr": lr, "epoch": epoch} for lr, epoch in itertools.product((0.1, 0.5, 1.0), (5, 15, 50))
    )
    seeds_differ = True

    def __init__(self, lr: float, epoch: int) -> None:
        try:
            import fasttext
        except ImportError as error:
            raise ImportError(
                'the rival fasttext needs fastText: pip install "hyperagg[rivals]"', name="fasttext"
            ) from error
        self.library, self.lr, self.epochs = fasttext, lr, epoch

    def fit(self, split: Split, seed: int) -> None:
        self.labels, self.several = distinct(split.labels), split.multi_label
        names = {label: f"__label__{i}" for i, label in enumerate(self.labels)}
        # It takes rows as they come, and learns badly where they come class by class.
        order = np.random.default_rng(seed).permutation(len(split.texts))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "train.txt"
            with file.open("w", encoding="utf-8") as out:
                for i in order:
                    own = split.labels[i]
                    own = " ".join(
                        names[label] for label in ([own] if isinstance(own, str) else own)
                    )
                    out.write(f"{own} {_line(split.texts[i])}\n")
            self.model = self.library.train_supervised(
                str(file),
                lr=self.lr,
                epoch=self.epochs,
                wordNgrams=2,
                dim=100,
                thread=torch.get_num_threads(),
                loss="ova" if self.several else "softmax",
                seed=seed,
                verbose=0,
            )

    def predict(self, texts: Sequence[str]) -> list[Any]:
        # What the module itself wraps around this does not work with NumPy 2.
        most, least = (-1, 0.5) if self.several else (1, 0.0)
        lines = [_line(text) + "\n" for text in texts]
        found, _ = self.model.f.multilinePredict(lines, most, least, "strict")
        last = len("__label__")
        rows = [tuple(self.labels[int(name[last:])] for name in row) for row in found]
        return rows if self.several else [row[0] if row else self.labels[0] for row in rows]

    def parameters(self) -> int:
        inputs, outputs = self.model.f.getInputMatrix(), self.model.f.getOutputMatrix()
        return int(np.asarray(inputs).size + np.asarray(outputs).size)


BASELINES: dict[str, type[Tfidf] | type[FastText]] = {"tfidf": Tfidf, "fasttext": FastText}


def make_baseline(name: str, **arguments: Any) -> Tfidf | FastText:
    """An untrained one, by default with the first arguments of its grid."""
    kind: Any = BASELINES[name]
    return kind(**(arguments or kind.GRID[0]))


def choose(name: str, dataset: Dataset) -> dict[str, Any]:
    """The arguments that are best on the held-out rows."""
    labels = dataset.train.labels
    targets = encode_labels(labels, distinct(labels), "labels")
    kept, held = (
        _rows(dataset.train, rows)
        for rows in train_validation_split(first_classes(targets), 0.1, 0)
    )
    if not held.texts:
        return BASELINES[name].GRID[0]
    found = []
    for arguments in BASELINES[name].GRID:
        model = make_baseline(name, **arguments)
        model.fit(kept, 0)
        scores = score(held, model.predict(held.texts))
        found.append(scores["micro_f1" if dataset.train.multi_label else "accuracy"])
    return BASELINES[name].GRID[int(np.argmax(found))]


def score(split: Split, predicted: Sequence[Any]) -> dict[str, float]:
    """As `TextClassifier.evaluate` names them: accuracy or micro-F1, and macro-F1."""
    truth: Any = split.labels
    if not split.multi_label:
        return {
            "accuracy": float(accuracy_score(truth, predicted)),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),
        }
    binarizer = MultiLabelBinarizer().fit([*truth, *predicted])
    truth, said = (binarizer.transform(labels) for labels in (truth, predicted))
    return {
        f"{average}_f1": float(f1_score(truth, said, average=average, zero_division=0))
        for average in ("micro", "macro")
    }


def run_baseline(
    name: str, dataset: Dataset, arguments: dict[str, Any], seed: int
) -> dict[str, Any]:
    """What `compare` keeps of a run; an epoch's seconds are those of the whole over the epochs."""
    model = make_baseline(name, **arguments)
    started = time.perf_counter()
    model.fit(dataset.train, seed)
    seconds = time.perf_counter() - started
    times = []
    for _ in range(3):
        started = time.perf_counter()
        predicted = model.predict(dataset.test.texts)
        times.append(time.perf_counter() - started)
    return {
        **score(dataset.test, predicted),
        "parameters": model.parameters(),
        "without_embedding": None,
        "max_tokens": None,
        "recipe": arguments,
        "fit_seconds": seconds,
        "seconds": [seconds / model.epochs] * model.epochs,
        "validation_score": [],
        "best_epoch": model.epochs,
        "predict_docs_per_second": len(predicted) / float(np.median(times)),
    }


def _rows(split: Split, rows: np.ndarray) -> Split:
    labels: Any = [split.labels[i] for i in rows]
    return Split([split.texts[i] for i in rows], labels)


def _line(text: str) -> str:
    return " ".join(WORD_PATTERN.findall(text.lower()))
