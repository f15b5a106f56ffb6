"""The benchmark at small shapes: errors and the page. Times are not tested."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from research.benchmarks import ops as bench
from research.benchmarks.interleaved import interleaved
from research.cli import app


def test_calls_are_interleaved():
    order = []
    times = interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, budget=0)
    assert set(times) == {"a", "b"} and order.count("a") == order.count("b") == 8
    assert "".join(order[-4:]) in ("abba", "baab")


def test_slope_of_a_square_is_two():
    assert bench._slope({n: 3e-9 * n * n for n in (10, 100, 1000)}) == pytest.approx(2)


def test_wrong_sums_are_refused(monkeypatch):
    monkeypatch.setattr(bench, "cumsum", lambda x, p: (x * p).cumsum(1) + 1)
    with pytest.raises(ValueError, match="cumsum: differs"):
        bench.bench_ops(bench.QUICK)


def test_page(tmp_path, monkeypatch):
    # Compilation takes longer than the rest; the benchmark goes on if it fails.
    def compile(function, **options):
        def fail(*args):
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", compile)
    result = CliRunner().invoke(app, ["bench", "ops", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert all(t > 0 for way in results["causal"].values() for t in way.values())
    page = (tmp_path / "README.md").read_text("utf-8")
    assert (tmp_path / "table.md").read_text("utf-8") in page
    for name in ("window of 64", "nn.EmbeddingBag", "torch.cumsum", "gated", "delta rule"):
        assert f"| {name} |" in page
    forms = ("outer product", "decay per head", "decay per key", "delta rule")
    forms += ("delta rule, decay per head", "delta rule, decay per key")
    assert set(results["associative"]["seconds"]) == set(forms)
    for seconds in results["associative"]["seconds"].values():
        # The kernel beside plain PyTorch.
        for way in ("forward", "forward and backward"):
            assert seconds[f"cpu, {way}"] > 0 and seconds[f"plain, {way}"] > 0
    assert all(f"| {form} |" in page for form in forms)
    for figure in ("forms.png", "scaling.png"):
        assert f"]({figure})" in page and (tmp_path / figure).stat().st_size > 1000
