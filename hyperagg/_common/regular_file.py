"""Opens regular files only: a pipe has no end until its writer closes it, and a device has none."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

__all__ = ["open_regular"]


def open_regular(path: Path, max_bytes: int | None = None) -> BinaryIO:
    """Open a regular file, or a link to one, for reading; never wait for the writer of a pipe.

    Raises:
        OSError: it cannot be opened, or is a folder.
        ValueError: it is a pipe or a device, or larger than `max_bytes`.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        status = os.fstat(handle)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path}: not a regular file")
        if max_bytes is not None and status.st_size > max_bytes:
            raise ValueError(
                f"{path}: expected at most {max_bytes:,} bytes, got {status.st_size:,}"
            )
    except BaseException:
        os.close(handle)
        raise
    return os.fdopen(handle, "rb")
