"""Exports a text classifier as an ONNX graph that maps token ids to logits and probabilities.

    logits  =  W sum_t w_t e_t * p_block(t) / |w| + b        probabilities  =  softmax(logits)

or the sigmoid for several labels per text. The inputs are `token_ids` (T,) int32, the ids of all
texts end to end, and `cu_seqlens` (B + 1,) int64, 0 ... T: text b has the ids from cu_seqlens[b] to
before cu_seqlens[b + 1]. `clf.tokenizer_.encode(texts)` returns both, and so does `OnnxTokenizer`,
with the tokenizer in the file. The outputs are `logits` and `probabilities`, (B, C) float32, as
`TextClassifier.logits` and `predict_proba` return them. B, T and the length of a text may be 0.

Occurrence weights: ids are sorted within rows by the key (row V + id) T + t, which is unique,
because TopK may order equal keys in any way; the c-th of a run of equal (row, id) has the weight
1/c. The key is exact while B V T < 2^63: with half a million tokens in the vocabulary and texts of
100 tokens, up to 4 * 10^5 texts per batch.

Sums: the tokens of a row are divided into groups of 1, 2, 4, 8 and then always 16, none of which
crosses the boundary of a position block. A group is summed by a product of its weights with its
vectors, and multiplied by the position vector of its block once; then 16 sums are added at a time
until a row is one vector. (ScatterND with reduction="add" would be shorter, but onnxruntime runs it
on several threads that overwrite the sums of each other: its issues 18048 and 23396.)

Numerics: float32, |w|^2 in float64. A sum of n vectors is a tree of depth log16(n), so its error
hardly grows with n: on r8 the logits, up to 17, are those of `TextClassifier` within 6e-6. An
embedding in 8 bits stays so in memory; its scales are multiplied into the weights.

Cost: O(T log T + T D), and memory for a float32 copy of all token vectors, with each text rounded
up to whole groups of 16 (5 D bytes per token of a long text, more for short ones): predict millions
of tokens in batches. The result for a text does not depend on the batch, up to rounding.

Opset 17, IR 8: onnxruntime 1.12 and newer. metadata_props: "classes", a JSON list of the labels in
the order of the columns; "multi_label", "true" or "false"; "threshold", the probability above which
a text of a multi-label problem has a label; "tokenizer", the text of tokenizer.json, and
"tokenizer_sha256", its digest; "hyperagg_version".
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from hyperagg import __version__
from hyperagg._common.atomic import atomic_write
from hyperagg._common.label_decoder import LabelDecoder
from hyperagg._common.onnx_graph import Graph, TensorProto, helper, onnx
from hyperagg._common.validation import check_path
from hyperagg.classifier import quantization
from hyperagg.classifier.interop.onnx_tokenizer import tokenizer_metadata
from hyperagg.classifier.model import ClassifierModel
from hyperagg.classifier.pooling import position_blocks
from hyperagg.text import Tokenizer

__all__ = ["build", "write"]

_OPSET, _IR_VERSION = 17, 8
# The limit of protobuf, and so of one file, minus a margin for the graph around the parameters.
_MAX_BYTES = 2**31 - 2**20
_LEVELS = 4
_GROUP_SIZE = 2**_LEVELS


def write(
    path: str | Path,
    model: ClassifierModel,
    scales: np.ndarray | None,
    decoder: LabelDecoder,
    max_tokens: int | None,
    tokenizer: Tokenizer,
) -> None:
    """Write the graph of `build` to a file atomically.

    Args:
        path: the .onnx file.
        model, scales, decoder, max_tokens, tokenizer: as for `build`.

    Raises:
        ValueError: the path is a folder, or the parameters do not fit into one file.
    """
    path = check_path("path", path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected the name of a file")
    built = build(model, scales, decoder, max_tokens, tokenizer)
    with atomic_write(path) as draft:
        draft.write_bytes(built.SerializeToString())


def build(
    model: ClassifierModel,
    scales: np.ndarray | None,
    decoder: LabelDecoder,
    max_tokens: int | None,
    tokenizer: Tokenizer,
) -> onnx.ModelProto:
    """Return the graph of a classifier.

    Args:
        model: the parameters.
        scales: (V,) float32 if the embedding consists of integer multiples of them, -127 to 127,
            which are then stored in 8 bits; None stores float32.
        decoder: the labels, and whether a text has several.
        max_tokens: number of tokens of each text that are read; None: all of them.
        tokenizer: maps texts to the ids of the embedding's rows.

    Raises:
        ValueError: the parameters do not fit into one file.
    """
    arrays = dict(model.arrays)
    if scales is not None:
        packed = quantization.pack(model.embedding, scales)
        arrays["embedding"] = packed[quantization.INT8]
        arrays["scales"] = packed[quantization.SCALES]
    about = tokenizer_metadata(tokenizer)
    size = sum(array.nbytes for array in arrays.values())
    size += sum(len(text.encode("utf-8")) for text in about.values())
    if size > _MAX_BYTES:
        raise ValueError(
            f"export_onnx: the parameters are {size / 1e9:.2f} GB; expected at most 2.1 GB, the "
            "limit of an .onnx file; call quantize() first, with max_tokens if necessary"
        )
    g = Graph()
    named = {name: g.tensor(array, name) for name, array in arrays.items()}
    context = _pool(g, named, arrays, model.pooling == "harmonic", max_tokens)
    g("Gemm", context, named["weight"], named["bias"], transB=1, out="logits")
    if decoder.stepped:
        _stepped_sigmoid(g)
    elif decoder.multi_label:
        g("Sigmoid", "logits", out="probabilities")
    else:
        g("Softmax", "logits", axis=-1, out="probabilities")
    classes = len(decoder.classes)
    ids = "the ids of all texts, end to end"
    boundaries = "the boundaries of the texts in token_ids: 0 ... T"
    graph = helper.make_graph(
        g.nodes,
        "hyperagg",
        [
            helper.make_tensor_value_info("token_ids", TensorProto.INT32, ["T"], ids),
            helper.make_tensor_value_info(
                "cu_seqlens", TensorProto.INT64, ["B_plus_1"], boundaries
            ),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", classes])
            for name in ("logits", "probabilities")
        ],
        g.tensors,
    )
    built = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="hyperagg",
    )
    metadata = {
        "classes": json.dumps(list(decoder.classes), ensure_ascii=False),
        "multi_label": json.dumps(decoder.multi_label),
        "threshold": json.dumps(decoder.threshold),
        "hyperagg_version": __version__,
        **about,
    }
    helper.set_model_props(built, metadata)
    return built


def _stepped_sigmoid(g: Graph) -> None:
    """The probabilities of `LabelDecoder` with `stepped`."""
    zero, limit, steps = (
        g.tensor(np.array(value, np.float32), name)
        for name, value in {"no_odds": 0, "sigmoid_limit": 8, "sigmoid_steps": 32}.items()
    )
    rounded = g("Floor", g("Mul", g("Add", "logits", limit), steps))
    rounded = g("Sigmoid", g("Sub", g("Div", rounded, steps), limit))
    extreme = g("Cast", g("Greater", "logits", zero), to=TensorProto.FLOAT)
    g("Where", g("Greater", g("Abs", "logits"), limit), extreme, rounded, out="probabilities")


def _pool(
    g: Graph,
    named: dict[str, str],
    arrays: dict[str, np.ndarray],
    harmonic: bool,
    max_tokens: int | None,
) -> str:
    """(B, D) sum_t w_t e_t * p_block(t) / |w|."""
    # Boundaries that do not end where the ids end fail here instead of giving wrong logits.
    ids = g("Cast", "token_ids", to=TensorProto.INT64)
    ids = g("Reshape", ids, g("Slice", "cu_seqlens", [-1], [2**62]), allowzero=1)
    total = g("Shape", ids)
    begins = g("Slice", "cu_seqlens", [0], [-1])
    ends = g("Slice", "cu_seqlens", [1], [2**62])
    lengths = g("Sub", ends, begins)
    read = lengths if max_tokens is None else g("Min", lengths, max_tokens)
    weights = ""
    if harmonic:
        rows, positions = _spread(g, lengths)
        weights = _occurrence_weights(g, ids, rows, total, len(arrays["embedding"]))
        zero = g.tensor(np.zeros(1, np.float32), "zero")
        if max_tokens is not None:
            weights = g("Where", g("Less", positions, max_tokens), weights, zero)
        wide = g("Cast", weights, to=TensorProto.DOUBLE)
        # In float64 the difference of two cumulative sums is as exact as a sum.
        sums = g("CumSum", g("Mul", wide, wide), 0)
        sums = g("Concat", g.tensor(np.zeros(1), "zero_squares"), sums, axis=0)
        squares = g("Sub", g("Gather", sums, ends), g("Gather", sums, begins))
        one = g.tensor(np.ones(1), "min_squares")
        norms = g("Cast", g("Sqrt", g("Max", squares, one)), to=TensorProto.FLOAT)
        weights = g("Concat", weights, zero, axis=0)
    else:
        norms = g("Cast", g("Max", read, 1), to=TensorProto.FLOAT)

    # Up to 15 tokens make as many groups as their number has binary digits, and no tokens make an
    # empty group.
    digits = [n.bit_length() for n in range(_GROUP_SIZE)]
    groups = g(
        "Add", g("Gather", digits, g("Min", read, _GROUP_SIZE - 1)), g("Div", read, _GROUP_SIZE)
    )
    groups = g("Max", groups, 1)
    rows, numbers = _spread(g, groups)
    sizes = [2**k for k in range(_LEVELS + 1)]
    level = g("Min", numbers, _LEVELS)
    later = g("Mul", g("Max", g("Sub", numbers, _LEVELS), 0), _GROUP_SIZE)
    first = g("Add", g("Gather", [size - 1 for size in sizes], level), later)
    count = g("Min", g("Gather", sizes, level), g("Sub", g("Gather", read, rows), first))
    slots, valid = _slots(g, g("Add", g("Gather", begins, rows), first), count, total)
    # The entry after the last id fills incomplete groups.
    ids = g("Gather", g("Concat", ids, [0], axis=0), slots)
    factors = g("Gather", weights, slots) if harmonic else g("Cast", valid, to=TensorProto.FLOAT)
    vectors = g("Gather", named["embedding"], ids)
    if "scales" in named:
        vectors = g("Cast", vectors, to=TensorProto.FLOAT)
        factors = g("Mul", factors, g("Gather", named["scales"], ids))
    blocks = _group_blocks(len(arrays["positions"]))
    block = g("Gather", blocks, g("Min", numbers, len(blocks) - 1))
    x = g("Mul", _add(g, factors, vectors), g("Gather", named["positions"], block))
    return g("Div", _add_groups(g, x, groups), g("Unsqueeze", norms, [1]))


def _group_blocks(blocks: int) -> list[int]:
    """The position block of each group of a row; the last entry is that of all further groups."""
    last = 2 ** (blocks - 1)  # where the last block begins, up to one
    firsts = [2**k - 1 for k in range(_LEVELS)] + list(range(_GROUP_SIZE - 1, last, _GROUP_SIZE))
    return position_blocks(last, blocks)[[f for f in firsts if f < last]].tolist()


def _spread(g: Graph, counts: str) -> tuple[str, str]:
    """The row of each item and its index in the row, where row b has counts[b] items."""
    starts = g("Sub", g("CumSum", counts, 0), counts)
    total = g("ReduceSum", counts, keepdims=1)
    # The row of an item is the number of starts up to it, minus one. An empty row has the start of
    # the row after it, or the position after the last item.
    zeros = g("ConstantOfShape", g("Add", total, [1]), value=_filled(0))
    ones = g("ConstantOfShape", g("Shape", counts), value=_filled(1))
    marks = g("ScatterElements", zeros, starts, ones, axis=0, reduction="add")
    rows = g("Sub", g("Slice", g("CumSum", marks, 0), [0], total), 1)
    items = g("Range", 0, g("Squeeze", total), 1)
    return rows, g("Sub", items, g("Gather", starts, rows))


def _filled(value: int) -> onnx.TensorProto:
    return helper.make_tensor("value", TensorProto.INT64, [1], [value])


def _occurrence_weights(g: Graph, ids: str, rows: str, total: str, vocab_size: int) -> str:
    """(T,) float32, 1/c for the c-th occurrence of an id in its row."""
    number = g("Squeeze", total)
    positions = g("Range", 0, number, 1)
    keys = g("Add", g("Mul", rows, vocab_size), ids)
    unique = g("Add", g("Mul", keys, number), positions)
    outs = [g.name("sorted"), g.name("order")]
    _, order = g.many("TopK", unique, total, outs=outs, axis=0, largest=0)
    keys = g("Gather", keys, order)
    previous = g("Slice", g("Concat", [-1], keys, axis=0), [0], total)
    is_first = g("Not", g("Equal", keys, previous))
    runs = g("Sub", g("CumSum", g("Cast", is_first, to=TensorProto.INT64), 0), 1)
    firsts = g("Gather", g("Compress", positions, is_first, axis=0), runs)
    counts = g("Cast", g("Add", g("Sub", positions, firsts), 1), to=TensorProto.FLOAT)
    weights = g("Div", g.tensor(np.ones(1, np.float32), "one"), counts)
    return g("ScatterElements", weights, order, weights, axis=0)


def _slots(g: Graph, first: str, count: str, otherwise: str) -> tuple[str, str]:
    """(groups, 16) indices first, first + 1, ..., and which of them are valid, `count` per group;
    the others are `otherwise`."""
    offsets = list(range(_GROUP_SIZE))
    valid = g("Less", g("Unsqueeze", offsets, [0]), g("Unsqueeze", count, [1]))
    return g("Where", valid, g("Add", g("Unsqueeze", first, [1]), offsets), otherwise), valid


def _add(g: Graph, weights: str, vectors: str) -> str:
    """(groups, D) sums of (groups, 16, D) with weights (groups, 16)."""
    return g("Squeeze", g("MatMul", g("Unsqueeze", weights, [1]), vectors), [1])


def _add_groups(g: Graph, x: str, counts: str) -> str:
    """(B, D) sums of x (groups, D); row b has counts[b] >= 1 groups."""
    body = g.inner()
    fewer = body("Div", body("Add", "counts", _GROUP_SIZE - 1), _GROUP_SIZE)
    rows, numbers = _spread(body, fewer)
    begins = body("Gather", body("Sub", body("CumSum", "counts", 0), "counts"), rows)
    done = body("Mul", numbers, _GROUP_SIZE)
    count = body("Sub", body("Gather", "counts", rows), done)
    first = body("Unsqueeze", begins, [1])
    slots, valid = _slots(body, body("Add", begins, done), count, first)
    factors = body("Cast", valid, to=TensorProto.FLOAT)
    sums = _add(body, factors, body("Gather", "sums", slots))
    more = _any_above_one(body, fewer)
    inner = helper.make_graph(
        body.nodes,
        "add_groups",
        [
            helper.make_tensor_value_info("iteration", TensorProto.INT64, []),
            helper.make_tensor_value_info("condition", TensorProto.BOOL, []),
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


def _any_above_one(g: Graph, counts: str) -> str:
    # An additional 1, because the maximum of an empty list is undefined.
    return g("Greater", g("ReduceMax", g("Concat", counts, [1], axis=0), keepdims=0), 1)
