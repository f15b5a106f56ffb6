"""Exports a language model as an ONNX graph that maps token ids and a state to logits and a state.

Inputs:  `input_ids` (B, N) int64, `past_length` (1,) int64, the number of tokens before them, and
         the state of each layer as `past.<layer>.<part>`, float32.
Outputs: `logits` (B, N, V) float32, of the token after each position; `present_length`, and
         `present.<layer>.<part>`, which are the inputs of the next call.

One graph serves prefill (N tokens) and decoding (N = 1); a text may be split in any way. The parts
are `sums` (B, E), or (B, H, E, E) of an associative layer, `conv` (B, K - 1, channels) with a
convolution, and for attention `key` and `value` (B, H, S, D / H) after S tokens. The parts of a
gated_associative layer are `gated.sums`, `associative.sums` and so on. The state before the first
token is zero, with S = 0. Sums with complex decays hold all real parts first, then all imaginary
ones. All rows have N tokens.

The recurrence is a Scan over the tokens, 2 microseconds per token and layer. LinearAttention of
opset 27 would hold the state of a channel as a matrix of one number; onnxruntime 1.32 runs it in
twelve times the time of the Scan, and its expansion in a hundred times.

Numerics: float32. The logits are those of the model to rounding.

Opset 20, IR 9: onnxruntime 1.18 and newer. metadata_props: "config", the config.json of the model.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import PreTrainedModel

from hyperagg._common.atomic import atomic_write
from hyperagg._common.onnx_graph import Graph, TensorProto, helper, onnx

__all__ = ["build_onnx", "export_onnx"]

_OPSET, _IR_VERSION = 20, 9
# The limit of protobuf, and so of one file, minus a margin for the graph around the weights.
_MAX_BYTES = 2**31 - 2**20
_END = 2**62


def export_onnx(model: PreTrainedModel, path: str | Path, *, int8: bool = False) -> None:
    """Write a language model to an .onnx file, atomically.

    Args:
        model: a `HyperAggForCausalLM`.
        path: the file.
        int8: whether to store the weights of the linear maps and of the embedding in 8 bits, by
            the dynamic quantization of onnxruntime.

    Raises:
        ImportError: if onnx is not installed, or onnxruntime with `int8`.
        ValueError: if the path is a folder, if the weights do not fit into one file, or if the
            rotary embedding of attention depends on the length.

    Cost: a copy of the weights in memory.

    Example:
        >>> from hyperagg.language import HyperAggConfig, HyperAggForCausalLM
        >>> config = HyperAggConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1)
        >>> built = build_onnx(HyperAggForCausalLM(config))
        >>> [output.name for output in built.graph.output]
        ['logits', 'present_length', 'present.0.sums']
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; expected the name of a file")
    built = build_onnx(model)
    if int8:
        built = _quantize(built)
    with atomic_write(path) as draft:
        draft.write_bytes(built.SerializeToString())


def build_onnx(model: PreTrainedModel) -> onnx.ModelProto:
    """Return the graph of a language model.

    Args:
        model: a `HyperAggForCausalLM`.

    Raises:
        ValueError: as for `export_onnx`.
    """
    config = model.config
    size = 4 * model.num_parameters()
    if size > _MAX_BYTES:
        raise ValueError(
            f"model: {size / 1e9:.2f} GB of weights; expected at most 2.1 GB, the limit of an "
            ".onnx file"
        )
    g = _ModelGraph(config)
    table: Any = model.get_input_embeddings()
    embedding = g.weight(table.weight, "embedding")
    x = g("Mul", g("Gather", embedding, "input_ids"), float(config.hidden_size) ** 0.5)
    if model.model.has_attention:
        g.add_rotation(model.model.rotary_emb)
    for index, layer in enumerate(model.model.layers):
        x = g.layer(x, layer, f"{index}")
    x = g.rms_norm(x, model.model.norm.weight, config.rms_norm_eps)
    # Gemm takes the embedding as it is, so that a tied one is stored once.
    is_tied = model.lm_head.weight is table.weight
    head = embedding if is_tied else g.weight(model.lm_head.weight, "lm_head")
    rows = g("Reshape", x, [-1, config.hidden_size])
    shape = g("Concat", g("Shape", "input_ids"), [config.vocab_size], axis=0)
    g("Reshape", g("Gemm", rows, head, transB=1), shape, out="logits")
    graph = helper.make_graph(
        g.nodes,
        "hyperagg",
        [_value("input_ids", ["B", "N"], TensorProto.INT64), *g.inputs],
        [_value("logits", ["B", "N", config.vocab_size]), *g.outputs],
        g.tensors,
    )
    built = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="hyperagg",
    )
    helper.set_model_props(built, {"config": json.dumps(config.to_dict())})
    return built


class _ModelGraph(Graph):
    """The graph of a model, with its states among the inputs and outputs."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.inputs = [_value("past_length", [1], TensorProto.INT64)]
        self.outputs = [_value("present_length", [1], TensorProto.INT64)]
        length = self("Shape", "input_ids", start=1)
        end = self("Add", "past_length", length, out="present_length")
        first, last = (self("Squeeze", name, [0]) for name in ("past_length", end))
        self.positions = self("Range", first, last, 1)  # (N,)
        self.key_positions = self("Range", 0, last, 1)  # (S + N,)
        self.cos, self.sin = "", ""

    def weight(self, tensor: Tensor, name: str) -> str:
        return self.tensor(_array(tensor), name)

    def state(self, layer: str, part: str, shape: list[str | int], present: list[str | int]) -> str:
        """Declare a part of the state; the caller computes `present.<layer>.<part>`."""
        name = f"past.{layer}.{part}"
        self.inputs.append(_value(name, shape))
        self.outputs.append(_value(f"present.{layer}.{part}", present))
        return name

    def linear(self, x: str, linear: Any, name: str, order: np.ndarray | None = None) -> str:
        """W x + b, with the outputs in the given order."""
        weight = _array(linear.weight)
        y = self("MatMul", x, self.tensor((weight if order is None else weight[order]).T, name))
        return y if linear.bias is None else self("Add", y, self.weight(linear.bias, f"{name}.b"))

    def rms_norm(self, x: str, weight: Any, eps: float) -> str:
        mean = self("ReduceMean", self("Mul", x, x), [-1], keepdims=1)
        scale = self("Sqrt", self("Add", mean, float(eps)))
        return self("Mul", self("Div", x, scale), self.tensor(_array(weight), self.name("norm")))

    def layer(self, x: str, layer: Any, name: str) -> str:
        """One block of the model."""
        eps = self.config.rms_norm_eps
        if layer.mixer is not None:
            u = self.rms_norm(x, layer.mixer_norm.weight, eps)
            y = self.mixer(layer.layer_type)(u, layer.mixer, name)
            x = self("Add", x, y)
        u = self.rms_norm(x, layer.mlp_norm.weight, eps)
        hidden = self("Gelu", self.linear(u, layer.up, f"{name}.up"))
        return self("Add", x, self.linear(hidden, layer.down, f"{name}.down"))

    def mixer(self, layer_type: str) -> Callable[[str, Any, str], str]:
        special = {
            "full_attention": self.attention,
            "associative": self.associative,
            "gated_associative": self.gated_associative,
        }
        return special.get(layer_type, self.aggregation)

    def aggregation(self, u: str, mixer: Any, name: str) -> str:
        """A layer of `CausalAggregation`."""
        if mixer.convolution is not None:
            u = self.convolution(u, _array(mixer.convolution.weight), name)
        channels = mixer.value.out_features
        recurrence, order = mixer.recurrence, None
        kind = type(recurrence).__name__
        if kind == "ComplexDecay":
            order = np.arange(channels).reshape(-1, 2).T.ravel()
        v = self.linear(u, mixer.value, f"{name}.value", order)
        past = self.state(name, "sums", ["B", channels], ["B", channels])
        present = f"present.{name}.sums"
        if kind == "AbsolutePositions":
            table = self.weight(recurrence.weight, f"{name}.positions")
            v = self("Mul", v, self("Gather", table, self.positions))
            sums = self("Add", self("CumSum", v, 1), self("Unsqueeze", past, [1]))
            self("Squeeze", self("Slice", sums, [-1], [_END], [1]), [1], out=present)
        elif kind == "InputGate":
            gate = self("Sigmoid", self.linear(u, recurrence.linear, f"{name}.gate"))
            v = self("Sub", v, self("Mul", gate, v))
            sums = self.scan(past, present, v, gate)
        else:
            inputs = recurrence(mixer.value.weight.new_zeros(1, 1, 1), _ones(mixer.value), 1)
            scale, decay = _array(inputs.x).ravel(), _array(inputs.decay)
            v = self("Mul", v, self.tensor(scale if order is None else scale[order], f"{name}.b"))
            sums = self.scan(past, present, v, decay)
        weight = _array(mixer.norm.weight)
        y = self.rms_norm(sums, weight if order is None else weight[order], mixer.norm.eps)
        if mixer.output_gate is not None:
            r = self.linear(u, mixer.output_gate, f"{name}.output_gate", order)
            y = self("Mul", y, self.silu(r))
        weight = _array(mixer.out.weight)
        weight = weight if order is None else weight[:, order]
        return self("MatMul", y, self.tensor(weight.T, f"{name}.out"))

    def gated_associative(self, u: str, mixer: Any, name: str) -> str:
        """A layer of `GatedAssociativeAggregation`."""
        gated = self.aggregation(u, mixer.gated, f"{name}.gated")
        return self("Add", gated, self.associative(u, mixer.associative, f"{name}.associative"))

    def associative(self, u: str, mixer: Any, name: str) -> str:
        """A layer of `AssociativeAggregation`, with the delta rule and a decay."""
        heads, size = mixer.num_heads, mixer.head_dim
        x = self.linear(u, mixer.qkv, f"{name}.qkv")
        x = self.silu(self.convolution(x, _array(mixer.convolution.weight), name))
        q, k, v = (
            self("Reshape", part, [0, 0, heads, 1, size])
            for part in self.many(
                "Split", x, outs=[self.name(part) for part in "qkv"], axis=-1, num_outputs=3
            )
        )
        q, k = (self.unit(part, mixer.norm_eps) for part in (q, k))
        q = self("Mul", q, float(size) ** -0.5)
        beta = self("Sigmoid", self.linear(u, mixer.beta, f"{name}.beta"))
        beta = self("Mul", beta, float(mixer.max_beta))
        step = self.linear(u, mixer.decay.linear, f"{name}.decay")
        step = self(
            "Softplus", self("Add", step, self.weight(mixer.decay.step_bias, f"{name}.step"))
        )
        rate = -np.exp(_array(mixer.decay.log_rate))
        decay = self("Exp", self("Mul", step, self.tensor(rate, f"{name}.rate")))
        beta, decay = (self("Unsqueeze", part, [3, 4]) for part in (beta, decay))
        shape: list[str | int] = ["B", heads, size, size]
        past = self.state(name, "sums", shape, shape)
        read = self.bind(past, f"present.{name}.sums", q, k, v, beta, decay)
        read = self("Reshape", read, [0, 0, heads, size])
        y = self.rms_norm(read, mixer.norm.weight, mixer.norm.eps)
        y = self("Reshape", y, [0, 0, heads * size])
        y = self("Mul", y, self.silu(self.linear(u, mixer.output_gate, f"{name}.output_gate")))
        return self.linear(y, mixer.out, f"{name}.out")

    def silu(self, x: str) -> str:
        return self("Mul", x, self("Sigmoid", x))

    def unit(self, x: str, eps: float) -> str:
        """Vectors of norm one."""
        square = self("ReduceSum", self("Mul", x, x), [-1], keepdims=1)
        return self("Div", x, self("Sqrt", self("Add", square, float(eps))))

    def bind(self, past: str, present: str, q: str, k: str, v: str, beta: str, decay: str) -> str:
        """The sums of pairs after each token, read by its query: (B, N, H, 1, E)."""
        body = self.inner()
        s, *token = (self.name(part) for part in ("pairs", "q", "k", "v", "beta", "decay"))
        query, key, value, size, factor = token
        kept = body("Mul", factor, s)
        update = body("Mul", size, body("Sub", value, body("MatMul", key, kept)))
        column = body("Transpose", key, perm=[0, 1, 3, 2])
        total = body("Add", kept, body("MatMul", column, update))
        output = body("MatMul", query, total)
        values = [_value(name, None) for name in (s, *token, total, output)]
        graph = helper.make_graph(body.nodes, "step", values[:6], values[6:])
        return self.many(
            "Scan",
            *(past, q, k, v, beta, decay),
            outs=[present, self.name("read")],
            body=graph,
            num_scan_inputs=5,
            scan_input_axes=[1] * 5,
            scan_output_axes=[1],
        )[1]

    def convolution(self, u: str, weight: np.ndarray, name: str) -> str:
        """Each token's weighted sum of itself and the K - 1 tokens before it."""
        preceding = len(weight) - 1
        inputs = u
        if preceding:
            shape: list[str | int] = ["B", preceding, weight.shape[1]]
            inputs = self("Concat", self.state(name, "conv", shape, shape), u, axis=1)
            self("Slice", inputs, [-preceding], [_END], [1], out=f"present.{name}.conv")
        y = ""
        for j, row in enumerate(weight):
            shifted = self("Slice", inputs, [preceding - j], [-j if j else _END], [1])
            term = self("Mul", shifted, self.tensor(row, f"{name}.conv.{j}"))
            y = self("Add", y, term) if j else term
        return y

    def scan(self, past: str, present: str, v: str, factors: str | np.ndarray) -> str:
        """h_t = a_t h_{t-1} + v_t over the tokens, for gates (a name) or a constant decay."""
        body = self.inner()
        h, x, a = (self.name(name) for name in ("sum", "term", "factor"))
        inputs, scanned = [h, x], [v]
        if isinstance(factors, str):
            inputs, scanned = [*inputs, a], [v, factors]
            product = body("Mul", h, a)
        elif np.iscomplexobj(factors):
            # (re, im) (c + i s) = (re c - im s, im c + re s), with all real parts first.
            cosine = self.tensor(np.tile(factors.real, 2).copy(), self.name("decay"))
            sine = self.tensor(np.concatenate([-factors.imag, factors.imag]), self.name("decay"))
            real, imaginary = body.many(
                "Split", h, outs=[self.name("real"), self.name("imaginary")], axis=-1, num_outputs=2
            )
            turned = body("Mul", body("Concat", imaginary, real, axis=-1), sine)
            product = body("Add", body("Mul", h, cosine), turned)
        else:
            product = body("Mul", h, self.tensor(factors, self.name("decay")))
        total = body("Add", product, x)
        # A state and an output of a Scan are two results, though they have one value.
        output = body("Identity", total)
        values = [_value(name, None) for name in (*inputs, total, output)]
        graph = helper.make_graph(body.nodes, "step", values[: len(inputs)], values[len(inputs) :])
        return self.many(
            "Scan",
            *(past, *scanned),
            outs=[present, self.name("sums")],
            body=graph,
            num_scan_inputs=len(scanned),
            scan_input_axes=[1] * len(scanned),
            scan_output_axes=[1],
        )[1]

    def add_rotation(self, rotary: Any) -> None:
        """The cosines and sines of rotary positions, (N, D / H), for all layers."""
        if rotary.rope_type in ("dynamic", "longrope"):
            raise ValueError(
                f"rope_type={rotary.rope_type!r}: depends on the length; expected 'default', "
                "'linear', 'llama3' or 'yarn'"
            )
        column = self("Unsqueeze", self("Cast", self.positions, to=TensorProto.FLOAT), [1])
        half = self("Mul", column, self.weight(rotary.inv_freq[None], "inv_freq"))
        angle, scale = self("Concat", half, half, axis=-1), float(rotary.attention_scaling)
        self.cos = self("Mul", self("Cos", angle), scale)
        self.sin = self("Mul", self("Sin", angle), scale)

    def attention(self, u: str, mixer: Any, name: str) -> str:
        """A layer of causal attention with rotary positions and normalized queries and keys."""
        heads, size = self.config.num_attention_heads, self.config.head_dim
        q, k, v = (
            self("Reshape", self.linear(u, linear, f"{name}.{part}"), [0, 0, heads, size])
            for part, linear in (("q", mixer.q_proj), ("k", mixer.k_proj), ("v", mixer.v_proj))
        )
        q = self.rotate(self.rms_norm(q, mixer.q_norm.weight, mixer.q_norm.variance_epsilon), size)
        k = self.rotate(self.rms_norm(k, mixer.k_norm.weight, mixer.k_norm.variance_epsilon), size)
        v = self("Transpose", v, perm=[0, 2, 1, 3])
        past: list[str | int] = ["B", heads, "S", size]
        all_tokens: list[str | int] = ["B", heads, "S + N", size]
        key, value = (
            self(
                "Concat",
                self.state(name, part, past, all_tokens),
                new,
                axis=2,
                out=f"present.{name}.{part}",
            )
            for part, new in (("key", k), ("value", v))
        )
        scores = self("MatMul", q, self("Transpose", key, perm=[0, 1, 3, 2]))
        later = self("Less", self("Unsqueeze", self.positions, [1]), self.key_positions)
        scores = self("Mul", scores, float(mixer.scaling))
        scores = self("Where", later, float("-inf"), scores)
        y = self("MatMul", self("Softmax", scores, axis=-1), value)
        y = self("Reshape", self("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, heads * size])
        return self.linear(y, mixer.o_proj, f"{name}.o")

    def rotate(self, x: str, size: int) -> str:
        """(B, N, H, size) -> (B, H, N, size), rotated by the positions."""
        x = self("Transpose", x, perm=[0, 2, 1, 3])
        first = self("Slice", x, [0], [size // 2], [-1])
        second = self("Slice", x, [size // 2], [_END], [-1])
        turned = self("Concat", self("Neg", second), first, axis=-1)
        return self("Add", self("Mul", x, self.cos), self("Mul", turned, self.sin))


def _quantize(built: onnx.ModelProto) -> onnx.ModelProto:
    try:
        from onnxruntime.quantization import quantize_dynamic  # type: ignore[import-untyped]
    except ImportError as error:
        raise ImportError(
            "int8: onnxruntime is required; pip install 'hyperagg[onnx]'", name="onnxruntime"
        ) from error
    metadata = {entry.key: entry.value for entry in built.metadata_props}
    # There is nothing to simplify; without this entry onnxruntime warns that it was not tried.
    helper.set_model_props(built, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        quantize_dynamic(built, path, op_types_to_quantize=["MatMul", "Gemm", "Gather"])
        quantized = onnx.load(path)
    helper.set_model_props(quantized, metadata)
    return quantized


def _value(name: str, shape: list[str | int] | None, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def _array(tensor: Any) -> np.ndarray:
    if isinstance(tensor, np.ndarray):
        return tensor
    tensor = tensor.detach().cpu()
    return (tensor if tensor.is_complex() else tensor.float()).numpy()


def _ones(linear: Any) -> Tensor:
    return linear.weight.new_ones(1, 1, linear.out_features)
