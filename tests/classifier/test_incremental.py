"""Continued training and quantization."""

from __future__ import annotations

import numpy as np
import pytest

import hyperagg
from hyperagg import TextClassifier


@pytest.fixture(scope="module")
def data():
    return hyperagg.load_dataset("r8")


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    """A model of half of the training rows."""
    clf = TextClassifier(d_model=32, epochs=4)
    clf.fit(data.train.texts[::2], data.train.labels[::2])
    clf.save_pretrained(path := tmp_path_factory.mktemp("half"))
    return path


def load(folder):
    return TextClassifier.from_pretrained(folder)


def equal_parameters(a, b):
    return all(np.array_equal(a.model_.arrays[k], b.model_.arrays[k]) for k in a.model_.arrays)


def accuracy(clf, data):
    return clf.evaluate(data.test.texts, data.test.labels)["accuracy"]


def test_the_other_half_of_the_texts_improves_it(folder, data):
    clf = load(folder)
    before, known = accuracy(clf, data), len(clf.tokenizer_)
    again = load(folder)
    for one in (clf, again):
        one.partial_fit(data.train.texts[1::2], data.train.labels[1::2], seed=3)
    assert accuracy(clf, data) > before
    assert len(clf.tokenizer_) > known
    assert clf.tokenizer_.vocabulary[:known] == load(folder).tokenizer_.vocabulary
    assert equal_parameters(clf, again)


def test_new_words_and_labels_preserve_the_old_ones(folder, data, tmp_path):
    clf = load(folder)
    before, classes = accuracy(clf, data), clf.classes_
    texts, labels = ["zork and the grue of zork"] * 30, ["cave"] * 30
    clf.partial_fit(texts, labels, epochs=5)
    assert clf.classes_ == [*classes, "cave"]
    assert clf.predict(["a grue"]) == ["cave"]
    assert accuracy(clf, data) > before - 0.01
    clf.save_pretrained(tmp_path)
    again = load(tmp_path)
    for one in (clf, again):
        one.partial_fit(data.train.texts[1:99:2], data.train.labels[1:99:2])
    assert np.array_equal(clf.predict_proba(texts), again.predict_proba(texts))


def test_class_weights_are_remembered_and_saved(tmp_path):
    """`partial_fit` used to forget the class weights of `fit`."""
    texts, labels = ["a word"] * 60, ["yes"] * 10 + ["no"] * 50
    more = ["a word"] * 60, ["yes"] * 10 + ["no"] * 50

    def probability(**arguments):
        clf = TextClassifier(d_model=8, epochs=20, validation_fraction=0)
        clf.fit(texts, labels, class_weight={"yes": 5.0})
        clf.save_pretrained(tmp_path)
        clf = load(tmp_path)
        clf.partial_fit(*more, epochs=20, **arguments)
        return clf.predict_proba("a word")[1], clf.class_weight_

    remembered, weights = probability()
    assert weights == {"yes": 5.0}
    assert remembered == probability(class_weight={"yes": np.float64(5)})[0]
    plain, weights = probability(class_weight=None)
    assert weights is None and plain < remembered - 0.1
    balanced, weights = probability(class_weight="balanced")
    assert weights == "balanced" and balanced == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("labels", [[1, 2], ["a", "b"]])
@pytest.mark.parametrize("weight", ["balanced", "dict"])
def test_class_weights_survive_new_classes(labels, weight, tmp_path):
    given = {labels[0]: 2} if weight == "dict" else "balanced"
    clf = TextClassifier(d_model=8, epochs=2)
    clf.fit(["up", "down"] * 20, labels * 20, class_weight=given)
    clf.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.class_weight_ == given
    for one in (clf, again):
        one.partial_fit(["left"] * 5, [3 if labels[0] == 1 else "c"] * 5)
    assert equal_parameters(clf, again) and clf.class_weight_ == given


def test_an_unknown_class_weight_leaves_the_classifier_unchanged(folder):
    clf = load(folder)
    with pytest.raises(ValueError, match="class_weight: the label 'sports' does not occur"):
        clf.partial_fit(["zork"], ["cave"], class_weight={"sports": 1})
    assert "cave" not in clf.classes_


def test_the_first_call_is_a_fit(data):
    rows = data.train.texts[:300], data.train.labels[:300]
    a = TextClassifier(d_model=8, epochs=2).partial_fit(*rows, seed=4)
    b = TextClassifier(d_model=8, epochs=2).fit(*rows, seed=4)
    assert np.array_equal(a.model_.embedding, b.model_.embedding)


def test_a_failure_leaves_the_classifier_unchanged(folder, data, monkeypatch):
    clf = load(folder)
    want = clf.predict_proba(data.test.texts[:50])
    with pytest.raises(TypeError, match="y: expected one label per text"):
        clf.partial_fit(["a", "b"], [["earn"], []])

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperagg.classifier.training.run_options.train", stopped)
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(["zork"], ["cave"])
    assert np.array_equal(clf.predict_proba(data.test.texts[:50]), want)
    assert "cave" not in clf.classes_


def test_a_quantized_classifier_cannot_continue_training(folder, data, tmp_path):
    rows = data.train.texts[:60], data.train.labels[:60]
    small = load(folder).quantize()
    small.save_pretrained(tmp_path)
    for one in (small, load(tmp_path)):
        with pytest.raises(ValueError, match="cannot continue training"):
            one.partial_fit(*rows)


def test_int8(folder, data, tmp_path):
    whole, clf = load(folder), load(folder).quantize("int8")
    assert abs(accuracy(clf, data) - accuracy(whole, data)) < 0.005
    assert not np.array_equal(clf.model_.embedding, whole.model_.embedding)
    step = np.abs(whole.model_.embedding).max(1, keepdims=True) / 127
    assert (np.abs(clf.model_.embedding - whole.model_.embedding) <= 0.5001 * step).all()
    whole.save_pretrained(tmp_path)
    large = (tmp_path / "model.safetensors").stat().st_size
    clf.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 0.3 * large
    assert not (tmp_path / "training.safetensors").exists()
    again = load(tmp_path)
    assert np.array_equal(again.model_.embedding, clf.model_.embedding)
    again.save_pretrained(tmp_path)
    assert np.array_equal(load(tmp_path).model_.embedding, clf.model_.embedding)


def test_fewer_tokens(folder, data):
    whole, clf = load(folder), load(folder).quantize(max_tokens=5000)
    assert len(clf.tokenizer_) == 5001
    assert accuracy(clf, data) > accuracy(whole, data) - 0.01
    known = set(whole.tokenizer_.vocabulary)
    assert known.issuperset(clf.tokenizer_.vocabulary)
    assert "the" in known


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(dtype="int2"), "dtype='int2': expected \"int8\""),
        (dict(max_tokens=0), "max_tokens=0: expected an integer >= 1"),
        (dict(max_tokens="few"), "max_tokens='few': expected an integer >= 1"),
    ],
)
def test_bad_arguments_of_quantize(folder, call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        load(folder).quantize(**call)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_training_state_is_named(folder, data, tmp_path, damage):
    clf = load(folder)
    clf.save_pretrained(tmp_path)
    file = tmp_path / "training.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        other = TextClassifier(d_model=8, epochs=1).fit(["a", "b"] * 9, ["a", "b"] * 9)
        other.save_pretrained(tmp_path / "other")
        file.write_bytes((tmp_path / "other" / "training.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"training\.safetensors: damaged"):
        load(tmp_path)


def test_a_fasttext_model_predicts_as_fasttext(data, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    file = tmp_path / "train.txt"
    lines = [
        f"__label__{label} {text}\n" for text, label in zip(data.train.texts, data.train.labels)
    ]
    file.write_text("".join(lines), "utf-8")
    theirs = fasttext.train_supervised(str(file), dim=16, wordNgrams=2, bucket=20_000, verbose=0)
    theirs.save_model(str(tmp_path / "model.bin"))
    ours = TextClassifier.from_fasttext(tmp_path / "model.bin")
    texts = [" ".join(text.split()) for text in data.test.texts]
    expected = [theirs.f.predict(text + "\n", 1, 0.0, "strict")[0] for text in texts]
    assert ours.predict(texts) == [label.removeprefix("__label__") for _, label in expected]
    probabilities = ours.predict_proba(texts).max(1)
    np.testing.assert_allclose(probabilities, [p for p, _ in expected], atol=3e-5)
    ours.save_pretrained(tmp_path / "ours")
    again = TextClassifier.from_pretrained(tmp_path / "ours")
    assert np.array_equal(again.predict_proba(texts), ours.predict_proba(texts))
    found = ours.explain(texts[0])
    np.testing.assert_allclose(found.contributions.sum(0) + found.bias, found.logits, atol=1e-5)
    with pytest.raises(ValueError, match="cannot continue training"):
        ours.partial_fit(texts[:2], ["earn", "acq"])
