"""Write files atomically: a reader sees the whole file or none of it."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["WRITE_ERRORS", "apply_umask", "atomic_write"]

# A full disk is noticed while writing to an open file, by an error that does not name it.
WRITE_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file replaces that of `path` if the block succeeds.

    The draft lies in the same folder. A symbolic link stays, and the file that it leads to is
    replaced. A device or a pipe cannot be replaced, so the content is written to it.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            draft = Path(folder) / path.name
            yield draft
            with draft.open("rb") as source, path.open("wb") as target:
                shutil.copyfileobj(source, target)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.parent / f".{path.name}.{secrets.token_hex(8)}{path.suffix}"
    mode = _create(draft)
    try:
        yield draft
        with draft.open("rb") as file:
            os.fsync(file.fileno())
        draft.chmod(mode)  # the block may have replaced the draft
        draft.replace(path)
    except OSError as error:
        if error.filename is None and error.errno in WRITE_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def apply_umask(folder: Path, pattern: str) -> None:
    """Give files in a folder and its subfolders the permissions that the umask leaves to new files.

    Libraries that write to temporary files first leave theirs readable by their owner alone.
    """
    probe = folder / f".{secrets.token_hex(8)}"
    mode = _create(probe)
    probe.unlink()
    for file in folder.rglob(pattern):
        file.chmod(mode)


def _create(path: Path) -> int:
    """Create a file and return its permissions; tempfile would leave them to the owner alone."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    mode = os.fstat(handle).st_mode & 0o777
    os.close(handle)
    return mode
