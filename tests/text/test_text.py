from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._numba.threads import limit_threads
from hyperagg.text import (
    UNKNOWN,
    Ragged,
    WordTokenizer,
    entries,
    read_tokenizer,
    register_tokenizer,
    scan,
    tokenizers,
)

# UTF-8 cannot encode surrogates.
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6)


def tokens_of(tokenizer, text):
    return [tokenizer.vocabulary[i] for i in tokenizer.encode([text]).token_ids]


def test_cases_by_hand():
    text = "Don't  stop_me — “naïve” CAFÉ\u00a0№5, 東京。\tx1\n\x1cy"
    want = "don ' t stop_me — “ naïve ” café № 5 , 東 京 。 x1 y".split()  # noqa: SIM905
    assert tokens_of(WordTokenizer.train([text]), text) == want


def test_vocabulary_is_ordered_by_frequency_then_first_appearance():
    tokenizer = WordTokenizer.train(["b a", "c a b", "c d"])
    assert tokenizer.vocabulary == [UNKNOWN, "b", "a", "c", "d"]
    assert WordTokenizer.train(["b a", "c a b"], max_words=2).vocabulary == [UNKNOWN, "b", "a"]
    assert WordTokenizer.train(["b a", "c a b"], min_count=2).vocabulary == [UNKNOWN, "b", "a"]


def test_unknown_words_have_id_0():
    tokenizer = WordTokenizer.train(["one two"])
    assert tokenizer.encode(["two zwei one", ""]).token_ids.tolist() == [2, 0, 1]
    assert WordTokenizer([UNKNOWN]).encode(["a b"]).token_ids.tolist() == [0, 0]
    with pytest.raises(ValueError, match="vocabulary"):
        WordTokenizer(["a"])


@given(texts, st.sampled_from(["words", "ngrams", "chars"]))
def test_tokenizer_json_keeps_the_vocabulary(given_texts, features):
    tokenizer = WordTokenizer.train(given_texts, max_ngrams=1000, features=features)
    again = read_tokenizer(tokenizer.to_json())
    assert isinstance(again, WordTokenizer)
    assert (again.vocabulary, again.features) == (tokenizer.vocabulary, features)
    ids = again.encode(given_texts).token_ids
    assert ids.tolist() == tokenizer.encode(given_texts).token_ids.tolist()


@pytest.mark.parametrize("features", ["words", "ngrams", "chars"])
def test_words_of_any_length_are_found_beside_any_neighbor(features):
    # The scan reads eight bytes at a time, across the end of a word and of a text.
    letters = "the_quick7brown0fox9jumps2over5lazy4dogs8and1more6words3here_zzzzzzzzz"
    words = [letters[:length] for length in range(1, len(letters) + 1)]
    words += [word[:-1] + "é" for word in words] + ["é" + word for word in words]
    tokenizer = WordTokenizer.train([" ".join(words)] * 2, 10_000, 1, 10_000, features)
    ids = {word: tokenizer.vocabulary.index(word) for word in words}

    def of_words(texts: list[str]) -> list[list[int]]:
        rows = tokenizer.encode(texts)
        found = np.split(rows.token_ids, rows.cu_seqlens[1:-1])
        return [[i for i in row.tolist() if i in known] for row in found]

    known = set(ids.values())
    expected = [[ids[word]] for word in words]
    # In one array, where the texts touch each other.
    assert of_words(words) == expected
    assert of_words([word.upper() for word in words]) == expected
    for before, after in (" ", " "), ("(", ")"), ("\t", "\n"), ("", "。"):
        texts = [f"{before}{word}{after}" for word in words]
        assert of_words(texts) == expected


def test_hashes_of_similar_words_differ_and_fill_a_table_evenly():
    letters = "abcdefghijklmnopqrstuvwxyz"
    similar = [
        [f"aaaaaaa{a}aaa{b}aaa{c}" for a in letters for b in letters for c in letters],
        [f"item{i:04}" for i in range(10_000)],
        [f"{i:08}" for i in range(20_000)],
        [f"{i:016x}" for i in range(0, 2_000_000, 97)],
        [str(1_700_000_000_000_000 + 4_003 * i) for i in range(20_000)],
        [f"{a}{b}*" for a in letters for b in letters],
        [f"*{a}{b}{c}{d}*" for a in letters for b in letters for c in "aeiou" for d in letters],
        [f"{a}{b} {c}{d}" for a in letters for b in letters for c in "aeiou" for d in letters],
    ]
    slots = 1 << 16
    for words in similar:
        hashes = entries.hash_vocabulary(words)[0]
        assert len(np.unique(hashes)) == len(words), words[0]
        filled = len(np.unique(hashes & np.uint64(slots - 1)))
        expected = slots * (1 - np.exp(-len(words) / slots))  # of random hashes
        assert filled > 0.97 * expected, words[0]


def test_ngrams_of_characters_have_a_fixed_order():
    # What is learned depends on it to the last bit.
    tokenizer = WordTokenizer.train(["abc abc"], 100, 1, 100, "chars")
    ids = tokenizer.encode(["abc"]).token_ids
    tokens = [tokenizer.vocabulary[i] for i in ids]
    assert tokens[-6:] == ["a*", "*c", "ab*", "*bc", "abc*", "*abc"]


def test_unknown_ngrams_are_left_out():
    tokenizer = WordTokenizer.train(["crude petroleum rose"], max_ngrams=10)
    assert tokens_of(tokenizer, "petrol rose") == ["[UNK]", "petro*", "rose"]
    known = tokens_of(tokenizer, "petroleum rose")
    assert known == ["petroleum", "petro*", "*eum", "rose", "petroleum rose"]
    few = WordTokenizer.train(["a b c", "a b"], max_ngrams=1)
    assert few.vocabulary == [UNKNOWN, "a", "b", "c", "a b"]


def test_words_are_counted_over_tables_that_grow_and_are_merged(monkeypatch):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in rng.integers(0, 60_000, 200_000)]
    texts = [" ".join(words[i : i + 20]) for i in range(0, len(words), 20)]
    expected = sorted(Counter(words).items(), key=lambda item: -item[1])  # by first appearance
    monkeypatch.setattr(scan, "_BYTES_PER_PART", 10_000)
    with limit_threads(3):
        tokenizer = WordTokenizer.train(texts, min_count=4)
    frequent = [word for word, number in expected if number >= 4]
    assert tokenizer.vocabulary == [UNKNOWN, *frequent]


@given(st.lists(st.lists(st.integers(1, 9), max_size=7), max_size=6), st.data())
def test_ragged_rows(rows, data):
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    flat = np.array([i for row in rows for i in row], dtype=np.int32)
    ragged = Ragged(flat, borders)

    def lists(one):
        return [part.tolist() for part in np.split(one.token_ids, one.cu_seqlens[1:-1])][: len(one)]

    picked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    assert lists(ragged.take(np.array(picked, dtype=np.int64))) == [rows[i] for i in picked]
    assert lists(ragged.truncate(3)) == [row[:3] for row in rows]
    assert ragged.padded(4).tolist() == [(row[:4] + [0] * 4)[:4] for row in rows]
    assert ragged.padded(4, front=True).tolist() == [([0] * 4 + row[-4:])[-4:] for row in rows]


def test_threads_give_the_ids_of_each_text_alone(monkeypatch):
    rng = np.random.default_rng(0)
    words = np.array(["petroleum", "a", "été", "rose,", "1986", "İ", "x-y"])
    many = [" ".join(rng.choice(words, n)) for n in rng.integers(0, 9, 500)]
    alone = WordTokenizer.train(many, max_ngrams=1000)
    rows = [alone.encode([text]).token_ids.tolist() for text in many]
    monkeypatch.setattr(scan, "_BYTES_PER_PART", 1000)
    parted = WordTokenizer.train(many, max_ngrams=1000)
    assert parted.vocabulary == alone.vocabulary
    got = parted.encode(many)
    assert [part.tolist() for part in np.split(got.token_ids, got.cu_seqlens[1:-1])] == rows


EARLIER = json.dumps(
    {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"\w+|[^\w\s]"}},
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0, "oil": 1}, "unk_token": "[UNK]"},
    }
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "expected a JSON object"),
        ('{"kind": "nothing"}', "kind='nothing': expected"),
        ('{"kind": []}', "kind="),
        ("[" * 100_000, "nested too deeply"),
        ("no JSON", "Expecting value"),
        ("{}", "model=None: expected an object"),
        ('{"model": {"vocab": {"a": 0}, "type": "X"}}', "not a tokenizer of the tokenizers"),
        (EARLIER, "written by an earlier version of hyperagg; train the model again"),
    ],
)
def test_read_tokenizer_refuses_other_files(text, message):
    with pytest.raises(ValueError, match=message):
        read_tokenizer(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": ["a"]}, "expected '\\[UNK\\]' as the first entry, got 'a'"),
        ({"vocabulary": []}, "as the first entry, got no entry"),
        ({"vocabulary": {"[UNK]": 0}}, "vocabulary: expected a list of strings"),
        ({"vocabulary": ["[UNK]", 1]}, "vocabulary: expected a list of strings"),
        ({"features": "letters"}, "features='letters': expected one of 'words'"),
        ({"features": ["words"]}, "features=\\['words'\\]: expected one of"),
    ],
)
def test_a_damaged_vocabulary_is_refused(change, message):
    description = json.loads(WordTokenizer([UNKNOWN, "a", "b"]).to_json())
    with pytest.raises(ValueError, match=message):
        read_tokenizer(json.dumps(description | change))


def test_tokenizers_are_read_by_kind(monkeypatch):
    monkeypatch.setattr(tokenizers, "_readers", {})
    own = WordTokenizer([UNKNOWN])
    register_tokenizer("test.Own", lambda text: own)
    assert read_tokenizer('{"kind": "test.Own"}') is own


def test_ngrams_of_characters_that_occur_once_are_kept_while_there_is_room():
    vocabulary = WordTokenizer.train(["abc abd"], max_ngrams=1000, features="chars").vocabulary
    assert {"abc", "abd", "*ab*", "*c*", "*d*"} <= set(vocabulary)
