"""Texts of any script: normalization, segmentation and n-grams."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperagg.text import WordTokenizer, ngram_mask, stable_length
from hyperagg.text.characters import (
    EXTEND,
    MARK,
    REGIONAL,
    SINGLE,
    SPACE,
    WORD,
    class_of,
)
from hyperagg.text.normalization import normalize, source_characters
from hyperagg.text.scan import new_context

FORMS = ("NFC", "NFD")
# Letters with marks, jamo, scripts without spaces, emoji of several characters, and format
# characters; UTF-8 cannot encode surrogates.
CHARACTERS = (
    "aZé\u0301\u0338=<ΣςσİIß.'_9 \n\u2003*漢字カタｶﾞー각\u1100\u1161\u11a8สวั\u0e49คำหลักहिन्दी"
    "שָׁמע\u200d\u200c\u00ad\u200b\ufeff\ufe0f👩👧🏽🇫🇷❤1\u20e3ﬁＡ；"
)
PIECES = st.text(st.sampled_from(CHARACTERS), max_size=12) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=12
)
MODES = st.sampled_from(["words", "ngrams", "chars"])


def words_of(text):
    """The definition, in plain Python."""
    words, before = [], SPACE
    for character in normalize(text):
        kind = class_of(character)
        joined = before != SPACE and (
            kind == EXTEND
            or (kind == before == WORD)
            or (kind == before == REGIONAL)
            or (kind == MARK and before in (MARK, SINGLE) and words[-1][-1] == "\u200d")
        )
        if joined:
            words[-1] += character
            before = MARK if kind == REGIONAL else before
        else:
            if kind != SPACE:
                words.append(character)
            before = WORD if kind == EXTEND else kind
    return words


def characters_of(word):
    """The characters of a word with their combining marks."""
    out = [word[0]]
    for character in word[1:]:
        if class_of(character) == EXTEND:
            out[-1] += character
        else:
            out.append(character)
    return out


def is_single(word):
    return class_of(word[0]) == SINGLE


def ngrams_of(words, features):
    """Every word, followed by its n-grams, in plain Python and as a set for each word."""
    out = []
    for i, word in enumerate(words):
        own = {word}
        if features != "words":
            if i:
                blank = "" if is_single(words[i - 1]) and is_single(word) else " "
                own.add(words[i - 1] + blank + word)
            for n in (3, 4):
                part = words[max(0, i - n + 1) : i + 1]
                if len(part) == n and all(map(is_single, part)):
                    own.add("".join(part))
        letters = characters_of(word)
        if class_of(word[0]) == WORD and features == "ngrams" and len(letters) > 5:
            own |= {"".join(letters[:5]) + "*", "*" + "".join(letters[-3:])}
        if class_of(word[0]) == WORD and features == "chars":
            for n in range(1, 5):
                own |= {f"*{''.join(letters[k : k + n])}*" for k in range(len(letters) - n + 1)}
            for n in range(1, min(3, len(letters)) + 1):
                own |= {"".join(letters[:n]) + "*", "*" + "".join(letters[-n:])}
        out.append(own)
    return out


@given(PIECES, MODES)
def test_the_scan_is_its_definition(text, features):
    tokenizer = WordTokenizer.train([text, text], max_ngrams=10_000, features=features)
    ids = tokenizer.encode([text]).token_ids
    entries = [tokenizer.vocabulary[i] for i in ids]
    mask = ngram_mask(tokenizer)[ids]
    words = words_of(text)
    assert [entry for entry, is_ngram in zip(entries, mask) if not is_ngram] == words
    starts = np.flatnonzero(~mask).tolist()
    found = [set(entries[a:b]) for a, b in zip(starts, [*starts[1:], len(entries)])]
    assert found == ngrams_of(words, features)


@given(st.lists(PIECES, min_size=1, max_size=4), MODES, st.sampled_from(FORMS))
@example(["é = =\u0338"], "chars", "NFD")
def test_canonically_equivalent_texts_have_the_same_ids(texts, features, form):
    tokenizer = WordTokenizer.train(texts, max_ngrams=1000, features=features)
    equivalent = [unicodedata.normalize(form, text) for text in texts]
    again = WordTokenizer.train(equivalent, max_ngrams=1000, features=features)
    assert again.vocabulary == tokenizer.vocabulary
    ids = tokenizer.encode(texts).token_ids
    assert tokenizer.encode(equivalent).token_ids.tolist() == ids.tolist()


def test_every_character_is_equivalent_to_its_decomposition():
    for code in (*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200)):
        text = f"A{chr(code)}b"
        assert normalize(unicodedata.normalize("NFD", text)) == normalize(text), hex(code)


@pytest.mark.parametrize("mark", ["\u0323", "\u0f73", "\u0f75", "\u0f81", "\uff9e", "\ufb1e"])
def test_many_marks_are_ordered_in_parts(mark):
    # Ordered at once, twice as many marks take four times as long: 100,000 of them a minute.
    text = "é" + "\u0301" * 256 + mark * 256 + "\u0316" + "é = \u0338"
    parts = "é" + "\u0301" * 256, mark * 256, "\u0316é = \u0338"
    if mark == "\u0f81":  # it stands for two marks
        assert len(normalize(mark)) == 2
    assert normalize(text) == "".join(map(normalize, parts))
    assert len(source_characters(text)) == len(normalize(text))


@given(st.lists(PIECES, max_size=6), MODES)
@example(["e", "\u0301"], "words")
@example(["=", "\u0338"], "words")
@example(["👩", "\u200d", "👧"], "ngrams")
@example(["🇫", "🇷🇫", "🇷"], "ngrams")
@example(["カ", "\uff9e"], "chars")
def test_a_text_in_pieces_has_the_ids_of_the_whole(pieces, features):
    whole = "".join(pieces)
    tokenizer = WordTokenizer.train([whole, whole], max_ngrams=1000, features=features)
    ids, context, unfinished = [], new_context(), ""
    for piece in pieces:
        unfinished += piece
        end = stable_length(unfinished)
        assert end == stable_length(unfinished, len(unfinished) - len(piece))
        ids += tokenizer.encode_continuation(unfinished[:end], context)[0].tolist()
        unfinished = unfinished[end:]
    ids += tokenizer.encode_continuation(unfinished, context)[0].tolist()
    assert ids == tokenizer.encode([whole]).token_ids.tolist()


def test_stable_length():
    cases = {"": 0, "oil": 0, "oil ": 4, "oil. pri": 5, "a ΟΔΟΣ'": 6, "漢字": 1, "a. 漢字か": 5}
    assert {text: stable_length(text) for text in cases} == cases


@given(PIECES, MODES)
def test_alignment_covers_the_characters_of_each_word(text, features):
    tokenizer = WordTokenizer.train([text, text], max_ngrams=1000, features=features)
    spans, owners = tokenizer.align(text)
    words = words_of(text)
    assert len(spans) == len(words)
    assert len(owners) == len(tokenizer.encode([text]).token_ids)
    assert set(owners.ravel().tolist()) == set(range(len(spans)))
    for (begin, end), word in zip(spans, words):
        assert 0 <= begin < end <= len(text)
        assert word in normalize(text[begin:end])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ภาษาไทย", ["ภ", "า", "ษ", "า", "ไ", "ท", "ย"]),
        ("ที่นี่ ครับ", ["ที่", "นี่", "ค", "รั", "บ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("مُحَمَّد می‌خواهم", ["مُحَمَّد", "می‌خواهم"]),
        ("שָׁלוֹם עולם", ["שָׁלוֹם", "עולם"]),
        ("北京大学, ok", ["北", "京", "大", "学", ",", "ok"]),
        ("東京タワーへ", ["東", "京", "タ", "ワ", "ー", "へ"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("ok👩‍👩‍👧👍🏽 🇫🇷🇩🇪 ❤️ 1️⃣", ["ok", "👩‍👩‍👧", "👍🏽", "🇫🇷", "🇩🇪", "❤️", "1️⃣"]),
        ("ex\u00adample zero\u200bwidth", ["ex\u00adample", "zero\u200bwidth"]),
        ("cafe\u0301, ﬁne ＡＢＣ１", ["cafe\u0301", ",", "ﬁne", "ＡＢＣ１"]),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_words_are_shown_whole(text, words, form):
    text = unicodedata.normalize(form, text)
    tokenizer = WordTokenizer.train([text, text], max_ngrams=1000, features="chars")
    spans, _ = tokenizer.align(text)
    assert [text[a:b] for a, b in spans] == [unicodedata.normalize(form, word) for word in words]


def test_presentation_forms_are_what_they_stand_for():
    pairs = {"ﬁ": "fi", "ＡＢ１": "ab1", "ｶﾞ": "ガ", "ﻣﺤﻤﺪ": "محمد", "x²": "x²", "ΟΔΟΣ": "οδοσ"}
    assert {text: normalize(text) for text in pairs} == pairs


def test_a_long_word_has_a_bounded_number_of_ngrams():
    tokenizer = WordTokenizer.train(["ab" * 5000] * 2, max_ngrams=100, features="chars")
    assert tokenizer.encode(["ab" * 5000]).lengths[0] <= 2 + 4 * 64 + 6


def test_texts_of_rare_words_have_ngrams_of_characters():
    rng = np.random.default_rng(0)
    rare = ["".join(rng.choice(list("abcdef"), 7)) for _ in range(400)]
    for texts, max_ngrams, chosen in (
        (rare, 1000, "chars"),
        (rare * 2, 1000, "ngrams"),
        (["漢字仮名交文"] * 2, 1000, "ngrams"),
        (rare, 0, "words"),
    ):
        tokenizer = WordTokenizer.train(texts, max_ngrams=max_ngrams, features="auto")
        assert tokenizer.features == chosen
