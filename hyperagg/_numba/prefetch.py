"""A row of a table, asked for before it is wanted: memory takes as long as adding up ten.

A processor fetches ahead by itself, but neither rows in no order nor over the border of a page of
4 kB, which comes every few rows of a wide tensor. Numba's cache does not see a change of this file:
after one, delete the __pycache__ of ops, text and training.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["prefetch"]

_LINE = 64  # bytes, what memory gives at once
_INDEX = ir.IntType(64)


@intrinsic
def prefetch(typing_context: Any, table: Any, row: Any) -> Any:
    """Has the cache fetch a row of (V, D); changes nothing, wherever the row is."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, row_type = signature.args
        array = context.make_array(array_type)(context, builder, args[0])
        places = [context.cast(builder, args[1], row_type, types.intp), _INDEX(0)]
        first = cgutils.get_item_pointer(context, builder, array_type, array, places)
        item = context.get_abi_sizeof(context.get_data_type(array_type.dtype))
        size = builder.mul(builder.extract_value(array.shape, 1), _INDEX(item))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], function_type)
        to_read, to_keep, data = number(0), number(3), number(1)
        begin = builder.bitcast(first, byte)
        # One line after the other, since Numba's own loop takes as long as the row's sum.
        with cgutils.for_range_slice(builder, _INDEX(0), size, _INDEX(_LINE)) as (i, _):
            builder.call(function, [builder.gep(begin, [i]), to_read, to_keep, data])
        return context.get_dummy_value()

    return types.void(table, row), generate
