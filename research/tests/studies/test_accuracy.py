"""The table of accuracies by data set."""

from __future__ import annotations

import json
from concurrent.futures import Future

from research.studies import parallel_sets
from research.studies.accuracy import write_accuracy


def test_the_table_has_a_row_per_data_set_and_a_column_per_model(tmp_path):
    def model(accuracy: list[float], seconds: float) -> dict[str, object]:
        return {"accuracy": accuracy, "fit_seconds": seconds}

    results = {
        "r8": {
            "rows": {"train": 5485},
            "models": {"aggregation": model([0.97, 0.98], 8.24), "tfidf": model([0.975], 2.0)},
        },
        "mr": {"rows": {"train": 7108}, "models": {"aggregation": model([0.78], 1.0)}},
    }
    write_accuracy(tmp_path, results)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert (tmp_path / "table.md").read_text().splitlines() == [
        "| dataset | training rows | aggregation | tfidf |",
        "|---|---:|---:|---:|",
        "| r8 | 5,485 | 97.50 ± 0.71 (8.2 s) | 97.50 (2.0 s) |",
        "| mr | 7,108 | 78.00 (1.0 s) |  |",
    ]


class Inline:
    """An executor that does all work at once, in this process."""

    def __init__(self, *_):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, work, name):
        future = Future()
        future.set_result(work(name))
        return future


def test_results_are_written_after_each_data_set(monkeypatch):
    monkeypatch.setattr(parallel_sets, "ProcessPoolExecutor", Inline)
    written = []
    found = parallel_sets.measure_sets(str.upper, ["b", "a"], 1, written.append)
    assert found == {"b": "B", "a": "A"} and list(found) == ["b", "a"]
    assert [len(each) for each in written] == [1, 2] and written[-1] == found
