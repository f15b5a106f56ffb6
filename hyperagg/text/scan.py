"""The compiled scan: bytes to tokens, tokens and n-grams to 64-bit hashes, hashes to token ids.

A normalized text is split into tokens: words, single marks, and single letters of scripts that do
not separate words; see `hyperagg.text.segmentation`. Every token may be followed by n-grams:

- of tokens: the bigram that it ends, and the n-grams of three and four tokens if all of these are
  single letters, for which they are n-grams of characters;
- of the characters of a word, written with a star for what may be beside them. With `NGRAMS` the
  first five and the last three characters of a word of more than five: "petro*" and "*eum". With
  `CHARS` one to three characters at either end, and one to four anywhere: "pe*", "*um", "*role*". A
  combining mark counts as a part of the character before it.

The hashes of each kind have a salt of their own, and those of n-grams of tokens are chained:
hash(a b c) = pair(pair(hash a, hash b), hash c). So what a text continues with depends on three
hashes, the context.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import first_bytes, read_eight
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text.characters import SINGLE, SPACE, WORD
from hyperagg.text.hash_table import count, find, merge_counts, new_counts, reserve
from hyperagg.text.hashing import (
    finish,
    hash_bytes,
    hash_characters,
    hash_pair,
    hash_short,
    mix,
    salted,
)
from hyperagg.text.segmentation import ascii_word_length, token_at

__all__ = [
    "CHARS",
    "END",
    "INNER",
    "KIND_BITS",
    "NGRAMS",
    "START",
    "WORDS",
    "count_occurrences",
    "find_ids",
    "kinds_of",
    "look_up",
    "look_up_continuation",
    "new_context",
]

# What is hashed: tokens; their n-grams; the n-grams of characters.
WORDS, NGRAMS, CHARS = range(3)

# In characters.
_MIN_LENGTH, _PREFIX, _SUFFIX = 6, 5, 3  # of NGRAMS
_MAX_AFFIX, _MAX_INNER = 3, 4  # of CHARS
_MAX_CHARACTERS = 64  # of a word, whose further characters have no n-grams of CHARS

# The kind of an entry: a token or the number of tokens before its last one; or where the n-gram of
# characters is in the word, with its number of characters added.
START, END, INNER = 8, 16, 24
KIND_BITS = 5

_BYTES_PER_PART = 1 << 20
_WORK_PER_BYTE = 4  # in multiply-adds, approximately
# The maximum number of tokens and n-grams per byte: a word of one letter has "a", a bigram and with
# CHARS "a*", "*a" and "*a*"; a word of n letters has at most 4 n + 2.
_MAX_PER_BYTE = (1, 2, 5)


def count_occurrences(
    data: np.ndarray, borders: np.ndarray, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split texts into tokens and count the tokens and their n-grams.

    Args:
        data, borders: from `normalization.texts_to_bytes`.
        features: WORDS, NGRAMS or CHARS.

    Returns:
        for each distinct one, in no particular order, its count (N,) int64 and its first occurrence
        (N,) int64: the first byte, times 32, plus the kind, which is 0 for a token.
    """
    # Each range is counted in a table that no other thread has at that time. Counts and first
    # occurrences do not depend on which table that is.
    tables: list[tuple[np.ndarray, int]] = []
    run(_count_rows, _ranges(borders), tables, data, borders, features)
    return merge_counts(tables or [(new_counts(), 0)])


def kinds_of(occurrences: np.ndarray) -> np.ndarray:
    """Return the kinds of occurrences as `count_occurrences` returns them."""
    return occurrences & (1 << KIND_BITS) - 1


def _ranges(borders: np.ndarray) -> np.ndarray:
    """Borders of ranges of rows, at least one range per thread that is worth starting."""
    size = int(borders[-1])
    number = max(parts(_WORK_PER_BYTE * size), -(-size // _BYTES_PER_PART))
    return even_borders(np.diff(borders), number)


def look_up(
    data: np.ndarray, borders: np.ndarray, table: np.ndarray, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Look up the ids of every row's tokens, each followed by the ids of its known n-grams.

    Args:
        data, borders: from `normalization.texts_to_bytes`.
        table: the vocabulary, from `hash_table.build_table`.
        features: what the vocabulary has: WORDS, NGRAMS or CHARS.

    Returns:
        token_ids (T,) int32; cu_seqlens (rows + 1,).
    """
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    run(_look_up_rows, _ranges(borders), found, data, borders, table, features)
    if len(found) == 1:
        return found[0]
    token_ids, counts = [np.empty(0, dtype=np.int32)], [np.zeros(1, dtype=np.int64)]
    for first in sorted(found):
        token_ids.append(found[first][0])
        counts.append(np.diff(found[first][1]))
    return np.concatenate(token_ids), np.cumsum(np.concatenate(counts))


def _count_rows(first: int, last: int, tables: list[Any], *args: Any) -> None:
    try:
        table, used = tables.pop()  # by one thread at a time
    except IndexError:
        table, used = new_counts(), 0
    result = _count_range(first, last, table, used, *args)
    if first < last:
        tables.append(result)


def _look_up_rows(first: int, last: int, found: dict[int, Any], *args: Any) -> None:
    result = find_ids(first, last, *args, new_context(), False)
    if first < last:
        found[first] = result[:2]


def new_context() -> np.ndarray:
    """Return the context at the beginning of a text: the hash of the last token, and those of the
    last one, two and three tokens if all of them are single letters; 0 for what there is not."""
    return np.zeros(4, dtype=np.uint64)


def look_up_continuation(
    data: np.ndarray,
    borders: np.ndarray,
    table: np.ndarray,
    features: int,
    context: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Look up the ids of a text that continues another one.

    Args:
        data, borders, table, features: as in `look_up`, of one text.
        context: what `new_context` returned, or the context after the other text; it is updated.

    Returns:
        token_ids (T,) int32; (T, 2) the first and the last token of the text that each of them
        stands for.
    """
    token_ids, _, owners = find_ids(0, 1, data, borders, table, features, context, True)
    return token_ids, owners


_KEYS_PER_BLOCK = 256
_MAX_KEYS = 4 + _MAX_INNER * _MAX_CHARACTERS + 2 * _MAX_AFFIX  # of a token
_NONE, _ONE, _BLANK = np.uint64(0), np.uint64(1), ord(" ")


class _Block(NamedTuple):
    """Memory of the scan.

    Attributes:
        keys, kinds, begins: the hashes of some tokens and their n-grams, their kinds and their
            first bytes.
        starts: the first bytes of the last three tokens.
        borders, characters: as `token_at` takes them.
    """

    keys: np.ndarray
    kinds: np.ndarray
    begins: np.ndarray
    starts: np.ndarray
    borders: np.ndarray
    characters: np.ndarray


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _new_block(longest):
    """Return the memory for rows of at most so many bytes."""
    size = _KEYS_PER_BLOCK + _MAX_KEYS
    return _Block(
        np.empty(size, dtype=np.uint64),
        np.empty(size, dtype=np.uint8),
        np.empty(size, dtype=np.int64),
        np.zeros(3, dtype=np.int64),
        np.empty(longest + 1, dtype=np.int64),
        np.empty(longest + 1, dtype=np.uint64),
    )


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _longest(borders, first, last):
    longest = 0
    for row in range(first, last):
        longest = max(longest, borders[row + 1] - borders[row])
    return longest


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _hash_block(data, i, end, table, features, context, block):
    """Hash tokens and their n-grams from byte `i` on until the block is full.

    Args:
        end: the end of the row.
        table: a table whose slots are prefetched.
        context: as `new_context` returns it; it is updated.
        block: a `_Block`; it is filled.

    Returns:
        the byte after the last token, and the number of hashes.
    """
    keys, kinds, begins, starts, borders, characters = block
    last, one, two, three = context[0], context[1], context[2], context[3]
    n, slots = 0, np.uint64(len(table) - 1)
    while i < end and n < _KEYS_PER_BLOCK:
        if data[i] == _BLANK:
            i += 1
            continue
        begin, stop, kind, eight = n, i, np.uint8(WORD), _NONE
        if data[i] < 128:
            # Most texts are mostly ASCII words, so these take a path of their own.
            token, eight = salted(0), read_eight(data, i)
            some = eight
            size = ascii_word_length(some)
            while size == 8 and stop + 8 <= end:
                token = mix(token ^ some)
                stop += 8
                some = read_eight(data, stop)
                size = ascii_word_length(some)
            size = min(size, end - stop)
            if size:
                token = mix(token ^ first_bytes(some, size))
                stop += size
            token = finish(token)
        is_ascii = stop > i and (stop == end or data[stop] < 128)
        if is_ascii:
            length = stop - i
        else:
            kind, stop, length = token_at(data, i, end, borders, characters)
            if kind == SPACE:
                i = stop
                continue
            token = hash_bytes(data, i, stop)
        keys[n], kinds[n], begins[n] = token, 0, i
        n += 1
        if features != WORDS:
            if last:
                keys[n], kinds[n], begins[n] = hash_pair(last, token), 1, starts[0]
                n += 1
            if kind == SINGLE:
                if two:
                    keys[n], kinds[n], begins[n] = hash_pair(two, token), 2, starts[1]
                    n += 1
                if three:
                    keys[n], kinds[n], begins[n] = hash_pair(three, token), 3, starts[2]
                    n += 1
                three = hash_pair(two, token) if two else _NONE
                two = hash_pair(one, token) if one else _NONE
                one = token
            else:
                one = two = three = _NONE
                if kind == WORD and features == CHARS:
                    if is_ascii:
                        for k in range(min(length, _MAX_CHARACTERS)):
                            borders[k], characters[k] = i + k, data[i + k]
                    n = _hash_characters(borders, characters, length, keys, kinds, begins, n)
                elif kind == WORD and length >= _MIN_LENGTH:
                    if is_ascii:
                        tail = stop - _SUFFIX
                        keys[n] = hash_short(eight, _PREFIX, START)
                        keys[n + 1] = hash_short(read_eight(data, tail), _SUFFIX, END)
                    else:
                        tail = borders[length - _SUFFIX]
                        keys[n] = hash_characters(characters, 0, _PREFIX, START)
                        keys[n + 1] = hash_characters(characters, length - _SUFFIX, length, END)
                    kinds[n], begins[n] = START + _PREFIX, i
                    kinds[n + 1], begins[n + 1] = END + _SUFFIX, tail
                    n += 2
            last = token
            starts[2], starts[1], starts[0] = starts[1], starts[0], i
        for k in range(begin, n):
            prefetch(table, keys[k] & slots)
        i = stop
    context[0], context[1], context[2], context[3] = last, one, two, three
    return i, n


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _hash_characters(borders, characters, length, keys, kinds, begins, n):
    """Write the hashes, kinds and first bytes of a word's n-grams of CHARS from index n on."""
    count = min(length, _MAX_CHARACTERS)
    for first in range(count):
        value = salted(INNER)
        for size in range(1, min(_MAX_INNER, count - first) + 1):
            value = mix(value ^ characters[first + size - 1])
            keys[n], kinds[n], begins[n] = finish(value), INNER + size, borders[first]
            n += 1
    prefix = salted(START)
    for size in range(1, min(_MAX_AFFIX, count) + 1):
        prefix = mix(prefix ^ characters[size - 1])
        keys[n], kinds[n], begins[n] = finish(prefix), START + size, borders[0]
        n += 1
        if count == length:
            suffix = hash_characters(characters, count - size, count, END)
            keys[n], kinds[n], begins[n] = suffix, END + size, borders[count - size]
            n += 1
    return n


@njit(nogil=True, cache=True)
def _count_range(first, last, table, used, data, borders, features):
    """Count the tokens and n-grams of rows first to last - 1; return the table and its number of
    hashes."""
    context = np.zeros(4, dtype=np.uint64)
    block = _new_block(_longest(borders, first, last))
    keys, kinds, begins = block.keys, block.kinds, block.begins
    for row in range(first, last):
        i, end = borders[row], borders[row + 1]
        context[:] = _NONE
        while i < end:
            table = reserve(table, used, len(keys))
            i, n = _hash_block(data, i, end, table, features, context, block)
            for k in range(n):
                occurrence = np.uint64((begins[k] << KIND_BITS) + kinds[k])
                used += count(table, keys[k], _ONE, occurrence)
    return table, used


@njit(nogil=True, cache=True)
def find_ids(first, last, data, borders, table, features, context, with_owners):
    """Look up the ids of rows first to last - 1; see `look_up` and `look_up_continuation`.

    The first row continues `context`, and every other row begins anew.
    """
    limit = (borders[last] - borders[first]) * _MAX_PER_BYTE[features]
    token_ids = np.empty(limit, dtype=np.int32)
    owners = np.empty((limit if with_owners else 0, 2), dtype=np.int64)
    cu_seqlens = np.zeros(last - first + 1, dtype=np.int64)
    block = _new_block(_longest(borders, first, last))
    keys, kinds = block.keys, block.kinds
    total, token = 0, -1
    for row in range(first, last):
        i, end = borders[row], borders[row + 1]
        if row > first:
            context[:] = _NONE
        while i < end:
            i, n = _hash_block(data, i, end, table, features, context, block)
            for k in range(n):
                found, kind = find(table, keys[k]), kinds[k]
                token += kind == 0
                if found or kind == 0:
                    token_ids[total] = found
                    if with_owners:
                        owners[total, 0] = max(0, token - kind) if kind < START else token
                        owners[total, 1] = token
                    total += 1
        cu_seqlens[row - first + 1] = total
    return token_ids[:total], cu_seqlens, owners[:total]
