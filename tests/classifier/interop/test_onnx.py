"""The exported file computes what the classifier computes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hyperagg
from hyperagg import TextClassifier
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier.model import ClassifierModel
from hyperagg.text import Ragged, WordTokenizer

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from hyperagg.classifier.interop import onnx as onnx_export  # noqa: E402


@pytest.fixture(scope="module")
def data():
    return hyperagg.load_dataset("r8")


@pytest.fixture(scope="module", params=["harmonic", "mean"])
def trained(request, data):
    clf = TextClassifier(d_model=32, epochs=3, pooling=request.param)
    return clf.fit(data.train.texts[::2], data.train.labels[::2])


@pytest.fixture(scope="module")
def harmonic(data):
    return TextClassifier(d_model=16, epochs=2).fit(data.train.texts[::8], data.train.labels[::8])


def session(source, threads=0):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    source = source if isinstance(source, bytes) else str(source)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(runtime, rows):
    return runtime.run(None, vars(rows))  # as `tokenizer.encode` returns them


def export(clf, tmp_path):
    clf.export_onnx(file := tmp_path / "model.onnx")
    return session(file)


def check(clf, runtime, texts):
    logits, probabilities = run(runtime, clf.tokenizer_.encode(texts))
    assert logits.dtype == probabilities.dtype == np.float32
    assert logits.shape == probabilities.shape == (len(texts), len(clf.classes_))
    np.testing.assert_allclose(logits, clf.logits(texts), rtol=0, atol=1e-5)
    np.testing.assert_allclose(probabilities, clf.predict_proba(texts), rtol=0, atol=1e-5)


def test_all_texts_at_once_and_each_alone(trained, data, tmp_path):
    runtime = export(trained, tmp_path)
    check(trained, runtime, data.test.texts)
    for text in data.test.texts[:100]:
        check(trained, runtime, [text])


@pytest.mark.parametrize("texts", [[], [""], ["", "", ""], ["", "oil", "", "", "oil oil", ""]])
def test_texts_without_tokens(trained, tmp_path, texts):
    check(trained, export(trained, tmp_path), texts)


def test_a_very_long_text(trained, data, tmp_path):
    check(trained, export(trained, tmp_path), ["crude", " ".join(data.test.texts[:500]), ""])


def test_several_labels_per_text(data, tmp_path):
    labels = [
        [label] * (label != "earn") + ["long"] * (len(text) > 500)
        for text, label in zip(data.train.texts, data.train.labels)
    ]
    clf = TextClassifier(d_model=16, epochs=2).fit(data.train.texts[::4], labels[::4])
    check(clf, export(clf, tmp_path), data.test.texts)


def test_a_quantized_embedding_stays_quantized(data, tmp_path):
    clf = TextClassifier(d_model=32, epochs=2).fit(data.train.texts[::4], data.train.labels[::4])
    clf.export_onnx(tmp_path / "large.onnx")
    clf.quantize().export_onnx(tmp_path / "small.onnx")
    large, small = ((tmp_path / f"{name}.onnx").stat().st_size for name in ("large", "small"))
    assert small < 0.4 * large  # of which the vocabulary is a third
    check(clf, session(tmp_path / "small.onnx"), [*data.test.texts, ""])
    clf.save_pretrained(tmp_path / "folder")
    TextClassifier.from_pretrained(tmp_path / "folder").export_onnx(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "small.onnx").read_bytes()


@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
def test_max_tokens(data, tmp_path, pooling):
    clf = TextClassifier(d_model=8, epochs=1, max_tokens=37, pooling=pooling)
    clf.fit(data.train.texts[:400], data.train.labels[:400])
    check(clf, export(clf, tmp_path), [*data.test.texts[:300], "", "oil"])


def test_the_number_of_threads_does_not_change_the_result(harmonic, data, tmp_path):
    harmonic.export_onnx(tmp_path / "model.onnx")
    rows = harmonic.tokenizer_.encode(data.test.texts)
    for threads in (1, 4):
        runtime = session(tmp_path / "model.onnx", threads)
        for _ in range(3):
            np.testing.assert_allclose(
                run(runtime, rows)[0], harmonic.logits(data.test.texts), rtol=0, atol=1e-5
            )


VOCAB_SIZE, CLASSES, D = 11, 3, 5
TOKENIZER = WordTokenizer(["[UNK]", *map(str, range(VOCAB_SIZE - 1))])


def random_model(pooling, blocks=16):
    rng = np.random.default_rng(1)
    # Every block has another vector, so that a token in the wrong block is noticed.
    shapes = (VOCAB_SIZE, D), (blocks, D), (CLASSES, D), (CLASSES,)
    model = ClassifierModel(*(rng.normal(size=s).astype(np.float32) for s in shapes), pooling)
    built = onnx_export.build(model, None, LabelDecoder(["a", "b", "c"]), None, TOKENIZER)
    return model, built


MODELS = {pooling: random_model(pooling) for pooling in ("harmonic", "mean")}
SESSIONS = {k: session(built.SerializeToString(), 1) for k, (_, built) in MODELS.items()}


def ragged(lengths, seed):
    boundaries = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    ids = np.random.default_rng(seed).integers(0, VOCAB_SIZE, boundaries[-1], dtype=np.int32)
    return Ragged(ids, boundaries)


def check_random(model, runtime, rows):
    np.testing.assert_allclose(run(runtime, rows)[0], model.logits(rows), rtol=1e-5, atol=1e-5)


LENGTHS = st.lists(st.one_of(st.integers(0, 40), st.integers(0, 700)), max_size=8)


@pytest.mark.parametrize("pooling", MODELS)
@given(lengths=LENGTHS, seed=st.integers(0, 99))
def test_any_rows(pooling, lengths, seed):
    rows = ragged(lengths, seed)
    check_random(MODELS[pooling][0], SESSIONS[pooling], rows)


@pytest.mark.parametrize("blocks", [1, 2, 5, 6, 16])
@pytest.mark.parametrize("pooling", ["harmonic", "mean"])
def test_every_boundary_of_a_block(pooling, blocks):
    model, built = random_model(pooling, blocks)
    lengths = [2**k + shift for k in range(17) for shift in (-2, -1, 0, 1)]
    rows = ragged([*range(70), *(n for n in lengths if n >= 0)], 0)
    check_random(model, session(built.SerializeToString()), rows)


@pytest.mark.parametrize("pooling", MODELS)
@pytest.mark.parametrize("lengths", [[], [0], [0, 3, 0, 300, 17, 0]])
def test_the_reference_implementation_of_onnx_agrees(pooling, lengths):
    model, built = MODELS[pooling]
    onnx.checker.check_model(built, full_check=True)
    rows = ragged(lengths, 2)
    check_random(model, ReferenceEvaluator(built), rows)


@pytest.mark.parametrize("labels", [["no", "ja ✓"], [3, 40]])
def test_the_labels_are_in_the_metadata(tmp_path, labels):
    clf = TextClassifier(d_model=4, epochs=1).fit(["a b", "c d"] * 9, labels * 9)
    clf.quantize().export_onnx(str(tmp_path / "deep" / "model.onnx"))
    onnx.checker.check_model(str(tmp_path / "deep" / "model.onnx"), full_check=True)
    runtime = session(tmp_path / "deep" / "model.onnx")
    found = runtime.get_modelmeta().custom_metadata_map
    assert json.loads(found["classes"]) == clf.classes_
    assert json.loads(found["multi_label"]) is False
    assert [x.name for x in runtime.get_inputs()] == ["token_ids", "cu_seqlens"]
    assert [x.name for x in runtime.get_outputs()] == ["logits", "probabilities"]


def test_what_cannot_be_exported_is_refused(harmonic, tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        TextClassifier().export_onnx(tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        harmonic.export_onnx(tmp_path)
    assert not list(tmp_path.iterdir())


def test_too_large_for_one_file(harmonic, tmp_path, monkeypatch):
    (tmp_path / "model.onnx").write_bytes(b"before")
    monkeypatch.setattr(onnx_export, "_MAX_BYTES", 1000)
    with pytest.raises(ValueError, match=r"GB; expected at most 2\.1 GB, .*call quantize"):
        harmonic.export_onnx(tmp_path / "model.onnx")
    assert [f.read_bytes() for f in tmp_path.iterdir()] == [b"before"]


def test_without_the_package(harmonic, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.delitem(sys.modules, "hyperagg.classifier.interop.onnx")
    monkeypatch.delitem(sys.modules, "hyperagg._common.onnx_graph")
    monkeypatch.delattr(hyperagg.classifier.interop, "onnx")
    with pytest.raises(ImportError, match=r"pip install 'hyperagg\[onnx\]'$"):
        harmonic.export_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("boundaries", [[0, 2], [0, 4], [0], [0, 0]])
def test_boundaries_that_do_not_match_the_ids_are_refused(boundaries):
    rows = Ragged(np.array([1, 2, 3], np.int32), np.array(boundaries))
    with pytest.raises(Exception, match=r"[Rr]eshape"):
        run(SESSIONS["harmonic"], rows)
