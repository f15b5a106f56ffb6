"""The split into training and validation rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._common.split import train_validation_split


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 5))
def test_a_contiguous_split_holds_out_a_run_of_each_class(labels, seed):
    targets = np.array(labels)
    training, validation = train_validation_split(
        np.unique(targets, return_inverse=True)[1], 0.1, seed
    )
    assert sorted([*training, *validation]) == list(range(len(targets)))
    for label in set(labels):
        own = np.flatnonzero(targets == label)
        positions = np.flatnonzero(np.isin(own, validation))
        assert len(positions) == len(own) // 10
        gaps = np.diff(positions)
        # Neighbors, but for one wrap-around from the last row of the class to its first.
        assert (gaps > 1).sum() <= 1
