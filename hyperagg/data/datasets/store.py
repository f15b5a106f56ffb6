"""Data sets in folders: <root>/<name>/<split>.parquet with the columns `text` and `label`.

If documents have several labels, the second column is called `labels` and holds lists. The
directory in HYPERAGG_DATA and the cache both have this layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hyperagg._common.atomic import atomic_write
from hyperagg.data.dataset import Split
from hyperagg.data.directories import is_complete
from hyperagg.data.readers.columns import ColumnSpec
from hyperagg.data.readers.errors import DataError
from hyperagg.data.readers.files import read_unchecked
from hyperagg.data.readers.stream import ReadOptions

ORIGIN_KEY = b"hyperagg.origin"


@dataclass(frozen=True)
class Stored:
    """Hold the splits of a folder and, if it is in the cache, their origin."""

    train: Split
    test: Split
    validation: Split | None
    origin: str | None


def count_rows(folder: Path) -> tuple[int, int]:
    """Return the number of rows of train and test without reading them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return (
            pq.read_metadata(folder / "train.parquet").num_rows,
            pq.read_metadata(folder / "test.parquet").num_rows,
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{folder}: contains a damaged Parquet file ({error})") from error


def read_folder(folder: Path) -> Stored:
    """Read the splits of a folder.

    Raises:
        DataError: train or test is missing, a file has other columns, or one file has one label per
            row and another has lists of labels.
    """
    if not is_complete(folder):
        files = sorted(path.name for path in folder.iterdir())
        raise DataError(
            f"{folder}: expected train.parquet and test.parquet with the columns text and label; "
            f"the folder contains {', '.join(files) or 'no files'}"
        )
    train, origin = read_split(folder / "train.parquet")
    test, _ = read_split(folder / "test.parquet")
    validation = None
    if (folder / "validation.parquet").exists():
        validation, _ = read_split(folder / "validation.parquet")
    for name, split in (("test", test), ("validation", validation)):
        if split and len(train) and split.multi_label != train.multi_label:
            multiple, single = ("train", name) if train.multi_label else (name, "train")
            raise DataError(
                f"{folder}: {multiple}.parquet has lists of labels and {single}.parquet has one "
                "label per row: expected the same in both"
            )
    return Stored(train, test, validation, origin)


def read_split(path: Path) -> tuple[Split, str | None]:
    """Read one split and the origin that its file states, if any."""
    import pyarrow.parquet as pq

    columns = read_unchecked(path, ColumnSpec(str(path)), ReadOptions("parquet"))
    assert columns.labels is not None
    metadata = pq.read_schema(path).metadata or {}
    origin = metadata.get(ORIGIN_KEY)
    return Split(columns.texts, columns.labels), None if origin is None else origin.decode()


def write_folder(folder: Path, train: Split, test: Split, origin: str) -> None:
    """Write train and test; each file is written atomically.

    Raises:
        DataError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_split(folder / "train.parquet", train, origin)
        write_split(folder / "test.parquet", test, origin)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written to ({error.strerror or error}); set HYPERAGG_CACHE to a "
            "writable directory"
        ) from error


def write_split(path: Path, split: Split, origin: str) -> None:
    """Write one split, with its origin in the metadata of the file."""
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
