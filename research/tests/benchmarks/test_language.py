"""The benchmark at small shapes: equal models, errors, the page. Times are not tested."""

from __future__ import annotations

import json
import re

import pytest
import torch
from typer.testing import CliRunner

pytest.importorskip("transformers")

from research.benchmarks import language as bench
from research.cli import app

QUICK = bench.QUICK_LANGUAGE


@pytest.fixture
def models():
    torch.manual_seed(0)
    return bench._models(QUICK)


def test_models_have_equal_sizes(models):
    target = models[bench.ATTENTION].num_parameters()
    # One unit of the feed-forward layers is the smallest change.
    unit = 2 * QUICK.d * QUICK.layers
    for model in models.values():
        assert abs(model.num_parameters() - target) <= unit / 2


def test_attention_is_fused_and_has_no_mask(models, monkeypatch):
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention

    def record(*args, **kwargs):
        calls.append((kwargs.get("attn_mask"), kwargs.get("is_causal")))
        return fused(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    bench._training_step(models[bench.ATTENTION], 16, QUICK)()
    bench._mixer_step(models[bench.ATTENTION], 16, QUICK)()
    assert calls == [(None, True)] * (QUICK.layers + 1)


def test_a_mixer_step_computes_all_gradients(models):
    for name in (*bench.SUMS, bench.ATTENTION):
        gradients = bench._mixer_step(models[name], 16, QUICK)()
        assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_bytes_count_whole_storages(models):
    _, cache = bench._with_cache(bench.ATTENTION, models, 100)
    bench._fill(cache, 30, models[bench.ATTENTION].config)
    assert bench._bytes(cache) == QUICK.layers * 2 * 30 * QUICK.d * 4
    cache.layers[0].keys = cache.layers[0].keys[:, :, :1]
    assert bench._bytes(cache) == QUICK.layers * 2 * 30 * QUICK.d * 4


def test_decoding_that_differs_is_not_timed(models, monkeypatch):
    def forgetful(model, ids, chunk, cache=None):
        return prefill(model, ids[:, :-1], chunk, cache)

    prefill = bench._prefill
    monkeypatch.setattr(bench, "_prefill", forgetful)
    for name in (*bench.SUMS, bench.ATTENTION, bench.STATIC_CACHE):
        with pytest.raises(ValueError, match=re.escape(f"{name}: decoding differs")):
            bench._check_parity(name, models, QUICK)


def test_slope_is_of_logarithms():
    assert bench._slope([(n, 3e-9 * n**0.5) for n in (10, 100, 1000)]) == pytest.approx(0.5)


def test_invalid_threads():
    result = CliRunner().invoke(app, ["bench", "lm", "--threads", "two"])
    assert "--threads two" in str(result.exception)


def test_page(tmp_path):
    asked = ["bench", "lm", "--quick", "--threads", "1,2", "--out", str(tmp_path)]
    result = CliRunner().invoke(app, asked)
    assert result.exit_code == 0, result.output
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    names = {*bench.SUMS, bench.ATTENTION, bench.FEED_FORWARD}
    assert names == set(results["models"])
    assert [row["threads"] for row in results["training"]] == [1, 2]
    for part, sides in (("training", names), ("mixers", names - {bench.FEED_FORWARD})):
        for row in results[part]:
            assert (
                set(row["seconds"]) == set(row["slopes"]) == set(row["slopes_at_large_n"]) == sides
            )
            for times in row["seconds"].values():
                assert [n for n, _ in times] == list(QUICK.lengths)
                assert all(seconds > 0 for _, seconds in times)
    assert [row["context"] for row in results["decoding"]] == [*QUICK.contexts] * 2
    for row in results["decoding"]:
        assert set(row["milliseconds"]) == set(row["bytes"]) == names | {bench.STATIC_CACHE}
        assert set(row["prefill_seconds"]) == set(bench.SUMS)
        # 2 D sums in float32 and a counter per layer, at every context.
        assert row["bytes"][bench.GATED] == QUICK.layers * (8 * QUICK.d + 8)
        # 8 heads of D² / 64 pairs, the counter, and 3 inputs of the convolutions of q, k and v.
        pairs = 4 * (QUICK.d**2 // 8 + 3 * 3 * QUICK.d) + 8
        assert row["bytes"][bench.ASSOCIATIVE] == QUICK.layers * pairs
        assert row["bytes"][bench.ATTENTION] == QUICK.layers * 2 * row["context"] * QUICK.d * 4
    page = (tmp_path / "README.md").read_text("utf-8")
    for table in ("training.md", "mixers.md", "decoding.md"):
        assert (tmp_path / table).read_text("utf-8") in page
    for name in ("associative", "gated + associative"):
        assert f"| {name} |" in page and f" {name}, tokens/s |" in page and f" {name}, ms |" in page
    assert "| 64, 2 threads |" in page and "| slope, 1 thread |" in page
    assert "](speed.png)" in page and (tmp_path / "speed.png").stat().st_size > 1000
