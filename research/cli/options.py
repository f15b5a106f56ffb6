"""Options and helpers that the commands share."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from hyperagg._common.folder_lock import locked_folder

Seeds = Annotated[int, typer.Option(min=1, help="Number of seeds to train with.")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]


def split_names(option: str, value: str) -> list[str]:
    """Split a comma-separated list of names.

    Raises:
        ValueError: the list is empty.
    """
    names = [name.strip() for name in value.split(",") if name.strip()]
    if not names:
        raise ValueError(f"{option} {value!r}: expected at least one name")
    return names


def split_integers(option: str, value: str) -> list[int]:
    """Split a comma-separated list of positive integers.

    Raises:
        ValueError: the list is empty, or an entry is not an integer >= 1.
    """
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not parts or not all(part.isdecimal() and int(part) for part in parts):
        raise ValueError(f"{option} {value}: expected integers >= 1, separated by commas")
    return [int(part) for part in parts]


def split_numbers(option: str, value: str) -> list[float]:
    """Split a comma-separated list of positive numbers.

    Raises:
        ValueError: the list is empty, or an entry is not a finite number > 0.
    """
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise ValueError(f"{option} {value}: expected numbers > 0, separated by commas")
    return numbers


@contextmanager
def output_folder(folder: Path, *, resumable: bool = True) -> Iterator[None]:
    """Create `folder`, and explain after Ctrl-C how to continue.

    Whether the folder can be written to is checked before hours of work, not after them.

    Raises:
        ValueError: the folder cannot be created or written to, or another command writes to it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ValueError(
            f"--out {folder}: expected a folder that can be written to ({error.strerror})"
        ) from error
    try:
        with locked_folder(folder):
            yield
    except KeyboardInterrupt:
        if resumable and any(folder.iterdir()):
            print(
                f"Interrupted. Finished measurements are kept in {folder}; "
                "run the same command with --resume to continue.",
                file=sys.stderr,
            )
        raise


def quiet_transformers() -> None:
    """Show only errors of transformers, and progress bars only on a terminal."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    import transformers

    transformers.logging.set_verbosity_error()
    if not sys.stderr.isatty():
        transformers.logging.disable_progress_bar()


def quiet_diffusers() -> None:
    """Show progress bars of diffusers only on a terminal."""
    from diffusers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
