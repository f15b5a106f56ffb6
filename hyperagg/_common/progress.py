"""Progress bars for training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hyperagg.classifier.training.loop import Progress as RunProgress

__all__ = ["share_bar", "training_bar"]


@contextmanager
def training_bar(
    name: str, epochs: int, shown: bool
) -> Iterator[Callable[[RunProgress], None] | None]:
    """What to call after each chunk so that a bar on standard error moves; None if not shown."""
    if not shown:
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=1.0, state="")

        def report(run: RunProgress) -> None:
            speed = run.tokens_per_second
            unit = f"{speed / 1e6:.1f} M" if speed >= 1e6 else f"{speed / 1e3:.0f} k"
            state = f"epoch {run.epoch + 1}/{epochs}  loss {run.loss:.3f}  {unit} tokens/s"
            bar.update(task, completed=run.share, state=state)

        yield report


@contextmanager
def share_bar(name: str) -> Iterator[Callable[[float, str], None] | None]:
    """What to call with the share that is done and a line, so that a bar on standard error moves;
    None where that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[told]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(name, total=1.0, told="")
        yield lambda share, told: bar.update(task, completed=share, told=told)
