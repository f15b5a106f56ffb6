"""Prints texts of others without letting them control the terminal.

A label, a text, a column name or a path may hold escape sequences, which move the cursor, rename
the window or answer in the user's name, and controls of the writing direction, which show a text in
another order than it has. On its way to a terminal each of them becomes a backslash escape; a pipe
or a file gets the text as it is.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["cell", "echo", "escape_controls", "for_stream"]

# C0 but tab and newline, DEL and C1; line and paragraph separators; the controls of the writing
# direction; and surrogates, which no terminal can print.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
    "\ud800-\udfff]"
)


def escape_controls(text: str) -> str:
    r"""Return a text with backslash escapes for the characters that control a terminal.

    >>> escape_controls("one\ttwo \x1b[31mred")
    'one\ttwo \\x1b[31mred'
    """
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


def for_stream(text: str, stream: TextIO) -> str:
    """Return a text as it is to be written to a stream: escaped if that is a terminal."""
    return escape_controls(text) if stream.isatty() else text


def echo(text: str, *, flush: bool = False) -> None:
    """Print a line to standard output, escaped if that is a terminal."""
    print(for_stream(text, sys.stdout), flush=flush)


def cell(text: str) -> Text:
    """Return a text for a table on standard output: escaped if that is a terminal, and without
    markup, so that the label "[bold]" stays what it is."""
    from rich.text import Text

    return Text(for_stream(text, sys.stdout))
