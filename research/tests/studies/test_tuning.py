"""What `tune` selects, on made-up texts."""

from __future__ import annotations

import pytest

from hyperagg.data import Dataset, Split
from research.studies.tuning import measure_choice, tuning_table

pytest.importorskip("optuna", reason="pip install 'hyperagg[tune]'")

WORDS = ("good", "bad", "film", "play", "cast", "plot")


def split(rows: int) -> Split:
    texts = [f"{WORDS[i % 2]} {WORDS[2 + i % 4]} {WORDS[2 + i % 3]}" for i in range(rows)]
    return Split(texts, [WORDS[i % 2] for i in range(rows)])


def test_the_best_trial_and_the_default_are_measured_on_test_rows(monkeypatch):
    monkeypatch.setattr("hyperagg.classifier.config.MIN_STEPS", 100)
    data = Dataset("films", split(80), split(20), "")
    run = measure_choice(data, 60, 2, 0)
    assert len(run["trials"]) == 2
    assert run["test"]["default"] == 1.0 and 0 <= run["test"]["best"] <= 1
    assert run == measure_choice(data, 60, 2, 0) | {"trials": run["trials"]}  # but for the time


def test_the_table_shows_what_was_trained():
    def run(selected, compared):
        trials = [{"score": 0.9}, {"score": 0.95}]
        test = {"default": 0.8, "best": 0.81}
        return {
            "trials": trials,
            "best_trial": int(compared is not None),
            "selected_trial": selected,
            "comparison": compared,
            "test": test,
        }

    compared = {"difference": 0.02, "standard_error": 0.01, "num_rows": 2000}
    table = tuning_table({"runs": {"r8": [run(1, compared), run(0, compared), run(0, None)]}})
    assert table.splitlines()[2:] == [
        "| r8 | 0 | +5.00 | +2.00 | 1.00 | 2,000 | trial 1 | 80.00 | +1.00 |",
        "| r8 | 1 | +5.00 | +2.00 | 1.00 | 2,000 | the default | 80.00 | +1.00 |",
        "| r8 | 2 | +0.00 | – | – | – | the default | 80.00 | +1.00 |",
        "| mean of 2 |  | +5.00 | +2.00 |  |  |  |  | +1.00 |",
    ]
