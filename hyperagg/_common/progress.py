"""Progress bars on standard error, in a terminal or a notebook, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["progress_bar"]

Update = Callable[[float, str], None]


@contextmanager
def progress_bar(description: str, enabled: bool | None = None) -> Iterator[Update]:
    """Shows a progress bar on standard error while the block runs.

    Args:
        description: what stands before the bar.
        enabled: whether the bar is shown; None: in a terminal and in a notebook, not in a log.

    Yields:
        a function of the fraction that is done, from 0 to 1, and a status that stands behind the
        bar. It does nothing where the bar is switched off.

    >>> with progress_bar("training", enabled=False) as update:
    ...     update(0.5, "epoch 1/2")
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (console.is_terminal or console.is_jupyter if enabled is None else enabled):
        yield lambda fraction, status: None
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
