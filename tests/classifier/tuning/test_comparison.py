"""The standard error of a difference, against resampled rows and the formula for accuracies."""

from __future__ import annotations

import numpy as np
import pytest

from hyperagg.classifier.tuning.comparison import RowCounts, compare_rows, count_rows


def test_counts_of_labels_and_of_several_labels():
    single = count_rows(["a", "b", "c"], ["a", "c", "c"])
    assert single.hits.tolist() == [1, 0, 1] and single.sizes.tolist() == [2, 2, 2]
    assert single.score == pytest.approx(2 / 3)
    several = count_rows([("a", "b"), (), ("c",)], [("b",), ("a",), ("c",)])
    assert several.hits.tolist() == [1, 0, 1] and several.sizes.tolist() == [3, 1, 2]
    assert several.score == pytest.approx(2 * 2 / 6)


def draw(rng, rows, several):
    """The counts of two classifiers that agree in most rows."""
    sizes = rng.integers(1, 5, rows) + rng.integers(1, 3, rows) if several else np.full(rows, 2)
    possible = sizes // 2
    first = rng.binomial(possible, 0.8)
    changed = rng.random(rows) < 0.2
    second = np.where(changed, rng.binomial(possible, 0.7), first)
    return RowCounts(first, sizes), RowCounts(second, sizes)


def test_the_error_of_accuracies_is_that_of_the_paired_differences():
    first, second = draw(np.random.default_rng(0), 500, several=False)
    found = compare_rows([first], [second])
    paired = first.hits - second.hits
    assert found.difference == pytest.approx(paired.mean())
    assert found.standard_error == pytest.approx(paired.std(ddof=1) / np.sqrt(500))
    assert (found.num_rows, found.num_folds) == (500, 1)
    # Without pairing it would be larger.
    unpaired = np.hypot(first.hits.std(), second.hits.std()) / np.sqrt(500)
    assert found.standard_error < 0.7 * unpaired


@pytest.mark.parametrize("several", [False, True])
def test_the_error_is_the_deviation_over_resampled_rows(several):
    rng = np.random.default_rng(1)
    first, second = draw(rng, 400, several)
    differences = []
    for _ in range(4000):
        rows = rng.integers(400, size=400)
        resampled = (RowCounts(each.hits[rows], each.sizes[rows]) for each in (first, second))
        a, b = (each.score for each in resampled)
        differences.append(a - b)
    assert compare_rows([first], [second]).standard_error == pytest.approx(
        np.std(differences), rel=0.06
    )


def test_rows_of_all_folds_count_alike():
    first, second = draw(np.random.default_rng(2), 90, several=True)

    def parts(counts):
        return [RowCounts(counts.hits[a:b], counts.sizes[a:b]) for a, b in ((0, 30), (30, 90))]

    whole, folds = compare_rows([first], [second]), compare_rows(parts(first), parts(second))
    assert (folds.difference, folds.num_rows, folds.num_folds) == (whole.difference, 90, 2)
    assert folds.standard_error == pytest.approx(whole.standard_error)


def test_equal_predictions_and_few_rows_are_not_better():
    first, _ = draw(np.random.default_rng(3), 50, several=False)
    same = compare_rows([first], [first])
    assert same.difference == same.standard_error == 0 and not same.is_better
    one = compare_rows(
        [RowCounts(np.array([1]), np.array([2]))], [RowCounts(np.array([0]), np.array([2]))]
    )
    assert one.difference == 1 and not one.is_better
