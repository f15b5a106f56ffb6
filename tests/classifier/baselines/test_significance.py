"""The paired test on rows, beside scipy and beside all permutations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hyperagg.classifier.baselines.significance import paired_test, verdict


@pytest.mark.parametrize(("first_only", "second_only"), [(0, 0), (7, 0), (12, 5), (130, 171)])
def test_with_one_run_each_it_is_the_exact_test_of_mcnemar(first_only, second_only):
    stats = pytest.importorskip("scipy.stats")
    first = np.array([True] * first_only + [False] * second_only + [True, True, False])
    second = np.array([False] * first_only + [True] * second_only + [True, True, False])
    found = paired_test(first[None], second[None])
    count = first_only + second_only
    expected = stats.binomtest(first_only, count).pvalue if count else 1.0
    assert found["p"] == pytest.approx(expected, rel=1e-9)
    assert found["difference"] == pytest.approx(first.mean() - second.mean())
    assert (found["first_only"], found["second_only"]) == (first_only, second_only)


@pytest.mark.parametrize(("runs", "others"), [(3, 3), (3, 2), (5, 1)])
def test_with_several_runs_it_counts_all_signs_of_the_differences(runs, others):
    rng = np.random.default_rng(runs)
    first, second = rng.random((runs, 9)) < 0.7, rng.random((others, 9)) < 0.4
    difference = first.mean(0) - second.mean(0)
    sums = np.array([difference @ signs for signs in product([-1, 1], repeat=9)])
    expected = np.mean(np.abs(sums) >= abs(difference.sum()) - 1e-9)
    assert paired_test(first, second)["p"] == pytest.approx(expected)


def test_a_difference_is_claimed_only_beyond_the_test():
    rows = np.arange(400)
    clear = paired_test((rows < 300)[None], (rows < 250)[None])
    assert clear["verdict"] == "ahead" and clear["p"] < 1e-9
    assert paired_test((rows < 250)[None], (rows < 300)[None])["verdict"] == "behind"
    slight = paired_test((rows < 300)[None], (rows < 297)[None])
    assert slight["verdict"] == "not different" and slight["p"] == pytest.approx(0.25)
    assert verdict(clear) == "ahead by 12.50 (p < 0.001)"
    assert verdict(slight) == "not different (p 0.25)"
    assert paired_test(np.ones((1, 5), bool), np.ones((4, 5), bool))["p"] == 1.0
