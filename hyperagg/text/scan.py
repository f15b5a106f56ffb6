"""The compiled scan: bytes to tokens, tokens and n-grams to 64-bit hashes, hashes to token ids.

A text is normalized and split into tokens: words, single marks, and single letters of scripts that
do not separate words; see `hyperagg.text.characters`. Every token may be followed by n-grams:

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

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import first_bytes, read_eight, trailing_zero_bytes
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text.characters import (
    ASCII,
    EXTEND,
    MARK,
    REGIONAL,
    SINGLE,
    SPACE,
    WORD,
    class_at,
    normalize,
)
from hyperagg.text.hash_table import count, find, merge_counts, new_counts, reserve

__all__ = [
    "CHARS",
    "NGRAMS",
    "WORDS",
    "count_occurrences",
    "entry_texts",
    "find_ids",
    "hash_vocabulary",
    "kinds_of",
    "look_up",
    "look_up_continuation",
    "new_context",
    "text_to_bytes",
    "texts_to_bytes",
    "token_borders",
]

# What is hashed: tokens; their n-grams; the n-grams of characters.
WORDS, NGRAMS, CHARS = range(3)

# In characters.
_MIN_LENGTH, _PREFIX, _SUFFIX = 6, 5, 3  # of NGRAMS
_MAX_AFFIX, _MAX_INNER = 3, 4  # of CHARS
_MAX_CHARACTERS = 64  # of a word, whose further characters have no n-grams of CHARS

# The kind of an entry: a token or the number of tokens before its last one; or where the n-gram of
# characters is in the word, with its number of characters added.
_START, _END, _INNER = 8, 16, 24
_KIND_BITS = 5

_TEXTS_PER_JOIN = 64
_BYTES_PER_PART = 1 << 20
_WORK_PER_BYTE, _WORK_PER_ENTRY = 4, 100  # in multiply-adds, approximately
# The maximum number of tokens and n-grams per byte: a word of one letter has "a", a bigram and with
# CHARS "a*", "*a" and "*a*"; a word of n letters has at most 4 n + 2.
_MAX_PER_BYTE = (1, 2, 5)


def texts_to_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the UTF-8 bytes of the normalized texts in one array, and their (n + 1,) borders."""
    parts: list[bytes] = []
    lengths: list[int] = []
    for i in range(0, len(texts), _TEXTS_PER_JOIN):
        some = texts[i : i + _TEXTS_PER_JOIN]
        together = "".join(some)
        if together.isascii():
            parts.append(together.lower().encode())
            lengths += map(len, some)
        else:
            own = [_encoded(text) for text in some]
            parts += own
            lengths += map(len, own)
    ends = accumulate(lengths, initial=0)
    borders = np.fromiter(ends, dtype=np.int64, count=len(lengths) + 1)
    return np.frombuffer(b"".join(parts), dtype=np.uint8), borders


def text_to_bytes(text: str) -> np.ndarray:
    """Return the bytes that `texts_to_bytes` returns for one text."""
    return np.frombuffer(_encoded(text), dtype=np.uint8)


def _encoded(text: str) -> bytes:
    return normalize(text).encode("utf-8", "replace")  # UTF-8 cannot encode surrogates


def count_occurrences(
    data: np.ndarray, borders: np.ndarray, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split texts into tokens and count the tokens and their n-grams.

    Args:
        data, borders: from `texts_to_bytes`.
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
    return occurrences & (1 << _KIND_BITS) - 1


def _ranges(borders: np.ndarray) -> np.ndarray:
    """Borders of ranges of rows, at least one range per thread that is worth starting."""
    size = int(borders[-1])
    number = max(parts(_WORK_PER_BYTE * size), -(-size // _BYTES_PER_PART))
    return even_borders(np.diff(borders), number)


def entry_texts(data: np.ndarray, borders: np.ndarray, occurrences: np.ndarray) -> list[str]:
    """Return the vocabulary entries of tokens and n-grams: "oil", "crude oil", "petro*", "*eum".

    Args:
        data, borders: the texts, as `count_occurrences` takes them.
        occurrences: as `count_occurrences` returns them.
    """
    found: dict[int, np.ndarray] = {}
    ranges = even_borders(np.ones(len(occurrences)), parts(_WORK_PER_ENTRY * len(occurrences)))
    run(_write_range, ranges, found, data, borders, occurrences)
    joined = b"".join(found[first].tobytes() for first in sorted(found))
    # A token cannot contain a newline.
    return joined.decode("utf-8", "replace").split("\n")[:-1]


def hash_vocabulary(entries: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the hashes (V,) of tokens and n-grams, given as `entry_texts` returns them, and their
    kinds (V,), which are 0 for a token."""
    joined = "\n".join([*entries, ""])
    if joined.count("\n") > len(entries):
        return hash_vocabulary([entry.replace("\n", " ") for entry in entries])
    data = np.frombuffer(joined.encode("utf-8", "replace"), dtype=np.uint8)
    ends = np.flatnonzero(data == _NEWLINE)
    hashes, kinds = np.empty(len(entries), dtype=np.uint64), np.empty(len(entries), dtype=np.uint8)
    ranges = even_borders(np.ones(len(entries)), parts(_WORK_PER_ENTRY * len(entries)))
    run(_hash_entries, ranges, data, ends, hashes, kinds)
    return hashes, kinds


def look_up(
    data: np.ndarray, borders: np.ndarray, table: np.ndarray, features: int
) -> tuple[np.ndarray, np.ndarray]:
    """Look up the ids of every row's tokens, each followed by the ids of its known n-grams.

    Args:
        data, borders: from `texts_to_bytes`.
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


def _write_range(
    first: int, last: int, found: dict[int, Any], data: Any, borders: Any, occurrences: Any
) -> None:
    own = occurrences[first:last]
    ends = borders[np.searchsorted(borders, own >> _KIND_BITS, side="right")]
    size = _write_entries(data, ends, own, np.empty(0, dtype=np.uint8))
    out = np.empty(size, dtype=np.uint8)
    _write_entries(data, ends, own, out)
    found[first] = out


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


def token_borders(data: np.ndarray) -> np.ndarray:
    """Return (T, 2), the first byte and the last byte + 1 of every token of a text."""
    out = np.empty((len(data), 2), dtype=np.int64)
    return out[: _token_borders(data, out)]


_KEYS_PER_BLOCK = 256
_MAX_KEYS = 4 + _MAX_INNER * _MAX_CHARACTERS + 2 * _MAX_AFFIX  # of a token
# The hash of a token takes in eight bytes at a time, and that of an n-gram of characters one
# character. Any two of V entries collide with a probability of about V^2 / 2^65, which is 1e-7 for
# two million entries.
_OFFSET, _MULTIPLIER = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)
_NONE, _ONE = np.uint64(0), np.uint64(1)
_BLANK, _STAR, _NEWLINE = ord(" "), ord("*"), ord("\n")
_HIGH = np.uint64(0x8080808080808080)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _mix(value):
    # A product's low bits depend on the low bits of its factor alone, and the tables are indexed by
    # them. Without the first shift, differences in the last byte of eight and of the next eight
    # cancel each other.
    value ^= value >> np.uint64(32)
    value *= _MULTIPLIER
    return value ^ (value >> np.uint64(29))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _finish(value):
    value = _mix(value)
    return value if value else _ONE  # hash 0 means "none"


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _salted(salt):
    return _mix(_OFFSET ^ np.uint64(salt))


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _hash(data, start, end, salt):
    """The hash of the bytes from `start` to `end`."""
    value = _salted(salt)
    while end - start >= 8:
        value = _mix(value ^ read_eight(data, start))
        start += 8
    if start < end:
        value = _mix(value ^ first_bytes(read_eight(data, start), end - start))
    return _finish(value)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _hash_pair(first, second):
    return _finish(first * _MULTIPLIER + second)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _repeated(byte):
    return np.uint64(byte * 0x0101010101010101)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _not_word(eight):
    """The high bit of each of eight bytes that is not an ASCII letter, digit or underscore."""
    low = eight & ~_HIGH  # so that no sum carries into the next byte
    lower = low | _repeated(0x20)
    letter = (lower + _repeated(0x80 - ord("a"))) & ~(lower + _repeated(0x7F - ord("z")))
    digit = (low + _repeated(0x80 - ord("0"))) & ~(low + _repeated(0x7F - ord("9")))
    underscore = ~((low ^ _repeated(ord("_"))) + _repeated(0x7F))
    return (~(letter | digit | underscore) | eight) & _HIGH


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _word_length(eight):
    """The number of bytes, 0 to 8, before the first one that is not of an ASCII word."""
    return trailing_zero_bytes(_not_word(eight))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _token(data, start, end):
    """The class and the end of the token that starts at `start`, which is not a space."""
    if data[start] < 128:
        kind, stop = ASCII[data[start]], start + 1
    else:
        kind, stop = class_at(data, start)
    if kind in (WORD, EXTEND):
        while stop < end:
            if data[stop] < 128:
                if ASCII[data[stop]] != WORD:
                    break
                stop += 1
            else:
                other, after = class_at(data, stop)
                if other != WORD and other != EXTEND:
                    break
                stop = after
        return np.uint8(WORD), stop
    if stop < end and data[stop] >= 128:
        return _extended(data, kind, start, stop, end)
    return kind, stop


@njit(nogil=True, cache=True)
def _extended(data, kind, start, stop, end):
    """The class of a mark, a single letter or a flag, and its end with what extends it."""
    while stop < end and data[stop] >= 128:
        other, after = class_at(data, stop)
        if kind == REGIONAL and other == REGIONAL:
            kind = np.uint8(MARK)  # the second half of a flag
        elif other == EXTEND:
            pass
        elif not (
            other == MARK
            and stop - start > 3
            and data[stop - 3] == 0xE2  # a zero-width joiner
            and data[stop - 2] == 0x80
            and data[stop - 1] == 0x8D
        ):
            break
        stop = after
    return kind, stop


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _character_end(data, start, end):
    """The end of the character at `start` with its combining marks."""
    stop = start + 1
    while stop < end and data[stop] >= 128:
        if data[stop] & 0xC0 == 0x80:
            stop += 1
        else:
            other, after = class_at(data, stop)
            if other != EXTEND:
                break
            stop = after
    return stop


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _character(data, start, stop):
    """The bytes of a character with its combining marks, or their hash if there are many."""
    if stop - start > 8:
        return _hash(data, start, stop, 0)
    return first_bytes(read_eight(data, start), stop - start)


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _hash_ngram(data, start, end, salt):
    """The hash of an n-gram of characters, and their number."""
    value, count = _salted(salt), 0
    while start < end:
        stop = _character_end(data, start, end)
        value = _mix(value ^ _character(data, start, stop))
        count += 1
        start = stop
    return _finish(value), count


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _hash_ascii_ngram(data, start, number, salt):
    """What `_hash_ngram` returns for so many ASCII characters, at most eight."""
    value, eight = _salted(salt), read_eight(data, start)
    for _ in range(number):
        value = _mix(value ^ first_bytes(eight, 1))
        eight >>= np.uint64(8)
    return _finish(value)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _affixes(data, start, end):
    """The hashes of a word's prefix and suffix and the start of the suffix, which is -1 for a word
    that is too short."""
    count, head, i = 0, start, start
    first, second, third = start, start, start  # the last three characters
    while i < end:
        if count == _PREFIX:
            head = i
        first, second, third = second, third, i
        i = _character_end(data, i, end)
        count += 1
    if count < _MIN_LENGTH:
        return _NONE, _NONE, -1
    prefix = _salted(_START)
    while start < head:
        stop = _character_end(data, start, head)
        prefix = _mix(prefix ^ _character(data, start, stop))
        start = stop
    suffix = _mix(_salted(_END) ^ _character(data, first, second))
    suffix = _mix(suffix ^ _character(data, second, third))
    suffix = _mix(suffix ^ _character(data, third, end))
    return _finish(prefix), _finish(suffix), first


@njit(nogil=True, cache=True, no_cpython_wrapper=True)
def _hash_characters(data, start, end, is_ascii, borders, characters, keys, kinds, begins, n):
    """Write the hashes, kinds and first bytes of a word's n-grams of CHARS from index n on."""
    count, stop = 0, start
    if is_ascii:
        count = min(end - start, _MAX_CHARACTERS)
        stop = start + count
        for i in range(count):
            borders[i], characters[i] = start + i, data[start + i]
    else:
        while stop < end and count < _MAX_CHARACTERS:
            begin, stop = stop, _character_end(data, stop, end)
            borders[count], characters[count] = begin, _character(data, begin, stop)
            count += 1
    borders[count] = stop
    for first in range(count):
        value = _salted(_INNER)
        for size in range(1, min(_MAX_INNER, count - first) + 1):
            value = _mix(value ^ characters[first + size - 1])
            keys[n], kinds[n], begins[n] = _finish(value), _INNER + size, borders[first]
            n += 1
    prefix = _salted(_START)
    for size in range(1, min(_MAX_AFFIX, count) + 1):
        prefix = _mix(prefix ^ characters[size - 1])
        keys[n], kinds[n], begins[n] = _finish(prefix), _START + size, start
        n += 1
        if stop == end:
            value = _salted(_END)
            for i in range(count - size, count):
                value = _mix(value ^ characters[i])
            keys[n], kinds[n], begins[n] = _finish(value), _END + size, borders[count - size]
            n += 1
    return n


@njit(nogil=True, cache=True)
def _hash_block(
    data, i, end, table, features, context, starts, borders, characters, keys, kinds, begins
):
    """Hash tokens and their n-grams from byte `i` on until the block is full.

    Args:
        end: the end of the row.
        table: a table whose slots are prefetched.
        context: as `new_context` returns it; it is updated.
        starts: the first bytes of the last three tokens; they are updated.
        borders, characters: memory for the characters of a word.
        keys, kinds, begins: the hashes, kinds and first bytes.

    Returns:
        the byte after the last token, and the number of hashes.
    """
    last, one, two, three = context[0], context[1], context[2], context[3]
    n, slots = 0, np.uint64(len(table) - 1)
    while i < end and n < _KEYS_PER_BLOCK:
        if data[i] == _BLANK:
            i += 1
            continue
        begin, stop, token = n, i, _salted(0)
        first_class = kind = np.uint8(WORD)
        if data[i] < 128:
            # Most texts are mostly ASCII words, so these take a path of their own.
            eight = read_eight(data, i)
            length = _word_length(eight)
            while length == 8 and stop + 8 <= end:
                token = _mix(token ^ eight)
                stop += 8
                eight = read_eight(data, stop)
                length = _word_length(eight)
            length = min(length, end - stop)
            if length:
                token = _mix(token ^ first_bytes(eight, length))
                stop += length
            token = _finish(token)
        is_ascii = stop > i and (stop == end or data[stop] < 128)
        if not is_ascii:
            if data[i] < 128:
                first_class, after = ASCII[data[i]], i + 1
            else:
                first_class, after = class_at(data, i)
            if first_class == SPACE:
                i = after
                continue
            kind, stop = _token(data, i, end)
            if stop - i < 8:
                token = _finish(_mix(_salted(0) ^ first_bytes(read_eight(data, i), stop - i)))
            else:
                token = _hash(data, i, stop, 0)
        keys[n], kinds[n], begins[n] = token, 0, i
        n += 1
        if features != WORDS:
            if last:
                keys[n], kinds[n], begins[n] = _hash_pair(last, token), 1, starts[0]
                n += 1
            if kind == SINGLE:
                if two:
                    keys[n], kinds[n], begins[n] = _hash_pair(two, token), 2, starts[1]
                    n += 1
                if three:
                    keys[n], kinds[n], begins[n] = _hash_pair(three, token), 3, starts[2]
                    n += 1
                three = _hash_pair(two, token) if two else _NONE
                two = _hash_pair(one, token) if one else _NONE
                one = token
            else:
                one = two = three = _NONE
                if kind == WORD and first_class != EXTEND:
                    if features == CHARS:
                        n = _hash_characters(
                            data, i, stop, is_ascii, borders, characters, keys, kinds, begins, n
                        )
                    else:
                        tail = -1
                        if not is_ascii:
                            keys[n], keys[n + 1], tail = _affixes(data, i, stop)
                        elif stop - i >= _MIN_LENGTH:
                            tail = stop - _SUFFIX
                            keys[n] = _hash_ascii_ngram(data, i, _PREFIX, _START)
                            keys[n + 1] = _hash_ascii_ngram(data, tail, _SUFFIX, _END)
                        if tail >= 0:
                            kinds[n], begins[n] = _START + _PREFIX, i
                            kinds[n + 1], begins[n + 1] = _END + _SUFFIX, tail
                            n += 2
            last = token
            starts[2], starts[1], starts[0] = starts[1], starts[0], i
        for k in range(begin, n):
            prefetch(table, keys[k] & slots)
        i = stop
    context[0], context[1], context[2], context[3] = last, one, two, three
    return i, n


@njit(nogil=True, cache=True)
def _new_block():
    """Return the memory that `_hash_block` takes, from `starts` on."""
    size = _KEYS_PER_BLOCK + _MAX_KEYS
    return (
        np.zeros(3, dtype=np.int64),
        np.empty(_MAX_CHARACTERS + 1, dtype=np.int64),
        np.empty(_MAX_CHARACTERS, dtype=np.uint64),
        np.empty(size, dtype=np.uint64),
        np.empty(size, dtype=np.uint8),
        np.empty(size, dtype=np.int64),
    )


@njit(nogil=True, cache=True)
def _count_range(first, last, table, used, data, borders, features):
    """Count the tokens and n-grams of rows first to last - 1; return the table and its number of
    hashes."""
    context = np.zeros(4, dtype=np.uint64)
    block = _new_block()
    keys, kinds, begins = block[3], block[4], block[5]
    for row in range(first, last):
        i, end = borders[row], borders[row + 1]
        context[:] = _NONE
        while i < end:
            table = reserve(table, used, len(keys))
            i, n = _hash_block(data, i, end, table, features, context, *block)
            for k in range(n):
                occurrence = np.uint64((begins[k] << _KIND_BITS) + kinds[k])
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
    block = _new_block()
    keys, kinds = block[3], block[4]
    total, token = 0, -1
    for row in range(first, last):
        i, end = borders[row], borders[row + 1]
        if row > first:
            context[:] = _NONE
        while i < end:
            i, n = _hash_block(data, i, end, table, features, context, *block)
            for k in range(n):
                found, kind = find(table, keys[k]), kinds[k]
                token += kind == 0
                if found or kind == 0:
                    token_ids[total] = found
                    if with_owners:
                        owners[total, 0] = max(0, token - kind) if kind < _START else token
                        owners[total, 1] = token
                    total += 1
        cu_seqlens[row - first + 1] = total
    return token_ids[:total], cu_seqlens, owners[:total]


@njit(nogil=True, cache=True)
def _token_borders(data, out):
    i, end, n = 0, len(data), 0
    while i < end:
        kind, stop = (ASCII[data[i]], i + 1) if data[i] < 128 else class_at(data, i)
        if kind != SPACE:
            _, stop = _token(data, i, end)
            out[n, 0], out[n, 1] = i, stop
            n += 1
        i = stop
    return n


@njit(nogil=True, cache=True)
def _hash_entries(first, last, data, ends, hashes, kinds):
    """Hash entries first to last - 1 of those that are joined in `data`."""
    for entry in range(first, last):
        start, end = ends[entry - 1] + 1 if entry else 0, ends[entry]
        # A star with combining marks is a token, not the beginning of an n-gram.
        after = start < end - 1 and data[start] == _STAR
        if after and data[start + 1] >= 128:
            after = class_at(data, start + 1)[0] != EXTEND
        before = start < end - 1 and data[end - 1] == _STAR
        for i in range(start, end):
            if data[i] == _BLANK:
                after = before = False
        if after or before:
            kind = _INNER if after and before else (_END if after else _START)
            start, end = start + after, end - before
            hashes[entry], count = _hash_ngram(data, start, end, kind)
            kinds[entry] = kind + min(count, _START - 1)
            continue
        value, count, i = _NONE, 0, start
        while i < end:
            kind, stop = (ASCII[data[i]], i + 1) if data[i] < 128 else class_at(data, i)
            if kind != SPACE:
                _, stop = _token(data, i, end)
                token = _hash(data, i, stop, 0)
                value = _hash_pair(value, token) if count else token
                count += 1
            i = stop
        hashes[entry], kinds[entry] = value, min(max(count - 1, 0), _START - 1)


@njit(nogil=True, cache=True)
def _write_entries(data, ends, occurrences, out):
    """Write entries, each with a newline, unless `out` is empty; return the number of bytes."""
    n, write = 0, len(out) > 0
    for entry in range(len(occurrences)):
        i, kind = occurrences[entry] >> _KIND_BITS, occurrences[entry] & (1 << _KIND_BITS) - 1
        end = ends[entry]
        begin, previous = i, SPACE
        if kind >= _START:
            for _ in range(kind % _START):
                i = _character_end(data, i, end)
            if kind > _END:
                if write:
                    out[n] = _STAR
                n += 1
            for j in range(begin, i):
                if write:
                    out[n] = data[j]
                n += 1
            if kind < _END or kind > _INNER:
                if write:
                    out[n] = _STAR
                n += 1
        else:
            count = 0
            while count <= kind:
                own, stop = (ASCII[data[i]], i + 1) if data[i] < 128 else class_at(data, i)
                if own != SPACE:
                    own, stop = _token(data, i, end)
                    if count and not (own == SINGLE and previous == SINGLE):
                        if write:
                            out[n] = _BLANK
                        n += 1
                    for j in range(i, stop):
                        if write:
                            out[n] = data[j]
                        n += 1
                    previous = own
                    count += 1
                i = stop
        if write:
            out[n] = _NEWLINE
        n += 1
    return n
