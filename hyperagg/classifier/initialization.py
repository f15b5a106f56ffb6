"""The initial parameters of a classifier: random numbers, and rows that are orthogonal."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperagg._numba.threads import even_borders, parts, run

__all__ = ["orthogonal_signs", "uniform"]

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


def orthogonal_signs(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Return (rows, columns) float32 of 1 and -1.

    They are the rows of a Hadamard matrix (Sylvester 1867), which are orthogonal if the number of
    columns is a power of two; otherwise some columns of the next larger matrix are drawn. Where
    there are more rows than it has, they are used again, each time with other columns negated.

    Args:
        rng: determines which columns.
        rows: the number of rows.
        columns: the number of columns.

    Example:
        >>> orthogonal_signs(np.random.default_rng(0), 3, 4).tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]]
    """
    bits = (columns - 1).bit_length()
    chosen = np.arange(columns)
    if columns < 2**bits:
        chosen = rng.permutation(2**bits)[:columns]
    row_bits, column_bits = (
        (numbers >> np.arange(bits)[:, None] & 1).astype(bool)
        for numbers in (np.arange(rows), chosen)
    )
    values = np.ones((rows, columns), dtype=np.float32)
    for in_row, in_column in zip(row_bits, column_bits):
        # An entry is negative if the numbers of its row and its column share an odd number of bits.
        np.negative(values, out=values, where=in_row[:, None] & in_column)
    for first in range(2**bits, rows, 2**bits):
        values[first : first + 2**bits] *= rng.choice(np.array([1, -1], np.float32), columns)
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
