"""The compiled scan: bytes to words, words and n-grams to 64-bit hashes, hashes to token ids.

    words(text)  =  every match of  \\w+|[^\\w\\s]  in the lower-cased text

The regular expression is the definition. The scan computes it over the UTF-8 bytes of whole
batches. In ASCII text each byte has one of three kinds: space, word character, punctuation mark. In
other text every non-ASCII mark that is not a word character is first surrounded with spaces, after
which a byte above 127 can only belong to a word, so that the same scan serves all languages.

A word can have up to three n-grams: the bigram of the previous word and itself, and, if it has more
than five characters, its first five and its last three characters. The hashes of each kind of
n-gram have a salt of their own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Any

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.prefetch import prefetch
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text.hash_table import find

__all__ = [
    "NGRAMS_PER_WORD",
    "entry_texts",
    "find_ids",
    "hash_vocabulary",
    "look_up",
    "look_up_continuation",
    "scan",
    "text_to_bytes",
    "texts_to_bytes",
]

_NON_ASCII, _WORD_CHARACTER = re.compile(r"[^\x00-\x7f]+"), re.compile(r"\w")
_SPACE, _WORD, _MARK = 0, 1, 2

# The n-grams that a word can have: the bigram that it ends, its prefix, its suffix.
NGRAMS_PER_WORD = 3
# In characters; the lengths of prefix and suffix are also the salts of their hashes.
_MIN_LENGTH, _PREFIX, _SUFFIX = 6, 5, 3


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

_TEXTS_PER_JOIN = 64
_BYTES_PER_PART = 1 << 24
_WORK_PER_BYTE = 4  # in multiply-adds, approximately


def texts_to_bytes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the UTF-8 bytes of the lower-cased texts in one array, and their (n + 1,) borders."""
    parts: list[bytes] = []
    lengths: list[int] = []
    for i in range(0, len(texts), _TEXTS_PER_JOIN):
        some = texts[i : i + _TEXTS_PER_JOIN]
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


def text_to_bytes(text: str) -> np.ndarray:
    """Return the bytes that `texts_to_bytes` returns for one text."""
    return np.frombuffer(_lowered(text), dtype=np.uint8)


def _lowered(text: str) -> bytes:
    text = text.lower()
    if text.isascii():
        return text.encode()
    # A text has few distinct characters that are not ASCII, and most of them are letters.
    for character in set("".join(_NON_ASCII.findall(text))):
        separated = _separated(character)
        if separated != character:
            text = text.replace(character, separated)
    return text.encode("utf-8", "replace")


@lru_cache(maxsize=1 << 16)
def _separated(character: str) -> str:
    """A space for any kind of space, and a mark between spaces."""
    if character.isspace():
        return " "
    return character if _WORD_CHARACTER.match(character) else f" {character} "


def scan(
    data: np.ndarray, borders: np.ndarray, ngrams: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Split texts into words and hash the words and their n-grams.

    Args:
        data, borders: from `texts_to_bytes`.
        ngrams: whether to hash n-grams.

    Returns:
        for each of the T words its hash, its first byte and its last byte + 1; and (T, 3) the
        hashes of its n-grams, 0 for those that it does not have, or (0, 3) without n-grams.
    """
    ranges = _ranges(borders)
    counts = np.zeros(len(borders), dtype=np.int64)
    run(_count_words, ranges, data, borders, counts)
    offsets = np.cumsum(counts)
    total = offsets[-1]
    hashes = np.empty(total, dtype=np.uint64)
    starts, ends = (np.empty(total, dtype=np.int64) for _ in range(2))
    ngram_hashes = np.empty((total if ngrams else 0, NGRAMS_PER_WORD), dtype=np.uint64)
    run(_hash_words, ranges, data, borders, offsets, hashes, starts, ends, ngram_hashes)
    return hashes, starts, ends, ngram_hashes


def _ranges(borders: np.ndarray) -> np.ndarray:
    """Borders of ranges of rows, at least one range per thread that is worth starting."""
    size = int(borders[-1])
    number = max(parts(_WORK_PER_BYTE * size), -(-size // _BYTES_PER_PART))
    return even_borders(np.diff(borders), number)


def entry_texts(
    data: np.ndarray, starts: np.ndarray, ends: np.ndarray, chosen: np.ndarray, ngrams: bool
) -> list[str]:
    """Return the vocabulary entries of words, or of n-grams: "two words", "prefix*", "*suffix".

    Args:
        data, starts, ends: the bytes and words, as `scan` takes and returns them.
        chosen: indices of words, or of n-grams in the flattened (T, 3) array of their hashes.
        ngrams: whether `chosen` are indices of n-grams.
    """
    if not len(chosen):
        return []
    last = chosen // NGRAMS_PER_WORD if ngrams else chosen
    first = np.maximum(last - 1, 0) if ngrams else last
    longest = (ends[last] - starts[last]).sum() + (ends[first] - starts[first]).sum()
    out = np.empty(longest + 2 * len(chosen), dtype=np.uint8)
    size = _write_entries(data, starts, ends, chosen, ngrams, out)
    # A word cannot contain a newline.
    return out[:size].tobytes().decode("utf-8", "replace").split("\n")[:-1]


def hash_vocabulary(entries: Sequence[str]) -> np.ndarray:
    """Return the (V,) hashes of words and n-grams, given as `entry_texts` returns them."""
    data = np.frombuffer("".join(entries).encode("utf-8", "replace"), dtype=np.uint8)
    lengths = np.fromiter(map(len, entries), dtype=np.int64, count=len(entries))
    hashes = np.empty(len(entries), dtype=np.uint64)
    _hash_entries(data, lengths, hashes)
    return hashes


def look_up(
    data: np.ndarray, borders: np.ndarray, table: np.ndarray, ngrams: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Look up the ids of every row's words, each followed by the ids of its known n-grams.

    Args:
        data, borders: from `texts_to_bytes`.
        table: the vocabulary, from `hash_table.build_table`.
        ngrams: whether the vocabulary has n-grams.

    Returns:
        token_ids (T,) int32; cu_seqlens (rows + 1,).
    """
    found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    run(_look_up_rows, _ranges(borders), found, data, borders, table, ngrams)
    if len(found) == 1:
        return found[0]
    token_ids, counts = [np.empty(0, dtype=np.int32)], [np.zeros(1, dtype=np.int64)]
    for first in sorted(found):
        token_ids.append(found[first][0])
        counts.append(np.diff(found[first][1]))
    return np.concatenate(token_ids), np.cumsum(np.concatenate(counts))


def _look_up_rows(first: int, last: int, found: dict[int, Any], *args: Any) -> None:
    result = find_ids(first, last, *args, _NONE, False)
    if first < last:
        found[first] = result[:2]


def look_up_continuation(
    data: np.ndarray, borders: np.ndarray, table: np.ndarray, ngrams: bool, previous: int = 0
) -> tuple[np.ndarray, np.ndarray, int]:
    """Look up the ids of one text that continues another one.

    Args:
        data, borders, table, ngrams: as in `look_up`, of a single text.
        previous: the hash of the word before the text; 0 if there is none.

    Returns:
        token_ids (T,) int32; (T, 2) the first and the last word that each token stands for; the
        hash of the last word.
    """
    token_ids, _, owners, last = find_ids(
        0, 1, data, borders, table, ngrams, np.uint64(previous), True
    )
    return token_ids, owners, last


_WORDS_PER_BLOCK = 64
# The 64-bit FNV-1a hash. Any two of V entries collide with a probability of about V^2 / 2^65,
# which is 1e-7 for two million entries.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_NONE, _ONE, _SHIFT = np.uint64(0), np.uint64(1), np.uint64(32)
_BLANK, _STAR, _NEWLINE = ord(" "), ord("*"), ord("\n")


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _hash(data, start, end, salt):
    value = _OFFSET ^ salt
    for i in range(start, end):
        value = (value ^ np.uint64(data[i])) * _PRIME
    # FNV mixes its low bits poorly, and the tables are indexed by them. Hash 0 means "none".
    value ^= value >> _SHIFT
    return value if value else _ONE


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _hash_pair(first, second):
    value = (first * _PRIME + second) * _PRIME
    value ^= value >> _SHIFT
    return value if value else _ONE


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _word_end(data, start, end):
    """The end of the word that starts at `start`: a mark is one byte, a word is a run of them."""
    if _KINDS[data[start]] == _MARK:
        return start + 1
    stop = start + 1
    while stop < end and _KINDS[data[stop]] == _WORD:
        stop += 1
    return stop


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _affixes(data, start, end):
    """The end of a word's prefix and the start of its suffix; -1 and -1 if it is too short."""
    characters, head, tail = 0, -1, -1
    for i in range(start, end):
        if data[i] & 0xC0 != 0x80:
            if characters == _PREFIX:
                head = i
            characters += 1
    if characters < _MIN_LENGTH:
        return -1, -1
    characters, tail = 0, end
    while characters < _SUFFIX:
        tail -= 1
        characters += data[tail] & 0xC0 != 0x80
    return head, tail


@njit(nogil=True, cache=True)
def _hash_entries(data, lengths, hashes):
    """Hash entries that are joined in `data`; `lengths` are in characters."""
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
            hashes[entry] = _hash(data, start, end - 1, np.uint64(_PREFIX))
        elif lengths[entry] > 1 and data[start] == _STAR:
            hashes[entry] = _hash(data, start + 1, end, np.uint64(_SUFFIX))
        else:
            hashes[entry] = _hash(data, start, end if space < 0 else space, np.uint64(0))


@njit(nogil=True, cache=True)
def _write_entries(data, starts, ends, chosen, ngrams, out):
    n = 0
    for entry in chosen:
        word, kind = (entry // NGRAMS_PER_WORD, entry % NGRAMS_PER_WORD) if ngrams else (entry, 0)
        start, end = starts[word], ends[word]
        if ngrams:
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
        if ngrams and kind == 1:
            out[n] = _STAR
            n += 1
        out[n] = _NEWLINE
        n += 1
    return n


@njit(nogil=True, cache=True)
def _count_words(first, last, data, borders, counts):
    """Write the number of words of each row to counts[row + 1]."""
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
def _hash_words(first, last, data, borders, offsets, hashes, starts, ends, ngram_hashes):
    for row in range(first, last):
        i, end, previous, word = borders[row], borders[row + 1], np.uint64(0), offsets[row]
        while i < end:
            if _KINDS[data[i]] == _SPACE:
                i += 1
                continue
            stop = _word_end(data, i, end)
            hashes[word] = _hash(data, i, stop, np.uint64(0))
            starts[word], ends[word] = i, stop
            if len(ngram_hashes):
                ngram_hashes[word] = 0
                if previous:
                    ngram_hashes[word, 0] = _hash_pair(previous, hashes[word])
                head, tail = _affixes(data, i, stop)
                if head >= 0:
                    ngram_hashes[word, 1] = _hash(data, i, head, np.uint64(_PREFIX))
                    ngram_hashes[word, 2] = _hash(data, tail, stop, np.uint64(_SUFFIX))
            previous = hashes[word]
            word += 1
            i = stop


@njit(nogil=True, cache=True)
def find_ids(first, last, data, borders, table, ngrams, previous, with_owners):
    """Look up the ids of rows first to last - 1; see `look_up` and `look_up_continuation`."""
    # A word of one byte has at most two ids, and only a word of six or more bytes has four.
    limit = (borders[last] - borders[first]) * (2 if ngrams else 1)
    token_ids = np.empty(limit, dtype=np.int32)
    owners = np.empty((limit if with_owners else 0, 2), dtype=np.int64)
    cu_seqlens = np.zeros(last - first + 1, dtype=np.int64)
    kinds = 1 + NGRAMS_PER_WORD if ngrams else 1
    keys = np.zeros((_WORDS_PER_BLOCK, kinds), dtype=np.uint64)
    word, n = -1, 0
    for row in range(first, last):
        i, end = borders[row], borders[row + 1]
        if row > first:
            previous = _NONE
        while i < end:
            # Prefetch the slots of a block of words before the first lookup.
            count = 0
            while i < end and count < _WORDS_PER_BLOCK:
                if _KINDS[data[i]] == _SPACE:
                    i += 1
                    continue
                stop = _word_end(data, i, end)
                key = _hash(data, i, stop, _NONE)
                keys[count, 0] = key
                if ngrams:
                    keys[count, 1] = _hash_pair(previous, key) if previous else _NONE
                    keys[count, 2] = keys[count, 3] = _NONE
                    head, tail = _affixes(data, i, stop)
                    if head >= 0:
                        keys[count, 2] = _hash(data, i, head, np.uint64(_PREFIX))
                        keys[count, 3] = _hash(data, tail, stop, np.uint64(_SUFFIX))
                for kind in range(kinds):
                    prefetch(table, keys[count, kind] & np.uint64(len(table) - 1))
                previous = key
                count += 1
                i = stop
            for own in range(count):
                word += 1
                for kind in range(kinds):
                    key = keys[own, kind]
                    found = find(table, key) if key else np.int32(0)
                    if found or kind == 0:
                        token_ids[n] = found
                        if with_owners:
                            owners[n, 0] = max(0, word - 1) if kind == 1 else word
                            owners[n, 1] = word
                        n += 1
        cu_seqlens[row - first + 1] = n
    return token_ids[:n], cu_seqlens, owners[:n], previous
