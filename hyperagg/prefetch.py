"""A row of a table, asked for before it is wanted: memory takes as long as adding up ten.

A processor fetches ahead by itself, but neither rows in no order nor over the border of a page of
4 kB, which comes every few rows of a wide tensor. Numba's cache does not see a change of this file:
after one, delete the __pycache__ of ops and training.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = ["prefetch"]

_LINE = 64  # bytes, what memory gives at once


@njit(nogil=True, cache=True, inline="always")
def prefetch(table, row):
    """Has the cache fetch a row of (V, D); changes nothing, wherever the row is."""
    for j in range(0, table.shape[1], _LINE // table.itemsize):
        _fetch(table, row, j)


@intrinsic
def _fetch(typing_context: Any, table: Any, row: Any, column: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type, *of_places = signature.args
        array = context.make_array(array_type)(context, builder, args[0])
        pairs = zip(args[1:], of_places)
        places = [context.cast(builder, one, own, types.intp) for one, own in pairs]
        item = cgutils.get_item_pointer(context, builder, array_type, array, places)
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], function_type)
        to_read, to_keep, data = number(0), number(3), number(1)
        builder.call(function, [builder.bitcast(item, byte), to_read, to_keep, data])
        return context.get_dummy_value()

    return types.void(table, row, column), generate
