"""The compiled normalization of texts equals that of single texts in Python."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from hyperagg.text.normalization import normalize, text_to_bytes, texts_to_bytes

CODES = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
DECOMPOSITIONS = [
    (chr(code), [chr(int(each, 16)) for each in decomposition.split()])
    for code in CODES
    if (decomposition := unicodedata.decomposition(chr(code))) and decomposition[0] != "<"
]
MARKS = sorted({part[1] for _, part in DECOMPOSITIONS if len(part) > 1} | set("\u1161\u11a8\u0e38"))
COMPOSED = sorted({character for character, _ in DECOMPOSITIONS})
# Composed letters, their parts, Hangul, and characters that are removed, replaced, lower-cased to
# other numbers of bytes, or not encoded in UTF-8.
CHARACTERS = st.sampled_from(
    [
        *COMPOSED,
        *MARKS,
        *(part[0] for _, part in DECOMPOSITIONS),
        *"각가\u1100\u11a9\u200b\u00ad\u200dﬁＡｶﾞςΣİȺßẞ漢😀 a<\ud800",
    ]
)


def check(texts):
    texts = [*texts, "é" * 500]  # fewer characters do not take the compiled loop
    data, borders = texts_to_bytes(texts)
    content = data.tobytes()
    found = [content[a:b] for a, b in zip(borders.tolist(), borders[1:].tolist())]
    assert found == [normalize(text).encode("utf-8", "replace") for text in texts]


def test_every_character_with_neighbors():
    for start in range(0, len(CODES), 50_000):
        check([f"A{chr(code)}\u0323Z{chr(code)}" for code in CODES[start : start + 50_000]])


def test_every_composed_letter_with_every_mark():
    check([letter + mark for letter in COMPOSED for mark in MARKS])


@given(st.lists(st.text(CHARACTERS, max_size=6), max_size=5))
@example(["\u1e97\u0331"])  # t with a diaeresis above, and a macron below
@example(["a" * 7 + "É" + "B" * 9, "", "\u0301"])
def test_texts_are_normalized_one_by_one(texts):
    check(texts)
    for text in [*texts, "".join(texts) + "é" * 500]:
        assert text_to_bytes(text).tolist() == texts_to_bytes([text])[0].tolist()


def test_only_one_text_in_many_has_marks_to_order():
    check(["plain", "Größe", "e\u0301", "Ё", "", "q\u0323\u0307\u0316", "ΟΔΟΣ"] * 40)


class _Text(str):
    """Such as a text with escape sequences, whose length is its width on a terminal."""

    __slots__ = ()

    def __len__(self):
        return 50_000_000


def test_the_length_of_a_subclass_of_str_is_not_believed():
    for text in "a good film", "é" * 600 + " film":
        assert text_to_bytes(_Text(text)).tolist() == text_to_bytes(text).tolist()
        for one, other in zip(texts_to_bytes([_Text(text), "b"]), texts_to_bytes([text, "b"])):
            assert one.tolist() == other.tolist()


def test_the_memory_goes_on_after_the_last_byte():
    # The scan reads eight bytes at a time.
    for data in texts_to_bytes(["a", "é"])[0], text_to_bytes("a"), text_to_bytes("é"):
        assert len(data.base) >= len(data) + 8
