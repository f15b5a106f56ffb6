"""Hugging Face datasets: the plain answers, and a cache that works."""

from __future__ import annotations

import subprocess
import sys

import pytest

import hyperagg
from hyperagg.integrations import BatchPredictor

datasets = pytest.importorskip("datasets", reason="needs pip install 'hyperagg[datasets]'")


@pytest.mark.parametrize("format", [None, "arrow", "numpy", "pandas"])
def test_a_map_gives_the_plain_answers(folder, texts, answers, format):
    data = datasets.Dataset.from_dict({"text": texts}).with_format(format)
    out = data.map(BatchPredictor(folder), batched=True, batch_size=4).with_format(None)
    rows = [(row["label"], pytest.approx(row["score"])) for row in out]
    assert rows == answers


def test_the_fingerprint_is_the_same_in_every_process_and_changes_with_the_model(folder, tmp_path):
    code = (
        "import sys; from datasets.fingerprint import Hasher; "
        "from hyperagg.integrations import BatchPredictor; "
        "print(Hasher.hash(BatchPredictor(sys.argv[1])))"
    )
    call = [sys.executable, "-c", code, folder]
    done = subprocess.run(call, capture_output=True, text=True, check=True)
    hasher = datasets.fingerprint.Hasher
    predictor = BatchPredictor(folder)
    before = hasher.hash(predictor)
    predictor({"text": ["a"]})  # predicting changes nothing
    assert done.stdout.strip() == before == hasher.hash(predictor)
    clf = hyperagg.TextClassifier.from_pretrained(folder)
    clf.save_pretrained(tmp_path)
    copy = hasher.hash(BatchPredictor(tmp_path))
    clf.partial_fit(["good", "bad"], ["bad", "good"]).save_pretrained(tmp_path)
    assert hasher.hash(BatchPredictor(tmp_path)) != copy
