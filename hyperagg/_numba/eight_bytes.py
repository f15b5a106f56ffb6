"""Read bytes of a text eight at a time, as one integer whose lowest byte is the first one.

A loop over single bytes ends where the processor does not expect it, once per word, which costs as
much as five to ten bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hyperagg._numba.cache import njit

__all__ = [
    "HIGH_BITS",
    "between",
    "first_bytes",
    "padded_array",
    "read_eight",
    "trailing_zero_bytes",
    "write_eight",
]

HIGH_BITS = np.uint64(0x8080808080808080)  # a byte without it is an ASCII character

_ALL, _ONES = np.uint64(0xFFFFFFFFFFFFFFFF), 0x0101010101010101
_WORD = ir.IntType(64)
_PADDING = bytes(8)


def padded_array(parts: Iterable[bytes | memoryview]) -> np.ndarray:
    """Return bytes as one uint8 array, whose memory goes on for the eight bytes that `read_eight`
    may read after them."""
    content = b"".join([*parts, _PADDING])
    return np.frombuffer(content, dtype=np.uint8, count=len(content) - len(_PADDING))


@intrinsic
def read_eight(typing_context: Any, data: Any, index: Any) -> Any:
    """Return the bytes `index` to `index` + 7 of a contiguous uint8 array.

    They are read although the array may end before them; see `padded_array`.
    The machine must be little-endian, as all are that Numba compiles for.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature, args), align=1)

    return types.uint64(data, index), generate


@intrinsic
def write_eight(typing_context: Any, data: Any, index: Any, value: Any) -> Any:
    """Write the bytes `index` to `index` + 7 of a contiguous uint8 array."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature, args), align=1)
        return context.get_dummy_value()

    return types.void(data, index, types.uint64), generate


def _pointer(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    array_type, index_type, *_ = signature.args
    array = context.make_array(array_type)(context, builder, args[0])
    offset = context.cast(builder, args[1], index_type, types.intp)
    return builder.bitcast(builder.gep(array.data, [offset]), _WORD.as_pointer())


@intrinsic
def _trailing_zeros(typing_context: Any, value: Any) -> Any:
    """The number of zero bits below the lowest bit that is set; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def first_bytes(value, number):
    """Return the first bytes of a value, 1 to 8, with zeros behind them."""
    return value & (_ALL >> np.uint64(64 - 8 * number))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def between(value, first, last):
    """Return the high bit of each byte from `first` to `last`; all bytes must be less than 128."""
    # No sum carries into the next byte.
    at_least = value + np.uint64((0x80 - first) * _ONES)
    greater = value + np.uint64((0x7F - last) * _ONES)
    return at_least & ~greater & HIGH_BITS


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def trailing_zero_bytes(value):
    """Return the number of bytes, 0 to 8, before the first one that is not 0."""
    return np.int64(_trailing_zeros(value) >> np.uint64(3))
