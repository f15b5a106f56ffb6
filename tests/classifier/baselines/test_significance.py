"""The paired test on rows, beside scipy and beside all permutations."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from hyperagg.classifier.baselines.significance import paired_f1_test, paired_test, verdict


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
    assert verdict(slight) == "not significant (p 0.25)"
    assert paired_test(np.ones((1, 5), bool), np.ones((4, 5), bool))["p"] == 1.0


@pytest.mark.parametrize(("runs", "others"), [(1, 1), (3, 2)])
def test_the_test_of_f1_agrees_with_all_swaps(runs, others):
    rng = np.random.default_rng(runs)
    true = rng.integers(0, 3, 8)

    def model(count, skill):
        predicted = rng.integers(0, 4, (count, 8))
        return rng.binomial(np.minimum(predicted, true), skill), predicted

    first, second = model(runs, 0.9), model(others, 0.2)
    rows = [np.array([part.mean(0) for part in each]) for each in (first, second)]

    def difference(swap):
        ours, theirs = np.where(swap, rows[1], rows[0]), np.where(swap, rows[0], rows[1])
        f1 = [2 * each[0].sum() / (each[1].sum() + true.sum()) for each in (ours, theirs)]
        return f1[0] - f1[1]

    all_swaps = np.array([difference(swap) for swap in product([False, True], repeat=8)])
    found = paired_f1_test(first, second, true)
    assert found["difference"] == pytest.approx(all_swaps[0])
    expected = np.mean(np.abs(all_swaps) >= abs(all_swaps[0]) - 1e-12)
    assert found["p"] == pytest.approx(expected, abs=0.02)


def test_a_difference_of_f1_is_claimed_only_beyond_the_test():
    true, predicted = np.ones(300, int), np.ones((1, 300), int)
    good, bad = (np.arange(300) < count for count in (270, 200))
    clear = paired_f1_test((good[None], predicted), (bad[None], predicted), true)
    assert clear["verdict"] == "ahead" and clear["p"] == 1 / 10_001
    assert clear["first_only"] == 70 and clear["second_only"] == 0
    assert paired_f1_test((bad[None], predicted), (good[None], predicted), true)["difference"] < 0
    same = paired_f1_test((good[None], predicted), (good[None], predicted), true)
    assert same["p"] == 1.0 and same["verdict"] == "not different"
    nothing = np.zeros((1, 300), int)
    assert paired_f1_test((nothing, nothing), (nothing, nothing), 0 * true)["difference"] == 0.0
