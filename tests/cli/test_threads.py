"""--threads: every command that computes has it, and everything that computes follows it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import typer

from hyperagg._numba.cpus import default_threads
from hyperagg.cli import _threads, app
from hyperagg.cli._runner import run_app
from hyperagg.cli.options import Threads

# They copy, convert or list files.
WITHOUT = {"convert", "data list", "data get", "data show", "lm push"}


def commands(group, prefix=""):
    """The names and the commands of an application, those of its groups included."""
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_all_commands_are_found():
    assert {"train", "tune", "serve", "lm train", "diffusion sample"} | WITHOUT <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_computes_has_the_option(name):
    options = [option for parameter in COMMANDS[name].params for option in parameter.opts]
    assert ("--threads" in options) == (name not in WITHOUT)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in WITHOUT])
def test_a_number_below_one_is_refused_in_one_line(cli, name):
    answer = cli(*name.split(), "--threads", 0)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "Invalid value for '--threads'" in answer.err


@pytest.fixture
def call(monkeypatch):
    """Runs a command that notes the numbers of threads it sees."""
    own, seen = typer.Typer(), {}
    own.callback()(lambda: None)  # commands are in a group, as those of the package

    @own.command()
    def compute(threads: Threads = None, fail: bool = False, number: int = 0) -> None:
        seen["kernels"] = default_threads()
        seen["variables"] = {os.environ.get(name) for name in _threads._VARIABLES}
        if "torch" in sys.modules:
            seen["torch"] = sys.modules["torch"].get_num_threads()
        if fail:
            raise ValueError("failed")

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["own", "compute", *map(str, arguments)])
        seen.clear()
        with pytest.raises(SystemExit) as stop:
            run_app(own, "own")
        return stop.value.code, dict(seen)

    return call


def state():
    torch = sys.modules.get("torch")
    return (
        default_threads(),
        [os.environ.get(name) for name in _threads._VARIABLES],
        torch and torch.get_num_threads(),
    )


def test_kernels_pytorch_and_tokenizers_follow_it(call, monkeypatch):
    monkeypatch.setattr(_threads, "usable_cpus", lambda: 3)
    before = state()
    for asked, used in ((1, 1), (2, 2), (1000, 3)):
        code, seen = call("--threads", asked)
        assert code == 0
        assert seen["kernels"] == used and seen["variables"] == {str(used)}
        assert seen.get("torch", used) == used
        assert state() == before


def test_without_it_nothing_changes(call):
    before = state()
    code, seen = call()
    assert code == 0 and seen["kernels"] == before[0] and seen.get("torch", before[2]) == before[2]
    assert state() == before


@pytest.mark.parametrize("wrong", [("--fail",), ("--number", "one"), ("--unknown",)])
def test_the_number_is_restored_after_an_error(call, wrong):
    before = state()
    assert call("--threads", 1, *wrong)[0] == 2
    assert state() == before


PROGRAM = """
import typer
from hyperagg.cli._runner import run_app
from hyperagg.cli.options import Threads

app = typer.Typer()

@app.command()
def compute(threads: Threads = None) -> None:
    import torch
    from hyperagg._numba.cpus import default_threads
    print(torch.get_num_threads(), default_threads())

run_app(app, "compute")
"""


def test_pytorch_that_a_command_imports_follows_it():
    pytest.importorskip("torch", reason="needs PyTorch")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--threads", "1"],
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "1 1\n"), done.stderr


def test_workers_of_predict_have_one_thread_each(cli, model, table):
    answer = cli("predict", model, table, "--workers", 2, "--threads", 2)
    assert answer.code == 2
    assert answer.err == (
        "hyperagg: --threads 2: applies to a single process; each of --workers has one thread\n"
    )
