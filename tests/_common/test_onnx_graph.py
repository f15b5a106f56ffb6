"""Graphs that are built node by node, and their constants."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

from onnx.reference import ReferenceEvaluator  # noqa: E402

from hyperagg._common import onnx_graph  # noqa: E402
from hyperagg._common.onnx_graph import Graph, TensorProto, helper  # noqa: E402


def test_docstring_examples_run():
    failed, attempted = doctest.testmod(onnx_graph)
    assert attempted and not failed


def test_constants_have_the_type_of_their_number():
    g = Graph()
    doubled = g("Mul", "x", 2.0)
    g("Reshape", g("Add", doubled, doubled), [-1, 1], out="y")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        g.nodes,
        "test",
        [value("x", TensorProto.FLOAT, ["N"])],
        [value("y", TensorProto.FLOAT, ["N", 1])],
        g.tensors,
    )
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    (y,) = ReferenceEvaluator(built).run(None, {"x": np.array([1.0, 2.0], np.float32)})
    assert y.tolist() == [[4.0], [8.0]]
