"""Linear models on TF-IDF features, and fastText, as estimators."""

from __future__ import annotations

import sys
from functools import partial

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.baselines import autotune, features
from hyperagg.classifier.baselines.fasttext import FastTextClassifier
from hyperagg.classifier.baselines.features import Fold, TfidfFeatures
from hyperagg.classifier.baselines.linear import (
    ComplementNBClassifier,
    LinearSVCClassifier,
    LogisticRegressionClassifier,
    NBSVMClassifier,
)
from hyperagg.classifier.baselines.scores import classification_scores
from hyperagg.classifier.baselines.search import Diverged
from hyperagg.classifier.baselines.words import separate_words

FASTTEXT = partial(FastTextClassifier, 1.0, 15, buckets=10_000)
MODELS = [
    LinearSVCClassifier,
    partial(LogisticRegressionClassifier, char_ngrams=2, strength=10.0),
    partial(ComplementNBClassifier, strength=0.1),
    partial(NBSVMClassifier, strength=5.0),
    FASTTEXT,
]


@pytest.fixture(scope="module")
def rows():
    train = hyperagg.load_dataset("r8").train
    picked = np.random.default_rng(0).permutation(len(train.texts))[:500]
    return [train.texts[i] for i in picked], [train.labels[i] for i in picked]


def test_fasttext_that_diverges_says_with_which_learning_rate(rows, monkeypatch):
    pytest.importorskip("fasttext")
    model = FASTTEXT()

    def train(*arguments, **options):
        raise RuntimeError("Encountered NaN.")

    monkeypatch.setattr(model.fasttext, "train_supervised", train)
    with pytest.raises(Diverged, match=r"diverges with learning_rate=1\.0"):
        model.fit(*rows)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_it_learns_newswires(rows, make, multi_label):
    pytest.importorskip("fasttext" if make is FASTTEXT else "sklearn")
    texts, labels = rows
    if multi_label:
        labels = [(y, "long") if len(x) > 600 else (y,) for x, y in zip(texts, labels)]
    model = make()
    model.fit(texts[:400], labels[:400])
    predicted = model.predict(texts[400:])
    scores = classification_scores(labels[400:], predicted)
    assert scores["micro_f1" if multi_label else "accuracy"] > 0.65
    assert model.num_parameters() > 1000
    if make is not FASTTEXT:
        # A candidate of a search predicts what the model that it stands for does.
        fold = Fold(texts[:400], labels[:400], texts[400:], labels[400:])
        assert make().predict_fold(fold) == make().predict_fold(fold) == predicted


@pytest.mark.parametrize("make", MODELS)
def test_words_of_thai_and_hindi_are_learned_whole(make):
    pytest.importorskip("fasttext" if make is FASTTEXT else "sklearn")
    texts = ["กี่ ดี", "กู้ ดี", "हिन्दी है", "हिन्दू है"] * 10
    labels = ["a", "b", "c", "d"] * 10
    assert make().fit(texts, labels).predict(texts[:4]) == labels[:4]


def test_words_are_separated_from_punctuation_and_keep_their_marks():
    assert separate_words("It's  5%,\tनमस्ते ที่_นี่!") == "it ' s 5 % , नमस्ते ที่_นี่ !"
    assert separate_words("cafe\u0301 می\u200cخواهم \n") == "cafe\u0301 می\u200cخواهم"


PRINTED = """Trial = 1
epoch = 5
lr = 0.1
loss = softmax
Training again with best arguments
Best selected args = 0
epoch = 7
lr = 0.3
dim = 9
minCount = 1
wordNgrams = 2
minn = 0
maxn = 0
bucket = 0
dsub = 2
loss = softmax
"""
FOUND = dict(learning_rate=0.3, epochs=7, word_ngrams=2, min_chars=0, max_chars=0, d_model=9)


@pytest.mark.parametrize(
    "script, expected",
    [
        # The training that follows is not waited for.
        (f"print({PRINTED!r}, flush=True); import time; time.sleep(600)", FOUND),
        (f"print({PRINTED[:80]!r}); import os, signal; os.kill(os.getpid(), signal.SIGFPE)", None),
        ("import time; time.sleep(600)", None),  # longer than the search may take
    ],
)
def test_fasttext_finds_parameters_or_fails_in_a_process_of_its_own(
    monkeypatch, rows, script, expected
):
    pytest.importorskip("fasttext")
    fold = Fold(*(part[:60] for part in rows), *(part[60:80] for part in rows))
    monkeypatch.setattr(autotune, "_COMMAND", [sys.executable, "-c", script])
    monkeypatch.setattr(autotune, "_MARGIN_SECONDS", 2)
    assert autotune.autotuned_parameters(fold, 0, threads=1) == expected


@pytest.mark.slow
def test_fasttext_prints_the_parameters_that_it_finds(rows):
    pytest.importorskip("fasttext")
    fold = Fold(*(part[:300] for part in rows), *(part[300:400] for part in rows))
    found = autotune.autotuned_parameters(fold, 3, threads=1)
    assert found is not None and found.keys() == FOUND.keys()
    FastTextClassifier(**found)


def test_parameters_of_equal_models_are_equal():
    linear = LinearSVCClassifier.canonical({"word_ngrams": 0, "char_ngrams": 0, "strength": 1.0})
    assert linear["word_ngrams"] == 1
    canonical = FastTextClassifier.canonical
    assert canonical({"min_chars": 3, "max_chars": 0})["min_chars"] == 0
    assert canonical({"min_chars": 0, "max_chars": 2})["min_chars"] == 1
    assert canonical({"min_chars": 4, "max_chars": 3})["min_chars"] == 3


def test_blocks_of_features_that_no_longer_fit_are_made_again(rows, monkeypatch):
    pytest.importorskip("sklearn")
    texts, labels = rows
    fold = Fold(texts[:50], labels[:50], texts[50:80], labels[50:80])
    kept = [TfidfFeatures(*each).matrices(fold) for each in ((1, 0), (1, 2), (2, 2))]
    assert list(fold.cache) == [("word", 1), ("word", 2), ("char", 2)]
    monkeypatch.setattr(features, "_MAX_CACHED", 0)
    again = TfidfFeatures(1, 2).matrices(fold)
    assert list(fold.cache) == [("word", 1), ("char", 2)]
    for one, other in zip(kept[1], again):
        assert (one != other).nnz == 0


def test_features_of_characters_are_those_of_scikit_learn(rows):
    text = pytest.importorskip("sklearn.feature_extraction.text")
    texts = [*rows[0][:150], "", " \n", "กี่ ดี a\u00a0b", "É é\tİ x"]
    reference = text.TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True)
    ours = TfidfFeatures(0, 4)
    for learned, expected in [
        (ours.fit_transform(texts), reference.fit_transform(texts)),
        (ours.transform(rows[0][150:200]), reference.transform(rows[0][150:200])),
    ]:
        assert learned.shape == expected.shape and learned.nnz == expected.nnz
        assert abs(learned - expected).max() < 1e-12


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
    ("make", "library"), [(LinearSVCClassifier, "sklearn"), (FastTextClassifier, "fasttext")]
)
def test_a_missing_library_is_one_line_with_the_command(make, library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"pip install 'hyperagg\[baselines\]'$"):
        make()
