"""Draws random numbers on several threads: the initial parameters of a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperagg._numba.threads import even_borders, parts, run

__all__ = ["uniform"]

_CHUNK = 1 << 15  # numbers, which remain in the cache until they are scaled


def uniform(rng: np.random.Generator, limit: float, *shape: int) -> np.ndarray:
    """Return numbers from U(-limit, limit), float32.

    They are those of `rng.random` with a fresh generator, whatever the number of threads: each
    chunk is drawn from the state of the generator that those before it lead to.

    Args:
        rng: a generator of `np.random.default_rng`; it is advanced.
        limit: the bound.
        shape: of the result.
    """
    values = np.empty(shape, dtype=np.float32)
    bits: Any = rng.bit_generator
    chunks = -(-values.size // _CHUNK)
    ranges = even_borders(np.ones(chunks), parts(values.size))
    run(_fill, ranges, values.reshape(-1), limit, bits.state)
    bits.advance(-(-values.size // 2))  # a state yields 64 bits, which are two numbers
    return values


def _fill(first: int, last: int, values: np.ndarray, limit: float, state: dict[str, Any]) -> None:
    bits: Any = np.random.PCG64()
    bits.state = state
    bits.advance(first * _CHUNK // 2)
    rng = np.random.Generator(bits)
    for begin in range(first * _CHUNK, last * _CHUNK, _CHUNK):
        chunk = values[begin : begin + _CHUNK]
        rng.random(dtype=np.float32, out=chunk)
        chunk *= np.float32(2 * limit)
        chunk -= np.float32(limit)
