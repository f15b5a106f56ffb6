"""The documents of the benchmark of hyperagg predict."""

from __future__ import annotations

import json

from research.benchmarks.predict import write_documents

TEXTS = ["a fine film of old", "a dull film of late"] * 10


def test_documents_do_not_depend_on_their_number(tmp_path):
    for number in (3, 5):
        write_documents(tmp_path / f"{number}.jsonl", TEXTS, number, 4)
    few, many = [(tmp_path / f"{n}.jsonl").read_text().splitlines() for n in (3, 5)]
    assert many[:3] == few
    assert [len(json.loads(line)["text"].split()) for line in many] == [4] * 5
