"""The aggregation classifier as an ONNX graph: token ids in, logits and probabilities out.

    logits  =  W sum_t w_t e_t * p_block(t) / |w| + b        probabilities  =  softmax(logits)

or the sigmoid where a text may have several labels. Inputs are `token_ids` (T,) int64, the ids of
all texts end to end, and `cu_seqlens` (B + 1,) int64, 0 ... T: text b has those from cu_seqlens[b]
on and before cu_seqlens[b + 1]. `clf.tokenizer.encode(texts)` gives both; the ids it gives are
int32 and want `astype(np.int64)`. Outputs are `logits` and `probabilities`, (B, C) float32, as
`TextClassifier.logits` and `predict_proba` give them. B, T and the length of any text may be 0.

Uses: ids sort within rows by the key (row V + id) T + t, which no two of them share, because TopK
may order equal keys as it likes; the c-th of a run of equal (row, id) weighs 1/c. The key is exact
while B V T < 2^63: with half a million tokens in the vocabulary and texts of 100, up to 4 * 10^5
texts a batch.

Sums: a row's tokens are cut into groups of 1, 2, 4, 8 and then always 16, none of which crosses a
border of the position blocks. A group is summed by a product of its weights with its vectors, and
is multiplied by its block's position vector once; then 16 sums are added at a time until a row is
one vector. (ScatterND with reduction="add" would be shorter, but onnxruntime runs it on several
threads that overwrite each other's sums: its issues 18048 and 23396.)

Numerics: float32, |w|^2 in float64. A sum of n vectors is a tree log16(n) deep, so its error hardly
grows with n: on r8 the logits, up to 17, are those of `TextClassifier` within 6e-6. An embedding in
8 bits stays so in memory; its scales join the weights.

Cost: O(T log T + T D), and memory for a copy of all vectors in float32, each text's rounded up to
whole groups of 16 (5 D bytes a token of a long text, more in short ones): whoever has millions of
tokens calls in batches. A batch of any shape gives a text the same answer, but for rounding.

Opset 17, IR 8: onnxruntime 1.12 and newer. metadata_props: "classes", JSON, the labels in the order
of the columns; "several_labels", "true" or "false".
"""

from __future__ import annotations

import itertools
import json
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np

from hyperagg._common.atomic import atomic_write
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg.classifier import serialization as model_folder
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.pooling import position_blocks

try:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
except ImportError as error:
    raise ImportError(
        'export_onnx needs the package onnx: pip install "hyperagg[onnx]"', name="onnx"
    ) from error

__all__ = ["build", "write"]

OPSET, IR_VERSION = 17, 8
# What protobuf, and so one file, holds; less a little for the graph around the weights.
MAX_BYTES = 2**31 - 2**20
LEVELS = 4
LANES = 2**LEVELS


def write(
    path: str | Path,
    model: ClassifierModel,
    scales: np.ndarray | None,
    answers: LabelDecoder,
    max_tokens: int | None,
) -> None:
    """`build`, in a file that is whole or absent.

    Raises:
        ValueError: the path is a folder, or the weights do not fit one file.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; give the name of a file")
    built = build(model, scales, answers, max_tokens)
    with atomic_write(path) as draft:
        draft.write_bytes(built.SerializeToString())


def build(
    model: ClassifierModel, scales: np.ndarray | None, answers: LabelDecoder, max_tokens: int | None
) -> onnx.ModelProto:
    """The graph of this module's head.

    Args:
        model: aggregation's, not a rival's.
        scales: (V,) of an embedding that is whole multiples of them, -127 to 127: it is kept in 8
            bits; None: it is kept as it is.
        answers: the labels, and whether a text may have several.
        max_tokens: what of a text is read; None: all of it.

    Raises:
        ValueError: the weights do not fit one file.
    """
    weights = dict(model.arrays)
    if scales is not None:
        packed = model_folder.pack(model.embedding, scales)
        weights["embedding"] = packed[model_folder.INT8]
        weights["scales"] = packed[model_folder.SCALES]
    size = sum(array.nbytes for array in weights.values())
    if size > MAX_BYTES:
        raise ValueError(
            f"export_onnx: the weights are {size / 1e9:.2f} GB, and an .onnx file holds 2.1; "
            "call quantize() first, with max_tokens if need be"
        )
    g = _Graph()
    named = {name: g.tensor(array, name) for name, array in weights.items()}
    context = _pool(g, named, weights, model.pooling == "harmonic", max_tokens)
    g("Gemm", context, named["weight"], named["bias"], transB=1, out="logits")
    if answers.multi_label:
        g("Sigmoid", "logits", out="probabilities")
    else:
        g("Softmax", "logits", axis=-1, out="probabilities")
    classes = len(answers.classes)
    ids, borders = "ids of all texts, end to end", "borders of the texts in token_ids: 0 ... T"
    graph = helper.make_graph(
        g.nodes,
        "hyperagg",
        [
            helper.make_tensor_value_info("token_ids", TensorProto.INT64, ["T"], ids),
            helper.make_tensor_value_info("cu_seqlens", TensorProto.INT64, ["borders"], borders),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", classes])
            for name in ("logits", "probabilities")
        ],
        g.tensors,
    )
    built = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="hyperagg",
    )
    described = {
        "classes": json.dumps(list(answers.classes), ensure_ascii=False),
        "several_labels": json.dumps(answers.multi_label),
    }
    helper.set_model_props(built, described)
    return built


class _Graph:
    """Nodes in the order they are called for; a call adds one and returns its result's name.

    An int among the inputs stands for a constant of no dimension, a list for one of one dimension.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._known: dict[str, str] = {}
        self._numbers = itertools.count()

    def __call__(self, op: str, *inputs: str | int | list[int], out: str = "", **given: Any) -> str:
        return self.many(op, *inputs, outs=[out or self.name(op)], **given)[0]

    def many(
        self, op: str, *inputs: str | int | list[int], outs: list[str], **given: Any
    ) -> list[str]:
        names = [one if isinstance(one, str) else self._constant(one) for one in inputs]
        self.nodes.append(helper.make_node(op, names, outs, **given))
        return outs

    def name(self, kind: str) -> str:
        return f"{kind}_{next(self._numbers)}"

    def tensor(self, array: np.ndarray, name: str) -> str:
        self.tensors.append(numpy_helper.from_array(array, name))
        return name

    def inner(self) -> _Graph:
        """A graph within this one, which shares its constants and its supply of names."""
        inner = copy(self)
        inner.nodes = []
        return inner

    def _constant(self, value: int | list[int]) -> str:
        if (key := str(value)) not in self._known:
            self._known[key] = self.tensor(np.array(value, np.int64), self.name("constant"))
        return self._known[key]


def _pool(
    g: _Graph,
    named: dict[str, str],
    weights: dict[str, np.ndarray],
    harmonic: bool,
    max_tokens: int | None,
) -> str:
    """(B, D) sum_t w_t e_t * p_block(t) / |w|."""
    # Borders that do not end where the ids end fail here, and not in wrong answers.
    ids = g("Reshape", "token_ids", g("Slice", "cu_seqlens", [-1], [2**62]), allowzero=1)
    total = g("Shape", ids)
    begins = g("Slice", "cu_seqlens", [0], [-1])
    ends = g("Slice", "cu_seqlens", [1], [2**62])
    lengths = g("Sub", ends, begins)
    read = lengths if max_tokens is None else g("Min", lengths, max_tokens)
    uses = ""
    if harmonic:
        rows, places = _spread(g, lengths)
        uses = _use_weights(g, ids, rows, total, len(weights["embedding"]))
        zero = g.tensor(np.zeros(1, np.float32), "zero")
        if max_tokens is not None:
            uses = g("Where", g("Less", places, max_tokens), uses, zero)
        wide = g("Cast", uses, to=TensorProto.DOUBLE)
        # In float64 the difference of two sums is as good as a sum.
        sums = g("CumSum", g("Mul", wide, wide), 0)
        sums = g("Concat", g.tensor(np.zeros(1), "zero_squares"), sums, axis=0)
        squares = g("Sub", g("Gather", sums, ends), g("Gather", sums, begins))
        least = g.tensor(np.ones(1), "least_squares")
        norms = g("Cast", g("Sqrt", g("Max", squares, least)), to=TensorProto.FLOAT)
        uses = g("Concat", uses, zero, axis=0)
    else:
        norms = g("Cast", g("Max", read, 1), to=TensorProto.FLOAT)

    # Up to 15 tokens make as many groups as their number has binary digits; none make an empty one.
    digits = [n.bit_length() for n in range(LANES)]
    groups = g("Add", g("Gather", digits, g("Min", read, LANES - 1)), g("Div", read, LANES))
    groups = g("Max", groups, 1)
    rows, numbers = _spread(g, groups)
    sizes = [2**k for k in range(LEVELS + 1)]
    level = g("Min", numbers, LEVELS)
    later = g("Mul", g("Max", g("Sub", numbers, LEVELS), 0), LANES)
    first = g("Add", g("Gather", [size - 1 for size in sizes], level), later)
    count = g("Min", g("Gather", sizes, level), g("Sub", g("Gather", read, rows), first))
    slots, valid = _lanes(g, g("Add", g("Gather", begins, rows), first), count, total)
    # What lies after the last id stands for none.
    ids = g("Gather", g("Concat", ids, [0], axis=0), slots)
    shares = g("Gather", uses, slots) if harmonic else g("Cast", valid, to=TensorProto.FLOAT)
    vectors = g("Gather", named["embedding"], ids)
    if "scales" in named:
        vectors = g("Cast", vectors, to=TensorProto.FLOAT)
        shares = g("Mul", shares, g("Gather", named["scales"], ids))
    blocks = _group_blocks(len(weights["positions"]))
    own = g("Gather", blocks, g("Min", numbers, len(blocks) - 1))
    x = g("Mul", _add(g, shares, vectors), g("Gather", named["positions"], own))
    return g("Div", _add_groups(g, x, groups), g("Unsqueeze", norms, [1]))


def _group_blocks(blocks: int) -> list[int]:
    """The position block of a row's first group, its second ...; the last entry is that of all
    that follow."""
    last = 2 ** (blocks - 1)  # from here on all is the last block
    firsts = [2**k - 1 for k in range(LEVELS)] + list(range(LANES - 1, last, LANES))
    return position_blocks(last, blocks)[[f for f in firsts if f < last]].tolist()


def _spread(g: _Graph, counts: str) -> tuple[str, str]:
    """The row of each item, and its number there from 0, where row b has counts[b] of them."""
    starts = g("Sub", g("CumSum", counts, 0), counts)
    total = g("ReduceSum", counts, keepdims=1)
    # An item's row is the number of starts up to it, less one; empty rows share theirs with the
    # row after them, and the last of them with what lies after the last item.
    zeros = g("ConstantOfShape", g("Add", total, [1]), value=_filled(0))
    ones = g("ConstantOfShape", g("Shape", counts), value=_filled(1))
    marks = g("ScatterElements", zeros, starts, ones, axis=0, reduction="add")
    rows = g("Sub", g("Slice", g("CumSum", marks, 0), [0], total), 1)
    items = g("Range", 0, g("Squeeze", total), 1)
    return rows, g("Sub", items, g("Gather", starts, rows))


def _filled(value: int) -> onnx.TensorProto:
    return helper.make_tensor("value", TensorProto.INT64, [1], [value])


def _use_weights(g: _Graph, ids: str, rows: str, total: str, vocabulary: int) -> str:
    """(T,) float32, 1/c for the c-th use of an id in its row."""
    number = g("Squeeze", total)
    places = g("Range", 0, number, 1)
    keys = g("Add", g("Mul", rows, vocabulary), ids)
    unique = g("Add", g("Mul", keys, number), places)
    outs = [g.name("sorted"), g.name("order")]
    _, order = g.many("TopK", unique, total, outs=outs, axis=0, largest=0)
    keys = g("Gather", keys, order)
    before = g("Slice", g("Concat", [-1], keys, axis=0), [0], total)
    fresh = g("Not", g("Equal", keys, before))
    runs = g("Sub", g("CumSum", g("Cast", fresh, to=TensorProto.INT64), 0), 1)
    firsts = g("Gather", g("Compress", places, fresh, axis=0), runs)
    uses = g("Cast", g("Add", g("Sub", places, firsts), 1), to=TensorProto.FLOAT)
    weights = g("Div", g.tensor(np.ones(1, np.float32), "one"), uses)
    return g("ScatterElements", weights, order, weights, axis=0)


def _lanes(g: _Graph, first: str, count: str, otherwise: str) -> tuple[str, str]:
    """(groups, 16) first, first + 1 ... and which of them are valid, `count` a group; the others
    are `otherwise`."""
    lanes = list(range(LANES))
    valid = g("Less", g("Unsqueeze", lanes, [0]), g("Unsqueeze", count, [1]))
    return g("Where", valid, g("Add", g("Unsqueeze", first, [1]), lanes), otherwise), valid


def _add(g: _Graph, weights: str, vectors: str) -> str:
    """(groups, D) sums of (groups, 16, D) with weights (groups, 16)."""
    return g("Squeeze", g("MatMul", g("Unsqueeze", weights, [1]), vectors), [1])


def _add_groups(g: _Graph, x: str, counts: str) -> str:
    """(B, D) sums of x (groups, D), of which row b has counts[b], at least one."""
    body = g.inner()
    fewer = body("Div", body("Add", "counts", LANES - 1), LANES)
    rows, numbers = _spread(body, fewer)
    begins = body("Gather", body("Sub", body("CumSum", "counts", 0), "counts"), rows)
    done = body("Mul", numbers, LANES)
    count = body("Sub", body("Gather", "counts", rows), done)
    own = body("Unsqueeze", begins, [1])
    slots, valid = _lanes(body, body("Add", begins, done), count, own)
    shares = body("Cast", valid, to=TensorProto.FLOAT)
    sums = _add(body, shares, body("Gather", "sums", slots))
    more = _any_above_one(body, fewer)
    inner = helper.make_graph(
        body.nodes,
        "add_sixteen",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sums", TensorProto.FLOAT, [None, None]),
            helper.make_tensor_value_info("counts", TensorProto.INT64, [None]),
        ],
        [
            helper.make_tensor_value_info(more, TensorProto.BOOL, []),
            helper.make_tensor_value_info(sums, TensorProto.FLOAT, [None, None]),
            helper.make_tensor_value_info(fewer, TensorProto.INT64, [None]),
        ],
    )
    outs = [g.name("sums"), g.name("counts")]
    return g.many("Loop", "", _any_above_one(g, counts), x, counts, outs=outs, body=inner)[0]


def _any_above_one(g: _Graph, counts: str) -> str:
    # A one more, since there is no greatest of none.
    return g("Greater", g("ReduceMax", g("Concat", counts, [1], axis=0), keepdims=0), 1)
