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
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    return np.frombuffer(b"".join(rows), dtype=np.uint8), borders


def scan(
    data: np.ndarray, borders: np.ndarray, grams: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Of every word its hash, first byte, last byte + 1; (T, 3) hashes of its grams, 0 for none."""
    counts = np.empty(len(borders) - 1, dtype=np.int64)
    _count_words(data, borders, _KINDS, counts)
    total = int(counts.sum())
    hashes = np.empty(total, dtype=np.uint64)
    starts, ends = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    found = np.empty((total if grams else 0, GRAMS), dtype=np.uint64)
    _hash_words(data, borders, _KINDS, hashes, starts, ends, found)
    return hashes, starts, ends, found


def gram_texts(data: bytes, starts: np.ndarray, ends: np.ndarray, word: int, kind: int) -> str:
    """A gram of a word as the vocabulary writes it: "two words", "begin*" or "*end"."""
    text = data[starts[word] : ends[word]].decode("utf-8", "replace")
    if kind == 0:
        return data[starts[word - 1] : ends[word - 1]].decode("utf-8", "replace") + " " + text
    return text[:_BEGINNING] + "*" if kind == 1 else "*" + text[-_ENDING:]


def hash_vocabulary(entries: Sequence[str]) -> np.ndarray:
    """(V,) hashes of words and of grams as `gram_texts` writes them."""
    words: list[bytes] = []
    salts, seconds = [], []
    for i, entry in enumerate(entries):
        word, _, second = entry.partition(" ")
        salt = 0
        if second:
            seconds.append((i, second.encode("utf-8", "replace")))
        elif len(entry) > 1 and entry[-1] == "*":
            salt, word = _BEGINNING, entry[:-1]
        elif len(entry) > 1 and entry[0] == "*":
            salt, word = _ENDING, entry[1:]
        words.append(word.encode("utf-8", "replace"))
        salts.append(salt)
    hashes = _hash_rows_of(words, salts)
    if seconds:
        places = np.array([i for i, _ in seconds])
        of_second = _hash_rows_of([word for _, word in seconds], [0] * len(seconds))
        hashes[places] = _pairs(hashes[places], of_second)
    return hashes


def _hash_rows_of(rows: Sequence[bytes], salts: Sequence[int]) -> np.ndarray:
    borders = np.concatenate([[0], np.cumsum([len(row) for row in rows], dtype=np.int64)])
    hashes = np.empty(len(rows), dtype=np.uint64)
    data = np.frombuffer(b"".join(rows), dtype=np.uint8)
    _hash_rows(data, borders, np.array(salts, dtype=np.uint64), hashes)
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
    counts = np.empty(len(borders) - 1, dtype=np.int64)
    _count_words(data, borders, _KINDS, counts)
    most = int(counts.sum()) * (1 + GRAMS * grams)
    token_ids = np.empty(most, dtype=np.int32)
    owners = np.empty((most if owned else 0, 2), dtype=np.int64)
    cu_seqlens = np.zeros(len(borders), dtype=np.int64)
    last = _look_up(
        data, borders, _KINDS, *table, grams, np.uint64(before), cu_seqlens, token_ids, owners
    )
    used = cu_seqlens[-1]
    return token_ids[:used], cu_seqlens, owners[:used], int(last)


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


@njit(nogil=True, cache=True)
def _pairs(first, second):
    out = np.empty_like(first)
    for i in range(len(first)):
        out[i] = _hash_pair(first[i], second[i])
    return out


@njit(nogil=True, cache=True, inline="always")
def _word_end(data, kinds, start, end):
    """Where the word that starts at `start` ends: a mark is one byte, a word is a run."""
    if kinds[data[start]] == _MARK:
        return start + 1
    stop = start + 1
    while stop < end and kinds[data[stop]] == _WORD:
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
def _hash_rows(data, borders, salts, hashes):
    for row in range(len(hashes)):
        hashes[row] = _hash(data, borders[row], borders[row + 1], salts[row])


@njit(nogil=True, cache=True)
def _count_words(data, borders, kinds, counts):
    for row in range(len(counts)):
        i, end, count = borders[row], borders[row + 1], 0
        while i < end:
            if kinds[data[i]] == _SPACE:
                i += 1
            else:
                i = _word_end(data, kinds, i, end)
                count += 1
        counts[row] = count


@njit(nogil=True, cache=True)
def _hash_words(data, borders, kinds, hashes, starts, ends, grams):
    word = 0
    for row in range(len(borders) - 1):
        i, end, last = borders[row], borders[row + 1], np.uint64(0)
        while i < end:
            if kinds[data[i]] == _SPACE:
                i += 1
                continue
            stop = _word_end(data, kinds, i, end)
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
def _look_up(data, borders, kinds, keys, values, grams, before, cu_seqlens, token_ids, owners):
    word, n, last = -1, 0, before
    for row in range(len(borders) - 1):
        i, end = borders[row], borders[row + 1]
        if row:
            last = np.uint64(0)
        while i < end:
            if kinds[data[i]] == _SPACE:
                i += 1
                continue
            stop = _word_end(data, kinds, i, end)
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
    return last


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
