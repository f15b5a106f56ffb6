"""Write files atomically: a reader sees the whole file or none of it."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "WRITE_ERRORS",
    "apply_umask",
    "atomic_folder",
    "atomic_write",
    "name_write_errors",
    "remove_drafts",
]

# A full disk is noticed while writing to an open file, by an error that does not name it.
WRITE_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DRAFT = re.compile(r"\..+\.[0-9a-f]{16}(\.[^.]+)?")


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
    _check_target(path)
    draft = path.parent / f".{path.name}.{secrets.token_hex(8)}{path.suffix}"
    with _name_instead_of_draft(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = _create(draft)
    try:
        with name_write_errors(path):
            yield draft
            _flush(draft)
            draft.chmod(mode)  # the block may have replaced the draft
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, last: str) -> Iterator[Path]:
    """Yield an empty folder, whose files replace those of the same names in `folder` if the block
    succeeds; other files stay.

    For libraries that write several files in place. All files are complete on the disk before the
    first replaces an old one, and the file named `last` is replaced last.
    """
    folder = Path(os.path.realpath(folder))
    draft = folder / f".draft.{secrets.token_hex(8)}"
    with _name_instead_of_draft(folder):
        draft.mkdir(parents=True)
    try:
        with name_write_errors(folder):
            yield draft
            files = [file for file in draft.rglob("*") if file.is_file()]
            files.sort(key=lambda file: (file.name == last, file))
            targets = [Path(os.path.realpath(folder / file.relative_to(draft))) for file in files]
            for file, target in zip(files, targets, strict=True):
                _flush(file)
                _check_target(target)
                target.parent.mkdir(parents=True, exist_ok=True)
            for file, target in zip(files, targets, strict=True):
                file.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def name_write_errors(path: Path) -> Iterator[None]:
    """Turn an error about a full disk into an OSError that names `path`, whatever library noticed
    it, and whatever it names: a draft, or the file that was being copied."""
    try:
        yield
    except OSError as error:
        if error.errno in WRITE_ERRORS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except Exception as error:
        text = str(error)
        if found := re.search(r"\(os error (\d+)\)", text):  # the safetensors library
            number = int(found[1])
        elif isinstance(error, RuntimeError) and "inline_container" in text:  # PyTorch
            number = errno.EIO
        else:
            raise
        raise OSError(number, os.strerror(number), str(path)) from error


@contextmanager
def _name_instead_of_draft(path: Path) -> Iterator[None]:
    """Let an error name what the user asked for."""
    try:
        yield
    except FileExistsError as error:  # by `mkdir`, of a file
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _check_target(path: Path) -> None:
    """Raise before anything is written what would be raised when the draft is put into place."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))


def _flush(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def remove_drafts(folder: Path) -> None:
    """Remove the drafts that killed processes left in a folder; no other process may write to it
    meanwhile."""
    for path in folder.glob(".*"):
        if _DRAFT.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


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
