"""Checks of arguments that take numbers or names.

NumPy scalars are accepted wherever Python numbers are; booleans are not numbers.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable
from reprlib import repr as shorten
from typing import Any

__all__ = ["check_choice", "check_integer", "check_number"]


def check_integer(name: str, value: Any, minimum: int, maximum: int | None = None) -> int:
    """Return `value` as an int.

    Raises:
        TypeError: it is not an integer.
        ValueError: it lies outside `minimum` to `maximum`, both included.

    >>> check_integer("d_model", 0, 1)
    Traceback (most recent call last):
    ValueError: d_model=0: expected an integer >= 1
    """
    accepted = f">= {minimum}" if maximum is None else f"from {minimum} to {maximum}"
    message = f"{name}={shorten(value)}: expected an integer {accepted}"
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise TypeError(message)
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(message)
    return number


def check_number(
    name: str,
    value: Any,
    *,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a finite float.

    Args:
        name: the argument.
        value: what was given for it.
        minimum, maximum: bounds that are included.
        above, below: bounds that are excluded.

    Raises:
        TypeError: it is not a real number.
        ValueError: it is not finite, or lies outside the bounds.

    >>> check_number("validation_fraction", 1, minimum=0, below=1)
    Traceback (most recent call last):
    ValueError: validation_fraction=1: expected a number >= 0 and < 1
    """
    bounds = [
        f"{sign} {bound:g}"
        for sign, bound in ((">=", minimum), (">", above), ("<=", maximum), ("<", below))
        if bound is not None
    ]
    accepted = f" {' and '.join(bounds)}" if bounds else ""
    message = f"{name}={shorten(value)}: expected a number{accepted}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(message)
    number = float(value)
    if (
        not math.isfinite(number)
        or (minimum is not None and number < minimum)
        or (above is not None and number <= above)
        or (maximum is not None and number > maximum)
        or (below is not None and number >= below)
    ):
        raise ValueError(message)
    return number


def check_choice(name: str, value: Any, choices: Iterable[str]) -> str:
    """Return `value` if it is one of `choices`.

    Raises:
        ValueError: it is not.

    >>> check_choice("fusion", "x", ["sum", "attention"])
    Traceback (most recent call last):
    ValueError: fusion='x': expected one of sum, attention
    """
    choices = list(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}={shorten(value)}: expected one of {', '.join(choices)}")
    return value
