"""SIMD operations on rows: equal to NumPy in the given vectors, and without effect elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from hyperagg._numba import simd
from hyperagg._numba.simd import VECTOR_WIDTH


@njit
def _all(out, x, y, sums, count, first, last):
    simd.clear(out, 0, first, last)
    simd.add(out, 1, np.float32(0.5), x, 2, first, last)
    simd.axpy4(
        out, 2, np.float32(1), x, 0, np.float32(2), x, 1, np.float32(3), x, 2, np.float32(4), x, 3,
        first, last,
    )  # fmt: skip
    sums[0] = simd.add_product(out, 3, np.float32(3), x, 1, y, 2, first, last)
    sums[1] = simd.product_square(x, 0, y, 1, first, last)
    sums[2] = simd.dot(x, 3, y, 3, first, last)
    simd.product(out, 4, x, 2, y, 1, count, first, last)
    sums[3], sums[4] = simd.add_then_scale(
        out, 5, np.float32(2), x, 0, np.float32(0.5), y, 1, y, 2, first, last
    )
    simd.scale_and_add_outer(out, 6, x, 1, y, 0, x, 2, y, 3, min(count, 4), first, last)


@pytest.mark.parametrize("count", [0, 3, 4, 11])
@pytest.mark.parametrize("first,last", [(0, 3), (1, 2), (0, 1), (2, 2)])
def test_operations_equal_numpy(first, last, count):
    rng = np.random.default_rng(0)
    x, y = (simd.pad_to_vector(rng.standard_normal((12, 40))) for _ in range(2))
    before = simd.pad_to_vector(rng.standard_normal((10, 40)))
    out, sums = before.copy(), np.empty(5, np.float32)
    _all(out, x, y, sums, count, first, last)
    part = slice(first * VECTOR_WIDTH, last * VECTOR_WIDTH)
    want = before.astype(np.float64)
    want[0, part] = 0
    want[1, part] += 0.5 * x[2, part]
    want[2, part] += (np.arange(1, 5) @ x[:4])[part]
    want[3, part] += 3 * x[1, part] * y[2, part]
    want[4, part] = (x[2, :count] @ y[1 : 1 + count])[part]
    for r in range(min(count, 4)):
        want[6 + r, part] = (x[1, r] * y[r] + x[2, r] * y[3])[part]
    added = (before[5] + 2 * x[0])[part]
    want[5, part] = 0.5 * added
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        sums,
        [
            np.square(x[1, part] * y[2, part]).sum(),
            np.square(x[0, part] * y[1, part]).sum(),
            x[3, part] @ y[3, part],
            added @ y[1, part],
            x[0, part] @ y[2, part],
        ],
        rtol=1e-5,
        atol=1e-5,
    )


def test_rows_are_padded_to_whole_vectors():
    table = np.arange(120, dtype=np.float32).reshape(4, 30)
    got = simd.pad_to_vector(table)
    assert got.shape == (4, 32) and got.ctypes.data % 64 == 0 and got.flags.c_contiguous
    np.testing.assert_array_equal(got[:, :30], table)
    assert not got[:, 30:].any()
