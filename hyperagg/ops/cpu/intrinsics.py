"""Element access and conversions of the CPU kernels, and non-temporal stores.

bfloat16, which NumPy lacks, is passed as uint16.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from hyperagg._numba.cache import njit

__all__ = ["at", "can_stream", "narrow", "scale_of", "stream", "widen"]

_VECTOR_BYTES = 32
# No cache holds outputs of so many bytes until they are read; smaller ones should stay in it.
_MIN_BYTES_TO_STREAM = 1 << 24


def widen(value):  # pragma: no cover
    raise NotImplementedError


@overload(widen, inline="always")
def _(value):
    if isinstance(value, types.Integer):
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def narrow(value, like):  # pragma: no cover
    raise NotImplementedError


@overload(narrow, inline="always")
def _(value, like):
    if isinstance(like.dtype, types.Integer):

        def to_bfloat16(value, like):
            bits = np.float32(value).view(np.uint32)
            if bits & np.uint32(0x7FFFFFFF) > np.uint32(0x7F800000):
                return np.uint16(0x7FC0)  # rounding could turn a NaN into infinity
            round_to_even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
            return np.uint16((bits + round_to_even) >> np.uint32(16))

        return to_bfloat16
    if like.dtype is types.float32:
        return lambda value, like: np.float32(value)
    return lambda value, like: value


def at(rows, row, k):  # pragma: no cover
    raise NotImplementedError


@overload(at, inline="always")
def _(rows, row, k):
    """rows[row, k] in float32 or float64; one where there are no rows."""
    if isinstance(rows, types.NoneType):
        return lambda rows, row, k: np.float32(1)
    return lambda rows, row, k: widen(rows[row, k])


@njit(nogil=True, cache=True, inline="always")
def scale_of(number, power):
    if power == 0 or number < 1:
        return 1.0
    if power == 0.5:
        return 1 / math.sqrt(number)
    return 1 / number**power


def can_stream(out: np.ndarray) -> bool:
    """Return whether `stream` pays off and applies: `out` is large, its rows are whole vectors."""
    return (
        out.nbytes >= _MIN_BYTES_TO_STREAM
        and out.ctypes.data % _VECTOR_BYTES == 0
        and out.shape[1] * out.itemsize % _VECTOR_BYTES == 0
    )


@intrinsic
def stream(typing_context: Any, out: Any, at: Any, row: Any) -> Any:
    """Set out[at : at + len(row)] = row, both flat, without reading `out` into the cache.

    A plain store first reads the cache line that it writes: a third of the traffic of a scan.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to = context.make_array(signature.args[0])(context, builder, args[0])
        source = context.make_array(signature.args[2])(context, builder, args[2])
        (length,) = cgutils.unpack_tuple(builder, source.shape, 1)
        number = context.get_value_type(signature.args[2].dtype)
        lanes = _VECTOR_BYTES * 8 // signature.args[2].dtype.bitwidth
        vector = ir.VectorType(number, lanes).as_pointer()
        hint = builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)])
        steps = cgutils.for_range_slice(builder, length.type(0), length, length.type(lanes))
        with steps as (k, _):
            values = builder.load(
                builder.bitcast(builder.gep(source.data, [k]), vector), align=_VECTOR_BYTES // lanes
            )
            target = builder.gep(to.data, [builder.add(args[1], k)])
            store = builder.store(values, builder.bitcast(target, vector), align=_VECTOR_BYTES)
            store.set_metadata("nontemporal", hint)
        return context.get_dummy_value()

    return types.void(out, at, row), generate
