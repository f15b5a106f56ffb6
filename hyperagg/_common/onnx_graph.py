"""Builds ONNX graphs node by node."""

from __future__ import annotations

import itertools
from copy import copy
from typing import Any

import numpy as np

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError(
        "the export to ONNX needs the package onnx: pip install 'hyperagg[onnx]'", name="onnx"
    ) from error

__all__ = ["Graph", "TensorProto", "helper", "onnx"]

Input = str | float | list[int]


class Graph:
    """The nodes of a graph in order; a call adds one and returns the name of its result.

    A number among the inputs is a constant scalar, int64 or float32; a list of integers is a
    constant of one dimension.

    >>> g = Graph()
    >>> g("Add", "x", 1)
    'Add_0'
    >>> [node.op_type for node in g.nodes]
    ['Add']
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._known: dict[str, str] = {}
        self._numbers = itertools.count()

    def __call__(self, op: str, *inputs: Input, out: str = "", **attributes: Any) -> str:
        return self.many(op, *inputs, outs=[out or self.name(op)], **attributes)[0]

    def many(self, op: str, *inputs: Input, outs: list[str], **attributes: Any) -> list[str]:
        names = [x if isinstance(x, str) else self._constant(x) for x in inputs]
        self.nodes.append(helper.make_node(op, names, outs, **attributes))
        return outs

    def name(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    def tensor(self, array: np.ndarray, name: str) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def inner(self) -> Graph:
        """A subgraph that shares the constants and the counter of names of this graph."""
        inner = copy(self)
        inner.nodes = []
        return inner

    def _constant(self, value: float | list[int]) -> str:
        if (key := str(value)) not in self._known:
            dtype = np.float32 if isinstance(value, float) else np.int64
            self._known[key] = self.tensor(np.array(value, dtype), self.name("constant"))
        return self._known[key]
