"""Vocabulary entries: the text of a token or n-gram, and its hash.

A bigram is written with a blank between its tokens ("crude oil"), n-grams of single letters without
blanks, and n-grams of characters with a star for what may be beside them ("petro*", "*eum",
"*role*").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import padded_array
from hyperagg._numba.threads import even_borders, parts, run
from hyperagg.text.characters import EXTEND, SINGLE, SPACE, class_at
from hyperagg.text.hashing import character, finish, hash_bytes, hash_pair, mix, salted
from hyperagg.text.scan import END, INNER, KIND_BITS, START
from hyperagg.text.segmentation import character_end, token_at

__all__ = ["entry_texts", "hash_vocabulary"]

_WORK_PER_ENTRY = 100  # in multiply-adds, approximately
_BLANK, _STAR, _NEWLINE = ord(" "), ord("*"), ord("\n")
_NONE = np.uint64(0)


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
    data = padded_array([joined.encode("utf-8", "replace")])
    ends = np.flatnonzero(data == _NEWLINE)
    hashes, kinds = np.empty(len(entries), dtype=np.uint64), np.empty(len(entries), dtype=np.uint8)
    ranges = even_borders(np.ones(len(entries)), parts(_WORK_PER_ENTRY * len(entries)))
    run(_hash_entries, ranges, data, ends, hashes, kinds)
    return hashes, kinds


def _write_range(
    first: int, last: int, found: dict[int, Any], data: Any, borders: Any, occurrences: Any
) -> None:
    own = occurrences[first:last]
    ends = borders[np.searchsorted(borders, own >> KIND_BITS, side="right")]
    size = _write_entries(data, ends, own, np.empty(0, dtype=np.uint8))
    out = np.empty(size, dtype=np.uint8)
    _write_entries(data, ends, own, out)
    found[first] = out


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
            kind = INNER if after and before else (END if after else START)
            start, end = start + after, end - before
            value, count = salted(kind), 0
            while start < end:
                stop = character_end(data, start, end)
                value = mix(value ^ character(data, start, stop))
                count += 1
                start = stop
            hashes[entry], kinds[entry] = finish(value), kind + min(count, START - 1)
            continue
        value, count, i = _NONE, 0, start
        while i < end:
            token_class, stop, _ = token_at(data, i, end)
            if token_class != SPACE:
                token = hash_bytes(data, i, stop)
                value = hash_pair(value, token) if count else token
                count += 1
            i = stop
        hashes[entry], kinds[entry] = value, min(max(count - 1, 0), START - 1)


@njit(nogil=True, cache=True)
def _write_entries(data, ends, occurrences, out):
    """Write entries, each with a newline, unless `out` is empty; return the number of bytes."""
    n, write = 0, len(out) > 0
    for entry in range(len(occurrences)):
        i, kind = occurrences[entry] >> KIND_BITS, occurrences[entry] & (1 << KIND_BITS) - 1
        end = ends[entry]
        begin, previous = i, SPACE
        if kind >= START:
            for _ in range(kind % START):
                i = character_end(data, i, end)
            if kind > END:
                if write:
                    out[n] = _STAR
                n += 1
            for j in range(begin, i):
                if write:
                    out[n] = data[j]
                n += 1
            if kind < END or kind > INNER:
                if write:
                    out[n] = _STAR
                n += 1
        else:
            count = 0
            while count <= kind:
                own, stop, _ = token_at(data, i, end)
                if own != SPACE:
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
