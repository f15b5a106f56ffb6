from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend

from hyperagg.text import (
    UNKNOWN,
    WORD_PATTERN,
    HubTokenizer,
    Ragged,
    WordTokenizer,
    read_tokenizer,
    scan,
)
from hyperagg.text.hash_table import count_hashes

# Surrogates are no text: UTF-8 cannot hold them.
texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=6)


def cut(tokenizer, text):
    return [tokenizer.vocabulary[i] for i in tokenizer.encode([text]).token_ids]


@given(texts)
def test_the_scan_is_the_regular_expression(given_texts):
    tokenizer = WordTokenizer.train(given_texts)
    for text in given_texts:
        assert cut(tokenizer, text) == WORD_PATTERN.findall(text.lower())


def test_cases_by_hand():
    text = "Don't  stop_me — “naïve” CAFÉ\u00a0№5, 東京。\tx1\n\x1cy"
    want = "don ' t stop_me — “ naïve ” café № 5 , 東京 。 x1 y".split()  # noqa: SIM905
    assert cut(WordTokenizer.train([text]), text) == want


def test_vocabulary_is_by_falling_use_then_first_appearance():
    tokenizer = WordTokenizer.train(["b a", "c a b", "c d"])
    assert tokenizer.vocabulary == [UNKNOWN, "b", "a", "c", "d"]
    assert WordTokenizer.train(["b a", "c a b"], max_words=2).vocabulary == [UNKNOWN, "b", "a"]
    assert WordTokenizer.train(["b a", "c a b"], min_count=2).vocabulary == [UNKNOWN, "b", "a"]


def test_unknown_words_are_id_0():
    tokenizer = WordTokenizer.train(["one two"])
    assert tokenizer.encode(["two zwei one", ""]).token_ids.tolist() == [2, 0, 1]
    assert WordTokenizer([UNKNOWN]).encode(["a b"]).token_ids.tolist() == [0, 0]
    with pytest.raises(ValueError, match="vocabulary"):
        WordTokenizer(["a"])


@given(texts, st.sampled_from([0, 1000]))
def test_tokenizer_json_keeps_the_vocabulary(given_texts, grams):
    tokenizer = WordTokenizer.train(given_texts, max_ngrams=grams)
    again = read_tokenizer(tokenizer.to_json())
    assert isinstance(again, WordTokenizer)
    assert again.vocabulary == tokenizer.vocabulary
    ids = again.encode(given_texts).token_ids
    assert ids.tolist() == tokenizer.encode(given_texts).token_ids.tolist()


def grams_of(text):
    """Words, each followed by its grams, in the plainest Python."""
    out, words = [], WORD_PATTERN.findall(text.lower())
    for i, word in enumerate(words):
        out.append(word)
        if i:
            out.append(f"{words[i - 1]} {word}")
        if len(word) > 5:
            out += [f"{word[:5]}*", f"*{word[-3:]}"]
    return out


@given(texts)
def test_grams_are_pairs_beginnings_and_endings(given_texts):
    tokenizer = WordTokenizer.train(given_texts, max_ngrams=10_000)
    for text in given_texts:
        assert cut(tokenizer, text) == grams_of(text)


def test_unknown_grams_are_left_out():
    tokenizer = WordTokenizer.train(["crude petroleum rose"], max_ngrams=10)
    assert cut(tokenizer, "petrol rose") == ["[UNK]", "petro*", "rose"]
    known = cut(tokenizer, "petroleum rose")
    assert known == ["petroleum", "petro*", "*eum", "rose", "petroleum rose"]
    few = WordTokenizer.train(["a b c", "a b"], max_ngrams=1)
    assert few.vocabulary == [UNKNOWN, "a", "b", "c", "a b"]


def test_a_tally_counts_more_than_one_chunk_of_hashes():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 200_000, 700_000).astype(np.uint64)
    counts, firsts = count_hashes(hashes)
    wanted, first, number = np.unique(hashes[hashes > 0], return_index=True, return_counts=True)
    order = np.argsort(hashes[firsts])
    assert np.array_equal(hashes[firsts][order], wanted)
    assert np.array_equal(counts[order], number)
    assert np.array_equal(firsts[order], np.flatnonzero(hashes > 0)[first])


def test_the_tokenizers_library_reads_it_alike():
    text = "Shares rose 3.5%, said Müller & Co. (NYSE: MUE)"
    tokenizer = WordTokenizer.train([text])
    hub = HubTokenizer(Backend.from_str(tokenizer.to_json()))
    assert hub.vocabulary == tokenizer.vocabulary
    for other in (text, "Müller fell; unknown words too"):
        assert (
            hub.encode([other]).token_ids.tolist() == tokenizer.encode([other]).token_ids.tolist()
        )


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


def test_many_texts_are_cut_by_threads_as_one_by_one(monkeypatch):
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
