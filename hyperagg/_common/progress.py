"""Progress on standard error: a bar in a terminal or a notebook, and lines in a log."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

__all__ = ["activity", "progress_bar", "without_progress"]

Update = Callable[[float, str], None]

# Between two lines of a log. Work of hours gets a line per minute, so that the log can be read.
SECONDS_BETWEEN_LINES = 10.0
_NUM_FREQUENT_LINES = 12

_logger = logging.getLogger("hyperagg")
_hidden = False


@contextmanager
def without_progress() -> Iterator[None]:
    """Show no progress during the block, unless it is explicitly enabled."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


@contextmanager
def progress_bar(description: str, enabled: bool | None = None) -> Iterator[Update]:
    """Show on standard error how far the block is.

    Where a bar cannot be drawn, lines are logged instead, at level INFO by the logger "hyperagg",
    which the command line prints: the first after ten seconds, so that short work has none.

    Args:
        description: what stands before the bar.
        enabled: True: a bar; False: nothing; None: a bar in a terminal and in a notebook, and
            otherwise lines.

    Yields:
        a function of the fraction that is done, from 0 to 1, and a status that stands behind the
        bar. It does nothing where progress is switched off.

    >>> with progress_bar("training", enabled=False) as update:
    ...     update(0.5, "epoch 1/2")
    """
    if enabled is False or (enabled is None and _hidden):
        yield lambda fraction, status: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if enabled is None and not (console.is_terminal or console.is_jupyter):
        yield _Lines(description).update
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[status]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(description, total=1.0, status="")
        yield lambda fraction, status: bar.update(task, completed=fraction, status=status)


@contextmanager
def activity(description: str, enabled: bool | None = None) -> Iterator[None]:
    """Show on standard error that a block is at work that cannot say how far it is.

    In a terminal or a notebook there is a spinner for as long as the block takes, and elsewhere a
    line after ten seconds; see `progress_bar`.
    """
    if enabled is False or (enabled is None and _hidden):
        yield
        return
    from rich.console import Console

    console = Console(stderr=True)
    if enabled or console.is_terminal or console.is_jupyter:
        with console.status(description):  # nothing if it is neither
            yield
        return
    seconds = min(SECONDS_BETWEEN_LINES, threading.TIMEOUT_MAX)
    timer = threading.Timer(seconds, _logger.info, [f"{description}, {_clock(seconds)} elapsed"])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Lines:
    """Logs the progress now and then, with the time that has passed and that is left."""

    def __init__(self, description: str) -> None:
        self.description = description
        self.started = self.last = time.monotonic()
        self.first: tuple[float, float] | None = None  # a run that is resumed does not begin at 0

    def update(self, fraction: float, status: str) -> None:
        now = time.monotonic()
        if self.first is None:
            self.first = now, fraction
        elapsed = now - self.started
        is_long = elapsed > _NUM_FREQUENT_LINES * SECONDS_BETWEEN_LINES
        if now - self.last < SECONDS_BETWEEN_LINES * (6 if is_long else 1):
            return
        self.last = now
        line = f"{self.description}: {status}, {_clock(elapsed)} elapsed"
        since, done = now - self.first[0], fraction - self.first[1]
        if done > 0:
            line += f", {_clock(since * (1 - fraction) / done)} left"
        _logger.info(line)


def _clock(seconds: float) -> str:
    """Format a duration as hours, minutes and seconds."""
    return str(timedelta(seconds=round(max(0.0, seconds))))
