"""A loaded predictor gives the bits of the classifier that was saved."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import hyperagg
from hyperagg.classifier.predictor import load_predictor

TEXTS = ["up up high", "down low", "up high", "low down low", "UP, ΣΑΣ!", ""]


def trained(multi_label=False, **config):
    labels = [("u", "x") if multi_label else "u", ("d",) if multi_label else "d"] * 2
    clf = hyperagg.TextClassifier(d_model=8, epochs=3, **config)
    return clf.fit(TEXTS[:4] * 5, labels * 5)


CASES = {
    "one label": lambda: trained(),
    "multi-label": lambda: trained(multi_label=True),
    "int8": lambda: trained().quantize(max_tokens=5),
    "mean": lambda: trained(pooling="mean"),
    "truncated": lambda: trained(max_tokens=2),
}


@pytest.mark.parametrize("case", CASES)
def test_a_saved_classifier_predicts_the_same_bits(case, tmp_path):
    clf = CASES[case]()
    clf.save_pretrained(tmp_path)
    predictor = load_predictor(tmp_path)
    np.testing.assert_array_equal(predictor.logits(TEXTS), clf.logits(TEXTS))
    np.testing.assert_array_equal(predictor.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert predictor.predict(TEXTS) == clf.predict(TEXTS)
    assert predictor.classes_ == clf.classes_


@pytest.mark.parametrize("case", CASES)
def test_a_text_does_not_depend_on_its_batch(case):
    predictor = CASES[case]().predictor
    together = predictor.logits(TEXTS)
    alone = [predictor.logits([text])[0] for text in TEXTS]
    np.testing.assert_array_equal(alone, together)


def test_predicting_imports_no_heavy_library(tmp_path):
    trained().save_pretrained(tmp_path)
    code = """
import sys
from hyperagg.classifier import load_predictor
print(load_predictor(sys.argv[1]).predict("up high"))
heavy = "torch", "sklearn", "pyarrow", "rich", "hyperagg.classifier.training.loop"
print([name for name in heavy if name in sys.modules])
"""
    call = [sys.executable, "-c", code, tmp_path]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.stdout == "u\n[]\n", done.stderr


def test_predictions_follow_changes_of_the_parameters():
    clf = trained()
    before = clf.logits(TEXTS)
    clf.model_.bias += 1
    np.testing.assert_allclose(clf.logits(TEXTS), before + 1, rtol=1e-6, atol=1e-6)


def test_a_pickle_does_not_grow_by_predicting():
    clf = trained()
    fresh = len(pickle.dumps(clf))
    want = clf.logits(TEXTS)
    assert len(pickle.dumps(clf)) == fresh
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clf)).logits(TEXTS), want)


def test_any_number_of_threads():
    clf = trained()
    texts = [" ".join(TEXTS[:4][: i % 5]) for i in range(400)]
    want = clf.logits(texts)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda text: clf.logits([text])[0], texts))
    np.testing.assert_array_equal(got, want)
