"""AG News: the titles and first lines of news articles on four topics.

Source: https://huggingface.co/datasets/fancyzhx/ag_news; Zhang, Zhao and LeCun, "Character-level
Convolutional Networks for Text Classification", 2015.
"""

from __future__ import annotations

from pathlib import Path

from hyperagg.data.dataset import Split
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.datasets.hub import download_from_hub
from hyperagg.data.readers.errors import DataError

REPOSITORY = "fancyzhx/ag_news"
REVISION = "eb185aade064a813bc0b7f42de02595523103ca4"
TOPICS = ("World", "Sports", "Business", "Sci/Tech")


def fetch() -> tuple[Split, Split]:
    """Download train and test from the Hugging Face hub."""
    train, test = (f"data/{part}-00000-of-00001.parquet" for part in ("train", "test"))
    return (
        read_hub_file(download_from_hub(REPOSITORY, REVISION, train)),
        read_hub_file(download_from_hub(REPOSITORY, REVISION, test)),
    )


def read_hub_file(path: Path) -> Split:
    """Read one split, whose label ids become the names of the topics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["text", "label"])
        return Split(
            table["text"].to_pylist(), [TOPICS[number] for number in table["label"].to_pylist()]
        )
    except (pa.ArrowException, OSError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{path}: not a split of {REPOSITORY} with the columns text and label, 0 to 3 ({error})"
        ) from error


ENTRY = Entry(
    name="ag-news",
    description="titles and first lines of news articles, 4 topics",
    rows=(120_000, 7_600),
    terms="non-commercial research",
    origin=f"{REPOSITORY} on the Hugging Face hub, revision {REVISION[:7]}",
    megabytes=20,
    fetch=fetch,
)
