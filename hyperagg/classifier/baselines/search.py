"""Search for the parameters with the best score, without edges.

Every parameter has an axis of values that goes on in both directions, up to its limits.
The search ends at parameters whose neighbors on all axes, on both sides, have been tried and are
not better; so there is no grid that would have to be widened.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Axis", "Diverged", "OneTwoFive", "Steps", "climb", "neighbors"]


class Diverged(ValueError):
    """The training with some parameters does not end with numbers."""


@dataclass(frozen=True)
class Steps:
    """Equal steps from a minimum on, up to a maximum if there is one.

    >>> Steps(0).neighbors(0), Steps(0).neighbors(3), Steps(0.25, 1, 0.25).neighbors(1.0)
    ([1], [4, 2], [0.75])
    """

    minimum: float
    maximum: float = math.inf
    step: float = 1

    def neighbors(self, value: float) -> list[float]:
        """Return the next greater and the next smaller value, as far as they exist."""
        found = value + self.step, value - self.step
        return [each for each in found if self.minimum <= each <= self.maximum]

    def nearest(self, value: float) -> float:
        """Return the value that is nearest to a number."""
        steps = round((value - self.minimum) / self.step)
        return min(max(self.minimum + steps * self.step, self.minimum), self.maximum)


@dataclass(frozen=True)
class OneTwoFive:
    """The values 1, 2 and 5 times every power of 10, up to a maximum if there is one.

    Args:
        integer: whether only those from 1 on are values.
        maximum: the largest value.

    >>> OneTwoFive().neighbors(0.1), OneTwoFive(integer=True, maximum=2).neighbors(2)
    ([0.2, 0.05], [1])
    """

    integer: bool = False
    maximum: float = math.inf

    def neighbors(self, value: float) -> list[float]:
        """Return the next greater and the next smaller value, as far as they exist."""
        exponent = math.floor(math.log10(value) + 1e-9)
        position = 3 * exponent + (1, 2, 5).index(round(value / 10.0**exponent))
        found = [self._at(position + 1)]
        if not self.integer or position > 0:
            found.append(self._at(position - 1))
        return [each for each in found if each <= self.maximum]

    def nearest(self, value: float) -> float:
        """Return the value whose logarithm is nearest to that of a positive number."""
        value = min(value, self.maximum)
        first = 3 * math.floor(math.log10(value))
        positions = [p for p in range(first, first + 4) if p >= 0 or not self.integer]
        values = [self._at(position) for position in positions or [0]]
        return min(values, key=lambda each: abs(math.log(each / value)))

    def _at(self, position: int) -> float:
        value = float(f"{(1, 2, 5)[position % 3]}e{position // 3}")
        return int(value) if self.integer else value


Axis = OneTwoFive | Steps
Parameters = dict[str, Any]


def neighbors(
    point: Mapping[str, Any],
    axes: Mapping[str, Axis],
    canonical: Callable[[Parameters], Parameters] = dict,
) -> list[Parameters]:
    """Return the points that differ from `point` by one step on one axis."""
    found = [
        canonical({**point, name: value})
        for name, axis in axes.items()
        for value in axis.neighbors(point[name])
    ]
    return [each for each in found if each != point]


def climb(
    score: Callable[[Parameters], float],
    axes: Mapping[str, Axis],
    starts: Iterable[Mapping[str, Any]],
    canonical: Callable[[Parameters], Parameters] = dict,
    more_starts: Iterable[Mapping[str, Any]] = (),
    reach: float = math.inf,
) -> list[Parameters]:
    """Return the best parameters that hill climbing finds from each start, the best of all first.

    From every start, each axis in turn is followed as long as the score rises, until no neighbor
    has a better score. Of equal scores the first is kept. `score` is called once per point.

    Args:
        score: the score of parameters, greater is better.
        axes: the values of each parameter.
        starts: parameters to start from, at least one.
        canonical: maps parameters that give the same model to one of them.
        more_starts: further parameters, from which the search climbs only if they are better than
            all that it found before.
        reach: a start is left out if its score is lower by more than this than that of the best
            start, from which the search climbs first.

    >>> axes = {"C": OneTwoFive(), "n": Steps(1)}
    >>> climb(lambda p: -abs(p["C"] - 20) - abs(p["n"] - 3), axes, [{"C": 1.0, "n": 1}])
    [{'C': 20.0, 'n': 3}]
    """
    tried: dict[tuple[tuple[str, Any], ...], float] = {}

    def measured(point: Parameters) -> float:
        key = tuple(sorted(point.items()))
        if key not in tried:
            tried[key] = score(point)
        return tried[key]

    ordered = sorted(map(canonical, map(dict, starts)), key=measured, reverse=True)
    lowest = measured(ordered[0]) - reach
    tops = [_climb(measured, axes, each, canonical) for each in ordered if measured(each) >= lowest]
    for start in map(canonical, map(dict, more_starts)):
        if measured(start) > max(map(measured, tops)):
            tops.append(_climb(measured, axes, start, canonical))
    distinct = {tuple(sorted(top.items())): top for top in tops}
    return sorted(distinct.values(), key=measured, reverse=True)


def _climb(
    score: Callable[[Parameters], float],
    axes: Mapping[str, Axis],
    point: Parameters,
    canonical: Callable[[Parameters], Parameters],
) -> Parameters:
    best, improved = score(point), True
    while improved:
        improved = False
        for name in axes:
            moved = True
            while moved:
                moved = False
                for candidate in neighbors(point, {name: axes[name]}, canonical):
                    if (found := score(candidate)) > best:
                        point, best, moved, improved = candidate, found, True, True
                        break
    return point
