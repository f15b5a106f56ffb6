"""The benchmark of converted fastText models on a few texts. Times are not tested."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from hyperagg.data import Split
from research.benchmarks.fasttext_files import QUICK_FILES, bench_fasttext_files


@pytest.mark.filterwarnings("ignore")  # of fastText
def test_every_model_has_the_labels_of_fasttext(tmp_path):
    pytest.importorskip("fasttext", reason="pip install 'hyperagg[baselines]'")
    rows = Split(["a good\nfilm", "a bad film", "no film"] * 40, ["yes", "no", "none"] * 40)
    data = SimpleNamespace(name="films", train=rows, test=rows)
    bench_fasttext_files(data, [], QUICK_FILES, tmp_path)
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert list(results["models"]) == ["hs.bin", "ns.bin", "softmax.bin"]
    assert "| ns.bin | " in (tmp_path / "table.md").read_text("utf-8")
    for model in results["models"].values():
        assert model["other_labels"] == 0 and model["classes"] == 3
        assert set(model["documents_per_second"]) == {"fasttext", "hyperagg"}
