"""Keras's Reuters and the hub's AG News, parsed from small imitations of their files."""

from __future__ import annotations

import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperagg.data import load_dataset
from hyperagg.data.datasets import ag_news, download, reuters
from hyperagg.data.readers.errors import DataError

WORDS = {"oil": 1, "rose": 2, "fell": 3}


def wires(count: int) -> tuple[np.ndarray, np.ndarray]:
    x = np.empty(count, object)
    x[:] = [[1 + i % 3] * (1 + i % 2) for i in range(count)]
    return x, np.arange(count) % 46


def test_reuters_is_rebuilt_from_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = wires(11)
    stored = io.BytesIO()
    np.savez(stored, x=x, y=y)
    words = json.dumps(WORDS).encode()
    contents = {"reuters.npz": stored.getvalue(), "reuters_word_index.json": words}

    def fetch(url: str, algorithm: str, digest: str) -> bytes:
        assert len(digest) == 2 * hashlib.new(algorithm).digest_size
        return contents[url.rpartition("/")[2]]

    monkeypatch.setattr(reuters, "download", fetch)
    train, test = reuters.fetch()
    # int(11 * 0.8); the order is that of numpy's shuffle with seed 113.
    assert (len(train), len(test)) == (8, 3)
    order = np.arange(11)
    np.random.RandomState(113).shuffle(order)
    labels = [reuters.TOPICS[i] for i in order]
    assert train.labels + test.labels == labels
    names = {number: word for word, number in WORDS.items()}
    assert (train.texts + test.texts)[4] == " ".join(names[n] for n in x[order[4]])


def test_reuters_topics_equal_those_of_the_shared_copy() -> None:
    shared = os.environ.get("HYPERAGG_DATA")
    if not shared or not (Path(shared) / "reuters").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no reuters")
    assert len(set(reuters.TOPICS)) == 46
    assert set(load_dataset("reuters").train.labels) == set(reuters.TOPICS)


def test_ag_news_ids_become_topic_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("train", "test"):
        table = pa.table({"text": ["a", "b", part], "label": [0, 3, 1]})
        pq.write_table(table, tmp_path / f"{part}.parquet")
    monkeypatch.setattr(
        ag_news,
        "download_from_hub",
        lambda repository, revision, name: tmp_path / f"{name[5:].partition('-')[0]}.parquet",
    )
    train, test = ag_news.fetch()
    assert train.labels == ["World", "Sci/Tech", "Sports"]
    assert test.texts == ["a", "b", "test"]


@pytest.mark.parametrize(
    "columns", [{"text": ["a"], "label": [4]}, {"text": ["a"]}, {"text": ["a"], "label": [None]}]
)
def test_ag_news_with_other_columns_is_refused(
    tmp_path: Path, columns: dict[str, list[object]]
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=": not a split of fancyzhx/ag_news"):
        ag_news.read_hub_file(tmp_path / "a.parquet")


def test_ag_news_without_a_hub_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def absent(*args: object, **options: object) -> str:
        raise LocalEntryNotFoundError("not here")

    def unreachable(url: str) -> None:
        raise ConnectionError("no route\nto the hub")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", absent)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", unreachable)
    with pytest.raises(DataError, match=r"train-.* Hugging Face hub \(no route\)"):
        ag_news.fetch()


def test_download_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert download.download(path.as_uri(), "sha256", digest) == b"content"
    with pytest.raises(DataError, match="damaged or changed"):
        download.download(path.as_uri(), "sha256", "0" * 64)
    with pytest.raises(DataError, match="cannot be downloaded"):
        download.download((tmp_path / "absent").as_uri(), "sha256", digest)
