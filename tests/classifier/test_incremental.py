"""Learning on, and making a model small."""

from __future__ import annotations

import numpy as np
import pytest
import torch

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


def read(folder):
    return TextClassifier.from_pretrained(folder)


def accuracy(clf, data):
    return clf.evaluate(data.test.texts, data.test.labels)["accuracy"]


def test_the_other_half_makes_it_better(folder, data):
    clf = read(folder)
    before, known = accuracy(clf, data), len(clf.tokenizer)
    again = read(folder)
    for one in (clf, again):
        one.partial_fit(data.train.texts[1::2], data.train.labels[1::2], seed=3)
    assert accuracy(clf, data) > before
    assert len(clf.tokenizer) > known
    assert clf.tokenizer.vocabulary[:known] == read(folder).tokenizer.vocabulary
    assert all(map(torch.equal, clf.model.parameters(), again.model.parameters()))


def test_new_words_and_labels_leave_the_old_ones_be(folder, data, tmp_path):
    clf = read(folder)
    before, classes = accuracy(clf, data), clf.classes_
    texts, labels = ["zork and the grue of zork"] * 30, ["cave"] * 30
    clf.partial_fit(texts, labels, epochs=5)
    assert clf.classes_ == [*classes, "cave"]
    assert clf.predict(["a grue"]) == ["cave"]
    assert accuracy(clf, data) > before - 0.01
    clf.save_pretrained(tmp_path)
    again = read(tmp_path)
    for one in (clf, again):
        one.partial_fit(data.train.texts[1:99:2], data.train.labels[1:99:2])
    assert np.array_equal(clf.predict_proba(texts), again.predict_proba(texts))


def test_the_first_call_is_a_fit(data):
    rows = data.train.texts[:300], data.train.labels[:300]
    a = TextClassifier(d_model=8, epochs=2).partial_fit(*rows, seed=4)
    b = TextClassifier(d_model=8, epochs=2).fit(*rows, seed=4)
    assert torch.equal(a.model.embedding, b.model.embedding)


def test_what_fails_leaves_the_classifier_as_it_was(folder, data, monkeypatch):
    clf = read(folder)
    want = clf.predict_proba(data.test.texts[:50])
    with pytest.raises(TypeError, match="give one label a text"):
        clf.partial_fit(["a", "b"], [["earn"], []])

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hyperagg.classifier.estimator.train", stopped)
    with pytest.raises(KeyboardInterrupt):
        clf.partial_fit(["zork"], ["cave"])
    assert np.array_equal(clf.predict_proba(data.test.texts[:50]), want)
    assert "cave" not in clf.classes_


def test_what_cannot_learn_on_says_so(folder, data, tmp_path):
    rows = data.train.texts[:60], data.train.labels[:60]
    rival = TextClassifier(mixer="attention", d_model=8, epochs=1).fit(*rows)
    with pytest.raises(ValueError, match="cannot learn on"):
        rival.partial_fit(*rows)
    small = read(folder).quantize()
    small.save_pretrained(tmp_path)
    for one in (small, read(tmp_path)):
        with pytest.raises(ValueError, match="cannot learn on"):
            one.partial_fit(*rows)


def test_eight_bits(folder, data, tmp_path):
    whole, clf = read(folder), read(folder).quantize("int8")
    assert abs(accuracy(clf, data) - accuracy(whole, data)) < 0.005
    assert not torch.equal(clf.model.embedding, whole.model.embedding)
    step = whole.model.embedding.abs().amax(1, keepdim=True) / 127
    assert ((clf.model.embedding - whole.model.embedding).abs() <= 0.5001 * step).all()
    whole.save_pretrained(tmp_path)
    large = (tmp_path / "model.safetensors").stat().st_size
    clf.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 0.3 * large
    assert not (tmp_path / "training.safetensors").exists()
    again = read(tmp_path)
    assert torch.equal(again.model.embedding, clf.model.embedding)
    again.save_pretrained(tmp_path)
    assert torch.equal(read(tmp_path).model.embedding, clf.model.embedding)


def test_fewer_tokens(folder, data):
    whole, clf = read(folder), read(folder).quantize(max_tokens=5000)
    assert len(clf.tokenizer) == 5001
    assert accuracy(clf, data) > accuracy(whole, data) - 0.01
    known = set(whole.tokenizer.vocabulary)
    assert known.issuperset(clf.tokenizer.vocabulary)
    assert "the" in known


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (dict(kind="int2"), "kind='int2'"),
        (dict(max_tokens=0), "max_tokens=0"),
        (dict(max_tokens="few"), "max_tokens='few'"),
    ],
)
def test_bad_arguments_of_quantize(folder, call, message):
    with pytest.raises(ValueError, match=message):
        read(folder).quantize(**call)


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_memory_is_told_in_a_line(folder, data, tmp_path, damage):
    clf = read(folder)
    clf.save_pretrained(tmp_path)
    file = tmp_path / "training.safetensors"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        other = TextClassifier(d_model=8, epochs=1).fit(["a", "b"] * 9, ["a", "b"] * 9)
        other.save_pretrained(tmp_path / "other")
        file.write_bytes((tmp_path / "other" / "training.safetensors").read_bytes())
    with pytest.raises(ValueError, match=r"training\.safetensors: damaged"):
        read(tmp_path)


def test_a_fasttext_model_answers_as_fasttext(data, tmp_path):
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
    said = [theirs.f.predict(text + "\n", 1, 0.0, "strict")[0] for text in texts]
    assert ours.predict(texts) == [label.removeprefix("__label__") for _, label in said]
    shares = ours.predict_proba(texts).max(1)
    np.testing.assert_allclose(shares, [share for share, _ in said], atol=3e-5)
    ours.save_pretrained(tmp_path / "ours")
    again = TextClassifier.from_pretrained(tmp_path / "ours")
    assert np.array_equal(again.predict_proba(texts), ours.predict_proba(texts))
    found = ours.explain(texts[0])
    np.testing.assert_allclose(found.contributions.sum(0) + found.bias, found.logits, atol=1e-5)
    with pytest.raises(ValueError, match="cannot learn on"):
        ours.partial_fit(texts[:2], ["earn", "acq"])
