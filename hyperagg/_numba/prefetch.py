"""Prefetch rows of a table: a wait for memory takes as long as adding up ten rows.

The processor prefetches by itself, but neither rows in random order nor across the border of a 4 kB
page, which a wide table reaches every few rows.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["prefetch"]

_CACHE_LINE = 64  # in bytes
_INDEX = ir.IntType(64)


@intrinsic
def prefetch(typing_context: Any, table: Any, row: Any) -> Any:
    """Prefetch a row of a (V, D) table into the cache; any row index is safe."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, row_type = signature.args
        array = context.make_array(array_type)(context, builder, args[0])
        indices = [context.cast(builder, args[1], row_type, types.intp), _INDEX(0)]
        first = cgutils.get_item_pointer(context, builder, array_type, array, indices)
        item = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
        size = builder.mul(builder.extract_value(array.shape, 1), _INDEX(item))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], function_type)
        # Into the second-level cache: the first one can wait for too few lines at a time for the
        # rows of several tokens. An epoch over n-grams takes 1.4 times as long with locality 3.
        to_read, locality, data = number(0), number(2), number(1)
        begin = builder.bitcast(first, byte)
        # An LLVM loop, since a loop in Numba takes as long as the sum of the row.
        with cgutils.for_range_slice(builder, _INDEX(0), size, _INDEX(_CACHE_LINE)) as (i, _):
            builder.call(function, [builder.gep(begin, [i]), to_read, locality, data])
        return context.get_dummy_value()

    return types.void(table, row), generate
