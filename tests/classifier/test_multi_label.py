"""Texts with several labels, class weights and calibration."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

import hyperagg
from hyperagg._common.calibration import (
    best_threshold,
    expected_calibration_error,
    fit_temperature,
    sigmoid,
    softmax,
)
from hyperagg.text import Ragged

CLASSES = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]


@pytest.fixture(scope="module")
def newswires():
    """r8, where a wire has its topic and "long" if it has over 80 words, or neither."""
    data = hyperagg.load_dataset("r8")

    def labelled(split, number):
        rows = list(zip(split.texts, split.labels))[:number]
        several = [
            [*([label] if label != "earn" else []), *(["long"] if len(text.split()) > 80 else [])]
            for text, label in rows
        ]
        return [text for text, _ in rows], several

    return labelled(data.train, 3000), labelled(data.test, 800)


@pytest.fixture(scope="module")
def trained(newswires):
    return hyperagg.TextClassifier(d_model=32).fit(*newswires[0])


def test_learns_any_number_of_labels(newswires, trained):
    texts, labels = newswires[1]
    assert trained.multi_label_
    assert trained.classes_ == sorted(["long", *(c for c in CLASSES if c != "earn")])
    scores = trained.evaluate(texts, labels)
    assert scores["micro_f1"] > 0.85
    said = trained.predict(texts)
    assert {len(one) for one in said} >= {0, 1, 2}
    truth, predicted = (
        np.array([[c in one for c in trained.classes_] for one in each]) for each in (labels, said)
    )
    assert scores["micro_f1"] == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    shares = trained.predict_proba(texts)
    assert ((shares > trained.history_.threshold) == predicted).all()
    assert trained.history_.validation_score[-1] > 0.8


def test_saved_and_running_and_explained_alike(newswires, trained, tmp_path):
    texts, _ = newswires[1]
    trained.save_pretrained(tmp_path)
    read = hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert read.multi_label_
    assert read.predict(texts) == trained.predict(texts)
    document = read.open().append(texts[5])
    assert document.predict() == trained.predict(texts[5:6])[0]
    assert np.array_equal(document.predict_proba(), trained.predict_proba(texts[5:6])[0])
    found = trained.explain(texts[5])
    np.testing.assert_allclose(found.contributions.sum(0) + found.bias, found.logits, atol=1e-5)
    np.testing.assert_allclose(found.probabilities, document.predict_proba(), atol=1e-6)


def test_kinds_of_labels_are_not_mixed(newswires, trained):
    texts, labels = newswires[1]
    with pytest.raises(TypeError, match="give a list of labels a text"):
        trained.evaluate(texts, ["long"] * len(texts))
    with pytest.raises(TypeError, match=r"labels\[1\]: 'b' is one label; others here are lists"):
        trained.fit(["a", "b"], [["a"], "b"])
    with pytest.raises(TypeError, match=r"labels\[1\]: \['b'\] is list; give str or int"):
        trained.fit(["a", "b"], ["a", ["b"]])
    with pytest.raises(ValueError, match="labels: there are none"):
        trained.fit(["a", "b"], [[], []])
    with pytest.raises(TypeError, match="validation labels: one a text or several"):
        trained.fit(texts, labels, validation=(texts, ["long"] * len(texts)))


def test_class_weights_are_what_so_many_copies_would_be():
    texts = ["good film", "bad film", "film"] * 40
    labels = ["yes", "no", "no"] * 40
    leaning = {}
    for name, weight in {"none": None, "named": {"yes": 20.0}, "balanced": "balanced"}.items():
        clf = hyperagg.TextClassifier(d_model=8).fit(texts, labels, class_weight=weight)
        leaning[name] = float(clf.predict_proba(["unheard"])[0, 1])
    assert leaning["none"] < leaning["balanced"] < leaning["named"]


@pytest.mark.parametrize(
    ("weight", "kind", "message"),
    [
        ("even", TypeError, "class_weight='even': give \"balanced\""),
        ({"maybe": 1.0}, ValueError, "'maybe' is none of the labels"),
        ({"yes": 0.0}, ValueError, "'yes' has 0.0; give a number above 0"),
    ],
)
def test_class_weights_that_mean_nothing(weight, kind, message):
    with pytest.raises(kind, match=message):
        hyperagg.TextClassifier().fit(["a", "b"], ["yes", "no"], class_weight=weight)


def one_each(classes):
    return Ragged(np.array(classes, np.int32), np.arange(len(classes) + 1))


@pytest.mark.parametrize("several", [False, True])
def test_the_temperature_of_answers_drawn_from_known_probabilities(several):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((40_000, 3))
    if several:
        yes = rng.random(logits.shape) < sigmoid(logits)
        truth = yes
    else:
        drawn = (softmax(logits).cumsum(1) < rng.random((len(logits), 1))).sum(1)
        truth = one_each(drawn).indicators(logits.shape[1])
    assert fit_temperature(2 * logits, truth, several) == pytest.approx(2, rel=0.03)
    to_shares = sigmoid if several else softmax
    assert expected_calibration_error(to_shares(logits), truth, several) < 0.01
    assert expected_calibration_error(to_shares(3 * logits), truth, several) > 0.04


def test_calibration_error_by_hand():
    shares = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]])
    # Of two that said 0.9 one is right; the one that said 0.7 is.
    want = (abs(1 - 1.8) + abs(1 - 0.7)) / 3
    assert expected_calibration_error(
        shares, one_each([0, 1, 1]).indicators(2), False
    ) == pytest.approx(want)


def test_the_best_threshold_by_hand():
    scores = np.array([[0.9, 0.2], [0.6, 0.5], [0.1, 0.3]])
    targets = Ragged(np.array([0, 0, 1], np.int32), np.array([0, 1, 3, 3]))
    # Yes for 0.9, 0.6 and 0.5: all right; the threshold lies half way to 0.3.
    assert best_threshold(scores, targets.indicators(scores.shape[1])) == (pytest.approx(0.4), 1.0)


def test_training_leaves_a_calibrated_classifier():
    data = hyperagg.load_dataset("r8")
    clf = hyperagg.TextClassifier(d_model=32).fit(data.train.texts, data.train.labels)
    before, after = clf.history_.calibration_error
    assert after < 0.03 < before
    assert clf.evaluate(data.test.texts, data.test.labels)["calibration_error"] < 0.03
