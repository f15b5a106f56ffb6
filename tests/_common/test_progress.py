from __future__ import annotations

import logging
import re
import threading

import pytest

from hyperagg._common import progress
from hyperagg._common.progress import activity, progress_bar, without_progress


@pytest.fixture
def log(caplog):
    """Messages of the package at level INFO, which is not its level by default."""
    package = logging.getLogger("hyperagg")
    before = package.propagate
    package.propagate = True  # a command that ran before may have set it
    with caplog.at_level(logging.INFO, "hyperagg"):
        yield caplog
    package.propagate = before


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_bar_shows_description_and_status_on_standard_error(capsys):
    with progress_bar("training", enabled=True) as update:
        update(0.5, "epoch 1/2")
    captured = capsys.readouterr()
    assert "training" in captured.err and "epoch 1/2" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("enabled", [False, None])
def test_short_work_shows_nothing_in_a_log(capsys, log, enabled):
    with progress_bar("training", enabled=enabled) as update:
        update(0.5, "epoch 1/2")
    captured = capsys.readouterr()
    assert captured.err == captured.out == "" and not log.messages


def test_a_log_gets_lines_with_the_time_that_has_passed_and_that_is_left(log, clock):
    with progress_bar("training") as update:
        for second in range(41):
            clock[0] = second
            update(second / 40, f"epoch {second}/40")
    assert log.messages == [
        "training: epoch 10/40, 0:00:10 elapsed, 0:00:30 left",
        "training: epoch 20/40, 0:00:20 elapsed, 0:00:20 left",
        "training: epoch 30/40, 0:00:30 elapsed, 0:00:10 left",
        "training: epoch 40/40, 0:00:40 elapsed, 0:00:00 left",
    ]


def test_long_work_gets_a_line_per_minute(log, clock):
    with progress_bar("training") as update:
        for second in range(3600):
            clock[0] = second
            update(second / 7200, "some")
    assert 60 < len(log.messages) < 80
    assert log.messages[-1].endswith("elapsed, 1:01:00 left")


def test_what_was_done_before_a_resumption_does_not_count_for_the_time_that_is_left(log, clock):
    with progress_bar("training") as update:
        update(0.8, "resumed")
        clock[0] = 30.0
        update(0.9, "later")
    assert log.messages == ["training: later, 0:00:30 elapsed, 0:00:30 left"]


def test_without_any_progress_no_end_is_predicted(log, clock):
    with progress_bar("training") as update:
        clock[0] = 30.0
        update(0.0, "begun")
    assert log.messages == ["training: begun, 0:00:30 elapsed"]


def test_a_terminal_gets_no_lines(monkeypatch, capsys, log, clock):
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, that is a terminal
    with progress_bar("training") as update:
        clock[0] = 30.0
        update(0.5, "epoch 1/2")
    assert not log.messages
    assert "epoch 1/2" in re.sub("\x1b[^m]*m", "", capsys.readouterr().err)


def test_progress_is_hidden(capsys, log, clock):
    with without_progress(), progress_bar("training") as update:
        clock[0] = 30.0
        update(0.5, "epoch 1/2")
    assert not log.messages
    with progress_bar("training") as update:
        clock[0] = 60.0
        update(0.5, "epoch 1/2")
    assert len(log.messages) == 1
    with without_progress(), progress_bar("training", enabled=True) as update:
        update(0.5, "asked for")
    assert "asked for" in capsys.readouterr().err


def test_an_activity_gets_a_line_once_it_takes_long(monkeypatch):
    lines, logged = [], threading.Event()

    def info(line):
        lines.append(line)
        logged.set()

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.01)
    monkeypatch.setattr(progress._logger, "info", info)
    with activity("reading"):
        assert logged.wait(60)
    assert lines == ["reading, 0:00:00 elapsed"]


@pytest.mark.parametrize("enabled", [False, None])
def test_a_short_activity_shows_nothing_in_a_log(capsys, log, enabled):
    threads = threading.active_count()
    with activity("reading", enabled):
        pass
    captured = capsys.readouterr()
    assert captured.err == captured.out == "" and not log.messages
    assert threading.active_count() <= threads + 1  # the timer may not have ended yet


def test_an_activity_has_a_spinner_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with activity("reading"):
        pass
    captured = capsys.readouterr()
    assert "reading" in captured.err and captured.out == ""
