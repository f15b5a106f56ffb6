"""Output files that survive being killed at any moment.

Rows are appended to OUT.partial. From time to time the file is flushed to the disk, and then one
line with its length and with the rows that are in it is appended to OUT.journal. Whatever happens,
the last whole line of the journal describes bytes that are on the disk; to resume is to cut the
partial file there and to go on. A complete output is renamed to OUT, and the journal is removed
after that.

What determined a complete output is kept with its size in the hidden file .OUT.job, so that
--resume with another model, other options or changed input does not take it for its own, and
neither an output without that file, or one whose size has changed since.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from hyperagg._common.terminal import for_stream

__all__ = ["OutputFile", "StandardOutput", "is_replaceable"]

SECONDS_BETWEEN_CHECKPOINTS = 1.0

# What a user can compare, by the key of the job.
_PARTS = {
    "model": "the model",
    "reading": "--text, --format, --delimiter, --no-header, --quoting or --on-error",
    "answers": "--top-k, --threshold or --probabilities",
    "output": "the columns or the format of the output (--keep, --top-k, --label-separator ...)",
    "input": "the input files",
}

_DISK_ERRORS = {errno.ENOSPC, errno.EFBIG, errno.EIO, getattr(errno, "EDQUOT", errno.ENOSPC)}

State = Mapping[str, Any]


class StandardOutput:
    """Standard output, or a device or pipe: written to and flushed batch by batch."""

    complete = False
    state: State | None = None

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._file: BinaryIO | None = None

    def open(self, header: bytes) -> None:
        """Write the beginning of the output."""
        if self.path is not None:
            self._file = self.path.open("wb", buffering=0)
        self.write(header)

    def write(self, data: bytes) -> None:
        """Write and flush some rows."""
        if self._file is not None:
            write_all(self._file, data)
            return
        buffer = getattr(sys.stdout, "buffer", None)
        if buffer is None or sys.stdout.isatty():  # a terminal has an encoding of its own
            sys.stdout.write(for_stream(data.decode(), sys.stdout))
            sys.stdout.flush()
        else:
            buffer.write(data)
            buffer.flush()

    def checkpoint(self, state: State, now: bool = False) -> None:
        """Do nothing: what is written cannot be continued."""

    def finish(self, convert: Callable[[Path, Path], int] | None) -> int | None:
        """Close the output."""
        self.close()
        return None

    def close(self) -> None:
        """Close the output."""
        if self._file is not None:
            self._file.close()


class OutputFile:
    """One output file and its journal.

    Args:
        path: the output.
        job: what determines the output, such as options, model and input; an output is only
            resumed by the same job.
        resume: whether to continue what an interrupted job left, and to keep a complete output.
        force: whether to replace what exists.

    Attributes:
        complete: whether the output was complete before.
        state: the state that the last checkpoint saved; None at the beginning.

    Raises:
        ValueError: something exists and is neither resumed nor replaced, or is of another job.
    """

    def __init__(self, path: Path, job: Mapping[str, Any], *, resume: bool, force: bool) -> None:
        self.path = path
        self.partial = path.with_name(f"{path.name}.partial")
        self.journal = path.with_name(f"{path.name}.journal")
        self.draft = path.with_name(f"{path.name}.draft")
        self.record = path.with_name(f".{path.name}.job")
        self.job = json.loads(json.dumps(job))
        self.state: State | None = None
        self.complete = False
        self._offset = self._journal_length = 0
        self._file: BinaryIO | None = None
        self._log: BinaryIO | None = None
        self._last = time.monotonic()
        if path.is_dir():
            raise ValueError(f"--out {path}: is a folder; expected a file")
        # Another process may write between now and `open`; what is replaced anyway does not matter.
        self._found = None if force else self._identities()
        if resume:
            records, length = _records(self.journal)
            # One that has just been begun stands beside the output that it will replace.
            begun = self.journal.exists() and len(records) < 2
            self.complete = path.exists() and not self.partial.exists() and not begun
            if self.complete:
                self._check_complete()
                # A process that is killed between the two leaves the output and its journal.
                self.journal.unlink(missing_ok=True)
            else:
                self._check_job(self.partial, records)
                self._journal_length = length
                self._find_state(records)
        elif not force:
            if self.partial.exists() or self.journal.exists():
                raise ValueError(
                    f"{self.partial}: an interrupted job left it; --resume continues it, --force "
                    "begins again"
                )
            if path.exists():
                raise ValueError(f"{path}: exists; --force replaces it")

    def open(self, header: bytes) -> None:
        """Open the partial file, at its last checkpoint or with the beginning of the output.

        Raises:
            ValueError: another process writes to it, or wrote to it since this object was made.
        """
        with _disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._log = _open(self.journal)
        _lock(self._log, self.path)
        self._check_unchanged(self._log)
        with _disk_errors(self.path):
            self._file = _open(self.partial)
            self._log.truncate(self._journal_length)
            self._log.seek(self._journal_length)
            if self._journal_length == 0:
                self._append({"job": self.job})
            self._file.truncate(self._offset)
            self._file.seek(self._offset)
            if self._offset == 0:
                self._write(header)

    def write(self, data: bytes) -> None:
        """Append some rows."""
        with _disk_errors(self.path):
            self._write(data)

    def checkpoint(self, state: State, now: bool = False) -> None:
        """Save that the rows written so far are those of `state`, at most once per second."""
        if not now and time.monotonic() - self._last < SECONDS_BETWEEN_CHECKPOINTS:
            return
        assert self._file is not None
        with _disk_errors(self.path):
            os.fsync(self._file.fileno())
            self._append({"offset": self._offset, "state": state})
        self._last = time.monotonic()

    def finish(self, convert: Callable[[Path, Path], int] | None) -> int | None:
        """Make the output complete.

        Args:
            convert: writes the output, given the partial file and a draft, and returns its number
                of rows; None if the partial file is the output.

        Returns:
            the result of `convert`.
        """
        assert self._file is not None and self._log is not None
        rows = None
        with _disk_errors(self.path):
            os.fsync(self._file.fileno())
            self._file.close()
            if convert is None:
                self._write_record(self._offset)
                self.partial.replace(self.path)
            else:
                # Not atomic_write: a process that is killed would leave a draft of another name.
                rows = convert(self.partial, self.draft)
                with self.draft.open("rb") as file:
                    os.fsync(file.fileno())
                self._write_record(self.draft.stat().st_size)
                self.draft.replace(self.path)
                self.partial.unlink()
            _sync_folder(self.path.parent)
            self.journal.unlink(missing_ok=True)
        self.close()
        return rows

    def close(self) -> None:
        """Close the files; what was written since the last checkpoint is written again."""
        for file in (self._file, self._log):
            if file is not None:
                file.close()

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        write_all(self._file, data)
        self._offset += len(data)

    def _append(self, record: Mapping[str, Any]) -> None:
        assert self._log is not None
        write_all(self._log, json.dumps(record).encode() + b"\n")
        os.fsync(self._log.fileno())

    def _write_record(self, size: int) -> None:
        """Write down what determined the output, and its size in bytes."""
        with self.record.open("w", encoding="utf-8") as record:
            record.write(json.dumps({"job": self.job, "size": size}) + "\n")
            record.flush()
            os.fsync(record.fileno())

    def _identities(self) -> list[tuple[int, int, int] | None]:
        """Return what differs once another process has written."""
        return [_identity(path) for path in (self.path, self.partial, self.journal)]

    def _check_unchanged(self, log: BinaryIO) -> None:
        """Refuse to go on from what was found if another process has written since."""
        own = os.fstat(log.fileno())
        locked = self.journal.exists() and self.journal.stat().st_ino == own.st_ino
        if locked and (self._found is None or self._identities() == self._found):
            return
        log.close()
        if locked and own.st_size == 0:
            self.journal.unlink()
        raise ValueError(
            f"{self.path}: another process has written to it in the meantime; repeat the command"
        )

    def _check_complete(self) -> None:
        """Raise ValueError if the output is not the one that this job completed."""
        records, _ = _records(self.record)
        record = records[0] if records else {}
        size = record.get("size")
        if not isinstance(record.get("job"), dict) or not isinstance(size, int):
            raise ValueError(
                f"{self.path}: exists, and {self.record.name}, which says what wrote it, is "
                "missing or damaged; --force replaces it"
            )
        self._check_job(self.path, records)
        found = self.path.stat().st_size
        if found != size:
            raise ValueError(
                f"{self.path}: has {found:,} bytes, and had {size:,} when it was complete; "
                "--force replaces it"
            )

    def _check_job(self, path: Path, records: list[dict[str, Any]]) -> None:
        """Raise ValueError if the first record is that of another job."""
        job = records[0].get("job") if records else self.job
        if job != self.job:
            differing = [
                _PARTS.get(key, key)
                for key in self.job
                if not isinstance(job, dict) or job.get(key) != self.job[key]
            ]
            raise ValueError(
                f"{path}: was written by a job that differs in "
                f"{' and '.join(differing) or 'its options'}; --force begins again"
            )

    def _find_state(self, records: list[dict[str, Any]]) -> None:
        """Find the last checkpoint."""
        if len(records) > 1 and self.partial.exists():
            last = records[-1]
            if not isinstance(last.get("offset"), int) or "state" not in last:
                raise ValueError(f"{self.journal}: damaged; --force begins again")
            if self.partial.stat().st_size < last["offset"]:
                raise ValueError(
                    f"{self.partial}: is shorter than its journal says; --force begins again"
                )
            self._offset, self.state = last["offset"], last["state"]


def is_replaceable(path: Path) -> bool:
    """Return whether a path is a file or nothing yet, rather than a device or a pipe."""
    return path.is_file() or not path.exists()


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all bytes to an unbuffered file, which may take fewer at a time."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _open(path: Path) -> BinaryIO:
    """Open a file to read and write, without cutting it, and create it if it does not exist."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None if it is absent or empty."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found.st_size else None


def _records(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines of a journal and their bytes; a job that is killed cuts the last."""
    records: list[dict[str, Any]] = []
    length = 0
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return records, length
    for line in content.splitlines(keepends=True):
        record = _parse(line)
        if record is None:
            break
        records.append(record)
        length += len(line)
    return records, length


def _parse(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Name the output in errors of writing, and say how to go on."""
    try:
        yield
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            reason = f"{error.strerror}; once there is space, --resume continues"
            raise OSError(error.errno, reason, str(path)) from error
        raise


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"{path}: another process writes to it") from error
    except OSError:  # a file system without locks
        return


def _sync_folder(folder: Path) -> None:
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
