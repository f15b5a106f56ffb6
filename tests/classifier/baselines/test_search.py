"""The search for parameters: it ends where no neighbor is better, however far that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperagg.classifier.baselines.search import OneTwoFive, Steps, climb, neighbors


@given(st.integers(-30, 30), st.integers(0, 2))
def test_neighbors_are_mutual(exponent, position):
    value = float(f"{(1, 2, 5)[position]}e{exponent}")
    greater, smaller = OneTwoFive().neighbors(value)
    assert smaller < value < greater and greater / smaller <= 5.01
    assert OneTwoFive().neighbors(greater)[1] == OneTwoFive().neighbors(smaller)[0] == value


def test_natural_limits_are_the_only_edges():
    assert OneTwoFive(integer=True).neighbors(1) == [2]
    assert OneTwoFive(integer=True).neighbors(10) == [20, 5]
    assert all(isinstance(n, int) for n in OneTwoFive(integer=True).neighbors(500))
    assert Steps(1).neighbors(1) == [2] and Steps(0).neighbors(1) == [2, 0]
    assert Steps(0.25, 1, 0.25).neighbors(1.0) == [0.75]


@given(st.floats(1e-6, 1e6))
def test_the_nearest_value_is_within_half_a_step(value):
    near = OneTwoFive().nearest(value)
    assert OneTwoFive().nearest(near) == near
    assert max(near / value, value / near) <= 2.5**0.5 + 1e-9
    assert Steps(0).nearest(value) == round(value)


def test_the_nearest_value_is_within_the_limits():
    assert OneTwoFive(integer=True).nearest(0.3) == 1
    assert [OneTwoFive(integer=True).nearest(n) for n in (7, 8, 130, 1000)] == [5, 10, 100, 1000]
    assert OneTwoFive(maximum=100).nearest(1000) == 100
    assert Steps(1, 3).nearest(0) == 1 and Steps(1, 3).nearest(9) == 3


@given(st.integers(-8, 8), st.integers(-8, 8), st.integers(0, 9))
def test_the_best_is_found_however_far_it_is_from_the_starts(x, y, n):
    at = {"x": float(f"1e{x}"), "y": float(f"5e{y}"), "n": n}
    order = OneTwoFive()._at
    index = {order(i): i for i in range(-40, 40)}
    axes = {"x": OneTwoFive(), "y": OneTwoFive(), "n": Steps(0)}
    scored = []

    def score(point):
        scored.append(tuple(point.items()))
        return -sum(abs(index[point[k]] - index[at[k]]) for k in "xy") - abs(point["n"] - n)

    starts = [{"x": 1.0, "y": 1.0, "n": 2}, {"x": 0.1, "y": 10.0, "n": 0}]
    (best,) = climb(score, axes, starts)
    assert best == at
    assert len(scored) == len(set(scored)), "a point was scored twice"
    # Neither side of any axis is left out.
    assert all(tuple(each.items()) in scored for each in neighbors(best, axes))


def test_of_equal_scores_the_first_is_kept_and_equal_models_are_scored_once():
    axes = {"size": Steps(0), "unused": Steps(0)}
    calls = []

    def canonical(point):
        return {**point, "unused": 0}

    def score(point):
        calls.append(point)
        return 1.0

    assert climb(score, axes, [{"size": 2, "unused": 5}], canonical) == [{"size": 2, "unused": 0}]
    assert calls == [{"size": size, "unused": 0} for size in (2, 3, 1)]


@pytest.mark.parametrize("starts", [[{"C": 1.0}], [{"C": 1.0}, {"C": 1000.0}]])
def test_several_starts_find_the_best_of_their_tops(starts):
    def score(point):
        return {1.0: 0.5, 1000.0: 0.9}.get(point["C"], 0.0)

    assert climb(score, {"C": OneTwoFive()}, starts) == starts[::-1]


@pytest.mark.parametrize(("value", "climbed"), [(10.0, True), (200.0, False)])
def test_more_starts_are_climbed_from_only_if_they_are_better(value, climbed):
    scores = {1.0: 0.5, 10.0: 0.6, 20.0: 0.9, 200.0: 0.4, 500.0: 1.0}
    tried = []

    def score(point):
        tried.append(point["C"])
        return scores.get(point["C"], 0.0)

    found = climb(score, {"C": OneTwoFive()}, [{"C": 1.0}], more_starts=[{"C": value}])
    assert found == ([{"C": 20.0}, {"C": 1.0}] if climbed else [{"C": 1.0}])
    assert value in tried and 500.0 not in tried


@pytest.mark.parametrize(("reach", "followed"), [(0.1, False), (0.5, True)])
def test_a_start_that_is_far_behind_is_left_out(reach, followed):
    scores = {1.0: 0.5, 2.0: 0.55, 1000.0: 0.9}
    tried = []

    def score(point):
        tried.append(point["C"])
        return scores.get(point["C"], 0.0)

    starts = [{"C": 1.0}, {"C": 1000.0}]
    found = climb(score, {"C": OneTwoFive()}, starts, reach=reach)
    assert found == [{"C": 1000.0}, *([{"C": 2.0}] if followed else [])]
    assert (2.0 in tried) == followed
