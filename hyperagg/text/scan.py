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

import numpy as np
from numba import njit

__all__ = ["Table", "build_table", "hash_vocabulary", "look_up", "scan", "tally", "to_bytes"]

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

Table = tuple[np.ndarray, np.ndarray]


def to_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """UTF-8 of the lower-cased texts end to end, and their borders."""
    rows = []
    for text in texts:
        text = text.lower()
        if not text.isascii():
            text = _NON_ASCII_SPACE.sub(" ", _NON_ASCII_MARK.sub(r" \g<0> ", text))
        rows.append(text.encode("utf-8", "replace"))
    ends = accumulate(map(len, rows), initial=0)
    borders = np.fromiter(ends, dtype=np.int64, count=len(rows) + 1)
    return np.frombuffer(b"".join(rows), dtype=np.uint8), borders


def scan(
    data: np.ndarray, borders: np.ndarray, grams: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every word its hash, first byte, last byte + 1; (T, 3) hashes of its grams, 0 for none."""
    total = _count_words(data, borders)
    hashes = np.empty(total, dtype=np.uint64)
    starts, ends = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    found = np.empty((total if grams else 0, GRAMS), dtype=np.uint64)
    _hash_words(data, borders, hashes, starts, ends, found)
    return hashes, starts, ends, found


def gram_texts(data: bytes, starts: np.ndarray, ends: np.ndarray, word: int, kind: int) -> str:
    """A gram of a word as the vocabulary writes it: "two words", "begin*" or "*end"."""
    text = data[starts[word] : ends[word]].decode("utf-8", "replace")
    if kind == 0:
        return data[starts[word - 1] : ends[word - 1]].decode("utf-8", "replace") + " " + text
    return text[:_BEGINNING] + "*" if kind == 1 else "*" + text[-_ENDING:]


def hash_vocabulary(entries: Sequence[str]) -> np.ndarray:
    """(V,) hashes of words and of grams as `gram_texts` writes them."""
    data = np.frombuffer("".join(entries).encode("utf-8", "replace"), dtype=np.uint8)
    lengths = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
    hashes = np.empty(len(entries), dtype=np.uint64)
    _hash_entries(data, lengths, hashes)
    return hashes


def build_table(hashes: np.ndarray) -> Table:
    """Open addressing at most half full: slot -> (hash, id); ids count from 1, 0 is empty."""
    size = 1 << max(4, int(2 * len(hashes)).bit_length())
    keys, values = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.int32)
    _fill_table(hashes, keys, values)
    return keys, values


def look_up(
    data: np.ndarray,
    borders: np.ndarray,
    table: Table,
    grams: bool,
    before: int = 0,
    owned: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Ids of every row's words, each followed by those of its grams that are known.

    Args:
        data, borders: from `to_bytes`.
        table: of the vocabulary.
        grams: whether there are any to look for.
        before: the hash of the word that stands before the first row, 0 for none.
        owned: whether to find the words that ids stand for.

    Returns:
        token_ids (T,) int32; cu_seqlens (rows + 1,); if `owned` (T, 2) the first and last word that
        an id stands for, counted over all rows; the hash of the last word.
    """
    return _look_up(data, borders, *table, grams, np.uint64(before), owned)


def tally(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each hash but 0 comes, and where first: counts and first places, in that order."""
    size, used = 1 << 16, 0
    keys, counts = np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.int64)
    firsts = np.zeros(size, dtype=np.int64)
    for begin in range(0, len(hashes), _CHUNK):
        part = hashes[begin : begin + _CHUNK]
        if 2 * (used + len(part)) > size:
            size = 1 << int(4 * (used + len(part))).bit_length()
            small = keys, counts, firsts
            keys, counts, firsts = (np.zeros(size, each.dtype) for each in small)  # type: ignore
            _move(*small, keys, counts, firsts)
        used += _tally(part, begin, keys, counts, firsts)
    kept = np.flatnonzero(counts)
    return counts[kept], firsts[kept]


_CHUNK = 1 << 18
# The 64-bit FNV-1a hash. With 64 bits two entries of one vocabulary collide with a chance of about
# V^2 / 2^65: below 1e-7 for two million.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_ONE, _SHIFT = np.uint64(1), np.uint64(32)
_BLANK, _STAR = ord(" "), ord("*")


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
def _count_words(data, borders):
    count = 0
    for row in range(len(borders) - 1):
        i, end = borders[row], borders[row + 1]
        while i < end:
            if _KINDS[data[i]] == _SPACE:
                i += 1
            else:
                i = _word_end(data, i, end)
                count += 1
    return count


@njit(nogil=True, cache=True)
def _hash_words(data, borders, hashes, starts, ends, grams):
    word = 0
    for row in range(len(borders) - 1):
        i, end, last = borders[row], borders[row + 1], np.uint64(0)
        while i < end:
            if _KINDS[data[i]] == _SPACE:
                i += 1
                continue
            stop = _word_end(data, i, end)
            hashes[word] = _hash(data, i, stop, np.uint64(0))
            starts[word], ends[word] = i, stop
            if len(grams):
                grams[word] = 0
                if last:
                    grams[word, 0] = _hash_pair(last, hashes[word])
                head, tail = _affixes(data, i, stop)
                if head >= 0:
                    grams[word, 1] = _hash(data, i, head, np.uint64(_BEGINNING))
                    grams[word, 2] = _hash(data, tail, stop, np.uint64(_ENDING))
            last = hashes[word]
            word += 1
            i = stop


@njit(nogil=True, cache=True, inline="always")
def _find(keys, values, key):
    last = np.uint64(len(keys) - 1)
    slot = key & last
    while values[slot] != 0 and keys[slot] != key:
        slot = (slot + _ONE) & last
    return values[slot]


@njit(nogil=True, cache=True)
def _look_up(data, borders, keys, values, grams, before, owned):
    most = _count_words(data, borders) * (1 + GRAMS * grams)
    token_ids = np.empty(most, dtype=np.int32)
    owners = np.empty((most if owned else 0, 2), dtype=np.int64)
    cu_seqlens = np.zeros(len(borders), dtype=np.int64)
    word, n, last = -1, 0, before
    for row in range(len(borders) - 1):
        i, end = borders[row], borders[row + 1]
        if row:
            last = np.uint64(0)
        while i < end:
            if _KINDS[data[i]] == _SPACE:
                i += 1
                continue
            stop = _word_end(data, i, end)
            key = _hash(data, i, stop, np.uint64(0))
            word += 1
            token_ids[n] = _find(keys, values, key)
            if len(owners):
                owners[n] = word
            n += 1
            if grams:
                if last:
                    found = _find(keys, values, _hash_pair(last, key))
                    if found:
                        token_ids[n] = found
                        if len(owners):
                            owners[n, 0], owners[n, 1] = max(0, word - 1), word
                        n += 1
                head, tail = _affixes(data, i, stop)
                if head >= 0:
                    for kind in range(2):
                        if kind == 0:
                            part = _hash(data, i, head, np.uint64(_BEGINNING))
                        else:
                            part = _hash(data, tail, stop, np.uint64(_ENDING))
                        found = _find(keys, values, part)
                        if found:
                            token_ids[n] = found
                            if len(owners):
                                owners[n] = word
                            n += 1
            last = key
            i = stop
        cu_seqlens[row + 1] = n
    return token_ids[:n], cu_seqlens, owners[:n], last


@njit(nogil=True, cache=True)
def _fill_table(hashes, keys, values):
    last = np.uint64(len(keys) - 1)
    for i in range(len(hashes)):
        slot = hashes[i] & last
        while values[slot] != 0 and keys[slot] != hashes[i]:
            slot = (slot + _ONE) & last
        keys[slot] = hashes[i]
        values[slot] = i + 1


@njit(nogil=True, cache=True)
def _tally(hashes, begin, keys, counts, firsts):
    last, fresh = np.uint64(len(keys) - 1), 0
    for i in range(len(hashes)):
        if hashes[i] == 0:
            continue
        slot = hashes[i] & last
        while counts[slot] and keys[slot] != hashes[i]:
            slot = (slot + _ONE) & last
        if not counts[slot]:
            keys[slot], firsts[slot] = hashes[i], begin + i
            fresh += 1
        counts[slot] += 1
    return fresh


@njit(nogil=True, cache=True)
def _move(keys, counts, firsts, new_keys, new_counts, new_firsts):
    last = np.uint64(len(new_keys) - 1)
    for i in range(len(keys)):
        if counts[i]:
            slot = keys[i] & last
            while new_counts[slot]:
                slot = (slot + _ONE) & last
            new_keys[slot], new_counts[slot], new_firsts[slot] = keys[i], counts[i], firsts[i]
