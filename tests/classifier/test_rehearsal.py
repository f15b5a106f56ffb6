"""`partial_fit` with new labels: they are learned, and the known ones are not forgotten."""

from __future__ import annotations

import numpy as np
import pytest

import hyperagg
from hyperagg import TextClassifier

NEW = "crude"


@pytest.fixture(scope="module")
def r8():
    return hyperagg.load_dataset("r8")


def rows(split, new, number=None):
    found = [(t, c) for t, c in zip(split.texts, split.labels) if (c == NEW) == new][:number]
    return [text for text, _ in found], [label for _, label in found]


@pytest.fixture(scope="module")
def folder(r8, tmp_path_factory):
    """A model that does not know the label."""
    clf = TextClassifier(d_model=32).fit(*rows(r8.train, new=False, number=2000))
    clf.save_pretrained(path := tmp_path_factory.mktemp("model"))
    return path


@pytest.mark.parametrize(("number", "least"), [(5, 0.3), (30, 0.7)])
def test_a_few_texts_of_a_new_label_teach_it_and_the_old_ones_stay(r8, folder, number, least):
    """Five texts used to teach nothing, and many passes over thirty cost a third of the others."""
    clf = TextClassifier.from_pretrained(folder)
    old = rows(r8.test, new=False, number=600)
    before = clf.evaluate(*old)["accuracy"]
    texts, labels = rows(r8.train, new=True, number=number)
    clf.partial_fit(texts, labels)
    assert clf.predict(texts) == labels
    assert clf.evaluate(*rows(r8.test, new=True))["accuracy"] > least
    assert clf.evaluate(*old)["accuracy"] > before - 0.02


@pytest.mark.parametrize("threads", [1, 2])
def test_a_new_label_is_learned_to_the_same_bits(r8, folder, threads):
    texts, labels = rows(r8.train, new=True, number=5)
    found = []
    for number in (1, threads):
        clf = TextClassifier.from_pretrained(folder)
        clf.threads = number
        clf.partial_fit(texts, labels, epochs=2, seed=4)
        found.append(clf.logits(texts))
    assert np.array_equal(*found)


def test_classes_may_come_one_by_one(r8, tmp_path):
    """A first call with a single label used to be refused."""
    topics = ["earn", "acq", "trade"]
    clf = TextClassifier(d_model=32)
    for topic in topics:
        chosen = [i for i, label in enumerate(r8.train.labels) if label == topic][:100]
        clf.partial_fit([r8.train.texts[i] for i in chosen], [topic] * len(chosen))
        clf.save_pretrained(tmp_path)
        clf = TextClassifier.from_pretrained(tmp_path)
        assert clf.predict(r8.train.texts[chosen[0]]) == topic
    assert clf.classes_ == topics
    test = [(t, c) for t, c in zip(r8.test.texts, r8.test.labels) if c in topics]
    scores = clf.evaluate(*map(list, zip(*test)))
    assert scores["macro_f1"] > 0.8


def test_a_single_label_is_always_predicted(tmp_path):
    clf = TextClassifier(d_model=8).partial_fit(["a film", "b film"], ["good", "good"])
    assert clf.predict(["anything", ""]) == ["good", "good"]
    assert clf.predict_proba("anything").tolist() == [1.0]
    clf.save_pretrained(tmp_path)
    assert hyperagg.load_predictor(tmp_path).predict("a film") == "good"
    clf.partial_fit(["a dull plot"] * 3, ["bad"] * 3)
    assert clf.predict(["a film", "a dull plot"]) == ["good", "bad"]


def test_a_new_label_of_a_multi_label_problem_is_learned(r8):
    texts, labels = rows(r8.train, new=False, number=1000)
    sets = [[label, "long"] if len(text.split()) > 80 else [label]
            for text, label in zip(texts, labels)]  # fmt: skip
    clf = TextClassifier(d_model=32, epochs=10).fit(texts, sets)
    test, truth = rows(r8.test, new=False, number=300)
    kept = np.mean([label in own for own, label in zip(clf.predict(test), truth)])
    more, _ = rows(r8.train, new=True, number=20)
    clf.partial_fit(more, [[NEW]] * len(more))
    assert np.mean([own == (NEW,) for own in clf.predict(more)]) >= 0.9
    new, _ = rows(r8.test, new=True)
    assert np.mean([NEW in own for own in clf.predict(new)]) > 0.15
    after = clf.predict(test)
    assert np.mean([label in own for own, label in zip(after, truth)]) > kept - 0.1
    assert np.mean([NEW in own for own in after]) < 0.05


def test_texts_without_tokens_do_not_prevent_a_new_label():
    clf = TextClassifier(d_model=8).partial_fit(["", ""], ["none", "none"])
    clf.partial_fit(["a film"] * 3, ["some"] * 3)
    assert clf.predict("a film") == "some"
