from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._numba.cache import njit
from hyperagg._numba.eight_bytes import (
    between,
    first_bytes,
    read_eight,
    trailing_zero_bytes,
    write_eight,
)

EIGHT = st.binary(min_size=8, max_size=8)


@njit
def operations(data, number, first, last, out):
    value = read_eight(data, 1)
    write_eight(out, 2, value)
    return first_bytes(value, number), trailing_zero_bytes(value), between(value, first, last)


@given(
    EIGHT.map(lambda data: bytes(byte & 127 for byte in data)),
    st.integers(1, 8),
    st.tuples(st.integers(0, 127), st.integers(0, 127)).map(sorted),
)
def test_they_are_what_bytes_say(content, number, ends):
    first, last = ends
    data = np.frombuffer(b"x" + content, dtype=np.uint8)
    out = np.zeros(11, dtype=np.uint8)
    start, zeros, inside = operations(data, number, first, last, out)
    assert out.tobytes() == b"\0\0" + content + b"\0"
    assert int(start).to_bytes(8, "little") == content[:number].ljust(8, b"\0")
    assert zeros == len(content) - len(content.lstrip(b"\0"))
    expected = bytes(128 if first <= byte <= last else 0 for byte in content)
    assert int(inside).to_bytes(8, "little") == expected
