"""Texts of others on their way to a terminal."""

from __future__ import annotations

import io
import sys

import pytest

from hyperagg._common.terminal import cell, echo, escape_controls

HOSTILE = "a\x1b]0;title\x07 \x9b31m \u202eb\u2066 \u2028 [bold]x[/bold]\r"
ESCAPED = (
    r"a\x1b]0;title\x07 \x9b31m \u202eb\u2066 \u2028 [bold]x[/bold]\r"  # markup stays what it is
)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "text", ["plain", "tab\tand\nnewline", "ünï 漢字 \u00a0\u3000", "می\u200cخواهم", "👩\u200d🔬"]
)
def test_texts_of_any_script_stay_as_they_are(text):
    assert escape_controls(text) == text


def test_controls_are_escaped_on_a_terminal_only(monkeypatch):
    assert escape_controls(HOSTILE) == ESCAPED
    for stream, expected in ((Terminal(), ESCAPED), (io.StringIO(newline=""), HOSTILE)):
        monkeypatch.setattr(sys, "stdout", stream)
        echo(HOSTILE)
        assert stream.getvalue() == expected + "\n"


def test_a_cell_has_no_markup(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert cell(HOSTILE).plain == ESCAPED
