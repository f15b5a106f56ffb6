"""Durations as options give them."""

from __future__ import annotations

import math
import re

__all__ = ["parse_duration"]

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d+\.?\d*|\.\d+) ?([smhd]?)", re.ASCII)


def parse_duration(option: str, text: str) -> float:
    """Return the seconds of a duration, which is a number of seconds or has a unit.

    Raises:
        ValueError: it is not a duration above 0.

    Example:
        >>> parse_duration("--time-limit", "1.5h"), parse_duration("--time-limit", "90")
        (5400.0, 90.0)
    """
    found = _DURATION.fullmatch(text.strip())
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(
            f"{option} {text}: expected a number of seconds above 0, or a number with the unit "
            "s, m, h or d, such as 30m"
        )
    return seconds
