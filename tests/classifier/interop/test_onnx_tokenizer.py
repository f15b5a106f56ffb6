"""An exported graph and the tokenizer in it answer as the classifier; no other tokenizer does."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import hyperagg
from hyperagg import TextClassifier
from hyperagg.classifier import OnnxTokenizer
from hyperagg.cli import app
from hyperagg.text import read_tokenizer

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
tokenizers = pytest.importorskip("tokenizers")

PAGE = Path(__file__).parents[3] / "docs" / "onnx.md"
SMALL = dict(d_model=16, epochs=2, refit=False)


def load(name):
    try:
        return hyperagg.load_dataset(name)
    except ValueError as error:
        pytest.skip(f"{name} is not available: {error}")


def opened(file):
    session = onnxruntime.InferenceSession(file)
    return session, session.get_modelmeta().custom_metadata_map


def by_command(clf, tmp_path):
    """Save a classifier and export it; return the session, its metadata and tokenizer.json."""
    clf.save_pretrained(tmp_path / "model")
    file = tmp_path / "model.onnx"
    ran = CliRunner().invoke(app, ["export", str(tmp_path / "model"), str(file)])
    assert ran.exit_code == 0, ran.output
    return *opened(file), tmp_path / "model" / "tokenizer.json"


def check_all(clf, session, metadata, texts):
    """Every text has the logits of the classifier, and its labels."""
    tokenizer = OnnxTokenizer(metadata)
    logits, probabilities = session.run(None, tokenizer(texts))
    assert np.abs(logits - clf.logits(texts)).max() < 1e-4
    assert (tokenizer.classes, tokenizer.multi_label) == (clf.classes_, clf.multi_label_)
    if clf.multi_label_:
        found = [
            tuple(tokenizer.classes[k] for k in np.flatnonzero(row > tokenizer.threshold))
            for row in probabilities
        ]
        assert found == clf.predict(texts)
    else:
        assert [tokenizer.classes[k] for k in logits.argmax(1)] == clf.predict(texts)


@pytest.mark.parametrize("features", ["words", "ngrams", "chars"])
@pytest.mark.parametrize("name", ["r8", "wisesight"])
def test_all_test_rows_are_answered_alike(name, features, tmp_path):
    data = load(name)
    clf = TextClassifier(**SMALL, features=features, max_ngrams=30_000)
    clf.fit(data.train.texts[::4], data.train.labels[::4])
    session, metadata, saved = by_command(clf, tmp_path)
    check_all(clf, session, metadata, data.test.texts)
    # The library has no such n-grams and splits otherwise: it must not read these files.
    for read, source in (
        (tokenizers.Tokenizer.from_file, str(saved)),
        (tokenizers.Tokenizer.from_str, metadata["tokenizer"]),
    ):
        with pytest.raises(Exception, match=r"expected|missing"):
            read(source)


def test_several_labels_and_a_quantized_embedding(tmp_path):
    data = load("r8")
    labels = [
        [label] * (label != "earn") + ["long"] * (len(text) > 500)
        for text, label in zip(data.train.texts, data.train.labels)
    ]
    clf = TextClassifier(**SMALL).fit(data.train.texts[::4], labels[::4])
    session, metadata, _ = by_command(clf.quantize(max_tokens=3000), tmp_path)
    assert OnnxTokenizer(metadata).threshold == clf.history_.threshold != 0.5
    check_all(clf, session, metadata, data.test.texts)


def test_the_metadata_identify_tokenizer_json(tmp_path):
    clf = TextClassifier(**SMALL).fit(["gut ✓", "böse ✗"] * 20, [1, 0] * 20)
    _, metadata, saved = by_command(clf, tmp_path)
    assert metadata["tokenizer_sha256"] == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert metadata["hyperagg_version"] == hyperagg.__version__
    tokenizer = OnnxTokenizer(metadata)
    assert tokenizer.tokenizer.vocabulary == clf.tokenizer_.vocabulary
    one = tokenizer("gut ✓")
    assert (one["token_ids"].dtype, one["cu_seqlens"].tolist()[0]) == (np.int32, 0)
    assert all(np.array_equal(one[name], tokenizer(["gut ✓"])[name]) for name in one)


def test_the_tokenizers_library_gives_equal_ids_where_it_can_read_the_file(tmp_path):
    """Its own tokenizers add special tokens by default, of which the classifier knows nothing."""
    data = load("r8")
    texts = data.train.texts[:400]
    given = tokenizers.Tokenizer(tokenizers.models.WordLevel(unk_token="[UNK]"))
    given.normalizer = tokenizers.normalizers.Lowercase()
    given.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    trainer = tokenizers.trainers.WordLevelTrainer(
        vocab_size=2000, special_tokens=["[UNK]", "[CLS]"], show_progress=False
    )
    given.train_from_iterator(texts, trainer)
    given.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 1)]
    )
    clf = TextClassifier(**SMALL, tokenizer=given).fit(texts, data.train.labels[:400])
    session, metadata, _ = by_command(clf, tmp_path)
    check_all(clf, session, metadata, data.test.texts)
    library = tokenizers.Tokenizer.from_str(metadata["tokenizer"])
    rows = clf.tokenizer_.encode(data.test.texts)
    for i, encoding in enumerate(library.encode_batch(data.test.texts)):
        assert encoding.ids == rows.token_ids[rows.cu_seqlens[i] : rows.cu_seqlens[i + 1]].tolist()


def test_the_code_of_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts, labels = ["oil prices", "gold prices"] * 20, ["oil", "gold"] * 20
    TextClassifier(**SMALL).fit(texts, labels).export_onnx("model.onnx")
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    exec(compile(block, PAGE.name, "exec"), {})
    assert capsys.readouterr().out == "['oil', 'gold']\n"


@pytest.fixture
def metadata(tmp_path):
    clf = TextClassifier(**SMALL).fit(["good film", "bad film"] * 20, ["yes", "no"] * 20)
    clf.export_onnx(tmp_path / "model.onnx")
    return opened(tmp_path / "model.onnx")[1]


def test_other_metadata_are_refused(metadata):
    for name in ("tokenizer", "tokenizer_sha256", "classes", "multi_label", "threshold"):
        lacking = {key: value for key, value in metadata.items() if key != name}
        with pytest.raises(ValueError, match=f"metadata: '{name}' is missing; expected those of"):
            OnnxTokenizer(lacking)
    other = json.loads(metadata["tokenizer"])
    other["vocabulary"][1:3] = other["vocabulary"][2:0:-1]  # two words change places
    read_tokenizer(json.dumps(other))
    with pytest.raises(ValueError, match="metadata: 'tokenizer' was changed after the export"):
        OnnxTokenizer(metadata | {"tokenizer": json.dumps(other)})
    for classes in ("yes", '{"a": 1}', "[" * 100_000):
        with pytest.raises(ValueError, match="metadata: 'classes': expected a JSON list of labels"):
            OnnxTokenizer(metadata | {"classes": classes})
    for threshold in ("", "1.1", "nan"):
        with pytest.raises(ValueError, match="metadata: 'threshold': expected a number from 0 to"):
            OnnxTokenizer(metadata | {"threshold": threshold})
    with pytest.raises(TypeError, match="classes"):
        OnnxTokenizer(metadata | {"classes": "[0.5]"})
    with pytest.raises(TypeError, match=r"texts\[1\]: expected str"):
        OnnxTokenizer(metadata)(["a", 3])
