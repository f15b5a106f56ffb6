"""The page on files names what a saved classifier consists of."""

from __future__ import annotations

import re

import pytest
from safetensors.numpy import load_file

import hyperagg
from hyperagg.data.readers.sources import COMPRESSION_EXTENSIONS, EXTENSIONS, FORMATS
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "reference" / "file-formats.md").read_text("utf-8")


@pytest.mark.parametrize("quantized", [False, True])
def test_every_file_and_tensor_of_a_classifier_is_described(quantized, tmp_path):
    clf = hyperagg.TextClassifier(d_model=8, epochs=1)
    clf.fit(["good film", "dull film"] * 20, ["yes", "no"] * 20)
    if quantized:
        clf = clf.quantize()
    clf.save_pretrained(tmp_path)
    for file in tmp_path.iterdir():
        assert f"| `{file.name}` |" in PAGE
    sizes = {"V": len(clf.tokenizer_), "D": 8, "C": 2, "16": 16}
    rows = re.findall(r"^\| (`[\w.]+`(?:, `[\w.]+`)?) \| (\([^|]*\)) \|", PAGE, re.MULTILINE)
    described = {
        name: tuple(sizes[one] for one in shape.split(", "))
        for names, shapes in rows
        if names != "`tree`"
        for name, shape in zip(re.findall(r"`([\w.]+)`", names), re.findall(r"\(([^)]*)\)", shapes))
    }
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name: described.get(name) for name in tensors} == {
        name: tensor.shape for name, tensor in tensors.items()
    }


def test_every_format_and_extension_is_described():
    for name in FORMATS:
        assert f"| `{name}` |" in PAGE
    for extension in {*EXTENSIONS, *COMPRESSION_EXTENSIONS} - {".zstd"}:
        assert extension in PAGE, extension
