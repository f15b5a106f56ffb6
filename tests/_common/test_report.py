"""Tables, results and the environment."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from hyperagg._common.report import (
    environment,
    make_table,
    markdown_table,
    spread,
    times,
    write_results,
)
from hyperagg._numba.cpus import default_threads


def test_the_environment_names_versions_and_is_json():
    found = environment()
    names = {"processor", "cores", "threads", "commit", "command", "python", "numpy"}
    assert names <= set(found)
    assert found["threads"] == default_threads() >= 1
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["/a/research/__main__.py", "bench", "two words"], "python -m research bench 'two words'"),
        (["/a/bin/hyperagg", "compare", "r8"], "hyperagg compare r8"),
    ],
)
def test_the_environment_names_the_command(monkeypatch, arguments, command):
    monkeypatch.setattr(sys, "argv", arguments)
    assert environment()["command"] == command


def test_spread_is_the_sample_standard_deviation():
    values = [0.5, 0.7, 0.9]
    assert spread(values) == f"70.00 ± {100 * np.std(values, ddof=1):.2f}"
    assert spread([0.5], scale=1, digits=1) == "0.5"


def test_ratios():
    assert [times(ratio) for ratio in (0.25, 9.96, 12.4)] == ["0.2 ×", "10.0 ×", "12 ×"]


def test_tables():
    columns, rows = ["a", "b"], [["x", "1"], ["y", "2"]]
    assert markdown_table(columns, rows) == "| a | b |\n|---|---:|\n| x | 1 |\n| y | 2 |\n"
    assert make_table("title", columns, rows).row_count == 2


def test_results_are_written_as_json(tmp_path):
    path = write_results(tmp_path / "new", {"größe": [1.5]})
    assert path.name == "results.json" and json.loads(path.read_text("utf-8")) == {"größe": [1.5]}
