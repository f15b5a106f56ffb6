"""What a user of Python may hand to `TextClassifier` by mistake, and what still works."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hyperagg import TextClassifier

TEXTS = ["a dull film", "a fine film"] * 10
LABELS = ["bad", "good"] * 10
NAN = float("nan")


def classifier(**config):
    return TextClassifier(**{"d_model": 4, "epochs": 3, **config})


@pytest.fixture(scope="module")
def trained():
    return classifier().fit(TEXTS, LABELS)


class Column:
    """As pandas has them: of a length, iterable, and indexed by names, not by places."""

    def __init__(self, values):
        self.values = dict(zip("abcdefghijklmnopqrst", values))

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values.values())

    def __getitem__(self, key):
        return self.values[key]


BAD_ROWS = {
    "str for texts": ("a dull film", LABELS, TypeError, "texts: is a str"),
    "str for labels": (["a", "b"], "ab", TypeError, "labels: is a str"),
    "bytes for texts": (b"ab", LABELS, TypeError, "texts: is bytes"),
    "dict for texts": (dict(zip("ab", "xy")), ["x", "y"], TypeError, "texts: is dict"),
    "set for labels": (["a", "b"], {"x", "y"}, TypeError, "labels: is set"),
    "no texts": (None, LABELS, TypeError, "texts: is NoneType"),
    "a number for labels": (TEXTS, 7, TypeError, "labels: is int"),
    "fewer labels": (TEXTS, LABELS[:-1], ValueError, "labels: 19 of them for 20 texts"),
    "more labels": (TEXTS, [*LABELS, "bad"], ValueError, "labels: 21 of them for 20 texts"),
    "nothing": ([], [], ValueError, "texts: there are none"),
    "one class": (["a", "b"], ["x", "x"], ValueError, "labels: all are 'x'"),
    "a missing text": (["a", NAN], ["x", "y"], TypeError, r"texts\[1\]: nan is float; give str"),
    "a null text": (["a", None], ["x", "y"], TypeError, r"texts\[1\]: None is NoneType"),
    "a text of bytes": (["a", b"b"], ["x", "y"], TypeError, r"texts\[1\]: b'b' is bytes"),
    "texts cut to words": ([["a"] * 9000, ["b"]], ["x", "y"], TypeError, r"texts\[0\]: .{,80}list"),
    "float labels": (["a", "b"], [1.0, 2.0], TypeError, r"labels\[0\]: 1.0 is float"),
    "NaN label": (["a", "b"], ["x", NAN], TypeError, r"labels\[1\]: nan is float"),
    "null label": (["a", "b"], ["x", None], TypeError, r"labels\[1\]: None"),
    "several labels a text": (
        ["a", "b"],
        [["x"], "y"],
        TypeError,
        r"labels\[1\]: 'y' is one label",
    ),
    "one-hot labels": (["a", "b"], np.eye(2), TypeError, r"labels\[0\]: .*float"),
    "float array": (["a", "b"], np.array([0.0, 1.0]), TypeError, r"labels\[0\]"),
    "tensor": (["a", "b"], torch.tensor([0, 1]), TypeError, r"labels\[0\]: tensor\(0\) is Tensor"),
    "texts and labels swapped": ([1, 2], ["a", "b"], TypeError, r"texts\[0\]: 1 is int"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_rows_that_cannot_be_learned(case):
    texts, labels, kind, message = BAD_ROWS[case]
    with pytest.raises(kind, match=message) as error:
        classifier().fit(texts, labels)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("case", [case for case in BAD_ROWS if case != "one class"])
def test_rows_that_cannot_be_evaluated(trained, case):
    texts, labels, kind, message = BAD_ROWS[case]
    with pytest.raises(kind, match=message):
        trained.evaluate(texts, labels)


@pytest.mark.parametrize("texts", ["a film", None, 3, [None], [["a", "film"]], {"a": "film"}])
@pytest.mark.parametrize("method", ["predict", "predict_proba"])
def test_texts_that_cannot_be_classified(trained, method, texts):
    with pytest.raises(TypeError, match="texts"):
        getattr(trained, method)(texts)


def test_an_unseen_label_is_named(trained):
    with pytest.raises(ValueError, match=r"labels\[1\]: 'odd' was not there .* 'bad', 'good'"):
        trained.evaluate(["a", "b"], ["good", "odd"])


OTHER_KINDS = {
    "tuples": (tuple(TEXTS), tuple(LABELS)),
    "arrays": (np.array(TEXTS), np.array(LABELS)),
    "arrays of objects": (np.array(TEXTS, object), np.array(LABELS, object)),
    "columns": (Column(TEXTS), Column(LABELS)),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_sequences_give_the_same_classifier(trained, kind):
    texts, labels = OTHER_KINDS[kind]
    other = classifier().fit(texts, labels)
    assert torch.equal(other.model.embedding, trained.model.embedding)
    assert other.classes_ == ["bad", "good"]
    assert all(type(label) is str for label in other.predict(texts))
    assert other.evaluate(texts, labels) == trained.evaluate(TEXTS, LABELS)


def test_generators_are_read_once(trained):
    other = classifier().fit((text for text in TEXTS), map(str, LABELS))
    assert torch.equal(other.model.embedding, trained.model.embedding)
    assert other.predict(text for text in TEXTS) == LABELS
    assert other.evaluate(iter(TEXTS), iter(LABELS))["accuracy"] == 1


@pytest.mark.parametrize("kind", [np.int64, np.uint8, int, np.str_])
def test_labels_come_back_as_plain_values_and_can_be_saved(kind, tmp_path):
    labels = [kind(i % 2) for i in range(20)]
    made = classifier().fit(TEXTS, labels)
    made.save_pretrained(tmp_path)
    read = TextClassifier.from_pretrained(tmp_path)
    plain = str if kind is np.str_ else int
    assert read.classes_ == made.classes_ == [plain(0), plain(1)]
    assert read.predict(TEXTS) == [plain(label) for label in labels]
    assert json.loads((tmp_path / "config.json").read_text())["classes"] == [plain(0), plain(1)]


def test_nothing_to_classify_is_no_error(trained):
    assert trained.predict([]) == []
    assert trained.predict_proba([]).shape == (0, 2)


def test_texts_without_a_known_word_are_no_error(trained):
    texts = ["", " \n", "\0", "\ud800", "\u200b", "zzz", "x" * 1_000_000]
    assert set(trained.predict(texts)) <= {"bad", "good"}
    np.testing.assert_allclose(trained.predict_proba(texts).sum(1), 1, rtol=1e-5)
    classifier().fit(texts + TEXTS, ["odd"] * 7 + LABELS)
    classifier().fit(["", ""], ["a", "b"])  # hopeless, but no reason to fail


BAD_SETTINGS = {
    "size of 0": (dict(d_model=0), ValueError, "d_model=0"),
    "no size": (dict(d_model=None), ValueError, "d_model=None"),
    "size of truth": (dict(d_model=True), ValueError, "d_model=True"),
    "half an epoch": (dict(epochs=0.5), ValueError, "epochs=0.5"),
    "epochs in words": (dict(epochs="ten"), ValueError, "epochs='ten'"),
    "negative rate": (dict(learning_rate=-1), ValueError, "learning_rate=-1"),
    "NaN rate": (dict(learning_rate=NAN), ValueError, "learning_rate=nan"),
    "infinite rate": (dict(learning_rate=float("inf")), ValueError, "learning_rate=inf"),
    "rate in words": (dict(learning_rate="0.1"), TypeError, "learning_rate='0.1'"),
    "all smoothed": (dict(label_smoothing=1), ValueError, "label_smoothing=1"),
    "all held out": (dict(validation_fraction=1.0), ValueError, "validation_fraction=1.0"),
    "no share": (dict(validation_fraction=None), TypeError, "validation_fraction=None"),
    "unknown mixer": (dict(mixer="lstm"), ValueError, "mixer='lstm': there are aggregation"),
    "mixer list": (dict(mixer=["attention"]), ValueError, r"mixer=\['attention'\]"),
    "misspelt": (dict(epoch=3), TypeError, "epoch: no such argument; there are .*epochs"),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_settings_that_cannot_be(case):
    config, kind, message = BAD_SETTINGS[case]
    with pytest.raises(kind, match=message):
        TextClassifier(**config)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None])
def test_seeds_that_cannot_be(seed):
    with pytest.raises(ValueError, match=r"seed=.*from 0 to"):
        classifier().fit(TEXTS, LABELS, seed=seed)


def test_a_seed_may_be_of_numpy(trained):
    other = classifier().fit(TEXTS, LABELS, seed=np.int64(0))
    assert torch.equal(other.model.embedding, trained.model.embedding)


BAD_VALIDATION = {
    "no pair": (TEXTS, TypeError, "validation: give a pair"),
    "a str": (("a film", ["bad"]), TypeError, "validation texts: is a str"),
    "unequal": ((["a", "b"], ["bad"]), ValueError, "validation labels: 1 of them for 2 texts"),
    "float label": ((["a"], [1.0]), TypeError, r"validation labels\[0\]: 1.0 is float"),
    "unseen label": ((["a"], ["odd"]), ValueError, r"validation labels\[0\]: 'odd'"),
}


@pytest.mark.parametrize("case", BAD_VALIDATION)
def test_validation_that_cannot_be(case):
    validation, kind, message = BAD_VALIDATION[case]
    with pytest.raises(kind, match=message):
        classifier().fit(TEXTS, LABELS, validation=validation)


def test_resume_needs_a_checkpoint():
    with pytest.raises(ValueError, match="resume: give the checkpoint"):
        classifier().fit(TEXTS, LABELS, resume=True)


def test_what_is_refused_at_once_leaves_the_classifier_as_it_was():
    made = classifier().fit(TEXTS, LABELS)
    before = made.predict_proba(TEXTS)
    for texts, labels in ((TEXTS, ["x"] * 20), (TEXTS, [1.0] * 20), ([None], ["x"])):
        with pytest.raises((TypeError, ValueError)):
            made.fit(texts, labels)
        np.testing.assert_array_equal(made.predict_proba(TEXTS), before)


def test_what_fails_on_the_way_leaves_an_untrained_classifier():
    made = classifier(learning_rate=1e30)
    with pytest.raises(ValueError, match="learning_rate"):
        made.fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match="not trained"):
        made.predict(TEXTS)


@pytest.mark.parametrize("rate", [1e3, 1e10, 1e20, 1e30, 1e38])
@pytest.mark.parametrize("mixer", ["aggregation", "attention"])
def test_a_rate_too_high_never_gives_a_model_of_nans(rate, mixer):
    made = classifier(learning_rate=rate, epochs=1, mixer=mixer)
    try:
        made.fit(TEXTS, LABELS)
    except ValueError as error:
        assert "learning_rate" in str(error)
    else:
        assert np.isfinite(made.predict_proba(TEXTS)).all()


@pytest.mark.parametrize("act", ["predict", "predict_proba"])
def test_what_needs_training_says_so(act, tmp_path):
    with pytest.raises(ValueError, match="not trained: call fit"):
        getattr(classifier(), act)(["a"])
    with pytest.raises(ValueError, match="not trained: call fit"):
        classifier().evaluate(["a"], ["b"])
    with pytest.raises(ValueError, match="not trained: call fit"):
        classifier().save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
