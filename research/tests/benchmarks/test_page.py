"""An exported page is opened and compared with Python."""

from __future__ import annotations

import json
from shutil import which

import pytest

pytest.importorskip("playwright", reason="needs pip install playwright")

from hyperagg import TextClassifier
from hyperagg.data import load_dataset
from research.benchmarks.page import bench_page


@pytest.mark.skipif(which("chromium") is None, reason="needs chromium: apt-get install chromium")
def test_answers_of_the_page_are_compared(tmp_path):
    data = load_dataset("r8")
    classifier = TextClassifier(d_model=8, epochs=2, refit=False)
    classifier.fit(data.train.texts[:500], data.train.labels[:500]).save_pretrained(tmp_path / "m")
    out = tmp_path / "out"
    found = bench_page(data, out, model=tmp_path / "m", max_tokens=(300,), texts=9, openings=1)
    (page,) = found["pages"]
    assert json.loads((out / "results.json").read_text("utf-8")) == found
    assert page["tokens"] == 300 and page["same_tokens"] == page["same_label"] == 9
    assert page["largest_difference"]["logit"] < 1e-4
