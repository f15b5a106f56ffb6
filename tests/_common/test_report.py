"""Tables, results and the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

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

ROOT = Path(__file__).parents[2]


def test_the_environment_names_versions_and_is_json():
    found = environment()
    names = {"processor", "cores", "threads", "commit", "command", "python", "numpy"}
    assert names <= set(found)
    assert found["threads"] == default_threads() >= 1
    assert json.loads(json.dumps(found)) == found


def test_the_environment_names_the_command(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/a/bin/hyperagg", "compare", "r8"])
    assert environment()["command"] == "hyperagg compare r8"


def test_a_spawned_process_names_the_command_of_the_program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/somewhere/research/__main__.py", "study", "faults"])
    assert environment()["command"] == "python -m research study faults"


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("outer/__main__.py", "outer"),
        ("outer/inner/__main__.py", "outer.inner"),
        ("outer/inner/pages.py", "outer.inner.pages"),
    ],
)
def test_the_environment_names_a_module_with_its_packages(tmp_path, file, module):
    """python -m tests.fuzz was recorded as python -m fuzz."""
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(
        "from hyperagg._common.report import environment\nprint(environment()['command'])"
    )
    environ = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ran = subprocess.run(
        [sys.executable, "-m", module, "two words"],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.stdout == f"python -m {module} 'two words'\n", ran.stderr


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
