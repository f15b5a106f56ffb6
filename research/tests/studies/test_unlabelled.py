"""What texts without labels add, on made-up texts."""

from __future__ import annotations

from hyperagg._common.runs import Runs
from hyperagg.data import Dataset, Split
from research.studies.unlabelled import measure_gain, unlabelled_table

WORDS = ("good", "bad", "film", "play", "cast", "plot")


def split(rows: int) -> Split:
    texts = [f"{WORDS[i % 2]} {WORDS[2 + i % 4]} {WORDS[2 + i % 3]}" for i in range(rows)]
    return Split(texts, [WORDS[i % 2] for i in range(rows)])


def test_every_size_is_measured_and_a_finished_run_is_kept(tmp_path):
    data = Dataset("films", split(60), split(20), "")
    runs = Runs(tmp_path / "runs.json", "s", False)
    found = measure_gain(data, (10, 20, 500), 2, runs)
    assert list(found) == ["10", "20"]  # there are no 500 training texts
    assert all(len(cell[m]) == 2 for cell in found.values() for m in ("labelled", "unlabelled"))
    kept = Runs(tmp_path / "runs.json", "s", True)
    kept.add("10 0", {"labelled": 0.25, "unlabelled": 0.75})
    again = measure_gain(data, (10,), 1, kept)
    assert again == {"10": {"labelled": [0.25], "unlabelled": [0.75]}}
    table = unlabelled_table({"accuracy": {"films": again}, "rows": {"films": 60}})
    assert table.splitlines()[-1] == "| films | 10 | 50 | 25.00 | 75.00 | +50.00 |"
