"""Rows of float32 tables, a cache line of sixteen channels at a time.

A loop over the hundred channels of a row is compiled to what would be good for thousands: what it
checks beforehand, and the channels that are left over at the end, take longer than all the rest.
Here a row is a whole number of lines, (rows, lines * VECTOR_WIDTH), and the functions take lines from
`first` up to `last` of the rows that are named after their tables. What they return depends on
nothing but these lines. LLVM makes vectors as wide as the machine has them.

Numba's cache does not see a change of this file: after one, delete training/__pycache__.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "VECTOR_WIDTH",
    "add",
    "add_product",
    "aligned_empty",
    "axpy4",
    "clear",
    "dot",
    "pad_to_vector",
    "product",
]

VECTOR_WIDTH = 16
_APART = 2 * VECTOR_WIDTH  # processors fetch lines in pairs

_NUMBER = ir.FloatType()
_VECTOR = ir.VectorType(_NUMBER, VECTOR_WIDTH)
_ZERO = ir.Constant(_VECTOR, [0.0] * VECTOR_WIDTH)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)
_FUSED = ("contract",)


def aligned_empty(*shape: int) -> np.ndarray:
    """An empty float32 array in lines of its own: what a thread writes into a line takes it away
    from all others."""
    size = int(np.prod(shape))
    memory = np.empty(-(-size // _APART) * _APART + _APART, dtype=np.float32)
    skipped = -memory.ctypes.data // memory.itemsize % _APART
    return memory[skipped : skipped + size].reshape(shape)


def pad_to_vector(table: np.ndarray) -> np.ndarray:
    """A copy of (rows, D), its rows filled up with zeros to whole lines."""
    rows, d = table.shape
    out = aligned_empty(rows, -(-d // VECTOR_WIDTH) * VECTOR_WIDTH)
    out[:, :d], out[:, d:] = table, 0
    return out


@intrinsic
def clear(_: Any, total: Any, i: Any, first: Any, last: Any) -> Any:
    """total[i] = 0"""

    def line(builder: ir.IRBuilder, total: _Line) -> None:
        total.store(_ZERO)

    return _over_lines(line, total, i, first, last)


@intrinsic
def add(_: Any, total: Any, i: Any, w: Any, x: Any, j: Any, first: Any, last: Any) -> Any:
    """total[i] += w x[j]"""

    def line(builder: ir.IRBuilder, total: _Line, w: ir.Value, x: _Line) -> None:
        total.store(_multiply_add(builder, w, x.load(), total.load()))

    return _over_lines(line, total, i, w, x, j, first, last)


@intrinsic
def axpy4(_: Any, total: Any, i: Any, a: Any, x: Any, j: Any, b: Any, y: Any, k: Any,
             c: Any, z: Any, m: Any, d: Any, u: Any, n: Any,
             first: Any, last: Any) -> Any:  # fmt: skip
    """total[i] += a x[j] + b y[k] + c z[m] + d u[n]: `add` four times, but that the total is read
    and written once."""

    def line(builder: ir.IRBuilder, total: _Line, *terms: Any) -> None:
        value = total.load()
        for w, row in zip(terms[::2], terms[1::2]):
            value = _multiply_add(builder, w, row.load(), value)
        total.store(value)

    arguments = total, i, a, x, j, b, y, k, c, z, m, d, u, n, first, last
    return _over_lines(line, *arguments)


@intrinsic
def add_product(_: Any, total: Any, i: Any, x: Any, j: Any, y: Any, k: Any,
                first: Any, last: Any) -> Any:  # fmt: skip
    """total[i] += x[j] * y[k]"""

    def line(builder: ir.IRBuilder, total: _Line, x: _Line, y: _Line) -> None:
        total.store(_multiply_add(builder, x.load(), y.load(), total.load()))

    return _over_lines(line, total, i, x, j, y, k, first, last)


@intrinsic
def product(_: Any, out: Any, i: Any, w: Any, x: Any, j: Any, y: Any, k: Any,
            first: Any, last: Any) -> Any:  # fmt: skip
    """out[i] = w x[j] * y[k]; returns the sum of its squares."""

    def line(builder: ir.IRBuilder, out: _Line, w: ir.Value, x: _Line, y: _Line) -> ir.Value:
        value = builder.fmul(builder.fmul(w, x.load()), y.load())
        out.store(value)
        return builder.fmul(value, value, flags=_FUSED)

    return _over_lines(line, out, i, w, x, j, y, k, first, last, returns=types.float32)


@intrinsic
def dot(_: Any, x: Any, i: Any, y: Any, j: Any, first: Any, last: Any) -> Any:
    """The sum of x[i] * y[j]."""

    def line(builder: ir.IRBuilder, x: _Line, y: _Line) -> ir.Value:
        return builder.fmul(x.load(), y.load(), flags=_FUSED)

    return _over_lines(line, x, i, y, j, first, last, returns=types.float32)


@dataclass
class _Line:
    """A line of a row, while the code for it is written."""

    builder: ir.IRBuilder
    pointer: ir.Value

    def load(self) -> ir.Value:
        return self.builder.load(self.pointer, align=4)

    def store(self, value: ir.Value) -> None:
        self.builder.store(value, self.pointer, align=4)


def _over_lines(
    of_line: Callable[..., ir.Value | None], *arguments: Any, returns: Any = types.void
) -> Any:
    """The signature and the code of a loop over lines: `of_line` writes what is done with one.

    It is given a vector of equal lanes for a number, and for a table and the number of its row
    that line of it. What it returns is added up.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        def index(value: Any, own: Any) -> ir.Value:
            return context.cast(builder, value, own, types.intp)

        operands: list[Any] = []
        given = zip(signature.args[:-2], values[:-2])
        for own, value in given:
            if isinstance(own, types.Array):
                row_type, row = next(given)
                array = context.make_array(own)(context, builder, value)
                place = [index(row, row_type), context.get_constant(types.intp, 0)]
                operands.append(cgutils.get_item_pointer(context, builder, own, array, place))
            else:
                number = context.cast(builder, value, own, types.float32)
                operands.append(_lanes(builder, number))
        first, last = map(index, values[-2:], signature.args[-2:])
        total = cgutils.alloca_once_value(builder, _ZERO)
        with cgutils.for_range_slice(builder, first, last, first.type(1)) as (line, _):
            column = builder.mul(line, line.type(VECTOR_WIDTH))
            found = of_line(builder, *(_line(builder, each, column) for each in operands))
            if found is not None:
                builder.store(builder.fadd(builder.load(total), found, flags=_FUSED), total)
        if returns is types.void:
            return context.get_dummy_value()
        return _sum_of_lanes(builder, builder.load(total))

    return returns(*arguments), generate


def _line(builder: ir.IRBuilder, operand: ir.Value, column: ir.Value) -> Any:
    if not isinstance(operand.type, ir.PointerType):
        return operand
    place = builder.gep(operand, [column])
    return _Line(builder, builder.bitcast(place, _VECTOR.as_pointer()))


def _multiply_add(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    return builder.fadd(builder.fmul(x, y, flags=_FUSED), z, flags=_FUSED)


def _lanes(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    one = builder.insert_element(_UNDEFINED, number, ir.IntType(32)(0))
    return builder.shuffle_vector(one, _UNDEFINED, _places([0] * VECTOR_WIDTH))


def _sum_of_lanes(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    width = VECTOR_WIDTH
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(vector, vector, _places(range(start, start + width)))
            for start in (0, width)
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.IntType(32)(0))


def _places(lanes: Iterable[int]) -> ir.Constant:
    numbers = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)
