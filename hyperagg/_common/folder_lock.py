"""A lock of a folder, so that only one process at a time writes to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["locked_folder"]


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of an existing folder, which leaves no file behind; Windows has none.

    Raises:
        ValueError: another process holds it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder.resolve(), os.O_RDONLY)  # "new/../folder" without "new" as well
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"--out {folder}: another command writes to it; wait for it or give another folder"
            ) from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(handle)
