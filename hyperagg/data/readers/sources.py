"""Where rows come from: files, folders, globs and standard input, compressed or not, as streams."""

from __future__ import annotations

import bz2
import glob
import gzip
import io
import lzma
import os
import select
import stat
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from hyperagg._common.validation import check_path
from hyperagg.data.directories import cache_directory, data_directory, is_complete
from hyperagg.data.readers.errors import DataError, quote

__all__ = ["BLOCK_BYTES", "ByteStream", "expand_sources", "open_stream"]

BLOCK_BYTES = 1 << 20

FORMATS = ("csv", "tsv", "jsonl", "parquet", "fasttext", "lines")

EXTENSIONS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".txt": "fasttext",
    ".ft": "fasttext",
}

COMPRESSION_EXTENSIONS = {
    ".gz": "gzip",
    ".bz2": "bzip2",
    ".xz": "xz",
    ".zst": "zstd",
    ".zstd": "zstd",
}
COMPRESSION_MAGIC = {
    "gzip": (b"\x1f\x8b\x08",),
    "bzip2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10))
    # the end of a file without content
    + tuple(b"BZh%d\x17\x72\x45\x38\x50\x90" % level for level in range(1, 10)),
    "xz": (b"\xfd7zXZ\x00",),
    "zstd": (b"\x28\xb5\x2f\xfd",),
}
_MAGIC_BYTES = max(len(magic) for own in COMPRESSION_MAGIC.values() for magic in own)


class ByteStream:
    """Deliver the decompressed bytes of a file or of standard input as they arrive.

    Args:
        name: the name in messages.
        file: the bytes.
        live: whether more bytes may arrive later, as through a pipe.
        ready: tells whether a read would not wait.
        path: the file if it can be read in any order.
    """

    def __init__(
        self, name: str, file: Any, live: bool, ready: Callable[[], bool], path: Path | None
    ) -> None:
        self.name = name
        self.live = live
        self._file = file
        self._ready = ready
        self._path = path
        self._head = b""

    def peek(self) -> bytes:
        """Return the block that will be read next; it is empty at the end."""
        self._head = self._head or self.read()
        return self._head

    def read(self) -> bytes:
        """Return a block of at least one byte; an empty one at the end.

        Raises:
            DataError: the file cannot be read, or its compressed data are damaged.
        """
        if self._head:
            head, self._head = self._head, b""
            return head
        # What arrives through a pipe is not waited for; other blocks are filled, so that they do
        # not depend on the compression.
        read = self._file.read1 if self.live else self._file.read
        try:
            return bytes(read(BLOCK_BYTES))
        # ValueError: an Arrow error about a damaged zstd stream
        except (EOFError, OSError, ValueError, zlib.error, lzma.LZMAError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise DataError(f"{self.name}: cannot be read to its end ({reason})") from error

    @contextmanager
    def seekable(self) -> Iterator[BinaryIO]:
        """Open the file for random access; a pipe or compressed data are copied to disk first."""
        if self._path is not None:
            with self._path.open("rb") as file:
                yield file
            return
        with tempfile.TemporaryFile() as copy:
            while block := self.read():
                copy.write(block)
            copy.seek(0)
            yield cast(BinaryIO, copy)

    def would_wait(self) -> bool:
        """Return whether the next read might wait for another process."""
        return self.live and not self._ready()


@contextmanager
def open_stream(source: str | os.PathLike[str]) -> Iterator[ByteStream]:
    """Open a file, or standard input for "-", and decompress it.

    Compression is recognized by the first bytes. A file whose extension promises a compression that
    its first bytes do not show is refused.

    Raises:
        DataError: the file cannot be opened, or its extension does not fit its content.
    """
    check_path("path", source)
    name = display_name(source)
    with _open_raw(source) as (raw, live):
        file = _Buffered(raw)
        head = file.peek_magic()
        kind = next(
            (kind for kind, all_ in COMPRESSION_MAGIC.items() if head.startswith(all_)), None
        )
        promised = COMPRESSION_EXTENSIONS.get(Path(source).suffix.lower())
        if promised is not None and kind != promised:
            raise DataError(
                f"{name}: does not begin like a {promised} file: rename it, or write it again"
            )
        path = Path(source) if kind is None and not live else None
        yield ByteStream(name, _decompress(file, kind), live, file.ready, path)


class _Buffered(io.RawIOBase):
    """A raw stream whose first bytes can be looked at."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._head = b""

    def readable(self) -> bool:
        return True

    def peek_magic(self) -> bytes:
        """Return the first bytes: no more of a pipe than it takes to tell a compression."""
        while len(self._head) < _MAGIC_BYTES:
            known = any(
                magic.startswith(self._head) for own in COMPRESSION_MAGIC.values() for magic in own
            )
            more = self._read_raw(BLOCK_BYTES) if known else b""
            if not more:
                break
            self._head += more
        return self._head

    def read1(self, size: int = BLOCK_BYTES) -> bytes:
        if self._head:
            block, self._head = self._head[:size], self._head[size:]
            return block
        return self._read_raw(size)

    def read(self, size: int = -1) -> bytes:
        return self.read1(size) if size >= 0 else b"".join(iter(self.read1, b""))

    def ready(self) -> bool:
        """Return whether bytes, or the end, are there already."""
        if self._head:
            return True
        try:
            return bool(select.select([self._raw], [], [], 0)[0])
        except (OSError, ValueError, TypeError):  # not a descriptor that can be asked
            return False

    def _read_raw(self, size: int) -> bytes:
        # read1 of a buffered stream and read of a raw one return what has arrived.
        read = getattr(self._raw, "read1", None) or self._raw.read
        return read(size) or b""


def _decompress(file: _Buffered, kind: str | None) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=cast(BinaryIO, file), mode="rb")
    if kind == "bzip2":
        return io.BufferedReader(_ConcatenatedStreams(file, bz2.BZ2Decompressor))
    if kind == "xz":
        return io.BufferedReader(_ConcatenatedStreams(file, lzma.LZMADecompressor))
    if kind == "zstd":
        import pyarrow as pa

        return _ArrowStream(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
    return file


class _ConcatenatedStreams(io.RawIOBase):
    """The content of bzip2 or xz streams, one after the other.

    `BZ2File` and `LZMAFile` end without an error where a further stream is damaged, which would
    lose its rows and all rows after it.
    """

    def __init__(self, file: _Buffered, make_decompressor: Callable[[], Any]) -> None:
        self._file, self._make_decompressor = file, make_decompressor
        self._decompressor = make_decompressor()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            data = b""
            if self._decompressor.eof:
                data = self._decompressor.unused_data
                while not (data := data.lstrip(b"\0")):  # zeros are padding
                    data = self._file.read1()
                    if not data:
                        return 0
                self._decompressor = self._make_decompressor()
            elif self._decompressor.needs_input:
                data = self._file.read1()
                if not data:
                    raise EOFError("the file ends before its compressed data do")
            content = self._decompressor.decompress(data, len(buffer))
            if content:
                buffer[: len(content)] = content
                return len(content)


class _ArrowStream:
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read(self, size: int) -> bytes:
        return self._stream.read(size)

    read1 = read


@contextmanager
def _open_raw(source: str | os.PathLike[str]) -> Iterator[tuple[Any, bool]]:
    name = display_name(source)
    if str(source) == "-":
        if sys.stdin is None:
            raise DataError("standard input: is closed")
        yield sys.stdin.buffer, True
        return
    try:
        file = Path(source).open("rb", buffering=0)  # noqa: SIM115
    except FileNotFoundError as error:
        hint = dataset_hint(str(source))
        raise DataError(f"{name}: the file does not exist{hint}") from error
    except IsADirectoryError as error:
        raise DataError(f"{name}: expected a file, got a directory") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{name}: cannot be read ({reason})") from error
    with file:
        yield file, not stat.S_ISREG(os.fstat(file.fileno()).st_mode)


def display_name(path: str | os.PathLike[str]) -> str:
    """Return the name of a file in messages; "-" is standard input."""
    return "standard input" if str(path) == "-" else str(path)


def format_extension(source: str | os.PathLike[str]) -> str:
    """Return the extension that tells the format: ".csv" for "a.csv" and "a.csv.gz"."""
    path = Path(source)
    if path.suffix.lower() in COMPRESSION_EXTENSIONS:
        path = path.with_suffix("")
    return path.suffix.lower()


def dataset_hint(name: str) -> str:
    """Return where the files of a data set are whose name was given as a file name."""
    try:
        roots = (data_directory(), cache_directory())
    except ValueError:  # a variable is wrong, which is not what this error is about
        return ""
    for root in roots:
        if root is not None and Path(name).name == name and is_complete(root / name):
            return (
                f"; the data set of that name is {root / name / 'train.parquet'} and test.parquet"
            )
    return ""


def expand_sources(
    sources: Iterable[str | os.PathLike[str]], *, format: str | None = None
) -> list[str]:
    """Return the files that a list of files, folders and globs stands for.

    A folder stands for all files below it whose extension is known (any file if a format is given),
    in the order of their paths, without those whose name, or whose folder's name, begins with "."
    or "_". A glob may contain "**". A file that is named twice is read once.

    Args:
        sources: files, folders, globs, or "-" for standard input.
        format: the format of all files; by default it follows from the extension.

    Raises:
        DataError: a source does not exist, or contains no files.

    Example:
        >>> from pathlib import Path
        >>> Path("shards").mkdir(exist_ok=True)
        >>> _ = Path("shards/1.csv").write_text("text\\na fine film\\n")
        >>> expand_sources(["shards"]) == expand_sources(["shards/*.csv"])
        True
    """
    files: dict[str, None] = {}
    for one in sources:
        check_path("path", one)
        source = os.fspath(one)
        if source == "-":
            files[source] = None
            continue
        for path in _expand(source, format):
            files[path] = None
    if not files:
        raise DataError("no files: expected a file, a folder, a glob, or - for standard input")
    if "-" in files and len(files) > 1:
        raise DataError("-: expected standard input alone, or files without it")
    return list(files)


def _expand(source: str, format: str | None) -> list[str]:
    path = Path(source)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists and glob.has_magic(source):
        found = sorted(glob.glob(source, recursive=True))  # noqa: PTH207
        if not found:
            raise DataError(f"{source}: matches no file")
        files = [file for one in found for file in (_expand(one, format) if one else [])]
        if not files:
            raise DataError(f"{source}: matches no file that can be read")
        return files
    if not exists:
        raise DataError(f"{source}: the file does not exist{dataset_hint(source)}")
    if not path.is_dir():
        return [source]
    inside = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(path).parts)
    ]
    readable = [
        str(file) for file in inside if format is not None or format_extension(file) in EXTENSIONS
    ]
    if not readable:
        raise DataError(
            f"{source}: the folder has no file with a known extension "
            f"({', '.join(EXTENSIONS)}, also compressed): name the files, or give their format"
            + (f"; it has {quote(inside[0].name)}" if inside else "")
        )
    return readable
