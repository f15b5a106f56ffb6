"""What the fuzzer counts as a failure, and its exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import numpy as np
import pytest

from hyperagg.data.readers.errors import DataError
from tests.fuzz import __main__ as command
from tests.fuzz import probes, sandbox
from tests.fuzz.campaign import Counts, add_counts
from tests.fuzz.originals import write_originals
from tests.fuzz.sandbox import Outcome


class PanicException(BaseException):
    """As pyo3 raises it."""


def _refuse(path):
    raise DataError(f"{path}: not an image")


def _name_nothing(path):
    np.zeros(3).reshape(2, 2)


def _parse(path):
    int("x")


def _refuse_at_length(path):
    raise DataError(f"{path}: " + "x" * 200_000)


def _panic(path):
    raise PanicException("index out of bounds")


def _be_killed(path):
    os.kill(os.getpid(), signal.SIGKILL)


def _fail_in_a_thread(path):
    sys.stderr, threading.excepthook = os.fdopen(2, "w"), threading.__excepthook__  # not pytest's
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    return "digest"


def _divide(path):
    return str(1 / 0)


# Since Python 3.12, about the fork of a process with threads.
_forks = pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")


@_forks
@pytest.mark.parametrize(
    ("probe", "end", "detail"),
    [
        (str, "answered", "clip.bin"),
        (_refuse, "refused", "clip.bin: not an image"),
        (_name_nothing, "unexplained", "cannot reshape"),
        (_parse, "unexplained", "invalid literal for int()"),
        (_refuse_at_length, "refused", "xxx"),
        (_panic, "crash", "index out of bounds"),
        (_fail_in_a_thread, "traceback", "ZeroDivisionError"),
        (_divide, "traceback", "ZeroDivisionError"),
        (_be_killed, "crash", "SIGKILL"),
    ],
)
def test_a_case_ends_as_what_it_is(monkeypatch, tmp_path, probe, end, detail):
    monkeypatch.setitem(probes.PROBES, "image", probe)
    with sandbox.Reader() as reader:
        outcome = reader.run("image", tmp_path / "clip.bin")
    assert outcome.end == end and detail in outcome.detail


@_forks
def test_a_case_without_an_end_is_stopped(monkeypatch, tmp_path):
    monkeypatch.setitem(probes.PROBES, "image", lambda path: time.sleep(60))
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.2)
    with sandbox.Reader() as reader:
        assert reader.run("image", tmp_path).end == "hang"


@_forks
def test_a_fork_reads_on_until_a_case_fails(monkeypatch, tmp_path):
    """What is limited is the memory of a case, not that of all before it."""
    kept = []

    def use_memory(path):
        np.ones(150 << 20, np.uint8).sum()
        return str(os.getpid())

    def fail_later(path):
        kept.append(path)
        return str(1 / (3 - len(kept)))

    monkeypatch.setitem(probes.PROBES, "image", use_memory)
    monkeypatch.setitem(probes.PROBES, "audio", lambda path: str(os.getpid()))
    monkeypatch.setitem(probes.PROBES, "data", _divide)
    monkeypatch.setitem(probes.PROBES, "language", fail_later)
    with sandbox.Reader() as reader:
        first, second = reader.run("image", tmp_path), reader.run("audio", tmp_path)
        assert first.detail == second.detail != str(os.getpid())
        assert first.megabytes >= 140 and second.megabytes < 50
        assert reader.run("data", tmp_path).end == "traceback"
        assert reader.run("audio", tmp_path).detail not in (first.detail, str(os.getpid()))
        ends = [reader.run("language", tmp_path) for _ in range(3)]
    # A failure that takes others before it is one as well, and says so.
    assert [each.end for each in ends] == ["answered", "answered", "traceback"]
    assert ends[2].detail.startswith("after other inputs only: ZeroDivisionError")


def test_only_an_unexplained_end_is_a_failure():
    counts = Counts()
    for end in ("refused", "same", "unexplained", "traceback", "silent"):
        counts.add(0, "bytes", end, Outcome(end, "", 0, 0))
    assert counts.ends.total() == 5 and len(counts.failures) == 3


def test_the_counts_of_two_calls_add_up():
    first, second = Counts(), Counts()
    first.add(0, "bytes", "refused", Outcome("refused", "", 3, 7))
    second.add(1, "bytes", "refused", Outcome("refused", "", 2, 9))
    second.add(2, "bytes", "hang", Outcome("hang", "", 1, 0))
    image, audio = first.as_dict(), second.as_dict()
    assert add_counts({"image": image}, {"image": audio, "audio": audio}) == {
        "image": {
            "cases": 3,
            "refused": 2,
            "hang": 1,
            "max_seconds": 3,
            "max_megabytes": 9,
            "failures": ["seed 2: bytes: hang: "],
        },
        "audio": audio,
    }


def test_originals_of_other_kinds_are_not_made(tmp_path):
    pytest.importorskip("soundfile")
    originals = write_originals(tmp_path / "originals", ["audio"])
    assert [*originals] == ["audio"] and len(originals["audio"]) == 9


def _exit_code(monkeypatch, *arguments, counts=None):
    if counts is not None:
        monkeypatch.setattr(command, "run_campaign", lambda *args, **options: {"data": counts})
    monkeypatch.setattr(sys, "argv", ["fuzz", *arguments])
    with pytest.raises(SystemExit) as caught:
        command.run_app(command.app, "python -m tests.fuzz")
    return caught.value.code


def test_the_exit_code_tells_of_failures(monkeypatch, capsys):
    counts = Counts()
    counts.add(0, "data", "refused", Outcome("refused", "", 0, 0))
    assert _exit_code(monkeypatch, "--kinds", "data", counts=counts) == 0
    counts.add(1, "data", "traceback", Outcome("traceback", "KeyError", 0, 0))
    assert _exit_code(monkeypatch, "--kinds", "data", counts=counts) == 1
    assert "seed 1: data: traceback: KeyError" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "message"),
    [(["--cases", "0"], "--cases"), (["--seconds", "0"], "no case of data was read")],
)
def test_no_case_at_all_is_an_error(monkeypatch, capsys, option, message):
    assert _exit_code(monkeypatch, "--kinds", "data", *option) == 2
    assert message in capsys.readouterr().err
