"""Hashes of tokens and of their n-grams: 64 bits, from bytes and from other hashes.

The hash of a token takes in eight bytes at a time, and that of an n-gram of characters one
character. Any two of V entries collide with a probability of about V^2 / 2^65, which is 1e-7 for
two million entries. Hash 0 means "none".
"""

from __future__ import annotations

import numpy as np

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import first_bytes, read_eight

__all__ = [
    "character",
    "finish",
    "hash_bytes",
    "hash_characters",
    "hash_pair",
    "hash_short",
    "mix",
    "salted",
]

_OFFSET, _MULTIPLIER = np.uint64(0xCBF29CE484222325), np.uint64(0x9E3779B97F4A7C15)
_ONE, _BYTE = np.uint64(1), np.uint64(8)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def mix(value):
    """Return an integer whose bits depend on all bits of `value`, one to one."""
    # A product's low bits depend on the low bits of its factor alone, and the tables are indexed by
    # them. Without the first shift, differences in the last byte of eight and of the next eight
    # cancel each other.
    value ^= value >> np.uint64(32)
    value *= _MULTIPLIER
    return value ^ (value >> np.uint64(29))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def finish(value):
    """Return the hash that `value` is the state of after the last byte or character."""
    value = mix(value)
    return value if value else _ONE


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def salted(salt):
    """Return the state before the first byte or character of a kind of hashes."""
    return mix(_OFFSET ^ np.uint64(salt))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def hash_bytes(data, start, end):
    """Return the hash of the bytes from `start` to `end`, which are a token."""
    value = salted(0)
    while end - start >= 8:
        value = mix(value ^ read_eight(data, start))
        start += 8
    if start < end:
        value = mix(value ^ first_bytes(read_eight(data, start), end - start))
    return finish(value)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def hash_pair(first, second):
    """Return the hash of two hashes, in this order."""
    return finish(first * _MULTIPLIER + second)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def character(data, start, end):
    """Return the bytes of a character with its combining marks, or their hash if there are more
    than eight."""
    if end - start > 8:
        return hash_bytes(data, start, end)
    return first_bytes(read_eight(data, start), end - start)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def hash_characters(characters, first, last, salt):
    """Return the hash of an n-gram of the characters `first` to `last` - 1."""
    value = salted(salt)
    for k in range(first, last):
        value = mix(value ^ characters[k])
    return finish(value)


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def hash_short(eight, number, salt):
    """Return what `hash_characters` returns for the first bytes, at most eight, which are ASCII."""
    value = salted(salt)
    for _ in range(number):
        value = mix(value ^ first_bytes(eight, 1))
        eight >>= _BYTE
    return finish(value)
