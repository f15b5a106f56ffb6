"""Training with texts that have no labels."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from hyperagg import TextClassifier
from hyperagg.classifier import self_training
from hyperagg.text import HubTokenizer

GOOD = ["fine", "warm", "lovely", "tender", "witty", "bright", "moving", "superb"]
BAD = ["dull", "flat", "tired", "clumsy", "noisy", "stale", "empty", "wooden"]


def reviews(number, seed, words=4):
    """Films with words of one of two opinions, beside others."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(number):
        label = rng.integers(2)
        own = rng.choice((BAD, GOOD)[label], words)
        texts.append(" ".join(["film", *own, *(f"name{i}" for i in rng.integers(60, size=2))]))
        labels.append(("bad", "good")[label])
    return texts, labels


X, Y = reviews(30, 0, words=1)  # with 10, each seed learns something else
UNLABELLED = reviews(1000, 1)[0]
TEST = reviews(400, 2, words=1)
SMALL = dict(d_model=16, epochs=20)


def fitted(**arguments):
    threads = arguments.pop("threads", None)
    return TextClassifier(**SMALL, threads=threads).fit(X, Y, **arguments)


def test_texts_without_labels_teach_words_that_no_labelled_text_has():
    alone, helped = fitted(), fitted(unlabelled=UNLABELLED)
    assert helped.evaluate(*TEST)["accuracy"] > alone.evaluate(*TEST)["accuracy"] + 0.1
    assert helped.evaluate(*TEST)["accuracy"] > 0.8


def test_the_weights_depend_on_the_texts_and_the_seed_and_not_on_the_threads():
    first = fitted(unlabelled=UNLABELLED, threads=1).model_.embedding
    assert (fitted(unlabelled=iter(UNLABELLED), threads=3).model_.embedding == first).all()
    for other in (dict(seed=1), dict(unlabelled=[*UNLABELLED[:-1], "another film"])):
        again = fitted(**{"unlabelled": UNLABELLED, **other}).model_.embedding
        assert again.shape != first.shape or (again != first).any()


def test_the_vocabulary_lacks_what_only_two_texts_without_labels_have():
    clf = fitted(unlabelled=[*UNLABELLED, "zebra once", "zebra twice", "rare", "rare", "rare"])
    vocabulary = set(clf.tokenizer_.vocabulary)
    assert "zebra" not in vocabulary
    assert "rare" in vocabulary
    assert set(" ".join(X).split()) <= vocabulary


def test_several_labels_per_text_and_a_given_tokenizer():
    labels = [[label] for label in Y]
    clf = TextClassifier(**SMALL).fit(X, labels, unlabelled=UNLABELLED)
    assert clf.multi_label_
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = {"[UNK]": 0, **{w: i for i, w in enumerate([*GOOD, *BAD, "film"], 1)}}
    given = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    given.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    clf = TextClassifier(**SMALL, tokenizer=given).fit(X, Y, unlabelled=UNLABELLED)
    assert isinstance(clf.tokenizer_, HubTokenizer)
    assert clf.evaluate(*TEST)["accuracy"] > 0.9


def test_what_follows_fit_works_as_before(tmp_path):
    clf = fitted(unlabelled=UNLABELLED)
    clf.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text("utf-8")
    assert "texts without labels that training began with: 1,000" in card
    loaded = TextClassifier.from_pretrained(tmp_path)
    assert loaded.history_.num_unlabelled == 1000
    assert (loaded.logits(TEST[0]) == clf.logits(TEST[0])).all()
    loaded.partial_fit(["zither music"] * 5, ["music"] * 5)
    assert loaded.predict("zither music") == "music"
    assert loaded.evaluate(*TEST)["accuracy"] > 0.85


def test_callbacks_see_the_training_on_labels_alone():
    seen = []
    fitted(unlabelled=UNLABELLED, callbacks=[seen.append])
    alone = []
    fitted(callbacks=[alone.append])
    # The second run has as many epochs as were best in the first.
    assert seen[0].epochs == alone[0].epochs
    assert [p.epoch for p in seen[: seen[0].epochs]] == [p.epoch for p in alone[: seen[0].epochs]]


def test_held_out_labels_are_not_used_before_they_are_predicted(monkeypatch):
    used = []
    learn = self_training._pseudo_labeled

    def spy(data, *rest):
        used.append(len(data.rows))
        return learn(data, *rest)

    monkeypatch.setattr(self_training, "_pseudo_labeled", spy)
    texts, labels = reviews(100, 3)
    clf = TextClassifier(**SMALL, validation_fraction=0.2)
    clf.fit(texts, labels, unlabelled=UNLABELLED)
    assert len(used) == 1
    assert used[0] < 85


def test_an_interrupted_training_continues_to_the_same_bits(tmp_path):
    texts, labels = reviews(40, 3)
    whole = TextClassifier(**SMALL).fit(texts, labels, unlabelled=UNLABELLED)
    file, calls = tmp_path / "state.safetensors", []

    def interrupt(progress):
        calls.append(progress)
        if len(calls) == 25:  # in the second run
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        TextClassifier(**SMALL).fit(
            texts, labels, unlabelled=UNLABELLED, checkpoint=file, callbacks=[interrupt]
        )
    with pytest.raises(ValueError, match="vectors"):
        TextClassifier(**SMALL).fit(
            texts, labels, unlabelled=UNLABELLED[1:], checkpoint=file, resume=True
        )
    again = TextClassifier(**SMALL).fit(
        texts, labels, unlabelled=UNLABELLED, checkpoint=file, resume=True
    )
    assert (again.model_.embedding == whole.model_.embedding).all()


@pytest.mark.parametrize(
    ("unlabelled", "error", "message"),
    [
        ("a film", TypeError, "unlabelled: expected a list of str, got a single str"),
        (["a film", None], TypeError, r"unlabelled\[1\]: expected str, got None"),
        (np.zeros((2, 2)), TypeError, "unlabelled: expected one column"),
        ([], ValueError, "unlabelled: expected at least one text, got none"),
    ],
)
def test_what_is_not_a_list_of_texts_is_refused(unlabelled, error, message):
    with pytest.raises(error, match=message):
        fitted(unlabelled=unlabelled)


def test_two_sources_of_initial_vectors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="vectors and unlabelled: both give the initial vectors"):
        fitted(unlabelled=UNLABELLED, vectors=tmp_path / "words.vec")


def test_the_page_has_the_measured_table_and_its_code_runs(capsys):
    root = Path(__file__).parents[2]
    page = (root / "docs" / "few-labels.md").read_text("utf-8")
    assert (root / "results" / "unlabelled" / "table.md").read_text("utf-8") in page
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "few-labels.md", "exec"), {})
    assert f"# {capsys.readouterr().out}" == code.splitlines(keepends=True)[-1]
