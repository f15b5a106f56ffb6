"""Data sets that are measured side by side."""

from __future__ import annotations

import pytest

from research.studies.parallel_sets import measure_sets


def measure(name):
    if name == "broken":
        raise ValueError("no such rows")
    return name.upper()


def test_an_error_is_shown_and_does_not_end_the_others(caplog):
    written = []
    with pytest.raises(ValueError, match="no such rows"):
        measure_sets(measure, ["a", "broken", "b"], 1, written.append)
    assert written[-1] == {"a": "A", "b": "B"}
    assert "broken: ValueError: no such rows" in caplog.text
