"""Runs a typer application so that a user's mistake becomes one line and exit code 2."""

from __future__ import annotations

import errno
import logging
import os
import sys

import typer

from hyperagg._common.atomic import WRITE_ERRORS
from hyperagg._common.interrupt import Interrupted, raise_on_termination
from hyperagg._common.terminal import for_stream
from hyperagg.cli._streams import prepare_streams
from hyperagg.data.readers.errors import escape

__all__ = ["one_line", "run_app"]


def run_app(app: typer.Typer, name: str) -> None:
    """Runs the application and exits.

    Exit codes: 0 for success, 1 if the reader of the output has gone, 2 for a mistake of the user,
    which is reported in one line on standard error, and 128 + N after the signal N: 130 after
    Ctrl-C, 143 after SIGTERM and 129 after SIGHUP.
    """
    prepare_streams()
    _show_log()
    try:
        with raise_on_termination() as received:
            try:
                code = _exit_code(app, name)
            except BaseException:
                # An interruption inside an import may have come out as any other error.
                if not received:
                    raise
            if received:
                raise Interrupted(received[0])
    except Interrupted as error:  # here too, for a signal may arrive between two of these lines
        code = 128 + error.number
    sys.exit(code)


def _exit_code(app: typer.Typer, name: str) -> int:
    """Run the application, report what fails, and return the exit code."""
    try:
        code = app(prog_name=name, standalone_mode=False)
        sys.stdout.flush()  # here, where a closed pipe can still be handled
    except BrokenPipeError:
        # The reader of the output has gone, so nothing more may be written, not even at exit.
        _discard_output()
        return 1
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except Exception as error:
        line = one_line(error)
        # What writes to files names them; see `atomic_write`.
        failed = {*WRITE_ERRORS, errno.EBADF}
        if isinstance(error, OSError) and error.errno in failed and not error.filename:
            closed = error.errno == errno.EBADF
            line = f"standard output: {'is closed' if closed else error.strerror}"
            _discard_output()
        if line is None:
            raise
        if line:
            print(f"{name}: {line}", file=sys.stderr)
        return 2
    return code if isinstance(code, int) else 0


def _discard_output() -> None:
    """Prevent another failure at exit, when the rest would be written."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def one_line(error: Exception) -> str | None:
    """Returns a user's mistake as one line, "" if it has been shown already, None for a bug."""
    if hasattr(error, "format_message"):  # typer's own errors, whose class differs by version
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
    # File names may hold line breaks and characters that move the cursor.
    line = " ".join(message.splitlines())
    return "".join(c if c.isprintable() else escape(c) for c in line)


class _StandardError(logging.Handler):
    """Prints messages to standard error, whatever it is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(for_stream(self.format(record), sys.stderr), file=sys.stderr, flush=True)


def _show_log() -> None:
    """Shows the messages of the library; standard output is for answers only."""
    logger = logging.getLogger("hyperagg")
    if not any(isinstance(handler, _StandardError) for handler in logger.handlers):
        logger.addHandler(_StandardError())
        logger.setLevel(logging.INFO)
        logger.propagate = False
