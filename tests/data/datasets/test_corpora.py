"""Corpora for language models."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hyperagg.data import load_corpus, read_corpus
from hyperagg.data.datasets import corpora

LINES = [" ", " = Oil = ", " ", " = = Price = = ", " It rose . ", " ", " = Gold = ", " It fell . "]


def write_parts(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in ("train", "validation", "test"):
        pq.write_table(pa.table({"text": LINES}), folder / f"{part}.parquet")


def test_wikitext_is_split_into_articles(tmp_path, monkeypatch):
    write_parts(tmp_path / "wikitext-2")
    monkeypatch.setenv("HYPERAGG_DATA", str(tmp_path))
    corpus = load_corpus("wikitext-2")
    assert corpus.train == [
        " = Oil = \n \n = = Price = = \n It rose . \n ",
        " = Gold = \n It fell . ",
    ]
    assert corpus.train == corpus.validation == corpus.test


def test_wikitext_is_downloaded_from_the_hub(tmp_path, monkeypatch):
    write_parts(tmp_path / "files")
    monkeypatch.delenv("HYPERAGG_DATA", raising=False)
    requested = []

    def download(repository, revision, name):
        requested.append(name)
        return tmp_path / "files" / f"{name.rpartition('/')[2].partition('-')[0]}.parquet"

    monkeypatch.setattr(corpora, "download_from_hub", download)
    corpus = load_corpus("wikitext-2")
    assert len(corpus.test) == 2 and "hub" in corpus.source
    assert requested[0] == "wikitext-2-v1/train-00000-of-00001.parquet"


def test_wikitext_has_all_words():
    shared = os.environ.get("HYPERAGG_DATA")
    if not shared or not (Path(shared) / "wikitext-2").is_dir():
        pytest.skip("HYPERAGG_DATA is not set or has no wikitext-2")
    corpus = load_corpus("wikitext-2")
    assert sum(len(text.split()) for text in corpus.train) == 2_051_910
    assert sum(len(text.split()) for text in corpus.test) == 241_211


def test_every_fiftieth_text_is_for_validation(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(f"text {number}" for number in range(100)))
    corpus = read_corpus(path)
    assert (len(corpus.train), len(corpus.validation), corpus.test) == (98, 2, [])
    assert sorted(corpus.train + corpus.validation) == sorted(f"text {n}" for n in range(100))


def test_unknown_name():
    with pytest.raises(
        ValueError, match=r"data set 'wikitext': expected one of .*; did you mean wikitext-2"
    ):
        load_corpus("wikitext")


def test_rows_without_a_text_are_left_out_on_request(tmp_path):
    path = tmp_path / "films.csv"
    path.write_text("text,id\na fine film,1\n,2\na dull film,3\n")
    with pytest.raises(ValueError, match="empty text"):
        read_corpus(path)
    corpus = read_corpus(path, on_error="skip")
    assert sorted(corpus.train + corpus.validation) == ["a dull film", "a fine film"]
    assert corpus.left_out == (f"{path}: row 2 (line 3): empty text",)
    path.write_text("text,id\n,2\n")
    with pytest.raises(ValueError, match="no row can be used"):
        read_corpus(path, on_error="skip")
