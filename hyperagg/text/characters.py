"""Normalizes texts and classifies characters: what the scan reads and how it splits it.

    normalize(text)  =  NFC(lower(fold(text)))

Texts that are canonically equivalent, such as those with a composed and a decomposed é, have the
same normalized form. `fold` removes characters that only format a text (soft hyphen, zero-width
space and non-joiner, byte order mark, directional marks) and replaces presentation forms
(ligatures, Arabic letter forms, full-width and half-width characters) by what they stand for. Other
compatibility characters keep a meaning that their replacement lacks: x² is not x2. A final sigma
becomes a sigma, so that the lower-case form of a letter does not depend on its neighbors.

Source: Unicode Standard Annexes 15 (normalization forms) and 29 (text segmentation).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal

import numpy as np

from hyperagg._numba.cache import njit

__all__ = [
    "ASCII",
    "EXTEND",
    "FOLDED",
    "FORMATTING",
    "MARK",
    "REGIONAL",
    "SINGLE",
    "SPACE",
    "WORD",
    "class_at",
    "class_of",
    "classes",
    "normalize",
    "source_characters",
    "stable_length",
    "unassigned",
]

# A run of WORD characters is one token. A MARK, a SINGLE letter of a script that does not separate
# words, and a pair of REGIONAL indicators, which is a flag, are one token each. EXTEND characters,
# such as combining marks, continue the token before them.
SPACE, WORD, MARK, SINGLE, EXTEND, REGIONAL = range(6)

_UNSEPARATED = (
    (0x0E00, 0x109F),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x3005, 0x3007),
    (0x3021, 0x312F),  # Hiragana, Katakana, Bopomofo
    (0x31A0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xA9E0, 0xA9FF),
    (0xAA60, 0xAADF),  # Myanmar, Tai Viet
    (0xF900, 0xFAFF),
    (0x1AFF0, 0x1B16F),
    (0x20000, 0x3FFFF),
)
# Blocks of one class, which are not looked up character by character.
_HAN = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x3FFFF))
_HANGUL = (0xAC00, 0xD7A3)
_ASSIGNED = ((0, 0x33FF), (0xA000, 0xABFF), (0xD7A4, 0x1FFFF), (0xE0000, 0xE01FF))
_LAST = 0x10FFFF
_PAGE_BITS = 7

# Characters that are removed, and those that are replaced besides, for a character set of a regular
# expression.
FORMATTING = "\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
FOLDED = f"{FORMATTING}\ufb00-\ufdff\ufe70-\ufefe\uff00-\uffef"
_FOLDED = re.compile(f"[{FOLDED}]+")
_REMOVED = re.compile(f"[{FORMATTING}]+")
_ZERO_WIDTH_JOINER = "\u200d"
_VOWELS_AND_FINALS = range(0x1160, 0x1200)  # of Hangul, which compose with the letter before them

# The normalization forms sort consecutive combining marks in quadratic time, so they are given at
# most this number at a time.
_MAX_MARKS = 256
# Marks whose combining class is 0 although what they are normalized to has another one.
_MORE_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"
# No combining mark is a letter.
_MAYBE_MARKS = re.compile("[\\W\uff9e\uff9f]+")
_MAYBE_MARK = re.compile(r"[^\w\s\x00-\x7f]|[\uff9e\uff9f]")


def _classes() -> np.ndarray:
    """(0x110000,) uint8, the class of every code point, by its general category."""
    out = np.full(_LAST + 1, MARK, dtype=np.uint8)
    out[_HANGUL[0] : _HANGUL[1] + 1] = WORD
    for first, last in _ASSIGNED:
        names = "".join(map(unicodedata.category, map(chr, range(first, last + 1)))).encode()
        major, minor = np.frombuffer(names, dtype=np.uint8).reshape(-1, 2).T
        letter, number = major == ord("L"), major == ord("N")
        connector = (major == ord("P")) & (minor == ord("c"))  # such as the underscore
        out[first : last + 1][letter | number | connector] = WORD
        out[first : last + 1][(major == ord("M")) | (minor == ord("f")) & (major == ord("C"))] = (
            EXTEND
        )
        for begin, end in _UNSEPARATED:
            own = slice(max(0, begin - first), max(0, end + 1 - first))
            single = letter[own] | number[own] & (minor[own] == ord("l"))
            out[first : last + 1][own][single] = SINGLE
    for first, last in _HAN:
        out[first : last + 1] = SINGLE
    out[0x1F1E6:0x1F200] = REGIONAL
    out[0x1F3FB:0x1F400] = EXTEND  # skin tones
    for code in (*range(0x3100), *range(0x1FFFE, 0x20000)):
        if chr(code).isspace():
            out[code] = SPACE
    return out


# In two stages: the number of a page of 128 code points, and the classes of distinct pages.
_PAGES, _NUMBERS = np.unique(_classes().reshape(-1, 1 << _PAGE_BITS), axis=0, return_inverse=True)
_NUMBERS = _NUMBERS.reshape(-1).astype(np.uint8 if len(_PAGES) < 256 else np.uint16)
ASCII = np.ascontiguousarray(_PAGES[_NUMBERS[0]])


def class_of(character: str) -> int:
    """Return the class of a character."""
    code = ord(character)
    return int(_PAGES[_NUMBERS[code >> _PAGE_BITS], code & ((1 << _PAGE_BITS) - 1)])


def classes() -> np.ndarray:
    """Return (0x110000,) uint8, the class of every code point."""
    return _PAGES[_NUMBERS].reshape(-1)


def unassigned() -> np.ndarray:
    """Return the code points, outside the blocks of one class, that are not characters in the
    version of Unicode of this Python, ascending; a later version may assign some of them."""
    codes = (code for first, last in _ASSIGNED for code in range(first, last + 1))
    return np.array([code for code in codes if unicodedata.category(chr(code)) == "Cn"])


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def class_at(data, i):
    """Return the class of the character at byte `i`, which is not ASCII, and the byte after it."""
    byte = np.uint32(data[i])
    if byte < 0xE0:
        code, size = byte & 0x1F, 2
    elif byte < 0xF0:
        code, size = byte & 0x0F, 3
    else:
        code, size = byte & 0x07, 4
    for k in range(1, size):
        code = (code << 6) | (np.uint32(data[i + k]) & 0x3F)
    return _PAGES[_NUMBERS[code >> _PAGE_BITS], code & 0x7F], i + size


def normalize(text: str) -> str:
    """Return the normalized form of a text.

    Of more than 256 consecutive combining marks, each 256 are ordered by themselves.

    Cost: O(characters).

    Example:
        >>> normalize("CAFE\u0301 \uff21\ufb01\u00adn")
        'café afin'
    """
    if text.isascii():
        return text.lower()
    if _FOLDED.search(text):
        text = _FOLDED.sub(_fold, text)
    text = text.lower().replace("ς", "σ")
    return _normal_form("NFC", text)


def _fold(match: re.Match[str]) -> str:
    return _normal_form("NFKC", _REMOVED.sub("", match[0]))


def _normal_form(form: Literal["NFC", "NFKC"], text: str) -> str:
    # Of so many consecutive characters, one is among those of the slice.
    if len(text) >= _MAX_MARKS and _MAYBE_MARK.search(text[::_MAX_MARKS]):
        borders = [*_borders_of_marks(text), len(text)]
        if len(borders) > 1:
            parts = (text[begin:end] for begin, end in zip([0, *borders], borders))
            return "".join(unicodedata.normalize(form, part) for part in parts)
    return text if unicodedata.is_normalized(form, text) else unicodedata.normalize(form, text)


def _borders_of_marks(text: str) -> Iterator[int]:
    """Yield where a text has 256 consecutive combining marks before a further one."""
    for match in _MAYBE_MARKS.finditer(text):
        if len(match[0]) <= _MAX_MARKS:
            continue
        count = 0
        for i, character in enumerate(match[0], match.start()):
            if not (unicodedata.combining(character) or character in _MORE_MARKS):
                count = 0
                continue
            if count == _MAX_MARKS:
                yield i
                count = 0
            count += 1


def source_characters(text: str) -> np.ndarray:
    """Return (n, 2), for each character of `normalize(text)` the first and the last + 1 character
    of the text that it comes from."""
    if text.isascii():
        return np.arange(len(text))[:, None] + np.arange(2)
    spans: list[tuple[int, int]] = []
    begin = 0
    for end in range(1, len(text) + 1):
        if end == len(text) or not _joins(text[end]):
            part = text[begin:end]
            spans += [(begin, end)] * (1 if part.isascii() else len(normalize(part)))
            begin = end
    return np.array(spans, dtype=np.int64).reshape(-1, 2)


def _joins(character: str) -> bool:
    """Whether the normalized form of a character belongs to that of the one before it."""
    if character.isascii():
        return False
    if _FOLDED.match(character):
        character = normalize(character)
    return (
        not character or ord(character[0]) in _VOWELS_AND_FINALS or class_of(character[0]) == EXTEND
    )


def stable_length(text: str, start: int = 0) -> int:
    """Return how many characters of a text have tokens that no continuation can change.

    They end after a space, or before a mark or a single letter.

    Args:
        text: the text.
        start: where to begin; the characters before it have no stable tokens.

    Cost: O(characters from `start` on).
    """
    for i in range(len(text) - 1, start - 1, -1):
        character = text[i]
        if character.isspace():
            return i + 1
        if i == 0 or _FOLDED.match(character) or class_of(character) not in (MARK, SINGLE):
            continue
        before = text[i - 1]
        if before != _ZERO_WIDTH_JOINER and not _FOLDED.match(before):
            return i
    return 0
