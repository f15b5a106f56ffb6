"""The rows of a text: by hand, in plain Python, and by fastText itself."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperagg.classifier.interop.fasttext_tokenizer import FastTextTokenizer

WORDS = ["the", "</s>", "naïve", "東京", "cat", "dog"]
LABELS = ["__label__a", "#b"]


def make(words=WORDS, labels=LABELS, **settings):
    return FastTextTokenizer(words, labels, **settings)


def rows(tokenizer, text):
    return tokenizer.encode([text]).token_ids.tolist()


SMALL = dict(minn=2, maxn=3, word_ngrams=3, bucket=1000)
# The rows by fastText 0.9.2 of these words and lines, with these settings.
BY_FASTTEXT = {
    "naïve": [2, 661, 896, 118, 552, 756, 838, 409, 576, 618, 660, 496, 1, 240],
    "東京": [3, 1003, 667, 293, 721, 719, 1, 964],
    "zzé": [281, 873, 379, 239, 55, 395, 787, 1, 930],
    "дом": [109, 927, 781, 801, 549, 817, 659, 1, 432],
    "the naïve 東京 cat": [
        *(0, 947, 157, 95, 986, 260, 286, 496, 2, 661, 896, 118, 552, 756, 838, 409, 576, 618, 660),
        *(496, 3, 1003, 667, 293, 721, 719, 4, 518, 753, 951, 37, 142, 112, 621, 1, 133, 298, 46),
        *(237, 514, 835, 988),
    ],
    "": [1],
}


@pytest.mark.parametrize("text", BY_FASTTEXT)
def test_rows_recorded_from_fasttext(text):
    assert rows(make(**SMALL), text) == BY_FASTTEXT[text]


def test_by_hand():
    # Published vectors of 32-bit FNV-1a of "a" and "fo", and that of "</s>", as signed numbers.
    a, fo, end = 0xE40C292C - 2**32, 0x6222E842, 0xD79C9359 - 2**32
    assert rows(make(["a", "</s>"], [], word_ngrams=2, bucket=1000), "a fo") == [
        *(0, 1),
        2 + (a * 116049371 + fo) % 2**64 % 1000,
        2 + (fo * 116049371 + end) % 2**64 % 1000,
    ]
    # One character: neither "<" nor ">" alone; é, of two bytes that are negative as signed chars.
    value = 0x811C9DC5
    for byte in "é".encode():
        value = (value ^ (byte | 0xFFFFFF00)) * 16777619 % 2**32
    assert rows(make(["</s>"], [], minn=1, maxn=1, bucket=1000), "é") == [1 + value % 1000, 0]


def test_a_line_ends_at_its_end_and_labels_are_skipped():
    plain = make()
    assert rows(plain, "the cat") == [0, 4, 1]
    assert rows(plain, "the\n\tcat\r\n \0dog\v\f") == [0, 4, 5, 1]
    assert rows(plain, "cat </s> dog") == [4, 1]
    assert rows(plain, "The unknown\u00a0cat") == [1]  # neither lower-cased nor split there
    assert rows(plain, "__label__a cat __label__new #b") == [4, 1]
    assert rows(make(["__label__w"], ["#b"]), "__label__w") == [0]  # a word of the dictionary
    assert rows(make(["cat"], []), "unknown") == []
    # A label does not separate a word pair, an unknown word does.
    pairs = make(word_ngrams=2, bucket=50)
    assert rows(pairs, "cat __label__a dog") == rows(pairs, "cat #b dog") == rows(pairs, "cat dog")
    assert rows(pairs, "cat zz dog")[:3] == [4, 5, 1]
    assert len(rows(pairs, "cat zz dog")) == 3 + 3


def by_hand(text, words, labels, minn, maxn, word_ngrams, bucket):
    """The rows of a text, and the words they stand for, in plain Python."""

    def fnv(raw):
        value = 2166136261
        for byte in raw:
            value = (value ^ (byte - 256 if byte > 127 else byte)) % 2**32 * 16777619 % 2**32
        return value

    ids, owners, hashes = [], [], []
    for word in [*(w for w in re.split("[ \t\n\r\v\f\0]", text) if w), "</s>"]:
        if word not in labels and (word in words or not word.startswith("__label__")):
            rows = [words.index(word)] if word in words else []
            whole = f"<{word}>" if word != "</s>" else ""
            for i in range(len(whole)):
                for size in range(max(minn, 1), min(maxn, len(whole) - i) + 1):
                    ngram = whole[i : i + size]
                    if size > 1 or 0 < i < len(whole) - 1:
                        rows.append(len(words) + fnv(ngram.encode()) % bucket)
            ids += rows
            owners += [(len(hashes), len(hashes))] * len(rows)
            value = fnv(word.encode())
            hashes.append(value - 2**32 if value >= 2**31 else value)
        if word == "</s>":
            break
    for i in range(len(hashes)):
        value = hashes[i]
        for j in range(i + 1, min(len(hashes), i + word_ngrams)):
            value = value * 116049371 + hashes[j]
            ids.append(len(words) + value % 2**64 % bucket)
            owners.append((i, j))
    return ids, owners


# Words, labels and spaces, and any other text.
pieces = st.sampled_from([*WORDS, *LABELS, "__label__z", " ", "\n", "\0", "\t\f", "ï", "<", ">"])
any_text = st.lists(pieces | st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
line = any_text.map("".join)
settings = st.fixed_dictionaries(
    {
        "minn": st.integers(0, 4),
        "maxn": st.integers(0, 6),
        "word_ngrams": st.integers(0, 4),
        "bucket": st.sampled_from([1, 7, 1000, 2**31 - 100]),
    }
)


@given(st.lists(line, max_size=4), settings)
@example(["the cat"], dict(minn=0, maxn=1000, word_ngrams=1000, bucket=1))
def test_it_equals_the_plain_python(texts, settings):
    tokenizer = make(**settings)
    ragged = tokenizer.encode(texts)
    assert ragged.token_ids.dtype == np.int32
    parts = np.split(ragged.token_ids, ragged.cu_seqlens[1:-1])[: len(texts)]
    expected = [by_hand(text, WORDS, LABELS, **settings) for text in texts]
    assert [part.tolist() for part in parts] == [ids for ids, _ in expected]
    for text, (_, owners) in zip(texts, expected):
        assert [tuple(pair) for pair in tokenizer.align(text).owners.tolist()] == owners


def test_spans_and_owners_of_words():
    text = " naïve\n東京  __label__a zz"
    spans, owners = make(word_ngrams=2, bucket=9).align(text)
    assert [text[begin:end] for begin, end in spans] == ["naïve", "東京", "zz", ""]
    assert spans[-1] == (len(text), len(text))
    assert owners.tolist() == [[0, 0], [1, 1], [3, 3], [0, 1], [1, 2], [2, 3]]
    cut = "a </s> b"
    assert make().align(cut).spans == [(0, 1), (2, 6)]


def test_text_that_utf_8_cannot_encode():
    assert rows(make(["?", "</s>"]), "\ud800 \udcff") == [0, 0, 1]
    assert make().align("\ud800 cat").spans == [(0, 1), (2, 5), (5, 5)]


def test_vocabulary_names_every_row():
    tokenizer = make(["the", "</s>", "b\udcff"], word_ngrams=2, bucket=2)
    names = ["the", "</s>", "b\ufffd", "[bucket 0]", "[bucket 1]"]
    assert tokenizer.vocabulary == names and len(tokenizer) == 5


# Lone surrogates stand for bytes that are not UTF-8.
entries = st.lists(
    st.binary(max_size=6).map(lambda raw: raw.decode("utf-8", "surrogateescape")), unique=True
)


@given(entries, st.lists(line, max_size=4), settings)
def test_json_round_trip(words, texts, settings):
    tokenizer = make(words, [], **settings)
    text = tokenizer.to_json()
    assert text.isascii() and json.loads(text)["kind"] == "hyperagg.FastTextTokenizer"
    again = FastTextTokenizer.from_json(text)
    assert (again.words, again.labels, again.to_json()) == (words, [], text)
    assert again.encode(texts).token_ids.tolist() == tokenizer.encode(texts).token_ids.tolist()


BAD_JSON = {
    "not JSON": "{",
    "a list": "[]",
    "another tokenizer": '{"model": {"type": "WordLevel"}}',
    "no words": {"words": None},
    "words that are numbers": {"words": [1]},
    "a word twice": {"words": ["a", "b", "a"]},
    "a word that is a label": {"words": ["__label__a"]},
    "no bucket": {"bucket": None},
    "n-grams without rows": {"bucket": 0},
    "a negative size": {"minn": -1},
    "a fraction": {"maxn": 1.5},
    "a boolean": {"word_ngrams": True},
    "too many rows": {"bucket": 2**31 - 1},
    "a lone surrogate that does not stand for a byte": {"words": ["\ud800"]},
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_other_json_is_refused(case):
    text = BAD_JSON[case]
    if isinstance(text, dict):
        text = json.dumps({**json.loads(make(**SMALL).to_json()), **text})
    with pytest.raises(ValueError) as error:
        FastTextTokenizer.from_json(text)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """fastText models of a few lines, by the number of words and characters in n-grams."""
    fasttext = pytest.importorskip("fasttext", reason="pip install 'hyperagg[baselines]'")
    file = tmp_path_factory.mktemp("fasttext") / "lines.txt"
    file.write_text("__label__a the naïve 東京 cat\n__label__b the dog\n", encoding="utf-8")
    models = {}

    def train(word_ngrams, minn, maxn):
        key = word_ngrams, minn, maxn
        if key not in models:
            models[key] = fasttext.train_supervised(
                *(str(file),),
                **dict(wordNgrams=word_ngrams, minn=minn, maxn=maxn, bucket=500, dim=8),
                **dict(epoch=1, thread=1, verbose=0),
            )
        return models[key], fasttext.FastText.fasttext.Vector(8)

    return train


@given(
    line.map(lambda text: text.replace("\n", " ")),
    *(st.integers(1, 3), st.integers(0, 3), st.integers(0, 4)),
)
def test_it_equals_fasttext(real, text, word_ngrams, minn, maxn):
    model, vector = real(word_ngrams, minn, maxn)
    words = model.f.getVocab("strict")[0]
    labels = model.f.getLabels("strict")[0]
    matrix = np.array(model.f.getInputMatrix())
    tokenizer = make(
        *(words, labels),
        **dict(minn=minn, maxn=maxn, word_ngrams=word_ngrams, bucket=len(matrix) - len(words)),
    )
    # The mean of random rows determines which rows occurred, and how often.
    model.f.getSentenceVector(vector, text + "\n")
    ids = tokenizer.encode([text]).token_ids
    assert np.allclose(np.array(vector), matrix[ids].mean(0), atol=1e-6)
