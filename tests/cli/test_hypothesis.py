"""Arbitrary content instead of files: never a traceback."""

from __future__ import annotations

import json
import shutil
from dataclasses import fields

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hyperagg.classifier.estimator import ClassifierConfig

# Bytes alone seldom get past the first check, so most content is nearly right.
WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
CELLS = WORDS | st.sampled_from(["text", "label", '"', '""', "a fine film", "\ufeff", "\x00", "\r"])
LINES = st.lists(st.lists(CELLS, max_size=4), max_size=6)
SEPARATORS = st.sampled_from([",", "\t", " "])
TABLES = st.builds(
    lambda header, lines, separator: "\n".join(separator.join(line) for line in [header, *lines]),
    st.sampled_from([["text", "label"], ["label", "text", "text"], []]) | st.lists(CELLS),
    LINES,
    SEPARATORS,
)
FASTTEXT = st.lists(st.tuples(WORDS, WORDS), max_size=6).map(
    lambda rows: "\n".join(f"__label__{label} {text}" for label, text in rows)
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries({"text": WORDS | JSON, "label": WORDS | JSON}) | JSON
JSON_LINES = st.lists(RECORDS, max_size=6).map(
    lambda records: "\n".join(json.dumps(record) for record in records)
)
CONTENTS = st.binary(max_size=200) | (TABLES | FASTTEXT | JSON_LINES).map(str.encode)
FORMATS = st.none() | st.sampled_from(["csv", "tsv", "jsonl", "parquet", "fasttext", "lines"])


def check(answer):
    assert answer.code in (0, 2)
    if answer.code == 2:
        assert answer.err.startswith("hyperagg: ")
        assert len(answer.err.splitlines()) == 1
    else:
        assert "hyperagg: " not in answer.err


@given(CONTENTS, FORMATS)
@example("text,label\n\ud800".encode("utf-8", "surrogatepass"), "csv")
@example(b'{"text": "\\ud800", "label": "x"}\n{"text": "a", "label": "y"}', "jsonl")
@example("text,label\n\u200b,x\n\x85a,y".encode(), None)
def test_train_takes_any_bytes(cli, tmp_path_factory, content, format):
    out = tmp_path_factory.mktemp("any") / "model"
    options = [] if format is None else ["--format", format]
    arguments = ("--out", out, "--d-model", 2, "--epochs", 1)
    answer = cli("train", "-", *options, *arguments, stdin=content)
    check(answer)
    assert out.exists() == (answer.code == 0)
    if answer.code == 0:  # then the model is one
        check(cli("evaluate", out, "-", *options, stdin=content))
        labels = cli("predict", out, "-", *options, stdin=content)
        assert labels.code == 0
        shutil.rmtree(out)


@given(CONTENTS, FORMATS)
def test_predict_takes_any_bytes(cli, model, content, format):
    options = [] if format is None else ["--format", format]
    answer = cli("predict", model, "-", *options, stdin=content)
    check(answer)
    assert set(answer.out.split()) <= {"good", "bad"}


SETTINGS = [field.name for field in fields(ClassifierConfig)]
KEYS = st.sampled_from([*SETTINGS, "format", "format_version", "classes", "history", "odd"])
PATCHES = st.dictionaries(KEYS, JSON, min_size=1, max_size=3)
SLICES = st.tuples(st.integers(0, 10_000), st.integers(0, 50), st.binary(max_size=20))


@pytest.fixture(scope="module")
def spoilt(model, tmp_path_factory):
    return shutil.copytree(model, tmp_path_factory.mktemp("spoilt") / "model")


@pytest.fixture(scope="module")
def predict_with(cli, model, spoilt):
    """The model with one file of other content classifies a text, or says what is wrong."""

    def call(name, content):
        (spoilt / name).write_bytes(content)
        try:
            for command in ("predict", "evaluate"):
                answer = cli(command, spoilt, "-", stdin=b"text,label\na fine film,good")
                check(answer)
                assert answer.code == 0 or str(spoilt) in answer.err or command == "evaluate"
        finally:
            shutil.copy(model / name, spoilt / name)

    return call


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_config(predict_with, content):
    predict_with("config.json", content)


@given(PATCHES)
def test_a_config_with_other_values(predict_with, model, patch):
    config = json.loads((model / "config.json").read_text("utf-8"))
    predict_with("config.json", json.dumps(config | patch).encode())


@given(st.binary(max_size=100) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_as_tokenizer(predict_with, content):
    predict_with("tokenizer.json", content)


@given(st.lists(st.tuples(st.integers(0, 100), JSON), min_size=1, max_size=2))
def test_a_tokenizer_with_other_values(predict_with, model, changes):
    tokenizer = json.loads((model / "tokenizer.json").read_text("utf-8"))
    for number, value in changes:
        holders = [(tokenizer, key) for key in tokenizer]
        for one, key in holders:
            if isinstance(one[key], dict):
                holders += [(one[key], inner) for inner in one[key]]
        one, key = holders[number % len(holders)]
        one[key] = value
    predict_with("tokenizer.json", json.dumps(tokenizer).encode())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
@given(slice_=SLICES)
def test_a_file_with_other_bytes_in_it(predict_with, model, name, slice_):
    content = (model / name).read_bytes()
    start, length, patch = slice_
    start %= len(content)
    predict_with(name, content[:start] + patch + content[start + length :])


@given(st.binary(max_size=300))
@example(b"\x02\0\0\0\0\0\0\0{}")
@example(b"\xff" * 8)
@example(b'\x3f\0\0\0\0\0\0\0{"embedding":{"dtype":"F32","shape":[5,4],"data_offsets":[0,80]}}')
def test_any_bytes_as_weights(predict_with, content):
    predict_with("model.safetensors", content)
