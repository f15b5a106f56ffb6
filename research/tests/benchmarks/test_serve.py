"""The servers that are compared start, answer and are measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("uvicorn", reason="needs pip install 'hyperagg[serve]'")

from hyperagg.data import load_dataset
from research.benchmarks import serve
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
        if run["server"] == HYPERAGG:
            assert run["half_load"]["p99_ms"] > 0
    assert results["soak"]["requests"] > 0 and not results["soak"]["errors"]
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "table.md"}
    table = (tmp_path / "table.md").read_text()
    assert table == serve.serve_table(results) and "10 words" in table


def test_an_interrupted_benchmark_keeps_its_measurements(tmp_path, monkeypatch):
    data = load_dataset("r8")
    effort = replace(QUICK_SERVE, servers=[HYPERAGG, EMPTY], soak_seconds=0.0)
    measured = []

    def measure(server, *_):
        if measured == [HYPERAGG]:
            raise KeyboardInterrupt
        measured.append(server)
        return {
            "requests_per_second": 100.0,
            "cpu_microseconds_per_request": 1.0,
            "p50_ms": 1.0,
            "p99_ms": 2.0,
            "errors": {},
            "half_load": {"p99_ms": 1.0},
            "memory_bytes": {"start": 1, "end": 1},
        }

    monkeypatch.setattr(serve, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        bench_serve(data, effort, tmp_path)
    measured.append("interrupted")
    results = bench_serve(data, effort, tmp_path, resume=True)
    assert [run["server"] for run in results["runs"]] == [HYPERAGG, EMPTY]
    assert measured == [HYPERAGG, "interrupted", EMPTY]
    assert "| 100 % |" in (tmp_path / "table.md").read_text()
    other = replace(effort, seconds=0.4)
    with pytest.raises(ValueError, match="measured with another seconds"):
        bench_serve(data, other, tmp_path, resume=True)
