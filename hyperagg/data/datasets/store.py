"""Data sets in folders: <root>/<name>/<split>.parquet with the columns `text` and `label`.

Where documents have several labels, the second column is called `labels` and holds lists. A
directory of the user's own (HYPERAGG_DATA) and the cache have this same layout.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hyperagg._common.atomic import atomic_write
from hyperagg.data.datasets.dataset import Split
from hyperagg.data.readers.columns import Wanted
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.formats import parse_parquet

ORIGIN_KEY = b"hyperagg.origin"


@dataclass(frozen=True)
class Stored:
    """The splits of one folder and, where the folder is of the cache, where they came from."""

    train: Split
    test: Split
    validation: Split | None
    origin: str | None


def own_directory() -> Path | None:
    """The directory in HYPERAGG_DATA, or None where the variable is not set."""
    value = os.environ.get("HYPERAGG_DATA")
    return Path(value).expanduser() if value else None


def cache_directory() -> Path:
    """HYPERAGG_CACHE, else `hyperagg` in XDG_CACHE_HOME, else ~/.cache/hyperagg."""
    value = os.environ.get("HYPERAGG_CACHE")
    if value:
        return Path(value).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "hyperagg"


def is_whole(folder: Path) -> bool:
    """Whether both train and test are there."""
    return (folder / "train.parquet").is_file() and (folder / "test.parquet").is_file()


def count_rows(folder: Path) -> tuple[int, int]:
    """Rows of train and test, without reading them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (
            pq.read_metadata(folder / "train.parquet").num_rows,
            pq.read_metadata(folder / "test.parquet").num_rows,
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{folder} holds a damaged Parquet file ({error})") from error


def read_folder(folder: Path) -> Stored:
    """Reads what a folder holds.

    Raises:
        DataError: a split is missing, a file has other columns, or one has a label a row where
            another has lists of them.
    """
    if not is_whole(folder):
        held = sorted(path.name for path in folder.iterdir())
        raise DataError(
            f"{folder} needs train.parquet and test.parquet with the columns text and label; it "
            f"has {', '.join(held) or 'nothing'}"
        )
    train, origin = read_split(folder / "train.parquet")
    test, _ = read_split(folder / "test.parquet")
    validation = None
    if (folder / "validation.parquet").exists():
        validation, _ = read_split(folder / "validation.parquet")
    for name, split in (("test", test), ("validation", validation)):
        if split and len(train) and split.multi_label != train.multi_label:
            several, one = ("train", name) if train.multi_label else (name, "train")
            raise DataError(
                f"{folder}: {several}.parquet has lists of labels and {one}.parquet has one label "
                "a row: write lists in both, or one label in both"
            )
    return Stored(train, test, validation, origin)


def read_split(path: Path) -> tuple[Split, str | None]:
    """One split and the origin that is noted in its file, if any."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    columns = parse_parquet(content, Wanted(str(path)))
    assert columns.labels is not None
    metadata = pq.read_schema(pa.BufferReader(content)).metadata or {}
    origin = metadata.get(ORIGIN_KEY)
    return Split(columns.texts, columns.labels), None if origin is None else origin.decode()


def write_folder(folder: Path, train: Split, test: Split, origin: str) -> None:
    """Writes two splits; a reader never sees half a file.

    Raises:
        DataError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_split(folder / "train.parquet", train, origin)
        write_split(folder / "test.parquet", test, origin)
    except OSError as error:
        raise DataError(
            f"cannot write {folder} ({error.strerror or error}): set HYPERAGG_CACHE to a directory "
            "that can be written"
        ) from error


def write_split(path: Path, split: Split, origin: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name, kind = "label", pa.large_string()
    if split.multi_label:
        name, kind = "labels", pa.list_(kind)
    columns = {
        "text": pa.array(split.texts, pa.large_string()),
        name: pa.array(split.labels, kind),
    }
    table = pa.table(columns).replace_schema_metadata({ORIGIN_KEY: origin.encode()})
    with atomic_write(path) as draft:
        pq.write_table(table, draft, compression="zstd")
