"""Read bytes of a text eight at a time, as one integer whose lowest byte is the first one.

A loop over single bytes ends where the processor does not expect it, once per word, which costs as
much as five to ten bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from hyperagg._numba.cache import njit

__all__ = ["first_bytes", "read_eight", "trailing_zero_bytes"]

_ALL, _ZERO = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0)
_WORD = ir.IntType(64)


@intrinsic
def _load(typing_context: Any, data: Any, index: Any) -> Any:
    """The eight bytes from `index` on of a contiguous uint8 array, on a little-endian machine."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, index_type = signature.args
        array = context.make_array(array_type)(context, builder, args[0])
        offset = context.cast(builder, args[1], index_type, types.intp)
        pointer = builder.bitcast(builder.gep(array.data, [offset]), _WORD.as_pointer())
        return builder.load(pointer, align=1)

    return types.uint64(data, index), generate


@intrinsic
def _trailing_zeros(typing_context: Any, value: Any) -> Any:
    """The number of zero bits below the lowest bit that is set; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.IntType(1)(0))

    return types.uint64(types.uint64), generate


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def read_eight(data, i):
    """Return the bytes i to i + 7 of a uint8 array as an integer; bytes after its end are 0."""
    if i + 8 <= len(data):
        return _load(data, i)
    value = _ZERO
    for k in range(i, len(data)):
        value |= np.uint64(data[k]) << np.uint64(8 * (k - i))
    return value


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def first_bytes(value, number):
    """Return the first bytes of a value, 1 to 8, with zeros behind them."""
    return value & (_ALL >> np.uint64(64 - 8 * number))


@njit(nogil=True, cache=True, forceinline=True, no_cpython_wrapper=True)
def trailing_zero_bytes(value):
    """Return the number of bytes, 0 to 8, before the first one that is not 0."""
    return np.int64(_trailing_zeros(value) >> np.uint64(3))
