"""Tokenizes as fastText does: words, their character n-grams, and hashed word n-grams.

    row(word)    =  its index in the dictionary
    row(n-gram)  =  number of words + hash mod bucket

Of a pruned model only some buckets have a row; an n-gram of another one is skipped.

The rows and their order are those of the C++ of fastText 0.9.2 when it predicts a line (Joulin et
al. 2017, "Bag of Tricks for Efficient Text Classification"; src/dictionary.cc): the row of each
word followed by its character n-grams, word by word, then the word n-grams. Case is kept, and only
ASCII white space separates words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from reprlib import repr as shorten
from typing import Any, NamedTuple

import numpy as np

from hyperagg._common.saved_files import parse_json
from hyperagg._numba.cache import njit
from hyperagg.text.ragged import Ragged
from hyperagg.text.tokenizers import Alignment

__all__ = ["KIND", "LABEL_PREFIX", "FastTextTokenizer"]

KIND = "hyperagg.FastTextTokenizer"
LABEL_PREFIX = "__label__"
_SETTINGS = ("minn", "maxn", "word_ngrams", "bucket")
_MAX_INT = 2**31 - 1  # ids and settings of fastText are int32
_MAX_NGRAM = 1000  # the time is proportional to it; fastText itself has no limit

# fastText appends the end of a line as a word, and reads no further.
_END = " </s>"
# Bytes are int8, because the hash of fastText treats them as signed.
_EOS = np.frombuffer(b"</s>", dtype=np.int8)
_PREFIX = np.frombuffer(LABEL_PREFIX.encode(), dtype=np.int8)


class _Dictionary(NamedTuple):
    """Entries end to end, their hashes, and a hash table at most half full: slot -> entry."""

    data: np.ndarray
    boundaries: np.ndarray
    hashes: np.ndarray
    slots: np.ndarray


class _BucketRows(NamedTuple):
    """A hash table at most half full: buckets, -1 in empty slots, and their rows after the words.
    A table without slots maps every bucket to the row of its number."""

    buckets: np.ndarray
    rows: np.ndarray


_ALL_BUCKETS = _BucketRows(np.empty(0, dtype=np.int32), np.empty(0, dtype=np.int32))


class FastTextTokenizer:
    """Map texts to rows of the input matrix of a supervised fastText model.

    A word that is not in the dictionary has its character n-grams, if any, and takes part in word
    n-grams. A text is one line: line breaks separate words as any white space does. As in fastText,
    "</s>" in a text ends it, and a word that looks like a label is skipped.

    Args:
        words: the words of the dictionary, with bytes that are not UTF-8 as in Python's
            "surrogateescape".
        labels: the labels of the dictionary, with their prefix.
        minn, maxn: minimum and maximum length of character n-grams; maxn=0 disables them.
        word_ngrams: maximum length of word n-grams; 0 and 1 disable them.
        bucket: number of buckets that n-grams share.
        kept_buckets: the buckets that have a row, in the order of their rows (default: all).

    Raises:
        ValueError: an entry or a bucket occurs twice, or a setting is not possible.

    Cost: O(bytes * maxn + words * word_ngrams) per text.

    >>> FastTextTokenizer(["good", "film", "</s>"]).encode(["good film"]).token_ids.tolist()
    [0, 1, 2]
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
        kept_buckets: Sequence[int] | None = None,
    ) -> None:
        self.words, self.labels = list(words), list(labels)
        self.minn, self.maxn, self.word_ngrams, self.bucket = minn, maxn, word_ngrams, bucket
        for name in _SETTINGS:
            value, limit = getattr(self, name), _MAX_INT if name == "bucket" else _MAX_NGRAM
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
                raise ValueError(f"{name}={shorten(value)}: expected an integer from 0 to {limit}")
        if bucket == 0 and (word_ngrams > 1 or maxn >= max(minn, 1)):
            raise ValueError("bucket=0: expected an integer >= 1, since there are n-grams")
        self.kept_buckets = None if kept_buckets is None else list(kept_buckets)
        if len(self) > _MAX_INT:
            raise ValueError(
                f"bucket={bucket}: expected at most {_MAX_INT} rows in all, with "
                f"{len(self.words):,} words"
            )
        self._dictionary = _index(self.words + self.labels)
        self._bucket_rows = _index_buckets(self.kept_buckets, bucket)

    @classmethod
    def from_json(cls, text: str) -> FastTextTokenizer:
        """Read the tokenizer that `to_json` wrote.

        Raises:
            ValueError: the text is not the JSON of such a tokenizer.
        """
        content = parse_json(text)
        if content.get("kind") != KIND:
            raise ValueError(f'not a fastText tokenizer: expected "kind": "{KIND}"')
        for name in ("words", "labels"):
            entries = content.get(name)
            if not isinstance(entries, list) or not all(
                isinstance(entry, str) for entry in entries
            ):
                raise ValueError(f"{name}={shorten(entries)}: expected a list of strings")
        settings: dict[str, Any] = {name: content.get(name) for name in _SETTINGS}
        kept = content.get("kept_buckets")
        if kept is not None and not (
            isinstance(kept, list) and all(type(bucket) is int for bucket in kept)
        ):
            raise ValueError(f"kept_buckets={shorten(kept)}: expected a list of integers")
        return cls(content["words"], content["labels"], **settings, kept_buckets=kept)

    def to_json(self) -> str:
        """Return the tokenizer as JSON in ASCII, since a dictionary may contain any bytes."""
        settings = {name: getattr(self, name) for name in _SETTINGS}
        content = {"kind": KIND, **settings, "labels": self.labels, "words": self.words}
        if self.kept_buckets is not None:
            content["kept_buckets"] = self.kept_buckets
        return json.dumps(content)

    def __len__(self) -> int:
        """Return the number of rows, without building `vocabulary`."""
        kept = self.kept_buckets
        return len(self.words) + (self.bucket if kept is None else len(kept))

    @cached_property
    def vocabulary(self) -> list[str]:
        """The words, then "[bucket 0]", "[bucket 1]", ... for the rows that n-grams share."""
        raw = (word.encode("utf-8", "surrogateescape") for word in self.words)
        kept = range(self.bucket) if self.kept_buckets is None else self.kept_buckets
        buckets = (f"[bucket {i}]" for i in kept)
        return [*(word.decode("utf-8", "replace") for word in raw), *buckets]

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return the rows of every text, in the order of fastText, which predicts from their mean.

        A text may have no rows only if the dictionary lacks "</s>".
        """
        return self._encode(texts)[0]

    def align(self, text: str) -> Alignment:
        """Return which words the tokens of `encode([text])` stand for.

        The end of the line is the last word, an empty span.
        """
        _, data, words = self._encode([text])
        # The number of characters that begin before each byte; the end of the line is after them.
        before = np.concatenate([[0], np.cumsum(data >= -64)]).clip(max=len(text))
        spans = [(begin, end) for begin, end in before[words[:, :2]].tolist()]
        single = np.arange(len(words)).repeat(words[:, 2])
        ngrams = [
            (first, last)
            for first in range(len(words))
            for last in range(first + 1, min(len(words), first + self.word_ngrams))
        ]
        owners = np.array(ngrams, dtype=np.int64).reshape(-1, 2)
        if self.kept_buckets is not None:
            every, _, _ = self._encode([text], _ALL_BUCKETS)
            buckets = every.token_ids[len(every.token_ids) - len(owners) :] - len(self.words)
            owners = owners[np.isin(buckets, self.kept_buckets)]
        return Alignment(spans, np.concatenate([single[:, None].repeat(2, 1), owners]))

    def _encode(
        self, texts: Sequence[str], bucket_rows: _BucketRows | None = None
    ) -> tuple[Ragged, np.ndarray, np.ndarray]:
        """The rows, the bytes of the texts, and (W, 3) the first byte, the end and the number of
        ids of every word."""
        data, boundaries = _end_to_end([text + _END for text in texts], "replace")
        settings = (len(self.words), self.minn, self.maxn, self.word_ngrams, self.bucket)
        cu_seqlens = np.zeros(len(boundaries), dtype=np.int64)
        token_ids, words = _encode(
            *(data, boundaries, self._dictionary, bucket_rows or self._bucket_rows),
            *(*settings, cu_seqlens),
        )
        return Ragged(token_ids, cu_seqlens), data, words


def _end_to_end(rows: Sequence[str], errors: str) -> tuple[np.ndarray, np.ndarray]:
    encoded = [row.encode("utf-8", errors) for row in rows]
    boundaries = np.concatenate([[0], np.cumsum([len(row) for row in encoded], dtype=np.int64)])
    return np.frombuffer(b"".join(encoded), dtype=np.int8), boundaries


def _index(entries: Sequence[str]) -> _Dictionary:
    data, boundaries = _end_to_end(entries, "surrogateescape")
    slots = np.full(1 << max(4, int(2 * len(entries)).bit_length()), -1, dtype=np.int32)
    dictionary = _Dictionary(data, boundaries, np.empty(len(entries), dtype=np.int64), slots)
    if (duplicate := _insert(dictionary)) >= 0:
        raise ValueError(f"words: {shorten(entries[duplicate])} occurs twice")
    return dictionary


def _index_buckets(kept: Sequence[int] | None, bucket: int) -> _BucketRows:
    if kept is None:
        return _ALL_BUCKETS
    if kept and not 0 <= min(kept) <= max(kept) < bucket:
        raise ValueError(f"kept_buckets: expected integers from 0 to {bucket - 1}")
    slots = 1 << max(4, int(2 * len(kept)).bit_length())
    table = _BucketRows(np.full(slots, -1, dtype=np.int32), np.empty(slots, dtype=np.int32))
    if (duplicate := _insert_buckets(table, np.array(kept, dtype=np.int64))) >= 0:
        raise ValueError(f"kept_buckets: {kept[duplicate]} occurs twice")
    return table


# 32-bit FNV-1a; the products stay below 2^57.
_OFFSET, _PRIME, _MASK = 2166136261, 16777619, 0xFFFFFFFF
_LESS, _GREATER = ord("<"), ord(">")  # the boundaries of a word in its character n-grams
_FACTOR = np.uint64(116049371)


@njit(nogil=True, cache=True, inline="always")
def _hash(data, start, end):
    value = _OFFSET
    for i in range(start, end):
        value = ((value ^ data[i]) & _MASK) * _PRIME & _MASK
    return value


@njit(nogil=True, cache=True, inline="always")
def _starts_with(data, start, end, prefix):
    i = 0
    while i < len(prefix) and start + i < end and data[start + i] == prefix[i]:
        i += 1
    return i == len(prefix)


@njit(nogil=True, cache=True)
def _slot(dictionary, data, start, end, value):
    """The slot of an entry, or the empty slot where it would be inserted."""
    last = len(dictionary.slots) - 1
    slot = (value ^ (value >> 15)) & last
    while True:
        entry = dictionary.slots[slot]
        if entry < 0:
            return slot
        if dictionary.hashes[entry] == value:
            first, stop = dictionary.boundaries[entry], dictionary.boundaries[entry + 1]
            if stop - first == end - start and _starts_with(
                data, start, end, dictionary.data[first:stop]
            ):
                return slot
        slot = (slot + 1) & last


@njit(nogil=True, cache=True)
def _insert(dictionary):
    """Fill hashes and slots; return the first duplicate entry, or -1."""
    for entry in range(len(dictionary.hashes)):
        start, end = dictionary.boundaries[entry], dictionary.boundaries[entry + 1]
        dictionary.hashes[entry] = value = _hash(dictionary.data, start, end)
        slot = _slot(dictionary, dictionary.data, start, end, value)
        if dictionary.slots[slot] >= 0:
            return entry
        dictionary.slots[slot] = entry
    return -1


@njit(nogil=True, cache=True, inline="always")
def _bucket_slot(table, bucket):
    """The slot of a bucket, or the empty slot where it would be inserted."""
    last = len(table.buckets) - 1
    slot = (bucket ^ (bucket >> 15)) & last
    while table.buckets[slot] >= 0 and table.buckets[slot] != bucket:
        slot = (slot + 1) & last
    return slot


@njit(nogil=True, cache=True)
def _insert_buckets(table, kept):
    """Fill the table; return the first duplicate bucket, or -1."""
    for row in range(len(kept)):
        slot = _bucket_slot(table, kept[row])
        if table.buckets[slot] >= 0:
            return row
        table.buckets[slot], table.rows[slot] = kept[row], row
    return -1


@njit(nogil=True, cache=True, inline="always")
def _add_bucket(table, bucket, first, token_ids, n):
    """Write the id of a bucket at index n, if it has a row; return the index after the last id."""
    row = bucket
    if len(table.buckets) > 0:
        slot = _bucket_slot(table, bucket)
        if table.buckets[slot] < 0:
            return n
        row = np.int64(table.rows[slot])
    token_ids[n] = first + row
    return n + 1


@njit(nogil=True, cache=True, inline="always")
def _with_capacity(array, n):
    """The array, enlarged if it has fewer than n entries."""
    if n > len(array):
        shorter, array = array, np.empty(max(n, 2 * len(array)), dtype=array.dtype)
        array[: len(shorter)] = shorter
    return array


@njit(nogil=True, cache=True)
def _subwords(data, start, end, minn, maxn, bucket, rows, first, token_ids, n):
    """Write the ids of the character n-grams from index n on; return the index after the last."""
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
                n = _add_bucket(rows, value % bucket, first, token_ids, n)
    return n


@njit(nogil=True, cache=True)
def _encode(data, boundaries, dictionary, rows, known, minn, maxn, word_ngrams, bucket, cu_seqlens):
    # Words are separated by spaces. Untouched pages of these arrays take no memory.
    capacity = len(data) // 2 + 1
    words, hashes = np.empty((capacity, 3), dtype=np.int64), np.empty(capacity, dtype=np.int32)
    token_ids = np.empty(capacity, dtype=np.int32)
    word, n = 0, 0
    for row in range(len(boundaries) - 1):
        i, end, first = boundaries[row], boundaries[row + 1], word
        while i < end:
            stop = i
            while stop < end and not (data[stop] == 32 or data[stop] == 0 or 9 <= data[stop] <= 13):
                stop += 1
            if stop == i:
                i += 1
                continue
            value = _hash(data, i, stop)
            entry = dictionary.slots[_slot(dictionary, data, i, stop, value)]
            is_end = stop - i == len(_EOS) and _starts_with(data, i, stop, _EOS)
            if entry < known and (entry >= 0 or not _starts_with(data, i, stop, _PREFIX)):
                begin, length = n, stop - i + 2
                token_ids = _with_capacity(token_ids, n + 1 + length * min(maxn, length))
                if entry >= 0:
                    token_ids[n] = entry
                    n += 1
                if maxn > 0 and not is_end:
                    n = _subwords(data, i, stop, minn, maxn, bucket, rows, known, token_ids, n)
                words[word, 0], words[word, 1], words[word, 2] = i, stop, n - begin
                hashes[word] = value  # as int32, so that its sign is extended to 64 bits below
                word += 1
            if is_end:
                break
            i = stop
        for left in range(first, word):
            value64 = np.uint64(hashes[left])
            for right in range(left + 1, min(word, left + word_ngrams)):
                value64 = value64 * _FACTOR + np.uint64(hashes[right])
                token_ids = _with_capacity(token_ids, n + 1)
                value = np.int64(value64 % np.uint64(bucket))
                n = _add_bucket(rows, value, known, token_ids, n)
        cu_seqlens[row + 1] = n
    return token_ids[:n], words[:word]
