"""Durations as options give them."""

from __future__ import annotations

import pytest

from hyperagg.cli._duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1.5 h", 5400),
        ("1d", 86400),
        (".5", 0.5),
    ],
)
def test_seconds_and_units(text, seconds):
    assert parse_duration("--time-limit", text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "-5", "30x", "m", "1h30m", "nan", "inf", "1e3", "9" * 400, "٣0"]
)
def test_anything_else_is_one_line(text):
    with pytest.raises(ValueError, match=r"^--time-limit .*: expected a number of seconds above 0"):
        parse_duration("--time-limit", text)
