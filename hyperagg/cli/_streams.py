"""The standard streams of the process: encodings, and streams that are closed or fail."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["prepare_streams", "standard_input"]


def prepare_streams() -> None:
    """Make the standard streams safe to use.

    The number of a stream that is closed would be given to the next file that is opened, and what
    is printed would end up in it. So it is taken by the null device, opened the wrong way round:
    reading from standard input and writing to standard output fail, as they do without a stream.
    Messages to a standard error that is closed, full or gone are lost, and nothing else is.
    """
    for number, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # takes the lowest free number, which is this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        # Labels may be of any language. Output into a pipe is UTF-8, like the files that are read;
        # a terminal shows what it can.
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    elif not isinstance(sys.stderr, _Messages):
        sys.stderr = _Messages(sys.stderr)


def standard_input() -> Any:
    """Return standard input as text.

    Raises:
        ValueError: it is closed.
    """
    if sys.stdin is None:
        raise ValueError("standard input: is closed")
    return sys.stdin


class _Messages:
    """A stream of messages for people, without which the work goes on: its failures are ignored."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
