"""The exported graph computes what the model computes, and decodes the same tokens."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from hyperagg.language import HyperAggConfig, HyperAggForCausalLM

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from hyperagg.language.onnx_export import build_onnx, export_onnx  # noqa: E402

V = 50
MODELS = {
    "gated": {},
    "gated, convolution, untied": dict(conv_kernel_size=3, tie_word_embeddings=False),
    "decay": dict(layer_types="decay", conv_kernel_size=1),
    "complex_decay": dict(layer_types="complex_decay", output_gate=False),
    "prefix_sum": dict(layer_types="prefix_sum", expand=1, conv_kernel_size=4),
    "hybrid": dict(layer_types=["gated", "full_attention"]),
    "associative": dict(layer_types="associative", num_associative_heads=2, associative_head_dim=4),
    "gated_associative": dict(
        layer_types="gated_associative", conv_kernel_size=3, negative_eigenvalues=True
    ),
    "no sums": dict(layer_types=["identity", "full_attention"]),
}


def make_model(options):
    torch.manual_seed(0)
    config = HyperAggConfig(
        vocab_size=V, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, **options
    )
    model = HyperAggForCausalLM(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return model


@pytest.fixture(scope="module", params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return make_model(request.param)


def open_session(content):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = content if isinstance(content, bytes) else str(content)
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def first_state(session, batch):
    sizes = {"B": batch, "S": 0}
    return {
        each.name: np.zeros(
            [sizes.get(size, size) for size in each.shape],
            np.int64 if each.type == "tensor(int64)" else np.float32,
        )
        for each in session.get_inputs()[1:]
    }


def step(session, input_ids, state):
    names = [output.name for output in session.get_outputs()]
    logits, *values = session.run(names, {"input_ids": input_ids, **state})
    return logits, {n.replace("present", "past"): v for n, v in zip(names[1:], values)}


def test_logits_are_those_of_the_model_however_a_text_is_split(model):
    built = build_onnx(model)
    onnx.checker.check_model(built, full_check=True)
    session = open_session(built.SerializeToString())
    ids = torch.randint(V, (2, 9))
    with torch.no_grad():
        expected = model(ids).logits
    for borders in ([0, 9], [0, 1, 2, 7, 9]):
        state, parts = first_state(session, 2), []
        for begin, end in zip(borders, borders[1:]):
            logits, state = step(session, ids[:, begin:end].numpy(), state)
            parts.append(logits)
        torch.testing.assert_close(
            torch.from_numpy(np.concatenate(parts, 1)), expected, rtol=0, atol=1e-5
        )
    assert state["past_length"].tolist() == [9]


def test_greedy_decoding_gives_the_tokens_of_generate(model):
    session = open_session(build_onnx(model).SerializeToString())
    prompt = torch.randint(V, (2, 5))
    expected = model.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=40, do_sample=False
    )
    state, ids = first_state(session, 2), prompt.numpy()
    tokens = [ids]
    for _ in range(40):
        logits, state = step(session, ids, state)
        ids = logits[:, -1].argmax(-1)[:, None]
        tokens.append(ids)
    assert np.concatenate(tokens, 1).tolist() == expected.tolist()


def test_weights_of_8_bits_are_close_and_small(tmp_path):
    model = make_model(dict(intermediate_size=256))
    for name, int8 in (("float", False), ("int8", True)):
        export_onnx(model, tmp_path / f"{name}.onnx", int8=int8)
    whole, small = (tmp_path / f"{name}.onnx" for name in ("float", "int8"))
    assert small.stat().st_size < 0.5 * whole.stat().st_size
    ids = np.arange(20).reshape(2, 10)
    logits = []
    for path in (whole, small):
        session = open_session(path)
        logits.append(step(session, ids, first_state(session, 2))[0])
    assert 0 < np.abs(logits[0] - logits[1]).max() < 0.2 * logits[0].std()
    (entry,) = onnx.load(small).metadata_props
    assert entry.key == "config" and json.loads(entry.value)["model_type"] == "hyperagg"


def test_tied_embeddings_are_stored_once():
    sizes = [
        len(build_onnx(make_model(dict(tie_word_embeddings=tied))).SerializeToString())
        for tied in (True, False)
    ]
    assert sizes[1] - sizes[0] >= 4 * V * 16


def test_what_cannot_be_exported_is_refused(tmp_path):
    model = make_model({})
    with pytest.raises(ValueError, match="is a folder; expected the name of a file"):
        export_onnx(model, tmp_path)
    rope = dict(rope_type="dynamic", factor=2.0, rope_theta=10_000.0)
    options = dict(rope_parameters=rope, max_position_embeddings=64, layer_types="full_attention")
    with pytest.raises(ValueError, match="rope_type='dynamic': depends on the length"):
        build_onnx(make_model(options))
