"""Work is dealt out evenly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._numba.threads import even_borders


@pytest.mark.parametrize("items, parts", [(8, 2), (16, 2), (64, 4), (6, 3)])
def test_equal_items_make_equal_shares(items, parts):
    shares = np.diff(even_borders(np.full(items, 5), parts))
    assert shares.tolist() == [items // parts] * parts


@given(st.lists(st.integers(0, 50), max_size=40), st.integers(1, 6))
def test_no_share_exceeds_an_even_one_by_more_than_an_item(costs, parts):
    borders = even_borders(np.array(costs, dtype=np.int64), parts)
    assert borders[0] == 0 and borders[-1] == len(costs)
    assert (np.diff(borders) >= 0).all()
    shares = [sum(costs[a:b]) for a, b in zip(borders, borders[1:])]
    assert max(shares) <= sum(costs) / parts + max(costs, default=0)
