"""Converted fastText models: saved, mapped, in batches, explained, quantized and exported."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

import hyperagg
from hyperagg._common.tensors import write_tensors
from hyperagg.classifier import OnnxTokenizer
from tests.classifier.interop.fasttext_files import LOSSES, write_model

TEXTS = ["a b", "", "b b c zz", "c </s> a", "a\nb", "zz zz zz"]


@pytest.fixture(params=LOSSES)
def converted(request, tmp_path):
    return request.param, write_model(tmp_path / "model.ftz", request.param)


def by_definition(loss, clf, texts):
    """Probabilities (B, C) in the order of the classes."""
    rows = clf.tokenizer_.encode(texts)
    parts = np.split(rows.token_ids, rows.cu_seqlens[1:-1])
    hidden = np.array([clf.model_.embedding[part].astype(np.float64).mean(0) for part in parts])
    z = hidden @ clf.model_.weight.astype(np.float64).T
    if loss == "softmax":
        return np.exp(z) / np.exp(z).sum(1, keepdims=True)
    if loss in ("ns", "ova"):
        return 1 / (1 + np.exp(-np.floor(z * 32) / 32))
    # Counts 5, 3, 1: the last two labels are the children of node 0, the first that of the root.
    first, second = 1 / (1 + np.exp(-z[:, 0])), 1 / (1 + np.exp(-z[:, 1]))
    assert clf.model_.tree.tolist() == [[2, 1], [3, 0]]
    return np.stack([second, (1 - second) * first, (1 - second) * (1 - first)], 1)


def test_probabilities_by_definition(converted):
    loss, file = converted
    clf = hyperagg.TextClassifier.from_fasttext(file)
    expected = by_definition(loss, clf, TEXTS)
    assert np.abs(clf.predict_proba(TEXTS) - expected).max() < 3e-5
    assert [label for ((label, _),) in clf.predict(TEXTS, top_k=1)] == [
        clf.classes_[c] for c in expected.argmax(1)
    ]
    for text, row in zip(TEXTS, clf.predict_proba(TEXTS)):
        assert np.array_equal(clf.predict_proba(text), row)


def test_saved_models_answer_the_same(converted, tmp_path):
    loss, file = converted
    clf = hyperagg.TextClassifier.from_fasttext(file)
    clf.save_pretrained(tmp_path / "saved")
    again = hyperagg.TextClassifier.from_pretrained(tmp_path / "saved")
    for mmap in (False, True):
        predictor = hyperagg.load_predictor(tmp_path / "saved", mmap=mmap)
        assert predictor.classes_ == clf.classes_ == again.classes_
        assert np.array_equal(predictor.predict_proba(TEXTS), clf.predict_proba(TEXTS))
        assert predictor.predict(TEXTS) == clf.predict(TEXTS) == again.predict(TEXTS)
        assert predictor.predict(TEXTS, threshold=0.3) == clf.predict(TEXTS, threshold=0.3)
    again.save_pretrained(tmp_path / "twice")
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        saved, twice = (tmp_path / folder / name for folder in ("saved", "twice"))
        assert saved.read_bytes() == twice.read_bytes()
    config = json.loads((tmp_path / "saved" / "config.json").read_text("utf-8"))
    assert config.get("fasttext_loss", "softmax") == loss


def test_quantized_once_more(converted, tmp_path):
    clf = hyperagg.TextClassifier.from_fasttext(converted[1])
    before = clf.predict_proba(TEXTS)
    clf.quantize().save_pretrained(tmp_path / "small")
    again = hyperagg.TextClassifier.from_pretrained(tmp_path / "small")
    assert np.array_equal(again.predict_proba(TEXTS), clf.predict_proba(TEXTS))
    assert np.abs(clf.predict_proba(TEXTS) - before).max() < 0.05
    with pytest.raises(ValueError, match="partial_fit"):
        clf.partial_fit(["a"], [clf.classes_[0]])


def test_evaluate(converted):
    loss, file = converted
    clf = hyperagg.TextClassifier.from_fasttext(file)
    predicted = clf.predict(TEXTS)
    measured = clf.evaluate(TEXTS, predicted)
    assert measured["micro_f1" if loss == "ova" else "accuracy"] == 1.0


def test_explanations(converted, monkeypatch):
    loss, file = converted
    clf = hyperagg.TextClassifier.from_fasttext(file)
    if loss == "hs":
        # A missing extra is not what is wrong.
        for module in ("torch_module", "onnx"):
            monkeypatch.setitem(sys.modules, f"hyperagg.classifier.interop.{module}", None)
        for name, call in {
            "explain": lambda: clf.explain("a b"),
            "top_features": lambda: clf.top_features(2),
            "to_torch": clf.to_torch,
            "export_onnx": lambda: clf.export_onnx("never.onnx"),
        }.items():
            with pytest.raises(ValueError, match=f"^{name}: .*hierarchical softmax"):
                call()
        return
    for text in TEXTS:
        found = clf.explain(text)
        assert np.allclose(found.bias + found.contributions.sum(0), found.logits, atol=1e-6)
        assert np.allclose(found.probabilities, clf.predict_proba(text), atol=1e-6)
        assert found.label == clf.predict(text, top_k=1)[0][0]


def test_exported_graphs_have_the_same_probabilities(converted, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="pip install 'hyperagg[onnx]'")
    loss, file = converted
    if loss == "hs":
        return  # refused, see above
    clf = hyperagg.TextClassifier.from_fasttext(file)
    clf.model_.weight[:] *= 3  # so that some logits are beyond the table of fastText
    clf.export_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    inputs = vars(clf.tokenizer_.encode(TEXTS))
    logits, found = session.run(["logits", "probabilities"], inputs)
    own = OnnxTokenizer(session.get_modelmeta().custom_metadata_map)(TEXTS)
    assert all(np.array_equal(own[name], inputs[name]) for name in inputs)
    assert loss == "softmax" or np.abs(logits).max() > 8
    assert np.abs(logits - clf.logits(TEXTS)).max() < 1e-4
    assert np.abs(found - clf.predict_proba(TEXTS)).max() < 1e-5


def test_a_fit_replaces_everything(tmp_path):
    clf = hyperagg.TextClassifier.from_fasttext(write_model(tmp_path / "model.ftz", "ns"))
    clf.fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    assert clf.predict("a good one") == "yes"
    assert np.allclose(clf.predict_proba(["good", "bad"]).sum(1), 1)


BAD_CONFIGS = {
    "an unknown loss": ({"fasttext_loss": "hinge"}, "fasttext_loss.*expected one of"),
    "not a string": ({"fasttext_loss": ["hs"]}, "fasttext_loss"),
    "one label per text": ({"fasttext_loss": "ova"}, "does not fit multi_label=False"),
    "several labels per text": ({"multi_label": True}, "does not fit multi_label=True"),
    "a tree that the model does not need": (
        {"fasttext_loss": "ns"},
        "tensor 'tree' does not belong",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_other_configurations_are_refused(tmp_path, case):
    change, message = BAD_CONFIGS[case]
    folder = tmp_path / "saved"
    clf = hyperagg.TextClassifier.from_fasttext(write_model(tmp_path / "model.ftz", "hs"))
    clf.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | change), "utf-8")
    with pytest.raises(ValueError, match=message) as error:
        hyperagg.TextClassifier.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("tree", [[[2, 1], [3, 3]], [[2, 3], [1, 0]], [[2, 1]], [[2.0, 1.0]] * 2])
def test_other_trees_are_refused(tmp_path, tree):
    folder = tmp_path / "saved"
    clf = hyperagg.TextClassifier.from_fasttext(write_model(tmp_path / "model.ftz", "hs"))
    clf.save_pretrained(folder)
    dtype = np.float32 if isinstance(tree[0][0], float) else np.int32
    arrays = clf.model_.arrays | {"tree": np.array(tree, dtype=dtype)}
    write_tensors(folder / "model.safetensors", arrays, {"format": "pt"})
    for load in (hyperagg.TextClassifier.from_pretrained, hyperagg.load_predictor):
        with pytest.raises(ValueError, match=r"model\.safetensors: damaged \(tensor tree"):
            load(folder)


def test_the_fingerprint_covers_the_tree(tmp_path):
    prints = []
    for name, counts in {"a": (5, 3, 1), "b": (5, 5, 5)}.items():
        file = write_model(tmp_path / f"{name}.ftz", "hs", counts)
        hyperagg.TextClassifier.from_fasttext(file).save_pretrained(tmp_path / name)
        prints.append(hyperagg.load_predictor(tmp_path / name).fingerprint)
    assert prints[0] != prints[1]


def test_a_server_of_a_converted_model(converted, tmp_path):
    pytest.importorskip("uvicorn", reason="needs pip install 'hyperagg[serve]'")
    from hyperagg.serve.classifier import ServedClassifier
    from hyperagg.serve.errors import RequestError
    from hyperagg.serve.requests import ExplainRequest, PredictRequest
    from hyperagg.serve.settings import Settings

    loss, file = converted
    clf = hyperagg.TextClassifier.from_fasttext(file)
    clf.save_pretrained(tmp_path / "saved")
    served = ServedClassifier("saved", "saved", tmp_path / "saved")
    served.warm_up()
    [best] = served.predict(PredictRequest(inputs="a b", top_k=1), Settings())
    assert [(best["label"], best["score"])] == clf.predict("a b", top_k=1)
    if loss == "hs":
        with pytest.raises(RequestError, match=r"^explain: .*hierarchical softmax"):
            served.explain(ExplainRequest(inputs="a b"), Settings())
