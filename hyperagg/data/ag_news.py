"""AG News: title and first lines of news articles, four topics.

Source: https://huggingface.co/datasets/fancyzhx/ag_news; Zhang, Zhao and LeCun, "Character-level
Convolutional Networks for Text Classification", 2015.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from hyperagg.data.dataset import Split
from hyperagg.data.download import check_digest, spinner_when_slow
from hyperagg.data.entry import Entry
from hyperagg.data.errors import DataError

REPOSITORY = "fancyzhx/ag_news"
REVISION = "eb185aade064a813bc0b7f42de02595523103ca4"
TOPICS = ("World", "Sports", "Business", "Sci/Tech")


def fetch() -> tuple[Split, Split]:
    """Train and test from the Hugging Face hub."""
    return read_hub_file(download_split("train")), read_hub_file(download_split("test"))


def download_split(part: str) -> Path:
    """The Parquet file of one split, in the hub's own cache.

    Raises:
        DataError: the hub cannot be reached, or the file is not the one that the hub announced.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import LocalEntryNotFoundError

    name = f"data/{part}-00000-of-00001.parquet"
    fetch = partial(hf_hub_download, REPOSITORY, name, repo_type="dataset", revision=REVISION)
    try:
        try:
            return Path(fetch(local_files_only=True))
        except LocalEntryNotFoundError:
            pass
        with spinner_when_slow(f"fetching {REPOSITORY}/{name} from the Hugging Face hub"):
            # Asked for first because it fails at once without a network, where the download tries
            # for half a minute; and the tag of a large file is its SHA-256.
            url = hf_hub_url(REPOSITORY, name, repo_type="dataset", revision=REVISION)
            announced = get_hf_file_metadata(url).etag
            path = Path(fetch())
            check_digest(path.read_bytes(), "sha256", str(announced), name)
            return path
    except DataError:
        raise
    # The hub raises its own errors, those of its HTTP library and OSErrors, with no common root.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"could not fetch {name} of {REPOSITORY} from the Hugging Face hub ({reason})"
        ) from error


def read_hub_file(path: Path) -> Split:
    """One split: column `text`, and column `label` with ids that become the names of topics."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["text", "label"])
        return Split(
            table["text"].to_pylist(), [TOPICS[number] for number in table["label"].to_pylist()]
        )
    except (pa.ArrowException, OSError, KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{path} is not a split of {REPOSITORY} with text and label 0 to 3 ({error})"
        ) from error


ENTRY = Entry(
    name="ag-news",
    about="news articles, title and first lines, 4 topics",
    rows=(120_000, 7_600),
    terms="non-commercial research",
    origin=f"{REPOSITORY} on the Hugging Face hub, revision {REVISION[:7]}",
    fetch=fetch,
)
