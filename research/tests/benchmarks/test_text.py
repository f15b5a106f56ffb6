"""The benchmark on a few rows: comparisons, errors, the page. Times are not tested."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import hyperagg
from hyperagg.data import Dataset, Split
from hyperagg.text import WordTokenizer
from research.benchmarks import text as bench
from research.benchmarks.interleaved import interleaved, interleaved_items, torch_threads
from research.benchmarks.text import QUICK_TEXT, bench_text
from research.cli import app

pytest.importorskip("fasttext")


@pytest.fixture(scope="module")
def newswires():
    return hyperagg.load_dataset("r8")


def test_items_are_interleaved():
    order = []
    times = interleaved_items(
        {"a": lambda i: order.append(f"a{i}"), "b": lambda i: order.append(f"b{i}")}, 3
    )
    assert order == ["a0", "b0", "b1", "a1", "a2", "b2"]
    assert all(t >= 0 for t in times.values())


def test_number_of_rounds():
    calls = []
    interleaved({"a": lambda: calls.append(1)}, budget=0, rounds=2)
    assert len(calls) == 3  # one of them is the warm-up


def test_fasttext_reads_the_same_words(newswires, tmp_path):
    texts = ["Oil PRICES rose 3%, it said.", "", "été\u00a0“naïf”\nlow_line"]
    split = Split([*texts, *newswires.train.texts[:50]], ["a", "b", "a", *["b"] * 50])
    fasttext = bench._FastText(split, tmp_path)
    lines = fasttext.file.read_text("utf-8").split("\n")[:-1]
    assert len(lines) == len(split)
    tokenizer = WordTokenizer.train(split.texts)
    rows = tokenizer.encode(split.texts)
    ours = [
        [tokenizer.vocabulary[i] for i in rows.token_ids[a:b]]
        for a, b in zip(rows.cu_seqlens, rows.cu_seqlens[1:])
    ]
    assert sorted(line.split()[1:] for line in lines) == sorted(ours)
    assert fasttext.words == len(rows.token_ids)


def test_single_and_batch_prediction_agree(newswires, tmp_path):
    part = bench._some(newswires.train, 200)
    fasttext = bench._FastText(part, tmp_path)
    model = fasttext.fit(2, 1)
    lines = [bench._line(text) for text in [*newswires.test.texts[:50], ""]]
    many = fasttext.predict(model, lines)
    assert many == [fasttext.predict_one(model, line) for line in lines]
    assert set(many) <= set(part.labels)


def test_threads_are_restored(newswires):
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise ZeroDivisionError
    assert torch.get_num_threads() == before


def test_epochs_are_the_smallest_sufficient_number(newswires):
    largest = {"earn", "acq"}
    rows = np.array([i for i, y in enumerate(newswires.train.labels) if y in largest])
    train = bench._take(newswires.train, rows[:300])
    found = bench._equal_accuracy("r8", train, QUICK_TEXT)
    ours, target = found["held_out"]["hyperagg"], max(found["held_out"]["fastText"])
    assert max(ours) >= target > 0.8
    assert all(accuracy < target for accuracy in ours[:-1]) and found["epochs"] == len(ours)


def test_errors_name_the_argument(newswires):
    multi_label = Split(["a b", "c d"], [("x",), ("x", "y")])
    with pytest.raises(ValueError, match="dataset='s': expected one label per text"):
        bench_text([Dataset("s", multi_label, multi_label, "")])
    few = Split(["a b", "c d"], ["x", "y"])
    with pytest.raises(ValueError, match="dataset='few': too few"):
        bench._equal_accuracy("few", few, QUICK_TEXT)
    for threads in ("0", "two", ""):
        result = CliRunner().invoke(app, ["bench", "text", "--threads", threads])
        assert "--threads" in str(result.exception)


def test_page(tmp_path):
    asked = ["bench", "text", "--quick", "--datasets", "r8", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert [(r["features"], r["threads"]) for r in results["training"]] == [
        ("words", 1), ("n-grams", 1), ("words", 2), ("n-grams", 2),
    ]  # fmt: skip
    for row in (*results["training"], *results["prediction"], *results["equal_accuracy"]):
        assert all(t > 0 for t in row["seconds"].values())
    for row in results["prediction"]:
        assert all(t > 0 for t in row["seconds_per_single_text"].values())
    page = (tmp_path / "README.md").read_text("utf-8")
    table = (tmp_path / "table.md").read_text("utf-8")
    assert table in page and table.strip() in result.output
    assert "| r8, words, 1 thread |" in page and "| r8, 2 threads |" in page
    assert "](ratios.png)" in page and (tmp_path / "ratios.png").stat().st_size > 1000
