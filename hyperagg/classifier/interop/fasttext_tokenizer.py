"""fastText's tokens: words, their character n-grams and hashed word n-grams, as rows of its matrix.

    row(word)    =  its place in the dictionary
    row(n-gram)  =  number of words + hash mod bucket

What it does is what the C++ of fastText 0.9.2 does when it predicts a line (Joulin et al. 2017,
"Bag of Tricks for Efficient Text Classification"; src/dictionary.cc), order of rows included: each
word's own row and its character n-grams, word after word, then the word n-grams. Letters keep their
case, and only ASCII's spaces part words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from reprlib import repr as shorten
from typing import Any, NamedTuple

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg.text.ragged import Ragged
from hyperagg.text.tokenizers import Alignment

__all__ = ["KIND", "LABEL_PREFIX", "FastTextTokenizer"]

KIND = "hyperagg.FastTextTokenizer"
LABEL_PREFIX = "__label__"
_SETTINGS = ("minn", "maxn", "word_ngrams", "bucket")
_MOST = 2**31 - 1  # fastText's ids and settings are int32

# The end of a line is a word to fastText, and it reads no further.
_END = " </s>"
# Bytes are int8, since fastText's hash takes them so.
_EOS = np.frombuffer(b"</s>", dtype=np.int8)
_PREFIX = np.frombuffer(LABEL_PREFIX.encode(), dtype=np.int8)


class _Dictionary(NamedTuple):
    """Entries end to end, their hashes, and open addressing at most half full: slot -> entry."""

    data: np.ndarray
    borders: np.ndarray
    hashes: np.ndarray
    slots: np.ndarray


class FastTextTokenizer:
    """The rows of a supervised fastText model's input matrix that a text brings.

    A word that the dictionary lacks brings its character n-grams, if there are any, and its part in
    word n-grams. A text is one line: what fastText would take for its end parts words as any space
    does. As in fastText a "</s>" in a text ends it, and what looks like a label is passed over.

    Args:
        words: the dictionary's words; bytes that are no UTF-8 as Python's "surrogateescape".
        labels: the dictionary's labels with their prefix.
        minn, maxn: the characters that the character n-grams have; maxn 0: there are none.
        word_ngrams: the most words that a word n-gram has; 0 or 1: there are none.
        bucket: the number of rows that n-grams share.

    Raises:
        ValueError: an entry that is there twice, a setting that fastText cannot have.

    Cost: O(bytes * maxn + words * word_ngrams) a text.
    """

    def __init__(
        self,
        words: Sequence[str],
        labels: Sequence[str] = (),
        *,
        minn: int = 0,
        maxn: int = 0,
        word_ngrams: int = 1,
        bucket: int = 0,
    ) -> None:
        self.words, self.labels = list(words), list(labels)
        self.minn, self.maxn, self.word_ngrams, self.bucket = minn, maxn, word_ngrams, bucket
        for name in _SETTINGS:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
                raise ValueError(f"{name}={shorten(value)}: give a whole number from 0 to {_MOST}")
        if bucket == 0 and (word_ngrams > 1 or maxn >= max(minn, 1)):
            raise ValueError("bucket=0: n-grams need rows; give 1 or more")
        if len(self) > _MOST:
            raise ValueError(f"bucket={bucket}: too many rows, with {len(self.words):,} words")
        self._dictionary = _index(self.words + self.labels)

    @classmethod
    def from_json(cls, text: str) -> FastTextTokenizer:
        """The tokenizer that `to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        described = json.loads(text)
        if not isinstance(described, dict) or described.get("kind") != KIND:
            raise ValueError(f'no tokenizer of fastText: its "kind" is not {KIND!r}')
        for name in ("words", "labels"):
            entries = described.get(name)
            if not isinstance(entries, list) or not all(isinstance(one, str) for one in entries):
                raise ValueError(f"{name}={shorten(entries)}: give a list of strings")
        settings: dict[str, Any] = {name: described.get(name) for name in _SETTINGS}
        return cls(described["words"], described["labels"], **settings)

    def to_json(self) -> str:
        """ASCII, since a dictionary may hold bytes that no other encoding writes."""
        settings = {name: getattr(self, name) for name in _SETTINGS}
        described = {"kind": KIND, **settings, "labels": self.labels, "words": self.words}
        return json.dumps(described)

    def __len__(self) -> int:
        """The number of rows; `vocabulary` has as many entries, but takes time to write."""
        return len(self.words) + self.bucket

    @cached_property
    def vocabulary(self) -> list[str]:
        """The words, then "[bucket 0]" and so on for what n-grams share."""
        raw = (word.encode("utf-8", "surrogateescape") for word in self.words)
        buckets = (f"[bucket {i}]" for i in range(self.bucket))
        return [*(word.decode("utf-8", "replace") for word in raw), *buckets]

    def encode(self, texts: Sequence[str]) -> Ragged:
        """The rows of every text, in fastText's order; it predicts from their mean.

        A text may bring none, but only if the dictionary lacks "</s>".
        """
        return self._encode(texts)[0]

    def align(self, text: str) -> Alignment:
        """Which words the tokens of `encode([text])` stand for.

        The end of the line is the last word, of no characters.
        """
        _, data, words = self._encode([text])
        # Characters that begin before each byte; those after the text's are the line's end.
        before = np.concatenate([[0], np.cumsum(data >= -64)]).clip(max=len(text))
        spans = [(begin, end) for begin, end in before[words[:, :2]].tolist()]
        own = np.arange(len(words)).repeat(words[:, 2])
        grams = [
            (first, last)
            for first in range(len(words))
            for last in range(first + 1, min(len(words), first + self.word_ngrams))
        ]
        owners = np.array(grams, dtype=np.int64).reshape(-1, 2)
        return Alignment(spans, np.concatenate([own[:, None].repeat(2, 1), owners]))

    def _encode(self, texts: Sequence[str]) -> tuple[Ragged, np.ndarray, np.ndarray]:
        """The rows, the bytes they are of, and (W, 3) of every word its first byte, its last + 1
        and the number of its ids."""
        data, borders = _end_to_end([text + _END for text in texts], "replace")
        settings = (len(self.words), self.minn, self.maxn, self.word_ngrams, self.bucket)
        cu_seqlens = np.zeros(len(borders), dtype=np.int64)
        token_ids, words = _encode(data, borders, self._dictionary, *settings, cu_seqlens)
        return Ragged(token_ids, cu_seqlens), data, words


def _end_to_end(rows: Sequence[str], errors: str) -> tuple[np.ndarray, np.ndarray]:
    encoded = [row.encode("utf-8", errors) for row in rows]
    borders = np.concatenate([[0], np.cumsum([len(row) for row in encoded], dtype=np.int64)])
    return np.frombuffer(b"".join(encoded), dtype=np.int8), borders


def _index(entries: Sequence[str]) -> _Dictionary:
    data, borders = _end_to_end(entries, "surrogateescape")
    slots = np.full(1 << max(4, int(2 * len(entries)).bit_length()), -1, dtype=np.int32)
    dictionary = _Dictionary(data, borders, np.empty(len(entries), dtype=np.int64), slots)
    if (twice := _enter(dictionary)) >= 0:
        raise ValueError(f"words: {shorten(entries[twice])} is there twice")
    return dictionary


# 32-bit FNV-1a; the products stay below 2^57.
_OFFSET, _PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF
_LESS, _GREATER = ord("<"), ord(">")  # where a word begins and ends, to its character n-grams
_FACTOR = np.uint64(116049371)


@njit(nogil=True, cache=True, inline="always")
def _hash(data, start, end):
    value = _OFFSET
    for i in range(start, end):
        value = ((value ^ data[i]) & _MASK) * _PRIME & _MASK
    return value


@njit(nogil=True, cache=True, inline="always")
def _begins(data, start, end, what):
    i = 0
    while i < len(what) and start + i < end and data[start + i] == what[i]:
        i += 1
    return i == len(what)


@njit(nogil=True, cache=True)
def _slot(dictionary, data, start, end, value):
    """Where the entry is, or the empty slot where it would be."""
    last = len(dictionary.slots) - 1
    slot = (value ^ (value >> 15)) & last
    while True:
        entry = dictionary.slots[slot]
        if entry < 0:
            return slot
        if dictionary.hashes[entry] == value:
            own, stop = dictionary.borders[entry], dictionary.borders[entry + 1]
            if stop - own == end - start and _begins(data, start, end, dictionary.data[own:stop]):
                return slot
        slot = (slot + 1) & last


@njit(nogil=True, cache=True)
def _enter(dictionary):
    """Fills hashes and slots; the first entry that is there already, or -1."""
    for entry in range(len(dictionary.hashes)):
        start, end = dictionary.borders[entry], dictionary.borders[entry + 1]
        dictionary.hashes[entry] = value = _hash(dictionary.data, start, end)
        slot = _slot(dictionary, dictionary.data, start, end, value)
        if dictionary.slots[slot] >= 0:
            return entry
        dictionary.slots[slot] = entry
    return -1


@njit(nogil=True, cache=True, inline="always")
def _room(array, n):
    """The array, longer if it has no room for n entries."""
    if n > len(array):
        shorter, array = array, np.empty(max(n, 2 * len(array)), dtype=array.dtype)
        array[: len(shorter)] = shorter
    return array


@njit(nogil=True, cache=True)
def _subwords(data, start, end, minn, maxn, bucket, first, token_ids, n):
    """Writes the character n-grams' ids from place n on; the place after the last."""
    for i in range(start - 1, end + 1):
        if start <= i < end and data[i] < -64:
            continue
        j, size, value = i, 0, _OFFSET
        while j <= end and size < maxn:
            while True:
                byte = data[j] if start <= j < end else (_LESS if j < start else _GREATER)
                value = ((value ^ byte) & _MASK) * _PRIME & _MASK
                j += 1
                if j >= end or data[j] >= -64:
                    break
            size += 1
            if size >= minn and not (size == 1 and (i < start or i == end)):
                token_ids[n] = first + value % bucket
                n += 1
    return n


@njit(nogil=True, cache=True)
def _encode(data, borders, dictionary, known, minn, maxn, word_ngrams, bucket, cu_seqlens):
    # A word is parted from the next by a space; what is not touched of these takes no memory.
    most = len(data) // 2 + 1
    words, hashes = np.empty((most, 3), dtype=np.int64), np.empty(most, dtype=np.int32)
    token_ids = np.empty(most, dtype=np.int32)
    word, n = 0, 0
    for row in range(len(borders) - 1):
        i, end, first = borders[row], borders[row + 1], word
        while i < end:
            stop = i
            while stop < end and not (data[stop] == 32 or data[stop] == 0 or 9 <= data[stop] <= 13):
                stop += 1
            if stop == i:
                i += 1
                continue
            value = _hash(data, i, stop)
            entry = dictionary.slots[_slot(dictionary, data, i, stop, value)]
            is_end = stop - i == len(_EOS) and _begins(data, i, stop, _EOS)
            if entry < known and (entry >= 0 or not _begins(data, i, stop, _PREFIX)):
                begin, length = n, stop - i + 2
                token_ids = _room(token_ids, n + 1 + length * min(maxn, length))
                if entry >= 0:
                    token_ids[n] = entry
                    n += 1
                if maxn > 0 and not is_end:
                    n = _subwords(data, i, stop, minn, maxn, bucket, known, token_ids, n)
                words[word, 0], words[word, 1], words[word, 2] = i, stop, n - begin
                hashes[word] = value  # as an int32, and so with its sign to 64 bits below
                word += 1
            if is_end:
                break
            i = stop
        for left in range(first, word):
            value64 = np.uint64(hashes[left])
            for right in range(left + 1, min(word, left + word_ngrams)):
                value64 = value64 * _FACTOR + np.uint64(hashes[right])
                token_ids = _room(token_ids, n + 1)
                token_ids[n] = known + np.int64(value64 % np.uint64(bucket))
                n += 1
        cu_seqlens[row + 1] = n
    return token_ids[:n], words[:word]
