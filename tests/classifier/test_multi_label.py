"""Multi-label problems, class weights and calibration."""

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
        multi = [
            [*([label] if label != "earn" else []), *(["long"] if len(text.split()) > 80 else [])]
            for text, label in rows
        ]
        return [text for text, _ in rows], multi

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
    labels_found = trained.predict(texts)
    assert {len(one) for one in labels_found} >= {0, 1, 2}
    truth, predicted = (
        np.array([[c in one for c in trained.classes_] for one in each])
        for each in (labels, labels_found)
    )
    assert scores["micro_f1"] == pytest.approx(f1_score(truth, predicted, average="micro"))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    probabilities = trained.predict_proba(texts)
    assert ((probabilities > trained.history_.threshold) == predicted).all()
    for row, found in zip(probabilities, trained.predict(texts, threshold=0.9)):
        assert found == tuple(trained.classes_[c] for c in np.flatnonzero(row > 0.9))
    for row, pairs in zip(probabilities, trained.predict(texts, top_k=2)):
        assert [p for _, p in pairs] == sorted(map(float, row), reverse=True)[:2]
    assert trained.history_.validation_score[-1] > 0.8


def test_saved_streamed_and_explained_alike(newswires, trained, tmp_path):
    texts, _ = newswires[1]
    trained.save_pretrained(tmp_path)
    read = hyperagg.TextClassifier.from_pretrained(tmp_path)
    assert read.multi_label_
    assert read.predict(texts) == trained.predict(texts)
    document = read.stream().append(texts[5])
    assert document.predict() == trained.predict(texts[5:6])[0]
    assert np.array_equal(document.predict_proba(), trained.predict_proba(texts[5:6])[0])
    found = trained.explain(texts[5])
    np.testing.assert_allclose(found.contributions.sum(0) + found.bias, found.logits, atol=1e-5)
    np.testing.assert_allclose(found.probabilities, document.predict_proba(), atol=1e-6)


def test_kinds_of_labels_are_not_mixed(newswires, trained):
    texts, labels = newswires[1]
    with pytest.raises(TypeError, match="y: expected a list of labels per text"):
        trained.evaluate(texts, ["long"] * len(texts))
    with pytest.raises(TypeError, match=r"y\[1\]: expected a list of labels"):
        trained.fit(["a", "b"], [["a"], "b"])
    with pytest.raises(TypeError, match=r"y\[1\]: expected a label \(str or int\), got list"):
        trained.fit(["a", "b"], ["a", ["b"]])
    with pytest.raises(ValueError, match="y: expected at least two distinct labels, got none"):
        trained.fit(["a", "b"], [[], []])
    with pytest.raises(TypeError, match="validation y: expected a list of labels per text"):
        trained.fit(texts, labels, validation=(texts, ["long"] * len(texts)))


def test_class_weights_shift_the_probabilities():
    texts = ["good film", "bad film", "film"] * 40
    labels = ["yes", "no", "no"] * 40
    probability = {}
    for name, weight in {"none": None, "named": {"yes": 20.0}, "balanced": "balanced"}.items():
        clf = hyperagg.TextClassifier(d_model=8).fit(texts, labels, class_weight=weight)
        probability[name] = float(clf.predict_proba(["unheard"])[0, 1])
    assert probability["none"] < probability["balanced"] < probability["named"]


@pytest.mark.parametrize(
    ("weight", "kind", "message"),
    [
        ("even", TypeError, "class_weight='even': expected None, \"balanced\" or a dict"),
        ({"maybe": 1.0}, ValueError, "class_weight: the label 'maybe' does not occur in y"),
        ({"yes": 0.0}, ValueError, r"class_weight\['yes'\]=0.0: expected a finite number >="),
    ],
)
def test_invalid_class_weights_are_named(weight, kind, message):
    with pytest.raises(kind, match=message):
        hyperagg.TextClassifier().fit(["a", "b"], ["yes", "no"], class_weight=weight)


def one_each(classes):
    return Ragged(np.array(classes, np.int32), np.arange(len(classes) + 1))


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_temperature_of_labels_drawn_from_known_probabilities(multi_label):
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((40_000, 3))
    if multi_label:
        yes = rng.random(logits.shape) < sigmoid(logits)
        truth = yes
    else:
        drawn = (softmax(logits).cumsum(1) < rng.random((len(logits), 1))).sum(1)
        truth = one_each(drawn).indicators(logits.shape[1])
    assert fit_temperature(2 * logits, truth, multi_label) == pytest.approx(2, rel=0.03)
    probabilities = sigmoid if multi_label else softmax
    assert expected_calibration_error(probabilities(logits), truth, multi_label) < 0.01
    assert expected_calibration_error(probabilities(3 * logits), truth, multi_label) > 0.04


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 4.0, 30.0])
def test_the_temperature_is_the_optimum_that_scipy_finds(multi_label, scale):
    optimize = pytest.importorskip("scipy.optimize")
    rng = np.random.default_rng(3)
    logits = (scale * rng.standard_normal((500, 4))).astype(np.float32)
    truth = np.zeros((500, 4), dtype=bool)
    best = (logits / scale + rng.standard_normal((500, 4))).argmax(1)
    truth[np.arange(500), best] = True
    if multi_label:
        truth |= logits / scale + rng.standard_normal((500, 4)) > 1

    positives = truth.sum()
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (3 * positives + 6))
    if multi_label:
        targets[~truth] = 1 / (truth.size - positives + 2)

    def loss(log_temperature):
        z = logits.astype(np.float64) / np.exp(log_temperature)
        if multi_label:
            return (np.logaddexp(0, z) - targets * z).mean()
        largest = z.max(1, keepdims=True)
        norm = np.log(np.exp(z - largest).sum(1)) + largest[:, 0]
        return (norm - (targets * z).sum(1)).mean()

    options = {"xatol": 1e-9}
    bounds = np.log(0.05), np.log(20)
    expected = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options=options).x
    assert np.log(fit_temperature(logits, truth, multi_label)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_few_easy_rows_do_not_make_a_classifier_certain(multi_label):
    logits = np.array([[0.2, 0.1, 0.1], [0.1, 0.3, 0.2]])
    truth = one_each([0, 1]).indicators(3)
    temperature = fit_temperature(logits, truth, multi_label)
    probabilities = (sigmoid if multi_label else softmax)(logits / temperature)
    assert probabilities[truth].mean() < 0.9


def test_calibration_error_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7]])
    # One of the two predictions with probability 0.9 is correct, and the one with 0.7.
    want = (abs(1 - 1.8) + abs(1 - 0.7)) / 3
    assert expected_calibration_error(
        probabilities, one_each([0, 1, 1]).indicators(2), False
    ) == pytest.approx(want)


def test_the_best_threshold_by_hand():
    scores = np.array([[0.9, 0.2], [0.6, 0.5], [0.1, 0.3]])
    targets = Ragged(np.array([0, 0, 1], np.int32), np.array([0, 1, 3, 3]))
    # 0.9, 0.6 and 0.5 are the true classes; the threshold lies half-way to 0.3.
    assert best_threshold(scores, targets.indicators(scores.shape[1])) == (pytest.approx(0.4), 1.0)


def test_training_leaves_a_calibrated_classifier():
    data = hyperagg.load_dataset("r8")
    clf = hyperagg.TextClassifier(d_model=32).fit(data.train.texts, data.train.labels)
    before, after = clf.history_.expected_calibration_error
    assert after < 0.03 < before
    assert clf.evaluate(data.test.texts, data.test.labels)["expected_calibration_error"] < 0.03
