"""Runs a typer application: errors that a user can mend are told in one line, with exit code 2."""

from __future__ import annotations

import io
import os
import sys

import typer

from hyperagg.data.readers.errors import escape

__all__ = ["one_line", "run_app"]


def run_app(app: typer.Typer, name: str) -> None:
    """Run the command line; what a user can mend is told in one line, with exit code 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Labels may be of any language. What is piped is UTF-8, as the files that are read;
        # a terminal shows what it can.
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8")
    try:
        code = app(prog_name=name, standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a reader who has gone can still be dealt with
    except BrokenPipeError:
        # The reader of our output has gone; nothing more may be written, at exit neither.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except typer.Abort:
        sys.exit(130)
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        if line:
            print(f"{name}: {line}", file=sys.stderr)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def one_line(error: Exception) -> str | None:
    """One line about an error that a user can mend, "" if all is said; None for one of our own."""
    if hasattr(error, "format_message"):  # typer's own errors, whose class has moved about
        message = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":
            return ""  # the help is on the screen
        if context := getattr(error, "ctx", None):
            message = f"{message.rstrip('.')}; see {context.command_path} --help"
    elif isinstance(error, OSError) and error.filename is not None:
        message = f"{os.fsdecode(error.filename)}: {error.strerror or error}"
    elif isinstance(error, ValueError | OSError | ImportError):
        message = str(error)
    else:
        return None
    # File names may hold line breaks and what moves the cursor.
    line = " ".join(message.splitlines())
    return "".join(c if c.isprintable() else escape(c) for c in line)
