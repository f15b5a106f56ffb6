"""Arguments and options that several commands share."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="CSV, TSV, JSON lines, Parquet or fastText lines; - reads standard input.",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A folder that `train` wrote.")]
Text = Annotated[str | None, typer.Option("--text", help="Column of the texts.")]
Label = Annotated[str | None, typer.Option("--label", help="Column of the labels.")]
LabelSeparator = Annotated[
    str | None,
    typer.Option(help="What stands between the labels of a text in a CSV or TSV column."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="csv, tsv, jsonl, parquet, fasttext or lines; else told by FILE."
    ),
]
Seeds = Annotated[int, typer.Option(min=1, help="How many seeds to train with.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on where an earlier call was stopped.")]


def say(line: str) -> None:
    """A line for people, on standard error: standard output has answers only."""
    print(line, file=sys.stderr)


def tell(line: str) -> None:
    """A measured line, at once: a log is read while its study runs."""
    print(line, flush=True)


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Sees that `folder` is there and can be written to, before hours of work and not after them.

    A folder that was made here and in which nothing came to be is removed in the end.

    Raises:
        ValueError: it cannot be made or written to.
    """
    whole = folder.resolve()
    absent = [path for path in (whole, *whole.parents) if not path.exists()]
    try:
        try:
            whole.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=whole):
                pass
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(
                f"--out {folder}: it or a folder above it is a file; give the name of a folder"
            ) from error
        except OSError as error:
            raise ValueError(
                f"--out {folder}: cannot be written to ({error.strerror}); name another folder"
            ) from error
        yield
    finally:
        for path in absent:
            try:
                path.rmdir()
            except OSError:  # something is in it, or it was never made
                break
