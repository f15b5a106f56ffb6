"""TF-IDF and fastText as estimators, and the selection of their parameters."""

from __future__ import annotations

import sys

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.baselines.fasttext import FastTextClassifier
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.baselines.selection import select_parameters
from hyperagg.classifier.baselines.tfidf import TfidfClassifier


@pytest.fixture(scope="module")
def rows():
    train = hyperagg.load_dataset("r8").train
    picked = np.random.default_rng(0).permutation(len(train.texts))[:500]
    return [train.texts[i] for i in picked], [train.labels[i] for i in picked]


@pytest.mark.parametrize("name", ["tfidf", "fasttext"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_it_learns_newswires(rows, name, multi_label):
    pytest.importorskip({"tfidf": "sklearn"}.get(name, name))
    texts, labels = rows
    if multi_label:
        labels = [(y, "long") if len(x) > 600 else (y,) for x, y in zip(texts, labels)]
    model = TfidfClassifier(1.0) if name == "tfidf" else FastTextClassifier(1.0, 15)
    model.fit(texts[:400], labels[:400])
    scores = classification_scores(labels[400:], model.predict(texts[400:]))
    assert scores["micro_f1" if multi_label else "accuracy"] > 0.75
    assert model.num_parameters() > 1000


def test_the_parameters_with_the_best_validation_score_are_selected(rows):
    texts, labels = rows
    by_text = dict(zip(texts, labels))
    seen = []

    class Model:
        GRID = ({"C": 1}, {"C": 2}, {"C": 3})

        def __init__(self, C):
            self.C = C

        def fit(self, X, y):
            seen.append((len(X), self.C))
            return self

        def predict(self, X):
            return [by_text[text] if self.C == 2 else "earn" for text in X]

    assert select_parameters(Model, texts, labels) == {"C": 2}
    assert [C for _, C in seen] == [1, 2, 3] and all(n < len(texts) for n, _ in seen)
    assert select_parameters(Model, texts[:1], labels[:1]) == {"C": 1}


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth, predicted = (rng.integers(0, n, 60).tolist() for n in (4, 5))
    scores = classification_scores(truth, predicted)
    assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truth, predicted))
    assert scores["macro_f1"] == pytest.approx(
        metrics.f1_score(truth, predicted, average="macro", zero_division=0)
    )
    indicators = [rng.random((40, 4)) < 0.4 for _ in range(2)]
    tuples = [[tuple(np.flatnonzero(row).tolist()) for row in rows] for rows in indicators]
    scores = classification_scores(*tuples)
    for average in ("micro", "macro"):
        assert scores[f"{average}_f1"] == pytest.approx(
            metrics.f1_score(*indicators, average=average, zero_division=0)
        )


@pytest.mark.parametrize(
    ("make", "library"), [(TfidfClassifier, "sklearn"), (FastTextClassifier, "fasttext")]
)
def test_a_missing_library_is_one_line_with_the_command(make, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'hyperagg\[baselines\]'$"):
        make()
