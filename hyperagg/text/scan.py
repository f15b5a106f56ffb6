"""The compiled scan: bytes to words, words and grams to 64-bit hashes, hashes to ids.

    words(text)  =  every match of  \\w+|[^\\w\\s]  in the lower-cased text

The regular expression is the definition; the scan is how it is computed, over the UTF-8 bytes of
whole batches. In ASCII text one byte says what it is. In other text every non-ASCII mark that is
no letter is first set apart by spaces, after which a byte above 127 can only belong to a word, so
that the same scan serves all languages.

A word may bring grams: itself after the word before it, and, if it has more than five characters,
its first five and its last three. Each has a hash of its own kind.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numba import njit

from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text.hash_table import find

__all__ = [
    "GRAMS",
    "bytes_of",
    "entry_texts",
    "find_ids",
    "hash_vocabulary",
    "look_up",
    "look_up_on",
    "scan",
    "to_bytes",
]

_NON_ASCII_MARK = re.compile(r"[^\w\s\x00-\x7f]")
_NON_ASCII_SPACE = re.compile(r"[^\S\x00-\x7f]")
_SPACE, _WORD, _MARK = 0, 1, 2

# What a word may bring besides itself: the pair it ends, its beginning, its ending.
GRAMS = 3
_LONG, _BEGINNING, _ENDING = 5, 5, 3  # characters; the last two are salts of hashes as well


def _byte_kinds() -> np.ndarray:
    kinds = np.full(256, _WORD, dtype=np.uint8)
    for byte in range(128):
        character = chr(byte)
        if character.isspace():
            kinds[byte] = _SPACE
        elif not (character.isalnum() or character == "_"):
            kinds[byte] = _MARK
    return kinds


_KINDS = _byte_kinds()

_TEXTS_AT_ONCE = 64
_BYTES_A_PART = 1 << 24
_WORK_A_BYTE = 4  # in multiply-adds, about


def to_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 of the lower-cased texts end to end, and their borders."""
    parts: list[bytes] = []
    lengths: list[int] = []
    for i in range(0, len(texts), _TEXTS_AT_ONCE):
        some = texts[i : i + _TEXTS_AT_ONCE]
        together = "".join(some)
        if together.isascii():
            parts.append(together.lower().encode())
            lengths += map(len, some)
        else:
            own = [_lowered(text) for text in some]
            parts += own
            lengths += map(len, own)
    ends = accumulate(lengths, initial=0)
    borders = np.fromiter(ends, dtype=np.int64, count=len(lengths) + 1)
    return np.frombuffer(b"".join(parts), dtype=np.uint8), borders


def bytes_of(text: str) -> np.ndarray:
    """What `to_bytes` gives for one text."""
    return np.frombuffer(_lowered(text), dtype=np.uint8)


def _lowered(text: str) -> bytes:
    text = text.lower()
    if text.isascii():
        return text.encode()
    text = _NON_ASCII_SPACE.sub(" ", _NON_ASCII_MARK.sub(r" \g<0> ", text))
    return text.encode("utf-8", "replace")


def scan(
    data: np.ndarray, borders: np.ndarray, grams: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every word its hash, first byte, last byte + 1; (T, 3) hashes of its grams, 0 for none."""
    ranges = _ranges(borders)
    counts = np.zeros(len(borders), dtype=np.int64)
    run(_count_words, ranges, data, borders, counts)
    places = np.cumsum(counts)
    hashes = np.empty(places[-1], dtype=np.uint64)
    starts, ends = (np.empty(places[-1], dtype=np.int64) for _ in range(2))
    found = np.empty((places[-1] if grams else 0, GRAMS), dtype=np.uint64)
    run(_hash_words, ranges, data, borders, places, hashes, starts, ends, found)
    return hashes, starts, ends, found


def _ranges(borders: np.ndarray) -> np.ndarray:
    """Borders of ranges of rows: one or more for each thread."""
    size = int(borders[-1])
    number = max(parts(_WORK_A_BYTE * size), -(-size // _BYTES_A_PART))
    return even_borders(np.diff(borders), number)


def entry_texts(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, picked: np.ndarray, grams: bool
) -> list[str]:
    """Words as the vocabulary writes them, or grams: "two words", "begin*" or "*end".

    `picked` are numbers of words, or GRAMS times that number plus the kind of the gram.
    """
    if not len(picked):
        return []
    last = picked // GRAMS if grams else picked
    first = np.maximum(last - 1, 0) if grams else last
    longest = (ends[last] - starts[last]).sum() + (ends[first] - starts[first]).sum()
    out = np.empty(longest + 2 * len(picked), dtype=np.uint8)
    size = _write_entries(data, starts, ends, picked, grams, out)
    # No word has a line's end in it.
    return out[:size].tobytes().decode("utf-8", "replace").split("\n")[:-1]


def hash_vocabulary(entries: Sequence[str]) -> np.ndarray:
    """(V,) hashes of words and of grams as `entry_texts` writes them."""
    data = np.frombuffer("".join(entries).encode("utf-8", "replace"), dtype=np.uint8)
    lengths = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
    hashes = np.empty(len(entries), dtype=np.uint64)
    _hash_entries(data, lengths, hashes)
    return hashes


def look_up(
    data: np.ndarray, borders: np.ndarray, table: np.ndarray, grams: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Ids of every row's words, each followed by those of its grams that are known.

    Args:
        data, borders: from `to_bytes`.
        table: of the vocabulary.
        grams: whether there are any to look for.

    Returns:
        token_ids (T,) int32; cu_seqlens (rows + 1,).
    """
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    run(_look_up_rows, _ranges(borders), found, data, borders, table, grams)
    if len(found) == 1:
        return found[0]
    token_ids, counts = [np.empty(0, dtype=np.int32)], [np.zeros(1, dtype=np.int64)]
    for first in sorted(found):
        token_ids.append(found[first][0])
        counts.append(np.diff(found[first][1]))
    return np.concatenate(token_ids), np.cumsum(np.concatenate(counts))


def _look_up_rows(first: int, last: int, found: dict[int, Any], *args: Any) -> None:
    looked_up = find_ids(first, last, *args, _NONE, False)
    if first < last:
        found[first] = looked_up[:2]


def look_up_on(
    data: np.ndarray, borders: np.ndarray, table: np.ndarray, grams: bool, before: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Of one text the ids, (T, 2) the first and last word that each stands for, and the hash of
    the last word. `before` is the hash of the word that stands before it, 0 for none."""
    found = find_ids(0, 1, data, borders, table, grams, np.uint64(before), True)
    token_ids, _, owners, last = found
    return token_ids, owners, last


_WORDS_AT_ONCE = 64
# The 64-bit FNV-1a hash. With 64 bits two entries of one vocabulary collide with a chance of about
# V^2 / 2^65: below 1e-7 for two million.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_NONE, _ONE, _SHIFT = np.uint64(0), np.uint64(1), np.uint64(32)
_BLANK, _STAR, _LINE_END = ord(" "), ord("*"), ord("\n")


@njit(nogil=True, cache=True, inline="always")
def _hash(data, start, end, salt):
    value = _OFFSET ^ salt
    for i in range(start, end):
        value = (value ^ np.uint64(data[i])) * _PRIME
    # FNV mixes its low bits little; the tables index by them. Zero stands for none.
    value ^= value >> _SHIFT
    return value if value else _ONE


@njit(nogil=True, cache=True, inline="always")
def _hash_pair(first, second):
    value = (first * _PRIME + second) * _PRIME
    value ^= value >> _SHIFT
    return value if value else _ONE


@njit(nogil=True, cache=True, inline="always")
def _word_end(data, start, end):
    """Where the word that starts at `start` ends: a mark is one byte, a word is a run."""
    if _KINDS[data[start]] == _MARK:
        return start + 1
    stop = start + 1
    while stop < end and _KINDS[data[stop]] == _WORD:
        stop += 1
    return stop


@njit(nogil=True, cache=True, inline="always")
def _affixes(data, start, end):
    """Where the beginning of a word ends and where its ending starts; -1 if it is too short."""
    characters, head, tail = 0, -1, -1
    for i in range(start, end):
        if data[i] & 0xC0 != 0x80:
            if characters == _BEGINNING:
                head = i
            characters += 1
    if characters <= _LONG:
        return -1, -1
    characters, tail = 0, end
    while characters < _ENDING:
        tail -= 1
        characters += data[tail] & 0xC0 != 0x80
    return head, tail


@njit(nogil=True, cache=True)
def _hash_entries(data, lengths, hashes):
    """Entries end to end, of so many characters each."""
    end = 0
    for entry in range(len(lengths)):
        start, space = end, -1
        for _ in range(lengths[entry]):
            if space < 0 and data[end] == _BLANK:
                space = end
            end += 1
            while end < len(data) and data[end] & 0xC0 == 0x80:
                end += 1
        if space >= 0 and space + 1 < end:
            first = _hash(data, start, space, np.uint64(0))
            second = _hash(data, space + 1, end, np.uint64(0))
            hashes[entry] = _hash_pair(first, second)
        elif lengths[entry] > 1 and data[end - 1] == _STAR:
            hashes[entry] = _hash(data, start, end - 1, np.uint64(_BEGINNING))
        elif lengths[entry] > 1 and data[start] == _STAR:
            hashes[entry] = _hash(data, start + 1, end, np.uint64(_ENDING))
        else:
            hashes[entry] = _hash(data, start, end if space < 0 else space, np.uint64(0))


@njit(nogil=True, cache=True)
def _write_entries(data, starts, ends, picked, grams, out):
    n = 0
    for entry in picked:
        word, kind = (entry // GRAMS, entry % GRAMS) if grams else (entry, 0)
        start, end = starts[word], ends[word]
        if grams:
            head, tail = _affixes(data, start, end)
            if kind == 0:
                for i in range(starts[word - 1], ends[word - 1]):
                    out[n] = data[i]
                    n += 1
                out[n] = _BLANK
                n += 1
            elif kind == 1:
                end = head
            else:
                start = tail
                out[n] = _STAR
                n += 1
        for i in range(start, end):
            out[n] = data[i]
            n += 1
        if grams and kind == 1:
            out[n] = _STAR
            n += 1
        out[n] = _LINE_END
        n += 1
    return n


@njit(nogil=True, cache=True)
def _count_words(first, last, data, borders, counts):
    """Of each row the number of its words, at the place after its own."""
    for row in range(first, last):
        i, end, count = borders[row], borders[row + 1], 0
        while i < end:
            if _KINDS[data[i]] == _SPACE:
                i += 1
            else:
                i = _word_end(data, i, end)
                count += 1
        counts[row + 1] = count


@njit(nogil=True, cache=True)
def _hash_words(first, last, data, borders, places, hashes, starts, ends, grams):
    for row in range(first, last):
        i, end, before, word = borders[row], borders[row + 1], np.uint64(0), places[row]
        while i < end:
            if _KINDS[data[i]] == _SPACE:
                i += 1
                continue
            stop = _word_end(data, i, end)
            hashes[word] = _hash(data, i, stop, np.uint64(0))
            starts[word], ends[word] = i, stop
            if len(grams):
                grams[word] = 0
                if before:
                    grams[word, 0] = _hash_pair(before, hashes[word])
                head, tail = _affixes(data, i, stop)
                if head >= 0:
                    grams[word, 1] = _hash(data, i, head, np.uint64(_BEGINNING))
                    grams[word, 2] = _hash(data, tail, stop, np.uint64(_ENDING))
            before = hashes[word]
            word += 1
            i = stop


@njit(nogil=True, cache=True)
def find_ids(first, last, data, borders, table, grams, before, owned):
    """Of these rows what `look_up` finds, and what `look_up_on` does."""
    # A word of one byte brings two ids, and only one of six or more brings four.
    most = (borders[last] - borders[first]) * (2 if grams else 1)
    token_ids = np.empty(most, dtype=np.int32)
    owners = np.empty((most if owned else 0, 2), dtype=np.int64)
    cu_seqlens = np.zeros(last - first + 1, dtype=np.int64)
    kinds = 1 + GRAMS if grams else 1
    keys = np.zeros((_WORDS_AT_ONCE, kinds), dtype=np.uint64)
    word, n = -1, 0
    for row in range(first, last):
        i, end = borders[row], borders[row + 1]
        if row > first:
            before = _NONE
        while i < end:
            # Where to look is told to the cache for some words before the first is looked up.
            count = 0
            while i < end and count < _WORDS_AT_ONCE:
                if _KINDS[data[i]] == _SPACE:
                    i += 1
                    continue
                stop = _word_end(data, i, end)
                key = _hash(data, i, stop, _NONE)
                keys[count, 0] = key
                if grams:
                    keys[count, 1] = _hash_pair(before, key) if before else _NONE
                    keys[count, 2] = keys[count, 3] = _NONE
                    head, tail = _affixes(data, i, stop)
                    if head >= 0:
                        keys[count, 2] = _hash(data, i, head, np.uint64(_BEGINNING))
                        keys[count, 3] = _hash(data, tail, stop, np.uint64(_ENDING))
                for kind in range(kinds):
                    prefetch(table, keys[count, kind] & np.uint64(len(table) - 1))
                before = key
                count += 1
                i = stop
            for own in range(count):
                word += 1
                for kind in range(kinds):
                    key = keys[own, kind]
                    found = find(table, key) if key else np.int32(0)
                    if found or kind == 0:
                        token_ids[n] = found
                        if owned:
                            owners[n, 0] = max(0, word - 1) if kind == 1 else word
                            owners[n, 1] = word
                        n += 1
        cu_seqlens[row - first + 1] = n
    return token_ids[:n], cu_seqlens, owners[:n], before
