"""Speed of denoisers, on tiny ones."""

from __future__ import annotations

import json

from research.benchmarks import diffusion


def test_both_mixers_are_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(diffusion, "STEPS", 1)
    monkeypatch.setattr(diffusion, "BATCH_SIZE", 1)
    results = diffusion.bench_denoisers(tmp_path, patch_sizes=(7, 14), d_model=8, layers=1)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert [row["tokens"] for row in results["measured"]] == [16, 4]
    for row in results["measured"]:
        for what in ("training_step", "sample"):
            assert set(row[what]) == {"aggregation", "attention"} and min(row[what].values()) > 0
    table = (tmp_path / "table.md").read_text()
    assert table.count("\n") == 4 and "| 7 × 7 | 16 |" in table
