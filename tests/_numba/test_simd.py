"""Rows by lines: the same as NumPy says, in the lines that are named and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from hyperagg._numba import simd as lines
from hyperagg._numba.simd import VECTOR_WIDTH


@njit
def _all(out, x, y, sums, first, last):
    lines.clear(out, 0, first, last)
    lines.add(out, 1, np.float32(0.5), x, 2, first, last)
    lines.axpy4(
        out, 2, np.float32(1), x, 0, np.float32(2), x, 1, np.float32(3), x, 2, np.float32(4), x, 3,
        first, last,
    )  # fmt: skip
    lines.add_product(out, 3, x, 1, y, 2, first, last)
    sums[0] = lines.product(out, 4, np.float32(3), x, 0, y, 1, first, last)
    sums[1] = lines.dot(x, 3, y, 3, first, last)


@pytest.mark.parametrize("first,last", [(0, 3), (1, 2), (0, 1), (2, 2)])
def test_lines_are_what_numpy_says(first, last):
    rng = np.random.default_rng(0)
    x, y = (lines.pad_to_vector(rng.standard_normal((4, 40))) for _ in range(2))
    before = lines.pad_to_vector(rng.standard_normal((5, 40)))
    out, sums = before.copy(), np.empty(2, np.float32)
    _all(out, x, y, sums, first, last)
    part = slice(first * VECTOR_WIDTH, last * VECTOR_WIDTH)
    want = before.astype(np.float64)
    want[0, part] = 0
    want[1, part] += 0.5 * x[2, part]
    want[2, part] += (np.arange(1, 5) @ x)[part]
    want[3, part] += x[1, part] * y[2, part]
    want[4, part] = 3 * x[0, part] * y[1, part]
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        sums, [np.square(want[4, part]).sum(), x[3, part] @ y[3, part]], rtol=1e-5
    )


def test_rows_are_whole_lines():
    table = np.arange(120, dtype=np.float32).reshape(4, 30)
    got = lines.pad_to_vector(table)
    assert got.shape == (4, 32) and got.ctypes.data % 64 == 0 and got.flags.c_contiguous
    np.testing.assert_array_equal(got[:, :30], table)
    assert not got[:, 30:].any()
