"""python -m research: help with an example for every command, and one line for a mistake."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from research.cli import app

COMMANDS = [
    "",
    "study reuters",
    "study ag-news",
    "study language-models",
    "study accuracy",
    "study learning-curves",
    "study deletion",
    "study capacity",
    "study multimodal",
    "study diffusion",
    "study faults",
    "bench ops",
    "bench text",
    "bench busy",
    "bench lm",
    "bench pipelines",
    "analyze orthogonality",
    "analyze redraw",
]
MISTAKES = {
    "study reuters --protocol fair": ["'fair'", "'corrected'"],
    "study imdb": ["'imdb'"],
    "analyze orthogonality": ["MODEL"],
    "analyze orthogonality nothing": ["nothing", "folder"],
    "analyze redraw nothing": ["nothing", "folder"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command):
    answer = CliRunner().invoke(app, [*command.split(), "--help"])
    assert answer.exit_code == 0
    assert f"Example: python -m research {command}".rstrip() in " ".join(answer.output.split())


@pytest.mark.parametrize("command", MISTAKES)
def test_a_mistake_is_one_line(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "research", *command.split()], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""
    for fragment in MISTAKES[command]:
        assert fragment in done.stderr
