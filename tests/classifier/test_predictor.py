"""What predicts without PyTorch is what the PyTorch module is."""

from __future__ import annotations

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import hyperagg
from hyperagg.classifier.predictor import load_predictor

TEXTS = ["up up high", "down low", "up high", "low down low", "UP, ΣΑΣ!", ""]


def trained(several=False, **config):
    labels = [("u", "x") if several else "u", ("d",) if several else "d"] * 2
    clf = hyperagg.TextClassifier(d_model=8, epochs=3, **config)
    return clf.fit(TEXTS[:4] * 5, labels * 5)


CASES = {
    "one label": lambda: trained(),
    "several labels": lambda: trained(several=True),
    "8 bits": lambda: trained().quantize(max_tokens=5),
    "a mean": lambda: trained(pooling="mean"),
    "cut": lambda: trained(max_tokens=2),
    "a rival": lambda: trained(mixer="attention"),
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
def test_a_text_alone_is_what_it_is_among_others(case):
    predictor = CASES[case]().predictor
    together = predictor.logits(TEXTS)
    alone = [predictor.logits([text])[0] for text in TEXTS]
    if case == "a rival":
        np.testing.assert_allclose(alone, together, atol=1e-5)
    else:
        np.testing.assert_array_equal(alone, together)


def test_no_torch(tmp_path):
    trained().save_pretrained(tmp_path / "model")
    (tmp_path / "a.csv").write_text("text\nup high\n")
    code = """
import sys
from hyperagg.cli import main
try:
    main()
finally:
    print([name for name in ("torch", "sklearn", "pyarrow") if name in sys.modules])
"""
    call = [sys.executable, "-c", code, "predict", tmp_path / "model", tmp_path / "a.csv"]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.stdout == "u\n[]\n", done.stderr


CHANGES = {
    "in place": lambda model: model.head.bias.data.add_(1),
    "a parameter": lambda model: setattr(model.head, "bias", torch.nn.Parameter(torch.ones(2))),
    "a layer": lambda model: setattr(model, "head", torch.nn.Linear(8, 2)),
    "data": lambda model: setattr(model.embedding, "data", model.embedding.data + 1),
    "all": lambda model: model.load_state_dict(
        {name: tensor * 2 for name, tensor in model.state_dict().items()}, assign=True
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_predictions_follow_the_module(change):
    clf = trained()
    before = clf.logits(TEXTS)
    CHANGES[change](clf.model)
    rows = clf.tokenizer.encode(TEXTS)
    want = clf.model(torch.from_numpy(rows.token_ids), torch.from_numpy(rows.cu_seqlens))
    np.testing.assert_allclose(clf.logits(TEXTS), want.detach(), rtol=1e-6, atol=1e-5)
    assert not np.allclose(clf.logits(TEXTS), before)


def test_a_pickle_holds_the_weights_once():
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
