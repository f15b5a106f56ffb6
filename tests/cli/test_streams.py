"""Signals, closed streams and full disks: an exit code that says which, and at most one line."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

START = [sys.executable, "-c", "from hyperagg.cli import main; main()"]
FILMS = "\n".join(["text,label", *["a dull film,bad", "a fine film,good"] * 20])


def shell(command, *arguments):
    """Run a command line of sh in which "$@" is the program with these arguments."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *START, *map(str, arguments)], capture_output=True, timeout=120
    )


def test_a_closed_standard_error_does_not_end_a_training(tmp_path):
    table = tmp_path / "films.csv"
    table.write_text(FILMS)
    for i, redirection in enumerate(("2>&-", ">&- 2>&-", "2>/dev/full", "<&- >&- 2>&-")):
        out = tmp_path / str(i)
        done = shell(f'"$@" {redirection}', "train", table, "--out", out, "--d-model", 4)
        assert (done.returncode, done.stderr) == (0, b"")
        assert (out / "model.safetensors").read_bytes() == (
            tmp_path / "0" / "model.safetensors"
        ).read_bytes()


@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", b"hyperagg: standard output: is closed\n"),
        (">/dev/full", b"hyperagg: standard output: No space left on device\n"),
        ("<&-", b"hyperagg: standard input: is closed\n"),
    ],
)
def test_a_stream_that_the_answers_need(model, tmp_path, redirection, message):
    source = "-"
    if ">" in redirection:
        source = tmp_path / "texts.txt"
        source.write_text("a film\n")
    done = shell(f'"$@" {redirection}', "predict", model, source)
    assert (done.returncode, done.stdout) == (2, b"")
    # Besides the line about kernels that are compiled for the first time.
    assert done.stderr.splitlines(keepends=True)[-1] == message


@pytest.mark.parametrize(("name", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_the_exit_code_names_the_signal(tmp_path, name, code):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)  # the command waits for somebody to write to it
    number = getattr(signal, name)
    process = subprocess.Popen(
        [*START, "train", str(pipe), "--format", "csv", "--out", str(tmp_path / "model")],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    with pipe.open("w"):  # opens once the command has opened it
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err


# The signal comes where Python drops what a handler raises, before the table is read.
IN_A_DESTRUCTOR = """
import os, signal, time
from hyperagg.data.readers import files

class Interrupting:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGHUP)
        sum(range(10))

def read_columns(*arguments):
    Interrupting()
    time.sleep(60)
files.read_columns = read_columns
"""
WHILE_THE_INTERPRETER_SHUTS_DOWN = """
import atexit, os, signal
atexit.register(lambda: (os.kill(os.getpid(), signal.SIGINT), sum(range(10))))
"""


@pytest.mark.parametrize(
    ("before", "arguments", "code"),
    [
        (IN_A_DESTRUCTOR, ("train", "table.csv"), 129),
        (WHILE_THE_INTERPRETER_SHUTS_DOWN, ("data", "--help"), -signal.SIGINT),
    ],
    ids=["destructor", "shutdown"],
)
def test_a_signal_at_a_bad_moment_prints_nothing(tmp_path, before, arguments, code):
    done = subprocess.run(
        [
            *(sys.executable, "-c", f"{before}\nfrom hyperagg.__main__ import main; main()"),
            *arguments,
        ],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (code, b"")


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    table = tmp_path / "films.csv"
    table.write_text(FILMS)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    process = subprocess.Popen(
        [*START, "train", str(pipe), "--format", "csv", "--out", str(tmp_path / "model")],
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    )
    with pipe.open("w") as file:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        file.write(FILMS)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_terminal_gets_no_control_characters(cli, tmp_path):
    table = tmp_path / "films.csv"
    evil = "b\x1b[31mad\u202e"
    table.write_text(FILMS.replace("bad", evil), "utf-8")
    assert cli("train", table, "--out", tmp_path / "model", "--d-model", 4).code == 0
    arguments = ["predict", str(tmp_path / "model"), str(table)]
    assert evil in cli(*arguments).out
    leader, follower = pty.openpty()
    process = subprocess.Popen([*START, *arguments], stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    assert rb"b\x1b[31mad\u202e" in shown and b"\x1b" not in shown
