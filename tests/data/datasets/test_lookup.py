"""Where a data set is looked for, in which order, and what its source says."""

from __future__ import annotations

import gzip
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperagg.data import Split, list_datasets, load_corpus, load_dataset, read_texts
from hyperagg.data.datasets import banking77, catalogue
from hyperagg.data.datasets.entry import Entry
from hyperagg.data.readers.errors import DataError

SHARED = os.environ.get("HYPERAGG_DATA")
needs_shared = pytest.mark.skipif(not SHARED, reason="HYPERAGG_DATA is not set")

TRAIN = Split(["one", "two", "three"], ["x", "y", "x"])
TEST = Split(["four"], ["y"])


class Source:
    """An official source that counts its calls."""

    def __init__(self, error: DataError | None = None) -> None:
        self.calls = 0
        self.error = error

    def __call__(self) -> tuple[Split, Split]:
        self.calls += 1
        if self.error:
            raise self.error
        return TRAIN, TEST


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No HYPERAGG_DATA and an empty cache."""
    monkeypatch.delenv("HYPERAGG_DATA", raising=False)
    monkeypatch.setenv("HYPERAGG_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Source]:
    def add(rows: tuple[int, int] = (3, 1), error: DataError | None = None) -> Source:
        source = Source(error)
        entry = Entry("toy", "a toy", rows, "free", "the toy's source", 1.5, source)
        monkeypatch.setitem(catalogue.ENTRIES, "toy", entry)
        return source

    return add


def put(folder: Path, **splits: dict[str, list[object]]) -> None:
    folder.mkdir(parents=True)
    for name, columns in splits.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def test_source_then_cache(folder: Path, register: Callable[..., Source]) -> None:
    source = register()
    first, second = load_dataset("toy"), load_dataset("toy")
    assert source.calls == 1
    assert first.train == second.train == TRAIN
    assert first.test == second.test == TEST
    assert first.source.startswith("the toy's source")
    assert second.source == f"cache {folder / 'cache' / 'toy'}, downloaded from the toy's source"
    assert second.terms == "free"
    files = sorted(path.name for path in (folder / "cache" / "toy").iterdir())
    assert files == ["test.parquet", "train.parquet"]


def test_what_is_downloaded_is_announced_with_its_size_before(
    folder: Path, register: Callable[..., Source], caplog: pytest.LogCaptureFixture
) -> None:
    source = register(error=DataError("no network"))
    with caplog.at_level("INFO", "hyperagg"), pytest.raises(ValueError, match="no network"):
        load_dataset("toy")
    assert source.calls == 1
    (line,) = caplog.messages
    assert "downloading 1.5 MB from the toy's source" in line and "terms of use: free" in line
    (toy,) = (listing for listing in list_datasets() if listing.name == "toy")
    assert toy.location == "the toy's source: 1.5 MB to download"


def test_the_data_set_of_the_package_needs_neither_network_nor_cache(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", unreachable)
    data = load_dataset("banking77")
    assert (len(data.train), len(data.test)) == (10_003, 3_080)
    assert len(set(data.train.labels)) == 77 and set(data.test.labels) == set(data.train.labels)
    assert data.source.startswith("the hyperagg package") and "CC BY 4.0" in data.terms
    assert not (folder / "cache").exists()
    (listing,) = (each for each in list_datasets() if each.name == "banking77")
    assert listing.location == "the hyperagg package"


def test_damaged_rows_of_the_package_are_an_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for data, message in ((b"cut", "install hyperagg again"), (gzip.compress(b"x"), "digest")):
        (folder / "train.csv.gz").write_bytes(data)
        monkeypatch.setattr(banking77, "files", lambda name: folder)
        with pytest.raises(ValueError, match=message):
            load_dataset("banking77")


def test_data_directory_comes_first(
    folder: Path, register: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = register(rows=(30, 10))
    rows: dict[str, list[object]] = {"text": ["a"], "label": [7]}
    put(folder / "own" / "toy", train=rows, test=rows, validation=rows)
    monkeypatch.setenv("HYPERAGG_DATA", str(folder / "own"))
    data = load_dataset("toy")
    assert source.calls == 0
    assert data.train.labels == ["7"]
    assert data.validation == data.train
    # The source says that the official source has more rows.
    assert data.source == (
        f"HYPERAGG_DATA={folder / 'own' / 'toy'} "
        "(1 train and 1 test rows; the official source has 30 and 10)"
    )


def test_source_says_that_the_data_directory_lacks_it(
    folder: Path, register: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    monkeypatch.setenv("HYPERAGG_DATA", str(folder))
    for _ in ("source", "cache"):
        assert load_dataset("toy").source.endswith(f"; HYPERAGG_DATA={folder} does not contain toy")


def test_any_folder_of_the_data_directory_is_loaded_and_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(folder / "mine", train={"text": ["a"], "label": ["b"]}, test={"text": [], "label": []})
    monkeypatch.setenv("HYPERAGG_DATA", str(folder))
    assert load_dataset("mine").train.texts == ["a"]
    (mine,) = (listing for listing in list_datasets() if listing.name == "mine")
    assert (mine.rows, mine.location) == ((1, 0), "HYPERAGG_DATA")


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ({"train": {"text": ["a"], "label": ["b"]}}, "the folder contains train.parquet"),
        (
            {s: {"text": ["a"], "topics": ["b"]} for s in ("train", "test")},
            "does not have a column 'label'",
        ),
        ({s: {"text": ["a"], "labels": [{"b": 1}]} for s in ("train", "test")}, "not labels"),
        ({s: {"text": ["a"], "labels": [["b", None]]} for s in ("train", "test")}, "label 2"),
        (
            {"train": {"text": ["a"], "label": [["b"]]}, "test": {"text": ["a"], "label": ["b"]}},
            "train.parquet has lists of labels and test.parquet has one label per row",
        ),
        (
            {
                "train": {"text": ["a"], "label": ["b"]},
                "test": {"text": ["a"], "label": ["b"]},
                "validation": {"text": ["a"], "label": [["b"]]},
            },
            "validation.parquet has lists of labels and train.parquet has one label per row",
        ),
    ],
)
def test_folder_with_other_columns_is_an_error(
    folder: Path,
    register: Callable[..., Source],
    monkeypatch: pytest.MonkeyPatch,
    splits: dict[str, dict[str, list[object]]],
    message: str,
) -> None:
    source = register()
    put(folder / "toy", **splits)
    monkeypatch.setenv("HYPERAGG_DATA", str(folder))
    with pytest.raises(ValueError, match=message):
        load_dataset("toy")
    assert source.calls == 0


@pytest.mark.parametrize("column", ["label", "labels"])
def test_several_labels_per_document(
    folder: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    rows: dict[str, list[object]] = {"text": ["a", "b"], column: [["x", "y", "x"], []]}
    put(folder / "mine", train=rows, test={"text": [], column: []})
    monkeypatch.setenv("HYPERAGG_DATA", str(folder))
    data = load_dataset("mine")
    assert data.train.multi_label
    assert data.train.labels == [("x", "y"), ()]
    assert len(data.test) == 0


def test_several_labels_survive_the_cache(
    folder: Path, register: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = register()
    labels: list[tuple[str, ...]] = [("x", "y"), (), ("z",)]
    multi_label = Split(TRAIN.texts, labels), Split(TEST.texts, labels[1:2])
    monkeypatch.setattr(Source, "__call__", lambda self: multi_label)
    first, second = load_dataset("toy"), load_dataset("toy")
    assert (first.train, first.test) == (second.train, second.test) == multi_label
    assert second.source.startswith("cache") and source.calls == 0


def test_data_set_without_labels_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: dict[str, list[object]] = {"text": ["a"]}
    put(folder / "wikitext-2", train=rows, test=rows)
    monkeypatch.setenv("HYPERAGG_DATA", str(folder))
    with pytest.raises(ValueError, match="it has no labels"):
        load_dataset("wikitext-2")


def test_error_of_a_failing_source_names_a_remedy(
    folder: Path, register: Callable[..., Source]
) -> None:
    register(error=DataError("no answer from\nanywhere"))
    with pytest.raises(ValueError) as caught:
        load_dataset("toy")
    message = str(caught.value)
    assert "no answer from anywhere" in message
    assert "Set HYPERAGG_DATA" in message
    assert "\n" not in message
    assert not (folder / "cache").exists()


def test_wrong_number_of_rows_is_not_cached(folder: Path, register: Callable[..., Source]) -> None:
    register(rows=(4, 1))
    with pytest.raises(ValueError, match="expected 4 train and 1 test rows, got 3 and 1"):
        load_dataset("toy")
    assert not (folder / "cache").exists()


def test_damaged_cache_is_an_error(folder: Path, register: Callable[..., Source]) -> None:
    register()
    load_dataset("toy")
    (folder / "cache" / "toy" / "test.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"remove .* to download it again"):
        load_dataset("toy")


def test_cache_that_cannot_be_written(
    folder: Path, register: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    (folder / "file").write_text("")
    monkeypatch.setenv("HYPERAGG_CACHE", str(folder / "file"))
    with pytest.raises(ValueError, match="set HYPERAGG_CACHE"):
        load_dataset("toy")


def test_incomplete_cache_is_downloaded_again(
    folder: Path, register: Callable[..., Source]
) -> None:
    source = register()
    load_dataset("toy")
    (folder / "cache" / "toy" / "test.parquet").unlink()
    assert load_dataset("toy").test == TEST
    assert source.calls == 2


@pytest.mark.parametrize("name", ["R52", "r_52", "", ".", "..", "../own/mine", "own/mine", "a\0b"])
def test_unknown_names(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    rows: dict[str, list[object]] = {"text": ["a"], "label": ["b"]}
    put(folder / "own" / "mine", train=rows, test=rows)
    monkeypatch.setenv("HYPERAGG_DATA", str(folder / "own"))
    names = "expected one of banking77, r8, r52, 20ng, reuters, reuters-modapte, ag-news, mine"
    for one in (name, 3):
        with pytest.raises(ValueError, match=names):
            load_dataset(one)


def test_a_close_name_is_suggested(folder: Path) -> None:
    with pytest.raises(ValueError, match="did you mean ag-news"):
        load_dataset("AG_News")


def test_importing_loads_no_heavy_library() -> None:
    code = "import sys, hyperagg.data as _; print(*sys.modules)"
    base = "import sys, hyperagg; print(*sys.modules)"
    loaded, before = (
        set(
            subprocess.run([sys.executable, "-c", c], capture_output=True, text=True).stdout.split()
        )
        for c in (code, base)
    )
    assert not {"pyarrow", "rich", "huggingface_hub", "numpy"} & (loaded - before)


@needs_shared
@pytest.mark.parametrize(
    ("name", "train", "test", "classes"),
    [("r8", 5485, 2189, 8), ("r52", 6532, 2568, 52), ("reuters", 8982, 2246, 46)],
)
def test_shared_data(name: str, train: int, test: int, classes: int) -> None:
    assert SHARED is not None
    if not (Path(SHARED) / name).is_dir():
        pytest.skip(f"HYPERAGG_DATA does not contain {name}")
    data = load_dataset(name)
    assert data.source.startswith("HYPERAGG_DATA=")
    assert (len(data.train), len(data.test)) == (train, test)
    assert len(set(data.train.labels)) == classes
    assert set(data.test.labels) <= set(data.train.labels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("~nobody-of-that-name/x", "the home directory of this user is not known; expected"),
        ("{folder}/file", "is a file; expected a directory of data sets"),
        ("{folder}/nowhere", "does not exist; expected a directory of data sets"),
    ],
)
def test_a_data_directory_that_is_none_is_an_error(
    folder: Path,
    register: Callable[..., Source],
    monkeypatch: pytest.MonkeyPatch,
    value: str,
    message: str,
) -> None:
    """It used to be ignored, so that another source was read in its place."""
    source = register()
    (folder / "file").write_text("")
    value = value.format(folder=folder)
    monkeypatch.setenv("HYPERAGG_DATA", value)
    for call in (lambda: load_dataset("toy"), list_datasets, lambda: load_corpus("wikitext-2")):
        with pytest.raises(ValueError, match=re.escape(f"HYPERAGG_DATA={value}: {message}")):
            call()
    assert source.calls == 0
    # It is not what an error about a file is about.
    with pytest.raises(ValueError, match=r"toy: the file does not exist$"):
        read_texts("toy")


def test_a_cache_in_the_home_of_an_unknown_user_is_an_error(
    folder: Path, register: Callable[..., Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    register()
    monkeypatch.setenv("HYPERAGG_CACHE", "~nobody-of-that-name/x")
    with pytest.raises(ValueError, match="HYPERAGG_CACHE=~nobody-of-that-name/x: the home dir"):
        load_dataset("toy")
