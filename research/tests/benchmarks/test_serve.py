"""The servers that are compared start, answer and are measured."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'hyperagg[serve]'")

from hyperagg.data import load_dataset
from research.benchmarks.serve import EMPTY, EMPTY_STARLETTE, HYPERAGG, QUICK_SERVE, bench_serve


def test_every_server_answers_without_errors(tmp_path):
    results = bench_serve(load_dataset("r8"), QUICK_SERVE, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["runs"] == results["runs"]
    servers = {run["server"] for run in results["runs"]}
    assert servers >= {HYPERAGG, EMPTY, EMPTY_STARLETTE}
    for run in results["runs"]:
        assert run["requests"] > 0 and not run["errors"]
        assert 0 < run["p50_ms"] <= run["p99_ms"]
        assert min(run["memory_bytes"].values()) > 1e6
    assert set(results["ratios"][0]) >= {EMPTY, EMPTY_STARLETTE, "workers"}
    assert {path.name for path in tmp_path.iterdir()} == {"results.json"}
