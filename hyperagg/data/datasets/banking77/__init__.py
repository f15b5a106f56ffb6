"""BANKING77: questions of a bank's customers with one of 77 intents. The rows are in this package.

The two files are those of the source, compressed. They are licensed under CC BY 4.0, in the file
LICENSE beside them.
Source: https://github.com/PolyAI-LDN/task-specific-datasets, commit 57ec275; Casanueva, Temcinas,
Gerz, Henderson and Vulic (2020), Efficient Intent Detection with Dual Sentence Encoders.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from importlib.resources import files

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.download import check_digest
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.readers.errors import DataError

# Of the files at the source.
TRAIN_SHA256 = "b06e26ac675513959a63135f11b94ea7786ed02da65db93a5650d8838cbc664b"
TEST_SHA256 = "d12d6e3bc4c3103966ae786dc435913c0c563dfa328f5a3646d0e62cfeeb474d"


def fetch() -> tuple[Split, Split]:
    """Read train and test from this package."""
    return read_part("train.csv", TRAIN_SHA256), read_part("test.csv", TEST_SHA256)


def read_part(name: str, digest: str) -> Split:
    """Read one file with the columns text and category.

    Raises:
        DataError: the installed file is missing or damaged.
    """
    path = files(__name__) / f"{name}.gz"
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error}); install hyperagg again") from error
    check_digest(data, "sha256", digest, str(path))
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8"), newline="")))
    return Split([row["text"] for row in rows], [row["category"] for row in rows])


ENTRY = Entry(
    name="banking77",
    description="questions of a bank's customers with one of 77 intents",
    rows=(10_003, 3_080),
    terms="CC BY 4.0; cite Casanueva et al. (2020)",
    origin="the hyperagg package, from PolyAI-LDN/task-specific-datasets",
    megabytes=0,
    fetch=fetch,
)
