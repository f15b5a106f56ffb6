"""The benchmark of numbers of threads on a few rows. Times are not tested."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from hyperagg.data import Split
from research.benchmarks import scaling
from research.benchmarks.scaling import QUICK_SCALING, bench_scaling, write_scaling_page

needs_affinity = pytest.mark.skipif(sys.platform != "linux", reason="pins processes to cores")


@needs_affinity
def test_a_few_rows_fill_the_page(tmp_path):
    texts = ["good film", "bad film"] * 40
    split = Split(texts, ["yes", "no"] * 40)
    data = SimpleNamespace(name="films", train=split)
    results = bench_scaling([data], (1, 3), QUICK_SCALING)
    write_scaling_page(tmp_path, results)
    row = json.loads((tmp_path / "results.json").read_text("utf-8"))["rows"][0]
    assert list(row["seconds"]) == list(row["seconds_on_busy_cores"]) == ["1", "3"]
    # Two blocks of at least 16 documents and at most 80; two joins each.
    assert 2 <= row["account"]["joins"] <= 10
    assert "films, words" in (tmp_path / "README.md").read_text("utf-8")


def test_more_cores_never_take_longer_in_the_estimate():
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in rng.integers(0, 99, 40)) for _ in range(400)]
    data = SimpleNamespace(name="words", train=Split(texts, ["a", "b"] * 200))
    times = {1: {"run": 3.0, "epochs": 2.0}}
    account = scaling._account(data, {"max_ngrams": 0}, times, 0.0, QUICK_SCALING)
    estimate = list(account["estimate"].values())
    assert estimate[0] == pytest.approx(3.0)
    assert estimate == sorted(estimate, reverse=True) and estimate[-1] >= 1.0


def test_the_serial_part_follows_from_one_and_two_threads(monkeypatch):
    monkeypatch.setattr(scaling, "usable_cpus", lambda: 2)
    times = {1: {"run": 5.0, "epochs": 4.0}, 2: {"run": 2.7, "epochs": 2.0}}
    assert scaling._outside_epochs(times) == pytest.approx((0.4, 0.6))
    assert scaling._outside_epochs({1: times[1]}) == (1.0, 0.0)
