"""Normalizes texts: what tokens are made of.

    normalize(text)  =  NFC(lower(fold(text)))

Texts that are canonically equivalent, such as those with a composed and a decomposed é, have the
same normalized form. `fold` removes characters that only format a text (soft hyphen, zero-width
space and non-joiner, byte order mark, directional marks) and replaces presentation forms
(ligatures, Arabic letter forms, full-width and half-width characters) by what they stand for. Other
compatibility characters keep a meaning that their replacement lacks: x² is not x2. A final sigma
becomes a sigma, so that the lower-case form of a letter does not depend on its neighbors.

Most texts consist of characters that are normalized one by one, and a compiled loop looks these up
in a table. Where characters may be composed or ordered, Python's `unicodedata` does the work.

Source: Unicode Standard Annex 15 (normalization forms).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Literal

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import (
    HIGH_BITS,
    between,
    padded_array,
    read_eight,
    write_eight,
)
from hyperagg.text.characters import (
    ASSIGNED,
    EXTEND,
    HANGUL,
    MARK,
    PAGE_BITS,
    SINGLE,
    class_of,
    code_at,
    in_two_stages,
)

__all__ = [
    "FOLDED",
    "FORMATTING",
    "normalize",
    "source_characters",
    "stable_length",
    "text_to_bytes",
    "texts_to_bytes",
]

# Characters that are removed, and those that are replaced besides, for a character set of a regular
# expression.
FORMATTING = "\u00ad\u061c\u180e\u200b\u200c\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
FOLDED = f"{FORMATTING}\ufb00-\ufdff\ufe70-\ufefe\uff00-\uffef"
_FOLDED = re.compile(f"[{FOLDED}]+")
_REMOVED = re.compile(f"[{FORMATTING}]+")
_ZERO_WIDTH_JOINER = "\u200d"
# Of Hangul: the letters that compose with those after them, and those.
_INITIALS, _VOWELS_AND_FINALS = range(0x1100, 0x1113), range(0x1160, 0x1200)

# The normalization forms sort consecutive combining marks in quadratic time, so they are given at
# most this number at a time.
_MAX_MARKS = 256
# Marks whose combining class is 0 although what they are normalized to has another one.
_MORE_MARKS = "\u0f73\u0f75\u0f81\uff9e\uff9f"
# No combining mark is a letter.
_MAYBE_MARKS = re.compile("[\\W\uff9e\uff9f]+")
_MAYBE_MARK = re.compile(r"[^\w\s\x00-\x7f]|[\uff9e\uff9f]")

_TEXTS_PER_JOIN = 64
_MIN_CHARACTERS = 500  # with fewer of them, calling the compiled loop costs more than it saves

# What the table holds for a character: from bit 0 on the difference from its code point to that of
# its normalized form, or to 0 if it is removed; its canonical combining class; and whether it is
# the first or the second one of two characters that may be composed.
_CODE, _CLASS, _CLASS_SHIFT = np.uint32((1 << 21) - 1), np.uint32(0xFF), np.uint32(21)
_FIRST, _SECOND = np.uint32(1 << 29), np.uint32(1 << 30)
_OTHER = np.uint32(0xFFFFFFFF)  # the normalized form is several characters, or has more bytes
_COMPATIBILITY_HAN = (0x2F800, 0x2FA1F)


def texts_to_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the UTF-8 bytes of the normalized texts in one array, and their (n + 1,) borders.

    The array is one of `eight_bytes.padded_array`, which the scan requires.
    """
    parts: list[bytes | memoryview] = []
    sizes: list[int] = []
    for i in range(0, len(texts), _TEXTS_PER_JOIN):
        some = texts[i : i + _TEXTS_PER_JOIN]
        joined = "".join(some)
        if joined.isascii():
            parts.append(joined.lower().encode())
            sizes += map(str.__len__, some)
        elif len(joined) < _MIN_CHARACTERS:
            own = [_encoded(normalize(text)) for text in some]
            parts += own
            sizes += map(len, own)
        else:
            _add_normalized(some, joined, parts, sizes)
    borders = np.fromiter(accumulate(sizes, initial=0), dtype=np.int64, count=len(sizes) + 1)
    return padded_array(parts), borders


def text_to_bytes(text: str) -> np.ndarray:
    """Return the bytes that `texts_to_bytes` returns for one text."""
    if len(text) < _MIN_CHARACTERS or text.isascii():
        return padded_array([_encoded(normalize(text))])
    return texts_to_bytes([text])[0]


def _add_normalized(
    texts: Sequence[str], joined: str, parts: list[bytes | memoryview], sizes: list[int]
) -> None:
    """Append the bytes of the normalized texts, in parts, and the number of bytes of each text."""
    data = np.frombuffer(_encoded(joined), dtype=np.uint8)
    # A subclass of str may have another idea of its length.
    lengths = np.fromiter(map(str.__len__, texts), dtype=np.int64, count=len(texts))
    out, out_sizes = np.empty_like(data), np.empty_like(lengths)
    last = _normalize_rows(data, lengths, *_table(), out, out_sizes)
    begin = end = 0
    for text, size in zip(texts, out_sizes.tolist()):
        if size < 0:
            own = _encoded(normalize(text))
            parts += [out.data[begin:end], own]
            begin, size = end, len(own)
        else:
            end += size
        sizes.append(size)
    parts.append(out.data[begin:last])


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")  # UTF-8 cannot encode surrogates


@lru_cache(maxsize=1)
def _table() -> tuple[np.ndarray, np.ndarray]:
    """The table of the characters, in two stages."""
    codes = [code for a, b in (*ASSIGNED, _COMPATIBILITY_HAN) for code in range(a, b + 1)]
    characters = [*map(chr, codes)]
    flags = np.zeros(0x110000, dtype=np.uint32)
    classes = np.fromiter(map(unicodedata.combining, characters), np.uint32, len(codes))
    flags[codes] = classes << _CLASS_SHIFT
    flags[HANGUL[0] : HANGUL[1] + 1] |= _FIRST
    flags[_INITIALS.start : _INITIALS.stop] |= _FIRST
    flags[_VOWELS_AND_FINALS.start : _VOWELS_AND_FINALS.stop] |= _SECOND
    decompositions = zip(codes, map(unicodedata.decomposition, characters))
    canonical = {code: d.split() for code, d in decompositions if d and d[0] != "<"}
    for code, (first, *second) in canonical.items():
        # What a composed letter consists of may be composed in another way.
        flags[[code, int(first, 16)]] |= _FIRST
        flags[[int(each, 16) for each in second]] |= _SECOND
    folded = "".join(_FOLDED.findall("".join(characters)))
    lowered = [c for c in characters if c.lower() != c]
    out = flags.copy()
    for character in {*folded, *lowered, *map(chr, canonical), "ς"}:
        form, code = normalize(character), ord(character)
        if len(form) > 1 or len(form.encode()) > len(character.encode()):
            out[code] = _OTHER
        else:
            own = ord(form) if form else 0
            out[code] = flags[own] + np.uint32((own - code) & int(_CODE))
    return in_two_stages(out)


@njit(nogil=True, cache=True)
def _normalize_rows(data, lengths, pages, numbers, out, sizes):
    """Normalize texts of one character after the other.

    Args:
        data: (N,) uint8, the texts in UTF-8.
        lengths: (B,) int64, their numbers of characters.
        pages, numbers: from `_table`.
        out: (N,) uint8, the normalized texts, without those that are left out.
        sizes: (B,) int64, their numbers of bytes, -1 for a text that is left out.

    Returns:
        the number of bytes in `out`.
    """
    i, n = 0, 0
    for row in range(len(lengths)):
        start, is_simple = n, True
        # Of the characters before: the combining class of the last one, and whether the last one
        # with class 0 may be composed with a later one.
        before, may_compose = np.uint32(0), False
        left = lengths[row]
        while left:
            if data[i] < 128:
                before, may_compose = np.uint32(0), True
                if left >= 8:
                    eight = read_eight(data, i)
                    if not eight & HIGH_BITS:
                        # 32 is the difference between an upper-case letter and its lower-case form.
                        capital = between(eight, ord("A"), ord("Z"))
                        write_eight(out, n, eight | capital >> np.uint64(2))
                        i, n, left = i + 8, n + 8, left - 8
                        continue
                out[n] = data[i] | 32 if ord("A") <= data[i] <= ord("Z") else data[i]
                i, n, left = i + 1, n + 1, left - 1
                continue
            left -= 1
            code, i = code_at(data, i)
            value = pages[numbers[code >> PAGE_BITS], code & ((1 << PAGE_BITS) - 1)]
            code = (code + value) & _CODE
            if value == _OTHER:
                is_simple = False
            elif code:
                own = (value >> _CLASS_SHIFT) & _CLASS
                if before > own > 0 or (may_compose and value & _SECOND):
                    is_simple = False
                before = own
                if own == 0:
                    may_compose = value & _FIRST != 0
                n = _write_character(out, n, code)
        if not is_simple:
            n = start
        sizes[row] = n - start if is_simple else -1
    return n


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _write_character(out, n, code):
    """Write a character in UTF-8; return the byte after it."""
    if code < 0x80:
        out[n] = code
        return n + 1
    if code < 0x800:
        out[n] = 0xC0 | code >> 6
    else:
        if code < 0x10000:
            out[n] = 0xE0 | code >> 12
        else:
            out[n] = 0xF0 | code >> 18
            n += 1
            out[n] = 0x80 | code >> 12 & 0x3F
        n += 1
        out[n] = 0x80 | code >> 6 & 0x3F
    out[n + 1] = 0x80 | code & 0x3F
    return n + 2


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
