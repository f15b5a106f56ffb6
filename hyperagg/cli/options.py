"""Arguments and options that several commands share."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "File",
    "Format",
    "Json",
    "Label",
    "LabelSeparator",
    "Model",
    "Resume",
    "Seed",
    "Seeds",
    "Text",
    "logger",
    "output_folder",
]

# Messages for people; `run_app` shows them on standard error.
logger = logging.getLogger("hyperagg")

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A CSV, TSV, JSON lines, Parquet or fastText file; - reads standard input.",
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A model folder, or a model id of the hub.")
]
Text = Annotated[str | None, typer.Option("--text", help="Name of the text column.")]
Label = Annotated[str | None, typer.Option("--label", help="Name of the label column.")]
LabelSeparator = Annotated[
    str | None,
    typer.Option(help="Separator of the labels in a CSV or TSV cell that holds several."),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="csv, tsv, jsonl, parquet, fasttext or lines (default: by the name of FILE).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same weights.")]
Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds to train with.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted call.")]


def report_nothing_to_resume(out: Path, finished: str = "model.safetensors") -> None:
    """Say that `--resume` found no checkpoint in a folder."""
    found = "a finished model and no" if (out / finished).exists() else "no"
    logger.info(f"{out} holds {found} interrupted training: training from the beginning")


@contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Makes sure that `folder` exists and is writable, before hours of work and not after them.

    A folder that was created here is removed again if it is empty in the end.

    Raises:
        ValueError: the folder cannot be created or written to.
    """
    resolved = folder.resolve()
    absent = [path for path in (resolved, *resolved.parents) if not path.exists()]
    try:
        try:
            resolved.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=resolved):
                pass
        except (FileExistsError, NotADirectoryError) as error:
            raise ValueError(
                f"--out {folder}: it or a folder above it is a file; expected a folder"
            ) from error
        except OSError as error:
            raise ValueError(
                f"--out {folder}: cannot be written to ({error.strerror}); expected a writable "
                "folder"
            ) from error
        yield
    finally:
        for path in absent:
            try:
                path.rmdir()
            except OSError:  # it is not empty, or it was never created
                break
