"""python -m research: help with an example for every command, and one line for a mistake."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from hyperagg._common.folder_lock import locked_folder
from research.cli import app


def commands(group: TyperGroup, path: tuple[str, ...] = ()) -> Iterator[str]:
    yield " ".join(path)
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name))


MISTAKES = {
    "study reuters --protocol fair": ["'fair'", "'corrected'"],
    "study imdb": ["'imdb'"],
    "study key-values --learning-rates 0.01,0": ["--learning-rates 0.01,0", "numbers > 0"],
    "analyze orthogonality": ["MODEL"],
    "analyze orthogonality nothing": ["nothing", "folder"],
    "analyze redraw nothing": ["nothing", "folder"],
}


@pytest.mark.parametrize("command", [*commands(get_command(app))])
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


def test_two_studies_do_not_write_to_one_folder(tmp_path):
    """Each of them used to replace the runs of the other."""
    with locked_folder(tmp_path):
        command = [sys.executable, "-m", "research", "study", "accuracy", "--out", str(tmp_path)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 2
    assert answer.stderr.endswith(
        f"--out {tmp_path}: another command writes to it; wait for it or give another folder\n"
    )
    assert not list(tmp_path.iterdir())
