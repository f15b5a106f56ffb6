"""The split into training and validation rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hyperagg._common.split import contiguous_folds, train_validation_split


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


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(2, 6), st.integers(0, 5))
def test_contiguous_folds_are_disjoint_and_the_first_is_that_of_a_split(labels, number, seed):
    classes = np.array(labels)
    folds = contiguous_folds(classes, number, seed)
    rows = np.concatenate(folds)
    assert len(folds) == number and len(set(rows)) == len(rows)
    for fold in folds:
        assert list(fold) == sorted(fold)
        for c in set(labels):
            assert (classes[fold] == c).sum() == labels.count(c) // number
    split = train_validation_split(classes, 1 / number, seed)[1]
    # 1 / number is not exact, and rounded down it may be a row less of a class.
    assert set(split) <= set(folds[0])
    assert len(folds[0]) - len(split) <= len(set(labels))
