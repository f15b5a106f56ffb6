from __future__ import annotations

import numpy as np
import pytest

from hyperagg._numba.threads import limit_threads
from hyperagg.classifier.initialization import uniform


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize("shape", [(7, 5), (70_001, 32), (0, 4)])
def test_numbers_are_those_of_one_call_for_any_number_of_threads(threads, shape):
    plain, shared = (np.random.default_rng(5) for _ in range(2))
    expected = plain.random(shape, dtype=np.float32) * np.float32(0.2) - np.float32(0.1)
    with limit_threads(threads):
        found = uniform(shared, 0.1, *shape)
    assert np.array_equal(found, expected)
    assert found.dtype == np.float32
    assert plain.integers(2**62) == shared.integers(2**62)  # both generators go on alike
