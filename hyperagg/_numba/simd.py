"""SIMD operations on rows of float32 tables, in vectors of one cache line of 16 channels.

LLVM optimises a loop over the hundred channels of a row as if there were thousands: the checks
before the loop and the channels that remain after it take longer than the loop itself. Here a row
has a whole number of vectors, (rows, vectors * VECTOR_WIDTH), and each function processes the
vectors `first` to `last` - 1 of the rows whose indices follow their tables. The result depends on
nothing but these vectors. LLVM splits a vector into registers as wide as those of the processor.
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
    "add_then_scale",
    "aligned_empty",
    "axpy4",
    "clear",
    "dot",
    "pad_to_vector",
    "product",
    "product_square",
    "scale_and_add_outer",
]

VECTOR_WIDTH = 16
_ALIGNMENT = 2 * VECTOR_WIDTH  # processors prefetch cache lines in pairs

_NUMBER = ir.FloatType()
_VECTOR = ir.VectorType(_NUMBER, VECTOR_WIDTH)
_ZERO = ir.Constant(_VECTOR, [0.0] * VECTOR_WIDTH)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)
_FUSED = ("contract",)
_SUMS = 4  # a power of two


def aligned_empty(*shape: int) -> np.ndarray:
    """Return an empty float32 array that shares no cache line with other arrays.

    A thread that writes to a cache line takes it away from all other threads (false sharing).
    """
    size = int(np.prod(shape))
    memory = np.empty(-(-size // _ALIGNMENT) * _ALIGNMENT + _ALIGNMENT, dtype=np.float32)
    skipped = -memory.ctypes.data // memory.itemsize % _ALIGNMENT
    return memory[skipped : skipped + size].reshape(shape)


def pad_to_vector(table: np.ndarray) -> np.ndarray:
    """Return a copy of a (rows, D) table whose rows are padded with zeros to whole vectors."""
    rows, d = table.shape
    out = aligned_empty(rows, -(-d // VECTOR_WIDTH) * VECTOR_WIDTH)
    out[:, :d], out[:, d:] = table, 0
    return out


@intrinsic
def clear(_: Any, total: Any, i: Any, first: Any, last: Any) -> Any:
    """Compute total[i] = 0."""

    def one_vector(builder: ir.IRBuilder, total: _RowVector) -> None:
        total.store(_ZERO)

    return _over_vectors(one_vector, total, i, first, last)


@intrinsic
def add(_: Any, total: Any, i: Any, w: Any, x: Any, j: Any, first: Any, last: Any) -> Any:
    """Compute total[i] += w x[j]."""

    def one_vector(builder: ir.IRBuilder, total: _RowVector, w: ir.Value, x: _RowVector) -> None:
        total.store(_multiply_add(builder, w, x.load(), total.load()))

    return _over_vectors(one_vector, total, i, w, x, j, first, last)


@intrinsic
def axpy4(_: Any, total: Any, i: Any, a: Any, x: Any, j: Any, b: Any, y: Any, k: Any,
             c: Any, z: Any, m: Any, d: Any, u: Any, n: Any,
             first: Any, last: Any) -> Any:  # fmt: skip
    """Compute total[i] += a x[j] + b y[k] + c z[m] + d u[n].

    The result is that of four calls of `add`, but the total is read and written once.
    """

    def one_vector(builder: ir.IRBuilder, total: _RowVector, *terms: Any) -> None:
        value = total.load()
        for w, row in zip(terms[::2], terms[1::2]):
            value = _multiply_add(builder, w, row.load(), value)
        total.store(value)

    arguments = total, i, a, x, j, b, y, k, c, z, m, d, u, n, first, last
    return _over_vectors(one_vector, *arguments)


@intrinsic
def add_product(_: Any, total: Any, i: Any, w: Any, x: Any, j: Any, y: Any, k: Any,
                first: Any, last: Any) -> Any:  # fmt: skip
    """Compute total[i] += w x[j] * y[k]; return the sum of the squares of x[j] * y[k]."""

    def one_vector(
        builder: ir.IRBuilder, total: _RowVector, w: ir.Value, x: _RowVector, y: _RowVector
    ) -> ir.Value:
        value = builder.fmul(x.load(), y.load())
        total.store(_multiply_add(builder, w, value, total.load()))
        return builder.fmul(value, value, flags=_FUSED)

    return _over_vectors(one_vector, total, i, w, x, j, y, k, first, last, sums=1)


@intrinsic
def add_then_scale(_: Any, total: Any, i: Any, w: Any, x: Any, j: Any, a: Any, y: Any, k: Any,
                   z: Any, m: Any, first: Any, last: Any) -> Any:  # fmt: skip
    """Compute s = total[i] + w x[j] and total[i] = a s; return sums of s * y[k] and of x[j] * z[m].

    The result is that of `add` and two calls of `dot`, but every row is read once.
    """

    def one_vector(
        builder: ir.IRBuilder,
        total: _RowVector,
        w: ir.Value,
        x: _RowVector,
        a: ir.Value,
        y: _RowVector,
        z: _RowVector,
    ) -> tuple[ir.Value, ir.Value]:
        term = x.load()
        value = _multiply_add(builder, w, term, total.load())
        products = (
            builder.fmul(value, y.load(), flags=_FUSED),
            builder.fmul(term, z.load(), flags=_FUSED),
        )
        total.store(builder.fmul(a, value, flags=_FUSED))
        return products

    arguments = total, i, w, x, j, a, y, k, z, m, first, last
    return _over_vectors(one_vector, *arguments, sums=2)


@intrinsic
def product_square(_: Any, x: Any, i: Any, y: Any, j: Any, first: Any, last: Any) -> Any:
    """Return the sum of the squares of x[i] * y[j]."""

    def one_vector(builder: ir.IRBuilder, x: _RowVector, y: _RowVector) -> ir.Value:
        value = builder.fmul(x.load(), y.load())
        return builder.fmul(value, value, flags=_FUSED)

    return _over_vectors(one_vector, x, i, y, j, first, last, sums=1)


@intrinsic
def dot(_: Any, x: Any, i: Any, y: Any, j: Any, first: Any, last: Any) -> Any:
    """Return the sum of x[i] * y[j]."""

    def one_vector(builder: ir.IRBuilder, x: _RowVector, y: _RowVector) -> ir.Value:
        return builder.fmul(x.load(), y.load(), flags=_FUSED)

    return _over_vectors(one_vector, x, i, y, j, first, last, sums=1)


@intrinsic
def product(_: Any, total: Any, i: Any, weights: Any, j: Any, table: Any, k: Any, count: Any,
            first: Any, last: Any) -> Any:  # fmt: skip
    """Compute total[i] = sum_n weights[j, n] table[k + n] over n < count.

    The sum is that of four interleaved sums, since each addition waits for the one before it. The
    rows of the tables follow one another in memory.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        total, weights, table = (
            _Rows(context, builder, signature, values, position) for position in (0, 2, 4)
        )
        count, first, last = (
            context.cast(builder, values[at], signature.args[at], types.intp) for at in (6, 7, 8)
        )
        whole = builder.and_(count, count.type(-_SUMS))
        with cgutils.for_range_slice(builder, first, last, first.type(1)) as (number, _):
            column = builder.mul(number, number.type(VECTOR_WIDTH))
            sums = [cgutils.alloca_once_value(builder, _ZERO) for _ in range(_SUMS)]
            zero, step = count.type(0), count.type(_SUMS)

            def add(n: ir.Value, sum_: ir.Value) -> None:
                weight = _lanes(builder, builder.load(weights.pointer(n)))
                value = table.vector(n, column).load()
                builder.store(_multiply_add(builder, weight, value, builder.load(sum_)), sum_)

            with cgutils.for_range_slice(builder, zero, whole, step) as (n, _):
                for offset, sum_ in enumerate(sums):
                    add(builder.add(n, n.type(offset)), sum_)
            with cgutils.for_range_slice(builder, whole, count, count.type(1)) as (n, _):
                add(n, sums[0])
            a, b, c, d = (builder.load(sum_) for sum_ in sums)
            result = builder.fadd(builder.fadd(a, b), builder.fadd(c, d))
            total.vector(zero, column).store(result)
        return context.get_dummy_value()

    return types.void(total, i, weights, j, table, k, count, first, last), generate


@intrinsic
def scale_and_add_outer(_: Any, out: Any, i: Any, a: Any, j: Any, x: Any, k: Any, b: Any, m: Any,
                        y: Any, n: Any, count: Any, first: Any, last: Any) -> Any:  # fmt: skip
    """Compute out[i + r] = a[j, r] x[k + r] + b[m, r] y[n] for r < count.

    The rows of the tables follow one another in memory.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        out, a, x, b, y = (
            _Rows(context, builder, signature, values, position) for position in (0, 2, 4, 6, 8)
        )
        count, first, last = (
            context.cast(builder, values[at], signature.args[at], types.intp) for at in (10, 11, 12)
        )
        with cgutils.for_range_slice(builder, first, last, first.type(1)) as (number, _):
            column = builder.mul(number, number.type(VECTOR_WIDTH))
            added = y.vector(count.type(0), column).load()
            with cgutils.for_range_slice(builder, count.type(0), count, count.type(1)) as (r, _):
                factor, weight = (_lanes(builder, builder.load(t.pointer(r))) for t in (a, b))
                scaled = builder.fmul(factor, x.vector(r, column).load(), flags=_FUSED)
                out.vector(r, column).store(_multiply_add(builder, weight, added, scaled))
        return context.get_dummy_value()

    return types.void(out, i, a, j, x, k, b, m, y, n, count, first, last), generate


class _Rows:
    """Rows of a table from one of them on, while LLVM code that reads them is generated."""

    def __init__(
        self, context: Any, builder: ir.IRBuilder, signature: Any, values: Any, position: int
    ) -> None:
        own, row_type = signature.args[position : position + 2]
        array = context.make_array(own)(context, builder, values[position])
        row = context.cast(builder, values[position + 1], row_type, types.intp)
        indices = [row, context.get_constant(types.intp, 0)]
        self._builder = builder
        self._first = cgutils.get_item_pointer(context, builder, own, array, indices)
        _, self._columns = cgutils.unpack_tuple(builder, array.shape, 2)

    def pointer(self, column: ir.Value) -> ir.Value:
        """Where a number of the first row is."""
        return self._builder.gep(self._first, [column])

    def vector(self, row: ir.Value, column: ir.Value) -> _RowVector:
        """The vector of a row that starts at a column; rows count from the first."""
        offset = self._builder.add(self._builder.mul(row, self._columns), column)
        pointer = self._builder.bitcast(self.pointer(offset), _VECTOR.as_pointer())
        return _RowVector(self._builder, pointer)


@dataclass
class _RowVector:
    """One vector of a row, while its LLVM code is generated."""

    builder: ir.IRBuilder
    pointer: ir.Value

    def load(self) -> ir.Value:
        return self.builder.load(self.pointer, align=4)

    def store(self, value: ir.Value) -> None:
        self.builder.store(value, self.pointer, align=4)


def _over_vectors(of_vector: Callable[..., Any], *arguments: Any, sums: int = 0) -> Any:
    """The signature and code generator of a loop over vectors, whose body `of_vector` generates.

    `of_vector` receives a vector of equal lanes for each number, and a `_RowVector` for each table
    and row index. Of the vectors that it returns, one or a tuple, `sums` in number, each is summed.
    """
    returns = (types.void, types.float32)[sums] if sums < 2 else types.UniTuple(types.float32, sums)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        def index(value: Any, own: Any) -> ir.Value:
            return context.cast(builder, value, own, types.intp)

        operands: list[Any] = []
        given = zip(signature.args[:-2], values[:-2])
        for own, value in given:
            if isinstance(own, types.Array):
                row_type, row = next(given)
                array = context.make_array(own)(context, builder, value)
                indices = [index(row, row_type), context.get_constant(types.intp, 0)]
                operands.append(cgutils.get_item_pointer(context, builder, own, array, indices))
            else:
                number = context.cast(builder, value, own, types.float32)
                operands.append(_lanes(builder, number))
        first, last = map(index, values[-2:], signature.args[-2:])
        totals = [cgutils.alloca_once_value(builder, _ZERO) for _ in range(sums)]
        with cgutils.for_range_slice(builder, first, last, first.type(1)) as (number, _):
            column = builder.mul(number, number.type(VECTOR_WIDTH))
            found = of_vector(builder, *(_operand(builder, each, column) for each in operands))
            for total, vector in zip(totals, found if isinstance(found, tuple) else (found,)):
                builder.store(builder.fadd(builder.load(total), vector, flags=_FUSED), total)
        results = [_sum_of_lanes(builder, builder.load(total)) for total in totals]
        if sums < 2:
            return results[0] if results else context.get_dummy_value()
        return context.make_tuple(builder, returns, results)

    return returns(*arguments), generate


def _operand(builder: ir.IRBuilder, operand: ir.Value, column: ir.Value) -> Any:
    if not isinstance(operand.type, ir.PointerType):
        return operand
    pointer = builder.gep(operand, [column])
    return _RowVector(builder, builder.bitcast(pointer, _VECTOR.as_pointer()))


def _multiply_add(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
    return builder.fadd(builder.fmul(x, y, flags=_FUSED), z, flags=_FUSED)


def _lanes(builder: ir.IRBuilder, number: ir.Value) -> ir.Value:
    one = builder.insert_element(_UNDEFINED, number, ir.IntType(32)(0))
    return builder.shuffle_vector(one, _UNDEFINED, _lane_indices([0] * VECTOR_WIDTH))


def _sum_of_lanes(builder: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    width = VECTOR_WIDTH
    while width > 1:
        width //= 2
        halves = [
            builder.shuffle_vector(vector, vector, _lane_indices(range(start, start + width)))
            for start in (0, width)
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, ir.IntType(32)(0))


def _lane_indices(lanes: Iterable[int]) -> ir.Constant:
    numbers = list(lanes)
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)
