"""hyperagg export, other than what tests/serve and tests/classifier/interop test of its files."""

from __future__ import annotations

import pytest


def test_an_onnx_graph_names_its_tokenizer(cli, model, tmp_path):
    pytest.importorskip("onnx")
    answer = cli("export", model, tmp_path / "model.onnx")
    assert answer.code == 0
    size, tokenizer = answer.err.splitlines()
    assert size.endswith(f"MB in {tmp_path / 'model.onnx'}")
    assert tokenizer == (
        "its inputs are the ids of the tokenizer in its metadata, which "
        "hyperagg.classifier.OnnxTokenizer reads"
    )
