"""Splits normalized texts into tokens, and tokens into characters.

A run of WORD characters is one token. A MARK, a SINGLE letter of a script that does not separate
words, and a pair of REGIONAL indicators, which is a flag, are one token each. EXTEND characters,
such as combining marks, are a part of the character before them.
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import HIGH_BITS, between, trailing_zero_bytes
from hyperagg.text.characters import ASCII, EXTEND, MARK, REGIONAL, SPACE, WORD, class_at
from hyperagg.text.hashing import character

__all__ = ["ascii_word_length", "character_end", "token_at", "token_borders"]

_LOWER_CASE = np.uint64(0x2020202020202020)  # of letters, in eight bytes


def token_borders(data: np.ndarray) -> np.ndarray:
    """Return (T, 2), the first byte and the last byte + 1 of every token of a text.

    Args:
        data: from `normalization.text_to_bytes`.
    """
    out = np.empty((len(data), 2), dtype=np.int64)
    return out[: _token_borders(data, out)]


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def ascii_word_length(eight):
    """Return the number of bytes, 0 to 8, before the first one that is not an ASCII letter, digit
    or underscore."""
    low = eight & ~HIGH_BITS
    letter = between(low | _LOWER_CASE, ord("a"), ord("z"))
    digit, underscore = between(low, ord("0"), ord("9")), between(low, ord("_"), ord("_"))
    is_word = (letter | digit | underscore) & ~eight
    return trailing_zero_bytes(is_word ^ HIGH_BITS)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def token_at(data, start, end, borders=None, characters=None):
    """Return the class of the character at `start`, the end of its token, and the token's length.

    Args:
        data, start, end: the bytes of a text, and where to begin and to end at the latest.
        borders, characters: None, or memory for the first byte and the value of each character of a
            word, as `hashing.character` returns it.

    Returns:
        class: SPACE if no token begins here; MARK for a flag.
        end: the byte after the token.
        length: of a WORD, in characters.
    """
    if data[start] < 128:
        kind, stop = ASCII[data[start]], start + 1
    else:
        kind, stop = class_at(data, start)
    count = 0
    if kind in (WORD, EXTEND):
        begin = start
        while stop < end:
            if data[stop] < 128:
                other, after = ASCII[data[stop]], stop + 1
            else:
                other, after = class_at(data, stop)
            if other == WORD:
                if characters is not None:
                    borders[count], characters[count] = begin, character(data, begin, stop)
                count += 1
                begin = stop
            elif other != EXTEND:
                break
            stop = after
        if characters is not None:
            borders[count], characters[count] = begin, character(data, begin, stop)
        count += 1
    elif kind != SPACE:
        while stop < end and data[stop] >= 128:
            other, after = class_at(data, stop)
            if kind == REGIONAL and other == REGIONAL:
                kind = np.uint8(MARK)  # the second half of a flag
            elif other != EXTEND and not (other == MARK and _after_joiner(data, start, stop)):
                break
            stop = after
    return kind, stop, count


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def _after_joiner(data, start, i):
    """Whether a zero-width joiner after the character at `start` ends at byte `i`."""
    return i - start > 3 and (data[i - 3] == 0xE2 and data[i - 2] == 0x80 and data[i - 1] == 0x8D)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def character_end(data, start, end):
    """Return the end of the character at `start` with its combining marks."""
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


@njit(nogil=True, cache=True)
def _token_borders(data, out):
    i, n = 0, 0
    while i < len(data):
        kind, stop, _ = token_at(data, i, len(data))
        if kind != SPACE:
            out[n, 0], out[n, 1] = i, stop
            n += 1
        i = stop
    return n
